//! Instructions in user space for one kept-alive GET: the gateway beside nginx and HAProxy, and fwatchdog in the mode
//! `fork`. The binaries are in FOLDER, `dist` by default.
//! `--profile` prints the functions that take most, where the binaries have their symbols. Exit code 1 when a budget is broken.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use bench::backend::Backend;
use bench::instructions::{BUDGETS, Function, Plan, SUBJECTS};
use bench::interrupt;
use bench::options::{known, list, number};
use bench::proxy::is_installed;
use bench::spread::Spread;
use testkit::workspace;

const USAGE: &str =
    "usage: instructions [--pairs N] [--requests N] [--subjects NAME,NAME] [--profile FUNCTIONS] [FOLDER]";

struct Options {
    /// How often each subject is run with few and with many requests.
    pairs: usize,
    requests: usize,
    subjects: Vec<String>,
    binaries: PathBuf,
    /// How many functions to print.
    profile: usize,
}

impl Options {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let subjects = SUBJECTS.map(str::to_owned).to_vec();
        let binaries = workspace().join("dist");
        let mut options = Options { pairs: 3, requests: 1000, subjects, binaries, profile: 0 };
        while let Some(arg) = args.next() {
            match &*arg {
                "--pairs" => options.pairs = number(&arg, &mut args)?,
                "--requests" => options.requests = number(&arg, &mut args)?,
                "--subjects" => options.subjects = list(&arg, &mut args)?,
                "--profile" => options.profile = number(&arg, &mut args)?,
                folder if !folder.starts_with('-') => options.binaries = workspace().join(folder),
                _ => return Err(format!("unknown: {arg}")),
            }
        }
        known("subject", &options.subjects, &SUBJECTS)?;
        if options.pairs == 0 || options.requests == 0 {
            return Err("pairs and requests must be more than 0".to_owned());
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let options = Options::read(std::env::args().skip(1)).unwrap_or_else(|wrong| {
        eprintln!("{wrong}\n{USAGE}");
        std::process::exit(2);
    });
    if !is_installed("valgrind") {
        eprintln!("valgrind is not installed");
        return ExitCode::FAILURE;
    }
    interrupt::watch();
    println!("Instructions for one request, {} pairs of runs, median (range)\n", options.pairs);
    println!("| subject | instructions | target | limit of the test |\n|---|---|---|---|");
    let backend = Backend::start();
    let mut is_within = true;
    let mut profiles = Vec::new();
    for subject in &options.subjects {
        let (binaries, upstream) = (&options.binaries, backend.addr());
        let plan = Plan { subject, binaries, upstream, requests: options.requests };
        match measure(&plan, &options, &mut profiles) {
            Ok(is_good) => is_within &= is_good,
            Err(error) => {
                eprintln!("{subject}: {error}");
                is_within = false;
            }
        }
        if interrupt::seen() {
            return ExitCode::from(interrupt::EXIT_CODE);
        }
    }
    for (subject, functions) in profiles {
        println!("\n{subject}:");
        for Function { name, each } in functions {
            println!("{each:9.1} {name}");
        }
    }
    if is_within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the row of one subject, and keeps its functions. False when it is over its limit.
fn measure(
    plan: &Plan<'_>,
    options: &Options,
    profiles: &mut Vec<(String, Vec<Function>)>,
) -> Result<bool, bench::instructions::Error> {
    if matches!(plan.subject, "nginx" | "haproxy") && !is_installed(plan.subject) {
        println!("| {} | not installed | | |", plan.subject);
        return Ok(true);
    }
    let mut each = Vec::new();
    for pair in 1..=options.pairs {
        let mut counted = plan.count(options.profile > 0 && pair == options.pairs)?;
        each.push(counted.each);
        if !counted.functions.is_empty() {
            counted.functions.truncate(options.profile);
            profiles.push((plan.subject.to_owned(), counted.functions));
        }
    }
    let spread = Spread::of(each);
    let Some(budget) = BUDGETS.iter().find(|budget| budget.subject == plan.subject) else {
        println!("| {} | {spread} | | |", plan.subject);
        return Ok(true);
    };
    let is_within = spread.median <= budget.limit as f64;
    let verdict = if is_within { "" } else { " OVER" };
    println!("| {} | {spread} | {} | {}{verdict} |", plan.subject, budget.target, budget.limit);
    Ok(is_within)
}
