//! The end of a head in a growing buffer.

use crate::octets::line_feeds;

/// Finds the end of a head and reads each byte once, however the head was split.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    seen: usize,
    has_begun: bool,
}

impl Scan {
    /// The length of the head at the start of `buffer`, with the empty line that ends it and with empty lines
    /// before it (RFC 9112 section 2.2); `None` while its end is missing.
    pub fn end(&mut self, buffer: &[u8]) -> Option<usize> {
        if !self.has_begun {
            let start = buffer[self.seen..].iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
            self.has_begun = start.is_some();
            self.seen = start.map_or(buffer.len(), |start| self.seen + start);
        }
        let mut at = self.seen;
        while let Some(word) = buffer[at..].first_chunk() {
            let mut places = line_feeds(*word);
            while places != 0 {
                let line_end = at + places.trailing_zeros() as usize / 8;
                if let Some(end) = self.end_behind(buffer, line_end) {
                    return end;
                }
                places &= places - 1;
            }
            at += word.len();
        }
        for line_end in at..buffer.len() {
            if buffer[line_end] == b'\n'
                && let Some(end) = self.end_behind(buffer, line_end)
            {
                return end;
            }
        }
        self.seen = buffer.len();
        None
    }

    /// The end of the head if an empty line follows the line feed at `line_end`; `Some(None)` if the next byte decides.
    fn end_behind(&mut self, buffer: &[u8], line_end: usize) -> Option<Option<usize>> {
        let end = match &buffer[line_end + 1..] {
            [b'\n', ..] => Some(line_end + 2),
            [b'\r', b'\n', ..] => Some(line_end + 3),
            [] | [b'\r'] => None,
            _ => return None,
        };
        self.seen = line_end; // the next look begins here
        Some(end)
    }

    /// Counts bytes that are thrown away unread.
    pub(crate) fn add(&mut self, count: usize) {
        self.seen = self.seen.saturating_add(count);
    }

    /// The bytes counted.
    pub(crate) fn count(self) -> usize {
        self.seen
    }

    /// Whether a head has begun: empty lines before it do not count.
    #[must_use]
    pub fn has_begun(self) -> bool {
        self.has_begun
    }
}
