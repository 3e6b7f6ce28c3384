//! The table: every situation and subject, and the gateway beside the better of the others.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bench::interrupt;
use bench::run::Run;
use bench::spread::Spread;
use bench::table::Row;

use crate::options::Options;
use crate::situations::{MIB, Situation, Work};

/// The smallest answer for which the cost of a MiB is printed.
const LARGE: u64 = 64 * 1024;

/// A figure of a run, how it is printed, and whether more of it is better.
struct Figure {
    title: &'static str,
    of: fn(&Run, Work) -> f64,
    decimals: usize,
    is_more_better: bool,
}

const fn cost(title: &'static str, decimals: usize, of: fn(&Run, Work) -> f64) -> Figure {
    Figure { title, of, decimals, is_more_better: false }
}

const FIGURES: [Figure; 6] = [
    Figure { title: "requests/s", of: |run, _| run.rate, decimals: 0, is_more_better: true },
    cost("p50 ms", 3, |run, _| run.p50_us / 1e3),
    cost("p99 ms", 3, |run, _| run.p99_us / 1e3),
    cost("µs CPU/request", 1, |run, _| run.cpu_us),
    cost("µs CPU/MiB", 0, cpu_of_mib),
    cost("RSS KiB", 0, |run, _| if run.rss > 0 { run.rss as f64 / 1024.0 } else { f64::NAN }),
];

fn cpu_of_mib(run: &Run, work: Work) -> f64 {
    match work {
        Work::Answers(bytes) if bytes >= LARGE => run.cpu_us * MIB as f64 / bytes as f64,
        _ => f64::NAN,
    }
}

/// Measures and prints, one situation after the other; whether all went well.
pub(crate) fn print(options: &Options, upstream: SocketAddr) -> bool {
    let (rounds, seconds) = (options.common.rounds, options.common.span.as_secs_f64());
    println!(
        "{rounds} rounds of {seconds} s, median (range); of `sse` requests are events, and times are delays\n"
    );
    let titles: Vec<&str> = FIGURES.iter().map(|figure| figure.title).collect();
    println!("| situation | subject | {} |\n|---|---|{}", titles.join(" | "), "---|".repeat(FIGURES.len()));
    let mut is_good = true;
    for situation in &options.situations {
        let (rows, are_good) = situation.measure(options, upstream);
        if interrupt::seen() {
            return false;
        }
        is_good &= are_good;
        print!("{}", lines(situation, &rows));
    }
    is_good
}

fn lines(situation: &Situation, rows: &[Row]) -> String {
    let mut text = String::new();
    let mut line = |subject: &str, cells: [String; FIGURES.len()]| {
        let _ = writeln!(text, "| {} | {subject} | {} |", situation.name, cells.join(" | ")); // a String cannot fail
    };
    for row in rows {
        let cell = |figure: Figure| {
            let spread = row.spread(|run| (figure.of)(run, situation.work));
            format!("{spread:.*}", figure.decimals)
        };
        line(&row.subject, FIGURES.map(cell));
    }
    let find = |name: &str| rows.iter().find(|row| row.subject == name);
    let Some(gateway) = find("gateway") else { return text };
    let rivals: Vec<&Row> = situation.rivals.into_iter().filter_map(find).collect();
    if !rivals.is_empty() {
        line("**gateway : better**", FIGURES.map(|figure| ratio(situation.work, &figure, gateway, &rivals)));
    }
    if let Some(before) = find("before") {
        line(
            "**gateway : before**",
            FIGURES.map(|figure| ratio(situation.work, &figure, gateway, &[before])),
        );
    }
    text
}

/// A figure of `row`, round by round, divided by the figure of the best of `others` by median.
fn ratio(work: Work, figure: &Figure, row: &Row, others: &[&Row]) -> String {
    let of = |run: &Run| (figure.of)(run, work);
    let median = |row: &&&Row| {
        let median = row.spread(of).median;
        if figure.is_more_better { -median } else { median }
    };
    let Some(best) = others.iter().min_by(|a, b| median(a).total_cmp(&median(b))) else {
        return "-".to_owned();
    };
    let shares = row.runs.iter().zip(&best.runs).map(|(run, best)| of(run) / of(best));
    match (Spread::of(shares), others.len()) {
        (spread, _) if spread.median.is_nan() => "-".to_owned(),
        (spread, 1) => format!("{spread:.2}"),
        (spread, _) => format!("{spread:.2} {}", best.subject),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::situations::SITUATIONS;
    use bench::pace::Pace;
    use std::time::Duration;

    fn row(subject: &str, rates: &[u64]) -> Row {
        let run = |rate: &u64| match rate {
            0 => Run::failed(),
            rate => Run::new(
                Pace { done: *rate, failed: 0, took_us: 1_000_000, p50_us: 500, p99_us: 2000 },
                Duration::from_millis(50),
                2048,
            ),
        };
        Row { subject: subject.to_owned(), clients: 1, runs: rates.iter().map(run).collect() }
    }

    #[test]
    fn the_gateway_is_beside_the_better_one() {
        let rows = [
            row("gateway", &[1000, 500, 0]),
            row("before", &[500, 500, 500]),
            row("nginx", &[2000, 2000, 1500]),
            row("haproxy", &[1000, 900, 1100]),
        ];
        let text = lines(&SITUATIONS[0], &rows);
        let starts = [
            "| 1 | gateway | 1000 (500-1000) | 0.500 (0.500-0.500) | 2.000 (2.000-2.000) | 100.0 (50.0-100.0) | - | 2 (2-2) |",
            "| 1 | **gateway : better** | 0.50 (0.25-0.50) nginx | 1.00 (1.00-1.00) nginx | ",
            "| 1 | **gateway : before** | 2.00 (1.00-2.00) | 1.00",
        ];
        for start in starts {
            assert!(text.lines().any(|line| line.starts_with(start)), "{start}\n{text}");
        }
    }
}
