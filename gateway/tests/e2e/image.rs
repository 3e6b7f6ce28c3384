//! The images: who they run as, what they take, that they turn healthy, how they end.

use std::time::Duration;

use testkit::engine::Engine;
use testkit::{eventually, proc};

use crate::lab::{CAT, Gateway, PATIENCE, cat, group_of, remove, shell};

/// What the budgets allow a gateway that has served a little.
const MAX_RSS: u64 = 4 << 20;

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn the_images_run_without_rights_and_turn_healthy() {
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-nobody");
    let service = engine.service("e2e-healthy", CAT).create();
    let task = service.wait_running(1).remove(0);
    for container in [&gateway.task.container, &task.container] {
        let state =
            engine.docker(&["inspect", "--format={{.State.Pid}} {{.State.Health.Status}}", container]);
        let (pid, health) = state.split_once(' ').expect("two fields");
        assert_eq!(health, "healthy");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
        let ids = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
                .unwrap_or_default()
        };
        // The gateway was root until it knew the group of the engine's socket, which is its only one.
        let is_gateway = *container == gateway.task.container;
        let user = if is_gateway { "60808" } else { "65534" };
        assert_eq!((ids("Uid:"), ids("Gid:")), (vec![user.to_owned(); 4], vec![user.to_owned(); 4]));
        let groups = if is_gateway { vec![group_of(engine.socket().as_ref())] } else { vec![] };
        let more: Vec<_> = ids("Groups:").into_iter().filter(|group| group != user).collect();
        assert_eq!(more, groups);
        assert_eq!(ids("CapEff:"), ["0000000000000000"]);
        println!("{} has {} KiB resident", ids("Name:").concat(), proc::rss_bytes(number(pid)) / 1024);
    }
    remove(&[&service, &gateway.service]);
}

fn number(pid: &str) -> u32 {
    pid.parse().expect("a process id")
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn the_gateway_stays_small() {
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-small");
    let service = cat(&engine, "e2e-small-cat").create();
    service.wait_running(1);
    let pid = engine.docker(&["inspect", "--format={{.State.Pid}}", &gateway.task.container]);
    let pid = number(&pid);
    let idle = proc::rss_bytes(pid);
    let mut client = gateway.client();
    for _ in 0..500 {
        let reply = client.request().method("POST").path("/function/e2e-small-cat").body("x").send();
        assert_eq!(reply.expect("an answer").status, 200);
    }
    let (after, peak) = (proc::rss_bytes(pid), proc::peak_rss_bytes(pid));
    println!(
        "resident: {} KiB at first, {} KiB after 500 calls, peak {} KiB",
        idle / 1024,
        after / 1024,
        peak / 1024
    );
    assert!(peak < MAX_RSS, "{peak} bytes");
    remove(&[&service, &gateway.service]);
}

#[test]
#[ignore = "needs an engine: make test-e2e"]
fn a_gateway_that_is_told_to_end_finishes_its_calls() {
    let engine = Engine::connect();
    let gateway = Gateway::start(&engine, "e2e-drain");
    let slow = shell(&engine, "e2e-slow", "echo begun; sleep 2; cat").create();
    slow.wait_running(1);
    gateway.wait_callable("e2e-slow");
    let reply = std::thread::scope(|scope| {
        let call = scope.spawn(|| gateway.call("e2e-slow", "to the end"));
        eventually(PATIENCE, || {
            let in_flight =
                gateway.metrics().value("gateway_function_inflight", &[("function_name", "e2e-slow")]);
            if in_flight == Some(1.0) { Ok(()) } else { Err(format!("{in_flight:?} in flight")) }
        });
        gateway.service.scale(0);
        call.join().expect("the call ends")
    });
    remove(&[&slow]);
    assert_eq!((reply.status, &*reply.text()), (200, "begun\nto the end"));
    let state = "--format={{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}";
    let ended = eventually(Duration::from_secs(10), || {
        match engine.docker(&["inspect", state, &gateway.task.container]) {
            ended if ended.starts_with("exited") => Ok(ended),
            other => Err(other),
        }
    });
    assert_eq!(ended, "exited 0 false");
}
