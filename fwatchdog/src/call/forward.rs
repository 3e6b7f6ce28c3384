//! One call of `mode=http`: it waits until the process listens, and is forwarded to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http1::forward::{self, Cause, End, Limits, Transfer, Upload};
use http1::server::{Course, Relay};
use http1::{Connection, Exchange, HeadWriter, ResponseHead};
use kit::sys::Ready;
use kit::{Deadline, call};

use crate::call::{CLIENT_CLOSED, Call, EXEC_TIMEOUT};
use crate::function::{self, Entered, Function, Observation};
use crate::resident::Resident;

/// Between two tries to connect while the process starts.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// How long one try may take. On the same machine a connection stands at once, or is dropped since the process
/// accepts none of those that wait already: the system would try again after a second (tcp(7), listen(2)).
const CONNECT_TIME: Duration = Duration::from_millis(20);

/// How long a call without a time limit waits for the process to listen.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Less time than this of a caller's says nothing about a process that does not answer in it.
const HANG_TIME: Duration = Duration::from_secs(10);

/// Tries of one call on connections that broke.
const MAX_TRIES: usize = 3;

/// A call that a poller of the server forwards. What it cannot do at once is left to a worker.
struct Passing {
    /// Leaves after it was observed.
    observation: Observation<Arc<Function>>,
    entered: Entered<Arc<Function>>,
    id: String,
    deadline: Deadline,
    limit: (&'static str, Duration),
    turn: u64,
}

/// Begins to forward a request, if there is room for one more and the process can be connected to at once.
pub(crate) fn begin(function: &Arc<Function>, exchange: &Exchange<'_>) -> Option<Course> {
    let resident = function.resident.as_ref().filter(|_| !function::is_own(exchange.request()))?;
    let entered = Function::enter(Arc::clone(function))?;
    let Call { id, deadline, limit, turn, .. } = Call::new(function, exchange);
    let connection = forward::connection(&resident.target().pool, exchange, deadline.within(CONNECT_TIME))?;
    let transfer = transfer(exchange, (connection, Upload::default()), resident, (&id, deadline));
    let observation = Observation::new(Arc::clone(function), exchange.request().method());
    Some(Course::Relay(transfer, Box::new(Passing { observation, entered, id, deadline, limit, turn })))
}

impl Relay for Passing {
    fn head(&mut self, response: &ResponseHead) -> HeadWriter {
        if let Some(resident) = &self.entered.function().resident {
            resident.answered();
        }
        answer_head(response)
    }

    fn ended(mut self: Box<Self>, end: End, connection: Box<Connection>) {
        self.observation.code = match end {
            End::Done(status) => status,
            End::Broken(cause) | End::Failed(cause) | End::Again(cause) => broken(&self.id, cause),
        };
        if let Some(resident) = &self.entered.function().resident {
            resident.target().pool.put(connection); // which closes it unless all went well
        }
    }

    fn go_on(self: Box<Self>, exchange: &mut Exchange<'_>, parts: (End, Box<Connection>, Upload)) {
        let Passing { mut observation, entered, id, deadline, limit, turn } = *self;
        let function = entered.function();
        let mut call = Call::new(function, exchange);
        (call.id, call.deadline, call.limit, call.turn) = (id, deadline, limit, turn);
        let (end, connection, upload) = parts;
        let Some(resident) = &function.resident else { return };
        resident.target().pool.put(connection); // which closes it
        observation.code = match end {
            End::Again(Cause::Unreachable(_)) => call.forward(exchange, resident, (upload, 0)),
            End::Again(_) => call.forward(exchange, resident, (upload, 1)),
            End::Done(status) => status,
            End::Failed(cause) | End::Broken(cause) => call.answer_cause(exchange, cause),
        };
        drop(observation);
    }
}

/// One try on one connection.
fn transfer(
    exchange: &Exchange<'_>,
    (mut connection, upload): (Box<Connection>, Upload),
    resident: &Resident,
    (id, deadline): (&str, Deadline),
) -> Transfer {
    let config = exchange.config();
    let (read_stall, write_stall) = (config.body_stall_timeout, config.write_stall_timeout);
    let idle = config.idle_timeout;
    let limits = Limits { deadline, total: deadline, silence: None, read_stall, write_stall, idle };
    connection.start(request_head(exchange, resident, id), exchange.body_length());
    Transfer::new(connection, upload, limits)
}

impl Call<'_> {
    /// Forwards the call; answers the status under which it counts. `upload` is what there is of its body, after so
    /// many tries.
    pub(crate) fn forward(
        &self,
        exchange: &mut Exchange<'_>,
        resident: &Resident,
        (mut upload, mut tries): (Upload, usize),
    ) -> u16 {
        loop {
            tries += 1;
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
            let transfer = transfer(exchange, (connection, upload), resident, (&self.id, self.deadline));
            let (end, connection, rest) = transfer.run(exchange, &mut passed_head);
            resident.target().pool.put(connection); // which closes it unless all went well
            upload = rest;
            match end {
                End::Done(status) => return status,
                End::Broken(cause) => return broken(&self.id, cause),
                End::Again(_) if tries < MAX_TRIES => {}
                End::Again(cause) | End::Failed(cause) => return self.answer_cause(exchange, cause),
            }
        }
    }

    /// A kept connection or a new one, tried for while the process starts, or its queue of connections is full, unless
    /// it goes on ending before it listens. With
    /// it how long the call has waited for the start.
    fn connect(
        &self,
        exchange: &mut Exchange<'_>,
        resident: &Resident,
    ) -> Result<(Box<Connection>, Option<Duration>), u16> {
        let until = self.deadline.within(MAX_WAIT);
        let starts = !resident.has_listened();
        loop {
            // One may have come back since the last try.
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
            // The client is looked at between two tries.
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
            // Bodies are not checked here.
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
                    format!("the process's answer is not valid HTTP: {}", function::line_of_answer(refusal));
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

/// Whether a process that does not answer within a call's time limit may be said to hang. A caller that asks for less
/// than the process usually takes must not have it ended.
fn is_long((name, span): (&str, Duration)) -> bool {
    name == EXEC_TIMEOUT || span >= HANG_TIME
}

fn request_head(exchange: &Exchange<'_>, resident: &Resident, id: &str) -> HeadWriter {
    let request = exchange.request();
    let mut head = HeadWriter::request(request.method(), request.target());
    if request.headers().get("host").is_none() {
        head.text("Host", &resident.target().address.to_string());
    }
    head.forward(request.headers(), &|name| {
        name.eq_ignore_ascii_case(call::ID.as_bytes()) || name.eq_ignore_ascii_case(b"expect")
    });
    head.text(call::ID, id);
    if let Some(protocol) = request.upgrade() {
        head.upgrade(protocol);
    }
    head
}

fn answer_head(head: &ResponseHead) -> HeadWriter {
    let mut ours = HeadWriter::response(head.status());
    ours.forward(head.headers(), &|_| false);
    ours
}

/// The status under which an answer counts that was broken off.
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
        assert!(!is_long(("X-Timeout", almost)) && is_long(("X-Timeout", HANG_TIME)));
        assert!(is_long((EXEC_TIMEOUT, Duration::from_millis(1))));
    }
}
