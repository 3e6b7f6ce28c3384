//! Many calls in a row leave nothing behind. `make soak` runs as many rounds as a release must survive, the tests fewer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::rng::{Matches, Noise};
use testkit::{Bin, Running, eventually, proc, rounds};

use crate::{SOON, counts, no_zombies, shell};

/// How long something may be left after the last answer.
const AT_ONCE: Duration = Duration::from_millis(100);

const CLIENTS: usize = 16;
const MIB: u64 = 1024 * 1024;

/// Runs `one` so many times, by several clients at once.
fn many(count: usize, one: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    one(number);
                }
            });
        }
    });
}

/// Processes, threads, files and memory before the rounds, to be compared with those after them.
struct Before {
    fds: usize,
    rss: u64,
}

impl Before {
    /// Taken after one call, so that all threads have started.
    fn of(dog: &Running) -> Before {
        Before { fds: dog.fds(), rss: dog.rss_bytes() }
    }

    #[track_caller]
    fn compare(&self, dog: &Running, last_answer: Instant) {
        let left = AT_ONCE.saturating_sub(last_answer.elapsed());
        eventually(left, || {
            let left: Vec<String> = dog.descendants().into_iter().map(proc::command_line).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("survivors: {left:?}")) }
        });
        no_zombies(dog);
        eventually(SOON, || match dog.fds() {
            fds if fds <= self.fds => Ok(()),
            fds => Err(format!("{fds} open files, {} before", self.fds)),
        });
        println!("{} KiB resident, {} before", dog.rss_bytes() / 1024, self.rss / 1024);
    }
}

#[test]
fn no_process_of_a_call_that_times_out_survives() {
    let count = rounds(300, 10_000);
    // An orphan with a child in its own session, and a sleeper in the group; all ignore SIGTERM.
    let script = "trap \"\" TERM; (setsid sh -c \"sleep 600 & sleep 600\" >/dev/null 2>&1 &) ; sleep 600";
    let dog = shell(script).env("exec_timeout", "100ms").env("kill_grace", "100ms").start();
    assert_eq!(dog.get("/").status, 504);
    let before = Before::of(&dog);
    let began = Instant::now();
    many(count, |_| assert_eq!(dog.get("/").status, 504));
    let last_answer = Instant::now();
    before.compare(&dog, last_answer);
    println!("{count} time limits in {:.1} s", began.elapsed().as_secs_f64());
    counts(&dog, "504", (count + 1) as f64);
}

#[test]
fn no_process_of_a_client_that_hangs_up_survives() {
    let count = rounds(60, 1_000);
    // The process echoes, so that a client can leave within either body.
    let dog = shell("(setsid sleep 600 >/dev/null 2>&1 &) ; cat; sleep 600").env("kill_grace", "50ms");
    let dog = dog.env("buffer_output", "0").start();
    let hang_up = |number: usize| {
        let mut connection = dog.connect();
        connection
            .within(SOON)
            .send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
            .unwrap();
        if number.is_multiple_of(2) {
            assert_eq!(connection.head().unwrap().status, 200, "in the middle of the answer");
        }
        if number.is_multiple_of(3) { connection.reset() } else { drop(connection) }
    };
    hang_up(0);
    counts(&dog, "499", 1.0);
    let before = Before::of(&dog);
    many(count, hang_up);
    counts(&dog, "499", (count + 1) as f64);
    before.compare(&dog, Instant::now());
}

#[test]
fn a_body_larger_than_its_memory_is_echoed() {
    let bytes = rounds(64, 1024) as u64 * MIB;
    let dog = Bin::fwatchdog().env("fprocess", "cat").address_space(16 * MIB).start();
    let mut matches = Matches::new(7, bytes);
    let request =
        dog.request().method("POST").timeout(Duration::from_secs(300)).reader(bytes, Noise::new(7, bytes));
    let reply = request.send_into(&mut matches).unwrap();
    assert!(reply.status == 200 && matches.is_whole(), "{} bytes", reply.body_bytes);
    println!(
        "{bytes} bytes echoed within 16 MiB of address space, {} KiB resident",
        dog.peak_rss_bytes() / 1024
    );
}
