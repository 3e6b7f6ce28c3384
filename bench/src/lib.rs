//! What the measurements share: proxies under test, the load on them, and what they cost. Not shipped.
//!
//! Rates drift with whatever else the machine does; CPU time per request is far steadier, so that comes first.
//! All load stays on loopback and ends by itself.
#![forbid(unsafe_code)]

pub mod load;
pub mod proxy;
