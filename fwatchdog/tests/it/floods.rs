//! Hostile clients and too many clients: bounds hold, and the next good request is answered.

use std::thread;
use std::time::Duration;

use testkit::{Bin, Running, eventually, floods, hostile, program};

use crate::{SOON, counts, no_zombies, shell};

fn cat() -> Bin {
    Bin::fwatchdog().env("fprocess", "cat")
}

#[track_caller]
fn is_well(dog: &Running) {
    assert_eq!(dog.post("/", "hello").text(), "hello");
}

#[test]
fn every_hostile_request_is_refused_or_served_by_the_rules() {
    let dog = cat().start();
    hostile::check_echo(dog.addr(), &hostile::requests("/", hostile::Heads::OF_A_GATEWAY));
    is_well(&dog);
}

#[test]
fn a_refused_request_starts_no_process() {
    let dog = shell("echo started >&2; cat").start();
    let rows = hostile::requests("/", hostile::Heads::OF_A_GATEWAY);
    let refused: Vec<_> = rows.into_iter().filter(|row| row.reason().is_some()).collect();
    assert!(refused.iter().any(|row| row.reason() == Some("chunk_crlf")));
    hostile::check(dog.addr(), &refused);
    assert!(!dog.log().contains("started"), "{}", dog.log());
    is_well(&dog);
    dog.wait_log("started", SOON);
}

#[test]
fn refusals_are_counted_by_reason() {
    let dog = cat().start();
    let rows = hostile::requests("/", hostile::Heads::OF_A_GATEWAY);
    let mut reasons: Vec<&str> = rows.iter().filter_map(hostile::Row::reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    for reason in reasons {
        let row = rows.iter().find(|row| row.reason() == Some(reason)).unwrap();
        let count = || {
            dog.metrics("/_/metrics")
                .value("http_requests_rejected_total", &[("reason", reason)])
                .unwrap_or(0.0)
        };
        let before = count();
        hostile::check(dog.addr(), std::slice::from_ref(row));
        eventually(SOON, || match count() - before {
            1.0 => Ok(()),
            more => Err(format!("{}: {reason} was counted {more} times", row.name)),
        });
    }
}

#[test]
fn sixty_connections_where_forty_files_may_be_open() {
    let dog = cat().nofile(40).start();
    let held = floods::try_connections(dog.addr(), 60);
    for _ in 0..5 {
        is_well(&dog);
    }
    // As many calls at once as workers.
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| is_well(&dog));
        }
    });
    drop(held);
    is_well(&dog);
    assert!(dog.fds() < 40);
}

#[test]
fn a_thousand_unfinished_heads_take_little_memory_and_delay_no_request() {
    const MAX_RSS: u64 = 24 << 20;
    let dog = cat().env("read_timeout", "10m").start();
    let _held = floods::unfinished_heads(dog.addr(), (1000, 65_000), || is_well(&dog));
    is_well(&dog);
    let peak = dog.peak_rss_bytes();
    assert!(peak <= MAX_RSS, "{peak} bytes");
}

#[test]
fn an_absurd_length_does_no_harm() {
    let dog = Bin::fwatchdog().env("fprocess", program("ignores_stdin")).address_space(1 << 30).start();
    let mut connection = dog.connect();
    connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000\r\n\r\nx").unwrap();
    assert_eq!(connection.within(SOON).reply("POST").unwrap().status, 200);
    assert_eq!(dog.get("/").text(), "ignored\n");
}

#[test]
fn two_hundred_resets_do_no_harm() {
    let dog = cat().start();
    floods::resets_after_connect(dog.addr(), 200);
    is_well(&dog);
    eventually(SOON, || match dog.fds() {
        count if count < 16 => Ok(()),
        count => Err(format!("{count} files are open")),
    });
}

#[test]
fn two_hundred_slow_heads_do_no_harm() {
    let dog = cat().env("read_timeout", "3s").start();
    let slow = floods::slow_heads_every(dog.addr(), 200, Duration::from_millis(100));
    for _ in 0..5 {
        is_well(&dog);
    }
    // A few more workers: one may not be back when the next request comes.
    assert!(dog.threads() < 20, "{} threads", dog.threads());
    eventually(2 * SOON, || match slow.open() {
        0 => Ok(()),
        count => Err(format!("{count} are still open")),
    });
    is_well(&dog);
}

#[test]
fn idle_clients_cost_no_threads() {
    let dog = cat().start();
    let idle = floods::idle_connections(dog.addr(), 200, "/_/health");
    eventually(3 * SOON, || match dog.threads() {
        count if count <= 4 => Ok(()),
        count => Err(format!("{count} threads")),
    });
    is_well(&dog);
    drop(idle);
}

#[test]
fn max_inflight_answers_429_above_it() {
    let dog = shell("read line; echo $line").env("max_inflight", "2").start();
    let mut held: Vec<_> = (0..2).map(|_| dog.connect()).collect();
    for connection in &mut held {
        connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nh").unwrap();
    }
    eventually(SOON, || match dog.metrics("/_/metrics").value("http_requests_in_flight", &[]) {
        Some(2.0) => Ok(()),
        other => Err(format!("{other:?} in flight")),
    });
    let reply = dog.get("/");
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("1")));
    assert!(reply.text().contains("max_inflight"), "{}", reply.text());
    assert_eq!((dog.get("/_/ready").status, dog.get("/_/health").status), (429, 200));
    for connection in &mut held {
        connection.send("i\n").unwrap();
        assert_eq!(connection.within(SOON).reply("POST").unwrap().text(), "hi\n");
    }
    // The slots are free a moment after the answers.
    eventually(SOON, || match dog.metrics("/_/metrics").value("http_requests_in_flight", &[]) {
        Some(0.0) => Ok(()),
        other => Err(format!("{other:?} in flight")),
    });
    assert_eq!((dog.get("/_/ready").status, dog.post("/", "x\n").status), (200, 200));
    counts(&dog, "429", 1.0);
    counts(&dog, "200", 3.0);
}

/// Otherwise an orchestrator would replace it, and all running calls would be lost.
#[test]
fn a_busy_fwatchdog_is_healthy() {
    let dog = shell("read line; echo $line").nofile(64).start(); // files for six workers
    let mut held: Vec<_> = (0..8).map(|_| dog.connect()).collect();
    for connection in &mut held {
        connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nh").unwrap();
    }
    eventually(SOON, || match dog.metrics("/_/metrics").value("http_requests_in_flight", &[]) {
        Some(6.0) => Ok(()),
        other => Err(format!("{other:?} in flight")),
    });
    assert_eq!(dog.get("/_/health").status, 200);
    for connection in &mut held {
        connection.send("i\n").unwrap();
    }
    for connection in &mut held {
        assert_eq!(connection.within(SOON).reply("POST").unwrap().text(), "hi\n");
    }
}

#[test]
fn memory_does_not_grow_with_requests() {
    let dog = cat().start();
    let round = |count: usize| {
        let mut client = dog.client();
        for _ in 0..count {
            assert_eq!(client.request().method("POST").body("hello").send().unwrap().status, 200);
        }
    };
    round(100);
    let before = dog.rss_bytes();
    round(400);
    let after = dog.rss_bytes();
    assert!(after <= before + 256 * 1024, "from {before} to {after} bytes");
    no_zombies(&dog);
}
