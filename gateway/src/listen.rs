//! The addresses that the gateway listens on: at the one kind it serves functions, at the other one `/system`, `/ui` and
//! `/metrics`, unless both are the same.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use kit::sys::Listener;

use crate::network::Network;

/// What `listen` and `admin_listen` take.
pub(crate) const EXPECTED: &str =
    "addresses with a port, such as 127.0.0.1:8080, [::]:8080 or 10.1.0.0/16:8080 (not 10.1.0.7/16:8080)";

/// A port for the system to see which address it would send from; nothing is sent.
const ANY_PORT: u16 = 9;

/// One entry of `listen` or `admin_listen`, or what `port` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// All addresses of this machine.
    Everywhere(u16),
    At(SocketAddr),
    /// The address that this machine has in that network.
    Within(Network, u16),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Everywhere(port) => write!(f, "port {port}"),
            Place::At(address) => write!(f, "{address}"),
            Place::Within(network, port) => write!(f, "port {port} in {network}"),
        }
    }
}

impl Place {
    /// Reads `ADDRESS:PORT` or `NETWORK:PORT`, with brackets around what is of IPv6.
    pub(crate) fn parse(text: &str) -> Option<Place> {
        if let Ok(address) = text.parse() {
            return Some(Place::At(address));
        }
        let (network, port) = text.rsplit_once(':')?;
        let (is_digits, is_six) = (port.bytes().all(|byte| byte.is_ascii_digit()), network.starts_with('['));
        let bare = if is_six { network.strip_prefix('[')?.strip_suffix(']')? } else { network };
        let is_network = is_digits && bare.contains('/') && bare.contains(':') == is_six;
        is_network.then(|| Some(Place::Within(Network::parse(bare)?, port.parse().ok()?)))?
    }

    /// The address to bind.
    ///
    /// # Errors
    /// This machine has no address in the network.
    fn address(self) -> io::Result<SocketAddr> {
        match self {
            Place::Everywhere(port) => Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))),
            Place::At(address) => Ok(address),
            Place::Within(network, port) => Ok(SocketAddr::new(own_address(network)?, port)),
        }
    }

    /// The address at which this machine itself reaches a gateway that listens there.
    ///
    /// # Errors
    /// As [`Place::address`].
    pub(crate) fn reached_at(self) -> io::Result<SocketAddr> {
        if let Place::Everywhere(port) = self {
            return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))); // IPv6 may be switched off
        }
        let mut address = self.address()?;
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        Ok(address)
    }
}

/// The address of this machine in a network: the one from which it would send there.
fn own_address(network: Network) -> io::Result<IpAddr> {
    let to = network.some_address();
    if network.is_address() {
        return Ok(to);
    }
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    let none = || io::Error::other("this machine has no address in that network");
    socket.connect((to, ANY_PORT)).map_err(|_| none())?;
    let own = socket.local_addr()?.ip();
    if network.has(own) { Ok(own) } else { Err(none()) }
}

/// Where to listen, by the setting that says so.
pub(crate) struct Places {
    pub(crate) listen: Vec<Place>,
    pub(crate) admin_listen: Vec<Place>,
}

/// What the gateway listens with.
pub(crate) struct Listening {
    /// Those of `listen` first.
    pub(crate) listeners: Vec<Listener>,
    /// Their addresses, with the ports that they were given.
    pub(crate) addresses: Vec<SocketAddr>,
    /// The number of the first one of `admin_listen`, if there is one.
    pub(crate) first_admin: Option<usize>,
}

/// A place that is not free, not allowed, or not there.
#[derive(Debug)]
pub(crate) struct Error {
    place: Place,
    setting: &'static str,
    source: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { place, setting, source } = self;
        write!(f, "failed to listen on {place} (setting {setting}): {source}")
    }
}

impl Places {
    /// Listens on all of them.
    ///
    /// # Errors
    /// The first one that cannot be had.
    pub(crate) fn open(&self) -> Result<Listening, Error> {
        let of = |setting| move |place: &Place| (*place, setting);
        let main = self.listen.iter().map(|place| match place {
            Place::Everywhere(_) => (*place, "port"),
            _ => (*place, "listen"),
        });
        let places: Vec<_> = main.chain(self.admin_listen.iter().map(of("admin_listen"))).collect();
        let failed = |(place, setting)| move |source| Error { place, setting, source };
        let mut wanted = Vec::new();
        for place in &places {
            wanted.push(place.0.address().map_err(failed(*place))?);
        }
        let first_admin = (!self.admin_listen.is_empty()).then_some(self.listen.len());
        let mut listening = Listening { listeners: Vec::new(), addresses: Vec::new(), first_admin };
        for (place, address) in places.iter().zip(&wanted) {
            let listener = bind(place.0, *address, &wanted).map_err(failed(*place))?;
            listening.addresses.push(listener.address().map_err(failed(*place))?);
            listening.listeners.push(listener);
        }
        Ok(listening)
    }
}

/// `[::]` takes IPv4 too, unless another place has an address of IPv4 with that port.
fn bind(place: Place, address: SocketAddr, all: &[SocketAddr]) -> io::Result<Listener> {
    let is_shared = |other: &SocketAddr| other.is_ipv4() && other.port() == address.port();
    match (place, address) {
        (Place::Everywhere(port), _) => Listener::bind_any(port),
        (_, SocketAddr::V6(six))
            if six.ip().is_unspecified() && six.port() != 0 && all.iter().any(is_shared) =>
        {
            Listener::bind_v6_only(six)
        }
        _ => Listener::bind(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_addresses_and_networks_with_a_port() {
        for (text, want) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::]:0", "[::]:0"),
            ("[fe80::1%2]:80", "[fe80::1%2]:80"),
            ("10.1.0.0/16:8080", "port 8080 in 10.1.0.0/16"),
            ("[fd00::/64]:65535", "port 65535 in fd00::/64"),
        ] {
            assert_eq!(Place::parse(text).map(|place| place.to_string()).as_deref(), Some(want), "{text}");
        }
        for bad in [
            "",
            ":8080",
            "8080",
            "*:8080",
            "localhost:8080",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:65536",
            "::1:8080",
            "[::1]",
            "10.1.0.0/16",
            "10.1.0.0/16:",
            "10.1.0.0/16:+80",
            "10.1.0.1/16:80",
            "fd00::/64:80",
            "[10.1.0.0/16]:80",
            "[fd00::/64:80",
            "10.1.0.0/33:80",
        ] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_place_in_a_network_is_the_machines_own_address_there() {
        let own = |text: &str| Place::parse(text).unwrap().address().map(|address| address.to_string());
        assert_eq!(own("127.0.0.0/8:80").ok().as_deref(), Some("127.0.0.1:80"));
        assert_eq!(own("127.0.0.2/32:80").ok().as_deref(), Some("127.0.0.2:80"));
        let none = own("203.0.113.0/24:80").expect_err("that network is for documents");
        assert_eq!(none.to_string(), "this machine has no address in that network");
    }

    #[test]
    fn a_gateway_is_reached_by_loopback_where_it_listens_everywhere() {
        for (place, want) in [
            (Place::Everywhere(80), "127.0.0.1:80"),
            (Place::parse("0.0.0.0:80").unwrap(), "127.0.0.1:80"),
            (Place::parse("[::]:80").unwrap(), "[::1]:80"),
            (Place::parse("127.0.0.2:80").unwrap(), "127.0.0.2:80"),
            (Place::parse("127.0.0.0/8:80").unwrap(), "127.0.0.1:80"),
        ] {
            assert_eq!(place.reached_at().unwrap().to_string(), want, "{place}");
        }
    }
}
