//! Tasks that run and do not listen, or not yet.

use std::net::{SocketAddr, TcpListener};

use serde_json::json;
use testkit::unreachable::reserved_port;
use testkit::{Peer, Running, Script, eventually};

use crate::engines::{gateway, knows};
use crate::swarm::{Engine, serves, service, task};
use crate::{OK, SOON, is_own, well};

/// Waits until so many calls of a function wait.
#[track_caller]
fn wait(gateway: &Running, name: &str, count: f64) {
    eventually(SOON, || {
        let waiting =
            gateway.metrics("/metrics").value("gateway_function_waiting", &[("function_name", name)]);
        if waiting == Some(count) { Ok(()) } else { Err(format!("{waiting:?} wait, not {count}")) }
    });
}

/// The task says that it runs as soon as its container does, whether or not the program in there listens.
#[test]
fn calls_wait_for_a_task_that_runs_and_listens_late() {
    const CALLS: usize = 20;
    let engine = Engine::start();
    let address = SocketAddr::from(([127, 0, 0, 1], reserved_port()));
    engine.runs(service("late", json!({}), address), address);
    let gateway = gateway(&engine.peer).env("connect_timeout", "100ms").start();
    knows(&gateway, 1);
    let mut calls: Vec<_> = (0..CALLS).map(|_| gateway.connect()).collect();
    for call in &mut calls {
        call.send("GET /function/late HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    }
    wait(&gateway, "late", CALLS as f64);
    engine.is_looked_at(10);
    let _peer =
        Peer::on(TcpListener::bind(address).unwrap(), vec![Script::new().request().send(OK).repeat()]);
    for call in &mut calls {
        assert_eq!(call.within(3 * SOON).reply("GET").unwrap().status, 200);
    }
}

#[test]
fn calls_go_to_the_others_while_a_new_task_does_not_listen() {
    let (engine, first) = (Engine::start(), well());
    let port = first.addr().port();
    // The same port at another address of loopback, which is the second task's.
    let late = SocketAddr::from(([127, 0, 0, 2], port));
    let service = service("grows", json!({}), first.addr());
    engine.runs(service.clone(), first.addr());
    let gateway = gateway(&engine.peer).start();
    serves(&gateway, "grows");
    let mut second = task(&service, late);
    second["ID"] = json!("second");
    engine.says("tasks", json!([task(&service, first.addr()), second]));
    engine.is_looked_at(2);
    let call = || gateway.get("/function/grows").status;
    assert_eq!((0..100).map(|_| call()).filter(|status| *status == 200).count(), 100);
    let connects = [("function_name", "grows"), ("reason", "connect")];
    let retries = gateway.metrics("/metrics").value("gateway_upstream_retries_total", &connects);
    assert_eq!(retries.unwrap_or(0.0), 0.0, "no call has paid for it");
    let second = Peer::on(TcpListener::bind(late).unwrap(), vec![Script::new().request().send(OK).repeat()]);
    eventually(SOON, || match (call(), second.requests().len()) {
        (200, 1..) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_task_that_never_listens_is_504_and_told_apart_from_none() {
    let engine = Engine::start();
    let address = SocketAddr::from(([127, 0, 0, 1], reserved_port()));
    engine.runs(service("deaf", json!({}), address), address);
    let gateway = gateway(&engine.peer).env("upstream_timeout", "500ms").start();
    knows(&gateway, 1);
    let parts =
        ["`deaf`", "500ms", &address.to_string(), "take connections", "faas.port", "upstream_timeout"];
    is_own(&gateway.get("/function/deaf"), (504, "timeout_replica"), &parts);
}
