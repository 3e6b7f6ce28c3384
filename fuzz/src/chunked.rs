//! Bodies in chunks.

use http1::Refusal;
use http1::body::{Decoder, Framing, MAX_EXTENSION_BYTES, MAX_TRAILER_BYTES};
use http1::head::MAX_LENGTH;

use crate::rules::{is_token, is_value};

/// The most digits of a size.
const MAX_DIGITS: usize = 32;

/// The longest input that is split at every place; longer ones at [`SOME_SPLITS`].
const MAX_SPLIT_BYTES: usize = 128;

/// Bounds the cost of a long input.
const SOME_SPLITS: usize = 8;

/// Ends for what is not complete yet: none may make a body of what was refused, and whatever one makes a
/// body of must be one by the rules.
const ENDINGS: [&[u8]; 8] =
    [b"", b"\n", b"\r\n", b"\r\n\r\n", b"\n\r\n", b"0\r\n\r\n", b"\r\n0\r\n\r\n", b":\r\n\r\n"];

/// What became of an input.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    data: Vec<u8>,
    /// The length of the body with its framing; `None` while it has not ended.
    end: Result<Option<usize>, Refusal>,
}

/// * A body is what the rules say it is, and ends where they say.
/// * It does not depend on how it is split, nor on how much of it is taken at a time.
/// * It is no longer than what it came in, and the same once it was put in other chunks.
/// * In an answer, and there alone, blanks may stand behind a size.
pub fn check(data: &[u8]) {
    check_chunks(data, Decoder::new, false);
    check_chunks(data, Decoder::of_answer, true);
    check_length(data);
}

/// What makes the decoder of a request or of an answer.
type Make = fn(Framing) -> Decoder;

fn check_chunks(data: &[u8], make: Make, may_pad: bool) {
    let decode = |input: &[u8], size: usize, most: usize| {
        decode_pieces(make(Framing::Chunked), input.chunks(size.max(1)), most)
    };
    let whole = decode(data, data.len(), usize::MAX);
    assert!(whole.data.len() <= data.len());
    for ending in ENDINGS {
        let ended = [data, ending].concat();
        let got = decode(&ended, ended.len(), usize::MAX);
        let got = got.end.ok().flatten().map(|end| (got.data, end));
        assert_eq!(got, body(&ended, may_pad), "with `{}` at its end", ending.escape_ascii());
    }
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(decode(data, size, usize::MAX), whole, "in pieces of {size}");
    }
    assert_eq!(decode(data, data.len(), 1), whole, "taken byte by byte");
    let step = if data.len() <= MAX_SPLIT_BYTES { 1 } else { data.len() / SOME_SPLITS };
    for first in (1..data.len()).step_by(step) {
        let pieces = [&data[..first], &data[first..]];
        assert_eq!(
            decode_pieces(make(Framing::Chunked), pieces.into_iter(), usize::MAX),
            whole,
            "split at {first}"
        );
    }
    let size = 1 + data.len() % 5;
    let pieces = whole
        .data
        .chunks(size)
        .map(|piece| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
    let again = [pieces.flatten().collect(), b"0\r\n\r\n".to_vec()].concat();
    let want = Decoded { data: whole.data, end: Ok(Some(again.len())) };
    assert_eq!(decode(&again, again.len(), usize::MAX), want, "in other chunks");
}

/// The other framing with an end.
fn check_length(data: &[u8]) {
    let length = data.first().map_or(0, |byte| usize::from(*byte));
    let end = (data.len() >= length).then_some(length);
    let want = Decoded { data: data[..length.min(data.len())].to_vec(), end: Ok(end) };
    for size in [1, 3, data.len()] {
        let decoder = Decoder::new(Framing::Length(length as u64));
        assert_eq!(decode_pieces(decoder, data.chunks(size.max(1)), usize::MAX), want);
    }
}

/// As a connection does it: what was not taken stays in a buffer, and the next piece comes behind it.
fn decode_pieces<'a>(mut decoder: Decoder, pieces: impl Iterator<Item = &'a [u8]>, most: usize) -> Decoded {
    let (mut buffer, mut taken, mut data) = (Vec::new(), 0, Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let step = match decoder.step(&buffer[taken..]) {
                Ok(step) => step,
                Err(refusal) => return Decoded { data, end: Err(refusal) },
            };
            taken += step.skip;
            let count = step.data.min(most);
            data.extend_from_slice(&buffer[taken..taken + count]);
            decoder.consume(count);
            taken += count;
            if decoder.is_done() {
                return Decoded { data, end: Ok(Some(taken)) };
            }
            if count == 0 {
                break;
            }
        }
    }
    assert!(decoder.is_done() || taken == buffer.len(), "bytes were left although it is not complete");
    Decoded { data, end: Ok(decoder.is_done().then_some(taken)) }
}

/// A whole body by the rules (RFC 9112 section 7.1): its data and its length on the wire. `may_pad` allows blanks
/// behind its sizes.
fn body(input: &[u8], may_pad: bool) -> Option<(Vec<u8>, usize)> {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let line = line(input, at)?;
        at += line.len() + 2;
        let size = usize::try_from(size(line, may_pad)?).ok()?;
        if size == 0 {
            return Some((data, at + trailers(&input[at..])?));
        }
        let end = at.checked_add(size)?;
        data.extend_from_slice(input.get(at..end)?);
        at = end + 2;
        if input.get(end..at)? != b"\r\n" {
            return None;
        }
    }
}

/// What is before the next CRLF.
fn line(input: &[u8], at: usize) -> Option<&[u8]> {
    let rest = &input[at..];
    rest.windows(2).position(|two| two == b"\r\n").map(|end| &rest[..end])
}

/// A size, and an extension of which only the length matters.
fn size(line: &[u8], may_pad: bool) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    let size = u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    let blanks = rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let is_extension = match &rest[blanks..] {
        [] => blanks == 0 || may_pad && blanks <= MAX_EXTENSION_BYTES,
        [b';', extension @ ..] => is_value(extension) && blanks + extension.len() <= MAX_EXTENSION_BYTES,
        _ => false,
    };
    let is_size = digits.len() <= MAX_DIGITS && size <= u128::from(MAX_LENGTH);
    (is_size && is_extension).then_some(size as u64)
}

/// The length of the trailer section, with the empty line behind it.
fn trailers(input: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = line(input, at)?;
        if line.is_empty() {
            return (at <= MAX_TRAILER_BYTES).then_some(at + 2);
        }
        let colon = line.iter().position(|byte| *byte == b':')?;
        if colon == 0 || !line[..colon].iter().all(is_token) || !is_value(&line[colon + 1..]) {
            return None;
        }
        at += line.len() + 2;
    }
}
