//! Waiting for a condition, instead of sleeping and hoping.

use std::thread;
use std::time::{Duration, Instant};

/// How long a poll rests. Short, since most conditions come true within a millisecond or two.
const REST: Duration = Duration::from_millis(3);

/// Calls `check` every few milliseconds until it answers `Ok`, and returns that value.
///
/// # Panics
/// When `timeout` has passed, with the status that the last check gave.
#[track_caller]
pub fn eventually<T>(timeout: Duration, mut check: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match check() {
            Ok(value) => return value,
            Err(status) if started.elapsed() >= timeout => panic!("not within {timeout:?}: {status}"),
            Err(_) => thread::sleep(REST),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_first_good_value() {
        let mut left = 3;
        let value = eventually(Duration::from_secs(5), || {
            left -= 1;
            if left == 0 { Ok("done") } else { Err(format!("{left} left")) }
        });
        assert_eq!(value, "done");
    }

    #[test]
    #[should_panic(expected = "not within 10ms: still dark")]
    fn panics_with_the_last_status() {
        eventually::<()>(Duration::from_millis(10), || Err("still dark".to_owned()));
    }

    #[test]
    fn checks_at_least_once() {
        assert_eq!(eventually(Duration::ZERO, || Ok(7)), 7);
    }
}
