//! The end of a server: what is idle goes, what runs finishes, nothing that was sent is lost.

use http1::{ServerConfig, Stats};
use testkit::floods::idle_connections;
use testkit::http::{Connection, End};
use testkit::{HttpError, eventually};

use crate::support::{Fixture, PATIENCE, get, head, post};

#[test]
fn idle_connections_are_closed_and_running_ones_finish() {
    let mut fixture = Fixture::new();
    let mut idle = fixture.send(get("/"));
    assert_eq!(idle.reply("GET").unwrap().status, 200);
    let mut running = fixture.send(get("/hold"));
    let mut partial = fixture.send("GET / HT");
    fixture.wait("running", |stats| stats.connections_active == 1 && stats.connections_head == 1);
    fixture.server().begin_drain();
    assert_eq!(idle.rest().end, End::Closed);
    assert!(!fixture.server().is_quiet());
    partial.send("TP/1.1\r\nHost: x\r\n\r\n").unwrap();
    for mut connection in [partial, fixture.send(get("/"))] {
        let reply = connection.reply("GET").unwrap();
        assert_eq!((reply.status, reply.header("Connection")), (200, Some("close")));
        assert_eq!(connection.rest().end, End::Closed);
    }
    assert!(!fixture.server().is_quiet());
    fixture.probe.release();
    let reply = running.reply("GET").unwrap();
    assert_eq!((&reply.body[..], reply.header("Connection")), (&b"held"[..], Some("close")));
    assert_eq!(running.rest().end, End::Closed);
    eventually(PATIENCE, || if fixture.server().is_quiet() { Ok(()) } else { Err("not quiet".to_owned()) });
    let address = fixture.addr();
    fixture.stop();
    assert!(matches!(Connection::open(address), Err(HttpError::Connect(_))), "still listening");
}

#[test]
fn a_half_sent_head_does_not_hold_the_end_up() {
    let fixture = Fixture::start(ServerConfig { header_timeout: 6 * PATIENCE, ..ServerConfig::default() });
    let mut partial = fixture.send("GET / HT");
    fixture.wait("the head", |stats| stats.connections_head == 1);
    fixture.server().begin_drain();
    assert_eq!(partial.reply("GET").unwrap().status, 408);
    eventually(PATIENCE, || if fixture.server().is_quiet() { Ok(()) } else { Err("not quiet".to_owned()) });
}

/// Requests that were sent before the drain began are answered, whether their connection was idle, in the
/// middle of another request, or waiting for a worker.
#[test]
fn a_request_that_is_on_its_way_is_answered() {
    for _ in 0..20 {
        let mut fixture = Fixture::new();
        let mut idle = idle_connections(fixture.addr(), 10, "/early");
        let mut raw: Vec<Connection> = (0..10)
            .map(|_| {
                let mut connection = fixture.send(get("/early"));
                assert_eq!(connection.reply("GET").unwrap().status, 200);
                connection
            })
            .collect();
        for connection in &mut raw {
            connection.send(post("/echo", b"hello").repeat(2)).unwrap();
        }
        fixture.server().begin_drain();
        for (number, connection) in raw.iter_mut().enumerate() {
            let reply = connection.reply("POST").unwrap_or_else(|e| panic!("connection {number}: {e}"));
            assert_eq!(reply.body, b"hello");
        }
        drop(raw);
        idle.clients.clear();
        eventually(PATIENCE, || if fixture.server().is_quiet() { Ok(()) } else { Err("no".to_owned()) });
        fixture.stop();
    }
}

#[test]
fn a_server_with_an_unread_request_is_not_quiet() {
    let fixture = Fixture::new();
    let mut connection = fixture.send(get("/early"));
    for number in 1..300 {
        assert_eq!(connection.reply("GET").unwrap().status, 200);
        fixture.wait("idle", |stats| stats.connections_idle == 1);
        connection.send(get("/early")).unwrap();
        let is_quiet = fixture.server().is_quiet();
        assert!(!is_quiet || fixture.probe.calls() > number, "request {number} is quiet");
    }
}

#[test]
fn a_server_stops_with_every_kind_of_connection() {
    let mut fixture = Fixture::new();
    let _idle = idle_connections(fixture.addr(), 3, "/early");
    let connections = [
        fixture.connect(),
        fixture.send("GET"),
        fixture.send(get("/hold")),
        fixture.send(post("/stream", b"")),
    ];
    fixture.wait("there", |stats| stats.connections_active >= 1 && stats.connections_head == 1);
    fixture.stop();
    for (number, mut connection) in connections.into_iter().enumerate() {
        if number == 2 {
            fixture.probe.release(); // a call goes on to its end
        }
        assert_ne!(connection.rest().end, End::Open, "connection {number}");
    }
}

/// Its answer is out, but a reset would take it away from a client that still sends.
#[test]
fn a_server_that_closes_a_connection_slowly_is_not_done() {
    let fixture = Fixture::new();
    let mut client = fixture.send(head("POST", "/early", "Content-Length: 1000000\r\n"));
    fixture.wait("closing", |stats| stats.connections_closing == 1);
    fixture.server().begin_drain();
    fixture.server().stop_accepting();
    // The listener is closed for a moment before the server knows it.
    for _ in 0..100 {
        eventually(PATIENCE, || match Connection::open(fixture.addr()) {
            Err(HttpError::Connect(_)) => Ok(()),
            _ => Err("still listening".to_owned()),
        });
        let is_done = fixture.server().is_done();
        assert!(!is_done || fixture.stats().connections_closing == 0, "done too soon");
    }
    client.send("more").unwrap();
    let raw = client.rest();
    assert_eq!((raw.replies(&["POST"]).unwrap()[0].status, raw.end), (200, End::Closed));
    drop(client);
    eventually(PATIENCE, || if fixture.server().is_done() { Ok(()) } else { Err("not done".to_owned()) });
}

/// Requests come while the server looks whether it is done: none is there once it says so.
#[test]
fn a_server_that_is_done_serves_nobody() {
    for _ in 0..20 {
        let fixture = Fixture::start(ServerConfig { pollers: 2, ..ServerConfig::default() });
        let mut kept: Vec<_> = (0..8).map(|_| fixture.send(get("/early"))).collect();
        kept.iter_mut().for_each(|client| assert_eq!(client.reply("GET").unwrap().status, 200));
        fixture.server().begin_drain();
        fixture.server().stop_accepting();
        let clients = std::thread::spawn(move || {
            for mut client in kept {
                let _ = client.send(get("/hold")); // it may be closed already
                let _ = client.reply("GET");
            }
        });
        while !fixture.server().is_done() {
            fixture.probe.release();
        }
        let Stats { connections_idle, connections_head, connections_active, connections_closing, .. } =
            fixture.stats();
        let connections = [connections_idle, connections_head, connections_active, connections_closing];
        assert_eq!(connections, [0; 4]);
        clients.join().unwrap();
    }
}

/// Clients that connect as the listener is closed are refused, or served: none is taken and left without an answer.
#[test]
fn a_connection_is_refused_or_served_as_the_listener_is_closed() {
    for _ in 0..30 {
        let mut fixture = Fixture::new();
        let address = fixture.addr();
        let clients: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(move || {
                    let mut served = 0;
                    loop {
                        let Ok(mut connection) = Connection::open(address) else { return served };
                        connection.within(PATIENCE);
                        // A reset of what was never acknowledged is a refusal too.
                        let Ok(()) = connection.send(post("/echo", b"hello")) else { return served };
                        match connection.reply("POST") {
                            Ok(reply) => assert_eq!(reply.body, b"hello"),
                            Err(error) => return assert_refused(&error, served),
                        }
                        served += 1;
                    }
                })
            })
            .collect();
        fixture.wait("served", |_| fixture.probe.calls() > 20);
        fixture.server().begin_drain();
        fixture.server().stop_accepting();
        let calls: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        eventually(PATIENCE, || if fixture.server().is_done() { Ok(()) } else { Err("not done".to_owned()) });
        assert_eq!(fixture.probe.calls(), calls, "whoever was served has been told so");
        fixture.stop();
    }
}

fn assert_refused(error: &HttpError, served: usize) -> usize {
    let text = error.to_string();
    assert!(text.contains("reset") || text.contains("closed") || text.contains("Broken pipe"), "{text}");
    served
}

#[test]
fn a_silent_new_connection_holds_the_end_up_for_a_moment_only() {
    let mut fixture = Fixture::new();
    let silent = fixture.connect();
    fixture.wait("there", |stats| stats.connections_idle == 1);
    fixture.server().begin_drain();
    fixture.server().stop_accepting();
    eventually(PATIENCE, || if fixture.server().is_done() { Ok(()) } else { Err("not done".to_owned()) });
    drop(silent);
    assert!(matches!(Connection::open(fixture.addr()), Err(HttpError::Connect(_))));
    fixture.stop();
}

/// A client that was between two requests may send its next one: it is the answer that tells it to go.
#[test]
fn a_kept_connection_is_told_to_close_by_an_answer() {
    eventually(PATIENCE, || {
        let mut fixture = Fixture::new();
        let mut kept = fixture.send(get("/early"));
        assert_eq!(kept.reply("GET").unwrap().status, 200);
        fixture.wait("idle", |stats| stats.connections_idle == 1);
        fixture.server().begin_drain();
        fixture.server().stop_accepting();
        kept.send(post("/echo", b"hello")).map_err(|error| error.to_string())?;
        // Half a second may have passed on a busy machine; then it is closed.
        let reply = kept.reply("POST").map_err(|error| error.to_string())?;
        assert_eq!((&reply.body[..], reply.header("Connection")), (&b"hello"[..], Some("close")));
        eventually(PATIENCE, || if fixture.server().is_done() { Ok(()) } else { Err("not done".to_owned()) });
        fixture.stop();
        Ok(())
    });
}
