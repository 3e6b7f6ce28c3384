//! Moves one call through: the request's body to an upstream and its answer to the client, both at the same
//! time, in one loop over two sockets that never block. Whom to call, and what the heads say, is the caller's
//! matter.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use kit::Deadline;
use kit::sys::{PollFd, Ready, poll};

use crate::head::is_idempotent;
use crate::{Body, BodyError, Connection, Error, Exchange, HeadWriter, Length, Phase, Refusal, ResponseHead};

/// What is kept of a request's body so that it can be sent a second time.
const MAX_KEPT_BYTES: usize = 16 * 1024;

/// Pieces moved in one direction before the other is looked after.
const ROUNDS: usize = 16;

/// The body of a request: what was read of it before or is kept for a second try, then what the client
/// still sends.
#[derive(Default)]
pub struct Upload {
    kept: Vec<u8>,
    /// How far the kept bytes were sent in this try.
    at: usize,
    /// Whether bytes went through that were not kept.
    is_incomplete: bool,
}

impl Upload {
    /// A body that was read whole already.
    #[must_use]
    pub fn of(whole: Vec<u8>) -> Upload {
        Upload { kept: whole, at: 0, is_incomplete: false }
    }

    /// Goes back to the start; false when that is not possible any more.
    fn rewind(&mut self) -> bool {
        self.at = 0;
        !self.is_incomplete
    }

    fn keep(&mut self, data: &[u8]) {
        if self.kept.len() + data.len() > MAX_KEPT_BYTES {
            self.is_incomplete = true;
            self.kept = Vec::new();
        }
        if !self.is_incomplete {
            self.kept.extend_from_slice(data);
        }
        self.at = self.kept.len();
    }
}

/// Why a try ended without a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The rest of the request cannot be taken.
    Refused(Refusal),
    /// The client went away, or stopped reading.
    ClientGone,
    /// The upstream went away with the call in hand.
    Closed,
    /// The upstream's answer breaks the rules of HTTP.
    Invalid(Refusal),
    /// The deadline passed: in [`Phase::FirstByte`] or [`Phase::Body`].
    Timeout(Phase),
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The answer went out whole; its status.
    Done(u16),
    /// Nothing of an answer went out.
    Failed(Cause),
    /// The upstream cannot have executed it, or may do so twice, and the body is still in hand: it may be sent
    /// once more.
    Again(Cause),
    /// The answer was broken off.
    Broken(Cause),
}

/// The bounds of one call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When it must be over.
    pub deadline: Deadline,
    /// How long the client may neither send nor read.
    pub stall: Duration,
}

/// One try of a call on one connection, whose request was begun.
pub struct Forward<'a, 'e> {
    exchange: &'a mut Exchange<'e>,
    connection: &'a mut Connection,
    upload: &'a mut Upload,
    limits: Limits,
    /// Makes the client's head of the upstream's.
    head: &'a mut dyn FnMut(&ResponseHead) -> HeadWriter,
    state: State,
}

#[derive(Default)]
struct State {
    /// The request went out whole, or the upstream does not take more of it.
    is_sent: bool,
    /// The answer's head came and was passed on.
    is_answering: bool,
    /// The answer's body came whole.
    is_answered: bool,
    wants: Wants,
    status: u16,
    last_move: Option<Instant>,
}

/// What each side has to become ready for.
#[derive(Clone, Copy, Default)]
struct Wants {
    client_read: bool,
    client_write: bool,
    upstream_write: bool,
    /// Nothing: there is more to move at once, and only the other direction was to have its turn.
    has_more: bool,
}

/// Ends a try from inside its steps.
type Stop = End;

impl<'a, 'e> Forward<'a, 'e> {
    /// A try that has not begun to move anything.
    pub fn new(
        exchange: &'a mut Exchange<'e>,
        connection: &'a mut Connection,
        upload: &'a mut Upload,
        (limits, head): (Limits, &'a mut dyn FnMut(&ResponseHead) -> HeadWriter),
    ) -> Forward<'a, 'e> {
        let state = State { last_move: Some(Instant::now()), ..State::default() };
        Forward { exchange, connection, upload, limits, head, state }
    }

    /// Runs the try to its end.
    #[must_use]
    pub fn run(mut self) -> End {
        match self.steps() {
            Ok(status) => End::Done(status),
            Err(stop) => stop,
        }
    }

    fn steps(&mut self) -> Result<u16, Stop> {
        let mut upstream_ready = false;
        loop {
            self.state.wants = Wants::default();
            if !self.state.is_sent {
                self.send_some()?;
            }
            if upstream_ready || self.state.is_answering {
                self.answer_some()?;
                if self.state.is_answered && self.finish()? {
                    return Ok(self.state.status);
                }
            }
            upstream_ready = self.wait()?;
        }
    }

    /// Moves some of the request's body to the upstream.
    fn send_some(&mut self) -> Result<(), Stop> {
        for _ in 0..ROUNDS {
            if self.upload.at < self.upload.kept.len() {
                match self.connection.write(&self.upload.kept[self.upload.at..]) {
                    Ok(0) => return self.upstream_is_full(),
                    Ok(count) => self.upload.at += count,
                    Err(_) => return self.upstream_stopped_reading(),
                }
                continue;
            }
            match self.exchange.body() {
                Ok(Body::Data(data)) => match self.connection.write(data) {
                    Ok(0) => return self.upstream_is_full(),
                    Ok(count) => {
                        self.upload.keep(&data[..count]);
                        self.exchange.consume(count);
                        self.state.last_move = Some(Instant::now());
                    }
                    Err(_) => return self.upstream_stopped_reading(),
                },
                Ok(Body::Wait) => {
                    self.state.wants.client_read = true;
                    return self.send_head();
                }
                Ok(Body::End) => return self.end_request(),
                Err(error) => return Err(self.client_failed(error)),
            }
        }
        self.state.wants.has_more = true;
        Ok(())
    }

    /// A body that is slow to come must not hold the head back.
    fn send_head(&mut self) -> Result<(), Stop> {
        match self.connection.flush() {
            Ok(true) => Ok(()),
            Ok(false) => self.upstream_is_full(),
            Err(_) => self.upstream_stopped_reading(),
        }
    }

    fn end_request(&mut self) -> Result<(), Stop> {
        match self.connection.finish() {
            Ok(true) => {
                self.state.is_sent = true;
                Ok(())
            }
            Ok(false) => self.upstream_is_full(),
            Err(_) => self.upstream_stopped_reading(),
        }
    }

    fn upstream_is_full(&mut self) -> Result<(), Stop> {
        self.state.wants.upstream_write = true;
        Ok(())
    }

    /// It may have answered before it stopped; its answer counts then.
    fn upstream_stopped_reading(&mut self) -> Result<(), Stop> {
        self.state.is_sent = true;
        match self.connection.response() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.upstream_failed(Error::Closed(Phase::Request))),
            Err(error) => Err(self.upstream_failed(error)),
        }
    }

    /// Moves some of the answer to the client.
    fn answer_some(&mut self) -> Result<(), Stop> {
        if !self.state.is_answering {
            match self.connection.response() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.upstream_failed(error)),
            }
            // What is wrong with the body from its start on can still be told.
            let is_waiting = match self.connection.body() {
                Ok(body) => body == Body::Wait,
                Err(error) => return Err(self.upstream_failed(Error::of_body(error))),
            };
            self.begin_answer();
            if is_waiting {
                return self.flush_answer(); // before anything can go wrong with what is still to come
            }
        }
        for _ in 0..ROUNDS {
            match self.connection.body() {
                Ok(Body::Data(data)) => match self.exchange.write(data) {
                    Ok(0) => {
                        self.state.wants.client_write = true;
                        return Ok(());
                    }
                    Ok(count) => {
                        self.connection.consume(count);
                        self.state.last_move = Some(Instant::now());
                    }
                    Err(_) => return Err(self.client_is_gone()),
                },
                Ok(Body::Wait) => return self.flush_answer(),
                Ok(Body::End) => {
                    self.state.is_answered = true;
                    return Ok(());
                }
                Err(error) => return Err(self.upstream_failed(Error::of_body(error))),
            }
        }
        self.state.wants.has_more = true;
        Ok(())
    }

    fn begin_answer(&mut self) {
        let Some(head) = self.connection.head() else { return };
        let declared = head.headers().get("content-length").and_then(|value| std::str::from_utf8(value).ok());
        // The answer to HEAD tells a length of a body that is not sent; a 204 must not (RFC 9110 section 8.6).
        let length = match self.connection.body_length() {
            Length::None if head.status() == 204 => Length::None,
            Length::None => match declared.and_then(|text| text.parse().ok()) {
                Some(length) => Length::Known(length),
                None if self.exchange.request().method() == "HEAD" => Length::Unknown,
                None => Length::None,
            },
            other => other,
        };
        self.state.status = head.status();
        let head = (self.head)(head);
        if !self.exchange.has_read_body() {
            // What is left of the body may never be read, and cannot be told from a request then.
            self.exchange.close_after();
        }
        self.exchange.start(head, length);
        self.state.is_answering = true;
    }

    /// What has come goes out before more is waited for.
    fn flush_answer(&mut self) -> Result<(), Stop> {
        match self.exchange.flush() {
            Ok(is_empty) => {
                self.state.wants.client_write = !is_empty;
                Ok(())
            }
            Err(_) => Err(self.client_is_gone()),
        }
    }

    fn finish(&mut self) -> Result<bool, Stop> {
        match self.exchange.finish() {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.state.wants.client_write = true;
                Ok(false)
            }
            Err(_) => Err(self.client_is_gone()),
        }
    }

    /// Waits until something can move; whether the upstream has something to say.
    fn wait(&mut self) -> Result<bool, Stop> {
        let wants = self.state.wants;
        let is_clients_turn = wants.client_read && !wants.upstream_write || wants.client_write;
        let stall =
            self.state.last_move.map_or(Deadline::NEVER, |last| Deadline::at(last + self.limits.stall));
        let until = match wants.has_more {
            true => Deadline::after(Duration::ZERO),
            false if is_clients_turn => self.limits.deadline.min(stall),
            false => self.limits.deadline,
        };
        let from_client = Ready::HANG_UP
            .and(Ready::READ.when(wants.client_read))
            .and(Ready::WRITE.when(wants.client_write));
        let reads_upstream = !wants.client_write && !self.state.is_answered;
        let from_upstream = Ready::READ.when(reads_upstream).and(Ready::WRITE.when(wants.upstream_write));
        // An upstream that is not waited for stays out: poll would report its end over and over.
        let upstream = from_upstream.is_any().then(|| self.connection.socket().as_fd());
        let mut fds = [
            PollFd::new(self.exchange.socket().as_fd(), from_client),
            PollFd::maybe(upstream, from_upstream),
        ];
        let result = poll(&mut fds, until);
        let (client, upstream) = (fds[0].ready(), fds[1].ready());
        match result {
            Ok(_) if client.is_hung_up() => Err(self.client_is_gone()),
            // Also where there is always something to move.
            Ok(_) if self.limits.deadline.has_passed() => Err(self.time_is_up(is_clients_turn)),
            Ok(0) if wants.has_more => Ok(false),
            Ok(0) => Err(self.time_is_up(is_clients_turn)),
            Ok(_) => Ok(upstream.is_readable()),
            Err(error) => Err(self.upstream_failed(Error::Io(Phase::Body, error))),
        }
    }

    fn time_is_up(&mut self, is_clients_turn: bool) -> Stop {
        if is_clients_turn && !self.limits.deadline.has_passed() {
            return match self.state.is_answering {
                true => self.client_is_gone(),
                false => End::Failed(Cause::Refused(Refusal::BodyStall)),
            };
        }
        let phase = if self.state.is_answering { Phase::Body } else { Phase::FirstByte };
        self.failed(Cause::Timeout(phase))
    }

    fn client_failed(&mut self, error: BodyError) -> Stop {
        match error {
            BodyError::Refused(refusal) => self.failed(Cause::Refused(refusal)),
            _ => self.client_is_gone(),
        }
    }

    fn client_is_gone(&mut self) -> Stop {
        self.exchange.abort();
        End::Broken(Cause::ClientGone)
    }

    fn upstream_failed(&mut self, error: Error) -> Stop {
        let cause = match error {
            Error::Refused(refusal) => Cause::Invalid(refusal),
            _ => Cause::Closed,
        };
        if !self.state.is_answering && self.may_repeat(cause) && self.upload.rewind() {
            return End::Again(cause);
        }
        self.failed(cause)
    }

    /// Whether sending it once more cannot execute it twice, or may: the upstream cannot have seen it, or
    /// closed a kept connection before any answer and the method is idempotent (RFC 9110 section 9.2.2).
    fn may_repeat(&self, cause: Cause) -> bool {
        let is_stale = self.connection.is_reused()
            && !self.connection.has_received()
            && is_idempotent(self.exchange.request().method());
        cause == Cause::Closed && (is_stale || self.connection.is_untouched())
    }

    fn failed(&mut self, cause: Cause) -> Stop {
        if !self.state.is_answering {
            return End::Failed(cause);
        }
        self.exchange.abort();
        End::Broken(cause)
    }
}
