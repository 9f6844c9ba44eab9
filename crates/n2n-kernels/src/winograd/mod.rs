//! Winograd's minimal filtering (Lavin and Gray, 2016), in two forms that share everything but their
//! points:
//!
//! - [`SAME`], F(4×4, 3×3): a 3×3 convolution with padding 1. A tile of 4×4 outputs takes 6×6 inputs
//!   and 36 multiplications a channel pair, instead of 144.
//! - [`TWO_TAPS`], F(4×4, 2×2), four times: what a transposed 2×2 convolution and a 3×3 one make together.
//!   Each phase of the doubled image is a 2×2 convolution of the small one, and a tile of 8×8 outputs,
//!   all four phases from the same 5×5 inputs, takes 100 multiplications. The gradient of the small image
//!   sums over the four phases, and takes as many.
//!
//! Both are named by the inputs along a tile's side. Where tiles lie in the inputs and in the output is
//! the [`Layout`]. Tiles at the lower and right ends may reach beyond the image: there they read zeros and
//! store nothing.

mod chain;
mod filter;
mod forward;
mod gradient;
mod input;
mod output;
mod prefetch;
mod transform;

pub(crate) use filter::Filter;
pub(crate) use gradient::{merged_gradient, weight_gradient};

use crate::direct::Chain;
use crate::picks::Picks;
use crate::tensor::Shape;

/// Inputs along a tile's side, and points, of F(4×4, 3×3).
pub(crate) const SAME: usize = 6;
/// Inputs along a tile's side, and points, of the four F(4×4, 2×2).
pub(crate) const TWO_TAPS: usize = 5;

/// Outputs of a tile along each side, for each phase.
const OUT: usize = 4;

/// Floats between the ends of one point's values and the next point's: keeps the streams of the
/// transforms out of one another's cache sets.
const GAP: usize = 16;

/// Taps of the filter along each side.
const fn taps(form: usize) -> usize {
    form + 1 - OUT
}

/// The phases of a doubled image, as (row, column) in a 2×2 block.
pub(crate) const PHASES: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// How inputs and outputs lie to one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The output has the inputs' size.
    Same,
    /// The output is twice as high and wide, and computed in four phases.
    Doubling,
    /// The output is half as high and wide; the inputs are the four phases of one tensor.
    Halving,
}

/// Pixels of tiles along both sides of an image: pixel `k` of tile `t` is `step · (OUT · t + k) - before`.
#[derive(Clone, Copy)]
struct Window {
    step: usize,
    before: (usize, usize),
}

impl Window {
    /// A phase of a doubled image. That of 1 begins one pixel earlier, so that all phases of a tile of the
    /// doubled image belong to one window of the small image.
    const fn phase(phase: usize) -> Self {
        Self {
            step: 2,
            before: PHASES[phase],
        }
    }

    /// A pixel along a side of `size` pixels. In place of all beyond it, the first of the border.
    #[inline(always)]
    fn pixel(self, before: usize, tile: usize, k: usize, size: usize) -> isize {
        ((self.step * (OUT * tile + k)) as isize - before as isize).min(size as isize)
    }

    /// The row of a tile's pixel in an image of `size` rows; from -1, which is the border.
    #[inline(always)]
    fn row(self, tile: usize, k: usize, size: usize) -> isize {
        self.pixel(self.before.0, tile, k, size)
    }

    /// The column of a tile's pixel in an image of `size` columns; from -1, which is the border.
    #[inline(always)]
    fn column(self, tile: usize, k: usize, size: usize) -> isize {
        self.pixel(self.before.1, tile, k, size)
    }
}

impl Layout {
    /// Phases of the output.
    const fn phases(self) -> usize {
        match self {
            Self::Doubling => PHASES.len(),
            Self::Same | Self::Halving => 1,
        }
    }

    /// The pixels that tiles take of one of the inputs.
    const fn input_window(self, input: usize) -> Window {
        match self {
            // One row above and left of the tile's first pixel.
            Self::Same | Self::Doubling => Window {
                step: 1,
                before: (1, 1),
            },
            Self::Halving => Window::phase(input),
        }
    }

    /// The pixels of the output that tiles compute, for each phase.
    const fn output_window(self, phase: usize) -> Window {
        match self {
            Self::Same | Self::Halving => Window {
                step: 1,
                before: (0, 0),
            },
            Self::Doubling => Window::phase(phase),
        }
    }

    /// The size of the output along a side where the inputs have `size` pixels.
    const fn output(self, size: usize) -> usize {
        match self {
            Self::Same => size,
            Self::Doubling => 2 * size,
            Self::Halving => size / 2,
        }
    }

    /// Tiles along a side of `size` input pixels. A doubling tile begins one output pixel above its
    /// inputs' own, so that one more may be needed.
    pub(crate) const fn tiles(self, size: usize) -> usize {
        match self {
            Self::Doubling => size / OUT + 1,
            Self::Same | Self::Halving => self.output(size).div_ceil(OUT),
        }
    }
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
    fn of(layout: Layout, input: Shape) -> Self {
        Self::rows(layout, input, 0..layout.tiles(input.h))
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
    fn rows(layout: Layout, input: Shape, rows: std::ops::Range<usize>) -> Self {
        let across = layout.tiles(input.w);
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

    /// Image, row and columns of tiles that lie side by side, of some tiles.
    fn side_by_side(
        self,
        mut range: std::ops::Range<usize>,
    ) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> {
        std::iter::from_fn(move || {
            let (n, ty, tx) = (!range.is_empty()).then(|| self.place(range.start))?;
            let end = self.across.min(tx + range.len());
            range.start += end - tx;
            Some((n, ty, tx..end))
        })
    }
}
