//! A directory for the socket that goes with the gateway. It is locked for as long as the gateway runs, so that the next
//! one can tell a directory that a killed gateway has left, and removes it.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use kit::sys::file::{is_at, open_directory, try_lock};
use kit::sys::{limits, user};

use super::socket::{Error, NAME, is_alive};
use super::state_dir::{MODE, OTHERS_WRITE, may_be_replaced_in};

/// What the names of such directories begin with.
const PREFIX: &str = "faas-gateway-";

/// Where one can be made: with a read-only root only the first can be written to.
const PLACES: [&str; 2] = ["/dev/shm", "/tmp"];

/// The longest path of a socket (unix(7)).
const MAX_PATH_BYTES: usize = 107;

/// The most entries of a folder that are looked at for directories that were left. More are not worth a slow start.
const MAX_ENTRIES: usize = 10_000;

/// How often a directory is made anew. Another gateway takes it for one that was left only where it looks between the
/// making and the locking.
const MAX_TRIES: usize = 3;

/// Makes one in `temporary` or where there can be one, and removes those that were left there.
///
/// # Errors
/// [`Error::System`] with the last place that was tried.
pub(super) fn make(temporary: Option<&Path>) -> Result<(PathBuf, File), Error> {
    let mut last = Error::System(PathBuf::from(NAME), io::ErrorKind::NotFound.into());
    let mut made = None;
    for parent in temporary.into_iter().chain(PLACES.map(Path::new)) {
        match remove_left(parent) {
            0 => {}
            count => log::info!("removed {count} directories of killed gateways from {}", parent.display()),
        }
        if made.is_none() {
            match make_in(parent) {
                Ok(own) => made = Some(own),
                Err((directory, error)) => last = Error::System(directory.join(NAME), error),
            }
        }
    }
    made.ok_or(last)
}

fn make_in(parent: &Path) -> Result<(PathBuf, File), (PathBuf, io::Error)> {
    let mut directory = PathBuf::new();
    for _ in 0..MAX_TRIES {
        directory = parent.join(format!("{PREFIX}{:016x}", limits::random()));
        match make_locked(&directory) {
            Ok(Some(lock)) => return Ok((directory, lock)),
            Ok(None) => {}
            Err(error) => return Err((directory, error)),
        }
    }
    Err((directory, io::Error::other("it was removed again and again")))
}

/// `None` where another gateway removes it.
fn make_locked(directory: &Path) -> io::Result<Option<File>> {
    if directory.join(NAME).as_os_str().len() > MAX_PATH_BYTES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    DirBuilder::new().mode(MODE).create(directory)?;
    let opened = match open_directory(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    // Without locks nobody removes it either.
    let is_locked = try_lock(&opened).unwrap_or(true);
    Ok((is_locked && is_at(directory, &opened)).then_some(opened))
}

/// Removes the directories of this user that gateways have left in a folder, and answers how many they were.
fn remove_left(folder: &Path) -> usize {
    if may_be_replaced_in(folder, OTHERS_WRITE) {
        return 0; // another directory could take the place of the one that was looked at
    }
    let entries = fs::read_dir(folder).into_iter().flatten().take(MAX_ENTRIES).flatten();
    let named = entries.filter(|entry| entry.file_name().as_bytes().starts_with(PREFIX.as_bytes()));
    named.filter(|entry| remove_if_left(&entry.path())).count()
}

/// Whether it was this user's, with nobody to use it, and is gone. Older gateways did not lock theirs; their sockets
/// tell.
fn remove_if_left(directory: &Path) -> bool {
    let Ok(opened) = open_directory(directory) else { return false };
    let is_own = opened.metadata().is_ok_and(|found| found.uid() == user::id());
    // Held until it is gone, so that no gateway takes it meanwhile.
    let is_locked = is_own && try_lock(&opened).unwrap_or(false);
    let socket = directory.join(NAME);
    if !is_locked || is_alive(&socket).unwrap_or(true) {
        return false;
    }
    let _ = fs::remove_file(socket); // it may not have come to that
    fs::remove_dir(directory).is_ok() // what else is there is somebody else's
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::socket::Place;
    use std::os::unix::net::UnixListener;

    fn count(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn it_is_private_and_goes_with_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::find(None, Some(folder.path())).unwrap();
        let directory = place.socket().parent().unwrap().to_owned();
        assert_eq!(directory.parent(), Some(folder.path()));
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, MODE);
        let listener = place.listen().unwrap();
        place.remove();
        drop(listener);
        assert_eq!(count(folder.path()), 0);
        // Where that cannot be, another place is.
        let place = Place::find(None, Some(&folder.path().join("nowhere"))).unwrap();
        assert!(PLACES.iter().any(|parent| place.socket().starts_with(parent)), "{place:?}");
        place.remove();
    }

    #[test]
    fn only_what_nobody_uses_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let directory = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let stale = directory("faas-gateway-stale");
        drop(UnixListener::bind(stale.join(NAME)).unwrap());
        let empty = directory("faas-gateway-empty");
        let full = directory("faas-gateway-full");
        fs::write(full.join("precious"), "").unwrap();
        let serving = directory("faas-gateway-serving");
        let _listener = UnixListener::bind(serving.join(NAME)).unwrap();
        let locked = directory("faas-gateway-locked");
        let lock = open_directory(&locked).unwrap();
        assert!(try_lock(&lock).unwrap());
        let other = directory("another");
        let target = directory("target");
        let link = folder.path().join("faas-gateway-link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let foreign = directory("faas-gateway-foreign");
        let is_foreign = std::os::unix::fs::chown(&foreign, Some(60_808), None).is_ok();
        assert_eq!(remove_left(folder.path()), if is_foreign { 2 } else { 3 });
        assert!(!stale.exists() && !empty.exists());
        for path in [full.join("precious"), serving.join(NAME), locked, other, target, link] {
            assert!(path.exists(), "{}", path.display());
        }
        assert_eq!(foreign.exists(), is_foreign);
        // In a folder like this, a name may lead elsewhere from one moment to the next.
        let again = directory("faas-gateway-again");
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(remove_left(folder.path()), 0);
        assert!(again.exists());
    }

    #[test]
    fn a_directory_that_another_gateway_takes_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("faas-gateway-one");
        std::thread::scope(|scope| {
            let made =
                scope.spawn(|| (0..200).filter_map(|_| make_in(folder.path()).ok()).collect::<Vec<_>>());
            while !made.is_finished() {
                remove_left(folder.path());
            }
            let made = made.join().unwrap();
            assert!(made.iter().all(|(path, lock)| is_at(path, lock)), "what was made stays");
        });
        let made = make_locked(&directory).unwrap();
        assert!(made.is_some() && !remove_if_left(&directory));
        drop(made);
        assert!(remove_if_left(&directory));
    }
}
