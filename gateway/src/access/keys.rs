//! Passwords and tokens: which values of `Authorization` are admitted (RFC 7617, RFC 6750).

use http1::Headers;

use super::lines::{MAX_LINE_BYTES, lines};
use crate::base64;
use crate::digest::{Digest, Sha256, same};

/// The most users of one function. Each call is compared with all users.
const MAX_USERS: usize = 256;

/// The longest line as base64.
const MAX_TEXT_BYTES: usize = MAX_LINE_BYTES.div_ceil(3) * 4;

/// The authentication scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// User and password.
    Basic,
    /// A token.
    Bearer,
}

impl Scheme {
    /// The scheme's name in `Authorization` and `WWW-Authenticate`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scheme::Basic => "Basic",
            Scheme::Bearer => "Bearer",
        }
    }

    /// The text behind the scheme's name in a value of `Authorization`; `None` for another scheme.
    pub(crate) fn text(self, value: &[u8]) -> Option<&[u8]> {
        let space = value.iter().position(|byte| *byte == b' ')?;
        let (scheme, text) = value.split_at(space);
        scheme.eq_ignore_ascii_case(self.name().as_bytes()).then(|| text.trim_ascii())
    }

    /// The caller's credentials: `user:password`, or the token.
    fn given(self, value: &[u8]) -> Option<Vec<u8>> {
        let text = self.text(value)?;
        match self {
            Scheme::Basic if text.len() <= MAX_TEXT_BYTES => base64::decode(text),
            Scheme::Bearer if text.len() <= MAX_LINE_BYTES => Some(text.to_owned()),
            _ => None,
        }
    }
}

/// The digests of a secret's lines; a caller must know one line. Digests have one length, so that the comparison does
/// not depend on the length of a line.
#[derive(Debug)]
pub(crate) struct Keys {
    scheme: Scheme,
    digests: Vec<Digest>,
}

impl Keys {
    /// Reads lines `user:password`, or one token.
    ///
    /// # Errors
    /// The mistake and its line number, never the content.
    pub(crate) fn parse(content: &[u8]) -> Result<Keys, String> {
        let mut found = Vec::new();
        for (number, line) in lines(content) {
            if line.len() > MAX_LINE_BYTES {
                return Err(format!("line {number}: expected at most {MAX_LINE_BYTES} bytes"));
            }
            let colon = line.iter().position(|byte| *byte == b':');
            let is_usable = match colon {
                Some(colon) => (1..line.len() - 1).contains(&colon) && !line.iter().any(u8::is_ascii_control),
                None => line.iter().all(u8::is_ascii_graphic),
            };
            if !is_usable {
                return Err(format!("line {number}: expected user:password, or a token without spaces"));
            }
            found.push((colon.is_some(), Sha256::of(line)));
        }
        let users = found.iter().filter(|(is_user, _)| *is_user).count();
        let scheme = match found.len() {
            0 => return Err("expected a file that is not empty".to_owned()),
            1 if users == 0 => Scheme::Bearer,
            all if users < all => return Err("expected lines user:password, or one token".to_owned()),
            all if all > MAX_USERS => return Err(format!("expected at most {MAX_USERS} lines")),
            _ => Scheme::Basic,
        };
        Ok(Keys { scheme, digests: found.into_iter().map(|(_, digest)| digest).collect() })
    }

    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether a call has the credentials of one line. The time that this takes depends neither on the line that
    /// matches nor on the length of the match.
    pub(super) fn admit(&self, headers: Headers<'_>) -> bool {
        let Some(given) = headers.single("authorization").and_then(|value| self.scheme.given(value)) else {
            return false;
        };
        let given = Sha256::of(&given);
        // Not `any`, which would stop at the first match: the time would tell.
        self.digests.iter().fold(false, |is_known, digest| is_known | same(&given, digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http1::RequestHead;

    fn admits(content: &str, fields: &str) -> bool {
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let head = RequestHead::parse(head.into_bytes(), 16).unwrap();
        Keys::parse(content.as_bytes()).unwrap().admit(head.headers())
    }

    #[test]
    fn each_user_is_admitted_with_the_right_password() {
        const USERS: &str = "\nada:pa:ss\r\n\nbob:w o r d\n";
        for (text, want) in [
            ("YWRhOnBhOnNz", true),                  // ada:pa:ss
            ("Ym9iOncgbyByIGQ=", true),              // bob:w o r d
            ("YWRhOncgbyByIGQ=", false),             // ada:w o r d
            ("YWRhOnBhOnNzCg==", false),             // ada:pa:ss and a line's end
            ("YWRhOg==", false),                     // ada:
            ("YWRh", false),                         // ada
            ("QWRhOnBhOnNz", false),                 // Ada:pa:ss
            ("YWRhOnBhOnNzCmJvYjp3IG8gciBk", false), // both lines
            ("", false),
            ("###", false),
        ] {
            assert_eq!(admits(USERS, &format!("Authorization: basic {text}\r\n")), want, "{text}");
        }
        let good = "Authorization: Basic YWRhOnBhOnNz\r\n";
        assert!(!admits(USERS, &format!("{good}{good}")), "twice");
        assert!(!admits(USERS, &format!("{good}Authorization: x\r\n")), "and another");
        assert!(!admits(USERS, ""), "nothing");
        assert!(!admits(USERS, "Authorization: Bearer ada:pa:ss\r\n"), "another scheme");
        assert!(!admits(USERS, "Proxy-Authorization: Basic YWRhOnBhOnNz\r\n"), "another field");
    }

    #[test]
    fn a_whole_token_is_admitted() {
        for (fields, want) in [
            ("Authorization: Bearer abc-1\r\n", true),
            ("Authorization: BEARER   abc-1\r\n", true),
            ("Authorization: Bearer abc-\r\n", false),
            ("Authorization: Bearer abc-12\r\n", false),
            ("Authorization: Bearer ABC-1\r\n", false),
            ("Authorization: Bearer abc-1 abc-1\r\n", false),
            ("Authorization: Bearer\r\n", false),
            ("Authorization: abc-1\r\n", false),
            ("Authorization: Basic YWJjLTE=\r\n", false),
        ] {
            assert_eq!(admits("abc-1\r\n", fields), want, "{fields}");
        }
    }

    #[test]
    fn credentials_up_to_the_longest_line_are_compared_and_longer_ones_are_denied() {
        let longest = "x".repeat(MAX_LINE_BYTES);
        assert!(admits(&longest, &format!("Authorization: Bearer {longest}\r\n")));
        assert!(!admits(&longest, &format!("Authorization: Bearer {longest}x\r\n")));
        // The base64 of `a:bb…` is `YTpi`, then `YmJi` repeated.
        let longest = format!("a:{}", "b".repeat(MAX_LINE_BYTES - 3));
        let text = format!("YTpi{}", "YmJi".repeat((MAX_LINE_BYTES - 4) / 3));
        assert!(admits(&longest, &format!("Authorization: Basic {text}\r\n")));
        assert!(!admits(&longest, &format!("Authorization: Basic {text}YmJi\r\n")));
    }

    #[test]
    fn refusals_of_a_secret_do_not_show_its_content() {
        const LINE: &str = "expected user:password, or a token without spaces";
        let many = |count: usize| "user:word\n".repeat(count);
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        for (content, want) in [
            ("", "expected a file that is not empty".to_owned()),
            ("\n\r\n\n", "expected a file that is not empty".to_owned()),
            ("a:b\n:b\n", format!("line 2: {LINE}")),
            ("a:\n", format!("line 1: {LINE}")),
            (":", format!("line 1: {LINE}")),
            ("a:\tb", format!("line 1: {LINE}")),
            ("two words", format!("line 1: {LINE}")),
            ("a\rb", format!("line 1: {LINE}")),
            ("one\ntwo\n", "expected lines user:password, or one token".to_owned()),
            ("a:b\ntoken\n", "expected lines user:password, or one token".to_owned()),
            (&many(MAX_USERS + 1), format!("expected at most {MAX_USERS} lines")),
            (&long, format!("line 1: expected at most {MAX_LINE_BYTES} bytes")),
        ] {
            assert_eq!(Keys::parse(content.as_bytes()).unwrap_err(), want, "{content:.20}");
        }
        assert!(Keys::parse(many(MAX_USERS).as_bytes()).is_ok());
        assert!(Keys::parse("ü:ß".as_bytes()).is_ok(), "clients send what is in the file");
        assert!(Keys::parse("ü".as_bytes()).is_err(), "no header carries it");
    }
}
