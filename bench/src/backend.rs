//! The server behind the proxies: one thread, as cheap as possible, so that a measurement shows the proxy.
//! It answers `GET /N` with N bytes, and `GET /events` with an event every 50 ms that carries the time of its sending.

use std::collections::HashMap;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// The pause between two events of a stream.
pub const EVENT_PAUSE: Duration = Duration::from_millis(50);

/// The text before the time in an event.
pub const EVENT_DATA: &str = "data: ";

const LISTENER: u64 = u64::MAX;
const STOP: u64 = u64::MAX - 1;

/// Bodies are sent from this many bytes, over and over.
const BODY_BYTES: usize = 256 * 1024;

/// One connection gets at most this much before the others have their turn.
const TURN_BYTES: usize = 1024 * 1024;

/// The longest request.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

const EVENTS_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";

/// Microseconds since the first call in this process.
#[must_use]
pub fn now_us() -> u64 {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    EPOCH.get_or_init(Instant::now).elapsed().as_micros() as u64
}

/// A backend, ended when dropped.
pub struct Backend {
    addr: SocketAddr,
    stop: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// Starts one.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start() -> Backend {
        let start = || {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let (addr, stop) = (listener.local_addr()?, Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?));
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
            epoll::add(&epoll, &stop, EventData::new_u64(STOP), EventFlags::IN)?;
            let server = Server {
                epoll,
                listener,
                connections: HashMap::new(),
                next: 0,
                answers: HashMap::new(),
                body: vec![b'x'; BODY_BYTES],
                input: vec![0; MAX_REQUEST_BYTES],
            };
            io::Result::Ok((addr, stop, server))
        };
        let (addr, stop, server) = start().unwrap_or_else(|error| panic!("backend: {error}"));
        let run = || server.run().unwrap_or_else(|error| panic!("backend: {error}"));
        Backend { addr, stop, thread: Some(thread::spawn(run)) }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes()); // an eventfd takes it
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic was printed already
        }
    }
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    connections: HashMap<u64, Connection>,
    next: u64,
    /// Heads by the length of the body.
    answers: HashMap<usize, Vec<u8>>,
    body: Vec<u8>,
    input: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// The begin of a request.
    input: Vec<u8>,
    /// The rest of the answer: head, and bytes of the body.
    head: Vec<u8>,
    body: usize,
    /// When the next event of a stream is due.
    due: Option<Instant>,
}

impl Server {
    fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        loop {
            events.clear();
            let timeout = self.until_due().map(|left| Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            });
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, room, timeout.as_ref()) {
                Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
                _ => {}
            }
            for event in &events {
                match event.data.u64() {
                    STOP => return Ok(()),
                    LISTENER => self.accept()?,
                    // A broken connection is dropped, which closes it.
                    number => {
                        if !self.serve(number).unwrap_or(false) {
                            self.connections.remove(&number);
                        }
                    }
                }
            }
            self.send_events();
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        epoll::add(&self.epoll, &stream, EventData::new_u64(self.next), EventFlags::IN)?;
        let (input, head) = (Vec::new(), Vec::new());
        self.connections.insert(self.next, Connection { stream, input, head, body: 0, due: None });
        self.next += 1;
        Ok(())
    }

    /// Serves a connection that is ready. False when the connection has ended.
    fn serve(&mut self, number: u64) -> io::Result<bool> {
        let Some(connection) = self.connections.get_mut(&number) else { return Ok(true) };
        if !connection.head.is_empty() || connection.body > 0 {
            if connection.send(&self.body)? {
                watch(&self.epoll, connection, number, EventFlags::IN)?;
            }
            return Ok(true);
        }
        let length = match connection.stream.read(&mut self.input) {
            Ok(0) => return Ok(false),
            Ok(length) => length,
            Err(error) => return Ok(error.kind() == io::ErrorKind::WouldBlock),
        };
        connection.input.extend_from_slice(&self.input[..length]);
        if !connection.input.ends_with(b"\r\n\r\n") {
            return Ok(connection.input.len() < MAX_REQUEST_BYTES);
        }
        let path = path(&connection.input).unwrap_or_default();
        if path == "events" {
            connection.stream.write_all(EVENTS_HEAD)?;
            connection.due = Some(Instant::now() + EVENT_PAUSE);
        } else {
            let Ok(length) = path.parse() else { return Ok(false) };
            let head = self.answers.entry(length).or_insert_with(|| head(length).into_bytes());
            connection.head.extend_from_slice(head);
            connection.body = length;
            if !connection.send(&self.body)? {
                watch(&self.epoll, connection, number, EventFlags::OUT)?;
            }
        }
        connection.input.clear();
        Ok(true)
    }

    fn until_due(&self) -> Option<Duration> {
        let next = self.connections.values().filter_map(|connection| connection.due).min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn send_events(&mut self) {
        self.connections.retain(|_, connection| match &mut connection.due {
            Some(due) if *due <= Instant::now() => {
                *due += EVENT_PAUSE;
                let event = format!("{EVENT_DATA}{:020}\n\n", now_us());
                let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                connection.stream.write_all(chunk.as_bytes()).is_ok()
            }
            _ => true,
        });
    }
}

impl Connection {
    /// Sends until the socket is full. True when the answer is out.
    fn send(&mut self, body: &[u8]) -> io::Result<bool> {
        let mut turn = TURN_BYTES;
        while (!self.head.is_empty() || self.body > 0) && turn > 0 {
            let part = &body[..self.body.min(body.len()).min(turn)];
            let sent = match self.stream.write_vectored(&[IoSlice::new(&self.head), IoSlice::new(part)]) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            let of_head = sent.min(self.head.len());
            self.head.drain(..of_head);
            self.body -= sent - of_head;
            turn = turn.saturating_sub(sent);
        }
        Ok(self.head.is_empty() && self.body == 0)
    }
}

fn watch(epoll: &OwnedFd, connection: &Connection, number: u64, wanted: EventFlags) -> io::Result<()> {
    Ok(epoll::modify(epoll, &connection.stream, EventData::new_u64(number), wanted)?)
}

fn head(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n")
}

/// What is between the first `/` and the next space.
fn path(request: &[u8]) -> Option<&str> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.split_once('/')?.1.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::http::Client;

    #[test]
    fn answers_have_the_length_that_is_asked_for() {
        let backend = Backend::start();
        let mut client = Client::new(backend.addr());
        for length in [0, 12, 100 * 1024, 3 * TURN_BYTES + 7, 12] {
            let reply = client.request().path(format!("/{length}")).send().unwrap();
            assert_eq!((reply.status, reply.body.len()), (200, length));
        }
    }

    #[test]
    fn events_tell_when_they_were_sent() {
        let backend = Backend::start();
        let mut stream = TcpStream::connect(backend.addr()).unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        while text.matches(EVENT_DATA).count() < 2 {
            let mut room = [0; 512];
            let length = stream.read(&mut room).unwrap();
            text.push_str(std::str::from_utf8(&room[..length]).unwrap());
        }
        let times: Vec<u64> =
            text.lines().filter_map(|line| line.strip_prefix(EVENT_DATA)?.parse().ok()).collect();
        assert!(times[0] < times[1] && times[1] <= now_us(), "{text}");
    }
}
