//! The thread that keeps the children of the local provider: starts them, starts them again, ends them,
//! and tells the table which can be called. It alone starts children, and they end when it does.

use std::collections::BTreeSet;
use std::mem;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use kit::sys::{EventFd, PollFd, Ready, poll};
use kit::{Deadline, Guarded};

use super::Setup;
use super::file::Resolved;
use super::launcher::Launcher;
use super::replica::{Plan, Replica, Retiring};
use super::users::Users;
use crate::function::FunctionName;
use crate::function::{Backend, Known, Sink};
use crate::provider::local::functions_file::{Process, Serves};

/// What the supervisor is asked to do, and the descriptor that wakes it.
pub(super) struct Mailbox {
    mail: Guarded<Mail>,
    wake: EventFd,
}

/// An order to change the number of a function's replicas, see [`Provider::scale`](crate::provider::Provider::scale).
pub(super) struct Scale {
    pub(super) name: String,
    pub(super) from: Option<u32>,
    pub(super) to: u32,
    /// Where the answer goes; it has room for it.
    pub(super) done: SyncSender<Result<(), String>>,
}

/// Orders that were not seen yet; a later one replaces an earlier one, but for those that are waited for.
#[derive(Default)]
struct Mail {
    functions: Option<Vec<Resolved>>,
    scales: Vec<Scale>,
    stop: Option<Deadline>,
}

impl Mailbox {
    pub(super) fn new() -> std::io::Result<Mailbox> {
        Ok(Mailbox { mail: Guarded::default(), wake: EventFd::new()? })
    }

    /// Orders these functions to be served, and no others.
    pub(super) fn serve(&self, functions: Vec<Resolved>) {
        self.leave(|mail| mail.functions = Some(functions));
    }

    /// Orders a function to have another number of replicas.
    pub(super) fn scale(&self, scale: Scale) {
        self.leave(|mail| mail.scales.push(scale));
    }

    /// Orders everything to end: calls that run may finish until the deadline.
    pub(super) fn stop(&self, deadline: Deadline) {
        self.leave(|mail| mail.stop = Some(deadline));
    }

    fn leave(&self, write: impl FnOnce(&mut Mail)) {
        write(&mut self.mail.lock());
        self.wake.notify();
    }

    fn take(&self) -> Mail {
        self.wake.clear();
        mem::take(&mut self.mail.lock())
    }
}

/// A function that is served.
struct Function {
    resolved: Resolved,
    /// Who runs it, where it is not the gateway's own user.
    user: Option<u32>,
    /// Replicas that should run; of those that the gateway runs.
    wanted: u32,
    /// As many as the file, or somebody since, has asked for.
    asked: u32,
    /// Empty when somebody else serves it.
    replicas: Vec<Replica>,
}

/// What the thread owns.
pub(super) struct Supervisor {
    launcher: Launcher,
    sink: Arc<dyn Sink>,
    mailbox: Arc<Mailbox>,
    call_time: Duration,
    functions: Vec<Function>,
    users: Users,
    retiring: Vec<Retiring>,
    published: Option<Vec<Known>>,
    is_stopping: bool,
}

impl Supervisor {
    pub(super) fn new(
        launcher: Launcher,
        sink: Arc<dyn Sink>,
        mailbox: Arc<Mailbox>,
        setup: &Setup,
    ) -> Supervisor {
        Supervisor {
            launcher,
            sink,
            mailbox,
            call_time: setup.call_time,
            functions: Vec::new(),
            users: Users::new(setup.function_user),
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
            let mut read_again = self.follow_orders(now);
            if let Some(started) = started.take() {
                self.bind();
                self.publish(now);
                started();
                read_again = None; // the file was read for the first time
            }
            self.tend(now);
            if let Some(count) = read_again {
                log::info!("functions_file read again, {count} functions"); // calls see them by now
            }
            if self.is_stopping && self.retiring.is_empty() {
                return;
            }
            self.wait(now);
        }
    }

    /// Returns the number of functions if there is an order to serve others.
    fn follow_orders(&mut self, now: Instant) -> Option<usize> {
        let mail = self.mailbox.take();
        let functions = mail.functions.filter(|_| !self.is_stopping);
        let count = functions.as_ref().map(Vec::len);
        if let Some(functions) = functions {
            self.serve(functions, now);
        }
        for scale in mail.scales {
            let done = self.scale(&scale, now);
            let _ = scale.done.try_send(done); // it has room, or nobody waits any more
        }
        if let Some(deadline) = mail.stop {
            self.is_stopping = true;
            let replicas = mem::take(&mut self.functions).into_iter().flat_map(|function| function.replicas);
            self.retiring.iter_mut().for_each(|retiring| retiring.hurry(now, deadline));
            self.retiring.extend(replicas.filter_map(|replica| replica.stop(now, deadline)));
        }
        count
    }

    /// Functions that are run in the same way keep their replicas, all others get new ones.
    fn serve(&mut self, functions: Vec<Resolved>, now: Instant) {
        let mut old = mem::take(&mut self.functions);
        let names: BTreeSet<FunctionName> =
            functions.iter().map(|resolved| resolved.declared.name.clone()).collect();
        for resolved in functions {
            let user = self.users.of(&resolved.declared.name, &|name| names.contains(name));
            let kept = old.iter_mut().find(|function| is_same_process(&function.resolved, &resolved));
            let declared = declared_replicas(&resolved);
            // What was scaled meanwhile stays so, unless the file says otherwise than before.
            let scaled = kept.as_ref().filter(|kept| declared_replicas(&kept.resolved) == declared);
            let (wanted, asked) = scaled.map_or((declared, declared), |kept| (kept.wanted, kept.asked));
            let replicas = kept.map(|function| mem::take(&mut function.replicas)).unwrap_or_default();
            let mut function = Function { resolved, user, wanted, asked, replicas };
            self.resize(&mut function, wanted, now);
            self.functions.push(function);
        }
        for function in old {
            let call_time = call_time(&function.resolved, self.call_time);
            let given_up = function.replicas.into_iter();
            self.retiring.extend(given_up.filter_map(|replica| replica.retire(now, call_time)));
        }
    }

    fn scale(&mut self, scale: &Scale, now: Instant) -> Result<(), String> {
        let is_it = |function: &Function| function.resolved.declared.name.as_str() == scale.name;
        let place = self.functions.iter().position(is_it);
        let place = place.ok_or_else(|| format!("no function `{}`", scale.name))?;
        if !matches!(self.functions[place].resolved.declared.serves, Serves::Process(_)) {
            return Err(format!("function `{}` has `address`: somebody else runs it", scale.name));
        }
        if scale.from.is_none_or(|from| from == self.functions[place].wanted) {
            let mut function = self.functions.remove(place);
            if scale.from.is_none() {
                function.asked = scale.to;
            }
            self.resize(&mut function, scale.to, now);
            self.functions.insert(place, function);
            self.bind(); // they can be called before they run
        }
        Ok(())
    }

    /// Adds or gives up replicas. Those that do not run are given up first, then those with the least in hand; these
    /// go on with that.
    fn resize(&mut self, function: &mut Function, wanted: u32, now: Instant) {
        let name = function.resolved.declared.name.as_str();
        let in_flight =
            |replica: &Replica| replica.endpoint(now).map_or(0, |address| self.sink.in_flight(name, address));
        let call_time = call_time(&function.resolved, self.call_time);
        let replicas = &mut function.replicas;
        replicas.sort_by_cached_key(|replica| (!replica.is_running(), usize::MAX - in_flight(replica)));
        let surplus = replicas.split_off((wanted as usize).min(replicas.len()));
        self.retiring.extend(surplus.into_iter().filter_map(|replica| replica.retire(now, call_time)));
        replicas.resize_with(wanted as usize, || Replica::new(now));
        function.wanted = wanted;
    }

    fn bind(&mut self) {
        for replica in self.functions.iter_mut().flat_map(|function| &mut function.replicas) {
            if let Err(error) = replica.bind() {
                log::debug!("{error}"); // it is tried again, and told, when the child is to be started
            }
        }
    }

    fn tend(&mut self, now: Instant) {
        for Function { resolved, user, replicas, .. } in &mut self.functions {
            if let Serves::Process(process) = &resolved.declared.serves {
                let call_time = call_time(resolved, self.call_time);
                let name = &resolved.declared.name;
                let plan = Plan { launcher: &self.launcher, name, process, user: *user, call_time };
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
        let (endpoints, wanted): (Vec<Backend>, u32) = match &declared.serves {
            Serves::Process(_) => {
                let endpoints = self.replicas.iter().filter_map(|replica| replica.endpoint(now));
                (endpoints.map(Backend::from).collect(), self.wanted)
            }
            Serves::Address(_) => (
                self.resolved.addresses.iter().copied().map(Backend::from).collect(),
                self.resolved.addresses.len() as u32,
            ),
        };
        let problem = self.replicas.iter().find_map(Replica::problem).filter(|_| endpoints.is_empty());
        Known {
            name: declared.name.clone(),
            labels: declared.labels.clone(),
            about: Arc::clone(&declared.about),
            problem: problem.map(str::to_owned),
            endpoints,
            starting: Vec::new(),
            unhealthy: Vec::new(),
            wanted,
            asked: self.asked,
            is_scalable: matches!(declared.serves, Serves::Process(_)),
            in_update: None,
        }
    }
}

/// How long the calls of a function may take: what its label says, else the setting.
fn call_time(resolved: &Resolved, setting: Duration) -> Duration {
    resolved.declared.labels.timeout.unwrap_or(setting)
}

/// The number of replicas in the file; 0 where somebody else runs them.
fn declared_replicas(resolved: &Resolved) -> u32 {
    match &resolved.declared.serves {
        Serves::Process(process) => process.replicas,
        Serves::Address(_) => 0,
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
