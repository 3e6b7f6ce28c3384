//! A host with a port, as `Host` and `Origin` have it. Pure.

use std::net::{IpAddr, Ipv6Addr};

/// A host and its port, if it has one.
pub(crate) struct Authority<'a> {
    pub(crate) host: Host<'a>,
    pub(crate) port: Option<u16>,
}

pub(crate) enum Host<'a> {
    Address(IpAddr),
    Name(&'a str),
}

impl Host<'_> {
    /// Whether both are the same, whatever the case of their letters.
    pub(crate) fn is(&self, other: &Host<'_>) -> bool {
        match (self, other) {
            (Host::Address(one), Host::Address(other)) => one == other,
            (Host::Name(one), Host::Name(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        }
    }
}

impl<'a> Authority<'a> {
    /// Reads `host [":" port]` (RFC 9110 section 7.2). A user, a path and an empty host are no part of it.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Authority<'a>> {
        let text = std::str::from_utf8(text).ok()?;
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']')?;
            let address: Ipv6Addr = address.parse().ok()?;
            return Some(Authority { host: Host::Address(address.into()), port: port_of(port)? });
        }
        let end = text.find(':').unwrap_or(text.len());
        let (name, port) = text.split_at(end);
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_name) {
            return None;
        }
        let host = name.parse().map_or(Host::Name(name), |address| Host::Address(IpAddr::V4(address)));
        Some(Authority { host, port: port_of(port)? })
    }
}

/// The port in `:port`; `None` within where there is none, or no digit of one.
fn port_of(text: &str) -> Option<Option<u16>> {
    match text.strip_prefix(':') {
        None if text.is_empty() => Some(None),
        None => None,
        Some("") => Some(None),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok().map(Some),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_names() {
        let text = |text: &str| {
            let Authority { host, port } = Authority::parse(text.as_bytes())?;
            let host = match host {
                Host::Address(address) => format!("address {address}"),
                Host::Name(name) => format!("name {name}"),
            };
            Some((host, port))
        };
        for (from, host, port) in [
            ("faas.test", "name faas.test", None),
            ("faas.test:", "name faas.test", None),
            ("my_host:65535", "name my_host", Some(65535)),
            ("10.0.0.1:080", "address 10.0.0.1", Some(80)),
            ("10.0.0.256", "name 10.0.0.256", None),
            ("127.1", "name 127.1", None),
            ("[::1]", "address ::1", None),
            ("[0:0::1]:8080", "address ::1", Some(8080)),
        ] {
            assert_eq!(text(from), Some((host.to_owned(), port)), "{from}");
        }
        for bad in
            ["", ":80", "x:65536", "x:+1", "x:-1", "x: 1", "x:1:2", "a b", "a/b", "u@x", "[::1", "[x]", "[]"]
        {
            assert_eq!(text(bad), None, "{bad}");
        }
    }
}
