//! Winograd's minimal filtering (Lavin and Gray, 2016), in two forms that share everything but their
//! points:
//!
//! - [`SAME`], F(4×4, 3×3): a 3×3 convolution with padding 1. A tile of 4×4 outputs takes 6×6 inputs
//!   and 36 multiplications a channel pair, instead of 144.
//! - [`DOUBLING`], four times F(4×4, 2×2): what a transposed 2×2 convolution and a 3×3 one make
//!   together. Each phase of the doubled image is a 2×2 convolution of the small one, and a tile of
//!   8×8 outputs, all four phases from the same 5×5 inputs, takes 100 multiplications.
//!
//! Both are named by the inputs along a tile's side, of which the first is one row above and left of
//! the tile's first pixel. Tiles at the lower and right ends may reach beyond the image: there they
//! read zeros and store nothing.

mod filter;
mod forward;
mod gradient;
mod transform;

pub(crate) use filter::Filter;
pub(crate) use gradient::weight_gradient;

use crate::direct::Chain;
use crate::picks::Picks;
use crate::tensor::Shape;

/// Inputs along a tile's side, and points, of F(4×4, 3×3).
pub(crate) const SAME: usize = 6;
/// Inputs along a tile's side, and points, of the four F(4×4, 2×2).
pub(crate) const DOUBLING: usize = 5;

/// Outputs of a tile along each side, for each phase.
const OUT: usize = 4;

/// Floats between the ends of one point's values and the next point's: keeps the streams of the
/// transforms out of one another's cache sets.
const GAP: usize = 16;

/// Taps of the filter along each side.
const fn taps(form: usize) -> usize {
    form + 1 - OUT
}

/// Phases of the output.
const fn phases(form: usize) -> usize {
    if form == DOUBLING { 4 } else { 1 }
}

/// What becomes of a convolution's output.
#[derive(Clone, Copy)]
pub(crate) enum Then<'a> {
    /// Every pixel is stored.
    Store,
    /// The greatest of each 2×2 block is, of which a tile has four.
    Pool,
    /// What 1×1 convolutions make of each pixel is.
    Chain(&'a Chain<'a>),
    /// The same, of two pixels of each 2×2 cell: the output has half the height and width, and the second
    /// pixel's channels after the first one's, both in whole vectors.
    PickedChain(&'a Chain<'a>, Picks<'a>),
}

/// Whether F(4×4, 3×3) takes fewer multiplications for images of this shape than the direct sum, which
/// the tiles at the ends of small images may waste.
pub(crate) fn pays(shape: Shape) -> bool {
    let tiles = shape.h.div_ceil(OUT) * shape.w.div_ceil(OUT);
    shape.n > 0 && tiles * SAME * SAME < shape.h * shape.w * 9
}

/// Rows of tiles of a batch of images, counted along rows, then down an image, then through the batch.
#[derive(Clone, Copy)]
struct Tiles {
    /// The first row of tiles of each image, and their number.
    first: usize,
    down: usize,
    across: usize,
    count: usize,
}

impl Tiles {
    /// All tiles of images whose *inputs* have this shape.
    fn of<const FORM: usize>(input: Shape) -> Self {
        Self::rows::<FORM>(input, 0..tile_rows(FORM, input.h))
    }

    /// Tiles side by side.
    fn strip(count: usize) -> Self {
        Self {
            first: 0,
            down: 1,
            across: count,
            count,
        }
    }

    /// Some rows of tiles of each image.
    fn rows<const FORM: usize>(input: Shape, rows: std::ops::Range<usize>) -> Self {
        let across = tile_rows(FORM, input.w);
        Self {
            first: rows.start,
            down: rows.len(),
            across,
            count: input.n * rows.len() * across,
        }
    }

    /// Image, row and column of a tile.
    #[inline(always)]
    fn place(self, tile: usize) -> (usize, usize, usize) {
        let (row, column) = (tile / self.across, tile % self.across);
        (row / self.down, self.first + row % self.down, column)
    }
}

/// Tiles along a side of `size` input pixels. A doubling tile begins one output pixel above its
/// inputs' own, so that one more may be needed.
pub(crate) const fn tile_rows(form: usize, size: usize) -> usize {
    if form == DOUBLING {
        size / OUT + 1
    } else {
        size.div_ceil(OUT)
    }
}
