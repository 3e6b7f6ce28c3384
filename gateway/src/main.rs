//! The program: configuration, the run, the exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use kit::arguments::{EXIT_CONFIGURATION, EXIT_FAILURE, Program};
use kit::settings::Environment;

use gateway::Config;

const PROGRAM: Program = Program { name: "gateway", version: env!("CARGO_PKG_VERSION"), help: Config::help };

fn main() -> ExitCode {
    PROGRAM.run(serve, health_check)
}

fn serve() -> ExitCode {
    let config = match Config::read(&Environment) {
        Ok(config) => config,
        Err(refused) => return PROGRAM.fail(EXIT_CONFIGURATION, refused),
    };
    match gateway::run(&config) {
        Ok(code) => code,
        Err(error @ gateway::Error::Configuration(_)) => PROGRAM.fail(EXIT_CONFIGURATION, error),
        Err(error) => PROGRAM.fail(EXIT_FAILURE, error),
    }
}

/// Asks the gateway that runs on this host, at its first address.
fn health_check() -> ExitCode {
    let config = match Config::read(&Environment) {
        Ok(config) => config,
        Err(refused) => return PROGRAM.fail(EXIT_CONFIGURATION, refused),
    };
    let checked =
        config.health_check_address().and_then(|address| http1::client::health_check(address, "/healthz"));
    match checked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => PROGRAM.fail(EXIT_FAILURE, format_args!("not healthy: {error}")),
    }
}
