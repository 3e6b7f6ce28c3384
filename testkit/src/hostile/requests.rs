//! The requests: each line of what both servers refuse, both sides of each limit, and ([`odd`]) the
//! forms that they must take.

use super::{
    Expect, Heads, MAX_EXTENSION_BYTES, MAX_METHOD_BYTES, MAX_TARGET_BYTES, MAX_TRAILER_BYTES, Row, odd,
};
use crate::http::chunked;

/// Collects rows for one path.
pub(super) struct Table<'a> {
    pub(super) path: &'a str,
    pub(super) rows: Vec<Row>,
}

/// The whole table. `path` names something that serves every method; a server without
/// `max_body` is expected, and with these limits of heads.
#[must_use]
pub fn requests(path: &str, heads: Heads) -> Vec<Row> {
    let mut table = Table { path, rows: vec![] };
    first_lines(&mut table);
    targets(&mut table);
    header_lines(&mut table);
    hosts(&mut table);
    lengths(&mut table);
    encodings(&mut table);
    chunks(&mut table);
    trailers(&mut table);
    limits(&mut table, heads);
    cut(&mut table);
    odd::add(&mut table);
    table.rows
}

/// Bodies on both sides of a `max_body` of `max` bytes, with and without a length.
#[must_use]
pub fn body_limits(path: &str, max: usize) -> Vec<Row> {
    let mut table = Table { path, rows: vec![] };
    let (full, over) = (vec![b'x'; max], vec![b'x'; max + 1]);
    let too_large = Expect::Refused { status: TOO_LARGE.0, reason: TOO_LARGE.1 };
    for (body, expect) in [(&full, Expect::Served(1)), (&over, too_large)] {
        let length = format!("Connection: close\r\nContent-Length: {}", body.len());
        table.add("body limit, length", table.post(&length, body), expect);
        let framed = [&chunked(body)[..], b"0\r\n\r\n"].concat();
        table.add(
            "body limit, chunked",
            table.post("Connection: close\r\nTransfer-Encoding: chunked", &framed),
            expect,
        );
    }
    for row in &mut table.rows {
        row.body.clone_from(&full);
    }
    // A length that is over the limit is refused before any of the body is there.
    for over in [max as u64 + 1, i64::MAX as u64, 1 << 63, u64::MAX] {
        let bytes = table.post(&format!("Content-Length: {over}"), b"");
        table.add(&format!("body limit, announced {over}"), bytes, too_large);
        let bytes = table.chunked(format!("{over:x}\r\n"));
        table.add(&format!("body limit, announced {over} by a chunk"), bytes, too_large);
        let bytes = table.chunked(format!("1\r\nx\r\n{:x}\r\n", over - 1));
        table.add(&format!("body limit, announced {over} by two chunks"), bytes, too_large);
    }
    table.rows
}

/// The answer to a body that is over a limit.
const TOO_LARGE: (u16, Option<&str>) = (413, Some("body_too_large"));

impl Table<'_> {
    fn add(&mut self, name: &str, bytes: Vec<u8>, expect: Expect) {
        self.rows.push(Row { name: name.to_owned(), bytes, expect, body: vec![] });
    }

    /// A row that is refused with 400.
    fn bad(&mut self, name: &str, reason: &'static str, bytes: impl AsRef<[u8]>) {
        self.refused(name, (400, Some(reason)), bytes);
    }

    /// A refused row, with a well-formed request behind it that must never be answered.
    fn refused(
        &mut self,
        name: &str,
        (status, reason): (u16, Option<&'static str>),
        bytes: impl AsRef<[u8]>,
    ) {
        let canary = format!("GET {} HTTP/1.1\r\nHost: canary\r\nConnection: close\r\n\r\n", self.path);
        let bytes = [bytes.as_ref(), canary.as_bytes()].concat();
        self.add(name, bytes, Expect::Refused { status, reason });
    }

    pub(super) fn served(&mut self, name: &str, bytes: impl AsRef<[u8]>, body: &[u8]) {
        self.add(name, bytes.as_ref().to_vec(), Expect::Served(1));
        if let Some(row) = self.rows.last_mut() {
            row.body = body.to_vec();
        }
    }

    /// A POST with header lines and what follows the head.
    pub(super) fn post(&self, fields: &str, rest: &[u8]) -> Vec<u8> {
        let head = format!("POST {} HTTP/1.1\r\nHost: hostile.test\r\n{fields}\r\n\r\n", self.path);
        [head.as_bytes(), rest].concat()
    }

    /// A POST with header lines of any bytes.
    pub(super) fn post_bytes(&self, fields: &[u8], rest: &[u8]) -> Vec<u8> {
        let head = format!("POST {} HTTP/1.1\r\nHost: hostile.test\r\n", self.path);
        [head.as_bytes(), fields, b"\r\n\r\n", rest].concat()
    }

    /// A chunked POST; `rest` is the framed body.
    fn chunked(&self, rest: impl AsRef<[u8]>) -> Vec<u8> {
        self.post("Transfer-Encoding: chunked", rest.as_ref())
    }
}

fn first_lines(table: &mut Table<'_>) {
    let path = table.path;
    let bad = [
        ("no version", "request_line", format!("GET {path}")),
        ("two spaces", "request_line", format!("GET  {path} HTTP/1.1")),
        ("space at the end", "request_line", format!("GET {path} HTTP/1.1 ")),
        ("a word too many", "request_line", format!("GET {path} b HTTP/1.1")),
        ("lower-case version", "request_line", format!("GET {path} http/1.1")),
        ("version with two digits", "request_line", format!("GET {path} HTTP/1.10")),
        ("version without its end", "request_line", format!("GET {path} HTTP/1.")),
        ("another protocol", "request_line", format!("GET {path} ICY/1.1")),
        ("zero before the version", "request_line", format!("GET {path} HTTP/01.1")),
        ("zero within the version", "request_line", format!("GET {path} HTTP/1.01")),
        ("sign in the version", "request_line", format!("GET {path} HTTP/+1.1")),
        ("space in the version", "request_line", format!("GET {path} HTTP /1.1")),
        ("two requests in a line", "request_line", format!("GET {path} HTTP/1.1 GET {path} HTTP/1.1")),
        ("space before the method", "method", format!(" GET {path} HTTP/1.1")),
        ("no method", "method", format!(" {path} HTTP/1.1")),
        ("method with @", "method", format!("G@T {path} HTTP/1.1")),
        ("method with NUL", "method", format!("G\0T {path} HTTP/1.1")),
        ("method in quotes", "method", format!("\"GET\" {path} HTTP/1.1")),
    ];
    for (name, reason, line) in bad {
        table.bad(name, reason, format!("{line}\r\nHost: x\r\n\r\n"));
    }
    for version in ["1.2", "1.9", "0.9", "2.0", "3.0"] {
        let bytes = format!("GET {path} HTTP/{version}\r\nHost: x\r\n\r\n");
        table.refused(&format!("version {version}"), (505, Some("version")), bytes);
    }
    table.refused("preface of HTTP/2", (505, Some("version")), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // What separates words, and ends lines, must be what it should be; any of several names is right.
    table.refused("tab for a space", (400, None), format!("GET\t{path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    table.refused("tab behind the version", (400, None), format!("GET {path} HTTP/1.1\t\r\nHost: x\r\n\r\n"));
    table.refused("CR for the end of a line", (400, None), format!("GET {path} HTTP/1.1\rHost: x\r\n\r\n"));
    table.refused(
        "two CRs at the end of a line",
        (400, None),
        format!("GET {path} HTTP/1.1\r\r\nHost: x\r\n\r\n"),
    );
    table.refused(
        "CR for an empty line",
        (400, None),
        format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\r\n\r\n"),
    );
    table.refused("CR before the method", (400, None), format!("\rGET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    table.bad("TLS", "tls", b"\x16\x03\x01\x02\x00\x01\x00\n\n");
}

fn targets(table: &mut Table<'_>) {
    let path = table.path;
    let bad = [
        ("relative", "GET", "x".to_owned()),
        ("empty path after a query", "GET", "?x".to_owned()),
        ("star with GET", "GET", "*".to_owned()),
        ("authority", "CONNECT", "x.test:80".to_owned()),
        ("authority with GET", "GET", "x.test:80".to_owned()),
        ("CONNECT to a path", "CONNECT", path.to_owned()),
        ("another scheme", "GET", format!("ftp://x.test{path}")),
        ("no authority", "GET", format!("http://{path}")),
        ("scheme alone", "GET", "http://".to_owned()),
        ("port alone", "GET", format!("http://:80{path}")),
        ("a user", "GET", format!("http://u@x.test{path}")),
        ("a user and a password", "GET", format!("http://u:p@x.test{path}")),
        ("a fragment for a path", "GET", "http://x.test#x".to_owned()),
        ("a port that is none", "GET", format!("http://x.test:8a{path}")),
        ("a backslash for a path", "GET", format!("http://x.test\\{path}")),
        ("a fragment", "GET", format!("{path}#x")),
        ("a fragment behind a query", "GET", format!("{path}?x#y")),
        ("a fragment and no path", "GET", "#x".to_owned()),
        ("a fragment of an absolute one", "GET", format!("http://x.test{path}#x")),
        ("an escape in a host", "GET", format!("http://x%2f{path}")),
        ("a dot for a host", "GET", format!("http://.{path}")),
        ("a host with an empty label", "GET", format!("http://x..{path}")),
        ("a port over the limit", "GET", format!("http://x.test:99999{path}")),
        ("an address with a zone", "GET", format!("http://[::1%25lo]{path}")),
        ("scheme without slashes", "GET", format!("http:{path}")),
        ("backslashes", "GET", format!("\\\\x.test{path}")),
    ];
    for (name, method, target) in bad {
        let bytes = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        table.bad(&format!("target: {name}"), "target", bytes);
    }
    let bytes: [(&str, &[u8]); 9] = [
        ("NUL", b"\0"),
        ("control character", b"\x01x"),
        ("tab", b"\tx"),
        ("escape", b"\x1b[31m"),
        ("DEL", b"\x7f"),
        ("vertical tab", b"\x0bx"),
        ("form feed", b"\x0cx"),
        ("not UTF-8", b"\xff\xfe"),
        ("Latin-1", b"\xfc"),
    ];
    for (name, bytes) in bytes {
        let request = [b"GET ", path.as_bytes(), bytes, b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
        table.bad(&format!("target: {name}"), "target_bytes", request);
    }
    table.refused("target: CR", (400, None), format!("GET {path}\rx HTTP/1.1\r\nHost: x\r\n\r\n"));
}

fn header_lines(table: &mut Table<'_>) {
    let cases: [(&str, &str, &[u8]); 34] = [
        ("no colon", "header_name", b"name"),
        ("no name", "header_name", b": value"),
        ("space in a name", "header_name", b"na me: value"),
        ("NUL in a name", "header_name", b"na\0me: value"),
        ("control character in a name", "header_name", b"na\x01me: value"),
        ("CR in a name", "header_name", b"na\rme: value"),
        ("bracket in a name", "header_name", b"na(me: value"),
        ("high byte in a name", "header_name", b"na\xffme: value"),
        ("space before the colon", "space_before_colon", b"Name : value"),
        ("tab before the colon", "space_before_colon", b"Name\t: value"),
        ("space before the colon of a length", "space_before_colon", b"Content-Length : 5"),
        ("space before the colon of an encoding", "space_before_colon", b"Transfer-Encoding : chunked"),
        ("folded by a space", "obs_fold", b"Name: value\r\n more"),
        ("folded by a tab", "obs_fold", b"Name: value\r\n\tmore"),
        ("folded length", "obs_fold", b"Content-Length:\r\n 5"),
        ("folded to nothing", "obs_fold", b"Name: value\r\n "),
        ("NUL in a value", "header_value", b"Name: val\0ue"),
        ("CR in a value", "header_value", b"Name: val\rue"),
        ("control character in a value", "header_value", b"Name: val\x01ue"),
        ("escape in a value", "header_value", b"Name: \x1b[31m"),
        ("DEL in a value", "header_value", b"Name: val\x7fue"),
        ("vertical tab before a value", "header_value", b"Name: \x0bvalue"),
        ("form feed behind a value", "header_value", b"Name: value\x0c"),
        ("two CRs at the end of a value", "header_value", b"Name: value\r"),
        ("NUL at the end of a length", "header_value", b"Content-Length: 5\0"),
        ("vertical tab before a length", "header_value", b"Content-Length: \x0b5"),
        ("an encoding behind a CR", "header_value", b"Name: value\rTransfer-Encoding: chunked"),
        ("NUL in the name of an encoding", "header_name", b"Transfer-Encoding\0: chunked"),
        ("no-break space before the colon", "header_name", b"Transfer-Encoding\xc2\xa0: chunked"),
        ("folded encoding", "obs_fold", b"Transfer-Encoding:\r\n chunked"),
        ("encoding in a folded line", "obs_fold", b"Name: value\r\n Transfer-Encoding: chunked"),
        ("space before a name", "obs_fold", b"Name: value\r\n Content-Length: 5"),
        ("slash in a name", "header_name", b"na/me: value"),
        ("a request for a header", "header_name", b"GET / HTTP/1.1"),
    ];
    for (name, reason, fields) in cases {
        table.bad(name, reason, table.post_bytes(fields, b""));
    }
    let path = table.path;
    table.bad("folded first line", "obs_fold", format!("GET {path} HTTP/1.1\r\n Host: x\r\n\r\n"));
}

fn hosts(table: &mut Table<'_>) {
    let path = table.path;
    table.bad("no Host", "host_missing", format!("GET {path} HTTP/1.1\r\n\r\n"));
    table.bad("no Host, absolute target", "host_missing", format!("GET http://x{path} HTTP/1.1\r\n\r\n"));
    table.bad("two Hosts", "host_repeated", format!("GET {path} HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"));
    table.bad(
        "the same Host twice",
        "host_repeated",
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n"),
    );
    table.bad(
        "two Hosts under 1.0",
        "host_repeated",
        format!("GET {path} HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n"),
    );
    let values = [
        "x y",
        "x, y",
        "x/y",
        "x?y",
        "x#y",
        "u@x",
        "http://x",
        "x:8a",
        "x:1:2",
        "\"x\"",
        "\\x",
        "[::1",
        "ä",
        "x%2f",
        ".",
        "x..",
        ".x",
        "x..y",
        "x:65536",
        "x:99999",
        "x;y",
        "[::1%25lo]",
        "[x]",
    ];
    for value in values {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: {value}\r\n\r\n");
        table.bad(&format!("Host `{value}`"), "host_invalid", bytes);
    }
}

fn lengths(table: &mut Table<'_>) {
    let values = [
        "+5",
        "-5",
        "5 5",
        "5,5",
        "5, 5",
        "0x5",
        "",
        "5;",
        "5.0",
        "5e0",
        "1_0",
        "five",
        "\"5\"",
        "\u{665}",
        "5\u{a0}",
        "5 ;",
        ", 5",
        "5,",
        "5\t5",
        "5 chunked",
        "0b101",
    ];
    for value in values {
        let bytes = table.post(&format!("Content-Length: {value}"), b"hello");
        table.bad(&format!("Content-Length `{value}`"), "content_length", bytes);
    }
    for (first, second) in
        [("5", "6"), ("6", "5"), ("5", "+5"), ("5", ""), ("", "5"), ("5", "05, 5"), ("0", "5"), ("5", "5, 6")]
    {
        let bytes = table.post(&format!("Content-Length: {first}\r\ncontent-length: {second}"), b"hello!");
        table.bad(&format!("Content-Length `{first}` and `{second}`"), "content_length", bytes);
    }
    let both = [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: 0", "Transfer-Encoding: chunked"),
        ("content-length: x", "transfer-encoding: x"),
        ("Content-Length: 5", "Transfer-Encoding: identity"),
    ];
    for (length, encoding) in both {
        for fields in [format!("{length}\r\n{encoding}"), format!("{encoding}\r\n{length}")] {
            let bytes = table.post(&fields, b"0\r\n\r\n");
            table.bad(&fields.replace("\r\n", " and "), "length_and_chunked", bytes);
        }
    }
}

fn encodings(table: &mut Table<'_>) {
    let values = [
        "gzip",
        "identity",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, identity",
        "identity, chunked",
        "chunked identity",
        "chunked, chunked",
        "chunked,",
        ", chunked",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "\"chunked\"",
        "'chunked'",
        "chunked;",
        "chunked\u{a0}",
        "\u{a0}chunked",
        "chun\u{212a}ed",
        "trailers",
        "chu nked",
        "",
    ];
    for value in values {
        let bytes = table.post(&format!("Transfer-Encoding: {value}"), b"0\r\n\r\n");
        table.bad(&format!("Transfer-Encoding `{value}`"), "transfer_encoding", bytes);
    }
    let twice = table.post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n");
    table.bad("Transfer-Encoding twice", "transfer_encoding", twice);
    let twice = table.post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", b"0\r\n\r\n");
    table.bad("two Transfer-Encodings", "transfer_encoding", twice);
    let twice = table.post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", b"0\r\n\r\n");
    table.bad("two Transfer-Encodings, chunked last", "transfer_encoding", twice);
    let twice = table.post("Transfer-Encoding: chunked\r\nTransfer-Encoding:", b"0\r\n\r\n");
    table.bad("Transfer-Encoding and an empty one", "transfer_encoding", twice);
    for (name, line) in [
        ("behind a vertical tab", &b"Transfer-Encoding: \x0bchunked"[..]),
        ("before a vertical tab", b"Transfer-Encoding: chunked\x0b"),
        ("behind a form feed", b"Transfer-Encoding: \x0cchunked"),
        ("before NUL", b"Transfer-Encoding: chunked\0"),
        ("before DEL", b"Transfer-Encoding: chunked\x7f"),
        ("before a CR", b"Transfer-Encoding: chunked\r"),
    ] {
        let bytes = table.post_bytes(line, b"0\r\n\r\n");
        table.bad(&format!("Transfer-Encoding {name}"), "header_value", bytes);
    }
    let path = table.path;
    let http10 = format!("POST {path} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    table.bad("chunked under 1.0", "chunked_http10", http10);
    let kept = format!(
        "POST {path} HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    );
    table.bad("chunked under 1.0, kept alive", "chunked_http10", kept);
    let both =
        format!("POST {path} HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    table.bad("length and chunked under 1.0", "length_and_chunked", both);
}

fn chunks(table: &mut Table<'_>) {
    let cases: [(&str, &str, &[u8]); 32] = [
        ("no size", "chunk_size", b"\r\nhello\r\n0\r\n\r\n"),
        ("size is no number", "chunk_size", b"x\r\n"),
        ("size with a sign", "chunk_size", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("size below zero", "chunk_size", b"-5\r\nhello\r\n0\r\n\r\n"),
        ("size with 0x", "chunk_size", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("space before the size", "chunk_size", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("LF after the size", "chunk_size", b"5\nhello\r\n0\r\n\r\n"),
        ("CR alone after the size", "chunk_size", b"5\rhello\r\n0\r\n\r\n"),
        ("second size is no number", "chunk_size", b"5\r\nhello\r\nx\r\n\r\n"),
        ("LF after an extension", "chunk_extension", b"5;a=b\nhello\r\n0\r\n\r\n"),
        ("NUL in an extension", "chunk_extension", b"5;a=\0\r\nhello\r\n0\r\n\r\n"),
        ("chunk longer than its size", "chunk_crlf", b"5\r\nhello!\r\n0\r\n\r\n"),
        ("no CRLF after a chunk", "chunk_crlf", b"5\r\nhello0\r\n\r\n"),
        ("LF after a chunk", "chunk_crlf", b"5\r\nhello\n0\r\n\r\n"),
        ("CR alone after a chunk", "chunk_crlf", b"5\r\nhello\r0\r\n\r\n"),
        ("chunk shorter than its size", "chunk_crlf", b"6\r\nhello\r\n0\r\n\r\n"),
        ("LF CR after a chunk", "chunk_crlf", b"5\r\nhello\n\r0\r\n\r\n"),
        ("tab before the size", "chunk_size", b"\t5\r\nhello\r\n0\r\n\r\n"),
        ("space behind the size", "chunk_size", b"5 \r\nhello\r\n0\r\n\r\n"),
        ("two sizes", "chunk_size", b"5 5\r\nhello\r\n0\r\n\r\n"),
        ("underscore in the size", "chunk_size", b"0_5\r\nhello\r\n0\r\n\r\n"),
        ("a letter behind the size", "chunk_size", b"5g\r\nhello\r\n0\r\n\r\n"),
        ("size in quotes", "chunk_size", b"\"5\"\r\nhello\r\n0\r\n\r\n"),
        ("NUL behind the size", "chunk_size", b"5\0\r\nhello\r\n0\r\n\r\n"),
        ("extension without a size", "chunk_size", b";a=b\r\nhello\r\n0\r\n\r\n"),
        ("size of 33 digits", "chunk_size", b"000000000000000000000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("CR in an extension", "chunk_size", b"5;a=\rb\r\nhello\r\n0\r\n\r\n"),
        ("LF in a quoted extension", "chunk_extension", b"5;a=\"\n\"\r\nhello\r\n0\r\n\r\n"),
        ("LF after the extension of the last chunk", "chunk_extension", b"5\r\nhello\r\n0;a\n\r\n"),
        ("LF after the last size", "chunk_size", b"5\r\nhello\r\n0\n\r\n"),
        ("two CRs after a chunk", "chunk_crlf", b"5\r\nhello\r\r\n0\r\n\r\n"),
        ("an empty line between chunks", "chunk_size", b"5\r\nhello\r\n\r\n0\r\n\r\n"),
    ];
    for (name, reason, body) in cases {
        table.bad(name, reason, table.chunked(body));
    }
    for (name, size) in [
        ("2^63", "8000000000000000"),
        ("2^63 + 5", "8000000000000005"),
        ("2^64 - 1", "ffffffffffffffff"),
        ("2^64", "10000000000000000"),
        ("2^64 + 5", "10000000000000005"),
        ("2^72 - 11", "fffffffffffffffff5"),
    ] {
        let bytes = table.chunked(format!("{size}\r\nhello\r\n0\r\n\r\n"));
        table.refused(&format!("chunk of {name}"), TOO_LARGE, bytes);
        let bytes = table.chunked(format!("5\r\nhello\r\n{size}\r\nhello\r\n0\r\n\r\n"));
        table.refused(&format!("second chunk of {name}"), TOO_LARGE, bytes);
    }
    table.add("chunk of 2^63 - 1", table.chunked("7fffffffffffffff\r\nhello"), Expect::Begun);
}

fn trailers(table: &mut Table<'_>) {
    let cases = [
        ("LF after the last chunk", "0\r\n\n"),
        ("trailer without a colon", "0\r\nname\r\n\r\n"),
        ("trailer without a name", "0\r\n: value\r\n\r\n"),
        ("trailer that is folded", "0\r\n Name: value\r\n\r\n"),
        ("trailer with a space before the colon", "0\r\nName : value\r\n\r\n"),
        ("trailer with NUL", "0\r\nName: val\0ue\r\n\r\n"),
        ("trailer that ends with LF", "0\r\nName: value\n\r\n"),
        ("trailer with CR", "0\r\nName: val\rue\r\n\r\n"),
        ("trailer that is folded later", "0\r\nName: value\r\n more\r\n\r\n"),
        ("two CRs after the last chunk", "0\r\n\r\r\n"),
        ("two CRs after a trailer", "0\r\nName: value\r\r\n\r\n"),
        ("no empty line after the last chunk", "0\r\n"),
    ];
    for (name, rest) in cases {
        table.bad(name, "trailer", table.chunked(format!("5\r\nhello\r\n{rest}")));
    }
}

fn limits(table: &mut Table<'_>, heads: Heads) {
    let path = table.path;
    let line = |method: &str, target: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    };
    let method = |size: usize| line(&"M".repeat(size), path);
    table.served("method at its limit", method(MAX_METHOD_BYTES), b"");
    table.bad("method over its limit", "method", method(MAX_METHOD_BYTES + 1));

    let target = |size: usize| line("GET", &format!("{path}?{}", "q".repeat(size - path.len() - 1)));
    table.served("target at its limit", target(MAX_TARGET_BYTES), b"");
    table.refused("target over its limit", (414, Some("target_too_long")), target(MAX_TARGET_BYTES + 1));

    let fields = |count: usize| {
        let more: String = (3..=count).map(|number| format!("\r\nX-{number}: {number}")).collect();
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close{more}\r\n\r\n")
    };
    table.served("headers at their limit", fields(heads.fields), b"");
    table.refused("headers over their limit", (431, Some("too_many_headers")), fields(heads.fields + 1));

    let head = |size: usize| {
        let start = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: ");
        let filler = "x".repeat(size - start.len() - 4);
        format!("{start}{filler}\r\n\r\n")
    };
    table.served("head at its limit", head(heads.bytes), b"");
    table.refused("head over its limit", (431, Some("head_too_large")), head(heads.bytes + 1));
    let endless = format!("GET {path} HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(4 * heads.bytes));
    table.refused("head without an end", (431, Some("head_too_large")), endless);
    let endless = "x".repeat(4 * heads.bytes);
    table.refused("first line without an end", (431, Some("head_too_large")), endless);

    let closing = "Connection: close\r\nTransfer-Encoding: chunked";
    let extension = |size: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(size));
    let at_limit = table.post(closing, extension(MAX_EXTENSION_BYTES).as_bytes());
    table.served("chunk extension at its limit", at_limit, b"hello");
    let over = table.chunked(extension(MAX_EXTENSION_BYTES + 1));
    table.bad("chunk extension over its limit", "chunk_extension", over);

    // In many lines, so that the section is what has a limit and not the line.
    let trailer = |size: usize| {
        let lines = "T: 3456\r\n".repeat(size / 9 - 1);
        format!("5\r\nhello\r\n0\r\n{lines}T:{}\r\n\r\n", "t".repeat(size - lines.len() - 4))
    };
    let at_limit = table.post(closing, trailer(MAX_TRAILER_BYTES).as_bytes());
    table.served("trailers at their limit", at_limit, b"hello");
    table.bad("trailers over their limit", "trailer", table.chunked(trailer(MAX_TRAILER_BYTES + 1)));

    for length in ["9223372036854775807", "1000000000000000"] {
        let bytes = table.post(&format!("Content-Length: {length}"), b"hello");
        table.add(&format!("body of {length}"), bytes, Expect::Begun);
    }
    // 2^63, what a number of 64 bits can say at most, and what none can say.
    for length in
        ["9223372036854775808", "18446744073709551615", "18446744073709551616", "99999999999999999999999"]
    {
        let bytes = table.post(&format!("Content-Length: {length}"), b"hello");
        table.refused(&format!("body of {length}"), TOO_LARGE, bytes);
    }
}

fn cut(table: &mut Table<'_>) {
    table.add("body cut off", table.post("Content-Length: 5", b"hell"), Expect::Cut);
    table.add("body that never comes", table.post("Content-Length: 5", b""), Expect::Cut);
    let cases = [
        ("within a size", "5"),
        ("after a size", "5\r\n"),
        ("within a chunk", "5\r\nhell"),
        ("after a chunk", "5\r\nhello"),
        ("between chunks", "5\r\nhello\r\n"),
        ("within the last chunk", "5\r\nhello\r\n0\r\n"),
        ("within trailers", "5\r\nhello\r\n0\r\nName: value\r\n"),
    ];
    for (name, body) in cases {
        table.add(&format!("chunked body cut off {name}"), table.chunked(body), Expect::Cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let rows = requests("/", Heads::DEFAULT);
        let names: BTreeSet<&str> = rows.iter().map(|row| &*row.name).collect();
        let mut seen = BTreeSet::new();
        let twice: Vec<&str> = rows.iter().map(|row| &*row.name).filter(|name| !seen.insert(*name)).collect();
        assert_eq!(names.len(), rows.len(), "{twice:?}");
    }

    #[test]
    fn every_reason_that_bytes_can_cause_is_there() {
        let rows = requests("/", Heads::DEFAULT);
        let reasons: BTreeSet<&str> = rows.iter().filter_map(Row::reason).collect();
        let all = [
            "body_too_large",
            "chunk_crlf",
            "chunk_extension",
            "chunk_size",
            "chunked_http10",
            "content_length",
            "head_too_large",
            "header_name",
            "header_value",
            "host_invalid",
            "host_missing",
            "host_repeated",
            "length_and_chunked",
            "method",
            "obs_fold",
            "request_line",
            "space_before_colon",
            "target",
            "target_bytes",
            "target_too_long",
            "tls",
            "too_many_headers",
            "trailer",
            "transfer_encoding",
            "version",
        ];
        assert_eq!(reasons.into_iter().collect::<Vec<_>>(), all);
    }

    #[test]
    fn limits_are_met_to_the_byte() {
        for path in ["/", "/function/cat"] {
            let rows = requests(path, Heads::DEFAULT);
            let row = |name: &str| rows.iter().find(|row| row.name == name).unwrap().bytes.clone();
            let text = |name: &str| String::from_utf8(row(name)).unwrap();
            assert_eq!(row("head at its limit").len(), Heads::DEFAULT.bytes);
            let first = text("target at its limit");
            assert_eq!(first.split(' ').nth(1).unwrap().len(), MAX_TARGET_BYTES);
            let heads = text("headers at their limit");
            assert_eq!(heads.lines().count() - 2, Heads::DEFAULT.fields);
            let trailers = text("trailers at their limit");
            let section = trailers.split("\r\n0\r\n").nth(1).unwrap();
            assert_eq!(section.len() - 2, MAX_TRAILER_BYTES);
        }
    }
}
