//! Parsed heads: one buffer of bytes, and the places of fields in it. A field costs no allocation, and its bytes pass
//! through unchanged.
//!
//! A head is parsed once, when its end has arrived ([`Scan`]). The parser accepts what RFC 9112 allows and one thing
//! more: a bare LF as the end of a line (section 2.2).

mod flaw;
mod framing;
mod headers;
mod scan;
mod target;
mod tokens;

use std::mem::take;

use flaw::Kind;
pub use flaw::MAX_METHOD_BYTES;
pub(crate) use flaw::why_start;
use headers::Fields;
pub(crate) use headers::Line;
pub use headers::{Headers, Version, list};
pub use scan::Scan;
use target::Target;
pub use target::{MAX_HOST_BYTES, authority};
use tokens::{Flaw, RequestLine, Tokens};

use crate::Refusal;
use crate::body::Framing;
pub use crate::body::MAX_LENGTH;
use crate::span::{Field, Span};
use crate::spare;

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

/// Whether a request with this method may be executed twice (RFC 9110 section 9.2.2).
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE")
}

/// Whether a protocol in a list of `Upgrade` is HTTP again: `h2c`, `h2c/1`, the drafts before it (`h2c-14`),
/// `HTTP/2.0`.
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
        let (line, mut fields) =
            read_request(&bytes, max_headers).map_err(|flaw| flaw::of(flaw, &bytes, Kind::Request))?;
        let RequestLine { method, target, version } = line;
        if method.in_bytes(&bytes).len() > MAX_METHOD_BYTES {
            return Err(Refusal::Method);
        }
        if target.in_bytes(&bytes).len() > MAX_TARGET_BYTES {
            return Err(Refusal::TargetTooLong);
        }
        let headers = fields.headers(&bytes);
        target::check_host(headers, version)?;
        let framing = framing::of_request(headers, version)?;
        let parts = Target::parse(method.in_bytes(&bytes), target.in_bytes(&bytes))?;
        if let Some(authority) = parts.authority {
            target::set_host(&mut fields, &bytes, target.part(authority));
        }
        let (target, path_length) = (target.from(parts.start), parts.path_length);
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
        let (version, status, fields) =
            read_response(&bytes, max_headers).map_err(|flaw| flaw::of(flaw, &bytes, Kind::Response))?;
        if !(100..=599).contains(&status) {
            return Err(Refusal::RequestLine);
        }
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

fn read_request(bytes: &[u8], max_headers: usize) -> Result<(RequestLine, Fields), Flaw> {
    let mut tokens = Tokens::new(bytes);
    let line = tokens.request_line()?;
    if str::from_utf8(line.target.in_bytes(bytes)).is_err() {
        return Err(Flaw::Line);
    }
    Ok((line, tokens.fields(max_headers, spare::fields())?))
}

fn read_response(bytes: &[u8], max_headers: usize) -> Result<(Version, u16, Fields), Flaw> {
    let mut tokens = Tokens::new(bytes);
    let (version, status) = tokens.status_line()?;
    Ok((version, status, tokens.fields(max_headers, spare::fields())?))
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

#[cfg(test)]
mod tests;
