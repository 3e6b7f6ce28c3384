//! The prototype that decision 0002 measures: the least that a proxy with a thread for each connection can do, two blocking reads and
//! two writes. It neither reads nor changes what it passes on, and takes it for granted that each fits into one read.

#![forbid(unsafe_code)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

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
    loop {
        let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
        upstream.write_all(&buffer[..count]).ok()?;
        let count = upstream.read(&mut buffer).ok()?;
        client.write_all(&buffer[..count]).ok()?;
    }
}
