//! Alertmanager's webhook: which functions its alerts are about, and what each is to have. Text in, steps out.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

use super::answer::{self, Problem};
use crate::function::labels::Labels;

/// The most alerts of one request. Alertmanager groups them; thousands in one group are a mistake.
pub(super) const MAX_ALERTS: usize = 1000;

/// The label that names the function; it is the one of the gateway's own series.
const LABEL_FUNCTION_NAME: &str = "function_name";

/// The alerts of a request, by function.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Alerts {
    /// Functions that alerts fire for, each once, in their order.
    pub(super) firing: Vec<Firing>,
    /// Alerts that are resolved: their functions and identities.
    pub(super) resolved: Vec<(String, u64)>,
    /// Alerts that say nothing to do, and why.
    pub(super) ignored: Vec<(String, String)>,
}

/// The alerts that fire for one function.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Firing {
    pub(super) name: String,
    pub(super) alerts: Vec<Alert>,
}

/// One alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alert {
    /// The same for each repeat of it, and when it is resolved.
    pub(super) id: u64,
    /// Whether it says since when it fires. One that does not, as by hand, is another one each time.
    pub(super) is_dated: bool,
}

impl Alert {
    fn new(alert: &Value) -> Alert {
        let since = alert.get("startsAt").and_then(Value::as_str).unwrap_or_default();
        let mut hasher = DefaultHasher::new();
        since.hash(&mut hasher);
        alert.get("labels").map(Value::to_string).hash(&mut hasher); // its keys are sorted
        Alert { id: hasher.finish(), is_dated: !since.is_empty() }
    }
}

impl Alerts {
    /// Reads a request's body.
    ///
    /// # Errors
    /// What the answer says.
    pub(super) fn from_json(body: &[u8]) -> Result<Alerts, Problem> {
        let wrong = |text: String| Problem::BadRequest(text);
        let document: Value = serde_json::from_slice(body)
            .map_err(|error| wrong(format!("expected the JSON of Alertmanager's webhook: {error}")))?;
        let Some(list) = document.get("alerts").and_then(Value::as_array) else {
            return Err(wrong("alerts: expected the list of Alertmanager's webhook".to_owned()));
        };
        if list.len() > MAX_ALERTS {
            return Err(wrong(format!("alerts: expected at most {MAX_ALERTS}, got {}", list.len())));
        }
        let mut alerts = Alerts::default();
        for (place, alert) in list.iter().enumerate() {
            if !alert.is_object() {
                return Err(wrong(format!("alerts[{place}]: expected an object")));
            }
            alerts.add(alert, status(&document));
        }
        Ok(alerts)
    }

    fn add(&mut self, alert: &Value, status_of_all: &str) {
        let label = |name: &str| alert.get("labels")?.get(name)?.as_str();
        let status = match status(alert) {
            "" => status_of_all,
            own => own,
        };
        let Some(name) = label(LABEL_FUNCTION_NAME).filter(|name| !name.is_empty()) else {
            let alert = label("alertname").unwrap_or_default().to_owned();
            return self.ignored.push((alert, format!("no label {LABEL_FUNCTION_NAME}")));
        };
        let alert = Alert::new(alert);
        if status != "firing" {
            // Scaling down is not an alert's matter: it does not say how far.
            self.ignored.push((name.to_owned(), "not firing".to_owned()));
            return self.resolved.push((name.to_owned(), alert.id));
        }
        match self.firing.iter_mut().find(|other| other.name == name) {
            Some(known) => known.alerts.push(alert),
            None => self.firing.push(Firing { name: name.to_owned(), alerts: vec![alert] }),
        }
    }
}

fn status(value: &Value) -> &str {
    value.get("status").and_then(Value::as_str).unwrap_or_default()
}

/// The replicas that an alert gives a function that has `wanted`: more by `scale.factor` percent of `scale.max`.
///
/// # Errors
/// Why it stays as it is.
pub(super) fn step(labels: &Labels, wanted: u32) -> Result<u32, String> {
    let max = labels.max();
    if labels.scale_factor == 0 {
        return Err(answer::factor_is_zero());
    }
    if wanted >= max {
        return Err(answer::is_at_most(wanted));
    }
    let more = u64::from(max) * u64::from(labels.scale_factor);
    Ok((u64::from(wanted) + more.div_ceil(100)).min(u64::from(max)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Alerts, Problem> {
        Alerts::from_json(text.as_bytes())
    }

    /// An alert for the function `name`.
    fn alert(status: &str, name: &str) -> String {
        format!(r#"{{"status": "{status}", "labels": {{"alertname": "A", "function_name": "{name}"}}}}"#)
    }

    fn request(alerts: &[String]) -> String {
        format!(r#"{{"receiver": "scale-up", "status": "firing", "alerts": [{}]}}"#, alerts.join(","))
    }

    #[test]
    fn what_fires_is_taken_once_and_the_rest_is_told() {
        let one = r#"{"labels": {"function_name": "c"}}"#.to_owned();
        let alerts = [
            alert("firing", "b"),
            alert("resolved", "a"),
            alert("firing", "b"),
            one,
            r#"{"status": "firing", "labels": {"alertname": "down"}}"#.to_owned(),
            r#"{"status": "firing"}"#.to_owned(),
            r#"{"status": "firing", "labels": {"function_name": 5}}"#.to_owned(),
            alert("firing", ""),
        ];
        let alerts = read(&request(&alerts)).unwrap();
        let names: Vec<_> = alerts.firing.iter().map(|firing| &*firing.name).collect();
        assert_eq!(names, ["b", "c"], "the status of all is that of those without");
        let reasons: Vec<_> = alerts.ignored.iter().map(|(name, why)| format!("{name}: {why}")).collect();
        let no_label = "no label function_name";
        let want = ["a: not firing", "down: no label function_name"].map(str::to_owned);
        assert_eq!(reasons[..2], want);
        assert_eq!(
            reasons[2..],
            [format!(": {no_label}"), format!(": {no_label}"), format!("A: {no_label}")]
        );
        assert_eq!(read(r#"{"alerts": []}"#), Ok(Alerts::default()));
    }

    #[test]
    fn a_repeated_alert_is_known_by_its_labels_and_its_beginning() {
        let id = |labels: &str, since: &str| {
            let body =
                format!(r#"{{"status": "firing", "labels": {labels}, "startsAt": "{since}", "endsAt": ""}}"#);
            let mut alerts = read(&request(&[body])).unwrap();
            alerts.firing.remove(0).alerts.remove(0)
        };
        let since = "2026-11-30T10:00:00.5Z";
        let one = id(r#"{"alertname": "A", "function_name": "f"}"#, since);
        assert_eq!(id(r#"{"function_name": "f", "alertname": "A"}"#, since), one);
        assert_ne!(id(r#"{"function_name": "f", "alertname": "B"}"#, since), one);
        assert_ne!(id(r#"{"function_name": "f", "alertname": "A"}"#, "2026-11-30T10:00:01Z"), one);
        assert!(one.is_dated && !id(r#"{"function_name": "f"}"#, "").is_dated);
        let resolved =
            alert("resolved", "f").replace("{\"status", &format!("{{\"startsAt\": \"{since}\", \"status"));
        assert_eq!(read(&request(&[resolved])).unwrap().resolved, [("f".to_owned(), one.id)]);
    }

    #[test]
    fn what_is_not_alertmanagers_is_refused() {
        let deep = "[".repeat(100_000);
        for text in ["", "x", "null", "[]", "{}", r#"{"alerts": {}}"#, r#"{"alerts": [5]}"#, &deep] {
            assert!(matches!(read(text), Err(Problem::BadRequest(_))), "{}", &text[..text.len().min(40)]);
        }
        let many = |count: usize| request(&vec![alert("firing", "a"); count]);
        assert_eq!(read(&many(MAX_ALERTS)).map(|alerts| alerts.firing.len()), Ok(1));
        let refused = read(&many(MAX_ALERTS + 1)).unwrap_err();
        assert_eq!(refused.line(), "alerts: expected at most 1000, got 1001");
    }

    #[test]
    fn a_step_is_a_part_of_the_maximum() {
        let labels = |max, factor| Labels { scale_max: Some(max), scale_factor: factor, ..Labels::default() };
        for (max, factor, wanted, want) in [
            (20, 20, 1, Ok(5)),
            (20, 20, 0, Ok(4)),
            (20, 20, 17, Ok(20)),
            (5, 20, 1, Ok(2)),
            (4, 20, 1, Ok(2)),
            (1000, 100, 1, Ok(1000)),
            (3, 1, 1, Ok(2)),
            (20, 20, 20, Err("it has 20 replicas already, see label com.openfaas.scale.max")),
            (20, 20, 25, Err("it has 25 replicas already, see label com.openfaas.scale.max")),
            (20, 0, 1, Err("label com.openfaas.scale.factor is 0")),
        ] {
            let got = step(&labels(max, factor), wanted);
            assert_eq!(got, want.map_err(str::to_owned), "{max} {factor} {wanted}");
        }
    }
}
