//! The look at all services and their tasks, which finds what no event has told. It is cut into steps, each one question,
//! so that it costs a bounded number of bytes a second: first the services, then the tasks of so many services at a time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Between two looks: no more often, and no more seldom.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MAX_INTERVAL: Duration = Duration::from_secs(30);

/// The same while events of nodes tell that tasks move.
const MIN_HOT_INTERVAL: Duration = Duration::from_millis(250);

/// Bytes a second that are read as long as the longest interval allows it.
const RATE: usize = 64 * 1024;
const HOT_RATE: usize = 2 * 1024 * 1024;

/// Services that are read in one step: all, unless their documents have more bytes than this the last time.
const MAX_SERVICES_BYTES: usize = 256 * 1024;

/// The most services whose tasks are read in one step.
pub(super) const MAX_CHUNK: usize = 32;

/// The first characters of the engine's ids, which are spread evenly.
const FIRST: &str = "0123456789abcdefghijklmnopqrstuvwxyz";

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The services whose ids begin with this character; all without one.
    Services(Option<char>),
    /// The tasks of these services.
    Tasks(Vec<Arc<str>>),
}

/// How often looks are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Haste {
    /// Events tell most of what happens.
    Idle,
    /// Tasks move between nodes, of which nothing else tells.
    Hot,
    /// No events tell anything.
    Blind,
}

/// Where a look is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It has not begun.
    Waiting,
    Services,
    Tasks,
}

/// The look that is under way, or the next one.
pub(super) struct Look {
    phase: Phase,
    /// The steps that are to come.
    steps: VecDeque<Step>,
    /// When the next step is due.
    next: Instant,
    began: Instant,
    /// Whether steps follow each other without a pause.
    is_urgent: bool,
    /// This look, as far as it has come, and the last one.
    this: Cost,
    last: Cost,
}

/// What a look takes.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// Steps that read services, and steps that read tasks.
    steps: [u32; 2],
    services_bytes: usize,
    bytes: usize,
}

impl Look {
    /// A look that is due at once.
    pub(super) fn new(now: Instant) -> Look {
        let (this, last) = (Cost::default(), Cost::default());
        let steps = VecDeque::new();
        Look { phase: Phase::Waiting, steps, next: now, began: now, is_urgent: true, this, last }
    }

    /// Begins again from the start at this time, and hurries.
    pub(super) fn restart(&mut self, at: Instant) {
        self.steps.clear();
        (self.phase, self.next, self.is_urgent) = (Phase::Waiting, at, true);
    }

    /// Has a look that has not begun come now; a look that is under way goes on without pauses.
    pub(super) fn hurry(&mut self, now: Instant) {
        (self.next, self.is_urgent) = (self.next.min(now), true);
    }

    /// When the next step is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn has_begun(&self) -> bool {
        self.phase != Phase::Waiting
    }

    /// Begins with the services.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.phase, self.began, self.this) = (Phase::Services, now, Cost::default());
        self.steps = match self.last.services_bytes {
            0..=MAX_SERVICES_BYTES => VecDeque::from([Step::Services(None)]),
            _ => FIRST.chars().map(|first| Step::Services(Some(first))).collect(),
        };
    }

    /// The next step.
    pub(super) fn take(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Whether all services were read, and the look needs to be told whose tasks come next.
    pub(super) fn needs_tasks(&self) -> bool {
        self.phase == Phase::Services && self.steps.is_empty()
    }

    /// Goes on with the tasks of these services.
    pub(super) fn add_tasks(&mut self, ids: &[Arc<str>], haste: Haste) {
        let seconds = usize::try_from(self.interval(haste).as_secs()).unwrap_or(1).max(1);
        let chunks = ids.chunks(ids.len().div_ceil(seconds).clamp(1, MAX_CHUNK));
        self.phase = Phase::Tasks;
        self.steps = chunks.map(|chunk| Step::Tasks(chunk.to_vec())).collect();
    }

    /// A step has read so many bytes; the next one may follow after a pause.
    pub(super) fn was_read(&mut self, step: &Step, bytes: usize, (haste, now): (Haste, Instant)) {
        let is_of_tasks = matches!(step, Step::Tasks(_));
        self.this.steps[usize::from(is_of_tasks)] += 1;
        self.this.bytes += bytes;
        if !is_of_tasks {
            self.this.services_bytes += bytes;
        }
        let steps = self.steps_in_all();
        self.next = if self.is_urgent { now } else { now + self.interval(haste) / steps };
    }

    /// The steps of this look. How many read tasks, the last look tells until the services were read.
    fn steps_in_all(&self) -> u32 {
        let [of_services, of_tasks] = self.this.steps;
        let rest = u32::try_from(self.steps.len()).unwrap_or(u32::MAX);
        let later = if self.phase == Phase::Services { self.last.steps[1] } else { 0 };
        of_services + of_tasks + rest + later
    }

    /// Whether all steps were taken.
    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Tasks && self.steps.is_empty()
    }

    /// Ends, and waits for the next look.
    pub(super) fn end(&mut self, haste: Haste) {
        self.last = self.this;
        (self.phase, self.is_urgent) = (Phase::Waiting, false);
        self.next = self.next.max(self.began + self.interval(haste));
    }

    /// From the start of one look to the start of the next.
    fn interval(&self, haste: Haste) -> Duration {
        let bytes = self.this.bytes.max(self.last.bytes);
        let at = |rate: usize| Duration::from_secs_f64(bytes as f64 / rate as f64);
        match haste {
            Haste::Blind => MIN_INTERVAL,
            Haste::Hot => at(HOT_RATE).clamp(MIN_HOT_INTERVAL, MAX_INTERVAL),
            Haste::Idle => at(RATE).clamp(MIN_INTERVAL, MAX_INTERVAL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all steps of a look over services and tasks of so many bytes each; the steps, and when the next look begins.
    fn whole(
        look: &mut Look,
        (services, bytes): (usize, usize),
        haste: Haste,
    ) -> (Vec<(Step, Instant)>, Instant) {
        let ids: Vec<Arc<str>> = (0..services).map(|number| number.to_string().into()).collect();
        let mut taken = Vec::new();
        look.begin(look.next());
        while !look.is_over() {
            if look.needs_tasks() {
                look.add_tasks(&ids, haste);
                continue;
            }
            let (step, now) = (look.take().unwrap(), look.next());
            let read = match &step {
                Step::Services(None) => services * bytes,
                Step::Services(Some(_)) => services * bytes / FIRST.len(),
                Step::Tasks(ids) => ids.len() * bytes,
            };
            look.was_read(&step, read, (haste, now));
            taken.push((step, now));
        }
        look.end(haste);
        (taken, look.next())
    }

    #[test]
    fn a_small_swarm_is_read_every_second_in_two_steps() {
        let start = Instant::now();
        let mut look = Look::new(start);
        for _ in 0..2 {
            let (steps, next) = whole(&mut look, (10, 2000), Haste::Idle);
            assert_eq!((steps.len(), next), (2, steps[0].1 + MIN_INTERVAL));
        }
    }

    #[test]
    fn a_large_swarm_is_read_every_half_minute_in_steps_that_are_spread() {
        const BYTES: usize = 2000;
        let start = Instant::now();
        let mut look = Look::new(start);
        let (steps, next) = whole(&mut look, (5000, BYTES), Haste::Idle);
        assert_eq!(
            (steps.len(), steps[0].0.clone()),
            (1 + 5000_usize.div_ceil(MAX_CHUNK), Step::Services(None))
        );
        assert!(steps.iter().all(|(_, at)| *at == start), "the first look does not pause");
        assert_eq!(next, start + MAX_INTERVAL);
        let began = look.next();
        let (steps, next) = whole(&mut look, (5000, BYTES), Haste::Idle);
        assert_eq!(steps.len(), FIRST.len() + 5000_usize.div_ceil(MAX_CHUNK));
        assert!(next >= began + MAX_INTERVAL && next < began + MAX_INTERVAL + MIN_INTERVAL);
        let in_one_second = steps.windows(8).all(|some| some[7].1 - some[0].1 > MIN_INTERVAL);
        assert!(in_one_second, "8 steps of less than 300 KB take longer than a second");
    }

    #[test]
    fn a_look_that_is_restarted_or_hurried_does_not_pause() {
        let start = Instant::now();
        let mut look = Look::new(start);
        for _ in 0..2 {
            whole(&mut look, (1000, 2000), Haste::Idle);
        }
        look.begin(look.next());
        look.take();
        look.restart(start);
        assert!(!look.has_begun() && look.next() == start);
        let (steps, _) = whole(&mut look, (1000, 2000), Haste::Idle);
        assert!(steps.iter().all(|(_, at)| *at == start));
        look.hurry(start + MIN_INTERVAL);
        assert_eq!(look.next(), start + MIN_INTERVAL);
        let (_, next) = whole(&mut look, (1000, 2000), Haste::Hot);
        let interval = next - (start + MIN_INTERVAL);
        assert!(interval > MIN_INTERVAL && interval < 3 * MIN_INTERVAL, "{interval:?}");
    }
}
