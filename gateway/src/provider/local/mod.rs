//! The local provider: functions from a file, each replica a child fwatchdog or an address of somebody
//! else's. A laptop or a node without Docker serves the same URLs as a Swarm.

mod file;
mod functions_file;
mod launcher;
mod replica;
mod supervisor;
#[cfg(test)]
mod tests;
mod users;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use kit::Deadline;
use kit::sys::user;
use kit::thread::Joined;

use crate::function::Sink;
use crate::provider::local::functions_file::Serves;
use crate::provider::{Provider, ScaleError};
use file::Resolved;
use launcher::Launcher;
use supervisor::{Mailbox, Scale, Supervisor};

/// How long the supervisor may take to see an order. It does so within some milliseconds.
const ORDER_TIME: Duration = Duration::from_secs(5);

/// Why functions cannot be served.
#[derive(Debug)]
pub(crate) enum Error {
    /// The functions file was not taken.
    File(file::Error),
    /// Functions have `fprocess`, but there is no fwatchdog to run them.
    NoFwatchdog,
    /// The system refused what the provider itself needs.
    Start(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::File(error) => error.fmt(f),
            Error::NoFwatchdog => f.write_str(
                "failed to find fwatchdog: expected it beside the gateway's executable or in PATH, as functions have `fprocess`",
            ),
            Error::Start(error) => write!(f, "failed to start the local provider: {error}"),
        }
    }
}

impl std::error::Error for Error {}

/// What the provider is started with.
pub(crate) struct Setup {
    /// The functions file; without one there are no functions.
    pub(crate) functions_file: Option<PathBuf>,
    /// The binary that serves a process, see [`Setup::find`].
    pub(crate) fwatchdog: Option<PathBuf>,
    /// The gateway's own environment, of which children get a little.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// The first of the users that run functions, each its own; else the gateway's own user does.
    pub(crate) function_user: Option<u32>,
    /// The longest that a call may take: so long a replica that is given up may go on with its calls.
    pub(crate) call_time: Duration,
}

impl Setup {
    /// The usual setup: fwatchdog is the one beside the gateway's own executable, else the one in the
    /// environment's `PATH`.
    pub(crate) fn find(
        functions_file: Option<PathBuf>,
        environment: Vec<(OsString, OsString)>,
        call_time: Duration,
    ) -> Setup {
        let path = environment.iter().find(|(name, _)| name == OsStr::new("PATH"));
        let executable = std::env::current_exe().ok();
        let fwatchdog =
            launcher::find_fwatchdog(executable.as_deref(), path.map(|(_, value)| value.as_os_str()));
        Setup { functions_file, fwatchdog, environment, function_user: None, call_time }
    }

    fn load(&self) -> Result<Vec<Resolved>, Error> {
        let Some(path) = &self.functions_file else { return Ok(Vec::new()) };
        let functions = file::load(path).map_err(Error::File)?;
        if self.fwatchdog.is_none() && functions.iter().any(is_process) {
            return Err(Error::NoFwatchdog);
        }
        Ok(functions)
    }
}

fn is_process(resolved: &Resolved) -> bool {
    matches!(resolved.declared.serves, Serves::Process(_))
}

/// Root can do something about it.
fn say_what_is_not_separated() {
    let (level, who) = match user::is_root() {
        true => (log::Level::Warn, "root, as the gateway does"),
        false => (log::Level::Info, "the gateway's own user"),
    };
    log::log!(
        level,
        "functions run as {who}: nothing separates them from its files, its control plane and each other, see function_user"
    );
}

/// The running provider. Dropped, it ends its children at once.
pub(crate) struct Local {
    setup: Setup,
    mailbox: Arc<Mailbox>,
    thread: Joined,
}

impl Local {
    /// Reads the functions file, starts what is in it, and has told `sink` once it returns.
    ///
    /// # Errors
    /// A mistake in the file, or something that is missing on this machine.
    pub(crate) fn start(setup: Setup, sink: Arc<dyn Sink>) -> Result<Local, Error> {
        let functions = setup.load()?;
        if setup.function_user.is_none() && functions.iter().any(is_process) {
            say_what_is_not_separated();
        }
        let launcher = Launcher::new(&setup).map_err(Error::Start)?;
        let mailbox = Arc::new(Mailbox::new().map_err(Error::Start)?);
        mailbox.serve(functions);
        let supervisor = Supervisor::new(launcher, sink, Arc::clone(&mailbox), &setup);
        let (started, start) = mpsc::channel::<()>();
        let body = move || supervisor.run(move || drop(started));
        let thread = Joined::start("local", body).map_err(Error::Start)?;
        let _ = start.recv(); // ends when the sender is dropped
        Ok(Local { setup, mailbox, thread })
    }

    /// Reads the functions file again and answers how many functions are in it. Unchanged functions run on,
    /// removed ones finish their calls.
    ///
    /// # Errors
    /// As [`Local::start`]; everything stays as it was then.
    pub(crate) fn load(&self) -> Result<usize, Error> {
        let functions = self.setup.load()?;
        let count = functions.len();
        self.mailbox.serve(functions);
        Ok(count)
    }

    fn end(&self, deadline: Deadline) {
        self.mailbox.stop(deadline);
        self.thread.join();
    }
}

impl Provider for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn scale(&self, name: &str, from: Option<u32>, to: u32) -> Result<(), ScaleError> {
        let (done, answer) = mpsc::sync_channel(1);
        self.mailbox.scale(Scale { name: name.to_owned(), from, to, done });
        let answer = answer.recv_timeout(ORDER_TIME);
        let stopping = "the local provider does not answer, or is stopping";
        answer.map_or_else(
            |_| Err(ScaleError::Unreachable(stopping.to_owned())),
            |done| done.map_err(ScaleError::Refused),
        )
    }

    fn reload(&self) {
        if let Err(error) = self.load() {
            log::error!("functions_file not read again, the old functions stay: {error}");
        }
    }

    /// Ends all children; calls that still run may finish until the deadline. Returns when none is left, at
    /// most a second and a half after the deadline.
    fn stop(&self, deadline: Deadline) {
        self.end(deadline);
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.end(Deadline::after(Duration::ZERO));
    }
}
