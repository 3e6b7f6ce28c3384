//! Buffers that a thread keeps for its next message, so that connections have one only while bytes are in it.

use std::cell::RefCell;

/// The first size of a buffer; most messages fit.
pub(crate) const FIRST_BYTES: usize = 8 * 1024;

/// The size to which one grows while reads fill it: larger gains nothing measurable on loopback.
pub(crate) const MAX_BYTES: usize = 64 * 1024;

/// Kept by each thread: one for what comes from the client, one for what comes from upstream.
const KEPT: usize = 2;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with room.
pub(crate) fn take() -> Vec<u8> {
    let kept = SPARE.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| Vec::with_capacity(FIRST_BYTES))
}

/// Keeps a buffer whose bytes are no longer needed, or frees it.
pub(crate) fn give(mut buffer: Vec<u8>) {
    buffer.clear();
    if (FIRST_BYTES..=MAX_BYTES).contains(&buffer.capacity()) {
        SPARE.with_borrow_mut(|spare| if spare.len() < KEPT { spare.push(buffer) });
    }
}

/// Frees what this thread keeps; for one that will have nothing to do.
pub(crate) fn clear() {
    SPARE.take();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_up_to_a_bound() {
        clear();
        let mut first = take();
        first.extend_from_slice(b"secret");
        let place = first.as_ptr();
        give(first);
        let again = take();
        assert!(again.is_empty() && again.as_ptr() == place);
        [again, take(), take()].into_iter().for_each(give);
        give(Vec::with_capacity(MAX_BYTES + 1));
        give(Vec::new());
        assert_eq!(SPARE.with_borrow(Vec::len), KEPT);
        clear();
        assert_eq!(SPARE.with_borrow(Vec::len), 0);
    }
}
