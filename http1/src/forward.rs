//! Moves one call: the body of its request to an upstream and the answer to the client, both at the same time, between
//! two sockets that never block. The caller chooses the upstream and writes the heads.
//!
//! A [`Transfer`] has two users. A worker runs it to its end and waits in poll(2). A poller of the server steps it
//! whenever one of its sockets is ready, among many other calls.
//!
//! ```text
//! Connecting ──► Calling ──► Answering
//!                   └──────► Tunnel
//! ```

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use kit::Deadline;
use kit::sys::{PollFd, Ready, poll};

use crate::head::is_idempotent;
pub use crate::upload::{Check, MAX_KEPT_BYTES, Upload};
use crate::{
    Body, BodyError, Connection, Error, Exchange, HeadWriter, Length, Phase, Pool, Refusal, ResponseHead,
};

/// The pieces that are moved in one direction before the other direction has its turn.
const ROUNDS: usize = 16;

/// The status of an answer that changes the protocol (RFC 9110 section 15.2.2).
const SWITCHING_PROTOCOLS: u16 = 101;

/// Connection timed out (connect(2)).
const ETIMEDOUT: i32 = 110;

/// Why a try ended without a whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The rest of the request cannot be taken.
    Refused(Refusal),
    /// The check of the body failed.
    Unproven,
    /// The client went away.
    ClientGone,
    /// The client neither reads nor sends.
    ClientStalls,
    /// The upstream went away with the call in hand.
    Closed,
    /// The upstream's answer breaks the rules of HTTP.
    Invalid(Refusal),
    /// The time is up in this phase. In [`Phase::Body`] the upstream may also have been silent for too long.
    Timeout(Phase),
    /// The connection was never made, for this error number (connect(2)).
    Unreachable(i32),
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The answer with this status went out whole.
    Done(u16),
    /// The try failed before an answer began.
    Failed(Cause),
    /// The try failed and the call may be sent once more: the upstream cannot have executed it, or may execute it
    /// twice. The body is still in hand.
    Again(Cause),
    /// The answer was broken off.
    Broken(Cause),
}

/// The bounds of one call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When the answer must have begun.
    pub deadline: Deadline,
    /// When the call must be over.
    pub total: Deadline,
    /// How long the upstream may be silent within its answer.
    pub silence: Option<Duration>,
    /// How long the client may stop sending the body of its request.
    pub read_stall: Duration,
    /// How long the client may stop reading the answer.
    pub write_stall: Duration,
    /// How long nothing may move in a tunnel. No other limit holds there.
    pub idle: Duration,
}

/// A connection for a transfer on the poller of the request: a kept one, or a new one that is still being made, until
/// the deadline or as long as a connect may take. `None` if no connect can begin.
#[must_use]
pub fn connection(pool: &Pool, exchange: &Exchange<'_>, deadline: Deadline) -> Option<Box<Connection>> {
    pool.take_watched(exchange.poller()).or_else(|| pool.begin(deadline).ok())
}

/// Makes the client's head from the upstream's, and from each interim one (1xx).
pub type Head<'a> = &'a mut dyn FnMut(&ResponseHead) -> HeadWriter;

/// One try of a call on one connection, whose request was begun.
pub struct Transfer {
    pub(crate) connection: Box<Connection>,
    upload: Upload,
    limits: Limits,
    stage: Stage,
    /// The upstream still takes the request, or the client's half of a tunnel.
    is_sending: bool,
    /// The upstream may have something to say.
    upstream_ready: bool,
    wants: Wants,
    /// Something moved in this step.
    has_moved: bool,
    /// The end of the last step in which something moved; the clock is read only where the call has to wait.
    last_move: Option<Instant>,
}

/// How far a try is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The connection is being made.
    Connecting,
    /// The head of the answer has not come.
    Calling,
    /// The head of the answer went on; `is_whole` once the body has come whole.
    Answering { status: u16, is_whole: bool },
    /// The protocol was changed: bytes go both ways until the upstream closes, which makes it whole.
    Tunnel { is_whole: bool },
}

/// The events that the call waits for.
#[derive(Clone, Copy, Default)]
struct Wants {
    client_read: bool,
    client_write: bool,
    upstream_write: bool,
    /// More can be moved at once, after the other calls had their turn.
    has_more: bool,
}

impl Wants {
    /// Whether the call waits for the client.
    fn is_clients_turn(self) -> bool {
        self.client_read && !self.upstream_write || self.client_write
    }
}

/// Ends a try within its steps.
type Stop = End;

impl Transfer {
    /// A try that has not begun to move anything.
    #[must_use]
    pub fn new(connection: Box<Connection>, upload: Upload, limits: Limits) -> Transfer {
        let stage = if connection.is_connecting() { Stage::Connecting } else { Stage::Calling };
        Transfer {
            connection,
            upload,
            limits,
            stage,
            is_sending: true,
            upstream_ready: false,
            wants: Wants::default(),
            has_moved: false,
            last_move: None,
        }
    }

    /// Runs the try to its end. The connection goes to its pool, which closes it unless all went well; the body goes
    /// to the next try.
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
            // The two sides of a tunnel know themselves how it ended.
            End::Broken(_) if self.is_tunnel() => {
                (End::Done(SWITCHING_PROTOCOLS), self.connection, self.upload)
            }
            end => (end, self.connection, self.upload),
        }
    }

    /// The end of a try whose time is up at `now`.
    pub(crate) fn expired(&mut self, exchange: &mut Exchange<'_>, now: Instant) -> Option<End> {
        self.connection.ask_for_room(now);
        let is_over = self.bound().instant().is_some_and(|bound| now >= bound);
        is_over.then(|| self.time_is_up(exchange))
    }

    /// Notes that the upstream has something to say, or that its connection has ended or failed.
    pub(crate) fn upstream_is_ready(&mut self, is_hung_up: bool) {
        self.upstream_ready = true;
        self.connection.notice(is_hung_up);
    }

    /// Whether more can be moved at once, after the other calls had their turn.
    pub(crate) fn has_more(&self) -> bool {
        self.wants.has_more
    }

    /// When the call must be stepped though nothing can be moved.
    pub(crate) fn until(&self) -> Deadline {
        self.bound().min(self.connection.next_ask())
    }

    /// When the time of the call is up.
    fn bound(&self) -> Deadline {
        let standstill = match self.stage {
            Stage::Connecting => return self.deadline().min(self.connection.connect_by()),
            Stage::Tunnel { .. } => Some(self.limits.idle),
            _ if self.wants.is_clients_turn() => Some(self.stall()),
            Stage::Calling => None,
            Stage::Answering { .. } => self.limits.silence,
        };
        let end = self.last_move.zip(standstill).map(|(last, span)| Deadline::at(last + span));
        self.deadline().min(end.unwrap_or(Deadline::NEVER))
    }

    /// How long the client may do nothing.
    fn stall(&self) -> Duration {
        let (Limits { read_stall, write_stall, .. }, wants) = (self.limits, self.wants);
        match wants.client_write {
            true if wants.client_read && !wants.upstream_write => read_stall.min(write_stall),
            true => write_stall,
            false => read_stall,
        }
    }

    /// When the call ends, whatever moves.
    fn deadline(&self) -> Deadline {
        match self.stage {
            Stage::Tunnel { .. } => Deadline::NEVER,
            Stage::Answering { .. } => self.limits.total,
            Stage::Connecting | Stage::Calling => self.limits.total.min(self.limits.deadline),
        }
    }

    fn is_tunnel(&self) -> bool {
        matches!(self.stage, Stage::Tunnel { .. })
    }

    /// Whether an answer has begun.
    fn is_answering(&self) -> bool {
        matches!(self.stage, Stage::Answering { .. } | Stage::Tunnel { .. })
    }

    /// Whether the answer has come whole.
    fn is_whole(&self) -> bool {
        matches!(self.stage, Stage::Answering { is_whole: true, .. } | Stage::Tunnel { is_whole: true })
    }

    /// Whether the call ends when the client closes its side. In a tunnel that may be a goodbye.
    pub(crate) fn ends_with_client(&self) -> bool {
        !self.is_tunnel()
    }

    /// Waits until something can move.
    fn wait(&mut self, exchange: &mut Exchange<'_>) -> Result<(), End> {
        let wants = self.wants;
        let until = if wants.has_more { Deadline::after(Duration::ZERO) } else { self.until() };
        let from_client = Ready::HANG_UP
            .when(self.ends_with_client())
            .and(Ready::READ.when(wants.client_read))
            .and(Ready::WRITE.when(wants.client_write));
        let reads_upstream = !wants.client_write && !self.is_whole() && !self.upload.is_pending();
        let from_upstream = Ready::READ.when(reads_upstream).and(Ready::WRITE.when(wants.upstream_write));
        // Without a wanted event the upstream stays out: poll would report its end over and over.
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
        // Also where the call always has more to move.
        self.upstream_ready |= upstream.is_readable();
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
    /// Moves what can be moved now, and returns the end if the try has ended.
    pub(crate) fn step(&mut self, exchange: &mut Exchange<'_>, head: Head<'_>) -> Option<End> {
        if let Err(stop) = self.steps(exchange, head) {
            return Some(stop);
        }
        let is_timed = self.is_tunnel() || self.wants.is_clients_turn();
        if self.has_moved || is_timed && self.last_move.is_none() {
            (self.last_move, self.has_moved) = (Some(Instant::now()), false);
        }
        None
    }

    fn steps(&mut self, exchange: &mut Exchange<'_>, head: Head<'_>) -> Result<(), Stop> {
        self.wants = Wants::default();
        if self.stage == Stage::Connecting {
            if !self.connects(exchange)? {
                return Ok(());
            }
            self.stage = Stage::Calling;
        }
        if self.is_sending {
            self.send_some(exchange)?;
        }
        // No answer goes out before it is clear who asks.
        if (self.upstream_ready || self.is_answering()) && !self.upload.is_pending() {
            self.answer_some(exchange, head)?;
            if self.is_whole() {
                return self.finish(exchange);
            }
        }
        Ok(())
    }

    /// Whether the connection is made.
    fn connects(&mut self, exchange: &mut Exchange<'_>) -> Result<bool, Stop> {
        match self.connection.connected() {
            Ok(is_made) => {
                self.wants.upstream_write = !is_made;
                Ok(is_made)
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
                    self.has_moved = true;
                }
                Ok(Body::Data(data)) => match self.connection.write(data) {
                    Ok(0) => return self.upstream_is_full(),
                    Ok(count) => {
                        self.upload.keep(&data[..count]);
                        exchange.consume(count);
                        self.has_moved = true;
                    }
                    Err(_) => return self.upstream_stopped_reading(exchange),
                },
                Ok(Body::Wait) => {
                    self.wants.client_read = true;
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
        self.wants.has_more = true;
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
                self.is_sending = false;
                if self.is_tunnel() {
                    self.connection.socket().shutdown_write();
                }
                Ok(())
            }
            Ok(false) => self.upstream_is_full(),
            Err(_) => self.upstream_stopped_reading(exchange),
        }
    }

    fn upstream_is_full(&mut self) -> Result<(), Stop> {
        self.wants.upstream_write = true;
        Ok(())
    }

    /// It may have answered before it stopped; its answer counts then.
    fn upstream_stopped_reading(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Stop> {
        self.is_sending = false;
        match self.connection.response() {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.upstream_failed(exchange, Error::Closed(Phase::Request))),
            Err(error) => Err(self.upstream_failed(exchange, error)),
        }
    }

    /// Moves some of the answer to the client.
    fn answer_some(&mut self, exchange: &mut Exchange<'_>, head: Head<'_>) -> Result<(), Stop> {
        if !self.is_answering() {
            match self.connection.response_after(&mut |interim| exchange.interim(head(interim))) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.upstream_ready = false;
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
                        self.wants.client_write = true;
                        return Ok(());
                    }
                    Ok(count) => {
                        self.connection.consume(count);
                        self.has_moved = true;
                    }
                    Err(_) => return Err(self.client_is_gone(exchange)),
                },
                Ok(Body::Wait) => return self.flush_answer(exchange),
                Ok(Body::End) => {
                    if let Stage::Answering { is_whole, .. } | Stage::Tunnel { is_whole } = &mut self.stage {
                        *is_whole = true;
                    }
                    return Ok(());
                }
                Err(error) => return Err(self.upstream_failed(exchange, Error::of_body(error))),
            }
        }
        self.wants.has_more = true;
        Ok(())
    }

    fn begin_answer(&mut self, exchange: &mut Exchange<'_>, make: Head<'_>) {
        if self.connection.is_tunnel() {
            return self.begin_tunnel(exchange, make);
        }
        let Some(head) = self.connection.head() else { return };
        let length = match self.connection.body_length() {
            Length::None => declared_length(head, exchange.request().method()),
            other => other,
        };
        let status = head.status();
        let head = make(head);
        if !exchange.has_read_body() {
            // The rest of the body may never be read, and cannot be told from a request then.
            exchange.close_after();
        }
        exchange.start(head, length);
        (self.stage, self.has_moved) = (Stage::Answering { status, is_whole: false }, true);
    }

    /// The upstream agreed to a change of protocol.
    fn begin_tunnel(&mut self, exchange: &mut Exchange<'_>, make: Head<'_>) {
        let Some(head) = self.connection.head() else { return };
        let mut ours = make(head);
        ours.upgrade(head.headers().get("upgrade").unwrap_or_default());
        exchange.start_tunnel(ours);
        self.connection.begin_tunnel();
        (self.stage, self.is_sending, self.has_moved) = (Stage::Tunnel { is_whole: false }, true, true);
        self.wants.has_more = true; // the client may have sent something already
    }

    /// Sends what has come before the call waits for more.
    fn flush_answer(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Stop> {
        match exchange.flush() {
            Ok(is_empty) => {
                self.wants.client_write = !is_empty;
                Ok(())
            }
            Err(_) => Err(self.client_is_gone(exchange)),
        }
    }

    fn finish(&mut self, exchange: &mut Exchange<'_>) -> Result<(), Stop> {
        match (exchange.finish(), self.stage) {
            (Ok(true), Stage::Answering { status, .. }) => Err(End::Done(status)),
            (Ok(true), _) => Err(End::Done(SWITCHING_PROTOCOLS)),
            (Ok(false), _) => {
                self.wants.client_write = true;
                Ok(())
            }
            (Err(_), _) => Err(self.client_is_gone(exchange)),
        }
    }

    fn time_is_up(&mut self, exchange: &mut Exchange<'_>) -> Stop {
        if self.stage == Stage::Connecting && self.upload.rewind() {
            return End::Again(Cause::Unreachable(ETIMEDOUT));
        }
        if self.is_tunnel() {
            return self.failed(exchange, Cause::Timeout(Phase::Body));
        }
        if self.wants.is_clients_turn() && !self.deadline().has_passed() {
            return match self.is_answering() {
                true => self.failed(exchange, Cause::ClientStalls),
                false => End::Failed(Cause::Refused(Refusal::BodyStall)),
            };
        }
        let phase = if self.is_answering() { Phase::Body } else { Phase::FirstByte };
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
        if !self.is_answering() && self.may_repeat(exchange, cause) && self.upload.rewind() {
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
        if !self.is_answering() {
            return End::Failed(cause);
        }
        exchange.abort();
        End::Broken(cause)
    }
}

/// The length that the head of an answer without a body tells: of the answer to HEAD, or none. A 204 must not tell one
/// (RFC 9110 section 8.6).
fn declared_length(head: &ResponseHead, method: &str) -> Length {
    let text = || str::from_utf8(head.headers().get("content-length")?).ok();
    match text().and_then(|text| text.parse().ok()) {
        _ if head.status() == 204 => Length::None,
        Some(length) => Length::Known(length),
        None if method == "HEAD" => Length::Unknown,
        None => Length::None,
    }
}
