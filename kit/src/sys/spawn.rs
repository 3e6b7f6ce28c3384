//! Starting a child.
//!
//! `posix_spawn` is used rather than fork and exec: the child borrows this process's memory until its exec,
//! so that starting one costs the same however large this process is.

use std::ffi::{CStr, CString};
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::child::{Child, LISTENER_FD};
use super::environment::Environment;
use super::signal::{empty, ignored};

/// What a child is made of.
pub struct Spawn<'a> {
    /// The program, looked up in `PATH` where it has no slash, and its arguments.
    pub argv: &'a [CString],
    /// Its environment.
    pub environment: &'a Environment,
    /// Its stdin, stdout and stderr.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Its working directory, else this process's.
    pub directory: Option<&'a CStr>,
    /// A socket that it is to find as [`LISTENER_FD`].
    pub listener: Option<BorrowedFd<'a>>,
}

impl Spawn<'_> {
    /// Starts the child. It leads a session and a process group of its own; signals have their default
    /// dispositions and none is blocked.
    ///
    /// # Errors
    /// What execve(2) says, such as `NotFound`; `EAGAIN` when there is no room for another process;
    /// `InvalidInput` without a program.
    pub fn start(&self) -> io::Result<Child> {
        let argv = self.argv.iter().map(|argument| argument.as_ptr().cast_mut());
        let argv: Vec<*mut libc::c_char> = argv.chain([std::ptr::null_mut()]).collect();
        if argv[0].is_null() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a child needs a program"));
        }
        let environment = self.environment.pointers();
        let (actions, attributes) = (self.actions()?, Attributes::new()?);
        let (mut pid, program) = (0, argv[0].cast_const());
        let (argv, environment) = (argv.as_ptr(), environment.as_ptr());
        let (actions, attributes) = (&raw const actions.0, &raw const attributes.0);
        // SAFETY: all pointers are to valid objects that live through the call; both arrays end with null.
        spawned(unsafe {
            libc::posix_spawnp(&raw mut pid, program, actions, attributes, argv, environment)
        })?;
        Ok(Child::new(pid))
    }

    /// Every other descriptor of this process closes itself at the exec.
    fn actions(&self) -> io::Result<Actions> {
        let mut actions = Actions::new()?;
        for (target, source) in self.stdio.iter().enumerate() {
            actions.duplicate(source.as_raw_fd(), target as i32)?;
        }
        if let Some(listener) = self.listener {
            actions.duplicate(listener.as_raw_fd(), LISTENER_FD)?;
        }
        if let Some(directory) = self.directory {
            actions.change_directory(directory)?;
        }
        Ok(actions)
    }
}

/// The `posix_spawn` family returns the error instead of setting `errno`.
fn spawned(error: libc::c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

struct Actions(libc::posix_spawn_file_actions_t);

impl Actions {
    fn new() -> io::Result<Actions> {
        // SAFETY: plain data, which the call below makes valid.
        let mut actions = unsafe { mem::zeroed() };
        // SAFETY: the pointer is to memory of the right type.
        spawned(unsafe { libc::posix_spawn_file_actions_init(&raw mut actions) })?;
        Ok(Actions(actions))
    }

    /// In the child the copy stays open across the exec, also where both numbers are the same.
    fn duplicate(&mut self, source: i32, target: i32) -> io::Result<()> {
        // SAFETY: the actions were initialised, the descriptors are plain numbers.
        spawned(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, source, target) })
    }

    fn change_directory(&mut self, path: &CStr) -> io::Result<()> {
        // SAFETY: the actions were initialised, and the path, which the call copies, ends with NUL.
        spawned(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut self.0, path.as_ptr()) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: they were initialised and are destroyed once.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Attributes> {
        // SAFETY: plain data, which the call below makes valid.
        let mut raw = unsafe { mem::zeroed() };
        // SAFETY: the pointer is to memory of the right type.
        spawned(unsafe { libc::posix_spawnattr_init(&raw mut raw) })?;
        let mut attributes = Attributes(raw);
        // A handler ends at the exec by itself; what is ignored would stay so (execve(2)).
        let (ignored, none) = (&raw const ignored().0, empty());
        // SAFETY: the attributes were initialised, and the set is static.
        spawned(unsafe { libc::posix_spawnattr_setsigdefault(&raw mut attributes.0, ignored) })?;
        // SAFETY: as above.
        spawned(unsafe { libc::posix_spawnattr_setsigmask(&raw mut attributes.0, &raw const none) })?;
        let flags =
            libc::POSIX_SPAWN_SETSID as i32 | libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        // SAFETY: the attributes were initialised; the flags are those that the library knows.
        spawned(unsafe { libc::posix_spawnattr_setflags(&raw mut attributes.0, flags as libc::c_short) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: they were initialised and are destroyed once.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}
