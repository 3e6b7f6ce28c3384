//! The table of functions, their replicas with connection pools, and their limits of calls.

mod gate;
mod hook;
mod names;
mod probe;
mod raised;
mod replica;
mod table;

pub(crate) use gate::Pass;
pub(crate) use probe::Probe;
pub(crate) use replica::{Replica, Use};
pub(crate) use table::{Function, Table};
