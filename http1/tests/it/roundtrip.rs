//! Bodies of random sizes, in random pieces, through client and server: what arrives is what was sent.

use std::io::{self, Read as _};
use std::thread;

use http1::{Body, ClientConfig, Connection, Endpoint, Error, HeadWriter, Length, Pool, Request};
use kit::sys::Ready;
use testkit::rng::{Matches, Noise, Rng};

use crate::client::soon;
use crate::support::{Fixture, MAX_KEPT, PATIENCE};

/// Sizes with their neighbours: those of buffers, and nothing.
const EDGES: [usize; 8] = [0, 1, 4096, 8192, 16_384, 65_536, 256 * 1024, 1 << 20];

fn size(rng: &mut Rng) -> usize {
    match rng.below(4) {
        0 => (*rng.choose(&EDGES) + rng.below(5)).saturating_sub(2),
        1 => rng.below(64),
        2 => rng.below(20_000),
        _ => rng.below(1 << 20),
    }
}

/// Sends `data` in random pieces and reads the answer as it comes.
fn echo(connection: &mut Connection, rng: &mut Rng, data: &[u8], is_chunked: bool) -> Result<Vec<u8>, Error> {
    let path: &[u8] = if rng.one_in(3) { b"/echo" } else { b"/stream" };
    let mut head = HeadWriter::request("POST", path);
    head.text("Host", "test");
    let length = if is_chunked { Length::Unknown } else { Length::Known(data.len() as u64) };
    connection.start(head, length);
    let (mut rest, mut got) = (data, Vec::new());
    let io = |error: io::Error| Error::of_io(http1::Phase::Request, error);
    let (mut is_sent, mut is_done) = (false, false);
    while !is_done {
        let mut moved = false;
        if !rest.is_empty() {
            let piece = &rest[..rest.len().min(1 + rng.below(100_000))];
            let count = connection.write(piece).map_err(io)?;
            rest = &rest[count..];
            moved = count > 0;
        } else if !is_sent {
            is_sent = connection.finish().map_err(io)?;
            moved = is_sent;
        }
        if connection.response()?.is_some() {
            match connection.body().map_err(Error::of_body)? {
                Body::Data(data) => {
                    let count = data.len().min(1 + rng.below(100_000));
                    got.extend_from_slice(&data[..count]);
                    connection.consume(count);
                    moved = true;
                }
                Body::End => is_done = true,
                Body::Wait => {}
            }
        }
        if !moved && !is_done {
            let wanted = Ready::READ.and(Ready::WRITE.when(!is_sent));
            assert!(connection.socket().wait(wanted, soon()).map_err(io)?.is_any(), "nothing moves");
        }
    }
    Ok(got)
}

#[test]
fn random_bodies_come_back() {
    let mut rng = Rng::from_env();
    let fixture = Fixture::new();
    let pool = Pool::new(Endpoint::Tcp(fixture.addr()), ClientConfig::default());
    for round in 0..150 {
        let data = {
            let size = size(&mut rng);
            rng.bytes(size)
        };
        let is_chunked = rng.one_in(2);
        let mut connection = pool.take().map_or_else(|| pool.connect(soon()), Ok).unwrap();
        let got = echo(&mut connection, &mut rng, &data, is_chunked);
        let got = got.unwrap_or_else(|e| panic!("round {round}, {} bytes: {e}", data.len()));
        assert!(got == data, "round {round}: {} bytes differ, chunked: {is_chunked}", data.len());
        pool.put(connection);
    }
    assert_eq!(fixture.probe.body_errors(), [""; 0]);
    pool.close();
}

/// Raw requests behind one another, cut into random packets wherever it falls.
#[test]
fn random_packets_make_no_difference() {
    let mut rng = Rng::from_env();
    let fixture = Fixture::new();
    for _ in 0..30 {
        let (mut wire, mut bodies) = (Vec::new(), Vec::new());
        for _ in 0..1 + rng.below(20) {
            let body = {
                let size = rng.below(3000);
                rng.bytes(size)
            };
            wire.extend(request(&mut rng, &body));
            bodies.push(body);
        }
        let mut connection = fixture.connect();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (packet, more) = rest.split_at(rest.len().min(1 + rng.below(400)));
            connection.send(packet).unwrap();
            rest = more;
        }
        for (number, body) in bodies.iter().enumerate() {
            let reply = connection.reply("POST").unwrap();
            assert!(reply.status == 200 && reply.body == *body, "request {number}: {}", reply.status);
        }
    }
}

/// A POST with `body`, framed at random.
fn request(rng: &mut Rng, body: &[u8]) -> Vec<u8> {
    let path = *rng.choose(&["/echo", "/stream"]);
    if rng.one_in(2) {
        return crate::support::post(path, body);
    }
    let mut wire = crate::support::head("POST", path, "Transfer-Encoding: chunked\r\n");
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, more) = rest.split_at(rest.len().min(1 + rng.below(1000)));
        let extension = *rng.choose(&["", ";a", ";a=\"b\"", " "]);
        let extension = if extension == " " { " ;a" } else { extension };
        wire.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
        wire.extend(chunk);
        wire.extend(b"\r\n");
        rest = more;
    }
    wire.extend(if rng.one_in(2) { &b"0\r\n\r\n"[..] } else { b"000;x\r\nA: b\r\nC:\r\n\r\n" });
    wire
}

/// Many clients at once, few workers: everybody gets the own body, and only that.
#[test]
fn concurrent_bodies_do_not_mix() {
    let mut rng = Rng::from_env();
    let config = http1::ServerConfig { max_workers: 4, ..http1::ServerConfig::default() };
    let fixture = Fixture::start(config);
    let pool = Pool::new(Endpoint::Tcp(fixture.addr()), ClientConfig::default());
    thread::scope(|scope| {
        for _ in 0..16 {
            let mut rng = Rng::new(rng.number());
            let pool = &pool;
            scope.spawn(move || {
                for _ in 0..100 {
                    let body = {
                        let size = rng.below(5000);
                        rng.bytes(size)
                    };
                    let request = Request { method: "POST", target: "/echo", headers: &[], body: &body };
                    let mut response = pool.send(&request, soon()).unwrap();
                    assert_eq!(response.status(), 200);
                    assert!(response.read_to_end(MAX_KEPT, soon()).unwrap() == body, "another body");
                }
            });
        }
    });
    assert_eq!(fixture.probe.calls(), 1600);
    pool.close();
}

/// More than all buffers together, both ways at once, with and without a length.
#[test]
fn a_large_body_streams_through() {
    let fixture = Fixture::new();
    let size = 24 << 20;
    for is_chunked in [false, true] {
        let mut sink = Matches::new(7, size);
        let request = fixture.request().method("POST").path("/stream").timeout(PATIENCE * 6);
        let noise = Noise::new(7, size);
        let request = if is_chunked { request.chunked_reader(noise) } else { request.reader(size, noise) };
        let reply = request.send_into(&mut sink).unwrap();
        assert!(reply.status == 200 && sink.is_whole(), "chunked: {is_chunked}");
    }
    let mut first = [0; 8];
    Noise::new(7, 8).read_exact(&mut first).unwrap();
    assert_ne!(first, [0; 8], "the noise is one");
}

/// Neither end takes a request for whole that its client did not finish.
#[test]
fn an_unfinished_request_is_not_served() {
    let fixture = Fixture::new();
    for length in [Length::Known(10), Length::Unknown] {
        let endpoint = Endpoint::Tcp(fixture.addr());
        let mut connection = Connection::open(&endpoint, ClientConfig::default(), soon()).unwrap();
        let mut head = HeadWriter::request("POST", b"/echo");
        head.text("Host", "test");
        connection.start(head, length);
        assert_eq!(connection.write(b"half").unwrap(), 4);
        if length != Length::Unknown {
            assert_eq!(connection.finish().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
        drop(connection);
    }
    testkit::eventually(PATIENCE, || match fixture.probe.body_errors().len() {
        2 => Ok(()),
        n => Err(format!("{n} bodies failed")),
    });
}
