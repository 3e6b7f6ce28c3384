//! `mode=streaming`: output goes out as it comes. `cgi_response`: the output tells status and headers, in both modes.

use testkit::Bin;
use testkit::reply::BodyReader;

use crate::{SOON, counts, dog, is_idle, shell};

fn streaming(script: &str) -> Bin {
    shell(script).env("mode", "streaming")
}

fn cgi(script: &str) -> Bin {
    shell(script).env("cgi_response", "true")
}

#[test]
fn the_first_output_is_out_while_the_process_waits_for_more_input() {
    // The process prints a line, waits for a line, and answers it: both sides would wait if a byte were held back.
    let script = "echo ready; while read -r line; do echo \"got $line\"; done";
    let dog = streaming(script).start();
    let mut connection = dog.connect();
    let post = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\no";
    connection.within(SOON).send(post).unwrap();
    let head = connection.head().unwrap();
    assert_eq!((head.status, head.header("transfer-encoding")), (200, Some("chunked")));
    let mut body = BodyReader::of(&head, "POST").unwrap();
    let mut piece = || connection.piece(&mut body).unwrap().map(|piece| String::from_utf8(piece).unwrap());
    assert_eq!(piece().as_deref(), Some("ready\n"));
    for (line, rest) in [("one", "ne\n\r\n"), ("two", "4\r\ntwo\n\r\n")] {
        connection.send(rest).unwrap();
        let got = connection.piece(&mut body).unwrap().unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), format!("got {line}\n"));
    }
    connection.send("0\r\n\r\n").unwrap();
    assert_eq!(connection.piece(&mut body).unwrap(), None);
    counts(&dog, "200", 1.0);
}

#[test]
fn server_sent_events_need_nothing_special() {
    let script = "for n in 1 2 3; do echo \"data: $n\"; echo; read -r go; done; exit 0";
    let dog = streaming(script).env("content_type", "text/event-stream").start();
    let mut connection = dog.connect();
    let post = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\ng";
    connection.within(SOON).send(post).unwrap();
    let head = connection.head().unwrap();
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    let mut body = BodyReader::of(&head, "POST").unwrap();
    for number in 1..=3 {
        let mut event = Vec::new();
        while !event.ends_with(b"\n\n") {
            event.extend(connection.piece(&mut body).unwrap().expect("an event"));
        }
        assert_eq!(event, format!("data: {number}\n\n").into_bytes());
        connection.send("\r\n1\r\n\n").unwrap();
    }
    assert_eq!(connection.piece(&mut body).unwrap(), None);
}

#[test]
fn a_client_that_leaves_ends_the_process() {
    let dog = streaming("echo ready; exec sleep 600").env("kill_grace", "0").start();
    let mut connection = dog.connect();
    connection.within(SOON).send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(connection.head().unwrap().status, 200);
    drop(connection);
    is_idle(&dog);
    counts(&dog, "499", 1.0);
}

#[test]
fn a_failure_before_any_output_has_its_status_and_one_after_it_breaks_off() {
    let dog = streaming("read -r how; [ \"$how\" = silent ] || echo begun; exit 3").start();
    let silent = dog.post("/", "silent\n");
    assert_eq!((silent.status, silent.header("x-exit-code")), (500, Some("3")));
    let error = dog.request().method("POST").path("/").body("loud\n").send().unwrap_err();
    println!("{error}");
    counts(&dog, "500", 2.0);
    // curl sees it too.
    let curl = Bin::at("curl").arg("-sS").arg("-d").arg("loud\n").arg(dog.url("/")).run();
    assert!(matches!(curl.code(), 18 | 56), "half an answer was taken for whole: {curl:?}");
}

#[test]
fn a_timeout_after_the_first_output_breaks_off() {
    let dog =
        streaming("echo begun; exec sleep 600").env("exec_timeout", "2s").env("kill_grace", "0").start();
    assert!(dog.request().path("/").send().is_err());
    is_idle(&dog);
    counts(&dog, "504", 1.0);
}

#[test]
fn output_of_any_size_streams_in_constant_memory() {
    let dog = dog("writes 50000000").env("mode", "streaming").start();
    let mut size = Counter(0);
    let reply = dog.request().path("/").send_into(&mut size).unwrap();
    assert_eq!((reply.status, size.0), (200, 50_000_000));
    assert!(dog.peak_rss_bytes() < 4 << 20, "{}", dog.peak_rss_bytes());
}

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0 += data.len();
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_header_block_sets_status_and_headers_in_both_modes() {
    let script = "echo \"Status: 404 Not Found\"; echo \"Content-Type: text/html\"; echo \"X-Who: me\"; echo; \
                  echo \"<p>\"";
    for mode in ["fork", "streaming"] {
        let dog = cgi(script).env("mode", mode).start();
        let reply = dog.post("/", "x");
        assert_eq!((reply.status, &*reply.text()), (404, "<p>\n"), "{mode}");
        assert_eq!(reply.header("content-type"), Some("text/html"), "{mode}");
        assert_eq!(reply.header("x-who"), Some("me"), "{mode}");
        assert_eq!(reply.header("content-length").is_some(), mode == "fork", "{mode}");
        counts(&dog, "404", 1.0);
    }
}

#[test]
fn a_block_without_type_or_status_gets_the_usual_ones() {
    let dog = cgi("echo \"X-A: b\"; echo; cat").start();
    let reply = dog.request().method("POST").header("Content-Type", "text/x").body("body").send().unwrap();
    assert_eq!((reply.status, &*reply.text()), (200, "body"));
    assert_eq!((reply.header("content-type"), reply.header("x-a")), (Some("text/x"), Some("b")));
    let dog = cgi("echo \"Status: 204\"; echo").start();
    assert_eq!(dog.get("/").status, 204);
}

#[test]
fn a_large_answer_behind_a_block_is_streamed() {
    let script = "echo \"Status: 201 Made\"; echo; head -c 3000000 /dev/zero";
    let dog = cgi(script).env("buffer_output", "4KiB").start();
    let reply = dog.get("/");
    assert_eq!((reply.status, reply.body.len()), (201, 3_000_000));
    counts(&dog, "201", 1.0);
}

#[test]
fn output_without_a_block_is_500_with_the_reason() {
    for mode in ["fork", "streaming"] {
        for (script, why) in [
            ("echo plain text; echo", "malformed header name"),
            ("echo \"Status: 99\"; echo", "Status"),
            ("printf \"X: y\"", "ended before"),
            ("head -c 200000 /dev/zero | tr \"\\\\0\" a; sleep 600", "no empty line"),
            ("exit 0", "ended before"),
        ] {
            let dog = cgi(script).env("mode", mode).env("kill_grace", "0").start();
            let reply = dog.get("/");
            let text = reply.text();
            assert_eq!((reply.status, text.lines().count()), (500, 1), "{mode} {script}: {text}");
            assert!(text.contains("cgi_response") && text.contains(why), "{mode} {script}: {text}");
            is_idle(&dog);
        }
    }
}

#[test]
fn a_process_that_fails_is_500_whatever_its_block_says() {
    let dog = cgi("echo \"Status: 200\"; echo; echo oops; exit 7").start();
    let reply = dog.get("/");
    assert_eq!((reply.status, reply.header("x-exit-code"), &*reply.text()), (500, Some("7"), "oops\n"));
    let dog = cgi("echo no block at all; exit 8").start();
    let reply = dog.get("/");
    assert_eq!((reply.status, reply.header("x-exit-code")), (500, Some("8")), "{}", reply.text());
}
