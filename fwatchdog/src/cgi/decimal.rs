//! Numbers in decimal digits. The formatting of the standard library takes hundreds of instructions for each.

/// The most digits of a number.
pub(crate) const MAX_DIGITS: usize = 20;

/// Writes the digits of a number to the end of `room`, and returns them.
pub(crate) fn decimal(mut value: u64, room: &mut [u8; MAX_DIGITS]) -> &[u8] {
    let mut start = MAX_DIGITS;
    loop {
        start -= 1;
        room[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &room[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_its_digits() {
        for value in [0, 1, 9, 10, 4711, u64::MAX] {
            assert_eq!(decimal(value, &mut [0; MAX_DIGITS]), value.to_string().as_bytes());
        }
    }
}
