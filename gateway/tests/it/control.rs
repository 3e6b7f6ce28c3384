//! The control plane: what it shows and changes, who may use it, and that its failures do not touch calls.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::http::{self, Connection};
use testkit::{Bin, Peer, Reply, Running, Script, eventually, proc};

use crate::{
    OK, ONE, SOON, at, becomes, before, dogs, gateway, is_own, is_well, path, process, rejected, well,
};

/// A little longer than the edge waits for the control plane.
const HANG_TIME: Duration = Duration::from_secs(40);

/// The answer while the control plane is being restarted.
const DOWN: (u16, &str) = (503, "control_down");

/// The function [`ONE`], run by the gateway, with these labels.
fn labelled(labels: Value) -> Value {
    let mut function = process(ONE, "cat");
    function["labels"] = labels;
    function
}

#[track_caller]
fn is_json(reply: &Reply, status: u16) -> Value {
    let text = reply.text();
    assert_eq!((reply.status, reply.header("content-type")), (status, Some("application/json")), "{text}");
    assert_eq!((reply.header("x-gateway-error"), reply.header("server")), (None, None), "{text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[track_caller]
fn get(gateway: &Running, path: &str) -> Value {
    is_json(&gateway.get(path), 200)
}

#[track_caller]
fn is_up(gateway: &Running) {
    eventually(SOON, || match gateway.get("/system/info") {
        reply if reply.status == 200 => Ok(()),
        reply => Err(reply.text()),
    });
}

fn scale(gateway: &Running, replicas: impl Into<Value>) -> Reply {
    let body = json!({ "serviceName": ONE, "replicas": replicas.into() });
    gateway.post(&format!("/system/scale-function/{ONE}"), body.to_string())
}

/// A gateway with a `state_dir` of its own, and the path of its socket.
fn with_state(bin: Bin) -> (Bin, PathBuf) {
    let state = bin.dir().join("state");
    (bin.env("state_dir", &state), state.join("control.sock"))
}

fn alert(status: &str, name: &str) -> Value {
    json!({ "status": status, "labels": { "alertname": "APIHighInvocationRate", "function_name": name } })
}

fn alerts(gateway: &Running, alerts: &[Value]) -> Reply {
    let body = json!({ "receiver": "scale-up", "status": "firing", "alerts": alerts, "version": "4" });
    gateway.post("/system/alert", body.to_string())
}

#[test]
fn functions_are_listed_with_their_state() {
    let peer = well();
    let labels = json!({ "com.openfaas.scale.max": "4", "com.openfaas.annotations.topic": "a b", "own": "" });
    let mut run = labelled(labels);
    run["name"] = "run".into();
    run["replicas"] = 2.into();
    let gateway = gateway(&[run, at(ONE, &[peer.addr()])]).start();
    for _ in 0..3 {
        is_well(&gateway);
    }
    let one = json!({
        "name": ONE, "image": "", "replicas": 1, "availableReplicas": 1, "invocationCount": 3,
        "envProcess": "", "labels": {}, "annotations": {},
    });
    // A call is counted after its answer is sent.
    eventually(SOON, || match get(&gateway, &format!("/system/function/{ONE}")) {
        got if got == one => Ok(()),
        got => Err(got.to_string()),
    });
    let run = json!({
        "name": "run", "image": "", "replicas": 2, "availableReplicas": 2, "invocationCount": 0,
        "envProcess": "cat", "labels": { "com.openfaas.scale.max": "4", "own": "" },
        "annotations": { "topic": "a b" },
    });
    eventually(SOON, || match get(&gateway, "/system/functions?any=thing") {
        got if got == json!([one, run]) => Ok(()),
        got => Err(got.to_string()),
    });
    let info = json!({
        "provider": { "name": "local", "orchestration": "local" },
        "version": { "release": env!("CARGO_PKG_VERSION") },
        "arch": std::env::consts::ARCH,
    });
    assert_eq!(get(&gateway, "/system/info"), info);
    assert_eq!(get(&crate::gateway(&[]).start(), "/system/functions"), json!([]));
}

#[test]
fn each_route_accepts_only_its_methods() {
    let peer = well();
    let gateway = before(&peer).start();
    let one = format!("/system/function/{ONE}");
    let send = |method: &str, path: &str| gateway.request().method(method).path(path).send().unwrap();
    for path in ["/system/functions", "/system/info", &one] {
        let (get, head) = (send("GET", path), send("HEAD", path));
        assert_eq!((get.status, head.status, head.body.len()), (200, 200, 0), "{path}");
        assert_eq!(get.header("content-length"), head.header("content-length"), "{path}");
        for method in ["POST", "DELETE", "OPTIONS", "M-SEARCH"] {
            let reply = send(method, path);
            is_own(&reply, (405, "method_not_allowed"), &["GET, HEAD"]);
            assert_eq!(reply.header("allow"), Some("GET, HEAD"));
        }
    }
    for path in ["/system/alert", "/system/scale-function/one"] {
        let reply = send("GET", path);
        is_own(&reply, (405, "method_not_allowed"), &["POST"]);
        assert_eq!(reply.header("allow"), Some("POST"));
    }
    for path in ["/system", "/system/", "/system/functions/", "/system/x", "/system/info/x", "/system//info"]
    {
        is_own(&send("GET", path), (404, "no_route"), &["/system has functions"]);
    }
    for path in ["/ui", "/ui/", "/ui/any/path"] {
        is_own(&send("GET", path), (404, "no_route"), &["user interface"]);
    }
    is_own(&send("GET", "/system/function/two"), (404, "unknown_function"), &["`two`"]);
    is_own(&send("GET", "/system/function/a b".replace(' ', "%20").as_str()), (404, "unknown_function"), &[]);
    // The edge refuses paths that tiny_http cannot read.
    let reply = gateway.request().path(b"/system/\xc3\xa4").send().unwrap();
    is_own(&reply, (404, "no_route"), &[]);
    assert_eq!(gateway.get(&format!("http://any.test{one}")).status, 200);
    is_own(&gateway.post("/async-function/one", ""), (501, "not_available"), &["asynchronous"]);
    assert_eq!(peer.connections(), 0);
}

#[test]
fn unusual_headers_do_not_reach_the_control_plane() {
    let gateway = gateway(&[]).start();
    let request = gateway.request().path("/system/info").header("X-Odd", b"\xff\xfe");
    let request =
        request.header("Upgrade", "websocket").header("Connection", "upgrade").header("TE", "chunked");
    let reply =
        request.header("Expect", "100-continue").header("Authorization", "Basic eDp5").send().unwrap();
    is_json(&reply, 200);
}

#[test]
fn a_scale_request_starts_and_stops_replicas() {
    let gateway = gateway(&[labelled(json!({ "com.openfaas.scale.max": "4" }))]).start();
    dogs(&gateway, 1);
    for replicas in [3, 1, 4, 0, 2] {
        let want = json!({ "name": ONE, "replicas": replicas });
        assert_eq!(is_json(&scale(&gateway, replicas), 202), want);
        becomes(&gateway, "gateway_service_count", f64::from(replicas));
        becomes(&gateway, "gateway_service_ready", f64::from(replicas));
        dogs(&gateway, replicas as usize);
    }
    is_well(&gateway);
    let log = gateway.log();
    for line in ["from 1 to 3", "from 3 to 1", "from 1 to 4", "from 4 to 0", "from 0 to 2"] {
        let line = format!("function `one` scaled {line} by scale-function (user -, client 127.0.0.1)");
        assert!(log.contains(&line), "{line}: {log}");
    }
}

#[test]
fn a_refused_scale_request_tells_its_reason() {
    let peer = well();
    let functions = [labelled(json!({ "com.openfaas.scale.max": "4" })), at("fixed", &[peer.addr()])];
    let gateway = gateway(&functions).start();
    for replicas in [json!(5), json!(1u64 << 40)] {
        let reply = scale(&gateway, replicas);
        is_own(&reply, (400, "too_many_replicas"), &["from 0 to 4", "com.openfaas.scale.max", "`one`"]);
    }
    for replicas in [json!(-1), json!("2"), json!(1.5), json!(null)] {
        let told = replicas.to_string();
        is_own(&scale(&gateway, replicas), (400, "bad_request"), &["replicas", "from 0 to 4", &told]);
    }
    let post = |name: &str, body: &str| gateway.post(&format!("/system/scale-function/{name}"), body);
    for body in ["", "{", "[]", "2", "\u{e4}", "{\"serviceName\": \"two\", \"replicas\": 1}"] {
        is_own(&post(ONE, body), (400, "bad_request"), &["expected"]);
    }
    is_own(&post("two", "{\"replicas\": 1}"), (404, "unknown_function"), &["`two`"]);
    is_own(&post("fixed", "{\"replicas\": 1}"), (409, "not_scalable"), &["`fixed`", "address"]);
    becomes(&gateway, "gateway_service_count", 1.0);
}

#[test]
fn alerts_scale_by_a_step_up_to_the_maximum() {
    let labels = json!({ "com.openfaas.scale.max": "4", "com.openfaas.scale.factor": "50" });
    let mut still = process("still", "cat");
    still["labels"] = json!({ "com.openfaas.scale.factor": "0" });
    let gateway = gateway(&[labelled(labels), still]).start();
    let firing = [alert("firing", "nobody"), alert("firing", ONE), alert("firing", "still")];
    let reply = is_json(&alerts(&gateway, &firing), 200);
    assert_eq!(reply["scaled"], json!([{ "name": ONE, "from": 1, "to": 3 }]));
    let ignored = json!([
        { "name": "nobody", "reason": "no such function" },
        { "name": "still", "reason": "label com.openfaas.scale.factor is 0" },
    ]);
    assert_eq!((&reply["ignored"], &reply["failed"]), (&ignored, &json!([])));
    becomes(&gateway, "gateway_service_count", 3.0);
    let reply = is_json(&alerts(&gateway, &firing[1..2]), 200);
    assert_eq!(reply["scaled"], json!([{ "name": ONE, "from": 3, "to": 4 }]));
    becomes(&gateway, "gateway_service_count", 4.0);
    let reply = is_json(&alerts(&gateway, &[alert("firing", ONE), alert("resolved", ONE)]), 200);
    assert_eq!(reply["scaled"], json!([]));
    becomes(&gateway, "gateway_service_count", 4.0);
    assert!(gateway.log().contains("function `one` scaled from 1 to 3 by alert (user -, client 127.0.0.1)"));
    for body in ["", "{}", "{\"alerts\": [1]}", "{\"alerts\": \"\"}"] {
        is_own(&gateway.post("/system/alert", body), (400, "bad_request"), &["expected"]);
    }
}

/// Alertmanager repeats a firing alert.
#[test]
fn a_repeated_alert_keeps_its_replicas_and_adds_none() {
    let labels = json!({ "com.openfaas.scale.max": "15" });
    let gateway = gateway(&[labelled(labels)]).start();
    let since = |status: &str, since: &str| {
        let mut alert = alert(status, ONE);
        alert["startsAt"] = since.into();
        alert
    };
    let (early, late) = ("2026-11-30T10:00:00Z", "2026-11-30T10:05:00Z");
    let reply = is_json(&alerts(&gateway, &[since("firing", early)]), 200);
    assert_eq!(reply["scaled"], json!([{ "name": ONE, "from": 1, "to": 4 }]));
    becomes(&gateway, "gateway_service_count", 4.0);
    let kept = json!([{ "name": ONE, "reason": "it goes on firing, 4 replicas are kept" }]);
    for _ in 0..3 {
        let reply = is_json(&alerts(&gateway, &[since("firing", early)]), 200);
        assert_eq!((&reply["scaled"], &reply["ignored"]), (&json!([]), &kept));
    }
    // After a scale request for fewer replicas the alert still counts.
    let fewer = gateway.post(&format!("/system/scale-function/{ONE}"), "{\"replicas\": 2}");
    assert_eq!(fewer.status, 202, "{}", fewer.text());
    gateway.wait_log("function `one`: from 2 to 4 replicas", SOON);
    becomes(&gateway, "gateway_service_count", 4.0);
    let reply = is_json(&alerts(&gateway, &[since("firing", early), since("firing", late)]), 200);
    assert_eq!(reply["scaled"], json!([{ "name": ONE, "from": 4, "to": 7 }]));
    becomes(&gateway, "gateway_service_count", 7.0);
    alerts(&gateway, &[since("resolved", early), since("resolved", late)]);
    let reply = is_json(&alerts(&gateway, &[since("firing", early)]), 200);
    assert_eq!(reply["scaled"], json!([{ "name": ONE, "from": 7, "to": 10 }]), "it was over");
}

/// Writes the password `pa:ss` of the user `admin` into files.
pub(crate) fn secrets(bin: Bin) -> Bin {
    bin.file("basic-auth-user", "admin\n");
    bin.file("basic-auth-password", "pa:ss\n");
    let folder = bin.dir().to_owned();
    bin.env("basic_auth", "true").env("secret_mount_path", folder)
}

#[test]
fn basic_auth_guards_only_the_control_plane() {
    let peer = well();
    let gateway = secrets(before(&peer)).start();
    let with =
        |path: &str, value: &str| gateway.request().path(path).header("Authorization", value).send().unwrap();
    let right = "Basic YWRtaW46cGE6c3M=";
    for path in ["/system/functions", "/system/info", "/system/x", "/ui/", "/ui"] {
        for reply in [gateway.get(path), with(path, "Basic YWRtaW46cGE6cw=="), with(path, "Basic x")] {
            is_own(&reply, (401, "unauthorized"), &["basic_auth"]);
            assert_eq!(reply.header("www-authenticate"), Some("Basic realm=\"faas\""));
        }
        assert_ne!(with(path, right).status, 401, "{path}");
    }
    let reply = with("/system/info", &format!("Basic {}", "YWRtaW46cGE6c3M".repeat(4000)));
    is_own(&reply, (401, "unauthorized"), &[]);
    is_own(&with("/system/info", "Bearer YWRtaW46cGE6c3M="), (401, "unauthorized"), &[]);
    let reply = gateway.request().method("POST").path("/system/alert").body("x".repeat(100_000)).send();
    is_own(&reply.unwrap(), (401, "unauthorized"), &[]);
    is_json(&with("/system/info", right), 200);
    // Functions check passwords themselves.
    assert_eq!(with(&path(""), "Basic bm8=").status, 200);
    assert_eq!(peer.requests()[0].header("authorization"), Some("Basic bm8="));
    assert_eq!((gateway.get("/healthz").status, gateway.get("/metrics").status), (200, 200));
    assert_eq!(rejected(&gateway, "unauthorized"), 18.0);
    let log = gateway.log();
    assert!(!log.contains("pa:ss") && !log.contains("YWRtaW4"), "{log}");
}

#[test]
fn without_a_password_the_log_says_so_once() {
    let gateway = gateway(&[]).start();
    is_json(&gateway.get("/system/info"), 200);
    let log = gateway.log();
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(" warn ")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("basic_auth"), "{log}");
    assert!(log.lines().last().is_some_and(|line| line.contains("listening on")), "{log}");
}

#[test]
fn an_unreadable_password_ends_the_start() {
    let fails = |bin: Bin, part: &str| {
        let output = bin.run();
        assert_eq!(output.code(), 2, "{output:?}");
        let line = output.stderr.lines().last().unwrap_or_default();
        assert!(line.contains("secret_mount_path") && line.contains(part), "{output:?}");
    };
    let bin = || Bin::gateway().env("provider", "local").env("basic_auth", "1");
    fails(bin().env("secret_mount_path", "/does/not/exist"), "/does/not/exist/basic-auth-user");
    let empty = secrets(bin());
    empty.file("basic-auth-password", "\n");
    fails(empty, "basic-auth-password: expected a file that is not empty");
}

#[test]
fn bodies_are_bounded() {
    const LIMIT: usize = 1 << 20;
    let gateway = gateway(&[]).start();
    let body = |length: usize| {
        let start = "{\"alerts\": [], \"filler\": \"";
        format!("{start}{}\"}}", "x".repeat(length - start.len() - 2))
    };
    let chunked = |length: usize| {
        let chunks: Vec<_> = body(length).as_bytes().chunks(50_000).map(<[u8]>::to_vec).collect();
        gateway.request().method("POST").path("/system/alert").chunks(chunks).send().unwrap()
    };
    is_json(&gateway.post("/system/alert", body(LIMIT)), 200);
    is_json(&chunked(LIMIT), 200);
    is_own(&gateway.post("/system/alert", body(LIMIT + 1)), (413, "body_too_large"), &["1048576"]);
    is_own(&chunked(LIMIT + 1), (413, "body_too_large"), &["1048576"]);
    // A false length is refused as too large.
    let mut connection = gateway.connect();
    connection
        .send("POST /system/alert HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000000\r\n\r\n")
        .unwrap();
    is_own(&connection.within(SOON).reply("POST").unwrap(), (413, "body_too_large"), &[]);
    assert_eq!(rejected(&gateway, "body_too_large"), 3.0);
    is_json(&gateway.get("/system/info"), 200);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode()
        & 0o7777
}

#[test]
fn only_the_gateways_user_may_open_the_socket() {
    let (bin, socket) = with_state(secrets(gateway(&[process(ONE, "cat")])));
    let gateway = bin.start();
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
    // The socket needs no password.
    let info = http::request(&*socket).path("/system/info").send().unwrap();
    assert_eq!(info.status, 200, "{}", info.text());
    let request = http::request(&*socket).method("POST").path("/system/scale-function/one");
    assert_eq!(request.body("{\"replicas\": 2}").send().unwrap().status, 202);
    becomes(&gateway, "gateway_service_ready", 2.0);
    let line = "scaled from 1 to 2 by scale-function (user -, client control.sock)";
    assert!(gateway.log().contains(line), "{}", gateway.log());
    gateway.signal(proc::SIGTERM);
    assert_eq!(gateway.wait(SOON).code(), Some(0));
    assert!(!socket.exists() && socket.parent().unwrap().is_dir());
}

#[test]
fn without_a_state_dir_the_socket_is_removed_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let entries =
        || fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let gateway = gateway(&[]).env("TMPDIR", folder.path()).start();
    let found = entries();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((mode(&found[0]), mode(&found[0].join("control.sock"))), (0o700, 0o600));
    gateway.signal(proc::SIGTERM);
    assert_eq!(gateway.wait(SOON).code(), Some(0));
    assert_eq!(entries(), Vec::<PathBuf>::new());
}

#[test]
fn a_dead_gateways_socket_is_replaced_and_a_live_gateways_is_kept() {
    let state = tempfile::tempdir().unwrap();
    let start = || gateway(&[]).env("state_dir", state.path());
    let first = start().start();
    is_up(&first);
    let output = start().run();
    assert_eq!(output.code(), 2, "{output:?}");
    let line = output.stderr.lines().last().unwrap_or_default();
    assert!(line.contains("state_dir") && line.contains("another gateway"), "{output:?}");
    is_up(&first);
    first.signal(proc::SIGKILL);
    first.wait(SOON);
    assert!(state.path().join("control.sock").exists(), "nobody has removed it");
    is_up(&start().start());
}

#[test]
fn calls_go_on_without_the_control_socket() {
    let peer = well();
    let bin = before(&peer);
    let file = bin.file("file", "");
    let gateway = bin.env("state_dir", file.join("below")).start();
    let reply = gateway.get("/system/info");
    is_own(&reply, DOWN, &["state_dir", "file/below"]);
    is_well(&gateway);
    let log = gateway.log();
    assert_eq!(log.lines().filter(|line| line.contains("no control plane")).count(), 1, "{log}");
    // The socket is created as soon as that is possible.
    fs::remove_file(&file).unwrap();
    is_up(&gateway);
}

#[test]
fn a_removed_control_socket_is_made_again() {
    let peer = well();
    let (bin, socket) = with_state(before(&peer));
    let gateway = bin.start();
    fs::remove_file(&socket).unwrap();
    is_own(&gateway.get("/system/info"), DOWN, &["control plane"]);
    is_well(&gateway);
    is_up(&gateway);
    assert_eq!(mode(&socket), 0o600);
}

/// tiny_http would allocate that length, and the process would abort.
#[test]
fn a_false_content_length_at_the_socket_does_not_end_the_gateway() {
    let peer = well();
    let (bin, socket) = with_state(before(&peer));
    let gateway = bin.start();
    for head in [
        "POST /system/alert HTTP/1.1\r\nContent-Length: 1000000000000000\r\n\r\n",
        "POST /system/alert HTTP/1.1\r\nContent-Length: 1000000000000000\r\nExpect: 100-continue\r\n\r\n",
        "GET /system/info HTTP/1.1\r\nContent-Length: 9223372036854775807\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Length: 1000000000000000\r\nConnection: upgrade\r\n\r\n",
        "POST /system/alert HTTP/2.0\r\nContent-Length: 1000000000000000\r\n\r\n",
        "POST /system/alert HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffff\r\nx",
        "POST /system/alert HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nhalf",
        "POST /system/alert HTTP/1.1\r\nContent-Length: 10\r\n\r\nhalf",
        "GET /system/info HTTP/1.1\r\nX",
        "\u{0}\r\n\r\n",
    ] {
        let mut connection = Connection::open(&*socket).unwrap();
        connection.send(head).unwrap();
        if head.contains("1000000000000000") && head.contains("HTTP/1.1") {
            let reply = connection.within(SOON).reply("POST");
            assert!(reply.as_ref().is_ok_and(|reply| reply.status == 413), "{head}: {reply:?}");
        }
        drop(connection);
        is_well(&gateway);
        is_up(&gateway);
    }
    assert_eq!(gateway.try_status(), None);
}

#[test]
fn the_control_plane_comes_back_after_files_run_out() {
    let peer = well();
    let (bin, socket) = with_state(before(&peer));
    let gateway = bin.nofile(64).start();
    is_up(&gateway);
    let mut client = gateway.client();
    let mut call = || client.request().path(path("/well")).send().map(|reply| reply.status);
    assert_eq!(call().unwrap(), 200);
    // Each connection takes two files. The first one without a file ends tiny_http's accept thread.
    let mut held = Vec::new();
    eventually(SOON, || match Connection::open(&*socket) {
        Err(_) => Ok(()),
        Ok(connection) => {
            held.push(connection);
            Err(format!("{} connections are open", held.len()))
        }
    });
    assert_eq!(call().unwrap(), 200, "its connections are there");
    drop(held);
    eventually(HANG_TIME, || match gateway.request().path("/system/info").send() {
        Ok(reply) if reply.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    is_well(&gateway);
    let log = gateway.log();
    assert!(log.contains("control plane is gone") && !log.contains("stack backtrace"), "{log}");
}

#[test]
fn a_hung_control_plane_is_restarted_and_delays_no_call() {
    let peer = Peer::tcp(Script::new().request().send(OK).repeat());
    let (bin, socket) = with_state(before(&peer));
    // Half of the workers, two, may wait for the control plane.
    let gateway = bin.env("max_workers", "4").start();
    let hang = || {
        let mut connection = Connection::open(&*socket).unwrap();
        connection.send("POST /system/alert HTTP/1.1\r\nContent-Length: 2000\r\n\r\nhalf").unwrap();
        connection
    };
    let hanging = [hang(), hang(), hang()];
    // Requests are answered until the hanging ones occupy all threads.
    let mut last = eventually(SOON, || {
        let mut connection = Connection::open(&*socket).unwrap();
        connection.send("GET /system/info HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        match connection.within(Duration::from_secs(2)).reply("GET") {
            Err(_) => Ok(connection),
            Ok(reply) => Err(format!("answered with {}", reply.status)),
        }
    });
    // Any two of these three may wait.
    let mut waiting = [gateway.connect(), gateway.connect(), gateway.connect()];
    for connection in &mut waiting {
        connection.send("GET /system/info HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    for _ in 0..20 {
        is_well(&gateway);
    }
    let mut busy = 0;
    for connection in &mut waiting {
        let reply = connection.within(HANG_TIME).reply("GET").unwrap();
        if reply.status == 503 {
            busy += 1;
            is_own(&reply, (503, "control_busy"), &["2 requests"]);
        } else {
            is_own(&reply, (504, "control_timeout"), &["control plane", "15s"]);
        }
    }
    assert_eq!(busy, 1);
    is_up(&gateway);
    is_well(&gateway);
    drop(hanging);
    assert!(last.reply("GET").is_err(), "it went with the one that hung");
    let log = gateway.log();
    assert_eq!(log.matches("control plane hangs and is started again").count(), 1, "{log}");
}
