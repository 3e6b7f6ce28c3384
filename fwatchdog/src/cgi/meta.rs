//! The meta-variables of the Common Gateway Interface (RFC 3875 section 4.1), for programs such as `git http-backend` and
//! `php-cgi`. They come beside the `Http_` variables of [`super::variables`].

use std::net::SocketAddr;

use http1::head::Version;
use http1::{Length, RequestHead};
use kit::number::Backwards;
use kit::sys::child::Environment;

/// The variables that only some requests have. An inherited one is removed: a program would take it for the request's.
const OPTIONAL: [&[u8]; 3] = [b"CONTENT_LENGTH", b"CONTENT_TYPE", b"PATH_INFO"];

/// Variables that no field may set: the first two have other names (RFC 3875 section 4.1.18), and programs take
/// `HTTP_PROXY` for their own proxy setting (httpoxy, CVE-2016-5385).
const NO_FIELDS: [&[u8]; 3] = [b"HTTP_CONTENT_LENGTH", b"HTTP_CONTENT_TYPE", b"HTTP_PROXY"];

/// The server's port where `Host` names none (RFC 9110 section 4.2.1).
const DEFAULT_PORT: &[u8] = b"80";

/// Without this variable `php-cgi` refuses to run (`cgi.force_redirect`).
const REDIRECT_STATUS: &[u8] = b"REDIRECT_STATUS";

/// Adds the meta-variables of a request from `peer`.
pub(crate) fn add(environment: &mut Environment, head: &RequestHead, length: Length, peer: SocketAddr) {
    OPTIONAL.iter().for_each(|name| environment.remove(name));
    let protocol: &[u8] = if head.version() == Version::Http11 { b"HTTP/1.1" } else { b"HTTP/1.0" };
    let (path, query) = (head.path(), head.query());
    let (name, port) = host(head.headers().get("Host").unwrap_or_default());
    environment.set(b"GATEWAY_INTERFACE", &[b"CGI/1.1"]);
    environment.set(b"SERVER_SOFTWARE", &[b"fwatchdog/", env!("CARGO_PKG_VERSION").as_bytes()]);
    environment.set(b"SERVER_PROTOCOL", &[protocol]);
    environment.set(b"SERVER_NAME", &[name]);
    environment.set(b"SERVER_PORT", &[port]);
    environment.set(b"REMOTE_ADDR", &[peer.ip().to_canonical().to_string().as_bytes()]);
    environment.set(b"REQUEST_METHOD", &[head.method().as_bytes()]);
    environment.set(b"SCRIPT_NAME", &[]);
    environment.set(b"QUERY_STRING", &[query.unwrap_or_default()]);
    // Not in the RFC, but in every web server.
    match query {
        Some(query) => environment.set(b"REQUEST_URI", &[path, b"?", query]),
        None => environment.set(b"REQUEST_URI", &[path]),
    }
    if path.starts_with(b"/") {
        environment.set(b"PATH_INFO", &[&decoded(path)]);
    }
    if let Length::Known(length) = length {
        environment.set(b"CONTENT_LENGTH", &[Backwards::default().decimal(length, 1).text()]);
    }
    if let Some(kind) = head.headers().get("Content-Type") {
        environment.set(b"CONTENT_TYPE", &[kind]);
    }
    if environment.get(REDIRECT_STATUS).is_none() {
        environment.set(REDIRECT_STATUS, &[b"200"]);
    }
}

/// The `HTTP_` name of a field whose `Http_` name is `variable`; `None` for a field without such a variable.
pub(crate) fn field(variable: &[u8]) -> Option<Vec<u8>> {
    let name = variable.to_ascii_uppercase();
    (!NO_FIELDS.contains(&name.as_slice())).then_some(name)
}

/// Name and port of a `Host` field that the parser has checked.
fn host(value: &[u8]) -> (&[u8], &[u8]) {
    match value.iter().rposition(|byte| matches!(byte, b':' | b']')) {
        Some(at) if value[at] == b':' && at + 1 < value.len() => (&value[..at], &value[at + 1..]),
        Some(at) if value[at] == b':' => (&value[..at], DEFAULT_PORT),
        _ => (value, DEFAULT_PORT),
    }
}

/// A path without its escapes (RFC 3875 section 4.1.5). An escaped `/` stays escaped, since it separates nothing. So
/// does a NUL byte, which no variable can hold.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match (first, after) {
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) if !matches!(high << 4 | low, b'/' | 0) => {
                    out.push(high << 4 | low);
                    rest = after;
                }
                _ => {
                    out.push(b'%');
                    rest = &rest[1..];
                }
            },
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(head: &str, length: Length, names: &[&str]) -> Vec<Option<String>> {
        let mut environment = Environment::default();
        for (name, value) in [("CONTENT_TYPE", "stale"), ("CONTENT_LENGTH", "9"), ("PATH_INFO", "/stale")] {
            environment.set(name.as_bytes(), &[value.as_bytes()]);
        }
        let head = RequestHead::parse(head.as_bytes().to_vec(), 128).unwrap();
        add(&mut environment, &head, length, "[::ffff:192.0.2.7]:4711".parse().unwrap());
        let text =
            |name: &&str| environment.get(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into());
        names.iter().map(text).collect()
    }

    #[test]
    fn a_request_has_the_names_of_rfc_3875() {
        let head = "POST /repo.git/a%20b%2Fc%00%zz?service=git&x=%41 HTTP/1.1\r\nHost: example.org:8443\r\n\
                    Content-Type: text/x\r\nContent-Length: 5\r\n\r\n";
        let cases = [
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("SERVER_SOFTWARE", concat!("fwatchdog/", env!("CARGO_PKG_VERSION"))),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_NAME", "example.org"),
            ("SERVER_PORT", "8443"),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("REQUEST_METHOD", "POST"),
            ("SCRIPT_NAME", ""),
            ("PATH_INFO", "/repo.git/a b%2Fc%00%zz"),
            ("QUERY_STRING", "service=git&x=%41"),
            ("REQUEST_URI", "/repo.git/a%20b%2Fc%00%zz?service=git&x=%41"),
            ("CONTENT_LENGTH", "5"),
            ("CONTENT_TYPE", "text/x"),
            ("REDIRECT_STATUS", "200"),
        ];
        let names = cases.map(|(name, _)| name);
        let got = variables(head, Length::Known(5), &names);
        assert_eq!(got, cases.map(|(_, value)| Some(value.to_owned())));
    }

    #[test]
    fn a_request_without_a_body_has_neither_length_nor_type() {
        let names = ["CONTENT_LENGTH", "CONTENT_TYPE", "QUERY_STRING", "SERVER_PROTOCOL", "PATH_INFO"];
        let text = |text: &str| Some(text.to_owned());
        let got = variables("GET / HTTP/1.0\r\n\r\n", Length::None, &names);
        assert_eq!(got, [None, None, text(""), text("HTTP/1.0"), text("/")]);
        let got = variables("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", Length::Unknown, &names);
        assert_eq!(got, [None, None, text(""), text("HTTP/1.1"), None]);
    }

    #[test]
    fn the_host_is_a_name_and_a_port() {
        let cases = [
            ("h", ("h", "80")),
            ("h:1", ("h", "1")),
            ("h:", ("h", "80")),
            ("[::1]", ("[::1]", "80")),
            ("[::1]:81", ("[::1]", "81")),
            ("", ("", "80")),
        ];
        for (value, (name, port)) in cases {
            assert_eq!(host(value.as_bytes()), (name.as_bytes(), port.as_bytes()), "{value}");
        }
    }

    #[test]
    fn some_fields_have_no_variable() {
        assert_eq!(field(b"Http_X_Forwarded_For").as_deref(), Some(&b"HTTP_X_FORWARDED_FOR"[..]));
        for name in [&b"Http_Proxy"[..], b"Http_Content_Type", b"Http_Content_Length"] {
            assert_eq!(field(name), None);
        }
    }
}
