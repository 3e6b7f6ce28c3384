//! The engine's stream of events: JSON documents, one on a line, that come when something happens.

use http1::Connection;
use kit::Deadline;

use crate::Error;
use crate::json::Document;
use crate::tape::Tape;
use crate::types::Event;

/// The longest event; real ones have a few kilobytes, most of them labels.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// An open stream.
pub struct EventStream {
    connection: Box<Connection>,
    host: String,
    /// What has arrived and was not taken yet.
    buffer: Vec<u8>,
    /// How much of it is known to hold no end of a line.
    searched: usize,
}

impl EventStream {
    pub(crate) fn new(connection: Box<Connection>, host: String) -> EventStream {
        EventStream { connection, host, buffer: Vec::new(), searched: 0 }
    }

    /// The socket, to be polled for the next event once [`EventStream::next`] has answered `None`: until
    /// then there may be events that have left it already.
    #[must_use]
    pub fn socket(&self) -> &kit::sys::Socket {
        self.connection.socket()
    }

    /// The next event; `None` when none comes until the deadline. Whatever came of one by then is kept.
    ///
    /// # Errors
    /// When the stream has ended or is not what it should be: it must be opened again, and what happened in
    /// between looked for.
    pub fn next(&mut self, deadline: Deadline) -> Result<Option<Event>, Error> {
        loop {
            let found = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            let end = found.map(|place| self.searched + place);
            self.searched = end.unwrap_or(self.buffer.len());
            if self.searched > MAX_EVENT_BYTES {
                return Err(Error::EventTooLong(MAX_EVENT_BYTES));
            }
            if let Some(end) = end {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return event(&line).map(Some);
            }
            let mut piece = [0; 4096];
            let source = match self.connection.read(&mut piece, deadline) {
                Ok(0) => http1::Error::Closed(http1::Phase::Body),
                Ok(count) => {
                    self.buffer.extend_from_slice(&piece[..count]);
                    continue;
                }
                Err(http1::Error::Timeout(_)) => return Ok(None),
                Err(source) => source,
            };
            return Err(Error::Transport { action: ACTION.to_owned(), host: self.host.clone(), source });
        }
    }
}

const ACTION: &str = "read events";

fn event(line: &[u8]) -> Result<Event, Error> {
    Event::from_json(Document::read(ACTION, line, &mut Tape::default())?)
}
