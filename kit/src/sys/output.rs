//! The standard streams, written to without waiting for whoever reads them.
//!
//! `O_NONBLOCK` belongs to the open file (open(2)), which this process shares with the process that started it. So the
//! flag is never set on an inherited stream: the stream is opened once more, with the flag, and put in its place.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use super::{PollFd, Ready, check, check_size, poll, retry, unless_blocked};
use crate::Deadline;

/// The room of a pipe that is asked for. A function may write much to STDERR at once, and the reader shares the
/// processors with it: of a burst of 1 MiB an eighth was lost with the 64 KiB that a pipe has.
const PIPE_BYTES: i32 = 1 << 20;

/// A standard stream, by its descriptor.
#[derive(Clone, Copy)]
pub enum Output {
    /// STDOUT.
    Out = 1,
    /// STDERR.
    Err = 2,
}

impl Output {
    /// Opens a pipe or a terminal once more, so that no write of this process waits for its reader, nor one of a child
    /// that inherits the stream. To be called before threads are started, and before the user of the process changes,
    /// since the new one may not open it. Where it cannot be opened (no `/proc`, another user's) the stream stays.
    pub fn open_again(self) {
        let number = self as i32;
        // SAFETY: the call takes no pointers.
        if unsafe { libc::lseek(number, 0, libc::SEEK_CUR) } != -1 {
            return; // a file has a position, which the new one would not share, and no reader to wait for
        }
        let mut options = File::options();
        options.write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
        let path = if number == 1 { "/proc/self/fd/1" } else { "/proc/self/fd/2" };
        let Ok(file) = options.open(path) else { return };
        // SAFETY: the call takes no pointers.
        let room = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETPIPE_SZ) });
        if room.is_ok_and(|room| room < PIPE_BYTES) {
            // SAFETY: as above.
            let _ = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_BYTES) }); // else it stays
        }
        // SAFETY: the call takes no pointers. It replaces a standard stream, which nobody owns.
        let _ = check(unsafe { libc::dup2(file.as_raw_fd(), number) });
    }

    /// Writes what the stream takes of `bytes` at once: their number, or `None` when it takes none now. With a stream
    /// that could not be opened again, up to `PIPE_BUF` bytes wait only if another process takes the room between the
    /// look and the write.
    ///
    /// # Errors
    /// What write(2) says; `BrokenPipe` when nobody reads the stream any more.
    pub fn write(self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let (number, start, size) = (self as i32, bytes.as_ptr().cast(), bytes.len());
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the pointer and size are those of the slice, which the call only reads.
        let sent = retry(|| check_size(unsafe { libc::send(number, start, size, flags) }));
        if !sent.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ENOTSOCK)) {
            return unless_blocked(sent);
        }
        let mut fds = [PollFd::of(number, Ready::WRITE)];
        poll(&mut fds, Deadline::after(Duration::ZERO))?;
        if !fds[0].ready().is_writable() {
            return Ok(None);
        }
        // SAFETY: as above.
        unless_blocked(retry(|| check_size(unsafe { libc::write(number, start, size) })))
    }
}
