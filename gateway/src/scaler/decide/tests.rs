//! Each rule, at both sides.

use super::*;
use crate::function::labels::Labels;

const BOUNDS: Bounds = Bounds { min: 1, max: 20, target: 50, step: 4, zero_after: None };

/// A function whose replicas are ready as soon as they are seen to be wanted.
struct Watched {
    memory: Memory,
    bounds: Bounds,
    began: Instant,
    now: Instant,
    seen: Signals,
    /// Whether the provider does what it is asked for.
    obeys: bool,
}

impl Watched {
    fn new(bounds: Bounds, wanted: u32) -> Watched {
        let now = Instant::now();
        let seen = Signals { wanted, ready: wanted, ..Signals::default() };
        Watched { memory: Memory::new(now), bounds, began: now, now, seen, obeys: true }
    }

    fn scaled(&mut self, replicas: u32) {
        self.seen.wanted = replicas;
        self.seen.ready = replicas;
    }

    /// One tick, so many milliseconds after the last.
    fn tick(&mut self, ms: u64) -> Option<u32> {
        self.now += Duration::from_millis(ms);
        let asked = self.memory.decide(&self.bounds, &self.seen, self.now)?;
        if self.obeys {
            self.scaled(asked);
        }
        Some(asked)
    }

    /// Ticks of `every` milliseconds for `ms`: what was asked for, and when, in milliseconds from the first.
    fn ticks(&mut self, ms: u64, every: u64) -> Vec<(u64, u32)> {
        let mut asks = Vec::new();
        for at in (every..=ms).step_by(every as usize) {
            asks.extend(self.tick(every).map(|replicas| (at, replicas)));
        }
        asks
    }

    fn with_calls(mut self, in_flight: usize) -> Watched {
        self.seen.in_flight = in_flight;
        self
    }
}

#[test]
fn labels_become_bounds() {
    let bounds = |labels: &Labels| Bounds::from(&Known { labels: labels.clone(), ..Known::named("x") });
    let labels = Labels::default();
    assert_eq!(bounds(&labels), BOUNDS);
    let steps = [(20, 0, 0), (20, 1, 1), (20, 21, 5), (1, 100, 1), (1000, 100, 1000), (5, 20, 1), (6, 20, 2)];
    for (scale_max, scale_factor, step) in steps {
        let labels = Labels { scale_max: Some(scale_max), scale_factor, ..labels.clone() };
        assert_eq!(bounds(&labels).step, step, "{scale_factor} % of {scale_max}");
    }
    let labels = Labels { scale_zero: true, ..labels };
    assert_eq!(bounds(&labels).zero_after, Some(Duration::from_secs(900)));
}

#[test]
fn what_somebody_asked_for_is_the_minimum_where_no_label_says_so() {
    for (asked, scale_min, scale_max, want) in [
        (4, None, None, (4, 20)),
        (0, None, None, (1, 20)),
        (4, Some(2), None, (2, 20)),
        (1, Some(2), Some(3), (2, 3)),
        (30, None, None, (30, 30)),
        (30, None, Some(20), (20, 20)),
        (30, Some(2), None, (2, 30)),
        (u32::MAX, None, None, (u32::MAX, u32::MAX)),
    ] {
        let labels = Labels { scale_min, scale_max, scale_factor: 100, ..Labels::default() };
        let bounds = Bounds::from(&Known { asked, labels, ..Known::named("x") });
        assert_eq!((bounds.min, bounds.max, bounds.step), (want.0, want.1, want.1), "{asked} {want:?}");
    }
}

#[test]
fn a_tenth_of_a_target_more_is_no_need() {
    for (in_flight, need) in
        [(0, 1), (1, 1), (50, 1), (55, 1), (56, 2), (100, 2), (105, 2), (106, 3), (500, 10)]
    {
        let mut watched = Watched::new(BOUNDS, 1).with_calls(in_flight);
        watched.ticks(5_000, 100);
        assert_eq!(watched.seen.wanted, need, "{in_flight}");
    }
}

#[test]
fn the_second_is_averaged_whatever_the_ticks() {
    for every in [1, 10, 100, 250, 500] {
        let mut watched = Watched::new(BOUNDS, 1);
        watched.ticks(2_000, every);
        watched.seen.in_flight = 5 * 50;
        let asks = watched.ticks(2_000, every);
        let (at, last) = *asks.last().unwrap();
        assert_eq!(last, 5, "{asks:?}");
        // More than 4.1 of 5 parts of the second.
        assert!((820..=1_000 + 2 * every).contains(&at), "{every}: {asks:?}");
    }
    let mut watched = Watched::new(BOUNDS, 1).with_calls(250);
    watched.tick(100);
    watched.seen.in_flight = 0;
    assert_eq!(watched.ticks(2_000, 100), [], "250 for a tenth of a second are 25");
}

#[test]
fn bounds_hold_on_the_way_up() {
    let mut watched = Watched::new(BOUNDS, 1).with_calls(usize::MAX);
    watched.ticks(5_000, 100);
    assert_eq!(watched.seen.wanted, 20);
    let bounds = Bounds { min: 3, max: 1000, target: 1_000_000, ..BOUNDS };
    let mut watched = Watched::new(bounds, 1);
    assert_eq!(watched.tick(1), Some(3), "at once");
    watched.seen.in_flight = usize::MAX;
    watched.seen.calls = u64::MAX;
    watched.ticks(5_000, 100);
    assert_eq!(watched.seen.wanted, 1000);
}

#[test]
fn down_in_steps_after_a_stable_window() {
    let mut watched = Watched::new(BOUNDS, 20);
    let asks = watched.ticks(180_000, 100);
    let steps: Vec<u32> = asks.iter().map(|ask| ask.1).collect();
    assert_eq!(steps, [16, 12, 8, 4, 2, 1], "by four, then by half");
    // The first look is at a change, from nothing known.
    assert_eq!(asks[0].0, 60_100);
    assert!(asks.windows(2).all(|pair| pair[1].0 == pair[0].0 + 10_000), "{asks:?}");
}

#[test]
fn what_was_needed_within_the_stable_window_is_kept() {
    let mut watched = Watched::new(BOUNDS, 5);
    for _ in 0..4 {
        watched.seen.in_flight = 250;
        assert_eq!(watched.ticks(2_000, 100), []);
        watched.seen.in_flight = 0;
        assert_eq!(watched.ticks(58_000, 100), []);
    }
    let asks = watched.ticks(20_000, 100);
    assert_eq!(asks.iter().map(|ask| ask.1).collect::<Vec<_>>(), [3, 2]);
    // Since the need went: a window, and up to a part of it.
    assert!((2_000..=8_000).contains(&asks[0].0), "{asks:?}");
}

#[test]
fn in_an_update_the_number_stays() {
    let mut watched = Watched::new(BOUNDS, 4);
    watched.seen.is_held = true;
    assert_eq!(watched.ticks(100_000, 100), []);
    watched.seen.is_held = false;
    assert_eq!(watched.tick(100), Some(2));
    watched.seen.is_held = true;
    watched.seen.in_flight = 400;
    assert_eq!(watched.ticks(100_000, 100), [], "nor is one added");
    watched.seen.is_held = false;
    assert_eq!(watched.tick(100), Some(8), "until it ends");
    watched.seen.is_held = true;
    watched.scaled(0);
    assert_eq!(watched.tick(100), Some(1), "from none there is a first one");
}

#[test]
fn what_an_update_holds_back_is_told_once() {
    let mut watched = Watched::new(BOUNDS, 4);
    watched.seen.is_held = true;
    watched.ticks(10_000, 100);
    assert_eq!(watched.memory.take_held_back(), None, "nothing is held back");
    watched.seen.in_flight = 400;
    watched.ticks(2_000, 100);
    assert_eq!(watched.memory.take_held_back(), Some(8));
    watched.seen.in_flight = 800;
    watched.ticks(2_000, 100);
    assert_eq!(watched.memory.take_held_back(), None);
    watched.seen.is_held = false;
    watched.obeys = false;
    watched.tick(100);
    watched.seen.is_held = true;
    watched.tick(100);
    assert_eq!(watched.memory.take_held_back(), Some(16), "that is another update");
}

#[test]
fn more_than_the_maximum_goes_like_any_other() {
    let mut watched = Watched::new(BOUNDS, 30).with_calls(5_000);
    let asks = watched.ticks(100_000, 100);
    assert_eq!(asks, [(60_100, 26), (70_100, 22), (80_100, 20)]);
}

#[test]
fn somebody_elses_choice_is_kept_for_a_stable_window() {
    let mut watched = Watched::new(BOUNDS, 1);
    watched.ticks(100_000, 100);
    watched.scaled(8);
    assert_eq!(watched.ticks(60_000, 100), []);
    assert_eq!(watched.tick(100), Some(4));
    watched.scaled(3);
    assert_eq!(watched.ticks(60_000, 100), [], "nor is a change the other way");
    assert_eq!(watched.tick(100), Some(2));
}

#[test]
fn a_deployment_that_takes_replicas_away_is_corrected_at_once() {
    let mut watched = Watched::new(BOUNDS, 5).with_calls(250);
    watched.ticks(10_000, 100);
    watched.scaled(1);
    watched.seen.in_flight = 230; // a moment of less
    assert_eq!(watched.tick(100), Some(5));
}

#[test]
fn what_waits_for_the_first_replica_is_not_counted() {
    let mut watched = Watched::new(BOUNDS, 5).with_calls(250);
    watched.ticks(10_000, 100);
    watched.scaled(1);
    watched.seen.ready = 0;
    watched.seen.in_flight = 700;
    assert_eq!(watched.ticks(20_000, 100), [], "nor what was needed before");
    watched.seen.ready = 1;
    for (in_flight, ended) in [(600, 100), (300, 300), (60, 240), (40, 20)] {
        watched.seen.in_flight = in_flight;
        watched.seen.calls += ended;
        assert_eq!(watched.tick(100), None);
    }
    assert_eq!(watched.ticks(5_000, 100), []);
    watched.seen.in_flight = 150;
    watched.ticks(2_000, 100);
    assert_eq!(watched.seen.wanted, 3, "what is served then is");
}

#[test]
fn after_a_cold_start_the_stable_window_is_new() {
    let mut watched = Watched::new(BOUNDS, 4);
    watched.ticks(59_000, 100);
    watched.seen.ready = 0;
    watched.tick(100);
    watched.seen.ready = 4;
    assert_eq!(watched.ticks(59_900, 100), []);
    assert_eq!(watched.tick(100), Some(2));
}

#[test]
fn calls_that_pile_up_are_no_reason_for_ever_more() {
    // A replica ends 100 calls a second, and 300 come, of which it holds 50.
    let mut watched = Watched::new(BOUNDS, 1).with_calls(50);
    watched.obeys = false;
    watched.ticks(10_000, 100);
    let mut highest = 0;
    for _ in 0..40 {
        watched.seen.in_flight += 20;
        watched.seen.calls += 10;
        highest = highest.max(watched.tick(100).unwrap_or(0));
        watched.seen.wanted = watched.seen.wanted.max(highest);
    }
    assert_eq!(highest, 6, "twice what would keep up");
    // They are there: it falls, and that is enough.
    watched.seen.ready = 6;
    for _ in 0..28 {
        watched.seen.in_flight -= 30;
        watched.seen.calls += 60;
        assert_eq!(watched.tick(100), None);
    }
}

#[test]
fn a_call_wakes_a_function_at_zero() {
    for (step, min, zero_after) in [(4, 1, None), (0, 1, None), (4, 3, Some(Duration::from_secs(60)))] {
        let mut watched = Watched::new(Bounds { step, min, zero_after, ..BOUNDS }, 0);
        assert_eq!(watched.ticks(100_000, 500), []);
        watched.seen.in_flight = 1;
        assert_eq!(watched.tick(100), Some(min));
        assert_eq!(watched.ticks(5_000, 100), []);
    }
    let mut watched = Watched::new(BOUNDS, 0).with_calls(1);
    watched.seen.ready = 1;
    assert_eq!(watched.ticks(10_000, 100), [], "one that is being taken away serves it");
    watched.seen.ready = 0;
    assert_eq!(watched.tick(100), Some(1));
}

#[test]
fn asked_again_with_growing_pauses() {
    let mut watched = Watched::new(BOUNDS, 0).with_calls(1);
    watched.obeys = false;
    let asks = watched.ticks(130_000, 100);
    let at: Vec<u64> = asks.iter().map(|ask| ask.0).collect();
    assert_eq!(at, [100, 2_100, 6_100, 14_100, 30_100, 60_100, 90_100, 120_100]);
    watched.seen.in_flight = 0;
    watched.ticks(60_000, 100);
    watched.seen.in_flight = 1;
    assert_eq!(watched.ticks(2_100, 100), [(100, 1), (2_100, 1)], "forgotten after a while");
    watched.scaled(1);
    watched.tick(100);
    watched.scaled(0);
    assert_eq!(watched.tick(100), Some(1), "one that was done is no failure");
}

#[test]
fn a_need_that_grows_does_not_wait_for_the_first_answer() {
    let mut watched = Watched::new(BOUNDS, 1).with_calls(250);
    watched.obeys = false;
    let asks = watched.ticks(10_000, 100);
    assert_eq!(asks.iter().map(|ask| ask.1).collect::<Vec<_>>(), [2, 3, 4, 5, 5, 5]);
    watched.seen.in_flight = 500;
    assert_eq!(watched.ticks(4_000, 100), [], "but for a second one it does");
}

#[test]
fn to_zero_after_its_time_without_a_call() {
    let bounds = Bounds { zero_after: Some(Duration::from_secs(100)), ..BOUNDS };
    let mut watched = Watched::new(bounds, 1);
    watched.tick(500);
    assert_eq!(watched.ticks(99_500, 500), []);
    watched.seen.calls += 1; // that came and went between two looks
    assert_eq!(watched.ticks(100_000, 500), []);
    watched.seen.is_held = true;
    assert_eq!(watched.tick(500), None);
    watched.seen.is_held = false;
    assert_eq!(watched.tick(500), Some(0));
    assert_eq!(watched.ticks(100_000, 500), []);
    watched.scaled(1);
    watched.tick(500);
    assert_eq!(watched.ticks(99_500, 500), [], "by hand it begins anew");
    assert_eq!(watched.tick(500), Some(0));
}

#[test]
fn to_zero_only_from_the_minimum_and_only_where_it_is_allowed() {
    let zero_after = Some(Duration::from_secs(1));
    let mut watched = Watched::new(Bounds { min: 2, zero_after, ..BOUNDS }, 4);
    let asks = watched.ticks(200_000, 500);
    assert_eq!(asks, [(60_500, 2), (70_500, 0)]);
    for bounds in [BOUNDS, Bounds { step: 0, zero_after, ..BOUNDS }] {
        assert_eq!(Watched::new(bounds, 1).ticks(3_600_000, 500), []);
    }
    let mut watched = Watched::new(Bounds { zero_after, ..BOUNDS }, 1).with_calls(1);
    assert_eq!(watched.ticks(3_600_000, 500), [], "one call that takes an hour");
}

#[test]
fn a_factor_of_zero_leaves_all_as_it_is() {
    for wanted in [1, 5, 30] {
        for in_flight in [0, 5_000] {
            let mut watched =
                Watched::new(Bounds { step: 0, min: 3, ..BOUNDS }, wanted).with_calls(in_flight);
            assert_eq!(watched.ticks(300_000, 500), []);
        }
    }
}

#[test]
fn time_that_was_not_watched_proves_nothing() {
    let mut watched = Watched::new(BOUNDS, 8);
    watched.ticks(30_000, 100);
    assert_eq!(watched.tick(3_600_000), None, "an hour counts as a second");
    assert_eq!(watched.ticks(29_000, 100), []);
    assert_eq!(watched.tick(100), Some(4));
    watched.now = watched.began;
    assert_eq!(watched.tick(0), None, "nor does a clock that goes back");
}

#[test]
fn a_memory_is_small() {
    assert!(size_of::<Memory>() <= 720, "{}", size_of::<Memory>());
}

#[test]
fn what_came_and_was_undone_unseen_is_asked_for_at_once() {
    let mut watched = Watched::new(BOUNDS, 0).with_calls(1);
    watched.obeys = false;
    for call in 0..10 {
        watched.seen.changes = 2 * call;
        assert_eq!((watched.tick(50), watched.tick(50)), (Some(1), None), "call {call}");
    }
}

#[test]
fn a_gateway_that_comes_or_goes_counts_as_a_call() {
    let bounds = Bounds { zero_after: Some(Duration::from_secs(60)), ..BOUNDS };
    let mut watched = Watched::new(bounds, 1);
    assert_eq!(watched.ticks(59_000, 500), []);
    watched.seen.turnovers += 1;
    assert_eq!(watched.ticks(60_000, 500), []);
    assert_eq!(watched.ticks(1000, 500), [(500, 0)]);
}

#[test]
fn where_another_gateway_takes_away_only_growth_is_left() {
    let bounds = Bounds { zero_after: Some(Duration::from_secs(60)), ..BOUNDS };
    let mut watched = Watched::new(bounds, 4);
    watched.seen.is_kept = true;
    assert_eq!(watched.ticks(200_000, 500), []);
    watched.seen.in_flight = 400;
    assert_eq!(watched.ticks(2_000, 100).last().map(|(_, asked)| *asked), Some(8));
    watched.seen.in_flight = 0;
    assert_eq!(watched.ticks(200_000, 500), []);
    watched.scaled(1);
    assert_eq!(watched.ticks(200_000, 500), []);
    watched.seen.is_kept = false;
    assert_eq!(watched.tick(500), Some(0));
    watched.seen.is_kept = true;
    watched.seen.in_flight = 1;
    assert_eq!(watched.tick(100), Some(1), "a first one is asked for all the same");
}

#[test]
fn what_alerts_keep_is_the_minimum_and_does_not_go_to_zero() {
    let zero_after = Some(Duration::from_secs(1));
    let bounds = Bounds { min: 2, zero_after, ..BOUNDS };
    assert_eq!(bounds.raised(0), bounds);
    assert_eq!(bounds.raised(5), Bounds { min: 5, zero_after: None, ..bounds });
    assert_eq!(bounds.raised(1).min, 2);
    assert_eq!(bounds.raised(100).min, 20);
    let mut watched = Watched::new(bounds.raised(6), 6);
    assert_eq!(watched.ticks(600_000, 500), [], "6, not 3");
    watched.bounds = bounds;
    assert_eq!(watched.ticks(600_000, 500).iter().map(|ask| ask.1).collect::<Vec<_>>(), [3, 2, 0]);
}
