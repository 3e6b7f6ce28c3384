//! The metrics: each call once, refusals by reason, only known functions.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::json;
use testkit::http::chunked;
use testkit::metrics::Kind;
use testkit::unreachable::Refusing;
use testkit::{Gate, Peer, Script, eventually, proc};

use crate::{OK, ONE, SOON, at, becomes, before, counts, gateway, of_one, path, process, raw, well};

#[test]
fn every_family_of_the_contract_is_there() {
    let peer = well();
    let gateway = before(&peer).start();
    gateway.get(&path(""));
    counts(&gateway, "200", 1.0);
    let metrics = gateway.metrics("/metrics");
    for (name, kind) in [
        ("gateway_function_invocation_total", Kind::Counter),
        ("gateway_functions_seconds", Kind::Histogram),
        ("gateway_function_inflight", Kind::Gauge),
        ("gateway_function_waiting", Kind::Gauge),
        ("gateway_service_ready", Kind::Gauge),
        ("gateway_cold_start_seconds", Kind::Histogram),
        ("gateway_upstream_retries_total", Kind::Counter),
        ("gateway_rejected_total", Kind::Counter),
        ("gateway_connections", Kind::Gauge),
        ("gateway_workers", Kind::Gauge),
        ("gateway_provider_up", Kind::Gauge),
        ("process_cpu_seconds_total", Kind::Counter),
        ("process_resident_memory_bytes", Kind::Gauge),
        ("process_virtual_memory_bytes", Kind::Gauge),
        ("process_open_fds", Kind::Gauge),
        ("process_max_fds", Kind::Gauge),
        ("process_start_time_seconds", Kind::Gauge),
        ("process_threads", Kind::Gauge),
        ("gateway_build_info", Kind::Gauge),
    ] {
        assert_eq!(metrics.family(name).map(|family| family.kind), Some(kind), "{name}");
    }
    assert!(metrics.family("gateway_service_count").is_some());
    assert_eq!(metrics.value("gateway_build_info", &[("version", env!("CARGO_PKG_VERSION"))]), Some(1.0));
    assert_eq!(metrics.value("gateway_provider_up", &[]), Some(1.0));
    let reply = gateway.get("/metrics/");
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let bounds = [".005", ".01", ".025", ".05", ".1", ".25", ".5", "1", "2.5", "5", "10", "+Inf"];
    for bound in bounds {
        let le = if bound.starts_with('.') { format!("0{bound}") } else { bound.to_owned() };
        let labels = [("function_name", ONE), ("code", "200"), ("le", &*le)];
        assert!(metrics.value("gateway_functions_seconds_bucket", &labels).is_some(), "{le}");
    }
}

#[test]
fn promtool_accepts_the_metrics() {
    let refusing = Refusing::new();
    let functions = [at(ONE, &[refusing.addr()]), process("cat", "cat"), process("never.called-1", "cat")];
    let gateway = gateway(&functions).env("connect_timeout", "50ms").start();
    gateway.post("/function/cat", "x");
    gateway.post(&path(""), "x");
    counts(&gateway, "502", 1.0);
    let page = gateway.get("/metrics").body;
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        #[allow(clippy::disallowed_methods)] // `is_ci` decides whether a skip is a failure
        let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!is_ci, "promtool is not installed");
        eprintln!("skipped: promtool is not installed");
        return;
    };
    promtool.stdin.take().unwrap().write_all(&page).unwrap(); // closed as well, which promtool waits for
    let output = promtool.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && text.trim().is_empty(), "{text}");
}

#[test]
fn each_call_is_counted_once_however_it_ends() {
    let peer = Peer::tcp(
        Script::new()
            .request()
            .answer(|request| match request.target.as_str() {
                "/teapot" => b"HTTP/1.1 418 T\r\nContent-Length: 0\r\n\r\n".to_vec(),
                "/bad" => b"nonsense\r\n\r\n".to_vec(),
                "/slow" => vec![],
                _ => OK.as_bytes().to_vec(),
            })
            .repeat(),
    );
    let gateway = before(&peer).env("max_body", "100").start();
    let get = |below: &str| gateway.get(&path(below)).status;
    assert_eq!([get(""), get("/x"), get("/teapot"), get("/bad")], [200, 200, 418, 502]);
    // The only call that should time out.
    let slow = gateway.request().path(path("/slow")).header("X-Timeout", "300ms").send().unwrap();
    assert_eq!(slow.status, 504);
    let seen = peer.requests().len();
    let mut over = gateway.connect();
    over.send(raw("POST", "Transfer-Encoding: chunked\r\n", "")).unwrap();
    over.send(chunked(&[0; 50])).unwrap();
    peer.wait_requests(seen + 1, SOON);
    over.send(chunked(&[0; 51])).unwrap(); // together with the head the body would reach no function
    assert_eq!(over.within(SOON).reply("POST").unwrap().status, 413);
    let seen = peer.requests().len();
    let mut leaves = gateway.connect();
    leaves.send(raw("POST", "Content-Length: 5\r\n", "x")).unwrap();
    peer.wait_requests(seen + 1, SOON);
    drop(leaves);
    let want = [("200", 2.0), ("413", 1.0), ("418", 1.0), ("499", 1.0), ("502", 1.0), ("504", 1.0)];
    want.iter().for_each(|(code, count)| counts(&gateway, code, *count));
    let metrics = gateway.metrics("/metrics");
    assert_eq!(metrics.sum("gateway_function_invocation_total", &[]), 7.0);
    becomes(&gateway, "gateway_functions_seconds_count", 7.0);
    let seconds = of_one(&gateway, "gateway_functions_seconds_sum");
    assert!((0.3..30.0).contains(&seconds), "{seconds}");
    becomes(&gateway, "gateway_function_inflight", 0.0);
    // A request that reaches no function is no call.
    gateway.get("/function/two");
    gateway.get("/nowhere");
    assert_eq!(gateway.metrics("/metrics").sum("gateway_functions_seconds_count", &[]), 7.0);
}

#[test]
fn calls_in_flight_are_counted_until_they_end() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK).repeat());
    let gateway = before(&peer).start();
    let mut connections: Vec<_> = (0..5).map(|_| gateway.connect()).collect();
    connections.iter_mut().for_each(|connection| connection.send(raw("GET", "", "")).unwrap());
    becomes(&gateway, "gateway_function_inflight", 5.0);
    // The request for the metrics is active and takes no worker; the one before may still be there.
    eventually(SOON, || {
        let metrics = gateway.metrics("/metrics");
        let active = metrics.sum("gateway_connections", &[("state", "active")]);
        let busy = metrics.sum("gateway_workers", &[("state", "busy")]);
        if active == 6.0 && busy == 5.0 { Ok(()) } else { Err(format!("{active} active, {busy} busy")) }
    });
    gate.open();
    for connection in &mut connections {
        assert_eq!(connection.within(SOON).reply("GET").unwrap().status, 200);
    }
    becomes(&gateway, "gateway_function_inflight", 0.0);
    becomes(&gateway, "gateway_function_waiting", 0.0);
    drop(connections);
    eventually(SOON, || match gateway.metrics("/metrics").sum("gateway_connections", &[]) {
        1.0 => Ok(()),
        count => Err(format!("{count} connections")),
    });
}

#[test]
fn only_known_functions_are_label_values() {
    let (one, two) = (well(), well());
    let bin = gateway(&[at(ONE, &[one.addr()]), at("two", &[two.addr()])]);
    let file = bin.dir().join("functions.json");
    let gateway = bin.start();
    gateway.get(&path(""));
    gateway.get("/function/two");
    gateway.get("/function/three");
    let page = || gateway.get("/metrics").text();
    counts(&gateway, "200", 1.0);
    assert!(page().contains("\"two\"") && !page().contains("three"));
    std::fs::write(&file, json!({ "functions": [at(ONE, &[one.addr()])] }).to_string()).unwrap();
    gateway.signal(proc::SIGHUP);
    eventually(SOON, || if page().contains("\"two\"") { Err("two is there".to_owned()) } else { Ok(()) });
    counts(&gateway, "200", 1.0);
}

#[test]
fn replicas_are_counted_by_function() {
    let (one, two) = (well(), well());
    let three = json!({ "name": "three", "fprocess": "cat", "replicas": 3 });
    let none = json!({ "name": "none", "fprocess": "cat", "replicas": 0 });
    let gateway = gateway(&[at(ONE, &[one.addr(), two.addr()]), three, none]).start();
    let metrics = gateway.metrics("/metrics");
    for (name, count) in [(ONE, 2.0), ("three", 3.0), ("none", 0.0)] {
        let labels = [("function_name", name)];
        assert_eq!(metrics.value("gateway_service_count", &labels), Some(count), "{name}");
        assert_eq!(metrics.value("gateway_service_ready", &labels), Some(count), "{name}");
    }
}
