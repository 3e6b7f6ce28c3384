//! Recognises a request of Amazon's Alexa in a `POST /` and finds the function it asks for, its intent.

use serde_json::Value;

/// The largest body that is read to find out. Alexa's own limit on an exchange is 24 KiB; the rest is
/// room for session attributes and contexts of future versions.
pub const MAX_BODY_BYTES: usize = 256 * 1024;

/// The most values that a body may hold. Eight bytes of JSON (`{"a":0},`) can take more than 600 bytes
/// in memory; this bounds what one request costs to about 2 MiB. Real requests hold some hundred.
const MAX_VALUES: usize = 4096;

/// The intent's name when `body` is an Alexa request: `session.sessionId`,
/// `session.application.applicationId` and `request.intent.name` are non-empty strings.
/// Nothing says that a function of that name exists, or that it is a valid name at all.
pub fn intent(body: &[u8]) -> Option<String> {
    if body.len() > MAX_BODY_BYTES || values_at_most(body) > MAX_VALUES {
        return None;
    }
    let document: Value = serde_json::from_slice(body).ok()?; // refuses nesting beyond 128 levels
    filled(&document, "/session/sessionId")?;
    filled(&document, "/session/application/applicationId")?;
    filled(&document, "/request/intent/name").map(str::to_owned)
}

/// An upper bound for the number of values in a JSON text: each but the first follows one of these.
fn values_at_most(body: &[u8]) -> usize {
    1 + body.iter().filter(|byte| matches!(byte, b',' | b':' | b'[' | b'{')).count()
}

/// The text at the pointer (RFC 6901) if it is a non-empty string.
fn filled<'a>(document: &'a Value, pointer: &str) -> Option<&'a str> {
    document.pointer(pointer)?.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shaped like the request in Amazon's reference for custom skills.
    const REAL: &str = r#"{
        "session": {"new": true, "sessionId": "SessionId.1", "application": {"applicationId": "amzn1.1"},
            "attributes": {}, "user": {"userId": "amzn1.account.1"}},
        "request": {"type": "IntentRequest", "requestId": "EdwRequestId.1", "locale": "en-GB",
            "timestamp": "2017-01-22T10:31:14Z",
            "intent": {"name": "HostnameIntent", "slots": {"a": {"name": "a", "value": "é\u00e9"}}}},
        "version": "1.0"}"#;

    #[test]
    fn the_real_thing() {
        assert_eq!(intent(REAL.as_bytes()).as_deref(), Some("HostnameIntent"));
    }

    #[test]
    fn a_cut_request_is_none() {
        for end in 0..REAL.len() {
            assert_eq!(intent(&REAL.as_bytes()[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn all_three_strings_are_needed_and_filled() {
        let cases = [
            (
                r#"{"session":{"sessionId":"s","application":{"applicationId":"a"}},"request":{"intent":{"name":"n"}}}"#,
                Some("n"),
            ),
            (
                r#"{"session":{"sessionId":"","application":{"applicationId":"a"}},"request":{"intent":{"name":"n"}}}"#,
                None,
            ),
            (
                r#"{"session":{"sessionId":"s","application":{"applicationId":""}},"request":{"intent":{"name":"n"}}}"#,
                None,
            ),
            (
                r#"{"session":{"sessionId":"s","application":{"applicationId":"a"}},"request":{"intent":{"name":""}}}"#,
                None,
            ),
            (
                r#"{"session":{"sessionId":1,"application":{"applicationId":"a"}},"request":{"intent":{"name":"n"}}}"#,
                None,
            ),
            (
                r#"{"session":{"sessionId":"s","application":{"applicationId":"a"}},"request":{"intent":{"name":["n"]}}}"#,
                None,
            ),
            (r#"{"session":{"sessionId":"s","application":"a"},"request":{"intent":{"name":"n"}}}"#, None),
            (r#"{"session":{"sessionId":"s"},"request":{"intent":{"name":"n"}}}"#, None),
            (r#"{"session":{"sessionId":"s","application":{"applicationId":"a"}}}"#, None),
            (
                r#"{"Session":{"sessionId":"s","application":{"applicationId":"a"}},"request":{"intent":{"name":"n"}}}"#,
                None,
            ),
            (r#"[{"session":{"sessionId":"s"}}]"#, None),
            ("", None),
            ("hello", None),
            ("\"session\"", None),
            ("null", None),
        ];
        for (body, want) in cases {
            assert_eq!(intent(body.as_bytes()).as_deref(), want, "{body}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_or_follow_the_document_are_refused() {
        assert_eq!(intent(&[REAL.as_bytes(), b"x"].concat()), None);
        assert_eq!(intent(&[b"\xff".as_slice(), REAL.as_bytes()].concat()), None);
        assert_eq!(intent(&[REAL.as_bytes(), b"\n \t"].concat()).as_deref(), Some("HostnameIntent"));
    }

    #[test]
    fn size_has_a_limit() {
        let padded = |size: usize| [REAL.as_bytes(), &vec![b' '; size - REAL.len()]].concat();
        assert!(intent(&padded(MAX_BODY_BYTES)).is_some());
        assert_eq!(intent(&padded(MAX_BODY_BYTES + 1)), None);
    }

    #[test]
    fn the_number_of_values_has_a_limit() {
        let stuffed = |count: usize| {
            let extra = format!("\"x\":[{}0]}}", "0,".repeat(count));
            format!("{},{extra}", REAL.strip_suffix('}').unwrap())
        };
        let most = MAX_VALUES - values_at_most(stuffed(0).as_bytes());
        assert!(intent(stuffed(most).as_bytes()).is_some());
        assert_eq!(intent(stuffed(most + 1).as_bytes()), None);
    }

    #[test]
    fn deep_nesting_is_refused_and_survived() {
        let nested = |depth: usize| {
            let extra = format!("\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
            format!("{},{extra}", REAL.strip_suffix('}').unwrap())
        };
        assert!(intent(nested(100).as_bytes()).is_some());
        assert_eq!(intent(nested(200).as_bytes()), None);
        assert_eq!(intent("[".repeat(MAX_BODY_BYTES).as_bytes()), None);
    }
}
