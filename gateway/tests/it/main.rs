//! The gateway as its users see it: the real binary with its local provider, over real sockets, in front of
//! scripted peers and of real processes behind fwatchdog.

mod access;
mod access_log;
mod bodies;
mod chain;
mod children;
mod connections;
mod control;
mod drain;
mod engines;
mod errors;
mod few_files;
mod files;
mod headers;
mod hostile;
mod late;
mod listen;
mod log;
mod metrics;
mod neighbours;
mod peers;
mod reload;
mod retries;
mod routes;
mod safety;
mod scaling;
mod shares;
mod start;
mod streams;
mod swarm;
mod tls;
mod upgrade;

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Bin, Peer, Reply, Running, Script, eventually, proc};

/// Time limit of what should happen at once.
const SOON: Duration = Duration::from_secs(20);

/// A complete answer of a function.
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The name of the function in tests that need only one.
const ONE: &str = "one";

/// A gateway with this functions file.
fn gateway(functions: &[Value]) -> Bin {
    let bin = Bin::gateway().env("provider", "local");
    let file = bin.file("functions.json", json!({ "functions": functions }).to_string());
    bin.env("functions_file", file)
}

/// A gateway in front of one function, [`ONE`], at `peer`.
fn before(peer: &Peer) -> Bin {
    gateway(&[at(ONE, &[peer.addr()])])
}

/// A function that the gateway does not run.
fn at(name: &str, addresses: &[SocketAddr]) -> Value {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    json!({ "name": name, "address": addresses })
}

/// A function that the gateway runs.
fn process(name: &str, fprocess: &str) -> Value {
    json!({ "name": name, "fprocess": fprocess })
}

/// A function that answers every request with [`OK`].
fn well() -> Peer {
    Peer::tcp(Script::new().request().send(OK).repeat())
}

/// The path `below` of [`ONE`].
fn path(below: &str) -> String {
    format!("/function/{ONE}{below}")
}

/// A request to [`ONE`]: header lines, then the bytes after the head.
fn raw(method: &str, fields: &str, rest: &str) -> String {
    format!("{method} {} HTTP/1.1\r\nHost: test\r\n{fields}\r\n{rest}", path(""))
}

/// Waits until `want` calls of [`ONE`] are counted under `code`: a call is counted after its answer is sent.
#[track_caller]
fn counts(gateway: &Running, code: &str, want: f64) {
    eventually(SOON, || {
        let metrics = gateway.metrics("/metrics");
        let labels = [("function_name", ONE), ("code", code)];
        match metrics.value("gateway_function_invocation_total", &labels).unwrap_or(0.0) {
            got if got == want => Ok(()),
            got => Err(format!("{got} calls with {code} are counted, not {want}")),
        }
    });
}

/// How many requests were refused for `reason`.
fn rejected(gateway: &Running, reason: &str) -> f64 {
    gateway.metrics("/metrics").value("gateway_rejected_total", &[("reason", reason)]).unwrap_or(0.0)
}

/// The fwatchdogs, once there are exactly `count`. Children start after the line `listening on`, and between
/// fork and exec a child of fwatchdog has its name too.
#[track_caller]
fn dogs(gateway: &Running, count: usize) -> Vec<u32> {
    let is_dog = |pid: &u32| {
        let is_child = proc::stat(*pid).is_some_and(|stat| stat.parent == gateway.pid());
        is_child && proc::command_line(*pid).ends_with("fwatchdog")
    };
    eventually(SOON, || {
        let dogs: Vec<u32> = gateway.descendants().into_iter().filter(is_dog).collect();
        if dogs.len() == count { Ok(dogs) } else { Err(format!("{dogs:?} run, not {count}")) }
    })
}

/// Expects an answer of the gateway itself: one line of text with `parts`.
#[track_caller]
fn is_own(reply: &Reply, (status, kind): (u16, &str), parts: &[&str]) {
    let text = reply.text();
    assert_eq!((reply.status, reply.header("x-gateway-error")), (status, Some(kind)), "{text}");
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"), "{text}");
    assert!(text.ends_with('\n') && text.lines().count() == 1, "one line: {text:?}");
    assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} in {text:?}");
    assert_eq!(reply.header("retry-after").is_some(), matches!(status, 429 | 503), "{text}");
}

/// Expects that the next good call is answered.
#[track_caller]
fn is_well(gateway: &Running) {
    let reply = gateway.post(&path("/well"), "hello");
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Waits until a gauge of [`ONE`] has this value.
#[track_caller]
fn becomes(gateway: &Running, name: &str, want: f64) {
    eventually(SOON, || match of_one(gateway, name) {
        got if got == want => Ok(()),
        got => Err(format!("{name} is {got}, not {want}")),
    });
}

/// The sum of the series of [`ONE`]; 0 without series.
fn of_one(gateway: &Running, name: &str) -> f64 {
    gateway.metrics("/metrics").sum(name, &[("function_name", ONE)])
}
