//! The gradient of the filter. With the gradients of a tile's outputs in place of the filter,
//! `dW = Aᵀ [Σ_tiles (B x) (G dy)ᵀ] A` is again a product at each point, now summed over the tiles.
//!
//! Tiles are processed in blocks. First the threads share the block's tiles and transform inputs and gradients; then
//! they share the points, each a matrix product over the tiles whose sums stay in cache. Every sum is computed by one
//! thread, in the order of the tiles.

use std::ops::Range;

use rayon::prelude::*;

use super::input::{Strides, input_points, vector_unchecked, vector_unchecked_mut};
use super::{GAP, Layout, OUT, SAME, TWO_TAPS, Tiles, transform};
use crate::Level;
use crate::arch::{Kernel, LANES, Simd, Strip, vector, vector_mut};
use crate::arena::Arena;
use crate::jobs::one_by_one;
use crate::tensor::{Rows, Tensor};

/// Tiles in a block. They form eight shares, so at most eight threads transform tiles at once; a larger block would
/// take more memory.
const BLOCK: usize = 256;
/// Tiles whose products are summed in registers before they are added to memory.
const RUN: usize = 128;
/// Tiles that one job transforms.
const SHARE: usize = 32;

/// Floats from one point of a share's tiles to the next, for `channels` channels.
///
/// At each point, vectors of input channels are stored one after another, each for all tiles, and so are the register
/// tile's vectors of output channels: a register tile reads without gaps.
const fn point_stride(channels: usize) -> usize {
    SHARE * channels + GAP
}

/// Floats in all points of a share's tiles.
const fn all_points(form: usize, channels: usize) -> usize {
    form * form * point_stride(channels)
}

/// The gradient of the weights, `[out, in, 3, 3]`, from the inputs (each with its number of channels, excluding
/// padding) and the gradient of the output.
///
/// # Panics
/// If a shape does not fit.
pub(crate) fn weight_gradient(
    level: Level,
    arena: &mut Arena,
    inputs: &[(&Tensor, usize)],
    output_gradient: &Tensor,
    gradient: &mut [f32],
) {
    let shape = output_gradient.shape();
    let total: usize = inputs.iter().map(|(_, channels)| channels).sum();
    assert_eq!(gradient.len(), shape.c * total * 9, "weights");
    let taps = filter_taps::<SAME, 3>(level, arena, Layout::Same, inputs, output_gradient);
    let width = shape.pixel_stride();
    gradient
        .par_chunks_exact_mut(9 * total)
        .enumerate()
        .for_each(|(o, gradient)| {
            for (to, taps) in gradient.chunks_exact_mut(9).zip(&taps) {
                for (tap, to) in to.iter_mut().enumerate() {
                    *to = taps[tap * width + o];
                }
            }
        });
}

/// The gradient of the four taps of each phase's 2×2 filters in the doubling layout: for each input channel
/// `[tap][phase][out, padded to whole vectors]`.
///
/// # Panics
/// If a shape does not fit.
pub(crate) fn merged_gradient(
    level: Level,
    arena: &mut Arena,
    inputs: &[(&Tensor, usize)],
    output_gradient: &Tensor,
) -> Vec<Vec<f32>> {
    filter_taps::<TWO_TAPS, 2>(level, arena, Layout::Doubling, inputs, output_gradient)
}

/// For each input channel, excluding padding, `[tap][phase][out, padded to whole vectors]`, where `M` is the number
/// of taps along a side.
fn filter_taps<const IN: usize, const M: usize>(
    level: Level,
    arena: &mut Arena,
    layout: Layout,
    inputs: &[(&Tensor, usize)],
    output_gradient: &Tensor,
) -> Vec<Vec<f32>> {
    let shape = output_gradient.shape();
    let input = inputs[0].0.shape();
    for (input, channels) in inputs {
        let from = input.shape();
        assert_eq!(
            (from.n, layout.output(from.h), layout.output(from.w)),
            (shape.n, shape.h, shape.w),
            "input size"
        );
        assert!(from.c >= *channels, "input channels");
    }
    let tiles = Tiles::of(layout, input);
    let depth: usize = inputs.iter().map(|(_, c)| c.next_multiple_of(LANES)).sum();
    let width = layout.phases() * shape.pixel_stride();

    let block = BLOCK.min(tiles.count).max(1);
    let shares = block.div_ceil(SHARE);
    let share = all_points(IN, depth) + all_points(IN, width);
    let all_sums = IN * IN * depth * width;
    let mut points = arena.take_floats(shares * share);
    let mut sums = arena.take_floats(all_sums);
    let sums_of_points = &mut sums.as_mut_slice()[..all_sums];
    if tiles.count == 0 {
        // There is no block to initialize them.
        sums_of_points.fill(0.0);
    }
    for first in (0..tiles.count).step_by(block) {
        let count = block.min(tiles.count - first);
        let parts = points
            .as_mut_slice()
            .par_chunks_mut(share)
            .take(count.div_ceil(SHARE));
        one_by_one(parts.enumerate()).for_each(|(i, to)| {
            let first = first + i * SHARE;
            let count = SHARE.min(count - i * SHARE);
            level.run(Points::<IN> {
                inputs,
                layout,
                output_gradient,
                tiles,
                first,
                count,
                depth,
                to,
            });
        });
        let points = points.as_slice();
        let of_points = sums_of_points.par_chunks_exact_mut(depth * width);
        one_by_one(of_points.enumerate()).for_each(|(point, sums)| {
            level.run(Products::<IN> {
                points,
                share,
                point,
                begins: first == 0,
                count,
                depth,
                width,
                sums,
            });
        });
    }
    // Rows of the depth that are not padding.
    let mut rows = vec![];
    let mut begin = 0;
    for (_, channels) in inputs {
        rows.extend(begin..begin + channels);
        begin += channels.next_multiple_of(LANES);
    }
    // Transform from points to taps, eight outputs at a time.
    let taps = one_by_one(rows.into_par_iter())
        .map(|row| {
            let mut taps = vec![0.0; M * M * width];
            level.run(Taps::<IN, M> {
                sums: sums_of_points,
                row,
                depth,
                width,
                to: &mut taps,
            });
            taps
        })
        .collect();
    arena.give_floats(points);
    arena.give_floats(sums);
    taps
}

/// Transforms the inputs and gradients of some tiles.
struct Points<'a, const IN: usize> {
    inputs: &'a [(&'a Tensor, usize)],
    layout: Layout,
    output_gradient: &'a Tensor,
    tiles: Tiles,
    first: usize,
    count: usize,
    depth: usize,
    to: &'a mut [f32],
}

impl<const IN: usize> Kernel for Points<'_, IN> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (inputs, gradients) = self.to.split_at_mut(all_points(IN, self.depth));
        let mut row = 0;
        for (i, (input, channels)) in self.inputs.iter().enumerate() {
            let tiles = self.first..self.first + self.count;
            let to = &mut inputs[row * SHARE..];
            input_points::<S, IN, { SHARE * LANES }>(
                simd,
                Rows::from(*input),
                self.layout.input_window(i),
                self.tiles,
                tiles,
                *channels,
                to,
                Strides {
                    point: point_stride(self.depth),
                    tile: LANES,
                },
            );
            row += channels.next_multiple_of(LANES);
        }
        let shape = self.output_gradient.shape();
        let pixel = shape.pixel_stride();
        let width = self.layout.phases() * pixel;
        let stride = point_stride(width);
        let floats = self.output_gradient.as_slice();
        // Everything that is written: tiles below `SHARE`, and for each of them `width` floats per point.
        assert!(self.count <= SHARE);
        assert!((IN * IN - 1) * stride + SHARE * width <= gradients.len());
        for i in 0..self.count {
            let (n, ty, tx) = self.tiles.place(self.first + i);
            for phase in 0..self.layout.phases() {
                let window = self.layout.output_window(phase);
                // Beyond the image there is no output and hence no gradient; read the zero of the border instead.
                let mut rows = [0; OUT];
                let mut columns = [0; OUT];
                for k in 0..OUT {
                    rows[k] = shape.offset(n, window.row(ty, k, shape.h), -1);
                    columns[k] = (window.column(tx, k, shape.w) + 1) as usize * pixel;
                }
                // The last vectors that are read.
                assert!(rows[OUT - 1] + columns[OUT - 1] + pixel <= floats.len());
                for c in (0..pixel).step_by(LANES) {
                    let channel = phase * pixel + c;
                    let panel = channel - channel % (S::WIDEST * LANES);
                    let panel_width = (width - panel).min(S::WIDEST * LANES);
                    let begin = SHARE * panel + i * panel_width + channel - panel;
                    let mut lines = [[simd.splat(0.0); OUT]; IN];
                    for x in 0..OUT {
                        let mut column = [simd.splat(0.0); OUT];
                        for (y, value) in column.iter_mut().enumerate() {
                            let at = rows[y] + columns[x] + c;
                            // SAFETY: asserted above, rows and columns being in order.
                            *value = simd.load(unsafe { vector_unchecked(floats, at) });
                        }
                        let column = transform::gradient::<S, IN>(simd, column);
                        for y in 0..IN {
                            lines[y][x] = column[y];
                        }
                    }
                    for (y, values) in lines.into_iter().enumerate() {
                        for (x, value) in transform::gradient::<S, IN>(simd, values)
                            .into_iter()
                            .enumerate()
                        {
                            let at = begin + (y * IN + x) * stride;
                            // SAFETY: asserted above. `i < SHARE`, so the vector ends before the panel's `SHARE`
                            // tiles do, and all panels together are `SHARE · width` floats.
                            simd.store(value, unsafe { vector_unchecked_mut(gradients, at) });
                        }
                    }
                }
            }
        }
    }
}

/// Adds a block's products at one point to `sums[depth][width]`, or initializes the sums with them.
struct Products<'a, const IN: usize> {
    points: &'a [f32],
    share: usize,
    point: usize,
    begins: bool,
    count: usize,
    depth: usize,
    width: usize,
    sums: &'a mut [f32],
}

impl<const IN: usize> Kernel for Products<'_, IN> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        for run in (0..self.count).step_by(RUN) {
            let run = run..(run + RUN).min(self.count);
            for begin in (0..self.width).step_by(S::WIDEST * LANES) {
                match ((self.width - begin) / LANES).min(S::WIDEST) {
                    6 => self.panel::<S, 6>(simd, run.clone(), begin),
                    5 => self.panel::<S, 5>(simd, run.clone(), begin),
                    4 => self.panel::<S, 4>(simd, run.clone(), begin),
                    3 => self.panel::<S, 3>(simd, run.clone(), begin),
                    2 => self.panel::<S, 2>(simd, run.clone(), begin),
                    _ => self.panel::<S, 1>(simd, run.clone(), begin),
                }
            }
        }
    }
}

impl<const IN: usize> Products<'_, IN> {
    #[inline(always)]
    fn panel<S: Simd, const VECTORS: usize>(&mut self, simd: S, run: Range<usize>, begin: usize) {
        // The depth is a whole number of vectors, hence of register tiles.
        if S::ROWS == 8 {
            self.tiles::<S, 8, VECTORS>(simd, run, begin);
        } else {
            self.tiles::<S, 4, VECTORS>(simd, run, begin);
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, const ROWS: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        run: Range<usize>,
        begin: usize,
    ) {
        let begins = self.begins && run.start == 0;
        for row in (0..self.depth).step_by(ROWS) {
            let mut total = [[simd.splat(0.0); VECTORS]; ROWS];
            let (vector, lane) = (row - row % LANES, row % LANES);
            for tile in run.clone().step_by(SHARE) {
                let count = SHARE.min(run.end - tile);
                let here = &self.points[tile / SHARE * self.share..][..self.share];
                let (inputs, gradients) = here.split_at(all_points(IN, self.depth));
                let a = &inputs[self.point * point_stride(self.depth) + vector * SHARE..];
                let b = &gradients[self.point * point_stride(self.width) + begin * SHARE..];
                let a = &a[lane..][..LANES * (count - 1) + ROWS];
                let b = &b[..VECTORS * LANES * count];
                let strip = Strip {
                    a: a.as_ptr(),
                    rows: 1,
                    step_a: LANES,
                    b: b.as_ptr(),
                    step_b: VECTORS * LANES,
                    count,
                };
                // SAFETY: the two slices cover what the strip reads.
                unsafe { simd.multiply_add_strip(&mut total, strip) };
            }
            for (i, total) in total.into_iter().enumerate() {
                for (j, total) in total.into_iter().enumerate() {
                    let at = (row + i) * self.width + begin + j * LANES;
                    let sum = vector_mut(self.sums, at);
                    let before = if begins {
                        simd.splat(0.0)
                    } else {
                        simd.load(sum)
                    };
                    simd.store(simd.add(before, total), sum);
                }
            }
        }
    }
}

/// The taps of one input channel for every output channel of every phase.
struct Taps<'a, const IN: usize, const M: usize> {
    sums: &'a [f32],
    row: usize,
    depth: usize,
    width: usize,
    to: &'a mut [f32],
}

impl<const IN: usize, const M: usize> Kernel for Taps<'_, IN, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for o in (0..self.width).step_by(LANES) {
            let mut columns = [[simd.splat(0.0); IN]; M];
            for x in 0..IN {
                let mut column = [simd.splat(0.0); IN];
                for (y, value) in column.iter_mut().enumerate() {
                    let at = ((y * IN + x) * self.depth + self.row) * self.width + o;
                    *value = simd.load(vector(self.sums, at));
                }
                for (y, value) in transform::output::<S, IN, M>(simd, column)
                    .into_iter()
                    .enumerate()
                {
                    columns[y][x] = value;
                }
            }
            for (y, values) in columns.into_iter().enumerate() {
                for (x, value) in transform::output::<S, IN, M>(simd, values)
                    .into_iter()
                    .enumerate()
                {
                    simd.store(value, vector_mut(self.to, (M * y + x) * self.width + o));
                }
            }
        }
    }
}
