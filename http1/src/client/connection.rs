//! One client connection, a request at a time, without blocking: the caller polls
//! [`Connection::socket`] between calls.

use std::io;

use kit::Deadline;
use kit::sys::Socket;

use super::{ClientConfig, Endpoint, Error, Phase};
use crate::body::{Framing, Length};
use crate::head::{ResponseHead, Scan, Version};
use crate::wire::{Body, BodyError, Incoming, Mode, Outgoing};
use crate::writer::Persistence;
use crate::{HeadWriter, Refusal};

/// Interim responses (1xx) that may come before one final response.
const MAX_INTERIM: usize = 16;

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    incoming: Incoming,
    outgoing: Outgoing,
    config: ClientConfig,
    scan: Scan,
    head: Option<ResponseHead>,
    interim: usize,
    is_head_request: bool,
    is_upgrade: bool,
    is_reused: bool,
    has_received: bool,
    /// The connection broke, by a reset or for want of its peer, without an orderly end before.
    was_broken: bool,
    /// What had been sent on the connection before the present request.
    sent_before: u64,
    /// Until when it must be made; `None` once it is.
    connect_by: Option<Deadline>,
    /// The poller that is told of its changes.
    pub(crate) watched_by: Option<usize>,
}

fn watched(socket: Socket, config: ClientConfig) -> io::Result<Socket> {
    if let Some(span) = config.silence_timeout {
        socket.fail_without_peer(span)?;
    }
    Ok(socket)
}

impl Connection {
    /// Connects, within `config.connect_timeout` and the deadline.
    ///
    /// # Errors
    /// [`Error::Connect`]; nothing was sent.
    pub fn open(endpoint: &Endpoint, config: ClientConfig, deadline: Deadline) -> Result<Connection, Error> {
        let deadline = deadline.within(config.connect_timeout);
        let socket = match endpoint {
            Endpoint::Tcp(address) => {
                Socket::connect(*address, deadline).and_then(|socket| watched(socket, config))
            }
            Endpoint::Unix(path) => Socket::connect_unix(path, deadline),
        };
        let socket = socket.map_err(|source| Error::Connect { endpoint: endpoint.clone(), source })?;
        Ok(Connection::on(socket, config))
    }

    /// Begins to connect and does not wait, so that a poller may have it.
    pub(crate) fn begin(
        endpoint: &Endpoint,
        config: ClientConfig,
        deadline: Deadline,
    ) -> io::Result<Connection> {
        let Endpoint::Tcp(address) = endpoint else {
            return Err(io::ErrorKind::Unsupported.into()); // UNIX sockets connect at once or block
        };
        let socket = watched(Socket::begin_connect(*address)?, config)?;
        let connect_by = Some(deadline.within(config.connect_timeout));
        Ok(Connection { connect_by, ..Connection::on(socket, config) })
    }

    fn on(socket: Socket, config: ClientConfig) -> Connection {
        Connection {
            socket,
            incoming: Incoming::new(),
            outgoing: Outgoing::new(),
            config,
            scan: Scan::default(),
            head: None,
            interim: 0,
            is_head_request: false,
            is_upgrade: false,
            is_reused: false,
            has_received: false,
            was_broken: false,
            sent_before: 0,
            connect_by: None,
            watched_by: None,
        }
    }

    /// Whether the connection is still being made.
    pub(crate) fn is_connecting(&self) -> bool {
        self.connect_by.is_some()
    }

    /// Until when it must be made.
    pub(crate) fn connect_by(&self) -> Deadline {
        self.connect_by.unwrap_or(Deadline::NEVER)
    }

    /// Whether the connection is made by now.
    pub(crate) fn connected(&mut self) -> io::Result<bool> {
        let is_made = self.connect_by.is_none() || self.socket.connected()?;
        if is_made {
            self.connect_by = None;
        }
        Ok(is_made)
    }

    /// The socket, to be polled.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether it served a request before: then the server may close it just now.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether anything of the response has arrived.
    #[must_use]
    pub fn has_received(&self) -> bool {
        self.has_received
    }

    /// Whether the server has shown with the present request that it is there: the connection was made for it, or
    /// something of an answer came.
    #[must_use]
    pub fn has_peer(&self) -> bool {
        self.has_received || !self.is_reused && !self.is_connecting()
    }

    /// Whether the server cannot have seen any of the request: it ended the connection in order, nothing of
    /// an answer came, and with its end its system has acknowledged none of the request's bytes. Then it may
    /// be sent elsewhere whatever its method.
    ///
    /// A reset alone proves nothing, since what was read may be acknowledged later than it was read (RFC 9293
    /// section 3.8.6.3), and by a reset not at all.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        const SYN: u64 = 1; // the opening counts as a byte
        let acked = self.socket.bytes_acked();
        !self.has_received && !self.was_broken && acked.is_some_and(|acked| acked <= self.sent_before + SYN)
    }

    /// Notes how the connection ended. Linux calls a reset that follows an orderly end `BrokenPipe`; all other errors
    /// prove nothing: what acknowledged the request may have been lost with the network.
    fn seen<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.was_broken |= result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe);
        result
    }

    /// Begins a request; its head goes out with the first [`Connection::write`] or
    /// [`Connection::finish`].
    pub fn start(&mut self, head: HeadWriter, length: Length) {
        (self.is_head_request, self.is_upgrade) = (head.is_head_request(), head.is_upgrade());
        (self.head, self.interim, self.has_received) = (None, 0, false);
        self.scan = Scan::default();
        self.sent_before = self.outgoing.total();
        self.outgoing.begin(head.finish(length, true, Persistence::Default), Mode::of(length, true));
    }

    /// Sends what the socket takes of `data` and answers how much that is; 0 means that it is full.
    ///
    /// # Errors
    /// What the system says; more data than the announced length is `InvalidInput`.
    pub fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let result = self.outgoing.write(&self.socket, data);
        self.seen(result)
    }

    /// Sends the head, and what else is held back, before there is data; false when the socket is full.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> io::Result<bool> {
        let result = self.outgoing.flush(&self.socket);
        self.seen(result)
    }

    /// Ends the request; false when the socket is full and the call must be repeated.
    ///
    /// # Errors
    /// What the system says; less data than the announced length is `UnexpectedEof`.
    pub fn finish(&mut self) -> io::Result<bool> {
        let result = self.outgoing.finish(&self.socket);
        self.seen(result)
    }

    /// Whether the whole request was handed to the system.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.outgoing.is_finished()
    }

    /// The head of the response; `None` when the socket must become readable first. Interim responses
    /// are skipped.
    ///
    /// # Errors
    /// [`Error::Closed`], [`Error::Io`] or [`Error::Refused`].
    pub fn response(&mut self) -> Result<Option<&ResponseHead>, Error> {
        self.response_after(&mut |_| {})
    }

    /// The same, and shows interim responses on the way, but for `100 Continue`, which is for this hop alone.
    pub(crate) fn response_after(
        &mut self,
        interim: &mut dyn FnMut(&ResponseHead),
    ) -> Result<Option<&ResponseHead>, Error> {
        while self.head.is_none() {
            let Some(head) = self.next_head()? else {
                return Ok(None);
            };
            if head.status() >= 200 {
                self.incoming.begin_answer(head.framing());
                self.head = Some(head);
            } else if head.status() == 101 && self.is_upgrade && head.headers().get("upgrade").is_some() {
                self.head = Some(head);
            } else {
                self.interim += 1;
                if self.interim > MAX_INTERIM || head.status() == 101 {
                    return Err(Error::Refused(Refusal::RequestLine)); // nobody asked for a switch
                }
                if head.status() != 100 {
                    interim(&head);
                }
            }
        }
        Ok(self.head.as_ref())
    }

    fn next_head(&mut self) -> Result<Option<ResponseHead>, Error> {
        let limit = self.config.max_header_bytes;
        loop {
            if let Some(end) = self.scan.end(self.incoming.pending()) {
                if end > limit {
                    return Err(Error::Refused(Refusal::HeadTooLarge));
                }
                let bytes = self.incoming.take_head(end);
                self.scan = Scan::default();
                let head = ResponseHead::parse(bytes, self.config.max_headers, self.is_head_request);
                return head.map(Some).map_err(Error::Refused);
            }
            if self.incoming.pending().len() > limit {
                return Err(Error::Refused(Refusal::HeadTooLarge));
            }
            let result = self.incoming.fill(&self.socket, limit);
            match self.seen(result) {
                Ok(None) => {
                    self.incoming.rest();
                    return Ok(None);
                }
                Ok(Some(0)) => return Err(Error::Closed(Phase::FirstByte)),
                Ok(Some(_)) => self.has_received = true,
                Err(error) => return Err(Error::of_io(Phase::FirstByte, error)),
            }
        }
    }

    /// The head that [`Connection::response`] found.
    #[must_use]
    pub fn head(&self) -> Option<&ResponseHead> {
        self.head.as_ref()
    }

    /// Begins the tunnel that the server agreed to: both sides send until they close.
    pub(crate) fn begin_tunnel(&mut self) {
        let _ = self.incoming.begin(Framing::UntilClose, u64::MAX); // no length, so none that is too large
        self.outgoing.begin(Vec::new(), Mode::UntilClose);
    }

    /// Whether the response's head agrees to a change of protocol.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.status() == 101)
    }

    /// Whether the server, by itself, made this response the last of the connection: it may be about to end.
    #[must_use]
    pub fn is_told_to_close(&self) -> bool {
        let head = self.head.as_ref().filter(|head| head.version == Version::Http11);
        head.is_some_and(|head| head.headers().has_token("connection", "close"))
    }

    /// The length of the response's body, as its head tells it.
    #[must_use]
    pub fn body_length(&self) -> Length {
        self.head.as_ref().map_or(Length::None, |head| head.framing().into())
    }

    /// What there is of the response's body.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub fn body(&mut self) -> Result<Body<'_>, BodyError> {
        self.incoming.body(&self.socket)
    }

    /// Takes `count` bytes of what [`Connection::body`] showed.
    pub fn consume(&mut self, count: usize) {
        self.incoming.consume(count);
    }

    /// Whether the response was taken whole, the request was sent whole, and both allow another.
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        !self.is_tunnel()
            && self.head.as_ref().is_some_and(ResponseHead::keeps_alive)
            && self.incoming.is_done()
            && self.incoming.pending().is_empty()
            && self.outgoing.is_finished()
    }

    /// Readies it for the pool: the memory of the last exchange goes back.
    pub(crate) fn rest(&mut self) {
        self.incoming.rest();
        self.outgoing.rest();
        self.head = None;
        self.is_reused = true;
    }

    /// Whether an idle connection still stands: nothing has arrived on it, not even its end.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self.socket.peek(), Ok(None))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_an_orderly_end_proves_that_a_request_was_not_touched() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp(listener.local_addr().unwrap());
        let untouched = |error: Option<io::ErrorKind>| {
            let mut connection =
                Connection::open(&endpoint, ClientConfig::default(), Deadline::NEVER).unwrap();
            connection.start(HeadWriter::request("POST", b"/"), Length::None);
            if let Some(kind) = error {
                let _ = connection.seen::<()>(Err(kind.into())).unwrap_err();
            }
            connection.is_untouched()
        };
        assert!(untouched(None) && untouched(Some(io::ErrorKind::BrokenPipe)));
        for kind in [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::TimedOut,
            io::ErrorKind::HostUnreachable,
            io::ErrorKind::NetworkUnreachable,
        ] {
            assert!(!untouched(Some(kind)), "{kind:?}");
        }
    }
}
