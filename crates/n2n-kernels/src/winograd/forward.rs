//! The convolution itself, by groups of tiles small enough for the second-level cache: the inputs
//! of a group to their points, 36 matrix products with the filter, the outputs back from their
//! points into the output tensor.

use std::cell::RefCell;

use rayon::prelude::*;

use super::{GAP, IN, OUT, POINTS, Pooling, Tiles, transform};
use crate::Level;
use crate::arch::{Kernel, LANES, Simd, Strip};
use crate::epilogue::Epilogue;
use crate::pool::pooled;
use crate::tensor::{Shape, SharedMut, Tensor};

/// The most tiles of a group: 36 points of 24 tiles with 96 channels are 330 KB.
const GROUP: usize = 24;
/// Tiles of a register tile.
const ROWS: usize = 4;
/// Vectors of output channels of the widest register tile.
const WIDEST: usize = 3;
/// Panels of outputs that go through the products and the output transform together.
const PANELS: usize = 2;

thread_local! {
    /// Memory for the points of a group's inputs and outputs; the threads of a pool live long.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A 3×3 convolution's filter at the 36 points.
#[derive(Debug)]
pub(crate) struct Filter {
    /// Channels read from each input tensor.
    channels: Vec<usize>,
    outputs: usize,
    /// Input channels, each tensor's padded to whole vectors.
    depth: usize,
    /// For each panel of outputs, `[point][depth][vectors · LANES]`.
    panels: Vec<Panel>,
    /// A value for each output channel, padded with zeros to whole vectors.
    bias: Vec<f32>,
}

#[derive(Debug)]
struct Panel {
    /// The first output channel.
    begin: usize,
    /// Vectors, 1 to `WIDEST`.
    vectors: usize,
    weights: Vec<f32>,
}

impl Filter {
    /// Transforms a filter; `weight(input channel, output channel)` gives its nine taps, input
    /// channels being counted through all input tensors.
    pub fn new(
        channels: &[usize],
        outputs: usize,
        bias: &[f32],
        weight: impl Fn(usize, usize) -> [f32; 9] + Sync,
    ) -> Self {
        let depth = channels.iter().map(|c| c.next_multiple_of(LANES)).sum();
        let padded = outputs.next_multiple_of(LANES);
        let panels = (0..padded.div_ceil(WIDEST * LANES))
            .into_par_iter()
            .map(|panel| {
                let begin = panel * WIDEST * LANES;
                let vectors = ((padded - begin) / LANES).min(WIDEST);
                let width = vectors * LANES;
                let mut weights = vec![0.0; POINTS * depth * width];
                let mut taps: transform::Taps<{ WIDEST * LANES }> = [[0.0; WIDEST * LANES]; 9];
                let (mut channel, mut row) = (0, 0);
                for &count in channels {
                    for c in 0..count {
                        for o in 0..width.min(outputs - begin) {
                            for (tap, value) in weight(channel + c, begin + o).iter().enumerate() {
                                taps[tap][o] = f64::from(*value);
                            }
                        }
                        transform::filter(&taps, |point, values| {
                            weights[(point * depth + row + c) * width..][..width]
                                .copy_from_slice(&values[..width]);
                        });
                    }
                    channel += count;
                    row += count.next_multiple_of(LANES);
                }
                Panel {
                    begin,
                    vectors,
                    weights,
                }
            })
            .collect();
        let mut padded_bias = vec![0.0; padded];
        padded_bias[..bias.len()].copy_from_slice(bias);
        Self {
            channels: channels.to_vec(),
            outputs,
            depth,
            panels,
            bias: padded_bias,
        }
    }

    /// Computes the output from the inputs, whose channels follow one another. With pooling, the
    /// output is half as high and wide as the inputs.
    ///
    /// # Panics
    /// If a shape does not fit, or its tiles are not whole.
    pub fn run(
        &self,
        level: Level,
        inputs: &[&Tensor],
        output: &mut Tensor,
        epilogue: Epilogue,
        pooling: Pooling,
    ) {
        assert_eq!(inputs.len(), self.channels.len(), "input tensors");
        let shape = Shape {
            c: self.outputs,
            ..inputs[0].shape()
        };
        for (input, &channels) in inputs.iter().zip(&self.channels) {
            let Shape { n, h, w, c } = input.shape();
            assert_eq!((n, h, w), (shape.n, shape.h, shape.w), "input size");
            assert!(c >= channels, "input channels");
        }
        let stored = if pooling == Pooling::Max {
            pooled(shape)
        } else {
            shape
        };
        assert_eq!(output.shape(), stored, "shape of the output");
        if let Epilogue::Slope(activation, _) = epilogue {
            assert_eq!(activation.shape(), stored, "shape of the activation");
        }
        let tiles = Tiles::of(shape);
        // Small images are cut finer, so that every thread has work. The size of a group changes no
        // bit: a tile's sums run over the depth alone, in one order, in a block of four or alone.
        let share = tiles.count.div_ceil(2 * rayon::current_num_threads());
        let group = share.next_multiple_of(ROWS).clamp(ROWS, GROUP);
        let output = SharedMut::new(output);
        let bias = &self.bias;
        (0..tiles.count.div_ceil(group))
            .into_par_iter()
            .for_each(|i| {
                let first = i * group;
                let count = group.min(tiles.count - first);
                SCRATCH.with_borrow_mut(|scratch| {
                    let to = Destination {
                        output: &output,
                        epilogue,
                        pooling,
                        bias,
                        tiles,
                        first,
                        count,
                    };
                    level.run(Group {
                        filter: self,
                        inputs,
                        to,
                        scratch,
                    });
                });
            });
    }
}

/// A group of tiles on its way through the convolution. No two groups share a tile.
struct Group<'a> {
    filter: &'a Filter,
    inputs: &'a [&'a Tensor],
    to: Destination<'a>,
    scratch: &'a mut Vec<f32>,
}

/// The tiles of a group and where their outputs go.
#[derive(Clone, Copy)]
struct Destination<'a> {
    output: &'a SharedMut<'a>,
    epilogue: Epilogue<'a>,
    pooling: Pooling,
    bias: &'a [f32],
    tiles: Tiles,
    first: usize,
    count: usize,
}

impl Kernel for Group<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self {
            filter,
            inputs,
            to: group,
            scratch,
        } = self;
        let (count, depth) = (group.count, filter.depth);
        let width = PANELS * WIDEST * LANES;
        let (in_point, out_point) = (count * depth + GAP, count * width + GAP);
        let needed = POINTS * (in_point + out_point);
        if scratch.len() < needed {
            scratch.resize(needed, 0.0);
        }
        let (points, products) = scratch[..needed].split_at_mut(POINTS * in_point);

        let mut row = 0;
        for (input, channels) in inputs.iter().zip(&filter.channels) {
            let tiles = group.first..group.first + count;
            input_points(
                simd,
                input,
                group.tiles,
                tiles,
                *channels,
                &mut points[row..],
                depth,
                in_point,
            );
            row += channels.next_multiple_of(LANES);
        }
        for panels in filter.panels.chunks(PANELS) {
            let begin = panels[0].begin;
            let width = panels.iter().map(|panel| panel.vectors * LANES).sum();
            for (point, products) in products.chunks_exact_mut(out_point).enumerate() {
                let points = &points[point * in_point..][..count * depth];
                for panel in panels {
                    let (weights, to) = (&panel.weights, &mut products[panel.begin - begin..]);
                    let weights = &weights[point * depth * panel.vectors * LANES..];
                    match panel.vectors {
                        3 => product::<S, 3>(simd, points, depth, weights, to, width),
                        2 => product::<S, 2>(simd, points, depth, weights, to, width),
                        _ => product::<S, 1>(simd, points, depth, weights, to, width),
                    }
                }
            }
            group.outputs(simd, products, out_point, begin, width);
        }
    }
}

/// The points of the tiles' inputs: `to[point][tile][depth]`, where a point's values begin
/// `stride` floats after the one's before, and this input's channels begin at the first float.
#[inline(always)]
#[allow(
    clippy::too_many_arguments,
    reason = "a loop nest cut out of its two callers"
)]
pub(super) fn input_points<S: Simd>(
    simd: S,
    input: &Tensor,
    tiles: Tiles,
    range: std::ops::Range<usize>,
    channels: usize,
    to: &mut [f32],
    depth: usize,
    stride: usize,
) {
    let (pixel, row) = (input.shape().pixel_stride(), input.shape().row_stride());
    let floats = input.as_slice();
    for (i, tile) in range.enumerate() {
        let (n, y, x) = tiles.place(tile);
        let begin = input.offset(n, y as isize - 1, x as isize - 1);
        // The next tile's lines come while this one's are transformed: a third of the stage's time.
        let (next_n, next_y, next_x) = tiles.place((tile + 1).min(tiles.count - 1));
        let next = input.offset(next_n, next_y as isize - 1, next_x as isize - 1);
        // The last vectors this tile reads and writes.
        let padded = channels.next_multiple_of(LANES);
        let reach = (IN - 1) * (row + pixel) + padded;
        assert!(begin + reach <= floats.len());
        assert!((POINTS - 1) * stride + i * depth + padded <= to.len());
        for c in (0..channels).step_by(LANES) {
            if c % 16 == 0 {
                for y in 0..IN {
                    for x in IN - OUT..IN {
                        simd.prefetch(floats.as_ptr().wrapping_add(next + y * row + x * pixel + c));
                    }
                }
            }
            let mut columns = [[simd.splat(0.0); IN]; IN];
            for x in 0..IN {
                let mut column = [simd.splat(0.0); IN];
                for (y, value) in column.iter_mut().enumerate() {
                    let at = begin + y * row + x * pixel + c;
                    // SAFETY: asserted above.
                    *value = simd.load(unsafe { vector_unchecked(floats, at) });
                }
                for (y, value) in transform::input(simd, column).into_iter().enumerate() {
                    columns[y][x] = value;
                }
            }
            for (y, values) in columns.into_iter().enumerate() {
                for (x, value) in transform::input(simd, values).into_iter().enumerate() {
                    let at = (y * IN + x) * stride + i * depth + c;
                    // SAFETY: asserted above.
                    simd.store(value, unsafe { vector_unchecked_mut(to, at) });
                }
            }
        }
    }
}

#[inline(always)]
pub(super) fn vector(floats: &[f32], at: usize) -> &[f32; LANES] {
    floats[at..].first_chunk().expect("a vector")
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

/// [`vector_mut`] without its check.
///
/// # Safety
/// `at + LANES <= floats.len()`.
#[inline(always)]
pub(super) unsafe fn vector_unchecked_mut(floats: &mut [f32], at: usize) -> &mut [f32; LANES] {
    debug_assert!(at + LANES <= floats.len());
    // SAFETY: the caller's promise.
    unsafe { &mut *floats.as_mut_ptr().add(at).cast() }
}

#[inline(always)]
pub(super) fn vector_mut(floats: &mut [f32], at: usize) -> &mut [f32; LANES] {
    floats[at..].first_chunk_mut().expect("a vector")
}

/// One panel's products at one point: `to[tile][..] = Σ_c points[tile][c] · weights[c][..]`.
#[inline(always)]
fn product<S: Simd, const VECTORS: usize>(
    simd: S,
    points: &[f32],
    depth: usize,
    weights: &[f32],
    to: &mut [f32],
    width: usize,
) {
    let weights = &weights[..depth * VECTORS * LANES];
    let blocks = points.chunks_exact(ROWS * depth);
    let rest = blocks.remainder();
    let whole = points.len() / (ROWS * depth);
    for (block, points) in blocks.enumerate() {
        rows::<S, ROWS, VECTORS>(
            simd,
            points,
            depth,
            weights,
            &mut to[block * ROWS * width..],
            width,
        );
    }
    for (i, points) in rest.chunks_exact(depth).enumerate() {
        let to = &mut to[(whole * ROWS + i) * width..];
        rows::<S, 1, VECTORS>(simd, points, depth, weights, to, width);
    }
}

#[inline(always)]
fn rows<S: Simd, const M: usize, const VECTORS: usize>(
    simd: S,
    points: &[f32],
    depth: usize,
    weights: &[f32],
    to: &mut [f32],
    width: usize,
) {
    assert!(points.len() == M * depth && weights.len() == depth * VECTORS * LANES);
    let strip = Strip {
        a: points.as_ptr(),
        rows: depth,
        step_a: 1,
        b: weights.as_ptr(),
        step_b: VECTORS * LANES,
        count: depth,
    };
    let mut sums = [[simd.splat(0.0); VECTORS]; M];
    // SAFETY: the lengths asserted above are what the strip reads.
    unsafe { simd.multiply_add_strip(&mut sums, strip) };
    for (i, sums) in sums.into_iter().enumerate() {
        for (j, sum) in sums.into_iter().enumerate() {
            simd.store(sum, vector_mut(to, i * width + j * LANES));
        }
    }
}

impl Destination<'_> {
    /// Outputs from their points, through the epilogue, for `width` channels from `begin` on.
    #[inline(always)]
    fn outputs<S: Simd>(
        &self,
        simd: S,
        products: &[f32],
        stride: usize,
        begin: usize,
        width: usize,
    ) {
        let shape = self.output.shape();
        let (pixel, row) = (shape.pixel_stride(), shape.row_stride());
        let shrink = if self.pooling == Pooling::Max { 2 } else { 1 };
        for i in 0..self.count {
            let (n, y, x) = self.tiles.place(self.first + i);
            let place = shape.offset(n, (y / shrink) as isize, (x / shrink) as isize) + begin;
            // The last vector this tile reads.
            assert!((POINTS - 1) * stride + (i + 1) * width <= products.len());
            for c in (0..width).step_by(LANES) {
                let mut columns = [[simd.splat(0.0); IN]; OUT];
                for x in 0..IN {
                    let mut column = [simd.splat(0.0); IN];
                    for (y, value) in column.iter_mut().enumerate() {
                        let at = (y * IN + x) * stride + i * width + c;
                        // SAFETY: asserted above.
                        *value = simd.load(unsafe { vector_unchecked(products, at) });
                    }
                    let column = transform::output::<S, OUT>(simd, column);
                    for (y, value) in column.into_iter().enumerate() {
                        columns[y][x] = value;
                    }
                }
                let bias = simd.load(vector(self.bias, begin + c));
                let at = |y: usize, x: usize| place + y * row + x * pixel + c;
                let mut above = [simd.splat(0.0); OUT];
                for (y, values) in columns.into_iter().enumerate() {
                    let values = transform::output::<S, OUT>(simd, values);
                    if self.pooling == Pooling::None {
                        for x in 0..OUT {
                            self.store(simd, simd.add(values[x], bias), at(y, x));
                        }
                    } else if y % 2 == 0 {
                        above = values;
                    } else {
                        for x in 0..OUT / 2 {
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

    #[inline(always)]
    fn store<S: Simd>(&self, simd: S, value: S::V, at: usize) {
        // SAFETY: `outputs` gives vectors in pixels of this group's tiles, each once; no other
        // group has these tiles.
        let to = unsafe { self.output.vector(at) };
        self.epilogue.store(simd, value, to, at);
    }
}
