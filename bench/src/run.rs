//! What one run against one subject came to.

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
    /// Resident memory of the subject's processes at the end, in bytes; shared pages count for each.
    pub rss: u64,
}
