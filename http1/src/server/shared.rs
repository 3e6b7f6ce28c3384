//! What the pollers, the workers and the handle of a server share, and how a connection passes between them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use kit::Guarded;

use kit::sys::{Epoll, EventFd, Ready};

use super::clients::Clients;
use super::config::{ServerConfig, Stats};
use super::conn::{Conn, Next};
use super::host::Host;
use super::memory::{Memory, SMALL_HEAD_BYTES};
use super::queue::Workers;
use super::record::Answered;
use super::service::{Exchange, Service};
use super::table::{Phase, Table, Token};
use super::turn::Turn;
use super::waits::Parked;
use crate::{HeadWriter, Refusal};

/// Between two lines in the log about clients that speak TLS.
const TLS_LOG_PAUSE: Duration = Duration::from_secs(60);

/// How many connections one search gives up: a search looks at all of them.
const MAX_GIVEN_UP: usize = 32;

/// What belongs to one poller.
pub(super) struct Lane {
    pub(super) epoll: Epoll,
    pub(super) wake: EventFd,
    pub(super) table: Guarded<Table<Box<Conn>>>,
    /// Requests that workers leave to it to wait.
    pub(super) parked: Guarded<Vec<Parked>>,
}

impl Lane {
    pub(super) fn new() -> io::Result<Lane> {
        Ok(Lane {
            epoll: Epoll::new()?,
            wake: EventFd::new()?,
            table: Guarded::new(Table::new()),
            parked: Guarded::default(),
        })
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table<Box<Conn>>> {
        self.table.lock()
    }

    pub(super) fn parked(&self) -> MutexGuard<'_, Vec<Parked>> {
        self.parked.lock()
    }
}

/// What the pollers, the workers and the handle share.
pub(super) struct Shared {
    pub(super) config: ServerConfig,
    pub(super) service: Arc<dyn Service>,
    /// Whether pollers serve calls themselves.
    pub(super) relays: bool,
    pub(super) lanes: Vec<Lane>,
    pub(super) workers: Workers,
    pub(super) memory: Arc<Memory>,
    /// Bodies of answers that wait for their clients to read.
    pub(super) unread: Arc<Memory>,
    pub(super) clients: Arc<Clients>,
    pub(super) is_draining: AtomicBool,
    /// Whether the listeners are to be closed, and whether they are.
    pub(super) stops_accepting: AtomicBool,
    pub(super) has_stopped_accepting: AtomicBool,
    pub(super) is_stopping: AtomicBool,
    pub(super) accept_errors: AtomicU64,
    pub(super) panics: AtomicU64,
    /// When the log last told of a client that speaks TLS.
    pub(super) tls_said: Guarded<Option<Instant>>,
}

impl Shared {
    pub(super) fn is_full(&self) -> bool {
        self.lanes.iter().map(|lane| lane.table().len()).sum::<usize>() >= self.config.max_connections
    }

    /// Calls the service where nothing is left to be answered. A panic is counted, and goes no further.
    pub(super) fn guarded(&self, path: &[u8], call: impl FnOnce()) {
        if panic::catch_unwind(AssertUnwindSafe(call)).is_err() {
            self.count_panic(path);
        }
    }

    pub(super) fn count_panic(&self, path: &[u8]) {
        self.panics.fetch_add(1, Ordering::Relaxed);
        log::error!("serving {} panicked", String::from_utf8_lossy(path));
    }

    /// A request and its answer, for the service.
    pub(super) fn exchange<'a>(&'a self, conn: &'a mut Conn, turn: &'a mut Turn) -> Exchange<'a> {
        Exchange::new(self, conn, turn)
    }

    /// Opens the request whose head is there. `None`: the connection waits for the first bytes of the body.
    pub(super) fn open(&self, conn: &mut Conn) -> Result<Option<Turn>, Refusal> {
        let request = conn.take_request(&self.config)?;
        if conn.is_proxied {
            conn.caller = Some(self.clients.find(self.service.client(conn.peer.ip(), &request)));
        }
        let client = conn.caller.as_ref().or(conn.client.as_ref());
        if client.is_some_and(|client| !conn.share.join(client, request.size())) {
            return Err(Refusal::HeadMemory);
        }
        // The framing that came with the head is understood already: what is left are bytes of the body.
        let is_whole = conn.incoming.is_done();
        let has_begun = is_whole || conn.has_input();
        let mut turn = Turn::new(&self.config, request, is_whole);
        let mut exchange = self.exchange(conn, &mut turn);
        let awaits = AssertUnwindSafe(|| self.service.awaits_body(&exchange));
        if has_begun || !panic::catch_unwind(awaits).unwrap_or(false) {
            drop(exchange);
            return Ok(Some(turn)); // a service that panicked does so again in the call
        }
        let _ = exchange.say_continue(); // a client that is gone is seen when the body is looked for
        drop(exchange);
        conn.turn = Some(Box::new(turn));
        // Not `enter`: what the socket did not take yet of an interim answer stays.
        (conn.phase, conn.since) = (Phase::Body, Instant::now());
        Ok(None)
    }
}

impl Host for Shared {
    fn config(&self) -> &ServerConfig {
        &self.config
    }

    fn line(&self, refusal: Refusal) -> String {
        let mut text = refusal.to_string();
        self.guarded(b"", || text = self.service.line(refusal));
        text
    }

    fn refused(&self, refusal: Refusal, head: &mut HeadWriter) {
        self.guarded(b"", || self.service.refused(refusal, head));
    }

    fn answered(&self, answered: &Answered<'_>) {
        let path = answered.request.map_or(&b""[..], |request| request.path());
        self.guarded(path, || self.service.answered(answered));
    }

    // The operator of such a client sees a failed handshake and no more.
    fn say_tls(&self, peer: SocketAddr) {
        let mut last = self.tls_said.lock();
        if last.is_some_and(|last| last.elapsed() < TLS_LOG_PAUSE) {
            return;
        }
        *last = Some(Instant::now());
        log::warn!("{peer} speaks TLS to a port that speaks plain HTTP: was https:// meant to be http://?");
    }

    fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.lanes.iter().for_each(|lane| lane.table().add_stats(&mut stats));
        self.workers.add_stats(&mut stats);
        stats.accept_errors = self.accept_errors.load(Ordering::Relaxed);
        stats.panics = self.panics.load(Ordering::Relaxed);
        stats
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}

/// The largest first, of these the one that has waited longest.
type Rank = (u32, Instant);

impl Shared {
    /// Whether a request with a head of so many bytes may be taken.
    pub(super) fn has_memory_for(&self, head_bytes: usize) -> bool {
        !self.memory.is_over() || head_bytes <= SMALL_HEAD_BYTES || self.make_memory()
    }

    /// Gives up unfinished heads until there is room again; whether there is enough.
    pub(super) fn make_memory(&self) -> bool {
        for (_, lane, token) in self.largest_heads() {
            if self.memory.has_room() {
                break;
            }
            let taken = self.lanes[lane].table().take(token);
            if let Some(mut conn) = taken {
                conn.refuse(self, Refusal::HeadMemory);
                close_slowly(self, conn);
            }
        }
        !self.memory.is_over()
    }

    fn largest_heads(&self) -> Vec<(Rank, usize, Token)> {
        let mut largest: Vec<(Rank, usize, Token)> = Vec::with_capacity(MAX_GIVEN_UP + 1);
        for (number, lane) in self.lanes.iter().enumerate() {
            let table = lane.table();
            let may_go = |conn: &Conn| conn.share.bytes > 0 && conn.phase != Phase::Answering;
            for (token, conn) in table.waiting().filter(|(_, conn)| may_go(conn)) {
                let rank = (u32::MAX - conn.share.class(), conn.since);
                let place = largest.partition_point(|(other, ..)| *other <= rank);
                if place < MAX_GIVEN_UP {
                    largest.insert(place, (rank, number, token));
                    largest.truncate(MAX_GIVEN_UP);
                }
            }
        }
        largest
    }
}

/// Puts a connection back of which everything was read, or to which no more can be written.
pub(super) fn rearm(shared: &Shared, conn: Box<Conn>) {
    match shared.relays {
        true => {
            shared.lanes[conn.poller].table().put(conn); // the next change is reported by itself
        }
        false => put_back(shared, conn),
    }
}

/// Puts a connection into its slot and has its poller told of what is there, in this order and under the lock,
/// so that the report finds it there.
pub(super) fn put_back(shared: &Shared, conn: Box<Conn>) {
    let lane = &shared.lanes[conn.poller];
    let token = conn.token;
    let wanted = if conn.phase == Phase::Answering { Ready::WRITE } else { Ready::READ };
    let mut table = lane.table();
    let socket = table.put(conn).socket.as_fd();
    let armed = match shared.relays {
        true => lane.epoll.watch_again(socket, token.number()),
        false => lane.epoll.arm(socket, token.number(), wanted),
    };
    if let Err(error) = armed {
        log::warn!("cannot wait for a connection: {error}");
        drop(table.take(token));
        table.release(token);
    }
}

/// Closes a connection.
pub(super) fn close(shared: &Shared, conn: Box<Conn>) {
    let (poller, token) = (conn.poller, conn.token);
    drop(conn);
    shared.lanes[poller].table().release(token);
}

/// Ends a connection so that the peer reads its last answer: a close with unread input would reset it
/// (RFC 9112 section 9.6).
pub(super) fn close_slowly(shared: &Shared, mut conn: Box<Conn>) {
    conn.socket.shutdown_write();
    conn.incoming.drop_pending();
    conn.enter(Phase::Closing, Instant::now());
    conn.scan = Default::default();
    put_back(shared, conn);
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
