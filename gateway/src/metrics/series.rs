//! What is counted: one [`FunctionSeries`] per known function, dropped with it, and [`Rejected`] for
//! requests that reached none. All of it atomics; an observation takes no lock.

use std::sync::atomic::{
    AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http1::Refusal;

use super::histogram::{Histogram, Reading};
use crate::kind::Kind;

/// Bounds of `gateway_functions_seconds`, from the contract.
static CALL_BOUNDS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// Bounds of `gateway_cold_start_seconds`: from a process on this host to an image pulled first.
static COLD_START_BOUNDS_MS: [u64; 10] = [50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000];

/// The code under which statuses outside of 100 to 599 are counted, and those beyond [`MAX_CODES`].
const OTHER_CODE: u16 = 999;

/// The most codes of a function that are counted apart. Real functions have a handful; each costs a histogram in memory
/// and 14 lines of the page, and a function must not make that a burden.
const MAX_CODES: usize = 64;

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
    /// Calls that were begun.
    started: AtomicU64,
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
            started: AtomicU64::new(0),
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
        self.codes.of(code).observe(took);
    }

    /// One wait for a replica to come up from none.
    pub(crate) fn observe_cold_start(&self, took: Duration) {
        self.cold_starts.get_or_init(|| Box::new(Histogram::new(&COLD_START_BOUNDS_MS))).observe(took);
    }

    pub(crate) fn count_retry(&self, retry: Retry) {
        self.retries[retry as usize].fetch_add(1, Relaxed);
    }

    /// Counts a call as being served for as long as the returned value lives, and observes it then.
    pub(crate) fn begin_call(self: &Arc<Self>, started: Instant) -> InFlight {
        self.enter();
        InFlight { series: Arc::clone(self), started, code: PANICKED }
    }

    pub(super) fn enter(&self) {
        self.started.fetch_add(1, Relaxed);
        self.inflight.0.fetch_add(1, Relaxed);
    }

    /// Counts a call as waiting for as long as the returned value lives, unless `most` calls wait already.
    pub(crate) fn begin_wait(self: &Arc<Self>, most: usize) -> Option<Waiting> {
        let one_more = |count| (count < most).then_some(count + 1);
        self.waiting.0.fetch_update(SeqCst, SeqCst, one_more).ok()?;
        Some(Waiting(Arc::clone(self)))
    }

    /// Invocations that have ended.
    pub(crate) fn invocations(&self) -> u64 {
        self.codes.iter().map(|(_, seconds)| seconds.count()).sum()
    }

    /// Invocations that were begun.
    pub(super) fn started(&self) -> u64 {
        self.started.load(Relaxed)
    }

    /// Invocations that have ended, by code, ascending.
    pub(super) fn seconds(&self) -> Vec<(u16, Reading)> {
        let mut found: Vec<_> = self.codes.iter().map(|(code, seconds)| (code, seconds.read())).collect();
        found.sort_unstable_by_key(|(code, _)| *code);
        found
    }

    pub(super) fn cold_starts(&self) -> Option<Reading> {
        self.cold_starts.get().map(|histogram| histogram.read())
    }

    pub(super) fn retries(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Retry::ALL.iter().map(|retry| (retry.reason(), self.retries[*retry as usize].load(Relaxed)))
    }
}

/// The code of a call of which nobody said how it ended: serving it panicked.
const PANICKED: u16 = 500;

/// A call being served. It is observed when this ends, however that comes about.
pub(crate) struct InFlight {
    series: Arc<FunctionSeries>,
    started: Instant,
    code: u16,
}

impl InFlight {
    /// Goes on as a call of another function, and is none of the first one any more.
    pub(crate) fn move_to(&mut self, series: &Arc<FunctionSeries>) {
        series.enter();
        self.series.inflight.0.fetch_sub(1, Relaxed);
        self.series = Arc::clone(series);
    }

    /// Sets the status under which the call is observed.
    pub(crate) fn ends_with(&mut self, code: u16) {
        self.code = code;
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Before it is observed, so that a reader never sees it twice.
        self.series.inflight.0.fetch_sub(1, Relaxed);
        self.series.observe(self.code, self.started.elapsed());
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

/// A histogram for each status code, in a list that grows with the codes: a function has few.
#[derive(Default)]
struct Codes(OnceLock<Box<OfCode>>);

struct OfCode {
    code: u16,
    seconds: Histogram<11>,
    next: Codes,
}

impl Codes {
    /// The histogram of a code.
    fn of(&self, code: u16) -> &Histogram<11> {
        let mut code = if (100..=599).contains(&code) { code } else { OTHER_CODE };
        let (mut codes, mut place) = (self, 1);
        loop {
            if place == MAX_CODES {
                code = OTHER_CODE; // the last place is for all that find no other
            }
            let new = || {
                Box::new(OfCode { code, seconds: Histogram::new(&CALL_BOUNDS_MS), next: Codes::default() })
            };
            // Whoever is first has the place; its code never changes, so that none is in two places.
            let of_code = codes.0.get_or_init(new);
            if of_code.code == code {
                return &of_code.seconds;
            }
            (codes, place) = (&of_code.next, place + 1);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (u16, &Histogram<11>)> {
        let all = std::iter::successors(self.0.get(), |of_code| of_code.next.0.get());
        all.map(|of_code| (of_code.code, &of_code.seconds))
    }
}

/// Requests that reached no function, by reason.
pub(crate) struct Rejected {
    http: [AtomicU64; Refusal::ALL.len()],
    own: [AtomicU64; Kind::OWN.len()],
}

impl Default for Rejected {
    fn default() -> Rejected {
        Rejected {
            http: [const { AtomicU64::new(0) }; Refusal::ALL.len()],
            own: [const { AtomicU64::new(0) }; Kind::OWN.len()],
        }
    }
}

impl Rejected {
    /// Counts a request that ended with this kind of failure, if such a request reached no function.
    pub(crate) fn count(&self, kind: Kind) {
        let counter = match kind {
            Kind::Http(refusal) => Some(&self.http[refusal as usize]),
            kind => self.own().find(|(own, _)| *own == kind).map(|(_, count)| count),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// All reasons with their numbers, also those that never occurred.
    pub(super) fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let http = Refusal::ALL.into_iter().map(Kind::Http).zip(&self.http);
        http.chain(self.own()).map(|(kind, count)| (kind.name(), count.load(Relaxed)))
    }

    fn own(&self) -> impl Iterator<Item = (Kind, &AtomicU64)> {
        Kind::OWN.iter().copied().zip(&self.own).filter(|(kind, _)| kind.is_rejection())
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
        let seconds = series.seconds();
        let seconds: Vec<_> =
            seconds.iter().map(|(code, reading)| (*code, reading.count, reading.sum)).collect();
        assert_eq!(seconds, [(200, 2, Duration::from_millis(6)), (502, 1, Duration::from_millis(30))]);
        assert_eq!(series.invocations(), 3);
        assert_eq!(series.cold_starts(), None);
        series.observe_cold_start(Duration::from_secs(2));
        assert_eq!(series.cold_starts().map(|reading| reading.count), Some(1));
    }

    fn counts(codes: &Codes) -> Vec<(u16, u64)> {
        let mut counts: Vec<_> = codes.iter().map(|(code, seconds)| (code, seconds.count())).collect();
        counts.sort_unstable();
        counts
    }

    #[test]
    fn codes_are_counted_apart_up_to_a_bound() {
        let codes = Codes::default();
        for code in 100..=u16::MAX {
            codes.of(code).observe(Duration::ZERO);
        }
        let read = counts(&codes);
        assert_eq!(read.len(), MAX_CODES);
        assert!(
            read[..MAX_CODES - 1].iter().zip(100..600).all(|(pair, code)| *pair == (code, 1)),
            "{read:?}"
        );
        assert_eq!(read[MAX_CODES - 1], (OTHER_CODE, 65_536 - 100 - (MAX_CODES as u64 - 1)));
        // A code that has no name has the same place, whether it comes first or last.
        let codes = Codes::default();
        [0, 99, 600, 200].iter().for_each(|code| codes.of(*code).observe(Duration::ZERO));
        assert_eq!(counts(&codes), [(200, 1), (OTHER_CODE, 3)]);
    }

    #[test]
    fn codes_seen_first_by_many_threads_are_never_doubled_or_lost() {
        for _ in 0..50 {
            let codes = Codes::default();
            let observe = |code| codes.of(code).observe(Duration::ZERO);
            std::thread::scope(|scope| {
                for thread in 0..4_u16 {
                    scope.spawn(move || (0..100).for_each(|n| observe(200 + (n + thread * 3) % 10)));
                }
            });
            let want: Vec<_> = (200..210).map(|code| (code, 40)).collect();
            assert_eq!(counts(&codes), want);
        }
    }

    #[test]
    fn calls_are_counted_while_they_wait_and_while_they_are_served() {
        let series = Arc::new(FunctionSeries::default());
        let (first, second) = (series.begin_wait(2), series.begin_wait(2));
        assert!(first.is_some() && second.is_some() && series.begin_wait(2).is_none());
        let call = series.begin_call(Instant::now());
        assert_eq!((series.waiting.get(), series.inflight.get(), series.started()), (2, 1, 1));
        drop(first);
        assert_eq!(series.waiting.get(), 1);
        drop((second, call));
        assert_eq!((series.waiting.get(), series.inflight.get(), series.started()), (0, 0, 1));
        series.wanted.set(5);
        assert_eq!(series.wanted.get(), 5);
    }

    #[test]
    fn a_call_is_observed_once_at_its_end_also_when_serving_it_panics() {
        let (series, other) = (Arc::new(FunctionSeries::default()), Arc::new(FunctionSeries::default()));
        series.begin_call(Instant::now()).ends_with(200);
        let call = series.begin_call(Instant::now());
        let panics = std::panic::AssertUnwindSafe(move || {
            let _call = call;
            panic!("as the test wants it");
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        let mut call = series.begin_call(Instant::now());
        call.move_to(&other);
        call.ends_with(404);
        drop(call);
        assert_eq!(counts(&series.codes), [(200, 1), (500, 1)]);
        assert_eq!(counts(&other.codes), [(404, 1)]);
        assert_eq!((series.inflight.get(), other.inflight.get()), (0, 0));
    }

    #[test]
    fn each_rejection_has_its_own_counter() {
        let rejected = Rejected::default();
        let own = Kind::OWN.iter().copied().filter(|kind| kind.is_rejection());
        let all: Vec<_> = Refusal::ALL.into_iter().map(Kind::Http).chain(own).collect();
        for (place, kind) in all.iter().enumerate() {
            (0..=place).for_each(|_| rejected.count(*kind));
        }
        rejected.count(Kind::Connect); // that request reached a function
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
