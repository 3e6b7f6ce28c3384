//! Connections that stay, requests behind one another, and ends that lose nothing.

use http1::ServerConfig;
use testkit::http::End;

use crate::support::{Fixture, get, head, post};

#[test]
fn a_connection_serves_many_requests() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    for number in 0..500 {
        let body = vec![b'x'; number * 7];
        let reply = client.request().method("POST").path("/echo").body(body.clone()).send().unwrap();
        assert_eq!((reply.status, reply.header("Connection")), (200, None));
        assert_eq!(reply.body, body);
    }
    assert_eq!((client.opened(), fixture.probe.calls()), (1, 500));
}

#[test]
fn a_connection_is_kept_and_closed_as_asked() {
    let fixture = Fixture::new();
    let cases = [
        ("HTTP/1.1", "", None),
        ("HTTP/1.1", "Connection: keep-alive\r\n", None),
        ("HTTP/1.1", "Connection: close\r\n", Some("close")),
        ("HTTP/1.1", "Connection: x, CLOSE\r\n", Some("close")),
        ("HTTP/1.1", "Connection: x\r\nConnection: close\r\n", Some("close")),
        ("HTTP/1.0", "", Some("close")),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", Some("keep-alive")),
        ("HTTP/1.0", "Connection: keep-alive, close\r\n", Some("close")),
    ];
    for (version, fields, connection_field) in cases {
        let bytes = format!("GET /length/5 {version}\r\nHost: x\r\n{fields}\r\n");
        let mut connection = fixture.send(&bytes);
        let reply = connection.reply("GET").unwrap();
        assert_eq!((reply.body.len(), reply.header("Connection")), (5, connection_field), "{bytes}");
        if reply.head.has_token("connection", "close") {
            assert_eq!(connection.rest().end, End::Closed, "{bytes}");
        } else {
            connection.send(&bytes).unwrap();
            assert_eq!(connection.reply("GET").unwrap().body.len(), 5, "{bytes}");
        }
    }
}

#[test]
fn a_service_may_end_the_connection() {
    let fixture = Fixture::new();
    let mut connection = fixture.send([get("/close"), get("/early")].concat());
    let raw = connection.rest();
    let replies = raw.replies(&[]).unwrap();
    assert_eq!((replies.len(), &replies[0].body[..], raw.end), (1, &b"closing"[..], End::Closed));
    assert_eq!(replies[0].header("Connection"), Some("close"));
}

/// What a client sends behind its last request is not answered, and does not reset the answer away.
#[test]
fn input_behind_the_last_request_does_not_reset_its_answer() {
    let fixture = Fixture::new();
    for size in [1, 10_000, 500_000] {
        let last = head("GET", "/length/100000", "Connection: close\r\n");
        let raw =
            testkit::http::talk(fixture.addr(), &[last, vec![b'x'; size]].concat(), crate::support::PATIENCE);
        let raw = raw.unwrap();
        let replies = raw.replies(&[]).unwrap();
        assert_eq!((replies.len(), replies[0].body.len(), raw.end), (1, 100_000, End::Closed));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let fixture = Fixture::new();
    let mut bytes = Vec::new();
    let count = 200;
    for number in 0..count {
        match number % 4 {
            0 => bytes.extend(post("/echo", format!("body {number}").as_bytes())),
            1 => bytes.extend(get(&format!("/length/{number}"))),
            2 => bytes.extend(post("/early", b"unread")),
            _ => {
                bytes.extend(head("POST", "/stream", "Transfer-Encoding: chunked\r\n"));
                bytes.extend(format!("4\r\nbody\r\n1;x=y\r\n{}\r\n0\r\nA: b\r\n\r\n", number % 10).bytes());
            }
        }
    }
    let mut connection = fixture.send(&bytes);
    for number in 0..count {
        let reply = connection.reply("POST").unwrap();
        let want = match number % 4 {
            0 => format!("body {number}"),
            1 => "x".repeat(number),
            2 => "early".to_owned(),
            _ => format!("body{}", number % 10),
        };
        assert_eq!((reply.status, reply.text()), (200, want), "request {number}");
    }
    assert_eq!(fixture.probe.calls(), count);
}

/// With one worker, a connection that has always another request ready must take turns with the others.
#[test]
fn a_pipelining_client_takes_turns() {
    let fixture = Fixture::start(ServerConfig { max_workers: 1, ..ServerConfig::default() });
    let hold = fixture.send(get("/hold"));
    fixture.wait("held", |stats| stats.workers_busy == 1);
    let mut greedy = fixture.send(post("/echo", b"greedy").repeat(500));
    fixture.wait("queued", |stats| stats.waiting == 1);
    let mut modest = fixture.send(post("/echo/modest", b"modest"));
    fixture.wait("queued", |stats| stats.waiting == 2);
    fixture.probe.release();
    assert_eq!(modest.reply("POST").unwrap().body, b"modest");
    let place = fixture.probe.paths().iter().position(|path| path == "/echo/modest");
    assert!(place.is_some_and(|place| place <= 3), "served in place {place:?}");
    for _ in 0..500 {
        assert_eq!(greedy.reply("POST").unwrap().body, b"greedy");
    }
    drop(hold);
}

/// The next request comes before, while and after the worker waits for it.
#[test]
fn the_pause_between_requests_does_not_matter() {
    let fixture = Fixture::new();
    let mut connection = fixture.connect();
    for pause in (0..40).map(|step| std::time::Duration::from_micros(step * 125)) {
        for _ in 0..5 {
            connection.send(post("/echo", b"hello")).unwrap();
            assert_eq!(connection.reply("POST").unwrap().body, b"hello");
            std::thread::sleep(pause); // what is varied
        }
    }
    assert_eq!(fixture.probe.calls(), 200);
}

#[test]
fn a_client_that_ends_its_direction_gets_its_answers() {
    let fixture = Fixture::new();
    let mut connection = fixture.send([get("/length/100000"), post("/echo", b"last")].concat());
    connection.end();
    let raw = connection.rest();
    let replies = raw.replies(&[]).unwrap();
    assert_eq!((replies.len(), &replies[1].body[..], raw.end), (2, &b"last"[..], End::Closed));
}
