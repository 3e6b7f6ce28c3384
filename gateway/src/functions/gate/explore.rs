//! Every order of a few calls at one gate. Covered: calls that arrive, go on, step aside, end or leave on two pollers, which
//! check their calls when woken; a limit that is removed, set again and raised, also between the moments at which a call
//! reads it and enters. Not covered: timeouts, changes of replicas, and how a wake reaches a poller (the server's part).

use testkit::explore::{Model, explore};

use super::{Line, ONE, Standing, entered, left};

const POLLERS: usize = 2;

/// The limits, one after the other. The last limit has slots for two calls.
const LIMITS: [usize; 4] = [1, 0, 1, 2];

/// A fault that exploring must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    None,
    /// A call that goes on after the limit was removed keeps its ticket.
    KeepsTicket,
    /// A call enters, there are more slots, and no call is woken.
    SilentEntry,
    /// The next call leaves the line, and no call is woken.
    SilentLeave,
    /// A slot becomes free, and no call is woken.
    SilentEnd,
    /// The limit changes, and no call is woken.
    SilentChange,
    /// A call joins the line by an old limit.
    OldLimit,
    /// A call joins the line by an old number of calls inside: the word had no mark meanwhile.
    LateMark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    ToCome,
    Waiting,
    Running,
    Gone,
}

/// A call that is about to ask the gate, with the state that it has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Ask {
    call: usize,
    limit: usize,
    inside: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Poller {
    is_woken: bool,
    /// Its waiting calls, in order of arrival.
    waiting: Vec<usize>,
    /// The calls that it has yet to check.
    round: Vec<usize>,
    asks: Option<Ask>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    fault: Fault,
    /// Whether a call reads the gate and acts in one step: fewer states, for more calls.
    is_atomic: bool,
    line: Line,
    /// The position of the current limit, and whether its wake is due.
    limit: usize,
    is_to_be_told: bool,
    pollers: [Poller; POLLERS],
    /// How often calls may still step aside.
    asides: usize,
    calls: Vec<(At, Standing)>,
}

impl World {
    fn new(calls: usize, fault: Fault) -> World {
        let poller = Poller { is_woken: false, waiting: Vec::new(), round: Vec::new(), asks: None };
        World {
            fault,
            is_atomic: false,
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
        self.pollers[poller].asks = Some(Ask { call, limit: LIMITS[self.limit], inside: self.line.inside });
        if self.is_atomic {
            self.ask(poller);
        }
    }

    fn ask(&mut self, poller: usize) {
        let Some(Ask { call, limit: seen, inside }) = self.pollers[poller].asks.take() else { return };
        let limit = if self.fault == Fault::OldLimit { seen } else { LIMITS[self.limit] };
        let (at, standing) = &mut self.calls[call];
        let is_outside = matches!(standing, Standing::Outside | Standing::Aside(_));
        let (goes_on, wakes) = match entered(self.line.word(), seen) {
            _ if is_outside && seen == 0 => (true, false),
            _ if self.fault == Fault::LateMark && inside >= limit && limit > 0 => {
                self.line.join(standing);
                (false, false)
            }
            Some(word) if is_outside => {
                *standing = Standing::Inside;
                self.line.inside = word / ONE;
                (true, false)
            }
            _ if limit == 0 && self.fault == Fault::KeepsTicket => (true, false),
            _ => self.line.pass(limit, standing),
        };
        let came = *at == At::ToCome;
        *at = if goes_on { At::Running } else { At::Waiting };
        let poller = &mut self.pollers[poller];
        match goes_on {
            true => poller.waiting.retain(|other| *other != call),
            false if came => poller.waiting.push(call),
            false => poller.round.clear(), // the other calls wait for the same
        }
        self.wake(wakes, Fault::SilentEntry);
    }

    fn end(&mut self, call: usize) {
        let (at, standing) = &mut self.calls[call];
        let silent = if *at == At::Running { Fault::SilentEnd } else { Fault::SilentLeave };
        *at = At::Gone;
        let is_inside = *standing == Standing::Inside;
        let wakes = match is_inside.then(|| left(self.line.word())).flatten() {
            Some(word) => {
                *standing = Standing::Outside;
                self.line.inside = word / ONE;
                false
            }
            None => self.line.leave(standing),
        };
        for poller in &mut self.pollers {
            poller.waiting.retain(|other| *other != call);
            poller.round.retain(|other| *other != call);
        }
        self.wake(wakes, silent);
    }

    /// The call's client has used up its share for a moment.
    fn step_aside(&mut self, call: usize) {
        self.asides -= 1;
        let wakes = self.line.leave_line(&mut self.calls[call].1);
        self.wake(wakes, Fault::SilentLeave);
    }

    /// Whether a poller's first waiting call has stepped aside. The gate does not wake such a call; the poller's tick asks
    /// for it.
    fn has_tick(&self, poller: &Poller) -> bool {
        poller.waiting.first().is_some_and(|call| matches!(self.calls[*call].1, Standing::Aside(_)))
    }

    /// Whether nothing more happens without clients and functions.
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
            let is_asked_for = self.pollers[call % POLLERS].asks.is_some_and(|ask| ask.call == call);
            let is_in_line = matches!((at, standing), (At::Waiting, Standing::Waiting(_)));
            if is_in_line && self.asides > 0 && !is_asked_for {
                steps.push((format!("{call} steps aside"), self.with(|world| world.step_aside(call))));
            }
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
fn no_call_waits_while_a_slot_is_free_in_any_order() {
    let atomic = World { is_atomic: true, ..World::new(4, Fault::None) };
    for world in [atomic, World::new(3, Fault::None)] {
        let states = explore(world).unwrap_or_else(|fault| panic!("{fault}"));
        println!("{states} states");
        assert!(states > 10_000, "{states}");
    }
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
        Fault::LateMark,
    ] {
        let found = explore(World::new(3, fault));
        let found = found.expect_err(&format!("{fault:?} is not found"));
        println!("{fault:?}: {}", found.lines().next().unwrap_or_default());
        assert!(found.starts_with("a call waits though there is room"), "{found}");
    }
}
