//! One call of `mode=http`: it waits until the process listens, then is forwarded to it.

use std::time::{Duration, Instant};

use http1::forward::{self, Cause, End, Limits, Transfer, Upload};
use http1::server::{Blocking, Course, Relay};
use http1::{Connection, Exchange, HeadWriter, ResponseHead};
use kit::sys::Ready;
use kit::{Deadline, call};

use super::context::{CLIENT_CLOSED, Call};
use super::time_limit::{EXEC_TIMEOUT, TimeLimit};
use crate::function::Function;
use crate::metrics::Observation;
use crate::refusal_text;
use crate::resident::Resident;
use crate::slots::Slot;

/// Between two tries to connect while the process starts.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// How long one try may take. On the same machine a connection stands at once, or is dropped because the backlog of
/// the process is full: the system would try again after a second (tcp(7), listen(2)).
const CONNECT_TIME: Duration = Duration::from_millis(20);

/// How long a call without a time limit waits for the process to listen.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// A caller's limit below this tells nothing about a process that does not answer within it.
const HANG_TIME: Duration = Duration::from_secs(10);

/// The tries of one call whose connections break.
const MAX_TRIES: usize = 3;

/// A call that a poller of the server forwards. What the poller cannot do at once is left to a worker.
struct Passing {
    call: Call,
    resident: &'static Resident,
    observation: Observation,
    /// Free after the observation.
    _slot: Slot,
}

/// Begins to forward a request, if there is a slot and the process can be connected to at once.
pub(crate) fn begin(function: &'static Function, exchange: &Exchange<'_>) -> Option<Course> {
    let resident = function.resident.as_ref()?;
    let slot = function.slots.take()?;
    let call = Call::new(function, exchange);
    let connection =
        forward::connection(&resident.target().pool, exchange, call.deadline.within(CONNECT_TIME))?;
    let transfer = call.transfer(exchange, connection, Upload::default());
    let observation = Observation::new(&function.metrics, exchange.request().method());
    Some(Course::Relay(transfer, Box::new(Passing { call, resident, observation, _slot: slot })))
}

impl Relay for Passing {
    fn head(&mut self, response: &ResponseHead) -> HeadWriter {
        self.resident.answered();
        answer_head(response)
    }

    fn ended(mut self: Box<Self>, end: End, connection: Box<Connection>) {
        self.observation.code = match end {
            End::Done(status) => status,
            End::Broken(cause) | End::Failed(cause) | End::Again(cause) => {
                broken(self.call.id.as_str(), cause)
            }
        };
        self.resident.target().pool.put(connection); // which closes it unless all went well
    }

    fn failed(self: Box<Self>, _: &Exchange<'_>, parts: (End, Box<Connection>, Upload)) -> Course {
        let (end, connection, upload) = parts;
        self.resident.target().pool.put(connection); // which closes it
        Course::GoOn(Box::new(Failed { passing: *self, end, upload }))
    }
}

/// A call whose first try failed: a worker tries again, or answers why not.
struct Failed {
    passing: Passing,
    end: End,
    upload: Upload,
}

impl Blocking for Failed {
    fn ended(mut self: Box<Self>, cause: Cause) {
        self.passing.observation.code = broken(self.passing.call.id.as_str(), cause);
    }

    fn go_on(self: Box<Self>, exchange: &mut Exchange<'_>) {
        let Failed { passing, end, upload } = *self;
        let Passing { call, resident, mut observation, _slot } = passing;
        observation.code = match end {
            End::Again(Cause::Unreachable(_)) => call.forward(exchange, resident, Tried { upload, count: 0 }),
            End::Again(_) => call.forward(exchange, resident, Tried { upload, count: 1 }),
            End::Done(status) => status,
            End::Failed(cause) | End::Broken(cause) => call.answer_cause(exchange, cause),
        };
        drop(observation); // before the slot
    }
}

/// What earlier tries have left of a call.
#[derive(Default)]
pub(super) struct Tried {
    upload: Upload,
    /// The number of tries.
    count: usize,
}

impl Call {
    /// Forwards the call, and returns the status under which it counts.
    pub(super) fn forward(&self, exchange: &mut Exchange<'_>, resident: &Resident, mut tried: Tried) -> u16 {
        loop {
            tried.count += 1;
            let (connection, cold_start) = match self.connect(exchange, resident) {
                Ok(connected) => connected,
                Err(code) => return code,
            };
            let mut passed_head = |response: &ResponseHead| {
                resident.answered();
                let mut head = answer_head(response);
                if let Some(waited) = cold_start {
                    head.number(call::COLD_START_MS, waited.as_millis() as u64, "");
                }
                head
            };
            let transfer = self.transfer(exchange, connection, tried.upload);
            let (end, connection, rest) = transfer.run(exchange, &mut passed_head);
            resident.target().pool.put(connection); // which closes it unless all went well
            tried.upload = rest;
            match end {
                End::Done(status) => return status,
                End::Broken(cause) => return broken(self.id.as_str(), cause),
                End::Again(_) if tried.count < MAX_TRIES => {}
                End::Again(cause) | End::Failed(cause) => return self.answer_cause(exchange, cause),
            }
        }
    }

    /// One try on one connection.
    fn transfer(&self, exchange: &Exchange<'_>, mut connection: Box<Connection>, upload: Upload) -> Transfer {
        let config = exchange.config();
        let limits = Limits {
            deadline: self.deadline,
            total: self.deadline,
            silence: None,
            read_stall: config.body_stall_timeout,
            write_stall: config.write_stall_timeout,
            idle: config.idle_timeout,
        };
        connection.start(self.request_head(exchange), exchange.body_length());
        Transfer::new(connection, upload, limits)
    }

    fn request_head(&self, exchange: &Exchange<'_>) -> HeadWriter {
        let request = exchange.request();
        let mut head = HeadWriter::request(request.method(), request.target());
        if let (Some(resident), None) = (&self.function.resident, request.headers().get("host")) {
            head.text("Host", &resident.target().address.to_string());
        }
        head.forward(request.headers(), &|name| {
            name.eq_ignore_ascii_case(call::ID.as_bytes()) || name.eq_ignore_ascii_case(b"expect")
        });
        head.text(call::ID, self.id.as_str());
        if let Some(protocol) = request.upgrade() {
            head.upgrade(protocol);
        }
        head
    }

    /// A kept connection or a new one, and how long the call has waited for the process to start. Tries again while the
    /// process starts and while its backlog is full, unless process after process ends before it listens.
    fn connect(
        &self,
        exchange: &mut Exchange<'_>,
        resident: &Resident,
    ) -> Result<(Box<Connection>, Option<Duration>), u16> {
        let until = self.deadline.within(MAX_WAIT);
        let starts = !resident.has_listened();
        loop {
            // A connection may have come back since the last try.
            if let Some(connection) = resident.target().pool.take() {
                return Ok((connection, None));
            }
            let tried_at = Instant::now();
            let error = match resident.connect(until.within(CONNECT_TIME)) {
                Ok(connection) => {
                    resident.listened();
                    return Ok((connection, starts.then(|| self.started.elapsed())));
                }
                Err(error) => error,
            };
            if self.deadline.has_passed() {
                return Err(self.answer_timeout(exchange));
            }
            if let Some(failure) = resident.failure() {
                return Err(self.answer_text(exchange, 503, &failure));
            }
            if until.has_passed() {
                let address = resident.target().address;
                let text = format!("the process does not listen on {address}, see upstream_url");
                log::warn!("call={} {text}: {error}", self.id);
                return Err(self.answer_text(exchange, 503, &text));
            }
            // Between two tries the client may hang up.
            let pause = until.min(Deadline::at(tried_at + CONNECT_PAUSE));
            if exchange.socket().wait(Ready::HANG_UP, pause).is_ok_and(Ready::is_hung_up) {
                exchange.abort();
                return Err(CLIENT_CLOSED);
            }
        }
    }

    fn answer_cause(&self, exchange: &mut Exchange<'_>, cause: Cause) -> u16 {
        match cause {
            Cause::Refused(refusal) => self.answer_refusal(exchange, refusal),
            // No body is checked here.
            Cause::ClientGone | Cause::ClientStalls | Cause::Unproven => {
                exchange.abort();
                CLIENT_CLOSED
            }
            Cause::Closed | Cause::Unreachable(_) => {
                log::warn!("call={} the process closed the connection", self.id);
                self.answer_text(
                    exchange,
                    502,
                    "the process closed the connection before its answer was whole",
                )
            }
            Cause::Invalid(refusal) => {
                let text =
                    format!("the process's answer is not valid HTTP: {}", refusal_text::of_answer(refusal));
                log::warn!("call={} {text}", self.id);
                self.answer_text(exchange, 502, &text)
            }
            Cause::Timeout(_) => {
                // The process may be waiting for the rest of a body, or was given too little time.
                if let (Some(resident), true) =
                    (&self.function.resident, is_long(self.limit) && exchange.has_read_body())
                {
                    resident.timed_out(self.turn);
                }
                log::warn!("call={} was given up: {}", self.id, self.timeout_text());
                self.answer_timeout(exchange)
            }
        }
    }
}

/// Whether a process hangs that does not answer within this limit. A caller that gives a call less time than the
/// process usually takes must not get the process ended.
fn is_long(limit: TimeLimit) -> bool {
    limit.name == EXEC_TIMEOUT || limit.span >= HANG_TIME
}

fn answer_head(head: &ResponseHead) -> HeadWriter {
    let mut ours = HeadWriter::response(head.status());
    ours.forward(head.headers(), &|_| false);
    ours
}

/// The status under which a broken answer counts.
fn broken(id: &str, cause: Cause) -> u16 {
    match cause {
        Cause::Refused(refusal) => refusal.status(),
        Cause::ClientGone | Cause::Unproven => CLIENT_CLOSED,
        Cause::ClientStalls => {
            log::warn!(
                "call={id} was ended: the client does not read, see write_timeout, or send, see read_timeout"
            );
            CLIENT_CLOSED
        }
        Cause::Closed | Cause::Unreachable(_) | Cause::Invalid(_) => 502,
        Cause::Timeout(_) => 504,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_cannot_have_a_process_ended_for_its_impatience() {
        let almost = HANG_TIME - Duration::from_millis(1);
        let is_long = |name, span| is_long(TimeLimit { name, span });
        assert!(!is_long("X-Timeout", almost) && is_long("X-Timeout", HANG_TIME));
        assert!(is_long(EXEC_TIMEOUT, Duration::from_millis(1)));
    }
}
