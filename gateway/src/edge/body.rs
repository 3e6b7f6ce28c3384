//! The body of a request that is read whole.

use http1::{BodyError, Exchange, Length, Refusal};
use kit::Deadline;

use crate::failure::Failure;

/// The whole body, if it has at most `limit` bytes and no more than the server's own bound; else the failure beside it.
pub(super) fn whole_body(
    exchange: &mut Exchange<'_>,
    (limit, too_large): (usize, Failure),
    deadline: Deadline,
) -> Result<Vec<u8>, Failure> {
    if is_longer(exchange, limit) {
        return Err(too_large);
    }
    exchange.read_body(limit, deadline).map_err(|error| match error {
        BodyError::Refused(Refusal::BodyTooLarge) => too_large,
        other => body_failure(other),
    })
}

/// The failure of a request whose body cannot be read.
pub(super) fn body_failure(error: BodyError) -> Failure {
    match error {
        BodyError::Refused(refusal) => Failure::Refused(refusal),
        BodyError::Timeout => Failure::Refused(Refusal::BodyStall),
        _ => Failure::ClientGone,
    }
}

/// Whether a body says more than a limit allows, so that the request is refused without it.
pub(super) fn is_longer(exchange: &Exchange<'_>, limit: usize) -> bool {
    matches!(exchange.body_length(), Length::Known(length) if length > limit as u64)
}
