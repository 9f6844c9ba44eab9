//! What happens to a convolution's sums on the way to memory, while they are still in registers.

use crate::arch::{LANES, Simd, vector};
use crate::tensor::Tensor;

/// What happens to a sum before it is stored.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// Stored as it is.
    Store,
    /// `LeakyReLU` with this slope, above 0, for negative values.
    LeakyRelu(f32),
    /// Added to what the output holds.
    Add,
    /// Added to what the output holds, then as [`Epilogue::LeakyRelu`].
    AddLeakyRelu(f32),
    /// Multiplied by the slope of a `LeakyReLU` whose *output* was this tensor, of the output's
    /// shape: 1 where it is positive, the given slope elsewhere.
    Slope(&'a Tensor, f32),
}

impl Epilogue<'_> {
    /// Stores `sum` to `to`, the vector from float `at` of the output on.
    ///
    /// # Panics
    /// If `at` lies outside the tensor of [`Epilogue::Slope`].
    #[inline(always)]
    pub(crate) fn store<S: Simd>(self, simd: S, sum: S::V, to: &mut [f32; LANES], at: usize) {
        let sloped = |of, slope| simd.where_positive(of, sum, simd.mul(sum, simd.splat(slope)));
        let value = match self {
            Self::Store => sum,
            Self::LeakyRelu(slope) => sloped(sum, slope),
            Self::Add => simd.add(simd.load(to), sum),
            Self::AddLeakyRelu(slope) => {
                let sum = simd.add(simd.load(to), sum);
                simd.where_positive(sum, sum, simd.mul(sum, simd.splat(slope)))
            }
            Self::Slope(activation, slope) => {
                let of = vector(activation.as_slice(), at);
                sloped(simd.load(of), slope)
            }
        };
        simd.store(value, to);
    }
}
