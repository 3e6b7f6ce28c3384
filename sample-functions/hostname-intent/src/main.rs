//! An Alexa skill that says on which host it runs: the request on STDIN, the response on STDOUT.
//!
//! The gateway routes a skill's requests by the name of their intent, which is this function's name. Input
//! that is no request of Alexa gets one line of JSON that says so, and exit code 1.
#![forbid(unsafe_code)]

mod alexa;

use std::fs;
use std::io::{self, Read, Write};
use std::process::ExitCode;

use alexa::Request;

/// As much as the gateway reads to recognise a request of Alexa.
const MAX_REQUEST_BYTES: u64 = 256 * 1024;

/// The name of this container, without the C library.
const HOSTNAME_FILE: &str = "/proc/sys/kernel/hostname";

fn main() -> ExitCode {
    let (answer, code) = match answer() {
        Ok(response) => (response, ExitCode::SUCCESS),
        Err(reason) => {
            // STDERR may have no reader; the exit code tells the failure too.
            let _ = writeln!(io::stderr(), "hostname-intent: {reason}");
            (serde_json::json!({ "error": reason }), ExitCode::FAILURE)
        }
    };
    match writeln!(io::stdout(), "{answer}") {
        Ok(()) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hostname-intent: failed to write STDOUT: {error}");
            ExitCode::FAILURE
        }
    }
}

fn answer() -> Result<serde_json::Value, String> {
    let mut text = Vec::new();
    let read = io::stdin().lock().take(MAX_REQUEST_BYTES + 1).read_to_end(&mut text);
    read.map_err(|error| format!("failed to read STDIN: {error}"))?;
    if text.len() as u64 > MAX_REQUEST_BYTES {
        return Err(format!("expected at most {MAX_REQUEST_BYTES} bytes, got more"));
    }
    Ok(match alexa::parse(&text)? {
        Request::Intent => alexa::says(&format!("This is {}.", hostname()?)),
        Request::Launch => alexa::asks("Ask me for the name of the host."),
        Request::SessionEnded => alexa::silence(),
    })
}

fn hostname() -> Result<String, String> {
    let name = fs::read_to_string(HOSTNAME_FILE);
    let name = name.map_err(|error| format!("failed to read {HOSTNAME_FILE}: {error}"))?;
    Ok(name.trim_end().to_owned())
}
