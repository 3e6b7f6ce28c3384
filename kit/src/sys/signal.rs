//! Signals without handlers: blocked in every thread from the start, and taken by one thread that waits
//! for them (sigtimedwait(2)). A signal therefore never interrupts anything.

use std::io;
use std::mem;
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

use super::check;

/// The last signal there is (`_NSIG`).
const MAX_SIGNAL: i32 = 64;

/// A signal, see signal(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// Read the configuration again.
    pub const HUP: Signal = Signal(libc::SIGHUP);
    /// Interrupt from the keyboard.
    pub const INT: Signal = Signal(libc::SIGINT);
    /// End now; cannot be ignored.
    pub const KILL: Signal = Signal(libc::SIGKILL);
    /// Quit from the keyboard; as servers take it, end in order.
    pub const QUIT: Signal = Signal(libc::SIGQUIT);
    /// A reader went away.
    pub const PIPE: Signal = Signal(libc::SIGPIPE);
    /// End in order.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// A child ended.
    pub const CHLD: Signal = Signal(libc::SIGCHLD);
    /// A file grew to its limit (`RLIMIT_FSIZE`).
    pub const XFSZ: Signal = Signal(libc::SIGXFSZ);

    /// Its number, as `kill -l` lists them.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.0
    }
}

/// Ignores a signal in this process. Its children get the default back.
pub fn ignore(signal: Signal) {
    // SAFETY: the disposition names no function.
    unsafe { libc::signal(signal.0, libc::SIG_IGN) }; // fails for no signal but SIGKILL and SIGSTOP
}

/// A set of blocked signals, to be waited for.
pub struct Signals(pub(super) libc::sigset_t);

/// Blocks `signals` in this thread and in those that it starts from now on: the main thread calls it before
/// it starts any. A disposition that was inherited is reset to the default, since an ignored SIGCHLD would
/// take every child's exit code away (wait(2)).
///
/// # Errors
/// When one of them is not a signal.
pub fn block(signals: &[Signal]) -> io::Result<Signals> {
    let set = Signals::of(signals)?;
    for signal in signals {
        // SAFETY: the default disposition names no function.
        let previous = unsafe { libc::signal(signal.0, libc::SIG_DFL) };
        if previous == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: the set was filled above; the null pointer says that the old mask is not wanted.
    check_number(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set.0, ptr::null_mut()) })?;
    Ok(set)
}

impl Signals {
    /// A set to wait for; its signals must have been blocked by [`block`].
    ///
    /// # Errors
    /// When one of them is not a signal.
    pub fn of(signals: &[Signal]) -> io::Result<Signals> {
        let mut set = empty();
        for signal in signals {
            // SAFETY: the pointer is to a set that `empty` made and that lives through the call.
            check(unsafe { libc::sigaddset(&raw mut set, signal.0) })?;
        }
        Ok(Signals(set))
    }

    /// Takes the next signal of the set, or answers `None` when `timeout` has passed; `None` waits for ever.
    /// Equal signals that come together are one.
    #[must_use]
    pub fn wait(&self, timeout: Option<Duration>) -> Option<Signal> {
        let limit = timeout.map(|span| libc::timespec {
            tv_sec: span.as_secs().min(i32::MAX as u64) as _, // the type differs between C libraries
            tv_nsec: span.subsec_nanos() as _,
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        loop {
            // SAFETY: the set is valid, the null pointer means no details, the limit is null or lives on.
            match check(unsafe { libc::sigtimedwait(&raw const self.0, ptr::null_mut(), limit) }) {
                Ok(number) => return Some(Signal(number)),
                // Interrupted by a signal outside of the set, such as a debugger's: the wait starts again.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

/// The empty set.
pub(super) fn empty() -> libc::sigset_t {
    // SAFETY: sigset_t is plain data, and all zeroes is the empty set on Linux.
    unsafe { mem::zeroed() }
}

/// A set of signals as the kernel has it: all of them, also those that the C libraries keep for themselves and leave out
/// of the sets that they make.
type Mask = [u8; SET_BYTES];

/// All signals blocked in this thread, until it is dropped: the mask is then what it was.
pub(super) struct Blocked(Mask);

impl Blocked {
    /// # Errors
    /// None that the kernel documents.
    pub(super) fn all() -> io::Result<Blocked> {
        set_mask(&[0xff; SET_BYTES]).map(Blocked)
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        let _ = set_mask(&self.0); // it was the kernel's
    }
}

/// Unblocks all signals, in a child that is about to execve(2): one system call and no more.
pub(super) fn unblock_all() -> io::Result<()> {
    set_mask(&[0; SET_BYTES]).map(drop)
}

/// Sets the mask of this thread, and returns the one from before.
fn set_mask(mask: &Mask) -> io::Result<Mask> {
    let mut before = [0; SET_BYTES];
    let (number, how) = (libc::SYS_rt_sigprocmask, libc::SIG_SETMASK);
    let (new, old) = (mask.as_ptr(), before.as_mut_ptr());
    // SAFETY: both pointers are to sets of the size that is given, which live through the call; it reads the first and
    // fills the second.
    check(unsafe { libc::syscall(number, how, new, old, SET_BYTES) } as libc::c_int)?;
    Ok(before)
}

/// Some calls return the error instead of setting `errno`.
fn check_number(error: libc::c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// What rt_sigaction(2) reads and writes: the handler first, then flags, restorer and mask. All zeroes are the
/// default disposition, whatever the order of the rest. The C libraries' own call is no way to look at their own
/// signals, and musl's takes a lock.
type Disposition = [usize; 8];

/// The size of the kernel's set of signals on all architectures that this runs on.
const SET_BYTES: usize = MAX_SIGNAL as usize / 8;

/// The signals that this process ignores or handles: those that its parent had it ignore, SIGPIPE, which the standard
/// library ignores, and those for which that has a handler. Looked up once, where the first child is started, since
/// nothing changes them later. An ignored SIGCHLD is given up then: children would vanish without an exit code, and their
/// ids would belong to others while they are still used (wait(2)).
pub(super) fn not_default() -> &'static [i32] {
    static NOT_DEFAULT: OnceLock<Vec<i32>> = OnceLock::new();
    NOT_DEFAULT.get_or_init(|| {
        let _ = set_default(libc::SIGCHLD); // fails for no signal but SIGKILL and SIGSTOP
        let is_set = |signal: &i32| {
            let (mut action, none) = (Disposition::default(), ptr::null::<Disposition>());
            let (number, place) = (libc::SYS_rt_sigaction, &raw mut action);
            // SAFETY: the null pointer changes nothing; the other is to more room than the call fills.
            let result = unsafe { libc::syscall(number, *signal, none, place, SET_BYTES) };
            result == 0 && action[0] != libc::SIG_DFL
        };
        (1..=MAX_SIGNAL).filter(is_set).collect()
    })
}

/// Gives a signal its default disposition: one system call and no more, so that a child may make it that is about to
/// execve(2), where locks and memory may not be taken.
pub(super) fn set_default(signal: i32) -> io::Result<()> {
    let (default, none) = (Disposition::default(), ptr::null::<Disposition>());
    let (number, action) = (libc::SYS_rt_sigaction, &raw const default);
    // SAFETY: the pointer is to more than the call reads, a disposition that names no function; the null pointer
    // says that the old one is not wanted.
    check(unsafe { libc::syscall(number, signal, action, none, SET_BYTES) } as libc::c_int)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_is_taken_by_the_wait() {
        // SIGWINCH: ignored by default, so that other threads of the test program do not mind it.
        let signal = Signal(libc::SIGWINCH);
        let set = block(&[signal]).unwrap();
        assert_eq!(set.wait(Some(Duration::from_millis(1))), None);
        // SAFETY: the call takes no pointers; it signals this very thread, where it is blocked.
        assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), signal.0) }, 0);
        assert_eq!(set.wait(Some(Duration::from_secs(5))), Some(signal));
        assert_eq!(set.wait(Some(Duration::ZERO)), None);
    }
}
