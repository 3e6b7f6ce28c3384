//! The health check of a server by its own binary, for images without a shell.

use std::net::SocketAddr;
use std::time::Duration;

use kit::Deadline;

use super::{ClientConfig, Connection, Endpoint, Error, Request};
use crate::ResponseHead;

/// The time of a check. Docker gives it 30 s by default.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks `target` of the server at `address` and expects 200.
///
/// # Errors
/// The reason, in one line.
pub fn health_check(address: SocketAddr, target: &str) -> Result<(), String> {
    match status(address, target) {
        Ok(200) => Ok(()),
        Ok(status) => Err(format!("{address} answered {status}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The status of the answer, over a connection of its own.
fn status(address: SocketAddr, target: &str) -> Result<u16, Error> {
    let deadline = Deadline::after(LIMIT);
    let mut connection = Connection::open(&Endpoint::Tcp(address), ClientConfig::default(), deadline)?;
    connection.exchange(&Request::get(target), deadline)?;
    Ok(connection.head().map_or(0, ResponseHead::status))
}
