//! Where the process of `mode=http` listens (`upstream_url`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A host of this machine and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    /// `None` for `localhost`, which is an address of either family.
    host: Option<IpAddr>,
    /// 0 where each start of the process gets a port.
    port: u16,
}

impl Upstream {
    /// Reads `http://HOST:PORT`, with a slash or without. HOST is an address or `localhost`: a look-up of other names
    /// would only cost code.
    pub(crate) fn parse(url: &str) -> Option<Upstream> {
        let rest = url.strip_prefix("http://")?;
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = authority.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = if host == "localhost" { None } else { Some(host.parse().ok()?) };
        Some(Upstream { host, port: port.parse().ok()? })
    }

    /// Whether each start of the process gets a port.
    pub(crate) fn has_own_port(self) -> bool {
        self.port == 0
    }

    /// The same host with another port.
    pub(crate) fn at(self, port: u16) -> Upstream {
        Upstream { port, ..self }
    }

    /// Where the process may listen, the likeliest first. For `localhost` a program takes one of two addresses, mostly
    /// that of IPv4.
    pub(crate) fn addresses(self) -> impl Iterator<Item = SocketAddr> {
        let second = self.host.is_none().then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, self.port)));
        [self.first()].into_iter().chain(second)
    }

    /// The likeliest address.
    pub(crate) fn first(self) -> SocketAddr {
        SocketAddr::new(self.host.unwrap_or(Ipv4Addr::LOCALHOST.into()), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_of_this_machine_and_a_port() {
        for (url, want) in [
            ("http://127.0.0.1:80/", &["127.0.0.1:80"][..]),
            ("http://[::1]:80", &["[::1]:80"]),
            ("http://localhost:80", &["127.0.0.1:80", "[::1]:80"]),
            ("http://localhost:0", &["127.0.0.1:0", "[::1]:0"]),
            ("", &[]),
            ("127.0.0.1:80", &[]),
            ("https://127.0.0.1:80", &[]),
            ("http://127.0.0.1", &[]),
            ("http://127.0.0.1:99999", &[]),
            ("http://127.0.0.1:80/path", &[]),
            ("http://no such host:80", &[]),
            ("http://example.com:80", &[]),
        ] {
            let got: Vec<String> = Upstream::parse(url)
                .into_iter()
                .flat_map(Upstream::addresses)
                .map(|address| address.to_string())
                .collect();
            assert_eq!(got, want, "{url}");
        }
    }
}
