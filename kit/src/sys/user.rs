//! Which user this process runs as, and how it stops being root.

use std::io;

use super::check;

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

/// Turns root into the user and group `id`, with `group` as its one supplementary group, for good: real, effective
/// and saved ids are set, all capabilities are given up, whatever the securebits say (capabilities(7)), and no exec
/// can bring any back. It keeps its right to read `/proc/self`, which the change of ids would take (proc(5),
/// prctl(2)): other processes of the same user could look into it, so the user should be its own.
///
/// To be called before threads are started. Where it fails nothing has changed.
///
/// # Errors
/// When the kernel refuses: without the capabilities for it, or where the ids are not mapped (user_namespaces(7)).
pub fn leave_root(id: u32, group: Option<u32>) -> io::Result<()> {
    let before = groups()?;
    set_groups(group.as_slice())?;
    if let Err(error) = set_group(id).and_then(|()| set_user(id)) {
        // Still root: both can be undone, or did not happen.
        let _ = set_group(0);
        let _ = set_groups(&before);
        return Err(error);
    }
    give_up_capabilities()?;
    // SAFETY: takes numbers; this option reads the second argument only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    // SAFETY: as above.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) })?;
    Ok(())
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

fn set_group(id: u32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::setresgid(id, id, id) }).map(drop)
}

fn set_user(id: u32) -> io::Result<()> {
    // SAFETY: takes numbers.
    check(unsafe { libc::setresuid(id, id, id) }).map(drop)
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
