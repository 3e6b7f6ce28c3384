//! A function as everybody here speaks of it: its name, its labels, what its provider knows of it. Knows no other part of
//! the gateway.

pub(crate) mod floor;
mod known;
pub(crate) mod labels;
pub(crate) mod name;

pub(crate) use known::{About, Backend, Known, Sink};
pub(crate) use name::FunctionName;
