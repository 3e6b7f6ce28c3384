//! What a poller does with the requests that wait.

use std::os::fd::AsFd;
use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

use super::places::Entry;
use super::poller::Poller;
use super::queue::{Job, Work};
use super::service::{Course, Due};
use super::table::Token;
use super::waits::Parked;
use crate::Refusal;
use crate::forward::Cause;

impl Poller {
    /// Takes a request over that a worker left to wait. What happened to its connection meanwhile is reported anew.
    pub(super) fn wait_with(&mut self, parked: Parked) {
        let conn = &parked.conn;
        match self.lane().epoll.watch_again(conn.socket.as_fd(), conn.token.number()) {
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
        let exchange = self.shared.exchange(&mut conn, &mut turn);
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
        let exchange = self.shared.exchange(&mut conn, &mut turn);
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
        conn.refuse(&*self.shared, refusal);
        self.forget(conn);
    }
}
