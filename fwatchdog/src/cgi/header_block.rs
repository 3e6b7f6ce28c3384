//! The header block at the start of a process's output: `Status`, `Content-Type` and other fields, then an empty
//! line (RFC 3875 section 6). Bytes in, a head out.

use http1::body::Framing;
use http1::head::{MAX_HEAD_BYTES, MAX_HEADERS, ResponseHead, Scan};
use http1::writer::is_hop_by_hop;
use http1::{HeadWriter, Refusal};

/// The largest block, in bytes: as large as the head of an answer over HTTP.
pub const MAX_BLOCK_BYTES: usize = MAX_HEAD_BYTES;

/// The most fields of a block: as many as such a head may have.
const MAX_FIELDS: usize = MAX_HEADERS;

/// The line that makes a block a head: blocks are read as strictly as heads from the network.
const STATUS_LINE: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// The statuses that a final answer may have (RFC 9110 section 15).
const STATUSES: std::ops::RangeInclusive<u16> = 200..=599;

/// Looks for the block in output that grows.
#[derive(Default)]
pub struct Block {
    scan: Scan,
}

/// The beginning of an output.
pub enum Found {
    /// A part of a block.
    Part,
    /// A whole block, and where the body begins.
    Head(Told, usize),
}

/// The contents of a block.
pub struct Told {
    /// The answer's head.
    pub head: HeadWriter,
    /// The length of the body, in bytes, where the block has a `Content-Length`.
    pub length: Option<u64>,
}

/// Why an output does not begin with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The beginning is not made of fields and an empty line.
    Fields(Refusal),
    /// `Status` is not a number from 200 to 599.
    Status,
    /// The block is longer than [`MAX_BLOCK_BYTES`].
    TooLong,
    /// The output ended within the block.
    Cut,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("expected a header block at the start of the output, see cgi_response: ")?;
        match self {
            Malformed::Fields(Refusal::TooManyHeaders) => write!(f, "more than {MAX_FIELDS} fields"),
            Malformed::Fields(refusal) => refusal.fmt(f),
            Malformed::Status => write!(f, "Status is not from {} to {}", STATUSES.start(), STATUSES.end()),
            Malformed::TooLong => write!(f, "no empty line within {MAX_BLOCK_BYTES} bytes"),
            Malformed::Cut => f.write_str("the output ended before its empty line"),
        }
    }
}

impl Block {
    /// Looks for the block in the whole `output` so far. A block that names no type gets `content_type`.
    ///
    /// # Errors
    /// Where the output cannot begin with a block.
    pub fn find(&mut self, output: &[u8], content_type: &[u8]) -> Result<Found, Malformed> {
        // An output without a field has no block, rather than an empty one.
        let first = output.iter().find(|byte| **byte != b'\r');
        if first == Some(&b'\n') {
            return Err(Malformed::Fields(Refusal::HeaderName));
        }
        match self.scan.end(output) {
            Some(end) if end <= MAX_BLOCK_BYTES => Ok(Found::Head(head(&output[..end], content_type)?, end)),
            None if output.len() <= MAX_BLOCK_BYTES => Ok(Found::Part),
            _ => Err(Malformed::TooLong),
        }
    }
}

fn head(block: &[u8], content_type: &[u8]) -> Result<Told, Malformed> {
    let parsed = ResponseHead::parse([STATUS_LINE, block].concat(), MAX_FIELDS + 1, false);
    let parsed = parsed.map_err(Malformed::Fields)?;
    let headers = parsed.headers();
    let status = match headers.get("Status") {
        Some(value) => status(value).ok_or(Malformed::Status)?,
        // A redirect needs no status (RFC 3875 section 6.2.3).
        None if headers.get("Location").is_some() => 302,
        None => 200,
    };
    let mut head = HeadWriter::response(status);
    // An answer without a body has a type only if the block has one: caches take the type of a 304 for the entity's.
    if headers.get("Content-Type").is_none() && !matches!(status, 204 | 304) {
        head.header("Content-Type", content_type);
    }
    for (name, value) in headers.iter() {
        // The length is told apart: a length that the process does not keep must not reach the client.
        if !is_hop_by_hop(name) && !name.eq_ignore_ascii_case(b"status") {
            head.field(name, value);
        }
    }
    let length = match parsed.framing() {
        Framing::Length(length) => Some(length),
        Framing::Empty => Some(0),
        Framing::Chunked | Framing::UntilClose => None,
    };
    Ok(Told { head, length })
}

/// The number in `404 Not Found`.
fn status(value: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = text.split(' ').next().filter(|digits| digits.len() == 3)?;
    digits.parse().ok().filter(|status| STATUSES.contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(output: &str) -> Result<Option<(u16, String, String)>, Malformed> {
        match Block::default().find(output.as_bytes(), b"text/x")? {
            Found::Part => Ok(None),
            Found::Head(Told { head, length }, body) => {
                let text = String::from_utf8_lossy(head.as_bytes()).into_owned();
                let mut fields = text.split_once("\r\n").unwrap().1.to_owned();
                fields.extend(length.map(|length| format!("{length} bytes")));
                Ok(Some((head.status(), fields, output[body..].to_owned())))
            }
        }
    }

    #[test]
    fn a_block_becomes_a_head() {
        let cases = [
            ("Status: 404 Not Found\n\nbody", 404, "Content-Type: text/x\r\n", "body"),
            ("Status: 204\r\n\r\n", 204, "", ""),
            ("Status: 304\nETag: x\n\n", 304, "ETag: x\r\n", ""),
            ("Status: 304\nContent-Type: a/b\n\n", 304, "Content-Type: a/b\r\n", ""),
            ("Content-Length: 0\n\n", 200, "Content-Type: text/x\r\n0 bytes", ""),
            ("content-type: text/html\n\n<p>", 200, "content-type: text/html\r\n", "<p>"),
            ("Location: /x\n\n", 302, "Content-Type: text/x\r\nLocation: /x\r\n", ""),
            ("Location: /x\nStatus: 201 Made\n\n", 201, "Content-Type: text/x\r\nLocation: /x\r\n", ""),
            ("X-A: 1\nX-A: 2\n\n\n\nb", 200, "Content-Type: text/x\r\nX-A: 1\r\nX-A: 2\r\n", "\n\nb"),
            // The process does not frame the message.
            (
                "Content-Length: 5\nConnection: X\nX: y\n\nbody",
                200,
                "Content-Type: text/x\r\nX: y\r\n5 bytes",
                "body",
            ),
        ];
        for (output, status, fields, body) in cases {
            assert_eq!(find(output), Ok(Some((status, fields.to_owned(), body.to_owned()))), "{output:?}");
        }
    }

    #[test]
    fn an_output_without_a_block_is_refused() {
        let long = format!("X: {}\n\n", "y".repeat(MAX_BLOCK_BYTES));
        let many = "X: y\n".repeat(MAX_FIELDS + 2) + "\n";
        let cases = [
            ("just text\n\n", Malformed::Fields(Refusal::HeaderName)),
            ("\nbody", Malformed::Fields(Refusal::HeaderName)),
            ("\r\nbody", Malformed::Fields(Refusal::HeaderName)),
            ("Status: 100 Continue\n\n", Malformed::Status),
            ("Status: 600\n\n", Malformed::Status),
            ("Status: OK\n\n", Malformed::Status),
            ("Status: 2000\n\n", Malformed::Status),
            ("Status: +20\n\n", Malformed::Status),
            ("Status:\n\n", Malformed::Status),
            (
                "Content-Length: 1\nTransfer-Encoding: chunked\n\nx",
                Malformed::Fields(Refusal::LengthAndChunked),
            ),
            ("X : y\n\n", Malformed::Fields(Refusal::SpaceBeforeColon)),
            ("X: y\n z\n\n", Malformed::Fields(Refusal::ObsFold)),
            ("X: a\u{1}b\n\n", Malformed::Fields(Refusal::HeaderValue)),
            (&long, Malformed::TooLong),
            (&many, Malformed::Fields(Refusal::TooManyHeaders)),
        ];
        for (output, want) in cases {
            assert_eq!(find(output), Err(want), "{:?}", &output[..output.len().min(60)]);
        }
    }

    #[test]
    fn a_block_is_found_however_it_is_split() {
        let output = "Status: 201 Made\r\nX-A: b\n\nbody";
        let end = output.len() - "body".len();
        let mut block = Block::default();
        for size in 0..end {
            let part = block.find(&output.as_bytes()[..size], b"text/x");
            assert!(matches!(part, Ok(Found::Part)), "{size}");
        }
        let whole = block.find(output.as_bytes(), b"text/x");
        assert!(matches!(whole, Ok(Found::Head(told, at)) if told.head.status() == 201 && at == end));
    }

    #[test]
    fn garbage_is_refused_or_has_a_valid_status() {
        let mut rng = testkit::rng::Rng::from_env();
        for _ in 0..2000 {
            let size = rng.below(40);
            let output: Vec<u8> = (0..size).map(|_| b"\r\n: aSx1\0\x7f\xff"[rng.below(11)]).collect();
            if let Ok(Found::Head(told, at)) = Block::default().find(&output, b"x/y") {
                assert!(at <= output.len() && STATUSES.contains(&told.head.status()));
            }
        }
    }
}
