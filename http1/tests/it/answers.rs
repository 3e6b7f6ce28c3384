//! What becomes of what a service does, and of what it leaves undone.

use testkit::http::End;
use testkit::{HttpError, eventually};

use crate::support::{Fixture, PATIENCE, get, head, post};

#[test]
fn head_204_and_304_have_no_body() {
    let fixture = Fixture::new();
    let cases = [
        ("HEAD", "/length/5", 200, Some("5")),
        ("HEAD", "/chunked/5", 200, None),
        ("HEAD", "/status/200", 200, Some("4")),
        ("HEAD", "/status/404", 404, Some("4")),
        ("GET", "/status/304", 304, Some("4")),
    ];
    let mut connection = fixture.connect();
    for (method, path, status, length) in cases {
        connection.send(head(method, path, "")).unwrap();
        let reply = connection.reply(method).unwrap();
        assert_eq!((reply.status, reply.header("Content-Length")), (status, length), "{method} {path}");
        assert!(reply.header("Date").is_some());
    }
    connection.send(get("/status/204")).unwrap();
    assert_eq!(connection.reply("GET").unwrap().status, 204);
    connection.send(get("/early")).unwrap();
    assert_eq!(connection.reply("GET").unwrap().body, b"early", "nothing was left behind");
}

#[test]
fn bodies_of_every_size_and_framing() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    for size in [0, 1, 15, 16, 17, 8191, 8192, 8193, 65_535, 65_536, 65_537, 3 << 20] {
        for path in [format!("/length/{size}"), format!("/chunked/{size}")] {
            let reply = client.request().path(&path).send().unwrap();
            assert_eq!((reply.status, reply.body), (200, vec![b'x'; size]), "{path}");
        }
    }
    assert_eq!(client.opened(), 1);
}

#[test]
fn continue_is_sent_when_the_body_is_read() {
    let fixture = Fixture::new();
    let mut connection = fixture.send(head("POST", "/", "Content-Length: 5\r\nExpect: 100-Continue\r\n"));
    assert_eq!(connection.head().unwrap().status, 100);
    connection.send("hello").unwrap();
    let reply = connection.reply("POST").unwrap();
    assert_eq!((reply.status, &reply.body[..], reply.interim.len()), (200, &b"hello"[..], 0));
    connection.send(get("/early")).unwrap();
    assert_eq!(connection.reply("GET").unwrap().status, 200, "the connection goes on");
}

#[test]
fn continue_is_not_sent_without_need() {
    let fixture = Fixture::new();
    let expects = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    let without_body = head("GET", "/", "Expect: 100-continue\r\n");
    let http10 = b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello".to_vec();
    let sent_at_once = [&head("POST", "/", expects)[..], b"hello"].concat();
    let not_read = head("POST", "/early", expects);
    let cases = [(without_body, false), (http10, true), (sent_at_once, false), (not_read, true)];
    for (bytes, closes) in cases {
        let mut connection = fixture.send(&bytes);
        let reply = connection.reply("POST").unwrap();
        assert_eq!((reply.status, &reply.interim[..]), (200, &[][..]), "{}", bytes.escape_ascii());
        // Whether the body still comes is the client's to know, so what comes next is ambiguous.
        assert_eq!(!reply.head.keeps_alive(), closes, "{}", bytes.escape_ascii());
        if closes {
            assert_eq!(connection.rest().end, End::Closed);
        }
    }
}

/// The client first sends everything, and looks for the answer only then.
#[test]
fn an_early_answer_is_not_lost_to_a_reset() {
    let fixture = Fixture::new();
    for path in ["/early", "/early-stream"] {
        for size in [10, 100_000, 900_000] {
            let mut connection = fixture.send(head("POST", path, &format!("Content-Length: {size}\r\n")));
            let rest = vec![b'x'; size];
            for piece in rest.chunks(50_000) {
                connection.send(piece).unwrap();
            }
            let reply = connection.reply("POST").unwrap_or_else(|e| panic!("{path}, {size}: {e}"));
            assert_eq!(reply.body, b"early");
            // All of a small body may have been there in time; of a large one so much is not thrown away.
            if size > 256 * 1024 || !reply.head.keeps_alive() {
                let raw = connection.rest();
                assert_eq!((raw.bytes.len(), raw.end), (0, End::Closed), "{path}, {size}");
            }
        }
    }
}

#[test]
fn an_early_answer_keeps_the_connection_when_the_body_is_there() {
    let fixture = Fixture::new();
    let mut connection = fixture.connect();
    for path in ["/early", "/early-stream"] {
        for body in [&b"x"[..], &[b'x'; 10_000]] {
            connection.send(post(path, body)).unwrap();
            let reply = connection.reply("POST").unwrap();
            assert_eq!(reply.body, b"early");
        }
    }
    // A body without an end, of which nothing more comes, is no reason to wait.
    connection.send(head("POST", "/early", "Content-Length: 1000000000000000\r\n")).unwrap();
    let reply = connection.reply("POST").unwrap();
    assert_eq!((&reply.body[..], reply.head.keeps_alive()), (&b"early"[..], false));
}

#[test]
fn a_panic_is_one_500() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    for count in 1..=3 {
        let reply = client.request().path("/panic").send().unwrap();
        assert_eq!((reply.status, fixture.stats().panics), (500, count));
        assert_eq!(client.request().path("/early").send().unwrap().status, 200);
    }
    assert_eq!(client.opened(), 1, "the panic was the service's, not the connection's");
}

#[test]
fn no_answer_is_a_500() {
    let fixture = Fixture::new();
    for path in ["/nothing", "/finish-first"] {
        let reply = fixture.request().path(path).send().unwrap();
        assert_eq!((reply.status, reply.text().lines().count()), (500, 1), "{path}");
        let reply = fixture.request().method("POST").path(path).body(vec![b'x'; 300_000]).send().unwrap();
        assert_eq!(reply.status, 500, "{path} with a body");
    }
    assert_eq!(fixture.stats().panics, 0);
}

#[test]
fn a_second_answer_is_not_sent() {
    let fixture = Fixture::new();
    let mut client = fixture.client();
    for _ in 0..3 {
        assert_eq!(client.request().path("/twice").send().unwrap().body, b"once");
    }
    assert_eq!((client.opened(), fixture.stats().panics), (1, 0));
}

/// Nobody may take half an answer for a whole one, however the body is framed.
#[test]
fn an_unfinished_answer_breaks_the_connection() {
    let fixture = Fixture::new();
    for path in ["/half-length", "/half-chunked", "/unfinished", "/late-panic", "/abort", "/restart"] {
        let raw = fixture.send(get(path)).rest();
        assert_ne!(raw.end, End::Open, "{path}");
        assert!(
            raw.replies(&["GET"]).is_err() || raw.bytes.is_empty(),
            "{path}: {}",
            raw.bytes.escape_ascii()
        );
        let error = fixture.request().path(path).send();
        assert!(
            matches!(error, Err(HttpError::CutBody(_) | HttpError::Broken(..) | HttpError::Closed)),
            "{path}: {error:?}"
        );
    }
    assert_eq!(fixture.request().path("/early").send().unwrap().status, 200);
}

#[test]
fn a_length_is_unknown_to_http10_and_ends_with_the_connection() {
    let fixture = Fixture::new();
    let raw = fixture.send("GET /chunked/100 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").rest();
    let reply = &raw.replies(&["GET"]).unwrap()[0];
    assert_eq!((reply.body.len(), reply.header("Transfer-Encoding"), raw.end), (100, None, End::Closed));
}

/// Clients that go away at any moment leave nothing behind; the fixture's end sees to that.
#[test]
fn clients_that_leave_are_let_go() {
    let fixture = Fixture::new();
    let endless = head("POST", "/", "Content-Length: 100\r\n");
    for bytes in [&b"GET /"[..], &get("/length/10000000"), &endless, &post("/stream", b"hello")[..58]] {
        fixture.send(bytes).reset();
        drop(fixture.send(bytes));
        fixture.send(bytes).end();
    }
    eventually(PATIENCE, || match fixture.probe.body_errors().len() {
        3.. => Ok(()),
        n => Err(format!("{n} bodies failed")),
    });
    assert_eq!(fixture.request().send().unwrap().status, 200);
}
