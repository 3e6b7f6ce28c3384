//! Parsed heads: one buffer of bytes, and the places of fields in it. A field costs no allocation, and its bytes pass
//! through unchanged.
//!
//! A head is parsed once, when its end has arrived ([`Scan`]). The parser accepts what RFC 9112 allows and one thing
//! more: a bare LF as the end of a line (section 2.2).

mod framing;
mod headers;
mod scan;
mod target;

use std::mem::{MaybeUninit, take};

pub use framing::MAX_LENGTH;
use headers::Fields;
pub(crate) use headers::Line;
pub use headers::{Headers, Version, list};
pub use scan::Scan;
use target::Target;
pub use target::{MAX_HOST_BYTES, authority};

use crate::Refusal;
use crate::body::Framing;
use crate::flaw::{self, Kind};
use crate::span::{Field, Span};
use crate::spare;

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

/// The most fields that are ever read.
const MOST_HEADERS: usize = MAX_HEADERS + ADDED_HEADERS;

/// Whether a request with this method may be executed twice (RFC 9110 section 9.2.2).
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
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
    path_length: usize,
    version: Version,
    fields: Fields,
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
        let mut fields = Fields::of(&bytes, parsed.headers, spare::fields());
        let headers = fields.headers(&bytes);
        target::check_host(headers, version)?;
        let framing = framing::of_request(headers, version)?;
        let target = Target::parse(method, target.as_bytes())?;
        if let Some(authority) = target.authority {
            target::set_host(&mut fields, &bytes, authority);
        }
        let (method, path_length) = (Span::of(&bytes, method.as_bytes()), target.path_length);
        let target = Span::of(&bytes, target.whole);
        Ok(RequestHead { method, target, path_length, version, fields, framing, bytes })
    }

    /// The method, as it was written: methods are case-sensitive.
    #[must_use]
    pub fn method(&self) -> &str {
        match self.method.in_bytes(&self.bytes) {
            b"GET" => "GET",
            b"POST" => "POST",
            other => std::str::from_utf8(other).unwrap_or_default(), // a token is ASCII
        }
    }

    /// Path and query, byte for byte; `*` for an OPTIONS request of that form. An absolute URI has lost its
    /// scheme and authority (RFC 9112 section 3.2.2).
    #[must_use]
    pub fn target(&self) -> &[u8] {
        if self.target.is_empty() { b"/" } else { self.target.in_bytes(&self.bytes) }
    }

    /// The path alone.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        if self.target.is_empty() { b"/" } else { &self.target()[..self.path_length] }
    }

    /// The bytes behind the first `?`, if there is one.
    #[must_use]
    pub fn query(&self) -> Option<&[u8]> {
        self.target.in_bytes(&self.bytes).get(self.path_length + 1..)
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
        self.fields.headers(&self.bytes)
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
        let fields = self.fields.list.capacity().saturating_sub(usual) * size_of::<Field>();
        self.bytes.capacity() + fields
    }
}

/// A parsed response head.
#[derive(Debug)]
pub struct ResponseHead {
    bytes: Vec<u8>,
    status: u16,
    pub(crate) version: Version,
    fields: Fields,
    framing: Framing,
}

impl Drop for RequestHead {
    fn drop(&mut self) {
        spare::give_head(take(&mut self.bytes), take(&mut self.fields.list));
    }
}

impl Drop for ResponseHead {
    fn drop(&mut self) {
        spare::give_head(take(&mut self.bytes), take(&mut self.fields.list));
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
        let fields = Fields::of(&bytes, parsed.headers, spare::fields());
        let has_body = !to_head && status >= 200 && !matches!(status, 204 | 304);
        let framing = framing::of_response(fields.headers(&bytes), version, has_body)?;
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
        self.fields.headers(&self.bytes)
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

/// RFC 9112 section 9.3.
fn keeps_alive(version: Version, headers: Headers<'_>) -> bool {
    match version {
        Version::Http11 => !headers.has_token("connection", "close"),
        Version::Http10 => {
            headers.has_token("connection", "keep-alive") && !headers.has_token("connection", "close")
        }
    }
}

/// A character of a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
