//! `mode=http`: one process that stays and speaks HTTP itself.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};

use testkit::unreachable::{Deaf, reserved_port};
use testkit::{Bin, Peer, Running, Script, eventually, hostile, proc, program};

use crate::{SOON, counts, no_zombies, refused};

/// fwatchdog around a process that listens on a free port.
fn http() -> Bin {
    let port = reserved_port();
    around(&program(&format!("serves {port}")), port)
}

pub(crate) fn around(command: &str, port: u16) -> Bin {
    set_up(Bin::fwatchdog(), command, port)
}

fn set_up(dog: Bin, command: &str, port: u16) -> Bin {
    let url = format!("http://127.0.0.1:{port}");
    dog.env("fprocess", command).env("mode", "http").env("upstream_url", url)
}

/// The process id and the rest of a reply.
fn words(text: &str) -> (u32, String) {
    let (pid, rest) = text.lines().next().unwrap_or_default().split_once(' ').unwrap_or_default();
    (pid.parse().unwrap_or_else(|_| panic!("expected a process id and more, got `{text}`")), rest.to_owned())
}

/// The process, once there is exactly one.
#[track_caller]
fn process(dog: &Running) -> u32 {
    eventually(SOON, || match dog.descendants()[..] {
        [pid] => Ok(pid),
        ref other => Err(format!("{other:?}")),
    })
}

#[test]
fn one_process_serves_all_requests_as_they_are() {
    let dog = http().start();
    let pid = process(&dog);
    let mut client = dog.client();
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
        let request = client.request().method(method).path("/a/b?c=d").header("X-Call-Id", "call-1");
        let reply = if method == "GET" { request } else { request.body("body") }.send().unwrap();
        assert_eq!((reply.status, reply.header("x-served")), (200, Some("yes")));
        let text = reply.text();
        assert_eq!(words(&text), (pid, format!("{method} /a/b?c=d call-1")));
        assert_eq!(text.ends_with("\nbody"), method != "GET", "{text}");
    }
    assert_eq!(client.opened(), 1, "the client's connection is kept");
    let head = client.request().method("HEAD").path("/").send().unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    counts(&dog, "200", 6.0);
    assert_eq!(process(&dog), pid);
}

#[test]
fn bodies_of_any_size_go_both_ways_in_constant_memory() {
    let dog = http().start();
    let body = vec![b'x'; 8 << 20];
    let chunks: Vec<Vec<u8>> = body.chunks(100_000).map(<[u8]>::to_vec).collect();
    for request in [
        dog.request().method("POST").path("/").body(body.clone()),
        dog.request().method("POST").path("/").chunks(chunks),
    ] {
        let reply = request.send().unwrap();
        assert_eq!((reply.status, reply.body.len() > body.len()), (200, true));
    }
    assert!(dog.peak_rss_bytes() < 4 << 20, "{}", dog.peak_rss_bytes());
}

/// The process may be any program: fwatchdog trusts it no more than the gateway trusts a function.
#[test]
fn every_hostile_answer_is_refused_or_passed_on_by_the_rules() {
    let rows = hostile::answers(hostile::Heads::OF_A_PROCESS);
    let peer = hostile::answer_peer(&rows);
    let dog = around("sleep 1000", peer.addr().port()).start();
    hostile::check_answers(&rows, |number| dog.request().path(format!("/{number}")).send());
}

#[test]
fn requests_wait_until_the_process_listens() {
    let port = reserved_port();
    let dog = Bin::fwatchdog();
    let begin = dog.dir().join("begin");
    let script = format!("while ! test -e {}; do sleep 0.01; done", begin.display());
    let command = format!("sh -c '{script}; exec {}'", program(&format!("serves {port}")));
    let dog = set_up(dog, &command, port).start();
    assert_eq!(dog.get("/_/health").status, 503);
    assert!(dog.get("/_/health").text().contains("upstream_url"));
    let pids: BTreeSet<u32> = thread::scope(|scope| {
        let clients: Vec<_> = (0..20).map(|_| scope.spawn(|| words(&dog.post("/", "x").text()).0)).collect();
        eventually(SOON, || match dog.metrics("/_/metrics").value("http_requests_in_flight", &[]) {
            Some(20.0) => Ok(()),
            other => Err(format!("{other:?} in flight")),
        });
        std::fs::write(&begin, "").unwrap();
        clients.into_iter().map(|client| client.join().expect("an answer")).collect()
    });
    assert_eq!(pids.len(), 1);
    assert_eq!(dog.get("/_/health").status, 200);
    dog.wait_log("listening", SOON);
}

#[test]
fn a_process_that_dies_is_started_again_and_requests_wait_for_it() {
    let dog = http().start();
    let first = process(&dog);
    assert_eq!(dog.get("/").status, 200);
    // A POST: a GET would be sent again to the next process, which is about to end below.
    assert_eq!(dog.post("/exit", "").status, 502);
    dog.wait_log("has ended by itself with exit code 7", SOON);
    let (second, _) = words(&dog.post("/", "x").text());
    assert_ne!(first, second);
    proc::signal(second, proc::SIGKILL);
    dog.wait_log("signal 9", SOON); // a call that it has in hand until then is 502
    let (third, _) = words(&dog.post("/", "x").text());
    assert_ne!(second, third);
    no_zombies(&dog);
}

#[test]
fn a_process_that_always_dies_is_started_with_growing_pauses() {
    let port = reserved_port();
    let dog = around(&program("exits 3 going"), port).start();
    eventually(SOON, || match dog.log().matches("started `").count() {
        count if count >= 4 => Ok(()),
        count => Err(format!("{count} starts")),
    });
    let log = dog.log();
    for pause in ["in 100ms", "in 200ms", "in 400ms"] {
        assert!(log.contains(pause), "{pause} in {log}");
    }
    assert!(log.contains("exit code 3") && log.contains("see fprocess") && log.contains("going"), "{log}");
    let reply = dog.get("/");
    assert!(
        reply.status == 503 && reply.text().contains("has ended by itself with exit code 3"),
        "{}",
        reply.text()
    );
}

#[test]
fn a_process_that_cannot_be_started_is_logged_and_answered() {
    let dog = around("/no/such/program", reserved_port()).start();
    dog.wait_log("cannot start `/no/such/program`", SOON);
    let reply = dog.get("/");
    assert!(
        reply.status == 503 && reply.text().contains("`/no/such/program`: No such file"),
        "{}",
        reply.text()
    );
}

#[test]
fn children_of_a_dead_process_are_ended_before_its_successor_starts() {
    let port = reserved_port();
    let serves = program(&format!("serves {port}"));
    // The shell dies. Its child serves the port, in a session of its own.
    let dog = around(&format!("sh -c 'setsid {serves} & read -r x </dev/zero'"), port)
        .env("kill_grace", "100ms")
        .start();
    let (first, _) = words(&dog.post("/", "x").text());
    let shell = proc::stat(first).expect("it runs").parent;
    proc::signal(shell, proc::SIGKILL);
    let second = eventually(SOON, || match dog.post("/", "x") {
        reply if reply.status != 200 => Err(reply.text()), // it was ended during the call
        reply if words(&reply.text()).0 != first => Ok(words(&reply.text()).0),
        _ => Err("the old one still serves".to_owned()),
    });
    assert!(proc::stat(first).is_none_or(|stat| !stat.is_alive()), "{first} is there beside {second}");
    no_zombies(&dog);
}

/// As nginx without `daemon off`: the server has left its parent, session and environment, and cannot be watched.
#[test]
fn a_process_that_goes_to_the_background_is_ended_and_logged() {
    let dog = Bin::fwatchdog();
    let pids = dog.dir().join("pids");
    let daemon = format!("setsid env -i sh -c \"echo \\$\\$ >>{}; exec /bin/sleep 60\"", pids.display());
    let wait = format!("while ! test -s {}; do sleep 0.01; done", pids.display());
    let command = format!("sh -c '{daemon} >/dev/null 2>&1 & {wait}'");
    let dog = set_up(dog, &command, reserved_port()).start();
    let told = eventually(SOON, || {
        let told = dog.log().matches("has gone to the background").count();
        if told >= 2 { Ok(told) } else { Err(dog.log()) }
    });
    let pids = std::fs::read_to_string(&pids).unwrap_or_default();
    let first: u32 = pids.lines().next().expect("a daemon").parse().expect("a number");
    assert!(proc::stat(first).is_none_or(|stat| !stat.is_alive()), "{first} is there, {told} ends later");
    dog.signal(proc::SIGTERM);
    dog.wait(SOON);
    assert_eq!(dog.descendants(), [0; 0]);
}

#[test]
fn a_process_with_a_chosen_port_has_it_in_its_environment() {
    let serves = program("serves");
    let bin = || {
        let dog = Bin::fwatchdog().env("fprocess", format!("sh -c 'exec {serves} $PORT'"));
        dog.env("mode", "http").env("upstream_url", "http://localhost:0").start()
    };
    let dogs = [bin(), bin()];
    for dog in &dogs {
        let (first, _) = words(&dog.post("/", "x").text());
        assert_eq!(first, process(dog));
        proc::signal(first, proc::SIGKILL);
        dog.wait_log("signal 9", SOON);
        let (second, _) = words(&dog.post("/", "x").text());
        assert_eq!(second, process(dog), "its successor has one too");
    }
}

#[test]
fn localhost_is_the_address_on_which_the_process_listens() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = std::net::TcpListener::bind(address) else {
            println!("skipped: nobody can listen on {address} here");
            continue;
        };
        let port = listener.local_addr().unwrap().port();
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let _peer = Peer::on(listener, vec![Script::new().request().send(answer).repeat()]);
        let dog = set_up(Bin::fwatchdog(), "sleep 60", port)
            .env("upstream_url", format!("http://localhost:{port}"));
        let dog = dog.start();
        assert_eq!(dog.get("/").text(), "hi", "{address}");
        assert_eq!((dog.post("/", "x").text().as_str(), dog.get("/_/health").status), ("hi", 200));
    }
}

#[test]
fn a_process_that_hangs_is_started_again_after_max_timeouts_in_a_row() {
    let dog = http().env("exec_timeout", "1s").env("max_timeouts", "3").start();
    let (first, _) = words(&dog.post("/", "x").text());
    for _ in 0..2 {
        assert_eq!([dog.get("/sleep").status, dog.get("/sleep").status], [504, 504]);
        assert_eq!(words(&dog.post("/", "x").text()).0, first, "an answer came between");
    }
    for _ in 0..3 {
        assert_eq!(dog.get("/sleep").status, 504);
    }
    dog.wait_log("has not answered 3 calls in a row, see max_timeouts", SOON);
    eventually(SOON, || match dog.post("/", "x") {
        reply if reply.status == 200 && words(&reply.text()).0 != first => Ok(()),
        reply => Err(reply.text()), // it ends during the call
    });
    assert_eq!(dog.get("/_/health").status, 200);
}

#[test]
fn calls_that_time_out_together_do_not_end_a_process_that_works() {
    let dog = http().env("exec_timeout", "1s").env("max_timeouts", "8").start();
    let (first, _) = words(&dog.post("/", "x").text());
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| dog.get("/sleep").status)).collect();
        calls.into_iter().for_each(|call| assert_eq!(call.join().unwrap(), 504));
    });
    assert_eq!(words(&dog.post("/", "x").text()).0, first);
    assert_eq!(dog.log().matches("started `").count(), 1, "{}", dog.log());
}

#[test]
fn a_process_that_hangs_is_unhealthy_until_it_answers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // The process is told to end and does not; the test serves the port.
    let dog = around(&program("sleeps"), port).env("kill_grace", "60s").env("exec_timeout", "200ms");
    let dog = dog.env("max_timeouts", "2").start();
    dog.wait_log("ready", SOON);
    assert_eq!((dog.get("/").status, dog.get("/_/health").status), (504, 200));
    assert_eq!(dog.get("/").status, 504);
    let health = dog.get("/_/health");
    assert!(health.status == 503 && health.text().contains("max_timeouts"), "{}", health.text());
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let _peer = Peer::on(listener, vec![Script::new().request().send(answer).repeat()]);
    eventually(SOON, || if dog.get("/").status == 200 { Ok(()) } else { Err("no answer".to_owned()) });
    assert_eq!(dog.get("/_/health").status, 200);
    dog.signal(proc::SIGTERM);
    dog.signal(proc::SIGTERM);
}

/// Some servers end after so many requests, to give back what they leak.
#[test]
fn a_process_that_ends_in_order_after_answers_is_started_again_at_once() {
    let port = reserved_port();
    let dog = around(&program(&format!("serves {port} 0 0")), port).start();
    for round in 1..=4 {
        let (pid, _) = words(&dog.post("/", "x").text());
        assert_eq!(dog.post("/exit", "x").status, 502);
        eventually(SOON, || match dog.log().matches("exit code 0").count() {
            count if count == round => Ok(()),
            count => Err(format!("{count} ends")),
        });
        assert_ne!(words(&dog.post("/", "x").text()).0, pid);
    }
    assert!(!dog.log().contains("is started again in"), "{}", dog.log());
}

#[test]
fn a_process_that_ends_in_order_without_an_answer_is_started_with_pauses() {
    let dog = around(&program("exits 0"), reserved_port()).start();
    dog.wait_log("exit code 0, see fprocess; it is started again in 200ms", SOON);
}

#[test]
fn a_call_that_waits_for_the_start_is_told_how_long_it_waited() {
    let port = reserved_port();
    let dog = around(&program(&format!("serves {port} 3000")), port).start();
    let waited =
        |reply: testkit::Reply| reply.header("x-cold-start-ms").map(|value| value.parse::<u64>().unwrap());
    let first = waited(dog.get("/"));
    assert!(first.is_some_and(|waited| waited >= 500), "{first:?}");
    assert_eq!(waited(dog.get("/")), None);
}

#[test]
fn a_time_limit_is_504_and_spares_the_process() {
    let dog = http().env("exec_timeout", "2s").start();
    let pid = process(&dog);
    let reply = dog.get("/sleep");
    assert!(reply.status == 504 && reply.text().contains("exec_timeout is 2s"), "{}", reply.text());
    assert_eq!(words(&dog.post("/", "x").text()).0, pid);
    counts(&dog, "504", 1.0);
}

/// A server that accepts slowly drops connections, and the system tries each again after a second.
#[test]
fn a_connection_to_a_full_backlog_is_tried_again_at_once() {
    let took = |_| {
        let deaf = Deaf::new();
        let dog = around(&program("sleeps"), deaf.addr().port()).env("kill_grace", "0").start();
        thread::scope(|scope| {
            let status = scope.spawn(|| dog.get("/").status);
            let port = deaf.addr().port();
            eventually(SOON, || if connects_to(port) { Ok(()) } else { Err("nobody connects".to_owned()) });
            let freed = Instant::now();
            let mut stream = deaf.hear();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.extend(byte);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            assert_eq!(status.join().unwrap(), 200);
            freed.elapsed()
        })
    };
    let best = (0..3).map(took).min().unwrap();
    assert!(best < Duration::from_millis(500), "{best:?}");
}

/// Whether a SYN to the port is unanswered (proc(5), /proc/net/tcp).
fn connects_to(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.contains(&format!(" 0100007F:{port:04X} 02 "))
}

#[test]
fn an_answer_that_is_cut_is_never_taken_for_whole() {
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    for (answer, status) in
        [(cut, None), ("HTTP/1.1 200 OK\r\nContent-Le", Some(502)), ("not http\r\n\r\n", Some(502))]
    {
        let peer = Peer::tcp(Script::new().request().send(answer).close());
        // The process does nothing: the test listens there.
        let dog = around(&program("sleeps"), peer.addr().port()).env("kill_grace", "0").start();
        match status {
            Some(status) => assert_eq!(dog.get("/").status, status, "{answer:?}"),
            None => assert!(dog.request().path("/").send().is_err(), "{answer:?}"),
        }
    }
}

#[test]
fn the_process_ends_after_the_last_request_and_its_exit_code_is_kept() {
    let dog = http().env("kill_grace", "60s").start();
    assert_eq!(dog.get("/").status, 200);
    dog.signal(proc::SIGTERM);
    assert_eq!(dog.wait(SOON).code(), Some(0));
    let log = dog.log();
    assert!(log.contains("ending") && log.contains("done"), "{log}");
    assert_eq!(dog.descendants(), [0; 0]);

    for (script, grace, want) in [
        ("trap \"exit 5\" TERM; echo ready; while :; do sleep 0.01; done", "60s", 5),
        ("echo ready; exec sleep 600", "60s", 0), // ended by SIGTERM
        ("trap \"\" TERM; echo ready; while :; do sleep 0.01; done", "200ms", 1), // killed
    ] {
        let dog = around(&format!("sh -c '{script}'"), reserved_port()).env("kill_grace", grace).start();
        dog.wait_log("ready", SOON);
        dog.signal(proc::SIGTERM);
        assert_eq!(dog.wait(SOON).code(), Some(want), "{script}: {}", dog.log());
        assert_eq!(dog.descendants(), [0; 0], "{script}");
    }
}

#[test]
fn a_running_request_is_finished_first() {
    let peer = Peer::tcp(
        Script::new()
            .request()
            .pause(Duration::from_millis(500))
            .send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate")
            .close(),
    );
    let dog = around(&program("sleeps"), peer.addr().port()).env("kill_grace", "100ms");
    let dog = dog.env("drain_timeout", "60s").start();
    thread::scope(|scope| {
        let call = scope.spawn(|| dog.get("/"));
        peer.wait_requests(1, SOON);
        dog.signal(proc::SIGTERM);
        assert_eq!(call.join().expect("the call").text(), "late");
    });
    dog.wait(SOON);
}

#[test]
fn a_client_that_leaves_costs_no_worker_and_no_file() {
    let dog = http().start();
    assert_eq!(dog.get("/").status, 200);
    let fds = dog.fds();
    for _ in 0..20 {
        let mut connection = dog.connect();
        connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf").unwrap();
        drop(connection);
    }
    counts(&dog, "499", 20.0);
    eventually(SOON, || {
        if dog.fds() <= fds + 1 { Ok(()) } else { Err(format!("{} files, {fds} before", dog.fds())) }
    });
    assert_eq!(dog.get("/").status, 200);
}

#[test]
fn mode_http_needs_an_address() {
    refused(&[("mode", "http")], &["upstream_url", "http://127.0.0.1:3000"]);
    refused(&[("mode", "http"), ("upstream_url", "127.0.0.1:1")], &["upstream_url", "127.0.0.1:1"]);
    refused(&[("upstream_url", "http://127.0.0.1:1")], &["upstream_url", "mode=http"]);
}

#[test]
fn a_connection_is_upgraded() {
    let agree = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
    let peer = Peer::tcp(Script::new().head().send(agree).bytes(4).send("pong").end().close());
    let dog = around("sleep 1000", peer.addr().port()).start();
    let mut client = dog.connect();
    client.send("GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nping").unwrap();
    let head = client.within(SOON).head().unwrap();
    assert_eq!((head.status, head.header("upgrade")), (101, Some("echo")));
    client.end();
    assert_eq!(client.rest().bytes, b"pong");
    let request = &peer.requests()[0];
    assert_eq!((request.header("upgrade"), request.header("connection")), (Some("echo"), Some("Upgrade")));
    counts(&dog, "101", 1.0);
}

#[test]
fn interim_answers_of_the_process_are_passed_on() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let peer = Peer::tcp(Script::new().head().send(hints).body().send(ok).repeat());
    let dog = around("sleep 1000", peer.addr().port()).start();
    let mut connection = dog.connect();
    connection.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nx").unwrap();
    let head = connection.within(SOON).head().unwrap(); // before the rest of the body
    assert_eq!((head.status, head.headers), (103, vec![("Link".to_owned(), b"</x>".to_vec())]));
    connection.send("x").unwrap();
    let reply = connection.reply("POST").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "ok"));
}
