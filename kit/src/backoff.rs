//! How long to wait before a process that ended is started again.

use std::time::Duration;

/// The first wait: a process that dies once is back before callers notice.
const MIN_DELAY: Duration = Duration::from_millis(100);

/// The longest wait: a process that cannot run costs a start every ten seconds.
const MAX_DELAY: Duration = Duration::from_secs(10);

/// A process that ran this long was healthy: its next end counts as the first.
const STABLE: Duration = Duration::from_secs(10);

/// Counts how often one process ended in close succession.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Notes that the process ended after it `ran` so long. Returns how long to wait before the next start.
    pub fn failed(&mut self, ran: Duration) -> Duration {
        if ran >= STABLE {
            self.failures = 0;
        }
        let delay = MIN_DELAY.saturating_mul(1 << self.failures.min(16)).min(MAX_DELAY);
        self.failures = self.failures.saturating_add(1);
        delay
    }

    /// Whether the process failed more than once in a row: the next start is likely to fail too.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures > 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        assert!(!backoff.is_failing());
        let want_ms = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
        for (place, want) in want_ms.into_iter().enumerate() {
            assert_eq!(backoff.failed(Duration::from_secs(1)), Duration::from_millis(want));
            assert_eq!(backoff.is_failing(), place > 0);
        }
        for _ in 0..100 {
            assert_eq!(backoff.failed(STABLE - Duration::from_millis(1)), MAX_DELAY);
        }
    }

    #[test]
    fn a_long_run_forgives() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.failed(Duration::ZERO);
        }
        assert_eq!(backoff.failed(STABLE), MIN_DELAY);
        assert!(!backoff.is_failing());
    }
}
