//! A function cannot reach into its fwatchdog. fwatchdog works on machines that lack some system calls.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};

use testkit::{Bin, Running, eventually, is_root};

use crate::{SOON, dog, shell};

/// A user that is not root and owns nothing.
const USER: u32 = 60_000;

/// System calls by their numbers, which are the same on all architectures.
const PIDFD_SEND_SIGNAL: u32 = 424;
const PIDFD_OPEN: u32 = 434;
const CLOSE_RANGE: u32 = 436;

/// The errors of a kernel that lacks a system call, and of Docker's older sandboxes.
const ENOSYS: i32 = 38;
const EPERM: i32 = 1;

#[test]
fn a_function_cannot_look_into_its_fwatchdog() {
    let bin = Bin::fwatchdog().user(USER);
    let spies = bin.program("spies");
    let dog = bin.env("fprocess", spies).start();
    let told = dog.get("/").text();
    for what in ["environment", "memory", "descriptors", "sockets", "trace"] {
        assert!(told.contains(&format!("{what} refused\n")), "{told}");
    }
    // Processes of one user may signal each other. The gateway gives functions another user than its own.
    assert!(told.ends_with("signal taken\n"), "{told}");
    let own = dog.metrics("/_/metrics").sum("process_open_fds", &[]);
    assert!(own > 3.0, "it sees its own files: {own}");
}

#[test]
fn a_set_uid_program_gains_no_rights_and_ends_at_its_deadline() {
    if !is_root() {
        return eprintln!("skipped: only root can make a set-user-ID program of root's");
    }
    let bin = Bin::fwatchdog().user(USER);
    let helper = bin.dir().join("helper");
    fs::copy("/usr/bin/setpriv", &helper).unwrap();
    chown(&helper, Some(0), Some(0)).unwrap();
    fs::set_permissions(&helper, Permissions::from_mode(0o4755)).unwrap();
    let as_root = format!("{} --reuid=0 --regid=0 --clear-groups", helper.display());
    let sleeps = format!("sh -c '{as_root} sleep 600 || exec sleep 600'");
    let dog = bin.env("fprocess", sleeps).env("exec_timeout", "300ms").start();
    assert_eq!(dog.get("/").status, 504);
    no_process_is_left(&dog);
    assert!(dog.log().contains("Operation not permitted"), "{}", dog.log());
}

#[track_caller]
fn no_process_is_left(dog: &Running) {
    eventually(SOON, || match dog.descendants() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?} are left\n{}", dog.log())),
    });
}

#[test]
fn calls_end_whole_without_pidfd() {
    let daemon = "(setsid sh -c \"sleep 600 & sleep 600\" >/dev/null 2>&1 &) ; sleep 600";
    for errno in [ENOSYS, EPERM] {
        for missing in [&[PIDFD_OPEN, PIDFD_SEND_SIGNAL, CLOSE_RANGE][..], &[PIDFD_SEND_SIGNAL]] {
            let dog = shell(daemon).env("exec_timeout", "300ms").refusing(missing, errno).start();
            assert_eq!(dog.get("/").status, 504, "{missing:?} {errno}");
            no_process_is_left(&dog);
        }
    }
}

#[test]
fn answers_and_ends_come_without_pidfd() {
    let missing = |bin: Bin| bin.refusing(&[PIDFD_OPEN, PIDFD_SEND_SIGNAL, CLOSE_RANGE], ENOSYS);
    let forks = missing(shell("cat; exit 0")).start();
    let waits = missing(shell("cat")).env("prewarm", "2").env("cgi_headers", "false").start();
    for dog in [&forks, &waits] {
        for _ in 0..5 {
            assert_eq!(dog.post("/", "x").text(), "x");
        }
    }
    let serves = format!("sh -c 'exec {} $PORT'", testkit::program("serves"));
    let stays = Bin::fwatchdog().env("fprocess", serves).env("mode", "http");
    let stays = missing(stays.env("upstream_url", "http://127.0.0.1:0")).start();
    assert_eq!(stays.get("/").status, 200);
    for dog in [forks, waits, stays] {
        dog.signal(testkit::proc::SIGTERM);
        assert_eq!(dog.wait(SOON).code(), Some(0), "{}", dog.log());
    }
}

#[test]
fn a_parent_that_ignores_the_ends_of_its_children_changes_nothing() {
    let dog = dog("exits 3").ignoring_children().start();
    assert_eq!(dog.get("/").status, 500);
    assert!(!dog.log().contains("lost"), "{}", dog.log());
}
