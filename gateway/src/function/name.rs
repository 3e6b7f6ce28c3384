//! The name of a function. Names from paths, headers, files and the engine are parsed here once.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest name. The pattern is the contract's: `[A-Za-z0-9][A-Za-z0-9_.-]{0,127}`.
pub(crate) const MAX_NAME_BYTES: usize = 128;

/// The form of a name, for messages.
pub(crate) const EXPECTED_NAME: &str =
    "a name of 1 to 128 letters, digits, `_`, `.` and `-` that begins with a letter or digit";

/// The message of the edge and the control plane for an unknown name.
pub(crate) fn no_function(name: &str) -> String {
    format!(
        "no function `{name}`: neither a service on the gateway's networks nor an entry in functions_file, \
         or label function or require_label leaves it out"
    )
}

/// The message for an unknown name while the provider cannot be asked: the function may exist.
pub(crate) fn maybe_unknown(name: &str, problem: &str) -> String {
    format!(
        "function `{name}` is unknown, but may be new: the engine cannot be asked, see DOCKER_HOST: {problem}"
    )
}

/// A valid function name. Cloning shares the text; a map keyed by it is searched with a `&str`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionName(Arc<str>);

impl FunctionName {
    /// Parses a name; `None` if `bytes` are no valid name.
    pub(crate) fn parse(bytes: &[u8]) -> Option<FunctionName> {
        valid(bytes).map(|name| FunctionName(Arc::from(name)))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text of `bytes` if they are a valid name. For look-ups: nothing is copied.
pub(crate) fn valid(bytes: &[u8]) -> Option<&str> {
    let (first, rest) = bytes.split_first()?;
    let fits = bytes.len() <= MAX_NAME_BYTES
        && first.is_ascii_alphanumeric()
        && rest.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if fits { std::str::from_utf8(bytes).ok() } else { None }
}

impl Borrow<str> for FunctionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn names_must_match_the_pattern() {
        let longest = "a".repeat(MAX_NAME_BYTES);
        let too_long = "a".repeat(MAX_NAME_BYTES + 1);
        let cases: [(&[u8], bool); 19] = [
            (b"catservice", true),
            (b"a", true),
            (b"9", true),
            (b"A.b-c_D9", true),
            (b"a..", true),
            (longest.as_bytes(), true),
            (too_long.as_bytes(), false),
            (b"", false),
            (b".", false),
            (b"..", false),
            (b"-a", false),
            (b"_a", false),
            (b"a b", false),
            (b"a/b", false),
            (b"a%41", false),
            (b"a:80", false),
            (b"a\0", false),
            ("é".as_bytes(), false),
            (b"a\xff", false),
        ];
        for (bytes, want) in cases {
            let got = FunctionName::parse(bytes);
            assert_eq!(got.is_some(), want, "{bytes:?}");
            assert_eq!(got.as_ref().map(|name| name.as_str().as_bytes()), want.then_some(bytes));
        }
    }

    #[test]
    fn a_map_of_names_is_searched_by_text() {
        let map = HashMap::from([(FunctionName::parse(b"echo").unwrap(), 1)]);
        assert_eq!(map.get("echo"), Some(&1));
        assert_eq!(map.get("Echo"), None);
    }
}
