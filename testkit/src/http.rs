//! A plain blocking HTTP/1.1 client for tests, written apart from the product's own.
//!
//! Sends while it receives, so that neither side can block the other; generous in what it lets a test
//! send, strict in what it takes for an answer ([`crate::reply`]).

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::reply::{BodyReader, Head, HttpError, Reader, Reply, parse_all};
use crate::stream::{Address, Stream, Timed};

/// How long a whole request may take unless the test says otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

/// Size of the pieces in which a body from a reader is sent.
const PIECE_BYTES: usize = 64 * 1024;

/// How long the rest of a body may still be sent once the answer is there. One that is taken is sent at once; a busy
/// machine keeps its thread from saying so for a while.
const SENDER_TIME: Duration = Duration::from_millis(500);

/// Up to this size a body goes out together with the head, before anything is read.
const INLINE_BYTES: usize = 16 * 1024;

/// A request to `to` over a connection of its own.
pub fn request(to: impl Into<Address>) -> Request<'static> {
    Request::new(Over::Fresh(to.into()))
}

/// A request being built.
pub struct Request<'a> {
    over: Over<'a>,
    method: String,
    target: Vec<u8>,
    version: &'static str,
    headers: Vec<(String, Vec<u8>)>,
    body: Body<'a>,
    timeout: Duration,
}

enum Over<'a> {
    Fresh(Address),
    Kept(&'a mut Client),
}

enum Body<'a> {
    None,
    Bytes(Vec<u8>),
    Reader(u64, Box<dyn Read + Send + 'a>),
    Chunks(Box<dyn Iterator<Item = Vec<u8>> + Send + 'a>),
}

impl<'a> Request<'a> {
    fn new(over: Over<'a>) -> Request<'a> {
        Request {
            over,
            method: "GET".to_owned(),
            target: b"/".to_vec(),
            version: "HTTP/1.1",
            headers: vec![],
            body: Body::None,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// The method; GET unless set.
    #[must_use]
    pub fn method(mut self, method: &str) -> Request<'a> {
        self.method = method.to_owned();
        self
    }

    /// Path and query, sent as they are; `/` unless set.
    #[must_use]
    pub fn path(mut self, target: impl AsRef<[u8]>) -> Request<'a> {
        self.target = target.as_ref().to_vec();
        self
    }

    /// Adds a header. `Host`, `Content-Length`, `Transfer-Encoding` and `Connection` are only made up where
    /// the test has not set them.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Request<'a> {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Sends `HTTP/1.0`.
    #[must_use]
    pub fn http10(mut self) -> Request<'a> {
        self.version = "HTTP/1.0";
        self
    }

    /// A body with its length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request<'a> {
        self.body = Body::Bytes(body.into());
        self
    }

    /// A body of `length` bytes from a reader. A reader that ends early cuts the request off.
    #[must_use]
    pub fn reader(mut self, length: u64, reader: impl Read + Send + 'a) -> Request<'a> {
        self.body = Body::Reader(length, Box::new(reader));
        self
    }

    /// A chunked body, one chunk for each item that is not empty.
    #[must_use]
    pub fn chunks(mut self, chunks: impl IntoIterator<Item = Vec<u8>, IntoIter: Send + 'a>) -> Request<'a> {
        self.body = Body::Chunks(Box::new(chunks.into_iter()));
        self
    }

    /// A chunked body from a reader, to its end.
    #[must_use]
    pub fn chunked_reader(self, mut reader: impl Read + Send + 'a) -> Request<'a> {
        self.chunks(std::iter::from_fn(move || {
            let mut piece = vec![0; PIECE_BYTES];
            let size = reader.read(&mut piece).ok()?;
            piece.truncate(size);
            (size > 0).then_some(piece)
        }))
    }

    /// How long the whole exchange may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Request<'a> {
        self.timeout = timeout;
        self
    }

    /// Sends it and reads the whole answer.
    ///
    /// # Errors
    /// Every way in which there is no whole answer. A body that could not be sent to its end is no error
    /// by itself: a server may answer early.
    pub fn send(self) -> Result<Reply, HttpError> {
        self.exchange(None)
    }

    /// Sends it and writes the answer's body into `sink`, as it comes.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn send_into(self, sink: &mut dyn Write) -> Result<Reply, HttpError> {
        self.exchange(Some(sink))
    }

    fn exchange(self, sink: Option<&mut dyn Write>) -> Result<Reply, HttpError> {
        let deadline = Instant::now() + self.timeout;
        let head = match &self.over {
            Over::Fresh(to) => self.head(to, "close"),
            Over::Kept(client) => self.head(&client.to, ""),
        };
        let exchange = Exchange { head, method: self.method, body: self.body, deadline, sink };
        match self.over {
            Over::Fresh(to) => {
                Connection::open_within(&to, self.timeout)?.exchange(exchange).map(|(reply, _)| reply)
            }
            Over::Kept(client) => client.exchange(exchange),
        }
    }

    fn head(&self, to: &Address, connection: &str) -> Vec<u8> {
        let mut head = format!("{} ", self.method).into_bytes();
        head.extend_from_slice(&self.target);
        head.extend_from_slice(format!(" {}\r\n", self.version).as_bytes());
        let mut default = |name: &str, value: &str| {
            if !value.is_empty() && !self.headers.iter().any(|(have, _)| have.eq_ignore_ascii_case(name)) {
                head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            }
        };
        match to {
            Address::Tcp(addr) => default("Host", &addr.to_string()),
            Address::Unix(_) => default("Host", "localhost"),
        }
        default("Connection", connection);
        match &self.body {
            Body::None => {}
            Body::Bytes(bytes) => default("Content-Length", &bytes.len().to_string()),
            Body::Reader(length, _) => default("Content-Length", &length.to_string()),
            Body::Chunks(_) => default("Transfer-Encoding", "chunked"),
        }
        for (name, value) in &self.headers {
            head.extend_from_slice(name.as_bytes());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value);
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// All that one exchange over a connection needs.
struct Exchange<'a, 's> {
    head: Vec<u8>,
    method: String,
    body: Body<'a>,
    deadline: Instant,
    sink: Option<&'s mut dyn Write>,
}

/// A client that keeps its connection. It never repeats a request: what goes wrong is the test's to see.
#[derive(Debug)]
pub struct Client {
    to: Address,
    connection: Option<Connection>,
    opened: usize,
}

impl Client {
    /// A client without a connection; the first request opens it.
    #[must_use]
    pub fn new(to: impl Into<Address>) -> Client {
        Client { to: to.into(), connection: None, opened: 0 }
    }

    /// A request over the kept connection, or over a new one where there is none.
    #[must_use]
    pub fn request(&mut self) -> Request<'_> {
        Request::new(Over::Kept(self))
    }

    /// Whether a connection is kept for the next request.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// How many connections were opened so far.
    #[must_use]
    pub fn opened(&self) -> usize {
        self.opened
    }

    fn exchange(&mut self, exchange: Exchange<'_, '_>) -> Result<Reply, HttpError> {
        let is_reused = self.connection.is_some();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.opened += 1;
                Connection::open(&self.to)?
            }
        };
        let (mut reply, is_sent) = connection.exchange(exchange)?;
        reply.is_reused = is_reused;
        if is_sent && reply.head.keeps_alive() && reply.framing != crate::reply::Framing::Close {
            self.connection = Some(connection);
        }
        Ok(reply)
    }
}

/// An open connection, for tests that say byte by byte what is sent and when.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    reader: Reader,
    deadline: Instant,
}

impl Connection {
    /// Connects; all that is read from it has [`DEFAULT_TIMEOUT`], see [`Connection::within`].
    ///
    /// # Errors
    /// [`HttpError::Connect`].
    pub fn open(to: impl Into<Address>) -> Result<Connection, HttpError> {
        Connection::open_within(&to.into(), DEFAULT_TIMEOUT)
    }

    /// Connects from one of this machine's own addresses, such as another one of 127.0.0.0/8.
    ///
    /// # Errors
    /// [`HttpError::Connect`].
    pub fn open_from(from: IpAddr, to: SocketAddr) -> Result<Connection, HttpError> {
        let stream = Stream::connect_from(from, to, DEFAULT_TIMEOUT).map_err(HttpError::Connect)?;
        Ok(Connection { stream, reader: Reader::default(), deadline: Instant::now() + DEFAULT_TIMEOUT })
    }

    fn open_within(to: &Address, timeout: Duration) -> Result<Connection, HttpError> {
        let stream = Stream::connect(to, timeout).map_err(HttpError::Connect)?;
        Ok(Connection { stream, reader: Reader::default(), deadline: Instant::now() + timeout })
    }

    /// Sets the time from now until reading is given up.
    pub fn within(&mut self, timeout: Duration) -> &mut Connection {
        self.deadline = Instant::now() + timeout;
        self
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// Those of write(2), or [`io::ErrorKind::WouldBlock`] when the peer takes nothing until the deadline.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        self.stream.set_write_timeout(Some(left))?;
        (&self.stream).write_all(bytes.as_ref())
    }

    /// Ends the sending direction.
    pub fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write);
    }

    /// Breaks the connection off with a RST.
    pub fn reset(self) {
        self.stream.reset();
    }

    /// Reads one head, also an interim one.
    ///
    /// # Errors
    /// As [`Reader::head`].
    pub fn head(&mut self) -> Result<Head, HttpError> {
        let mut source = Timed { stream: &self.stream, deadline: self.deadline };
        self.reader.head(&mut source)
    }

    /// Reads a whole response to a request with `method`.
    ///
    /// # Errors
    /// Every way in which it is not whole.
    pub fn reply(&mut self, method: &str) -> Result<Reply, HttpError> {
        let mut source = Timed { stream: &self.stream, deadline: self.deadline };
        self.reader.reply(&mut source, method, None)
    }

    /// The next piece of a body whose head was read by [`Connection::head`]; `None` at its end.
    ///
    /// # Errors
    /// When the body is cut off or malformed.
    pub fn piece(&mut self, body: &mut BodyReader) -> Result<Option<Vec<u8>>, HttpError> {
        let mut source = Timed { stream: &self.stream, deadline: self.deadline };
        Ok(self.reader.piece(&mut source, body)?.map(<[u8]>::to_vec))
    }

    /// Waits until the peer ends the connection and tells how; what came before is in the [`Raw`].
    pub fn rest(&mut self) -> Raw {
        let mut bytes = self.reader.rest().to_vec();
        let mut source = Timed { stream: &self.stream, deadline: self.deadline };
        let end = match source.read_to_end(&mut bytes) {
            Ok(_) => End::Closed,
            Err(e) if e.kind() == io::ErrorKind::TimedOut => End::Open,
            Err(_) => End::Reset,
        };
        Raw { bytes, end }
    }

    /// Sends and receives at the same time; also tells whether everything was sent.
    fn exchange(&mut self, exchange: Exchange<'_, '_>) -> Result<(Reply, bool), HttpError> {
        let Exchange { head: mut first, method, body, deadline, sink } = exchange;
        self.deadline = deadline;
        let body = match body {
            Body::Bytes(bytes) if bytes.len() <= INLINE_BYTES => {
                first.extend_from_slice(&bytes);
                Body::None
            }
            other => other,
        };
        if let Body::None = body {
            // An error shows in what is read; a server may have answered before it closed.
            let is_sent = self.send(&first).is_ok();
            return self.receive(&method, sink).map(|reply| (reply, is_sent));
        }
        let sending = self.stream.try_clone().map_err(HttpError::Connect)?;
        thread::scope(|scope| {
            let sender = scope.spawn(move || {
                let result = (&sending).write_all(&first).and_then(|()| send_body(&sending, body));
                if result.is_err() {
                    sending.shutdown(Shutdown::Write);
                }
                result.is_ok()
            });
            let result = self.receive(&method, sink);
            if !sender.is_finished() {
                // The answer is there, or never will be: nobody reads the rest of the body.
                let patience = Instant::now() + SENDER_TIME;
                while !sender.is_finished() && result.is_ok() && Instant::now() < patience {
                    thread::sleep(Duration::from_millis(1));
                }
                if !sender.is_finished() {
                    self.stream.shutdown(Shutdown::Both);
                }
            }
            let is_sent = sender.join().unwrap_or(false);
            result.map(|reply| (reply, is_sent))
        })
    }

    fn receive(&mut self, method: &str, sink: Option<&mut dyn Write>) -> Result<Reply, HttpError> {
        let mut source = Timed { stream: &self.stream, deadline: self.deadline };
        self.reader.reply(&mut source, method, sink)
    }
}

fn send_body(mut stream: &Stream, body: Body<'_>) -> io::Result<()> {
    match body {
        Body::None => Ok(()),
        Body::Bytes(bytes) => stream.write_all(&bytes),
        Body::Reader(length, reader) => {
            let mut limited = reader.take(length);
            let mut piece = vec![0; PIECE_BYTES];
            let mut sent = 0;
            loop {
                let size = limited.read(&mut piece)?;
                if size == 0 {
                    break;
                }
                stream.write_all(&piece[..size])?;
                sent += size as u64;
            }
            if sent == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        }
        Body::Chunks(chunks) => {
            for chunk in chunks.filter(|chunk| !chunk.is_empty()) {
                stream.write_all(&chunked(&chunk))?;
            }
            stream.write_all(b"0\r\n\r\n")
        }
    }
}

/// `data` as one chunk, with size line and CRLF.
#[must_use]
pub fn chunked(data: &[u8]) -> Vec<u8> {
    let mut size = String::new();
    let _ = write!(size, "{:x}\r\n", data.len()); // a String cannot fail
    [size.as_bytes(), data, b"\r\n"].concat()
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// In order, by the peer.
    Closed,
    /// Broken off by the peer.
    Reset,
    /// Not at all: it was still open at the deadline.
    Open,
}

/// What came back for raw bytes.
#[derive(Clone, Debug)]
pub struct Raw {
    /// All that came.
    pub bytes: Vec<u8>,
    /// How the connection ended.
    pub end: End,
}

impl Raw {
    /// The responses in it.
    ///
    /// # Errors
    /// When one of them is not whole.
    pub fn replies(&self, methods: &[&str]) -> Result<Vec<Reply>, HttpError> {
        parse_all(&self.bytes, methods)
    }
}

/// Sends raw bytes and reads until the peer ends the connection or `timeout` has passed. It does not end
/// its own direction: that the server closes is part of what is tested.
///
/// # Errors
/// [`HttpError::Connect`].
pub fn talk(to: impl Into<Address>, bytes: &[u8], timeout: Duration) -> Result<Raw, HttpError> {
    let mut connection = Connection::open_within(&to.into(), timeout)?;
    connection.deadline = Instant::now() + timeout;
    let sending = connection.stream.try_clone().map_err(HttpError::Connect)?;
    Ok(thread::scope(|scope| {
        scope.spawn(move || {
            let _ = (&sending).write_all(bytes); // a server may refuse before it has read all
        });
        let raw = connection.rest();
        connection.stream.shutdown(Shutdown::Both); // wakes the sender
        raw
    }))
}

/// What [`talk`] brings back, without how it ended.
///
/// # Panics
/// When there is no connection.
#[must_use]
#[track_caller]
pub fn raw(to: impl Into<Address>, bytes: &[u8], timeout: Duration) -> Vec<u8> {
    talk(to, bytes, timeout).unwrap_or_else(|e| panic!("{e}")).bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Peer, Script};

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    #[test]
    fn a_request_is_written_as_asked() {
        let peer = Peer::tcp(Script::new().request().send(OK).stall());
        let request =
            request(peer.address()).method("POST").path("/a?b=c").header("X-Y", b"\xff").body("body");
        assert_eq!(request.send().unwrap().body, b"ok");
        let received = peer.received(0);
        let want = format!(
            "POST /a?b=c HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 4\r\nX-Y: ",
            peer.address()
        );
        assert_eq!(received, [want.as_bytes(), b"\xff\r\n\r\nbody"].concat());
    }

    #[test]
    fn bodies_are_framed() {
        let peer = Peer::tcp(Script::new().request().send(OK).close());
        let big: Vec<u8> = (0..300_000u32).map(|n| n as u8).collect();
        let send = |request: Request<'_>| assert_eq!(request.send().unwrap().status, 200);
        send(request(peer.address()).method("PUT").body(big.clone()));
        send(request(peer.address()).method("PUT").reader(big.len() as u64, &*big));
        send(request(peer.address()).method("PUT").chunks([b"abc".to_vec(), vec![], b"de".to_vec()]));
        send(request(peer.address()).method("PUT").chunked_reader(&*big));
        let bodies: Vec<Vec<u8>> = peer.requests().into_iter().map(|request| request.body).collect();
        assert!(bodies[0] == big && bodies[1] == big && bodies[3] == big);
        assert_eq!(bodies[2], b"abcde");
    }

    #[test]
    fn sends_while_it_receives() {
        // The peer sends its whole answer before it reads the body; neither may block the other.
        let size = 8 << 20;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        let peer = Peer::tcp(Script::new().head().send(head).send(vec![b'x'; size]).body().close());
        let reply = request(peer.address()).method("POST").body(vec![b'y'; size]).send().unwrap();
        assert_eq!(reply.body.len(), size);
    }

    #[test]
    fn an_early_answer_is_an_answer() {
        let early = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let peer = Peer::tcp(Script::new().head().send(early).stall());
        let reply = request(peer.address()).method("POST").body(vec![b'y'; 32 << 20]).send().unwrap();
        assert_eq!(reply.status, 413);
    }

    #[test]
    fn the_client_keeps_its_connection() {
        let peer = Peer::tcp(Script::new().request().send(OK).repeat());
        let mut client = Client::new(peer.address());
        for place in 0..3 {
            let reply = client.request().path("/x").send().unwrap();
            assert_eq!(reply.is_reused, place > 0);
        }
        assert_eq!((peer.connections(), client.opened(), client.is_open()), (1, 1, true));
    }

    #[test]
    fn the_client_drops_a_connection_that_ends() {
        let peer = Peer::tcp(Script::new().request().send(b"HTTP/1.0 200 OK\r\n\r\nx").close());
        let mut client = Client::new(peer.address());
        for _ in 0..2 {
            assert_eq!(client.request().send().unwrap().body, b"x");
            assert!(!client.is_open());
        }
        assert_eq!(client.opened(), 2);
    }

    #[test]
    fn cut_answers_are_errors() {
        type Check = fn(&HttpError) -> bool;
        const PATIENCE: Duration = Duration::from_secs(10);
        const SHORT: Duration = Duration::from_millis(500);
        let cases: [(Script, Check, Duration); 5] = [
            (Script::new().request().close(), |e| matches!(e, HttpError::Closed), PATIENCE),
            (Script::new().request().reset(), |e| matches!(e, HttpError::Broken(..)), PATIENCE),
            (
                Script::new().request().send(&OK[..20]).close(),
                |e| matches!(e, HttpError::CutHead(_)),
                PATIENCE,
            ),
            (
                Script::new().request().send(&OK[..OK.len() - 1]).close(),
                |e| matches!(e, HttpError::CutBody(_)),
                PATIENCE,
            ),
            (
                Script::new().request().send(&OK[..OK.len() - 1]).stall(),
                |e| matches!(e, HttpError::Timeout(_)),
                SHORT,
            ),
        ];
        for (script, is_expected, timeout) in cases {
            let peer = Peer::tcp(script);
            let error = request(peer.address()).timeout(timeout).send().unwrap_err();
            assert!(is_expected(&error), "{error:?}");
        }
    }

    #[test]
    fn talk_tells_how_it_ended() {
        let patience = Duration::from_secs(10);
        let cases = [
            (Script::new().head().send(b"x").close(), End::Closed, patience),
            (Script::new().head().send(b"x").stall(), End::Open, patience / 10),
        ];
        for (script, end, timeout) in cases {
            let peer = Peer::tcp(script);
            let raw = talk(peer.address(), b"a b\r\n\r\n", timeout).unwrap();
            assert_eq!((raw.bytes, raw.end), (b"x".to_vec(), end));
        }
        let peer = Peer::tcp(Script::new().head().reset());
        assert_eq!(talk(peer.address(), b"a b\r\n\r\n", patience).unwrap().end, End::Reset);
    }

    #[test]
    fn pieces_arrive_one_by_one() {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let script =
            Script::new().head().send(head).send(b"1\r\na\r\n").head().send(b"1\r\nb\r\n0\r\n\r\n").close();
        let peer = Peer::tcp(script);
        let mut connection = Connection::open(peer.address()).unwrap();
        connection.send("GET / HTTP/1.1\r\n\r\n").unwrap();
        let head = connection.head().unwrap();
        let mut body = BodyReader::of(&head, "GET").unwrap();
        assert_eq!(connection.piece(&mut body).unwrap().as_deref(), Some(&b"a"[..]));
        connection.send("go on\r\n\r\n").unwrap();
        assert_eq!(connection.piece(&mut body).unwrap().as_deref(), Some(&b"b"[..]));
        assert_eq!(connection.piece(&mut body).unwrap(), None);
        assert_eq!(connection.rest().end, End::Closed);
    }

    #[test]
    fn a_unix_socket_is_reached_too() {
        let peer = Peer::unix(Script::new().request().send(OK).close());
        assert_eq!(request(peer.address()).send().unwrap().status, 200);
    }
}
