//! Which processes belong together: the family of one call, and the descendants of one process.

use super::sorted_set::SortedSet;
use super::table::Process;

/// The living processes among `all` that descend from `root`.
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

/// The processes that one call started, as far as they are known. The set grows with each scan.
pub(crate) struct Family {
    /// The process that was started for the call. It leads a session. Nobody waits for it while this is in use, so that
    /// no other process can get its id, group or session.
    root: i32,
    known: SortedSet<(i32, u64)>,
    /// Processes known not to carry the mark: they are not checked again. An adopted process without an environment is
    /// checked again, since it may be in an execve(2).
    strangers: SortedSet<(i32, u64)>,
    /// Members that had ended at the last scan and that nobody has waited for.
    ended: Vec<Process>,
}

impl Family {
    pub(crate) fn new(root: i32) -> Family {
        Family { root, known: SortedSet::new(), strangers: SortedSet::new(), ended: Vec::new() }
    }

    /// The living members among `all`: the session and group of the root, processes for which `has_mark` holds, members
    /// from before, and all that these started. `this` process is never a member.
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
                // The costly check, of processes of which nothing is known.
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

    /// The members that `this` process inherited and that had ended at the last scan.
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
    fn descendants_are_found_in_any_order_and_no_others() {
        // A zombie does not hide its descendants, and a sibling in the same group is no descendant.
        let zombie = Process { is_alive: false, ..process(5, 9, 5, 5) };
        let all =
            [process(4, 5, 4, 4), zombie, process(9, 1, 9, 9), process(8, 1, 9, 9), process(3, 4, 9, 1)];
        let found: Vec<i32> = descendants(&all, 9).iter().map(|process| process.pid).collect();
        assert_eq!(found, [4, 3]);
        assert_eq!(descendants(&all, 3), []);
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

        // A member without its parents is still known, unless another process has its id.
        let mut orphan = process(14, 1, 14, 14);
        let later = [all[0], orphan, all[8]];
        assert_eq!(pids(family.members(&later, 1, |_| Some(false))), [14]);
        orphan.started = 2;
        assert_eq!(pids(family.members(&[all[0], orphan], 1, |_| Some(false))), [0; 0]);
    }

    #[test]
    fn an_orphan_in_an_exec_is_checked_again() {
        let all =
            [process(5, 0, 5, 5), process(10, 5, 10, 10), process(15, 5, 15, 15), process(16, 9, 16, 16)];
        let mut family = Family::new(10);
        let pids = |members: Vec<Process>| members.iter().map(|process| process.pid).collect::<Vec<_>>();
        assert_eq!(pids(family.members(&all, 5, |_| None)), [10]);
        assert_eq!(pids(family.members(&all, 5, |_| Some(true))), [10, 15], "16 was never adopted");
    }

    #[test]
    fn ended_processes_are_no_members_and_their_children_are() {
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
