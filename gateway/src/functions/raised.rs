//! The replicas that alerts have asked for. They are kept until every alert of the function is resolved or expired.

use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use kit::Guarded;

/// An alert expires when it is not repeated for this long: the report of its end may be lost. Alertmanager repeats
/// firing alerts after `repeat_interval`.
const REPEAT_TIME: Duration = Duration::from_secs(10 * 60);

/// The most alerts of a function. A further alert replaces the one that expires first.
const MAX_ALERTS: usize = 16;

/// The replicas that alerts keep for one function.
#[derive(Default)]
pub(crate) struct Raised(Guarded<Firing>);

#[derive(Default)]
struct Firing {
    /// The identity of each alert, and the time at which it expires.
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
        let mut firing = self.0.lock();
        firing.forget(now);
        firing
    }

    /// The number of replicas to keep; 0 when no alert fires.
    pub(crate) fn replicas(&self, now: Instant) -> u32 {
        self.firing(now).replicas
    }

    /// Notes that an alert is repeated. Returns whether the alert was known; its replicas stay then.
    pub(crate) fn repeat(&self, alert: u64, now: Instant) -> bool {
        let mut firing = self.firing(now);
        let known = firing.alerts.iter_mut().find(|(other, _)| *other == alert);
        known.map(|(_, until)| *until = now + REPEAT_TIME).is_some()
    }

    /// Notes that an alert fires and asks for so many replicas.
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

    /// Notes that an alert is resolved.
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
    fn an_alert_that_is_not_repeated_expires() {
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
    fn the_number_of_alerts_is_bounded() {
        let (raised, now) = (Raised::default(), Instant::now());
        let at = |alert: usize| now + Duration::from_secs(alert as u64);
        for alert in 0..=MAX_ALERTS {
            raised.raise(alert as u64, 4, at(alert));
        }
        assert!(!raised.repeat(0, at(MAX_ALERTS)) && raised.repeat(1, at(MAX_ALERTS)));
        assert_eq!(raised.0.lock().alerts.len(), MAX_ALERTS);
    }
}
