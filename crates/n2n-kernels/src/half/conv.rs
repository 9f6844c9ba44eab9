//! Convolutions of activations in bfloat16.

use std::ops::Range;

use rayon::prelude::*;

use super::{Sums, Tensor, Units};
use crate::arch::tiles::{DEPTH, Finish, Product, SIDE, SUMS, Steps, TILE, WIDE, place, to_half};
use crate::jobs::one_by_one;
use crate::memory::Halves;
use crate::tensor::Shape;

/// Rows of a thread's job: with their neighbors, they stay in the second-level cache while a job goes over them once
/// for every 32 outputs.
const BAND: usize = 4;

/// The places around a pixel that a convolution reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The pixel itself, with this number of channels.
    Pixel(usize),
    /// The pixel and its eight neighbors, row by row, each with this number of channels.
    Neighborhood(usize),
}

impl Source {
    fn channels(self) -> usize {
        match self {
            Self::Pixel(channels) | Self::Neighborhood(channels) => channels,
        }
    }

    fn depth(self) -> usize {
        self.channels().next_multiple_of(DEPTH)
    }

    /// Row and column of each, counted from the neighbor above and to the left.
    fn taps(self) -> &'static [(usize, usize)] {
        const ALL: [(usize, usize); 9] = [
            (0, 0),
            (0, 1),
            (0, 2),
            (1, 0),
            (1, 1),
            (1, 2),
            (2, 0),
            (2, 1),
            (2, 2),
        ];
        match self {
            Self::Pixel(_) => &ALL[4..5],
            Self::Neighborhood(_) => &ALL,
        }
    }

    /// The steps of a product over it, in a tensor whose rows have `row` values.
    fn steps(self, row: usize) -> Steps {
        let blocks = move |(y, x): (usize, usize)| {
            let pixel = y * row + x * self.depth();
            (0..self.depth()).step_by(DEPTH).map(move |k| pixel + k)
        };
        Steps::new(self.taps().iter().copied().flat_map(blocks))
    }

    /// The steps of a product over pixels that lie one after another.
    fn steps_inside(self) -> Steps {
        Steps::new((0..self.depth()).step_by(DEPTH))
    }

    /// The number of steps.
    fn len(self) -> usize {
        self.taps().len() * self.depth() / DEPTH
    }
}

/// A convolution of one or more tensors, as if their channels were concatenated, packed for matrix units.
#[derive(Debug)]
pub struct Conv {
    sources: Vec<Source>,
    outputs: usize,
    /// For every two tiles of outputs, 32 values.
    bias: Vec<[f32; WIDE]>,
    slope: f32,
    /// For every two tiles of outputs (at the end, there may be only one): the steps of each source, one after another.
    packed: Halves,
}

impl Conv {
    /// A convolution to `bias.len()` outputs, followed by a `LeakyReLU` with the given slope, 1 for none.
    /// `weight(s, t, c, o)` is the weight from channel `c` of source `s` at tap `t` to output `o`.
    ///
    /// # Panics
    /// If the slope is not above 0 and at most 1, or the filter is larger than memory.
    pub fn new(
        sources: &[Source],
        bias: &[f32],
        slope: f32,
        weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        assert!(slope > 0.0 && slope <= 1.0, "slope of the LeakyReLU");
        let outputs = bias.len();
        let tiles = outputs.div_ceil(SIDE);
        let steps: usize = sources.iter().map(|source| source.len()).sum();
        let tile_values = steps.checked_mul(TILE);
        let len = tile_values.and_then(|values| values.checked_mul(tiles));
        let mut packed = Halves::zeros(len.expect("a filter that fits in memory"));
        let pair = (2 * steps * TILE).max(1);
        let pairs = packed.as_mut_slice().par_chunks_mut(pair).enumerate();
        pairs.for_each(|(i, pair)| {
            let columns = pair.len() / (steps * TILE).max(1);
            let first = i * WIDE;
            let outputs = first..outputs.min(first + columns * SIDE);
            let mut steps = pair.chunks_exact_mut((columns * TILE).max(1));
            for (s, source) in sources.iter().enumerate() {
                for t in 0..source.taps().len() {
                    for begin in (0..source.depth()).step_by(DEPTH) {
                        let step = steps.next().expect("as many as were counted");
                        for c in begin..source.channels().min(begin + DEPTH) {
                            for o in outputs.clone() {
                                let (tile, j) = ((o - first) / SIDE, o % SIDE);
                                step[tile * TILE + place(c - begin, j)] =
                                    to_half(weight(s, t, c, o));
                            }
                        }
                    }
                }
            }
        });
        let biases = bias.chunks(WIDE).map(|part| {
            let mut bias = [0.0; WIDE];
            bias[..part.len()].copy_from_slice(part);
            bias
        });
        Self {
            sources: sources.to_vec(),
            outputs,
            bias: biases.collect(),
            slope,
            packed,
        }
    }

    /// Output channels.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Computes these rows of `output` from the sources, all of its size.
    ///
    /// # Panics
    /// If a shape does not fit, or a window does not have the rows.
    pub fn run(&self, units: Units, inputs: &[&Tensor], output: &mut Tensor, rows: Range<usize>) {
        let shape = output.shape();
        assert_eq!(shape.c, self.outputs, "output channels");
        let job = Job::new(self, inputs, shape, &rows);
        let (row_len, depth) = (output.row_len(), output.depth());
        if rows.end == shape.h {
            output.clear_below();
        }
        output.bands(rows, BAND).for_each(|(n, first, band)| {
            let mut worker = Worker::new(units);
            let rows = band.len() / row_len;
            for pair in 0..self.bias.len() {
                for i in 0..rows {
                    for x in (0..shape.w).step_by(WIDE) {
                        let place = Place {
                            begin: i * row_len + (1 + x) * depth + pair * WIDE,
                            pixels: WIDE.min(shape.w - x),
                            stride: depth,
                        };
                        worker.run(&job, (n, first + i, x), pair, band, place);
                    }
                }
            }
        });
    }

    /// Tiles of the `pair`-th 32 outputs.
    fn columns(&self, pair: usize) -> usize {
        (self.outputs.div_ceil(SIDE) - 2 * pair).min(2)
    }

    /// The filter for the `pair`-th 32 outputs.
    fn filter(&self, pair: usize) -> &[u16] {
        let steps: usize = self.sources.iter().map(|source| source.len()).sum();
        &self.packed.as_slice()[2 * pair * steps * TILE..][..self.columns(pair) * steps * TILE]
    }

    /// Leaves in the registers the sums of the `pair`-th 32 outputs for 32 pixels that lie one after another.
    fn sum_inside(&self, registers: &mut Sums, steps: &Steps, pixels: &[u16], pair: usize) {
        registers.clear();
        registers.add(Product {
            a: pixels,
            stride: self.sources[0].depth(),
            steps,
            b: self.filter(pair),
            columns: self.columns(pair),
        });
    }

    /// Writes the `pair`-th 32 outputs for the pixels from `x` on, in `f32`, to a row of pixels, or of blocks.
    fn write(&self, sums: &[f32; SUMS], pair: usize, x: usize, to: &mut [f32], block: usize) {
        let run = self.outputs / block;
        let row = to.len() / block;
        let (first, end) = (pair * WIDE, self.outputs.min((pair + 1) * WIDE));
        // Each row of a block takes its part of the channels.
        for (i, to) in to.chunks_exact_mut(row.max(1)).enumerate() {
            let channels = first.max(i * run)..end.min((i + 1) * run);
            if channels.is_empty() {
                continue;
            }
            let bias = &self.bias[pair][channels.start - first..][..channels.len()];
            let pixels = to.chunks_exact_mut(run).skip(x);
            for (to, sums) in pixels.zip(sums.chunks_exact(WIDE)) {
                let to = &mut to[channels.start - i * run..][..channels.len()];
                let sums = &sums[channels.start - first..][..channels.len()];
                for ((to, sum), bias) in to.iter_mut().zip(sums).zip(bias) {
                    let sum = sum + bias;
                    *to = sum.max(sum * self.slope);
                }
            }
        }
    }
}

/// A convolution and what it reads.
struct Job<'a> {
    conv: &'a Conv,
    inputs: Vec<(&'a Tensor, Steps)>,
}

impl<'a> Job<'a> {
    /// # Panics
    /// If the inputs are not those of the convolution, are not as high and wide as `shape`, or are windows that lack
    /// what these rows of the output need.
    fn new(conv: &'a Conv, inputs: &[&'a Tensor], shape: Shape, rows: &Range<usize>) -> Self {
        assert_eq!(inputs.len(), conv.sources.len(), "inputs");
        let input = |(&input, source): (&&'a Tensor, &Source)| {
            let c = source.channels();
            assert_eq!(input.shape(), Shape { c, ..shape }, "shape of an input");
            match source {
                Source::Pixel(_) => input.check(rows),
                Source::Neighborhood(_) => input.check_around(rows),
            }
            (input, source.steps(input.row_len()))
        };
        Self {
            inputs: inputs.iter().zip(&conv.sources).map(input).collect(),
            conv,
        }
    }

    /// Leaves in the registers the sums of the `pair`-th 32 outputs for the 32 pixels from (`n`, `y`, `x`) on.
    fn sum(&self, registers: &mut Sums, (n, y, x): (usize, usize, usize), pair: usize) {
        let columns = self.conv.columns(pair);
        let mut filter = self.conv.filter(pair);
        registers.clear();
        for (input, steps) in &self.inputs {
            let (b, rest) = filter.split_at(steps.len() * columns * TILE);
            filter = rest;
            registers.add(Product {
                a: input.around(n, y, x),
                stride: input.depth(),
                steps,
                b,
                columns,
            });
        }
    }
}

/// Where 32 channels of adjacent pixels go.
#[derive(Clone, Copy)]
struct Place {
    begin: usize,
    pixels: usize,
    /// Values from one pixel to the next.
    stride: usize,
}

/// What a thread needs for its jobs.
struct Worker {
    units: Units,
    registers: Sums,
    sums: [f32; SUMS],
}

impl Worker {
    fn new(units: Units) -> Self {
        Self {
            units,
            registers: units.sums(),
            sums: [0.0; SUMS],
        }
    }

    /// Computes the `pair`-th 32 outputs for the pixels from `at` on.
    fn run(
        &mut self,
        job: &Job,
        at: (usize, usize, usize),
        pair: usize,
        to: &mut [u16],
        place: Place,
    ) {
        job.sum(&mut self.registers, at, pair);
        self.finish(job.conv, pair, to, place);
    }

    /// Turns the sums in the registers into the `pair`-th 32 outputs of a convolution.
    fn finish(&mut self, conv: &Conv, pair: usize, to: &mut [u16], place: Place) {
        self.registers.store(&mut self.sums);
        self.units.finish(Finish {
            sums: &self.sums,
            bias: &conv.bias[pair],
            slope: conv.slope,
            columns: conv.columns(pair),
            to: &mut to[place.begin..][..(place.pixels - 1) * place.stride + WIDE],
            stride: place.stride,
        });
    }
}

/// A transposed 2×2 convolution with stride 2: each pixel becomes four.
#[derive(Debug)]
pub struct UpConv {
    /// By row and column of the output in its 2×2 pixels.
    phases: [[Conv; 2]; 2],
}

impl UpConv {
    /// From `channels` to `bias.len()` channels; `weight(i, j, c, o)` is the weight from channel `c` to output `o` at
    /// row `i` and column `j`.
    pub fn new(
        channels: usize,
        bias: &[f32],
        weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let weight = &weight;
        let phase = |i, j| {
            let source = [Source::Pixel(channels)];
            Conv::new(&source, bias, 1.0, move |_, _, c, o| weight(i, j, c, o))
        };
        Self {
            phases: [0, 1].map(|i| [0, 1].map(|j| phase(i, j))),
        }
    }

    /// Computes these rows of `output`, twice as high and wide, from `input`.
    ///
    /// # Panics
    /// If a shape does not fit, a window does not have the rows, or they are not whole pairs.
    pub fn run(&self, units: Units, input: &Tensor, output: &mut Tensor, rows: Range<usize>) {
        let Shape { n, h, w, c } = output.shape();
        let small = Shape {
            n,
            h: h / 2,
            w: w / 2,
            c,
        };
        assert!(h == 2 * small.h && w == 2 * small.w, "an even size");
        assert!(
            rows.start.is_multiple_of(2) && rows.end.is_multiple_of(2),
            "pairs of rows"
        );
        assert_eq!(c, self.phases[0][0].outputs, "output channels");
        let from = rows.start / 2..rows.end / 2;
        let job = |i: usize, j: usize| Job::new(&self.phases[i][j], &[input], small, &from);
        let jobs = [0, 1].map(|i| [0, 1].map(|j| job(i, j)));
        let (row_len, depth) = (output.row_len(), output.depth());
        if rows.end == h {
            output.clear_below();
        }
        output.bands(rows, 2).for_each(|(n, first, band)| {
            let mut worker = Worker::new(units);
            for (i, jobs) in jobs.iter().enumerate() {
                for (j, job) in jobs.iter().enumerate() {
                    for pair in 0..job.conv.bias.len() {
                        for x in (0..small.w).step_by(WIDE) {
                            let place = Place {
                                begin: i * row_len + (1 + 2 * x + j) * depth + pair * WIDE,
                                pixels: WIDE.min(small.w - x),
                                stride: 2 * depth,
                            };
                            worker.run(job, (n, first / 2, x), pair, band, place);
                        }
                    }
                }
            }
        });
    }
}

/// Runs `first` on these rows of `inputs` and then 1×1 convolutions, each on the output of the one before, without
/// storing what lies between. The last one's output is written in `f32`, in the order n, h, w, c, as images that are
/// `block` times as high and wide as the inputs (depth-to-space): the channels of a pixel are those of `block` ×
/// `block` pixels, row by row.
///
/// # Panics
/// If a shape does not fit, a window does not have the rows, or there is no 1×1 convolution.
pub fn run_chain(
    units: Units,
    (first, rest): (&Conv, &[Conv]),
    inputs: &[&Tensor],
    output: &mut [f32],
    block: usize,
    rows: Range<usize>,
) {
    let shape = inputs.first().expect("an input").shape();
    let job = Job::new(first, inputs, shape, &rows);
    let (last, middle) = rest.split_last().expect("a 1×1 convolution");
    let mut channels = first.outputs;
    for conv in rest {
        assert_eq!(conv.sources, [Source::Pixel(channels)], "a chain");
        channels = conv.outputs;
    }
    let Shape { n, h, w, .. } = shape;
    assert_eq!(output.len(), n * h * w * channels, "output");
    assert!(
        block > 0 && channels.is_multiple_of(block * block),
        "channels of blocks"
    );
    let depth = |conv: &Conv| conv.outputs.next_multiple_of(DEPTH);
    let widest = middle.iter().map(depth).fold(depth(first), usize::max);
    let steps: Vec<Steps> = rest
        .iter()
        .map(|conv| conv.sources[0].steps_inside())
        .collect();
    let row = (w * channels).max(1);
    let images = output.par_chunks_mut(h.max(1) * row).enumerate();
    let each_row = images.flat_map(|(n, image)| {
        let inside = image[rows.start * row..rows.end * row].par_chunks_mut(row);
        let top = rows.start;
        one_by_one(inside.enumerate()).map(move |(i, to)| (n, top + i, to))
    });
    each_row.for_each(|(n, y, to)| {
        let mut worker = Worker::new(units);
        let (mut from, mut next) = (vec![0; WIDE * widest], vec![0; WIDE * widest]);
        let place = |conv, pair| Place {
            begin: pair * WIDE,
            pixels: WIDE,
            stride: depth(conv),
        };
        for x in (0..w).step_by(WIDE) {
            for pair in 0..first.bias.len() {
                worker.run(&job, (n, y, x), pair, &mut from, place(first, pair));
            }
            for (conv, steps) in middle.iter().zip(&steps) {
                for pair in 0..conv.bias.len() {
                    conv.sum_inside(&mut worker.registers, steps, &from, pair);
                    worker.finish(conv, pair, &mut next, place(conv, pair));
                }
                std::mem::swap(&mut from, &mut next);
            }
            let steps = steps.last().expect("those of the last one");
            for pair in 0..last.bias.len() {
                last.sum_inside(&mut worker.registers, steps, &from, pair);
                worker.registers.store(&mut worker.sums);
                last.write(&worker.sums, pair, x, to, block);
            }
        }
    });
}
