//! Heads of responses.

use http1::head::Scan;
use http1::writer::Persistence;
use http1::{HeadWriter, Length, ResponseHead};

use crate::request_head::{check_end, without_framing};
use crate::rules::{self, Fields};

/// Few, so that the fuzzer finds the limit.
const MAX_FIELDS: usize = 16;

/// As for requests ([`crate::request_head::check`]), for the answer to a GET and to a HEAD.
pub fn check(data: &[u8]) {
    let Some(end) = check_end(data) else { return };
    for to_head in [false, true] {
        check_answer(&data[..end], to_head);
    }
}

fn check_answer(bytes: &[u8], to_head: bool) {
    let head = ResponseHead::parse(bytes.to_vec(), MAX_FIELDS, to_head);
    let want = rules::response(bytes, MAX_FIELDS, to_head);
    assert_eq!(head.as_ref().ok().map(seen), want, "read as {:?}", head.as_ref().err());
    let Ok(head) = head else { return };
    check_bytes(&head);
    let written = rewritten(&head);
    assert_eq!(Scan::default().end(&written), Some(written.len()));
    let again = ResponseHead::parse(written.clone(), MAX_FIELDS + 2, to_head);
    let again = again.unwrap_or_else(|e| panic!("written as `{}`: {e}", written.escape_ascii()));
    assert_eq!(head.status(), again.status());
    assert_eq!(Length::from(head.framing()), Length::from(again.framing()));
    let mut before = rules::end_to_end(&head.headers().iter().collect());
    if rules::values(&before, "date").is_empty() {
        before.push((b"Date", b"x"));
    }
    assert_eq!(before, without_framing(again.headers()), "fields");
    assert_eq!(rewritten(&again), written, "the second hop changes it");
}

fn seen(head: &ResponseHead) -> rules::Response<'_> {
    let fields = head.headers().iter().collect();
    rules::Response { status: head.status(), fields, framing: head.framing() }
}

/// What must never get through, said once more in the simplest way.
fn check_bytes(head: &ResponseHead) {
    let fields: Fields<'_> = head.headers().iter().collect();
    for part in fields.iter().flat_map(|(name, value)| [name, value]) {
        assert!(!part.iter().any(|byte| b"\r\n\0".contains(byte)), "`{}`", part.escape_ascii());
    }
    let has = |name| !rules::values(&fields, name).is_empty();
    assert!(!(has("content-length") && has("transfer-encoding")));
}

fn rewritten(head: &ResponseHead) -> Vec<u8> {
    let mut writer = HeadWriter::response(head.status());
    writer.forward(head.headers(), &|_| false);
    let fields: Fields<'_> = head.headers().iter().collect();
    if rules::values(&rules::end_to_end(&fields), "date").is_empty() {
        writer.text("Date", "x");
    }
    writer.finish(head.framing().into(), true, Persistence::Default).to_vec()
}
