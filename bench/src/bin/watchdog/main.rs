//! The modes of fwatchdog: their cost above the bare start of a process, the effect of `prewarm` on a slow start, and
//! `mode=http` beside nginx. All subjects of a table are loaded in turn, round after round: other load on the machine
//! meets all alike. Ratios are taken within a round; the tables have their median. Prints Markdown, and which targets
//! are met; a missed target is no failure.
#![forbid(unsafe_code)]

mod forward;
mod options;
mod pauses;
mod starts;
mod targets;

use options::Options;
use targets::Targets;

const USAGE: &str = "usage: watchdog [--quick] [--rounds N] [--seconds S] [--clients N,N] [--subjects NAME,NAME] \
    [--before FWATCHDOG] [cat] [catservice] [python] [pauses] [http]";

/// What is measured, unless some of it is asked for.
const PARTS: [&str; 5] = ["cat", "catservice", "python", "pauses", "http"];

fn main() {
    let options = Options::read(std::env::args().skip(1)).unwrap_or_else(|wrong| {
        eprintln!("{wrong}\n{USAGE}");
        std::process::exit(2);
    });
    let mut targets = Targets::default();
    println!("{} rounds, median (range)", options.common.rounds);
    for part in &options.parts {
        match &**part {
            "pauses" => targets.pauses(&pauses::measure(&options)),
            "http" => forward::measure(&options, &mut targets),
            program => {
                let rows = starts::measure(&options, program);
                if program == "cat" {
                    targets.fork(&rows);
                }
            }
        }
    }
    println!("\n## Issue targets\n\n{targets}");
}
