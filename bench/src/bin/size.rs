//! The shipped binaries against their budgets: size, memory, start-up. `make size` runs it on `dist/`; with
//! `--long` it also measures the growth over 100,000 requests. Exit code 1 when a budget is broken.
#![forbid(unsafe_code)]

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use testkit::floods::idle_connections;
use testkit::http::Client;
use testkit::{Bin, Running};

const KIB: u64 = 1024;
const IDLE_CLIENTS: usize = 1000;
const STARTS: usize = 20;
const FUNCTIONS: usize = 10;
/// Files that the measured process may open: the idle clients and what it needs itself.
const OPEN_FILES: u64 = 4096;
/// Requests before the first and before the last look at the memory.
const WARM_UP: usize = 1000;
const MANY: usize = 100_000;
const CLIENTS: usize = 8;
/// A process comes to rest for this long before its memory is read.
const REST: Duration = Duration::from_millis(300);

/// One of the two binaries: how it is started, what it is asked, what it may cost.
struct Subject {
    name: &'static str,
    bin: fn() -> Bin,
    health: &'static str,
    work: &'static str,
    budget: Budget,
}

struct Budget {
    binary: u64,
    idle: u64,
    clients: u64,
    growth: u64,
    start: Duration,
}

const SUBJECTS: [Subject; 2] = [
    Subject {
        name: "fwatchdog",
        bin: fwatchdog,
        health: "/_/health",
        work: "/",
        budget: Budget {
            binary: 512 * KIB,
            idle: 768 * KIB,
            clients: 2048 * KIB,
            growth: 256 * KIB,
            start: Duration::from_millis(5),
        },
    },
    Subject {
        name: "gateway",
        bin: gateway,
        health: "/healthz",
        work: "/function/f0",
        budget: Budget {
            binary: 1280 * KIB,
            idle: 2048 * KIB,
            clients: 4096 * KIB,
            growth: 512 * KIB,
            start: Duration::from_millis(20),
        },
    },
];

fn main() -> ExitCode {
    let is_long = std::env::args().any(|arg| arg == "--long");
    let mut is_within = true;
    for subject in &SUBJECTS {
        for row in rows(subject, is_long) {
            println!("{row}");
            is_within &= row.measured <= row.budget;
        }
    }
    if is_within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One figure and what it may be at most, both in bytes or both in microseconds.
struct Row {
    subject: &'static str,
    what: &'static str,
    measured: u64,
    budget: u64,
    is_time: bool,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: u64| match self.is_time {
            true => format!("{:.1} ms", value as f64 / 1000.0),
            false => format!("{} KiB", value.div_ceil(KIB)),
        };
        let verdict = if self.measured <= self.budget { "ok" } else { "OVER" };
        let (measured, budget) = (shown(self.measured), shown(self.budget));
        write!(f, "{:<10} {:<32} {measured:>10} of {budget:>9}  {verdict}", self.subject, self.what)
    }
}

fn rows(subject: &Subject, is_long: bool) -> Vec<Row> {
    let bytes =
        |what, measured, budget| Row { subject: subject.name, what, measured, budget, is_time: false };
    let budget = &subject.budget;
    let start = median((0..STARTS).map(|_| (subject.bin)().start().started_in()).collect());
    let mut rows = vec![
        bytes("binary", binary_bytes(subject.name), budget.binary),
        Row {
            subject: subject.name,
            what: "start to `listening on`",
            measured: start.as_micros() as u64,
            budget: budget.start.as_micros() as u64,
            is_time: true,
        },
        bytes("RSS idle", rested_rss(&(subject.bin)().start()), budget.idle),
        bytes("RSS, 1,000 idle clients", rss_with_clients(subject), budget.clients),
    ];
    if is_long {
        rows.push(bytes("RSS growth, 1,000 to 100,000 req", growth(subject), budget.growth));
    }
    rows
}

fn fwatchdog() -> Bin {
    Bin::fwatchdog().nofile(OPEN_FILES).env("fprocess", catservice())
}

fn gateway() -> Bin {
    let row = |number| format!(r#"{{"name": "f{number}", "fprocess": {:?}}}"#, catservice());
    let rows: Vec<String> = (0..FUNCTIONS).map(row).collect();
    let bin = Bin::gateway().nofile(OPEN_FILES).env("provider", "local");
    let file = bin.file("functions.json", format!(r#"{{"functions": [{}]}}"#, rows.join(", ")));
    bin.env("functions_file", file)
}

/// The absolute path of a binary in `dist/`.
fn shipped(name: &str) -> String {
    format!("{}/../dist/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn catservice() -> String {
    shipped("catservice")
}

fn binary_bytes(name: &str) -> u64 {
    let path = shipped(name);
    fs::metadata(&path).unwrap_or_else(|error| panic!("{path}: {error}: run `make static`")).len()
}

fn rested_rss(running: &Running) -> u64 {
    thread::sleep(REST);
    running.rss_bytes()
}

fn rss_with_clients(subject: &Subject) -> u64 {
    let running = (subject.bin)().start();
    let _clients = idle_connections(running.addr(), IDLE_CLIENTS, subject.health);
    let rss = rested_rss(&running);
    assert!(running.fds() > IDLE_CLIENTS, "the clients are elsewhere: {} files open", running.fds());
    rss
}

fn growth(subject: &Subject) -> u64 {
    let running = (subject.bin)().start();
    requests(running.addr(), subject.work, WARM_UP);
    let before = rested_rss(&running);
    requests(running.addr(), subject.work, MANY - WARM_UP);
    rested_rss(&running).saturating_sub(before)
}

/// `count` requests over a few connections that are kept.
fn requests(addr: SocketAddr, path: &'static str, count: usize) {
    let share = move || {
        let mut client = Client::new(addr);
        for _ in 0..count / CLIENTS {
            let reply = client.request().method("POST").path(path).body(b"hello").send();
            let reply = reply.unwrap_or_else(|error| panic!("POST {path}: {error}"));
            assert_eq!(reply.status, 200, "POST {path}: {}", reply.text());
        }
    };
    let threads: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(share)).collect();
    for thread in threads {
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}

fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}
