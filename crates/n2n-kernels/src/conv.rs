//! Convolutions with a 3×3 (zero padding 1) or 1×1 kernel: forward, and the gradients of input, weight and bias.
//!
//! Weights are in PyTorch's order, `[out, in, k, k]`; activations are padded NHWC [`Tensor`]s. The input may consist
//! of several tensors, whose channels are concatenated.

use std::ops::Range;
use std::sync::OnceLock;

use rayon::prelude::*;

use crate::arena::Arena;
pub use crate::direct::head::{Gradients, Position};
use crate::direct::{self, Chain, Place, TapConv, correlate, head};
use crate::jobs::one_by_one;
use crate::memory::Memory;
use crate::tensor::{Rows, RowsMut, Shape, SharedMut, Tensor};
use crate::winograd::{self, Layout, SAME, Then};
use crate::{Epilogue, Level, pool};

/// The size of a convolution's kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// 1×1.
    One,
    /// 3×3 with a zero padding of 1.
    Three,
}

impl Size {
    /// Offsets of the taps, row by row.
    fn taps(self) -> Vec<(isize, isize)> {
        match self {
            Self::One => vec![(0, 0)],
            Self::Three => (-1..=1)
                .flat_map(|y| (-1..=1).map(move |x| (y, x)))
                .collect(),
        }
    }

    /// Weights per pair of channels.
    fn area(self) -> usize {
        match self {
            Self::One => 1,
            Self::Three => 9,
        }
    }
}

/// A convolution, forward or as the gradient of one of its inputs. It is packed on first use, for the algorithms in
/// use and for the level of the first call; at another level it is correct but slower.
///
/// 3×3 convolutions use Winograd's algorithm if they have enough channels to pay for its transforms and more than a
/// few pixels; the others run directly.
#[derive(Debug)]
pub struct Conv {
    size: Size,
    channels: Vec<usize>,
    outputs: usize,
    bias: Vec<f32>,
    /// The layer's weight, `[out, in, k, k]` of the layer.
    weight: Vec<f32>,
    /// The layer's total number of input channels.
    layer_inputs: usize,
    /// The input channels whose gradient this computes; `None` for the forward convolution.
    gradient_of: Option<Range<usize>>,
    direct: OnceLock<TapConv>,
    winograd: OnceLock<winograd::Filter<SAME>>,
}

/// Minimum numbers of input and output channels for which Winograd's algorithm pays.
const WINOGRAD_CHANNELS: (usize, usize) = (12, 16);

/// Whether a convolution of this size, these channels and this shape uses Winograd's algorithm.
fn by_winograd(size: Size, inputs: usize, outputs: usize, shape: Shape) -> bool {
    let (least_inputs, least_outputs) = WINOGRAD_CHANNELS;
    let are_enough = inputs >= least_inputs && outputs >= least_outputs;
    size == Size::Three && are_enough && winograd::pays(shape)
}

impl Conv {
    /// The forward convolution from inputs with the given `channels` to `bias.len()` outputs.
    ///
    /// # Panics
    /// If `weight` does not hold `[bias.len(), channels.sum(), k, k]` values.
    pub fn forward(size: Size, channels: &[usize], weight: &[f32], bias: &[f32]) -> Self {
        let (inputs, outputs) = (channels.iter().sum(), bias.len());
        assert_eq!(
            weight.len(),
            outputs * inputs * size.area(),
            "weights of the convolution"
        );
        Self {
            size,
            channels: channels.to_vec(),
            outputs,
            bias: bias.to_vec(),
            weight: weight.to_vec(),
            layer_inputs: inputs,
            gradient_of: None,
            direct: OnceLock::new(),
            winograd: OnceLock::new(),
        }
    }

    /// The convolution that maps the gradient of the output (`outputs` channels) to the gradient of the input
    /// channels `of`, out of `inputs` channels in all.
    ///
    /// # Panics
    /// If `weight` does not hold `[outputs, inputs, k, k]` values or `of` lies outside the inputs.
    pub fn input_gradient(
        size: Size,
        outputs: usize,
        inputs: usize,
        of: Range<usize>,
        weight: &[f32],
    ) -> Self {
        assert_eq!(
            weight.len(),
            outputs * inputs * size.area(),
            "weights of the convolution"
        );
        assert!(of.end <= inputs, "input channels");
        Self {
            size,
            channels: vec![outputs],
            outputs: of.len(),
            bias: vec![0.0; of.len()],
            weight: weight.to_vec(),
            layer_inputs: inputs,
            gradient_of: Some(of),
            direct: OnceLock::new(),
            winograd: OnceLock::new(),
        }
    }

    /// The index, in the layer's weight, of the channel pair that corresponds to an input and an output channel of
    /// this convolution; and whether its taps are rotated by 180°, because the transpose of a correlation is the
    /// correlation with the rotated kernel.
    fn pair(&self, c: usize, o: usize) -> (usize, bool) {
        match &self.gradient_of {
            None => (o * self.layer_inputs + c, false),
            Some(of) => (c * self.layer_inputs + of.start + o, true),
        }
    }

    /// The weight of a tap between an input and an output channel of this convolution.
    fn weight(&self, tap: usize, c: usize, o: usize) -> f32 {
        let area = self.size.area();
        let (pair, turned) = self.pair(c, o);
        let tap = if turned { area - 1 - tap } else { tap };
        self.weight[pair * area + tap]
    }

    /// The nine taps between an input and an output channel of this convolution, if it is 3×3.
    fn taps(&self, c: usize, o: usize) -> [f32; 9] {
        let (pair, turned) = self.pair(c, o);
        let taps = self.weight[9 * pair..].first_chunk();
        let mut taps = *taps.expect("nine taps a pair");
        if turned {
            taps.reverse();
        }
        taps
    }

    /// Computes `output` from `inputs`, which must all have the same height and width.
    ///
    /// # Panics
    /// If a shape does not fit.
    pub fn run(&self, level: Level, inputs: &[&Tensor], output: &mut Tensor, epilogue: Epilogue) {
        if self.is_by_winograd(output.shape()) {
            self.run_all_tiles(level, inputs, output, epilogue, Then::Store);
        } else {
            self.direct(level)
                .run(level, inputs, output, Place::EVERY, epilogue);
        }
    }

    /// Computes the 2×2 max-pooling, with stride 2, of this convolution's output. The output itself is not kept and,
    /// where the algorithm allows, is never even stored.
    ///
    /// # Panics
    /// If a shape does not fit, or the epilogue is not [`Epilogue::Store`] or [`Epilogue::LeakyRelu`], which preserve
    /// the order of values.
    pub fn run_pooled(
        &self,
        level: Level,
        inputs: &[&Tensor],
        output: &mut Tensor,
        epilogue: Epilogue,
        arena: &mut Arena,
    ) {
        let keeps_order = matches!(epilogue, Epilogue::Store | Epilogue::LeakyRelu(_));
        assert!(keeps_order, "epilogue");
        let full = Shape {
            c: self.outputs,
            ..inputs[0].shape()
        };
        if self.is_by_winograd(full) {
            self.run_all_tiles(level, inputs, output, epilogue, Then::Pool);
        } else {
            let mut before = arena.take(full);
            self.direct(level)
                .run(level, inputs, &mut before, Place::EVERY, epilogue);
            pool::max_pool(&before, output);
            arena.give(before);
        }
    }

    /// Computes some rows directly; the output may be a window.
    pub(crate) fn run_rows_directly(
        &self,
        level: Level,
        inputs: &[&Tensor],
        output: &mut RowsMut,
        rows: Range<usize>,
        epilogue: Epilogue,
    ) {
        self.direct(level)
            .run_rows(level, inputs, output, rows, Place::EVERY, epilogue);
    }

    /// Computes some rows of tiles with Winograd's algorithm; input and output tensors may be windows.
    pub(crate) fn run_tiles(
        &self,
        level: Level,
        input: Rows,
        output: &SharedMut,
        rows: Range<usize>,
        epilogue: Epilogue,
        then: Then,
    ) {
        self.winograd(level)
            .run(level, &[input], output, rows, epilogue, then);
    }

    /// Winograd's algorithm on whole images.
    fn run_all_tiles(
        &self,
        level: Level,
        inputs: &[&Tensor],
        output: &mut Tensor,
        epilogue: Epilogue,
        then: Then,
    ) {
        let inputs: Vec<Rows> = inputs.iter().map(|input| Rows::from(*input)).collect();
        let rows = 0..Layout::Same.tiles(inputs[0].shape().h);
        let output = &SharedMut::from(output);
        self.winograd(level)
            .run(level, &inputs, output, rows, epilogue, then);
    }

    /// Output channels.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Whether images of this shape, whatever their channels, are computed with Winograd's algorithm.
    pub fn is_by_winograd(&self, images: Shape) -> bool {
        by_winograd(self.size, self.channels.iter().sum(), self.outputs, images)
    }

    fn winograd(&self, level: Level) -> &winograd::Filter<SAME> {
        once(&self.winograd, || {
            winograd::Filter::new(
                level,
                Layout::Same,
                &self.channels,
                self.outputs,
                &self.bias,
                |c, _, o| self.taps(c, o),
            )
        })
    }

    fn direct(&self, level: Level) -> &TapConv {
        once(&self.direct, || {
            let weight = |tap, c, o| self.weight(tap, c, o);
            let taps = self.size.taps();
            let widest = direct::widest(level, &taps);
            let (channels, bias) = (&self.channels, &self.bias);
            TapConv::new(widest, &taps, 1, channels, self.outputs, bias, weight)
        })
    }
}

/// Runs 1×1 convolutions one after another, each with its epilogue, without storing the tensors between them.
///
/// # Panics
/// If there is no convolution, one is not 1×1 with one input tensor, an epilogue is not [`Epilogue::Store`] or
/// [`Epilogue::LeakyRelu`], or a shape does not fit.
pub fn run_chain(level: Level, convs: &[(&Conv, Epilogue)], input: &Tensor, output: &mut Tensor) {
    let chain = chain(level, convs);
    let (from, to) = (input.shape(), output.shape());
    assert_eq!((from.n, from.h, from.w), (to.n, to.h, to.w), "size");
    assert_eq!(
        (chain.inputs(), chain.outputs()),
        (from.c, to.c),
        "channels"
    );
    output.rows_mut().for_each(|(n, y, row)| {
        let (pixels, stride) = (input.row(n, y), from.pixel_stride());
        let mut between = Memory::default();
        chain.run(level, pixels, stride, from.w, row, &mut between);
    });
}

/// A layer of [`learn_chain`].
#[derive(Debug, Clone, Copy)]
pub struct Pointwise<'a> {
    /// The 1×1 convolution, with one input tensor.
    pub forward: &'a Conv,
    /// The [`Conv::input_gradient`] of the same layer, for all of its input channels.
    pub backward: &'a Conv,
    /// The slope of the `LeakyReLU` after it, if any, above 0 and at most 1.
    pub slope: Option<f32>,
}

/// Computes output, loss and gradients of the 1×1 convolutions at the end of a network in one pass, without storing
/// the tensors between them.
///
/// `pixels` is the output of a `LeakyReLU` with the positive slope `before`; because an output then has the sign of
/// its input, the input need not be kept. `pixels` is overwritten with the gradient of that input.
///
/// `loss` is called for runs of at most 64 adjacent pixels, once for every pixel, in no particular order and from
/// several threads at once. It receives the position of the first pixel and the last layer's output (after its
/// `LeakyReLU`, if any), with each pixel's channels padded to a multiple of 8. It overwrites the output with the
/// gradient of the loss, leaving the padding channels at zero, and returns what these pixels contribute to two sums.
///
/// Returns the gradients of each layer's parameters, and the two sums. All of them are added in one fixed order,
/// whatever the number of threads.
///
/// # Panics
/// If there is no layer, one is not 1×1 with one input tensor, a layer's input channels are not the output channels
/// of the layer before (of `pixels`, for the first), a layer's `backward` does not map its output channels to its
/// input channels, or a slope is out of range.
pub fn learn_chain(
    level: Level,
    layers: &[Pointwise],
    pixels: &mut Tensor,
    before: f32,
    loss: impl Fn(Position, &mut [f32]) -> [f64; 2] + Sync,
) -> (Vec<Gradients>, [f64; 2]) {
    let layers = layers.iter().map(|layer| head::Layer {
        forward: layer.forward.direct(level),
        backward: layer.backward.direct(level),
        slope: layer.slope,
    });
    head::learn(level, &layers.collect::<Vec<_>>(), pixels, before, loss)
}

/// The convolutions of a chain, packed.
pub(crate) fn chain<'a>(level: Level, convs: &[(&'a Conv, Epilogue<'a>)]) -> Chain<'a> {
    let convs = convs.iter();
    Chain::new(
        convs
            .map(|(conv, after)| (conv.direct(level), *after))
            .collect(),
    )
}

/// The cell's value, computed on first use.
///
/// Unlike `get_or_init`, this takes no lock while computing: packing is parallel work, and a thread that waits for it
/// may start other work that needs the same cell.
fn once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> T) -> &T {
    if cell.get().is_none() {
        // Two threads may both compute it; the results are equal.
        let _ = cell.set(make());
    }
    cell.get().expect("set above")
}

/// The gradient of the weight, `[out, in, k, k]`, from the inputs (each with its number of channels, excluding
/// padding) and the gradient of the output.
///
/// # Panics
/// If a shape does not fit.
pub fn weight_gradient(
    level: Level,
    arena: &mut Arena,
    size: Size,
    inputs: &[(&Tensor, usize)],
    output_gradient: &Tensor,
    gradient: &mut [f32],
) {
    let total: usize = inputs.iter().map(|(_, channels)| channels).sum();
    let area = size.area();
    let shape = output_gradient.shape();
    assert_eq!(gradient.len(), shape.c * total * area, "weights");
    if by_winograd(size, total, shape.c, shape) {
        winograd::weight_gradient(level, arena, inputs, output_gradient, gradient);
        return;
    }
    correlate(
        level,
        inputs,
        &size.taps(),
        output_gradient,
        Place::EVERY,
        |tap, c, o, value| {
            gradient[(o * total + c) * area + tap] = value;
        },
    );
}

/// The gradient of the bias: for each channel, the sum of the output's gradient over all pixels.
///
/// Rows are summed in f32, then added in f64, in order.
///
/// # Panics
/// If `gradient` does not hold one value per channel.
pub fn bias_gradient(output_gradient: &Tensor, gradient: &mut [f32]) {
    let shape = output_gradient.shape();
    assert_eq!(gradient.len(), shape.c, "a bias for each channel");
    let stride = shape.pixel_stride();
    let rows: Vec<Vec<f32>> = one_by_one((0..shape.n * shape.h).into_par_iter())
        .map(|row| {
            let mut sums = vec![0.0; stride];
            for pixel in output_gradient
                .row(row / shape.h, row % shape.h)
                .chunks_exact(stride.max(1))
            {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += value;
                }
            }
            sums
        })
        .collect();
    for (c, gradient) in gradient.iter_mut().enumerate() {
        *gradient = rows.iter().map(|sums| f64::from(sums[c])).sum::<f64>() as f32;
    }
}
