//! The Swarm provider: services that share a network with the gateway are functions. One thread reads them
//! and their tasks from the engine, when an event says so and now and then by itself, since the engine has
//! no events for tasks.

mod image;
mod news;
mod peers;
mod reasons;
mod resize;
mod root;
mod select;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use docker_sock::{Container, Engine, EventStream, Host, Network, Task, Tasks};
use kit::Deadline;
use kit::sys::{EventFd, PollFd, Ready, poll};

use super::{Backend, Known, Peer, Provider, ScaleError, Sink};
use news::{Interests, News};
use reasons::{Reasons, Seen};
use resize::{Edit, Resize};
pub(crate) use root::{USER, leave_root};
use select::{Own, select};

/// The longest that the engine may take for one answer. A busy manager answers in some milliseconds.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(3);

/// Between two looks: while something happens, while replicas are missing, and otherwise.
const HOT_INTERVAL: Duration = Duration::from_millis(100);
const WARM_INTERVAL: Duration = Duration::from_millis(250);
const COLD_INTERVAL: Duration = Duration::from_secs(1);

/// How long something is taken to happen after an event or a change.
const HOT_TIME: Duration = Duration::from_secs(10);

/// However often it is asked for, no two looks are closer than this.
const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// How long the gateway's own networks are taken to be as they were.
const OWN_TIME: Duration = Duration::from_secs(30);

/// How long a task is left alone that says it starts: an address that is tried before it is there stays out of reach
/// for a second (the kernel asks for its neighbour no more often). A task without a health check runs by then, and is
/// tried as soon as it does; one on the engine's own node is seen to start by an event. Only what has a health check,
/// and is on another node, waits for so long, and its address is there then.
const STARTING_TIME: Duration = Duration::from_secs(1);

/// Containers whose start is remembered, until their tasks run.
const MAX_STARTED: usize = 1000;

/// Between two tries to open the stream of events.
const EVENTS_PAUSE: Duration = Duration::from_secs(1);

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
    /// Looks asked for, and how many of these a finished look has answered.
    asked: u64,
    answered: u64,
    problem: Option<String>,
    /// The other gateways, as of the last look that succeeded.
    peers: Vec<Peer>,
    is_stopping: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The networks and the service of the gateway itself.
fn own(engine: &Engine, settings: &Settings) -> Result<Own, Error> {
    let own_id = docker_sock::own_container_id();
    let container = match &own_id {
        Some(id) => match engine.container(id) {
            Ok(container) => Some(container),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        },
        None => None,
    };
    let service = container.as_ref().and_then(|container| container.service_id()).map(str::to_owned);
    let networks = shared(engine.networks()?, container.as_ref(), settings.functions_network.as_deref())?;
    Ok(Own { networks, service, container: own_id, port: settings.port })
}

/// The networks that functions are on: that of the setting, else those of the gateway's container.
fn shared(
    all: Vec<Network>,
    container: Option<&Container>,
    setting: Option<&str>,
) -> Result<Vec<Network>, Error> {
    let of_swarm = all.into_iter().filter(Network::is_for_services);
    let (networks, missing): (Vec<_>, Error) = match (setting, container) {
        (Some(name), _) => {
            let is_meant = |network: &Network| network.name == *name || network.id == *name;
            (of_swarm.filter(is_meant).collect(), Error::NotSwarmNetwork(name.to_owned()))
        }
        (None, Some(container)) => {
            let is_on = |network: &Network| container.networks.contains(&network.id);
            (of_swarm.filter(is_on).collect(), Error::NoNetwork)
        }
        (None, None) => return Err(Error::NoContainer),
    };
    if networks.is_empty() { Err(missing) } else { Ok(networks) }
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
        let now = Instant::now();
        let watcher = Watcher {
            engine: Arc::clone(&engine),
            settings,
            sink,
            shared: Arc::clone(&shared),
            container: docker_sock::own_container_id(),
            own: None,
            known: None,
            services: HashSet::new(),
            reasons: Reasons::default(),
            waited_since: None,
            warned: Vec::new(),
            events: None,
            starting: HashMap::new(),
            unhealthy: HashSet::new(),
            knows_unhealthy: false,
            next_open: now,
            has_told: false,
            hot_until: now + HOT_TIME,
        };
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

    fn nudge(&self) {
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
        self.nudge();
        done
    }

    fn reload(&self) {
        log::info!("provider=swarm has no file to read again; it looks at the services now");
        self.nudge();
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

/// The thread's own state.
struct Watcher {
    engine: Arc<Engine>,
    settings: Settings,
    sink: Arc<dyn Sink>,
    shared: Arc<Shared>,
    /// The id of the gateway's container, if it is in one.
    container: Option<String>,
    own: Option<(Own, Instant)>,
    /// What the table was told last.
    known: Option<Vec<Known>>,
    /// The services of these functions, by id.
    services: HashSet<String>,
    reasons: Reasons,
    /// Since when there are calls for functions of which no replica is known.
    waited_since: Option<Instant>,
    /// What was warned about, so that it is said once.
    warned: Vec<String>,
    events: Option<EventStream>,
    /// Tasks that start, by their ids, and when they may be tried.
    starting: HashMap<String, Instant>,
    /// Tasks on the engine's own node whose health check has failed since they ran. The engine ends such a task, and may
    /// take its time; of other nodes nothing tells.
    unhealthy: HashSet<String>,
    /// Whether the engine has said which of them there were when its events began.
    knows_unhealthy: bool,
    next_open: Instant,
    /// Whether it was said that the engine refuses to tell events.
    has_told: bool,
    hot_until: Instant,
}

impl Watcher {
    fn run(mut self) {
        loop {
            let began = Instant::now();
            let asked = self.shared.state().asked;
            let result = self.look();
            self.report(result, asked);
            self.open_events();
            if self.wait(began) {
                return;
            }
        }
    }

    fn look(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        // First: only a manager answers it, and says what is wrong if it is none. Networks a worker knows in part.
        let services = self.engine.services()?;
        let is_old = |since: &Instant| now.saturating_duration_since(*since) > OWN_TIME;
        if self.own.as_ref().is_none_or(|(_, since)| is_old(since)) {
            self.own = Some((own(&self.engine, &self.settings)?, now));
        }
        let tasks = self.engine.tasks(None)?;
        let Some((own, _)) = &mut self.own else { return Ok(()) };
        if own.service.is_none() {
            own.service = peers::own_service(&tasks, own, peers::local_address);
        }
        self.shared.state().peers = peers::peers(&tasks, own);
        let own = &*own;
        self.starting.retain(|id, _| tasks.iter().any(|task| task.id == *id && !task.is_running()));
        for task in tasks.iter().filter(|task| task.state == "starting") {
            self.starting.entry(task.id.clone()).or_insert(now + STARTING_TIME);
        }
        self.unhealthy.retain(|id| tasks.iter().any(|task| task.id == *id));
        let may_try = |task: &Task| self.starting.get(&task.id).is_some_and(|at| *at <= now);
        let mut found = select(&services, &tasks, (own, &may_try), self.settings.require_label);
        let seen = Seen { services: &services, tasks: &tasks, sink: &*self.sink };
        let all = || {
            let mut all = Vec::new();
            self.engine.each_task(Tasks::All, &[], &mut |task| all.push(task)).map(|_| all)
        };
        let explained = self.reasons.explain(&mut found.functions, seen, (now, all));
        if let Err(error) = explained {
            log::debug!("{error}"); // the services and the tasks that run are known all the same
        }
        image::explain(&mut found.functions);
        for function in &mut found.functions {
            let is_unhealthy = |backend: &&Backend| {
                backend.task.as_deref().is_some_and(|task| self.unhealthy.contains(task))
            };
            function.unhealthy = function.endpoints.iter().filter(is_unhealthy).cloned().collect();
        }
        for warning in &found.warnings {
            if !self.warned.contains(warning) {
                log::warn!("{warning}");
            }
        }
        self.warned = found.warnings;
        self.services = found.services;
        if self.known.as_ref() != Some(&found.functions) {
            log::debug!("{} functions on the Swarm", found.functions.len());
            self.sink.set(found.functions.clone());
            self.known = Some(found.functions);
            self.hot_until = now + HOT_TIME;
        }
        Ok(())
    }

    /// Says what came of a look, and once in the log when that changes.
    fn report(&self, result: Result<(), Error>, asked: u64) {
        let problem = result.err().map(|error| error.to_string());
        let mut state = self.shared.state();
        match (&state.problem, &problem) {
            (None, Some(problem)) => {
                log::warn!("degraded, the known functions go on being served: {problem}")
            }
            (Some(_), None) => log::info!("degraded no more: the functions of the Swarm are known"),
            _ => {}
        }
        state.problem = problem;
        state.answered = asked;
        drop(state);
        self.shared.looked.notify_all();
    }

    /// Without events looks are just rarer, so a failure is no problem of its own.
    fn open_events(&mut self) {
        let now = Instant::now();
        let has_all = self.events.is_some() && self.knows_unhealthy;
        if has_all || now < self.next_open || self.shared.state().problem.is_some() {
            return;
        }
        self.next_open = now + EVENTS_PAUSE;
        if self.events.is_none() {
            match self.engine.events(&news::KINDS, &news::ACTIONS) {
                Ok(events) => (self.events, self.knows_unhealthy) = (Some(events), false),
                Err(error) if error.is_transport() || self.has_told => {
                    return log::debug!("no events: {error}");
                }
                Err(error) => {
                    self.has_told = true;
                    return log::warn!("what happens on the Swarm is seen up to a second later: {error}");
                }
            }
        }
        self.ask_for_unhealthy();
    }

    /// Asks once for what the events since then do not tell; an engine that refuses is not asked again.
    fn ask_for_unhealthy(&mut self) {
        match self.engine.unhealthy_tasks() {
            Ok(tasks) => self.unhealthy = tasks.into_iter().take(MAX_STARTED).collect(),
            Err(error) if error.is_transport() => return log::debug!("{error}"), // it is asked again
            Err(error) => log::debug!("{error}"),
        }
        self.knows_unhealthy = true;
    }

    /// Waits for the next reason to look; whether it is time to end.
    fn wait(&mut self, began: Instant) -> bool {
        let now = Instant::now();
        self.waited_since = self.sink.is_waited_for().then(|| self.waited_since.unwrap_or(now));
        let mut due = began + self.interval(now);
        loop {
            let is_woken = self.is_woken(due);
            let news = self.take_events();
            if news == News::Perhaps {
                due = due.min(began + WARM_INTERVAL);
            }
            if is_woken || news >= News::OfFunctions || Instant::now() >= due {
                break;
            }
        }
        let pause = Deadline::at(began + MIN_INTERVAL).remaining().unwrap_or_default();
        if self.shared.state().is_stopping {
            return true;
        }
        std::thread::sleep(pause);
        self.shared.state().is_stopping
    }

    /// How long the next look can wait.
    fn interval(&self, now: Instant) -> Duration {
        let is_complete = self.known.as_ref().is_some_and(|known| {
            known.iter().all(|function| function.endpoints.len() >= function.wanted as usize)
        });
        match (now < self.hot_until, is_complete) {
            _ if self.waited_since.is_some_and(|since| now < since + HOT_TIME) => MIN_INTERVAL,
            (true, _) => HOT_INTERVAL,
            (false, false) => WARM_INTERVAL,
            (false, true) => COLD_INTERVAL,
        }
    }

    /// Waits for an event, or until a look is due; whether somebody has asked for one.
    fn is_woken(&self, due: Instant) -> bool {
        let events = self.events.as_ref().map(|events| events.socket().as_fd());
        let mut fds =
            [PollFd::new(self.shared.wake.as_fd(), Ready::READ), PollFd::maybe(events, Ready::READ)];
        if let Err(error) = poll(&mut fds, Deadline::at(due)) {
            log::warn!("poll failed: {error}");
            return true;
        }
        let is_woken = fds[0].ready().is_any();
        self.shared.wake.clear();
        is_woken
    }

    /// Reads the events that have come; the most important news of them.
    fn take_events(&mut self) -> News {
        let mut most = News::Nothing;
        while let Some(events) = &mut self.events {
            let event = match events.next(Deadline::after(Duration::ZERO)) {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(error) => {
                    log::debug!("{error}");
                    self.events = None;
                    return most.max(News::Perhaps); // what came with it may be lost
                }
            };
            let networks = self.own.as_ref().map(|(own, _)| &own.networks[..]);
            let interests =
                Interests { services: &self.services, networks, container: self.container.as_deref() };
            let news = interests.news(&event);
            if news == News::Nothing {
                continue;
            }
            log::debug!("event: {} {} {}", event.kind, event.action, event.id);
            if news == News::OfNetworks {
                self.own = None;
            }
            if news >= News::OfFunctions {
                self.hot_until = Instant::now() + HOT_TIME;
            }
            match news::is_unhealthy(&event) {
                Some(true) if self.unhealthy.len() < MAX_STARTED => {
                    _ = self.unhealthy.insert(event.task.clone())
                }
                Some(false) => _ = self.unhealthy.remove(&event.task),
                _ => {}
            }
            if event.action == "start" && !event.task.is_empty() && self.starting.len() < MAX_STARTED {
                self.starting.insert(event.task, Instant::now());
            }
            most = most.max(news);
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(id: &str, scope: &str) -> Network {
        Network {
            id: id.to_owned(),
            name: format!("name-{id}"),
            driver: "overlay".to_owned(),
            scope: scope.to_owned(),
            is_ingress: false,
        }
    }

    fn container(networks: &[&str]) -> Container {
        let networks = networks.iter().map(|id| (*id).to_owned()).collect();
        Container { id: "me".to_owned(), name: String::new(), labels: HashMap::new(), networks }
    }

    #[test]
    fn functions_are_on_the_networks_of_the_setting_or_of_the_container() {
        let all = || vec![network("n1", "swarm"), network("n2", "swarm"), network("host", "local")];
        let found = |container: Option<&Container>, setting| {
            let found = shared(all(), container, setting).map_err(|error| error.to_string())?;
            Ok::<_, String>(found.into_iter().map(|network| network.id).collect::<Vec<_>>())
        };
        let ids = |ids: &[&str]| Ok(ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>());
        let on = |networks: &[&str]| container(networks);
        assert_eq!(found(Some(&on(&["host", "n2"])), None), ids(&["n2"]));
        assert_eq!(found(Some(&on(&["n2"])), Some("name-n1")), ids(&["n1"]));
        assert_eq!(found(None, Some("n1")), ids(&["n1"]));
        for (container, setting, part) in [
            (Some(&on(&["host"])), None, "is on no network of the Swarm"),
            (Some(&on(&[])), None, "network connect"),
            (Some(&on(&["n1"])), Some("name-n9"), "`name-n9` is not a network of the Swarm"),
            (None, Some("host"), "`host` is not a network of the Swarm"),
            (None, None, "set functions_network"),
        ] {
            let error = found(container, setting).unwrap_err();
            assert!(error.contains(part), "{part} in {error}");
        }
    }
}
