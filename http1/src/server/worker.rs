//! The workers: threads that are started when a request finds none free, up to the bound, and end when
//! they have had nothing to do for a while. With the calls that pollers serve they share one bound, see
//! [`Places`](super::places::Places).

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use kit::Deadline;
use kit::guarded::wait_while;
use kit::sys::Ready;

use super::answers;
use super::conn::{Conn, Next};
use super::host::Host as _;
use super::places::{Queued as _, Submitted, Todo, bit};
use super::queue::{Job, Work, Workers};
use super::shared::{Shared, close_slowly, finish, put_back};
use super::waits::Parked;
use crate::forward::Cause;
use crate::{Refusal, spare};

/// How long a worker stays without work. Threads are cheap to start, so not for long.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// How long a worker waits for the next request of the connection it has just served. A busy client sends
/// it within this; nobody else waits for the worker meanwhile. Where pollers serve calls the next one is theirs.
const LINGER: Duration = Duration::from_millis(2);

/// At most this many workers linger. Without the bound, one-request clients would find all workers lingering and start
/// a thread each.
const MAX_LINGERING: usize = 8;

/// What became of a request whose head was taken.
enum Opened {
    /// It is for a worker.
    Job(Job),
    /// It was answered at once.
    Answered(Box<Conn>, Next),
    /// It was refused, or its poller has it.
    Gone,
}

impl Job {
    /// Opens the next request of a connection, whose head is there.
    fn open(shared: &Shared, mut conn: Box<Conn>) -> Opened {
        conn.count();
        match shared.open(&mut conn) {
            Ok(Some(mut turn)) => match answers::at_once(shared, &mut conn, &mut turn) {
                None => return Opened::Job(Job::new(conn, Work::Call(turn))),
                Some(answer) => {
                    let sent = answers::answer(shared, conn, turn, answer);
                    return sent.map_or(Opened::Gone, |(conn, next)| Opened::Answered(conn, next));
                }
            },
            Ok(None) => put_back(shared, conn),
            Err(refusal) => {
                conn.refuse(shared, refusal);
                close_slowly(shared, conn);
            }
        }
        Opened::Gone
    }

    /// Refuses a job for want of a worker, or breaks off its answer if one was begun, and closes the connection.
    pub(super) fn give_up(self, shared: &Shared, refusal: Refusal) {
        let Job { mut conn, work, .. } = self;
        let mut turn = match work {
            Work::Call(turn) | Work::End(turn) => turn,
            Work::GoOn { turn, rest } => {
                shared.guarded(turn.path(), || rest.ended(Cause::Refused(refusal)));
                turn
            }
        };
        let mut exchange = shared.exchange(&mut conn, &mut turn);
        exchange.refuse(refusal);
        let next = exchange.end();
        finish(shared, conn, next);
    }
}

impl Workers {
    /// Gives the place of a poller's request back. Whether that poller is to look at its own calls that wait: it need
    /// not wake itself.
    pub(super) fn leave(&self, shared: &Arc<Shared>, poller: usize, client: usize) -> bool {
        let mut todo = self.places().leave(client);
        let has_own = todo.wakes & bit(poller) > 0;
        todo.wakes &= !bit(poller);
        self.act(shared, todo);
        has_own
    }

    /// Queues a job and sees to it that somebody takes it, or refuses it where the queue is full.
    pub(super) fn submit(&self, shared: &Arc<Shared>, job: Job) {
        let submitted = self.places().submit(job);
        match submitted {
            Submitted::Queued(todo) => self.act(shared, todo),
            Submitted::Refused(job) => self.refuse(shared, job),
            Submitted::TooManyOfClient(job) => job.give_up(shared, Refusal::TooManyOfClient),
        }
    }

    fn refuse(&self, shared: &Shared, job: Job) {
        let refusal = if shared.is_stopping() { Refusal::Draining } else { Refusal::Overloaded };
        job.give_up(shared, refusal);
    }

    /// Does what is to be done behind a change of the places.
    fn act(&self, shared: &Arc<Shared>, todo: Todo) {
        if todo.notifies {
            self.available.notify_one();
        }
        if todo.wakes > 0 {
            let lanes = shared.lanes.iter().enumerate();
            lanes
                .filter(|(poller, _)| todo.wakes & bit(*poller) > 0)
                .for_each(|(_, lane)| lane.wake.notify());
        }
        if todo.starts {
            self.start(shared);
        }
    }

    /// Starts a worker. Where that fails those that run take what is in line, or the next try is made in a moment.
    fn start(&self, shared: &Arc<Shared>) {
        let clone = Arc::clone(shared);
        match kit::thread::spawn(&format!("{}-work", shared.config.name), move || run(&clone)) {
            Ok(_) => self.cannot_start.store(false, Relaxed),
            Err(error) => {
                if !self.cannot_start.swap(true, Relaxed) {
                    log::warn!("cannot start a worker: {error}; requests wait, see max_workers");
                }
                let todo = self.places().start_failed();
                self.ended.notify_all();
                self.act(shared, todo);
            }
        }
    }

    /// Keeps the time of jobs in line, now and then: answers 503 to those that have waited for a worker as long as a
    /// head may take, and tries once more to start one where that has failed.
    pub(super) fn keep_time(&self, shared: &Arc<Shared>, now: Instant) {
        loop {
            let expired = self.places().expire(now, shared.config.header_timeout);
            let Some((job, is_over_share, todo)) = expired else { break };
            self.act(shared, todo);
            job.give_up(shared, if is_over_share { Refusal::TooManyOfClient } else { Refusal::Overloaded });
        }
        let todo = self.places().tick();
        self.act(shared, todo);
    }

    /// Waits for the next request of a connection, if there is room for one more that does so.
    fn linger(&self, conn: &Conn) -> bool {
        let has_room = self.lingering.fetch_add(1, Relaxed) < MAX_LINGERING;
        let is_there = has_room && {
            let ready = conn.socket.wait(Ready::READ, Deadline::after(LINGER));
            ready.is_ok_and(Ready::is_any)
        };
        self.lingering.fetch_sub(1, Relaxed);
        is_there
    }

    /// Ends the workers, waits for those without a request, and refuses what is left in line.
    pub(super) fn stop(&self, shared: &Shared) {
        let mut places = self.places();
        let left = places.stop();
        self.available.notify_all();
        drop(wait_while(&self.ended, places, Deadline::NEVER, |places| places.has_unused()));
        left.into_iter().for_each(|job| job.give_up(shared, Refusal::Draining));
    }
}

/// One worker. At its end, even by a panic, it gives its place back.
struct Worker<'a> {
    shared: &'a Arc<Shared>,
    /// The client whose job it serves.
    serves: Option<usize>,
}

impl Worker<'_> {
    /// The next job; `None` when there was none for a while, or at the end.
    fn next(&mut self) -> Option<Job> {
        let workers = &self.shared.workers;
        if let Some(client) = self.serves.take() {
            let todo = workers.places().served(client);
            workers.act(self.shared, todo);
        }
        let give_up = Instant::now() + IDLE_TIME;
        let mut places = workers.places();
        loop {
            if let Some(job) = places.take() {
                self.serves = Some(job.client());
                return Some(job);
            }
            let left = give_up.saturating_duration_since(Instant::now());
            if places.is_stopping() || left.is_zero() {
                return None;
            }
            spare::clear();
            places.rest(true);
            let waited = workers.available.wait_timeout(places, left);
            places = waited.unwrap_or_else(PoisonError::into_inner).0;
            places.rest(false);
        }
    }
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        let workers = &self.shared.workers;
        let todo = workers.places().end_worker(self.serves);
        workers.act(self.shared, todo);
        workers.ended.notify_all();
    }
}

fn run(shared: &Arc<Shared>) {
    let mut worker = Worker { shared, serves: None };
    shared.workers.places().started();
    while let Some(job) = worker.next() {
        serve(&mut worker, job);
    }
}

/// Serves one request after the other while they come quickly, in turn with those that wait.
fn serve(worker: &mut Worker<'_>, mut job: Job) {
    let shared = worker.shared;
    while let Some((conn, next)) = one(shared, job) {
        let Some(next) = next_job(shared, conn, next, wait_for_next) else { return };
        job = shared.workers.places().exchange(next);
        worker.serves = Some(job.client());
    }
}

/// Leaves a connection to its poller, or to a worker where its next request is there already.
fn pass_on(shared: &Arc<Shared>, conn: Box<Conn>, next: Next) {
    if let Some(job) = next_job(shared, conn, next, what_is_there) {
        shared.workers.submit(shared, job);
    }
}

/// The next request of a connection that is for a worker, where `look` finds one. Else the connection is given back.
fn next_job(
    shared: &Shared,
    mut conn: Box<Conn>,
    mut next: Next,
    look: fn(&Shared, &mut Conn) -> Wait,
) -> Option<Job> {
    loop {
        if next != Next::KeepAlive || shared.relays || shared.is_draining() && conn.next_head().is_none() {
            finish(shared, conn, next);
            return None;
        }
        next = match look(shared, &mut conn) {
            Wait::Ready => match Job::open(shared, conn) {
                Opened::Job(job) => return Some(job),
                Opened::Answered(same, next) => {
                    conn = same;
                    next
                }
                Opened::Gone => return None,
            },
            Wait::TooLarge => {
                conn.refuse(shared, Refusal::HeadTooLarge);
                finish(shared, conn, Next::CloseSlowly);
                return None;
            }
            Wait::Later => {
                finish(shared, conn, Next::KeepAlive);
                return None;
            }
            Wait::Gone => {
                finish(shared, conn, Next::Close);
                return None;
            }
        };
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
    // A full server needs idle connections with their pollers, to be given up for new ones.
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

/// Serves one request. `None` when the connection is gone already: the request waits on its poller, or there was work
/// after the answer.
fn one(shared: &Arc<Shared>, job: Job) -> Option<(Box<Conn>, Next)> {
    let Job { mut conn, work, .. } = job;
    let (mut turn, rest) = match work {
        Work::Call(turn) => (turn, None),
        Work::GoOn { turn, rest } => (turn, Some(rest)),
        Work::End(mut turn) => {
            let next = shared.exchange(&mut conn, &mut turn).end();
            return Some((conn, next));
        }
    };
    turn.seat = None;
    let mut exchange = shared.exchange(&mut conn, &mut turn);
    let result = panic::catch_unwind(AssertUnwindSafe(|| match rest {
        Some(rest) => rest.go_on(&mut exchange),
        None => shared.service.call(&mut exchange),
    }));
    if result.is_err() {
        shared.count_panic(exchange.request().path());
    }
    if let Some(waiting) = exchange.take_waiting() {
        drop(exchange);
        let lane = &shared.lanes[conn.poller];
        lane.parked().push(Parked { conn, turn, waiting });
        lane.wake.notify();
        return None;
    }
    let work = exchange.take_work_after();
    let next = exchange.end();
    let Some(work) = work else { return Some((conn, next)) };
    let path = turn.path().to_vec();
    pass_on(shared, conn, next);
    shared.guarded(&path, work);
    None
}

#[cfg(test)]
mod tests {
    use kit::sys::{Listener, Socket};

    use super::super::memory::{Memory, Share};
    use super::super::table::Token;
    use super::super::turn::Turn;
    use super::super::{Exchange, Server, ServerConfig, Service};
    use super::*;
    use crate::{HeadWriter, Length};

    fn listener() -> Listener {
        Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    /// Both ends of a connection.
    fn pair() -> (Socket, Socket) {
        let listener = listener();
        let client = Socket::connect(listener.address().unwrap(), Deadline::NEVER).unwrap();
        loop {
            if let Some((server, _)) = listener.accept().unwrap() {
                return (client, server);
            }
        }
    }

    #[test]
    fn so_many_workers_linger_and_no_more() {
        let (client, server) = pair();
        drop(client); // the end is something to be read
        server.wait(Ready::READ, Deadline::NEVER).unwrap();
        let share = Share::of(&Memory::new(0));
        let conn = Conn::new((server, "127.0.0.1:1".parse().unwrap(), 0), 0, Token::of(0), share);
        let workers = Workers::new(&ServerConfig::default());
        for (others, may) in [(0, true), (MAX_LINGERING - 1, true), (MAX_LINGERING, false)] {
            workers.lingering.store(others, Relaxed);
            assert_eq!((workers.linger(&conn), workers.lingering.load(Relaxed)), (may, others));
        }
    }

    struct Nobody;

    impl Service for Nobody {
        fn call(&self, _: &mut Exchange<'_>) {}
    }

    /// The job of a call whose answer has begun, as after a panic of its poller; no worker takes it.
    #[test]
    fn a_begun_answer_is_broken_off_and_no_refusal_follows_it() {
        let server = Server::start(listener(), ServerConfig::default(), Arc::new(Nobody)).unwrap();
        let (client, socket) = pair();
        client.send_bytes(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let shared = &server.shared;
        let token = shared.lanes[0].table().reserve();
        let share = Share::of(&shared.memory);
        let mut conn = Box::new(Conn::new((socket, "127.0.0.1:1".parse().unwrap(), 0), 0, token, share));
        while conn.next_head().is_none() {
            conn.socket.wait(Ready::READ, Deadline::NEVER).unwrap();
            conn.fill(1024).unwrap();
        }
        let request = conn.take_request(&shared.config).unwrap();
        let mut turn = Turn::new(&shared.config, request, true);
        let mut exchange = shared.exchange(&mut conn, &mut turn);
        exchange.start(HeadWriter::response(200), Length::Known(9));
        assert_eq!(exchange.write(b"half").unwrap(), 4);
        Job::new(conn, Work::End(turn)).give_up(shared, Refusal::Overloaded);
        let mut answer = Vec::with_capacity(4096);
        let end = loop {
            client.wait(Ready::READ, Deadline::NEVER).unwrap();
            match client.receive(&mut answer) {
                Ok(Some(1..) | None) => {}
                end => break end,
            }
        };
        let answer = String::from_utf8(answer).unwrap();
        assert!(end.is_err() && !answer.contains("503"), "{end:?} after {answer}");
        assert_eq!(shared.stats().connections_active, 0);
    }
}
