//! Errors between a request and its response.

use std::fmt;
use std::io;

use super::Endpoint;
use crate::{BodyError, Refusal};

/// The part of a call that ran out of time or failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connecting.
    Connect,
    /// Sending the request.
    Request,
    /// Waiting for the head of the response.
    FirstByte,
    /// Reading the body of the response.
    Body,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Connect => "connect",
            Phase::Request => "request",
            Phase::FirstByte => "first byte",
            Phase::Body => "body",
        })
    }
}

/// Why a call failed.
#[derive(Debug)]
pub enum Error {
    /// No connection: nothing was sent, so the request may go elsewhere whatever its method.
    Connect {
        /// The server's address.
        endpoint: Endpoint,
        /// The system's error.
        source: io::Error,
    },
    /// The deadline passed.
    Timeout(Phase),
    /// The peer closed the connection before its answer was whole.
    Closed(Phase),
    /// The connection failed.
    Io(Phase, io::Error),
    /// The answer breaks the rules of HTTP.
    Refused(Refusal),
    /// The answer's body is longer than the caller takes, in bytes.
    TooLarge(usize),
}

impl Error {
    /// Whether the deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Error::Timeout(_) => true,
            Error::Connect { source, .. } => source.kind() == io::ErrorKind::TimedOut,
            _ => false,
        }
    }

    /// The error of a body.
    #[must_use]
    pub fn of_body(error: BodyError) -> Error {
        match error {
            BodyError::Refused(refusal) => Error::Refused(refusal),
            BodyError::Closed => Error::Closed(Phase::Body),
            BodyError::Io(error) => Error::Io(Phase::Body, error),
            BodyError::Timeout => Error::Timeout(Phase::Body),
        }
    }

    /// The error of reading or writing in a phase. An end by the peer is `Closed`, however the system says it.
    #[must_use]
    pub fn of_io(phase: Phase, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Error::Closed(phase),
            _ => Error::Io(phase, error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Connect { endpoint, .. } => write!(f, "failed to connect to {endpoint}"),
            Error::Timeout(phase) => write!(f, "deadline passed in phase {phase}"),
            Error::Closed(phase) => write!(f, "connection closed by the peer in phase {phase}"),
            Error::Io(phase, _) => write!(f, "connection failed in phase {phase}"),
            Error::Refused(refusal) => write!(f, "answer is not valid HTTP: {refusal}"),
            Error::TooLarge(limit) => write!(f, "answer is longer than {limit} bytes"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Connect { source, .. } | Error::Io(_, source) => Some(source),
            _ => None,
        }
    }
}
