//! The connections of one poller: a slot for each, with the connection in it while nobody serves it.

use std::time::Instant;

use super::config::Stats;

/// What a waiting connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// Its first byte.
    New,
    /// The rest of a head.
    Head,
    /// The first bytes of a body, behind its head.
    Body,
    /// Its next request.
    Idle,
    /// Its client, which reads the rest of a whole answer.
    Answering,
    /// The peer's end, after a refusal; what still comes is thrown away.
    Closing,
}

/// What a table knows of a connection.
pub(super) trait Slotted {
    /// The name of its slot.
    fn token(&self) -> Token;

    /// What it waits for.
    fn phase(&self) -> Phase;

    /// Since when it does.
    fn since(&self) -> Instant;

    /// Whether bytes are there that nobody has read or taken.
    fn has_input(&self) -> bool;
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Slot<C> {
    Free,
    /// It is with the poller or a worker.
    Busy,
    Waiting(C),
}

/// The name of a slot's present connection, which a stale report cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token {
    index: u32,
    generation: u32,
}

impl Token {
    /// As the poller's reports carry it. The highest bit is free for others.
    pub(super) fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(super) fn index(self) -> usize {
        self.index as usize
    }

    pub(super) fn of(number: u64) -> Token {
        Token { index: number as u32, generation: (number >> 32) as u32 }
    }
}

/// The bits of a generation.
const GENERATIONS: u32 = u32::MAX >> 1;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Table<C> {
    slots: Vec<(u32, Slot<C>)>,
    free: Vec<u32>,
    busy: usize,
}

impl<C: Slotted> Table<C> {
    pub(super) fn new() -> Table<C> {
        Table { slots: Vec::new(), free: Vec::new(), busy: 0 }
    }

    /// Connections that are open, whoever has them.
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
    pub(super) fn put(&mut self, conn: C) -> &C {
        let slot = &mut self.slots[conn.token().index as usize].1;
        self.busy -= 1;
        *slot = Slot::Waiting(conn);
        match slot {
            Slot::Waiting(conn) => conn,
            _ => unreachable!("just put there"),
        }
    }

    /// Takes a waiting connection; its slot is busy from now on.
    pub(super) fn take(&mut self, token: Token) -> Option<C> {
        let (generation, slot) = self.slots.get_mut(token.index as usize)?;
        if *generation != token.generation || !matches!(slot, Slot::Waiting(_)) {
            return None;
        }
        match std::mem::replace(slot, Slot::Busy) {
            Slot::Waiting(conn) => {
                self.busy += 1;
                Some(conn)
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
        *generation = generation.wrapping_add(1) & GENERATIONS;
        self.free.push(token.index);
    }

    /// The waiting connections that `is_due` names.
    pub(super) fn due(&self, is_due: impl Fn(&C) -> bool) -> Vec<Token> {
        let found = self.waiting().filter(|(_, waiting)| is_due(waiting));
        found.map(|(token, _)| token).collect()
    }

    /// The connection to give up first when there is no room, of those that `may_go`: one that is being closed or sits
    /// between requests, then one that never sends, then the slowest head, then a body that does not come; the longest
    /// waiting of each.
    pub(super) fn least_useful(&self, may_go: impl Fn(&C) -> bool) -> Option<((u8, Instant), Token)> {
        let rank = |phase| match phase {
            Phase::Closing => Some(0u8),
            Phase::Idle => Some(1),
            Phase::New => Some(2),
            Phase::Head => Some(3),
            Phase::Body => Some(4),
            Phase::Answering => None,
        };
        let waiting = self.waiting().filter(|(_, conn)| may_go(conn));
        let ranks = waiting.filter_map(|(token, conn)| Some(((rank(conn.phase())?, conn.since()), token)));
        ranks.min_by_key(|(rank, _)| *rank)
    }

    /// The connections that nobody serves.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (Token, &C)> {
        self.slots.iter().enumerate().filter_map(|(index, (generation, slot))| match slot {
            Slot::Waiting(conn) => Some((Token { index: index as u32, generation: *generation }, conn)),
            _ => None,
        })
    }

    /// Whether a request has arrived that nobody has read yet.
    pub(super) fn has_unread(&self) -> bool {
        self.waiting().any(|(_, conn)| matches!(conn.phase(), Phase::New | Phase::Idle) && conn.has_input())
    }

    /// Closes every waiting connection.
    pub(super) fn clear(&mut self) {
        for token in self.due(|_| true) {
            drop(self.take(token));
            self.release(token);
        }
    }

    pub(super) fn add_stats(&self, stats: &mut Stats) {
        stats.connections_active += self.busy;
        for (_, conn) in self.waiting() {
            match conn.phase() {
                Phase::New | Phase::Idle => stats.connections_idle += 1,
                Phase::Head => stats.connections_head += 1,
                Phase::Body | Phase::Answering => stats.connections_active += 1,
                Phase::Closing => stats.connections_closing += 1,
            }
        }
    }
}

#[cfg(test)]
mod explore;
