//! Starts the function's processes.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::MutexGuard;
use std::time::Duration;

use kit::Guarded;
use kit::sys::child::{Environment, Spawn};
use kit::sys::pipe;

use super::groups::{Groups, ListedChild};
use super::instance::{Instance, Pipes};
use super::mark::{ENV_MARK, Mark};

/// The bytes of the mark in an environment.
const MARK_BYTES: usize = ENV_MARK.len() + "=0123456789abcdef\0".len();

/// The environments whose memory is kept, and the most that each may have.
const MAX_SPARE: usize = 16;
const MAX_SPARE_BYTES: usize = 16 * 1024;

/// How processes are started.
pub(crate) struct Launcher {
    pub(crate) command: Vec<CString>,
    /// What every process gets, before a request adds to it.
    pub(crate) environment: Environment,
    /// Whether STDERR goes into STDOUT.
    pub(crate) combines_output: bool,
    /// From SIGTERM to SIGKILL for a process that must end.
    pub(crate) kill_grace: Duration,
    pub(crate) groups: Groups,
    /// Memory for the environments of the next processes.
    pub(crate) spare: Guarded<Vec<Environment>>,
}

impl Launcher {
    /// The environment of a process, with room for `variables` more, of `bytes` together.
    pub(crate) fn environment(&self, mark: Mark, variables: usize, bytes: usize) -> Environment {
        let mut environment = self.spare().pop().unwrap_or_default();
        environment.copy(&self.environment, variables + 1, bytes + MARK_BYTES);
        environment.set(ENV_MARK.as_bytes(), &[&mark.digits()]);
        environment
    }

    /// Starts a process that carries `mark`.
    ///
    /// # Errors
    /// What the system says; nothing was started then.
    pub(crate) fn start(&'static self, mark: Mark, environment: Environment) -> io::Result<Instance> {
        let instance = self.spawn(mark, &environment);
        let mut spare = self.spare();
        if spare.len() < MAX_SPARE && environment.capacity() <= MAX_SPARE_BYTES {
            spare.push(environment);
        }
        instance
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Environment>> {
        self.spare.lock()
    }

    fn spawn(&'static self, mark: Mark, environment: &Environment) -> io::Result<Instance> {
        let (stdin, child_stdin) = pipe::to_child()?;
        let (stdout, child_stdout) = pipe::from_child()?;
        let (stderr, child_stderr): (_, Option<OwnedFd>) = if self.combines_output {
            (None, None)
        } else {
            let (stderr, child_stderr) = pipe::from_child()?;
            (Some(stderr), Some(child_stderr))
        };
        let child_stderr = child_stderr.as_ref().unwrap_or(&child_stdout);
        let stdio = [child_stdin.as_fd(), child_stdout.as_fd(), child_stderr.as_fd()];
        let spawn = Spawn { mark: Some(mark.number()), ..Spawn::new(&self.command, environment, stdio) };
        let listed = ListedChild::new(spawn.start()?, &self.groups);
        Ok(Instance { listed, pipes: Pipes { stdin, stdout, stderr }, mark })
    }

    /// The command as a person would write it, for messages.
    pub(crate) fn program(&self) -> String {
        self.command.first().map_or_else(String::new, |program| program.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_call_panics_leaves_the_groups_and_ends() {
        let launcher = Box::leak(Box::new(Launcher {
            command: vec![c"cat".to_owned()],
            environment: Environment::new(&kit::settings::inherited()),
            combines_output: false,
            kill_grace: Duration::ZERO,
            groups: Groups::default(),
            spare: Guarded::default(),
        }));
        let mark = Mark::new();
        let instance = launcher.start(mark, launcher.environment(mark, 0, 0)).unwrap();
        let pid = instance.listed.child.pid();
        assert_eq!(launcher.groups.0.lock()[..], [pid]);
        let panics = std::panic::AssertUnwindSafe(move || {
            let _instance = instance;
            panic!("as the test wants it");
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(launcher.groups.is_empty());
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
