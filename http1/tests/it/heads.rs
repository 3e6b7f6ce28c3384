//! The memory that unfinished heads take: a bound on their sum, and who goes beyond it.

use http1::ServerConfig;
use testkit::http::Connection;

use crate::support::{Fixture, PATIENCE, get, head, post};

const KIB: usize = 1024;

/// Heads may not end by their time here.
fn start(head_memory: usize, pollers: usize) -> Fixture {
    let header_timeout = 12 * PATIENCE;
    Fixture::start(ServerConfig { head_memory, header_timeout, pollers, ..ServerConfig::default() })
}

/// The beginning of a head.
fn part(size: usize) -> Vec<u8> {
    let whole = head("GET", "/", &format!("X: {}\r\n", "x".repeat(size)));
    whole[..size].to_vec()
}

/// Sends the beginning of a head and waits until it was read.
fn begin(fixture: &Fixture, size: usize) -> Connection {
    let before = fixture.stats().connections_head + fixture.probe.refused().len();
    let connection = fixture.send(part(size));
    fixture.wait("read", |stats| stats.connections_head + fixture.probe.refused().len() > before);
    connection
}

#[track_caller]
fn is_refused(connection: &mut Connection) {
    let reply = connection.reply("GET").unwrap();
    let got = (reply.status, reply.header("X-Refused"), reply.header("Retry-After"));
    assert_eq!(got, (503, Some("head_memory"), Some("1")));
}

#[test]
fn beyond_the_bound_the_largest_head_goes_and_of_these_the_oldest() {
    for pollers in [1, 3] {
        let fixture = start(150 * KIB, pollers);
        let mut small: Vec<_> = (0..4).map(|_| begin(&fixture, 6 * KIB)).collect();
        let mut large: Vec<_> = (0..2).map(|_| begin(&fixture, 40 * KIB)).collect();
        assert!(fixture.probe.refused().is_empty(), "all of these have room");
        large.push(begin(&fixture, 40 * KIB));
        is_refused(&mut large[0]);
        small.push(begin(&fixture, 20 * KIB));
        // Those that are left are finished, and served.
        for connection in small.iter_mut().chain(&mut large[2..]) {
            connection.send(b"\r\n\r\n").unwrap();
            assert_eq!(connection.reply("GET").unwrap().status, 200);
        }
        assert_eq!(fixture.probe.refused()[0], "head_memory");
    }
}

/// However much unfinished heads take, whole ones are served.
#[test]
fn a_flood_of_unfinished_heads_keeps_nobody_from_being_served() {
    let fixture = start(256 * KIB, 2);
    let flood: Vec<_> = (0..100).map(|_| fixture.send(part(60 * KIB))).collect();
    let mut kept = fixture.connect();
    for size in [10, 1500, 60 * KIB] {
        let field = format!("X: {}\r\n", "x".repeat(size));
        kept.send(head("GET", "/", &field)).unwrap();
        assert_eq!(kept.reply("GET").unwrap().status, 200, "{size}");
    }
    assert_eq!(fixture.request().path("/").send().unwrap().status, 200);
    fixture.wait("bounded", |stats| stats.connections_head <= 5);
    drop(flood);
}

/// Heads over 2 KiB of a client that has its part are refused, and those of others are served.
#[test]
fn one_client_does_not_take_all_the_memory_for_heads() {
    let config =
        ServerConfig { head_memory: 40 * KIB, max_workers_per_client: 100, ..ServerConfig::default() };
    let fixture = Fixture::start(config);
    let large = |path: &str| head("GET", path, &format!("X: {}\r\n", "x".repeat(7 * KIB)));
    let mut held: Vec<_> = (0..4).map(|_| fixture.send(large("/hold"))).collect();
    fixture.wait("held", |stats| stats.workers_busy == 4);
    is_refused(&mut fixture.send(large("/")));
    let mut small = fixture.send(head("GET", "/", &format!("X: {}\r\n", "x".repeat(KIB))));
    assert_eq!(small.reply("GET").unwrap().status, 200);
    let mut other = Connection::open_from([127, 0, 0, 8].into(), fixture.addr()).unwrap();
    for _ in 0..2 {
        other.send(large("/")).unwrap();
        assert_eq!(other.reply("GET").unwrap().status, 200);
    }
    fixture.probe.release();
    for connection in &mut held {
        assert_eq!(connection.reply("GET").unwrap().status, 200);
        connection.send(large("/")).unwrap();
        assert_eq!(connection.reply("GET").unwrap().status, 200);
    }
}

/// Requests that are served hold their heads: only small ones are taken beyond the bound.
#[test]
fn heads_of_requests_that_are_served_count() {
    let fixture = start(20 * KIB, 1);
    let large = |size: usize| head("GET", "/hold", &format!("X: {}\r\n", "x".repeat(size)));
    let mut held: Vec<_> = (0..3).map(|_| fixture.send(large(7 * KIB))).collect();
    fixture.wait("held", |stats| stats.workers_busy == 3);
    is_refused(&mut fixture.send(large(7 * KIB)));
    is_refused(&mut fixture.send(large(2 * KIB)));
    held.push(fixture.send(large(KIB)));
    fixture.wait("held", |stats| stats.workers_busy == 4);
    fixture.probe.release();
    for connection in &mut held {
        assert_eq!(connection.reply("GET").unwrap().status, 200);
    }
    fixture.wait("given back", |stats| stats.connections_idle == held.len());
    let mut again = fixture.send(large(7 * KIB));
    assert_eq!(again.reply("GET").unwrap().status, 200);
    again.send([get("/"), post("/", &[0; 100_000]), get("/")].concat()).unwrap();
    for method in ["GET", "POST", "GET"] {
        assert_eq!(again.reply(method).unwrap().status, 200);
    }
    assert_eq!(fixture.probe.refused(), ["head_memory"; 2]);
}
