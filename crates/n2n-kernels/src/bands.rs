//! Two consecutive layers at the full size of the image, computed band by band: the first layer stays some rows ahead
//! of the second and writes into a window that slides down the image. The tensors between them, the largest of the
//! network, stay in cache and are never stored at full size. What the first layer reads may in turn come from two
//! layers at half the size, which are computed as far as it needs them, and so on.

use crate::conv::{self, Conv};
use crate::picks::Picks;
use crate::tensor::{Arena, Rows, RowsMut, Shape, SharedMut, Tensor};
use crate::upconv::UpConv;
use crate::winograd;
use crate::{Epilogue, Level};

/// Pixels of a band per thread: its share of a window with 96 channels is 6 MB. The threads synchronize between two
/// bands, and between the two layers of a band.
const PIXELS: usize = 1 << 14;
/// Minimum rows of a band: the rows shared by two bands have to be moved.
const MIN_ROWS: usize = 32;
/// Rows of a window beyond those of a band: those that wait for the next band, those that the last band has more than
/// the others, and one below the image.
const EXTRA: usize = 24;
/// Output rows of a tile.
const TILE: usize = 4;
/// Output rows of a tile of the merged layers.
const DOUBLE_TILE: usize = 8;
/// Bands end one tile below a multiple of this, where the merged layers, and those of half the size before them, have
/// the fewest rows to compute ahead.
const STEP: usize = 16;

/// Two layers, each with its epilogue.
pub struct Layers<'a> {
    /// The first one.
    pub first: (First<'a>, Epilogue<'a>),
    /// The second one, which reads the output of the first.
    pub second: (&'a Conv, Epilogue<'a>),
}

/// The first of the two layers.
pub enum First<'a> {
    /// A 3×3 convolution.
    Conv(&'a Conv, &'a Tensor),
    /// A transposed convolution merged with the 3×3 one after it.
    UpConv(Up<'a>),
}

/// A transposed convolution merged with the 3×3 one after it, and what it reads.
pub struct Up<'a> {
    /// The two layers.
    pub conv: &'a UpConv,
    /// Their input at half the size.
    pub small: Small<'a>,
    /// The [side](crate::upconv::side) of an image.
    pub side: &'a Tensor,
    /// A 3×3 convolution of another tensor at the full size, to which the output is added: the epilogue has to add.
    pub skip: Option<(&'a Conv, &'a Tensor)>,
}

/// A tensor at half the size.
pub enum Small<'a> {
    /// One that is stored.
    Stored(&'a Tensor),
    /// The output of two other layers, which is not.
    Layers(Box<Layers<'a>>),
}

/// What is done with the second layer's output.
#[derive(Clone, Copy)]
pub enum Then<'a> {
    /// 2×2 max-pooling.
    Pool,
    /// 1×1 convolutions, one after another, each with its epilogue.
    Chain(&'a [(&'a Conv, Epilogue<'a>)]),
    /// The same, for two pixels of each 2×2 cell: the output has half the height and width, and stores the second
    /// pixel's channels after the first one's, each padded to a multiple of 8.
    PickedChain(&'a [(&'a Conv, Epilogue<'a>)], Picks<'a>),
}

/// Computes the two layers, then `then` on the output of the second.
///
/// # Panics
/// If a second layer, or the convolution of a skip, does not use [Winograd's algorithm](Conv::is_by_winograd) for images
/// of this shape, or a shape does not fit.
pub fn run(level: Level, layers: &Layers, then: Then, output: &mut Tensor, arena: &mut Arena) {
    let image = layers.shape();
    let band = band_rows(image);
    let chain = match then {
        Then::Pool => None,
        Then::Chain(convs) | Then::PickedChain(convs, _) => Some(conv::chain(level, convs)),
    };
    let then = match (&chain, then) {
        (Some(chain), Then::PickedChain(_, picks)) => winograd::Then::PickedChain(chain, picks),
        (Some(chain), _) => winograd::Then::Chain(chain),
        (None, _) => winograd::Then::Pool,
    };
    let mut running = Running::new(level, layers, band, arena);
    let to = SharedMut::from(output);
    while running.done < image.h {
        let end = (running.done + band) / STEP * STEP + TILE;
        let is_last = end + STEP > image.h;
        running.compute(if is_last { image.h } else { end }, &to, then);
    }
    running.free(arena);
}

/// Number of floats of the windows for layers in bands at `levels` resolutions. `image` is the shape of the output of the
/// first layer at full size; at the others, the outputs of both layers have `below` channels.
pub fn window_floats(image: Shape, levels: usize, below: usize) -> usize {
    let band = band_rows(image);
    let floats = |k: usize, c: usize| {
        let w = image.w >> k;
        image.n * ((band >> k) + EXTRA) * Shape { w, c, ..image }.row_stride()
    };
    let lower = (1..levels).map(|k| 2 * floats(k, below));
    floats(0, image.c) + lower.sum::<usize>()
}

fn band_rows(image: Shape) -> usize {
    let rows = PIXELS * rayon::current_num_threads() / (image.n * image.w).max(1);
    rows.max(MIN_ROWS)
        .min(image.h)
        .next_multiple_of(DOUBLE_TILE)
}

impl Layers<'_> {
    /// The shape of the first layer's output.
    fn shape(&self) -> Shape {
        match &self.first.0 {
            First::Conv(conv, input) => Shape {
                c: conv.outputs(),
                ..input.shape()
            },
            First::UpConv(up) => {
                let small = up.small.shape();
                Shape {
                    h: 2 * small.h,
                    w: 2 * small.w,
                    c: up.conv.outputs(),
                    ..small
                }
            }
        }
    }
}

impl Small<'_> {
    fn shape(&self) -> Shape {
        match self {
            Self::Stored(tensor) => tensor.shape(),
            Self::Layers(layers) => Shape {
                c: layers.second.0.outputs(),
                ..layers.shape()
            },
        }
    }
}

/// Rows of images that are computed from top to bottom, of which a window is in memory.
struct Window {
    tensor: Tensor,
    /// The first row in the window.
    top: usize,
    /// Height of the images.
    h: usize,
}

impl Window {
    fn new(images: Shape, rows: usize, arena: &mut Arena) -> Self {
        Self {
            tensor: arena.take(Shape { h: rows, ..images }),
            top: 0,
            h: images.h,
        }
    }

    fn rows(&self) -> Rows<'_> {
        Rows::new(&self.tensor, self.top, self.h)
    }

    /// The window as the destination of the rows up to `end`.
    ///
    /// # Panics
    /// If it does not reach that far.
    fn to(&mut self, end: usize) -> RowsMut<'_> {
        assert!(end - self.top <= self.tensor.shape().h, "rows of a window");
        RowsMut {
            first: self.top,
            h: self.h,
            tensor: &mut self.tensor,
        }
    }

    /// Once all rows have been computed, makes the one below them zero.
    fn close(&mut self) {
        let below = self.h - self.top;
        if below < self.tensor.shape().h {
            self.tensor.clear_row(below);
        }
    }

    /// Slides down to row `top`; the rows from there to `end` stay.
    fn slide(&mut self, top: usize, end: usize) {
        self.tensor.move_up(top - self.top..end - self.top);
        self.top = top;
    }
}

/// Two layers, some rows of which have been computed.
struct Running<'a> {
    level: Level,
    layers: &'a Layers<'a>,
    /// The output of the first layer, and how many of its rows are ready.
    between: Window,
    ready: usize,
    /// Rows of the skip's convolution that are in the window already.
    skipped: usize,
    /// The layers at half the size, and their output.
    below: Option<(Box<Self>, Window)>,
    /// Rows of the second layer that have been computed.
    done: usize,
}

impl<'a> Running<'a> {
    fn new(level: Level, layers: &'a Layers<'a>, band: usize, arena: &mut Arena) -> Self {
        let image = layers.shape();
        let is_by_winograd = |conv: &Conv| conv.is_by_winograd(image);
        assert!(is_by_winograd(layers.second.0), "Winograd's algorithm");
        let mut below = None;
        if let First::UpConv(up) = &layers.first.0 {
            if let Some((conv, _)) = up.skip {
                assert!(is_by_winograd(conv), "Winograd's algorithm");
                let epilogue = layers.first.1;
                let adds = matches!(epilogue, Epilogue::Add | Epilogue::AddLeakyRelu(_));
                assert!(adds, "an epilogue that adds to the skip");
            }
            if let Small::Layers(layers) = &up.small {
                let running = Self::new(level, layers, band / 2, arena);
                let window = Window::new(up.small.shape(), band / 2 + EXTRA, arena);
                below = Some((Box::new(running), window));
            }
        }
        Self {
            level,
            layers,
            between: Window::new(image, band + EXTRA, arena),
            ready: 0,
            skipped: 0,
            below,
            done: 0,
        }
    }

    fn free(self, arena: &mut Arena) {
        arena.give(self.between.tensor);
        if let Some((running, window)) = self.below {
            running.free(arena);
            arena.give(window.tensor);
        }
    }

    /// Computes the rows of the second layer up to `end`, which is a multiple of [`TILE`] or the height of the images.
    fn compute(&mut self, end: usize, to: &SharedMut, then: winograd::Then) {
        let h = self.between.h;
        // A row reads the one below it, which at the end is the border.
        self.compute_first((end + 1).min(h));
        if self.ready == h {
            self.between.close();
        }
        let (second, epilogue) = self.layers.second;
        let tiles = self.done / TILE..end.div_ceil(TILE);
        second.run_tiles(self.level, self.between.rows(), to, tiles, epilogue, then);
        self.done = end;
        if end < h {
            // The row above the next one is the first that is read again.
            self.between.slide(end - 1, self.ready.max(self.skipped));
        }
    }

    /// Computes at least the first `rows` rows of the first layer.
    fn compute_first(&mut self, rows: usize) {
        if rows <= self.ready {
            return;
        }
        let (level, h) = (self.level, self.between.h);
        let (first, epilogue) = &self.layers.first;
        let epilogue = *epilogue;
        match first {
            First::Conv(conv, input) if conv.is_by_winograd(input.shape()) => {
                let tiles = self.ready / TILE..rows.div_ceil(TILE);
                self.ready = (tiles.end * TILE).min(h);
                let to = &mut self.between.to(self.ready);
                let (to, then) = (SharedMut::from(to), winograd::Then::Store);
                conv.run_tiles(level, Rows::from(*input), &to, tiles, epilogue, then);
            }
            First::Conv(conv, input) => {
                let to = &mut self.between.to(rows);
                conv.run_rows_directly(level, &[input], to, self.ready..rows, epilogue);
                self.ready = rows;
            }
            First::UpConv(up) => {
                // Row `t` of tiles ends before output row `8t + 7`.
                let tiles = self.ready.div_ceil(DOUBLE_TILE)..(rows + 1).div_ceil(DOUBLE_TILE);
                self.ready = (tiles.end * DOUBLE_TILE - 1).min(h);
                if let Some((conv, input)) = up.skip {
                    let tiles = self.skipped / TILE..self.ready.div_ceil(TILE);
                    self.skipped = (tiles.end * TILE).min(h);
                    let to = &mut self.between.to(self.skipped);
                    let (to, then) = (SharedMut::from(to), winograd::Then::Store);
                    let input = Rows::from(input);
                    conv.run_tiles(level, input, &to, tiles, Epilogue::Store, then);
                }
                // Row `t` of tiles reads the small rows up to `4t + 3`.
                let (needed, next) = (TILE * tiles.end, (TILE * tiles.end).saturating_sub(1));
                let small = match (&up.small, &mut self.below) {
                    (Small::Stored(small), _) => Rows::from(*small),
                    (Small::Layers(_), Some((below, window))) => {
                        let needed = needed.min(window.h);
                        if below.done < needed {
                            let to = &mut window.to(needed);
                            below.compute(needed, &SharedMut::from(to), winograd::Then::Store);
                        }
                        if needed == window.h {
                            window.close();
                        }
                        window.rows()
                    }
                    (Small::Layers(_), None) => unreachable!("made with the layers"),
                };
                let to = &mut self.between.to(self.ready);
                let (to, side) = (SharedMut::from(to), Rows::from(up.side));
                up.conv.run_rows(level, small, side, &to, tiles, epilogue);
                if let Some((below, window)) = &mut self.below
                    && self.ready < h
                {
                    window.slide(next, below.done);
                }
            }
        }
    }
}
