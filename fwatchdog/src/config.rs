//! The settings of fwatchdog: their table, and their values. Only this file reads the environment, once.

use std::ffi::CString;
use std::path::PathBuf;
use std::time::Duration;

use kit::duration;
use kit::handover::{
    ENV_DRAIN_TIMEOUT, ENV_FPROCESS, ENV_FUNCTION, ENV_LISTEN_FDS, ENV_LISTEN_PID, ENV_MODE, ENV_PARENT,
    ENV_PORT, ENV_SUPPRESS_LOCK, ENV_UPSTREAM_URL, MODE_HTTP, ONE_LISTENER, PRIVATE,
};
use kit::settings::{Reader, Refused, Setting, Source};
use kit::sys::child::Environment;

use crate::command_line;
use crate::process::mark::ENV_MARK;
use crate::process::warm::MAX_WAITING;
use crate::resident::upstream::Upstream;

/// Every setting, in the order of `--help`.
pub const TABLE: &[Setting] = &[
    setting(ENV_FPROCESS, "", "the command to run for each request, required"),
    setting(ENV_PORT, "8080", "the TCP port to listen on; 0 takes a free one"),
    setting(
        ENV_MODE,
        "fork",
        "fork: the output is sent once the process has ended; streaming: as it comes; http: one process stays",
    ),
    setting("read_timeout", "30s", "how long a request's body may stop arriving; 0 is no limit"),
    setting("write_timeout", "30s", "how long a client may stop reading its answer; 0 is no limit"),
    setting("exec_timeout", "0", "how long the process may run; 0 is no limit"),
    setting("max_inflight", "0", "the most requests at a time, more are answered 429; 0 is no limit"),
    setting("prewarm", "0", "processes started ahead, each for one request; needs cgi_headers=false"),
    setting("prewarm_max_age", "10m", "how long such a process may wait before another takes its place"),
    setting(
        "max_timeouts",
        "5",
        "with mode=http: after so many timeouts in a row the process is started again; 0 is never",
    ),
    setting(
        ENV_UPSTREAM_URL,
        "",
        "where the process listens with mode=http: http://127.0.0.1:3000; port 0: see PORT",
    ),
    setting("cgi_headers", "true", "whether the process gets the request's head as Http_ variables"),
    setting("underscores", "false", "whether header fields with `_` in their names become variables too"),
    setting("cgi_response", "false", "whether the output begins with a header block"),
    setting("combine_output", "false", "whether STDERR is a part of the answer"),
    setting(
        "content_type",
        "",
        "the answer's Content-Type; else the request's, else application/octet-stream",
    ),
    setting("write_debug", "false", "whether each request is logged"),
    setting(ENV_SUPPRESS_LOCK, "false", "whether the lock file is left out"),
    setting("max_body", "0", "the largest body of a request; 0 is no limit"),
    setting("buffer_output", "256KiB", "output of up to this size is sent whole, larger output is streamed"),
    setting(ENV_DRAIN_TIMEOUT, "8s", "how long running requests may take after SIGTERM"),
    setting("kill_grace", "1s", "from SIGTERM to SIGKILL for a process that must end"),
];

/// Where temporary files go.
const ENV_TMPDIR: &str = "TMPDIR";

/// The name of the lock file in that folder.
const LOCK_FILE: &str = ".lock";

/// The most output that may be held in memory.
const MAX_BUFFER_BYTES: u64 = 1 << 30;

/// The values of `mode`.
const MODES: [&str; 3] = ["fork", "streaming", MODE_HTTP];

const fn setting(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, default, help }
}

/// How output becomes the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Output that fits into `buffer_output` is sent once the process has ended, and its end decides the status.
    Fork,
    /// Output is sent as it comes.
    Streaming,
    /// One process stays, and answers over HTTP.
    Http(Upstream),
}

/// The values of the settings.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) command: Vec<CString>,
    pub(crate) port: u16,
    pub(crate) mode: Mode,
    pub(crate) read_timeout: Duration,
    pub(crate) write_timeout: Duration,
    /// Zero is no limit.
    pub(crate) exec_timeout: Duration,
    /// Zero is no limit.
    pub(crate) max_inflight: usize,
    /// Zero is no limit.
    pub(crate) max_timeouts: u32,
    /// Processes that wait for a request.
    pub(crate) prewarm: usize,
    pub(crate) prewarm_max_age: Duration,
    pub(crate) cgi_headers: bool,
    pub(crate) underscores: bool,
    pub(crate) cgi_response: bool,
    pub(crate) combine_output: bool,
    pub(crate) content_type: Option<String>,
    pub(crate) write_debug: bool,
    /// Zero is no limit.
    pub(crate) max_body: u64,
    pub(crate) buffer_output: usize,
    pub(crate) drain_timeout: Duration,
    pub(crate) kill_grace: Duration,
    /// The lock file, if there is to be one.
    pub(crate) lock_file: Option<PathBuf>,
    /// Where temporary files go.
    pub(crate) temporary: PathBuf,
    /// Whether the listening socket was inherited.
    pub(crate) inherits_listener: bool,
    /// The process with which fwatchdog ends.
    pub(crate) parent: Option<i32>,
}

impl Config {
    /// Reads the settings. `pid` is this process's id.
    ///
    /// # Errors
    /// The first setting that is refused.
    pub fn read(source: &dyn Source, pid: u32) -> Result<Config, Refused> {
        let reader = Reader::new(source, TABLE);
        let words = reader.parsed(ENV_FPROCESS, command_line::EXPECTED, command_line::split)?;
        Ok(Config {
            command: words.into_iter().filter_map(|word| CString::new(word).ok()).collect(), // none has a NUL
            port: port(source)?,
            mode: mode(&reader)?,
            read_timeout: or_off(reader.duration("read_timeout")?),
            write_timeout: or_off(reader.duration("write_timeout")?),
            exec_timeout: reader.duration("exec_timeout")?,
            max_inflight: reader.integer("max_inflight", 0, 1 << 20)? as usize,
            max_timeouts: reader.integer("max_timeouts", 0, 1 << 20)? as u32,
            prewarm: prewarm(&reader)?,
            prewarm_max_age: or_off(reader.duration("prewarm_max_age")?),
            cgi_headers: reader.boolean("cgi_headers")?,
            underscores: reader.boolean("underscores")?,
            cgi_response: reader.boolean("cgi_response")?,
            combine_output: reader.boolean("combine_output")?,
            content_type: reader.text("content_type"),
            write_debug: reader.boolean("write_debug")?,
            max_body: reader.bytes("max_body", 0, 1 << 62)?,
            buffer_output: reader.bytes("buffer_output", 0, MAX_BUFFER_BYTES)? as usize,
            drain_timeout: reader.duration(ENV_DRAIN_TIMEOUT)?,
            kill_grace: reader.duration("kill_grace")?,
            lock_file: (!reader.boolean(ENV_SUPPRESS_LOCK)?).then(|| temporary(source).join(LOCK_FILE)),
            temporary: temporary(source),
            inherits_listener: inherits_listener(source, pid)?,
            parent: parent(source)?,
        })
    }
}

/// The port alone, for a health check.
///
/// # Errors
/// Where the value is no port.
pub fn port(source: &dyn Source) -> Result<u16, Refused> {
    let port = Reader::new(source, TABLE).integer(ENV_PORT, 0, u64::from(u16::MAX))?;
    Ok(port as u16) // just checked
}

/// The beginning of each log message, if there is one.
pub fn subject(source: &dyn Source) -> Option<String> {
    set(source, ENV_FUNCTION).map(|name| format!("function `{name}`"))
}

/// The environment of every process: fwatchdog's own, without the variables for fwatchdog alone.
pub(crate) fn base_environment() -> Environment {
    let mut environment = Environment::new(&kit::settings::inherited());
    for name in PRIVATE.iter().chain(&[ENV_MARK]) {
        environment.remove(name.as_bytes());
    }
    environment
}

fn is_http(reader: &Reader<'_>) -> Result<bool, Refused> {
    Ok(MODES[reader.choice(ENV_MODE, &MODES)?] == MODE_HTTP)
}

fn mode(reader: &Reader<'_>) -> Result<Mode, Refused> {
    let choice = MODES[reader.choice(ENV_MODE, &MODES)?];
    let url = reader.text(ENV_UPSTREAM_URL);
    if choice != MODE_HTTP {
        return match url {
            Some(value) => Err(refused(ENV_UPSTREAM_URL, value, "nothing without mode=http")),
            None if choice == "streaming" => Ok(Mode::Streaming),
            None => Ok(Mode::Fork),
        };
    }
    // The process writes the head of each answer itself.
    if reader.boolean("cgi_response")? {
        return Err(refused("cgi_response", "true".to_owned(), "false with mode=http"));
    }
    let value = url.unwrap_or_default();
    Upstream::parse(&value).map(Mode::Http).ok_or_else(|| {
        refused(
            ENV_UPSTREAM_URL,
            value,
            "where the process of mode=http listens: an address or localhost, as in http://127.0.0.1:3000; with port 0 \
             fwatchdog chooses a port and sets PORT",
        )
    })
}

/// The variables of a request cannot reach a process that runs already.
fn prewarm(reader: &Reader<'_>) -> Result<usize, Refused> {
    let count = reader.integer("prewarm", 0, MAX_WAITING)?;
    if count > 0 && is_http(reader)? {
        return Err(refused("prewarm", count.to_string(), "0 with mode=http, whose process stays"));
    }
    if count > 0 && reader.boolean("cgi_headers")? {
        return Err(refused("prewarm", count.to_string(), "0, or cgi_headers=false beside it"));
    }
    Ok(count as usize)
}

fn refused(name: &str, value: String, expected: &str) -> Refused {
    Refused { name: name.to_owned(), value, expected: expected.to_owned() }
}

/// Zero switches a timeout off.
fn or_off(timeout: Duration) -> Duration {
    if timeout.is_zero() { duration::MAX } else { timeout }
}

/// A variable that is not in the table. As there, an empty one counts as not set.
fn set(source: &dyn Source, name: &str) -> Option<String> {
    source.value(name).filter(|value| !value.is_empty())
}

fn temporary(source: &dyn Source) -> PathBuf {
    set(source, ENV_TMPDIR).unwrap_or_else(|| "/tmp".to_owned()).into()
}

/// Whether the socket is for this process: variables for another process may be inherited too.
fn inherits_listener(source: &dyn Source, pid: u32) -> Result<bool, Refused> {
    let Some(count) = set(source, ENV_LISTEN_FDS) else { return Ok(false) };
    match set(source, ENV_LISTEN_PID) {
        Some(other) if other != pid.to_string() => Ok(false),
        _ if count == ONE_LISTENER => Ok(true),
        _ => Err(refused(ENV_LISTEN_FDS, count, "1, since there is one socket to listen on")),
    }
}

fn parent(source: &dyn Source) -> Result<Option<i32>, Refused> {
    let Some(text) = set(source, ENV_PARENT) else { return Ok(None) };
    match text.parse() {
        Ok(pid) => Ok(Some(pid)),
        Err(_) => Err(refused(ENV_PARENT, text, "a process id")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
        let mut map: HashMap<&str, &str> = HashMap::from([("fprocess", "cat -u")]);
        map.extend(pairs.iter().copied());
        Config::read(&map, 7).map_err(|refused| refused.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let config = read(&[]).unwrap();
        assert_eq!(config.command, [c"cat".to_owned(), c"-u".to_owned()]);
        assert_eq!((config.port, config.max_inflight, config.max_body), (8080, 0, 0));
        assert_eq!((config.exec_timeout, config.read_timeout), (Duration::ZERO, Duration::from_secs(30)));
        assert_eq!(config.buffer_output, 256 * 1024);
        assert_eq!(config.lock_file, Some(PathBuf::from("/tmp/.lock")));
        assert!(config.cgi_headers && !config.combine_output && !config.inherits_listener);
        assert_eq!((config.content_type, config.parent), (None, None));
    }

    #[test]
    fn every_setting_is_documented() {
        let document = include_str!("../../docs/configuration.md");
        assert_eq!(kit::settings::check_documented(TABLE, document), Ok(()));
    }

    #[test]
    fn a_refused_value_is_named_with_its_setting() {
        let cases = [
            (
                ("fprocess", ""),
                "setting fprocess: expected a command with its arguments, quoted as for a shell, got ``",
            ),
            (
                ("fprocess", "sh -c 'x"),
                "setting fprocess: expected a command with its arguments, quoted as for a shell, got `sh -c 'x`",
            ),
            (("port", "65536"), "setting port: expected an integer from 0 to 65535, got `65536`"),
            (("cgi_headers", "yes"), "setting cgi_headers: expected true, false, 1 or 0, got `yes`"),
            (("mode", "serve"), "setting mode: expected one of fork, streaming, http, got `serve`"),
            (
                ("LISTEN_FDS", "2"),
                "setting LISTEN_FDS: expected 1, since there is one socket to listen on, got `2`",
            ),
            (("FAAS_PARENT_PID", "x"), "setting FAAS_PARENT_PID: expected a process id, got `x`"),
        ];
        for (pair, want) in cases {
            assert_eq!(read(&[pair]).unwrap_err(), want);
        }
    }

    #[test]
    fn mode_http_needs_an_address_and_refuses_settings_of_other_modes() {
        let http = |pairs: &[(&str, &str)]| {
            let url = ("upstream_url", "http://127.0.0.1:3000");
            read(&[&[("mode", "http"), url], pairs].concat()).map(|config| config.mode)
        };
        assert_eq!(http(&[]), Ok(Mode::Http(Upstream::parse("http://127.0.0.1:3000").unwrap())));
        for url in ["", "127.0.0.1:80", "http://127.0.0.1:80/path"] {
            let error = http(&[("upstream_url", url)]).unwrap_err();
            assert!(error.contains("http://127.0.0.1:3000"), "{error}");
        }
        for pair in [("prewarm", "1"), ("cgi_response", "true")] {
            let error = http(&[pair, ("cgi_headers", "false")]).unwrap_err();
            assert!(error.contains(pair.0) && error.contains("mode=http"), "{error}");
        }
        let error = read(&[("upstream_url", "http://127.0.0.1:80")]).unwrap_err();
        assert!(error.contains("mode=http"), "{error}");
    }

    #[test]
    fn a_socket_for_another_process_is_not_taken() {
        assert!(read(&[("LISTEN_FDS", "1")]).unwrap().inherits_listener);
        assert!(read(&[("LISTEN_FDS", "1"), ("LISTEN_PID", "7")]).unwrap().inherits_listener);
        assert!(!read(&[("LISTEN_FDS", "1"), ("LISTEN_PID", "8")]).unwrap().inherits_listener);
        assert!(!read(&[("LISTEN_FDS", "2"), ("LISTEN_PID", "8")]).unwrap().inherits_listener);
    }

    #[test]
    fn zero_switches_timeouts_and_the_lock_off() {
        let config = read(&[("read_timeout", "0"), ("write_timeout", "0s"), ("suppress_lock", "1")]).unwrap();
        assert_eq!((config.read_timeout, config.write_timeout), (duration::MAX, duration::MAX));
        assert_eq!(config.lock_file, None);
        let config = read(&[("TMPDIR", "/run/x")]).unwrap();
        assert_eq!(config.lock_file, Some(PathBuf::from("/run/x/.lock")));
    }
}
