//! A server's question to itself: is the one on this port healthy? For images that have no shell.

use std::net::SocketAddr;
use std::time::Duration;

use kit::Deadline;

use super::{ClientConfig, Endpoint, Pool, Request};

/// Docker gives a check 30 s by default; one that takes this long has failed.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks `target` of the server at `address` and expects 200.
///
/// # Errors
/// What went wrong, in one line.
pub fn health_check(address: SocketAddr, target: &str) -> Result<(), String> {
    let pool = Pool::new(Endpoint::Tcp(address), ClientConfig::default());
    match pool.send(&Request::get(target), Deadline::after(LIMIT)) {
        Ok(response) if response.status() == 200 => Ok(()),
        Ok(response) => Err(format!("{address} answered {}", response.status())),
        Err(error) => Err(error.to_string()),
    }
}
