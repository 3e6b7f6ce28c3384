//! Scripted engines: what real ones answer to the questions about their version, and anything a test wants
//! to the rest.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use docker_sock::{Engine, Host};
use testkit::script::Request;
use testkit::{Address, Peer, Script};

/// The time of a call that is meant to succeed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The time of a call that is meant to run out of it.
pub(crate) const SHORT: Duration = Duration::from_millis(200);

/// A whole answer.
pub(crate) fn answer(status: u16, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: {content_type}\r\nOstype: linux\r\n\
        Server: Docker/20.10.24 (linux)\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// 200 with a JSON document.
pub(crate) fn json(body: &str) -> Vec<u8> {
    answer(200, "application/json", body)
}

/// A refusal as the engine words it.
pub(crate) fn message(status: u16, message: &str) -> Vec<u8> {
    answer(status, "application/json", &format!("{}\n", serde_json::json!({"message": message})))
}

/// Answers each request of a connection.
pub(crate) fn serve(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Script {
    Script::new().request().answer(answer).repeat()
}

/// An engine of API 1.41 that answers everything but `/_ping` with `bytes`.
pub(crate) fn answers(bytes: Vec<u8>) -> Script {
    serve(move |request| match request.target.as_str() {
        "/_ping" => Api::engine_20().ping(),
        _ => bytes.clone(),
    })
}

/// The client of a peer.
pub(crate) fn engine(peer: &Peer) -> Engine {
    engine_within(peer, PATIENCE)
}

/// The client of a peer, with another time for each call.
pub(crate) fn engine_within(peer: &Peer, timeout: Duration) -> Engine {
    let host = match peer.address() {
        Address::Unix(path) => Host::Unix(path.clone()),
        Address::Tcp(addr) => Host::Tcp(addr.ip().to_string(), addr.port()),
    };
    Engine::new(host, timeout)
}

/// What the peer was asked for, without the bodies.
pub(crate) fn targets(peer: &Peer) -> Vec<String> {
    peer.requests().iter().map(|request| format!("{} {}", request.method, request.target)).collect()
}

/// What an engine serves of the API, and how it says so.
#[derive(Clone, Copy)]
pub(crate) struct Api {
    pub(crate) newest: &'static str,
    /// `None` where `/version` does not tell it.
    pub(crate) oldest: Option<&'static str>,
    /// Whether `/_ping` tells the newest.
    pub(crate) is_in_ping: bool,
}

impl Api {
    /// Engine 20.10.
    pub(crate) fn engine_20() -> Api {
        Api { newest: "1.41", oldest: Some("1.12"), is_in_ping: true }
    }

    /// Engine 29.
    pub(crate) fn engine_29() -> Api {
        Api { newest: "1.52", oldest: Some("1.44"), is_in_ping: true }
    }

    /// Engine 1.12, with the first API that has services.
    pub(crate) fn engine_1() -> Api {
        Api { newest: "1.24", oldest: None, is_in_ping: false }
    }

    pub(crate) fn ping(self) -> Vec<u8> {
        let header =
            if self.is_in_ping { format!("Api-Version: {}\r\n", self.newest) } else { String::new() };
        format!("HTTP/1.1 200 OK\r\n{header}Content-Length: 2\r\nContent-Type: text/plain\r\n\r\nOK")
            .into_bytes()
    }

    fn version(self) -> Vec<u8> {
        let mut version = serde_json::json!({
            "Version": "20.10.24", "ApiVersion": self.newest, "GitCommit": "5d6db84", "GoVersion": "go1.19.8",
            "Os": "linux", "Arch": "amd64", "KernelVersion": "6.1.0", "BuildTime": "2024-05-07T21:09:36Z",
        });
        if let Some(oldest) = self.oldest {
            version["MinAPIVersion"] = oldest.into();
        }
        json(&version.to_string())
    }

    /// Answers `request` as this engine would; `rest` is asked with the path below the version.
    pub(crate) fn respond(self, request: &Request, rest: impl Fn(&str) -> Vec<u8>) -> Vec<u8> {
        match request.target.as_str() {
            "/_ping" => return self.ping(),
            "/version" => return self.version(),
            _ => {}
        }
        let (version, path) = request.target[2..].split_once('/').unwrap_or_default();
        let minor = |version: &str| version.trim_start_matches("1.").parse::<u32>().unwrap_or(0);
        let (newest, oldest) = (self.newest, self.oldest.unwrap_or("1.12"));
        if minor(version) > minor(newest) && !self.is_in_ping {
            let text = "client is newer than server (client API version: ";
            message(400, &format!("{text}{version}, server API version: {newest})"))
        } else if minor(version) > minor(newest) {
            let text =
                format!("client version {version} is too new. Maximum supported API version is {newest}");
            message(400, &text)
        } else if minor(version) < minor(oldest) {
            // Engines answer this one in plain text to versions that had no JSON errors.
            let text =
                format!("client version {version} is too old. Minimum supported API version is {oldest}");
            answer(400, "text/plain", &format!("{text}, please upgrade your client to a newer version\n"))
        } else {
            rest(&format!("/{path}"))
        }
    }
}

/// An engine that is replaced while it runs: it answers as the one of `apis` that is switched to.
pub(crate) struct Replaceable {
    pub(crate) peer: Peer,
    present: std::sync::Arc<AtomicUsize>,
}

impl Replaceable {
    pub(crate) fn new(apis: Vec<Api>, rest: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Replaceable {
        let present = std::sync::Arc::new(AtomicUsize::new(0));
        let api = std::sync::Arc::clone(&present);
        let script = serve(move |request| apis[api.load(Ordering::SeqCst)].respond(request, &rest));
        Replaceable { peer: Peer::unix(script), present }
    }

    pub(crate) fn switch_to(&self, api: usize) {
        self.present.store(api, Ordering::SeqCst);
    }
}
