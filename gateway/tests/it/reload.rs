//! SIGHUP: the functions file is read again, and a broken one changes nothing.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Bin, Gate, Peer, Running, Script, eventually, proc};

use crate::{OK, ONE, SOON, at, becomes, dogs, gateway, is_own, path, process, raw, well};

/// A running gateway, and its functions file.
fn started(functions: &[Value]) -> (Running, PathBuf) {
    let bin: Bin = gateway(functions);
    let file = bin.dir().join("functions.json");
    (bin.start(), file)
}

/// Writes the file, sends SIGHUP, and waits for the log line about it.
#[track_caller]
fn reload(gateway: &Running, file: &PathBuf, content: &str) -> String {
    let before = gateway.log().len();
    fs::write(file, content).unwrap();
    gateway.signal(proc::SIGHUP);
    eventually(SOON, || {
        let log = gateway.log().split_off(before);
        let line = log.lines().find(|line| line.contains("functions_file")).map(str::to_owned);
        line.filter(|_| log.ends_with('\n')).ok_or_else(|| format!("nothing is said of it: {log}"))
    })
}

fn list(functions: &[Value]) -> String {
    json!({ "functions": functions }).to_string()
}

#[test]
fn sighup_adds_removes_and_keeps_functions() {
    let (one, two) = (well(), well());
    let (gateway, file) = started(&[at(ONE, &[one.addr()]), process("cat", "cat")]);
    let kept = dogs(&gateway, 1);
    assert_eq!(gateway.get("/function/two").status, 404);
    let line = reload(&gateway, &file, &list(&[at("two", &[two.addr()]), process("cat", "cat")]));
    assert!(line.contains("info") && line.contains("2 functions"), "{line}");
    eventually(SOON, || match (gateway.get("/function/two").status, gateway.get(&path("")).status) {
        (200, 404) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(gateway.post("/function/cat", "hello").text(), "hello");
    assert_eq!(dogs(&gateway, 1), kept, "what did not change runs on");
    // Another command needs another process; fewer functions need fewer processes.
    reload(&gateway, &file, &list(&[process("cat", "cat -")]));
    eventually(SOON, || match (gateway.post("/function/cat", "x").text().as_str(), dogs(&gateway, 1)) {
        ("x", pids) if pids != kept => Ok(()),
        other => Err(format!("{other:?}, {kept:?} before")),
    });
    reload(&gateway, &file, &list(&[]));
    dogs(&gateway, 0);
}

/// Without a free place no poller looks at the waiting call, so the call sees both changes at once.
#[test]
fn a_waiting_call_starts_a_function_that_was_removed_and_added_again() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let mut limited = at(ONE, &[peer.addr()]);
    limited["labels"] = json!({ "faas.concurrency": "1" });
    let other = at("other", &[peer.addr()]);
    let bin = gateway(&[limited, other.clone()]).env("max_workers", "2");
    let file = bin.dir().join("functions.json");
    let gateway = bin.start();
    let mut connections = [gateway.connect(), gateway.connect(), gateway.connect()];
    let [first, waiting, busy] = &mut connections;
    first.send(raw("GET", "", "")).unwrap();
    peer.wait_requests(1, SOON);
    waiting.send(raw("GET", "", "")).unwrap();
    becomes(&gateway, "gateway_function_waiting", 1.0);
    busy.send("GET /function/other HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    peer.wait_requests(2, SOON);
    reload(&gateway, &file, &list(std::slice::from_ref(&other)));
    let known = || gateway.metrics("/metrics").value("gateway_service_count", &[("function_name", ONE)]);
    eventually(SOON, || known().map_or(Ok(()), |_| Err("still known".to_owned())));
    let again = json!({ "name": ONE, "fprocess": "cat", "replicas": 0 });
    reload(&gateway, &file, &list(&[other, again]));
    eventually(SOON, || known().map(drop).ok_or_else(|| "not known".to_owned()));
    gate.open();
    for connection in &mut connections {
        assert_eq!(connection.within(SOON).reply("GET").unwrap().status, 200);
    }
    becomes(&gateway, "gateway_function_inflight", 0.0);
}

/// A waiting call goes on when the limit is removed, and leaves the queue.
#[test]
fn a_limit_that_is_removed_and_set_again_blocks_no_call() {
    let gates = [Gate::new(), Gate::new()];
    let script = |gate| {
        Script::new().request().wait(gate).send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").close()
    };
    let peer =
        Peer::tcp_each(vec![script(&gates[0]), script(&gates[1]), Script::new().request().send(OK).repeat()]);
    let free = at(ONE, &[peer.addr()]);
    let mut limited = free.clone();
    limited["labels"] = json!({ "faas.concurrency": "1" });
    let (gateway, file) = started(std::slice::from_ref(&limited));
    let mut connections = [gateway.connect(), gateway.connect(), gateway.connect()];
    let [first, waiting, last] = &mut connections;
    first.send(raw("GET", "", "")).unwrap();
    peer.wait_requests(1, SOON);
    waiting.send(raw("GET", "", "")).unwrap();
    becomes(&gateway, "gateway_function_waiting", 1.0);
    reload(&gateway, &file, &list(&[free]));
    peer.wait_requests(2, SOON);
    gates[0].open();
    assert_eq!(first.within(SOON).reply("GET").unwrap().status, 200);
    reload(&gateway, &file, &list(&[limited]));
    last.send(raw("GET", "", "")).unwrap();
    becomes(&gateway, "gateway_function_waiting", 1.0);
    gates[1].open();
    for connection in [waiting, last] {
        assert_eq!(connection.within(SOON).reply("GET").unwrap().status, 200);
    }
}

#[test]
fn sighup_changes_addresses_and_replicas() {
    let (one, two) = (well(), well());
    let cats = |count: u32| json!({ "name": "cat", "fprocess": "cat", "replicas": count });
    let (gateway, file) = started(&[at(ONE, &[one.addr()]), cats(1)]);
    assert_eq!(gateway.get(&path("")).status, 200);
    let kept = dogs(&gateway, 1);
    reload(&gateway, &file, &list(&[at(ONE, &[two.addr()]), cats(3)]));
    assert!(dogs(&gateway, 3).contains(&kept[0]));
    // Calls reach the new address a moment later, and from then on no other.
    eventually(SOON, || match (gateway.get(&path("")).status, two.requests().len()) {
        (200, 1) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let before = one.requests().len();
    for _ in 0..5 {
        assert_eq!(gateway.get(&path("")).status, 200);
    }
    assert_eq!((one.requests().len(), two.requests().len()), (before, 6));
    eventually(SOON, || match one.open_connections() {
        0 => Ok(()),
        count => Err(format!("{count} connections to a replica that is gone")),
    });
}

#[test]
fn a_running_call_survives_the_end_of_its_function() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let (gateway, file) = started(&[at(ONE, &[peer.addr()]), process("sh", "sh -c 'read line; echo $line'")]);
    let (mut by_peer, mut by_process) = (gateway.connect(), gateway.connect());
    by_peer.send(raw("GET", "", "")).unwrap();
    by_process.send("POST /function/sh HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ne").unwrap();
    eventually(SOON, || match gateway.metrics("/metrics").sum("gateway_function_inflight", &[]) {
        2.0 => Ok(()),
        count => Err(format!("{count} in flight")),
    });
    // The process must run before its fwatchdog gets SIGTERM.
    eventually(SOON, || if gateway.descendants().len() > 1 { Ok(()) } else { Err("not yet".to_owned()) });
    reload(&gateway, &file, &list(&[]));
    eventually(SOON, || match gateway.metrics("/metrics").sum("gateway_service_count", &[]) {
        0.0 => Ok(()),
        count => Err(format!("{count} replicas are wanted")),
    });
    assert_eq!(gateway.get(&path("")).status, 404);
    gate.open();
    by_process.send("nd\n").unwrap();
    assert_eq!(by_peer.within(SOON).reply("GET").unwrap().text(), "ok");
    assert_eq!(by_process.within(SOON).reply("POST").unwrap().text(), "end\n");
    eventually(SOON, || match gateway.descendants() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
}

#[test]
fn a_broken_file_keeps_the_old_functions_and_says_so() {
    let peer = well();
    let (gateway, file) = started(&[at(ONE, &[peer.addr()])]);
    let shown = file.display().to_string();
    let replicas = json!({ "name": "two", "fprocess": "cat", "replicas": "many" });
    let directory = json!({ "name": "two", "fprocess": "cat", "directory": "/does/not/exist" });
    let address = json!({ "name": "two", "address": "nowhere" });
    let cases = [
        ("{".to_owned(), vec![]),
        ("[]".to_owned(), vec!["functions"]),
        (list(&[replicas]), vec!["`two`", "`replicas`"]),
        (list(&[directory]), vec!["`two`", "`directory`", "/does/not/exist"]),
        (list(&[address]), vec!["`two`", "`address`", "nowhere"]),
        (list(&[process("a b", "cat")]), vec!["number 1", "`name`"]),
        (list(&[process(ONE, "cat"), process(ONE, "cat")]), vec!["`one`"]),
        (list(&[process("two", "")]), vec!["`two`", "`fprocess`"]),
    ];
    for (content, parts) in cases {
        let line = reload(&gateway, &file, &content);
        assert!(line.contains(" error ") && line.contains("old functions stay"), "{line}");
        assert!(line.contains(&shown) && parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
        assert_eq!(gateway.get(&path("")).status, 200, "{line}");
    }
    fs::remove_file(&file).unwrap();
    let before = gateway.log().len();
    gateway.signal(proc::SIGHUP);
    eventually(SOON, || match &gateway.log()[before..] {
        log if log.contains(&shown) && log.contains("old functions stay") => Ok(()),
        log => Err(log.to_owned()),
    });
    assert_eq!(gateway.get(&path("")).status, 200);
    reload(&gateway, &file, &list(&[]));
    eventually(SOON, || match gateway.get(&path("")) {
        reply if reply.status == 404 => {
            is_own(&reply, (404, "unknown_function"), &["`one`"]);
            Ok(())
        }
        reply => Err(reply.status.to_string()),
    });
}

#[test]
fn calls_that_wait_for_a_removed_function_are_answered_at_once() {
    kit::sys::limits::raise_open_files(4096).unwrap();
    let peer = Peer::tcp(Script::new().request().stall());
    let mut limited = at(ONE, &[peer.addr()]);
    limited["labels"] = json!({ "faas.concurrency": "1" });
    let (gateway, file) = started(&[limited]);
    let mut first = gateway.connect();
    first.send(raw("GET", "", "")).unwrap();
    peer.wait_requests(1, SOON);
    let mut waiting: Vec<_> = (0..1000).map(|_| gateway.connect()).collect();
    waiting.iter_mut().for_each(|connection| connection.send(raw("GET", "", "")).unwrap());
    becomes(&gateway, "gateway_function_waiting", 1000.0);
    let began = Instant::now();
    reload(&gateway, &file, &list(&[]));
    for connection in &mut waiting {
        is_own(&connection.within(SOON).reply("GET").unwrap(), (404, "unknown_function"), &["`one`"]);
    }
    let took = began.elapsed(); // one call each 50 ms would take 20 s and more
    assert!(took < Duration::from_secs(10), "the last was told after {took:?}");
    println!("told after {took:?}");
}
