//! The processes of the function: how one is started, found again with all that it has started, and ended.

pub(crate) mod instance;
pub(crate) mod lines;
pub(crate) mod sorted_set;
pub(crate) mod table;
pub(crate) mod tree;
pub(crate) mod warm;
