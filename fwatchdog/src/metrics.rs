//! Counters, and their Prometheus text. Labels come from closed sets.

use std::sync::MutexGuard;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kit::Guarded;

use http1::Refusal;
use kit::exposition::{self, Observed, Value};

/// Methods with a series of their own; all others are one.
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "other"];

/// Upper bounds of the histogram, in milliseconds.
const BUCKETS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// Counts a request when it is over, also when serving it panicked.
pub(crate) struct Observation {
    metrics: &'static Metrics,
    method: usize,
    started: Instant,
    pub(crate) code: u16,
}

impl Observation {
    pub(crate) fn new(metrics: &'static Metrics, method: &str) -> Observation {
        let method = METHODS.iter().position(|known| *known == method).unwrap_or(METHODS.len() - 1);
        Observation { metrics, method, started: Instant::now(), code: 500 }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        self.metrics.observe(self.method, self.code, self.started.elapsed());
    }
}

/// The counters.
pub(crate) struct Metrics {
    /// Code, place in [`METHODS`] and count, in order. 499 is a client that hung up. A process may answer with 400 codes
    /// (`cgi_response`), and few are in use: the first request with a code makes its counter.
    requests: Guarded<Vec<(u16, usize, u64)>>,
    rejected: [AtomicU64; Refusal::ALL.len()],
    /// Requests by the smallest bound that they are within; the last counts all longer ones.
    durations: [AtomicU64; BUCKETS_MS.len() + 1],
    duration_us: AtomicU64,
}

impl Metrics {
    pub(crate) const fn new() -> Metrics {
        Metrics {
            requests: Guarded::new(Vec::new()),
            rejected: [const { AtomicU64::new(0) }; Refusal::ALL.len()],
            durations: [const { AtomicU64::new(0) }; BUCKETS_MS.len() + 1],
            duration_us: AtomicU64::new(0),
        }
    }

    /// Counts a request, however it ended.
    fn observe(&self, method: usize, code: u16, took: Duration) {
        let mut requests = self.requests();
        match requests.binary_search_by_key(&(code, method), |row| (row.0, row.1)) {
            Ok(place) => requests[place].2 += 1,
            Err(place) => requests.insert(place, (code, method, 1)),
        }
        drop(requests);
        let bucket = BUCKETS_MS.iter().position(|ms| took <= Duration::from_millis(*ms));
        self.durations[bucket.unwrap_or(BUCKETS_MS.len())].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.duration_us.fetch_add(us, Ordering::Relaxed);
    }

    fn requests(&self) -> MutexGuard<'_, Vec<(u16, usize, u64)>> {
        self.requests.lock()
    }

    /// Counts a message that was refused.
    pub(crate) fn reject(&self, refusal: Refusal) {
        self.rejected[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The metrics page.
    pub(crate) fn text(&self, in_flight: usize) -> String {
        let mut text = String::with_capacity(4096);
        self.write_requests(&mut text);
        self.write_durations(&mut text);
        let about = ["http_requests_in_flight", "gauge", "Requests being served."];
        exposition::single(&mut text, about, Value::Count(in_flight as u64));
        self.write_rejected(&mut text);
        kit::process::write_metrics(&mut text);
        text
    }

    fn write_requests(&self, text: &mut String) {
        let name = "http_requests_total";
        exposition::family(text, [name, "counter", "Requests for the function, by answer and method."]);
        let rows = self.requests().clone();
        for (code, method, count) in rows {
            let labels = [("code", &*code.to_string()), ("method", METHODS[method])];
            exposition::sample(text, name, &labels, Value::Count(count));
        }
    }

    fn write_durations(&self, text: &mut String) {
        let name = "http_request_duration_seconds";
        let help = "Time from a request's head to the end of its answer.";
        exposition::family(text, [name, "histogram", help]);
        let mut count = 0;
        let buckets = std::array::from_fn(|place| {
            count += self.durations[place].load(Ordering::Relaxed);
            (Duration::from_millis(BUCKETS_MS[place]), count)
        });
        let buckets: [_; BUCKETS_MS.len()] = buckets;
        count += self.durations[BUCKETS_MS.len()].load(Ordering::Relaxed);
        let sum = Value::Seconds(Duration::from_micros(self.duration_us.load(Ordering::Relaxed)));
        exposition::histogram(text, name, &[], &Observed { buckets: &buckets, count, sum });
    }

    fn write_rejected(&self, text: &mut String) {
        let name = "http_requests_rejected_total";
        let help = "Requests that were refused before the function saw them whole, by reason.";
        exposition::family(text, [name, "counter", help]);
        for (refusal, count) in Refusal::ALL.iter().zip(&self.rejected) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                exposition::sample(text, name, &[("reason", refusal.reason())], Value::Count(count));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_is_as_expected() {
        let metrics = Metrics::new();
        metrics.observe(0, 200, Duration::from_millis(5));
        metrics.observe(0, 200, Duration::from_micros(5001));
        metrics.observe(8, 504, Duration::from_secs(11));
        metrics.observe(2, 418, Duration::ZERO);
        metrics.reject(Refusal::ObsFold);
        let text = metrics.text(3);
        let golden = "\
# HELP http_requests_total Requests for the function, by answer and method.
# TYPE http_requests_total counter
http_requests_total{code=\"200\",method=\"GET\"} 2
http_requests_total{code=\"418\",method=\"POST\"} 1
http_requests_total{code=\"504\",method=\"other\"} 1
# HELP http_request_duration_seconds Time from a request's head to the end of its answer.
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le=\"0.005\"} 2
http_request_duration_seconds_bucket{le=\"0.01\"} 3
http_request_duration_seconds_bucket{le=\"0.025\"} 3
http_request_duration_seconds_bucket{le=\"0.05\"} 3
http_request_duration_seconds_bucket{le=\"0.1\"} 3
http_request_duration_seconds_bucket{le=\"0.25\"} 3
http_request_duration_seconds_bucket{le=\"0.5\"} 3
http_request_duration_seconds_bucket{le=\"1\"} 3
http_request_duration_seconds_bucket{le=\"2.5\"} 3
http_request_duration_seconds_bucket{le=\"5\"} 3
http_request_duration_seconds_bucket{le=\"10\"} 3
http_request_duration_seconds_bucket{le=\"+Inf\"} 4
http_request_duration_seconds_sum 11.010001
http_request_duration_seconds_count 4
# HELP http_requests_in_flight Requests being served.
# TYPE http_requests_in_flight gauge
http_requests_in_flight 3
# HELP http_requests_rejected_total Requests that were refused before the function saw them whole, by reason.
# TYPE http_requests_rejected_total counter
http_requests_rejected_total{reason=\"obs_fold\"} 1
";
        assert_eq!(text.get(..golden.len()), Some(golden), "{text}");
    }

    #[test]
    fn bounds_belong_to_their_bucket() {
        for (place, ms) in BUCKETS_MS.iter().enumerate() {
            let metrics = Metrics::new();
            metrics.observe(0, 200, Duration::from_millis(*ms));
            metrics.observe(0, 200, Duration::from_micros(ms * 1000 + 1));
            let counts: Vec<u64> =
                metrics.durations.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            assert_eq!((counts[place], counts[place + 1]), (1, 1), "{ms}");
        }
    }
}
