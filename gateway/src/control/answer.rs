//! What the control plane says: JSON, or one line that says what is wrong.

use http1::Refusal;
use serde_json::Value;

use crate::function::labels::{LABEL_SCALE_FACTOR, LABEL_SCALE_MAX};
use crate::function::name::{EXPECTED_NAME, maybe_unknown, no_function};
use crate::kind::Kind;

/// A whole answer, before it is HTTP.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// What was asked for.
    Json(u16, Value),
    Problem(Problem),
}

/// Why there is no such answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    NoRoute,
    /// The user interface is asked for.
    NoUi,
    MethodNotAllowed(&'static str),
    UnknownFunction(String),
    BadName,
    /// Which functions there are is not known yet, and why.
    ProviderDown(String),
    /// A function of this name is not known, and may exist: the provider cannot be asked, and why.
    MaybeUnknown(String, String),
    /// The body is not what it should be: where, and what was expected.
    BadRequest(String),
    BodyTooLarge,
    NotScalable(String),
    /// An update of the function's service has not ended: its name, and the state in the engine's words.
    InUpdate(String, String),
    /// More replicas than the function's label allows: its name and that number.
    TooMany(String, u32),
    /// The provider did not do it, in its words.
    ScaleFailed(String, String),
    /// The provider cannot ask whoever runs it, and why.
    ProviderAway(String, String),
    Internal,
    /// The control plane is being started again.
    Restarting,
}

impl Problem {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Problem::NoRoute | Problem::NoUi => Kind::NoRoute,
            Problem::MethodNotAllowed(_) => Kind::MethodNotAllowed,
            Problem::UnknownFunction(_) | Problem::BadName => Kind::UnknownFunction,
            Problem::ProviderDown(..) | Problem::MaybeUnknown(..) | Problem::ProviderAway(..) => {
                Kind::ProviderDown
            }
            Problem::BadRequest(_) => Kind::BadRequest,
            Problem::BodyTooLarge => Kind::Http(Refusal::BodyTooLarge),
            Problem::NotScalable(_) => Kind::NotScalable,
            Problem::InUpdate(..) => Kind::InUpdate,
            Problem::TooMany(..) => Kind::TooManyReplicas,
            Problem::ScaleFailed(..) => Kind::ScaleFailed,
            Problem::Internal => Kind::Internal,
            Problem::Restarting => Kind::ControlDown,
        }
    }

    /// The one line, without its end.
    pub(super) fn line(&self) -> String {
        match self {
            Problem::NoRoute => {
                "no such path: /system has functions, function/NAME, scale-function/NAME, alert \
                                 and info"
                    .to_owned()
            }
            Problem::NoUi => {
                "the user interface is not in this release; /system/functions has the functions".to_owned()
            }
            Problem::MethodNotAllowed(allow) => format!("method not allowed here, only {allow}"),
            Problem::UnknownFunction(name) => no_function(name),
            Problem::BadName => format!("no function there: expected {EXPECTED_NAME}"),
            Problem::ProviderDown(problem) => {
                format!("functions are not known yet, see DOCKER_HOST: {problem}")
            }
            Problem::MaybeUnknown(name, problem) => maybe_unknown(name, problem),
            Problem::BadRequest(what) => what.clone(),
            Problem::BodyTooLarge => {
                format!("body is over the limit of the control plane, {} bytes", super::MAX_BODY_BYTES)
            }
            Problem::NotScalable(name) => format!(
                "function `{name}` cannot be scaled: its service is not replicated, or it has `address` in functions_file"
            ),
            Problem::InUpdate(name, state) => {
                format!("function `{name}` was not scaled: {}", in_update(state))
            }
            Problem::TooMany(name, max) => format!(
                "replicas: expected an integer from 0 to {max}, see label {LABEL_SCALE_MAX} of function `{name}`"
            ),
            Problem::ScaleFailed(name, why) | Problem::ProviderAway(name, why) => {
                format!("function `{name}` was not scaled: {why}")
            }
            Problem::Internal => "internal error: see the gateway's log".to_owned(),
            Problem::Restarting => "the control plane is being started again".to_owned(),
        }
    }
}

/// Why a function in an update keeps its replicas, and how to go on.
pub(super) fn in_update(state: &str) -> String {
    format!(
        "an update of its service is `{state}`, and a change would end it: \
         wait, or use docker service update or rollback"
    )
}

/// Why an alert scales nothing although its function is known.
pub(super) fn factor_is_zero() -> String {
    format!("label {LABEL_SCALE_FACTOR} is 0")
}

/// The same for one that goes on firing.
pub(super) fn goes_on(replicas: u32) -> String {
    format!("it goes on firing, {replicas} replicas are kept")
}

/// The same for one that has all its replicas.
pub(super) fn is_at_most(max: u32) -> String {
    format!("it has {max} replicas already, see label {LABEL_SCALE_MAX}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_one() {
        let why = || "why".to_owned();
        let problems = [
            Problem::NoRoute,
            Problem::NoUi,
            Problem::MethodNotAllowed("GET"),
            Problem::UnknownFunction(why()),
            Problem::BadName,
            Problem::ProviderDown(why()),
            Problem::MaybeUnknown(why(), why()),
            Problem::BadRequest(why()),
            Problem::BodyTooLarge,
            Problem::NotScalable(why()),
            Problem::InUpdate(why(), why()),
            Problem::TooMany(why(), 3),
            Problem::ScaleFailed(why(), why()),
            Problem::ProviderAway(why(), why()),
            Problem::Internal,
            Problem::Restarting,
        ];
        for problem in problems {
            let line = problem.line();
            assert!(!line.contains('\n') && !line.contains("  ") && !line.ends_with('.'), "{line:?}");
        }
    }
}
