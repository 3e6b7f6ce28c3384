//! SHA-256 (FIPS 180-4), HMAC with it (RFC 2104), and the comparison of secrets, whose time does not depend on how much
//! matches.

use std::hint::black_box;

/// The bytes of a digest.
pub(crate) const DIGEST_BYTES: usize = 32;

/// A digest, or a message's authentication code.
pub(crate) type Digest = [u8; DIGEST_BYTES];

const BLOCK_BYTES: usize = 64;

/// The position of the message's length in its last block.
const LENGTH_AT: usize = BLOCK_BYTES - 8;

/// The first 32 bits of the fractional parts of the square roots of the first 8 primes.
const START: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
#[rustfmt::skip] // a table of eight columns, as the standard prints it
const ROUNDS: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// Whether `given` is the secret. The time depends on the length of `given` alone. `secret` is not empty.
pub(crate) fn same(given: &[u8], secret: &[u8]) -> bool {
    let mut difference = u8::from(given.len() != secret.len());
    for (byte, other) in given.iter().zip(secret.iter().cycle()) {
        difference = black_box(difference | (byte ^ other));
    }
    difference == 0
}

/// A digest of bytes that arrive in pieces.
#[derive(Clone)]
pub(crate) struct Sha256 {
    state: [u32; 8],
    /// The bytes of the current block.
    block: [u8; BLOCK_BYTES],
    /// The number of bytes so far.
    length: u64,
}

impl Sha256 {
    pub(crate) fn new() -> Sha256 {
        Sha256 { state: START, block: [0; BLOCK_BYTES], length: 0 }
    }

    /// The digest of one piece.
    pub(crate) fn of(data: &[u8]) -> Digest {
        let mut digest = Sha256::new();
        digest.update(data);
        digest.finish()
    }

    pub(crate) fn update(&mut self, mut data: &[u8]) {
        let filled = self.filled();
        self.length = self.length.wrapping_add(data.len() as u64);
        if filled > 0 {
            let (piece, rest) = data.split_at(data.len().min(BLOCK_BYTES - filled));
            self.block[filled..filled + piece.len()].copy_from_slice(piece);
            if filled + piece.len() < BLOCK_BYTES {
                return;
            }
            compress(&mut self.state, &self.block);
            data = rest;
        }
        let (blocks, rest) = data.as_chunks::<BLOCK_BYTES>();
        blocks.iter().for_each(|block| compress(&mut self.state, block));
        self.block[..rest.len()].copy_from_slice(rest);
    }

    pub(crate) fn finish(mut self) -> Digest {
        let (filled, bits) = (self.filled(), self.length.wrapping_mul(8));
        self.block[filled] = 0x80;
        self.block[filled + 1..].fill(0);
        if filled >= LENGTH_AT {
            compress(&mut self.state, &self.block);
            self.block.fill(0);
        }
        self.block[LENGTH_AT..].copy_from_slice(&bits.to_be_bytes());
        compress(&mut self.state, &self.block);
        let mut digest = [0; DIGEST_BYTES];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }

    /// The number of bytes in the current block.
    fn filled(&self) -> usize {
        (self.length % BLOCK_BYTES as u64) as usize
    }
}

/// Section 6.2.2 of the standard.
fn compress(state: &mut [u32; 8], block: &[u8; BLOCK_BYTES]) {
    let mut schedule = [0u32; 64];
    for (word, bytes) in schedule.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for at in 16..64 {
        let (early, late) = (schedule[at - 15], schedule[at - 2]);
        let early = early.rotate_right(7) ^ early.rotate_right(18) ^ early >> 3;
        let late = late.rotate_right(17) ^ late.rotate_right(19) ^ late >> 10;
        schedule[at] =
            schedule[at - 16].wrapping_add(early).wrapping_add(schedule[at - 7]).wrapping_add(late);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for (word, constant) in schedule.iter().zip(ROUNDS) {
        let choice = e & f ^ !e & g;
        let sum = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let first = h.wrapping_add(sum).wrapping_add(choice).wrapping_add(constant).wrapping_add(*word);
        let majority = a & b ^ a & c ^ b & c;
        let sum = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let second = sum.wrapping_add(majority);
        (h, g, f, e) = (g, f, e, d.wrapping_add(first));
        (d, c, b, a) = (c, b, a, first.wrapping_add(second));
    }
    for (word, more) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(more);
    }
}

/// The authentication code of bytes that arrive in pieces.
#[derive(Clone)]
pub(crate) struct Hmac {
    inner: Sha256,
    outer: Sha256,
}

impl Hmac {
    pub(crate) fn new(key: &[u8]) -> Hmac {
        let mut block = [0; BLOCK_BYTES];
        if key.len() > BLOCK_BYTES {
            block[..DIGEST_BYTES].copy_from_slice(&Sha256::of(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let padded = |with: u8| {
            let mut digest = Sha256::new();
            digest.update(&block.map(|byte| byte ^ with));
            digest
        };
        Hmac { inner: padded(0x36), outer: padded(0x5c) }
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        self.inner.update(data);
    }

    pub(crate) fn finish(mut self) -> Digest {
        self.outer.update(&self.inner.finish());
        self.outer.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hmac::Mac as _;
    use sha2::Digest as _;
    use testkit::rng::Rng;

    fn hex(digest: Digest) -> String {
        digest.map(|byte| format!("{byte:02x}")).concat()
    }

    fn code(key: &[u8], data: &[u8]) -> Digest {
        let mut hmac = Hmac::new(key);
        hmac.update(data);
        hmac.finish()
    }

    /// The examples that NIST gives for FIPS 180-4.
    #[test]
    fn digests_are_those_of_the_standard() {
        let long = vec![b'a'; 1_000_000];
        let cases: [(&[u8], &str); 5] = [
            (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (
                b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
                "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
            ),
            (&long, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
        ];
        for (data, want) in cases {
            assert_eq!(hex(Sha256::of(data)), want, "{} bytes", data.len());
        }
    }

    /// RFC 4231 without its fifth case, which truncates the code.
    #[test]
    fn codes_are_those_of_the_standard() {
        let counting: Vec<u8> = (1..=25).collect();
        let cases: [(&[u8], &[u8], &str); 6] = [
            (&[0x0b; 20], b"Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
            (&counting, &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                &[0xaa; 131],
                b"This is a test using a larger than block-size key and a larger than block-size data. \
                  The key needs to be hashed before being used by the HMAC algorithm.",
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
            ),
        ];
        for (key, data, want) in cases {
            assert_eq!(hex(code(key, data)), want, "{}", String::from_utf8_lossy(data));
        }
    }

    #[test]
    fn every_length_around_a_block_is_what_another_program_makes_of_it() {
        for length in 0..300 {
            let data = Rng::new(length as u64).bytes(length);
            assert_eq!(Sha256::of(&data)[..], sha2::Sha256::digest(&data)[..], "{length}");
            let mut other = hmac::Hmac::<sha2::Sha256>::new_from_slice(&data).unwrap();
            other.update(&data);
            assert_eq!(code(&data, &data)[..], other.finalize().into_bytes()[..], "{length}");
        }
    }

    #[test]
    fn it_does_not_matter_how_the_bytes_were_split() {
        let data = Rng::new(1).bytes(200);
        let want = code(b"key", &data);
        for first in 0..=data.len() {
            for second in first..=data.len() {
                let mut hmac = Hmac::new(b"key");
                [&data[..first], &data[first..second], &data[second..]]
                    .iter()
                    .for_each(|piece| hmac.update(piece));
                assert_eq!(hmac.finish(), want, "{first} {second}");
            }
        }
    }

    #[test]
    fn only_the_whole_secret_is_the_same() {
        for (given, secret, want) in [
            ("secret", "secret", true),
            ("", "secret", false),
            ("s", "secret", false),
            ("secre", "secret", false),
            ("secreT", "secret", false),
            ("Secret", "secret", false),
            ("secretsecret", "secret", false),
            ("secrets", "secret", false),
        ] {
            assert_eq!(same(given.as_bytes(), secret.as_bytes()), want, "{given}");
        }
    }
}
