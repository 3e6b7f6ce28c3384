//! Serves a call: on a poller as long as nothing blocks, else on a worker. A call changes between the two here.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use http1::forward::{Cause, End, Transfer, Upload};
use http1::server::{Answer, Blocking, Course, Due, Relay, Waiting};
use http1::{Connection, Exchange, HeadWriter, ResponseHead};

use super::context::Calls;
use super::headers;
use super::invocation::{Call, Invocation, Outcome};
use super::replicas::{Reached, Stop, connect_error, take_leave};
use super::stage::Stage;
use crate::failure::{CLIENT_GONE, Failure};
use crate::functions::Replica;

/// Serves an invocation on this thread, a worker: exactly one answer, exactly one observation.
pub(crate) fn serve(calls: &Arc<Calls>, exchange: &mut Exchange<'_>, invocation: Invocation) {
    Call::new(calls, exchange, invocation).run(exchange);
}

/// Begins an invocation on a poller, where it is relayed or waits.
pub(crate) fn begin(calls: &Arc<Calls>, exchange: &Exchange<'_>, invocation: Invocation) -> Course {
    let mut call = Call::new(calls, exchange, invocation);
    let now = call.facts.started;
    match call.is_ready() {
        Ok(true) => call.relay(exchange, now),
        Ok(false) => Course::Wait(call),
        Err(failure) => Course::Answer(call.into_answer(&failure)),
    }
}

impl Waiting for Call {
    fn key(&self) -> usize {
        let gate = Arc::as_ptr(&self.function.gate) as usize;
        gate + usize::from(self.stage.round().is_some()) // the gate is larger than that
    }

    fn until(&self) -> Instant {
        let deadline = self.facts.started + self.facts.times.answer.span;
        self.stage.round().map_or(deadline, |round| round.next.min(deadline))
    }

    fn expired(mut self: Box<Self>, _: &Exchange<'_>) -> Due {
        if self.facts.limits.deadline.has_passed() {
            self.pass.leave_line(); // until its client is told, others go on
        }
        Due::GoOn(self)
    }

    fn step_aside(&mut self) {
        self.pass.leave_line();
    }

    fn look(mut self: Box<Self>, exchange: &Exchange<'_>) -> Course {
        let table = &self.calls.table;
        if self.stage.round().is_some_and(|round| round.version == table.version()) {
            return Course::Wait(self);
        }
        let Some(function) = table.find(self.function.known.name.as_str()) else {
            return Course::GoOn(self);
        };
        self.renew(function);
        match self.is_ready() {
            // The free place may be that of a call that was broken off: this call would be, too.
            Ok(true) if exchange.is_stopping() => Course::Wait(self),
            Ok(true) => self.relay(exchange, Instant::now()),
            Ok(false) => Course::Wait(self),
            Err(failure) => Course::Answer(self.into_answer(&failure)),
        }
    }
}

impl Blocking for Call {
    fn go_on(self: Box<Self>, exchange: &mut Exchange<'_>) {
        self.run(exchange);
    }

    fn ended(self: Box<Self>, cause: Cause) {
        let code = match cause {
            Cause::Refused(refusal) => refusal.status(),
            _ => CLIENT_GONE,
        };
        self.observe(code);
    }
}

impl Relay for Call {
    fn head(&mut self, response: &ResponseHead) -> HeadWriter {
        self.answer_head(response)
    }

    fn ended(mut self: Box<Self>, end: End, connection: Box<Connection>) {
        let Some(in_use) = self.stage.take_use() else { return }; // a relayed call has one
        let replica = in_use.replica();
        if connection.has_peer() {
            replica.works();
        }
        take_leave(replica, &connection);
        let code = match end {
            End::Done(status) => status,
            End::Failed(cause) | End::Again(cause) | End::Broken(cause) => {
                self.broken(cause, replica.address())
            }
        };
        replica.pool().put(connection); // closes the connection unless all of it went well
        drop(in_use);
        self.observe(code);
    }

    fn failed(
        mut self: Box<Self>,
        _: &Exchange<'_>,
        (end, connection, upload): (End, Box<Connection>, Upload),
    ) -> Course {
        let Some(in_use) = self.stage.take_use() else { return Course::GoOn(self) }; // a relayed call has one
        let replica = in_use.replica();
        replica.pool().put(connection); // closes the connection
        self.upload = upload;
        let outcome = match end {
            End::Again(Cause::Unreachable(code)) => {
                self.tries.count -= 1;
                let error = io::Error::from_raw_os_error(code);
                self.refused(replica, connect_error(replica.address(), &error));
                Outcome::Again
            }
            end => self.outcome(end, replica),
        };
        drop(in_use);
        match outcome {
            Outcome::Failed(failure) => Course::Answer(self.into_answer(&failure)),
            Outcome::Again | Outcome::Answered(_) => Course::GoOn(self),
        }
    }
}

impl Call {
    /// Has the poller relay the call, on a kept connection or on one that it makes. Where that may block, a worker goes
    /// on.
    fn relay(mut self: Box<Self>, exchange: &Exchange<'_>, now: Instant) -> Course {
        let Some(Reached { in_use, connection }) = self.reach_at_once(exchange) else {
            return Course::GoOn(self);
        };
        let head = self.request_head(exchange, in_use.replica(), now);
        let transfer = self.begin_try(connection, head);
        self.stage = Stage::Relayed(in_use);
        Course::Relay(transfer, self)
    }

    /// Tries on a worker until the call has an answer, or has to wait on its poller.
    fn run(mut self: Box<Self>, exchange: &mut Exchange<'_>) {
        loop {
            let Reached { in_use, connection } = match self.reach() {
                Ok(reached) => reached,
                Err(Stop::Failed(failure)) => return self.fail(exchange, &failure),
                Err(Stop::Waits) => return exchange.wait(self),
            };
            let replica = in_use.replica();
            let head = self.request_head(exchange, replica, Instant::now());
            let transfer = self.begin_try(connection, head);
            let (end, connection, upload) =
                transfer.run(exchange, &mut |response| self.answer_head(response));
            take_leave(replica, &connection);
            replica.pool().put(connection); // closes the connection unless all of it went well
            self.upload = upload;
            match self.outcome(end, replica) {
                Outcome::Answered(status) => return self.observe(status),
                Outcome::Failed(failure) => return self.fail(exchange, &failure),
                Outcome::Again => {}
            }
        }
    }

    /// The head of the request for the function.
    fn request_head(&self, exchange: &Exchange<'_>, replica: &Replica, now: Instant) -> HeadWriter {
        let request = exchange.request();
        let way = headers::Way {
            id: &self.facts.id,
            target: &self.facts.target.of(request.target()),
            peer: exchange.peer(),
            proxies: &self.calls.proxies,
            keeps_underscores: self.calls.keeps_underscores,
            address: replica.address(),
            left: self.facts.limits.total.left(now),
            takes_authorization: self.function.takes_authorization(),
        };
        headers::to_function(request, &way)
    }

    fn begin_try(&mut self, mut connection: Box<Connection>, head: HeadWriter) -> Transfer {
        self.tries.count += 1;
        connection.start(head, self.facts.length);
        Transfer::new(connection, mem::take(&mut self.upload), self.facts.limits)
    }

    /// Answers a failure, unless there is nobody left to be told, and observes the call.
    fn fail(self: Box<Self>, exchange: &mut Exchange<'_>, failure: &Failure) {
        let answer = self.into_answer(failure);
        if *failure == Failure::ClientGone || exchange.is_started() {
            exchange.abort();
        } else {
            let _ = exchange.send(answer); // an error: nobody is left to be told
        }
    }

    /// Observes a call that failed, and returns the answer for its client.
    fn into_answer(self: Box<Self>, failure: &Failure) -> Answer {
        let line = failure.line(Some(self.function.known.name.as_str()));
        log::debug!("call {}: {}", self.facts.id, line.trim_end());
        let answer = Answer::new(self.failure_head(failure), line);
        failure.count(&self.calls.rejected);
        self.observe(failure.status());
        answer
    }
}
