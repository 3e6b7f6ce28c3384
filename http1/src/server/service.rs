//! The contract between a server and its service: what the service decides, and the exchange that it sees.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use kit::Deadline;
use kit::sys::{Ready, Socket};

use super::config::{ServerConfig, Stats};
use super::conn::{Conn, Next};
use super::host::Host;
use super::record::Answered;
use super::turn::{Progress, Turn};
use crate::body::{Framing, Length};
use crate::forward::{Cause, End, Transfer, Upload};
use crate::head::{RequestHead, Version};
use crate::wire::{Body, BodyError, Mode};
use crate::writer::Persistence;
use crate::written::Written;
use crate::{Connection, HeadWriter, Refusal, ResponseHead};

/// What is read and thrown away of a body that the service left, to keep the connection.
const MAX_LEFT_BYTES: usize = 256 * 1024;

/// The status that agrees to another protocol.
const SWITCHING_PROTOCOLS: u16 = 101;

/// What a server is for.
pub trait Service: Send + Sync + 'static {
    /// Serves one request. A call that returns without an answer is answered 500; one that began an answer
    /// and did not finish it has its connection broken off; a panic is the same.
    fn call(&self, exchange: &mut Exchange<'_>);

    /// Answers a request at once: also where as many are served as may be, and without a thread for a client that does
    /// not read. It runs on a poller, which serves all others meanwhile: it must not wait for anything.
    fn answer(&self, exchange: &Exchange<'_>) -> Option<Answer> {
        let _ = exchange;
        None
    }

    /// Whether [`Service::relay`] is worth asking. Workers of such a server hand a connection back at once.
    fn relays(&self) -> bool {
        false
    }

    /// Takes a request for which its poller does all that is left to do. It runs on that poller, which serves all
    /// others meanwhile: it must not wait for anything. For `None`, [`Service::call`] is called on a worker.
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
    /// It waits, and is looked at again when the server is woken (see [`Waker`](super::Waker)), or now and then.
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

    /// The client went away, or the server refused the request: no answer of the service is sent.
    fn ended(self: Box<Self>, cause: Cause);
}

/// A request that waits for something other than its sockets. It takes neither a thread nor a place among the calls.
pub trait Waiting: Blocking {
    /// What the request waits for. If one request has to wait on, later ones with the same key are skipped in that
    /// round.
    fn key(&self) -> usize;

    /// When its time is up.
    fn until(&self) -> Instant;

    /// Time is up. Called on the poller, and again while the queue for workers is full.
    fn expired(self: Box<Self>, exchange: &Exchange<'_>) -> Due;

    /// The client has its share of all calls: waiting calls of other clients go first.
    fn step_aside(&mut self) {}

    /// Looks whether the request can go on. Called on the poller, in order of arrival.
    fn look(self: Box<Self>, exchange: &Exchange<'_>) -> Course;
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

/// Work after an answer, see [`Exchange::after_answer`].
pub(super) type WorkAfter = Box<dyn FnOnce() + Send>;

/// One request and its answer. Its own calls do not block, so that one loop can poll the client's socket
/// with others; [`Exchange::respond`] and [`Exchange::read_body`] block, within bounds.
pub struct Exchange<'a> {
    pub(super) host: &'a dyn Host,
    pub(super) conn: &'a mut Conn,
    pub(super) turn: &'a mut Turn,
    /// What the service left the request to wait with.
    waiting: Option<Box<dyn Waiting>>,
    /// What is left to be done once the answer is out.
    work_after: Option<WorkAfter>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(host: &'a dyn Host, conn: &'a mut Conn, turn: &'a mut Turn) -> Exchange<'a> {
        Exchange { host, conn, turn, waiting: None, work_after: None }
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
    pub fn stats(&self) -> Stats {
        self.host.stats()
    }

    /// Whether the server is being stopped.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.host.is_draining()
    }

    /// Whether the server ends, and with it what is being served.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.host.is_stopping()
    }

    /// Whether the client closed its side, so that nobody waits for the answer.
    #[must_use]
    pub fn is_client_gone(&self) -> bool {
        let ready = self.conn.socket.wait(Ready::HANG_UP, Deadline::after(std::time::Duration::ZERO));
        ready.is_ok_and(Ready::is_hung_up)
    }

    /// The bounds of the server.
    #[must_use]
    pub fn config(&self) -> &ServerConfig {
        self.host.config()
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

    /// Answers a refusal as the server itself does, [`Service::refused`] included,
    /// and closes the connection. Where an answer was begun already that one is broken off.
    pub fn refuse(&mut self, refusal: Refusal) {
        if self.is_started() {
            return self.abort();
        }
        self.turn.closes = true;
        let (message, bytes) = self.conn.send_refusal(self.host, refusal);
        if let Some(record) = &mut self.turn.record {
            record.begin(refusal.status(), &message);
            record.bytes = bytes;
        }
        self.turn.progress = Progress::Finished;
    }

    /// Leaves work that the client does not wait for. It runs on this worker, once the service has returned and the
    /// connection was given back; until it has ended the worker serves nobody else.
    pub fn after_answer(&mut self, work: Box<dyn FnOnce() + Send>) {
        self.work_after = Some(work);
    }

    /// Makes this answer the last of its connection. To be called before it starts.
    pub fn close_after(&mut self) {
        self.turn.closes = true;
    }

    /// Leaves the request to wait, once the service has returned without an answer. For a service that
    /// [relays](Service::relays).
    pub fn wait(&mut self, waiting: Box<dyn Waiting>) {
        self.waiting = Some(waiting);
    }

    /// What the service left the request to wait with, if nothing speaks against it.
    pub(super) fn take_waiting(&mut self) -> Option<Box<dyn Waiting>> {
        self.waiting.take_if(|_| self.turn.progress == Progress::Waiting)
    }

    /// What is left to be done once the answer is out.
    pub(super) fn take_work_after(&mut self) -> Option<WorkAfter> {
        self.work_after.take()
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
        self.turn.closes |= self.host.is_draining();
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

    /// Begins a whole answer with a body of so many bytes, and throws away what the service left of the request's.
    pub(super) fn begin_whole(&mut self, head: HeadWriter, length: Length) {
        self.turn.closes |= !self.discard_body();
        self.start(head, length);
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
            self.host.answered(&answered);
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
