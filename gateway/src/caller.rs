//! Who has the control plane change something, for the log: the user and the address of the client. The edge knows, and
//! tells the control plane in a header of its own.

use std::fmt;
use std::net::IpAddr;

/// The header, between the edge and the control plane alone.
pub(crate) const HEADER: &str = "X-Caller";

/// The caller of a request that came by the socket in `state_dir`, which only the gateway's own user and root can open.
pub(crate) const AT_THE_SOCKET: &str = "user -, client control.sock";

/// Who sent a request that was let in.
pub(crate) struct Caller<'a> {
    /// The user who gave the password; nobody where none is asked for.
    pub(crate) user: Option<&'a [u8]>,
    pub(crate) client: IpAddr,
}

impl fmt::Display for Caller<'_> {
    /// In ASCII, as the control plane's server takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}, client {}", self.user.unwrap_or(b"-").escape_ascii(), self.client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_one_line_of_ascii() {
        let text = |user| Caller { user, client: "::1".parse().unwrap() }.to_string();
        assert_eq!(text(None), "user -, client ::1");
        assert_eq!(text(Some(b"admin")), "user admin, client ::1");
        assert_eq!(text(Some("\u{e4}\n".as_bytes())), "user \\xc3\\xa4\\n, client ::1");
    }
}
