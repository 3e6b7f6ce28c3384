//! End to end: the images of the gateway and of functions on a real Swarm, called from outside of it.
//!
//! Each test has services of its own and removes them; they run one at a time, since some stop the engine.

mod admin;
mod broken;
mod calls;
mod chaos;
mod control;
#[path = "../monitor/dashboard.rs"]
mod dashboard;
mod engine;
mod image;
mod kills;
mod lab;
mod load;
mod networks;
mod scaling;
mod stack;
mod updates;
mod verdict;

/// The text of a file of this repository.
#[track_caller]
fn text(path: &str) -> String {
    let path = testkit::workspace().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
