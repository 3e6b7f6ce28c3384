//! The mark of one call: all processes that the call starts carry it, and are found by it wherever they have gone.

use std::fmt;

use kit::number::hex;
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

    /// The mark as the value of the variable: 16 hexadecimal digits.
    pub(crate) fn digits(self) -> [u8; 16] {
        hex(self.0)
    }

    /// Whether a process carries the mark; `None` while nobody can tell, as during its execve(2).
    pub(crate) fn is_carried_by(self, pid: i32) -> Option<bool> {
        if limits::mark_of(pid) == Some(self.0) {
            return Some(true);
        }
        table::has_variable(pid, &[ENV_MARK.as_bytes(), b"=", &self.digits()].concat())
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.digits()).unwrap_or_default()) // digits are ASCII
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_has_sixteen_digits() {
        assert_eq!(Mark(0x1f).to_string(), "000000000000001f");
        assert_eq!(&Mark(0x0123_4567_89ab_cdef).digits(), b"0123456789abcdef");
    }
}
