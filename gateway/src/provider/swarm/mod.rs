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
mod shared;
mod watcher;

use std::sync::{Arc, Condvar};
use std::thread::JoinHandle;
use std::time::Duration;

use docker_sock::{Engine, Host};
use kit::Deadline;
use kit::guarded::{Guarded, wait_while};
use kit::sys::EventFd;

use super::{Peer, Provider, ScaleError};
use crate::function::Sink;
use polls::MIN_INTERVAL;
use resize::{Edit, Resize};
pub(crate) use root::{USER, leave_root};
pub(crate) use shared::{Error, Settings};
use shared::{Shared, State};
use watcher::Watcher;

/// The longest that the engine may take for one answer. A busy manager answers in some milliseconds.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long the engine may take to say that it updates a service whose tasks were changed. It says so in some
/// milliseconds; where no task had to be replaced it never does.
const UPDATE_BEGINS_TIME: Duration = Duration::from_secs(1);

/// The running provider.
pub(crate) struct Swarm {
    engine: Arc<Engine>,
    shared: Arc<Shared>,
    watcher: Guarded<Option<JoinHandle<()>>>,
}

impl Swarm {
    /// Starts to watch, and has looked once when it returns. An engine that does not answer is waited for.
    ///
    /// # Errors
    /// When `DOCKER_HOST` cannot be read, or a thread cannot be started.
    pub(crate) fn start(settings: Settings, sink: Arc<dyn Sink>) -> Result<Swarm, Error> {
        let engine = Arc::new(Engine::new(Host::parse(&settings.docker_host)?, ENGINE_TIMEOUT));
        let wake = EventFd::new().map_err(Error::System)?;
        let shared = Arc::new(Shared { wake, state: Guarded::new(State::default()), looked: Condvar::new() });
        let watcher = Watcher::new(Arc::clone(&engine), settings, (sink, Arc::clone(&shared)));
        let thread = kit::thread::spawn_vital("swarm", move || watcher.run()).map_err(Error::System)?;
        let swarm = Swarm { engine, shared, watcher: Guarded::new(Some(thread)) };
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
        let mut state = self.shared.state.lock();
        state.asked += 1;
        let mine = state.asked;
        self.shared.wake.notify();
        let is_open = |state: &State| state.answered < mine && !state.is_stopping;
        wait_while(&self.shared.looked, state, deadline, is_open).answered >= mine
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
        self.shared.state.lock().problem.clone()
    }

    fn name(&self) -> &'static str {
        "swarm"
    }

    fn peers(&self) -> Vec<Peer> {
        self.shared.state.lock().peers.clone()
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
        self.shared.state.lock().is_all_asked = true;
        self.shared.wake.notify();
    }

    fn stop(&self, _: Deadline) {
        self.shared.state.lock().is_stopping = true;
        self.shared.wake.notify();
        let watcher = self.watcher.lock().take();
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
