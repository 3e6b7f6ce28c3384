//! Load from `wrk`, and what it cost the process that served it.

use std::process::Command;
use std::time::Duration;

use testkit::Process;
use testkit::proc;

/// One run of `wrk` against one server.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Answers with status 2xx or 3xx.
    pub requests: u64,
    /// Answers with another status, and connections that failed.
    pub failures: u64,
    /// Requests a second.
    pub rate: f64,
    /// Microseconds of CPU that the server's processes spent on each request.
    pub cpu_us: f64,
    /// Resident memory of the server's processes at the end, in bytes; shared pages count for each.
    pub rss: u64,
}

/// Sends requests to `url` over `clients` connections for `span`, each as fast as it is answered.
///
/// # Panics
/// When `wrk` is not installed or says something unknown.
#[must_use]
pub fn run(server: &Process, url: &str, clients: usize, span: Duration) -> Run {
    let before = cpu(server);
    let output = Command::new("wrk")
        .args([
            "--threads=1",
            &format!("--connections={clients}"),
            &format!("--duration={}s", span.as_secs()),
        ])
        .args(["--timeout=10s", url])
        .output()
        .unwrap_or_else(|error| panic!("wrk: {error}: is it installed?"));
    let report = String::from_utf8_lossy(&output.stdout);
    let Some((requests, failures)) = parse(&report) else {
        panic!("wrk {url}: {}\n{report}{}", output.status, String::from_utf8_lossy(&output.stderr));
    };
    let spent = cpu(server).saturating_sub(before);
    Run {
        requests,
        failures,
        rate: requests as f64 / span.as_secs_f64(),
        cpu_us: spent.as_secs_f64() * 1e6 / requests.max(1) as f64,
        rss: tree(server).into_iter().map(proc::rss_bytes).sum(),
    }
}

fn tree(server: &Process) -> Vec<u32> {
    let mut pids = server.descendants();
    pids.push(server.pid());
    pids
}

/// CPU time of the server and its workers. None of them ends during a run, so none is missed.
fn cpu(server: &Process) -> Duration {
    tree(server).into_iter().filter_map(proc::stat).map(|stat| stat.cpu).sum()
}

/// Good and bad answers from wrk's report.
fn parse(report: &str) -> Option<(u64, u64)> {
    let line = |start: &str| report.lines().map(str::trim).find(|line| line.contains(start));
    let total: u64 = line(" requests in ")?.split(' ').next()?.parse().ok()?;
    let bad: u64 =
        line("Non-2xx or 3xx responses:").map_or(Some(0), |line| line.rsplit(' ').next()?.parse().ok())?;
    let errors = line("Socket errors:").map_or(0, |line| {
        line.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u64>().ok()).sum()
    });
    Some((total.saturating_sub(bad), bad + errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let good =
            "Running 2s test\n  1 threads\n  39500 requests in 2.00s, 6.2MB read\nRequests/sec:  19750\n";
        assert_eq!(parse(good), Some((39500, 0)));
        let bad = "  100 requests in 2.00s, 1MB read\n  Socket errors: connect 1, read 2, write 3, timeout 4\n  \
            Non-2xx or 3xx responses: 30\n";
        assert_eq!(parse(bad), Some((70, 40)));
        assert_eq!(parse("unable to connect\n"), None);
    }
}
