//! What a caller says of its call in headers: the call's name, and how long it may take. The gateway and fwatchdog
//! read both by the same rules.

use std::time::Duration;

use crate::duration;

/// The header with the name of a call, in the caller's log and in ours.
pub const ID: &str = "X-Call-Id";

/// The longest name that is taken: three UUIDs fit, and a log line stays one line.
pub const MAX_ID_BYTES: usize = 128;

/// The header with what is left of the caller's own deadline.
pub const TIMEOUT: &str = "X-Timeout";

/// The header of an answer with how many milliseconds its call waited for a replica, or for the replica's process.
pub const COLD_START_MS: &str = "X-Cold-Start-Ms";

/// The name in a value of [`ID`]: visible ASCII characters, at most [`MAX_ID_BYTES`]. Any other is not taken, and the
/// call gets a new name: half a name would find the wrong lines in the caller's log.
#[must_use]
pub fn id(value: &[u8]) -> Option<&str> {
    let is_name = (1..=MAX_ID_BYTES).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(value).ok().filter(|_| is_name)
}

/// The limit in a value of [`TIMEOUT`]. Zero is none, as in the settings, and so is what is no duration.
#[must_use]
pub fn time_limit(value: &[u8]) -> Option<Duration> {
    let span = duration::parse(std::str::from_utf8(value).ok()?)?;
    (!span.is_zero()).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_word_of_limited_length() {
        let longest = "x".repeat(MAX_ID_BYTES);
        for name in ["a", "abc-1", "{\"~!", &longest] {
            assert_eq!(id(name.as_bytes()), Some(name));
        }
        let too_long = longest.clone() + "x";
        for name in ["", "a b", "a\tb", "\u{fc}", "a\0", "a\x7f", &too_long] {
            assert_eq!(id(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn a_limit_is_a_duration_of_more_than_nothing() {
        let cases = [
            ("4812ms", Some(Duration::from_millis(4812))),
            ("1m30s", Some(Duration::from_secs(90))),
            ("2", Some(Duration::from_secs(2))),
            ("1ms", Some(Duration::from_millis(1))),
            ("0", None),
            ("0ms", None),
            ("0h0m0s", None),
            ("", None),
            ("-1s", None),
            ("soon", None),
            ("\u{fc}", None),
        ];
        for (value, want) in cases {
            assert_eq!(time_limit(value.as_bytes()), want, "{value}");
        }
    }
}
