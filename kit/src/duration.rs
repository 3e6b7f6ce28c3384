//! Durations as people write them in settings and headers: `500ms`, `2s`, `1m30s`, `1h`, or a plain
//! integer for seconds.

use std::fmt::Write as _;
use std::time::Duration;

/// The longest duration a setting may name: ten years. It keeps sums with the clock from overflowing.
pub const MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a refused duration is told to look like.
pub const EXPECTED: &str =
    "a duration such as 500ms, 2s, 1m30s, 1h, or a whole number of seconds, up to ten years";

/// Reads a duration. `None` for anything that is not one, has a sign or a fraction, or exceeds
/// [`MAX`].
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let total_ms = if text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse::<u64>().ok()?.checked_mul(1000)?
    } else {
        parse_units(text)?
    };
    let duration = Duration::from_millis(total_ms);
    (duration <= MAX).then_some(duration)
}

/// Sums `<integer><unit>` groups, in milliseconds.
fn parse_units(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total_ms = 0u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit_ms = match &rest[..letters] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        rest = &rest[letters..];
        total_ms = total_ms.checked_add(number.checked_mul(unit_ms)?)?;
    }
    Some(total_ms)
}

/// Writes a duration in the form that [`parse`] reads, whole milliseconds: `4812ms`, `2s`, `1m30s`.
#[must_use]
pub fn format(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms == 0 || !ms.is_multiple_of(1000) {
        return format!("{ms}ms");
    }
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    let mut text = String::new();
    for (number, unit) in [(hours, 'h'), (minutes, 'm'), (seconds, 's')] {
        if number > 0 {
            let _ = write!(text, "{number}{unit}"); // a String cannot fail
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_contract_names() {
        let cases = [
            ("500ms", Some(500)),
            ("2s", Some(2000)),
            ("1m30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("30", Some(30_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("", None),
            ("s", None),
            ("5x", None),
            ("-5s", None),
            ("+5", None),
            ("1.5s", None),
            (" 5s", None),
            ("5 s", None),
            ("5s3", None),
            ("99999999999999999999", None),
            ("18446744073709551615h", None),
            ("87601h", None),
            ("87600h", Some(87600 * 3_600_000)),
        ];
        for (text, want_ms) in cases {
            assert_eq!(parse(text), want_ms.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for (ms, want) in [
            (0, "0ms"),
            (4812, "4812ms"),
            (2000, "2s"),
            (90_000, "1m30s"),
            (3_600_000, "1h"),
            (3_601_000, "1h1s"),
        ] {
            let duration = Duration::from_millis(ms);
            assert_eq!(format(duration), want);
            assert_eq!(parse(want), Some(duration));
        }
    }
}
