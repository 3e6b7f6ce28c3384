//! What the provider, and the thread that watches the Swarm, share: the settings, the questions, and what became of them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Condvar;

use kit::Guarded;
use kit::sys::EventFd;

use crate::provider::Peer;

/// The most names that are asked for at once; beyond these everything is looked at.
const MAX_NAMES: usize = 1000;

/// What the provider is started with.
pub(crate) struct Settings {
    pub(crate) docker_host: String,
    pub(crate) require_label: bool,
    pub(crate) functions_network: Option<String>,
    /// Where the gateway listens.
    pub(crate) port: u16,
}

/// Why the functions of the Swarm are not known.
#[derive(Debug)]
pub(crate) enum Error {
    Docker(docker_sock::Error),
    /// The gateway's own networks are not known.
    NoContainer,
    /// The gateway's container is on no network of the Swarm.
    NoNetwork,
    /// The network in `functions_network` is not of the Swarm.
    NotSwarmNetwork(String),
    System(std::io::Error),
}

impl Error {
    /// Whether the engine is there and its socket may not be opened.
    pub(crate) fn is_denied(&self) -> bool {
        let Error::Docker(docker_sock::Error::Transport { source, .. }) = self else { return false };
        matches!(source, http1::Error::Connect { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Docker(error) if self.is_denied() => {
                write!(
                    f,
                    "{error} (run as root, which is left at once, or with the group of the engine's socket)"
                )
            }
            Error::Docker(error) => error.fmt(f),
            Error::NoContainer => {
                f.write_str("the gateway does not run in a container of this engine: set functions_network")
            }
            Error::NoNetwork => f.write_str(
                "the gateway is on no network of the Swarm, where functions are: attach it to theirs \
                 (docker service update --network-add, docker network connect), or set functions_network",
            ),
            Error::NotSwarmNetwork(name) => {
                write!(f, "functions_network `{name}` is not a network of the Swarm")
            }
            Error::System(error) => write!(f, "failed to start the Swarm provider: {error}"),
        }
    }
}

impl From<docker_sock::Error> for Error {
    fn from(error: docker_sock::Error) -> Error {
        Error::Docker(error)
    }
}

/// The questions to the thread that watches, and its answers.
pub(super) struct Shared {
    pub(super) wake: EventFd,
    pub(super) state: Guarded<State>,
    pub(super) looked: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// How often somebody has asked, and how many of these questions are answered.
    pub(super) asked: u64,
    pub(super) answered: u64,
    /// The functions that were asked for, known or not.
    pub(super) names: BTreeSet<String>,
    /// Whether everything was asked for.
    pub(super) is_all_asked: bool,
    pub(super) problem: Option<String>,
    /// The other gateways, as of the last look that succeeded.
    pub(super) peers: Vec<Peer>,
    pub(super) is_stopping: bool,
}

impl Shared {
    /// Has a function read, whether it is known or not.
    pub(super) fn ask_for(&self, name: &str) {
        let mut state = self.state.lock();
        if state.names.len() < MAX_NAMES {
            state.names.insert(name.to_owned());
        } else {
            state.is_all_asked = true;
        }
    }
}
