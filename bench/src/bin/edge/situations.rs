//! What the clients do, and those beside them.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use bench::cost::tree;
use bench::interrupt;
use bench::load::{self, Crowd};
use bench::proxy::{Proxy, Setup};
use bench::run::Run;
use bench::table::{self, Row};
use testkit::floods::{SlowHeads, slow_heads};

use crate::events;
use crate::options::Options;

const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;

/// What the answers have that are only there to be answered.
const SMALL: u64 = 12;

/// What comes before the first round of a new process.
const WARM_UP: Duration = Duration::from_millis(100);

/// Clients with slow heads come in this many groups, spread over the second that is between two of their bytes.
const SLOW_GROUPS: usize = 20;
const SLOW_GROUP_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Situation {
    pub(crate) name: &'static str,
    pub(crate) clients: usize,
    pub(crate) work: Work,
    pub(crate) beside: Beside,
    /// Whom the gateway is compared with: nginx and HAProxy, set up for what is done.
    pub(crate) rivals: [&'static str; 2],
    /// Measured too, but not compared with.
    also: Option<&'static str>,
}

#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// Answers of this size, one after the other.
    Answers(u64),
    /// Events; their delay is measured.
    Events,
}

/// Other clients, which are there throughout.
#[derive(Clone, Copy)]
pub(crate) enum Beside {
    Nobody,
    /// They have been answered once and keep the connection.
    Idle(usize),
    /// They send a byte of a head each second, and never end it.
    Slow(usize),
}

const fn small(name: &'static str, clients: usize, beside: Beside) -> Situation {
    let rivals = ["nginx", "haproxy"];
    Situation { name, clients, work: Work::Answers(SMALL), beside, rivals, also: None }
}

pub(crate) const SITUATIONS: [Situation; 9] = [
    small("1", 1, Beside::Nobody),
    small("32", 32, Beside::Nobody),
    small("256", 256, Beside::Nobody),
    Situation { work: Work::Answers(100 * KIB), ..small("100k", 32, Beside::Nobody) },
    Situation {
        work: Work::Answers(10 * MIB),
        rivals: ["nginx-unbuffered", "haproxy"],
        also: Some("nginx"),
        ..small("10m", 8, Beside::Nobody)
    },
    small("idle-1k", 32, Beside::Idle(1000)),
    small("idle-10k", 32, Beside::Idle(10_000)),
    small("slow", 32, Beside::Slow(2000)),
    Situation {
        work: Work::Events,
        rivals: ["nginx-unbuffered", "haproxy-no-delay"],
        ..small("sse", 16, Beside::Nobody)
    },
];

impl Situation {
    /// The subjects that were asked for; nginx and HAProxy in each set-up.
    fn subjects(&self, asked: &[String]) -> Vec<String> {
        let set_ups = |name: &String| -> Vec<String> {
            let rivals = self.rivals.into_iter().chain(self.also);
            let set_ups: Vec<_> = rivals.filter(|rival| rival.starts_with(name)).map(str::to_owned).collect();
            if set_ups.is_empty() { vec![name.clone()] } else { set_ups }
        };
        asked.iter().flat_map(set_ups).collect()
    }

    /// New processes, so that no situation pays for the memory of an earlier one.
    pub(crate) fn start(&self, options: &Options, upstream: SocketAddr) -> Vec<(String, Proxy)> {
        let beside = match self.beside {
            Beside::Nobody => 0,
            Beside::Idle(count) | Beside::Slow(count) => count,
        };
        let before = options.common.before.as_deref();
        let setup = Setup { before, ..Setup::for_load(upstream, self.clients + beside) };
        let start = |name: String| {
            let proxy = Proxy::start(&name, setup);
            (name, proxy)
        };
        self.subjects(&options.common.subjects).into_iter().map(start).collect()
    }

    /// The rounds of all subjects, and whether all were good.
    pub(crate) fn measure(&self, options: &Options, upstream: SocketAddr) -> (Vec<Row>, bool) {
        let subjects = self.start(options, upstream);
        let mut is_good = true;
        let mut round = |name: &str, proxy: &Proxy, span| {
            self.round(proxy, span).unwrap_or_else(|error| {
                is_good = false;
                if !interrupt::seen() {
                    eprintln!("{}, {name}: {error}", self.name);
                }
                Run::failed()
            })
        };
        for (name, proxy) in &subjects {
            round(name, proxy, WARM_UP);
        }
        let span = options.common.span;
        let rows = table::rounds(options.common.rounds, self.clients, &subjects, |name, proxy| {
            round(name, proxy, span)
        });
        (rows, is_good)
    }

    fn round(&self, proxy: &Proxy, span: Duration) -> Result<Run, String> {
        let others = Others::come(self.beside, proxy)?;
        let pids = tree(proxy.process());
        let run = match self.work {
            Work::Answers(bytes) => load::run(&pids, &self.target(proxy, bytes), self.clients, span),
            Work::Events => events::run(&pids, &proxy.target("/events", 0), self.clients, span),
        }?;
        others.are_there()?;
        Ok(run)
    }

    pub(crate) fn target(&self, proxy: &Proxy, bytes: u64) -> load::Target {
        proxy.target(&format!("/{bytes}"), bytes)
    }
}

/// The clients of [`Beside`], until this is dropped.
pub(crate) enum Others {
    Nobody,
    Idle(Crowd),
    Slow(Vec<SlowHeads>, usize),
}

impl Others {
    pub(crate) fn come(beside: Beside, proxy: &Proxy) -> Result<Others, String> {
        Ok(match beside {
            Beside::Nobody => Others::Nobody,
            Beside::Idle(count) => {
                Others::Idle(Crowd::open(&proxy.target(&format!("/{SMALL}"), SMALL), count)?)
            }
            Beside::Slow(count) => {
                let group = |_| {
                    thread::sleep(SLOW_GROUP_PAUSE);
                    slow_heads(proxy.addr, count / SLOW_GROUPS)
                };
                Others::Slow((0..SLOW_GROUPS).map(group).collect(), count)
            }
        })
    }

    /// Checks that the server keeps the connections of all of them.
    fn are_there(&self) -> Result<(), String> {
        match self {
            Others::Nobody => Ok(()),
            Others::Idle(crowd) => crowd.are_idle(),
            Others::Slow(groups, count) => match groups.iter().map(SlowHeads::open).sum::<usize>() {
                open if open == *count => Ok(()),
                open => Err(format!("{open} of {count} clients with slow heads are left")),
            },
        }
    }
}
