//! Several gateways of one service with a scripted engine: their common decisions, and peers that do not tell
//! their load.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use testkit::http::Connection;
use testkit::script::Request;
use testkit::unreachable::{Deaf, Refusing, reserved_port};
use testkit::{Bin, Peer, Running, Script, eventually, proc};

use crate::engines::{below, document, head};
use crate::{SOON, at, gateway as local_gateway};

/// A `zero-duration` longer than a new gateway waits before it takes anything away.
const LATER: &str = "12s";

/// How long scaling to zero may take.
const ZERO: std::time::Duration = std::time::Duration::from_secs(60);

/// A scripted engine with gateways, and functions that can be scaled.
struct Engine {
    peer: Peer,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    functions: Vec<Function>,
    /// The ports of the running gateways.
    gateways: Vec<u16>,
    /// Each change of a number of replicas.
    writes: Vec<(String, u64, u64)>,
}

struct Function {
    name: &'static str,
    labels: Value,
    replicas: u64,
    version: u64,
    port: u16,
}

impl Engine {
    /// Starts with functions by name and labels; each has one replica at a port of this host.
    fn start(functions: &[(&'static str, Value)], port: u16) -> Engine {
        let functions = functions.iter().map(|(name, labels)| Function {
            name,
            labels: labels.clone(),
            replicas: 1,
            version: 1,
            port,
        });
        let state = State { functions: functions.collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let answers = Arc::clone(&state);
        let script = Script::new().request().answer(move |request| lock(&answers).answer(request));
        Engine { peer: Peer::tcp(script.repeat()), state }
    }

    /// A gateway that is a task of the gateways' service.
    fn gateway(&self) -> Running {
        let port = reserved_port();
        lock(&self.state).gateways.push(port);
        self.bin(port).start()
    }

    fn bin(&self, port: u16) -> Bin {
        let bin = Bin::gateway().env("provider", "swarm").env("functions_network", "functions");
        bin.env("DOCKER_HOST", format!("tcp://{}", self.peer.addr())).env("port", port.to_string())
    }

    fn replicas(&self, name: &str) -> u64 {
        lock(&self.state).function(name).map_or(0, |function| function.replicas)
    }

    fn writes(&self) -> Vec<(String, u64, u64)> {
        lock(&self.state).writes.clone()
    }

    /// Waits until a function has so many replicas.
    #[track_caller]
    fn becomes(&self, name: &str, replicas: u64) {
        eventually(ZERO, || match self.replicas(name) {
            have if have == replicas => Ok(()),
            have => Err(format!("`{name}` has {have} replicas, not {replicas}: {:?}", self.writes())),
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn function(&mut self, name: &str) -> Option<&mut Function> {
        self.functions.iter_mut().find(|function| function.name == name)
    }

    fn answer(&mut self, request: &Request) -> Vec<u8> {
        let not_found = || b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_vec();
        match below(request) {
            "/_ping" => head("Api-Version: 1.41\r\nContent-Length: 2\r\n", "OK"),
            "events" => head("Transfer-Encoding: chunked\r\n", ""), // no event ever comes
            "networks" => {
                document(&json!([{ "Id": "n1", "Name": "functions", "Driver": "overlay", "Scope": "swarm" }]))
            }
            "services" => {
                let gateway = json!({ "ID": "gateway", "Spec": {
                    "Name": "gateway",
                    "Mode": { "Replicated": { "Replicas": self.gateways.len() } },
                    "TaskTemplate": { "Networks": [{ "Target": "n1" }] },
                }});
                let functions = self.functions.iter().map(Function::service);
                document(&functions.chain([gateway]).collect())
            }
            "tasks" => {
                let functions = self.functions.iter().filter(|function| function.replicas > 0);
                let functions = functions.map(|function| task(function.name, "1", Vec::new()));
                let gateways = self
                    .gateways
                    .iter()
                    .map(|port| task("gateway", &port.to_string(), vec![format!("port={port}")]));
                document(&functions.chain(gateways).collect())
            }
            path => {
                let name = path.trim_start_matches("services/").trim_end_matches("/update").to_owned();
                match self.function(&name) {
                    Some(function) if request.method == "GET" => document(&function.service()),
                    // Another gateway wrote first.
                    Some(function)
                        if !request.target.ends_with(&format!("?version={}", function.version)) =>
                    {
                        let body = r#"{"message":"rpc error: code = Unknown desc = update out of sequence"}"#;
                        let length = body.len();
                        format!("HTTP/1.1 500 No\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
                    }
                    Some(function) => {
                        let spec: Value = serde_json::from_slice(&request.body).expect("a document");
                        let to = spec["Mode"]["Replicated"]["Replicas"].as_u64().expect("a number");
                        let from = std::mem::replace(&mut function.replicas, to);
                        function.labels = spec["Labels"].clone();
                        function.version += 1;
                        self.writes.push((name, from, to));
                        document(&json!({}))
                    }
                    None => not_found(),
                }
            }
        }
    }
}

impl Function {
    fn service(&self) -> Value {
        let mut labels = self.labels.clone();
        labels["faas.port"] = json!(self.port.to_string());
        json!({
            "ID": self.name,
            "Version": { "Index": self.version },
            "Spec": {
                "Name": self.name,
                "Labels": labels,
                "Mode": { "Replicated": { "Replicas": self.replicas } },
                "TaskTemplate": { "Networks": [{ "Target": "n1" }] },
            },
        })
    }
}

/// A task of a service that runs on this host.
fn task(service: &str, number: &str, environment: Vec<String>) -> Value {
    json!({
        "ID": format!("task-{service}-{number}"),
        "ServiceID": service,
        "DesiredState": "running",
        "Spec": { "ContainerSpec": { "Env": environment } },
        "Status": { "State": "running" },
        "NetworksAttachments": [{
            "Network": { "ID": "n1", "Spec": { "Name": "functions" } },
            "Addresses": ["127.0.0.1/8"],
        }],
    })
}

/// A function that may go to zero after a time without a call.
fn to_zero(name: &'static str, after: &str) -> (&'static str, Value) {
    (name, json!({ "com.openfaas.scale.zero": "true", "com.openfaas.scale.zero-duration": after }))
}

/// A function with a target of two calls for each replica.
fn of_two(name: &'static str) -> (&'static str, Value) {
    (name, json!({ "com.openfaas.scale.target": "2" }))
}

/// A function that accepts an upgrade, and holds the call until the client ends it.
fn holding() -> Peer {
    const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    Peer::tcp(Script::new().head().send(AGREE).end().close())
}

/// Sends calls that the function holds.
fn hold(gateway: &Running, name: &str, count: usize) -> Vec<Connection> {
    let upgrade = "Connection: Upgrade\r\nUpgrade: echo\r\n";
    let mut connections: Vec<_> = (0..count).map(|_| gateway.connect()).collect();
    for connection in &mut connections {
        let head = format!("GET /function/{name} HTTP/1.1\r\nHost: test\r\n{upgrade}\r\n");
        connection.send(head).unwrap();
    }
    connections
}

/// The lines of a gateway's load page.
fn load(gateway: &Running) -> Vec<String> {
    let reply = gateway.get("/load");
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    let text = reply.text();
    let (first, rest) = text.split_once('\n').expect("lines");
    assert!(first.len() == 23 && first.starts_with("load 1 "), "{text}");
    let mut lines: Vec<_> = rest.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn an_idle_gateway_does_not_scale_away_another_gateways_websocket() {
    let function = holding();
    let functions = [to_zero("one", "1s"), to_zero("two", "1s"), to_zero("idle", LATER)];
    let engine = Engine::start(&functions, function.addr().port());
    let gateways = [engine.gateway(), engine.gateway()];
    // Either gateway may take replicas away; each uses a function that the other does not.
    let mut sockets = [hold(&gateways[0], "one", 1), hold(&gateways[1], "two", 1)];
    for socket in sockets.iter_mut().flatten() {
        assert_eq!(socket.within(SOON).head().unwrap().status, 101);
    }
    engine.becomes("idle", 0);
    assert_eq!(engine.writes(), [("idle".to_owned(), 1, 0)]);
    drop(sockets);
    engine.becomes("one", 0);
    engine.becomes("two", 0);
    assert_eq!(engine.writes().len(), 3, "by one of them alone: {:?}", engine.writes());
}

#[test]
fn the_calls_of_all_gateways_decide_the_number_of_replicas() {
    let function = holding();
    let engine = Engine::start(&[of_two("even"), of_two("uneven")], function.addr().port());
    let gateways = [engine.gateway(), engine.gateway()];
    let _even = gateways.iter().map(|gateway| hold(gateway, "even", 6)).collect::<Vec<_>>();
    let _uneven = [hold(&gateways[0], "uneven", 10), hold(&gateways[1], "uneven", 2)];
    engine.becomes("even", 6);
    engine.becomes("uneven", 6);
    assert!(engine.writes().iter().all(|(_, from, to)| from < to), "{:?}", engine.writes());
    assert_eq!(load(&gateways[0]), ["even 6 0 0", "uneven 10 0 0"]);
    let known = gateways[0].get("/system/functions").text();
    assert!(!known.contains("gateway"), "a gateway is no function of itself: {known}");
}

#[test]
fn gateways_that_start_and_end_take_no_used_replica() {
    let function = holding();
    let functions = [to_zero("one", "1s"), to_zero("idle", LATER)];
    let engine = Engine::start(&functions, function.addr().port());
    let first = engine.gateway();
    let second = engine.gateway();
    let _socket = hold(&second, "one", 1);
    engine.becomes("idle", 0);
    let third = engine.gateway();
    eventually(SOON, || {
        let asks = third.metrics("/metrics").value("gateway_connections", &[("state", "idle")]);
        if asks >= Some(2.0) { Ok(()) } else { Err(format!("{asks:?} connections of peers")) }
    });
    drop(first);
    lock(&engine.state).gateways.remove(0);
    assert_eq!(engine.writes(), [("idle".to_owned(), 1, 0)]);
    second.signal(proc::SIGKILL);
    lock(&engine.state).gateways.remove(0);
    engine.becomes("one", 0);
    drop(third);
}

/// An alert reaches any one of the gateways.
#[test]
fn all_gateways_keep_the_replicas_that_an_alert_asked_one_of_them_for() {
    let function = holding();
    let functions = [to_zero("raised", "1s"), to_zero("other", "1s"), to_zero("idle", LATER)];
    let engine = Engine::start(&functions, function.addr().port());
    let gateways = [engine.gateway(), engine.gateway()];
    for (gateway, name) in gateways.iter().zip(["raised", "other"]) {
        let alerts = json!({ "alerts": [{ "status": "firing", "labels": { "function_name": name } }] });
        let reply = gateway.post("/system/alert", alerts.to_string());
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    engine.becomes("idle", 0);
    assert_eq!((engine.replicas("raised"), engine.replicas("other")), (5, 5));
}

/// A peer that does not tell its load may use a function that seems idle.
#[test]
fn no_replica_is_taken_away_while_a_peer_does_not_tell_its_load() {
    let function = holding();
    let functions = [to_zero("idle", "1s"), of_two("busy")];
    let page = |text: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
        Peer::tcp(Script::new().request().send(head + text).repeat())
    };
    let (refusing, deaf) = (Refusing::new(), Deaf::new());
    let hangs = Peer::tcp(Script::new().request().stall());
    let garbage = page("load 1 0000000000000001\nidle 0\n");
    let endless = page(&format!("load 1 0000000000000001\n{}", "x".repeat(256 * 1024)));
    let broken =
        Peer::tcp(Script::new().request().send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nload").close());
    let older =
        Peer::tcp(Script::new().request().send("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").repeat());
    let peers = [
        (refusing.addr(), "failed to connect"),
        (deaf.addr(), "no answer in 1s"),
        (hangs.addr(), "no answer in 1s"),
        (garbage.addr(), "its answer is not a load page"),
        (endless.addr(), "its answer is longer than 262144 bytes"),
        (broken.addr(), "closed"),
        (older.addr(), "its answer is 404"),
    ];
    let port = function.addr().port();
    let beside = peers.map(|(address, why)| {
        let engine = Engine::start(&functions, port);
        lock(&engine.state).gateways.push(address.port());
        let gateway = engine.gateway();
        (engine, gateway, address, why)
    });
    for (engine, gateway, address, why) in &beside {
        let told = format!("no replica is taken away: the gateway at {address} does not tell its load: ");
        gateway.wait_log(&told, SOON);
        assert!(
            gateway.log().lines().any(|line| line.contains(&told) && line.contains(why)),
            "{}",
            gateway.log()
        );
        assert_eq!(gateway.log().matches(&told).count(), 1, "it is said once");
        let _calls = hold(gateway, "busy", 6);
        engine.becomes("busy", 3);
    }
    let alone = Engine::start(&functions, port);
    let _gateway = alone.gateway();
    alone.becomes("idle", 0);
    for (engine, gateway, ..) in &beside {
        assert!(engine.writes().iter().all(|(_, from, to)| from < to), "{}", gateway.log());
        lock(&engine.state).gateways.remove(0);
    }
    for (engine, ..) in &beside {
        engine.becomes("idle", 0);
    }
}

#[test]
fn the_load_page_needs_no_password_and_no_free_worker() {
    let stalls = Peer::tcp(Script::new().request().stall());
    let bin = local_gateway(&[at("one", &[stalls.addr()]), at("never", &[stalls.addr()])]);
    let (user, _) = (bin.file("basic-auth-user", "u"), bin.file("basic-auth-password", "p"));
    let bin = bin.env("basic_auth", "true").env("secret_mount_path", user.parent().unwrap());
    let gateway = bin.env("max_workers", "1").start();
    let mut call = gateway.connect();
    call.send("GET /function/one HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    stalls.wait_requests(1, SOON);
    assert_eq!(load(&gateway), ["one 1 0 0"]);
    drop(call);
    eventually(SOON, || match load(&gateway) {
        lines if lines == ["one 0 1 0"] => Ok(()),
        lines => Err(format!("{lines:?}")),
    });
}
