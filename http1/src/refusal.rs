//! Reasons to refuse a message: one closed list for clients and servers. Each reason has a name for metrics, a status
//! and a sentence.

use std::fmt;

/// A reason to refuse a message. A server answers with its status and ends the connection. A client drops the
/// connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The first line is not a request line or status line (RFC 9112 sections 3 and 4).
    RequestLine,
    /// The client speaks TLS, as the first byte of its handshake tells (RFC 8446 section 5.1).
    Tls,
    /// The method is not a token or longer than [`MAX_METHOD_BYTES`](crate::head::MAX_METHOD_BYTES).
    Method,
    /// The target is in none of the forms that are served (RFC 9112 section 3.2).
    Target,
    /// A control character in the target, or a byte that is not of UTF-8 (RFC 3986 section 2.1).
    TargetBytes,
    /// A version other than HTTP/1.0 and HTTP/1.1.
    Version,
    /// A field name that is not a token.
    HeaderName,
    /// A control character in a field value.
    HeaderValue,
    /// A folded line (RFC 9112 section 5.2).
    ObsFold,
    /// White space between a field name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// No `Host` under HTTP/1.1 (RFC 9112 section 3.2).
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// A `Host` that is not a name or address with an optional port (RFC 9112 section 3.2).
    HostInvalid,
    /// `Content-Length` together with `Transfer-Encoding` (RFC 9112 section 6.3).
    LengthAndChunked,
    /// Differing or malformed values of `Content-Length`.
    ContentLength,
    /// A `Transfer-Encoding` other than exactly `chunked`.
    TransferEncoding,
    /// `Transfer-Encoding` under HTTP/1.0.
    ChunkedHttp10,
    /// A chunk size that is malformed (RFC 9112 section 7.1).
    ChunkSize,
    /// A chunk extension that is malformed or too long.
    ChunkExtension,
    /// No CRLF after a chunk.
    ChunkCrlf,
    /// A trailer section that is malformed or too long.
    Trailer,
    /// The head has more bytes than allowed.
    HeadTooLarge,
    /// The head has more fields than allowed.
    TooManyHeaders,
    /// The target is longer than allowed.
    TargetTooLong,
    /// The heads of all clients are over their bound of memory, and this head is among the largest.
    HeadMemory,
    /// The body is longer than allowed, or than [`MAX_LENGTH`](crate::head::MAX_LENGTH).
    BodyTooLarge,
    /// The head did not arrive in time.
    HeaderTimeout,
    /// The body stopped arriving.
    BodyStall,
    /// All workers are busy, and the queue is full.
    Overloaded,
    /// The client has used up its share of connections or calls.
    TooManyOfClient,
    /// The server shuts down.
    Draining,
}

impl Refusal {
    /// Every reason, in the order of the declaration, for metrics.
    pub const ALL: [Refusal; 31] = [
        Refusal::RequestLine,
        Refusal::Tls,
        Refusal::Method,
        Refusal::Target,
        Refusal::TargetBytes,
        Refusal::Version,
        Refusal::HeaderName,
        Refusal::HeaderValue,
        Refusal::ObsFold,
        Refusal::SpaceBeforeColon,
        Refusal::HostMissing,
        Refusal::HostRepeated,
        Refusal::HostInvalid,
        Refusal::LengthAndChunked,
        Refusal::ContentLength,
        Refusal::TransferEncoding,
        Refusal::ChunkedHttp10,
        Refusal::ChunkSize,
        Refusal::ChunkExtension,
        Refusal::ChunkCrlf,
        Refusal::Trailer,
        Refusal::HeadTooLarge,
        Refusal::TooManyHeaders,
        Refusal::TargetTooLong,
        Refusal::HeadMemory,
        Refusal::BodyTooLarge,
        Refusal::HeaderTimeout,
        Refusal::BodyStall,
        Refusal::Overloaded,
        Refusal::TooManyOfClient,
        Refusal::Draining,
    ];

    /// Name, status and sentence of each reason, in one table. The program names the setting behind a limit.
    const fn row(self) -> (&'static str, u16, &'static str) {
        match self {
            Refusal::RequestLine => ("request_line", 400, "malformed first line"),
            Refusal::Tls => ("tls", 400, "TLS is not spoken on this port, only plain HTTP"),
            Refusal::Method => ("method", 400, "method is not a token of at most 32 characters"),
            Refusal::Target => ("target", 400, "request target is not a path, an absolute http URI, or `*`"),
            Refusal::TargetBytes => {
                ("target_bytes", 400, "request target has a control character, or bytes that are not UTF-8")
            }
            Refusal::Version => ("version", 505, "only HTTP/1.0 and HTTP/1.1 are spoken here"),
            Refusal::HeaderName => ("header_name", 400, "malformed header name"),
            Refusal::HeaderValue => ("header_value", 400, "control character in a header value"),
            Refusal::ObsFold => ("obs_fold", 400, "folded header line"),
            Refusal::SpaceBeforeColon => {
                ("space_before_colon", 400, "white space before the colon of a header")
            }
            Refusal::HostMissing => ("host_missing", 400, "no Host header"),
            Refusal::HostRepeated => ("host_repeated", 400, "more than one Host header"),
            Refusal::HostInvalid => {
                ("host_invalid", 400, "Host is not a name or address with an optional port")
            }
            Refusal::LengthAndChunked => {
                ("length_and_chunked", 400, "Content-Length together with Transfer-Encoding")
            }
            Refusal::ContentLength => ("content_length", 400, "malformed or differing Content-Length"),
            Refusal::TransferEncoding => {
                ("transfer_encoding", 400, "Transfer-Encoding is not exactly `chunked`")
            }
            Refusal::ChunkedHttp10 => ("chunked_http10", 400, "Transfer-Encoding under HTTP/1.0"),
            Refusal::ChunkSize => ("chunk_size", 400, "malformed chunk size"),
            Refusal::ChunkExtension => ("chunk_extension", 400, "malformed or too long chunk extension"),
            Refusal::ChunkCrlf => ("chunk_crlf", 400, "no CRLF after a chunk"),
            Refusal::Trailer => ("trailer", 400, "malformed or too long trailer section"),
            Refusal::HeadTooLarge => ("head_too_large", 431, "head is over its limit"),
            Refusal::TooManyHeaders => ("too_many_headers", 431, "more headers than the limit"),
            Refusal::TargetTooLong => ("target_too_long", 414, "request target is over its limit of 32 KiB"),
            Refusal::HeadMemory => ("head_memory", 503, "no memory is left for large heads"),
            Refusal::BodyTooLarge => ("body_too_large", 413, "body is over its limit"),
            Refusal::HeaderTimeout => ("header_timeout", 408, "head did not arrive in time"),
            Refusal::BodyStall => ("body_stall", 408, "body stopped arriving"),
            Refusal::Overloaded => ("overloaded", 503, "all workers are busy"),
            Refusal::TooManyOfClient => {
                ("too_many_of_client", 429, "too many requests or connections of one client")
            }
            Refusal::Draining => ("draining", 503, "shutting down"),
        }
    }

    /// The name in metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        self.row().0
    }

    /// The status of a server's answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().1
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().2)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_name_and_place() {
        for (place, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, place);
            let same = Refusal::ALL.iter().filter(|other| other.reason() == refusal.reason()).count();
            assert_eq!(same, 1, "{}", refusal.reason());
        }
    }
}
