//! Answers in every framing and in every piece, and refusals in every form.

use std::time::Duration;

use docker_sock::Error;
use testkit::{Peer, Script};

use crate::daemon::{Api, answer, answers, engine, json, message};

/// One service, on one line.
const SERVICES: &str = r#"[{"ID":"s1","Version":{"Index":7},"Spec":{"Name":"echo","Labels":{"a":"ä"},"Mode":{"Replicated":{"Replicas":3}}}}]"#;

/// Answers the question for the version, on a connection of its own.
fn agreed() -> Script {
    Script::new().request().send(Api::engine_20().ping()).close()
}

/// That the services are understood on each connection after the first.
#[track_caller]
fn is_understood(peer: &Peer, times: usize) {
    let engine = engine(peer);
    engine.version().unwrap();
    for time in 0..times {
        let services = engine.services().unwrap_or_else(|error| panic!("answer {time}: {error}"));
        assert_eq!((services[0].name.as_str(), services[0].version), ("echo", 7), "answer {time}");
        assert_eq!(services[0].labels["a"], "ä", "answer {time}");
    }
    assert_eq!(peer.connections(), times + 1);
}

fn chunked(body: &str, size: usize) -> Vec<u8> {
    let mut bytes = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n\
        Transfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    for piece in body.as_bytes().chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[test]
fn an_answer_may_be_split_anywhere() {
    for whole in [json(SERVICES), chunked(SERVICES, 50)] {
        let split = |at: usize| {
            let script = Script::new().request().send(&whole[..at]).pause(Duration::from_millis(1));
            script.send(&whole[at..]).close()
        };
        let mut scripts = vec![agreed()];
        scripts.extend((1..whole.len()).map(split));
        is_understood(&Peer::unix_each(scripts), whole.len() - 1);
    }
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    for whole in [json(SERVICES), chunked(SERVICES, 7)] {
        let slow = Script::new().request().send_slowly(&whole, 1, Duration::from_micros(200)).close();
        is_understood(&Peer::tcp_each(vec![agreed(), slow.clone()]), 1);
        is_understood(&Peer::unix_each(vec![agreed(), slow]), 1);
    }
}

#[test]
fn chunks_may_have_any_size() {
    for size in 1..=SERVICES.len() {
        let peer = Peer::unix(answers(chunked(SERVICES, size)));
        assert_eq!(engine(&peer).services().unwrap()[0].name, "echo", "chunks of {size}");
        assert_eq!(peer.connections(), 1);
    }
}

#[test]
fn an_answer_may_end_with_its_connection() {
    let until_close = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{SERVICES}");
    let scripts = vec![agreed(), Script::new().request().send(until_close).close()];
    is_understood(&Peer::unix_each(scripts), 2);
}

#[test]
fn a_refusal_carries_status_and_words() {
    let page = "<html>\r\n<head><title>503 Service Unavailable</title></head>\r\n<body>\r\n\
        No server is available to handle this request.\r\n</body>\r\n</html>\r\n";
    let page_words = "<html> <head><title>503 Service Unavailable</title></head> <body> \
        No server is available to handle this request. </body> </html>";
    let not_manager = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to \
        connect this node to swarm and try again.";
    let long = "x".repeat(5000);
    let cases = [
        (message(404, "service nope not found"), 404, "service nope not found"),
        (
            message(409, "rpc error: code = AlreadyExists desc = in use"),
            409,
            "rpc error: code = AlreadyExists desc = in use",
        ),
        (message(500, "rpc error: code = DeadlineExceeded"), 500, "rpc error: code = DeadlineExceeded"),
        (message(503, not_manager), 503, not_manager),
        (answer(404, "text/plain", "page not found\n"), 404, "page not found"),
        (answer(503, "text/html", page), 503, page_words),
        (answer(403, "text/html", ""), 403, ""),
        (answer(500, "application/json", r#"{"error":"x"}"#), 500, r#"{"error":"x"}"#),
        (answer(500, "application/json", r#"{"message":["x"]}"#), 500, r#"{"message":["x"]}"#),
        (answer(301, "text/plain", "elsewhere"), 301, "elsewhere"),
        (message(500, &long), 500, &long[..1024]),
        (answer(500, "text/plain", &long), 500, &long[..1024]),
    ];
    for (bytes, want_status, want) in cases {
        let peer = Peer::unix(answers(bytes));
        let error = engine(&peer).service("nope").unwrap_err();
        assert_eq!(error.is_not_found(), want_status == 404);
        assert!(!error.is_timeout() && !error.is_transport() && !error.is_out_of_sequence());
        let Error::Engine { action, status, message } = error else { panic!("{error:?}") };
        assert_eq!(
            (action.as_str(), status, message.as_str()),
            ("inspect service `nope`", want_status, want)
        );
    }
}

#[test]
fn refusals_do_not_cost_the_connection() {
    let peer = Peer::unix(answers(message(404, "no such network")));
    let engine = engine(&peer);
    for _ in 0..3 {
        assert!(engine.network("none").unwrap_err().is_not_found());
    }
    assert_eq!(peer.connections(), 1);
}

#[test]
fn what_is_not_json_is_no_answer() {
    for body in ["", " \n", "OK", "<html></html>", "[{]", "[{}", "[] []", "\u{feff}[]"] {
        let peer = Peer::unix(answers(json(body)));
        let error = engine(&peer).services().unwrap_err();
        assert!(
            matches!(&error, Error::Json { action, .. } if action == "list services"),
            "{body:?}: {error}"
        );
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(engine(&Peer::unix(answers(json(&deep)))).services(), Err(Error::Json { .. })));
}

#[test]
fn what_is_asked_for_is_part_of_the_path_and_nothing_more() {
    let peer = Peer::unix(answers(message(404, "no")));
    let engine = engine(&peer);
    let name = "../a?b=c#d/ä %2f\r\nX: y";
    engine.service(name).unwrap_err();
    engine.network(name).unwrap_err();
    engine.container(name).unwrap_err();
    engine.tasks(Some(name)).unwrap_err();
    let encoded = "..%2Fa%3Fb%3Dc%23d%2F%C3%A4%20%252f%0D%0AX%3A%20y";
    let targets: Vec<String> = peer.requests().into_iter().skip(1).map(|request| request.target).collect();
    assert_eq!(targets[0], format!("/v1.41/services/{encoded}"));
    assert_eq!(targets[1], format!("/v1.41/networks/{encoded}"));
    assert_eq!(targets[2], format!("/v1.41/containers/{encoded}/json"));
    let filters =
        "/v1.41/tasks?filters=%7B%22desired-state%22%3A%5B%22running%22%5D%2C%22service%22%3A%5B%22";
    assert!(targets[3].starts_with(filters), "{}", targets[3]);
    assert!(
        peer.requests()
            .iter()
            .all(|request| request.header("Host").is_some() && request.header("X").is_none())
    );
}
