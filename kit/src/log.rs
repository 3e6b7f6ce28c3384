//! The logger behind the `log` facade: one event per line on stderr, `time level message`.
//!
//! A line is written with one `write` call, so lines of several threads and processes do not mix; a
//! stderr that cannot take it loses the line and nothing else.

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::calendar::timestamp;

/// The longest line that is written; the rest is cut. It is the size up to which a write to a pipe is
/// atomic (`PIPE_BUF`, pipe(7)).
pub const MAX_LINE_BYTES: usize = 4096;

/// The names of the levels that the `log` setting takes, in the order of [`level`].
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

struct Stderr;

static LOGGER: Stderr = Stderr;

/// What begins each message.
static SUBJECT: OnceLock<String> = OnceLock::new();

/// The level with the given place in [`LEVELS`].
#[must_use]
pub fn level(place: usize) -> LevelFilter {
    [LevelFilter::Error, LevelFilter::Warn, LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace][place]
}

/// Makes stderr the log of this process. The first call wins; later ones only change the level.
pub fn init(level: LevelFilter) {
    let _ = log::set_logger(&LOGGER); // an error only means that it is set already
    log::set_max_level(level);
}

/// Begins every message with `subject` and a colon, where several processes write to one log. The first call wins.
pub fn begin_with(subject: String) {
    let _ = SUBJECT.set(subject);
}

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = match SUBJECT.get() {
            Some(subject) => format!("{subject}: {}", record.args()),
            None => record.args().to_string(),
        };
        let line = line(now.as_secs(), now.subsec_millis(), record.level(), &text);
        let _ = std::io::stderr().write_all(&line); // nowhere left to report it
    }

    fn flush(&self) {}
}

/// One line: control characters in the message are escaped, so that no peer can forge a line.
fn line(seconds: u64, ms: u32, level: Level, message: &str) -> Vec<u8> {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let mut line = format!("{} {level} ", timestamp(seconds, ms));
    for character in message.chars() {
        if line.len() + 8 > MAX_LINE_BYTES {
            line.push('…');
            break;
        }
        match character {
            '\t' => line.push('\t'),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line.push('\n');
    line.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_cannot_forge_a_line() {
        let line = line(0, 5, Level::Warn, "a\r\nb\u{1b}[31m\tc");
        assert_eq!(line, b"1970-01-01T00:00:00.005Z warn a\\r\\nb\\u{1b}[31m\tc\n");
    }

    #[test]
    fn a_long_line_is_cut() {
        for size in [MAX_LINE_BYTES - 100, MAX_LINE_BYTES, 10 * MAX_LINE_BYTES] {
            let line = line(0, 0, Level::Info, &"x".repeat(size));
            assert!(line.len() <= MAX_LINE_BYTES && line.ends_with(b"\n"), "{}", line.len());
        }
    }
}
