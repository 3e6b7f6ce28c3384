//! The system calls that the standard library does not offer, as safe functions. All `unsafe` code of
//! the project is in this folder: one call per block, every return value through `check`, every
//! descriptor an `OwnedFd` from the line on which it appears.

pub mod child;
mod environment;
pub mod file;
pub mod limits;
mod output;
pub mod pipe;
pub mod poll;
pub mod signal;
pub mod socket;
mod spawn;
pub mod user;

use std::io;

pub use output::Output;
pub use poll::{Epoll, EventFd, PollFd, Ready, poll};
pub use socket::{Listener, Socket, listen_unix};

/// Turns the `-1` of a system call into the error that `errno` names.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for calls that return a size.
pub(crate) fn check_size(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Refuses to read into no room: the kernel would answer 0, which is the end for whoever reads.
pub(crate) fn check_room(bytes: usize) -> io::Result<()> {
    if bytes == 0 { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(()) }
}

/// Sets an option of this process or thread that takes a number, see prctl(2). All arguments are of the width that the
/// kernel reads.
pub(crate) fn set(option: libc::c_int, value: libc::c_ulong) -> io::Result<()> {
    const NONE: libc::c_ulong = 0;
    // SAFETY: the callers' options take no pointers.
    check(unsafe { libc::prctl(option, value, NONE, NONE, NONE) }).map(drop)
}

/// Repeats a call that a signal interrupted (`EINTR`).
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// `Ok(None)` where a non-blocking call had to wait.
pub(crate) fn unless_blocked<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
