//! The function as an HTTP service: its own routes under `/_/`, the bound on calls, and one observation for each
//! request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http1::server::Course;
use http1::{Exchange, HeadWriter, MAX_URGENT, Refusal, RequestHead, Service};

use crate::call::context::TEXT;
use crate::call::{self, Served, forward};
use crate::function::Function;
use crate::metrics::Observation;
use crate::refusal_text;

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

    fn answer_own_route(&self, exchange: &mut Exchange<'_>) -> bool {
        if !is_own(exchange.request()) {
            return false;
        }
        let (status, kind, text) = match exchange.request().path() {
            b"/_/health" => match self.sickness() {
                Some(why) => (503, TEXT, why.to_owned()),
                None => (200, TEXT, "OK".to_owned()),
            },
            b"/_/ready" if self.function.slots.is_full() => {
                (429, TEXT, "max_inflight is reached\n".to_owned())
            }
            b"/_/ready" => (200, TEXT, "OK".to_owned()),
            b"/_/metrics" => (200, EXPOSITION, self.function.metrics.text(self.function.slots.taken())),
            _ => return false,
        };
        let mut head = HeadWriter::response(status);
        head.text("Content-Type", kind);
        let _ = exchange.respond(head, text.as_bytes()); // or the client is gone
        true
    }

    /// Why the function is not healthy. A function that is busy is healthy: it must not be replaced.
    fn sickness(&self) -> Option<&'static str> {
        if self.is_draining.load(Ordering::Acquire) {
            return Some("draining\n");
        }
        let resident = self.function.resident.as_ref()?;
        if resident.hangs() {
            return Some("the process does not answer, see max_timeouts\n");
        }
        (!resident.listens()).then_some("the process does not listen yet, see upstream_url\n")
    }
}

impl Service for FunctionService {
    fn call(&self, exchange: &mut Exchange<'_>) {
        if self.answer_own_route(exchange) {
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

    fn urgent_threads(&self, head: &[u8]) -> usize {
        match head {
            _ if [&b"GET /_/health "[..], b"GET /_/ready "].iter().any(|own| head.starts_with(own)) => {
                MAX_URGENT
            }
            _ if head.starts_with(b"GET /_/metrics ") => MAX_URGENT - 1,
            _ => 0,
        }
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
