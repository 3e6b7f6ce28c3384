//! The drain: after SIGTERM running calls finish, and nothing is left behind.
//!
//! A test whose end must not wait for `drain_timeout` sets it so long that waiting would fail the test.

use std::net::{SocketAddr, TcpListener};
use std::panic;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use testkit::http::Connection;
use testkit::{Gate, Peer, Running, Script, eventually, proc, program};

use crate::{OK, ONE, SOON, before, gateway, is_own, path, process, raw, well};

/// Longer than any test waits for an end.
const LONG: &str = "60s";

#[track_caller]
fn leaves_nothing(gateway: &Running) {
    eventually(SOON, || match gateway.descendants() {
        left if left.is_empty() => Ok(()),
        left => Err(left.iter().map(|pid| proc::command_line(*pid)).collect::<Vec<_>>().join("; ")),
    });
}

#[test]
fn an_idle_gateway_ends_at_once() {
    for signal in [proc::SIGTERM, proc::SIGINT, proc::SIGQUIT] {
        let gateway = gateway(&[process(ONE, "cat")]).env("drain_timeout", LONG).start();
        let mut idle = gateway.client();
        assert_eq!(idle.request().method("POST").path(path("")).body("x").send().unwrap().status, 200);
        assert!(!gateway.descendants().is_empty());
        gateway.signal(signal);
        assert_eq!(gateway.wait(SOON).code(), Some(0), "{}", gateway.log());
        leaves_nothing(&gateway);
        assert!(gateway.log().ends_with("info stopped\n"), "{}", gateway.log());
    }
}

#[test]
fn running_calls_finish_during_a_drain_and_new_calls_are_refused() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let gateway = before(&peer).env("drain_timeout", LONG).start();
    let mut running = gateway.connect();
    running.send(raw("POST", "Content-Length: 2\r\n", "hi")).unwrap();
    peer.wait_requests(1, SOON);
    assert_eq!(gateway.get("/healthz").status, 200);
    gateway.signal(proc::SIGTERM);
    gateway.wait_log("draining", SOON);
    eventually(SOON, || match gateway.request().path("/healthz").send() {
        Ok(reply) if reply.status == 503 => {
            is_own(&reply, (503, "draining"), &["drain_timeout"]);
            Ok(())
        }
        other => Err(format!("{other:?}")),
    });
    let reply = gateway.post(&path(""), "x");
    is_own(&reply, (503, "draining"), &["drain_timeout"]);
    assert!(!reply.head.keeps_alive());
    assert_eq!(gateway.get("/metrics").status, 200, "to the end it can be watched");
    assert!(gateway.try_status().is_none());
    gate.open();
    let reply = running.within(SOON).reply("POST").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
    assert!(reply.head.has_token("connection", "close"));
    assert_eq!(gateway.wait(SOON).code(), Some(0), "{}", gateway.log());
    assert_eq!(peer.requests().len(), 1);
}

#[test]
fn a_running_call_to_a_local_process_finishes_during_a_drain() {
    let function = process(ONE, "sh -c 'read line; echo got $line'");
    let gateway = gateway(&[function]).env("drain_timeout", LONG).start();
    let mut running = gateway.connect();
    running.send(raw("POST", "Content-Length: 4\r\n", "e")).unwrap();
    eventually(SOON, || match gateway.metrics("/metrics").sum("gateway_function_inflight", &[]) {
        1.0 => Ok(()),
        count => Err(format!("{count} in flight")),
    });
    gateway.signal(proc::SIGTERM);
    gateway.wait_log("draining", SOON);
    running.send("nd\n").unwrap();
    assert_eq!(running.within(SOON).reply("POST").unwrap().text(), "got end\n");
    assert_eq!(gateway.wait(SOON).code(), Some(0), "{}", gateway.log());
    leaves_nothing(&gateway);
}

#[test]
fn drain_timeout_ends_unfinished_calls() {
    let gateway =
        gateway(&[process(ONE, &program("spawns_grandchild"))]).env("drain_timeout", "300ms").start();
    let mut running = gateway.connect();
    running.send(raw("GET", "", "")).unwrap();
    gateway.wait_log("ready", SOON);
    let started = Instant::now();
    gateway.signal(proc::SIGTERM);
    gateway.wait(SOON);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300) && took < SOON, "{took:?}");
    assert!(gateway.log().contains("drain_timeout passed"), "{}", gateway.log());
    leaves_nothing(&gateway);
    // The process or the gateway ends the call; it does not succeed.
    if let Ok(reply) = running.within(SOON).reply("GET") {
        assert!(reply.status >= 500, "{}", reply.status);
    }
}

#[test]
fn a_second_signal_ends_the_gateway_at_once() {
    let gateway = gateway(&[process(ONE, &program("sleeps"))]).env("drain_timeout", LONG).start();
    let mut running = gateway.connect();
    running.send(raw("GET", "", "")).unwrap();
    gateway.wait_log("ready", SOON);
    gateway.signal(proc::SIGTERM);
    gateway.wait_log("draining", SOON);
    gateway.signal(proc::SIGTERM);
    gateway.wait(SOON);
    leaves_nothing(&gateway);
}

#[test]
fn idle_connections_do_not_delay_the_end() {
    let peer = well();
    let gateway = before(&peer).env("drain_timeout", LONG).env("header_timeout", LONG).start();
    let idle = testkit::floods::idle_connections(gateway.addr(), 20, &path(""));
    let silent = testkit::floods::open_connections(gateway.addr(), 20);
    gateway.signal(proc::SIGTERM);
    assert_eq!(gateway.wait(SOON).code(), Some(0), "{}", gateway.log());
    drop((idle, silent));
}

/// A free port below ip_local_port_range, so that no outgoing connection takes it.
fn lasting_port() -> u16 {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..32_768).find(is_free).unwrap()
}

/// Each call is answered by the function or with 503 `draining`, or was never accepted. The function sees
/// only the calls that it answers.
#[test]
fn a_restart_under_load_answers_every_accepted_call() {
    let peer = well();
    let port = lasting_port();
    let start = || before(&peer).env("port", port.to_string()).env("drain_timeout", LONG).start();
    let is_over = AtomicBool::new(false);
    let client = || {
        let mut answered = 0;
        while !is_over.load(Relaxed) {
            let Ok(mut connection) = Connection::open(SocketAddr::from(([127, 0, 0, 1], port))) else {
                continue;
            };
            let began = Instant::now();
            if connection.send(raw("POST", "Content-Length: 2\r\n", "hi")).is_err() {
                continue; // it was not accepted
            }
            match connection.within(SOON).reply("POST") {
                Ok(reply) if reply.status == 200 => answered += 1,
                Ok(reply) => is_own(&reply, (503, "draining"), &["drain_timeout"]),
                Err(error) => assert!(began.elapsed() < SOON, "{error}"), // nor was this one
            }
        }
        answered
    };
    let answered: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        let ends = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            for round in 1..=4 {
                let gateway = start();
                let seen = peer.requests().len();
                peer.wait_requests(seen + 50, SOON);
                gateway.signal(proc::SIGTERM);
                assert_eq!(gateway.wait(SOON).code(), Some(0), "round {round}: {}", gateway.log());
            }
        }));
        is_over.store(true, Relaxed); // also after a failed check
        let answered = clients.into_iter().map(|client| client.join().unwrap()).sum();
        ends.unwrap_or_else(|panic| panic::resume_unwind(panic));
        answered
    });
    assert_eq!(peer.requests().len(), answered);
}
