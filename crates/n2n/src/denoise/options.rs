//! How pages are denoised.

use super::{Padding, Tile};

/// How pages are denoised.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How a page is padded to a size that the network takes.
    pub padding: Padding,
    /// How it is cut into tiles.
    pub tile: Tile,
    /// Memory limit for the page, its tiles and the network together, in bytes.
    pub max_bytes: u64,
    /// The fraction of the network's change that is applied: 0 for nothing, 1 for all of it.
    pub strength: f32,
    /// Whether to average over the eight flips and 90° rotations.
    pub ensemble: bool,
    /// Whether the noisy rows are returned as well. [`predict`](crate::predict::predict) sets it.
    pub with_noisy: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            padding: Padding::Multiple,
            tile: Tile::Auto,
            max_bytes: 2_000_000_000,
            strength: 1.0,
            ensemble: false,
            with_noisy: false,
        }
    }
}
