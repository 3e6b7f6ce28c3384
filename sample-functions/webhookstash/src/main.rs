//! Saves each body in a file named by the UNIX time in nanoseconds.
//!
//! Under the name `find` it lists directories: the image is `FROM scratch`, and `docker exec ID find .` shows
//! the stash. Exit codes: 0 done, 1 failure, 2 wrong arguments.
#![forbid(unsafe_code)]

mod find;
mod stash;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

/// Directory of the files; by default the current one.
const ENV_STASH_DIR: &str = "stash_dir";

/// Length of the body, set by fwatchdog; -1 when unknown.
const ENV_LENGTH: &str = "Http_Content_Length";

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let program = arguments.next().unwrap_or_default();
    if Path::new(&program).file_name().is_some_and(|name| name == "find") {
        return find::run(&arguments.collect::<Vec<_>>());
    }
    let directory = variable(ENV_STASH_DIR).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let length = variable(ENV_LENGTH).and_then(|text| text.to_str()?.parse().ok());
    let body = stash::Body { input: &mut io::stdin().lock(), length, arrived: SystemTime::now() };
    let (answer, code) = match body.save(&directory) {
        Ok(_) => ("Webhook stashed", ExitCode::SUCCESS),
        Err(error) => {
            complain(&error);
            // The state of the disk is for the log, not for the sender.
            ("failed to stash the webhook", ExitCode::FAILURE)
        }
    };
    match writeln!(io::stdout(), "{answer}") {
        Ok(()) => code,
        Err(error) => {
            complain(&stash::Error::new("write", "STDOUT", error));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::disallowed_methods)] // the one place
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// STDERR may have no reader; the exit code tells the failure too.
fn complain(error: &stash::Error) {
    let _ = writeln!(io::stderr(), "webhookstash: {error}");
}
