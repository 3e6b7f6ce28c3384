//! Engines that hang: what does not need them goes on, and the gateway ends in time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::script::Request;
use testkit::{Bin, Peer, Running, Script, eventually, proc};

use crate::{SOON, well};

/// A service with a task that runs at an address, if there is one.
struct Service {
    name: String,
    labels: Value,
    replicas: u32,
    task: Option<SocketAddr>,
    /// The state of its last update.
    update: &'static str,
}

impl Service {
    /// One without tasks or labels, that was never updated.
    fn named(name: &str, replicas: u32) -> Service {
        Service { name: name.to_owned(), labels: json!({}), replicas, task: None, update: "" }
    }
}

/// An engine with these services. It takes a request without an answer while `hangs` says so of its method and path.
fn engine(services: Vec<Service>, hangs: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Peer {
    let script = Script::new().request().answer(move |request| {
        let path = below(request);
        if hangs(&request.method, path) {
            return Vec::new();
        }
        answer(path, &services)
    });
    Peer::tcp(script.repeat())
}

/// Below the version: `/v1.41/services`.
pub(crate) fn below(request: &Request) -> &str {
    let path = request.target.split('?').next().unwrap_or_default();
    path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')).map_or(path, |(_, below)| below)
}

fn answer(path: &str, services: &[Service]) -> Vec<u8> {
    match path {
        "/_ping" => head("Api-Version: 1.41\r\nContent-Length: 2\r\n", "OK"),
        "networks" => {
            document(&json!([{ "Id": "n1", "Name": "functions", "Driver": "overlay", "Scope": "swarm" }]))
        }
        "services" => document(&services.iter().map(service).collect()),
        "tasks" => document(&services.iter().filter_map(task).collect()),
        "events" => head("Transfer-Encoding: chunked\r\n", ""), // none ever comes
        path if path.ends_with("/update") => document(&json!({})),
        path => match services.iter().find(|one| path.strip_prefix("services/") == Some(&*one.name)) {
            Some(one) => document(&service(one)),
            None => b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
        },
    }
}

pub(crate) fn document(value: &Value) -> Vec<u8> {
    let text = value.to_string();
    head(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", text.len()), &text)
}

pub(crate) fn head(fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}").into_bytes()
}

fn service(one: &Service) -> Value {
    let mut labels = one.labels.clone();
    if let Some(address) = one.task {
        labels["faas.port"] = json!(address.port().to_string());
    }
    json!({
        "ID": one.name,
        "Version": { "Index": 1 },
        "Spec": {
            "Name": one.name,
            "Labels": labels,
            "Mode": { "Replicated": { "Replicas": one.replicas } },
            "TaskTemplate": { "Networks": [{ "Target": "n1" }] },
        },
        "UpdateStatus": { "State": one.update },
    })
}

fn task(one: &Service) -> Option<Value> {
    let address = one.task?;
    Some(json!({
        "ID": format!("task-{}", one.name),
        "ServiceID": one.name,
        "DesiredState": "running",
        "Status": { "State": "running" },
        "NetworksAttachments": [{
            "Network": { "ID": "n1", "Spec": { "Name": "functions" } },
            "Addresses": [format!("{}/8", address.ip())],
        }],
    }))
}

pub(crate) fn gateway(engine: &Peer) -> Bin {
    let bin = Bin::gateway().env("provider", "swarm").env("functions_network", "functions");
    bin.env("DOCKER_HOST", format!("tcp://{}", engine.addr()))
}

pub(crate) fn knows(gateway: &Running, count: usize) {
    eventually(SOON, || {
        let text = gateway.get("/system/functions").text();
        let known = serde_json::from_str::<Value>(&text).ok().and_then(|list| Some(list.as_array()?.len()));
        if known == Some(count) { Ok(()) } else { Err(text) }
    });
}

#[test]
fn it_ends_in_time_though_many_functions_are_to_be_scaled_and_the_engine_hangs() {
    let below_min = |number: usize| Service {
        labels: json!({ "com.openfaas.scale.min": "2" }),
        ..Service::named(&format!("f{number}"), 1)
    };
    let is_update = |method: &str, _: &str| method == "POST";
    let engine = engine((0..8).map(below_min).collect(), is_update);
    let gateway = gateway(&engine).env("drain_timeout", "1s").start();
    knows(&gateway, 8);
    eventually(SOON, || {
        let is_asked = engine.requests().iter().any(|request| request.method == "POST");
        if is_asked { Ok(()) } else { Err("nothing is scaled".to_owned()) }
    });
    gateway.signal(proc::SIGTERM);
    let began = Instant::now();
    assert_eq!(gateway.wait(2 * SOON).code(), Some(0));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "it took {took:?}");
}

#[test]
fn calls_whose_replicas_are_down_leave_workers_to_others_while_the_engine_hangs() {
    let (mut ends, well) = (well(), well());
    let at = |name: &str, address| Service {
        labels: json!({ "com.openfaas.scale.factor": "0" }),
        task: Some(address),
        ..Service::named(name, 1)
    };
    let hangs = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&hangs);
    let services = vec![at("down", ends.addr()), at("well", well.addr())];
    let engine = engine(services, move |_, _| now.load(Ordering::SeqCst));
    let gateway = gateway(&engine).env("max_workers", "4").env("connect_timeout", "500ms").start();
    knows(&gateway, 2);
    let mut client = gateway.client();
    assert_eq!(client.request().path("/function/well").send().unwrap().status, 200);
    assert_eq!(client.request().path("/function/down").send().unwrap().status, 200);
    ends.stop_listening();
    ends.hang_up();
    hangs.store(true, Ordering::SeqCst);
    let mut down: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
    for connection in &mut down {
        connection.send("GET /function/down HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    }
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    while began.elapsed() < Duration::from_secs(4) {
        let sent = Instant::now();
        let reply = client.request().path("/function/well").send().unwrap();
        slowest = slowest.max(sent.elapsed());
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert!(slowest < Duration::from_secs(1), "one took {slowest:?}");
    for connection in &mut down {
        assert_eq!(connection.within(2 * SOON).reply("GET").unwrap().status, 502);
    }
}

/// The services that were written, each once, in order.
fn written(engine: &Peer) -> Vec<String> {
    let is_write = |request: &&Request| request.method == "POST";
    let requests = engine.requests();
    let service =
        |request| Some(below(request).strip_prefix("services/")?.strip_suffix("/update")?.to_owned());
    let mut names: Vec<String> = requests.iter().filter(is_write).filter_map(service).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// An update that has not ended, in each of the engine's words.
const IN_UPDATE: [&str; 4] = ["updating", "paused", "rollback_started", "rollback_paused"];

/// A write would have the engine go on with a paused update, and make the new spec the one that a rollback goes back to.
#[test]
fn a_service_in_an_update_is_not_written_unless_it_has_no_replica() {
    let wants_more = |name: &str, replicas, update| Service {
        labels: json!({ "com.openfaas.scale.min": "3" }),
        update,
        ..Service::named(name, replicas)
    };
    let mut services: Vec<_> = IN_UPDATE.map(|state| wants_more(state, 2, state)).into();
    services.extend(IN_UPDATE.map(|state| wants_more(&format!("none-{state}"), 0, state)));
    services.extend(["completed", "rollback_completed"].map(|state| wants_more(state, 2, state)));
    services.push(wants_more("new", 2, ""));
    let engine = engine(services, |_, _| false);
    let gateway = gateway(&engine).env("upstream_timeout", "5s").start();
    knows(&gateway, 11);
    let mut waiting: Vec<_> = (0..IN_UPDATE.len()).map(|_| gateway.connect()).collect();
    for (connection, state) in waiting.iter_mut().zip(IN_UPDATE) {
        let call = format!("GET /function/none-{state} HTTP/1.1\r\nHost: test\r\n\r\n");
        connection.send(call).unwrap();
    }
    let mut want = vec!["completed", "new", "rollback_completed"];
    let none = IN_UPDATE.map(|state| format!("none-{state}"));
    want.extend(none.iter().map(String::as_str));
    want.sort_unstable();
    eventually(SOON, || match written(&engine) {
        got if got.len() >= want.len() => Ok(()),
        got => Err(format!("{got:?}")),
    });
    for state in IN_UPDATE {
        gateway.wait_log(&format!("`{state}`: 2 replicas stay, not 3, while its update is `{state}`"), SOON);
        let reply = gateway.post(&format!("/system/scale-function/{state}"), "{\"replicas\": 5}");
        crate::is_own(&reply, (409, "in_update"), &[state, "docker service update or rollback"]);
        let alert =
            format!(r#"{{"alerts": [{{"status": "firing", "labels": {{"function_name": "{state}"}}}}]}}"#);
        let reply = gateway.post("/system/alert", alert);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.text().contains("\"ignored\":[{\"name\""), "{}", reply.text());
    }
    assert_eq!(written(&engine), want);
    let log = gateway.log();
    assert_eq!(log.matches("replicas stay").count(), IN_UPDATE.len(), "{log}");
}

/// An engine whose list of services is older than the service that it tells when asked for that one.
#[test]
fn a_service_is_looked_at_again_before_it_is_written() {
    let below_min = |update| Service {
        labels: json!({ "com.openfaas.scale.min": "3" }),
        update,
        ..Service::named("late", 2)
    };
    let script = Script::new().request().answer(move |request| match below(request) {
        "services/late" => answer("services/late", &[below_min("paused")]),
        path => answer(path, &[below_min("completed")]),
    });
    let engine = Peer::tcp(script.repeat());
    let gateway = gateway(&engine).start();
    gateway.wait_log("still 2 replicas: an update of its service has not ended: it is `paused`", SOON);
    assert_eq!(written(&engine), [""; 0]);
}

/// The engine takes a moment to call a service `updating` that it was told to update.
#[test]
fn a_service_with_new_tasks_is_not_written_before_the_engine_says_that_it_updates_it() {
    let looks = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&looks);
    let script = Script::new().request().answer(move |request| {
        let path = below(request);
        let is_begun = path != "services/fresh" || looks.fetch_add(1, Ordering::SeqCst) >= 3;
        let one = Service { labels: json!({ "com.openfaas.scale.min": "3" }), ..Service::named("fresh", 2) };
        let mut document = service(&one);
        document["PreviousSpec"] = json!({ "TaskTemplate": { "Networks": [] } });
        match path {
            "services" => self::document(&json!([document])),
            "services/fresh" => {
                document["UpdateStatus"]["State"] = json!(if is_begun { "updating" } else { "" });
                self::document(&document)
            }
            path => answer(path, &[one]),
        }
    });
    let engine = Peer::tcp(script.repeat());
    let gateway = gateway(&engine).start();
    gateway.wait_log("still 2 replicas: an update of its service has not ended: it is `updating`", SOON);
    assert!(seen.load(Ordering::SeqCst) > 3);
    assert_eq!(written(&engine), [""; 0]);
}
