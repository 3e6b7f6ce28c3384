//! Memory that a thread keeps for its next message: connections have buffers only while bytes are in them, and a
//! call that follows another allocates next to nothing.

use std::cell::RefCell;

/// The first size of a buffer that is read into; most messages fit.
pub(crate) const FIRST_BYTES: usize = 8 * 1024;

/// The size to which one grows while reads fill it: what is read is still in the processor's first cache when it is
/// written. With twice as much a large answer takes a quarter more.
pub(crate) const MAX_BYTES: usize = 32 * 1024;

/// The first size of what holds one head; most heads fit.
const HEAD_BYTES: usize = 512;

/// The fields that a list of them has room for at first.
pub(crate) const FIELDS: usize = 16;

/// Where one field of a head is: its name and its value.
pub(crate) type Field = (crate::head::Span, crate::head::Span);

/// What a thread keeps: a buffer for each side of a call, and the heads of calls that wait for their answers, of
/// which a poller has many. A worker that has nothing to do keeps nothing.
#[derive(Default)]
struct Kept {
    buffers: Stack<Vec<u8>, 2>,
    heads: Stack<Vec<u8>, 128>,
    fields: Stack<Vec<Field>, 128>,
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

/// An empty vector for a head.
pub(crate) fn head() -> Vec<u8> {
    KEPT.with_borrow_mut(|kept| kept.heads.0.pop()).unwrap_or_else(|| Vec::with_capacity(HEAD_BYTES))
}

/// An empty list of fields.
pub(crate) fn fields() -> Vec<Field> {
    KEPT.with_borrow_mut(|kept| kept.fields.0.pop()).unwrap_or_else(|| Vec::with_capacity(FIELDS))
}

/// Keeps bytes that are no longer needed, or frees them.
pub(crate) fn give(mut bytes: Vec<u8>) {
    bytes.clear();
    match bytes.capacity() {
        FIRST_BYTES..=MAX_BYTES => KEPT.with_borrow_mut(|kept| kept.buffers.push(bytes)),
        HEAD_BYTES..FIRST_BYTES => KEPT.with_borrow_mut(|kept| kept.heads.push(bytes)),
        _ => {}
    }
}

/// Keeps a list of fields that is no longer needed, or frees it.
pub(crate) fn give_fields(mut fields: Vec<Field>) {
    fields.clear();
    if (FIELDS..=8 * FIELDS).contains(&fields.capacity()) {
        KEPT.with_borrow_mut(|kept| kept.fields.push(fields));
    }
}

/// Frees what this thread keeps; for one that will have nothing to do.
pub(crate) fn clear() {
    KEPT.take();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> (usize, usize, usize) {
        KEPT.with_borrow(|kept| (kept.buffers.0.len(), kept.heads.0.len(), kept.fields.0.len()))
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
        for capacity in [0, HEAD_BYTES - 1, MAX_BYTES + 1] {
            give(Vec::with_capacity(capacity));
        }
        give_fields(Vec::with_capacity(8 * FIELDS + 1));
        assert_eq!(kept(), (0, 0, 0));
        for _ in 0..200 {
            give(Vec::with_capacity(FIRST_BYTES));
            give(Vec::with_capacity(MAX_BYTES));
            give(Vec::with_capacity(HEAD_BYTES));
            give_fields(Vec::with_capacity(FIELDS));
        }
        assert_eq!(kept(), (2, 128, 128));
        clear();
        assert_eq!(kept(), (0, 0, 0));
    }
}
