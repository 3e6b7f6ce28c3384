//! fwatchdog, the program: configuration, run, exit code.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use kit::arguments::{EXIT_CONFIGURATION, EXIT_FAILURE, Program};
use kit::settings::{self, Environment};

use fwatchdog::app;
use fwatchdog::config::{self, Config};

const USAGE: &str = "usage: fwatchdog [--help | --version | --healthcheck]

Serves HTTP, and runs the command in `fprocess` for each request: the body goes to STDIN, STDOUT is the answer.
--healthcheck asks the fwatchdog on `port`, and exits 0 when that is healthy, else 1.";

const PROGRAM: Program = Program { name: "fwatchdog", version: env!("CARGO_PKG_VERSION"), help };

fn main() -> ExitCode {
    PROGRAM.run(serve, health_check)
}

fn help() -> String {
    settings::help(USAGE, config::TABLE)
}

fn serve() -> ExitCode {
    let subject = config::subject(&Environment);
    let config = match Config::read(&Environment, std::process::id()) {
        Ok(config) => config,
        Err(refused) => {
            let subject = subject.map(|subject| subject + ": ").unwrap_or_default();
            return PROGRAM.fail(EXIT_CONFIGURATION, format_args!("{subject}{refused}"));
        }
    };
    if let Some(subject) = subject {
        kit::log::begin_with(subject);
    }
    match app::run(config) {
        Ok(code) => code,
        Err(error) => PROGRAM.fail(EXIT_FAILURE, error),
    }
}

fn health_check() -> ExitCode {
    let port = match config::port(&Environment) {
        Ok(port) => port,
        Err(refused) => return PROGRAM.fail(EXIT_CONFIGURATION, refused),
    };
    match http1::client::health_check(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "/_/health") {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => PROGRAM.fail(EXIT_FAILURE, format_args!("not healthy: {text}")),
    }
}
