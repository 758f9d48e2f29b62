//! The number by which a node stands in line for a VIP, and its order under weights.
//!
//! In: node name, address text, weight. Out: [`Hash`] and [`Score`], totally ordered.
//! Not here: which nodes stand in line (`ranking`).
//!
//! h = sha256(node + "#" + address), read as a big-endian number, is what MetalLB's layer-2 mode
//! sorts its nodes by (`speaker/layer2_controller.go`, `ShouldAnnounce`): ascending bytes, the first
//! announces. Weights follow from drawing an exponential time with rate w for each node,
//! -ln(1 - h/2^256)/w, and taking the earliest: a node wins with probability w / sum of weights.
//!
//! The base of the logarithm does not change the order, so base 2 it is: [`cost`] has 112 fractional
//! bits, is off by less than 2^-111, and never falls as h grows. Two scores compare by exact cross
//! multiplication (120 + 7 bits), then by h. So equal weights compare as h does, whatever was
//! rounded, and the order is total.

use std::cmp::Ordering;

use sha2::block_api::compress256;
use sha2::{Digest as _, Sha256};

/// A SHA-256 value as a number: most significant word first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hash(pub(super) [u64; 4]);

/// FIPS 180-4, section 5.3.3.
const INITIAL: [u32; 8] =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

impl Hash {
    /// The hash of `node` + "#" + `text`.
    ///
    /// Nearly all of these fit one block; filling it here takes half the time that the buffered
    /// hasher does, and a plan of 10,000 VIPs on 100 nodes makes a million of them.
    pub(super) fn of(node: &str, text: &str) -> Self {
        let (node, text) = (node.as_bytes(), text.as_bytes());
        let (hash_at, text_at) = (node.len(), node.len() + 1);
        let end = text_at + text.len();
        if end > 55 {
            let mut hasher = Sha256::new();
            hasher.update(node);
            hasher.update(b"#");
            hasher.update(text);
            let bytes: [u8; 32] = hasher.finalize().into();
            let word = |i: usize| bytes[8 * i..8 * i + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
            return Self([word(0), word(1), word(2), word(3)]);
        }
        let mut block = [0; 64];
        block[..hash_at].copy_from_slice(node);
        block[hash_at] = b'#';
        block[text_at..end].copy_from_slice(text);
        block[end] = 0x80;
        block[56..].copy_from_slice(&(end as u64 * 8).to_be_bytes());
        let mut state = INITIAL;
        compress256(&mut state, &[block]);
        let word = |i: usize| u64::from(state[2 * i]) << 32 | u64::from(state[2 * i + 1]);
        Self([word(0), word(1), word(2), word(3)])
    }
}

/// Fractional bits of [`cost`].
const FRACTION: u32 = 112;

/// -log2(1 - h/2^256) with 112 fractional bits; at most 256.
///
/// The logarithm's bits are found by squaring the mantissa: each squaring doubles the logarithm, so
/// its integer part is the next bit. Truncation keeps the order of two mantissas in every step, and
/// the first differing bit decides for good: therefore the result is monotone.
pub(super) fn cost(hash: Hash) -> u128 {
    let [a, b, c, d] = hash.0;
    let (high, low) = (u128::from(a) << 64 | u128::from(b), u128::from(c) << 64 | u128::from(d));
    if high == 0 && low == 0 {
        return 0;
    }
    // x = 2^256 - h, normalized to a mantissa in [1, 2) with 127 fractional bits.
    let (low, carry) = (!low).overflowing_add(1);
    let high = (!high).wrapping_add(u128::from(carry));
    let zeros = if high == 0 { 128 + low.leading_zeros() } else { high.leading_zeros() };
    let mut mantissa = match zeros {
        0 => high,
        1..128 => high << zeros | low >> (128 - zeros),
        _ => low << (zeros - 128),
    };
    let mut log = 0u128;
    for _ in 0..FRACTION {
        let (high, low) = square(mantissa);
        log <<= 1;
        if high >> 127 == 1 {
            log |= 1;
            mantissa = high;
        } else {
            mantissa = high << 1 | low >> 127;
        }
    }
    (u128::from(zeros + 1) << FRACTION) - log
}

/// The square of a number, high and low half.
fn square(n: u128) -> (u128, u128) {
    const HALF: u128 = u64::MAX as u128;
    let (a, b) = (n >> 64, n & HALF);
    let (aa, ab, bb) = (a * a, a * b, b * b);
    // n^2 = aa 2^128 + 2 ab 2^64 + bb
    let (low, carry) = bb.overflowing_add(ab << 65);
    (aa + (ab >> 63) + u128::from(carry), low)
}

/// Where a node stands in line: ascending.
#[derive(Debug, Clone, Copy)]
pub(super) struct Score {
    cost: u128,
    weight: u8,
    hash: Hash,
}

impl Score {
    /// The score of a node of this weight, which is not 0.
    pub(super) fn new(hash: Hash, weight: u8) -> Self {
        Self { cost: cost(hash), weight, hash }
    }

    /// A score that is only compared with others of the same weight: h alone decides.
    pub(super) fn unweighted(hash: Hash) -> Self {
        Self { cost: 0, weight: 1, hash }
    }

    /// Is every score of `hash` and `weight` above this one? Cheap, and "no" when in doubt:
    /// -log2(1 - u) >= u / ln 2 > 23/16 u.
    pub(super) fn surely_below(&self, hash: Hash, weight: u8) -> bool {
        let [a, b, ..] = hash.0;
        let floor = (u128::from(a) << 48 | u128::from(b) >> 16) / 16 * 23;
        floor * u128::from(self.weight) > self.cost * u128::from(weight)
    }
}

impl Ord for Score {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.cost * u128::from(other.weight), other.cost * u128::from(self.weight));
        a.cmp(&b).then(self.hash.cmp(&other.hash))
    }
}

impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Score {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Score {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Digest;

    fn bytes(hash: Hash) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (at, word) in hash.0.iter().enumerate() {
            bytes[8 * at..8 * at + 8].copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    proptest! {
        #[test]
        fn the_hash_is_sha256_at_every_length(node in "[a-z0-9]{1,80}", text in "[0-9a-f:.]{1,45}") {
            prop_assert_eq!(bytes(Hash::of(&node, &text)), Digest::of(format!("{node}#{text}").as_bytes()).0);
        }

        #[test]
        fn equal_weights_stand_in_the_order_of_the_hash(
            a in any::<[u64; 4]>(), near in any::<bool>(), b in any::<[u64; 4]>(), weight in 1..=100u8,
        ) {
            // Half of the pairs differ in the last bits only, where rounding would show.
            let b = if near { [a[0], a[1], a[2], b[3]] } else { b };
            prop_assert_eq!(Score::new(Hash(a), weight).cmp(&Score::new(Hash(b), weight)), a.cmp(&b));
        }

        #[test]
        fn what_is_pruned_stands_behind(
            a in any::<[u64; 4]>(), b in any::<[u64; 4]>(), shift in 0..40u32, v in 1..=100u8, w in 1..=100u8,
        ) {
            let (a, b) = (Hash([a[0] >> shift, a[1], a[2], a[3]]), Hash(b));
            let first = Score::new(a, v);
            if first.surely_below(b, w) {
                prop_assert!(first < Score::new(b, w));
            }
        }
    }

    #[test]
    fn the_logarithm_is_right_where_it_is_known() {
        let half = Hash([1 << 63, 0, 0, 0]);
        assert_eq!(cost(half), 1 << FRACTION);
        assert_eq!(cost(Hash([0; 4])), 0);
        assert_eq!(cost(Hash([u64::MAX; 4])), 256 << FRACTION);
        assert_eq!(cost(Hash([0b111 << 61, 0, 0, 0])), 3 << FRACTION);
    }

    #[test]
    fn the_logarithm_agrees_with_an_independent_one_to_its_last_bits() {
        // mpmath, 100 digits: int(-log(1 - h/2**256, 2) * 2**112)
        for (word, expected) in [
            (0x0000_0000_0000_0001, EXPECTED[0]),
            (0x0000_1000_0000_0000, EXPECTED[1]),
            (0x5555_5555_5555_5555, EXPECTED[2]),
            (0xfedc_ba98_7654_3210, EXPECTED[3]),
        ] {
            let off = cost(Hash([word, 0, 0, 0])).abs_diff(expected);
            assert!(off <= 2, "{word:x}: off by {off} units of 2^-112");
        }
    }

    const EXPECTED: [u128; 4] = [
        406082553034799,
        7143883228849145473476681418,
        3037298954855136081926450023803507,
        40571471532434744786540303763504532,
    ];
}
