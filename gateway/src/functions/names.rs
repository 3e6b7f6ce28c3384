//! A map by function name with a cheap hash that does not resist chosen keys. The operator chooses the keys. Strangers
//! choose the names to look up, but cannot add keys: a look-up compares with the keys of one slot, whatever the name.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::function::FunctionName;

/// Values by function name.
pub(crate) type ByName<T> = HashMap<FunctionName, T, BuildHasherDefault<NameHasher>>;

/// An odd number whose bits are mixed well: the fraction of the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies eight bytes at a time into the state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NameHasher(u64);

impl NameHasher {
    fn mix(&mut self, word: u64) {
        let mixed = (self.0 ^ word).wrapping_mul(FACTOR);
        self.0 = mixed ^ (mixed >> 32); // the map takes bits from both ends
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.mix(u64::from_le_bytes(*word)));
        self.mix(rest.iter().fold(bytes.len() as u64, |word, byte| word << 8 | u64::from(*byte)));
    }

    /// What `str` adds behind its bytes. Their number is in the state already.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::Hash as _;

    #[test]
    fn similar_names_spread_over_the_map() {
        let hash = |name: &str| {
            let mut hasher = NameHasher::default();
            name.hash(&mut hasher);
            hasher.finish()
        };
        let numbered = (0..4096).map(|number| format!("function-{number}"));
        let long = (0..4096).map(|number| format!("{number}{}", "x".repeat(124)));
        for names in [numbered.collect::<Vec<_>>(), long.collect()] {
            // As the map takes them: the lowest bits say where, the highest tell neighbours apart.
            let low: HashSet<u64> = names.iter().map(|name| hash(name) % 8192).collect();
            let high: HashSet<u64> = names.iter().map(|name| hash(name) >> 57).collect();
            assert!(low.len() > 2800 && high.len() == 128, "{} {}", low.len(), high.len()); // 3223 at random
        }
    }
}
