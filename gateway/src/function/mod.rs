//! The words that all parts share about a function: its name, its labels, and the facts that its provider knows.
//! Imports no other part of the gateway.

pub(crate) mod floor;
mod known;
pub(crate) mod labels;
pub(crate) mod name;

pub(crate) use known::{About, Backend, Known, Sink};
pub(crate) use name::FunctionName;
