//! What a service is told of each answer, where it asks for that: for an access log.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::head::RequestHead;

/// One answer that is over, whole or broken off.
pub struct Answered<'a> {
    /// The client's address.
    pub peer: SocketAddr,
    /// The request; `None` where it was refused by its head.
    pub request: Option<&'a RequestHead>,
    /// The status; `None` where no answer was begun, since the client left.
    pub status: Option<u16>,
    /// The head of the answer.
    pub head: &'a [u8],
    /// The bytes of the answer's body that were sent.
    pub bytes: u64,
    /// From the request's head to the end of the answer; where there is no request, from its first byte.
    pub took: Duration,
}

/// The answer to one request, as far as it is known.
pub(super) struct Record {
    pub(super) started: Instant,
    pub(super) status: Option<u16>,
    pub(super) head: Vec<u8>,
    pub(super) bytes: u64,
}

impl Record {
    pub(super) fn new() -> Box<Record> {
        Box::new(Record { started: Instant::now(), status: None, head: Vec::new(), bytes: 0 })
    }

    /// The answer is begun.
    pub(super) fn begin(&mut self, status: u16, head: &[u8]) {
        (self.status, self.head) = (Some(status), head.to_vec());
    }
}
