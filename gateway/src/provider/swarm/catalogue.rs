//! What is known of the services near the gateway, and of the functions among them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use docker_sock::{Mode, Service, Task};

use super::image;
use super::reasons::{Reason, Seen};
use super::select::{MayTry, Own, Verdict, judge, place};
use crate::function::{Backend, Known, Sink};

/// One service on a network of the gateway's, or one with a mistake that was told.
#[derive(Default)]
struct Entry {
    /// The function, if the service is one.
    function: Option<Known>,
    /// Whether its tasks were read, so that it can be shown.
    is_placed: bool,
    /// Whether its tasks are of interest.
    is_near: bool,
    /// Replicas that are wanted; `None` for one on each node.
    wanted: Option<u64>,
    /// The version in which the service was written.
    version: u64,
    reason: Reason,
    /// What was warned about, so that it is said once.
    warnings: Vec<String>,
    /// The look in which the service was last there.
    look: u32,
}

/// What became of a service that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Its tasks are to be read: it is new, or was written.
    Written,
    /// It is as it was, or of no interest.
    None,
}

/// How the tasks of a service stand.
pub(super) struct Standing {
    /// Whether all that are wanted run, and no others.
    pub(super) is_settled: bool,
    /// Whether it is a function that should have a replica and has none.
    pub(super) lacks_replica: bool,
    /// Whether it is in an update, whose end its own document tells.
    pub(super) is_in_update: bool,
    /// Whether the tasks that ended are to be asked for, and handed to [`Catalogue::learn`].
    pub(super) needs_history: bool,
}

/// What is needed to place a service's tasks.
pub(super) struct Sight<'a> {
    pub(super) own: &'a Own,
    pub(super) may_try: MayTry<'a>,
    pub(super) is_unhealthy: &'a dyn Fn(&str) -> bool,
    pub(super) sink: &'a dyn Sink,
    pub(super) now: Instant,
}

/// All services that are of interest, by id.
#[derive(Default)]
pub(super) struct Catalogue {
    services: HashMap<Arc<str>, Entry>,
    /// The newest version of the Swarm that was seen in any task.
    newest: u64,
    /// The number of the look that is under way.
    look: u32,
    /// Whether the functions are not those any more that were taken last.
    is_changed: bool,
}

impl Catalogue {
    pub(super) fn begin_look(&mut self) {
        self.look = self.look.wrapping_add(1);
    }

    /// A service was read.
    pub(super) fn put(&mut self, service: &Service, own: &Own, require_label: bool) -> Change {
        let Verdict { is_near, function, warnings } = judge(service, own, require_label);
        if !is_near && warnings.is_empty() {
            self.remove(&service.id);
            return Change::None;
        }
        if !self.services.contains_key(service.id.as_str()) {
            self.services.insert(service.id.as_str().into(), Entry::default());
        }
        let Some(entry) = self.services.get_mut(service.id.as_str()) else { return Change::None };
        for warning in warnings.iter().filter(|warning| !entry.warnings.contains(warning)) {
            log::warn!("{warning}");
        }
        let is_written = entry.version != service.version || !entry.is_placed;
        let function = function.map(|mut function| {
            if let Some(old) = &entry.function {
                function.take_over(old);
            }
            function
        });
        self.is_changed |= entry.is_placed && entry.function != function;
        (entry.function, entry.warnings, entry.is_near) = (function, warnings, is_near);
        (entry.version, entry.look) = (service.version, self.look);
        entry.wanted = match service.mode {
            Mode::Replicated(replicas) => Some(replicas),
            Mode::Global | Mode::Other => None,
        };
        if is_written && is_near { Change::Written } else { Change::None }
    }

    /// A service is not there any more.
    pub(super) fn remove(&mut self, id: &str) {
        let removed = self.services.remove(id);
        self.is_changed |= removed.is_some_and(|entry| entry.is_placed && entry.function.is_some());
    }

    /// Removes the services that this look has not found among those whose ids begin with `first`, or among all; their
    /// ids.
    pub(super) fn sweep(&mut self, first: Option<char>) -> Vec<Arc<str>> {
        let is_gone = |id: &str, entry: &Entry| {
            entry.look != self.look && first.is_none_or(|first| id.starts_with(first))
        };
        let gone = self.services.iter().filter(|(id, entry)| is_gone(id, entry));
        let gone: Vec<_> = gone.map(|(id, _)| Arc::clone(id)).collect();
        gone.iter().for_each(|id| self.remove(id));
        gone
    }

    /// The services whose tasks are of interest: those of functions, the gateway's own, and any near one while it is not
    /// known which that is.
    pub(super) fn with_tasks(&self, own: &Own) -> Vec<Arc<str>> {
        let is_meant = |(id, entry): &(&Arc<str>, &Entry)| {
            entry.function.is_some() || own.is(id) || (own.service.is_none() && entry.is_near)
        };
        self.services.iter().filter(is_meant).map(|(id, _)| Arc::clone(id)).collect()
    }

    /// The id of a function's service, or of the gateway's own.
    pub(super) fn id(&self, id: &str, own: Option<&Own>) -> Option<Arc<str>> {
        let (key, entry) = self.services.get_key_value(id)?;
        let is_ours = entry.function.is_some() || own.is_some_and(|own| own.is(id));
        is_ours.then(|| Arc::clone(key))
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.services.contains_key(id)
    }

    /// The id of a function's service by its name.
    pub(super) fn named(&self, name: &str) -> Option<Arc<str>> {
        let is_it = |entry: &Entry| entry.function.as_ref().is_some_and(|known| known.name.as_str() == name);
        self.services.iter().find(|(_, entry)| is_it(entry)).map(|(id, _)| Arc::clone(id))
    }

    /// The tasks of a service that are meant to run were read. `None` where there is no such service.
    pub(super) fn place(&mut self, id: &str, tasks: &[Task], sight: &Sight<'_>) -> Option<Standing> {
        self.newest = tasks.iter().map(|task| task.version).fold(self.newest, u64::max);
        let entry = self.services.get_mut(id)?;
        let running = tasks.iter().filter(|task| task.is_running()).count();
        let wanted = entry.wanted.unwrap_or(tasks.len() as u64);
        let is_whole = running == tasks.len() && wanted == running as u64;
        let was_placed = std::mem::replace(&mut entry.is_placed, true);
        let Some(old) = &entry.function else {
            let (lacks_replica, is_in_update, needs_history) = (false, false, false);
            return Some(Standing { is_settled: is_whole, lacks_replica, is_in_update, needs_history });
        };
        let mut function = old.clone();
        place(&mut function, tasks, sight.own, sight.may_try);
        let has_replica = sight.sink.has_replica(function.name.as_str());
        let seen = Seen { tasks, newest: self.newest, has_replica };
        let needs_history = entry.reason.explain(&mut function, &seen, sight.now);
        image::explain(&mut function);
        let is_unhealthy = |backend: &&Backend| backend.task.as_deref().is_some_and(sight.is_unhealthy);
        function.unhealthy = function.endpoints.iter().filter(is_unhealthy).cloned().collect();
        let standing = Standing {
            is_settled: is_whole && function.in_update.is_none(),
            lacks_replica: function.endpoints.is_empty() && function.wanted > 0,
            is_in_update: function.in_update.is_some(),
            needs_history,
        };
        if !was_placed || *old != function {
            self.is_changed = true;
            entry.function = Some(function);
        }
        Some(standing)
    }

    /// All tasks of a service were read, also those that ended.
    pub(super) fn learn(&mut self, id: &str, tasks: &[Task]) {
        let Some(entry) = self.services.get_mut(id) else { return };
        let Some(function) = &mut entry.function else { return };
        let before = function.problem.clone();
        entry.reason.learn(function, tasks, entry.version);
        image::explain(function);
        self.is_changed |= before != function.problem;
    }

    /// All functions by name, if they have changed since they were taken last.
    pub(super) fn take_changed(&mut self) -> Option<Vec<Known>> {
        std::mem::take(&mut self.is_changed).then(|| {
            let placed = self.services.values().filter(|entry| entry.is_placed);
            let mut functions: Vec<_> = placed.filter_map(|entry| entry.function.clone()).collect();
            functions.sort_unstable_by(|a, b| a.name.cmp(&b.name));
            functions
        })
    }

    /// Has the functions taken, changed or not.
    pub(super) fn touch(&mut self) {
        self.is_changed = true;
    }
}

impl Known {
    /// The service was read again: its tasks, and whatever is equal, stay as they were.
    fn take_over(&mut self, old: &Known) {
        if self.about == old.about {
            self.about = Arc::clone(&old.about);
        }
        if self.name == old.name {
            self.name = old.name.clone();
        }
        if !self.is_scalable {
            (self.wanted, self.asked) = (old.wanted, old.asked);
        }
        self.endpoints.clone_from(&old.endpoints);
        self.starting.clone_from(&old.starting);
        self.unhealthy.clone_from(&old.unhealthy);
        self.problem.clone_from(&old.problem);
    }
}
