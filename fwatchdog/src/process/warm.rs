//! Processes that are started ahead (`prewarm`). Each waits on its STDIN and serves one request. A thread of its own
//! replaces it, so that no request waits for a start.

use std::collections::VecDeque;
use std::io;
use std::sync::MutexGuard;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kit::Guarded;
use kit::sys::EventFd;
use kit::sys::signal::Signal;
use kit::{Backoff, Deadline};

use super::instance::Instance;
use super::launcher::Launcher;
use super::log_stream::LogStream;
use super::mark::Mark;

/// The most processes that may wait.
pub(crate) const MAX_WAITING: u64 = 256;

/// The longest time between two checks of the waiting processes: the signal that a child has ended may get lost among
/// others.
const CHECK_PAUSE: Duration = Duration::from_secs(5);

/// Between two checks whether the last call has ended.
const END_PAUSE: Duration = Duration::from_millis(10);

/// The processes that wait.
pub(crate) struct WarmPool {
    wake: EventFd,
    stock: Guarded<Stock>,
    kill_grace: Duration,
}

#[derive(Default)]
struct Stock {
    /// The oldest process is first: it has had most time to get ready.
    waiting: VecDeque<Waiting>,
    is_stopping: bool,
}

struct Waiting {
    process: Instance,
    since: Instant,
}

impl WarmPool {
    pub(crate) fn new(kill_grace: Duration) -> io::Result<WarmPool> {
        Ok(WarmPool { wake: EventFd::new()?, stock: Guarded::default(), kill_grace })
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock()
    }

    /// A process for one request, if one waits. Another is started in its place.
    pub(crate) fn take(&self) -> Option<Instance> {
        loop {
            let waiting = self.stock().waiting.pop_front();
            let mut process = waiting?.process;
            self.wake.notify();
            if matches!(process.listed.child.ended(), Ok(None)) {
                return Some(process);
            }
            bury(process, self.kill_grace);
        }
    }

    /// The number of processes that wait.
    pub(crate) fn count(&self) -> usize {
        self.stock().waiting.len()
    }

    /// Says that a child has ended, which may be a process that waits.
    pub(crate) fn child_ended(&self) {
        self.wake.notify();
    }

    /// Has the thread end all waiting processes and start no more, then end.
    pub(crate) fn stop(&self) {
        self.stock().is_stopping = true;
        self.wake.notify();
    }
}

/// Starts the thread that keeps `size` processes waiting, none for longer than `max_age`. The thread ends after
/// [`WarmPool::stop`].
///
/// # Errors
/// When the system has no room for a thread.
pub(crate) fn start(
    pool: &'static WarmPool,
    launcher: &'static Launcher,
    size: usize,
    max_age: Duration,
) -> io::Result<JoinHandle<()>> {
    let (backoff, next_start) = (Backoff::default(), Instant::now());
    let refill = Refill { pool, launcher, size, max_age, backoff, next_start };
    // A child belongs to the thread that started it. When that thread ends, the kernel gives the child to the main
    // thread, which would wait for it as for an orphan: the thread must not end before its children.
    kit::thread::spawn_vital("fwatchdog-warm", move || refill.run())
}

/// The thread that keeps processes waiting.
struct Refill {
    pool: &'static WarmPool,
    launcher: &'static Launcher,
    size: usize,
    max_age: Duration,
    backoff: Backoff,
    /// No process is started before this.
    next_start: Instant,
}

impl Refill {
    fn run(mut self) {
        while !self.pool.stock().is_stopping {
            self.pool.wake.clear();
            let now = Instant::now();
            self.bury_ended(now);
            let old = self.take_old(now);
            self.fill(now);
            for process in old {
                process.end(self.launcher.kill_grace); // its successor waits already
            }
            self.pool.wake.wait(self.next_check());
        }
        self.end_all();
    }

    /// Ends all processes that wait, and returns once the calls that have taken one have ended too.
    fn end_all(&self) {
        let left = std::mem::take(&mut self.pool.stock().waiting);
        for waiting in &left {
            waiting.process.listed.child.signal_group(Signal::TERM); // first to all: they end together
        }
        for waiting in left {
            waiting.process.end(self.launcher.kill_grace);
        }
        while !self.launcher.groups.is_empty() {
            self.pool.wake.clear();
            self.pool.wake.wait(Deadline::after(END_PAUSE));
        }
    }

    /// Waits for processes that have ended before a request came. The next one starts after a pause.
    fn bury_ended(&mut self, now: Instant) {
        let mut ended = Vec::new();
        let mut stock = self.pool.stock();
        for _ in 0..stock.waiting.len() {
            let Some(mut waiting) = stock.waiting.pop_front() else { break };
            match waiting.process.listed.child.ended() {
                Ok(None) => stock.waiting.push_back(waiting),
                _ => ended.push(waiting),
            }
        }
        drop(stock);
        // Processes that start together end together: one pause for all of them.
        if let Some(youngest) = ended.iter().map(|waiting| now - waiting.since).min()
            && now >= self.next_start
        {
            self.next_start = now + self.backoff.failed(youngest);
        }
        for waiting in ended {
            bury(waiting.process, self.launcher.kill_grace);
        }
    }

    fn take_old(&self, now: Instant) -> Vec<Instance> {
        let mut stock = self.pool.stock();
        let mut old = Vec::new();
        while stock.waiting.front().is_some_and(|waiting| now - waiting.since >= self.max_age) {
            old.extend(stock.waiting.pop_front().map(|waiting| waiting.process));
        }
        old
    }

    fn fill(&mut self, now: Instant) {
        while now >= self.next_start && self.pool.count() < self.size {
            let mark = Mark::new();
            match self.launcher.start(mark, self.launcher.environment(mark, 0, 0)) {
                Ok(process) => {
                    self.pool.stock().waiting.push_back(Waiting { process, since: Instant::now() })
                }
                Err(error) => {
                    let pause = self.backoff.failed(Duration::ZERO);
                    log::error!("cannot start `{}` ahead: {error}", self.launcher.program());
                    self.next_start = now + pause;
                }
            }
        }
    }

    fn next_check(&self) -> Deadline {
        let stock = self.pool.stock();
        let mut next = Deadline::after(CHECK_PAUSE);
        if stock.waiting.len() < self.size {
            next = next.min(Deadline::at(self.next_start));
        }
        let oldest = stock.waiting.front().map(|waiting| waiting.since);
        let age = oldest.and_then(|since| since.checked_add(self.max_age));
        age.map_or(next, |at| next.min(Deadline::at(at)))
    }
}

/// Logs how a process ended that got no request, with its last lines on STDERR, and ends what it has started.
fn bury(mut process: Instance, grace: Duration) {
    let mut stderr = LogStream::new(process.pipes.stderr.take());
    let log = |line: &str| log::info!("call={} {line}", process.mark);
    stderr.read(1, &log);
    stderr.end(&log);
    let how = match process.listed.child.ended() {
        Ok(Some(end)) => end.to_string(),
        Ok(None) => "no end".to_owned(),
        Err(error) => error.to_string(),
    };
    log::warn!(
        "call={} a process that waited for a request has ended by itself, with {how}; see prewarm",
        process.mark
    );
    process.end(grace);
}
