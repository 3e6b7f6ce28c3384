//! The Swarm provider: services that share a network with the gateway are functions. One thread reads them and their
//! tasks from the engine: what events name, what calls complain of, and everything now and then, since the engine has no
//! events of tasks.

mod budget;
mod catalogue;
mod image;
mod look;
mod news;
mod own;
mod peers;
mod polls;
mod reasons;
mod resize;
mod root;
mod select;
mod watcher;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use docker_sock::{Engine, Host};
use kit::Deadline;
use kit::sys::EventFd;

use super::{Peer, Provider, ScaleError, Sink};
use polls::MIN_INTERVAL;
use resize::{Edit, Resize};
pub(crate) use root::{USER, leave_root};
use watcher::Watcher;

/// The longest that the engine may take for one answer. A busy manager answers in some milliseconds.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(3);

/// The most names that are asked for at once; beyond these everything is looked at.
const MAX_NAMES: usize = 1000;

/// How long the engine may take to say that it updates a service whose tasks were changed. It says so in some
/// milliseconds; where no task had to be replaced it never does.
const UPDATE_BEGINS_TIME: Duration = Duration::from_secs(1);

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

/// The running provider.
pub(crate) struct Swarm {
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    wake: EventFd,
    state: Mutex<State>,
    looked: Condvar,
}

#[derive(Default)]
struct State {
    /// How often somebody has asked, and how many of these questions are answered.
    asked: u64,
    answered: u64,
    /// The functions that were asked for, known or not.
    names: BTreeSet<String>,
    /// Whether everything was asked for.
    is_all_asked: bool,
    problem: Option<String>,
    /// The other gateways, as of the last look that succeeded.
    peers: Vec<Peer>,
    is_stopping: bool,
}

impl Shared {
    /// Has a function read, whether it is known or not.
    fn ask_for(&self, name: &str) {
        let mut state = self.state();
        if state.names.len() < MAX_NAMES {
            state.names.insert(name.to_owned());
        } else {
            state.is_all_asked = true;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Swarm {
    /// Starts to watch, and has looked once when it returns. An engine that does not answer is waited for.
    ///
    /// # Errors
    /// When `DOCKER_HOST` cannot be read, or a thread cannot be started.
    pub(crate) fn start(settings: Settings, sink: Arc<dyn Sink>) -> Result<Swarm, Error> {
        let engine = Arc::new(Engine::new(Host::parse(&settings.docker_host)?, ENGINE_TIMEOUT));
        let wake = EventFd::new().map_err(Error::System)?;
        let shared = Arc::new(Shared { wake, state: Mutex::new(State::default()), looked: Condvar::new() });
        let watcher = Watcher::new(Arc::clone(&engine), settings, (sink, Arc::clone(&shared)));
        let thread = kit::thread::spawn_vital("swarm", move || watcher.run()).map_err(Error::System)?;
        let swarm = Swarm { engine, shared, watcher: Mutex::new(Some(thread)) };
        swarm.look_again(Deadline::after(2 * ENGINE_TIMEOUT));
        Ok(swarm)
    }
}

impl Swarm {
    /// Reads the service, and writes it back where the edit says so. With `is_patient` nothing is written while an
    /// update may be about to begin.
    fn resize(&self, name: &str, resize: Resize, is_patient: bool) -> Result<Edit, ScaleError> {
        let mut done = Edit::Unchanged;
        let result = self.engine.update_service(name, &mut |service| {
            done = match resize.edit(name, service) {
                Edit::Undecided if !is_patient => Edit::Changed,
                edit => edit,
            };
            done == Edit::Changed
        });
        match result {
            Ok(_) => Ok(done),
            Err(error @ docker_sock::Error::Engine { status: 400..500, .. }) => {
                Err(ScaleError::Refused(error.to_string()))
            }
            Err(other) => Err(ScaleError::Unreachable(other.to_string())),
        }
    }
}

impl Provider for Swarm {
    fn look_again(&self, deadline: Deadline) -> bool {
        let mut state = self.shared.state();
        state.asked += 1;
        let mine = state.asked;
        self.shared.wake.notify();
        while state.answered < mine && !state.is_stopping {
            let left = deadline.remaining().unwrap_or(ENGINE_TIMEOUT);
            if left.is_zero() {
                return false;
            }
            state = self.shared.looked.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.answered >= mine
    }

    fn look_for(&self, name: &str, deadline: Deadline) -> bool {
        self.shared.ask_for(name);
        self.look_again(deadline)
    }

    fn nudge(&self, name: &str) {
        self.shared.ask_for(name);
        self.shared.wake.notify();
    }

    fn problem(&self) -> Option<String> {
        self.shared.state().problem.clone()
    }

    fn name(&self) -> &'static str {
        "swarm"
    }

    fn peers(&self) -> Vec<Peer> {
        self.shared.state().peers.clone()
    }

    /// Changes the number of replicas in the spec that the engine has, and nothing else.
    fn scale(&self, name: &str, from: Option<u32>, to: u32) -> Result<(), ScaleError> {
        let deadline = Deadline::after(UPDATE_BEGINS_TIME);
        let done = loop {
            match self.resize(name, Resize { from, to }, !deadline.has_passed()) {
                Ok(Edit::Undecided) => std::thread::sleep(MIN_INTERVAL),
                Ok(Edit::Changed | Edit::Unchanged) => break Ok(()),
                Ok(Edit::Refused(why)) | Err(why) => break Err(why),
            }
        };
        self.nudge(name);
        done
    }

    fn reload(&self) {
        log::info!("provider=swarm has no file to read again; it looks at the services now");
        self.shared.state().is_all_asked = true;
        self.shared.wake.notify();
    }

    fn stop(&self, _: Deadline) {
        self.shared.state().is_stopping = true;
        self.shared.wake.notify();
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = watcher {
            let _ = thread.join(); // within ENGINE_TIMEOUT; its panic has ended the process
        }
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.stop(Deadline::NEVER);
    }
}
