//! The few fields of Alexa's JSON that a skill of one sentence needs.

use serde_json::{Value, json};

/// How much of an unknown request type a message repeats.
const MAX_SHOWN_CHARS: usize = 40;

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// An intent; the gateway has checked its name.
    Intent,
    /// The user opened the skill without an intent.
    Launch,
    /// The session is over; Alexa allows no speech in the response.
    SessionEnded,
}

/// Reads a request.
///
/// # Errors
/// What was expected and what was found.
pub(crate) fn parse(text: &[u8]) -> Result<Request, String> {
    let document: Value = serde_json::from_slice(text)
        .map_err(|error| format!("expected the JSON of an Alexa request: {error}"))?;
    match document["request"]["type"].as_str() {
        Some("IntentRequest") => Ok(Request::Intent),
        Some("LaunchRequest") => Ok(Request::Launch),
        Some("SessionEndedRequest") => Ok(Request::SessionEnded),
        Some(other) => {
            let shown: String = other.chars().take(MAX_SHOWN_CHARS).collect();
            Err(format!("expected an IntentRequest in `request.type`, got `{}`", shown.escape_debug()))
        }
        // Requests by hand may lack the type; the gateway does not need it either.
        None if document["request"]["intent"]["name"].is_string() => Ok(Request::Intent),
        None => Err("expected a string in `request.type`, got none".to_owned()),
    }
}

/// Says a sentence and ends the session.
pub(crate) fn says(text: &str) -> Value {
    spoken(text, true)
}

/// Says a sentence and waits for the next request.
pub(crate) fn asks(text: &str) -> Value {
    spoken(text, false)
}

/// The empty response.
pub(crate) fn silence() -> Value {
    json!({ "version": "1.0", "response": {} })
}

fn spoken(text: &str, is_end: bool) -> Value {
    json!({
        "version": "1.0",
        "response": {
            "outputSpeech": { "type": "PlainText", "text": text },
            "shouldEndSession": is_end,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_request_is_recognised() {
        let cases: [(&str, Result<Request, &str>); 10] = [
            (r#"{"request": {"type": "IntentRequest", "intent": {"name": "x"}}}"#, Ok(Request::Intent)),
            (r#"{"request": {"intent": {"name": "x"}}}"#, Ok(Request::Intent)),
            (r#"{"request": {"type": "LaunchRequest"}}"#, Ok(Request::Launch)),
            (r#"{"request": {"type": "SessionEndedRequest"}}"#, Ok(Request::SessionEnded)),
            (
                r#"{"request": {"type": "AudioPlayer\n"}}"#,
                Err(r"expected an IntentRequest in `request.type`, got `AudioPlayer\n`"),
            ),
            (r#"{"request": {"type": 1}}"#, Err("expected a string in `request.type`, got none")),
            (r#"{"request": {"intent": {"name": 1}}}"#, Err("expected a string in `request.type`, got none")),
            ("[]", Err("expected a string in `request.type`, got none")),
            ("", Err("expected the JSON of an Alexa request: EOF while parsing a value at line 1 column 0")),
            ("hi", Err("expected the JSON of an Alexa request: expected value at line 1 column 1")),
        ];
        for (text, want) in cases {
            assert_eq!(parse(text.as_bytes()), want.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_message_repeats_a_bounded_part_of_an_unknown_type() {
        let shown = |count: usize| format!(r#"{{"request": {{"type": "{}"}}}}"#, "x".repeat(count));
        for (count, want) in [(MAX_SHOWN_CHARS, MAX_SHOWN_CHARS), (MAX_SHOWN_CHARS + 1, MAX_SHOWN_CHARS)] {
            let error = parse(shown(count).as_bytes()).expect_err("the type is unknown");
            assert!(error.ends_with(&format!("`{}`", "x".repeat(want))), "{error}");
        }
    }

    #[test]
    fn every_prefix_of_a_request_is_refused() {
        let text = br#"{"request": {"type": "IntentRequest"}}"#;
        for size in 0..text.len() {
            assert!(parse(&text[..size]).is_err(), "{size}");
        }
    }
}
