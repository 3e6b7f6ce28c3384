//! The Swarm provider before a scripted engine: which services are functions, and what is said while the engine
//! cannot be asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Bin, Peer, Running, Script, eventually};

use crate::engines::{below, document, gateway, head, knows};
use crate::{SOON, is_own, well};

/// What the engine answers to a path below its version.
#[derive(Clone)]
enum Says {
    Document(Value),
    Refuses(u16, &'static str),
    /// Takes the request and says nothing.
    Nothing,
}

/// A scripted engine whose answers change.
pub(crate) struct Engine {
    pub(crate) peer: Peer,
    answers: Arc<Mutex<BTreeMap<String, Says>>>,
}

const NOT_MANAGER: &str =
    "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state.";

impl Engine {
    /// One with the network `functions` and no services.
    pub(crate) fn start() -> Engine {
        let answers: Arc<Mutex<BTreeMap<String, Says>>> = Arc::default();
        let script = Script::new().request().answer({
            let answers = Arc::clone(&answers);
            move |request| match below(request) {
                "/_ping" => head("Api-Version: 1.41\r\nContent-Length: 2\r\n", "OK"),
                "events" if !lock(&answers).contains_key("events") => {
                    head("Transfer-Encoding: chunked\r\n", "")
                }
                path => {
                    let answers = lock(&answers);
                    // One service is as all of them are, unless something else was said of it.
                    let one = path.strip_prefix("services/").filter(|_| !answers.contains_key(path));
                    let says = answers.get(if one.is_some() { "services" } else { path });
                    match (says, one) {
                        (Some(Says::Document(all)), Some(one)) => {
                            let is_it =
                                |service: &&Value| service["ID"] == one || service["Spec"]["Name"] == one;
                            let found = all.as_array().and_then(|all| all.iter().find(is_it));
                            found.map_or_else(|| refusal(404, "no such service"), document)
                        }
                        (Some(Says::Document(value)), None) => document(value),
                        (Some(Says::Refuses(status, why)), _) => refusal(*status, why),
                        (Some(Says::Nothing), _) => Vec::new(),
                        (None, _) => refusal(404, "not found"),
                    }
                }
            }
        });
        let engine = Engine { peer: Peer::tcp(script.repeat()), answers };
        engine.says("networks", json!([network("n1", "functions")]));
        engine.says("services", json!([]));
        engine.says("tasks", json!([]));
        engine
    }

    pub(crate) fn says(&self, path: &str, value: Value) {
        self.set(path, Says::Document(value));
    }

    fn set(&self, path: &str, says: Says) {
        lock(&self.answers).insert(path.to_owned(), says);
    }

    /// Tells an event.
    pub(crate) fn tells(&self, event: &Value) {
        let line = format!("{event}\n");
        self.peer.send_where("/events?", format!("{:x}\r\n{line}\r\n", line.len()));
    }

    /// How often the services were asked for.
    fn looks(&self) -> usize {
        self.peer.requests().iter().filter(|request| below(request) == "services").count()
    }

    /// Has one service with one task at this address.
    pub(crate) fn runs(&self, service: Value, address: SocketAddr) {
        self.says("tasks", json!([task(&service, address)]));
        self.says("services", json!([service]));
    }
}

impl Engine {
    /// Waits until the gateway has asked for the tasks so many times more.
    #[track_caller]
    pub(crate) fn is_looked_at(&self, times: usize) {
        let looks = || self.peer.requests().iter().filter(|request| below(request) == "tasks").count();
        let want = looks() + times;
        eventually(SOON, || match looks() {
            looks if looks >= want => Ok(()),
            looks => Err(format!("{looks} looks, not {want}")),
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refusal(status: u16, why: &str) -> Vec<u8> {
    let body = json!({ "message": why }).to_string();
    format!("HTTP/1.1 {status} No\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn network(id: &str, name: &str) -> Value {
    json!({ "Id": id, "Name": name, "Driver": "overlay", "Scope": "swarm" })
}

/// A service on the network `n1` that is called at this address' port.
pub(crate) fn service(name: &str, labels: Value, address: SocketAddr) -> Value {
    let mut labels = labels;
    labels["faas.port"] = json!(address.port().to_string());
    json!({
        "ID": format!("id-{name}"),
        "Version": { "Index": 1 },
        "Spec": {
            "Name": name,
            "Labels": labels,
            "Mode": { "Replicated": { "Replicas": 1 } },
            "TaskTemplate": { "Networks": [{ "Target": "n1" }], "ContainerSpec": { "Image": "echo" } },
        },
    })
}

pub(crate) fn task(service: &Value, address: SocketAddr) -> Value {
    json!({
        "ID": format!("task-{}", service["ID"].as_str().unwrap()),
        "ServiceID": service["ID"],
        "DesiredState": "running",
        "Status": { "State": "running" },
        "NetworksAttachments": [{
            "Network": { "ID": "n1", "Spec": { "Name": "functions" } },
            "Addresses": [format!("{}/8", address.ip())],
        }],
    })
}

/// Waits until a call of a function is answered 200.
#[track_caller]
pub(crate) fn serves(gateway: &Running, name: &str) {
    eventually(SOON, || match gateway.get(&format!("/function/{name}")) {
        reply if reply.status == 200 => Ok(()),
        reply => Err(reply.text()),
    });
}

/// A gateway that is not told who runs the functions, but where the engine is.
fn auto(engine: &Engine) -> Bin {
    gateway(&engine.peer).without_env("provider")
}

/// Waits until the health begins like this.
#[track_caller]
fn health_begins(gateway: &Running, want: &str) -> String {
    eventually(SOON, || match gateway.get("/healthz").text() {
        text if text.starts_with(want) => Ok(text),
        text => Err(text),
    })
}

#[test]
fn while_the_engine_cannot_be_asked_an_unknown_name_may_be_a_function() {
    let (engine, well) = (Engine::start(), well());
    engine.runs(service("echo", json!({}), well.addr()), well.addr());
    let gateway = gateway(&engine.peer).start();
    serves(&gateway, "echo");
    is_own(&gateway.get("/function/new"), (404, "unknown_function"), &["`new`"]);

    engine.set("services", Says::Refuses(503, NOT_MANAGER));
    health_begins(&gateway, "degraded: failed to list services: ");
    let parts = ["`new`", "may be new", "not a swarm manager"];
    is_own(&gateway.get("/function/new"), (503, "provider_down"), &parts);
    is_own(&gateway.get("/system/function/new"), (503, "provider_down"), &parts);
    serves(&gateway, "echo");
    let alert = json!({ "status": "firing", "alerts": [{ "status": "firing", "labels": { "function_name": "new" } }] });
    let text = gateway.post("/system/alert", alert.to_string()).text();
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    let rejected =
        |reason| gateway.metrics("/metrics").value("gateway_rejected_total", &[("reason", reason)]);
    assert_eq!((rejected("unknown_function"), rejected("provider_down")), (Some(1.0), Some(1.0)));

    engine.says("services", json!([]));
    health_begins(&gateway, "ok");
    is_own(&gateway.get("/function/new"), (404, "unknown_function"), &["`new`"]);
}

#[test]
fn an_engine_that_has_just_begun_to_hang_does_not_make_a_name_unknown() {
    let engine = Engine::start();
    let gateway = gateway(&engine.peer).start();
    health_begins(&gateway, "ok");
    engine.set("services", Says::Nothing);
    is_own(&gateway.get("/function/new"), (503, "provider_down"), &["`new`", "cannot be asked"]);
}

#[test]
fn jobs_are_no_functions() {
    let (engine, well) = (Engine::start(), well());
    let mut job = service("job", json!({}), well.addr());
    job["Spec"]["Mode"] = json!({ "ReplicatedJob": { "MaxConcurrent": 1 } });
    let mut global = service("everywhere", json!({}), well.addr());
    global["Spec"]["Mode"] = json!({ "GlobalJob": {} });
    let echo = service("echo", json!({}), well.addr());
    engine.says("tasks", json!([&job, &global, &echo].map(|service| task(service, well.addr()))));
    engine.says("services", json!([job, global, echo]));
    let gateway = gateway(&engine.peer).start();
    serves(&gateway, "echo");
    knows(&gateway, 1);
    is_own(&gateway.get("/function/job"), (404, "unknown_function"), &["`job`"]);
}

#[test]
fn labels_of_a_stack_file_count_wherever_they_stand_and_unknown_ones_are_said_once() {
    let (engine, well) = (Engine::start(), well());
    let mut echo = service("echo", json!({}), well.addr());
    echo["Spec"]["TaskTemplate"]["ContainerSpec"]["Labels"] =
        json!({ "function": "true", "com.openfaas.scale.max": "2", "com.faas.max_replicas": "5" });
    engine.runs(echo, well.addr());
    let gateway = gateway(&engine.peer).env("require_label", "true").start();
    serves(&gateway, "echo");
    let scaled = gateway.post("/system/scale-function/echo", r#"{"replicas": 3}"#);
    is_own(&scaled, (400, "too_many_replicas"), &["0 to 2"]);
    // Unknown names make it look again, and again nothing of the label is said.
    for name in 0..3 {
        engine.peer.wait_requests(engine.peer.requests().len() + 6, SOON);
        gateway.get(&format!("/function/{name}"));
    }
    let log = gateway.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("com.faas.max_replicas")).collect();
    assert!(told.len() == 1 && told[0].contains("service echo: "), "{log}");
}

#[test]
fn auto_waits_for_an_engine_that_is_late() {
    let (engine, well) = (Engine::start(), well());
    for path in ["info", "services"] {
        engine.set(path, Says::Nothing);
    }
    let gateway = auto(&engine).start();
    health_begins(&gateway, "degraded: failed to list services ");
    is_own(&gateway.get("/function/echo"), (503, "provider_down"), &["`echo`"]);
    engine.runs(service("echo", json!({}), well.addr()), well.addr());
    serves(&gateway, "echo");
    health_begins(&gateway, "ok");
}

#[test]
fn auto_stays_with_the_swarm_while_its_node_is_no_manager() {
    let (engine, well) = (Engine::start(), well());
    let is_manager = |is: bool| {
        engine.says("info", json!({ "Swarm": { "LocalNodeState": "active", "ControlAvailable": is } }));
        for path in ["services", "tasks"] {
            engine.set(path, Says::Refuses(503, NOT_MANAGER));
        }
        if is {
            engine.runs(service("echo", json!({}), well.addr()), well.addr());
        }
    };
    let degraded =
        "degraded: failed to list services: engine answered 503: This node is not a swarm manager.";
    is_manager(false);
    let gateway = auto(&engine).start();
    health_begins(&gateway, degraded);
    is_own(&gateway.get("/function/echo"), (503, "provider_down"), &["not a swarm manager"]);
    is_manager(true);
    serves(&gateway, "echo");
    health_begins(&gateway, "ok");
    is_manager(false);
    health_begins(&gateway, degraded);
    serves(&gateway, "echo");
    is_manager(true);
    health_begins(&gateway, "ok");
}

#[test]
fn a_call_that_the_engine_forbids_is_named() {
    let engine = Engine::start();
    let forbidden = "<html>\n<h1>403 Forbidden</h1>\n</html>";
    for (path, action) in
        [("services", "list services"), ("networks", "list networks"), ("tasks", "list tasks")]
    {
        engine.set(path, Says::Refuses(403, forbidden));
        let gateway = auto(&engine).start();
        let want = format!("degraded: failed to {action}: engine answered 403: <html> <h1>403 Forbidden");
        health_begins(&gateway, &want);
        is_own(&gateway.get("/function/echo"), (503, "provider_down"), &[action, "403"]);
        engine.says(path, json!([]));
        engine.says("networks", json!([network("n1", "functions")]));
        health_begins(&gateway, "ok");
    }
}

#[test]
fn services_that_are_no_functions_cost_few_looks_whatever_they_do() {
    const SPAN: Duration = Duration::from_secs(3);
    let (engine, well) = (Engine::start(), well());
    engine.runs(service("echo", json!({}), well.addr()), well.addr());
    let gateway = gateway(&engine.peer).start();
    serves(&gateway, "echo");
    let is_settled = || {
        let (before, began) = (engine.looks(), Instant::now());
        thread::sleep(Duration::from_secs(1));
        let (looks, span) = (engine.looks() - before, began.elapsed());
        if looks as u64 <= span.as_secs() + 1 { Ok(()) } else { Err(format!("{looks} looks in {span:?}")) }
    };
    eventually(3 * SOON, is_settled);
    let of = |service: &str| {
        let attributes = json!({ "com.docker.swarm.service.id": service, "com.docker.swarm.task.id": "t" });
        json!({ "Type": "container", "Action": "die", "Actor": { "ID": "c", "Attributes": attributes } })
    };
    let update = json!({ "Type": "service", "Action": "update", "Actor": { "ID": "other" } });
    let connect = json!({
        "Type": "network", "Action": "connect", "Actor": { "ID": "n1", "Attributes": { "container": "c" } },
    });
    // What may make a service a function is looked at, at most every 250 ms.
    for (events, a_second) in [(vec![of("other"), connect], 1), (vec![update], 4)] {
        let (before, began) = (engine.looks(), Instant::now());
        while began.elapsed() < SPAN {
            events.iter().for_each(|event| engine.tells(event));
            thread::sleep(Duration::from_millis(20));
        }
        let looks = engine.looks() - before;
        let most = (began.elapsed().as_secs() as usize + 1) * a_second + 1;
        assert!(looks <= most, "{looks} looks, not {most}, after {events:?}");
    }
    // What happens to a function is looked at often.
    let before = engine.looks();
    eventually(SOON, || {
        engine.tells(&of("id-echo"));
        let began = Instant::now();
        thread::sleep(Duration::from_millis(500));
        let (looks, span) = (engine.looks() - before, began.elapsed());
        if looks >= 3 { Ok(()) } else { Err(format!("{looks} looks, the last {span:?}")) }
    });
}

#[test]
fn an_engine_that_tells_no_events_is_said_once() {
    let (engine, well) = (Engine::start(), well());
    engine.set("events", Says::Refuses(403, "no events"));
    engine.runs(service("echo", json!({}), well.addr()), well.addr());
    let gateway = gateway(&engine.peer).start();
    serves(&gateway, "echo");
    let asked = || engine.peer.requests().iter().filter(|request| below(request) == "events").count();
    eventually(SOON, || if asked() > 1 { Ok(()) } else { Err("asked once".to_owned()) });
    let log = gateway.log();
    let told = "failed to read events: engine answered 403: no events";
    assert_eq!(log.lines().filter(|line| line.contains(told)).count(), 1, "{log}");
    assert_eq!(gateway.get("/healthz").text(), "ok\n");
}

#[test]
fn a_missing_image_is_named_whatever_words_the_engine_has() {
    let (engine, well) = (Engine::start(), well());
    let mut echo = service("echo", json!({}), well.addr());
    let image = "localhost/faas/echo:1";
    echo["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] = json!(image);
    engine.runs(echo.clone(), well.addr());
    let gateway = gateway(&engine.peer).start();
    serves(&gateway, "echo");
    for words in [
        format!("No such image: {image}"),
        format!("failed to resolve reference \"{image}\": {image}: not found"),
        "pull access denied, repository does not exist or may require authorization".to_owned(),
    ] {
        let mut rejected = task(&echo, well.addr());
        rejected["DesiredState"] = json!("shutdown");
        rejected["Version"] = json!({ "Index": 2 }); // after the service was written
        rejected["Status"] = json!({ "State": "rejected", "Err": words });
        engine.says("tasks", json!([rejected]));
        let parts = ["image `localhost/faas/echo:1`", "registry `localhost`", &words, "docker service ps"];
        let reply = eventually(SOON, || match gateway.get("/function/echo") {
            reply if reply.status == 503 && reply.text().contains(&words) => Ok(reply),
            reply => Err(reply.text()),
        });
        is_own(&reply, (503, "cannot_start"), &parts);
    }
}
