//! Where the values of the training images lie.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use crate::words::shown;

/// Where the values of all training images lie, in the units of their files, as a check that they are still the same.
///
/// Not a hash: decoders of JPEG differ in the last bit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// The lower end of the range that would be measured.
    pub low: f32,
    /// The median.
    pub median: f32,
    /// The upper end.
    pub high: f32,
}

impl Values {
    /// Whether these may be the values of the same images.
    pub fn agree(self, other: Self) -> bool {
        /// Part of the range by which values may differ.
        const TOLERATED: f32 = 1.0 / 32.0;
        let tolerated = TOLERATED * (self.high - self.low);
        let pairs = [
            (self.low, other.low),
            (self.median, other.median),
            (self.high, other.high),
        ];
        pairs.iter().all(|(a, b)| (a - b).abs() <= tolerated)
    }
}

impl Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, median, high] = [self.low, self.median, self.high].map(shown);
        write!(f, "{low} to {high}, with a median of {median}")
    }
}
