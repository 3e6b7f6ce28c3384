//! How a process ends, and the answer to its caller.

use testkit::{Bin, HttpError, proc};

use crate::{counts, dog, shell};

#[test]
fn a_non_zero_exit_is_500_with_the_output() {
    let dog = dog("exits 3 sorry").start();
    let reply = dog.get("/");
    assert_eq!((reply.status, reply.header("x-exit-code"), reply.text().as_str()), (500, Some("3"), "sorry"));
    counts(&dog, "500", 1.0);
}

#[test]
fn a_signal_is_500_with_its_number() {
    for signal in [proc::SIGKILL, proc::SIGTERM, 6] {
        let reply = dog(&format!("dies_by_signal {signal}")).start().get("/");
        assert_eq!((reply.status, reply.text().as_str()), (500, "dying\n"));
        assert_eq!(reply.header("x-exit-signal"), Some(signal.to_string().as_str()));
        assert_eq!(reply.header("x-exit-code"), None);
    }
}

#[test]
fn a_program_that_cannot_be_started_is_500_with_the_reason() {
    let dog = Bin::fwatchdog().env("fprocess", "/nonexistent/program x").start();
    let reply = dog.get("/");
    assert_eq!(reply.status, 500);
    assert!(
        reply.text().contains("/nonexistent/program") && reply.text().contains("No such file"),
        "{reply:?}"
    );
    assert!(dog.log().contains(" error ") && dog.log().contains("/nonexistent/program"), "{}", dog.log());
    let bin = Bin::fwatchdog();
    let file = bin.file("not-executable", "x");
    let reply = bin.env("fprocess", file.as_os_str()).start().get("/");
    assert!(reply.status == 500 && reply.text().contains("denied"), "{reply:?}");
}

#[test]
fn a_failure_after_the_answer_began_breaks_it_off() {
    for program in ["writes 300000 4", "writes 2000000 1"] {
        let dog = dog(program).start();
        let error = dog.request().send().unwrap_err();
        let is_cut = matches!(error, HttpError::CutBody(_) | HttpError::CutHead(_) | HttpError::Broken(..));
        assert!(is_cut, "{error}");
        counts(&dog, "500", 1.0);
    }
}

#[test]
fn output_is_held_up_to_the_limit_and_streamed_beyond() {
    for (bytes, limit, is_streamed) in
        [(1000, "1000", false), (1001, "1000", true), (1, "0", true), (0, "0", false)]
    {
        let dog = dog(&format!("writes {bytes}")).env("buffer_output", limit).start();
        let reply = dog.get("/");
        assert_eq!((reply.status, reply.body.len()), (200, bytes));
        let has_length = reply.header("content-length").is_some();
        assert_eq!(has_length, !is_streamed, "{bytes} bytes with buffer_output={limit}");
    }
    // Up to the limit the status still tells of a failure.
    let reply = dog("writes 1000 9").env("buffer_output", "1000").start().get("/");
    assert_eq!((reply.status, reply.header("x-exit-code"), reply.body.len()), (500, Some("9"), 1000));
}

#[test]
fn a_streamed_answer_arrives_while_the_process_runs() {
    let dog = shell("echo begun; read line; echo $line").env("buffer_output", "0").start();
    let mut connection = dog.connect();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nm";
    connection.send(head).unwrap();
    // The process waits for a line, which the client sends once it sees the first output.
    let head = connection.head().unwrap();
    assert_eq!(head.status, 200);
    connection.send("ore\n").unwrap();
    let raw = connection.rest();
    let text = String::from_utf8_lossy(&raw.bytes);
    assert!(text.contains("begun") && text.contains("more") && text.ends_with("0\r\n\r\n"), "{text}");
}

#[test]
fn an_output_to_an_old_client_ends_with_the_connection() {
    let reply = dog("writes 400000").start().request().http10().send().unwrap();
    assert_eq!((reply.status, reply.body.len()), (200, 400_000));
}
