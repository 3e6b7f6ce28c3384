//! Proxies side by side: `proxies [--seconds N] [--rounds N] NAME...` with the names tiny_http, gateway, nginx
//! and haproxy. Each is loaded in turn, round after round, so that what the machine does meanwhile meets all
//! alike. Printed are medians with the spread: µs of CPU per request, requests a second, resident memory.
#![forbid(unsafe_code)]

use std::time::Duration;

use bench::load;
use bench::proxy::{self, Proxy};
use bench::run::Run;
use bench::spread::Spread;

const CLIENTS: [usize; 3] = [1, 32, 256];

struct Options {
    span: Duration,
    rounds: usize,
    names: Vec<String>,
}

fn main() {
    let options = options();
    let (addr, _upstream) = proxy::upstream();
    println!("| proxy | clients | µs CPU/request | requests/s | RSS | failures |\n|---|---|---|---|---|---|");
    for clients in CLIENTS {
        // New processes for each number of clients: memory that one run asked for is not the next one's.
        let proxies: Vec<Proxy> = options.names.iter().map(|name| Proxy::start(name, addr)).collect();
        let mut runs: Vec<Vec<Run>> = proxies.iter().map(|_| Vec::new()).collect();
        for _ in 0..options.rounds {
            for (proxy, runs) in proxies.iter().zip(&mut runs) {
                runs.push(load::run(&load::tree(proxy.process()), &proxy.url, clients, options.span));
            }
        }
        for (proxy, runs) in proxies.iter().zip(&runs) {
            println!("{}", row(&proxy.name, clients, runs));
        }
    }
}

fn options() -> Options {
    let mut options = Options { span: Duration::from_secs(3), rounds: 5, names: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse().ok());
        match &*arg {
            "--seconds" => options.span = Duration::from_secs(number().expect("--seconds takes a number")),
            "--rounds" => options.rounds = number().expect("--rounds takes a number") as usize,
            _ => options.names.push(arg),
        }
    }
    assert!(
        options.rounds > 0 && !options.names.is_empty(),
        "usage: proxies [--seconds N] [--rounds N] NAME..."
    );
    options
}

fn row(name: &str, clients: usize, runs: &[Run]) -> String {
    let cpu = Spread::of(runs.iter().map(|run| run.cpu_us));
    let rate = Spread::of(runs.iter().map(|run| run.rate));
    let rss = runs.iter().map(|run| run.rss).max().unwrap_or(0) as f64 / (1024.0 * 1024.0);
    let failures: u64 = runs.iter().map(|run| run.failures).sum();
    format!("| {name} | {clients} | {cpu} | {rate} | {rss:.1} MiB | {failures} |")
}
