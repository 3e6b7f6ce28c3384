//! The access log: a line for each request, and a stopped reader.

use std::thread;

use testkit::{Peer, Reader, Running, Script, eventually, proc};

use crate::{ONE, SOON, before, path, raw, well};

/// Waits for `count` lines; returns them without their time.
#[track_caller]
fn lines(gateway: &Running, count: usize) -> Vec<String> {
    let text = eventually(SOON, || match gateway.stdout() {
        text if text.lines().count() >= count && text.ends_with('\n') => Ok(text),
        text => Err(format!("expected {count} lines, got\n{text}")),
    });
    let behind_the_time = |line: &str| {
        let (time, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no time in {line}"));
        assert!(time.len() == "1970-01-01T00:00:00.005Z".len() && time.ends_with('Z'), "{line}");
        rest.to_owned()
    };
    text.lines().map(behind_the_time).collect()
}

/// A line without its duration.
fn timeless(line: &str) -> String {
    let words = line.split(' ').filter(|word| !word.starts_with("duration="));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn each_request_is_logged_as_one_line() {
    let peer = well();
    let gateway = before(&peer).env("access_log", "true").start();
    let request = gateway.request().path(path("/x?secret=1")).header("X-Call-Id", "c1");
    assert_eq!(request.send().unwrap().status, 200);
    let missing = gateway.request().path("/function/missing").header("X-Call-Id", "c2").send().unwrap();
    assert_eq!(gateway.get("/healthz").status, 200);
    let mut client = gateway.connect();
    client.send("GET\u{1b}[31m / HTTP/1.1\r\n\r\n").unwrap();
    let refused = client.reply("GET").unwrap();
    // A line is written after its answer, so lines of different connections may change places.
    let mut want = [
        "peer=127.0.0.1 method=GET function=one status=200 bytes=2 call=c1".to_owned(),
        format!("peer=127.0.0.1 method=GET function=missing status=404 bytes={} call=c2", missing.body.len()),
        "peer=127.0.0.1 method=GET function=- status=200 bytes=3 call=-".to_owned(),
        format!("peer=127.0.0.1 method=- function=- status=400 bytes={} call=-", refused.body.len()),
    ];
    want.sort();
    let mut got: Vec<_> = lines(&gateway, 4).iter().map(|line| timeless(line)).collect();
    got.sort();
    assert_eq!(got, want);
}

#[test]
fn a_client_that_leaves_is_logged_as_499() {
    let peer = Peer::tcp(Script::new().request().end());
    let gateway = before(&peer).env("access_log", "true").start();
    let mut client = gateway.connect();
    client.send(raw("GET", "X-Call-Id: c1\r\n", "")).unwrap();
    peer.wait_requests(1, SOON);
    drop(client);
    let line = timeless(&lines(&gateway, 1)[0]);
    assert_eq!(line, format!("peer=127.0.0.1 method=GET function={ONE} status=499 bytes=0 call=c1"));
}

#[test]
fn lines_of_many_clients_stay_whole() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 50;
    let peer = well();
    let gateway = before(&peer).env("access_log", "true").start();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut kept = gateway.client();
                for number in 0..REQUESTS {
                    let request =
                        kept.request().path(path("")).header("X-Call-Id", format!("{client}-{number}"));
                    assert_eq!(request.send().unwrap().status, 200);
                }
            });
        }
    });
    let mut got: Vec<String> =
        lines(&gateway, CLIENTS * REQUESTS).iter().map(|line| timeless(line)).collect();
    let numbers = || (0..CLIENTS).flat_map(|client| (0..REQUESTS).map(move |number| (client, number)));
    let mut want: Vec<String> = numbers()
        .map(|(client, number)| {
            format!("peer=127.0.0.1 method=GET function=one status=200 bytes=2 call={client}-{number}")
        })
        .collect();
    got.sort();
    want.sort();
    assert_eq!(got, want);
}

#[test]
fn the_access_log_is_off_by_default() {
    let peer = well();
    let gateway = before(&peer).start();
    assert_eq!(gateway.get(&path("")).status, 200);
    assert_eq!(gateway.metrics("/metrics").sum("gateway_access_log_lines_lost_total", &[]), 0.0);
    gateway.signal(proc::SIGTERM);
    gateway.wait(SOON);
    assert_eq!(gateway.stdout(), "");
}

#[test]
fn a_stopped_reader_of_the_access_log_blocks_nothing() {
    let reader = Reader::new();
    let peer = well();
    let gateway = before(&peer).env("access_log", "true").stdout(reader.stream()).start();
    reader.fill();
    for _ in 0..20 {
        assert_eq!(gateway.get(&path("")).status, 200);
    }
    eventually(SOON, || match gateway.metrics("/metrics").sum("gateway_access_log_lines_lost_total", &[]) {
        count if count >= 20.0 => Ok(()),
        count => Err(format!("{count} lost lines are counted")),
    });
    let _read = reader.text();
    assert_eq!(gateway.get(&path("")).status, 200);
    reader.wait_line(" lost=2", SOON);
    reader.wait_line(" function=one status=200 ", SOON);
    reader.fill();
    gateway.signal(proc::SIGTERM);
    assert_eq!(gateway.wait(SOON).code(), Some(0));
}
