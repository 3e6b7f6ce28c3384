//! The shares of one client or function, and clients that owe the body of their request.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};
use testkit::http::{Connection, End};
use testkit::{Gate, Peer, Reply, Running, Script, eventually, proc};

use crate::{OK, ONE, SOON, at, becomes, before, dogs, gateway, is_own, of_one, path, raw, rejected, well};

/// A function beside [`ONE`].
const OTHER: &str = "other";

/// Header fields of a request that announces ten bytes of body.
const OWES: &str = "Content-Length: 10\r\n";

/// An answer that accepts an upgrade.
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// Connections with one request to [`ONE`] sent on each.
fn send(gateway: &Running, count: usize, request: &str) -> Vec<Connection> {
    let mut connections: Vec<_> = (0..count).map(|_| gateway.connect()).collect();
    connections.iter_mut().for_each(|connection| connection.send(request).unwrap());
    connections
}

/// Waits until so many connections have a request, including the one that asks.
#[track_caller]
fn are_active(gateway: &Running, count: usize) {
    eventually(SOON, || {
        match gateway.metrics("/metrics").value("gateway_connections", &[("state", "active")]) {
            Some(active) if active >= count as f64 => Ok(()),
            active => Err(format!("{active:?} active connections, not {count}")),
        }
    });
}

/// Calls a function while other calls hang; its limit is a minute.
fn call(gateway: &Running, name: &str) -> u16 {
    gateway.request().path(format!("/function/{name}")).timeout(3 * SOON).send().unwrap().status
}

#[test]
fn a_client_that_owes_its_body_takes_no_worker_and_no_replica() {
    kit::sys::limits::raise_open_files(4096).unwrap();
    let (peer, other) = (well(), well());
    let functions = [at(ONE, &[peer.addr()]), at(OTHER, &[other.addr()])];
    let gateway = gateway(&functions).env("max_workers", "16").env("header_timeout", "2s").start();
    let mut silent = send(&gateway, 600, &raw("POST", OWES, ""));
    are_active(&gateway, 600);
    assert_eq!((call(&gateway, OTHER), call(&gateway, ONE)), (200, 200));
    assert_eq!((of_one(&gateway, "gateway_function_inflight"), peer.connections()), (0.0, 1));
    silent[7].send("0123456789").unwrap();
    assert_eq!(silent[7].within(SOON).reply("POST").unwrap().status, 200);
    assert_eq!(peer.requests().last().unwrap().body, b"0123456789");
}

#[test]
fn silent_bodies_and_tunnels_leave_workers_for_another_function() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().head().send(AGREE).wait(&gate).close());
    let other = well();
    let functions = [at(ONE, &[peer.addr()]), at(OTHER, &[other.addr()])];
    let gateway = gateway(&functions).env("max_workers", "16").env("header_timeout", "2s").start();
    let _silent = send(&gateway, 16, &raw("POST", OWES, ""));
    are_active(&gateway, 16);
    assert_eq!(call(&gateway, OTHER), 200);
    let mut tunnels = send(&gateway, 16, &raw("GET", "Connection: Upgrade\r\nUpgrade: echo\r\n", ""));
    becomes(&gateway, "gateway_function_inflight", 16.0);
    becomes(&gateway, "gateway_function_waiting", 4.0);
    assert_eq!(call(&gateway, OTHER), 200);
    gate.open();
    tunnels.iter_mut().for_each(|tunnel| assert_eq!(tunnel.within(SOON).head().unwrap().status, 101));
    becomes(&gateway, "gateway_function_inflight", 0.0);
}

#[test]
fn silent_clients_start_no_replica() {
    let function = json!({ "name": ONE, "fprocess": "cat", "replicas": 0 });
    let gateway = gateway(&[function]).start();
    let mut silent = send(&gateway, 30, &raw("POST", OWES, ""));
    are_active(&gateway, 31);
    let figures = ["gateway_function_inflight", "gateway_service_count"].map(|name| of_one(&gateway, name));
    assert_eq!(figures, [0.0, 0.0]);
    assert!(dogs(&gateway, 0).is_empty());
    silent[3].send("0123456789").unwrap();
    let reply = silent[3].within(SOON).reply("POST").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "0123456789"));
}

#[test]
fn a_client_that_never_sends_its_body_gets_408() {
    let peer = well();
    let gateway = before(&peer).env("body_stall_timeout", "300ms").start();
    for fields in [OWES, "Transfer-Encoding: chunked\r\n"] {
        let reply = send(&gateway, 1, &raw("POST", fields, ""))[0].within(SOON).reply("POST").unwrap();
        is_own(&reply, (408, "body_stall"), &["body_stall_timeout"]);
    }
    assert_eq!((rejected(&gateway, "body_stall"), peer.connections()), (2.0, 0));
}

#[test]
fn a_client_that_owes_its_body_does_not_delay_the_end() {
    let peer = well();
    let gateway = before(&peer).env("drain_timeout", "60s").env("body_stall_timeout", "60s").start();
    let mut owes = send(&gateway, 1, &raw("POST", OWES, "")).remove(0);
    are_active(&gateway, 2);
    gateway.signal(proc::SIGTERM);
    is_own(&owes.within(SOON).reply("POST").unwrap(), (503, "draining"), &["drain_timeout"]);
    assert_eq!(gateway.wait(SOON).code(), Some(0), "{}", gateway.log());
}

#[test]
fn an_empty_chunked_body_is_complete_with_its_last_chunk() {
    let peer = well();
    let gateway = before(&peer).start();
    let mut connection = send(&gateway, 1, &raw("POST", "Transfer-Encoding: chunked\r\n", "")).remove(0);
    are_active(&gateway, 2);
    connection.send("0\r\n\r\n").unwrap();
    assert_eq!(connection.within(SOON).reply("POST").unwrap().status, 200);
    assert_eq!(peer.requests()[0].body, b"");
}

#[test]
fn a_bad_first_chunk_reaches_no_function() {
    let peer = well();
    let gateway = before(&peer).start();
    let request = raw("POST", "Transfer-Encoding: chunked\r\n", "zz\r\n");
    let reply = send(&gateway, 1, &request)[0].within(SOON).reply("POST").unwrap();
    is_own(&reply, (400, "chunk_size"), &[]);
    assert_eq!(peer.connections(), 0);
}

#[test]
fn a_request_refused_by_its_head_does_not_wait_for_its_body() {
    let none = json!({ "name": ONE, "fprocess": "cat", "environment": { "exec_timeout": "never" } });
    let other = well();
    let gateway = gateway(&[at(OTHER, &[other.addr()]), none]).env("max_body", "9").start();
    let expects = "Content-Length: 9\r\nExpect: 100-continue\r\n";
    let unknown = format!("POST /function/nobody HTTP/1.1\r\nHost: x\r\n{expects}\r\n");
    let too_large =
        format!("POST /function/{OTHER} HTTP/1.1\r\nHost: x\r\n{OWES}Expect: 100-continue\r\n\r\n");
    eventually(SOON, || match gateway.get(&path("")).header("x-gateway-error") {
        Some("cannot_start") => Ok(()),
        kind => Err(format!("{kind:?}")),
    });
    for (request, want) in [
        (unknown, (404, "unknown_function")),
        (too_large, (413, "body_too_large")),
        (raw("POST", expects, ""), (503, "cannot_start")),
    ] {
        let reply = send(&gateway, 1, &request)[0].within(SOON).reply("POST").unwrap();
        assert_eq!((reply.status, reply.header("x-gateway-error")), (want.0, Some(want.1)));
        assert!(reply.interim.is_empty(), "not told to go on");
    }
}

#[test]
fn a_client_that_leaves_before_its_body_is_not_counted_as_a_call() {
    let peer = well();
    let gateway = before(&peer).start();
    for mut connection in send(&gateway, 20, &raw("POST", OWES, "")) {
        connection.end();
        let raw = connection.within(SOON).rest();
        assert_eq!((raw.bytes, raw.end), (vec![], End::Reset));
    }
    assert_eq!((of_one(&gateway, "gateway_function_invocation_started"), peer.connections()), (0.0, 0));
}

#[test]
fn a_drain_answers_requests_whose_body_has_not_begun() {
    let gateway = before(&well()).env("drain_timeout", "60s").start();
    let mut silent = send(&gateway, 2, &raw("POST", OWES, ""));
    are_active(&gateway, 3);
    gateway.signal(proc::SIGTERM);
    gateway.wait_log("draining", SOON);
    silent[0].send("0123456789").unwrap();
    for connection in &mut silent {
        is_own(&connection.within(SOON).reply("POST").unwrap(), (503, "draining"), &["drain_timeout"]);
    }
    assert_eq!(gateway.wait(SOON).code(), Some(0), "{}", gateway.log());
}

/// A function that answers when the gate opens, and one that answers at once; this machine is the proxy.
fn behind_a_proxy(gate: &Gate) -> (Peer, Peer, testkit::Bin) {
    let slow = Peer::tcp(Script::new().request().wait(gate).send(OK).repeat());
    let other = well();
    let functions: [Value; 2] = [at(ONE, &[slow.addr()]), at(OTHER, &[other.addr()])];
    let bin = gateway(&functions).env("trusted_proxies", "127.0.0.1").env("max_workers", "8");
    (slow, other, bin)
}

fn from(client: &str) -> String {
    format!("X-Forwarded-For: {client}\r\n")
}

#[test]
fn calls_beyond_a_clients_share_wait_and_other_clients_overtake() {
    let gate = Gate::new();
    let (slow, _other, bin) = behind_a_proxy(&gate);
    let gateway = bin.env("max_workers_per_client", "2").env("header_timeout", "2s").start();
    // A site has one /64 network, so these are one client.
    let mut calls: Vec<Connection> = ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::"]
        .map(|client| send(&gateway, 1, &raw("GET", &from(client), "")).remove(0))
        .into();
    slow.wait_requests(2, SOON);
    let mut beside = send(&gateway, 1, &raw("GET", &from("2001:db8:0:1::1"), "")).remove(0);
    slow.wait_requests(3, SOON);
    assert_eq!(call(&gateway, OTHER), 200, "another client");
    let mut replies: Vec<Reply> = vec![];
    let refused = eventually(SOON, || {
        replies.extend(calls.iter_mut().filter_map(|call| call.within(SOON / 100).reply("GET").ok()));
        replies.pop().ok_or_else(|| "all wait".to_owned())
    });
    is_own(&refused, (429, "too_many_of_client"), &["max_workers_per_client"]);
    assert_eq!(rejected(&gateway, "too_many_of_client"), 1.0);
    gate.open();
    assert_eq!(beside.within(SOON).reply("GET").unwrap().status, 200);
}

#[test]
fn a_waiting_call_beyond_the_clients_share_is_served_when_another_ends() {
    let gate = Gate::new();
    let (slow, _other, bin) = behind_a_proxy(&gate);
    let gateway = bin.env("max_workers_per_client", "2").env("header_timeout", "60s").start();
    let mut calls = send(&gateway, 9, &raw("GET", &from("192.0.2.7"), ""));
    slow.wait_requests(2, SOON);
    eventually(SOON, || match gateway.metrics("/metrics").value("gateway_workers", &[("state", "queued")]) {
        Some(7.0) => Ok(()),
        queued => Err(format!("{queued:?} wait")),
    });
    assert_eq!(slow.requests().len(), 2);
    gate.open();
    calls.iter_mut().for_each(|call| assert_eq!(call.within(SOON).reply("GET").unwrap().status, 200));
}

#[test]
fn calls_beyond_a_functions_share_wait_and_other_functions_overtake() {
    let gate = Gate::new();
    let (slow, _other, bin) = behind_a_proxy(&gate);
    let gateway = bin.env("max_workers_per_function", "2").start();
    let mut calls = send(&gateway, 2, &raw("GET", "", ""));
    slow.wait_requests(2, SOON);
    let mut late = send(&gateway, 1, &raw("GET", "X-Timeout: 300ms\r\n", "")).remove(0);
    let refused = late.within(SOON).reply("GET").unwrap();
    is_own(&refused, (503, "too_many_of_function"), &["`one`", "max_workers_per_function"]);
    assert_eq!(rejected(&gateway, "too_many_of_function"), 1.0);
    calls.extend(send(&gateway, 5, &raw("GET", "", "")));
    becomes(&gateway, "gateway_function_waiting", 5.0);
    assert_eq!((call(&gateway, OTHER), slow.requests().len()), (200, 2));
    gate.open();
    calls.iter_mut().for_each(|call| assert_eq!(call.within(SOON).reply("GET").unwrap().status, 200));
}

#[test]
fn a_client_at_its_share_does_not_delay_other_clients_of_the_function() {
    let (turn, held) = (Gate::new(), Gate::new());
    let (limited, slow) = (
        Peer::tcp(Script::new().request().wait(&turn).send(OK).repeat()),
        Peer::tcp(Script::new().request().wait(&held).send(OK).repeat()),
    );
    let mut one = at(ONE, &[limited.addr()]);
    one["labels"] = json!({ "faas.concurrency": "1" });
    let bin = gateway(&[one, at(OTHER, &[slow.addr()])]).env("trusted_proxies", "127.0.0.1");
    let gateway = bin.env("max_workers", "8").env("max_workers_per_client", "2").start();
    let send_as = |client: &str, name: &str| {
        let request = format!("GET /function/{name} HTTP/1.1\r\nHost: test\r\n{}\r\n", from(client));
        send(&gateway, 1, &request).remove(0)
    };
    let mut first = send_as("192.0.2.1", ONE);
    limited.wait_requests(1, SOON);
    let mut greedy = vec![send_as("192.0.2.2", ONE)];
    becomes(&gateway, "gateway_function_waiting", 1.0);
    greedy.extend([send_as("192.0.2.2", OTHER), send_as("192.0.2.2", OTHER)]);
    slow.wait_requests(2, SOON);
    let mut second = send_as("192.0.2.1", ONE);
    becomes(&gateway, "gateway_function_waiting", 2.0);
    turn.open();
    for call in [&mut first, &mut second] {
        assert_eq!(call.within(SOON).reply("GET").unwrap().status, 200);
    }
    held.open();
    greedy.iter_mut().for_each(|call| assert_eq!(call.within(SOON).reply("GET").unwrap().status, 200));
}

/// A connection from another address of this machine.
fn connect_from(gateway: &Running, last: u8) -> Connection {
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
    Connection::open_from(from, gateway.addr()).unwrap()
}

#[test]
fn a_client_at_its_share_of_connections_loses_its_oldest_idle_one() {
    let peer = well();
    let gateway = before(&peer).env("max_connections_per_client", "3").start();
    let mut kept = connect_from(&gateway, 9);
    let ask = |connection: &mut Connection| {
        connection.send(raw("GET", "", "")).unwrap();
        connection.within(SOON).reply("GET").unwrap()
    };
    assert_eq!(ask(&mut kept).status, 200);
    let mut own: Vec<_> = (0..4).map(|_| connect_from(&gateway, 8)).collect();
    // The client's longest idle connection is closed, although another client's is idle for longer.
    let raw = own.remove(0).within(SOON).rest();
    assert_eq!((raw.bytes, raw.end), (vec![], End::Closed));
    own.iter_mut().for_each(|connection| assert_eq!(ask(connection).status, 200));
    assert_eq!(ask(&mut kept).status, 200);
}

#[test]
fn a_client_whose_connections_are_all_busy_gets_429() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let gateway = before(&peer).env("max_connections_per_client", "2").start();
    let mut own: Vec<_> = (0..2).map(|_| connect_from(&gateway, 8)).collect();
    own.iter_mut().for_each(|connection| connection.send(raw("GET", "", "")).unwrap());
    peer.wait_requests(2, SOON);
    let reply = connect_from(&gateway, 8).within(SOON).reply("GET").unwrap();
    is_own(&reply, (429, "too_many_of_client"), &["max_connections_per_client"]);
    gate.open();
    own.iter_mut().for_each(|connection| {
        assert_eq!(connection.within(SOON).reply("GET").unwrap().status, 200);
    });
    // Of a client's connections, one that owes a body is closed first.
    let mut owes = own.remove(0);
    owes.send(raw("POST", OWES, "")).unwrap();
    own[0].send(raw("GET", "", "")).unwrap();
    assert_eq!(own[0].within(SOON).reply("GET").unwrap().status, 200);
    are_active(&gateway, 2);
}

#[test]
fn connections_with_silent_bodies_make_way_for_other_requests() {
    let peer = well();
    let gateway = before(&peer).env("max_connections", "20").env("max_connections_per_client", "20").start();
    let _silent = send(&gateway, 19, &raw("POST", OWES, ""));
    are_active(&gateway, 20);
    let mut last = send(&gateway, 1, &raw("POST", &format!("{OWES}Expect: 100-continue\r\n"), "")).remove(0);
    assert_eq!(last.within(SOON).head().unwrap().status, 100);
    assert_eq!(call(&gateway, ONE), 200);
    // The requests for metrics are connections too, and may come before the last one is closed.
    assert!(rejected(&gateway, "too_many_of_client") >= 1.0);
    last.send("0123456789").unwrap();
    assert_eq!(last.within(SOON).reply("POST").unwrap().status, 200);
}

#[test]
fn one_client_cannot_fill_the_queue() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let mut function = at(ONE, &[peer.addr()]);
    function["labels"] = json!({ "faas.concurrency": "1" });
    let gateway = gateway(&[function]).env("max_connections", "100").env("max_connections_per_client", "8");
    let gateway = gateway.start();
    let mut own: Vec<_> = (0..7).map(|_| connect_from(&gateway, 8)).collect();
    own.iter_mut().for_each(|connection| connection.send(raw("GET", "", "")).unwrap());
    becomes(&gateway, "gateway_function_waiting", 6.0);
    let mut more = connect_from(&gateway, 8);
    more.send(raw("GET", "", "")).unwrap();
    let reply = more.within(SOON).reply("GET").unwrap();
    is_own(&reply, (429, "too_many_of_client"), &["max_connections_per_client"]);
    let mut other = connect_from(&gateway, 9);
    other.send(raw("GET", "", "")).unwrap();
    becomes(&gateway, "gateway_function_waiting", 7.0);
    gate.open();
    own.iter_mut().chain([&mut other]).for_each(|connection| {
        assert_eq!(connection.within(SOON).reply("GET").unwrap().status, 200);
    });
}
