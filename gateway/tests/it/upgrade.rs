//! Upgrades: WebSocket with an independent library, and what may go wrong.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::http::End;
use testkit::{Peer, Script, eventually};
use tungstenite::{Message, WebSocket};

use crate::{OK, ONE, SOON, at, becomes, before, counts, gateway, path, raw};

const ASK: &str = "Connection: Upgrade\r\nUpgrade: echo\r\n";
const AGREE: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nX-A: 1\r\n\r\n";

/// A function that echoes the messages of so many WebSockets, one socket after the other.
fn echo(sockets: usize) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        for stream in listener.incoming().take(sockets) {
            let mut socket = tungstenite::accept(stream.unwrap()).unwrap();
            loop {
                match socket.read() {
                    Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message).unwrap(),
                    Ok(_) => {}
                    Err(tungstenite::Error::ConnectionClosed) => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    (address, thread::spawn(serve))
}

fn socket(to: SocketAddr) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    tungstenite::client(format!("ws://{to}{}", path("/chat?x=1")), stream).unwrap().0
}

#[test]
fn a_websocket_echoes_and_closes() {
    let (function, thread) = echo(2);
    let gateway = gateway(&[at(ONE, &[function])]).start();
    let large = vec![7u8; 3 << 20];
    for _ in 0..2 {
        let mut socket = socket(gateway.addr());
        becomes(&gateway, "gateway_function_inflight", 1.0);
        for n in 0..100 {
            socket.send(Message::text(format!("message {n}"))).unwrap();
            assert_eq!(socket.read().unwrap(), Message::text(format!("message {n}")));
        }
        socket.send(Message::binary(large.clone())).unwrap();
        assert!(socket.read().unwrap() == Message::binary(large.clone()));
        socket.close(None).unwrap();
        while let Ok(message) = socket.read() {
            assert!(message.is_close(), "{message}");
        }
    }
    thread.join().unwrap();
    counts(&gateway, "101", 2.0);
    becomes(&gateway, "gateway_function_inflight", 0.0);
    assert_eq!(gateway.metrics("/metrics").sum("gateway_connections", &[("state", "idle")]), 0.0);
}

#[test]
fn early_bytes_and_bytes_after_a_half_close_arrive() {
    let peer =
        Peer::tcp(Script::new().head().send(AGREE).bytes(10).send("early bird").end().send("late").close());
    let gateway = before(&peer).start();
    let mut client = gateway.connect();
    client.send(raw("GET", ASK, "0123456789")).unwrap();
    client.within(SOON);
    let head = client.head().unwrap();
    assert_eq!((head.status, head.header("upgrade"), head.header("x-a")), (101, Some("echo"), Some("1")));
    assert_eq!(head.header("connection"), Some("Upgrade"));
    client.end();
    let raw = client.rest();
    assert_eq!((raw.bytes.as_slice(), raw.end), (&b"early birdlate"[..], End::Closed));
    let request = &peer.requests()[0];
    assert_eq!((request.header("upgrade"), request.header("connection")), (Some("echo"), Some("Upgrade")));
    counts(&gateway, "101", 1.0);
}

#[test]
fn a_function_that_declines_an_upgrade_answers_normally() {
    let peer = Peer::tcp(Script::new().request().send(OK).repeat());
    let gateway = before(&peer).start();
    let mut client = gateway.connect();
    for _ in 0..2 {
        client.send(raw("GET", ASK, "")).unwrap();
        let reply = client.within(SOON).reply("GET").unwrap();
        assert_eq!((reply.status, reply.header("upgrade"), reply.body.as_slice()), (200, None, &b"ok"[..]));
    }
    counts(&gateway, "200", 2.0);
}

/// Upgrades that the client did not ask for, and upgrades to HTTP/2, are not forwarded.
#[test]
fn only_valid_upgrades_are_forwarded() {
    let peer = Peer::tcp(Script::new().request().send(OK).repeat());
    let gateway = before(&peer).start();
    let asks = [
        ("POST", "Connection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 2\r\n", "hi"),
        ("GET", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n", ""),
        ("GET", "Upgrade: echo\r\n", ""),
        ("GET", "Connection: Upgrade\r\n", ""),
    ];
    for (method, fields, rest) in asks {
        let mut client = gateway.connect();
        client.send(raw(method, fields, rest)).unwrap();
        assert_eq!(client.within(SOON).reply(method).unwrap().status, 200);
    }
    for request in peer.requests() {
        assert_eq!((request.header("upgrade"), request.header("connection")), (None, None));
    }
    let liar = Peer::tcp(Script::new().head().send(AGREE).stall());
    let gateway = before(&liar).start();
    let mut client = gateway.connect();
    client.send(raw("GET", "", "")).unwrap();
    assert_eq!(client.within(SOON).reply("GET").unwrap().status, 502);
    let nameless = Peer::tcp(Script::new().head().send("HTTP/1.1 101 Yes\r\n\r\n").stall());
    let gateway = before(&nameless).start();
    let mut client = gateway.connect();
    client.send(raw("GET", ASK, "")).unwrap();
    assert_eq!(client.within(SOON).reply("GET").unwrap().status, 502);
}

/// The timeout of a call ends with the answer's head; a silent tunnel is closed after `idle_timeout`.
#[test]
fn a_tunnel_outlives_upstream_timeout_and_ends_at_idle_timeout() {
    let (function, _thread) = echo(1);
    let gateway =
        gateway(&[at(ONE, &[function])]).env("upstream_timeout", "300ms").env("idle_timeout", "1s").start();
    let mut socket = socket(gateway.addr());
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(900) {
        socket.send(Message::text("x")).unwrap();
        assert_eq!(socket.read().unwrap(), Message::text("x"));
    }
    let since = Instant::now();
    let error = socket.read().unwrap_err();
    assert!(matches!(error, tungstenite::Error::Io(_) | tungstenite::Error::Protocol(_)), "{error}");
    assert!(since.elapsed() >= Duration::from_millis(950), "{:?}", since.elapsed());
    counts(&gateway, "101", 1.0);
}

/// No side leaves the other, or the gateway, with half a tunnel.
#[test]
fn a_tunnel_ends_when_either_side_vanishes() {
    let script = || Script::new().head().send(AGREE);
    let peer = Peer::tcp_each(vec![script().reset(), script().send("x").end().close()]);
    let gateway = before(&peer).start();
    let mut client = gateway.connect();
    client.send(raw("GET", ASK, "")).unwrap();
    client.within(SOON);
    assert_ne!(client.rest().end, End::Open);
    let mut client = TcpStream::connect(gateway.addr()).unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    client.write_all(raw("GET", ASK, "").as_bytes()).unwrap();
    let mut seen = [0; 1024];
    let mut count = 0;
    while !seen[..count].ends_with(b"\r\n\r\nx") {
        count += client.read(&mut seen[count..]).unwrap();
    }
    client.shutdown(Shutdown::Write).unwrap();
    drop(client);
    counts(&gateway, "101", 2.0);
    becomes(&gateway, "gateway_function_inflight", 0.0);
    eventually(SOON, || match gateway.metrics("/metrics").sum("gateway_connections", &[]) {
        ..=1.0 => Ok(()),
        count => Err(format!("{count} connections")),
    });
}
