//! The process of a call whose answer is out. The process had said how long the answer is; it runs to its end, and no
//! client waits for that.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use kit::call::CallId;
use kit::sys::child::End;
use kit::sys::pipe::{PIECE_BYTES, PipeEnd};
use kit::sys::{EventFd, PollFd, Ready, poll};
use kit::{Deadline, duration};

use super::time_limit::TimeLimit;
use crate::process::groups::ListedChild;
use crate::process::log_stream::{LogStream, log_call};
use crate::process::mark::Mark;
use crate::process::tree;

/// Between two checks of a process without a descriptor to poll, on old kernels.
const CHECK_PAUSE: Duration = Duration::from_millis(20);

/// The reads that empty a pipe of the usual size (pipe(7)).
const LAST_READS: usize = 64 * 1024 / PIECE_BYTES;

/// The process of a call whose answer is out.
pub(crate) struct AfterAnswer {
    pub(crate) id: CallId,
    pub(crate) listed: ListedChild,
    pub(crate) mark: Mark,
    /// When the process must have ended.
    pub(crate) deadline: Deadline,
    /// Where that deadline comes from.
    pub(crate) limit: TimeLimit,
    pub(crate) output: Output,
}

/// The output that the process may still write.
pub(crate) struct Output {
    pub(crate) stdout: Option<PipeEnd>,
    /// `None` also where STDERR goes into STDOUT.
    pub(crate) stderr: LogStream,
    /// The bytes that came after the end of the answer.
    pub(crate) surplus: u64,
}

impl AfterAnswer {
    /// Returns once the process has ended. The process is ended at its deadline, and once `stop` is readable.
    pub(crate) fn run(mut self, stop: &EventFd, grace: Duration) {
        let end = self.wait(stop);
        let id = self.id.as_str();
        match &end {
            Ok(Some(End::Exited(0))) => {}
            Ok(Some(end)) => log::warn!("call={id} the process ended with {end} after its answer"),
            Ok(None) if self.deadline.has_passed() => {
                let (name, span) = (self.limit.name, duration::format(self.limit.span));
                log::warn!("call={id} was ended after its answer: {name} is {span}");
            }
            Ok(None) => log::warn!("call={id} was ended after its answer: drain_timeout passed"),
            Err(error) => log::error!("call={id} was ended after its answer: {error}"),
        }
        if !matches!(end, Ok(Some(_))) {
            tree::end(&mut self.listed.child, self.mark, grace);
        }
        self.output.drain(id);
        self.output.end(id);
        drop(self.listed);
    }

    /// How the process ended; `None` where it must be ended.
    fn wait(&mut self, stop: &EventFd) -> io::Result<Option<End>> {
        loop {
            if let Some(end) = self.listed.child.ended()? {
                return Ok(Some(end));
            }
            let step = if self.listed.child.end_fd().is_none() {
                self.deadline.within(CHECK_PAUSE)
            } else {
                self.deadline
            };
            let mut fds = [
                PollFd::new(stop.as_fd(), Ready::READ),
                PollFd::maybe(self.output.stdout.as_ref().map(AsFd::as_fd), Ready::READ),
                PollFd::maybe(self.output.stderr.fd(), Ready::READ),
                PollFd::maybe(self.listed.child.end_fd(), Ready::READ),
            ];
            poll(&mut fds, step)?;
            let [stop, stdout, stderr, _] = fds.map(|fd| fd.ready());
            if stop.is_any() || self.deadline.has_passed() {
                return Ok(None);
            }
            if stdout.is_any() {
                self.output.read_stdout();
            }
            if stderr.is_any() {
                self.output.stderr.read(1, &|line| log_call(self.id.as_str(), line));
            }
        }
    }
}

impl Output {
    /// Reads once, and throws the bytes away. Returns whether there may be more.
    fn read_stdout(&mut self) -> bool {
        let Some(stdout) = &self.stdout else { return false };
        match stdout.read_piece(|_| {}) {
            Ok(Some(count @ 1..)) => self.surplus += count as u64,
            Ok(None) => return false,
            Ok(Some(0)) | Err(_) => self.stdout = None,
        }
        true
    }

    /// Takes what the pipes hold once the process has ended. No more than that: a background child may go on writing.
    fn drain(&mut self, id: &str) {
        for _ in 0..LAST_READS {
            if !self.read_stdout() & !self.stderr.read(1, &|line| log_call(id, line)) {
                return;
            }
        }
    }

    /// Logs what is left to log.
    pub(crate) fn end(mut self, id: &str) {
        self.stderr.end(&|line| log_call(id, line));
        if self.surplus > 0 {
            log::error!("call={id} the process wrote {} bytes more than its Content-Length", self.surplus);
        }
    }
}
