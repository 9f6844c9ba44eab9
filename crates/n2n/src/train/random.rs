//! Random numbers of a run. Each stream is a pure function of the seed and of what it is for, so
//! that no order of threads can change a run and none of it has to be saved to go on with one.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What random numbers are drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The order of the images in an epoch.
    Shuffle = 1,
    /// The place of a patch in its image.
    Crop = 2,
    /// The noise on a batch.
    Noise = 3,
    /// The neighbours drawn on a batch.
    Neighbors = 4,
}

/// The stream for one purpose at one point of a run: `index` is the position in the epoch, below
/// 2³²; `epoch` is below 2²⁸.
pub fn stream(seed: u64, purpose: Purpose, epoch: usize, index: usize) -> ChaCha8Rng {
    debug_assert!(epoch < 1 << 28 && index < 1 << 32);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((purpose as u64) << 60 | (epoch as u64) << 32 | index as u64);
    rng
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::Rng;

    use super::*;

    #[test]
    fn streams_repeat_and_no_two_are_the_same() {
        use Purpose::{Crop, Neighbors, Noise, Shuffle};
        let mut seen = HashSet::new();
        for seed in [0, 1, u64::MAX] {
            for purpose in [Shuffle, Crop, Noise, Neighbors] {
                for epoch in [0, 1, 2, (1 << 28) - 1] {
                    for index in [0, 1, 2, (1 << 32) - 1] {
                        let draw = || stream(seed, purpose, epoch, index).next_u64();
                        assert_eq!(draw(), draw());
                        assert!(seen.insert(draw()));
                    }
                }
            }
        }
    }
}
