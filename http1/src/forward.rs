//! Moves one call through: the request's body to an upstream and its answer to the client, both at the same
//! time, between two sockets that never block. Whom to call, and what the heads say, is the caller's matter.
//!
//! A [`Transfer`] is run to its end by the thread that has it, which waits in poll(2); or it is stepped by a
//! poller of the server whenever one of its sockets is ready, among many others.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use kit::Deadline;
use kit::sys::{PollFd, Ready, poll};

use crate::head::is_idempotent;
pub use crate::upload::{Check, MAX_KEPT_BYTES, Upload};
use crate::{
    Body, BodyError, Connection, Error, Exchange, HeadWriter, Length, Phase, Pool, Refusal, ResponseHead,
};

/// Pieces moved in one direction before the other is looked after.
const ROUNDS: usize = 16;

/// Connection timed out (connect(2)).
const ETIMEDOUT: i32 = 110;

/// Why a try ended without a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The rest of the request cannot be taken.
    Refused(Refusal),
    /// Its body is not what it says it is.
    Unproven,
    /// The client went away.
    ClientGone,
    /// The client neither reads nor sends.
    ClientStalls,
    /// The upstream went away with the call in hand.
    Closed,
    /// The upstream's answer breaks the rules of HTTP.
    Invalid(Refusal),
    /// Its time is up: in [`Phase::FirstByte`], or in [`Phase::Body`], where the upstream may also have been silent for
    /// too long.
    Timeout(Phase),
    /// The connection was never made; the system's error number (connect(2)).
    Unreachable(i32),
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
    /// When its answer must have begun.
    pub deadline: Deadline,
    /// When it must be over.
    pub total: Deadline,
    /// How long the upstream may be silent once its answer has begun.
    pub silence: Option<Duration>,
    /// How long the client may stop sending the body of its request.
    pub read_stall: Duration,
    /// How long it may stop reading its answer.
    pub write_stall: Duration,
    /// How long nothing may move on a connection whose protocol was changed. Only this bounds it then.
    pub idle: Duration,
}

/// A connection for the transfer of a request by the poller that has it: a kept one, else one that is still being made,
/// until the deadline or as long as a connect may take. `None` where no connect can begin.
#[must_use]
pub fn connection(pool: &Pool, exchange: &Exchange<'_>, deadline: Deadline) -> Option<Box<Connection>> {
    pool.take_watched(exchange.poller()).or_else(|| pool.begin(deadline).ok())
}

/// Makes the client's head of the upstream's; of each interim one (1xx) too.
pub type Head<'a> = &'a mut dyn FnMut(&ResponseHead) -> HeadWriter;

/// One try of a call on one connection, whose request was begun.
pub struct Transfer {
    pub(crate) connection: Box<Connection>,
    upload: Upload,
    limits: Limits,
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
    /// The protocol was changed: bytes go both ways until the upstream closes.
    is_tunnel: bool,
    /// The upstream may have something to say.
    upstream_ready: bool,
    wants: Wants,
    status: u16,
    /// Something moved in this step.
    has_moved: bool,
    /// When the last step in which something moved came to its end; the clock is read where it must wait.
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

impl Wants {
    /// Whether nothing moves for want of the client.
    fn is_clients_turn(self) -> bool {
        self.client_read && !self.upstream_write || self.client_write
    }
}

/// Ends a try from inside its steps.
type Stop = End;

impl Transfer {
    /// A try that has not begun to move anything.
    #[must_use]
    pub fn new(connection: Box<Connection>, upload: Upload, limits: Limits) -> Transfer {
        Transfer { connection, upload, limits, state: State::default() }
    }

    /// Runs the try to its end. The connection is for its pool, which closes it unless all went well; the body
    /// is for the next try.
    pub fn run(mut self, exchange: &mut Exchange<'_>, head: Head<'_>) -> (End, Box<Connection>, Upload) {
        loop {
            let ended = self.step(exchange, head).or_else(|| self.wait(exchange).err());
            if let Some(end) = ended {
                return self.into_parts(end);
            }
        }
    }

    pub(crate) fn into_parts(self, end: End) -> (End, Box<Connection>, Upload) {
        match end {
            // However a tunnel ends: that is between its two sides.
            End::Broken(_) if self.state.is_tunnel => (End::Done(101), self.connection, self.upload),
            end => (end, self.connection, self.upload),
        }
    }

    /// The end of a try whose time is up at `now`.
    pub(crate) fn expired(&mut self, exchange: &mut Exchange<'_>, now: Instant) -> Option<End> {
        self.connection.ask_for_room(now);
        let is_over = self.bound().instant().is_some_and(|bound| now >= bound);
        is_over.then(|| self.time_is_up(exchange))
    }

    /// The upstream has something to say, or its connection has ended or failed.
    pub(crate) fn upstream_is_ready(&mut self, is_hung_up: bool) {
        self.state.upstream_ready = true;
        self.connection.notice(is_hung_up);
    }

    /// Whether there is more to move at once, and only others were to have their turn.
    pub(crate) fn has_more(&self) -> bool {
        self.state.wants.has_more
    }

    /// When it must be looked at though nothing can be moved.
    pub(crate) fn until(&self) -> Deadline {
        self.bound().min(self.connection.next_ask())
    }

    /// When its time is up.
    fn bound(&self) -> Deadline {
        if self.connection.is_connecting() {
            return self.deadline().min(self.connection.connect_by());
        }
        let since_last_move =
            |span: Duration| self.state.last_move.map_or(Deadline::NEVER, |last| Deadline::at(last + span));
        let standstill = match self.state.wants.is_clients_turn() {
            _ if self.state.is_tunnel => Some(self.limits.idle),
            true => Some(self.stall()),
            false => self.limits.silence.filter(|_| self.state.is_answering),
        };
        self.deadline().min(standstill.map_or(Deadline::NEVER, since_last_move))
    }

    /// How long the client may do nothing.
    fn stall(&self) -> Duration {
        let (Limits { read_stall, write_stall, .. }, wants) = (self.limits, self.state.wants);
        match wants.client_write {
            true if wants.client_read && !wants.upstream_write => read_stall.min(write_stall),
            true => write_stall,
            false => read_stall,
        }
    }

    /// When it ends, whatever moves.
    fn deadline(&self) -> Deadline {
        match self.state.is_answering {
            _ if self.state.is_tunnel => Deadline::NEVER,
            true => self.limits.total,
            false => self.limits.total.min(self.limits.deadline),
        }
    }

    /// Whether the call ends when the client closes its side: not in a tunnel, where that is a way to say goodbye.
    pub(crate) fn ends_with_client(&self) -> bool {
        !self.state.is_tunnel
    }

    /// Waits until something can move.
    fn wait(&mut self, exchange: &mut Exchange<'_>) -> Result<(), End> {
        let wants = self.state.wants;
        let until = if wants.has_more { Deadline::after(Duration::ZERO) } else { self.until() };
        let from_client = Ready::HANG_UP
            .when(self.ends_with_client())
            .and(Ready::READ.when(wants.client_read))
            .and(Ready::WRITE.when(wants.client_write));
        let reads_upstream = !wants.client_write && !self.state.is_answered && !self.upload.is_pending();
        let from_upstream = Ready::READ.when(reads_upstream).and(Ready::WRITE.when(wants.upstream_write));
        // An upstream that is not waited for stays out: poll would report its end over and over.
        let upstream = from_upstream.is_any().then(|| self.connection.socket().as_fd());
        let mut fds =
            [PollFd::new(exchange.socket().as_fd(), from_client), PollFd::maybe(upstream, from_upstream)];
        let result = poll(&mut fds, until);
        let (client, upstream) = (fds[0].ready(), fds[1].ready());
        match result {
            Ok(_) if client.is_hung_up() => return Err(self.client_is_gone(exchange)),
            Ok(_) => {}
            Err(error) => {
                let error = Error::Io(Phase::Body, error);
                return Err(self.upstream_failed(exchange, error));
            }
        }
        // Also where there is always something to move.
        self.state.upstream_ready |= upstream.is_readable();
        let is_ready = upstream.is_any() || client.is_any();
        self.connection.ask_for_room(Instant::now());
        match wants.has_more || is_ready {
            true if !self.deadline().has_passed() => Ok(()),
            false if !self.bound().has_passed() => Ok(()),
            _ => Err(self.time_is_up(exchange)),
        }
    }
}

/// The steps.
impl Transfer {
    /// Moves what can be moved now; its end, if that is reached.
    pub(crate) fn step(&mut self, exchange: &mut Exchange<'_>, head: Head<'_>) -> Option<End> {
        match self.steps(exchange, head) {
            Ok(true) => Some(End::Done(self.state.status)),
            Ok(false) => {
                let is_timed = self.state.is_tunnel || self.state.wants.is_clients_turn();
                if self.state.has_moved || is_timed && self.state.last_move.is_none() {
                    (self.state.last_move, self.state.has_moved) = (Some(Instant::now()), false);
                }
                None
            }
            Err(stop) => Some(stop),
        }
    }

    /// Whether all is done.
    fn steps(&mut self, exchange: &mut Exchange<'_>, head: Head<'_>) -> Result<bool, Stop> {
        self.state.wants = Wants::default();
        if self.connection.is_connecting() && !self.connects(exchange)? {
            return Ok(false);
        }
        if !self.state.is_sent {
            self.send_some(exchange)?;
        }
        // Nobody is answered before it is clear who asks.
        if (self.state.upstream_ready || self.state.is_answering) && !self.upload.is_pending() {
            self.answer_some(exchange, head)?;
            if self.state.is_answered {
                return self.finish(exchange);
            }
        }
        Ok(false)
    }

    /// Whether the connection is made.
    fn connects(&mut self, exchange: &mut Exchange<'_>) -> Result<bool, Stop> {
        match self.connection.connected() {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.state.wants.upstream_write = true;
                Ok(false)
            }
            Err(error) => {
                let cause = Cause::Unreachable(error.raw_os_error().unwrap_or_default());
                Err(if self.upload.rewind() { End::Again(cause) } else { self.failed(exchange, cause) })
            }
        }
    }

    /// Moves some of the request's body to the upstream.
    fn send_some(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Stop> {
        for _ in 0..ROUNDS {
            if self.upload.at < self.upload.kept.len() {
                match self.connection.write(&self.upload.kept[self.upload.at..]) {
                    Ok(0) => return self.upstream_is_full(),
                    Ok(count) => self.upload.at += count,
                    Err(_) if self.upload.judge_alone() => {}
                    Err(_) => return self.upstream_stopped_reading(exchange),
                }
                continue;
            }
            match exchange.body() {
                Ok(Body::Data(data)) if self.upload.is_pending() => {
                    let count = data.len();
                    self.upload.hold(data);
                    exchange.consume(count);
                    self.state.has_moved = true;
                }
                Ok(Body::Data(data)) => match self.connection.write(data) {
                    Ok(0) => return self.upstream_is_full(),
                    Ok(count) => {
                        self.upload.keep(&data[..count]);
                        exchange.consume(count);
                        self.state.has_moved = true;
                    }
                    Err(_) => return self.upstream_stopped_reading(exchange),
                },
                Ok(Body::Wait) => {
                    self.state.wants.client_read = true;
                    return self.send_head(exchange);
                }
                Ok(Body::End) if self.upload.is_pending() => {
                    if !self.upload.judge() {
                        return Err(self.failed(exchange, Cause::Unproven));
                    }
                }
                Ok(Body::End) => return self.end_request(exchange),
                Err(error) => return Err(self.client_failed(exchange, error)),
            }
        }
        self.state.wants.has_more = true;
        Ok(())
    }

    /// A body that is slow to come must not hold the head back.
    fn send_head(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Stop> {
        match self.connection.flush() {
            Ok(true) => Ok(()),
            Ok(false) => self.upstream_is_full(),
            Err(_) if self.upload.judge_alone() => Ok(()),
            Err(_) => self.upstream_stopped_reading(exchange),
        }
    }

    fn end_request(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Stop> {
        match self.connection.finish() {
            Ok(true) => {
                self.state.is_sent = true;
                if self.state.is_tunnel {
                    self.connection.socket().shutdown_write();
                }
                Ok(())
            }
            Ok(false) => self.upstream_is_full(),
            Err(_) => self.upstream_stopped_reading(exchange),
        }
    }

    fn upstream_is_full(&mut self) -> Result<(), Stop> {
        self.state.wants.upstream_write = true;
        Ok(())
    }

    /// It may have answered before it stopped; its answer counts then.
    fn upstream_stopped_reading(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Stop> {
        self.state.is_sent = true;
        match self.connection.response() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.upstream_failed(exchange, Error::Closed(Phase::Request))),
            Err(error) => Err(self.upstream_failed(exchange, error)),
        }
    }

    /// Moves some of the answer to the client.
    fn answer_some(&mut self, exchange: &mut Exchange<'_>, head: Head<'_>) -> Result<(), Stop> {
        if !self.state.is_answering {
            match self.connection.response_after(&mut |interim| exchange.interim(head(interim))) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.state.upstream_ready = false;
                    return Ok(());
                }
                Err(error) => return Err(self.upstream_failed(exchange, error)),
            }
            // What is wrong with the body from its start on can still be told.
            let is_waiting = !self.connection.is_tunnel()
                && match self.connection.body() {
                    Ok(body) => body == Body::Wait,
                    Err(error) => return Err(self.upstream_failed(exchange, Error::of_body(error))),
                };
            self.begin_answer(exchange, head);
            if is_waiting {
                return self.flush_answer(exchange); // before anything can go wrong with what is still to come
            }
        }
        for _ in 0..ROUNDS {
            match self.connection.body() {
                Ok(Body::Data(data)) => match exchange.write(data) {
                    Ok(0) => {
                        self.state.wants.client_write = true;
                        return Ok(());
                    }
                    Ok(count) => {
                        self.connection.consume(count);
                        self.state.has_moved = true;
                    }
                    Err(_) => return Err(self.client_is_gone(exchange)),
                },
                Ok(Body::Wait) => return self.flush_answer(exchange),
                Ok(Body::End) => {
                    self.state.is_answered = true;
                    return Ok(());
                }
                Err(error) => return Err(self.upstream_failed(exchange, Error::of_body(error))),
            }
        }
        self.state.wants.has_more = true;
        Ok(())
    }

    fn begin_answer(&mut self, exchange: &mut Exchange<'_>, make: Head<'_>) {
        if self.connection.is_tunnel() {
            return self.begin_tunnel(exchange, make);
        }
        let Some(head) = self.connection.head() else { return };
        let declared = head.headers().get("content-length").and_then(|value| std::str::from_utf8(value).ok());
        // The answer to HEAD tells a length of a body that is not sent; a 204 must not (RFC 9110 section 8.6).
        let length = match self.connection.body_length() {
            Length::None if head.status() == 204 => Length::None,
            Length::None => match declared.and_then(|text| text.parse().ok()) {
                Some(length) => Length::Known(length),
                None if exchange.request().method() == "HEAD" => Length::Unknown,
                None => Length::None,
            },
            other => other,
        };
        self.state.status = head.status();
        let head = make(head);
        if !exchange.has_read_body() {
            // What is left of the body may never be read, and cannot be told from a request then.
            exchange.close_after();
        }
        exchange.start(head, length);
        (self.state.is_answering, self.state.has_moved) = (true, true);
    }

    /// The upstream agreed to a change of protocol.
    fn begin_tunnel(&mut self, exchange: &mut Exchange<'_>, make: Head<'_>) {
        let Some(head) = self.connection.head() else { return };
        let mut ours = make(head);
        ours.upgrade(head.headers().get("upgrade").unwrap_or_default());
        exchange.start_tunnel(ours);
        self.connection.begin_tunnel();
        self.state.status = 101;
        (self.state.is_answering, self.state.is_tunnel, self.state.is_sent) = (true, true, false);
        self.state.has_moved = true;
        self.state.wants.has_more = true; // the client may have sent something already
    }

    /// What has come goes out before more is waited for.
    fn flush_answer(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Stop> {
        match exchange.flush() {
            Ok(is_empty) => {
                self.state.wants.client_write = !is_empty;
                Ok(())
            }
            Err(_) => Err(self.client_is_gone(exchange)),
        }
    }

    fn finish(&mut self, exchange: &mut Exchange<'_>) -> Result<bool, Stop> {
        match exchange.finish() {
            Ok(true) => Ok(true),
            Ok(false) => {
                self.state.wants.client_write = true;
                Ok(false)
            }
            Err(_) => Err(self.client_is_gone(exchange)),
        }
    }

    fn time_is_up(&mut self, exchange: &mut Exchange<'_>) -> Stop {
        if self.connection.is_connecting() && self.upload.rewind() {
            return End::Again(Cause::Unreachable(ETIMEDOUT));
        }
        if self.state.is_tunnel {
            return self.failed(exchange, Cause::Timeout(Phase::Body));
        }
        if self.state.wants.is_clients_turn() && !self.deadline().has_passed() {
            return match self.state.is_answering {
                true => self.failed(exchange, Cause::ClientStalls),
                false => End::Failed(Cause::Refused(Refusal::BodyStall)),
            };
        }
        let phase = if self.state.is_answering { Phase::Body } else { Phase::FirstByte };
        self.failed(exchange, Cause::Timeout(phase))
    }

    fn client_failed(&mut self, exchange: &mut Exchange<'_>, error: BodyError) -> Stop {
        match error {
            BodyError::Refused(refusal) => self.failed(exchange, Cause::Refused(refusal)),
            _ => self.client_is_gone(exchange),
        }
    }

    pub(crate) fn client_is_gone(&mut self, exchange: &mut Exchange<'_>) -> Stop {
        exchange.abort();
        End::Broken(Cause::ClientGone)
    }

    fn upstream_failed(&mut self, exchange: &mut Exchange<'_>, error: Error) -> Stop {
        let cause = match error {
            Error::Refused(refusal) => Cause::Invalid(refusal),
            _ => Cause::Closed,
        };
        if !self.state.is_answering && self.may_repeat(exchange, cause) && self.upload.rewind() {
            return End::Again(cause);
        }
        self.failed(exchange, cause)
    }

    /// Whether sending it once more cannot execute it twice, or may: the upstream cannot have seen it, or
    /// closed a kept connection before any answer and the method is idempotent (RFC 9110 section 9.2.2).
    fn may_repeat(&self, exchange: &Exchange<'_>, cause: Cause) -> bool {
        let is_stale = self.connection.is_reused()
            && !self.connection.has_received()
            && is_idempotent(exchange.request().method());
        cause == Cause::Closed && (is_stale || self.connection.is_untouched())
    }

    fn failed(&mut self, exchange: &mut Exchange<'_>, cause: Cause) -> Stop {
        if !self.state.is_answering {
            return End::Failed(cause);
        }
        exchange.abort();
        End::Broken(cause)
    }
}
