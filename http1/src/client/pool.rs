//! Idle connections to one endpoint. The youngest is used first: a quiet pool shrinks to the connections it needs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kit::{Deadline, Guarded};

use super::connection::Standing;
use super::{ClientConfig, Connection, Endpoint, Error, Response};
use crate::HeadWriter;
use crate::head::is_idempotent;

/// The least time between two idle connections that are closed to make room: many waiting calls must not close them
/// all.
const ROOM_PAUSE: Duration = Duration::from_millis(100);

/// The least time between two sweeps: connections that become old shortly after each other are closed together.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);

/// The connections to one endpoint.
#[derive(Debug)]
pub struct Pool {
    endpoint: Endpoint,
    config: ClientConfig,
    idle: Arc<Shelves>,
    /// The server has sent bytes that belong to no answer. Such bytes behind the next request would look like its
    /// answer: each connection serves one call from then on.
    is_distrusted: AtomicBool,
}

/// The idle connections of a pool.
#[derive(Debug)]
pub(crate) struct Shelves {
    /// The first shelf is for connections that no poller watches. Then each poller has its own, and waits for no other.
    shelves: Box<[Shelf]>,
    /// When a connection was last closed to make room.
    last_room: Guarded<Option<Instant>>,
}

/// Idle connections with the start of their idle time, oldest first; `None` once the pool is closed. Connections are
/// large and move often, so they are boxed.
type Shelf = Guarded<Idle>;
type Idle = Option<Vec<(Box<Connection>, Instant)>>;

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(endpoint: Endpoint, config: ClientConfig) -> Pool {
        let shelves = (0..=config.pollers).map(|_| Guarded::new(Some(Vec::new()))).collect();
        let idle = Arc::new(Shelves { shelves, last_room: Guarded::default() });
        Pool { endpoint, config, idle, is_distrusted: AtomicBool::new(false) }
    }

    /// The endpoint of the connections.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// An idle connection that is still open, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<Box<Connection>> {
        self.idle.shelves.iter().find_map(|shelf| self.take_from(shelf))
    }

    /// As [`Pool::take`], for a transfer on the poller with this number. Connections of other pollers are left alone.
    pub(crate) fn take_watched(&self, poller: usize) -> Option<Box<Connection>> {
        let own = self.idle.shelves.get(poller + 1).and_then(|shelf| self.take_from(shelf));
        own.or_else(|| self.take_from(&self.idle.shelves[0]))
    }

    /// Peeks at every connection, though its poller may have reported: bytes that came since would pass for the answer
    /// to the next request.
    fn take_from(&self, shelf: &Shelf) -> Option<Box<Connection>> {
        loop {
            let (connection, since) = shelf.lock().as_mut()?.pop()?;
            if since.elapsed() >= self.config.idle_timeout {
                continue;
            }
            match connection.look() {
                Standing::Idle => return Some(connection),
                Standing::Surplus => self.distrust(),
                Standing::Spent => {}
            }
        }
    }

    /// A new connection that is still being made, see [`Connection::connected`]: until the deadline, or as long as a
    /// connect may take.
    ///
    /// # Errors
    /// An error that connect(2) returns at once; `Unsupported` for a UNIX socket.
    pub fn begin(&self, deadline: Deadline) -> io::Result<Box<Connection>> {
        Connection::begin(&self.endpoint, self.config, deadline).map(|connection| self.own(connection))
    }

    /// A new connection.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub fn connect(&self, deadline: Deadline) -> Result<Box<Connection>, Error> {
        Connection::open(&self.endpoint, self.config, deadline).map(|connection| self.own(connection))
    }

    fn own(&self, connection: Connection) -> Box<Connection> {
        Box::new(connection).of_pool(&self.idle, !self.is_distrusted())
    }

    fn is_distrusted(&self) -> bool {
        self.is_distrusted.load(Ordering::Relaxed)
    }

    /// Lets each connection serve one call from now on.
    pub(crate) fn distrust(&self) {
        if !self.is_distrusted.swap(true, Ordering::Relaxed) {
            log::warn!(
                "{} sent bytes behind an answer, which the next caller would get: its connections serve one call each from now on",
                self.endpoint
            );
        }
        self.clear();
    }

    /// Takes a connection back. The pool closes a connection that cannot be used again or has no room.
    pub fn put(&self, mut connection: Box<Connection>) {
        match connection.standing() {
            Standing::Idle if !self.is_distrusted() => {}
            Standing::Surplus => return self.distrust(),
            Standing::Idle | Standing::Spent => return connection.discard(),
        }
        connection.rest();
        let place = connection.watched_by.map_or(0, |poller| poller + 1);
        let shelf = self.idle.shelves.get(place).unwrap_or(&self.idle.shelves[0]);
        self.renew(shelf, Instant::now(), Some(connection));
    }

    /// Closes the connections that have been idle for too long, and returns when to do so again.
    pub fn sweep(&self, now: Instant) -> Instant {
        let oldest = self.idle.shelves.iter().filter_map(|shelf| self.renew(shelf, now, None)).min();
        let idle_timeout = self.config.idle_timeout;
        (oldest.unwrap_or(now) + idle_timeout).max(now + SWEEP_PAUSE.max(idle_timeout / 8))
    }

    /// Removes connections that have been idle for too long, and adds one if there is room. The others are closed
    /// after the lock is released. Returns since when the oldest is idle.
    fn renew(&self, shelf: &Shelf, now: Instant, added: Option<Box<Connection>>) -> Option<Instant> {
        let (mut surplus, mut oldest) = (Vec::new(), None);
        if let Some(idle) = shelf.lock().as_mut() {
            let is_old = |since: Instant| now.saturating_duration_since(since) >= self.config.idle_timeout;
            if idle.first().is_some_and(|(_, since)| is_old(*since)) {
                let fresh = idle.partition_point(|(_, since)| is_old(*since));
                surplus.extend(idle.drain(..fresh));
            }
            let has_room = idle.len() < self.config.max_idle;
            let place = if has_room { &mut *idle } else { &mut surplus };
            place.extend(added.map(|connection| (connection, now)));
            oldest = idle.first().map(|(_, since)| *since);
        }
        drop(surplus);
        oldest
    }

    /// Closes all idle connections; those in use may come back.
    pub fn clear(&self) {
        for shelf in &self.idle.shelves {
            let surplus = shelf.lock().as_mut().map(std::mem::take);
            drop(surplus);
        }
    }

    /// Closes all idle connections, and those in use as they come back.
    pub fn close(&self) {
        for shelf in &self.idle.shelves {
            let idle = shelf.lock().take();
            drop(idle);
        }
    }

    /// Sends a whole request and waits for the head of its response, on an idle connection or a new one. If the server
    /// was just closing the idle one, the request is sent once more: only if its method is idempotent (RFC 9110
    /// section 9.2.2) and no part of an answer came.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn send(&self, request: &Request<'_>, deadline: Deadline) -> Result<Response<'_>, Error> {
        if let Some(mut connection) = self.take() {
            match connection.exchange(request, deadline) {
                Ok(()) => return Ok(Response::new(self, connection)),
                Err(Error::Closed(_) | Error::Io(..))
                    if request.is_idempotent() && !connection.has_received() => {}
                Err(error) => return Err(error),
            }
        }
        let mut connection = self.connect(deadline)?;
        connection.exchange(request, deadline)?;
        Ok(Response::new(self, connection))
    }
}

impl Shelves {
    /// Closes the connection that has been idle for longest, unless one was closed just before.
    pub(crate) fn make_room(&self, now: Instant) {
        drop(self.take_longest_idle(now)); // closed without the lock
    }

    fn take_longest_idle(&self, now: Instant) -> Option<(Box<Connection>, Instant)> {
        let mut last = self.last_room.lock();
        if last.is_some_and(|last| now < last + ROOM_PAUSE) {
            return None;
        }
        let since = |shelf: &Shelf| shelf.lock().as_ref()?.first().map(|(_, since)| *since);
        let longest =
            self.shelves.iter().filter_map(|shelf| Some((since(shelf)?, shelf))).min_by_key(|it| it.0);
        // A call may have taken it meanwhile: then the next one will do.
        let taken = longest?.1.lock().as_mut().and_then(|idle| (!idle.is_empty()).then(|| idle.remove(0)));
        *last = taken.as_ref().map(|_| now).or(*last);
        taken
    }
}

/// A whole request for [`Pool::send`].
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Further fields; framing is added, and `Host` where it is not among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body; may be empty.
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    /// A GET request without further fields.
    #[must_use]
    pub fn get(target: &'a str) -> Request<'a> {
        Request { method: "GET", target, headers: &[], body: b"" }
    }

    fn is_idempotent(&self) -> bool {
        is_idempotent(self.method)
    }

    pub(super) fn head(&self) -> HeadWriter {
        let mut head = HeadWriter::request(self.method, self.target.as_bytes());
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.text("Host", "localhost");
        }
        for (name, value) in self.headers {
            head.text(name, value);
        }
        head
    }
}
