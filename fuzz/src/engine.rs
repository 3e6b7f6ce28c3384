//! An engine in a thread of its own that answers every question with the bytes of the moment, over a UNIX
//! socket, since only that way the whole client is tried.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{env, fs, process};

use docker_sock::{Engine, Host};

/// The time of one call, which nothing here takes. The fuzzer's limit for one input is shorter, and tells more.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// What is answered, and what was asked for.
#[derive(Default)]
struct Talk {
    status: u16,
    body: Vec<u8>,
    posted: Option<(String, Vec<u8>)>,
    has_ended: bool,
}

/// The engine and its client.
pub(crate) struct StandIn {
    talk: Arc<Mutex<Talk>>,
    engine: Engine,
    socket: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    pub(crate) fn start() -> StandIn {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let socket = env::temp_dir().join(format!("fuzz-{}-{number}.sock", process::id()));
        let _ = fs::remove_file(&socket); // of a process that was killed
        let listener = UnixListener::bind(&socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
        let talk = Arc::new(Mutex::new(Talk::default()));
        let shared = Arc::clone(&talk);
        let thread = Some(thread::spawn(move || serve(&listener, &shared)));
        let engine = Engine::new(Host::Unix(socket.clone()), PATIENCE);
        StandIn { talk, engine, socket, thread }
    }

    /// The client, every call of which is answered with `status` and `body` from now on.
    pub(crate) fn answering(&self, status: u16, body: &[u8]) -> &Engine {
        let mut talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        (talk.status, talk.body, talk.posted) = (status, body.to_vec(), None);
        &self.engine
    }

    /// Target and body of the last POST since then.
    pub(crate) fn posted(&self) -> Option<(String, Vec<u8>)> {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner).posted.take()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.talk.lock().unwrap_or_else(PoisonError::into_inner).has_ended = true;
        let _ = UnixStream::connect(&self.socket); // wakes it
        let _ = fs::remove_file(&self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panic was printed
        }
    }
}

/// One connection after the other, each for one request.
fn serve(listener: &UnixListener, talk: &Mutex<Talk>) {
    for stream in listener.incoming() {
        let mut stream = stream.expect("a connection");
        let mut talk = talk.lock().unwrap_or_else(PoisonError::into_inner);
        if talk.has_ended {
            return;
        }
        let Some((line, body)) = request(&mut stream) else { continue };
        let target = line.split(' ').nth(1).unwrap_or_default();
        let (status, answer) = match target {
            "/_ping" => (200, &b"OK"[..]),
            _ if line.starts_with("POST ") => {
                talk.posted = Some((target.to_owned(), body));
                (200, &b"{}"[..])
            }
            _ => (talk.status, &talk.body[..]),
        };
        let head = format!("HTTP/1.1 {status} Status\r\nApi-Version: 1.41\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(&[head.as_bytes(), answer].concat()); // it may have seen enough
    }
}

/// The first line and the body of a request, which the client wrote and so is well-formed.
fn request(stream: &mut UnixStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
        let body = &bytes[end + 4..];
        if body.len() >= length.unwrap_or(0) {
            return Some((head.lines().next()?.to_owned(), body.to_vec()));
        }
    }
}
