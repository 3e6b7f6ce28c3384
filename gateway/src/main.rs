//! The gateway: one address for all functions of a Docker Swarm, or of this machine.
#![forbid(unsafe_code)]

mod alexa;
mod app;
mod balance;
mod config;
mod edge;
mod functions;
mod functions_file;
mod labels;
mod metrics;
mod name;
mod provider;
mod route;

use std::process::ExitCode;

use kit::settings::Environment;

use config::Config;

/// Exit codes: failure at run time, and bad configuration.
const EXIT_FAILURE: u8 = 1;
const EXIT_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve(),
        ["--help" | "-h"] => {
            println!("{}", Config::help().trim_end());
            ExitCode::SUCCESS
        }
        ["--version" | "-V"] => {
            println!("gateway {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--healthcheck"] => health_check(),
        _ => fail(EXIT_CONFIGURATION, &format!("unknown arguments `{}`, see --help", arguments.join(" "))),
    }
}

fn serve() -> ExitCode {
    let config = match Config::read(&Environment) {
        Ok(config) => config,
        Err(refused) => return fail(EXIT_CONFIGURATION, &refused.to_string()),
    };
    match app::run(&config) {
        Ok(code) => code,
        Err(error @ app::Error::Configuration(_)) => fail(EXIT_CONFIGURATION, &error.to_string()),
        Err(error) => fail(EXIT_FAILURE, &error.to_string()),
    }
}

/// Asks the gateway that runs on `port` of this host.
fn health_check() -> ExitCode {
    let config = match Config::read(&Environment) {
        Ok(config) => config,
        Err(refused) => return fail(EXIT_CONFIGURATION, &refused.to_string()),
    };
    match http1::client::health_check(config.port, "/healthz") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(EXIT_FAILURE, &format!("not healthy: {error}")),
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    eprintln!("gateway: {text}");
    ExitCode::from(code)
}
