//! The connections to the process of `mode=http`.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use testkit::rng::Rng;
use testkit::surplus::{self, Surplus};
use testkit::unreachable::reserved_port;
use testkit::{Bin, Gate, Peer, Running, Script, eventually, proc, program, upstreams};

use crate::{SOON, counts};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A fwatchdog before a server of the test: its own process does nothing.
fn before(server: SocketAddr) -> Bin {
    let dog = Bin::fwatchdog().env("fprocess", program("sleeps")).env("kill_grace", "0");
    dog.env("mode", "http").env("upstream_url", format!("http://{server}"))
}

#[test]
fn bytes_behind_an_answer_reach_no_client() {
    // Where the first buffer ends.
    for size in 8189..=8195 {
        let peer = Peer::tcp(
            Script::new().request().answer(move |request| surplus::answer(&request.target, size)).repeat(),
        );
        let dog = before(peer.addr()).start();
        assert_eq!(dog.get("/first").status, 200);
        for _ in 0..3 {
            assert_eq!(dog.get("/other").text(), "good", "{size}");
        }
        assert_eq!(dog.log().matches("sent bytes behind an answer").count(), 1, "{}", dog.log());
        assert_eq!(peer.connections(), 4, "such a server's connections are not used again");
    }
}

/// 16 clients before a function that sends bytes of random length at random times.
#[test]
fn no_client_gets_bytes_that_belong_to_no_answer() {
    let surplus = Surplus::start(20, Rng::from_env().number());
    let dog = before(surplus.addr()).start();
    let address = dog.addr();
    surplus.called_by_many(testkit::rounds(3_200, 100_000), address, "");
}

#[test]
fn a_connection_that_ends_with_its_answer_is_not_used_again() {
    let dog = before(upstreams::ends_with_its_answer()).start();
    let mut client = dog.client();
    for _ in 0..10 {
        assert_eq!(client.request().path("/").timeout(SOON).send().unwrap().status, 200);
    }
}

#[test]
fn a_server_of_one_connection_at_a_time_gets_the_next_one() {
    let gate = Gate::new();
    let dog = before(upstreams::serves_one_connection(&gate)).start();
    thread::scope(|scope| {
        let slow = scope.spawn(|| dog.get("/slow").status);
        in_flight(&dog, 1.0);
        let others: Vec<_> = (0..3).map(|_| scope.spawn(|| dog.get("/").status)).collect();
        in_flight(&dog, 4.0);
        gate.open();
        assert_eq!(slow.join().unwrap(), 200);
        others.into_iter().for_each(|other| assert_eq!(other.join().unwrap(), 200));
    });
}

#[track_caller]
fn in_flight(dog: &Running, want: f64) {
    eventually(SOON, || match dog.metrics("/_/metrics").value("http_requests_in_flight", &[]) {
        Some(got) if got == want => Ok(()),
        got => Err(format!("{got:?} in flight")),
    });
}

#[test]
fn idle_connections_are_closed_in_time() {
    for exec_timeout in ["0", "1s"] {
        let peer = Peer::tcp(Script::new().request().send(OK).repeat());
        let dog = before(peer.addr()).env("exec_timeout", exec_timeout).start();
        assert_eq!(dog.get("/").status, 200);
        eventually(SOON, || match peer.open_connections() {
            0 => Ok(()),
            count => Err(format!("{count} open")),
        });
        assert_eq!((dog.get("/").status, peer.connections()), (200, 2));
    }
}

/// Many servers end in order once their last connection has ended.
#[test]
fn a_process_is_told_to_end_after_its_connections_are_closed() {
    let port = reserved_port();
    let dog =
        Bin::fwatchdog().env("fprocess", program(&format!("serves_to_the_end {port}"))).env("mode", "http");
    let dog = dog.env("upstream_url", format!("http://127.0.0.1:{port}")).env("kill_grace", "600s").start();
    assert_eq!(dog.get("/").status, 200);
    dog.signal(proc::SIGTERM);
    assert_eq!(dog.wait(SOON).code(), Some(0), "{}", dog.log());
}

#[test]
fn a_client_that_stops_reading_is_cut_off_after_write_timeout() {
    const BODY_BYTES: usize = 64 << 20; // more than any socket holds
    let answer = || Script::new().head().send("HTTP/1.1 200 OK\r\n\r\n").send(vec![b'x'; BODY_BYTES]).close();
    let start = |peer: &Peer, read_timeout, write_timeout| {
        before(peer.addr()).env("read_timeout", read_timeout).env("write_timeout", write_timeout).start()
    };
    let peer = Peer::tcp(answer());
    let dog = start(&peer, "600s", "300ms");
    let mut connection = dog.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    counts(&dog, "499", 1.0);
    assert!(dog.log().contains("write_timeout"), "{}", dog.log());
    drop(connection);

    // And not after read_timeout.
    let peer = Peer::tcp(answer());
    let dog = start(&peer, "100ms", "600s");
    let mut connection = dog.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(connection.within(SOON).head().unwrap().status, 200);
    thread::sleep(Duration::from_millis(500)); // longer than read_timeout
    let rest = connection.within(SOON).rest();
    assert!(rest.bytes.len() > BODY_BYTES, "{} bytes", rest.bytes.len());
}
