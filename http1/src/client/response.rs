//! A response that is read with blocking calls, each under a deadline.

use std::io;

use kit::Deadline;
use kit::sys::{Ready, Socket};

use super::pool::Request;
use super::{Connection, Error, Phase, Pool};
use crate::Length;
use crate::head::{Headers, ResponseHead};
use crate::wire::Body;

impl Connection {
    /// Sends a whole request and waits for the head of the answer.
    ///
    /// # Errors
    /// See [`Error`]; the connection cannot be used for another request then.
    pub fn exchange(&mut self, request: &Request<'_>, deadline: Deadline) -> Result<(), Error> {
        let length =
            if request.body.is_empty() { Length::None } else { Length::Known(request.body.len() as u64) };
        self.start(request.head(), length);
        let mut rest = request.body;
        loop {
            if !self.is_sent()
                && let Err(error) = send_some(self, &mut rest)
            {
                // The server may have answered before it stopped reading.
                return match self.response() {
                    Ok(Some(_)) => Ok(()),
                    _ => Err(Error::of_io(Phase::Request, error)),
                };
            }
            // The server may answer before it has read everything: that answer counts.
            if self.response()?.is_some() {
                return Ok(());
            }
            let wanted = Ready::READ.and(Ready::WRITE.when(!self.is_sent()));
            let phase = if self.is_sent() { Phase::FirstByte } else { Phase::Request };
            wait(self.socket(), wanted, deadline, phase)?;
        }
    }

    /// Reads some of the response's body into `buffer`; 0 is its end.
    ///
    /// # Errors
    /// [`Error::Timeout`] at the deadline and `InvalidInput` for an empty buffer: reading may go on. After any other
    /// error the body is lost.
    pub fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, Error> {
        if buffer.is_empty() {
            return Err(Error::Io(Phase::Body, io::ErrorKind::InvalidInput.into()));
        }
        loop {
            match self.body().map_err(Error::of_body)? {
                Body::Data(data) => {
                    let count = data.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&data[..count]);
                    self.consume(count);
                    return Ok(count);
                }
                Body::End => return Ok(0),
                Body::Wait => wait(self.socket(), Ready::READ, deadline, Phase::Body)?,
            }
        }
    }
}

fn send_some(connection: &mut Connection, rest: &mut &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match connection.write(rest)? {
            0 => return Ok(()),
            count => *rest = &rest[count..],
        }
    }
    connection.finish().map(drop)
}

fn wait(socket: &Socket, wanted: Ready, deadline: Deadline, phase: Phase) -> Result<(), Error> {
    match socket.wait(wanted, deadline) {
        Ok(ready) if ready.is_any() => Ok(()),
        Ok(_) => Err(Error::Timeout(phase)),
        Err(error) => Err(Error::of_io(phase, error)),
    }
}

/// A response whose head has arrived. Its connection goes back to the pool when the body was read to the
/// end, and is closed otherwise.
#[derive(Debug)]
pub struct Response<'a> {
    pool: &'a Pool,
    /// `None` only while it is dropped.
    connection: Option<Box<Connection>>,
    status: u16,
}

impl<'a> Response<'a> {
    pub(super) fn new(pool: &'a Pool, connection: Box<Connection>) -> Response<'a> {
        let status = connection.head().map_or(0, ResponseHead::status);
        Response { pool, connection: Some(connection), status }
    }

    /// The status, 200 to 599.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The fields.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        let head = self.connection.as_deref().and_then(Connection::head);
        head.map_or(Headers::EMPTY, ResponseHead::headers)
    }

    /// Reads some of the body into `buffer`; 0 is its end.
    ///
    /// # Errors
    /// [`Error::Timeout`] at the deadline: reading may go on. After any other error the body is lost.
    pub fn read(&mut self, buffer: &mut [u8], deadline: Deadline) -> Result<usize, Error> {
        self.connection.as_mut().map_or(Ok(0), |connection| connection.read(buffer, deadline))
    }

    /// Reads the rest of the body.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for more than `limit` bytes; otherwise as [`Response::read`].
    pub fn read_to_end(&mut self, limit: usize, deadline: Deadline) -> Result<Vec<u8>, Error> {
        let mut whole = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match self.read(&mut piece, deadline)? {
                0 => return Ok(whole),
                count if whole.len() + count > limit => return Err(Error::TooLarge(limit)),
                count => whole.extend_from_slice(&piece[..count]),
            }
        }
    }
}

impl Drop for Response<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put(connection);
        }
    }
}
