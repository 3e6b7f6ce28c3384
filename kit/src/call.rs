//! The header fields in which a caller names its call and limits the call's time. The gateway and fwatchdog read both
//! by the same rules.

use std::fmt;
use std::time::Duration;

use crate::duration;
use crate::number::hex;

/// The header with the id of a call, in the caller's log and in ours.
pub const ID: &str = "X-Call-Id";

/// The longest id that is accepted: three UUIDs fit, and a log line stays one line.
pub const MAX_ID_BYTES: usize = 128;

/// The header with what is left of the caller's own deadline.
pub const TIMEOUT: &str = "X-Timeout";

/// The header of an answer that tells for how many milliseconds the call waited for a replica or its process.
pub const COLD_START_MS: &str = "X-Cold-Start-Ms";

/// The id in a value of [`ID`]: visible ASCII characters, at most [`MAX_ID_BYTES`]. Any other value is not accepted,
/// and the call gets a new id: half an id would find the wrong lines in the caller's log.
#[must_use]
pub fn id(value: &[u8]) -> Option<&str> {
    let is_id = (1..=MAX_ID_BYTES).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(value).ok().filter(|_| is_id)
}

/// The limit in a value of [`TIMEOUT`]. Zero means no limit, as in the settings; so does a value that is no duration.
#[must_use]
pub fn time_limit(value: &[u8]) -> Option<Duration> {
    let span = duration::parse(std::str::from_utf8(value).ok()?)?;
    (!span.is_zero()).then_some(span)
}

/// The id of one call: the caller's, or a new one. It allocates no memory.
#[derive(Clone, Copy)]
pub struct CallId {
    bytes: [u8; MAX_ID_BYTES],
    length: usize,
}

impl CallId {
    /// The `given` id, which [`id`] has accepted, or the 16 hexadecimal digits of a `random` number.
    pub fn of(given: Option<&str>, random: impl FnOnce() -> u64) -> CallId {
        match given {
            Some(id) => CallId::from(id.as_bytes()),
            None => CallId::from(&hex(random())),
        }
    }

    fn from(id: &[u8]) -> CallId {
        let mut bytes = [0; MAX_ID_BYTES];
        let length = id.len().min(MAX_ID_BYTES);
        bytes[..length].copy_from_slice(&id[..length]);
        CallId { bytes, length }
    }

    /// The id as it is sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The id as it is logged.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default() // both kinds are ASCII
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_the_callers_id_or_a_new_one() {
        let longest = "x".repeat(MAX_ID_BYTES);
        for given in ["abc-1", &longest] {
            assert_eq!(CallId::of(id(given.as_bytes()), || 1).as_str(), given);
        }
        for refused in ["", "a b", &(longest + "x")] {
            let new = CallId::of(id(refused.as_bytes()), || 0xabc0_0000_0000_0def);
            assert_eq!((new.as_bytes(), &*new.to_string()), (&b"abc0000000000def"[..], "abc0000000000def"));
        }
    }

    #[test]
    fn an_id_is_one_word_of_limited_length() {
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
    fn zero_and_what_is_no_duration_are_no_limit() {
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
