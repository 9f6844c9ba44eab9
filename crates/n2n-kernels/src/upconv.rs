//! A transposed 2×2 convolution merged with the 3×3 convolution after it.
//!
//! With no activation between them, the two form one linear map: each of the four phases of the upsampled image is a
//! 2×2 convolution of the small one. Computed this way, with Winograd's algorithm, the pair takes about half of the
//! multiplications, and the upsampled tensor between them is never stored.
//!
//! An image that the 3×3 convolution reads alongside the upsampled tensor is given at the small size, with its four
//! phases next to each other: the [`side`]. The bias of the transposed convolution reaches a pixel only through taps
//! inside the image, so it is the weight of a channel of ones that ends where the image ends.
//!
//! Gradients are computed for the merged filter and for the small image; the chain rule maps those of the filter to
//! the two original layers.

use rayon::prelude::*;

use crate::arch::LANES;
use crate::arena::Arena;
use crate::jobs::one_by_one;
use crate::product::Product;
use crate::tensor::{Rows, Shape, SharedMut, Tensor};
use crate::winograd::{Filter, Layout, PHASES, TWO_TAPS, Then, merged_gradient};
use crate::{Epilogue, Level};

/// The weights of the pair of layers.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    /// The transposed convolution's weight, `[in, mid, 2, 2]`.
    pub up_weight: &'a [f32],
    /// The transposed convolution's bias, `[mid]`.
    pub up_bias: &'a [f32],
    /// The 3×3 convolution's weight, `[out, mid + further channels, 3, 3]`.
    pub weight: &'a [f32],
    /// The 3×3 convolution's bias, `[out]`.
    pub bias: &'a [f32],
    /// Channels of an image that follow the upsampled ones; may be 0. Any channels beyond them are left out.
    pub image: usize,
}

/// Destinations for the gradients of the pair's parameters, laid out as the parameters in [`Layers`].
#[derive(Debug)]
pub struct Gradients<'a> {
    /// For [`Layers::up_weight`].
    pub up_weight: &'a mut [f32],
    /// For [`Layers::up_bias`].
    pub up_bias: &'a mut [f32],
    /// For [`Layers::weight`]. The gradient of the bias is the sum of the output's gradient.
    pub weight: &'a mut [f32],
}

/// The merged pair, packed.
#[derive(Debug)]
pub struct UpConv {
    sizes: Sizes,
    /// The result of [`merge`], kept for the gradient of the input.
    merged: Vec<f32>,
    filter: Filter<TWO_TAPS>,
}

impl UpConv {
    /// Merges the layers.
    ///
    /// # Panics
    /// If the numbers of weights are inconsistent.
    pub fn new(level: Level, layers: Layers) -> Self {
        let sizes = Sizes::of(layers);
        let merged = merge(level, layers, sizes);
        let Sizes {
            inputs,
            mid,
            image,
            outputs,
            total,
        } = sizes;
        let padded = outputs.next_multiple_of(LANES);
        let filter = Filter::new(
            level,
            Layout::Doubling,
            &[inputs, side_channels(image)],
            outputs,
            layers.bias,
            |c, phase, o| {
                let mut taps = [0.0; 9];
                for (tap, to) in taps.iter_mut().enumerate().take(4) {
                    // The rows of `merge` are the inputs, followed by the channel of ones.
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
                    *to = merged[((phase * 4 + tap) * (inputs + 1) + row) * padded + o];
                }
                taps
            },
        );
        Self {
            sizes,
            merged,
            filter,
        }
    }

    /// Output channels.
    pub(crate) fn outputs(&self) -> usize {
        self.sizes.outputs
    }

    /// Computes `output`, twice as high and wide as `input`, using the [`side`] of an image.
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
        let rows = 0..Layout::Doubling.tiles(input.shape().h);
        self.run_rows(level, input, side, &SharedMut::from(output), rows, epilogue);
    }

    /// [`UpConv::run`] for some rows of tiles of eight output rows each: row `t` of tiles begins at output row
    /// `8t - 1`.
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
        self.filter
            .run(level, &inputs, output, rows, epilogue, Then::Store);
    }

    /// Computes the gradient of the input from the gradient of the output before its epilogue.
    ///
    /// # Panics
    /// If a shape does not fit.
    pub fn input_gradient(
        &self,
        level: Level,
        output_gradient: &Tensor,
        gradient: &mut Tensor,
        epilogue: Epilogue,
    ) {
        let Sizes {
            inputs, outputs, ..
        } = self.sizes;
        self.sizes.check(gradient.shape(), output_gradient.shape());
        let padded = outputs.next_multiple_of(LANES);
        // The sum over the phases is a convolution with four times as many input channels. The transpose of a
        // correlation is the correlation with the kernel rotated by 180°.
        let filter = Filter::<TWO_TAPS>::new(
            level,
            Layout::Halving,
            &[outputs; PHASES.len()],
            inputs,
            &vec![0.0; inputs],
            |c, _, input| {
                let (phase, o) = (c / outputs, c % outputs);
                let mut taps = [0.0; 9];
                for tap in 0..4 {
                    let row = (phase * 4 + 3 - tap) * (inputs + 1) + input;
                    taps[tap] = self.merged[row * padded + o];
                }
                taps
            },
        );
        let phases = [Rows::from(output_gradient); PHASES.len()];
        let rows = 0..Layout::Halving.tiles(output_gradient.shape().h);
        let gradient = SharedMut::from(gradient);
        filter.run(level, &phases, &gradient, rows, epilogue, Then::Store);
    }

    /// Computes the gradients of both layers' parameters from the input, the [`side`] and the gradient of the output
    /// before its epilogue: first for the merged filter, then, by the chain rule, for the two layers it was merged
    /// from.
    ///
    /// # Panics
    /// If a shape does not fit, or the 3×3 convolution has channels beyond the image.
    pub fn weight_gradient(
        level: Level,
        arena: &mut Arena,
        layers: Layers,
        input: &Tensor,
        side: &Tensor,
        output_gradient: &Tensor,
        to: Gradients,
    ) {
        let sizes = Sizes::of(layers);
        let Sizes {
            inputs,
            mid,
            image,
            outputs,
            total,
        } = sizes;
        assert_eq!(total, mid + image, "channels of the convolution");
        sizes.check(input.shape(), output_gradient.shape());
        let Gradients {
            up_weight,
            up_bias,
            weight,
        } = to;
        assert!(
            up_weight.len() == layers.up_weight.len()
                && up_bias.len() == mid
                && weight.len() == layers.weight.len(),
            "parameters"
        );
        let read = [(input, inputs), (side, side_channels(image))];
        let gradients = merged_gradient(level, arena, &read, output_gradient);
        let (rows, padded) = (inputs + 1, outputs.next_multiple_of(LANES));
        // Laid out as the result of `merge`.
        let mut merged = vec![0.0; 16 * rows * padded];
        for (i, to) in merged.chunks_exact_mut(padded).enumerate() {
            let (phase, tap, row) = (i / rows / 4, i / rows % 4, i % rows);
            let row = if row < inputs {
                row
            } else {
                inputs + 4 * image
            };
            to.copy_from_slice(&gradients[row][(tap * 4 + phase) * padded..][..padded]);
        }
        let wide = mid.next_multiple_of(LANES);
        let (of_up, of_conv) = chain_rule(level, layers, sizes, &merged);
        for (i, to) in up_weight.iter_mut().enumerate() {
            let (row, m, sub) = (i / 4 / mid, i / 4 % mid, i % 4);
            *to = of_up[(sub * rows + row) * wide + m];
        }
        for (m, to) in up_bias.iter_mut().enumerate() {
            *to = (0..4)
                .map(|sub| of_up[(sub * rows + inputs) * wide + m])
                .sum();
        }
        weight.fill(0.0);
        for (o, to) in weight.chunks_exact_mut(9 * total).enumerate() {
            for (i, to) in to[..9 * mid].iter_mut().enumerate() {
                *to = of_conv[(i % 9 * mid + i / 9) * padded + o];
            }
            for channel in 0..image {
                let to = &mut to[9 * (mid + channel)..][..9];
                for_all_taps(|phase, tap, full, sub| {
                    let of_side = &gradients[inputs + sub * image + channel];
                    to[full] += of_side[(tap * 4 + phase) * padded + o];
                });
            }
        }
    }
}

/// Number of channels of the [`side`] of an image with `image` channels: its four phases, and the channel of ones.
pub fn side_channels(image: usize) -> usize {
    4 * image + 1
}

/// Writes the four phases of `image`, if there is one, and a channel of ones to `side`, which is half as high and
/// wide.
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

#[derive(Debug, Clone, Copy)]
struct Sizes {
    inputs: usize,
    mid: usize,
    image: usize,
    outputs: usize,
    /// Input channels of the 3×3 convolution.
    total: usize,
}

impl Sizes {
    fn of(layers: Layers) -> Self {
        let (mid, outputs) = (layers.up_bias.len(), layers.bias.len());
        assert!(mid > 0 && outputs > 0, "layers with outputs");
        let inputs = layers.up_weight.len() / (4 * mid);
        assert!(inputs > 0, "layers with inputs");
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
            total,
        }
    }
}

impl Sizes {
    /// Asserts that the input and the output fit the pair.
    fn check(self, input: Shape, output: Shape) {
        let want = Shape {
            h: 2 * input.h,
            w: 2 * input.w,
            c: self.outputs,
            ..input
        };
        assert_eq!(output, want, "shape of the output's gradient");
        assert_eq!(input.c, self.inputs, "channels of the input");
    }
}

/// The taps of the 3×3 convolution at an output pixel of `phase` that fall into the small pixel of the merged `tap`
/// (in row order), each with the phase of the upsampled pixel that it reads.
fn full_taps(phase: usize, tap: usize) -> impl Iterator<Item = (usize, usize)> {
    // Along one side, tap `d` reads upsampled pixel `phase + d - 1` of the block, and merged tap `t` reads small
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

/// Calls `f` for each [full tap](full_taps) of each merged tap of each phase, with the phase, the merged tap, the
/// full tap and the phase of the upsampled pixel.
fn for_all_taps(mut f: impl FnMut(usize, usize, usize, usize)) {
    for phase in 0..PHASES.len() {
        for tap in 0..4 {
            for (full, sub) in full_taps(phase, tap) {
                f(phase, tap, full, sub);
            }
        }
    }
}

/// The transposed convolution as `[phase][in + 1][mid]`; the last row is its bias.
fn up_matrices(layers: Layers, sizes: Sizes) -> Vec<f32> {
    let Sizes { inputs, mid, .. } = sizes;
    let rows = inputs + 1;
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
    up
}

/// The 3×3 convolution of the upsampled channels, `[tap][mid][out]` if `forward`, else `[tap][out][mid]`, with rows
/// padded to whole vectors.
fn conv_matrices(layers: Layers, sizes: Sizes, forward: bool) -> Vec<f32> {
    let Sizes {
        mid,
        outputs,
        total,
        ..
    } = sizes;
    let (rows, columns) = if forward {
        (mid, outputs)
    } else {
        (outputs, mid)
    };
    let width = columns.next_multiple_of(LANES);
    let mut conv = vec![0.0; 9 * rows * width];
    conv.par_chunks_mut(width).enumerate().for_each(|(i, to)| {
        let (tap, row) = (i / rows, i % rows);
        for (column, to) in to.iter_mut().enumerate().take(columns) {
            let (m, o) = if forward {
                (row, column)
            } else {
                (column, row)
            };
            *to = layers.weight[(o * total + m) * 9 + tap];
        }
    });
    conv
}

/// The merged weights of the upsampled channels: `[phase][tap][in + 1][out, whole vectors]`; the last row is the
/// contribution of the transposed convolution's bias.
fn merge(level: Level, layers: Layers, sizes: Sizes) -> Vec<f32> {
    let Sizes {
        inputs,
        mid,
        outputs,
        ..
    } = sizes;
    let (rows, padded) = (inputs + 1, outputs.next_multiple_of(LANES));
    let up = up_matrices(layers, sizes);
    let conv = conv_matrices(layers, sizes, true);
    let mut merged = vec![0.0; 16 * rows * padded];
    let parts = merged.par_chunks_mut(rows * padded).enumerate();
    one_by_one(parts).for_each(|(i, to)| {
        for (tap, phase) in full_taps(i / 4, i % 4) {
            level.run(Product {
                a: &up[phase * rows * mid..],
                row: mid,
                step: 1,
                b: &conv[tap * mid * padded..],
                depth: mid,
                width: padded,
                to: &mut *to,
            });
        }
    });
    merged
}

/// Maps the gradient of the result of [`merge`] to the gradients of the two layers: of the transposed convolution,
/// `[phase][in + 1][mid]`, with that of its bias in the last row, and of the 3×3 one, `[tap][mid][out]`, with rows
/// padded to whole vectors.
fn chain_rule(level: Level, layers: Layers, sizes: Sizes, merged: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let Sizes {
        inputs,
        mid,
        outputs,
        ..
    } = sizes;
    let (rows, wide) = (inputs + 1, mid.next_multiple_of(LANES));
    let padded = outputs.next_multiple_of(LANES);
    let part = |phase: usize, tap: usize| &merged[(phase * 4 + tap) * rows * padded..];

    let up = up_matrices(layers, sizes);
    let conv = conv_matrices(layers, sizes, false);
    let mut of_up = vec![0.0; 4 * rows * wide];
    let mut of_conv = vec![0.0; 9 * mid * padded];
    let ups = of_up.par_chunks_mut(rows * wide).enumerate();
    one_by_one(ups).for_each(|(of, to)| {
        for_all_taps(|phase, tap, full, sub| {
            if sub == of {
                level.run(Product {
                    a: part(phase, tap),
                    row: padded,
                    step: 1,
                    b: &conv[full * outputs * wide..],
                    depth: outputs,
                    width: wide,
                    to: &mut *to,
                });
            }
        });
    });
    let convs = of_conv.par_chunks_mut(mid * padded).enumerate();
    one_by_one(convs).for_each(|(of, to)| {
        for_all_taps(|phase, tap, full, sub| {
            if full == of {
                level.run(Product {
                    a: &up[sub * rows * mid..],
                    row: 1,
                    step: mid,
                    b: part(phase, tap),
                    depth: rows,
                    width: padded,
                    to: &mut *to,
                });
            }
        });
    });
    (of_up, of_conv)
}
