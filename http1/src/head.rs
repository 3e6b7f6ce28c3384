//! Parsed heads: one buffer of bytes and ranges into it, so that a header costs no allocation and its
//! bytes pass through unchanged.
//!
//! A head is looked at only when its end has arrived ([`Scan`]), and then once. What is accepted here is
//! what RFC 9112 allows and nothing else, but for a bare LF as the end of a line (section 2.2).

use std::mem::{MaybeUninit, take};
use std::net::Ipv6Addr;
use std::ops::Range;

use crate::Refusal;
use crate::body::Framing;
use crate::flaw::{self, Kind};
use crate::spare::{self, Field};

/// The longest method that is served.
pub const MAX_METHOD_BYTES: usize = 32;

/// The longest request target that is served: room for any URI in use, and half of the default head.
pub const MAX_TARGET_BYTES: usize = 32 * 1024;

/// The most bytes of a head that a setting may allow. A field of that length, with what a gateway adds, still fits
/// into the environment of a process, where a variable has at most 128 KiB (execve(2)).
pub const MAX_HEAD_BYTES: usize = 120 * 1024;

/// The most fields that a setting may allow; a head is tokenised on the stack.
pub const MAX_HEADERS: usize = 1024;

/// What a program here may add to a head that it passes on: the fields of its own, and what the same fields take more
/// when they are written in the usual form. The next one takes as much more than what this one accepts.
pub const ADDED_BYTES: usize = 8 * 1024;

/// The fields among them.
pub const ADDED_HEADERS: usize = 16;

/// What of this a gateway leaves to the proxies in front of it, which may be gateways: each adds its fields once, and
/// then an address to a list. The rest is for what it adds itself.
pub const PROXY_BYTES: usize = ADDED_BYTES / 2;

/// The fields among them.
pub const PROXY_HEADERS: usize = ADDED_HEADERS / 2;

/// The longest `Host`: a gateway repeats it in another field. Names have at most 255 bytes (RFC 1035 section 2.3.4).
pub const MAX_HOST_BYTES: usize = 1024;

/// The digits of the largest port.
const MAX_PORT_DIGITS: usize = 5;

/// The most fields that are ever read.
const MOST_HEADERS: usize = MAX_HEADERS + ADDED_HEADERS;

/// The largest length of a body and of a chunk: what every reader on the way has a number for, with or without a sign.
pub const MAX_LENGTH: u64 = i64::MAX as u64;

/// The version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// Finds the end of a head in a growing buffer and reads each byte once, however it was split.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    seen: usize,
    has_begun: bool,
}

impl Scan {
    /// The length of the head at the start of `buffer`, with the empty line that ends it and empty lines
    /// before it (RFC 9112 section 2.2); `None` while its end is not there.
    pub fn end(&mut self, buffer: &[u8]) -> Option<usize> {
        if !self.has_begun {
            let start = buffer[self.seen..].iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
            self.has_begun = start.is_some();
            self.seen = start.map_or(buffer.len(), |start| self.seen + start);
        }
        let mut at = self.seen;
        while let Some(found) = buffer[at..].iter().position(|byte| *byte == b'\n') {
            let line_end = at + found;
            match &buffer[line_end + 1..] {
                [b'\n', ..] => return Some(line_end + 2),
                [b'\r', b'\n', ..] => return Some(line_end + 3),
                [] | [b'\r'] => {
                    self.seen = line_end; // the next byte decides
                    return None;
                }
                _ => at = line_end + 1,
            }
        }
        self.seen = buffer.len();
        None
    }

    /// Counts bytes that are thrown away rather than looked at.
    pub(crate) fn add(&mut self, count: usize) {
        self.seen = self.seen.saturating_add(count);
    }

    /// The bytes counted.
    pub(crate) fn count(self) -> usize {
        self.seen
    }

    /// Whether anything of a head was seen: empty lines before one do not count.
    #[must_use]
    pub fn has_begun(self) -> bool {
        self.has_begun
    }
}

/// A range of bytes in a head.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    start: u32,
    length: u32,
}

impl Span {
    /// The place of `part`, which is a slice of `whole`.
    fn of(whole: &[u8], part: &[u8]) -> Span {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Span { start: start as u32, length: part.len() as u32 }
    }

    fn in_bytes(self, whole: &[u8]) -> &[u8] {
        &whole[self.range()]
    }

    fn range(self) -> Range<usize> {
        self.start as usize..(self.start + self.length) as usize
    }
}

/// The fields of a head, in their order, with repeated ones.
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    spans: &'a [Field],
}

impl<'a> Headers<'a> {
    /// No fields.
    pub const EMPTY: Headers<'static> = Headers { bytes: &[], spans: &[] };

    /// Every field: its name as it was written, and its value without white space around it.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let bytes = self.bytes;
        self.spans.iter().map(move |(name, value)| (name.in_bytes(bytes), value.in_bytes(bytes)))
    }

    /// Every field as in [`Headers::iter`], and where its line is in [`Headers::bytes`] if it is written there as
    /// `name: value` and CRLF.
    pub(crate) fn lines(self) -> impl Iterator<Item = (&'a [u8], &'a [u8], Option<Range<usize>>)> {
        let bytes = self.bytes;
        self.spans.iter().map(move |(name, value)| {
            let (of_name, of_value) = (name.range(), value.range());
            let is_plain = bytes.get(of_name.end..of_value.start) == Some(b": ")
                && bytes.get(of_value.end..of_value.end + 2) == Some(b"\r\n");
            let line = is_plain.then_some(of_name.start..of_value.end + 2);
            (&bytes[of_name], &bytes[of_value], line)
        })
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The first value of a field; names compare without case.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.get_all(name).next()
    }

    /// Every value of a field.
    pub fn get_all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// The value of a field that is there once.
    #[must_use]
    pub fn single(self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.get_all(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// Whether a comma-separated field, such as `Connection`, has `token` in one of its lists.
    #[must_use]
    pub fn has_token(self, name: &str, token: &str) -> bool {
        self.get_all(name).any(|value| list(value).any(|item| item.eq_ignore_ascii_case(token.as_bytes())))
    }

    /// The number of fields.
    #[must_use]
    pub fn len(self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.spans.is_empty()
    }
}

/// Whether a request with this method may be executed twice (RFC 9110 section 9.2.2).
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
}

/// The items of a comma-separated list, without white space around them and without empty ones (RFC 9110
/// section 5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// Whether a protocol in a list of `Upgrade` is HTTP again: `h2c`, `h2c/1`, the drafts before it (`h2c-14`), `HTTP/2.0`.
fn is_http(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"h2")) || name.eq_ignore_ascii_case(b"http")
}

/// A parsed request head.
#[derive(Debug)]
pub struct RequestHead {
    bytes: Vec<u8>,
    method: Span,
    target: Span,
    version: Version,
    fields: Vec<Field>,
    framing: Framing,
}

impl RequestHead {
    /// Parses `bytes`, which end with the empty line.
    ///
    /// # Errors
    /// The reason to refuse it.
    pub fn parse(bytes: Vec<u8>, max_headers: usize) -> Result<RequestHead, Refusal> {
        let mut fields = [const { MaybeUninit::uninit() }; MOST_HEADERS];
        let room = max_headers.min(MOST_HEADERS);
        let mut parsed = httparse::Request::new(&mut []);
        let result = parsed.parse_with_uninit_headers(&bytes, &mut fields[..room]);
        if !matches!(result, Ok(httparse::Status::Complete(length)) if length == bytes.len()) {
            return Err(flaw::of(result, &bytes, Kind::Request));
        }
        let method = parsed.method.unwrap_or_default();
        let target = parsed.path.unwrap_or_default();
        if method.len() > MAX_METHOD_BYTES {
            return Err(Refusal::Method);
        }
        if target.len() > MAX_TARGET_BYTES {
            return Err(Refusal::TargetTooLong);
        }
        let version = version(parsed.version);
        let mut fields = spans(&bytes, parsed.headers);
        let headers = Headers { bytes: &bytes, spans: &fields };
        check_host(headers, version)?;
        let framing = request_framing(headers, version)?;
        let (authority, path) = parts_of(method, target.as_bytes())?;
        if let Some(authority) = authority {
            set_host(&mut fields, &bytes, authority);
        }
        let (method, target) = (Span::of(&bytes, method.as_bytes()), Span::of(&bytes, path));
        let target = if path.is_empty() { Span::default() } else { target };
        Ok(RequestHead { method, target, version, fields, framing, bytes })
    }

    /// The method, as it was written: methods are case-sensitive.
    #[must_use]
    pub fn method(&self) -> &str {
        std::str::from_utf8(self.method.in_bytes(&self.bytes)).unwrap_or_default() // a token is ASCII
    }

    /// Path and query, byte for byte; `*` for an OPTIONS request of that form. An absolute URI has lost its
    /// scheme and authority (RFC 9112 section 3.2.2).
    #[must_use]
    pub fn target(&self) -> &[u8] {
        if self.target.length == 0 { b"/" } else { self.target.in_bytes(&self.bytes) }
    }

    /// The path alone.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        self.target().split(|byte| *byte == b'?').next().unwrap_or_default()
    }

    /// What follows the first `?`, if there is one.
    #[must_use]
    pub fn query(&self) -> Option<&[u8]> {
        let target = self.target();
        target.iter().position(|byte| *byte == b'?').map(|at| &target[at + 1..])
    }

    /// The bytes of the whole head, as it came.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The fields.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        Headers { bytes: &self.bytes, spans: &self.fields }
    }

    /// Whether the client waits for `100 Continue` before it sends the body (RFC 9110 section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.version == Version::Http11 && self.headers().has_token("expect", "100-continue")
    }

    /// The protocol that the client wants to change to, of a request that may (RFC 9110 section 7.8). One with a
    /// body may not here: what follows the head would be two things at once. Neither may one that names another version
    /// of HTTP in its list, whose requests nobody would look at any more.
    #[must_use]
    pub fn upgrade(&self) -> Option<&[u8]> {
        let headers = self.headers();
        let may = self.version == Version::Http11
            && self.framing == Framing::Empty
            && headers.has_token("connection", "upgrade")
            && !headers.get_all("upgrade").flat_map(list).any(is_http);
        headers.get("upgrade").filter(|protocol| may && !protocol.is_empty())
    }

    /// How the end of the body behind it is found.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    pub(crate) fn keeps_alive(&self) -> bool {
        keeps_alive(self.version, self.headers())
    }

    /// The memory that it takes where it is larger than most: as much again for a list of many fields.
    pub(crate) fn memory(&self) -> usize {
        let usual = 2 * spare::FIELDS;
        let fields = self.fields.capacity().saturating_sub(usual) * size_of::<Field>();
        self.bytes.capacity() + fields
    }
}

/// A parsed response head.
#[derive(Debug)]
pub struct ResponseHead {
    bytes: Vec<u8>,
    status: u16,
    pub(crate) version: Version,
    fields: Vec<Field>,
    framing: Framing,
}

impl Drop for RequestHead {
    fn drop(&mut self) {
        spare::give(take(&mut self.bytes));
        spare::give_fields(take(&mut self.fields));
    }
}

impl Drop for ResponseHead {
    fn drop(&mut self) {
        spare::give(take(&mut self.bytes));
        spare::give_fields(take(&mut self.fields));
    }
}

impl ResponseHead {
    /// Parses `bytes`, which end with the empty line. `to_head` says that it answers a HEAD request.
    ///
    /// # Errors
    /// The reason not to trust it.
    pub fn parse(bytes: Vec<u8>, max_headers: usize, to_head: bool) -> Result<ResponseHead, Refusal> {
        if bytes.first().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            return Err(Refusal::RequestLine); // empty lines are forgiven to clients only (RFC 9112 section 2.2)
        }
        let mut fields = [const { MaybeUninit::uninit() }; MOST_HEADERS];
        let room = max_headers.min(MOST_HEADERS);
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let result = config.parse_response_with_uninit_headers(&mut parsed, &bytes, &mut fields[..room]);
        if !matches!(result, Ok(httparse::Status::Complete(length)) if length == bytes.len()) {
            return Err(flaw::of(result, &bytes, Kind::Response));
        }
        let status = parsed.code.unwrap_or_default();
        if !(100..=599).contains(&status) {
            return Err(Refusal::RequestLine);
        }
        let version = version(parsed.version);
        let fields = spans(&bytes, parsed.headers);
        let headers = Headers { bytes: &bytes, spans: &fields };
        let framing = response_framing(headers, version, status, to_head)?;
        Ok(ResponseHead { status, version, fields, framing, bytes })
    }

    /// The status, 100 to 599.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The fields.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        Headers { bytes: &self.bytes, spans: &self.fields }
    }

    /// How the end of the body behind it is found.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    pub(crate) fn keeps_alive(&self) -> bool {
        self.framing != Framing::UntilClose && keeps_alive(self.version, self.headers())
    }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::Http10 } else { Version::Http11 }
}

fn spans(bytes: &[u8], headers: &[httparse::Header<'_>]) -> Vec<Field> {
    let mut fields = spare::fields();
    fields.extend(
        headers.iter().map(|header| {
            (Span::of(bytes, header.name.as_bytes()), Span::of(bytes, header.value.trim_ascii()))
        }),
    );
    fields
}

/// RFC 9112 section 9.3.
fn keeps_alive(version: Version, headers: Headers<'_>) -> bool {
    match version {
        Version::Http11 => !headers.has_token("connection", "close"),
        Version::Http10 => {
            headers.has_token("connection", "keep-alive") && !headers.has_token("connection", "close")
        }
    }
}

fn check_host(headers: Headers<'_>, version: Version) -> Result<(), Refusal> {
    let mut hosts = headers.get_all("host");
    match (hosts.next(), version) {
        (None, Version::Http11) => Err(Refusal::HostMissing),
        (None, Version::Http10) => Ok(()),
        (Some(_), _) if hosts.next().is_some() => Err(Refusal::HostRepeated),
        (Some(host), _) if authority(host).is_none() => Err(Refusal::HostInvalid),
        _ => Ok(()),
    }
}

/// The parts of `uri-host [ ":" port ]` (RFC 9110 section 7.2), both of which may be empty; an address of IPv6 has its
/// brackets. Nothing in it can be taken for a path, a user or a second host.
#[must_use]
pub fn authority(value: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let colon = match value {
        [b'[', ..] => value.iter().position(|byte| *byte == b']').map_or(value.len(), |end| end + 1),
        _ => value.iter().position(|byte| *byte == b':').unwrap_or(value.len()),
    };
    let (host, port) = value.split_at(colon);
    let is_valid = match host {
        [b'[', address @ .., b']'] => is_ipv6(address),
        name => is_name(name),
    };
    if is_valid && value.len() <= MAX_HOST_BYTES { Some((host, port_of(port)?)) } else { None }
}

/// A name as the DNS and a Swarm have them: labels of letters, digits, `-` and `_` with a dot between each two, and maybe
/// one at the end. RFC 3986 section 3.2.2 allows more, which no resolver knows and every program reads differently.
fn is_name(name: &[u8]) -> bool {
    let mut begins_label = true;
    name.iter().all(|byte| {
        let is_valid = match byte {
            b'.' => !begins_label,
            byte => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
        };
        begins_label = *byte == b'.';
        is_valid
    })
}

/// An address alone: a zone means something to its own host only (RFC 6874 section 1).
fn is_ipv6(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// The number behind a colon; `None` within for nothing, or a colon alone.
fn port_of(text: &[u8]) -> Option<Option<u16>> {
    let [b':', digits @ ..] = text else { return text.is_empty().then_some(None) };
    if digits.len() > MAX_PORT_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    Some((!digits.is_empty()).then_some(u16::try_from(number).ok()?))
}

/// The authority of an absolute target, and the part of a target that is served: RFC 9112 section 3.2 without
/// the authority form, since nothing here is a tunnel.
fn parts_of<'a>(method: &str, target: &'a [u8]) -> Result<(Option<&'a [u8]>, &'a [u8]), Refusal> {
    // A fragment is the client's own (RFC 9110 section 4.1), and no path goes on behind it.
    if method == "CONNECT" || target.contains(&b'#') {
        return Err(Refusal::Target);
    }
    match target {
        [b'/', ..] => Ok((None, target)),
        b"*" if method == "OPTIONS" => Ok((None, target)),
        _ => {
            let scheme = ["http://", "https://"].iter().find(|scheme| {
                target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
            });
            let rest = &target[scheme.ok_or(Refusal::Target)?.len()..];
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            match rest.split_at(end) {
                // Without a host, or with a user, such a URI is not valid (RFC 9110 sections 4.2.1 and 4.2.4).
                ([] | [b':', ..], _) | (_, [b'?', ..]) => Err(Refusal::Target),
                (host, _) if authority(host).is_none() => Err(Refusal::Target),
                (authority, path) => Ok((Some(authority), path)),
            }
        }
    }
}

/// The authority of an absolute target takes the place of what `Host` says (RFC 9112 section 3.2.2), so that
/// nobody behind takes one for another who was asked.
fn set_host(fields: &mut [(Span, Span)], bytes: &[u8], authority: &[u8]) {
    let host = fields.iter_mut().find(|(name, _)| name.in_bytes(bytes).eq_ignore_ascii_case(b"host"));
    if let Some((_, value)) = host {
        *value = Span::of(bytes, authority);
    }
}

/// RFC 9112 section 6.3 for requests, without its leniency.
fn request_framing(headers: Headers<'_>, version: Version) -> Result<Framing, Refusal> {
    Ok(declared(headers, version)?.unwrap_or(Framing::Empty))
}

/// RFC 9112 section 6.3 for responses, without its leniency.
fn response_framing(
    headers: Headers<'_>,
    version: Version,
    status: u16,
    to_head: bool,
) -> Result<Framing, Refusal> {
    let declared = declared(headers, version)?;
    if to_head || status < 200 || matches!(status, 204 | 304) {
        return Ok(Framing::Empty);
    }
    Ok(declared.unwrap_or(Framing::UntilClose))
}

fn declared(headers: Headers<'_>, version: Version) -> Result<Option<Framing>, Refusal> {
    let mut encodings = headers.get_all("transfer-encoding");
    let mut lengths = headers.get_all("content-length");
    match (encodings.next(), lengths.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Refusal::LengthAndChunked),
        (Some(_), None) if version == Version::Http10 => Err(Refusal::ChunkedHttp10),
        (Some(encoding), None) => {
            if !encoding.eq_ignore_ascii_case(b"chunked") || encodings.next().is_some() {
                return Err(Refusal::TransferEncoding);
            }
            Ok(Some(Framing::Chunked))
        }
        (None, Some(first)) => {
            let length = parse_length(first)?;
            for other in lengths {
                if parse_length(other)? != length {
                    return Err(Refusal::ContentLength);
                }
            }
            Ok(Some(if length == 0 { Framing::Empty } else { Framing::Length(length) }))
        }
    }
}

fn parse_length(value: &[u8]) -> Result<u64, Refusal> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| is_number).ok_or(Refusal::ContentLength)?;
    text.parse().ok().filter(|length| *length <= MAX_LENGTH).ok_or(Refusal::BodyTooLarge)
}

/// A character of a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &[u8] =
        b"\r\nPOST /a/b?c=d HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a:  2 \r\nContent-Length: 5\r\n\r\n";

    fn request(text: &str) -> Result<RequestHead, Refusal> {
        RequestHead::parse(text.as_bytes().to_vec(), 128)
    }

    fn response(text: &str) -> Result<ResponseHead, Refusal> {
        ResponseHead::parse(text.as_bytes().to_vec(), 128, false)
    }

    #[test]
    fn a_heads_end_is_found_in_every_split_and_in_no_prefix() {
        for end in 0..REQUEST.len() {
            assert_eq!(Scan::default().end(&REQUEST[..end]), None, "prefix of {end}");
        }
        let with_body = [REQUEST, b"hello"].concat();
        for first in 0..REQUEST.len() {
            for second in first..REQUEST.len() {
                let mut scan = Scan::default();
                assert_eq!(scan.end(&with_body[..first]), None);
                assert_eq!(scan.end(&with_body[..second]), None);
                assert_eq!(scan.end(&with_body), Some(REQUEST.len()), "split at {first} and {second}");
            }
        }
        for size in 1..REQUEST.len() {
            let mut scan = Scan::default();
            let ends: Vec<_> =
                (size..with_body.len()).step_by(size).map(|end| scan.end(&with_body[..end])).collect();
            assert!(ends.iter().all(|end| end.is_none_or(|end| end == REQUEST.len())), "{size}");
        }
    }

    #[test]
    fn bare_line_feeds_end_lines() {
        let head = b"GET / HTTP/1.1\nHost: x\n\n";
        assert_eq!(Scan::default().end(head), Some(head.len()));
        assert_eq!(Scan::default().end(b"GET / HTTP/1.1\nHost: x\n\r\nrest"), Some(25));
        assert_eq!(RequestHead::parse(head.to_vec(), 128).unwrap().headers().get("host"), Some(&b"x"[..]));
    }

    #[test]
    fn a_request_is_read_as_it_is() {
        let head = RequestHead::parse(REQUEST.to_vec(), 128).unwrap();
        assert_eq!((head.method(), head.path(), head.query()), ("POST", &b"/a/b"[..], Some(&b"c=d"[..])));
        assert_eq!(head.target(), b"/a/b?c=d");
        assert_eq!(head.version(), Version::Http11);
        assert_eq!(head.headers().get_all("X-A").collect::<Vec<_>>(), [&b"1"[..], b"2"]);
        assert_eq!(head.headers().iter().last(), Some((&b"Content-Length"[..], &b"5"[..])));
        assert_eq!(head.framing(), Framing::Length(5));
        assert!(head.keeps_alive() && !head.expects_continue() && head.headers().len() == 4);
    }

    #[test]
    fn every_truncation_and_every_changed_byte_is_read_or_refused_without_a_panic() {
        for end in 0..REQUEST.len() {
            let cut = [&REQUEST[..end], b"\r\n\r\n"].concat();
            drop(RequestHead::parse(cut, 128));
            for byte in 0..=255 {
                let mut changed = REQUEST.to_vec();
                changed[end] = byte;
                if let Ok(head) = RequestHead::parse(changed, 128) {
                    assert!(
                        !head.method().is_empty() && head.headers().iter().all(|(name, _)| !name.is_empty())
                    );
                }
            }
        }
    }

    #[test]
    fn targets_are_paths() {
        let cases = [
            ("GET", "/", Ok("/")),
            ("GET", "http://x", Ok("/")),
            ("GET", "HTTP://x:80/a?b", Ok("/a?b")),
            ("GET", "https://x/", Ok("/")),
            ("OPTIONS", "*", Ok("*")),
            ("GET", "*", Err(Refusal::Target)),
            ("GET", "a/b", Err(Refusal::Target)),
            ("GET", "ftp://x/", Err(Refusal::Target)),
            ("GET", "http://", Err(Refusal::Target)),
            ("GET", "http:///a", Err(Refusal::Target)),
            ("GET", "http://x?a", Err(Refusal::Target)),
            ("GET", "http://[::1]:80/a", Ok("/a")),
            ("GET", "http://:80/", Err(Refusal::Target)),
            ("GET", "http://u@x/", Err(Refusal::Target)),
            ("GET", "http://x#y", Err(Refusal::Target)),
            ("GET", "http://x/#y", Err(Refusal::Target)),
            ("GET", "/#", Err(Refusal::Target)),
            ("GET", "/a#b", Err(Refusal::Target)),
            ("GET", "/a?b#c", Err(Refusal::Target)),
            ("GET", "/a%23b", Ok("/a%23b")),
            ("GET", "http://x%2f/a", Err(Refusal::Target)),
            ("GET", "http://./a", Err(Refusal::Target)),
            ("GET", "http://x../a", Err(Refusal::Target)),
            ("GET", "http://x:99999/a", Err(Refusal::Target)),
            ("GET", "http://func_catservice.:65535/a", Ok("/a")),
            ("GET", "http://x:y/", Err(Refusal::Target)),
            ("CONNECT", "x:80", Err(Refusal::Target)),
        ];
        for (method, target, want) in cases {
            let head = request(&format!("{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
            let got = head.as_ref().map(|head| std::str::from_utf8(head.target()).unwrap());
            assert_eq!(got.map_err(|refusal| *refusal), want, "{method} {target}");
        }
    }

    #[test]
    fn nobody_changes_to_another_version_of_http() {
        let upgrade = |fields: &str| {
            let head = request(&format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{fields}\r\n"))
                .unwrap();
            head.upgrade().map(|protocol| String::from_utf8(protocol.to_vec()).unwrap())
        };
        for none in [
            "h2c",
            "H2C",
            "h2c/1",
            "h2c/2.0",
            "h2",
            "h2c-14",
            "HTTP/2.0",
            "http",
            "websocket, h2c",
            "h2c/1,websocket",
            " , h2c",
            "websocket\r\nUpgrade: h2c/1",
            "",
        ] {
            assert_eq!(upgrade(&format!("Upgrade: {none}\r\n")), None, "{none}");
        }
        for some in ["websocket", "WebSocket/13", "echo", "x-h2c", "httpx", "websocket, echo/h2c"] {
            assert_eq!(upgrade(&format!("Upgrade: {some}\r\n")).as_deref(), Some(some));
        }
    }

    #[test]
    fn the_host_of_an_absolute_target_counts() {
        let cases = [
            ("http://a:1/x", "HTTP/1.1", "hOST: b", Some("a:1")),
            ("HTTPS://a", "HTTP/1.1", "Host:", Some("a")),
            ("http://a/x", "HTTP/1.0", "Host: b", Some("a")),
            ("http://a/x", "HTTP/1.0", "A: b", None),
            ("/http://a/x", "HTTP/1.1", "Host: b", Some("b")),
        ];
        for (target, version, field, want) in cases {
            let head = request(&format!("GET {target} {version}\r\nX: x\r\n{field}\r\n\r\n")).unwrap();
            assert_eq!(head.headers().get("host"), want.map(str::as_bytes), "{target} and {field}");
            assert_eq!(head.headers().len(), 2);
        }
    }

    #[test]
    fn refused_requests_say_why() {
        let long_method = format!("{} / HTTP/1.1\r\nHost: x\r\n\r\n", "M".repeat(MAX_METHOD_BYTES + 1));
        let long_target = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(MAX_TARGET_BYTES));
        let cases = [
            (long_method.as_str(), Refusal::Method),
            (long_target.as_str(), Refusal::TargetTooLong),
            ("G@T / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::Method),
            (" GET / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::Method),
            ("\x16\x03\x01\n\n", Refusal::Tls),
            ("GET\r\nHost: x\r\n\r\n", Refusal::RequestLine),
            ("GET /\r\nHost: x\r\n\r\n", Refusal::RequestLine),
            ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::RequestLine),
            ("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::RequestLine),
            ("GET / http/1.1\r\nHost: x\r\n\r\n", Refusal::RequestLine),
            ("GET / HTTP/1.1 \r\nHost: x\r\n\r\n", Refusal::RequestLine),
            ("GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::TargetBytes),
            ("GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::TargetBytes),
            ("GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::TargetBytes),
            ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", Refusal::Version),
            ("GET / HTTP/1.2\r\nHost: x\r\n\r\n", Refusal::Version),
            ("PRI * HTTP/2.0\r\n\r\n", Refusal::Version),
            ("GET / HTTP/1.1\r\nHost: x\r\n a\r\n\r\n", Refusal::ObsFold),
            ("GET / HTTP/1.1\r\n Host: x\r\n\r\n", Refusal::ObsFold),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", Refusal::SpaceBeforeColon),
            ("GET / HTTP/1.1\r\nHost\t: x\r\n\r\n", Refusal::SpaceBeforeColon),
            ("GET / HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n", Refusal::HeaderName),
            ("GET / HTTP/1.1\r\nHost: x\r\n: c\r\n\r\n", Refusal::HeaderName),
            ("GET / HTTP/1.1\r\nHost: x\r\nnothing\r\n\r\n", Refusal::HeaderName),
            ("GET / HTTP/1.1\r\nHost: x\r\nA\0: c\r\n\r\n", Refusal::HeaderName),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n", Refusal::HeaderValue),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", Refusal::HeaderValue),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: \x1b\r\n\r\n", Refusal::HeaderValue),
            ("GET / HTTP/1.1\r\nHost: x\r\nA: \x7f\r\n\r\n", Refusal::HeaderValue),
            ("GET / HTTP/1.1\r\n\r\n", Refusal::HostMissing),
            ("GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", Refusal::HostRepeated),
            ("GET / HTTP/1.0\r\nHost: x\r\nhost: x\r\n\r\n", Refusal::HostRepeated),
            ("GET / HTTP/1.0\r\nHost: x/y\r\n\r\n", Refusal::HostInvalid),
        ];
        for (text, want) in cases {
            assert_eq!(request(text).map(|_| ()), Err(want), "{text:?}");
        }
        assert!(request("GET / HTTP/1.0\r\n\r\n").is_ok(), "HTTP/1.0 needs no host");
    }

    /// Whatever byte is wrong, the refusal is about the part of the head in which it is.
    #[test]
    fn a_wrong_byte_is_blamed_on_the_part_that_has_it() {
        let parse = |before: &str, byte: u8, after: &str| {
            RequestHead::parse([before.as_bytes(), &[byte], after.as_bytes()].concat(), 128).err()
        };
        for byte in 0..=255 {
            let in_method = parse("G", byte, "T / HTTP/1.1\r\nHost: x\r\n\r\n");
            assert!(matches!(in_method, None | Some(Refusal::Method | Refusal::RequestLine)), "{byte:#x}");
            let in_target = parse("GET /", byte, "x HTTP/1.1\r\nHost: x\r\n\r\n");
            let is_blamed = match byte {
                b' ' | b'\n' => in_target == Some(Refusal::RequestLine),
                b'#' => in_target == Some(Refusal::Target),
                0..0x20 | 0x7f.. => in_target == Some(Refusal::TargetBytes),
                _ => in_target.is_none(),
            };
            assert!(is_blamed, "{byte:#x}: {in_target:?}");
            let in_value = parse("GET / HTTP/1.1\r\nHost: x\r\nA: ", byte, "x\r\n\r\n");
            let is_blamed = match byte {
                b'\n' => in_value == Some(Refusal::HeaderName),
                b'\t' | 0x80.. => in_value.is_none(),
                0..0x20 | 0x7f => in_value == Some(Refusal::HeaderValue),
                _ => in_value.is_none(),
            };
            assert!(is_blamed, "{byte:#x}: {in_value:?}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        let hosts = [
            "",
            "x",
            "x:80",
            "x:",
            ":80",
            "func_catservice:8080",
            "a-b.c_d.",
            "1.2.3",
            "10.0.0.1:8080",
            "xn--4ca",
            "-",
            "[::1]",
            "[::1]:",
            "[2001:DB8::192.0.2.7]:80",
            "x:0",
            "x:00080",
            "x:65535",
        ];
        for host in hosts {
            assert!(request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).is_ok(), "{host}");
        }
        let longest = "h".repeat(MAX_HOST_BYTES);
        assert!(request(&format!("GET / HTTP/1.1\r\nHost: {longest}\r\n\r\n")).is_ok());
        assert!(request(&format!("GET http://{longest}/ HTTP/1.1\r\nHost: x\r\n\r\n")).is_ok());
        let too_long = longest + "h";
        let none = [
            &*too_long,
            "x y",
            "x, y",
            "x,y",
            "x/",
            "x?",
            "x#",
            "http://x",
            "u@x",
            "x\\y",
            "\"x\"",
            "ä",
            "{x}",
            "x%2f",
            "x%41",
            "x~",
            "x;y",
            "$x",
            "(x)",
            ".",
            "..",
            ".x",
            "x..",
            "x..y",
            ".:80",
            "x:8a",
            "x:-1",
            "x:+1",
            "x:1:2",
            "x:65536",
            "x:99999",
            "x:000080",
            "x:18446744073709551617",
            "[::1",
            "[]",
            "[::1]x",
            "[::1]:x",
            "[::1]:99999",
            "::1",
            "[a[b]]",
            "[::1%25eth0]",
            "[::1%eth0]",
            "[1.2.3.4]",
            "[v1.x]",
            "[:]",
            "[::1]]",
            "]",
        ];
        for host in none {
            let refused = request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).map(|_| ());
            assert_eq!(refused, Err(Refusal::HostInvalid), "{host}");
        }
    }

    #[test]
    fn framing_is_strict() {
        let most = format!("Content-Length: {MAX_LENGTH}");
        let more = format!("Content-Length: {}", MAX_LENGTH + 1);
        let cases = [
            ("A: b", Ok(Framing::Empty)),
            ("Content-Length: 0", Ok(Framing::Empty)),
            ("Content-Length: 7\r\nContent-Length: 7", Ok(Framing::Length(7))),
            (most.as_str(), Ok(Framing::Length(MAX_LENGTH))),
            (more.as_str(), Err(Refusal::BodyTooLarge)),
            ("Content-Length: 18446744073709551615", Err(Refusal::BodyTooLarge)),
            ("Content-Length: 18446744073709551616", Err(Refusal::BodyTooLarge)),
            ("Content-Length: 7\r\nContent-Length: 8", Err(Refusal::ContentLength)),
            ("Content-Length: 7, 7", Err(Refusal::ContentLength)),
            ("Content-Length: +5", Err(Refusal::ContentLength)),
            ("Content-Length: -5", Err(Refusal::ContentLength)),
            ("Content-Length: 5 5", Err(Refusal::ContentLength)),
            ("Content-Length: 0x5", Err(Refusal::ContentLength)),
            ("Content-Length:", Err(Refusal::ContentLength)),
            ("Content-Length: 99999999999999999999999", Err(Refusal::BodyTooLarge)),
            ("Content-Length: 7\r\nContent-Length: 9223372036854775808", Err(Refusal::BodyTooLarge)),
            ("Transfer-Encoding: Chunked", Ok(Framing::Chunked)),
            ("Transfer-Encoding: gzip, chunked", Err(Refusal::TransferEncoding)),
            ("Transfer-Encoding: chunked, chunked", Err(Refusal::TransferEncoding)),
            ("Transfer-Encoding: xchunked", Err(Refusal::TransferEncoding)),
            ("Transfer-Encoding: identity", Err(Refusal::TransferEncoding)),
            ("Transfer-Encoding:", Err(Refusal::TransferEncoding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Err(Refusal::TransferEncoding)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5", Err(Refusal::LengthAndChunked)),
        ];
        for (fields, want) in cases {
            let head = request(&format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n"));
            assert_eq!(head.map(|head| head.framing()), want, "{fields}");
            let want = want.map(|framing| if fields == "A: b" { Framing::UntilClose } else { framing });
            let head = response(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
            assert_eq!(head.map(|head| head.framing()), want, "response with {fields}");
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(request(old).map(|_| ()), Err(Refusal::ChunkedHttp10));
        let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(response(old).map(|_| ()), Err(Refusal::ChunkedHttp10));
    }

    #[test]
    fn the_number_of_fields_has_a_limit() {
        let head = |count: usize| {
            let fields: String = (1..count).map(|i| format!("A{i}: b\r\n")).collect();
            request(&format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).map(|head| head.headers().len())
        };
        assert_eq!(head(128), Ok(128));
        assert_eq!(head(129), Err(Refusal::TooManyHeaders));
        let long = format!("{} / HTTP/1.1\r\nHost: x\r\n\r\n", "M".repeat(MAX_METHOD_BYTES));
        assert_eq!(request(&long).map(|head| head.method().len()), Ok(MAX_METHOD_BYTES));
        let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(MAX_TARGET_BYTES - 1));
        assert_eq!(request(&long).map(|head| head.target().len()), Ok(MAX_TARGET_BYTES));
    }

    #[test]
    fn responses_are_read_or_refused() {
        let ok = response("HTTP/1.1 404 Not ä Found\r\nA: b\r\nContent-Length: 3\r\n\r\n").unwrap();
        assert_eq!(
            (ok.status(), ok.headers().get("a"), ok.framing()),
            (404, Some(&b"b"[..]), Framing::Length(3))
        );
        assert!(response("HTTP/1.1 200\r\n\r\n").is_ok(), "a phrase is not needed");
        let cases = [
            ("HTTP/1.1 20 OK\r\n\r\n", Refusal::RequestLine),
            ("HTTP/1.1 099 OK\r\n\r\n", Refusal::RequestLine),
            ("HTTP/1.1 600 OK\r\n\r\n", Refusal::RequestLine),
            ("HTTP/1.1 2000 OK\r\n\r\n", Refusal::RequestLine),
            ("HTTP/2.0 200 OK\r\n\r\n", Refusal::Version),
            ("hello\r\n\r\n", Refusal::RequestLine),
            ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Refusal::SpaceBeforeColon),
            ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Refusal::ObsFold),
            ("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", Refusal::HeaderValue),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", Refusal::RequestLine),
            ("\nHTTP/1.1 200 OK\r\n\r\n", Refusal::RequestLine),
        ];
        for (text, want) in cases {
            assert_eq!(response(text).map(|_| ()), Err(want), "{text:?}");
        }
    }

    #[test]
    fn some_responses_have_no_body_whatever_they_say() {
        let parse = |text: &str, to_head| {
            ResponseHead::parse(text.as_bytes().to_vec(), 128, to_head).map(|head| head.framing())
        };
        for status in ["204", "304", "100"] {
            let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
            assert_eq!(parse(&text, false), Ok(Framing::Empty));
        }
        assert_eq!(parse("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n", true), Ok(Framing::Empty));
        assert_eq!(parse("HTTP/1.1 200 X\r\n\r\n", false), Ok(Framing::UntilClose));
    }

    #[test]
    fn connections_are_kept_as_their_version_says() {
        let keeps = |version: &str, fields: &str| {
            request(&format!("GET / {version}\r\nHost: x\r\n{fields}\r\n")).unwrap().keeps_alive()
        };
        assert!(keeps("HTTP/1.1", ""));
        assert!(!keeps("HTTP/1.1", "Connection: x, Close\r\n"));
        assert!(!keeps("HTTP/1.0", ""));
        assert!(keeps("HTTP/1.0", "Connection: keep-alive\r\n"));
        assert!(!keeps("HTTP/1.0", "Connection: keep-alive, close\r\n"));
    }
}
