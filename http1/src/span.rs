//! Ranges of bytes in a head, which cost no allocation each.

use std::ops::Range;

/// A range of bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    /// The bytes from `start` on. A head is shorter than 4 GiB by far.
    pub(crate) fn new(start: usize, length: usize) -> Span {
        Span { start: start as u32, length: length as u32 }
    }

    /// The part of this span from `start` on.
    pub(crate) fn from(self, start: usize) -> Span {
        Span { start: self.start + start as u32, length: self.length - start as u32 }
    }

    /// This span without its last `count` bytes.
    pub(crate) fn without_last(self, count: usize) -> Span {
        Span { length: self.length - count as u32, ..self }
    }

    /// A part of this span.
    pub(crate) fn part(self, range: Range<usize>) -> Span {
        Span::new(self.start as usize + range.start, range.len())
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
    /// The line is the name, `: `, the value and CRLF.
    pub(crate) is_plain: bool,
}
