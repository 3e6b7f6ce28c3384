//! The variables that tell a process about its request: `Http_Method`, `Http_Path` and so on, and one for each header.

use http1::writer::is_hop_by_hop;
use http1::{Headers, Length, RequestHead};
use kit::number::Backwards;
use kit::sys::child::Environment;

use super::meta;

/// The start of each variable of a header.
const PREFIX: &[u8] = b"Http_";

/// The rest of variables that no header may set: [`add`] sets them, or programs take them for their own proxy setting
/// (httpoxy, CVE-2016-5385).
const RESERVED: [&[u8]; 6] = [b"Method", b"Path", b"Query", b"Contentlength", b"Content_Length", b"Proxy"];

/// The variables that [`add`] sets besides those of headers, and their bytes without those of the head.
const OWN_VARIABLES: usize = 5;
const OWN_BYTES: usize = 160;

/// Room on the stack for the name of most variables.
const USUAL_NAME_BYTES: usize = 64;

/// Which variables the headers of a request become.
#[derive(Clone, Copy)]
pub(crate) struct Names {
    /// `HTTP_ACCEPT`, as the Common Gateway Interface has it, beside `Http_Accept`.
    pub(crate) are_cgi_too: bool,
    /// Headers with `_` in their names become variables too.
    pub(crate) underscores: bool,
}

/// Adds the variables of a request.
pub(crate) fn add(environment: &mut Environment, head: &RequestHead, length: Length, names: Names) {
    environment.set(b"Http_Method", &[head.method().as_bytes()]);
    environment.set(b"Http_Path", &[head.path()]);
    // A program would take an inherited one for the request's.
    environment.remove(b"Http_Query");
    if let Some(query) = head.query() {
        environment.set(b"Http_Query", &[query]);
    }
    let mut digits = Backwards::default();
    let length = match length {
        Length::None => b"0",
        Length::Known(length) => digits.decimal(length, 1).text(),
        Length::Unknown => b"-1",
    };
    environment.set(b"Http_ContentLength", &[length]);
    environment.set(b"Http_Content_Length", &[length]);
    add_headers(environment, head.headers(), names);
}

/// The variables that [`add`] sets at most, and their bytes.
pub(crate) fn room(head: &RequestHead, names: Names) -> (usize, usize) {
    let fields = head.headers().len();
    let (variables, bytes) = (fields + OWN_VARIABLES, head.size() + fields * PREFIX.len() + OWN_BYTES);
    if names.are_cgi_too { (2 * variables, 2 * bytes) } else { (variables, bytes) }
}

/// Adds the variables of headers. The values of headers with the same variable are joined.
fn add_headers(environment: &mut Environment, headers: Headers<'_>, names: Names) {
    let (mut usual, mut long) = ([0; USUAL_NAME_BYTES], Vec::new());
    for (header, value) in headers.iter() {
        let size = PREFIX.len() + header.len();
        let name = match usual.get_mut(..size) {
            Some(name) => name,
            None => {
                long.resize(size, 0);
                &mut long[..]
            }
        };
        if !write_variable(header, names, name) || RESERVED.contains(&&name[PREFIX.len()..]) {
            continue;
        }
        environment.add(name, separator(name), value);
        if names.are_cgi_too
            && let Some(cgi_name) = meta::field(name)
        {
            environment.add(&cgi_name, separator(name), value);
        }
    }
}

/// The text between two values of a repeated field. A list has commas; a cookie may hold a comma itself (RFC 9113
/// section 8.2.3).
fn separator(variable: &[u8]) -> &'static [u8] {
    if variable == b"Http_Cookie" { b"; " } else { b", " }
}

/// Fills `name` with the variable of a header: `Http_X_Forwarded_For` for `x-forwarded-FOR`. False for a header that
/// becomes no variable. Names have letters, digits and `-` alone: a program that turns more than `-` into `_` cannot
/// take one header for another.
fn write_variable(header: &[u8], names: Names, name: &mut [u8]) -> bool {
    let (prefix, rest) = name.split_at_mut(PREFIX.len());
    prefix.copy_from_slice(PREFIX);
    let mut begins_word = true;
    for (byte, out) in header.iter().zip(rest) {
        *out = match byte {
            b'-' => b'_',
            b'_' if names.underscores && !is_hop_by_hop(header) => b'_',
            letter if !letter.is_ascii_alphanumeric() => return false,
            letter if begins_word => letter.to_ascii_uppercase(),
            letter => letter.to_ascii_lowercase(),
        };
        begins_word = *out == b'_';
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Names = Names { are_cgi_too: true, underscores: true };
    const USUAL: Names = Names { are_cgi_too: true, underscores: false };

    fn environment(head: &str, length: Length, names: Names) -> Environment {
        let mut inherited = Environment::default();
        inherited.set(b"Http_Query", &[b"stale"]);
        inherited.set(b"Http_Host", &[b"stale"]);
        let mut environment = Environment::default();
        environment.copy(&inherited, 0, 0);
        let head = RequestHead::parse(head.as_bytes().to_vec(), 128).unwrap();
        add(&mut environment, &head, length, names);
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
                    X-FORWARDED-For: 2\r\nAccept: a\r\naccept: b\r\nContent-Length: 5\r\nX-Empty:\r\n\
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
        check(&environment(head, Length::Known(5), USUAL), &cases);
    }

    #[test]
    fn no_header_sets_a_reserved_variable() {
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
        for names in [USUAL, ALL] {
            check(&environment(head, Length::None, names), &cases);
        }
    }

    #[test]
    fn no_header_can_be_taken_for_another_one() {
        let head = "GET / HTTP/1.1\r\nHost: h\r\nX-Auth-User: me\r\nX-Auth_User: you\r\nX.Auth.User: you\r\n\
                    X!Auth: you\r\nX_Other: 1\r\nX-1: 1\r\nContent_Type: x\r\nTransfer_Encoding: chunked\r\n\r\n";
        let cases = [
            ("Http_X_Auth_User", [Some("me"), Some("me, you")]),
            ("HTTP_X_AUTH_USER", [Some("me"), Some("me, you")]),
            ("Http_X.auth.user", [None, None]),
            ("Http_X!auth", [None, None]),
            ("Http_X_Other", [None, Some("1")]),
            ("Http_X_1", [Some("1"), Some("1")]),
            ("Http_Content_Type", [None, Some("x")]),
            ("HTTP_CONTENT_TYPE", [None, None]),
            ("Http_Transfer_Encoding", [None, None]),
        ];
        let [usual, all] = [USUAL, ALL].map(|names| environment(head, Length::None, names));
        for (name, [want, want_of_all]) in cases {
            check(&usual, &[(name, want)]);
            check(&all, &[(name, want_of_all)]);
        }
    }

    #[test]
    fn an_unknown_length_is_minus_one() {
        let head = "PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
        check(&environment(head, Length::Unknown, USUAL), &[("Http_ContentLength", Some("-1"))]);
    }
}
