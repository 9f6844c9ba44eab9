//! A transposed 2×2 convolution and the 3×3 convolution after it, as one.
//!
//! Without an activation between them, the two are linear together: each of the four phases of the
//! doubled image is a 2×2 convolution of the small one. Computed so, by Winograd's algorithm, the pair
//! takes about half of the multiplications, and the doubled tensor between them is never made.
//!
//! An image that the 3×3 convolution reads beside the doubled tensor comes at the small size, its four
//! phases side by side: the [`side`]. The bias of the transposed convolution
//! reaches a pixel through those taps that lie inside the image, so it is the weight of a channel of
//! ones, which end where the image ends.

use rayon::prelude::*;

use crate::arch::{Kernel, LANES, Simd};
use crate::tensor::{Rows, SharedMut, Tensor};
use crate::winograd::{DOUBLING, Filter, Then, tile_rows};
use crate::{Epilogue, Level};

/// Phases of the doubled image, as (row, column) in a 2×2 block.
const PHASES: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// The weights of the pair of layers.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// The transposed convolution's weight, `[in, mid, 2, 2]`.
    pub up_weight: &'a [f32],
    /// Its bias, `[mid]`.
    pub up_bias: &'a [f32],
    /// The 3×3 convolution's weight, `[out, mid + further channels, 3, 3]`.
    pub weight: &'a [f32],
    /// Its bias, `[out]`.
    pub bias: &'a [f32],
    /// Channels of an image that follow the doubled ones; it may be 0, and channels beyond are left out.
    pub image: usize,
}

/// The merged pair, packed.
#[derive(Debug)]
pub struct UpConv(Filter<DOUBLING>);

impl UpConv {
    /// Merges the layers.
    ///
    /// # Panics
    /// If the numbers of weights do not fit together.
    pub fn new(level: Level, layers: Layers) -> Self {
        let sizes = Sizes::of(layers);
        let doubled = merge(level, layers, sizes);
        let Sizes {
            inputs,
            mid,
            image,
            outputs,
        } = sizes;
        let total = layers.weight.len() / (9 * outputs);
        let padded = outputs.next_multiple_of(LANES);
        let filter = Filter::new(
            level,
            &[inputs, side_channels(image)],
            outputs,
            layers.bias,
            |c, phase, o| {
                let mut taps = [0.0; 9];
                for (tap, to) in taps.iter_mut().enumerate().take(4) {
                    // The rows of `merge` are the inputs, then the channel of ones.
                    let row = if c < inputs {
                        c
                    } else if c == inputs + 4 * image {
                        inputs
                    } else {
                        // The tap of the image that falls into this phase of this small pixel.
                        let (phase_of, channel) = ((c - inputs) / image, (c - inputs) % image);
                        let tap_of = full_taps(phase, tap).find(|(_, sub)| *sub == phase_of);
                        *to = tap_of.map_or(0.0, |(full, _)| {
                            layers.weight[(o * total + mid + channel) * 9 + full]
                        });
                        continue;
                    };
                    *to = doubled[((phase * 4 + tap) * (inputs + 1) + row) * padded + o];
                }
                taps
            },
        );
        Self(filter)
    }

    /// Output channels.
    pub(crate) fn outputs(&self) -> usize {
        self.0.outputs()
    }

    /// Computes `output`, twice as high and wide as `input`, for an image whose [`side`] is given.
    ///
    /// # Panics
    /// If a shape does not fit.
    pub fn run(
        &self,
        level: Level,
        input: &Tensor,
        side: &Tensor,
        output: &mut Tensor,
        epilogue: Epilogue,
    ) {
        let rows = 0..tile_rows(DOUBLING, input.shape().h);
        self.run_rows(level, input, side, &SharedMut::from(output), rows, epilogue);
    }

    /// [`UpConv::run`] for some rows of tiles, of eight output rows each: row `t` of them begins at
    /// output row `8t - 1`.
    pub(crate) fn run_rows(
        &self,
        level: Level,
        input: &Tensor,
        side: &Tensor,
        output: &SharedMut,
        rows: std::ops::Range<usize>,
        epilogue: Epilogue,
    ) {
        let inputs = [Rows::from(input), Rows::from(side)];
        self.0
            .run(level, &inputs, output, rows, epilogue, Then::Store);
    }
}

/// Channels of the [`side`] of an image with so many channels: its four phases, and ones.
pub fn side_channels(image: usize) -> usize {
    4 * image + 1
}

/// Writes to `side`, half as high and wide, the four phases of `image`, if there is one, and a channel
/// of ones.
///
/// # Panics
/// If a shape does not fit.
pub fn side(image: Option<&Tensor>, side: &mut Tensor) {
    let to = side.shape();
    let c = image.map_or(0, |image| image.shape().c);
    assert_eq!(side_channels(c), to.c, "channels of the side");
    if let Some(from) = image.map(Tensor::shape) {
        assert_eq!(
            (from.n, from.h, from.w),
            (to.n, 2 * to.h, 2 * to.w),
            "size of the side"
        );
    }
    side.rows_mut().for_each(|(n, y, row)| {
        for (x, to) in row.chunks_exact_mut(to.pixel_stride()).enumerate() {
            if let Some(image) = image {
                let pixel = image.shape().pixel_stride();
                for (phase, (dy, dx)) in PHASES.into_iter().enumerate() {
                    let from = &image.row(n, 2 * y + dy)[(2 * x + dx) * pixel..][..c];
                    to[phase * c..][..c].copy_from_slice(from);
                }
            }
            to[4 * c] = 1.0;
            to[4 * c + 1..].fill(0.0);
        }
    });
}

#[derive(Clone, Copy)]
struct Sizes {
    inputs: usize,
    mid: usize,
    image: usize,
    outputs: usize,
}

impl Sizes {
    fn of(layers: Layers) -> Self {
        let (mid, outputs) = (layers.up_bias.len(), layers.bias.len());
        assert!(mid > 0 && outputs > 0, "layers with outputs");
        let inputs = layers.up_weight.len() / (4 * mid);
        let total = layers.weight.len() / (9 * outputs);
        assert_eq!(
            layers.up_weight.len(),
            inputs * mid * 4,
            "weights of the transposed convolution"
        );
        assert!(
            layers.weight.len() == outputs * total * 9 && total >= mid + layers.image,
            "weights of the convolution"
        );
        Self {
            inputs,
            mid,
            image: layers.image,
            outputs,
        }
    }
}

/// The taps of the 3×3 convolution at an output pixel of `phase` that fall into the small pixel of
/// the merged `tap` (row by row), each with the phase of the doubled pixel that it reads.
fn full_taps(phase: usize, tap: usize) -> impl Iterator<Item = (usize, usize)> {
    // Along one side, tap `d` reads doubled pixel `phase + d - 1` of the block, and merged tap `t` small
    // pixel `phase + t - 1`; both are counted here from the block before.
    let along = |phase: usize, tap: usize| {
        (0..3)
            .map(move |d| (d, phase + d + 1))
            .filter(move |(_, at)| at / 2 == phase + tap)
            .map(|(d, at)| (d, at % 2))
    };
    let (dy, dx) = PHASES[phase];
    along(dy, tap / 2).flat_map(move |(y, sub_y)| {
        along(dx, tap % 2).map(move |(x, sub_x)| (3 * y + x, 2 * sub_y + sub_x))
    })
}

/// The weights of the doubled channels, merged: `[phase][tap][in + 1][out, whole vectors]`, the last row
/// being what the transposed convolution's bias comes to.
fn merge(level: Level, layers: Layers, sizes: Sizes) -> Vec<f32> {
    let Sizes {
        inputs,
        mid,
        outputs,
        ..
    } = sizes;
    let (rows, padded) = (inputs + 1, outputs.next_multiple_of(LANES));
    let total = layers.weight.len() / (9 * outputs);
    // `[phase][in + 1][mid]` and `[tap][mid][out]`, so that each merged tap is a sum of matrix products.
    let mut up = vec![0.0; 4 * rows * mid];
    up.par_chunks_mut(mid).enumerate().for_each(|(i, to)| {
        let (phase, row) = (i / rows, i % rows);
        for (m, to) in to.iter_mut().enumerate() {
            *to = if row < inputs {
                layers.up_weight[(row * mid + m) * 4 + phase]
            } else {
                layers.up_bias[m]
            };
        }
    });
    let mut conv = vec![0.0; 9 * mid * padded];
    conv.par_chunks_mut(padded).enumerate().for_each(|(i, to)| {
        let (tap, m) = (i / mid, i % mid);
        for (o, to) in to.iter_mut().enumerate().take(outputs) {
            *to = layers.weight[(o * total + m) * 9 + tap];
        }
    });
    let mut merged = vec![0.0; 16 * rows * padded];
    merged
        .par_chunks_mut(rows * padded)
        .enumerate()
        .for_each(|(i, to)| {
            for (tap, phase) in full_taps(i / 4, i % 4) {
                level.run(Product {
                    a: &up[phase * rows * mid..][..rows * mid],
                    b: &conv[tap * mid * padded..][..mid * padded],
                    depth: mid,
                    to: &mut *to,
                });
            }
        });
    merged
}

/// `to[row][..] += Σ_k a[row][k] · b[k][..]`, rows of `b` and `to` being whole vectors. Plain: it is done
/// once for a set of weights.
struct Product<'a> {
    a: &'a [f32],
    b: &'a [f32],
    depth: usize,
    to: &'a mut [f32],
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.b.len() / self.depth;
        let rows = self.a.chunks_exact(self.depth);
        for (a, to) in rows.zip(self.to.chunks_exact_mut(width)) {
            for (&a, b) in a.iter().zip(self.b.chunks_exact(width)) {
                let a = simd.splat(a);
                let (to, _) = to.as_chunks_mut::<LANES>();
                let (b, _) = b.as_chunks::<LANES>();
                for (to, b) in to.iter_mut().zip(b) {
                    simd.store(simd.mul_add(a, simd.load(b), simd.load(to)), to);
                }
            }
        }
    }
}
