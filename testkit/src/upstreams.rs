//! Servers that treat their connections as no script does. Each runs until its test's process ends.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::Gate;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// How long a request may be held.
const LIFE: Duration = Duration::from_secs(120);

/// Sends the end of each connection together with its first answer, and goes on to read: Node.js does so where an
/// upgrade is refused with `socket.end()`.
#[must_use]
pub fn ends_with_its_answer() -> SocketAddr {
    start(|listener| {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = answer_and_end(&mut stream); // or the client was quicker
            kept.push(stream);
        }
    })
}

fn answer_and_end(stream: &mut TcpStream) -> io::Result<()> {
    request(&mut BufReader::new(&*stream))?;
    SockRef::from(&*stream).set_tcp_cork(true)?; // one segment
    stream.write_all(OK)?;
    stream.shutdown(Shutdown::Write)
}

/// Serves one connection at a time, until its client ends it, as Python's `http.server` does. A request for a target
/// with `slow` in it is held until the gate is opened.
#[must_use]
pub fn serves_one_connection(gate: &Gate) -> SocketAddr {
    let gate = gate.clone();
    start(move |listener| {
        for stream in listener.incoming().map_while(Result::ok) {
            let _ = serve(&stream, &gate); // the client's end
        }
    })
}

fn serve(mut stream: &TcpStream, gate: &Gate) -> io::Result<()> {
    let mut input = BufReader::new(stream);
    loop {
        if request(&mut input)?.contains("slow") {
            gate.wait(LIFE);
        }
        stream.write_all(OK)?;
    }
}

/// The first line of a request without a body.
fn request(input: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if input.read_line(&mut head)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head.lines().next().unwrap_or_default().to_owned())
}

fn start(serve: impl FnOnce(TcpListener) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap_or_else(|e| panic!("bind: {e}"));
    let address = listener.local_addr().unwrap_or_else(|e| panic!("listener: {e}"));
    thread::spawn(move || serve(listener));
    address
}
