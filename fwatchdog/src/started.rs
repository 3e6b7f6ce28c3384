//! A process that was started for one call: with its pipes, and with the mark by which it is found again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use kit::sys::child::{Child, Environment, Spawn};
use kit::sys::{limits, pipe};

use crate::config::ENV_MARK;
use crate::function::Function;
use crate::relay::Pipes;
use crate::tree;

/// The process. It is in the list of [`Function::groups`] until it is reaped.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) pipes: Pipes,
    pub(crate) mark: String,
}

/// A mark that no other call has.
pub(crate) fn mark() -> String {
    format!("{:016x}", limits::random())
}

impl Started {
    /// Starts the function's process. `environment` is called to add a request's variables.
    ///
    /// # Errors
    /// What the system says; nothing was started then.
    pub(crate) fn start(
        function: &Function,
        mark: String,
        add: impl FnOnce(&mut Environment),
    ) -> io::Result<Started> {
        let config = &function.config;
        let mut environment = function.environment.clone();
        environment.set(ENV_MARK.as_bytes(), &[mark.as_bytes()]);
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
        }
        .start()?;
        function.groups().push(child.pid());
        Ok(Started { child, pipes: Pipes { stdin, stdout, stderr }, mark })
    }

    /// Ends it and all that it has started. Its STDIN stays open until then: an end of file would tell it to begin.
    pub(crate) fn end(mut self, function: &Function) {
        end(&mut self.child, &self.mark, function.config.kill_grace);
        drop(self.pipes);
        reap(self.child, function);
    }
}

/// Ends a process, whose pipes somebody else has, and all that it has started.
pub(crate) fn end(child: &mut Child, mark: &str, grace: Duration) {
    let mark = format!("{ENV_MARK}={mark}");
    tree::end(child, mark.as_bytes(), grace);
}

/// Waits for a process that has ended, or soon will. Its id leaves the list before another process can get it.
pub(crate) fn reap(child: Child, function: &Function) {
    let pid = child.pid();
    function.groups().retain(|group| *group != pid);
    if let Err(error) = child.reap() {
        log::error!("process {pid} was lost: {error}");
    }
}
