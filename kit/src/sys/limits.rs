//! Limits that the kernel sets for this process, and its random numbers.

use std::io;
use std::mem;

use super::{check, check_size, retry};

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

/// Fills `buffer`, at most 256 bytes, with random bytes (getrandom(2), which never returns less for
/// sizes up to that).
///
/// # Errors
/// When the kernel has no such call (before 3.17).
pub fn random_bytes(buffer: &mut [u8]) -> io::Result<()> {
    let size = buffer.len().min(256);
    // SAFETY: the pointer and size describe memory that belongs to `buffer`, borrowed mutably here.
    retry(|| check_size(unsafe { libc::getrandom(buffer.as_mut_ptr().cast(), size, 0) }))?;
    Ok(())
}

/// A random number for jitter, names and balancing; never for secrets. Falls back to the clock where the
/// kernel has no random numbers.
#[must_use]
pub fn random() -> u64 {
    let mut bytes = [0; mem::size_of::<u64>()];
    match random_bytes(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |age| age.as_nanos() as u64),
    }
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
        assert_ne!(random(), random());
    }
}
