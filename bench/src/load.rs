//! Load from `wrk`, and what it cost the process that served it.

use std::process::Command;
use std::time::Duration;

use testkit::Process;
use testkit::proc;

use crate::run::Run;

/// Sends requests to `url` over `clients` connections for `span`, whole seconds, each as fast as it is answered.
/// `server` are the processes whose cost it is. None of them may end during a run, or it is missed.
///
/// # Panics
/// When `wrk` is not installed or says something unknown.
#[must_use]
pub fn run(server: &[u32], url: &str, clients: usize, span: Duration) -> Run {
    let before = cpu(server);
    let output = Command::new("wrk")
        .args([
            "--threads=1",
            &format!("--connections={clients}"),
            &format!("--duration={}s", span.as_secs()),
        ])
        .args(["--latency", "--timeout=10s", url])
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
        p50_us: quantile_us(&report, "50%").unwrap_or(0.0),
        p99_us: quantile_us(&report, "99%").unwrap_or(0.0),
        cpu_us: spent.as_secs_f64() * 1e6 / requests.max(1) as f64,
        rss: server.iter().copied().map(proc::rss_bytes).sum(),
    }
}

/// A server and its workers.
#[must_use]
pub fn tree(server: &Process) -> Vec<u32> {
    let mut pids = server.descendants();
    pids.push(server.pid());
    pids
}

fn cpu(server: &[u32]) -> Duration {
    server.iter().copied().filter_map(proc::stat).map(|stat| stat.cpu).sum()
}

/// A line such as `     99%    1.23ms`.
fn quantile_us(report: &str, name: &str) -> Option<f64> {
    let text = report.lines().find_map(|line| line.trim().strip_prefix(name))?.trim();
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let factor = match &text[unit..] {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(text[..unit].parse::<f64>().ok()? * factor)
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

    #[test]
    fn quantiles_are_read() {
        let report = "  Latency Distribution\n     50%  112.00us\n     75%    1.50ms\n     99%    1.02s \n";
        assert_eq!(quantile_us(report, "50%"), Some(112.0));
        assert_eq!(quantile_us(report, "75%"), Some(1500.0));
        assert_eq!(quantile_us(report, "99%"), Some(1_020_000.0));
        assert_eq!(quantile_us("", "99%"), None);
    }
}
