//! The rate of an action that several threads repeat.

use std::fmt;
use std::str::FromStr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// How long the threads work, and their pauses.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many threads.
    pub clients: usize,
    /// No thread begins anew after this time.
    pub span: Duration,
    /// The pause of each thread between two actions.
    pub pause: Duration,
}

/// The result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Actions that succeeded.
    pub done: u64,
    /// Actions that failed.
    pub failed: u64,
    /// From the first begin to the last end, in microseconds.
    pub took_us: u64,
    /// The median time of an action.
    pub p50_us: u64,
    /// The 99th percentile.
    pub p99_us: u64,
}

impl Pace {
    /// Each thread repeats the action that `prepare` makes for it. The action returns whether it succeeded.
    ///
    /// # Panics
    /// When a thread does.
    #[must_use]
    pub fn of<W: FnMut() -> bool>(plan: Plan, prepare: impl Fn() -> W + Sync) -> Pace {
        let barrier = Barrier::new(plan.clients);
        let one = |number: usize| {
            let mut work = prepare();
            let mut took = Vec::with_capacity(1 << 14);
            let mut failed = 0;
            barrier.wait();
            let begin = Instant::now();
            // Threads that pause begin one after the other.
            thread::sleep(plan.pause * number as u32 / plan.clients as u32);
            while begin.elapsed() < plan.span {
                let before = Instant::now();
                match work() {
                    true => took.push(before.elapsed().as_micros() as u64),
                    false => failed += 1,
                }
                thread::sleep(plan.pause);
            }
            (took, failed, begin.elapsed())
        };
        let ends: Vec<_> = thread::scope(|scope| {
            let one = &one;
            let threads: Vec<_> = (0..plan.clients).map(|number| scope.spawn(move || one(number))).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            threads.into_iter().map(join).collect()
        });
        let failed = ends.iter().map(|(_, failed, _)| failed).sum();
        let took = ends.iter().map(|(_, _, took)| *took).max().unwrap_or_default();
        Pace::new(ends.into_iter().flat_map(|(took, _, _)| took).collect(), failed, took)
    }

    /// A pace whose successful actions took `each_us`; from the first begin to the last end it took `took`.
    #[must_use]
    pub fn new(mut each_us: Vec<u64>, failed: u64, took: Duration) -> Pace {
        each_us.sort_unstable();
        let at = |hundredths: usize| each_us.get(each_us.len() * hundredths / 100).copied().unwrap_or(0);
        Pace {
            done: each_us.len() as u64,
            failed,
            took_us: took.as_micros() as u64,
            p50_us: at(50),
            p99_us: at(99),
        }
    }

    /// Actions a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.done as f64 * 1e6 / self.took_us.max(1) as f64
    }
}

/// One line that can be read back.
impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {} {}", self.done, self.failed, self.took_us, self.p50_us, self.p99_us)
    }
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Pace, String> {
        let numbers: Vec<u64> = text.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        match numbers[..] {
            [done, failed, took_us, p50_us, p99_us] => Ok(Pace { done, failed, took_us, p50_us, p99_us }),
            _ => Err(format!("expected five numbers, got `{text}`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_and_ordered() {
        let pace = Pace::new((1..=200).rev().collect(), 3, Duration::from_secs(2));
        assert_eq!((pace.done, pace.failed, pace.p50_us, pace.p99_us), (200, 3, 101, 199));
        assert!((pace.rate() - 100.0).abs() < 0.01);
        assert_eq!(pace.to_string().parse(), Ok(pace));
        assert!("1 2 3".parse::<Pace>().is_err());
        assert_eq!(Pace::new(Vec::new(), 0, Duration::ZERO).p99_us, 0);
    }

    #[test]
    fn every_thread_works_for_the_span() {
        let plan = Plan { clients: 3, span: Duration::from_millis(600), pause: Duration::from_millis(10) };
        let pace = Pace::of(plan, || {
            let mut times = 0;
            move || {
                times += 1;
                times > 1
            }
        });
        assert_eq!(pace.failed, 3, "{pace:?}");
        assert!(pace.done >= 3 && pace.took_us >= 600_000, "{pace:?}");
    }
}
