//! The client: connections that never block ([`Connection`]), a pool of them for each endpoint ([`Pool`]), and whole
//! calls under one deadline ([`Pool::send`]).

mod connection;
mod error;
mod health;
mod pool;
mod response;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use connection::Connection;
pub use error::{Error, Phase};
pub use health::health_check;
pub use pool::{Pool, Request};
pub use response::Response;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A UNIX socket's path.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(f, "{address}"),
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The bounds of a client.
#[derive(Clone, Copy, Debug)]
pub struct ClientConfig {
    /// The longest a connect may take.
    pub connect_timeout: Duration,
    /// How long the server's kernel may be silent before the connection fails; `None` is no limit. For TCP only, see
    /// [`Socket::fail_without_peer`](kit::sys::Socket::fail_without_peer).
    pub silence_timeout: Option<Duration>,
    /// How long an idle connection is kept. The server must keep it longer, or reuse often meets a closing connection.
    pub idle_timeout: Duration,
    /// The most idle connections of one pool, and as many for each poller.
    pub max_idle: usize,
    /// The pollers of the server whose transfers use its pools; see
    /// [`ServerConfig::pollers`](crate::ServerConfig::pollers).
    pub pollers: usize,
    /// The largest response head, in bytes.
    pub max_header_bytes: usize,
    /// The most fields of a response head, at most [`MAX_HEADERS`](crate::head::MAX_HEADERS) and what
    /// is added to so many.
    pub max_headers: usize,
}

impl Default for ClientConfig {
    fn default() -> ClientConfig {
        ClientConfig {
            connect_timeout: Duration::from_secs(2),
            silence_timeout: None,
            idle_timeout: Duration::from_secs(15),
            max_idle: 64,
            pollers: 0,
            max_header_bytes: 64 * 1024,
            max_headers: 128,
        }
    }
}
