//! The real fwatchdog over real sockets, with real processes.

mod cgi;
mod connections;
mod drain;
mod ends;
mod few_files;
mod floods;
mod http_mode;
mod kills;
mod leftovers;
mod lock_file;
mod log;
mod neighbours;
mod no_proc;
mod owed;
mod prewarm;
mod reaping;
mod request;
mod start;
mod streaming;
mod streams;

use std::time::Duration;

use testkit::{Bin, Running, eventually, program};

/// The deadline of things that happen at once.
const SOON: Duration = Duration::from_secs(20);

/// A fwatchdog around a program of the testkit.
fn dog(program_line: &str) -> Bin {
    Bin::fwatchdog().env("fprocess", program(program_line))
}

/// A fwatchdog around a shell script.
fn shell(script: &str) -> Bin {
    assert!(!script.contains('\''), "the script is quoted with them");
    Bin::fwatchdog().env("fprocess", format!("sh -c '{script}'"))
}

/// Waits until so many answers with `code` are counted: a request is counted after its answer.
#[track_caller]
fn counts(dog: &Running, code: &str, want: f64) {
    eventually(SOON, || {
        let got = dog.metrics("/_/metrics").sum("http_requests_total", &[("code", code)]);
        if got == want { Ok(()) } else { Err(format!("{got} answers with {code} are counted, not {want}")) }
    });
}

/// Waits until the main thread has waited for all ended children.
#[track_caller]
fn no_zombies(dog: &Running) {
    eventually(SOON, || match dog.zombies() {
        zombies if zombies.is_empty() => Ok(()),
        zombies => Err(format!("zombies: {zombies:?}")),
    });
}

/// Runs with `pairs` and expects exit code 2 and one line with each of `parts`.
#[track_caller]
fn refused(pairs: &[(&str, &str)], parts: &[&str]) {
    let bin =
        pairs.iter().fold(Bin::fwatchdog().env("fprocess", "cat"), |bin, (name, value)| bin.env(name, value));
    let output = bin.run();
    assert_eq!(output.code(), 2, "{output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    assert!(parts.iter().all(|part| output.stderr.contains(part)), "{parts:?} in {output:?}");
}

/// Waits until no process of a call is left.
#[track_caller]
fn is_idle(dog: &Running) {
    eventually(SOON, || match dog.descendants().len() {
        0 => Ok(()),
        count => Err(format!("{count} processes are left")),
    });
}
