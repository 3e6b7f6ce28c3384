//! Which user this process runs as, and how it stops being root.

use std::io;

use super::{check, set};
use crate::exit::EXIT_FAILURE;

/// The user as whom this process runs.
#[must_use]
pub fn id() -> u32 {
    // SAFETY: takes no argument and cannot fail (geteuid(2)).
    unsafe { libc::geteuid() }
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    id() == 0
}

/// Keeps others of its user out of this process, and gives no new rights to what it starts: to be called first of all.
///
/// Nobody but root can look into its memory, environment and descriptors, take a copy of these or trace it
/// (`PR_SET_DUMPABLE`); no core is dumped. A child is open again from its exec on. What this process starts stays within
/// its rights, also where a program is set-user-ID or has capabilities (`PR_SET_NO_NEW_PRIVS`): so it can be signalled.
///
/// # Errors
/// Where a sandbox does not allow it.
pub fn shut() -> io::Result<()> {
    set(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    set(libc::PR_SET_DUMPABLE, 0)
}

/// Turns root into the user and group `id`, with `group` as its one supplementary group, for good: real, effective
/// and saved ids are set, all capabilities are given up, whatever the securebits say (capabilities(7)), and no exec
/// can bring any back. Nobody of that user can look into it, see [`shut`].
///
/// To be called before threads are started. Where it fails nothing has changed. A process that is neither root nor
/// without its rights must not go on: that ends it with a line.
///
/// # Errors
/// When the kernel refuses: without the capabilities for it, or where the ids are not mapped (user_namespaces(7)).
pub fn leave_root(id: u32, group: Option<u32>) -> io::Result<()> {
    set(libc::PR_SET_NO_NEW_PRIVS, 1)?;
    let (groups_before, group_before) = (groups()?, group_ids()?);
    set_groups(group.as_slice())?;
    if let Err(error) = set_group([id; 3]).and_then(|()| set_user(id)) {
        // Still root: both can be undone, or did not happen.
        let undone = set_group(group_before).and_then(|()| set_groups(&groups_before));
        return undone.map_or_else(|error| end(&error), |()| Err(error));
    }
    // The change of ids has set it to what the system says (fs.suid_dumpable, proc(5)).
    let rest = give_up_capabilities().and_then(|()| set(libc::PR_SET_DUMPABLE, 0));
    rest.or_else(|error| end(&error))
}

fn end<T>(error: &io::Error) -> T {
    log::error!("ending, since root was left half way: {error}");
    std::process::exit(i32::from(EXIT_FAILURE))
}

fn groups() -> io::Result<Vec<libc::gid_t>> {
    // SAFETY: with no room given the call only tells how many there are.
    let count = check(unsafe { libc::getgroups(0, std::ptr::null_mut()) })?;
    let mut groups = vec![0; count as usize];
    // SAFETY: the pointer and the size describe `groups`, which lives through the call.
    let count = check(unsafe { libc::getgroups(count, groups.as_mut_ptr()) })?;
    groups.truncate(count as usize);
    Ok(groups)
}

fn set_groups(groups: &[libc::gid_t]) -> io::Result<()> {
    // SAFETY: the pointer and the size describe `groups`, which lives through the call.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }).map(drop)
}

/// The real, the effective and the saved one.
fn group_ids() -> io::Result<[libc::gid_t; 3]> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: the pointers are to numbers that live through the call.
    check(unsafe { libc::getresgid(&raw mut real, &raw mut effective, &raw mut saved) })?;
    Ok([real, effective, saved])
}

fn set_group([real, effective, saved]: [libc::gid_t; 3]) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::setresgid(real, effective, saved) }).map(drop)
}

fn set_user(id: u32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::setresuid(id, id, id) }).map(drop)
}

#[cfg(not(any(target_arch = "arm", target_arch = "x86")))]
use libc::{SYS_setgroups as GROUPS, SYS_setresgid as GROUP, SYS_setresuid as USER};
/// The calls that take ids of 32 bits: the other three are older there.
#[cfg(any(target_arch = "arm", target_arch = "x86"))]
use libc::{SYS_setgroups32 as GROUPS, SYS_setresgid32 as GROUP, SYS_setresuid32 as USER};

/// Turns a child of root's that is about to execve(2) into the user and group `id`, without other groups and, as it is
/// no more root, capabilities (capabilities(7)). By the system calls themselves: the C libraries have all threads of the
/// process make them, which a child that shares this memory must not ask for.
pub(super) fn become_user(id: u32) -> io::Result<()> {
    let none = std::ptr::null::<libc::gid_t>();
    // SAFETY: of no groups nothing is read.
    check(unsafe { libc::syscall(GROUPS, 0, none) } as libc::c_int)?;
    for call in [GROUP, USER] {
        // SAFETY: takes numbers.
        check(unsafe { libc::syscall(call, id, id, id) } as libc::c_int)?;
    }
    Ok(())
}

/// The sets of capset(2): effective, permitted and inheritable, each in two halves. The ambient set follows.
fn give_up_capabilities() -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let (header, none) = ([VERSION_3, 0], [0_u32; 6]);
    let (header, none) = (header.as_ptr(), none.as_ptr());
    // SAFETY: both pointers are to arrays of the size that this version asks for and live through the call.
    check(unsafe { libc::syscall(libc::SYS_capset, header, none) } as i32).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    const ID: u32 = 60_808;

    /// Set in the environment of the child that the test starts: ids are changed there, not here.
    const ENV_CHILD: &str = "FAAS_TEST_LEAVES_ROOT";

    #[test]
    #[allow(clippy::disallowed_methods)] // tells the child from its parent
    fn root_is_left_for_good() {
        if std::env::var_os(ENV_CHILD).is_some() {
            leave_root(ID, Some(4242)).expect("the kernel allows it");
            let status = fs::read_to_string("/proc/thread-self/status").expect("its own status");
            let line =
                |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or("").to_owned();
            assert_eq!(line("Uid:"), "Uid:\t60808\t60808\t60808\t60808");
            assert_eq!(line("Gid:"), "Gid:\t60808\t60808\t60808\t60808");
            assert_eq!(line("Groups:").trim_end(), "Groups:\t4242");
            for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
                assert_eq!(line(&format!("{set}:")), format!("{set}:\t0000000000000000"));
            }
            assert_eq!(line("NoNewPrivs:"), "NoNewPrivs:\t1");
            assert!(!is_root() && leave_root(ID, None).is_err());
            fs::read_dir("/proc/self/fd").expect("still its own");
            fs::read("/proc/self/environ").expect_err("nobody's but root's");
            return;
        }
        if !is_root() {
            assert!(leave_root(ID, None).is_err());
            return;
        }
        let test = std::env::current_exe().expect("this test");
        let mut child = Command::new(test);
        child.args(["--exact", "sys::user::tests::root_is_left_for_good"]).env(ENV_CHILD, "1");
        let output = child.output().expect("the child starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }
}
