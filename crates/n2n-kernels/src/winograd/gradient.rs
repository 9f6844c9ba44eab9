//! The gradient of the filter: with the gradients of a tile's outputs in the filter's place,
//! `dW = Aᵀ [Σ_tiles (B x) (G dy)ᵀ] A` is again 36 products, now summed over the tiles.
//!
//! Tiles are gone through in blocks. First the threads share the block's tiles and take inputs and
//! gradients to their points; then they share the 36 points, each a matrix product over the tiles,
//! whose sums stay in cache. Every sum is taken by one thread in the order of the tiles.

use std::cell::Cell;
use std::ops::Range;

use rayon::prelude::*;

use super::forward::{Strides, input_points, vector_unchecked, vector_unchecked_mut};
use super::{GAP, OUT, SAME, Tiles, transform};
use crate::Level;
use crate::arch::{Kernel, LANES, Simd, Strip, vector, vector_mut};
use crate::tensor::{Rows, Tensor};

/// Inputs along a tile's side.
const IN: usize = SAME;
/// Products of a tile.
const POINTS: usize = IN * IN;
/// Tiles of a block.
const BLOCK: usize = 256;
/// Tiles whose products are summed in registers before they are added to memory.
const RUN: usize = 128;
/// Tiles that one job takes to their points.
const SHARE: usize = 32;

/// Floats from one point of a share's tiles to the next, for so many channels.
///
/// At a point, vectors of input channels come one after another, each of all tiles, and so do the register
/// tile's vectors of output channels: what a register tile reads is without gaps.
const fn point_stride(channels: usize) -> usize {
    SHARE * channels + GAP
}

/// Floats of all points of a share's tiles.
const fn share(channels: usize) -> usize {
    POINTS * point_stride(channels)
}

thread_local! {
    /// Memory for a block's points and for the sums, kept from call to call. It is taken out while it is
    /// used: a thread that waits for others may take up another call's work.
    static MEMORY: Cell<[Vec<f32>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

/// The gradient of the weights, `[out, in, 3, 3]`, from the inputs (each with the number of channels
/// that count) and the gradient of the output.
///
/// # Panics
/// If a shape does not fit.
pub(crate) fn weight_gradient(
    level: Level,
    inputs: &[(&Tensor, usize)],
    output_gradient: &Tensor,
    gradient: &mut [f32],
) {
    let shape = output_gradient.shape();
    let tiles = Tiles::of::<SAME>(shape);
    for (input, channels) in inputs {
        let from = input.shape();
        assert_eq!(
            (from.n, from.h, from.w),
            (shape.n, shape.h, shape.w),
            "input size"
        );
        assert!(from.c >= *channels, "input channels");
    }
    let total: usize = inputs.iter().map(|(_, channels)| channels).sum();
    assert_eq!(gradient.len(), shape.c * total * 9, "weights");
    let depth: usize = inputs.iter().map(|(_, c)| c.next_multiple_of(LANES)).sum();
    let width = shape.pixel_stride();

    let block = BLOCK.min(tiles.count).max(1);
    let shares = block.div_ceil(SHARE);
    let share = share(depth) + share(width);
    let [mut points, mut sums_memory] = MEMORY.take();
    for (memory, needed) in [
        (&mut points, shares * share),
        (&mut sums_memory, POINTS * depth * width),
    ] {
        if memory.len() < needed {
            memory.resize(needed, 0.0);
        }
    }
    let sums = &mut sums_memory[..POINTS * depth * width];
    for first in (0..tiles.count).step_by(block) {
        let count = block.min(tiles.count - first);
        points
            .par_chunks_mut(share)
            .take(count.div_ceil(SHARE))
            .enumerate()
            .for_each(|(i, to)| {
                let first = first + i * SHARE;
                let count = SHARE.min(count - i * SHARE);
                level.run(Points {
                    inputs,
                    output_gradient,
                    tiles,
                    first,
                    count,
                    depth,
                    to,
                });
            });
        let points = &points;
        sums.par_chunks_exact_mut(depth * width)
            .enumerate()
            .for_each(|(point, sums)| {
                level.run(Products {
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
    let sums = &*sums;
    // From the points to the taps, eight outputs at a time.
    let taps: Vec<Vec<f32>> = (0..depth)
        .into_par_iter()
        .map(|row| {
            let mut taps = vec![0.0; 9 * width];
            level.run(Taps {
                sums,
                row,
                depth,
                width,
                to: &mut taps,
            });
            taps
        })
        .collect();
    let rows = inputs.iter().scan(0, |begin, (_, channels)| {
        let rows = *begin..*begin + channels;
        *begin += channels.next_multiple_of(LANES);
        Some(rows)
    });
    let rows: Vec<usize> = rows.flatten().collect();
    gradient
        .par_chunks_exact_mut(9 * total)
        .enumerate()
        .for_each(|(o, gradient)| {
            for (to, &row) in gradient.chunks_exact_mut(9).zip(&rows) {
                for (tap, to) in to.iter_mut().enumerate() {
                    *to = taps[row][tap * width + o];
                }
            }
        });
    MEMORY.set([points, sums_memory]);
}

/// Takes some tiles' inputs and gradients to their points.
struct Points<'a> {
    inputs: &'a [(&'a Tensor, usize)],
    output_gradient: &'a Tensor,
    tiles: Tiles,
    first: usize,
    count: usize,
    depth: usize,
    to: &'a mut [f32],
}

impl Kernel for Points<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (inputs, gradients) = self.to.split_at_mut(share(self.depth));
        let mut row = 0;
        for (input, channels) in self.inputs {
            let tiles = self.first..self.first + self.count;
            let to = &mut inputs[row * SHARE..];
            input_points::<S, IN, { SHARE * LANES }>(
                simd,
                Rows::from(*input),
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
        let stride = point_stride(pixel);
        let floats = self.output_gradient.as_slice();
        // Beyond the image there is no output, hence no gradient: the border has the zero.
        let inside = |tile: usize, i: usize, size: usize| (OUT * tile + i).min(size);
        for i in 0..self.count {
            let (n, ty, tx) = self.tiles.place(self.first + i);
            let mut rows = [0; OUT];
            let mut columns = [0; OUT];
            for k in 0..OUT {
                rows[k] = shape.offset(n, inside(ty, k, shape.h) as isize, 0);
                columns[k] = inside(tx, k, shape.w) * pixel;
            }
            // The last vectors this tile reads and writes.
            assert!(rows[OUT - 1] + columns[OUT - 1] + pixel <= floats.len());
            assert!((POINTS - 1) * stride + SHARE * pixel <= gradients.len());
            for c in (0..pixel).step_by(LANES) {
                let panel = c - c % (S::WIDEST * LANES);
                let begin = SHARE * panel + i * (pixel - panel).min(S::WIDEST * LANES) + c - panel;
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
                        // SAFETY: asserted above.
                        simd.store(value, unsafe { vector_unchecked_mut(gradients, at) });
                    }
                }
            }
        }
    }
}

/// Adds a block's products at one point to `sums[depth][width]`, or begins them.
struct Products<'a> {
    points: &'a [f32],
    share: usize,
    point: usize,
    begins: bool,
    count: usize,
    depth: usize,
    width: usize,
    sums: &'a mut [f32],
}

impl Kernel for Products<'_> {
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

impl Products<'_> {
    #[inline(always)]
    fn panel<S: Simd, const VECTORS: usize>(&mut self, simd: S, run: Range<usize>, begin: usize) {
        // The depth is whole vectors, hence whole register tiles.
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
                let (inputs, gradients) = here.split_at(share(self.depth));
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
                // SAFETY: the two slices are what the strip reads.
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

/// The nine taps of one input channel with every output channel.
struct Taps<'a> {
    sums: &'a [f32],
    row: usize,
    depth: usize,
    width: usize,
    to: &'a mut [f32],
}

impl Kernel for Taps<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for o in (0..self.width).step_by(LANES) {
            let mut columns = [[simd.splat(0.0); IN]; 3];
            for x in 0..IN {
                let mut column = [simd.splat(0.0); IN];
                for (y, value) in column.iter_mut().enumerate() {
                    let at = ((y * IN + x) * self.depth + self.row) * self.width + o;
                    *value = simd.load(vector(self.sums, at));
                }
                for (y, value) in transform::output::<S, IN, 3>(simd, column)
                    .into_iter()
                    .enumerate()
                {
                    columns[y][x] = value;
                }
            }
            for (y, values) in columns.into_iter().enumerate() {
                for (x, value) in transform::output::<S, IN, 3>(simd, values)
                    .into_iter()
                    .enumerate()
                {
                    simd.store(value, vector_mut(self.to, (3 * y + x) * self.width + o));
                }
            }
        }
    }
}
