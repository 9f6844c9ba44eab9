//! The convolution itself, by groups of tiles small enough for the second-level cache: the inputs
//! of a group to their points, a matrix product with the filter at each point, the outputs back from
//! their points into the output tensor.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::ahead::{Ahead, LINE, Run, reads};
use super::filter::Filter;
use super::{GAP, Layout, OUT, Then, Tiles, Window, transform};
use crate::Level;
use crate::arch::{Kernel, LANES, Simd, Strip, vector};
use crate::direct::Chain;
use crate::epilogue::{Epilogue, leaky_relu};
use crate::jobs::one_by_one;
use crate::memory::Memory;
use crate::picks::Picks;
use crate::pool::pooled;
use crate::tensor::{Rows, Shape, SharedMut, Tensor};

/// The most tiles of a group: 36 points of 24 tiles with 96 channels are 330 KB, for the second-level cache. With
/// 16 or 32, or for the gradient of merged layers, which has 920 KB, with as few as fit, nothing was faster.
const GROUP: usize = 24;
/// Groups are cut at multiples of this, the rows of the tallest register tile.
const BLOCK: usize = 8;
/// Vectors of outputs that go through the products and the output transform together, and of the widest
/// panel of any level.
const VECTORS: usize = 6;
/// Cells of 2×2 outputs along a tile's side.
const CELLS: usize = OUT / 2;

thread_local! {
    /// The threads of a pool live long.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static TAIL: RefCell<Tail> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    /// The points of a group's inputs and outputs.
    points: Memory,
    soon: Soon,
}

/// What the transforms around a group's products will read and write.
#[derive(Default)]
struct Soon {
    /// The inputs of the next group.
    reads: Ahead,
    /// What the outputs of the products under way go to.
    writes: Ahead,
}

impl Soon {
    #[inline(always)]
    fn turn<S: Simd>(&mut self, simd: S) {
        self.reads.turn(simd);
        self.writes.turn(simd);
    }
}

/// Memory for a group's outputs that go through a chain, and for the chain.
#[derive(Default)]
struct Tail {
    /// The outputs of the group's tiles side by side, of as many tiles as a group has at most.
    strip: Option<Tensor>,
    pixels: Vec<f32>,
    between: Memory,
}

impl<const FORM: usize> Filter<FORM> {
    /// Computes rows of tiles of the output from the inputs, whose channels follow one another. With
    /// pooling, the output is half as high and wide as the inputs; with a chain, it has the chain's channels.
    ///
    /// # Panics
    /// If a shape does not fit, or rows are asked for that the inputs or the output do not hold.
    pub fn run(
        &self,
        level: Level,
        inputs: &[Rows],
        output: &SharedMut,
        rows: Range<usize>,
        epilogue: Epilogue,
        then: Then,
    ) {
        assert_eq!(inputs.len(), self.channels.len(), "input tensors");
        let shape = inputs[0].shape();
        for (input, &channels) in inputs.iter().zip(&self.channels) {
            let Shape { n, h, w, c } = input.shape();
            assert_eq!((n, h, w), (shape.n, shape.h, shape.w), "input size");
            assert!(c >= channels, "input channels");
        }
        let full = Shape {
            c: self.outputs,
            h: self.layout.output(shape.h),
            w: self.layout.output(shape.w),
            ..shape
        };
        let stored = match then {
            Then::Store => full,
            Then::Pool => pooled(full),
            Then::Chain(chain) => {
                assert_eq!(chain.inputs(), self.outputs, "channels of the chain");
                Shape {
                    c: chain.outputs(),
                    ..full
                }
            }
            Then::PickedChain(chain, picks) => {
                assert_eq!(chain.inputs(), self.outputs, "channels of the chain");
                assert!(picks.fit(full), "cells of the images");
                Shape {
                    c: 2 * chain.padded_outputs(),
                    ..pooled(full)
                }
            }
        };
        let plain = matches!(then, Then::Store);
        assert!(plain || self.layout == Layout::Same, "pooling or a chain");
        assert_eq!(output.shape(), stored, "shape of the output");
        epilogue.check();
        if let Epilogue::Slope(activation, _) = epilogue {
            assert!(output.is_whole() && plain, "whole images");
            assert_eq!(activation.shape(), stored, "shape of the activation");
        }
        assert!(rows.end <= self.layout.tiles(shape.h), "rows of tiles");
        let tiles = Tiles::rows(self.layout, shape, rows);
        // As many groups for each thread, and at least two. The size of a group changes no bit: a
        // tile's sums run over the depth alone, in one order, in a block of rows or alone.
        let blocks = tiles.count.div_ceil(BLOCK);
        let threads = 2 * rayon::current_num_threads();
        let groups = tiles.count.div_ceil(GROUP).next_multiple_of(threads);
        let groups = groups.min(blocks);
        one_by_one((0..groups).into_par_iter()).for_each(|i| {
            let first = i * blocks / groups * BLOCK;
            let end = ((i + 1) * blocks / groups * BLOCK).min(tiles.count);
            let group = |to: Destination| {
                SCRATCH.with_borrow_mut(|scratch| {
                    level.run(Group {
                        filter: self,
                        inputs,
                        tiles,
                        first,
                        count: end - first,
                        to,
                        scratch,
                    });
                });
            };
            let to = Destination {
                output,
                epilogue,
                pooling: matches!(then, Then::Pool),
                layout: self.layout,
                bias: &self.bias,
                tiles,
                first,
            };
            let (chain, picks) = match then {
                Then::Store | Then::Pool => return group(to),
                Then::Chain(chain) => (chain, None),
                Then::PickedChain(chain, picks) => (chain, Some(picks)),
            };
            TAIL.with_borrow_mut(|tail| {
                let count = end - first;
                assert!(count <= GROUP, "tiles of a group");
                let shape = Shape {
                    n: 1,
                    h: OUT,
                    w: OUT * GROUP,
                    c: self.outputs,
                };
                let strip = tail.strip.take().filter(|strip| strip.shape() == shape);
                let mut strip = strip.unwrap_or_else(|| Tensor::zeros(shape));
                group(Destination {
                    output: &SharedMut::from(&mut strip),
                    tiles: Tiles::strip(count),
                    first: 0,
                    ..to
                });
                match picks {
                    None => to.chain(level, chain, &strip, count, tail),
                    Some(picks) => to.picked_chain(level, chain, picks, &strip, count, tail),
                }
                tail.strip = Some(strip);
            });
        });
    }
}

/// A group of tiles on its way through the convolution. No two groups share a tile.
struct Group<'a, const FORM: usize> {
    filter: &'a Filter<FORM>,
    inputs: &'a [Rows<'a>],
    tiles: Tiles,
    first: usize,
    count: usize,
    to: Destination<'a>,
    scratch: &'a mut Scratch,
}

/// Where the outputs of a group go: the first to the tile `first` of `tiles`, the others after it.
#[derive(Clone, Copy)]
struct Destination<'a> {
    output: &'a SharedMut<'a>,
    epilogue: Epilogue<'a>,
    pooling: bool,
    layout: Layout,
    bias: &'a [f32],
    tiles: Tiles,
    first: usize,
}

impl<const FORM: usize> Kernel for Group<'_, FORM> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self {
            filter,
            inputs,
            tiles,
            first,
            count,
            to,
            scratch,
        } = self;
        let points_count = FORM * FORM;
        let depth = filter.depth;
        let width = VECTORS * LANES;
        let (in_point, out_point) = (count * depth + GAP, count * width + GAP);
        let needed = points_count * (in_point + out_point);
        let Scratch { points, soon } = scratch;
        let scratch = points.at_least(needed);
        let (points, products) = scratch.split_at_mut(points_count * in_point);

        let (mut row, mut used) = (0, 0);
        for (i, (input, channels)) in inputs.iter().zip(&filter.channels).enumerate() {
            input_points::<S, FORM, LANES>(
                simd,
                *input,
                filter.layout.input_window(i),
                tiles,
                first..first + count,
                *channels,
                &mut points[row..],
                Strides {
                    point: in_point,
                    tile: depth,
                },
            );
            used = row + channels;
            row += channels.next_multiple_of(LANES);
        }
        let turns = row_blocks::<S>(count) * points_count;
        // Most likely the same thread's next group.
        let next = first + count..(first + 2 * count).min(tiles.count);
        let windows = inputs
            .iter()
            .enumerate()
            .map(|(i, input)| (*input, filter.layout.input_window(i)));
        soon.reads.plan(
            turns * filter.panels.len(),
            (1, LINE),
            reads(windows, tiles, next, FORM),
        );
        let per_phase = filter.panels.len() / filter.layout.phases();
        for (phase, panels) in filter.panels.chunks_exact(per_phase).enumerate() {
            for panels in panels.chunks(VECTORS / S::WIDEST) {
                let begin = panels[0].begin;
                let width = panels.iter().map(|panel| panel.vectors * LANES).sum();
                let turns = turns * panels.len();
                to.plan_writes(&mut soon.writes, turns, count, phase, begin, width);
                for (point, products) in products.chunks_exact_mut(out_point).enumerate() {
                    let a = TilePoints {
                        points: &points[point * in_point..][..count * depth],
                        depth,
                        used,
                    };
                    for panel in panels {
                        let to = &mut products[panel.begin - begin..];
                        let size = depth * panel.vectors * LANES;
                        let weights = &filter.weights.as_slice()[panel.weights + point * size..];
                        let weights = &weights[..size];
                        match panel.vectors {
                            6 => product::<S, 6>(simd, a, weights, to, width, soon),
                            5 => product::<S, 5>(simd, a, weights, to, width, soon),
                            4 => product::<S, 4>(simd, a, weights, to, width, soon),
                            3 => product::<S, 3>(simd, a, weights, to, width, soon),
                            2 => product::<S, 2>(simd, a, weights, to, width, soon),
                            _ => product::<S, 1>(simd, a, weights, to, width, soon),
                        }
                    }
                }
                let points = Products {
                    floats: products,
                    stride: out_point,
                    count,
                    width,
                };
                to.outputs::<S, FORM>(simd, points, phase, begin);
            }
        }
    }
}

/// Where the points of tiles lie: floats from one point and from one tile to the next.
#[derive(Clone, Copy)]
pub(super) struct Strides {
    pub point: usize,
    pub tile: usize,
}

/// The points of the tiles' inputs. This input's channels begin at the first float of `to`, and their vectors
/// are `VECTOR` floats apart.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "a loop nest cut out of its two callers"
)]
pub(super) fn input_points<S: Simd, const IN: usize, const VECTOR: usize>(
    simd: S,
    input: Rows,
    window: Window,
    tiles: Tiles,
    range: Range<usize>,
    channels: usize,
    to: &mut [f32],
    strides: Strides,
) {
    let Shape { h, w, .. } = input.shape();
    let pixel = input.shape().pixel_stride();
    let floats = input.as_slice();
    // The last vectors a tile reads and writes.
    let padded = channels.next_multiple_of(LANES);
    if channels == 0 {
        return;
    }
    for (i, tile) in range.enumerate() {
        let (n, ty, tx) = tiles.place(tile);
        let mut rows = [0; IN];
        let mut columns = [0; IN];
        for k in 0..IN {
            rows[k] = input.offset(n, window.row(ty, k, h), -1);
            columns[k] = (window.column(tx, k, w) + 1) as usize * pixel;
        }
        // The next tile's lines come while this one's are transformed: a third of the stage's time.
        let (next_n, next_y, next_x) = tiles.place((tile + 1).min(tiles.count - 1));
        let next = if next_y == ty && next_n == n {
            (next_x - tx) * window.step * OUT * pixel
        } else {
            0
        };
        // In order, unless the rows are some that do not begin above the tile.
        assert!(rows[0] <= rows[IN - 1]);
        assert!(rows[IN - 1] + columns[IN - 1] + padded <= floats.len());
        let begin = i * strides.tile;
        let last = (IN * IN - 1) * strides.point + (padded / LANES - 1) * VECTOR;
        assert!(begin + last + LANES <= to.len());
        for c in (0..channels).step_by(LANES) {
            if c % 16 == 0 {
                for y in 0..IN {
                    for x in IN - OUT..IN {
                        let at = rows[y] + columns[x] + c + next;
                        simd.prefetch(floats.as_ptr().wrapping_add(at));
                    }
                }
            }
            let mut lines = [[simd.splat(0.0); IN]; IN];
            for x in 0..IN {
                let mut column = [simd.splat(0.0); IN];
                for (y, value) in column.iter_mut().enumerate() {
                    let at = rows[y] + columns[x] + c;
                    // SAFETY: asserted above, rows and columns being in order.
                    *value = simd.load(unsafe { vector_unchecked(floats, at) });
                }
                let column = transform::input::<S, IN>(simd, column);
                for y in 0..IN {
                    lines[y][x] = column[y];
                }
            }
            let begin = begin + c / LANES * VECTOR;
            for (y, line) in lines.into_iter().enumerate() {
                let line = transform::input::<S, IN>(simd, line);
                for (x, value) in line.into_iter().enumerate() {
                    let at = begin + (y * IN + x) * strides.point;
                    // SAFETY: asserted above.
                    simd.store(value, unsafe { vector_unchecked_mut(to, at) });
                }
            }
        }
    }
}

/// [`vector`] without its check.
///
/// # Safety
/// `at + LANES <= floats.len()`.
#[inline(always)]
pub(super) unsafe fn vector_unchecked(floats: &[f32], at: usize) -> &[f32; LANES] {
    debug_assert!(at + LANES <= floats.len());
    // SAFETY: the caller's promise.
    unsafe { &*floats.as_ptr().add(at).cast() }
}

/// [`vector_mut`](crate::arch::vector_mut) without its check.
///
/// # Safety
/// `at + LANES <= floats.len()`.
#[inline(always)]
pub(super) unsafe fn vector_unchecked_mut(floats: &mut [f32], at: usize) -> &mut [f32; LANES] {
    debug_assert!(at + LANES <= floats.len());
    // SAFETY: the caller's promise.
    unsafe { &mut *floats.as_mut_ptr().add(at).cast() }
}

/// The tiles' inputs at one point, `[tile][depth]`, of which `used` channels count.
#[derive(Clone, Copy)]
struct TilePoints<'a> {
    points: &'a [f32],
    depth: usize,
    used: usize,
}

/// Register tiles of as many rows.
const fn row_blocks<S: Simd>(rows: usize) -> usize {
    let tall = if S::ROWS == 8 { rows / 8 } else { 0 };
    let rest = rows - 8 * tall;
    tall + rest / 4 + rest % 4
}

/// One panel's products at one point: `to[tile][..] = Σ_c points[tile][c] · weights[c][..]`.
#[inline(always)]
fn product<S: Simd, const VECTORS: usize>(
    simd: S,
    a: TilePoints,
    weights: &[f32],
    to: &mut [f32],
    width: usize,
    soon: &mut Soon,
) {
    let tiles = a.points.len() / a.depth;
    let mut tile = 0;
    if S::ROWS == 8 {
        while tile + 8 <= tiles {
            soon.turn(simd);
            rows::<S, 8, VECTORS>(simd, a, tile, weights, &mut to[tile * width..], width);
            tile += 8;
        }
    }
    while tile + 4 <= tiles {
        soon.turn(simd);
        rows::<S, 4, VECTORS>(simd, a, tile, weights, &mut to[tile * width..], width);
        tile += 4;
    }
    while tile < tiles {
        soon.turn(simd);
        rows::<S, 1, VECTORS>(simd, a, tile, weights, &mut to[tile * width..], width);
        tile += 1;
    }
}

#[inline(always)]
fn rows<S: Simd, const M: usize, const VECTORS: usize>(
    simd: S,
    a: TilePoints,
    tile: usize,
    weights: &[f32],
    to: &mut [f32],
    width: usize,
) {
    let points = &a.points[tile * a.depth..][..M * a.depth];
    assert!(a.used <= a.depth && a.used * VECTORS * LANES <= weights.len());
    let strip = Strip {
        a: points.as_ptr(),
        rows: a.depth,
        step_a: 1,
        b: weights.as_ptr(),
        step_b: VECTORS * LANES,
        count: a.used,
    };
    // SAFETY: the lengths above are what the strip reads.
    unsafe { simd.product::<M, VECTORS>(strip, to, width) };
}

/// The pixels of a tile's side that lie in the output: the first is pixel `begin + step · from`.
#[derive(Clone, Copy)]
struct Side {
    begin: isize,
    step: usize,
    from: usize,
    to: usize,
}

impl Side {
    /// Of the tile at `tile` in an output of `size` pixels; the first may begin one pixel `before` it.
    #[inline(always)]
    fn new(step: usize, before: usize, tile: usize, size: usize) -> Self {
        let begin = (step * OUT * tile) as isize - before as isize;
        let from = usize::from(begin < 0);
        let to = (size as isize - begin + step as isize - 1) as usize / step;
        Self {
            begin,
            step,
            from,
            to: to.min(OUT),
        }
    }

    /// Whether all of them do.
    #[inline(always)]
    fn is_whole(self) -> bool {
        self.from == 0 && self.to == OUT
    }

    /// Whether pixel `k` does.
    #[inline(always)]
    fn holds(self, k: usize) -> bool {
        k >= self.from && k < self.to
    }
}

/// A group's products: `[point][tile][width]`, where a point's begin `stride` floats after the one's
/// before.
#[derive(Clone, Copy)]
struct Products<'a> {
    floats: &'a [f32],
    stride: usize,
    count: usize,
    width: usize,
}

impl Destination<'_> {
    /// Plans to ask for what [`Destination::outputs`] will write and, for [`Epilogue::Slope`], read.
    fn plan_writes(
        &self,
        writes: &mut Ahead,
        turns: usize,
        count: usize,
        phase: usize,
        begin: usize,
        width: usize,
    ) {
        let shape = self.output.shape();
        let shrink = if self.pooling { 2 } else { 1 };
        let window = self.layout.output_window(phase);
        let activation = match self.epilogue {
            Epilogue::Slope(activation, _) => Some(activation.as_slice().as_ptr()),
            _ => None,
        };
        let tensors = [Some(self.output.address()), activation];
        let runs = tensors.into_iter().flatten().flat_map(|tensor| {
            let tiles = self.tiles.side_by_side(self.first..self.first + count);
            tiles.flat_map(move |(n, ty, tiles)| {
                let down = Side::new(window.step, window.before.0, ty, shrink * shape.h);
                let across = Side::new(window.step, window.before.1, tiles.start, shrink * shape.w);
                let x = (across.begin + (across.from * across.step) as isize) / shrink as isize;
                (down.from..down.to).step_by(shrink).map(move |k| {
                    let y = (down.begin + (k * down.step) as isize) / shrink as isize;
                    let at = self.output.offset(n, y, x) + begin;
                    Run {
                        first: tensor.wrapping_add(at).addr(),
                        pieces: tiles.len() * OUT / shrink,
                    }
                })
            })
        });
        let step = window.step * shape.pixel_stride();
        writes.plan(turns, (width.div_ceil(LINE), step), runs);
    }

    /// Outputs from their points, through the epilogue, for the products' channels from `begin` on.
    #[inline(always)]
    fn outputs<S: Simd, const IN: usize>(
        &self,
        simd: S,
        products: Products,
        phase: usize,
        begin: usize,
    ) {
        let Products {
            floats: products,
            stride,
            count,
            width,
        } = products;
        let shape = self.output.shape();
        let (pixel, row) = (shape.pixel_stride(), shape.row_stride());
        let shrink = if self.pooling { 2 } else { 1 };
        let window = self.layout.output_window(phase);
        for i in 0..count {
            let (n, ty, tx) = self.tiles.place(self.first + i);
            let down = Side::new(window.step, window.before.0, ty, shrink * shape.h);
            let across = Side::new(window.step, window.before.1, tx, shrink * shape.w);
            let place = self.output.offset(
                n,
                down.begin / shrink as isize,
                across.begin / shrink as isize,
            ) + begin;
            let (row, pixel) = (down.step * row, across.step * pixel);
            let whole = down.is_whole() && across.is_whole();
            // The last vector this tile reads.
            assert!((IN * IN - 1) * stride + (i + 1) * width <= products.len());
            for c in (0..width).step_by(LANES) {
                let mut lines = [[simd.splat(0.0); IN]; OUT];
                for x in 0..IN {
                    let mut column = [simd.splat(0.0); IN];
                    for (y, value) in column.iter_mut().enumerate() {
                        let at = (y * IN + x) * stride + i * width + c;
                        // SAFETY: asserted above.
                        *value = simd.load(unsafe { vector_unchecked(products, at) });
                    }
                    let column = transform::output::<S, IN, OUT>(simd, column);
                    for y in 0..OUT {
                        lines[y][x] = column[y];
                    }
                }
                let bias = simd.load(vector(self.bias, begin + c));
                let at = |y: usize, x: usize| place + y * row + x * pixel + c;
                let mut above = [simd.splat(0.0); OUT];
                for (y, line) in lines.into_iter().enumerate() {
                    let mut values = transform::output::<S, IN, OUT>(simd, line);
                    if !self.pooling {
                        for value in &mut values {
                            *value = simd.add(*value, bias);
                        }
                        if whole {
                            self.store_all(simd, values, at(y, 0), pixel);
                        } else if down.holds(y) {
                            for x in 0..OUT {
                                if across.holds(x) {
                                    self.store(simd, values[x], at(y, x));
                                }
                            }
                        }
                    } else if y % 2 == 0 {
                        above = values;
                    } else if y < down.to {
                        for x in 0..OUT / 2 {
                            if 2 * x + 1 < across.to {
                                let upper = simd.max(above[2 * x], above[2 * x + 1]);
                                let lower = simd.max(values[2 * x], values[2 * x + 1]);
                                let greatest = simd.add(simd.max(upper, lower), bias);
                                self.store(simd, greatest, at(y / 2, x));
                            }
                        }
                    }
                }
            }
        }
    }

    /// What the chain makes of the strip of the group's tiles.
    fn chain(&self, level: Level, chain: &Chain, strip: &Tensor, tiles: usize, tail: &mut Tail) {
        let Tail {
            pixels, between, ..
        } = tail;
        let shape = self.output.shape();
        let (from, to) = (strip.shape().pixel_stride(), shape.pixel_stride());
        let count = OUT * tiles;
        pixels.resize(count * to, 0.0);
        for row in 0..OUT {
            chain.run(level, strip.row(0, row), from, count, pixels, between);
            for (i, pixels) in pixels.chunks_exact(OUT * to).enumerate() {
                let (n, ty, tx) = self.tiles.place(self.first + i);
                let y = OUT * ty + row;
                for (x, pixel) in (OUT * tx..shape.w).zip(pixels.chunks_exact(to)) {
                    if y < shape.h {
                        let at = self.output.offset(n, y as isize, x as isize);
                        for c in (0..to).step_by(LANES) {
                            // SAFETY: a pixel of this group's tiles, once; no other group has these tiles.
                            let to = unsafe { self.output.vector(at + c) };
                            to.copy_from_slice(&pixel[c..c + LANES]);
                        }
                    }
                }
            }
        }
    }

    /// What the chain makes of two pixels of each cell of the strip of the group's tiles.
    fn picked_chain(
        &self,
        level: Level,
        chain: &Chain,
        picks: Picks,
        strip: &Tensor,
        tiles: usize,
        tail: &mut Tail,
    ) {
        let Tail {
            pixels, between, ..
        } = tail;
        let from = strip.shape().pixel_stride();
        let to = chain.padded_outputs();
        // Of each cell of the tiles, in the strip and in the image.
        let cells = || {
            (0..tiles).flat_map(|i| {
                let (n, ty, tx) = self.tiles.place(self.first + i);
                (0..CELLS * CELLS).filter_map(move |cell| {
                    let (y, x) = (cell / CELLS, cell % CELLS);
                    let (image_y, image_x) = (CELLS * ty + y, CELLS * tx + x);
                    let pair = picks.of_cell(n, image_y, image_x)?;
                    let at = self.output.offset(n, image_y as isize, image_x as isize);
                    Some((pair.map(|(dy, dx)| (2 * y + dy, OUT * i + 2 * x + dx)), at))
                })
            })
        };
        let most = 2 * CELLS * CELLS * tiles;
        pixels.resize(most * (from + to), 0.0);
        let (before, after) = pixels.split_at_mut(most * from);
        let mut free = before.chunks_exact_mut(from);
        let mut count = 0;
        for (pair, _) in cells() {
            for (y, x) in pair {
                let pixel = &strip.row(0, y)[x * from..][..from];
                free.next()
                    .expect("room for all cells")
                    .copy_from_slice(pixel);
                count += 1;
            }
        }
        chain.run(level, before, from, count, after, between);
        let mut pixels = after.chunks_exact(LANES);
        for (_, at) in cells() {
            for c in (0..2 * to).step_by(LANES) {
                // SAFETY: a pixel of a cell of this group's tiles, once; no other group has these tiles.
                let to = unsafe { self.output.vector(at + c) };
                to.copy_from_slice(pixels.next().expect("both pixels of all cells"));
            }
        }
    }

    /// Stores the vectors of a tile's row, the first to float `at`, each `pixel` floats after the one before.
    /// What most layers end with is asked once, not for every vector.
    #[inline(always)]
    fn store_all<S: Simd>(&self, simd: S, values: [S::V; OUT], at: usize, pixel: usize) {
        if let Epilogue::LeakyRelu(slope) = self.epilogue {
            // SAFETY: as in `store`.
            let vector = |x: usize| unsafe { self.output.vector(at + x * pixel) };
            for (x, value) in values.into_iter().enumerate() {
                simd.store(leaky_relu(simd, value, slope), vector(x));
            }
        } else {
            for (x, value) in values.into_iter().enumerate() {
                self.store(simd, value, at + x * pixel);
            }
        }
    }

    #[inline(always)]
    fn store<S: Simd>(&self, simd: S, value: S::V, at: usize) {
        // SAFETY: `outputs` gives vectors in pixels of this group's tiles, each once; no other
        // group has these tiles.
        let to = unsafe { self.output.vector(at) };
        self.epilogue.store(simd, value, to, at);
    }
}
