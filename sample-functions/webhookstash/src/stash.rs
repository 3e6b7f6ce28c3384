//! A body on its way into its file.
//!
//! A file has its final name only once the whole body is on the disk: until then it is a hidden `.part` file,
//! which a failure removes. No file is ever replaced: of two bodies that arrive in the same nanosecond one
//! gets the next name that is free. Memory stays at one buffer.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

/// The capacity of a Linux pipe: a larger buffer would never be filled by one read.
const BUFFER_BYTES: usize = 64 * 1024;

/// How many names are tried. That many webhooks in as many nanoseconds are not to be had; it ends the search
/// on a file system that is out of its mind.
const MAX_NAMES: u128 = 10_000;

/// What could not be done, to what, and why.
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
    /// How long it must be, where that is known.
    pub(crate) length: Option<u64>,
    /// Its file's name.
    pub(crate) arrived: SystemTime,
}

impl Body<'_> {
    /// Saves it in `directory` and returns the file's path.
    ///
    /// # Errors
    /// When it cannot be read or written, or is shorter than it must be; then there is no new file.
    pub(crate) fn save(self, directory: &Path) -> Result<PathBuf, Error> {
        // A clock before 1970 is wrong anyway, and the names are unique all the same.
        let nanoseconds = self.arrived.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let mut part = Part::create(directory, nanoseconds)?;
        let length = part.fill(self.input)?;
        // fwatchdog closes STDIN also when the client breaks off in the middle.
        if self.length.is_some_and(|want| want != length) {
            let want = self.length.unwrap_or_default();
            let source = io::Error::new(ErrorKind::UnexpectedEof, format!("got {length} of {want} bytes"));
            return Err(Error::new("read", "STDIN", source));
        }
        part.publish(directory, nanoseconds)
    }
}

/// A file without its final name. Dropped, the name that it has is removed.
struct Part {
    path: PathBuf,
    file: File,
}

impl Part {
    fn create(directory: &Path, nanoseconds: u128) -> Result<Part, Error> {
        // Process ids repeat: one container may have been started anew on the same volume.
        let named = |name: u128| directory.join(format!(".{name}-{}.part", process::id()));
        let create = |path: &Path| File::options().write(true).create_new(true).open(path);
        let (path, file) = first_free(nanoseconds, named, create)?;
        Ok(Part { path, file })
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
            let written = self.file.write_all(&buffer[..size]);
            written.map_err(|error| Error::at("write", &self.path, error))?;
            length += size as u64;
        }
        // Without this a power cut could leave the name and not the content.
        self.file.sync_all().map_err(|error| Error::at("write", &self.path, error))?;
        Ok(length)
    }

    /// Gives it its name. A link, as a rename would replace a file of that name.
    fn publish(self, directory: &Path, nanoseconds: u128) -> Result<PathBuf, Error> {
        let named = |name: u128| directory.join(name.to_string());
        first_free(nanoseconds, named, |path| fs::hard_link(&self.path, path)).map(|(path, ())| path)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // the disk has failed, and that was said already
    }
}

/// Makes the first file that is not there yet, by names that count up from `first`.
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
    fn bodies_of_the_same_nanosecond_get_names_of_their_own() {
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
    fn a_body_that_is_cut_leaves_nothing() {
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
    fn a_failure_in_the_middle_leaves_nothing() {
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
