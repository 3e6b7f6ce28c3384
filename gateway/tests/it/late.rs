//! Tasks that run and do not listen, or do not listen yet.

use std::net::{SocketAddr, TcpListener};

use serde_json::{Value, json};
use testkit::unreachable::reserved_port;
use testkit::{Peer, Running, Script, eventually};

use crate::engines::{below, gateway, knows};
use crate::swarm::{Engine, serves, service, task};
use crate::{OK, SOON, is_own, well};

/// Waits until so many calls of a function are waiting.
#[track_caller]
fn wait(gateway: &Running, name: &str, count: f64) {
    eventually(SOON, || {
        let waiting =
            gateway.metrics("/metrics").value("gateway_function_waiting", &[("function_name", name)]);
        if waiting == Some(count) { Ok(()) } else { Err(format!("{waiting:?} wait, not {count}")) }
    });
}

/// A task is reported as running when its container runs, whether or not its program listens.
#[test]
fn calls_wait_until_a_running_task_listens() {
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
fn calls_avoid_a_new_task_until_it_listens() {
    let (engine, first) = (Engine::start(), well());
    let port = first.addr().port();
    // The second task: the same port at another loopback address.
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
fn a_task_that_never_listens_is_504_with_a_kind_of_its_own() {
    let engine = Engine::start();
    let address = SocketAddr::from(([127, 0, 0, 1], reserved_port()));
    engine.runs(service("deaf", json!({}), address), address);
    let gateway = gateway(&engine.peer).env("upstream_timeout", "500ms").start();
    knows(&gateway, 1);
    let parts =
        ["`deaf`", "500ms", &address.to_string(), "take connections", "faas.port", "upstream_timeout"];
    is_own(&gateway.get("/function/deaf"), (504, "timeout_replica"), &parts);
}

/// A task that ended with this error; another one follows after a pause.
fn ended(service: &Value, (version, state, error): (u64, &str, &str)) -> Value {
    json!({
        "ID": format!("{}-{version}", service["ID"].as_str().unwrap()),
        "Version": { "Index": version },
        "ServiceID": service["ID"],
        "DesiredState": "shutdown",
        "Status": { "State": state, "Err": error },
    })
}

#[test]
fn broken_functions_are_refused_in_the_engines_words_with_one_request_for_all() {
    const FUNCTIONS: u64 = 12;
    let engine = Engine::start();
    let address = SocketAddr::from(([127, 0, 0, 1], reserved_port()));
    let services: Vec<Value> =
        (0..FUNCTIONS).map(|number| service(&format!("broken{number}"), json!({}), address)).collect();
    engine.says("services", json!(services));
    let gateway = gateway(&engine.peer).start();
    knows(&gateway, FUNCTIONS as usize);
    let waiting: Vec<Value> = services.iter().map(|service| {
        json!({ "ID": format!("next-{}", service["ID"]), "ServiceID": service["ID"], "DesiredState": "ready", "Status": { "State": "ready" } })
    }).collect();
    let fails = |service: &Value, number: u64| {
        [2, 3]
            .map(|version| ended(service, (version, "failed", &format!("task: non-zero exit (10{number})"))))
    };
    let all = services.iter().zip(0..).flat_map(|(service, number)| fails(service, number)).chain(waiting);
    // The gateway asks for tasks that should run separately, and must check their state: the script gives the
    // same list.
    engine.says("tasks", json!(all.collect::<Vec<_>>()));
    for number in 0..FUNCTIONS {
        let reply = gateway.get(&format!("/function/broken{number}"));
        is_own(
            &reply,
            (503, "cannot_start"),
            &[&format!("`broken{number}`"), &format!("non-zero exit (10{number})")],
        );
    }
    let requests = engine.peer.requests();
    let count = |is: &dyn Fn(&str) -> bool| {
        requests.iter().filter(|request| below(request) == "tasks" && is(&request.target)).count()
    };
    let looks = count(&|target| target.contains("desired-state"));
    let of_all = count(&|target| target.contains("service") && !target.contains("desired-state"));
    assert!((1..=looks).contains(&of_all), "{of_all} questions in {looks} looks");
}

#[test]
fn an_unhealthy_task_is_called_only_without_a_healthy_one() {
    let engine = Engine::start();
    let first = well();
    let second = SocketAddr::from(([127, 0, 0, 2], first.addr().port()));
    let second =
        Peer::on(TcpListener::bind(second).unwrap(), vec![Script::new().request().send(OK).repeat()]);
    let service = service("echo", json!({}), first.addr());
    let [one, mut other] = [&first, &second].map(|peer| task(&service, peer.addr()));
    other["ID"] = json!("other");
    let both = json!([one, other]);
    engine.says("tasks", both.clone());
    engine.says("services", json!([service]));
    let unhealthy =
        |task: &Value| json!([{ "Id": "c1", "Labels": { "com.docker.swarm.task.id": task["ID"] } }]);
    engine.says("containers/json", unhealthy(&one)); // unhealthy before the gateway starts
    let gateway = gateway(&engine.peer).start();
    serves(&gateway, "echo");
    let ready = || gateway.metrics("/metrics").value("gateway_service_ready", &[("function_name", "echo")]);
    eventually(SOON, || if ready() == Some(2.0) { Ok(()) } else { Err(format!("{:?} ready", ready())) });
    engine.is_looked_at(2);
    let calls = || {
        let before = [&first, &second].map(|peer| peer.requests().len());
        (0..50).for_each(|_| assert_eq!(gateway.get("/function/echo").status, 200));
        let after = [&first, &second].map(|peer| peer.requests().len());
        [after[0] - before[0], after[1] - before[1]]
    };
    // The engine's news reach the calls a moment later.
    let share_becomes = |what: &str, is: fn([usize; 2]) -> bool| {
        eventually(SOON, || match calls() {
            share if is(share) => Ok(()),
            share => Err(format!("{what}, and of 50 calls each had {share:?}")),
        });
    };
    share_becomes("the first was unhealthy before", |share| share == [0, 50]);
    let health = |task: &Value, status: &str| {
        let labels =
            json!({ "com.docker.swarm.task.id": task["ID"], "com.docker.swarm.service.id": service["ID"] });
        let action = format!("health_status: {status}");
        engine.tells(
            &json!({ "Type": "container", "Action": action, "Actor": { "ID": "c", "Attributes": labels } }),
        );
    };
    health(&one, "healthy");
    share_becomes("both are healthy", |[first, second]| first > 0 && second > 0);
    health(&other, "unhealthy");
    share_becomes("the second is unhealthy", |share| share == [50, 0]);
    engine.says("tasks", json!([other]));
    share_becomes("there is no other", |share| share == [0, 50]);
}

#[test]
fn with_faas_wait_healthy_the_first_task_is_called_once_healthy() {
    let (engine, well) = (Engine::start(), well());
    let starting = |name: &str, label: &str| {
        let service = service(name, json!({ "faas.wait": label }), well.addr());
        let mut task = task(&service, well.addr());
        task["Status"]["State"] = json!("starting");
        (service, task)
    };
    let ((patient, mut its_task), (hasty, other)) =
        (starting("patient", "healthy"), starting("hasty", "listening"));
    engine.says("tasks", json!([its_task, other]));
    engine.says("services", json!([patient, hasty]));
    let gateway = gateway(&engine.peer).start();
    knows(&gateway, 2);
    let mut call = gateway.connect();
    call.send("GET /function/patient HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    serves(&gateway, "hasty");
    wait(&gateway, "patient", 1.0);
    assert_eq!(well.requests().len(), 1, "only the other one");
    its_task["Status"]["State"] = json!("running");
    engine.says("tasks", json!([its_task, other]));
    assert_eq!(call.within(3 * SOON).reply("GET").unwrap().status, 200);
}
