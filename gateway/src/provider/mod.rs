//! Who runs the functions. A provider keeps the table of functions up to date through [`Sink`](crate::function::Sink); nobody
//! asks it anything while a call is served, but for a hint that the table may be old.

pub(crate) mod local;
pub(crate) mod swarm;

use std::fmt;
use std::net::SocketAddr;

use kit::Deadline;

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

/// Whoever runs the functions.
pub(crate) trait Provider: Send + Sync {
    /// Reads what was nudged for now rather than later. Answers true when that was read, and the table shows what
    /// was found; false when the deadline passed before.
    fn look_again(&self, deadline: Deadline) -> bool {
        let _ = deadline;
        true
    }

    /// Looks for a function that is not known. Answers as [`Provider::look_again`].
    fn look_for(&self, name: &str, deadline: Deadline) -> bool {
        let _ = name;
        self.look_again(deadline)
    }

    /// Says that a replica of the function could not be reached: what is known of it may be old. Returns at once.
    fn nudge(&self, name: &str) {
        let _ = name;
    }

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
