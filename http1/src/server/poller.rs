//! The poller: accepts connections, reads heads, keeps timeouts. It blocks in epoll_wait alone.

use std::io;
use std::os::fd::AsFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kit::sys::{Listener, Ready, poll::Event};

use super::answers;
use super::config::MAX_LISTENERS;
use super::conn::{Conn, Next};
use super::host::Host as _;
use super::queue::{Job, Work};
use super::relays::{Held, Relays, Running, Step, UPSTREAM};
use super::service::{Answer, Course};
use super::shared::{Lane, Shared, close, close_slowly, finish, put_back, rearm};
use super::table::{Phase, Token};
use super::turn::Turn;
use super::waits::{Parked, Waits};
use crate::forward::End;
use crate::{Refusal, spare};

/// Reports taken at a time.
const EVENTS: usize = 64;

/// How long, and how much, is read from a refused peer so that it sees its answer rather than a reset.
const CLOSING_TIME: Duration = Duration::from_secs(2);
const CLOSING_BYTES: usize = 1024 * 1024;

/// The time left for a head, or the first bytes of a body, once the server drains: a slow client must not hold it up.
const DRAIN_HEAD_TIME: Duration = Duration::from_secs(1);

/// How long a connection is kept between requests then, and how often they are looked at.
const DRAIN_IDLE_TIME: Duration = Duration::from_millis(500);
const DRAIN_TICK: Duration = Duration::from_millis(100);

/// Tokens that no connection has: the event descriptor's, and below it those of the listeners.
const WAKE: u64 = u64::MAX;
pub(super) const FIRST_LISTENER: u64 = WAKE - MAX_LISTENERS as u64;

pub(super) struct Poller {
    pub(super) shared: Arc<Shared>,
    pub(super) number: usize,
    /// The first poller's, until it stops accepting.
    pub(super) listeners: Vec<Listener>,
    /// The poller to which the last connection was given.
    pub(super) last_given: usize,
    relays: Relays,
    pub(super) waits: Waits,
    /// Connections that have more to do at once.
    ready: Vec<Token>,
    /// The resolution of the timeouts of waiting connections.
    tick: Duration,
    /// The time as of the last events, or after they were handled.
    pub(super) now: Instant,
    pub(super) paused_until: Option<Instant>,
    /// When it saw that the server is being stopped.
    draining_since: Option<Instant>,
}

impl Poller {
    pub(super) fn new(shared: Arc<Shared>, number: usize, listeners: Vec<Listener>) -> io::Result<Poller> {
        let config = &shared.config;
        let shortest = config.header_timeout.min(config.idle_timeout).min(config.body_stall_timeout);
        let shortest = shortest.min(config.write_stall_timeout).min(CLOSING_TIME);
        let tick = (shortest / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let lane = &shared.lanes[number];
        for (listener, token) in listeners.iter().zip(FIRST_LISTENER..) {
            lane.epoll.add(listener.as_fd(), token, Ready::READ)?;
        }
        lane.epoll.add(lane.wake.as_fd(), WAKE, Ready::READ)?;
        Ok(Poller {
            shared,
            number,
            listeners,
            last_given: 0,
            relays: Relays::default(),
            waits: Waits::default(),
            ready: Vec::new(),
            tick,
            now: Instant::now(),
            paused_until: None,
            draining_since: None,
        })
    }

    pub(super) fn lane(&self) -> &Lane {
        &self.shared.lanes[self.number]
    }

    pub(super) fn run(mut self) {
        let mut events = [Event::EMPTY; EVENTS];
        let mut next_sweep = Instant::now() + self.tick;
        while !self.shared.is_stopping() {
            let count = match self.lane().epoll.wait(&mut events, self.timeout(next_sweep)) {
                Ok(count) => count,
                Err(error) => {
                    log::error!("epoll_wait failed: {error}");
                    break;
                }
            };
            self.now = Instant::now();
            for event in &events[..count] {
                match event.token() {
                    WAKE => self.woken(),
                    token @ FIRST_LISTENER.. => self.accept((token - FIRST_LISTENER) as usize),
                    number if number & UPSTREAM != 0 => self.upstream(number & !UPSTREAM, event.ready()),
                    number => self.client(Token::of(number), event.ready()),
                }
            }
            for token in std::mem::take(&mut self.ready) {
                self.client(token, Ready::READ);
            }
            self.keep_time(&mut next_sweep);
        }
        for parked in self.waits.take_all() {
            self.give_up(parked, Refusal::Draining);
        }
        let owed = self.lane().table().due(|conn| conn.phase == Phase::Body);
        for token in owed {
            self.end_with(token, Refusal::Draining);
        }
        let unread = self.lane().table().due(|conn| conn.phase == Phase::Answering);
        for token in unread {
            let taken = self.lane().table().take(token);
            taken.into_iter().for_each(|conn| answers::give_up(&self.shared, conn));
        }
    }

    /// Refuses the request of a waiting connection.
    fn end_with(&self, token: Token, refusal: Refusal) {
        let taken = self.lane().table().take(token);
        if let Some(mut conn) = taken {
            conn.refuse(&*self.shared, refusal);
            self.forget(conn);
        }
    }

    fn keep_time(&mut self, next_sweep: &mut Instant) {
        let now = Instant::now();
        self.now = now;
        while let Some(running) = self.relays.due(now) {
            self.advance(running, Some(now));
        }
        self.look_at_waits(now);
        if self.paused_until.is_some_and(|until| now >= until) {
            self.paused_until = None;
            (0..self.listeners.len()).for_each(|which| self.listen(which));
        }
        let tick = if self.draining_since.is_some() { self.tick.min(DRAIN_TICK) } else { self.tick };
        *next_sweep = (now + tick).min(*next_sweep);
        if now >= *next_sweep {
            self.sweep(now);
            *next_sweep = now + tick;
        }
    }

    /// The time until the next timeout. `None` when there is none: an idle server does not wake up.
    fn timeout(&self, next_sweep: Instant) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let sweep = (self.lane().table().len() > 0).then_some(next_sweep);
        let alarms = [self.paused_until, sweep, self.relays.next_alarm(), self.waits.next_look()];
        let next = alarms.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(self.now))
    }

    fn woken(&mut self) {
        let lane = self.lane();
        lane.wake.clear();
        if let Err(error) = lane.epoll.arm(lane.wake.as_fd(), WAKE, Ready::READ) {
            log::error!("waking the poller failed: {error}");
        }
        let left = std::mem::take(&mut *self.lane().parked());
        left.into_iter().for_each(|parked| self.wait_with(parked));
        self.waits.wake(self.now);
        if self.shared.stops_accepting.load(Ordering::Acquire) {
            self.stop_accepting();
        }
        if self.shared.is_draining() {
            self.draining_since.get_or_insert(self.now);
        }
    }

    /// Something happened on an upstream connection.
    fn upstream(&mut self, fd: u64, ready: Ready) {
        if let Some(mut running) = self.relays.take_by_upstream(fd as usize) {
            if ready.is_readable() {
                running.transfer.upstream_is_ready(ready.is_hung_up());
            }
            self.advance(running, None);
        }
    }

    /// Something happened on a client's connection.
    fn client(&mut self, token: Token, ready: Ready) {
        if let Some(mut running) = self.relays.take(token) {
            if ready.is_readable() {
                running.conn.incoming.notice();
            }
            running.conn.is_hung_up |= ready.is_hung_up();
            return self.advance(running, None);
        }
        if let Some(parked) = self.waits.get(token) {
            if ready.is_readable() {
                parked.conn.incoming.notice();
            }
            parked.conn.is_hung_up |= ready.is_hung_up();
            return self.leave_if_gone(token);
        }
        let taken = self.lane().table().take(token);
        match taken {
            Some(conn) if conn.phase == Phase::Closing => self.discard(conn),
            Some(mut conn) => {
                conn.is_hung_up |= ready.is_hung_up();
                match conn.phase {
                    Phase::Body => return self.await_body(conn),
                    Phase::Answering => return self.go_on_answering(conn, ready),
                    _ => {}
                }
                match conn.next_head() {
                    Some(_) => self.received(conn),
                    None if ready.is_readable() => self.read(conn),
                    None => self.wait_on(conn),
                }
            }
            None => {}
        }
    }

    pub(super) fn read(&mut self, mut conn: Box<Conn>) {
        match conn.fill(spare::FIRST_BYTES) {
            Ok(None) => self.wait_on(conn),
            Ok(Some(0)) | Err(_) => self.forget(conn),
            Ok(Some(_)) => self.received(conn),
        }
    }

    fn received(&mut self, mut conn: Box<Conn>) {
        let limit = self.shared.config.max_header_bytes;
        match conn.next_head() {
            Some(end) if end <= limit && self.shared.has_memory_for(end) => self.begin(conn),
            Some(end) if end <= limit => self.refuse(conn, Refusal::HeadMemory),
            None if !conn.is_over(limit) => {
                if let Some(refusal) = conn.why_start() {
                    return self.refuse(conn, refusal);
                }
                let begins = matches!(conn.phase, Phase::New | Phase::Idle);
                if begins && conn.scan.has_begun() {
                    (conn.phase, conn.since) = (Phase::Head, Instant::now());
                }
                self.wait_on(conn);
            }
            _ => self.refuse(conn, Refusal::HeadTooLarge),
        }
    }

    /// Opens a request whose head is complete.
    fn begin(&mut self, mut conn: Box<Conn>) {
        match self.shared.open(&mut conn) {
            Ok(Some(turn)) => self.serve(conn, turn),
            Ok(None) => self.await_body(conn),
            Err(refusal) => self.refuse(conn, refusal),
        }
    }

    /// Serves a request once the first bytes of its body are there. Until then it is a connection among others.
    pub(super) fn await_body(&mut self, mut conn: Box<Conn>) {
        match conn.socket.peek() {
            Ok(Some(1..)) => {
                let Some(turn) = conn.turn.take() else { return self.forget(conn) };
                conn.incoming.notice();
                self.serve(conn, *turn);
            }
            Ok(None) => rearm(&self.shared, conn),
            Ok(Some(0)) | Err(_) => {
                if let Some(mut turn) = conn.turn.take() {
                    let mut exchange = self.shared.exchange(&mut conn, &mut turn);
                    exchange.abort();
                    exchange.end();
                }
                self.forget(conn);
            }
        }
    }

    /// Serves a request, or has it served.
    fn serve(&mut self, mut conn: Box<Conn>, mut turn: Turn) {
        if let Some(answer) = answers::at_once(&self.shared, &mut conn, &mut turn) {
            return self.answer(conn, turn, answer);
        }
        match self.shared.relays && self.shared.workers.enter(conn.client_number()) {
            true => self.relay(conn, turn),
            false => self.submit(Job::new(conn, Work::Call(turn))),
        }
    }

    pub(super) fn answer(&mut self, conn: Box<Conn>, turn: Turn, answer: Answer) {
        if let Some((conn, next)) = answers::answer(&self.shared, conn, turn, answer) {
            self.finish(conn, next);
        }
    }

    /// Something happened on a connection whose client has an answer to read.
    fn go_on_answering(&mut self, mut conn: Box<Conn>, ready: Ready) {
        if ready.is_readable() {
            conn.incoming.notice();
        }
        if let Some((conn, next)) = answers::go_on(&self.shared, conn) {
            self.finish(conn, next);
        }
    }

    pub(super) fn submit(&self, job: Job) {
        self.shared.workers.submit(&self.shared, job);
    }

    /// Gives back the place of a request of this connection.
    fn leave(&mut self, conn: &Conn) {
        if self.shared.workers.leave(&self.shared, self.number, conn.client_number()) {
            self.waits.wake(self.now);
        }
    }

    fn relay(&mut self, mut conn: Box<Conn>, mut turn: Turn) {
        let service = Arc::clone(&self.shared.service);
        let exchange = self.shared.exchange(&mut conn, &mut turn);
        let taken = panic::catch_unwind(AssertUnwindSafe(|| service.relay(&exchange)));
        match taken {
            Ok(None) => {
                self.leave(&conn);
                self.submit(Job::new(conn, Work::Call(turn)));
            }
            Ok(Some(course)) => self.take_course(conn, turn, course),
            Err(_) => self.panicked(conn, turn),
        }
    }

    /// Does what the service decided for a request that has a place among the calls.
    pub(super) fn take_course(&mut self, conn: Box<Conn>, mut turn: Turn, course: Course) {
        let (transfer, relay) = match course {
            Course::Answer(answer) => {
                self.leave(&conn);
                return self.answer(conn, turn, answer);
            }
            Course::Relay(transfer, relay) => (transfer, relay),
            Course::Wait(waiting) => {
                self.leave(&conn);
                return self.keep_waiting(Parked { conn, turn, waiting });
            }
            Course::GoOn(rest) => {
                self.leave(&conn);
                return self.submit(Job::new(conn, Work::GoOn { turn, rest }));
            }
        };
        turn.seat = None;
        let mut running = self.relays.hold(Running { conn, turn, transfer, relay });
        match self.relays.watch(&self.shared.lanes, &mut running) {
            Ok(()) => self.advance(running, None),
            Err(cause) => self.ended(running, End::Again(cause)),
        }
    }

    /// The service panicked over a request that has a place among the calls.
    pub(super) fn panicked(&mut self, conn: Box<Conn>, turn: Turn) {
        self.shared.count_panic(turn.path());
        self.leave(&conn);
        self.submit(Job::new(conn, Work::End(turn)));
    }

    /// Steps a call; `now` is given where its time may be up.
    fn advance(&mut self, mut running: Held, now: Option<Instant>) {
        let step = running.step(&self.shared, now);
        running.conn.count();
        match step {
            Step::Wait => self.relays.keep(running),
            Step::More => {
                self.ready.push(running.conn.token);
                self.relays.keep(running);
            }
            Step::Ended(end) => self.ended(running, end),
            Step::Panicked => {
                let Running { conn, turn, .. } = self.relays.release(running);
                self.leave(&conn);
                self.submit(Job::new(conn, Work::End(turn)));
            }
        }
    }

    fn ended(&mut self, running: Held, end: End) {
        let running = self.relays.release(running);
        if matches!(end, End::Failed(_) | End::Again(_)) {
            return self.failed(running, end);
        }
        self.leave(&running.conn);
        let (conn, next) = running.finish(&self.shared, end);
        self.finish(conn, next);
    }

    /// A transfer of which nothing went out: the service decides what becomes of its request.
    fn failed(&mut self, running: Running, end: End) {
        let Running { mut conn, mut turn, transfer, relay } = running;
        let exchange = self.shared.exchange(&mut conn, &mut turn);
        let parts = transfer.into_parts(end);
        match panic::catch_unwind(AssertUnwindSafe(|| relay.failed(&exchange, parts))) {
            Ok(course) => self.take_course(conn, turn, course),
            Err(_) => self.panicked(conn, turn),
        }
    }

    /// Keeps a connection whose request is over for the next one, or closes it.
    fn finish(&mut self, mut conn: Box<Conn>, next: Next) {
        let has_head = next == Next::KeepAlive && conn.next_head().is_some();
        if next != Next::KeepAlive || self.shared.is_draining() && !has_head {
            return finish(&self.shared, conn, next);
        }
        let token = conn.token;
        let has_more = self.shared.relays && (!conn.incoming.is_drained() || conn.is_hung_up);
        conn.await_next(self.now);
        if has_head || has_more {
            self.lane().table().put(conn);
            self.ready.push(token);
        } else {
            rearm(&self.shared, conn);
        }
    }

    /// Leaves a connection until more arrives.
    fn wait_on(&mut self, mut conn: Box<Conn>) {
        conn.rest();
        if self.shared.relays && (!conn.incoming.is_drained() || conn.is_hung_up) {
            self.ready.push(conn.token);
        }
        let is_one_too_many = conn.share.is_over();
        rearm(&self.shared, conn);
        if is_one_too_many {
            self.shared.make_memory();
        }
    }

    pub(super) fn forget(&self, conn: Box<Conn>) {
        close(&self.shared, conn);
    }

    pub(super) fn refuse(&self, mut conn: Box<Conn>, refusal: Refusal) {
        conn.refuse(&*self.shared, refusal);
        close_slowly(&self.shared, conn);
    }

    /// Throws away what a refused peer still sends, up to a bound.
    fn discard(&mut self, mut conn: Box<Conn>) {
        loop {
            let mut buffer = spare::buffer();
            let received = conn.socket.receive(&mut buffer);
            spare::give(buffer);
            match received {
                Ok(None) => return rearm(&self.shared, conn),
                Ok(Some(count @ 1..)) if conn.scan.count() + count <= CLOSING_BYTES => conn.scan.add(count),
                _ => return self.forget(conn),
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        let config = self.shared.config;
        let is_draining = self.draining_since.is_some();
        // A client that is about to send its next request is told in the answer: a close could meet it on its way.
        let may_close_idle = self.draining_since.is_some_and(|since| now >= since + DRAIN_IDLE_TIME);
        let due = self.lane().table().due(|conn| {
            conn.has_waited(
                match conn.phase {
                    Phase::New | Phase::Head if is_draining => config.header_timeout.min(DRAIN_HEAD_TIME),
                    Phase::New | Phase::Head => config.header_timeout,
                    Phase::Body if is_draining => config.body_stall_timeout.min(DRAIN_HEAD_TIME),
                    Phase::Body => config.body_stall_timeout,
                    Phase::Idle if may_close_idle => DRAIN_IDLE_TIME,
                    Phase::Idle => config.idle_timeout,
                    Phase::Answering => config.write_stall_timeout,
                    Phase::Closing => CLOSING_TIME,
                },
                now,
            )
        });
        for token in due {
            let taken = self.lane().table().take(token);
            match taken {
                Some(conn) if conn.phase == Phase::Answering => answers::give_up(&self.shared, conn),
                Some(conn) if conn.phase == Phase::Head => self.refuse(conn, Refusal::HeaderTimeout),
                Some(conn) if conn.phase == Phase::Body && !conn.has_input() => {
                    // A drain takes no new calls, and this one has not begun.
                    self.refuse(conn, if is_draining { Refusal::Draining } else { Refusal::BodyStall });
                }
                Some(conn) if conn.end_unread() => self.forget(conn),
                Some(conn) => put_back(&self.shared, conn),
                None => {}
            }
        }
        // Every poller does this: the poller that has the connection of a queued request is awake.
        self.shared.workers.keep_time(&self.shared, now);
    }
}
