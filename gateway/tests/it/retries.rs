//! Retries: which calls are sent again and which never; and how calls are spread over replicas.

use std::thread;

use testkit::http::Client;
use testkit::unreachable::Refusing;
use testkit::{Gate, Peer, Running, Script, eventually};

use crate::{OK, ONE, SOON, at, before, counts, gateway, is_own, path, raw, well};

/// The number of retries for `reason`.
fn retries(gateway: &Running, reason: &str) -> f64 {
    let labels = [("function_name", ONE), ("reason", reason)];
    gateway.metrics("/metrics").value("gateway_upstream_retries_total", &labels).expect("a series")
}

/// Sends a body over one connection of the client. Before the gateway reads the next request, it has taken
/// back its own connection to the function.
fn send(client: &mut Client, method: &str) -> testkit::Reply {
    client.request().method(method).path(path("")).body("hello").send().unwrap()
}

#[test]
fn a_refused_connection_is_retried_on_another_replica() {
    let (refusing, peer) = (Refusing::new(), well());
    let gateway = gateway(&[at(ONE, &[refusing.addr(), peer.addr()])]).start();
    let mut client = gateway.client();
    for _ in 0..20 {
        for method in ["GET", "POST", "PATCH"] {
            assert_eq!(send(&mut client, method).status, 200, "{method}");
        }
    }
    assert_eq!(peer.requests().len(), 60);
    assert!(peer.requests().iter().all(|request| request.body == b"hello"));
    counts(&gateway, "200", 60.0);
    // A failed replica is avoided for a while, then tried again.
    let count = retries(&gateway, "connect");
    assert!((1.0..30.0).contains(&count), "{count} connects were repeated for 60 calls");
}

#[test]
fn a_replica_that_ends_between_calls_fails_no_call() {
    let (mut one, two) = (well(), well());
    let gateway = gateway(&[at(ONE, &[one.addr(), two.addr()])]).start();
    let mut client = gateway.client();
    eventually(SOON, || {
        send(&mut client, "POST");
        if one.connections() > 0 && two.connections() > 0 { Ok(()) } else { Err("not both".to_owned()) }
    });
    one.stop_listening();
    one.hang_up();
    eventually(SOON, || if one.open_connections() == 0 { Ok(()) } else { Err("still open".to_owned()) });
    for _ in 0..30 {
        assert_eq!(send(&mut client, "POST").status, 200);
    }
}

#[test]
fn two_replicas_share_the_calls() {
    let (one, two) = (well(), well());
    let gateway = gateway(&[at(ONE, &[one.addr(), two.addr()])]).start();
    let mut client = gateway.client();
    for _ in 0..200 {
        assert_eq!(client.request().path(path("")).send().unwrap().status, 200);
    }
    let counts = [one.requests().len(), two.requests().len()];
    // Fair random picks leave this range once in ten million runs.
    assert!(counts.iter().all(|count| (60..=140).contains(count)), "{counts:?}");
}

#[test]
fn the_less_busy_replica_is_preferred() {
    let (slow, quick) = (Peer::tcp(Script::new().request().stall()), well());
    let gateway = gateway(&[at(ONE, &[slow.addr(), quick.addr()])]).start();
    let mut client = gateway.client();
    let mut held: Vec<_> = vec![];
    while slow.requests().is_empty() {
        let mut connection = gateway.connect();
        connection.send(raw("GET", "", "")).unwrap();
        let (total, sent) = (slow.requests().len() + quick.requests().len(), held.len() + 1);
        eventually(SOON, || match slow.requests().len() + quick.requests().len() {
            now if now > total.min(sent - 1) => Ok(()),
            now => Err(format!("{now} of {sent} arrived")),
        });
        held.push(connection);
    }
    for _ in 0..50 {
        assert_eq!(send(&mut client, "POST").status, 200);
    }
    assert_eq!(slow.requests().len(), 1);
}

#[test]
fn a_stale_connection_is_replaced_for_repeatable_methods() {
    for ends_with_reset in [false, true] {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
            let first = Script::new().request().send(OK).request();
            let first = if ends_with_reset { first.reset() } else { first.close() };
            let peer = Peer::tcp_each(vec![first, Script::new().request().send(OK).repeat()]);
            let gateway = before(&peer).start();
            let mut client = gateway.client();
            // The script would send a body in its answer to HEAD.
            assert_eq!(client.request().path(path("/1")).send().unwrap().status, 200);
            let request = client.request().method(method).path(path("/2"));
            let reply = request.header("X-Call-Id", "same").body("hello").send().unwrap();
            assert_eq!(reply.status, 200, "{method}, reset: {ends_with_reset}");
            let seen = peer.requests();
            assert_eq!(seen.len(), 3, "{method}");
            assert_eq!((&seen[1].target, &seen[1].body), (&seen[2].target, &seen[2].body));
            assert_eq!(seen[2].header("x-call-id"), Some("same"));
            assert_eq!((retries(&gateway, "stale"), peer.connections()), (1.0, 2));
            counts(&gateway, "200", 2.0);
        }
    }
}

#[test]
fn a_call_survives_more_stale_connections_than_it_has_tries() {
    const KEPT: usize = 4;
    let gate = Gate::new();
    let stale = Script::new().request().wait(&gate).send(OK).request().close();
    let scripts = [vec![stale; KEPT], vec![Script::new().request().send(OK).repeat()]].concat();
    let peer = Peer::tcp_each(scripts);
    let gateway = before(&peer).start();
    let mut connections: Vec<_> = (0..KEPT).map(|_| gateway.connect()).collect();
    connections.iter_mut().for_each(|connection| connection.send(raw("GET", "", "")).unwrap());
    peer.wait_requests(KEPT, SOON);
    gate.open();
    counts(&gateway, "200", KEPT as f64); // then all connections are kept
    assert_eq!(gateway.get(&path("")).status, 200);
    assert_eq!((peer.connections(), peer.requests().len()), (KEPT + 1, KEPT + 2));
}

#[test]
fn a_call_that_may_have_been_executed_is_not_retried() {
    // The peer answers the first request of each connection, and closes after it has read the second.
    for ends_with_reset in [false, true] {
        let script = Script::new().request().send(OK).request();
        let peer = Peer::tcp(if ends_with_reset { script.reset() } else { script.close() });
        let gateway = before(&peer).start();
        let mut client = gateway.client();
        for round in 1..=25 {
            for method in ["POST", "PATCH", "M-SEARCH"].iter().cycle().skip(round).take(1) {
                assert_eq!(send(&mut client, method).status, 200, "{round}");
                let reply = send(&mut client, method);
                let text = reply.text();
                assert_eq!(reply.status, 502, "{round}: {text}, reset: {ends_with_reset}");
            }
            assert_eq!(peer.requests().len(), 2 * round, "sent twice, reset: {ends_with_reset}");
        }
        assert_eq!(retries(&gateway, "stale"), 0.0);
    }
}

#[test]
fn a_call_whose_answer_has_begun_is_not_retried() {
    let script = Script::new().request().send(OK).request();
    for part in ["H", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let peer = Peer::tcp(script.clone().send(part).close());
        let gateway = before(&peer).start();
        let mut client = gateway.client();
        assert_eq!(client.request().path(path("")).send().unwrap().status, 200);
        is_own(&client.request().path(path("")).send().unwrap(), (502, "upstream_closed"), &["`one`"]);
        assert_eq!(peer.requests().len(), 2, "{part:?}");
    }
    let peer = Peer::tcp(script.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").close());
    let gateway = before(&peer).start();
    let mut client = gateway.client();
    assert_eq!(client.request().path(path("")).send().unwrap().status, 200);
    assert!(client.request().path(path("")).send().is_err(), "half an answer");
    assert_eq!(peer.requests().len(), 2);
}

#[test]
fn a_body_is_buffered_for_retries_up_to_a_bound() {
    const KEPT: usize = 16 * 1024;
    for (size, is_chunked) in
        [(KEPT, false), (KEPT, true), (KEPT + 1, false), (KEPT + 1, true), (300_000, false)]
    {
        let first = Script::new().request().send(OK).request().close();
        let peer = Peer::tcp_each(vec![first, Script::new().request().send(OK).repeat()]);
        let gateway = before(&peer).start();
        let mut client = gateway.client();
        assert_eq!(send(&mut client, "PUT").status, 200);
        let request = client.request().method("PUT").path(path(""));
        let body = vec![b'b'; size];
        let request = match is_chunked {
            true => request.chunks(body.chunks(5000).map(<[u8]>::to_vec).collect::<Vec<_>>()),
            false => request.body(body.clone()),
        };
        let reply = request.send().unwrap();
        let requests = peer.requests();
        match size <= KEPT {
            true => {
                assert_eq!((reply.status, requests.len()), (200, 3), "{size}");
                assert!(requests[2].body == body, "{size}: the whole of it");
            }
            false => {
                is_own(&reply, (502, "upstream_closed"), &[]);
                assert_eq!(requests.len(), 2, "{size}");
            }
        }
    }
}

#[test]
fn retries_are_bounded() {
    let peer = Peer::tcp(Script::new());
    let gateway = before(&peer).start();
    let mut client = gateway.client();
    for round in 1..=10 {
        let before = peer.connections();
        let reply = send(&mut client, if round % 2 == 0 { "GET" } else { "POST" });
        is_own(&reply, (502, "upstream_closed"), &["`one`"]);
        let tries = peer.connections() - before;
        assert!((1..=3).contains(&tries), "{tries} tries");
    }
}

/// A server that closes each connection after one answer: the next request may be on its way already. In this
/// race nothing is executed twice, and no GET fails.
#[test]
fn a_connection_closed_during_reuse_fails_no_get_and_repeats_no_post() {
    let peer = Peer::tcp(Script::new().request().send(OK).close());
    let gateway = before(&peer).start();
    let lost = thread::scope(|scope| {
        let rounds = |method: &'static str| {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = gateway.client();
                let mut lost = 0;
                for _ in 0..150 {
                    let request = client.request().method(method).path(path(&format!("/{method}")));
                    match request.send().unwrap() {
                        reply if reply.status == 200 => {}
                        reply if method == "POST" => {
                            is_own(&reply, (502, "upstream_closed"), &["`one`"]);
                            lost += 1;
                        }
                        reply => panic!("{method}: {}: {}", reply.status, reply.text()),
                    }
                }
                lost
            })
        };
        let all = [rounds("POST"), rounds("GET"), rounds("POST")];
        all.map(|thread| thread.join().unwrap()).iter().sum::<usize>()
    });
    let posts = peer.requests().iter().filter(|request| request.method == "POST").count();
    assert!(posts <= 300, "{posts} were executed of 300, {lost} failed");
    assert!(posts + lost >= 300, "{posts} were executed of 300, {lost} failed");
}
