//! The sample functions, for tests that serve them: the binaries of those in Rust, the folders of the others.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::locate;

/// `true` where a test that is skipped is a failure.
const ENV_CI: &str = "CI";

/// The command line that runs a sample function in Rust, to be given as `fprocess`.
///
/// # Panics
/// When there is none of that name, or it cannot be built.
#[must_use]
#[track_caller]
pub fn sample(name: &str) -> String {
    locate::sample(name).display().to_string()
}

/// The folder of a sample function.
///
/// # Panics
/// When there is none of that name.
#[must_use]
#[track_caller]
pub fn sample_directory(name: &str) -> PathBuf {
    let directory = locate::workspace().join(locate::SAMPLES).join(name);
    assert!(directory.is_dir(), "no sample function `{name}`");
    directory
}

/// Whether `program`, which a function is written for, runs here. Where it does not the test says so and is
/// skipped.
///
/// # Panics
/// When it does not under `CI=true`: what is skipped there is not tested anywhere.
#[must_use]
#[track_caller]
pub fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let is_installed = command.status().is_ok(); // not every program takes --version
    if !is_installed {
        let is_ci = locate::variable(ENV_CI).is_some_and(|value| value == "true");
        assert!(!is_ci, "{program} is not installed: skipping is a failure under CI=true");
        eprintln!("skipped: {program} is not installed");
    }
    is_installed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for() {
        assert!(is_installed("cargo"));
        if locate::variable(ENV_CI).is_none_or(|value| value != "true") {
            assert!(!is_installed("no-such-program"));
        }
    }

    #[test]
    fn folders_are_found() {
        assert!(sample_directory("nodeinfo").join("handler.js").is_file());
    }
}
