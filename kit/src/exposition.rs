//! The Prometheus text format 0.0.4.

use std::fmt::{Display, Write as _};

/// Appends a metric of one value, without labels.
pub fn single(page: &mut String, [name, kind, help]: [&str; 3], value: &dyn Display) {
    // Writing to a String cannot fail.
    let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}
