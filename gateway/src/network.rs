//! A network of IP addresses such as `10.0.0.0/8`. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network: all addresses with the same first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// Its first address, which gives the family: no IPv4 address is in an IPv6 network.
    base: IpAddr,
    /// The number of bits behind the prefix.
    free: u32,
}

impl Network {
    /// Reads an address or a network in the notation of RFC 4632 section 3.1. All bits behind the prefix must be zero:
    /// `10.0.0.7/8` could mean an address or a network.
    pub(crate) fn parse(text: &str) -> Option<Network> {
        let (base, length) = match text.split_once('/') {
            Some((base, length)) => (base, Some(length)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().ok()?;
        let bits = if base.is_ipv4() { 32 } else { 128 };
        let free = match length {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                u32::checked_sub(bits, digits.parse().ok()?)?
            }
            Some(_) => return None,
            None => 0,
        };
        // A network within ::ffff:0:0/96 contains IPv4 addresses, and peers are compared as IPv4.
        let base = if free <= 32 { base.to_canonical() } else { base };
        let is_first = number(base).checked_shr(free).and_then(|top| top.checked_shl(free)).unwrap_or(0);
        (is_first == number(base)).then_some(Network { base, free })
    }

    /// Whether it is a single address.
    pub(crate) fn is_address(self) -> bool {
        self.free == 0
    }

    /// An address of the network: the second, if there are several, since the first may mean the network itself.
    pub(crate) fn some_address(self) -> IpAddr {
        let one = u128::from(self.free > 0);
        match self.base {
            IpAddr::V4(base) => Ipv4Addr::from_bits(base.to_bits() | one as u32).into(),
            IpAddr::V6(base) => Ipv6Addr::from_bits(base.to_bits() | one).into(),
        }
    }

    /// Whether the network contains `address`.
    pub(crate) fn has(self, address: IpAddr) -> bool {
        let differ = number(self.base) ^ number(address);
        self.base.is_ipv4() == address.is_ipv4() && differ.checked_shr(self.free).unwrap_or(0) == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = if self.base.is_ipv4() { 32 } else { 128 };
        write!(f, "{}/{}", self.base, bits - self.free)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_an_address_and_is_written_as_it_was_read() {
        for (text, address) in [
            ("10.0.0.0/8", "10.0.0.1"),
            ("10.0.0.7/32", "10.0.0.7"),
            ("0.0.0.0/0", "0.0.0.1"),
            ("fd00::/64", "fd00::1"),
            ("::1/128", "::1"),
        ] {
            let network = Network::parse(text).unwrap();
            assert_eq!(
                (network.to_string(), network.some_address().to_string()),
                (text.into(), address.into())
            );
            assert!(network.has(network.some_address()));
            assert_eq!(network.is_address(), text.ends_with("/32") || text.ends_with("/128"));
        }
    }
}
