//! The function as an HTTP service: its own routes under `/_/`, the bound on calls, and one observation for each
//! request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http1::server::{Answer, Course};
use http1::{Exchange, HeadWriter, Refusal, RequestHead, Service};

use crate::call::context::TEXT;
use crate::call::{self, Served, forward};
use crate::function::Function;
use crate::metrics::Observation;
use crate::refusal_text;
use crate::resident::Resident;

/// The media type of the Prometheus text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The service.
pub(crate) struct FunctionService {
    function: &'static Function,
    is_draining: AtomicBool,
}

impl FunctionService {
    pub(crate) fn new(function: &'static Function) -> Arc<FunctionService> {
        Arc::new(FunctionService { function, is_draining: AtomicBool::new(false) })
    }

    /// From now on the function is not healthy.
    pub(crate) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// The answer of fwatchdog itself, if it is known. `listens` tells whether the process of `mode=http` listens, if
    /// that is known.
    fn own_answer(
        &self,
        request: &RequestHead,
        listens: &dyn Fn(&Resident) -> Option<bool>,
    ) -> Option<Answer> {
        if !is_own(request) {
            return None;
        }
        let (status, kind, text) = match request.path() {
            b"/_/health" => match self.health(listens)? {
                Ok(()) => (200, TEXT, "OK".to_owned()),
                Err(why) => (503, TEXT, why.to_owned()),
            },
            b"/_/ready" if self.function.slots.is_full() => {
                (429, TEXT, "max_inflight is reached\n".to_owned())
            }
            b"/_/ready" => (200, TEXT, "OK".to_owned()),
            b"/_/metrics" => (200, EXPOSITION, self.function.metrics.text(self.function.slots.taken())),
            _ => return None,
        };
        let mut head = HeadWriter::response(status);
        head.text("Content-Type", kind);
        Some(Answer::new(head, text))
    }

    /// Whether the function is healthy, or why not. A function that is busy is healthy: it must not be replaced.
    fn health(&self, listens: &dyn Fn(&Resident) -> Option<bool>) -> Option<Result<(), &'static str>> {
        if self.is_draining.load(Ordering::Acquire) {
            return Some(Err("draining\n"));
        }
        let Some(resident) = &self.function.resident else { return Some(Ok(())) };
        if resident.hangs() {
            return Some(Err("the process does not answer, see max_timeouts\n"));
        }
        Some(match listens(resident)? {
            true => Ok(()),
            false => Err("the process does not listen yet, see upstream_url\n"),
        })
    }
}

impl Service for FunctionService {
    fn call(&self, exchange: &mut Exchange<'_>) {
        if let Some(answer) = self.own_answer(exchange.request(), &|resident| Some(resident.listens())) {
            let _ = exchange.send(answer); // or the client is gone
            return;
        }
        let function = self.function;
        // Free after the observation: where no slot is taken, every request was observed.
        let slot = function.slots.take();
        let mut observation = Observation::new(&function.metrics, exchange.request().method());
        let Some(slot) = slot else {
            observation.code = 429;
            let mut head = HeadWriter::response(429);
            head.text("Content-Type", TEXT).text("Retry-After", "1");
            let limit = function.config.max_inflight;
            let text = format!("the function serves {limit} requests already, see max_inflight\n");
            let _ = exchange.respond(head, text.as_bytes()); // or the client is gone
            return;
        };
        let Served { code, after } = call::serve(function, exchange);
        observation.code = code;
        if let Some(after) = after {
            exchange.after_answer(Box::new(move || {
                after.run(&function.stop, function.config.kill_grace);
                drop(slot);
            }));
        }
    }

    fn answer(&self, exchange: &Exchange<'_>) -> Option<Answer> {
        self.own_answer(exchange.request(), &Resident::listens_at_once)
    }

    fn relays(&self) -> bool {
        self.function.resident.is_some()
    }

    fn relay(self: Arc<Self>, exchange: &Exchange<'_>) -> Option<Course> {
        if is_own(exchange.request()) {
            return None;
        }
        forward::begin(self.function, exchange)
    }

    fn awaits_body(&self, exchange: &Exchange<'_>) -> bool {
        !is_own(exchange.request()) && !self.function.slots.is_full()
    }

    fn refused(&self, refusal: Refusal, _: &mut HeadWriter) {
        self.function.metrics.reject(refusal);
    }

    fn line(&self, refusal: Refusal) -> String {
        refusal_text::of_request(refusal)
    }
}

/// Whether a request may be for fwatchdog itself.
fn is_own(request: &RequestHead) -> bool {
    matches!(request.method(), "GET" | "HEAD") && request.path().starts_with(b"/_/")
}
