//! The questions that the watcher asks, and what it makes of the answers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use docker_sock::{Service, Task, Tasks, Version};

use super::{MAX_REMEMBERED, Watcher};
use crate::provider::swarm::catalogue::{Change, Sight};
use crate::provider::swarm::look::{Haste, MAX_CHUNK, Step};
use crate::provider::swarm::polls::{Finding, HOT_TIME, WARM_INTERVAL};
use crate::provider::swarm::shared::Error;
use crate::provider::swarm::{own, peers};

/// How long the gateway's own networks are taken to be as they were.
const OWN_TIME: Duration = Duration::from_secs(30);

/// How long a task is left alone that says it starts: an address that is tried before it is there stays out of reach
/// for a second (the kernel asks for its neighbour no more often). A task without a health check runs by then, and is
/// tried as soon as it does; one on the engine's own node is seen to start by an event. Only what has a health check,
/// and is on another node, waits for so long, and its address is there then.
const STARTING_TIME: Duration = Duration::from_secs(1);

/// How long a task that starts is remembered.
const MAX_STARTING_TIME: Duration = Duration::from_secs(600);

/// The first version of the API whose events tell of services.
const TELLS_SERVICES: Version = Version { major: 1, minor: 30 };

impl Watcher {
    /// Reads what is due. While the engine does not answer that is all, from the start.
    pub(super) fn read(&mut self) -> Result<(), Error> {
        if self.is_well {
            self.read_sought()?;
            self.read_named()?;
            self.read_polled()?;
        }
        while self.look.next() <= Instant::now() && self.may_ask() {
            self.step()?;
        }
        Ok(())
    }

    /// The first look is not bounded: until it ends nothing can be called.
    fn may_ask(&self) -> bool {
        !self.has_looked || !self.budget.is_spent(Instant::now())
    }

    fn read_sought(&mut self) -> Result<(), Error> {
        for name in std::mem::take(&mut self.sought) {
            match self.engine.service(&name) {
                Ok(service) => self.put(&service),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read_named(&mut self) -> Result<(), Error> {
        if self.named.is_empty() || self.named_due > Instant::now() {
            return Ok(());
        }
        let ids: Vec<String> = self.named.drain().collect();
        ids.chunks(MAX_CHUNK).try_for_each(|ids| {
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            self.read_services(&ids)
        })
    }

    fn read_services(&mut self, ids: &[&str]) -> Result<(), Error> {
        let mut services = Vec::new();
        let mut take = |service: Service| {
            if ids.contains(&service.id.as_str()) {
                services.push(service);
            }
        };
        let bytes = self.engine.each_service(ids, &mut take)?;
        self.budget.spend(bytes, Instant::now());
        services.iter().for_each(|service| self.put(service));
        for id in ids.iter().filter(|id| services.iter().all(|service| service.id != **id)) {
            self.forget(id);
        }
        Ok(())
    }

    /// A service was read; where it was written, its tasks are next.
    fn put(&mut self, service: &Service) {
        let Some(own) = &self.own else { return };
        let change = self.catalogue.put(service, own, self.settings.require_label);
        if change == Change::Written
            && let Some(id) = self.catalogue.id(&service.id, Some(own))
        {
            self.polls.wake(&id, Instant::now());
        }
    }

    fn forget(&mut self, id: &str) {
        self.catalogue.remove(id);
        self.polls.forget(id);
    }

    fn read_polled(&mut self) -> Result<(), Error> {
        let due = self.polls.due(Instant::now());
        for ids in due.chunks(MAX_CHUNK) {
            if !self.may_ask() {
                break;
            }
            self.read_tasks(ids)?;
        }
        Ok(())
    }

    /// Reads the tasks of these services; how many bytes that took.
    fn read_tasks(&mut self, ids: &[Arc<str>]) -> Result<usize, Error> {
        let mut ids: Vec<Arc<str>> = ids.to_vec();
        loop {
            match self.tasks(Tasks::MeantToRun, &ids) {
                Ok((tasks, bytes)) => {
                    self.place(&ids, &tasks)?;
                    return Ok(bytes);
                }
                // The engine refuses all of them where one is gone.
                Err(error) if error.is_not_found() => {
                    let texts: Vec<&str> = ids.iter().map(|id| &**id).collect();
                    self.read_services(&texts)?;
                    let before = ids.len();
                    ids.retain(|id| self.catalogue.has(id));
                    if ids.is_empty() || ids.len() == before {
                        return Ok(0); // what came back meanwhile is read the next time
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The tasks of these services, in the order of the services' ids.
    fn tasks(&mut self, which: Tasks, ids: &[Arc<str>]) -> Result<(Vec<Task>, usize), docker_sock::Error> {
        let texts: Vec<&str> = ids.iter().map(|id| &**id).collect();
        let mut tasks = Vec::new();
        let mut take = |task: Task| {
            if texts.contains(&task.service_id.as_str()) {
                tasks.push(task);
            }
        };
        let bytes = self.engine.each_task(which, &texts, &mut take)?;
        self.budget.spend(bytes, Instant::now());
        tasks.sort_by(|a, b| a.service_id.cmp(&b.service_id));
        Ok((tasks, bytes))
    }

    /// Places functions by their tasks.
    fn place(&mut self, ids: &[Arc<str>], tasks: &[Task]) -> Result<(), Error> {
        let now = Instant::now();
        if self.is_own_found(tasks)? {
            return Ok(());
        }
        self.note_starts(tasks, now);
        let mut unexplained: Vec<Arc<str>> = ids.to_vec();
        unexplained.retain(|id| self.place_one(id, of_service(tasks, id), now));
        if unexplained.is_empty() {
            return Ok(());
        }
        match self.tasks(Tasks::All, &unexplained) {
            Ok((all, _)) => unexplained.iter().for_each(|id| self.catalogue.learn(id, of_service(&all, id))),
            Err(error) => log::debug!("{error}"), // the tasks that run are known all the same
        }
        Ok(())
    }

    /// Places a service by its tasks; whether the tasks that ended are to tell why it has no replica.
    fn place_one(&mut self, id: &Arc<str>, tasks: &[Task], now: Instant) -> bool {
        let Some(own) = &self.own else { return false };
        if own.is(id) {
            self.shared.state.lock().peers = peers::peers(tasks, own);
        }
        let may_try = |task: &Task| self.starting.get(&task.id).is_some_and(|at| *at <= now);
        let is_unhealthy = |task: &str| self.unhealthy.contains(task);
        let (may_try, is_unhealthy, sink) = (&may_try, &is_unhealthy, &*self.sink);
        let Some(standing) =
            self.catalogue.place(id, tasks, &Sight { own, may_try, is_unhealthy, sink, now })
        else {
            self.polls.forget(id);
            return false;
        };
        let is_patient = self.waited_since.is_none_or(|since| now >= since + HOT_TIME);
        let is_waited_for = standing.lacks_replica && !is_patient;
        self.polls.was_read(id, Finding { is_settled: standing.is_settled, is_waited_for }, now);
        if standing.is_in_update {
            self.name(id, now + WARM_INTERVAL);
        }
        standing.needs_history
    }

    /// Whether the gateway's own service was found among the tasks only now: all services are judged anew then.
    fn is_own_found(&mut self, tasks: &[Task]) -> Result<bool, Error> {
        let Some(own) = self.own.as_mut().filter(|own| own.service.is_none()) else { return Ok(false) };
        let Some(id) = peers::own_service(tasks, own, peers::local_address) else { return Ok(false) };
        own.program = own::program(&self.engine, &id)?;
        own.service = Some(id);
        self.look.restart(Instant::now());
        Ok(true)
    }

    fn note_starts(&mut self, tasks: &[Task], now: Instant) {
        for task in tasks {
            if task.is_running() {
                self.starting.remove(&task.id);
            } else if task.state == "starting" && self.starting.len() < MAX_REMEMBERED {
                self.starting.entry(task.id.clone()).or_insert(now + STARTING_TIME);
            }
        }
    }

    /// One step of the look at everything.
    fn step(&mut self) -> Result<(), Error> {
        if !self.look.has_begun() {
            let now = Instant::now();
            self.refresh_own(now)?;
            self.catalogue.begin_look();
            self.look.begin(now);
        }
        let Some(step) = self.look.take() else { return Ok(()) };
        let bytes = match &step {
            Step::Services(first) => self.read_all_services(*first)?,
            Step::Tasks(ids) => self.read_tasks(ids)?,
        };
        if !self.look.has_begun() {
            return Ok(()); // it was restarted
        }
        let now = Instant::now();
        let haste = self.haste(now);
        self.look.was_read(&step, bytes, (haste, now));
        if self.look.needs_tasks()
            && let Some(own) = &self.own
        {
            self.look.add_tasks(&self.catalogue.with_tasks(own), haste);
        }
        if self.look.is_over() {
            self.look.end(haste);
            self.end_look(now);
        }
        Ok(())
    }

    fn end_look(&mut self, now: Instant) {
        self.starting.retain(|_, at| now < *at + MAX_STARTING_TIME);
        if !self.has_looked {
            self.catalogue.touch();
        }
        (self.has_looked, self.is_well) = (true, true);
    }

    fn haste(&self, now: Instant) -> Haste {
        match &self.events {
            None => Haste::Blind,
            Some(_) if self.engine.version().is_ok_and(|version| version < TELLS_SERVICES) => Haste::Blind,
            Some(_) if now < self.nodes_hot_until => Haste::Hot,
            Some(_) => Haste::Idle,
        }
    }

    fn refresh_own(&mut self, now: Instant) -> Result<(), Error> {
        if self.own.is_some() && now < self.own_since + OWN_TIME {
            return Ok(());
        }
        // Only a manager answers this, and says what is wrong if it is none. Networks a worker knows in part.
        self.engine.check_swarm()?;
        self.own = Some(own::own(&self.engine, &self.settings, self.own.as_ref())?);
        self.own_since = now;
        Ok(())
    }

    /// Reads all services, or those whose ids begin with a character; how many bytes that took.
    fn read_all_services(&mut self, first: Option<char>) -> Result<usize, Error> {
        let Some(own) = &self.own else { return Ok(0) };
        let (mut buffer, mut written) = ([0; 4], Vec::new());
        let ids: &[&str] = match first {
            Some(first) => &[&*first.encode_utf8(&mut buffer)],
            None => &[],
        };
        let (catalogue, require_label) = (&mut self.catalogue, self.settings.require_label);
        let mut put = |service: Service| {
            if catalogue.put(&service, own, require_label) == Change::Written {
                written.extend(catalogue.id(&service.id, Some(own)));
            }
        };
        let bytes = self.engine.each_service(ids, &mut put)?;
        let now = Instant::now();
        self.budget.spend(bytes, now);
        for id in self.catalogue.sweep(first) {
            self.polls.forget(&id);
        }
        if first.is_none() {
            self.named.clear();
        }
        // The first look reads all tasks itself.
        if self.is_well {
            written.iter().for_each(|id| self.polls.wake(id, now));
        }
        Ok(bytes)
    }
}

/// The tasks of one service, among tasks in the order of the services' ids.
fn of_service<'a>(tasks: &'a [Task], id: &str) -> &'a [Task] {
    let begin = tasks.partition_point(|task| task.service_id.as_str() < id);
    let count = tasks[begin..].partition_point(|task| task.service_id == id);
    &tasks[begin..begin + count]
}
