//! The requests: each line of what both servers refuse, both sides of each limit, and the odd forms that
//! they must take.

use super::{
    Expect, MAX_EXTENSION_BYTES, MAX_HEAD_BYTES, MAX_HEADERS, MAX_METHOD_BYTES, MAX_TARGET_BYTES,
    MAX_TRAILER_BYTES, Row,
};
use crate::http::chunked;

/// Collects rows for one path.
struct Table<'a> {
    path: &'a str,
    rows: Vec<Row>,
}

/// The whole table. `path` names something that serves every method; a server with the default limits and
/// without `max_body` is expected.
#[must_use]
pub fn requests(path: &str) -> Vec<Row> {
    let mut table = Table { path, rows: vec![] };
    first_lines(&mut table);
    targets(&mut table);
    header_lines(&mut table);
    hosts(&mut table);
    lengths(&mut table);
    encodings(&mut table);
    chunks(&mut table);
    trailers(&mut table);
    limits(&mut table);
    cut(&mut table);
    served(&mut table);
    table.rows
}

/// Bodies on both sides of a `max_body` of `max` bytes, with and without a length.
#[must_use]
pub fn body_limits(path: &str, max: usize) -> Vec<Row> {
    let mut table = Table { path, rows: vec![] };
    let (full, over) = (vec![b'x'; max], vec![b'x'; max + 1]);
    let too_large = Expect::Refused { status: 413, reason: Some("body_too_large") };
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
    table.add("body limit, announced", table.post(&format!("Content-Length: {}", max + 1), b""), too_large);
    table.rows
}

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

    fn served(&mut self, name: &str, bytes: impl AsRef<[u8]>, body: &[u8]) {
        self.add(name, bytes.as_ref().to_vec(), Expect::Served(1));
        if let Some(row) = self.rows.last_mut() {
            row.body = body.to_vec();
        }
    }

    /// A POST with header lines and what follows the head.
    fn post(&self, fields: &str, rest: &[u8]) -> Vec<u8> {
        let head = format!("POST {} HTTP/1.1\r\nHost: hostile.test\r\n{fields}\r\n\r\n", self.path);
        [head.as_bytes(), rest].concat()
    }

    /// A POST with header lines of any bytes.
    fn post_bytes(&self, fields: &[u8], rest: &[u8]) -> Vec<u8> {
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
    table.refused("CR for the end of a line", (400, None), format!("GET {path} HTTP/1.1\rHost: x\r\n\r\n"));
    table.refused("TLS", (400, None), b"\x16\x03\x01\x02\x00\x01\x00\n\n");
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
        ("NUL", "GET", format!("{path}\0")),
        ("control character", "GET", format!("{path}\x01x")),
        ("tab", "GET", format!("{path}\tx")),
        ("escape", "GET", format!("{path}\x1b[31m")),
        ("DEL", "GET", format!("{path}\x7f")),
    ];
    for (name, method, target) in bad {
        let bytes = format!("{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        table.bad(&format!("target: {name}"), "target", bytes);
    }
    table.refused("target: CR", (400, None), format!("GET {path}\rx HTTP/1.1\r\nHost: x\r\n\r\n"));
}

fn header_lines(table: &mut Table<'_>) {
    let cases: [(&str, &str, &[u8]); 21] = [
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
    let values =
        ["x y", "x, y", "x/y", "x?y", "x#y", "u@x", "http://x", "x:8a", "x:1:2", "\"x\"", "\\x", "[::1", "ä"];
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
        "9223372036854775809",
        "18446744073709551616",
        "99999999999999999999999999",
    ];
    for value in values {
        let bytes = table.post(&format!("Content-Length: {value}"), b"hello");
        table.bad(&format!("Content-Length `{value}`"), "content_length", bytes);
    }
    for (first, second) in [("5", "6"), ("6", "5"), ("5", "+5"), ("5", ""), ("", "5"), ("5", "05, 5")] {
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
        "chunked, chunked",
        "chunked,",
        ", chunked",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "\"chunked\"",
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
    let vertical = table.post_bytes(b"Transfer-Encoding: \x0bchunked", b"0\r\n\r\n");
    table.bad("Transfer-Encoding behind a vertical tab", "header_value", vertical);
    let path = table.path;
    let http10 = format!("POST {path} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    table.bad("chunked under 1.0", "chunked_http10", http10);
}

fn chunks(table: &mut Table<'_>) {
    let cases: [(&str, &str, &[u8]); 19] = [
        ("no size", "chunk_size", b"\r\nhello\r\n0\r\n\r\n"),
        ("size is no number", "chunk_size", b"x\r\n"),
        ("size with a sign", "chunk_size", b"+5\r\nhello\r\n0\r\n\r\n"),
        ("size below zero", "chunk_size", b"-5\r\nhello\r\n0\r\n\r\n"),
        ("size with 0x", "chunk_size", b"0x5\r\nhello\r\n0\r\n\r\n"),
        ("space before the size", "chunk_size", b" 5\r\nhello\r\n0\r\n\r\n"),
        ("size over 2^63", "chunk_size", b"8000000000000001\r\nhello\r\n0\r\n\r\n"),
        ("size over 2^64", "chunk_size", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
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
    ];
    for (name, reason, body) in cases {
        table.bad(name, reason, table.chunked(body));
    }
    table.add("chunk of 2^63", table.chunked("8000000000000000\r\nhello"), Expect::Begun);
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
    ];
    for (name, rest) in cases {
        table.bad(name, "trailer", table.chunked(format!("5\r\nhello\r\n{rest}")));
    }
}

fn limits(table: &mut Table<'_>) {
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
    table.served("headers at their limit", fields(MAX_HEADERS), b"");
    table.refused("headers over their limit", (431, Some("too_many_headers")), fields(MAX_HEADERS + 1));

    let head = |size: usize| {
        let start = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: ");
        let filler = "x".repeat(size - start.len() - 4);
        format!("{start}{filler}\r\n\r\n")
    };
    table.served("head at its limit", head(MAX_HEAD_BYTES), b"");
    table.refused("head over its limit", (431, Some("head_too_large")), head(MAX_HEAD_BYTES + 1));
    let endless = format!("GET {path} HTTP/1.1\r\nHost: x\r\nX: {}", "x".repeat(4 * MAX_HEAD_BYTES));
    table.refused("head without an end", (431, Some("head_too_large")), endless);
    let endless = "x".repeat(4 * MAX_HEAD_BYTES);
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

    for (name, length) in [("body of 2^63", "9223372036854775808"), ("body of 10^15", "1000000000000000")] {
        table.add(name, table.post(&format!("Content-Length: {length}"), b"hello"), Expect::Begun);
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

fn served(table: &mut Table<'_>) {
    let path = table.path;
    let close = "Connection: close\r\n";
    let no_body = [
        ("plain", format!("GET {path} HTTP/1.1\r\nHost: x\r\n{close}\r\n")),
        ("LF ends the lines", format!("GET {path} HTTP/1.1\nHost: x\nConnection: close\n\n")),
        ("LF ends some lines", format!("GET {path} HTTP/1.1\r\nHost: x\n{close}\n")),
        ("empty lines before it", format!("\r\n\r\nGET {path} HTTP/1.1\r\nHost: x\r\n{close}\r\n")),
        ("absolute target", format!("GET http://x{path} HTTP/1.1\r\nHost: x\r\n{close}\r\n")),
        ("absolute target, capitals", format!("GET HTTPS://x{path} HTTP/1.1\r\nHost: x\r\n{close}\r\n")),
        ("absolute target, another Host", format!("GET http://x{path} HTTP/1.1\r\nHost: y\r\n{close}\r\n")),
        ("OPTIONS *", format!("OPTIONS * HTTP/1.1\r\nHost: x\r\n{close}\r\n")),
        ("1.0", format!("GET {path} HTTP/1.0\r\n\r\n")),
        ("1.0 with a Host", format!("GET {path} HTTP/1.0\r\nHost: x\r\n\r\n")),
        ("empty Host", format!("GET {path} HTTP/1.1\r\nHost:\r\n{close}\r\n")),
        ("odd method", format!("M-SEARCH {path} HTTP/1.1\r\nHost: x\r\n{close}\r\n")),
        ("lower-case method", format!("get {path} HTTP/1.1\r\nHost: x\r\n{close}\r\n")),
        ("empty value", format!("GET {path} HTTP/1.1\r\nHost: x\r\nX:\r\n{close}\r\n")),
        ("tabs around a value", format!("GET {path} HTTP/1.1\r\nHost: x\r\nX:\t a\tb \t\r\n{close}\r\n")),
        ("odd name", format!("GET {path} HTTP/1.1\r\nHost: x\r\n!#$%&'*+-.^_`|~09: x\r\n{close}\r\n")),
        ("length of 0", format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n{close}\r\n")),
    ];
    for (name, bytes) in no_body {
        table.served(name, bytes, b"");
    }
    let obs_text = table.post_bytes(b"Connection: close\r\nX: \x80\xff", b"");
    table.served("high bytes in a value", obs_text, b"");

    let bodies: [(&str, &str, &[u8]); 9] = [
        ("length", "Content-Length: 5", b"hello"),
        ("length with zeros", "Content-Length: 0000000005", b"hello"),
        ("the same length twice", "Content-Length: 5\r\nContent-Length: 5", b"hello"),
        ("chunks", "Transfer-Encoding: chunked", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        ("chunk size with zeros", "Transfer-Encoding: chunked", b"00000005\r\nhello\r\n000\r\n\r\n"),
        ("chunk with extensions", "Transfer-Encoding: chunked", b"5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n"),
        (
            "chunks with trailers",
            "Transfer-Encoding: chunked",
            b"5\r\nhello\r\n0\r\nName: value\r\nX:\r\n\r\n",
        ),
        ("Chunked in capitals", "transfer-encoding: CHUNKED", b"5\r\nhello\r\n0\r\n\r\n"),
        ("expecting 100", "Expect: 100-continue\r\nContent-Length: 5", b"hello"),
    ];
    for (name, fields, body) in bodies {
        let bytes = table.post(&format!("Connection: close\r\n{fields}"), body);
        table.served(name, bytes, b"hello");
    }
    let first = table.post("Content-Length: 3", b"one");
    let second = table.post("Transfer-Encoding: chunked", b"3\r\ntwo\r\n0\r\n\r\n");
    let third = table.post("Connection: close\r\nContent-Length: 5", b"three");
    table.served("three requests at once", [first, second, third].concat(), b"onetwothree");
    if let Some(row) = table.rows.last_mut() {
        row.expect = Expect::Served(3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let rows = requests("/");
        let names: BTreeSet<&str> = rows.iter().map(|row| &*row.name).collect();
        let mut seen = BTreeSet::new();
        let twice: Vec<&str> = rows.iter().map(|row| &*row.name).filter(|name| !seen.insert(*name)).collect();
        assert_eq!(names.len(), rows.len(), "{twice:?}");
    }

    #[test]
    fn every_reason_that_bytes_can_cause_is_there() {
        let rows = requests("/");
        let reasons: BTreeSet<&str> = rows.iter().filter_map(Row::reason).collect();
        let all = [
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
            "target_too_long",
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
            let rows = requests(path);
            let row = |name: &str| rows.iter().find(|row| row.name == name).unwrap().bytes.clone();
            let text = |name: &str| String::from_utf8(row(name)).unwrap();
            assert_eq!(row("head at its limit").len(), MAX_HEAD_BYTES);
            let first = text("target at its limit");
            assert_eq!(first.split(' ').nth(1).unwrap().len(), MAX_TARGET_BYTES);
            let heads = text("headers at their limit");
            assert_eq!(heads.lines().count() - 2, MAX_HEADERS);
            let trailers = text("trailers at their limit");
            let section = trailers.split("\r\n0\r\n").nth(1).unwrap();
            assert_eq!(section.len() - 2, MAX_TRAILER_BYTES);
        }
    }
}
