//! The proxies to compare, all with the same task: one hop to an upstream, keep-alive on both sides, as many workers or
//! threads, no access log, a minute for a head. nginx and HAProxy are Debian's packages.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use testkit::engine::free_port;
use testkit::{Bin, Process, Running, eventually};

use crate::load::Target;

/// How long a server may take until it accepts connections.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Open files of each server: enough for the situation with the most clients.
const OPEN_FILES: u64 = 16 * 1024;

/// Workers or threads of each server, where their speed is compared.
pub const WORKERS: usize = 2;

/// nginx keeps at most so many connections upstream, for each worker.
const KEPT_UPSTREAM: usize = 512;

/// An nginx that answers by itself.
const HELLO: &str = r#"server { listen 127.0.0.1:PORT; location / { return 200 "hello world\n"; } }"#;

/// A server under test, ended when dropped.
pub struct Proxy {
    /// Where it listens.
    pub addr: SocketAddr,
    /// What goes before the path of a request.
    prefix: &'static str,
    server: Server,
}

enum Server {
    Gateway(Box<Running>),
    Rival(Process),
}

/// The surroundings of a proxy.
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// The upstream of the proxy.
    pub upstream: SocketAddr,
    /// The most clients. nginx and HAProxy take memory for as many connections as they may have.
    pub clients: usize,
    /// The older gateway.
    pub before: Option<&'a Path>,
    /// Workers of nginx, threads of HAProxy. One worker of nginx has no process above it.
    pub workers: usize,
    /// The command line of the program that runs the server; empty when nothing does.
    pub under: &'a [String],
}

impl Proxy {
    /// The proxy `name`: `gateway`, `before`, `nginx`, `nginx-unbuffered`, `haproxy` or `haproxy-no-delay`.
    ///
    /// # Panics
    /// When the proxy cannot be started, or `name` is unknown.
    #[must_use]
    pub fn start(name: &str, setup: Setup<'_>) -> Proxy {
        match name {
            "gateway" => gateway(Bin::gateway(), setup),
            "before" => {
                let path = setup.before.unwrap_or_else(|| panic!("no older gateway was named"));
                gateway(Bin::at(path).env("port", "0"), setup)
            }
            "nginx" => nginx_proxy(setup, ""),
            "nginx-unbuffered" => {
                nginx_proxy(setup, "proxy_buffering off; proxy_buffer_size 16k; proxy_buffers 8 16k;")
            }
            "haproxy" => haproxy(setup, ""),
            "haproxy-no-delay" => haproxy(setup, "  option http-no-delay\n"),
            other => panic!("there is no proxy `{other}`"),
        }
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Process {
        match &self.server {
            Server::Gateway(running) => running,
            Server::Rival(process) => process,
        }
    }

    /// The request to the proxy that asks its upstream for `path`.
    #[must_use]
    pub fn target(&self, path: &str, length: u64) -> Target {
        Target { addr: self.addr, path: format!("{}{path}", self.prefix), length }
    }
}

impl Setup<'_> {
    /// For a comparison of speed.
    #[must_use]
    pub fn for_load(upstream: SocketAddr, clients: usize) -> Setup<'static> {
        Setup { upstream, clients, before: None, workers: WORKERS, under: &[] }
    }

    /// Connections of one worker: all clients in the worst case, and those to the upstream.
    fn connections(&self) -> usize {
        self.clients + KEPT_UPSTREAM + 64
    }
}

/// Whether `program` can be started.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null());
    command.status().is_ok()
}

/// The command line of an nginx that answers every request with 12 bytes on `port`, with its files in the
/// directory of `starter`.
#[must_use]
pub fn upstream_command(starter: &Bin, port: u16) -> String {
    let config = starter.file(
        "upstream.conf",
        nginx_config(starter.dir(), port, &Nginx { workers: WORKERS, connections: 2048, server: HELLO }),
    );
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

/// The gateway with one function, `hello`: the upstream.
fn gateway(bin: Bin, setup: Setup<'_>) -> Proxy {
    let functions = format!(r#"{{"functions": [{{"name": "hello", "address": "{}"}}]}}"#, setup.upstream);
    let file = bin.file("functions.json", functions);
    let bin = bin.env("provider", "local").env("header_timeout", "60s").env("functions_file", file);
    let running = bin.nofile(OPEN_FILES).under(setup.under).start();
    Proxy { addr: running.addr(), prefix: "/function/hello", server: Server::Gateway(Box::new(running)) }
}

/// Starts nginx or HAProxy, which do not log when they listen. Their workers start after that.
fn rival(bin: Bin, port: u16, workers: usize, setup: Setup<'_>) -> Proxy {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let process = bin.nofile(OPEN_FILES).under(setup.under).spawn();
    eventually(START_TIMEOUT, || {
        assert!(process.try_status().is_none(), "it ended"); // its report is printed with this
        TcpStream::connect(addr).map_err(|error| format!("{addr}: {error}"))?;
        let count = process.descendants().len();
        if count == workers { Ok(()) } else { Err(format!("{count} of {workers} workers")) }
    });
    Proxy { addr, prefix: "", server: Server::Rival(process) }
}

/// What an nginx is to do.
struct Nginx<'a> {
    workers: usize,
    connections: usize,
    /// A block among its `http` directives, where `PORT` stands for the port.
    server: &'a str,
}

fn nginx_config(dir: &Path, port: u16, nginx: &Nginx<'_>) -> String {
    let dir = dir.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String =
        temporary.iter().map(|kind| format!("{kind}_temp_path {dir}/{kind};\n")).collect();
    let Nginx { workers, connections, server } = nginx;
    let server = server.replace("PORT", &port.to_string());
    let master = if *workers == 1 { "off" } else { "on" };
    format!(
        "daemon off; master_process {master}; worker_processes {workers}; pid {dir}/nginx.pid; error_log stderr;\n\
        events {{ worker_connections {connections}; }}\n\
        http {{ access_log off; keepalive_timeout 75s; keepalive_requests 1000000000;\n{temporary}{server} }}\n"
    )
}

fn nginx_proxy(setup: Setup<'_>, directives: &str) -> Proxy {
    let (bin, port, upstream) = (Bin::at("nginx"), free_port(), setup.upstream);
    let server = format!(
        "upstream hello {{ server {upstream}; keepalive {KEPT_UPSTREAM}; keepalive_requests 1000000000; }}\n\
        server {{ listen 127.0.0.1:PORT; location / {{ {directives}\n\
        proxy_pass http://hello; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}"
    );
    let nginx = Nginx { workers: setup.workers, connections: setup.connections(), server: &server };
    let path = bin.file("nginx.conf", nginx_config(bin.dir(), port, &nginx));
    let processes = if nginx.workers == 1 { 0 } else { nginx.workers };
    rival(bin.arg("-e").arg("stderr").arg("-c").arg(path), port, processes, setup)
}

fn haproxy(setup: Setup<'_>, option: &str) -> Proxy {
    let (bin, port, upstream) = (Bin::at("haproxy"), free_port(), setup.upstream);
    let (connections, threads) = (setup.connections(), setup.workers);
    let config = format!(
        "global\n  nbthread {threads}\n  maxconn {connections}\n  \
        tune.pool-low-fd-ratio 80\n  tune.pool-high-fd-ratio 90\n  no strict-limits\n\
        defaults\n  mode http\n  http-reuse always\n  option splice-response\n  timeout connect 2s\n  \
        timeout client 75s\n  timeout http-request 60s\n  timeout http-keep-alive 75s\n  timeout server 60s\n{option}\
        frontend front\n  bind 127.0.0.1:{port}\n  default_backend back\n\
        backend back\n  server hello {upstream} pool-low-conn {KEPT_UPSTREAM}\n"
    );
    let path = bin.file("haproxy.cfg", config);
    rival(bin.arg("-db").arg("-f").arg(path), port, 0, setup)
}
