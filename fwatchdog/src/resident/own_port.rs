//! A free TCP port for a process. Until the process listens, no other fwatchdog chooses the same port.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use kit::sys::{Listener, limits};

/// The first port: below the ports that Linux gives to clients (ip(7)). A client of a port where no process listens yet
/// could otherwise get that same port, and connect to itself.
const FIRST: u16 = 20_000;
const COUNT: u64 = 10_000;

/// The ports that are tried.
const MAX_TRIES: usize = 100;

/// A port that belongs to this fwatchdog until this is dropped.
pub(crate) struct OwnPort {
    pub(crate) number: u16,
    /// A name that is taken as long as the socket lives, within the network namespace like the port (unix(7), abstract
    /// names).
    _claim: UnixDatagram,
}

impl OwnPort {
    /// Chooses a port.
    ///
    /// # Errors
    /// Where no port was found, or the system has no room for a socket.
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
