//! Kinds of bytes, and searches that compare eight bytes at a time.

const LOW: u64 = u64::from_ne_bytes([0x7f; 8]);
const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES * 0x80;

/// Whether a byte is a character of a token (RFC 9110 section 5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.'
        | b'^'..=b'`' | b'|' | b'~')
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_token(byte as u8);
        byte += 1;
    }
    table
};

/// The number of token characters at the start.
#[inline(always)]
pub(crate) fn token_length(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| !TOKEN[usize::from(*byte)]).unwrap_or(bytes.len())
}

/// The number of bytes at the start that a value of a field may have: no control characters except tabs (RFC 9110
/// section 5.5).
#[inline]
pub(crate) fn text_length(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(place) = control(&bytes[at..]) {
        at += place;
        if bytes[at] != b'\t' {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

/// The place of the first control character or tab.
pub(crate) fn control(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks();
    for (place, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // A bit may be set falsely above the lowest one, and never below it.
        let below_space = word.wrapping_sub(ONES * 0x20) & !word;
        let delete = word ^ LOW;
        let found = (below_space | delete.wrapping_sub(ONES) & !delete) & HIGH;
        if found != 0 {
            return Some(place * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(u8::is_ascii_control).map(|place| words.len() * 8 + place)
}

/// The places of all line feeds in eight bytes, as the highest bit of each place.
pub(crate) fn line_feeds(bytes: [u8; 8]) -> u64 {
    let differs = u64::from_le_bytes(bytes) ^ (ONES * b'\n' as u64);
    !(((differs & LOW) + LOW) | differs | LOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_found_wherever_they_are() {
        for length in 0..20 {
            for byte in 0..=255 {
                for place in 0..length {
                    let mut bytes = vec![0xe4; length];
                    bytes[place] = byte;
                    let is_text = byte == b'\t' || !byte.is_ascii_control();
                    assert_eq!(control(&bytes), byte.is_ascii_control().then_some(place), "{byte}");
                    assert_eq!(text_length(&bytes), if is_text { length } else { place }, "{byte}");
                    let mut bytes = vec![b'a'; length];
                    bytes[place] = byte;
                    assert_eq!(token_length(&bytes), if is_token(byte) { length } else { place }, "{byte}");
                }
            }
        }
        for first in 0..=255 {
            for second in 0..=255 {
                let bytes = [first, second, b'x', first, b'\n', second, b'x', first];
                let want =
                    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte == b'\n') << 7);
                assert_eq!(line_feeds(bytes), want, "{first} {second}");
            }
        }
    }

    #[test]
    fn a_token_has_letters_digits_and_these() {
        let marks = "!#$%&'*+-.^_`|~";
        for byte in 0..=255u8 {
            let is_mark = byte.is_ascii() && marks.contains(char::from(byte));
            assert_eq!(is_token(byte), byte.is_ascii_alphanumeric() || is_mark, "{byte}");
        }
    }
}
