//! The result of one run against one subject.

use std::time::Duration;

use crate::pace::Pace;

/// One run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Good answers.
    pub requests: u64,
    /// Other answers, and connections that failed.
    pub failures: u64,
    /// Requests a second.
    pub rate: f64,
    /// The time within which half of the answers came, in microseconds.
    pub p50_us: f64,
    /// The time within which 99 of 100 answers came, in microseconds.
    pub p99_us: f64,
    /// Microseconds of CPU that the subject's processes spent on each request.
    pub cpu_us: f64,
    /// Resident memory of the subject's processes, in bytes.
    pub rss: u64,
}

impl Run {
    /// A run at this pace that took `cpu` in all.
    #[must_use]
    pub fn new(pace: Pace, cpu: Duration, rss: u64) -> Run {
        Run {
            requests: pace.done,
            failures: pace.failed,
            rate: pace.rate(),
            p50_us: pace.p50_us as f64,
            p99_us: pace.p99_us as f64,
            cpu_us: cpu.as_secs_f64() * 1e6 / pace.done.max(1) as f64,
            rss,
        }
    }
    /// A run that failed.
    #[must_use]
    pub fn failed() -> Run {
        let unknown = f64::NAN;
        Run {
            requests: 0,
            failures: 1,
            rate: unknown,
            p50_us: unknown,
            p99_us: unknown,
            cpu_us: unknown,
            rss: 0,
        }
    }
}
