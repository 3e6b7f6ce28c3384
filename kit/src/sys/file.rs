//! Files at paths that a setting names, or in folders that others may write to: nothing here blocks on one, and
//! nothing that is no file is opened.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{check, unless_blocked, user};

/// Reads a file whole. Symbolic links are followed: secrets are mounted as such.
///
/// A FIFO, a device, a socket or a directory is refused. It is looked at before it is opened, since to open a device
/// may set it going, and again afterwards, since another file may have taken its place.
///
/// # Errors
/// What the system says; [`InvalidInput`](io::ErrorKind::InvalidInput) for what is no regular file,
/// [`FileTooLarge`](io::ErrorKind::FileTooLarge) for one of more than `max_bytes`.
pub fn read_regular(path: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
    regular(&fs::metadata(path)?)?;
    // To open a FIFO that has no writer would block, and a terminal would become this process's own.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    regular(&file.metadata()?)?;
    let mut content = Vec::new();
    file.take(max_bytes as u64 + 1).read_to_end(&mut content)?;
    match content.len() > max_bytes {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {max_bytes} bytes"))),
        false => Ok(content),
    }
}

/// Opens an empty file of this process's own, or makes it, in a folder that others may write to. It is locked until it
/// is closed, so that a second process does not take it for a file that somebody has left. Nothing is written to it.
///
/// # Errors
/// What the system says, also of a symbolic link; and where there is something else than a regular file of this user, or
/// another process holds the lock.
pub fn make_own(path: &Path) -> io::Result<File> {
    // A FIFO would block without a reader.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().write(true).create(true).truncate(false).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.uid() != user::id() {
        return Err(io::Error::other("expected nothing there, or a file of this user"));
    }
    match try_lock(&file)? {
        true => Ok(file),
        false => Err(io::Error::other("another process has locked it")),
    }
}

/// Removes what is at `path` if that is `file`, and not what somebody has put in its place.
pub fn remove_own(path: &Path, file: &File) {
    if is_at(path, file) {
        let _ = fs::remove_file(path); // somebody was faster
    }
}

/// Opens a directory, and no symbolic link to one.
///
/// # Errors
/// What the system says: [`NotADirectory`](io::ErrorKind::NotADirectory) for anything else.
pub fn open_directory(path: &Path) -> io::Result<File> {
    // With a slash at its end a link would be followed.
    let path: PathBuf = path.components().collect();
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Whether `path` leads to `file`, without a symbolic link.
#[must_use]
pub fn is_at(path: &Path, file: &File) -> bool {
    match (fs::symlink_metadata(path), file.metadata()) {
        (Ok(there), Ok(own)) => (there.dev(), there.ino()) == (own.dev(), own.ino()),
        _ => false,
    }
}

/// Locks a file or a directory until it is closed; false where another process has locked it.
///
/// # Errors
/// What flock(2) says, such as on file systems without locks.
pub fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: the call takes no pointers.
    let locked = check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) });
    unless_blocked(locked).map(|locked| locked.is_some())
}

fn regular(found: &Metadata) -> io::Result<()> {
    match found.is_file() {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::symlink;

    /// A folder of one test; it is removed with this.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("kit-file-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn fifo(&self, name: &str) -> PathBuf {
            let path = self.0.join(name);
            let text = CString::new(path.as_os_str().as_bytes()).unwrap();
            // SAFETY: the pointer is to a text with its NUL that lives through the call.
            assert_eq!(unsafe { libc::mkfifo(text.as_ptr(), 0o600) }, 0);
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0); // a leftover in the temporary folder
        }
    }

    #[test]
    fn only_regular_files_are_read_and_links_to_them() {
        let folder = Folder::new("regular");
        let (file, link) = (folder.0.join("file"), folder.0.join("link"));
        fs::write(&file, "content").unwrap();
        symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            assert_eq!(read_regular(path, 100).unwrap(), b"content");
        }
        let to_fifo = folder.0.join("to-fifo");
        symlink(folder.fifo("fifo"), &to_fifo).unwrap();
        let socket = folder.0.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let others = [folder.0.join("fifo"), to_fifo, socket, folder.0.clone(), "/dev/zero".into()];
        for path in others {
            let error = read_regular(&path, 100).unwrap_err();
            assert_eq!(error.to_string(), "expected a regular file", "{}", path.display());
        }
        let missing = read_regular(&folder.0.join("missing"), 100).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_is_opened_and_no_link_to_one() {
        let folder = Folder::new("directory");
        let link = folder.0.join("link");
        symlink(&folder.0, &link).unwrap();
        let opened = open_directory(&folder.0).unwrap();
        assert!(is_at(&folder.0, &opened) && !is_at(&link, &opened));
        for path in [link.clone(), link.join(""), folder.fifo("fifo")] {
            let error = open_directory(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotADirectory, "{}", path.display());
        }
        let again = open_directory(&folder.0).unwrap();
        assert!(try_lock(&opened).unwrap() && !try_lock(&again).unwrap());
        drop(opened);
        assert!(try_lock(&again).unwrap());
    }

    #[test]
    fn size_has_a_limit() {
        let folder = Folder::new("size");
        let path = folder.0.join("file");
        fs::write(&path, [b'x'; 100]).unwrap();
        assert_eq!(read_regular(&path, 100).unwrap().len(), 100);
        let error = read_regular(&path, 99).unwrap_err();
        assert_eq!(
            (error.kind(), &*error.to_string()),
            (io::ErrorKind::FileTooLarge, "larger than 99 bytes")
        );
    }
}
