//! Tables of subjects, each compared with a base.

use std::fmt::Write as _;

use crate::interrupt;
use crate::run::Run;
use crate::spread::Spread;

/// The rounds of one subject.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name.
    pub subject: String,
    /// How many clients it had.
    pub clients: usize,
    /// The results of the rounds, at least one.
    pub runs: Vec<Run>,
}

impl Row {
    /// One figure over the rounds.
    #[must_use]
    pub fn spread(&self, figure: impl Fn(&Run) -> f64) -> Spread {
        Spread::of(self.runs.iter().map(figure))
    }

    /// Its rate as a share of that of `base`, round by round.
    #[must_use]
    pub fn rate_of(&self, base: &Row) -> Spread {
        Spread::of(self.runs.iter().zip(&base.runs).map(|(run, base)| run.rate / base.rate))
    }

    /// Its CPU time for each request above that of `base`, in microseconds, round by round.
    #[must_use]
    pub fn cpu_over(&self, base: &Row) -> Spread {
        Spread::of(self.runs.iter().zip(&base.runs).map(|(run, base)| run.cpu_us - base.cpu_us))
    }
}

/// Runs every subject once in each of `count` rounds; another subject begins each round. All subjects have the same
/// number of runs, also when the program is interrupted.
#[must_use]
pub fn rounds<S>(
    count: usize,
    clients: usize,
    subjects: &[(String, S)],
    mut run: impl FnMut(&str, &S) -> Run,
) -> Vec<Row> {
    let row = |(name, _): &(String, S)| Row { subject: name.clone(), clients, runs: Vec::new() };
    let mut rows: Vec<Row> = subjects.iter().map(row).collect();
    for round in 0..count {
        for turn in 0..subjects.len() {
            let place = (round + turn) % subjects.len();
            let (name, subject) = &subjects[place];
            let run = run(name, subject);
            if interrupt::seen() {
                let whole = |row: &mut Row| row.runs.truncate(round);
                rows.iter_mut().for_each(whole);
                return rows;
            }
            rows[place].runs.push(run);
        }
    }
    rows
}

/// The row of a subject with so many clients.
#[must_use]
pub fn find<'a>(rows: &'a [Row], subject: &str, clients: usize) -> Option<&'a Row> {
    rows.iter().find(|row| row.subject == subject && row.clients == clients)
}

/// A Markdown table. Each row is compared with the row of `base` that has as many clients.
#[must_use]
pub fn markdown(rows: &[Row], base: &str) -> String {
    let mut text = format!(
        "| clients | subject | requests/s | of {base} | p50 ms | p99 ms | µs CPU/request | above {base} | RSS KiB |\n\
        |---|---|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        let (mut rate_of, mut cpu_over) = (String::from("-"), String::from("-"));
        if let Some(base) = find(rows, base, row.clients).filter(|_| row.subject != base) {
            rate_of = format!("{:.2}", row.rate_of(base));
            cpu_over = row.cpu_over(base).to_string();
        }
        let millis = |figure: fn(&Run) -> f64| format!("{:.2}", row.spread(figure).median / 1e3);
        let (p50, p99) = (millis(|run| run.p50_us), millis(|run| run.p99_us));
        let (rate, cpu) = (row.spread(|run| run.rate), row.spread(|run| run.cpu_us));
        let rss = match row.runs.iter().map(|run| run.rss).max() {
            None | Some(0) => "-".to_owned(),
            Some(bytes) => (bytes / 1024).to_string(),
        };
        let (clients, subject) = (row.clients, &row.subject);
        let _ = writeln!(
            text,
            "| {clients} | {subject} | {rate} | {rate_of} | {p50} | {p99} | {cpu} | {cpu_over} | {rss} |"
        ); // a String cannot fail
    }
    for row in rows {
        let failures: u64 = row.runs.iter().map(|run| run.failures).sum();
        if failures > 0 {
            let _ = writeln!(text, "\n{failures} failures: {}, {} clients", row.subject, row.clients);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(subject: &str, runs: &[(f64, f64)]) -> Row {
        let run = |&(rate, cpu_us): &(f64, f64)| Run {
            requests: 1,
            failures: u64::from(rate < 500.0),
            rate,
            p50_us: 1500.0,
            p99_us: 2000.0,
            cpu_us,
            rss: 2048,
        };
        Row { subject: subject.to_owned(), clients: 4, runs: runs.iter().map(run).collect() }
    }

    #[test]
    fn rounds_are_compared_one_by_one() {
        let rows = [
            row("floor", &[(1000.0, 400.0), (500.0, 800.0), (800.0, 500.0)]),
            row("fork", &[(900.0, 480.0), (450.0, 880.0), (800.0, 600.0)]),
        ];
        let text = markdown(&rows, "floor");
        assert!(text.contains("| 4 | floor | 800 (500-1000) | - | 1.50 | 2.00 | 500 (400-800) | - | 2 |\n"));
        assert!(
            text.contains("| 800 (450-900) | 0.90 (0.90-1.00) | 1.50 | 2.00 | 600 (480-880) | 80 (80-100) |")
        );
        assert!(text.ends_with("\n1 failures: fork, 4 clients\n"), "{text}");
    }
}
