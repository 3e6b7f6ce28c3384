//! The bound on requests that are served at a time, the queue before it, and the threads behind it: values only, under
//! one lock of their owner. Each method is told what happened and answers what is to be done, see [`Todo`]. Every order
//! of small cases is tried in the tests.
//!
//! A client has a share of the places and of the queue. Requests beyond its share wait, and those of others overtake
//! them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The properties of a queued job.
pub(super) trait Queued {
    /// When it began to wait for a worker.
    fn since(&self) -> Instant;

    /// The number of its client, see [`Places::shares`].
    fn client(&self) -> usize;
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
    /// Nowhere: the queue is full, or the server ends.
    Refused(J),
    /// Nowhere: the client's share of the queue is full.
    TooManyOfClient(J),
}

/// Whether a call that waits on a poller got a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Entered,
    /// There is no place.
    Full,
    /// The client has its share.
    OverShare,
}

/// The requests of one client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Client {
    serving: usize,
    queued: usize,
    /// Pollers with calls of it that found its share taken, a bit for each.
    starved: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Places<J> {
    /// The most requests that are served at a time, and the most that wait for a worker then.
    most: usize,
    most_waiting: usize,
    /// The most requests of one client that are served, and that wait for a worker.
    of_client: usize,
    of_client_waiting: usize,
    /// By the number of the client.
    clients: Vec<Client>,
    /// Requests that wait for a worker, and those of them that their clients' shares let go on.
    jobs: VecDeque<J>,
    ready: usize,
    /// Requests that workers serve, and that pollers serve.
    serving: usize,
    relays: usize,
    /// Workers; those of them that are being started, and that wait for a job.
    alive: usize,
    starting: usize,
    idle: usize,
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
            of_client: most,
            of_client_waiting: most_waiting,
            clients: Vec::new(),
            jobs: VecDeque::new(),
            ready: 0,
            serving: 0,
            relays: 0,
            alive: 0,
            starting: 0,
            idle: 0,
            starved: 0,
            is_stopping: false,
        }
    }

    /// Lets one client have at most so many of the places, and the same part of the queue.
    pub(super) fn shares(mut self, of_client: usize) -> Places<J> {
        self.of_client = of_client.clamp(1, self.most);
        self.of_client_waiting = (self.most_waiting * self.of_client).div_ceil(self.most);
        self
    }

    fn taken(&self) -> usize {
        self.serving + self.relays
    }

    /// Whether there is a place beyond those for requests that wait for a worker and may have one.
    fn has_room(&self) -> bool {
        self.taken() + self.ready < self.most
    }

    fn client(&self, client: usize) -> Client {
        self.clients.get(client).copied().unwrap_or_default()
    }

    /// Whether a client has requests that take its whole share, or wait to do so.
    fn is_over(&self, client: usize) -> bool {
        let Client { serving, queued, .. } = self.client(client);
        serving + queued >= self.of_client
    }

    /// Counts a client's requests anew, and those in line that may go on.
    fn count(&mut self, client: usize, change: impl FnOnce(&mut Client)) {
        if self.clients.len() <= client {
            self.clients.resize(client + 1, Client::default());
        }
        let of_client = self.of_client;
        let ready = |client: &Client| client.queued.min(of_client.saturating_sub(client.serving));
        let client = &mut self.clients[client];
        let before = ready(client);
        change(client);
        self.ready = self.ready + ready(client) - before;
    }

    /// Takes a place for a request that a poller serves, unless requests that wait for a worker come first.
    pub(super) fn enter(&mut self, client: usize) -> bool {
        let has_room = self.has_room() && !self.is_over(client);
        if has_room {
            self.relays += 1;
            self.count(client, |client| client.serving += 1);
        }
        has_room
    }

    /// The same for a call that waits on a poller. Where there is no place, that poller is woken when there is one.
    pub(super) fn enter_or_wait(&mut self, poller: usize, client: usize) -> Entry {
        if self.enter(client) {
            return Entry::Entered;
        }
        if !self.has_room() {
            self.starved |= bit(poller);
            return Entry::Full;
        }
        self.count(client, |client| client.starved |= bit(poller));
        Entry::OverShare
    }

    /// Gives the place of a poller's request back.
    pub(super) fn leave(&mut self, client: usize) -> Todo {
        self.relays -= 1;
        self.count(client, |client| client.serving -= 1);
        self.settle(client)
    }

    /// Queues a job.
    pub(super) fn submit(&mut self, job: J) -> Submitted<J> {
        if self.is_stopping || self.taken() + self.jobs.len() >= self.most + self.most_waiting {
            return Submitted::Refused(job);
        }
        let client = job.client();
        let Client { serving, queued, .. } = self.client(client);
        if serving + queued >= self.of_client + self.of_client_waiting {
            return Submitted::TooManyOfClient(job);
        }
        self.push(job);
        Submitted::Queued(self.settle(client))
    }

    fn push(&mut self, job: J) {
        self.count(job.client(), |client| client.queued += 1);
        self.jobs.push_back(job);
    }

    /// Takes a job out of the line.
    fn remove(&mut self, place: usize) -> Option<J> {
        // To the front by swaps: `VecDeque::remove` is 700 bytes of code.
        (1..=place).rev().for_each(|place| self.jobs.swap(place, place - 1));
        let job = self.jobs.pop_front()?;
        self.count(job.client(), |client| client.queued -= 1);
        Some(job)
    }

    /// Takes the first job whose client has not its share already.
    fn first(&mut self) -> Option<J> {
        let may_go_on = |job: &J| self.client(job.client()).serving < self.of_client;
        let place = self.jobs.iter().position(may_go_on)?;
        let job = self.remove(place)?;
        self.count(job.client(), |client| client.serving += 1);
        Some(job)
    }

    /// A worker that could not be started. Jobs that nobody takes are for [`Places::tick`].
    pub(super) fn start_failed(&mut self) -> Todo {
        self.starting -= 1;
        self.alive -= 1;
        Todo { notifies: self.idle > 0 && self.ready > 0, ..Todo::default() }
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
        let job = self.first()?;
        self.serving += 1;
        Some(job)
    }

    /// A worker has served its job, which was of this client. It asks for the next one itself, and another one need not
    /// be notified for that.
    pub(super) fn served(&mut self, client: usize) -> Todo {
        self.serving -= 1;
        self.count(client, |client| client.serving -= 1);
        Todo { wakes: self.wakes(client), ..Todo::default() }
    }

    /// A worker begins to wait for a job, or has waited.
    pub(super) fn rest(&mut self, begins: bool) {
        if begins { self.idle += 1 } else { self.idle -= 1 }
    }

    /// A worker that does not wait ends, with a job of this client in hand if it panicked over it.
    pub(super) fn end_worker(&mut self, serves: Option<usize>) -> Todo {
        self.alive -= 1;
        if let Some(client) = serves {
            self.serving -= 1;
            self.count(client, |client| client.serving -= 1);
        }
        self.settle(serves.unwrap_or_default())
    }

    /// Queues the next request of a connection behind all that wait and answers the first that may go on. The worker
    /// that brings it has served the one before it, and is free to take that one.
    pub(super) fn exchange(&mut self, job: J) -> J {
        self.count(job.client(), |client| client.serving -= 1);
        match self.first() {
            Some(first) => {
                self.push(job);
                first
            }
            None => {
                self.count(job.client(), |client| client.serving += 1);
                job
            }
        }
    }

    /// Takes a job that has waited for `span`, and whether it did so because its client has its share.
    pub(super) fn expire(&mut self, now: Instant, span: Duration) -> Option<(J, bool, Todo)> {
        let waited = now.saturating_duration_since(self.jobs.front()?.since());
        let job = if waited >= span { self.remove(0) } else { None }?;
        let is_over = self.client(job.client()).serving >= self.of_client;
        let todo = self.settle(job.client());
        Some((job, is_over && self.of_client < self.most, todo))
    }

    /// To be called now and then while jobs wait: where a worker could not be started, another try is due.
    pub(super) fn tick(&mut self) -> Todo {
        Todo { starts: self.starts(), ..Todo::default() }
    }

    /// Ends it: no job is queued any more, and those that are come back.
    pub(super) fn stop(&mut self) -> VecDeque<J> {
        self.is_stopping = true;
        self.clients.iter_mut().for_each(|client| client.queued = 0);
        self.ready = 0;
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

    /// Whether less than half of the line is taken, and of the client's share of it: the rest is for requests that
    /// come.
    pub(super) fn has_room_in_line(&self, client: usize) -> bool {
        self.jobs.len() < self.most_waiting / 2
            && self.client(client).queued < self.of_client_waiting.div_ceil(2)
    }

    /// Requests that are served, and workers without one.
    pub(super) fn busy_and_idle(&self) -> (usize, usize) {
        (self.alive - self.idle + self.relays, self.idle)
    }

    /// Sees to it that jobs in line are taken, and then that calls which wait on pollers are. Something changed for
    /// this client.
    fn settle(&mut self, client: usize) -> Todo {
        let has_work = self.ready > 0 && self.taken() < self.most;
        let starts = self.starts();
        Todo { starts, notifies: has_work && !starts, wakes: self.wakes(client) }
    }

    /// Whether one more worker is needed, which is counted then.
    fn starts(&mut self) -> bool {
        let has_room = self.taken() < self.most && self.alive < self.most;
        let is_needed = has_room && self.ready > self.idle + self.starting;
        self.alive += usize::from(is_needed);
        self.starting += usize::from(is_needed);
        is_needed
    }

    /// The pollers whose calls may find a place now. They say so again where they do not.
    fn wakes(&mut self, client: usize) -> u64 {
        let of_client = match self.is_over(client) {
            true => 0,
            false => self.clients.get_mut(client).map_or(0, |client| std::mem::take(&mut client.starved)),
        };
        let has_room = self.has_room();
        of_client | if has_room { std::mem::take(&mut self.starved) } else { 0 }
    }
}

#[cfg(test)]
mod explore;
