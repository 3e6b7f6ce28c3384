//! Which user this process runs as, and how it stops being root.

use std::io;

use super::check;

/// The user and the group that own nothing: `nobody` and `nogroup` of most systems.
pub const NOBODY: u32 = 65534;

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    // SAFETY: takes no argument and cannot fail (geteuid(2)).
    unsafe { libc::geteuid() == 0 }
}

/// Turns root into [`NOBODY`], with `group` as its one supplementary group, for good: real, effective and saved
/// ids are set, and with the user id go all capabilities (capabilities(7)). It keeps its right to read
/// `/proc/self`, which the change of ids would take (proc(5), prctl(2)).
///
/// To be called before threads are started. Nothing is changed when the first step fails.
///
/// # Errors
/// When the kernel refuses: without the capabilities for it, or where the ids are not mapped (user_namespaces(7)).
pub fn become_nobody(group: Option<u32>) -> io::Result<()> {
    let groups: Vec<libc::gid_t> = group.into_iter().collect();
    // SAFETY: the pointer and the size describe `groups`, which lives through the call.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
    // SAFETY: takes numbers.
    check(unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) })?;
    // SAFETY: takes numbers.
    check(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) })?;
    // SAFETY: takes numbers; this option reads the second argument only.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;

    /// Set in the environment of the child that the test starts: ids are changed there, not here.
    const ENV_CHILD: &str = "FAAS_TEST_BECOMES_NOBODY";

    #[test]
    #[allow(clippy::disallowed_methods)] // tells the child from its parent
    fn root_becomes_nobody_for_good() {
        if std::env::var_os(ENV_CHILD).is_some() {
            become_nobody(Some(4242)).expect("the kernel allows it");
            let status = fs::read_to_string("/proc/thread-self/status").expect("its own status");
            let line =
                |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or("").to_owned();
            assert_eq!(line("Uid:"), "Uid:\t65534\t65534\t65534\t65534");
            assert_eq!(line("Gid:"), "Gid:\t65534\t65534\t65534\t65534");
            assert_eq!(line("Groups:").trim_end(), "Groups:\t4242");
            assert_eq!(line("CapEff:"), "CapEff:\t0000000000000000");
            assert!(!is_root() && become_nobody(None).is_err());
            fs::read_dir("/proc/self/fd").expect("still its own");
            return;
        }
        if !is_root() {
            assert!(become_nobody(None).is_err());
            return;
        }
        let test = std::env::current_exe().expect("this test");
        let mut child = Command::new(test);
        child.args(["--exact", "sys::user::tests::root_becomes_nobody_for_good"]).env(ENV_CHILD, "1");
        let output = child.output().expect("the child starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    }
}
