//! Where the engine answers: `unix:///path` or `tcp://host:port`, as in `DOCKER_HOST`.

use std::fmt;
use std::fs;
use std::io;
use std::net::ToSocketAddrs as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use http1::Endpoint;

use crate::Error;

/// The port of an engine that listens on TCP without TLS, when none is named.
const DEFAULT_PORT: u16 = 2375;

/// Addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// The address of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A UNIX socket.
    Unix(PathBuf),
    /// A name or address and a port.
    Tcp(String, u16),
}

/// Who may ask an engine, as far as this host's files say (a UNIX socket is written to, unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Every user, also where it is asked over TCP.
    Everybody,
    /// The members of this group.
    Group(u32),
    /// Only the socket's owner, or root.
    Owner,
}

impl Access {
    fn of(mode: u32, group: u32) -> Access {
        match mode {
            mode if mode & 0o002 != 0 => Access::Everybody,
            mode if mode & 0o020 != 0 => Access::Group(group),
            _ => Access::Owner,
        }
    }

    /// Whether those who may ask can reach what is in a directory (path_resolution(7)).
    fn may_search(self, mode: u32, group: u32) -> bool {
        match self {
            _ if mode & 0o001 != 0 => true,
            Access::Group(own) => own == group && mode & 0o010 != 0,
            Access::Everybody => false,
            Access::Owner => true,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Access::Everybody => f.write_str("every user may ask the engine"),
            Access::Group(group) => write!(f, "group {group} may ask the engine"),
            Access::Owner => f.write_str("only its owner may ask the engine"),
        }
    }
}

impl Host {
    /// Who may ask this engine.
    ///
    /// # Errors
    /// When there is no such socket now.
    pub fn access(&self) -> io::Result<Access> {
        match self {
            Host::Unix(path) => {
                let path = fs::canonicalize(path)?;
                let socket = fs::metadata(&path)?;
                let mut access = Access::of(socket.mode(), socket.gid());
                for directory in path.ancestors().skip(1) {
                    let directory = fs::metadata(directory)?;
                    if !access.may_search(directory.mode(), directory.gid()) {
                        access = Access::Owner;
                    }
                }
                Ok(access)
            }
            Host::Tcp(..) => Ok(Access::Everybody),
        }
    }

    /// Reads an address. `http://` is taken for `tcp://`, as the engine's own client does.
    ///
    /// # Errors
    /// [`Error::Host`] for another scheme, a path that is not absolute, or a port that is not one.
    pub fn parse(text: &str) -> Result<Host, Error> {
        let refused = |reason: &str| Error::Host { text: text.to_owned(), reason: reason.to_owned() };
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(refused("expected an absolute path, such as unix:///var/run/docker.sock"));
            }
            return Ok(Host::Unix(PathBuf::from(path)));
        }
        let Some(rest) = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")) else {
            return Err(refused("expected unix:///path or tcp://host:port"));
        };
        let rest = rest.trim_end_matches('/');
        let (name, port) = match rest.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, port.parse().ok()),
            _ => (rest, Some(DEFAULT_PORT)),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']');
        match port {
            Some(port) if !name.is_empty() && port > 0 && !name.contains('/') => {
                Ok(Host::Tcp(name.to_owned(), port))
            }
            _ => Err(refused("expected tcp://host:port")),
        }
    }

    /// Where to connect to now, the first place and further ones. A name is looked up each time, since a socket proxy may
    /// move; it may have addresses at which nobody listens.
    pub(crate) fn endpoints(&self) -> Result<(Endpoint, Vec<Endpoint>), Error> {
        match self {
            Host::Unix(path) => Ok((Endpoint::Unix(path.clone()), Vec::new())),
            Host::Tcp(name, port) => {
                let refused = |reason: String| Error::Host { text: self.to_string(), reason };
                let found =
                    (name.as_str(), *port).to_socket_addrs().map_err(|error| refused(error.to_string()))?;
                let mut found = found.take(MAX_ADDRESSES).map(Endpoint::Tcp);
                let first = found.next().ok_or_else(|| refused("name has no address".to_owned()))?;
                Ok((first, found.collect()))
            }
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Unix(path) => write!(f, "unix://{}", path.display()),
            Host::Tcp(name, port) if name.contains(':') => write!(f, "tcp://[{name}]:{port}"),
            Host::Tcp(name, port) => write!(f, "tcp://{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_follows_the_socket_s_mode() {
        let cases = [
            (0o140_660, Access::Group(7)),
            (0o140_666, Access::Everybody),
            (0o140_602, Access::Everybody),
            (0o140_600, Access::Owner),
            (0o140_640, Access::Owner), // reading alone is not enough
        ];
        for (mode, want) in cases {
            assert_eq!(Access::of(mode, 7), want, "{mode:o}");
        }
        for (access, mode, want) in [
            (Access::Everybody, 0o755, true),
            (Access::Everybody, 0o750, false),
            (Access::Group(7), 0o750, true),
            (Access::Group(8), 0o750, false),
            (Access::Group(7), 0o700, false),
            (Access::Owner, 0o700, true),
        ] {
            assert_eq!(access.may_search(mode, 7), want, "{access:?} {mode:o}");
        }
        let dir = tempfile::tempdir().unwrap();
        let only_owner = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(dir.path(), only_owner).unwrap();
        let path = dir.path().join("docker.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(&path, mode).unwrap();
        let host = Host::parse(&format!("unix://{}", path.display())).unwrap();
        assert_eq!(host.access().unwrap(), Access::Owner, "nobody else can reach it");
        assert_eq!(Host::parse("tcp://proxy").unwrap().access().unwrap(), Access::Everybody);
        assert!(Host::parse("unix:///no/such.sock").unwrap().access().is_err());
    }

    #[test]
    fn addresses_are_read_or_refused() {
        let cases = [
            ("unix:///var/run/docker.sock", Some("unix:///var/run/docker.sock")),
            ("tcp://proxy:2375", Some("tcp://proxy:2375")),
            ("tcp://proxy", Some("tcp://proxy:2375")),
            ("tcp://10.0.0.1:80/", Some("tcp://10.0.0.1:80")),
            ("tcp://[::1]:80", Some("tcp://[::1]:80")),
            ("tcp://[::1]", Some("tcp://[::1]:2375")),
            ("http://proxy:1", Some("tcp://proxy:1")),
            ("", None),
            ("/var/run/docker.sock", None),
            ("unix://docker.sock", None),
            ("npipe:////./pipe/docker", None),
            ("ssh://host", None),
            ("tcp://", None),
            ("tcp://:80", None),
            ("tcp://host:0", None),
            ("tcp://host:port", None),
            ("tcp://host/path:80", None),
        ];
        for (text, want) in cases {
            let got = Host::parse(text).map(|host| host.to_string()).ok();
            assert_eq!(got.as_deref(), want, "{text}");
        }
    }
}
