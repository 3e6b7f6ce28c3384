//! Ranges of bytes in a head, which cost no allocation each.

use std::ops::Range;

/// A range of bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    /// The place of `part`, which is a slice of `whole`.
    pub(crate) fn of(whole: &[u8], part: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Span { start: start as u32, length: part.len() as u32 }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.length == 0
    }

    pub(crate) fn in_bytes(self, whole: &[u8]) -> &[u8] {
        &whole[self.range()]
    }

    pub(crate) fn range(self) -> Range<usize> {
        self.start as usize..(self.start + self.length) as usize
    }
}

/// The places of a field's name and of its value, without white space around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: Span,
    pub(crate) value: Span,
}
