//! Processes that were started ahead (`prewarm`): each waits on its STDIN, serves one request, and is replaced
//! off the request's path, by a thread of its own.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kit::sys::EventFd;
use kit::sys::signal::Signal;
use kit::{Backoff, Deadline};

use crate::function::Function;
use crate::process::instance::{Mark, Started};
use crate::process::lines::{self, Lines};

/// The most processes that may wait.
pub(crate) const MAX_WAITING: u64 = 256;

/// A look at what waits at least this often, should a signal that a child has ended get lost among others.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Between two looks whether the last call has ended.
const END_PAUSE: Duration = Duration::from_millis(10);

/// The processes that wait.
pub(crate) struct Warm {
    wake: EventFd,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The one that has waited longest is first: it has had most time to get ready.
    waiting: VecDeque<Waiting>,
    is_stopping: bool,
}

struct Waiting {
    process: Started,
    since: Instant,
}

impl Warm {
    pub(crate) fn new() -> io::Result<Warm> {
        Ok(Warm { wake: EventFd::new()?, state: Mutex::new(State::default()) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process for one request, if one waits. Its place is filled again soon.
    pub(crate) fn take(&self, function: &Function) -> Option<Started> {
        loop {
            let waiting = self.state().waiting.pop_front();
            let mut process = waiting?.process;
            self.wake.notify();
            if matches!(process.child.ended(), Ok(None)) {
                return Some(process);
            }
            bury(process, function);
        }
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.state().waiting.len()
    }

    /// A child has ended: one that waits, perhaps.
    pub(crate) fn look(&self) {
        self.wake.notify();
    }

    /// Ends those that wait and starts no more; the thread is to be joined.
    pub(crate) fn stop(&self) {
        self.state().is_stopping = true;
        self.wake.notify();
    }
}

/// Starts the thread that keeps `prewarm` processes waiting; it ends after [`Warm::stop`].
///
/// # Errors
/// When the system has no room for a thread.
pub(crate) fn start(function: &Arc<Function>) -> io::Result<JoinHandle<()>> {
    let function = Arc::clone(function);
    // The kernel takes a child for that of the thread that started it, and gives it to the main thread when that
    // one ends, where it would be waited for as an orphan: the thread must not end before its children.
    kit::thread::spawn_vital("fwatchdog-warm", move || Keeper::new(&function).run())
}

struct Keeper<'a> {
    function: &'a Function,
    warm: &'a Warm,
    backoff: Backoff,
    /// No process is started before this.
    next_start: Instant,
}

impl Keeper<'_> {
    fn new(function: &Function) -> Keeper<'_> {
        Keeper { function, warm: &function.warm, backoff: Backoff::default(), next_start: Instant::now() }
    }

    fn run(mut self) {
        while !self.warm.state().is_stopping {
            self.warm.wake.clear();
            let now = Instant::now();
            self.bury_ended(now);
            let old = self.take_old(now);
            self.fill(now);
            for process in old {
                process.end(self.function); // its successor is there already
            }
            self.warm.wake.wait(self.next_look());
        }
        self.end_all();
    }

    /// Ends those that wait, and returns once the calls that have one have ended too.
    fn end_all(&self) {
        let left = std::mem::take(&mut self.warm.state().waiting);
        for waiting in &left {
            waiting.process.child.signal_group(Signal::TERM); // to all at first: they end together
        }
        for waiting in left {
            waiting.process.end(self.function);
        }
        while !self.function.groups().is_empty() {
            self.warm.wake.clear();
            self.warm.wake.wait(Deadline::after(END_PAUSE));
        }
    }

    /// Those that ended while they waited were not asked to: the next is started after a pause.
    fn bury_ended(&mut self, now: Instant) {
        let mut ended = Vec::new();
        let mut state = self.warm.state();
        for _ in 0..state.waiting.len() {
            let Some(mut waiting) = state.waiting.pop_front() else { break };
            match waiting.process.child.ended() {
                Ok(None) => state.waiting.push_back(waiting),
                _ => ended.push(waiting),
            }
        }
        drop(state);
        // Those that were started together end together: one pause for all of them.
        if let Some(youngest) = ended.iter().map(|waiting| now - waiting.since).min()
            && now >= self.next_start
        {
            self.next_start = now + self.backoff.failed(youngest);
        }
        for waiting in ended {
            bury(waiting.process, self.function);
        }
    }

    fn take_old(&self, now: Instant) -> Vec<Started> {
        let max_age = self.function.config.prewarm_max_age;
        let mut state = self.warm.state();
        let mut old = Vec::new();
        while state.waiting.front().is_some_and(|waiting| now - waiting.since >= max_age) {
            old.extend(state.waiting.pop_front().map(|waiting| waiting.process));
        }
        old
    }

    fn fill(&mut self, now: Instant) {
        while now >= self.next_start && self.warm.count() < self.function.config.prewarm {
            match Started::start(self.function, Mark::new(), |_| {}) {
                Ok(process) => {
                    self.warm.state().waiting.push_back(Waiting { process, since: Instant::now() })
                }
                Err(error) => {
                    let pause = self.backoff.failed(Duration::ZERO);
                    log::error!("cannot start `{}` ahead: {error}", self.function.config.program());
                    self.next_start = now + pause;
                }
            }
        }
    }

    fn next_look(&self) -> Deadline {
        let state = self.warm.state();
        let mut next = Deadline::after(LOOK_PAUSE);
        if state.waiting.len() < self.function.config.prewarm {
            next = next.min(Deadline::at(self.next_start));
        }
        let oldest = state.waiting.front().map(|waiting| waiting.since);
        let age = oldest.and_then(|since| since.checked_add(self.function.config.prewarm_max_age));
        age.map_or(next, |at| next.min(Deadline::at(at)))
    }
}

/// Says how a process ended that nobody had given a request, with its last words.
fn bury(mut process: Started, function: &Function) {
    let (mut lines, mut room) = (Lines::default(), [0; lines::READ_BYTES]);
    let say = |line: &str| log::info!("call={} {line}", process.mark);
    // What is not there is not said.
    if let Some(Ok(Some(count))) = process.pipes.stderr.as_ref().map(|stderr| stderr.read_some(&mut room)) {
        lines.take(&room[..count], say);
    }
    lines.take_rest(say);
    let how = match process.child.ended() {
        Ok(Some(end)) => end.to_string(),
        Ok(None) => "no end".to_owned(),
        Err(error) => error.to_string(),
    };
    log::warn!(
        "call={} a process that waited for a request has ended by itself, with {how}; see prewarm",
        process.mark
    );
    process.end(function); // what it has started
}
