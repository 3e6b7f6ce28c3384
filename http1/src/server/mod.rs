//! The server: half-sync/half-async. Threads of one kind, the pollers, own every connection that is idle or still
//! sending its head. A complete head whose call never has to block but for its sockets (see [`Service::relay`]) is
//! served by the poller itself, among all others. Every other one goes to a worker, a thread that serves it with
//! plain calls under deadlines, and hands the connection back.
//!
//! Everything is bounded: connections, workers, calls, the queue between them, heads, bodies, and each wait.

mod accept;
mod answers;
mod clients;
mod conn;
mod exchange;
mod memory;
mod places;
mod poller;
mod record;
mod relays;
mod table;
mod waits;
mod worker;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kit::sys::{Epoll, EventFd, Listener};

pub use clients::client_network;
pub use exchange::Exchange;

use crate::forward::{Cause, End, Transfer, Upload};
use crate::{Connection, HeadWriter, Refusal, RequestHead, ResponseHead};
use clients::Clients;
use conn::Conn;
use exchange::Turn;
use memory::Memory;
pub use memory::{MAX_HEAD_MEMORY, head_memory};
use places::MAX_POLLERS;
pub use record::Answered;
use table::Table;
use worker::Workers;

/// The most listeners of a server. Each is looked at whenever accepting goes on after a pause.
pub const MAX_LISTENERS: usize = 128;

/// Between two lines in the log about clients that speak TLS.
const TLS_LOG_PAUSE: Duration = Duration::from_secs(60);

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// How its threads are named.
    pub name: &'static str,
    /// The largest head, in bytes.
    pub max_header_bytes: usize,
    /// The most fields of a head, at most [`MAX_HEADERS`](crate::head::MAX_HEADERS) and what
    /// is added to so many.
    pub max_headers: usize,
    /// The largest body, in bytes; 0 is no limit.
    pub max_body: u64,
    /// From a connection's first byte of a head, or its beginning, to the end of the head.
    pub header_timeout: Duration,
    /// How long a connection is kept between requests.
    pub idle_timeout: Duration,
    /// How long a body may stop arriving.
    pub body_stall_timeout: Duration,
    /// How long a client may stop reading its answer.
    pub write_stall_timeout: Duration,
    /// The most connections. Beyond it the one that has waited longest is closed, or, when all are being
    /// served, the new one is answered 503.
    pub max_connections: usize,
    /// The most memory for heads of more than 512 bytes, in bytes: unfinished ones, and those of requests that wait or
    /// are served, with what of their bodies was read ahead. Beyond it the largest unfinished heads are refused, of
    /// these the oldest first, and requests with heads over 2 KiB while that is not enough. So are those of a client whose
    /// requests take three quarters of it. See [`head_memory`].
    pub head_memory: usize,
    /// The most connections of one client. Beyond it its own one that has waited longest is closed, or, when all of them
    /// are being served, the new one is answered 429. A client is an IPv4 address, or the /64 of an IPv6 address.
    pub max_connections_per_client: usize,
    /// The most requests that are served at a time. As many may wait for a worker; more are answered 503.
    pub max_workers: usize,
    /// The most requests of one client that are served at a time. It has the same part of the places to wait; more of it
    /// are answered 429.
    pub max_workers_per_client: usize,
    /// Threads that poll, from one to 64. More than one is of use where they serve calls themselves.
    pub pollers: usize,
    /// Whether the service is told of each answer that is over, see [`Service::answered`].
    pub tells_answers: bool,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            name: "http",
            max_header_bytes: 64 * 1024,
            max_headers: 128,
            max_body: 0,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_stall_timeout: Duration::from_secs(30),
            write_stall_timeout: Duration::from_secs(30),
            max_connections: 1024,
            head_memory: MAX_HEAD_MEMORY,
            max_connections_per_client: usize::MAX,
            max_workers: 512,
            max_workers_per_client: usize::MAX,
            pollers: 1,
            tells_answers: false,
        }
    }
}

impl ServerConfig {
    fn body_limit(&self) -> u64 {
        if self.max_body == 0 { u64::MAX } else { self.max_body }
    }

    /// Whether clients are told apart.
    fn tells_clients(&self) -> bool {
        self.max_connections_per_client < self.max_connections
            || self.max_workers_per_client < self.max_workers
    }

    /// Requests of one client that may wait for something other than a worker: three quarters of its connections.
    fn max_waits_per_client(&self) -> usize {
        let connections = self.max_connections_per_client.min(self.max_connections);
        connections - connections / 4
    }

    /// Requests that may wait for a worker: a turn for each.
    fn max_waiting(&self) -> usize {
        self.max_workers.max(64)
    }
}

/// What a server is for.
pub trait Service: Send + Sync + 'static {
    /// Serves one request. A call that returns without an answer is answered 500; one that began an answer
    /// and did not finish it has its connection broken off; a panic is the same.
    fn call(&self, exchange: &mut Exchange<'_>);

    /// Answers a request at once: also where as many are served as may be, and without a thread for a client that does not
    /// read. It runs on a poller, which serves all others meanwhile: it must not wait for anything.
    fn answer(&self, exchange: &Exchange<'_>) -> Option<Answer> {
        let _ = exchange;
        None
    }

    /// Whether [`Service::relay`] is worth asking. Workers of such a server hand a connection back at once.
    fn relays(&self) -> bool {
        false
    }

    /// Takes a request for which its poller does all that is left to do. It runs on that poller, which serves all others
    /// meanwhile: it must not wait for anything. For `None`, [`Service::call`] is called on a worker.
    fn relay(self: Arc<Self>, exchange: &Exchange<'_>) -> Option<Course> {
        let _ = exchange;
        None
    }

    /// Whether a request whose client owes all of its body is left to wait for its first bytes, before it is a call. A
    /// client that waits for `100 Continue` gets it then. Not for a request that is refused whatever its body is.
    fn awaits_body(&self, exchange: &Exchange<'_>) -> bool {
        let _ = exchange;
        false
    }

    /// Whether a peer is a proxy, so that [`Service::client`] says whose its requests are. The share of connections of
    /// one client does not bind it.
    fn is_proxy(&self, peer: IpAddr) -> bool {
        let _ = peer;
        false
    }

    /// The client of a request that a proxy brings.
    fn client(&self, peer: IpAddr, request: &RequestHead) -> IpAddr {
        let _ = request;
        peer
    }

    /// Sees a refusal before its answer goes out: to count it, and to add fields.
    fn refused(&self, refusal: Refusal, head: &mut HeadWriter) {
        let _ = (refusal, head);
    }

    /// Sees an answer that is over. It is called on the thread that serves the client, and must not wait.
    fn answered(&self, answered: &Answered<'_>) {
        let _ = answered;
    }

    /// What the answer to a refusal says: for a service whose settings are not named as the bounds of the server.
    fn line(&self, refusal: Refusal) -> String {
        refusal.to_string()
    }
}

/// A whole answer, which a poller sends without waiting for its client.
pub struct Answer {
    pub(crate) head: HeadWriter,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// An answer with this body. A client that asked for the head alone, or a status without a body, gets none of it.
    #[must_use]
    pub fn new(head: HeadWriter, body: impl Into<Vec<u8>>) -> Answer {
        Answer { head, body: body.into() }
    }
}

/// What becomes of a request on a poller.
pub enum Course {
    /// The poller answers it.
    Answer(Answer),
    /// The poller moves it between its sockets.
    Relay(Transfer, Box<dyn Relay>),
    /// It waits, and is looked at again when the server is woken (see [`Waker`]), or now and then.
    Wait(Box<dyn Waiting>),
    /// A worker goes on with it.
    GoOn(Box<dyn Blocking>),
}

/// What becomes of a request that has waited until its time was up.
pub enum Due {
    /// The poller answers it.
    Answer(Answer),
    /// A worker goes on with it, as soon as the queue has room.
    GoOn(Box<dyn Waiting>),
}

/// A request with which a worker goes on, where it may block.
pub trait Blocking: Send {
    /// Goes on, on a worker.
    fn go_on(self: Box<Self>, exchange: &mut Exchange<'_>);

    /// The client went away, or the server has no place for it: nothing is left to be told.
    fn ended(self: Box<Self>, cause: Cause);
}

/// A request that waits for something other than its sockets. It takes neither a thread nor a place among the calls.
pub trait Waiting: Blocking {
    /// What it waits for. Where one waits on, those behind it with the same key are not asked in the same round.
    fn key(&self) -> usize;

    /// When its time is up.
    fn until(&self) -> Instant;

    /// Its time is up; on its poller. Asked again while the queue for workers has no room.
    fn expired(self: Box<Self>, exchange: &Exchange<'_>) -> Due;

    /// Its client has its share of all calls: those of others that wait for the same come first.
    fn step_aside(&mut self) {}

    /// Looks whether it can go on; on its poller, in the order of arrival.
    fn look(self: Box<Self>, exchange: &Exchange<'_>) -> Course;
}

/// Has the requests that wait looked at, see [`Waiting`].
#[derive(Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// Returns at once; wakes that come close together may be one.
    pub fn wake(&self) {
        self.0.lanes.iter().for_each(|lane| lane.wake.notify());
    }
}

/// The service's part in a transfer that a poller steps.
pub trait Relay: Send {
    /// Makes the client's head of the upstream's, of each interim one (1xx) too; on the poller.
    fn head(&mut self, response: &ResponseHead) -> HeadWriter;

    /// The transfer ended and nothing is left to be told to the client: [`End::Done`] or [`End::Broken`]; on the
    /// poller.
    fn ended(self: Box<Self>, end: End, connection: Box<Connection>);

    /// The transfer ended before anything of an answer went out: [`End::Failed`] or [`End::Again`]; on the poller.
    fn failed(self: Box<Self>, exchange: &Exchange<'_>, parts: (End, Box<Connection>, Upload)) -> Course;
}

/// What a server is doing, as of a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections between requests, or new and silent.
    pub connections_idle: usize,
    /// Connections that have sent a part of a head.
    pub connections_head: usize,
    /// Connections whose request is served or waits for a worker.
    pub connections_active: usize,
    /// Connections that were refused and are being closed.
    pub connections_closing: usize,
    /// Requests that are served, be it by a worker or by a poller.
    pub workers_busy: usize,
    /// Workers without one.
    pub workers_idle: usize,
    /// Requests that wait for a worker.
    pub waiting: usize,
    /// Connections that could not be accepted, for want of descriptors or memory, since the start.
    pub accept_errors: u64,
    /// Panics of the service, since the start.
    pub panics: u64,
}

/// What belongs to one poller.
struct Lane {
    epoll: Epoll,
    wake: EventFd,
    table: Mutex<Table<Box<Conn>>>,
    /// Requests that workers leave to it to wait.
    parked: Mutex<Vec<(Box<Conn>, Turn)>>,
}

impl Lane {
    fn new() -> io::Result<Lane> {
        Ok(Lane {
            epoll: Epoll::new()?,
            wake: EventFd::new()?,
            table: Mutex::new(Table::new()),
            parked: Mutex::default(),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table<Box<Conn>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parked(&self) -> MutexGuard<'_, Vec<(Box<Conn>, Turn)>> {
        self.parked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the pollers, the workers and the handle share.
struct Shared {
    config: ServerConfig,
    service: Arc<dyn Service>,
    /// Whether pollers serve calls themselves.
    relays: bool,
    lanes: Vec<Lane>,
    workers: Workers,
    memory: Arc<Memory>,
    /// Bodies of answers that wait for their clients to read.
    unread: Arc<Memory>,
    clients: Arc<Clients>,
    is_draining: AtomicBool,
    /// Whether the listeners are to be closed, and whether they are.
    stops_accepting: AtomicBool,
    has_stopped_accepting: AtomicBool,
    is_stopping: AtomicBool,
    accept_errors: AtomicU64,
    panics: AtomicU64,
    /// When the log last told of a client that speaks TLS.
    tls_said: Mutex<Option<Instant>>,
}

impl Shared {
    /// Tells, now and then, that a client speaks TLS: whoever runs it sees no more than a failed handshake.
    fn say_tls(&self, peer: SocketAddr) {
        let mut last = self.tls_said.lock().unwrap_or_else(PoisonError::into_inner);
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

    fn is_full(&self) -> bool {
        self.lanes.iter().map(|lane| lane.table().len()).sum::<usize>() >= self.config.max_connections
    }

    /// Calls the service where nothing is left to be answered. A panic is counted, and goes no further.
    fn guarded(&self, path: &[u8], call: impl FnOnce()) {
        if panic::catch_unwind(AssertUnwindSafe(call)).is_err() {
            self.count_panic(path);
        }
    }

    fn count_panic(&self, path: &[u8]) {
        self.panics.fetch_add(1, Ordering::Relaxed);
        log::error!("serving {} panicked", String::from_utf8_lossy(path));
    }

    fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    pollers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts to serve on `listener`.
    ///
    /// # Errors
    /// When descriptors, threads or kernel memory have run out.
    pub fn start(listener: Listener, config: ServerConfig, service: Arc<dyn Service>) -> io::Result<Server> {
        Server::start_on(vec![listener], config, service)
    }

    /// Starts to serve on all of `listeners`, at most [`MAX_LISTENERS`]; [`Exchange::listener`] tells by which one a
    /// client came.
    ///
    /// # Errors
    /// When descriptors, threads or kernel memory have run out; `InvalidInput` for no listener, or too many.
    pub fn start_on(
        listeners: Vec<Listener>,
        config: ServerConfig,
        service: Arc<dyn Service>,
    ) -> io::Result<Server> {
        let address = match listeners.first() {
            Some(first) if listeners.len() <= MAX_LISTENERS => first.address()?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let lanes: io::Result<Vec<Lane>> =
            (0..config.pollers.clamp(1, MAX_POLLERS)).map(|_| Lane::new()).collect();
        let shared = Arc::new(Shared {
            config,
            relays: service.relays(),
            service,
            lanes: lanes?,
            workers: Workers::new(&config),
            memory: Memory::new(config.head_memory),
            unread: Memory::new(answers::MAX_UNREAD_BYTES),
            clients: Arc::default(),
            is_draining: AtomicBool::new(false),
            stops_accepting: AtomicBool::new(false),
            has_stopped_accepting: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            accept_errors: AtomicU64::new(0),
            panics: AtomicU64::new(0),
            tls_said: Mutex::new(None),
        });
        let mut server = Server { shared, address, pollers: Vec::new() };
        let mut listeners = listeners; // the first poller accepts for all
        for number in 0..server.shared.lanes.len() {
            let poller =
                poller::Poller::new(Arc::clone(&server.shared), number, std::mem::take(&mut listeners))?;
            let thread = kit::thread::spawn_vital(&format!("{}-poll", config.name), move || poller.run())?;
            server.pollers.push(thread);
        }
        Ok(server)
    }

    /// The address it listens on, with the port that it was given; the first one of several.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it is doing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Begins the end: every answer from now on is the last of its connection, and connections without a request
    /// are closed after half a second. New connections are still served, so that health checks see the drain.
    pub fn begin_drain(&self) {
        self.shared.is_draining.store(true, Ordering::Release);
        self.waker().wake();
    }

    /// Whether nothing is being served, waits to be served, or is on its way in.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        // One look at each: a connection stays with its poller, and is in one place at a time.
        self.shared.lanes.iter().all(|lane| {
            let (table, mut stats) = (lane.table(), Stats::default());
            table.add_stats(&mut stats);
            stats.connections_active == 0 && stats.connections_head == 0 && !table.has_unread()
        })
    }

    /// Closes the listeners, once everything that has reached them was accepted: new connections are refused from then
    /// on.
    pub fn stop_accepting(&self) {
        if !self.shared.stops_accepting.swap(true, Ordering::AcqRel) {
            self.waker().wake();
        }
    }

    /// Whether nothing is left to be done, and nothing more can come: the listener is closed, and so is every
    /// connection. One whose last answer is out stays for a moment, until its client has read it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        // One look at each lane: a connection never changes its lane, and counts there whatever it is about.
        let has_stopped = self.shared.has_stopped_accepting.load(Ordering::Acquire);
        has_stopped && self.shared.lanes.iter().all(|lane| lane.table().len() == 0)
    }

    /// Wakes requests that wait, from wherever what they wait for happens.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.shared))
    }

    /// Closes the listener and every connection, and joins the threads. Workers that are still inside the
    /// service are left to themselves: the caller is about to exit.
    pub fn stop(mut self) {
        self.shutdown();
    }

    fn shutdown(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.waker().wake();
        for poller in self.pollers.drain(..) {
            let _ = poller.join(); // a panic of a poller has ended the process already
        }
        self.shared.workers.stop(&self.shared);
        self.shared.lanes.iter().for_each(|lane| lane.table().clear());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown();
    }
}
