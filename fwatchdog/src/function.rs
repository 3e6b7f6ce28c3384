//! The function as an HTTP service: its own routes under `/_/`, the limit of requests at a time, and one
//! observation for each request.

use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use http1::server::Course;
use http1::{Exchange, HeadWriter, MAX_URGENT, Refusal, RequestHead, Service, head};
use kit::sys::EventFd;
use kit::sys::child::Environment;

use crate::call;
use crate::call::forward;
use crate::config::{Config, Mode};
use crate::metrics::{self, Metrics};
use crate::process::warm::Warm;
use crate::resident::Resident;
use crate::spool::Spools;

const TEXT: &str = "text/plain; charset=utf-8";

/// The media type of the Prometheus text format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The largest head of a request: what a gateway accepts at most, and what it adds to that.
pub(crate) const MAX_HEAD_BYTES: usize = head::MAX_HEAD_BYTES + head::ADDED_BYTES;

/// The most fields of one.
pub(crate) const MAX_HEADERS: usize = head::MAX_HEADERS + head::ADDED_HEADERS;

/// Unused connections to the process of `mode=http` that are kept.
const MAX_IDLE: usize = 256;

/// What all calls share.
pub(crate) struct Function {
    /// For work that outlives the call that left it.
    this: Weak<Function>,
    pub(crate) config: Config,
    /// What every process gets, before a request adds to it.
    pub(crate) environment: Environment,
    pub(crate) metrics: Metrics,
    /// Processes that wait for a request; none without `prewarm`.
    pub(crate) warm: Warm,
    /// The process that stays, with `mode=http`.
    pub(crate) resident: Option<Resident>,
    /// Output that waits for clients that do not read yet.
    pub(crate) spools: Spools,
    /// Readable once running calls are to be given up.
    pub(crate) stop: EventFd,
    in_flight: AtomicUsize,
    is_draining: AtomicBool,
    /// The groups of running calls. An entry goes before its process is waited for, so that no id in here
    /// belongs to somebody else.
    pub(crate) groups: Arc<Mutex<Vec<i32>>>,
}

impl Function {
    pub(crate) fn new(config: Config, environment: Environment) -> io::Result<Arc<Function>> {
        let resident = match config.mode {
            Mode::Http(upstream) => Some(Resident::new(upstream, MAX_IDLE, &config)?),
            Mode::Fork | Mode::Streaming => None,
        };
        let (warm, stop) = (Warm::new()?, EventFd::new()?);
        Ok(Arc::new_cyclic(|this| Function {
            this: Weak::clone(this),
            resident,
            spools: Spools::new(config.temporary.clone()),
            config,
            environment,
            metrics: Metrics::new(),
            warm,
            stop,
            in_flight: AtomicUsize::new(0),
            is_draining: AtomicBool::new(false),
            groups: Arc::default(),
        }))
    }

    /// From now on the function is not healthy.
    pub(crate) fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Release);
    }

    /// Calls being served.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The groups of running calls.
    pub(crate) fn groups(&self) -> MutexGuard<'_, Vec<i32>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_full(&self) -> bool {
        self.config.max_inflight > 0 && self.in_flight() >= self.config.max_inflight
    }

    /// A place for one more call, if there is one.
    pub(crate) fn enter<F: Deref<Target = Function>>(function: F) -> Option<Entered<F>> {
        let limit = function.config.max_inflight;
        let one_more = |count| (limit == 0 || count < limit).then_some(count + 1);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        function.in_flight.fetch_update(set, get, one_more).ok()?;
        Some(Entered(function))
    }

    fn own_route(&self, exchange: &mut Exchange<'_>) -> bool {
        if !is_own(exchange.request()) {
            return false;
        }
        let (status, kind, text) = match exchange.request().path() {
            b"/_/health" if self.is_draining.load(Ordering::Acquire) => (503, TEXT, "draining\n".to_owned()),
            b"/_/health" if self.resident.as_ref().is_some_and(Resident::hangs) => {
                (503, TEXT, "the process does not answer, see max_timeouts\n".to_owned())
            }
            b"/_/health" if self.resident.as_ref().is_some_and(|resident| !resident.listens()) => {
                (503, TEXT, "the process does not listen yet, see upstream_url\n".to_owned())
            }
            b"/_/health" => (200, TEXT, "OK".to_owned()),
            b"/_/ready" if self.is_full() => (429, TEXT, "max_inflight is reached\n".to_owned()),
            b"/_/ready" => (200, TEXT, "OK".to_owned()),
            b"/_/metrics" => (200, EXPOSITION, self.metrics.text(self.in_flight())),
            _ => return false,
        };
        let mut head = HeadWriter::response(status);
        head.text("Content-Type", kind);
        let _ = exchange.respond(head, text.as_bytes()); // or the client is gone
        true
    }
}

impl Service for Function {
    fn call(&self, exchange: &mut Exchange<'_>) {
        if self.own_route(exchange) {
            return;
        }
        // Leaves last: where nothing is in flight, everything has been observed.
        let entered = Function::enter(self);
        let mut observation = Observation::new(self, exchange.request().method());
        let Some(entered) = entered else {
            observation.code = 429;
            let mut head = HeadWriter::response(429);
            head.text("Content-Type", TEXT).text("Retry-After", "1");
            let limit = self.config.max_inflight;
            let text = format!("the function serves {limit} requests already, see max_inflight\n");
            let _ = exchange.respond(head, text.as_bytes()); // or the client is gone
            return;
        };
        let (code, rest) = call::serve(self, exchange);
        observation.code = code;
        // The service lives as long as its server, so that there is always one to be had.
        if let (Some(rest), Some(function)) = (rest, self.this.upgrade()) {
            let entered = entered.outlive(function);
            exchange.after_answer(Box::new(move || rest.run(entered.function())));
        }
    }

    fn relays(&self) -> bool {
        self.resident.is_some()
    }

    fn relay(self: Arc<Self>, exchange: &Exchange<'_>) -> Option<Course> {
        forward::begin(&self, exchange)
    }

    fn awaits_body(&self, exchange: &Exchange<'_>) -> bool {
        !is_own(exchange.request()) && !self.is_full()
    }

    /// A function that is busy is not a sick one, and must not be replaced for it.
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
        self.metrics.reject(refusal);
    }

    fn line(&self, refusal: Refusal) -> String {
        line(refusal)
    }
}

/// What a refusal of a request says.
pub(crate) fn line(refusal: Refusal) -> String {
    let text = match refusal {
        Refusal::BodyStall => "body stopped arriving, see read_timeout",
        Refusal::HeaderTimeout => "head did not arrive within 10s, or a shorter read_timeout",
        Refusal::HeadTooLarge => return over(MAX_HEAD_BYTES),
        Refusal::TooManyHeaders => return format!("{refusal} of {MAX_HEADERS}"),
        Refusal::BodyTooLarge => "body is over its limit, see max_body",
        Refusal::Draining => "shutting down, see drain_timeout",
        Refusal::Overloaded => {
            "as many requests are served as the limit of open files has room for, at most 512"
        }
        other => return other.to_string(),
    };
    text.to_owned()
}

/// What a refusal of a process's answer says.
pub(crate) fn line_of_answer(refusal: Refusal) -> String {
    match refusal {
        Refusal::HeadTooLarge => over(head::MAX_HEAD_BYTES),
        Refusal::TooManyHeaders => format!("{refusal} of {}", head::MAX_HEADERS),
        other => other.to_string(),
    }
}

fn over(bytes: usize) -> String {
    format!("{} of {} KiB", Refusal::HeadTooLarge, bytes / 1024)
}

/// Whether a request may be for fwatchdog itself.
pub(crate) fn is_own(request: &RequestHead) -> bool {
    matches!(request.method(), "GET" | "HEAD") && request.path().starts_with(b"/_/")
}

/// A call that is counted as being served.
pub(crate) struct Entered<F: Deref<Target = Function>>(F);

impl<F: Deref<Target = Function>> Entered<F> {
    pub(crate) fn function(&self) -> &F {
        &self.0
    }
}

impl Entered<&Function> {
    /// The same place, for work that outlives the call.
    fn outlive(self, function: Arc<Function>) -> Entered<Arc<Function>> {
        std::mem::forget(self); // the place goes on, and a reference has nothing to be dropped
        Entered(function)
    }
}

impl<F: Deref<Target = Function>> Drop for Entered<F> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a request when it is over, also when serving it panicked.
pub(crate) struct Observation<F: Deref<Target = Function>> {
    function: F,
    method: &'static str,
    started: Instant,
    pub(crate) code: u16,
}

impl<F: Deref<Target = Function>> Observation<F> {
    pub(crate) fn new(function: F, method: &str) -> Observation<F> {
        Observation { function, method: metrics::known(method), started: Instant::now(), code: 500 }
    }
}

impl<F: Deref<Target = Function>> Drop for Observation<F> {
    fn drop(&mut self) {
        self.function.metrics.observe(self.method, self.code, self.started.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TABLE;
    use std::collections::HashMap;

    fn function(max_inflight: &str) -> Arc<Function> {
        let source = HashMap::from([("fprocess", "cat"), ("max_inflight", max_inflight)]);
        Function::new(Config::read(&source, 1).unwrap(), Environment::default()).unwrap()
    }

    /// One that is refused takes no place from another, not even for a moment.
    #[test]
    fn of_two_that_try_for_one_place_one_gets_it() {
        const ROUNDS: usize = 50_000;
        let (function, round, refused) = (function("1"), AtomicUsize::new(0), AtomicUsize::new(0));
        let is_refused = |entered: &Option<Entered<_>>| usize::from(entered.is_none());
        let await_round = |number| {
            while round.load(Ordering::SeqCst) < number {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..ROUNDS {
                    await_round(2 * number + 1);
                    let entered = Function::enter(&*function);
                    refused.fetch_add(is_refused(&entered), Ordering::SeqCst);
                    drop(entered);
                    round.fetch_add(1, Ordering::SeqCst);
                }
            });
            let mut faults = 0;
            for number in 0..ROUNDS {
                let first = Function::enter(&*function);
                round.fetch_add(1, Ordering::SeqCst);
                (0..number % 128).for_each(|_| std::hint::spin_loop()); // both at once, in some rounds
                drop(first);
                let again = Function::enter(&*function);
                let count = is_refused(&again);
                await_round(2 * number + 2);
                faults += usize::from(count + refused.swap(0, Ordering::SeqCst) == 2);
            }
            assert_eq!(faults, 0, "nobody was inside, and both were refused");
        });
    }

    #[test]
    fn a_refusal_names_only_settings_that_fwatchdog_has() {
        for refusal in Refusal::ALL {
            for line in [line(refusal), line_of_answer(refusal)] {
                let Some((_, setting)) = line.split_once("see ") else { continue };
                assert!(TABLE.iter().any(|row| row.name == setting), "{line}");
            }
        }
        assert_eq!(line(Refusal::HeadTooLarge), "head is over its limit of 128 KiB");
        assert_eq!(line_of_answer(Refusal::TooManyHeaders), "more headers than the limit of 1024");
    }
}
