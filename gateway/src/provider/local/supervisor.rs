//! The thread that keeps the children of the local provider: starts them, starts them again, ends them,
//! and tells the table which can be called. It alone starts children, and they end when it does.

use std::mem;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use kit::Deadline;
use kit::sys::{EventFd, PollFd, Ready, poll};

use super::file::Resolved;
use super::launcher::Launcher;
use super::replica::{Plan, Replica, Retiring};
use crate::functions_file::{Process, Serves};
use crate::provider::{Known, Sink};

/// What the supervisor is asked to do, and the descriptor that wakes it.
pub(super) struct Mailbox {
    mail: Mutex<Mail>,
    wake: EventFd,
}

/// Orders that were not seen yet; a later one replaces an earlier one.
#[derive(Default)]
struct Mail {
    functions: Option<Vec<Resolved>>,
    stop: Option<Deadline>,
}

impl Mailbox {
    pub(super) fn new() -> std::io::Result<Mailbox> {
        Ok(Mailbox { mail: Mutex::default(), wake: EventFd::new()? })
    }

    /// Orders these functions to be served, and no others.
    pub(super) fn serve(&self, functions: Vec<Resolved>) {
        self.leave(|mail| mail.functions = Some(functions));
    }

    /// Orders everything to end: calls that run may finish until the deadline.
    pub(super) fn stop(&self, deadline: Deadline) {
        self.leave(|mail| mail.stop = Some(deadline));
    }

    fn leave(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify();
    }

    fn take(&self) -> Mail {
        self.wake.clear();
        mem::take(&mut self.mail.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A function that is served.
struct Function {
    resolved: Resolved,
    /// Empty when somebody else serves it.
    replicas: Vec<Replica>,
}

/// What the thread owns.
pub(super) struct Supervisor {
    launcher: Launcher,
    sink: Arc<dyn Sink>,
    mailbox: Arc<Mailbox>,
    functions: Vec<Function>,
    retiring: Vec<Retiring>,
    published: Option<Vec<Known>>,
    is_stopping: bool,
}

impl Supervisor {
    pub(super) fn new(launcher: Launcher, sink: Arc<dyn Sink>, mailbox: Arc<Mailbox>) -> Supervisor {
        Supervisor {
            launcher,
            sink,
            mailbox,
            functions: Vec::new(),
            retiring: Vec::new(),
            published: None,
            is_stopping: false,
        }
    }

    /// Follows orders until it is stopped and no child is left. `started` is called once, when the functions
    /// of the first orders can be called; their children are started behind that.
    pub(super) fn run(mut self, started: impl FnOnce()) {
        let mut started = Some(started);
        loop {
            let now = Instant::now();
            self.follow_orders(now);
            if let Some(started) = started.take() {
                self.bind();
                self.publish(now);
                started();
            }
            self.tend(now);
            if self.is_stopping && self.retiring.is_empty() {
                return;
            }
            self.wait(now);
        }
    }

    fn follow_orders(&mut self, now: Instant) {
        let mail = self.mailbox.take();
        if let Some(functions) = mail.functions.filter(|_| !self.is_stopping) {
            self.serve(functions, now);
        }
        if let Some(deadline) = mail.stop {
            self.is_stopping = true;
            let replicas = mem::take(&mut self.functions).into_iter().flat_map(|function| function.replicas);
            self.retiring.iter_mut().for_each(|retiring| retiring.hurry(now, deadline));
            self.retiring.extend(replicas.filter_map(|replica| replica.stop(now, deadline)));
        }
    }

    /// Functions that are run in the same way keep their replicas, all others get new ones.
    fn serve(&mut self, functions: Vec<Resolved>, now: Instant) {
        let mut old = mem::take(&mut self.functions);
        for resolved in functions {
            let kept = old.iter_mut().find(|function| is_same_process(&function.resolved, &resolved));
            let mut replicas = kept.map(|function| mem::take(&mut function.replicas)).unwrap_or_default();
            if let Serves::Process(process) = &resolved.declared.serves {
                self.resize(&mut replicas, process.replicas as usize, now);
            }
            self.functions.push(Function { resolved, replicas });
        }
        let given_up = old.into_iter().flat_map(|function| function.replicas);
        self.retiring.extend(given_up.filter_map(|replica| replica.retire(now)));
    }

    /// Adds or gives up replicas; of those there are, the running ones are kept first.
    fn resize(&mut self, replicas: &mut Vec<Replica>, wanted: usize, now: Instant) {
        replicas.sort_by_key(|replica| !replica.is_running());
        let surplus = replicas.split_off(wanted.min(replicas.len()));
        self.retiring.extend(surplus.into_iter().filter_map(|replica| replica.retire(now)));
        replicas.resize_with(wanted, || Replica::new(now));
    }

    fn bind(&mut self) {
        for replica in self.functions.iter_mut().flat_map(|function| &mut function.replicas) {
            if let Err(error) = replica.bind() {
                log::debug!("{error}"); // it is tried again, and told, when the child is to be started
            }
        }
    }

    fn tend(&mut self, now: Instant) {
        for Function { resolved, replicas } in &mut self.functions {
            if let Serves::Process(process) = &resolved.declared.serves {
                let plan = Plan { launcher: &self.launcher, name: &resolved.declared.name, process };
                replicas.iter_mut().for_each(|replica| replica.tend(&plan, now));
            }
        }
        self.retiring.retain_mut(|retiring| !retiring.tend(now));
        if !self.is_stopping {
            self.publish(now);
        }
    }

    fn publish(&mut self, now: Instant) {
        let known: Vec<Known> = self.functions.iter().map(|function| function.known(now)).collect();
        if self.published.as_ref() != Some(&known) {
            self.sink.set(known.clone());
            self.published = Some(known);
        }
    }

    /// Sleeps until a child ends, an order comes (both make a descriptor readable), or something is due.
    fn wait(&self, now: Instant) {
        let replicas = || self.functions.iter().flat_map(|function| &function.replicas);
        let ends = replicas().map(Replica::end_fd).chain(self.retiring.iter().map(Retiring::end_fd));
        let wake = PollFd::new(self.mailbox.wake.as_fd(), Ready::READ);
        let mut fds: Vec<PollFd<'_>> = ends.map(|fd| PollFd::maybe(fd, Ready::READ)).chain([wake]).collect();
        let dues = replicas().map(|replica| replica.due(now));
        let dues = dues.chain(self.retiring.iter().map(|retiring| retiring.due(now)));
        let due = dues.fold(Deadline::NEVER, Deadline::min);
        if let Err(error) = poll(&mut fds, due) {
            log::error!("failed to wait for children: {error}"); // out of kernel memory: the next round tries again
        }
    }
}

impl Function {
    fn known(&self, now: Instant) -> Known {
        let declared = &self.resolved.declared;
        let (endpoints, wanted): (Vec<SocketAddr>, u32) = match &declared.serves {
            Serves::Process(process) => {
                let endpoints = self.replicas.iter().filter_map(|replica| replica.endpoint(now));
                (endpoints.collect(), process.replicas)
            }
            Serves::Address(_) => (self.resolved.addresses.clone(), self.resolved.addresses.len() as u32),
        };
        let problem = self.replicas.iter().find_map(Replica::problem).filter(|_| endpoints.is_empty());
        let (name, labels, problem) =
            (declared.name.clone(), declared.labels.clone(), problem.map(str::to_owned));
        Known { name, labels, endpoints, wanted, problem }
    }
}

/// Whether the same child would do for both: all but the number of replicas and the labels is equal.
fn is_same_process(a: &Resolved, b: &Resolved) -> bool {
    let essence = |resolved: &Resolved| match &resolved.declared.serves {
        Serves::Process(process) => Some(Process { replicas: 0, ..process.clone() }),
        Serves::Address(_) => None,
    };
    a.declared.name == b.declared.name && essence(a).is_some_and(|a| essence(b) == Some(a))
}
