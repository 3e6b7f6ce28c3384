//! `wc -w`: the number of words on STDIN, on a line of its own.
//!
//! A word is a run of bytes that are no ASCII white space, so text in any encoding that extends ASCII is
//! counted. Memory stays at one buffer. A failure is one line on STDERR and exit code 1.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;

/// The capacity of a Linux pipe: one read never fills a larger buffer.
const BUFFER_BYTES: usize = 64 * 1024;

fn main() -> ExitCode {
    match count(&mut io::stdin().lock()).and_then(print) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // STDERR may have no reader; the exit code tells the failure too.
            let _ = writeln!(io::stderr(), "wordcount: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print(words: u64) -> io::Result<()> {
    let written = writeln!(io::stdout(), "{words}").and_then(|()| io::stdout().flush());
    written.map_err(|error| named("failed to write STDOUT", &error))
}

/// Counts the words of `input`. A word may span any number of reads.
fn count(input: &mut dyn Read) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut words = 0;
    let mut is_in_word = false;
    loop {
        let size = match input.read(&mut buffer) {
            Ok(0) => return Ok(words),
            Ok(size) => size,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(named("failed to read STDIN", &error)),
        };
        for byte in &buffer[..size] {
            let is_word = !is_space(*byte);
            words += u64::from(is_word && !is_in_word);
            is_in_word = is_word;
        }
    }
}

/// isspace(3) in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn named(action: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{action}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns its pieces one by one, each after an interrupted read.
    struct Pieces<'a>(Vec<Option<&'a [u8]>>);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.pop() {
                None => Ok(0),
                Some(None) => Err(ErrorKind::Interrupted.into()),
                Some(Some(piece)) => {
                    buffer[..piece.len()].copy_from_slice(piece);
                    Ok(piece.len())
                }
            }
        }
    }

    #[test]
    fn words_are_separated_by_white_space() {
        let cases: [(&[u8], u64); 9] = [
            (b"", 0),
            (b" \t\n\x0b\x0c\r", 0),
            (b"one", 1),
            (b"one two three", 3),
            (b"  one\n\n two\tthree\x0bfour\x0cfive\rsix\n", 6),
            ("größer als null\n".as_bytes(), 3),
            (b"\x1c \xff\xfe \x00", 3),
            (b"a\x08b\x0ec", 1),
            (b"don't stop-me", 2),
        ];
        for (text, want) in cases {
            assert_eq!(
                count(&mut &*text).expect("it can be read"),
                want,
                "{:?}",
                text.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn a_word_counts_once_however_it_is_split() {
        let text = b"one  two three ";
        for first in 1..text.len() {
            for second in first..text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                let filled = pieces.into_iter().filter(|piece| !piece.is_empty());
                let mut steps: Vec<_> = filled.flat_map(|piece| [None, Some(piece)]).collect();
                steps.reverse();
                assert_eq!(count(&mut Pieces(steps)).expect("it can be read"), 3, "{pieces:?}");
            }
        }
    }
}
