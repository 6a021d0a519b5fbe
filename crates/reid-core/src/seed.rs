//! Seeds: the source of all randomness, split into independent named streams.

use rand::SeedableRng;
use serde::{Deserialize, Serialize};

/// The random number generator that a [`Seed`] creates: `ChaCha` with 8 rounds, the same on every platform.
pub type Stream = rand_chacha::ChaCha8Rng;

/// A 64-bit number from which independent random streams are derived.
///
/// A stream is a pure function of the seed, of the stream's name and of its indices, such as the epoch and
/// the image. Results therefore do not depend on the order in which threads run. A resumed run draws the
/// same random numbers as an uninterrupted one, without saving the state of a generator.
///
/// ```
/// use rand::RngExt;
/// use reid_core::Seed;
///
/// let augmentation = Seed::new(7).named("augmentation");
/// let draw = |epoch, image| augmentation.at(epoch).at(image).stream().random::<u32>();
/// assert_eq!(draw(3, 14), draw(3, 14));
/// assert_ne!(draw(3, 14), draw(3, 15));
/// assert_ne!(augmentation, Seed::new(7).named("sampler"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(u64);

impl Seed {
    /// Creates a seed from a number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Derives the seed of a named stream, such as `weights`, `sampler` or `augmentation`.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        // FNV-1a of the name (http://www.isthe.com/chongo/tech/comp/fnv/), then mixed with the seed.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        Self(mix(self.0 ^ mix(hash)))
    }

    /// Derives the seed of one index of a stream, such as an epoch, a training step or an image.
    #[must_use]
    pub fn at(self, index: u64) -> Self {
        Self(mix(self.0.rotate_left(32) ^ mix(index)))
    }

    /// Creates the random number generator of this seed.
    #[must_use]
    pub fn stream(self) -> Stream {
        Stream::seed_from_u64(self.0)
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea, Flood 2014): a bijection that mixes all bits.
const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::RngExt;

    use super::*;

    #[test]
    fn streams_differ_by_seed_name_and_index() {
        let mut seen = BTreeSet::new();
        for number in 0..10 {
            for name in ["weights", "sampler", "augmentation", "partners", ""] {
                let seed = Seed::new(number).named(name);
                assert!(seen.insert(seed.number()));
                for index in 0..50 {
                    assert!(seen.insert(seed.at(index).number()));
                    assert!(seen.insert(seed.at(index).at(index).number()));
                }
            }
        }
    }

    #[test]
    fn draws_stay_the_same_from_release_to_release() {
        let mut stream = Seed::new(1).named("weights").stream();
        assert_eq!(stream.random::<u64>(), 6_941_792_906_038_658_692);
    }
}
