//! Two consecutive layers at the same size, computed band by band: the first layer stays some rows ahead of the second
//! and writes into a window that slides down the image. The tensors between them, the largest of the network, stay in
//! cache and are never stored whole.

use crate::arena::Arena;
use crate::conv::{self, Conv};
use crate::picks::Picks;
use crate::tensor::{Rows, RowsMut, Shape, SharedMut, Tensor};
use crate::upconv::UpConv;
use crate::winograd::{self, Layout};
use crate::{Epilogue, Level};

/// Pixels of a band per thread: its share of a window with 96 channels is 6 MB. The threads synchronize between two
/// bands, and between the two layers of a band.
const PIXELS: usize = 1 << 14;
/// Minimum rows of a band: the rows shared by two bands have to be moved.
const MIN_ROWS: usize = 32;
/// Rows of the window beyond those of a band: five that wait for the next band, and one extra row of tiles at the
/// end.
const EXTRA: usize = 16;
/// Output rows of a tile.
const TILE: usize = 4;
/// Output rows of a tile of the merged layers.
const DOUBLE_TILE: usize = 8;

/// The first of the two layers.
#[derive(Debug, Clone, Copy)]
pub enum First<'a> {
    /// A 3×3 convolution.
    Conv(&'a Conv, &'a Tensor),
    /// A transposed convolution merged with the 3×3 one after it, of a tensor at half the size and the
    /// [side](crate::upconv::side) of an image.
    UpConv(&'a UpConv, &'a Tensor, &'a Tensor),
    /// The same, added to a 3×3 convolution of a tensor at full size, which stores its sums as they are: the first
    /// layer's epilogue must be [`Epilogue::Add`] or [`Epilogue::AddLeakyRelu`].
    UpConvPlus(&'a UpConv, &'a Tensor, &'a Tensor, (&'a Conv, &'a Tensor)),
}

/// What is done with the second layer's output.
#[derive(Clone, Copy)]
pub enum Then<'a> {
    /// Every pixel is stored.
    Store,
    /// 2×2 max-pooling.
    Pool,
    /// 1×1 convolutions, one after another, each with its epilogue.
    Chain(&'a [(&'a Conv, Epilogue<'a>)]),
    /// The same, for two pixels of each 2×2 cell: the output has half the height and width, and stores the second
    /// pixel's channels after the first one's, each padded to a multiple of 8.
    PickedChain(&'a [(&'a Conv, Epilogue<'a>)], Picks<'a>),
}

/// Computes `first`, then `second` on its output, then `then` on the output of that.
///
/// Each layer comes with its epilogue.
///
/// # Panics
/// If the second layer, or the convolution that merged layers are added to, does not use
/// [Winograd's algorithm](Conv::is_by_winograd) for images of this shape, or a shape does not fit.
pub fn run(
    level: Level,
    (first, first_epilogue): (First, Epilogue),
    (second, second_epilogue): (&Conv, Epilogue),
    then: Then,
    output: &mut Tensor,
    arena: &mut Arena,
) {
    let image = first.shape();
    assert!(second.is_by_winograd(image), "Winograd's algorithm");
    if let First::UpConvPlus(.., (plus, _)) = first {
        assert!(plus.is_by_winograd(image), "Winograd's algorithm");
    }
    let h = image.h;
    let band = band_rows(image);
    let mut between = arena.take(window(image));
    let chain = match then {
        Then::Store | Then::Pool => None,
        Then::Chain(convs) | Then::PickedChain(convs, _) => Some(conv::chain(level, convs)),
    };
    let then = match (&chain, then) {
        (Some(chain), Then::PickedChain(_, picks)) => winograd::Then::PickedChain(chain, picks),
        (Some(chain), _) => winograd::Then::Chain(chain),
        (None, Then::Store) => winograd::Then::Store,
        (None, _) => winograd::Then::Pool,
    };
    // The window's first row, the computed rows of the first layer, and those of the second.
    let (mut top, mut ready, mut done) = (0, 0, 0);
    while done < h {
        let mut to = RowsMut {
            tensor: &mut between,
            first: top,
            h,
        };
        ready = first.advance(level, ready, band, &mut to, first_epilogue);
        // A row of the second layer reads one row further down, which at the end is the border.
        let end = if ready == h {
            if h - top < between.shape().h {
                between.clear_row(h - top);
            }
            h
        } else {
            (ready - 1) / TILE * TILE
        };
        let tiles = done / TILE..Layout::Same.tiles(end);
        let from = Rows::new(&between, top, h);
        let to = SharedMut::from(&mut *output);
        second.run_tiles(level, from, &to, tiles, second_epilogue, then);
        done = end;
        if done < h {
            // The row above the next one is the first that is read again.
            between.move_up(done - 1 - top..ready + first.begun() - top);
            top = done - 1;
        }
    }
    arena.give(between);
}

/// The shape of the window between the two layers, for an image of this shape.
pub fn window(image: Shape) -> Shape {
    Shape {
        h: band_rows(image) + EXTRA,
        ..image
    }
}

fn band_rows(image: Shape) -> usize {
    let rows = PIXELS * rayon::current_num_threads() / (image.n * image.w).max(1);
    rows.max(MIN_ROWS)
        .min(image.h)
        .next_multiple_of(DOUBLE_TILE)
}

impl First<'_> {
    /// The shape of the layer's output.
    fn shape(&self) -> Shape {
        match self {
            Self::Conv(conv, input) => Shape {
                c: conv.outputs(),
                ..input.shape()
            },
            Self::UpConv(conv, small, _) | Self::UpConvPlus(conv, small, ..) => Shape {
                h: 2 * small.shape().h,
                w: 2 * small.shape().w,
                c: conv.outputs(),
                ..small.shape()
            },
        }
    }

    /// How many rows below the computed ones are begun: the tiles of the merged layers end one row before those of the
    /// convolution that they are added to.
    fn begun(&self) -> usize {
        usize::from(matches!(self, Self::UpConvPlus(..)))
    }

    /// Computes about `band` more rows after the first `ready`; returns the new number of rows.
    fn advance(
        &self,
        level: Level,
        ready: usize,
        band: usize,
        to: &mut RowsMut,
        epilogue: Epilogue,
    ) -> usize {
        match *self {
            Self::Conv(conv, input) if conv.is_by_winograd(input.shape()) => {
                let begin = ready / TILE;
                let end = (begin + band / TILE).min(Layout::Same.tiles(to.h));
                let ready = (end * TILE).min(to.h);
                let (input, to) = (Rows::from(input), SharedMut::from(to));
                conv.run_tiles(
                    level,
                    input,
                    &to,
                    begin..end,
                    epilogue,
                    winograd::Then::Store,
                );
                ready
            }
            Self::Conv(conv, input) => {
                let rows = ready..(ready + band).min(to.h);
                conv.run_rows_directly(level, &[input], to, rows.clone(), epilogue);
                rows.end
            }
            Self::UpConv(conv, small, side) | Self::UpConvPlus(conv, small, side, _) => {
                // Row `t` of tiles ends before output row `8t + 7`.
                let begin = (ready + 1) / DOUBLE_TILE;
                let end = begin + band / DOUBLE_TILE;
                let all = Layout::Doubling.tiles(small.shape().h);
                // Avoid a last band of a single row of tiles.
                let end = if end + 1 < all { end } else { all };
                let ready = (end * DOUBLE_TILE - 1).min(to.h);
                let h = to.h;
                let to = SharedMut::from(to);
                if let Self::UpConvPlus(.., (plus, input)) = *self {
                    let tiles = |row: usize| Layout::Same.tiles(row.min(h));
                    plus.run_tiles(
                        level,
                        Rows::from(input),
                        &to,
                        tiles(DOUBLE_TILE * begin)..tiles(DOUBLE_TILE * end),
                        Epilogue::Store,
                        winograd::Then::Store,
                    );
                }
                conv.run_rows(level, small, side, &to, begin..end, epilogue);
                ready
            }
        }
    }
}
