//! Every order of a few requests of one client or two, on two pollers and as many workers as there may be. Covered:
//! shares of clients; requests that a poller serves, that a worker serves, and that wait on their poller for a place;
//! workers that cannot be started, that end for want of work, or panic; jobs whose time in line is up; the end of the
//! server. What is to be done once the lock is released happens later, in any order. Not covered: lingering workers,
//! and that a wake, a notification or a job reaches its thread (epoll, the condition variable and the queue of std do
//! that).

use std::time::{Duration, Instant};

use testkit::explore::{Model, explore};

use super::{Entry, Places, Queued, Submitted, Todo, bit};

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
    /// Nobody keeps to the share of a client.
    NoShare,
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

/// A job in the queue: the number of its request, and its client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Job(usize, usize);

impl Queued for Job {
    fn since(&self) -> Instant {
        Instant::now() // it is due as soon as it is asked for
    }

    fn client(&self) -> usize {
        self.1
    }
}

/// The bounds of the places, and the requests that come with their clients.
struct Case {
    most: usize,
    share: usize,
    requests: &'static [(Kind, usize)],
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
    share: usize,
    /// Request `n` is that of poller `n % POLLERS`.
    requests: Vec<(Kind, At)>,
    /// The client of each.
    clients: Vec<usize>,
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
    fn new(case: &Case, fault: Fault) -> World {
        let Case { most, share, requests } = *case;
        World {
            fault,
            places: Places::new(most, requests.len()).shares(if fault == Fault::NoShare {
                most
            } else {
                share
            }),
            share: share.min(most),
            requests: requests.iter().map(|(kind, _)| (*kind, At::ToCome)).collect(),
            clients: requests.iter().map(|(_, client)| *client).collect(),
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
        match self.places.submit(Job(request, self.clients[request])) {
            Submitted::Queued(todo) => self.owe(todo),
            Submitted::Refused(_) | Submitted::TooManyOfClient(_) => {
                self.requests[request].1 = At::Done;
            }
        }
    }

    fn come(&mut self, request: usize) {
        let (kind, at) = &mut self.requests[request];
        match kind {
            Kind::Wait => {
                *at = At::Waiting;
                self.is_woken[request % POLLERS] = true;
            }
            Kind::Relay if self.places.enter(self.clients[request]) => *at = At::Relayed,
            Kind::Relay | Kind::Work => self.submit(request),
        }
    }

    fn look(&mut self, poller: usize) {
        self.is_woken[poller] = false;
        for request in (poller..self.requests.len()).step_by(POLLERS) {
            if self.requests[request].1 == At::Waiting {
                match self.places.enter_or_wait(poller, self.clients[request]) {
                    Entry::Entered => self.requests[request].1 = At::Relayed,
                    Entry::Full => return, // the others come later
                    Entry::OverShare => {}
                }
            }
        }
    }

    fn leave(&mut self, request: usize) {
        self.requests[request].1 = At::Done;
        let mut todo = self.places.leave(self.clients[request]);
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
                let todo = self.places.served(self.clients[request]);
                if self.fault != Fault::SilentWorker {
                    self.owe(todo);
                }
            }
        }
        if let Some(Job(request, _)) = self.places.take() {
            self.requests[request].1 = At::Served;
            self.workers[number] = Worker::Serving(request);
        } else if is_over || self.places.is_stopping() {
            self.workers.remove(number);
            let todo = self.places.end_worker(None);
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
                let todo = self.places.end_worker(Some(self.clients[request]));
                self.owe(todo);
            }
        }
    }

    fn expire(&mut self) {
        if let Some((Job(request, _), _, mut todo)) = self.places.expire(Instant::now(), Duration::ZERO) {
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
        for Job(request, _) in self.places.stop() {
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

    fn count_of(&self, client: usize, at: At) -> usize {
        let requests = self.requests.iter().zip(&self.clients);
        requests.filter(|((_, other), of)| *other == at && **of == client).count()
    }

    /// Requests of a client that are served, and those in line that its share lets go on.
    fn shares(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let last = self.clients.iter().copied().max().unwrap_or_default();
        (0..=last).map(|client| {
            let served = self.count_of(client, At::Served) + self.count_of(client, At::Relayed);
            let queued = self.count_of(client, At::Queued);
            (client, served, queued.min(self.share.saturating_sub(served)))
        })
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
        if self.shares().any(|(_, served, _)| served > self.share) {
            return Err("more of a client than its share".to_owned());
        }
        let ready = self.shares().map(|(_, _, ready)| ready).sum::<usize>();
        if self.fault == Fault::None && self.places.ready != ready {
            return Err("jobs that may go on are not those that are counted".to_owned());
        }
        if !self.is_at_rest() {
            return Ok(());
        }
        let queued = self.places.waiting();
        let may_enter = |(client, served, _): (usize, usize, usize)| {
            self.count_of(client, At::Waiting) > 0 && served + self.count_of(client, At::Queued) < self.share
        };
        if taken + ready < most && self.shares().any(may_enter) {
            return Err("a call waits on its poller though there is a place".to_owned());
        }
        if queued > 0 && !self.has_clock() {
            return Err("nobody looks at the time of a job in line".to_owned());
        }
        // Only where a worker could not be started is anything left to the time.
        let has_failed = self.failures == 0 && self.fault != Fault::NoTick;
        let is_tried_for = has_failed && self.with(World::tick).todo != self.todo;
        if ready > 0 && taken < most && !is_tried_for {
            return Err("a job is in line though there is a place".to_owned());
        }
        if self.places.is_stopping() && self.places.has_unused() {
            return Err("a worker stays".to_owned());
        }
        Ok(())
    }
}

/// A client that has all of the places, if it likes.
const ALL: usize = 9;

const CASES: [Case; 7] = [
    Case {
        most: 1,
        share: ALL,
        requests: &[(Kind::Relay, 0), (Kind::Work, 0), (Kind::Wait, 0), (Kind::Wait, 0), (Kind::Work, 0)],
    },
    Case {
        most: 1,
        share: ALL,
        requests: &[(Kind::Work, 0), (Kind::Wait, 0), (Kind::Work, 1), (Kind::Relay, 1)],
    },
    Case {
        most: 2,
        share: ALL,
        requests: &[(Kind::Work, 0), (Kind::Work, 0), (Kind::Wait, 0), (Kind::Relay, 0), (Kind::Work, 0)],
    },
    Case {
        most: 2,
        share: ALL,
        requests: &[(Kind::Work, 0), (Kind::Work, 0), (Kind::Work, 0), (Kind::Wait, 0)],
    },
    Case {
        most: 2,
        share: 1,
        requests: &[(Kind::Work, 0), (Kind::Relay, 0), (Kind::Wait, 0), (Kind::Work, 1)],
    },
    Case {
        most: 2,
        share: 1,
        requests: &[(Kind::Wait, 0), (Kind::Wait, 0), (Kind::Work, 0), (Kind::Wait, 1)],
    },
    Case {
        most: 3,
        share: 2,
        requests: &[(Kind::Relay, 0), (Kind::Work, 0), (Kind::Work, 0), (Kind::Wait, 1)],
    },
];

#[test]
fn in_no_order_is_a_place_left_while_somebody_waits_for_it() {
    for case in CASES {
        let states = explore(World::new(&case, Fault::None)).unwrap_or_else(|fault| panic!("{fault}"));
        println!("{} {} {:?}: {states} states", case.most, case.share, case.requests);
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
        (Fault::NoShare, "more of a client than its share"),
    ] {
        let found = CASES.iter().find_map(|case| explore(World::new(case, fault)).err());
        let found = found.unwrap_or_else(|| panic!("{fault:?} is not found"));
        println!("{fault:?}: {}", found.lines().next().unwrap_or_default());
        assert!(found.starts_with(what), "{fault:?}: {found}");
    }
}

/// The places of two clients: the requests of the first are more than its share.
#[test]
fn requests_beyond_a_share_wait_and_those_of_others_overtake_them() {
    let mut places = Places::new(4, 8).shares(3);
    let submit = |places: &mut Places<Job>, request, client| match places.submit(Job(request, client)) {
        Submitted::Queued(_) => "queued",
        Submitted::TooManyOfClient(_) => "too many of the client",
        Submitted::Refused(_) => "refused",
    };
    // Three places, and three quarters of the line.
    (0..9).for_each(|request| assert_eq!(submit(&mut places, request, 0), "queued"));
    assert_eq!(submit(&mut places, 9, 0), "too many of the client");
    let taken: Vec<_> = std::iter::from_fn(|| places.take()).map(|Job(request, _)| request).collect();
    assert_eq!((taken, places.waiting()), (vec![0, 1, 2], 6));
    assert!(!places.enter(0) && places.enter_or_wait(0, 0) == Entry::OverShare);
    assert!(places.enter(1), "another client has a place at once");
    assert_eq!(places.enter_or_wait(1, 1), Entry::Full);
    assert_eq!(submit(&mut places, 10, 1), "queued");
    assert_eq!(submit(&mut places, 11, 1), "queued");
    assert_eq!(submit(&mut places, 12, 1), "refused", "the line is full");
    let _ = places.leave(1);
    assert_eq!(places.take(), Some(Job(10, 1)), "it overtakes those beyond the share");
    let _ = places.served(0);
    assert_eq!(places.take(), Some(Job(3, 0)), "the first that has waited");
    let (job, is_over_share, _) = places.expire(Instant::now(), Duration::ZERO).unwrap();
    assert_eq!((job, is_over_share), (Job(4, 0), true));
}
