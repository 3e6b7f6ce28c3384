//! A point in time by which something must be done, handed down through every step of a piece of
//! work, so that the sum of the steps has a bound and not just each of them.

use std::time::{Duration, Instant};

/// The moment at which work is given up; [`Deadline::NEVER`] has no such moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No bound, for a wait that an event ends.
    pub const NEVER: Deadline = Deadline(None);

    /// A deadline `span` from now; a span too long to add to the clock means never.
    #[must_use]
    pub fn after(span: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(span))
    }

    /// A deadline at `instant`.
    #[must_use]
    pub fn at(instant: Instant) -> Deadline {
        Deadline(Some(instant))
    }

    /// `span` from now, where a zero span (a setting that is switched off) means never.
    #[must_use]
    pub fn after_or_never(span: Duration) -> Deadline {
        if span.is_zero() { Deadline::NEVER } else { Deadline::after(span) }
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Deadline(Some(a.min(b))),
            (a, b) => Deadline(a.or(b)),
        }
    }

    /// The earlier of this deadline and `span` from now: the bound of one step.
    #[must_use]
    pub fn within(self, span: Duration) -> Deadline {
        self.min(Deadline::after(span))
    }

    /// The instant, or `None` for never.
    #[must_use]
    pub fn instant(self) -> Option<Instant> {
        self.0
    }

    /// What is left at `now`: `None` for never, zero once it has passed.
    #[must_use]
    pub fn left(self, now: Instant) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(now))
    }

    /// What is left as of this moment: `None` for never, zero once it has passed.
    #[must_use]
    pub fn remaining(self) -> Option<Duration> {
        self.left(Instant::now())
    }

    /// Whether the moment has come.
    #[must_use]
    pub fn has_passed(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_takes_the_earlier_and_never_is_latest() {
        let now = Instant::now();
        let early = Deadline::at(now);
        let late = Deadline::at(now + Duration::from_secs(1));
        assert_eq!(early.min(late), early);
        assert_eq!(late.min(early), early);
        assert_eq!(Deadline::NEVER.min(late), late);
        assert_eq!(late.min(Deadline::NEVER), late);
        assert_eq!(Deadline::NEVER.min(Deadline::NEVER), Deadline::NEVER);
    }

    #[test]
    fn left_never_goes_below_zero() {
        let now = Instant::now();
        let deadline = Deadline::at(now);
        assert_eq!(deadline.left(now + Duration::from_secs(5)), Some(Duration::ZERO));
        assert!(deadline.has_passed());
        assert_eq!(Deadline::NEVER.left(now), None);
        assert!(!Deadline::NEVER.has_passed());
    }

    #[test]
    fn zero_switches_off_only_where_asked() {
        assert_eq!(Deadline::after_or_never(Duration::ZERO), Deadline::NEVER);
        assert!(Deadline::after(Duration::ZERO).has_passed());
        assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
    }
}
