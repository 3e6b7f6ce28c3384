//! What the tests of this project are made of: the real binaries started in a clean environment,
//! an HTTP client that shares no code with the product, scripted and hostile peers, seeded noise.
//!
//! Not shipped. Everything here fails loudly: a helper that cannot do its job panics with all it knows.

#![forbid(unsafe_code)]

pub mod bin;
pub mod document;
pub mod engine;
mod eventually;
pub mod explore;
mod fifo;
pub mod floods;
pub mod hostile;
pub mod http;
mod locate;
pub mod metrics;
pub mod peer;
pub mod proc;
pub mod process;
mod programs;
pub mod reader;
pub mod reply;
pub mod rng;
mod samples;
pub mod script;
pub mod stream;
pub mod surplus;
pub mod unreachable;
pub mod updates;
pub mod upstreams;

pub use bin::{Bin, Output, Running, is_root};
pub use eventually::eventually;
pub use fifo::fifo;
pub use locate::{rounds, variable, workspace};
pub use peer::Peer;
pub use process::Process;
pub use programs::program;
pub use reader::Reader;
pub use reply::{HttpError, Reply};
pub use samples::{is_installed, sample, sample_directory};
pub use script::{Gate, Script};
pub use stream::Address;
