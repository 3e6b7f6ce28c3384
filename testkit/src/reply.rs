//! Reads HTTP/1 responses the strict way (RFC 9112): half an answer is an error, never a short body.

use std::fmt;
use std::io::{self, Read, Write};

/// Bound on one response head; only a broken server exceeds it.
const MAX_HEAD_BYTES: usize = 1024 * 1024;

/// How much is read from the peer at a time.
const READ_BYTES: usize = 64 * 1024;

/// How the end of a body is known (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body: HEAD, 1xx, 204, 304.
    Empty,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The end of the connection. A cut cannot be told from the end here.
    Close,
}

/// The head of a response.
#[derive(Clone, Debug)]
pub struct Head {
    /// The minor version: HTTP/1.`minor`.
    pub minor: u8,
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// Names as they came, values without the white space around them, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Head {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_bytes(name).map(|value| std::str::from_utf8(value).unwrap_or("(not UTF-8)"))
    }

    /// The first value of a header, as it came.
    #[must_use]
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        let mut with_name = self.headers.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name));
        with_name.next().map(|(_, value)| &**value)
    }

    /// Every value of a header.
    #[must_use]
    pub fn header_all(&self, name: &str) -> Vec<&[u8]> {
        let with_name = self.headers.iter().filter(|(have, _)| have.eq_ignore_ascii_case(name));
        with_name.map(|(_, value)| &**value).collect()
    }

    /// Whether a header is a list that holds `token`, such as `Connection: close`.
    #[must_use]
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        let values = self.header_all(name);
        let mut tokens = values.iter().flat_map(|value| value.split(|byte| *byte == b','));
        tokens.any(|have| have.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether the server means to keep the connection open after this response.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        match self.minor {
            0 => self.has_token("connection", "keep-alive"),
            _ => !self.has_token("connection", "close"),
        }
    }

    fn framing(&self, method: &str) -> Result<Framing, HttpError> {
        if method == "HEAD" || self.status < 200 || self.status == 204 || self.status == 304 {
            return Ok(Framing::Empty);
        }
        let (lengths, codings) = (self.header_all("content-length"), self.header_all("transfer-encoding"));
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(Framing::Close),
            ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && self.minor == 1 => {
                Ok(Framing::Chunked)
            }
            ([length], []) => number(length, 10).map(Framing::Length),
            _ => Err(HttpError::malformed(format!("framing of {:?}", self.headers))),
        }
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The whole head.
    pub head: Head,
    /// The body; empty where it went into a sink.
    pub body: Vec<u8>,
    /// Size of the body in bytes, also where it went into a sink.
    pub body_bytes: u64,
    /// How the body's end was known.
    pub framing: Framing,
    /// Fields after the last chunk.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// Status codes of the interim (1xx) responses before this one.
    pub interim: Vec<u16>,
    /// Whether the end of the body was seen. Only an error carries a reply where it was not; with
    /// [`Framing::Close`] it means that the connection was closed in order.
    pub is_complete: bool,
    /// Whether the request went over a connection that had served another before.
    pub is_reused: bool,
}

impl Reply {
    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Why there is no whole response.
#[derive(Debug)]
pub enum HttpError {
    /// No connection.
    Connect(io::Error),
    /// The connection ended in order before the first byte of a response.
    Closed,
    /// The connection broke (mostly a reset) before a whole head was read; with what came of it.
    Broken(io::Error, Vec<u8>),
    /// The connection ended within the head; with what came of it.
    CutHead(Vec<u8>),
    /// The head came, the body did not come whole; with what came of it.
    CutBody(Box<Reply>),
    /// Time ran out; with what came until then.
    Timeout(Vec<u8>),
    /// It is not HTTP; what was wrong.
    Malformed(String),
    /// The body's sink did not take it.
    Sink(io::Error),
}

impl HttpError {
    pub(crate) fn malformed(what: impl Into<String>) -> HttpError {
        HttpError::Malformed(what.into())
    }
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| bytes[..bytes.len().min(500)].escape_ascii().to_string();
        match self {
            HttpError::Connect(e) => write!(f, "no connection: {e}"),
            HttpError::Closed => write!(f, "closed without a response"),
            HttpError::Broken(e, part) => write!(f, "connection broke: {e}, after `{}`", text(part)),
            HttpError::CutHead(part) => write!(f, "head cut off: `{}`", text(part)),
            HttpError::CutBody(reply) => {
                write!(f, "body of a {} cut off after {} bytes", reply.status, reply.body_bytes)
            }
            HttpError::Timeout(part) => write!(f, "time ran out after `{}`", text(part)),
            HttpError::Malformed(what) => write!(f, "not HTTP: {what}"),
            HttpError::Sink(e) => write!(f, "the body's sink failed: {e}"),
        }
    }
}

impl std::error::Error for HttpError {}

/// Reads responses one after the other from a source of bytes.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Where the unread part of `buffer` begins.
    start: usize,
}

/// The state of a body that is being read.
#[derive(Debug)]
pub struct BodyReader {
    framing: Framing,
    /// Bytes that are left of the length or of the chunk.
    left: u64,
    is_first_chunk: bool,
    is_done: bool,
    trailers: Vec<(String, Vec<u8>)>,
}

impl Reader {
    /// What was read and not yet used.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Reads one head, whatever its status.
    ///
    /// # Errors
    /// [`HttpError::Closed`] when the source ends before its first byte, else what was wrong.
    pub fn head(&mut self, source: &mut dyn Read) -> Result<Head, HttpError> {
        let mut scanned = 0;
        let end = loop {
            let rest = self.rest();
            if let Some(place) = rest[scanned..].windows(4).position(|four| four == b"\r\n\r\n") {
                break scanned + place + 4;
            }
            if rest.len() > MAX_HEAD_BYTES {
                return Err(HttpError::malformed(format!(
                    "no end of the head within {MAX_HEAD_BYTES} bytes"
                )));
            }
            scanned = rest.len().saturating_sub(3);
            match self.fill(source) {
                Ok(0) if self.rest().is_empty() => return Err(HttpError::Closed),
                Ok(0) => return Err(HttpError::CutHead(self.rest().to_vec())),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    return Err(HttpError::Timeout(self.rest().to_vec()));
                }
                Err(e) => return Err(HttpError::Broken(e, self.rest().to_vec())),
            }
        };
        let head = parse_head(&self.rest()[..end]);
        self.start += end;
        head
    }

    /// Reads interim responses and the final head after them.
    ///
    /// # Errors
    /// As [`Reader::head`].
    pub fn final_head(&mut self, source: &mut dyn Read) -> Result<(Vec<u16>, Head), HttpError> {
        let mut interim = vec![];
        loop {
            let head = self.head(source)?;
            // 101 is final: what follows is no longer HTTP.
            if head.status >= 200 || head.status == 101 {
                return Ok((interim, head));
            }
            interim.push(head.status);
        }
    }

    /// Reads a whole response to a request with `method`; its body goes into `sink` where there is one.
    ///
    /// # Errors
    /// Every way in which the response is not whole.
    pub fn reply(
        &mut self,
        source: &mut dyn Read,
        method: &str,
        sink: Option<&mut dyn Write>,
    ) -> Result<Reply, HttpError> {
        let (interim, head) = self.final_head(source)?;
        let framing = head.framing(method)?;
        let mut reply = Reply {
            status: head.status,
            head,
            body: vec![],
            body_bytes: 0,
            framing,
            trailers: vec![],
            interim,
            is_complete: false,
            is_reused: false,
        };
        let mut body = BodyReader::new(framing);
        let mut sink = sink;
        loop {
            match self.piece(source, &mut body) {
                Ok(Some(piece)) => {
                    reply.body_bytes += piece.len() as u64;
                    match &mut sink {
                        Some(sink) => sink.write_all(piece).map_err(HttpError::Sink)?,
                        None => reply.body.extend_from_slice(piece),
                    }
                }
                Ok(None) => {
                    reply.trailers = body.trailers;
                    reply.is_complete = true;
                    return Ok(reply);
                }
                Err(HttpError::Malformed(what)) => return Err(HttpError::Malformed(what)),
                Err(HttpError::Timeout(_)) => return Err(HttpError::Timeout(reply.body)),
                Err(_) => return Err(HttpError::CutBody(Box::new(reply))),
            }
        }
    }

    /// The next piece of a body, as it comes from the peer; `None` at its end.
    ///
    /// # Errors
    /// When the body is cut off or malformed.
    pub fn piece(
        &mut self,
        source: &mut dyn Read,
        body: &mut BodyReader,
    ) -> Result<Option<&[u8]>, HttpError> {
        if body.framing == Framing::Chunked && body.left == 0 && !body.is_done {
            self.chunk_start(source, body)?;
        }
        if body.is_done {
            return Ok(None);
        }
        if self.rest().is_empty() {
            match self.fill(source) {
                Ok(0) if body.framing == Framing::Close => {
                    body.is_done = true;
                    return Ok(None);
                }
                Ok(0) => return Err(HttpError::Closed),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(HttpError::Timeout(vec![])),
                Err(e) => return Err(HttpError::Broken(e, vec![])),
            }
        }
        let have = self.rest().len();
        let size = usize::try_from(body.left).unwrap_or(usize::MAX).min(have);
        let from = self.start;
        self.start += size;
        body.took(size as u64);
        Ok(Some(&self.buffer[from..from + size]))
    }

    /// Reads `CRLF` after a chunk, the next chunk's size and, after the last, the trailer section.
    fn chunk_start(&mut self, source: &mut dyn Read, body: &mut BodyReader) -> Result<(), HttpError> {
        if !body.is_first_chunk && !self.line(source)?.is_empty() {
            return Err(HttpError::malformed("no CRLF after a chunk"));
        }
        body.is_first_chunk = false;
        let line = self.line(source)?;
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
        body.left = number(size, 16)?;
        if body.left == 0 {
            loop {
                let line = self.line(source)?;
                if line.is_empty() {
                    break;
                }
                body.trailers.push(parse_field(&line)?);
            }
            body.is_done = true;
        }
        Ok(())
    }

    /// A line that ends with CRLF, without it.
    fn line(&mut self, source: &mut dyn Read) -> Result<Vec<u8>, HttpError> {
        loop {
            if let Some(size) = self.rest().iter().position(|byte| *byte == b'\n') {
                let line = self.rest()[..size].to_vec();
                self.start += size + 1;
                let without = line.strip_suffix(b"\r").map(<[u8]>::to_vec);
                return without.ok_or_else(|| HttpError::malformed("a bare LF in chunk framing"));
            }
            match self.fill(source) {
                Ok(0) => return Err(HttpError::Closed),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(HttpError::Timeout(vec![])),
                Err(e) => return Err(HttpError::Broken(e, vec![])),
            }
        }
    }

    fn fill(&mut self, source: &mut dyn Read) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let have = self.buffer.len();
        self.buffer.resize(have + READ_BYTES, 0);
        let result = loop {
            match source.read(&mut self.buffer[have..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(have + result.as_ref().copied().unwrap_or(0));
        result
    }
}

impl BodyReader {
    /// A body that is about to be read.
    #[must_use]
    pub fn new(framing: Framing) -> BodyReader {
        let left = match framing {
            Framing::Length(length) => length,
            Framing::Close => u64::MAX,
            Framing::Empty | Framing::Chunked => 0,
        };
        let is_done = matches!(framing, Framing::Empty | Framing::Length(0));
        BodyReader { framing, left, is_first_chunk: true, is_done, trailers: vec![] }
    }

    /// The body of the response to a request with `method`.
    ///
    /// # Errors
    /// When the head's framing is refused.
    pub fn of(head: &Head, method: &str) -> Result<BodyReader, HttpError> {
        head.framing(method).map(BodyReader::new)
    }

    fn took(&mut self, size: u64) {
        match self.framing {
            Framing::Close => {}
            Framing::Chunked => self.left -= size,
            _ => {
                self.left -= size;
                self.is_done = self.left == 0;
            }
        }
    }
}

/// Reads all responses in `bytes`, where the requests were pipelined with these methods (GET for those
/// after the last).
///
/// # Errors
/// When any of them is not whole.
pub fn parse_all(bytes: &[u8], methods: &[&str]) -> Result<Vec<Reply>, HttpError> {
    let (mut reader, mut source, mut replies) = (Reader::default(), bytes, vec![]);
    while !(source.is_empty() && reader.rest().is_empty()) {
        let method = methods.get(replies.len()).copied().unwrap_or("GET");
        replies.push(reader.reply(&mut source, method, None)?);
    }
    Ok(replies)
}

fn parse_head(bytes: &[u8]) -> Result<Head, HttpError> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (minor, status, reason) = parse_status_line(lines.next().unwrap_or_default())?;
    let headers = lines.take_while(|line| !line.is_empty()).map(parse_field).collect::<Result<_, _>>()?;
    Ok(Head { minor, status, reason, headers })
}

fn parse_status_line(line: &[u8]) -> Result<(u8, u16, String), HttpError> {
    let bad = || HttpError::malformed(format!("status line `{}`", line.escape_ascii()));
    let rest = line.strip_prefix(b"HTTP/1.").ok_or_else(bad)?;
    let [minor @ (b'0' | b'1'), b' ', a, b, c, after @ ..] = rest else {
        return Err(bad());
    };
    let reason = match after {
        [] => &[][..],
        [b' ', reason @ ..] => reason,
        _ => return Err(bad()),
    };
    let status = number(&[*a, *b, *c], 10)?;
    if !(100..600).contains(&status) || reason.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(bad());
    }
    Ok((minor - b'0', status as u16, String::from_utf8_lossy(reason).into_owned()))
}

fn parse_field(line: &[u8]) -> Result<(String, Vec<u8>), HttpError> {
    let bad = || HttpError::malformed(format!("header line `{}`", line.escape_ascii()));
    let colon = line.iter().position(|byte| *byte == b':').ok_or_else(bad)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_token =
        !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b));
    if !is_token || value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(bad());
    }
    Ok((String::from_utf8_lossy(name).into_owned(), value.trim_ascii().to_vec()))
}

/// Digits and nothing else.
fn number(text: &[u8], radix: u32) -> Result<u64, HttpError> {
    let digits = std::str::from_utf8(text).ok().filter(|t| t.bytes().all(|b| (b as char).is_digit(radix)));
    let value = digits.and_then(|digits| u64::from_str_radix(digits, radix).ok());
    value.ok_or_else(|| HttpError::malformed(format!("number `{}`", text.escape_ascii())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(bytes: &[u8]) -> Result<Reply, HttpError> {
        Reader::default().reply(&mut &*bytes, "GET", None)
    }

    /// Gives one byte at a time.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let size = self.0.len().min(buf.len()).min(1);
            self.0.read(&mut buf[..size])
        }
    }

    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\nT: v\r\n\r\n";
    const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: 1\r\nx: 2\r\n\r\nhello";

    #[test]
    fn reads_each_framing() {
        let cases: [(&[u8], Framing, &str); 5] = [
            (LENGTH, Framing::Length(5), "hello"),
            (CHUNKED, Framing::Chunked, "abc0123456789abcdef"),
            (b"HTTP/1.0 200 OK\r\n\r\nto the end", Framing::Close, "to the end"),
            (b"HTTP/1.1 204 No Content\r\n\r\n", Framing::Empty, ""),
            (
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
                Framing::Length(0),
                "",
            ),
        ];
        for (bytes, framing, body) in cases {
            for reply in [one(bytes), Reader::default().reply(&mut Drip(bytes), "GET", None)] {
                let reply = reply.unwrap();
                assert_eq!((reply.framing, &*reply.text()), (framing, body));
                assert!(reply.is_complete && reply.body_bytes == body.len() as u64);
            }
        }
        let reply = one(CHUNKED).unwrap();
        assert_eq!(reply.trailers, [("T".to_owned(), b"v".to_vec())]);
        assert_eq!(one(LENGTH).unwrap().head.header_all("X"), [b"1", b"2"]);
    }

    #[test]
    fn every_prefix_is_an_error() {
        for whole in [LENGTH, CHUNKED] {
            for size in 0..whole.len() {
                let error = one(&whole[..size]).expect_err("a prefix is not a response");
                match error {
                    HttpError::Closed => assert_eq!(size, 0),
                    HttpError::CutHead(part) => assert_eq!(part, &whole[..size]),
                    HttpError::CutBody(reply) => assert!(!reply.is_complete),
                    other => panic!("{size}: {other}"),
                }
            }
        }
    }

    #[test]
    fn refuses_what_is_not_http() {
        let cases: [&[u8]; 12] = [
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/1.1 99 OK\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\n\r\n",
            b"HTTP/1.1  200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n folded\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        ];
        for bytes in cases {
            assert!(matches!(one(bytes), Err(HttpError::Malformed(_))), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn pipelined_responses_are_told_apart() {
        let mut bytes = LENGTH.to_vec();
        bytes.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n");
        bytes.extend_from_slice(CHUNKED);
        let replies = parse_all(&bytes, &["GET", "HEAD"]).unwrap();
        assert_eq!(replies.iter().map(|reply| reply.body_bytes).collect::<Vec<_>>(), [5, 0, 19]);
    }

    #[test]
    fn connection_tokens() {
        let reply = one(b"HTTP/1.1 200 OK\r\nConnection: Foo, Close\r\nContent-Length: 0\r\n\r\n").unwrap();
        assert!(reply.head.has_token("connection", "close") && !reply.head.keeps_alive());
        assert!(one(LENGTH).unwrap().head.keeps_alive());
        assert!(!one(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap().head.keeps_alive());
    }
}
