//! The gateway, nginx and HAProxy side by side, before the same backend: what an answer costs, how long it takes and
//! what memory is held, in several situations. All subjects of a situation are loaded in turn, round after round:
//! other load on the machine meets all alike. Ratios are taken within a round; the table has their median. Prints
//! Markdown. The exit code is 1 when an answer was wrong.
#![forbid(unsafe_code)]

mod calls;
mod events;
mod options;
mod report;
mod situations;

use std::process::ExitCode;

use bench::backend::Backend;
use bench::interrupt;
use bench::proxy::is_installed;

use options::Options;

const USAGE: &str = "usage: edge [--quick] [--rounds N] [--seconds S] [--situations NAME,NAME] \
    [--subjects NAME,NAME] [--before GATEWAY] [--calls]";

fn main() -> ExitCode {
    let options = Options::read(std::env::args().skip(1)).unwrap_or_else(|wrong| {
        eprintln!("{wrong}\n{USAGE}");
        std::process::exit(2);
    });
    let options = without_missing(options);
    if options.counts_calls && !is_installed("strace") {
        eprintln!("strace is not installed: the system calls are not counted");
        return ExitCode::FAILURE;
    }
    interrupt::watch();
    let backend = Backend::start();
    let is_good = if options.counts_calls {
        calls::print(&options, backend.addr())
    } else {
        report::print(&options, backend.addr())
    };
    match (interrupt::seen(), is_good) {
        (true, _) => ExitCode::from(interrupt::EXIT_CODE),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    }
}

/// Removes subjects that are not installed, and says so.
fn without_missing(mut options: Options) -> Options {
    let programs = ["nginx", "haproxy"];
    let missing: Vec<&str> = programs.into_iter().filter(|name| !is_installed(name)).collect();
    let subjects = &mut options.common.subjects;
    let before = subjects.len();
    subjects.retain(|name| !missing.contains(&name.as_str()));
    if subjects.len() < before {
        println!("Not installed, so not measured: {}.\n", missing.join(", "));
    }
    options
}
