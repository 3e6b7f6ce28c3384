//! Where the binaries under test are: `FAAS_BIN_DIR`, or cargo's own output directory next to the
//! running test, brought up to date once per test process.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Directory with finished binaries, relative to the workspace or absolute. Set for tests of what is
/// shipped; unset, cargo builds what the tests need.
const ENV_BIN_DIR: &str = "FAAS_BIN_DIR";

/// Set by `make soak`.
const ENV_SOAK: &str = "FAAS_SOAK";

/// Where cargo puts its output, for all workspaces.
const ENV_TARGET_DIR: &str = "CARGO_TARGET_DIR";

/// The workspace of the sample functions.
pub(crate) const SAMPLES: &str = "sample-functions";

/// A variable of the environment of the test itself; `None` when it is empty.
#[allow(clippy::disallowed_methods)] // tests have no configuration of their own; this is their one door
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// How often a test repeats itself: `all` times under `make soak`, else `some`.
#[must_use]
pub fn rounds(some: usize, all: usize) -> usize {
    if variable(ENV_SOAK).is_some() { all } else { some }
}

/// The workspace's root.
#[must_use]
pub fn workspace() -> &'static Path {
    let member = Path::new(env!("CARGO_MANIFEST_DIR"));
    member.parent().unwrap_or(member)
}

/// The product's binary `name`, built from `packages` unless `FAAS_BIN_DIR` has it.
pub(crate) fn product(name: &str, packages: &[&str]) -> PathBuf {
    let Some(dir) = variable(ENV_BIN_DIR) else {
        return built(name, packages);
    };
    let path = workspace().join(dir).join(name);
    assert!(path.is_file(), "{ENV_BIN_DIR} has no {}", path.display());
    path
}

/// The binary `name`, after cargo has brought `packages` up to date.
///
/// A file that merely exists is not enough: `cargo test -p gateway` does not rebuild fwatchdog, and a
/// test against yesterday's binary is worse than none. A build with nothing to do takes 0.1 s.
pub(crate) fn built(name: &str, packages: &[&str]) -> PathBuf {
    static DONE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let profile_dir = profile_dir();
    let missing: Vec<&str> = packages.iter().copied().filter(|package| !done.contains(*package)).collect();
    if !missing.is_empty() {
        build(&profile_dir, &missing);
        done.extend(missing.into_iter().map(str::to_owned));
    }
    let path = profile_dir.join(name);
    assert!(path.is_file(), "cargo built {packages:?}, but there is no {}", path.display());
    path
}

/// The directory `TARGET[/TRIPLE]/PROFILE` that the running executable was built into.
fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().unwrap_or_else(|e| panic!("path of the running test: {e}"));
    let dir = exe.parent().unwrap_or(&exe);
    match dir.file_name().and_then(|name| name.to_str()) {
        Some("deps" | "examples") => dir.parent().unwrap_or(dir).to_owned(),
        _ => dir.to_owned(),
    }
}

fn build(profile_dir: &Path, packages: &[&str]) {
    let flags = flags(profile_dir);
    cargo_build(&flags.iter().map(String::as_str).collect::<Vec<_>>(), packages);
}

fn cargo_build(flags: &[&str], packages: &[&str]) {
    let cargo = variable("CARGO").unwrap_or_else(|| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args(["build", "--quiet", "--bins"]).args(flags);
    for package in packages {
        command.args(["-p", package]);
    }
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The binary of the sample function `name`, after cargo has brought it up to date. The samples are a
/// workspace of their own, whose target directory is its own too unless all of cargo's output was sent
/// elsewhere; `make test` has built them there.
pub(crate) fn sample(name: &str) -> PathBuf {
    static DONE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut done = DONE.lock().unwrap_or_else(PoisonError::into_inner);
    let samples = workspace().join(SAMPLES);
    let target_dir = match variable(ENV_TARGET_DIR) {
        // Made absolute by where the test itself is: the variable may be relative to somewhere else.
        Some(_) => target_dir(&profile_dir()),
        None => samples.join("target"),
    };
    if !done.contains(name) {
        let manifest = samples.join("Cargo.toml").to_string_lossy().into_owned();
        let target_dir = target_dir.to_string_lossy();
        cargo_build(&["--manifest-path", &manifest, "--target-dir", &target_dir], &[name]);
        done.insert(name.to_owned());
    }
    let path = target_dir.join("debug").join(name);
    assert!(path.is_file(), "cargo built `{name}`, but there is no {}", path.display());
    path
}

/// The target directory above `profile_dir`, see [`flags`].
fn target_dir(profile_dir: &Path) -> PathBuf {
    let is_target = |path: &&Path| path.join("CACHEDIR.TAG").exists();
    profile_dir.ancestors().skip(1).take(2).find(is_target).unwrap_or(profile_dir).to_owned()
}

/// The flags that make cargo build into `profile_dir` again. Cargo marks the root of a target directory that it
/// has made with `CACHEDIR.TAG`, which tells it from a directory named after a target triple; one that somebody else
/// has made has no mark, and no such name either.
fn flags(profile_dir: &Path) -> Vec<String> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut flags = match name(profile_dir).as_str() {
        "debug" => vec![],
        profile => vec!["--profile".to_owned(), profile.to_owned()],
    };
    let mut target_dir = profile_dir.parent().unwrap_or(profile_dir);
    let is_triple = name(target_dir).matches('-').count() >= 2;
    if is_triple && !target_dir.join("CACHEDIR.TAG").exists() {
        flags.extend(["--target".to_owned(), name(target_dir)]);
        target_dir = target_dir.parent().unwrap_or(target_dir);
    }
    flags.extend(["--target-dir".to_owned(), target_dir.to_string_lossy().into_owned()]);
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_lead_back_to_the_directory() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("CACHEDIR.TAG"), "").unwrap();
        let target = root.path().to_str().unwrap();
        let cases: [(&str, &[&str]); 3] = [
            ("debug", &["--target-dir", target]),
            ("release", &["--profile", "release", "--target-dir", target]),
            (
                "x86_64-unknown-linux-musl/release",
                &["--profile", "release", "--target", "x86_64-unknown-linux-musl", "--target-dir", target],
            ),
        ];
        for (below, want) in cases {
            assert_eq!(flags(&root.path().join(below)), want, "{below}");
            assert_eq!(target_dir(&root.path().join(below)), root.path(), "{below}");
        }
    }

    #[test]
    fn the_running_test_is_in_a_profile_directory() {
        let dir = profile_dir();
        assert!(dir.join("deps").is_dir(), "{}", dir.display());
    }
}
