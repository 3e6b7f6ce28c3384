use super::*;

const REQUEST: &[u8] =
    b"\r\nPOST /a/b?c=d HTTP/1.1\r\nHost: x\r\nX-A: 1\r\nx-a:  2 \r\nContent-Length: 5\r\n\r\n";

fn request(text: &str) -> Result<RequestHead, Refusal> {
    RequestHead::parse(text.as_bytes().to_vec(), 128)
}

fn response(text: &str) -> Result<ResponseHead, Refusal> {
    ResponseHead::parse(text.as_bytes().to_vec(), 128, false)
}

#[test]
fn a_heads_end_is_found_in_every_split_and_in_no_prefix() {
    for end in 0..REQUEST.len() {
        assert_eq!(Scan::default().end(&REQUEST[..end]), None, "prefix of {end}");
    }
    let with_body = [REQUEST, b"hello"].concat();
    for first in 0..REQUEST.len() {
        for second in first..REQUEST.len() {
            let mut scan = Scan::default();
            assert_eq!(scan.end(&with_body[..first]), None);
            assert_eq!(scan.end(&with_body[..second]), None);
            assert_eq!(scan.end(&with_body), Some(REQUEST.len()), "split at {first} and {second}");
        }
    }
    for size in 1..REQUEST.len() {
        let mut scan = Scan::default();
        let ends: Vec<_> =
            (size..with_body.len()).step_by(size).map(|end| scan.end(&with_body[..end])).collect();
        assert!(ends.iter().all(|end| end.is_none_or(|end| end == REQUEST.len())), "{size}");
    }
}

#[test]
fn bare_line_feeds_end_lines() {
    let head = b"GET / HTTP/1.1\nHost: x\n\n";
    assert_eq!(Scan::default().end(head), Some(head.len()));
    assert_eq!(Scan::default().end(b"GET / HTTP/1.1\nHost: x\n\r\nrest"), Some(25));
    assert_eq!(RequestHead::parse(head.to_vec(), 128).unwrap().headers().get("host"), Some(&b"x"[..]));
}

#[test]
fn a_request_is_read_as_it_is() {
    let head = RequestHead::parse(REQUEST.to_vec(), 128).unwrap();
    assert_eq!((head.method(), head.path(), head.query()), ("POST", &b"/a/b"[..], Some(&b"c=d"[..])));
    assert_eq!(head.target(), b"/a/b?c=d");
    assert_eq!(head.version(), Version::Http11);
    assert_eq!(head.headers().get_all("X-A").collect::<Vec<_>>(), [&b"1"[..], b"2"]);
    assert_eq!(head.headers().iter().last(), Some((&b"Content-Length"[..], &b"5"[..])));
    assert_eq!(head.framing(), Framing::Length(5));
    assert!(head.keeps_alive() && !head.expects_continue() && head.headers().len() == 4);
}

#[test]
fn every_truncation_and_every_changed_byte_is_read_or_refused_without_a_panic() {
    for end in 0..REQUEST.len() {
        let cut = [&REQUEST[..end], b"\r\n\r\n"].concat();
        drop(RequestHead::parse(cut, 128));
        for byte in 0..=255 {
            let mut changed = REQUEST.to_vec();
            changed[end] = byte;
            if let Ok(head) = RequestHead::parse(changed, 128) {
                assert!(!head.method().is_empty() && head.headers().iter().all(|(name, _)| !name.is_empty()));
            }
        }
    }
}

#[test]
fn targets_are_paths() {
    let cases = [
        ("GET", "/", Ok("/")),
        ("GET", "http://x", Ok("/")),
        ("GET", "HTTP://x:80/a?b", Ok("/a?b")),
        ("GET", "https://x/", Ok("/")),
        ("OPTIONS", "*", Ok("*")),
        ("GET", "*", Err(Refusal::Target)),
        ("GET", "a/b", Err(Refusal::Target)),
        ("GET", "ftp://x/", Err(Refusal::Target)),
        ("GET", "http://", Err(Refusal::Target)),
        ("GET", "http:///a", Err(Refusal::Target)),
        ("GET", "http://x?a", Err(Refusal::Target)),
        ("GET", "http://[::1]:80/a", Ok("/a")),
        ("GET", "http://:80/", Err(Refusal::Target)),
        ("GET", "http://u@x/", Err(Refusal::Target)),
        ("GET", "http://x#y", Err(Refusal::Target)),
        ("GET", "http://x/#y", Err(Refusal::Target)),
        ("GET", "/#", Err(Refusal::Target)),
        ("GET", "/a#b", Err(Refusal::Target)),
        ("GET", "/a?b#c", Err(Refusal::Target)),
        ("GET", "/a%23b", Ok("/a%23b")),
        ("GET", "http://x%2f/a", Err(Refusal::Target)),
        ("GET", "http://./a", Err(Refusal::Target)),
        ("GET", "http://x../a", Err(Refusal::Target)),
        ("GET", "http://x:99999/a", Err(Refusal::Target)),
        ("GET", "http://func_catservice.:65535/a", Ok("/a")),
        ("GET", "http://x:y/", Err(Refusal::Target)),
        ("CONNECT", "x:80", Err(Refusal::Target)),
    ];
    for (method, target, want) in cases {
        let head = request(&format!("{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let got = head.as_ref().map(|head| std::str::from_utf8(head.target()).unwrap());
        assert_eq!(got.map_err(|refusal| *refusal), want, "{method} {target}");
    }
}

#[test]
fn nobody_changes_to_another_version_of_http() {
    let upgrade = |fields: &str| {
        let head =
            request(&format!("GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{fields}\r\n")).unwrap();
        head.upgrade().map(|protocol| String::from_utf8(protocol.to_vec()).unwrap())
    };
    for none in [
        "h2c",
        "H2C",
        "h2c/1",
        "h2c/2.0",
        "h2",
        "h2c-14",
        "HTTP/2.0",
        "http",
        "websocket, h2c",
        "h2c/1,websocket",
        " , h2c",
        "websocket\r\nUpgrade: h2c/1",
        "",
    ] {
        assert_eq!(upgrade(&format!("Upgrade: {none}\r\n")), None, "{none}");
    }
    for some in ["websocket", "WebSocket/13", "echo", "x-h2c", "httpx", "websocket, echo/h2c"] {
        assert_eq!(upgrade(&format!("Upgrade: {some}\r\n")).as_deref(), Some(some));
    }
}

#[test]
fn the_host_of_an_absolute_target_counts() {
    let cases = [
        ("http://a:1/x", "HTTP/1.1", "hOST: b", Some("a:1")),
        ("HTTPS://a", "HTTP/1.1", "Host:", Some("a")),
        ("http://a/x", "HTTP/1.0", "Host: b", Some("a")),
        ("http://a/x", "HTTP/1.0", "A: b", None),
        ("/http://a/x", "HTTP/1.1", "Host: b", Some("b")),
    ];
    for (target, version, field, want) in cases {
        let head = request(&format!("GET {target} {version}\r\nX: x\r\n{field}\r\n\r\n")).unwrap();
        assert_eq!(head.headers().get("host"), want.map(str::as_bytes), "{target} and {field}");
        assert_eq!(head.headers().len(), 2);
    }
}

#[test]
fn refused_requests_say_why() {
    let long_method = format!("{} / HTTP/1.1\r\nHost: x\r\n\r\n", "M".repeat(MAX_METHOD_BYTES + 1));
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(MAX_TARGET_BYTES));
    let cases = [
        (long_method.as_str(), Refusal::Method),
        (long_target.as_str(), Refusal::TargetTooLong),
        ("G@T / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::Method),
        (" GET / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::Method),
        ("\x16\x03\x01\n\n", Refusal::Tls),
        ("GET\r\nHost: x\r\n\r\n", Refusal::RequestLine),
        ("GET /\r\nHost: x\r\n\r\n", Refusal::RequestLine),
        ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::RequestLine),
        ("GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::RequestLine),
        ("GET / http/1.1\r\nHost: x\r\n\r\n", Refusal::RequestLine),
        ("GET / HTTP/1.1 \r\nHost: x\r\n\r\n", Refusal::RequestLine),
        ("GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::TargetBytes),
        ("GET /a\tb HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::TargetBytes),
        ("GET /\x7f HTTP/1.1\r\nHost: x\r\n\r\n", Refusal::TargetBytes),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", Refusal::Version),
        ("GET / HTTP/1.2\r\nHost: x\r\n\r\n", Refusal::Version),
        ("PRI * HTTP/2.0\r\n\r\n", Refusal::Version),
        ("GET / HTTP/1.1\r\nHost: x\r\n a\r\n\r\n", Refusal::ObsFold),
        ("GET / HTTP/1.1\r\n Host: x\r\n\r\n", Refusal::ObsFold),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", Refusal::SpaceBeforeColon),
        ("GET / HTTP/1.1\r\nHost\t: x\r\n\r\n", Refusal::SpaceBeforeColon),
        ("GET / HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n", Refusal::HeaderName),
        ("GET / HTTP/1.1\r\nHost: x\r\n: c\r\n\r\n", Refusal::HeaderName),
        ("GET / HTTP/1.1\r\nHost: x\r\nnothing\r\n\r\n", Refusal::HeaderName),
        ("GET / HTTP/1.1\r\nHost: x\r\nA\0: c\r\n\r\n", Refusal::HeaderName),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\0\r\n\r\n", Refusal::HeaderValue),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n", Refusal::HeaderValue),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: \x1b\r\n\r\n", Refusal::HeaderValue),
        ("GET / HTTP/1.1\r\nHost: x\r\nA: \x7f\r\n\r\n", Refusal::HeaderValue),
        ("GET / HTTP/1.1\r\n\r\n", Refusal::HostMissing),
        ("GET / HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", Refusal::HostRepeated),
        ("GET / HTTP/1.0\r\nHost: x\r\nhost: x\r\n\r\n", Refusal::HostRepeated),
        ("GET / HTTP/1.0\r\nHost: x/y\r\n\r\n", Refusal::HostInvalid),
    ];
    for (text, want) in cases {
        assert_eq!(request(text).map(|_| ()), Err(want), "{text:?}");
    }
    assert!(request("GET / HTTP/1.0\r\n\r\n").is_ok(), "HTTP/1.0 needs no host");
}

/// Whatever byte is wrong, the refusal is about the part of the head in which it is.
#[test]
fn a_wrong_byte_is_blamed_on_the_part_that_has_it() {
    let parse = |before: &str, byte: u8, after: &str| {
        RequestHead::parse([before.as_bytes(), &[byte], after.as_bytes()].concat(), 128).err()
    };
    for byte in 0..=255 {
        let in_method = parse("G", byte, "T / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(matches!(in_method, None | Some(Refusal::Method | Refusal::RequestLine)), "{byte:#x}");
        let in_target = parse("GET /", byte, "x HTTP/1.1\r\nHost: x\r\n\r\n");
        let is_blamed = match byte {
            b' ' | b'\n' => in_target == Some(Refusal::RequestLine),
            b'#' => in_target == Some(Refusal::Target),
            0..0x20 | 0x7f.. => in_target == Some(Refusal::TargetBytes),
            _ => in_target.is_none(),
        };
        assert!(is_blamed, "{byte:#x}: {in_target:?}");
        let in_value = parse("GET / HTTP/1.1\r\nHost: x\r\nA: ", byte, "x\r\n\r\n");
        let is_blamed = match byte {
            b'\n' => in_value == Some(Refusal::HeaderName),
            b'\t' | 0x80.. => in_value.is_none(),
            0..0x20 | 0x7f => in_value == Some(Refusal::HeaderValue),
            _ => in_value.is_none(),
        };
        assert!(is_blamed, "{byte:#x}: {in_value:?}");
    }
}

#[test]
fn a_host_is_a_name_or_an_address_with_an_optional_port() {
    let hosts = [
        "",
        "x",
        "x:80",
        "x:",
        ":80",
        "func_catservice:8080",
        "a-b.c_d.",
        "1.2.3",
        "10.0.0.1:8080",
        "xn--4ca",
        "-",
        "[::1]",
        "[::1]:",
        "[2001:DB8::192.0.2.7]:80",
        "x:0",
        "x:00080",
        "x:65535",
    ];
    for host in hosts {
        assert!(request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).is_ok(), "{host}");
    }
    let longest = "h".repeat(MAX_HOST_BYTES);
    assert!(request(&format!("GET / HTTP/1.1\r\nHost: {longest}\r\n\r\n")).is_ok());
    assert!(request(&format!("GET http://{longest}/ HTTP/1.1\r\nHost: x\r\n\r\n")).is_ok());
    let too_long = longest + "h";
    let none = [
        &*too_long,
        "x y",
        "x, y",
        "x,y",
        "x/",
        "x?",
        "x#",
        "http://x",
        "u@x",
        "x\\y",
        "\"x\"",
        "ä",
        "{x}",
        "x%2f",
        "x%41",
        "x~",
        "x;y",
        "$x",
        "(x)",
        ".",
        "..",
        ".x",
        "x..",
        "x..y",
        ".:80",
        "x:8a",
        "x:-1",
        "x:+1",
        "x:1:2",
        "x:65536",
        "x:99999",
        "x:000080",
        "x:18446744073709551617",
        "[::1",
        "[]",
        "[::1]x",
        "[::1]:x",
        "[::1]:99999",
        "::1",
        "[a[b]]",
        "[::1%25eth0]",
        "[::1%eth0]",
        "[1.2.3.4]",
        "[v1.x]",
        "[:]",
        "[::1]]",
        "]",
    ];
    for host in none {
        let refused = request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).map(|_| ());
        assert_eq!(refused, Err(Refusal::HostInvalid), "{host}");
    }
}

#[test]
fn framing_is_strict() {
    let most = format!("Content-Length: {MAX_LENGTH}");
    let more = format!("Content-Length: {}", MAX_LENGTH + 1);
    let cases = [
        ("A: b", Ok(Framing::Empty)),
        ("Content-Length: 0", Ok(Framing::Empty)),
        ("Content-Length: 7\r\nContent-Length: 7", Ok(Framing::Length(7))),
        (most.as_str(), Ok(Framing::Length(MAX_LENGTH))),
        (more.as_str(), Err(Refusal::BodyTooLarge)),
        ("Content-Length: 18446744073709551615", Err(Refusal::BodyTooLarge)),
        ("Content-Length: 18446744073709551616", Err(Refusal::BodyTooLarge)),
        ("Content-Length: 7\r\nContent-Length: 8", Err(Refusal::ContentLength)),
        ("Content-Length: 7, 7", Err(Refusal::ContentLength)),
        ("Content-Length: +5", Err(Refusal::ContentLength)),
        ("Content-Length: -5", Err(Refusal::ContentLength)),
        ("Content-Length: 5 5", Err(Refusal::ContentLength)),
        ("Content-Length: 0x5", Err(Refusal::ContentLength)),
        ("Content-Length:", Err(Refusal::ContentLength)),
        ("Content-Length: 99999999999999999999999", Err(Refusal::BodyTooLarge)),
        ("Content-Length: 7\r\nContent-Length: 9223372036854775808", Err(Refusal::BodyTooLarge)),
        ("Transfer-Encoding: Chunked", Ok(Framing::Chunked)),
        ("Transfer-Encoding: gzip, chunked", Err(Refusal::TransferEncoding)),
        ("Transfer-Encoding: chunked, chunked", Err(Refusal::TransferEncoding)),
        ("Transfer-Encoding: xchunked", Err(Refusal::TransferEncoding)),
        ("Transfer-Encoding: identity", Err(Refusal::TransferEncoding)),
        ("Transfer-Encoding:", Err(Refusal::TransferEncoding)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Err(Refusal::TransferEncoding)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", Err(Refusal::LengthAndChunked)),
    ];
    for (fields, want) in cases {
        let head = request(&format!("POST / HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n"));
        assert_eq!(head.map(|head| head.framing()), want, "{fields}");
        let want = want.map(|framing| if fields == "A: b" { Framing::UntilClose } else { framing });
        let head = response(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
        assert_eq!(head.map(|head| head.framing()), want, "response with {fields}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(request(old).map(|_| ()), Err(Refusal::ChunkedHttp10));
    let old = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(response(old).map(|_| ()), Err(Refusal::ChunkedHttp10));
}

#[test]
fn the_number_of_fields_has_a_limit() {
    let head = |count: usize| {
        let fields: String = (1..count).map(|i| format!("A{i}: b\r\n")).collect();
        request(&format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n")).map(|head| head.headers().len())
    };
    assert_eq!(head(128), Ok(128));
    assert_eq!(head(129), Err(Refusal::TooManyHeaders));
    let long = format!("{} / HTTP/1.1\r\nHost: x\r\n\r\n", "M".repeat(MAX_METHOD_BYTES));
    assert_eq!(request(&long).map(|head| head.method().len()), Ok(MAX_METHOD_BYTES));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(MAX_TARGET_BYTES - 1));
    assert_eq!(request(&long).map(|head| head.target().len()), Ok(MAX_TARGET_BYTES));
}

#[test]
fn responses_are_read_or_refused() {
    let ok = response("HTTP/1.1 404 Not ä Found\r\nA: b\r\nContent-Length: 3\r\n\r\n").unwrap();
    assert_eq!(
        (ok.status(), ok.headers().get("a"), ok.framing()),
        (404, Some(&b"b"[..]), Framing::Length(3))
    );
    assert!(response("HTTP/1.1 200\r\n\r\n").is_ok(), "a phrase is not needed");
    let cases = [
        ("HTTP/1.1 20 OK\r\n\r\n", Refusal::RequestLine),
        ("HTTP/1.1 099 OK\r\n\r\n", Refusal::RequestLine),
        ("HTTP/1.1 600 OK\r\n\r\n", Refusal::RequestLine),
        ("HTTP/1.1 2000 OK\r\n\r\n", Refusal::RequestLine),
        ("HTTP/2.0 200 OK\r\n\r\n", Refusal::Version),
        ("hello\r\n\r\n", Refusal::RequestLine),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Refusal::SpaceBeforeColon),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Refusal::ObsFold),
        ("HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", Refusal::HeaderValue),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Refusal::RequestLine),
        ("\nHTTP/1.1 200 OK\r\n\r\n", Refusal::RequestLine),
    ];
    for (text, want) in cases {
        assert_eq!(response(text).map(|_| ()), Err(want), "{text:?}");
    }
}

#[test]
fn some_responses_have_no_body_whatever_they_say() {
    let parse = |text: &str, to_head| {
        ResponseHead::parse(text.as_bytes().to_vec(), 128, to_head).map(|head| head.framing())
    };
    for status in ["204", "304", "100"] {
        let text = format!("HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(parse(&text, false), Ok(Framing::Empty));
    }
    assert_eq!(parse("HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n", true), Ok(Framing::Empty));
    assert_eq!(parse("HTTP/1.1 200 X\r\n\r\n", false), Ok(Framing::UntilClose));
}

#[test]
fn connections_are_kept_as_their_version_says() {
    let keeps = |version: &str, fields: &str| {
        request(&format!("GET / {version}\r\nHost: x\r\n{fields}\r\n")).unwrap().keeps_alive()
    };
    assert!(keeps("HTTP/1.1", ""));
    assert!(!keeps("HTTP/1.1", "Connection: x, Close\r\n"));
    assert!(!keeps("HTTP/1.0", ""));
    assert!(keeps("HTTP/1.0", "Connection: keep-alive\r\n"));
    assert!(!keeps("HTTP/1.0", "Connection: keep-alive, close\r\n"));
}
