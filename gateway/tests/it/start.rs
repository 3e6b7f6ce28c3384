//! Settings, arguments, exit codes, health checks, and the choice of the provider.

use serde_json::json;
use testkit::unreachable::Refusing;
use testkit::{Bin, Gate, Peer, Script, proc};

use crate::{OK, ONE, SOON, before, gateway, is_own, path, process, raw, well};

/// Runs with `pairs`; expects exit code 2 and, after the log, one line with `parts`.
#[track_caller]
fn refused(pairs: &[(&str, &str)], parts: &[&str]) {
    let bin = Bin::gateway().env("provider", "local");
    is_refused(pairs.iter().fold(bin, |bin, (name, value)| bin.env(name, value)), parts);
}

#[track_caller]
fn is_refused(bin: Bin, parts: &[&str]) {
    let output = bin.run();
    assert_eq!(output.code(), 2, "{output:?}");
    let lines: Vec<&str> = output.stderr.lines().filter(|line| !line.contains(" info ")).collect();
    assert!(lines.len() == 1 && lines[0].starts_with("gateway: "), "{output:?}");
    assert!(parts.iter().all(|part| output.stderr.contains(part)), "{parts:?} in {output:?}");
}

#[test]
fn invalid_settings_end_the_start() {
    refused(&[("port", "http")], &["port", "http", "65535"]);
    refused(&[("port", "65536")], &["port", "65536"]);
    refused(&[("provider", "docker")], &["provider", "docker", "swarm", "local"]);
    refused(&[("require_label", "yes")], &["require_label", "yes", "true"]);
    refused(&[("basic_auth", "on")], &["basic_auth", "on", "true"]);
    for name in
        ["upstream_timeout", "connect_timeout", "header_timeout", "idle_timeout", "body_stall_timeout"]
    {
        refused(&[(name, "5 minutes")], &[name, "5 minutes", "1m30s"]);
        refused(&[(name, "0")], &[name, "more than zero"]);
    }
    refused(&[("listen", "localhost:80")], &["listen", "localhost:80", "[::]:8080"]);
    refused(&[("admin_listen", "8081")], &["admin_listen", "8081", "10.1.0.0/16:8080"]);
    refused(&[("trusted_hosts", "faas.lan:80")], &["trusted_hosts", "faas.lan:80", "without a port"]);
    refused(&[("drain_timeout", "-1s")], &["drain_timeout", "-1s"]);
    refused(&[("max_connections", "0")], &["max_connections", "0"]);
    refused(&[("max_workers", "many")], &["max_workers", "many"]);
    refused(&[("max_body", "1TB")], &["max_body", "1TB"]);
    refused(&[("max_header_bytes", "10")], &["max_header_bytes", "10"]);
    refused(&[("max_headers", "100000")], &["max_headers", "100000"]);
    refused(&[("log", "loud")], &["log", "loud", "debug"]);
    refused(&[("provider", "swarm"), ("DOCKER_HOST", "ftp://x")], &["DOCKER_HOST", "ftp://x"]);
    refused(&[("provider", "swarm"), ("functions_file", "x")], &["functions_file", "provider=swarm"]);
    refused(&[("provider", "local"), ("functions_network", "x")], &["functions_network", "provider=local"]);
    refused(&[("state_dir", "/dev/null")], &["state_dir", "expected a directory", "/dev/null"]);
}

#[test]
fn a_broken_functions_file_ends_the_start() {
    refused(&[("functions_file", "/does/not/exist.json")], &["functions_file", "/does/not/exist.json"]);
    for (functions, parts) in [
        (json!({ "functions": [{ "name": "a", "fprocess": 5 }] }), ["functions.json", "`a`", "`fprocess`"]),
        (json!({ "functions": [{ "name": "a", "adress": "x:1" }] }), ["functions.json", "`a`", "`adress`"]),
        (json!({ "functions": [{ "name": "a" }] }), ["functions.json", "`a`", "`fprocess`"]),
        (
            json!({ "functions": [{ "name": "a", "fprocess": "cat", "environment": { "port": "99" } }] }),
            ["functions.json", "`a`", "`environment.port`: is set by the gateway"],
        ),
        (
            json!({ "functions": [{ "name": "a", "fprocess": "cat", "labels": { "faas.concurency": "1" } }] }),
            ["functions.json", "`a`", "`labels.faas.concurency`: is unknown: expected one of function, com"],
        ),
        (json!({ "functions": {} }), ["functions.json", "functions", "list"]),
    ] {
        let bin = Bin::gateway().env("provider", "local");
        let file = bin.file("functions.json", functions.to_string());
        is_refused(bin.env("functions_file", file), &parts);
    }
}

#[test]
fn a_reader_may_close_the_help_early() {
    // The reader is gone before the first byte, as with `| head -n 0`.
    let script = "exec 1> >(true); wait $!; exec \"$0\" --help";
    let output = Bin::at("bash").arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_gateway")).run();
    assert_eq!((output.code(), &*output.stderr), (0, ""));
}

#[test]
fn help_lists_the_settings_and_unknown_arguments_are_refused() {
    let version = Bin::gateway().arg("--version").run();
    let want = concat!("gateway ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!((version.code(), version.stdout.as_str(), version.stderr.as_str()), (0, want, ""));
    let help = Bin::gateway().arg("--help").run();
    assert_eq!(help.code(), 0);
    for (name, default) in [
        ("port", "8080"),
        ("listen", ""),
        ("admin_listen", ""),
        ("provider", "auto"),
        ("functions_file", ""),
        ("require_label", "false"),
        ("functions_network", ""),
        ("state_dir", ""),
        ("basic_auth", "false"),
        ("metrics_auth", "false"),
        ("trusted_hosts", ""),
        ("secret_mount_path", "/run/secrets"),
        ("upstream_timeout", "60s"),
        ("connect_timeout", "2s"),
        ("header_timeout", "10s"),
        ("idle_timeout", "75s"),
        ("body_stall_timeout", "30s"),
        ("max_connections", ""),
        ("max_workers", "512"),
        ("max_body", "0"),
        ("max_header_bytes", "64KiB"),
        ("max_headers", "128"),
        ("drain_timeout", "8s"),
        ("log", "info"),
        ("DOCKER_HOST", "unix:///var/run/docker.sock"),
    ] {
        let line = help.stdout.lines().find(|line| line.split_whitespace().next() == Some(name));
        assert!(line.is_some_and(|line| line.contains(default)), "{name} [{default}] in {}", help.stdout);
    }
    assert!(help.stdout.contains("--healthcheck") && help.stdout.contains("--version"));
    let unknown = Bin::gateway().arg("--port=80").run();
    assert_eq!((unknown.code(), unknown.stderr.lines().count()), (2, 1), "{unknown:?}");
    assert!(unknown.stderr.contains("--port=80"), "{unknown:?}");
}

#[test]
fn the_last_line_of_the_start_tells_the_port() {
    let one = gateway(&[]).start();
    let two = gateway(&[]).start();
    assert!(one.addr().port() != 0 && one.addr() != two.addr());
    let log = one.log();
    let last = log.lines().last().unwrap();
    let want = format!("listening on [::]:{}", one.addr().port());
    assert!(last.ends_with(&want) || last.ends_with(&want.replace("[::]", "0.0.0.0")), "{log}");
    assert!(log.contains("upstream_timeout=60s"), "the settings in effect are logged: {log}");
}

#[test]
fn a_port_in_use_ends_the_start() {
    let first = gateway(&[]).start();
    let output = gateway(&[]).env("port", first.addr().port().to_string()).run();
    assert_eq!(output.code(), 1, "{output:?}");
    assert!(output.stderr.contains(&first.addr().port().to_string()), "{output:?}");
}

#[test]
fn the_health_check_answers_by_its_exit_code() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().request().wait(&gate).send(OK));
    let gateway = before(&peer).env("drain_timeout", "60s").start();
    let check = |port: u16| Bin::gateway().env("port", port.to_string()).arg("--healthcheck").run();
    let output = check(gateway.addr().port());
    assert_eq!((output.code(), output.stdout.as_str(), output.stderr.as_str()), (0, "", ""));
    let free = Refusing::new();
    let output = check(free.addr().port());
    assert_eq!((output.code(), output.stderr.lines().count()), (1, 1), "{output:?}");
    // A gateway that is draining is not healthy.
    let mut running = gateway.connect();
    running.send(raw("GET", "", "")).unwrap();
    peer.wait_requests(1, SOON);
    gateway.signal(proc::SIGTERM);
    gateway.wait_log("draining", SOON);
    let output = check(gateway.addr().port());
    assert!(output.code() == 1 && output.stderr.contains("503"), "{output:?}");
    gate.open();
    assert_eq!(running.within(SOON).reply("GET").unwrap().status, 200);
}

#[test]
fn the_gateway_waits_for_an_unreachable_swarm() {
    let refusing = Refusing::new();
    for host in ["unix:///does/not/exist.sock".to_owned(), format!("tcp://{}", refusing.addr())] {
        let gateway = Bin::gateway().env("provider", "swarm").env("DOCKER_HOST", &host).start();
        let health = gateway.get("/healthz");
        assert_eq!(health.status, 200);
        let text = health.text();
        assert!(text.starts_with("degraded: ") && text.lines().count() == 1, "{text}");
        is_own(&gateway.get(&path("")), (503, "provider_down"), &["DOCKER_HOST"]);
        assert_eq!(gateway.metrics("/metrics").value("gateway_provider_up", &[]), Some(0.0));
        let check = Bin::gateway().env("port", gateway.addr().port().to_string()).arg("--healthcheck").run();
        assert_eq!(check.code(), 0, "it serves what it knows");
        gateway.signal(proc::SIGTERM);
        assert_eq!(gateway.wait(SOON).code(), Some(0));
    }
}

#[test]
fn auto_with_a_functions_file_chooses_local() {
    let gateway = gateway(&[process(ONE, "cat")]).env("provider", "auto").start();
    let log = gateway.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("using provider=local: ")).collect();
    assert!(lines.len() == 1 && lines[0].contains("functions_file"), "{log}");
    assert_eq!(gateway.post(&path(""), "hello").text(), "hello");
    assert_eq!(gateway.get("/healthz").text(), "ok\n");
}

#[test]
fn provider_swarm_waits_for_the_swarm_and_never_falls_back() {
    let missing = "unix:///does/not/exist.sock";
    let bin = || gateway(&[process(ONE, "cat")]).env("provider", "auto");
    for (bin, why) in [
        (bin().env("DOCKER_HOST", missing), "DOCKER_HOST is set"),
        (bin().env("DOCKER_HOST", missing).env("functions_network", "functions"), "functions_network is set"),
        (Bin::gateway().env("DOCKER_HOST", missing), "DOCKER_HOST is set"),
    ] {
        let gateway = bin.start();
        is_own(&gateway.get(&path("")), (503, "provider_down"), &["DOCKER_HOST", "/does/not/exist.sock"]);
        assert!(gateway.get("/healthz").text().starts_with("degraded: "));
        assert!(gateway.log().contains(&format!("using provider=swarm: {why}")), "{}", gateway.log());
    }
}

#[test]
fn the_gateway_starts_without_functions() {
    let gateway = Bin::gateway().env("provider", "local").start();
    is_own(&gateway.get(&path("")), (404, "unknown_function"), &[]);
    assert_eq!(gateway.get("/healthz").text(), "ok\n");
}

#[test]
fn max_connections_bounds_the_connections() {
    let peer = well();
    let gateway = before(&peer).env("max_connections", "10").start();
    let held = testkit::floods::open_connections(gateway.addr(), 30);
    crate::is_well(&gateway);
    testkit::eventually(SOON, || match held.open() {
        count if count <= 10 => Ok(()),
        count => Err(format!("{count} are open")),
    });
}

#[test]
fn without_proc_the_log_says_so_once_and_calls_are_served() {
    let peer = well();
    let bin = before(&peer).in_namespaces("mount -t tmpfs none /proc && exec \"$1\"");
    let Some(bin) = bin else { return };
    let gateway = bin.start();
    crate::is_well(&gateway);
    assert_eq!(gateway.log().matches("no /proc").count(), 1, "{}", gateway.log());
    assert_eq!(gateway.get("/metrics").status, 200);
}
