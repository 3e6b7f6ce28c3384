//! The main thread waits for orphans, and for no other child.

use std::fs;
use std::time::Duration;

use testkit::{Bin, eventually};

use crate::{SOON, shell};

#[test]
fn orphans_are_adopted_and_waited_for() {
    let dog = shell("(sleep 0.2 >/dev/null 2>&1 &) ; (sleep 3 >/dev/null 2>&1 &) ; echo done").start();
    for _ in 0..5 {
        assert_eq!(dog.get("/").text(), "done\n");
    }
    let children = format!("/proc/{0}/task/{0}/children", dog.pid());
    let adopted = fs::read_to_string(&children).unwrap();
    assert!(!adopted.trim().is_empty(), "they were adopted by somebody else");
    eventually(SOON, || match (dog.descendants().len(), dog.zombies().len()) {
        (0, 0) => Ok(()),
        other => Err(format!("{other:?} alive and unreaped")),
    });
}

#[test]
fn no_exit_code_is_lost_while_orphans_end() {
    let dog = shell("(sleep 0.01 >/dev/null 2>&1 &) ; exit 7").start();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    assert_eq!(dog.get("/").header("x-exit-code"), Some("7"));
                }
            });
        }
    });
    eventually(SOON, || match dog.zombies().len() {
        0 => Ok(()),
        count => Err(format!("{count} zombies")),
    });
}

#[test]
fn the_first_process_of_a_container_reaps_and_ends_in_order() {
    let dog = env!("CARGO_BIN_EXE_fwatchdog");
    let unshare = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let inside =
        |program: &str| unshare.iter().fold(Bin::at("unshare"), |bin, arg| bin.arg(arg)).arg(program);
    let probe = inside("true").run();
    if probe.code() != 0 {
        eprintln!("skipped: no process namespaces here: {}", probe.stderr.trim());
        return;
    }
    let script = "(sleep 0.1 >/dev/null 2>&1 &) ; echo $PPID $(ls -d /proc/[0-9]* | wc -l)";
    let dog = inside(dog).env("fprocess", format!("sh -c '{script}'")).env("port", "0").start();
    assert!(dog.get("/").text().starts_with("1 "), "it is process 1");
    for _ in 0..5 {
        dog.get("/");
    }
    let first = dog.descendants()[0];
    eventually(SOON, || match (testkit::proc::zombies(first).len(), dog.descendants().len()) {
        (0, 1) => Ok(()),
        other => Err(format!("{other:?} zombies and processes")),
    });
    // Signals with a default disposition do not reach the first process of a container (pid_namespaces(7)).
    testkit::proc::signal(first, testkit::proc::SIGTERM);
    assert_eq!(dog.wait(SOON).code(), Some(0));
    assert!(dog.log().contains("done"), "{}", dog.log());
}

#[test]
fn an_ignored_sigchld_does_not_lose_exit_codes() {
    let script = format!("trap '' CHLD; exec {}", env!("CARGO_BIN_EXE_fwatchdog"));
    let dog = Bin::at("sh").arg("-c").arg(script).env("fprocess", "sh -c 'exit 5'").env("port", "0").start();
    assert_eq!(dog.get("/").header("x-exit-code"), Some("5"));
}

#[test]
fn a_process_starts_with_clean_signals() {
    let script = format!("trap '' HUP USR1 PIPE; exec {}", env!("CARGO_BIN_EXE_fwatchdog"));
    let dog = Bin::at("sh").arg("-c").arg(script);
    let dog = dog.env("fprocess", "grep -E ^Sig(Blk|Ign) /proc/self/status").env("port", "0").start();
    let text = dog.get("/").text();
    let sets: Vec<u64> =
        text.lines().map(|line| u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap()).collect();
    // Bits 31 and 32 are the C library's own signals, 32 and 33.
    assert!(sets.len() == 2 && sets[0] == 0 && sets[1] & !(0b11 << 31) == 0, "{text}");
}

/// fwatchdog raises its own limit. A program that closes every possible descriptor would pay for that.
#[test]
fn a_process_has_the_limit_of_open_files_that_fwatchdog_inherited() {
    let dog = Bin::fwatchdog().env("fprocess", "sh -c 'ulimit -Sn; ulimit -Hn'").soft_nofile(200).start();
    let text = dog.get("/").text();
    let (soft, hard) = text.trim().split_once('\n').unwrap();
    let own = std::fs::read_to_string(format!("/proc/{}/limits", dog.pid())).unwrap();
    let own: Vec<&str> =
        own.lines().find(|line| line.contains("open files")).unwrap().split_whitespace().skip(3).collect();
    assert_eq!((soft, hard), ("200", own[1]), "{own:?}");
    assert_ne!(own[0], "200", "its own is raised");
}

#[test]
fn an_idle_fwatchdog_sleeps() {
    let dog = Bin::fwatchdog().env("fprocess", "cat").start();
    dog.post("/", "x");
    // The work after the answer may fall into the first spans.
    eventually(SOON, || {
        let before = dog.cpu_time();
        std::thread::sleep(Duration::from_millis(500)); // the span that is measured
        match dog.cpu_time() - before {
            busy if busy <= Duration::from_millis(10) => Ok(()),
            busy => Err(format!("{busy:?} of CPU time in half a second")),
        }
    });
}
