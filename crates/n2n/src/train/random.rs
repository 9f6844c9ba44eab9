//! Random numbers of a run. Each stream is a pure function of the seed and its purpose, so that the order of threads
//! cannot change a run, and no generator state has to be saved to resume one.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The purpose of a random draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The order of the images in an epoch.
    Shuffle = 1,
    /// The position of a patch in its image.
    Crop = 2,
    /// The noise on a batch.
    Noise = 3,
    /// The neighbors drawn on a batch.
    Neighbors = 4,
    /// The flips and rotations of a patch.
    Augment = 5,
    /// The images that are held out, and the neighbors drawn on them.
    HoldOut = 6,
    /// The draws of a device for a step.
    Step = 7,
    /// The flips and rotations of the images that a teacher sees.
    Teacher = 8,
    /// The patches and pixels that a model is adapted on.
    Adapt = 9,
}

/// The stream for one purpose at one point of a run. `index` is the position in the epoch, below 2³²; `epoch` is below
/// 2²⁸.
pub fn stream(seed: u64, purpose: Purpose, epoch: usize, index: usize) -> ChaCha8Rng {
    // On WebAssembly, `usize` has 32 bits.
    let (epoch, index) = (epoch as u64, index as u64);
    debug_assert!(epoch < 1 << 28 && index < 1 << 32);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((purpose as u64) << 60 | epoch << 32 | index);
    rng
}

/// The stream for part `index` of the image `name`, the same at every visit.
pub fn image_stream(seed: u64, name: &str, index: u64) -> ChaCha8Rng {
    let parts = [&seed.to_le_bytes(), name.as_bytes()];
    let mut rng = ChaCha8Rng::seed_from_u64(fnv1a(parts.into_iter().flatten()));
    rng.set_stream(index);
    rng
}

/// The 64-bit FNV-1a hash, which, unlike the standard library's, never changes.
/// <https://datatracker.ietf.org/doc/html/rfc9923>
pub fn fnv1a<'a>(bytes: impl IntoIterator<Item = &'a u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::Rng;

    use super::*;

    #[test]
    fn streams_repeat_and_no_two_are_the_same() {
        use Purpose::{Adapt, Augment, Crop, HoldOut, Neighbors, Noise, Shuffle, Step, Teacher};
        let mut seen = HashSet::new();
        for seed in [0, 1, u64::MAX] {
            for purpose in [
                Shuffle, Crop, Noise, Neighbors, Augment, HoldOut, Step, Teacher, Adapt,
            ] {
                for epoch in [0, 1, 2, (1 << 28) - 1] {
                    for index in [0, 1, 2, (1 << 32) - 1] {
                        let draw = || stream(seed, purpose, epoch, index).next_u64();
                        assert_eq!(draw(), draw());
                        assert!(seen.insert(draw()));
                    }
                }
            }
            for name in ["", "a.png", "b.png"] {
                for index in [0, 1, u64::MAX] {
                    let draw = || image_stream(seed, name, index).next_u64();
                    assert_eq!(draw(), draw());
                    assert!(seen.insert(draw()));
                }
            }
        }
    }

    /// The test vectors of the authors, <http://www.isthe.com/chongo/src/fnv/test_fnv.c>.
    #[test]
    fn the_hash_is_fnv1a() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
