//! Kinds of bytes, and searches that compare eight bytes at a time.

const LOW: u64 = u64::from_ne_bytes([0x7f; 8]);
const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH: u64 = ONES * 0x80;

/// Whether a byte is a character of a token (RFC 9110 section 5.6.2).
pub(crate) const fn is_token(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.'
        | b'^'..=b'`' | b'|' | b'~')
}

/// The class of a byte that is in no token, of one that may be, and the mark of `_`.
const OTHER: u8 = 0;
const IN_TOKEN: u8 = 1;
const UNDERSCORE: u8 = 2;

const CLASSES: [u8; 256] = {
    let mut table = [OTHER; 256];
    let mut byte = 0;
    while byte < 256 {
        if is_token(byte as u8) {
            table[byte] = IN_TOKEN;
        }
        byte += 1;
    }
    table[b'_' as usize] |= UNDERSCORE;
    table
};

/// The token at the start: its length, and whether there is a `_` in it.
#[inline(always)]
pub(crate) fn token(bytes: &[u8]) -> (usize, bool) {
    let mut seen = OTHER;
    let end = bytes.iter().position(|byte| {
        let class = CLASSES[usize::from(*byte)];
        seen |= class;
        class == OTHER
    });
    (end.unwrap_or(bytes.len()), seen & UNDERSCORE != 0)
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
fn control(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks();
    for (place, word) in words.iter().enumerate() {
        let found = controls(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(place * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    rest.iter().position(u8::is_ascii_control).map(|place| words.len() * 8 + place)
}

/// Whether there is a control character or a tab. The last word may overlap the one before.
pub(crate) fn has_control(bytes: &[u8]) -> bool {
    let (words, _) = bytes.as_chunks();
    match (bytes.last_chunk(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        (Some(last), ..) => words.iter().chain([last]).any(|word| controls(u64::from_le_bytes(*word)) != 0),
        (None, Some(first), Some(last)) => {
            let halves = u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last));
            controls(halves) != 0
        }
        _ => bytes.iter().any(u8::is_ascii_control),
    }
}

/// The places of control characters in a word, as the highest bit of each place. A bit may be set falsely above the
/// lowest one, and never below it.
fn controls(word: u64) -> u64 {
    let below_space = word.wrapping_sub(ONES * 0x20) & !word;
    let delete = word ^ LOW;
    (below_space | delete.wrapping_sub(ONES) & !delete) & HIGH
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
                    assert_eq!(has_control(&bytes), byte.is_ascii_control(), "{byte}");
                    assert_eq!(text_length(&bytes), if is_text { length } else { place }, "{byte}");
                    let mut bytes = vec![b'a'; length];
                    bytes[place] = byte;
                    let end = if is_token(byte) { length } else { place };
                    assert_eq!(token(&bytes), (end, byte == b'_'), "{byte}");
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
