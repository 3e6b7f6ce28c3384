//! What a local function cannot do to the gateway and its neighbours, and machines that lack a feature.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use testkit::{Bin, eventually, is_root, proc, program};

use crate::{ONE, SOON, dogs, gateway, path, process, swarm};

/// A user that is not root and owns nothing.
const USER: u32 = 60_000;

/// Numbers of system calls; from 424 on they are the same on all architectures.
const CAPSET: u32 = if cfg!(target_arch = "x86_64") { 126 } else { 91 };
const PIDFD_SEND_SIGNAL: u32 = 424;
const PIDFD_OPEN: u32 = 434;
const CLOSE_RANGE: u32 = 436;

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

#[test]
fn a_parent_that_ignores_sigchld_changes_nothing() {
    let gateway = gateway(&[process(ONE, "cat")]).ignoring_children().start();
    assert_eq!(gateway.post(&path(""), "x").status, 200);
    proc::signal(dogs(&gateway, 1)[0], proc::SIGKILL);
    gateway.wait_log("fwatchdog was killed by signal 9", SOON);
    assert_eq!(gateway.post(&path(""), "x").status, 200);
}

#[test]
fn fwatchdog_inherits_no_descriptors_of_the_gateways_parent() {
    let bin = || gateway(&[process(ONE, "cat")]).after("exec 7</dev/full 9<&7");
    for bin in [bin(), bin().refusing(&[CLOSE_RANGE], EPERM)] {
        let gateway = bin.start();
        assert_eq!(gateway.post(&path(""), "x").status, 200);
        for pid in dogs(&gateway, 1) {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let open: Vec<_> = files.filter_map(|file| std::fs::read_link(file.path()).ok()).collect();
            assert!(!open.iter().any(|file| file.ends_with("full")), "{open:?}");
        }
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

/// A gateway started as root, with functions as the users from `first` on. Everybody may reach its binaries.
fn separated(first: u32, functions: &[Value]) -> Bin {
    let bin = gateway(functions).reachable();
    let temporary = bin.dir().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    std::fs::set_permissions(&temporary, Permissions::from_mode(0o1777)).unwrap();
    bin.env("function_user", first.to_string()).env("TMPDIR", temporary)
}

fn skips_without_root() -> bool {
    if !is_root() {
        eprintln!("skipped: only root can give functions other users");
    }
    !is_root()
}

#[test]
fn each_function_has_its_own_user() {
    if skips_without_root() {
        return;
    }
    let ids = "sh -c 'id -u; id -g; id -G; grep -e ^CapPrm -e ^CapEff /proc/self/status; echo $HOME'";
    let gateway = separated(70_000, &[process(ONE, ids), process("two", ids), process("one-more", ids)]);
    let gateway = gateway.start();
    let mut seen = BTreeSet::new();
    for name in [ONE, "two", "one-more"] {
        let text = gateway.get(&format!("/function/{name}")).text();
        let lines: Vec<&str> = text.lines().collect();
        let zero = "0000000000000000";
        let (prm, eff) = (format!("CapPrm:\t{zero}"), format!("CapEff:\t{zero}"));
        assert_eq!(lines[..], [lines[0], lines[0], lines[0], &prm, &eff, ""], "{text}");
        seen.insert(lines[0].parse::<u32>().unwrap());
    }
    assert_eq!(seen, BTreeSet::from([70_000, 70_001, 70_002]));
    assert!(!gateway.log().contains("separates"), "{}", gateway.log());
}

#[test]
fn a_function_with_its_own_user_gains_nothing_from_the_gateway() {
    if skips_without_root() {
        return;
    }
    let bin = separated(80_000, &[]);
    let (state, password) = (bin.dir().join("state"), bin.file("basic-auth-password", "secret"));
    std::fs::set_permissions(&password, Permissions::from_mode(0o600)).unwrap();
    let socket = state.join("control.sock");
    let spies = bin.program(&format!("spies 2 {} {}", socket.display(), password.display()));
    let other = "sh -c 'kill -0 $(pgrep -u 80001 sleep) && echo taken'";
    let functions = [process(ONE, &spies), process("two", "sleep 600"), process("kills", other)];
    bin.file("functions.json", json!({ "functions": functions }).to_string());
    let gateway = bin.env("state_dir", &state).start();
    eventually(SOON, || if socket.exists() { Ok(()) } else { Err("no control plane".to_owned()) });
    let told = gateway.get(&path("")).text();
    assert_eq!((told.matches(" refused\n").count(), told.lines().count()), (8, 8), "{told}");
    let mut sleeps = gateway.connect();
    sleeps.send("GET /function/two HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    eventually(SOON, || {
        let reply = gateway.get("/function/kills");
        assert!(!reply.text().contains("taken"), "{}", reply.text());
        let is_told = gateway.log().contains("Operation not permitted");
        if is_told { Ok(()) } else { Err(gateway.log()) }
    });
}

#[test]
fn functions_with_their_own_users_end_with_the_gateway() {
    if skips_without_root() {
        return;
    }
    for signal in [proc::SIGTERM, proc::SIGKILL] {
        let gateway = separated(90_000, &[process(ONE, "cat")]).start();
        assert_eq!(gateway.post(&path(""), "x").text(), "x");
        gateway.signal(signal);
        gateway.wait(SOON);
        eventually(SOON, || match gateway.descendants() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
    }
}

#[test]
fn without_function_user_the_log_says_that_functions_are_not_separated() {
    let gateway = gateway(&[process(ONE, "cat")]).start();
    assert!(gateway.log().contains(": nothing separates them from its files"), "{}", gateway.log());
    let gateway = crate::before(&crate::well()).start();
    assert!(!gateway.log().contains("separates"), "{}", gateway.log());
}

#[test]
fn a_user_for_each_function_needs_root_and_the_local_provider() {
    let bin = gateway(&[process(ONE, "cat")]).env("function_user", "70000");
    let swarm = Bin::gateway().env("provider", "swarm").env("function_user", "70000");
    let expected = if is_root() { vec![swarm] } else { vec![swarm, bin] };
    for bin in expected {
        let ended = bin.run();
        assert_eq!(ended.status.code(), Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("setting function_user: expected nothing"), "{}", ended.stderr);
    }
}

#[test]
fn functions_are_served_without_process_descriptors() {
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
fn the_gateway_ends_when_it_cannot_drop_root_completely() {
    if !is_root() {
        return eprintln!("skipped: only root can leave root");
    }
    let engine = swarm::Engine::start();
    let ended = crate::engines::gateway(&engine.peer).refusing(&[CAPSET], EPERM).spawn();
    assert_eq!(ended.wait(SOON).code(), Some(1), "{}", ended.log());
    assert!(ended.log().contains("error ending, since root was left half way: "), "{}", ended.log());
}
