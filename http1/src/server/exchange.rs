//! One request and its answer, as the service sees them.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use kit::Deadline;
use kit::sys::{Ready, Socket};

use super::Shared;
use super::table::{Phase, Token, Waiting};
use super::worker::MAX_URGENT;
use crate::body::Length;
use crate::head::{RequestHead, Scan, Version};
use crate::wire::{Body, BodyError, Incoming, Mode, Outgoing};
use crate::writer::Persistence;
use crate::{HeadWriter, Refusal};

/// What is read and thrown away of a body that the service left, to keep the connection.
const MAX_LEFT_BYTES: usize = 256 * 1024;

/// A connection that is with a worker.
pub(super) struct Conn {
    socket: Socket,
    peer: SocketAddr,
    token: Token,
    incoming: Incoming,
    outgoing: Outgoing,
    scan: Scan,
}

/// What becomes of a connection after an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    KeepAlive,
    /// Everything is done, or the peer is gone.
    Close,
    /// The peer may still be sending; see RFC 9112 section 9.6.
    CloseSlowly,
}

impl Conn {
    pub(super) fn new(waiting: Waiting, token: Token) -> Conn {
        let mut incoming = Incoming::new();
        incoming.push(&waiting.buffer);
        Conn {
            socket: waiting.socket,
            peer: waiting.peer,
            token,
            incoming,
            outgoing: Outgoing::new(),
            scan: Scan::default(),
        }
    }

    pub(super) fn into_waiting(self) -> (Token, Waiting) {
        let waiting = Waiting {
            socket: self.socket,
            peer: self.peer,
            buffer: self.incoming.into_pending(),
            scan: Scan::default(),
            phase: Phase::Idle,
            since: Instant::now(),
        };
        (self.token, waiting)
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether bytes are there that nobody has read or taken.
    pub(super) fn has_input(&self) -> bool {
        !self.incoming.pending().is_empty() || matches!(self.socket.peek(), Ok(Some(1..)))
    }

    /// Whether more has arrived than a head may have.
    pub(super) fn is_over(&self, max_header_bytes: usize) -> bool {
        self.incoming.pending().len() > max_header_bytes
    }

    /// The length of the next head, if it is there whole.
    pub(super) fn next_head(&mut self) -> Option<usize> {
        self.scan.end(self.incoming.pending())
    }

    /// How many threads the service has for the next request, and ones like it, beyond the workers.
    pub(super) fn urgent_threads(&self, shared: &Shared) -> usize {
        shared.service.urgent_threads(self.incoming.pending()).min(MAX_URGENT)
    }

    pub(super) fn fill(&mut self, room: usize) -> io::Result<Option<usize>> {
        self.incoming.fill(&self.socket, room)
    }

    /// Takes the head that is there and begins its body.
    pub(super) fn take_request(&mut self, shared: &Shared) -> Result<RequestHead, Refusal> {
        let end = self.next_head().unwrap_or_default(); // jobs have a complete head
        self.scan = Scan::default();
        if end > shared.config.max_header_bytes {
            return Err(Refusal::HeadTooLarge);
        }
        let bytes = self.incoming.take_head(end);
        let head = RequestHead::parse(bytes, shared.config.max_headers)?;
        self.incoming.begin(head.framing(), shared.config.body_limit())?;
        Ok(head)
    }

    /// Answers a refusal; the connection is to be closed.
    pub(super) fn refuse(&mut self, shared: &Shared, refusal: Refusal) {
        self.outgoing.interim(&refusal_message(shared, refusal));
        let _ = self.outgoing.flush(&self.socket); // it fits, or the peer is gone
    }
}

/// The whole answer to a refusal.
pub(super) fn refusal_message(shared: &Shared, refusal: Refusal) -> Vec<u8> {
    let text = format!("{refusal}\n");
    let mut head = HeadWriter::response(refusal.status());
    head.text("Content-Type", "text/plain; charset=utf-8");
    if refusal == Refusal::Overloaded {
        head.text("Retry-After", "1");
    }
    shared.service.refused(refusal, &mut head);
    let mut message = head.finish(Length::Known(text.len() as u64), true, Persistence::Close);
    message.extend_from_slice(text.as_bytes());
    message
}

/// One request and its answer. Its own calls do not block, so that one loop can poll the client's socket
/// with others; [`Exchange::respond`] and [`Exchange::read_body`] block, within bounds.
pub struct Exchange<'a> {
    shared: &'a Shared,
    conn: &'a mut Conn,
    request: RequestHead,
    progress: Progress,
    closes: bool,
    owes_continue: bool,
    /// Why the body was refused: the answer where the service gives none.
    refusal: Option<Refusal>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Started,
    Finished,
    Broken,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(shared: &'a Shared, conn: &'a mut Conn, request: RequestHead) -> Exchange<'a> {
        let closes = !request.keeps_alive();
        let owes_continue = request.expects_continue() && !conn.incoming.is_done();
        let progress = Progress::Waiting;
        Exchange { shared, conn, request, progress, closes, owes_continue, refusal: None }
    }

    /// The request's head.
    #[must_use]
    pub fn request(&self) -> &RequestHead {
        &self.request
    }

    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.conn.peer
    }

    /// The length of the request's body, as the head tells it.
    #[must_use]
    pub fn body_length(&self) -> Length {
        self.request.framing().into()
    }

    /// The client's socket, to be polled: readable while a body is read, writable while an answer is
    /// written, hung up always.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.conn.socket
    }

    /// What the server is doing.
    #[must_use]
    pub fn stats(&self) -> super::Stats {
        self.shared.stats()
    }

    /// Whether the server is being stopped.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    /// Whether the client closed its side, so that nobody waits for the answer.
    #[must_use]
    pub fn is_client_gone(&self) -> bool {
        let ready = self.conn.socket.wait(Ready::HANG_UP, Deadline::after(std::time::Duration::ZERO));
        ready.is_ok_and(Ready::is_hung_up)
    }

    /// The bounds of the server.
    #[must_use]
    pub fn config(&self) -> &super::ServerConfig {
        &self.shared.config
    }

    /// What there is of the request's body. A client that waits for `100 Continue` gets it now.
    ///
    /// # Errors
    /// See [`BodyError`]; after one the connection will be closed. A service that then returns without an
    /// answer leaves the one to a refusal to the server, as [`Exchange::refuse`] gives it.
    pub fn body(&mut self) -> Result<Body<'_>, BodyError> {
        if self.owes_continue && self.progress == Progress::Waiting && self.conn.incoming.pending().is_empty()
        {
            self.conn.outgoing.interim(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.conn.outgoing.flush(&self.conn.socket).map_err(BodyError::Io)?;
        }
        self.owes_continue = false;
        let result = self.conn.incoming.body(&self.conn.socket);
        self.closes |= result.is_err();
        if let Err(BodyError::Refused(refusal)) = &result {
            self.refusal = Some(*refusal);
        }
        result
    }

    /// Takes `count` bytes of what [`Exchange::body`] showed.
    pub fn consume(&mut self, count: usize) {
        self.conn.incoming.consume(count);
    }

    /// Whether the whole body was taken.
    #[must_use]
    pub fn has_read_body(&self) -> bool {
        self.conn.incoming.is_done()
    }

    /// Reads the whole body, or its rest.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLarge`] when it is longer than `limit` bytes, [`Refusal::BodyStall`] when it stops
    /// arriving, [`BodyError::Timeout`] at the deadline.
    pub fn read_body(&mut self, limit: usize, deadline: Deadline) -> Result<Vec<u8>, BodyError> {
        let mut whole = Vec::new();
        loop {
            match self.body()? {
                Body::Data(data) if whole.len() + data.len() > limit => {
                    return Err(self.refused(Refusal::BodyTooLarge));
                }
                Body::Data(data) => {
                    let count = data.len();
                    whole.extend_from_slice(data);
                    self.consume(count);
                }
                Body::End => return Ok(whole),
                Body::Wait => self.wait_for_body(deadline)?,
            }
        }
    }

    fn wait_for_body(&mut self, deadline: Deadline) -> Result<(), BodyError> {
        let step = deadline.within(self.shared.config.body_stall_timeout);
        let ready = self.conn.socket.wait(Ready::READ, step).map_err(BodyError::Io)?;
        if ready.is_any() {
            return Ok(());
        }
        self.closes = true;
        Err(if deadline.has_passed() { BodyError::Timeout } else { self.refused(Refusal::BodyStall) })
    }

    fn refused(&mut self, refusal: Refusal) -> BodyError {
        self.closes = true;
        self.refusal = Some(refusal);
        BodyError::Refused(refusal)
    }

    /// Answers a refusal as the server itself does, [`Service::refused`](super::Service::refused) included,
    /// and closes the connection. Where an answer was begun already that one is broken off.
    pub fn refuse(&mut self, refusal: Refusal) {
        if self.is_started() {
            return self.abort();
        }
        self.closes = true;
        self.conn.refuse(self.shared, refusal);
        self.progress = Progress::Finished;
    }

    /// Makes this answer the last of its connection. To be called before it starts.
    pub fn close_after(&mut self) {
        self.closes = true;
    }

    /// Whether an answer was begun.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.progress != Progress::Waiting
    }

    /// Begins the answer; its head goes out with the first [`Exchange::write`] or [`Exchange::finish`]. For
    /// HEAD, 204 and 304 the length is told as far as it may be, and no body is sent. A second answer is never
    /// sent; where the first was not finished it is broken off.
    pub fn start(&mut self, head: HeadWriter, length: Length) {
        match self.progress {
            Progress::Waiting => {}
            Progress::Started => return self.abort(),
            Progress::Finished | Progress::Broken => return,
        }
        let chunked = self.request.version() == Version::Http11;
        let has_body = self.request.method() != "HEAD" && !matches!(head.status(), 204 | 304);
        // A client that was never told to go on may or may not send its body: its next bytes are ambiguous.
        self.closes |= self.owes_continue;
        self.closes |= self.shared.is_draining();
        self.closes |= length == Length::Unknown && !chunked && has_body;
        let persistence = match (self.closes, self.request.version()) {
            (true, _) => Persistence::Close,
            (false, Version::Http10) => Persistence::KeepAlive,
            (false, Version::Http11) => Persistence::Default,
        };
        let mode = if has_body { Mode::of(length, chunked) } else { Mode::Bodiless };
        self.conn.outgoing.begin(head.finish(length, chunked, persistence), mode);
        self.progress = Progress::Started;
    }

    /// Sends what the socket takes of `data` and answers how much that is; 0 means that it is full.
    ///
    /// # Errors
    /// What the system says, after which the connection is broken off; more data than the announced length,
    /// or data outside an answer, is `InvalidInput`.
    pub fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.progress != Progress::Started {
            return Err(self.misuse());
        }
        let result = self.conn.outgoing.write(&self.conn.socket, data);
        if result.is_err() {
            self.abort();
        }
        result
    }

    /// Sends what is still held back of the head and of framing; false when the socket is full.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> io::Result<bool> {
        self.conn.outgoing.flush(&self.conn.socket)
    }

    /// Ends the answer; false when the socket is full and the call must be repeated.
    ///
    /// # Errors
    /// What the system says; less data than the announced length is `UnexpectedEof`; an answer that was not
    /// begun, or was broken off, is `InvalidInput`.
    pub fn finish(&mut self) -> io::Result<bool> {
        if matches!(self.progress, Progress::Waiting | Progress::Broken) {
            return Err(self.misuse());
        }
        match self.conn.outgoing.finish(&self.conn.socket) {
            Ok(true) => self.progress = Progress::Finished,
            Ok(false) => return Ok(false),
            Err(error) => {
                self.abort();
                return Err(error);
            }
        }
        Ok(true)
    }

    fn misuse(&self) -> io::Error {
        let why = match self.progress {
            Progress::Waiting => "no answer was begun",
            Progress::Finished => "the answer is finished",
            Progress::Started | Progress::Broken => "the answer was broken off",
        };
        io::Error::new(io::ErrorKind::InvalidInput, why)
    }

    /// Breaks the connection off, so that the client cannot take what it has for the whole.
    pub fn abort(&mut self) {
        self.progress = Progress::Broken;
    }

    /// Sends a whole answer, waiting for a slow client up to the bound of the server.
    ///
    /// # Errors
    /// What the system says, or `TimedOut`.
    pub fn respond(&mut self, head: HeadWriter, body: &[u8]) -> io::Result<()> {
        self.closes |= !self.discard_body();
        let length = if body.is_empty() { Length::None } else { Length::Known(body.len() as u64) };
        self.start(head, length);
        let mut rest = body;
        while !rest.is_empty() {
            match self.write(rest)? {
                0 => self.wait_for_room()?,
                count => rest = &rest[count..],
            }
        }
        while !self.finish()? {
            self.wait_for_room()?;
        }
        Ok(())
    }

    fn wait_for_room(&mut self) -> io::Result<()> {
        let deadline = Deadline::after(self.shared.config.write_stall_timeout);
        if self.conn.socket.wait(Ready::WRITE, deadline)?.is_any() {
            return Ok(());
        }
        self.abort();
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Throws away what has arrived of a body that nobody wants, up to a bound; whether that was all.
    fn discard_body(&mut self) -> bool {
        if self.owes_continue {
            return false;
        }
        let mut left = MAX_LEFT_BYTES;
        loop {
            match self.conn.incoming.body(&self.conn.socket) {
                Ok(Body::End) => return true,
                Ok(Body::Data(data)) if data.len() <= left => {
                    let count = data.len();
                    left -= count;
                    self.conn.incoming.consume(count);
                }
                _ => return false,
            }
        }
    }

    /// Settles what the service left undone.
    pub(super) fn end(mut self) -> Next {
        if let (Progress::Waiting, Some(refusal)) = (self.progress, self.refusal) {
            self.refuse(refusal);
        }
        if self.progress == Progress::Waiting {
            let mut head = HeadWriter::response(500);
            head.text("Content-Type", "text/plain; charset=utf-8");
            let _ = self.respond(head, b"internal error: the request was not answered\n"); // or nobody is there
        }
        if self.progress != Progress::Finished {
            self.conn.socket.reset_on_close();
            return Next::Close;
        }
        if !self.discard_body() {
            return Next::CloseSlowly;
        }
        match self.closes {
            false => Next::KeepAlive,
            // Closing over unread bytes would reset the answer away, and a client that did not ask for the
            // end may be sending its next request.
            true if self.request.keeps_alive() || self.conn.has_input() => Next::CloseSlowly,
            true => Next::Close,
        }
    }
}
