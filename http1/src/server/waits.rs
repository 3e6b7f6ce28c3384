//! The requests of one poller that wait for something other than their sockets: in the order of their arrival, without
//! a thread and without a place among the calls.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::conn::Conn;
use super::service::Waiting;
use super::table::Token;
use super::turn::Turn;

/// How often they are looked at where nobody wakes the server: the resolution of their time limits.
const TICK: Duration = Duration::from_millis(50);

/// When those are looked at again that found no room in the line for a worker.
const LINE_PAUSE: Duration = Duration::from_millis(10);

/// A request that waits, with all that belongs to it.
pub(super) struct Parked {
    pub(super) conn: Box<Conn>,
    pub(super) turn: Turn,
    pub(super) waiting: Box<dyn Waiting>,
}

/// A place in the line.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    pub(super) token: Token,
    /// What is waited for there.
    pub(super) key: usize,
}

#[derive(Default)]
pub(super) struct Waits {
    /// By the place of the client's connection.
    parked: Vec<Option<Parked>>,
    /// All of these in order; those that are gone from their place are passed over.
    line: VecDeque<Ticket>,
    count: usize,
    /// When some are to be looked at, and when all.
    next_look: Option<Instant>,
    next_tick: Option<Instant>,
}

impl Waits {
    /// Keeps a request behind all others.
    pub(super) fn keep(&mut self, parked: Parked, now: Instant) {
        let index = parked.conn.token.index();
        if self.parked.len() <= index {
            self.parked.resize_with(index + 1, || None);
        }
        self.queue(Ticket { token: parked.conn.token, key: parked.waiting.key() });
        self.parked[index] = Some(parked);
        self.count += 1;
        self.next_tick.get_or_insert(now + TICK);
    }

    /// Leaves one where it is, behind all others of this round.
    pub(super) fn queue(&mut self, ticket: Ticket) {
        self.line.push_back(ticket);
    }

    /// Takes the request of a connection.
    pub(super) fn take(&mut self, token: Token) -> Option<Parked> {
        let place = self.parked.get_mut(token.index())?;
        let parked = place.take_if(|parked| parked.conn.token == token)?;
        self.count -= 1;
        Some(parked)
    }

    /// The request of a connection.
    pub(super) fn get(&mut self, token: Token) -> Option<&mut Parked> {
        let parked = self.parked.get_mut(token.index())?.as_mut()?;
        (parked.conn.token == token).then_some(parked)
    }

    /// Has those looked at as soon as possible that may go on.
    pub(super) fn wake(&mut self, now: Instant) {
        if self.count > 0 {
            self.next_look = Some(now);
        }
    }

    /// Has them looked at again in a moment.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.next_look.get_or_insert(now + LINE_PAUSE);
    }

    /// When they are to be looked at next.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.next_look.or(self.next_tick)
    }

    /// Begins a round, if it is time for one: all that wait, in order, to be taken or queued again one by one; and
    /// whether each of them is to be looked at.
    pub(super) fn begin_round(&mut self, now: Instant) -> (VecDeque<Ticket>, bool) {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        let is_tick = is_due(self.next_tick);
        if !is_tick && !is_due(self.next_look) {
            return (VecDeque::new(), false);
        }
        self.next_look = None;
        if is_tick {
            self.next_tick = (self.count > 0).then_some(now + TICK);
        }
        (std::mem::take(&mut self.line), is_tick)
    }

    /// Takes all of them.
    pub(super) fn take_all(&mut self) -> Vec<Parked> {
        self.count = 0;
        self.line.clear();
        self.parked.drain(..).flatten().collect()
    }
}
