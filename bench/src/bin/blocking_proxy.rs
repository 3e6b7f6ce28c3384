//! The least that a proxy with a thread for each connection can do: two blocking reads, two writes, and no thought.
//! What docs/decisions/0002 measures the pollers against; it is no proxy that anybody should use.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: upstream\r\nX-Call-Id: 0123456789abcdef\r\n\r\n";

const STACK_BYTES: usize = 64 * 1024;

fn main() {
    let upstream: SocketAddr = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .expect("the upstream's address as argument");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    eprintln!("listening on {}", listener.local_addr().expect("an address"));
    for client in listener.incoming().flatten() {
        let serve = move || serve(client, upstream);
        thread::Builder::new().stack_size(STACK_BYTES).spawn(serve).expect("a thread");
    }
}

/// Passes requests and answers on for as long as each fits into one read.
fn serve(mut client: TcpStream, upstream: SocketAddr) -> Option<()> {
    let mut upstream = TcpStream::connect(upstream).ok()?;
    upstream.set_nodelay(true).ok()?;
    client.set_nodelay(true).ok()?;
    let mut buffer = [0; 8 * 1024];
    while client.read(&mut buffer).ok()? > 0 {
        upstream.write_all(REQUEST).ok()?;
        let count = upstream.read(&mut buffer).ok()?;
        client.write_all(&buffer[..count]).ok()?;
    }
    Some(())
}
