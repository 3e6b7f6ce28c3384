//! One face for TCP and UNIX stream sockets, with a deadline for everything that is read.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// IP address and port.
    Tcp(SocketAddr),
    /// Path of a UNIX socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(addr) => write!(f, "{addr}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(addr: SocketAddr) -> Address {
        Address::Tcp(addr)
    }
}

impl From<&Address> for Address {
    fn from(address: &Address) -> Address {
        address.clone()
    }
}

impl From<PathBuf> for Address {
    fn from(path: PathBuf) -> Address {
        Address::Unix(path)
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Address {
        Address::Unix(path.to_owned())
    }
}

/// A connected stream socket.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a UNIX socket.
    Unix(UnixStream),
}

impl Stream {
    /// Connects, with `TCP_NODELAY` so that what a test sends in pieces arrives in pieces.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(to: &Address, timeout: Duration) -> io::Result<Stream> {
        match to {
            Address::Tcp(addr) => {
                let stream = TcpStream::connect_timeout(addr, timeout)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path)?)),
        }
    }

    /// Connects over TCP from this address.
    ///
    /// # Errors
    /// Those of bind(2) and connect(2).
    pub fn connect_from(from: IpAddr, to: SocketAddr, timeout: Duration) -> io::Result<Stream> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        socket.connect_timeout(&to.into(), timeout)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        Ok(Stream::Tcp(stream))
    }

    /// A second handle to the same socket.
    ///
    /// # Errors
    /// When no file descriptor is left.
    pub fn try_clone(&self) -> io::Result<Stream> {
        Ok(match self {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone()?),
        })
    }

    /// Ends one or both directions; every handle notices.
    pub fn shutdown(&self, how: Shutdown) {
        let _ = match self {
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
        }; // it may have ended already
    }

    /// How long one read may take.
    ///
    /// # Errors
    /// None that a valid socket and a timeout above zero can cause.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(timeout),
            Stream::Unix(stream) => stream.set_read_timeout(timeout),
        }
    }

    /// How long one write may take.
    ///
    /// # Errors
    /// None that a valid socket and a timeout above zero can cause.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.set_write_timeout(timeout),
            Stream::Unix(stream) => stream.set_write_timeout(timeout),
        }
    }

    /// Closes the connection with a RST (`SO_LINGER` 0, socket(7)), once its last handle is gone. A UNIX socket only
    /// closes.
    pub fn reset(self) {
        if let Stream::Tcp(stream) = &self {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO)); // it may have ended already
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).read(buf),
            Stream::Unix(stream) => (&mut &*stream).read(buf),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => (&mut &*stream).write(buf),
            Stream::Unix(stream) => (&mut &*stream).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads from a stream until a deadline; past it, every read is [`io::ErrorKind::TimedOut`].
#[derive(Debug)]
pub struct Timed<'a> {
    /// What is read.
    pub stream: &'a Stream,
    /// When reading is given up.
    pub deadline: Instant,
}

impl Read for Timed<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        self.stream.read(buf).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
            _ => e,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_timed_read_gives_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = Address::from(listener.local_addr().unwrap());
        let stream = Stream::connect(&to, Duration::from_secs(5)).unwrap();
        let mut timed = Timed { stream: &stream, deadline: Instant::now() + Duration::from_millis(20) };
        for _ in 0..2 {
            assert_eq!(timed.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }

    #[test]
    fn reset_is_seen_as_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = Address::from(listener.local_addr().unwrap());
        let stream = Stream::connect(&to, Duration::from_secs(5)).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        stream.reset();
        assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
