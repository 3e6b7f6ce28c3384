//! Files at paths that a setting names, or in folders that others may write to: nothing here blocks on one, and
//! nothing that is no file is opened.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Reads a file whole. Symbolic links are followed: secrets are mounted as such.
///
/// A FIFO, a device, a socket or a directory is refused. It is looked at before it is opened, since to open a device
/// may set it going, and again afterwards, since another file may have taken its place.
///
/// # Errors
/// What the system says; [`InvalidInput`](io::ErrorKind::InvalidInput) for what is no regular file,
/// [`FileTooLarge`](io::ErrorKind::FileTooLarge) for one of more than `max_bytes`.
pub fn read_regular(path: &Path, max_bytes: usize) -> io::Result<Vec<u8>> {
    regular(&std::fs::metadata(path)?)?;
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
    use std::path::PathBuf;

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
