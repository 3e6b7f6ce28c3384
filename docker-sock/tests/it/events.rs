//! The stream of events: in pieces, in bunches, with pauses, and its ends.

use std::time::{Duration, Instant};

use docker_sock::{Error, Event, EventStream, MAX_EVENT_BYTES};
use kit::Deadline;
use testkit::{Gate, Peer, Script, eventually};

use crate::daemon::{Api, PATIENCE, SHORT, answer, answers, engine, json, message};

const HEAD: &str = "HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Type: application/json\r\n\
    Transfer-Encoding: chunked\r\n\r\n";

/// An event as the engine writes it.
fn line(action: &str, id: &str) -> String {
    format!(
        "{{\"Type\":\"service\",\"Action\":\"{action}\",\"Actor\":{{\"ID\":\"{id}\",\"Attributes\":{{\"name\":\
        \"echo\",\"replicas.new\":\"2\"}}}},\"scope\":\"swarm\",\"time\":1795477689,\"timeNano\":1795477689347}}\n"
    )
}

fn event(action: &str, id: &str) -> Event {
    Event { kind: "service".into(), action: action.into(), id: id.into(), ..nothing() }
}

fn nothing() -> Event {
    let empty = String::new;
    Event { kind: empty(), action: empty(), id: empty(), task: empty(), service: empty(), container: empty() }
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A peer whose second connection is a stream, with the stream.
fn stream(script: impl FnOnce(Script) -> Script) -> (Peer, EventStream) {
    let peer = Peer::unix_each(vec![answers(json("[]")), script(Script::new().request().send(HEAD))]);
    let engine = engine(&peer);
    engine.version().unwrap();
    let stream = engine.events(&["service", "network"], &[]).unwrap();
    (peer, stream)
}

fn soon() -> Deadline {
    Deadline::after(PATIENCE)
}

/// That nothing comes for a short while.
#[track_caller]
fn is_quiet(stream: &mut EventStream) {
    let since = Instant::now();
    assert_eq!(stream.next(Deadline::after(SHORT)).unwrap(), None);
    assert!(since.elapsed() >= SHORT - Duration::from_millis(1));
}

#[test]
fn a_stream_is_asked_for_by_kind_and_opened_before_anything_happens() {
    let (peer, mut stream) = stream(Script::stall);
    is_quiet(&mut stream);
    let filters = "%7B%22type%22%3A%5B%22service%22%2C%22network%22%5D%7D";
    assert_eq!(peer.requests()[1].target, format!("/v1.41/events?filters={filters}"));
}

#[test]
fn several_events_in_one_piece_come_one_by_one() {
    let bunch = chunk(&[line("create", "s1"), line("update", "s2"), line("remove", "s3")].concat());
    let (_peer, mut stream) = stream(|script| script.send(bunch).stall());
    for want in [event("create", "s1"), event("update", "s2"), event("remove", "s3")] {
        assert_eq!(stream.next(soon()).unwrap(), Some(want));
    }
    is_quiet(&mut stream);
}

#[test]
fn events_that_have_arrived_are_there_after_the_deadline() {
    let bunch = chunk(&[line("create", "s1"), line("update", "s2")].concat());
    let (_peer, mut stream) = stream(|script| script.send(bunch).stall());
    stream.next(soon()).unwrap();
    let past = Deadline::at(Instant::now());
    assert_eq!(stream.next(past).unwrap(), Some(event("update", "s2")));
    assert_eq!(stream.next(past).unwrap(), None);
}

#[test]
fn an_event_may_be_split_anywhere_by_chunks_and_by_pieces() {
    let lines = [line("create", "s1"), line("update", "s2")].concat();
    for at in 1..lines.len() {
        let (first, second) = lines.split_at(at);
        let bytes = [chunk(first), chunk(second)].concat();
        let (_peer, mut stream) = stream(|script| script.send(bytes).stall());
        assert_eq!(stream.next(soon()).unwrap(), Some(event("create", "s1")), "at {at}");
        assert_eq!(stream.next(soon()).unwrap(), Some(event("update", "s2")), "at {at}");
    }
    let slow = chunk(&lines);
    let (_peer, mut stream) =
        stream(|script| script.send_slowly(slow, 1, Duration::from_micros(100)).stall());
    assert_eq!(stream.next(soon()).unwrap(), Some(event("create", "s1")));
    assert_eq!(stream.next(soon()).unwrap(), Some(event("update", "s2")));
}

#[test]
fn half_an_event_is_kept_over_a_timeout() {
    let gates = [Gate::new(), Gate::new()];
    let text = line("update", "s1");
    let (first, rest) = text.split_at(text.len() / 3);
    let (second, third) = rest.split_at(rest.len() - 1);
    let pieces = [chunk(first), chunk(second), chunk(third)];
    let (_peer, mut stream) = stream(|script| {
        let script = script.send(&pieces[0]).wait(&gates[0]).send(&pieces[1]);
        script.wait(&gates[1]).send(&pieces[2]).stall()
    });
    is_quiet(&mut stream);
    is_quiet(&mut stream);
    gates[0].open();
    is_quiet(&mut stream);
    gates[1].open();
    assert_eq!(stream.next(soon()).unwrap(), Some(event("update", "s1")));
}

#[test]
fn blank_lines_and_returns_are_no_events() {
    let text = format!("\n\r\n \n{}\r\n\n", line("create", "s1").trim_end());
    let (_peer, mut stream) = stream(|script| script.send(chunk(&text)).stall());
    assert_eq!(stream.next(soon()).unwrap(), Some(event("create", "s1")));
    is_quiet(&mut stream);
}

#[test]
fn an_event_of_an_old_engine_or_of_something_else() {
    let text = concat!(
        r#"{"status":"start","id":"c1","from":"cap:1","Type":"container","Action":"start","Actor":{"ID":"c1"}}"#,
        "\n",
        r#"{"status":"pull","id":"alpine","time":1}"#,
        "\n",
    );
    let (_peer, mut stream) = stream(|script| script.send(chunk(text)).stall());
    let start = Event { kind: "container".into(), action: "start".into(), id: "c1".into(), ..nothing() };
    assert_eq!(stream.next(soon()).unwrap(), Some(start));
    assert_eq!(stream.next(soon()).unwrap().unwrap().kind, "");
}

#[test]
fn what_happens_to_a_container_names_its_service_and_its_network() {
    let text = concat!(
        r#"{"Type":"container","Action":"die","Actor":{"ID":"c1","Attributes":{"com.docker.swarm.service.id":"s1","com.docker.swarm.task.id":"t1"}}}"#,
        "\n",
        r#"{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c1","name":"functions","type":"overlay"}}}"#,
        "\n",
    );
    let (_peer, mut stream) = stream(|script| script.send(chunk(text)).stall());
    let die = stream.next(soon()).unwrap().unwrap();
    assert_eq!((&*die.service, &*die.task, &*die.container), ("s1", "t1", ""));
    let connect = stream.next(soon()).unwrap().unwrap();
    assert_eq!((&*connect.id, &*connect.container, &*connect.service), ("n1", "c1", ""));
}

#[test]
fn a_stream_that_ends_says_so_after_its_last_event() {
    let whole = chunk(&line("create", "s1"));
    let half = &line("update", "s2")[..20];
    let ends = [
        ("in order", format!("{whole}0\r\n\r\n")),
        ("abruptly", whole.clone()),
        ("in an event", format!("{whole}{}0\r\n\r\n", chunk(half))),
        ("in a chunk", format!("{whole}ff\r\n{half}")),
    ];
    for (name, bytes) in ends {
        let (_peer, mut stream) = stream(|script| script.send(bytes).close());
        assert_eq!(stream.next(soon()).unwrap(), Some(event("create", "s1")), "{name}");
        for _ in 0..2 {
            let error = stream.next(soon()).unwrap_err();
            assert!(error.is_transport() && !error.is_timeout(), "{name}: {error:?}");
            assert!(error.to_string().starts_with("failed to read events at unix:///"), "{name}: {error}");
        }
    }
}

#[test]
fn a_stream_whose_engine_dies_ends_while_it_is_waited_for() {
    let (peer, mut stream) = stream(Script::stall);
    let waiting = std::thread::spawn(move || stream.next(soon()));
    eventually(PATIENCE, || if peer.requests().len() == 2 { Ok(()) } else { Err("not asked".to_owned()) });
    peer.hang_up();
    assert!(waiting.join().unwrap().unwrap_err().is_transport());
}

#[test]
fn the_longest_event_and_one_that_is_longer() {
    let padded = |size: usize| {
        let event = r#"{"Type":"service","Action":"update","Actor":{"ID":"s1"}}"#;
        format!("{event}{}\n", " ".repeat(size - event.len()))
    };
    let longest = padded(MAX_EVENT_BYTES);
    let (_peer, mut stream) = stream(|script| script.send(chunk(&longest)).stall());
    assert_eq!(stream.next(soon()).unwrap(), Some(event("update", "s1")));
    is_quiet(&mut stream);

    let endless = "x".repeat(MAX_EVENT_BYTES + 1);
    for text in [padded(MAX_EVENT_BYTES + 1), endless] {
        let (_peer, mut stream) = self::stream(|script| script.send(chunk(&text)).stall());
        for _ in 0..2 {
            let error = stream.next(soon()).unwrap_err();
            assert!(matches!(error, Error::EventTooLong(MAX_EVENT_BYTES)), "{error:?}");
        }
    }
}

#[test]
fn what_is_no_event_is_an_error() {
    for (text, want) in [
        ("event: service\n", "failed to read events: answer is not JSON: expected value at line 1 column 1"),
        (r#"{"Type":7}"#, "failed to read events: field /Type: expected a string"),
    ] {
        let (_peer, mut stream) = stream(|script| script.send(chunk(&format!("{}\n", text.trim()))).stall());
        assert_eq!(stream.next(soon()).unwrap_err().to_string(), want);
    }
}

#[test]
fn a_refused_stream_carries_the_engines_words_however_they_come() {
    for whole in [message(400, "invalid filter 'type'"), answer(400, "text/plain", "invalid filter 'type'\n")]
    {
        let pause = Duration::from_micros(500);
        let refusal = Script::new().request().send_slowly(whole, 1, pause).stall();
        let peer = Peer::unix_each(vec![answers(json("[]")), refusal]);
        let engine = engine(&peer);
        engine.version().unwrap();
        let error = engine.events(&["nothing"], &[]).err().expect("a refusal");
        assert_eq!(error.to_string(), "failed to read events: engine answered 400: invalid filter 'type'");
    }
}

#[test]
fn calls_go_on_beside_a_stream() {
    let peer = Peer::unix_each(vec![
        answers(json("[]")),
        Script::new().request().send(HEAD).send(chunk(&line("create", "s1"))).stall(),
    ]);
    let engine = engine(&peer);
    engine.services().unwrap();
    let mut stream = engine.events(&["service"], &[]).unwrap();
    assert_eq!(engine.services().unwrap(), []);
    assert_eq!(stream.next(soon()).unwrap(), Some(event("create", "s1")));
    assert_eq!(engine.services().unwrap(), []);
    assert_eq!(peer.connections(), 2);
    drop(stream);
    assert_eq!(Api::engine_20().newest, engine.version().unwrap().to_string());
}
