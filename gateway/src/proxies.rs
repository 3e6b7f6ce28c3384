//! The proxies in front of the gateway: whom it believes what a request says about its client, and which address that
//! client has.

use std::net::{IpAddr, SocketAddr};
use std::str;

use http1::Headers;
use http1::writer::is_taken_for;

use crate::network::Network;

/// The field in which each proxy adds the address of its own client.
pub(crate) const X_FORWARDED_FOR: &str = "X-Forwarded-For";

/// What the names of the fields begin with that tell of the way of a request. All of them are a proxy's to write.
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// Other fields with the same purpose.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded", "x-real-ip"];

/// The most addresses and networks that are trusted: each is compared with the peer of each request.
const MAX_NETWORKS: usize = 64;

/// The most entries of `X-Forwarded-For` that are read for one request: more proxies than stand behind each other.
const MAX_HOPS: usize = 16;

/// What the setting may be.
pub(crate) const EXPECTED: &str =
    "up to 64 addresses and networks, comma separated: 10.0.0.7, 10.0.0.0/8 (not 10.0.0.7/8)";

/// Whether a field tells of the way that a request has come, so that only a proxy may send it.
pub(crate) fn tells_the_way(name: &[u8]) -> bool {
    let start = name.get(..FORWARDED_PREFIX.len()).unwrap_or_default();
    is_taken_for(start, FORWARDED_PREFIX) || FORWARDED.iter().any(|other| is_taken_for(name, other))
}

/// The proxies that are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proxies(Vec<Network>);

impl Proxies {
    /// Reads a list such as `10.0.0.7, 10.1.0.0/16`. The empty text is the empty list.
    pub(crate) fn parse(text: &str) -> Option<Proxies> {
        let entries = text.split(',').map(str::trim);
        let networks: Option<Vec<Network>> = match text {
            "" => Some(Vec::new()),
            _ => entries.map(Network::parse).collect(),
        };
        networks.filter(|networks| networks.len() <= MAX_NETWORKS).map(Proxies)
    }

    /// Whether `address` is one of them.
    pub(crate) fn have(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.has(address.to_canonical()))
    }

    /// The address of the client whose request came from `peer`: the peer itself, or, where that is trusted, the
    /// rightmost address in `X-Forwarded-For` that is not trusted. An entry that is no address ends the search: the
    /// client is then the proxy that has added it.
    pub(crate) fn client(&self, peer: IpAddr, headers: Headers<'_>) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.have(client) {
            return client;
        }
        let values: Vec<&[u8]> = headers.get_all(X_FORWARDED_FOR).collect();
        let entries = values.iter().rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
        for entry in entries.take(MAX_HOPS) {
            let Some(address) = address(entry) else { break };
            client = address;
            if !self.have(address) {
                break;
            }
        }
        client
    }
}

/// An address in `X-Forwarded-For`: plain, in brackets, or with a port, as some proxies write it.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let with_port = || text.parse().map(|address: SocketAddr| address.ip());
    bare.parse().or_else(|_| with_port()).ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http1::RequestHead;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_list_has_addresses_and_networks_of_both_families() {
        let proxies =
            Proxies::parse("10.0.0.7, 192.168.0.0/16,fd00::/8 , ::1,::ffff:172.16.0.0/108").unwrap();
        for address in
            ["10.0.0.7", "192.168.0.0", "192.168.255.255", "fd12::3", "::1", "172.31.0.1", "::ffff:10.0.0.7"]
        {
            assert!(proxies.have(ip(address)), "{address}");
        }
        for address in
            ["10.0.0.6", "192.167.255.255", "192.169.0.0", "fe00::", "fcff::1", "::2", "172.32.0.0", "::"]
        {
            assert!(!proxies.have(ip(address)), "{address}");
        }
        assert!(!Proxies::default().have(ip("127.0.0.1")));
        assert_eq!(Proxies::parse(""), Some(Proxies::default()));
    }

    #[test]
    fn a_network_may_be_a_whole_family_and_not_both() {
        let (all_v4, all_v6) = (Proxies::parse("0.0.0.0/0").unwrap(), Proxies::parse("::/0").unwrap());
        assert!(all_v4.have(ip("1.2.3.4")) && !all_v4.have(ip("2001:db8::1")));
        assert!(all_v6.have(ip("2001:db8::1")) && !all_v6.have(ip("1.2.3.4")));
        assert_eq!(Proxies::parse("::ffff:0:0/96"), Some(all_v4));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let none = [
            "x",
            "10.0.0",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.7/8",
            "::1/64",
            "fd00::/129",
            "10.0.0.0/8/8",
            "10.0.0.0 /8",
            ",",
            "10.0.0.7,",
            "10.0.0.7 10.0.0.8",
            "10.0.0.7:80",
            "[::1]",
            "proxy.test",
            "fe80::1%eth0",
            "10.0.0.0/99999999999",
        ];
        for text in none {
            assert_eq!(Proxies::parse(text), None, "{text}");
        }
        let list = |count: usize| vec!["10.0.0.7"; count].join(",");
        assert!(Proxies::parse(&list(MAX_NETWORKS)).is_some());
        assert_eq!(Proxies::parse(&list(MAX_NETWORKS + 1)), None);
        assert!(EXPECTED.contains(&format!("up to {MAX_NETWORKS} ")));
    }

    fn client(peer: &str, fields: &[&str]) -> String {
        let fields: String = fields.iter().map(|value| format!("x-forwarded-for: {value}\r\n")).collect();
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let head = RequestHead::parse(head.into_bytes(), 128).unwrap();
        let proxies = Proxies::parse("10.0.0.0/8, fd00::/8").unwrap();
        proxies.client(ip(peer), head.headers()).to_string()
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_proxys() {
        let cases: [(&str, &[&str], &str); 15] = [
            ("9.9.9.9", &["1.1.1.1"], "9.9.9.9"),
            ("::ffff:9.9.9.9", &[], "9.9.9.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1"], "1.1.1.1"),
            ("::ffff:10.0.0.1", &["::ffff:1.1.1.1"], "1.1.1.1"),
            ("10.0.0.1", &["1.1.1.1, 2.2.2.2"], "2.2.2.2"),
            ("10.0.0.1", &["1.1.1.1", "2.2.2.2"], "2.2.2.2"),
            ("10.0.0.1", &["2.2.2.2, 10.0.0.3", "10.0.0.2"], "2.2.2.2"),
            ("10.0.0.1", &["10.0.0.4, 10.0.0.3"], "10.0.0.4"),
            ("fd00::1", &["2001:db8::7"], "2001:db8::7"),
            ("10.0.0.1", &["[2001:db8::7]:443, 10.0.0.2:80"], "2001:db8::7"),
            ("10.0.0.1", &["1.1.1.1, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &["1.1.1.1, "], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1\u{e4}"], "10.0.0.1"),
            ("10.0.0.1", &["1.1.1.1\t , \t10.0.0.2"], "1.1.1.1"),
        ];
        for (peer, fields, want) in cases {
            assert_eq!(client(peer, fields), want, "{peer} with {fields:?}");
        }
    }

    #[test]
    fn the_search_for_the_client_has_an_end() {
        let hops = |count: usize| {
            client(
                "10.0.0.1",
                &[&["1.1.1.1"].into_iter().chain(vec!["10.0.0.2"; count]).collect::<Vec<_>>().join(",")],
            )
        };
        assert_eq!(hops(MAX_HOPS - 1), "1.1.1.1");
        assert_eq!(hops(MAX_HOPS), "10.0.0.2");
    }

    #[test]
    fn the_fields_that_only_a_proxy_may_send() {
        for name in [
            "X-Forwarded-For",
            "x-forwarded-PREFIX",
            "X-Forwarded-",
            "X-Forwarded",
            "Forwarded",
            "x-real-ip",
            "X_Forwarded-For",
            "x_real_ip",
        ] {
            assert!(tells_the_way(name.as_bytes()), "{name}");
        }
        for name in ["X-Forward", "X-Forwardedfor", "X-Real-IPs", "Forwarded-For", "Via", ""] {
            assert!(!tells_the_way(name.as_bytes()), "{name}");
        }
    }
}
