//! The transposed 2×2 convolution with stride 2, which doubles height and width. Each output pixel depends on exactly
//! one input pixel and one tap, so it is four 1×1 convolutions, each writing every second pixel.
//!
//! Weights are in PyTorch's order for transposed convolutions, `[in, out, 2, 2]`.

use crate::Level;
use crate::direct::{Place, TapConv, WIDEST, correlate};
use crate::epilogue::Epilogue;
use crate::tensor::Tensor;

/// The four positions of an output pixel in its 2×2 block, as (dy, dx).
const PHASES: [(usize, usize); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];

/// A transposed convolution packed for computing its output.
#[derive(Debug)]
pub struct Upsample([TapConv; 4]);

impl Upsample {
    /// Packs a transposed convolution from `inputs` to `bias.len()` channels.
    ///
    /// # Panics
    /// If `weight` does not hold `[inputs, bias.len(), 2, 2]` values.
    pub fn forward(inputs: usize, weight: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        assert_eq!(
            weight.len(),
            inputs * outputs * 4,
            "weights of the transposed convolution"
        );
        Self(std::array::from_fn(|phase| {
            TapConv::new(WIDEST, &[(0, 0)], 1, &[inputs], outputs, bias, |_, c, o| {
                weight[(c * outputs + o) * 4 + phase]
            })
        }))
    }

    /// Computes `output`, twice as high and wide as `input`.
    ///
    /// # Panics
    /// If a shape does not fit.
    pub fn run(&self, level: Level, input: &Tensor, output: &mut Tensor) {
        for (conv, (dy, dx)) in self.0.iter().zip(PHASES) {
            let place = Place { stride: 2, dy, dx };
            conv.run(level, &[input], output, place, Epilogue::Store);
        }
    }
}

/// A transposed convolution packed for computing the gradient of its input.
#[derive(Debug)]
pub struct InputGradient(TapConv);

impl InputGradient {
    /// Packs the map from the gradient of the output, with `outputs` channels, to that of the input, with `inputs`
    /// channels.
    ///
    /// # Panics
    /// If `weight` does not hold `[inputs, outputs, 2, 2]` values.
    pub fn new(inputs: usize, outputs: usize, weight: &[f32]) -> Self {
        assert_eq!(
            weight.len(),
            inputs * outputs * 4,
            "weights of the transposed convolution"
        );
        let taps = PHASES.map(|(dy, dx)| (dy as isize, dx as isize));
        Self(TapConv::new(
            WIDEST,
            &taps,
            2,
            &[outputs],
            inputs,
            &[],
            |tap, c, o| weight[(o * outputs + c) * 4 + tap],
        ))
    }

    /// Computes the gradient of the input, half as high and wide as `output_gradient`.
    ///
    /// # Panics
    /// If a shape does not fit.
    pub fn run(
        &self,
        level: Level,
        output_gradient: &Tensor,
        input_gradient: &mut Tensor,
        epilogue: Epilogue,
    ) {
        self.0.run(
            level,
            &[output_gradient],
            input_gradient,
            Place::EVERY,
            epilogue,
        );
    }
}

/// The gradient of the weight, `[in, out, 2, 2]`, from the input and the gradient of the output.
///
/// # Panics
/// If a shape does not fit.
pub fn weight_gradient(
    level: Level,
    input: &Tensor,
    output_gradient: &Tensor,
    gradient: &mut [f32],
) {
    let (inputs, outputs) = (input.shape().c, output_gradient.shape().c);
    assert_eq!(
        gradient.len(),
        inputs * outputs * 4,
        "weights of the transposed convolution"
    );
    for (phase, (dy, dx)) in PHASES.into_iter().enumerate() {
        let place = Place { stride: 2, dy, dx };
        let inputs = [(input, inputs)];
        correlate(
            level,
            &inputs,
            &[(0, 0)],
            output_gradient,
            place,
            |_, c, o, value| {
                gradient[(c * outputs + o) * 4 + phase] = value;
            },
        );
    }
}
