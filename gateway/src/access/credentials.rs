//! The operator's user and password, for the control plane (RFC 7617).

use http1::Headers;

use super::keys::Scheme;
use crate::base64;
use crate::digest::same;

/// A user and a password.
pub(crate) struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Credentials {
    /// `None` if one of them is empty, or the user contains a colon, which no client could send.
    pub(crate) fn new(user: &[u8], password: &[u8]) -> Option<Credentials> {
        let is_usable = !user.is_empty() && !password.is_empty() && !user.contains(&b':');
        is_usable.then(|| Credentials { user: user.to_owned(), password: password.to_owned() })
    }

    /// The user's name.
    pub(crate) fn user(&self) -> &[u8] {
        &self.user
    }

    /// Whether a request has this user and password. The time that this takes does not depend on the length of a match.
    pub(crate) fn admit(&self, headers: Headers<'_>) -> bool {
        let text = headers.single("authorization").and_then(|value| Scheme::Basic.text(value));
        let Some(given) = text.and_then(base64::decode) else { return false };
        let colon = given.iter().position(|byte| *byte == b':').unwrap_or(given.len());
        let (user, password) = (&given[..colon], given.get(colon + 1..).unwrap_or_default());
        // Not `&&`: the password is compared even if the user is wrong.
        same(user, &self.user) & same(password, &self.password)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http1::RequestHead;

    #[test]
    fn only_the_right_user_with_the_right_password_is_admitted() {
        let credentials = Credentials::new(b"admin", b"pa:ss").unwrap();
        let admits = |fields: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
            credentials.admit(RequestHead::parse(head.into_bytes(), 16).unwrap().headers())
        };
        // admin:pa:ss
        for fields in [
            "Authorization: Basic YWRtaW46cGE6c3M=\r\n",
            "authorization: bAsIc  YWRtaW46cGE6c3M= \r\n",
            "Authorization: Basic YWRtaW46cGE6c3M\r\n",
        ] {
            assert!(admits(fields), "{fields}");
        }
        for (fields, what) in [
            ("", "nothing"),
            ("Authorization: \r\n", "empty"),
            ("Authorization: Basic\r\n", "no value"),
            ("Authorization: Basic \r\n", "empty value"),
            ("Authorization: YWRtaW46cGE6c3M=\r\n", "no scheme"),
            ("Authorization: Bearer YWRtaW46cGE6c3M=\r\n", "another scheme"),
            ("Authorization: Basic YWRtaW46cGE6c3M=\r\nAuthorization: x\r\n", "two"),
            ("Authorization: Basic YWRtaW4=\r\n", "admin"),
            ("Authorization: Basic YWRtaW46\r\n", "admin:"),
            ("Authorization: Basic YWRtaW46cGE6cw==\r\n", "admin:pa:s"),
            ("Authorization: Basic YWRtaW46cGE6c3NwYTpzcw==\r\n", "admin:pa:sspa:ss"),
            ("Authorization: Basic YWRtaW46cGE6c3MA\r\n", "admin:pa:ss and NUL"),
            ("Authorization: Basic OnBhOnNz\r\n", ":pa:ss"),
            ("Authorization: Basic QWRtaW46cGE6c3M=\r\n", "Admin:pa:ss"),
            ("Authorization: Basic Og==\r\n", ":"),
            ("Authorization: Basic ###\r\n", "no base64"),
            ("Proxy-Authorization: Basic YWRtaW46cGE6c3M=\r\n", "for another"),
        ] {
            assert!(!admits(fields), "{what}");
        }
    }

    #[test]
    fn what_nobody_could_send_is_not_taken() {
        for (user, password) in [("", "x"), ("x", ""), ("a:b", "x")] {
            assert!(Credentials::new(user.as_bytes(), password.as_bytes()).is_none(), "{user} {password}");
        }
    }
}
