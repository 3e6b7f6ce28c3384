//! The log, and a log reader that has stopped.

use testkit::unreachable::reserved_port;
use testkit::{Reader, Running, eventually, proc};

use crate::http_mode::around;
use crate::{SOON, shell};

/// Waits until so many requests are in flight.
#[track_caller]
fn in_flight(dog: &Running, want: f64) {
    eventually(SOON, || match dog.metrics("/_/metrics").sum("http_requests_in_flight", &[]) {
        count if count == want => Ok(()),
        count => Err(format!("{count} in flight")),
    });
}

/// Waits until a line is counted as lost.
#[track_caller]
fn loses_a_line(dog: &Running) {
    eventually(SOON, || match dog.metrics("/_/metrics").sum("log_lines_lost_total", &[]) {
        count if count > 0.0 => Ok(()),
        _ => Err("no lost line is counted".to_owned()),
    });
}

#[test]
fn a_log_reader_that_stops_does_not_stop_calls() {
    for mode in ["fork", "streaming"] {
        let reader = Reader::new();
        let dog = shell("echo one >&2; echo two >&2; exec sleep 600").env("mode", mode);
        let dog = dog.env("write_debug", "true").env("exec_timeout", "1s").start_before(&reader);
        reader.fill();
        let mut client = dog.connect();
        client.send("GET /leaves HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        in_flight(&dog, 1.0);
        drop(client);
        in_flight(&dog, 0.0);
        assert_eq!(dog.get("/").status, 504, "exec_timeout");
        loses_a_line(&dog);
        let _read = reader.text();
        assert_eq!(dog.get("/").status, 504);
        let line = reader.wait_line(" log lines were lost: ", SOON);
        assert!(line.contains(" warn "), "{line}");
        reader.fill();
        dog.signal(proc::SIGTERM);
        assert_eq!(dog.wait(SOON).code(), Some(0));
    }
}

#[test]
fn a_log_reader_that_stops_does_not_stop_a_process_that_stays() {
    let (reader, port) = (Reader::new(), reserved_port());
    let dog = around("sh -c 'while echo much >&2; do :; done'", port).env("exec_timeout", "1s");
    let dog = dog.start_before(&reader);
    reader.fill();
    loses_a_line(&dog);
    assert_eq!(dog.get("/").status, 504, "exec_timeout");
    dog.signal(proc::SIGTERM);
    dog.wait(SOON);
}

#[test]
fn a_start_that_is_refused_does_not_wait_for_the_log() {
    let reader = Reader::new();
    reader.fill();
    let dog = shell("true").env("exec_timeout", "soon").stderr(reader.stream()).spawn();
    assert_eq!(dog.wait(SOON).code(), Some(2));
}

/// SIGXFSZ would end fwatchdog. The process still gets the signal's default, as it gets every limit.
#[test]
fn a_log_file_that_reaches_its_limit_ends_nothing() {
    let dog = shell("echo much >&2; grep SigIgn /proc/self/status").env("write_debug", "true").limit('f', 1);
    let dog = dog.start();
    eventually(SOON, || match dog.get("/") {
        reply if reply.text() != "SigIgn:\t0000000000000000\n" => Err(reply.text()),
        _ if dog.metrics("/_/metrics").sum("log_lines_lost_total", &[]) == 0.0 => {
            Err("nothing is lost".to_owned())
        }
        _ => Ok(()),
    });
    dog.signal(proc::SIGTERM);
    assert_eq!(dog.wait(SOON).code(), Some(0));
}
