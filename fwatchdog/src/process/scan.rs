//! One scan of all processes for all that ask at the same time.

use std::sync::{Arc, Condvar, PoisonError};
use std::time::Instant;

use kit::Guarded;

use super::table::{self, Process};

/// Shares scans. Many calls that end together would otherwise each read all of `/proc`, which holds the processes of
/// all of them.
pub(super) struct SharedScan {
    state: Guarded<State>,
    ended: Condvar,
}

struct State {
    /// When the last scan began, and what it found.
    last: Option<(Instant, Arc<[Process]>)>,
    is_scanning: bool,
}

impl SharedScan {
    /// Nothing was scanned yet.
    pub(super) const fn new() -> SharedScan {
        SharedScan { state: Guarded::new(State { last: None, is_scanning: false }), ended: Condvar::new() }
    }

    /// Every process that can be seen, by a scan that begins after this call does. All callers that wait for a scan
    /// get it when it ends, before another scan can begin.
    pub(super) fn all(&self) -> Arc<[Process]> {
        let asked = Instant::now();
        let mut state = self.state.lock();
        loop {
            if let Some((began, all)) = &state.last
                && *began > asked
            {
                return Arc::clone(all);
            }
            if !state.is_scanning {
                break;
            }
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_scanning = true;
        drop(state);
        let began = Instant::now();
        let all: Arc<[Process]> = table::all().into();
        *self.state.lock() = State { last: Some((began, Arc::clone(&all))), is_scanning: false };
        self.ended.notify_all();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_is_shared_with_callers_that_asked_before_it_began() {
        let scan = SharedScan::new();
        let (first, second) = (scan.all(), scan.all());
        assert!(!Arc::ptr_eq(&first, &second), "the second asked after the first scan had begun");
        let later = Instant::now() + std::time::Duration::from_secs(60);
        scan.state.lock().last = Some((later, Arc::clone(&first)));
        assert!(Arc::ptr_eq(&first, &scan.all()));
    }

    #[test]
    fn all_waiting_callers_get_the_scan_that_ends() {
        let (scan, seen) = (SharedScan::new(), Arc::from([]));
        scan.state.lock().is_scanning = true;
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| scan.all())).collect();
            let later = Instant::now() + std::time::Duration::from_secs(60);
            // Another scan begins at once, for which nobody waits.
            *scan.state.lock() = State { last: Some((later, Arc::clone(&seen))), is_scanning: true };
            scan.ended.notify_all();
            assert!(waiting.into_iter().all(|thread| Arc::ptr_eq(&thread.join().unwrap(), &seen)));
        });
    }
}
