//! The logger behind the `log` facade: one event per line on stderr, `time level message`.
//!
//! Writing never waits for a reader of the log. A line that cannot be written at once is lost and counted; the next line
//! that can be written comes with the count. A line is one `write` call, so that lines of several threads and processes
//! do not mix.

use std::fmt::Display;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::Guarded;
use crate::calendar::timestamp;
use crate::exposition::{self, Value};
use crate::sys::Output;

/// The longest line that is written; the rest is cut. It is the size up to which a write to a pipe is
/// atomic (`PIPE_BUF`, pipe(7)).
pub const MAX_LINE_BYTES: usize = 4096;

/// The names of the levels that the `log` setting takes, in the order of [`level`].
pub const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

struct Stderr;

static LOGGER: Stderr = Stderr;

static STDERR: Lines = Lines::new(Output::Err, |lost| {
    now(Level::Warn, &format!("{lost} log lines were lost: nobody read the log in time"))
});

/// The text with which each message begins.
static SUBJECT: OnceLock<String> = OnceLock::new();

/// The level with the given place in [`LEVELS`].
#[must_use]
pub fn level(place: usize) -> LevelFilter {
    [LevelFilter::Error, LevelFilter::Warn, LevelFilter::Info, LevelFilter::Debug, LevelFilter::Trace][place]
}

/// Makes stderr the log of this process. To be called before threads are started and before the user changes, see
/// [`Output::open_again`]. The first call wins; later ones only change the level.
pub fn init(level: LevelFilter) {
    Output::Err.open_again();
    let _ = log::set_logger(&LOGGER); // an error only means that it is set already
    log::set_max_level(level);
}

/// Begins every message with `subject` and a colon, where several processes write to one log. The first call wins.
pub fn begin_with(subject: String) {
    let _ = SUBJECT.set(subject);
}

/// Writes a message of level info whatever the level of the log is.
pub fn announce(message: impl Display) {
    STDERR.write(&now(Level::Info, &message.to_string()));
}

/// Writes why `program` ends, without time and level.
pub(crate) fn say(program: &str, reason: &dyn Display) {
    STDERR.write(one_line(&format!("{program}: {reason}")).as_bytes());
}

/// Appends the count of lost lines in the Prometheus text format.
pub fn write_metrics(page: &mut String) {
    let about = ["log_lines_lost_total", "counter", "Log lines that nobody read in time."];
    exposition::single(page, about, Value::Count(STDERR.lost()));
}

impl Log for Stderr {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        STDERR.write(&now(record.level(), &record.args().to_string()));
    }

    fn flush(&self) {}
}

/// A stream of lines that never waits for its reader.
pub struct Lines {
    output: Output,
    /// The line that says how many lines were lost.
    lost_line: fn(u64) -> Vec<u8>,
    state: Guarded<State>,
    /// Lines that were lost since the start.
    lost: AtomicU64,
}

/// The lock is held during writes, which do not wait.
struct State {
    /// The rest of a line that a terminal or a socket took only in part. It is written first.
    rest: Vec<u8>,
    /// Lost lines that no line has reported yet.
    untold: u64,
}

impl Lines {
    /// Lines for a standard stream. `lost_line` is the line that tells how many lines were lost.
    pub const fn new(output: Output, lost_line: fn(u64) -> Vec<u8>) -> Lines {
        let state = Guarded::new(State { rest: Vec::new(), untold: 0 });
        Lines { output, lost_line, state, lost: AtomicU64::new(0) }
    }

    /// Writes a line of at most [`MAX_LINE_BYTES`], or counts it as lost.
    pub fn write(&self, line: &[u8]) {
        let mut state = self.state.lock();
        let is_written = match state.untold {
            0 => state.put(self.output, line),
            // Both at once: a stream that is almost full has room for the short line again and again.
            lost => {
                let mut both = (self.lost_line)(lost);
                both.extend_from_slice(line);
                state.put(self.output, &both)
            }
        };
        if is_written {
            state.untold = 0;
        } else {
            state.untold += 1;
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were lost since the start.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl State {
    /// Whether the stream took the line. The rest of a line taken in part is written before the next line.
    fn put(&mut self, output: Output, line: &[u8]) -> bool {
        let write = |bytes: &[u8]| output.write(bytes).ok().flatten();
        if !self.rest.is_empty() {
            let count = write(&self.rest).unwrap_or(0);
            self.rest.drain(..count);
        }
        match self.rest.is_empty().then(|| write(line)).flatten() {
            Some(count) => self.rest.extend_from_slice(&line[count..]),
            None => return false,
        }
        true
    }
}

/// A line of this moment with `text` behind the time.
#[must_use]
pub fn stamped(text: &str) -> Vec<u8> {
    at(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), text)
}

/// A line of this moment.
fn now(level: Level, message: &str) -> Vec<u8> {
    let level = LEVELS[level as usize - 1];
    stamped(&match SUBJECT.get() {
        Some(subject) => format!("{level} {subject}: {message}"),
        None => format!("{level} {message}"),
    })
}

/// A line of the moment that is so long after 1970: control characters are escaped, so that no peer can forge a line.
fn at(time: Duration, text: &str) -> Vec<u8> {
    let mut line = timestamp(time.as_secs(), time.subsec_millis());
    line.push(' ');
    push_escaped(&mut line, text);
    line.into_bytes()
}

/// A text that may hold foreign bytes as one whole line, as the log would write it.
#[must_use]
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    push_escaped(&mut line, text);
    line
}

/// Appends `text` and ends the line. Control characters are escaped, and what is too long is cut.
fn push_escaped(line: &mut String, text: &str) {
    for character in text.chars() {
        if line.len() + 8 > MAX_LINE_BYTES {
            *line += "…";
            break;
        }
        match character {
            '\n' => *line += "\\n",
            '\r' => *line += "\\r",
            character if character.is_control() && character != '\t' => {
                let code = u32::from(character); // at most two digits
                let digits = [code >> 4, code & 15].into_iter().skip(usize::from(code < 16));
                *line += "\\u{";
                line.extend(digits.filter_map(|digit| char::from_digit(digit, 16)));
                line.push('}');
            }
            character => line.push(character),
        }
    }
    *line += "\n";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    #[test]
    fn a_message_cannot_forge_a_line() {
        let line = at(Duration::from_millis(5), "warn a\r\nb\u{1b}[31m\tc");
        assert_eq!(line, b"1970-01-01T00:00:00.005Z warn a\\r\\nb\\u{1b}[31m\tc\n");
        for code in (0..=0x1f).chain(0x7f..=0x9f).filter(|code| *code != 9) {
            let character = char::from_u32(code).unwrap();
            assert_eq!(one_line(&character.to_string()), format!("{}\n", character.escape_default()));
        }
    }

    /// Runs the test of the given name in a process of its own, whose stderr is `stream`.
    #[track_caller]
    fn run(test: &str, stream: impl Into<Stdio>) {
        let arguments = ["--exact", "--ignored", "--nocapture", &format!("log::tests::{test}")];
        let output = Command::new("/proc/self/exe").args(arguments).stderr(stream).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }

    /// Nothing in there may write to the real stderr, which nobody reads.
    #[test]
    #[ignore = "fills stderr, run by the tests below"]
    fn fills_stderr_and_goes_on() {
        init(LevelFilter::Info);
        let (text, mut count) = ("x".repeat(1000), 0);
        while STDERR.lost() == 0 {
            log::info!("{text}");
            count += 1;
        }
        log::info!("{text}");
        assert!(count >= 16 && STDERR.lost() == 2, "{count}");
        assert!(std::thread::spawn(|| panic!("on purpose")).join().is_err(), "a panic is caught");
    }

    #[test]
    #[ignore = "fills stderr, run by the tests below"]
    fn fills_stderr_as_it_is() {
        while STDERR.lost() == 0 {
            STDERR.write(&[b'x'; MAX_LINE_BYTES]);
        }
    }

    #[test]
    fn a_stream_that_nobody_reads_holds_nobody_up() {
        let (_reader, writer) = io::pipe().unwrap();
        run("fills_stderr_and_goes_on", writer);
        let (_ours, theirs) = UnixStream::pair().unwrap();
        run("fills_stderr_as_it_is", OwnedFd::from(theirs));
        let (_reader, writer) = io::pipe().unwrap();
        run("fills_stderr_as_it_is", writer);
    }

    /// The flag would reach the process that started this one.
    #[test]
    fn an_inherited_stream_goes_on_waiting() {
        let (_reader, writer) = io::pipe().unwrap();
        let flags = || std::fs::read_to_string(format!("/proc/self/fdinfo/{}", writer.as_raw_fd())).unwrap();
        let before = flags();
        run("fills_stderr_and_goes_on", writer.try_clone().unwrap());
        assert_eq!(flags(), before);
    }

    #[test]
    #[ignore = "writes to stderr, run by the test below"]
    fn tells_what_was_lost() {
        STDERR.state.lock().untold = 2;
        STDERR.state.lock().rest = b"end\n".to_vec();
        STDERR.write(b"next\n");
        STDERR.write(b"last\n");
    }

    #[test]
    fn the_count_and_the_rest_of_a_line_come_before_the_next_line() {
        let (reader, writer) = io::pipe().unwrap();
        run("tells_what_was_lost", writer);
        let text = io::read_to_string(reader).unwrap();
        let [end, lost, next, last] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!([end, next, last], ["end", "next", "last"]);
        assert!(lost.ends_with("Z warn 2 log lines were lost: nobody read the log in time"), "{lost}");
    }

    #[test]
    fn a_long_line_is_cut() {
        for size in [MAX_LINE_BYTES - 100, MAX_LINE_BYTES, 10 * MAX_LINE_BYTES] {
            let line = at(Duration::ZERO, &"x".repeat(size));
            assert!(line.len() <= MAX_LINE_BYTES && line.ends_with(b"\n"), "{}", line.len());
        }
    }
}
