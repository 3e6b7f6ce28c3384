//! The arguments that every program here takes: none to serve, or one that asks for something else.

use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;

pub use crate::exit::{EXIT_CONFIGURATION, EXIT_FAILURE};

use crate::log;
use crate::sys::signal::{self, Signal};
use crate::sys::user;

/// A program, as its user knows it.
pub struct Program {
    /// Its name, which begins what it says of itself.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What `--help` prints.
    pub help: fn() -> String,
}

/// What the program is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Its work.
    Serve,
    /// Ask the one that runs whether it is well.
    HealthCheck,
    /// Print this, and end.
    Print(String),
    /// End, since the arguments are none of these.
    Refuse(String),
}

impl Program {
    /// Runs what the arguments of the process ask for. `--help` and `--version` are answered here, to whoever still
    /// reads: a closed pipe (`--help | head`) is no failure.
    pub fn run(&self, serve: impl FnOnce() -> ExitCode, check: impl FnOnce() -> ExitCode) -> ExitCode {
        match self.asked(std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned())) {
            Asked::Serve => self.begin(serve),
            Asked::HealthCheck => check(),
            Asked::Print(text) => match io::stdout().write_all(text.as_bytes()) {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    self.fail(EXIT_FAILURE, format_args!("failed to write to STDOUT: {error}"))
                }
                _ => ExitCode::SUCCESS,
            },
            Asked::Refuse(arguments) => {
                self.fail(EXIT_CONFIGURATION, format_args!("unknown arguments `{arguments}`, see --help"))
            }
        }
    }

    fn begin(&self, serve: impl FnOnce() -> ExitCode) -> ExitCode {
        signal::ignore(Signal::XFSZ); // a write beyond the limit of a file's size is an error, and not the end
        match user::shut() {
            Ok(()) => serve(),
            Err(error) => {
                self.fail(EXIT_FAILURE, format_args!("failed to set no_new_privs and dumpable: {error}"))
            }
        }
    }

    /// Says on STDERR why it ends, in one line, and returns the exit code. It does not wait for whoever reads STDERR.
    pub fn fail(&self, code: u8, reason: impl fmt::Display) -> ExitCode {
        log::say(self.name, &reason);
        ExitCode::from(code)
    }

    fn asked(&self, arguments: impl Iterator<Item = String>) -> Asked {
        let arguments: Vec<String> = arguments.collect();
        match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Asked::Serve,
            ["--healthcheck"] => Asked::HealthCheck,
            ["--help" | "-h"] => Asked::Print(format!("{}\n", (self.help)().trim_end())),
            ["--version" | "-V"] => Asked::Print(format!("{} {}\n", self.name, self.version)),
            _ => Asked::Refuse(arguments.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_argument_asks_for_one_thing() {
        let program = Program { name: "it", version: "1.2", help: || "usage\n\n".to_owned() };
        let cases: [(&[&str], Asked); 8] = [
            (&[], Asked::Serve),
            (&["--healthcheck"], Asked::HealthCheck),
            (&["--help"], Asked::Print("usage\n".to_owned())),
            (&["-h"], Asked::Print("usage\n".to_owned())),
            (&["--version"], Asked::Print("it 1.2\n".to_owned())),
            (&["-V"], Asked::Print("it 1.2\n".to_owned())),
            (&["--help", "--version"], Asked::Refuse("--help --version".to_owned())),
            (&[""], Asked::Refuse(String::new())),
        ];
        for (arguments, want) in cases {
            let asked = program.asked(arguments.iter().map(|text| (*text).to_owned()));
            assert_eq!(asked, want, "{arguments:?}");
        }
    }
}
