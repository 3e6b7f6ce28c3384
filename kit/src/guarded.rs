//! A mutex that recovers: a thread that panics with the lock held leaves the value to the others, so that one failed
//! request does not fail the rest.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Deadline;

/// A value behind a lock.
#[derive(Debug, Default)]
pub struct Guarded<T>(Mutex<T>);

impl<T> Guarded<T> {
    /// Puts a value behind a lock.
    pub const fn new(value: T) -> Guarded<T> {
        Guarded(Mutex::new(value))
    }

    /// Waits for the lock.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits on `changed` while `is_waiting` of the value, at most until the deadline. The lock is free meanwhile.
pub fn wait_while<'a, T>(
    changed: &Condvar,
    mut guard: MutexGuard<'a, T>,
    deadline: Deadline,
    is_waiting: impl Fn(&T) -> bool,
) -> MutexGuard<'a, T> {
    while is_waiting(&guard) {
        guard = match deadline.remaining() {
            None => changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
            Some(Duration::ZERO) => break,
            Some(left) => changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0,
        };
    }
    guard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_with_the_lock_held_spoils_nothing() {
        static NUMBER: Guarded<u32> = Guarded::new(1);
        let panicked = std::thread::spawn(|| {
            let mut number = NUMBER.lock();
            *number = 2;
            panic!("on purpose")
        });
        panicked.join().unwrap_err();
        assert_eq!(*NUMBER.lock(), 2);
    }

    #[test]
    fn a_wait_ends_with_its_condition_or_its_deadline() {
        let (number, changed) = (Guarded::new(0), Condvar::new());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                *number.lock() += 1;
                changed.notify_all();
            });
            let woken = wait_while(&changed, number.lock(), Deadline::NEVER, |number| *number == 0);
            assert_eq!(*woken, 1);
        });
        let soon = Deadline::after(Duration::from_millis(1));
        assert_eq!(*wait_while(&changed, number.lock(), soon, |number| *number == 1), 1);
    }
}
