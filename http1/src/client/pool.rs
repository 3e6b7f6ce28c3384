//! Idle connections to one endpoint. The youngest is used first, so that a quiet pool shrinks to what
//! is needed.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use kit::Deadline;

use super::{ClientConfig, Connection, Endpoint, Error, Response};
use crate::HeadWriter;
use crate::head::is_idempotent;

/// How many of the youngest connections are looked through for one of a certain poller.
const NEAR: usize = 8;

/// The connections to one endpoint.
#[derive(Debug)]
pub struct Pool {
    endpoint: Endpoint,
    config: ClientConfig,
    /// Unused connections with the time since when, oldest first; `None` once the pool is closed.
    idle: Mutex<Option<Vec<(Connection, Instant)>>>,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(endpoint: Endpoint, config: ClientConfig) -> Pool {
        Pool { endpoint, config, idle: Mutex::new(Some(Vec::new())) }
    }

    /// Where its connections go.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// An idle connection that still stands, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<Connection> {
        self.take_where(Vec::pop)
    }

    /// The same for a transfer that the poller of that number will step: rather one that it has in its epoll already.
    #[must_use]
    pub fn take_watched(&self, poller: usize) -> Option<Connection> {
        let take = |idle: &mut Vec<(Connection, Instant)>| {
            let near = |(connection, _): &(Connection, Instant)| connection.watched_by == Some(poller);
            let found = idle.iter().rev().take(NEAR).position(near).unwrap_or_default();
            let place = idle.len().checked_sub(found + 1)?;
            Some(idle.remove(place))
        };
        self.take_where(take)
    }

    fn take_where(
        &self,
        take: impl Fn(&mut Vec<(Connection, Instant)>) -> Option<(Connection, Instant)>,
    ) -> Option<Connection> {
        loop {
            let taken = take(self.idle.lock().unwrap_or_else(PoisonError::into_inner).as_mut()?);
            let (connection, since) = taken?;
            if since.elapsed() < self.config.idle_timeout && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    /// A new connection that is still being made, for a transfer.
    ///
    /// # Errors
    /// What connect(2) says at once; `Unsupported` for a UNIX socket.
    pub fn begin(&self) -> io::Result<Connection> {
        Connection::begin(&self.endpoint, self.config)
    }

    /// A new connection.
    ///
    /// # Errors
    /// [`Error::Connect`].
    pub fn connect(&self, deadline: Deadline) -> Result<Connection, Error> {
        Connection::open(&self.endpoint, self.config, deadline)
    }

    /// Takes a connection back. One that cannot be used again, or for which there is no room, is closed.
    pub fn put(&self, mut connection: Connection) {
        if !connection.is_reusable() {
            return;
        }
        connection.rest();
        self.renew(Instant::now(), Some(connection));
    }

    /// Closes the connections that have been unused for too long; to be called now and then.
    pub fn sweep(&self, now: Instant) {
        self.renew(now, None);
    }

    /// Takes those out that have been unused for too long, and adds one if there is room. What is not kept is
    /// closed once the lock is gone.
    fn renew(&self, now: Instant, added: Option<Connection>) {
        let mut surplus = Vec::new();
        if let Some(idle) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            let fresh = idle.partition_point(|(_, since)| {
                now.saturating_duration_since(*since) >= self.config.idle_timeout
            });
            surplus.extend(idle.drain(..fresh));
            let has_room = idle.len() < self.config.max_idle;
            let place = if has_room { idle } else { &mut surplus };
            place.extend(added.map(|connection| (connection, now)));
        }
        drop(surplus);
    }

    /// Closes all idle connections; those in use may come back.
    pub fn clear(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let surplus = idle.as_mut().map(std::mem::take);
        drop(idle);
        drop(surplus);
    }

    /// Closes all idle connections, and those in use as they come back.
    pub fn close(&self) {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(idle);
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
