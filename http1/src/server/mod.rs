//! The server: half-sync/half-async. One thread, the poller, owns every connection that is idle or still
//! sending its head; a complete head goes to a worker, a thread that serves it with plain calls under
//! deadlines, waits a moment for the next request, and hands the connection back.
//!
//! Everything is bounded: connections, workers, the queue between them, heads, bodies, and each wait.

mod exchange;
mod poller;
mod table;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use kit::sys::{Epoll, EventFd, Listener};

pub use exchange::Exchange;

use crate::{HeadWriter, Refusal};
use table::Table;
pub use worker::MAX_URGENT;
use worker::Workers;

/// The bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// How its threads are named.
    pub name: &'static str,
    /// The largest head, in bytes.
    pub max_header_bytes: usize,
    /// The most fields of a head, at most [`MAX_HEADERS`](crate::head::MAX_HEADERS).
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
    /// The most requests that are served at a time. As many may wait for a worker; more are answered 503.
    pub max_workers: usize,
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
            max_workers: 512,
        }
    }
}

impl ServerConfig {
    fn body_limit(&self) -> u64 {
        if self.max_body == 0 { u64::MAX } else { self.max_body }
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

    /// How many threads beyond the workers may serve requests like this one while all workers are busy, at most
    /// [`MAX_URGENT`]: none unless it is urgent, as a health check is. It is judged by the first bytes of its head
    /// alone. Only a request whose answer always fits into a socket's buffer, and waits for nobody, may be given the
    /// last of them: a client that does not read would keep it.
    fn urgent_threads(&self, head: &[u8]) -> usize {
        let _ = head;
        0
    }

    /// Sees a refusal before its answer goes out: to count it, and to add fields.
    fn refused(&self, refusal: Refusal, head: &mut HeadWriter) {
        let _ = (refusal, head);
    }
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
    /// Workers with a request.
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

/// What the poller, the workers and the handle share.
struct Shared {
    config: ServerConfig,
    service: Arc<dyn Service>,
    epoll: Epoll,
    wake: EventFd,
    table: Mutex<Table>,
    workers: Workers,
    is_draining: AtomicBool,
    is_stopping: AtomicBool,
    accept_errors: AtomicU64,
    panics: AtomicU64,
}

impl Shared {
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stats(&self) -> Stats {
        let mut stats = self.table().stats();
        self.workers.add_stats(&mut stats);
        stats.accept_errors = self.accept_errors.load(Ordering::Relaxed);
        stats.panics = self.panics.load(Ordering::Relaxed);
        stats
    }

    fn is_full(&self) -> bool {
        self.table().len() >= self.config.max_connections
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
    poller: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to serve on `listener`.
    ///
    /// # Errors
    /// When descriptors, threads or kernel memory have run out.
    pub fn start(listener: Listener, config: ServerConfig, service: Arc<dyn Service>) -> io::Result<Server> {
        let address = listener.address()?;
        let shared = Arc::new(Shared {
            config,
            service,
            epoll: Epoll::new()?,
            wake: EventFd::new()?,
            table: Mutex::new(Table::new()),
            workers: Workers::new(),
            is_draining: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            accept_errors: AtomicU64::new(0),
            panics: AtomicU64::new(0),
        });
        let poller = poller::Poller::new(Arc::clone(&shared), listener)?;
        let name = format!("{}-poll", config.name);
        let poller = kit::thread::spawn_vital(&name, move || poller.run())?;
        Ok(Server { shared, address, poller: Some(poller) })
    }

    /// The address it listens on, with the port that it was given.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it is doing.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Begins the end: idle connections are closed, and every answer from now on is the last of its
    /// connection. New connections are still served, so that health checks see the drain.
    pub fn begin_drain(&self) {
        self.shared.is_draining.store(true, Ordering::Release);
        self.shared.wake.notify();
    }

    /// Whether nothing is being served, waits to be served, or is on its way in.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let table = self.shared.table(); // one look: a connection is in one place at a time
        let stats = table.stats();
        stats.connections_active == 0 && stats.connections_head == 0 && !table.has_unread()
    }

    /// Closes the listener and every connection, and joins the threads. Workers that are still inside the
    /// service are left to themselves: the caller is about to exit.
    pub fn stop(mut self) {
        self.shutdown();
    }

    fn shutdown(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        self.shared.wake.notify();
        if let Some(poller) = self.poller.take() {
            let _ = poller.join(); // a panic of the poller has ended the process already
        }
        self.shared.workers.stop();
        self.shared.table().clear();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown();
    }
}
