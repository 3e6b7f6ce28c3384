//! Builds the parts and connects them, waits for signals, and ends in order: report unhealthy, drain, stop.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http1::{ClientConfig, Server, ServerConfig, head};
use kit::Deadline;
use kit::settings::Environment;
use kit::sys::signal::{self, Signal, Signals};
use kit::sys::{child, limits, user};

use crate::access::Credentials;
use crate::access_log;
use crate::call::{CallLimits, Calls, Looks, Upkeep, Waits};
use crate::config::{Config, ProviderKind, Room, RunsOn};
use crate::control::{self, Control, Suspicion};
use crate::edge::{Behind, ControlPlane, Door, Edge, Guard, HeadLimits, Listeners};
use crate::function::Sink;
use crate::functions::{Probe, Table};
use crate::listen::Listening;
use crate::load::Instance;
use crate::metrics::Rejected;
use crate::provider::Provider;
use crate::provider::local::{self, Local};
use crate::provider::swarm::{self, Swarm};
use crate::scaler::{Asker, Scaler};
use crate::secrets::{self, Secrets};

/// Open files that the gateway asks for: room for every connection it would hold.
const WANTED_FILES: u64 = 65_536;

/// The fewest open files with which a gateway starts, pollers not counted: the standard streams, the listener, two of
/// the provider, two of the control plane, two of a replica, two of a call, four of a request to the control plane, two
/// of a health check, and a few that are opened for a moment to start a process or to read a file.
const LEAST_FILES: u64 = 22;

/// Open files of a poller.
const FILES_PER_POLLER: u64 = 2;

/// Open files that a started gateway is assumed to have where `/proc` cannot be read.
const STARTED_FILES: u64 = 32;

/// The most pollers. With more, throughput does not grow: the functions need the processors.
const MAX_POLLERS: usize = 4;

/// How long a replica's host may be silent during a call: its node may have lost power or network.
const SILENCE_TIME: Duration = Duration::from_secs(15);

/// The longest that an idle connection to a replica is kept. Idle connections may take all slots of a server, and a
/// call must outlast them: with a shorter `upstream_timeout` they are kept half of it.
const UPSTREAM_IDLE_TIME: Duration = Duration::from_secs(15);

/// The interval at which the drain checks whether calls are left.
const DRAIN_TICK: Duration = Duration::from_millis(10);

/// How long children of the local provider may take to end after the drain.
const STOP_TIME: Duration = Duration::from_secs(1);

/// Why the gateway did not start.
#[derive(Debug)]
pub enum Error {
    /// A setting has a value that cannot be used.
    Configuration(String),
    /// The system refused an action.
    System(&'static str, io::Error),
    /// An address is not free, not allowed, or not there.
    Listen(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Configuration(text) | Error::Listen(text) => f.write_str(text),
            Error::System(action, source) => write!(f, "failed to {action}: {source}"),
        }
    }
}

/// Serves until a signal ends it.
pub fn run(config: &Config) -> Result<ExitCode, Error> {
    kit::log::init(config.log);
    if config.access_log {
        access_log::open();
    }
    log::info!("gateway {} with {}", env!("CARGO_PKG_VERSION"), Config::effective(&Environment));
    child::keep_descriptors();
    let signals = signal::block(&[Signal::TERM, Signal::INT, Signal::QUIT, Signal::HUP])
        .map_err(|error| Error::System("block signals", error))?;
    let open_files = open_files().map_err(|error| Error::System("start", error))?;
    let credentials = credentials(config)?;
    check_provider(config)?;
    if let Some(state_dir) = &config.state_dir {
        control::check(state_dir).map_err(|why| Error::Configuration(format!("setting state_dir: {why}")))?;
    }
    let Listening { listeners, addresses, first_admin } =
        config.places().open().map_err(|error| Error::Listen(error.to_string()))?;
    let share = config.shares.workers_per_function(config.room(open_files));
    let table = Table::new(client_config(config, open_files), Secrets::new(&config.secret_mount_path));
    let table = Arc::new(table.with_share(share));
    let provider = provider(config, addresses[0].port(), &table)?; // there is at least one
    log::info!("{} functions known", table.snapshot().len());
    let control = control(config, &table, &provider)?;
    let room = config.room(open_files.saturating_sub(files_in_use()));
    let start = |error| Error::System("start a thread", error);
    let scaler = Arc::new(Scaler::start(Arc::clone(&table), Arc::clone(&provider)).map_err(start)?);
    // Only a Swarm's replica has an address before it listens.
    let is_swarm = provider.name() == "swarm";
    let probe = if is_swarm { Some(Probe::start(Arc::clone(&table)).map_err(start)?) } else { None };
    let instance = Instance(limits::random());
    let asker = || Asker::start(instance, Arc::clone(&provider), Arc::clone(&scaler));
    let asker = if is_swarm { Some(asker().map_err(start)?) } else { None };
    let is_open = credentials.is_none();
    let proxies = config.trusted_proxies.clone();
    let guard = Guard::new(credentials, config.trusted_hosts.clone(), config.metrics_auth, proxies);
    let door = Door::new(Box::new(Arc::clone(&control)), control::MAX_BODY_BYTES, room.workers);
    let calls = Calls {
        limits: CallLimits {
            upstream_timeout: config.upstream_timeout,
            connect_timeout: config.connect_timeout,
            body_stall_timeout: config.body_stall_timeout,
            idle_timeout: config.idle_timeout,
        },
        table: Arc::clone(&table),
        upkeep: Box::new(Keepers { provider: Arc::clone(&provider), scaler: Arc::clone(&scaler) }),
        proxies: config.trusted_proxies.clone(),
        keeps_underscores: config.underscores,
        rejected: Rejected::default(),
        waits: Waits::new(room.connections),
        looks: Looks::default(),
    };
    let behind = Behind {
        instance,
        calls: Arc::new(calls),
        provider: Arc::clone(&provider),
        listeners: Listeners::new(first_admin),
        guard,
        control: door,
        head_limits: HeadLimits {
            max_header_bytes: config.max_header_bytes,
            max_headers: config.max_headers,
        },
    };
    let server = Server::start_on(listeners, server_config(config, room), Edge::new(behind))
        .map_err(|error| Error::System("start the server", error))?;
    let (waker, wake_probe) = (server.waker(), probe.as_ref().map(Probe::waker));
    table.on_change(move || {
        waker.wake();
        wake_probe.iter().for_each(|wake| wake());
    });
    if is_open {
        let place = if first_admin.is_some() { "admin_listen" } else { "this port" };
        log::warn!("/system and /ui are open to everybody who reaches {place}, see basic_auth");
    }
    say_addresses(&addresses, first_admin);
    serve(&signals, &table, &*provider);
    Ok(drain(config, Parts { server, control, asker, scaler, table, provider }, &signals))
}

/// The user and password of `basic_auth`, if it is set.
fn credentials(config: &Config) -> Result<Option<Credentials>, Error> {
    match (config.basic_auth, config.metrics_auth) {
        (true, _) => secrets::credentials(&config.secret_mount_path).map_err(Error::Configuration).map(Some),
        (false, false) => Ok(None),
        (false, true) => {
            Err(Error::Configuration("setting metrics_auth: expected basic_auth=true beside it".to_owned()))
        }
    }
}

/// Announces each address in a line of its own; the last line names the first address that serves functions.
fn say_addresses(addresses: &[SocketAddr], first_admin: Option<usize>) {
    let (main, admin) = addresses.split_at(first_admin.unwrap_or(addresses.len()));
    for address in admin {
        kit::log::announce(format_args!("listening on {address} for /system, /ui and /metrics"));
    }
    for address in main.iter().rev() {
        kit::log::announce(format_args!("listening on {address}"));
    }
}

/// The running parts, in the order in which they are stopped.
struct Parts {
    server: Server,
    control: Arc<Control>,
    asker: Option<Asker>,
    scaler: Arc<Scaler>,
    /// Closes its idle connections before the functions are told to end: many servers wait for that.
    table: Arc<Table>,
    provider: Arc<dyn Provider>,
}

/// The bounds of connections to replicas.
fn client_config(config: &Config, open_files: u64) -> ClientConfig {
    ClientConfig {
        connect_timeout: config.connect_timeout,
        silence_timeout: Some(SILENCE_TIME),
        idle_timeout: upstream_idle_time(config.upstream_timeout),
        max_idle: config.room(open_files).workers,
        pollers: pollers(),
        // fwatchdog adds fields to the head of the process.
        max_header_bytes: config.max_header_bytes + head::ADDED_BYTES,
        max_headers: config.max_headers + head::ADDED_HEADERS,
    }
}

/// The bounds of the edge.
fn server_config(config: &Config, room: Room) -> ServerConfig {
    ServerConfig {
        name: "edge",
        // The edge holds clients to the settings; proxies before it add fields.
        max_header_bytes: config.max_header_bytes + head::PROXY_BYTES,
        max_headers: config.max_headers + head::PROXY_HEADERS,
        max_body: config.max_body,
        header_timeout: config.header_timeout,
        idle_timeout: config.idle_timeout,
        body_stall_timeout: config.body_stall_timeout,
        write_stall_timeout: config.body_stall_timeout,
        max_connections: room.connections,
        head_memory: http1::server::head_memory(kit::memory::limit()),
        max_connections_per_client: config.shares.connections_per_client(room),
        max_workers: room.workers,
        max_workers_per_client: config.shares.workers_per_client(room),
        pollers: pollers(),
        tells_answers: config.access_log,
    }
}

/// Starts the control plane. Two gateways must not have the same `state_dir`.
fn control(config: &Config, table: &Arc<Table>, provider: &Arc<dyn Provider>) -> Result<Arc<Control>, Error> {
    let setup = control::Setup {
        table: Arc::clone(table),
        provider: Arc::clone(provider),
        state_dir: config.state_dir.clone(),
        temporary: config.temporary.clone(),
    };
    match Control::start(setup) {
        Ok(control) => Ok(Arc::new(control)),
        Err(error) => Err(Error::Configuration(format!("setting state_dir: {error}"))),
    }
}

/// Passes requests of calls on to the provider and the scaler.
struct Keepers {
    provider: Arc<dyn Provider>,
    scaler: Arc<Scaler>,
}

impl Upkeep for Keepers {
    fn wants_replica(&self) {
        self.scaler.wake();
    }

    fn replica_refused(&self, function: &str) {
        self.provider.nudge(function);
    }

    fn look_again(&self, deadline: Deadline) {
        self.provider.look_again(deadline);
    }
}

impl ControlPlane for Arc<Control> {
    fn socket(&self) -> Result<(PathBuf, u64), String> {
        Control::socket(self)
    }

    fn is_gone(&self, number: u64) {
        self.suspect(Suspicion::Gone, number);
    }

    fn hangs(&self, number: u64) {
        self.suspect(Suspicion::Hangs, number);
    }
}

/// The number of pollers: one for each processor, up to [`MAX_POLLERS`].
fn pollers() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(MAX_POLLERS))
}

/// How long an idle connection to a replica is kept.
fn upstream_idle_time(upstream_timeout: Duration) -> Duration {
    UPSTREAM_IDLE_TIME.min(upstream_timeout / 2)
}

/// Raises the limit of open files as far as the system allows. There must be room for one call at least.
fn open_files() -> io::Result<u64> {
    limits::expect_open_files(WANTED_FILES, LEAST_FILES + pollers() as u64 * FILES_PER_POLLER)
}

/// The number of files that are open now.
fn files_in_use() -> u64 {
    match kit::process::figures() {
        Ok(figures) => figures.open_fds,
        Err(error) => {
            log::warn!("no /proc of this process, process_* metrics are missing: {error}");
            STARTED_FILES
        }
    }
}

fn serve(signals: &Signals, table: &Table, provider: &dyn Provider) {
    let mut next_sweep = Instant::now();
    loop {
        match signals.wait(Some(next_sweep.saturating_duration_since(Instant::now()))) {
            Some(Signal::HUP) => {
                table.read_secrets();
                provider.reload();
            }
            Some(_) => return,
            None => next_sweep = table.sweep(Instant::now()),
        }
    }
}

/// Lets running calls finish until `drain_timeout`; a second signal ends the drain at once. The exit code is a failure
/// when calls were given up.
fn drain(config: &Config, parts: Parts, signals: &Signals) -> ExitCode {
    let Parts { server, control, asker, scaler, table, provider } = parts;
    log::info!("draining, {} connections active", server.stats().connections_active);
    server.begin_drain();
    let deadline = Deadline::after(config.drain_timeout);
    let mut code = ExitCode::SUCCESS;
    let closes = Deadline::after(config.drain_timeout / 2);
    loop {
        if server.is_quiet() || closes.has_passed() {
            server.stop_accepting();
        }
        if server.is_done() || deadline.has_passed() && server.is_quiet() {
            break;
        }
        if deadline.has_passed() {
            log::warn!(
                "drain_timeout passed with {} connections active, giving up",
                server.stats().connections_active
            );
            code = ExitCode::FAILURE;
            break;
        }
        match signals.wait(Some(DRAIN_TICK)) {
            None | Some(Signal::HUP) => {}
            Some(_) => {
                log::warn!("second signal, ending now");
                control.stop();
                return ExitCode::FAILURE;
            }
        }
    }
    server.stop();
    control.stop();
    asker.iter().for_each(Asker::stop);
    scaler.stop();
    table.close_idle();
    provider.stop(Deadline::after(STOP_TIME).min(Deadline::after(config.drain_timeout)));
    log::info!("stopped");
    code
}

/// Refuses settings that the chosen provider does not use.
fn check_provider(config: &Config) -> Result<(), Error> {
    let beside = |name, is_set: bool, provider| match is_set {
        true => {
            Err(Error::Configuration(format!("setting {name}: expected nothing beside provider={provider}")))
        }
        false => Ok(()),
    };
    match config.provider {
        ProviderKind::Auto => Ok(()),
        ProviderKind::Swarm => beside("functions_file", config.functions_file.is_some(), "swarm")
            .and_then(|()| beside("function_user", config.function_user.is_some(), "swarm")),
        ProviderKind::Local => beside("functions_network", config.functions_network.is_some(), "local"),
    }
}

/// Starts the provider that the settings choose. An engine that does not answer yet is no error.
fn provider(config: &Config, port: u16, table: &Arc<Table>) -> Result<Arc<dyn Provider>, Error> {
    let (runs_on, why) = config.runs_on();
    if config.provider == ProviderKind::Auto {
        let name = if runs_on == RunsOn::Swarm { "swarm" } else { "local" };
        log::info!("using provider={name}: {why}");
    }
    match runs_on {
        RunsOn::Swarm => {
            if config.functions_file.is_some() {
                log::warn!("functions_file is not used: {why} (provider=local uses it)");
            }
            on_swarm(config, port, table)
        }
        RunsOn::Local => on_this_machine(config, table),
    }
}

fn on_swarm(config: &Config, port: u16, table: &Arc<Table>) -> Result<Arc<dyn Provider>, Error> {
    let settings = swarm::Settings {
        docker_host: config.docker_host.clone(),
        require_label: config.require_label,
        functions_network: config.functions_network.clone(),
        port,
    };
    if let Some(state_dir) = &config.state_dir
        && user::is_root()
    {
        control::hand_over(state_dir, swarm::USER);
    }
    swarm::leave_root(&settings);
    match Swarm::start(settings, Arc::clone(table) as Arc<dyn Sink>) {
        Ok(swarm) => Ok(Arc::new(swarm)),
        Err(error) => Err(Error::Configuration(error.to_string())),
    }
}

fn on_this_machine(config: &Config, table: &Arc<Table>) -> Result<Arc<dyn Provider>, Error> {
    if config.function_user.is_some() && !user::is_root() {
        let text = "setting function_user: expected nothing, as the gateway was not started as root";
        return Err(Error::Configuration(text.to_owned()));
    }
    let environment = kit::settings::inherited();
    let setup = local::Setup {
        function_user: config.function_user,
        ..local::Setup::find(config.functions_file.clone(), environment, config.upstream_timeout)
    };
    match Local::start(setup, Arc::clone(table) as Arc<dyn Sink>) {
        Ok(local) => Ok(Arc::new(local)),
        Err(error) => Err(Error::Configuration(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_connections_are_closed_before_a_call_times_out() {
        for seconds in [1, 20, 60, 3600] {
            let upstream_timeout = Duration::from_secs(seconds);
            assert!(upstream_idle_time(upstream_timeout) < upstream_timeout.min(UPSTREAM_IDLE_TIME * 2));
        }
    }
}
