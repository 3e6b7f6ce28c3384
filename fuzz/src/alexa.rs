//! The recognition of Alexa's requests.

use gateway::alexa;
use serde_json::Value;

/// The most characters that can begin or part a value, in all of the text.
const MAX_MARKS: usize = 4095;

/// * What is found is what a reader of JSON finds there, and nothing is found where that finds nothing.
/// * A text over its limits is not read.
/// * Neither white space around it nor another spelling of the same document changes what is found.
/// * Half a document is refused, and so is a document with bytes behind it.
pub fn check(data: &[u8]) {
    let found = alexa::intent(data);
    let marks = data.iter().filter(|byte| b",:[{".contains(byte)).count();
    let is_within = data.len() <= alexa::MAX_BODY_BYTES && marks <= MAX_MARKS;
    let document = serde_json::from_slice::<Value>(data).ok().filter(|_| is_within);
    assert_eq!(found, document.as_ref().and_then(wanted));
    let (Some(name), Some(document)) = (found, document) else { return };
    assert!(!name.is_empty() && values(&document) <= 1 + MAX_MARKS);
    let again = document.to_string();
    // Numbers may become longer.
    if again.len() <= alexa::MAX_BODY_BYTES && again.matches([',', ':', '[', '{']).count() <= MAX_MARKS {
        assert_eq!(alexa::intent(again.as_bytes()).as_deref(), Some(&*name), "spelled `{again}`");
    }
    if data.len() + 2 <= alexa::MAX_BODY_BYTES {
        let padded = [b"\n", data, b"\t"].concat();
        assert_eq!(alexa::intent(&padded).as_deref(), Some(&*name), "with white space around it");
        assert_eq!(alexa::intent(&[data, b"}"].concat()), None, "with something behind it");
    }
    let text = data.trim_ascii();
    assert_eq!(alexa::intent(&text[..text.len() - 1]), None, "without its last byte");
}

/// The intent's name, key by key.
fn wanted(document: &Value) -> Option<String> {
    let filled = |value: &Value| value.as_str().map(str::to_owned).filter(|text| !text.is_empty());
    let session = document.as_object()?.get("session")?.as_object()?;
    filled(session.get("sessionId")?)?;
    filled(session.get("application")?.as_object()?.get("applicationId")?)?;
    let request = document.as_object()?.get("request")?.as_object()?;
    filled(request.get("intent")?.as_object()?.get("name")?)
}

/// How many values there are in a document.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(entries) => entries.values().map(values).sum(),
        _ => 0,
    }
}
