//! What a connection and an exchange ask of the server that they belong to.

use std::net::SocketAddr;

use super::config::{ServerConfig, Stats};
use super::record::Answered;
use crate::{HeadWriter, Refusal};

/// The server, as a connection and an exchange see it. What is asked of the service goes no further when it panics.
pub(super) trait Host {
    fn config(&self) -> &ServerConfig;

    fn stats(&self) -> Stats;

    fn is_draining(&self) -> bool;

    fn is_stopping(&self) -> bool;

    /// The text of the answer to a refusal.
    fn line(&self, refusal: Refusal) -> String;

    /// Has the service see a refusal before its answer goes out.
    fn refused(&self, refusal: Refusal, head: &mut HeadWriter);

    /// Tells the service of an answer that is over.
    fn answered(&self, answered: &Answered<'_>);

    /// Tells in the log, now and then, that a client speaks TLS.
    fn say_tls(&self, peer: SocketAddr);
}
