//! The gateway: one address for all functions of a Docker Swarm, or of this machine.
#![forbid(unsafe_code)]

mod access;
mod access_log;
mod alexa;
mod app;
mod authority;
mod balance;
mod base64;
mod call;
mod caller;
mod config;
mod control;
mod digest;
mod edge;
mod failure;
mod floor;
mod functions;
mod functions_file;
mod kind;
mod labels;
mod listen;
mod load;
mod metrics;
mod name;
mod network;
mod provider;
mod proxies;
mod route;
mod scaler;
mod secrets;

use std::process::ExitCode;

use kit::arguments::{EXIT_CONFIGURATION, EXIT_FAILURE, Program};
use kit::settings::Environment;

use config::Config;

const PROGRAM: Program = Program { name: "gateway", version: env!("CARGO_PKG_VERSION"), help: Config::help };

fn main() -> ExitCode {
    PROGRAM.run(serve, health_check)
}

fn serve() -> ExitCode {
    let config = match Config::read(&Environment) {
        Ok(config) => config,
        Err(refused) => return PROGRAM.fail(EXIT_CONFIGURATION, refused),
    };
    match app::run(&config) {
        Ok(code) => code,
        Err(error @ app::Error::Configuration(_)) => PROGRAM.fail(EXIT_CONFIGURATION, error),
        Err(error) => PROGRAM.fail(EXIT_FAILURE, error),
    }
}

/// Asks the gateway that runs on this host, at its first address.
fn health_check() -> ExitCode {
    let config = match Config::read(&Environment) {
        Ok(config) => config,
        Err(refused) => return PROGRAM.fail(EXIT_CONFIGURATION, refused),
    };
    let place = config.first_place();
    let address = place.reached_at().map_err(|error| format!("{place}: {error}"));
    match address.and_then(|address| http1::client::health_check(address, "/healthz")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => PROGRAM.fail(EXIT_FAILURE, format_args!("not healthy: {error}")),
    }
}
