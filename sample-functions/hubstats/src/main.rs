//! Says how many repositories an organisation or user has on the Docker Hub: the name on STDIN, a sentence on
//! STDOUT.
//!
//! Exit codes: 0 an answer, 1 no answer, 2 an invalid setting. Without an answer STDOUT tells the caller the
//! reason, and STDERR tells the log its cause too.
#![forbid(unsafe_code)]

mod config;
mod hub;
mod name;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use config::Config;
use hub::Hub;
use name::Name;

/// Bound on STDIN: a name and white space around it.
const MAX_INPUT_BYTES: u64 = 1024;

/// Exit code of an invalid setting.
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let config = match Config::read() {
        Ok(config) => config,
        Err(error) => return fail(&error, "", ExitCode::from(BAD_CONFIGURATION)),
    };
    let name = match name_from_stdin() {
        Ok(name) => name,
        Err(error) => return fail(&error, "", ExitCode::FAILURE),
    };
    match Hub::new(&config).count(&name) {
        Ok(count) => say(&sentence(&name, count), ExitCode::SUCCESS),
        Err(error) => {
            let line = format!("failed to count the repositories of `{name}`: {error}");
            let cause = error.cause().map(|cause| format!(": {cause}")).unwrap_or_default();
            fail(&line, &cause, ExitCode::FAILURE)
        }
    }
}

fn name_from_stdin() -> Result<Name, String> {
    let mut text = Vec::new();
    let read = io::stdin().lock().take(MAX_INPUT_BYTES + 1).read_to_end(&mut text);
    read.map_err(|error| format!("failed to read STDIN: {error}"))?;
    if text.len() as u64 > MAX_INPUT_BYTES {
        return Err(format!("expected a name in at most {MAX_INPUT_BYTES} bytes, got more"));
    }
    Name::parse(&text)
}

/// The hub says 0 for a known name without repositories.
fn sentence(name: &Name, count: Option<u64>) -> String {
    match count {
        None => format!("There is no organisation or user {name} on the Docker hub."),
        Some(1) => format!("The organisation or user {name} has 1 repository on the Docker hub."),
        Some(count) => format!("The organisation or user {name} has {count} repositories on the Docker hub."),
    }
}

fn say(line: &str, code: ExitCode) -> ExitCode {
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => code,
        Err(error) => {
            log(&format!("failed to write STDOUT: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn fail(line: &str, cause: &str, code: ExitCode) -> ExitCode {
    log(&format!("{line}{cause}"));
    say(line, code)
}

/// STDERR may have no reader; the exit code tells the failure too.
fn log(line: &str) {
    let _ = writeln!(io::stderr(), "hubstats: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_have_the_right_number() {
        let name = Name::parse(b"alexellis2").expect("a name");
        let cases = [
            (None, "There is no organisation or user alexellis2 on the Docker hub."),
            (Some(0), "The organisation or user alexellis2 has 0 repositories on the Docker hub."),
            (Some(1), "The organisation or user alexellis2 has 1 repository on the Docker hub."),
            (Some(2), "The organisation or user alexellis2 has 2 repositories on the Docker hub."),
            (Some(99), "The organisation or user alexellis2 has 99 repositories on the Docker hub."),
        ];
        for (count, want) in cases {
            assert_eq!(sentence(&name, count), want);
        }
    }
}
