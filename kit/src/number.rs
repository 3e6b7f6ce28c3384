//! Numbers and times as text, without `core::fmt`: it takes hundreds of instructions for each of them.

use std::time::Duration;

/// A number as 16 hexadecimal digits.
#[must_use]
pub fn hex(number: u64) -> [u8; 16] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 16];
    for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(number.to_be_bytes()) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    digits
}

/// A short text that is written from its last character to its first, as numbers are.
pub struct Backwards {
    bytes: [u8; MAX_TEXT_BYTES],
    start: usize,
}

/// The longest such text: the largest number of seconds with its microseconds fits.
const MAX_TEXT_BYTES: usize = 28;

impl Default for Backwards {
    fn default() -> Backwards {
        Backwards { bytes: [0; MAX_TEXT_BYTES], start: MAX_TEXT_BYTES }
    }
}

impl Backwards {
    /// Puts `text`, at most two characters, before the rest.
    pub fn put(&mut self, text: &[u8]) -> &mut Backwards {
        for byte in text.iter().rev() {
            self.start -= 1;
            self.bytes[self.start] = *byte;
        }
        self
    }

    /// Puts a number with at least `width` digits before the rest; a number has at most 20.
    pub fn decimal(&mut self, mut number: u64, width: usize) -> &mut Backwards {
        let end = self.start;
        let mut start = end;
        while number > 0 || end - start < width {
            start -= 1;
            self.bytes[start] = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.start = start;
        self
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Appends a number with at least `width` digits.
pub fn push_decimal(text: &mut String, number: u64, width: usize) {
    let mut digits = Backwards::default();
    text.push_str(str::from_utf8(digits.decimal(number, width).text()).unwrap_or_default()); // digits are ASCII
}

/// Appends seconds to the millisecond, or to the microsecond where the time is no whole number of milliseconds:
/// `12.345`.
pub fn push_seconds(text: &mut String, time: Duration) {
    let us = time.subsec_micros();
    push_decimal(text, time.as_secs(), 1);
    text.push('.');
    match us.is_multiple_of(1000) {
        true => push_decimal(text, u64::from(us / 1000), 3),
        false => push_decimal(text, u64::from(us), 6),
    }
}

/// Appends seconds to the nanosecond, without trailing zeros: `0.005`, `10`.
pub fn push_short_seconds(text: &mut String, time: Duration) {
    push_decimal(text, time.as_secs(), 1);
    text.push('.');
    push_decimal(text, u64::from(time.subsec_nanos()), 9);
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(push: impl FnOnce(&mut String)) -> String {
        let mut text = String::from("=");
        push(&mut text);
        text.split_off(1)
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for number in [0, 1, 9, 10, 99, 100, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(hex(number), *format!("{number:016x}").as_bytes());
            assert_eq!(text(|text| push_decimal(text, number, 1)), format!("{number}"));
            assert_eq!(text(|text| push_decimal(text, number, 4)), format!("{number:04}"));
            assert_eq!(text(|text| push_decimal(text, number, 20)), format!("{number:020}"));
        }
    }

    #[test]
    fn seconds_have_three_or_six_decimals() {
        for (us, want) in [(0, "0.000"), (12_345_000, "12.345"), (1_000_001, "1.000001"), (70, "0.000070")] {
            assert_eq!(text(|text| push_seconds(text, Duration::from_micros(us))), want);
        }
    }

    #[test]
    fn short_seconds_are_exact() {
        let cases =
            [(0, "0"), (5_000_000, "0.005"), (10_000_000_000, "10"), (100_000_000_001, "100.000000001")];
        for (nanos, want) in cases {
            assert_eq!(text(|text| push_short_seconds(text, Duration::from_nanos(nanos))), want);
        }
    }
}
