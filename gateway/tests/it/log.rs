//! The log, and a stopped reader of it.

use serde_json::json;
use testkit::{Reader, eventually, proc};

use crate::{ONE, SOON, at, gateway, path, well};

#[test]
fn a_stopped_log_reader_blocks_neither_the_gateway_nor_its_functions() {
    let (reader, peer) = (Reader::new(), well());
    let slow = json!({
        "name": "slow",
        "fprocess": "sh -c 'echo one >&2; exec sleep 600'",
        "environment": { "exec_timeout": "1s" },
    });
    let gateway = gateway(&[at(ONE, &[peer.addr()]), slow]).env("log", "debug").env("upstream_timeout", "5s");
    let gateway = gateway.start_before(&reader);
    reader.fill();
    assert_eq!(gateway.get(&path("")).status, 200);
    let mut client = gateway.connect();
    client.send("GET /function/slow/leaves HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let in_flight = |want: f64| {
        eventually(SOON, || match gateway.metrics("/metrics").sum("gateway_function_inflight", &[]) {
            count if count == want => Ok(()),
            count => Err(format!("{count} in flight")),
        });
    };
    in_flight(1.0);
    drop(client);
    in_flight(0.0);
    let reply = gateway.get("/function/slow");
    assert!(reply.status == 504 && reply.text().contains("exec_timeout"), "{}", reply.text());
    gateway.signal(proc::SIGHUP);
    eventually(SOON, || {
        gateway.get("/function/missing"); // logs at debug
        match gateway.metrics("/metrics").sum("log_lines_lost_total", &[]) {
            count if count > 0.0 => Ok(()),
            _ => Err("no lost line is counted".to_owned()),
        }
    });
    let _read = reader.text();
    gateway.signal(proc::SIGHUP);
    reader.wait_line(" log lines were lost: ", SOON);
    reader.fill();
    gateway.signal(proc::SIGTERM);
    assert_eq!(gateway.wait(SOON).code(), Some(0));
}

#[test]
fn a_refused_start_does_not_wait_for_the_log_reader() {
    let reader = Reader::new();
    reader.fill();
    let gateway = gateway(&[]).env("max_body", "much").stderr(reader.stream()).spawn();
    assert_eq!(gateway.wait(SOON).code(), Some(2));
}

#[test]
fn a_full_log_file_does_not_end_the_gateway() {
    let gateway = gateway(&[]).env("log", "debug").limit('f', 4).start();
    eventually(SOON, || {
        gateway.signal(proc::SIGHUP);
        match gateway.metrics("/metrics").sum("log_lines_lost_total", &[]) {
            0.0 => Err("nothing is lost".to_owned()),
            _ => Ok(()),
        }
    });
    gateway.signal(proc::SIGTERM);
    assert_eq!(gateway.wait(SOON).code(), Some(0));
}

#[test]
fn the_address_is_logged_at_every_level() {
    let gateway = gateway(&[]).env("log", "error").start();
    assert!(gateway.log().contains(" info listening on "), "{}", gateway.log());
}

#[test]
fn a_refused_setting_cannot_write_control_characters() {
    let output = gateway(&[]).env("functions_file", "/nonexistent/\u{1b}[31mred\nforged").run();
    assert!(output.code() != 0 && output.stderr.contains("red"), "{output:?}");
    assert!(
        !output.stderr.lines().any(|line| line.contains('\u{1b}') || line.starts_with("forged")),
        "{output:?}"
    );
}
