//! Bytes behind an answer belong to nobody: not one of them may reach the next caller, wherever they lie when the
//! connection goes back to its pool.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use http1::forward::{self, Cause, End, Limits, Transfer, Upload};
use http1::server::{Blocking, Course, Relay};
use http1::{ClientConfig, Connection, Endpoint, Exchange, HeadWriter, Pool, Request, ResponseHead};
use http1::{Server, ServerConfig, Service};
use kit::sys::Listener;
use testkit::http::Client;
use testkit::rng::Rng;
use testkit::surplus::Surplus;

use crate::client::soon;
use crate::support::PATIENCE;

const POISON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON";
const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";

/// Where buffers end: the first that is read into, and what it grows to.
const BUFFER_ENDS: [usize; 5] = [8 << 10, 16 << 10, 32 << 10, 40 << 10, 64 << 10];

const CLIENTS: usize = 16;
const CALLS_OF_A_ROUND: usize = 10;

/// One of so many answers is followed by surplus bytes.
const SURPLUS_ONE_IN: usize = 20;

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// The blocking client.
    Client,
    /// A transfer that a worker runs.
    Worker,
    /// A transfer that a poller steps.
    Poller,
}

const CALLERS: [Caller; 3] = [Caller::Client, Caller::Worker, Caller::Poller];

/// Forwards each request to the upstream and the pool that its path names: `/NUMBER/…`.
struct Proxy {
    upstream: SocketAddr,
    pools: Mutex<HashMap<usize, Arc<Pool>>>,
    caller: Caller,
}

struct Passing(Arc<Pool>);

impl Proxy {
    fn pool(&self, target: &[u8]) -> Arc<Pool> {
        let number = std::str::from_utf8(target).unwrap().split('/').nth(1).unwrap().parse().unwrap();
        let client = ClientConfig { pollers: 2, ..ClientConfig::default() };
        let pool = || Arc::new(Pool::new(Endpoint::Tcp(self.upstream), client));
        Arc::clone(self.pools.lock().unwrap().entry(number).or_insert_with(pool))
    }
}

fn transfer(exchange: &Exchange<'_>, mut connection: Box<Connection>) -> Transfer {
    let request = exchange.request();
    connection.start(HeadWriter::request(request.method(), request.target()), exchange.body_length());
    Transfer::new(
        connection,
        Upload::default(),
        Limits {
            deadline: soon(),
            total: soon(),
            silence: None,
            read_stall: PATIENCE,
            write_stall: PATIENCE,
            idle: PATIENCE,
        },
    )
}

fn answer_head(response: &ResponseHead) -> HeadWriter {
    HeadWriter::response(response.status())
}

impl Service for Proxy {
    fn call(&self, exchange: &mut Exchange<'_>) {
        let pool = self.pool(exchange.request().target());
        loop {
            let connection = pool.take().unwrap_or_else(|| pool.connect(soon()).unwrap());
            let (end, connection, _) = transfer(exchange, connection).run(exchange, &mut answer_head);
            pool.put(connection);
            match end {
                End::Again(_) => {}
                End::Done(_) => return,
                end => {
                    return exchange
                        .respond(HeadWriter::response(502), format!("{end:?}").as_bytes())
                        .unwrap();
                }
            }
        }
    }

    fn relays(&self) -> bool {
        self.caller == Caller::Poller
    }

    fn relay(self: Arc<Self>, exchange: &Exchange<'_>) -> Option<Course> {
        let pool = self.pool(exchange.request().target());
        let connection = forward::connection(&pool, exchange, soon())?;
        Some(Course::Relay(transfer(exchange, connection), Box::new(Passing(pool))))
    }
}

impl Relay for Passing {
    fn head(&mut self, response: &ResponseHead) -> HeadWriter {
        answer_head(response)
    }

    fn ended(self: Box<Self>, _: End, connection: Box<Connection>) {
        self.0.put(connection);
    }

    fn failed(
        self: Box<Self>,
        _: &Exchange<'_>,
        (end, connection, _): (End, Box<Connection>, Upload),
    ) -> Course {
        self.0.put(connection);
        Course::GoOn(Box::new(Failed(self.0, end)))
    }
}

/// A request whose first try failed.
struct Failed(Arc<Pool>, End);

impl Blocking for Failed {
    fn ended(self: Box<Self>, _: Cause) {}

    fn go_on(self: Box<Self>, exchange: &mut Exchange<'_>) {
        let end = self.1;
        let again = matches!(end, End::Again(_)).then(|| self.0.connect(soon()).unwrap());
        let end = again.map_or(end, |connection| {
            transfer(exchange, connection).run(exchange, &mut answer_head).0 // each pool is used by one caller
        });
        if !matches!(end, End::Done(_)) {
            exchange.respond(HeadWriter::response(502), format!("{end:?}").as_bytes()).unwrap();
        }
    }
}

/// Somebody who calls an upstream in one way.
struct Calls {
    proxy: Arc<Proxy>,
    server: Option<Server>,
}

impl Calls {
    fn start(caller: Caller, upstream: SocketAddr) -> Calls {
        let proxy = Arc::new(Proxy { upstream, pools: Mutex::default(), caller });
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let config = ServerConfig { pollers: 2, ..ServerConfig::default() };
        let serves = caller != Caller::Client;
        let server = serves.then(|| Server::start(listener, config, Arc::clone(&proxy) as _).unwrap());
        Calls { proxy, server }
    }

    fn client(&self) -> Customer<'_> {
        Customer { calls: self, client: self.server.as_ref().map(|server| Client::new(server.address())) }
    }
}

/// One client of theirs, whose connection is kept.
struct Customer<'a> {
    calls: &'a Calls,
    client: Option<Client>,
}

impl Customer<'_> {
    /// The status and the body of a call's answer.
    fn call(&mut self, method: &str, target: &str) -> (u16, Vec<u8>) {
        if let Some(client) = &mut self.client {
            let reply = client.request().method(method).path(target).timeout(PATIENCE).send().unwrap();
            return (reply.status, reply.body);
        }
        let pool = self.calls.proxy.pool(target.as_bytes());
        let request = Request { method, target, headers: &[], body: b"" };
        let mut response = pool.send(&request, soon()).unwrap();
        (response.status(), response.read_to_end(1 << 20, soon()).unwrap())
    }
}

/// The bytes of an answer of `size` bytes, all told, to a request of the method; `None` where there is none so short.
type Shape = (&'static str, &'static str, fn(usize) -> Vec<u8>);

fn padded(start: &str, size: usize, end: &str) -> Vec<u8> {
    let start = format!("{start}X: ");
    let pad = size - start.len() - end.len() - 4;
    format!("{start}{}\r\n\r\n{end}", "x".repeat(pad)).into_bytes()
}

const SHAPES: [Shape; 6] = [
    ("a length", "GET", |size| {
        let body = size - "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n".len();
        format!("HTTP/1.1 200 OK\r\nContent-Length: {body:05}\r\n\r\n{}", "x".repeat(body)).into_bytes()
    }),
    ("chunks and a trailer", "GET", |size| {
        let (head, tail) = ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "\r\n0\r\nT: x\r\n\r\n");
        let data = size - head.len() - tail.len() - "00000\r\n".len();
        format!("{head}{data:05x}\r\n{}{tail}", "x".repeat(data)).into_bytes()
    }),
    ("an interim answer", "GET", |size| {
        padded("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n", size, "ok")
    }),
    ("HEAD", "HEAD", |size| padded("HTTP/1.1 200 OK\r\nContent-Length: 46\r\n", size, "")),
    ("204", "GET", |size| padded("HTTP/1.1 204 No Content\r\n", size, "")),
    ("304", "GET", |size| padded("HTTP/1.1 304 Not Modified\r\nContent-Length: 46\r\n", size, "")),
];

/// The size and the shape that a path asks for: `/NUMBER/SIZE/SHAPE`.
fn answer(target: &str) -> Vec<u8> {
    let mut words = target.split('/').skip(2).map(|word| word.parse::<usize>().ok());
    match (words.next().flatten(), words.next().flatten()) {
        (Some(size), Some(shape)) => SHAPES[shape].2(size),
        _ => GOOD.to_vec(),
    }
}

/// A server that sends what a path asks for, and [`POISON`] behind it: at once, or when it is told to.
struct Talker {
    address: SocketAddr,
    /// Where it answered last.
    last: Arc<Mutex<Option<TcpStream>>>,
}

impl Talker {
    /// It ends with the test.
    fn start(is_at_once: bool) -> Talker {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let last: Arc<Mutex<Option<TcpStream>>> = Arc::default();
        let noted = Arc::clone(&last);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let noted = Arc::clone(&noted);
                thread::spawn(move || talk(stream, is_at_once, &noted));
            }
        });
        Talker { address, last }
    }

    /// Sends the poison; it has arrived then.
    fn poison(&self) {
        let stream = self.last.lock().unwrap().take();
        let _ = stream.expect("an answer").write_all(POISON); // or the connection was closed already
    }
}

fn talk(mut stream: TcpStream, is_at_once: bool, last: &Mutex<Option<TcpStream>>) -> io::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    loop {
        let (mut line, mut target) = (String::new(), None);
        while line != "\r\n" {
            line.clear();
            if input.read_line(&mut line)? == 0 {
                return Ok(());
            }
            target = target.or_else(|| line.split(' ').nth(1).map(str::to_owned));
        }
        let mut bytes = answer(&target.unwrap_or_default());
        if bytes != GOOD {
            *last.lock().unwrap() = Some(stream.try_clone()?);
            bytes.extend(if is_at_once { POISON } else { b"" });
        }
        stream.write_all(&bytes)?;
    }
}

/// Calls every answer, whose size is a buffer's end or close to it, and then another one.
fn call_all(is_at_once: bool) {
    let talker = Talker::start(is_at_once);
    for caller in CALLERS {
        let calls = Calls::start(caller, talker.address);
        let mut client = calls.client();
        let sizes = BUFFER_ENDS.iter().flat_map(|end| (end - 3)..=(end + 3));
        let cases = sizes.flat_map(|size| (0..SHAPES.len()).map(move |shape| (size, shape)));
        for (number, (size, shape)) in cases.enumerate() {
            let (name, method, _) = SHAPES[shape];
            let case = format!("{caller:?}, {name}, {size} bytes");
            if size > (64 << 10) - 100 && name != "a length" && name != "chunks and a trailer" {
                continue; // its head would be over the limit
            }
            let (status, _) = client.call(method, &format!("/{number}/{size}/{shape}"));
            assert!(matches!(status, 200 | 204 | 304), "{case}: {status}");
            if !is_at_once {
                talker.poison();
            }
            let (status, body) = client.call("GET", &format!("/{number}/other"));
            assert_eq!((status, &*String::from_utf8_lossy(&body)), (200, "good"), "{case}");
        }
    }
}

#[test]
fn bytes_behind_an_answer_are_not_the_next_one_wherever_a_buffer_ends() {
    call_all(true);
}

#[test]
fn bytes_between_an_answer_and_the_next_call_are_not_its_answer() {
    call_all(false);
}

/// Calls by many clients at once over a server that goes on talking at random times. Each round has a pool of its own,
/// which trusts the server until it has been seen to.
#[test]
fn no_client_gets_what_belongs_to_no_answer() {
    let seed = Rng::from_env().number();
    let surplus = Surplus::start(SURPLUS_ONE_IN, seed);
    let (calls, crossed) = (AtomicUsize::new(0), AtomicU64::new(0));
    for caller in CALLERS {
        let server = Calls::start(caller, surplus.addr());
        for round in 0..testkit::rounds(10, 210) {
            thread::scope(|scope| {
                for client in 0..CLIENTS {
                    let (server, surplus, calls, crossed) = (&server, &surplus, &calls, &crossed);
                    scope.spawn(move || {
                        let mut customer = server.client();
                        for number in 0..CALLS_OF_A_ROUND {
                            let target = format!("/{round}/{client}/{number}");
                            let (status, body) = customer.call("GET", &target);
                            assert_eq!(status, 200, "{target}: {}", String::from_utf8_lossy(&body));
                            calls.fetch_add(1, Ordering::Relaxed);
                            crossed.fetch_add(u64::from(!surplus.check(&target, &body)), Ordering::Relaxed);
                        }
                    });
                }
            });
            server.proxy.pools.lock().unwrap().clear();
        }
    }
    surplus.print(calls.into_inner(), crossed.into_inner());
}
