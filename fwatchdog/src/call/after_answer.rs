//! The rest of a call whose answer is out. Its process runs to its end, and no client waits for that. The answer
//! was complete because the process had said how long it is.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use kit::sys::child::End;
use kit::sys::pipe::PipeEnd;
use kit::sys::{PollFd, Ready, poll};
use kit::{Deadline, duration};

use crate::function::Function;
use crate::process::instance::{Listed, Mark};
use crate::process::lines::{self, Lines};
use crate::process::tree;

/// Between two looks at a process that has no descriptor to be polled, on old kernels.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// The reads that empty a pipe of the usual size (pipe(7)).
const LAST_READS: usize = 64 * 1024 / lines::READ_BYTES;

/// The rest of a call.
pub(crate) struct Rest {
    pub(crate) id: String,
    pub(crate) child: Listed,
    pub(crate) mark: Mark,
    /// When the process must have ended.
    pub(crate) deadline: Deadline,
    /// The name of that time limit, and its length.
    pub(crate) limit: (&'static str, Duration),
    pub(crate) output: Output,
}

/// The output that the process may still write.
pub(crate) struct Output {
    pub(crate) stdout: Option<PipeEnd>,
    /// `None` also where STDERR goes into STDOUT.
    pub(crate) stderr: Option<PipeEnd>,
    pub(crate) lines: Lines,
    /// How many bytes came behind the end of the answer.
    pub(crate) surplus: u64,
}

impl Rest {
    /// Returns once the process has ended. At its deadline, and when fwatchdog ends, it is ended.
    pub(crate) fn run(mut self, function: &Function) {
        let end = self.wait(function);
        let id = &self.id;
        match &end {
            Ok(Some(End::Exited(0))) => {}
            Ok(Some(end)) => log::warn!("call={id} the process ended with {end} after its answer"),
            Ok(None) if self.deadline.has_passed() => {
                let (name, span) = (self.limit.0, duration::format(self.limit.1));
                log::warn!("call={id} was ended after its answer: {name} is {span}");
            }
            Ok(None) => log::warn!("call={id} was ended after its answer: drain_timeout passed"),
            Err(error) => log::error!("call={id} was ended after its answer: {error}"),
        }
        if !matches!(end, Ok(Some(_))) {
            tree::end(&mut self.child, self.mark, function.config.kill_grace);
        }
        self.output.drain(&self.id);
        self.output.end(&self.id);
        drop(self.child);
    }

    /// How the process ended; `None` where it has to be ended.
    fn wait(&mut self, function: &Function) -> io::Result<Option<End>> {
        loop {
            if let Some(end) = self.child.ended()? {
                return Ok(Some(end));
            }
            let step =
                if self.child.end_fd().is_none() { self.deadline.within(LOOK_PAUSE) } else { self.deadline };
            let mut fds = [
                PollFd::new(function.stop.as_fd(), Ready::READ),
                PollFd::maybe(self.output.stdout.as_ref().map(AsFd::as_fd), Ready::READ),
                PollFd::maybe(self.output.stderr.as_ref().map(AsFd::as_fd), Ready::READ),
                PollFd::maybe(self.child.end_fd(), Ready::READ),
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
                self.output.read_stderr(&self.id);
            }
        }
    }
}

impl Output {
    /// Reads once, and throws away what comes. Returns whether there may be more.
    fn read_stdout(&mut self) -> bool {
        let (Some(stdout), mut room) = (&self.stdout, [0; lines::READ_BYTES]) else { return false };
        match stdout.read_some(&mut room) {
            Ok(Some(count @ 1..)) => self.surplus += count as u64,
            Ok(None) => return false,
            Ok(Some(0)) | Err(_) => self.stdout = None,
        }
        true
    }

    /// Reads once, and hands whole lines to the log. Returns whether there may be more.
    fn read_stderr(&mut self, id: &str) -> bool {
        let (Some(stderr), mut room) = (&self.stderr, [0; lines::READ_BYTES]) else { return false };
        match stderr.read_some(&mut room) {
            Ok(Some(count @ 1..)) => self.lines.take(&room[..count], |line| lines::log(id, line)),
            Ok(None) => return false,
            Ok(Some(0)) | Err(_) => self.stderr = None,
        }
        true
    }

    /// Takes what the pipes hold once the process has ended; no more than that, since a background child may go on
    /// writing.
    fn drain(&mut self, id: &str) {
        for _ in 0..LAST_READS {
            if !self.read_stdout() & !self.read_stderr(id) {
                return;
            }
        }
    }

    /// Says what is left to be said of it.
    pub(crate) fn end(mut self, id: &str) {
        self.lines.take_rest(|line| lines::log(id, line));
        if self.surplus > 0 {
            log::error!("call={id} the process wrote {} bytes more than its Content-Length", self.surplus);
        }
    }
}
