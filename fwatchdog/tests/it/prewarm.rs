//! `prewarm`: processes that wait and serve one request each.

use std::collections::BTreeSet;
use std::thread;

use testkit::{Bin, Running, eventually, proc};

use crate::{SOON, counts, no_zombies, shell};

/// A script that reads its input, then prints its process id and the input.
const WHO: &str = "read -r line; echo $$ $line";

fn warm(script: &str, count: usize) -> Bin {
    shell(script).env("prewarm", count.to_string()).env("cgi_headers", "false").env("kill_grace", "200ms")
}

/// Waits until so many processes wait, and returns them.
#[track_caller]
fn waiting(dog: &Running, count: usize) -> BTreeSet<u32> {
    eventually(SOON, || {
        let pids: BTreeSet<u32> = dog.descendants().into_iter().collect();
        if pids.len() == count { Ok(pids) } else { Err(format!("{pids:?}, not {count}")) }
    })
}

fn ask(dog: &Running, text: &str) -> (u32, String) {
    let reply = dog.post("/", format!("{text}\n"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let answer = reply.text();
    let (pid, rest) = answer.trim_end().split_once(' ').expect("a process id and a text");
    (pid.parse().expect("a number"), rest.to_owned())
}

#[test]
fn prewarm_needs_cgi_headers_off() {
    for (settings, want) in [
        (&[("prewarm", "1")][..], "cgi_headers=false"),
        (&[("prewarm", "1"), ("cgi_headers", "true")], "cgi_headers=false"),
        (&[("prewarm", "257"), ("cgi_headers", "false")], "256"),
        (&[("prewarm", "-1"), ("cgi_headers", "false")], "256"),
        (&[("prewarm_max_age", "old"), ("cgi_headers", "false")], "prewarm_max_age"),
    ] {
        let bin = settings.iter().fold(shell("cat"), |bin, (name, value)| bin.env(name, value));
        let output = bin.run();
        assert_eq!(output.code(), 2, "{settings:?}: {}", output.stderr);
        assert!(output.stderr.contains("prewarm") && output.stderr.contains(want), "{}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    }
}

#[test]
fn each_process_waits_serves_one_request_and_is_replaced() {
    for mode in ["fork", "streaming"] {
        let dog = warm(WHO, 3).env("mode", mode).start();
        let mut seen = BTreeSet::new();
        for round in 0..9 {
            let before = waiting(&dog, 3);
            let (pid, text) = ask(&dog, &format!("round {round}"));
            assert_eq!(text, format!("round {round}"));
            assert!(before.contains(&pid), "{mode}: {pid} did not wait, these did: {before:?}");
            assert!(seen.insert(pid), "{mode}: {pid} served twice");
        }
        assert!(waiting(&dog, 3).is_disjoint(&seen));
        no_zombies(&dog);
    }
}

#[test]
fn a_request_starts_a_process_where_none_waits() {
    let dog = warm(WHO, 2).start();
    waiting(&dog, 2);
    let pids: BTreeSet<u32> = thread::scope(|scope| {
        let clients: Vec<_> = (0..12)
            .map(|n| {
                scope.spawn({
                    let dog = &dog;
                    move || ask(dog, &format!("client {n}"))
                })
            })
            .collect();
        clients
            .into_iter()
            .enumerate()
            .map(|(n, client)| {
                let (pid, text) = client.join().expect("a client");
                assert_eq!(text, format!("client {n}"));
                pid
            })
            .collect()
    });
    assert_eq!(pids.len(), 12, "one process for each request");
    waiting(&dog, 2);
    counts(&dog, "200", 12.0);
}

#[test]
fn a_process_that_dies_while_it_waits_is_replaced_and_costs_no_request() {
    let dog = warm(WHO, 2).start();
    for _ in 0..3 {
        let before = waiting(&dog, 2);
        before.iter().for_each(|pid| assert!(proc::signal(*pid, proc::SIGKILL)));
        let is_alive = |pid: &u32| proc::stat(*pid).is_some_and(|stat| stat.is_alive());
        eventually(SOON, || if before.iter().any(is_alive) { Err("alive".to_owned()) } else { Ok(()) });
        // At once: no dead process may get the request.
        let (pid, _) = ask(&dog, "hello");
        assert!(!before.contains(&pid));
        let after = eventually(SOON, || {
            let after: BTreeSet<u32> = dog.descendants().into_iter().collect();
            if after.len() == 2 && after.is_disjoint(&before) { Ok(after) } else { Err(format!("{after:?}")) }
        });
        assert!(!after.contains(&pid));
    }
    dog.wait_log("has ended by itself, with signal 9", SOON);
}

#[test]
fn processes_that_always_die_are_started_with_growing_pauses_and_requests_go_on() {
    let dog = warm("echo started >&2; exit 3", 4).start();
    let starts = || dog.log().matches("started").count();
    // 4 at once, then after 100, 200, 400 and 800 ms: the fifth time comes after a second and a half.
    eventually(SOON, || if starts() >= 20 { Ok(()) } else { Err(format!("{} starts", starts())) });
    let before = starts();
    let reply = dog.post("/", "x");
    assert_eq!((reply.status, reply.header("x-exit-code")), (500, Some("3")));
    assert!(starts() - before <= 8, "no pause: {} starts for one request", starts() - before);
    let log = dog.log();
    assert!(log.contains("exit code 3") && log.contains("see prewarm"), "{log}");
}

#[test]
fn a_process_that_cannot_be_started_is_logged_once_a_pause() {
    let dog =
        Bin::fwatchdog().env("fprocess", "/no/such/program").env("prewarm", "2").env("cgi_headers", "false");
    let dog = dog.start();
    dog.wait_log("cannot start `/no/such/program` ahead", SOON);
    assert_eq!(dog.post("/", "x").status, 500);
    assert!(dog.log().matches("ahead").count() < 10, "{}", dog.log());
}

#[test]
fn a_process_that_has_waited_for_prewarm_max_age_is_replaced() {
    let dog = warm(WHO, 2).env("prewarm_max_age", "300ms").start();
    let first = waiting(&dog, 2);
    let second = eventually(SOON, || {
        let now = waiting(&dog, 2);
        if now.is_disjoint(&first) { Ok(now) } else { Err(format!("{now:?} still has some of {first:?}")) }
    });
    eventually(SOON, || match first.iter().all(|pid| proc::stat(*pid).is_none()) {
        true => Ok(()),
        false => Err(format!("some of {first:?} are left beside {second:?}")),
    });
    ask(&dog, "still served");
    assert!(!dog.log().contains("ended by itself"), "{}", dog.log());
}

#[test]
fn waiting_processes_end_with_fwatchdog_and_do_not_take_the_end_for_a_request() {
    let dog = warm("cat >/dev/null; echo ran >&2", 3).start();
    waiting(&dog, 6); // a shell and its cat each
    assert_eq!(dog.post("/", "one").status, 200);
    waiting(&dog, 6);
    dog.signal(proc::SIGTERM);
    let status = dog.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", dog.log());
    assert_eq!(dog.descendants(), [0; 0]);
    assert_eq!(dog.log().matches("ran").count(), 1, "{}", dog.log());
}

#[test]
fn a_running_request_is_finished_though_the_prewarm_thread_stops() {
    let dog =
        warm("read -r line; echo begun >&2; sleep 1; echo $line", 2).env("drain_timeout", "60s").start();
    waiting(&dog, 2);
    thread::scope(|scope| {
        let call = scope.spawn(|| dog.post("/", "to the end\n"));
        dog.wait_log("begun", SOON);
        dog.signal(proc::SIGTERM);
        let reply = call.join().expect("the call");
        assert_eq!((reply.status, &*reply.text()), (200, "to the end\n"));
    });
    assert_eq!(dog.wait(SOON).code(), Some(0), "{}", dog.log());
}

#[test]
fn timeouts_and_hang_ups_leave_nothing_behind() {
    let script = "read -r line; setsid sleep 600 & (setsid sleep 600 &); echo ready >&2; wait";
    let dog = warm(script, 4).env("kill_grace", "0").start();
    waiting(&dog, 4);
    let fds = dog.fds();
    for round in 0..10 {
        if round % 2 == 0 {
            let request = dog.request().method("POST").header("X-Timeout", "200ms").body("x\n");
            assert_eq!(request.send().unwrap().status, 504);
        } else {
            let before = dog.log().matches("ready").count();
            let mut connection = dog.connect();
            connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx\n").unwrap();
            eventually(SOON, || match dog.log().matches("ready").count() {
                ready if ready > before => Ok(()),
                ready => Err(format!("{ready} ready in round {round}, {before} before")),
            });
            drop(connection);
        }
    }
    waiting(&dog, 4);
    no_zombies(&dog);
    eventually(SOON, || {
        if dog.fds() <= fds { Ok(()) } else { Err(format!("{} files, {fds} before", dog.fds())) }
    });
}
