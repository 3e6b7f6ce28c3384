//! The fixture for a real engine, against one: services come, scale, lose a container and go; a paused engine
//! comes back.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use testkit::engine::{Engine, free_port};
use testkit::eventually;

const IMAGE: &str = "localhost/faas/catservice";

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn services_come_scale_and_go() {
    let engine = Engine::connect();
    let service = engine.service("testkit-lives", IMAGE).env("write_debug", "true").create();
    let first = service.wait_running(1).remove(0);
    assert!(!first.addresses.is_empty(), "{first:?}");

    service.scale(2);
    let both = service.wait_running(2);
    assert!(both.iter().any(|task| task.id == first.id), "{both:?}");

    engine.kill_container(&first.container);
    eventually(Duration::from_secs(30), || match service.wait_running(2) {
        tasks if tasks.iter().all(|task| task.id != first.id) => Ok(()),
        tasks => Err(format!("the killed task still counts: {tasks:?}")),
    });
    drop(service);
    let services = engine.docker(&["service", "ls", "--quiet", "--filter", "name=testkit-lives"]);
    assert_eq!(services, "");
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_published_port_is_reached_from_the_host() {
    let engine = Engine::connect();
    let port = free_port();
    let publish = format!("--publish=mode=host,target=8080,published={port}");
    let service = engine.service("testkit-port", IMAGE).arg(publish).create();
    service.wait_running(1);
    let reply = testkit::http::request(SocketAddr::from(([127, 0, 0, 1], port)))
        .method("POST")
        .body(b"hello")
        .send()
        .expect("an answer");
    assert_eq!(reply.body, b"hello");
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_paused_engine_answers_again_when_the_guard_is_gone() {
    let engine = Engine::connect();
    let paused = engine.pause();
    let status = Command::new("timeout").args(["1", "docker", "info"]).output().expect("timeout runs").status;
    assert_eq!(status.code(), Some(124), "a paused engine answered");
    drop(paused);
    engine.docker(&["info"]);
}

/// What is shipped, in bytes at most: 512 KiB and 1.25 MiB.
const BINARIES: [(&str, u64); 2] = [("fwatchdog", 512 * 1024), ("gateway", 1280 * 1024)];

#[test]
#[ignore = "needs dist/: make test-e2e"]
fn the_shipped_binaries_keep_to_their_size() {
    for (name, budget) in BINARIES {
        let path = format!("{}/../dist/{name}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::metadata(&path).unwrap_or_else(|error| panic!("{path}: {error}")).len();
        assert!(bytes <= budget, "{path}: {bytes} bytes of {budget}");
    }
}
