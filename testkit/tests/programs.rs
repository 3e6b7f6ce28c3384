//! Each program does what its name says: a test that relies on it fails for the right reason.

#![forbid(unsafe_code)]

use std::time::Duration;

use testkit::{Bin, Output, Process, eventually, proc, program};

const WAIT: Duration = Duration::from_secs(10);

fn bin(line: &str) -> Bin {
    // Through a shell, which also feeds STDIN, as fwatchdog does.
    Bin::at("sh").arg("-c").arg(format!("head -c 300000 /dev/zero | {{ {}; }}", program(line)))
}

fn run(line: &str) -> Output {
    bin(line).run()
}

#[test]
fn answers_and_exit_codes() {
    let cases = [
        ("arguments a b", "a\nb\n", 0),
        ("closes_stdin", "closed\n", 0),
        ("dies_by_signal", "dying\n", 137),
        ("dies_by_signal 15", "dying\n", 143),
        ("drips 2 1", "drip 0\ndrip 1\n", 0),
        ("exits", "", 1),
        ("exits 3 text", "text", 3),
        ("ignores_stdin", "ignored\n", 0),
        ("writes 5 7", "wwwww", 7),
        ("writes_then_reads 0", "\nread 300000\n", 0),
    ];
    for (line, stdout, code) in cases {
        let output = run(line);
        assert_eq!((&*output.stdout, output.code()), (stdout, code), "{line}: {}", output.stderr);
    }
}

#[test]
fn floods() {
    assert_eq!(run("floods_stderr 250000").stderr.len(), 250_000);
    assert_eq!(run("writes 250000").stdout.len(), 250_000);
}

#[test]
fn the_environment_is_echoed() {
    let output = bin("echo_env").env("Http_Method", "PUT").run();
    assert!(output.stdout.contains("Http_Method=PUT\n"), "{}", output.stdout);
}

/// The command lines of what is left, without the shells around it.
fn modes(process: &Process) -> Vec<String> {
    let lines = process.descendants().into_iter().map(proc::command_line);
    let mut modes: Vec<String> =
        lines.filter_map(|line| Some(line.split_once("testkit-program ")?.1.to_owned())).collect();
    modes.retain(|mode| !mode.contains('}'));
    modes.sort_unstable();
    modes
}

#[test]
fn a_child_stays_behind() {
    let process = bin("holds_stdout").spawn();
    eventually(WAIT, || match (&*process.stdout(), process.try_status(), &*modes(&process)) {
        ("done\n", Some(status), [left]) if status.success() && left == "sleeps" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn grandchildren_ignore_the_signal() {
    let process = bin("spawns_grandchild").spawn();
    process.wait_log("ready", WAIT);
    let all = ["sleeps", "sleeps", "spawns_grandchild"];
    assert_eq!(modes(&process), all);
    let pids = process.descendants();
    for pid in &pids {
        proc::signal(*pid, proc::SIGTERM);
    }
    assert_eq!(modes(&process), all);
    let orphans = pids.iter().filter_map(|pid| proc::stat(*pid)).filter(|stat| !pids.contains(&stat.parent));
    assert!(
        orphans.filter(|stat| stat.parent != process.pid()).count() >= 1,
        "nobody left the line of parents"
    );
    drop(process);
    assert!(pids.iter().all(|pid| proc::stat(*pid).is_none_or(|stat| !stat.is_alive())));
}
