//! Functions that the gateway runs: their start, their restart, and that none outlives the gateway.

use std::collections::BTreeSet;
use std::thread;

use serde_json::json;
use testkit::{eventually, proc, program};

use crate::{ONE, SOON, dogs, gateway, path, process, raw};

#[test]
fn a_killed_gateway_leaves_no_process() {
    let gateway = gateway(&[process(ONE, &program("spawns_grandchild")), process("cat", "cat")]).start();
    let mut running = gateway.connect();
    running.send(raw("GET", "", "")).unwrap();
    gateway.wait_log("ready", SOON);
    dogs(&gateway, 2);
    assert!(gateway.descendants().len() >= 4, "two dogs, a process, its children");
    gateway.signal(proc::SIGKILL);
    gateway.wait(SOON);
    eventually(SOON, || match gateway.descendants() {
        left if left.is_empty() => Ok(()),
        left => Err(left.iter().map(|pid| proc::command_line(*pid)).collect::<Vec<_>>().join("; ")),
    });
}

#[test]
fn a_killed_fwatchdog_is_restarted_while_calls_wait() {
    let gateway = gateway(&[process(ONE, "cat")]).start();
    assert_eq!(gateway.post(&path(""), "x").status, 200);
    let before = dogs(&gateway, 1);
    proc::signal(before[0], proc::SIGKILL);
    gateway.wait_log("killed by signal 9", SOON);
    // No process runs at first; the replica's socket is there all the time.
    thread::scope(|scope| {
        for client in 0..8 {
            let gateway = &gateway;
            scope.spawn(move || {
                let body = format!("from {client}");
                let reply = gateway.post(&path(""), body.clone());
                assert_eq!((reply.status, reply.text()), (200, body));
            });
        }
    });
    assert_ne!(dogs(&gateway, 1), before);
    eventually(SOON, || match gateway.zombies() {
        zombies if zombies.is_empty() => Ok(()),
        zombies => Err(format!("zombies: {zombies:?}")),
    });
}

#[test]
fn a_call_in_a_killed_fwatchdog_is_502() {
    let gateway = gateway(&[process(ONE, &program("sleeps"))]).start();
    for method in ["GET", "POST"] {
        let ready = || gateway.log().matches("ready").count();
        let before = ready();
        let mut running = gateway.connect();
        running.send(raw(method, "", "")).unwrap();
        eventually(SOON, || if ready() > before { Ok(()) } else { Err("not started".to_owned()) });
        assert!(dogs(&gateway, 1).into_iter().all(|pid| proc::signal(pid, proc::SIGKILL)));
        let reply = running.within(SOON).reply(method).unwrap();
        crate::is_own(&reply, (502, "upstream_closed"), &["`one`"]);
    }
}

/// The gateway and each fwatchdog raise their own limit of open files.
#[test]
fn a_function_gets_the_gateways_original_limit_of_open_files() {
    let gateway = gateway(&[process(ONE, "sh -c 'ulimit -Sn'")]).soft_nofile(300).start();
    assert_eq!(gateway.get(&path("")).text(), "300\n");
}

/// fwatchdog accepts connections before its process does.
#[test]
fn a_cold_start_includes_the_start_of_an_http_mode_process() {
    let serves = format!("sh -c 'exec {} $PORT 3000'", program("serves"));
    let environment = json!({ "mode": "http", "upstream_url": "http://127.0.0.1:0" });
    let function = json!({ "name": ONE, "fprocess": serves, "environment": environment, "replicas": 0 });
    let gateway = gateway(&[function]).start();
    let reply = gateway.get(&path(""));
    let waited: u64 = reply.header("x-cold-start-ms").expect("it waited").parse().unwrap();
    assert!(reply.status == 200 && waited >= 500, "{}: {waited} ms", reply.status);
    assert_eq!(gateway.get(&path("")).header("x-cold-start-ms"), None);
}

/// Each process gets a port of its own in `PORT`.
#[test]
fn replicas_in_http_mode_do_not_share_a_port() {
    let serves = format!("sh -c 'exec {} $PORT'", program("serves"));
    let environment = json!({ "mode": "http", "upstream_url": "http://127.0.0.1:0" });
    let function = json!({ "name": ONE, "fprocess": serves, "environment": environment, "replicas": 3 });
    let gateway = gateway(&[function]).start();
    dogs(&gateway, 3);
    let mut seen = BTreeSet::new();
    eventually(SOON, || {
        let reply = gateway.get(&path(""));
        assert_eq!(reply.status, 200, "{}", reply.text());
        seen.insert(reply.text().split(' ').next().unwrap_or_default().to_owned());
        if seen.len() == 3 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

#[test]
fn replicas_share_the_calls() {
    let function = json!({ "name": ONE, "fprocess": "sh -c 'echo $PPID'", "replicas": 2 });
    let gateway = gateway(&[function]).start();
    let mut seen = [0, 0];
    let pids = dogs(&gateway, 2);
    for _ in 0..30 {
        let text = gateway.get(&path("")).text();
        let pid: u32 = text.trim().parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        seen[pids.iter().position(|dog| *dog == pid).expect("a dog")] += 1;
    }
    assert!(seen.iter().all(|count| *count >= 3), "{seen:?}");
}

#[test]
fn processes_get_their_environment_and_directory() {
    let directory = tempfile::tempdir().unwrap();
    let functions = [
        json!({ "name": "env", "fprocess": "env", "environment": { "mine": "a b", "write_debug": "false" } }),
        json!({ "name": "pwd", "fprocess": "pwd", "directory": directory.path() }),
    ];
    let gateway = gateway(&functions).env("upstream_timeout", "33s");
    let gateway = gateway.env("API_PASSWORD", "secret").env("TZ", "UTC").start();
    let env = gateway.get("/function/env/below?q=1").text();
    let has = |line: &str| env.lines().any(|have| have == line);
    assert!(has("mine=a b") && has("TZ=UTC") && !env.contains("secret"), "{env}");
    assert!(has("Http_Method=GET") && has("Http_Path=/below") && has("Http_Query=q=1"), "{env}");
    assert!(env.lines().any(|line| line.starts_with("Http_X_Call_Id=")), "{env}");
    for own in ["port=", "functions_file=", "provider=", "upstream_timeout=", "LISTEN_"] {
        assert!(!env.lines().any(|line| line.starts_with(own)), "{own} in {env}");
    }
    let pwd = gateway.get("/function/pwd").text();
    assert_eq!(pwd.trim(), directory.path().canonicalize().unwrap().display().to_string());
}

#[test]
fn a_functions_own_error_is_passed_on() {
    let functions = [process(ONE, &program("exits 3 oops")), process("gone", "/does/not/exist")];
    let gateway = gateway(&functions).start();
    let reply = gateway.get(&path(""));
    assert_eq!((reply.status, reply.text().as_str()), (500, "oops"));
    assert_eq!((reply.header("x-exit-code"), reply.header("x-gateway-error")), (Some("3"), None));
    let reply = gateway.get("/function/gone");
    assert_eq!((reply.status, reply.header("x-gateway-error")), (500, None));
    assert!(reply.text().contains("/does/not/exist"), "{}", reply.text());
}

#[test]
fn a_timeout_ends_the_process_too() {
    let gateway = gateway(&[process(ONE, &program("spawns_grandchild"))]).start();
    let reply = gateway.request().path(path("")).header("X-Timeout", "400ms").send().unwrap();
    assert_eq!(reply.status, 504, "{}", reply.text());
    eventually(SOON, || match gateway.descendants().len() {
        1 => Ok(()),
        count => Err(format!("{count} processes, not only fwatchdog")),
    });
}
