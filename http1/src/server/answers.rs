//! Whole answers that are sent without a thread: what the socket does not take at once waits, on the poller of its
//! connection, for the client to read.

use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

use super::conn::{Conn, Next};
use super::memory::Share;
use super::service::{Answer, length_of};
use super::shared::{Shared, finish, rearm};
use super::table::{Phase, Token};
use super::turn::{Sending, Turn};

/// The bound on the bodies of all answers that wait for their clients, beyond the newest of them: room for the metrics
/// pages of some thousand functions. Over it the client that has not read for the longest time is given up.
pub(super) const MAX_UNREAD_BYTES: usize = 4 << 20;

/// What a step of sending came to.
enum Step {
    /// The answer is over, and with it its request.
    Ended(Next),
    /// The client has to read first.
    Full,
}

impl Sending {
    fn step(&mut self, shared: &Shared, conn: &mut Conn) -> Step {
        let mut exchange = shared.exchange(conn, &mut self.turn);
        while self.at < self.body.len() {
            match exchange.write(&self.body[self.at..]) {
                Ok(0) => return Step::Full,
                Ok(count) => self.at += count,
                Err(_) => return Step::Ended(exchange.end()),
            }
        }
        match exchange.finish() {
            Ok(false) => Step::Full,
            Ok(true) | Err(_) => Step::Ended(exchange.end()),
        }
    }
}

/// Sends an answer; where it is over at once the connection comes back. Else that is kept by its poller.
pub(super) fn answer(
    shared: &Shared,
    mut conn: Box<Conn>,
    mut turn: Turn,
    answer: Answer,
) -> Option<(Box<Conn>, Next)> {
    let Answer { head, body } = answer;
    turn.seat = None;
    shared.exchange(&mut conn, &mut turn).begin_whole(head, length_of(&body));
    let mut sending = Sending { turn, body, at: 0, share: Share::of(&shared.unread) };
    if let Step::Ended(next) = sending.step(shared, &mut conn) {
        return Some((conn, next));
    }
    sending.share.set(sending.body.len());
    let (token, poller) = (conn.token, conn.poller);
    conn.sending = Some(Box::new(sending));
    (conn.phase, conn.since) = (Phase::Answering, Instant::now());
    rearm(shared, conn);
    while shared.unread.is_over() && give_up_oldest(shared, (poller, token)) {}
    None
}

/// Goes on with the answer of a connection, as [`answer`] does.
pub(super) fn go_on(shared: &Shared, mut conn: Box<Conn>) -> Option<(Box<Conn>, Next)> {
    let Some(mut sending) = conn.sending.take() else { return Some((conn, Next::Close)) };
    let before = conn.outgoing.total();
    if let Step::Ended(next) = sending.step(shared, &mut conn) {
        return Some((conn, next));
    }
    if conn.outgoing.total() > before {
        conn.since = Instant::now();
    }
    conn.sending = Some(sending);
    rearm(shared, conn);
    None
}

/// Breaks off the answer of a client that does not read.
pub(super) fn give_up(shared: &Shared, mut conn: Box<Conn>) {
    if let Some(mut sending) = conn.sending.take() {
        let mut exchange = shared.exchange(&mut conn, &mut sending.turn);
        exchange.abort();
        let next = exchange.end();
        finish(shared, conn, next);
    }
}

/// Gives up the answer whose client has not read for the longest time, but not `newest`. Whether there was one.
fn give_up_oldest(shared: &Shared, newest: (usize, Token)) -> bool {
    let lanes = shared.lanes.iter().enumerate();
    let oldest = lanes.filter_map(|(number, lane)| {
        let table = lane.table();
        let unread = table.waiting().filter(|(_, conn)| conn.phase == Phase::Answering);
        let others = unread.filter(|(token, _)| (number, *token) != newest);
        others.map(|(token, conn)| (conn.since, number, token)).min_by_key(|(since, ..)| *since)
    });
    let Some((_, number, token)) = oldest.min_by_key(|(since, ..)| *since) else { return false };
    let taken = shared.lanes[number].table().take(token);
    if let Some(conn) = taken {
        give_up(shared, conn);
    }
    true // where its poller has it, it reads
}

/// What the service answers without a call. A service that panics does so again in the call.
pub(super) fn at_once(shared: &Shared, conn: &mut Conn, turn: &mut Turn) -> Option<Answer> {
    let exchange = shared.exchange(conn, turn);
    panic::catch_unwind(AssertUnwindSafe(|| shared.service.answer(&exchange))).ok().flatten()
}
