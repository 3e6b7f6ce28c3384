//! `cgi_response`, for programs that were written for a web server: the head of the answer, its length, and the variables
//! of RFC 3875.

use testkit::{Bin, Running, eventually, is_installed};

use crate::{SOON, counts, is_idle, no_zombies, shell};

fn cgi(script: &str) -> Bin {
    shell(script).env("cgi_response", "true")
}

/// Waits until the log has a line with each of `parts`.
#[track_caller]
fn logs(dog: &Running, parts: &[&str]) {
    eventually(SOON, || {
        let log = dog.log();
        let found = log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
        if found { Ok(()) } else { Err(format!("no line with {parts:?} in {log}")) }
    });
}

#[test]
fn no_header_can_be_taken_for_another_one() {
    let fields =
        [("X-User", "me"), ("X_User", "you"), ("X.User", "you"), ("X_Other", "1"), ("Content_Length", "9")];
    let others = [("Transfer_Encoding", "chunked"), ("Content_Type", "x/y"), ("Proxy", "evil")];
    for (underscores, user, other) in [("false", "me", ""), ("true", "me, you", "1")] {
        let bin = Bin::fwatchdog().env("fprocess", "env").env("underscores", underscores);
        let dog = bin.start();
        let request = dog.request().path("/");
        let add = |request: testkit::http::Request<'static>, (name, value)| request.header(name, value);
        let text = fields.into_iter().chain(others).fold(request, add).send().unwrap().text();
        let told = |name: &str| text.lines().find_map(|line| line.strip_prefix(&*format!("Http_{name}=")));
        assert_eq!((told("X_User"), told("X_Other").unwrap_or("")), (Some(user), other), "{text}");
        assert_eq!(
            (told("Content_Length"), told("Transfer_Encoding"), told("Proxy")),
            (Some("0"), None, None)
        );
        assert!(!text.contains("Http_X.user"), "{text}");
    }
}

#[test]
fn an_answer_without_a_body_has_no_invented_length_or_type() {
    let script = "echo \"Status: $Http_Query\"; echo; echo";
    for mode in ["fork", "streaming"] {
        let dog = cgi(script).env("mode", mode).start();
        for (status, method) in [(204, "GET"), (304, "GET"), (204, "HEAD"), (304, "HEAD")] {
            let reply = dog.request().method(method).path(format!("/?{status}")).send().unwrap();
            assert_eq!(reply.status, status);
            for name in ["content-length", "content-type", "transfer-encoding"] {
                // The process writes the body of GET: a 304 may tell its length (RFC 9110 section 8.6).
                let may_have = status == 304 && name == "content-length";
                assert!(may_have || reply.header(name).is_none(), "{mode} {method} {status} {name}");
            }
        }
    }
}

#[test]
fn head_has_the_length_of_get_or_none() {
    // A good program tells the length of the body that it leaves out.
    let script = "echo \"Content-Length: 6\"; echo; [ $Http_Method = HEAD ] || echo hello";
    for mode in ["fork", "streaming"] {
        let dog = cgi(script).env("mode", mode).start();
        let head = dog.request().method("HEAD").path("/").send().unwrap();
        assert_eq!((head.status, head.header("content-length")), (200, Some("6")), "{mode}");
        let get = dog.get("/");
        assert_eq!((get.header("content-length"), &*get.text()), (Some("6"), "hello\n"), "{mode}");
    }
    // A program that leaves the body out and tells no length.
    let script = "echo \"X-A: b\"; echo; [ $Http_Method = HEAD ] || echo hello";
    let dog = cgi(script).start();
    let head = dog.request().method("HEAD").path("/").send().unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, None));
    // A program that does not know HEAD.
    let dog = cgi("echo \"X-A: b\"; echo; echo hello").start();
    let head = dog.request().method("HEAD").path("/").send().unwrap();
    assert_eq!((head.status, head.header("content-length"), &*head.text()), (200, Some("6"), ""));
}

#[test]
fn an_answer_with_a_length_does_not_wait_for_the_end_of_its_process() {
    for mode in ["fork", "streaming"] {
        let bin = Bin::fwatchdog();
        let gate = bin.dir().join("gate");
        testkit::fifo(&gate);
        // The process ends when the test says so.
        let script = "echo \"Content-Length: 6\"; echo; echo hello; read -r line <\"$GATE\"; echo over >&2";
        let bin = bin.env("fprocess", format!("sh -c '{script}'")).env("cgi_response", "true");
        let dog = bin.env("mode", mode).env("GATE", &gate).start();
        let mut connection = dog.connect();
        connection.within(SOON);
        for round in 1..=2 {
            // The second request goes over the same connection while the first process still runs.
            connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx").unwrap();
            let reply = connection.reply("POST").unwrap();
            assert_eq!((reply.status, &*reply.text()), (200, "hello\n"), "{mode} {round}");
            assert_eq!(dog.metrics("/_/metrics").sum("http_requests_in_flight", &[]), f64::from(round));
        }
        counts(&dog, "200", 2.0);
        assert!(!dog.log().contains("over"), "{}", dog.log());
        // Also open for reading, so that neither side waits for the other. A shell reads one byte at a time.
        let mut held = std::fs::OpenOptions::new().read(true).write(true).open(&gate).unwrap();
        std::io::Write::write_all(&mut held, b"\n\n").unwrap();
        is_idle(&dog);
        logs(&dog, &["over"]);
        no_zombies(&dog);
        eventually(SOON, || match dog.metrics("/_/metrics").sum("http_requests_in_flight", &[]) {
            0.0 => Ok(()),
            count => Err(format!("{count} in flight")),
        });
    }
}

#[test]
fn a_process_that_runs_on_after_its_answer_ends_at_its_deadline_or_with_the_drain() {
    let script = "echo \"Content-Length: 3\"; echo; echo hi; exec sleep 600";
    let dog = cgi(script).env("exec_timeout", "1s").env("kill_grace", "0").start();
    assert_eq!(dog.get("/").text(), "hi\n");
    logs(&dog, &["was ended after its answer: exec_timeout is 1s"]);
    counts(&dog, "200", 1.0);
    is_idle(&dog);
    let dog = cgi(script).env("drain_timeout", "100ms").env("kill_grace", "0").start();
    assert_eq!(dog.get("/").text(), "hi\n");
    let pids = dog.descendants();
    assert_eq!(pids.len(), 1);
    dog.signal(15);
    dog.wait(SOON);
    let log = dog.log();
    assert!(log.contains("after its answer: drain_timeout passed"), "{log}");
}

#[test]
fn an_end_after_the_answer_is_only_logged() {
    let dog = cgi("echo \"Content-Length: 3\"; echo; echo hi; exit 7").start();
    let reply = dog.get("/");
    assert_eq!((reply.status, &*reply.text()), (200, "hi\n"));
    logs(&dog, &["warn", "exit code 7 after its answer"]);
}

#[test]
fn bytes_beyond_the_length_are_logged_and_never_reach_the_client() {
    for (mode, extra) in [("fork", 1), ("fork", 300_000), ("streaming", 1), ("streaming", 300_000)] {
        let script = format!("echo \"Content-Length: 3\"; echo; echo hi; head -c {extra} /dev/zero");
        let dog = cgi(&script).env("mode", mode).start();
        let mut connection = dog.connect();
        connection.within(SOON);
        for _ in 0..2 {
            connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let reply = connection.reply("GET").unwrap();
            assert_eq!((reply.status, &*reply.text()), (200, "hi\n"), "{mode} {extra}");
        }
        logs(&dog, &["error", &format!("wrote {extra} bytes more than its Content-Length")]);
    }
}

#[test]
fn an_answer_shorter_than_its_length_is_broken() {
    let script = "echo \"Content-Length: 9\"; echo; echo hi";
    let dog = cgi(script).start();
    let reply = dog.get("/");
    assert_eq!(
        (reply.status, &*reply.text()),
        (500, "the process ended 6 bytes short of its Content-Length\n")
    );
    let dog = cgi(script).env("mode", "streaming").start();
    assert!(dog.request().path("/").send().is_err(), "half an answer was taken for whole");
    logs(&dog, &["error", "6 bytes short of its Content-Length"]);
    counts(&dog, "500", 1.0);
}

#[test]
fn a_process_that_fails_short_of_its_length_is_500_with_its_output() {
    let dog = cgi("echo \"Content-Length: 9\"; echo; echo hi; exit 7").start();
    let reply = dog.get("/");
    assert_eq!((reply.status, reply.header("x-exit-code")), (500, Some("7")));
    assert_eq!((reply.header("content-length"), &*reply.text()), (Some("3"), "hi\n"));
    // The answer to HEAD is whole with the block, however the process ends.
    let head = dog.request().method("HEAD").path("/").send().unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("9")));
    logs(&dog, &["exit code 7 after its answer"]);
}

#[test]
fn a_large_answer_is_streamed_with_its_length() {
    let script = "echo \"Content-Length: 3000000\"; echo; head -c 3000000 /dev/zero";
    let dog = cgi(script).env("buffer_output", "4KiB").start();
    let reply = dog.get("/");
    assert_eq!((reply.status, reply.body.len()), (200, 3_000_000));
    assert_eq!(reply.header("content-length"), Some("3000000"));
    counts(&dog, "200", 1.0);
}

/// Runs git in `directory`, without the user's settings.
#[track_caller]
fn git(directory: &std::path::Path, arguments: &[&str]) {
    let mut bin = Bin::at("git").cwd(directory).env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", directory);
    bin = bin.env("GIT_TERMINAL_PROMPT", "0");
    for argument in ["-c", "user.name=x", "-c", "user.email=x@example.org"].iter().chain(arguments) {
        bin = bin.arg(argument);
    }
    let output = bin.run();
    assert_eq!(output.code(), 0, "{arguments:?}: {output:?}");
}

#[test]
fn git_http_backend_serves_clones_and_pushes() {
    if !is_installed("git") {
        return;
    }
    let dog = Bin::fwatchdog();
    let root = &dog.dir().to_owned();
    git(root, &["init", "--quiet", "--bare", "repo.git"]);
    git(&root.join("repo.git"), &["config", "http.receivepack", "true"]);
    let dog = dog
        .env("fprocess", "git http-backend")
        .env("cgi_response", "true")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "")
        .env("HOME", root)
        .start();
    let url = dog.url("/repo.git");
    git(root, &["clone", "--quiet", &url, "work"]);
    let work = root.join("work");
    let text = "a line of text\n".repeat(200_000);
    std::fs::write(work.join("file"), &text).unwrap();
    git(&work, &["add", "file"]);
    git(&work, &["commit", "--quiet", "--message", "one"]);
    git(&work, &["push", "--quiet", "origin", "HEAD:refs/heads/main"]);
    git(root, &["clone", "--quiet", "--branch", "main", &url, "again"]);
    assert_eq!(std::fs::read_to_string(root.join("again/file")).unwrap(), text);
}

#[test]
fn php_runs_without_a_wrapper() {
    if !is_installed("php-cgi") {
        return;
    }
    let dog = Bin::fwatchdog();
    let script = dog.dir().join("index.php");
    let page = "<?php header('X-Who: php'); http_response_code(201); \
                echo $_SERVER['REQUEST_METHOD'], ' ', $_SERVER['PATH_INFO'], ' ', $_GET['a'], ' ', $_POST['b'], ' ', \
                $_COOKIE['c'], ' ', $_SERVER['HTTP_X_ASKED'];";
    std::fs::write(&script, page).unwrap();
    let dog =
        dog.env("fprocess", "php-cgi").env("cgi_response", "true").env("SCRIPT_FILENAME", &script).start();
    let request = dog.request().method("POST").path("/some%20path?a=1").body("b=2");
    let request = request.header("Content-Type", "application/x-www-form-urlencoded");
    let reply = request.header("Cookie", "c=3").header("X-Asked", "4").send().unwrap();
    assert_eq!((reply.status, &*reply.text()), (201, "POST /some path 1 2 3 4"));
    assert_eq!(reply.header("x-who"), Some("php"));
}
