//! Occasional calls to a program that starts slowly, with `prewarm` and without.

use std::time::Duration;

use bench::pace::Plan;
use bench::table::{self, Row};

use crate::options::Options;
use crate::starts::{Program, Subject};

pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// So few that two cores have time to start the next processes.
pub(crate) const CLIENTS: [usize; 2] = [1, 4];

/// Against the span of the other runs: most of it is pauses.
const SPANS: u32 = 3;

/// The table, printed, and its rows.
pub(crate) fn measure(options: &Options) -> Vec<Row> {
    let Some(program) = Program::named("python") else {
        println!("\npython is not installed: not measured");
        return Vec::new();
    };
    let mut rows = Vec::new();
    for clients in CLIENTS {
        let plan = Plan { clients, span: options.common.span * SPANS, pause: PAUSE };
        let subjects = ["fork-nocgi", "prewarm"]
            .map(|name| (name.to_owned(), Subject::start(name, &program, options.common.before.as_deref())));
        rows.extend(table::rounds(options.common.rounds, clients, &subjects, |_, subject| subject.run(plan)));
    }
    let title = format!("{}, clients that pause {} ms", program.name, PAUSE.as_millis());
    println!("\n## {title}\n\n{}", table::markdown(&rows, "fork-nocgi"));
    rows
}
