//! From the functions file on disk to functions that can be started: reads it, resolves addresses, and
//! looks whether directories are there.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::{Path, PathBuf};

use kit::sys::file::read_regular;

use crate::provider::local::functions_file::{self, Declared, FIELD_ADDRESS, FIELD_DIRECTORY, Serves};

/// The largest file that is read: a thousand functions with a kilobyte each.
const MAX_FILE_BYTES: usize = 1 << 20;

/// Why the file was not taken.
#[derive(Debug)]
pub(crate) enum Error {
    /// It could not be read.
    Read { path: PathBuf, source: io::Error },
    /// There is a mistake in it.
    Mistake(functions_file::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Read { path, source } => {
                write!(f, "failed to read functions_file {}: {source}", path.display())
            }
            Error::Mistake(mistake) => mistake.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

/// A declared function with all that is needed to serve it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) declared: Declared,
    /// Where somebody else serves it; empty when the gateway does.
    pub(super) addresses: Vec<SocketAddr>,
}

/// Reads the functions file.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn load(path: &Path) -> Result<Vec<Resolved>, Error> {
    let text = read(path)?;
    let file = path.display().to_string();
    let functions = functions_file::parse(&text, &file).map_err(Error::Mistake)?;
    let served = functions.into_iter().filter(|declared| declared.labels.function != Some(false));
    served.map(|declared| resolve(declared, &file, &look_up)).collect()
}

fn read(path: &Path) -> Result<String, Error> {
    let text = |content| String::from_utf8(content).map_err(|_| io::Error::other("expected UTF-8"));
    let read = read_regular(path, MAX_FILE_BYTES).and_then(text);
    read.map_err(|source| Error::Read { path: path.to_owned(), source })
}

type LookUp = dyn Fn(&str) -> io::Result<Vec<SocketAddr>>;

fn resolve(declared: Declared, file: &str, look_up: &LookUp) -> Result<Resolved, Error> {
    let mistake = |field, problem| {
        Err(Error::Mistake(functions_file::Error::in_field(file, &declared.name, field, problem)))
    };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    match &declared.serves {
        Serves::Process(process) => {
            if let Some(directory) = process.directory.as_ref().filter(|directory| !directory.is_dir()) {
                return mistake(FIELD_DIRECTORY, format!("`{}` is not a directory", directory.display()));
            }
        }
        Serves::Address(texts) => {
            for text in texts {
                match look_up(text) {
                    Ok(found) => addresses.extend(one_family(&found)),
                    Err(error) => {
                        return mistake(FIELD_ADDRESS, format!("failed to resolve `{text}`: {error}"));
                    }
                }
            }
            addresses.sort_unstable();
            addresses.dedup();
        }
    }
    Ok(Resolved { declared, addresses })
}

fn look_up(text: &str) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<_> = text.to_socket_addrs()?.collect();
    if found.is_empty() {
        Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    } else {
        Ok(found)
    }
}

/// The IPv4 addresses of a name, or the others where it has none: `localhost` is both, and its server
/// listens on one as a rule.
fn one_family(found: &[SocketAddr]) -> Vec<SocketAddr> {
    let wanted = found.iter().any(SocketAddr::is_ipv4);
    found.iter().copied().filter(|address| address.is_ipv4() == wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tempfile::NamedTempFile;

    fn temporary(content: &[u8]) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn error(content: &[u8]) -> String {
        let file = temporary(content);
        let text = load(file.path()).unwrap_err().to_string();
        text.replace(&file.path().display().to_string(), "FILE")
    }

    #[test]
    fn functions_that_are_not_functions_are_left_out() {
        let text = br#"{"functions": [{"name": "a", "fprocess": "cat", "labels": {"function": "false"}},
            {"name": "b", "fprocess": "cat", "directory": "/"}, {"name": "c", "address": ["10.0.0.2:1", "10.0.0.1:1"]}]}"#;
        let file = temporary(text);
        let functions = load(file.path()).unwrap();
        let names: Vec<_> = functions.iter().map(|function| function.declared.name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(functions[0].addresses, []);
        let want: [SocketAddr; 2] = ["10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap()];
        assert_eq!(functions[1].addresses, want);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let missing = load(Path::new("/nonexistent/functions.json")).unwrap_err().to_string();
        assert_eq!(
            missing,
            "failed to read functions_file /nonexistent/functions.json: No such file or directory (os error 2)"
        );
        assert_eq!(error(b"\xff"), "failed to read functions_file FILE: expected UTF-8");
        assert_eq!(error(b"{"), "FILE: expected JSON: EOF while parsing an object at line 1 column 1");
        let text = br#"{"functions": [{"name": "a", "fprocess": "cat", "directory": "/nonexistent"}]}"#;
        assert_eq!(error(text), "FILE: function `a`: field `directory`: `/nonexistent` is not a directory");
    }

    #[test]
    fn size_has_a_limit() {
        let file = |size| {
            let mut text = br#"{"functions": []}"#.to_vec();
            text.resize(size, b' ');
            text
        };
        let largest = temporary(&file(MAX_FILE_BYTES));
        assert_eq!(load(largest.path()).unwrap(), []);
        let too_large = error(&file(MAX_FILE_BYTES + 1));
        assert_eq!(too_large, "failed to read functions_file FILE: larger than 1048576 bytes");
    }

    #[test]
    fn names_become_addresses_of_one_family() {
        let both: [SocketAddr; 3] =
            ["[::1]:80".parse().unwrap(), "127.0.0.1:80".parse().unwrap(), "127.0.0.2:80".parse().unwrap()];
        assert_eq!(one_family(&both), both[1..]);
        assert_eq!(one_family(&both[..1]), both[..1]);
        let text = r#"{"functions": [{"name": "a", "address": ["one:80", "two:80"]}]}"#;
        let declared = functions_file::parse(text, "FILE").unwrap().remove(0);
        let same = resolve(declared.clone(), "FILE", &move |_| Ok(both.to_vec())).unwrap();
        assert_eq!(same.addresses, both[1..]);
        let failed = resolve(declared, "FILE", &|_| Err(io::Error::other("no such host"))).unwrap_err();
        assert_eq!(
            failed.to_string(),
            "FILE: function `a`: field `address`: failed to resolve `one:80`: no such host"
        );
    }
}
