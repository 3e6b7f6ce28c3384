//! How many replicas a function should have: what is seen of it at one tick in, a number out.
//!
//! Up follows the calls in flight of the last second, at once. Down follows the most that was needed in
//! the last minute, in steps. Nothing is concluded from time that was not watched: not what waits
//! while there is no replica, not a gap between two ticks, not what was before a change by somebody else.

use std::time::{Duration, Instant};

use crate::function::Known;

/// What is in flight is averaged over so long: shorter follows single bursts, longer lets callers wait.
const PANIC_WINDOW: Duration = Duration::from_secs(1);

/// What was needed within so long is kept: most loads that come back do so within a minute.
const STABLE_WINDOW: Duration = Duration::from_secs(60);

/// The most time that one look stands for: twice the slowest usual tick.
const MAX_GAP: Duration = Duration::from_secs(1);

/// Between two steps down: long enough to see in what is in flight how the rest bears it.
const SHRINK_PAUSE: Duration = Duration::from_secs(10);

/// Until what was asked for and not done is asked for again; twice as long each time, up to the maximum.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(30);

/// After so long without asking, an engine that failed gets the short pause again.
const RETRY_FORGET: Duration = MAX_RETRY_PAUSE.saturating_mul(2);

/// One part in so many of a target that may be in flight above whole ones, so that a load right at a
/// multiple of the target does not need one replica more now and then.
const TOLERANCE: u64 = 10;

/// Calls pile up where arrivals exceed ends by more than one part in so many: as many as that can be chance.
const PILE_UP: u64 = 4;

/// While calls pile up, or seem to, at most so many times the replicas that would keep up with the arrivals: what has
/// piled up is worked off by as many again, and is no reason for more.
const CATCH_UP: u64 = 2;

/// Where replicas that were asked for so long ago are still starting, calls that do not pile up any more may
/// as well have reached a limit of the gateway. Later they may be stuck, and no reason to wait.
const STARTING: (Duration, Duration) = (PANIC_WINDOW, Duration::from_secs(30));

/// What is in flight falls when it does by one part in so many in a panic window, half in a quarter of a
/// minute: then there are enough.
const FALL: u32 = 20;

/// Looks kept for the panic window, at least `MARK_EVERY` apart: one more than a window has room for, and
/// the one at its beginning.
const MARKS: usize = 12;
const MARK_EVERY: Duration = Duration::from_millis(100);

/// Parts of the stable window, each with the most that was needed in it; the first is not complete.
const HIGHS: usize = 13;
const HIGH_EVERY: Duration = Duration::from_secs(STABLE_WINDOW.as_secs() / (HIGHS as u64 - 1));

/// What one function asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// At least 1 and not above `max`.
    pub(crate) min: u32,
    pub(crate) max: u32,
    /// Calls in flight per replica that are aimed at, at least 1.
    pub(crate) target: u32,
    /// Most replicas taken away at once; 0 switches scaling off, but for the way up from no replica.
    pub(crate) step: u32,
    /// Without a call for so long it goes to no replica.
    pub(crate) zero_after: Option<Duration>,
}

impl From<&Known> for Bounds {
    /// What somebody asked for is the minimum where no label is, and may be more than the maximum where no label is.
    fn from(known: &Known) -> Bounds {
        let labels = &known.labels;
        let asked = known.asked.max(1);
        let max = labels.scale_max.unwrap_or_else(|| labels.max().max(asked));
        let percent = u64::from(max) * u64::from(labels.scale_factor);
        Bounds {
            min: labels.scale_min.unwrap_or(asked).min(max),
            max,
            target: labels.scale_target,
            step: percent.div_ceil(100) as u32, // not above `max`
            zero_after: labels.scale_zero.then_some(labels.zero_duration),
        }
    }
}

impl Bounds {
    /// The bounds while alerts keep so many replicas; 0 where none fires.
    pub(crate) fn raised(self, replicas: u32) -> Bounds {
        match replicas {
            0 => self,
            _ => Bounds { min: self.min.max(replicas).min(self.max), zero_after: None, ..self },
        }
    }
}

/// What is seen of a function at one tick.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Signals {
    /// Calls that are served or wait.
    pub(crate) in_flight: usize,
    /// Calls that have ended so far; never falls.
    pub(crate) calls: u64,
    /// How often another gateway came or went so far: calls that it had may be unknown here.
    pub(crate) turnovers: u64,
    /// Replicas that the provider was told to run.
    pub(crate) wanted: u32,
    /// How often that has changed so far: to another number and back is not seen by it.
    pub(crate) changes: u64,
    /// Replicas that take calls.
    pub(crate) ready: u32,
    /// Whether the function is in an update: the number of its replicas stays, unless it is 0.
    pub(crate) is_held: bool,
    /// Whether no replica is to be taken away: another gateway does that, or may have calls that are not known here.
    pub(crate) is_kept: bool,
}

/// What was seen at one tick, to compare a later one with.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// On the clock of watched time, in microseconds.
    at: u64,
    /// Calls in flight times microseconds, up to here.
    area: u64,
    /// Ready replicas times microseconds, up to here.
    ready_area: u64,
    calls: u64,
    in_flight: u32,
}

/// What is remembered of one function from tick to tick.
#[derive(Debug)]
pub(crate) struct Memory {
    now: Instant,
    /// Time that was watched, in microseconds: gaps count up to `MAX_GAP`.
    clock: u64,
    area: u64,
    ready_area: u64,
    /// Calls in flight that count, and ready replicas, from the last look to the next.
    in_flight: u32,
    ready: u32,
    calls: u64,
    turnovers: u64,
    /// The replicas that were wanted, and how often that had changed.
    wanted: (u32, u64),
    /// The newest first; those from `marked` on are not in use.
    marks: [Mark; MARKS],
    marked: usize,
    /// The most that was needed, the newest part of the stable window first.
    highs: [u32; HIGHS],
    /// When the newest part began, on the clock of watched time.
    high_since: u64,
    /// When the stable window began: with the last change but steps down of our own.
    stable_since: u64,
    idle_since: Instant,
    shrunk_at: Instant,
    /// What was asked for last, when, and how many times in vain (0: it was done).
    asked: u32,
    asked_at: Instant,
    tries: u32,
    /// The number that would have been asked for at the last look if the function were not in an update.
    held_back: Option<u32>,
    /// Whether that was told of this update.
    is_hold_told: bool,
}

const fn micros(span: Duration) -> u64 {
    span.as_micros() as u64
}

impl Memory {
    /// Of a function that is seen for the first time, or by a new gateway: nothing is taken away
    /// before it was watched for a stable window, or was without a call for its whole `zero_after`.
    pub(crate) fn new(now: Instant) -> Memory {
        Memory {
            now,
            clock: 0,
            area: 0,
            ready_area: 0,
            in_flight: 0,
            ready: 0,
            calls: 0,
            turnovers: 0,
            wanted: (0, 0),
            marks: [Mark::default(); MARKS],
            marked: 0,
            highs: [0; HIGHS],
            high_since: 0,
            stable_since: 0,
            idle_since: now,
            shrunk_at: now,
            asked: 0,
            asked_at: now,
            tries: 0,
            held_back: None,
            is_hold_told: false,
        }
    }

    /// The number that is not asked for since the function is in an update: once for each update.
    pub(crate) fn take_held_back(&mut self) -> Option<u32> {
        let held_back = self.held_back.filter(|_| !self.is_hold_told)?;
        self.is_hold_told = true;
        Some(held_back)
    }

    /// The number of replicas to ask the provider for; `None` when there is nothing to change, or when
    /// it was asked a moment ago.
    pub(crate) fn decide(&mut self, bounds: &Bounds, signals: &Signals, now: Instant) -> Option<u32> {
        self.watch(signals, now);
        let need = self.need(bounds, signals);
        let goal = match signals.wanted {
            // One that is there still takes the calls.
            0 if signals.in_flight == 0 || signals.ready > 0 => 0,
            0 => bounds.min.max(1),
            wanted if bounds.step == 0 => wanted,
            wanted if need.max(bounds.min) > wanted => need.max(bounds.min),
            wanted if signals.is_kept => wanted,
            wanted => self.lower(bounds, wanted),
        };
        let is_held = signals.is_held && signals.wanted > 0;
        self.held_back = Some(goal).filter(|goal| is_held && *goal != signals.wanted);
        self.is_hold_told &= signals.is_held;
        if is_held || goal == signals.wanted || !self.may_ask(goal) {
            return None;
        }
        self.asked = goal;
        if goal < signals.wanted {
            self.shrunk_at = now;
        }
        Some(goal)
    }

    /// Takes in what is seen.
    fn watch(&mut self, signals: &Signals, now: Instant) {
        let gap = micros(now.saturating_duration_since(self.now).min(MAX_GAP));
        self.now = now;
        self.clock += gap;
        self.area = self.area.wrapping_add(u64::from(self.in_flight) * gap);
        self.ready_area = self.ready_area.wrapping_add(u64::from(self.ready) * gap);
        self.ready = signals.ready;
        let seen = (signals.calls, signals.turnovers);
        if signals.in_flight > 0 || seen != (self.calls, self.turnovers) {
            (self.calls, self.turnovers) = seen;
            self.idle_since = now;
        }
        let wanted = (signals.wanted, signals.changes);
        if wanted != self.wanted {
            self.watch_change(signals.wanted);
        }
        self.wanted = wanted;
        let in_flight = u32::try_from(signals.in_flight).unwrap_or(u32::MAX);
        self.in_flight = in_flight;
        if signals.ready == 0 {
            // What waits says nothing about how many are needed: the windows begin with the first replica.
            self.in_flight = 0;
            self.marked = 0;
            self.highs = [0; HIGHS];
            self.stable_since = self.clock;
        }
        if self.marked == 0 || self.clock - self.marks[0].at >= micros(MARK_EVERY) {
            self.marks.copy_within(..MARKS - 1, 1);
            let Memory { clock: at, area, ready_area, .. } = *self;
            self.marks[0] = Mark { at, area, ready_area, calls: signals.calls, in_flight };
            self.marked = (self.marked + 1).min(MARKS);
        }
    }

    /// Takes in that other replicas are wanted than at the last look, by this gateway or by somebody else, or
    /// were in between.
    fn watch_change(&mut self, wanted: u32) {
        let (before, _) = self.wanted;
        let is_own_step = self.tries > 0 && wanted == self.asked && wanted < before;
        if !is_own_step {
            // Somebody's choice is kept for a stable window; after a step up of our own nothing is taken
            // away within it anyhow.
            self.stable_since = self.clock;
            self.idle_since = self.now;
        }
        // When two were asked for and then three, two may be seen first.
        let is_on_its_way = before < wanted && wanted < self.asked;
        if !is_on_its_way {
            self.tries = 0;
        }
    }

    /// The replicas that are needed by what was in flight in the panic window, up to `bounds.max`.
    fn need(&mut self, bounds: &Bounds, signals: &Signals) -> u32 {
        let used = &self.marks[..self.marked]; // `watch` made one
        let is_old = |mark: &Mark| self.clock - mark.at >= micros(PANIC_WINDOW);
        let oldest = used.iter().position(is_old).unwrap_or(self.marked - 1);
        let (mark, middle) = (used[oldest], used[oldest / 2]);
        let whole = (self.clock - mark.at).max(micros(PANIC_WINDOW)) * u64::from(bounds.target);
        let excess = (TOLERANCE * self.area.wrapping_sub(mark.area)).saturating_sub(whole);
        let need = excess.div_ceil(TOLERANCE * whole);
        let most = |need: u64| need.min(u64::from(bounds.max)) as u32;
        let known = self.kept().max(signals.wanted);
        let need = if most(need) > known {
            most(self.believed(need, (&mark, &middle), signals)).max(known)
        } else {
            most(need)
        };
        if self.clock - self.high_since >= micros(HIGH_EVERY) {
            self.highs.copy_within(..HIGHS - 1, 1);
            self.highs[0] = 0;
            self.high_since = self.clock;
        }
        self.highs[0] = self.highs[0].max(need);
        need
    }

    /// The most that was needed in the stable window.
    fn kept(&self) -> u32 {
        self.highs.iter().fold(0, |most, high| most.max(*high))
    }

    /// The part of a need beyond the known that is not made by calls that pile up until replicas have
    /// started, by what happened since the beginning of the panic window, and since its middle.
    fn believed(&self, need: u64, (mark, middle): (&Mark, &Mark), signals: &Signals) -> u64 {
        let before = mark.in_flight.max(middle.in_flight);
        if self.in_flight < before - before / FALL {
            return 0;
        }
        let ended = signals.calls.saturating_sub(mark.calls);
        if ended == 0 {
            return need; // nobody knows yet how long they take
        }
        let grown = u64::from(self.in_flight.saturating_sub(mark.in_flight));
        let span = (self.clock - mark.at).max(1);
        let ready = self.ready_area.wrapping_sub(mark.ready_area); // times the span
        let keeping_up =
            ready.saturating_mul(ended.saturating_add(grown)).div_ceil(ended.saturating_mul(span));
        let most = CATCH_UP.saturating_mul(keeping_up);
        if PILE_UP * grown > ended {
            return need.min(most);
        }
        let since = self.clock - self.stable_since;
        let is_late = signals.ready < signals.wanted && since < micros(STARTING.1);
        let has_come = ready < u64::from(signals.ready) * span;
        let is_starting = since >= micros(STARTING.0) && (is_late || has_come);
        if is_starting && need > most { 0 } else { need }
    }

    /// The replicas after the next step down; `wanted` when it is not its time.
    fn lower(&self, bounds: &Bounds, wanted: u32) -> u32 {
        if self.now.saturating_duration_since(self.shrunk_at) < SHRINK_PAUSE {
            return wanted;
        }
        if wanted <= bounds.min {
            let idle = self.now.saturating_duration_since(self.idle_since);
            return if bounds.zero_after.is_some_and(|span| idle >= span) { 0 } else { wanted };
        }
        if self.clock - self.stable_since < micros(STABLE_WINDOW) {
            return wanted;
        }
        let kept = self.kept().clamp(bounds.min, bounds.max);
        let step = bounds.step.min((wanted / 2).max(1));
        (wanted - step).max(kept).min(wanted)
    }

    /// Whether `goal` may be asked for now; then it counts as asked for.
    fn may_ask(&mut self, goal: u32) -> bool {
        let since = self.now.saturating_duration_since(self.asked_at);
        if self.tries == 0 || since >= RETRY_FORGET {
            self.tries = 1;
        } else if since >= (RETRY_PAUSE * (1 << (self.tries - 1).min(4))).min(MAX_RETRY_PAUSE) {
            self.tries += 1;
        } else {
            // A need that has grown meanwhile does not wait for the answer; for a second one it does.
            return self.tries == 1 && goal > self.asked;
        }
        self.asked_at = self.now;
        true
    }
}

#[cfg(test)]
mod tests;
