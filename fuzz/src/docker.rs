//! The documents of the engine, through the whole client. The first byte says what is asked for; the rest is
//! what the engine answers.

use std::net::IpAddr;

use docker_sock::{Container, Error, Event, Info, Mode, Network, Service, Task};
use kit::Deadline;
use serde_json::Value;

use crate::engine::{PATIENCE, StandIn};

/// The most characters of an engine's message that are passed on.
const MAX_MESSAGE: usize = 1024;

thread_local! {
    static STAND_IN: StandIn = StandIn::start();
}

/// * What is not JSON is called that, and nothing else is.
/// * A field that is said to be wrong is there, and wrong, or is missing.
/// * What is read is what a reader of JSON finds there.
/// * An event is read line by line, up to the first that is none.
/// * A refusal is one short line, with the status that the engine sent.
/// * A service's spec is sent back with what was edited, and whole.
pub fn check(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    STAND_IN.with(|stand_in| match kind {
        b's' => check_list(stand_in.answering(200, body).services(), body, is_service),
        b't' => check_list(stand_in.answering(200, body).tasks(None), body, is_task),
        b'n' => check_list(stand_in.answering(200, body).networks(), body, is_network),
        b'S' => check_one(stand_in.answering(200, body).service(&own_id(body, "ID")), body, is_service),
        b'N' => check_one(stand_in.answering(200, body).network(&own_id(body, "Id")), body, is_network),
        b'c' => check_one(stand_in.answering(200, body).container("x"), body, is_container),
        b'i' => check_one(stand_in.answering(200, body).info(), body, is_info),
        b'e' => check_events(stand_in, body),
        b'x' => check_refusal(stand_in, body),
        b'u' => check_update(stand_in, body),
        _ => {}
    });
}

/// The id that a document says, so that it is the one that was asked for.
fn own_id(body: &[u8], field: &str) -> String {
    let id = serde_json::from_slice::<Value>(body).ok();
    let id = id.as_ref().and_then(|value| value.get(field)?.as_str());
    id.filter(|id| !id.is_empty()).unwrap_or("x").to_owned()
}

fn check_one<T>(result: Result<T, Error>, body: &[u8], is_same: fn(&T, &Value) -> bool) {
    let value = serde_json::from_slice::<Value>(body).ok();
    match (result, value) {
        (Ok(read), Some(value)) => assert!(is_same(&read, &value), "differs: {value}"),
        (Ok(_), None) => panic!("read, and not JSON"),
        (Err(error), value) => check_error(&error, value.as_ref()),
    }
}

fn check_list<T>(result: Result<Vec<T>, Error>, body: &[u8], is_same: fn(&T, &Value) -> bool) {
    let value = serde_json::from_slice::<Value>(body).ok();
    match (result, value) {
        (Ok(read), Some(Value::Array(items))) => {
            assert_eq!(read.len(), items.len());
            for (read, item) in read.iter().zip(&items) {
                assert!(is_same(read, item), "differs: {item}");
            }
        }
        (Ok(read), Some(Value::Null)) => assert!(read.is_empty()),
        (Ok(_), value) => panic!("read, and no list: {value:?}"),
        (Err(error), value) => check_error(&error, value.as_ref()),
    }
}

fn check_error(error: &Error, value: Option<&Value>) {
    let text = error.to_string();
    assert!(text.starts_with("failed to "), "{text}");
    match (error, value) {
        (Error::Json { .. }, None) => {}
        (Error::Field { field, expected, .. }, Some(value)) => {
            let found = value.pointer(field).filter(|value| !value.is_null());
            // The only names in a path that are not the engine's own; nothing below them is needed.
            assert!(found.is_some() || !field.starts_with("/NetworkSettings/"), "{text}, in {value}");
            assert!(is_wrong(found, expected), "{text}, and it is {found:?} in {value}");
        }
        // Another document than the one that was asked for.
        (Error::Engine { status: 404, .. }, Some(_)) => {}
        _ => panic!("{text}: {value:?}"),
    }
}

/// Whether a value is not what was expected of it.
fn is_wrong(value: Option<&Value>, expected: &str) -> bool {
    let text = value.and_then(Value::as_str);
    match expected {
        "a string" => text.is_none_or(str::is_empty),
        "a number" => value.and_then(Value::as_u64).is_none(),
        "true or false" => value.and_then(Value::as_bool).is_none(),
        "a list" => value.and_then(Value::as_array).is_none(),
        "a map" => value.and_then(Value::as_object).is_none(),
        "a map of strings" => {
            let entries = value.and_then(Value::as_object);
            entries.is_none_or(|entries| entries.values().any(|value| !value.is_string()))
        }
        "an address such as 10.0.1.5/24" => {
            text.is_none_or(|text| text.split('/').next().unwrap_or_default().parse::<IpAddr>().is_err())
        }
        other => panic!("expected {other}"),
    }
}

/// The text at a path; absent is empty.
fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn is_labels(labels: &std::collections::HashMap<String, String>, value: Option<&Value>) -> bool {
    let entries = value.and_then(Value::as_object);
    labels.len() == entries.map_or(0, serde_json::Map::len)
        && labels.iter().all(|(name, label)| entries.is_some_and(|all| all[name].as_str() == Some(label)))
}

fn is_service(service: &Service, value: &Value) -> bool {
    let replicas = value.pointer("/Spec/Mode/Replicated/Replicas").and_then(Value::as_u64);
    let is = |path| value.pointer(path).is_some_and(|mode| !mode.is_null());
    let mode = match service.mode {
        Mode::Replicated(count) => is("/Spec/Mode/Replicated") && count == replicas.unwrap_or(1),
        Mode::Global => is("/Spec/Mode/Global") && !is("/Spec/Mode/Replicated"),
        Mode::Other => !is("/Spec/Mode/Global") && !is("/Spec/Mode/Replicated"),
    };
    let environment = value.pointer("/Spec/TaskTemplate/ContainerSpec/Env").and_then(Value::as_array);
    let words = |field| {
        let path = format!("/Spec/TaskTemplate/ContainerSpec/{field}");
        value.pointer(&path).and_then(Value::as_array).map_or(0, Vec::len)
    };
    mode && !service.id.is_empty()
        && service.id == text(value, "/ID")
        && service.name == text(value, "/Spec/Name")
        && service.image == text(value, "/Spec/TaskTemplate/ContainerSpec/Image")
        && service.update_state == text(value, "/UpdateStatus/State")
        && service.command.len() == words("Command") + words("Args")
        && service.environment.len() == environment.map_or(0, Vec::len)
        && is_labels(&service.labels, value.pointer("/Spec/Labels"))
        && is_labels(&service.container_labels, value.pointer("/Spec/TaskTemplate/ContainerSpec/Labels"))
}

fn is_task(task: &Task, value: &Value) -> bool {
    let (state, desired) = (text(value, "/Status/State"), text(value, "/DesiredState"));
    task.id == text(value, "/ID")
        && task.service_id == text(value, "/ServiceID")
        && task.is_running() == (state == "running" && desired == "running")
        && task.slot == value.pointer("/Slot").and_then(Value::as_u64).unwrap_or(0)
        && task.container_id == text(value, "/Status/ContainerStatus/ContainerID")
        && task.addresses.iter().all(|address| !address.network_id.is_empty())
}

fn is_network(network: &Network, value: &Value) -> bool {
    let is_id = [text(value, "/Id"), text(value, "/ID")].contains(&&*network.id) && !network.id.is_empty();
    let is_ingress = value.pointer("/Ingress").and_then(Value::as_bool).unwrap_or(false);
    is_id && network.name == text(value, "/Name") && network.is_ingress == is_ingress
}

fn is_container(container: &Container, value: &Value) -> bool {
    container.id == text(value, "/Id")
        && text(value, "/Name").ends_with(&container.name)
        && is_labels(&container.labels, value.pointer("/Config/Labels"))
        && container.networks.iter().all(|id| !id.is_empty())
}

fn is_info(info: &Info, value: &Value) -> bool {
    let is_manager = value.pointer("/Swarm/ControlAvailable").and_then(Value::as_bool).unwrap_or(false);
    info.is_manager == is_manager && info.node_id == text(value, "/Swarm/NodeID")
}

fn is_event(event: &Event, value: &Value) -> bool {
    event.kind == text(value, "/Type")
        && event.action == text(value, "/Action")
        && event.id == text(value, "/Actor/ID")
}

fn check_events(stand_in: &StandIn, body: &[u8]) {
    let mut stream = stand_in.answering(200, body).events(&["service"], &[]).expect("a stream");
    let mut lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
    lines.pop(); // without an end
    for line in lines.into_iter().filter(|line| !line.trim_ascii().is_empty()) {
        let result = stream.next(Deadline::after(PATIENCE)).map(|event| event.expect("an event in time"));
        let is_over = result.is_err();
        check_one(result, line, is_event);
        if is_over {
            return;
        }
    }
    let end = stream.next(Deadline::after(PATIENCE));
    assert!(end.as_ref().is_err_and(Error::is_transport), "{end:?}");
}

/// Three digits of a status, then the body.
fn check_refusal(stand_in: &StandIn, body: &[u8]) {
    let Some((status, body)) = body.split_at_checked(3) else { return };
    let status = std::str::from_utf8(status).ok().and_then(|text| text.parse().ok());
    let Some(status) = status.filter(|status| (300..600).contains(status) && *status != 304) else { return };
    let error = stand_in.answering(status, body).service("x").expect_err("a refusal");
    let Error::Engine { status: told, message, .. } = &error else { panic!("{error}") };
    assert_eq!(*told, status);
    assert!(message.lines().count() <= 1 && message.chars().count() <= MAX_MESSAGE, "{message:?}");
    assert!(!message.ends_with('\n') && error.to_string().ends_with(&**message));
    let own = serde_json::from_slice::<Value>(body).ok();
    if let Some(own) = own.as_ref().and_then(|value| value.get("message")).and_then(Value::as_str) {
        let words = own.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.starts_with(&**message) && message.is_empty() == words.is_empty(), "{own:?}");
    }
}

fn check_update(stand_in: &StandIn, body: &[u8]) {
    let id = own_id(body, "ID");
    let mut edited = None;
    let result = stand_in.answering(200, body).update_service(&id, &mut |service| {
        let spec = &mut service["Spec"];
        spec.as_object_mut().expect("a spec is a map").insert("Fuzz".to_owned(), 1.into());
        edited = Some(spec.clone());
        true
    });
    let value = serde_json::from_slice::<Value>(body).ok();
    match result {
        Ok(is_changed) => {
            let mut value = value.expect("it was read");
            let target =
                format!("/v1.41/services/{}/update?version={}", encoded(&id), value["Version"]["Index"]);
            let (posted_to, posted) = stand_in.posted().expect("it was sent");
            let posted: Value = serde_json::from_slice(&posted).expect("JSON was sent");
            value["Spec"]["Fuzz"] = 1.into();
            assert!(is_changed && is_close(&posted, &value["Spec"]), "{posted} for {value}");
            assert_eq!((posted_to, edited.as_ref()), (target, Some(&value["Spec"])));
        }
        Err(error) => {
            check_error(&error, value.as_ref());
            assert!(edited.is_none() && stand_in.posted().is_none(), "{error}");
        }
    }
}

/// Percent-encoded, but for what needs not be (RFC 3986 section 2.3).
fn encoded(text: &str) -> String {
    let kept = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let part = |byte| if kept(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(part).collect()
}

/// Whether two documents are the same, but for the last digit of fractions.
fn is_close(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            let (a, b) = (a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(0.0));
            (a - b).abs() <= a.abs() * f64::EPSILON * 4.0
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_close(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_close(a, b)))
        }
        _ => one == other,
    }
}
