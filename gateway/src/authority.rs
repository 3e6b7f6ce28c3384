//! A host with a port, as `Host` and `Origin` have it. Pure.

use std::net::IpAddr;

use http1::head;

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
    /// Reads `host [":" port]`, see [`head::authority`]. An empty host is none.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Authority<'a>> {
        let (host, port) = head::authority(text)?;
        let host = std::str::from_utf8(host).ok().filter(|host| !host.is_empty())?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => Host::Address(IpAddr::V6(address.parse().ok()?)),
            None => host.parse().map_or(Host::Name(host), |address| Host::Address(IpAddr::V4(address))),
        };
        Some(Authority { host, port })
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
