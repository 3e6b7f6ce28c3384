//! Puts the parts together, waits for signals, and ends in order.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http1::{Server, ServerConfig};
use kit::Deadline;
use kit::exit::EXIT_FAILURE;
use kit::sys::child::{self, LISTENER_FD};
use kit::sys::signal::{self, Signal, Signals};
use kit::sys::{Listener, limits};
use log::LevelFilter;

use crate::config::{self, Config};
use crate::function::Function;
use crate::lock_file::LockFile;
use crate::process::warm::{self, MAX_WAITING};
use crate::process::{table, tree};
use crate::refusal_text;
use crate::resident::supervisor;
use crate::service::FunctionService;

/// Open files besides connections and calls: the standard streams, the listener, epoll and eventfds, the lock file,
/// `/proc` during a scan.
const RESERVED_FILES: u64 = 16;

/// Open files of one call: both ends of its pipes while the process starts, its descriptor, its connection.
const FILES_PER_CALL: u64 = 8;

/// The same without the connection, and for calls that do not all start at once.
const FILES_BESIDE_CONNECTION: u64 = 6;

/// Open files of a process that waits for a request: its pipes and its descriptor.
const FILES_PER_WAITING: u64 = 4;

/// The most calls at a time; each has a thread and a process.
const MAX_WORKERS: u64 = 512;

/// The most connections: a small machine and its kernel can remember this many.
const MAX_CONNECTIONS: u64 = 16 * 1024;

/// The limit of open files that fwatchdog asks for: room for all of these, with the most processes that may wait.
const WANTED_FILES: u64 = RESERVED_FILES
    + MAX_WAITING * FILES_PER_WAITING
    + MAX_WORKERS * FILES_BESIDE_CONNECTION
    + MAX_CONNECTIONS;

/// How long a head may take to arrive, unless `read_timeout` is shorter.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Orphans are waited for this long after a child has ended, once for all that end in that time.
const REAP_PAUSE: Duration = Duration::from_millis(20);

/// Between two checks whether all calls have ended, while draining.
const DRAIN_PAUSE: Duration = Duration::from_millis(10);

/// The time beyond `kill_grace` in which calls end their processes and answer, after `drain_timeout`.
const GIVE_UP_TIME: Duration = Duration::from_millis(500);

/// Serves until a signal ends it.
///
/// # Errors
/// Where the system has no listener, signals or threads for fwatchdog.
pub fn run(config: Config) -> io::Result<ExitCode> {
    kit::log::init(if config.write_debug { LevelFilter::Debug } else { LevelFilter::Info });
    let listener = listener(&config)?;
    child::keep_descriptors();
    // Before any thread starts: all threads must have the same mask.
    let all = signal::block(&[Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP, Signal::CHLD])?;
    let ends = Signals::of(&[Signal::TERM, Signal::INT, Signal::QUIT])?;
    if !has_parent(&config)? {
        return Ok(ExitCode::SUCCESS);
    }
    if let Err(error) = child::become_subreaper() {
        log::warn!("cannot adopt orphans: {error}; a process that leaves its session may survive its call");
    }
    table::check_proc();
    let server_config = server_config(&config, open_files(&config)?);
    let lock_path = config.lock_file.clone();
    // Under a gateway the last line of the start is the gateway's own.
    let level = if config.parent.is_some() { log::Level::Debug } else { log::Level::Info };
    let function = Function::new(config, config::base_environment())?;
    let (pool, launcher, settings) = (&function.warm, &function.launcher, &function.config);
    let refill = || warm::start(pool, launcher, settings.prewarm, settings.prewarm_max_age);
    let refill = (settings.prewarm > 0).then(refill).transpose()?;
    let resident = function.resident.as_ref();
    let supervisor = resident.map(|resident| supervisor::start(resident, launcher)).transpose()?;
    let service = FunctionService::new(function);
    let server = Server::start(listener, server_config, Arc::clone(&service) as Arc<_>)?;
    let lock = lock_path.and_then(|path| LockFile::create(&path));
    log::log!(level, "listening on {}", server.address());
    serve(function, &all, &ends);
    drop(lock);
    Ok(drain(Parts { function, service, server, refill, supervisor }, &ends))
}

fn listener(config: &Config) -> io::Result<Listener> {
    if config.inherits_listener {
        let listener = Listener::inherit(LISTENER_FD);
        return listener.map_err(|error| context("cannot use descriptor 3 to listen", &error));
    }
    let text = format!("failed to listen on port {} (setting port)", config.port);
    Listener::bind_any(config.port).map_err(|error| context(&text, &error))
}

fn context(text: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{text}: {error}"))
}

/// Whether fwatchdog has a reason to run: false where the parent to end with has ended already.
fn has_parent(config: &Config) -> io::Result<bool> {
    config.parent.map_or(Ok(true), child::end_with_parent)
}

/// Raises the limit of open files as far as possible. At least one call must have room.
fn open_files(config: &Config) -> io::Result<u64> {
    limits::expect_open_files(WANTED_FILES, kept_files(config) + FILES_PER_CALL)
}

/// Open files that calls do not get.
fn kept_files(config: &Config) -> u64 {
    RESERVED_FILES + config.prewarm as u64 * FILES_PER_WAITING
}

/// The memory for heads, in bytes: room for 512 calls of a gateway with heads of 8 KiB each, and an eighth of a small
/// container.
const HEAD_MEMORY: usize = 4 << 20;

/// Bounds within the limit of open files, so that no call fails for want of one.
fn server_config(config: &Config, files: u64) -> ServerConfig {
    let free = files.saturating_sub(kept_files(config));
    let workers = (free / FILES_PER_CALL).clamp(1, MAX_WORKERS);
    let connections = free.saturating_sub(workers * FILES_BESIDE_CONNECTION).clamp(1, MAX_CONNECTIONS);
    ServerConfig {
        name: "fwatchdog",
        max_header_bytes: refusal_text::MAX_HEAD_BYTES,
        max_headers: refusal_text::MAX_HEADERS,
        max_body: config.max_body,
        header_timeout: HEADER_TIMEOUT.min(config.read_timeout),
        body_stall_timeout: config.read_timeout,
        write_stall_timeout: config.write_timeout,
        max_connections: connections as usize,
        head_memory: HEAD_MEMORY,
        max_workers: workers as usize,
        pollers: 1,
        ..ServerConfig::default()
    }
}

/// Waits for orphans, in the main thread (see [`child::reap_orphans`]), until the first signal that ends fwatchdog.
fn serve(function: &Function, all: &Signals, ends: &Signals) {
    loop {
        match all.wait(None) {
            Some(Signal::CHLD) => {
                if function.config.prewarm > 0 {
                    function.warm.child_ended();
                }
                let end = ends.wait(Some(REAP_PAUSE));
                let _count = child::reap_orphans();
                if end.is_some() {
                    return;
                }
            }
            Some(Signal::HUP) => log::info!("SIGHUP: there is nothing to read again"),
            Some(_) => return,
            None => {}
        }
    }
}

/// The parts that run beside the main thread.
struct Parts<'a> {
    function: &'a Function,
    service: Arc<FunctionService>,
    server: Server,
    /// Keeps processes waiting.
    refill: Option<JoinHandle<()>>,
    /// Keeps the process of `mode=http` running, and returns its exit code.
    supervisor: Option<JoinHandle<ExitCode>>,
}

impl Parts<'_> {
    fn is_quiet(&self) -> bool {
        self.server.is_quiet() && self.has_no_call()
    }

    /// Whether no call is left, not even one whose answer is out, and no process waits.
    fn has_no_call(&self) -> bool {
        self.function.slots.taken() == 0 && self.refill.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn is_done(&self) -> bool {
        self.server.is_done() && self.has_no_call()
    }

    fn has_process(&self) -> bool {
        self.supervisor.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Joins the threads, once no call is left. The exit code is that of the process that stayed.
    fn stop(self) -> ExitCode {
        self.server.stop();
        if let Some(refill) = self.refill {
            let _ = refill.join(); // its panic has ended the process
        }
        self.supervisor.map_or(ExitCode::SUCCESS, |thread| thread.join().unwrap_or(ExitCode::FAILURE))
    }
}

/// Lets running calls finish, and ends those that do not in time.
fn drain(parts: Parts<'_>, ends: &Signals) -> ExitCode {
    let function = parts.function;
    log::info!("draining, {} requests in flight", function.slots.taken());
    parts.service.begin_drain();
    parts.server.begin_drain();
    function.warm.stop();
    let config = &function.config;
    let end_time = config.kill_grace.saturating_add(GIVE_UP_TIME);
    // Until then health checks see the drain. A client that goes on calling would prolong it.
    let closes = Deadline::after(config.drain_timeout / 4);
    let is_done = || {
        if parts.server.is_quiet() || closes.has_passed() {
            parts.server.stop_accepting();
        }
        parts.is_done()
    };
    let mut is_quiet = wait_until(is_done, ends, config.drain_timeout);
    if is_quiet == Ok(false) && parts.is_quiet() {
        is_quiet = Ok(true); // the connections that are left have no request
    }
    if is_quiet == Ok(false) {
        log::warn!("drain_timeout passed, {} requests are given up", function.slots.taken());
        function.stop.notify();
        is_quiet = wait_until(|| parts.is_quiet(), ends, end_time).map(|_| false);
    }
    let last = Deadline::after(end_time);
    if let (Ok(true), Some(resident)) = (is_quiet, &function.resident) {
        resident.stop(); // no call needs it any more
        is_quiet = wait_until(|| !parts.has_process(), ends, end_time);
    }
    match is_quiet {
        Ok(true) => {
            let code = parts.stop();
            // Daemons that calls have left behind get the rest of the time.
            tree::end_descendants(config.kill_grace.min(last.remaining().unwrap_or_default()));
            let _count = child::reap_orphans();
            log::info!("done");
            return code;
        }
        Ok(false) => {}
        Err(Interrupted) => log::warn!("a second signal, {} requests are given up", function.slots.taken()),
    }
    function.launcher.groups.kill();
    tree::kill_descendants();
    // Some threads still serve a call: the program ends under them.
    std::process::exit(i32::from(EXIT_FAILURE))
}

/// A second signal ended the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Interrupted;

fn wait_until(holds: impl Fn() -> bool, ends: &Signals, limit: Duration) -> Result<bool, Interrupted> {
    let deadline = Deadline::after(limit);
    loop {
        let _count = child::reap_orphans();
        if holds() {
            return Ok(true);
        }
        if deadline.has_passed() {
            return Ok(false);
        }
        if ends.wait(Some(DRAIN_PAUSE)).is_some() {
            return Err(Interrupted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn bounds_fit_the_limit_of_open_files() {
        let source = HashMap::from([("fprocess", "cat"), ("read_timeout", "5s")]);
        let config = Config::read(&source, 1).unwrap();
        let cases = [
            (0, 1, 1),
            (16, 1, 1),
            (40, 3, 6),
            (1024, 126, 252),
            (65_536, 512, 16_384),
            (1 << 40, 512, 16_384),
        ];
        for (files, workers, connections) in cases {
            let bounds = server_config(&config, files);
            assert_eq!((bounds.max_workers, bounds.max_connections), (workers, connections), "{files}");
            assert_eq!(bounds.header_timeout, Duration::from_secs(5));
        }
    }
}
