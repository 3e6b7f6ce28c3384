//! The calls that one poller serves: each a transfer that is stepped when one of its sockets is ready.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;

use kit::sys::Ready;

use super::conn::{Conn, Next};
use super::exchange::{Exchange, Turn};
use super::table::Token;
use super::{Lane, Relay, Shared};
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
        let mut exchange = Exchange::new(shared, conn, turn);
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
        if panic::catch_unwind(AssertUnwindSafe(|| relay.ended(end, connection))).is_err() {
            shared.count_panic(turn.path());
        }
        let next = Exchange::new(shared, &mut conn, &mut turn).end();
        (conn, next)
    }
}

/// What is known of a descriptor that is, or was, an upstream connection.
#[derive(Clone, Copy, Default)]
enum Upstream {
    /// Nobody's.
    #[default]
    Idle,
    /// Nobody's, and something came that nobody asked for, be it the end.
    Disturbed,
    Of(Token),
}

/// Memory for calls that is kept while there is none.
const MAX_SPARE: usize = 16;

/// The calls of a poller, by the place of their client's connection.
#[derive(Default)]
pub(super) struct Relays {
    running: Vec<Option<Held>>,
    spare: Vec<Held>,
    /// Whose an upstream descriptor is at present.
    upstreams: Vec<Upstream>,
    /// When calls must be looked at, at the latest; one entry for each place, so that there are no more of them than
    /// connections. An entry may be early: the call it was made for has ended, or has moved since.
    alarms: BinaryHeap<Reverse<(Instant, usize)>>,
    has_alarm: Vec<Option<Instant>>,
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
            *place = Upstream::Idle;
        }
        running
    }

    /// Takes a call to step it.
    pub(super) fn take(&mut self, token: Token) -> Option<Held> {
        let place = self.running.get_mut(token.index())?;
        if place.as_ref().is_some_and(|running| running.conn.token == token) { place.take() } else { None }
    }

    /// Takes the call to which an upstream descriptor belongs.
    pub(super) fn take_by_upstream(&mut self, fd: usize, ready: Ready) -> Option<Held> {
        let place = self.upstreams.get_mut(fd)?;
        match *place {
            Upstream::Of(token) => self.take(token),
            _ if ready.is_readable() => {
                *place = Upstream::Disturbed;
                None
            }
            _ => None,
        }
    }

    /// Keeps a call until it is ready again, or its time is up.
    pub(super) fn keep(&mut self, running: Held) {
        let index = running.conn.token.index();
        if self.running.len() <= index {
            self.running.resize_with(index + 1, || None);
            self.has_alarm.resize(index + 1, None);
        }
        if let Some(until) = running.transfer.until().instant()
            && self.has_alarm[index].is_none_or(|alarm| until < alarm)
        {
            self.has_alarm[index] = Some(until);
            self.alarms.push(Reverse((until, index)));
        }
        self.running[index] = Some(running);
    }

    /// Has the poller told of a new call's upstream.
    pub(super) fn watch(&mut self, lanes: &[Lane], running: &mut Running) -> Result<(), Cause> {
        let connection = &mut running.transfer.connection;
        let place = connection.socket().as_fd().as_raw_fd() as usize;
        let own = running.conn.poller;
        if self.upstreams.len() <= place {
            self.upstreams.resize(place + 1, Upstream::Idle);
        }
        if connection.watched_by == Some(own) {
            // Nothing was sent yet: another connection will do, whatever the method.
            if matches!(self.upstreams[place], Upstream::Disturbed) && !connection.is_quiet() {
                return Err(Cause::Closed);
            }
        } else {
            let before = connection.watched_by.take();
            let fd = connection.socket().as_fd();
            if let Some(other) = before {
                let _ = lanes[other].epoll.remove(fd); // it is not there any more
            }
            let watched = lanes[own].epoll.watch(fd, UPSTREAM | place as u64);
            watched.map_err(|error| Cause::Unreachable(error.raw_os_error().unwrap_or_default()))?;
            connection.watched_by = Some(own);
        }
        self.upstreams[place] = Upstream::Of(running.conn.token);
        Ok(())
    }

    /// When the next call must be looked at.
    pub(super) fn next_alarm(&self) -> Option<Instant> {
        self.alarms.peek().map(|Reverse((at, _))| *at)
    }

    /// A call whose time may be up.
    pub(super) fn due(&mut self, now: Instant) -> Option<Held> {
        while let Some(Reverse((at, index))) = self.alarms.peek().copied() {
            if at > now {
                return None;
            }
            self.alarms.pop();
            if self.has_alarm[index] == Some(at) {
                self.has_alarm[index] = None;
                if let Some(running) = self.running[index].take() {
                    return Some(running);
                }
            }
        }
        None
    }
}
