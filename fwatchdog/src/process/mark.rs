//! The mark of one call: all processes that the call starts carry it, and are found by it wherever they have gone.

use std::fmt;

use kit::sys::limits;

use super::table;

/// The variable that carries the mark.
pub(crate) const ENV_MARK: &str = "FAAS_CALL_MARK";

/// The mark. A process inherits it twice: as a variable, and as a limit, for a process that empties its environment or
/// writes a title over it. A process that does so and also sets this limit is not found, nor is one that another
/// service starts on its behalf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u64);

impl Mark {
    /// A mark that no other call has.
    pub(crate) fn new() -> Mark {
        Mark(limits::random_mark())
    }

    /// The mark as the value of the limit.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// Whether a process carries the mark; `None` while nobody can tell, as during its execve(2).
    pub(crate) fn is_carried_by(self, pid: i32) -> Option<bool> {
        if limits::mark_of(pid) == Some(self.0) {
            return Some(true);
        }
        table::has_variable(pid, format!("{ENV_MARK}={self}").as_bytes())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
