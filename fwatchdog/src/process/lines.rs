//! Bytes of a process's STDERR, cut into lines of bounded length. A line ends with a line feed, a carriage return,
//! or both: programs that draw their progress over and over end it with the carriage return alone.

/// The longest line: it leaves room in a log line for time and call id. A longer line is cut into several.
pub(crate) const MAX_LINE_BYTES: usize = 3 * 1024;

/// The bytes of the line that has not ended yet.
#[derive(Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Whether a carriage return has just ended a line: the line feed that may follow ends no other.
    is_after_return: bool,
}

impl Lines {
    /// Takes more bytes. Hands every whole line to `emit`, and a line that is too long in pieces.
    pub(crate) fn take(&mut self, bytes: &[u8], mut emit: impl FnMut(&str)) {
        self.buffer.extend_from_slice(bytes);
        let mut start = 0;
        loop {
            let rest = &self.buffer[start..];
            match rest.iter().take(MAX_LINE_BYTES + 1).position(|byte| matches!(byte, b'\n' | b'\r')) {
                Some(end) => {
                    let ends_with_feed = rest[end] == b'\n';
                    // An empty line counts only if a line feed ends it that does not belong to CR LF.
                    if end > 0 || ends_with_feed && !self.is_after_return {
                        emit_text(&rest[..end], &mut emit);
                    }
                    self.is_after_return = end > 0 && !ends_with_feed;
                    start += end + 1;
                }
                None if rest.len() > MAX_LINE_BYTES => {
                    let end = cut(rest);
                    emit_text(&rest[..end], &mut emit);
                    start += end;
                }
                None => break,
            }
        }
        self.buffer.drain(..start);
    }

    /// Hands over the last line, which has no end.
    pub(crate) fn take_rest(&mut self, mut emit: impl FnMut(&str)) {
        if !self.buffer.is_empty() {
            emit_text(&self.buffer, &mut emit);
        }
        self.buffer = Vec::new();
    }
}

fn emit_text(line: &[u8], emit: &mut impl FnMut(&str)) {
    emit(&String::from_utf8_lossy(line));
}

/// Where a line that is too long is cut: not within a character, unless the line is no text.
fn cut(line: &[u8]) -> usize {
    let is_inside = |at: &usize| line[*at] & 0b1100_0000 == 0b1000_0000;
    (MAX_LINE_BYTES - 3..=MAX_LINE_BYTES).rev().find(|at| !is_inside(at)).unwrap_or(MAX_LINE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of `input` when it arrives in pieces of `size` bytes.
    fn lines(input: &[u8], size: usize) -> Vec<String> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in input.chunks(size) {
            lines.take(piece, |line| out.push(line.to_owned()));
        }
        lines.take_rest(|line| out.push(line.to_owned()));
        out
    }

    #[test]
    fn every_split_gives_the_same_lines() {
        let input = "one\n\ntwo\r\n\r\ngrün\nlast".as_bytes();
        for size in 1..=input.len() {
            assert_eq!(lines(input, size), ["one", "", "two", "", "grün", "last"], "{size}");
        }
        assert_eq!(lines(b"", 1), [""; 0]);
        assert_eq!(lines(b"\xff\xfe\n", 9), ["\u{fffd}\u{fffd}"]);
    }

    #[test]
    fn a_carriage_return_ends_a_line_of_progress() {
        let input = b"\r 10%\r 20%\r\r 30%\r\ndone\n\r\n";
        for size in 1..=input.len() {
            assert_eq!(lines(input, size), [" 10%", " 20%", " 30%", "done", ""], "{size}");
        }
        let (mut pending, mut out) = (Lines::default(), Vec::new());
        pending.take(b" 10%\r", |line| out.push(line.to_owned()));
        assert_eq!(out, [" 10%"], "a line of progress is not held back until the next one");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        for extra in 0..4 {
            let exact = "x".repeat(MAX_LINE_BYTES - extra);
            assert_eq!(lines(exact.as_bytes(), 1000), [exact.as_str()]);
            let text = exact + &"ü".repeat(10);
            for size in [7, 1000, text.len()] {
                let got = lines(text.as_bytes(), size);
                assert_eq!(got.concat(), text, "{extra} {size}");
                assert!(got.len() == 2 && got.iter().all(|line| line.len() <= MAX_LINE_BYTES));
            }
        }
    }
}
