//! The targets of fwatchdog, and which are met.

use std::fmt;

use bench::table::{Row, find};

use crate::pauses;

/// Of the floor's rate, and µs of CPU above it: `fork`, `/bin/cat`, four clients.
const MIN_RATE: f64 = 0.92;
const MAX_CPU_OVER: f64 = 80.0;
const FORK_CLIENTS: usize = 4;

/// The answer of a process from `prewarm`, in ms, and how much faster it is than that of a new process.
const MAX_WARM_MS: f64 = 2.0;
const MIN_WARM_GAIN: f64 = 10.0;

#[derive(Default)]
pub(crate) struct Targets(Vec<Target>);

struct Target {
    what: String,
    measured: f64,
    /// The target, and whether it is a maximum or a minimum.
    limit: f64,
    is_most: bool,
}

impl Targets {
    fn at_least(&mut self, what: impl Into<String>, measured: f64, limit: f64) {
        self.0.push(Target { what: what.into(), measured, limit, is_most: false });
    }

    fn at_most(&mut self, what: impl Into<String>, measured: f64, limit: f64) {
        self.0.push(Target { what: what.into(), measured, limit, is_most: true });
    }

    pub(crate) fn fork(&mut self, rows: &[Row]) {
        let row = |name| find(rows, name, FORK_CLIENTS);
        if let (Some(fork), Some(floor)) = (row("fork"), row("floor")) {
            self.at_least(
                "fork, /bin/cat, 4 clients: rate of the floor's",
                fork.rate_of(floor).median,
                MIN_RATE,
            );
            let over = fork.cpu_over(floor).median;
            self.at_most("fork, /bin/cat, 4 clients: µs of CPU above the floor", over, MAX_CPU_OVER);
        }
    }

    pub(crate) fn pauses(&mut self, rows: &[Row]) {
        for clients in pauses::CLIENTS {
            let p50 = |name| Some(find(rows, name, clients)?.spread(|run| run.p50_us).median / 1e3);
            if let (Some(warm), Some(cold)) = (p50("prewarm"), p50("fork-nocgi")) {
                let what = format!("prewarm=8, Python, {clients} pausing clients");
                self.at_most(format!("{what}: p50 in ms"), warm, MAX_WARM_MS);
                self.at_least(format!("{what}: times faster than without"), cold / warm, MIN_WARM_GAIN);
            }
        }
    }

    pub(crate) fn http(&mut self, behind: &str, rows: &[Row]) {
        for http in rows.iter().filter(|row| row.subject == "http") {
            if let Some(nginx) = find(rows, "nginx", http.clients) {
                let what = format!("http before {behind}, {} clients: µs of CPU above nginx", http.clients);
                self.at_most(what, http.cpu_over(nginx).median, 0.0);
            }
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | measured | target | |\n|---|---|---|---|")?;
        for Target { what, measured, limit, is_most } in &self.0 {
            let is_met = if *is_most { measured <= limit } else { measured >= limit };
            let (verdict, bound) = (if is_met { "ok" } else { "MISSED" }, if *is_most { "≤" } else { "≥" });
            writeln!(f, "| {what} | {measured:.2} | {bound} {limit} | {verdict} |")?;
        }
        Ok(())
    }
}
