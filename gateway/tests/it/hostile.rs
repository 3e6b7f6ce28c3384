//! Hostile clients and hostile functions: bounds hold, and the next good request is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use testkit::hostile::{self, Expect, Row};
use testkit::{Bin, Peer, Script, eventually, floods};

use crate::{OK, ONE, SOON, at, before, gateway, is_well, path, process, raw, rejected, well};

/// A function that counts its whole requests, and answers each with its body.
fn counting() -> (Peer, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let peer = Peer::tcp(
        Script::new()
            .request()
            .answer(move |request| {
                counter.fetch_add(1, Ordering::SeqCst);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
                [head.as_bytes(), &request.body].concat()
            })
            .repeat(),
    );
    (peer, count)
}

/// The rows of the table for a path of the function, filtered.
fn rows(is_wanted: impl Fn(&Row) -> bool) -> Vec<Row> {
    // `OPTIONS *` has no path, so it reaches no function.
    let is_its_own = |row: &Row| row.name != "OPTIONS *";
    hostile::requests(&path("/"), hostile::Heads::DEFAULT)
        .into_iter()
        .filter(|row| is_its_own(row) && is_wanted(row))
        .collect()
}

#[test]
fn refused_requests_do_not_reach_the_function() {
    let (peer, count) = counting();
    let gateway = before(&peer).start();
    let refused = rows(|row| matches!(row.expect, Expect::Refused { .. }));
    let in_body = refused.iter().filter(|row| row.reason() == Some("chunk_size")).count();
    assert!(refused.len() > 120 && in_body > 20, "{} and {in_body}", refused.len());
    hostile::check(gateway.addr(), &refused);
    assert_eq!(peer.connections(), 0, "not a byte of it, what came of a body with its head included");
    hostile::check(gateway.addr(), &rows(|row| row.expect == Expect::Cut));
    assert_eq!(count.load(Ordering::SeqCst), 0, "no whole request");
    is_well(&gateway);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[test]
fn unusual_valid_requests_are_served() {
    let (peer, count) = counting();
    let gateway = before(&peer).start();
    let served = rows(|row| matches!(row.expect, Expect::Served(_)));
    hostile::check_echo(gateway.addr(), &served);
    assert!(count.load(Ordering::SeqCst) >= served.len());
    hostile::check(gateway.addr(), &rows(|row| row.expect == Expect::Begun));
    is_well(&gateway);
}

#[test]
fn refusals_are_counted_by_reason() {
    let peer = well();
    let gateway = before(&peer).start();
    let rows = rows(|row| row.reason().is_some());
    let mut reasons: Vec<&str> = rows.iter().filter_map(Row::reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert!(reasons.len() > 15, "{reasons:?}");
    for reason in reasons {
        let row = rows.iter().find(|row| row.reason() == Some(reason)).unwrap();
        let before = rejected(&gateway, reason);
        hostile::check(gateway.addr(), std::slice::from_ref(row));
        eventually(SOON, || match rejected(&gateway, reason) - before {
            1.0 => Ok(()),
            more => Err(format!("{}: {reason} was counted {more} times", row.name)),
        });
    }
}

#[test]
fn max_body_accepts_the_limit_and_refuses_one_byte_more() {
    let (peer, count) = counting();
    let gateway = before(&peer).env("max_body", "20000").start();
    let rows = hostile::body_limits(&path("/"), 20_000);
    hostile::check_echo(gateway.addr(), &rows);
    assert_eq!(count.load(Ordering::SeqCst), 2, "those at the limit");
}

#[test]
fn every_hostile_answer_is_handled_as_its_row_says() {
    let rows = hostile::answers(hostile::Heads::OF_A_FUNCTION);
    let peer = hostile::answer_peer(&rows);
    let gateway = gateway(&[at(ONE, &[peer.addr()]), process("cat", "cat")]).start();
    hostile::check_answers(&rows, |number| gateway.request().path(path(&format!("/{number}"))).send());
    assert_eq!(gateway.post("/function/cat", "hello").text(), "hello");
}

#[test]
fn surplus_bytes_cannot_mix_up_answers() {
    // Bytes after an answer are not the answer to the next request.
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    let scripts = [
        Script::new().request().send([OK, forged].concat()).request().send(OK).repeat(),
        Script::new().request().send(OK).repeat(),
    ];
    let peer = Peer::tcp_each(scripts.to_vec());
    let gateway = before(&peer).start();
    let mut client = gateway.client();
    for _ in 0..5 {
        assert_eq!(client.request().path(path("")).send().unwrap().text(), "ok");
    }
    assert_eq!(peer.connections(), 5, "each connection serves one call from then on");
}

/// Some answers end with their head, whatever the head says.
#[test]
fn bytes_after_an_answer_without_a_body_are_discarded() {
    let forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged";
    let cases = [
        ("HEAD", "200 OK\r\nContent-Length: 47\r\n\r\n", Some("47")),
        ("HEAD", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("HEAD", "200 OK\r\n\r\n", None),
        ("GET", "204 No Content\r\nContent-Length: 47\r\n\r\n", None),
        ("GET", "204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        ("GET", "304 Not Modified\r\nContent-Length: 47\r\n\r\n", Some("47")),
        ("POST", "200 OK\r\nContent-Length: 0\r\n\r\n", Some("0")),
    ];
    for (method, answer, length) in cases {
        let first = Script::new().request().send(format!("HTTP/1.1 {answer}{forged}")).request().send(OK);
        let peer = Peer::tcp_each(vec![first, Script::new().request().send(OK).repeat()]);
        let gateway = before(&peer).start();
        let mut client = gateway.client();
        let reply = client.request().method(method).path(path("")).send().unwrap();
        assert_eq!(
            (reply.header("content-length"), &reply.body[..]),
            (length, &b""[..]),
            "{method}: {answer}"
        );
        for _ in 0..3 {
            assert_eq!(client.request().path(path("")).send().unwrap().text(), "ok", "{method}: {answer}");
        }
        assert_eq!((peer.connections(), client.opened()), (4, 1), "{method}: {answer}");
    }
}

/// The body is read to its end or the connection is closed; it is never taken for the next request.
#[test]
fn an_unread_body_is_never_taken_for_a_request() {
    let peer = well();
    let gateway = before(&peer).start();
    let inner = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", path("/inner"));
    let next = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path("/next"));
    let length = format!("Content-Length: {}\r\n\r\n{inner}", inner.len());
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let cases = [("/nowhere", 404), ("/healthz", 405), ("/metrics", 405), ("/", 400), ("/function/two", 404)];
    for (target, status) in cases {
        for framed in [&length, &chunked] {
            let sent = format!("POST {target} HTTP/1.1\r\nHost: x\r\n{framed}{next}");
            let mut connection = gateway.connect();
            connection.send(&sent).unwrap();
            let raw = connection.within(SOON).rest();
            let replies = raw.replies(&["POST", "GET"]).unwrap();
            assert_eq!(replies[0].status, status, "{target}");
            assert!(replies.len() <= 2 && replies[1..].iter().all(|reply| reply.status == 200), "{target}");
        }
    }
    let seen: Vec<String> = peer.requests().into_iter().map(|request| request.target).collect();
    assert!(seen.iter().all(|target| target == "/next"), "{seen:?}");
}

/// A process and a scripted peer, for the floods.
fn usual(peer: &Peer) -> Bin {
    gateway(&[at(ONE, &[peer.addr()]), process("cat", "cat")])
}

#[track_caller]
fn both_are_well(gateway: &testkit::Running) {
    is_well(gateway);
    let reply = gateway.post("/function/cat", "hello");
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
}

#[test]
fn sixty_connections_are_answered_with_forty_open_files() {
    let peer = well();
    let gateway = usual(&peer).nofile(40).start();
    let held = floods::try_connections(gateway.addr(), 60);
    for _ in 0..5 {
        both_are_well(&gateway);
    }
    // As many at once as there are workers.
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| both_are_well(&gateway));
        }
    });
    drop(held);
    both_are_well(&gateway);
    assert!(gateway.fds() < 40);
}

/// More heads than a gateway with 128 MiB could hold.
#[test]
fn three_thousand_unfinished_heads_take_little_memory_and_delay_no_call() {
    const MAX_RSS: u64 = 32 << 20;
    let peer = well();
    let gateway = before(&peer).env("header_timeout", "10m").start();
    let held = floods::unfinished_heads(gateway.addr(), (3000, 65_000), || is_well(&gateway));
    assert_eq!(held.count(), 3000);
    is_well(&gateway);
    let peak = gateway.peak_rss_bytes();
    assert!(peak <= MAX_RSS, "{peak} bytes");
    assert!(rejected(&gateway, "head_memory") > 2000.0);
    let left = gateway.metrics("/metrics").value("gateway_connections", &[("state", "head")]);
    assert!(left.is_some_and(|left| left > 100.0), "{left:?}: those that have room stay");
}

#[test]
fn an_absurd_content_length_allocates_nothing() {
    let peer = Peer::tcp(Script::new().head().send(OK).stall());
    let gateway = before(&peer).address_space(1 << 30).start();
    let mut connection = gateway.connect();
    connection.send(raw("POST", "Content-Length: 1000000000000000\r\n", "some")).unwrap();
    let reply = connection.within(SOON).reply("POST").unwrap();
    assert_eq!(reply.status, 200);
    // Answers of the gateway itself.
    for (target, status) in [("/nowhere", 404), ("/healthz", 405), ("/", 400), ("/function/two", 404)] {
        let mut connection = gateway.connect();
        let head = format!("POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000\r\n\r\n");
        connection.send(head).unwrap();
        assert_eq!(connection.within(SOON).reply("POST").unwrap().status, status, "{target}");
    }
    is_well(&gateway);
    assert!(gateway.peak_rss_bytes() < 16 << 20);
}

#[test]
fn the_gateway_survives_two_hundred_resets() {
    let peer = well();
    let gateway = usual(&peer).start();
    both_are_well(&gateway);
    let before = gateway.fds();
    floods::resets_after_connect(gateway.addr(), 200);
    both_are_well(&gateway);
    eventually(SOON, || match gateway.fds() {
        count if count <= before + 4 => Ok(()),
        count => Err(format!("{count} files are open, {before} were")),
    });
}

#[test]
fn two_hundred_clients_of_a_byte_a_second_delay_no_call() {
    let peer = well();
    let gateway = usual(&peer).env("header_timeout", "60s").start();
    let slow = floods::slow_heads(gateway.addr(), 200);
    eventually(SOON, || match gateway.metrics("/metrics").sum("gateway_connections", &[("state", "head")]) {
        200.0 => Ok(()),
        count => Err(format!("{count} have begun a head")),
    });
    for _ in 0..5 {
        both_are_well(&gateway);
    }
    assert_eq!(slow.open(), 200);
    // A worker that is not back yet makes the next call start another.
    assert!(gateway.threads() < 20, "{} threads", gateway.threads());
}

#[test]
fn slow_heads_end_at_header_timeout() {
    let peer = well();
    let gateway = usual(&peer).env("header_timeout", "2s").start();
    let slow = floods::slow_heads_every(gateway.addr(), 50, Duration::from_millis(50));
    eventually(SOON, || match slow.open() {
        0 => Ok(()),
        count => Err(format!("{count} are still open")),
    });
    eventually(SOON, || match rejected(&gateway, "header_timeout") {
        50.0 => Ok(()),
        count => Err(format!("{count} are counted")),
    });
    both_are_well(&gateway);
}

#[test]
fn idle_clients_cost_no_threads_and_little_memory() {
    /// Main thread, two pollers, provider and scaler; four of the control plane and five of its server.
    const THREADS: usize = 5 + 4 + 5;
    let peer = well();
    let gateway = before(&peer).start();
    is_well(&gateway);
    let idle = floods::idle_connections(gateway.addr(), 200, &path(""));
    eventually(3 * SOON, || match gateway.threads() {
        count if count <= THREADS => Ok(()),
        count => Err(format!("{count} threads")),
    });
    eventually(SOON, || match gateway.metrics("/metrics").sum("gateway_connections", &[("state", "idle")]) {
        200.0 => Ok(()),
        count => Err(format!("{count} connections are idle")),
    });
    assert!(gateway.rss_bytes() < 8 << 20, "{} bytes resident", gateway.rss_bytes());
    is_well(&gateway);
    drop(idle);
}

#[test]
fn many_clients_at_once_get_their_own_answers() {
    let gateway = gateway(&[process(ONE, "cat")]).start();
    thread::scope(|scope| {
        for client in 0..12 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut kept = gateway.client();
                for round in 0..15 {
                    let body = format!("{client}/{round}/").repeat(1 + 500 * (round % 3));
                    let request = kept.request().method("POST").path(path("")).body(body.clone());
                    let reply = request.send().unwrap();
                    assert!(reply.status == 200 && reply.text() == body, "{}", reply.status);
                }
            });
        }
    });
    crate::counts(&gateway, "200", 180.0);
}
