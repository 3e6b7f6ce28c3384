//! Addresses behind which nobody answers: one refuses, one stays silent.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockFilter, SockRef, Socket, Type};

/// An address where every connection is refused, for as long as this lives: bound, so that nobody else
/// gets the port, but not listening.
pub struct Refusing(Socket);

impl Refusing {
    /// Takes a free port of loopback.
    #[must_use]
    #[allow(clippy::new_without_default)] // it takes a port, which a default should not
    pub fn new() -> Refusing {
        Refusing(bound())
    }

    /// The address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        local_addr(&self.0)
    }
}

/// A free port of loopback for a program that must be told where to listen: until it does, connections are refused
/// there. It stays bound for as long as this process lives, so that the kernel gives it to nobody who asks for any
/// port; a server that asks for this port with `SO_REUSEADDR` gets it (socket(7)).
#[must_use]
pub fn reserved_port() -> u16 {
    static RESERVED: Mutex<Vec<Socket>> = Mutex::new(vec![]);
    let socket = bound();
    let port = local_addr(&socket).port();
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
    port
}

/// Has what arrives on a connection lost from now on, as if its network were slow: nothing is acknowledged.
///
/// # Panics
/// When the system has no such filter.
pub fn lose_input(stream: &TcpStream) {
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K, of no byte
    let filter = [SockFilter::new(RETURN, 0, 0, 0)];
    SockRef::from(stream).attach_filter(&filter).unwrap_or_else(|e| panic!("filter: {e}"));
}

/// An address where a connection is neither accepted nor refused, for as long as this lives: its queue is
/// full, so the kernel drops every further SYN.
pub struct Deaf {
    socket: Socket,
    queue: Vec<TcpStream>,
}

impl Deaf {
    /// Takes a free port of loopback and fills its queue.
    ///
    /// # Panics
    /// When connections do not stop being taken.
    #[must_use]
    #[allow(clippy::new_without_default)] // it takes a port, which a default should not
    pub fn new() -> Deaf {
        let socket = bound();
        socket.listen(0).unwrap_or_else(|e| panic!("listen: {e}"));
        let mut queue = vec![];
        while queue.len() < 16 {
            match TcpStream::connect_timeout(&local_addr(&socket), Duration::from_millis(100)) {
                Ok(stream) => queue.push(stream),
                Err(_) => {
                    return Deaf { socket, queue };
                }
            }
        }
        panic!("a queue of length 0 took {} connections", queue.len());
    }

    /// The address.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        local_addr(&self.socket)
    }

    /// Empties its queue, and accepts the next connection that is not its own.
    ///
    /// # Panics
    /// When the system fails.
    #[must_use]
    pub fn hear(&self) -> TcpStream {
        let own =
            |peer: SocketAddr| self.queue.iter().any(|own| own.local_addr().is_ok_and(|own| own == peer));
        loop {
            let (stream, peer) = self.socket.accept().unwrap_or_else(|e| panic!("accept: {e}"));
            if !peer.as_socket().is_some_and(own) {
                return stream.into();
            }
        }
    }
}

fn bound() -> Socket {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap_or_else(|e| panic!("socket: {e}"));
    socket.set_reuse_address(true).unwrap_or_else(|e| panic!("SO_REUSEADDR: {e}"));
    socket.bind(&SockAddr::from(any)).unwrap_or_else(|e| panic!("bind: {e}"));
    socket
}

fn local_addr(socket: &Socket) -> SocketAddr {
    let addr = socket.local_addr().ok().and_then(|addr| addr.as_socket());
    addr.unwrap_or_else(|| panic!("a bound socket has no address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::net::TcpListener;

    #[test]
    fn a_reserved_port_is_given_to_who_asks_for_it() {
        let port = reserved_port();
        let error = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        for _ in 0..2 {
            let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
            let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            drop((listener.accept().unwrap(), stream));
        }
    }

    #[test]
    fn refusing_and_deaf_addresses() {
        let refusing = Refusing::new();
        let error = TcpStream::connect(refusing.addr()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let deaf = Deaf::new();
        let error = TcpStream::connect_timeout(&deaf.addr(), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let addr = deaf.addr();
        let client = std::thread::spawn(move || TcpStream::connect(addr).unwrap().local_addr().unwrap());
        assert_eq!(deaf.hear().peer_addr().unwrap(), client.join().unwrap());
    }
}
