//! Reads secrets from files, as Docker mounts them: the operator's user and password, and the secrets of functions.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kit::sys::file::read_regular;

use crate::access::{Access, Credentials};
use crate::function::Known;

const USER_FILE: &str = "basic-auth-user";
const PASSWORD_FILE: &str = "basic-auth-password";

/// The largest of these files: far above what anybody types, and below the size of a request's head.
const MAX_BYTES: usize = 4096;

/// The largest secret of a function: some hundred users.
const MAX_FUNCTION_BYTES: usize = 64 * 1024;

/// The directory of the secrets.
pub(crate) struct Secrets(PathBuf);

impl Secrets {
    pub(crate) fn new(directory: &Path) -> Secrets {
        Secrets(directory.to_owned())
    }

    /// The access rules of a function; `None` when its labels ask for nothing. A secret that cannot be used closes the
    /// function, and the log says so. Reads files: a call must not wait for this.
    pub(crate) fn access(&self, known: &Known) -> Option<Arc<Access>> {
        let read = |name: &str| {
            let path = self.0.join(name);
            read_regular(&path, MAX_FUNCTION_BYTES).map_err(|error| format!("{}: {error}", path.display()))
        };
        let access = Access::new((&known.labels.auth, &known.labels.hmac), read);
        let access = access.unwrap_or_else(|(label, why)| {
            log::error!("function `{}`: label {label}: {why}; nobody can call the function", known.name);
            Some(Access::Closed(label))
        });
        access.map(Arc::new)
    }
}

/// Reads user and password from their files in `directory`.
///
/// # Errors
/// One line that names the setting and the file.
pub(crate) fn credentials(directory: &Path) -> Result<Credentials, String> {
    let (user, password) = (read(directory, USER_FILE)?, read(directory, PASSWORD_FILE)?);
    Credentials::new(&user, &password).ok_or_else(|| {
        wrong(directory, USER_FILE, "expected a user without `:`") // neither is empty
    })
}

/// The one line of a file, without its end.
fn read(directory: &Path, name: &str) -> Result<Vec<u8>, String> {
    let read = read_regular(&directory.join(name), MAX_BYTES);
    let mut content = read.map_err(|error| wrong(directory, name, &error.to_string()))?;
    let end = content.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    content.truncate(end);
    if content.iter().any(u8::is_ascii_control) {
        return Err(wrong(directory, name, "expected one line of text"));
    }
    if content.is_empty() {
        return Err(wrong(directory, name, "expected a file that is not empty"));
    }
    Ok(content)
}

fn wrong(directory: &Path, name: &str, what: &str) -> String {
    format!("setting secret_mount_path: {}: {what}, as basic_auth is true", directory.join(name).display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn both_files_are_needed_and_mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let read = |user: &[u8], password: &[u8]| {
            fs::write(folder.path().join(USER_FILE), user).unwrap();
            fs::write(folder.path().join(PASSWORD_FILE), password).unwrap();
            credentials(folder.path()).map(drop)
        };
        let missing = credentials(folder.path()).map(drop).unwrap_err();
        assert!(missing.contains("secret_mount_path") && missing.contains(USER_FILE), "{missing}");
        assert_eq!(read(b"admin\n", b" pass word \r\n\n"), Ok(()));
        assert_eq!(read(b"admin", &[b'x'; MAX_BYTES]), Ok(()));
        for (user, password, part) in [
            (&b"\n"[..], &b"x"[..], "basic-auth-user: expected a file that is not empty"),
            (b"admin", b"", "basic-auth-password: expected a file that is not empty"),
            (b"admin", b"a\nb", "basic-auth-password: expected one line of text"),
            (b"ad:min", b"x", "basic-auth-user: expected a user without `:`"),
            (b"admin", &[b'x'; MAX_BYTES + 1], "basic-auth-password: larger than 4096 bytes"),
        ] {
            let error = read(user, password).unwrap_err();
            assert!(error.contains(part) && error.lines().count() == 1, "{error}");
        }
    }
}
