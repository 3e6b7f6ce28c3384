//! The life of one invocation: a replica is chosen or waited for, the call is relayed, one answer goes out, one
//! observation is made. What leads to a call, such as routes and credentials, is above this layer and not known here.

mod admission;
mod context;
mod headers;
mod life;
mod looks;
mod times;
mod upkeep;
mod waits;

pub(crate) use admission::cannot_start;
pub(crate) use context::{CallLimits, Calls};
pub(crate) use life::{Invocation, begin, serve};
pub(crate) use looks::Looks;
pub(crate) use upkeep::Upkeep;
pub(crate) use waits::Waits;
