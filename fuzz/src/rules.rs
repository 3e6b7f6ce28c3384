//! A second reader of heads, to compare the first with: whole lines, plain searches, RFC 9112 in its order,
//! and the leniency of the contract (a bare LF ends a line of a head) and nothing more.

use std::net::Ipv6Addr;

use http1::body::Framing;
use http1::head::{MAX_HOST_BYTES, MAX_LENGTH, MAX_METHOD_BYTES, MAX_TARGET_BYTES};

/// Names and values, in their order.
pub type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The fields of a head and the line before them.
struct Lines<'a> {
    first: &'a [u8],
    fields: Fields<'a>,
}

/// What a request's head says.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Its method.
    pub method: &'a [u8],
    /// Its target, in origin form.
    pub target: &'a [u8],
    /// Whether it is of HTTP/1.0.
    pub is_http10: bool,
    /// Its fields.
    pub fields: Fields<'a>,
    /// Where its body ends.
    pub framing: Framing,
}

/// What a response's head says.
#[derive(Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub fields: Fields<'a>,
    /// Where its body ends.
    pub framing: Framing,
}

/// The length of the head at the start of `bytes`, with empty lines before it and the one behind it.
#[must_use]
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte))?;
    (start..bytes.len()).find_map(|at| match &bytes[at..] {
        [b'\n', b'\n', ..] => Some(at + 2),
        [b'\n', b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

/// A request's head; `None` where it must be refused.
#[must_use]
pub fn request<'a>(head: &'a [u8], max_fields: usize) -> Option<Request<'a>> {
    let Lines { first, fields } = lines(head, max_fields)?;
    let words: Vec<&[u8]> = first.split(|byte| *byte == b' ').collect();
    let [method, target, version] = words[..] else { return None };
    let is_http10 = is_http10(version)?;
    let is_method = (1..=MAX_METHOD_BYTES).contains(&method.len()) && method.iter().all(is_token);
    let is_target = (1..=MAX_TARGET_BYTES).contains(&target.len()) && !target.iter().any(is_control);
    if !is_method || !is_target || std::str::from_utf8(target).is_err() {
        return None;
    }
    let (authority, target) = origin_form(method, target)?;
    let hosts = values(&fields, "host");
    if hosts.len() > 1 || hosts.is_empty() && !is_http10 || !hosts.iter().all(|host| is_host(host)) {
        return None;
    }
    let framing = declared(&fields, is_http10)?.unwrap_or(Framing::Empty);
    let with_host = |(name, value): (&'a [u8], &'a [u8])| match authority {
        Some(authority) if name.eq_ignore_ascii_case(b"host") => (name, authority),
        _ => (name, value),
    };
    let fields = fields.into_iter().map(with_host).collect();
    Some(Request { method, target, is_http10, fields, framing })
}

/// A response's head; `None` where it must be refused.
#[must_use]
pub fn response(head: &[u8], max_fields: usize, to_head: bool) -> Option<Response<'_>> {
    if head.starts_with(b"\r") || head.starts_with(b"\n") {
        return None; // empty lines are for servers to skip (RFC 9112 section 2.2)
    }
    let Lines { first, fields } = lines(head, max_fields)?;
    let (version, rest) = (first.get(..8)?, first.get(8..)?);
    let is_http10 = is_http10(version)?;
    let [b' ', code @ ..] = rest else { return None };
    let (code, phrase) = code.split_at_checked(3)?;
    if !code.iter().all(u8::is_ascii_digit) || !matches!(phrase, [] | [b' ', ..]) || !is_value(phrase) {
        return None;
    }
    let status = code.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    if !(100..600).contains(&status) {
        return None;
    }
    let declared = declared(&fields, is_http10)?;
    let is_bodiless = to_head || status < 200 || status == 204 || status == 304;
    let framing = if is_bodiless { Framing::Empty } else { declared.unwrap_or(Framing::UntilClose) };
    Some(Response { status, fields, framing })
}

/// The fields that go on to the next hop: RFC 9110 section 7.6.1, and Host whatever `Connection` says.
#[must_use]
pub fn end_to_end<'a>(fields: &Fields<'a>) -> Fields<'a> {
    const ON_THIS_HOP: [&str; 10] = [
        "connection",
        "content-length",
        "transfer-encoding",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "upgrade",
        "proxy-authenticate",
        "proxy-authorization",
    ];
    let mut named: Vec<Vec<u8>> = ON_THIS_HOP.map(|name| name.as_bytes().to_vec()).to_vec();
    for value in values(fields, "connection") {
        named.extend(value.split(|byte| *byte == b',').map(|name| name.trim_ascii().to_ascii_lowercase()));
    }
    named.retain(|name| name != b"host");
    // Programs may take `Content_Length` for a length.
    let dashed = |name: &[u8]| String::from_utf8_lossy(name).to_ascii_lowercase().replace('_', "-");
    let goes_on = |(name, _): &&(&[u8], &[u8])| {
        !named.contains(&name.to_ascii_lowercase()) && !ON_THIS_HOP.contains(&dashed(name).as_str())
    };
    fields.iter().filter(goes_on).copied().collect()
}

/// Every value of a field.
#[must_use]
pub fn values<'a>(fields: &Fields<'a>, name: &str) -> Vec<&'a [u8]> {
    let is_it = |(found, _): &&(&[u8], &[u8])| found.to_ascii_lowercase() == name.as_bytes();
    fields.iter().filter(is_it).map(|(_, value)| *value).collect()
}

fn lines(head: &[u8], max_fields: usize) -> Option<Lines<'_>> {
    let mut lines = Vec::new();
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n")?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.contains(&b'\r') {
            return None;
        }
        if !(lines.is_empty() && line.is_empty()) {
            lines.push(line);
        }
    }
    let [first, fields @ .., []] = &lines[..] else { return None };
    let fields: Fields<'_> = fields.iter().map(|line| field(line)).collect::<Option<_>>()?;
    (fields.len() <= max_fields).then_some(Lines { first, fields })
}

fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(start, |last| last + 1);
    (!name.is_empty() && name.iter().all(is_token) && is_value(value)).then_some((name, &value[start..end]))
}

fn is_http10(version: &[u8]) -> Option<bool> {
    match version {
        b"HTTP/1.0" => Some(true),
        b"HTTP/1.1" => Some(false),
        _ => None,
    }
}

/// RFC 9112 section 3.2, but for the form of CONNECT: the authority, which replaces the Host, and the rest.
fn origin_form<'a>(method: &[u8], target: &'a [u8]) -> Option<(Option<&'a [u8]>, &'a [u8])> {
    if method == b"CONNECT" || target.contains(&b'#') {
        return None;
    }
    if target[0] == b'/' || (target == b"*" && method == b"OPTIONS") {
        return Some((None, target));
    }
    let scheme = target.windows(3).position(|three| three == b"://")?;
    if !["http", "https"].iter().any(|known| target[..scheme].eq_ignore_ascii_case(known.as_bytes())) {
        return None;
    }
    let rest = &target[scheme + 3..];
    let authority = rest.split(|byte| matches!(byte, b'/' | b'?')).next().unwrap_or_default();
    if authority.is_empty() || authority[0] == b':' || !is_host(authority) {
        return None;
    }
    match &rest[authority.len()..] {
        [] => Some((Some(authority), b"/")),
        path if path[0] == b'/' => Some((Some(authority), path)),
        _ => None,
    }
}

/// A name of labels, or an address of IPv6 in brackets, and a port of up to five digits behind the last colon; each may
/// be empty, but for the labels.
fn is_host(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, port),
        _ => (text, ""),
    };
    let is_label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.is_empty() || host.strip_suffix('.').unwrap_or(host).split('.').all(is_label),
    };
    let is_port = port.chars().all(|c| c.is_ascii_digit())
        && port.len() < 6
        && port.parse().is_ok_and(|port: u32| port < 65_536);
    is_host && value.len() <= MAX_HOST_BYTES && (port.is_empty() || is_port)
}

/// RFC 9112 section 6, as strict as the contract; `None` to refuse, `Some(None)` where nothing is declared.
fn declared(fields: &Fields<'_>, is_http10: bool) -> Option<Option<Framing>> {
    let (encodings, lengths) = (values(fields, "transfer-encoding"), values(fields, "content-length"));
    match (&encodings[..], &lengths[..]) {
        ([], []) => Some(None),
        ([encoding], []) => {
            let is_chunked = encoding.eq_ignore_ascii_case(b"chunked") && !is_http10;
            is_chunked.then_some(Some(Framing::Chunked))
        }
        ([], [first, others @ ..]) => {
            let length = length(first)?;
            let all_same = others.iter().all(|other| self::length(other) == Some(length));
            let framing = if length == 0 { Framing::Empty } else { Framing::Length(length) };
            all_same.then_some(Some(framing))
        }
        _ => None,
    }
}

fn length(value: &[u8]) -> Option<u64> {
    let mut length: u64 = 0;
    for digit in value {
        if !digit.is_ascii_digit() {
            return None;
        }
        length = length.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (!value.is_empty() && length <= MAX_LENGTH).then_some(length)
}

/// A character of a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z') || b"!#$%&'*+-.^_`|~".contains(byte)
}

/// Neither visible nor blank nor above ASCII.
fn is_control(byte: &u8) -> bool {
    *byte < b' ' || *byte == 0x7f
}

/// Whether all of it may be in a value, an extension or a phrase.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    !bytes.iter().any(|byte| is_control(byte) && *byte != b'\t')
}
