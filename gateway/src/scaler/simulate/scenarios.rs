//! The loads, and what happens meanwhile.

use std::f64::consts::TAU;

/// A load on one function, and what becomes of it.
#[derive(Clone, Copy)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What it is, for the drawing.
    pub(super) title: &'static str,
    pub(super) labels: &'static [(&'static str, &'static str)],
    /// Replicas at the beginning.
    pub(super) replicas: u32,
    pub(super) seconds: f64,
    /// Calls per second that come at a time.
    pub(super) load: Load,
    /// Whether calls come evenly and take equally long, rather than by chance.
    pub(super) is_even: bool,
    /// Seconds that a call takes, on average.
    pub(super) service: f64,
    /// Calls that a replica serves at once.
    pub(super) capacity: u32,
    /// Seconds until a new replica can be called.
    pub(super) start_up: f64,
    pub(super) events: &'static [(f64, What)],
    /// Whether the load ends early enough for all replicas to go that may.
    pub(super) ends_quietly: bool,
}

/// A rate over time.
#[derive(Clone, Copy)]
pub(super) enum Load {
    Constant(f64),
    Varying(fn(f64) -> f64),
}

impl Load {
    pub(super) fn rate(self, at: f64) -> f64 {
        match self {
            Load::Constant(rate) => rate,
            Load::Varying(rate) => rate(at),
        }
    }
}

/// What happens beside the load.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// Somebody else sets the number of replicas.
    Set(u32),
    /// The gateway is started again.
    Restart,
    /// An update begins (false) or ends.
    MayShrink(bool),
    /// The engine refuses everything, or does not any more.
    Fails(bool),
}

const TARGET: (&str, &str) = ("com.openfaas.scale.target", "5");
const ZERO: (&str, &str) = ("com.openfaas.scale.zero", "true");

const PLAIN: Scenario = Scenario {
    name: "plain",
    title: "",
    labels: &[TARGET],
    replicas: 1,
    seconds: 240.0,
    load: Load::Constant(0.0),
    is_even: false,
    service: 0.5,
    capacity: 10,
    start_up: 0.1,
    events: &[],
    ends_quietly: false,
};

fn between(at: f64, from: f64, to: f64, rate: f64) -> f64 {
    if (from..to).contains(&at) { rate } else { 0.0 }
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "step",
        title: "A load of 25 calls in hand begins and ends at once",
        load: Load::Varying(|at| between(at, 10.0, 60.0, 125.0)),
        service: 0.2,
        ends_quietly: true,
        ..PLAIN
    },
    Scenario {
        name: "ramp",
        title: "A load grows for two minutes and ends",
        load: Load::Varying(|at| between(at, 10.0, 130.0, (at - 10.0) * 0.6)),
        seconds: 360.0,
        ends_quietly: true,
        ..PLAIN
    },
    Scenario {
        name: "sine",
        title: "A load rises and falls with a period of two minutes",
        load: Load::Varying(|at| 30.0 - 30.0 * (at * TAU / 120.0).cos()),
        seconds: 480.0,
        ..PLAIN
    },
    Scenario {
        name: "square",
        title: "A load is there for 20 s of every 40 s",
        load: Load::Varying(|at| if at % 40.0 < 20.0 { 40.0 } else { 2.0 }),
        seconds: 300.0,
        ..PLAIN
    },
    Scenario {
        name: "bursts",
        title: "Half a second of 200 calls per second, each 25 s",
        load: Load::Varying(|at| if at % 25.0 < 0.5 { 200.0 } else { 1.0 }),
        seconds: 240.0,
        ..PLAIN
    },
    Scenario {
        name: "slow-function",
        title: "Calls of 30 s, at two per second",
        load: Load::Varying(|at| between(at, 10.0, 130.0, 2.0)),
        service: 30.0,
        seconds: 600.0,
        ends_quietly: true,
        ..PLAIN
    },
    Scenario {
        name: "fast-function",
        title: "Calls of 10 ms, at 1,500 per second",
        load: Load::Varying(|at| between(at, 10.0, 60.0, 1500.0)),
        service: 0.01,
        ends_quietly: true,
        ..PLAIN
    },
    Scenario {
        name: "slow-start",
        title: "Replicas that take 20 s to start",
        load: Load::Varying(|at| between(at, 10.0, 120.0, 50.0)),
        start_up: 20.0,
        seconds: 420.0,
        ends_quietly: true,
        ..PLAIN
    },
    Scenario {
        name: "from-zero",
        title: "From nothing, with replicas that take 1 s to start, and to nothing again",
        labels: &[TARGET, ZERO, ("com.openfaas.scale.zero-duration", "1m")],
        replicas: 0,
        load: Load::Varying(|at| between(at, 10.0, 60.0, 30.0)),
        start_up: 1.0,
        seconds: 300.0,
        ends_quietly: true,
        ..PLAIN
    },
    Scenario {
        name: "restart",
        title: "No calls at all, and a gateway that is started again after 25 s and 50 s",
        labels: &[TARGET, ZERO, ("com.openfaas.scale.zero-duration", "30s")],
        events: &[(25.0, What::Restart), (50.0, What::Restart)],
        seconds: 120.0,
        ends_quietly: true,
        ..PLAIN
    },
    Scenario {
        name: "failing-engine",
        title: "The engine refuses every change from 5 s to 100 s",
        load: Load::Varying(|at| between(at, 10.0, 140.0, 40.0)),
        events: &[(5.0, What::Fails(true)), (100.0, What::Fails(false))],
        seconds: 360.0,
        ends_quietly: true,
        ..PLAIN
    },
    Scenario {
        name: "deployment",
        title: "A deployment sets the replicas back to one after 60 s, under load",
        load: Load::Constant(50.0),
        events: &[(60.0, What::Set(1))],
        seconds: 120.0,
        ..PLAIN
    },
    Scenario {
        name: "by-hand",
        title: "Somebody sets 8 replicas after 60 s, without a load",
        load: Load::Constant(1.0),
        events: &[(60.0, What::Set(8))],
        ..PLAIN
    },
    Scenario {
        name: "rolling-update",
        title: "A load ends at 40 s; an update is under way from 30 s to 200 s",
        load: Load::Varying(|at| between(at, 10.0, 40.0, 50.0)),
        events: &[(30.0, What::MayShrink(false)), (200.0, What::MayShrink(true))],
        seconds: 300.0,
        ends_quietly: true,
        ..PLAIN
    },
];

impl Scenario {
    /// Always the same demand.
    pub(super) fn constant(rate: f64) -> Scenario {
        let labels = &[("com.openfaas.scale.target", "50")];
        Scenario { name: "constant", labels, capacity: 100, load: Load::Constant(rate), ..PLAIN }
    }

    fn label(&self, name: &str) -> Option<&'static str> {
        self.labels.iter().find(|(label, _)| label.ends_with(name)).map(|(_, value)| *value)
    }

    pub(super) fn may_go_to_zero(&self) -> bool {
        self.label(".zero").is_some()
    }

    pub(super) fn target(&self) -> f64 {
        self.label(".target").unwrap().parse().unwrap()
    }

    pub(super) fn min(&self) -> u32 {
        1
    }

    pub(super) fn max(&self) -> u32 {
        20
    }

    /// The most replicas that go at once: a fifth of the maximum.
    pub(super) fn step(&self) -> u32 {
        4
    }
}
