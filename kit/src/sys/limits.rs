//! Limits that the kernel sets for this process, and its random numbers.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::check;

/// The number of files this process may have open: its soft limit (`RLIMIT_NOFILE`, getrlimit(2)).
///
/// # Errors
/// When the kernel refuses to say, which it does not.
pub fn open_files() -> io::Result<u64> {
    Ok(read()?.rlim_cur)
}

/// Raises the soft limit of open files towards the hard one, at most to `wanted`, and returns the limit
/// that then holds. A limit that is higher already stays.
///
/// # Errors
/// When the kernel refuses; the old limit holds on.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let mut limit = read()?;
    let target = wanted.min(limit.rlim_max);
    if limit.rlim_cur < target {
        limit.rlim_cur = target;
        // SAFETY: the pointer is to a valid rlimit that lives through the call, which only reads it.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) })?;
    }
    Ok(limit.rlim_cur)
}

fn read() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a valid rlimit that lives through the call, which fills it.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    Ok(limit)
}

/// A random number for jitter, names and balancing; never for secrets. The kernel is asked once: the numbers are a
/// keyed hash of a counter, which nobody can tell from random ones without the key.
#[must_use]
pub fn random() -> u64 {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    KEY.get_or_init(RandomState::new).hash_one(COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_to_less_changes_nothing() {
        let before = open_files().unwrap();
        assert_eq!(raise_open_files(1).unwrap(), before);
        assert_eq!(open_files().unwrap(), before);
    }

    #[test]
    fn random_numbers_differ() {
        let numbers: std::collections::BTreeSet<u64> = (0..1000).map(|_| random()).collect();
        assert_eq!(numbers.len(), 1000);
    }
}
