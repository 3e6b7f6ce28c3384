//! The version of the API that is agreed on, and agreed on anew when the engine was replaced.

use std::time::{Duration, Instant};

use docker_sock::{Error, Version};
use testkit::{Peer, Script};

use crate::daemon::{
    Api, PATIENCE, Replaceable, answer, engine, engine_within, json, message, serve, targets,
};

#[test]
fn each_engine_is_spoken_to_in_a_version_that_it_serves() {
    let newest = Version::NEWEST_KNOWN.to_string();
    let api = |newest, oldest, is_in_ping| Api { newest, oldest, is_in_ping };
    let cases = [
        ("Engine 1.12", Api::engine_1(), "1.24", 2),
        ("Engine 1.13", api("1.25", Some("1.12"), false), "1.25", 2),
        ("Engine 20.10", Api::engine_20(), "1.41", 1),
        ("Engine 25, the first with 1.44", api("1.44", Some("1.24"), true), "1.44", 1),
        ("Engine 29", Api::engine_29(), newest.as_str(), 2),
        ("Engine 29 that tells its oldest nowhere", Api { oldest: None, ..Api::engine_29() }, &newest, 2),
        ("nothing known is served", api("1.99", Some("1.90"), true), "1.90", 2),
    ];
    for (name, api, want, questions) in cases {
        let peer = Peer::unix(serve(move |request| api.respond(request, |_| json("[]"))));
        let engine = engine(&peer);
        assert_eq!(engine.services().unwrap(), [], "{name}");
        assert_eq!(engine.services().unwrap(), [], "{name}");
        assert_eq!(engine.version().unwrap().to_string(), want, "{name}");
        let asked = ["GET /_ping".to_owned(), "GET /version".to_owned()];
        let calls = vec![format!("GET /v{want}/services"); 2];
        assert_eq!(targets(&peer), [&asked[..questions], &calls[..]].concat(), "{name}");
        assert_eq!(peer.connections(), 1, "{name}: one connection serves all");
    }
}

#[test]
fn a_socket_proxy_without_ping_is_asked_for_the_version() {
    let peer = Peer::tcp(serve(|request| match request.target.as_str() {
        "/_ping" => answer(403, "text/html", "<html><body><h1>403 Forbidden</h1></body></html>"),
        _ => Api::engine_20().respond(request, |_| json("[]")),
    }));
    assert_eq!(engine(&peer).version().unwrap().to_string(), "1.41");
    assert_eq!(targets(&peer), ["GET /_ping", "GET /version"]);
}

#[test]
fn an_engine_that_was_replaced_is_asked_again() {
    let apis = vec![Api::engine_20(), Api::engine_29(), Api::engine_1()];
    let engine_29 = &format!("/v{}", Version::NEWEST_KNOWN);
    let versions = ["/v1.41", engine_29, "/v1.24"];
    for (from, to) in [(0, 1), (1, 0), (0, 2), (1, 2), (2, 1)] {
        let replaceable = Replaceable::new(apis.clone(), |_| json("[]"));
        replaceable.switch_to(from);
        let engine = engine(&replaceable.peer);
        engine.services().unwrap();
        let before = targets(&replaceable.peer).len();
        replaceable.switch_to(to);
        assert_eq!(engine.services().unwrap(), [], "{from} to {to}");
        let after = targets(&replaceable.peer).split_off(before);
        assert_eq!(after.first().unwrap(), &format!("GET {}/services", versions[from]), "{from} to {to}");
        assert_eq!(after.last().unwrap(), &format!("GET {}/services", versions[to]), "{from} to {to}");
        assert_eq!(after.iter().filter(|target| target.ends_with("services")).count(), 2);
    }
}

#[test]
fn events_and_updates_survive_a_replaced_engine_too() {
    let service = r#"{"ID":"s1","Version":{"Index":7},"Spec":{"Name":"echo"}}"#;
    let replaceable = Replaceable::new(vec![Api::engine_20(), Api::engine_29()], move |path| {
        if path.starts_with("/events") {
            return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        }
        json(if path.contains("update") { r#"{"Warnings":null}"# } else { service })
    });
    let engine = engine(&replaceable.peer);
    engine.version().unwrap();
    replaceable.switch_to(1);
    engine.events(&["service"], &[]).unwrap();
    assert_eq!(engine.version().unwrap(), Version::NEWEST_KNOWN);
    replaceable.switch_to(0);
    assert!(engine.update_service("echo", &mut |_| true).unwrap());
    assert_eq!(engine.version().unwrap().to_string(), "1.41");
}

#[test]
fn an_engine_that_refuses_every_version_is_asked_twice_and_not_for_ever() {
    let refusals = [
        "client version 1.41 is too new. Maximum supported API version is 1.40",
        "client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a \
        newer version",
        "client is newer than server (client API version: 1.41, server API version: 1.24)",
        "client is too old, minimum supported API version is 1.44, please upgrade your client to a newer version",
    ];
    for refusal in refusals {
        let peer = Peer::unix(serve(move |request| match request.target.as_str() {
            "/_ping" => Api::engine_20().ping(),
            _ => message(400, refusal),
        }));
        let error = engine(&peer).services().unwrap_err();
        assert!(
            matches!(&error, Error::Engine { status: 400, message, .. } if message == refusal),
            "{error}"
        );
        assert_eq!(targets(&peer), ["GET /_ping", "GET /v1.41/services"].repeat(2));
    }
}

#[test]
fn another_400_is_no_reason_to_ask_again() {
    let peer = Peer::unix(serve(|request| match request.target.as_str() {
        "/_ping" => Api::engine_20().ping(),
        _ => message(400, "invalid filter 'type'"),
    }));
    engine(&peer).services().unwrap_err();
    assert_eq!(targets(&peer), ["GET /_ping", "GET /v1.41/services"]);
}

#[test]
fn nonsense_about_the_version_is_an_error_that_says_so() {
    let cases = [
        (json(r#"{"ApiVersion":"new"}"#), "field /ApiVersion: expected a version"),
        (json(r#"{"ApiVersion":1.41}"#), "field /ApiVersion: expected a string"),
        (json("{}"), "field /ApiVersion: expected a version"),
        (json("1.41"), "field /ApiVersion: expected a version"),
        (json("OK"), "answer is not JSON: expected value at line 1 column 1"),
        (message(500, "out of order"), "engine answered 500: out of order"),
    ];
    for (bytes, want) in cases {
        let peer = Peer::unix(serve(move |request| match request.target.as_str() {
            "/_ping" => answer(200, "text/plain", "OK"),
            _ => bytes.clone(),
        }));
        let error = engine(&peer).services().unwrap_err();
        assert_eq!(error.to_string(), format!("failed to negotiate the API version: {want}"));
    }
}

#[test]
fn agreeing_anew_has_no_time_of_its_own() {
    let timeout = Duration::from_secs(3);
    let refusal = message(400, "client version 1.41 is too old. Minimum supported API version is 1.44");
    let script = Script::new().request().send(Api::engine_20().ping());
    let script = script.request().pause(timeout * 2 / 3).send(refusal).request().stall();
    let peer = Peer::unix(script);
    let since = Instant::now();
    let error = engine_within(&peer, timeout).services().unwrap_err();
    let took = since.elapsed();
    assert!(error.is_timeout(), "{error}");
    assert!(took >= timeout - Duration::from_millis(1) && took < timeout * 5 / 3, "{took:?}");
    assert!(took < PATIENCE);
}
