//! Many clients on one thread. Each asks again as soon as it has its answer. A client costs less than a server: a send
//! and a receive for a small answer; the kernel drops the body of a large one. Each answer must be 200 and have the
//! expected length.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use crate::cost::Meter;
use crate::interrupt;
use crate::pace::Pace;
use crate::run::Run;

/// No answer takes longer, unless something is broken.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often the clients check for an interrupt.
const LOOK_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The most bytes of one receive.
const ROOM_BYTES: usize = 1024 * 1024;

/// A request, and its server.
#[derive(Debug, Clone)]
pub struct Target {
    /// The server.
    pub addr: SocketAddr,
    /// The path.
    pub path: String,
    /// How long the body of the answer must be.
    pub length: u64,
}

/// Clients that are connected, and have had their first answer.
pub struct Crowd {
    epoll: OwnedFd,
    clients: Vec<Client>,
    request: Vec<u8>,
    length: u64,
    room: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    /// The begin of an answer, until its head is whole.
    head: Vec<u8>,
    /// What is left of the body, once the head is whole.
    left: Option<u64>,
    began: Instant,
}

impl Crowd {
    /// Connects `count` clients, one after the other.
    ///
    /// # Errors
    /// When a connection is refused or an answer is wrong.
    pub fn open(target: &Target, count: usize) -> Result<Crowd, String> {
        let (addr, path) = (target.addr, &target.path);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n");
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| format!("epoll: {error}"))?;
        let mut crowd = Crowd {
            epoll,
            clients: Vec::with_capacity(count),
            request: request.into_bytes(),
            length: target.length,
            room: vec![0; ROOM_BYTES],
        };
        for number in 0..count {
            if interrupt::seen() {
                return Err("interrupted".to_owned());
            }
            crowd.connect(addr).map_err(|error| format!("client {number} of {count}: {error}"))?;
        }
        Ok(crowd)
    }

    fn connect(&mut self, addr: SocketAddr) -> Result<(), String> {
        let open = || -> io::Result<TcpStream> {
            let stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            Ok(stream)
        };
        let stream = open().map_err(|error| format!("connect: {error}"))?;
        let mut client = Client { stream, head: Vec::new(), left: None, began: Instant::now() };
        client.send(&self.request, Instant::now())?;
        while !client.receive(&mut self.room, self.length)? {
            if client.began.elapsed() > TIMEOUT {
                return Err(format!("no whole answer within {TIMEOUT:?}"));
            }
        }
        client.stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        let number = EventData::new_u64(self.clients.len() as u64);
        epoll::add(&self.epoll, &client.stream, number, EventFlags::IN).map_err(|error| error.to_string())?;
        self.clients.push(client);
        Ok(())
    }

    /// All clients ask until `span` is over. Waits for the last answer.
    ///
    /// # Errors
    /// When one answer is wrong, does not come, or the program is interrupted.
    pub fn run(&mut self, span: Duration) -> Result<Pace, String> {
        let begin = Instant::now();
        let mut each_us = Vec::with_capacity(1 << 18);
        for client in &mut self.clients {
            client.send(&self.request, Instant::now())?;
        }
        let mut asking = self.clients.len();
        let mut events = Vec::with_capacity(256);
        while asking > 0 {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&LOOK_PAUSE)) {
                Err(error) if error != Errno::INTR => return Err(format!("epoll: {error}")),
                _ if interrupt::seen() => return Err("interrupted".to_owned()),
                _ if begin.elapsed() > span + TIMEOUT => return Err(format!("{asking} without an answer")),
                _ => {}
            }
            for event in &events {
                let client = &mut self.clients[event.data.u64() as usize];
                if !client.receive(&mut self.room, self.length)? {
                    continue;
                }
                let now = Instant::now();
                each_us.push((now - client.began).as_micros() as u64);
                if now - begin < span {
                    client.send(&self.request, now)?;
                } else {
                    asking -= 1;
                }
            }
        }
        Ok(Pace::new(each_us, 0, begin.elapsed()))
    }

    /// Checks that the server keeps all connections of these idle clients.
    ///
    /// # Errors
    /// When the server has ended a connection.
    pub fn are_idle(&self) -> Result<(), String> {
        let is_idle = |client: &&Client| {
            recv(&client.stream, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) == Err(Errno::AGAIN)
        };
        let (idle, all) = (self.clients.iter().filter(is_idle).count(), self.clients.len());
        if idle == all { Ok(()) } else { Err(format!("{idle} of {all} idle clients are left")) }
    }
}

impl Client {
    /// Asks. A request is short and has room in the socket's buffer.
    fn send(&mut self, request: &[u8], now: Instant) -> Result<(), String> {
        self.began = now;
        self.stream.write_all(request).map_err(|error| format!("send: {error}"))
    }

    /// Receives once. True when the answer is whole.
    fn receive(&mut self, room: &mut [u8], expected: u64) -> Result<bool, String> {
        let received = match self.left {
            None => self.stream.read(room),
            // TCP drops so many bytes instead of copying them (tcp(7)).
            Some(left) => {
                let most = room.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                recv(&self.stream, &mut room[..most], RecvFlags::TRUNC)
                    .map(|(_, length)| length)
                    .map_err(io::Error::from)
            }
        };
        let received = match received {
            Ok(0) => return Err("the connection was ended".to_owned()),
            Ok(length) => length,
            Err(error) => {
                let is_early = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
                return if is_early { Ok(false) } else { Err(format!("receive: {error}")) };
            }
        };
        let left = match self.left {
            Some(left) => left - received as u64,
            None => match self.begin(&room[..received], expected)? {
                Some(left) => left,
                None => return Ok(false),
            },
        };
        self.left = (left > 0).then_some(left);
        Ok(left == 0)
    }

    /// Takes the begin of an answer; what is left of its body once the head is whole.
    fn begin(&mut self, data: &[u8], expected: u64) -> Result<Option<u64>, String> {
        if self.head.is_empty()
            && let Some(left) = left_after(data, expected)?
        {
            return Ok(Some(left));
        }
        self.head.extend_from_slice(data);
        let left = left_after(&self.head, expected)?;
        if left.is_some() {
            self.head.clear();
        }
        Ok(left)
    }
}

/// Judges the head of an answer and tells how much of the body is not in `data`; `None` while the head is not whole.
fn left_after(data: &[u8], expected: u64) -> Result<Option<u64>, String> {
    let Some(end) = data.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let (head, body) = (&data[..end], data[end + 4..].len() as u64);
    let wrong = |what| Err(format!("{what}: {}", String::from_utf8_lossy(data).escape_debug()));
    if !head.starts_with(b"HTTP/1.1 200") {
        return wrong("not 200");
    }
    match content_length(head) {
        Some(length) if length == expected && body <= length => Ok(Some(length - body)),
        _ => wrong("not as long as it must be"),
    }
}

fn content_length(head: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))?;
    std::str::from_utf8(&line[NAME.len()..]).ok()?.trim().parse().ok()
}

/// One round: `clients` ask `target` for `span`. `server` are the processes that are measured.
///
/// # Errors
/// As [`Crowd::open`] and [`Crowd::run`].
pub fn run(server: &[u32], target: &Target, clients: usize, span: Duration) -> Result<Run, String> {
    let mut crowd = Crowd::open(target, clients)?;
    let meter = Meter::start(server);
    let pace = crowd.run(span);
    let (cpu, rss) = meter.stop();
    Ok(Run::new(pace?, cpu, rss))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Backend;
    use testkit::{Peer, Script};

    fn target(addr: SocketAddr, length: u64) -> Target {
        Target { addr, path: format!("/{length}"), length }
    }

    #[test]
    fn answers_of_any_size_are_counted() {
        let backend = Backend::start();
        for length in [0, 12, 3 * 1024 * 1024] {
            let mut crowd = Crowd::open(&target(backend.addr(), length), 5).unwrap();
            let pace = crowd.run(Duration::from_millis(30)).unwrap();
            assert!(pace.done >= 5 && pace.p50_us <= pace.p99_us, "{pace:?}");
            crowd.are_idle().unwrap();
        }
    }

    #[test]
    fn heads_may_come_in_pieces() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length:  5 \r\n\r\nhello";
        for cut in 0..head.len() {
            let whole = left_after(&head[..cut], 5).unwrap();
            assert_eq!(whole, cut.checked_sub(head.len() - 5).map(|body| 5 - body as u64), "{cut}");
        }
    }

    #[test]
    fn wrong_answers_are_errors() {
        let answers: [(&[u8], &str); 4] = [
            (b"HTTP/1.1 500 X\r\nContent-Length: 1\r\n\r\nx", "not 200"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nxx", "not as long"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", "not as long"),
            (b"HTTP/1.1 200 OK\r\n", "ended"),
        ];
        for (answer, expected) in answers {
            let peer = Peer::tcp(Script::new().head().send(answer).close());
            let error = Crowd::open(&target(peer.addr(), 1), 1).err().unwrap();
            assert!(error.contains(expected), "{error}");
        }
    }
}
