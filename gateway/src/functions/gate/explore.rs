//! Every order of a few calls before one gate. Covered: calls that come, go on, step aside, end or go away on two pollers, each
//! of which looks at its own when it is woken; a limit that is taken away, set again and raised meanwhile.
//! Not covered: time limits, replicas that come and go, and that a wake reaches a poller (the server's part).

use testkit::explore::{Model, explore};

use super::{Line, Standing};

const POLLERS: usize = 2;

/// The limits that follow on each other. The last one has room for all but one.
const LIMITS: [usize; 4] = [1, 0, 1, 2];

/// A fault to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    None,
    /// A call that goes on since there is no limit any more keeps its ticket.
    KeepsTicket,
    /// Nobody is woken when a call goes in and there is room for more.
    SilentEntry,
    /// Nobody is woken when a call leaves the line, though it was the next.
    SilentLeave,
    /// Nobody is woken when a place becomes free.
    SilentEnd,
    /// Nobody is woken when the limit changes.
    SilentChange,
    /// A call asks for a place under the limit that held a moment before.
    OldLimit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    ToCome,
    Waiting,
    Running,
    Gone,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Poller {
    is_woken: bool,
    /// Its calls that wait, in the order in which they came.
    waiting: Vec<usize>,
    /// Those that it has yet to look at.
    round: Vec<usize>,
    /// The call that it is about to ask the gate for, and the limit that it has seen.
    asks: Option<(usize, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    fault: Fault,
    line: Line,
    /// The number of the limit that holds, and whether it is yet to be told.
    limit: usize,
    is_to_be_told: bool,
    pollers: [Poller; POLLERS],
    /// How often a call may yet step aside.
    asides: usize,
    calls: Vec<(At, Standing)>,
}

impl World {
    fn new(calls: usize, fault: Fault) -> World {
        let poller = Poller { is_woken: false, waiting: Vec::new(), round: Vec::new(), asks: None };
        World {
            fault,
            line: Line::default(),
            limit: 0,
            is_to_be_told: false,
            pollers: [poller.clone(), poller],
            asides: 1,
            calls: vec![(At::ToCome, Standing::Outside); calls],
        }
    }

    fn wake(&mut self, wakes: bool, silent: Fault) {
        if wakes && self.fault != silent {
            self.pollers.iter_mut().for_each(|poller| poller.is_woken = true);
        }
    }

    fn change_limit(&mut self) {
        self.limit += 1;
        self.is_to_be_told = true;
    }

    fn tell(&mut self) {
        self.is_to_be_told = false;
        self.wake(true, Fault::SilentChange);
    }

    fn begin_round(&mut self, poller: usize) {
        let poller = &mut self.pollers[poller];
        poller.is_woken = false;
        poller.round = poller.waiting.clone();
    }

    fn see(&mut self, poller: usize, call: usize) {
        self.pollers[poller].round.retain(|other| *other != call);
        self.pollers[poller].asks = Some((call, LIMITS[self.limit]));
        if self.fault != Fault::OldLimit {
            self.ask(poller); // at once
        }
    }

    fn ask(&mut self, poller: usize) {
        let Some((call, seen)) = self.pollers[poller].asks.take() else { return };
        let limit = if self.fault == Fault::OldLimit { seen } else { LIMITS[self.limit] };
        let (at, standing) = &mut self.calls[call];
        let (goes_on, wakes) = match limit {
            0 if self.fault == Fault::KeepsTicket => (true, false),
            limit => self.line.pass(limit, standing),
        };
        let came = *at == At::ToCome;
        *at = if goes_on { At::Running } else { At::Waiting };
        let poller = &mut self.pollers[poller];
        match goes_on {
            true => poller.waiting.retain(|other| *other != call),
            false if came => poller.waiting.push(call),
            false => poller.round.clear(), // the others wait for the same
        }
        self.wake(wakes, Fault::SilentEntry);
    }

    fn end(&mut self, call: usize) {
        let (at, standing) = &mut self.calls[call];
        let silent = if *at == At::Running { Fault::SilentEnd } else { Fault::SilentLeave };
        *at = At::Gone;
        let wakes = self.line.leave(standing);
        for poller in &mut self.pollers {
            poller.waiting.retain(|other| *other != call);
            poller.round.retain(|other| *other != call);
        }
        self.wake(wakes, silent);
    }

    /// Its client has its share for a moment.
    fn step_aside(&mut self, call: usize) {
        self.asides -= 1;
        let wakes = self.line.leave_line(&mut self.calls[call].1);
        self.wake(wakes, Fault::SilentLeave);
    }

    /// Whether a poller's next tick has something to ask for: a call that stepped aside and is the first to wait there.
    /// The gate does not know of it and wakes nobody for it.
    fn has_tick(&self, poller: &Poller) -> bool {
        poller.waiting.first().is_some_and(|call| matches!(self.calls[*call].1, Standing::Aside(_)))
    }

    /// Whether nothing happens any more, but for what clients and functions do.
    fn is_at_rest(&self) -> bool {
        let is_idle = |poller: &Poller| {
            !poller.is_woken && poller.round.is_empty() && poller.asks.is_none() && !self.has_tick(poller)
        };
        !self.is_to_be_told && self.pollers.iter().all(is_idle)
    }

    fn with(&self, change: impl FnOnce(&mut World)) -> World {
        let mut after = self.clone();
        change(&mut after);
        after
    }
}

impl Model for World {
    fn steps(&self) -> Vec<(String, World)> {
        let mut steps = Vec::new();
        if self.is_to_be_told {
            steps.push(("told".to_owned(), self.with(World::tell)));
        } else if self.limit + 1 < LIMITS.len() {
            steps.push((format!("limit {}", LIMITS[self.limit + 1]), self.with(World::change_limit)));
        }
        for (number, poller) in self.pollers.iter().enumerate() {
            if poller.asks.is_some() {
                steps.push((format!("poller {number} asks"), self.with(|world| world.ask(number))));
                continue;
            }
            if let Some(call) = poller.round.first() {
                steps.push((format!("looks at {call}"), self.with(|world| world.see(number, *call))));
                continue;
            }
            if poller.is_woken || self.has_tick(poller) {
                steps.push((
                    format!("poller {number} is woken"),
                    self.with(|world| world.begin_round(number)),
                ));
            }
            let own = (number..self.calls.len()).step_by(POLLERS);
            for call in own.filter(|call| self.calls[*call].0 == At::ToCome) {
                steps.push((format!("{call} comes"), self.with(|world| world.see(number, call))));
            }
        }
        for (call, (at, standing)) in self.calls.iter().enumerate() {
            if matches!((at, standing), (At::Waiting, Standing::Waiting(_))) && self.asides > 0 {
                steps.push((format!("{call} steps aside"), self.with(|world| world.step_aside(call))));
            }
            let is_asked_for = self.pollers[call % POLLERS].asks.is_some_and(|(other, _)| other == call);
            if matches!(at, At::Running | At::Waiting) && !is_asked_for {
                steps.push((format!("{call} ends"), self.with(|world| world.end(call))));
            }
        }
        steps
    }

    fn check(&self) -> Result<(), String> {
        let inside = self.calls.iter().filter(|(_, standing)| *standing == Standing::Inside).count();
        if inside != self.line.inside || inside > 2 {
            return Err(format!("{inside} are inside"));
        }
        let limit = LIMITS[self.limit];
        let waits = self.calls.iter().any(|(at, _)| *at == At::Waiting);
        if self.is_at_rest() && waits && inside < limit.max(1) {
            return Err("a call waits though there is room".to_owned());
        }
        Ok(())
    }
}

#[test]
fn in_no_order_does_a_call_wait_where_there_is_room() {
    let states = explore(World::new(4, Fault::None)).unwrap_or_else(|fault| panic!("{fault}"));
    println!("{states} states");
    assert!(states > 10_000, "{states}");
}

#[test]
fn faults_are_found() {
    for fault in [
        Fault::KeepsTicket,
        Fault::SilentEntry,
        Fault::SilentLeave,
        Fault::SilentEnd,
        Fault::SilentChange,
        Fault::OldLimit,
    ] {
        let found = explore(World::new(3, fault));
        let found = found.expect_err(&format!("{fault:?} is not found"));
        println!("{fault:?}: {}", found.lines().next().unwrap_or_default());
        assert!(found.starts_with("a call waits though there is room"), "{found}");
    }
}
