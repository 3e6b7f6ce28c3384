//! Engines that hang: what does not need them goes on, and the gateway ends in time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::script::Request;
use testkit::unreachable::Refusing;
use testkit::{Bin, Peer, Running, Script, eventually, proc};

use crate::{SOON, well};

/// A service with a task that runs at an address, if there is one.
struct Service {
    name: String,
    labels: Value,
    replicas: u32,
    task: Option<SocketAddr>,
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
    let below_min = |number| Service {
        name: format!("f{number}"),
        labels: json!({ "com.openfaas.scale.min": "2" }),
        replicas: 1,
        task: None,
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
    let (refusing, well) = (Refusing::new(), well());
    let at = |name: &str, address| Service {
        name: name.to_owned(),
        labels: json!({ "com.openfaas.scale.factor": "0" }),
        replicas: 1,
        task: Some(address),
    };
    let hangs = Arc::new(AtomicBool::new(false));
    let now = Arc::clone(&hangs);
    let services = vec![at("down", refusing.addr()), at("well", well.addr())];
    let engine = engine(services, move |_, _| now.load(Ordering::SeqCst));
    let gateway = gateway(&engine).env("max_workers", "4").env("connect_timeout", "500ms").start();
    knows(&gateway, 2);
    let mut client = gateway.client();
    assert_eq!(client.request().path("/function/well").send().unwrap().status, 200);
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
