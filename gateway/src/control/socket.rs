//! Where the control plane's socket is: in `state_dir`, else in a directory of its own that goes with the gateway.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kit::Deadline;
use kit::sys::{Socket, listen_unix};

use super::{state_dir, temporary};

/// The socket's name in its directory.
pub(super) const NAME: &str = "control.sock";

/// Who may use it: the gateway's own user, and root. The kernel asks for the right to write (unix(7)), so that the
/// server, which cannot tell who connects, need not.
const SOCKET_MODE: u32 = 0o600;

/// How long it takes at most to find out whether somebody listens. On one host that is known at once.
const PROBE_TIME: Duration = Duration::from_secs(1);

/// Why there is no socket.
#[derive(Debug)]
pub(crate) enum Error {
    /// Another gateway listens there.
    Taken(PathBuf),
    /// Others could put a socket of theirs there.
    Unsafe(String),
    /// The system refused a path.
    System(PathBuf, io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Taken(path) => {
                write!(f, "another gateway listens on {}: each needs a state_dir of its own", path.display())
            }
            Error::Unsafe(why) => f.write_str(why),
            Error::System(path, source) => {
                write!(f, "failed to make its socket {}, see state_dir: {source}", path.display())
            }
        }
    }
}

/// The directory of the socket.
#[derive(Debug)]
pub(super) struct Place {
    directory: PathBuf,
    /// The directory itself, where it was made for the socket alone and is removed with it. It is locked.
    lock: Option<File>,
}

impl Place {
    /// `state_dir`, made if need be; else a new directory in `temporary`, or where there can be one.
    ///
    /// # Errors
    /// [`Error::Unsafe`] where others may write to `state_dir`; [`Error::System`] with the last place that was tried.
    pub(super) fn find(state_dir: Option<&Path>, temporary: Option<&Path>) -> Result<Place, Error> {
        let Some(directory) = state_dir else {
            let (directory, lock) = temporary::make(temporary)?;
            return Ok(Place { directory, lock: Some(lock) });
        };
        state_dir::make(directory).map_err(|error| Error::System(directory.join(NAME), error))?;
        // It may have been made by somebody else since the gateway looked.
        state_dir::check(directory)?;
        Ok(Place { directory: directory.to_owned(), lock: None })
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// Listens. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) fn listen(&self) -> Result<UnixListener, Error> {
        let path = self.socket();
        match listen_unix(&path, SOCKET_MODE) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_socket(&path) => {}
            other => return other.map_err(|error| Error::System(path, error)),
        }
        match is_alive(&path) {
            Ok(true) => return Err(Error::Taken(path)),
            Ok(false) => {}
            Err(error) => return Err(Error::System(path, error)),
        }
        let replaced = fs::remove_file(&path).and_then(|()| listen_unix(&path, SOCKET_MODE));
        replaced.map_err(|error| Error::System(path, error))
    }

    /// Takes the socket away, and its directory if that is its own. In another, what is there may be somebody else's:
    /// a socket where somebody listens stays, and whatever is no socket.
    pub(super) fn remove(&self) {
        let path = self.socket();
        if self.lock.is_some() || is_socket(&path) && is_alive(&path).is_ok_and(|is_alive| !is_alive) {
            let _ = fs::remove_file(path); // the server may have removed it
        }
        if self.lock.is_some() {
            let _ = fs::remove_dir(&self.directory); // what is left there is somebody else's
        }
    }
}

/// Whether that is what a gateway has left there, and nothing else.
fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Whether the socket in a directory is not another gateway's.
///
/// # Errors
/// [`Error::Taken`] where somebody listens.
pub(super) fn check(directory: &Path) -> Result<(), Error> {
    let path = directory.join(NAME);
    match is_alive(&path) {
        Ok(true) => Err(Error::Taken(path)),
        _ => Ok(()), // what else there may be shows when it is made
    }
}

/// Whether this process listens on a socket.
///
/// # Errors
/// As [`is_alive`].
pub(super) fn is_own(path: &Path) -> io::Result<bool> {
    Ok(match connect(path)? {
        Listener::Nobody | Listener::Another => false,
        Listener::Busy | Listener::Own => true,
    })
}

/// Whether somebody listens on a socket.
///
/// # Errors
/// When that cannot be told: no file may be opened, or it belongs to another user.
pub(super) fn is_alive(path: &Path) -> io::Result<bool> {
    connect(path).map(|listener| !matches!(listener, Listener::Nobody))
}

/// Who listens on a socket.
enum Listener {
    Nobody,
    /// Somebody, with so many that wait to be accepted that there is no room.
    Busy,
    /// This process.
    Own,
    Another,
}

fn connect(path: &Path) -> io::Result<Listener> {
    match Socket::connect_unix(path, Deadline::after(PROBE_TIME)) {
        Ok(socket) => {
            socket.is_to_itself().map(|is_own| if is_own { Listener::Own } else { Listener::Another })
        }
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(Listener::Nobody),
            io::ErrorKind::WouldBlock => Ok(Listener::Busy),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_state_directory_is_made_and_the_socket_is_for_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("a/b");
        let place = Place::find(Some(&state), None).unwrap();
        let listener = place.listen().unwrap();
        assert_eq!((mode(&state), mode(&place.socket())), (0o700, 0o600));
        assert!(matches!(place.listen(), Err(Error::Taken(path)) if path == place.socket()));
        drop(listener);
        assert!(!is_alive(&place.socket()).unwrap() && !is_own(&place.socket()).unwrap());
        drop(place.listen().expect("a stale socket is replaced"));
        let other = place.listen().unwrap();
        place.remove();
        assert!(place.socket().exists(), "another gateway's socket stays");
        drop(other);
        place.remove();
        assert!(state.is_dir() && !place.socket().exists());
        fs::write(place.socket(), "precious").unwrap();
        place.remove();
        assert_eq!(fs::read_to_string(place.socket()).unwrap(), "precious");
    }

    #[test]
    fn what_is_in_the_way_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let told = |error: Error| error.to_string();
        let error = Place::find(Some(&file.join("below")), None).map(drop).unwrap_err();
        assert!(told(error).contains("file/below/control.sock, see state_dir"));
        let long = folder.path().join("x".repeat(100));
        let error = Place::find(Some(&long), None).unwrap().listen().map(drop).unwrap_err();
        assert!(told(error).contains("107 bytes"));
        // A file of another kind is not ours to remove.
        fs::write(folder.path().join(NAME), "precious").unwrap();
        let error = Place::find(Some(folder.path()), None).unwrap().listen().map(drop).unwrap_err();
        assert!(matches!(error, Error::System(..)), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join(NAME)).unwrap(), "precious");
    }
}
