//! What is applied to a convolution's sums before they are stored, while they are still in registers.

use crate::arch::{LANES, Simd, vector};
use crate::tensor::Tensor;

/// What is applied to a sum before it is stored.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// The sum is stored unchanged.
    Store,
    /// `LeakyReLU` with this slope for negative values, above 0 and at most 1; kernels panic on any other slope.
    LeakyRelu(f32),
    /// The sum is added to the output.
    Add,
    /// The sum is added to the output, and the result goes through [`Epilogue::LeakyRelu`].
    AddLeakyRelu(f32),
    /// The sum is multiplied by the slope of a `LeakyReLU` whose *output* was this tensor, which has the output's
    /// shape: by 1 where it is positive, and by the given slope elsewhere.
    Slope(&'a Tensor, f32),
}

/// `LeakyReLU` with a slope accepted by [`Epilogue::check`]: the maximum of a value and its product with the slope.
#[inline(always)]
pub(crate) fn leaky_relu<S: Simd>(simd: S, value: S::V, slope: f32) -> S::V {
    simd.max(value, simd.mul(value, simd.splat(slope)))
}

impl Epilogue<'_> {
    /// # Panics
    /// If the slope of a `LeakyReLU` is not above 0 and at most 1.
    pub(crate) fn check(self) {
        if let Self::LeakyRelu(slope) | Self::AddLeakyRelu(slope) = self {
            assert!(slope > 0.0 && slope <= 1.0, "slope of the LeakyReLU");
        }
    }

    /// Stores `sum` to `to`, the vector that starts at float `at` of the output.
    ///
    /// # Panics
    /// If `at` lies outside the tensor of [`Epilogue::Slope`].
    #[inline(always)]
    pub(crate) fn store<S: Simd>(self, simd: S, sum: S::V, to: &mut [f32; LANES], at: usize) {
        let value = match self {
            Self::Store => sum,
            Self::LeakyRelu(slope) => leaky_relu(simd, sum, slope),
            Self::Add => simd.add(simd.load(to), sum),
            Self::AddLeakyRelu(slope) => leaky_relu(simd, simd.add(simd.load(to), sum), slope),
            Self::Slope(activation, slope) => {
                let of = simd.load(vector(activation.as_slice(), at));
                simd.where_positive(of, sum, simd.mul(sum, simd.splat(slope)))
            }
        };
        simd.store(value, to);
    }
}
