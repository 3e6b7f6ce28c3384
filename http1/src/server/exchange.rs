//! One request and its answer, as the service sees them.

use std::io;
use std::net::SocketAddr;

use kit::Deadline;
use kit::sys::{Ready, Socket};

use super::clients::Wait;
use super::conn::{Conn, Next};
use super::record::{Answered, Record};
use super::{Answer, Shared, Waiting};
use crate::body::{Framing, Length};
use crate::head::{RequestHead, Version};
use crate::wire::{Body, BodyError, Mode};
use crate::writer::Persistence;
use crate::written::Written;
use crate::{HeadWriter, Refusal};

/// What is read and thrown away of a body that the service left, to keep the connection.
const MAX_LEFT_BYTES: usize = 256 * 1024;

/// The status that agrees to another protocol.
const SWITCHING_PROTOCOLS: u16 = 101;

/// How far a request was answered; what remains of an exchange between two steps of it.
pub(super) struct Turn {
    request: RequestHead,
    progress: Progress,
    closes: bool,
    owes_continue: bool,
    /// Why the body was refused: the answer where the service gives none.
    refusal: Option<Refusal>,
    /// What the service left it to wait with.
    waiting: Option<Box<dyn Waiting>>,
    /// Counts it among those of its client that wait.
    pub(super) seat: Option<Wait>,
    /// What is left to be done once the answer is out.
    work_after: Option<WorkAfter>,
    /// What the service is told of its answer.
    record: Option<Box<Record>>,
}

/// Work after an answer, see [`Exchange::after_answer`].
type WorkAfter = Box<dyn FnOnce() + Send>;

impl Turn {
    /// The turn of a request whose head was just taken.
    pub(super) fn new(shared: &Shared, conn: &Conn, request: RequestHead) -> Turn {
        let closes = !request.keeps_alive();
        let owes_continue = request.expects_continue() && !conn.incoming.is_done();
        let progress = Progress::Waiting;
        let record = shared.config.tells_answers.then(Record::new);
        Turn {
            request,
            progress,
            closes,
            owes_continue,
            record,
            refusal: None,
            waiting: None,
            seat: None,
            work_after: None,
        }
    }

    /// What it waits with, if the service left it so.
    pub(super) fn take_waiting(&mut self) -> Option<Box<dyn Waiting>> {
        self.waiting.take()
    }

    /// What is left to be done, now that the answer is out.
    pub(super) fn take_work_after(&mut self) -> Option<WorkAfter> {
        self.work_after.take()
    }

    pub(super) fn request(&self) -> &RequestHead {
        &self.request
    }

    pub(super) fn path(&self) -> &[u8] {
        self.request.path()
    }
}

/// One request and its answer. Its own calls do not block, so that one loop can poll the client's socket
/// with others; [`Exchange::respond`] and [`Exchange::read_body`] block, within bounds.
pub struct Exchange<'a> {
    shared: &'a Shared,
    conn: &'a mut Conn,
    turn: &'a mut Turn,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Started,
    Finished,
    Broken,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(shared: &'a Shared, conn: &'a mut Conn, turn: &'a mut Turn) -> Exchange<'a> {
        Exchange { shared, conn, turn }
    }

    /// The request's head.
    #[must_use]
    pub fn request(&self) -> &RequestHead {
        &self.turn.request
    }

    /// The client's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.conn.peer
    }

    /// The number of the listener by which the client came, in the order in which the server got them.
    #[must_use]
    pub fn listener(&self) -> usize {
        usize::from(self.conn.listener)
    }

    /// The length of the request's body, as the head tells it.
    #[must_use]
    pub fn body_length(&self) -> Length {
        self.turn.request.framing().into()
    }

    /// The client's socket, to be polled: readable while a body is read, writable while an answer is
    /// written, hung up always.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.conn.socket
    }

    /// The poller that the connection belongs to.
    pub(crate) fn poller(&self) -> usize {
        self.conn.poller
    }

    /// Whether the client was seen to go away.
    pub(crate) fn is_hung_up(&self) -> bool {
        self.conn.is_hung_up
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

    /// Whether the server ends, and with it what is being served.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping()
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
        if self.turn.owes_continue {
            self.say_continue().map_err(BodyError::Io)?;
        }
        let result = self.conn.incoming.body(&self.conn.socket);
        self.turn.closes |= result.is_err();
        if let Err(BodyError::Refused(refusal)) = &result {
            self.turn.refusal = Some(*refusal);
        }
        result
    }

    /// Tells a client that waits for `100 Continue` to go on, unless its body is on its way already.
    pub(super) fn say_continue(&mut self) -> io::Result<()> {
        let is_owed = std::mem::take(&mut self.turn.owes_continue);
        if is_owed && self.turn.progress == Progress::Waiting && self.conn.incoming.pending().is_empty() {
            self.conn.outgoing.interim(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.conn.outgoing.flush(&self.conn.socket)?;
        }
        Ok(())
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
        self.turn.closes = true;
        Err(if deadline.has_passed() { BodyError::Timeout } else { self.refused(Refusal::BodyStall) })
    }

    fn refused(&mut self, refusal: Refusal) -> BodyError {
        self.turn.closes = true;
        self.turn.refusal = Some(refusal);
        BodyError::Refused(refusal)
    }

    /// Answers a refusal as the server itself does, [`Service::refused`](super::Service::refused) included,
    /// and closes the connection. Where an answer was begun already that one is broken off.
    pub fn refuse(&mut self, refusal: Refusal) {
        if self.is_started() {
            return self.abort();
        }
        self.turn.closes = true;
        let (message, bytes) = self.conn.send_refusal(self.shared, refusal);
        if let Some(record) = &mut self.turn.record {
            record.begin(refusal.status(), &message);
            record.bytes = bytes;
        }
        self.turn.progress = Progress::Finished;
    }

    /// Leaves work that the client does not wait for. It runs on this worker, once the service has returned and the
    /// connection was given back; until it has ended the worker serves nobody else.
    pub fn after_answer(&mut self, work: Box<dyn FnOnce() + Send>) {
        self.turn.work_after = Some(work);
    }

    /// Makes this answer the last of its connection. To be called before it starts.
    pub fn close_after(&mut self) {
        self.turn.closes = true;
    }

    /// Leaves the request to wait, once the service has returned without an answer. For a service that
    /// [relays](super::Service::relays).
    pub fn wait(&mut self, waiting: Box<dyn Waiting>) {
        self.turn.waiting = Some(waiting);
    }

    /// Whether the service left it to wait, and nothing speaks against it.
    pub(super) fn is_left_to_wait(&self) -> bool {
        self.turn.waiting.is_some() && self.turn.progress == Progress::Waiting
    }

    /// Whether an answer was begun.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.turn.progress != Progress::Waiting
    }

    /// Passes on an interim answer, such as `103 Early Hints`, to a client of HTTP/1.1 (RFC 9110 section 15.2). It is
    /// dropped where the client has not taken the one before it: one at a time is held.
    pub(crate) fn interim(&mut self, head: HeadWriter) {
        let may = self.turn.request.version() == Version::Http11 && self.turn.progress == Progress::Waiting;
        if may && self.conn.outgoing.is_empty() {
            self.conn.outgoing.interim(&head.finish_interim());
            let _ = self.conn.outgoing.flush(&self.conn.socket); // a client that is gone is noticed later
        }
    }

    /// Begins the answer; its head goes out with the first [`Exchange::write`] or [`Exchange::finish`]. For
    /// HEAD, 204 and 304 the length is told as far as it may be, and no body is sent. A second answer is never
    /// sent; where the first was not finished it is broken off.
    pub fn start(&mut self, head: HeadWriter, length: Length) {
        match self.turn.progress {
            Progress::Waiting => {}
            Progress::Started => return self.abort(),
            Progress::Finished | Progress::Broken => return,
        }
        let chunked = self.turn.request.version() == Version::Http11;
        let has_body = self.turn.request.method() != "HEAD" && !matches!(head.status(), 204 | 304);
        // A client that was never told to go on may or may not send its body: its next bytes are ambiguous.
        self.turn.closes |= self.turn.owes_continue;
        self.turn.closes |= self.shared.is_draining();
        self.turn.closes |= length == Length::Unknown && !chunked && has_body;
        let persistence = match (self.turn.closes, self.turn.request.version()) {
            (true, _) => Persistence::Close,
            (false, Version::Http10) => Persistence::KeepAlive,
            (false, Version::Http11) => Persistence::Default,
        };
        let mode = if has_body { Mode::of(length, chunked) } else { Mode::Bodiless };
        let status = head.status();
        self.begin(status, head.finish(length, chunked, persistence), mode);
    }

    /// Agrees to the change of protocol that the request asked for: what was written as a head is sent, then both
    /// sides send what they like until they close. [`Exchange::body`] is what the client sends.
    pub(crate) fn start_tunnel(&mut self, head: HeadWriter) {
        if self.turn.progress != Progress::Waiting || self.turn.request.upgrade().is_none() {
            return self.abort();
        }
        self.turn.closes = true;
        let _ = self.conn.incoming.begin(Framing::UntilClose, u64::MAX); // no length that could be too large
        let head = head.finish(Length::None, true, Persistence::Default);
        self.begin(SWITCHING_PROTOCOLS, head, Mode::UntilClose);
    }

    fn begin(&mut self, status: u16, head: Written, mode: Mode) {
        if let Some(record) = &mut self.turn.record {
            record.begin(status, &head);
        }
        self.conn.outgoing.begin(head, mode);
        self.turn.progress = Progress::Started;
    }

    /// Sends what the socket takes of `data` and answers how much that is; 0 means that it is full.
    ///
    /// # Errors
    /// What the system says, after which the connection is broken off; more data than the announced length,
    /// or data outside an answer, is `InvalidInput`.
    pub fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.turn.progress != Progress::Started {
            return Err(self.misuse());
        }
        let result = self.conn.outgoing.write(&self.conn.socket, data);
        match (&result, &mut self.turn.record) {
            (Ok(count), Some(record)) => record.bytes += *count as u64,
            (Ok(_), None) => {}
            (Err(_), _) => self.abort(),
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
        if matches!(self.turn.progress, Progress::Waiting | Progress::Broken) {
            return Err(self.misuse());
        }
        match self.conn.outgoing.finish(&self.conn.socket) {
            Ok(true) => self.turn.progress = Progress::Finished,
            Ok(false) => return Ok(false),
            Err(error) => {
                self.abort();
                return Err(error);
            }
        }
        Ok(true)
    }

    fn misuse(&self) -> io::Error {
        let why = match self.turn.progress {
            Progress::Waiting => "no answer was begun",
            Progress::Finished => "the answer is finished",
            Progress::Started | Progress::Broken => "the answer was broken off",
        };
        io::Error::new(io::ErrorKind::InvalidInput, why)
    }

    /// Breaks the connection off, so that the client cannot take what it has for the whole.
    pub fn abort(&mut self) {
        self.turn.progress = Progress::Broken;
    }

    /// Sends a whole answer, waiting for a slow client up to the bound of the server.
    ///
    /// # Errors
    /// What the system says, or `TimedOut`.
    pub fn respond(&mut self, head: HeadWriter, body: &[u8]) -> io::Result<()> {
        self.respond_as(head, length_of(body), body)
    }

    /// Sends a whole answer, as [`Exchange::respond`] does.
    ///
    /// # Errors
    /// As [`Exchange::respond`].
    pub fn send(&mut self, answer: Answer) -> io::Result<()> {
        self.respond(answer.head, &answer.body)
    }

    /// Begins a whole answer with a body of so many bytes, and throws away what the service left of the request's.
    pub(super) fn begin_whole(&mut self, head: HeadWriter, length: Length) {
        self.turn.closes |= !self.discard_body();
        self.start(head, length);
    }

    /// Sends a whole answer whose length is told as `length`: another one than that of `body` where the answer has no
    /// body by its nature, to HEAD for example.
    ///
    /// # Errors
    /// As [`Exchange::respond`]; a shorter `body` than was told is `UnexpectedEof`.
    pub fn respond_as(&mut self, head: HeadWriter, length: Length, body: &[u8]) -> io::Result<()> {
        self.begin_whole(head, length);
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

    /// Reads the body until it has ended, or `enough` bytes of it are there; a few more may be. Whether that is the whole.
    ///
    /// # Errors
    /// [`Refusal::BodyStall`] when it stops arriving, [`BodyError::Timeout`] at the deadline.
    pub fn read_ahead(&mut self, enough: usize, deadline: Deadline) -> Result<(Vec<u8>, bool), BodyError> {
        let mut read = Vec::new();
        while read.len() < enough {
            match self.body()? {
                Body::Data(data) => {
                    let count = data.len();
                    read.extend_from_slice(data);
                    self.consume(count);
                }
                Body::End => return Ok((read, true)),
                Body::Wait => self.wait_for_body(deadline)?,
            }
        }
        Ok((read, self.has_read_body()))
    }

    /// The whole body, where it has come with the head and there was no need to decode it.
    #[must_use]
    pub fn body_in_hand(&self) -> Option<&[u8]> {
        match self.body_length() {
            Length::None => Some(&[]),
            Length::Known(length) => self.conn.incoming.pending().get(..usize::try_from(length).ok()?),
            Length::Unknown => None,
        }
    }

    /// Throws away what has arrived of a body that nobody wants, up to a bound; whether that was all.
    fn discard_body(&mut self) -> bool {
        if self.turn.owes_continue {
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

    /// Settles what the service left undone, and tells the service of the answer.
    pub(super) fn end(mut self) -> Next {
        let next = self.settle();
        if let Some(record) = self.turn.record.take() {
            let answered = Answered {
                peer: self.conn.peer,
                request: Some(&self.turn.request),
                status: record.status,
                head: &record.head,
                bytes: record.bytes,
                took: record.started.elapsed(),
            };
            self.shared.guarded(self.turn.path(), || self.shared.service.answered(&answered));
        }
        next
    }

    fn settle(&mut self) -> Next {
        if let (Progress::Waiting, Some(refusal)) = (self.turn.progress, self.turn.refusal) {
            self.refuse(refusal);
        }
        if self.turn.progress == Progress::Waiting {
            let mut head = HeadWriter::response(500);
            head.text("Content-Type", "text/plain; charset=utf-8");
            let _ = self.respond(head, b"internal error: the request was not answered\n"); // or nobody is there
        }
        if self.turn.progress != Progress::Finished {
            self.conn.socket.reset_on_close();
            return Next::Close;
        }
        if !self.discard_body() {
            return Next::CloseSlowly;
        }
        match self.turn.closes {
            false => Next::KeepAlive,
            // Closing over unread bytes would reset the answer away, and a client that did not ask for the
            // end may be sending its next request.
            true if self.turn.request.keeps_alive() || self.conn.has_input() => Next::CloseSlowly,
            true => Next::Close,
        }
    }
}

/// The length of the body of a whole answer.
pub(super) fn length_of(body: &[u8]) -> Length {
    if body.is_empty() { Length::None } else { Length::Known(body.len() as u64) }
}
