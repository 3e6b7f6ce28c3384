//! The modes that start a process for each request, beside the floor: the same process started by hand.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bench::caller::Caller;
use bench::cost::tree;
use bench::pace::{Pace, Plan};
use bench::proxy::sibling;
use bench::run::Run;
use bench::table::{self, Row};
use testkit::{Bin, Running, eventually, proc};

use crate::options::Options;

pub(crate) const SUBJECTS: [&str; 7] =
    ["floor", "floor3", "fork", "before", "fork-nocgi", "prewarm", "streaming"];

/// Open files of fwatchdog: eight for a call, with room.
const OPEN_FILES: u64 = 4096;

/// The load before the first round of a new process.
const WARM_UP: Duration = Duration::from_millis(100);

/// When the CPU time stays the same for this long, no process is starting any more.
const LOOK_PAUSE: Duration = Duration::from_millis(60);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the floor may take beyond its span.
const FLOOR_TIMEOUT: Duration = Duration::from_secs(60);

/// A program that answers what it is sent.
pub(crate) struct Program {
    pub(crate) name: String,
    command: Vec<String>,
}

impl Program {
    /// `cat`, `catservice` or `python`; `None` where it is not installed.
    pub(crate) fn named(name: &str) -> Option<Program> {
        let here = env!("CARGO_MANIFEST_DIR");
        match name {
            "python" => {
                let (path, version) = python()?;
                let echo = format!("{here}/programs/echo.py");
                Some(Program {
                    name: format!("{version}, a program that prints its input"),
                    command: vec![path, echo],
                })
            }
            "catservice" => Some(Program {
                name: "dist/catservice, static".to_owned(),
                command: vec![format!("{here}/../dist/catservice")],
            }),
            _ => Some(Program { name: "/bin/cat".to_owned(), command: vec!["/bin/cat".to_owned()] }),
        }
    }

    fn line(&self) -> String {
        let words: Vec<String> = self.command.iter().map(|word| format!("'{word}'")).collect();
        words.join(" ")
    }
}

/// The interpreter itself and its version: the system's, else what `python3` stands for, which may be a script that
/// looks for one.
pub(crate) fn python() -> Option<(String, String)> {
    let script = "import sys; print(sys.executable); print('Python', sys.version.split()[0])";
    let lines = ["/usr/bin/python3", "python3"].iter().find_map(|name| {
        let output = Command::new(name).args(["-c", script]).output().ok()?;
        output.status.success().then(|| String::from_utf8(output.stdout).ok())?
    })?;
    let mut lines = lines.lines().map(str::to_owned);
    Some((lines.next()?, lines.next()?))
}

/// The tables of one program, printed, and their rows.
pub(crate) fn measure(options: &Options, name: &str) -> Vec<Row> {
    let Some(program) = Program::named(name) else {
        println!("\n{name} is not installed: not measured");
        return Vec::new();
    };
    let common = &options.common;
    let mut rows = Vec::new();
    for clients in &options.clients {
        let plan = Plan { clients: *clients, span: common.span, pause: Duration::ZERO };
        let names = common.subjects.iter().filter(|name| *name != "before" || common.before.is_some());
        // New processes, so that no run pays for the memory of an earlier one.
        let start = |name: &String| (name.clone(), Subject::start(name, &program, common.before.as_deref()));
        let subjects: Vec<_> = names.map(start).collect();
        for (_, subject) in &subjects {
            let _ = subject.run(Plan { span: WARM_UP, ..plan });
        }
        rows.extend(table::rounds(common.rounds, *clients, &subjects, |_, subject| subject.run(plan)));
    }
    println!("\n## {}\n\n{}", program.name, table::markdown(&rows, "floor"));
    rows
}

/// Something under test.
pub(crate) enum Subject<'a> {
    /// The bare process, with this many pipes.
    Floor(&'a Program, usize),
    /// fwatchdog.
    Watchdog(Box<Running>),
}

impl<'a> Subject<'a> {
    /// Starts one of [`SUBJECTS`].
    pub(crate) fn start(name: &str, program: &'a Program, before: Option<&Path>) -> Subject<'a> {
        let settings: &[(&str, &str)] = match name {
            "floor" => return Subject::Floor(program, 2),
            "floor3" => return Subject::Floor(program, 3),
            "fork-nocgi" => &[("cgi_headers", "false")],
            "prewarm" => &[("cgi_headers", "false"), ("prewarm", "8")],
            "streaming" => &[("mode", "streaming")],
            _ => &[],
        };
        let bin = match before.filter(|_| name == "before") {
            Some(path) => Bin::at(path).env("port", "0"),
            None => Bin::fwatchdog(),
        };
        let bin = bin.nofile(OPEN_FILES).env("fprocess", program.line());
        let bin = settings.iter().fold(bin, |bin, (name, value)| bin.env(name, value));
        let subject = Subject::Watchdog(Box::new(bin.start()));
        subject.settle();
        subject
    }

    /// One run, after which nothing goes on.
    pub(crate) fn run(&self, plan: Plan) -> Run {
        let (pace, cpu, rss) = match self {
            Subject::Floor(program, pipes) => floor(program, *pipes, plan),
            Subject::Watchdog(running) => {
                let before = running.cpu_time_with_children();
                let pace = Pace::of(plan, || {
                    let mut caller = Caller::new(running.addr());
                    move || caller.call()
                });
                let cpu = running.cpu_time_with_children().saturating_sub(before);
                (pace, cpu, running.rss_bytes())
            }
        };
        self.settle();
        Run::new(pace, cpu, rss)
    }

    /// Waits until the processes of `prewarm` are ready, so that the next run does not pay for them.
    fn settle(&self) {
        let Subject::Watchdog(running) = self else { return };
        let cpu = || -> Duration {
            let stats = tree(running).into_iter().filter_map(proc::stat);
            stats.map(|stat| stat.cpu + stat.children_cpu).sum()
        };
        let give_up = Instant::now() + SETTLE_TIMEOUT;
        let mut before = cpu();
        loop {
            thread::sleep(LOOK_PAUSE);
            let now = cpu();
            if now == before || Instant::now() > give_up {
                return;
            }
            before = now;
        }
    }
}

/// Runs the floor in its own process; its CPU time is read as fwatchdog's is.
fn floor(program: &Program, pipes: usize, plan: Plan) -> (Pace, Duration, u64) {
    let bin = Bin::at(sibling("spawn_floor")).arg(plan.clients.to_string());
    let bin = bin.arg(plan.span.as_millis().to_string()).arg(pipes.to_string());
    let process = program.command.iter().fold(bin, Bin::arg).spawn();
    thread::sleep(plan.span);
    let pace = eventually(plan.span + FLOOR_TIMEOUT, || match process.stdout().split_once('\n') {
        Some((line, _)) => Ok(line.parse().unwrap_or_else(|error| panic!("spawn_floor: {error}"))),
        None => Err(process.report()),
    });
    (pace, process.cpu_time_with_children(), 0)
}
