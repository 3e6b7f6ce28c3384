//! One client connection, which carries one request at a time and never blocks: the caller polls [`Connection::socket`]
//! between calls.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kit::Deadline;
use kit::sys::{Ready, Socket};

use super::pool::Shelves;
use super::{ClientConfig, Endpoint, Error, Phase};
use crate::body::{Framing, Length};
use crate::head::{ResponseHead, Scan, Version};
use crate::wire::{Body, BodyError, Incoming, Mode, Outgoing};
use crate::writer::Persistence;
use crate::written::Written;
use crate::{HeadWriter, Refusal};

/// The most interim responses (1xx) before one final response.
const MAX_INTERIM: usize = 16;

/// A new connection waits this long for its first byte, then an idle connection is closed to make room. The pauses
/// until the next one double up to the maximum.
const FIRST_ROOM_PAUSE: Duration = Duration::from_millis(100);
const MAX_ROOM_PAUSE: Duration = Duration::from_secs(1);

/// The state of a connection after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The connection can carry the next request.
    Idle,
    /// The connection is done: the request or the answer is not whole, or one side ends the connection.
    Spent,
    /// The connection is not trusted: the server sent bytes that belong to no answer.
    Surplus,
}

/// A new connection without a byte from the server. A server with few slots may not serve it while idle connections
/// take the slots.
#[derive(Debug)]
struct Unnoticed {
    /// The idle connections of its pool.
    idle: Arc<Shelves>,
    next_ask: Instant,
    pause: Duration,
}

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
    /// The kernel tells how much the peer's kernel has acknowledged.
    is_tcp: bool,
    /// The first request is the last, and says so.
    is_for_one_call: bool,
    /// Bytes came that belong to no answer.
    has_surplus: bool,
    /// The poller saw that the server has ended its side.
    is_hung_up: bool,
    unnoticed: Option<Unnoticed>,
    /// The connection broke, by a reset or a silent peer, without an orderly end before.
    was_broken: bool,
    /// The bytes that had been sent before the present request.
    sent_before: u64,
    /// The deadline of the connect; `None` once the connection is made.
    connect_by: Option<Deadline>,
    /// The poller that gets the socket's events.
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
        let is_tcp = matches!(endpoint, Endpoint::Tcp(_));
        Ok(Connection { is_tcp, ..Connection::on(socket, config) })
    }

    /// Begins to connect and does not wait, for a poller.
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

    /// Whether this process itself listens at the other end of a UNIX socket.
    ///
    /// # Errors
    /// See [`Socket::is_to_itself`].
    pub fn is_to_itself(&self) -> io::Result<bool> {
        self.socket.is_to_itself()
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
            is_tcp: true,
            is_for_one_call: false,
            has_surplus: false,
            is_hung_up: false,
            unnoticed: None,
            was_broken: false,
            sent_before: 0,
            connect_by: None,
            watched_by: None,
        }
    }

    /// Makes the connection part of a pool. If the pool does not `trust` the server, the connection serves one call.
    pub(crate) fn of_pool(mut self: Box<Self>, idle: &Arc<Shelves>, trust: bool) -> Box<Connection> {
        let next_ask = Instant::now() + FIRST_ROOM_PAUSE;
        self.unnoticed = Some(Unnoticed { idle: Arc::clone(idle), next_ask, pause: FIRST_ROOM_PAUSE });
        self.is_for_one_call = !trust;
        self
    }

    /// When [`Connection::ask_for_room`] is due.
    pub(crate) fn next_ask(&self) -> Deadline {
        self.unnoticed.as_ref().map_or(Deadline::NEVER, |unnoticed| Deadline::at(unnoticed.next_ask))
    }

    /// Closes an idle connection to the same server if no byte has come on this new one for a while.
    pub(crate) fn ask_for_room(&mut self, now: Instant) {
        if let Some(Unnoticed { idle, next_ask, pause }) = &mut self.unnoticed
            && now >= *next_ask
        {
            idle.make_room(now);
            *pause = (*pause * 2).min(MAX_ROOM_PAUSE);
            *next_ask = now + *pause;
        }
    }

    /// Whether the connection is still being made.
    pub(crate) fn is_connecting(&self) -> bool {
        self.connect_by.is_some()
    }

    /// The deadline of the connect.
    pub(crate) fn connect_by(&self) -> Deadline {
        self.connect_by.unwrap_or(Deadline::NEVER)
    }

    /// Whether the connect that [`Pool::begin`](super::Pool::begin) began is done. Nothing can be sent before.
    ///
    /// # Errors
    /// Why the connect failed.
    pub fn connected(&mut self) -> io::Result<bool> {
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

    /// Whether the connection served a request before: the server may be about to close it.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether anything of the response has arrived.
    #[must_use]
    pub fn has_received(&self) -> bool {
        self.has_received
    }

    /// Whether the server is known to be there: the connection was made for the present request, or a part of an answer
    /// came.
    #[must_use]
    pub fn has_peer(&self) -> bool {
        self.has_received || !self.is_reused && !self.is_connecting()
    }

    /// Whether the server cannot have seen any byte of the request: the server ended the connection in order, no part
    /// of an answer came, and its kernel has acknowledged no byte of the request. Then the request may be sent
    /// elsewhere whatever its method.
    ///
    /// A reset alone proves nothing: bytes may be read before they are acknowledged (RFC 9293 section 3.8.6.3), and a
    /// reset acknowledges nothing.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        const SYN: u64 = 1; // the opening counts as a byte
        let acked = self.socket.bytes_acked();
        !self.has_received && !self.was_broken && acked.is_some_and(|acked| acked <= self.sent_before + SYN)
    }

    /// Notes how the connection ended. Linux calls a reset behind an orderly end `BrokenPipe`. All other errors prove
    /// nothing: the network may have lost an acknowledgement.
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
        let persistence = if self.is_for_one_call { Persistence::Close } else { Persistence::Default };
        self.outgoing.begin(head.finish(length, true, persistence), Mode::of(length, true));
    }

    /// Sends as much of `data` as the socket takes, and returns how much that is; 0 means that the socket is full.
    ///
    /// # Errors
    /// What the system says; more data than the announced length is `InvalidInput`.
    pub fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let result = self.outgoing.write(&self.socket, data);
        self.seen(result)
    }

    /// Sends the head and other waiting bytes before there is data. False when the socket is full.
    ///
    /// # Errors
    /// What the system says.
    pub fn flush(&mut self) -> io::Result<bool> {
        let result = self.outgoing.flush(&self.socket);
        self.seen(result)
    }

    /// Ends the request. False when the socket is full: the caller calls again.
    ///
    /// # Errors
    /// What the system says; less data than the announced length is `UnexpectedEof`.
    pub fn finish(&mut self) -> io::Result<bool> {
        let result = self.outgoing.finish(&self.socket);
        self.seen(result)
    }

    /// Whether the kernel has the whole request.
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

    /// As [`Connection::response`], and passes interim responses to `interim`, except `100 Continue`, which is for
    /// this hop alone.
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
                Ok(Some(_)) if !self.has_received && self.is_too_early() => {
                    // The request is on its way and may still be executed.
                    (self.has_surplus, self.was_broken) = (!self.has_ended(), true);
                    return Err(Error::Closed(Phase::FirstByte));
                }
                Ok(Some(_)) => {
                    self.has_received = true;
                    self.unnoticed = None;
                }
                Err(error) => return Err(Error::of_io(Phase::FirstByte, error)),
            }
        }
    }

    /// Whether the bytes that just came cannot be an answer: the peer's kernel has acknowledged no byte of the
    /// request, so the bytes were sent behind an earlier answer. On a new connection they may be the refusal of a full
    /// server, which does not read.
    fn is_too_early(&self) -> bool {
        let sent = self.outgoing.total() - self.sent_before;
        let is_unseen = || self.is_tcp && self.socket.unacknowledged().is_some_and(|left| left >= sent);
        self.is_reused && (sent == 0 || is_unseen())
    }

    /// The head that [`Connection::response`] found.
    #[must_use]
    pub fn head(&self) -> Option<&ResponseHead> {
        self.head.as_ref()
    }

    /// Begins the tunnel that the server agreed to. Both sides send until they close.
    pub(crate) fn begin_tunnel(&mut self) {
        let _ = self.incoming.begin(Framing::UntilClose, u64::MAX); // no length, so none that is too large
        self.outgoing.begin(Written::default(), Mode::UntilClose);
    }

    /// Whether the response's head agrees to a change of protocol.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.status() == 101)
    }

    /// Whether the server itself made this response the last of the connection: the server may be about to end.
    #[must_use]
    pub fn is_told_to_close(&self) -> bool {
        let head = self.head.as_ref().filter(|head| head.version == Version::Http11 && !self.is_for_one_call);
        head.is_some_and(|head| head.headers().has_token("connection", "close"))
    }

    /// The length of the response's body, as its head tells it.
    #[must_use]
    pub fn body_length(&self) -> Length {
        self.head.as_ref().map_or(Length::None, |head| head.framing().into())
    }

    /// The next part of the response's body.
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

    /// Notes that bytes have come, or that the server has ended its side.
    pub(crate) fn notice(&mut self, is_hung_up: bool) {
        self.incoming.notice();
        self.is_hung_up |= is_hung_up;
    }

    /// Whether the request was sent whole and its response taken whole.
    fn is_over(&self) -> bool {
        !self.is_tunnel() && self.head.is_some() && self.incoming.is_done() && self.outgoing.is_finished()
    }

    /// The state after a request.
    pub(crate) fn standing(&self) -> Standing {
        let keeps_alive = self.is_over() && self.head.as_ref().is_some_and(ResponseHead::keeps_alive);
        if self.has_surplus || keeps_alive && !self.incoming.pending().is_empty() {
            return Standing::Surplus;
        }
        if !keeps_alive || self.is_hung_up || self.is_for_one_call {
            return Standing::Spent;
        }
        // A poller notes whatever comes after a read that took everything.
        if self.watched_by.is_some() && self.incoming.is_drained() { Standing::Idle } else { self.look() }
    }

    /// The state between two requests. An end behind further bytes is a goodbye, such as 408 (RFC 9110 section 15.5.9).
    pub(crate) fn look(&self) -> Standing {
        match self.socket.peek() {
            Ok(None) => Standing::Idle,
            Ok(Some(1..)) if !self.has_ended() => Standing::Surplus,
            Ok(Some(_)) | Err(_) => Standing::Spent,
        }
    }

    /// Whether the server has ended its side.
    fn has_ended(&self) -> bool {
        self.socket.wait(Ready::HANG_UP, Deadline::after(Duration::ZERO)).is_ok_and(Ready::is_hung_up)
    }

    /// Closes the connection. After the only call of a server that is not trusted, a reset spares both sides a port in
    /// `TIME_WAIT` for a minute: there may be many such calls.
    pub(crate) fn discard(self: Box<Self>) {
        if self.is_for_one_call && self.is_over() {
            self.socket.reset_on_close();
        }
    }

    /// Readies the connection for the pool: the memory of the last exchange goes back.
    pub(crate) fn rest(&mut self) {
        self.incoming.rest();
        self.outgoing.rest();
        self.head = None;
        self.is_reused = true;
        self.unnoticed = None; // or the pool would keep itself
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use testkit::unreachable::lose_input;

    use super::*;
    use crate::Pool;

    const SOON: Duration = Duration::from_secs(60);

    /// What comes while the next request is on its way, and has not arrived, was sent behind the answer before.
    #[test]
    fn bytes_that_come_before_a_request_has_arrived_are_not_its_answer() {
        const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        for is_lost in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = Endpoint::Tcp(listener.local_addr().unwrap());
            let mut connection =
                Connection::open(&endpoint, ClientConfig::default(), Deadline::NEVER).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            let mut exchange = |connection: &mut Connection| {
                connection.start(HeadWriter::request("POST", b"/"), Length::None);
                assert!(connection.finish().unwrap());
                server.write_all(OK).unwrap();
                connection.socket().wait(Ready::READ, Deadline::after(SOON)).unwrap();
                if !connection.is_reused() {
                    assert!(server.read(&mut [0; 1000]).unwrap() > 0);
                    if is_lost {
                        lose_input(&server);
                    }
                }
                connection.response().map(|head| head.map(ResponseHead::status))
            };
            assert_eq!(exchange(&mut connection).unwrap(), Some(200));
            assert_eq!(connection.standing(), Standing::Idle);
            connection.rest();
            let second = exchange(&mut connection);
            match is_lost {
                false => assert_eq!((second.unwrap(), connection.standing()), (Some(200), Standing::Idle)),
                true => {
                    assert!(matches!(second, Err(Error::Closed(Phase::FirstByte))), "{second:?}");
                    assert_eq!(connection.standing(), Standing::Surplus);
                    assert!(!connection.has_received(), "so that what may be repeated is");
                    assert!(!connection.is_untouched(), "and nothing else");
                }
            }
        }
    }

    /// The goodbye of a server may cross the next request.
    #[test]
    fn a_goodbye_that_crosses_a_request_says_nothing_against_the_server() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint::Tcp(listener.local_addr().unwrap());
        let mut connection = Connection::open(&endpoint, ClientConfig::default(), Deadline::NEVER).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        connection.start(HeadWriter::request("GET", b"/"), Length::None);
        assert!(connection.finish().unwrap());
        server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        connection.socket().wait(Ready::READ, Deadline::after(SOON)).unwrap();
        assert!(server.read(&mut [0; 1000]).unwrap() > 0 && connection.response().unwrap().is_some());
        assert_eq!(connection.standing(), Standing::Idle);
        connection.rest();
        lose_input(&server);
        connection.start(HeadWriter::request("GET", b"/"), Length::None);
        assert!(connection.finish().unwrap());
        server.write_all(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n").unwrap();
        server.shutdown(std::net::Shutdown::Write).unwrap();
        connection.socket().wait(Ready::HANG_UP, Deadline::after(SOON)).unwrap();
        let second = connection.response().map(|head| head.map(ResponseHead::status));
        assert!(matches!(second, Err(Error::Closed(Phase::FirstByte))), "{second:?}");
        assert_eq!(connection.standing(), Standing::Spent);
        assert!(!connection.has_received() && !connection.is_untouched());
    }

    #[test]
    fn a_server_that_was_told_that_a_request_is_the_last_is_not_about_to_end() {
        for trust in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let endpoint = Endpoint::Tcp(listener.local_addr().unwrap());
            let pool = Pool::new(endpoint, ClientConfig::default());
            if !trust {
                pool.distrust();
            }
            let mut connection = pool.connect(Deadline::after(SOON)).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            connection.start(HeadWriter::request("GET", b"/"), Length::None);
            assert!(connection.finish().unwrap());
            server.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
            connection.socket().wait(Ready::READ, Deadline::after(SOON)).unwrap();
            assert!(connection.response().unwrap().is_some());
            assert_eq!(connection.is_told_to_close(), trust);
            let mut request = [0; 100];
            let count = server.read(&mut request).unwrap();
            let says = String::from_utf8_lossy(&request[..count]).contains("Connection: close\r\n");
            assert_eq!(says, !trust);
        }
    }

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
