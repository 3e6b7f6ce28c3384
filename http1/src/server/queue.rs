//! The requests that wait for a worker, and the bound on those that are served, behind one lock.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Condvar, MutexGuard};
use std::time::Instant;

use kit::Guarded;

use super::config::{ServerConfig, Stats};
use super::conn::Conn;
use super::places::{Entry, Places, Queued};
use super::service::Blocking;
use super::turn::Turn;

/// Something to be done for a connection.
pub(super) struct Job {
    pub(super) conn: Box<Conn>,
    pub(super) work: Work,
    /// When it began to wait for a worker.
    pub(super) since: Instant,
}

pub(super) enum Work {
    /// A request whose head was taken.
    Call(Turn),
    /// A request with which a poller does not go on.
    GoOn { turn: Turn, rest: Box<dyn Blocking> },
    /// A request whose service panicked.
    End(Turn),
}

impl Job {
    pub(super) fn new(conn: Box<Conn>, work: Work) -> Job {
        Job { conn, work, since: Instant::now() }
    }
}

impl Queued for Job {
    fn since(&self) -> Instant {
        self.since
    }

    fn client(&self) -> usize {
        self.conn.client_number()
    }
}

/// The workers of a server. Who is served, who waits and when a thread is started is decided by [`Places`].
pub(super) struct Workers {
    pub(super) places: Guarded<Places<Job>>,
    pub(super) available: Condvar,
    /// A worker ended. They are waited for by number and not by their handles: a thread whose handle is kept
    /// keeps its stack, and most end long before anybody would join them.
    pub(super) ended: Condvar,
    /// The last try to start one failed, and the log says so.
    pub(super) cannot_start: AtomicBool,
    /// Workers that wait for the next request of a connection.
    pub(super) lingering: AtomicUsize,
}

impl Workers {
    pub(super) fn new(config: &ServerConfig) -> Workers {
        Workers {
            places: Guarded::new(
                Places::new(config.max_workers, config.max_waiting()).shares(config.max_workers_per_client),
            ),
            available: Condvar::new(),
            ended: Condvar::new(),
            cannot_start: AtomicBool::new(false),
            lingering: AtomicUsize::new(0),
        }
    }

    pub(super) fn places(&self) -> MutexGuard<'_, Places<Job>> {
        self.places.lock()
    }

    /// Reserves a slot for a call on a poller. Requests already queued for a worker come first.
    pub(super) fn enter(&self, client: usize) -> bool {
        self.places().enter(client)
    }

    /// The same for a call that waits on a poller. If no slot is free, the poller is woken when one is.
    pub(super) fn enter_or_wait(&self, poller: usize, client: usize) -> Entry {
        self.places().enter_or_wait(poller, client)
    }

    pub(super) fn has_room_in_line(&self, client: usize) -> bool {
        self.places().has_room_in_line(client)
    }

    pub(super) fn has_waiting(&self) -> bool {
        self.places().waiting() > 0
    }

    pub(super) fn add_stats(&self, stats: &mut Stats) {
        let places = self.places();
        (stats.workers_busy, stats.workers_idle) = places.busy_and_idle();
        stats.waiting = places.waiting();
    }
}
