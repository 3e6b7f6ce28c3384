//! The request and the answer as the Common Gateway Interface (RFC 3875) writes them: variables in the environment of a
//! process, and a header block at the start of its output. All of it is pure.

pub mod header_block;
pub(crate) mod meta;
pub(crate) mod variables;
