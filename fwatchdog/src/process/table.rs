//! The processes of the machine, as `/proc` shows them (proc(5)).

use std::fs::{self, File};
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};

/// The most that is read of a file in `/proc`. The largest file is an environment: a larger one cannot be passed to a
/// process without a stack limit beyond the usual.
const MAX_BYTES: u64 = 2 * 1024 * 1024;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// False for a process that has ended and was not waited for.
    pub(crate) is_alive: bool,
    /// When the process started, in ticks since the boot: tells it from a later process with the same id.
    pub(crate) started: u64,
}

impl Process {
    /// The process that has the id now.
    pub(crate) fn read(pid: i32) -> Option<Process> {
        parse(&read(pid, "stat"))
    }
}

/// The contents of a file of a process. Empty where the process is gone or belongs to another user.
fn read(pid: i32, name: &str) -> Vec<u8> {
    let mut contents = Vec::new();
    let file = File::open(format!("/proc/{pid}/{name}"));
    let _ = file.and_then(|file| file.take(MAX_BYTES).read_to_end(&mut contents));
    contents
}

/// Whether the ids in `/proc` are those of another PID namespace: this process must not signal them.
static IS_BLIND: AtomicBool = AtomicBool::new(false);

/// Checks whether `/proc` is this process's own. If not, no process is seen from then on. To be called once, before
/// anything is started.
pub(crate) fn check_proc() {
    if !kit::process::has_own_proc() {
        IS_BLIND.store(true, Ordering::Relaxed);
        log::warn!("no /proc of this PID namespace: a process that leaves its group may survive its call");
    }
}

/// Every process that can be seen.
pub(crate) fn all() -> Vec<Process> {
    if IS_BLIND.load(Ordering::Relaxed) {
        return Vec::new();
    }
    // Loops: the same as one chain of iterators is another kilobyte of code.
    let mut all = Vec::new();
    let Ok(entries) = fs::read_dir("/proc") else { return all };
    for entry in entries {
        let Ok(entry) = entry else { continue };
        let id = entry.file_name().to_str().and_then(|name| name.parse().ok());
        all.extend(id.and_then(Process::read));
    }
    all
}

/// The ids of the processes that `pid`'s first thread started or inherited, with far less to read than [`all`] has.
/// Empty where the kernel does not tell (proc(5), `CONFIG_PROC_CHILDREN`).
pub(crate) fn children(pid: i32) -> Vec<i32> {
    if IS_BLIND.load(Ordering::Relaxed) {
        return Vec::new();
    }
    let list = read(pid, &format!("task/{pid}/children"));
    str::from_utf8(&list)
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// Reads `pid (name) state parent group session … started …`.
fn parse(stat: &[u8]) -> Option<Process> {
    let pid = str::from_utf8(stat.split(|byte| *byte == b' ').next()?).ok()?.parse().ok()?;
    let mut fields = kit::process::stat_fields(stat)?;
    let state = fields.next()?;
    let mut number = || fields.next()?.parse().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    let started = fields.nth(15)?.parse().ok()?;
    let is_alive = !matches!(state, "Z" | "X" | "x");
    Some(Process { pid, parent, group, session, is_alive, started })
}

/// Whether a process ignores a signal.
pub(crate) fn ignores(pid: i32, signal: i32) -> bool {
    let status = read(pid, "status");
    let ignored = String::from_utf8_lossy(&status);
    let ignored = ignored.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    ignored >> (signal - 1) & 1 == 1
}

/// Whether a process was started with the variable `entry` (`NAME=value`) in its environment; `None` where it shows no
/// environment, as during its execve(2).
pub(crate) fn has_variable(pid: i32, entry: &[u8]) -> Option<bool> {
    let environment = read(pid, "environ");
    (!environment.is_empty()).then(|| environment.split(|byte| *byte == 0).any(|found| found == entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_shift_the_fields() {
        let stat = "42 (a) Z 1 1 (b) S 7 8 9 0 -1 0 0 0 0 0 1 2 3 4 20 0 5 0 777 1 2";
        let parse = |stat: &str| {
            parse(&stat.bytes().map(|byte| if byte == b'a' { 0xff } else { byte }).collect::<Vec<_>>())
        };
        let want = Process { pid: 42, parent: 7, group: 8, session: 9, is_alive: true, started: 777 };
        assert_eq!(parse(stat), Some(want));
        assert!(!parse(&stat.replace(") S", ") Z")).unwrap().is_alive);
        assert_eq!(parse("42 (a) S 1"), None);
    }

    #[test]
    fn this_process_is_there_with_its_environment() {
        let me = std::process::id() as i32;
        assert!(all().iter().any(|process| process.pid == me && process.is_alive));
        let (name, value) = kit::settings::inherited().into_iter().find(|(name, _)| name == "PATH").unwrap();
        let entry = format!("{}={}", name.display(), value.display());
        assert_eq!(has_variable(me, entry.as_bytes()), Some(true));
        assert_eq!(has_variable(me, b"PATH="), Some(false));
    }

    #[test]
    fn ignored_signals_are_seen() {
        // SIGPIPE, which every program of the standard library ignores, and SIGCHLD, which this does not.
        let me = std::process::id() as i32;
        assert!(ignores(me, 13) && !ignores(me, 17) && !ignores(0, 13));
    }
}
