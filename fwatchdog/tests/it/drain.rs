//! The end: SIGTERM lets what runs finish, and nothing is left behind.

use std::time::{Duration, Instant};

use testkit::{eventually, proc};

use crate::{SOON, dog, shell};

const POST: &str = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n";

#[test]
fn an_idle_dog_ends_at_once() {
    for signal in [proc::SIGTERM, proc::SIGINT] {
        let dog = dog("exits 0").start();
        let mut idle = dog.client();
        assert_eq!(idle.request().send().unwrap().status, 200);
        let started = Instant::now();
        dog.signal(signal);
        assert_eq!(dog.wait(SOON).code(), Some(0));
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
}

#[test]
fn a_running_request_finishes_while_health_is_503() {
    let dog = shell("read line; echo $line").start();
    let (mut running, mut health) = (dog.connect(), dog.connect());
    running.send(POST).unwrap();
    health.send("GET /_/health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(health.reply("GET").unwrap().status, 200);
    eventually(SOON, || if dog.descendants().is_empty() { Err("not started".to_owned()) } else { Ok(()) });
    dog.signal(proc::SIGTERM);
    dog.wait_log("draining", SOON);
    // A new connection sees the drain.
    eventually(SOON, || match dog.request().path("/_/health").send() {
        Ok(reply) if reply.status == 503 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(dog.try_status().is_none());
    running.send("end").unwrap();
    let reply = running.within(SOON).reply("POST").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "end\n"));
    assert!(reply.head.has_token("connection", "close"));
    assert_eq!(dog.wait(SOON).code(), Some(0));
}

#[test]
fn drain_timeout_ends_what_does_not_finish() {
    let dog = dog("spawns_grandchild").env("drain_timeout", "300ms").env("kill_grace", "200ms").start();
    let mut connection = dog.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    dog.wait_log("ready", SOON);
    let started = Instant::now();
    dog.signal(proc::SIGTERM);
    let reply = connection.within(SOON).reply("GET").unwrap();
    assert_eq!(reply.status, 503);
    assert_eq!(dog.wait(SOON).code(), Some(1), "a request was not served");
    let took = started.elapsed();
    // SIGKILL comes a tenth of kill_grace early, so that the answer is out when it has passed.
    assert!(took >= Duration::from_millis(480) && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(dog.descendants(), [0; 0]);
}

#[test]
fn a_second_signal_ends_it_now() {
    let dog = dog("sleeps").start();
    let mut connection = dog.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    dog.wait_log("ready", SOON);
    dog.signal(proc::SIGTERM);
    dog.wait_log("draining", SOON);
    let started = Instant::now();
    dog.signal(proc::SIGTERM);
    assert_eq!(dog.wait(SOON).code(), Some(1));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    eventually(SOON, || if dog.descendants().is_empty() { Ok(()) } else { Err("goes on".to_owned()) });
}
