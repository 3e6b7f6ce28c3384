//! The packages of the shipped binaries are a budget: what `tiny_http`, `ureq`, `serde_json` and `libc` bring
//! themselves, our own crates, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

const SHIPPED: [&str; 2] = ["gateway", "fwatchdog"];

/// The four that were chosen with the product. ureq counts although no shipped binary has it yet: `bench` keeps
/// it in Cargo.lock, with the features that the product would use.
const CHOSEN: [&str; 4] = ["tiny_http@0.12", "ureq@3", "serde_json@1", "libc@0.2"];

const OURS: [&str; 5] = ["kit", "http1", "docker-sock", "fwatchdog", "gateway"];

#[test]
fn nothing_foreign_is_shipped() {
    let shipped = packages_below(&SHIPPED);
    for expected in ["gateway", "fwatchdog", "http1", "serde_json", "log"] {
        assert!(shipped.contains(expected), "{expected} was not found among what is shipped: {shipped:?}");
    }
    let foreign = foreign(&shipped, &allowed());
    assert!(
        foreign.is_empty(),
        "shipped, but brought by none of {CHOSEN:?}: {foreign:?}\nsee: cargo tree --edges normal --invert NAME"
    );
}

#[test]
fn a_foreign_package_would_be_reported() {
    let mut shipped = packages_below(&SHIPPED);
    shipped.insert("tokio".to_owned());
    assert_eq!(foreign(&shipped, &allowed()), ["tokio"]);
}

#[test]
fn what_the_chosen_bring_is_known() {
    let allowed = allowed();
    for brought in ["tiny_http", "ureq", "serde_json", "libc", "httparse", "log"] {
        assert!(allowed.contains(brought), "{brought} is missing from {allowed:?}");
    }
    for foreign in ["rustls", "native-tls", "flate2", "cookie_store", "testkit"] {
        assert!(!allowed.contains(foreign), "{foreign} came in through a feature: {allowed:?}");
    }
}

fn allowed() -> BTreeSet<String> {
    let mut allowed = packages_below(&CHOSEN);
    allowed.extend(OURS.map(str::to_owned));
    allowed
}

fn foreign(shipped: &BTreeSet<String>, allowed: &BTreeSet<String>) -> Vec<String> {
    shipped.difference(allowed).cloned().collect()
}

/// The names of `roots` and of every package that is linked into them for the shipped target. What only a
/// build script or a test needs is not among them.
fn packages_below(roots: &[&str]) -> BTreeSet<String> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let mut command = Command::new(cargo);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command.args(["tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}"]);
    command.arg("--target=x86_64-unknown-linux-musl");
    for root in roots {
        command.args(["--package", root]);
    }
    let output = command.output().unwrap_or_else(|error| panic!("{cargo}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree {roots:?}: {}\n{stderr}", output.status);
    let stdout = String::from_utf8_lossy(&output.stdout);
    stdout.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}
