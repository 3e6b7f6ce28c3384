//! A process that was started for one call: with its pipes, and with the mark by which it is found again.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kit::sys::child::{Child, Environment, Spawn};
use kit::sys::pipe::PipeEnd;
use kit::sys::{limits, pipe};

use crate::config::ENV_MARK;
use crate::function::Function;
use crate::process::table;
use crate::process::tree;

/// The process.
pub(crate) struct Started {
    pub(crate) child: Listed,
    pub(crate) pipes: Pipes,
    pub(crate) mark: Mark,
}

/// A process that is in the list of [`Function::groups`] for as long as this lives. Its id leaves the list before
/// another process can get it: behind that the process is waited for, and killed where it has not ended.
pub(crate) struct Listed {
    child: Child,
    groups: Arc<Mutex<Vec<i32>>>,
}

impl Listed {
    fn new(child: Child, groups: &Arc<Mutex<Vec<i32>>>) -> Listed {
        let listed = Listed { child, groups: Arc::clone(groups) };
        listed.groups().push(listed.child.pid());
        listed
    }

    fn groups(&self) -> MutexGuard<'_, Vec<i32>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Listed {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for Listed {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let pid = self.child.pid();
        self.groups().retain(|group| *group != pid);
    }
}

/// The ends of the process's pipes.
pub(crate) struct Pipes {
    pub(crate) stdin: PipeEnd,
    pub(crate) stdout: PipeEnd,
    /// `None` where STDERR goes into STDOUT.
    pub(crate) stderr: Option<PipeEnd>,
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
        table::has_variable(pid, format!("{ENV_MARK}={self}").as_bytes())
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
            mark: Some(mark.number()),
            ..Spawn::new(
                &config.command,
                &environment,
                [child_stdin.as_fd(), child_stdout.as_fd(), child_stderr.as_fd()],
            )
        }
        .start()?;
        let child = Listed::new(child, &function.groups);
        Ok(Started { child, pipes: Pipes { stdin, stdout, stderr }, mark })
    }

    /// Ends it and all that it has started. Its STDIN stays open until then: an end of file would tell it to begin.
    pub(crate) fn end(mut self, function: &Function) {
        tree::end(&mut self.child, self.mark, function.config.kill_grace);
        drop((self.pipes, self.child));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::collections::HashMap;

    #[test]
    fn a_process_whose_call_panics_leaves_the_list_and_ends() {
        let source = HashMap::from([("fprocess", "cat")]);
        let environment = crate::config::base_environment();
        let function = Function::new(Config::read(&source, 1).unwrap(), environment).unwrap();
        let started = Started::start(&function, Mark::new(), |_| {}).unwrap();
        let pid = started.child.pid();
        assert_eq!(function.groups()[..], [pid]);
        let panics = std::panic::AssertUnwindSafe(move || {
            let _started = started;
            panic!("as the test wants it");
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(function.groups().is_empty());
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
