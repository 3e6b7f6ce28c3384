//! Decision 0001, shown: what a hostile client and a full file table do to a server on tiny_http, and to the
//! gateway. `tiny_http_faults [NAME...]`, without names both. Prints what happened; judges nothing.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use bench::backend::Backend;
use bench::proxy;
use testkit::floods::try_connections;
use testkit::{Bin, Running, http};

const WAIT: Duration = Duration::from_secs(3);
const OPEN_FILES: u64 = 40;
const CONNECTIONS: usize = 60;

fn main() {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    if names.is_empty() {
        names = vec!["tiny_http".to_owned(), "gateway".to_owned()];
    }
    let backend = Backend::start();
    let upstream = backend.addr();
    for name in names {
        let (bin, good, refused): (fn(SocketAddr) -> Bin, _, _) = match &*name {
            "tiny_http" => (proxy::tiny_http, "/12", "/refused"),
            "gateway" => (proxy::gateway, "/function/hello/12", "/nothing-here"),
            other => panic!("expected tiny_http or gateway, got `{other}`"),
        };
        let length = declared_length(&bin(upstream).start(), refused, good);
        println!("{name}: a Content-Length of 10^15, answered without reading the body: {length}");
        let files = full_file_table(&bin(upstream).nofile(OPEN_FILES).start(), good);
        println!("{name}: {CONNECTIONS} connections where {OPEN_FILES} files may be open: {files}");
    }
}

fn declared_length(server: &Running, refused: &str, good: &str) -> String {
    let head = format!("POST {refused} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000\r\n\r\nhello");
    let answer = http::raw(server.addr(), head.as_bytes(), WAIT);
    let first = String::from_utf8_lossy(&answer).lines().next().unwrap_or("no answer").to_owned();
    format!("{first}; {}", afterwards(server, good))
}

fn full_file_table(server: &Running, good: &str) -> String {
    let connections = try_connections(server.addr(), CONNECTIONS);
    std::thread::sleep(WAIT); // what the server makes of it shows in its log, in no common way
    drop(connections);
    afterwards(server, good)
}

/// Whether the process lives, whether it answers the next good request, and the end of its log.
fn afterwards(server: &Running, good: &str) -> String {
    let next = match server.request().path(good).timeout(WAIT).send() {
        Ok(reply) => format!("the next request is answered with {}", reply.status),
        Err(error) => format!("the next request fails ({error})"),
    };
    std::thread::sleep(Duration::from_millis(200)); // a process that aborts takes a moment to be gone
    let state = server.try_status().map_or("it lives".to_owned(), |status| format!("it ended: {status}"));
    let log = server.log();
    format!("{next}; {state}; last line: {}", log.lines().last().unwrap_or_default())
}
