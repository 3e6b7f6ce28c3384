//! How the end of a body is found (RFC 9112 section 6.3, without its leniency).

use super::headers::{Headers, Version};
use crate::Refusal;
use crate::body::{Framing, MAX_LENGTH};

pub(super) fn of_request(headers: Headers<'_>, version: Version) -> Result<Framing, Refusal> {
    Ok(declared(headers, version)?.unwrap_or(Framing::Empty))
}

/// `has_body` is false for an answer that has none whatever its fields say.
pub(super) fn of_response(
    headers: Headers<'_>,
    version: Version,
    has_body: bool,
) -> Result<Framing, Refusal> {
    let declared = declared(headers, version)?;
    Ok(if has_body { declared.unwrap_or(Framing::UntilClose) } else { Framing::Empty })
}

fn declared(headers: Headers<'_>, version: Version) -> Result<Option<Framing>, Refusal> {
    let mut encodings = headers.get_all("transfer-encoding");
    let mut lengths = headers.get_all("content-length");
    match (encodings.next(), lengths.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Refusal::LengthAndChunked),
        (Some(_), None) if version == Version::Http10 => Err(Refusal::ChunkedHttp10),
        (Some(encoding), None) => {
            if !encoding.eq_ignore_ascii_case(b"chunked") || encodings.next().is_some() {
                return Err(Refusal::TransferEncoding);
            }
            Ok(Some(Framing::Chunked))
        }
        (None, Some(first)) => {
            let length = parse_length(first)?;
            for other in lengths {
                if parse_length(other)? != length {
                    return Err(Refusal::ContentLength);
                }
            }
            Ok(Some(if length == 0 { Framing::Empty } else { Framing::Length(length) }))
        }
    }
}

/// The number of a `Content-Length`, which has digits and nothing else.
fn parse_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::ContentLength);
    }
    let number = value
        .iter()
        .try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
    number.filter(|length| *length <= MAX_LENGTH).ok_or(Refusal::BodyTooLarge)
}
