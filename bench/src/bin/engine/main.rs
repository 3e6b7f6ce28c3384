//! The cost of knowing a Swarm: a gateway before a scripted engine with many services, of which nothing changes; then the
//! time from a change to a call that works. `make bench-engine` runs it on `dist/`.
//!
//! The engine is this program, so that only the gateway's own CPU counts. Its answers are as long as Engine 20.10's.
#![forbid(unsafe_code)]

mod documents;
mod scripted;

use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use bench::options::{self, Common};
use bench::spread::Spread;
use scripted::Engine;
use testkit::http::Client;
use testkit::{Bin, Running};

const USAGE: &str = "usage: engine [--seconds S] [--sizes SERVICESxTASKS,…] [--rounds N] [--before GATEWAY]";

/// The whole look comes every half minute, so less than that shows a part of the cost.
const SPAN: Duration = Duration::from_secs(30);

const SIZES: [&str; 4] = ["10x2", "200x3", "1000x3", "5000x3"];

/// What a gateway is given to come to rest after its start: the looks of the first half minute do not pause.
const REST: Duration = Duration::from_secs(35);

/// How long a new task takes to run.
const START: Duration = Duration::from_millis(300);

/// Between two calls of a new function.
const PAUSE: Duration = Duration::from_millis(10);

/// The longest that a function is called until it is answered.
const LIMIT: Duration = Duration::from_secs(60);

/// What the command line asks for.
struct Options {
    common: Common,
    sizes: Vec<String>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            common: Common { rounds: 5, span: SPAN, subjects: Vec::new(), before: None },
            sizes: SIZES.map(str::to_owned).into(),
        };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--sizes" => options.sizes = options::list(&arg, &mut args)?,
                _ if options.common.take(&arg, &mut args)? => {}
                _ => return Err(format!("unknown option {arg}")),
            }
        }
        options.common.check(&[])?;
        Ok(options)
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    println!(
        "| services x tasks | gateway | ms of CPU a second | RSS MiB | at most | KiB read a second | requests a second \
         | first call ms | change to call ms |\n|---|---|---|---|---|---|---|---|---|"
    );
    for size in &options.sizes {
        let Some((services, tasks)) = sizes(size) else {
            eprintln!("--sizes: cannot read `{size}`\n{USAGE}");
            return ExitCode::from(2);
        };
        for (name, bin) in subjects(&options.common) {
            let engine = match Engine::start(services, tasks) {
                Ok(engine) => engine,
                Err(error) => {
                    eprintln!("no engine: {error}");
                    return ExitCode::FAILURE;
                }
            };
            let bin = bin.env("provider", "swarm").env("functions_network", "functions");
            let bin = bin.env("DOCKER_HOST", format!("tcp://{}", engine.addr)).nofile(4096);
            let gateway = bin.start();
            let ready = call(&gateway, &format!("function-{:05}", services - 1));
            thread::sleep(REST);
            let idle = idle(&gateway, &engine, options.common.span);
            let changes = (0..options.common.rounds).map(|round| change(&gateway, &engine, round));
            println!(
                "| {size} | {name} | {idle} | {:.0} | {:.0} |",
                Spread::of([ready]),
                Spread::of(changes)
            );
        }
    }
    ExitCode::SUCCESS
}

fn sizes(text: &str) -> Option<(usize, usize)> {
    let (services, tasks) = text.split_once('x')?;
    let (services, tasks) = (services.parse().ok()?, tasks.parse().ok()?);
    (services > 0).then_some((services, tasks))
}

fn subjects(options: &Common) -> Vec<(&'static str, Bin)> {
    let mut subjects = vec![("now", Bin::gateway())];
    if let Some(path) = &options.before {
        subjects.insert(0, ("before", Bin::at(path).env("port", "0")));
    }
    subjects
}

/// What a gateway costs in this span, as cells of a table.
fn idle(gateway: &Running, engine: &Engine, span: Duration) -> String {
    let counts = || (engine.counts.requests.load(Relaxed), engine.counts.bytes.load(Relaxed));
    let (began, cpu, before) = (Instant::now(), gateway.cpu_time(), counts());
    thread::sleep(span);
    let (cpu, after) = (gateway.cpu_time() - cpu, counts());
    let span = began.elapsed().as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    format!(
        "{:.1} | {:.1} | {:.1} | {:.0} | {:.1}",
        cpu.as_secs_f64() * 1e3 / span,
        mib(gateway.rss_bytes()),
        mib(gateway.peak_rss_bytes()),
        (after.1 - before.1) as f64 / 1024.0 / span,
        (after.0 - before.0) as f64 / span,
    )
}

/// The time from a new service, whose task needs a moment to run and is on a node that tells nothing, to a call of it that
/// is answered 200; without that moment.
fn change(gateway: &Running, engine: &Engine, round: usize) -> f64 {
    let name = format!("new-{round}");
    let id = engine.add(&name, 1);
    engine.tell("create", id, &name);
    thread::sleep(START);
    engine.add_task(id);
    call(gateway, &name)
}

/// Calls a function until it is answered 200; how many milliseconds that took, NaN when it is not within the limit.
fn call(gateway: &Running, name: &str) -> f64 {
    let began = Instant::now();
    let mut client = Client::new(gateway.addr());
    while began.elapsed() < LIMIT {
        let reply = client.request().path(format!("/function/{name}")).timeout(LIMIT).send();
        if reply.is_ok_and(|reply| reply.status == 200) {
            return began.elapsed().as_secs_f64() * 1e3;
        }
        thread::sleep(PAUSE);
    }
    f64::NAN
}
