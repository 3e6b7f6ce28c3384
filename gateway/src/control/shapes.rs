//! The documents of the control plane: functions as JSON, and what a request for replicas says.

use serde_json::{Map, Value, json};

use super::answer::Problem;
use crate::function::Known;
use crate::function::labels::ANNOTATION;

/// A function with its figures.
pub(super) struct Shown<'a> {
    pub(super) known: &'a Known,
    /// Replicas that can be called.
    pub(super) available: usize,
    pub(super) invocations: u64,
}

impl Shown<'_> {
    pub(super) fn to_json(&self) -> Value {
        let Known { name, about, wanted, .. } = self.known;
        let mut labels = Map::new();
        let mut annotations = Map::new();
        for (key, value) in &about.labels {
            match key.strip_prefix(ANNOTATION) {
                Some(key) => annotations.insert(key.to_owned(), value.as_str().into()),
                None => labels.insert(key.clone(), value.as_str().into()),
            };
        }
        json!({
            "name": name.as_str(),
            "image": about.image,
            "replicas": wanted,
            "availableReplicas": self.available,
            "invocationCount": self.invocations,
            "envProcess": about.process,
            "labels": labels,
            "annotations": annotations,
        })
    }
}

/// What serves the functions, and what this is.
pub(super) fn info(provider: &str) -> Value {
    json!({
        "provider": { "name": provider, "orchestration": provider },
        "version": { "release": env!("CARGO_PKG_VERSION") },
        "arch": std::env::consts::ARCH,
    })
}

/// The replicas that a request to scale `name` asks for, at most `max`.
///
/// # Errors
/// What the answer says.
pub(super) fn replicas(body: &[u8], name: &str, max: u32) -> Result<u32, Problem> {
    let document: Value = serde_json::from_slice(body).map_err(|error| {
        Problem::BadRequest(format!("expected JSON such as {{\"replicas\": 2}}: {error}"))
    })?;
    let Some(object) = document.as_object() else {
        return Err(Problem::BadRequest("expected an object such as {\"replicas\": 2}".to_owned()));
    };
    match object.get("serviceName") {
        None => {}
        Some(Value::String(text)) if text == name => {}
        Some(_) => {
            return Err(Problem::BadRequest(format!("serviceName: expected `{name}`, as in the path")));
        }
    }
    let number = match object.get("replicas") {
        None => {
            return Err(Problem::BadRequest(
                "replicas: is missing, expected such as {\"replicas\": 2}".to_owned(),
            ));
        }
        Some(value) => value.as_u64().ok_or_else(|| {
            Problem::BadRequest(format!("replicas: expected an integer from 0 to {max}, got `{value}`"))
        })?,
    };
    let number = u32::try_from(number).ok().filter(|number| *number <= max);
    number.ok_or_else(|| Problem::TooMany(name.to_owned(), max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::About;
    use std::sync::Arc;

    #[test]
    fn a_function_is_shown_with_maps_rather_than_null() {
        let mut known = Known { wanted: 3, ..Known::named("echo") };
        let shown = |known: &Known| Shown { known, available: 2, invocations: 7 }.to_json();
        let mut want = json!({
            "name": "echo", "image": "", "replicas": 3, "availableReplicas": 2, "invocationCount": 7,
            "envProcess": "", "labels": {}, "annotations": {},
        });
        assert_eq!(shown(&known), want);
        let labels = [("com.openfaas.scale.max", "4"), ("com.openfaas.annotations.topic", "a"), ("x", "")];
        known.about = Arc::new(About {
            image: "img:1".to_owned(),
            process: "cat".to_owned(),
            labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        });
        want["image"] = "img:1".into();
        want["envProcess"] = "cat".into();
        want["labels"] = json!({ "com.openfaas.scale.max": "4", "x": "" });
        want["annotations"] = json!({ "topic": "a" });
        assert_eq!(shown(&known), want);
    }

    #[test]
    fn replicas_are_read_strictly() {
        let read = |body: &str| replicas(body.as_bytes(), "echo", 4);
        for (body, want) in [
            (r#"{"serviceName": "echo", "replicas": 2}"#, 2),
            (r#"{"replicas": 0}"#, 0),
            (r#"{"replicas": 4, "more": null}"#, 4),
        ] {
            assert_eq!(read(body), Ok(want), "{body}");
        }
        for body in [r#"{"replicas": 5}"#, r#"{"replicas": 4294967296}"#] {
            assert_eq!(read(body), Err(Problem::TooMany("echo".to_owned(), 4)), "{body}");
        }
        for body in [
            r#"{"replicas": 99999999999999999999}"#,
            r#"{"replicas": -1}"#,
            r#"{"replicas": 1.5}"#,
            r#"{"replicas": "2"}"#,
            r#"{"replicas": null}"#,
            "{}",
            "",
            "2",
            "null",
            "[]",
            "{\"replicas\": 2",
            "{\"replicas\": 2}x",
            r#"{"serviceName": "other", "replicas": 2}"#,
            r#"{"serviceName": null, "replicas": 2}"#,
            &"[".repeat(100_000),
        ] {
            assert!(matches!(read(body), Err(Problem::BadRequest(_))), "{}", &body[..body.len().min(40)]);
        }
        assert!(matches!(replicas(b"\xff", "echo", 4), Err(Problem::BadRequest(_))));
    }
}
