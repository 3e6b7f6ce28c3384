//! Requests in odd forms that are right, and must be served.

use super::Expect;
use super::requests::Table;

/// Adds them all.
pub(super) fn add(table: &mut Table<'_>) {
    heads(table);
    bodies(table);
    requests_within(table);
    pipelined(table);
}

fn heads(table: &mut Table<'_>) {
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
        ("Host with a port", format!("GET {path} HTTP/1.1\r\nHost: x_1.test:8080\r\n{close}\r\n")),
        ("Host with the largest port", format!("GET {path} HTTP/1.1\r\nHost: func_x.:65535\r\n{close}\r\n")),
        (
            "upgrade to HTTP/2",
            format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close, Upgrade\r\nUpgrade: x, h2c/1\r\n\r\n"
            ),
        ),
        ("Host with an address in brackets", format!("GET {path} HTTP/1.1\r\nHost: [::1]:80\r\n{close}\r\n")),
        ("high bytes in a target", format!("GET {path}?\u{e4} HTTP/1.1\r\nHost: x\r\n{close}\r\n")),
        (
            "names with underscores",
            format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\n{close}\r\n"
            ),
        ),
        (
            "names that begin alike",
            format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nContent-Length-X: 5\r\nX-Transfer-Encoding: chunked\r\n{close}\r\n"
            ),
        ),
    ];
    for (name, bytes) in no_body {
        table.served(name, bytes, b"");
    }
    let obs_text = table.post_bytes(b"Connection: close\r\nX: \x80\xff", b"");
    table.served("high bytes in a value", obs_text, b"");
}

fn bodies(table: &mut Table<'_>) {
    let bodies: [(&str, &str, &[u8]); 15] = [
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
        ("blanks around a length", "Content-Length: \t 5 \t", b"hello"),
        ("blanks around chunked", "Transfer-Encoding:\tchunked \t", b"5\r\nhello\r\n0\r\n\r\n"),
        ("length that Connection names", "Connection: Content-Length\r\nContent-Length: 5", b"hello"),
        (
            "encoding that Connection names",
            "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
            b"5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "trailers that would frame",
            "Transfer-Encoding: chunked",
            b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nHost: y\r\n\r\n",
        ),
        (
            "chunk size of 32 digits",
            "Transfer-Encoding: chunked",
            b"00000000000000000000000000000005\r\nhello\r\n0\r\n\r\n",
        ),
    ];
    for (name, fields, body) in bodies {
        let bytes = table.post(&format!("Connection: close\r\n{fields}"), body);
        table.served(name, bytes, b"hello");
    }
}

/// What looks like a request is a body, whatever the method.
fn requests_within(table: &mut Table<'_>) {
    let path = table.path;
    let inner = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    for method in ["GET", "DELETE", "OPTIONS", "M-SEARCH"] {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
        let with_length = format!("{head}Content-Length: {}\r\n\r\n{inner}", inner.len());
        table.served(&format!("a request in the body of {method}"), with_length, inner.as_bytes());
        let with_chunks =
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
        table.served(&format!("a request in the chunks of {method}"), with_chunks, inner.as_bytes());
    }
}

fn pipelined(table: &mut Table<'_>) {
    let first = table.post("Content-Length: 3", b"one");
    let second = table.post("Transfer-Encoding: chunked", b"3\r\ntwo\r\n0\r\n\r\n");
    let third = table.post("Connection: close\r\nContent-Length: 5", b"three");
    table.served("three requests at once", [first, second, third].concat(), b"onetwothree");
    if let Some(row) = table.rows.last_mut() {
        row.expect = Expect::Served(3);
    }
}
