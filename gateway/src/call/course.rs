//! Serves a call: on a poller as long as nothing blocks, else on a worker. A call changes between the two here.

use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use http1::forward::{Cause, End, Transfer, Upload};
use http1::server::{Course, Relay, Waiting};
use http1::{Connection, Exchange, HeadWriter, ResponseHead};

use super::context::Calls;
use super::headers;
use super::invocation::{Call, Invocation, Outcome};
use super::replicas::{Reached, Stop, connect_error, take_leave};
use crate::failure::{CLIENT_GONE, Failure};
use crate::functions::Use;

/// Serves one invocation on this thread: exactly one answer, exactly one observation. `upload` is the body, as far
/// as it was read.
pub(crate) fn serve(calls: &Arc<Calls>, exchange: &mut Exchange<'_>, invocation: Invocation, upload: Upload) {
    Call::new(calls, exchange, invocation).run(exchange, upload);
}

/// Begins an invocation on a poller, where it is relayed or waits.
pub(crate) fn begin(calls: &Arc<Calls>, exchange: &Exchange<'_>, invocation: Invocation) -> Course {
    let mut call = Call::new(calls, exchange, invocation);
    match call.is_ready() {
        Ok(true) => {
            let now = call.facts.started;
            call.relay(exchange, Upload::default(), now)
        }
        Ok(false) => Course::Wait(Parked::new(call, Upload::default())),
        Err(_) => Course::GoOn(Parked::new(call, Upload::default())),
    }
}

/// A call between two tries, or before the first one.
struct Parked {
    call: Call,
    upload: Upload,
}

impl Parked {
    fn new(call: Call, upload: Upload) -> Box<Parked> {
        Box::new(Parked { call, upload })
    }
}

impl Waiting for Parked {
    fn key(&self) -> usize {
        let gate = Arc::as_ptr(&self.call.function.gate) as usize;
        gate + usize::from(self.call.wait.round().is_some()) // the gate is larger than that
    }

    fn until(&self) -> Instant {
        let deadline = self.call.facts.started + self.call.facts.times.answer.span;
        self.call.wait.round().map_or(deadline, |round| round.next.min(deadline))
    }

    fn time_is_up(&mut self) {
        if self.call.facts.limits.deadline.has_passed() {
            self.call.pass.leave_line(); // until its client is told, others go on
        }
    }

    fn step_aside(&mut self) {
        self.call.pass.leave_line();
    }

    fn look(mut self: Box<Self>, exchange: &Exchange<'_>) -> Course {
        let table = &self.call.calls.table;
        if self.call.wait.round().is_some_and(|round| round.version == table.version()) {
            return Course::Wait(self);
        }
        let Some(function) = table.find(self.call.function.known.name.as_str()) else {
            return Course::GoOn(self);
        };
        self.call.renew(function);
        match self.call.is_ready() {
            // The place may be that of a call that was broken off: this one would be, too.
            Ok(true) if exchange.is_stopping() => Course::Wait(self),
            Ok(true) => self.call.relay(exchange, self.upload, Instant::now()),
            Ok(false) => Course::Wait(self),
            Err(_) => Course::GoOn(self), // a worker finds the same failure, and can tell the client
        }
    }

    fn go_on(self: Box<Self>, exchange: &mut Exchange<'_>) {
        self.call.run(exchange, self.upload);
    }

    fn ended(self: Box<Self>, cause: Cause) {
        let code = match cause {
            Cause::Refused(refusal) => refusal.status(),
            _ => CLIENT_GONE,
        };
        self.call.observe(code);
    }
}

/// A call that a poller relays.
struct Relayed {
    call: Call,
    in_use: Use,
}

impl Relay for Relayed {
    fn head(&mut self, response: &ResponseHead) -> HeadWriter {
        self.call.head(response)
    }

    fn ended(self: Box<Self>, end: End, connection: Box<Connection>) {
        let Relayed { call, in_use } = *self;
        let replica = in_use.replica();
        if connection.has_peer() {
            replica.works();
        }
        take_leave(replica, &connection);
        let code = match end {
            End::Done(status) => status,
            End::Failed(cause) | End::Again(cause) | End::Broken(cause) => {
                call.broken(cause, replica.address())
            }
        };
        replica.pool().put(connection); // closes the connection unless all of it went well
        drop(in_use);
        call.observe(code);
    }

    fn go_on(
        self: Box<Self>,
        exchange: &mut Exchange<'_>,
        (end, connection, upload): (End, Box<Connection>, Upload),
    ) {
        let Relayed { mut call, in_use } = *self;
        let replica = in_use.replica();
        replica.pool().put(connection); // closes the connection
        let outcome = match end {
            End::Again(Cause::Unreachable(code)) => {
                call.tries.count -= 1;
                let error = io::Error::from_raw_os_error(code);
                call.refused(replica, connect_error(replica.address(), &error));
                Outcome::Again
            }
            end => call.outcome(end, replica),
        };
        drop(in_use);
        match outcome {
            Outcome::Answered(status) => call.observe(status),
            Outcome::Failed(failure) => call.fail(exchange, &failure),
            Outcome::Again => call.run(exchange, upload),
        }
    }
}

impl Call {
    /// Has the poller relay the call, on a kept connection or on one that it makes. Where that may block a worker goes
    /// on.
    fn relay(mut self, exchange: &Exchange<'_>, upload: Upload, now: Instant) -> Course {
        let Some(mut reached) = self.reach_at_once(exchange) else {
            return Course::GoOn(Parked::new(self, upload));
        };
        self.send_head(exchange, &mut reached, now);
        let Reached { in_use, connection } = reached;
        let transfer = Transfer::new(connection, upload, self.facts.limits);
        Course::Relay(transfer, Box::new(Relayed { call: self, in_use }))
    }

    /// Tries on a worker until the call has an answer, or has to wait on its poller.
    fn run(mut self, exchange: &mut Exchange<'_>, mut upload: Upload) {
        loop {
            let mut reached = match self.reach() {
                Ok(reached) => reached,
                Err(Stop::Failed(failure)) => return self.fail(exchange, &failure),
                Err(Stop::Waits) => return exchange.wait(Parked::new(self, upload)),
            };
            self.send_head(exchange, &mut reached, Instant::now());
            let Reached { in_use, connection } = reached;
            let transfer = Transfer::new(connection, mem::take(&mut upload), self.facts.limits);
            let (end, connection, rest) = transfer.run(exchange, &mut |response| self.head(response));
            let replica = in_use.replica();
            take_leave(replica, &connection);
            replica.pool().put(connection); // closes the connection unless all of it went well
            upload = rest;
            match self.outcome(end, replica) {
                Outcome::Answered(status) => return self.observe(status),
                Outcome::Failed(failure) => return self.fail(exchange, &failure),
                Outcome::Again => {}
            }
        }
    }

    /// Begins a try: writes the head of the request for the function.
    fn send_head(&mut self, exchange: &Exchange<'_>, reached: &mut Reached, now: Instant) {
        self.tries.count += 1;
        let request = exchange.request();
        let way = headers::Way {
            id: &self.facts.id,
            target: &self.facts.target.of(request.target()),
            peer: exchange.peer(),
            proxies: &self.calls.proxies,
            keeps_underscores: self.calls.keeps_underscores,
            address: reached.in_use.replica().address(),
            left: self.facts.limits.total.left(now),
            takes_authorization: self.function.takes_authorization(),
        };
        reached.connection.start(headers::to_function(request, &way), self.facts.length);
    }

    /// Answers a failure, unless there is nobody left to be told, and observes the call.
    fn fail(self, exchange: &mut Exchange<'_>, failure: &Failure) {
        let line = failure.line(Some(self.function.known.name.as_str()));
        log::debug!("call {}: {}", self.facts.id, line.trim_end());
        if *failure == Failure::ClientGone || exchange.is_started() {
            exchange.abort();
        } else {
            let _ = exchange.respond(self.failure_head(failure), line.as_bytes()); // an error: nobody is left to be told
        }
        failure.count(&self.calls.rejected);
        self.observe(failure.status());
    }
}
