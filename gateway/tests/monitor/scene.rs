//! Two gateways, a local one and one on a Swarm, under load that gives every series a figure: calls that
//! succeed, fail, last long, wait, are retried or refused.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;
use testkit::http::{Client, Connection, request};
use testkit::metrics::Metrics;
use testkit::unreachable::Refusing;
use testkit::{Bin, Peer, Running, Script, eventually, program};

use crate::engine::{Engine, NETWORK};

/// Time limit of what should happen at once.
const SOON: Duration = Duration::from_secs(20);

/// The pause between two rounds of calls. Prometheus reads every second, so it sees several rounds at a time.
const PACE: Duration = Duration::from_millis(50);

/// How long a call waits at least for its first replica.
const COLD: Duration = Duration::from_millis(200);

/// Calls to a function that never has a replica.
const WAITING: usize = 5;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The gateways that Prometheus reads, and their servers.
pub(crate) struct Scene {
    pub(crate) local: Running,
    pub(crate) swarm: Running,
    engine: Arc<Engine>,
    _refusing: Refusing,
    _peers: Vec<Peer>,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        let answers = Peer::tcp(Script::new().request().send(OK).repeat());
        let slow = Peer::tcp(Script::new().request().pause(Duration::from_millis(300)).send(OK).repeat());
        // A kept connection is closed when it is used again.
        let stale = Peer::tcp(Script::new().request().send(OK).request().close());
        let refusing = Refusing::new();
        let local = local(&json!({ "functions": [
            { "name": "well", "fprocess": "cat" },
            { "name": "failing", "fprocess": program("exits 1") },
            { "name": "broken", "fprocess": "cat", "environment": { "mode": "no such mode" } },
            { "name": "slow", "address": slow.addr().to_string() },
            { "name": "stale", "address": stale.addr().to_string() },
            { "name": "partly", "address": [refusing.addr().to_string(), answers.addr().to_string()] },
        ] }));
        let engine = Arc::new(Engine::new(&[("cold", answers.addr()), ("waited-for", answers.addr())]));
        let swarm = Bin::gateway()
            .env("provider", "swarm")
            .env("functions_network", NETWORK)
            .env("DOCKER_HOST", engine.host())
            .start();
        Scene { local, swarm, engine, _refusing: refusing, _peers: vec![answers, slow, stale] }
    }

    pub(crate) fn addresses(&self) -> [SocketAddr; 2] {
        [self.local.addr(), self.swarm.addr()]
    }

    /// Calls until the load is dropped.
    pub(crate) fn load(&self) -> Load {
        let (local, swarm) = (self.local.addr(), self.swarm.addr());
        let mut load = Load { waiting: vec![], threads: vec![] };
        load.waiting.extend((0..WAITING).map(|_| call(swarm, "waited-for")));
        let mut client = self.local.client();
        load.repeat(move || round(local, &mut client));
        load.repeat(move || expect(local, "/function/slow", 200));
        let engine = Arc::clone(&self.engine);
        load.repeat(move || cold_start(swarm, &engine));
        load
    }

    /// Removes the engine after all calls have ended; both gateways stay.
    pub(crate) fn without_engine(self) -> (Running, Running) {
        assert_eq!(Arc::strong_count(&self.engine), 1, "the load uses the engine");
        (self.local, self.swarm)
    }
}

fn local(functions: &serde_json::Value) -> Running {
    // The metric of the access log needs an access log.
    let bin = Bin::gateway().env("provider", "local").env("access_log", "true");
    let file = bin.file("functions.json", functions.to_string());
    bin.env("functions_file", file).start()
}

/// Repeated calls; dropping this ends them.
pub(crate) struct Load {
    waiting: Vec<Connection>,
    threads: Vec<(Sender<()>, JoinHandle<()>)>,
}

impl Load {
    fn repeat(&mut self, mut work: impl FnMut() + Send + 'static) {
        let (stop, stopped) = mpsc::channel();
        let is_over = |stopped: &Receiver<()>| stopped.recv_timeout(PACE) != Err(RecvTimeoutError::Timeout);
        let thread = thread::spawn(move || {
            while !is_over(&stopped) {
                work();
            }
        });
        self.threads.push((stop, thread));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.waiting.clear();
        for (stop, thread) in self.threads.drain(..) {
            drop(stop);
            let is_well = thread.join().is_ok();
            assert!(is_well || thread::panicking(), "a call went wrong, see above");
        }
    }
}

/// One call of each kind that is answered at once.
fn round(gateway: SocketAddr, client: &mut Client) {
    expect(gateway, "/function/well", 200);
    expect(gateway, "/function/failing", 500);
    expect(gateway, "/function/broken", 503);
    expect(gateway, "/function/partly", 200);
    expect(gateway, "/function/nobody", 404);
    expect(gateway, "/nowhere", 404);
    // Over one connection: the gateway has taken back its own connection before the next call.
    let reply = client.request().path("/function/stale").send().expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[track_caller]
fn expect(gateway: SocketAddr, path: &str, status: u16) {
    let reply = request(gateway).path(path).send().unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(reply.status, status, "{path}: {}", reply.text());
}

/// A call to a function without a replica, which starts while the call waits.
fn cold_start(gateway: SocketAddr, engine: &Engine) {
    engine.run("cold", false);
    eventually(SOON, || {
        let page = request(gateway).path("/metrics").send().map_err(|e| e.to_string())?;
        let ready = Metrics::read(&page.text()).value("gateway_service_ready", &[("function_name", "cold")]);
        if ready == Some(0.0) { Ok(()) } else { Err(format!("{ready:?} replicas")) }
    });
    let mut waiting = call(gateway, "cold");
    // The call must arrive before the replica starts: an unanswered call waits for it.
    let head = waiting.within(COLD).head();
    assert!(head.is_err(), "answered without a replica: {head:?}");
    engine.run("cold", true);
    let reply = waiting.within(SOON).reply("GET").expect("an answer");
    assert!(reply.status == 200 && reply.header("x-cold-start-ms").is_some(), "{}", reply.text());
}

/// Sends a call, and does not wait for the answer.
fn call(gateway: SocketAddr, function: &str) -> Connection {
    let mut connection = Connection::open(gateway).expect("a connection");
    connection.send(format!("GET /function/{function} HTTP/1.1\r\nHost: test\r\n\r\n")).expect("sent");
    connection
}
