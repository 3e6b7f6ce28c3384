//! What a local function may not do to the gateway and its neighbours, and machines that lack what others have.

use serde_json::json;
use testkit::{eventually, is_root, proc, program};

use crate::{ONE, SOON, dogs, gateway, path, process, swarm};

/// Somebody who is not root and nobody else.
const USER: u32 = 60_000;

/// System calls by their numbers; those from 424 on are the same on all architectures.
const CAPSET: u32 = if cfg!(target_arch = "x86_64") { 126 } else { 91 };
const PIDFD_SEND_SIGNAL: u32 = 424;
const PIDFD_OPEN: u32 = 434;
const CLOSE_RANGE: u32 = 436;

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

#[test]
fn a_parent_that_ignores_the_ends_of_its_children_changes_nothing() {
    let gateway = gateway(&[process(ONE, "cat")]).ignoring_children().start();
    assert_eq!(gateway.post(&path(""), "x").status, 200);
    proc::signal(dogs(&gateway, 1)[0], proc::SIGKILL);
    gateway.wait_log("fwatchdog was killed by signal 9", SOON);
    assert_eq!(gateway.post(&path(""), "x").status, 200);
}

#[test]
fn descriptors_of_the_gateways_parent_stay_out_of_each_fwatchdog() {
    let gateway = gateway(&[process(ONE, "cat")]).after("exec 7</dev/full 9<&7").start();
    assert_eq!(gateway.post(&path(""), "x").status, 200);
    for pid in dogs(&gateway, 1) {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let open: Vec<_> = files.filter_map(|file| std::fs::read_link(file.path()).ok()).collect();
        assert!(!open.iter().any(|file| file.ends_with("full")), "{open:?}");
    }
}

#[test]
fn a_function_cannot_look_into_the_gateway_that_runs_as_the_same_user() {
    let gateway = gateway(&[]).user(USER);
    let spies = gateway.program("spies 2");
    gateway.file("functions.json", json!({ "functions": [process(ONE, &spies)] }).to_string());
    let told = gateway.start().get(&path("")).text();
    for what in ["environment", "memory", "descriptors", "sockets", "trace"] {
        assert!(told.contains(&format!("{what} refused\n")), "{told}");
    }
}

#[test]
fn functions_are_served_where_processes_have_no_descriptors() {
    let functions = [process(ONE, "cat"), process("two", &program("spawns_grandchild"))];
    let missing = [PIDFD_OPEN, PIDFD_SEND_SIGNAL, CLOSE_RANGE];
    let gateway = gateway(&functions).refusing(&missing, ENOSYS).start();
    assert_eq!(gateway.post(&path(""), "x").text(), "x");
    let reply = gateway.request().path("/function/two").header("X-Timeout", "300ms").send().unwrap();
    assert_eq!(reply.status, 504);
    let before = dogs(&gateway, 2);
    eventually(SOON, || match gateway.descendants() {
        left if left == before => Ok(()),
        left => Err(format!("{left:?}, not only {before:?}")),
    });
    proc::signal(before[0], proc::SIGKILL);
    gateway.wait_log("killed by signal 9", SOON);
    dogs(&gateway, 2);
    gateway.signal(proc::SIGTERM);
    assert_eq!(gateway.wait(SOON).code(), Some(0), "{}", gateway.log());
}

#[test]
fn root_that_is_left_half_way_is_the_end() {
    if !is_root() {
        return eprintln!("skipped: only root can leave root");
    }
    let engine = swarm::Engine::start();
    let ended = crate::engines::gateway(&engine.peer).refusing(&[CAPSET], EPERM).spawn();
    assert_eq!(ended.wait(SOON).code(), Some(1), "{}", ended.log());
    assert!(ended.log().contains("error ending, since root was left half way: "), "{}", ended.log());
}
