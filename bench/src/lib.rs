//! What the measurements share: servers under test, the load on them, and what they cost. Not shipped.
//!
//! Rates drift with whatever else the machine does; CPU time per request is far steadier, so that comes first.
//! All load stays on loopback and ends by itself.
#![forbid(unsafe_code)]

pub mod backend;
pub mod caller;
pub mod cost;
pub mod instructions;
pub mod interrupt;
pub mod load;
pub mod options;
pub mod pace;
pub mod proxy;
pub mod run;
pub mod spread;
pub mod table;
