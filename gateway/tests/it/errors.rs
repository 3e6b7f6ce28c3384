//! The gateway's own answers: each status has a kind and one line that says what to do.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::http::chunked;
use testkit::metrics::Metrics;
use testkit::unreachable::{Deaf, Refusing};
use testkit::{Peer, Script, eventually};

use crate::{
    OK, ONE, SOON, at, becomes, before, counts, gateway, is_own, is_well, path, raw, rejected, well,
};

/// The signals that stop a process and continue it (signal(7)).
const STOP: i32 = 19;
const CONTINUE: i32 = 18;

/// A function that reads a request and never answers.
fn silent() -> Peer {
    Peer::tcp(Script::new().head().end())
}

#[track_caller]
fn is_left_alone(peer: &Peer) {
    eventually(SOON, || match peer.open_connections() {
        0 => Ok(()),
        count => Err(format!("{count} connections to the function are open")),
    });
}

#[test]
fn a_late_head_is_408() {
    let gateway = gateway(&[]).env("header_timeout", "200ms").start();
    let mut connection = gateway.connect();
    connection.send("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Half: ").unwrap();
    is_own(&connection.within(SOON).reply("GET").unwrap(), (408, "header_timeout"), &["header_timeout"]);
    assert_eq!(rejected(&gateway, "header_timeout"), 1.0);
}

#[test]
fn a_stalled_body_is_408() {
    let peer = silent();
    let gateway = before(&peer).env("body_stall_timeout", "200ms").start();
    for fields in ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut connection = gateway.connect();
        connection.send(raw("POST", fields, "4\r\nhalf")).unwrap();
        let reply = connection.within(SOON).reply("POST").unwrap();
        is_own(&reply, (408, "body_stall"), &["`one`", "body_stall_timeout"]);
        assert!(!reply.head.keeps_alive());
        is_left_alone(&peer);
    }
    // The same when the gateway reads the body to look for Alexa's request.
    let mut connection = gateway.connect();
    connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{").unwrap();
    is_own(&connection.within(SOON).reply("POST").unwrap(), (408, "body_stall"), &["body_stall_timeout"]);
    counts(&gateway, "408", 2.0);
    assert_eq!(rejected(&gateway, "body_stall"), 3.0);
}

#[test]
fn a_slow_steady_body_does_not_time_out() {
    let peer = Peer::tcp(Script::new().request().send(OK));
    let gateway = before(&peer).env("body_stall_timeout", "2s").start();
    let mut connection = gateway.connect();
    connection.send(raw("POST", "Content-Length: 8\r\n", "")).unwrap();
    let started = Instant::now();
    for count in 1..=8 {
        eventually(SOON, || match started.elapsed() {
            past if past >= Duration::from_millis(count * 300) => Ok(()),
            past => Err(format!("{past:?}")),
        });
        connection.send("x").unwrap();
    }
    assert_eq!(connection.within(SOON).reply("POST").unwrap().status, 200);
}

#[test]
fn a_client_that_stops_reading_is_disconnected() {
    let peer = Peer::tcp(Script::new().head().send("HTTP/1.1 200 OK\r\n\r\n").send(vec![b'x'; 64 << 20]));
    let gateway = before(&peer).env("body_stall_timeout", "200ms").start();
    let mut connection = gateway.connect();
    connection.send(raw("GET", "", "")).unwrap();
    assert_eq!(connection.within(SOON).head().unwrap().status, 200);
    is_left_alone(&peer);
    counts(&gateway, "499", 1.0);
}

#[test]
fn a_body_over_the_limit_is_413() {
    let peer = silent();
    let gateway = before(&peer).env("max_body", "1000").start();
    let mut connection = gateway.connect();
    connection.send(raw("POST", "Content-Length: 1001\r\n", "")).unwrap();
    is_own(&connection.within(SOON).reply("POST").unwrap(), (413, "body_too_large"), &["max_body"]);
    assert_eq!(peer.connections(), 0, "it was refused by its length alone");
    let mut connection = gateway.connect();
    connection.send(raw("POST", "Transfer-Encoding: chunked\r\n", "")).unwrap();
    connection.send(chunked(&[0; 600])).unwrap();
    peer.wait_requests(1, SOON);
    connection.send(chunked(&[0; 401])).unwrap();
    let reply = connection.within(SOON).reply("POST").unwrap();
    is_own(&reply, (413, "body_too_large"), &["`one`", "max_body"]);
    is_left_alone(&peer);
    counts(&gateway, "413", 1.0);
    assert_eq!(rejected(&gateway, "body_too_large"), 2.0);
}

#[test]
fn heads_over_their_limits_are_414_and_431() {
    let gateway = gateway(&[]).env("max_header_bytes", "2KiB").env("max_headers", "10").start();
    let get = |path: &str, headers: &[(String, String)]| {
        let request = gateway.request().path(path);
        headers.iter().fold(request, |request, (name, value)| request.header(name, value)).send().unwrap()
    };
    let one = |size: usize| vec![("X".to_owned(), "x".repeat(size))];
    let many = |count: usize| (0..count).map(|n| (format!("X-{n}"), n.to_string())).collect::<Vec<_>>();
    is_own(&get("/healthz", &one(2048)), (431, "head_too_large"), &["max_header_bytes"]);
    is_own(&get("/healthz", &many(9)), (431, "too_many_headers"), &["max_headers"]);
    assert_eq!(get("/healthz", &one(1500)).status, 200);
    assert_eq!(get("/healthz", &many(8)).status, 200);
    is_own(&get(&format!("/{}", "x".repeat(2048)), &[]), (431, "head_too_large"), &["max_header_bytes"]);
    let gateway = crate::gateway(&[]).start();
    is_own(&gateway.get(&format!("/{}", "x".repeat(32 * 1024))), (414, "target_too_long"), &["32 KiB"]);
}

#[test]
fn a_refused_connection_is_502() {
    let refusing = Refusing::new();
    let gateway = gateway(&[at(ONE, &[refusing.addr()])]).env("connect_timeout", "2s").start();
    let address = refusing.addr().to_string();
    let started = Instant::now();
    let reply = gateway.post(&path(""), "x");
    is_own(&reply, (502, "connect"), &["`one`", &address, "refused", "connect_timeout"]);
    // The function may be starting, so the gateway tries for `connect_timeout`, and hardly longer.
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(2) && took < SOON, "{took:?}");
    let started = Instant::now();
    assert_eq!(gateway.post(&path(""), "x").status, 502);
    assert!(started.elapsed() < Duration::from_secs(2), "it is known by now: {:?}", started.elapsed());
    counts(&gateway, "502", 2.0);
}

#[test]
fn a_connection_lost_before_the_answer_is_502() {
    for script in [
        Script::new().request().close(),
        Script::new().request().reset(),
        Script::new().request().send("HTTP/1.1 200 O").close(),
        Script::new().request().send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n").reset(),
    ] {
        let peer = Peer::tcp(script);
        let gateway = before(&peer).start();
        for method in ["GET", "POST"] {
            let reply = gateway.request().method(method).path(path("")).send().unwrap();
            is_own(&reply, (502, "upstream_closed"), &["`one`", &peer.addr().to_string()]);
        }
        assert_eq!(peer.requests().len(), 2, "nothing is repeated that may have been executed");
        counts(&gateway, "502", 2.0);
    }
}

#[test]
fn an_answer_that_is_not_http_is_502() {
    let peer = Peer::tcp(Script::new().request().send("220 mail.test ESMTP\r\n\r\n").close());
    let gateway = before(&peer).start();
    is_own(&gateway.get(&path("")), (502, "upstream_invalid"), &["`one`", "not valid HTTP"]);
    assert_eq!(peer.requests().len(), 1);
}

#[test]
fn a_function_that_cannot_be_started_is_503() {
    let broken = json!({ "name": ONE, "fprocess": "cat", "environment": { "exec_timeout": "never" } });
    let gateway = gateway(&[broken]).start();
    gateway.wait_log("exec_timeout", SOON);
    eventually(SOON, || match gateway.post(&path(""), "x") {
        reply if reply.status == 503 => {
            is_own(&reply, (503, "cannot_start"), &["`one`", "fwatchdog exited with code 2"]);
            Ok(())
        }
        reply => Err(format!("{}: {}", reply.status, reply.text())),
    });
}

#[test]
fn more_calls_than_workers_and_queue_are_503() {
    // The queue has as many places as there are workers, and at least 64.
    const SERVED: usize = 2 + 64;
    let peer = silent();
    let gateway = before(&peer).env("max_workers", "2").start();
    let mut connections: Vec<_> = (0..SERVED).map(|_| gateway.connect()).collect();
    connections.iter_mut().for_each(|connection| connection.send(raw("GET", "", "")).unwrap());
    peer.wait_requests(2, SOON);
    // Further calls are refused once all the others have arrived.
    eventually(SOON, || {
        let mut connection = gateway.connect();
        connection.send(raw("GET", "", "")).unwrap();
        match connection.within(Duration::from_millis(200)).reply("GET") {
            Ok(reply) => {
                is_own(&reply, (503, "overloaded"), &["max_workers"]);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    });
    assert_eq!(peer.requests().len(), 2);
    assert_eq!(gateway.get("/healthz").status, 200, "it is busy and not sick");
    let reply = gateway.get("/metrics");
    assert_eq!(reply.status, 200, "pages need no worker");
    let page = reply.text();
    assert!(Metrics::read(&page).value("gateway_workers", &[("state", "busy")]) > Some(0.0));
    drop(connections);
    eventually(SOON, || match gateway.request().path("/healthz").send() {
        Ok(reply) if reply.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(rejected(&gateway, "overloaded") >= 1.0);
}

#[test]
fn a_slow_connect_is_502_or_504() {
    let deaf = Deaf::new();
    let bin = gateway(&[at(ONE, &[deaf.addr()])]).env("connect_timeout", "100ms");
    let reply = bin.start().get(&path(""));
    is_own(&reply, (502, "connect"), &["`one`", "does not answer", "connect_timeout"]);
    let bin = gateway(&[at(ONE, &[deaf.addr()])]).env("upstream_timeout", "200ms");
    let gateway = bin.start();
    let reply = gateway.get(&path(""));
    is_own(&reply, (504, "timeout_connect"), &["`one`", "200ms", "connecting", "upstream_timeout"]);
    counts(&gateway, "504", 1.0);
}

/// A busy function may answer before it reads: the gateway sees the connection and the answer together.
#[test]
fn an_answer_sent_before_the_request_is_read_is_passed_on() {
    let deaf = Deaf::new();
    let gateway = gateway(&[at(ONE, &[deaf.addr()])]).env("connect_timeout", "10s").start();
    let mut client = gateway.connect();
    client.send(raw("GET", "", "")).unwrap();
    becomes(&gateway, "gateway_function_inflight", 1.0);
    gateway.signal(STOP);
    let mut function = deaf.hear();
    function.write_all(OK.as_bytes()).unwrap();
    gateway.signal(CONTINUE);
    assert_eq!(client.within(SOON).reply("GET").unwrap().status, 200);
}

/// A connect without its client says nothing about the replica, which stays marked down.
#[test]
fn a_client_that_leaves_during_a_connect_does_not_clear_the_failure_of_the_replica() {
    let deaf = Deaf::new();
    let bin = gateway(&[at(ONE, &[deaf.addr()])]).env("connect_timeout", "300ms");
    let gateway = bin.start();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let mut client = gateway.connect();
                client.send(raw("GET", "", "")).unwrap();
                thread::sleep(Duration::from_millis(30));
                client.reset();
            }
        });
        let reply = gateway.request().path(path("")).timeout(SOON).send();
        is_over.store(true, Ordering::Relaxed);
        is_own(&reply.unwrap(), (502, "connect"), &["`one`", "does not answer", "connect_timeout"]);
    });
}

#[test]
fn a_late_answer_is_504() {
    let peer = silent();
    let gateway = before(&peer).env("upstream_timeout", "900ms").start();
    let started = Instant::now();
    let reply = gateway.post(&path(""), "x");
    let parts = ["`one`", "900ms", "first byte", "upstream_timeout"];
    is_own(&reply, (504, "timeout_first_byte"), &parts);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(900) && took < SOON, "{took:?}");
    is_left_alone(&peer);
    assert_eq!(peer.requests().len(), 1, "it is not repeated");
    counts(&gateway, "504", 1.0);
    // A caller may set a shorter limit.
    let gateway = before(&peer).start();
    let reply = gateway.request().path(path("")).header("X-Timeout", "800ms").send().unwrap();
    is_own(&reply, (504, "timeout_first_byte"), &["800ms", "see X-Timeout"]);
}

#[test]
fn a_call_ends_when_its_client_leaves() {
    let answering = Script::new().head().send("HTTP/1.1 200 OK\r\n\r\nhello").end();
    for (name, script, body) in [
        ("waiting", Script::new().request().end(), "hello"),
        ("sending", Script::new().head().end(), "hel"),
        ("reading", answering, "hello"),
    ] {
        let peer = Peer::tcp(script);
        let gateway = before(&peer).start();
        for is_reset in [false, true] {
            let mut connection = gateway.connect();
            connection.send(raw("POST", "Content-Length: 5\r\n", body)).unwrap();
            let count = if is_reset { 2 } else { 1 };
            peer.wait_requests(count, SOON);
            if name == "reading" {
                assert_eq!(connection.within(SOON).head().unwrap().status, 200);
            }
            if is_reset {
                connection.reset()
            } else {
                drop(connection)
            }
            is_left_alone(&peer);
            assert_eq!(peer.requests().len(), count, "{name}: nothing is repeated");
        }
        counts(&gateway, "499", 2.0);
        assert_eq!(gateway.metrics("/metrics").sum("gateway_function_inflight", &[]), 0.0);
    }
}

#[test]
fn a_client_may_leave_while_its_call_waits_for_a_worker() {
    let peer = well();
    let gateway = before(&peer).env("max_workers", "1").start();
    for _ in 0..50 {
        let mut connection = gateway.connect();
        connection.send(raw("POST", "Content-Length: 5\r\n", "hel")).unwrap();
        connection.reset();
    }
    is_well(&gateway);
}

#[test]
fn a_bad_chunk_is_400_and_the_function_sees_no_end_of_the_body() {
    let peer = silent();
    let gateway = before(&peer).start();
    let mut connection = gateway.connect();
    connection.send(raw("POST", "Transfer-Encoding: chunked\r\n", "")).unwrap();
    connection.send(chunked(b"hello")).unwrap();
    peer.wait_requests(1, SOON);
    connection.send("zz\r\n").unwrap();
    is_own(&connection.within(SOON).reply("POST").unwrap(), (400, "chunk_size"), &["`one`", "chunk size"]);
    is_left_alone(&peer);
    assert!(!peer.received(0).ends_with(b"0\r\n\r\n"));
    counts(&gateway, "400", 1.0);
}
