//! `mode=http`: the process that is started once, stays, and speaks HTTP itself. A thread keeps it running, logs
//! what it writes, and ends it in order.

mod own_port;
pub(crate) mod upstream;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http1::{ClientConfig, Connection, Endpoint, Error, Pool, head};
use kit::sys::child::{Child, End};
use kit::sys::pipe::PipeEnd;
use kit::sys::signal::Signal;
use kit::sys::{EventFd, PollFd, Ready, poll};
use kit::{Backoff, Deadline, duration};

use crate::config::{Config, ENV_PORT};
use crate::function::Function;
use crate::process::instance::{Mark, Pipes, Started};
use crate::process::lines::{self, Lines};
use crate::process::tree;
use crate::resident::own_port::OwnPort;
use crate::resident::upstream::Upstream;

/// How long a connect may take: the process is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an unused connection to the process is kept, at most: shorter than servers do by default (Node.js: 5 s).
/// Where calls end sooner it is half of their time, so that one that waits behind an unused connection outlasts it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Between two looks at a process that has no descriptor to be polled, on old kernels.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// How long a health check waits for the process to take a connection.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads of one stream in a row before the others get a turn.
const BURST: usize = 16;

/// The process, as requests see it.
pub(crate) struct Resident {
    upstream: Upstream,
    client: ClientConfig,
    target: Mutex<Arc<Target>>,
    /// How many calls in a row may time out; 0 is no limit.
    max_timeouts: u32,
    timeouts: AtomicU32,
    /// Answers that began, of all processes one after the other.
    answers: AtomicU64,
    /// Moves on with each start, each answer and each timeout that counts.
    turn: AtomicU64,
    /// Whether the present process has taken a connection.
    has_listened: AtomicBool,
    /// While the next start is waited for after several in a row that took no connection: how the last one ended.
    failure: Mutex<Option<String>>,
    wake: EventFd,
    is_stopping: AtomicBool,
}

/// One address, with the connections to there.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) pool: Pool,
}

impl Target {
    fn new(address: SocketAddr, client: ClientConfig) -> Arc<Target> {
        Arc::new(Target { address, pool: Pool::new(Endpoint::Tcp(address), client) })
    }
}

impl Resident {
    /// One that is not started yet; `max_idle` connections to it are kept.
    pub(crate) fn new(upstream: Upstream, max_idle: usize, config: &Config) -> io::Result<Resident> {
        let call_time = config.exec_timeout; // zero is no limit
        let client = ClientConfig {
            connect_timeout: CONNECT_TIMEOUT,
            idle_timeout: if call_time.is_zero() { IDLE_TIMEOUT } else { IDLE_TIMEOUT.min(call_time / 2) },
            max_idle,
            pollers: 1,
            max_header_bytes: head::MAX_HEAD_BYTES,
            max_headers: head::MAX_HEADERS,
            ..ClientConfig::default()
        };
        let target = Target::new(upstream.first(), client);
        Ok(Resident {
            upstream,
            client,
            target: Mutex::new(target),
            max_timeouts: config.max_timeouts,
            timeouts: AtomicU32::new(0),
            answers: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            has_listened: AtomicBool::new(false),
            failure: Mutex::new(None),
            wake: EventFd::new()?,
            is_stopping: AtomicBool::new(false),
        })
    }

    /// Where it listens, as far as is known.
    pub(crate) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on it is there that it listens, or will.
    fn aim(&self, target: Arc<Target>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// A new connection. Where it may listen on another address that one is tried too, and stays the first if it is
    /// right.
    pub(crate) fn connect(&self, deadline: Deadline) -> Result<Box<Connection>, Error> {
        let target = self.target();
        let error = match target.pool.connect(deadline) {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let others = self.upstream.at(target.address.port()).addresses();
        for address in others.filter(|address| *address != target.address) {
            let other = Target::new(address, self.client);
            if let Ok(connection) = other.pool.connect(deadline) {
                self.aim(other);
                return Ok(connection);
            }
        }
        Err(error)
    }

    /// How many answers have begun.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// An answer has begun: it does not hang.
    pub(crate) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        self.turn.fetch_add(1, Ordering::Relaxed);
        self.timeouts.store(0, Ordering::Relaxed);
        self.listened();
    }

    /// What a call notes as it begins, for [`Resident::timed_out`].
    pub(crate) fn turn(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// A call that began in this turn got no answer in time. It counts if it is the first to say so: calls that wait
    /// together tell of one moment, and those from before an answer or a start tell nothing.
    pub(crate) fn timed_out(&self, turn: u64) {
        let counts = self.turn.compare_exchange(turn, turn + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if counts && self.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= self.max_timeouts {
            self.wake.notify();
        }
    }

    /// Whether too many calls in a row have timed out.
    pub(crate) fn hangs(&self) -> bool {
        self.max_timeouts > 0 && self.timeouts.load(Ordering::Relaxed) >= self.max_timeouts
    }

    /// Whether the present process has taken a connection: a call that waits for one does not wait for its start.
    pub(crate) fn has_listened(&self) -> bool {
        self.has_listened.load(Ordering::Relaxed)
    }

    pub(crate) fn listened(&self) {
        self.has_listened.store(true, Ordering::Relaxed);
    }

    /// Why there is no process, where the next one is likely to end as the last ones did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_failure(&self, failure: Option<String>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Another process is started, of which nothing is known.
    fn forget(&self) {
        self.set_failure(None);
        self.turn.fetch_add(1, Ordering::Relaxed);
        self.timeouts.store(0, Ordering::Relaxed);
        self.has_listened.store(false, Ordering::Relaxed);
    }

    /// Whether it takes connections.
    pub(crate) fn listens(&self) -> bool {
        self.connect(Deadline::after(HEALTH_TIMEOUT)).is_ok()
    }

    /// Chooses a port for the process that is to be started, where it has not the same one always.
    fn choose_port(&self) -> io::Result<Option<OwnPort>> {
        if !self.upstream.has_own_port() {
            return Ok(None);
        }
        let port = OwnPort::choose()?;
        let address = self.upstream.at(port.number).first();
        self.aim(Target::new(address, self.client));
        Ok(Some(port))
    }

    /// Closes the connections to the process that have been unused for too long, and answers when to do so again.
    fn sweep(&self) -> Deadline {
        Deadline::at(self.target().pool.sweep(Instant::now()))
    }

    /// Ends the process, as far as it does not end by itself; the thread is to be joined.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.wake.notify();
    }

    fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}

/// Starts the thread that keeps the process running. After [`Resident::stop`] it ends with the process's exit code.
///
/// # Errors
/// When the system has no room for a thread.
pub(crate) fn start(function: &Arc<Function>) -> io::Result<JoinHandle<ExitCode>> {
    let function = Arc::clone(function);
    kit::thread::spawn_vital("fwatchdog-http", move || match &function.resident {
        Some(resident) => {
            Keeper { function: &function, resident, backoff: Backoff::default(), port: None }.run()
        }
        None => ExitCode::SUCCESS,
    })
}

/// Why a process is not there any more.
enum Reason {
    /// fwatchdog ends.
    Told,
    /// It was ended since it did not answer.
    Hung,
    /// It left others behind to do its work.
    Background,
    /// It has ended, or was ended by somebody else.
    Itself,
}

struct Keeper<'a> {
    function: &'a Function,
    resident: &'a Resident,
    backoff: Backoff,
    port: Option<OwnPort>,
}

impl Keeper<'_> {
    fn run(mut self) -> ExitCode {
        let program = self.function.config.program();
        while !self.resident.is_stopping() {
            let (started_at, answers) = (Instant::now(), self.resident.answers());
            let how = match self.start() {
                Ok(process) => {
                    log::info!("started `{program}`, process {}", process.child.pid());
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
                        // A server that ends after so many requests, to give back what it leaks. Each start has to be
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

    fn start(&mut self) -> io::Result<Started> {
        // The last one is held until nobody is sent there any more.
        self.port = self.resident.choose_port()?;
        self.resident.forget();
        Started::start(self.function, Mark::new(), |environment| {
            if let Some(port) = &self.port {
                environment.set(ENV_PORT.as_bytes(), &[port.number.to_string().as_bytes()]);
            }
        })
    }

    fn rest(&self, pause: Duration) {
        let deadline = Deadline::after(pause);
        while !self.resident.is_stopping() && !deadline.has_passed() {
            self.resident.wake.clear();
            self.resident.wake.wait(deadline);
        }
    }

    /// Logs what it writes until it has ended, by itself or since it was told to.
    fn watch(&self, process: Started) -> (Option<End>, Reason) {
        let Started { mut child, pipes, mark } = process;
        let Pipes { stdin, stdout, stderr } = pipes;
        drop(stdin);
        let mut streams = [Stream::new(Some(stdout)), Stream::new(stderr)];
        let mut told: Option<Deadline> = None;
        while !matches!(child.ended(), Ok(Some(_)) | Err(_)) && !told.is_some_and(Deadline::has_passed) {
            if told.is_none() && (self.resident.is_stopping() || self.resident.hangs()) {
                // Many servers end when their connections have ended.
                self.resident.target().pool.clear();
                child.signal_group(Signal::TERM);
                told = Some(Deadline::after(self.function.config.kill_grace));
            }
            self.wait(&child, &mut streams, told.unwrap_or_else(|| self.resident.sweep()));
        }
        // The same holds for what it has started.
        self.resident.target().pool.clear();
        let end = child.ended().ok().flatten();
        let reason = match told {
            _ if self.resident.is_stopping() => Reason::Told,
            Some(_) => Reason::Hung,
            // As a daemon does: it ends in order, and what it has started is to go on.
            None if end == Some(End::Exited(0)) && tree::has_descendants() => Reason::Background,
            None => Reason::Itself,
        };
        // What it has started may hold the port, and would be there beside its successor.
        let grace = if told.is_some() { Duration::ZERO } else { self.function.config.kill_grace };
        tree::end(&mut child, mark, grace);
        tree::end_descendants(grace); // all that is below fwatchdog comes from this process
        streams.iter_mut().for_each(Stream::close);
        let end = end.or_else(|| child.ended().ok().flatten());
        drop(child);
        (end, reason)
    }

    fn wait(&self, child: &Child, streams: &mut [Stream; 2], deadline: Deadline) {
        let end = child.end_fd();
        let deadline = if end.is_none() { deadline.within(LOOK_PAUSE) } else { deadline };
        let [out, err] = &*streams;
        let mut fds = [
            PollFd::new(self.resident.wake.as_fd(), Ready::READ),
            PollFd::maybe(end, Ready::READ),
            PollFd::maybe(out.fd(), Ready::READ),
            PollFd::maybe(err.fd(), Ready::READ),
        ];
        let _ = poll(&mut fds, deadline); // fails for want of memory only; looking again does no harm
        let [wake, _, out, err] = fds.map(|fd| fd.ready());
        if wake.is_any() {
            self.resident.wake.clear();
        }
        for (stream, ready) in streams.iter_mut().zip([out, err]) {
            if ready.is_any() {
                stream.read();
            }
        }
    }
}

/// One of the process's streams, which goes to the log line by line.
struct Stream {
    pipe: Option<PipeEnd>,
    lines: Lines,
}

impl Stream {
    fn new(pipe: Option<PipeEnd>) -> Stream {
        Stream { pipe, lines: Lines::default() }
    }

    fn fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    fn read(&mut self) {
        let mut room = [0; lines::READ_BYTES];
        for _ in 0..BURST {
            let Some(pipe) = &self.pipe else { return };
            match pipe.read_some(&mut room) {
                Ok(None) => return,
                Ok(Some(0)) | Err(_) => self.pipe = None,
                Ok(Some(count)) => self.lines.take(&room[..count], log_line),
            }
        }
    }

    /// Logs what is left.
    fn close(&mut self) {
        self.read();
        self.lines.take_rest(log_line);
    }
}

fn log_line(line: &str) {
    log::info!("{line}");
}

fn described(end: Option<End>) -> String {
    end.map_or_else(|| "an end that nobody saw".to_owned(), |end| end.to_string())
}

/// The process's own, after it was told to end. To be ended by the signal that told it is no failure.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn resident(max_timeouts: u32) -> Resident {
        let max_timeouts = max_timeouts.to_string();
        let source = HashMap::from([("fprocess", "cat"), ("max_timeouts", max_timeouts.as_str())]);
        let config = Config::read(&source, 1).unwrap();
        Resident::new(Upstream::parse("http://localhost:0").unwrap(), 1, &config).unwrap()
    }

    #[test]
    fn timeouts_count_in_a_row_and_not_beside_answers() {
        let resident = resident(2);
        let began = resident.turn();
        resident.timed_out(began);
        assert!(!resident.hangs());
        resident.answered();
        resident.timed_out(began); // it was answered while this one waited
        resident.timed_out(resident.turn());
        assert!(!resident.hangs());
        resident.timed_out(resident.turn());
        assert!(resident.hangs());
        resident.answered();
        assert!(!resident.hangs());
    }

    #[test]
    fn calls_that_time_out_together_count_once_and_those_of_the_last_process_never() {
        let resident = resident(2);
        let began = resident.turn();
        (0..5).for_each(|_| resident.timed_out(began));
        assert!(!resident.hangs());
        let began = resident.turn();
        resident.forget();
        (0..5).for_each(|_| resident.timed_out(began));
        resident.timed_out(resident.turn());
        assert!(!resident.hangs());
    }

    #[test]
    fn without_a_limit_it_never_hangs() {
        let resident = resident(0);
        (0..100).for_each(|_| resident.timed_out(resident.turn()));
        assert!(!resident.hangs());
    }
}
