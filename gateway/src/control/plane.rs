//! What the control plane does: looks functions up in the table, and has the provider scale them. It knows nothing of
//! HTTP but methods and paths.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kit::Deadline;
use serde_json::{Value, json};

use super::alert::{self, Alerts, Firing};
use super::answer::{self, Answer, Problem};
use super::route::{Route, route};
use super::shapes::{self, Shown};
use crate::function::FunctionName;
use crate::functions::{Function, Table};
use crate::provider::{Provider, ScaleError};

/// How long the alerts of one request may go on to have functions scaled: with the last one it is well below what the
/// edge waits for an answer.
const ALERT_TIME: Duration = Duration::from_secs(6);

/// The functions, and who runs them.
pub(super) struct Plane {
    pub(super) table: Arc<Table>,
    pub(super) provider: Arc<dyn Provider>,
}

/// A request whose body was read whole.
pub(super) struct Order<'a> {
    pub(super) method: &'a str,
    /// Its path, with a query or without.
    pub(super) target: &'a str,
    pub(super) body: &'a [u8],
    /// Who asks, as the log says it.
    pub(super) caller: &'a str,
}

impl Plane {
    pub(super) fn answer(&self, order: &Order<'_>) -> Answer {
        let answered = route(order.method, order.target).and_then(|route| match route {
            Route::Functions => self.functions().map(|functions| Answer::Json(200, functions)),
            Route::Function(name) => Ok(Answer::Json(200, shown(&*self.find(name)?))),
            Route::Scale(name) => self.scale(name, order),
            Route::Alert => self.alert(order),
            Route::Info => Ok(Answer::Json(200, shapes::info(self.provider.name()))),
        });
        answered.unwrap_or_else(Answer::Problem)
    }

    /// All functions, by name.
    fn functions(&self) -> Result<Value, Problem> {
        self.is_known()?;
        let snapshot = self.table.snapshot();
        let mut functions: Vec<(&FunctionName, &Arc<Function>)> = snapshot.iter().collect();
        functions.sort_unstable_by_key(|(name, _)| *name);
        Ok(functions.into_iter().map(|(_, function)| shown(function)).collect())
    }

    /// Nobody can say which functions there are before the provider has looked once.
    fn is_known(&self) -> Result<(), Problem> {
        match self.provider.problem() {
            Some(problem) if self.table.version() == 0 => Err(Problem::ProviderDown(problem)),
            _ => Ok(()),
        }
    }

    fn find(&self, name: &str) -> Result<Arc<Function>, Problem> {
        self.table.find(name).ok_or_else(|| match self.provider.problem() {
            Some(problem) => Problem::MaybeUnknown(name.to_owned(), problem),
            None => Problem::UnknownFunction(name.to_owned()),
        })
    }

    fn scale(&self, name: &str, order: &Order<'_>) -> Result<Answer, Problem> {
        let known = &self.find(name)?.known;
        if !known.is_scalable {
            return Err(Problem::NotScalable(name.to_owned()));
        }
        let to = shapes::replicas(order.body, name, known.labels.max())?;
        self.provider.scale(name, None, to).map_err(|error| match error {
            ScaleError::Refused(why) => Problem::ScaleFailed(name.to_owned(), one_line(&why)),
            ScaleError::InUpdate(state) => Problem::InUpdate(name.to_owned(), one_line(&state)),
            ScaleError::Unreachable(why) => Problem::ProviderAway(name.to_owned(), one_line(&why)),
        })?;
        tell(name, (known.wanted, to), "scale-function", order.caller);
        Ok(Answer::Json(202, json!({ "name": name, "replicas": to })))
    }

    /// Scales the functions that alerts begin to fire for by one step each. What is wrong with one of them keeps no
    /// other from it. It is a failure where all of it failed: then it can be sent again.
    fn alert(&self, order: &Order<'_>) -> Result<Answer, Problem> {
        let alerts = Alerts::from_json(order.body)?;
        let deadline = Deadline::after(ALERT_TIME);
        let mut ignored: Vec<Value> = alerts.ignored.iter().map(|(name, why)| reason(name, why)).collect();
        let (mut scaled, mut failed) = (Vec::new(), Vec::new());
        for (name, id) in &alerts.resolved {
            if let Some(function) = self.table.find(name) {
                function.raised.resolve(*id, Instant::now());
            }
        }
        for firing in &alerts.firing {
            let name = &firing.name;
            match self.raise(firing, deadline) {
                Ok((from, to)) => {
                    tell(name, (from, to), "alert", order.caller);
                    scaled.push(json!({ "name": name, "from": from, "to": to }));
                }
                Err(Unraised::Ignored(why)) => ignored.push(reason(name, &why)),
                Err(Unraised::Failed(why)) => {
                    log::warn!("function `{name}` was not scaled by alert: {why}");
                    failed.push(reason(name, &why));
                }
            }
        }
        let status = if scaled.is_empty() && !failed.is_empty() { 502 } else { 200 };
        Ok(Answer::Json(status, json!({ "scaled": scaled, "ignored": ignored, "failed": failed })))
    }

    /// Gives a function more replicas since alerts fire, and keeps them while they do. The replicas before and after.
    fn raise(&self, firing: &Firing, deadline: Deadline) -> Result<(u32, u32), Unraised> {
        let function = self.find(&firing.name).map_err(|problem| match problem {
            Problem::UnknownFunction(_) => Unraised::Ignored("no such function".to_owned()),
            other => Unraised::Ignored(other.line()),
        })?;
        let Function { known, raised, .. } = &*function;
        if !known.is_scalable {
            return Err(Unraised::Ignored("it cannot be scaled".to_owned()));
        }
        let (from, now) = (known.wanted, Instant::now());
        let mut is_repeat = true;
        for alert in &firing.alerts {
            is_repeat &= raised.repeat(alert.id, now) && alert.is_dated;
        }
        if is_repeat {
            return Err(Unraised::Ignored(answer::goes_on(raised.replicas(now))));
        }
        if let Some(state) = known.in_update.as_ref().filter(|_| from > 0) {
            return Err(Unraised::Ignored(held(state)));
        }
        let keep = |replicas: u32| {
            firing.alerts.iter().for_each(|alert| raised.raise(alert.id, replicas, Instant::now()))
        };
        let to = alert::step(&known.labels, from).map_err(|why| {
            if known.labels.scale_factor > 0 {
                keep(from); // it has all that it may have
            }
            Unraised::Ignored(why)
        })?;
        if deadline.has_passed() {
            return Err(Unraised::Failed("the others took too long".to_owned()));
        }
        match self.provider.scale(&firing.name, Some(from), to) {
            Ok(()) => keep(to),
            Err(ScaleError::InUpdate(state)) => return Err(Unraised::Ignored(held(&state))),
            Err(error) => return Err(Unraised::Failed(one_line(&error.to_string()))),
        }
        Ok((from, to))
    }
}

/// Why an alert has given a function no more replicas.
enum Unraised {
    /// There is nothing to do.
    Ignored(String),
    Failed(String),
}

fn shown(function: &Function) -> Value {
    let Function { known, replicas, series, .. } = function;
    Shown { known, available: replicas.len(), invocations: series.invocations() }.to_json()
}

fn reason(name: &str, why: &str) -> Value {
    json!({ "name": name, "reason": why })
}

/// Why a function in an update keeps its replicas.
fn held(state: &str) -> String {
    answer::in_update(&one_line(state))
}

fn tell(name: &str, (from, to): (u32, u32), by: &str, caller: &str) {
    if from != to {
        log::info!("function `{name}` scaled from {from} to {to} by {by} ({caller})");
    }
}

/// Somebody else's words, fit for one line.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::labels::Labels;
    use crate::function::{Known, Sink as _};
    use std::sync::Mutex;

    /// A provider that notes what it is asked for, and refuses one function.
    #[derive(Default)]
    struct Noting(Mutex<Vec<String>>);

    impl Provider for Noting {
        fn name(&self) -> &'static str {
            "local"
        }

        fn scale(&self, name: &str, from: Option<u32>, to: u32) -> Result<(), ScaleError> {
            self.0.lock().unwrap().push(format!("{name} {from:?} {to}"));
            match name {
                "refused" => Err(ScaleError::Refused("no\nroom".to_owned())),
                "updating" => Err(ScaleError::InUpdate("paused".to_owned())),
                "away" => Err(ScaleError::Unreachable("no engine".to_owned())),
                _ => Ok(()),
            }
        }

        fn stop(&self, _: Deadline) {}
    }

    fn known(name: &str, wanted: u32, is_scalable: bool) -> Known {
        let labels = Labels { scale_max: Some(5), scale_factor: 40, ..Labels::default() };
        Known { labels, wanted, is_scalable, ..Known::named(name) }
    }

    fn plane() -> (Plane, Arc<Noting>) {
        let table = Arc::new(Table::empty());
        table.set(vec![
            known("refused", 1, true),
            known("away", 1, true),
            known("echo", 2, true),
            known("full", 5, true),
            known("fixed", 1, false),
            known("updating", 2, true),
            Known { in_update: Some("paused".to_owned()), ..known("held", 2, true) },
        ]);
        let provider = Arc::new(Noting::default());
        (Plane { table, provider: Arc::clone(&provider) as Arc<dyn Provider> }, provider)
    }

    fn answer(plane: &Plane, method: &str, target: &str, body: &[u8]) -> Answer {
        plane.answer(&Order { method, target, body, caller: "user -, client ::1" })
    }

    fn noted(provider: &Noting) -> Vec<String> {
        std::mem::take(&mut provider.0.lock().unwrap())
    }

    #[test]
    fn functions_are_sorted_and_counted() {
        let (plane, _) = plane();
        let function = plane.table.find("echo").unwrap();
        function.series.observe(200, Duration::ZERO);
        function.series.observe(500, Duration::ZERO);
        let Answer::Json(200, functions) = answer(&plane, "GET", "/system/functions", b"") else { panic!() };
        let names: Vec<_> = functions.as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
        assert_eq!(names, ["away", "echo", "fixed", "full", "held", "refused", "updating"]);
        assert_eq!(functions[1]["invocationCount"], 2);
        let Answer::Json(200, one) = answer(&plane, "HEAD", "/system/function/echo", b"") else { panic!() };
        assert_eq!(one, functions[1]);
        let unknown = Answer::Problem(Problem::UnknownFunction("nobody".to_owned()));
        assert_eq!(answer(&plane, "GET", "/system/function/nobody", b""), unknown);
    }

    #[test]
    fn scaling_asks_the_provider_within_the_label() {
        let (plane, provider) = plane();
        let scale = |name: &str, replicas: u32| {
            let body = json!({ "serviceName": name, "replicas": replicas }).to_string();
            answer(&plane, "POST", &format!("/system/scale-function/{name}"), body.as_bytes())
        };
        assert_eq!(scale("echo", 5), Answer::Json(202, json!({ "name": "echo", "replicas": 5 })));
        assert_eq!(scale("echo", 6), Answer::Problem(Problem::TooMany("echo".to_owned(), 5)));
        assert_eq!(scale("fixed", 2), Answer::Problem(Problem::NotScalable("fixed".to_owned())));
        assert_eq!(scale("nobody", 2), Answer::Problem(Problem::UnknownFunction("nobody".to_owned())));
        let why = Problem::ScaleFailed("refused".to_owned(), "no room".to_owned());
        assert_eq!(scale("refused", 0), Answer::Problem(why));
        let why = Problem::ProviderAway("away".to_owned(), "no engine".to_owned());
        assert_eq!(scale("away", 2), Answer::Problem(why));
        let held = Problem::InUpdate("updating".to_owned(), "paused".to_owned());
        assert_eq!(scale("updating", 3), Answer::Problem(held));
        assert_eq!(noted(&provider), ["echo None 5", "refused None 0", "away None 2", "updating None 3"]);
    }

    #[test]
    fn one_alert_does_not_spoil_the_others() {
        let (plane, provider) = plane();
        let alert = |names: &[&str]| {
            let alerts: Vec<_> = names
                .iter()
                .map(|name| json!({ "status": "firing", "labels": { "function_name": name } }))
                .collect();
            answer(&plane, "POST", "/system/alert", json!({ "alerts": alerts }).to_string().as_bytes())
        };
        let want = json!({
            "scaled": [{ "name": "echo", "from": 2, "to": 4 }],
            "ignored": [
                { "name": "nobody", "reason": "no such function" },
                { "name": "fixed", "reason": "it cannot be scaled" },
                { "name": "full", "reason": "it has 5 replicas already, see label com.openfaas.scale.max" },
                { "name": "held", "reason": answer::in_update("paused") },
                { "name": "updating", "reason": answer::in_update("paused") },
            ],
            "failed": [{ "name": "refused", "reason": "no room" }],
        });
        let names = ["nobody", "refused", "fixed", "full", "held", "updating", "echo", "echo"];
        assert_eq!(alert(&names), Answer::Json(200, want));
        assert_eq!(noted(&provider), ["refused Some(1) 3", "updating Some(2) 4", "echo Some(2) 4"]);
        let Answer::Json(status, _) = alert(&["refused", "full"]) else { panic!() };
        assert_eq!(status, 502, "nothing was done: it may be sent again");
        let Answer::Json(status, _) = alert(&["full"]) else { panic!() };
        assert_eq!(status, 200);
    }
}
