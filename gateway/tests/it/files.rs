//! Files and directories in settings: only regular files are read, no other file blocks the gateway, and no
//! foreign socket is used.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use testkit::{Bin, eventually, proc};

use crate::{ONE, SOON, gateway, path, process};

const KINDS: [&str; 4] = ["fifo", "directory", "/dev/zero", "link to a fifo"];

const REGULAR: &str = "expected a regular file";

/// Puts something that is no regular file at `place`.
fn put(kind: &str, place: &Path) {
    let made = match kind {
        "fifo" => {
            testkit::fifo(place);
            Ok(())
        }
        "directory" => fs::create_dir(place),
        "link to a fifo" => {
            let other = place.with_extension("fifo");
            testkit::fifo(&other);
            symlink(other, place)
        }
        device => symlink(device, place),
    };
    made.unwrap_or_else(|error| panic!("{kind} at {}: {error}", place.display()));
}

/// Expects exit code 2 and one line with each of `parts`.
#[track_caller]
fn refused(bin: Bin, parts: &[&str]) {
    let output = bin.run();
    assert_eq!(output.code(), 2, "{output:?}");
    let line = output.stderr.lines().last().unwrap_or_default();
    assert!(line.starts_with("gateway: "), "{output:?}");
    assert!(parts.iter().all(|part| line.contains(part)), "{parts:?} in {line}");
}

#[test]
fn a_functions_file_that_is_no_regular_file_ends_the_start() {
    for kind in KINDS {
        let bin = Bin::gateway().env("provider", "local");
        let file = bin.dir().join("functions.json");
        put(kind, &file);
        refused(bin.env("functions_file", file), &["functions_file", "functions.json", REGULAR]);
    }
}

#[test]
fn a_functions_file_that_is_no_regular_file_changes_nothing_at_sighup() {
    let bin = gateway(&[process(ONE, "cat")]);
    let file = bin.dir().join("functions.json");
    let gateway = bin.start();
    for kind in KINDS {
        let said = gateway.log().len();
        let _ = fs::remove_file(&file).or_else(|_| fs::remove_dir(&file)); // `put` fails if it is still there
        let _ = fs::remove_file(file.with_extension("fifo")); // the same
        put(kind, &file);
        gateway.signal(proc::SIGHUP);
        eventually(SOON, || {
            let log = gateway.log().split_off(said);
            let is_told = log.contains("functions_file") && log.contains(REGULAR);
            if is_told { Ok(()) } else { Err(format!("nothing is said of a {kind}: {log}")) }
        });
        assert_eq!(gateway.post(&path(""), "hello").text(), "hello");
    }
    gateway.signal(proc::SIGTERM);
    assert_eq!(gateway.wait(SOON).code(), Some(0));
}

#[test]
fn a_secret_that_is_no_regular_file_ends_the_start_and_a_symlink_is_followed() {
    for name in ["basic-auth-user", "basic-auth-password"] {
        for kind in KINDS {
            let bin = gateway(&[]).env("basic_auth", "true");
            bin.file("basic-auth-user", "admin");
            bin.file("basic-auth-password", "secret");
            let file = bin.dir().join(name);
            fs::remove_file(&file).unwrap();
            put(kind, &file);
            let folder = bin.dir().to_owned();
            refused(bin.env("secret_mount_path", folder), &["secret_mount_path", name, REGULAR]);
        }
    }
    // Kubernetes mounts secrets as symbolic links.
    let bin = gateway(&[]).env("basic_auth", "true");
    fs::create_dir(bin.dir().join("..data")).unwrap();
    for (name, text) in [("basic-auth-user", "admin"), ("basic-auth-password", "secret")] {
        bin.file(&format!("..data/{name}"), text);
        symlink(format!("..data/{name}"), bin.dir().join(name)).unwrap();
    }
    let folder = bin.dir().to_owned();
    let gateway = bin.env("secret_mount_path", folder).start();
    assert_eq!(gateway.get("/system/info").status, 401);
}

#[test]
fn a_state_dir_writable_by_others_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    fs::create_dir(&state).unwrap();
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let refused = |part: &str| refused(gateway(&[]).env("state_dir", &state), &["state_dir", part]);
    for others in [0o777, 0o1777, 0o770, 0o702] {
        mode(&state, others);
        refused(&format!("expected mode 0700, got {others:04o}"));
    }
    mode(&state, 0o755);
    mode(folder.path(), 0o777);
    refused("everybody may replace");
    mode(folder.path(), 0o755);
    let moved = folder.path().join("moved");
    fs::rename(&state, &moved).unwrap();
    symlink(&moved, &state).unwrap();
    refused("expected a directory, got the symbolic link");
    fs::remove_file(&state).unwrap();
    fs::rename(&moved, &state).unwrap();
    let running = gateway(&[]).env("state_dir", &state).start();
    assert_eq!(running.get("/system/info").status, 200, "{}", running.log());
    drop(running);
    match chown(&state, Some(65_534), None) {
        Ok(()) => refused("belongs to user 65534: expected user 0"),
        Err(error) => eprintln!("skipped: a directory cannot be given away: {error}"),
    }
}

#[test]
fn the_socket_of_another_process_gets_no_request() {
    let bin = gateway(&[]);
    let socket = bin.dir().join("state/control.sock");
    let state = socket.parent().unwrap().to_owned();
    let gateway = bin.env("state_dir", state).start();
    assert_eq!(gateway.get("/system/info").status, 200);
    fs::remove_file(&socket).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let reply = gateway.get("/system/info");
    crate::is_own(&reply, (503, "control_down"), &["another process"]);
    // The gateway puts its own socket there again.
    eventually(SOON, || match gateway.get("/system/info").status {
        200 => Ok(()),
        status => Err(format!("{status}\n{}", gateway.log())),
    });
    while let Ok((mut stream, _)) = listener.accept() {
        stream.set_nonblocking(false).unwrap();
        let mut received = Vec::new();
        let _ = std::io::Read::read_to_end(&mut stream, &mut received); // nothing, or a reset
        assert_eq!(String::from_utf8_lossy(&received), "");
    }
}

#[test]
fn directories_of_killed_gateways_are_removed_from_tmpdir() {
    let folder = tempfile::tempdir().unwrap();
    let start = || gateway(&[]).env("TMPDIR", folder.path()).start();
    let entries = || -> Vec<PathBuf> {
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let killed = start();
    killed.signal(proc::SIGKILL);
    killed.wait(SOON);
    let left = entries();
    assert_eq!(left.len(), 1, "{left:?}");
    let first = start();
    let own = entries();
    assert!(own.len() == 1 && own != left, "{own:?}, {left:?} before");
    let second = start();
    assert_eq!(entries().len(), 2);
    for gateway in [first, second] {
        assert_eq!(gateway.get("/system/info").status, 200);
        gateway.signal(proc::SIGTERM);
        assert_eq!(gateway.wait(SOON).code(), Some(0));
    }
    assert_eq!(entries(), Vec::<PathBuf>::new());
}
