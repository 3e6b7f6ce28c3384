//! The lock file: it is there while fwatchdog serves, and no other file is opened, changed or removed for it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use testkit::{Bin, Running, proc};

use crate::{SOON, dog};

/// The user `nobody`.
const NOBODY: u32 = 65_534;

/// A fwatchdog whose lock file is in `folder`.
fn locking_in(folder: &Path) -> Bin {
    dog("exits 0").env("TMPDIR", folder)
}

#[track_caller]
fn end(dog: &Running) {
    dog.signal(proc::SIGTERM);
    assert!(dog.wait(SOON).success(), "{}", dog.log());
}

/// Expects one warning with `why`, and answers all the same.
#[track_caller]
fn serves_without(dog: &Running, why: &str) {
    assert_eq!(dog.get("/").status, 200);
    let log = dog.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" warn ")).collect();
    assert!(matches!(&warnings[..], [one] if one.contains("lock file") && one.contains(why)), "{log}");
}

#[test]
fn the_lock_file_is_there_while_fwatchdog_serves() {
    let dog = dog("exits 0").start();
    let path = dog.dir().join(".lock");
    assert!(path.is_file());
    end(&dog);
    assert!(!path.exists());
}

#[test]
fn the_lock_file_can_be_left_out_and_is_never_needed() {
    let quiet = dog("exits 0").env("suppress_lock", "true").start();
    assert!(!quiet.dir().join(".lock").exists());
    let dog = dog("exits 0").env("TMPDIR", "/proc/nowhere").start();
    serves_without(&dog, "No such file");
}

#[test]
fn a_link_in_its_place_is_not_followed_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let (lock, precious) = (folder.path().join(".lock"), folder.path().join("precious"));
    for content in [Some("precious"), None] {
        if let Some(content) = content {
            fs::write(&precious, content).unwrap();
        }
        symlink(&precious, &lock).unwrap();
        let dog = locking_in(folder.path()).start();
        serves_without(&dog, "symbolic link");
        end(&dog);
        assert_eq!(fs::read_to_string(&precious).ok().as_deref(), content);
        assert_eq!(fs::read_link(&lock).unwrap(), precious);
        let _ = fs::remove_file(&precious); // the second time it is not there
        fs::remove_file(&lock).unwrap();
    }
}

#[test]
fn a_fifo_or_folder_in_its_place_stays_and_delays_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join(".lock");
    testkit::fifo(&lock);
    let dog = locking_in(folder.path()).start();
    serves_without(&dog, "No such device"); // a FIFO without a reader
    end(&dog);
    let _reader = fs::File::options().read(true).write(true).open(&lock).unwrap();
    let dog = locking_in(folder.path()).start();
    serves_without(&dog, "expected nothing there");
    end(&dog);
    assert!(!lock.is_file() && lock.exists());
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let dog = locking_in(folder.path()).start();
    serves_without(&dog, "directory");
    end(&dog);
    assert!(lock.is_dir());
}

#[test]
fn a_file_that_a_killed_fwatchdog_has_left_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join(".lock");
    let killed = locking_in(folder.path()).start();
    killed.signal(proc::SIGKILL);
    killed.wait(SOON);
    assert!(lock.is_file());
    let dog = locking_in(folder.path()).start();
    assert!(lock.is_file() && !dog.log().contains(" warn "), "{}", dog.log());
    end(&dog);
    assert!(!lock.exists());
}

#[test]
fn the_file_of_another_running_fwatchdog_stays() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join(".lock");
    let first = locking_in(folder.path()).start();
    let second = locking_in(folder.path()).start();
    serves_without(&second, "another process");
    end(&second);
    assert!(lock.is_file());
    end(&first);
    assert!(!lock.exists());
}

#[test]
fn a_file_that_replaced_the_lock_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join(".lock");
    let dog = locking_in(folder.path()).start();
    fs::rename(&lock, folder.path().join("moved")).unwrap();
    fs::write(&lock, "another").unwrap();
    end(&dog);
    assert_eq!(fs::read_to_string(&lock).unwrap(), "another");
}

#[test]
fn a_file_of_another_user_stays() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join(".lock");
    fs::write(&lock, "another").unwrap();
    if let Err(error) = std::os::unix::fs::chown(&lock, Some(NOBODY), None) {
        eprintln!("skipped: a file cannot be given away: {error}");
        return;
    }
    let dog = locking_in(folder.path()).start();
    serves_without(&dog, "a file of this user");
    end(&dog);
    assert_eq!(
        (fs::metadata(&lock).unwrap().uid(), &*fs::read_to_string(&lock).unwrap()),
        (NOBODY, "another")
    );
}
