//! The lock file that old health checks look for (`cat /tmp/.lock`): there while fwatchdog serves.

use std::fs::File;
use std::path::{Path, PathBuf};

use kit::sys::file;

/// The file. It is removed when this is dropped.
pub(crate) struct LockFile {
    path: PathBuf,
    file: File,
}

impl LockFile {
    /// Makes the file, or takes the file that a killed fwatchdog has left. A failure, as on a read-only file system or
    /// where the file belongs to another user, is logged only: few health checks still need the file.
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
