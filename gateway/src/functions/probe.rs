//! Tries the replicas that are starting while calls wait for them, so that they are called as soon as they listen and
//! not only when whoever runs them says so.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kit::Deadline;
use kit::sys::{PollFd, Ready, Socket, poll};

use super::Table;
use crate::name::FunctionName;

/// Between two tries of one address.
const INTERVAL: Duration = Duration::from_millis(10);

/// How long one try may take: an address that is not there yet swallows it without a word, and one that is far answers
/// late. Further tries are made beside it.
const TRY_TIME: Duration = Duration::from_millis(200);

/// Addresses that are tried at a time, with as many tries each as are begun within [`TRY_TIME`].
const MAX_ADDRESSES: usize = 16;

/// The running thread.
pub(crate) struct Probe {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    table: Arc<Table>,
    is_woken: Mutex<bool>,
    woken: Condvar,
    is_stopping: AtomicBool,
}

/// A connect that is under way.
struct Try {
    name: FunctionName,
    address: SocketAddr,
    socket: Socket,
    since: Instant,
}

impl Probe {
    /// Starts the thread, which has nothing to do until calls wait for replicas that are starting.
    ///
    /// # Errors
    /// When there is no room for a thread.
    pub(crate) fn start(table: Arc<Table>) -> io::Result<Probe> {
        let shared = Arc::new(Shared {
            table,
            is_woken: Mutex::new(false),
            woken: Condvar::new(),
            is_stopping: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let thread = Some(kit::thread::spawn_vital("probe", move || own.run())?);
        Ok(Probe { shared, thread })
    }

    /// Has it look whether there is something to be tried.
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
            let _ = thread.join(); // its panic has ended the process
        }
    }
}

impl Shared {
    fn wake(&self) {
        *self.is_woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.woken.notify_one();
    }

    fn run(&self) {
        let mut tries: Vec<Try> = Vec::new();
        while !self.is_stopping.load(Ordering::Relaxed) {
            let mut wanted = self.table.waited_for();
            wanted.truncate(MAX_ADDRESSES);
            tries.retain(|one| wanted.iter().any(|(_, address)| *address == one.address));
            if wanted.is_empty() {
                let woken = self.is_woken.lock().unwrap_or_else(PoisonError::into_inner);
                let mut woken = self
                    .woken
                    .wait_while(woken, |is_woken| !*is_woken)
                    .unwrap_or_else(PoisonError::into_inner);
                *woken = false;
                continue;
            }
            let now = Instant::now();
            tries.retain(|one| now.saturating_duration_since(one.since) < TRY_TIME);
            for (name, address) in wanted {
                match Socket::begin_connect(address) {
                    Ok(socket) => tries.push(Try { name, address, socket, since: now }),
                    Err(error) => log::trace!("{address}: {error}"),
                }
            }
            self.wait(&mut tries, now + INTERVAL);
        }
    }

    /// Waits until it is time for the next tries; what has come of the others is told the table.
    fn wait(&self, tries: &mut Vec<Try>, until: Instant) {
        while Instant::now() < until {
            let mut fds: Vec<_> =
                tries.iter().map(|one| PollFd::new(one.socket.as_fd(), Ready::WRITE)).collect();
            if let Err(error) = poll(&mut fds, Deadline::at(until)) {
                log::warn!("poll failed: {error}");
                return std::thread::sleep(INTERVAL);
            }
            let is_done: Vec<bool> = fds.iter().map(|fd| fd.ready().is_any()).collect();
            let mut is_done = is_done.into_iter();
            tries.retain(|one| {
                if !is_done.next().unwrap_or_default() {
                    return true;
                }
                match one.socket.connected() {
                    Ok(true) => self.table.accept(&one.name, one.address),
                    Ok(false) => return true,
                    Err(error) => log::trace!("{}: {error}", one.address),
                }
                false
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::functions::tests::known;
    use crate::provider::Sink as _;
    use http1::ClientConfig;
    use std::net::TcpListener;
    use testkit::eventually;
    use testkit::unreachable::Refusing;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn a_replica_that_starts_is_called_as_soon_as_it_listens() {
        let table = Arc::new(Table::new(ClientConfig::default()));
        let probe = Probe::start(Arc::clone(&table)).unwrap();
        table.on_change(probe.waker());
        let refusing = Refusing::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let listening = listener.local_addr().unwrap();
        let mut function = known("a", &[]);
        function.starting = vec![refusing.addr()];
        table.set(vec![function.clone()]);
        let series = Arc::clone(&table.find("a").unwrap().series);
        let replicas = || {
            let function = table.find("a").unwrap();
            function.replicas.iter().map(|replica| replica.address()).collect::<Vec<_>>()
        };
        let waits = series.begin_wait();
        table.touch();
        function.starting.push(listening);
        table.set(vec![function.clone()]);
        let found = || if replicas() == [listening] { Ok(()) } else { Err(format!("{:?}", replicas())) };
        eventually(PATIENCE, found);
        drop(waits);
        table.set(vec![function.clone()]);
        assert_eq!(replicas(), [listening], "it was found to listen before");
        (function.endpoints, function.starting) = (vec![refusing.addr()], vec![listening]);
        table.set(vec![function]);
        assert_eq!(replicas(), [refusing.addr()], "where one runs the others are as they are said to be");
    }
}
