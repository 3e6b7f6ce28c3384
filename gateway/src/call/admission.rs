//! Why a call is refused whatever its body is, and why a call that may go on finds no place.

use crate::failure::Failure;
use crate::functions::Function;

/// Why a function without a replica will have none.
pub(crate) fn cannot_start(function: &Function) -> Option<Failure> {
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

/// The failure of a call that the function's gate holds and that may not wait.
pub(super) fn too_many(function: &Function) -> Failure {
    let (own, limit) = (function.limit(), function.gate.limit());
    if own > 0 && own <= limit { Failure::TooManyCalls(own) } else { Failure::TooManyOfFunction(limit) }
}
