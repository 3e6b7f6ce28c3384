//! Heads of requests.

use http1::body::Framing;
use http1::head::Scan;
use http1::writer::Persistence;
use http1::{HeadWriter, Headers, Length, RequestHead, Version};

use crate::rules::{self, Fields};

/// Few, so that the fuzzer finds the limit.
const MAX_FIELDS: usize = 16;

/// * Where a head ends does not depend on how it is split, nor on what is behind it.
/// * What is accepted is what the rules allow, and means the same.
/// * Written anew for the next hop and read there, it still does.
pub fn check(data: &[u8]) {
    let Some(end) = check_end(data) else { return };
    let bytes = &data[..end];
    let head = RequestHead::parse(bytes.to_vec(), MAX_FIELDS);
    let want = rules::request(bytes, MAX_FIELDS);
    assert_eq!(head.as_ref().ok().map(seen), want, "read as {:?}", head.as_ref().err());
    let Ok(head) = head else { return };
    check_bytes(&head);
    let written = rewritten(&head);
    let again = RequestHead::parse(written.clone(), MAX_FIELDS + 2);
    let again = again.unwrap_or_else(|e| panic!("written as `{}`: {e}", written.escape_ascii()));
    check_same(&head, &again);
    assert_eq!(rewritten(&again), written, "the second hop changes it");
}

/// Where the head ends; compared with the rules, and with every way to split it in two and in bytes.
pub(crate) fn check_end(data: &[u8]) -> Option<usize> {
    let end = Scan::default().end(data);
    assert_eq!(end, rules::head_end(data), "end of the head");
    let mut scan = Scan::default();
    for length in 0..=data.len() {
        let want = end.filter(|end| length >= *end);
        assert_eq!(scan.end(&data[..length]), want, "byte by byte, at {length}");
        if want.is_some() {
            break;
        }
    }
    end
}

fn seen(head: &RequestHead) -> rules::Request<'_> {
    rules::Request {
        method: head.method().as_bytes(),
        target: head.target(),
        is_http10: head.version() == Version::Http10,
        fields: head.headers().iter().collect(),
        framing: head.framing(),
    }
}

/// What must never get through, said once more in the simplest way.
fn check_bytes(head: &RequestHead) {
    let fields: Fields<'_> = head.headers().iter().collect();
    let values = fields.iter().map(|(_, value)| *value);
    for part in values.chain(fields.iter().map(|(name, _)| *name)).chain([head.target()]) {
        assert!(!part.iter().any(|byte| b"\r\n\0".contains(byte)), "`{}`", part.escape_ascii());
    }
    let has = |name| !rules::values(&fields, name).is_empty();
    assert!(!(has("content-length") && has("transfer-encoding")));
    assert!(head.framing() != Framing::UntilClose, "a request without an end");
    assert_eq!([head.path(), head.query().unwrap_or_default()].concat().len(), {
        head.target().len() - usize::from(head.query().is_some())
    });
}

fn rewritten(head: &RequestHead) -> Vec<u8> {
    let mut writer = HeadWriter::request(head.method(), head.target());
    if head.headers().get("host").is_none() {
        writer.text("Host", "x");
    }
    writer.forward(head.headers(), &|_| false);
    writer.finish(head.framing().into(), true, Persistence::Default).to_vec()
}

fn check_same(head: &RequestHead, again: &RequestHead) {
    assert_eq!((head.method(), head.target()), (again.method(), again.target()));
    assert_eq!(Length::from(head.framing()), Length::from(again.framing()));
    let mut before = rules::end_to_end(&head.headers().iter().collect());
    if rules::values(&before, "host").is_empty() {
        before.insert(0, (b"Host", b"x"));
    }
    assert_eq!(before, without_framing(again.headers()), "fields");
}

/// All fields but those that frame the message.
pub(crate) fn without_framing(headers: Headers<'_>) -> Fields<'_> {
    let frames = |name: &[u8]| {
        ["content-length", "transfer-encoding"].iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
    };
    headers.iter().filter(|(name, _)| !frames(name)).collect()
}
