//! The end: running calls finish after SIGTERM, and no process is left behind.
//!
//! Where an end must not wait for `drain_timeout`, the setting is longer than the test.

use std::time::{Duration, Instant};

use testkit::{eventually, proc};

use crate::{SOON, dog, shell};

/// Longer than any wait for an end.
const LONG: &str = "60s";

/// Begins a call: it needs the first byte of its body.
const POST: &str = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\ne";

#[test]
fn an_idle_fwatchdog_ends_at_once() {
    for signal in [proc::SIGTERM, proc::SIGINT, proc::SIGQUIT] {
        let dog = dog("exits 0").env("drain_timeout", LONG).start();
        let mut idle = dog.client();
        assert_eq!(idle.request().send().unwrap().status, 200);
        dog.signal(signal);
        assert_eq!(dog.wait(SOON).code(), Some(0));
    }
}

#[test]
fn a_running_request_finishes_while_health_is_503() {
    let dog = shell("read line; echo $line").env("drain_timeout", LONG).start();
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
    running.send("nd").unwrap();
    let reply = running.within(SOON).reply("POST").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "end\n"));
    assert!(reply.head.has_token("connection", "close"));
    assert_eq!(dog.wait(SOON).code(), Some(0));
}

/// A terminal that closes must not end a call, and fwatchdog has nothing to read again.
#[test]
fn sighup_ends_no_call() {
    let dog = shell("read line; echo $line").env("drain_timeout", LONG).start();
    let mut running = dog.connect();
    running.send(POST).unwrap();
    eventually(SOON, || if dog.descendants().is_empty() { Err("not started".to_owned()) } else { Ok(()) });
    dog.signal(proc::SIGHUP);
    dog.wait_log("info SIGHUP: ", SOON);
    running.send("nd").unwrap();
    let reply = running.within(SOON).reply("POST").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "end\n"));
    assert_eq!(dog.get("/_/health").status, 200);
}

#[test]
fn sigquit_lets_a_running_request_finish() {
    let dog = shell("read line; echo $line").env("drain_timeout", LONG).start();
    let mut running = dog.connect();
    running.send(POST).unwrap();
    eventually(SOON, || if dog.descendants().is_empty() { Err("not started".to_owned()) } else { Ok(()) });
    dog.signal(proc::SIGQUIT);
    dog.wait_log("draining", SOON);
    running.send("nd").unwrap();
    assert_eq!(running.within(SOON).reply("POST").unwrap().status, 200);
    assert_eq!(dog.wait(SOON).code(), Some(0));
}

/// A process that a call leaves behind lives on, but not beyond the end of fwatchdog.
#[test]
fn an_orderly_end_leaves_no_daemon_behind() {
    for (daemon, grace) in
        [("exec env -i /bin/sleep 60", LONG), ("trap : TERM; while :; do sleep 0.1; done", "0")]
    {
        let script = format!("(setsid sh -c \"{daemon}\" >/dev/null 2>&1 &) ; exit 0");
        let dog = shell(&script).env("kill_grace", grace).start();
        assert_eq!(dog.get("/").status, 200);
        let pids = eventually(SOON, || match dog.descendants() {
            pids if pids.is_empty() => Err("no daemon yet".to_owned()),
            pids => Ok(pids),
        });
        dog.signal(proc::SIGTERM);
        assert_eq!(dog.wait(SOON).code(), Some(0));
        // A killed process may take a moment to end, and to be waited for by whichever process inherits it.
        let is_alive = |pid: &u32| proc::stat(*pid).is_some_and(|stat| stat.is_alive());
        eventually(SOON, || match pids.iter().any(is_alive) {
            true => Err(format!("{pids:?} outlive fwatchdog")),
            false => Ok(()),
        });
        assert_eq!(dog.descendants(), [0; 0]);
    }
}

#[test]
fn drain_timeout_ends_calls_that_do_not_finish() {
    let dog = dog("spawns_grandchild").env("drain_timeout", "300ms").env("kill_grace", "200ms").start();
    let mut connection = dog.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    dog.wait_log("ready", SOON);
    let started = Instant::now();
    dog.signal(proc::SIGTERM);
    // Half a second is left for the kill and the answer; on a busy machine the answer may not be sent.
    if let Ok(reply) = connection.within(SOON).reply("GET") {
        assert_eq!(reply.status, 503);
    }
    assert_eq!(dog.wait(SOON).code(), Some(1), "a request was not served");
    let took = started.elapsed();
    // SIGKILL comes a tenth of kill_grace early, so that the answer is out in time.
    assert!(took >= Duration::from_millis(480) && took < SOON, "{took:?}");
    eventually(SOON, || if dog.descendants().is_empty() { Ok(()) } else { Err("goes on".to_owned()) });
}

#[test]
fn a_call_that_is_ended_by_drain_timeout_is_503() {
    // The process ends at SIGTERM: a minute is left for the answer.
    let dog = shell("echo ready >&2; exec sleep 600").env("drain_timeout", "300ms").env("kill_grace", LONG);
    let dog = dog.start();
    let mut connection = dog.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    dog.wait_log("ready", SOON);
    dog.signal(proc::SIGTERM);
    assert_eq!(connection.within(SOON).reply("GET").unwrap().status, 503);
    assert_eq!(dog.wait(SOON).code(), Some(1), "a request was not served");
    assert_eq!(dog.descendants(), [0; 0]);
}

#[test]
fn a_second_signal_ends_fwatchdog_at_once() {
    let dog = dog("sleeps").env("drain_timeout", LONG).env("kill_grace", LONG).start();
    let mut connection = dog.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    dog.wait_log("ready", SOON);
    dog.signal(proc::SIGTERM);
    dog.wait_log("draining", SOON);
    dog.signal(proc::SIGTERM);
    assert_eq!(dog.wait(SOON).code(), Some(1));
    eventually(SOON, || if dog.descendants().is_empty() { Ok(()) } else { Err("goes on".to_owned()) });
}
