//! The request as the process gets it, and the answer as the caller gets it.

use testkit::http::Client;
use testkit::metrics::Metrics;
use testkit::{Bin, Reply, eventually};

use crate::{SOON, counts, dog, shell};

/// The value of a variable that `echo_env` printed.
fn variable<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

#[test]
fn every_method_starts_a_process_and_its_body_goes_through() {
    let dog = Bin::fwatchdog().env("fprocess", "cat").start();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
        let reply = dog.request().method(method).body("a body").send().unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "a body"), "{method}");
        assert_eq!(reply.header("content-length"), Some("6"));
    }
    let reply = dog.request().method("HEAD").body("a body").send().unwrap();
    assert_eq!((reply.status, reply.body.len(), reply.header("content-length")), (200, 0, Some("6")));
    counts(&dog, "200", 8.0);
    let metrics = dog.metrics("/_/metrics");
    let count = |method| metrics.value("http_requests_total", &[("code", "200"), ("method", method)]);
    assert_eq!([count("GET"), count("HEAD"), count("other")], [Some(1.0); 3]);
}

#[test]
fn the_head_becomes_variables() {
    let dog = dog("echo_env").env("own", "mine").start();
    let reply = dog
        .request()
        .method("PUT")
        .path("/a%20b/c/..?x=1&y=%00?")
        .header("Host", "example:99")
        .header("X-one-Two", "1")
        .header("accept", "a/b")
        .header("Accept", "c/d")
        .header("Proxy", "http://evil:1")
        .header("X-Binary", b"\xe4")
        .body("12345")
        .send()
        .unwrap();
    let text = reply.text();
    for (name, want) in [
        ("Http_Method", "PUT"),
        ("Http_Path", "/a%20b/c/.."),
        ("Http_Query", "x=1&y=%00?"),
        ("Http_ContentLength", "5"),
        ("Http_Content_Length", "5"),
        ("Http_Host", "example:99"),
        ("Http_X_One_Two", "1"),
        ("Http_Accept", "a/b, c/d"),
        ("own", "mine"),
    ] {
        assert_eq!(variable(&text, name), Some(want), "{name} in {text}");
    }
    assert_eq!(variable(&text, "Http_Proxy"), None, "httpoxy");
}

#[test]
fn an_unknown_length_and_an_absent_query_are_told() {
    let dog = dog("echo_env").start();
    let chunked = dog.request().method("POST").chunks([b"abc".to_vec()]).send().unwrap().text();
    assert_eq!(variable(&chunked, "Http_ContentLength"), Some("-1"));
    assert_eq!(variable(&chunked, "Http_Content_Length"), Some("-1"));
    let plain = dog.get("/").text();
    assert_eq!(variable(&plain, "Http_Query"), None);
    assert_eq!(variable(&plain, "Http_ContentLength"), Some("0"));
}

#[test]
fn the_head_can_be_kept_from_the_process() {
    let dog = dog("echo_env").env("cgi_headers", "false").start();
    let text = dog.get("/x?y").text();
    assert!(!text.contains("Http_"), "{text}");
    assert!(variable(&text, "fprocess").is_some(), "its own environment stays: {text}");
}

#[test]
fn arguments_are_split_as_in_a_shell() {
    let line = r#"arguments one 'two  three' "four \"five\"" six\ seven '' $HOME *"#;
    let reply = dog(line).start().get("/");
    assert_eq!(reply.text(), "one\ntwo  three\nfour \"five\"\nsix seven\n\n$HOME\n*\n");
}

#[test]
fn the_content_type_is_the_settings_then_the_requests() {
    let kind = |reply: &Reply| reply.header("content-type").unwrap().to_owned();
    let plain = Bin::fwatchdog().env("fprocess", "cat").start();
    assert_eq!(kind(&plain.get("/")), "application/octet-stream");
    let request = plain.request().method("POST").header("Content-Type", "text/csv; x=1").body("a");
    assert_eq!(kind(&request.send().unwrap()), "text/csv; x=1");
    let set = Bin::fwatchdog().env("fprocess", "cat").env("content_type", "image/png").start();
    let request = set.request().method("POST").header("Content-Type", "text/csv").body("a");
    assert_eq!(kind(&request.send().unwrap()), "image/png");
}

#[test]
fn stdout_is_the_answer_and_stderr_the_log() {
    let dog = shell("echo out; echo err one >&2; printf \"err two\" >&2; echo out").start();
    let reply = dog.request().header("X-Call-Id", "call-77").send().unwrap();
    assert_eq!(reply.text(), "out\nout\n");
    let log = dog.wait_log("err two", SOON);
    for line in [" info call=call-77 err one\n", " info call=call-77 err two\n"] {
        assert!(log.contains(line), "{log}");
    }
    // A call without an id gets a new one.
    dog.get("/");
    let log = dog.wait_log("err two", SOON);
    let made = log.lines().filter(|line| line.contains("err one") && !line.contains("call-77"));
    let ids: Vec<&str> = made.filter_map(|line| line.split("call=").nth(1)?.split(' ').next()).collect();
    assert!(ids.len() == 1 && ids[0].len() == 16, "{log}");
}

#[test]
fn a_log_line_cannot_be_forged_or_endless() {
    let dog =
        shell("printf \"a\\033[31mb\\rc\\n\" >&2; head -c 20000 /dev/zero | tr \"\\\\0\" x >&2").start();
    assert_eq!(dog.get("/").status, 200);
    let log = dog.wait_log("xxx", SOON);
    // A carriage return ends a line, and the next line begins like every other.
    let lines: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once("call=")?.1.split_once(' '))
        .map(|line| line.1)
        .collect();
    assert_eq!(lines[..2], ["a\\u{1b}[31mb", "c"], "{log}");
    assert!(log.lines().all(|line| line.len() <= 4096));
    assert_eq!(log.bytes().filter(|byte| *byte == b'x').count(), 20_000);
}

#[test]
fn combine_output_puts_stderr_into_the_answer_in_order() {
    let dog = shell("echo 1; echo 2 >&2; echo 3; echo 4 >&2").env("combine_output", "true").start();
    assert_eq!(dog.get("/").text(), "1\n2\n3\n4\n");
    assert!(!dog.log().contains("call="), "{}", dog.log());
}

#[test]
fn connections_are_kept() {
    let dog = Bin::fwatchdog().env("fprocess", "cat").start();
    let mut client = Client::new(dog.addr());
    for number in 0..5 {
        let reply = client.request().method("POST").body(format!("body {number}")).send().unwrap();
        assert_eq!(reply.text(), format!("body {number}"));
    }
    assert_eq!(client.opened(), 1);
}

#[test]
fn only_the_own_routes_are_answered_without_a_process() {
    let dog = shell("echo function").start();
    assert_eq!(dog.get("/_/health").text(), "OK");
    assert_eq!(dog.get("/_/ready").text(), "OK");
    assert_eq!(dog.request().method("HEAD").path("/_/health").send().unwrap().status, 200);
    for path in ["/_/other", "/_/health/", "/health", "/"] {
        assert_eq!(dog.get(path).text(), "function\n", "{path}");
    }
    assert_eq!(dog.post("/_/health", "x").text(), "function\n");
    counts(&dog, "200", 5.0);
}

#[test]
fn metrics_are_complete() {
    let dog = Bin::fwatchdog().env("fprocess", "cat").start();
    dog.post("/", "x");
    dog.get("/");
    counts(&dog, "200", 2.0);
    let reply = dog.get("/_/metrics");
    assert!(reply.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let metrics = dog.metrics("/_/metrics");
    assert_eq!(metrics.value("http_requests_total", &[("code", "200"), ("method", "POST")]), Some(1.0));
    // A request is counted by its code, then by its time, then leaves those in flight.
    let is_over = |metrics: &Metrics| metrics.value("http_requests_in_flight", &[]) == Some(0.0);
    let metrics = eventually(SOON, || match dog.metrics("/_/metrics") {
        now if is_over(&now) => Ok(now),
        _ => Err(format!("in flight after {metrics:?}")),
    });
    assert_eq!(metrics.value("http_request_duration_seconds_count", &[]), Some(2.0));
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
        "process_threads",
    ] {
        assert!(metrics.value(name, &[]).is_some(), "{name}");
    }
}

#[test]
fn old_clients_are_served() {
    let dog = Bin::fwatchdog().env("fprocess", "cat").start();
    let reply = dog.request().http10().method("POST").body("old").send().unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "old"));
    let expecting = dog.request().method("POST").header("Expect", "100-continue").body("new").send().unwrap();
    assert_eq!((expecting.status, expecting.text().as_str()), (200, "new"));
}

#[test]
fn requests_are_logged_only_when_asked_for() {
    for (write_debug, want) in [("false", false), ("true", true)] {
        let dog = Bin::fwatchdog().env("fprocess", "cat").env("write_debug", write_debug).start();
        let reply = dog.request().method("POST").header("X-Call-Id", "c1").body("secret").send().unwrap();
        assert_eq!(reply.status, 200);
        counts(&dog, "200", 1.0);
        let log = dog.log();
        assert_eq!(log.contains("debug call=c1 POST answered 200 after "), want, "{log}");
        assert!(!log.contains("secret"), "bodies are never logged: {log}");
    }
}

#[test]
fn clients_that_speak_tls_are_answered_and_told_once_in_the_log() {
    let dog = Bin::fwatchdog().env("fprocess", "cat").start();
    for _ in 0..3 {
        let mut connection = dog.connect();
        connection.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
        let reply = connection.within(SOON).reply("GET").unwrap();
        assert_eq!(
            (reply.status, reply.text().as_str()),
            (400, "TLS is not spoken on this port, only plain HTTP\n")
        );
    }
    let log = dog.wait_log("speaks TLS", SOON);
    assert_eq!(dog.log().matches("speaks TLS").count(), 1, "{log:?}");
}

/// A process gets the head in its environment, which is small where the stack is small (execve(2)).
#[test]
fn a_head_too_large_for_an_environment_is_431_and_logged() {
    let fields = |size: usize| {
        let field = |number| format!("F-{number}: {}\r\n", "x".repeat(size));
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n",
            (1..=4).map(field).collect::<String>()
        )
    };
    let answer = |dog: &testkit::Running, size| {
        let mut connection = dog.connect();
        connection.send(fields(size)).unwrap();
        connection.within(SOON).reply("GET").unwrap()
    };
    let small_stack = |bin: Bin| bin.env("fprocess", "cat").limit('s', 256).start(); // room for 128 KiB
    let dog = small_stack(Bin::fwatchdog());
    assert_eq!(answer(&dog, 20_000).status, 200);
    let reply = answer(&dog, 32_700);
    assert_eq!(reply.status, 431);
    assert!(reply.text().contains("cgi_headers") && reply.text().contains("`cat`"), "{}", reply.text());
    dog.wait_log("cgi_headers", SOON);
    let dog = small_stack(Bin::fwatchdog().env("cgi_headers", "false"));
    assert_eq!(answer(&dog, 32_700).status, 200);
}
