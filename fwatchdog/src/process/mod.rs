//! The function's processes: how one starts, how it is found again with all that it has started, how it ends.

mod family;
pub(crate) mod groups;
pub(crate) mod instance;
pub(crate) mod launcher;
mod lines;
pub(crate) mod log_stream;
pub(crate) mod mark;
mod scan;
mod sorted_set;
pub(crate) mod table;
pub(crate) mod tree;
pub(crate) mod warm;
