//! What stays the same during a call, and the answers that fwatchdog itself gives.

use std::io;
use std::time::Instant;

use http1::{Exchange, HeadWriter, Refusal};
use kit::call::{self, CallId};
use kit::sys::limits::random;
use kit::{Deadline, duration};

use super::time_limit::{TimeLimit, time_limit};
use crate::function::Function;
use crate::refusal_text;

/// The media type of text that fwatchdog itself writes.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";

/// The status under which a call counts after its client left; no answer is sent.
pub(super) const CLIENT_CLOSED: u16 = 499;

/// What stays the same during a call.
pub(crate) struct Call {
    pub(crate) function: &'static Function,
    pub(crate) id: CallId,
    pub(crate) deadline: Deadline,
    /// Where `deadline` comes from.
    pub(crate) limit: TimeLimit,
    /// The turn of the process of `mode=http`, see [`crate::resident::Resident::turn`].
    pub(crate) turn: u64,
    pub(crate) started: Instant,
}

impl Call {
    pub(crate) fn new(function: &'static Function, exchange: &Exchange<'_>) -> Call {
        let headers = exchange.request().headers();
        let limit = time_limit(function.config.exec_timeout, headers);
        Call {
            function,
            id: CallId::of(headers.get(call::ID).and_then(call::id), random),
            deadline: limit.map_or(Deadline::NEVER, |limit| Deadline::after(limit.span)),
            limit: limit.unwrap_or_default(),
            turn: function.resident.as_ref().map_or(0, |resident| resident.turn()),
            started: Instant::now(),
        }
    }

    pub(crate) fn answer_refusal(&self, exchange: &mut Exchange<'_>, refusal: Refusal) -> u16 {
        self.function.metrics.reject(refusal);
        let text = refusal_text::of_request(refusal);
        log::debug!("call={} was ended: {text}", self.id);
        exchange.close_after();
        self.answer_text(exchange, refusal.status(), &text)
    }

    pub(crate) fn answer_timeout(&self, exchange: &mut Exchange<'_>) -> u16 {
        self.answer_text(exchange, 504, &self.timeout_text())
    }

    pub(crate) fn timeout_text(&self) -> String {
        let TimeLimit { name, span } = self.limit;
        format!("the function did not answer in time, {name} is {}", duration::format(span))
    }

    /// Answers with one line of fwatchdog's own. An answer that has begun is broken off instead.
    pub(crate) fn answer_text(&self, exchange: &mut Exchange<'_>, status: u16, text: &str) -> u16 {
        if exchange.is_started() {
            exchange.abort();
            return status;
        }
        let mut head = HeadWriter::response(status);
        head.text("Content-Type", TEXT);
        if status == 503 {
            head.text("Retry-After", "1");
        }
        self.respond(exchange, head, format!("{text}\n").as_bytes())
    }

    fn respond(&self, exchange: &mut Exchange<'_>, head: HeadWriter, body: &[u8]) -> u16 {
        let status = head.status();
        let sent = exchange.respond(head, body);
        self.counted(status, sent)
    }

    /// The status under which an answer counts that was sent, or was not.
    pub(super) fn counted(&self, status: u16, sent: io::Result<()>) -> u16 {
        match sent {
            Ok(()) => status,
            Err(error) => {
                log::debug!("call={} the answer was not taken: {error}", self.id);
                CLIENT_CLOSED
            }
        }
    }
}
