//! The bound on requests that are served at a time, the queue before it, and the threads behind it: values only, under
//! one lock of their owner. Each method is told what happened and answers what is to be done, see [`Todo`]. Every order
//! of small cases is tried in the tests.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The properties of a queued job.
pub(super) trait Queued {
    /// How many threads there are for it, and ones like it, beyond the workers.
    fn urgent_threads(&self) -> usize;

    /// When it began to wait for a worker.
    fn since(&self) -> Instant;
}

/// The work to be done once the lock is released.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Todo {
    /// A worker is to be started; it is counted already, see [`Places::start_failed`].
    pub(super) starts: bool,
    /// A worker that waits for a job is to be told.
    pub(super) notifies: bool,
    /// Pollers whose calls wait for a place are to look again, a bit for each.
    pub(super) wakes: u64,
}

/// Where a job went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Submitted<J> {
    /// Into the queue.
    Queued(Todo),
    /// The job is for a thread beyond the workers, which is counted already.
    Urgent(J),
    /// Nowhere: the queue is full, or the server ends.
    Refused(J),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Places<J> {
    /// The most requests that are served at a time, and the most that wait for a worker then.
    most: usize,
    most_waiting: usize,
    /// Requests that wait for a worker.
    jobs: VecDeque<J>,
    /// Requests that workers serve, and that pollers serve.
    serving: usize,
    relays: usize,
    /// Workers; those of them that are being started, and that wait for a job.
    alive: usize,
    starting: usize,
    idle: usize,
    /// Threads beyond the workers, each with an urgent request, which is not counted among the others.
    urgent: usize,
    /// Pollers with calls that found no place, a bit for each.
    starved: u64,
    is_stopping: bool,
}

/// The most pollers: each has a bit in a set of them.
pub(super) const MAX_POLLERS: usize = u64::BITS as usize;

/// The bit of a poller.
pub(super) fn bit(poller: usize) -> u64 {
    1 << poller
}

impl<J: Queued> Places<J> {
    pub(super) fn new(most: usize, most_waiting: usize) -> Places<J> {
        Places {
            most,
            most_waiting,
            jobs: VecDeque::new(),
            serving: 0,
            relays: 0,
            alive: 0,
            starting: 0,
            idle: 0,
            urgent: 0,
            starved: 0,
            is_stopping: false,
        }
    }

    fn taken(&self) -> usize {
        self.serving + self.relays
    }

    /// Takes a place for a request that a poller serves, unless requests that wait for a worker come first.
    pub(super) fn enter(&mut self) -> bool {
        let has_room = self.taken() + self.jobs.len() < self.most;
        self.relays += usize::from(has_room);
        has_room
    }

    /// The same for a call that waits on a poller. Where there is no place, that poller is woken when there is one.
    pub(super) fn enter_or_wait(&mut self, poller: usize) -> bool {
        let has_room = self.enter();
        if !has_room {
            self.starved |= bit(poller);
        }
        has_room
    }

    /// Gives the place of a poller's request back.
    pub(super) fn leave(&mut self) -> Todo {
        self.relays -= 1;
        self.settle()
    }

    /// Queues a job, or has it served beyond the bound where it is urgent and all places are taken.
    pub(super) fn submit(&mut self, job: J) -> Submitted<J> {
        let count = self.taken() + self.jobs.len();
        if !self.is_stopping && count >= self.most && self.urgent < job.urgent_threads() {
            self.urgent += 1;
            return Submitted::Urgent(job);
        }
        self.queue(job)
    }

    fn queue(&mut self, job: J) -> Submitted<J> {
        if self.is_stopping || self.taken() + self.jobs.len() >= self.most + self.most_waiting {
            return Submitted::Refused(job);
        }
        self.jobs.push_back(job);
        Submitted::Queued(self.settle())
    }

    /// No thread could be started for an urgent job: it waits in line.
    pub(super) fn urgent_failed(&mut self, job: J) -> Submitted<J> {
        self.urgent -= 1;
        self.queue(job)
    }

    /// A thread has served its urgent job.
    pub(super) fn end_urgent(&mut self) {
        self.urgent -= 1;
    }

    /// Takes the first urgent job in line, if there is room for it: it came while the threads for such were about to
    /// end.
    pub(super) fn take_urgent(&mut self) -> Option<(J, Todo)> {
        let urgent = self.urgent;
        let place = self.jobs.iter().position(|job| urgent < job.urgent_threads())?;
        let job = self.jobs.remove(place)?;
        self.urgent += 1;
        Some((job, self.settle()))
    }

    /// A worker that could not be started. Jobs that nobody takes are for [`Places::tick`].
    pub(super) fn start_failed(&mut self) -> Todo {
        self.starting -= 1;
        self.alive -= 1;
        Todo { notifies: self.idle > 0 && !self.jobs.is_empty(), ..Todo::default() }
    }

    /// A worker begins to ask for jobs.
    pub(super) fn started(&mut self) {
        self.starting -= 1;
    }

    /// A worker takes the first job, if there is a place for it. Whoever makes room notifies those that found none.
    pub(super) fn take(&mut self) -> Option<J> {
        if self.taken() >= self.most {
            return None;
        }
        let job = self.jobs.pop_front()?;
        self.serving += 1;
        Some(job)
    }

    /// A worker has served its job. It asks for the next one itself, and another one need not be notified for that.
    pub(super) fn served(&mut self) -> Todo {
        self.serving -= 1;
        Todo { wakes: self.wakes(), ..Todo::default() }
    }

    /// A worker begins to wait for a job, or has waited.
    pub(super) fn rest(&mut self, begins: bool) {
        if begins { self.idle += 1 } else { self.idle -= 1 }
    }

    /// A worker that does not wait ends, with a job in hand if it panicked over it.
    pub(super) fn end_worker(&mut self, is_serving: bool) -> Todo {
        self.alive -= 1;
        self.serving -= usize::from(is_serving);
        self.settle()
    }

    /// Queues the next request of a connection behind all that wait and answers the first: the worker that brings it
    /// is free to take that one, so that there is always room.
    pub(super) fn exchange(&mut self, job: J) -> J {
        match self.jobs.pop_front() {
            Some(first) => {
                self.jobs.push_back(job);
                first
            }
            None => job,
        }
    }

    /// Takes a job that has waited for `span`.
    pub(super) fn expire(&mut self, now: Instant, span: Duration) -> Option<(J, Todo)> {
        let waited = now.saturating_duration_since(self.jobs.front()?.since());
        let job = if waited >= span { self.jobs.pop_front() } else { None }?;
        Some((job, self.settle()))
    }

    /// To be called now and then while jobs wait: where a worker could not be started, another try is due.
    pub(super) fn tick(&mut self) -> Todo {
        Todo { starts: self.starts(), ..Todo::default() }
    }

    /// Ends it: no job is queued any more, and those that are come back.
    pub(super) fn stop(&mut self) -> VecDeque<J> {
        self.is_stopping = true;
        std::mem::take(&mut self.jobs)
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Whether workers are left that serve nothing.
    pub(super) fn has_unused(&self) -> bool {
        self.alive > self.serving
    }

    /// Requests that wait for a worker.
    pub(super) fn waiting(&self) -> usize {
        self.jobs.len()
    }

    /// Whether less than half of the line is taken: the rest is for requests that come.
    pub(super) fn has_room_in_line(&self) -> bool {
        self.jobs.len() < self.most_waiting / 2
    }

    /// Requests that are served, and workers without one.
    pub(super) fn busy_and_idle(&self) -> (usize, usize) {
        (self.alive - self.idle + self.relays, self.idle)
    }

    /// Sees to it that jobs in line are taken, and then that calls which wait on pollers are.
    fn settle(&mut self) -> Todo {
        let has_work = !self.jobs.is_empty() && self.taken() < self.most;
        let starts = self.starts();
        Todo { starts, notifies: has_work && !starts, wakes: self.wakes() }
    }

    /// Whether one more worker is needed, which is counted then.
    fn starts(&mut self) -> bool {
        let has_room = self.taken() < self.most && self.alive < self.most;
        let is_needed = has_room && self.jobs.len() > self.idle + self.starting;
        self.alive += usize::from(is_needed);
        self.starting += usize::from(is_needed);
        is_needed
    }

    /// The pollers whose calls may find a place now. They say so again where they do not.
    fn wakes(&mut self) -> u64 {
        let has_room = self.taken() + self.jobs.len() < self.most;
        if has_room { std::mem::take(&mut self.starved) } else { 0 }
    }
}

#[cfg(test)]
mod explore;
