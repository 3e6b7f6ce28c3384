//! `mode=http`: the process that is started once, stays, and speaks HTTP itself. A thread keeps it running, logs
//! what it writes, and ends it in order.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http1::{ClientConfig, Connection, Endpoint, Error, Pool, head};
use kit::sys::child::{Child, End};
use kit::sys::pipe::PipeEnd;
use kit::sys::signal::Signal;
use kit::sys::{EventFd, PollFd, Ready, poll};
use kit::{Backoff, Deadline, duration};

use crate::config::ENV_PORT;
use crate::function::Function;
use crate::lines::{self, Lines};
use crate::own_port::OwnPort;
use crate::relay::Pipes;
use crate::started::{self, Mark, Started};
use crate::tree;
use crate::upstream::Upstream;

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
    /// One that is not started yet; `max_idle` connections to it are kept. `call_time` is how long a call may take; zero
    /// is no limit.
    pub(crate) fn new(upstream: Upstream, max_idle: usize, call_time: Duration) -> io::Result<Resident> {
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

struct Keeper<'a> {
    function: &'a Function,
    resident: &'a Resident,
    backoff: Backoff,
    port: Option<OwnPort>,
}

impl Keeper<'_> {
    fn run(mut self) -> ExitCode {
        let program = self.function.config.program();
        loop {
            let started_at = Instant::now();
            let how = match self.start() {
                Ok(process) => {
                    log::info!("started `{program}`, process {}", process.child.pid());
                    let (end, in_background) = self.watch(process);
                    if self.resident.is_stopping() {
                        return exit_code(end);
                    }
                    if in_background {
                        format!(
                            "`{program}` has gone to the background, where it cannot be watched, and was ended"
                        )
                    } else {
                        format!("`{program}` has ended by itself with {}", described(end))
                    }
                }
                Err(error) => format!("cannot start `{program}`: {error}"),
            };
            let pause = self.backoff.failed(started_at.elapsed());
            log::error!("{how}, see fprocess; it is started again in {}", duration::format(pause));
            self.rest(pause);
            if self.resident.is_stopping() {
                return ExitCode::SUCCESS;
            }
        }
    }

    fn start(&mut self) -> io::Result<Started> {
        // The last one is held until nobody is sent there any more.
        self.port = self.resident.choose_port()?;
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

    /// Logs what it writes until it has ended, by itself or since it was told to. Answers how it ended, and whether it
    /// did so like a daemon: in order, with what it had started for its successor.
    fn watch(&self, process: Started) -> (Option<End>, bool) {
        let Started { mut child, pipes, mark } = process;
        let Pipes { stdin, stdout, stderr } = pipes;
        drop(stdin);
        let mut streams = [Stream::new(Some(stdout)), Stream::new(stderr)];
        let mut told: Option<Deadline> = None;
        while !matches!(child.ended(), Ok(Some(_)) | Err(_)) && !told.is_some_and(Deadline::has_passed) {
            if told.is_none() && self.resident.is_stopping() {
                child.signal_group(Signal::TERM);
                told = Some(Deadline::after(self.function.config.kill_grace));
            }
            self.wait(&child, &mut streams, told.unwrap_or_else(|| self.resident.sweep()));
        }
        let end = child.ended().ok().flatten();
        let in_background = told.is_none() && end == Some(End::Exited(0)) && tree::has_descendants();
        // What it has started may hold the port, and would be there beside its successor.
        let grace = if told.is_some() { Duration::ZERO } else { self.function.config.kill_grace };
        tree::end(&mut child, mark, grace);
        tree::end_descendants(grace); // all that is below fwatchdog comes from this process
        streams.iter_mut().for_each(Stream::close);
        let end = end.or_else(|| child.ended().ok().flatten());
        started::reap(child, self.function);
        (end, in_background)
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
