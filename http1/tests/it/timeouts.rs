//! Every wait of the server has its bound, and a peer that keeps to it is not cut.

use std::time::{Duration, Instant};

use http1::ServerConfig;
use testkit::http::{Connection, End, Raw};

use crate::support::{Fixture, PATIENCE, get, head};

const SHORT: Duration = Duration::from_millis(300);

/// Short too, and yet longer than a busy machine keeps a peer from doing what it is about to do.
const AMPLE: Duration = Duration::from_secs(2);

fn config() -> ServerConfig {
    ServerConfig::default()
}

/// How the connection ended, and that it took the short time and not as long as any other bound.
#[track_caller]
fn rest_after_short(connection: &mut Connection, since: Instant) -> Raw {
    let raw = connection.within(PATIENCE).rest();
    let took = since.elapsed();
    assert!(took >= SHORT - Duration::from_millis(5) && took < PATIENCE / 2, "{took:?}");
    assert_ne!(raw.end, End::Open);
    raw
}

#[test]
fn a_silent_connection_is_closed_without_a_word() {
    let fixture = Fixture::start(ServerConfig { header_timeout: SHORT, ..config() });
    for bytes in [&b""[..], b"\r\n", b"\r\n\r\n"] {
        let since = Instant::now();
        let raw = rest_after_short(&mut fixture.send(bytes), since);
        assert_eq!((raw.bytes.len(), raw.end), (0, End::Closed));
    }
    assert_eq!(fixture.probe.refused(), [""; 0]);
}

/// Whichever poller it was given to, also one that has no other and sleeps.
#[test]
fn the_first_connection_of_a_poller_has_its_time_too() {
    let fixture = Fixture::start(ServerConfig { header_timeout: SHORT, pollers: 3, ..config() });
    for _ in 0..3 {
        let raw = fixture.connect().rest();
        assert_eq!((raw.bytes.len(), raw.end), (0, End::Closed));
    }
}

#[test]
fn half_a_head_is_answered_408() {
    let fixture = Fixture::start(ServerConfig { header_timeout: SHORT, ..config() });
    for bytes in ["G", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let since = Instant::now();
        let raw = rest_after_short(&mut fixture.send(bytes), since);
        assert_eq!(raw.replies(&["GET"]).unwrap()[0].status, 408);
    }
    assert_eq!(fixture.probe.refused(), ["header_timeout"; 2]);
    assert_eq!(fixture.probe.calls(), 0);
}

/// A byte now and then does not prolong it; the time begins anew with each head.
#[test]
fn the_whole_head_has_one_time() {
    let fixture = Fixture::start(ServerConfig { header_timeout: AMPLE, ..config() });
    let mut connection = fixture.send(get("/"));
    assert_eq!(connection.reply("GET").unwrap().status, 200);
    let since = Instant::now();
    let mut sent = 0;
    while connection.send("G").is_ok() && since.elapsed() < PATIENCE {
        sent += 1;
        connection.within(AMPLE / 40);
        if connection.head().is_ok_and(|head| head.status == 408) {
            break;
        }
    }
    let took = since.elapsed();
    assert!(sent > 3 && took >= AMPLE && took < PATIENCE, "{took:?}, {sent} bytes");
    assert_eq!(fixture.probe.refused(), ["header_timeout"]);
}

#[test]
fn an_idle_connection_is_closed() {
    let fixture = Fixture::start(ServerConfig { idle_timeout: SHORT, ..config() });
    let since = Instant::now();
    let mut connection = fixture.send(get("/"));
    assert_eq!(connection.reply("GET").unwrap().status, 200);
    let raw = rest_after_short(&mut connection, since);
    assert_eq!((raw.bytes.len(), raw.end), (0, End::Closed));
}

#[test]
fn the_idle_time_is_longer_than_that_of_heads() {
    let fixture = Fixture::start(ServerConfig { header_timeout: AMPLE / 2, ..config() });
    let mut connection = fixture.send(get("/"));
    assert_eq!(connection.reply("GET").unwrap().status, 200);
    assert_eq!(connection.within(AMPLE).rest().end, End::Open);
    connection.within(PATIENCE).send(get("/")).unwrap();
    assert_eq!(connection.reply("GET").unwrap().status, 200);
}

#[test]
fn a_body_that_stops_is_answered_408() {
    let fixture = Fixture::start(ServerConfig { body_stall_timeout: SHORT, ..config() });
    let cases =
        [("Content-Length: 5\r\n", "hell"), ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n")];
    for (fields, body) in cases {
        let since = Instant::now();
        let mut connection = fixture.send([&head("POST", "/", fields)[..], body.as_bytes()].concat());
        let raw = rest_after_short(&mut connection, since);
        let reply = &raw.replies(&["POST"]).unwrap()[0];
        assert_eq!((reply.status, reply.header("X-Refused")), (408, Some("body_stall")));
    }
}

#[test]
fn a_slow_body_that_goes_on_is_served() {
    let fixture = Fixture::start(ServerConfig { body_stall_timeout: AMPLE, ..config() });
    let mut connection = fixture.send(head("POST", "/", "Content-Length: 10\r\n"));
    let since = Instant::now();
    for _ in 0..10 {
        assert_eq!(connection.within(AMPLE / 8).rest().end, End::Open);
        connection.within(PATIENCE).send("x").unwrap();
    }
    assert!(since.elapsed() > AMPLE);
    assert_eq!(connection.reply("POST").unwrap().body, [b'x'; 10]);
}

/// More than the buffers of both sockets hold: the answer cannot leave, and neither may the client take
/// what it has for the whole.
#[test]
fn a_client_that_stops_reading_is_broken_off() {
    let fixture = Fixture::start(ServerConfig { write_stall_timeout: SHORT, ..config() });
    let body = vec![b'x'; 15 << 20];
    let mut sender = fixture.connect();
    sender.send(head("POST", "/", &format!("Content-Length: {}\r\n", body.len()))).unwrap();
    sender.send(&body).unwrap();
    fixture.wait("broken off", |stats| stats.connections_active == 0);
    let raw = sender.rest();
    assert!(raw.bytes.len() < body.len() && raw.replies(&["POST"]).is_err());
}

/// Each piece that the client takes begins the time anew.
#[test]
fn a_slow_reader_gets_everything() {
    let fixture = Fixture::start(ServerConfig { write_stall_timeout: AMPLE, ..config() });
    let size = 12 << 20;
    let body = vec![b'x'; size];
    let mut connection = fixture.connect();
    connection
        .send([&head("POST", "/", &format!("Content-Length: {size}\r\n"))[..], &body].concat())
        .unwrap();
    let since = Instant::now();
    let reply_head = connection.head().unwrap();
    let mut reader = testkit::reply::BodyReader::of(&reply_head, "POST").unwrap();
    let mut seen = 0;
    let mut next_rest = 0;
    while let Some(piece) = connection.piece(&mut reader).unwrap() {
        seen += piece.len();
        if seen >= next_rest {
            next_rest += size / 6;
            std::thread::sleep(AMPLE / 5); // it is this slow
        }
    }
    assert_eq!(seen, size);
    assert!(since.elapsed() >= AMPLE, "it was not slow");
}
