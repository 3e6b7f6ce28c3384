//! Requests that wait for something other than their sockets: without a thread, in the order of their arrival.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http1::forward::{self, Cause, End, Limits, Transfer, Upload};
use http1::server::{Answer, Blocking, Course, Due, Relay, Waiting};
use http1::{ClientConfig, Connection, Endpoint, Exchange, HeadWriter, Pool, ResponseHead};
use http1::{Server, ServerConfig, Service, Stats};
use kit::Deadline;
use kit::sys::Listener;
use testkit::http::Connection as Client;
use testkit::{Peer, Script, eventually};

use crate::support::PATIENCE;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Lets requests pass while its door is open.
struct Door {
    pool: Pool,
    is_open: AtomicBool,
    /// Requests that are still let pass where it is not.
    tickets: AtomicUsize,
    limit: Duration,
    looks: AtomicUsize,
    waiting: AtomicUsize,
    /// The paths that passed, in order.
    passed: Mutex<Vec<String>>,
    left: Mutex<Vec<Cause>>,
}

impl Door {
    fn takes_a_ticket(&self) -> bool {
        self.is_open.load(SeqCst) || self.tickets.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok()
    }

    fn course(self: Arc<Self>, exchange: &Exchange<'_>, until: Instant) -> Course {
        self.looks.fetch_add(1, SeqCst);
        let path = String::from_utf8(exchange.request().path().to_vec()).unwrap();
        assert!(path != "/panics" || !self.is_open.load(SeqCst));
        if !self.takes_a_ticket() {
            return Course::Wait(self.guest(until));
        }
        match path.as_str() {
            "/go-on" => return Course::GoOn(self.guest(until)),
            "/answer" => return Course::Answer(Answer::new(HeadWriter::response(202), "by a poller")),
            _ => {}
        }
        self.passed.lock().unwrap().push(path);
        let mut connection = forward::connection(&self.pool, exchange, Deadline::NEVER).unwrap();
        let mut head = HeadWriter::request(exchange.request().method(), exchange.request().target());
        head.forward(exchange.request().headers(), &|_| false);
        connection.start(head, exchange.body_length());
        let limits = Limits {
            deadline: Deadline::NEVER,
            total: Deadline::NEVER,
            silence: None,
            read_stall: PATIENCE,
            write_stall: PATIENCE,
            idle: PATIENCE,
        };
        Course::Relay(Transfer::new(connection, Upload::default(), limits), Box::new(Passing(self)))
    }

    fn guest(self: Arc<Self>, until: Instant) -> Box<Guest> {
        self.waiting.fetch_add(1, SeqCst);
        Box::new(Guest { door: self, until })
    }
}

struct Guest {
    door: Arc<Door>,
    until: Instant,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.door.waiting.fetch_sub(1, SeqCst);
    }
}

impl Waiting for Guest {
    fn key(&self) -> usize {
        1
    }

    fn until(&self) -> Instant {
        self.until
    }

    fn look(self: Box<Self>, exchange: &Exchange<'_>) -> Course {
        Arc::clone(&self.door).course(exchange, self.until)
    }

    fn expired(self: Box<Self>, exchange: &Exchange<'_>) -> Due {
        match exchange.request().path() {
            b"/answer" => Due::Answer(Answer::new(HeadWriter::response(408), "by a poller")),
            _ => Due::GoOn(self),
        }
    }
}

impl Blocking for Guest {
    fn go_on(self: Box<Self>, exchange: &mut Exchange<'_>) {
        let status = if Instant::now() >= self.until { 504 } else { 201 };
        exchange.respond(HeadWriter::response(status), b"by a worker").unwrap();
    }

    fn ended(self: Box<Self>, cause: Cause) {
        self.door.left.lock().unwrap().push(cause);
    }
}

struct Passing(Arc<Door>);

impl Relay for Passing {
    fn head(&mut self, response: &ResponseHead) -> HeadWriter {
        HeadWriter::response(response.status())
    }

    fn ended(self: Box<Self>, _: End, connection: Box<Connection>) {
        self.0.pool.put(connection);
    }

    fn failed(self: Box<Self>, _: &Exchange<'_>, (end, ..): (End, Box<Connection>, Upload)) -> Course {
        Course::Answer(Answer::new(HeadWriter::response(502), format!("{end:?}")))
    }
}

struct Inn(Arc<Door>);

impl Service for Inn {
    /// A worker, too, may leave a request to wait.
    fn call(&self, exchange: &mut Exchange<'_>) {
        let until = Instant::now() + self.0.limit;
        exchange.wait(Arc::clone(&self.0).guest(until));
    }

    fn relays(&self) -> bool {
        true
    }

    fn relay(self: Arc<Self>, exchange: &Exchange<'_>) -> Option<Course> {
        let by_worker = exchange.request().path() == b"/worker";
        (!by_worker).then(|| Arc::clone(&self.0).course(exchange, Instant::now() + self.0.limit))
    }
}

struct Fixture {
    server: Server,
    door: Arc<Door>,
    peer: Peer,
}

impl Fixture {
    fn new(config: ServerConfig, limit: Duration) -> Fixture {
        let peer = Peer::tcp(Script::new().request().send(OK).repeat());
        let pollers = config.pollers;
        let client = ClientConfig { pollers, max_idle: 1000, ..ClientConfig::default() };
        let door = Arc::new(Door {
            pool: Pool::new(Endpoint::Tcp(peer.addr()), client),
            is_open: AtomicBool::new(false),
            tickets: AtomicUsize::new(0),
            limit,
            looks: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            passed: Mutex::default(),
            left: Mutex::default(),
        });
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let server = Server::start(listener, config, Arc::new(Inn(Arc::clone(&door)))).unwrap();
        Fixture { server, door, peer }
    }

    fn send(&self, path: &str) -> Client {
        let mut connection = Client::open(self.server.address()).unwrap();
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).unwrap();
        connection.within(PATIENCE);
        connection
    }

    #[track_caller]
    fn wait(&self, what: &str, is_so: impl Fn(&Stats, &Door) -> bool) {
        eventually(PATIENCE, || {
            let stats = self.server.stats();
            let waiting = self.door.waiting.load(SeqCst);
            if is_so(&stats, &self.door) { Ok(()) } else { Err(format!("not {what}: {waiting}, {stats:?}")) }
        });
    }

    /// Waits until so many wait, none of them with a thread or a place.
    #[track_caller]
    fn waiting(&self, count: usize) {
        self.wait(&format!("{count} waiting"), |stats, door| {
            door.waiting.load(SeqCst) == count && stats.workers_busy == 0 && stats.waiting == 0
        });
    }

    fn open(&self) {
        self.door.is_open.store(true, SeqCst);
        self.server.waker().wake();
    }
}

fn two_pollers() -> ServerConfig {
    ServerConfig { pollers: 2, ..ServerConfig::default() }
}

#[test]
fn many_wait_without_a_thread_and_pass_when_the_server_is_woken() {
    let fixture = Fixture::new(two_pollers(), PATIENCE);
    let mut clients: Vec<_> =
        (0..200).map(|n| fixture.send(if n % 10 == 3 { "/worker" } else { "/" })).collect();
    fixture.waiting(200);
    assert_eq!(fixture.server.stats().connections_active, 200);
    fixture.open();
    for client in &mut clients {
        assert_eq!(client.reply("GET").unwrap().body, b"ok");
    }
    fixture.waiting(0);
    assert_eq!(fixture.peer.requests().len(), 200);
}

/// Far more may wait than may be served at once.
#[test]
fn waiting_requests_take_no_place_and_go_on_as_places_become_free() {
    let config = ServerConfig { max_workers: 2, ..ServerConfig::default() };
    let fixture = Fixture::new(config, PATIENCE);
    let mut clients: Vec<_> = (0..150).map(|_| fixture.send("/")).collect();
    fixture.waiting(150);
    fixture.open();
    for client in &mut clients {
        assert_eq!(client.reply("GET").unwrap().status, 200);
    }
}

#[test]
fn waiting_requests_go_on_in_order_of_arrival() {
    let fixture = Fixture::new(ServerConfig::default(), PATIENCE);
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(fixture.send(&format!("/{n}")));
        fixture.waiting(n + 1);
    }
    for client in &mut clients {
        fixture.door.tickets.store(1, SeqCst);
        fixture.server.waker().wake();
        assert_eq!(client.reply("GET").unwrap().status, 200);
    }
    let want: Vec<_> = (0..20).map(|n| format!("/{n}")).collect();
    assert_eq!(*fixture.door.passed.lock().unwrap(), want);
}

/// One that waits on is the answer for those behind it that wait for the same.
#[test]
fn a_round_asks_one_of_the_requests_that_wait_for_the_same() {
    let fixture = Fixture::new(ServerConfig::default(), PATIENCE);
    let clients: Vec<_> = (0..100).map(|_| fixture.send("/")).collect();
    fixture.waiting(100);
    let looks = fixture.door.looks.load(SeqCst);
    fixture.server.waker().wake();
    let count = eventually(PATIENCE, || match fixture.door.looks.load(SeqCst) - looks {
        0 => Err("no look yet".to_owned()),
        count => Ok(count),
    });
    assert!(count < 90, "{count} looks");
    drop(clients);
    fixture.waiting(0);
}

#[test]
fn a_worker_answers_requests_whose_time_is_up_or_that_a_poller_gives_up() {
    let fixture = Fixture::new(two_pollers(), Duration::from_millis(200));
    let mut clients = ["/", "/worker"].map(|path| fixture.send(path));
    for client in &mut clients {
        assert_eq!(client.reply("GET").unwrap().status, 504);
    }
    let fixture = Fixture::new(two_pollers(), PATIENCE);
    let mut client = fixture.send("/go-on");
    fixture.waiting(1);
    fixture.open();
    assert_eq!(client.reply("GET").unwrap().status, 201);
    assert_eq!(fixture.send("/go-on").reply("GET").unwrap().status, 201);
}

/// Also where all workers are busy, and the queue is full.
#[test]
fn a_waiting_request_is_answered_by_its_poller_when_it_may_go_on_or_its_time_is_up() {
    let fixture = Fixture::new(two_pollers(), PATIENCE);
    let mut client = fixture.send("/answer");
    fixture.waiting(1);
    fixture.open();
    let reply = client.reply("GET").unwrap();
    assert_eq!((reply.status, &reply.body[..]), (202, &b"by a poller"[..]));
    assert_eq!(fixture.server.stats().workers_idle, 0, "no worker was started");

    let fixture = Fixture::new(two_pollers(), Duration::from_millis(200));
    let mut clients: Vec<_> = (0..200).map(|_| fixture.send("/answer")).collect();
    for client in &mut clients {
        let reply = client.reply("GET").unwrap();
        assert_eq!((reply.status, &reply.body[..]), (408, &b"by a poller"[..]));
    }
    assert_eq!(fixture.server.stats().workers_idle, 0, "no worker was started");
    fixture.waiting(0);
}

#[test]
fn a_client_that_goes_away_waits_no_more() {
    let fixture = Fixture::new(two_pollers(), PATIENCE);
    let clients: Vec<_> = (0..10).map(|n| fixture.send(if n % 2 == 0 { "/" } else { "/worker" })).collect();
    fixture.waiting(10);
    drop(clients);
    fixture.wait("empty", |stats, door| {
        stats.connections_active == 0 && door.left.lock().unwrap()[..] == [Cause::ClientGone; 10]
    });
    fixture.waiting(0);
}

/// A body that arrives meanwhile stays in the socket, and nothing of it is lost.
#[test]
fn a_body_that_arrives_while_it_waits_is_passed_on() {
    let fixture = Fixture::new(ServerConfig::default(), PATIENCE);
    let mut client = Client::open(fixture.server.address()).unwrap();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nfour").unwrap();
    fixture.waiting(1);
    client.send("more").unwrap();
    fixture.open();
    assert_eq!(client.within(PATIENCE).reply("POST").unwrap().status, 200);
    assert_eq!(fixture.peer.requests()[0].body, b"fourmore");
}

#[test]
fn a_panic_while_it_waits_is_one_answer() {
    let fixture = Fixture::new(ServerConfig::default(), PATIENCE);
    let mut client = fixture.send("/panics");
    fixture.waiting(1);
    fixture.open();
    assert_eq!(client.reply("GET").unwrap().status, 500);
    assert_eq!(fixture.server.stats().panics, 1);
}

#[test]
fn a_server_that_ends_refuses_waiting_requests() {
    let fixture = Fixture::new(two_pollers(), PATIENCE);
    let mut clients = ["/", "/"].map(|path| fixture.send(path));
    fixture.waiting(2);
    let Fixture { server, door, .. } = fixture;
    server.begin_drain();
    assert!(!server.is_quiet());
    server.stop();
    for client in &mut clients {
        assert_eq!(client.reply("GET").unwrap().status, 503);
    }
    assert_eq!((door.left.lock().unwrap().len(), door.waiting.load(SeqCst)), (2, 0));
}
