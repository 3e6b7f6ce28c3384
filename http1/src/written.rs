//! A buffer for many short pieces: a head that is being written, and the bytes that wait to be sent.

use std::ops::Deref;

use kit::number::hex;

use crate::spare;

/// Bytes that were written. A copy of a short piece is a few instructions here; a call of musl's memcpy for each piece
/// would take longer than all the rest of writing a head.
#[derive(Debug, Default)]
pub struct Written {
    /// Initialised memory, longer than the bytes in it.
    room: Vec<u8>,
    length: usize,
}

impl Written {
    /// An empty buffer with memory for a usual head.
    pub(crate) fn head() -> Written {
        Written { room: spare::room(), length: 0 }
    }

    /// Appends a piece.
    pub(crate) fn put(&mut self, piece: &[u8]) {
        copy(self.next(piece.len()), piece);
    }

    /// Appends pieces that belong together.
    pub(crate) fn put_all<const N: usize>(&mut self, pieces: [&[u8]; N]) {
        let mut rest = self.next(pieces.iter().map(|piece| piece.len()).sum());
        for piece in pieces {
            let (place, behind) = rest.split_at_mut(piece.len());
            copy(place, piece);
            rest = behind;
        }
    }

    /// Appends a line of a head.
    pub(crate) fn put_field(&mut self, name: &[u8], value: &[u8]) {
        let line = self.next(name.len() + value.len() + 4);
        let (start, rest) = line.split_at_mut(name.len());
        copy(start, name);
        let (colon, rest) = rest.split_at_mut(2);
        colon.copy_from_slice(b": ");
        let (middle, end) = rest.split_at_mut(value.len());
        copy(middle, value);
        end.copy_from_slice(b"\r\n");
    }

    /// Appends a number in hexadecimal digits.
    pub(crate) fn put_hex(&mut self, value: u64) {
        let zeros = value.leading_zeros() as usize / 4;
        self.put(&hex(value)[zeros.min(15)..]);
    }

    /// The next `count` bytes, to be written.
    #[inline(always)]
    fn next(&mut self, count: usize) -> &mut [u8] {
        let (start, end) = (self.length, self.length + count);
        if end > self.room.len() {
            self.grow(end);
        }
        self.length = end;
        &mut self.room[start..end]
    }

    #[cold]
    fn grow(&mut self, end: usize) {
        if self.room.is_empty() {
            self.room = spare::room();
        }
        if end > self.room.len() {
            self.room.resize(end.max(2 * self.room.len()), 0);
        }
    }
}

impl Deref for Written {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.room[..self.length]
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        spare::give_room(std::mem::take(&mut self.room));
    }
}

/// Copies a piece to a place of the same length: a short one by its first and its last bytes, which may overlap.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) {
    fn ends<const N: usize>(to: &mut [u8], from: &[u8]) -> Option<()> {
        let (first, last) = (from.first_chunk::<N>()?, from.last_chunk::<N>()?);
        *to.first_chunk_mut()? = *first;
        *to.last_chunk_mut()? = *last;
        Some(())
    }
    let _ = match from.len() {
        33.. => {
            to.copy_from_slice(from);
            Some(())
        }
        16.. => ends::<16>(to, from),
        8.. => ends::<8>(to, from),
        4.. => ends::<4>(to, from),
        2.. => ends::<2>(to, from),
        _ => ends::<1>(to, from), // or nothing
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_length_are_put_behind_each_other() {
        let all: Vec<u8> = (0..=255).cycle().take(3000).collect();
        for length in 0..200 {
            let mut written = Written::default();
            all.chunks(length.max(1)).for_each(|piece| written.put(piece));
            written.put(b"");
            assert_eq!(*written, all, "{length}");
        }
        let mut written = Written::default();
        for value in [0, 9, 10, 0xabc, 0x1000, u64::MAX] {
            written.put_hex(value);
            written.put(b" ");
        }
        assert_eq!(*written, *b"0 9 a abc 1000 ffffffffffffffff ");
    }
}
