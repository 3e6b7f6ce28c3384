//! A replica: its address, its connection pool, and its calls in flight.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http1::{ClientConfig, Endpoint, Pool};

use crate::function::Backend;

/// How long a replica is avoided, while there are others, after a failed connect or a `Connection: close`.
const OUTLIER_TIME: Duration = Duration::from_secs(2);

/// A replica.
pub(crate) struct Replica {
    backend: Backend,
    pool: Pool,
    in_flight: AtomicUsize,
    /// The first and the last failed connect since one worked, in milliseconds after `since`; 0 for none.
    first_failure_ms: AtomicU64,
    last_failure_ms: AtomicU64,
    since: Instant,
    is_unhealthy: AtomicBool,
}

impl Replica {
    pub(crate) fn new(backend: Backend, client: ClientConfig) -> Replica {
        Replica {
            pool: Pool::new(Endpoint::Tcp(backend.address), client),
            backend,
            in_flight: AtomicUsize::new(0),
            first_failure_ms: AtomicU64::new(0),
            last_failure_ms: AtomicU64::new(0),
            since: Instant::now(),
            is_unhealthy: AtomicBool::new(false),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.backend.address
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Whether its health check has failed, as its provider says.
    pub(crate) fn is_unhealthy(&self) -> bool {
        self.is_unhealthy.load(Ordering::Relaxed)
    }

    pub(super) fn set_unhealthy(&self, is_unhealthy: bool) {
        self.is_unhealthy.store(is_unhealthy, Ordering::Relaxed);
    }

    /// Its calls in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Remembers a failed connect.
    pub(crate) fn failed(&self, now: Instant) {
        let at = self.age_ms(now).max(1);
        let _ = self.first_failure_ms.compare_exchange(0, at, Ordering::Relaxed, Ordering::Relaxed); // or later
        self.last_failure_ms.store(at, Ordering::Relaxed);
    }

    /// Remembers that the replica closes its connections: it is about to end.
    pub(crate) fn leaves(&self, now: Instant) {
        self.last_failure_ms.store(self.age_ms(now).max(1), Ordering::Relaxed);
    }

    /// Remembers a successful connect.
    pub(crate) fn works(&self) {
        if self.first_failure_ms.load(Ordering::Relaxed) != 0 {
            self.first_failure_ms.store(0, Ordering::Relaxed);
            self.last_failure_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Whether a connect failed since the last success. Only then the replica may be avoided.
    pub(crate) fn has_failed(&self) -> bool {
        self.last_failure_ms.load(Ordering::Relaxed) != 0
    }

    /// Whether a connect failed lately.
    pub(crate) fn is_avoided(&self, now: Instant) -> bool {
        let last = self.last_failure_ms.load(Ordering::Relaxed);
        last != 0 && self.age_ms(now) < last + OUTLIER_TIME.as_millis() as u64
    }

    /// Whether all connects have failed for at least `span`.
    pub(crate) fn has_failed_for(&self, span: Duration, now: Instant) -> bool {
        let first = self.first_failure_ms.load(Ordering::Relaxed);
        first != 0 && self.age_ms(now) >= first + span.as_millis() as u64
    }

    fn age_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_millis() as u64
    }
}

/// A call in flight at a replica, counted until it is dropped.
pub(crate) struct Use(Arc<Replica>);

impl Use {
    pub(crate) fn of(replica: &Arc<Replica>) -> Use {
        replica.in_flight.fetch_add(1, Ordering::Relaxed);
        Use(Arc::clone(replica))
    }

    pub(crate) fn replica(&self) -> &Replica {
        &self.0
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica() -> Replica {
        Replica::new(Backend::from(SocketAddr::from(([127, 0, 0, 1], 1))), ClientConfig::default())
    }

    #[test]
    fn a_failed_replica_is_avoided_for_a_while() {
        let replica = replica();
        let now = Instant::now();
        assert!(!replica.is_avoided(now));
        replica.failed(now);
        assert!(replica.is_avoided(now) && replica.is_avoided(now + OUTLIER_TIME / 2));
        assert!(!replica.is_avoided(now + OUTLIER_TIME + Duration::from_millis(1)));
        assert!(!replica.has_failed_for(OUTLIER_TIME, now));
        replica.failed(now + OUTLIER_TIME);
        let later = now + OUTLIER_TIME + Duration::from_millis(1);
        assert!(replica.has_failed_for(OUTLIER_TIME, later), "since the first failure");
        replica.works();
        assert!(!replica.is_avoided(later) && !replica.has_failed_for(Duration::ZERO, later));
    }

    #[test]
    fn a_replica_that_is_about_to_end_is_avoided_but_has_not_failed() {
        let replica = replica();
        let now = Instant::now();
        replica.leaves(now);
        replica.works();
        assert!(replica.has_failed() && replica.is_avoided(now));
        assert!(!replica.is_avoided(now + OUTLIER_TIME + Duration::from_millis(1)));
        assert!(!replica.has_failed_for(Duration::ZERO, now + OUTLIER_TIME));
    }

    #[test]
    fn calls_in_flight_are_counted_until_they_end() {
        let replica = Arc::new(replica());
        let (first, second) = (Use::of(&replica), Use::of(&replica));
        assert_eq!(replica.in_flight(), 2);
        drop(first);
        assert_eq!(second.replica().in_flight(), 1);
    }
}
