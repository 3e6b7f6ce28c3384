//! Scripted servers over TCP and UNIX sockets: each connection follows its script, what it receives is
//! recorded, everything ends when the handle is dropped.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use tempfile::TempDir;

use crate::eventually;
use crate::script::{Gate, Request, Script, Step};
use crate::stream::{Address, Stream};
use crate::unreachable::Refusing;

/// How much is read at a time.
const READ_BYTES: usize = 64 * 1024;

/// A scripted server.
pub struct Peer {
    address: Address,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
    /// Dropped to end the acceptor's wait.
    wake: Option<io::PipeWriter>,
    _dir: Option<TempDir>,
    /// Keeps the port where nobody listens any more, so that no other test is given it.
    _port: Option<Refusing>,
}

#[derive(Default)]
struct Shared {
    scripts: Vec<Script>,
    stopping: AtomicBool,
    stop: Gate,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    connections: Vec<Record>,
    requests: Vec<Request>,
    threads: Vec<JoinHandle<()>>,
}

struct Record {
    /// A second handle, to end the connection from outside; `None` once its script has ended.
    stream: Option<Stream>,
    received: Vec<u8>,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Peer {
    /// A TCP server on a free port of loopback; every connection follows `script`.
    #[must_use]
    pub fn tcp(script: Script) -> Peer {
        Peer::tcp_each(vec![script])
    }

    /// A TCP server whose n-th connection follows the n-th script, and all further ones the last.
    #[must_use]
    pub fn tcp_each(scripts: Vec<Script>) -> Peer {
        let port = Refusing::new();
        let listener = TcpListener::bind(port.addr()).unwrap_or_else(|e| panic!("bind: {e}"));
        let mut peer = Peer::on(listener, scripts);
        peer._port = Some(port);
        peer
    }

    /// A TCP server on a listener that the test has bound.
    #[must_use]
    pub fn on(listener: TcpListener, scripts: Vec<Script>) -> Peer {
        let addr = listener.local_addr().unwrap_or_else(|e| panic!("listener: {e}"));
        Peer::start(Listener::Tcp(listener), addr.into(), scripts, None)
    }

    /// A server on a UNIX socket in a directory of its own; every connection follows `script`.
    #[must_use]
    pub fn unix(script: Script) -> Peer {
        Peer::unix_each(vec![script])
    }

    /// As [`Peer::tcp_each`], on a UNIX socket.
    #[must_use]
    pub fn unix_each(scripts: Vec<Script>) -> Peer {
        let dir = tempfile::Builder::new().prefix("faas-peer-").tempdir();
        let dir = dir.unwrap_or_else(|e| panic!("directory for the socket: {e}"));
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Peer::start(Listener::Unix(listener), Address::Unix(path), scripts, Some(dir))
    }

    fn start(listener: Listener, address: Address, scripts: Vec<Script>, dir: Option<TempDir>) -> Peer {
        assert!(!scripts.is_empty(), "a peer needs a script");
        let shared = Arc::new(Shared { scripts, ..Shared::default() });
        let (wake_end, wake) = io::pipe().unwrap_or_else(|e| panic!("pipe: {e}"));
        let acceptor = thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &wake_end, &shared)
        });
        Peer { address, shared, acceptor: Some(acceptor), wake: Some(wake), _dir: dir, _port: None }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Where it listens, for a TCP server.
    ///
    /// # Panics
    /// When it is on a UNIX socket.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp(addr) => *addr,
            Address::Unix(path) => panic!("{} is no TCP address", path.display()),
        }
    }

    /// The socket's path, for a server on a UNIX socket.
    ///
    /// # Panics
    /// When it is on TCP.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        match &self.address {
            Address::Unix(path) => path,
            Address::Tcp(addr) => panic!("{addr} is no path"),
        }
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.log().connections.len()
    }

    /// How many of them have not come to the end of their script.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.shared.log().connections.iter().filter(|record| record.stream.is_some()).count()
    }

    /// What the n-th connection (from 0) has received so far; empty when there was none.
    #[must_use]
    pub fn received(&self, connection: usize) -> Vec<u8> {
        self.shared
            .log()
            .connections
            .get(connection)
            .map(|record| record.received.clone())
            .unwrap_or_default()
    }

    /// The requests so far, in the order in which their heads came.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log().requests.clone()
    }

    /// Waits for the n-th request (from 1) and returns all.
    ///
    /// # Panics
    /// When `timeout` passes first.
    #[track_caller]
    pub fn wait_requests(&self, count: usize, timeout: Duration) -> Vec<Request> {
        eventually(timeout, || {
            let requests = self.requests();
            if requests.len() >= count {
                Ok(requests)
            } else {
                Err(format!("{} of {count} requests", requests.len()))
            }
        })
    }

    /// Stops listening: from now on connections are refused. Open ones go on.
    pub fn stop_listening(&mut self) {
        self.wake = None;
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join(); // its panic was printed already
        }
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path); // only once
        }
    }

    /// Sends bytes on every open connection that has received `mark`, while its script waits.
    pub fn send_where(&self, mark: &str, bytes: impl AsRef<[u8]>) {
        let has_mark = |received: &[u8]| received.windows(mark.len()).any(|part| part == mark.as_bytes());
        for record in &self.shared.log().connections {
            if let Some(mut stream) = record.stream.as_ref().filter(|_| has_mark(&record.received)) {
                let _ = stream.write_all(bytes.as_ref()); // the client may be gone
            }
        }
    }

    /// Ends every open connection, now.
    pub fn hang_up(&self) {
        for record in &self.shared.log().connections {
            if let Some(stream) = &record.stream {
                stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.stop.open();
        self.stop_listening();
        self.hang_up();
        let threads = std::mem::take(&mut self.shared.log().threads);
        for thread in threads {
            let _ = thread.join(); // its panic was printed already
        }
    }
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        lock(&self.log)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &Listener, wake: &io::PipeReader, shared: &Arc<Shared>) {
    loop {
        let fd: BorrowedFd<'_> = match listener {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        };
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN), PollFd::new(wake, PollFlags::IN)];
        // Woken by a connection, or by the drop of the pipe's other end.
        if poll(&mut fds, None).is_err() {
            continue; // EINTR
        }
        if !fds[1].revents().is_empty() {
            return;
        }
        let stream = match listener {
            Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        };
        if let Ok(stream) = stream {
            serve(stream, shared);
        }
    }
}

fn serve(stream: Stream, shared: &Arc<Shared>) {
    if let Stream::Tcp(stream) = &stream {
        let _ = stream.set_nodelay(true); // pieces are meant to arrive as pieces
    }
    let Ok(outside) = stream.try_clone() else { return };
    let mut log = shared.log();
    let number = log.connections.len();
    log.connections.push(Record { stream: Some(outside), received: vec![] });
    let shared = shared.clone();
    let thread = thread::spawn(move || {
        let script = &shared.scripts[number.min(shared.scripts.len() - 1)];
        let mut connection =
            Connection { number, stream: &stream, unread: vec![], shared: &shared, request: None };
        let is_reset = connection.follow(script);
        match is_reset {
            true => stream.reset(),
            false => drop(stream),
        }
        // The outside handle goes last: once the log says that the connection has ended, it has.
        shared.log().connections[number].stream = None;
    });
    log.threads.push(thread);
}

/// One connection on its way through its script.
struct Connection<'a> {
    number: usize,
    stream: &'a Stream,
    unread: Vec<u8>,
    shared: &'a Shared,
    /// Place of the last request in the log.
    request: Option<usize>,
}

impl Connection<'_> {
    /// Whether it is to end with a reset.
    fn follow(&mut self, script: &Script) -> bool {
        loop {
            let mut is_repeated = false;
            for step in &script.0 {
                match step {
                    Step::Close => return false,
                    Step::Reset => return true,
                    Step::Repeat => is_repeated = true,
                    other => {
                        // The client has left, or the test is over: there is nobody to go on for.
                        if self.step(other).is_err() || self.is_stopping() {
                            return false;
                        }
                    }
                }
            }
            if !is_repeated {
                return false;
            }
        }
    }

    fn step(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Head => self.head(),
            Step::Body => self.body(),
            Step::Bytes(count) => self.read_bytes(*count).map(drop),
            Step::End => {
                while self.fill().is_ok() {}
                Ok(())
            }
            Step::Send(data) => self.stream.write_all(data),
            Step::SendSlowly { data, size, pause } => {
                for piece in data.chunks(*size) {
                    self.stream.write_all(piece)?;
                    self.pause(*pause);
                }
                Ok(())
            }
            Step::Answer(answer) => {
                let request = self.request.map(|place| self.shared.log().requests[place].clone());
                let data = answer(&request.unwrap_or_default());
                self.stream.write_all(&data)
            }
            Step::Pause(pause) => {
                self.pause(*pause);
                Ok(())
            }
            Step::Wait(gate) => {
                while !gate.wait(Duration::from_millis(20)) && !self.is_stopping() {}
                Ok(())
            }
            Step::Stall => {
                while !self.is_stopping() {
                    self.pause(Duration::from_secs(3600));
                }
                Ok(())
            }
            Step::Close | Step::Reset | Step::Repeat => Ok(()), // handled by `follow`
        }
    }

    fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    /// Woken early when the peer is dropped.
    fn pause(&self, pause: Duration) {
        self.shared.stop.wait(pause);
    }

    fn head(&mut self) -> io::Result<()> {
        let end = loop {
            if let Some(place) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break place + 4;
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let mut log = self.shared.log();
        self.request = Some(log.requests.len());
        log.requests.push(Request::parse(self.number, &head));
        Ok(())
    }

    fn body(&mut self) -> io::Result<()> {
        let Some(place) = self.request else { return Ok(()) };
        let (length, is_chunked) = {
            let request = &self.shared.log().requests[place];
            let length = request.header("content-length").and_then(|value| value.parse().ok());
            (length.unwrap_or(0), request.header("transfer-encoding") == Some("chunked"))
        };
        if !is_chunked {
            return self.keep_body(place, length);
        }
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default();
            let size =
                usize::from_str_radix(digits, 16).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            if size == 0 {
                break;
            }
            self.keep_body(place, size)?;
            if !self.line()?.is_empty() {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        while !self.line()?.is_empty() {}
        Ok(())
    }

    fn keep_body(&mut self, place: usize, mut left: usize) -> io::Result<()> {
        while left > 0 {
            if self.unread.is_empty() {
                self.fill()?;
            }
            let size = left.min(self.unread.len());
            let piece: Vec<u8> = self.unread.drain(..size).collect();
            self.shared.log().requests[place].body.extend_from_slice(&piece);
            left -= size;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(size) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.unread.drain(..size + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..size]).into_owned());
            }
            self.fill()?;
        }
    }

    fn read_bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.unread.len() < count {
            self.fill()?;
        }
        Ok(self.unread.drain(..count).collect())
    }

    /// Reads more; the end of the stream is an error. Woken by the client, or by [`Peer::hang_up`].
    fn fill(&mut self) -> io::Result<()> {
        let mut piece = vec![0; READ_BYTES];
        let mut stream = self.stream;
        let size = stream.read(&mut piece)?;
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unread.extend_from_slice(&piece[..size]);
        self.shared.log().connections[self.number].received.extend_from_slice(&piece[..size]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Connection, End, request};

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    const WAIT: Duration = Duration::from_secs(5);

    #[test]
    fn each_connection_has_its_script() {
        let scripts = vec![Script::new().request().close(), Script::new().request().send(OK).close()];
        let peer = Peer::tcp_each(scripts);
        assert!(request(peer.address()).send().is_err());
        for _ in 0..2 {
            assert_eq!(request(peer.address()).send().unwrap().status, 200);
        }
        let places: Vec<usize> = peer.requests().iter().map(|request| request.connection).collect();
        assert_eq!(places, [0, 1, 2]);
        eventually(WAIT, || match peer.open_connections() {
            0 => Ok(()),
            n => Err(format!("{n} open")),
        });
    }

    #[test]
    fn an_answer_is_made_from_the_request() {
        let peer = Peer::tcp(Script::new().request().answer(|request| {
            let body = format!("{} {} {:?}", request.method, request.target, request.header("Host"));
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
        }));
        let reply = request(peer.address()).path("/p").header("Host", "h").send().unwrap();
        assert_eq!(reply.text(), "GET /p Some(\"h\")");
    }

    #[test]
    fn slow_bytes_arrive_slowly() {
        let pause = Duration::from_millis(2);
        let peer = Peer::tcp(Script::new().request().send_slowly(OK, 1, pause).close());
        let started = std::time::Instant::now();
        assert_eq!(request(peer.address()).send().unwrap().body, b"ok");
        assert!(started.elapsed() >= pause * (OK.len() as u32 - 1));
    }

    #[test]
    fn a_gate_holds_until_it_is_opened() {
        let gate = Gate::new();
        let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).close());
        let mut connection = Connection::open(peer.address()).unwrap();
        connection.send("GET / HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!(connection.within(Duration::from_millis(50)).rest().end, End::Open);
        gate.open();
        assert_eq!(connection.within(WAIT).reply("GET").unwrap().status, 200);
    }

    #[test]
    fn it_stops_listening_and_hangs_up() {
        for mut peer in [Peer::tcp(Script::new().stall()), Peer::unix(Script::new().stall())] {
            let mut connection = Connection::open(peer.address()).unwrap();
            eventually(
                WAIT,
                || {
                    if peer.connections() == 1 { Ok(()) } else { Err("not accepted".to_owned()) }
                },
            );
            peer.stop_listening();
            assert!(Connection::open(peer.address()).is_err());
            assert_eq!(connection.within(Duration::from_millis(20)).rest().end, End::Open);
            peer.hang_up();
            assert_eq!(connection.within(WAIT).rest().end, End::Closed);
        }
    }

    #[test]
    fn drop_ends_a_peer_in_the_middle_of_anything() {
        let scripts = [
            Script::new().stall(),
            Script::new().end(),
            Script::new().pause(Duration::from_secs(3600)),
            Script::new().wait(&Gate::new()),
            Script::new().send(vec![0; 64 << 20]),
            Script::new().request().repeat(),
        ];
        for script in scripts {
            let peer = Peer::tcp(script);
            let mut connection = Connection::open(peer.address()).unwrap();
            eventually(
                WAIT,
                || {
                    if peer.connections() == 1 { Ok(()) } else { Err("not accepted".to_owned()) }
                },
            );
            drop(peer);
            assert_ne!(connection.within(WAIT).rest().end, End::Open);
        }
    }
}
