//! The client against peers that are not there, not fast enough, or not to be trusted.

use std::io;
use std::time::{Duration, Instant};

use http1::{ClientConfig, Endpoint, Error, Phase, Pool, Refusal, Request};
use kit::Deadline;
use testkit::hostile::{Answer, Heads, answer_peer, answers};
use testkit::unreachable::{Deaf, Refusing};
use testkit::{Peer, Script};

use crate::client::{call, pool, pool_with, post, soon};
use crate::support::PATIENCE;

const SHORT: Duration = Duration::from_millis(100);

fn to(address: std::net::SocketAddr) -> Pool {
    let config = ClientConfig { connect_timeout: SHORT, ..ClientConfig::default() };
    Pool::new(Endpoint::Tcp(address), config)
}

/// That `call` fails after the short time, and how.
#[track_caller]
fn times_out<T>(call: impl FnOnce() -> Result<T, Error>) -> Error {
    times_out_after(SHORT, call)
}

#[track_caller]
fn times_out_after<T>(time: Duration, call: impl FnOnce() -> Result<T, Error>) -> Error {
    let since = Instant::now();
    let error = call().err().expect("a timeout");
    let took = since.elapsed();
    assert!(error.is_timeout(), "{error:?}");
    assert!(took >= time - Duration::from_millis(1) && took < PATIENCE / 2, "{took:?}");
    error
}

#[test]
fn nobody_listens() {
    let refusing = Refusing::new();
    let error = to(refusing.addr()).send(&post(b"body"), soon()).unwrap_err();
    assert!(
        matches!(&error, Error::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    );
    assert!(!error.is_timeout());
    let missing = Pool::new(Endpoint::Unix("/nowhere/socket".into()), ClientConfig::default());
    let error = missing.send(&Request::get("/"), soon()).unwrap_err();
    assert!(matches!(&error, Error::Connect { source, .. } if source.kind() == io::ErrorKind::NotFound));
    assert_eq!(error.to_string(), "failed to connect to unix:/nowhere/socket");
}

#[test]
fn nobody_accepts() {
    let deaf = Deaf::new();
    let error = times_out(|| to(deaf.addr()).send(&Request::get("/"), soon()).map(drop));
    assert!(matches!(error, Error::Connect { .. }), "bounded by the connect timeout: {error:?}");
    let patient = Pool::new(Endpoint::Tcp(deaf.addr()), ClientConfig::default());
    let error = times_out(|| patient.send(&Request::get("/"), Deadline::after(SHORT)));
    assert!(matches!(error, Error::Connect { .. }), "bounded by the deadline: {error:?}");
}

#[test]
fn the_error_names_the_phase_that_ran_out() {
    let ok_head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let big = vec![b'x'; 64 << 20];
    let cases = [
        (Script::new().stall(), post(&big), Phase::Request),
        (Script::new().request().stall(), Request::get("/"), Phase::FirstByte),
        (Script::new().request().send("HTTP/1.1 200 O").stall(), Request::get("/"), Phase::FirstByte),
        (Script::new().request().send("HTTP/1.1 100 \r\n\r\n").stall(), Request::get("/"), Phase::FirstByte),
        (Script::new().request().send(ok_head).send("hel").stall(), Request::get("/"), Phase::Body),
    ];
    // Long enough to get into the last phase before.
    let time = 10 * SHORT;
    std::thread::scope(|scope| {
        for (script, request, phase) in cases {
            scope.spawn(move || {
                let peer = Peer::tcp(script);
                let pool = pool(&peer);
                let deadline = Deadline::after(time);
                let error = times_out_after(time, || {
                    pool.send(&request, deadline).and_then(|mut response| response.read_to_end(9, deadline))
                });
                assert!(matches!(error, Error::Timeout(found) if found == phase), "{phase:?}: {error:?}");
            });
        }
    });
}

/// Bytes now and then do not prolong a call.
#[test]
fn a_deadline_is_for_the_whole_call() {
    let answer = [&b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"[..], &[b'x'; 1000]].concat();
    for skip in [0, 41] {
        let (now, slowly) = answer.split_at(skip);
        let script = Script::new().request().send(now).send_slowly(slowly, 1, Duration::from_millis(10));
        let peer = Peer::tcp(script);
        let pool = pool(&peer);
        let deadline = Deadline::after(SHORT);
        times_out(|| {
            pool.send(&Request::get("/"), deadline)
                .and_then(|mut response| response.read_to_end(2000, deadline))
        });
    }
}

#[test]
fn every_answer_that_cannot_be_trusted_is_refused() {
    let rows = answers(Heads::DEFAULT);
    let peer = answer_peer(&rows);
    let pool = pool(&peer);
    let mut problems = vec![];
    for (number, row) in rows.iter().enumerate() {
        let target = format!("/{number}");
        let (head, body) = match pool.send(&Request::get(&target), soon()) {
            Ok(mut response) => (Ok(response.status()), response.read_to_end(1 << 20, soon())),
            Err(error) => (Err(error.to_string()), Ok(vec![])),
        };
        let is_right = match &row.expect {
            Answer::Bad => head.is_err(),
            Answer::BadBody => head.is_err() || body.is_err(),
            Answer::Good(status, want) => head == Ok(*status) && body.as_ref().is_ok_and(|body| body == want),
        };
        if !is_right {
            problems.push(format!("{}: {head:?}, {body:?}", row.name));
        }
    }
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), rows.len(), problems.join("\n"));
}

#[test]
fn interim_answers_are_skipped_but_not_for_ever() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    for (count, is_taken) in [(1, true), (16, true), (17, false)] {
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(count);
        let peer = Peer::tcp(Script::new().request().send(interim + ok).repeat());
        let pool = pool(&peer);
        let result = pool.send(&Request::get("/"), soon()).map(|response| response.status());
        match is_taken {
            true => assert_eq!(result.unwrap(), 200),
            false => assert!(matches!(result, Err(Error::Refused(Refusal::RequestLine))), "{result:?}"),
        }
    }
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100_000);
    let peer = Peer::tcp(Script::new().request().send(endless).stall());
    assert!(matches!(pool(&peer).send(&Request::get("/"), soon()), Err(Error::Refused(_))));
}

#[test]
fn nobody_switches_protocols() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    let peer = Peer::tcp(Script::new().request().send(answer).stall());
    assert!(matches!(pool(&peer).send(&Request::get("/"), soon()), Err(Error::Refused(_))));
}

#[test]
fn limits_of_heads_are_settings() {
    let config = ClientConfig { max_header_bytes: 1000, max_headers: 5, ..ClientConfig::default() };
    let sized = |size: usize| {
        let start = "HTTP/1.1 204 No Content\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(size - start.len() - 4))
    };
    let counted = |count: usize| format!("HTTP/1.1 204 No Content\r\n{}\r\n", "X: x\r\n".repeat(count));
    let endless = format!("HTTP/1.1 204 No Content\r\nX: {}", "x".repeat(1000));
    let cases = [
        (sized(1000), None),
        (sized(1001), Some(Refusal::HeadTooLarge)),
        (endless, Some(Refusal::HeadTooLarge)),
        (counted(5), None),
        (counted(6), Some(Refusal::TooManyHeaders)),
    ];
    for (answer, refusal) in cases {
        let peer = Peer::tcp(Script::new().request().send(answer).stall());
        let result =
            pool_with(&peer, config).send(&Request::get("/"), soon()).map(|response| response.status());
        match (result, refusal) {
            (Ok(204), None) => {}
            (Err(Error::Refused(found)), Some(want)) => assert_eq!(found, want),
            (result, _) => panic!("{result:?} instead of {refusal:?}"),
        }
    }
}

#[test]
fn bodies_have_the_callers_limit() {
    let peer = Peer::tcp(
        Script::new()
            .request()
            .send(format!("HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n{}", "x".repeat(10_000)))
            .repeat(),
    );
    let pool = pool(&peer);
    for (limit, is_taken) in [(5000, false), (10_000, true), (10_000, true), (9999, false)] {
        let result = pool.send(&Request::get("/"), soon()).unwrap().read_to_end(limit, soon());
        match is_taken {
            true => assert_eq!(result.unwrap().len(), 10_000),
            false => assert!(matches!(result, Err(Error::TooLarge(_))), "{result:?}"),
        }
    }
    assert_eq!(peer.connections(), 2, "what was not read to its end is not used again");
}

#[test]
fn a_cut_body_is_an_error_however_it_is_cut() {
    let heads = ["Content-Length: 10\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"];
    for answer in heads {
        for end in [Script::close, Script::reset] {
            let peer = Peer::tcp(end(Script::new().request().send(format!("HTTP/1.1 200 OK\r\n{answer}"))));
            let pool = pool(&peer);
            let result = pool
                .send(&Request::get("/"), soon())
                .and_then(|mut response| response.read_to_end(99, soon()));
            // A reset may overtake what was sent before it.
            assert!(
                matches!(result, Err(Error::Closed(Phase::Body | Phase::FirstByte))),
                "{answer}: {result:?}"
            );
        }
    }
}

/// What comes unasked on an idle connection is never taken for an answer.
#[test]
fn an_unasked_answer_is_not_taken() {
    let unasked = "HTTP/1.1 408 Too Slow\r\nContent-Length: 4\r\n\r\nslow";
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let peer = Peer::tcp(Script::new().request().send(ok).send(unasked).close());
    let pool = pool(&peer);
    for number in 1..=5 {
        assert_eq!(call(&pool, &post(b"body")), (200, b"ok".to_vec()));
        testkit::eventually(PATIENCE, || match peer.open_connections() {
            0 => Ok(()),
            n => Err(format!("{n} open")),
        });
        assert_eq!(peer.connections(), number);
    }
}
