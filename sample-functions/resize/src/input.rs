//! The bytes of the request, up to a limit: the image is decoded as it arrives and never held as a whole.

use std::io::{self, BufRead, ErrorKind, Read, Seek, SeekFrom};

/// Room for any PNG that may be decoded, unless it is hardly compressed.
pub(crate) const MAX_INPUT_BYTES: u64 = 16 * 1024 * 1024;

/// A reader that fails, with a message for the caller, after `left` bytes.
pub(crate) struct Input {
    source: Box<dyn BufRead>,
    left: u64,
}

impl Input {
    pub(crate) fn new(source: Box<dyn BufRead>) -> Input {
        Input { source, left: MAX_INPUT_BYTES }
    }

    /// Reads the bytes after the image, and drops them.
    ///
    /// # Errors
    /// When the input cannot be read, or is over the limit.
    pub(crate) fn drain(&mut self) -> Result<(), String> {
        io::copy(self, &mut io::sink()).map(|_| ()).map_err(|error| error.to_string())
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let size = loop {
            match self.source.fill_buf() {
                Ok(bytes) => break bytes.len(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(io::Error::other(format!("failed to read STDIN: {error}"))),
            }
        };
        if size == 0 {
            return Ok(&[]);
        }
        if self.left == 0 {
            let text = format!("expected a PNG of at most {MAX_INPUT_BYTES} bytes, got more");
            return Err(io::Error::other(text));
        }
        let size = size.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        // The same bytes as in `fill_buf`: none was consumed.
        self.source.fill_buf().map(|bytes| &bytes[..size])
    }

    fn consume(&mut self, size: usize) {
        self.left -= size as u64; // at most what `fill_buf` returned
        self.source.consume(size);
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.fill_buf()?.read(buffer)?;
        self.consume(size);
        Ok(size)
    }
}

/// The library requires `Seek`, and never seeks.
impl Seek for Input {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Cursor};

    use super::*;

    #[test]
    fn the_limit_counts_the_bytes_read() {
        let refusal = Err(format!("expected a PNG of at most {MAX_INPUT_BYTES} bytes, got more"));
        for (size, want) in [(0, Ok(())), (MAX_INPUT_BYTES, Ok(())), (MAX_INPUT_BYTES + 1, refusal)] {
            let mut input = Input::new(Box::new(BufReader::new(io::repeat(7).take(size))));
            assert_eq!(input.drain(), want, "{size}");
        }
    }

    #[test]
    fn interrupted_reads_are_repeated_and_errors_name_the_input() {
        struct Breaks(u8);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                match self.0 {
                    1 | 3 => Err(ErrorKind::Interrupted.into()),
                    2 => Cursor::new(b"ab").read(buffer),
                    _ => Err(ErrorKind::IsADirectory.into()),
                }
            }
        }
        let mut input = Input::new(Box::new(BufReader::new(Breaks(0))));
        let mut bytes = [0; 2];
        input.read_exact(&mut bytes).expect("it is there");
        assert_eq!(&bytes, b"ab");
        assert_eq!(input.drain(), Err(format!("failed to read STDIN: {}", ErrorKind::IsADirectory)));
    }
}
