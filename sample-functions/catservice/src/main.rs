//! `cat`: copies STDIN to STDOUT, then exits with 0.
//!
//! Its image can be `FROM scratch`. Bytes are written as soon as they are read; memory stays at one buffer. A
//! failure is one line on STDERR and exit code 1.
#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

/// The capacity of a Linux pipe: one read never fills a larger buffer.
const BUFFER_BYTES: usize = 64 * 1024;

fn main() -> ExitCode {
    match streams().and_then(|(mut input, mut output)| copy(&mut input, &mut output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // STDERR may have no reader; the exit code tells the failure too.
            let _ = writeln!(io::stderr(), "catservice: {error}");
            ExitCode::FAILURE
        }
    }
}

/// STDIN and STDOUT as plain files: the standard handles buffer by line.
fn streams() -> io::Result<(File, File)> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    Ok((File::from(input), File::from(output)))
}

/// Copies every byte. Interrupted calls are repeated, partial writes completed.
fn copy(input: &mut dyn Read, output: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = match input.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(named("failed to read STDIN", &error)),
        };
        output.write_all(&buffer[..count]).map_err(|error| named("failed to write STDOUT", &error))?;
    }
}

fn named(action: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{action}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the next step for each read: bytes, or an error.
    struct Steps(Vec<io::Result<&'static [u8]>>);

    impl Read for Steps {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let bytes = self.0.remove(0)?;
            buffer[..bytes.len()].copy_from_slice(bytes);
            Ok(bytes.len())
        }
    }

    /// Accepts at most two bytes a write, and every other write is interrupted.
    #[derive(Default)]
    struct Grudging {
        taken: Vec<u8>,
        calls: usize,
    }

    impl Write for Grudging {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls % 2 == 1 {
                return Err(ErrorKind::Interrupted.into());
            }
            let count = bytes.len().min(2);
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn interrupted_reads_and_partial_writes_lose_nothing() {
        let interrupted = || Err(ErrorKind::Interrupted.into());
        let mut input = Steps(vec![interrupted(), Ok(b"hello, "), interrupted(), Ok(b"world")]);
        let mut output = Grudging::default();
        copy(&mut input, &mut output).expect("nothing failed for good");
        assert_eq!(output.taken, b"hello, world");
    }

    #[test]
    fn a_failed_read_is_named() {
        let mut input = Steps(vec![Ok(b"half"), Err(ErrorKind::IsADirectory.into())]);
        let mut output = Vec::new();
        let error = copy(&mut input, &mut output).expect_err("the read failed");
        assert!(error.to_string().starts_with("failed to read STDIN: "), "{error}");
        assert_eq!(output, b"half");
    }
}
