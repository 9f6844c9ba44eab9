//! Winograd's minimal filtering (Lavin and Gray, 2016), in two forms that share everything but their points:
//!
//! - [`SAME`], F(4×4, 3×3): a 3×3 convolution with padding 1. A tile of 4×4 outputs takes 6×6 inputs and 36
//!   multiplications per channel pair, instead of 144.
//! - [`TWO_TAPS`], F(4×4, 2×2), four times: a transposed 2×2 convolution merged with a 3×3 one. Each phase of the
//!   upsampled image is a 2×2 convolution of the small one, and a tile of 8×8 outputs, all four phases from the same
//!   5×5 inputs, takes 100 multiplications. The gradient of the small image sums over the four phases and takes the
//!   same number.
//!
//! Both are named by the number of inputs along a tile's side. The [`Layout`] says where tiles lie in the inputs and
//! in the output. Tiles at the lower and right edges may extend beyond the image: there they read zeros and store
//! nothing.

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

/// Inputs, and points, along each side of a tile, for F(4×4, 3×3).
pub(crate) const SAME: usize = 6;
/// Inputs, and points, along each side of a tile, for the four F(4×4, 2×2).
pub(crate) const TWO_TAPS: usize = 5;

/// Outputs along a tile's side, for each phase.
const OUT: usize = 4;

/// Floats between the end of one point's values and the start of the next: keeps the streams of the transforms out of
/// each other's cache sets.
const GAP: usize = 16;

/// Taps of the filter along each side.
const fn taps(form: usize) -> usize {
    form + 1 - OUT
}

/// The phases of an upsampled image, as (row, column) in a 2×2 block.
pub(crate) const PHASES: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// The relation between inputs and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The output has the inputs' size.
    Same,
    /// The output is twice as high and wide, and computed in four phases.
    Doubling,
    /// The output is half as high and wide; the inputs are the four phases of one tensor.
    Halving,
}

/// The pixels of tiles along each side of an image: pixel `k` of tile `t` is `step · (OUT · t + k) - before`.
#[derive(Clone, Copy)]
struct Window {
    step: usize,
    before: (usize, usize),
}

impl Window {
    /// A phase of an upsampled image. Phase 1 begins one pixel earlier, so that all phases of a tile correspond to
    /// one window of the small image.
    const fn phase(phase: usize) -> Self {
        Self {
            step: 2,
            before: PHASES[phase],
        }
    }

    /// A pixel along a side of `size` pixels, with everything beyond it mapped to the first pixel of the border.
    #[inline(always)]
    fn pixel(self, before: usize, tile: usize, k: usize, size: usize) -> isize {
        ((self.step * (OUT * tile + k)) as isize - before as isize).min(size as isize)
    }

    /// The row of a tile's pixel in an image of `size` rows; -1 is the border.
    #[inline(always)]
    fn row(self, tile: usize, k: usize, size: usize) -> isize {
        self.pixel(self.before.0, tile, k, size)
    }

    /// The column of a tile's pixel in an image of `size` columns; -1 is the border.
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

    /// The pixels that tiles read from one of the inputs.
    const fn input_window(self, input: usize) -> Window {
        match self {
            // One pixel above and to the left of the tile's first pixel.
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

    /// The size of the output along a side whose inputs have `size` pixels.
    const fn output(self, size: usize) -> usize {
        match self {
            Self::Same => size,
            Self::Doubling => 2 * size,
            Self::Halving => size / 2,
        }
    }

    /// Tiles along a side of `size` input pixels. A doubling tile begins one output pixel above its own inputs, so
    /// one more may be needed.
    pub(crate) const fn tiles(self, size: usize) -> usize {
        match self {
            Self::Doubling => size / OUT + 1,
            Self::Same | Self::Halving => self.output(size).div_ceil(OUT),
        }
    }
}

/// What is done with a convolution's output.
#[derive(Clone, Copy)]
pub(crate) enum Then<'a> {
    /// Every pixel is stored.
    Store,
    /// The maximum of each 2×2 block is stored; a tile has four.
    Pool,
    /// Each pixel goes through 1×1 convolutions, whose output is stored.
    Chain(&'a Chain<'a>),
    /// The same, for two pixels of each 2×2 cell: the output has half the height and width, and stores the second
    /// pixel's channels after the first one's, each padded to whole vectors.
    PickedChain(&'a Chain<'a>, Picks<'a>),
}

/// Whether F(4×4, 3×3) takes fewer multiplications than the direct sum for images of this shape; the partial tiles of
/// small images may use up the gain.
pub(crate) fn pays(shape: Shape) -> bool {
    let tiles = shape.h.div_ceil(OUT) * shape.w.div_ceil(OUT);
    shape.n > 0 && tiles * SAME * SAME < shape.h * shape.w * 9
}

/// The tiles in some rows of tiles of a batch, numbered along rows, then down an image, then through the batch.
#[derive(Clone, Copy)]
struct Tiles {
    /// The first row of tiles in each image, and the number of rows.
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

    /// A strip of adjacent tiles.
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

    /// The image, row and columns of each run of adjacent tiles among some tiles.
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
