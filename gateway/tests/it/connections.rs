//! The gateway's connections to functions that it does not run.

use std::net::SocketAddr;
use std::thread;

use serde_json::Value;
use testkit::rng::Rng;
use testkit::surplus::{self, Surplus};
use testkit::{Bin, Gate, Peer, Script, eventually, upstreams};

use crate::{ONE, SOON, at, becomes, gateway, path, well};

fn before(server: SocketAddr) -> Bin {
    gateway(&[at(ONE, &[server])])
}

#[test]
fn surplus_bytes_after_an_answer_reach_no_client() {
    // Sizes around the end of the first buffer. Each size has a function, and so a pool, of its own.
    let sizes = 8189..=8195;
    let peers: Vec<Peer> = sizes
        .map(|size| {
            let answer = move |request: &testkit::script::Request| surplus::answer(&request.target, size);
            Peer::tcp(Script::new().request().answer(answer).repeat())
        })
        .collect();
    let named = |(number, peer): (usize, &Peer)| at(&format!("f{number}"), &[peer.addr()]);
    let functions: Vec<Value> = peers.iter().enumerate().map(named).collect();
    let gateway = gateway(&functions).start();
    // One client, so that one poller serves all its calls.
    let mut client = gateway.client();
    for (number, peer) in peers.iter().enumerate() {
        let mut get =
            |below: &str| client.request().path(format!("/function/f{number}/{below}")).send().unwrap();
        assert_eq!(get("first").status, 200);
        for _ in 0..3 {
            assert_eq!(get("other").text(), "good", "{number}");
        }
        assert_eq!(peer.connections(), 4, "such a server's connections are not used again");
        let said = format!("{} sent bytes behind an answer", peer.addr());
        assert_eq!(gateway.log().matches(&said).count(), 1, "{}", gateway.log());
    }
}

/// 16 clients of a function that sends surplus bytes of random length at random times.
#[test]
fn no_client_gets_surplus_bytes_sent_at_random_times() {
    let surplus = Surplus::start(20, Rng::from_env().number());
    let gateway = before(surplus.addr()).start();
    surplus.called_by_many(testkit::rounds(3_200, 100_000), gateway.addr(), &path(""));
}

#[test]
fn a_connection_closed_with_its_answer_is_not_reused() {
    let gateway = before(upstreams::ends_with_its_answer()).start();
    let mut client = gateway.client();
    for _ in 0..10 {
        assert_eq!(client.request().path(path("")).timeout(SOON).send().unwrap().status, 200);
    }
}

#[test]
fn a_server_of_one_connection_at_a_time_serves_every_call() {
    let gate = Gate::new();
    let gateway = before(upstreams::serves_one_connection(&gate)).start();
    thread::scope(|scope| {
        let get = |below: &'static str| {
            let request = gateway.request().path(path(below)).timeout(SOON);
            scope.spawn(|| request.send().unwrap().status)
        };
        let slow = get("/slow");
        becomes(&gateway, "gateway_function_inflight", 1.0);
        let others: Vec<_> = (0..3).map(|_| get("/")).collect();
        becomes(&gateway, "gateway_function_inflight", 4.0);
        gate.open();
        assert_eq!(slow.join().unwrap(), 200);
        others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), 200));
    });
    // Clients' connections are spread over all pollers, so each call finds the idle connection with another
    // poller.
    for _ in 0..8 {
        assert_eq!(gateway.request().path(path("")).timeout(SOON).send().unwrap().status, 200);
    }
}

#[test]
fn idle_connections_to_functions_close_after_half_of_upstream_timeout() {
    let peer = well();
    let gateway = before(peer.addr()).env("upstream_timeout", "2s").start();
    assert_eq!(gateway.get(&path("")).status, 200);
    eventually(SOON, || match peer.open_connections() {
        0 => Ok(()),
        count => Err(format!("{count} open")),
    });
}

#[test]
fn idle_clients_are_closed_after_idle_timeout() {
    let gateway = before(well().addr()).env("idle_timeout", "200ms").start();
    let mut connection = gateway.connect();
    connection.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(connection.within(SOON).reply("GET").unwrap().status, 200);
    assert_eq!(connection.within(SOON).rest().end, testkit::http::End::Closed);
}
