//! The id of a call: the caller's, or a new one.

use std::fmt;

use http1::Headers;
use kit::call::{ID, MAX_ID_BYTES, id};

use crate::process::mark::Mark;

/// The id, which takes no memory of its own.
#[derive(Clone, Copy)]
pub(crate) struct CallId {
    bytes: [u8; MAX_ID_BYTES],
    length: usize,
}

impl CallId {
    /// The id in `headers`, or a new one.
    pub(super) fn of(headers: Headers<'_>) -> CallId {
        match headers.get(ID).and_then(id) {
            Some(given) => CallId::from(given.as_bytes()),
            None => CallId::from(&Mark::new().digits()),
        }
    }

    fn from(id: &[u8]) -> CallId {
        let mut bytes = [0; MAX_ID_BYTES];
        let length = id.len().min(MAX_ID_BYTES);
        bytes[..length].copy_from_slice(&id[..length]);
        CallId { bytes, length }
    }

    pub(crate) fn as_str(&self) -> &str {
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default() // both kinds are ASCII
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http1::RequestHead;

    #[test]
    fn a_call_has_the_callers_id_or_a_new_one() {
        let id = |field: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n\r\n");
            let head = RequestHead::parse(head.into(), 9).unwrap();
            CallId::of(head.headers()).to_string()
        };
        let longest = "x".repeat(MAX_ID_BYTES);
        assert_eq!(id("X-Call-Id: abc-1"), "abc-1");
        assert_eq!(id(&format!("x-call-id: {longest}")), longest);
        for field in ["X-A: 1", "X-Call-Id: a b", &format!("X-Call-Id: {longest}x")] {
            let new = id(field);
            assert!(new.len() == 16 && new.bytes().all(|byte| byte.is_ascii_hexdigit()), "{field}: {new}");
        }
    }
}
