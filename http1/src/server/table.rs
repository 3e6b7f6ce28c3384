//! The connections of a server: a slot for each, with the socket in it while nobody serves it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kit::sys::Socket;

use super::Stats;
use crate::head::Scan;

/// What a waiting connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its first byte.
    New,
    /// The rest of a head.
    Head,
    /// Its next request.
    Idle,
    /// The peer's end, after a refusal; what still comes is thrown away.
    Closing,
}

/// A connection that nobody serves.
pub(super) struct Waiting {
    pub(super) socket: Socket,
    pub(super) peer: SocketAddr,
    /// What has arrived of a head.
    pub(super) buffer: Vec<u8>,
    pub(super) scan: Scan,
    pub(super) phase: Phase,
    /// When the phase began.
    pub(super) since: Instant,
}

enum Slot {
    Free,
    /// Its socket is with the poller or a worker.
    Busy,
    Waiting(Box<Waiting>),
}

/// The name of a slot's present connection, which a stale report cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    pub(super) fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn of(number: u64) -> Token {
        Token { index: number as u32, generation: (number >> 32) as u32 }
    }
}

pub(super) struct Table {
    slots: Vec<(u32, Slot)>,
    free: Vec<u32>,
    busy: usize,
}

impl Table {
    pub(super) fn new() -> Table {
        Table { slots: Vec::new(), free: Vec::new(), busy: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// A slot for a new connection, which is busy until it is put there.
    pub(super) fn reserve(&mut self) -> Token {
        self.busy += 1;
        if let Some(index) = self.free.pop() {
            let (generation, slot) = &mut self.slots[index as usize];
            *slot = Slot::Busy;
            return Token { index, generation: *generation };
        }
        self.slots.push((0, Slot::Busy));
        Token { index: (self.slots.len() - 1) as u32, generation: 0 }
    }

    /// Puts a busy connection back; answers it for the caller to arm.
    pub(super) fn put(&mut self, token: Token, waiting: Waiting) -> &Waiting {
        let slot = &mut self.slots[token.index as usize].1;
        self.busy -= 1;
        *slot = Slot::Waiting(Box::new(waiting));
        match slot {
            Slot::Waiting(waiting) => waiting,
            _ => unreachable!("just put there"),
        }
    }

    /// Takes a waiting connection; its slot is busy from now on.
    pub(super) fn take(&mut self, token: Token) -> Option<Waiting> {
        let (generation, slot) = self.slots.get_mut(token.index as usize)?;
        if *generation != token.generation || !matches!(slot, Slot::Waiting(_)) {
            return None;
        }
        match std::mem::replace(slot, Slot::Busy) {
            Slot::Waiting(waiting) => {
                self.busy += 1;
                Some(*waiting)
            }
            _ => None,
        }
    }

    /// Frees the slot of a connection that was closed.
    pub(super) fn release(&mut self, token: Token) {
        let (generation, slot) = &mut self.slots[token.index as usize];
        if let Slot::Busy = std::mem::replace(slot, Slot::Free) {
            self.busy -= 1;
        }
        *generation = generation.wrapping_add(1);
        self.free.push(token.index);
    }

    /// The waiting connections that `is_due` names.
    pub(super) fn due(&self, is_due: impl Fn(&Waiting) -> bool) -> Vec<Token> {
        let found = self.waiting().filter(|(_, waiting)| is_due(waiting));
        found.map(|(token, _)| token).collect()
    }

    /// The connection to give up first when there is no room: one that is being closed or sits between
    /// requests, then one that never sends, then the slowest head; the longest waiting of each.
    pub(super) fn least_useful(&self) -> Option<Token> {
        let rank = |phase| match phase {
            Phase::Closing => 0,
            Phase::Idle => 1,
            Phase::New => 2,
            Phase::Head => 3,
        };
        let least = self.waiting().min_by_key(|(_, waiting)| (rank(waiting.phase), waiting.since));
        least.map(|(token, _)| token)
    }

    fn waiting(&self) -> impl Iterator<Item = (Token, &Waiting)> {
        self.slots.iter().enumerate().filter_map(|(index, (generation, slot))| match slot {
            Slot::Waiting(waiting) => {
                Some((Token { index: index as u32, generation: *generation }, &**waiting))
            }
            _ => None,
        })
    }

    /// Whether a request has arrived that nobody has read yet.
    pub(super) fn has_unread(&self) -> bool {
        self.waiting().any(|(_, waiting)| waiting.has_request())
    }

    /// Closes every waiting connection.
    pub(super) fn clear(&mut self) {
        for token in self.due(|_| true) {
            drop(self.take(token));
            self.release(token);
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = Stats { connections_active: self.busy, ..Stats::default() };
        for (_, waiting) in self.waiting() {
            match waiting.phase {
                Phase::New | Phase::Idle => stats.connections_idle += 1,
                Phase::Head => stats.connections_head += 1,
                Phase::Closing => stats.connections_closing += 1,
            }
        }
        stats
    }
}

impl Waiting {
    /// Whether it is between requests and bytes have arrived that nobody has read yet: closing it now would
    /// lose what its peer was right to send.
    pub(super) fn has_request(&self) -> bool {
        matches!(self.phase, Phase::New | Phase::Idle) && matches!(self.socket.peek(), Ok(Some(1..)))
    }

    /// Whether it has waited in its phase for `span`.
    pub(super) fn has_waited(&self, span: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= span
    }
}
