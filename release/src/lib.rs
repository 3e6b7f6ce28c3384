//! What accompanies the shipped binaries: the licence texts of everything inside them, and a list of it (SBOM).
//!
//! The same input gives the same bytes: no clock, no random number, no path of the machine in them.

#![forbid(unsafe_code)]

mod licences;
mod package;
mod sbom;
mod toolchain;

use std::fmt;

pub use licences::{Notice, licences_text, notices};
pub use package::{Package, SHIPPED, shipped};
pub use sbom::sbom;
pub use toolchain::{Toolchain, standard_library};

/// What went wrong, on what.
#[derive(Debug)]
pub struct Error(pub(crate) String);

impl Error {
    /// `failed to ACTION OPERAND: CAUSE`, for the causes that are somebody else's words.
    pub(crate) fn failed(action: &str, operand: impl fmt::Display, cause: impl fmt::Display) -> Error {
        Error(format!("failed to {action} `{operand}`: {cause}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
