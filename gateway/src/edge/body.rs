//! Reads the whole body of a request.

use http1::{BodyError, Exchange, Length, Refusal};
use kit::Deadline;

use crate::failure::Failure;

/// The whole body. `too_large` is the failure of a body of more than `limit` bytes, or of more than the server's bound.
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

/// Whether the declared length of a body is over a limit. Such a request is refused without its body.
pub(super) fn is_longer(exchange: &Exchange<'_>, limit: usize) -> bool {
    matches!(exchange.body_length(), Length::Known(length) if length > limit as u64)
}
