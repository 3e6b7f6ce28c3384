//! Ends all processes that one call started: SIGTERM, a grace, SIGKILL, and no return before the last one is gone.
//!
//! The group is signalled as one, which no fork can outrun. Scans of `/proc` find what left the group, see [`Family`],
//! until a scan finds none. A chain of processes that is faster than a scan is caught among the orphans.

use std::time::{Duration, Instant};

use kit::Deadline;
use kit::sys::child::{Child, Handle};
use kit::sys::signal::Signal;
use kit::sys::{PollFd, Ready, poll};

use super::family::{Family, descendants};
use super::mark::Mark;
use super::scan::SharedScan;
use super::sorted_set::SortedSet;
use super::table::{self, Process};

/// Between two scans: short at first, then longer, since a scan reads all of `/proc`.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(80);

/// The part of the grace that is kept for SIGKILL and the last scans, so that they end with the grace: this, and at most
/// a tenth.
const KILL_TIME: Duration = Duration::from_millis(100);
const KILL_SHARE: u32 = 10;

/// How long processes may survive SIGKILL: a process that hangs in the kernel must not hang fwatchdog.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// The scans for descendants before fwatchdog exits: a killed process needs a moment to be gone.
const LAST_SCANS: usize = 50;

/// So many lists of the orphans in a row must show no new one: a list that changes while it is read may miss one.
const CLEAN_LISTS: usize = 10;

/// How long the hunt goes on after the last orphan of this call, while orphans of other calls come and go.
const HUNT_TIME: Duration = Duration::from_millis(100);

/// How long an orphan may show no environment: it is in an execve(2), or fwatchdog may not read it.
const SHY_TIME: Duration = Duration::from_millis(50);

/// The scans of all calls that are being ended.
static SCAN: SharedScan = SharedScan::new();

/// Ends `child` and its family, which carries `mark`.
pub(crate) fn end(child: &mut Child, mark: Mark, grace: Duration) {
    let mut family = Family::new(child.pid());
    end_family(child, &mut family, mark, grace);
    hunt(mark);
    // No zombie of the call is left when the answer goes out.
    for orphan in family.orphans(this()) {
        if let Some(handle) = hold(orphan) {
            handle.reap();
        }
    }
}

fn end_family(child: &mut Child, family: &mut Family, mark: Mark, grace: Duration) {
    let mut scan = || family.members(&SCAN.all(), this(), |pid| mark.is_carried_by(pid));
    let members = scan();
    signal(child, &members, Signal::TERM);
    let grace = Deadline::after(grace - KILL_TIME.min(grace / KILL_SHARE));
    // A process that ignores SIGTERM has no use for the grace.
    let has_use = |_: &Child, members: &[Process]| members.is_empty() || members.iter().any(heeds_sigterm);
    if !wait(child, grace, &mut scan, has_use) {
        let limit = Deadline::after(KILL_LIMIT);
        signal(child, &scan(), Signal::KILL);
        let kill_again = |child: &Child, members: &[Process]| {
            signal(child, members, Signal::KILL);
            true
        };
        if !wait(child, limit, &mut scan, kill_again) {
            let left: Vec<String> = scan().iter().map(|process| process.pid.to_string()).collect();
            log::error!("processes that cannot be killed: {}", left.join(", "));
        }
    }
}

/// Kills a chain of processes each of which starts the next and ends, faster than a scan reads all of `/proc`. The
/// process that lives is an orphan of this process, or the child of one. An orphan that is gone before its mark was
/// read may have left a successor.
fn hunt(mark: Mark) {
    let limit = Deadline::after(KILL_LIMIT);
    let mut until = Deadline::after(HUNT_TIME);
    // Until when each orphan may show no environment; `None` once its mark is known.
    let mut asked: Vec<((i32, u64), Option<Instant>)> = Vec::new();
    let mut clean_lists = 0;
    while clean_lists < CLEAN_LISTS && !until.has_passed() && !limit.has_passed() {
        clean_lists += 1;
        for pid in table::children(this()) {
            let Some(orphan) = Process::read(pid) else {
                clean_lists = 0;
                continue;
            };
            let now = Instant::now();
            let key = (orphan.pid, orphan.started);
            let place = asked.iter().position(|(known, _)| *known == key).unwrap_or(asked.len());
            if place == asked.len() {
                asked.push((key, Some(now + SHY_TIME)));
            }
            let answer_by = &mut asked[place].1;
            if answer_by.is_none_or(|answer_by| now >= answer_by) {
                continue;
            }
            clean_lists = 0;
            match mark.is_carried_by(orphan.pid) {
                // Whichever call started it: this process must wait for it.
                _ if !orphan.is_alive => {
                    *answer_by = None;
                    hold(&orphan).into_iter().for_each(|handle| handle.reap());
                }
                Some(true) => {
                    until = Deadline::after(HUNT_TIME);
                    drop(hold(&orphan).map(|handle| handle.signal(Signal::KILL)));
                }
                Some(false) => *answer_by = None,
                None => {}
            }
        }
    }
}

/// Scans until no member is left; false when the deadline passes first, or `goes_on` says that waiting is no use.
fn wait(
    child: &mut Child,
    deadline: Deadline,
    scan: &mut impl FnMut() -> Vec<Process>,
    goes_on: impl Fn(&Child, &[Process]) -> bool,
) -> bool {
    let mut pause = FIRST_PAUSE;
    loop {
        wait_for_end(child, deadline.within(pause));
        pause = (pause * 2).min(LAST_PAUSE);
        let mut members = scan();
        if members.is_empty() {
            // A process may fork behind one scan and end before it, but not behind two.
            members = scan();
        }
        // Without /proc no scan shows the child, which may run.
        if members.is_empty() && !matches!(child.ended(), Ok(None)) {
            return true;
        }
        if !goes_on(child, &members) || deadline.has_passed() {
            return false;
        }
    }
}

/// Waits until the child has ended, or until the deadline.
fn wait_for_end(child: &mut Child, deadline: Deadline) {
    let has_ended = child.ended().is_ok_and(|end| end.is_some());
    let fd = if has_ended { None } else { child.end_fd() };
    // Fails only without kernel memory: the next scan is then early.
    let _ = poll(&mut [PollFd::maybe(fd, Ready::READ)], deadline);
}

fn signal(child: &Child, members: &[Process], signal: Signal) {
    child.signal_group(signal);
    for member in members.iter().filter(|member| member.group != child.pid()) {
        if let Some(handle) = hold(member) {
            let _ = handle.signal(signal); // it may have ended by itself
        }
    }
}

/// Takes hold of a process, then checks that its id has not gone to another process.
fn hold(process: &Process) -> Option<Handle> {
    let handle = Handle::open(process.pid).ok()?;
    let now = Process::read(process.pid)?;
    (now.started == process.started).then_some(handle)
}

fn heeds_sigterm(process: &Process) -> bool {
    !table::ignores(process.pid, Signal::TERM.number())
}

/// Whether this process has living descendants.
pub(crate) fn has_descendants() -> bool {
    !descendants(&table::all(), this()).is_empty()
}

/// Ends all descendants of this process: daemons that calls have left behind.
pub(crate) fn end_descendants(grace: Duration) {
    let deadline = Deadline::after(grace);
    let mut pause = FIRST_PAUSE;
    let mut told = SortedSet::new();
    loop {
        let left = descendants(&table::all(), this());
        for process in left.iter().filter(|process| told.insert((process.pid, process.started))) {
            drop(hold(process).map(|handle| handle.signal(Signal::TERM)));
        }
        if deadline.has_passed() || !left.iter().any(heeds_sigterm) {
            break;
        }
        let _ = poll(&mut [], deadline.within(pause)); // as in `wait_for_end`
        pause = (pause * 2).min(LAST_PAUSE);
    }
    kill_descendants();
}

/// Kills all descendants of this process, which is about to end. As their subreaper it is an ancestor of all processes
/// that its calls have started, also of those that left group and session.
pub(crate) fn kill_descendants() {
    for _ in 0..LAST_SCANS {
        let left = descendants(&table::all(), this());
        if left.is_empty() {
            return;
        }
        for handle in left.iter().filter_map(hold) {
            let _ = handle.signal(Signal::KILL); // it may have ended by itself
        }
    }
}

fn this() -> i32 {
    std::process::id() as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::mark::ENV_MARK;
    use kit::sys::child::{End, Environment, Spawn, become_subreaper, reap_orphans};
    use kit::sys::pipe;
    use std::ffi::CString;
    use std::fs::File;
    use std::os::fd::AsFd;

    const SOON: Duration = Duration::from_secs(10);

    /// A grace that no test waits for.
    const LONG: Duration = Duration::from_secs(60);

    /// Starts a script that prints `ready` once all its processes run. The script carries the mark in its limits, or in
    /// its environment alone, as in a sandbox without that limit.
    fn start(script: &str, mark: Mark, in_limits: bool) -> (Child, pipe::PipeEnd) {
        let argv = ["sh", "-c", script].map(|text| CString::new(text).unwrap());
        let mut environment = Environment::new(&kit::settings::inherited());
        if !in_limits {
            environment.set(ENV_MARK.as_bytes(), &[mark.to_string().as_bytes()]);
        }
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let (ours, theirs) = pipe::from_child().unwrap();
        let stdio = [null.as_fd(), theirs.as_fd(), null.as_fd()];
        let spawn =
            Spawn { mark: in_limits.then(|| mark.number()), ..Spawn::new(&argv, &environment, stdio) };
        let child = spawn.start().unwrap();
        let mut text = Vec::with_capacity(64);
        while !text.ends_with(b"ready\n") {
            let mut fds = [PollFd::new(ours.as_fd(), Ready::READ)];
            assert_eq!(poll(&mut fds, Deadline::after(SOON)).unwrap(), 1);
            assert_ne!(ours.read(&mut text).unwrap(), Some(0), "the script ended: {text:?}");
        }
        (child, ours)
    }

    fn alive(mark: Mark) -> Vec<i32> {
        let marked = |process: &Process| mark.is_carried_by(process.pid) == Some(true);
        let all = table::all();
        all.iter().filter(|process| process.is_alive && marked(process)).map(|process| process.pid).collect()
    }

    fn ends(name: &str, script: &str, grace: Duration) -> (End, Duration) {
        let by_variable = ends_by(name, script, (grace, false));
        let by_limit = ends_by(name, script, (grace, true));
        assert!(by_variable.0 == by_limit.0 || name == "headless", "{by_variable:?}, {by_limit:?}");
        by_limit
    }

    fn ends_by(name: &str, script: &str, (grace, in_limits): (Duration, bool)) -> (End, Duration) {
        let mark = Mark::new();
        become_subreaper().unwrap();
        let (mut child, _ours) = start(script, mark, in_limits);
        let before = Instant::now();
        end(&mut child, mark, grace);
        let took = before.elapsed();
        assert_eq!(alive(mark), [0; 0], "{name}");
        let end = child.reap().unwrap();
        let _ = reap_orphans();
        (end, took)
    }

    #[test]
    fn an_obedient_process_ends_at_once() {
        let (end, took) = ends("obedient", "echo ready; exec sleep 600", LONG);
        assert_eq!(end, End::Killed(15));
        assert!(took < LONG / 2, "{took:?}");
    }

    #[test]
    fn a_process_has_the_grace_to_clean_up() {
        // The background child says `ready`: only then it has lost the shell's handlers.
        let script = "trap 'exit 3' TERM; sh -c 'echo ready; exec sleep 600' & wait";
        assert_eq!(ends("grace", script, LONG).0, End::Exited(3));
    }

    #[test]
    fn processes_that_ignore_sigterm_or_left_the_group_are_killed() {
        // One process in the group, one in its own session, one orphan in its own session.
        let script =
            "trap '' TERM; sleep 600 & setsid sleep 600 & (setsid sleep 600 &) ; echo ready; wait; sleep 600";
        let (end, took) = ends("stubborn", script, LONG);
        assert_eq!(end, End::Killed(9));
        assert!(took < LONG / 2, "the grace is of no use to them: {took:?}");
    }

    #[test]
    fn a_daemon_without_an_environment_is_found_by_its_limit() {
        let script = "(setsid env -i /bin/sh -c 'echo ready; exec sleep 600' &); exec sleep 600";
        let (end, _) = ends_by("daemon", script, (LONG, true));
        assert_eq!(end, End::Killed(15));
    }

    #[test]
    fn a_process_that_catches_sigterm_gets_the_grace_and_no_more() {
        let script = "trap : TERM; echo ready; while :; do sleep 0.01; done";
        let (end, took) = ends("catching", script, Duration::from_millis(400));
        assert_eq!(end, End::Killed(9));
        assert!(took >= Duration::from_millis(360) && took < SOON, "{took:?}");
    }

    #[test]
    fn a_family_without_its_root_is_found() {
        let script = "trap '' TERM; setsid sh -c 'sleep 600 & sleep 600' & sleep 600 & echo ready";
        let (end, _) = ends("headless", script, Duration::ZERO);
        assert!(matches!(end, End::Exited(0) | End::Killed(_)));
    }

    #[test]
    fn a_process_that_keeps_forking_does_not_outrun_its_end() {
        let script = "trap '' TERM; echo ready; while :; do setsid sleep 0.02 & sleep 0.01; done";
        assert_eq!(ends("forking", script, Duration::from_millis(50)).0, End::Killed(9));
    }
}
