//! The replicas that alerts about a function have asked for. They are kept while an alert fires: until each is
//! resolved, or is not repeated any more.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// An alert that is not repeated for so long has ended, and nobody could say so. Alertmanager repeats what fires each
/// `repeat_interval`.
const REPEAT_TIME: Duration = Duration::from_secs(10 * 60);

/// Alerts that are told apart for one function. A further one takes the place of the one that ends first.
const MAX_ALERTS: usize = 16;

/// The replicas that alerts keep for one function.
#[derive(Default)]
pub(crate) struct Raised(Mutex<Firing>);

#[derive(Default)]
struct Firing {
    /// By their identities, with the time until which each counts as firing.
    alerts: Vec<(u64, Instant)>,
    replicas: u32,
}

impl Firing {
    fn forget(&mut self, now: Instant) {
        self.alerts.retain(|(_, until)| *until > now);
        if self.alerts.is_empty() {
            self.replicas = 0;
        }
    }
}

impl Raised {
    fn firing(&self, now: Instant) -> MutexGuard<'_, Firing> {
        let mut firing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        firing.forget(now);
        firing
    }

    /// The replicas that are kept; 0 when no alert fires.
    pub(crate) fn replicas(&self, now: Instant) -> u32 {
        self.firing(now).replicas
    }

    /// An alert fires once more. Whether it was known: then it goes on keeping what it asked for.
    pub(crate) fn repeat(&self, alert: u64, now: Instant) -> bool {
        let mut firing = self.firing(now);
        let known = firing.alerts.iter_mut().find(|(other, _)| *other == alert);
        known.map(|(_, until)| *until = now + REPEAT_TIME).is_some()
    }

    /// An alert fires, and so many replicas are to be kept.
    pub(crate) fn raise(&self, alert: u64, replicas: u32, now: Instant) {
        let mut firing = self.firing(now);
        firing.alerts.retain(|(other, _)| *other != alert);
        if firing.alerts.len() >= MAX_ALERTS {
            let first = firing.alerts.iter().enumerate().min_by_key(|(_, (_, until))| *until);
            let first = first.map(|(place, _)| place);
            first.map(|place| firing.alerts.swap_remove(place));
        }
        firing.alerts.push((alert, now + REPEAT_TIME));
        firing.replicas = firing.replicas.max(replicas);
    }

    /// An alert is resolved.
    pub(crate) fn resolve(&self, alert: u64, now: Instant) {
        let mut firing = self.firing(now);
        firing.alerts.retain(|(other, _)| *other != alert);
        firing.forget(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_kept_until_every_alert_is_resolved() {
        let (raised, now) = (Raised::default(), Instant::now());
        assert!(!raised.repeat(1, now));
        raised.raise(1, 4, now);
        raised.raise(2, 7, now);
        raised.raise(3, 6, now);
        assert!(raised.repeat(1, now) && !raised.repeat(4, now));
        for (alert, want) in [(4, 7), (2, 7), (1, 7), (3, 0)] {
            raised.resolve(alert, now);
            assert_eq!(raised.replicas(now), want, "{alert}");
        }
        raised.raise(1, 3, now);
        assert_eq!(raised.replicas(now), 3, "nothing is left of what was before");
    }

    #[test]
    fn an_alert_that_is_not_repeated_ends() {
        let (raised, began) = (Raised::default(), Instant::now());
        raised.raise(1, 4, began);
        let mut now = began;
        for _ in 0..5 {
            now += REPEAT_TIME - Duration::from_secs(1);
            assert!(raised.repeat(1, now));
        }
        now += REPEAT_TIME - Duration::from_secs(1);
        assert_eq!(raised.replicas(now), 4);
        now += Duration::from_secs(1);
        assert_eq!(raised.replicas(now), 0);
        assert!(!raised.repeat(1, now), "it would be another one");
    }

    #[test]
    fn only_so_many_are_told_apart() {
        let (raised, now) = (Raised::default(), Instant::now());
        let at = |alert: usize| now + Duration::from_secs(alert as u64);
        for alert in 0..=MAX_ALERTS {
            raised.raise(alert as u64, 4, at(alert));
        }
        assert!(!raised.repeat(0, at(MAX_ALERTS)) && raised.repeat(1, at(MAX_ALERTS)));
        assert_eq!(raised.0.lock().unwrap().alerts.len(), MAX_ALERTS);
    }
}
