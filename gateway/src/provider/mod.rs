//! Who runs the functions. A provider keeps the table of functions up to date through [`Sink`]; nobody
//! asks it anything while a call is served, but for a hint that the table may be old.

pub(crate) mod local;
pub(crate) mod swarm;

use std::net::SocketAddr;

use kit::Deadline;

use crate::labels::Labels;
use crate::name::FunctionName;

/// A function as its provider knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: FunctionName,
    pub(crate) labels: Labels,
    /// Where it can be called now.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// Replicas that should run.
    pub(crate) wanted: u32,
    /// Why none can be called, in the words of whoever runs them.
    pub(crate) problem: Option<String>,
}

/// Where a provider puts what it knows.
pub(crate) trait Sink: Send + Sync {
    /// Replaces all that was known. Called by one thread, from time to time and never on a call's path.
    fn set(&self, functions: Vec<Known>);
}

/// Whoever runs the functions.
pub(crate) trait Provider: Send + Sync {
    /// Looks for functions now rather than later, and returns when the table shows what was found, or at
    /// the deadline.
    fn look_again(&self, deadline: Deadline) {
        let _ = deadline;
    }

    /// Says that a replica could not be reached: the table may be old. Returns at once.
    fn nudge(&self) {}

    /// Why the table may be old, in one line; `None` when it is fresh.
    fn problem(&self) -> Option<String> {
        None
    }

    /// Reads its configuration again (SIGHUP) and logs what came of it.
    fn reload(&self) {}

    /// Ends what it runs, at most shortly after the deadline.
    fn stop(&self, deadline: Deadline);
}
