//! The bound on calls at a time (`max_inflight`).

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts the calls that are served, up to a limit.
pub(crate) struct Slots {
    /// Zero is no limit.
    limit: usize,
    taken: AtomicUsize,
}

impl Slots {
    pub(crate) const fn new(limit: usize) -> Slots {
        Slots { limit, taken: AtomicUsize::new(0) }
    }

    /// The calls that are served.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.limit > 0 && self.taken() >= self.limit
    }

    /// Takes a slot for one more call. A call that finds none takes no slot from another, not even for a moment.
    pub(crate) fn take(&'static self) -> Option<Slot> {
        let one_more = |taken| (self.limit == 0 || taken < self.limit).then_some(taken + 1);
        self.taken.fetch_update(Relaxed, Relaxed, one_more).ok()?;
        Some(Slot(self))
    }
}

/// The slot of one call, free again once this is dropped.
pub(crate) struct Slot(&'static Slots);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::SeqCst;

    #[test]
    fn a_slot_is_there_up_to_the_limit_and_zero_is_no_limit() {
        static TWO: Slots = Slots::new(2);
        static ANY: Slots = Slots::new(0);
        let slots = &TWO;
        let taken: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!((taken.len(), slots.taken(), slots.is_full()), (2, 2, true));
        drop(taken);
        assert_eq!((slots.taken(), slots.is_full()), (0, false));
        let slots = &ANY;
        let taken: Vec<_> = (0..1000).map_while(|_| slots.take()).collect();
        assert_eq!((taken.len(), slots.is_full()), (1000, false));
    }

    #[test]
    fn of_two_calls_that_try_for_one_slot_one_gets_it() {
        const ROUNDS: usize = 50_000;
        static ONE: Slots = Slots::new(1);
        let (slots, round, refused) = (&ONE, AtomicUsize::new(0), AtomicUsize::new(0));
        let is_refused = |slot: &Option<Slot>| usize::from(slot.is_none());
        let await_round = |number| {
            while round.load(SeqCst) < number {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..ROUNDS {
                    await_round(2 * number + 1);
                    let slot = slots.take();
                    refused.fetch_add(is_refused(&slot), SeqCst);
                    drop(slot);
                    round.fetch_add(1, SeqCst);
                }
            });
            let mut faults = 0;
            for number in 0..ROUNDS {
                let first = slots.take();
                round.fetch_add(1, SeqCst);
                (0..number % 128).for_each(|_| std::hint::spin_loop()); // both at once, in some rounds
                drop(first);
                let again = slots.take();
                let count = is_refused(&again);
                await_round(2 * number + 2);
                faults += usize::from(count + refused.swap(0, SeqCst) == 2);
            }
            assert_eq!(faults, 0, "the slot was free, and both were refused");
        });
    }
}
