//! The lock file that old health checks look for (`cat /tmp/.lock`): there while fwatchdog serves.

use std::fs::File;
use std::path::{Path, PathBuf};

use kit::sys::file;

/// The file; it goes when this is dropped.
pub(crate) struct LockFile {
    path: PathBuf,
    file: File,
}

impl LockFile {
    /// Makes it, or takes the one that a killed fwatchdog has left. Where that cannot be done, such as on a file system
    /// that is read-only, or where the file is somebody else's, this is logged and nothing else: it is there for checks
    /// that few still use.
    pub(crate) fn create(path: &Path) -> Option<LockFile> {
        match file::make_own(path) {
            Ok(file) => Some(LockFile { path: path.to_owned(), file }),
            Err(error) => {
                log::warn!("cannot make the lock file {}: {error}; see suppress_lock", path.display());
                None
            }
        }
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        file::remove_own(&self.path, &self.file);
    }
}
