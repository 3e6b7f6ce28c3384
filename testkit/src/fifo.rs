//! Named pipes.

use std::path::Path;
use std::process::Command;

/// Makes a named pipe, as mkfifo(1) does.
///
/// # Panics
/// When it cannot be made.
#[track_caller]
pub fn fifo(path: &Path) {
    let made = Command::new("mkfifo").arg(path).status();
    assert!(made.is_ok_and(|status| status.success()), "no named pipe at {}", path.display());
}
