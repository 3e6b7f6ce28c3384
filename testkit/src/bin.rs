//! Starts the real binaries: clean environment, port 0, a directory of its own, the whole tree killed
//! when the handle is dropped.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::eventually;
use crate::http::{self, Client, Connection, Request};
use crate::locate;
use crate::metrics::Metrics;
use crate::process::{Process, STDERR, STDOUT, exit_code};
use crate::reader::Reader;
use crate::reply::Reply;

/// How long a binary may take until it listens, and how long [`Bin::run`] waits for its end.
pub const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The variable that marks everything a test started, so that it can be found and ended.
const ENV_MARK: &str = "FAAS_TEST_MARK";

/// What the last start-up line says before the address.
const LISTENING: &str = "listening on ";

/// What such a line says behind an address where no functions are called.
const FOR_ADMIN: &str = " for /system, /ui and /metrics";

/// A binary about to be started.
pub struct Bin {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    limits: Vec<(String, u64)>,
    setup: String,
    wrapper: Vec<OsString>,
    cwd: Option<PathBuf>,
    listener: Option<TcpListener>,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
    dir: TempDir,
    mark: String,
}

impl Bin {
    /// fwatchdog on a free port.
    #[must_use]
    pub fn fwatchdog() -> Bin {
        Bin::at(locate::product("fwatchdog", &["fwatchdog"])).env("port", "0")
    }

    /// The gateway on a free port. fwatchdog, which its local provider starts, is built too.
    #[must_use]
    pub fn gateway() -> Bin {
        Bin::at(locate::product("gateway", &["gateway", "fwatchdog"])).env("port", "0")
    }

    /// Any other program; a name without `/` is looked up in `PATH`.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Bin {
        let dir = tempfile::Builder::new().prefix("faas-test-").tempdir();
        let dir = dir.unwrap_or_else(|e| panic!("directory for the test: {e}"));
        let mark = dir.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let path_variable = locate::variable("PATH").unwrap_or_else(|| "/usr/bin:/bin".to_owned());
        let bin = Bin {
            path: path.into(),
            args: vec![],
            env: vec![],
            limits: vec![],
            setup: String::new(),
            wrapper: vec![],
            cwd: None,
            listener: None,
            stdout: None,
            stderr: None,
            dir,
            mark: mark.clone(),
        };
        let tmpdir = bin.dir.path().to_owned();
        bin.env("PATH", path_variable).env("TMPDIR", tmpdir).env(ENV_MARK, mark)
    }

    /// Sets a variable; the last value for a name wins. Nothing is inherited but `PATH`.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Bin {
        self.env.retain(|(have, _)| have != name.as_ref());
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Takes a variable away again, also `PATH`, `TMPDIR` or `port`.
    #[must_use]
    pub fn without_env(mut self, name: &str) -> Bin {
        self.env.retain(|(have, _)| have != name);
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Bin {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// At most `count` open files (`RLIMIT_NOFILE`, soft and hard).
    #[must_use]
    pub fn nofile(self, count: u64) -> Bin {
        self.limit('n', count)
    }

    /// At most `bytes` of address space (`RLIMIT_AS`).
    #[must_use]
    pub fn address_space(self, bytes: u64) -> Bin {
        self.limit('v', bytes / 1024)
    }

    /// Any limit by the letter of the shell's `ulimit`, in its units.
    #[must_use]
    pub fn limit(mut self, letter: char, value: u64) -> Bin {
        self.limits.push((letter.to_string(), value));
        self
    }

    /// As many open files for a start; the hard limit stays.
    #[must_use]
    pub fn soft_nofile(mut self, count: u64) -> Bin {
        self.limits.push(("Sn".to_owned(), count));
        self
    }

    /// From a parent that ignores SIGCHLD.
    #[must_use]
    pub fn ignoring_children(self) -> Bin {
        self.under(["env", "--ignore-signal=CHLD"])
    }

    /// Under another program, such as `valgrind`: `words`, followed by the command line of the binary.
    #[must_use]
    pub fn under<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Bin {
        self.wrapper.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// A command of the shell, run in the process before it becomes the program: `exec 7</dev/null`.
    #[must_use]
    pub fn after(mut self, command: &str) -> Bin {
        self.setup.push_str(command);
        self.setup.push_str(" && ");
        self
    }

    /// In a sandbox that answers the system calls of these numbers with an error.
    #[must_use]
    pub fn refusing(mut self, calls: &[u32], errno: i32) -> Bin {
        let script = self.file("refuse_calls.py", include_str!("refuse_calls.py"));
        let calls: Vec<String> = calls.iter().map(u32::to_string).collect();
        let wrapper = ["python3".into(), script.into(), errno.to_string().into(), calls.join(",").into()];
        self.wrapper.splice(0..0, wrapper);
        self
    }

    /// As another user than root, to whom the test's own directory is given, and a copy of the binaries in it. A
    /// test that is not run by root runs it as its own user.
    ///
    /// # Panics
    /// When the system refuses.
    #[must_use]
    pub fn user(mut self, id: u32) -> Bin {
        if !is_root() {
            return self;
        }
        self.path = self.reachable_copy(&self.path);
        let dir = self.dir.path();
        std::os::unix::fs::chown(dir, Some(id), Some(id))
            .unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let (user, group) = (format!("--reuid={id}"), format!("--regid={id}"));
        self.under(["setpriv", &user, &group, "--clear-groups"])
    }

    /// A copy of the binaries, where every user may run them.
    #[must_use]
    pub fn reachable(mut self) -> Bin {
        self.path = self.reachable_copy(&self.path);
        self
    }

    /// A program of the testkit that every user may run, see [`program`](crate::program).
    #[must_use]
    pub fn program(&self, line: &str) -> String {
        let command = crate::program(line);
        let (path, rest) = command.split_once(' ').unwrap_or((&command, ""));
        format!("{} {rest}", self.reachable_copy(Path::new(path)).display())
    }

    /// A copy in the test's own directory, with the fwatchdog beside the original: the gateway looks for it there.
    fn reachable_copy(&self, path: &Path) -> PathBuf {
        let copy = |from: &Path| {
            let to = self.dir.path().join(from.file_name().unwrap_or_default());
            // Linked where it can be: copies of debug builds are large.
            let made = fs::hard_link(from, &to).or_else(|_| fs::copy(from, &to).map(drop));
            made.unwrap_or_else(|e| panic!("{}: {e}", to.display()));
            to
        };
        let open = fs::set_permissions(self.dir.path(), fs::Permissions::from_mode(0o755));
        open.unwrap_or_else(|e| panic!("{}: {e}", self.dir.path().display()));
        let beside = path.with_file_name("fwatchdog");
        if path.ends_with("gateway") && beside.is_file() {
            let _ = copy(&beside);
        }
        copy(path)
    }

    /// The working directory; else the test's own.
    #[must_use]
    pub fn cwd(mut self, dir: impl Into<PathBuf>) -> Bin {
        self.cwd = Some(dir.into());
        self
    }

    /// Hands over a listening socket as file descriptor 3, with `LISTEN_FDS=1`, and with `LISTEN_PID`
    /// unless that was set by [`Bin::env`] (sd_listen_fds(3)).
    #[must_use]
    pub fn listener(mut self, listener: TcpListener) -> Bin {
        self.listener = Some(listener);
        self.env("LISTEN_FDS", "1")
    }

    /// Where stdout goes, instead of a file that the handle reads.
    #[must_use]
    pub fn stdout(mut self, stream: impl Into<Stdio>) -> Bin {
        self.stdout = Some(stream.into());
        self
    }

    /// Where stderr goes, instead of a file that the handle reads.
    #[must_use]
    pub fn stderr(mut self, stream: impl Into<Stdio>) -> Bin {
        self.stderr = Some(stream.into());
        self
    }

    /// In mount and PID namespaces of its own, where a shell runs `script`, with the binary as `$1`. `None` where there
    /// can be none, which is said: root may make them as a rule (unshare(1)).
    #[must_use]
    pub fn in_namespaces(mut self, script: &str) -> Option<Bin> {
        let flags = ["--mount", "--pid", "--fork"];
        let tried = Command::new("unshare").args(flags).arg("true").output();
        if !tried.as_ref().is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no namespaces of its own: {tried:?}");
            return None;
        }
        let binary = std::mem::replace(&mut self.path, "unshare".into());
        let args = flags.into_iter().chain(["sh", "-c", script, "sh"]).map(OsString::from);
        self.args.splice(..0, args.chain([binary.into()]));
        Some(self)
    }

    /// The directory that is the test's own; it is `TMPDIR` and goes with the process's handle.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file into the test's own directory and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When it ends, or does not say `listening on ADDRESS:PORT` on stderr within [`START_TIMEOUT`]; with
    /// command, environment, exit status and both streams.
    #[must_use]
    #[track_caller]
    pub fn start(self) -> Running {
        self.start_with(Process::log)
    }

    /// The same with `reader` in the place of stderr. It reads until the line `listening on`.
    ///
    /// # Panics
    /// As [`Bin::start`].
    #[must_use]
    #[track_caller]
    pub fn start_before(self, reader: &Reader) -> Running {
        self.stderr(reader.stream()).start_with(|_| reader.text())
    }

    #[track_caller]
    fn start_with(self, log: impl Fn(&Process) -> String) -> Running {
        let started = Instant::now();
        let process = self.spawn();
        loop {
            if let Some(addr) = listening_address(&log(&process)) {
                return Running { addr, started_in: started.elapsed(), process };
            }
            let ended = process.try_status();
            if ended.is_some() || started.elapsed() > START_TIMEOUT {
                panic!("never said `{LISTENING}ADDRESS:PORT`\n{}", process.report());
            }
            // Short, since the time to this line has a budget of a few milliseconds.
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Starts it and waits for its end.
    ///
    /// # Panics
    /// When it has not ended within [`START_TIMEOUT`], with command, environment and both streams.
    #[must_use]
    #[track_caller]
    pub fn run(self) -> Output {
        let started = Instant::now();
        let process = self.spawn();
        let status = process.wait(START_TIMEOUT);
        Output { status, stdout: process.stdout(), stderr: process.log(), elapsed: started.elapsed() }
    }

    /// Starts it and waits for nothing.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    #[track_caller]
    pub fn spawn(mut self) -> Process {
        let description = self.description();
        let mut command = self.command();
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.cwd.as_deref().unwrap_or(self.dir.path()));
        let (stdout, stderr) = (self.dir.path().join(STDOUT), self.dir.path().join(STDERR));
        // Files rather than pipes: they never fill up, and nobody has to read along.
        let create = |path: &Path| File::options().create_new(true).append(true).open(path);
        let files = create(&stdout).and_then(|stdout| Ok((stdout, create(&stderr)?)));
        let (out, err) = files.unwrap_or_else(|e| panic!("{}: {e}", self.dir.path().display()));
        let stdin = self.listener.take().map_or(Stdio::null(), |listener| OwnedFd::from(listener).into());
        let (out, err) = (self.stdout.take().unwrap_or(out.into()), self.stderr.take().unwrap_or(err.into()));
        let child = command.stdin(stdin).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|e| panic!("cannot be started: {e}\n{description}"));
        // Functions of the gateway get no variable but `TMPDIR` that names it.
        Process::new(child, self.dir, self.mark, description)
    }

    /// The command; through a shell that replaces itself where something must be set up after the fork.
    fn command(&self) -> Command {
        let mut script = self.setup.clone();
        for (which, value) in &self.limits {
            let _ = write!(script, "ulimit -{which} {value} && "); // a String cannot fail
        }
        if self.listener.is_some() {
            script.push_str("exec 3<&0 0</dev/null && ");
            if !self.env.iter().any(|(name, _)| name == "LISTEN_PID") {
                script.push_str("export LISTEN_PID=$$ && ");
            }
        }
        let mut words = self.wrapper.clone();
        words.push(self.path.clone().into());
        if !script.is_empty() {
            let shell =
                ["/bin/sh".to_owned(), "-c".to_owned(), format!("{script}exec \"$@\""), "sh".to_owned()];
            words.splice(0..0, shell.map(OsString::from));
        }
        let mut command = Command::new(&words[0]); // it has the path at least
        command.args(&words[1..]).args(&self.args);
        command
    }

    fn description(&self) -> String {
        let mut text = format!("command: {}", self.path.display());
        for arg in &self.args {
            let _ = write!(text, " {arg:?}"); // a String cannot fail
        }
        let env: Vec<String> =
            self.env.iter().map(|(name, value)| format!("{}={value:?}", name.display())).collect();
        let _ = write!(text, "\nenvironment: {}", env.join(" ")); // a String cannot fail
        text
    }
}

/// Whether the test is run by root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The address in the line `… listening on ADDRESS:PORT`, once that line is whole; any address of this
/// machine is reached over loopback.
fn listening_address(log: &str) -> Option<SocketAddr> {
    let whole = &log[..log.rfind('\n')?];
    let line = whole.lines().rev().find(|line| line.contains(LISTENING) && !line.ends_with(FOR_ADMIN))?;
    address_in(line)
}

/// The address in such a line.
fn address_in(line: &str) -> Option<SocketAddr> {
    let text = line.split(LISTENING).nth(1)?.split_ascii_whitespace().next()?;
    let mut addr: SocketAddr = text.parse().ok()?;
    if addr.ip().is_unspecified() {
        addr.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Some(addr)
}

/// What [`Bin::run`] saw.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All that it wrote to stdout.
    pub stdout: String,
    /// All that it wrote to stderr.
    pub stderr: String,
    /// From start to end.
    pub elapsed: Duration,
}

impl Output {
    /// The exit code, or 128 + the signal that ended it.
    #[must_use]
    pub fn code(&self) -> i32 {
        exit_code(self.status)
    }
}

/// A started binary that listens.
pub struct Running {
    process: Process,
    addr: SocketAddr,
    started_in: Duration,
}

impl Deref for Running {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Running {
    /// Where it listens, over loopback.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All addresses at which it listens for callers, over loopback; the lines of the others come before.
    ///
    /// # Panics
    /// When its log has fewer than `count` within [`START_TIMEOUT`].
    #[must_use]
    #[track_caller]
    pub fn addrs(&self, count: usize) -> Vec<SocketAddr> {
        eventually(START_TIMEOUT, || {
            let log = self.log();
            let lines = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            let lines = lines.filter(|line| line.contains(LISTENING) && !line.ends_with(FOR_ADMIN));
            let found: Vec<SocketAddr> = lines.filter_map(address_in).collect();
            if found.len() == count { Ok(found) } else { Err(format!("it listens at {found:?}")) }
        })
    }

    /// The address at which it serves `/system` and `/metrics` alone, over loopback.
    ///
    /// # Panics
    /// When its log has none.
    #[must_use]
    #[track_caller]
    pub fn admin_addr(&self) -> SocketAddr {
        let log = self.log();
        let line = log.lines().find(|line| line.contains(LISTENING) && line.ends_with(FOR_ADMIN));
        line.and_then(address_in).unwrap_or_else(|| panic!("no address{FOR_ADMIN}: {log}"))
    }

    /// `http://ADDRESS:PORT` with `path` after it.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// From the start of the process to its line `listening on`, to about 0.3 ms.
    #[must_use]
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// A request to it.
    #[must_use]
    pub fn request(&self) -> Request<'static> {
        http::request(self.addr)
    }

    /// A client that keeps its connection to it.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(self.addr)
    }

    /// A connection to it, to be spoken over byte by byte.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::open(self.addr).unwrap_or_else(|e| panic!("{}: {e}", self.addr))
    }

    /// `GET path` as metrics, checked.
    ///
    /// # Panics
    /// When the answer is not 200, or not a sound exposition.
    #[must_use]
    #[track_caller]
    pub fn metrics(&self, path: &str) -> Metrics {
        let reply = self.get(path);
        assert_eq!(reply.status, 200, "GET {path}: {}", reply.text());
        Metrics::read(&reply.text())
    }

    /// `GET path`.
    ///
    /// # Panics
    /// When there is no whole answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.request().path(path).send().unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// `POST path` with `body`.
    ///
    /// # Panics
    /// When there is no whole answer.
    #[track_caller]
    pub fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Reply {
        let request = self.request().method("POST").path(path).body(body.as_ref());
        request.send().unwrap_or_else(|e| panic!("POST {path}: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{eventually, proc};

    const WAIT: Duration = Duration::from_secs(5);

    fn shell(script: &str) -> Bin {
        Bin::at("sh").arg("-c").arg(script)
    }

    #[test]
    fn the_environment_is_clean() {
        let output = Bin::at("env").env("one", "1").env("one", "2").without_env("PATH").run();
        let mut names: Vec<&str> = output.stdout.lines().filter_map(|line| line.split('=').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["FAAS_TEST_MARK", "TMPDIR", "one"]);
        assert!(output.stdout.contains("one=2\n"));
    }

    #[test]
    fn run_tells_code_signal_and_streams() {
        let output = shell("echo out; echo err >&2; exit 3").run();
        assert_eq!((output.code(), &*output.stdout, &*output.stderr), (3, "out\n", "err\n"));
        assert_eq!(shell("kill -9 $$").run().code(), 137);
    }

    #[test]
    fn limits_are_set() {
        let output = shell("ulimit -n; ulimit -v").nofile(40).address_space(1 << 30).run();
        assert_eq!(output.stdout, "40\n1048576\n", "{}", output.stderr);
    }

    #[test]
    fn start_reads_the_address() {
        let running = shell("echo 'info listening on 0.0.0.0:8081' >&2; exec sleep 60").start();
        assert_eq!(running.addr(), "127.0.0.1:8081".parse().unwrap());
        assert_eq!(running.url("/x"), "http://127.0.0.1:8081/x");
        assert!(running.try_status().is_none());
        running.signal(proc::SIGTERM);
        assert_eq!(exit_code(running.wait(WAIT)), 143);
    }

    #[test]
    fn an_address_counts_only_once_its_line_is_whole() {
        assert_eq!(listening_address("x listening on 127.0.0.1:80"), None);
        assert_eq!(listening_address("x listening on 127.0.0.1:80\n"), "127.0.0.1:80".parse().ok());
        assert_eq!(listening_address("listening on [::]:80 now\nmore\n"), "127.0.0.1:80".parse().ok());
        assert_eq!(listening_address("listening on nothing\n"), None);
        let both = format!("listening on 127.0.0.1:81{FOR_ADMIN}\nlistening on 127.0.0.1:80\n");
        assert_eq!(listening_address(&both), "127.0.0.1:80".parse().ok());
        assert_eq!(listening_address(both.lines().next().unwrap()), None);
    }

    #[test]
    #[should_panic(expected = "no such setting")]
    fn start_reports_a_process_that_ends() {
        let _ = shell("echo 'no such setting' >&2; exit 2").start();
    }

    #[test]
    fn a_listener_arrives_as_descriptor_3() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let output =
            shell("readlink /proc/$$/fd/3; echo $LISTEN_FDS $(($LISTEN_PID - $$))").listener(listener).run();
        assert!(output.stdout.starts_with("socket:["), "{output:?}");
        assert!(output.stdout.ends_with("\n1 0\n"), "{output:?}");
    }

    #[test]
    fn drop_ends_the_whole_tree() {
        // One child in the line of parents, one that was orphaned into a session of its own.
        let process = shell("sleep 60 & (setsid sleep 60 &) ; wait").spawn();
        let (mark, pid) = (process.mark().to_owned(), process.pid());
        eventually(WAIT, || match process.descendants() {
            found if found.iter().filter(|pid| proc::command_line(**pid) == "sleep 60").count() == 2 => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        });
        drop(process);
        assert_eq!(proc::descendants(None, &mark), []);
        assert!(proc::stat(pid).is_none());
    }

    #[test]
    fn figures_are_plausible() {
        let process = shell("echo ready >&2; exec sleep 60").spawn();
        process.wait_log("ready", WAIT);
        eventually(WAIT, || match process.threads() {
            1 if process.rss_bytes() > 4096 => Ok(()),
            n => Err(format!("{n} threads, {} bytes", process.rss_bytes())),
        });
        assert!(process.fds() >= 3 && process.peak_rss_bytes() >= 4096);
        assert!(process.cpu_time() < WAIT && process.cpu_time_with_children() < WAIT);
        assert!(process.zombies().is_empty());
    }
}
