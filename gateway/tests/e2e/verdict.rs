//! What became of calls while this and that happened: one table, and what should not be in it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::load::{Notes, Outcome};

/// Breaches that are told one by one.
const MAX_TOLD: usize = 60;

/// What a phase may do to calls in the hands of those that it harms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Nothing.
    None,
    /// A process dies, and its system says so: 502.
    Task,
    /// A whole node is away, and nothing says so: 504.
    Node,
}

/// A stretch of time in which one thing happens. The next one begins where it ends.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) harm: Harm,
    pub(crate) began: Instant,
    /// It happens from here…
    pub(crate) acted: Instant,
    /// … to here, when all is well again.
    pub(crate) settled: Instant,
    pub(crate) ended: Instant,
    /// The containers that it harms, as they know themselves.
    pub(crate) harmed: Vec<String>,
    /// Others that failed all the same, and why.
    pub(crate) failed: Vec<(String, String)>,
}

impl Phase {
    /// Whether this call had to fail: it was in the hands of a container that is harmed.
    fn explains(&self, outcome: &Outcome, places: &[String]) -> bool {
        let is_due = match (self.harm, outcome.status) {
            (Harm::None, _) => false,
            (_, 502) => outcome.kind == "upstream_closed",
            (Harm::Node, 504) => outcome.kind.starts_with("timeout_"),
            _ => false,
        };
        let is_its_own = places.iter().all(|place| self.harmed.contains(place));
        let was_in_hand = outcome.began <= self.settled && outcome.ended >= self.acted;
        is_due && is_its_own && was_in_hand
    }
}

/// The calls that began in the phases of one name.
#[derive(Default)]
struct Row {
    sent: usize,
    answered: usize,
    refused: usize,
    explained: usize,
    lost: usize,
    twice: usize,
    never: usize,
    slowest: Duration,
    /// Of the refused ones, by method.
    kinds: BTreeMap<String, usize>,
}

/// The table, the tasks that failed by themselves, and every call that breaks a rule.
pub(crate) struct Verdict {
    rows: Vec<(&'static str, Row)>,
    failed: Vec<String>,
    pub(crate) wrong: Vec<String>,
}

impl Verdict {
    /// Each call counts where it began. Wrong is one that failed and is not explained, a POST that was executed
    /// more than once, and an answer of a call that was not executed.
    pub(crate) fn of(phases: &[Phase], outcomes: &[Outcome], notes: &Notes) -> Verdict {
        let mut verdict = Verdict { rows: Vec::new(), failed: Vec::new(), wrong: Vec::new() };
        for phase in phases {
            let line = |(container, reason): &(String, String)| {
                format!("{}: {container} failed by itself: {reason}", phase.name)
            };
            verdict.failed.extend(phase.failed.iter().map(line));
        }
        for outcome in outcomes {
            let after = phases.partition_point(|phase| phase.began <= outcome.began);
            verdict.count(&phases[after.saturating_sub(1)], outcome, notes.of(&outcome.id));
        }
        // As they came.
        let place = |name| phases.iter().position(|phase| phase.name == name);
        verdict.rows.sort_by_key(|(name, _)| place(*name));
        verdict
    }

    fn row(&mut self, name: &'static str) -> &mut Row {
        let place = self.rows.iter().position(|(have, _)| *have == name).unwrap_or_else(|| {
            self.rows.push((name, Row::default()));
            self.rows.len() - 1
        });
        &mut self.rows[place].1
    }

    fn count(&mut self, phase: &Phase, outcome: &Outcome, places: &[String]) {
        let row = self.row(phase.name);
        row.sent += 1;
        row.slowest = row.slowest.max(outcome.took());
        let mut breach = None;
        match outcome.status {
            200 if places.is_empty() => {
                row.never += 1;
                breach = Some("never executed");
            }
            200 => row.answered += 1,
            0 => {
                row.lost += 1;
                breach = Some("lost");
            }
            status => {
                row.refused += 1;
                *row.kinds.entry(format!("{status} {} {}", outcome.kind, outcome.method)).or_default() += 1;
                if phase.explains(outcome, places) {
                    row.explained += 1;
                } else {
                    breach = Some("not explained");
                }
            }
        }
        if outcome.method == "POST" && places.len() > 1 {
            row.twice += 1;
            breach = Some("executed twice");
        }
        if let Some(breach) = breach {
            self.wrong.push(format!(
                "{}: {breach}: {} {} {} {:+.3} s after it, took {:?}, ran at {places:?} of {:?}: {}",
                phase.name,
                outcome.method,
                outcome.id,
                outcome.status,
                seconds_from(phase.acted, outcome.began),
                outcome.took(),
                phase.harmed,
                outcome.said
            ));
        }
    }
}

fn seconds_from(from: Instant, to: Instant) -> f64 {
    if to >= from { (to - from).as_secs_f64() } else { -(from - to).as_secs_f64() }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| phase | sent | answered | refused | of these explained | lost | POST twice | never executed | slowest |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        let mut sum = Row::default();
        for (name, row) in &self.rows {
            row.line(f, name)?;
            sum.add(row);
        }
        sum.line(f, "all")?;
        for (name, row) in self.rows.iter().filter(|(_, row)| !row.kinds.is_empty()) {
            writeln!(f, "{name}: {:?}", row.kinds)?;
        }
        for line in &self.failed {
            writeln!(f, "{line}")?;
        }
        for line in self.wrong.iter().take(MAX_TOLD) {
            writeln!(f, "{line}")?;
        }
        match self.wrong.len().saturating_sub(MAX_TOLD) {
            0 => Ok(()),
            more => writeln!(f, "and {more} more"),
        }
    }
}

impl Row {
    fn line(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        let Row { sent, answered, refused, explained, lost, twice, never, slowest, .. } = self;
        let slowest = slowest.as_secs_f64();
        writeln!(
            f,
            "| {name} | {sent} | {answered} | {refused} | {explained} | {lost} | {twice} | {never} | {slowest:.1} s |"
        )
    }

    fn add(&mut self, other: &Row) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.refused += other.refused;
        self.explained += other.explained;
        self.lost += other.lost;
        self.twice += other.twice;
        self.never += other.never;
        self.slowest = self.slowest.max(other.slowest);
    }
}
