//! Everything that an attacker or a broken peer may send, as tables: [`requests()`] for a server,
//! [`answers()`] for a client; and checks that walk through them and report all differences at once.
//!
//! A refused request is followed by a second, well-formed one: if that is answered, the server has lost
//! track of where requests begin.

mod answers;
mod odd;
mod requests;

use std::net::SocketAddr;
use std::time::Duration;

use crate::http::{Connection, End, Raw, talk};
use crate::reply::{HttpError, Reply, parse_all};

pub use answers::{Answer, AnswerRow, answer_peer, answers, check_answers};
pub use requests::{body_limits, requests};

/// The longest method that is served, in bytes.
pub const MAX_METHOD_BYTES: usize = 32;
/// The longest request target that is served, in bytes.
pub const MAX_TARGET_BYTES: usize = 32 * 1024;
/// The bounds of a head.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// The whole head, from its first byte to the end of the empty line.
    pub bytes: usize,
    /// Its fields.
    pub fields: usize,
}

impl Heads {
    /// What a server takes by default.
    pub const DEFAULT: Heads = Heads { bytes: 64 * 1024, fields: 128 };
    /// What fwatchdog takes of a gateway.
    pub const OF_A_GATEWAY: Heads = Heads { bytes: 128 * 1024, fields: 1040 };
    /// What fwatchdog takes of its process.
    pub const OF_A_PROCESS: Heads = Heads { bytes: 120 * 1024, fields: 1024 };
    /// What a gateway takes of a function by default.
    pub const OF_A_FUNCTION: Heads = Heads { bytes: 72 * 1024, fields: 144 };
}

/// The longest extension of one chunk, after its `;`.
pub const MAX_EXTENSION_BYTES: usize = 4096;
/// The longest trailer section, with the ends of its lines but without the empty one.
pub const MAX_TRAILER_BYTES: usize = 4096;
/// The most interim answers (1xx) before the answer itself.
pub const MAX_INTERIM: usize = 16;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long is waited for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(150);

/// Statuses with which a server refuses a request.
const REFUSALS: [u16; 6] = [400, 408, 413, 414, 431, 505];

/// What a server must do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Answer with `status`, close, and count it as `reason` (`None` where more than one name is right).
    Refused {
        /// The status.
        status: u16,
        /// The name of the reason.
        reason: Option<&'static str>,
    },
    /// Serve it, and answer as often as this.
    Served(usize),
    /// Begin to serve it: its body is valid but has no end.
    Begun,
    /// Not answer with 2xx: the client ends its direction in the middle of the body.
    Cut,
}

/// A request, byte by byte.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is special about it.
    pub name: String,
    /// All that is sent.
    pub bytes: Vec<u8>,
    /// What must happen.
    pub expect: Expect,
    /// The body without its framing, all bodies where there are more.
    pub body: Vec<u8>,
}

impl Row {
    /// The reason's name, for a row that is refused for one reason only.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self.expect {
            Expect::Refused { reason, .. } => reason,
            _ => None,
        }
    }
}

/// Sends every row to a server, each over a connection of its own.
///
/// # Panics
/// With every row that was not treated as it must be.
#[track_caller]
pub fn check(addr: SocketAddr, rows: &[Row]) {
    report(rows.len(), rows.iter().filter_map(|row| Some((&*row.name, check_row(addr, row, false).err()?))));
}

/// As [`check`], for a function that answers 200 with the request's body: the bodies are compared too.
///
/// # Panics
/// With every row that was not treated as it must be.
#[track_caller]
pub fn check_echo(addr: SocketAddr, rows: &[Row]) {
    report(rows.len(), rows.iter().filter_map(|row| Some((&*row.name, check_row(addr, row, true).err()?))));
}

#[track_caller]
fn report<'a>(count: usize, problems: impl Iterator<Item = (&'a str, String)>) {
    let lines: Vec<String> = problems.map(|(name, problem)| format!("{name}: {problem}")).collect();
    assert!(lines.is_empty(), "{} of {count} rows:\n{}", lines.len(), lines.join("\n"));
}

fn check_row(addr: SocketAddr, row: &Row, is_echo: bool) -> Result<(), String> {
    let text = |e: HttpError| e.to_string();
    match row.expect {
        Expect::Refused { status, .. } => {
            let raw = talk(addr, &row.bytes, PATIENCE).map_err(text)?;
            is_refused(&raw, status)
        }
        Expect::Served(count) => {
            let raw = talk(addr, &row.bytes, PATIENCE).map_err(text)?;
            let replies = raw.replies(&[]).map_err(text)?;
            is_served(&replies, count)?;
            if raw.end == End::Open {
                return Err("the connection was left open, although asked to close".to_owned());
            }
            let body: Vec<u8> = replies.into_iter().flat_map(|reply| reply.body).collect();
            if is_echo && body != row.body {
                return Err(format!("came back as `{}`", body[..body.len().min(200)].escape_ascii()));
            }
            Ok(())
        }
        Expect::Begun => {
            let raw = talk(addr, &row.bytes, SILENCE).map_err(text)?;
            // A server may have answered without reading the body; it must not have refused it.
            is_served(&parse_all(&raw.bytes, &[]).unwrap_or_default(), 0)
        }
        Expect::Cut => {
            let mut connection = Connection::open(addr).map_err(text)?;
            connection.send(&row.bytes).map_err(|e| e.to_string())?;
            connection.end();
            let raw = connection.within(PATIENCE).rest();
            let replies = raw.replies(&[]).unwrap_or_default();
            match replies.iter().find(|reply| (200..300).contains(&reply.status)) {
                Some(reply) => Err(format!("answered {} to half a request", reply.status)),
                None if raw.end == End::Open => Err("still open".to_owned()),
                None => Ok(()),
            }
        }
    }
}

fn is_refused(raw: &Raw, status: u16) -> Result<(), String> {
    let replies = raw.replies(&[]).map_err(|e| e.to_string())?;
    let [reply] = &replies[..] else {
        let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        return Err(format!("answered {statuses:?} instead of {status}, connection {:?}", raw.end));
    };
    if reply.status != status {
        return Err(format!("answered {} instead of {status}: {}", reply.status, reply.text().trim()));
    }
    if !reply.head.has_token("connection", "close") {
        return Err("no `Connection: close`".to_owned());
    }
    if raw.end == End::Open {
        return Err("the connection was left open".to_owned());
    }
    Ok(())
}

/// At least `count` replies, none of which refuses.
fn is_served(replies: &[Reply], count: usize) -> Result<(), String> {
    let statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    if statuses.len() < count || statuses.iter().any(|status| REFUSALS.contains(status)) {
        let text = replies.first().map_or(String::new(), Reply::text);
        return Err(format!("answered {statuses:?}: {}", text.trim()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Peer;
    use crate::script::Script;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const REFUSED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx";
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";

    fn row(expect: Expect) -> Row {
        let bytes = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".to_vec();
        Row { name: "the row".to_owned(), bytes, expect, body: b"hello".to_vec() }
    }

    fn problem(expect: Expect, answer: Script) -> Option<String> {
        let peer = Peer::tcp(answer);
        check_row(peer.addr(), &row(expect), true).err()
    }

    #[test]
    fn a_check_passes_what_is_right_and_nothing_else() {
        let refused = Expect::Refused { status: 400, reason: None };
        let script = || Script::new().request();
        let twice = [REFUSED, OK].concat();
        let cases = [
            (refused, script().send(REFUSED).close(), None),
            (refused, script().send(OK).close(), Some("answered 200 instead of 400: hello")),
            (
                refused,
                script().send(twice).close(),
                Some("answered [400, 200] instead of 400, connection Closed"),
            ),
            (refused, script().close(), Some("answered [] instead of 400, connection Closed")),
            (Expect::Served(1), script().send(OK).close(), None),
            (Expect::Served(1), script().send(REFUSED).close(), Some("answered [400]: x")),
            (Expect::Served(2), script().send(OK).close(), Some("answered [200]: hello")),
            (Expect::Begun, script().stall(), None),
            (Expect::Begun, script().send(REFUSED).stall(), Some("answered [400]: x")),
            (Expect::Cut, script().send(REFUSED).close(), None),
            (Expect::Cut, script().close(), None),
            (Expect::Cut, script().send(OK).close(), Some("answered 200 to half a request")),
        ];
        for (expect, script, want) in cases {
            assert_eq!(problem(expect, script).as_deref(), want, "{expect:?}");
        }
    }

    #[test]
    fn all_failures_are_told_at_once() {
        let peer = Peer::tcp(Script::new().request().send(OK).close());
        let rows =
            [row(Expect::Served(1)), row(Expect::Refused { status: 400, reason: None }), row(Expect::Cut)];
        let panic = catch_unwind(AssertUnwindSafe(|| check(peer.addr(), &rows))).unwrap_err();
        let text = panic.downcast_ref::<String>().unwrap();
        assert!(text.starts_with("2 of 3 rows:\nthe row: answered 200"), "{text}");
    }
}
