//! What a function has to do over time, in replicas that are busy to their target.
//! Only of arithmetic that gives the same bits on every machine.

use std::time::Duration;

/// A fixed sequence of well mixed numbers (splitmix64).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Seconds and replicas.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Load {
    Constant(f64),
    /// Around a level, up to this part of it above or below, anew each tenth of a second.
    Noisy(f64, f64),
    /// `(second, level)`: that level from that second on; nothing before the first.
    Steps(&'static [(f64, f64)]),
    /// `(second, level)`: a straight line from each to the next.
    Lines(&'static [(f64, f64)]),
    /// Between two levels, in so many seconds forth and back.
    Sine(f64, f64, f64),
    /// One level for half of so many seconds, the other one for the other half.
    Square(f64, f64, f64),
    /// Now and then, one second in so many, the second level for one to three seconds.
    Bursts(f64, f64, u64),
}

impl Load {
    pub(super) fn at(&self, at: Duration) -> f64 {
        let now = at.as_secs_f64();
        match *self {
            Load::Constant(level) => level,
            Load::Noisy(level, part) => {
                let drawn = Random(at.as_millis() as u64 / 100).below(2001) as f64 / 1000.0 - 1.0;
                level * (1.0 + part * drawn)
            }
            Load::Steps(steps) => {
                steps.iter().rev().find(|(second, _)| *second <= now).map_or(0.0, |(_, level)| *level)
            }
            Load::Lines(points) => line(points, now),
            Load::Sine(low, high, period) => low + (high - low) * (1.0 - cosine(now / period % 1.0)) / 2.0,
            Load::Square(low, high, period) => {
                if now / period % 1.0 < 0.5 {
                    low
                } else {
                    high
                }
            }
            Load::Bursts(low, high, rare) => {
                let second = at.as_secs();
                let in_burst = (0..3).any(|ago| {
                    let mut random = Random(second.saturating_sub(ago));
                    random.below(rare) == 0 && ago <= random.below(3)
                });
                if in_burst { high } else { low }
            }
        }
    }
}

fn line(points: &[(f64, f64)], now: f64) -> f64 {
    let after = points.iter().position(|(second, _)| now < *second).unwrap_or(points.len());
    match (points.get(after.wrapping_sub(1)), points.get(after)) {
        (Some((begin, from)), Some((end, to))) => from + (to - from) * (now - begin) / (end - begin),
        (Some((_, level)), None) | (None, Some((_, level))) => *level,
        (None, None) => 0.0,
    }
}

/// Near the cosine of a part of a turn (Bhaskara's approximation, to a five-hundredth).
fn cosine(turns: f64) -> f64 {
    let turns = if turns > 0.5 { 1.0 - turns } else { turns };
    let half = |x: f64| (0.25 - x * x) * 4.0 / (1.0 + x * x); // x in half turns, up to 0.5
    if turns <= 0.25 { half(2.0 * turns) } else { -half(1.0 - 2.0 * turns) }
}

#[test]
fn loads_are_what_they_are_called() {
    let at = |load: Load, seconds: f64| load.at(Duration::from_secs_f64(seconds));
    let close = |got: f64, want: f64| assert!((got - want).abs() < 0.02, "{got} is not {want}");
    let steps = Load::Steps(&[(10.0, 5.0), (20.0, 0.0)]);
    assert_eq!([9.9, 10.0, 19.9, 20.0].map(|s| at(steps, s)), [0.0, 5.0, 5.0, 0.0]);
    let lines = Load::Lines(&[(10.0, 1.0), (20.0, 11.0)]);
    assert_eq!([0.0, 10.0, 15.0, 25.0].map(|s| at(lines, s)), [1.0, 1.0, 6.0, 11.0]);
    for (second, want) in [(0.0, 1.0), (15.0, 3.0), (20.0, 4.0), (30.0, 5.0), (45.0, 3.0), (60.0, 1.0)] {
        close(at(Load::Sine(1.0, 5.0, 60.0), second), want);
    }
    assert_eq!([0.0, 29.9, 30.0, 59.9].map(|s| at(Load::Square(1.0, 6.0, 60.0), s)), [1.0, 1.0, 6.0, 6.0]);
    let bursts = (0..1000).filter(|second| at(Load::Bursts(0.5, 8.0, 10), f64::from(*second)) > 1.0).count();
    assert!((100..300).contains(&bursts), "{bursts}");
    for second in 0..100 {
        assert!((0.9..=1.1).contains(&at(Load::Noisy(1.0, 0.1), f64::from(second) / 10.0)));
    }
}
