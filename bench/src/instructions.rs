//! Instructions of a server in user space for one request, counted by Valgrind's callgrind. The server runs with some
//! requests on one kept connection, then with more; the difference is divided by the additional requests. Other load
//! on the machine hardly changes the count.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use testkit::http::Connection;
use testkit::{Bin, Process, Running, eventually, proc, sample, workspace};

use crate::interrupt;
use crate::proxy::{Proxy, Setup};

/// The servers to count.
pub const SUBJECTS: [&str; 4] = ["gateway", "nginx", "haproxy", "fwatchdog"];

/// Requests of the first run: everything has its memory by then.
const FIRST: usize = 500;

/// A server that is emulated takes some milliseconds for a request.
const TIMEOUT: Duration = Duration::from_secs(60);

const BODY_BYTES: usize = 12;

/// The file that callgrind writes into the directory of the server.
const OUTPUT: &str = "callgrind.out";

/// How many instructions a request may take.
pub struct Budget {
    /// Which server.
    pub subject: &'static str,
    /// Where the contract wants it.
    pub target: u64,
    /// What the test refuses: what is reached, with a little room for other compilers.
    pub limit: u64,
}

/// The budgets of the shipped binaries.
pub const BUDGETS: [Budget; 2] = [
    Budget { subject: "gateway", target: 12_000, limit: 19_000 },
    Budget { subject: "fwatchdog", target: 20_000, limit: 18_500 },
];

/// Why nothing was counted.
#[derive(Debug)]
pub enum Error {
    /// A request was not answered as it must be.
    Answer(String),
    /// The program was interrupted.
    Interrupted,
    /// Valgrind left nothing to read at this path, or nothing that is understood.
    Output(PathBuf, String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Answer(why) => write!(f, "wrong answer: {why}"),
            Error::Interrupted => f.write_str("interrupted"),
            Error::Output(path, why) => write!(f, "{}: {why}", path.display()),
        }
    }
}

/// A server to count, and its surroundings.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// One of [`SUBJECTS`].
    pub subject: &'a str,
    /// Where the gateway and fwatchdog are.
    pub binaries: &'a Path,
    /// The upstream of the gateway, nginx and HAProxy.
    pub upstream: SocketAddr,
    /// Requests that the second run has more than the first.
    pub requests: usize,
}

/// The instructions of one request, and of each function in it.
pub struct Counted {
    /// In all.
    pub each: f64,
    /// By function, most first; empty unless it was asked for.
    pub functions: Vec<Function>,
}

/// One function's part of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its file, name and binary, as callgrind has them.
    pub name: String,
    /// Its instructions, without those of functions that it calls.
    pub each: f64,
}

impl Plan<'_> {
    /// One pair of runs; `with_functions` also tells functions apart, for which the binary needs its symbols.
    ///
    /// # Errors
    /// When there is nothing to count.
    ///
    /// # Panics
    /// When the server cannot be started or ended.
    pub fn count(&self, with_functions: bool) -> Result<Counted, Error> {
        let few = self.run(FIRST, with_functions)?;
        let many = self.run(FIRST + self.requests, with_functions)?;
        let each = |few: u64, many: u64| (many as f64 - few as f64) / self.requests as f64;
        let before =
            |name: &str| few.functions.iter().find(|row| row.name == name).map_or(0, |row| row.count);
        let function =
            |row: &Row| Function { name: row.name.clone(), each: each(before(&row.name), row.count) };
        let mut functions: Vec<Function> = many.functions.iter().map(function).collect();
        functions.sort_by(|one, other| other.each.total_cmp(&one.each));
        Ok(Counted { each: each(few.all, many.all), functions })
    }

    fn run(&self, requests: usize, with_functions: bool) -> Result<Total, Error> {
        let server = self.start();
        let (addr, path) = server.target();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"
        );
        let answer = |why: String| Error::Answer(format!("{}: {why}", self.subject));
        let mut connection = Connection::open(addr).map_err(|error| answer(error.to_string()))?;
        for _ in 0..requests {
            if interrupt::seen() {
                return Err(Error::Interrupted);
            }
            connection.within(TIMEOUT).send(&request).map_err(|error| answer(error.to_string()))?;
            let reply = connection.reply("GET").map_err(|error| answer(error.to_string()))?;
            if reply.status != 200 || reply.body.len() != server.body_bytes() {
                return Err(answer(format!("{} with {} bytes", reply.status, reply.body.len())));
            }
        }
        drop(connection);
        end(server.process(), addr);
        Total::read(&server.process().dir().join(OUTPUT), with_functions)
    }

    fn start(&self) -> Server {
        // Children are not followed: what a function does is not the server's.
        let valgrind = ["valgrind", "--tool=callgrind", "--trace-children=no", "--vgdb=no"];
        let mut under = valgrind.map(str::to_owned).to_vec();
        let out = |dir: &Path| format!("--callgrind-out-file={}", dir.join(OUTPUT).display());
        if self.subject == "fwatchdog" {
            let bin =
                Bin::at(self.binaries.join("fwatchdog")).env("port", "0").env("fprocess", static_program());
            under.push(out(bin.dir()));
            return Server::Fwatchdog(Box::new(bin.under(&under).start()));
        }
        // The directory of a proxy is its working directory.
        under.push(out(Path::new("")));
        let gateway = self.binaries.join("gateway");
        let (before, upstream) = (Some(gateway.as_path()), self.upstream);
        let name = if self.subject == "gateway" { "before" } else { self.subject };
        Server::Proxy(Proxy::start(name, Setup { upstream, clients: 1, before, workers: 1, under: &under }))
    }
}

/// Ends a server in order, so that callgrind writes what it counted. In valgrind's emulation nginx sees the signal only
/// once its wait for connections ends.
fn end(process: &Process, addr: SocketAddr) {
    process.signal(proc::SIGTERM);
    eventually(TIMEOUT, || {
        let _ = TcpStream::connect(addr); // it may be gone
        process.try_status().ok_or_else(|| "still runs".to_owned())
    });
}

/// `catservice` as `make static` builds it, else as cargo does.
fn static_program() -> PathBuf {
    let built = workspace().join("dist/catservice");
    if built.is_file() { built } else { sample("catservice").into() }
}

enum Server {
    Proxy(Proxy),
    Fwatchdog(Box<Running>),
}

impl Server {
    fn process(&self) -> &Process {
        match self {
            Server::Proxy(proxy) => proxy.process(),
            Server::Fwatchdog(running) => running,
        }
    }

    /// Address and path of the request.
    fn target(&self) -> (SocketAddr, String) {
        match self {
            Server::Proxy(proxy) => {
                (proxy.addr, proxy.target(&format!("/{BODY_BYTES}"), BODY_BYTES as u64).path)
            }
            Server::Fwatchdog(running) => (running.addr(), "/".to_owned()),
        }
    }

    fn body_bytes(&self) -> usize {
        match self {
            Server::Proxy(_) => BODY_BYTES,
            Server::Fwatchdog(_) => 0, // the echo of a request without a body
        }
    }
}

/// The instructions of one run.
struct Total {
    all: u64,
    functions: Vec<Row>,
}

/// The instructions of one function in one run.
#[derive(Debug, PartialEq)]
struct Row {
    name: String,
    count: u64,
}

impl Total {
    fn read(path: &Path, with_functions: bool) -> Result<Total, Error> {
        let wrong = |why: String| Error::Output(path.to_owned(), why);
        let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let all =
            total(&String::from_utf8_lossy(&text)).ok_or_else(|| wrong("no line `totals:`".to_owned()))?;
        let mut functions = Vec::new();
        if with_functions {
            let mut annotate = Command::new("callgrind_annotate");
            annotate.args(["--threshold=100", "--auto=no"]).arg(path);
            let output = annotate.output().map_err(|error| wrong(format!("callgrind_annotate: {error}")))?;
            functions = rows(&String::from_utf8_lossy(&output.stdout));
        }
        Ok(Total { all, functions })
    }
}

/// The last of callgrind's lines: `totals: 12345`.
fn total(output: &str) -> Option<u64> {
    output.lines().rev().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok())
}

/// The functions of `callgrind_annotate`: `1,234 ( 5.6%)  file:function [binary]`. A function may have several lines.
fn rows(annotated: &str) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for line in annotated.lines() {
        let Some((count, rest)) = line.trim_start().split_once(" (") else { continue };
        let Some((_, name)) = rest.split_once("%)") else { continue };
        let (Ok(count), name) = (count.replace(',', "").parse::<u64>(), name.trim()) else { continue };
        match rows.iter_mut().find(|row| row.name == name) {
            Some(row) => row.count += count,
            None if name == "PROGRAM TOTALS" => {}
            None => rows.push(Row { name: name.to_owned(), count }),
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_callgrind_is_read() {
        assert_eq!(total("events: Ir\nfn=(1) a\n5 100\n\ntotals: 1234567\n"), Some(1_234_567));
        assert_eq!(total("events: Ir\n"), None);
        let annotated = "Profile data file 'x' (creator: callgrind-3.19.0)\n\
            --------------------------------------------------------------------------------\n\
            Ir                     \n\
            4,500 (100.0%)  PROGRAM TOTALS\n\n\
            Ir                   file:function\n\
            3,000 (66.67%)  src/a.rs:memcpy [/dist/gateway]\n\
            \x20 400 ( 8.89%)  ???:<a as b>::c [/dist/gateway]\n\
            1,100 (24.44%)  src/a.rs:memcpy [/dist/gateway]\n";
        let row = |name: &str, count| Row { name: name.to_owned(), count };
        let expected =
            [row("src/a.rs:memcpy [/dist/gateway]", 4100), row("???:<a as b>::c [/dist/gateway]", 400)];
        assert_eq!(rows(annotated), expected);
    }
}
