//! The servers that are compared, each set up to do the same: one hop to an upstream that answers 12 bytes,
//! connections kept on both sides.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::engine::free_port;
use testkit::{Bin, Process, Running, eventually};

/// How long a server may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// Open files for each server: 256 clients and as many connections upstream, with room.
const OPEN_FILES: u64 = 4096;

/// An nginx that answers by itself.
const HELLO: &str = r#"server { listen 127.0.0.1:PORT; location / { return 200 "hello world\n"; } }"#;

/// A server under test, ended when dropped.
pub struct Proxy {
    /// As it was asked for.
    pub name: String,
    /// What to request.
    pub url: String,
    server: Server,
}

enum Server {
    Spoken(Running),
    Silent(Process),
}

impl Proxy {
    /// The proxy `name` in front of `upstream`: `tiny_http`, `gateway`, `nginx` or `haproxy`.
    ///
    /// # Panics
    /// When it cannot be started, or `name` is none of these.
    #[must_use]
    pub fn start(name: &str, upstream: SocketAddr) -> Proxy {
        let (url, server) = match name {
            "tiny_http" => spoken(tiny_http(upstream), "/"),
            "gateway" => spoken(gateway(upstream), "/function/hello"),
            "nginx" => silent(|port| nginx(port, &nginx_proxy(upstream))),
            "haproxy" => silent(|port| haproxy(port, upstream)),
            other => panic!("expected tiny_http, gateway, nginx or haproxy, got `{other}`"),
        };
        Proxy { name: name.to_owned(), url, server }
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Process {
        match &self.server {
            Server::Spoken(running) => running,
            Server::Silent(process) => process,
        }
    }
}

/// An nginx that answers every request with 12 bytes.
///
/// # Panics
/// When it cannot be started.
#[must_use]
pub fn upstream() -> (SocketAddr, Process) {
    let port = free_port();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let process = nginx(port, HELLO).spawn();
    wait_until_open(addr, &process);
    (addr, process)
}

/// The command line of such an nginx for `port`, with its files in the directory of `starter`.
#[must_use]
pub fn upstream_command(starter: &Bin, port: u16) -> String {
    let config = starter.file("upstream.conf", nginx_config(starter.dir(), port, HELLO));
    format!("nginx -e stderr -c '{}'", config.display())
}

/// The path of a program of this package, next to the running one.
///
/// # Panics
/// When the running program has no path.
#[must_use]
pub fn sibling(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap_or_else(|error| panic!("path of this program: {error}"));
    path.with_file_name(name)
}

/// The tiny_http prototype, about to be started.
#[must_use]
pub fn tiny_http(upstream: SocketAddr) -> Bin {
    Bin::at(sibling("tiny_http_proxy")).arg(upstream.to_string())
}

/// The gateway with one function, `hello`, that is `upstream`.
#[must_use]
pub fn gateway(upstream: SocketAddr) -> Bin {
    let bin = Bin::gateway().env("provider", "local");
    let functions = format!(r#"{{"functions": [{{"name": "hello", "address": "{upstream}"}}]}}"#);
    let file = bin.file("functions.json", functions);
    bin.env("functions_file", file)
}

fn spoken(bin: Bin, path: &str) -> (String, Server) {
    let running = bin.nofile(OPEN_FILES).start();
    (running.url(path), Server::Spoken(running))
}

/// A server that does not say when it listens.
fn silent(on_port: impl Fn(u16) -> Bin) -> (String, Server) {
    let port = free_port();
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let process = on_port(port).nofile(OPEN_FILES).spawn();
    wait_until_open(addr, &process);
    (format!("http://{addr}/"), Server::Silent(process))
}

/// nginx with two workers, and `server` among its `http` directives, where `PORT` stands for `port`.
fn nginx(port: u16, server: &str) -> Bin {
    let bin = Bin::at("nginx");
    let config = nginx_config(bin.dir(), port, server);
    let path = bin.file("nginx.conf", config);
    bin.arg("-e").arg("stderr").arg("-c").arg(path)
}

fn nginx_config(dir: &Path, port: u16, server: &str) -> String {
    let dir = dir.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String =
        temporary.iter().map(|kind| format!("{kind}_temp_path {dir}/{kind};\n")).collect();
    let server = server.replace("PORT", &port.to_string());
    format!(
        "daemon off; worker_processes 2; pid {dir}/nginx.pid; error_log stderr;\n\
        events {{ worker_connections 2048; }}\n\
        http {{ access_log off; keepalive_requests 1000000000;\n{temporary}{server} }}\n"
    )
}

fn nginx_proxy(upstream: SocketAddr) -> String {
    format!(
        "upstream hello {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}\n\
        server {{ listen 127.0.0.1:PORT; location / {{\n\
        proxy_pass http://hello; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}"
    )
}

/// HAProxy with two threads.
fn haproxy(port: u16, upstream: SocketAddr) -> Bin {
    let bin = Bin::at("haproxy");
    let config = format!(
        "global\n  nbthread 2\n  maxconn 1000\n\
        defaults\n  mode http\n  http-reuse always\n  timeout connect 2s\n  timeout client 60s\n  \
        timeout server 60s\n\
        frontend front\n  bind 127.0.0.1:{port}\n  default_backend back\n\
        backend back\n  server hello {upstream}\n"
    );
    let path = bin.file("haproxy.cfg", config);
    bin.arg("-db").arg("-f").arg(path)
}

fn wait_until_open(addr: SocketAddr, process: &Process) {
    eventually(START_TIMEOUT, || match (TcpStream::connect(addr), process.try_status()) {
        (Ok(_), None) => Ok(()),
        (refused, status) => Err(format!("{addr}: {refused:?}, {status:?}\n{}", process.report())),
    });
}
