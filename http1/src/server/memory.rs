//! The memory that clients make a server hold before anything is done for them: unfinished heads, and the heads and the
//! bytes of requests that wait or are served. There is one bound for their sum.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::clients::Client;

/// The bound where no smaller one is known: room for 200 of the largest heads, or 10,000 usual ones.
pub const MAX_HEAD_MEMORY: usize = 16 << 20;

/// The smallest bound: room for a dozen of the largest heads.
const MIN_HEAD_MEMORY: usize = 1 << 20;

/// The part of a memory limit that heads may take.
const SHARE: u64 = 8;

/// What a connection holds up to this is not counted: most heads, so that most requests cost nothing here.
const FREE_BYTES: usize = 512;

/// Requests with larger heads are refused while the bound is exceeded. The others have room: their number is limited.
pub(super) const SMALL_HEAD_BYTES: usize = 2 * 1024;

/// The heads of one client may take all but a part of the bound: the others are served meanwhile.
const OTHERS_PART: usize = 4;

/// The bound on the memory for heads of a process that may have `limit` bytes.
#[must_use]
pub fn head_memory(limit: Option<u64>) -> usize {
    let share = limit.map_or(u64::MAX, |limit| limit / SHARE);
    usize::try_from(share).unwrap_or(usize::MAX).clamp(MIN_HEAD_MEMORY, MAX_HEAD_MEMORY)
}

/// The sum, and its bound.
pub(super) struct Memory {
    used: AtomicUsize,
    most: usize,
}

impl Memory {
    pub(super) fn new(most: usize) -> Arc<Memory> {
        Arc::new(Memory { used: AtomicUsize::new(0), most })
    }

    /// Whether the bound is exceeded.
    pub(super) fn is_over(&self) -> bool {
        self.used.load(Relaxed) > self.most
    }

    /// Whether enough is free that no search is needed soon.
    pub(super) fn has_room(&self) -> bool {
        self.used.load(Relaxed) <= self.most - self.most / 8
    }
}

/// The part of one connection.
pub(super) struct Share {
    memory: Arc<Memory>,
    pub(super) bytes: usize,
    /// What the heads of the requests of its client take, while there is one.
    of_client: Option<Arc<AtomicUsize>>,
}

impl Share {
    pub(super) fn of(memory: &Arc<Memory>) -> Share {
        Share { memory: Arc::clone(memory), bytes: 0, of_client: None }
    }

    /// Counts a request, whose head has so many bytes, among those of its client. Whether that client may have it.
    pub(super) fn join(&mut self, client: &Client, head_bytes: usize) -> bool {
        if self.bytes == 0 {
            return true;
        }
        self.leave_client();
        let others = client.heads.fetch_add(self.bytes, Relaxed);
        self.of_client = Some(Arc::clone(&client.heads));
        let most = self.memory.most - self.memory.most / OTHERS_PART;
        head_bytes <= SMALL_HEAD_BYTES || others + self.bytes <= most
    }

    /// The request is over.
    pub(super) fn leave_client(&mut self) {
        if let Some(heads) = self.of_client.take() {
            heads.fetch_sub(self.bytes, Relaxed);
        }
    }

    /// Counts what the connection holds now.
    pub(super) fn set(&mut self, bytes: usize) {
        let bytes = if bytes <= FREE_BYTES { 0 } else { bytes };
        if bytes != self.bytes {
            let change = bytes.wrapping_sub(self.bytes); // wraps where it is less
            self.memory.used.fetch_add(change, Relaxed);
            if let Some(of_client) = &self.of_client {
                of_client.fetch_add(change, Relaxed);
            }
            self.bytes = bytes;
        }
    }

    /// Whether the bound is exceeded and this connection holds a part of it. Only such a connection starts a search:
    /// the search then finds at least one to close.
    pub(super) fn is_over(&self) -> bool {
        self.bytes > 0 && self.memory.is_over()
    }

    /// The size by which connections are compared: a power of two.
    pub(super) fn class(&self) -> u32 {
        self.bytes.checked_ilog2().unwrap_or(0)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_a_share_of_the_limit_within_bounds_of_its_own() {
        for (limit, bound) in [
            (None, 16 << 20),
            (Some(u64::MAX), 16 << 20),
            (Some(128 << 20), 16 << 20),
            (Some(64 << 20), 8 << 20),
            (Some(8 << 20), 1 << 20),
            (Some(0), 1 << 20),
        ] {
            assert_eq!(head_memory(limit), bound, "{limit:?}");
        }
    }

    #[test]
    fn the_sum_is_that_of_all_shares_that_are_left() {
        let memory = Memory::new(2000);
        let mut shares: Vec<Share> = (0..3).map(|_| Share::of(&memory)).collect();
        let used = || memory.used.load(Relaxed);
        shares[0].set(FREE_BYTES);
        assert_eq!(used(), 0);
        shares[0].set(1000);
        shares[1].set(1000);
        assert_eq!((used(), memory.is_over()), (2000, false));
        shares[2].set(FREE_BYTES + 1);
        assert_eq!((used(), memory.is_over()), (2513, true));
        shares[0].set(700);
        assert_eq!(used(), 2213);
        shares.pop();
        shares[1].set(FREE_BYTES);
        assert_eq!((used(), memory.has_room()), (700, true));
        drop(shares);
        assert_eq!(used(), 0);
    }
}
