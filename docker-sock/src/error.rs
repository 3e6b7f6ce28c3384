//! What goes wrong between the gateway and the engine.

use std::fmt;

/// Why a call to the engine failed. Every variant names the call.
#[derive(Debug)]
pub enum Error {
    /// The address of the engine cannot be used.
    Host {
        /// The address as it was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No answer, or not a whole one.
    Transport {
        /// What was asked for.
        action: String,
        /// Where.
        host: String,
        /// What went wrong.
        source: http1::Error,
    },
    /// The engine refused, in its own words.
    Engine {
        /// What was asked for.
        action: String,
        /// The status of the answer.
        status: u16,
        /// The engine's message.
        message: String,
    },
    /// The answer is not JSON.
    Json {
        /// What was asked for.
        action: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The answer lacks a field, or has it in another form.
    Field {
        /// What was asked for.
        action: String,
        /// The path of the field.
        field: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A spec went on changing between reading and writing it back.
    OutOfSequence {
        /// What was asked for.
        action: String,
        /// How often it was tried.
        tries: usize,
    },
    /// An event of the stream is longer than the limit, in bytes.
    EventTooLong(usize),
}

impl Error {
    /// Whether the engine says that there is no such thing.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Error::Engine { status: 404, .. })
    }

    /// Whether the deadline of the call passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Error::Transport { source, .. } if source.is_timeout())
    }

    /// Whether the engine could not be reached, or stopped in the middle of an answer.
    #[must_use]
    pub fn is_transport(&self) -> bool {
        matches!(self, Error::Transport { .. })
    }

    /// Whether an update met a newer version of what it changes. The engine has no status of its own for
    /// it: 500 before 28, 409 since.
    #[must_use]
    pub fn is_out_of_sequence(&self) -> bool {
        matches!(self, Error::Engine { message, .. } if message.contains("update out of sequence"))
    }

    /// Whether the version of the API that was agreed on is not served any more: the engine was replaced.
    /// Engines until 1.13 call the client newer than the server, later ones its version too new.
    pub(crate) fn is_version_refused(&self) -> bool {
        match self {
            Error::Engine { status: 400, message, .. } => {
                message.contains("client is newer than server")
                    || (message.contains("client") && message.contains("too new"))
                    || (message.contains("client") && message.contains("too old"))
            }
            _ => false,
        }
    }

    /// The error of a field, seen from the document that it is a part of at `path`.
    pub(crate) fn within(self, path: &str) -> Error {
        match self {
            Error::Field { action, field, expected } => {
                Error::Field { action, field: format!("{path}{field}"), expected }
            }
            other => other,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Host { text, reason } => write!(f, "DOCKER_HOST `{text}`: {reason}"),
            Error::Transport { action, host, source } => {
                write!(f, "failed to {action} at {host}: {source}")?;
                let cause = std::error::Error::source(source);
                cause.map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            Error::Engine { action, status, message } => {
                write!(f, "failed to {action}: engine answered {status}: {message}")
            }
            Error::Json { action, reason } => write!(f, "failed to {action}: answer is not JSON: {reason}"),
            Error::Field { action, field, expected } => {
                write!(f, "failed to {action}: field {field}: expected {expected}")
            }
            Error::OutOfSequence { action, tries } => {
                write!(f, "failed to {action}: update out of sequence {tries} times")
            }
            Error::EventTooLong(limit) => {
                write!(f, "failed to read events: one is longer than {limit} bytes")
            }
        }
    }
}

impl std::error::Error for Error {} // the source of Transport is a part of its text
