//! How many replicas a function should have: from what was seen of it to a number, without I/O and without a clock.
//!
//! Up at once, by an average of half a second; down slowly, to what a whole minute needed at most.

use std::time::{Duration, Instant};

use crate::labels::Labels;

/// The time constant of the average that says how many replicas are needed now: a load that begins at once counts for four
/// fifths after 0.8 s.
const PANIC_WINDOW: Duration = Duration::from_millis(500);

/// The span whose highest need is kept.
const STABLE_WINDOW: Duration = Duration::from_secs(60);

/// Between two steps down.
const STEP_PAUSE: Duration = Duration::from_secs(10);

/// What is asked for once more where it has not come: after this, then after twice as long, up to the second.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// So much of a replica's target more is no reason for one more replica, and so much less none for one less: what goes a
/// little up and down must not take the replicas along.
const TOLERANCE: f64 = 0.1;

/// The pieces of the stable window, each with the highest need in it.
const PIECES: usize = 12;

/// What one function asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    min: u32,
    max: u32,
    target: u32,
    /// The most replicas that are taken away at once; 0 where the number is left alone.
    step: u32,
    /// After so long without a call it goes to nothing, if it may.
    zero_after: Option<Duration>,
}

impl From<&Labels> for Bounds {
    fn from(labels: &Labels) -> Bounds {
        Bounds {
            min: labels.scale_min,
            max: labels.scale_max,
            target: labels.scale_target,
            step: (labels.scale_max * labels.scale_factor).div_ceil(100),
            zero_after: labels.scale_zero.then_some(labels.zero_duration),
        }
    }
}

/// What is seen of a function at one time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signals {
    /// Calls that are served or wait.
    pub(crate) in_flight: usize,
    /// Calls that have ended so far.
    pub(crate) calls: u64,
    /// Replicas that should run.
    pub(crate) wanted: u32,
    /// Replicas that can be called.
    pub(crate) ready: u32,
    /// False while replicas are being replaced.
    pub(crate) may_shrink: bool,
}

/// What is remembered of a function.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    seen: Instant,
    /// The average of calls in flight over the panic window.
    average: f64,
    /// The highest need of each piece of the stable window, the present one first.
    highest: [u32; PIECES],
    piece_since: Instant,
    /// How many of the pieces there are.
    pieces: usize,
    last_step: Instant,
    last_call: Instant,
    calls: u64,
    wanted: Option<u32>,
    asked: Option<Asked>,
}

/// What was asked for and has not come.
#[derive(Clone, Copy, Debug)]
struct Asked {
    to: u32,
    at: Instant,
    pause: Duration,
}

impl Memory {
    /// Nothing is known of what was before `now`.
    pub(crate) fn new(now: Instant) -> Memory {
        Memory {
            seen: now,
            average: 0.0,
            highest: [0; PIECES],
            piece_since: now,
            pieces: 1,
            last_step: now,
            last_call: now,
            calls: 0,
            wanted: None,
            asked: None,
        }
    }

    /// The replicas to ask for; `None` where it is well as it is, or was asked for just now.
    pub(crate) fn decide(&mut self, bounds: &Bounds, signals: &Signals, now: Instant) -> Option<u32> {
        self.notice_change(signals, now);
        if signals.in_flight > 0 || signals.calls != self.calls {
            (self.calls, self.last_call) = (signals.calls, now);
        }
        let need = self.need(bounds, signals, now);
        let wish = self.wish(bounds, signals, (need, now));
        self.ask(wish, signals.wanted, now)
    }

    /// What somebody else has set is where it goes on from.
    fn notice_change(&mut self, signals: &Signals, now: Instant) {
        let is_ours = self.asked.is_some_and(|asked| asked.to == signals.wanted);
        if self.wanted != Some(signals.wanted) {
            if !is_ours {
                self.forget(now);
                self.last_call = now;
            }
            self.asked = None;
        }
        self.wanted = Some(signals.wanted);
    }

    /// Begins the stable window anew.
    fn forget(&mut self, now: Instant) {
        (self.highest, self.pieces, self.piece_since) = ([0; PIECES], 1, now);
    }

    /// The replicas that are needed now. While there is none to be called nothing is known: what waits then is not a load.
    fn need(&mut self, bounds: &Bounds, signals: &Signals, now: Instant) -> u32 {
        let since = now.saturating_duration_since(std::mem::replace(&mut self.seen, now));
        if signals.ready == 0 {
            self.average = 0.0;
            self.forget(now);
            return 0;
        }
        let in_flight = signals.in_flight as f64;
        let weight = (since.as_secs_f64() / PANIC_WINDOW.as_secs_f64()).min(1.0);
        self.average += (in_flight - self.average) * weight;
        let targets = self.average / f64::from(bounds.target);
        let within = |need: f64| (need.ceil().max(0.0) as u32).clamp(bounds.min, bounds.max);
        let piece = STABLE_WINDOW / PIECES as u32;
        while now.saturating_duration_since(self.piece_since) >= piece {
            self.piece_since += piece;
            self.highest.rotate_right(1);
            self.highest[0] = 0;
            self.pieces = (self.pieces + 1).min(PIECES + 1);
        }
        // Between the two nothing moves.
        self.highest[0] = self.highest[0].max(within(targets + TOLERANCE));
        within(targets - TOLERANCE)
    }

    /// The number of replicas that it should have.
    fn wish(&mut self, bounds: &Bounds, signals: &Signals, (need, now): (u32, Instant)) -> u32 {
        let wanted = signals.wanted;
        if wanted == 0 {
            return if signals.in_flight > 0 { bounds.min.max(1) } else { 0 };
        }
        if signals.ready == 0 || bounds.step == 0 {
            return wanted;
        }
        let up = need.max(bounds.min);
        if up > wanted {
            return up;
        }
        let has_rested = now.saturating_duration_since(self.last_step) >= STEP_PAUSE;
        if !signals.may_shrink || !has_rested {
            return wanted;
        }
        let is_idle = |span| now.saturating_duration_since(self.last_call) >= span;
        if wanted <= bounds.min && bounds.zero_after.is_some_and(is_idle) {
            return 0;
        }
        let highest = self.highest.iter().copied().max().unwrap_or(0).max(bounds.min);
        let is_known = self.pieces > PIECES;
        if !is_known || highest >= wanted {
            return wanted;
        }
        highest.max(wanted - bounds.step.min(wanted.div_ceil(2)))
    }

    fn ask(&mut self, wish: u32, wanted: u32, now: Instant) -> Option<u32> {
        if wish == wanted {
            return None;
        }
        let pause = match self.asked {
            // What was asked for last has not come: another number would not either.
            Some(asked) if now.saturating_duration_since(asked.at) < asked.pause => return None,
            Some(asked) => (asked.pause * 2).min(LAST_PAUSE),
            None => FIRST_PAUSE,
        };
        self.asked = Some(Asked { to: wish, at: now, pause });
        if wish < wanted {
            self.last_step = now;
        }
        Some(wish)
    }
}
