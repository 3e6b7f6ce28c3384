//! The fields of a head.

use std::ops::Range;

use crate::name::is_same;
use crate::span::Field;

/// The version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// The names that a head may have, as a bit for each length and first letter: most look-ups of a field that is
/// missing end here.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Names {
    bits: u64,
    has_underscore: bool,
}

impl Names {
    #[inline]
    fn bit(name: &[u8]) -> u64 {
        // `A` and `a` differ in one bit, which is set here.
        name.first().map_or(0, |first| 1 << ((usize::from(*first | 0x20) ^ (name.len() * 4)) % 64))
    }

    fn may_have(self, name: &[u8]) -> bool {
        self.bits & Names::bit(name) != 0
    }
}

/// The places of all fields, in their order.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(crate) list: Vec<Field>,
    names: Names,
}

impl Fields {
    /// No fields, with the memory of `list`, which is empty.
    pub(crate) fn within(list: Vec<Field>) -> Fields {
        Fields { list, names: Names::default() }
    }

    /// Adds a field of the head in `bytes`.
    pub(crate) fn push(&mut self, bytes: &[u8], field: Field, has_underscore: bool) {
        self.names.bits |= Names::bit(field.name.in_bytes(bytes));
        self.names.has_underscore |= has_underscore;
        self.list.push(field);
    }

    pub(crate) fn headers<'a>(&'a self, bytes: &'a [u8]) -> Headers<'a> {
        Headers { bytes, fields: &self.list, names: self.names }
    }
}

/// The fields of a head, in their order, with repeated ones.
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    fields: &'a [Field],
    names: Names,
}

impl<'a> Headers<'a> {
    /// No fields.
    pub const EMPTY: Headers<'static> =
        Headers { bytes: &[], fields: &[], names: Names { bits: 0, has_underscore: false } };

    /// Every field: its name as it was written, and its value without white space around it.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let bytes = self.bytes;
        self.fields.iter().map(move |field| (field.name.in_bytes(bytes), field.value.in_bytes(bytes)))
    }

    /// Every field as in [`Headers::iter`], and the place of its line in [`Headers::bytes`] if the line can be copied.
    pub(crate) fn lines(self) -> impl Iterator<Item = Line<'a>> {
        let bytes = self.bytes;
        self.fields.iter().map(move |field| {
            let (name, value) = (field.name.range(), field.value.range());
            let place = field.is_plain.then_some(name.start..value.end + 2);
            Line { name: &bytes[name], value: &bytes[value], place }
        })
    }

    /// Whether a name has a `_`.
    #[must_use]
    pub fn have_underscores(self) -> bool {
        self.names.has_underscore
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The first value of a field; names compare without case.
    #[inline]
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        if self.names.may_have(name.as_bytes()) { self.get_all(name).next() } else { None }
    }

    /// Every value of a field.
    pub fn get_all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let bytes = self.bytes;
        let fields = if self.names.may_have(name.as_bytes()) { self.fields } else { &[] };
        fields
            .iter()
            .filter(move |field| is_same(field.name.in_bytes(bytes), name))
            .map(move |field| field.value.in_bytes(bytes))
    }

    /// The value of a field that is there once.
    #[must_use]
    pub fn single(self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.get_all(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// Whether a comma-separated field, such as `Connection`, has `token` in one of its lists.
    #[inline]
    #[must_use]
    pub fn has_token(self, name: &str, token: &str) -> bool {
        let has = |value| list(value).any(|item| item.eq_ignore_ascii_case(token.as_bytes()));
        self.names.may_have(name.as_bytes()) && self.get_all(name).any(has)
    }

    /// The number of fields.
    #[must_use]
    pub fn len(self) -> usize {
        self.fields.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.fields.is_empty()
    }
}

/// One field of a head.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    /// The place of the line, if the line can be copied as it is.
    pub(crate) place: Option<Range<usize>>,
}

/// The items of a comma-separated list, without white space around them and without empty ones (RFC 9110
/// section 5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_the_same_have_the_same_bit() {
        for name in ["Host", "content-length", "X-Call-Id", "_", "~a", ""] {
            let bits = [name.to_lowercase(), name.to_uppercase()].map(|name| Names::bit(name.as_bytes()));
            assert_eq!(bits, [Names::bit(name.as_bytes()); 2], "{name}");
        }
        let names = ["Host", "Connection", "User-Agent", "Expect", "Upgrade", "X-Call-Id", "Content-Length"];
        for (place, name) in names.iter().enumerate() {
            let others = names.iter().skip(place + 1);
            assert!(others.clone().all(|other| Names::bit(other.as_bytes()) != Names::bit(name.as_bytes())));
        }
    }
}
