//! Targets and hosts of requests (RFC 9112 section 3.2).

use std::net::Ipv6Addr;
use std::ops::Range;

use super::headers::{Fields, Headers, Version};
use crate::Refusal;
use crate::name::is_same;
use crate::span::Span;

/// The longest `Host`: a gateway repeats it in another field. Names have at most 255 bytes (RFC 1035 section 2.3.4).
pub const MAX_HOST_BYTES: usize = 1024;

/// The digits of the largest port.
const MAX_PORT_DIGITS: usize = 5;

pub(super) fn check_host(headers: Headers<'_>, version: Version) -> Result<(), Refusal> {
    let mut hosts = headers.get_all("host");
    match (hosts.next(), version) {
        (None, Version::Http11) => Err(Refusal::HostMissing),
        (None, Version::Http10) => Ok(()),
        (Some(_), _) if hosts.next().is_some() => Err(Refusal::HostRepeated),
        (Some(host), _) if authority(host).is_none() => Err(Refusal::HostInvalid),
        _ => Ok(()),
    }
}

/// The parts of `uri-host [ ":" port ]` (RFC 9110 section 7.2), both of which may be empty; an IPv6 address has its
/// brackets. Nothing in a valid authority can be taken for a path, a user or a second host.
#[must_use]
pub fn authority(value: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let (host, port) = match value {
        [b'[', ..] => {
            let end = value.iter().position(|byte| *byte == b']')?;
            (is_ipv6(&value[1..end]).then_some(&value[..=end])?, &value[end + 1..])
        }
        _ => value.split_at(name_length(value)?),
    };
    (value.len() <= MAX_HOST_BYTES).then_some((host, port_of(port)?))
}

/// The length of a name as the DNS and a Swarm have it: labels of letters, digits, `-` and `_`, a dot between two
/// labels, and perhaps a dot at the end. A colon ends the name. RFC 3986 section 3.2.2 allows more, which no resolver
/// knows and every program reads differently.
fn name_length(value: &[u8]) -> Option<usize> {
    let mut begins_label = true;
    for (place, byte) in value.iter().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => begins_label = false,
            b'.' if !begins_label => begins_label = true,
            b':' => return Some(place),
            _ => return None,
        }
    }
    Some(value.len())
}

/// An address without a zone, which means something to its own host only (RFC 6874 section 1).
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

/// The parts of a target.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The place of the authority of an absolute target.
    pub(super) authority: Option<Range<usize>>,
    /// The start of path and query, which are served.
    pub(super) start: usize,
    /// The bytes of the path.
    pub(super) path_length: usize,
}

impl Target {
    /// Reads a target. The authority form is refused: nothing here is a tunnel.
    pub(super) fn parse(method: &[u8], text: &[u8]) -> Result<Target, Refusal> {
        let authority = match text {
            _ if method == b"CONNECT" => return Err(Refusal::Target),
            [b'/', ..] => None,
            b"*" if method == b"OPTIONS" => None,
            _ => Some(authority_of(text)?),
        };
        let start = authority.as_ref().map_or(0, |authority| authority.end);
        let mut path_end = text.len();
        for (place, byte) in text.iter().enumerate().skip(start) {
            match byte {
                // A fragment is the client's own (RFC 9110 section 4.1), and no path goes on behind it.
                b'#' => return Err(Refusal::Target),
                b'?' if path_end == text.len() => path_end = place,
                _ => {}
            }
        }
        Ok(Target { authority, start, path_length: path_end - start })
    }
}

/// The place of the authority of an absolute target.
fn authority_of(text: &[u8]) -> Result<Range<usize>, Refusal> {
    let scheme = ["http://", "https://"].iter().find(|scheme| {
        text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
    });
    let start = scheme.ok_or(Refusal::Target)?.len();
    let length = text[start..].iter().position(|byte| matches!(byte, b'/' | b'?'));
    let end = length.map_or(text.len(), |length| start + length);
    match (&text[start..end], &text[end..]) {
        // Without a host, or with a user, such a URI is not valid (RFC 9110 sections 4.2.1 and 4.2.4).
        ([] | [b':', ..], _) | (_, [b'?', ..]) => Err(Refusal::Target),
        (host, _) if authority(host).is_none() => Err(Refusal::Target),
        _ => Ok(start..end),
    }
}

/// Puts the authority of an absolute target in the place of the value of `Host` (RFC 9112 section 3.2.2): every program
/// behind then reads the same host.
pub(super) fn set_host(fields: &mut Fields, bytes: &[u8], authority: Span) {
    let host = fields.list.iter_mut().find(|field| is_same(field.name.in_bytes(bytes), "host"));
    if let Some(field) = host {
        (field.value, field.is_plain) = (authority, false);
    }
}
