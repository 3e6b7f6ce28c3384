//! Who runs the functions. A provider keeps the table of functions up to date through [`Sink`]; nobody
//! asks it anything while a call is served, but for a hint that the table may be old.

pub(crate) mod local;
pub(crate) mod swarm;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use kit::Deadline;

use crate::labels::Labels;
use crate::name::FunctionName;

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
    /// Replicas that somebody else than the gateway asked for last, see [`crate::floor`].
    pub(crate) asked: u32,
    /// Why none can be called, in the words of whoever runs them.
    pub(crate) problem: Option<String>,
    /// Whether [`Provider::scale`] can change the number of its replicas.
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

/// Another gateway of the same service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    /// Whether it should answer: it starts or runs, and is meant to.
    pub(crate) is_expected: bool,
}

/// Why the number of replicas was not changed, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScaleError {
    /// Whoever runs the function has refused.
    Refused(String),
    /// An update of it has not ended, and the change would interfere with it: its state.
    InUpdate(String),
    /// Nobody knows: it cannot be asked at present.
    Unreachable(String),
}

impl fmt::Display for ScaleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScaleError::Refused(why) | ScaleError::Unreachable(why) => f.write_str(why),
            ScaleError::InUpdate(state) => {
                write!(f, "an update of its service has not ended: it is `{state}`")
            }
        }
    }
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

/// Whoever runs the functions.
pub(crate) trait Provider: Send + Sync {
    /// Looks for functions now rather than later. Answers true when the look has ended, and the table shows what
    /// was found; false when the deadline passed before.
    fn look_again(&self, deadline: Deadline) -> bool {
        let _ = deadline;
        true
    }

    /// Says that a replica could not be reached: the table may be old. Returns at once.
    fn nudge(&self) {}

    /// Why the table may be old, in one line; `None` when it is fresh.
    fn problem(&self) -> Option<String> {
        None
    }

    /// The other gateways of the same service. The gateway itself may be among them.
    fn peers(&self) -> Vec<Peer> {
        Vec::new()
    }

    /// What it is called: `swarm` or `local`.
    fn name(&self) -> &'static str;

    /// Has a function run so many replicas. The gateway says by `from` what it is thought to have: if that is not so
    /// any more nothing is done. Without `from` it is somebody else who asks. A function in an update is changed only where it has no replica. Returns when
    /// whoever runs it has agreed; blocks within bounds.
    ///
    /// # Errors
    /// See [`ScaleError`].
    fn scale(&self, name: &str, from: Option<u32>, to: u32) -> Result<(), ScaleError>;

    /// Reads its configuration again (SIGHUP) and logs what came of it.
    fn reload(&self) {}

    /// Ends what it runs, at most shortly after the deadline.
    fn stop(&self, deadline: Deadline);
}
