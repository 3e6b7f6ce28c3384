//! Moves one call through: the request's body to the replica and its answer to the client, both at the
//! same time, in one loop over two sockets that never block.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use http1::head::is_idempotent;
use http1::{Body, BodyError, Connection, Error, Exchange, Length, Refusal};
use kit::Deadline;
use kit::sys::{PollFd, Ready, poll};

use super::failure::{CLIENT_GONE, Failure, Phase};
use super::headers;

/// What is kept of a request's body so that it can be sent a second time.
const MAX_KEPT_BYTES: usize = 16 * 1024;

/// Pieces moved in one direction before the other is looked after.
const ROUNDS: usize = 16;

/// The body of a request: what was read of it before or is kept for a second try, then what the client
/// still sends.
#[derive(Default)]
pub(crate) struct Upload {
    kept: Vec<u8>,
    /// How far the kept bytes were sent in this try.
    at: usize,
    /// Whether bytes went through that were not kept.
    is_incomplete: bool,
}

impl Upload {
    /// A body that was read whole already.
    pub(crate) fn of(whole: Vec<u8>) -> Upload {
        Upload { kept: whole, at: 0, is_incomplete: false }
    }

    /// Goes back to the start; false when that is not possible any more.
    pub(crate) fn rewind(&mut self) -> bool {
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

/// How a try ended.
pub(crate) enum End {
    /// The answer went out whole; its status.
    Done(u16),
    /// Nothing of an answer went out.
    Failed(Failure),
    /// The replica cannot have executed it, and the body is still in hand: it may be sent elsewhere.
    Again(Failure),
    /// The answer was broken off; the status to count.
    Broken(u16),
}

/// The bounds of one call.
pub(crate) struct Limits {
    pub(crate) started: Instant,
    pub(crate) deadline: Deadline,
    /// The span of the deadline, for the message.
    pub(crate) total: Duration,
    /// How long the client may neither send nor read.
    pub(crate) stall: Duration,
}

/// One try of a call on one connection, whose request was begun.
pub(crate) struct Relay<'a, 'e> {
    pub(crate) exchange: &'a mut Exchange<'e>,
    pub(crate) connection: &'a mut Connection,
    pub(crate) upload: &'a mut Upload,
    pub(crate) limits: &'a Limits,
    pub(crate) context: Context<'a>,
    state: State,
}

/// What a try is known by.
pub(crate) struct Context<'a> {
    pub(crate) call_id: &'a str,
    /// The replica.
    pub(crate) address: SocketAddr,
    /// How long the call waited for a first replica, if it did.
    pub(crate) cold_start: Option<Duration>,
}

#[derive(Default)]
struct State {
    /// The request went out whole, or the replica does not take more of it.
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
    replica_write: bool,
    /// Nothing: there is more to move at once, and only the other direction was to have its turn.
    has_more: bool,
}

/// Ends a try from inside its steps.
type Stop = End;

impl<'a, 'e> Relay<'a, 'e> {
    pub(crate) fn new(
        exchange: &'a mut Exchange<'e>,
        connection: &'a mut Connection,
        upload: &'a mut Upload,
        (limits, context): (&'a Limits, Context<'a>),
    ) -> Relay<'a, 'e> {
        let state = State { last_move: Some(Instant::now()), ..State::default() };
        Relay { exchange, connection, upload, limits, context, state }
    }

    /// Runs the try to its end.
    pub(crate) fn run(mut self) -> End {
        match self.steps() {
            Ok(status) => End::Done(status),
            Err(stop) => stop,
        }
    }

    fn steps(&mut self) -> Result<u16, Stop> {
        let mut replica_ready = false;
        loop {
            self.state.wants = Wants::default();
            if !self.state.is_sent {
                self.send_some()?;
            }
            if replica_ready || self.state.is_answering {
                self.answer_some()?;
                if self.state.is_answered && self.finish()? {
                    return Ok(self.state.status);
                }
            }
            replica_ready = self.wait()?;
        }
    }

    /// Moves some of the request's body to the replica.
    fn send_some(&mut self) -> Result<(), Stop> {
        for _ in 0..ROUNDS {
            if self.upload.at < self.upload.kept.len() {
                match self.connection.write(&self.upload.kept[self.upload.at..]) {
                    Ok(0) => return self.replica_is_full(),
                    Ok(count) => self.upload.at += count,
                    Err(_) => return self.replica_stopped_reading(),
                }
                continue;
            }
            match self.exchange.body() {
                Ok(Body::Data(data)) => match self.connection.write(data) {
                    Ok(0) => return self.replica_is_full(),
                    Ok(count) => {
                        self.upload.keep(&data[..count]);
                        self.exchange.consume(count);
                        self.state.last_move = Some(Instant::now());
                    }
                    Err(_) => return self.replica_stopped_reading(),
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
            Ok(false) => self.replica_is_full(),
            Err(_) => self.replica_stopped_reading(),
        }
    }

    fn end_request(&mut self) -> Result<(), Stop> {
        match self.connection.finish() {
            Ok(true) => {
                self.state.is_sent = true;
                Ok(())
            }
            Ok(false) => self.replica_is_full(),
            Err(_) => self.replica_stopped_reading(),
        }
    }

    fn replica_is_full(&mut self) -> Result<(), Stop> {
        self.state.wants.replica_write = true;
        Ok(())
    }

    /// It may have answered before it stopped; its answer counts then.
    fn replica_stopped_reading(&mut self) -> Result<(), Stop> {
        self.state.is_sent = true;
        match self.connection.response() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.replica_failed(Error::Closed(http1::Phase::Request))),
            Err(error) => Err(self.replica_failed(error)),
        }
    }

    /// Moves some of the answer to the client.
    fn answer_some(&mut self) -> Result<(), Stop> {
        if !self.state.is_answering {
            match self.connection.response() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.replica_failed(error)),
            }
            // What is wrong with the body from its start on can still be told.
            let is_waiting = match self.connection.body() {
                Ok(body) => body == Body::Wait,
                Err(error) => return Err(self.replica_failed(Error::of_body(error))),
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
                Err(error) => return Err(self.replica_failed(Error::of_body(error))),
            }
        }
        self.state.wants.has_more = true;
        Ok(())
    }

    fn begin_answer(&mut self) {
        let Some(head) = self.connection.head() else { return };
        let took = self.limits.started.elapsed();
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
        let head = headers::to_client(head, self.context.call_id, took, self.context.cold_start);
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

    /// Waits until something can move; whether the replica has something to say.
    fn wait(&mut self) -> Result<bool, Stop> {
        let wants = self.state.wants;
        let is_clients_turn = wants.client_read && !wants.replica_write || wants.client_write;
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
        let reads_replica = !wants.client_write && !self.state.is_answered;
        let from_replica = Ready::READ.when(reads_replica).and(Ready::WRITE.when(wants.replica_write));
        // A replica that is not waited for stays out: poll would report its end over and over.
        let replica = from_replica.is_any().then(|| self.connection.socket().as_fd());
        let mut fds =
            [PollFd::new(self.exchange.socket().as_fd(), from_client), PollFd::maybe(replica, from_replica)];
        let result = poll(&mut fds, until);
        let (client, replica) = (fds[0].ready(), fds[1].ready());
        match result {
            Ok(_) if client.is_hung_up() => Err(self.client_is_gone()),
            // Also where there is always something to move.
            Ok(_) if self.limits.deadline.has_passed() => Err(self.time_is_up(is_clients_turn)),
            Ok(0) if wants.has_more => Ok(false),
            Ok(0) => Err(self.time_is_up(is_clients_turn)),
            Ok(_) => Ok(replica.is_readable()),
            Err(error) => Err(self.replica_failed(Error::Io(http1::Phase::Body, error))),
        }
    }

    fn time_is_up(&mut self, is_clients_turn: bool) -> Stop {
        if is_clients_turn && !self.limits.deadline.has_passed() {
            return match self.state.is_answering {
                true => self.client_is_gone(),
                false => End::Failed(Failure::Refused(Refusal::BodyStall)),
            };
        }
        let phase = if self.state.is_answering { Phase::Body } else { Phase::FirstByte };
        self.failed(Failure::Timeout(phase, self.limits.total))
    }

    fn client_failed(&mut self, error: BodyError) -> Stop {
        match error {
            BodyError::Refused(refusal) => self.failed(Failure::Refused(refusal)),
            _ => self.client_is_gone(),
        }
    }

    fn client_is_gone(&mut self) -> Stop {
        self.exchange.abort();
        End::Broken(CLIENT_GONE)
    }

    fn replica_failed(&mut self, error: Error) -> Stop {
        let failure = match error {
            Error::Refused(refusal) => Failure::Invalid(refusal),
            _ => Failure::Closed(self.context.address),
        };
        if !self.state.is_answering && self.may_repeat(&failure) && self.upload.rewind() {
            return End::Again(failure);
        }
        self.failed(failure)
    }

    /// Whether sending it once more cannot execute it twice, or may: the replica cannot have seen it, or
    /// closed a kept connection before any answer and the method is idempotent (RFC 9110 section 9.2.2).
    fn may_repeat(&self, failure: &Failure) -> bool {
        let is_stale = self.connection.is_reused()
            && !self.connection.has_received()
            && is_idempotent(self.exchange.request().method());
        matches!(failure, Failure::Closed(_)) && (is_stale || self.connection.is_untouched())
    }

    fn failed(&mut self, failure: Failure) -> Stop {
        if !self.state.is_answering {
            return End::Failed(failure);
        }
        log::debug!("call {}: {failure}", self.context.call_id);
        self.exchange.abort();
        End::Broken(failure.status())
    }
}

/// An error of connecting, in a few words.
pub(crate) fn connect_error(address: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => format!("{address} does not answer"),
        io::ErrorKind::ConnectionRefused => format!("{address} refused the connection"),
        _ => format!("{address}: {error}"),
    }
}
