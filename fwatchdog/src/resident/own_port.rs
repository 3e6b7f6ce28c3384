//! A TCP port for a process that listens on one of its own: one that nobody listens on, and that no other fwatchdog has
//! chosen, in the time until the process listens.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use kit::sys::{Listener, limits};

/// Ports are taken from here: below those from which Linux takes the port of a client (ip(7)). A connect to a port where
/// nobody listens yet could otherwise come from that same port, and would meet itself.
const FIRST: u16 = 20_000;
const COUNT: u64 = 10_000;

/// How many are tried. Where that many are taken, the machine has other worries.
const MAX_TRIES: usize = 100;

/// A port; it is this fwatchdog's until it is dropped.
pub(crate) struct OwnPort {
    pub(crate) number: u16,
    /// A name that is taken as long as the socket lives, and is seen where the port would be: in this network namespace
    /// (unix(7), abstract names).
    _claim: UnixDatagram,
}

impl OwnPort {
    /// Chooses a port.
    ///
    /// # Errors
    /// When none was found, or there is no room for a socket.
    pub(crate) fn choose() -> io::Result<OwnPort> {
        for _ in 0..MAX_TRIES {
            let number = FIRST + (limits::random() % COUNT) as u16;
            let claim = match claim(number) {
                Ok(claim) => claim,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => continue,
                Err(error) => return Err(error),
            };
            if Listener::bind_any(number).is_ok() {
                return Ok(OwnPort { number, _claim: claim });
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port was found"))
    }
}

fn claim(number: u16) -> io::Result<UnixDatagram> {
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(format!("fwatchdog-port-{number}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_port_is_chosen_twice() {
        let ports: Vec<OwnPort> = (0..200).map(|_| OwnPort::choose().unwrap()).collect();
        let numbers: BTreeSet<u16> = ports.iter().map(|port| port.number).collect();
        assert_eq!(numbers.len(), ports.len());
        assert!(numbers.iter().all(|number| claim(*number).is_err()));
    }
}
