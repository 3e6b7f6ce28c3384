//! What a provider knows of a function, and where it puts that.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::labels::Labels;
use super::name::FunctionName;

/// A place where a function can be called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    /// The id of the task that is there. Another task at the same address is another backend. A task is starting until it
    /// has taken a connection. `None` for an address of somebody else's, where nobody says when a program starts, and
    /// for a listener of the gateway's own, which takes connections at once.
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
    /// What it is, for whoever asks.
    pub(crate) about: Arc<About>,
    /// Where it can be called now.
    pub(crate) endpoints: Vec<Backend>,
    /// Where it may soon be callable: replicas that are starting. Told only where there is no other.
    pub(crate) starting: Vec<Backend>,
    /// Those among the endpoints whose health check has failed: only called where there is no other.
    pub(crate) unhealthy: Vec<Backend>,
    /// Replicas that should run.
    pub(crate) wanted: u32,
    /// Replicas that somebody else than the gateway asked for last, see [`super::floor`].
    pub(crate) asked: u32,
    /// Why none can be called, in the words of whoever runs them.
    pub(crate) problem: Option<String>,
    /// Whether the provider can change the number of its replicas.
    pub(crate) is_scalable: bool,
    /// The state of an update of it that has not ended, in the words of whoever runs it. Meanwhile the number of its
    /// replicas stays, unless it is 0.
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

/// What a function is, as its provider was told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// The image of its containers; empty where it has none.
    pub(crate) image: String,
    /// Its `fprocess`; empty where it is not known.
    pub(crate) process: String,
    /// All its labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Where a provider puts what it knows.
pub(crate) trait Sink: Send + Sync {
    /// Replaces all that was known. Called by one thread, from time to time and never on a call's path.
    fn set(&self, functions: Vec<Known>);

    /// Whether calls wait for a function of which no replica is known.
    fn is_waited_for(&self) -> bool {
        false
    }

    /// Whether a replica of the function takes calls.
    fn has_replica(&self, name: &str) -> bool {
        let _ = name;
        false
    }

    /// Calls that the replica at this address of a function has in hand.
    fn in_flight(&self, name: &str, address: SocketAddr) -> usize {
        let _ = (name, address);
        0
    }
}
