//! How pages are denoised.

use std::str::FromStr;

use super::Padding;
use crate::error::{Error, Result};

/// How pages are denoised.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How a page is padded to a size that the network takes.
    pub padding: Padding,
    /// How it is cut into tiles.
    pub tile: Tile,
    /// Memory limit for the network, its tiles and the rows of the page that are in memory with them, in bytes; a page
    /// that is decoded as a whole takes its memory in addition.
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
            max_bytes: 2_500_000_000,
            strength: 1.0,
            ensemble: false,
            with_noisy: false,
        }
    }
}

/// How large tiles are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tile {
    /// As large as memory allows; the whole image as one tile, if that fits.
    Auto,
    /// One tile; an error if it needs more memory than the limit.
    None,
    /// This many pixels high and wide, without the halo, rounded up to a multiple of the network's grid; an error if
    /// they need more memory than the limit.
    Side(usize),
}

impl FromStr for Tile {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            ("none", _) => Ok(Self::None),
            (_, Ok(side)) if side > 0 => Ok(Self::Side(side)),
            _ => Err(Error::value(
                "tile",
                "auto, none or a number of pixels",
                text,
            )),
        }
    }
}
