//! The calls that one poller serves: each a transfer that is stepped when one of its sockets is ready.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

use super::conn::{Conn, Next};
use super::service::Relay;
use super::shared::{Lane, Shared};
use super::table::Token;
use super::turn::Turn;
use crate::forward::{Cause, End, Transfer};

/// Marks the reports of upstream connections, which carry their descriptor.
pub(super) const UPSTREAM: u64 = 1 << 63;

/// A call, with all that belongs to it.
pub(super) struct Running {
    pub(super) conn: Box<Conn>,
    pub(super) turn: Turn,
    pub(super) transfer: Transfer,
    pub(super) relay: Box<dyn Relay>,
}

/// A call on its way. Its memory is used again for the next: it is the largest that a call needs.
pub(super) struct Held(Box<Option<Running>>);

impl Deref for Held {
    type Target = Running;

    fn deref(&self) -> &Running {
        self.0.as_ref().as_ref().expect("held until it is released")
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Running {
        self.0.as_mut().as_mut().expect("held until it is released")
    }
}

/// What a step came to.
pub(super) enum Step {
    /// It waits for its sockets.
    Wait,
    /// There is more to do at once; others come first.
    More,
    Ended(End),
    Panicked,
}

impl Running {
    /// Moves what can be moved. `now` is given where its time may be up.
    pub(super) fn step(&mut self, shared: &Shared, now: Option<Instant>) -> Step {
        let Running { conn, turn, transfer, relay } = self;
        let mut exchange = shared.exchange(conn, turn);
        let step = || {
            if exchange.is_hung_up() && transfer.ends_with_client() {
                return Some(transfer.client_is_gone(&mut exchange));
            }
            let ended = transfer.step(&mut exchange, &mut |head| relay.head(head));
            ended.or_else(|| transfer.expired(&mut exchange, now?))
        };
        match panic::catch_unwind(AssertUnwindSafe(step)) {
            Ok(Some(end)) => Step::Ended(end),
            Ok(None) if self.transfer.has_more() => Step::More,
            Ok(None) => Step::Wait,
            Err(_) => {
                shared.count_panic(self.turn.path());
                Step::Panicked
            }
        }
    }

    /// Settles a call whose answer went out, or was broken off.
    pub(super) fn finish(self, shared: &Shared, end: End) -> (Box<Conn>, Next) {
        let Running { mut conn, mut turn, transfer, relay } = self;
        let (end, connection, _) = transfer.into_parts(end);
        shared.guarded(turn.path(), || relay.ended(end, connection));
        let next = shared.exchange(&mut conn, &mut turn).end();
        (conn, next)
    }
}

/// Memory for calls that is kept while there is none.
const MAX_SPARE: usize = 16;

/// The calls of a poller, by the place of their client's connection.
#[derive(Default)]
pub(super) struct Relays {
    running: Vec<Option<Held>>,
    spare: Vec<Held>,
    /// Whose an upstream descriptor is at present, if anybody's.
    upstreams: Vec<Option<Token>>,
    alarms: Alarms,
}

/// When the calls at each place must be looked at, at the latest. An alarm may be early: the call it was set for has
/// ended, or has moved since.
#[derive(Default)]
struct Alarms {
    /// The earliest of each place is what counts; what else there is was overtaken by it.
    queue: BinaryHeap<Reverse<(Instant, usize)>>,
    earliest: Vec<Option<Instant>>,
}

impl Alarms {
    /// Sets the alarm of a place, unless it has an earlier one.
    fn set(&mut self, place: usize, until: Instant) {
        if self.earliest.len() <= place {
            self.earliest.resize(place + 1, None);
        }
        if self.earliest[place].is_some_and(|earliest| earliest <= until) {
            return;
        }
        self.earliest[place] = Some(until);
        self.queue.push(Reverse((until, place)));
        // Calls whose limits become shorter and shorter leave one behind each.
        if self.queue.len() > 2 * self.earliest.len() {
            let earliest = &self.earliest;
            self.queue.retain(|Reverse((at, place))| earliest[*place] == Some(*at));
        }
    }

    /// When the next one is due.
    fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one that is due, and answers its place.
    fn due(&mut self, now: Instant) -> Option<usize> {
        while self.next().is_some_and(|at| at <= now) {
            let Reverse((at, place)) = self.queue.pop()?;
            if self.earliest[place] == Some(at) {
                self.earliest[place] = None;
                return Some(place);
            }
        }
        None
    }
}

impl Relays {
    /// Makes room for a call.
    pub(super) fn hold(&mut self, running: Running) -> Held {
        let mut held = self.spare.pop().unwrap_or_else(|| Held(Box::new(None)));
        *held.0 = Some(running);
        held
    }

    /// Takes a call apart; its upstream is forgotten, before others may have it.
    pub(super) fn release(&mut self, mut held: Held) -> Running {
        let running = held.0.take().expect("held until it is released");
        if self.spare.len() < MAX_SPARE {
            self.spare.push(held);
        }
        let fd = running.transfer.connection.socket().as_fd().as_raw_fd();
        if let Some(place) = self.upstreams.get_mut(fd as usize) {
            *place = None;
        }
        running
    }

    /// Takes a call to step it.
    pub(super) fn take(&mut self, token: Token) -> Option<Held> {
        let place = self.running.get_mut(token.index())?;
        if place.as_ref().is_some_and(|running| running.conn.token == token) { place.take() } else { None }
    }

    /// Takes the call to which an upstream descriptor belongs. The pool looks at those that are nobody's before they
    /// are used again.
    pub(super) fn take_by_upstream(&mut self, fd: usize) -> Option<Held> {
        let token = (*self.upstreams.get(fd)?)?;
        self.take(token)
    }

    /// Keeps a call until it is ready again, or its time is up.
    pub(super) fn keep(&mut self, running: Held) {
        let index = running.conn.token.index();
        if self.running.len() <= index {
            self.running.resize_with(index + 1, || None);
        }
        if let Some(until) = running.transfer.until().instant() {
            self.alarms.set(index, until);
        }
        self.running[index] = Some(running);
    }

    /// Has the poller told of a new call's upstream.
    pub(super) fn watch(&mut self, lanes: &[Lane], running: &mut Running) -> Result<(), Cause> {
        let connection = &mut running.transfer.connection;
        let place = connection.socket().as_fd().as_raw_fd() as usize;
        let own = running.conn.poller;
        if self.upstreams.len() <= place {
            self.upstreams.resize(place + 1, None);
        }
        if connection.watched_by != Some(own) {
            let before = connection.watched_by.take();
            let fd = connection.socket().as_fd();
            if let Some(other) = before {
                let _ = lanes[other].epoll.remove(fd); // it is not there any more
            }
            let watched = lanes[own].epoll.watch(fd, UPSTREAM | place as u64);
            watched.map_err(|error| Cause::Unreachable(error.raw_os_error().unwrap_or_default()))?;
            connection.watched_by = Some(own);
        }
        self.upstreams[place] = Some(running.conn.token);
        Ok(())
    }

    /// When the next call must be looked at.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.next()
    }

    /// A call whose time may be up.
    pub(super) fn due(&mut self, now: Instant) -> Option<Held> {
        loop {
            let place = self.alarms.due(now)?;
            if let Some(running) = self.running.get_mut(place).and_then(Option::take) {
                return Some(running);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_earliest_alarm_of_each_place_counts() {
        let (mut alarms, now) = (Alarms::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        for (place, seconds) in [(2, 30), (0, 20), (2, 10), (2, 40)] {
            alarms.set(place, after(seconds));
        }
        assert_eq!((alarms.next(), alarms.due(after(9))), (Some(after(10)), None));
        assert_eq!((alarms.due(after(30)), alarms.due(after(30))), (Some(2), Some(0)));
        assert_eq!((alarms.due(after(60)), alarms.next()), (None, None), "overtaken");
        alarms.set(2, after(50));
        assert_eq!(alarms.due(after(50)), Some(2));
    }

    #[test]
    fn alarms_are_bounded_by_the_places() {
        let (mut alarms, now) = (Alarms::default(), Instant::now());
        for step in (0..10_000).rev() {
            alarms.set(step % 10, now + Duration::from_millis(step as u64));
        }
        assert!(alarms.queue.len() <= 20, "{}", alarms.queue.len());
        let due = std::iter::from_fn(|| alarms.due(now + Duration::from_secs(10)));
        assert_eq!(due.collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    }
}
