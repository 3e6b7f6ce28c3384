//! fwatchdog turns any process into an HTTP function: the body of a request to STDIN, STDOUT to the body
//! of the answer, one process for each request.
#![forbid(unsafe_code)]

mod app;
mod call;
mod cgi_env;
mod config;
mod function;
mod lines;
mod lock_file;
mod metrics;
mod processes;
mod relay;
mod tree;
mod words;

use std::process::ExitCode;

use kit::settings::{self, Environment};

use config::Config;

const USAGE: &str = "usage: fwatchdog [--help | --version | --healthcheck]

Serves HTTP and runs the command in `fprocess` for each request: body to STDIN, STDOUT to body.
--healthcheck asks the one that runs on `port` and exits 0 when it is healthy, else 1.";

/// Exit codes: failure at run time, and bad configuration.
const EXIT_FAILURE: u8 = 1;
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().skip(1).map(|text| text.to_string_lossy().into_owned()).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve(),
        ["--help" | "-h"] => {
            println!("{}", settings::help(USAGE, config::TABLE).trim_end());
            ExitCode::SUCCESS
        }
        ["--version" | "-V"] => {
            println!("fwatchdog {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--healthcheck"] => health_check(),
        _ => fail(EXIT_CONFIG, &format!("unknown arguments `{}`, see --help", arguments.join(" "))),
    }
}

fn serve() -> ExitCode {
    let config = match Config::read(&Environment, std::process::id()) {
        Ok(config) => config,
        Err(refused) => return fail(EXIT_CONFIG, &refused.to_string()),
    };
    match app::run(config) {
        Ok(code) => code,
        Err(error) => fail(EXIT_FAILURE, &error.to_string()),
    }
}

fn health_check() -> ExitCode {
    let port = match config::port(&Environment) {
        Ok(port) => port,
        Err(refused) => return fail(EXIT_CONFIG, &refused.to_string()),
    };
    match http1::client::health_check(port, "/_/health") {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => fail(EXIT_FAILURE, &format!("not healthy: {text}")),
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    eprintln!("fwatchdog: {text}");
    ExitCode::from(code)
}
