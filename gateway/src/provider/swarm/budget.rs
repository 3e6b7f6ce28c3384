//! The bytes a second that are read from the engine, whatever happens on the Swarm.

use std::time::{Duration, Instant};

/// Reading so much costs the gateway some hundredths of a second, and the engine several times that.
const BYTES_A_SECOND: usize = 8 * 1024 * 1024;

/// What may be read at once after a pause: all of a Swarm of a thousand functions.
const MAX_SAVED: usize = 2 * BYTES_A_SECOND;

/// What a question costs the engine whatever it answers, as bytes.
const QUESTION: usize = 8 * 1024;

/// What may be read now. A question that is under way when the budget ends is answered, and is made up for.
pub(super) struct Budget {
    /// When nothing is owed any more; in the past, as far as something was saved.
    even_at: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Budget {
        Budget { even_at: now }
    }

    /// A question was answered with so many bytes.
    pub(super) fn spend(&mut self, bytes: usize, now: Instant) {
        let saved = Duration::from_secs((MAX_SAVED / BYTES_A_SECOND) as u64);
        let even_at = now.checked_sub(saved).map_or(self.even_at, |least| self.even_at.max(least));
        self.even_at = even_at + Duration::from_secs_f64((bytes + QUESTION) as f64 / BYTES_A_SECOND as f64);
    }

    /// When the next question may be asked.
    pub(super) fn next(&self) -> Instant {
        self.even_at
    }

    pub(super) fn is_spent(&self, now: Instant) -> bool {
        self.even_at > now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_was_saved_and_the_rate_allows() {
        let start = Instant::now() + Duration::from_secs(60);
        let mut budget = Budget::new(start - Duration::from_secs(60));
        budget.spend(MAX_SAVED - 2 * QUESTION, start);
        assert!(!budget.is_spent(start));
        budget.spend(0, start);
        assert!(!budget.is_spent(start), "just even");
        budget.spend(BYTES_A_SECOND - QUESTION, start);
        assert!(budget.is_spent(start + Duration::from_millis(999)));
        assert!(!budget.is_spent(start + Duration::from_millis(1001)));
    }
}
