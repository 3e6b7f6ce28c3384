//! `mode=http`: one process stays and speaks HTTP itself. Here is what calls know of it; [`supervisor`] keeps it
//! running.

mod own_port;
pub(crate) mod supervisor;
pub(crate) mod upstream;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http1::{ClientConfig, Connection, Endpoint, Error, Pool, head};
use kit::sys::EventFd;
use kit::{Deadline, Guarded};

use own_port::OwnPort;
use upstream::Upstream;

/// How long a connect may take: the process is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest time that an unused connection to the process is kept: shorter than servers keep it by default (Node.js:
/// 5 s). Where calls have less time, half of that: a call behind an unused connection then outlasts it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a health check waits for the process to take a connection.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// The unused connections to the process that are kept.
const MAX_IDLE: usize = 256;

/// The process, as calls see it.
pub(crate) struct Resident {
    upstream: Upstream,
    client: ClientConfig,
    target: Guarded<Arc<Target>>,
    /// The calls that may time out in a row; 0 is no limit.
    max_timeouts: u32,
    timeouts: AtomicU32,
    /// The answers that have begun, of all processes so far.
    answers: AtomicU64,
    /// Moves on with each start, each answer and each timeout that counts.
    turn: AtomicU64,
    /// Whether the present process has taken a connection.
    has_listened: AtomicBool,
    /// How the last process ended, while the next start is awaited after several that took no connection.
    failure: Guarded<Option<String>>,
    wake: EventFd,
    is_stopping: AtomicBool,
}

/// An address, with the connections to it.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) pool: Pool,
}

impl Target {
    fn new(address: SocketAddr, client: ClientConfig) -> Arc<Target> {
        Arc::new(Target { address, pool: Pool::new(Endpoint::Tcp(address), client) })
    }
}

impl Resident {
    /// A process that is not started yet. Zero is no limit, both of the time and of the timeouts.
    pub(crate) fn new(upstream: Upstream, call_time: Duration, max_timeouts: u32) -> io::Result<Resident> {
        let client = ClientConfig {
            connect_timeout: CONNECT_TIMEOUT,
            idle_timeout: if call_time.is_zero() { IDLE_TIMEOUT } else { IDLE_TIMEOUT.min(call_time / 2) },
            max_idle: MAX_IDLE,
            pollers: 1,
            max_header_bytes: head::MAX_HEAD_BYTES,
            max_headers: head::MAX_HEADERS,
            ..ClientConfig::default()
        };
        let target = Target::new(upstream.first(), client);
        Ok(Resident {
            upstream,
            client,
            target: Guarded::new(target),
            max_timeouts,
            timeouts: AtomicU32::new(0),
            answers: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            has_listened: AtomicBool::new(false),
            failure: Guarded::new(None),
            wake: EventFd::new()?,
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Where the process listens, as far as is known.
    pub(crate) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target.lock())
    }

    /// Sets where the process listens, or will.
    fn aim(&self, target: Arc<Target>) {
        *self.target.lock() = target;
    }

    /// A new connection. `localhost` has two addresses: both are tried, and the one that works is the first from then
    /// on.
    pub(crate) fn connect(&self, deadline: Deadline) -> Result<Box<Connection>, Error> {
        let target = self.target();
        let error = match target.pool.connect(deadline) {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let others = self.upstream.at(target.address.port()).addresses();
        for address in others.filter(|address| *address != target.address) {
            let other = Target::new(address, self.client);
            if let Ok(connection) = other.pool.connect(deadline) {
                self.aim(other);
                return Ok(connection);
            }
        }
        Err(error)
    }

    /// The number of answers that have begun.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Says that an answer has begun: the process does not hang.
    pub(crate) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Relaxed);
        self.timeouts.store(0, Ordering::Relaxed);
        self.listened();
    }

    /// The turn in which a call begins, for [`Resident::timed_out`].
    pub(crate) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// Says that a call which began in `turn` got no answer in time. Only the first one of a turn counts: calls that
    /// wait together tell of the same moment. A call from before an answer or a start tells nothing.
    pub(crate) fn timed_out(&self, turn: u64) {
        let counts = self.turn.compare_exchange(turn, turn + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if counts && self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= self.max_timeouts {
            self.wake.notify();
        }
    }

    /// Whether too many calls in a row have timed out.
    pub(crate) fn hangs(&self) -> bool {
        self.max_timeouts > 0 && self.timeouts.load(Ordering::Relaxed) >= self.max_timeouts
    }

    /// Whether the present process has taken a connection: a call that waits for a connection then does not wait for
    /// its start.
    pub(crate) fn has_listened(&self) -> bool {
        self.has_listened.load(Ordering::Relaxed)
    }

    pub(crate) fn listened(&self) {
        self.has_listened.store(true, Ordering::Relaxed);
    }

    /// Why there is no process, where the next one is likely to end as the last ones did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }

    fn set_failure(&self, failure: Option<String>) {
        *self.failure.lock() = failure;
    }

    /// Forgets the last process: another one starts.
    fn forget(&self) {
        self.set_failure(None);
        self.turn.fetch_add(1, Ordering::Relaxed);
        self.timeouts.store(0, Ordering::Relaxed);
        self.has_listened.store(false, Ordering::Relaxed);
    }

    /// Whether the process takes connections.
    pub(crate) fn listens(&self) -> bool {
        self.connect(Deadline::after(HEALTH_TIMEOUT)).is_ok()
    }

    /// The same without a wait; `None` where the system does not tell at once.
    pub(crate) fn listens_at_once(&self) -> Option<bool> {
        match self.connect(Deadline::after(Duration::ZERO)) {
            Ok(_) => Some(true),
            Err(Error::Connect { source, .. }) if source.kind() == io::ErrorKind::TimedOut => None,
            Err(_) => Some(false),
        }
    }

    /// Chooses a port for the next process, unless `upstream_url` names one.
    fn choose_port(&self) -> io::Result<Option<OwnPort>> {
        if !self.upstream.has_own_port() {
            return Ok(None);
        }
        let port = OwnPort::choose()?;
        let address = self.upstream.at(port.number).first();
        self.aim(Target::new(address, self.client));
        Ok(Some(port))
    }

    /// Closes connections that have been unused for too long, and returns when to do so again.
    fn sweep(&self) -> Deadline {
        Deadline::at(self.target().pool.sweep(Instant::now()))
    }

    /// Has the supervisor end the process, then end itself.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.wake.notify();
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident(max_timeouts: u32) -> Resident {
        let upstream = Upstream::parse("http://localhost:0").unwrap();
        Resident::new(upstream, Duration::ZERO, max_timeouts).unwrap()
    }

    #[test]
    fn timeouts_count_in_a_row_and_not_beside_answers() {
        let resident = resident(2);
        let began = resident.turn();
        resident.timed_out(began);
        assert!(!resident.hangs());
        resident.answered();
        resident.timed_out(began); // it was answered while this one waited
        resident.timed_out(resident.turn());
        assert!(!resident.hangs());
        resident.timed_out(resident.turn());
        assert!(resident.hangs());
        resident.answered();
        assert!(!resident.hangs());
    }

    #[test]
    fn calls_that_time_out_together_count_once_and_those_of_the_last_process_never() {
        let resident = resident(2);
        let began = resident.turn();
        (0..5).for_each(|_| resident.timed_out(began));
        assert!(!resident.hangs());
        let began = resident.turn();
        resident.forget();
        (0..5).for_each(|_| resident.timed_out(began));
        resident.timed_out(resident.turn());
        assert!(!resident.hangs());
    }

    #[test]
    fn without_a_limit_it_never_hangs() {
        let resident = resident(0);
        (0..100).for_each(|_| resident.timed_out(resident.turn()));
        assert!(!resident.hangs());
    }
}
