//! Calls that pollers serve themselves: many at once on few threads, and what becomes of those that go wrong.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http1::forward::{self, Cause, End, Limits, Transfer, Upload};
use http1::server::{Answer, Course, Relay};
use http1::{ClientConfig, Connection, Endpoint, Exchange, HeadWriter, Pool, ResponseHead};
use http1::{Server, ServerConfig, Service, Stats};
use kit::Deadline;
use kit::sys::Listener;
use testkit::http::Client;
use testkit::unreachable::{Deaf, Refusing};
use testkit::{Gate, Peer, Script, eventually};

use crate::support::{self, PATIENCE};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Sends every request to one upstream, except where the path says otherwise.
struct Proxy {
    pool: Pool,
    limit: Duration,
    /// How relays ended, on which path.
    ends: Arc<Mutex<Vec<(String, End)>>>,
    /// Requests that a worker served.
    calls: AtomicUsize,
}

struct Passing {
    proxy: Arc<Proxy>,
    path: String,
}

impl Passing {
    fn note(&self, end: End) {
        self.proxy.ends.lock().unwrap().push((self.path.clone(), end));
    }
}

impl Relay for Passing {
    fn head(&mut self, response: &ResponseHead) -> HeadWriter {
        assert_ne!(self.path, "/panics-late");
        HeadWriter::response(response.status())
    }

    fn ended(self: Box<Self>, end: End, connection: Box<Connection>) {
        self.note(end);
        self.proxy.pool.put(connection);
    }

    fn failed(self: Box<Self>, _: &Exchange<'_>, (end, ..): (End, Box<Connection>, Upload)) -> Course {
        self.note(end);
        Course::Answer(Answer::new(HeadWriter::response(502), format!("{end:?}")))
    }
}

impl Service for Proxy {
    fn call(&self, exchange: &mut Exchange<'_>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        exchange.respond(HeadWriter::response(200), b"by a worker").unwrap();
    }

    fn relays(&self) -> bool {
        true
    }

    fn relay(self: Arc<Self>, exchange: &Exchange<'_>) -> Option<Course> {
        let request = exchange.request();
        let path = String::from_utf8(request.path().to_vec()).unwrap();
        assert_ne!(path, "/panics");
        if path == "/worker" {
            return None;
        }
        let mut connection = forward::connection(&self.pool, exchange, Deadline::NEVER).unwrap();
        let mut head = HeadWriter::request(request.method(), request.target());
        head.forward(request.headers(), &|_| false);
        connection.start(head, exchange.body_length());
        let deadline = Deadline::after(self.limit);
        let limits = Limits {
            deadline,
            total: deadline,
            silence: None,
            read_stall: PATIENCE,
            write_stall: PATIENCE,
            idle: PATIENCE,
        };
        let transfer = Transfer::new(connection, Upload::default(), limits);
        Some(Course::Relay(transfer, Box::new(Passing { proxy: self, path })))
    }
}

struct Fixture {
    server: Server,
    proxy: Arc<Proxy>,
}

impl Fixture {
    fn before(upstream: SocketAddr) -> Fixture {
        Fixture::start(upstream, PATIENCE, ServerConfig::default())
    }

    #[track_caller]
    fn start(upstream: SocketAddr, limit: Duration, config: ServerConfig) -> Fixture {
        let config = ServerConfig { pollers: 2, ..config };
        let client =
            ClientConfig { connect_timeout: limit, pollers: 2, max_idle: 1000, ..ClientConfig::default() };
        let pool = Pool::new(Endpoint::Tcp(upstream), client);
        let (ends, calls) = (Arc::default(), AtomicUsize::new(0));
        let proxy = Arc::new(Proxy { pool, limit, ends, calls });
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Fixture { server: Server::start(listener, config, proxy.clone()).unwrap(), proxy }
    }

    fn client(&self) -> Client {
        Client::new(self.server.address())
    }

    /// A connection on which a request was sent.
    fn send(&self, path: &str) -> testkit::http::Connection {
        let mut connection = testkit::http::Connection::open(self.server.address()).unwrap();
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap();
        connection.within(PATIENCE);
        connection
    }

    fn get(&self, path: &str) -> testkit::Reply {
        testkit::http::request(self.server.address()).timeout(PATIENCE).path(path).send().unwrap()
    }

    fn ends(&self) -> Vec<End> {
        self.proxy.ends.lock().unwrap().iter().map(|(_, end)| *end).collect()
    }

    #[track_caller]
    fn wait(&self, what: &str, is_so: impl Fn(&Stats) -> bool) {
        support::wait(|| self.server.stats(), what, is_so);
    }

    /// Nothing may be left once the clients are gone.
    #[track_caller]
    fn is_empty(&self) {
        self.wait("empty", |stats| {
            let connections = stats.connections_idle + stats.connections_head + stats.connections_active;
            connections + stats.connections_closing + stats.workers_busy + stats.waiting == 0
        });
    }
}

fn answering() -> Peer {
    Peer::tcp(Script::new().request().send(OK).repeat())
}

#[test]
fn a_client_is_served_again_and_again_over_one_connection_on_both_sides() {
    let peer = answering();
    let fixture = Fixture::before(peer.addr());
    let mut client = fixture.client();
    for n in 0..50 {
        let reply = client.request().method("POST").path(format!("/{n}")).body("hello").send().unwrap();
        assert_eq!((reply.status, reply.body.as_slice()), (200, &b"ok"[..]));
    }
    assert_eq!((client.opened(), peer.connections()), (1, 1));
    assert!(peer.requests().iter().all(|request| request.body == b"hello"));
    drop(client);
    fixture.is_empty();
    assert_eq!(fixture.ends(), [End::Done(200); 50]);
    assert_eq!(fixture.proxy.calls.load(Ordering::Relaxed), 0);
}

#[test]
fn requests_in_one_packet_are_answered_in_turn_by_whoever_serves_them() {
    let peer = Peer::tcp(
        Script::new()
            .request()
            .answer(|request| {
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}",
                    request.target.len(),
                    request.target
                )
                .into_bytes()
            })
            .repeat(),
    );
    let fixture = Fixture::before(peer.addr());
    let mut connection = testkit::http::Connection::open(fixture.server.address()).unwrap();
    connection.within(PATIENCE);
    let paths: Vec<String> =
        (0..200).map(|n| if n % 7 == 3 { "/worker".to_owned() } else { format!("/{n}") }).collect();
    let packet: String = paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).collect();
    connection.send(packet).unwrap();
    for path in &paths {
        let want = if path == "/worker" { "by a worker" } else { path };
        assert_eq!(connection.reply("GET").unwrap().body, want.as_bytes());
    }
    drop(connection);
    fixture.is_empty();
}

#[test]
fn many_calls_wait_at_once_on_no_more_threads() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let fixture = Fixture::before(peer.addr());
    let mut connections: Vec<_> = (1..=200)
        .map(|n| {
            let connection = fixture.send("/");
            if n % 50 == 0 {
                peer.wait_requests(n, PATIENCE); // its backlog has room for 128
            }
            connection
        })
        .collect();
    fixture.wait("all there", |stats| stats.workers_busy == 200 && stats.connections_active == 200);
    assert_eq!((fixture.server.stats().workers_idle, fixture.server.stats().waiting), (0, 0), "no worker");
    gate.open();
    for connection in &mut connections {
        assert_eq!(connection.reply("GET").unwrap().status, 200);
    }
    drop(connections);
    fixture.is_empty();
}

/// Calls on pollers and on workers share one bound, and the queue behind it is served when either ends.
#[test]
fn the_bound_of_calls_is_for_both_kinds() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let config = ServerConfig { max_workers: 2, ..ServerConfig::default() };
    let fixture = Fixture::start(peer.addr(), PATIENCE, config);
    let mut held: Vec<_> = (0..2).map(|_| fixture.send("/")).collect();
    fixture.wait("full", |stats| stats.workers_busy == 2);
    held.extend((0..64).map(|n| fixture.send(if n % 2 == 0 { "/worker" } else { "/" })));
    fixture.wait("queued", |stats| stats.waiting == 64);
    assert_eq!(fixture.send("/").reply("GET").unwrap().status, 503);
    assert_eq!(peer.connections(), 2);
    gate.open();
    for connection in &mut held {
        assert_eq!(connection.reply("GET").unwrap().status, 200);
    }
    drop(held);
    fixture.is_empty();
}

#[test]
fn heads_of_calls_that_pollers_serve_count_until_their_end() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let config = ServerConfig { head_memory: 20 << 10, ..ServerConfig::default() };
    let fixture = Fixture::start(peer.addr(), PATIENCE, config);
    let large = format!("/?{}", "x".repeat(7 << 10));
    let mut held: Vec<_> = (0..3).map(|_| fixture.send(&large)).collect();
    peer.wait_requests(3, PATIENCE);
    assert_eq!(fixture.send(&large).reply("GET").unwrap().status, 503);
    held.push(fixture.send("/small"));
    peer.wait_requests(4, PATIENCE);
    gate.open();
    for connection in &mut held {
        assert_eq!(connection.reply("GET").unwrap().status, 200);
    }
    fixture.wait("given back", |stats| stats.connections_idle == 4);
    assert_eq!(fixture.get(&large).status, 200);
    drop(held);
    fixture.is_empty();
}

/// A worker that has nothing to do is no call, and no place for one more either.
#[test]
fn idle_workers_do_not_add_to_the_bound_of_calls() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let config = ServerConfig { max_workers: 1, ..ServerConfig::default() };
    let fixture = Fixture::start(peer.addr(), PATIENCE, config);
    assert_eq!(fixture.get("/worker").status, 200);
    fixture.wait("idle", |stats| (stats.workers_idle, stats.workers_busy) == (1, 0));
    let mut first = fixture.send("/");
    peer.wait_requests(1, PATIENCE);
    let mut second = fixture.send("/worker");
    fixture.wait("queued", |stats| stats.waiting == 1);
    gate.open();
    assert_eq!(first.reply("GET").unwrap().status, 200);
    assert_eq!(second.reply("GET").unwrap().body, b"by a worker");
    drop((first, second));
    fixture.is_empty();
}

#[test]
fn what_cannot_be_reached_goes_on_at_a_worker() {
    let refusing = Refusing::new();
    let fixture = Fixture::before(refusing.addr());
    assert_eq!(fixture.get("/").status, 502);
    assert!(matches!(fixture.ends()[..], [End::Again(Cause::Unreachable(111))]), "{:?}", fixture.ends());
    let deaf = Deaf::new();
    let fixture = Fixture::start(deaf.addr(), Duration::from_millis(300), ServerConfig::default());
    assert_eq!(fixture.get("/").status, 502);
    assert!(matches!(fixture.ends()[..], [End::Again(Cause::Unreachable(110))]), "{:?}", fixture.ends());
    fixture.is_empty();
}

#[test]
fn what_is_not_answered_in_time_goes_on_at_a_worker() {
    let peer = Peer::tcp(Script::new().request().stall());
    let fixture = Fixture::start(peer.addr(), Duration::from_millis(200), ServerConfig::default());
    let reply = fixture.get("/");
    assert_eq!((reply.status, reply.text().as_str()), (502, "Failed(Timeout(FirstByte))"));
    let peer =
        Peer::tcp(Script::new().request().send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").stall());
    let fixture = Fixture::start(peer.addr(), Duration::from_millis(200), ServerConfig::default());
    assert!(testkit::http::request(fixture.server.address()).send().is_err());
    eventually(PATIENCE, || match fixture.ends()[..] {
        [End::Broken(Cause::Timeout(http1::Phase::Body))] => Ok(()),
        _ => Err(format!("{:?}", fixture.ends())),
    });
    fixture.is_empty();
}

#[test]
fn a_panic_is_one_answer_or_one_broken_connection() {
    let peer = answering();
    let fixture = Fixture::before(peer.addr());
    assert_eq!(fixture.get("/panics").status, 500);
    assert_eq!(fixture.get("/panics-late").status, 500);
    assert_eq!(fixture.get("/").status, 200);
    assert_eq!(fixture.server.stats().panics, 2);
    fixture.is_empty();
}

#[test]
fn a_client_that_goes_away_takes_its_call_along() {
    let peer = Peer::tcp(Script::new().request().end().close());
    let fixture = Fixture::before(peer.addr());
    let connection = fixture.send("/");
    peer.wait_requests(1, PATIENCE);
    drop(connection);
    fixture.is_empty();
    assert_eq!(fixture.ends(), [End::Broken(Cause::ClientGone)]);
    eventually(PATIENCE, || if peer.open_connections() == 0 { Ok(()) } else { Err("still open".to_owned()) });
}

/// A large answer to a client that reads slowly, beside others that do not have to wait for it.
#[test]
fn a_slow_reader_gets_everything_and_keeps_nobody_waiting() {
    let large = vec![b'x'; 20 << 20];
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", large.len());
    let whole = [answer.as_bytes(), &large].concat();
    let peer = Peer::tcp(
        Script::new()
            .request()
            .answer(move |request| match request.target.as_str() {
                "/large" => whole.clone(),
                _ => OK.into(),
            })
            .repeat(),
    );
    let fixture = Fixture::before(peer.addr());
    let mut slow = fixture.send("/large");
    peer.wait_requests(1, PATIENCE);
    let mut client = fixture.client();
    for _ in 0..100 {
        assert_eq!(client.request().path("/").send().unwrap().status, 200);
    }
    assert!(slow.within(PATIENCE).reply("GET").unwrap().body == large);
    drop((slow, client));
    fixture.is_empty();
}

#[test]
fn a_connection_that_upstream_closed_is_not_used_again() {
    let peer = Peer::tcp(Script::new().request().send(OK).close());
    let fixture = Fixture::before(peer.addr());
    let mut client = fixture.client();
    for _ in 0..20 {
        let reply = client.request().method("PUT").path("/").body("x").send().unwrap();
        // Where the end is not seen yet as the next request goes out, it is for the service to repeat it.
        assert!(matches!(reply.status, 200 | 502));
    }
    for end in fixture.ends() {
        assert!(
            matches!(end, End::Done(200) | End::Again(Cause::Closed) | End::Failed(Cause::Closed)),
            "{end:?}"
        );
    }
    drop(client);
    fixture.is_empty();
}

/// The end of a server does not wait for its relays, and leaves nobody with an open connection.
#[test]
fn a_stopped_server_drops_what_is_under_way() {
    let peer = Peer::tcp(Script::new().request().end().close());
    let fixture = Fixture::before(peer.addr());
    let mut connection = fixture.send("/");
    peer.wait_requests(1, PATIENCE);
    fixture.server.begin_drain();
    assert!(!fixture.server.is_quiet());
    fixture.server.stop();
    assert_ne!(connection.within(PATIENCE).rest().end, testkit::http::End::Open);
    eventually(PATIENCE, || if peer.open_connections() == 0 { Ok(()) } else { Err("still open".to_owned()) });
}
