//! Every order of a few connections and the end of the server. Covered: connections that are in the listener's queue,
//! idle, with a request that nobody has read, served, or closed slowly, on two pollers; the listener that is closed
//! meanwhile; and the looks at the tables, one after the other, by which [`Server::is_done`] is decided. Not covered:
//! times, heads in pieces, and workers that leave a request to wait.
//!
//! [`Server::is_done`]: super::super::Server::is_done

use std::time::Instant;

use testkit::explore::{Model, explore};

use super::super::Stats;
use super::{Phase, Slotted, Table, Token};

const LANES: usize = 2;

/// A fault to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    None,
    /// All tables are looked at for requests, and then again for idle connections.
    TwoLooks,
    /// A connection that is closed slowly is not looked for.
    ForgetsClosing,
    /// Whether the listener is closed is seen behind the tables.
    ListenerLast,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Fake {
    token: Token,
    phase: Phase,
    has_input: bool,
}

impl Slotted for Fake {
    fn token(&self) -> Token {
        self.token
    }

    fn phase(&self) -> Phase {
        self.phase
    }

    fn since(&self) -> Instant {
        Instant::now()
    }

    fn has_input(&self) -> bool {
        self.has_input
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    fault: Fault,
    lanes: [Table<Fake>; LANES],
    /// Connections that are served, with the number of their lane.
    served: Vec<(usize, Fake)>,
    /// Connections that come, those of them that have reached the listener, and the lane of the last.
    to_come: usize,
    in_queue: usize,
    last_lane: usize,
    /// Requests that clients still send.
    requests: usize,
    has_stopped: bool,
    /// How many looks have found nothing; the last of them says that all is done.
    looks: usize,
    is_done: bool,
}

impl World {
    fn new(fault: Fault) -> World {
        World {
            fault,
            lanes: [Table::new(), Table::new()],
            served: Vec::new(),
            to_come: 4,
            in_queue: 0,
            last_lane: 0,
            requests: 4,
            has_stopped: false,
            looks: 0,
            is_done: false,
        }
    }

    fn accept(&mut self) {
        self.in_queue -= 1;
        self.last_lane = (self.last_lane + 1) % LANES;
        let table = &mut self.lanes[self.last_lane];
        let token = table.reserve();
        table.put(Fake { token, phase: Phase::New, has_input: false });
    }

    /// Accepts what has come, and closes the listener.
    fn stop_accepting(&mut self) {
        while self.in_queue > 0 {
            self.accept();
        }
        self.has_stopped = true;
    }

    fn send(&mut self, lane: usize, token: Token) {
        self.requests -= 1;
        if let Some(conn) = self.lanes[lane].take(token) {
            self.lanes[lane].put(Fake { has_input: true, ..conn });
        }
    }

    fn begin(&mut self, lane: usize, token: Token) {
        if let Some(conn) = self.lanes[lane].take(token) {
            self.served.push((lane, conn));
            self.served.sort_by_key(|(lane, conn)| (*lane, conn.token.index()));
        }
    }

    /// An answer went out; the connection waits then, or is closed.
    fn answer(&mut self, number: usize, phase: Option<Phase>) {
        let (lane, conn) = self.served.remove(number);
        match phase {
            Some(phase) => _ = self.lanes[lane].put(Fake { phase, has_input: false, ..conn }),
            None => self.lanes[lane].release(conn.token),
        }
    }

    fn close(&mut self, lane: usize, token: Token) {
        if self.lanes[lane].take(token).is_some() {
            self.lanes[lane].release(token);
        }
    }

    /// One look, as far as it goes under one lock; whoever finds something begins anew.
    fn look(&mut self) {
        let stats = |lane: usize| {
            let mut stats = Stats::default();
            self.lanes[lane].add_stats(&mut stats);
            stats
        };
        let is_quiet = |lane: usize| {
            let stats = stats(lane);
            stats.connections_active + stats.connections_head == 0 && !self.lanes[lane].has_unread()
        };
        let has_idle = |lane: usize| stats(lane).connections_idle > 0;
        let lane = self.looks % LANES;
        let (finds_nothing, last) = match self.fault {
            Fault::None if self.looks == 0 => (self.has_stopped, LANES),
            Fault::None => (self.lanes[self.looks - 1].len() == 0, LANES),
            Fault::ListenerLast if self.looks == LANES => (self.has_stopped, LANES),
            Fault::ListenerLast => (self.lanes[lane].len() == 0, LANES),
            Fault::ForgetsClosing if self.looks == 0 => (self.has_stopped, LANES),
            Fault::ForgetsClosing => (is_quiet(self.looks - 1) && !has_idle(self.looks - 1), LANES),
            Fault::TwoLooks if self.looks < LANES => (is_quiet(lane) && self.has_stopped, 2 * LANES - 1),
            Fault::TwoLooks => (!has_idle(lane), 2 * LANES - 1),
        };
        self.is_done = finds_nothing && self.looks == last;
        self.looks = if finds_nothing { (self.looks + 1) % (last + 1) } else { 0 };
    }

    fn with(&self, change: impl FnOnce(&mut World)) -> World {
        let mut after = self.clone();
        change(&mut after);
        after
    }
}

impl Model for World {
    fn steps(&self) -> Vec<(String, World)> {
        if self.is_done {
            return Vec::new();
        }
        let mut steps = vec![("a look".to_owned(), self.with(World::look))];
        let mut step = |name: String, after: World| steps.push((name, after));
        if self.to_come > 0 && !self.has_stopped {
            step(
                "one connects".to_owned(),
                self.with(|world| (world.to_come, world.in_queue) = (world.to_come - 1, world.in_queue + 1)),
            );
        }
        if self.in_queue > 0 {
            step("one is accepted".to_owned(), self.with(World::accept));
        }
        if !self.has_stopped {
            step("the listener is closed".to_owned(), self.with(World::stop_accepting));
        }
        for (lane, table) in self.lanes.iter().enumerate() {
            for token in table.due(|_| true) {
                let is_such = |is_such: &dyn Fn(&Fake) -> bool| table.due(is_such).contains(&token);
                let is_idle = is_such(&|conn| conn.phase != Phase::Closing && !conn.has_input);
                if is_idle && self.requests > 0 {
                    step("a request comes".to_owned(), self.with(|world| world.send(lane, token)));
                }
                if is_such(&|conn| conn.has_input) {
                    step("it is read".to_owned(), self.with(|world| world.begin(lane, token)));
                } else {
                    step("one is closed".to_owned(), self.with(|world| world.close(lane, token)));
                }
            }
        }
        for number in 0..self.served.len() {
            for phase in [None, Some(Phase::Idle), Some(Phase::Closing)] {
                step(format!("an answer, then {phase:?}"), self.with(|world| world.answer(number, phase)));
            }
        }
        steps
    }

    fn check(&self) -> Result<(), String> {
        let open = self.in_queue + self.lanes.iter().map(Table::len).sum::<usize>();
        if self.is_done && open > 0 {
            return Err(format!("it is done with {open} connections open"));
        }
        Ok(())
    }
}

#[test]
fn in_no_order_is_a_server_done_with_a_connection_open() {
    let states = explore(World::new(Fault::None)).unwrap_or_else(|fault| panic!("{fault}"));
    println!("{states} states");
    assert!(states > 1000, "{states}");
}

#[test]
fn faults_are_found() {
    for fault in [Fault::TwoLooks, Fault::ForgetsClosing, Fault::ListenerLast] {
        let found = explore(World::new(fault)).expect_err(&format!("{fault:?} is not found"));
        println!("{fault:?}: {}", found.lines().next().unwrap_or_default());
    }
}
