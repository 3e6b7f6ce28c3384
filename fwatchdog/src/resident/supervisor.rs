//! The thread that keeps the process of `mode=http` running, logs what it writes, and ends it in order.

use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kit::sys::child::{Child, End};
use kit::sys::signal::Signal;
use kit::sys::{PollFd, Ready, poll};
use kit::{Backoff, Deadline, duration};

use super::Resident;
use super::own_port::OwnPort;
use crate::process::instance::{Instance, Pipes};
use crate::process::launcher::Launcher;
use crate::process::log_stream::LogStream;
use crate::process::mark::Mark;
use crate::process::tree;

/// Tells the process the port that was chosen for it, as other platforms do.
const ENV_PORT: &str = "PORT";

/// Between two checks of a process without a descriptor to poll, on old kernels.
const CHECK_PAUSE: Duration = Duration::from_millis(20);

/// Reads of one stream in a row before the others get a turn.
const BURST: usize = 16;

/// Starts the thread. After [`Resident::stop`] it ends with the process's exit code.
///
/// # Errors
/// When the system has no room for a thread.
pub(crate) fn start(
    resident: &'static Resident,
    launcher: &'static Launcher,
) -> io::Result<JoinHandle<ExitCode>> {
    let supervisor = Supervisor { resident, launcher, backoff: Backoff::default(), port: None };
    kit::thread::spawn_vital("fwatchdog-http", move || supervisor.run())
}

/// Why the process is not there any more.
enum Reason {
    /// fwatchdog ends.
    Told,
    /// The process did not answer, and was ended.
    Hung,
    /// The process left others behind to do its work.
    Background,
    /// The process ended by itself, or somebody else ended it.
    Itself,
}

struct Supervisor {
    resident: &'static Resident,
    launcher: &'static Launcher,
    backoff: Backoff,
    port: Option<OwnPort>,
}

impl Supervisor {
    fn run(mut self) -> ExitCode {
        let program = self.launcher.program();
        while !self.resident.is_stopping() {
            let (started_at, answers) = (Instant::now(), self.resident.answers());
            let how = match self.start() {
                Ok(process) => {
                    log::info!("started `{program}`, process {}", process.listed.child.pid());
                    let (end, reason) = self.watch(process);
                    let end_text = described(end);
                    let answers = self.resident.answers() - answers;
                    match reason {
                        Reason::Told => return exit_code(end),
                        Reason::Hung => format!(
                            "`{program}` has not answered {} calls in a row, see max_timeouts, and was ended",
                            self.resident.max_timeouts
                        ),
                        Reason::Background => {
                            format!(
                                "`{program}` has gone to the background, where it cannot be watched, and was ended"
                            )
                        }
                        // Some servers end after so many requests, to give back what they leak. Each start must be
                        // earned by an answer.
                        Reason::Itself if end == Some(End::Exited(0)) && answers > 0 => {
                            log::info!(
                                "`{program}` has ended with {end_text} after {answers} answers; it is started again"
                            );
                            continue;
                        }
                        Reason::Itself => format!("`{program}` has ended by itself with {end_text}"),
                    }
                }
                Err(error) => format!("cannot start `{program}`: {error}"),
            };
            let pause = self.backoff.failed(started_at.elapsed());
            log::error!("{how}, see fprocess; it is started again in {}", duration::format(pause));
            let has_served = self.resident.has_listened() || self.resident.answers() > answers;
            if self.backoff.is_failing() && !has_served {
                self.resident.set_failure(Some(format!("{how}, see fprocess")));
            }
            self.rest(pause);
        }
        ExitCode::SUCCESS
    }

    fn start(&mut self) -> io::Result<Instance> {
        // The last port is held until no call is sent there any more.
        self.port = self.resident.choose_port()?;
        self.resident.forget();
        let mark = Mark::new();
        let mut environment = self.launcher.environment(mark, 1, 0);
        if let Some(port) = &self.port {
            environment.set(ENV_PORT.as_bytes(), &[port.number.to_string().as_bytes()]);
        }
        self.launcher.start(mark, environment)
    }

    fn rest(&self, pause: Duration) {
        let deadline = Deadline::after(pause);
        while !self.resident.is_stopping() && !deadline.has_passed() {
            self.resident.wake.clear();
            self.resident.wake.wait(deadline);
        }
    }

    /// Logs what the process writes until it has ended, by itself or because it was told to.
    fn watch(&self, process: Instance) -> (Option<End>, Reason) {
        let Instance { mut listed, pipes, mark } = process;
        let child = &mut listed.child;
        let Pipes { stdin, stdout, stderr } = pipes;
        drop(stdin);
        let mut streams = [LogStream::new(Some(stdout)), LogStream::new(stderr)];
        let mut told: Option<Deadline> = None;
        while !matches!(child.ended(), Ok(Some(_)) | Err(_)) && !told.is_some_and(Deadline::has_passed) {
            if told.is_none() && (self.resident.is_stopping() || self.resident.hangs()) {
                // Many servers end when their connections have ended.
                self.resident.target().pool.clear();
                child.signal_group(Signal::TERM);
                told = Some(Deadline::after(self.launcher.kill_grace));
            }
            self.wait(child, &mut streams, told.unwrap_or_else(|| self.resident.sweep()));
        }
        // What it has started may also hold connections.
        self.resident.target().pool.clear();
        let end = child.ended().ok().flatten();
        let reason = match told {
            _ if self.resident.is_stopping() => Reason::Told,
            Some(_) => Reason::Hung,
            // As a daemon: it ends in order, and leaves others behind.
            None if end == Some(End::Exited(0)) && tree::has_descendants() => Reason::Background,
            None => Reason::Itself,
        };
        // What it has started may hold the port, and would run beside its successor.
        let grace = if told.is_some() { Duration::ZERO } else { self.launcher.kill_grace };
        tree::end(child, mark, grace);
        tree::end_descendants(grace); // every descendant of fwatchdog comes from this process
        for stream in &mut streams {
            stream.read(BURST, &log_line);
            stream.end(&log_line);
        }
        let end = end.or_else(|| child.ended().ok().flatten());
        drop(listed);
        (end, reason)
    }

    fn wait(&self, child: &Child, streams: &mut [LogStream; 2], deadline: Deadline) {
        let end = child.end_fd();
        let deadline = if end.is_none() { deadline.within(CHECK_PAUSE) } else { deadline };
        let [out, err] = &*streams;
        let mut fds = [
            PollFd::new(self.resident.wake.as_fd(), Ready::READ),
            PollFd::maybe(end, Ready::READ),
            PollFd::maybe(out.fd(), Ready::READ),
            PollFd::maybe(err.fd(), Ready::READ),
        ];
        let _ = poll(&mut fds, deadline); // fails only without memory; checking again does no harm
        let [wake, _, out, err] = fds.map(|fd| fd.ready());
        if wake.is_any() {
            self.resident.wake.clear();
        }
        for (stream, ready) in streams.iter_mut().zip([out, err]) {
            if ready.is_any() {
                stream.read(BURST, &log_line);
            }
        }
    }
}

fn log_line(line: &str) {
    log::info!("{line}");
}

fn described(end: Option<End>) -> String {
    end.map_or_else(|| "an end that nobody saw".to_owned(), |end| end.to_string())
}

/// The exit code of a process that was told to end. An end by the signal that told it is no failure.
fn exit_code(end: Option<End>) -> ExitCode {
    match end {
        Some(End::Exited(code)) => ExitCode::from(code as u8), // the kernel keeps eight bits
        Some(End::Killed(signal)) if signal == Signal::TERM.number() => ExitCode::SUCCESS,
        other => {
            log::warn!("the process ended with {}, see kill_grace", described(other));
            ExitCode::FAILURE
        }
    }
}
