//! How many calls may wait: of one function, and of all together. Each holds its connection, and some are left for those
//! that need not wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The most calls of one function, however many connections there may be: each has a buffer with its head.
const MAX_OF_ONE: usize = 10_000;

pub(crate) struct Waits {
    /// Of one function: half of the connections, up to [`MAX_OF_ONE`].
    pub(super) of_one: usize,
    /// Of all: three quarters of the connections.
    pub(super) of_all: usize,
    taken: Arc<AtomicUsize>,
}

impl Waits {
    /// For a server of at most so many connections.
    pub(crate) fn new(connections: usize) -> Waits {
        Waits {
            of_one: (connections / 2).clamp(1, MAX_OF_ONE),
            of_all: (connections / 4 * 3).max(1),
            taken: Arc::default(),
        }
    }

    /// A place among those that wait, if one is free.
    pub(super) fn enter(&self) -> Option<Slot> {
        let more = |taken: usize| (taken < self.of_all).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Slot(Arc::clone(&self.taken)))
    }
}

/// A place that is taken as long as this lives.
pub(super) struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_connections_are_left_for_those_that_do_not_wait() {
        for (connections, of_one, of_all) in
            [(1, 1, 1), (4, 2, 3), (16_384, 8_192, 12_288), (65_000, 10_000, 48_750)]
        {
            let waits = Waits::new(connections);
            assert_eq!((waits.of_one, waits.of_all), (of_one, of_all), "{connections}");
        }
    }

    #[test]
    fn a_place_is_free_again_when_it_is_left() {
        let waits = Waits::new(4);
        let places: Vec<_> = std::iter::from_fn(|| waits.enter()).collect();
        assert_eq!(places.len(), 3);
        drop(places);
        assert!(waits.enter().is_some());
    }
}
