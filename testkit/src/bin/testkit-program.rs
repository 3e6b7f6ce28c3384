//! Programs that behave badly on purpose, one for each mode; see [`USAGE`].
//! None of them outlives a minute, so that a test that fails to end them leaves nothing for long.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, getpid, kill_process, pidfd_getfd, pidfd_open, setsid,
    test_kill_process,
};
use testkit::proc;

const USAGE: &str = "usage: testkit-program MODE [ARGUMENT…]
  arguments …            prints each argument on a line of its own
  closes_stdin           closes STDIN without reading it, then prints `closed`
  dies_by_signal [N]     prints `dying`, then kills itself with signal N [9]
  drips [COUNT] [MS]     prints COUNT [5] lines, each MS [50] after the last
  echo_env               prints its environment, sorted
  exits [CODE] [TEXT]    prints TEXT and exits with CODE [1]
  floods_stderr [BYTES]  writes BYTES [1048576] in lines to STDERR, then prints `done`
  holds_stdout           leaves a child behind that keeps STDOUT open, prints `done` and exits
  ignores_stdin          prints `ignored` without reading STDIN, which stays open until the end
  serves PORT [MS] [CODE] listens on PORT after MS [0] and answers over HTTP with its process id, method, target and
                         body; exits with CODE [7] when asked for /exit, and with 0 at SIGTERM
  serves_to_the_end PORT listens on PORT, answers over HTTP, and ends after SIGTERM when its connections have ended
  sleeps                 ignores SIGTERM and sleeps
  spawns_grandchild      starts two sleepers, one of them an orphan in a session of its own; all ignore
                         SIGTERM; says `ready` on STDERR and sleeps
  spies [LEVELS] [PATH]… tries to take what it can of its parent, or of that one's, LEVELS [1] up, and to open each
                         PATH; prints a line for each, which ends with `taken` or `refused`
  writes BYTES [CODE]    writes BYTES to STDOUT and exits with CODE [0]
  writes_then_reads [N]  writes N [1048576] bytes before it reads STDIN, then prints how much that was";

/// The longest life of anything here.
const LIFE: Duration = Duration::from_secs(60);

const MIB: usize = 1024 * 1024;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((mode, rest)) = arguments.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let number =
        |place: usize, default: usize| rest.get(place).and_then(|text| text.parse().ok()).unwrap_or(default);
    let done = match mode.as_str() {
        "arguments" => rest.iter().try_for_each(|argument| say(argument)),
        "closes_stdin" => closes_stdin(),
        "dies_by_signal" => dies_by_signal(number(0, 9)),
        "drips" => drips(number(0, 5), Duration::from_millis(number(1, 50) as u64)),
        "echo_env" => echo_env(),
        "exits" => print(rest.get(1).map_or("", |text| text)),
        "floods_stderr" => floods_stderr(number(0, MIB)),
        "holds_stdout" => start("sleeps", Stdio::inherit()).map(drop).and_then(|()| say("done")),
        "ignores_stdin" => say("ignored"),
        "serves" => serves(number(0, 0), Duration::from_millis(number(1, 0) as u64), number(2, 7)),
        "serves_to_the_end" => serves_to_the_end(number(0, 0)),
        "sleeps" => sleeps(),
        "spawns_grandchild" => spawns_grandchild(),
        "spies" => spies(number(0, 1), rest.get(1..).unwrap_or_default()),
        // Not for tests: the go-between that makes an orphan.
        "orphans" => orphans(),
        "writes" => writes(number(0, 0)),
        "writes_then_reads" => writes(number(0, MIB)).and_then(|()| reads()),
        "--help" => say(USAGE),
        other => {
            eprintln!("no mode `{other}`\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match (done, mode.as_str()) {
        (Err(e), _) => {
            eprintln!("{mode}: {e}");
            ExitCode::from(111)
        }
        (Ok(()), "exits") => ExitCode::from(number(0, 1) as u8),
        (Ok(()), "writes") => ExitCode::from(number(1, 0) as u8),
        (Ok(()), _) => ExitCode::SUCCESS,
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn say(line: &str) -> io::Result<()> {
    print(&format!("{line}\n"))
}

fn closes_stdin() -> io::Result<()> {
    // Putting another file in its place closes the pipe's only reading end.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    say("closed")
}

fn dies_by_signal(signal: usize) -> io::Result<()> {
    say("dying")?;
    let number = i32::try_from(signal).ok().and_then(Signal::from_named_raw);
    kill_process(getpid(), number.ok_or(io::ErrorKind::InvalidInput)?)?;
    thread::sleep(LIFE); // until the signal has its effect
    Ok(())
}

fn drips(count: usize, pause: Duration) -> io::Result<()> {
    for place in 0..count {
        if place > 0 {
            thread::sleep(pause);
        }
        say(&format!("drip {place}"))?;
    }
    Ok(())
}

#[allow(clippy::disallowed_methods)] // the environment is what it is asked for
fn echo_env() -> io::Result<()> {
    let mut lines: Vec<String> =
        std::env::vars_os().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect();
    lines.sort_unstable();
    lines.iter().try_for_each(|line| say(line))
}

fn floods_stderr(bytes: usize) -> io::Result<()> {
    let line = [&[b'e'; 99][..], b"\n"].concat();
    let mut left = bytes;
    while left > 0 {
        let size = left.min(line.len());
        io::stderr().write_all(&line[..size])?;
        left -= size;
    }
    say("done")
}

fn spies(levels: usize, paths: &[String]) -> io::Result<()> {
    let told =
        |what: &str, is_taken: bool| say(&format!("{what} {}", if is_taken { "taken" } else { "refused" }));
    let parent = |pid: u32| proc::stat(pid).map_or(0, |stat| stat.parent);
    let pid = (0..levels).fold(std::process::id(), |pid, _| parent(pid));
    let number = i32::try_from(pid).ok().filter(|pid| *pid > 1).ok_or(io::ErrorKind::NotFound)?;
    let target = Pid::from_raw(number).ok_or(io::ErrorKind::NotFound)?;
    let file = |name: &str| format!("/proc/{pid}/{name}");
    told("environment", std::fs::read(file("environ")).is_ok())?;
    told("memory", File::open(file("mem")).is_ok())?;
    told("descriptors", std::fs::read_dir(file("fd")).is_ok())?;
    let held = pidfd_open(target, PidfdFlags::empty())?;
    let copies = |fd: &i32| pidfd_getfd(&held, *fd, PidfdGetfdFlags::empty()).is_ok();
    told("sockets", (0..64).any(|fd| copies(&fd)))?;
    let traced = nix::unistd::Pid::from_raw(number);
    let is_traced = nix::sys::ptrace::attach(traced).is_ok();
    if is_traced {
        nix::sys::wait::waitpid(traced, None)?;
        nix::sys::ptrace::detach(traced, None)?;
    }
    told("trace", is_traced)?;
    told("signal", test_kill_process(target).is_ok())?;
    for path in paths {
        let is_open = File::open(path).is_ok() || std::os::unix::net::UnixStream::connect(path).is_ok();
        told(path, is_open)?;
    }
    Ok(())
}

fn writes(bytes: usize) -> io::Result<()> {
    let piece = [b'w'; 65536];
    let mut left = bytes;
    while left > 0 {
        let size = left.min(piece.len());
        io::stdout().write_all(&piece[..size])?;
        left -= size;
    }
    io::stdout().flush()
}

fn reads() -> io::Result<()> {
    let mut stdin = io::stdin().lock();
    let (mut piece, mut total) = ([0; 65536], 0);
    loop {
        match stdin.read(&mut piece)? {
            0 => return say(&format!("\nread {total}")),
            size => total += size,
        }
    }
}

fn serves(port: usize, wait: Duration, code: usize) -> io::Result<()> {
    let ends = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(15, Arc::clone(&ends))?;
    eprintln!("starting");
    thread::sleep(wait);
    let port = u16::try_from(port).map_err(|_| io::ErrorKind::InvalidInput)?;
    let pid = std::process::id();
    let answer = move |request: &testkit::script::Request| {
        match &*request.target {
            "/exit" => std::process::exit(code as i32),
            "/sleep" => thread::sleep(LIFE),
            _ => {}
        }
        let id = request.header("x-call-id").unwrap_or("-");
        let mut body = format!("{pid} {} {} {id}\n", request.method, request.target).into_bytes();
        body.extend_from_slice(&request.body);
        let head = format!("HTTP/1.1 200 OK\r\nX-Served: yes\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.into_bytes(), if request.method == "HEAD" { vec![] } else { body }].concat()
    };
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    let _peer = testkit::Peer::on(listener, vec![testkit::Script::new().request().answer(answer).repeat()]);
    say("listening")?;
    for _ in 0..LIFE.as_millis() / 5 {
        if ends.load(std::sync::atomic::Ordering::Relaxed) {
            say("ending")?;
            std::process::exit(0) // without waiting for connections that are kept
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn serves_to_the_end(port: usize) -> io::Result<()> {
    let ends = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(15, Arc::clone(&ends))?;
    let port = u16::try_from(port).map_err(|_| io::ErrorKind::InvalidInput)?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", port))?;
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let script = testkit::Script::new().request().send(ok).repeat();
    let peer = testkit::Peer::on(listener, vec![script]);
    for _ in 0..LIFE.as_millis() / 5 {
        if ends.load(std::sync::atomic::Ordering::Relaxed) && peer.open_connections() == 0 {
            std::process::exit(0)
        }
        thread::sleep(Duration::from_millis(5));
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn sleeps() -> io::Result<()> {
    ignore_term()?;
    // Whoever started it may wait for this line, or have nobody there to read it.
    let _ = writeln!(io::stderr(), "ready");
    thread::sleep(LIFE);
    Ok(())
}

fn spawns_grandchild() -> io::Result<()> {
    ignore_term()?;
    for mode in ["sleeps", "orphans"] {
        let mut child = start(mode, Stdio::piped())?;
        let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?; // it was asked for
        BufReader::new(stderr).read_line(&mut String::new())?;
        if mode == "orphans" {
            child.wait()?; // the go-between; what it left behind is there now, and nobody else
        }
    }
    eprintln!("ready");
    thread::sleep(LIFE);
    Ok(())
}

/// Leaves a sleeper behind that is neither in the group nor in the session of what started this.
fn orphans() -> io::Result<()> {
    setsid()?;
    start("sleeps", Stdio::inherit()).map(drop)
}

/// Starts another mode. It keeps STDOUT, but not STDIN.
fn start(mode: &str, stderr: Stdio) -> io::Result<Child> {
    Command::new(std::env::current_exe()?).arg(mode).stdin(Stdio::null()).stderr(stderr).spawn()
}

fn ignore_term() -> io::Result<()> {
    signal_hook::flag::register(15, Arc::new(AtomicBool::new(false))).map(drop)
}
