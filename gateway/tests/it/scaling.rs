//! Functions without a replica, functions with `faas.concurrency`, and the calls that wait for either.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Gate, Peer, Running, Script, eventually, proc};

use crate::{OK, ONE, SOON, at, becomes, counts, dogs, gateway, is_own, of_one, path, raw, well};

/// A function that the gateway runs, without a replica at first.
fn sleeping(fprocess: &str, labels: &Value) -> Value {
    json!({ "name": ONE, "fprocess": fprocess, "replicas": 0, "labels": labels })
}

/// A function at `peer`, with a limit of calls for each replica.
fn limited(peer: &Peer, limit: &str) -> Value {
    let mut function = at(ONE, &[peer.addr()]);
    function["labels"] = json!({ "faas.concurrency": limit });
    function
}

/// Connections with one request sent on each.
fn send(gateway: &Running, count: usize) -> Vec<testkit::http::Connection> {
    let mut connections: Vec<_> = (0..count).map(|_| gateway.connect()).collect();
    connections.iter_mut().for_each(|connection| connection.send(raw("GET", "", "")).unwrap());
    connections
}

#[test]
fn the_first_call_starts_a_replica_and_its_answer_tells_the_cold_start() {
    let gateway = gateway(&[sleeping("cat", &json!({}))]).start();
    assert!(dogs(&gateway, 0).is_empty());
    let reply = gateway.post(&path(""), "hello");
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    let took: u64 = reply.header("x-cold-start-ms").unwrap().parse().unwrap();
    assert!(took < SOON.as_millis() as u64, "{took}");
    let reply = gateway.post(&path(""), "again");
    assert_eq!((reply.status, reply.header("x-cold-start-ms")), (200, None));
    let metrics = gateway.metrics("/metrics");
    assert_eq!(metrics.value("gateway_cold_start_seconds_count", &[("function_name", ONE)]), Some(1.0));
    dogs(&gateway, 1);
    counts(&gateway, "200", 2.0);
}

#[test]
fn a_thousand_concurrent_calls_share_one_cold_start() {
    kit::sys::limits::raise_open_files(4096).unwrap();
    let labels = json!({ "com.openfaas.scale.target": "1000" });
    let gateway = gateway(&[sleeping("cat", &labels)]).start();
    let mut connections = send(&gateway, 1000);
    for connection in &mut connections {
        let reply = connection.within(3 * SOON).reply("GET").unwrap();
        assert_eq!(reply.status, 200, "{} {:?} {}", reply.text(), reply, gateway.log());
    }
    counts(&gateway, "200", 1000.0);
    assert_eq!(gateway.log().matches("from 0 to 1 replicas").count(), 1, "{}", gateway.log());
    becomes(&gateway, "gateway_service_count", 1.0);
    dogs(&gateway, 1);
}

#[test]
fn a_failed_cold_start_tells_its_reason() {
    let mut broken = sleeping("cat", &json!({}));
    broken["environment"] = json!({ "exec_timeout": "never" });
    let gateway = gateway(&[broken]).start();
    let reply = eventually(SOON, || match gateway.get(&path("")) {
        reply if reply.status == 503 => Ok(reply),
        reply => Err(format!("{}: {}", reply.status, reply.text())),
    });
    is_own(&reply, (503, "cannot_start"), &["`one`", "fwatchdog exited with code 2"]);
    gateway.wait_log("fwatchdog: function `one`: setting exec_timeout: ", SOON);
}

#[test]
fn calls_beyond_the_limit_wait_until_other_calls_end() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let gateway = gateway(&[limited(&peer, "2")]).start();
    let mut connections = send(&gateway, 20);
    becomes(&gateway, "gateway_function_waiting", 18.0);
    peer.wait_requests(2, SOON);
    assert_eq!(of_one(&gateway, "gateway_function_inflight"), 20.0, "served or waiting");
    gate.open();
    for connection in &mut connections {
        let reply = connection.within(SOON).reply("GET").unwrap();
        assert_eq!((reply.status, reply.header("x-cold-start-ms")), (200, None));
    }
    becomes(&gateway, "gateway_function_waiting", 0.0);
    assert_eq!(peer.requests().len(), 20);
}

/// The order holds across pollers.
#[test]
fn waiting_calls_are_served_in_order_of_arrival() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let gateway = gateway(&[limited(&peer, "1")]).start();
    let mut connections: Vec<_> = (0..20).map(|_| gateway.connect()).collect();
    for (number, connection) in connections.iter_mut().enumerate() {
        let head = format!("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", path(&format!("/{number}")));
        connection.send(head).unwrap();
        becomes(&gateway, "gateway_function_inflight", number as f64 + 1.0);
    }
    becomes(&gateway, "gateway_function_waiting", 19.0);
    gate.open();
    for connection in &mut connections {
        assert_eq!(connection.within(SOON).reply("GET").unwrap().status, 200);
    }
    let served: Vec<_> = peer.requests().iter().map(|request| request.target.clone()).collect();
    assert_eq!(served, (0..20).map(|number| format!("/{number}")).collect::<Vec<_>>());
}

#[test]
fn a_client_that_leaves_gives_its_slot_to_the_next_call() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let gateway = gateway(&[limited(&peer, "1")]).start();
    let mut first = send(&gateway, 1);
    peer.wait_requests(1, SOON);
    let gone = send(&gateway, 5);
    becomes(&gateway, "gateway_function_waiting", 5.0);
    let mut last = send(&gateway, 1);
    becomes(&gateway, "gateway_function_waiting", 6.0);
    drop(gone);
    becomes(&gateway, "gateway_function_waiting", 1.0);
    counts(&gateway, "499", 5.0);
    gate.open();
    for connection in first.iter_mut().chain(&mut last) {
        assert_eq!(connection.within(SOON).reply("GET").unwrap().status, 200);
    }
    assert_eq!(peer.requests().len(), 2);
}

#[test]
fn a_full_queue_is_429_and_a_wait_that_times_out_is_504() {
    let peer = Peer::tcp(Script::new().request().stall());
    let bin = gateway(&[limited(&peer, "1")]).env("max_connections", "16");
    let gateway = bin.start();
    let _first = send(&gateway, 1);
    peer.wait_requests(1, SOON);
    let mut waiting: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
    for connection in &mut waiting {
        connection.send(raw("GET", "X-Timeout: 9s\r\n", "")).unwrap();
    }
    becomes(&gateway, "gateway_function_waiting", 8.0);
    is_own(&gateway.get(&path("")), (429, "too_many_calls"), &["`one`", "faas.concurrency"]);
    for connection in &mut waiting {
        let reply = connection.within(SOON).reply("GET").unwrap();
        is_own(&reply, (504, "timeout_turn"), &["`one`", "faas.concurrency", "X-Timeout"]);
    }
    assert_eq!(peer.requests().len(), 1);
}

#[test]
fn full_queues_leave_connections_for_other_requests() {
    let peer = Peer::tcp(Script::new().request().stall());
    let mut other = limited(&peer, "1");
    other["name"] = json!("other");
    let gateway = gateway(&[limited(&peer, "1"), other])
        .env("max_connections", "20")
        .env("max_connections_per_client", "20")
        .start();
    let mut held: Vec<_> = (0..10).map(|_| gateway.connect()).collect();
    held.iter_mut().for_each(|connection| connection.send(raw("GET", "", "")).unwrap());
    becomes(&gateway, "gateway_function_waiting", 9.0);
    let path = "/function/other";
    let mut others: Vec<_> = (0..7).map(|_| gateway.connect()).collect();
    for connection in &mut others {
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).unwrap();
    }
    let waits = |count| {
        eventually(SOON, || {
            let metrics = gateway.metrics("/metrics");
            match metrics.value("gateway_function_waiting", &[("function_name", "other")]) {
                Some(waiting) if waiting == count => Ok(()),
                waiting => Err(format!("{waiting:?} wait, not {count}")),
            }
        });
    };
    waits(6.0);
    let reply = gateway.get(path);
    is_own(&reply, (503, "too_many_waiting"), &["`other`", "15 calls of all functions", "max_connections"]);
    assert_eq!(gateway.get("/healthz").status, 200);
    drop(held);
    becomes(&gateway, "gateway_function_waiting", 0.0);
    let mut more = gateway.connect();
    more.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).unwrap();
    waits(7.0);
}

/// The timeout passes while all workers are busy; when one is free, there is a slot too.
#[test]
fn a_call_past_its_timeout_takes_no_slot() {
    let (gate, other_gate) = (Gate::new(), Gate::new());
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let other = Peer::tcp(Script::new().request().wait(&other_gate).send(OK).repeat());
    let gateway =
        gateway(&[limited(&peer, "1"), at("other", &[other.addr()])]).env("max_workers", "2").start();
    let mut first = send(&gateway, 1);
    peer.wait_requests(1, SOON);
    let (mut late, sent) = (gateway.connect(), Instant::now());
    late.send(raw("GET", "X-Timeout: 2s\r\n", "")).unwrap();
    becomes(&gateway, "gateway_function_waiting", 1.0);
    let mut busy: Vec<_> = (0..2).map(|_| gateway.connect()).collect();
    for connection in &mut busy {
        connection.send("GET /function/other HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    }
    eventually(SOON, || match gateway.metrics("/metrics").value("gateway_workers", &[("state", "queued")]) {
        Some(2.0) if sent.elapsed() > Duration::from_secs(2) => Ok(()),
        queued => Err(format!("{queued:?} wait for a worker, not 2, with one whose time is up")),
    });
    gate.open();
    assert_eq!(first[0].within(SOON).reply("GET").unwrap().status, 200);
    becomes(&gateway, "gateway_function_inflight", 1.0);
    other.wait_requests(2, SOON);
    other_gate.open();
    let reply = late.within(SOON).reply("GET").unwrap();
    is_own(&reply, (504, "timeout_turn"), &["`one`", "X-Timeout"]);
    assert_eq!(peer.requests().len(), 1, "it was not sent");
    becomes(&gateway, "gateway_function_waiting", 0.0);
}

#[test]
fn a_drain_serves_the_waiting_calls() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let gateway = gateway(&[limited(&peer, "1")]).start();
    let mut connections = send(&gateway, 10);
    becomes(&gateway, "gateway_function_waiting", 9.0);
    gateway.signal(proc::SIGTERM);
    gateway.wait_log("draining", SOON);
    gate.open();
    for connection in &mut connections {
        let reply = connection.within(SOON).reply("GET").unwrap();
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    }
    assert_eq!(gateway.wait(SOON).code(), Some(0));
}

#[test]
fn calls_that_wait_at_the_end_of_the_drain_are_answered_503() {
    let peer = Peer::tcp(Script::new().request().stall());
    let gateway = gateway(&[limited(&peer, "1")]).env("drain_timeout", "1s").start();
    let mut connections = send(&gateway, 3);
    becomes(&gateway, "gateway_function_waiting", 2.0);
    gateway.signal(proc::SIGTERM);
    let served = peer.wait_requests(1, SOON).len();
    let replies: Vec<_> =
        connections.iter_mut().filter_map(|connection| connection.within(SOON).reply("GET").ok()).collect();
    assert_eq!((served, replies.len()), (1, 2));
    for reply in replies {
        is_own(&reply, (503, "draining"), &["drain_timeout"]);
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    assert_eq!(gateway.wait(SOON).code(), Some(1));
}

/// Sends a part of a POST, which keeps its replica busy.
fn begin(gateway: &Running) -> testkit::http::Connection {
    let mut connection = gateway.connect();
    connection.send(raw("POST", "Content-Length: 5\r\n", "hel")).unwrap();
    connection
}

#[test]
fn scaling_down_ends_no_call() {
    let labels = json!({ "com.openfaas.scale.factor": "0", "com.openfaas.scale.max": "4" });
    let function = json!({ "name": ONE, "fprocess": "cat", "replicas": 2, "labels": labels });
    let gateway = gateway(&[function]).start();
    let scale = |replicas: u32| {
        let body = json!({ "serviceName": ONE, "replicas": replicas }).to_string();
        assert_eq!(gateway.post(&format!("/system/scale-function/{ONE}"), body).status, 202);
        becomes(&gateway, "gateway_service_ready", f64::from(replicas));
    };
    for busy in [1, 2, 4] {
        scale(2);
        let mut running: Vec<_> = (0..busy).map(|_| begin(&gateway)).collect();
        becomes(&gateway, "gateway_function_inflight", f64::from(busy));
        scale(1);
        assert_eq!(gateway.post(&path(""), "others").text(), "others");
        for connection in &mut running {
            connection.send("lo").unwrap();
            let reply = connection.within(SOON).reply("POST").unwrap();
            assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
        }
        dogs(&gateway, 1);
    }
}

/// When many waits expire together, none is refused for a full queue, and no other call either.
#[test]
fn many_waits_that_time_out_together_are_all_answered_and_delay_no_call() {
    kit::sys::limits::raise_open_files(4096).unwrap();
    let (peer, other) = (Peer::tcp(Script::new().request().stall()), well());
    let functions = [limited(&peer, "1"), at("other", &[other.addr()])];
    let gateway = gateway(&functions).env("max_connections", "2000").env("max_workers", "4").start();
    let _first = send(&gateway, 1);
    peer.wait_requests(1, SOON);
    let mut waiting: Vec<_> = (0..400).map(|_| gateway.connect()).collect();
    for connection in &mut waiting {
        connection.send(raw("GET", "X-Timeout: 6s\r\n", "")).unwrap();
    }
    becomes(&gateway, "gateway_function_waiting", 400.0);
    let began = Instant::now();
    let mut others = Vec::new();
    let mut client = gateway.client();
    while of_one(&gateway, "gateway_function_waiting") > 0.0 && began.elapsed() < SOON {
        let reply = client.request().path("/function/other").send().unwrap();
        others.push(reply.status);
    }
    let codes: Vec<_> =
        waiting.iter_mut().map(|connection| connection.within(SOON).reply("GET").unwrap().status).collect();
    let count = |codes: &[u16], code: u16| codes.iter().filter(|other| **other == code).count();
    assert_eq!((count(&codes, 504), count(&codes, 503)), (400, 0));
    assert_eq!(count(&others, 200), others.len());
}
