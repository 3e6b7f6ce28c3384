//! The workers: threads that are started when a request finds none free, up to the bound, and end when
//! they have had nothing to do for a while.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kit::Deadline;
use kit::sys::Ready;

use super::exchange::{Conn, Exchange, Next};
use super::poller::{close_slowly, put_back};
use super::table::Phase;
use super::{Shared, Stats};
use crate::Refusal;

/// How long a worker stays without work. Threads are cheap to start, so not for long.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// How long a worker waits for the next request of the connection it has just served. A busy client sends
/// it within this; nobody else waits for the worker meanwhile.
const LINGER: Duration = Duration::from_millis(2);

/// Threads beyond the bound that serve what [`Service::urgent_threads`](super::Service::urgent_threads) names while all
/// workers are busy. Such requests are rare and quick; more of them wait in line, for a worker or one of these.
pub const MAX_URGENT: usize = 2;

/// A request whose head is complete, with its connection.
pub(super) struct Job {
    pub(super) conn: Conn,
    /// When it began to wait for a worker.
    pub(super) since: Instant,
}

struct State {
    jobs: VecDeque<Job>,
    idle: usize,
    /// Workers with a request.
    serving: usize,
    alive: usize,
    /// Threads with an urgent request; they are not among the others.
    urgent: usize,
    is_stopping: bool,
}

pub(super) struct Workers {
    state: Mutex<State>,
    available: Condvar,
    /// A worker ended. They are waited for by number and not by their handles: a thread whose handle is kept
    /// keeps its stack, and most end long before anybody would join them.
    ended: Condvar,
    /// The length of the queue, to be looked at without the lock.
    waiting: AtomicUsize,
}

impl Workers {
    pub(super) fn new() -> Workers {
        let state =
            State { jobs: VecDeque::new(), idle: 0, serving: 0, alive: 0, urgent: 0, is_stopping: false };
        Workers {
            state: Mutex::new(state),
            available: Condvar::new(),
            ended: Condvar::new(),
            waiting: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job and sees to it that somebody takes it. The job comes back where the queue is full.
    pub(super) fn submit(&self, shared: &Arc<Shared>, job: Job) -> Result<(), Box<Job>> {
        let mut state = self.lock();
        let is_full = state.jobs.len() >= state.idle && state.alive >= shared.config.max_workers;
        if is_full && !state.is_stopping && state.urgent < job.conn.urgent_threads(shared) {
            return self.submit_urgent(shared, state, job);
        }
        // Requests that a worker is about to take do not wait, also while its thread is just starting.
        if state.jobs.len() + state.serving >= shared.config.max_workers + shared.config.max_waiting() {
            return Err(Box::new(job));
        }
        state.jobs.push_back(job);
        self.waiting.store(state.jobs.len(), Ordering::Relaxed);
        if state.jobs.len() > state.idle && state.alive < shared.config.max_workers {
            let clone = Arc::clone(shared);
            match kit::thread::spawn(&format!("{}-work", shared.config.name), move || run(&clone)) {
                Ok(_) => state.alive += 1,
                Err(error) if state.alive == 0 => {
                    log::warn!("cannot start a worker: {error}; see max_workers");
                    self.waiting.store(state.jobs.len() - 1, Ordering::Relaxed);
                    return state.jobs.pop_back().map_or(Ok(()), |job| Err(Box::new(job)));
                }
                Err(_) => {} // those that run will take it
            }
        }
        drop(state);
        self.available.notify_one();
        Ok(())
    }

    /// Serves a job on a thread of its own, and those that it finds in line behind it.
    fn submit_urgent(
        &self,
        shared: &Arc<Shared>,
        mut state: MutexGuard<'_, State>,
        job: Job,
    ) -> Result<(), Box<Job>> {
        // Handed over in a place of its own: a thread that cannot be started loses what it was given.
        let place = Arc::new(Mutex::new(Some(job)));
        let (clone, theirs) = (Arc::clone(shared), Arc::clone(&place));
        let take = |place: &Mutex<Option<Job>>| place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let serve = move || {
            let mut next = take(&theirs); // nobody else takes it once this runs
            while let Some(job) = next {
                serve_urgent(&clone, job.conn);
                next = clone.workers.next_urgent(&clone);
            }
        };
        match kit::thread::spawn(&format!("{}-urgent", shared.config.name), serve) {
            Ok(_) => state.urgent += 1,
            Err(_) => return take(&place).map_or(Ok(()), |job| Err(Box::new(job))),
        }
        Ok(())
    }

    /// The first urgent job in line, if there is room for it: it came while the threads for such were about to end.
    fn next_urgent(&self, shared: &Shared) -> Option<Job> {
        let mut state = self.lock();
        let urgent = state.urgent;
        let place = state.jobs.iter().position(|job| urgent < job.conn.urgent_threads(shared))?;
        let job = state.jobs.remove(place)?;
        self.waiting.store(state.jobs.len(), Ordering::Relaxed);
        state.urgent += 1;
        Some(job)
    }

    /// Queues the next request of a connection behind all that wait and answers the first: the worker that
    /// brings it is free to take that one, so that there is always room.
    fn exchange(&self, job: Job) -> Job {
        let mut state = self.lock();
        match state.jobs.pop_front() {
            Some(first) => {
                state.jobs.push_back(job);
                first
            }
            None => job,
        }
    }

    /// The next job, after one that was `served`; `None` when there was none for a while, or at the end.
    fn next(&self, served: bool) -> Option<Job> {
        let mut state = self.lock();
        state.serving -= usize::from(served);
        let give_up = Instant::now() + IDLE_TIME;
        loop {
            if let Some(job) = state.jobs.pop_front() {
                self.waiting.store(state.jobs.len(), Ordering::Relaxed);
                state.serving += 1;
                return Some(job);
            }
            let left = give_up.saturating_duration_since(Instant::now());
            if state.is_stopping || left.is_zero() {
                state.alive -= 1;
                self.ended.notify_all();
                return None;
            }
            state.idle += 1;
            let waited = self.available.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
        }
    }

    fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Answers 503 to the requests that have waited for a worker as long as a head may take.
    pub(super) fn expire(&self, shared: &Shared, now: Instant) {
        loop {
            let mut state = self.lock();
            let is_due = |job: &Job| now.saturating_duration_since(job.since) >= shared.config.header_timeout;
            if !state.jobs.front().is_some_and(is_due) {
                return;
            }
            let job = state.jobs.pop_front();
            self.waiting.store(state.jobs.len(), Ordering::Relaxed);
            drop(state);
            if let Some(mut job) = job {
                job.conn.refuse(shared, Refusal::Overloaded);
                finish(shared, job.conn, Next::CloseSlowly);
            }
        }
    }

    pub(super) fn add_stats(&self, stats: &mut Stats) {
        let state = self.lock();
        stats.workers_idle = state.idle;
        stats.workers_busy = state.alive - state.idle;
        stats.waiting = state.jobs.len();
    }

    /// Ends the workers and waits for those without a request.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.is_stopping = true;
        state.jobs.clear();
        self.available.notify_all();
        while state.alive > state.serving {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn run(shared: &Arc<Shared>) {
    let mut served = false;
    while let Some(job) = shared.workers.next(served) {
        serve(shared, job.conn);
        served = true;
    }
}

/// Serves one request after the other while they come quickly, in turn with those that wait.
fn serve(shared: &Arc<Shared>, mut conn: Conn) {
    loop {
        let next = one(shared, &mut conn);
        if next != Next::KeepAlive || shared.is_draining() && conn.next_head().is_none() {
            return finish(shared, conn, next);
        }
        match wait_for_next(shared, &mut conn) {
            Wait::Ready if !shared.workers.has_waiting() => {}
            Wait::Ready => conn = shared.workers.exchange(Job { conn, since: Instant::now() }).conn,
            Wait::TooLarge => {
                conn.refuse(shared, Refusal::HeadTooLarge);
                return finish(shared, conn, Next::CloseSlowly);
            }
            Wait::Later => return finish(shared, conn, Next::KeepAlive),
            Wait::Gone => return finish(shared, conn, Next::Close),
        }
    }
}

/// Serves one urgent request, and gives its place up before its connection: what follows on that, urgent or not, is
/// submitted like any other.
fn serve_urgent(shared: &Arc<Shared>, mut conn: Conn) {
    let next = one(shared, &mut conn);
    shared.workers.lock().urgent -= 1;
    if next != Next::KeepAlive || conn.next_head().is_none() {
        return finish(shared, conn, next);
    }
    if let Err(mut job) = shared.workers.submit(shared, Job { conn, since: Instant::now() }) {
        job.conn.refuse(shared, Refusal::Overloaded);
        finish(shared, job.conn, Next::CloseSlowly);
    }
}

enum Wait {
    /// A complete head is there.
    Ready,
    /// Nothing, or not enough: the poller's work.
    Later,
    /// More than a head may have, and not its end.
    TooLarge,
    Gone,
}

fn wait_for_next(shared: &Shared, conn: &mut Conn) -> Wait {
    match what_is_there(shared, conn) {
        Wait::Later => {}
        other => return other,
    }
    // In a full server it is the poller's, to be given up for a new one.
    if shared.workers.has_waiting() || shared.is_draining() || shared.is_full() {
        return Wait::Later;
    }
    match conn.socket().wait(Ready::READ, Deadline::after(LINGER)) {
        Ok(ready) if ready.is_any() => {}
        _ => return Wait::Later,
    }
    match conn.fill(shared.config.max_header_bytes) {
        Ok(Some(0)) | Err(_) => Wait::Gone,
        Ok(_) => what_is_there(shared, conn),
    }
}

fn what_is_there(shared: &Shared, conn: &mut Conn) -> Wait {
    match conn.next_head() {
        Some(_) => Wait::Ready, // one that is too large is refused when it is taken
        None if conn.is_over(shared.config.max_header_bytes) => Wait::TooLarge,
        None => Wait::Later,
    }
}

fn one(shared: &Shared, conn: &mut Conn) -> Next {
    let request = match conn.take_request(shared) {
        Ok(request) => request,
        Err(refusal) => {
            conn.refuse(shared, refusal);
            return Next::CloseSlowly;
        }
    };
    let mut exchange = Exchange::new(shared, conn, request);
    let result = panic::catch_unwind(AssertUnwindSafe(|| shared.service.call(&mut exchange)));
    if result.is_err() {
        shared.panics.fetch_add(1, Ordering::Relaxed);
        log::error!("serving {} panicked", String::from_utf8_lossy(exchange.request().path()));
    }
    exchange.end()
}

/// Gives a connection back to the poller, or closes it.
fn finish(shared: &Shared, conn: Conn, next: Next) {
    let is_last = shared.is_draining() && !conn.has_input();
    let (token, mut waiting) = conn.into_waiting();
    match next {
        Next::KeepAlive if is_last => {
            drop(waiting);
            shared.table().release(token);
        }
        Next::Close => {
            drop(waiting);
            shared.table().release(token);
        }
        Next::CloseSlowly => close_slowly(shared, token, waiting),
        Next::KeepAlive => {
            waiting.phase = if waiting.buffer.is_empty() { Phase::Idle } else { Phase::Head };
            waiting.since = Instant::now();
            put_back(shared, token, waiting);
        }
    }
}
