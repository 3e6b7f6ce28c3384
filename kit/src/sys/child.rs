//! Child processes: started in a session of their own with clean signals and no descriptors but those
//! that are named, watched through a descriptor, and waited for exactly once.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::limits;
use super::signal::Signal;
use super::{check, retry, set};

pub use super::environment::Environment;
pub use super::spawn::Spawn;

/// The descriptor on which an inherited listening socket arrives (sd_listen_fds(3)).
pub const LISTENER_FD: i32 = 3;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this exit code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(code) => write!(f, "exit code {code}"),
            End::Killed(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A started child. Until it is dropped its id, group and session belong to nobody else, even when it has
/// ended. Dropped, it is waited for; if it still runs then, its group is killed first.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    fd: Option<OwnedFd>,
    end: Option<End>,
    is_reaped: bool,
}

impl Child {
    /// A process that this one has just started and that nobody has waited for.
    pub(super) fn new(pid: i32) -> Child {
        Child { pid, fd: open_pidfd(pid).ok(), end: None, is_reaped: false }
    }

    /// Waits for a process that has not become a child: it ended before its exec.
    pub(super) fn bury(pid: i32) {
        let _ = wait(libc::P_PID, pid, 0); // fails only where there is nothing to wait for
    }

    /// Its process id, which is also that of its group and its session.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor that becomes readable when it ends; `None` on kernels without pidfd_open(2), where
    /// [`Child::ended`] must be asked now and then.
    #[must_use]
    pub fn end_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// How it ended; `None` while it runs. Does not wait.
    ///
    /// # Errors
    /// When somebody else waited for it, against the rules.
    pub fn ended(&mut self) -> io::Result<Option<End>> {
        if self.end.is_none() {
            // Left a zombie, so that its id and its group cannot be taken by another process.
            self.end = wait(libc::P_PID, self.pid, libc::WNOHANG | libc::WNOWAIT)?.map(|(_, end)| end);
        }
        Ok(self.end)
    }

    /// Sends a signal to every process of its group. One without any is fine.
    pub fn signal_group(&self, signal: Signal) {
        // SAFETY: the call takes no pointers; the group is the child's, which was not waited for yet.
        let _ = check(unsafe { libc::kill(-self.pid, signal.number()) });
    }

    /// Sends it a signal, and none to what it has started.
    pub fn signal(&self, signal: Signal) {
        // SAFETY: the call takes no pointers; the id is the child's, which was not waited for yet.
        let _ = check(unsafe { libc::kill(self.pid, signal.number()) });
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When somebody else waited for it, against the rules.
    pub fn reap(mut self) -> io::Result<End> {
        self.is_reaped = true;
        let end = wait(libc::P_PID, self.pid, 0)?;
        end.map(|(_, end)| end).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        if self.ended().is_ok_and(|end| end.is_none()) {
            self.signal_group(Signal::KILL);
        }
        let _ = wait(libc::P_PID, self.pid, 0); // fails only where there is nothing to wait for
    }
}

/// waitid(2) for an end, with more `options`.
fn wait(kind: libc::idtype_t, id: i32, options: i32) -> io::Result<Option<(i32, End)>> {
    // SAFETY: siginfo_t is plain data for which all zeroes is valid.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let place = &raw mut info;
    let options = options | libc::WEXITED;
    // SAFETY: the pointer is to a siginfo_t that lives through the call.
    retry(|| check(unsafe { libc::waitid(kind, id as libc::id_t, place, options) }))?;
    // SAFETY: the call filled the fields for a child's end, or left them zero.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let end = if info.si_code == libc::CLD_EXITED { End::Exited(status) } else { End::Killed(status) };
    Ok(Some((pid, end)))
}

/// Kills every process of a group, which the caller knows to be that of a child not yet waited for.
pub fn kill_group(group: i32) {
    if group > 1 {
        // SAFETY: the call takes no pointers; 0 and 1 would mean this process's group and everybody.
        let _ = check(unsafe { libc::kill(-group, libc::SIGKILL) });
    }
}

/// Waits for orphans that have ended, those that this process inherited as init or as subreaper, and
/// answers how many they were.
///
/// To be called by the main thread, and that thread must start no children itself: an orphan becomes a
/// child of the first thread, and `__WNOTHREAD` (wait(2)) leaves alone what other threads started and wait
/// for.
#[must_use]
pub fn reap_orphans() -> usize {
    let options = libc::WNOHANG | libc::__WNOTHREAD;
    let mut count = 0;
    while let Ok(Some(_)) = wait(libc::P_ALL, 0, options) {
        count += 1;
    }
    count
}

/// Makes this process the parent of its orphaned descendants, as if it were init (prctl(2)).
///
/// # Errors
/// On kernels before 3.4.
pub fn become_subreaper() -> io::Result<()> {
    set(libc::PR_SET_CHILD_SUBREAPER, 1)
}

/// Has the kernel send this process SIGTERM when the thread that started it ends. `parent` is that
/// thread's process, as it told; the answer is whether it is there still.
///
/// # Errors
/// None that the kernel documents.
pub fn end_with_parent(parent: i32) -> io::Result<bool> {
    set(libc::PR_SET_PDEATHSIG, libc::SIGTERM as libc::c_ulong)?;
    // SAFETY: the call takes no arguments and cannot fail.
    Ok(unsafe { libc::getppid() } == parent)
}

/// A process that is not a child of ours, held so that a signal cannot hit another one that got its id.
pub struct Handle {
    pid: i32,
    fd: Option<OwnedFd>,
}

impl Handle {
    /// Takes hold of the process that has the id now. The caller looks at it afterwards, to be sure that it
    /// is the one that was meant, and then signals it at once. Where the kernel or a sandbox does not know pidfd_open(2)
    /// only the id is held: the process could end, and another take its id, between that look and the signal.
    ///
    /// # Errors
    /// When there is no such process, or no descriptor left: a process that cannot be held is not signalled.
    pub fn open(pid: i32) -> io::Result<Handle> {
        match open_pidfd(pid) {
            Ok(fd) => Ok(Handle { pid, fd: Some(fd) }),
            Err(error) if is_missing(&error) => Ok(Handle { pid, fd: None }),
            Err(error) => Err(error),
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended, or belongs to somebody else.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        if let Some(fd) = &self.fd {
            let (number, details) = (libc::SYS_pidfd_send_signal, std::ptr::null::<libc::siginfo_t>());
            // SAFETY: the null pointer stands for the details that kill(2) would give.
            let result = unsafe { libc::syscall(number, fd.as_raw_fd(), signal.number(), details, 0) };
            match check(result as i32) {
                Err(error) if is_missing(&error) => {}
                result => return result.map(drop),
            }
        }
        // SAFETY: the call takes no pointers; the caller has just looked whose id it is.
        check(unsafe { libc::kill(self.pid, signal.number()) }).map(drop)
    }

    /// Waits for its end, if it has ended and this process inherited it; else nothing happens. Without a
    /// descriptor (before Linux 5.4) it is left to [`reap_orphans`].
    pub fn reap(&self) {
        if let Some(fd) = &self.fd {
            let _ = wait(libc::P_PIDFD, fd.as_raw_fd(), libc::WNOHANG); // somebody was faster
        }
    }
}

/// The most descriptors that are looked at one by one, which takes a few milliseconds: more than anybody leaves open.
const MAX_LEFT_OPEN: u64 = 1 << 16;

/// Keeps every descriptor from 3 on that was open when this process started from its children: they get
/// what they are given and nothing that leaked in. To be called before the limit of open files is raised.
pub fn keep_descriptors() {
    let (first, last) = (LISTENER_FD as libc::c_uint, libc::c_uint::MAX);
    // SAFETY: the call takes no pointers, and closing at the exec changes nothing for this process.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 {
        return;
    }
    // Before Linux 5.11, and in old sandboxes: one by one, also without `/proc`.
    let end = limits::open_files().map_or(MAX_LEFT_OPEN, |limit| limit.min(MAX_LEFT_OPEN)) as i32;
    for fd in LISTENER_FD..end {
        // SAFETY: the call takes no pointers; a descriptor that is not open is an error only.
        let _ = check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) });
    }
}

/// Whether a call is missing: in an old kernel, or in a sandbox that does not know it (Docker before 20.10 answers EPERM).
fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
}

fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers; the descriptor closes itself at an exec.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32)?;
    // SAFETY: the kernel just returned this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Deadline;
    use crate::sys::{PollFd, Ready, pipe, poll};
    use std::ffi::CString;
    use std::fs::File;
    use std::net::TcpListener;
    use std::time::Duration;

    /// Starts a shell script, with our end of its stdout.
    fn shell(script: &str, listener: Option<BorrowedFd<'_>>) -> (Child, pipe::PipeEnd) {
        let argv = ["sh", "-c", script].map(|text| CString::new(text).unwrap());
        let environment = Environment::new(&crate::settings::inherited());
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let (ours, theirs) = pipe::from_child().unwrap();
        let stdio = [null.as_fd(), theirs.as_fd(), null.as_fd()];
        let directory = Some(c"/");
        let spawn = Spawn { directory, listener, ..Spawn::new(&argv, &environment, stdio) };
        (spawn.start().unwrap(), ours)
    }

    fn output(script: &str, listener: Option<BorrowedFd<'_>>) -> (String, End) {
        let (child, ours) = shell(script, listener);
        let mut text = Vec::with_capacity(4096);
        loop {
            let mut fds = [PollFd::new(ours.as_fd(), Ready::READ)];
            assert_eq!(poll(&mut fds, Deadline::after(Duration::from_secs(10))).unwrap(), 1);
            if ours.read(&mut text).unwrap() == Some(0) {
                return (String::from_utf8(text).unwrap(), child.reap().unwrap());
            }
        }
    }

    #[test]
    fn ends_are_told_apart() {
        assert_eq!(output("exit 7", None), (String::new(), End::Exited(7)));
        assert_eq!(output("echo a; kill -9 $$", None), ("a\n".to_owned(), End::Killed(9)));
    }

    #[test]
    fn signals_start_clean_and_descriptors_stay_out() {
        let _blocked = crate::sys::signal::block(&[Signal::HUP]).unwrap();
        let _open = File::open("/dev/null").unwrap();
        keep_descriptors();
        let (text, end) = output("grep -E '^Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd; pwd", None);
        // `ls` itself has the folder open, as descriptor 3.
        let zero = "0000000000000000";
        assert_eq!(text, format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n0\n1\n2\n3\n/\n"));
        assert_eq!(end, End::Exited(0));
    }

    #[test]
    fn a_child_leads_its_session_and_group() {
        let (text, _) = output("cut -d' ' -f1,5,6 /proc/$$/stat", None);
        let ids: Vec<&str> = text.split_whitespace().collect();
        assert!(ids.len() == 3 && ids[0] == ids[1] && ids[1] == ids[2], "{text}");
    }

    #[test]
    fn a_listener_arrives_as_descriptor_3() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (text, _) = output("readlink /proc/$$/fd/3", Some(listener.as_fd()));
        assert!(text.starts_with("socket:["), "{text}");
    }

    #[test]
    fn the_end_is_seen_and_the_group_dies_on_drop() {
        let (mut child, ours) = shell("sleep 600 & echo started; wait", None);
        let mut fds = [PollFd::new(ours.as_fd(), Ready::READ)];
        poll(&mut fds, Deadline::after(Duration::from_secs(10))).unwrap();
        assert_eq!(child.ended().unwrap(), None);
        child.signal_group(Signal::TERM);
        let end = child.end_fd().map(|fd| PollFd::new(fd, Ready::READ)).unwrap();
        assert_eq!(poll(&mut [end], Deadline::after(Duration::from_secs(10))).unwrap(), 1);
        assert_eq!(child.ended().unwrap(), Some(End::Killed(15)));
        assert!(Handle::open(child.pid()).is_ok(), "its id stays taken");

        let (child, _ours) = shell("sleep 600", None);
        let pid = child.pid();
        drop(child);
        assert!(Handle::open(pid).is_err());
    }

    #[test]
    fn a_missing_program_is_an_error() {
        let null = File::open("/dev/null").unwrap();
        let argv = [c"/nonexistent/program".to_owned()];
        let environment = Environment::default();
        let stdio = [null.as_fd(); 3];
        let spawn = Spawn::new(&argv, &environment, stdio);
        assert_eq!(spawn.start().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(Spawn { argv: &[], ..spawn }.start().is_err());
    }

    #[test]
    fn only_orphans_are_reaped() {
        become_subreaper().unwrap();
        // What this thread started is in its own list, as an orphan would be in the main thread's.
        let (mut own, _ours) = shell("exit 3", None);
        let other = std::thread::spawn(reap_orphans).join().unwrap();
        assert_eq!(other, 0, "children of other threads are left alone");
        let end = own.end_fd().map(|fd| PollFd::new(fd, Ready::READ)).unwrap();
        poll(&mut [end], Deadline::after(Duration::from_secs(10))).unwrap();
        assert_eq!(std::thread::spawn(reap_orphans).join().unwrap(), 0);
        assert_eq!(own.ended().unwrap(), Some(End::Exited(3)));
    }
}
