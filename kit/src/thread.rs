//! Named threads with small stacks. A thread that must not die ends the process when it panics.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::thread::{Builder, JoinHandle};

/// Stack of a thread here. Only touched pages cost memory; the depth needed is small and known, since
/// nothing recurses.
pub const STACK_BYTES: usize = 256 * 1024;

/// Exit code for a failure at run time.
const EXIT_FAILURE: i32 = 1;

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
            std::process::exit(EXIT_FAILURE)
        }
    })
}
