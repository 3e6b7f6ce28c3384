//! Saves each body in a file that is named by the UNIX time in nanoseconds.
//!
//! Called by the name of `find` it lists directories instead: the image is `FROM scratch`, and
//! `docker exec ID find .` is how one looks at the stash. Exit codes: 0 done, 1 failure, 2 wrong arguments.
#![forbid(unsafe_code)]

mod find;
mod stash;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

/// Where the files go; the current directory unless set.
const ENV_STASH_DIR: &str = "stash_dir";

/// How long the body is; fwatchdog sets it, -1 where nobody knows.
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
            // What is wrong with the disk is for the log, not for whoever sent the webhook.
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

#[allow(clippy::disallowed_methods)] // this is the one place
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Nobody may be left to read STDERR; the exit code says it all the same.
fn complain(error: &stash::Error) {
    let _ = writeln!(io::stderr(), "webhookstash: {error}");
}
