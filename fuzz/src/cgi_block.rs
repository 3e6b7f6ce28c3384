//! Header blocks at the start of a process's output, from which fwatchdog makes the head of its answer.

use fwatchdog::cgi::header_block::{Block, Found, MAX_BLOCK_BYTES, Malformed};

use crate::rules::{self, Fields};

/// What a block without a type is given.
const TYPE: &[u8] = b"text/x";

/// The most fields, with the line before them.
const MAX_FIELDS: usize = 1025;

/// What is seen of a result: status and fields of the head, and where the body begins.
type Seen = Result<Option<(u16, Vec<u8>, usize)>, Malformed>;

/// * What is found does not depend on how the output comes.
/// * A block is read as strictly as a head from the network.
/// * The head has the block's status, its fields but for those that belong to the connection, and a type; it
///   never says where the body ends.
pub fn check(data: &[u8]) {
    let whole = seen(&mut Block::default(), data);
    let mut block = Block::default();
    let first = (0..=data.len()).map(|end| seen(&mut block, &data[..end])).find(|seen| *seen != Ok(None));
    assert_eq!(first.unwrap_or(Ok(None)), whole, "byte by byte");
    let is_empty = data.iter().find(|byte| **byte != b'\r') == Some(&b'\n');
    let end = rules::head_end(data).filter(|end| *end <= MAX_BLOCK_BYTES && !is_empty);
    let block = [b"HTTP/1.1 200 OK\r\n", &data[..end.unwrap_or(0)]].concat();
    let read = rules::response(&block, MAX_FIELDS, true).filter(|_| end.is_some());
    match (whole, read) {
        (Ok(Some((status, head, body))), Some(read)) => {
            assert_eq!((Some(status), Some(body)), (wanted_status(&read.fields), end));
            check_head(&head, status, &read.fields);
        }
        (Err(Malformed::Status), Some(read)) => assert_eq!(wanted_status(&read.fields), None),
        (Err(Malformed::Fields(_)), None) => assert!(is_empty || end.is_some()),
        (Err(Malformed::TooLong), None) => assert!(data.len() > MAX_BLOCK_BYTES),
        (Ok(None), None) => assert!(!is_empty && end.is_none()),
        (whole, read) => panic!("{whole:?}, and by the rules {read:?}"),
    }
}

fn seen(block: &mut Block, output: &[u8]) -> Seen {
    match block.find(output, TYPE)? {
        Found::Part => Ok(None),
        Found::Head(told, body) => Ok(Some((told.head.status(), told.head.as_bytes().to_vec(), body))),
    }
}

/// The status that a block asks for; `None` where it is none.
fn wanted_status(fields: &Fields<'_>) -> Option<u16> {
    match rules::values(fields, "status").first() {
        None if rules::values(fields, "location").is_empty() => Some(200),
        None => Some(302),
        Some([a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9', rest @ ..])
            if rest.first().is_none_or(|byte| *byte == b' ') && std::str::from_utf8(rest).is_ok() =>
        {
            let digit = |byte: &u8| u16::from(byte - b'0');
            Some(digit(a) * 100 + digit(b) * 10 + digit(c))
        }
        Some(_) => None,
    }
}

fn check_head(head: &[u8], status: u16, fields: &Fields<'_>) {
    let head = [head, b"\r\n"].concat();
    let read = rules::response(&head, MAX_FIELDS + 1, false).expect("a well-formed head");
    assert_eq!(read.status, status);
    for framing in ["content-length", "transfer-encoding", "connection", "status"] {
        assert!(rules::values(&read.fields, framing).is_empty(), "{framing}");
    }
    // What `Connection` names is as good as any other field: nothing here was on another hop.
    let fields: Fields<'_> =
        fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"connection")).copied().collect();
    let mut want = rules::end_to_end(&fields);
    want.retain(|(name, _)| !name.eq_ignore_ascii_case(b"status"));
    if rules::values(&want, "content-type").is_empty() && !matches!(status, 204 | 304) {
        want.insert(0, (b"Content-Type", TYPE));
    }
    assert_eq!(read.fields, want, "fields");
}
