//! What `/proc` tells about processes (proc(5)): memory, descriptors, threads, CPU time, lineage.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use rustix::process::{Pid, Signal, kill_process};

/// Hang-up: configuration is read again.
pub const SIGHUP: i32 = 1;
/// Interrupt from the keyboard.
pub const SIGINT: i32 = 2;
/// Quit from the keyboard.
pub const SIGQUIT: i32 = 3;
/// The end, at once.
pub const SIGKILL: i32 = 9;
/// A request to end.
pub const SIGTERM: i32 = 15;
/// Goes on after [`SIGSTOP`].
pub const SIGCONT: i32 = 18;
/// Stands still until [`SIGCONT`].
pub const SIGSTOP: i32 = 19;

/// The parts of `/proc/PID/stat` that tests ask for.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// Process id.
    pub pid: u32,
    /// Id of the parent.
    pub parent: u32,
    /// One letter: `R`, `S`, `D`, `T`, `Z`, `X`…
    pub state: char,
    /// CPU time of the process itself.
    pub cpu: Duration,
    /// CPU time of those children that it has waited for.
    pub children_cpu: Duration,
    /// Number of threads.
    pub threads: usize,
}

impl Stat {
    /// Whether it still runs: not a zombie and not gone.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// The figures of one process; `None` when there is none with that id.
#[must_use]
pub fn stat(pid: u32) -> Option<Stat> {
    parse_stat(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name is in parentheses and may itself hold any character, so fields count from the last `)`.
fn parse_stat(pid: u32, text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    let ticks = |place| {
        Some(Duration::from_secs_f64(number(place)? as f64 / rustix::param::clock_ticks_per_second() as f64))
    };
    Some(Stat {
        pid,
        state: fields.first()?.chars().next()?,
        parent: u32::try_from(number(1)?).ok()?,
        cpu: ticks(11)? + ticks(12)?,
        children_cpu: ticks(13)? + ticks(14)?,
        threads: usize::try_from(number(17)?).ok()?,
    })
}

/// Every process of the machine that this user may see.
#[must_use]
pub fn all() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").unwrap_or_else(|e| panic!("/proc: {e}"));
    entries.filter_map(|entry| stat(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// The living processes that `root` started, and those that carry `mark` somewhere in their
/// environment, with all that these started; in ascending order, without `root`. The mark finds what left
/// both the process group and the line of parents.
#[must_use]
pub fn descendants(root: Option<u32>, mark: &str) -> Vec<u32> {
    let all = all();
    let mut found: BTreeSet<u32> =
        all.iter().map(|stat| stat.pid).filter(|pid| mentions(*pid, mark)).collect();
    found.extend(root);
    loop {
        let before = found.len();
        found.extend(
            all.iter().filter(|stat| found.contains(&stat.parent)).map(|stat| stat.pid).collect::<Vec<_>>(),
        );
        if found.len() == before {
            break;
        }
    }
    found.remove(&std::process::id());
    all.iter()
        .filter(|stat| stat.is_alive() && Some(stat.pid) != root && found.contains(&stat.pid))
        .map(|stat| stat.pid)
        .collect()
}

/// The zombies among the children of `parent`.
#[must_use]
pub fn zombies(parent: u32) -> Vec<u32> {
    all().iter().filter(|stat| stat.parent == parent && stat.state == 'Z').map(|stat| stat.pid).collect()
}

/// Whether the process's environment, as it was when it started, mentions `text`.
fn mentions(pid: u32, text: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The command line, for messages.
#[must_use]
pub fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

/// Resident memory in bytes, exact: `VmRSS` lags behind by up to 64 pages per thread on kernels that
/// count per CPU, so the sum over the mappings is read where the kernel offers it.
#[must_use]
pub fn rss_bytes(pid: u32) -> u64 {
    field_bytes(pid, "smaps_rollup", "Rss:").or_else(|| field_bytes(pid, "status", "VmRSS:")).unwrap_or(0)
}

/// Resident memory of several processes in bytes: what is theirs alone, and what they share, once. That is the
/// memory of a server that forks; for one process it is [`rss_bytes`].
#[must_use]
pub fn resident_bytes(pids: &[u32]) -> u64 {
    let (mut own, mut shared) = (0, 0);
    for pid in pids {
        let field = |name| field_bytes(*pid, "smaps_rollup", name).unwrap_or(0);
        let private = field("Private_Clean:") + field("Private_Dirty:");
        own += private;
        shared = shared.max(rss_bytes(*pid).saturating_sub(private));
    }
    own + shared
}

/// The CPU time of a process with all its threads, also those that have ended, to the nanosecond; `/proc/PID/stat`
/// counts in steps of 10 ms. `None` when there is none with that id.
#[must_use]
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let clock = clock_getcpuclockid(nix::unistd::Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    clock.now().ok().map(Duration::from)
}

/// The most resident memory that the process ever had, in bytes (`VmHWM`).
#[must_use]
pub fn peak_rss_bytes(pid: u32) -> u64 {
    field_bytes(pid, "status", "VmHWM:").unwrap_or(0)
}

/// A line `Name:   123 kB` of a file of the process.
fn field_bytes(pid: u32, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Number of open file descriptors; 0 for a process that is gone.
#[must_use]
pub fn fds(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Sends a signal. False when there is no such process (any more).
///
/// # Panics
/// When `signal` is not the number of a signal.
pub fn signal(pid: u32, signal: i32) -> bool {
    let number = Signal::from_named_raw(signal).unwrap_or_else(|| panic!("{signal} is no signal"));
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| kill_process(pid, number).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually;
    use std::process::Command;

    #[test]
    fn stat_survives_a_hostile_name() {
        let rest = "4 4 0 0 -1 0 0 0 0 0 150 50 7 3 20 0 5 0 0 0 0";
        let text = format!("12 (a) R (b) S {rest}");
        let stat = parse_stat(12, &text).unwrap();
        assert_eq!((stat.pid, stat.state, stat.parent, stat.threads), (12, 'S', 4, 5));
        let ticks =
            |count: f64| Duration::from_secs_f64(count / rustix::param::clock_ticks_per_second() as f64);
        assert_eq!((stat.cpu, stat.children_cpu), (ticks(150.0) + ticks(50.0), ticks(7.0) + ticks(3.0)));
    }

    #[test]
    fn sees_itself() {
        let me = std::process::id();
        let stat = stat(me).unwrap();
        assert!(stat.is_alive() && stat.threads >= 1);
        assert!(rss_bytes(me) > 100 * 1024 && peak_rss_bytes(me) >= rss_bytes(me) / 2);
        assert!(fds(me) >= 3);
        let nobody = (1 << 22) + 1; // above the largest pid that Linux gives (proc(5), pid_max)
        assert!(cpu_time(me).unwrap() > Duration::ZERO && cpu_time(nobody).is_none());
        assert!(resident_bytes(&[me]).abs_diff(rss_bytes(me)) < 1024 * 1024);
    }

    #[test]
    fn finds_what_was_orphaned_by_its_mark() {
        let mark = format!("TESTKIT_PROC_MARK={}", std::process::id());
        let (name, value) = mark.split_once('=').unwrap();
        // The shell ends at once and leaves `sleep` to init.
        let status =
            Command::new("sh").args(["-c", "sleep 60 >/dev/null & :"]).env(name, value).status().unwrap();
        assert!(status.success());
        let found = eventually(Duration::from_secs(5), || match descendants(None, &mark)[..] {
            [pid] if command_line(pid) == "sleep 60" => Ok(pid),
            ref other => Err(format!("{other:?}")),
        });
        assert!(signal(found, SIGKILL));
        eventually(Duration::from_secs(5), || match descendants(None, &mark).len() {
            0 => Ok(()),
            n => Err(format!("{n} left")),
        });
    }
}
