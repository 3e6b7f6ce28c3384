//! The pooled client against peers that keep the rules: reuse, replacement, framing, deadlines.

use std::time::{Duration, Instant};

use http1::{ClientConfig, Endpoint, Error, Phase, Pool, Request};
use kit::Deadline;
use testkit::{Address, Gate, Peer, Script};

use crate::support::{Fixture, PATIENCE};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(crate) fn soon() -> Deadline {
    Deadline::after(PATIENCE)
}

pub(crate) fn pool(peer: &Peer) -> Pool {
    pool_with(peer, ClientConfig::default())
}

pub(crate) fn pool_with(peer: &Peer, config: ClientConfig) -> Pool {
    let endpoint = match peer.address() {
        Address::Tcp(address) => Endpoint::Tcp(*address),
        Address::Unix(path) => Endpoint::Unix(path.clone()),
    };
    Pool::new(endpoint, config)
}

pub(crate) fn post<'a>(body: &'a [u8]) -> Request<'a> {
    Request { method: "POST", target: "/", headers: &[], body }
}

/// The status and the body of one call.
#[track_caller]
pub(crate) fn call(pool: &Pool, request: &Request<'_>) -> (u16, Vec<u8>) {
    let mut response = pool.send(request, soon()).unwrap();
    let body = response.read_to_end(1 << 20, soon()).unwrap();
    (response.status(), body)
}

#[test]
fn one_connection_serves_many_calls() {
    for peer in [
        Peer::tcp(Script::new().request().send(OK).repeat()),
        Peer::unix(Script::new().request().send(OK).repeat()),
    ] {
        let pool = pool(&peer);
        for number in 0..100 {
            let request = if number % 2 == 0 { Request::get("/a?b") } else { post(b"body") };
            assert_eq!(call(&pool, &request), (200, b"ok".to_vec()));
        }
        assert_eq!((peer.connections(), peer.requests().len()), (1, 100));
        let requests = peer.requests();
        assert_eq!(requests[0].head, b"GET /a?b HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(requests[1].head, b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n");
        assert_eq!(requests[1].body, b"body");
    }
}

#[test]
fn headers_and_host_are_the_callers() {
    let peer = Peer::tcp(Script::new().request().send(OK).close());
    let request =
        Request { method: "PUT", target: "/x", headers: &[("host", "h"), ("X-A", "1\r\nX-B: 2")], body: b"" };
    assert_eq!(call(&pool(&peer), &request).0, 200);
    let want = b"PUT /x HTTP/1.1\r\nhost: h\r\nX-A: 1X-B: 2\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(peer.requests()[0].head.escape_ascii().to_string(), want.escape_ascii().to_string());
}

#[test]
fn as_many_connections_as_calls_and_no_more_kept_than_allowed() {
    let peer = Peer::tcp(Script::new().request().send(OK).repeat());
    let pool = pool_with(&peer, ClientConfig { max_idle: 3, ..ClientConfig::default() });
    let mut responses: Vec<_> = (0..5).map(|_| pool.send(&Request::get("/"), soon()).unwrap()).collect();
    assert_eq!(peer.connections(), 5);
    for response in &mut responses {
        assert_eq!(response.read_to_end(2, soon()).unwrap(), b"ok");
    }
    drop(responses);
    testkit::eventually(PATIENCE, || match peer.open_connections() {
        3 => Ok(()),
        n => Err(format!("{n} open")),
    });
    pool.close();
    testkit::eventually(PATIENCE, || match peer.open_connections() {
        0 => Ok(()),
        n => Err(format!("{n} open")),
    });
}

#[test]
fn an_old_idle_connection_is_not_used() {
    let peer = Peer::tcp(Script::new().request().send(OK).repeat());
    let idle_timeout = PATIENCE;
    let pool = pool_with(&peer, ClientConfig { idle_timeout, ..ClientConfig::default() });
    assert_eq!(call(&pool, &Request::get("/")).0, 200);
    pool.sweep(Instant::now());
    assert_eq!(call(&pool, &Request::get("/")).0, 200);
    assert_eq!(peer.connections(), 1);
    pool.sweep(Instant::now() + idle_timeout);
    assert_eq!(call(&pool, &Request::get("/")).0, 200);
    assert_eq!(peer.connections(), 2);
    let idle_timeout = Duration::from_millis(50);
    let pool = pool_with(&peer, ClientConfig { idle_timeout, ..ClientConfig::default() });
    assert_eq!(call(&pool, &Request::get("/")).0, 200);
    std::thread::sleep(idle_timeout); // so old it has to be
    assert_eq!(call(&pool, &Request::get("/")).0, 200);
    assert_eq!(peer.connections(), 4);
}

/// The server has closed while the connection was idle: that shows before anything is sent.
#[test]
fn a_connection_that_was_closed_is_replaced_for_every_method() {
    for end in [Script::close, Script::reset] {
        let script = || end(Script::new().request().send(OK));
        let peer = Peer::tcp(script());
        let pool = pool(&peer);
        for number in 1..=6 {
            let request = if number % 2 == 0 { Request::get("/") } else { post(b"body") };
            assert_eq!(call(&pool, &request).0, 200);
            testkit::eventually(PATIENCE, || match peer.open_connections() {
                0 => Ok(()),
                n => Err(format!("{n} open")),
            });
            assert_eq!((peer.connections(), peer.requests().len()), (number, number));
        }
    }
}

/// The server closes as the next request arrives: only what may be executed twice is sent again.
#[test]
fn a_connection_that_is_just_closing_is_replaced_for_idempotent_methods() {
    for end in [Script::close, Script::reset] {
        let script = || Script::new().request().send(OK);
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "POST", "PATCH", "X"] {
            let peer = Peer::tcp_each(vec![end(script().request()), script().repeat()]);
            let pool = pool(&peer);
            assert_eq!(call(&pool, &Request::get("/")).0, 200);
            let request = Request { method, target: "/", headers: &[], body: b"" };
            let result = pool.send(&request, soon()).map(|response| response.status());
            match method {
                "POST" | "PATCH" | "X" => {
                    assert!(matches!(result, Err(Error::Closed(Phase::FirstByte))), "{method}: {result:?}");
                    assert_eq!(peer.requests().len(), 2, "{method}");
                }
                _ => {
                    assert_eq!(result.unwrap(), 200, "{method}");
                    assert_eq!(peer.requests().len(), 3, "{method}");
                }
            }
        }
    }
}

#[test]
fn a_request_is_repeated_once_and_never_over_a_new_connection() {
    let peer = Peer::tcp(Script::new().request().close());
    assert!(matches!(pool(&peer).send(&Request::get("/"), soon()), Err(Error::Closed(Phase::FirstByte))));
    assert_eq!(peer.requests().len(), 1);
    let peer = Peer::tcp_each(vec![
        Script::new().request().send(OK).request().close(),
        Script::new().request().close(),
    ]);
    let pool = pool(&peer);
    assert_eq!(call(&pool, &Request::get("/")).0, 200);
    assert!(matches!(pool.send(&Request::get("/"), soon()), Err(Error::Closed(Phase::FirstByte))));
    assert_eq!(peer.requests().len(), 3);
}

/// An answer that has begun was not lost by chance: nothing is sent again.
#[test]
fn half_an_answer_is_not_asked_for_again() {
    let script = Script::new().request().send(OK).request().send("HTTP/1.1 20").close();
    let peer = Peer::tcp_each(vec![script, Script::new().request().send(OK)]);
    let pool = pool(&peer);
    assert_eq!(call(&pool, &Request::get("/")).0, 200);
    assert!(matches!(pool.send(&Request::get("/"), soon()), Err(Error::Closed(Phase::FirstByte))));
    assert_eq!(peer.requests().len(), 2);
}

#[test]
fn a_connection_is_used_again_only_after_a_whole_answer() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let cases: [(&str, &[u8], bool, usize); 9] = [
        ("read to its end", OK, true, 1),
        ("not read", OK, false, 2),
        ("chunks, read to their end", chunked.as_bytes(), true, 1),
        ("chunks, not read", chunked.as_bytes(), false, 2),
        ("no body", b"HTTP/1.1 204 No Content\r\n\r\n", false, 1),
        ("closing", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", true, 2),
        ("1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", true, 2),
        (
            "1.0 that stays",
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            true,
            1,
        ),
        (
            "more than announced",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
            true,
            2,
        ),
    ];
    for (name, answer, is_read, connections) in cases {
        let peer = Peer::tcp(Script::new().request().send(answer).repeat());
        let pool = pool(&peer);
        for _ in 0..2 {
            let mut response = pool.send(&Request::get("/"), soon()).unwrap();
            if is_read {
                assert_eq!(response.read_to_end(100, soon()).unwrap(), b"ok", "{name}");
            }
        }
        assert_eq!(peer.connections(), connections, "{name}");
    }
}

#[test]
fn an_answer_before_the_request_was_sent_counts() {
    let body = vec![b'x'; 64 << 20];
    let peer = Peer::tcp(Script::new().head().send("HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno").stall());
    let pool = pool(&peer);
    assert_eq!(call(&pool, &post(&body)), (413, b"no".to_vec()));
    assert_eq!(call(&pool, &post(&body)), (413, b"no".to_vec()));
    assert_eq!(peer.connections(), 2, "the rest of the body would be taken for a request");
}

#[test]
fn a_body_that_ends_with_the_connection() {
    let body = vec![b'x'; 1 << 20];
    let answer = [b"HTTP/1.1 200 OK\r\n\r\n", &body[..]].concat();
    let peer = Peer::tcp(Script::new().request().send(answer).close());
    assert_eq!(call(&pool(&peer), &Request::get("/")), (200, body));
}

#[test]
fn head_has_no_body() {
    let peer =
        Peer::tcp(Script::new().request().send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").repeat());
    let pool = pool(&peer);
    for _ in 0..2 {
        let request = Request { method: "HEAD", target: "/", headers: &[], body: b"" };
        assert_eq!(call(&pool, &request), (200, vec![]));
    }
    assert_eq!(peer.connections(), 1);
}

#[test]
fn a_read_into_no_room_is_not_the_end_of_the_body() {
    let peer = Peer::tcp(Script::new().request().send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"));
    let pool = pool(&peer);
    let mut response = pool.send(&Request::get("/"), soon()).unwrap();
    let refused = response.read(&mut [], soon());
    assert!(matches!(refused, Err(Error::Io(Phase::Body, _))), "{refused:?}");
    assert_eq!(response.read(&mut [0; 2], soon()).unwrap(), 1);
}

/// The deadline of one read is not the end of the body.
#[test]
fn reading_goes_on_after_a_timeout() {
    let gates = [Gate::new(), Gate::new()];
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let script = Script::new().request().send(head).wait(&gates[0]).send("5\r\nhel").wait(&gates[1]);
    let peer = Peer::tcp(script.send("lo\r\n0\r\n\r\n").repeat());
    let pool = pool(&peer);
    let mut response = pool.send(&Request::get("/"), soon()).unwrap();
    let mut buffer = [0; 100];
    let mut whole = Vec::new();
    for gate in &gates {
        for _ in 0..2 {
            let result = response.read(&mut buffer, Deadline::after(Duration::from_millis(20)));
            assert!(matches!(result, Err(Error::Timeout(Phase::Body))), "{result:?}");
        }
        gate.open();
        let count = response.read(&mut buffer, soon()).unwrap();
        whole.extend_from_slice(&buffer[..count]);
    }
    assert_eq!((&whole[..], response.read(&mut buffer, soon()).unwrap()), (&b"hello"[..], 0));
    drop(response);
    assert_eq!(call(&pool, &Request::get("/")).1, b"hello");
    assert_eq!(peer.connections(), 1);
}

#[test]
fn client_and_server_agree() {
    let fixture = Fixture::new();
    let pool = Pool::new(Endpoint::Tcp(fixture.addr()), ClientConfig::default());
    for (target, status, body) in [
        ("/early", 200, "early"),
        ("/chunked/3", 200, "xxx"),
        ("/status/404", 404, "body"),
        ("/status/204", 204, ""),
    ] {
        assert_eq!(call(&pool, &Request::get(target)), (status, body.as_bytes().to_vec()), "{target}");
    }
    let error = pool
        .send(&Request::get("/half-chunked"), soon())
        .and_then(|mut response| response.read_to_end(9, soon()));
    assert!(matches!(error, Err(Error::Closed(_))), "{error:?}");
    assert_eq!(call(&pool, &post(b"hello")).1, b"hello");
    drop(pool);
}
