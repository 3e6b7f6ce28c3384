//! One replica: a listening socket of the gateway's and the fwatchdog that serves it.
//!
//! The gateway keeps the socket open beside the child, so that calls queue in the kernel while a child
//! starts, or starts again after a first end. A replica that keeps failing loses its socket, which resets
//! queued calls. The gateway calls it again once its child has run for a while.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use kit::sys::Listener;
use kit::sys::child::{Child, End};
use kit::sys::signal::Signal;
use kit::{Backoff, Deadline};

use super::launcher::Launcher;
use crate::function::FunctionName;
use crate::provider::local::functions_file::Process;

/// How long a replica that kept failing must run before it is called again.
const PROVEN: Duration = Duration::from_secs(1);

/// How often a child is looked at where the kernel has no descriptor that tells its end.
const TICK: Duration = Duration::from_millis(100);

/// How long a replica stays up after the table has lost it, for calls that had chosen it by then.
const FAREWELL: Duration = Duration::from_millis(100);

/// How much longer than a call a retired replica may run.
const GRACE: Duration = Duration::from_secs(1);

/// How long a fwatchdog has to end its processes after the second SIGTERM, before it is killed.
const LAST_GRACE: Duration = Duration::from_secs(1);

/// The exit code of a fwatchdog that refuses a setting.
const REFUSED: i32 = kit::arguments::EXIT_CONFIGURATION as i32;

/// What a replica is started from.
pub(super) struct Plan<'a> {
    pub(super) launcher: &'a Launcher,
    pub(super) name: &'a FunctionName,
    pub(super) process: &'a Process,
    /// Who runs it, where it is not the gateway's own user.
    pub(super) user: Option<u32>,
    /// How long it may go on after SIGTERM: its last calls are the gateway's, which ends them in time.
    pub(super) call_time: Duration,
}

/// A replica that should run.
pub(super) struct Replica {
    listener: Option<(Listener, SocketAddr)>,
    state: State,
    backoff: Backoff,
    /// The last failure.
    problem: Option<String>,
}

enum State {
    Running { child: Child, since: Instant },
    Waiting { until: Instant },
}

impl Replica {
    /// A replica that is started at once.
    pub(super) fn new(now: Instant) -> Replica {
        Replica {
            listener: None,
            state: State::Waiting { until: now },
            backoff: Backoff::default(),
            problem: None,
        }
    }

    /// Notices that the child ended, and starts it when it is time.
    pub(super) fn tend(&mut self, plan: &Plan<'_>, now: Instant) {
        if let State::Running { child, since } = &mut self.state {
            let how = match child.ended() {
                Ok(None) => return,
                Ok(Some(End::Exited(REFUSED))) => {
                    format!("exited with code {REFUSED}: it refuses a setting, the log says which")
                }
                Ok(Some(End::Exited(code))) => format!("exited with code {code}"),
                Ok(Some(End::Killed(signal))) => format!("was killed by signal {signal}"),
                Err(error) => format!("is lost: {error}"),
            };
            let ran = now.saturating_duration_since(*since);
            self.failed(plan.name, format!("fwatchdog {how}"), (now, ran));
        }
        if let State::Waiting { until } = self.state
            && until <= now
        {
            match self.start(plan) {
                Ok(child) => self.state = State::Running { child, since: now },
                Err(error) => {
                    let user = plan.user.map(|user| format!(" as user {user}")).unwrap_or_default();
                    let what = format!("failed to start fwatchdog{user}: {error}");
                    self.failed(plan.name, what, (now, Duration::ZERO));
                }
            }
        }
    }

    /// Opens the socket, so that calls can queue before the child starts.
    pub(super) fn bind(&mut self) -> io::Result<&Listener> {
        let bound = match self.listener.take() {
            Some(bound) => bound,
            None => {
                let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
                let address = listener.address()?;
                (listener, address)
            }
        };
        Ok(&self.listener.insert(bound).0)
    }

    fn start(&mut self, plan: &Plan<'_>) -> io::Result<Child> {
        plan.launcher.start(plan, self.bind()?)
    }

    fn failed(&mut self, name: &FunctionName, what: String, (now, ran): (Instant, Duration)) {
        let delay = self.backoff.failed(ran);
        if self.backoff.is_failing() {
            self.listener = None;
        }
        log::warn!("function `{name}`: {what}; starting again in {}", kit::duration::format(delay));
        self.state = State::Waiting { until: now + delay };
        self.problem = Some(what);
    }

    /// The last failure: why the replica cannot be called.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// The address, if the replica can be called.
    pub(super) fn endpoint(&self, now: Instant) -> Option<SocketAddr> {
        let (_, address) = self.listener.as_ref()?;
        let is_callable = match self.state {
            _ if !self.backoff.is_failing() => true,
            State::Running { since, .. } => now.saturating_duration_since(since) >= PROVEN,
            State::Waiting { .. } => false,
        };
        is_callable.then_some(*address)
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Becomes readable when the child ends.
    pub(super) fn end_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Running { child, .. } => child.end_fd(),
            State::Waiting { .. } => None,
        }
    }

    /// When to check the replica again, whatever happens.
    pub(super) fn due(&self, now: Instant) -> Deadline {
        match &self.state {
            State::Waiting { until } => Deadline::at(*until),
            State::Running { child, since } => {
                let proven = *since + PROVEN;
                let is_on_trial = self.backoff.is_failing() && proven > now;
                let trial = if is_on_trial { Deadline::at(proven) } else { Deadline::NEVER };
                trial.min(tick(child, now))
            }
        }
    }

    /// Retires the replica: it may finish its calls, none of which takes longer than `call_time`. `None` without a child.
    pub(super) fn retire(self, now: Instant, call_time: Duration) -> Option<Retiring> {
        let term = now + FAREWELL;
        let again = term + call_time + GRACE;
        self.end_by([term, again, again + LAST_GRACE])
    }

    /// Ends the replica: at once if it is idle, otherwise its calls end at the deadline. `None` without a child.
    pub(super) fn stop(self, now: Instant, deadline: Deadline) -> Option<Retiring> {
        let last = deadline.instant().unwrap_or(now).max(now);
        self.end_by([now, last, last + LAST_GRACE])
    }

    fn end_by(self, [term, again, kill]: [Instant; 3]) -> Option<Retiring> {
        let State::Running { child, .. } = self.state else { return None };
        // A fwatchdog takes the first signal as "finish your calls", the second as "end them".
        let steps = vec![(kill, Signal::KILL), (again, Signal::TERM), (term, Signal::TERM)];
        Some(Retiring { child, listener: self.listener.map(|bound| bound.0), steps })
    }
}

/// A replica that is on its way out.
pub(super) struct Retiring {
    child: Child,
    /// Open until the child is told to end, so that no queued call is lost to the farewell.
    listener: Option<Listener>,
    /// Signals that are still to be sent, the next one last.
    steps: Vec<(Instant, Signal)>,
}

impl Retiring {
    /// Sends the signals that are due. Answers whether the child has ended.
    pub(super) fn tend(&mut self, now: Instant) -> bool {
        if !matches!(self.child.ended(), Ok(None)) {
            return true;
        }
        while let Some((_, signal)) = self.steps.pop_if(|(at, _)| *at <= now) {
            self.listener = None;
            // To it alone: what it has just started is in its group for a moment, and may be a call that it is to finish.
            match signal {
                Signal::TERM => self.child.signal(signal),
                _ => self.child.signal_group(signal),
            }
        }
        false
    }

    /// Waits no longer than `deadline` for the calls of the replica.
    pub(super) fn hurry(&mut self, now: Instant, deadline: Deadline) {
        let last = deadline.instant().unwrap_or(now).max(now);
        let bounds = [last + LAST_GRACE, last, now];
        for ((at, _), bound) in self.steps.iter_mut().zip(bounds) {
            *at = bound.min(*at);
        }
    }

    /// Becomes readable when the child ends.
    pub(super) fn end_fd(&self) -> Option<BorrowedFd<'_>> {
        self.child.end_fd()
    }

    /// When to check the replica again, whatever happens.
    pub(super) fn due(&self, now: Instant) -> Deadline {
        let next = self.steps.last().map_or(Deadline::NEVER, |(at, _)| Deadline::at(*at));
        next.min(tick(&self.child, now))
    }
}

fn tick(child: &Child, now: Instant) -> Deadline {
    if child.end_fd().is_some() { Deadline::NEVER } else { Deadline::at(now + TICK) }
}
