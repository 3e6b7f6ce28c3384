//! The variables that tell a process about its request: `Http_Method`, `Http_Path` and so on, and one for
//! each header.

use http1::{Headers, Length, RequestHead};
use kit::sys::child::Environment;

use crate::cgi_meta;

/// What a header's variable begins with.
const PREFIX: &[u8] = b"Http_";

/// Variables that are not made from a header of that name, in the form of [`variable`]: those below, and
/// `Proxy`, which programs take for their own proxy setting (httpoxy, CVE-2016-5385).
const RESERVED: [&[u8]; 6] = [b"Method", b"Path", b"Query", b"Contentlength", b"Content_Length", b"Proxy"];

/// Whether the fields of a request are also there as the Common Gateway Interface names them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// `Http_Accept`.
    Own,
    /// `HTTP_ACCEPT` as well.
    OwnAndCgi,
}

/// Adds the variables of a request.
pub(crate) fn add(environment: &mut Environment, head: &RequestHead, length: Length, names: Names) {
    environment.set(b"Http_Method", &[head.method().as_bytes()]);
    environment.set(b"Http_Path", &[head.path()]);
    // One that fwatchdog was started with would be taken for the request's.
    environment.remove(b"Http_Query");
    if let Some(query) = head.query() {
        environment.set(b"Http_Query", &[query]);
    }
    let length = match length {
        Length::None => "0".to_owned(),
        Length::Known(length) => length.to_string(),
        Length::Unknown => "-1".to_owned(),
    };
    environment.set(b"Http_ContentLength", &[length.as_bytes()]);
    environment.set(b"Http_Content_Length", &[length.as_bytes()]);
    add_headers(environment, head.headers(), names);
}

/// Headers whose names differ only in case or in `-` and `_` have the same variable, and are one.
fn add_headers(environment: &mut Environment, headers: Headers<'_>, names: Names) {
    let mut variables: Vec<(Vec<u8>, Vec<&[u8]>)> = Vec::with_capacity(headers.len());
    for (name, value) in headers.iter() {
        let name = variable(name);
        if RESERVED.iter().any(|reserved| name[PREFIX.len()..] == **reserved) {
            continue;
        }
        match variables.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.extend([separator(&name), value]),
            None => variables.push((name, vec![value])),
        }
    }
    for (name, values) in variables {
        environment.set(&name, &values);
        if let (Names::OwnAndCgi, Some(name)) = (names, cgi_meta::field(&name)) {
            environment.set(&name, &values);
        }
    }
}

/// The text between two values of a repeated field. A list has commas; a cookie may hold a comma itself (RFC 9113
/// section 8.2.3).
fn separator(variable: &[u8]) -> &'static [u8] {
    if variable == b"Http_Cookie" { b"; " } else { b", " }
}

/// `x-forwarded-FOR` becomes `Http_X_Forwarded_For`, the name in the form in which people write it.
fn variable(header: &[u8]) -> Vec<u8> {
    let mut name = PREFIX.to_vec();
    for byte in header {
        let begins_word = name.last() == Some(&b'_');
        name.push(match byte {
            b'-' | b'_' => b'_',
            letter if begins_word => letter.to_ascii_uppercase(),
            letter => letter.to_ascii_lowercase(),
        });
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(head: &str, length: Length) -> Environment {
        let mut environment = Environment::default();
        environment.set(b"Http_Query", &[b"stale"]);
        environment.set(b"Http_Host", &[b"stale"]);
        let head = RequestHead::parse(head.as_bytes().to_vec(), 128).unwrap();
        add(&mut environment, &head, length, Names::OwnAndCgi);
        environment
    }

    fn check(environment: &Environment, cases: &[(&str, Option<&str>)]) {
        for (name, want) in cases {
            let got = environment.get(name.as_bytes()).map(String::from_utf8_lossy);
            assert_eq!(got.as_deref(), *want, "{name}");
        }
    }

    #[test]
    fn the_request_line_and_headers_become_variables() {
        let head = "POST /a%20b/c?x=1&y=?2 HTTP/1.1\r\nHost: h:8080\r\nx-forwarded-FOR: 1\r\n\
                    X_Forwarded_For: 2\r\nAccept: a\r\naccept: b\r\nContent-Length: 5\r\nX-Empty:\r\n\
                    Cookie: a=1; b=2\r\nCOOKIE: c=3\r\n\r\n";
        let cases = [
            ("Http_Method", Some("POST")),
            ("Http_Path", Some("/a%20b/c")),
            ("Http_Query", Some("x=1&y=?2")),
            ("Http_ContentLength", Some("5")),
            ("Http_Content_Length", Some("5")),
            ("Http_Host", Some("h:8080")),
            ("Http_X_Forwarded_For", Some("1, 2")),
            ("Http_Accept", Some("a, b")),
            ("Http_X_Empty", Some("")),
            ("Http_Cookie", Some("a=1; b=2; c=3")),
            ("HTTP_COOKIE", Some("a=1; b=2; c=3")),
            ("HTTP_X_FORWARDED_FOR", Some("1, 2")),
            ("HTTP_CONTENT_LENGTH", None),
        ];
        check(&environment(head, Length::Known(5)), &cases);
    }

    #[test]
    fn nothing_can_be_forged_or_slipped_in() {
        let head = "GET /p HTTP/1.1\r\nHost: h\r\nProxy: evil\r\nPROXY: evil\r\nMethod: X\r\nPath: X\r\n\
                    Query: X\r\nContentLength: 9\r\nContent_Length: 9\r\n\r\n";
        let cases = [
            ("Http_Proxy", None),
            ("HTTP_PROXY", None),
            ("Http_Method", Some("GET")),
            ("Http_Path", Some("/p")),
            ("Http_Query", None),
            ("Http_ContentLength", Some("0")),
            ("Http_Content_Length", Some("0")),
            ("Http_Contentlength", None),
        ];
        check(&environment(head, Length::None), &cases);
    }

    #[test]
    fn an_unknown_length_is_minus_one() {
        let head = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&environment(head, Length::Unknown), &[("Http_ContentLength", Some("-1"))]);
    }
}
