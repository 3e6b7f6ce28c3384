//! What the log and an answer say of a refusal: the sentence of `http1`, and the setting of fwatchdog that decides.

use http1::{Refusal, head};

/// The largest head of a request: as large as a gateway accepts, with what it adds.
pub(crate) const MAX_HEAD_BYTES: usize = head::MAX_HEAD_BYTES + head::ADDED_BYTES;

/// The most fields of a head, counted in the same way.
pub(crate) const MAX_HEADERS: usize = head::MAX_HEADERS + head::ADDED_HEADERS;

/// Why a request was refused.
pub(crate) fn of_request(refusal: Refusal) -> String {
    let text = match refusal {
        Refusal::BodyStall => "body stopped arriving, see read_timeout",
        Refusal::HeaderTimeout => "head did not arrive within 10s, or a shorter read_timeout",
        Refusal::HeadTooLarge => return head_too_large(MAX_HEAD_BYTES),
        Refusal::TooManyHeaders => return format!("{refusal} of {MAX_HEADERS}"),
        Refusal::BodyTooLarge => "body is over its limit, see max_body",
        Refusal::Draining => "shutting down, see drain_timeout",
        Refusal::Overloaded => {
            "as many requests are served as the limit of open files has room for, at most 512"
        }
        other => return other.to_string(),
    };
    text.to_owned()
}

/// Why the answer of a process was refused.
pub(crate) fn of_answer(refusal: Refusal) -> String {
    match refusal {
        Refusal::HeadTooLarge => head_too_large(head::MAX_HEAD_BYTES),
        Refusal::TooManyHeaders => format!("{refusal} of {}", head::MAX_HEADERS),
        other => other.to_string(),
    }
}

fn head_too_large(bytes: usize) -> String {
    format!("{} of {} KiB", Refusal::HeadTooLarge, bytes / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TABLE;

    #[test]
    fn a_refusal_names_only_settings_that_fwatchdog_has() {
        for refusal in Refusal::ALL {
            for text in [of_request(refusal), of_answer(refusal)] {
                let Some((_, setting)) = text.split_once("see ") else { continue };
                assert!(TABLE.iter().any(|row| row.name == setting), "{text}");
            }
        }
        assert_eq!(of_request(Refusal::HeadTooLarge), "head is over its limit of 128 KiB");
        assert_eq!(of_answer(Refusal::TooManyHeaders), "more headers than the limit of 1024");
    }
}
