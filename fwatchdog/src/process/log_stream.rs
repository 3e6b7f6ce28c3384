//! STDOUT or STDERR of a process, on its way to the log.

use std::os::fd::{AsFd, BorrowedFd};

use kit::sys::pipe::PipeEnd;

use super::lines::Lines;

/// The stream, until its end.
pub(crate) struct LogStream {
    pipe: Option<PipeEnd>,
    lines: Lines,
}

impl LogStream {
    pub(crate) fn new(pipe: Option<PipeEnd>) -> LogStream {
        LogStream { pipe, lines: Lines::default() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads at most `pieces` pieces, and hands each whole line to `log`. Returns whether there may be more.
    pub(crate) fn read(&mut self, pieces: usize, log: &dyn Fn(&str)) -> bool {
        for _ in 0..pieces {
            let Some(pipe) = &self.pipe else { return false };
            match pipe.read_piece(|piece| self.lines.take(piece, log)) {
                Ok(Some(1..)) => {}
                Ok(None) => return false,
                Ok(Some(0)) | Err(_) => self.pipe = None,
            }
        }
        true
    }

    /// Hands the last line over, which has no end.
    pub(crate) fn end(&mut self, log: &dyn Fn(&str)) {
        self.lines.take_rest(log);
    }
}

/// Logs a line of a call's process.
pub(crate) fn log_call(id: &str, line: &str) {
    log::info!("call={id} {line}");
}
