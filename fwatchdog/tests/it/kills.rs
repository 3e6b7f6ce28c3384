//! Calls that are ended: by `exec_timeout`, by the caller's `X-Timeout`, by a client that leaves or stalls.

use std::thread;
use std::time::{Duration, Instant};

use testkit::{Bin, Running, eventually, proc};

use crate::{SOON, counts, dog, no_zombies, shell};

#[track_caller]
fn nothing_is_left(dog: &Running) {
    let left = dog.descendants();
    let lines: Vec<String> = left.iter().map(|pid| format!("{pid}: {}", proc::command_line(*pid))).collect();
    assert!(lines.is_empty(), "{lines:?}");
    no_zombies(dog);
}

#[test]
fn exec_timeout_ends_the_whole_tree_before_the_answer() {
    // Two grandchildren, one an orphan in its own session; all catch SIGTERM and go on.
    let dog = dog("spawns_grandchild").env("exec_timeout", "500ms").start();
    let started = Instant::now();
    let reply = dog.get("/");
    let took = started.elapsed();
    nothing_is_left(&dog);
    assert_eq!(reply.status, 504);
    assert!(reply.text().contains("exec_timeout is 500ms"), "{}", reply.text());
    assert!(took >= Duration::from_millis(1400) && took < SOON, "{took:?}");
    counts(&dog, "504", 1.0);
}

#[test]
fn a_shell_with_two_sleeping_grandchildren_that_ignore_sigterm_is_ended_in_time() {
    let script = "trap \"\" TERM; sleep 600 & setsid sleep 600 & wait; sleep 600";
    let dog = shell(script).env("exec_timeout", "500ms").env("kill_grace", "60s").start();
    let started = Instant::now();
    assert_eq!(dog.get("/").status, 504);
    // They have no use for the grace.
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    nothing_is_left(&dog);
}

#[test]
fn a_daemon_is_found_by_its_mark() {
    // A double fork with its own session: not in the group, and its parents are gone before the timeout.
    let script = "(setsid sh -c \"sleep 600 & sleep 600\" >/dev/null 2>&1 &) ; sleep 600";
    let dog = shell(script).env("exec_timeout", "300ms").start();
    assert_eq!(dog.get("/").status, 504);
    nothing_is_left(&dog);
}

/// The daemon is in no group, session or line of parents of the call, and its environment is empty, as where a daemon
/// writes its title over it.
const DAEMON: &str = "(setsid env -i /bin/sleep 60 >/dev/null 2>&1 &) ; echo ready >&2; ";

#[test]
fn a_daemon_without_an_environment_is_found_and_that_of_another_call_is_spared() {
    let dog = shell(&format!("{DAEMON} sleep 60")).start();
    let mut other = dog.connect();
    other.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let others = daemon_and_call(&dog);
    let reply = dog.request().path("/").header("X-Timeout", "2s").send().unwrap();
    assert_eq!(reply.status, 504);
    assert_eq!(dog.descendants(), others);
    drop(other);
    counts(&dog, "499", 1.0);
    nothing_is_left(&dog);
}

/// The processes of a call, once its shell and both children run.
#[track_caller]
fn daemon_and_call(dog: &Running) -> Vec<u32> {
    eventually(SOON, || {
        let all = dog.descendants();
        let sleeps = |pid: &u32| proc::command_line(*pid).trim_start_matches("/bin/").starts_with("sleep");
        let sleepers = all.iter().filter(|pid| sleeps(pid));
        if all.len() == 3 && sleepers.count() == 2 { Ok(all) } else { Err(format!("{all:?}")) }
    })
}

#[test]
fn a_process_that_flees_from_parent_to_child_is_caught() {
    // Each generation leaves the session, starts the next and ends, within some two milliseconds. The last generation
    // ends the chain if none is caught.
    let dog = Bin::fwatchdog();
    let script = dog.file("flees.sh", "[ \"$1\" -gt 0 ] && setsid sh \"$0\" $(($1 - 1)) >/dev/null 2>&1 &\n");
    let command = format!("sh -c 'sh {} 20000; exec sleep 600'", script.display());
    let dog = dog.env("fprocess", command).env("exec_timeout", "100ms").env("kill_grace", "100ms").start();
    for _ in 0..10 {
        assert_eq!(dog.get("/").status, 504);
        nothing_is_left(&dog);
    }
}

#[test]
fn a_process_gets_its_grace() {
    let script = "trap \"echo cleaned up >&2; exit 0\" TERM; echo ready >&2; while :; do sleep 0.01; done";
    // Long enough until the trap is set, which ends the grace early.
    let dog = shell(script).env("exec_timeout", "2s").env("kill_grace", "60s").start();
    assert_eq!(dog.request().timeout(2 * SOON).send().unwrap().status, 504);
    dog.wait_log("cleaned up", SOON);
}

#[test]
fn a_smaller_x_timeout_counts() {
    let dog = dog("sleeps").env("exec_timeout", "30s").env("kill_grace", "0").start();
    let reply = dog.request().header("X-Timeout", "200ms").send().unwrap();
    assert_eq!(reply.status, 504);
    assert!(reply.text().contains("X-Timeout is 200ms"), "{}", reply.text());
    nothing_is_left(&dog);
}

#[test]
fn a_larger_zero_or_unreadable_x_timeout_does_not_count() {
    let dog = dog("sleeps").env("exec_timeout", "200ms").env("kill_grace", "0").start();
    for value in ["1h", "0", "0ms", "soon", ""] {
        let reply = dog.request().header("X-Timeout", value).send().unwrap();
        assert!(reply.status == 504 && reply.text().contains("exec_timeout"), "{value}: {}", reply.text());
    }
}

#[test]
fn a_timeout_after_the_answer_began_breaks_it_off() {
    let script = "head -c 1000 /dev/zero; sleep 600";
    let dog = shell(script).env("buffer_output", "0").env("exec_timeout", "2s").start();
    assert!(dog.request().send().is_err());
    nothing_is_left(&dog);
    counts(&dog, "504", 1.0);
}

#[test]
fn a_client_that_hangs_up_ends_the_call() {
    let dog = dog("spawns_grandchild").env("kill_grace", "100ms").start();
    for with_reset in [false, true] {
        let mut connection = dog.connect();
        connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx").unwrap();
        let ready = 1 + usize::from(with_reset);
        eventually(SOON, || match dog.log().matches("ready").count() {
            count if count >= ready => Ok(()),
            count => Err(format!("{count} ready\n{}", dog.log())),
        });
        if with_reset {
            connection.reset();
        } else {
            drop(connection);
        }
        eventually(SOON, || match dog.descendants().len() {
            0 => Ok(()),
            count => Err(format!("{count} processes left")),
        });
    }
    counts(&dog, "499", 2.0);
}

#[test]
fn a_client_that_hangs_up_in_its_body_ends_the_call() {
    let dog = shell("cat; sleep 600").env("kill_grace", "0").start();
    let mut connection = dog.connect();
    connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
    eventually(SOON, || if dog.descendants().is_empty() { Err("not started".to_owned()) } else { Ok(()) });
    drop(connection);
    eventually(SOON, || if dog.descendants().is_empty() { Ok(()) } else { Err("goes on".to_owned()) });
}

#[test]
fn half_a_body_is_never_taken_for_the_whole() {
    // The process outlives SIGTERM: it would see the end of its STDIN before SIGKILL.
    let script = "trap \"\" TERM; echo ready >&2; cat >/dev/null; echo whole >&2";
    let dog = shell(script).env("exec_timeout", "3s").env("kill_grace", "300ms").start();
    let started = |count| {
        eventually(SOON, || match dog.log().matches("ready").count() {
            ready if ready >= count => Ok(()),
            ready => Err(format!("{ready} of {count} are ready")),
        });
    };
    let half = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let connections: Vec<_> = (0..3).map(|_| dog.connect()).collect();
    for (number, mut connection) in connections.into_iter().enumerate() {
        connection.send(half).unwrap();
        started(number + 1);
        match number {
            0 => drop(connection),
            1 => connection.send("zz\r\n").unwrap(), // not the size of a chunk
            _ => assert_eq!(connection.within(SOON).reply("POST").unwrap().status, 504),
        }
    }
    counts(&dog, "504", 1.0);
    eventually(SOON, || if dog.descendants().is_empty() { Ok(()) } else { Err("goes on".to_owned()) });
    assert!(!dog.log().contains("whole"), "{}", dog.log());
    // The end of a whole body is still seen.
    dog.post("/", "all of it");
    dog.wait_log("whole", SOON);
}

#[test]
fn a_body_that_stops_arriving_is_408() {
    let dog = shell("cat >/dev/null; echo whole").env("read_timeout", "2s").start();
    let mut connection = dog.connect();
    connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345").unwrap();
    let reply = connection.within(SOON).reply("POST").unwrap();
    assert!(reply.status == 408 && reply.text().contains("read_timeout"), "{reply:?}");
    assert!(!reply.head.keeps_alive());
    nothing_is_left(&dog);
    counts(&dog, "408", 1.0);
    let rejected = dog.metrics("/_/metrics").sum("http_requests_rejected_total", &[("reason", "body_stall")]);
    assert_eq!(rejected, 1.0);
    // A body that keeps coming may take longer.
    let slow = std::iter::from_fn({
        let mut left = 8;
        move || {
            thread::sleep(Duration::from_millis(300)); // it is this slow
            left -= 1;
            (left > 0).then(|| b"x".to_vec())
        }
    });
    assert_eq!(dog.request().method("POST").chunks(slow).send().unwrap().status, 200);
}

#[test]
fn a_malformed_chunk_ends_the_call_with_400() {
    let dog = shell("cat; echo whole").start();
    let mut connection = dog.connect();
    connection.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").unwrap();
    eventually(SOON, || if dog.descendants().is_empty() { Err("not started".to_owned()) } else { Ok(()) });
    connection.send("zz\r\n").unwrap();
    let reply = connection.within(SOON).reply("POST").unwrap();
    assert_eq!(reply.status, 400);
    nothing_is_left(&dog);
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    let dog = dog("writes 50000000").env("write_timeout", "300ms").start();
    let mut connection = dog.connect();
    connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    counts(&dog, "499", 1.0);
    nothing_is_left(&dog);
}

#[test]
fn the_worker_is_free_again_after_each_end() {
    // One worker: the next request is served after each kind of end.
    let dog = shell("read line; test \"$line\" = sleep && sleep 600; echo $line").env("kill_grace", "0");
    let dog = dog.nofile(24).start();
    for _ in 0..3 {
        let sleep = dog.request().method("POST").header("X-Timeout", "200ms").body("sleep\n");
        assert_eq!(sleep.send().unwrap().status, 504);
        assert_eq!(dog.post("/", "hello\n").text(), "hello\n");
    }
}
