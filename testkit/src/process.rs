//! A process that a test has started: its end, its logs, its figures, and everything that it started.

use std::fs;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{eventually, proc};

/// The file in the test's own directory that takes stdout.
pub(crate) const STDOUT: &str = ".stdout";

/// The file in the test's own directory that takes stderr.
pub(crate) const STDERR: &str = ".stderr";

/// How much of a log a failure prints, in bytes, from its end.
const LOG_TAIL_BYTES: usize = 64 * 1024;

/// How long the end of a killed tree may take.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The exit code, or 128 + the signal, as a shell reports it.
#[must_use]
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// A started process. Dropped, it and everything it started is killed; while a test panics, its log is
/// printed.
pub struct Process {
    pid: u32,
    state: Mutex<State>,
    mark: String,
    dir: TempDir,
    description: String,
}

struct State {
    child: Child,
    /// Known once it has been waited for; from then on the pid may be someone else's.
    status: Option<ExitStatus>,
}

impl Process {
    /// Takes over a child whose streams go to the files [`STDOUT`] and [`STDERR`] in `dir`. `mark`
    /// (`NAME=value`) is in its environment, `description` tells what was started.
    pub(crate) fn new(child: Child, dir: TempDir, mark: String, description: String) -> Process {
        Process { pid: child.id(), state: Mutex::new(State { child, status: None }), mark, dir, description }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The directory that is its `TMPDIR`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What it wrote to stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        text_of(&self.dir.path().join(STDERR))
    }

    /// What it wrote to stdout so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        text_of(&self.dir.path().join(STDOUT))
    }

    /// Waits until stderr holds `text`, and returns the whole log.
    ///
    /// # Panics
    /// When `timeout` passes first, with the log.
    #[track_caller]
    pub fn wait_log(&self, text: &str, timeout: Duration) -> String {
        eventually(timeout, || {
            let log = self.log();
            if log.contains(text) {
                Ok(log)
            } else {
                Err(format!("no `{text}` in the log\n{}", self.report()))
            }
        })
    }

    /// How it ended; `None` while it runs.
    #[must_use]
    pub fn try_status(&self) -> Option<ExitStatus> {
        let mut state = self.state();
        if state.status.is_none() {
            state.status = state.child.try_wait().unwrap_or_else(|e| panic!("wait for {}: {e}", self.pid));
        }
        state.status
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When `timeout` passes first, with all that is known.
    #[track_caller]
    pub fn wait(&self, timeout: Duration) -> ExitStatus {
        eventually(timeout, || self.try_status().ok_or_else(|| format!("still runs\n{}", self.report())))
    }

    /// Sends it a signal, see [`proc`] for their numbers. Nothing happens once it has ended.
    pub fn signal(&self, signal: i32) {
        let state = self.state();
        if state.status.is_none() {
            proc::signal(self.pid, signal);
        }
    }

    /// Resident memory in bytes.
    #[must_use]
    pub fn rss_bytes(&self) -> u64 {
        proc::rss_bytes(self.pid)
    }

    /// The most resident memory it ever had, in bytes.
    #[must_use]
    pub fn peak_rss_bytes(&self) -> u64 {
        proc::peak_rss_bytes(self.pid)
    }

    /// Open file descriptors.
    #[must_use]
    pub fn fds(&self) -> usize {
        proc::fds(self.pid)
    }

    /// Threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        proc::stat(self.pid).map_or(0, |stat| stat.threads)
    }

    /// CPU time of the process alone.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        proc::stat(self.pid).map_or(Duration::ZERO, |stat| stat.cpu)
    }

    /// CPU time of the process and of the children that it has waited for.
    #[must_use]
    pub fn cpu_time_with_children(&self) -> Duration {
        proc::stat(self.pid).map_or(Duration::ZERO, |stat| stat.cpu + stat.children_cpu)
    }

    /// Everything alive that it started, also what has left its line of parents.
    #[must_use]
    pub fn descendants(&self) -> Vec<u32> {
        let root = self.state().status.is_none().then_some(self.pid);
        proc::descendants(root, &self.mark).into_iter().filter(|pid| *pid != self.pid).collect()
    }

    /// Children that have ended and were not waited for.
    #[must_use]
    pub fn zombies(&self) -> Vec<u32> {
        proc::zombies(self.pid)
    }

    /// Command, environment, exit status and both streams, for a failure's message.
    #[must_use]
    pub fn report(&self) -> String {
        let status = self.try_status().map_or("still running".to_owned(), |status| status.to_string());
        let (stdout, stderr) = (self.stdout(), self.log());
        format!(
            "{}\nstatus: {status}\n--- stdout\n{}\n--- stderr\n{}",
            self.description,
            tail(&stdout),
            tail(&stderr)
        )
    }

    /// `NAME=value` in the environment of everything that it started.
    #[cfg(test)]
    pub(crate) fn mark(&self) -> &str {
        &self.mark
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Not eprintln: where nobody reads (`| head`) it would panic once more, which ends this program at once.
            let _ = writeln!(io::stderr(), "{}", self.report());
        }
        // The parent first, so that it starts nothing more; then whatever is left, until nothing is.
        let mut left = self.descendants();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.status.is_none() {
            let _ = state.child.kill(); // it may have ended by itself
            let _ = state.child.wait(); // the one wait that is left
        }
        let deadline = Instant::now() + END_TIMEOUT;
        while !left.is_empty() && Instant::now() < deadline {
            for pid in left {
                proc::signal(pid, proc::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(1));
            left = proc::descendants(None, &self.mark);
        }
    }
}

fn text_of(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(LOG_TAIL_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
