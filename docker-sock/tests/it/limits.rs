//! The bound on what is read, from both sides.

use docker_sock::{Error, MAX_ANSWER_BYTES};
use testkit::{Peer, Script};

use crate::daemon::{Api, engine};

/// An answer with a list that is white space but for its two brackets.
fn list(size: usize, head: &str) -> Script {
    let mut bytes = format!("HTTP/1.1 200 OK\r\n{head}\r\n[").into_bytes();
    let head = bytes.len() - 1;
    bytes.resize(head + size - 1, b' ');
    bytes.push(b']');
    Script::new().request().send(Api::engine_20().ping()).request().send(bytes).close()
}

#[test]
fn the_longest_answer() {
    let head = format!("Content-Length: {MAX_ANSWER_BYTES}\r\n");
    let peer = Peer::unix(list(MAX_ANSWER_BYTES, &head));
    assert_eq!(engine(&peer).services().unwrap(), []);
}

#[test]
fn an_answer_that_is_too_long() {
    let size = MAX_ANSWER_BYTES + 1;
    for head in [format!("Content-Length: {size}\r\n"), "Connection: close\r\n".to_owned()] {
        let error = engine(&Peer::unix(list(size, &head))).services().unwrap_err();
        assert!(matches!(&error, Error::Transport { source: http1::Error::TooLarge(MAX_ANSWER_BYTES), .. }));
        let text = error.to_string();
        assert!(text.starts_with("failed to list services at unix:///"), "{text}");
        assert!(text.ends_with(&format!("answer is longer than {MAX_ANSWER_BYTES} bytes")), "{text}");
    }
}

#[test]
fn an_answer_without_end() {
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, " ".repeat(1 << 20));
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let script = Script::new().request().send(Api::engine_20().ping()).request().send(head);
    let endless = (0..80).fold(script, |script, _| script.send(&chunk)).stall();
    let error = engine(&Peer::unix(endless)).services().unwrap_err();
    assert!(matches!(&error, Error::Transport { source: http1::Error::TooLarge(_), .. }), "{error}");
}
