//! The life of one invocation: choose a replica or wait for one, relay the call, send one answer, make one
//! observation. Routes and credentials are above this layer, which does not know them.

mod admission;
mod context;
mod course;
mod headers;
mod invocation;
mod looks;
mod replicas;
mod stage;
mod times;
mod upkeep;
mod waits;

pub(crate) use admission::cannot_start;
pub(crate) use context::{CallLimits, Calls};
pub(crate) use course::{begin, serve};
pub(crate) use invocation::Invocation;
pub(crate) use looks::Looks;
pub(crate) use upkeep::Upkeep;
pub(crate) use waits::Waits;
