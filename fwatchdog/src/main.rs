//! fwatchdog turns any process into an HTTP function: the body of a request to STDIN, STDOUT to the body
//! of the answer, one process for each request.
#![forbid(unsafe_code)]

mod app;
mod call;
mod cgi_env;
mod cgi_meta;
mod cgi_response;
mod config;
mod function;
mod lines;
mod lock_file;
mod metrics;
mod own_port;
mod processes;
mod proxy;
mod relay;
mod resident;
mod rest;
mod sorted;
mod spool;
mod started;
mod tree;
mod upstream;
mod warm;
mod words;

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use kit::arguments::{EXIT_CONFIGURATION, EXIT_FAILURE, Program};
use kit::settings::{self, Environment};

use config::Config;

const USAGE: &str = "usage: fwatchdog [--help | --version | --healthcheck]

Serves HTTP and runs the command in `fprocess` for each request: body to STDIN, STDOUT to body.
--healthcheck asks the one that runs on `port` and exits 0 when it is healthy, else 1.";

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
