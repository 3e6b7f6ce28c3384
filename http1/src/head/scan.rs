//! The end of a head in a growing buffer.

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
        while let Some(found) = line_feed(&buffer[at..]) {
            let line_end = at + found;
            let end = match &buffer[line_end + 1..] {
                [b'\n', ..] => Some(line_end + 2),
                [b'\r', b'\n', ..] => Some(line_end + 3),
                [] | [b'\r'] => None, // the next byte decides
                _ => {
                    at = line_end + 1;
                    continue;
                }
            };
            self.seen = line_end; // the next look begins here
            return end;
        }
        self.seen = buffer.len();
        None
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

/// The place of the first line feed. Eight bytes are compared at a time.
fn line_feed(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let differs = u64::from_le_bytes(*chunk) ^ (ONES * b'\n' as u64);
        let found = differs.wrapping_sub(ONES) & !differs & (ONES * 0x80); // the lowest bit set is right
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| *byte == b'\n').map(|place| at + place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_feed_is_found_among_all_bytes_wherever_it_is() {
        for length in 0..20 {
            for byte in 0..=255 {
                let without = vec![if byte == b'\n' { b'x' } else { byte }; length];
                assert_eq!(line_feed(&without), None, "{byte}");
                for place in 0..length {
                    let mut with = without.clone();
                    with[place] = b'\n';
                    assert_eq!(line_feed(&with), Some(place), "{byte}");
                }
            }
        }
    }
}
