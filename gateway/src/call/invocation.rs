//! One call: what is known of it from the start, where it stands, and how its end is counted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http1::forward::{Cause, End, Limits, Upload};
use http1::{Exchange, HeadWriter, Length, ResponseHead};
use kit::Deadline;
use kit::call::CallId;
use kit::sys::limits::random;

use super::context::Calls;
use super::headers;
use super::replicas::{Tries, connect_error};
use super::stage::{ColdStart, Stage};
use super::times::Times;
use crate::failure::{CLIENT_GONE, Failure, Phase, TimeLimit};
use crate::functions::{Function, Pass, Replica};
use crate::metrics::{InFlight, Retry};
use crate::route::Below;

/// The most tries of one call on connections that break. Connects that fail are not counted.
const MAX_TRIES: usize = 3;

/// What a call is for.
pub(crate) struct Invocation {
    pub(crate) function: Arc<Function>,
    /// What the function sees of the request's target.
    pub(crate) target: Below,
    /// The length of the body.
    pub(crate) length: Length,
    /// The body, as far as it was read.
    pub(crate) upload: Upload,
}

/// What stays the same from a call's first try to its last.
pub(super) struct Facts {
    pub(super) id: CallId,
    pub(super) target: Below,
    pub(super) length: Length,
    pub(super) started: Instant,
    pub(super) times: Times,
    pub(super) limits: Limits,
}

/// One call.
pub(super) struct Call {
    pub(super) calls: Arc<Calls>,
    pub(super) facts: Facts,
    pub(super) function: Arc<Function>,
    pub(super) tries: Tries,
    pub(super) stage: Stage,
    /// The body, as far as it was read, between two tries.
    pub(super) upload: Upload,
    pub(super) cold_start: ColdStart,
    /// Where the call stands before the function's limit of calls.
    pub(super) pass: Pass,
    /// Observes the call when it is dropped, even by a panic. As the last field it is dropped after the others, so that
    /// no reader counts a call as waiting or inside that is observed already.
    in_flight: InFlight,
}

impl Call {
    pub(super) fn new(calls: &Arc<Calls>, exchange: &Exchange<'_>, invocation: Invocation) -> Box<Call> {
        let Invocation { function, target, length, upload } = invocation;
        let started = Instant::now();
        let asked = headers::Asked::of(exchange.request());
        let times = Times::new(calls.limits.upstream_timeout, function.known.labels.timeout, asked.timeout);
        let limits = Limits {
            deadline: Deadline::at(started + times.answer.span),
            total: times.total.map_or(Deadline::NEVER, |total| Deadline::at(started + total.span)),
            silence: Some(calls.limits.idle_timeout),
            read_stall: calls.limits.body_stall_timeout,
            write_stall: calls.limits.body_stall_timeout,
            idle: calls.limits.idle_timeout,
        };
        let id = CallId::of(asked.id, random);
        Box::new(Call {
            calls: Arc::clone(calls),
            in_flight: function.series.begin_call(started),
            facts: Facts { id, target, length, started, times, limits },
            function,
            tries: Tries::default(),
            stage: Stage::Ready,
            upload,
            cold_start: ColdStart::No,
            pass: Pass::default(),
        })
    }

    /// Goes on with the newest form of the function. If the function was removed and added again it has new metrics;
    /// count the call there, or the scaler will not start a replica for it.
    pub(super) fn renew(&mut self, function: Arc<Function>) {
        if !Arc::ptr_eq(&function.series, &self.function.series) {
            self.in_flight.move_to(&function.series);
            (self.stage, self.pass) = (Stage::Ready, Pass::default());
        }
        self.function = function;
    }

    /// Ends the call, which is counted under this status.
    pub(super) fn observe(mut self: Box<Self>, code: u16) {
        self.in_flight.ends_with(code);
    }

    /// The client's head for an answer of the function.
    pub(super) fn answer_head(&self, response: &ResponseHead) -> HeadWriter {
        let answer = headers::Answer {
            id: &self.facts.id,
            took: self.facts.started.elapsed(),
            cold_start: self.cold_start.took(),
        };
        headers::to_client(response, &answer)
    }

    /// The client's head for a failure of the gateway's own.
    pub(super) fn failure_head(&self, failure: &Failure) -> HeadWriter {
        let mut head = failure.head();
        headers::own(&mut head, &self.facts.id, self.facts.started.elapsed());
        head
    }

    /// How a try ended.
    pub(super) fn outcome(&mut self, end: End, replica: &Replica) -> Outcome {
        let address = replica.address();
        match end {
            End::Done(status) => Outcome::Answered(status),
            End::Broken(cause) => Outcome::Answered(self.broken(cause, address)),
            End::Again(cause) if self.tries.count < MAX_TRIES => {
                let id = &self.facts.id;
                log::debug!("call {id}: {}; sending it again", self.failure(cause, address));
                self.function.series.count_retry(Retry::Stale);
                self.tries.broke_with = Some(address);
                Outcome::Again
            }
            End::Again(cause) | End::Failed(cause) => Outcome::Failed(self.failure(cause, address)),
        }
    }

    /// The status under which a call counts whose answer was broken off.
    pub(super) fn broken(&self, cause: Cause, address: SocketAddr) -> u16 {
        match cause {
            Cause::ClientGone => return CLIENT_GONE,
            Cause::ClientStalls => {
                let id = &self.facts.id;
                log::debug!("call {id}: the client neither reads nor sends, see body_stall_timeout");
                return CLIENT_GONE;
            }
            _ => {}
        }
        let failure = self.failure(cause, address);
        log::debug!("call {}: {failure}", self.facts.id);
        failure.status()
    }

    fn failure(&self, cause: Cause, address: SocketAddr) -> Failure {
        let Facts { times, limits, .. } = &self.facts;
        match cause {
            Cause::Refused(refusal) => Failure::Refused(refusal),
            Cause::ClientGone | Cause::ClientStalls => Failure::ClientGone,
            Cause::Unproven => Failure::BadSignature(Failure::NOT_OF_THE_BODY),
            Cause::Closed => Failure::Closed(address),
            Cause::Invalid(refusal) => Failure::Invalid(refusal),
            Cause::Timeout(http1::Phase::Body) => {
                let total = times.total.filter(|_| limits.total.has_passed());
                let silence = TimeLimit { span: limits.idle, name: "idle_timeout" };
                Failure::Timeout(Phase::Body, total.unwrap_or(silence))
            }
            Cause::Timeout(_) => Failure::Timeout(Phase::FirstByte, times.answer),
            Cause::Unreachable(code) => {
                Failure::Connect(connect_error(address, &io::Error::from_raw_os_error(code)))
            }
        }
    }
}

/// What a try came to.
pub(super) enum Outcome {
    /// An answer went out, whole or in part, and counts under this status.
    Answered(u16),
    /// Nothing went out, and the client is to be told.
    Failed(Failure),
    /// Nothing went out, and another try may follow.
    Again,
}
