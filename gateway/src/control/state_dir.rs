//! `state_dir`: a directory of this gateway's own. Whoever else may write to it could put a socket of theirs in the
//! place of the control plane's, so that such a directory is refused.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use kit::sys::file::open_directory;
use kit::sys::user;

use super::socket::Error;
use crate::provider::swarm::USER;

pub(super) const MODE: u32 = 0o700;

/// Bits of a mode (inode(7)): who may write besides the owner, and whether they may replace files of others.
pub(super) const OTHERS_WRITE: u32 = 0o022;
const EVERYBODY_WRITES: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// Makes it if it is not there. The folders above it can be searched by everybody: a gateway that has left root must
/// get through.
pub(super) fn make(directory: &Path) -> io::Result<()> {
    if let Some(above) = directory.parent() {
        fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(MODE).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Gives it to `user` where it is root's, such as a new volume. To be called as root.
///
/// # Errors
/// What the system says; a symbolic link is not followed.
pub(super) fn hand_over(directory: &Path, user: u32) -> io::Result<()> {
    make(directory)?;
    let directory = open_directory(directory)?;
    match directory.metadata()?.uid() {
        0 => fchown(&directory, Some(user), Some(user)),
        _ => Ok(()),
    }
}

/// Whether nobody else can put anything into it. What is not there yet is fine.
///
/// # Errors
/// [`Error::Unsafe`] with what is wrong.
pub(super) fn check(directory: &Path) -> Result<(), Error> {
    // With a slash at its end a link would be followed.
    let directory: PathBuf = directory.components().collect();
    let Ok(found) = fs::symlink_metadata(&directory) else {
        return Ok(()); // it is made, or shows then why it cannot be
    };
    let path = directory.display();
    if !found.is_dir() {
        let link = if found.is_symlink() { "the symbolic link " } else { "" };
        return Err(Error::Unsafe(format!("expected a directory, got {link}{path}")));
    }
    let own = user::id();
    if !is_trusted(found.uid(), own) {
        let owner = found.uid();
        return Err(Error::Unsafe(format!("{path} belongs to user {owner}: expected user {own}")));
    }
    let mode = found.mode() & 0o7777;
    if mode & OTHERS_WRITE != 0 {
        return Err(Error::Unsafe(format!("others may write to {path}: expected mode 0700, got {mode:04o}")));
    }
    match fs::canonicalize(&directory) {
        Ok(real) => real.ancestors().skip(1).try_for_each(|above| check_above(above, &directory)),
        Err(_) => Ok(()), // gone since, which shows when it is used
    }
}

/// Owner and group of a folder above are trusted with it.
fn check_above(above: &Path, directory: &Path) -> Result<(), Error> {
    if !may_be_replaced_in(above, EVERYBODY_WRITES) {
        return Ok(());
    }
    let (directory, above) = (directory.display(), above.display());
    Err(Error::Unsafe(format!(
        "everybody may replace {directory}: expected {above} without mode 0002, or sticky"
    )))
}

/// Whether those of `writers` may rename and remove what is in a folder, whose ever it is.
pub(super) fn may_be_replaced_in(folder: &Path, writers: u32) -> bool {
    fs::metadata(folder).is_ok_and(|found| found.mode() & writers != 0 && found.mode() & STICKY == 0)
}

/// Root, this user, and as root the user that the gateway becomes or became before.
fn is_trusted(owner: u32, own: u32) -> bool {
    owner == 0 || owner == own || own == 0 && owner == USER
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn refusal(directory: &Path) -> Option<String> {
        check(directory).err().map(|error| error.to_string())
    }

    #[test]
    fn a_directory_to_which_others_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        assert_eq!(refusal(&state), None, "it is not there");
        make(&state).unwrap();
        for (mode, is_fine) in [
            (0o700, true),
            (0o755, true),
            (0o750, true),
            (0o720, false),
            (0o702, false),
            (0o777, false),
            (0o1777, false),
        ] {
            fs::set_permissions(&state, Permissions::from_mode(mode)).unwrap();
            let refusal = refusal(&state);
            assert_eq!(refusal.is_none(), is_fine, "{mode:o}: {refusal:?}");
            assert!(
                refusal.is_none_or(|text| text.ends_with(&format!("expected mode 0700, got {mode:04o}")))
            );
        }
    }

    #[test]
    fn a_folder_above_in_which_everybody_may_replace_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (above, state) = (folder.path().join("above"), folder.path().join("above/below/state"));
        make(&state).unwrap();
        for (mode, is_fine) in [(0o755, true), (0o775, true), (0o1777, true), (0o777, false), (0o703, false)]
        {
            fs::set_permissions(&above, Permissions::from_mode(mode)).unwrap();
            let refusal = refusal(&state);
            assert_eq!(refusal.is_none(), is_fine, "{mode:o}: {refusal:?}");
        }
    }

    #[test]
    fn links_and_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (state, link, file) =
            (folder.path().join("state"), folder.path().join("link"), folder.path().join("file"));
        make(&state).unwrap();
        symlink(&state, &link).unwrap();
        fs::write(&file, "").unwrap();
        for (path, part) in
            [(link.clone(), "the symbolic link"), (link.join(""), "the symbolic link"), (file, "file")]
        {
            assert!(refusal(&path).is_some_and(|text| text.contains(part)), "{}", path.display());
        }
    }

    #[test]
    fn owners_are_this_user_root_and_the_user_that_root_becomes() {
        for (owner, own, want) in [
            (0, 0, true),
            (0, 1000, true),
            (1000, 1000, true),
            (1001, 1000, false),
            (USER, 1000, false),
            (USER, 0, true),
            (1000, 0, false),
            (USER, USER, true),
        ] {
            assert_eq!(is_trusted(owner, own), want, "{owner} {own}");
        }
        let folder = tempfile::tempdir().unwrap();
        if !user::is_root() {
            return;
        }
        std::os::unix::fs::chown(folder.path(), Some(1000), None).unwrap();
        assert!(refusal(folder.path()).unwrap().ends_with("belongs to user 1000: expected user 0"));
    }

    #[test]
    fn what_is_roots_is_handed_over_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (state, link) = (folder.path().join("new/state"), folder.path().join("link"));
        let owner = || fs::metadata(&state).unwrap().uid();
        let result = hand_over(&state, USER);
        if user::is_root() {
            result.unwrap();
            assert_eq!((owner(), mode(&state)), (USER, MODE));
            assert_eq!(mode(&folder.path().join("new")) & 0o005, 0o005, "the user gets there");
            hand_over(&state, USER + 1).unwrap();
        }
        assert_ne!(owner(), USER + 1, "somebody else's stays so");
        let other = folder.path().join("other");
        make(&other).unwrap();
        symlink(&other, &link).unwrap();
        for link in [link.clone(), link.join("")] {
            assert_eq!(hand_over(&link, USER).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        }
        assert_eq!(fs::metadata(&other).unwrap().uid(), user::id());
    }
}
