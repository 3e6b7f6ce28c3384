//! What a broken or hostile function may answer, and what must become of it.

use std::sync::Arc;

use super::{Heads, MAX_EXTENSION_BYTES, MAX_INTERIM, MAX_TRAILER_BYTES, report};
use crate::peer::Peer;
use crate::reply::{HttpError, Reply};
use crate::script::Script;

/// What the caller must see of a function's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 502: the head cannot be trusted.
    Bad,
    /// The head is good and may be out already, the body is not: 502, or an answer that is cut off. Never a
    /// whole one.
    BadBody,
    /// This status, with this body.
    Good(u16, Vec<u8>),
}

/// An answer, byte by byte; the function closes the connection after it.
#[derive(Clone, Debug)]
pub struct AnswerRow {
    /// What is special about it.
    pub name: String,
    /// All that the function sends.
    pub bytes: Vec<u8>,
    /// What a client must see after a GET.
    pub expect: Answer,
}

/// The table.
#[must_use]
pub fn answers(heads: Heads) -> Vec<AnswerRow> {
    let mut rows = vec![];
    rows.extend(status_lines());
    rows.extend(broken_heads());
    rows.extend(framings());
    rows.extend(bodies());
    rows.extend(limits(heads));
    rows.extend(good());
    rows.extend(bodiless());
    rows
}

/// A function that answers a request for a path that ends with `/N` with the N-th row.
#[must_use]
pub fn answer_peer(rows: &[AnswerRow]) -> Peer {
    let all: Arc<Vec<Vec<u8>>> = Arc::new(rows.iter().map(|row| row.bytes.clone()).collect());
    Peer::tcp(Script::new().request().answer(move |request| {
        let number = request.target.rsplit('/').next().and_then(|text| text.parse::<usize>().ok());
        number.and_then(|number| all.get(number)).cloned().unwrap_or_default()
    }))
}

/// Asks for every row by its number and compares.
///
/// # Panics
/// With every row of which the caller saw something else.
#[track_caller]
pub fn check_answers(rows: &[AnswerRow], mut ask: impl FnMut(usize) -> Result<Reply, HttpError>) {
    let problems = rows.iter().enumerate().filter_map(|(number, row)| {
        let reply = ask(number);
        let is_right = match (&row.expect, &reply) {
            (Answer::Bad, Ok(reply)) => reply.status == 502,
            (Answer::BadBody, Ok(reply)) => reply.status == 502,
            (Answer::BadBody, Err(HttpError::CutBody(_))) => true,
            (Answer::Good(status, body), Ok(reply)) => reply.status == *status && reply.body == *body,
            _ => false,
        };
        let seen = || match &reply {
            Ok(reply) => {
                format!("{} with `{}`", reply.status, reply.body[..reply.body.len().min(200)].escape_ascii())
            }
            Err(e) => e.to_string(),
        };
        (!is_right).then(|| (&*row.name, format!("the caller saw {}", seen())))
    });
    report(rows.len(), problems);
}

fn row(name: impl Into<String>, expect: Answer, bytes: impl AsRef<[u8]>) -> AnswerRow {
    AnswerRow { name: name.into(), bytes: bytes.as_ref().to_vec(), expect }
}

fn status_lines() -> Vec<AnswerRow> {
    let lines = [
        "hello",
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "HTTP/0.9 200 OK",
        "HTTP/1.10 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 99 OK",
        "HTTP/1.1 600 OK",
        "HTTP/1.1 999 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 2x0 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1200 OK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 0200 OK",
        "HTTP/1.1 2 00 OK",
        "HTTP/1.1 -200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1 200 O\x7fK",
        "HTTP/01.1 200 OK",
        " HTTP/1.1 200 OK",
        "\u{feff}HTTP/1.1 200 OK",
        "HTTP/1.1 101 Switching Protocols",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\x01K",
        "HTTP/1.1",
        "GET / HTTP/1.1",
    ];
    let bad = |line: &&str| {
        let name = format!("status line `{}`", line.escape_debug());
        row(name, Answer::Bad, format!("{line}\r\nContent-Length: 2\r\n\r\nok"))
    };
    lines.iter().map(bad).collect()
}

fn broken_heads() -> Vec<AnswerRow> {
    let cases: [(&str, &[u8]); 18] = [
        ("no colon", b"name"),
        ("no name", b": value"),
        ("space in a name", b"na me: value"),
        ("space before the colon", b"Name : value"),
        ("tab before the colon", b"Name\t: value"),
        ("space before the colon of a length", b"Content-Length : 2"),
        ("high byte in a name", b"na\xffme: value"),
        ("folded", b"Name: value\r\n more"),
        ("folded by a tab", b"Name: value\r\n\tmore"),
        ("NUL in a value", b"Name: val\0ue"),
        ("CR in a value", b"Name: val\rue"),
        ("control character in a value", b"Name: val\x01ue"),
        ("escape in a value", b"Name: \x1b[31m"),
        ("DEL in a value", b"Name: val\x7fue"),
        ("NUL in a name", b"na\0me: value"),
        ("two CRs at the end of a value", b"Name: value\r"),
        ("another answer for a header", b"HTTP/1.1 200 OK"),
        ("an encoding behind a CR", b"Name: value\rTransfer-Encoding: chunked"),
    ];
    let mut rows: Vec<AnswerRow> = cases
        .iter()
        .map(|(name, line)| {
            let bytes = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", *line, b"\r\n\r\nok"].concat();
            row(format!("header: {name}"), Answer::Bad, bytes)
        })
        .collect();
    rows.push(row("nothing at all", Answer::Bad, b""));
    rows.push(row("head cut off in its first line", Answer::Bad, b"HTTP/1.1 20"));
    rows.push(row("head cut off", Answer::Bad, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"));
    rows.push(row("only an interim head", Answer::Bad, b"HTTP/1.1 100 Continue\r\n\r\n"));
    rows.push(row("empty lines only", Answer::Bad, b"\r\n\r\n\r\n"));
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    rows.push(row("an empty line before it", Answer::Bad, format!("\r\n{ok}")));
    rows.push(row("a line feed before it", Answer::Bad, format!("\n{ok}")));
    let interim = |count: usize| "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(count);
    rows.push(row("interim answers over their limit", Answer::Bad, interim(MAX_INTERIM + 1) + ok));
    rows.push(row("interim answers without end", Answer::Bad, interim(1000)));
    rows.push(row(
        "a switch after an interim answer",
        Answer::Bad,
        interim(1) + "HTTP/1.1 101 X\r\n\r\n" + ok,
    ));
    let with_body = "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello";
    rows.push(row("interim answer with a body", Answer::Bad, format!("{with_body}{ok}")));
    rows
}

fn framings() -> Vec<AnswerRow> {
    let mut cases = vec![
        "Content-Length: 5\r\nTransfer-Encoding: chunked".to_owned(),
        "Transfer-Encoding: chunked\r\nContent-Length: 5".to_owned(),
        "Content-Length: 5\r\nContent-Length: 6".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".to_owned(),
        "Transfer-Encoding: identity\r\nContent-Length: 5".to_owned(),
        "Content-Length: 5\r\nContent-Length:".to_owned(),
        "Content-Length: 0\r\nContent-Length: 5".to_owned(),
        "Content-Length: 5\r\nTransfer-Encoding:\x0bchunked".to_owned(),
        "Transfer-Encoding: chunked\x0b".to_owned(),
        "Transfer-Encoding: chunked\0".to_owned(),
    ];
    let lengths = [
        "+5",
        "-5",
        "5 5",
        "5, 5",
        ", 5",
        "0x5",
        "",
        "5.0",
        "5;",
        "five",
        "9223372036854775809",
        "18446744073709551621",
    ];
    cases.extend(lengths.map(|value| format!("Content-Length: {value}")));
    let encodings = [
        "gzip",
        "identity",
        "gzip, chunked",
        "chunked, identity",
        "chunked, chunked",
        "chunked,",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "",
    ];
    cases.extend(encodings.map(|value| format!("Transfer-Encoding: {value}")));
    let bad = |fields: String| {
        let name = fields.replace("\r\n", " and ");
        row(name, Answer::Bad, format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
    };
    let mut rows: Vec<AnswerRow> = cases.into_iter().map(bad).collect();
    let http10 = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    rows.push(row("chunked under 1.0", Answer::Bad, http10));
    rows
}

fn chunked(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

fn bodies() -> Vec<AnswerRow> {
    let cases = [
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("size is no number", "x\r\nhello\r\n0\r\n\r\n"),
        ("size with a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("size with 0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("space before the size", " 5\r\nhello\r\n0\r\n\r\n"),
        ("size of 2^63", "8000000000000000\r\nhello\r\n0\r\n\r\n"),
        ("LF after the size", "5\nhello\r\n0\r\n\r\n"),
        ("NUL in an extension", "5;\0\r\nhello\r\n0\r\n\r\n"),
        ("chunk longer than its size", "5\r\nhello!\r\n0\r\n\r\n"),
        ("no CRLF after a chunk", "5\r\nhello0\r\n\r\n"),
        ("LF after a chunk", "5\r\nhello\n0\r\n\r\n"),
        ("second size is no number", "5\r\nhello\r\nx\r\n\r\n"),
        ("LF after the last chunk", "5\r\nhello\r\n0\r\n\n"),
        ("trailer without a colon", "5\r\nhello\r\n0\r\nname\r\n\r\n"),
        ("trailer that is folded", "5\r\nhello\r\n0\r\n Name: value\r\n\r\n"),
        ("a digit behind a space", "5 5\r\nhello\r\n0\r\n\r\n"),
        ("tab before the size", "\t5\r\nhello\r\n0\r\n\r\n"),
        ("size that wraps around", "fffffffffffffffff5\r\nhello\r\n0\r\n\r\n"),
        ("LF in an extension", "5;a\nhello\r\n0\r\n\r\n"),
        ("CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("CR alone after a chunk", "5\r\nhello\r0\r\n\r\n"),
        ("an empty line between chunks", "5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("LF after the last size", "5\r\nhello\r\n0\n\r\n"),
        ("two CRs after the last chunk", "5\r\nhello\r\n0\r\n\r\r\n"),
        ("another answer for a trailer", "5\r\nhello\r\n0\r\nHTTP/1.1 200 OK\r\n\r\n"),
        ("NUL in a trailer", "5\r\nhello\r\n0\r\nName: \0\r\n\r\n"),
        ("cut off within trailers", "5\r\nhello\r\n0\r\nName: val"),
        ("cut off within a size", "5"),
        ("cut off within a chunk", "5\r\nhell"),
        ("cut off after a chunk", "5\r\nhello"),
        ("cut off between chunks", "5\r\nhello\r\n"),
        ("cut off within the last chunk", "5\r\nhello\r\n0\r\n"),
        ("no chunk at all", ""),
    ];
    let mut rows: Vec<AnswerRow> = cases
        .iter()
        .map(|(name, body)| row(format!("chunked: {name}"), Answer::BadBody, chunked(body)))
        .collect();
    for body in ["", "hell"] {
        let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{body}");
        rows.push(row(format!("length: cut off after {} bytes", body.len()), Answer::BadBody, bytes));
    }
    rows
}

fn limits(heads: Heads) -> Vec<AnswerRow> {
    let good = || Answer::Good(200, b"hello".to_vec());
    let fields = |count: usize| {
        let more: String = (2..=count).map(|number| format!("X-{number}: {number}\r\n")).collect();
        format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{more}\r\nhello")
    };
    let head = |size: usize| {
        let start = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: ";
        let filler = "x".repeat(size - start.len() - 4);
        format!("{start}{filler}\r\n\r\nhello")
    };
    let extension = |size: usize| chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "e".repeat(size)));
    let trailer = |size: usize| chunked(&format!("5\r\nhello\r\n0\r\nT:{}\r\n\r\n", "t".repeat(size - 4)));
    vec![
        row("headers at their limit", good(), fields(heads.fields)),
        row("headers over their limit", Answer::Bad, fields(heads.fields + 1)),
        row("head at its limit", good(), head(heads.bytes)),
        row("head over its limit", Answer::Bad, head(heads.bytes + 1)),
        row("chunk extension at its limit", good(), extension(MAX_EXTENSION_BYTES)),
        row("chunk extension over its limit", Answer::BadBody, extension(MAX_EXTENSION_BYTES + 1)),
        row("trailers at their limit", good(), trailer(MAX_TRAILER_BYTES)),
        row("trailers over their limit", Answer::BadBody, trailer(MAX_TRAILER_BYTES + 1)),
    ]
}

fn good() -> Vec<AnswerRow> {
    let hello = |status| Answer::Good(status, b"hello".to_vec());
    vec![
        row("length", hello(200), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        row("the function's own error", hello(500), "HTTP/1.1 500 Oops\r\nContent-Length: 5\r\n\r\nhello"),
        row("odd status", hello(299), "HTTP/1.1 299 Odd\r\nContent-Length: 5\r\n\r\nhello"),
        row(
            "more than its length",
            hello(200),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
        ),
        row(
            "the same length twice",
            hello(200),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        ),
        row("length of 0", Answer::Good(200, vec![]), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        row("chunks", hello(200), chunked("2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nName: value\r\n\r\n")),
        row("chunks padded with blanks", hello(200), chunked("5  \t\r\nhello\r\n0 \r\n\r\n")),
        row("until the end", hello(200), "HTTP/1.1 200 OK\r\n\r\nhello"),
        row("1.0 until the end", hello(200), "HTTP/1.0 200 OK\r\n\r\nhello"),
        row("1.0 with a length", hello(200), "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
        row(
            "chunks, and more",
            hello(200),
            chunked("5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
        ),
        row(
            "chunks, trailers that would frame",
            hello(200),
            chunked("5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n"),
        ),
        row("interim answers at their limit", hello(200), {
            let hint = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(MAX_INTERIM);
            hint + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        }),
        row(
            "high bytes in the phrase",
            hello(200),
            b"HTTP/1.1 200 \xc3\xa4\xff\r\nContent-Length: 5\r\n\r\nhello",
        ),
        row("blanks around a length", hello(200), "HTTP/1.1 200 OK\r\nContent-Length:\t5 \r\n\r\nhello"),
        row("no reason", hello(200), "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"),
        row("empty reason", hello(200), "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\nhello"),
        row("LF ends the lines", hello(200), "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
        row(
            "high bytes in a value",
            hello(200),
            b"HTTP/1.1 200 OK\r\nX: \x80\xff\r\nContent-Length: 5\r\n\r\nhello",
        ),
        row(
            "after interim answers",
            hello(200),
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        ),
    ]
}

/// Their head is their end, whatever it says and whatever follows.
fn bodiless() -> Vec<AnswerRow> {
    let nothing = |status| Answer::Good(status, vec![]);
    vec![
        row("no body", nothing(204), "HTTP/1.1 204 No Content\r\n\r\n"),
        row("no body, and bytes", nothing(204), "HTTP/1.1 204 No Content\r\n\r\nhello"),
        row(
            "no body, with a length",
            nothing(204),
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        ),
        row(
            "no body, in chunks",
            nothing(204),
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
        row(
            "not modified, and bytes",
            nothing(304),
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
        ),
        row(
            "not modified, with a length",
            nothing(304),
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request;
    use std::collections::BTreeSet;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn names_are_unique() {
        let rows = answers(Heads::DEFAULT);
        let names: BTreeSet<&str> = rows.iter().map(|row| &*row.name).collect();
        assert_eq!(names.len(), rows.len());
    }

    #[test]
    fn limits_are_met_to_the_byte() {
        let rows = answers(Heads::DEFAULT);
        let text = |name: &str| {
            String::from_utf8(rows.iter().find(|row| row.name == name).unwrap().bytes.clone()).unwrap()
        };
        assert_eq!(text("head at its limit").find("\r\n\r\n").unwrap() + 4, Heads::DEFAULT.bytes);
        let heads = text("headers at their limit");
        assert_eq!(heads.split("\r\n\r\n").next().unwrap().lines().count() - 1, Heads::DEFAULT.fields);
        let trailers = text("trailers at their limit");
        assert_eq!(trailers.split("\r\n0\r\n").nth(1).unwrap().len() - 2, MAX_TRAILER_BYTES);
    }

    /// Asked without a gateway between, the client sees the good rows as good.
    #[test]
    fn the_peer_answers_row_by_row() {
        let rows = answers(Heads::DEFAULT);
        let peer = answer_peer(&rows);
        let strict: Vec<usize> = (0..rows.len()).filter(|number| is_plain(&rows[*number])).collect();
        assert!(strict.len() > 15);
        let good: Vec<AnswerRow> = strict.iter().map(|number| rows[*number].clone()).collect();
        check_answers(&good, |number| request(peer.addr()).path(format!("/x/{}", strict[number])).send());
        let panic = catch_unwind(AssertUnwindSafe(|| {
            check_answers(&rows, |number| request(peer.addr()).path(format!("/x/{number}")).send());
        }));
        let text = panic.unwrap_err().downcast_ref::<String>().unwrap().clone();
        assert!(text.contains("\nnothing at all: the caller saw closed without a response"), "{text}");
    }

    /// A good row in a form that this crate's own client takes, which wants CRLF, one length and sizes without blanks.
    fn is_plain(row: &AnswerRow) -> bool {
        let is_odd = ["LF", "twice", "blanks"].iter().any(|word| row.name.contains(word));
        matches!(row.expect, Answer::Good(..)) && !is_odd
    }
}
