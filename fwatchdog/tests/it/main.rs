//! fwatchdog as its users see it: the real binary, over real sockets, with real processes.

mod drain;
mod ends;
mod floods;
mod kills;
mod prewarm;
mod reaping;
mod request;
mod start;
mod streaming;
mod streams;

use std::time::Duration;

use testkit::{Bin, Running, eventually, program};

/// How long something may take that happens at once.
const SOON: Duration = Duration::from_secs(10);

/// A fwatchdog around a program of the testkit.
fn dog(program_line: &str) -> Bin {
    Bin::fwatchdog().env("fprocess", program(program_line))
}

/// A fwatchdog around a shell script.
fn shell(script: &str) -> Bin {
    assert!(!script.contains('\''), "the script is quoted with them");
    Bin::fwatchdog().env("fprocess", format!("sh -c '{script}'"))
}

/// Waits until as many answers with `code` are counted: a request is counted when its answer is out.
#[track_caller]
fn counts(dog: &Running, code: &str, want: f64) {
    eventually(SOON, || {
        let got = dog.metrics("/_/metrics").sum("http_requests_total", &[("code", code)]);
        if got == want { Ok(()) } else { Err(format!("{got} answers with {code} are counted, not {want}")) }
    });
}
