//! The reason to refuse a head that the tokeniser gave up.

use super::tokens::Flaw;
use crate::Refusal;
use crate::octets::is_token;

/// The longest method that is served.
pub const MAX_METHOD_BYTES: usize = 32;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response,
}

/// Names the reason for which the tokeniser gave up.
pub(super) fn of(flaw: Flaw, bytes: &[u8], kind: Kind) -> Refusal {
    match flaw {
        Flaw::Count => Refusal::TooManyHeaders,
        Flaw::Name => why_name(bytes),
        Flaw::Value => Refusal::HeaderValue,
        Flaw::Line => {
            let line = lines(bytes).next().unwrap_or_default();
            let why = if kind == Kind::Request { why_request_line(line) } else { why_status_line(line) };
            why.unwrap_or(Refusal::HeaderValue) // a stray CR further down
        }
    }
}

/// The lines of a head without their ends and without empty ones.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = bytes.split(|byte| *byte == b'\n');
    ends.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(|line| !line.is_empty())
}

fn why_name(bytes: &[u8]) -> Refusal {
    for line in lines(bytes).skip(1) {
        if matches!(line, [b' ' | b'\t', ..]) {
            return Refusal::ObsFold;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Refusal::HeaderName;
        };
        let name = &line[..colon];
        if name.is_empty() || !name.trim_ascii_end().iter().all(|byte| is_token(*byte)) {
            return Refusal::HeaderName;
        }
        if name.len() != name.trim_ascii_end().len() {
            return Refusal::SpaceBeforeColon;
        }
    }
    Refusal::HeaderName
}

/// The first byte of a TLS connection: the content type of a handshake (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// Why no request can begin with `bytes`, as far as the first of them tells it.
pub(crate) fn why_start(bytes: &[u8]) -> Option<Refusal> {
    match bytes.first()? {
        &TLS_HANDSHAKE => Some(Refusal::Tls),
        b'\r' | b'\n' => None, // an empty line before the request (RFC 9112 section 2.2)
        byte if is_token(*byte) => None,
        _ => Some(Refusal::Method),
    }
}

/// What is wrong with a request line, if anything.
fn why_request_line(line: &[u8]) -> Option<Refusal> {
    if let Some(refusal) = why_start(line) {
        return Some(refusal);
    }
    let method = line.iter().take_while(|byte| is_token(**byte)).count();
    let after = line.get(method).copied();
    if method == 0 || method > MAX_METHOD_BYTES || after.is_some_and(|byte| byte != b' ') {
        return Some(Refusal::Method);
    }
    let Some(rest) = line.get(method + 1..) else {
        return Some(Refusal::RequestLine);
    };
    if rest.iter().any(|byte| byte.is_ascii_control()) || std::str::from_utf8(rest).is_err() {
        return Some(Refusal::TargetBytes);
    }
    let mut words = rest.split(|byte| *byte == b' ');
    match (words.next(), words.next(), words.next()) {
        (Some([_, ..]), Some(version), None) if is_served(version) => None,
        (Some([_, ..]), Some(version), None) if is_version(version) => Some(Refusal::Version),
        _ => Some(Refusal::RequestLine),
    }
}

/// What is wrong with a status line.
fn why_status_line(line: &[u8]) -> Option<Refusal> {
    let version = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    if is_version(version) && !is_served(version) {
        return Some(Refusal::Version);
    }
    Some(Refusal::RequestLine)
}

fn is_served(version: &[u8]) -> bool {
    matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
}

/// `HTTP/<digit>.<digit>` or the short `HTTP/<digit>` of later protocols.
fn is_version(text: &[u8]) -> bool {
    match text.strip_prefix(b"HTTP/") {
        Some([major]) => major.is_ascii_digit(),
        Some([major, b'.', minor]) => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}
