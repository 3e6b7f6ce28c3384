//! Which services are asked for their tasks again, and when: the engine has no events of tasks, and of containers only on
//! its own node. A service is polled while its tasks are on their way, and for a while after anything happened to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two polls of a service while calls wait for it; no two rounds are closer.
pub(super) const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// Between two polls of a service to which something has just happened, while its tasks are on their way.
const HOT_INTERVAL: Duration = Duration::from_millis(100);

/// The same, once all its tasks run, and later the shortest interval while they do not.
pub(super) const WARM_INTERVAL: Duration = Duration::from_millis(250);

/// The longest interval while tasks do not run. It grows with the time for which they do not.
const COLD_INTERVAL: Duration = Duration::from_secs(1);
const SLOWER: u32 = 8;

/// How long something is taken to go on after an event or a change.
pub(super) const HOT_TIME: Duration = Duration::from_secs(10);

/// How long a service is polled whose tasks all run: a manager hears of a container's end a moment after the event.
const SETTLED_TIME: Duration = Duration::from_secs(3);

/// The most services a second that are polled without an event: services that never get their tasks, in any number, must
/// not have the engine busy.
const MAX_A_SECOND: u32 = 100;

/// One service.
#[derive(Clone, Copy, Debug)]
struct Poll {
    due: Instant,
    since: Instant,
    hot_until: Instant,
}

/// What a poll has found.
#[derive(Clone, Copy)]
pub(super) struct Finding {
    /// Whether all tasks that the service wants run, and no others.
    pub(super) is_settled: bool,
    /// Whether calls wait for a first replica.
    pub(super) is_waited_for: bool,
}

/// All services that are polled, by id.
#[derive(Default)]
pub(super) struct Polls(HashMap<Arc<str>, Poll>);

impl Polls {
    /// Something happened to the service: it is polled at once, and often for a while.
    pub(super) fn wake(&mut self, id: &Arc<str>, now: Instant) {
        let poll = Poll { due: now, since: now, hot_until: now + HOT_TIME };
        self.0.insert(Arc::clone(id), poll);
    }

    /// The services that are due, the longest overdue first.
    pub(super) fn due(&self, now: Instant) -> Vec<Arc<str>> {
        let mut due: Vec<_> = self.0.iter().filter(|(_, poll)| poll.due <= now).collect();
        due.sort_by_key(|(_, poll)| poll.due);
        due.into_iter().map(|(id, _)| Arc::clone(id)).collect()
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|poll| poll.due).min()
    }

    /// The tasks of the service were read.
    pub(super) fn was_read(&mut self, id: &Arc<str>, finding: Finding, now: Instant) {
        let stretched = COLD_INTERVAL * u32::try_from(self.0.len()).unwrap_or(u32::MAX) / MAX_A_SECOND;
        let new = Poll { due: now, since: now, hot_until: now };
        let poll = self.0.get(id).copied().unwrap_or(new);
        let age = now.saturating_duration_since(poll.since);
        let interval = match (now < poll.hot_until, finding.is_settled) {
            _ if finding.is_waited_for => MIN_INTERVAL,
            (true, false) => HOT_INTERVAL,
            (true, true) if age < SETTLED_TIME => WARM_INTERVAL,
            (false, false) => (age / SLOWER).clamp(WARM_INTERVAL, COLD_INTERVAL).max(stretched),
            (_, true) => {
                self.0.remove(id);
                return;
            }
        };
        self.0.insert(Arc::clone(id), Poll { due: now + interval, ..poll });
    }

    /// The service is gone.
    pub(super) fn forget(&mut self, id: &str) {
        self.0.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLED: Finding = Finding { is_settled: true, is_waited_for: false };
    const UNSETTLED: Finding = Finding { is_settled: false, is_waited_for: false };
    const WAITED_FOR: Finding = Finding { is_settled: false, is_waited_for: true };

    fn id(number: u32) -> Arc<str> {
        number.to_string().into()
    }

    #[test]
    fn a_service_is_polled_until_its_tasks_run_and_a_while_longer() {
        let (mut polls, start) = (Polls::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        polls.was_read(&id(1), SETTLED, start);
        assert_eq!(polls.next(), None, "nothing has happened to it");
        polls.wake(&id(1), start);
        assert_eq!((polls.due(start), polls.next()), (vec![id(1)], Some(start)));
        let rows = [
            (0, UNSETTLED, 100),
            (100, WAITED_FOR, 150),
            (150, SETTLED, 400),
            (10_000, UNSETTLED, 11_000),
            (60_000, UNSETTLED, 61_000),
            (61_000, WAITED_FOR, 61_050),
        ];
        for (now, finding, next) in rows {
            polls.was_read(&id(1), finding, at(now));
            assert_eq!(polls.next(), Some(at(next)), "after {now} ms");
        }
        polls.was_read(&id(1), SETTLED, at(62_000));
        assert_eq!(polls.next(), None);
    }

    #[test]
    fn a_service_that_lost_a_task_without_an_event_is_polled_from_then_on() {
        let (mut polls, start) = (Polls::default(), Instant::now());
        polls.was_read(&id(1), UNSETTLED, start);
        assert_eq!(polls.next(), Some(start + WARM_INTERVAL));
        polls.forget("1");
        assert_eq!(polls.next(), None);
    }

    #[test]
    fn services_that_never_get_their_tasks_are_polled_at_a_bounded_rate() {
        let (mut polls, start) = (Polls::default(), Instant::now());
        let count = 10 * MAX_A_SECOND;
        (0..count).for_each(|number| polls.was_read(&id(number), UNSETTLED, start));
        let later = start + 60 * COLD_INTERVAL;
        (0..count).for_each(|number| polls.was_read(&id(number), UNSETTLED, later));
        assert_eq!(polls.next(), Some(later + 10 * COLD_INTERVAL));
    }
}
