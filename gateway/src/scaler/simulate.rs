//! The scaler's decisions over simulated loads: virtual time, seeded random numbers, no thread and no clock.
//!
//! What it decides is kept in `traces/`, and drawn in `docs/scaling/`; `UPDATE_GOLDEN=1` writes both anew.

mod draw;
mod scenarios;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use super::decide::{Bounds, Memory, Signals};
use crate::labels::Labels;
use scenarios::{SCENARIOS, Scenario, What};

/// The pace of the simulated world.
const STEP: f64 = 0.01;

/// Between two looks of the scaler, as in `run`.
const BUSY_LOOK: f64 = 0.1;
const IDLE_LOOK: f64 = 0.5;

/// From the provider's answer until the new number is seen.
const SEEN_AFTER: f64 = 0.05;

/// The world at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at: f64,
    in_flight: usize,
    wanted: u32,
    ready: u32,
}

/// What came of a scenario.
struct Run {
    /// Each tenth of a second.
    points: Vec<Point>,
    /// What was asked for, when, and whether it was refused.
    asks: Vec<(f64, u32, bool)>,
}

/// Numbers between 0 and 1 that look random and are always the same (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How often something happens that happens `mean` times on average (Knuth).
    fn poisson(&mut self, mean: f64) -> usize {
        let (limit, mut product, mut count) = ((-mean).exp(), self.next(), 0);
        while product > limit {
            product *= self.next();
            count += 1;
        }
        count
    }
}

struct World<'a> {
    scenario: &'a Scenario,
    random: Random,
    in_flight: usize,
    /// Of an even load: when each call that is served ends, and the part of the next that has come.
    serving: VecDeque<f64>,
    coming_calls: f64,
    calls: u64,
    wanted: u32,
    /// When each replica can be called.
    replicas: Vec<f64>,
    /// What the scaler sees only after a while.
    coming: Option<(f64, u32)>,
    may_shrink: bool,
    is_failing: bool,
}

impl World<'_> {
    fn ready(&self, at: f64) -> u32 {
        self.replicas.iter().filter(|since| **since <= at).count() as u32
    }

    fn set(&mut self, at: f64, wanted: u32) {
        self.wanted = wanted;
        self.replicas.truncate(wanted as usize); // the youngest go first
        self.replicas.resize(wanted as usize, at + self.scenario.start_up);
    }

    /// Calls that are served end, and others come.
    fn step(&mut self, at: f64) {
        let room = (self.ready(at) * self.scenario.capacity) as usize;
        let coming = self.scenario.load.rate(at) * STEP;
        let ends = if self.scenario.is_even {
            while self.serving.pop_front_if(|end| *end <= at).is_some() {
                self.in_flight -= 1;
            }
            self.coming_calls += coming;
            self.in_flight += self.coming_calls as usize;
            self.coming_calls = self.coming_calls.fract();
            let begin = room.min(self.in_flight).saturating_sub(self.serving.len());
            self.serving.extend(std::iter::repeat_n(at + self.scenario.service, begin));
            begin
        } else {
            let chance = 1.0 - (-STEP / self.scenario.service).exp();
            let ends = (0..self.in_flight.min(room)).filter(|_| self.random.next() < chance).count();
            self.in_flight += self.random.poisson(coming);
            self.in_flight -= ends;
            ends
        };
        self.calls += ends as u64;
        if let Some((_, wanted)) = self.coming.take_if(|(when, _)| *when <= at) {
            self.set(at, wanted);
        }
    }
}

fn run(scenario: &Scenario) -> Run {
    let base = Instant::now();
    let instant = |at: f64| base + Duration::from_secs_f64(at);
    let labels = scenario.labels.iter().copied();
    let (labels, warnings) = Labels::from_map(labels);
    assert!(warnings.is_empty(), "{warnings:?}");
    let bounds = Bounds::from(&labels);
    let mut world = World {
        scenario,
        random: Random(scenario.name.len() as u64),
        in_flight: 0,
        serving: VecDeque::new(),
        coming_calls: 0.0,
        calls: 0,
        wanted: scenario.replicas,
        replicas: vec![0.0; scenario.replicas as usize],
        coming: None,
        may_shrink: true,
        is_failing: false,
    };
    let mut memory = Memory::new(base);
    let mut events = scenario.events.iter().peekable();
    let mut result = Run { points: Vec::new(), asks: Vec::new() };
    let mut next_look = 0.0;
    for step in 0..(scenario.seconds / STEP) as usize {
        let at = step as f64 * STEP;
        while let Some((_, what)) = events.next_if(|(when, _)| *when <= at) {
            match what {
                What::Set(wanted) => world.set(at, *wanted),
                What::Restart => memory = Memory::new(instant(at)),
                What::MayShrink(may) => world.may_shrink = *may,
                What::Fails(fails) => world.is_failing = *fails,
            }
        }
        world.step(at);
        if at >= next_look {
            next_look = at + if world.in_flight > 0 { BUSY_LOOK } else { IDLE_LOOK };
            let signals = Signals {
                in_flight: world.in_flight,
                calls: world.calls,
                wanted: world.wanted,
                ready: world.ready(at),
                may_shrink: world.may_shrink,
            };
            if let Some(wanted) = memory.decide(&bounds, &signals, instant(at)) {
                result.asks.push((at, wanted, world.is_failing));
                if !world.is_failing {
                    world.coming = Some((at + SEEN_AFTER, wanted));
                }
            }
        }
        if step % 10 == 0 {
            let (in_flight, wanted, ready) = (world.in_flight, world.wanted, world.ready(at));
            result.points.push(Point { at, in_flight, wanted, ready });
        }
    }
    result
}

/// A line for each change of the replicas.
fn trace(run: &Run) -> String {
    let mut text = "# seconds  in flight  wanted  ready\n".to_owned();
    let mut before = (u32::MAX, u32::MAX);
    for point in &run.points {
        if before != (point.wanted, point.ready) {
            before = (point.wanted, point.ready);
            let Point { at, in_flight, wanted, ready } = point;
            let _ = writeln!(text, "{at:9.1} {in_flight:10} {wanted:7} {ready:6}"); // a String cannot fail
        }
    }
    text
}

/// Compares a kept file, or writes it with `UPDATE_GOLDEN=1`.
#[track_caller]
fn kept(path: &str, text: &str) {
    let path = testkit::workspace().join(path);
    if testkit::variable("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        return std::fs::write(&path, text).unwrap();
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(want == text, "{} is not what comes out: see UPDATE_GOLDEN=1", path.display());
}

fn scenario(name: &str) -> &'static Scenario {
    SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap()
}

/// When the wanted number changed, and to what.
fn changes(run: &Run) -> Vec<(f64, u32, u32)> {
    let pairs = run.points.windows(2).filter(|pair| pair[0].wanted != pair[1].wanted);
    pairs.map(|pair| (pair[1].at, pair[0].wanted, pair[1].wanted)).collect()
}

#[test]
fn every_scenario_goes_as_it_went_and_is_drawn_in_the_documents() {
    let document = include_str!("../../../docs/scaling.md");
    for scenario in SCENARIOS {
        let run = run(scenario);
        kept(&format!("gateway/src/scaler/traces/{}.golden", scenario.name), &trace(&run));
        kept(&format!("docs/scaling/{}.svg", scenario.name), &draw::svg(scenario, &run));
        assert!(document.contains(&format!("](scaling/{}.svg)", scenario.name)), "{}", scenario.name);
    }
}

#[test]
fn bounds_hold_and_no_step_down_is_a_plunge() {
    for scenario in SCENARIOS {
        let run = run(scenario);
        for (at, wanted, _) in &run.asks {
            let is_zero = *wanted == 0 && scenario.may_go_to_zero();
            assert!(
                is_zero || (scenario.min()..=scenario.max()).contains(wanted),
                "{} at {at}",
                scenario.name
            );
        }
        for (at, from, to) in changes(&run) {
            let is_by_hand = scenario
                .events
                .iter()
                .any(|(when, what)| matches!(what, What::Set(_)) && (at - 0.2..=at).contains(when));
            let is_gentle = 2 * to + 1 >= from && to + scenario.step() >= from;
            let is_last = from == 1 && to == 0;
            assert!(
                to > from || is_by_hand || is_gentle || is_last,
                "{} at {at}: {from} to {to}",
                scenario.name
            );
        }
    }
}

/// The times at which the replicas went the other way.
fn turns(run: &Run) -> Vec<f64> {
    let changes = changes(run);
    let pairs = changes.windows(2).filter(|pair| (pair[0].2 > pair[0].1) != (pair[1].2 > pair[1].1));
    pairs.map(|pair| pair[1].0).collect()
}

const CALLS: [f64; 16] =
    [0.5, 1.0, 5.0, 25.0, 44.0, 45.0, 49.0, 50.0, 51.0, 55.0, 56.0, 75.0, 99.0, 100.0, 140.0, 400.0];
const TIMES: [(f64, f64); 5] = [(0.02, 0.1), (0.2, 0.1), (1.0, 2.0), (1.0, 20.0), (5.0, 0.5)];

/// A demand that stays the same turns the replicas at most once in a stable window.
#[test]
fn a_constant_demand_does_not_flap() {
    for (calls, (service, start_up)) in CALLS.iter().flat_map(|calls| TIMES.map(|times| (*calls, times))) {
        let load = Scenario {
            is_even: true,
            service,
            start_up,
            seconds: 600.0,
            ..Scenario::constant(calls / service)
        };
        let run = run(&load);
        let turns = turns(&run);
        let is_calm = turns.windows(2).all(|pair| pair[1] - pair[0] >= 60.0);
        assert!(is_calm, "{calls} calls of {service} s, {start_up} s to start: {:?}", changes(&run));
    }
}

/// Chance makes it more or less: it turns back now and then, and not again and again.
#[test]
fn a_demand_that_varies_by_chance_turns_seldom() {
    for (calls, (service, start_up)) in CALLS.iter().flat_map(|calls| TIMES.map(|times| (*calls, times))) {
        let load = Scenario { service, start_up, seconds: 240.0, ..Scenario::constant(calls / service) };
        let run = run(&load);
        assert!(turns(&run).len() <= 4, "{calls} calls of {service} s: {:?}", changes(&run));
    }
}

#[test]
fn a_load_that_needs_five_replicas_has_them_wanted_within_two_seconds() {
    let run = run(scenario("step"));
    let began = 10.0;
    let point = run.points.iter().find(|point| point.wanted >= 5).unwrap();
    assert!(point.at - began < 2.0, "{point:?}");
}

#[test]
fn what_is_no_longer_needed_goes_and_only_what_may_go_to_zero_does() {
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.ends_quietly) {
        let last = *run(scenario).points.last().unwrap();
        let want = if scenario.may_go_to_zero() { 0 } else { scenario.min() };
        assert_eq!((last.wanted, last.in_flight), (want, 0), "{}", scenario.name);
    }
}

#[test]
fn a_failing_engine_is_asked_less_and_less_often() {
    let run = run(scenario("failing-engine"));
    let refused = run.asks.iter().filter(|(.., is_refused)| *is_refused).count();
    assert!((2..=20).contains(&refused), "{refused} asks in a minute and a half");
    let back = 100.0;
    let up = changes(&run).into_iter().find(|(at, from, to)| *at >= back && to > from).unwrap();
    assert!(up.0 - back < 31.0, "{up:?}");
}

#[test]
fn a_reset_by_a_deployment_is_corrected_within_two_looks() {
    let run = run(scenario("deployment"));
    let reset = 60.0;
    let at = |at: f64| run.points.iter().find(|point| point.at >= at).unwrap().wanted;
    let before = at(reset - 0.2);
    assert!(before >= 5 && at(reset) == 1, "25 calls in hand, 5 for each");
    assert!(at(reset + 2.0 * BUSY_LOOK + SEEN_AFTER + 0.05) >= 5, "{:?}", changes(&run));
}

#[test]
fn a_number_set_by_hand_stays_for_a_stable_window() {
    let run = run(scenario("by-hand"));
    let (set, to) = (60.0, 8);
    let stays = run.points.iter().filter(|point| (set + 0.1..set + 59.0).contains(&point.at));
    assert!(stays.clone().count() > 500 && stays.clone().all(|point| point.wanted == to));
}

/// The first call starts one, and what waits for that is no reason for more.
#[test]
fn nothing_is_asked_for_twice_while_the_first_replica_starts() {
    let run = run(scenario("from-zero"));
    let first: Vec<_> = run.asks.iter().filter(|(at, ..)| *at < 11.5).collect();
    assert!(matches!(first[..], [(at, 1, false)] if *at < 10.6), "{first:?}");
}

#[test]
fn a_restarted_gateway_does_not_take_for_idle_what_it_has_not_seen() {
    let run = run(scenario("restart"));
    let zero = run.points.iter().find(|point| point.wanted == 0).unwrap();
    assert!(zero.at >= 50.0 + 30.0, "30 s after the last restart: {zero:?}");
}

#[test]
fn nothing_is_taken_away_during_an_update() {
    let run = run(scenario("rolling-update"));
    let changes = changes(&run);
    assert!(changes.iter().all(|(at, from, to)| to > from || *at >= 200.0), "{changes:?}");
    assert!(changes.iter().any(|(_, from, to)| to < from), "{changes:?}");
}
