//! The server: half-sync/half-async. Threads of one kind, the pollers, own every connection that is idle or still
//! sending its head. A complete head whose call never has to block but for its sockets (see [`Service::relay`]) is
//! served by the poller itself, among all others. Every other one goes to a worker, a thread that serves it with
//! plain calls under deadlines, and hands the connection back.
//!
//! Everything is bounded: connections, workers, calls, the queue between them, heads, bodies, and each wait.

mod accept;
mod answers;
mod blocking;
mod clients;
mod config;
mod conn;
mod host;
mod looks;
mod memory;
mod places;
mod poller;
mod queue;
mod record;
mod relays;
mod service;
mod shared;
mod table;
mod turn;
mod waits;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use kit::Guarded;
use kit::sys::Listener;

pub use clients::client_network;
pub use config::{MAX_LISTENERS, ServerConfig, Stats};
use host::Host as _;
use memory::Memory;
pub use memory::{MAX_HEAD_MEMORY, head_memory};
use places::MAX_POLLERS;
use queue::Workers;
pub use record::Answered;
pub use service::{Answer, Blocking, Course, Due, Exchange, Relay, Service, Waiting};
use shared::{Lane, Shared};

/// Has the requests that wait looked at, see [`Waiting`].
#[derive(Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// Returns at once; wakes that come close together may be one.
    pub fn wake(&self) {
        self.0.lanes.iter().for_each(|lane| lane.wake.notify());
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
            tls_said: Guarded::new(None),
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
