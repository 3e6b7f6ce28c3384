//! Files that settings name: only regular ones are read, and nothing else holds the gateway up.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use testkit::{Bin, eventually, proc};

use crate::{ONE, SOON, gateway, path, process};

const KINDS: [&str; 4] = ["fifo", "directory", "/dev/zero", "link to a fifo"];

/// Puts something at `place` that is no regular file.
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

/// Expects exit code 2 and one line that names the setting, the file, and what was expected.
#[track_caller]
fn refused(bin: Bin, parts: &[&str]) {
    let output = bin.run();
    assert_eq!(output.code(), 2, "{output:?}");
    let line = output.stderr.lines().last().unwrap_or_default();
    assert!(line.starts_with("gateway: ") && line.contains("expected a regular file"), "{output:?}");
    assert!(parts.iter().all(|part| line.contains(part)), "{parts:?} in {line}");
}

#[test]
fn a_functions_file_that_is_no_regular_file_ends_the_start() {
    for kind in KINDS {
        let bin = Bin::gateway().env("provider", "local");
        let file = bin.dir().join("functions.json");
        put(kind, &file);
        refused(bin.env("functions_file", file), &["functions_file", "functions.json"]);
    }
}

#[test]
fn a_functions_file_that_is_no_regular_file_changes_nothing_at_sighup() {
    let bin = gateway(&[process(ONE, "cat")]);
    let file = bin.dir().join("functions.json");
    let gateway = bin.start();
    for kind in KINDS {
        let said = gateway.log().len();
        let _ = fs::remove_file(&file).or_else(|_| fs::remove_dir(&file)); // put shows whether it is gone
        let _ = fs::remove_file(file.with_extension("fifo")); // as above
        put(kind, &file);
        gateway.signal(proc::SIGHUP);
        eventually(SOON, || {
            let log = gateway.log().split_off(said);
            let is_told = log.contains("functions_file") && log.contains("expected a regular file");
            if is_told { Ok(()) } else { Err(format!("nothing is said of a {kind}: {log}")) }
        });
        assert_eq!(gateway.post(&path(""), "hello").text(), "hello");
    }
    gateway.signal(proc::SIGTERM);
    assert_eq!(gateway.wait(SOON).code(), Some(0));
}

#[test]
fn a_secret_that_is_no_regular_file_ends_the_start_and_a_link_to_one_is_followed() {
    for name in ["basic-auth-user", "basic-auth-password"] {
        for kind in KINDS {
            let bin = gateway(&[]).env("basic_auth", "true");
            bin.file("basic-auth-user", "admin");
            bin.file("basic-auth-password", "secret");
            let file = bin.dir().join(name);
            fs::remove_file(&file).unwrap();
            put(kind, &file);
            let folder = bin.dir().to_owned();
            refused(bin.env("secret_mount_path", folder), &["secret_mount_path", name]);
        }
    }
    // As Kubernetes mounts secrets.
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
