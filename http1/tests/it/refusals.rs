//! Every line of what is refused, every limit of a message from both sides, and every split of a head.

use http1::ServerConfig;
use testkit::hostile::{self, Expect, Row};

use crate::support::{Fixture, PATIENCE, head};

/// What is read at a time of a new connection: 8 KiB.
const FIRST_READ: usize = 8 * 1024;

fn check(fixture: &Fixture, rows: &[Row]) {
    hostile::check_echo(fixture.addr(), rows);
    let mut problems = vec![];
    for row in rows {
        let Expect::Refused { reason, .. } = row.expect else { continue };
        let (calls, refused) = (fixture.probe.calls(), fixture.probe.refused().len());
        hostile::check(fixture.addr(), std::slice::from_ref(row));
        let counted = fixture.probe.refused()[refused..].to_vec();
        let reasons_fit = counted.len() == 1 && reason.is_none_or(|reason| counted[0] == reason);
        let was_called = fixture.probe.calls() > calls;
        // What is wrong with a body that came with its head shows before anybody is called for it.
        if !reasons_fit || was_called && row.bytes.len() <= FIRST_READ {
            problems.push(format!("{}: counted as {counted:?}, called: {was_called}", row.name));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_hostile_request_is_refused_and_every_odd_one_served() {
    let fixture = Fixture::new();
    check(&fixture, &hostile::requests("/echo", hostile::Heads::DEFAULT));
    assert_eq!(fixture.stats().panics, 0);
}

#[test]
fn bodies_end_at_max_body() {
    let fixture = Fixture::start(ServerConfig { max_body: 100_000, ..ServerConfig::default() });
    check(&fixture, &hostile::body_limits("/echo", 100_000));
}

#[test]
fn limits_of_heads_are_settings() {
    let config = ServerConfig { max_header_bytes: 1000, max_headers: 5, ..ServerConfig::default() };
    let fixture = Fixture::start(config);
    let sized = |size: usize| {
        let empty = head("GET", "/", "Connection: close\r\nX: \r\n").len();
        head("GET", "/", &format!("Connection: close\r\nX: {}\r\n", "x".repeat(size - empty)))
    };
    let counted = |count: usize| {
        let more: String = (3..=count).map(|number| format!("X-{number}: x\r\n")).collect();
        head("GET", "/", &format!("Connection: close\r\n{more}"))
    };
    let cases = [
        (sized(1000), 200, None),
        (sized(1001), 431, Some("head_too_large")),
        (counted(5), 200, None),
        (counted(6), 431, Some("too_many_headers")),
        ([&b"\r\n".repeat(400)[..], &sized(200)].concat(), 200, None),
        (b"\r\n".repeat(501), 431, Some("head_too_large")),
    ];
    for (bytes, status, reason) in cases {
        let reply = fixture.send(bytes).reply("GET").unwrap();
        assert_eq!((reply.status, reply.header("X-Refused")), (status, reason), "{}", reply.text());
    }
}

/// What cannot become a request any more is not waited for until `header_timeout`, which is longer than the test.
#[test]
fn bytes_that_begin_no_request_are_refused_at_once() {
    let config = ServerConfig { header_timeout: 2 * PATIENCE, ..ServerConfig::default() };
    let fixture = Fixture::start(config);
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for (bytes, reason) in [(&hello[..], "tls"), (&hello[..1], "tls"), (b"\0", "method"), (b"(GET", "method")]
    {
        let mut connection = fixture.send(bytes);
        let reply = connection.reply("GET").unwrap();
        assert_eq!((reply.status, reply.header("X-Refused")), (400, Some(reason)), "{bytes:?}");
        assert!(connection.rest().bytes.is_empty());
    }
}

/// The limit holds wherever the head is read: first on a connection, behind a request in the same packet,
/// and behind one whose worker waits for the next.
#[test]
fn a_large_head_is_refused_at_once_wherever_it_is_read() {
    let config = ServerConfig { max_header_bytes: 1000, ..ServerConfig::default() };
    let fixture = Fixture::start(config);
    let whole = head("GET", "/", &format!("X: {}\r\n", "x".repeat(1000)));
    let endless = whole[..1020].to_vec();
    for large in [whole, endless] {
        let refused = |connection: &mut testkit::http::Connection| {
            let reply = connection.within(PATIENCE / 2).reply("GET").unwrap();
            assert_eq!((reply.status, reply.header("X-Refused")), (431, Some("head_too_large")));
            assert!(connection.within(PATIENCE).rest().bytes.is_empty());
        };
        refused(&mut fixture.send(&large));
        let mut pipelined = fixture.send([head("GET", "/", ""), large.clone()].concat());
        assert_eq!(pipelined.reply("GET").unwrap().status, 200);
        refused(&mut pipelined);
        let mut following = fixture.send(head("GET", "/", ""));
        assert_eq!(following.reply("GET").unwrap().status, 200);
        following.send(&large).unwrap();
        refused(&mut following);
    }
}

#[test]
fn a_head_may_be_split_anywhere() {
    let fixture = Fixture::new();
    let bytes = b"\r\nPOST /echo?a=b HTTP/1.1\r\nHost: x\r\nX-A:  1\r\nContent-Length: 5\r\n\r\nhello";
    let mut connection = fixture.connect();
    for split in 1..bytes.len() {
        connection.send(&bytes[..split]).unwrap();
        // What was sent has been seen before the rest goes out, so that it really comes in two pieces.
        let is_seen = |stats: &http1::Stats| match split {
            1 | 2 => true, // empty lines are not the beginning of a head
            _ => stats.connections_head + stats.connections_active == 1,
        };
        fixture.wait("reading", is_seen);
        connection.send(&bytes[split..]).unwrap();
        let reply = connection.reply("POST").unwrap();
        assert_eq!((reply.status, &reply.body[..]), (200, &b"hello"[..]), "split at {split}");
    }
    assert_eq!(fixture.probe.calls(), bytes.len() - 1);
}

#[test]
fn a_head_may_come_byte_by_byte() {
    let fixture = Fixture::new();
    let mut connection = fixture.connect();
    for _ in 0..3 {
        for byte in
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        {
            connection.send([*byte]).unwrap();
        }
        assert_eq!(connection.reply("POST").unwrap().body, b"hello");
    }
}

/// A service that returns without an answer to a body that was refused leaves the answer to the server,
/// but never half of one.
#[test]
fn a_refused_body_breaks_off_an_answer_that_has_begun() {
    let fixture = Fixture::new();
    let mut connection = fixture.send(head("POST", "/stream", "Transfer-Encoding: chunked\r\n"));
    connection.send(b"5\r\nhello\r\n").unwrap();
    assert_eq!(connection.head().unwrap().status, 200);
    connection.send(b"nonsense\r\n").unwrap();
    let raw = connection.rest();
    assert!(b"5\r\nhello\r\n".starts_with(&raw.bytes), "{}", raw.bytes.escape_ascii());
    assert!(!fixture.probe.body_errors().is_empty());
}
