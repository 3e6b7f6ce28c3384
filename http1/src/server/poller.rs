//! The poller: accepts, reads heads, keeps the time of whoever waits. It never blocks but in epoll_wait.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kit::sys::{Listener, Ready, Socket, poll::Event};

use super::Shared;
use super::exchange::{Conn, refusal_message};
use super::table::{Phase, Token, Waiting};
use super::worker::Job;
use crate::Refusal;
use crate::head::Scan;

/// Reports taken at a time.
const EVENTS: usize = 64;

/// Connections accepted in a row before others are looked after.
const ACCEPTS: usize = 64;

/// How long accepting rests after the system ran out of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is read of a head at a time.
const READ_BYTES: usize = 16 * 1024;

/// How long, and how much, is read from a refused peer so that it sees its answer rather than a reset.
const CLOSING_TIME: Duration = Duration::from_secs(2);
const CLOSING_BYTES: usize = 1024 * 1024;

/// What is left for a head to arrive once the server is being stopped: a slow one must not hold it up.
const DRAIN_HEAD_TIME: Duration = Duration::from_secs(1);

const LISTENER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;

pub(super) struct Poller {
    shared: Arc<Shared>,
    listener: Listener,
    scratch: Vec<u8>,
    /// The resolution of all timeouts.
    tick: Duration,
    paused_until: Option<Instant>,
    has_closed_idle: bool,
}

impl Poller {
    pub(super) fn new(shared: Arc<Shared>, listener: Listener) -> io::Result<Poller> {
        let shortest = shared.config.header_timeout.min(shared.config.idle_timeout).min(CLOSING_TIME);
        let tick = (shortest / 8).clamp(Duration::from_millis(10), Duration::from_secs(1));
        shared.epoll.add(listener.as_fd(), LISTENER, Ready::READ)?;
        shared.epoll.add(shared.wake.as_fd(), WAKE, Ready::READ)?;
        Ok(Poller { shared, listener, scratch: Vec::new(), tick, paused_until: None, has_closed_idle: false })
    }

    pub(super) fn run(mut self) {
        let mut events = [Event::EMPTY; EVENTS];
        let mut next_sweep = Instant::now() + self.tick;
        while !self.shared.is_stopping() {
            let count = match self.shared.epoll.wait(&mut events, self.timeout(next_sweep)) {
                Ok(count) => count,
                Err(error) => {
                    log::error!("epoll_wait failed: {error}");
                    return;
                }
            };
            for event in &events[..count] {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKE => self.woken(),
                    number => self.readable(Token::of(number)),
                }
            }
            let now = Instant::now();
            if self.paused_until.is_some_and(|until| now >= until) {
                self.paused_until = None;
                self.listen();
            }
            if now >= next_sweep {
                self.sweep(now);
                next_sweep = now + self.tick;
            }
        }
    }

    /// Until the next sweep, or for ever where there is nothing to sweep: an idle server does not wake up.
    fn timeout(&self, next_sweep: Instant) -> Option<Duration> {
        let now = Instant::now();
        match self.paused_until {
            Some(until) => Some(until.min(next_sweep).saturating_duration_since(now)),
            None if self.shared.table().len() == 0 => None,
            None => Some(next_sweep.saturating_duration_since(now)),
        }
    }

    fn woken(&mut self) {
        self.shared.wake.clear();
        if let Err(error) = self.shared.epoll.arm(self.shared.wake.as_fd(), WAKE, Ready::READ) {
            log::error!("waking the poller failed: {error}");
        }
        if self.shared.is_draining() && !self.has_closed_idle {
            self.has_closed_idle = true;
            let idle = self.shared.table().due(|waiting| waiting.phase == Phase::Idle);
            idle.into_iter().for_each(|token| self.close_idle(token));
        }
    }

    fn accept(&mut self) {
        let mut has_failed = false;
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok(Some((socket, peer))) => {
                    has_failed = false;
                    self.welcome(socket, peer);
                }
                Ok(None) => break,
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    self.count_failure(&error);
                    // What was given up may be taken by others, so that it is tried once.
                    if has_failed || !self.make_room() {
                        self.paused_until = Some(Instant::now() + ACCEPT_PAUSE);
                        return;
                    }
                    has_failed = true;
                }
            }
        }
        self.listen();
    }

    fn listen(&self) {
        if let Err(error) = self.shared.epoll.arm(self.listener.as_fd(), LISTENER, Ready::READ) {
            log::error!("listening again failed: {error}");
        }
    }

    /// Descriptors or memory ran out; the backlog keeps who waits.
    fn count_failure(&self, error: &io::Error) {
        if self.shared.accept_errors.fetch_add(1, Ordering::Relaxed).is_multiple_of(100) {
            log::warn!("cannot accept connections: {error}; see max_connections and the limit of open files");
        }
    }

    /// Gives up the connection that is least useful; one whose request is just arriving is read first.
    /// False when all are being served.
    fn make_room(&mut self) -> bool {
        loop {
            let least = self.shared.table().least_useful();
            let Some(token) = least else { return false };
            let taken = self.shared.table().take(token);
            match taken {
                Some(waiting) if waiting.has_request() => self.read(token, waiting),
                Some(waiting) => {
                    self.forget(token, waiting);
                    return true;
                }
                None => return false, // only this thread takes what waits
            }
        }
    }

    fn welcome(&mut self, socket: Socket, peer: SocketAddr) {
        let mut has_room = !self.shared.is_full();
        while !has_room && self.make_room() {
            has_room = !self.shared.is_full();
        }
        let token = self.shared.table().reserve();
        let waiting = Waiting {
            socket,
            peer,
            buffer: Vec::new(),
            scan: Scan::default(),
            phase: Phase::New,
            since: Instant::now(),
        };
        if let Err(error) = self.shared.epoll.add(waiting.socket.as_fd(), token.number(), Ready::READ) {
            log::warn!("cannot wait for a connection: {error}");
            self.shared.table().release(token);
            return;
        }
        // A report that comes before the connection is in its slot waits: this is the poller itself.
        match has_room {
            true => drop(self.shared.table().put(token, waiting)),
            // One more than allowed, for as long as it takes to be told so: the next one takes its place.
            false => self.refuse(token, waiting, Refusal::Overloaded),
        }
    }

    fn readable(&mut self, token: Token) {
        let taken = self.shared.table().take(token);
        match taken {
            Some(waiting) if waiting.phase == Phase::Closing => self.discard(token, waiting),
            Some(waiting) => self.read(token, waiting),
            None => {}
        }
    }

    fn read(&mut self, token: Token, waiting: Waiting) {
        self.scratch.clear();
        self.scratch.reserve_exact(READ_BYTES);
        match waiting.socket.receive(&mut self.scratch) {
            Ok(None) => self.wait_on(token, waiting),
            Ok(Some(0)) | Err(_) => self.forget(token, waiting),
            Ok(Some(_)) => self.received(token, waiting),
        }
    }

    fn received(&mut self, token: Token, mut waiting: Waiting) {
        waiting.buffer.extend_from_slice(&self.scratch);
        let limit = self.shared.config.max_header_bytes;
        match waiting.scan.end(&waiting.buffer) {
            Some(end) if end <= limit => {
                let job = Job { conn: Conn::new(waiting, token), since: Instant::now() };
                if let Err(job) = self.shared.workers.submit(&self.shared, job) {
                    let (token, waiting) = job.conn.into_waiting();
                    self.refuse(token, waiting, Refusal::Overloaded);
                }
            }
            None if waiting.buffer.len() <= limit => {
                let begins = matches!(waiting.phase, Phase::New | Phase::Idle);
                if begins && waiting.scan.has_begun() {
                    waiting.phase = Phase::Head;
                    waiting.since = Instant::now();
                }
                self.wait_on(token, waiting);
            }
            _ => self.refuse(token, waiting, Refusal::HeadTooLarge),
        }
    }

    fn wait_on(&self, token: Token, waiting: Waiting) {
        put_back(&self.shared, token, waiting);
    }

    fn forget(&self, token: Token, waiting: Waiting) {
        drop(waiting);
        self.shared.table().release(token);
    }

    fn refuse(&self, token: Token, waiting: Waiting, refusal: Refusal) {
        let message = refusal_message(&self.shared, refusal);
        let _ = waiting.socket.send(&[IoSlice::new(&message)]); // nothing was sent before, so it has room
        close_slowly(&self.shared, token, waiting);
    }

    /// Throws away what a refused peer still sends, up to a bound.
    fn discard(&mut self, token: Token, mut waiting: Waiting) {
        self.scratch.clear();
        self.scratch.reserve_exact(READ_BYTES);
        match waiting.socket.receive(&mut self.scratch) {
            Ok(None) => self.wait_on(token, waiting),
            Ok(Some(0)) | Err(_) => self.forget(token, waiting),
            Ok(Some(count)) => {
                waiting.scan.add(count);
                match waiting.scan.count() > CLOSING_BYTES {
                    true => self.forget(token, waiting),
                    false => self.wait_on(token, waiting),
                }
            }
        }
    }

    /// Closes a connection between requests, unless the next one is just arriving.
    fn close_idle(&self, token: Token) {
        let taken = self.shared.table().take(token);
        match taken {
            Some(waiting) if waiting.has_request() => self.wait_on(token, waiting),
            Some(waiting) => self.forget(token, waiting),
            None => {}
        }
    }

    fn sweep(&mut self, now: Instant) {
        let config = self.shared.config;
        let is_draining = self.shared.is_draining();
        let due = self.shared.table().due(|waiting| {
            waiting.has_waited(
                match waiting.phase {
                    Phase::New | Phase::Head if is_draining => config.header_timeout.min(DRAIN_HEAD_TIME),
                    Phase::New | Phase::Head => config.header_timeout,
                    Phase::Idle if is_draining => Duration::ZERO,
                    Phase::Idle => config.idle_timeout,
                    Phase::Closing => CLOSING_TIME,
                },
                now,
            )
        });
        for token in due {
            let taken = self.shared.table().take(token);
            match taken {
                Some(waiting) if waiting.phase == Phase::Head => {
                    self.refuse(token, waiting, Refusal::HeaderTimeout);
                }
                Some(waiting) if waiting.has_request() => self.wait_on(token, waiting),
                Some(waiting) => self.forget(token, waiting),
                None => {}
            }
        }
        self.shared.workers.expire(&self.shared, now);
    }
}

/// Puts a connection into its slot and arms it, in this order and under the lock, so that its next report
/// finds it there.
pub(super) fn put_back(shared: &Shared, token: Token, waiting: Waiting) {
    let mut table = shared.table();
    let waiting = table.put(token, waiting);
    let armed = shared.epoll.arm(waiting.socket.as_fd(), token.number(), Ready::READ);
    if let Err(error) = armed {
        log::warn!("cannot wait for a connection: {error}");
        table.release(token);
    }
}

/// Ends a connection so that the peer reads its last answer: a close with unread input would reset it
/// (RFC 9112 section 9.6).
pub(super) fn close_slowly(shared: &Shared, token: Token, mut waiting: Waiting) {
    waiting.socket.shutdown_write();
    waiting.phase = Phase::Closing;
    waiting.since = Instant::now();
    (waiting.buffer, waiting.scan) = (Vec::new(), Scan::default());
    put_back(shared, token, waiting);
}

/// Errors of accept(2) that concern one connection, which is gone, and not the listener.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, HostUnreachable, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), ConnectionAborted | HostUnreachable | NetworkDown | NetworkUnreachable)
        || error.raw_os_error() == Some(EPROTO)
}

/// Protocol error: the connection died before it was accepted (accept(2)).
const EPROTO: i32 = 71;
