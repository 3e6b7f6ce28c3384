//! Named threads with small stacks. A thread that must not die ends the process when it panics.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::thread::{Builder, JoinHandle};

use crate::Guarded;
use crate::exit::EXIT_FAILURE;

/// Stack of a thread here. Only touched pages cost memory; the depth needed is small and known, since
/// nothing recurses.
pub const STACK_BYTES: usize = 256 * 1024;

/// Starts a named thread.
///
/// # Errors
/// When the system has no room for another thread (`EAGAIN`).
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.to_owned()).stack_size(STACK_BYTES).spawn(body)
}

/// Starts a named thread whose panic ends the process with exit code 1: the program cannot go on
/// without it, and a supervisor that restarts the process is better than a half-dead one.
///
/// # Errors
/// When the system has no room for another thread (`EAGAIN`).
pub fn spawn_vital<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let owned = name.to_owned();
    spawn(name, move || match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(_) => {
            log::error!("thread {owned} panicked, giving up");
            std::process::exit(i32::from(EXIT_FAILURE))
        }
    })
}

/// A vital thread for a shared owner, who stops and joins it once.
pub struct Joined(Guarded<Option<JoinHandle<()>>>);

impl Joined {
    /// Starts the thread, see [`spawn_vital`].
    ///
    /// # Errors
    /// When the system has no room for another thread (`EAGAIN`).
    pub fn start(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<Joined> {
        spawn_vital(name, body).map(|thread| Joined(Guarded::new(Some(thread))))
    }

    /// Waits for the end of the thread, which the caller has told to stop. A second call does nothing.
    pub fn join(&self) {
        let thread = self.0.lock().take();
        if let Some(thread) = thread {
            let _ = thread.join(); // a panic of the thread has ended the process
        }
    }
}
