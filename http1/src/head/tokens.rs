//! Splits a head into its parts (RFC 9112 sections 3 to 5). A bare LF ends a line as well.

use super::headers::{Fields, Version};
use crate::octets::{text_length, token};
use crate::span::{Field, Span};

/// The part of a head that is not as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The first line, or the end of the head.
    Line,
    /// The name of a field.
    Name,
    /// The value of a field.
    Value,
    /// The number of fields.
    Count,
}

/// The first line of a request.
pub(super) struct RequestLine {
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) version: Version,
}

/// A head that is read from its start to its end.
pub(super) struct Tokens<'a> {
    whole: &'a [u8],
    rest: &'a [u8],
}

// The small steps are a few instructions each, and a call of them would cost as much again.
impl<'a> Tokens<'a> {
    pub(super) fn new(whole: &'a [u8]) -> Tokens<'a> {
        Tokens { whole, rest: whole }
    }

    /// Takes the next `length` bytes.
    #[inline(always)]
    fn take(&mut self, length: usize) -> Span {
        let start = self.whole.len() - self.rest.len();
        self.rest = &self.rest[length..];
        Span::new(start, length)
    }

    /// Takes `text`, which must come next.
    #[inline(always)]
    fn require<const N: usize>(&mut self, text: &[u8; N]) -> Result<(), Flaw> {
        match self.rest.split_first_chunk() {
            Some((first, rest)) if first == text => self.rest = rest,
            _ => return Err(Flaw::Line),
        }
        Ok(())
    }

    /// Takes the end of a line; false where there is none.
    #[inline(always)]
    fn ends_line(&mut self) -> bool {
        match self.rest {
            [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] => self.rest = rest,
            _ => return false,
        }
        true
    }

    fn version(&mut self) -> Result<Version, Flaw> {
        self.require(b"HTTP/1.")?;
        match self.rest {
            [b'0', ..] => self.require(b"0").map(|()| Version::Http10),
            _ => self.require(b"1").map(|()| Version::Http11),
        }
    }

    /// Takes the first line, and empty lines before it.
    pub(super) fn request_line(&mut self) -> Result<RequestLine, Flaw> {
        while self.ends_line() {}
        let method = self.take(token(self.rest).0);
        self.require(b" ")?;
        let end = self.rest.iter().position(|byte| *byte <= b' ' || *byte == 0x7f);
        let target = self.take(end.ok_or(Flaw::Line)?);
        self.require(b" ")?;
        let version = self.version()?;
        if method.is_empty() || target.is_empty() || !self.ends_line() {
            return Err(Flaw::Line);
        }
        Ok(RequestLine { method, target, version })
    }

    /// Takes the first line of a response: its version and its status, three digits.
    pub(super) fn status_line(&mut self) -> Result<(Version, u16), Flaw> {
        let version = self.version()?;
        self.require(b" ")?;
        let [digits @ .., _] = self.rest.first_chunk::<4>().ok_or(Flaw::Line)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return Err(Flaw::Line);
        }
        self.take(digits.len());
        if self.rest.first() == Some(&b' ') {
            self.take(text_length(self.rest)); // the phrase
        }
        let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
        if self.ends_line() { Ok((version, status)) } else { Err(Flaw::Line) }
    }

    /// Takes the fields, at most `max`, into `list`, and the empty line behind them, with which the head ends.
    pub(super) fn fields(&mut self, max: usize, list: Vec<Field>) -> Result<Fields, Flaw> {
        let mut fields = Fields::within(list);
        while !self.ends_line() {
            if matches!(self.rest, [] | [b'\r', ..]) {
                return Err(Flaw::Line);
            }
            let (field, has_underscore) = self.field()?;
            if fields.list.len() == max {
                return Err(Flaw::Count);
            }
            fields.push(self.whole, field, has_underscore);
        }
        if self.rest.is_empty() { Ok(fields) } else { Err(Flaw::Line) }
    }

    /// Takes a field, and tells whether its name has a `_`.
    fn field(&mut self) -> Result<(Field, bool), Flaw> {
        let (length, has_underscore) = token(self.rest);
        let name = self.take(length);
        if name.is_empty() || self.require(b":").is_err() {
            return Err(Flaw::Name);
        }
        let before = self.rest;
        while let [b' ' | b'\t', rest @ ..] = self.rest {
            self.rest = rest;
        }
        let is_spaced = before.first() == Some(&b' ') && before.len() - self.rest.len() == 1;
        let text = &self.rest[..text_length(self.rest)];
        let value = self.take(text.len());
        let ends_plainly = self.rest.first() == Some(&b'\r');
        if !self.ends_line() {
            return Err(Flaw::Value);
        }
        let blanks = text.iter().rev().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let is_plain = is_spaced && ends_plainly && blanks == 0;
        Ok((Field { name, value: value.without_last(blanks), is_plain }, has_underscore))
    }
}
