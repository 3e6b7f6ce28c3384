//! Random numbers that can be repeated: every generator says its seed, and `FAAS_SEED` sets it.
//! Also [`Noise`], a long body that costs no memory, and [`Matches`], which recognises it.

use std::io::{self, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::locate;

/// The variable that repeats a run.
const ENV_SEED: &str = "FAAS_SEED";

/// A small generator (splitmix64): good enough to choose test cases, not for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator with the seed from `FAAS_SEED`, or with a new one; it is printed either way, and so shows
    /// with the test's failure.
    ///
    /// # Panics
    /// When `FAAS_SEED` is not an integer.
    #[must_use]
    pub fn from_env() -> Rng {
        let seed = match locate::variable(ENV_SEED) {
            Some(text) => text.parse().unwrap_or_else(|e| panic!("{ENV_SEED}=`{text}`: {e}")),
            None => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64),
        };
        println!("{ENV_SEED}={seed}");
        Rng(seed)
    }

    /// A generator with a fixed seed.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.number().checked_rem(bound as u64).unwrap_or(0) as usize
    }

    /// True once in `times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of `items`.
    ///
    /// # Panics
    /// When there are none.
    pub fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// That many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

/// `length` bytes that follow from a seed, made as they are read.
#[derive(Clone, Debug)]
pub struct Noise {
    rng: Rng,
    left: u64,
    /// Of the last number, what a read had no room for.
    rest: Vec<u8>,
}

impl Noise {
    /// The noise of `seed`.
    #[must_use]
    pub fn new(seed: u64, length: u64) -> Noise {
        Noise { rng: Rng::new(seed), left: length, rest: vec![] }
    }
}

impl Read for Noise {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let size = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let buf = &mut buf[..size];
        let from_rest = self.rest.len().min(size);
        buf[..from_rest].copy_from_slice(&self.rest[..from_rest]);
        self.rest.drain(..from_rest);
        for piece in buf[from_rest..].chunks_mut(8) {
            let number = self.rng.number().to_le_bytes();
            piece.copy_from_slice(&number[..piece.len()]);
            self.rest = number[piece.len()..].to_vec();
        }
        self.left -= size as u64;
        Ok(size)
    }
}

/// A sink that fails at the first byte that differs from the noise of a seed.
#[derive(Debug)]
pub struct Matches {
    noise: Noise,
    seen: u64,
}

impl Matches {
    /// Expects `length` bytes of the noise of `seed`.
    #[must_use]
    pub fn new(seed: u64, length: u64) -> Matches {
        Matches { noise: Noise::new(seed, length), seen: 0 }
    }

    /// Whether all of it came, and nothing else.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.noise.left == 0
    }
}

impl Write for Matches {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut want = vec![0; buf.len()];
        let size = self.noise.read(&mut want)?;
        if size < buf.len() || want != buf {
            let same = want[..size].iter().zip(buf).take_while(|(want, got)| want == got).count();
            return Err(io::Error::other(format!("differs at byte {}", self.seen + same as u64)));
        }
        self.seen += size as u64;
        Ok(size)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats() {
        let mut rng = Rng::from_env();
        let seed = rng.number();
        assert_eq!(Rng::new(seed).bytes(100), Rng::new(seed).bytes(100));
        assert_ne!(Rng::new(seed).bytes(100), Rng::new(seed ^ 1).bytes(100));
        assert!((0..1000).all(|_| rng.below(7) < 7));
        assert_eq!(rng.below(0), 0);
        assert!([1, 2, 3].contains(rng.choose(&[1, 2, 3])) && rng.one_in(1));
    }

    #[test]
    fn noise_does_not_depend_on_how_it_is_read() {
        let mut whole = vec![];
        assert_eq!(Noise::new(5, 1003).read_to_end(&mut whole).unwrap(), 1003);
        let (mut noise, mut pieces, mut rng) = (Noise::new(5, 1003), vec![], Rng::from_env());
        while pieces.len() < 1003 {
            let mut piece = vec![0; rng.below(20)];
            let size = noise.read(&mut piece).unwrap();
            pieces.extend_from_slice(&piece[..size]);
        }
        assert!(whole == pieces && whole[..] == Rng::new(5).bytes(1003));
    }

    #[test]
    fn a_difference_is_found() {
        let bytes = Rng::new(9).bytes(500);
        let mut matches = Matches::new(9, 500);
        matches.write_all(&bytes[..100]).unwrap();
        assert!(!matches.is_whole());
        matches.write_all(&bytes[100..]).unwrap();
        assert!(matches.is_whole());
        assert_eq!(matches.write_all(b"x").unwrap_err().to_string(), "differs at byte 500");
        let mut wrong = bytes.clone();
        wrong[123] ^= 1;
        let mut matches = Matches::new(9, 500);
        assert_eq!(matches.write_all(&wrong).unwrap_err().to_string(), "differs at byte 123");
    }
}
