//! The direct convolution, as rows of register tiles.

use std::ops::Range;

use rayon::prelude::*;

use crate::Level;
use crate::arch::{Kernel, LANES, Simd, Strip, vector_mut};
use crate::epilogue::{Epilogue, leaky_relu};
use crate::memory::Memory;
use crate::tensor::{RowsMut, Shape, Tensor};

use super::narrow::{MAX_NARROW, Narrow};
use super::{MAX_TAPS, Place, Source, TALL, TILE, within_border};

/// A convolution packed for the register tile.
#[derive(Debug)]
pub(crate) struct TapConv {
    /// Offsets (dy, dx) of the pixels that are read, each in -1..=1.
    taps: Vec<(isize, isize)>,
    /// Input pixels per output pixel, along each side.
    in_stride: usize,
    /// Channels read from each input tensor.
    channels: Vec<usize>,
    outputs: usize,
    panels: Vec<Panel>,
    /// Panel after panel: `[segment][tap][channel][vectors · LANES]`.
    weights: Memory,
    /// One value per output channel, padded with zeros to whole vectors.
    bias: Vec<f32>,
}

/// Output channels that are computed together.
#[derive(Debug, Clone, Copy)]
struct Panel {
    /// The first channel.
    begin: usize,
    /// Number of vectors: as many as the register tile has, fewer in the last panel.
    vectors: usize,
    /// Where its weights begin.
    weights: usize,
}

impl TapConv {
    /// Packs a convolution in panels of `widest` vectors. `weight(tap, input channel, output channel)` returns its
    /// weights, with input channels counted through all segments.
    ///
    /// # Panics
    /// If there is no tap or more than nine, or a tap lies outside -1..=1 (0..=1 for `in_stride` 2).
    pub fn new(
        widest: usize,
        taps: &[(isize, isize)],
        in_stride: usize,
        channels: &[usize],
        outputs: usize,
        bias: &[f32],
        weight: impl Fn(usize, usize, usize) -> f32,
    ) -> Self {
        assert!((1..=MAX_TAPS).contains(&taps.len()) && (1..=2).contains(&in_stride));
        assert!(within_border(taps, in_stride), "taps");
        assert!(
            bias.is_empty() || bias.len() == outputs,
            "a bias for each output channel"
        );

        let padded = outputs.next_multiple_of(LANES);
        let per_output = taps.len() * channels.iter().sum::<usize>();
        let mut panels = vec![];
        let mut packed = Memory::zeros(padded * per_output);
        let weights = packed.as_mut_slice();
        let mut begin = 0;
        while begin < padded {
            let vectors = ((padded - begin) / LANES).min(widest);
            let panel = Panel {
                begin,
                vectors,
                weights: begin * per_output,
            };
            let width = vectors * LANES;
            let mut rows = weights[panel.weights..][..width * per_output].chunks_exact_mut(width);
            let mut first = 0;
            for &count in channels {
                for tap in 0..taps.len() {
                    for c in first..first + count {
                        let row = rows.next().expect("a row for each tap and channel");
                        for (o, to) in row.iter_mut().enumerate().take(outputs - begin) {
                            *to = weight(tap, c, begin + o);
                        }
                    }
                }
                first += count;
            }
            panels.push(panel);
            begin += width;
        }
        let mut padded_bias = vec![0.0; padded];
        padded_bias[..bias.len()].copy_from_slice(bias);
        Self {
            taps: taps.to_vec(),
            in_stride,
            channels: channels.to_vec(),
            outputs,
            panels,
            weights: packed,
            bias: padded_bias,
        }
    }

    /// Computes the output from the inputs, whose channels are concatenated.
    ///
    /// # Panics
    /// If a shape does not fit: every input must have the size of the convolution's grid times `in_stride` and at
    /// least the packed channels; the output must have the grid's size times `place.stride` and the packed outputs.
    pub fn run(
        &self,
        level: Level,
        inputs: &[&Tensor],
        output: &mut Tensor,
        place: Place,
        epilogue: Epilogue,
    ) {
        let rows = 0..output.shape().h;
        self.run_rows(level, inputs, &mut output.into(), rows, place, epilogue);
    }

    /// [`TapConv::run`] for some rows of the output, which may be a window.
    pub fn run_rows(
        &self,
        level: Level,
        inputs: &[&Tensor],
        output: &mut RowsMut,
        rows: Range<usize>,
        place: Place,
        epilogue: Epilogue,
    ) {
        let held = output.tensor.shape();
        let out = Shape {
            h: output.h,
            ..held
        };
        assert!((1..=2).contains(&place.stride) && place.dy.max(place.dx) < place.stride);
        assert_eq!(out.c, self.outputs, "output channels");
        assert_eq!(
            (out.h % place.stride, out.w % place.stride),
            (0, 0),
            "output size"
        );
        let grid = (out.h / place.stride, out.w / place.stride);
        assert_eq!(inputs.len(), self.channels.len(), "input tensors");
        for (input, &channels) in inputs.iter().zip(&self.channels) {
            let shape = input.shape();
            assert_eq!(shape.n, out.n, "batch");
            assert_eq!(
                (shape.h, shape.w),
                (grid.0 * self.in_stride, grid.1 * self.in_stride)
            );
            assert!(shape.c >= channels, "input channels");
        }
        epilogue.check();
        if let Epilogue::Slope(activation, _) = epilogue {
            assert_eq!(held, out, "whole images");
            assert_eq!(activation.shape(), out, "shape of the activation");
        }
        if grid.1 == 0 {
            return;
        }
        let pixel = out.pixel_stride();
        let first = output.first;
        assert!(rows.start >= first, "rows of the output");
        let narrow = (place.stride == 1 && self.is_narrow())
            .then(|| Narrow::new(inputs[0], self.channels[0], rows.clone()));
        let rows = rows.start - first..rows.end - first;
        output
            .tensor
            .some_rows_mut(rows)
            .for_each(|(n, held_y, row)| {
                let out_y = first + held_y;
                if out_y % place.stride != place.dy {
                    return;
                }
                let (one, several);
                let sources = if let Some(narrow) = &narrow {
                    one = narrow.source(n, out_y);
                    std::slice::from_ref(&one)
                } else {
                    several = self.sources(inputs, n, out_y / place.stride);
                    &several
                };
                level.run(Row {
                    conv: self,
                    taps: narrow.as_ref().map_or(self.taps.len(), |_| Narrow::TAPS),
                    sources,
                    count: grid.1,
                    epilogue,
                    begin: held.offset(n, held_y as isize, 0) + place.dx * pixel,
                    to: &mut row[place.dx * pixel..],
                    step: place.stride * pixel,
                });
            });
    }
}

impl TapConv {
    /// The inputs as row `y` of the convolution's grid reads them.
    fn sources<'a>(&self, inputs: &[&'a Tensor], n: usize, y: usize) -> Vec<Source<'a>> {
        let y = (y * self.in_stride) as isize;
        let sources = inputs.iter().zip(&self.channels).map(|(input, &channels)| {
            let mut taps = [0; MAX_TAPS];
            for (to, (dy, dx)) in taps.iter_mut().zip(&self.taps) {
                *to = input.offset(n, y + dy, *dx);
            }
            let stride = self.in_stride * input.shape().pixel_stride();
            Source {
                floats: input.as_slice(),
                taps,
                stride,
                channels,
            }
        });
        sources.collect()
    }

    /// Whether this is a 3×3 convolution with few enough channels for [`Narrow`] to pay.
    fn is_narrow(&self) -> bool {
        let square = (-1..=1).flat_map(|y| (-1..=1).map(move |x| (y, x)));
        self.in_stride == 1
            && matches!(self.channels[..], [1..=MAX_NARROW])
            && self.taps.iter().copied().eq(square)
    }

    /// Channels of an output pixel, padded to whole vectors.
    pub fn padded_outputs(&self) -> usize {
        self.bias.len()
    }

    /// The numbers of input and output channels, if this is a 1×1 convolution of one tensor.
    pub fn as_pointwise(&self) -> Option<(usize, usize)> {
        match (
            self.taps.as_slice(),
            self.in_stride,
            self.channels.as_slice(),
        ) {
            ([(0, 0)], 1, [channels]) => Some((*channels, self.outputs)),
            _ => None,
        }
    }

    /// Applies a one-tap convolution to `count` pixels, `stride` floats apart, and writes adjacent pixels padded to
    /// whole vectors.
    pub fn run_pixels(
        &self,
        level: Level,
        floats: &[f32],
        stride: usize,
        count: usize,
        to: &mut [f32],
        epilogue: Epilogue,
    ) {
        let source = Source {
            floats,
            taps: [0; MAX_TAPS],
            stride,
            channels: self.channels[0],
        };
        let step = self.bias.len();
        level.run(Row {
            conv: self,
            taps: self.taps.len(),
            sources: &[source],
            count,
            epilogue,
            begin: 0,
            to,
            step,
        });
    }
}

/// Adjacent output pixels of a convolution on its grid.
struct Row<'a> {
    conv: &'a TapConv,
    /// Taps of the sources.
    taps: usize,
    sources: &'a [Source<'a>],
    count: usize,
    epilogue: Epilogue<'a>,
    /// The output from the first pixel on, and its position in the tensor.
    to: &'a mut [f32],
    begin: usize,
    /// Floats from one output pixel to the next.
    step: usize,
}

impl Kernel for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let conv = self.conv;
        for source in self.sources {
            // The last value any tile of this row reads: the last used tap, at the last pixel, at the last channel.
            // `tile` relies on it.
            let taps = source.taps.iter().take(self.taps);
            let last = taps.max().expect("at least one tap")
                + (self.count - 1) * source.stride
                + source.channels;
            assert!(last <= source.floats.len());
        }
        for panel in &conv.panels {
            match panel.vectors {
                6 => self.panel::<S, 6>(simd, *panel),
                5 => self.panel::<S, 5>(simd, *panel),
                4 => self.panel::<S, 4>(simd, *panel),
                3 => self.panel::<S, 3>(simd, *panel),
                2 => self.panel::<S, 2>(simd, *panel),
                _ => self.panel::<S, 1>(simd, *panel),
            }
        }
    }
}

impl Row<'_> {
    #[inline(always)]
    fn panel<S: Simd, const VECTORS: usize>(&mut self, simd: S, panel: Panel) {
        let (conv, taps, sources) = (self.conv, self.taps, self.sources);
        let values = conv.taps.len() * conv.channels.iter().sum::<usize>() * VECTORS * LANES;
        let weights = &conv.weights.as_slice()[panel.weights..][..values];
        let bias = &conv.bias[panel.begin..][..VECTORS * LANES];
        let mut x = 0;
        if VECTORS == 1 {
            // Four sums would have to wait for each other.
            while x + TALL <= self.count {
                // SAFETY: `run` checked the sources up to the last pixel, and x + TALL <= count.
                let sums =
                    unsafe { tile::<S, TALL, VECTORS>(simd, sources, taps, x, weights, bias) };
                self.store(simd, x, panel.begin, sums);
                x += TALL;
            }
        }
        if S::ROWS == 8 && VECTORS > 1 {
            while x + 8 <= self.count {
                // SAFETY: `run` checked the sources up to the last pixel, and x + 8 <= count.
                let sums = unsafe { tile::<S, 8, VECTORS>(simd, sources, taps, x, weights, bias) };
                self.store(simd, x, panel.begin, sums);
                x += 8;
            }
        }
        while x + TILE <= self.count {
            // SAFETY: `run` checked the sources up to the last pixel, and x + TILE <= count.
            let sums = unsafe { tile::<S, TILE, VECTORS>(simd, sources, taps, x, weights, bias) };
            self.store(simd, x, panel.begin, sums);
            x += TILE;
        }
        while x < self.count {
            // SAFETY: `run` checked the sources up to the last pixel, and x < count.
            let sums = unsafe { tile::<S, 1, VECTORS>(simd, sources, taps, x, weights, bias) };
            self.store(simd, x, panel.begin, sums);
            x += 1;
        }
    }

    #[inline(always)]
    fn store<S: Simd, const PIXELS: usize, const VECTORS: usize>(
        &mut self,
        simd: S,
        x: usize,
        channel: usize,
        sums: [[S::V; VECTORS]; PIXELS],
    ) {
        let begin = x * self.step + channel;
        let to = &mut self.to[begin..][..(PIXELS - 1) * self.step + VECTORS * LANES];
        // The most common epilogue is dispatched once, not for every vector.
        if let Epilogue::LeakyRelu(slope) = self.epilogue {
            for (i, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    let to = vector_mut(to, i * self.step + v * LANES);
                    simd.store(leaky_relu(simd, sum, slope), to);
                }
            }
            return;
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (v, sum) in sums.into_iter().enumerate() {
                let at = i * self.step + v * LANES;
                self.epilogue
                    .store(simd, sum, vector_mut(to, at), self.begin + begin + at);
            }
        }
    }
}

/// The register tile: `PIXELS` adjacent grid pixels from `x` on, by `VECTORS · LANES` output channels.
///
/// # Safety
/// For every source and each of its first `taps` taps, `floats` must hold `channels` values from
/// `tap + (x + PIXELS - 1) · stride` on.
#[inline(always)]
unsafe fn tile<S: Simd, const PIXELS: usize, const VECTORS: usize>(
    simd: S,
    sources: &[Source],
    taps: usize,
    x: usize,
    weights: &[f32],
    bias: &[f32],
) -> [[S::V; VECTORS]; PIXELS] {
    let (bias, _) = bias.as_chunks::<LANES>();
    let mut first = [simd.splat(0.0); VECTORS];
    for (to, from) in first.iter_mut().zip(bias) {
        *to = simd.load(from);
    }
    let mut sums = [first; PIXELS];
    let mut rest = weights;
    for source in sources {
        for tap in &source.taps[..taps] {
            let step_b = VECTORS * LANES;
            let (weights, after) = rest.split_at(source.channels * step_b);
            rest = after;
            let strip = Strip {
                a: source.floats[tap + x * source.stride..].as_ptr(),
                rows: source.stride,
                step_a: 1,
                b: weights.as_ptr(),
                step_b,
                count: source.channels,
            };
            // SAFETY: `a` is covered by the caller's obligation; `weights` holds `channels` times the vectors.
            unsafe { simd.multiply_add_strip(&mut sums, strip) };
        }
    }
    sums
}
