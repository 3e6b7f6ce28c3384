//! The requests of one poller that wait for something other than their sockets: in the order of their arrival, without a
//! thread and without a place among the calls.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use super::conn::Conn;
use super::exchange::{Exchange, Turn};
use super::places::Entry;
use super::poller::Poller;
use super::table::Token;
use super::worker::{Job, Work};
use super::{Course, Due, Waiting};
use crate::Refusal;
use crate::forward::Cause;

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
    fn look_again(&mut self, now: Instant) {
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

/// What a poller does with them.
impl Poller {
    /// Takes a request over that a worker left to wait. What happened to its connection meanwhile is reported anew.
    pub(super) fn wait_with(&mut self, conn: Box<Conn>, mut turn: Turn) {
        let Some(waiting) = turn.take_waiting() else { return self.forget(conn) };
        let armed = self.lane().epoll.watch_again(conn.socket.as_fd(), conn.token.number());
        let parked = Parked { conn, turn, waiting };
        match armed {
            Ok(()) => self.keep_waiting(parked),
            Err(error) => {
                log::warn!("cannot wait for a connection: {error}");
                self.give_up(parked, Refusal::Overloaded);
            }
        }
    }

    /// Looks at the requests that wait, where it is time for that.
    pub(super) fn look_at_waits(&mut self, now: Instant) {
        let mut waiting_on: Vec<usize> = Vec::new();
        let mut over_share: Vec<usize> = Vec::new();
        let mut is_full = false; // a place that becomes free now is for the next round
        let (line, is_tick) = self.waits.begin_round(now);
        for ticket in line {
            let has_to_wait = is_full || waiting_on.contains(&ticket.key);
            if has_to_wait && !is_tick {
                self.waits.queue(ticket);
                continue;
            }
            let Some(mut parked) = self.waits.take(ticket.token) else { continue };
            let client = parked.conn.client_number();
            if now >= parked.waiting.until() {
                self.expired(parked, now);
            } else if has_to_wait {
                self.waits.keep(parked, now);
            } else if over_share.contains(&client) {
                parked.waiting.step_aside();
                self.waits.keep(parked, now);
            } else {
                match self.shared.workers.enter_or_wait(self.number, client) {
                    Entry::Entered => self.look(parked, &mut waiting_on),
                    Entry::Full => {
                        is_full = true;
                        self.waits.keep(parked, now);
                    }
                    Entry::OverShare => {
                        over_share.push(client);
                        parked.waiting.step_aside();
                        self.waits.keep(parked, now);
                    }
                }
            }
        }
    }

    fn expired(&mut self, parked: Parked, now: Instant) {
        let Parked { mut conn, mut turn, waiting } = parked;
        let exchange = Exchange::new(&self.shared, &mut conn, &mut turn);
        match panic::catch_unwind(AssertUnwindSafe(|| waiting.expired(&exchange))) {
            Ok(Due::Answer(answer)) => self.answer(conn, turn, answer),
            // When many waits expire together they must not fill the queue for workers.
            Ok(Due::GoOn(waiting)) if !self.shared.workers.has_room_in_line(conn.client_number()) => {
                self.waits.keep(Parked { conn, turn, waiting }, now);
                self.waits.look_again(now);
            }
            Ok(Due::GoOn(waiting)) => self.submit(Job::new(conn, Work::GoOn { turn, rest: waiting })),
            Err(_) => {
                self.shared.count_panic(turn.path());
                self.submit(Job::new(conn, Work::End(turn)));
            }
        }
    }

    fn look(&mut self, parked: Parked, waiting_on: &mut Vec<usize>) {
        let Parked { mut conn, mut turn, waiting } = parked;
        let key = waiting.key();
        let exchange = Exchange::new(&self.shared, &mut conn, &mut turn);
        match panic::catch_unwind(AssertUnwindSafe(|| waiting.look(&exchange))) {
            Ok(course) => {
                if matches!(course, Course::Wait(_)) {
                    waiting_on.push(key);
                }
                self.take_course(conn, turn, course);
            }
            Err(_) => self.panicked(conn, turn),
        }
    }

    /// Keeps a request that has to wait, if its client has not too many that do.
    pub(super) fn keep_waiting(&mut self, mut parked: Parked) {
        let token = parked.conn.token;
        if let Some(client) = parked.conn.client()
            && parked.turn.seat.is_none()
        {
            parked.turn.seat = client.wait(self.shared.config.max_waits_per_client());
            if parked.turn.seat.is_none() {
                return self.give_up(parked, Refusal::TooManyOfClient);
            }
        }
        self.waits.keep(parked, self.now);
        self.leave_if_gone(token);
    }

    /// Ends a waiting request whose client went away.
    pub(super) fn leave_if_gone(&mut self, token: Token) {
        if let Some(parked) = self.waits.get(token)
            && parked.conn.is_hung_up
            && let Some(Parked { conn, turn, waiting }) = self.waits.take(token)
        {
            self.shared.guarded(turn.path(), || waiting.ended(Cause::ClientGone));
            self.forget(conn);
        }
    }

    /// Refuses a waiting request.
    pub(super) fn give_up(&self, parked: Parked, refusal: Refusal) {
        let Parked { mut conn, turn, waiting } = parked;
        self.shared.guarded(turn.path(), || waiting.ended(Cause::Refused(refusal)));
        conn.refuse(&self.shared, refusal);
        self.forget(conn);
    }
}
