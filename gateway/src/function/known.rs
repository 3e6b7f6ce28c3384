//! The facts that a provider knows about a function, and the sink that it tells them to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::labels::Labels;
use super::name::FunctionName;

/// An address at which a function can be called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    /// The id of the task at the address. Another task at the same address is another backend. A task is starting until
    /// it has accepted a connection. `None` for an address from the functions file, where nobody tells when a program
    /// starts, and for a listener of the gateway, which accepts connections at once.
    pub(crate) task: Option<Arc<str>>,
}

impl From<SocketAddr> for Backend {
    fn from(address: SocketAddr) -> Backend {
        Backend { address, task: None }
    }
}

/// A function as its provider knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: FunctionName,
    pub(crate) labels: Labels,
    /// Its description for the control plane.
    pub(crate) about: Arc<About>,
    /// Its running replicas.
    pub(crate) endpoints: Vec<Backend>,
    /// Its starting replicas; listed only when no replica runs.
    pub(crate) starting: Vec<Backend>,
    /// The endpoints whose health check has failed. They are called only when there is no other endpoint.
    pub(crate) unhealthy: Vec<Backend>,
    /// The number of replicas that should run.
    pub(crate) wanted: u32,
    /// The number of replicas that an operator asked for last, see [`super::floor`].
    pub(crate) asked: u32,
    /// Why no replica can be called, in the provider's words.
    pub(crate) problem: Option<String>,
    /// Whether the provider can change the number of its replicas.
    pub(crate) is_scalable: bool,
    /// The state of a running update, in the provider's words. During an update the number of replicas stays, unless it
    /// is 0.
    pub(crate) in_update: Option<String>,
}

#[cfg(test)]
impl Known {
    /// A function that wants one replica, has none, and can be scaled.
    pub(crate) fn named(name: &str) -> Known {
        Known {
            name: FunctionName::parse(name.as_bytes()).unwrap(),
            labels: Labels::default(),
            about: Arc::default(),
            endpoints: Vec::new(),
            starting: Vec::new(),
            unhealthy: Vec::new(),
            wanted: 1,
            asked: 1,
            problem: None,
            is_scalable: true,
            in_update: None,
        }
    }
}

/// The description of a function.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// The image of its containers; empty without containers.
    pub(crate) image: String,
    /// Its `fprocess`; empty if unknown.
    pub(crate) process: String,
    /// All its labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// The table of functions, as a provider sees it.
pub(crate) trait Sink: Send + Sync {
    /// Replaces all functions. The provider's thread calls this; calls never do.
    fn set(&self, functions: Vec<Known>);

    /// Whether calls wait for a function without a known replica.
    fn is_waited_for(&self) -> bool {
        false
    }

    /// Whether a replica of the function accepts calls.
    fn has_replica(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// The calls in flight at the function's replica with this address.
    fn in_flight(&self, name: &str, address: SocketAddr) -> usize {
        let _ = (name, address);
        0
    }
}
