//! The gateway's settings: their table, their bounds, and their typed values.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http1::head;
use kit::duration;
use kit::settings::{Reader, Refused, Setting, Source};

use crate::authority::{Authority, Host};
use crate::listen::{self, Place, Places};
use crate::proxies::{self, Proxies};

/// Every setting with its default, as `--help` and the documentation show them.
pub(crate) const TABLE: &[Setting] = &[
    Setting { name: "port", default: "8080", help: "TCP port to listen on; 0 takes a free one" },
    Setting {
        name: "listen",
        default: "",
        help: "addresses with a port to listen on, separated by commas, in the place of port",
    },
    Setting {
        name: "admin_listen",
        default: "",
        help: "addresses that alone serve /system, /ui and /metrics",
    },
    Setting { name: "provider", default: "auto", help: "who runs the functions: auto, swarm or local" },
    Setting {
        name: "functions_file",
        default: "",
        help: "JSON file with the functions of the local provider; SIGHUP reads it again",
    },
    Setting {
        name: "function_user",
        default: "",
        help: "first of 1000 user ids, one for each local function; for a gateway that starts as root",
    },
    Setting {
        name: "require_label",
        default: "false",
        help: "only services labelled function=true are functions",
    },
    Setting {
        name: "functions_network",
        default: "",
        help: "network whose services are functions; default: every network of the gateway's container",
    },
    Setting { name: "state_dir", default: "", help: "private directory for the socket of the control plane" },
    Setting {
        name: "basic_auth",
        default: "false",
        help: "whether /system and /ui ask for user and password",
    },
    Setting {
        name: "metrics_auth",
        default: "false",
        help: "whether /metrics asks for the user and password of basic_auth",
    },
    Setting {
        name: "trusted_hosts",
        default: "",
        help: "names, separated by commas, by which browsers may use /system without basic_auth",
    },
    Setting {
        name: "secret_mount_path",
        default: "/run/secrets",
        help: "directory of the files basic-auth-user and basic-auth-password",
    },
    Setting {
        name: "trusted_proxies",
        default: "",
        help: "addresses and networks whose X-Forwarded-*, Forwarded and X-Real-IP are believed",
    },
    Setting {
        name: "underscores",
        default: "false",
        help: "whether header fields with `_` in their names reach functions",
    },
    Setting { name: "access_log", default: "false", help: "whether each request writes a line to STDOUT" },
    Setting { name: "upstream_timeout", default: "60s", help: "how long until an answer must begin" },
    Setting { name: "connect_timeout", default: "2s", help: "how long a connect to a replica may take" },
    Setting {
        name: "header_timeout",
        default: "10s",
        help: "how long a client may take to send a head, and a request may wait for a worker",
    },
    Setting {
        name: "idle_timeout",
        default: "75s",
        help: "how long an idle connection, a silent WebSocket or a silent stream is kept",
    },
    Setting { name: "body_stall_timeout", default: "30s", help: "how long a body may make no progress" },
    Setting {
        name: "max_connections",
        default: "",
        help: "most client connections at once; default: as RLIMIT_NOFILE allows",
    },
    Setting {
        name: "max_connections_per_client",
        default: "",
        help: "most connections of one client address; default: three quarters of max_connections",
    },
    Setting { name: "max_workers", default: "512", help: "most calls at once" },
    Setting {
        name: "max_workers_per_client",
        default: "",
        help: "most calls at once of one client address; default: seven eighths of max_workers",
    },
    Setting {
        name: "max_workers_per_function",
        default: "",
        help: "most calls at once of one function; default: three quarters of max_workers",
    },
    Setting { name: "max_body", default: "0", help: "largest request body; 0 means no limit" },
    Setting { name: "max_header_bytes", default: "64KiB", help: "largest head of a request, up to 120KiB" },
    Setting { name: "max_headers", default: "128", help: "most headers of a request, up to 1024" },
    Setting { name: "drain_timeout", default: "8s", help: "how long calls may go on after SIGTERM" },
    Setting { name: "log", default: "info", help: "lowest level to log: error, warn, info, debug or trace" },
    Setting {
        name: ENV_DOCKER_HOST,
        default: "unix:///var/run/docker.sock",
        help: "where the Docker Engine answers",
    },
];

const ENV_DOCKER_HOST: &str = "DOCKER_HOST";

/// The directory for temporary files, for all programs (environ(7)): the default place of the control plane's socket.
const ENV_TMPDIR: &str = "TMPDIR";

const USAGE: &str = "usage: gateway [--version | --help | --healthcheck]";

/// The values of `provider`, in the order of [`ProviderKind`].
const PROVIDERS: [&str; 3] = ["auto", "swarm", "local"];

/// Bounds of values. The upper bounds keep a typo from becoming an allocation.
const MAX_CONNECTIONS: u64 = 1_000_000;
const MAX_WORKERS: u64 = 4096;
const MIN_HEADER_BYTES: u64 = 1 << 10;

/// Lower ids belong to the system's users; above the upper bound there are too few ids for all functions.
const MIN_FUNCTION_USER: u64 = 1000;
const MAX_FUNCTION_USER: u64 = 4_000_000_000;

/// The value of `provider`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProviderKind {
    /// The other settings decide, see [`Config::runs_on`].
    Auto,
    Swarm,
    Local,
}

/// The settings in effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub(crate) port: u16,
    /// Addresses that replace `port`.
    pub(crate) listen: Vec<Place>,
    /// Addresses that alone serve the control plane and the metrics; empty: every address does.
    pub(crate) admin_listen: Vec<Place>,
    pub(crate) provider: ProviderKind,
    pub(crate) functions_file: Option<PathBuf>,
    /// The first of the user ids for local functions.
    pub(crate) function_user: Option<u32>,
    pub(crate) require_label: bool,
    pub(crate) functions_network: Option<String>,
    pub(crate) state_dir: Option<PathBuf>,
    /// `TMPDIR`.
    pub(crate) temporary: Option<PathBuf>,
    pub(crate) basic_auth: bool,
    pub(crate) metrics_auth: bool,
    /// Names by which browsers may reach the control plane, beside addresses and `localhost`.
    pub(crate) trusted_hosts: Vec<String>,
    pub(crate) secret_mount_path: PathBuf,
    pub(crate) trusted_proxies: Proxies,
    pub(crate) underscores: bool,
    pub(crate) access_log: bool,
    pub(crate) upstream_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) header_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) body_stall_timeout: Duration,
    /// `None`: as many as the limit on open files allows, see [`Room`].
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_workers: usize,
    pub(crate) shares: Shares,
    /// Bytes; 0 means no limit.
    pub(crate) max_body: u64,
    pub(crate) max_header_bytes: usize,
    pub(crate) max_headers: usize,
    pub(crate) drain_timeout: Duration,
    pub(crate) log: log::LevelFilter,
    pub(crate) docker_host: String,
    pub(crate) is_docker_host_set: bool,
}

/// Who runs the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunsOn {
    Swarm,
    Local,
}

impl Config {
    /// Reads all settings.
    ///
    /// # Errors
    /// The first value that cannot be used. `Display` tells the user.
    pub fn read(source: &dyn Source) -> Result<Config, Refused> {
        let reader = Reader::new(source, TABLE);
        let max_connections = optional_count(&reader, "max_connections", MAX_CONNECTIONS)?;
        let max_workers = count(&reader, "max_workers", 1, MAX_WORKERS)?;
        Ok(Config {
            port: reader.integer("port", 0, u64::from(u16::MAX))? as u16,
            listen: reader.list("listen", listen::EXPECTED, Place::parse)?,
            admin_listen: reader.list("admin_listen", listen::EXPECTED, Place::parse)?,
            provider: provider(&reader)?,
            functions_file: reader.text("functions_file").map(PathBuf::from),
            function_user: match reader.text("function_user") {
                Some(_) => {
                    Some(reader.integer("function_user", MIN_FUNCTION_USER, MAX_FUNCTION_USER)? as u32)
                }
                None => None,
            },
            require_label: reader.boolean("require_label")?,
            functions_network: reader.text("functions_network"),
            state_dir: reader.text("state_dir").map(PathBuf::from),
            temporary: source.value(ENV_TMPDIR).filter(|text| !text.is_empty()).map(PathBuf::from),
            basic_auth: reader.boolean("basic_auth")?,
            metrics_auth: reader.boolean("metrics_auth")?,
            trusted_hosts: reader.list("trusted_hosts", "host names without a port", host_name)?,
            secret_mount_path: reader.text("secret_mount_path").unwrap_or_default().into(), // it has a default
            trusted_proxies: reader.parsed("trusted_proxies", proxies::EXPECTED, Proxies::parse)?,
            underscores: reader.boolean("underscores")?,
            access_log: reader.boolean("access_log")?,
            upstream_timeout: span(&reader, "upstream_timeout")?,
            connect_timeout: span(&reader, "connect_timeout")?,
            header_timeout: span(&reader, "header_timeout")?,
            idle_timeout: span(&reader, "idle_timeout")?,
            body_stall_timeout: span(&reader, "body_stall_timeout")?,
            max_connections,
            max_workers,
            shares: Shares::read(&reader, max_connections, max_workers)?,
            max_body: reader.bytes("max_body", 0, head::MAX_LENGTH)?,
            max_header_bytes: reader.bytes(
                "max_header_bytes",
                MIN_HEADER_BYTES,
                head::MAX_HEAD_BYTES as u64,
            )? as usize,
            max_headers: count(&reader, "max_headers", 1, head::MAX_HEADERS as u64)?,
            drain_timeout: reader.duration("drain_timeout")?,
            log: kit::log::level(reader.choice("log", &kit::log::LEVELS)?),
            docker_host: reader.text(ENV_DOCKER_HOST).unwrap_or_default(), // it has a default
            is_docker_host_set: source.value(ENV_DOCKER_HOST).is_some_and(|text| !text.is_empty()),
        })
    }

    /// Where `--healthcheck` reaches the gateway of this host: the first address that serves functions.
    ///
    /// # Errors
    /// This machine has no address there; the text is for the user.
    pub fn health_check_address(&self) -> Result<SocketAddr, String> {
        let place = self.listen.first().copied().unwrap_or(Place::Everywhere(self.port));
        place.reached_at().map_err(|error| format!("{place}: {error}"))
    }

    /// The addresses to listen on.
    pub(crate) fn places(&self) -> Places {
        let listen = match &self.listen[..] {
            [] => vec![Place::Everywhere(self.port)],
            places => places.to_vec(),
        };
        Places { listen, admin_listen: self.admin_listen.clone() }
    }

    /// Who runs the functions, and which setting decided that. The answer does not depend on whether an engine answers
    /// at the start: an engine may start later, or be no manager for a while.
    pub(crate) fn runs_on(&self) -> (RunsOn, &'static str) {
        match self.provider {
            ProviderKind::Swarm => (RunsOn::Swarm, "provider is set"),
            ProviderKind::Local => (RunsOn::Local, "provider is set"),
            ProviderKind::Auto if self.functions_network.is_some() => {
                (RunsOn::Swarm, "functions_network is set")
            }
            ProviderKind::Auto if self.is_docker_host_set => (RunsOn::Swarm, "DOCKER_HOST is set"),
            ProviderKind::Auto if self.functions_file.is_some() => {
                (RunsOn::Local, "functions_file is set, neither DOCKER_HOST nor functions_network is")
            }
            ProviderKind::Auto => (RunsOn::Swarm, "functions_file is not set"),
        }
    }

    /// The text of `--help`.
    pub fn help() -> String {
        kit::settings::help(USAGE, TABLE)
    }

    /// The settings in effect in one line, for the log: `port=8080 provider=auto …`.
    pub(crate) fn effective(source: &dyn Source) -> String {
        let reader = Reader::new(source, TABLE);
        let shown = TABLE.iter().filter_map(|row| Some(format!("{}={}", row.name, reader.text(row.name)?)));
        shown.collect::<Vec<_>>().join(" ")
    }

    /// The connections and workers that the limit on open files allows, within the settings.
    pub(crate) fn room(&self, open_files: u64) -> Room {
        let room = Room::within(open_files);
        Room {
            connections: self.max_connections.map_or(room.connections, |set| set.min(room.connections)),
            workers: self.max_workers.min(room.workers),
        }
    }
}

/// The shares of one client and of one function, where settings give them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shares {
    connections_per_client: Option<usize>,
    workers_per_client: Option<usize>,
    workers_per_function: Option<usize>,
}

impl Shares {
    /// Reads the shares. A share cannot exceed the setting for all.
    fn read(reader: &Reader<'_>, connections: Option<usize>, workers: usize) -> Result<Shares, Refused> {
        let connections = connections.map_or(MAX_CONNECTIONS, |connections| connections as u64);
        let workers = workers as u64;
        Ok(Shares {
            connections_per_client: optional_count(reader, "max_connections_per_client", connections)?,
            workers_per_client: optional_count(reader, "max_workers_per_client", workers)?,
            workers_per_function: optional_count(reader, "max_workers_per_function", workers)?,
        })
    }

    /// The default is three quarters of the connections.
    pub(crate) fn connections_per_client(self, room: Room) -> usize {
        self.connections_per_client
            .unwrap_or_else(|| (3 * room.connections).div_ceil(4))
            .min(room.connections)
    }

    /// The default is seven eighths of the calls. It is above the share of a function, so that a client that has used
    /// up one function's share can still call others. Behind a proxy that is not trusted, all clients share one
    /// address.
    pub(crate) fn workers_per_client(self, room: Room) -> usize {
        self.workers_per_client.unwrap_or_else(|| (7 * room.workers).div_ceil(8)).min(room.workers)
    }

    /// The default is three quarters of the calls; `None` when the share is all calls.
    pub(crate) fn workers_per_function(self, room: Room) -> Option<usize> {
        let share = self.workers_per_function.unwrap_or_else(|| (3 * room.workers).div_ceil(4));
        Some(share).filter(|share| *share < room.workers)
    }
}

/// The connections and workers that fit into a number of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) connections: usize,
    pub(crate) workers: usize,
}

impl Room {
    /// Files that may be opened later: descriptors of pollers and events, the engine's socket and its events, the
    /// functions file, files in `/proc`, and the pipes of a child that is started.
    const RESERVE: u64 = 16;

    /// Bounds the tables of connections; no small machine has more.
    const MAX: u64 = 100_000;

    /// A worker needs its client's connection, a connection to a replica, and an idle connection in the pool.
    fn within(open_files: u64) -> Room {
        let free = open_files.saturating_sub(Room::RESERVE);
        let workers = (free / 6).clamp(1, MAX_WORKERS);
        let connections = free.saturating_sub(2 * workers).clamp(1, Room::MAX);
        Room { connections: connections as usize, workers: workers as usize }
    }
}

/// A setting that is a count; `max` fits into 32 bits.
fn count(reader: &Reader<'_>, name: &str, min: u64, max: u64) -> Result<usize, Refused> {
    reader.integer(name, min, max).map(|number| number as usize)
}

/// A count of at least one, or `None` when the setting is empty.
fn optional_count(reader: &Reader<'_>, name: &str, max: u64) -> Result<Option<usize>, Refused> {
    reader.text(name).map(|_| count(reader, name, 1, max)).transpose()
}

/// A duration above zero: these timeouts cannot be switched off.
fn span(reader: &Reader<'_>, name: &str) -> Result<Duration, Refused> {
    reader.parsed(name, &format!("more than zero: {}", duration::EXPECTED), |text| {
        duration::parse(text).filter(|span| !span.is_zero())
    })
}

/// Whether the text is a host name, without a port.
fn host_name(text: &str) -> Option<String> {
    match Authority::parse(text.as_bytes()) {
        Some(Authority { host: Host::Name(name), .. }) if name == text => Some(name.to_owned()),
        _ => None,
    }
}

fn provider(reader: &Reader<'_>) -> Result<ProviderKind, Refused> {
    Ok(match reader.choice("provider", &PROVIDERS)? {
        0 => ProviderKind::Auto,
        1 => ProviderKind::Swarm,
        _ => ProviderKind::Local,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<Config, String> {
        let map: HashMap<&str, &str> = pairs.iter().copied().collect();
        Config::read(&map).map_err(|refused| refused.to_string())
    }

    #[test]
    fn defaults_are_as_documented() {
        let want = Config {
            port: 8080,
            listen: vec![],
            admin_listen: vec![],
            provider: ProviderKind::Auto,
            functions_file: None,
            function_user: None,
            require_label: false,
            functions_network: None,
            state_dir: None,
            temporary: None,
            basic_auth: false,
            metrics_auth: false,
            trusted_hosts: vec![],
            secret_mount_path: "/run/secrets".into(),
            trusted_proxies: Proxies::default(),
            underscores: false,
            access_log: false,
            upstream_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(2),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_stall_timeout: Duration::from_secs(30),
            max_connections: None,
            max_workers: 512,
            shares: Shares::default(),
            max_body: 0,
            max_header_bytes: 65_536,
            max_headers: 128,
            drain_timeout: Duration::from_secs(8),
            log: log::LevelFilter::Info,
            docker_host: "unix:///var/run/docker.sock".to_owned(),
            is_docker_host_set: false,
        };
        assert_eq!(read(&[]), Ok(want));
    }

    #[test]
    fn every_setting_is_read() {
        let config = read(&[
            ("port", "0"),
            ("listen", "127.0.0.1:80,[::1]:80"),
            ("admin_listen", "10.0.0.0/8:81"),
            ("provider", "swarm"),
            ("functions_file", "/etc/functions.json"),
            ("function_user", "70000"),
            ("require_label", "1"),
            ("functions_network", "functions"),
            ("state_dir", "/state"),
            ("TMPDIR", "/run/tmp"),
            ("basic_auth", "true"),
            ("metrics_auth", "true"),
            ("trusted_hosts", "faas.lan, gateway,"),
            ("secret_mount_path", "/secrets"),
            ("trusted_proxies", "10.0.0.0/8, ::1"),
            ("underscores", "true"),
            ("access_log", "true"),
            ("upstream_timeout", "1m30s"),
            ("connect_timeout", "100ms"),
            ("header_timeout", "1"),
            ("idle_timeout", "2s"),
            ("body_stall_timeout", "3s"),
            ("max_connections", "1000"),
            ("max_connections_per_client", "900"),
            ("max_workers", "4"),
            ("max_workers_per_client", "3"),
            ("max_workers_per_function", "2"),
            ("max_body", "1GiB"),
            ("max_header_bytes", "8KiB"),
            ("max_headers", "64"),
            ("drain_timeout", "0"),
            ("log", "debug"),
            ("DOCKER_HOST", "tcp://proxy:2375"),
        ]);
        let want = Config {
            port: 0,
            listen: ["127.0.0.1:80", "[::1]:80"].map(|text| Place::parse(text).unwrap()).to_vec(),
            admin_listen: vec![Place::parse("10.0.0.0/8:81").unwrap()],
            provider: ProviderKind::Swarm,
            functions_file: Some("/etc/functions.json".into()),
            function_user: Some(70_000),
            require_label: true,
            functions_network: Some("functions".to_owned()),
            state_dir: Some("/state".into()),
            temporary: Some("/run/tmp".into()),
            basic_auth: true,
            metrics_auth: true,
            trusted_hosts: vec!["faas.lan".to_owned(), "gateway".to_owned()],
            secret_mount_path: "/secrets".into(),
            trusted_proxies: Proxies::parse("10.0.0.0/8,::1").unwrap(),
            underscores: true,
            access_log: true,
            upstream_timeout: Duration::from_secs(90),
            connect_timeout: Duration::from_millis(100),
            header_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(2),
            body_stall_timeout: Duration::from_secs(3),
            max_connections: Some(1000),
            max_workers: 4,
            shares: Shares {
                connections_per_client: Some(900),
                workers_per_client: Some(3),
                workers_per_function: Some(2),
            },
            max_body: 1 << 30,
            max_header_bytes: 8192,
            max_headers: 64,
            drain_timeout: Duration::ZERO,
            log: log::LevelFilter::Debug,
            docker_host: "tcp://proxy:2375".to_owned(),
            is_docker_host_set: true,
        };
        assert_eq!(config, Ok(want));
    }

    #[test]
    fn the_provider_depends_on_settings_alone() {
        use RunsOn::{Local, Swarm};
        let (file, network) = (("functions_file", "/f"), ("functions_network", "n"));
        let host = ("DOCKER_HOST", "tcp://proxy:2375");
        let cases: [(&[_], RunsOn); 9] = [
            (&[], Swarm),
            (&[("DOCKER_HOST", "")], Swarm),
            (&[file], Local),
            (&[file, ("DOCKER_HOST", "")], Local),
            (&[host], Swarm),
            (&[file, host], Swarm),
            (&[file, network], Swarm),
            (&[host, ("provider", "local")], Local),
            (&[("provider", "swarm")], Swarm),
        ];
        for (pairs, want) in cases {
            assert_eq!(read(pairs).map(|config| config.runs_on().0), Ok(want), "{pairs:?}");
        }
    }

    #[test]
    fn values_beyond_their_bounds_are_refused_by_name() {
        let cases = [
            ("port", "65535", "65536"),
            ("provider", "local", "kubernetes"),
            ("function_user", "1000", "999"),
            ("function_user", "4000000000", "4000000001"),
            ("require_label", "false", "no"),
            ("basic_auth", "true", "on"),
            ("metrics_auth", "true", "on"),
            ("listen", "127.0.0.1:80", "localhost:80"),
            ("admin_listen", "[::1]:80, 127.0.0.1:80", "8080"),
            ("trusted_hosts", "faas.lan", "faas.lan:8080"),
            ("trusted_hosts", "FAAS.lan, my_host", "10.0.0.1"),
            ("trusted_hosts", "localhost", "http://faas.lan"),
            ("upstream_timeout", "1ms", "0"),
            ("connect_timeout", "1ms", "0s"),
            ("header_timeout", "1ms", "-1s"),
            ("idle_timeout", "87600h", "87601h"),
            ("body_stall_timeout", "1ms", "0ms"),
            ("max_connections", "1", "0"),
            ("max_connections", "1000000", "1000001"),
            ("max_workers", "1", "0"),
            ("max_workers", "4096", "4097"),
            ("max_connections_per_client", "1000000", "1000001"),
            ("max_workers_per_client", "512", "513"),
            ("max_workers_per_function", "1", "0"),
            ("max_body", "9223372036854775807", "9223372036854775808"),
            ("max_header_bytes", "1024", "1023"),
            ("max_header_bytes", "120KiB", "122881"),
            ("max_headers", "1", "0"),
            ("max_headers", "1024", "1025"),
            ("drain_timeout", "0", "soon"),
            ("trusted_proxies", "10.0.0.7, fd00::/8", "10.0.0.7/8"),
            ("log", "trace", "verbose"),
        ];
        for (name, good, bad) in cases {
            assert!(read(&[(name, good)]).is_ok(), "{name}={good}");
            let refused = read(&[(name, bad)]).expect_err(bad);
            assert!(refused.starts_with(&format!("setting {name}: expected ")), "{refused}");
            assert!(refused.ends_with(&format!(", got `{bad}`")), "{refused}");
        }
    }

    #[test]
    fn every_setting_is_documented() {
        let document = include_str!("../../docs/configuration.md");
        assert_eq!(kit::settings::check_documented(TABLE, document), Ok(()));
    }

    #[test]
    fn help_and_log_show_all_settings() {
        let help = Config::help();
        assert!(help.starts_with("usage: gateway ["), "{help}");
        assert_eq!(help.lines().count(), 3 + TABLE.len());
        let map = HashMap::from([("port", "0"), ("state_dir", "/state")]);
        let line = Config::effective(&map);
        assert!(
            line.starts_with("port=0 provider=auto require_label=false state_dir=/state basic_auth=false "),
            "{line}"
        );
    }

    #[test]
    fn open_files_bound_connections_and_workers() {
        let config = read(&[]).unwrap();
        let cases = [
            (0, (1, 1)),
            (21, (3, 1)),
            (40, (16, 4)),
            (256, (160, 40)),
            (1024, (672, 168)),
            (4096, (2720, 512)),
            (65_536, (57_328, 512)),
            (1 << 20, (100_000, 512)),
            (u64::MAX, (100_000, 512)),
        ];
        for (open_files, (connections, workers)) in cases {
            assert_eq!(config.room(open_files), Room { connections, workers }, "{open_files}");
            if open_files >= 40 {
                let needed = connections as u64 + 2 * workers as u64 + Room::RESERVE;
                assert!(needed <= open_files, "{open_files}: {needed}");
            }
        }
        let config = read(&[("max_connections", "50"), ("max_workers", "5")]).unwrap();
        assert_eq!(config.room(1024), Room { connections: 50, workers: 5 });
        assert_eq!(config.room(40), Room { connections: 16, workers: 4 });
    }

    #[test]
    fn a_share_is_never_more_than_the_whole() {
        let config = read(&[]).unwrap();
        let shares = |config: &Config, connections, workers| {
            let (room, shares) = (Room { connections, workers }, config.shares);
            let of_client = (shares.connections_per_client(room), shares.workers_per_client(room));
            (of_client, shares.workers_per_function(room))
        };
        assert_eq!(shares(&config, 16_384, 512), ((12_288, 448), Some(384)));
        assert_eq!(shares(&config, 50, 16), ((38, 14), Some(12)));
        assert_eq!(shares(&config, 1, 1), ((1, 1), None));
        let set = [("max_workers_per_client", "5"), ("max_workers_per_function", "4"), ("max_workers", "16")];
        let config = read(&[set[0], set[1], set[2], ("max_connections_per_client", "7")]).unwrap();
        assert_eq!(shares(&config, 50, 16), ((7, 5), Some(4)));
        assert_eq!(shares(&config, 6, 3), ((6, 3), None));
        assert!(read(&[("max_workers", "4"), ("max_workers_per_client", "5")]).is_err());
        assert!(read(&[("max_connections", "4"), ("max_connections_per_client", "5")]).is_err());
    }
}
