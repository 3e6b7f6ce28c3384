//! The lock file that old health checks look for (`cat /tmp/.lock`): there while fwatchdog serves.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// The file; it goes when this is dropped.
pub(crate) struct LockFile(PathBuf);

impl LockFile {
    /// Creates it. Where that cannot be done, such as on a file system that is read-only, this is logged and
    /// nothing else: it is there for checks that few still use.
    pub(crate) fn create(path: &Path) -> Option<LockFile> {
        match File::create(path) {
            Ok(_) => Some(LockFile(path.to_owned())),
            Err(error) => {
                log::warn!("cannot write the lock file {}: {error}; see suppress_lock", path.display());
                None
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // somebody was faster
    }
}
