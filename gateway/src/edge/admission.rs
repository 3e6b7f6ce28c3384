//! What is known of a call before its body comes: whether it is refused whatever that is, and why a call that may go on
//! finds no place.

use std::time::SystemTime;

use http1::{Exchange, Length};

use super::Edge;
use super::failure::Failure;
use crate::alexa;
use crate::functions::Function;
use crate::route::Route;

/// Why a function without a replica will have none.
pub(super) fn cannot_start(function: &Function) -> Option<Failure> {
    let known = &function.known;
    if !function.replicas.is_empty() {
        return None;
    }
    if let Some(problem) = &known.problem {
        return Some(Failure::CannotStart(problem.clone()));
    }
    if known.wanted == 0 && !known.is_scalable {
        return Some(Failure::NoReplicas);
    }
    function.gate.refusal().filter(|_| known.wanted == 0).map(Failure::CannotStart)
}

/// Why a call has to wait that its function's gate does not let go on.
pub(super) fn too_many(function: &Function) -> Failure {
    let (own, limit) = (function.limit(), function.gate.limit());
    if own > 0 && own <= limit { Failure::TooManyCalls(own) } else { Failure::TooManyOfFunction(limit) }
}

/// Whether a body says more than a limit allows, so that the request is refused without it.
pub(super) fn is_longer(exchange: &Exchange<'_>, limit: usize) -> bool {
    matches!(exchange.body_length(), Length::Known(length) if length > limit as u64)
}

impl Edge {
    /// Whether a request becomes a call once its body comes. One for the control plane is none: few of these are served
    /// at a time, and briefly.
    pub(super) fn admits(&self, exchange: &Exchange<'_>) -> bool {
        let request = exchange.request();
        let x_function = request.headers().get_all("x-function");
        if exchange.is_draining() || !self.listeners.serve_functions(exchange.listener()) {
            return false;
        }
        match Route::of(request.method(), request.path(), request.query(), x_function) {
            Route::Function { name, .. } => self.table.find(name).is_some_and(|function| {
                let access = function.access.as_ref();
                let is_denied = access.is_some_and(|it| it.judge(request, SystemTime::now()).is_err());
                !is_denied && cannot_start(&function).is_none()
            }),
            Route::Root { .. } => !is_longer(exchange, alexa::MAX_BODY_BYTES),
            _ => false,
        }
    }
}
