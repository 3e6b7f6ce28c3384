//! Clients that owe the body of their request: no process starts for them.

use testkit::http::Connection;
use testkit::{Bin, Peer, Running, Script, program};

use crate::{SOON, counts, is_idle};

/// Connections of clients that got `100 Continue` and send no body.
fn silent(dog: &Running, count: usize) -> Vec<Connection> {
    let mut connections: Vec<_> = (0..count).map(|_| dog.connect()).collect();
    for connection in &mut connections {
        let fields = "Host: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n";
        connection.send(format!("POST / HTTP/1.1\r\n{fields}\r\n")).unwrap();
        assert_eq!(connection.within(SOON).head().unwrap().status, 100);
    }
    connections
}

fn begun(dog: &Running) -> f64 {
    dog.metrics("/_/metrics").value("http_requests_in_flight", &[]).unwrap()
}

#[test]
fn no_process_is_started_before_the_body_comes() {
    for mode in ["fork", "streaming"] {
        let dog = Bin::fwatchdog().env("fprocess", "cat").env("mode", mode).start();
        let mut silent = silent(&dog, 20);
        assert_eq!((dog.descendants(), begun(&dog)), (vec![], 0.0), "{mode}");
        for connection in &mut silent {
            connection.send("hello").unwrap();
            let reply = connection.within(SOON).reply("POST").unwrap();
            assert_eq!((reply.status, reply.text().as_str()), (200, "hello"), "{mode}");
        }
        is_idle(&dog);
    }
}

#[test]
fn the_process_of_mode_http_is_not_connected_to_before_the_body_comes() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let peer = Peer::tcp(Script::new().request().send(answer).repeat());
    let dog = Bin::fwatchdog().env("fprocess", program("sleeps")).env("kill_grace", "0");
    let dog = dog.env("mode", "http").env("upstream_url", format!("http://{}", peer.addr())).start();
    let mut silent = silent(&dog, 20);
    assert_eq!((peer.requests().len(), begun(&dog)), (0, 0.0));
    for connection in &mut silent {
        connection.send("hello").unwrap();
        assert_eq!(connection.within(SOON).reply("POST").unwrap().status, 200);
    }
    assert_eq!(peer.requests().len(), 20);
}

#[test]
fn a_client_that_never_sends_its_body_is_told_so() {
    let dog = Bin::fwatchdog().env("fprocess", "cat").env("read_timeout", "300ms").start();
    for connection in &mut silent(&dog, 3) {
        let reply = connection.within(SOON).reply("POST").unwrap();
        assert_eq!(reply.status, 408, "{}", reply.text());
        assert!(reply.text().contains("read_timeout"), "{}", reply.text());
    }
    let metrics = dog.metrics("/_/metrics");
    assert_eq!(metrics.value("http_requests_rejected_total", &[("reason", "body_stall")]), Some(3.0));
    assert_eq!(dog.post("/", "x").status, 200);
    counts(&dog, "200", 1.0);
}

#[test]
fn a_bad_chunk_behind_its_head_starts_no_process() {
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("started");
    let dog = Bin::fwatchdog().env("fprocess", format!("touch {}", mark.display())).start();
    let mut connection = dog.connect();
    let request = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    connection.send(request).unwrap();
    assert_eq!(connection.within(SOON).reply("POST").unwrap().status, 400);
    assert!(!mark.exists());
    assert_eq!(dog.get("/").status, 200);
    assert!(mark.exists());
}
