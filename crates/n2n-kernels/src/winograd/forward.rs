//! The convolution itself, in groups of tiles small enough for the L2 cache: transform the inputs of a group,
//! multiply them by the filter at each point, and transform the products back into the output tensor.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::chain::Tail;
use super::filter::Filter;
use super::input::{Strides, input_points};
use super::output::{Destination, Products};
use super::prefetch::{LINE, Prefetch, reads};
use super::{GAP, Layout, OUT, Then, Tiles};
use crate::Level;
use crate::arch::{Kernel, LANES, Simd, Strip};
use crate::epilogue::Epilogue;
use crate::jobs::one_by_one;
use crate::memory::Memory;
use crate::pool::pooled;
use crate::tensor::{Rows, Shape, SharedMut, Tensor};

/// Maximum number of tiles in a group: 36 points of 24 tiles with 96 channels are 330 KB, which fits in the L2 cache.
/// 16 or 32 tiles were no faster, nor were fewer tiles for the gradient of merged layers, which takes 920 KB.
const GROUP: usize = 24;
/// Group sizes are multiples of this, the rows of the tallest register tile.
const BLOCK: usize = 8;
/// Vectors of outputs that go through the products and the output transform together; also those of the widest panel
/// at any level.
const VECTORS: usize = 6;

thread_local! {
    /// Thread-local, because the threads of a pool are long-lived.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    static TAIL: RefCell<Tail> = RefCell::default();
}

#[derive(Default)]
struct Scratch {
    /// The transformed inputs and outputs of a group.
    points: Memory,
    prefetches: Prefetches,
}

/// The memory that the transforms before and after a group's products will read and write.
#[derive(Default)]
struct Prefetches {
    /// The inputs of the next group.
    reads: Prefetch,
    /// The destination of the current group's outputs.
    writes: Prefetch,
}

impl Prefetches {
    #[inline(always)]
    fn turn<S: Simd>(&mut self, simd: S) {
        self.reads.turn(simd);
        self.writes.turn(simd);
    }
}

impl<const FORM: usize> Filter<FORM> {
    /// Computes rows of tiles of the output from the inputs, whose channels are concatenated. With pooling, the
    /// output is half as high and wide as the inputs; with a chain, it has the chain's channels.
    ///
    /// # Panics
    /// If a shape does not fit, or the inputs or the output do not hold the requested rows.
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
        // The same number of groups for each thread, and at least two. The size of a group does not change a single
        // bit: a tile's sums run over the depth alone, in one order, whether it is in a block of rows or by itself.
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

/// A group of tiles going through the convolution. No two groups share a tile.
struct Group<'a, const FORM: usize> {
    filter: &'a Filter<FORM>,
    inputs: &'a [Rows<'a>],
    tiles: Tiles,
    first: usize,
    count: usize,
    to: Destination<'a>,
    scratch: &'a mut Scratch,
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
        let Scratch { points, prefetches } = scratch;
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
        // Most likely the next group of the same thread.
        let next = first + count..(first + 2 * count).min(tiles.count);
        let windows = inputs
            .iter()
            .enumerate()
            .map(|(i, input)| (*input, filter.layout.input_window(i)));
        prefetches.reads.plan(
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
                to.plan_writes(&mut prefetches.writes, turns, count, phase, begin, width);
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
                            6 => product::<S, 6>(simd, a, weights, to, width, prefetches),
                            5 => product::<S, 5>(simd, a, weights, to, width, prefetches),
                            4 => product::<S, 4>(simd, a, weights, to, width, prefetches),
                            3 => product::<S, 3>(simd, a, weights, to, width, prefetches),
                            2 => product::<S, 2>(simd, a, weights, to, width, prefetches),
                            _ => product::<S, 1>(simd, a, weights, to, width, prefetches),
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

/// The tiles' transformed inputs at one point, `[tile][depth]`, of which the first `used` channels are not padding.
#[derive(Clone, Copy)]
struct TilePoints<'a> {
    points: &'a [f32],
    depth: usize,
    used: usize,
}

/// Number of register tiles needed for this many rows.
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
    prefetches: &mut Prefetches,
) {
    let tiles = a.points.len() / a.depth;
    let mut tile = 0;
    if S::ROWS == 8 {
        while tile + 8 <= tiles {
            prefetches.turn(simd);
            rows::<S, 8, VECTORS>(simd, a, tile, weights, &mut to[tile * width..], width);
            tile += 8;
        }
    }
    while tile + 4 <= tiles {
        prefetches.turn(simd);
        rows::<S, 4, VECTORS>(simd, a, tile, weights, &mut to[tile * width..], width);
        tile += 4;
    }
    while tile < tiles {
        prefetches.turn(simd);
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
    // SAFETY: the lengths above cover what the strip reads.
    unsafe { simd.product::<M, VECTORS>(strip, to, width) };
}
