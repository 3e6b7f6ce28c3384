//! A head being written: bytes in the order of the wire. The fields that frame the message are added
//! last, by the connection that sends it, and never by a caller.

mod status;

use std::cell::Cell;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kit::calendar::{HTTP_DATE_BYTES, http_date};
use kit::number::Backwards;
pub use status::reason_phrase;

use crate::body::Length;
use crate::head::{Headers, Line, list};
use crate::name::is_same;
pub use crate::name::{is_hop_by_hop, is_taken_for};
use crate::octets::has_control;
use crate::written::Written;

/// What a head says of the connection after its message (RFC 9112 section 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: HTTP/1.1 goes on by itself.
    Default,
    /// This is the last message.
    Close,
    /// It goes on, which a peer of HTTP/1.0 must be told.
    KeepAlive,
}

/// The head of a message that is being written.
pub struct HeadWriter {
    bytes: Written,
    kind: Kind,
    has_date: bool,
    is_upgrade: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request { is_head: bool, expects_body: bool },
    Response { status: u16 },
}

impl HeadWriter {
    /// A response with the given status.
    #[must_use]
    pub fn response(status: u16) -> HeadWriter {
        let mut bytes = Written::head();
        if status == 200 {
            bytes.put(b"HTTP/1.1 200 OK\r\n"); // at once, as most are
        } else {
            bytes.put(b"HTTP/1.1 ");
            bytes.put(Backwards::default().decimal(u64::from(status), 1).text());
            bytes.put(b" ");
            bytes.put(reason_phrase(status).as_bytes());
            bytes.put(b"\r\n");
        }
        HeadWriter { bytes, kind: Kind::Response { status }, has_date: false, is_upgrade: false }
    }

    /// A request for `target`, which is sent as it is: it comes from a parsed head or is a literal.
    #[must_use]
    pub fn request(method: &str, target: &[u8]) -> HeadWriter {
        let mut bytes = Written::head();
        bytes.put_all([method.as_bytes(), b" ", target, b" HTTP/1.1\r\n"]);
        let kind = Kind::Request {
            is_head: method == "HEAD",
            expects_body: matches!(method, "POST" | "PUT" | "PATCH"),
        };
        HeadWriter { bytes, kind, has_date: true, is_upgrade: false }
    }

    /// Adds a field. Bytes of the value that would end the line or that no field may hold are dropped, so
    /// that no value can forge a field.
    pub fn header(&mut self, name: &str, value: &[u8]) -> &mut HeadWriter {
        self.field(name.as_bytes(), value)
    }

    /// Adds a field whose value is text.
    pub fn text(&mut self, name: &str, value: &str) -> &mut HeadWriter {
        self.field(name.as_bytes(), value.as_bytes())
    }

    /// Adds a whole line, which ends with CRLF.
    pub fn line(&mut self, line: &'static str) -> &mut HeadWriter {
        self.bytes.put(line.as_bytes());
        self
    }

    /// Adds a field as it came in a parsed head.
    pub fn field(&mut self, name: &[u8], value: &[u8]) -> &mut HeadWriter {
        self.has_date |= is_same(name, "date");
        if has_control(value) {
            let allowed: Vec<u8> = value.iter().copied().filter(|byte| !is_forbidden(*byte)).collect();
            self.bytes.put_field(name, &allowed);
        } else {
            self.bytes.put_field(name, value);
        }
        self
    }

    /// Copies the fields of another head that are for more than one hop (RFC 9110 section 7.6.1). Fields whose names
    /// `is_left_out` are not copied: the caller writes them itself, or they are not for the receiver.
    pub fn forward(&mut self, headers: Headers<'_>, is_left_out: &dyn Fn(&[u8]) -> bool) -> &mut HeadWriter {
        let names_any = headers.get("connection").is_some();
        // Host is for every hop, whatever a caller says: without it 1.1 is not valid.
        let is_named = |name: &[u8]| {
            names_any
                && !is_same(name, "host")
                && headers
                    .get_all("connection")
                    .any(|value| list(value).any(|item| item.eq_ignore_ascii_case(name)))
        };
        // Lines that follow each other are copied at once, as they are: a parsed head has nothing in it that
        // must not be sent on.
        let mut lines = 0..0;
        for Line { name, value, place } in headers.lines() {
            if is_hop_by_hop(name) || is_left_out(name) || is_named(name) {
                continue;
            }
            self.has_date |= is_same(name, "date");
            match place {
                Some(place) if place.start == lines.end => lines.end = place.end,
                place => {
                    self.bytes.put(&headers.bytes()[lines]);
                    if place.is_none() {
                        self.field(name, value);
                    }
                    lines = place.unwrap_or_default();
                }
            }
        }
        self.bytes.put(&headers.bytes()[lines]);
        self
    }

    /// Adds a field that is an address.
    pub fn address(&mut self, name: &str, address: IpAddr) -> &mut HeadWriter {
        let IpAddr::V4(address) = address else { return self.text(name, &address.to_string()) };
        let [first, rest @ ..] = address.octets();
        let mut text = Backwards::default();
        for part in rest.into_iter().rev() {
            text.decimal(u64::from(part), 1).put(b".");
        }
        self.plain(name, text.decimal(u64::from(first), 1))
    }

    /// Adds a field that is a number and `suffix`, at most two letters.
    pub fn number(&mut self, name: &str, value: u64, suffix: &str) -> &mut HeadWriter {
        self.plain(name, Backwards::default().put(suffix.as_bytes()).decimal(value, 1))
    }

    /// Adds a field that is a time in seconds, to the microsecond.
    pub fn seconds(&mut self, name: &str, value: Duration) -> &mut HeadWriter {
        let mut text = Backwards::default();
        text.decimal(u64::from(value.subsec_micros()), 6).put(b".").decimal(value.as_secs(), 1);
        self.plain(name, &text)
    }

    /// Adds a field of plain characters.
    fn plain(&mut self, name: &str, value: &Backwards) -> &mut HeadWriter {
        self.bytes.put_field(name.as_bytes(), value.text());
        self
    }

    /// Asks for a change of the connection's protocol, or agrees to it (RFC 9110 section 7.8).
    pub fn upgrade(&mut self, protocol: &[u8]) -> &mut HeadWriter {
        self.is_upgrade = true;
        self.text("Connection", "Upgrade").header("Upgrade", protocol)
    }

    pub(crate) fn is_upgrade(&self) -> bool {
        self.is_upgrade
    }

    /// What was written so far: the first line and the fields, without framing.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The status of a response; 0 for a request.
    #[must_use]
    pub fn status(&self) -> u16 {
        if let Kind::Response { status } = self.kind { status } else { 0 }
    }

    pub(crate) fn is_head_request(&self) -> bool {
        matches!(self.kind, Kind::Request { is_head: true, .. })
    }

    /// Adds the framing and the empty line. `chunked` says whether the peer understands chunks.
    #[must_use]
    pub fn finish(mut self, length: Length, chunked: bool, persistence: Persistence) -> Written {
        if !self.has_date {
            self.bytes.put_field(b"Date", &date());
        }
        match length {
            _ if self.has_no_framing() => {}
            Length::Known(length) => drop(self.number("Content-Length", length, "")),
            Length::None if self.has_no_length() => {}
            Length::None => self.bytes.put(b"Content-Length: 0\r\n"),
            Length::Unknown if chunked && self.status() != 304 => {
                self.bytes.put(b"Transfer-Encoding: chunked\r\n")
            }
            Length::Unknown => {} // the end of the connection ends it
        }
        match persistence {
            Persistence::Default => {}
            _ if self.is_upgrade => {} // the connection is said to be something else
            Persistence::Close => self.bytes.put(b"Connection: close\r\n"),
            Persistence::KeepAlive => self.bytes.put(b"Connection: keep-alive\r\n"),
        }
        self.bytes.put(b"\r\n");
        self.bytes
    }

    /// Ends the head of an interim answer: nothing frames it, and nothing is added.
    pub(crate) fn finish_interim(mut self) -> Written {
        self.bytes.put(b"\r\n");
        self.bytes
    }

    /// Responses that may tell neither a length nor a coding (RFC 9110 section 8.6, RFC 9112 section 6.1).
    fn has_no_framing(&self) -> bool {
        matches!(self.kind, Kind::Response { status } if status < 200 || status == 204)
    }

    /// Messages that have no body by their nature, so that a length of zero would be noise (requests), or another one
    /// than that of the answer with a body (304).
    fn has_no_length(&self) -> bool {
        match self.kind {
            Kind::Request { expects_body, .. } => !expects_body,
            Kind::Response { status } => status == 304,
        }
    }
}

/// The date of this second. Each thread writes it once a second.
fn date() -> [u8; HTTP_DATE_BYTES] {
    thread_local! {
        static LAST: Cell<(u64, [u8; HTTP_DATE_BYTES])> = const { Cell::new((u64::MAX, [0; HTTP_DATE_BYTES])) };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (second, text) = LAST.get();
    if second == now {
        return text;
    }
    let text = http_date(now);
    LAST.set((now, text));
    text
}

fn is_forbidden(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_forbidden_byte_is_found_wherever_it_stands() {
        for length in 0..20 {
            for byte in 0..=255u8 {
                for place in 0..length {
                    let mut value = vec![0xe4; length];
                    value[place] = byte;
                    assert!(!is_forbidden(byte) || has_control(&value), "{byte} at {place} of {length}");
                    let mut head = HeadWriter::response(200);
                    head.field(b"X", &value);
                    value.retain(|byte| !is_forbidden(*byte));
                    assert!(head.bytes.ends_with(&[b"X: ", &value[..], b"\r\n"].concat()));
                }
            }
        }
    }

    #[test]
    fn numbers_are_written_in_digits() {
        let mut head = HeadWriter::request("GET", b"/");
        head.number("A", 0, "").number("B", u64::MAX, "ms").seconds("C", Duration::from_micros(1_000_042));
        head.seconds("D", Duration::MAX).address("E", [255, 0, 10, 1].into()).address("F", [0; 16].into());
        let want = "GET / HTTP/1.1\r\nA: 0\r\nB: 18446744073709551615ms\r\nC: 1.000042\r\n\
            D: 18446744073709551615.999999\r\nE: 255.0.10.1\r\nF: ::\r\n";
        assert_eq!(head.as_bytes(), want.as_bytes());
    }

    fn text(head: HeadWriter, length: Length) -> String {
        String::from_utf8(head.finish(length, true, Persistence::Default).to_vec()).unwrap()
    }

    #[test]
    fn framing_follows_the_kind_of_message() {
        let response = |status, length| {
            let mut head = HeadWriter::response(status);
            head.text("Date", "d");
            text(head, length)
        };
        assert_eq!(response(200, Length::None), "HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(
            response(200, Length::Known(5)),
            "HTTP/1.1 200 OK\r\nDate: d\r\nContent-Length: 5\r\n\r\n"
        );
        for length in [Length::None, Length::Known(5), Length::Unknown] {
            assert_eq!(response(204, length), "HTTP/1.1 204 No Content\r\nDate: d\r\n\r\n");
        }
        for length in [Length::None, Length::Unknown] {
            assert_eq!(response(304, length), "HTTP/1.1 304 Not Modified\r\nDate: d\r\n\r\n");
        }
        assert_eq!(
            response(200, Length::Unknown),
            "HTTP/1.1 200 OK\r\nDate: d\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        assert_eq!(text(HeadWriter::request("GET", b"/a?b"), Length::None), "GET /a?b HTTP/1.1\r\n\r\n");
        let post = text(HeadWriter::request("POST", b"/"), Length::None);
        assert_eq!(post, "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn a_response_is_dated_once() {
        let written = text(HeadWriter::response(200), Length::None);
        assert_eq!(written.matches("Date: ").count(), 1, "{written}");
        let old_peer = HeadWriter::response(200).finish(Length::Unknown, false, Persistence::Close);
        let old_peer = String::from_utf8(old_peer.to_vec()).unwrap();
        assert!(
            old_peer.ends_with("\r\nConnection: close\r\n\r\n") && !old_peer.contains("chunked"),
            "{old_peer}"
        );
    }

    #[test]
    fn a_value_cannot_forge_a_field() {
        let mut head = HeadWriter::request("GET", b"/");
        head.header("X", b"a\r\nEvil: 1\0\tb\xff");
        assert_eq!(
            *head.finish(Length::None, true, Persistence::Default),
            *b"GET / HTTP/1.1\r\nX: aEvil: 1\tb\xff\r\n\r\n"
        );
    }

    /// The codes that IANA's registry of status codes gives no name to, among those that it knows: 306 and 418 are
    /// unused, 104 is temporary.
    #[test]
    fn every_registered_status_has_its_phrase() {
        let registered = [
            100..=103,
            200..=208,
            226..=226,
            300..=305,
            307..=308,
            400..=417,
            421..=426,
            428..=429,
            431..=431,
            451..=451,
            500..=508,
            510..=511,
        ];
        for status in 100..=599 {
            let is_registered = registered.iter().any(|codes| codes.contains(&status));
            assert_eq!(reason_phrase(status) != "Unknown", is_registered, "{status}");
        }
    }
}
