//! A process that was started for one call: with its pipes, and with the mark by which it is found again.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use kit::sys::child::{Child, Environment, Spawn};
use kit::sys::{limits, pipe};

use crate::config::ENV_MARK;
use crate::function::Function;
use crate::processes;
use crate::relay::Pipes;
use crate::tree;

/// The process. It is in the list of [`Function::groups`] until it is reaped.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) pipes: Pipes,
    pub(crate) mark: Mark,
}

/// What the processes of one call are known by, wherever they have gone. They inherit it twice: as a variable, and as a
/// limit for those that empty their environment, or write a title over it. A process that does so and sets this very
/// limit, or is started by somebody else on its behalf, is not found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

impl Mark {
    /// One that no other call has.
    pub(crate) fn new() -> Mark {
        Mark(limits::random_mark())
    }

    /// The number that it is in the limit.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// Whether a process carries it; `None` where that cannot be told yet, as in the moment of an execve(2).
    pub(crate) fn is_carried_by(self, pid: i32) -> Option<bool> {
        if limits::mark_of(pid) == Some(self.0) {
            return Some(true);
        }
        processes::has_variable(pid, format!("{ENV_MARK}={self}").as_bytes())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Started {
    /// Starts the function's process. `environment` is called to add a request's variables.
    ///
    /// # Errors
    /// What the system says; nothing was started then.
    pub(crate) fn start(
        function: &Function,
        mark: Mark,
        add: impl FnOnce(&mut Environment),
    ) -> io::Result<Started> {
        let config = &function.config;
        let mut environment = function.environment.clone();
        environment.set(ENV_MARK.as_bytes(), &[mark.to_string().as_bytes()]);
        add(&mut environment);
        let (stdin, child_stdin) = pipe::to_child()?;
        let (stdout, child_stdout) = pipe::from_child()?;
        let (stderr, child_stderr): (_, Option<OwnedFd>) = if config.combine_output {
            (None, None)
        } else {
            let (stderr, child_stderr) = pipe::from_child()?;
            (Some(stderr), Some(child_stderr))
        };
        let child_stderr = child_stderr.as_ref().unwrap_or(&child_stdout);
        let child = Spawn {
            argv: &config.command,
            environment: &environment,
            stdio: [child_stdin.as_fd(), child_stdout.as_fd(), child_stderr.as_fd()],
            directory: None,
            listener: None,
            mark: Some(mark.number()),
        }
        .start()?;
        function.groups().push(child.pid());
        Ok(Started { child, pipes: Pipes { stdin, stdout, stderr }, mark })
    }

    /// Ends it and all that it has started. Its STDIN stays open until then: an end of file would tell it to begin.
    pub(crate) fn end(mut self, function: &Function) {
        tree::end(&mut self.child, self.mark, function.config.kill_grace);
        drop(self.pipes);
        reap(self.child, function);
    }
}

/// Waits for a process that has ended, or soon will. Its id leaves the list before another process can get it.
pub(crate) fn reap(child: Child, function: &Function) {
    let pid = child.pid();
    function.groups().retain(|group| *group != pid);
    if let Err(error) = child.reap() {
        log::error!("process {pid} was lost: {error}");
    }
}
