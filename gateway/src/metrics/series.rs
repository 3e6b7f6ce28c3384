//! What is counted: one [`FunctionSeries`] per known function, dropped with it, and [`Rejected`] for
//! requests that reached none. All of it atomics; an observation takes no lock.

use std::sync::atomic::{
    AtomicU16, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http1::Refusal;

use super::histogram::{Histogram, Reading};

/// Bounds of `gateway_functions_seconds`, from the contract.
static CALL_BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// Bounds of `gateway_cold_start_seconds`: from a process on this host to an image pulled first.
static COLD_START_BOUNDS_MS: [u64; 10] = [50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000];

/// The code under which statuses outside of 100 to 599 are counted.
const OTHER_CODE: u16 = 999;

/// Why a call was sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retry {
    /// No connection to the replica, so nothing was sent.
    Connect,
    /// A kept connection died before the first byte of an answer, and sending again was safe.
    Stale,
}

impl Retry {
    const ALL: [Retry; 2] = [Retry::Connect, Retry::Stale];

    fn reason(self) -> &'static str {
        match self {
            Retry::Connect => "connect",
            Retry::Stale => "stale",
        }
    }
}

/// The figures of one function.
pub(crate) struct FunctionSeries {
    codes: Codes,
    seconds: Histogram<11>,
    /// Made by the first cold start: most functions never have one.
    cold_starts: OnceLock<Box<Histogram<10>>>,
    retries: [AtomicU64; Retry::ALL.len()],
    /// Calls being served.
    pub(crate) inflight: Gauge,
    /// Calls waiting for a replica or for room under the concurrency limit.
    pub(crate) waiting: Gauge,
    /// Replicas that should run.
    pub(crate) wanted: Gauge,
    /// Replicas that can be called.
    pub(crate) ready: Gauge,
}

impl Default for FunctionSeries {
    fn default() -> FunctionSeries {
        FunctionSeries {
            codes: Codes::default(),
            seconds: Histogram::new(&CALL_BOUNDS_MS),
            cold_starts: OnceLock::new(),
            retries: [const { AtomicU64::new(0) }; Retry::ALL.len()],
            inflight: Gauge::default(),
            waiting: Gauge::default(),
            wanted: Gauge::default(),
            ready: Gauge::default(),
        }
    }
}

impl FunctionSeries {
    /// One invocation: what the client was told and how long it took. Called once per invocation.
    pub(crate) fn observe(&self, code: u16, took: Duration) {
        self.codes.count(code);
        self.seconds.observe(took);
    }

    /// One wait for a replica to come up from none.
    pub(crate) fn observe_cold_start(&self, took: Duration) {
        self.cold_starts.get_or_init(|| Box::new(Histogram::new(&COLD_START_BOUNDS_MS))).observe(took);
    }

    pub(crate) fn count_retry(&self, retry: Retry) {
        self.retries[retry as usize].fetch_add(1, Relaxed);
    }

    /// Counts a call as being served for as long as the returned value lives.
    pub(crate) fn begin_call(self: &Arc<Self>) -> InFlight {
        self.inflight.0.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Counts a call as waiting for as long as the returned value lives, unless `most` calls wait already.
    pub(crate) fn begin_wait(self: &Arc<Self>, most: usize) -> Option<Waiting> {
        let one_more = |count| (count < most).then_some(count + 1);
        self.waiting.0.fetch_update(SeqCst, SeqCst, one_more).ok()?;
        Some(Waiting(Arc::clone(self)))
    }

    /// Invocations so far.
    pub(crate) fn invocations(&self) -> u64 {
        self.codes.slots().map(|(_, count)| count).sum()
    }

    /// Invocations by code, ascending.
    pub(super) fn codes(&self) -> Vec<(u16, u64)> {
        self.codes.read()
    }

    pub(super) fn seconds(&self) -> Reading {
        self.seconds.read()
    }

    pub(super) fn cold_starts(&self) -> Option<Reading> {
        self.cold_starts.get().map(|histogram| histogram.read())
    }

    pub(super) fn retries(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Retry::ALL.iter().map(|retry| (retry.reason(), self.retries[*retry as usize].load(Relaxed)))
    }
}

/// A call being served.
pub(crate) struct InFlight(Arc<FunctionSeries>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.inflight.0.fetch_sub(1, Relaxed);
    }
}

/// A call that waits.
pub(crate) struct Waiting(Arc<FunctionSeries>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.0.fetch_sub(1, SeqCst);
    }
}

/// A number that goes up and down.
#[derive(Default)]
pub(crate) struct Gauge(AtomicUsize);

impl Gauge {
    pub(crate) fn set(&self, value: usize) {
        self.0.store(value, Relaxed);
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(SeqCst)
    }
}

/// Counters by status code. A function has few codes, so they are found by looking through slots that
/// are taken one after the other; further slots are made four at a time. At most 501 codes exist.
#[derive(Default)]
struct Codes {
    /// 0 is a free slot. A slot never changes its code, so a code is never in two.
    codes: [AtomicU16; Codes::SLOTS],
    counts: [AtomicU64; Codes::SLOTS],
    more: OnceLock<Box<Codes>>,
}

impl Codes {
    const SLOTS: usize = 4;

    fn count(&self, code: u16) {
        let code = if (100..=599).contains(&code) { code } else { OTHER_CODE };
        let mut slots = self;
        loop {
            for (slot, count) in slots.codes.iter().zip(&slots.counts) {
                // Relaxed will do: nothing else is published by a slot's code.
                let found = match slot.load(Relaxed) {
                    0 => slot.compare_exchange(0, code, Relaxed, Relaxed).unwrap_or_else(|other| other),
                    taken => taken,
                };
                if found == code || found == 0 {
                    count.fetch_add(1, Relaxed);
                    return;
                }
            }
            slots = slots.more.get_or_init(Box::default);
        }
    }

    /// All slots, free ones among them, each with its number.
    fn slots(&self) -> impl Iterator<Item = (u16, u64)> {
        let all = std::iter::successors(Some(self), |slots| slots.more.get().map(Box::as_ref));
        all.flat_map(|slots| slots.codes.iter().zip(&slots.counts))
            .map(|(code, count)| (code.load(Relaxed), count.load(Relaxed)))
    }

    fn read(&self) -> Vec<(u16, u64)> {
        let mut found: Vec<_> = self.slots().filter(|(code, _)| *code != 0).collect();
        found.sort_unstable();
        found
    }
}

/// Why a request came to no function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// It was not HTTP as it must be, or over a limit.
    Http(Refusal),
    Own(OwnRejection),
}

/// The gateway's own reasons, beside those of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnRejection {
    /// No such path.
    NoRoute,
    /// No function of that name.
    UnknownFunction,
    /// No function of that name is known, and the provider cannot be asked.
    ProviderDown,
    /// The path takes other methods.
    Method,
    /// A `POST /` that names no function.
    NotAlexa,
    /// User and password are missing or wrong.
    Unauthorized,
}

impl OwnRejection {
    const ALL: [OwnRejection; 6] = [
        OwnRejection::NoRoute,
        OwnRejection::UnknownFunction,
        OwnRejection::ProviderDown,
        OwnRejection::Method,
        OwnRejection::NotAlexa,
        OwnRejection::Unauthorized,
    ];

    const fn reason(self) -> &'static str {
        match self {
            OwnRejection::NoRoute => "no_route",
            OwnRejection::UnknownFunction => "unknown_function",
            OwnRejection::ProviderDown => "provider_down",
            OwnRejection::Method => "method_not_allowed",
            OwnRejection::NotAlexa => "not_alexa",
            OwnRejection::Unauthorized => "unauthorized",
        }
    }
}

/// Requests that reached no function, by reason.
pub(crate) struct Rejected {
    http: [AtomicU64; Refusal::ALL.len()],
    own: [AtomicU64; OwnRejection::ALL.len()],
}

impl Default for Rejected {
    fn default() -> Rejected {
        Rejected {
            http: [const { AtomicU64::new(0) }; Refusal::ALL.len()],
            own: [const { AtomicU64::new(0) }; OwnRejection::ALL.len()],
        }
    }
}

impl Rejected {
    pub(crate) fn count(&self, rejection: Rejection) {
        let counter = match rejection {
            Rejection::Http(refusal) => &self.http[refusal as usize],
            Rejection::Own(own) => &self.own[own as usize],
        };
        counter.fetch_add(1, Relaxed);
    }

    /// All reasons with their numbers, also those that never occurred.
    pub(super) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let http = Refusal::ALL.iter().map(|refusal| refusal.reason()).zip(&self.http);
        let own = OwnRejection::ALL.iter().map(|own| own.reason()).zip(&self.own);
        http.chain(own).map(|(reason, count)| (reason, count.load(Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn one_call_is_one_count_and_one_observation() {
        let series = FunctionSeries::default();
        series.observe(200, Duration::from_millis(3));
        series.observe(502, Duration::from_millis(30));
        series.observe(200, Duration::from_millis(3));
        assert_eq!(series.codes(), [(200, 2), (502, 1)]);
        assert_eq!(series.invocations(), 3);
        assert_eq!((series.seconds().count, series.seconds().sum), (3, Duration::from_millis(36)));
        assert_eq!(series.cold_starts(), None);
        series.observe_cold_start(Duration::from_secs(2));
        assert_eq!(series.cold_starts().map(|reading| reading.count), Some(1));
    }

    #[test]
    fn every_code_is_kept_and_odd_ones_share_a_place() {
        let codes = Codes::default();
        for code in 0..=u16::MAX {
            codes.count(code);
        }
        let read = codes.read();
        assert_eq!(read.len(), 501);
        assert!(read[..500].iter().zip(100..600).all(|(pair, code)| *pair == (code, 1)), "{read:?}");
        assert_eq!(read[500], (OTHER_CODE, 65_536 - 500));
    }

    #[test]
    fn codes_seen_first_by_many_threads_are_never_doubled_or_lost() {
        for _ in 0..50 {
            let codes = Codes::default();
            std::thread::scope(|scope| {
                for thread in 0..4_u16 {
                    let codes = &codes;
                    scope.spawn(move || (0..100).for_each(|n| codes.count(200 + (n + thread * 3) % 10)));
                }
            });
            let want: Vec<_> = (200..210).map(|code| (code, 40)).collect();
            assert_eq!(codes.read(), want);
        }
    }

    #[test]
    fn calls_are_counted_while_they_wait_and_while_they_are_served() {
        let series = Arc::new(FunctionSeries::default());
        let (first, second) = (series.begin_wait(2), series.begin_wait(2));
        assert!(first.is_some() && second.is_some() && series.begin_wait(2).is_none());
        let call = series.begin_call();
        assert_eq!((series.waiting.get(), series.inflight.get()), (2, 1));
        drop(first);
        assert_eq!(series.waiting.get(), 1);
        drop((second, call));
        assert_eq!((series.waiting.get(), series.inflight.get()), (0, 0));
        series.wanted.set(5);
        assert_eq!(series.wanted.get(), 5);
    }

    #[test]
    fn each_rejection_has_its_own_counter() {
        let rejected = Rejected::default();
        let http = Refusal::ALL.map(Rejection::Http);
        let all: Vec<_> = http.into_iter().chain(OwnRejection::ALL.map(Rejection::Own)).collect();
        for (place, rejection) in all.iter().enumerate() {
            (0..=place).for_each(|_| rejected.count(*rejection));
        }
        let read: Vec<_> = rejected.read().collect();
        assert!(read.iter().enumerate().all(|(place, pair)| pair.1 == place as u64 + 1), "{read:?}");
        assert_eq!(read.iter().map(|pair| pair.0).collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn each_retry_has_its_own_counter() {
        let series = FunctionSeries::default();
        series.count_retry(Retry::Stale);
        assert_eq!(series.retries().collect::<Vec<_>>(), [("connect", 0), ("stale", 1)]);
    }

    #[test]
    fn a_functions_figures_stay_small() {
        assert!(size_of::<FunctionSeries>() <= 320, "{}", size_of::<FunctionSeries>());
    }
}
