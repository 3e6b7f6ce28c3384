//! What every binary here needs and the standard library lacks: typed settings from the
//! environment, one-line logging, deadlines, named threads, process figures, and [`sys`], the only
//! place with `unsafe` code.
//!
//! Left out on purpose: HTTP, Docker, metrics. Nothing in here knows what the programs do.

pub mod arguments;
pub mod backoff;
pub mod calendar;
pub mod call;
pub mod deadline;
pub mod duration;
pub mod exit;
pub mod exposition;
pub mod guarded;
pub mod handover;
pub mod log;
pub mod memory;
pub mod number;
pub mod process;
pub mod settings;
pub mod sys;
pub mod thread;

pub use backoff::Backoff;
pub use deadline::Deadline;
pub use guarded::Guarded;
