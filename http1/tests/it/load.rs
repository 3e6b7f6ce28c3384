//! A server that runs short of descriptors, floods, and what they leave behind. The server is a process of
//! its own here: this test binary once more, under limits.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use http1::{Server, ServerConfig};
use kit::sys::Listener;
use testkit::floods::{
    idle_connections, open_connections, resets_after_connect, slow_heads, try_connections,
};
use testkit::http::Connection;
use testkit::rng::Rng;
use testkit::{Bin, Running, eventually};

use crate::support::{Fixture, PATIENCE, Probe, get, head, post};

/// The limit that tells the child from a run of the ignored tests by hand.
const MAX_CHILD_FILES: u64 = 500;

#[test]
#[ignore = "not a test: the server of the others, which start it under a limit of open files"]
fn child() {
    if kit::sys::limits::open_files().unwrap() > MAX_CHILD_FILES {
        return;
    }
    let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    // So long that nothing here waits for it.
    let config = ServerConfig { header_timeout: 6 * PATIENCE, ..ServerConfig::default() };
    let server = Server::start(listener, config, Arc::new(Probe::default())).unwrap();
    eprintln!("listening on {}", server.address());
    loop {
        thread::park(); // until the parent ends it
    }
}

fn start(files: u64) -> Running {
    let test = Bin::at(std::env::current_exe().unwrap());
    test.arg("load::child").args(&["--exact", "--ignored", "--nocapture"]).nofile(files).start()
}

trait Args {
    fn args(self, args: &[&str]) -> Self;
}

impl Args for Bin {
    fn args(self, args: &[&str]) -> Bin {
        args.iter().fold(self, Bin::arg)
    }
}

fn assert_serves(server: &Running) {
    let since = Instant::now();
    let reply = server.request().method("POST").path("/echo").body("hello").send().unwrap();
    assert_eq!((reply.status, &reply.body[..]), (200, &b"hello"[..]));
    assert!(since.elapsed() < PATIENCE / 2, "served after {:?}", since.elapsed());
}

#[test]
fn silent_connections_beyond_the_open_files_do_not_shut_others_out() {
    let server = start(40);
    let held = try_connections(server.addr(), 60);
    for _ in 0..10 {
        assert_serves(&server);
    }
    assert!(held.open() > 10, "no more than needed was given up: {} are open", held.open());
    drop(held);
    assert_serves(&server);
}

#[test]
fn idle_clients_beyond_the_open_files_do_not_shut_others_out() {
    let server = start(40);
    let mut idle = idle_connections(server.addr(), 60, "/early");
    for _ in 0..10 {
        assert_serves(&server);
    }
    let youngest = idle.clients.last_mut().unwrap();
    assert_eq!(youngest.request().path("/early").send().unwrap().status, 200, "the oldest goes first");
}

/// All descriptors are with requests that are being served: whoever comes waits, and costs nothing.
#[test]
fn a_server_without_a_spare_descriptor_waits_quietly() {
    let server = start(40);
    let begin = head("POST", "/echo", "Content-Length: 5\r\n");
    let mut busy: Vec<Connection> = (0..60)
        .map(|_| {
            let mut connection = server.connect();
            connection.within(PATIENCE * 2).send(&begin).unwrap();
            connection
        })
        .collect();
    eventually(PATIENCE, || match server.fds() {
        40.. => Ok(()),
        n => Err(format!("{n} descriptors")),
    });
    let (before, pause) = (server.cpu_time(), Duration::from_secs(1));
    thread::sleep(pause); // what it costs in this time is measured
    let cost = server.cpu_time() - before;
    assert!(cost < pause / 5, "{cost:?} of CPU time in {pause:?}");
    for (number, connection) in busy.iter_mut().enumerate() {
        connection.send("hello").unwrap();
        let reply = connection.reply("POST").unwrap_or_else(|e| panic!("connection {number}: {e}"));
        assert_eq!(reply.body, b"hello");
    }
    drop(busy);
    assert_serves(&server);
}

#[test]
fn resets_right_after_connect_leave_nothing() {
    let server = start(200);
    assert_serves(&server);
    let before = eventually_settled(&server);
    for _ in 0..5 {
        resets_after_connect(server.addr(), 200);
        assert_serves(&server);
    }
    assert_fds(&server, before);
}

#[test]
fn slow_heads_leave_nothing() {
    let server = start(300);
    assert_serves(&server);
    let (before, threads) = (eventually_settled(&server), server.threads());
    let slow = slow_heads(server.addr(), 200);
    for _ in 0..10 {
        assert_serves(&server);
    }
    // A few workers more where one has not come back yet when the next request is there.
    assert!(server.threads() <= threads + 10, "{} threads, {threads} before", server.threads());
    assert_eq!(slow.open(), 200);
    drop(slow);
    assert_fds(&server, before);
}

/// Everything that clients do to a server, and not one descriptor more or less than before.
#[test]
fn descriptors_are_given_back() {
    let server = start(400);
    assert_serves(&server);
    let before = eventually_settled(&server);
    for _ in 0..3 {
        let mut kept = vec![];
        for path in [
            "/echo",
            "/nothing",
            "/panic",
            "/half-chunked",
            "/half-length",
            "/late-panic",
            "/close",
            "/early",
        ] {
            for bytes in [get(path), post(path, b"hello"), head("POST", path, "Content-Length: 9\r\n")] {
                let mut connection = server.connect();
                connection.send(&bytes).unwrap();
                kept.push(connection);
            }
        }
        kept.push(server.connect());
        let refused = testkit::http::talk(server.addr(), b"nonsense\r\n\r\n", PATIENCE).unwrap();
        assert_eq!(refused.replies(&[]).unwrap()[0].status, 400);
        for (number, connection) in kept.into_iter().enumerate() {
            match number % 2 {
                0 => drop(connection),
                _ => connection.reset(),
            }
        }
        drop(open_connections(server.addr(), 50));
    }
    assert_fds(&server, before);
    assert_serves(&server);
}

/// The number of descriptors once nothing is open but what a server without clients has.
fn eventually_settled(server: &Running) -> usize {
    let mut last = (0, Instant::now());
    eventually(PATIENCE, || {
        let now = server.fds();
        if now != last.0 {
            last = (now, Instant::now());
        }
        if last.1.elapsed() > Duration::from_millis(500) {
            Ok(now)
        } else {
            Err(format!("{now} and changing"))
        }
    })
}

fn assert_fds(server: &Running, before: usize) {
    eventually(PATIENCE, || match server.fds() {
        now if now == before => Ok(()),
        now => Err(format!("{before} descriptors before, {now} now")),
    });
}

/// Clients that do anything at any moment, more than there are places: whoever waits for an answer gets
/// the right one, a clear refusal, or an end; nothing is left, which the fixture's end sees to.
#[test]
fn a_churn_of_clients_leaves_nothing() {
    let mut rng = Rng::from_env();
    let config = ServerConfig { max_connections: 12, max_workers: 3, ..ServerConfig::default() };
    let fixture = Fixture::start(config);
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            let (mut rng, fixture, served) = (Rng::new(rng.number()), &fixture, &served);
            scope.spawn(move || {
                for _ in 0..30 {
                    served.fetch_add(misbehave(fixture, &mut rng), Ordering::SeqCst);
                }
            });
        }
    });
    assert!(served.load(Ordering::SeqCst) > 100, "{} served", served.load(Ordering::SeqCst));
    assert_eq!(fixture.request().send().unwrap().status, 200);
}

/// One connection of a random kind; answers how many requests were served over it.
fn misbehave(fixture: &Fixture, rng: &mut Rng) -> usize {
    let path = *rng.choose(&["/echo", "/stream", "/early", "/early-stream", "/half-chunked", "/close"]);
    let count = 1 + rng.below(4);
    let size = 8 << rng.below(14);
    let body = rng.bytes(size);
    let mut wire = post(path, &body).repeat(count);
    let is_cut = rng.one_in(4);
    if is_cut {
        wire.truncate(rng.below(wire.len()));
    }
    // Where nothing more is to be expected, nobody waits for long.
    let time = if is_cut { PATIENCE / 50 } else { PATIENCE };
    let Ok(mut connection) = Connection::open(fixture.addr()) else { return 0 };
    // A server that gives a connection up may do so while it is written to.
    let is_sent = connection.within(PATIENCE).send(&wire).is_ok();
    let mut served = 0;
    while is_sent && served < count && !rng.one_in(6) {
        match connection.within(time).reply("POST") {
            Ok(reply) if reply.status == 503 => break,
            Ok(reply) => {
                let is_whole = reply.body == body || !matches!(path, "/echo" | "/stream");
                assert!(reply.status == 200 && is_whole, "{path}: {}", reply.status);
                served += 1;
            }
            Err(_) => break, // given up, cut off as asked, or its own request is not whole
        }
    }
    match rng.below(3) {
        0 => connection.reset(),
        1 => connection.end(),
        _ => {}
    }
    served
}
