//! A server that keeps the rules of HTTP and then goes on talking: behind some answers it sends bytes that look like
//! another answer, at once or a moment later. A client that believes them hands its caller an answer to nothing.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::eventually;
use crate::http::Client;
use crate::rng::Rng;

/// What is in the bytes that nobody asked for, before their number.
const MARK: &str = "surplus ";

/// The most of them at a time: more than any buffer.
const MAX_BYTES: usize = 70_000;

/// How long they come behind the answer, at the most.
const MAX_DELAY_US: usize = 400;

/// Who calls at once.
const CLIENTS: usize = 16;

/// How long it may take until a server that was interrupted knows what it has done.
const SOON: Duration = Duration::from_secs(60);

/// The server; it ends when it is dropped.
pub struct Surplus {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    is_stopping: AtomicBool,
    /// One of so many answers is followed by surplus bytes.
    one_in: usize,
    connections: AtomicU64,
    /// For each time, whether the bytes may have crossed the next request on its way: nobody can tell them from its
    /// answer then. `None` until that is known.
    sent: Mutex<Vec<Option<bool>>>,
}

impl Surplus {
    /// A server on a free port; one of `one_in` answers is followed by surplus bytes.
    #[must_use]
    pub fn start(one_in: usize, seed: u64) -> Surplus {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap_or_else(|e| panic!("bind: {e}"));
        let address = listener.local_addr().unwrap_or_else(|e| panic!("listener: {e}"));
        let shared = Arc::new(Shared {
            is_stopping: AtomicBool::new(false),
            one_in,
            connections: AtomicU64::new(0),
            sent: Mutex::default(),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared, seed)
        });
        Surplus { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// How often it sent surplus bytes, and how often these crossed a request.
    #[must_use]
    pub fn sent(&self) -> (usize, usize) {
        let sent = self.shared.sent();
        (sent.len(), sent.iter().filter(|has_crossed| **has_crossed == Some(true)).count())
    }

    /// Whether `body` is the answer to the request for `target`; false when it is surplus bytes that crossed that
    /// request, which the server had not begun to read when it sent them.
    ///
    /// # Panics
    /// When the answer belongs to another request, or is made of surplus bytes that the client could have seen.
    #[track_caller]
    pub fn check(&self, target: &str, body: &[u8]) -> bool {
        let text = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        if body == target.as_bytes() {
            return true;
        }
        let number = text.strip_prefix(MARK).and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
        let number = number.unwrap_or_else(|| panic!("{target} was answered `{text}`"));
        let has_crossed =
            eventually(SOON, || self.shared.sent()[number].ok_or_else(|| "not known yet".to_owned()));
        assert!(has_crossed, "{target} was answered `{text}`");
        false
    }
}

impl Shared {
    fn sent(&self) -> MutexGuard<'_, Vec<Option<bool>>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Surplus {
    /// Has `calls` calls made by many clients at once over a proxy at `proxy`, whose paths begin with `prefix`, and
    /// prints what became of them.
    ///
    /// # Panics
    /// When a call gets the answer of another, see [`Surplus::check`].
    pub fn called_by_many(&self, calls: usize, proxy: SocketAddr, prefix: &str) {
        let crossed = AtomicU64::new(0);
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let crossed = &crossed;
                scope.spawn(move || {
                    let mut connection = Client::new(proxy);
                    for number in 0..calls.div_ceil(CLIENTS) {
                        let target = format!("/{client}/{number}");
                        let request = connection.request().path(format!("{prefix}{target}")).timeout(SOON);
                        let reply = request.send().unwrap_or_else(|e| panic!("{target}: {e}"));
                        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
                        crossed.fetch_add(u64::from(!self.check(&target, &reply.body)), Ordering::Relaxed);
                    }
                });
            }
        });
        self.print(calls, crossed.into_inner());
    }

    /// Prints what became of so many calls, of which so many were answered with bytes that crossed them.
    ///
    /// # Panics
    /// When there were no such bytes.
    pub fn print(&self, calls: usize, crossed: u64) {
        let (sent, may_have_crossed) = self.sent();
        let connections = self.connections();
        println!(
            "{calls} calls over {connections} connections, {sent} times bytes behind an answer, {may_have_crossed} of \
             them while the next request was on its way, {crossed} of them taken for its answer"
        );
        assert!(sent > 0);
    }
}

/// An answer of `size` bytes, with another one behind it, for `/first`; what is asked for elsewhere is `good`.
#[must_use]
pub fn answer(target: &str, size: usize) -> Vec<u8> {
    if !target.ends_with("/first") {
        return message("good");
    }
    let body = size - message("").len() - "1234".len() + "0".len();
    [message(&"x".repeat(body)), message("POISON")].concat()
}

impl Drop for Surplus {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address); // wakes it
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join(); // its panic was printed
        }
    }
}

/// Serves each connection on a thread, which ends with it.
fn accept(listener: &TcpListener, shared: &Arc<Shared>, seed: u64) {
    for stream in listener.incoming() {
        if shared.is_stopping.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let number = shared.connections.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(shared);
        // An error is the client's end.
        thread::spawn(move || serve(stream, &shared, &mut Rng::new(seed.wrapping_add(number))));
    }
}

fn serve(mut stream: TcpStream, shared: &Shared, rng: &mut Rng) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut is_last = false;
        while line != "\r\n" {
            line.clear();
            input.read_line(&mut line)?;
            is_last |= line.eq_ignore_ascii_case("connection: close\r\n");
        }
        let mut answer = message(&target);
        if !rng.one_in(shared.one_in) {
            stream.write_all(&answer)?;
        } else if rng.one_in(3) {
            let (number, bytes) = surplus(shared, rng);
            shared.sent()[number] = Some(false);
            answer.extend(bytes);
            stream.write_all(&answer)?;
        } else {
            stream.write_all(&answer)?;
            thread::sleep(Duration::from_micros(rng.below(MAX_DELAY_US) as u64));
            send_late(&mut stream, shared, rng)?;
        }
        if is_last {
            return Ok(());
        }
    }
}

/// Sends surplus bytes, unless the next request has come already.
fn send_late(stream: &mut TcpStream, shared: &Shared, rng: &mut Rng) -> io::Result<()> {
    if has_input(stream)? {
        return Ok(());
    }
    let (number, bytes) = surplus(shared, rng);
    let result = stream.write_all(&bytes);
    shared.sent()[number] = Some(!matches!(has_input(stream), Ok(false)));
    result
}

fn has_input(stream: &TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let result = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

fn surplus(shared: &Shared, rng: &mut Rng) -> (usize, Vec<u8>) {
    let mut sent = shared.sent();
    let number = sent.len();
    sent.push(None);
    drop(sent);
    let room = if rng.one_in(2) { 100 } else { MAX_BYTES };
    (number, message(&format!("{MARK}{number} {}", "x".repeat(rng.below(room)))))
}

fn message(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}
