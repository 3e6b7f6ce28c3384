//! Updates by reading, editing and writing back: nothing is lost, nobody is overwritten.

use std::sync::{Arc, Mutex};

use docker_sock::{Engine, Error};
use serde_json::{Value, json};
use testkit::script::Request;
use testkit::{Peer, Script};

use crate::daemon::{Api, engine, json as document, message, serve, targets};

/// What the engine says of an update that is based on an old version.
const OUT_OF_SEQUENCE: &str = "rpc error: code = Unknown desc = update out of sequence";

/// A service at an engine that takes an update only of its present version.
struct Kept {
    service: Value,
    /// How many updates of others come in between.
    conflicts: u64,
    /// The status of the refusal: 500 until Engine 27, 409 later.
    status: u16,
    writes: usize,
}

impl Kept {
    fn new(service: Value, conflicts: u64, status: u16) -> Kept {
        Kept { service, conflicts, status, writes: 0 }
    }

    fn respond(&mut self, request: &Request) -> Vec<u8> {
        if request.method == "GET" {
            return document(&self.service.to_string());
        }
        self.writes += 1;
        let index = self.service["Version"]["Index"].as_u64().unwrap();
        if self.conflicts > 0 {
            self.conflicts -= 1;
            self.service["Version"]["Index"] = (index + 1).into();
            self.service["Spec"]["Labels"]["seen"] = (index + 1).to_string().into();
            return message(self.status, OUT_OF_SEQUENCE);
        }
        let version = request.target.rsplit_once("version=").and_then(|(_, version)| version.parse().ok());
        if version != Some(index) {
            return message(self.status, OUT_OF_SEQUENCE);
        }
        self.service["Spec"] = serde_json::from_slice(&request.body).unwrap();
        self.service["Version"]["Index"] = (index + 1).into();
        document("{\"Warnings\":null}\n")
    }
}

/// An engine that keeps a service.
struct Keeper {
    peer: Peer,
    kept: Arc<Mutex<Kept>>,
}

impl Keeper {
    fn new(kept: Kept) -> Keeper {
        let kept = Arc::new(Mutex::new(kept));
        let shared = Arc::clone(&kept);
        let peer = Peer::unix(serve(move |request| match request.target.as_str() {
            "/_ping" => Api::engine_20().ping(),
            _ => shared.lock().unwrap().respond(request),
        }));
        Keeper { peer, kept }
    }

    fn engine(&self) -> Engine {
        engine(&self.peer)
    }

    fn service(&self) -> Value {
        self.kept.lock().unwrap().service.clone()
    }

    fn writes(&self) -> Vec<Request> {
        self.peer.requests().into_iter().filter(|request| request.method == "POST").collect()
    }
}

fn small() -> Value {
    json!({"ID": "s1", "Version": {"Index": 7}, "Spec": {"Name": "echo", "Labels": {},
        "Mode": {"Replicated": {"Replicas": 1}}}})
}

fn scale(service: &mut Value, replicas: u64) -> bool {
    service["Spec"]["Mode"]["Replicated"]["Replicas"] = replicas.into();
    true
}

#[test]
fn everything_but_the_edited_field_survives() {
    let documents = [
        include_str!("../data/services_1_24.json"),
        include_str!("../data/services_1_41.json"),
        include_str!("../data/services_1_47.json"),
    ];
    for text in documents {
        let before = serde_json::from_str::<Value>(text).unwrap()[0].clone();
        let keeper = Keeper::new(Kept::new(before.clone(), 0, 500));
        assert!(
            keeper
                .engine()
                .update_service(before["Spec"]["Name"].as_str().unwrap(), &mut |service| scale(service, 9))
                .unwrap()
        );
        let mut want = before.clone();
        scale(&mut want, 9);
        let writes = keeper.writes();
        assert_eq!(writes.len(), 1);
        assert_eq!(serde_json::from_slice::<Value>(&writes[0].body).unwrap(), want["Spec"]);
        let (id, index) = (before["ID"].as_str().unwrap(), &before["Version"]["Index"]);
        assert_eq!(writes[0].target, format!("/v1.41/services/{id}/update?version={index}"));
        assert_eq!(writes[0].header("Content-Type"), Some("application/json"));
    }
}

#[test]
fn values_of_every_kind_survive() {
    let odd = json!({
        "NotKnownYet": {"Deep": [[], {}, [null, true, false, ""]]},
        "Largest": u64::MAX, "Smallest": i64::MIN, "Ratio": 0.1, "Tiny": 5e-324, "Huge": 1.797_693_134_862_315_7e308,
        "Text": "quotes \" and \\ and \u{0} and \u{7f} and ä and \u{1f980} and </script>",
        "": "an empty name", "a/b~c": "a path",
    });
    let mut service = small();
    service["Spec"]["Odd"] = odd.clone();
    let keeper = Keeper::new(Kept::new(service, 0, 500));
    assert!(keeper.engine().update_service("s1", &mut |service| scale(service, 2)).unwrap());
    assert_eq!(keeper.service()["Spec"]["Odd"], odd);
    assert_eq!(keeper.service()["Spec"]["Mode"]["Replicated"]["Replicas"], 2);
}

/// What the engine knows and this crate does not would be lost under an older version.
#[test]
fn a_newer_engine_is_updated_in_its_own_version() {
    let peer = Peer::unix(serve(move |request| {
        Api::engine_29().respond(request, |path| {
            document(&if path.contains("update") { "{}".to_owned() } else { small().to_string() })
        })
    }));
    assert!(engine(&peer).update_service("s1", &mut |service| scale(service, 2)).unwrap());
    let want = ["GET /v1.52/services/s1", "POST /v1.52/services/s1/update?version=7"];
    assert_eq!(targets(&peer)[2..], want);
}

#[test]
fn nothing_is_written_when_there_is_nothing_to_change() {
    let keeper = Keeper::new(Kept::new(small(), 0, 500));
    assert!(!keeper.engine().update_service("s1", &mut |service| !scale(service, 5)).unwrap());
    assert!(keeper.writes().is_empty());
    assert_eq!(keeper.service(), small());
}

#[test]
fn a_conflict_is_edited_again_on_what_is_there_by_then() {
    for status in [500, 409] {
        let keeper = Keeper::new(Kept::new(small(), 2, status));
        let mut seen = Vec::new();
        let edit = &mut |service: &mut Value| {
            seen.push(service["Spec"]["Labels"]["seen"].as_str().unwrap_or("").to_owned());
            scale(service, 3)
        };
        assert!(keeper.engine().update_service("s1", edit).unwrap());
        assert_eq!(seen, ["", "8", "9"]);
        let targets: Vec<String> = keeper.writes().into_iter().map(|request| request.target).collect();
        assert_eq!(targets, [7, 8, 9].map(|index| format!("/v1.41/services/s1/update?version={index}")));
        assert_eq!(keeper.service()["Spec"]["Labels"]["seen"], "9", "what others wrote is kept");
        assert_eq!(keeper.service()["Spec"]["Mode"]["Replicated"]["Replicas"], 3);
    }
}

#[test]
fn a_conflict_may_leave_nothing_to_change() {
    let keeper = Keeper::new(Kept::new(small(), 1, 500));
    let edit = &mut |service: &mut Value| service["Spec"]["Labels"]["seen"].is_null() && scale(service, 3);
    assert!(!keeper.engine().update_service("s1", edit).unwrap());
    assert_eq!(keeper.writes().len(), 1);
}

#[test]
fn twenty_tries_and_no_more() {
    let keeper = Keeper::new(Kept::new(small(), 19, 500));
    assert!(keeper.engine().update_service("s1", &mut |service| scale(service, 3)).unwrap());
    assert_eq!(keeper.writes().len(), 20);

    let keeper = Keeper::new(Kept::new(small(), 20, 500));
    let error = keeper.engine().update_service("s1", &mut |service| scale(service, 3)).unwrap_err();
    assert!(matches!(&error, Error::OutOfSequence { tries: 20, .. }), "{error:?}");
    assert_eq!(error.to_string(), "failed to update service `s1`: update out of sequence 20 times");
    assert_eq!(keeper.writes().len(), 20);
}

#[test]
fn updates_at_the_same_time_lose_nothing() {
    let keeper = Keeper::new(Kept::new(small(), 0, 500));
    let engine = keeper.engine();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let engine = &engine;
            scope.spawn(move || {
                let edit = &mut |service: &mut Value| {
                    service["Spec"]["Labels"][name] = name.into();
                    true
                };
                assert!(engine.update_service("s1", edit).unwrap());
            });
        }
    });
    assert_eq!(keeper.service()["Spec"]["Labels"], json!({"a": "a", "b": "b", "c": "c", "d": "d"}));
    assert_eq!(keeper.service()["Version"]["Index"], 11);
}

#[test]
fn other_refusals_are_final() {
    let refusals = [
        (404, "service s1 not found"),
        (500, "rpc error: code = InvalidArgument desc = Replicas: Number of replicas must be non-negative"),
        (503, "This node is not a swarm manager."),
        (400, "invalid service version"),
    ];
    for (status, text) in refusals {
        let peer =
            Peer::unix(serve(move |request| match (request.method.as_str(), request.target.as_str()) {
                (_, "/_ping") => Api::engine_20().ping(),
                ("GET", _) => document(&small().to_string()),
                _ => message(status, text),
            }));
        let error = engine(&peer).update_service("s1", &mut |service| scale(service, 2)).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("failed to update service `s1`: engine answered {status}: {text}")
        );
        assert_eq!(peer.requests().len(), 3);
    }
}

#[test]
fn an_update_whose_answer_is_lost_is_not_sent_again() {
    let script = Script::new().request().send(Api::engine_20().ping()).request();
    let peer = Peer::unix_each(vec![script.send(document(&small().to_string())).request().close()]);
    let error = engine(&peer).update_service("s1", &mut |service| scale(service, 2)).unwrap_err();
    assert!(error.is_transport() && !error.is_timeout(), "{error:?}");
    assert_eq!(peer.requests().iter().filter(|request| request.method == "POST").count(), 1);
}

#[test]
fn an_old_engine_answers_an_update_with_nothing() {
    let peer = Peer::unix(serve(|request| match (request.method.as_str(), request.target.as_str()) {
        (_, "/_ping" | "/version") => Api::engine_1().respond(request, |_| Vec::new()),
        ("GET", _) => document(&small().to_string()),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(),
    }));
    assert!(engine(&peer).update_service("s1", &mut |service| scale(service, 2)).unwrap());
    assert_eq!(peer.requests().last().unwrap().target, "/v1.24/services/s1/update?version=7");
}

#[test]
fn a_service_without_version_or_spec_is_not_touched() {
    let cases = [
        (json!({"ID": "s1", "Spec": {}}), "field /Version/Index: expected a number"),
        (
            json!({"ID": "s1", "Version": {"Index": "7"}, "Spec": {}}),
            "field /Version/Index: expected a number",
        ),
        (json!({"ID": "s1", "Version": {"Index": 7}}), "field /Spec: expected a map"),
        (json!({"ID": "s1", "Version": {"Index": 7}, "Spec": null}), "field /Spec: expected a map"),
        (json!({"Version": {"Index": 7}, "Spec": {}}), "field /ID: expected a string"),
    ];
    for (service, want) in cases {
        let keeper = Keeper::new(Kept::new(service, 0, 500));
        let edit = &mut |_: &mut Value| panic!("there is nothing to edit");
        let error = keeper.engine().update_service("s1", edit).unwrap_err();
        assert_eq!(error.to_string(), format!("failed to update service `s1`: {want}"));
        assert!(keeper.writes().is_empty());
    }
}
