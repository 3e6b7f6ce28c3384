//! `mode=http` beside nginx: both forward to the same process, which fwatchdog has started. What counts is the CPU
//! time of the one that forwards.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use bench::load;
use bench::proxy::{Proxy, upstream_command};
use bench::table;
use testkit::engine::free_port;
use testkit::{Bin, Running, eventually};

use crate::options::Options;
use crate::rounds;
use crate::starts::python;
use crate::targets::Targets;

/// How long the process may take until it listens.
const START_TIMEOUT: Duration = Duration::from_secs(10);

const OPEN_FILES: u64 = 4096;

/// One that forwards: its processes, and what to request.
type Subject = (Vec<u32>, String);

/// The tables, printed and judged.
pub(crate) fn measure(options: &Options, targets: &mut Targets) {
    let has_nginx = is_there("nginx");
    if !has_nginx || !is_there("wrk") {
        println!("\nhttp: nginx and wrk are needed: not measured");
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

fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    command.status().is_ok()
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
        let nginx = Proxy::start("nginx", upstream);
        // Its own processes only: the one behind it is a child of fwatchdog's and nobody's overhead.
        let subjects: [(String, Subject); 2] = [
            ("http".to_owned(), (vec![running.pid()], running.url("/"))),
            ("nginx".to_owned(), (load::tree(nginx.process()), nginx.url.clone())),
        ];
        let span = Duration::from_secs(options.span.as_secs().max(1)); // wrk's least
        rows.extend(rounds(options, *clients, &subjects, |(pids, url)| load::run(pids, url, *clients, span)));
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
