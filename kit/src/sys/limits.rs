//! Limits that the kernel sets for this process, and its random numbers.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::check;

/// What a resource is limited to, as prlimit(2) reads and writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limit {
    soft: u64,
    hard: u64,
}

/// The limit of open files that this process inherited, if it was raised. Children start with this one: a program
/// that closes every descriptor it may have, or that has a table of them, must not pay for our connections.
static INHERITED_FILES: OnceLock<Limit> = OnceLock::new();

/// The number of files this process may have open: its soft limit (`RLIMIT_NOFILE`, getrlimit(2)).
///
/// # Errors
/// When the kernel refuses to say, which it does not.
pub fn open_files() -> io::Result<u64> {
    Ok(read(libc::RLIMIT_NOFILE as Resource)?.soft)
}

/// Raises the soft limit of open files towards the hard one, at most to `wanted`, and returns the limit
/// that then holds. A limit that is higher already stays. Children get the one from before.
///
/// # Errors
/// When the kernel refuses; the old limit holds on.
pub fn raise_open_files(wanted: u64) -> io::Result<u64> {
    let before = read(libc::RLIMIT_NOFILE as Resource)?;
    let soft = wanted.min(before.hard);
    if before.soft >= soft {
        return Ok(before.soft);
    }
    write(libc::RLIMIT_NOFILE as Resource, &Limit { soft, ..before })?;
    INHERITED_FILES.get_or_init(|| before);
    Ok(soft)
}

/// Raises the limit of open files towards `wanted`, as far as it goes, and returns it.
///
/// # Errors
/// One line with both numbers where the limit is below `least`; what getrlimit(2) says.
pub fn expect_open_files(wanted: u64, least: u64) -> io::Result<u64> {
    let limit = raise_open_files(wanted).or_else(|_| open_files())?;
    match limit < least {
        true => Err(io::Error::other(format!(
            "the limit of open files (RLIMIT_NOFILE, ulimit -n) is {limit}: expected at least {least}"
        ))),
        false => Ok(limit),
    }
}

/// The limit of open files for a child, where this process has raised its own.
pub(super) fn inherited_files() -> Option<Limit> {
    INHERITED_FILES.get().copied()
}

/// Gives a child that is about to execve(2) its limit of open files: one system call and no more, so that it may be
/// made where locks and memory may not be taken.
pub(super) fn set_files(limit: &Limit) -> io::Result<()> {
    write(libc::RLIMIT_NOFILE as Resource, limit)
}

/// File locks: a limit that the kernel has not heeded since Linux 2.4 (getrlimit(2)), passes on at each fork and exec,
/// and shows to everybody. So it carries a mark, which unlike a variable no program takes off by accident.
const MARKED: Resource = libc::RLIMIT_LOCKS as Resource;

/// The line of that limit in `/proc/PID/limits` (proc(5)): the name, then the soft limit.
const MARKED_LINE: &str = "Max file locks";

/// A mark for a child, see [`mark_of`]: a random number that fits into the kernel's on every machine, and is not taken
/// for "unlimited".
#[must_use]
pub fn random_mark() -> u64 {
    (random() as usize >> 1) as u64
}

/// The mark that a process was started with, or inherited from one that was. `None` for one without, and where the
/// kernel does not tell.
#[must_use]
pub fn mark_of(pid: i32) -> Option<u64> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix(MARKED_LINE))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The limit that carries a mark; `None` where the hard one has no room for it.
pub(super) fn marked(mark: u64) -> Option<Limit> {
    let hard = read(MARKED).ok()?.hard;
    (mark <= hard).then_some(Limit { soft: mark, hard })
}

/// Marks a child that is about to execve(2), as [`set_files`] sets its limit.
pub(super) fn set_mark(limit: &Limit) -> io::Result<()> {
    write(MARKED, limit)
}

/// Resources have another type in each C library.
type Resource = libc::c_long;

fn read(resource: Resource) -> io::Result<Limit> {
    let (mut limit, none) = (Limit::default(), ptr::null::<Limit>());
    // SAFETY: the null pointer changes nothing; the other is to a limit that lives through the call, which fills it.
    check(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, none, &raw mut limit) } as libc::c_int)?;
    Ok(limit)
}

/// By the system call itself: musl's setrlimit(3) may have all threads of the process make it, which a child that
/// shares this memory must not ask for.
fn write(resource: Resource, limit: &Limit) -> io::Result<()> {
    let none = ptr::null_mut::<Limit>();
    // SAFETY: the first pointer is to a valid limit that the call only reads; the null one says that the old limit is
    // not wanted.
    check(
        unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, ptr::from_ref(limit), none) } as libc::c_int
    )?;
    Ok(())
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
