//! The system calls that the standard library does not offer, as safe functions. All `unsafe` code of
//! the project is in this folder: one call per block, every return value through `check`, every
//! descriptor an `OwnedFd` from the line on which it appears.

pub mod child;
mod environment;
pub mod file;
pub mod limits;
pub mod pipe;
pub mod poll;
pub mod signal;
pub mod socket;
mod spawn;
pub mod user;

use std::io;

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
