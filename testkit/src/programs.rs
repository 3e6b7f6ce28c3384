//! Small programs that behave badly on purpose, for functions under test. They are modes of one binary,
//! `testkit-program`, which `--help` explains.

use crate::locate;

/// The modes of `testkit-program`.
const MODES: [&str; 16] = [
    "arguments",
    "closes_stdin",
    "dies_by_signal",
    "drips",
    "echo_env",
    "exits",
    "floods_stderr",
    "holds_stdout",
    "ignores_stdin",
    "serves",
    "serves_to_the_end",
    "sleeps",
    "spawns_grandchild",
    "spies",
    "writes",
    "writes_then_reads",
];

/// The command line that runs a program, to be given as `fprocess`: `spawns_grandchild`, or with arguments
/// `exits 3`.
///
/// # Panics
/// When there is no such program, or it cannot be built.
#[must_use]
#[track_caller]
pub fn program(line: &str) -> String {
    let name = line.split(' ').next().unwrap_or_default();
    assert!(MODES.contains(&name), "no program `{name}`, there are {MODES:?}");
    let path = locate::built("testkit-program", &["testkit"]);
    format!("{} {line}", path.display())
}
