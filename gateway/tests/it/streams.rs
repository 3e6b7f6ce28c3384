//! Streaming answers: how long they may last, and what ends them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::reply::HttpError;
use testkit::{Peer, Running, Script, eventually};

use crate::{ONE, SOON, at, before, counts, gateway, path, process, raw};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// Server-sent events that take three seconds.
fn events() -> Script {
    let events: String = (10..40).map(|number| format!("data: {number}\n\n")).collect();
    Script::new().request().send(HEAD).send_slowly(events, 10, Duration::from_millis(100)).close()
}

/// An answer that never stops.
fn endless() -> Script {
    let has_begun = AtomicBool::new(false);
    let piece = move || match has_begun.swap(true, Ordering::SeqCst) {
        false => HEAD.as_bytes().to_vec(),
        true => vec![b'x'; 64 * 1024],
    };
    Script::new().answer(move |_| piece()).repeat()
}

fn labelled(peer: &Peer, label: &str, value: &str) -> Value {
    let mut function = at(ONE, &[peer.addr()]);
    function["labels"] = json!({ label: value });
    function
}

/// Calls a function whose answer begins and is then broken off.
#[track_caller]
fn is_broken_off(gateway: &Running, limit: Option<&str>) {
    let mut request = gateway.request().path(path("")).timeout(2 * SOON);
    if let Some(limit) = limit {
        request = request.header("X-Timeout", limit);
    }
    match request.send_into(&mut std::io::sink()) {
        Err(HttpError::CutBody(reply)) => assert_eq!(reply.status, 200),
        other => panic!("{other:?}"),
    }
    counts(gateway, "504", 1.0);
}

#[test]
fn a_stream_may_outlast_upstream_timeout() {
    let peer = Peer::tcp(events());
    let gateway = before(&peer).env("upstream_timeout", "2s").start();
    let reply = gateway.request().path(path("")).timeout(2 * SOON).send().unwrap();
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/event-stream")));
    assert!(reply.text().ends_with("data: 39\n\n"), "{}", reply.text());
    assert_eq!(peer.requests()[0].header("x-timeout"), None, "fwatchdog would cut it");
    counts(&gateway, "200", 1.0);
}

#[test]
fn a_process_may_write_longer_than_upstream_timeout() {
    let mut function = process(ONE, "sh -c 'for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.4; done'");
    function["environment"] = json!({ "mode": "streaming" });
    let gateway = gateway(&[function]).env("upstream_timeout", "2s").start();
    let reply = gateway.request().path(path("")).timeout(2 * SOON).send().unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "1\n2\n3\n4\n5\n6\n7\n8\n"));
}

#[test]
fn a_silent_stream_is_cut_at_idle_timeout() {
    let peer = Peer::tcp(Script::new().request().send(HEAD).send("data: 1\n\n").stall());
    let gateway = before(&peer).env("idle_timeout", "1s").env("log", "debug").start();
    is_broken_off(&gateway, None);
    gateway.wait_log("deadline of 1s passed in the middle of the body, see idle_timeout", SOON);
}

#[test]
fn x_timeout_bounds_the_whole_answer() {
    for script in [endless(), Script::new().request().send(HEAD).stall()] {
        let peer = Peer::tcp(script);
        let gateway = before(&peer).env("log", "debug").start();
        is_broken_off(&gateway, Some("900ms"));
        gateway.wait_log("deadline of 900ms passed in the middle of the body, see X-Timeout", SOON);
    }
}

#[test]
fn faas_timeout_bounds_the_whole_answer_and_may_exceed_the_setting() {
    let peer = Peer::tcp(endless());
    let gateway = gateway(&[labelled(&peer, "faas.timeout", "900ms")]).env("log", "debug").start();
    is_broken_off(&gateway, None);
    gateway.wait_log("deadline of 900ms passed in the middle of the body, see faas.timeout", SOON);
    drop(gateway);

    let slow = Script::new().request().pause(Duration::from_secs(1)).send(crate::OK).repeat();
    let peer = Peer::tcp(slow);
    let patient = labelled(&peer, "faas.timeout", "40s");
    let gateway = crate::gateway(&[patient]).env("upstream_timeout", "200ms").start();
    assert_eq!(gateway.request().path(path("")).timeout(2 * SOON).send().unwrap().status, 200);
    let left = peer.requests()[0].header("x-timeout").map(str::to_owned).unwrap();
    assert!(left.len() == "39999ms".len() && left.starts_with(['3', '4']), "{left}");
}

#[test]
fn a_client_that_stops_reading_a_stream_loses_it() {
    let peer = Peer::tcp(endless());
    let gateway = before(&peer).env("body_stall_timeout", "1s").start();
    let mut client = gateway.connect();
    client.send(raw("GET", "", "")).unwrap();
    counts(&gateway, "499", 1.0);
    eventually(SOON, || match peer.open_connections() {
        0 => Ok(()),
        count => Err(format!("{count} connections to the function are open")),
    });
}
