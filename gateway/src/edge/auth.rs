//! Who may use the control plane: one user with one password (RFC 7617).

use std::hint::black_box;

use http1::Headers;

/// What is asked for, as `WWW-Authenticate` tells it.
pub(super) const CHALLENGE: &str = "Basic realm=\"faas\"";

/// The user and the password that are let in.
pub(crate) struct Credentials {
    user: Vec<u8>,
    password: Vec<u8>,
}

impl Credentials {
    /// `None` where one is empty, or the user has a colon, which nobody could send.
    pub(crate) fn new(user: &[u8], password: &[u8]) -> Option<Credentials> {
        let is_usable = !user.is_empty() && !password.is_empty() && !user.contains(&b':');
        is_usable.then(|| Credentials { user: user.to_owned(), password: password.to_owned() })
    }

    /// Whose requests are let in.
    pub(super) fn user(&self) -> &[u8] {
        &self.user
    }

    /// Whether a request's headers have both. How long it takes tells nothing of how much of them was right.
    pub(crate) fn admit(&self, headers: Headers<'_>) -> bool {
        let mut given = headers.get_all("authorization");
        let (Some(value), None) = (given.next(), given.next()) else { return false };
        let Some(given) = decoded(value) else { return false };
        let colon = given.iter().position(|byte| *byte == b':').unwrap_or(given.len());
        let (user, password) = (&given[..colon], given.get(colon + 1..).unwrap_or_default());
        // Not `&&`: the second is compared whatever the first is.
        same(user, &self.user) & same(password, &self.password)
    }
}

/// Compares in a time that depends on the length of `given` alone. `secret` is not empty.
fn same(given: &[u8], secret: &[u8]) -> bool {
    let mut difference = u8::from(given.len() != secret.len());
    for (byte, other) in given.iter().zip(secret.iter().cycle()) {
        difference = black_box(difference | (byte ^ other));
    }
    difference == 0
}

/// What `Basic BASE64` says.
fn decoded(value: &[u8]) -> Option<Vec<u8>> {
    let space = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, text) = value.split_at(space);
    scheme.eq_ignore_ascii_case(b"basic").then(|| base64(text.trim_ascii()))?
}

/// Base64 with its padding, or without (RFC 4648 section 4).
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    if padding > 0 && (padding > 2 || !text.len().is_multiple_of(4)) {
        return None;
    }
    let digits = &text[..text.len() - padding];
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for byte in group {
            bits = bits << 6 | u32::from(digit(*byte)?);
        }
        bits <<= 6 * (4 - group.len());
        let whole = match group.len() {
            1 => return None,
            length => length - 1,
        };
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=whole]);
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    Some(match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http1::RequestHead;

    #[test]
    fn base64_is_read_as_the_standard_has_it() {
        let cases: [(&str, Option<&[u8]>); 16] = [
            ("", Some(b"")),
            ("Zg==", Some(b"f")),
            ("Zg", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("Zm9vYg==", Some(b"foob")),
            ("Zm9vYmE=", Some(b"fooba")),
            ("Zm9vYmFy", Some(b"foobar")),
            ("+/+/", Some(b"\xfb\xff\xbf")),
            ("Z", None),
            ("Zg=", None),
            ("Zg===", None),
            ("====", None),
            ("Zm9v=", None),
            ("Zm 9v", None),
            ("Zm-_", None),
        ];
        for (text, want) in cases {
            assert_eq!(base64(text.as_bytes()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn only_the_whole_of_both_is_admitted() {
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
