//! Access rules. A function may ask its callers for a password or a token (label `faas.auth`) and for a signature over
//! the body (label `faas.hmac`). The operator has a user and a password. Pure: [`crate::secrets`] reads the files.

mod credentials;
mod keys;
mod lines;
mod signature;

use std::time::SystemTime;

use http1::RequestHead;

pub(crate) use credentials::Credentials;
pub(crate) use keys::{Keys, Scheme};
pub(crate) use signature::{Signature, Signer};

use crate::function::labels::{LABEL_AUTH, LABEL_HMAC, Lock};

/// Windows programs put these bytes before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The access rules of a function. A function without rules has no `Access`.
pub(crate) enum Access {
    /// The secret of this label cannot be used: every call is denied.
    Closed(&'static str),
    Asks {
        keys: Option<Keys>,
        signer: Option<Box<Signer>>,
    },
}

/// Why a call is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The secret of this label cannot be used.
    Closed(&'static str),
    /// User and password, or the token, are missing or wrong.
    Credentials(Scheme),
    /// The signature is wrong, for this reason.
    Signature(&'static str),
}

impl Access {
    /// The rules of a function with these labels; `None` when both are open. `read` gives the content of a secret.
    ///
    /// # Errors
    /// The label whose secret cannot be used, and why: the function must be closed then.
    pub(crate) fn new(
        (auth, hmac): (&Lock, &Lock),
        read: impl Fn(&str) -> Result<Vec<u8>, String>,
    ) -> Result<Option<Access>, (&'static str, String)> {
        if (auth, hmac) == (&Lock::Open, &Lock::Open) {
            return Ok(None);
        }
        let keys = opened(auth, &read, Keys::parse).map_err(|why| (LABEL_AUTH, why))?;
        let signer = opened(hmac, &read, Signer::parse).map_err(|why| (LABEL_HMAC, why))?;
        Ok(Some(Access::Asks { keys, signer: signer.map(Box::new) }))
    }

    /// Checks the head of a call. The returned signature is then checked against the body.
    ///
    /// # Errors
    /// Why the call is denied.
    pub(crate) fn judge(&self, request: &RequestHead, now: SystemTime) -> Result<Option<Signature>, Denial> {
        let (keys, signer) = match self {
            Access::Closed(label) => return Err(Denial::Closed(label)),
            Access::Asks { keys, signer } => (keys, signer),
        };
        if let Some(keys) = keys.as_ref().filter(|keys| !keys.admit(request.headers())) {
            return Err(Denial::Credentials(keys.scheme()));
        }
        let Some(signer) = signer else { return Ok(None) };
        if request.upgrade().is_some() {
            return Err(Denial::Signature("a connection that changes its protocol cannot be signed"));
        }
        signer.begin(request.headers(), now).map(Some).map_err(Denial::Signature)
    }

    /// Whether the gateway consumes the field `Authorization`, so that the function does not get it.
    pub(crate) fn takes_authorization(&self) -> bool {
        !matches!(self, Access::Asks { keys: None, .. })
    }
}

/// Reads and parses the secret that a label names; `None` without the label.
fn opened<T>(
    lock: &Lock,
    read: impl Fn(&str) -> Result<Vec<u8>, String>,
    parse: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match lock {
        Lock::Open => Ok(None),
        Lock::Closed => Err("its value is not the name of a secret".to_owned()),
        Lock::Secret(name) => {
            let content = read(name)?;
            let content = content.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&content);
            parse(content).map(Some).map_err(|why| format!("secret `{name}`: {why}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTH: &str = "auth";
    const HMAC: &str = "hmac";

    fn access(auth: Option<&str>, hmac: Option<&str>) -> Result<Option<Access>, (&'static str, String)> {
        let lock = |content: Option<&str>, name: &str| match content {
            None => Lock::Open,
            Some("") => Lock::Closed,
            Some(_) => Lock::Secret(name.into()),
        };
        let read = |name: &str| {
            let content = if name == AUTH { auth } else { hmac };
            content
                .filter(|content| *content != "missing")
                .map(Vec::from)
                .ok_or_else(|| "is missing".to_owned())
        };
        Access::new((&lock(auth, AUTH), &lock(hmac, HMAC)), read)
    }

    fn request(fields: &str) -> RequestHead {
        RequestHead::parse(format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n").into_bytes(), 16).unwrap()
    }

    fn denial(access: &Access, fields: &str) -> Option<Denial> {
        access.judge(&request(fields), SystemTime::now()).err()
    }

    #[test]
    fn a_function_without_labels_asks_for_nothing() {
        assert!(matches!(access(None, None), Ok(None)));
    }

    #[test]
    fn a_secret_that_cannot_be_used_is_told_with_its_label() {
        for (auth, hmac, label, why) in [
            (Some("missing"), None, LABEL_AUTH, "is missing"),
            (Some(""), None, LABEL_AUTH, "its value is not the name of a secret"),
            (Some("\n"), None, LABEL_AUTH, "secret `auth`: expected a file that is not empty"),
            (None, Some("missing"), LABEL_HMAC, "is missing"),
            (None, Some(""), LABEL_HMAC, "its value is not the name of a secret"),
            (Some("token"), Some("\n"), LABEL_HMAC, "secret `hmac`: expected a file that is not empty"),
            (Some("missing"), Some("key"), LABEL_AUTH, "is missing"),
        ] {
            assert_eq!(access(auth, hmac).err(), Some((label, why.to_owned())));
        }
        let closed = Access::Closed(LABEL_AUTH);
        assert_eq!(denial(&closed, "Authorization: Bearer token\r\n"), Some(Denial::Closed(LABEL_AUTH)));
        assert!(closed.takes_authorization());
    }

    #[test]
    fn both_must_agree() {
        let both = access(Some("token"), Some("key")).unwrap().unwrap();
        let (key, signature) =
            ("Authorization: Bearer token\r\n", format!("X-Hub-Signature-256: sha256={:064}\r\n", 0));
        assert_eq!(denial(&both, &signature), Some(Denial::Credentials(Scheme::Bearer)));
        assert!(matches!(denial(&both, key), Some(Denial::Signature(_))));
        assert_eq!(denial(&both, &format!("{key}{signature}")), None);
        let signed = access(None, Some("key")).unwrap().unwrap();
        assert_eq!((both.takes_authorization(), signed.takes_authorization()), (true, false));
        assert_eq!(denial(&signed, &signature), None);
        let upgrade = format!("{signature}Connection: upgrade\r\nUpgrade: websocket\r\n");
        assert!(matches!(denial(&signed, &upgrade), Some(Denial::Signature(_))));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_secret() {
        let keys = access(Some("\u{feff}token\r\n"), None).unwrap().unwrap();
        assert_eq!(denial(&keys, "Authorization: Bearer token\r\n"), None);
    }
}
