//! The workers: threads that are started when a request finds none free, up to the bound, and end when
//! they have had nothing to do for a while. With the calls that pollers serve they share one bound.

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kit::Deadline;
use kit::sys::Ready;

use super::conn::{Conn, Next};
use super::exchange::{Exchange, Turn};
use super::poller::{close, close_slowly, put_back};
use super::{Relay, Shared, Stats, Waiting};
use crate::forward::{Cause, End, Upload};
use crate::{Connection, Refusal, spare};

/// How long a worker stays without work. Threads are cheap to start, so not for long.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// How long a worker waits for the next request of the connection it has just served. A busy client sends
/// it within this; nobody else waits for the worker meanwhile. Where pollers serve calls the next one is theirs.
const LINGER: Duration = Duration::from_millis(2);

/// How many workers do so at a time: clients of one request each, one after the other, would find none free, and have a
/// thread started each.
const MAX_LINGERING: usize = 8;

/// Threads beyond the bound that serve what [`Service::urgent_threads`](super::Service::urgent_threads) names while all
/// workers are busy. Such requests are rare and quick; more of them wait in line, for a worker or one of these.
pub const MAX_URGENT: usize = 2;

/// Something to be done for a connection.
pub(super) struct Job {
    pub(super) conn: Box<Conn>,
    pub(super) work: Work,
    /// How many threads the service has for it, and ones like it, beyond the workers.
    pub(super) urgent_threads: usize,
    /// When it began to wait for a worker.
    pub(super) since: Instant,
}

pub(super) enum Work {
    /// The request whose head is there.
    Request,
    /// A request whose head was taken.
    Call(Turn),
    /// What a transfer left undone.
    GoOn { turn: Turn, relay: Box<dyn Relay>, parts: Box<(End, Box<Connection>, Upload)> },
    /// A request that has waited.
    Waited { turn: Turn, waiting: Box<dyn Waiting> },
    /// A request whose service panicked.
    End(Turn),
}

impl Job {
    pub(super) fn new(conn: Box<Conn>, work: Work) -> Job {
        Job { conn, work, urgent_threads: 0, since: Instant::now() }
    }

    /// The next request of a connection, whose head is there.
    pub(super) fn request(shared: &Shared, conn: Box<Conn>) -> Job {
        let urgent_threads = conn.urgent_threads(shared);
        Job { urgent_threads, ..Job::new(conn, Work::Request) }
    }

    /// Refuses it for want of a worker. The connection is to be closed.
    pub(super) fn give_up(self, shared: &Shared, refusal: Refusal) -> Box<Conn> {
        let Job { mut conn, work, .. } = self;
        match work {
            Work::GoOn { relay, parts, .. } => relay.ended(End::Broken(Cause::Refused(refusal)), parts.1),
            Work::Waited { waiting, .. } => waiting.ended(Cause::Refused(refusal)),
            Work::Request | Work::Call(_) | Work::End(_) => {}
        }
        conn.refuse(shared, refusal);
        conn
    }
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
    /// `State::serving`, likewise.
    serving: AtomicUsize,
    /// Calls that pollers serve.
    relays: AtomicUsize,
    /// Workers that wait for the next request of a connection.
    lingering: AtomicUsize,
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
            serving: AtomicUsize::new(0),
            relays: AtomicUsize::new(0),
            lingering: AtomicUsize::new(0),
        }
    }

    /// Takes the place of a call that a poller serves, if there is one beyond those for whoever waits in line. A job that
    /// is about to be taken by a worker keeps nobody from the places that are left.
    pub(super) fn begin_relay(&self, shared: &Arc<Shared>) -> bool {
        let others = self.relays.fetch_add(1, SeqCst) + self.serving.load(SeqCst);
        let has_room = others + self.waiting.load(SeqCst) < shared.config.max_workers;
        if !has_room {
            self.end_relay(shared); // a worker may have left a job for it
        }
        has_room
    }

    /// Gives the place of a call back, to a request that waits if there is one.
    pub(super) fn end_relay(&self, shared: &Arc<Shared>) {
        self.relays.fetch_sub(1, SeqCst);
        if self.has_waiting() {
            let state = self.lock();
            if !state.jobs.is_empty() {
                let _ = self.see_to_it(shared, state); // those that run will take it
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job and sees to it that somebody takes it. The job comes back where the queue is full.
    pub(super) fn submit(&self, shared: &Arc<Shared>, job: Job) -> Result<(), Box<Job>> {
        let mut state = self.lock();
        let taken = state.serving + self.relays.load(SeqCst);
        let is_full = state.jobs.len() + taken >= shared.config.max_workers;
        if is_full && !state.is_stopping && state.urgent < job.urgent_threads {
            return self.submit_urgent(shared, state, job);
        }
        let bound = shared.config.max_workers + shared.config.max_waiting();
        if state.is_stopping || state.jobs.len() + taken >= bound {
            return Err(Box::new(job));
        }
        state.jobs.push_back(job);
        self.waiting.store(state.jobs.len(), SeqCst);
        match self.see_to_it(shared, state) {
            Ok(()) => Ok(()),
            Err(mut state) => {
                let job = state.jobs.pop_back();
                self.waiting.store(state.jobs.len(), SeqCst);
                job.map_or(Ok(()), |job| Err(Box::new(job)))
            }
        }
    }

    /// Whether one more may be served.
    fn has_room(&self, shared: &Shared, state: &State) -> bool {
        state.serving + self.relays.load(SeqCst) < shared.config.max_workers
    }

    /// Sees to it that somebody takes the jobs in the queue. The lock comes back where nobody will.
    fn see_to_it<'a>(
        &self,
        shared: &Arc<Shared>,
        mut state: MutexGuard<'a, State>,
    ) -> Result<(), MutexGuard<'a, State>> {
        let may_start = state.alive < shared.config.max_workers && self.has_room(shared, &state);
        if state.jobs.len() > state.idle && may_start {
            let clone = Arc::clone(shared);
            match kit::thread::spawn(&format!("{}-work", shared.config.name), move || run(&clone)) {
                Ok(_) => state.alive += 1,
                Err(error) if state.alive == 0 => {
                    log::warn!("cannot start a worker: {error}; see max_workers");
                    return Err(state);
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
                serve_urgent(&clone, job);
                next = clone.workers.next_urgent();
            }
        };
        match kit::thread::spawn(&format!("{}-urgent", shared.config.name), serve) {
            Ok(_) => state.urgent += 1,
            Err(_) => return take(&place).map_or(Ok(()), |job| Err(Box::new(job))),
        }
        Ok(())
    }

    /// The first urgent job in line, if there is room for it: it came while the threads for such were about to end.
    fn next_urgent(&self) -> Option<Job> {
        let mut state = self.lock();
        let urgent = state.urgent;
        let place = state.jobs.iter().position(|job| urgent < job.urgent_threads)?;
        let job = state.jobs.remove(place)?;
        self.waiting.store(state.jobs.len(), SeqCst);
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
    fn next(&self, shared: &Shared, served: bool) -> Option<Job> {
        let mut state = self.lock();
        state.serving -= usize::from(served);
        self.serving.store(state.serving, SeqCst);
        let give_up = Instant::now() + IDLE_TIME;
        loop {
            if let Some(job) = self.begin_job(shared, &mut state) {
                return Some(job);
            }
            let left = give_up.saturating_duration_since(Instant::now());
            if state.is_stopping || left.is_zero() {
                state.alive -= 1;
                self.ended.notify_all();
                return None;
            }
            spare::clear();
            state.idle += 1;
            let waited = self.available.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
        }
    }

    /// Takes the first job, if there is room for one more. Whoever makes room notifies those that found none.
    fn begin_job(&self, shared: &Shared, state: &mut State) -> Option<Job> {
        if state.jobs.is_empty() {
            return None;
        }
        // Counted before the pollers' calls are looked at, as they do it: two must not have the last place.
        self.serving.store(state.serving + 1, SeqCst);
        let job = if self.has_room(shared, state) { state.jobs.pop_front() } else { None };
        state.serving += usize::from(job.is_some());
        self.serving.store(state.serving, SeqCst);
        self.waiting.store(state.jobs.len(), SeqCst);
        job
    }

    /// Waits for the next request of a connection, if there is room for one more that does so.
    fn linger(&self, conn: &Conn) -> bool {
        let has_room = self.lingering.fetch_add(1, SeqCst) < MAX_LINGERING;
        let is_there = has_room && {
            let ready = conn.socket.wait(Ready::READ, Deadline::after(LINGER));
            ready.is_ok_and(Ready::is_any)
        };
        self.lingering.fetch_sub(1, SeqCst);
        is_there
    }

    /// Whether less than half of the line is taken: the rest is for requests that come.
    pub(super) fn has_room_in_line(&self, shared: &Shared) -> bool {
        self.waiting.load(SeqCst) < shared.config.max_waiting() / 2
    }

    fn has_waiting(&self) -> bool {
        self.waiting.load(SeqCst) > 0
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
            self.waiting.store(state.jobs.len(), SeqCst);
            drop(state);
            if let Some(job) = job {
                close_slowly(shared, job.give_up(shared, Refusal::Overloaded));
            }
        }
    }

    pub(super) fn add_stats(&self, stats: &mut Stats) {
        let state = self.lock();
        stats.workers_idle = state.idle;
        stats.workers_busy = state.alive - state.idle + self.relays.load(SeqCst);
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
    while let Some(job) = shared.workers.next(shared, served) {
        serve(shared, job);
        served = true;
    }
}

/// Serves one request after the other while they come quickly, in turn with those that wait.
fn serve(shared: &Arc<Shared>, mut job: Job) {
    loop {
        let Some((mut conn, next)) = one(shared, job) else { return };
        if next != Next::KeepAlive || shared.relays || shared.is_draining() && conn.next_head().is_none() {
            return finish(shared, conn, next);
        }
        match wait_for_next(shared, &mut conn) {
            Wait::Ready if !shared.workers.has_waiting() => job = Job::request(shared, conn),
            Wait::Ready => job = shared.workers.exchange(Job::request(shared, conn)),
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
fn serve_urgent(shared: &Arc<Shared>, job: Job) {
    let served = one(shared, job);
    shared.workers.lock().urgent -= 1;
    if let Some((conn, next)) = served {
        pass_on(shared, conn, next);
    }
}

/// Leaves a connection to its poller, or to a worker where its next request is there already.
fn pass_on(shared: &Arc<Shared>, mut conn: Box<Conn>, next: Next) {
    if next != Next::KeepAlive || shared.relays || conn.next_head().is_none() {
        return finish(shared, conn, next);
    }
    if let Err(job) = shared.workers.submit(shared, Job::request(shared, conn)) {
        close_slowly(shared, job.give_up(shared, Refusal::Overloaded));
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
    if !shared.workers.linger(conn) {
        return Wait::Later;
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

/// Serves one request; `None` where its connection was given away: to its poller, to wait, or because there was work
/// after the answer.
fn one(shared: &Arc<Shared>, job: Job) -> Option<(Box<Conn>, Next)> {
    enum Rest {
        Relay(Box<dyn Relay>, Box<(End, Box<Connection>, Upload)>),
        Waited(Box<dyn Waiting>),
    }
    let Job { mut conn, work, .. } = job;
    let (mut turn, rest) = match work {
        Work::Request => match conn.take_request(shared) {
            Ok(request) => (Turn::new(&conn, request), None),
            Err(refusal) => {
                conn.refuse(shared, refusal);
                return Some((conn, Next::CloseSlowly));
            }
        },
        Work::Call(turn) => (turn, None),
        Work::GoOn { turn, relay, parts } => (turn, Some(Rest::Relay(relay, parts))),
        Work::Waited { turn, waiting } => (turn, Some(Rest::Waited(waiting))),
        Work::End(mut turn) => {
            let next = Exchange::new(shared, &mut conn, &mut turn).end();
            return Some((conn, next));
        }
    };
    let mut exchange = Exchange::new(shared, &mut conn, &mut turn);
    let result = panic::catch_unwind(AssertUnwindSafe(|| match rest {
        Some(Rest::Relay(relay, parts)) => relay.go_on(&mut exchange, *parts),
        Some(Rest::Waited(waiting)) => waiting.go_on(&mut exchange),
        None => shared.service.call(&mut exchange),
    }));
    if result.is_err() {
        shared.count_panic(exchange.request().path());
    }
    if exchange.is_left_to_wait() {
        let lane = &shared.lanes[conn.poller];
        lane.parked().push((conn, turn));
        lane.wake.notify();
        return None;
    }
    let next = exchange.end();
    let Some(work) = turn.take_work_after() else { return Some((conn, next)) };
    let path = turn.path().to_vec();
    pass_on(shared, conn, next);
    if panic::catch_unwind(AssertUnwindSafe(work)).is_err() {
        shared.count_panic(&path);
    }
    None
}

/// Gives a connection back to its poller, or closes it.
pub(super) fn finish(shared: &Shared, mut conn: Box<Conn>, next: Next) {
    match next {
        Next::Close => close(shared, conn),
        Next::CloseSlowly => close_slowly(shared, conn),
        Next::KeepAlive => {
            conn.await_next(Instant::now());
            put_back(shared, conn);
        }
    }
}

#[cfg(test)]
mod tests {
    use kit::sys::{Listener, Socket};

    use super::super::table::Token;
    use super::*;

    #[test]
    fn so_many_workers_linger_and_no_more() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address().unwrap();
        let client = Socket::connect(address, Deadline::NEVER).unwrap();
        let server = Socket::connect(address, Deadline::NEVER).unwrap();
        drop((client, listener)); // the end is something to be read
        server.wait(Ready::READ, Deadline::NEVER).unwrap();
        let conn = Conn::new(server, address, 0, Token::of(0));
        let workers = Workers::new();
        for (others, may) in [(0, true), (MAX_LINGERING - 1, true), (MAX_LINGERING, false)] {
            workers.lingering.store(others, SeqCst);
            assert_eq!((workers.linger(&conn), workers.lingering.load(SeqCst)), (may, others));
        }
    }
}
