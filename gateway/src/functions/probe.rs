//! Connects to starting replicas, so that a replica gets calls as soon as it listens. The provider's word does not
//! count: a replica is starting until it has accepted a connection.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kit::Deadline;
use kit::guarded::{Guarded, wait_while};
use kit::sys::{PollFd, Ready, Socket, poll};

use super::table::{Starting, Table};

/// The interval between two tries of a replica while calls wait for it, and between two checks of running tries.
const INTERVAL: Duration = Duration::from_millis(10);

/// While no call waits, the pause before the next try is the time since the first try divided by this. At most a
/// quarter of a start is lost, and a replica that never listens costs few connects.
const SLOWER: u32 = 4;
const MAX_INTERVAL: Duration = Duration::from_secs(5);

/// How long a try may take: an address that does not exist yet drops the connect silently, and a distant host answers
/// late. Further tries of the replica run beside it.
const TRY_TIME: Duration = Duration::from_millis(200);

/// The most tries at a time, each with an open file. The replica that is longest overdue comes first, so that silent
/// addresses cannot keep others out.
const MAX_TRIES: usize = 64;

/// The running thread.
pub(crate) struct Probe {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    table: Arc<Table>,
    is_woken: Guarded<bool>,
    woken: Condvar,
    is_stopping: AtomicBool,
}

/// A running connect.
struct Try {
    of: Starting,
    socket: Socket,
    since: Instant,
}

/// The times of a replica's tries.
#[derive(Clone, Copy)]
struct Pace {
    first: Instant,
    /// `None` before the first try.
    last: Option<Instant>,
}

impl Pace {
    /// The time of the next try.
    fn due(&self, is_waited_for: bool) -> Instant {
        let Some(last) = self.last else { return self.first };
        let age = last.saturating_duration_since(self.first);
        last + if is_waited_for { INTERVAL } else { (age / SLOWER).clamp(INTERVAL, MAX_INTERVAL) }
    }
}

impl Probe {
    /// Starts the thread. It sleeps until replicas are starting.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub(crate) fn start(table: Arc<Table>) -> io::Result<Probe> {
        let shared = Arc::new(Shared {
            table,
            is_woken: Guarded::new(false),
            woken: Condvar::new(),
            is_stopping: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let thread = Some(kit::thread::spawn_vital("probe", move || own.run())?);
        Ok(Probe { shared, thread })
    }

    /// A callback that has the thread check for starting replicas.
    pub(crate) fn waker(&self) -> impl Fn() + Send + Sync + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.wake()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic would have ended the process
        }
    }
}

impl Shared {
    fn wake(&self) {
        *self.is_woken.lock() = true;
        self.woken.notify_one();
    }

    fn run(&self) {
        let mut tries: Vec<Try> = Vec::new();
        let mut paces: HashMap<Starting, Pace> = HashMap::new();
        while !self.is_stopping.load(Ordering::Relaxed) {
            let now = Instant::now();
            let starting = self.table.starting();
            let known: HashSet<&Starting> = starting.iter().map(|(one, _)| one).collect();
            paces.retain(|one, _| known.contains(one));
            tries
                .retain(|one| known.contains(&one.of) && now.saturating_duration_since(one.since) < TRY_TIME);
            let next = begin(&mut tries, (&mut paces, starting), now);
            if tries.is_empty() {
                self.sleep(next);
            } else {
                self.wait(&mut tries, now + INTERVAL);
            }
        }
    }

    /// Sleeps until a try is due or the table has changed.
    fn sleep(&self, until: Option<Instant>) {
        let until = until.map_or(Deadline::NEVER, Deadline::at);
        let is_asleep = |is_woken: &bool| !*is_woken;
        *wait_while(&self.woken, self.is_woken.lock(), until, is_asleep) = false;
    }

    /// Waits for results of tries until the next try is due. Tells the table which replicas listen.
    fn wait(&self, tries: &mut Vec<Try>, until: Instant) {
        while Instant::now() < until && !tries.is_empty() {
            let mut fds: Vec<_> =
                tries.iter().map(|one| PollFd::new(one.socket.as_fd(), Ready::WRITE)).collect();
            if let Err(error) = poll(&mut fds, Deadline::at(until)) {
                log::warn!("poll failed: {error}");
                return std::thread::sleep(INTERVAL);
            }
            let is_done: Vec<bool> = fds.iter().map(|fd| fd.ready().is_any()).collect();
            let (mut is_done, mut listening) = (is_done.into_iter(), Vec::new());
            tries.retain(|one| {
                if !is_done.next().unwrap_or_default() {
                    return true;
                }
                match one.socket.connected() {
                    Ok(true) => listening.push(one.of.clone()),
                    Ok(false) => return true,
                    Err(error) => log::trace!("{}: {error}", one.of.backend.address),
                }
                false
            });
            if !listening.is_empty() {
                self.table.accept(&listening);
            }
        }
    }
}

/// Begins the tries that are due, up to the bound; the longest overdue come first. Returns when the next try is due.
fn begin(
    tries: &mut Vec<Try>,
    (paces, starting): (&mut HashMap<Starting, Pace>, Vec<(Starting, bool)>),
    now: Instant,
) -> Option<Instant> {
    let mut queue: Vec<(Instant, Starting, bool)> = starting
        .into_iter()
        .map(|(one, is_waited_for)| {
            let pace = paces.entry(one.clone()).or_insert(Pace { first: now, last: None });
            (pace.due(is_waited_for), one, is_waited_for)
        })
        .collect();
    queue.sort_by_key(|(due, _, _)| *due);
    let mut next = None;
    for (mut due, of, is_waited_for) in queue {
        if due <= now && tries.len() < MAX_TRIES {
            let Some(pace) = paces.get_mut(&of) else { continue };
            pace.last = Some(now);
            due = pace.due(is_waited_for);
            match Socket::begin_connect(of.backend.address) {
                Ok(socket) => tries.push(Try { of, socket, since: now }),
                Err(error) => log::trace!("{}: {error}", of.backend.address),
            }
        }
        next = Some(next.map_or(due, |next: Instant| next.min(due)));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::Sink as _;
    use crate::functions::table::tests::{known, task};
    use std::net::{SocketAddr, TcpListener};
    use testkit::eventually;
    use testkit::unreachable::{Deaf, Refusing};

    const PATIENCE: Duration = Duration::from_secs(60);

    fn table() -> (Arc<Table>, Probe) {
        let table = Arc::new(Table::empty());
        let probe = Probe::start(Arc::clone(&table)).unwrap();
        table.on_change(probe.waker());
        (table, probe)
    }

    fn replicas(table: &Table) -> Vec<SocketAddr> {
        let function = table.find("a").unwrap();
        function.replicas.iter().map(|replica| replica.address()).collect()
    }

    #[track_caller]
    fn becomes(table: &Table, want: &[SocketAddr]) {
        eventually(PATIENCE, || {
            let replicas = replicas(table);
            if replicas == want { Ok(()) } else { Err(format!("{replicas:?}")) }
        });
    }

    #[test]
    fn a_starting_replica_gets_calls_as_soon_as_it_listens() {
        let (table, _probe) = table();
        let refusing = Refusing::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = listener.local_addr().unwrap();
        let mut function = known("a", &[]);
        function.starting = vec![task("1", refusing.addr())];
        table.set(vec![function.clone()]);
        let series = Arc::clone(&table.find("a").unwrap().series);
        let waits = series.begin_wait(9);
        table.touch();
        function.starting.push(task("2", listening));
        table.set(vec![function.clone()]);
        becomes(&table, &[listening]);
        drop(waits);
        table.set(vec![function.clone()]);
        assert_eq!(replicas(&table), [listening], "it was found to listen before");
        (function.endpoints, function.starting) = (vec![task("2", listening)], vec![]);
        table.set(vec![function]);
        assert_eq!(replicas(&table), [listening], "and it is the same now that it runs");
    }

    #[test]
    fn a_running_replica_gets_no_calls_until_it_listens() {
        let (table, _probe) = table();
        let port = testkit::unreachable::reserved_port();
        let late = SocketAddr::from(([127, 0, 0, 1], port));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = listener.local_addr().unwrap();
        let function = |tasks: &[(&str, SocketAddr)]| {
            let mut function = known("a", &[]);
            function.endpoints = tasks.iter().map(|(id, address)| task(id, *address)).collect();
            function
        };
        table.set(vec![function(&[("1", listening), ("2", late)])]);
        becomes(&table, &[listening]);
        let late_listener = TcpListener::bind(late).unwrap();
        becomes(&table, &[listening, late]);
        drop(late_listener);
        table.set(vec![function(&[("2", late)])]);
        assert_eq!(replicas(&table), [late], "it has listened: calls find out");
        table.set(vec![function(&[("3", late)])]);
        assert!(replicas(&table).is_empty(), "another one at the same address starts anew");
        let _listener = TcpListener::bind(late).unwrap();
        becomes(&table, &[late]);
    }

    #[test]
    fn silent_addresses_do_not_keep_others_out() {
        let (table, _probe) = table();
        let deaf = Deaf::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = listener.local_addr().unwrap();
        let function = |count: usize| {
            let mut function = known("a", &[]);
            function.starting = (0..count).map(|number| task(&number.to_string(), deaf.addr())).collect();
            function
        };
        let mut function = function(3 * MAX_TRIES);
        table.set(vec![function.clone()]);
        let series = Arc::clone(&table.find("a").unwrap().series);
        let _waits = series.begin_wait(9);
        table.touch();
        function.starting.push(task("listens", listening));
        table.set(vec![function]);
        becomes(&table, &[listening]);
    }

    #[test]
    fn tries_become_rarer_while_no_call_waits() {
        let first = Instant::now();
        let after = |milliseconds| first + Duration::from_millis(milliseconds);
        let due = |last: u64, is_waited_for| Pace { first, last: Some(after(last)) }.due(is_waited_for);
        assert_eq!(Pace { first, last: None }.due(false), first);
        assert_eq!(
            [due(0, false), due(1000, false), due(60_000, false)],
            [after(10), after(1250), after(65_000)]
        );
        assert_eq!([due(0, true), due(60_000, true)], [after(10), after(60_010)]);
    }
}
