//! Memory that a thread keeps for its next message. A connection has a buffer only while bytes are in it, and a call
//! that follows another one allocates next to nothing.

use std::cell::RefCell;

use crate::span::Field;

/// The first size of a buffer that is read into; most messages fit.
pub(crate) const FIRST_BYTES: usize = 8 * 1024;

/// The size to which one grows while reads fill it: what is read is still in the processor's first cache when it is
/// written. With twice as much a large answer takes a quarter more.
pub(crate) const MAX_BYTES: usize = 32 * 1024;

/// The first size of the memory for one head; most heads fit.
const HEAD_BYTES: usize = 512;

/// The largest memory for one head that is kept: the next head may be small, and holds all of it.
const MAX_HEAD_BYTES: usize = 4 * HEAD_BYTES;

/// The first number of fields that a list has room for.
pub(crate) const FIELDS: usize = 16;

/// What a thread keeps: a buffer for each side of a call, and memory for the heads of calls that wait for their
/// answers. A poller has many such calls. A worker without work keeps nothing.
#[derive(Default)]
struct Kept {
    buffers: Stack<Vec<u8>, 2>,
    heads: Stack<Vec<u8>, 128>,
    fields: Stack<Vec<Field>, 128>,
    /// Initialised memory for heads that are written.
    rooms: Stack<Vec<u8>, 128>,
}

/// At most `N` things.
struct Stack<T, const N: usize>(Vec<T>);

impl<T, const N: usize> Default for Stack<T, N> {
    fn default() -> Self {
        Stack(Vec::new())
    }
}

impl<T, const N: usize> Stack<T, N> {
    fn push(&mut self, thing: T) {
        if self.0.len() < N {
            self.0.push(thing);
        }
    }
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// An empty buffer to read into.
pub(crate) fn buffer() -> Vec<u8> {
    KEPT.with_borrow_mut(|kept| kept.buffers.0.pop()).unwrap_or_else(|| Vec::with_capacity(FIRST_BYTES))
}

/// An empty vector for the bytes of a head.
pub(crate) fn head() -> Vec<u8> {
    KEPT.with_borrow_mut(|kept| kept.heads.0.pop()).unwrap_or_else(|| Vec::with_capacity(HEAD_BYTES))
}

/// An empty list of fields.
pub(crate) fn fields() -> Vec<Field> {
    KEPT.with_borrow_mut(|kept| kept.fields.0.pop()).unwrap_or_else(|| Vec::with_capacity(FIELDS))
}

/// Initialised memory to write a head into; old bytes may be in it.
pub(crate) fn room() -> Vec<u8> {
    KEPT.with_borrow_mut(|kept| kept.rooms.0.pop()).unwrap_or_else(|| vec![0; HEAD_BYTES])
}

/// Keeps a buffer that is no longer needed, or frees it.
pub(crate) fn give(mut buffer: Vec<u8>) {
    if (FIRST_BYTES..=MAX_BYTES).contains(&buffer.capacity()) {
        buffer.clear();
        KEPT.with_borrow_mut(|kept| kept.buffers.push(buffer));
    }
}

/// Keeps the memory of a parsed head, or frees it.
pub(crate) fn give_head(mut bytes: Vec<u8>, mut fields: Vec<Field>) {
    KEPT.with_borrow_mut(|kept| {
        if (HEAD_BYTES..=MAX_HEAD_BYTES).contains(&bytes.capacity()) {
            bytes.clear();
            kept.heads.push(bytes);
        }
        if (FIELDS..=8 * FIELDS).contains(&fields.capacity()) {
            fields.clear();
            kept.fields.push(fields);
        }
    });
}

/// Keeps the memory of a head that was written, or frees it.
pub(crate) fn give_room(room: Vec<u8>) {
    if (HEAD_BYTES..=MAX_HEAD_BYTES).contains(&room.len()) {
        KEPT.with_borrow_mut(|kept| kept.rooms.push(room));
    }
}

/// Frees what this thread keeps; for one that will have nothing to do.
pub(crate) fn clear() {
    KEPT.take();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> [usize; 4] {
        let count =
            |kept: &Kept| [kept.buffers.0.len(), kept.heads.0.len(), kept.fields.0.len(), kept.rooms.0.len()];
        KEPT.with_borrow(count)
    }

    #[test]
    fn what_was_given_is_used_again_empty() {
        clear();
        let mut first = buffer();
        first.extend_from_slice(b"secret");
        let place = first.as_ptr();
        give(first);
        let again = buffer();
        assert!(again.is_empty() && again.as_ptr() == place);
        assert!(head().capacity() < FIRST_BYTES);
    }

    #[test]
    fn no_more_is_kept_than_a_call_needs() {
        clear();
        for capacity in [0, FIRST_BYTES - 1, MAX_BYTES + 1] {
            give(Vec::with_capacity(capacity));
        }
        for capacity in [0, HEAD_BYTES - 1, MAX_HEAD_BYTES + 1] {
            give_head(Vec::with_capacity(capacity), Vec::with_capacity(8 * FIELDS + 1));
            give_room(vec![0; capacity]);
        }
        assert_eq!(kept(), [0; 4]);
        for _ in 0..200 {
            give(Vec::with_capacity(FIRST_BYTES));
            give(Vec::with_capacity(MAX_BYTES));
            give_head(Vec::with_capacity(HEAD_BYTES), Vec::with_capacity(FIELDS));
            give_room(vec![0; HEAD_BYTES]);
        }
        assert_eq!(kept(), [2, 128, 128, 128]);
        clear();
        assert_eq!(kept(), [0; 4]);
    }
}
