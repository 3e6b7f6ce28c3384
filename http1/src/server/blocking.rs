//! What an exchange does on a worker alone, since it blocks: read a whole body, and send a whole answer.

use std::io;

use kit::Deadline;
use kit::sys::Ready;

use super::service::{Answer, Exchange, length_of};
use crate::body::Length;
use crate::wire::{Body, BodyError};
use crate::{HeadWriter, Refusal};

impl Exchange<'_> {
    /// Reads the whole body, or its rest.
    ///
    /// # Errors
    /// [`Refusal::BodyTooLarge`] when it is longer than `limit` bytes, [`Refusal::BodyStall`] when it stops
    /// arriving, [`BodyError::Timeout`] at the deadline.
    pub fn read_body(&mut self, limit: usize, deadline: Deadline) -> Result<Vec<u8>, BodyError> {
        let mut whole = Vec::new();
        loop {
            match self.body()? {
                Body::Data(data) if whole.len() + data.len() > limit => {
                    return Err(self.refused(Refusal::BodyTooLarge));
                }
                Body::Data(data) => {
                    let count = data.len();
                    whole.extend_from_slice(data);
                    self.consume(count);
                }
                Body::End => return Ok(whole),
                Body::Wait => self.wait_for_body(deadline)?,
            }
        }
    }

    fn wait_for_body(&mut self, deadline: Deadline) -> Result<(), BodyError> {
        let step = deadline.within(self.host.config().body_stall_timeout);
        let ready = self.conn.socket.wait(Ready::READ, step).map_err(BodyError::Io)?;
        if ready.is_any() {
            return Ok(());
        }
        self.turn.closes = true;
        Err(if deadline.has_passed() { BodyError::Timeout } else { self.refused(Refusal::BodyStall) })
    }

    fn refused(&mut self, refusal: Refusal) -> BodyError {
        self.turn.closes = true;
        self.turn.refusal = Some(refusal);
        BodyError::Refused(refusal)
    }

    /// Sends a whole answer, waiting for a slow client up to the bound of the server.
    ///
    /// # Errors
    /// What the system says, or `TimedOut`.
    pub fn respond(&mut self, head: HeadWriter, body: &[u8]) -> io::Result<()> {
        self.respond_as(head, length_of(body), body)
    }

    /// Sends a whole answer, as [`Exchange::respond`] does.
    ///
    /// # Errors
    /// As [`Exchange::respond`].
    pub fn send(&mut self, answer: Answer) -> io::Result<()> {
        self.respond(answer.head, &answer.body)
    }

    /// Sends a whole answer whose length is told as `length`: another one than that of `body` where the answer has no
    /// body by its nature, to HEAD for example.
    ///
    /// # Errors
    /// As [`Exchange::respond`]; a shorter `body` than was told is `UnexpectedEof`.
    pub fn respond_as(&mut self, head: HeadWriter, length: Length, body: &[u8]) -> io::Result<()> {
        self.begin_whole(head, length);
        let mut rest = body;
        while !rest.is_empty() {
            match self.write(rest)? {
                0 => self.wait_for_room()?,
                count => rest = &rest[count..],
            }
        }
        while !self.finish()? {
            self.wait_for_room()?;
        }
        Ok(())
    }

    fn wait_for_room(&mut self) -> io::Result<()> {
        let deadline = Deadline::after(self.host.config().write_stall_timeout);
        if self.conn.socket.wait(Ready::WRITE, deadline)?.is_any() {
            return Ok(());
        }
        self.abort();
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Reads the body until it has ended, or `enough` bytes of it are there; a few more may be. Whether that is the
    /// whole.
    ///
    /// # Errors
    /// [`Refusal::BodyStall`] when it stops arriving, [`BodyError::Timeout`] at the deadline.
    pub fn read_ahead(&mut self, enough: usize, deadline: Deadline) -> Result<(Vec<u8>, bool), BodyError> {
        let mut read = Vec::new();
        while read.len() < enough {
            match self.body()? {
                Body::Data(data) => {
                    let count = data.len();
                    read.extend_from_slice(data);
                    self.consume(count);
                }
                Body::End => return Ok((read, true)),
                Body::Wait => self.wait_for_body(deadline)?,
            }
        }
        Ok((read, self.has_read_body()))
    }
}
