//! The codes with which the programs exit.

/// A failure at run time.
pub const EXIT_FAILURE: u8 = 1;

/// A configuration that cannot be used, arguments included.
pub const EXIT_CONFIGURATION: u8 = 2;
