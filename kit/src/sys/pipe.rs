//! Pipes to and from child processes. Our end never blocks, the child's end is an ordinary one.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::slice;

use super::{check, check_room, check_size, retry, unless_blocked};

/// The most that [`PipeEnd::read_piece`] reads.
pub const PIECE_BYTES: usize = 4 * 1024;

/// The most that [`PipeEnd::read_more`] reads at a time.
const MAX_READ_BYTES: usize = 64 * 1024;

/// Our end of a pipe. Its calls say when they would have to wait.
#[derive(Debug)]
pub struct PipeEnd(OwnedFd);

/// A pipe that the child reads from: our end and the child's.
///
/// # Errors
/// When descriptors have run out.
pub fn to_child() -> io::Result<(PipeEnd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((PipeEnd::new(writer.into())?, reader.into()))
}

/// A pipe that the child writes to: our end and the child's.
///
/// # Errors
/// When descriptors have run out.
pub fn from_child() -> io::Result<(PipeEnd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((PipeEnd::new(reader.into())?, writer.into()))
}

impl PipeEnd {
    /// The flag belongs to this end alone: the ends of a pipe are two open files (pipe(7)). A new one has no other
    /// that could be lost.
    fn new(fd: OwnedFd) -> io::Result<PipeEnd> {
        // SAFETY: the call takes no pointers.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
        Ok(PipeEnd(fd))
    }

    /// Appends what is there to `buffer`, at most what its spare capacity holds; the caller reserves it.
    /// `Some(0)` is the end, `None` means that nothing is there yet.
    ///
    /// # Errors
    /// What read(2) says; `InvalidInput` without room.
    pub fn read(&self, buffer: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let spare = buffer.spare_capacity_mut();
        let (start, room) = (spare.as_mut_ptr(), spare.len());
        check_room(room)?;
        // SAFETY: the pointer and size are those of the vector's spare capacity.
        let call = || check_size(unsafe { libc::read(self.0.as_raw_fd(), start.cast(), room) });
        let count = unless_blocked(retry(call))?;
        if let Some(count) = count {
            let length = buffer.len() + count;
            // SAFETY: the kernel wrote `count` bytes from the old length on, at most the spare capacity.
            unsafe { buffer.set_len(length) };
        }
        Ok(count)
    }

    /// Appends what is there to `buffer`: a piece at first, then as much as `buffer` holds already, up to a bound.
    /// Returns how much it was, as [`PipeEnd::read`] does, and how much would have fitted. The first piece comes by way
    /// of the stack: most output is small, and a buffer for more would be a mapping, made anew for each process.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn read_more(&self, buffer: &mut Vec<u8>) -> io::Result<(Option<usize>, usize)> {
        if buffer.capacity() < PIECE_BYTES {
            return Ok((self.read_piece(|piece| buffer.extend_from_slice(piece))?, PIECE_BYTES));
        }
        if buffer.len() == buffer.capacity() {
            buffer.reserve_exact(buffer.len().min(MAX_READ_BYTES));
        }
        let room = buffer.capacity() - buffer.len();
        Ok((self.read(buffer)?, room))
    }

    /// Reads a piece of what is there, at most [`PIECE_BYTES`], and hands it to `take`. Answers as [`PipeEnd::read`].
    ///
    /// # Errors
    /// What read(2) says.
    pub fn read_piece(&self, take: impl FnOnce(&[u8])) -> io::Result<Option<usize>> {
        let mut room = MaybeUninit::<[u8; PIECE_BYTES]>::uninit(); // zeroes would cost more than the read
        let start = room.as_mut_ptr().cast::<u8>();
        // SAFETY: the pointer and length are those of the room.
        let call = || check_size(unsafe { libc::read(self.0.as_raw_fd(), start.cast(), PIECE_BYTES) });
        let count = unless_blocked(retry(call))?;
        if let Some(count @ 1..) = count {
            // SAFETY: the kernel wrote this many bytes at the start of the room, which outlives the slice.
            take(unsafe { slice::from_raw_parts(start, count) });
        }
        Ok(count)
    }

    /// Writes what the pipe takes of `data`: the number of bytes, or `None` when it is full.
    ///
    /// # Errors
    /// What write(2) says; `BrokenPipe` when no process reads it any more.
    pub fn write(&self, data: &[u8]) -> io::Result<Option<usize>> {
        // SAFETY: the pointer and length are those of the slice, which the call only reads.
        let call =
            || check_size(unsafe { libc::write(self.0.as_raw_fd(), data.as_ptr().cast(), data.len()) });
        unless_blocked(retry(call))
    }
}

impl AsFd for PipeEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    #[test]
    fn our_end_never_blocks_and_sees_the_end() {
        let (ours, theirs) = from_child().unwrap();
        let mut buffer = Vec::with_capacity(8);
        assert_eq!(ours.read(&mut buffer).unwrap(), None);
        let mut theirs = File::from(theirs);
        theirs.write_all(b"hello world").unwrap();
        assert_eq!(ours.read(&mut buffer).unwrap(), Some(8));
        buffer.reserve(8);
        let mut piece = Vec::new();
        assert_eq!(ours.read_piece(|bytes| piece.extend_from_slice(bytes)).unwrap(), Some(3));
        assert_eq!((&buffer[..], &piece[..]), (&b"hello wo"[..], &b"rld"[..]));
        assert_eq!(ours.read_piece(|_| panic!("nothing is there")).unwrap(), None);
        drop(theirs);
        assert_eq!(ours.read_piece(|_| panic!("it is the end")).unwrap(), Some(0));
        assert_eq!(ours.read(&mut buffer).unwrap(), Some(0));
    }

    #[test]
    fn a_read_into_no_room_is_not_the_end() {
        let (ours, theirs) = from_child().unwrap();
        File::from(theirs).write_all(b"x").unwrap();
        let refused = |result: io::Result<Option<usize>>| result.unwrap_err().kind();
        assert_eq!(refused(ours.read(&mut Vec::new())), io::ErrorKind::InvalidInput);
        assert_eq!(ours.read_more(&mut Vec::new()).unwrap().0, Some(1));
    }

    #[test]
    fn a_full_pipe_says_so_and_a_closed_one_is_an_error() {
        let (ours, theirs) = to_child().unwrap();
        let mut written = 0;
        while let Some(count) = ours.write(&[7; 4096]).unwrap() {
            written += count;
        }
        let mut theirs = File::from(theirs);
        let mut room = vec![0; written];
        theirs.read_exact(&mut room).unwrap();
        assert_eq!(ours.write(b"x").unwrap(), Some(1));
        drop(theirs);
        // Test programs ignore SIGPIPE, as every program of the standard library does.
        assert_eq!(ours.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
