//! Bodies: framing, streaming both ways, and no half body taken for the whole.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use testkit::http::{End, chunked, request};
use testkit::reply::{BodyReader, Framing, HttpError};
use testkit::rng::{Matches, Noise, Rng};
use testkit::{Gate, Peer, Running, Script, eventually, proc};

use crate::{OK, ONE, SOON, at, before, counts, dogs, gateway, is_own, is_well, path, process, raw, well};

const MIB: u64 = 1024 * 1024;

/// Answers each request with its body, with a length.
fn echo() -> Peer {
    Peer::tcp(Script::new().request().answer(answer).repeat())
}

fn answer(request: &testkit::script::Request) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
    [head.as_bytes(), &request.body].concat()
}

#[test]
fn a_body_with_a_length_keeps_it_and_one_without_is_chunked() {
    let peer = echo();
    let gateway = before(&peer).start();
    for size in [0, 1, 16_384, 16_385, 300_000] {
        let body = Rng::new(size as u64).bytes(size);
        let reply = gateway.post(&path(""), body.clone());
        assert!(reply.body == body && reply.framing == Framing::Length(size as u64), "{size}");
        let got = peer.requests().pop().unwrap();
        assert_eq!(got.header("content-length"), Some(&*size.to_string()));
        assert_eq!(got.header("transfer-encoding"), None);

        let chunks = body.chunks(1000).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let reply = gateway.request().method("POST").path(path("")).chunks(chunks).send().unwrap();
        assert!(reply.body == body, "{size} in chunks");
        let got = peer.requests().pop().unwrap();
        assert_eq!(got.header("transfer-encoding"), Some("chunked"));
        assert_eq!(got.header("content-length"), None);
        assert!(got.body == body);
    }
    // Only POST tells that it has no body.
    gateway.get(&path(""));
    let got = peer.requests().pop().unwrap();
    assert_eq!((got.header("content-length"), got.header("transfer-encoding")), (None, None));
    gateway.request().method("POST").path(path("")).send().unwrap();
    assert_eq!(peer.requests().pop().unwrap().header("content-length"), Some("0"));
}

#[test]
fn answers_keep_their_framing() {
    let cases: [(&str, &str, Framing, &str); 8] = [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Framing::Length(5), "hello"),
        ("GET", "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", Framing::Length(0), ""),
        (
            "GET",
            "HTTP/1.1 201 C\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Framing::Chunked,
            "hello",
        ),
        ("GET", "HTTP/1.1 200 OK\r\n\r\nuntil the end", Framing::Chunked, "until the end"),
        ("GET", "HTTP/1.0 200 OK\r\n\r\nold", Framing::Chunked, "old"),
        ("GET", "HTTP/1.1 204 None\r\n\r\n", Framing::Empty, ""),
        ("GET", "HTTP/1.1 304 Same\r\nContent-Length: 5\r\nETag: x\r\n\r\n", Framing::Empty, ""),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n", Framing::Empty, ""),
    ];
    for (method, answer, framing, body) in cases {
        let peer = Peer::tcp(Script::new().request().send(answer).close());
        let gateway = before(&peer).start();
        let reply = gateway.request().method(method).path(path("")).send().unwrap();
        assert_eq!((reply.framing, reply.text().as_str()), (framing, body), "{answer}");
        let length = answer.split("Content-Length: ").nth(1).and_then(|rest| rest.split('\r').next());
        assert_eq!(reply.header("content-length"), length, "{answer}");
        assert_eq!(answer.split(' ').nth(1), Some(&*reply.status.to_string()));
    }
}

#[test]
fn an_answer_without_a_body_tells_no_length() {
    let peer = Peer::tcp(Script::new().request().send("HTTP/1.1 204 N\r\nContent-Length: 5\r\n\r\n").close());
    let reply = before(&peer).start().get(&path(""));
    // RFC 9110, section 8.6.
    assert_eq!((reply.status, reply.header("content-length")), (204, None));
}

#[test]
fn http_1_0_clients_get_bodies_that_end_with_the_connection() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let peer = Peer::tcp(Script::new().request().send(chunked).repeat());
    let reply = before(&peer).start().request().http10().path(path("")).send().unwrap();
    assert_eq!((reply.framing, reply.text().as_str()), (Framing::Close, "hello"));
    assert_eq!(reply.header("transfer-encoding"), None);
}

#[test]
fn interim_answers_are_passed_on_to_clients_that_know_them() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\nKeep-Alive: 5\r\n\r\n\
        HTTP/1.1 102 Processing\r\n\r\n";
    let peer = Peer::tcp(Script::new().request().send(interim).send(OK).repeat());
    let gateway = before(&peer).start();
    let mut connection = gateway.connect();
    for _ in 0..2 {
        connection.send(raw("GET", "", "")).unwrap();
        let hints = connection.within(SOON).head().unwrap();
        assert_eq!((hints.status, hints.headers), (103, vec![("Link".to_owned(), b"</x>".to_vec())]));
        let processing = connection.head().unwrap();
        assert_eq!((processing.status, processing.headers), (102, vec![]));
        let reply = connection.reply("GET").unwrap();
        assert_eq!((reply.status, reply.header("link"), reply.interim.len()), (200, None, 0));
        let old = gateway.request().http10().path(path("")).send().unwrap();
        assert_eq!((old.status, old.interim.len()), (200, 0));
    }
}

/// Hints are useful only before the answer.
#[test]
fn an_interim_answer_does_not_wait_for_the_answer() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
    let peer = Peer::tcp(Script::new().head().send(hints).body().send(OK));
    let gateway = before(&peer).start();
    let mut connection = gateway.connect();
    connection.send(raw("POST", "Content-Length: 2\r\n", "x")).unwrap();
    assert_eq!(connection.within(SOON).head().unwrap().status, 103);
    connection.send("x").unwrap();
    assert_eq!(connection.reply("POST").unwrap().status, 200);
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let peer = echo();
    let gateway = before(&peer).start();
    let mut connection = gateway.connect();
    connection.send(raw("POST", "Content-Length: 5\r\nExpect: 100-continue\r\n", "")).unwrap();
    assert_eq!(connection.within(SOON).head().unwrap().status, 100);
    connection.send("hello").unwrap();
    let reply = connection.reply("POST").unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    assert_eq!(peer.requests().pop().unwrap().header("expect"), None);
}

#[test]
fn a_request_streams_piece_by_piece() {
    let peer = echo();
    let gateway = before(&peer).start();
    let mut connection = gateway.connect();
    connection.send(raw("POST", "Transfer-Encoding: chunked\r\n", "")).unwrap();
    // The head comes with the first piece, and each piece before the next is sent.
    let mut sent = vec![];
    for piece in ["first ", "second ", "third"] {
        connection.send(chunked(piece.as_bytes())).unwrap();
        sent.extend_from_slice(piece.as_bytes());
        eventually(SOON, || match peer.requests().first().map(|request| request.body.clone()) {
            Some(body) if body == sent => Ok(()),
            body => Err(body.unwrap_or_default().escape_ascii().to_string()),
        });
    }
    connection.send("0\r\n\r\n").unwrap();
    assert_eq!(connection.reply("POST").unwrap().body, sent);
}

#[test]
fn an_answer_streams_piece_by_piece() {
    for head in ["Transfer-Encoding: chunked\r\n", "Content-Length: 10\r\n", ""] {
        let gates = [Gate::new(), Gate::new()];
        let piece = |text: &str| match head.starts_with('T') {
            true => chunked(text.as_bytes()),
            false => text.as_bytes().to_vec(),
        };
        let end = if head.starts_with('T') { "0\r\n\r\n" } else { "" };
        let script = Script::new().request().send(format!("HTTP/1.1 200 OK\r\n{head}\r\n")).wait(&gates[0]);
        let script = script.send(piece("first")).wait(&gates[1]).send(piece("other")).send(end);
        let peer = Peer::tcp(script);
        let gateway = before(&peer).start();
        let mut connection = gateway.connect();
        connection.send(raw("GET", "", "")).unwrap();
        let reply_head = connection.within(SOON).head().unwrap();
        assert_eq!(reply_head.status, 200, "the head comes before any of the body");
        let framing = if head.starts_with('C') { Framing::Length(10) } else { Framing::Chunked };
        let mut body = BodyReader::new(framing);
        for (gate, want) in gates.iter().zip(["first", "other"]) {
            gate.open();
            let mut got = vec![];
            while got.len() < want.len() {
                got.extend(connection.piece(&mut body).unwrap().expect("more"));
            }
            assert_eq!(got, want.as_bytes(), "{head}");
        }
        assert_eq!(connection.piece(&mut body).unwrap(), None);
    }
}

#[test]
fn both_directions_stream_at_once() {
    // A conversation: each piece is answered before the next is sent.
    let mut script = Script::new().head().send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..20 {
        script = script.bytes(chunked(b"ping").len()).send(chunked(b"pong"));
    }
    let peer = Peer::tcp(script.bytes(5).send("0\r\n\r\n").close());
    let gateway = before(&peer).start();
    let mut connection = gateway.connect();
    connection.send(raw("POST", "Transfer-Encoding: chunked\r\n", "4\r\nping\r\n")).unwrap();
    assert_eq!(connection.within(SOON).head().unwrap().status, 200);
    let mut body = BodyReader::new(Framing::Chunked);
    for number in 0..20 {
        if number > 0 {
            connection.send(chunked(b"ping")).unwrap();
        }
        assert_eq!(connection.piece(&mut body).unwrap().as_deref(), Some(&b"pong"[..]));
    }
    connection.send("0\r\n\r\n").unwrap();
    assert_eq!(connection.piece(&mut body).unwrap(), None);
    counts(&gateway, "200", 1.0);
}

#[test]
fn many_small_chunks_in_one_read_are_all_forwarded() {
    let small: Vec<u8> = (0..1000).flat_map(|_| chunked(b"x")).chain(*b"0\r\n\r\n").collect();
    let answer = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &small[..]].concat();
    let peer = Peer::tcp(Script::new().request().send(answer).repeat());
    let gateway = before(&peer).start();
    let mut connection = gateway.connect();
    let head = raw("POST", "Transfer-Encoding: chunked\r\n", "");
    for _ in 0..3 {
        connection.send([head.as_bytes(), &small].concat()).unwrap();
        let reply = connection.within(SOON).reply("POST").unwrap();
        assert_eq!((reply.status, reply.body.len()), (200, 1000));
        assert_eq!(peer.requests().pop().unwrap().body.len(), 1000);
    }
}

/// Counts the chunks after a head; no chunk contains a line end.
fn count_chunks(message: &[u8]) -> usize {
    let text = String::from_utf8_lossy(message);
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    body.matches("\r\n").count() / 2
}

/// Each forwarded chunk is a system call, which costs more than all other work for it.
#[test]
fn short_chunks_that_arrive_together_are_merged() {
    let short: Vec<u8> = (0..5000).flat_map(|_| chunked(b"x")).chain(*b"0\r\n\r\n").collect();
    let answer = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &short[..]].concat();
    let peer = Peer::tcp(Script::new().request().send(answer).close());
    let gateway = before(&peer).start();
    let mut connection = gateway.connect();
    let head = raw("POST", "Transfer-Encoding: chunked\r\nConnection: close\r\n", "");
    connection.send([head.as_bytes(), &short].concat()).unwrap();
    let reply = connection.within(SOON).rest();
    assert_eq!(reply.replies(&["POST"]).unwrap()[0].body.len(), 5000);
    assert_eq!(peer.requests().pop().unwrap().body.len(), 5000);
    let counts = (count_chunks(&peer.received(0)), count_chunks(&reply.bytes));
    assert!(counts.0 < 50 && counts.1 < 50, "{counts:?}");
}

#[test]
fn an_early_answer_is_passed_on_while_the_body_still_arrives() {
    let refusal = "HTTP/1.1 413 Mine\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno!";
    for script in [
        Script::new().head().send(refusal).stall(),
        Script::new().head().send(refusal).close(),
        Script::new().head().bytes(100_000).send(refusal).close(),
    ] {
        let peer = Peer::tcp(script);
        let gateway = before(&peer).start();
        for is_chunked in [false, true] {
            let request = gateway.request().method("POST").path(path(""));
            let noise = Noise::new(3, 32 * MIB);
            let request =
                if is_chunked { request.chunked_reader(noise) } else { request.reader(32 * MIB, noise) };
            let reply = request.send().unwrap();
            assert_eq!((reply.status, reply.text().as_str()), (413, "no!"), "chunked: {is_chunked}");
            assert_eq!(reply.header("x-gateway-error"), None);
        }
        counts(&gateway, "413", 2.0);
    }
}

#[test]
fn an_answer_before_the_end_of_the_body_announces_the_close() {
    let peer = Peer::tcp(Script::new().head().send(OK).stall());
    let gateway = before(&peer).start();
    let mut connection = gateway.connect();
    connection.send(raw("POST", "Content-Length: 100\r\n", "half")).unwrap();
    let reply = connection.within(SOON).reply("POST").unwrap();
    assert_eq!(reply.status, 200);
    assert!(!reply.head.keeps_alive(), "what follows cannot be told from a request");
}

#[test]
fn half_an_answer_is_never_taken_for_the_whole() {
    let chunked_head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let cases = [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".to_owned(),
        format!("{chunked_head}5\r\nhello\r\n"),
        format!("{chunked_head}5\r\nhel"),
        format!("{chunked_head}5\r\nhello\r\n0\r\n"),
        format!("{chunked_head}5\r\nhello\r\nzz\r\n\r\n"),
    ];
    for answer in cases {
        let scripts = [
            Script::new().request().send(&answer).close(),
            Script::new().request().send(&answer).reset(),
            Script::new().request().send(&answer).pause(Duration::from_millis(30)).reset(),
        ];
        for script in scripts {
            let peer = Peer::tcp(script);
            let gateway = before(&peer).start();
            match gateway.request().path(path("")).send() {
                Err(HttpError::CutBody(_) | HttpError::Broken(..) | HttpError::Closed) => {}
                Ok(reply) => is_own(&reply, (502, "upstream_closed"), &[ONE]),
                Err(error) => panic!("{answer}: {error}"),
            }
            // The framing of HTTP/1.0 cannot tell that a body was cut; the client sees a reset.
            match gateway.request().http10().path(path("")).send() {
                Err(HttpError::CutBody(_) | HttpError::Broken(..)) => {}
                Ok(reply) => is_own(&reply, (502, "upstream_closed"), &[ONE]),
                Err(error) => panic!("{answer}, 1.0: {error}"),
            }
            counts(&gateway, "502", 2.0);
            assert_eq!(peer.requests().len(), 2, "neither was repeated: the function has seen it");
        }
    }
}

#[test]
fn a_hundred_megabytes_are_echoed_in_constant_memory() {
    const BYTES: u64 = 100 * 1000 * 1000;
    let gateway = gateway(&[process(ONE, "cat")]).env("upstream_timeout", "120s").start();
    for is_chunked in [false, true] {
        let noise = Noise::new(7, BYTES);
        let request = gateway.request().method("POST").path(path("")).timeout(Duration::from_secs(120));
        let request = if is_chunked { request.chunked_reader(noise) } else { request.reader(BYTES, noise) };
        let mut matches = Matches::new(7, BYTES);
        let reply = request.send_into(&mut matches).unwrap();
        let (status, bytes) = (reply.status, reply.body_bytes);
        assert!(status == 200 && matches.is_whole(), "chunked: {is_chunked}, {status}, {bytes} bytes");
    }
    for pid in [gateway.pid(), dogs(&gateway, 1)[0]] {
        let peak = proc::peak_rss_bytes(pid);
        assert!(peak < 8 * MIB, "{}: {peak} bytes resident", proc::command_line(pid));
    }
}

#[test]
fn bodies_in_uneven_pieces_arrive_whole() {
    let gateway = gateway(&[process(ONE, "cat")]).start();
    let mut rng = Rng::from_env();
    let mut client = gateway.client();
    for _ in 0..20 {
        let count = rng.below(40);
        let pieces: Vec<Vec<u8>> = (0..count)
            .map(|_| {
                let size = if rng.one_in(3) { rng.below(8) } else { rng.below(6000) };
                rng.bytes(size)
            })
            .collect();
        let want = pieces.concat();
        let reply = client.request().method("POST").path(path("")).chunks(pieces).send().unwrap();
        assert!(reply.body == want, "{} bytes came back of {}", reply.body.len(), want.len());
    }
    assert_eq!(client.opened(), 1);
}

/// Measures the CPU time of the gateway while nothing can move.
#[track_caller]
fn is_at_rest(gateway: &Running) {
    const SPAN: Duration = Duration::from_millis(300);
    // At first buffers may still be filling.
    eventually(SOON, || {
        let before = gateway.cpu_time();
        thread::sleep(SPAN); // the span that is measured
        match gateway.cpu_time() - before {
            busy if busy <= SPAN / 10 => Ok(()),
            busy => Err(format!("{busy:?} of CPU time in {SPAN:?}")),
        }
    });
}

#[test]
fn a_client_that_does_not_read_costs_no_memory_and_no_cpu() {
    // More than the sockets buffer, so that the gateway has to wait for the client.
    const SENT: usize = 16 << 20;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {SENT}\r\n\r\n");
    let peer = Peer::tcp(Script::new().request().send(head).send(vec![b'x'; SENT]));
    let gateway = before(&peer).start();
    let mut connection = gateway.connect();
    connection.send(raw("GET", "Connection: close\r\n", "")).unwrap();
    assert_eq!(connection.within(SOON).head().unwrap().status, 200);
    is_at_rest(&gateway);
    assert!(gateway.peak_rss_bytes() < 8 * MIB);
    assert_eq!(gateway.get("/healthz").status, 200);
    let rest = connection.within(SOON).rest();
    assert_eq!((rest.bytes.len(), rest.end), (SENT, End::Closed));
}

/// Writes until the gateway takes no more, because it waits for its client.
fn fill(mut stream: &TcpStream) {
    let mut refused = 0;
    while refused < 50 {
        match stream.write(&[b'x'; 64 * 1024]).unwrap_or(0) {
            0 => {
                refused += 1;
                thread::sleep(Duration::from_millis(4)); // between two attempts
            }
            _ => refused = 0,
        }
    }
}

#[test]
fn a_function_that_ends_early_does_not_make_the_gateway_spin() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = gateway(&[at(ONE, &[listener.local_addr().unwrap()])]).start();
    let mut connection = gateway.connect();
    connection.send(raw("GET", "", "")).unwrap();
    let (mut function, _) = listener.accept().unwrap();
    function.read_exact(&mut [0]).unwrap();
    function.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").unwrap();
    function.set_nonblocking(true).unwrap();
    fill(&function);
    drop(function); // most of the request is unread, so this resets the connection
    is_at_rest(&gateway);
    assert_eq!(connection.within(SOON).head().unwrap().status, 200);
    assert_eq!(connection.within(SOON).rest().end, End::Reset);
    counts(&gateway, "502", 1.0);
}

#[test]
fn waiting_for_a_slow_function_takes_no_cpu() {
    let gate = Gate::new();
    let peer = Peer::tcp(Script::new().head().wait(&gate).body().send(OK).repeat());
    let gateway = before(&peer).start();
    let mut connections: Vec<_> = (0..4).map(|_| gateway.connect()).collect();
    let bodies = ["x", "xx", "xxx", "xxxx"];
    for (connection, body) in connections.iter_mut().zip(bodies) {
        connection.send(raw("POST", "Content-Length: 4\r\n", body)).unwrap();
    }
    peer.wait_requests(4, SOON);
    is_at_rest(&gateway);
    gate.open();
    for (connection, body) in connections.iter_mut().zip(bodies) {
        connection.send(&"xxxx"[body.len()..]).unwrap();
        assert_eq!(connection.reply("POST").unwrap().status, 200);
    }
}

#[test]
fn connections_are_kept_on_both_sides() {
    let peer = well();
    let gateway = before(&peer).start();
    let mut client = gateway.client();
    for _ in 0..50 {
        assert_eq!(client.request().method("POST").path(path("")).body("x").send().unwrap().status, 200);
    }
    assert_eq!((client.opened(), peer.connections(), peer.requests().len()), (1, 1, 50));
    is_well(&gateway);
    assert_eq!(request(gateway.addr()).path(path("")).send().unwrap().status, 200);
}
