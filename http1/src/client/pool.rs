//! Idle connections to one endpoint. The youngest is used first, so that a quiet pool shrinks to what
//! is needed.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kit::Deadline;

use super::{ClientConfig, Connection, Endpoint, Error, Response};
use crate::HeadWriter;
use crate::head::is_idempotent;

/// The connections to one endpoint.
#[derive(Debug)]
pub struct Pool {
    endpoint: Endpoint,
    config: ClientConfig,
    /// One for connections that no poller has in its epoll, then one for each poller: a poller takes what is its
    /// own, and waits for no other.
    shelves: Box<[Shelf]>,
}

/// Unused connections with the time since when, oldest first; `None` once the pool is closed. Connections are moved often, and are large.
type Shelf = Mutex<Idle>;
type Idle = Option<Vec<(Box<Connection>, Instant)>>;

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(endpoint: Endpoint, config: ClientConfig) -> Pool {
        let shelves = (0..=config.pollers).map(|_| Mutex::new(Some(Vec::new()))).collect();
        Pool { endpoint, config, shelves }
    }

    /// Where its connections go.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// An idle connection that still stands, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<Box<Connection>> {
        self.shelves.iter().find_map(|shelf| self.take_from(shelf, true))
    }

    /// The same for a transfer that the poller of that number will step. What other pollers have is left to them.
    /// Where it `looks` not, one that the poller has in its epoll is taken as it is: the poller knows of each that was
    /// closed, but for what happened since it last asked.
    pub(crate) fn take_watched(&self, poller: usize, looks: bool) -> Option<Box<Connection>> {
        let own = self.shelves.get(poller + 1).and_then(|shelf| self.take_from(shelf, looks));
        own.or_else(|| self.take_from(&self.shelves[0], true))
    }

    fn take_from(&self, shelf: &Shelf, looks: bool) -> Option<Box<Connection>> {
        loop {
            let (connection, since) = lock(shelf).as_mut()?.pop()?;
            if since.elapsed() < self.config.idle_timeout && (!looks || connection.is_quiet()) {
                return Some(connection);
            }
        }
    }

    /// A new connection that is still being made, for a transfer; until the deadline, or as long as a connect may take.
    ///
    /// # Errors
    /// What connect(2) says at once; `Unsupported` for a UNIX socket.
    pub(crate) fn begin(&self, deadline: Deadline) -> io::Result<Box<Connection>> {
        Connection::begin(&self.endpoint, self.config, deadline).map(Box::new)
    }

    /// A new connection.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub fn connect(&self, deadline: Deadline) -> Result<Box<Connection>, Error> {
        Connection::open(&self.endpoint, self.config, deadline).map(Box::new)
    }

    /// Takes a connection back. One that cannot be used again, or for which there is no room, is closed.
    pub fn put(&self, mut connection: Box<Connection>) {
        if !connection.is_reusable() {
            return;
        }
        connection.rest();
        let place = connection.watched_by.map_or(0, |poller| poller + 1);
        let shelf = self.shelves.get(place).unwrap_or(&self.shelves[0]);
        self.renew(shelf, Instant::now(), Some(connection));
    }

    /// Closes the connections that have been unused for too long; to be called now and then.
    pub fn sweep(&self, now: Instant) {
        self.shelves.iter().for_each(|shelf| self.renew(shelf, now, None));
    }

    /// Takes those out that have been unused for too long, and adds one if there is room. What is not kept is
    /// closed once the lock is gone.
    fn renew(&self, shelf: &Shelf, now: Instant, added: Option<Box<Connection>>) {
        let mut surplus = Vec::new();
        if let Some(idle) = lock(shelf).as_mut() {
            let is_old = |since: Instant| now.saturating_duration_since(since) >= self.config.idle_timeout;
            if idle.first().is_some_and(|(_, since)| is_old(*since)) {
                let fresh = idle.partition_point(|(_, since)| is_old(*since));
                surplus.extend(idle.drain(..fresh));
            }
            let has_room = idle.len() < self.config.max_idle;
            let place = if has_room { idle } else { &mut surplus };
            place.extend(added.map(|connection| (connection, now)));
        }
        drop(surplus);
    }

    /// Closes all idle connections; those in use may come back.
    pub fn clear(&self) {
        for shelf in &self.shelves {
            let surplus = lock(shelf).as_mut().map(std::mem::take);
            drop(surplus);
        }
    }

    /// Closes all idle connections, and those in use as they come back.
    pub fn close(&self) {
        for shelf in &self.shelves {
            let idle = lock(shelf).take();
            drop(idle);
        }
    }

    /// Sends a whole request and waits for the head of its response, on an idle connection or a new one. A
    /// reused connection that the server was just closing is replaced once where nothing can have been
    /// executed twice: the method is idempotent (RFC 9110 section 9.2.2) and nothing of an answer came.
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

fn lock(shelf: &Shelf) -> MutexGuard<'_, Idle> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
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
