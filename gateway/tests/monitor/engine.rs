//! The part of a Docker engine that the Swarm provider uses: one network, and services with tasks that the
//! test starts and stops. Unlike the local provider it has functions without a replica, and can go away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use testkit::script::Request;
use testkit::{Address, Peer, Script};

/// The network of the functions.
pub(crate) const NETWORK: &str = "functions";

/// The address of the only task of a service, if it runs.
type Tasks = Arc<Mutex<BTreeMap<&'static str, (SocketAddr, bool)>>>;

/// The engine; dropping it makes it unreachable.
pub(crate) struct Engine {
    peer: Peer,
    tasks: Tasks,
}

impl Engine {
    /// Starts an engine with these services and no running task.
    pub(crate) fn new(services: &[(&'static str, SocketAddr)]) -> Engine {
        let tasks: Tasks = Arc::default();
        let with_addresses = services.iter().map(|(name, address)| (*name, (*address, false)));
        tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(with_addresses);
        let shared = Arc::clone(&tasks);
        let script = Script::new().request().answer(move |request| respond(request, &shared)).repeat();
        Engine { peer: Peer::unix(script), tasks }
    }

    /// The value for `DOCKER_HOST`.
    pub(crate) fn host(&self) -> String {
        match self.peer.address() {
            Address::Unix(path) => format!("unix://{}", path.display()),
            Address::Tcp(address) => format!("tcp://{address}"),
        }
    }

    /// Starts or stops the task of a service.
    pub(crate) fn run(&self, service: &str, is_running: bool) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.get_mut(service).expect("a service").1 = is_running;
    }
}

fn respond(request: &Request, tasks: &Tasks) -> Vec<u8> {
    let path = request.target.split('?').next().unwrap_or_default();
    // The path without the version of `/v1.41/services`.
    let path =
        path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')).map_or(path, |(_, below)| below);
    let network = json!({ "Id": "n1", "Name": NETWORK, "Driver": "overlay", "Scope": "swarm" });
    match path {
        "/_ping" => head("Api-Version: 1.41\r\nContent-Length: 2\r\n", "OK"),
        "/version" => document(&json!({ "ApiVersion": "1.41", "MinAPIVersion": "1.12" })),
        "info" => document(&json!({ "Swarm": { "LocalNodeState": "active", "ControlAvailable": true } })),
        "networks" => document(&json!([network])),
        "services" => document(&services(tasks)),
        "tasks" => document(&running(tasks)),
        "events" => head("Transfer-Encoding: chunked\r\n", ""), // no event ever comes
        _ => b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
    }
}

fn document(value: &Value) -> Vec<u8> {
    let text = value.to_string();
    head(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", text.len()), &text)
}

fn head(fields: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}").into_bytes()
}

fn services(tasks: &Tasks) -> Value {
    let tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
    let service = |(name, (address, _)): (&&str, &(SocketAddr, bool))| {
        json!({
            "ID": name,
            "Spec": {
                "Name": name,
                "Labels": { "faas.port": address.port().to_string() },
                "Mode": { "Replicated": { "Replicas": 1 } },
                "TaskTemplate": { "Networks": [{ "Target": "n1" }] },
            },
        })
    };
    tasks.iter().map(service).collect()
}

fn running(tasks: &Tasks) -> Value {
    let tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
    let running = tasks.iter().filter(|(_, (_, is_running))| *is_running);
    let task = |(name, (address, _)): (&&str, &(SocketAddr, bool))| {
        json!({
            "ID": format!("task-{name}"),
            "ServiceID": name,
            "DesiredState": "running",
            "Status": { "State": "running" },
            "NetworksAttachments": [{
                "Network": { "ID": "n1", "Spec": { "Name": NETWORK } },
                "Addresses": [format!("{}/8", address.ip())],
            }],
        })
    };
    running.map(task).collect()
}
