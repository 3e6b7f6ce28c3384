//! A server's question to itself: is the one at this address healthy? For images that have no shell.

use std::net::SocketAddr;
use std::time::Duration;

use kit::Deadline;

use super::{ClientConfig, Connection, Endpoint, Error, Request};
use crate::ResponseHead;

/// Docker gives a check 30 s by default; one that takes this long has failed.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks `target` of the server at `address` and expects 200.
///
/// # Errors
/// What went wrong, in one line.
pub fn health_check(address: SocketAddr, target: &str) -> Result<(), String> {
    match status(address, target) {
        Ok(200) => Ok(()),
        Ok(status) => Err(format!("{address} answered {status}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The status of the answer, over a connection for this question alone.
fn status(address: SocketAddr, target: &str) -> Result<u16, Error> {
    let deadline = Deadline::after(LIMIT);
    let mut connection = Connection::open(&Endpoint::Tcp(address), ClientConfig::default(), deadline)?;
    connection.exchange(&Request::get(target), deadline)?;
    Ok(connection.head().map_or(0, ResponseHead::status))
}
