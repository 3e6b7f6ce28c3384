//! TLS by a proxy in front, as in docs/swarm.md: a real Caddy with the Caddyfile of the document and a
//! certificate of its own authority, and a real client that trusts that authority.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;
use testkit::engine::free_port;
use testkit::{Bin, Output, Peer, Process, Script, document, eventually};

use crate::{ONE, SOON, at, gateway, path, process};

/// The address of the client, different from the proxy's.
const CLIENT: &str = "127.0.0.2";

/// Caddy as in the document, except for ports, files and the authority.
struct Caddy {
    _process: Process,
    port: u16,
    authority: PathBuf,
}

impl Caddy {
    fn start(gateway: SocketAddr) -> Caddy {
        let port = free_port();
        let bin = Bin::at("caddy");
        let file = std::fs::read_to_string(testkit::workspace().join("docs/swarm.md")).expect("a document");
        let blocks = document::blocks(&file).expect("a document");
        let site = &blocks.iter().find(|block| block.language == "caddyfile").expect("a Caddyfile").text;
        let site = replaced(site, "faas.example.org", &format!("faas.test:{port}"));
        let site = replaced(&site, "localhost:8080", &gateway.to_string());
        let storage = bin.dir().join("storage");
        let options = format!(
            "{{\n admin off\n local_certs\n skip_install_trust\n http_port {}\n https_port {port}\n \
             storage file_system {}\n}}\n",
            free_port(),
            storage.display(),
        );
        let config = bin.file("Caddyfile", options + &site);
        let home = bin.dir().to_owned();
        let arguments = ["run", "--adapter", "caddyfile", "--config"];
        let bin = arguments.into_iter().fold(bin, Bin::arg).arg(config).env("HOME", home);
        let process = bin.spawn();
        let authority = storage.join("pki/authorities/local/root.crt");
        let caddy = Caddy { _process: process, port, authority };
        eventually(SOON, || match caddy.curl("/healthz", &[]) {
            answer if answer.stdout.ends_with("\n200") => Ok(()),
            answer => Err(format!("{}{}\n{}", answer.stdout, answer.stderr, caddy._process.report())),
        });
        caddy
    }

    /// Sends a request over TLS; prints the answer's body, a line feed and its status.
    fn curl(&self, path: &str, arguments: &[&str]) -> Output {
        let authority = self.authority.display().to_string();
        let trusting = ["--cacert", &authority];
        self.curl_without_trust(path, &[&trusting[..], arguments].concat())
    }

    fn curl_without_trust(&self, path: &str, arguments: &[&str]) -> Output {
        let name = format!("faas.test:{}:127.0.0.1", self.port);
        let own = ["--silent", "--show-error", "--interface", CLIENT, "--write-out", "\n%{http_code}"];
        let bin = own.into_iter().fold(Bin::at("curl"), Bin::arg).arg("--resolve").arg(name);
        let bin = arguments.iter().fold(bin, Bin::arg);
        bin.arg(format!("https://faas.test:{}{path}", self.port)).run()
    }
}

/// Replaces `old`, which must occur, by `new`.
#[track_caller]
fn replaced(text: &str, old: &str, new: &str) -> String {
    assert!(text.contains(old), "`{old}` in {text}");
    text.replace(old, new)
}

#[test]
fn a_function_behind_caddy_learns_the_clients_address() {
    if !testkit::is_installed("caddy") || !testkit::is_installed("curl") {
        return;
    }
    let peer = Peer::tcp(Script::new().request().send(crate::OK).repeat());
    let functions = [at(ONE, &[peer.addr()]), process("echo", "cat")];
    let gateway = gateway(&functions).env("trusted_proxies", "127.0.0.1").start();
    let caddy = Caddy::start(gateway.addr());

    let forged = ["--header", "X-Forwarded-For: 6.6.6.6", "--header", "X-Forwarded-Proto: http"];
    let answer = caddy.curl(&path(""), &forged);
    assert_eq!((answer.code(), &*answer.stdout), (0, "ok\n200"), "{}", answer.stderr);
    let got = peer.requests().pop().expect("a request");
    let host = format!("faas.test:{}", caddy.port);
    assert_eq!(got.header("x-forwarded-for"), Some(format!("{CLIENT}, 127.0.0.1").as_str()));
    assert_eq!(got.header("x-forwarded-proto"), Some("https"));
    assert_eq!(got.header("x-forwarded-host"), Some(host.as_str()));
    assert_eq!(got.header("host"), Some(host.as_str()));

    // A body of some length both ways.
    let body = "0123456789abcdef".repeat(1 << 16);
    let bin = Bin::at("true");
    let file = format!("@{}", bin.file("body", &body).display());
    let answer = caddy.curl("/function/echo", &["--data-binary", &file]);
    assert!(answer.stdout == body + "\n200", "{} bytes, {}", answer.stdout.len(), answer.stderr);

    // A client that does not trust the authority cannot connect.
    let answer = caddy.curl_without_trust("/healthz", &[]);
    assert_eq!(answer.code(), 60, "{}{}", answer.stdout, answer.stderr);
}

#[test]
fn a_page_under_the_proxys_name_may_use_the_control_plane() {
    if !testkit::is_installed("caddy") || !testkit::is_installed("curl") {
        return;
    }
    let bin = gateway(&[process(ONE, "cat")]).env("trusted_proxies", "127.0.0.1").env("basic_auth", "true");
    bin.file("basic-auth-user", "admin");
    bin.file("basic-auth-password", "a password");
    let secrets = bin.dir().to_owned();
    let gateway = bin.env("secret_mount_path", secrets).start();
    let caddy = Caddy::start(gateway.addr());
    let body = json!({ "replicas": 2 }).to_string();
    let scale = |origin: &str| {
        let origin = format!("Origin: {origin}");
        let arguments = ["--user", "admin:a password", "--header", &origin, "--data", &body];
        caddy.curl(&format!("/system/scale-function/{ONE}"), &arguments)
    };
    let answer = scale(&format!("https://faas.test:{}", caddy.port));
    assert!(answer.stdout.ends_with("\n202"), "{}{}", answer.stdout, answer.stderr);
    let answer = scale("https://elsewhere.test");
    assert!(answer.stdout.ends_with("\n403"), "{}{}", answer.stdout, answer.stderr);
}
