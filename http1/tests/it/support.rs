//! A server under test: what it does with a request is chosen by the path, what it sees is recorded, and
//! everything must be gone when it ends.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use http1::server::Answer;
use http1::{Body, BodyError, Exchange, HeadWriter, Length, Refusal, Server, ServerConfig, Service, Stats};
use kit::Deadline;
use kit::sys::{Listener, Ready};
use testkit::eventually;
use testkit::http::{Client, Connection, Request};

/// How long anything may take that is expected to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// The largest body that a service keeps in memory here.
pub(crate) const MAX_KEPT: usize = 16 << 20;

/// A running server with its service.
pub(crate) struct Fixture {
    server: Option<Server>,
    pub(crate) probe: Arc<Probe>,
}

impl Fixture {
    #[track_caller]
    pub(crate) fn start(config: ServerConfig) -> Fixture {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let probe = Arc::new(Probe::default());
        let server = Server::start(listener, config, probe.clone()).unwrap();
        Fixture { server: Some(server), probe }
    }

    pub(crate) fn new() -> Fixture {
        Fixture::start(ServerConfig::default())
    }

    pub(crate) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.server().address()
    }

    pub(crate) fn stats(&self) -> Stats {
        self.server().stats()
    }

    /// A request over a connection of its own.
    pub(crate) fn request(&self) -> Request<'static> {
        testkit::http::request(self.addr()).timeout(PATIENCE)
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.addr())
    }

    /// A connection for raw bytes.
    #[track_caller]
    pub(crate) fn connect(&self) -> Connection {
        let mut connection = Connection::open(self.addr()).unwrap();
        connection.within(PATIENCE);
        connection
    }

    /// A connection on which `bytes` were sent.
    #[track_caller]
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> Connection {
        let mut connection = self.connect();
        connection.send(bytes).unwrap();
        connection
    }

    /// Waits until the figures are as wanted.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn(&Stats) -> bool) -> Stats {
        wait(|| self.stats(), what, is_so)
    }

    /// Ends the server while the test goes on.
    pub(crate) fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}

impl Drop for Fixture {
    /// Nothing may be left once the clients are gone: they are declared after the server, and so dropped
    /// before it.
    fn drop(&mut self) {
        self.probe.release();
        if self.server.is_some() && !thread::panicking() {
            self.wait("all gone", |stats| {
                let connections = stats.connections_idle + stats.connections_head + stats.connections_active;
                connections + stats.connections_closing + stats.workers_busy + stats.waiting == 0
            });
        }
    }
}

/// The service: counts, and does what the path says.
#[derive(Default)]
pub(crate) struct Probe {
    paths: Mutex<Vec<String>>,
    refused: Mutex<Vec<&'static str>>,
    body_errors: Mutex<Vec<String>>,
    is_released: Mutex<bool>,
    released: Condvar,
}

impl Probe {
    /// How many requests reached the service.
    pub(crate) fn calls(&self) -> usize {
        self.paths.lock().unwrap().len()
    }

    /// The paths of all requests, in the order in which they reached the service.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.paths.lock().unwrap().clone()
    }

    /// The reasons of all refusals so far.
    pub(crate) fn refused(&self) -> Vec<&'static str> {
        self.refused.lock().unwrap().clone()
    }

    /// How the bodies failed that the service read.
    pub(crate) fn body_errors(&self) -> Vec<String> {
        self.body_errors.lock().unwrap().clone()
    }

    /// Lets every present and future call of `/hold` go on.
    pub(crate) fn release(&self) {
        *self.is_released.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.released.notify_all();
    }

    fn hold(&self) {
        let is_released = self.is_released.lock().unwrap();
        drop(self.released.wait_timeout_while(is_released, PATIENCE * 3, |is_released| !*is_released));
    }
}

impl Service for Probe {
    fn call(&self, exchange: &mut Exchange<'_>) {
        let path = String::from_utf8_lossy(exchange.request().path()).into_owned();
        self.paths.lock().unwrap().push(path.clone());
        let number = path.rsplit('/').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        // What fails here, fails because of the peer; the server's part is what is tested.
        let _ = match path.split('/').nth(1).unwrap_or_default() {
            "hold" => {
                self.hold();
                exchange.respond(text(200), b"held")
            }
            "early" => exchange.respond(text(200), b"early"),
            "early-stream" => write(exchange, Length::Known(5), b"early"),
            "status" => exchange.respond(HeadWriter::response(number as u16), b"body"),
            "length" => write(exchange, Length::Known(number), &vec![b'x'; number as usize]),
            "chunked" => write(exchange, Length::Unknown, &vec![b'x'; number as usize]),
            "nothing" => Ok(()),
            "panic" => panic!("as the test wants it"),
            "late-panic" => {
                exchange.start(text(200), Length::Known(9));
                panic!("as the test wants it, after the answer began")
            }
            "half-length" => half(exchange, Length::Known(9)),
            "half-chunked" => half(exchange, Length::Unknown),
            "unfinished" => {
                exchange.start(text(200), Length::Unknown);
                exchange.write(b"half").and_then(|_| exchange.flush()).map(drop)
            }
            "finish-first" => exchange.finish().map(drop),
            "abort" => {
                let result = half(exchange, Length::Unknown);
                exchange.abort();
                result.and_then(|()| finish(exchange)).and_then(|()| exchange.respond(text(200), b"again"))
            }
            "restart" => half(exchange, Length::Unknown).and_then(|()| exchange.respond(text(200), b"again")),
            "twice" => {
                let result = exchange.respond(text(200), b"once");
                result.and(exchange.respond(text(200), b"twice")).and(exchange.write(b"more").map(drop))
            }
            "close" => {
                exchange.close_after();
                exchange.respond(text(200), b"closing")
            }
            "stream" => self.note(stream(exchange)),
            _ => self.note(echo(exchange)),
        };
    }

    fn answer(&self, exchange: &Exchange<'_>) -> Option<Answer> {
        (exchange.request().path() == b"/at-once").then(|| Answer::new(text(200), "at once"))
    }

    fn refused(&self, refusal: Refusal, head: &mut HeadWriter) {
        head.text("X-Refused", refusal.reason());
        self.refused.lock().unwrap().push(refusal.reason());
    }
}

impl Probe {
    fn note(&self, result: Result<(), BodyError>) -> io::Result<()> {
        if let Err(error) = result {
            self.body_errors.lock().unwrap().push(format!("{error:?}"));
        }
        Ok(())
    }
}

fn text(status: u16) -> HeadWriter {
    let mut head = HeadWriter::response(status);
    head.text("Content-Type", "text/plain");
    head
}

/// Reads the whole body, then answers with it. A refusal is left to the server.
fn echo(exchange: &mut Exchange<'_>) -> Result<(), BodyError> {
    let body = exchange.read_body(MAX_KEPT, Deadline::NEVER)?;
    exchange.respond(text(200), &body).map_err(BodyError::Io)
}

/// Answers with the body while it comes, in its own framing.
fn stream(exchange: &mut Exchange<'_>) -> Result<(), BodyError> {
    let mut piece = Vec::new();
    loop {
        match exchange.body()? {
            Body::Data(data) => piece = data.to_vec(),
            Body::Wait => {
                exchange.socket().wait(Ready::READ, Deadline::after(PATIENCE)).map_err(BodyError::Io)?;
                continue;
            }
            Body::End => {}
        }
        exchange.consume(piece.len());
        if !exchange.is_started() {
            exchange.start(text(200), exchange.body_length());
        }
        write_all(exchange, &piece).map_err(BodyError::Io)?;
        if std::mem::take(&mut piece).is_empty() {
            return finish(exchange).map_err(BodyError::Io);
        }
    }
}

fn write(exchange: &mut Exchange<'_>, length: Length, data: &[u8]) -> io::Result<()> {
    exchange.start(text(200), length);
    write_all(exchange, data)?;
    finish(exchange)
}

fn half(exchange: &mut Exchange<'_>, length: Length) -> io::Result<()> {
    exchange.start(text(200), length);
    write_all(exchange, b"half")
}

fn write_all(exchange: &mut Exchange<'_>, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        match exchange.write(data)? {
            0 => wait_for_room(exchange)?,
            count => data = &data[count..],
        }
    }
    Ok(())
}

fn finish(exchange: &mut Exchange<'_>) -> io::Result<()> {
    while !exchange.finish()? {
        wait_for_room(exchange)?;
    }
    Ok(())
}

fn wait_for_room(exchange: &mut Exchange<'_>) -> io::Result<()> {
    match exchange.socket().wait(Ready::WRITE, Deadline::after(PATIENCE))?.is_any() {
        true => Ok(()),
        false => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// The head of a request with the usual fields, and `fields` behind them, each with its line end.
pub(crate) fn head(method: &str, path: &str, fields: &str) -> Vec<u8> {
    let mut head = Vec::new();
    write!(head, "{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n").unwrap();
    head
}

/// A request without a body, on a connection that stays.
pub(crate) fn get(path: &str) -> Vec<u8> {
    head("GET", path, "")
}

/// A request with a body of the given length, on a connection that stays.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    [&head("POST", path, &format!("Content-Length: {}\r\n", body.len()))[..], body].concat()
}

/// Waits until the figures of a server are as wanted.
#[track_caller]
pub(crate) fn wait(stats: impl Fn() -> Stats, what: &str, is_so: impl Fn(&Stats) -> bool) -> Stats {
    eventually(PATIENCE, || {
        let stats = stats();
        if is_so(&stats) { Ok(stats) } else { Err(format!("not {what}: {stats:?}")) }
    })
}
