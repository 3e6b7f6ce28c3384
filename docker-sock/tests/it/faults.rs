//! Engines that are away, stand still, vanish in the middle of an answer, or come back.

use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use docker_sock::{Engine, Error, Host};
use testkit::unreachable::{Deaf, Refusing};
use testkit::{Peer, Script};

use crate::daemon::{Api, PATIENCE, SHORT, answers, engine, engine_within, json, serve};

/// That `call` fails when `SHORT` has passed.
#[track_caller]
fn times_out<T>(call: impl FnOnce() -> Result<T, Error>) -> Error {
    let since = Instant::now();
    let error = call().err().expect("a timeout");
    let took = since.elapsed();
    assert!(error.is_timeout() && error.is_transport(), "{error:?}");
    assert!(took >= SHORT - Duration::from_millis(1) && took < PATIENCE / 2, "{took:?}");
    error
}

/// A connection that agrees on the version and then answers one request with what `end` adds.
fn then(end: impl FnOnce(Script) -> Script) -> Script {
    end(Script::new().request().send(Api::engine_20().ping()).request())
}

#[test]
fn an_engine_that_stands_still_costs_the_time_of_one_call() {
    let whole = json(r#"[{"ID":"s1","Spec":{"Name":"echo"}}]"#);
    let stalls = [
        ("from the start", Script::new().stall()),
        ("before the head", then(|script| script.stall())),
        ("in the head", then(|script| script.send(&whole[..20]).stall())),
        ("in the body", then(|script| script.send(&whole[..whole.len() - 1]).stall())),
        (
            "in a chunk",
            then(|script| script.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[").stall()),
        ),
    ];
    for (name, stalled) in stalls {
        let peer = Peer::unix_each(vec![stalled, answers(whole.clone())]);
        let engine = engine_within(&peer, SHORT);
        let error = times_out(|| engine.services());
        assert!(error.to_string().contains("deadline passed"), "{name}: {error}");
        // The stalled connection is not used again. A loaded machine may need more than one short call.
        let found = testkit::eventually(PATIENCE, || engine.services().map_err(|error| error.to_string()));
        assert_eq!(found[0].name, "echo", "{name}");
    }
}

#[test]
fn an_engine_that_drips_costs_no_more() {
    let drips = then(|script| script.send_slowly(json(&" ".repeat(10_000)), 1, SHORT / 20));
    let peer = Peer::unix(drips);
    times_out(|| engine_within(&peer, SHORT).services());
}

#[test]
fn an_update_and_events_have_a_deadline_too() {
    let peer = Peer::unix(then(|script| script.stall()));
    times_out(|| engine_within(&peer, SHORT).update_service("echo", &mut |_| true));
    // To all but that question it says nothing.
    let peer = Peer::unix(serve(|request| match request.target.as_str() {
        "/_ping" => Api::engine_20().ping(),
        _ => vec![],
    }));
    let engine = engine_within(&peer, SHORT);
    // A loaded machine may need more than one short call.
    testkit::eventually(PATIENCE, || engine.version().map_err(|error| error.to_string()));
    times_out(|| engine.events(&["service"], &[]));
}

#[test]
fn an_engine_that_accepts_nothing() {
    let deaf = Deaf::new();
    let engine = Engine::new(Host::Tcp(deaf.addr().ip().to_string(), deaf.addr().port()), SHORT);
    times_out(|| engine.services());
}

#[test]
fn an_engine_that_is_not_there() {
    let refusing = Refusing::new();
    let peer = Peer::unix(Script::new());
    let missing = peer.path().with_file_name("docker.sock");
    let cases = [
        (
            Host::Tcp(refusing.addr().ip().to_string(), refusing.addr().port()),
            "Connection refused (os error 111)",
        ),
        (Host::Unix(missing), "No such file or directory (os error 2)"),
    ];
    for (host, want) in cases {
        let text = host.to_string();
        let error = Engine::new(host, PATIENCE).services().unwrap_err();
        assert!(error.is_transport() && !error.is_timeout());
        let got = error.to_string();
        assert!(got.starts_with(&format!("failed to negotiate the API version at {text}: ")), "{got}");
        assert!(got.ends_with(want), "{got}");
    }
}

#[test]
fn an_engine_that_vanishes_in_the_middle_of_an_answer() {
    let whole = json(r#"[{"ID":"s1","Spec":{"Name":"echo"}}]"#);
    let body = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let ends = [
        ("in the head", then(|script| script.send(&whole[..30]).close())),
        ("after the head", then(|script| script.send(&whole[..body]).close())),
        ("in the body", then(|script| script.send(&whole[..body + 10]).close())),
        ("in the body, with a reset", then(|script| script.send(&whole[..body + 10]).reset())),
        ("in a chunk", then(|script| script.send(format!("{chunks}5\r\n[{{}}")).close())),
        ("after a chunk", then(|script| script.send(format!("{chunks}1\r\n[\r\n")).close())),
        ("before the last chunk", then(|script| script.send(format!("{chunks}2\r\n[]\r\n")).close())),
        (
            "before the end of the last chunk",
            then(|script| script.send(format!("{chunks}2\r\n[]\r\n0\r\n")).close()),
        ),
    ];
    for (name, end) in ends {
        for start in [Peer::unix_each, Peer::tcp_each] {
            let peer = start(vec![end.clone(), answers(whole.clone())]);
            let engine = engine(&peer);
            let error = engine.services().unwrap_err();
            assert!(error.is_transport() && !error.is_timeout(), "{name}: {error:?}");
            assert!(error.to_string().starts_with("failed to list services at "), "{name}: {error}");
            assert_eq!(engine.services().unwrap()[0].name, "echo", "{name}");
        }
    }
}

#[test]
fn what_is_not_http_is_no_answer() {
    for bytes in [
        "\x15\x03\x01\x00\x02\x02",
        "Client sent an HTTP request to an HTTPS server.\n\n",
        "HTTP/2.0 200 OK\r\n\r\n",
    ] {
        let peer = Peer::unix(Script::new().request().send(bytes).close());
        let error = engine(&peer).info().unwrap_err();
        assert!(error.is_transport() && !error.is_timeout(), "{error:?}");
    }
}

#[test]
fn connections_that_the_engine_closed_meanwhile_are_replaced() {
    let once = Script::new().request().answer(|request| match request.target.as_str() {
        "/_ping" => Api::engine_20().ping(),
        _ => json("[]"),
    });
    let peer = Peer::unix(once.close());
    let engine = engine(&peer);
    for _ in 0..20 {
        assert_eq!(engine.services().unwrap(), []);
    }
    assert_eq!(peer.connections(), 21);
}

#[test]
fn an_engine_comes_back_as_another_one() {
    let start = |api: Api| Peer::unix(serve(move |request| api.respond(request, |_| json("[]"))));
    let directory = Peer::unix(Script::new());
    let path = directory.path().with_file_name("docker.sock"); // a link, since each peer has a path of its own
    let first = start(Api::engine_20());
    symlink(first.path(), &path).unwrap();
    let engine = Engine::new(Host::Unix(path.clone()), PATIENCE);
    engine.services().unwrap();
    assert_eq!(engine.version().unwrap().to_string(), "1.41");

    drop(first);
    let error = engine.services().unwrap_err();
    assert!(error.is_transport() && !error.is_timeout(), "{error:?}");

    let second = start(Api::engine_1());
    std::fs::remove_file(&path).unwrap();
    symlink(second.path(), &path).unwrap();
    engine.services().unwrap();
    assert_eq!(engine.version().unwrap().to_string(), "1.24");
    let refused = second.requests().iter().filter(|request| request.target.contains("1.41")).count();
    assert_eq!(refused, 0, "the version was forgotten when the engine was away");
}

#[test]
fn an_engine_comes_back_before_anybody_notices() {
    let start = |api: Api| Peer::unix(serve(move |request| api.respond(request, |_| json("[]"))));
    let directory = Peer::unix(Script::new());
    let path = directory.path().with_file_name("docker.sock");
    let first = start(Api::engine_20());
    symlink(first.path(), &path).unwrap();
    let engine = Engine::new(Host::Unix(path.clone()), PATIENCE);
    engine.services().unwrap();
    let second = start(Api::engine_29());
    std::fs::remove_file(&path).unwrap();
    symlink(second.path(), &path).unwrap();
    drop(first);
    assert_eq!(engine.services().unwrap(), []);
    assert!(engine.version().unwrap().to_string().as_str() >= "1.44");
}

#[test]
fn an_engine_behind_a_name() {
    let peer = Peer::tcp(answers(json("[]")));
    let host = Host::parse(&format!("tcp://localhost:{}", peer.addr().port())).unwrap();
    assert_eq!(Engine::new(host, PATIENCE).services().unwrap(), []);
    let host = Host::parse("tcp://no-such-name.invalid:2375").unwrap();
    let error = Engine::new(host, PATIENCE).services().unwrap_err();
    assert!(
        matches!(&error, Error::Host { text, .. } if text == "tcp://no-such-name.invalid:2375"),
        "{error:?}"
    );
}

#[test]
fn many_callers_share_an_engine() {
    let peer = Peer::unix(answers(json("[]")));
    let engine = engine(&peer);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..25 {
                    assert_eq!(engine.services().unwrap(), []);
                }
            });
        }
    });
    let calls = peer.requests().iter().filter(|request| request.target.ends_with("/services")).count();
    assert_eq!(calls, 200);
}
