//! Connections, workers and the queue between them are bounded; beyond it the answer is clear.

use std::time::{Duration, Instant};

use http1::ServerConfig;
use testkit::floods::{idle_connections, open_connections, slow_heads_every};
use testkit::http::End;

use crate::support::{Fixture, PATIENCE, get, post};

fn with_connections(max_connections: usize) -> Fixture {
    Fixture::start(ServerConfig { max_connections, ..ServerConfig::default() })
}

#[test]
fn the_oldest_idle_connection_makes_room() {
    let fixture = with_connections(3);
    let mut idle = vec![];
    for number in 1..=3 {
        idle.extend(idle_connections(fixture.addr(), 1, "/early").clients);
        fixture.wait("idle", |stats| stats.connections_idle == number);
    }
    assert_eq!(fixture.request().send().unwrap().status, 200);
    let mut is_alive = |number: usize| idle[number].request().path("/early").send().is_ok();
    assert_eq!([is_alive(1), is_alive(2), is_alive(0)], [true, true, false]);
    assert_eq!(fixture.probe.refused(), [""; 0]);
}

#[test]
fn idle_ones_go_before_silent_ones_and_these_before_slow_heads() {
    let fixture = with_connections(3);
    let mut head = fixture.send("GET / HTTP/1.1\r\n");
    fixture.wait("a head", |stats| stats.connections_head == 1);
    let mut silent = fixture.connect();
    fixture.wait("silent", |stats| stats.connections_idle == 1);
    let mut idle = fixture.send(get("/"));
    assert_eq!(idle.reply("GET").unwrap().status, 200);
    fixture.wait("idle", |stats| stats.connections_idle == 2);
    let mut others = vec![];
    for (victim, number) in [(&mut idle, 0), (&mut silent, 1), (&mut head, 2)] {
        assert_eq!(victim.within(Duration::from_millis(20)).rest().end, End::Open, "number {number}");
        others.push(fixture.send("GET / HTTP/1.1\r\nHost: x\r\n"));
        assert_ne!(victim.within(PATIENCE).rest().end, End::Open, "number {number}");
        fixture.wait("in its place", |stats| stats.connections_head == 2 + usize::from(number > 0));
    }
    for other in &mut others {
        other.send("\r\n").unwrap();
        assert_eq!(other.reply("GET").unwrap().status, 200);
    }
}

#[test]
fn a_full_server_says_so_and_recovers() {
    let fixture = with_connections(2);
    let mut held = [fixture.send(get("/hold")), fixture.send(get("/hold"))];
    fixture.wait("full", |stats| stats.connections_active == 2);
    for _ in 0..20 {
        let mut turned_away = fixture.send(post("/echo", b"hello"));
        let raw = turned_away.rest();
        let reply = &raw.replies(&["POST"]).unwrap()[0];
        assert_eq!((reply.status, reply.header("Retry-After"), raw.end), (503, Some("1"), End::Closed));
    }
    assert_eq!(fixture.probe.refused(), ["overloaded"; 20]);
    fixture.probe.release();
    for connection in &mut held {
        assert_eq!(connection.reply("GET").unwrap().body, b"held");
    }
    fixture.wait("idle", |stats| stats.connections_idle == 2);
    assert_eq!(fixture.request().send().unwrap().status, 200);
    assert_eq!(fixture.probe.calls(), 3);
}

/// A refused connection that never sends anything is closed too.
#[test]
fn few_refused_connections_stay_open() {
    let fixture = with_connections(1);
    let _held = fixture.send(get("/hold"));
    fixture.wait("full", |stats| stats.connections_active == 1);
    let silent = open_connections(fixture.addr(), 50);
    fixture.wait("few", |stats| stats.connections_closing <= 1 && stats.connections_idle == 0);
    drop(silent);
    fixture.probe.release();
}

/// The queue takes 64 where there are fewer workers than that.
#[test]
fn workers_and_their_queue_are_bounded() {
    let fixture = Fixture::start(ServerConfig { max_workers: 2, ..ServerConfig::default() });
    let mut held: Vec<_> = (0..66).map(|_| fixture.send(get("/hold"))).collect();
    fixture
        .wait("full", |stats| (stats.waiting, stats.workers_busy, stats.connections_active) == (64, 2, 66));
    for _ in 0..3 {
        let raw = fixture.send(post("/echo", b"hello")).rest();
        let reply = &raw.replies(&["POST"]).unwrap()[0];
        assert_eq!((reply.status, reply.header("Retry-After"), raw.end), (503, Some("1"), End::Closed));
    }
    assert_eq!(fixture.probe.refused(), ["overloaded"; 3]);
    fixture.probe.release();
    for connection in &mut held {
        assert_eq!(connection.reply("GET").unwrap().body, b"held");
    }
    assert_eq!(fixture.probe.calls(), 66);
}

#[test]
fn waiting_for_a_worker_has_an_end() {
    let header_timeout = Duration::from_secs(2);
    let config = ServerConfig { max_workers: 1, header_timeout, ..ServerConfig::default() };
    let fixture = Fixture::start(config);
    let mut held = fixture.send(get("/hold"));
    fixture.wait("held", |stats| stats.workers_busy == 1);
    let since = Instant::now();
    let raw = fixture.send(post("/echo", b"hello")).rest();
    let reply = &raw.replies(&["POST"]).unwrap()[0];
    assert_eq!((reply.status, reply.header("Retry-After"), raw.end), (503, Some("1"), End::Closed));
    assert!(since.elapsed() >= header_timeout);
    fixture.probe.release();
    assert_eq!(held.reply("GET").unwrap().body, b"held");
    assert_eq!(fixture.probe.calls(), 1);
}

/// Also where the poller that accepts has no connection of its own, and so no reason to wake up.
#[test]
fn waiting_for_a_worker_has_an_end_whichever_poller_has_the_connection() {
    let header_timeout = Duration::from_millis(500);
    let config = ServerConfig { max_workers: 1, header_timeout, pollers: 2, ..ServerConfig::default() };
    let fixture = Fixture::start(config);
    let mut held = fixture.send(get("/hold")); // the first connection is the second poller's
    fixture.wait("held", |stats| stats.workers_busy == 1);
    drop(fixture.connect()); // and the second one the first poller's
    fixture.wait("gone", |stats| stats.connections_idle == 0);
    let raw = fixture.send(post("/echo", b"hello")).rest();
    let reply = &raw.replies(&["POST"]).unwrap()[0];
    assert_eq!((reply.status, reply.header("Retry-After"), raw.end), (503, Some("1"), End::Closed));
    fixture.probe.release();
    assert_eq!(held.reply("GET").unwrap().body, b"held");
}

#[test]
fn a_poller_answers_at_once_while_all_workers_are_busy_and_the_queue_is_full() {
    let fixture = Fixture::start(ServerConfig { max_workers: 1, ..ServerConfig::default() });
    let mut held = fixture.send(get("/hold"));
    fixture.wait("held", |stats| stats.workers_busy == 1);
    let mut waiting: Vec<_> = (0..64).map(|_| fixture.send(get("/early"))).collect();
    fixture.wait("full", |stats| stats.waiting == 64);
    let mut kept = fixture.connect();
    for _ in 0..20 {
        kept.send(get("/at-once")).unwrap();
        assert_eq!(kept.reply("GET").unwrap().status, 200);
    }
    assert_eq!(fixture.request().path("/early").send().unwrap().status, 503);
    assert_eq!(fixture.stats().waiting, 64);

    // What follows on the same connection has its turn like all others.
    kept.send([get("/at-once"), get("/hold")].concat()).unwrap();
    assert_eq!(kept.reply("GET").unwrap().status, 200);
    assert_eq!(kept.reply("GET").unwrap().status, 503, "the queue is full");
    fixture.probe.release();
    assert_eq!(held.reply("GET").unwrap().body, b"held");
    for connection in &mut waiting {
        assert_eq!(connection.reply("GET").unwrap().status, 200);
    }
}

/// A keep-alive client's next request, and those behind it, wait like all others for a worker.
#[test]
fn a_kept_connection_waits_for_its_turn() {
    let fixture = Fixture::start(ServerConfig { max_workers: 1, ..ServerConfig::default() });
    let mut kept = fixture.send(get("/early"));
    assert_eq!(kept.reply("GET").unwrap().status, 200);
    fixture.wait("idle", |stats| stats.connections_idle == 1 && stats.workers_busy == 0);
    let mut held = fixture.send(get("/hold"));
    fixture.wait("held", |stats| stats.workers_busy == 1);
    kept.send([post("/echo", b"one"), post("/echo", b"two")].concat()).unwrap();
    fixture.wait("queued", |stats| stats.waiting == 1);
    fixture.probe.release();
    assert_eq!(held.reply("GET").unwrap().body, b"held");
    assert_eq!(kept.reply("POST").unwrap().body, b"one");
    assert_eq!(kept.reply("POST").unwrap().body, b"two");
}

/// Workers are threads for requests, not for clients.
#[test]
fn slow_and_idle_clients_take_no_worker() {
    let header_timeout = 6 * PATIENCE;
    let config = ServerConfig { max_workers: 1, header_timeout, ..ServerConfig::default() };
    let fixture = Fixture::start(config);
    let slow = slow_heads_every(fixture.addr(), 100, Duration::from_millis(50));
    let idle = idle_connections(fixture.addr(), 50, "/early");
    let silent = open_connections(fixture.addr(), 50);
    fixture.wait("all there", |stats| stats.connections_head == 100 && stats.connections_idle == 100);
    for _ in 0..20 {
        let since = Instant::now();
        assert_eq!(fixture.request().send().unwrap().status, 200);
        assert!(since.elapsed() < PATIENCE / 2, "{:?}", since.elapsed());
    }
    assert!(slow.open() == 100 && silent.open() == 50);
    drop((slow, idle, silent));
}

/// Threads come with requests and go without: the bound is the most that there are at a time.
#[test]
fn workers_come_and_go() {
    let fixture = Fixture::start(ServerConfig { max_workers: 20, ..ServerConfig::default() });
    let mut held: Vec<_> = (0..30).map(|_| fixture.send(get("/hold"))).collect();
    fixture.wait("all busy", |stats| stats.workers_busy == 20 && stats.waiting == 10);
    fixture.probe.release();
    for connection in &mut held {
        assert_eq!(connection.reply("GET").unwrap().body, b"held");
    }
    drop(held);
    fixture.wait("no worker", |stats| stats.workers_idle + stats.workers_busy == 0);
    assert_eq!(fixture.request().send().unwrap().status, 200);
}
