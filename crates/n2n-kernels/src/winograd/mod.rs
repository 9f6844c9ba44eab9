//! Winograd's minimal filtering for 3×3 convolutions with padding 1 (Lavin and Gray, 2016):
//! F(4×4, 3×3), which computes a tile of 4×4 outputs from 6×6 inputs with 36 multiplications a
//! channel pair instead of 144.
//!
//! It serves images whose height and width are multiples of 4, so that every tile is whole; the
//! direct algorithm serves the others.

mod forward;
mod gradient;
mod transform;

pub(crate) use forward::Filter;
pub(crate) use gradient::weight_gradient;

use crate::tensor::Shape;

/// Outputs of a tile along each side.
const OUT: usize = 4;
/// Inputs of a tile along each side, and points of the transform.
const IN: usize = 6;
/// Products of a tile.
const POINTS: usize = IN * IN;

/// Floats between the ends of one point's values and the next point's: keeps the 36 streams of the
/// transforms out of one another's cache sets.
const GAP: usize = 16;

/// What is stored of a convolution's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pooling {
    /// Every pixel.
    None,
    /// The greatest of each 2×2 block, of which a tile has four.
    Max,
}

/// Whether every tile of images of this shape is whole.
pub(crate) fn fits(shape: Shape) -> bool {
    shape.n > 0
        && shape.h > 0
        && shape.w > 0
        && shape.h.is_multiple_of(OUT)
        && shape.w.is_multiple_of(OUT)
}

/// The tiles of a batch, counted along rows, then down an image, then through the batch.
#[derive(Clone, Copy)]
struct Tiles {
    down: usize,
    across: usize,
    count: usize,
}

impl Tiles {
    fn of(shape: Shape) -> Self {
        assert!(fits(shape), "whole tiles");
        let (down, across) = (shape.h / OUT, shape.w / OUT);
        Self {
            down,
            across,
            count: shape.n * down * across,
        }
    }

    /// Image, row and column of the tile's first output pixel.
    #[inline(always)]
    fn place(self, tile: usize) -> (usize, usize, usize) {
        let (row, column) = (tile / self.across, tile % self.across);
        (row / self.down, row % self.down * OUT, column * OUT)
    }
}
