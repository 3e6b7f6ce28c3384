//! The gateway's own networks change while it runs.

use std::net::SocketAddr;
use std::process::Command;

use testkit::engine::{Engine, NETWORK, free_port};
use testkit::{eventually, http};

use crate::lab::{CAT, PATIENCE};

/// A second network of the Swarm, and a service on it alone.
const OTHER: &str = "e2e-other-network";
const SERVICE: &str = "e2e-elsewhere";

/// A gateway in a container of its own, which no Swarm attaches to anything.
const CONTAINER: &str = "e2e-alone";

/// Removes what the test has made.
struct Scene<'a>(&'a Engine);

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        docker(&["rm", "--force", CONTAINER]);
        drop(self.0.adopt(SERVICE));
        docker(&["network", "rm", OTHER]);
    }
}

/// What a command writes, both streams together, however it ends.
fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().expect("docker runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[track_caller]
fn answers(address: SocketAddr, path: &str, want: (u16, &str)) {
    eventually(PATIENCE, || {
        let reply = http::request(address).path(path).send().map_err(|error| error.to_string())?;
        let text = reply.text();
        if reply.status == want.0 && text.contains(want.1) {
            Ok(())
        } else {
            Err(format!("{} {text}", reply.status))
        }
    });
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn networks_count_as_they_are_attached_and_detached() {
    let engine = Engine::connect();
    engine.docker(&["network", "create", "--driver", "overlay", "--attachable", OTHER]);
    let create = ["service", "create", "--detach", "--no-resolve-image", "--name", SERVICE];
    engine.docker(&[&create[..], &["--network", OTHER, "--health-interval", "200ms", CAT]].concat());
    let scene = Scene(&engine);
    let port = free_port();
    let socket = format!("{}:/var/run/docker.sock:ro", engine.socket());
    let publish = format!("127.0.0.1:{port}:8080");
    let run = ["run", "--detach", "--name", CONTAINER, "--publish", &publish, "--volume", &socket];
    engine.docker(&[&run[..], &["--env", "log=debug", "localhost/faas/gateway"]].concat());
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let function = format!("/function/{SERVICE}");

    answers(address, "/healthz", (200, "degraded: the gateway is on no network of the Swarm"));
    answers(address, &function, (503, "on no network of the Swarm"));
    engine.docker(&["network", "connect", NETWORK, CONTAINER]);
    answers(address, "/healthz", (200, "ok"));
    answers(address, &function, (404, "no function"));
    engine.docker(&["network", "connect", OTHER, CONTAINER]);
    answers(address, &function, (200, ""));
    let log = docker(&["logs", CONTAINER]);
    assert!(log.contains("event: network connect"), "{log}");
    engine.docker(&["network", "disconnect", OTHER, CONTAINER]);
    answers(address, &function, (404, "no function"));
    engine.docker(&["network", "disconnect", NETWORK, CONTAINER]);
    answers(address, "/healthz", (200, "degraded: the gateway is on no network of the Swarm"));
    drop(scene);
}
