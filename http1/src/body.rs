//! The framing of bodies (RFC 9112 sections 6 and 7), without I/O: bytes in, spans of data out.

use crate::Refusal;
use crate::octets::is_token;

/// The largest length of a body and of a chunk. Every reader on the way has a number for it, with or without a sign.
pub const MAX_LENGTH: u64 = i64::MAX as u64;

/// The longest extension of one chunk. Extensions are dropped.
pub const MAX_EXTENSION_BYTES: usize = 4096;

/// The longest trailer section. Trailers are dropped.
pub const MAX_TRAILER_BYTES: usize = 4096;

/// The most digits of a chunk size. Leading zeros are legal, but bounded.
const MAX_SIZE_DIGITS: usize = 32;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// After this many bytes, at least one.
    Length(u64),
    /// After the last chunk.
    Chunked,
    /// At the end of the connection (responses only).
    UntilClose,
}

/// The length of a body, as far as it is known before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is no body.
    None,
    /// This many bytes.
    Known(u64),
    /// The length is known only at the end.
    Unknown,
}

impl From<Framing> for Length {
    fn from(framing: Framing) -> Length {
        match framing {
            Framing::Empty => Length::None,
            Framing::Length(length) => Length::Known(length),
            Framing::Chunked | Framing::UntilClose => Length::Unknown,
        }
    }
}

/// What comes next in the input: framing to skip, then data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes of decoded framing.
    pub skip: usize,
    /// Bytes of data behind the framing. Zero when more input is needed, or the body has ended.
    pub data: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length,
    UntilClose,
    Size,
    SizeSpace,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// Takes the framing off a body.
#[derive(Clone, Debug)]
pub struct Decoder {
    state: State,
    /// The bytes left of the body, or of the chunk whose size was read last.
    left: u64,
    /// The bytes read of the present chunk size, its extension, or the trailer section.
    count: usize,
    /// Whether blanks may follow a chunk size without an extension.
    takes_padding: bool,
}

impl Decoder {
    /// A decoder at the start of a body.
    #[must_use]
    pub fn new(framing: Framing) -> Decoder {
        let (state, left) = match framing {
            Framing::Empty | Framing::Length(0) => (State::Done, 0),
            Framing::Length(length) => (State::Length, length),
            Framing::Chunked => (State::Size, 0),
            Framing::UntilClose => (State::UntilClose, 0),
        };
        Decoder { state, left, count: 0, takes_padding: false }
    }

    /// A decoder for the body of an answer. Old servers pad chunk sizes with blanks. In a request that is refused: two
    /// programs that read such a line differently could find different requests on one connection.
    #[must_use]
    pub fn of_answer(framing: Framing) -> Decoder {
        Decoder { takes_padding: true, ..Decoder::new(framing) }
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the end of the connection is the end of the body.
    #[must_use]
    pub fn ends_at_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// The bytes left of the body's length, or of the chunk whose size was read.
    #[must_use]
    pub fn announced(&self) -> u64 {
        if matches!(self.state, State::Length | State::Data) { self.left } else { 0 }
    }

    /// Decodes `input`: how many bytes to skip, and how much data follows. The caller takes the data with
    /// [`Decoder::consume`].
    ///
    /// # Errors
    /// The reason to refuse the framing.
    pub fn step(&mut self, input: &[u8]) -> Result<Step, Refusal> {
        let mut skip = 0;
        loop {
            let rest = &input[skip..];
            match self.state {
                State::Done => return Ok(Step { skip, data: 0 }),
                State::UntilClose => {
                    return Ok(Step { skip, data: rest.len() });
                }
                State::Length | State::Data => {
                    let data = usize::try_from(self.left).unwrap_or(usize::MAX).min(rest.len());
                    return Ok(Step { skip, data });
                }
                _ => {}
            }
            let Some(byte) = rest.first() else {
                return Ok(Step { skip, data: 0 });
            };
            self.advance(*byte)?;
            skip += 1;
        }
    }

    /// Takes `count` bytes of the data that [`Decoder::step`] found.
    pub fn consume(&mut self, count: usize) {
        match self.state {
            State::Length | State::Data => {
                self.left = self.left.saturating_sub(count as u64);
                if self.left == 0 {
                    self.state = if self.state == State::Data { State::DataCr } else { State::Done };
                }
            }
            _ => {}
        }
    }

    /// Moves on by one byte of chunk framing (RFC 9112 section 7.1).
    fn advance(&mut self, byte: u8) -> Result<(), Refusal> {
        self.state = match (self.state, byte) {
            (State::Size, _) => return self.size_byte(byte),
            (State::SizeSpace, b' ' | b'\t') => {
                self.counted(State::SizeSpace, MAX_EXTENSION_BYTES, Refusal::ChunkExtension)?
            }
            (State::SizeSpace, b';') => State::Extension,
            (State::SizeSpace, b'\r') if self.takes_padding => State::SizeLf,
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, _) if !is_control(byte) => {
                self.counted(State::Extension, MAX_EXTENSION_BYTES, Refusal::ChunkExtension)?
            }
            (State::Extension, _) => return Err(Refusal::ChunkExtension),
            (State::SizeLf, b'\n') => {
                self.count = 0;
                if self.left == 0 { State::TrailerStart } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                (self.left, self.count) = (0, 0);
                State::Size
            }
            (State::DataCr | State::DataLf, _) => return Err(Refusal::ChunkCrlf),
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::EndLf, b'\n') => State::Done,
            (State::TrailerName, b':') | (State::TrailerValue, b'\t') => self.trailer(State::TrailerValue)?,
            (State::TrailerStart | State::TrailerName, _) if is_token(byte) => {
                self.trailer(State::TrailerName)?
            }
            (State::TrailerValue, b'\r') => self.trailer(State::TrailerLf)?,
            (State::TrailerValue, _) if !is_control(byte) => self.trailer(State::TrailerValue)?,
            (State::TrailerLf, b'\n') => self.trailer(State::TrailerStart)?,
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => {
                return Err(Refusal::Trailer);
            }
            (State::TrailerLf | State::EndLf, _) => return Err(Refusal::Trailer),
            _ => return Err(Refusal::ChunkSize),
        };
        Ok(())
    }

    fn size_byte(&mut self, byte: u8) -> Result<(), Refusal> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            self.state = self.counted(State::Size, MAX_SIZE_DIGITS, Refusal::ChunkSize)?;
            let size = self.left.checked_mul(16).and_then(|size| size.checked_add(u64::from(digit)));
            self.left = size.filter(|size| *size <= MAX_LENGTH).ok_or(Refusal::BodyTooLarge)?;
            return Ok(());
        }
        let had_digits = self.count > 0;
        self.count = usize::from(byte != b';'); // a blank counts towards the extension behind it
        self.state = match byte {
            b'\r' if had_digits => State::SizeLf,
            b';' if had_digits => State::Extension,
            b' ' | b'\t' if had_digits => State::SizeSpace,
            _ => return Err(Refusal::ChunkSize),
        };
        Ok(())
    }

    fn trailer(&mut self, to: State) -> Result<State, Refusal> {
        self.counted(to, MAX_TRAILER_BYTES, Refusal::Trailer)
    }

    fn counted(&mut self, to: State, limit: usize, refusal: Refusal) -> Result<State, Refusal> {
        self.count += 1;
        if self.count > limit { Err(refusal) } else { Ok(to) }
    }
}

/// A control character other than the tab.
fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of `size` bytes; answers the data and the bytes that were used.
    fn decode(framing: Framing, input: &[u8], size: usize) -> Result<(Vec<u8>, bool, usize), Refusal> {
        let mut decoder = Decoder::new(framing);
        let (mut data, mut buffer, mut used) = (Vec::new(), Vec::new(), 0);
        for piece in input.chunks(size) {
            buffer.extend_from_slice(piece);
            while !decoder.is_done() {
                let step = decoder.step(&buffer)?;
                data.extend_from_slice(&buffer[step.skip..step.skip + step.data]);
                decoder.consume(step.data);
                buffer.drain(..step.skip + step.data);
                used += step.skip + step.data;
                if step == Step::default() {
                    break;
                }
            }
        }
        Ok((data, decoder.is_done(), used))
    }

    fn check(framing: Framing, input: &[u8], want: Result<(&str, bool), Refusal>) {
        for size in 1..=input.len() {
            let got = decode(framing, input, size);
            let shown = got.as_ref().map(|(data, done, _)| (String::from_utf8_lossy(data), *done));
            let want = want.map(|(data, done)| (data.into(), done));
            assert_eq!(
                shown.map_err(|refusal| *refusal),
                want,
                "{:?} by {size}",
                String::from_utf8_lossy(input)
            );
        }
    }

    #[test]
    fn lengths_end_where_they_say() {
        check(Framing::Length(5), b"hello", Ok(("hello", true)));
        check(Framing::Length(5), b"helloGET", Ok(("hello", true)));
        check(Framing::Length(5), b"hell", Ok(("hell", false)));
        check(Framing::Empty, b"GET", Ok(("", true)));
        check(Framing::UntilClose, b"all of it", Ok(("all of it", false)));
        assert_eq!(decode(Framing::Length(5), b"helloGET", 8).unwrap().2, 5);
    }

    #[test]
    fn chunks_in_every_split() {
        let cases: [&[u8]; 9] = [
            b"5\r\nhello\r\n0\r\n\r\n",
            b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            b"0005\r\nhello\r\n000\r\n\r\n",
            b"5;a=b\r\nhello\r\n0;x\r\n\r\n",
            b"5 ;a=\"b\"\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\r\n0\r\nExpires: never\r\nA:\r\n\r\n",
            b"5;\xff\r\nhello\r\n0\r\nX:\xff\t\r\n\r\n",
            b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n",
            b"00000000000000000000000000000005\r\nhello\r\n0\r\n\r\n",
        ];
        for case in cases {
            check(Framing::Chunked, case, Ok(("hello", true)));
        }
        assert_eq!(decode(Framing::Chunked, cases[7], 1).unwrap().2, cases[0].len(), "stops at the end");
    }

    #[test]
    fn blanks_behind_a_size_are_taken_in_answers_alone() {
        for padding in [" ", "\t", "   ", " \t ", &" ".repeat(MAX_EXTENSION_BYTES)] {
            let body = format!("5{padding}\r\nhello\r\n0{padding}\r\n\r\n");
            let mut decoder = Decoder::of_answer(Framing::Chunked);
            let first = decoder.step(body.as_bytes()).unwrap();
            assert_eq!(first, Step { skip: 3 + padding.len(), data: 5 });
            decoder.consume(first.data);
            let last = decoder.step(&body.as_bytes()[first.skip + first.data..]).unwrap();
            assert!(decoder.is_done() && last.data == 0);
            assert_eq!(decode(Framing::Chunked, body.as_bytes(), body.len()), Err(Refusal::ChunkSize));
        }
        for wrong in ["5 x\r\n", "5 \n", "5 5\r\n", " 5\r\n", "5 \r5", " \r\n"] {
            let refused = Decoder::of_answer(Framing::Chunked).step(wrong.as_bytes());
            assert_eq!(refused, Err(Refusal::ChunkSize), "{wrong:?}");
        }
        let long = format!("5{}\r\n", " ".repeat(MAX_EXTENSION_BYTES + 1));
        let refused = Decoder::of_answer(Framing::Chunked).step(long.as_bytes());
        assert_eq!(refused, Err(Refusal::ChunkExtension));
    }

    #[test]
    fn every_prefix_of_a_chunked_body_is_incomplete() {
        let whole = b"5;a\r\nhello\r\na\r\n0123456789\r\n0\r\nA: b\r\n\r\n";
        for end in 0..whole.len() {
            let (_, done, _) = decode(Framing::Chunked, &whole[..end], 1).unwrap();
            assert!(!done, "{end}");
        }
    }

    #[test]
    fn malformed_chunks_are_named() {
        let cases: [(&[u8], Refusal); 25] = [
            (b"\r\n", Refusal::ChunkSize),
            (b"x\r\n", Refusal::ChunkSize),
            (b"-1\r\n", Refusal::ChunkSize),
            (b"+1\r\n", Refusal::ChunkSize),
            (b" 1\r\n", Refusal::ChunkSize),
            (b"0x1\r\n", Refusal::ChunkSize),
            (b"1 \r\n", Refusal::ChunkSize),
            (b"1\nA\r\n", Refusal::ChunkSize),
            (b"1\rA", Refusal::ChunkSize),
            (b";a\r\n", Refusal::ChunkSize),
            (b"8000000000000000\r\n", Refusal::BodyTooLarge),
            (b"ffffffffffffffff\r\n", Refusal::BodyTooLarge),
            (b"10000000000000000\r\n", Refusal::BodyTooLarge),
            (b"000000000000000000000000000000005\r\n", Refusal::ChunkSize),
            (b"1;a\nA\r\n", Refusal::ChunkExtension),
            (b"1;\0\r\nA\r\n", Refusal::ChunkExtension),
            (b"1\r\nAB\r\n", Refusal::ChunkCrlf),
            (b"1\r\nA\n0\r\n\r\n", Refusal::ChunkCrlf),
            (b"1\r\nA\rB", Refusal::ChunkCrlf),
            (b"0\r\n\n", Refusal::Trailer),
            (b"0\r\n A: b\r\n\r\n", Refusal::Trailer),
            (b"0\r\nA b\r\n\r\n", Refusal::Trailer),
            (b"0\r\nA : b\r\n\r\n", Refusal::Trailer),
            (b"0\r\nA: b\n\r\n", Refusal::Trailer),
            (b"0\r\n\rX", Refusal::Trailer),
        ];
        for (input, want) in cases {
            check(Framing::Chunked, input, Err(want));
        }
    }

    #[test]
    fn limits_hold_on_both_sides() {
        let extension = |length: usize| format!("1;{}\r\nA\r\n0\r\n\r\n", "x".repeat(length)).into_bytes();
        let spaces = |length: usize| format!("1{};\r\nA\r\n0\r\n\r\n", " ".repeat(length)).into_bytes();
        let trailer = |length: usize| format!("0\r\nA:{}\r\n\r\n", "x".repeat(length - 4)).into_bytes();
        let digits = |text: &str| format!("{text}\r\nA").into_bytes();
        let run = |input: Vec<u8>| decode(Framing::Chunked, &input, 1000).map(|(data, ..)| data.len());
        assert_eq!(run(extension(MAX_EXTENSION_BYTES)), Ok(1));
        assert_eq!(run(extension(MAX_EXTENSION_BYTES + 1)), Err(Refusal::ChunkExtension));
        assert_eq!(run(spaces(MAX_EXTENSION_BYTES)), Ok(1));
        assert_eq!(run(spaces(MAX_EXTENSION_BYTES + 1)), Err(Refusal::ChunkExtension));
        assert_eq!(run(trailer(MAX_TRAILER_BYTES)), Ok(0));
        assert_eq!(run(trailer(MAX_TRAILER_BYTES + 1)), Err(Refusal::Trailer));
        assert_eq!(run(digits("7fffffffffffffff")), Ok(1));
        assert_eq!(run(digits("8000000000000000")), Err(Refusal::BodyTooLarge));
    }
}
