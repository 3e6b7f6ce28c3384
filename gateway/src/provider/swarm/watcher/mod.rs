//! The thread that keeps the table: it reads what events name and what calls complain of, polls the services whose tasks
//! are on their way, and looks at everything now and then.

mod reading;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use docker_sock::{Engine, EventStream};
use kit::Deadline;
use kit::sys::{PollFd, Ready, poll};

use super::budget::Budget;
use super::catalogue::Catalogue;
use super::look::Look;
use super::news;
use super::news::{Interests, News};
use super::polls::{HOT_TIME, MIN_INTERVAL, Polls, WARM_INTERVAL};
use super::select::Own;
use super::shared::{Error, Settings, Shared};
use crate::function::Sink;

/// Between two tries while the engine cannot be asked.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Tasks whose start, or whose failed health check, is remembered; services that events have named.
const MAX_REMEMBERED: usize = 1000;

/// Between two tries to open the stream of events.
const EVENTS_PAUSE: Duration = Duration::from_secs(1);

/// The thread's own state.
pub(super) struct Watcher {
    engine: Arc<Engine>,
    settings: Settings,
    sink: Arc<dyn Sink>,
    shared: Arc<Shared>,
    /// The id of the gateway's container, if it is in one.
    container: Option<String>,
    own: Option<Own>,
    /// When the engine was asked for it.
    own_since: Instant,
    catalogue: Catalogue,
    /// Names of functions that are not known, to be asked for.
    sought: BTreeSet<String>,
    /// Services that events have named, and when they are read.
    named: HashSet<String>,
    named_due: Instant,
    polls: Polls,
    look: Look,
    budget: Budget,
    /// Whether a look has ended since the start, and since the engine failed last.
    has_looked: bool,
    is_well: bool,
    /// Since when there are calls for functions of which no replica is known.
    waited_since: Option<Instant>,
    events: Option<EventStream>,
    next_open: Instant,
    /// Whether it was said that the engine refuses to tell events.
    has_told: bool,
    /// Until when tasks may move between nodes.
    nodes_hot_until: Instant,
    /// Tasks that start, by their ids, and when they may be tried.
    starting: HashMap<String, Instant>,
    /// Tasks on the engine's own node whose health check has failed since they ran. The engine ends such a task, and may
    /// take its time; of other nodes nothing tells.
    unhealthy: HashSet<String>,
    /// Whether the engine has said which of them there were when its events began.
    knows_unhealthy: bool,
}

impl Watcher {
    pub(super) fn new(
        engine: Arc<Engine>,
        settings: Settings,
        (sink, shared): (Arc<dyn Sink>, Arc<Shared>),
    ) -> Watcher {
        let now = Instant::now();
        Watcher {
            engine,
            settings,
            sink,
            shared,
            container: docker_sock::own_container_id(),
            own: None,
            own_since: now,
            catalogue: Catalogue::default(),
            sought: BTreeSet::new(),
            named: HashSet::new(),
            named_due: now,
            polls: Polls::default(),
            look: Look::new(now),
            budget: Budget::new(now),
            has_looked: false,
            is_well: false,
            waited_since: None,
            events: None,
            next_open: now,
            has_told: false,
            nodes_hot_until: now,
            starting: HashMap::new(),
            unhealthy: HashSet::new(),
            knows_unhealthy: false,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let began = Instant::now();
            let asked = self.take_asked(began);
            let result = self.read();
            self.publish();
            self.report(result, asked);
            self.open_events();
            if self.wait(began) {
                return;
            }
        }
    }

    /// Takes what others have asked for; how often they did so far.
    fn take_asked(&mut self, now: Instant) -> u64 {
        let (asked, is_asked, names, all) = {
            let mut state = self.shared.state.lock();
            let names = std::mem::take(&mut state.names);
            (state.asked, state.asked > state.answered, names, std::mem::take(&mut state.is_all_asked))
        };
        for name in names {
            match self.catalogue.named(&name) {
                Some(id) => self.read_soon(&id, now),
                None => _ = self.sought.insert(name),
            }
        }
        if all || (is_asked && !self.is_well) {
            self.look.restart(now);
        }
        asked
    }

    /// Has a known service read, and its tasks.
    fn read_soon(&mut self, id: &Arc<str>, now: Instant) {
        self.polls.wake(id, now);
        self.name(id, now);
    }

    /// Has a service read that an event has named.
    fn name(&mut self, id: &str, due: Instant) {
        if self.named.len() >= MAX_REMEMBERED {
            return self.look.hurry(due);
        }
        self.named_due = if self.named.is_empty() { due } else { self.named_due.min(due) };
        self.named.insert(id.to_owned());
    }

    fn publish(&mut self) {
        if self.has_looked
            && let Some(functions) = self.catalogue.take_changed()
        {
            log::debug!("{} functions on the Swarm", functions.len());
            self.sink.set(functions);
        }
    }

    /// Says what came of it, and once in the log when that changes.
    fn report(&mut self, result: Result<(), Error>, asked: u64) {
        if result.is_err() {
            self.is_well = false;
            self.look.restart(Instant::now() + RETRY_INTERVAL);
        }
        let problem = result.err().map(|error| error.to_string());
        let mut state = self.shared.state.lock();
        state.answered = asked;
        match (&state.problem, &problem) {
            (None, Some(problem)) => {
                log::warn!("degraded, the known functions go on being served: {problem}")
            }
            (Some(_), None) if self.is_well => {
                log::info!("degraded no more: the functions of the Swarm are known")
            }
            _ => {}
        }
        if problem.is_some() || self.is_well {
            state.problem = problem;
        }
        drop(state);
        self.shared.looked.notify_all();
    }

    /// Without events looks are just more frequent, so a failure is no problem of its own.
    fn open_events(&mut self) {
        let now = Instant::now();
        let has_all = self.events.is_some() && self.knows_unhealthy;
        if has_all || now < self.next_open || !self.is_well {
            return;
        }
        self.next_open = now + EVENTS_PAUSE;
        if self.events.is_none() {
            match self.engine.events(&news::KINDS, &news::ACTIONS) {
                Ok(events) => {
                    (self.events, self.knows_unhealthy) = (Some(events), false);
                    self.look.restart(now); // what happened before the stream began was not told
                }
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
            Ok(tasks) => self.unhealthy = tasks.into_iter().take(MAX_REMEMBERED).collect(),
            Err(error) if error.is_transport() => return log::debug!("{error}"), // it is asked again
            Err(error) => log::debug!("{error}"),
        }
        self.knows_unhealthy = true;
    }

    /// Waits for the next reason to read; whether it is time to end.
    fn wait(&mut self, began: Instant) -> bool {
        let now = Instant::now();
        self.waited_since = self.sink.is_waited_for().then(|| self.waited_since.unwrap_or(now));
        loop {
            let is_woken = self.is_woken(self.due());
            self.take_events();
            if is_woken || Instant::now() >= self.due() {
                break;
            }
        }
        let pause = Deadline::at(began + MIN_INTERVAL).remaining().unwrap_or_default();
        if self.shared.state.lock().is_stopping {
            return true;
        }
        std::thread::sleep(pause);
        self.shared.state.lock().is_stopping
    }

    /// When something is to be read next.
    fn due(&self) -> Instant {
        let mut due = self.look.next();
        if self.is_well {
            let named = (!self.named.is_empty()).then_some(self.named_due);
            due = [named, self.polls.next()].into_iter().flatten().fold(due, Instant::min);
        }
        due = due.max(if self.has_looked { self.budget.next() } else { due });
        let is_deaf = self.is_well && (self.events.is_none() || !self.knows_unhealthy);
        if is_deaf { due.min(self.next_open) } else { due }
    }

    /// Waits for an event, or until something is due; whether somebody has asked for it.
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

    /// Reads the events that have come, and notes what is to be read for them.
    fn take_events(&mut self) {
        while let Some(events) = &mut self.events {
            match events.next(Deadline::after(Duration::ZERO)) {
                Ok(Some(event)) => self.take_event(&event),
                Ok(None) => break,
                Err(error) => {
                    log::debug!("{error}");
                    self.events = None;
                    self.look.restart(Instant::now()); // what came with it may be lost
                }
            }
        }
    }

    fn take_event(&mut self, event: &docker_sock::Event) {
        let own = self.own.as_ref();
        let (catalogue, networks) = (&self.catalogue, own.map(|own| &own.networks[..]));
        let is_ours = |id: &str| catalogue.id(id, own).is_some();
        let interests = Interests { is_ours: &is_ours, networks, container: self.container.as_deref() };
        let news = interests.news(event);
        if news == News::Nothing {
            return;
        }
        log::debug!("event: {} {} {}", event.kind, event.action, event.id);
        let now = Instant::now();
        match (news, event.kind.as_str()) {
            (News::OfNetworks, _) => {
                self.own = None;
                self.look.restart(now);
            }
            (News::OfFunctions, "node") => {
                self.nodes_hot_until = now + HOT_TIME;
                self.look.hurry(now);
            }
            (News::OfFunctions, kind) => {
                let id = if kind == "service" { &event.id } else { &event.service };
                let Some(id) = self.catalogue.id(id, self.own.as_ref()) else { return };
                self.polls.wake(&id, now);
                if kind == "service" {
                    self.name(&id, now);
                }
            }
            _ => self.name(&event.id, now + WARM_INTERVAL),
        }
        self.note_container(event, now);
    }

    /// The event of a container tells of its task.
    fn note_container(&mut self, event: &docker_sock::Event, now: Instant) {
        match news::is_unhealthy(event) {
            Some(true) if self.unhealthy.len() < MAX_REMEMBERED => {
                _ = self.unhealthy.insert(event.task.clone())
            }
            Some(false) => _ = self.unhealthy.remove(&event.task),
            _ if event.action == "die" => _ = self.unhealthy.remove(&event.task),
            _ => {}
        }
        let is_start = event.action == "start" && !event.task.is_empty();
        if is_start && self.starting.len() < MAX_REMEMBERED {
            self.starting.insert(event.task.clone(), now);
        }
    }
}
