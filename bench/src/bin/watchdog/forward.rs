//! `mode=http` beside nginx: both forward to the same process, which fwatchdog has started. Only the CPU time of the
//! forwarding processes counts.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bench::cost::tree;
use bench::load::{self, Target};
use bench::proxy::{Proxy, Setup, is_installed, upstream_command};
use bench::run::Run;
use bench::table;
use testkit::engine::free_port;
use testkit::{Bin, Running, eventually};

use crate::options::Options;
use crate::starts::python;
use crate::targets::Targets;

/// How long the process may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);

const OPEN_FILES: u64 = 4096;

/// What the processes behind them answer.
const ANSWER_BYTES: u64 = 12;

/// A forwarder: its processes, and the request to it.
type Subject = (Vec<u32>, Target);

/// The tables, printed and judged.
pub(crate) fn measure(options: &Options, targets: &mut Targets) {
    if !is_installed("nginx") {
        println!("\nhttp: nginx is not installed: not measured");
        return;
    }
    backend(options, "nginx", upstream_command, targets);
    match python() {
        None => println!("\nhttp: python is not installed: not measured behind it"),
        Some((path, version)) => {
            let server = format!("'{path}' '{}/programs/server.py'", env!("CARGO_MANIFEST_DIR"));
            backend(options, &version, |_, port| format!("{server} {port}"), targets);
        }
    }
}

/// One table: the same process behind both.
fn backend(options: &Options, name: &str, command: impl Fn(&Bin, u16) -> String, targets: &mut Targets) {
    let mut rows = Vec::new();
    for clients in &options.clients {
        let port = free_port();
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let bin = Bin::fwatchdog().nofile(OPEN_FILES).env("mode", "http");
        let line = command(&bin, port);
        let bin = bin.env("fprocess", line).env("upstream_url", format!("http://{upstream}"));
        let running = bin.start();
        wait_until_healthy(&running);
        let nginx = Proxy::start("nginx", Setup::for_load(upstream, *clients));
        let to = |addr| Target { addr, path: "/".to_owned(), length: ANSWER_BYTES };
        // Without the function, which is a child of fwatchdog.
        let subjects: [(String, Subject); 2] = [
            ("http".to_owned(), (vec![running.pid()], to(running.addr()))),
            ("nginx".to_owned(), (tree(nginx.process()), to(nginx.addr))),
        ];
        let common = &options.common;
        let run = |name: &str, (pids, target): &Subject| {
            load::run(pids, target, *clients, common.span).unwrap_or_else(|error| {
                eprintln!("http, {name}: {error}");
                Run::failed()
            })
        };
        rows.extend(table::rounds(common.rounds, *clients, &subjects, run));
    }
    println!("\n## mode=http and nginx before {name}\n\n{}", table::markdown(&rows, "nginx"));
    targets.http(name, &rows);
}

fn wait_until_healthy(running: &Running) {
    eventually(START_TIMEOUT, || match running.get("/_/health").status {
        200 => Ok(()),
        status => Err(format!("health is {status}\n{}", running.report())),
    });
}
