//! One life of the control plane's server: tiny_http on the socket, and the threads that answer. The only file that
//! knows tiny_http.
//!
//! tiny_http bounds nothing, and its faults are known (docs/decisions/0001): the edge sends it whole requests of a known
//! length, few at a time. Who may open the socket besides is the gateway's own user; also that one's mistakes end no
//! more than this server, which is started again.

use std::io::{self, Read as _, Write as _};
use std::mem;
use std::os::unix::net::UnixListener;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tiny_http::{Header, Request, Response, Server, StatusCode};

use super::answer::{Answer, Problem};
use super::plane::{Order, Plane};
use super::{MAX_BODY_BYTES, THREADS};
use crate::caller;

/// How long a thread waits for a request before it looks around; it is woken where there is something to see.
const LONG: Duration = Duration::from_secs(3600);

const TEXT: &str = "text/plain; charset=utf-8";

/// How long the threads that wait may take to end. They are woken, and have nothing else to do.
const END_TIME: Duration = Duration::from_secs(1);

/// Threads that answer, of this server and of those before it: one that hangs in a request is among them until it ends.
pub(super) struct Threads(AtomicUsize);

impl Threads {
    pub(super) const fn new() -> Threads {
        Threads(AtomicUsize::new(0))
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One thread that is counted.
struct Counted(Arc<Threads>);

impl Counted {
    fn one(threads: &Arc<Threads>) -> Counted {
        threads.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(threads))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The server, as long as somebody holds it.
struct Held {
    server: Server,
    is_over: AtomicBool,
    /// Dropped last, to say that the server is gone: with its end it removes the socket's file.
    _gone: Sender<()>,
}

impl Drop for Held {
    /// What still waits is answered rather than dropped: see [`refuse`].
    fn drop(&mut self) {
        let mut none = 0;
        while none <= THREADS {
            match self.server.try_recv() {
                Ok(Some(request)) => respond(request, Answer::Problem(Problem::Restarting)),
                _ => none += 1, // nothing, or one of the wake-ups of `Generation::end`
            }
        }
    }
}

/// A running server.
pub(super) struct Generation {
    held: Arc<Held>,
    gone: Receiver<()>,
}

impl Generation {
    /// Serves on `listener`. `died` is called when the server cannot accept any more.
    ///
    /// # Errors
    /// When threads or files have run out.
    pub(super) fn start(
        listener: UnixListener,
        plane: &Arc<Plane>,
        threads: &Arc<Threads>,
        died: &Arc<dyn Fn() + Send + Sync>,
    ) -> io::Result<Generation> {
        // It panics where it cannot start its thread.
        let server = panic::catch_unwind(|| Server::from_listener(listener, None))
            .map_err(|_| io::Error::other("no thread can be started"))?
            .map_err(io::Error::other)?;
        let (sender, gone) = mpsc::channel();
        let held = Arc::new(Held { server, is_over: AtomicBool::new(false), _gone: sender });
        let generation = Generation { held, gone };
        for _ in 0..THREADS {
            let held = Arc::downgrade(&generation.held);
            let (plane, died, counted) = (Arc::clone(plane), Arc::clone(died), Counted::one(threads));
            let body = move || {
                serve(&held, &plane, &*died);
                drop(counted);
            };
            if let Err(error) = kit::thread::spawn("control", body) {
                generation.end();
                return Err(error);
            }
        }
        Ok(generation)
    }

    /// Ends it. Threads that have a request in hand go on with that, and end then; they keep nothing of the server.
    pub(super) fn end(self) {
        self.held.is_over.store(true, Ordering::Release);
        (0..THREADS).for_each(|_| self.held.server.unblock());
        drop(self.held);
        let _ = self.gone.recv_timeout(END_TIME); // nothing is ever sent: the other end goes
    }
}

fn serve(held: &Weak<Held>, plane: &Plane, died: &dyn Fn()) {
    // The server is held only while it is waited for: a request that hangs must not keep it.
    while let Some(held) = held.upgrade().filter(|held| !held.is_over.load(Ordering::Acquire)) {
        match held.server.recv_timeout(LONG) {
            Ok(Some(request)) => {
                drop(held);
                if panic::catch_unwind(AssertUnwindSafe(|| answer(request, plane))).is_err() {
                    log::error!("a request to the control plane panicked");
                }
            }
            Ok(None) => {}
            Err(error) => {
                log::debug!("the control plane cannot accept: {error}");
                drop(held);
                return died();
            }
        }
    }
}

fn answer(mut request: Request, plane: &Plane) {
    let answer = match body(&mut request) {
        Ok(body) => {
            let (method, target) = (request.method().to_string(), request.url().to_owned());
            let caller = request.headers().iter().find(|header| header.field.equiv(caller::HEADER));
            let caller = caller.map_or(caller::AT_THE_SOCKET, |header| header.value.as_str());
            let order = Order { method: &method, target: &target, body: &body, caller };
            // The request is answered whatever happens.
            let answered = panic::catch_unwind(AssertUnwindSafe(|| plane.answer(&order)));
            answered.unwrap_or_else(|_| {
                log::error!("{method} {target} panicked in the control plane");
                Answer::Problem(Problem::Internal)
            })
        }
        Err(Some(problem)) => Answer::Problem(problem),
        Err(None) => return, // nobody is left to be told
    };
    respond(request, answer);
}

/// The whole body. Without a problem to be told, it broke off.
fn body(request: &mut Request) -> Result<Vec<u8>, Option<Problem>> {
    if is_too_long(request) {
        return Err(Some(Problem::BodyTooLarge));
    }
    let mut body = Vec::new();
    let limit = MAX_BODY_BYTES as u64 + 1;
    request.as_reader().take(limit).read_to_end(&mut body).map_err(|_| None)?;
    if body.len() > MAX_BODY_BYTES { Err(Some(Problem::BodyTooLarge)) } else { Ok(body) }
}

fn is_too_long(request: &Request) -> bool {
    request.body_length().is_some_and(|length| length > MAX_BODY_BYTES)
}

fn respond(request: Request, answer: Answer) {
    if is_too_long(&request) {
        return refuse(request);
    }
    let header = |name: &str, value: &str| Header::from_bytes(name, value).ok(); // these are plain text
    let (status, body, headers) = match &answer {
        Answer::Json(status, value) => {
            (*status, format!("{value}\n"), vec![header("Content-Type", "application/json")])
        }
        Answer::Problem(problem) => {
            let mut headers =
                vec![header("Content-Type", TEXT), header("X-Gateway-Error", problem.kind().name())];
            if let Problem::MethodNotAllowed(allow) = problem {
                headers.push(header("Allow", allow));
            }
            if problem.kind().status() == 503 {
                headers.push(header("Retry-After", "1"));
            }
            (problem.kind().status(), kit::log::one_line(&problem.line()), headers)
        }
    };
    let headers = headers.into_iter().flatten().collect();
    let length = body.len();
    let response = Response::new(StatusCode(status), headers, io::Cursor::new(body), Some(length), None);
    let response = response.with_chunked_threshold(usize::MAX); // a length rather than chunks
    if let Err(error) = request.respond(response) {
        log::debug!("answer of the control plane not sent: {error}");
    }
}

/// Refuses a request whose declared length is over the limit. Dropped, its reader would allocate what is left of that
/// length, and end the process where that cannot be. An upgrade gives reader and writer away, and they are kept for
/// good: it begins with an interim answer, the real one follows. The edge sends no such request.
fn refuse(request: Request) {
    let mut stream = request.upgrade("none", Response::empty(100));
    let problem = Problem::BodyTooLarge;
    let (kind, line) = (problem.kind().name(), problem.line());
    let written = write!(
        stream,
        "HTTP/1.1 413 Payload Too Large\r\nContent-Type: {TEXT}\r\nX-Gateway-Error: {kind}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{line}\n",
        line.len() + 1
    );
    if let Err(error) = written.and_then(|()| stream.flush()) {
        log::debug!("answer of the control plane not sent: {error}");
    }
    mem::forget(stream);
}
