//! Every order of a few requests on two pollers and as many workers as there may be. Covered: requests that a poller
//! serves, that a worker serves, and that wait on their poller for a place; workers that cannot be started, that end
//! for want of work, or panic; jobs whose time in line is up; the end of the server. What is to be done once the lock is
//! released happens later, in any order. Not covered: urgent requests, lingering workers, and that a wake, a
//! notification or a job reaches its thread (epoll, the condition variable and the queue of std do that).

use std::time::{Duration, Instant};

use testkit::explore::{Model, explore};

use super::{Places, Queued, Submitted, Todo, bit};

const POLLERS: usize = 2;

/// A fault to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    None,
    /// A worker that frees a place wakes nobody.
    SilentWorker,
    /// A poller that frees a place wakes itself alone.
    SilentPoller,
    /// A job whose time is up in line wakes nobody.
    SilentExpiry,
    /// A worker that could not be started is not tried for again.
    NoTick,
    /// Only the first poller looks at the time of jobs in line.
    OneClock,
    /// A worker that panics gives nothing back.
    NoGuard,
    /// No worker is notified when a place becomes free.
    SilentLeave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// A poller serves it, if it can do so at once.
    Relay,
    /// A worker serves it.
    Work,
    /// It waits on its poller for a place, as after its turn has come.
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    ToCome,
    /// Its poller waits with it for a place.
    Waiting,
    /// A poller serves it.
    Relayed,
    Queued,
    /// A worker serves it.
    Served,
    Done,
}

/// A job in the queue: the number of its request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Job(usize);

impl Queued for Job {
    fn urgent_threads(&self) -> usize {
        0
    }

    fn since(&self) -> Instant {
        Instant::now() // it is due as soon as it is asked for
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Worker {
    Starting,
    Serving(usize),
    Idle { is_notified: bool },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    fault: Fault,
    places: Places<Job>,
    /// Request `n` is that of poller `n % POLLERS`.
    requests: Vec<(Kind, At)>,
    workers: Vec<Worker>,
    is_woken: [bool; POLLERS],
    /// What is to be done still.
    todo: Vec<Todo>,
    /// How many starts fail from now on, and panics are to come.
    failures: usize,
    panics: usize,
    may_stop: bool,
}

impl World {
    fn new(most: usize, kinds: &[Kind], fault: Fault) -> World {
        World {
            fault,
            places: Places::new(most, kinds.len()),
            requests: kinds.iter().map(|kind| (*kind, At::ToCome)).collect(),
            workers: Vec::new(),
            is_woken: [false; POLLERS],
            todo: Vec::new(),
            failures: 1,
            panics: 1,
            may_stop: true,
        }
    }

    fn owe(&mut self, todo: Todo) {
        if todo != Todo::default() {
            self.todo.push(todo);
            self.todo.sort();
        }
    }

    fn submit(&mut self, request: usize) {
        self.requests[request].1 = At::Queued;
        match self.places.submit(Job(request)) {
            Submitted::Queued(todo) => self.owe(todo),
            Submitted::Urgent(_) | Submitted::Refused(_) => self.requests[request].1 = At::Done,
        }
    }

    fn come(&mut self, request: usize) {
        let (kind, at) = &mut self.requests[request];
        match kind {
            Kind::Wait => {
                *at = At::Waiting;
                self.is_woken[request % POLLERS] = true;
            }
            Kind::Relay if self.places.enter() => *at = At::Relayed,
            Kind::Relay | Kind::Work => self.submit(request),
        }
    }

    fn look(&mut self, poller: usize) {
        self.is_woken[poller] = false;
        for request in (poller..self.requests.len()).step_by(POLLERS) {
            if self.requests[request].1 == At::Waiting {
                if !self.places.enter_or_wait(poller) {
                    return; // the others come later
                }
                self.requests[request].1 = At::Relayed;
            }
        }
    }

    fn leave(&mut self, request: usize) {
        self.requests[request].1 = At::Done;
        let mut todo = self.places.leave();
        match self.fault {
            Fault::SilentPoller => todo.wakes &= bit(request % POLLERS),
            Fault::SilentLeave => todo.notifies = false,
            _ => {}
        }
        self.owe(todo);
    }

    /// What is to be done is done.
    fn act(&mut self, number: usize) {
        let todo = self.todo.remove(number);
        if todo.notifies
            && let Some(Worker::Idle { is_notified }) =
                self.workers.iter_mut().find(|worker| **worker == Worker::Idle { is_notified: false })
        {
            *is_notified = true;
        }
        for poller in 0..POLLERS {
            self.is_woken[poller] |= todo.wakes & bit(poller) > 0;
        }
        if todo.starts && self.failures > 0 {
            self.failures -= 1;
            let todo = self.places.start_failed();
            self.owe(todo);
        } else if todo.starts {
            self.workers.push(Worker::Starting);
        }
        self.workers.sort();
    }

    /// A worker goes on: it asks for a job, and waits or ends where there is none.
    fn ask(&mut self, number: usize, is_over: bool) {
        match self.workers[number] {
            Worker::Starting => self.places.started(),
            Worker::Idle { .. } => self.places.rest(false),
            Worker::Serving(request) => {
                self.requests[request].1 = At::Done;
                let todo = self.places.served();
                if self.fault != Fault::SilentWorker {
                    self.owe(todo);
                }
            }
        }
        if let Some(Job(request)) = self.places.take() {
            self.requests[request].1 = At::Served;
            self.workers[number] = Worker::Serving(request);
        } else if is_over || self.places.is_stopping() {
            self.workers.remove(number);
            let todo = self.places.end_worker(false);
            self.owe(todo);
        } else {
            self.workers[number] = Worker::Idle { is_notified: false };
            self.places.rest(true);
        }
        self.workers.sort();
    }

    fn panic(&mut self, number: usize) {
        if let Worker::Serving(request) = self.workers.remove(number) {
            self.panics -= 1;
            self.requests[request].1 = At::Done;
            if self.fault != Fault::NoGuard {
                let todo = self.places.end_worker(true);
                self.owe(todo);
            }
        }
    }

    fn expire(&mut self) {
        if let Some((Job(request), mut todo)) = self.places.expire(Instant::now(), Duration::ZERO) {
            self.requests[request].1 = At::Done;
            if self.fault == Fault::SilentExpiry {
                todo.wakes = 0;
            }
            self.owe(todo);
        }
    }

    fn tick(&mut self) {
        let todo = self.places.tick();
        self.owe(todo);
    }

    /// The pollers have ended, and refused the calls that waited on them.
    fn stop(&mut self) {
        (self.may_stop, self.is_woken) = (false, [false; POLLERS]);
        for (_, at) in &mut self.requests {
            if matches!(at, At::ToCome | At::Waiting) {
                *at = At::Done;
            }
        }
        for Job(request) in self.places.stop() {
            self.requests[request].1 = At::Done;
        }
        for worker in &mut self.workers {
            if let Worker::Idle { is_notified } = worker {
                *is_notified = true;
            }
        }
        self.workers.sort();
    }

    fn count(&self, at: At) -> usize {
        self.requests.iter().filter(|(_, other)| *other == at).count()
    }

    /// Whether a poller that keeps the time of jobs in line is awake: it has a connection.
    fn has_clock(&self) -> bool {
        let clocks = if self.fault == Fault::OneClock { 1 } else { POLLERS };
        let is_open = |(_, at): &(Kind, At)| !matches!(at, At::ToCome | At::Done);
        let requests = self.requests.iter().enumerate();
        requests.filter(|(number, _)| number % POLLERS < clocks).any(|(_, request)| is_open(request))
    }

    /// Whether nothing happens any more, but for what clients and functions do, and the time.
    fn is_at_rest(&self) -> bool {
        let rests =
            |worker: &Worker| !matches!(worker, Worker::Starting | Worker::Idle { is_notified: true });
        self.todo.is_empty() && self.is_woken == [false; POLLERS] && self.workers.iter().all(rests)
    }

    fn with(&self, change: impl FnOnce(&mut World)) -> World {
        let mut after = self.clone();
        change(&mut after);
        after
    }

    /// What the threads of the server do next.
    fn own_steps(&self, steps: &mut Vec<(String, World)>) {
        for number in 0..self.todo.len() {
            steps.push((format!("{:?}", self.todo[number]), self.with(|world| world.act(number))));
        }
        for poller in (0..POLLERS).filter(|poller| self.is_woken[*poller]) {
            steps.push((format!("poller {poller} looks"), self.with(|world| world.look(poller))));
        }
        for (number, worker) in self.workers.iter().enumerate() {
            let is_asleep = *worker == Worker::Idle { is_notified: false };
            if !is_asleep {
                steps.push((format!("{worker:?} asks"), self.with(|world| world.ask(number, false))));
            }
            if matches!(worker, Worker::Idle { .. }) {
                steps.push((format!("{worker:?} is over"), self.with(|world| world.ask(number, true))));
            }
            if matches!(worker, Worker::Serving(_)) && self.panics > 0 {
                steps.push((format!("{worker:?} panics"), self.with(|world| world.panic(number))));
            }
        }
        if self.count(At::Queued) > 0 && self.has_clock() {
            steps.push(("time is up in line".to_owned(), self.with(World::expire)));
            if self.fault != Fault::NoTick {
                steps.push(("tick".to_owned(), self.with(World::tick)));
            }
        }
    }
}

impl Model for World {
    fn steps(&self) -> Vec<(String, World)> {
        let mut steps = Vec::new();
        self.own_steps(&mut steps);
        for (number, (kind, at)) in self.requests.iter().enumerate() {
            match at {
                At::ToCome => {
                    steps.push((format!("{kind:?} {number} comes"), self.with(|world| world.come(number))));
                }
                At::Relayed => {
                    steps.push((format!("{kind:?} {number} ends"), self.with(|world| world.leave(number))));
                }
                _ => {}
            }
        }
        if self.may_stop {
            steps.push(("the server ends".to_owned(), self.with(World::stop)));
        }
        steps
    }

    fn check(&self) -> Result<(), String> {
        let Places { most, serving, relays, alive, .. } = self.places;
        let starting = self.todo.iter().filter(|todo| todo.starts).count();
        if (serving, relays, self.places.waiting())
            != (self.count(At::Served), self.count(At::Relayed), self.count(At::Queued))
            || alive != self.workers.len() + starting
        {
            return Err("what is counted is not what there is".to_owned());
        }
        let taken = serving + relays;
        if taken > most || alive > most {
            return Err("more than may be".to_owned());
        }
        if !self.is_at_rest() {
            return Ok(());
        }
        let queued = self.places.waiting();
        if self.count(At::Waiting) > 0 && taken + queued < most {
            return Err("a call waits on its poller though there is a place".to_owned());
        }
        if queued > 0 && !self.has_clock() {
            return Err("nobody looks at the time of a job in line".to_owned());
        }
        // Only where a worker could not be started is anything left to the time.
        let has_failed = self.failures == 0 && self.fault != Fault::NoTick;
        let is_tried_for = has_failed && self.with(World::tick).todo != self.todo;
        if queued > 0 && taken < most && !is_tried_for {
            return Err("a job is in line though there is a place".to_owned());
        }
        if self.places.is_stopping() && self.places.has_unused() {
            return Err("a worker stays".to_owned());
        }
        Ok(())
    }
}

const CASES: [(usize, &[Kind]); 4] = [
    (1, &[Kind::Relay, Kind::Work, Kind::Wait, Kind::Wait, Kind::Work]),
    (1, &[Kind::Work, Kind::Wait, Kind::Work, Kind::Relay]),
    (2, &[Kind::Work, Kind::Work, Kind::Wait, Kind::Relay, Kind::Work]),
    (2, &[Kind::Work, Kind::Work, Kind::Work, Kind::Wait]),
];

#[test]
fn in_no_order_is_a_place_left_while_somebody_waits_for_it() {
    for (most, kinds) in CASES {
        let states = explore(World::new(most, kinds, Fault::None)).unwrap_or_else(|fault| panic!("{fault}"));
        println!("{most} {kinds:?}: {states} states");
        assert!(states > 1000, "{states}");
    }
}

#[test]
fn faults_are_found() {
    let waits = "a call waits on its poller though there is a place";
    let line = "a job is in line though there is a place";
    for (fault, what) in [
        (Fault::SilentWorker, waits),
        (Fault::SilentPoller, waits),
        (Fault::SilentExpiry, waits),
        (Fault::NoTick, line),
        (Fault::OneClock, "nobody looks at the time of a job in line"),
        (Fault::NoGuard, "what is counted is not what there is"),
        (Fault::SilentLeave, line),
    ] {
        let found = CASES.iter().find_map(|(most, kinds)| explore(World::new(*most, kinds, fault)).err());
        let found = found.unwrap_or_else(|| panic!("{fault:?} is not found"));
        println!("{fault:?}: {}", found.lines().next().unwrap_or_default());
        assert!(found.starts_with(what), "{fault:?}: {found}");
    }
}
