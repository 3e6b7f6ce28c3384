//! Saves a body in a file.
//!
//! A file gets its name once the whole body is on the disk. Until then it is only an open descriptor, and the
//! kernel frees it when the process ends: when a client hangs up, fwatchdog ends the program by a signal, and
//! no code here runs. No file is replaced: of two bodies in one nanosecond, the second gets the next free
//! name. Memory stays at one buffer.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// The capacity of a Linux pipe: one read never fills a larger buffer.
const BUFFER_BYTES: usize = 64 * 1024;

/// How many names are tried. So many webhooks cannot arrive in as many nanoseconds; the bound ends the search
/// on a broken file system.
const MAX_NAMES: u128 = 10_000;

/// The failed action, its object, and the reason.
#[derive(Debug)]
pub(crate) struct Error {
    action: &'static str,
    operand: String,
    source: io::Error,
}

impl Error {
    pub(crate) fn new(action: &'static str, operand: &str, source: io::Error) -> Error {
        Error { action, operand: operand.to_owned(), source }
    }

    fn at(action: &'static str, path: &Path, source: io::Error) -> Error {
        Error { action, operand: format!("`{}`", path.display()), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to {} {}: {}", self.action, self.operand, self.source)
    }
}

/// A body that has arrived.
pub(crate) struct Body<'a> {
    pub(crate) input: &'a mut dyn Read,
    /// The announced length, if known.
    pub(crate) length: Option<u64>,
    /// The name of its file.
    pub(crate) arrived: SystemTime,
}

impl Body<'_> {
    /// Saves the body in `directory` and returns the path.
    ///
    /// # Errors
    /// When the body cannot be read or written, or is too short. Then there is no new file.
    pub(crate) fn save(self, directory: &Path) -> Result<PathBuf, Error> {
        // A clock before 1970 is wrong anyway; the names stay unique.
        let nanoseconds = self.arrived.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut part = Part::create(directory, nanoseconds)?;
        // Opened first: a directory that cannot be synced is refused before the body is read.
        let stash = File::open(directory).map_err(|error| Error::at("open", directory, error))?;
        let length = part.fill(self.input)?;
        // fwatchdog ends the program when its client breaks off; another caller may just close STDIN.
        if self.length.is_some_and(|want| want != length) {
            let want = self.length.unwrap_or_default();
            let source = io::Error::new(ErrorKind::UnexpectedEof, format!("got {length} of {want} bytes"));
            return Err(Error::new("read", "STDIN", source));
        }
        let path = part.publish(directory, nanoseconds)?;
        // The name is content of the directory: without this sync a power cut could lose it.
        if let Err(error) = stash.sync_all().or_else(only_refused) {
            let _ = fs::remove_file(&path); // the disk has failed; the error is returned below
            return Err(Error::at("sync", directory, error));
        }
        Ok(path)
    }
}

/// Ignores the error of a file system that cannot sync a directory, see fsync(2).
fn only_refused(error: io::Error) -> io::Result<()> {
    if error.kind() == ErrorKind::InvalidInput { Ok(()) } else { Err(error) }
}

/// A file without its final name.
struct Part {
    file: File,
    /// Its name so far.
    path: PathBuf,
    /// Whether `path` is in the stash; if so, dropping it removes it.
    is_named: bool,
}

impl Part {
    fn create(directory: &Path, nanoseconds: u128) -> Result<Part, Error> {
        match Part::unnamed(directory) {
            Ok(Some(part)) => Ok(part),
            Ok(None) => Part::named(directory, nanoseconds),
            Err(error) => Err(Error::at("create a file in", directory, error)),
        }
    }

    /// A file without a name, which vanishes with the process. `None` if the system has none, or cannot name
    /// it later.
    fn unnamed(directory: &Path) -> io::Result<Option<Part>> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = match rustix::fs::open(directory, flags, Mode::from_raw_mode(0o666)) {
            Ok(descriptor) => File::from(descriptor),
            Err(error) if is_unsupported(error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // The only way to name it that needs no capability, see open(2).
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let has_proc = fs::symlink_metadata(&path).is_ok();
        Ok(has_proc.then_some(Part { file, path, is_named: false }))
    }

    /// A hidden file, which stays if a signal ends the process.
    fn named(directory: &Path, nanoseconds: u128) -> Result<Part, Error> {
        // Process ids repeat when a container starts again on the same volume.
        let named = |name: u128| directory.join(format!(".{name}-{}.part", process::id()));
        let create = |path: &Path| File::options().write(true).create_new(true).open(path);
        let (path, file) = first_free(nanoseconds, named, create)?;
        Ok(Part { file, path, is_named: true })
    }

    fn fill(&mut self, input: &mut dyn Read) -> Result<u64, Error> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut length = 0;
        loop {
            let size = match input.read(&mut buffer) {
                Ok(0) => break,
                Ok(size) => size,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::new("read", "STDIN", error)),
            };
            self.file.write_all(&buffer[..size]).map_err(|error| self.failed("write", error))?;
            length += size as u64;
        }
        // Without this sync a power cut could leave the name without the content.
        self.file.sync_all().map_err(|error| self.failed("sync", error))?;
        Ok(length)
    }

    fn failed(&self, action: &'static str, error: io::Error) -> Error {
        if self.is_named {
            Error::at(action, &self.path, error)
        } else {
            Error::new(action, "a file that has no name yet", error)
        }
    }

    /// Gives the file its name by a link; a rename would replace a file of that name.
    fn publish(self, directory: &Path, nanoseconds: u128) -> Result<PathBuf, Error> {
        let named = |name: u128| directory.join(name.to_string());
        // The link of an open file in /proc stands for the file.
        let flags = if self.is_named { AtFlags::empty() } else { AtFlags::SYMLINK_FOLLOW };
        let link = |path: &Path| Ok(rustix::fs::linkat(CWD, &self.path, CWD, path, flags)?);
        first_free(nanoseconds, named, link).map(|(path, ())| path)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.is_named {
            let _ = fs::remove_file(&self.path); // the disk has failed, and the error was returned
        }
    }
}

/// Whether the kernel or the file system lacks files without names. An old kernel takes the flag for an
/// attempt to write a directory; then creating a hidden file tells whether the directory is there.
fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT)
}

/// Creates the first file that does not exist yet, with names counting up from `first`.
fn first_free<T>(
    first: u128,
    named: impl Fn(u128) -> PathBuf,
    make: impl Fn(&Path) -> io::Result<T>,
) -> Result<(PathBuf, T), Error> {
    for name in first..first + MAX_NAMES {
        let path = named(name);
        match make(&path) {
            Ok(made) => return Ok((path, made)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::at("create", &path, error)),
        }
    }
    Err(Error::at("create", &named(first), ErrorKind::AlreadyExists.into()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ARRIVED: u128 = 1_483_000_000_123_456_789;

    fn arrived() -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(u64::try_from(ARRIVED).expect("it fits until 2554"))
    }

    fn save(text: &[u8], length: Option<u64>, directory: &Path) -> Result<PathBuf, Error> {
        Body { input: &mut &*text, length, arrived: arrived() }.save(directory)
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("it can be read");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("it can be read").file_name().display().to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn bodies_of_the_same_nanosecond_get_different_names() {
        let dir = tempfile::tempdir().expect("a directory");
        for place in 0..3_u8 {
            let path = save(&[place], None, dir.path()).expect("it is saved");
            assert_eq!(path, dir.path().join((ARRIVED + u128::from(place)).to_string()));
        }
        assert_eq!(names(dir.path()), [0, 1, 2].map(|place| (ARRIVED + place).to_string()));
        for place in 0..3_u8 {
            let path = dir.path().join((ARRIVED + u128::from(place)).to_string());
            assert_eq!(fs::read(path).expect("it is there"), [place]);
        }
    }

    #[test]
    fn without_unnamed_files_a_hidden_file_is_used() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(ARRIVED.to_string()), "earlier").expect("it is ours");
        let hidden = |place: u128| format!(".{}-{}.part", ARRIVED + place, process::id());
        let part = || Part::named(dir.path(), ARRIVED).expect("it is created");
        let (mut first, second) = (part(), part());
        assert_eq!(names(dir.path()), [hidden(0), hidden(1), ARRIVED.to_string()]);
        assert_eq!(first.fill(&mut &b"body"[..]).expect("it is written"), 4);
        let path = first.publish(dir.path(), ARRIVED).expect("there is a name");
        assert_eq!(path, dir.path().join((ARRIVED + 1).to_string()));
        assert_eq!(fs::read(path).expect("it is there"), b"body");
        drop(second);
        assert_eq!(names(dir.path()), [0, 1].map(|place| (ARRIVED + place).to_string()));
        assert_eq!(fs::read(dir.path().join(ARRIVED.to_string())).expect("it is there"), b"earlier");
    }

    #[test]
    fn a_directory_without_unnamed_files_is_recognised() {
        for error in [Errno::OPNOTSUPP, Errno::ISDIR, Errno::NOENT] {
            assert!(is_unsupported(error), "{error}");
        }
        for error in [Errno::ACCESS, Errno::NOSPC, Errno::ROFS, Errno::NOTDIR, Errno::MFILE] {
            assert!(!is_unsupported(error), "{error}");
        }
        // No file can be created there, with or without a name; the second error is returned.
        assert!(Part::unnamed(Path::new("/proc")).expect("it is passed over").is_none());
        assert!(Part::unnamed(Path::new("/missing")).expect("it is passed over").is_none());
    }

    #[test]
    fn a_directory_that_cannot_be_synced_is_no_error() {
        assert!(only_refused(Errno::INVAL.into()).is_ok());
        for error in [Errno::IO, Errno::NOSPC, Errno::DQUOT] {
            assert!(only_refused(error.into()).is_err(), "{error}");
        }
    }

    #[test]
    fn the_search_for_a_name_ends() {
        let tried = std::cell::Cell::new(0);
        let taken = |_: &Path| -> io::Result<()> {
            tried.set(tried.get() + 1);
            Err(ErrorKind::AlreadyExists.into())
        };
        let error = first_free(1, |name| PathBuf::from(name.to_string()), taken).expect_err("all are taken");
        assert_eq!(tried.get(), MAX_NAMES);
        assert!(error.to_string().starts_with("failed to create `1`: "), "{error}");
        let last = |path: &Path| match path == Path::new("10000") {
            true => Ok(()),
            false => Err(io::Error::from(ErrorKind::AlreadyExists)),
        };
        assert!(first_free(1, |name| PathBuf::from(name.to_string()), last).is_ok());
    }

    #[test]
    fn a_truncated_body_leaves_no_file() {
        let dir = tempfile::tempdir().expect("a directory");
        for (text, length, want) in [(&b"123"[..], 4, "got 3 of 4 bytes"), (b"", 1, "got 0 of 1 bytes")] {
            let error = save(text, Some(length), dir.path()).expect_err("it is too short");
            assert_eq!(error.to_string(), format!("failed to read STDIN: {want}"));
        }
        assert_eq!(names(dir.path()), [""; 0]);
        save(b"1234", Some(4), dir.path()).expect("it is whole");
        save(b"", Some(0), dir.path()).expect("it is whole");
        assert_eq!(names(dir.path()).len(), 2);
    }

    #[test]
    fn a_failed_write_leaves_no_file() {
        struct Breaks(u8);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 => Err(ErrorKind::Interrupted.into()),
                    2 => Ok(buffer.len()),
                    _ => Err(ErrorKind::IsADirectory.into()),
                }
            }
        }
        let dir = tempfile::tempdir().expect("a directory");
        let body = Body { input: &mut Breaks(0), length: None, arrived: arrived() };
        let error = body.save(dir.path()).expect_err("it breaks");
        assert!(error.to_string().starts_with("failed to read STDIN: "), "{error}");
        assert_eq!(names(dir.path()), [""; 0]);
    }
}
