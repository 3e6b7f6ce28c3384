//! A histogram of durations with fixed bounds: one relaxed atomic addition per bucket and sum, no lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const NS_PER_MS: u64 = 1_000_000;

/// Counts durations by `N` upper bounds, and those above the last one.
pub(crate) struct Histogram<const N: usize> {
    /// Ascending, inclusive.
    bounds_ms: &'static [u64; N],
    /// Per bucket, not cumulated, so that one observation touches one of them.
    counts: [AtomicU64; N],
    above: AtomicU64,
    /// Wraps after 584 years of waiting.
    sum_ns: AtomicU64,
}

/// What a histogram held when it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Bounds with the number of observations up to each, cumulated.
    pub(crate) buckets: Vec<(Duration, u64)>,
    /// All observations: never less than the last bucket, as it is made of the same numbers.
    pub(crate) count: u64,
    pub(crate) sum: Duration,
}

impl<const N: usize> Histogram<N> {
    pub(crate) const fn new(bounds_ms: &'static [u64; N]) -> Histogram<N> {
        Histogram {
            bounds_ms,
            counts: [const { AtomicU64::new(0) }; N],
            above: AtomicU64::new(0),
            sum_ns: AtomicU64::new(0),
        }
    }

    pub(crate) fn observe(&self, value: Duration) {
        let ns = u64::try_from(value.as_nanos()).unwrap_or(u64::MAX);
        let bucket = self.bounds_ms.partition_point(|bound| bound * NS_PER_MS < ns);
        self.counts.get(bucket).unwrap_or(&self.above).fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(ns, Relaxed);
    }

    /// All observations.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().chain([&self.above]).map(|count| count.load(Relaxed)).sum()
    }

    pub(crate) fn read(&self) -> Reading {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(N);
        for (bound, own) in self.bounds_ms.iter().zip(&self.counts) {
            count += own.load(Relaxed);
            buckets.push((Duration::from_millis(*bound), count));
        }
        count += self.above.load(Relaxed);
        Reading { buckets, count, sum: Duration::from_nanos(self.sum_ns.load(Relaxed)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static BOUNDS: [u64; 3] = [5, 10, 1000];

    #[test]
    fn bounds_are_inclusive_and_cumulated() {
        let ms = Duration::from_millis;
        let cases = [
            (Duration::ZERO, [1, 1, 1]),
            (ms(5), [1, 1, 1]),
            (ms(5) + Duration::from_nanos(1), [0, 1, 1]),
            (ms(10), [0, 1, 1]),
            (ms(11), [0, 0, 1]),
            (ms(1000), [0, 0, 1]),
            (ms(1001), [0, 0, 0]),
            (Duration::from_secs(86_400), [0, 0, 0]),
        ];
        for (value, want) in cases {
            let histogram = Histogram::new(&BOUNDS);
            histogram.observe(value);
            let reading = histogram.read();
            assert_eq!(histogram.count(), reading.count);
            let counts: Vec<u64> = reading.buckets.iter().map(|bucket| bucket.1).collect();
            assert_eq!((counts.as_slice(), reading.count, reading.sum), (&want[..], 1, value), "{value:?}");
        }
    }

    #[test]
    fn observations_of_many_threads_are_all_counted() {
        let histogram = Histogram::new(&BOUNDS);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|n| histogram.observe(Duration::from_millis(n % 20))));
            }
        });
        let reading = histogram.read();
        assert_eq!(reading.count, 4000);
        assert_eq!(reading.buckets.iter().map(|bucket| bucket.1).collect::<Vec<_>>(), [1200, 2200, 4000]);
        assert_eq!(reading.sum, Duration::from_millis(4 * 50 * 190));
    }
}
