//! Many clients that mean no good, or just many: resets, slow heads, idle connections. One thread at most,
//! loopback only, all of it over when the guard is dropped.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockRef;

use crate::http::Client;

/// How long a connection may take, also when the server's queue is full.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The pause of a slow client between two bytes.
const SLOW_PAUSE: Duration = Duration::from_secs(1);

/// Descriptors that the test needs besides the flood's.
const SPARE_FDS: u64 = 256;

/// Connects `count` times and breaks each connection off with a RST at once.
///
/// # Panics
/// When a connection is refused.
pub fn resets_after_connect(addr: SocketAddr, count: usize) {
    for _ in 0..count {
        let stream = connect(addr);
        // Closing a socket with SO_LINGER 0 sends a RST (socket(7)).
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap_or_else(|e| panic!("SO_LINGER: {e}"));
    }
}

/// Connections that are held open until this is dropped.
#[derive(Debug)]
pub struct Held {
    streams: Vec<TcpStream>,
}

impl Held {
    /// How many of them the server has not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.streams.iter().filter(|stream| is_open(stream)).count()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.streams.len()
    }
}

/// `count` connections over which nothing is sent.
///
/// # Panics
/// When a connection is refused.
#[must_use]
pub fn open_connections(addr: SocketAddr, count: usize) -> Held {
    raise_nofile(count);
    Held { streams: (0..count).map(|_| connect(addr)).collect() }
}

/// As many connections as the server takes, at most `count`: one that it refuses, resets or ends at once is
/// no failure.
#[must_use]
pub fn try_connections(addr: SocketAddr, count: usize) -> Held {
    raise_nofile(count);
    Held {
        streams: (0..count).filter_map(|_| TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT).ok()).collect(),
    }
}

/// `count` connections over which the first `size` bytes of a head are sent, which the server may refuse. After every
/// hundred of them `between` is called.
///
/// # Panics
/// When a connection is refused.
#[must_use]
pub fn unfinished_heads(addr: SocketAddr, (count, size): (usize, usize), between: impl Fn()) -> Held {
    raise_nofile(count);
    let mut head = b"GET / HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    head.resize(size, b'x');
    let stream = |number: usize| {
        if number.is_multiple_of(100) {
            between();
        }
        let mut stream = connect(addr);
        let _ = stream.write_all(&head); // it may have been refused by then
        stream
    };
    Held { streams: (1..=count).map(stream).collect() }
}

/// `count` keep-alive connections, idle after one `GET path` each.
///
/// # Panics
/// When one of the requests is not answered, or its connection not kept.
#[must_use]
pub fn idle_connections(addr: SocketAddr, count: usize, path: &str) -> Idle {
    raise_nofile(count);
    let client = |number: usize| {
        let mut client = Client::new(addr);
        let reply = client.request().path(path).send();
        let reply = reply.unwrap_or_else(|e| panic!("client {number} of {count}: {e}"));
        assert!(client.is_open(), "client {number} of {count}: {} and closed", reply.status);
        client
    };
    Idle { clients: (0..count).map(client).collect() }
}

/// Idle keep-alive clients, see [`idle_connections`].
#[derive(Debug)]
pub struct Idle {
    /// The clients; each has its connection.
    pub clients: Vec<Client>,
}

/// `count` clients that send the head of a request with one byte a second each, from one thread, until the
/// guard is dropped.
///
/// # Panics
/// When a connection is refused.
#[must_use]
pub fn slow_heads(addr: SocketAddr, count: usize) -> SlowHeads {
    slow_heads_every(addr, count, SLOW_PAUSE)
}

/// As [`slow_heads`], with another pause between two bytes of a client.
///
/// # Panics
/// When a connection is refused.
#[must_use]
pub fn slow_heads_every(addr: SocketAddr, count: usize, pause: Duration) -> SlowHeads {
    raise_nofile(count);
    let streams: Vec<TcpStream> = (0..count).map(|_| connect(addr)).collect();
    let shared =
        Arc::new(Slow { open: AtomicUsize::new(count), sent: AtomicUsize::new(0), ..Slow::default() });
    let thread = thread::spawn({
        let shared = shared.clone();
        move || shared.send(streams, pause)
    });
    SlowHeads { shared, thread: Some(thread) }
}

/// Ends the slow clients when it is dropped.
#[derive(Debug)]
pub struct SlowHeads {
    shared: Arc<Slow>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Slow {
    open: AtomicUsize,
    sent: AtomicUsize,
    is_over: Mutex<bool>,
    wake: Condvar,
}

impl SlowHeads {
    /// How many of them the server has not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many bytes each of them has sent.
    #[must_use]
    pub fn sent(&self) -> usize {
        self.shared.sent.load(Ordering::SeqCst)
    }
}

impl Drop for SlowHeads {
    fn drop(&mut self) {
        *self.shared.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic was printed already
        }
    }
}

impl Slow {
    fn send(&self, mut streams: Vec<TcpStream>, pause: Duration) {
        let head = b"GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: ".iter().chain(std::iter::repeat(&b's'));
        for byte in head {
            streams.retain_mut(|stream| is_open(stream) && stream.write_all(&[*byte]).is_ok());
            self.open.store(streams.len(), Ordering::SeqCst);
            self.sent.fetch_add(1, Ordering::SeqCst);
            let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = self.wake.wait_timeout_while(is_over, pause, |is_over| !*is_over);
            if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                return;
            }
        }
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, CONNECT_TIMEOUT).unwrap_or_else(|e| panic!("{addr}: {e}"));
    stream.set_nodelay(true).unwrap_or_else(|e| panic!("TCP_NODELAY: {e}"));
    stream
}

/// Whether the peer has neither closed nor reset it. What the peer has sent before does not matter.
fn is_open(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    let mut scratch = [0; 4096];
    let is_open = loop {
        match (&mut &*stream).read(&mut scratch) {
            Ok(0) => break false,
            Ok(_) => {}
            Err(e) => break e.kind() == io::ErrorKind::WouldBlock,
        }
    };
    stream.set_nonblocking(false).is_ok() && is_open
}

/// Raises this process's soft limit of open files so far that `count` more fit. What the test starts later
/// inherits it, unless it has a limit of its own.
fn raise_nofile(count: usize) {
    let wanted = count as u64 + SPARE_FDS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        let raised = Rlimit { current: Some(current), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).unwrap_or_else(|e| panic!("RLIMIT_NOFILE {current}: {e}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gate, Peer, Script, eventually};

    const WAIT: Duration = Duration::from_secs(5);
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn held_connections_notice_their_end() {
        let gate = Gate::new();
        let peer = Peer::tcp_each(vec![Script::new().wait(&gate).close(), Script::new().stall()]);
        let held = open_connections(peer.addr(), 3);
        assert_eq!((held.open(), held.count()), (3, 3));
        gate.open();
        eventually(WAIT, || match held.open() {
            2 => Ok(()),
            n => Err(format!("{n} open")),
        });
        assert_eq!(try_connections(peer.addr(), 2).open(), 2);
    }

    #[test]
    fn resets_arrive() {
        let peer = Peer::tcp(Script::new().bytes(1).close());
        resets_after_connect(peer.addr(), 20);
        eventually(WAIT, || match (peer.connections(), peer.open_connections()) {
            // A connection that is reset before it is accepted may vanish from the queue.
            (1.., 0) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    #[test]
    fn idle_clients_have_been_served() {
        let peer = Peer::tcp(Script::new().request().send(OK).repeat());
        let idle = idle_connections(peer.addr(), 10, "/x");
        assert_eq!((idle.clients.len(), peer.connections(), peer.requests().len()), (10, 10, 10));
        assert_eq!(peer.open_connections(), 10);
    }

    #[test]
    fn slow_heads_go_on_and_end() {
        let peer = Peer::tcp(Script::new().head().close());
        let slow = slow_heads_every(peer.addr(), 5, Duration::from_millis(1));
        eventually(WAIT, || if slow.sent() > 50 { Ok(()) } else { Err(format!("{} sent", slow.sent())) });
        assert_eq!(slow.open(), 5);
        assert!(peer.received(0).starts_with(b"GET / HTTP/1.1\r\nHost: slow\r\nX-Slow: s"));
        drop(slow);
        eventually(WAIT, || match peer.open_connections() {
            0 => Ok(()),
            n => Err(format!("{n} open")),
        });
    }
}
