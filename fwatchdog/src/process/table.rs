//! The processes of the machine as `/proc` shows them (proc(5)), and which of them belong to one call.

use std::fs::{self, File};
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::process::sorted_set::SortedSet;

/// What is read of a process's environment when its mark is looked for. Larger ones cannot be passed to a
/// process without a stack limit beyond the usual.
const MAX_ENVIRONMENT_BYTES: u64 = 2 * 1024 * 1024;

/// One process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// False for one that has ended and was not waited for.
    pub(crate) is_alive: bool,
    /// When it started, in ticks since the boot. A later process with the same id has another.
    pub(crate) started: u64,
}

impl Process {
    /// The process that has the id now.
    pub(crate) fn read(pid: i32) -> Option<Process> {
        parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// Whether no process is to be seen, since the ids in `/proc` are not those that this process may signal.
static IS_BLIND: AtomicBool = AtomicBool::new(false);

/// Looks whether `/proc` is this process's own; to be called once, before anything is started. From then on no process
/// is seen where it is not.
pub(crate) fn look_at_proc() {
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

/// The ids of the processes that `pid`'s first thread started or inherited; none where the kernel does not tell
/// (proc(5), `CONFIG_PROC_CHILDREN`). Far less is read than by [`all`].
pub(crate) fn children(pid: i32) -> Vec<i32> {
    if IS_BLIND.load(Ordering::Relaxed) {
        return Vec::new();
    }
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// One look at all processes for whoever asks for one at the same time: many calls that end at once would
/// otherwise each read all of `/proc`, which holds the processes of all of them.
pub(crate) struct Looks {
    state: Mutex<State>,
    ended: Condvar,
}

struct State {
    /// When the last look began, and what it saw.
    last: Option<(Instant, Arc<[Process]>)>,
    is_looking: bool,
}

impl Looks {
    /// Nobody has looked yet.
    pub(crate) const fn new() -> Looks {
        Looks { state: Mutex::new(State { last: None, is_looking: false }), ended: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every process that can be seen, in a look that began after the call of this. All that wait for a look have
    /// what it saw at its end, before whoever is first with the next question.
    pub(crate) fn all(&self) -> Arc<[Process]> {
        let asked = Instant::now();
        let mut state = self.lock();
        loop {
            if let Some((began, all)) = &state.last
                && *began > asked
            {
                return Arc::clone(all);
            }
            if !state.is_looking {
                break;
            }
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_looking = true;
        drop(state);
        let began = Instant::now();
        let all: Arc<[Process]> = all().into();
        *self.lock() = State { last: Some((began, Arc::clone(&all))), is_looking: false };
        self.ended.notify_all();
        all
    }
}

/// The living among `all` that `root` started, and that these started.
pub(crate) fn descendants(all: &[Process], root: i32) -> Vec<Process> {
    let mut pids = SortedSet::new();
    pids.insert(root);
    loop {
        let before = pids.len();
        let children: Vec<i32> =
            all.iter().filter(|process| pids.contains(&process.parent)).map(|process| process.pid).collect();
        pids.extend(children);
        if pids.len() == before {
            break;
        }
    }
    let below = all.iter().filter(|process| process.pid != root && pids.contains(&process.pid));
    below.filter(|process| process.is_alive).copied().collect()
}

/// `pid (name) state parent group session … started …`: the name may hold any character, so that fields
/// count from the last `)`.
fn parse(stat: &str) -> Option<Process> {
    let (head, tail) = (stat.split(' ').next()?, stat.get(stat.rfind(')')? + 1..)?);
    let mut fields = tail.split_ascii_whitespace();
    let state = fields.next()?;
    let mut number = || fields.next()?.parse().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    let started = fields.nth(15)?.parse().ok()?;
    let is_alive = !matches!(state, "Z" | "X" | "x");
    Some(Process { pid: head.parse().ok()?, parent, group, session, is_alive, started })
}

/// Whether a process ignores a signal, so that it will never act on it.
pub(crate) fn ignores(pid: i32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    ignored >> (signal - 1) & 1 == 1
}

/// Whether a process was started with the variable `entry` (`NAME=value`) in its environment; `None` where
/// there is no environment to be seen, as in the moment of an execve(2).
pub(crate) fn has_variable(pid: i32, entry: &[u8]) -> Option<bool> {
    let mut environment = Vec::new();
    let file = File::open(format!("/proc/{pid}/environ"));
    // One that belongs to another user cannot be read, and one that is gone has none.
    let _ = file.and_then(|file| file.take(MAX_ENVIRONMENT_BYTES).read_to_end(&mut environment));
    (!environment.is_empty()).then(|| environment.split(|byte| *byte == 0).any(|found| found == entry))
}

/// The processes that one call started, as far as they are known: a set that grows with each look.
pub(crate) struct Family {
    /// The process that was started for the call. It leads a session and is not waited for as long as this
    /// is in use, so that no other process can have its id, its group or its session.
    root: i32,
    known: SortedSet<(i32, u64)>,
    /// Those whose environment has no mark. None of them will get it, so that they are not asked again; but one
    /// that was adopted and shows no environment may be in the middle of an execve(2), and is.
    strangers: SortedSet<(i32, u64)>,
    /// Members that had ended at the last look and that nobody has waited for.
    ended: Vec<Process>,
}

impl Family {
    pub(crate) fn new(root: i32) -> Family {
        Family { root, known: SortedSet::new(), strangers: SortedSet::new(), ended: Vec::new() }
    }

    /// The living members among `all`: the root's session and group, whatever `has_mark` recognises, what
    /// was known before, and all that these started. `this` process is never one.
    pub(crate) fn members(
        &mut self,
        all: &[Process],
        this: i32,
        has_mark: impl Fn(i32) -> Option<bool>,
    ) -> Vec<Process> {
        let mut pids = SortedSet::new();
        pids.insert(self.root);
        loop {
            let before = pids.len();
            for process in all.iter().filter(|process| process.pid != this) {
                let is_known = self.known.contains(&(process.pid, process.started));
                if is_known || self.is_near(process) || pids.contains(&process.parent) {
                    pids.insert(process.pid);
                }
            }
            if pids.len() == before {
                // The costly look, at those of whom nothing is known yet.
                let mut marked = Vec::new();
                for process in all.iter().filter(|process| process.pid != this && process.is_alive) {
                    let key = (process.pid, process.started);
                    if pids.contains(&process.pid) || self.strangers.contains(&key) {
                        continue;
                    }
                    let is_adopted = process.parent == this || process.parent == 1;
                    match has_mark(process.pid) {
                        Some(true) => marked.push(process.pid),
                        None if is_adopted => {}
                        Some(false) | None => drop(self.strangers.insert(key)),
                    }
                }
                if marked.is_empty() {
                    break;
                }
                pids.extend(marked);
            }
        }
        let members = all.iter().filter(|process| pids.contains(&process.pid));
        self.known.extend(members.clone().map(|process| (process.pid, process.started)));
        let (alive, ended) = members.copied().partition(|process| process.is_alive);
        self.ended = ended;
        alive
    }

    /// The members that `this` process inherited and that had ended at the last look.
    pub(crate) fn orphans(&self, this: i32) -> impl Iterator<Item = &Process> {
        self.ended.iter().filter(move |process| process.parent == this && process.pid != self.root)
    }

    fn is_near(&self, process: &Process) -> bool {
        process.session == self.root || process.group == self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, group: i32, session: i32) -> Process {
        Process { pid, parent, group, session, is_alive: true, started: 1 }
    }

    #[test]
    fn a_name_cannot_shift_the_fields() {
        let stat = "42 (a) Z 1 1 (b) S 7 8 9 0 -1 0 0 0 0 0 1 2 3 4 20 0 5 0 777 1 2";
        let want = Process { pid: 42, parent: 7, group: 8, session: 9, is_alive: true, started: 777 };
        assert_eq!(parse(stat), Some(want));
        assert!(!parse(&stat.replace(") S", ") Z")).unwrap().is_alive);
        assert_eq!(parse("42 (a) S 1"), None);
    }

    #[test]
    fn descendants_are_found_in_any_order_and_nobody_else() {
        // A zombie hides nobody that is below it, and a sibling in the same group is no descendant.
        let zombie = Process { is_alive: false, ..process(5, 9, 5, 5) };
        let all =
            [process(4, 5, 4, 4), zombie, process(9, 1, 9, 9), process(8, 1, 9, 9), process(3, 4, 9, 1)];
        let found: Vec<i32> = descendants(&all, 9).iter().map(|process| process.pid).collect();
        assert_eq!(found, [4, 3]);
        assert_eq!(descendants(&all, 3), []);
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
    fn a_look_is_shared_only_with_those_who_asked_before_it() {
        let looks = Looks::new();
        let (first, second) = (looks.all(), looks.all());
        assert!(!Arc::ptr_eq(&first, &second), "the second asked after the first look had begun");
        let later = Instant::now() + std::time::Duration::from_secs(60);
        looks.lock().last = Some((later, Arc::clone(&first)));
        assert!(Arc::ptr_eq(&first, &looks.all()));
    }

    #[test]
    fn all_that_wait_have_the_look_that_ends() {
        let (looks, seen) = (Looks::new(), Arc::from([]));
        looks.lock().is_looking = true;
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..8).map(|_| scope.spawn(|| looks.all())).collect();
            let later = Instant::now() + std::time::Duration::from_secs(60);
            // Another look is under way at once, which nobody waits for.
            *looks.lock() = State { last: Some((later, Arc::clone(&seen))), is_looking: true };
            looks.ended.notify_all();
            assert!(waiting.into_iter().all(|thread| Arc::ptr_eq(&thread.join().unwrap(), &seen)));
        });
    }

    #[test]
    fn ignored_signals_are_seen() {
        // SIGPIPE, which every program of the standard library ignores, and SIGCHLD, which this does not.
        let me = std::process::id() as i32;
        assert!(ignores(me, 13) && !ignores(me, 17) && !ignores(0, 13));
    }

    #[test]
    fn a_family_is_found_by_session_lineage_mark_and_memory() {
        let all = [
            process(1, 0, 1, 1),     // this one
            process(10, 1, 10, 10),  // the root
            process(11, 10, 10, 10), // in its group
            process(12, 1, 12, 10),  // an orphan in its session
            process(13, 11, 13, 13), // a grandchild with a session of its own
            process(14, 13, 14, 14), // its child
            process(15, 1, 15, 15),  // an orphan with the mark
            process(16, 15, 16, 16), // its child, without
            process(20, 1, 20, 20),  // another call
            process(21, 20, 20, 20),
        ];
        let mut family = Family::new(10);
        let pids = |members: Vec<Process>| members.iter().map(|process| process.pid).collect::<Vec<_>>();
        let members = family.members(&all, 1, |pid| Some(pid == 15));
        assert_eq!(pids(members), [10, 11, 12, 13, 14, 15, 16]);

        // Its parents gone, a member is still known, unless another process got its id.
        let mut orphan = process(14, 1, 14, 14);
        let later = [all[0], orphan, all[8]];
        assert_eq!(pids(family.members(&later, 1, |_| Some(false))), [14]);
        orphan.started = 2;
        assert_eq!(pids(family.members(&[all[0], orphan], 1, |_| Some(false))), [0; 0]);
    }

    #[test]
    fn an_orphan_in_the_middle_of_an_exec_is_asked_again() {
        let all =
            [process(5, 0, 5, 5), process(10, 5, 10, 10), process(15, 5, 15, 15), process(16, 9, 16, 16)];
        let mut family = Family::new(10);
        let pids = |members: Vec<Process>| members.iter().map(|process| process.pid).collect::<Vec<_>>();
        assert_eq!(pids(family.members(&all, 5, |_| None)), [10]);
        assert_eq!(pids(family.members(&all, 5, |_| Some(true))), [10, 15], "16 was never adopted");
    }

    #[test]
    fn the_dead_are_no_members_but_their_children_are() {
        let mut dead = process(11, 10, 11, 11);
        dead.is_alive = false;
        let mut orphan = process(13, 1, 10, 10);
        orphan.is_alive = false;
        let all = [process(10, 1, 10, 10), dead, process(12, 11, 12, 12), orphan];
        let mut family = Family::new(10);
        let members = family.members(&all, 1, |_| Some(false));
        assert_eq!(members.iter().map(|process| process.pid).collect::<Vec<_>>(), [10, 12]);
        assert_eq!(family.orphans(1).map(|process| process.pid).collect::<Vec<_>>(), [13]);
    }
}
