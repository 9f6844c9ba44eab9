//! 2×2 max-pooling with stride 2, and its gradient.

use rayon::prelude::*;

use crate::Level;
use crate::arch::{Kernel, LANES, Simd, vector, vector_mut};
use crate::tensor::{Shape, Tensor};

/// The shape after pooling; a last odd row or column is dropped.
pub fn pooled(shape: Shape) -> Shape {
    Shape {
        h: shape.h / 2,
        w: shape.w / 2,
        ..shape
    }
}

/// Writes the maximum of each 2×2 block of `input`, which contains no NaN, to `output`.
///
/// # Panics
/// If `output` does not have the shape that [`pooled`] returns.
pub fn max_pool(input: &Tensor, output: &mut Tensor) {
    assert_eq!(output.shape(), pooled(input.shape()), "shape after pooling");
    let stride = input.shape().pixel_stride();
    output.rows_mut().for_each(|(n, y, row)| {
        let (upper, lower) = (input.row(n, 2 * y), input.row(n, 2 * y + 1));
        let blocks = upper
            .chunks_exact(2 * stride)
            .zip(lower.chunks_exact(2 * stride));
        for (to, (upper, lower)) in row.chunks_exact_mut(stride).zip(blocks) {
            let ((a, b), (c, d)) = (upper.split_at(stride), lower.split_at(stride));
            for (i, to) in to.iter_mut().enumerate() {
                *to = a[i].max(b[i]).max(c[i].max(d[i]));
            }
        }
    });
}

/// The gradient at the input of a `LeakyReLU` that is followed by max-pooling.
///
/// `activation` is the input of the pooling, that is, the output of the `LeakyReLU`; `pooled_gradient` is the
/// gradient of the pooling's output. Each gradient goes to the first maximum of its block (in row order, as in
/// PyTorch), times the slope of the `LeakyReLU` there; a last odd row or column gets zero. The slope must be
/// positive, so that the output has the sign of the input, and there must be no NaN.
///
/// # Panics
/// If a shape does not fit.
pub fn max_pool_gradient(
    level: Level,
    activation: &Tensor,
    pooled_gradient: &Tensor,
    slope: f32,
    gradient: &mut Tensor,
) {
    let shape = activation.shape();
    assert_eq!(
        pooled_gradient.shape(),
        pooled(shape),
        "shape after pooling"
    );
    assert_eq!(gradient.shape(), shape, "shape before pooling");
    let stride = shape.pixel_stride();
    gradient.rows_mut().for_each(|(n, y, row)| {
        let block_y = y / 2;
        if block_y >= shape.h / 2 {
            row.fill(0.0);
            return;
        }
        let (to, odd) = row.split_at_mut(shape.w / 2 * 2 * stride);
        odd.fill(0.0);
        level.run(Route {
            upper: activation.row(n, 2 * block_y),
            lower: activation.row(n, 2 * block_y + 1),
            from: pooled_gradient.row(n, block_y),
            slope,
            stride,
            first: if y % 2 == 0 { 0.0 } else { 2.0 },
            to,
        });
    });
}

/// One row of the gradient before pooling.
struct Route<'a> {
    /// The two rows of the blocks, before pooling.
    upper: &'a [f32],
    lower: &'a [f32],
    /// The gradient of the pooled row.
    from: &'a [f32],
    slope: f32,
    /// Floats of a pixel, whole vectors.
    stride: usize,
    /// The index within its block of the first value in this row: 0, or 2 for the lower row.
    first: f32,
    to: &'a mut [f32],
}

impl Kernel for Route<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let block = 2 * self.stride;
        let (zero, minus) = (simd.splat(0.0), simd.splat(-1.0));
        let blocks = self
            .upper
            .chunks_exact(block)
            .zip(self.lower.chunks_exact(block));
        let pooled = self.from.chunks_exact(self.stride);
        for ((to, (upper, lower)), from) in self.to.chunks_exact_mut(block).zip(blocks).zip(pooled)
        {
            for c in (0..self.stride).step_by(LANES) {
                let (mut best, mut at) = (simd.load(vector(upper, c)), zero);
                let others = [
                    (upper, c + self.stride),
                    (lower, c),
                    (lower, c + self.stride),
                ];
                for (i, (row, c)) in others.into_iter().enumerate() {
                    let value = simd.load(vector(row, c));
                    // Greater, not equal: the first of several equal values wins.
                    let above = simd.mul_add(minus, best, value);
                    best = simd.where_positive(above, value, best);
                    at = simd.where_positive(above, simd.splat((i + 1) as f32), at);
                }
                let from = simd.load(vector(from, c));
                let routed = simd.mul(from, simd.splat(self.slope));
                let routed = simd.where_positive(best, from, routed);
                for (c, here) in [(c, self.first), (c + self.stride, self.first + 1.0)] {
                    let here = simd.splat(here);
                    let (after, before) =
                        (simd.mul_add(minus, here, at), simd.mul_add(minus, at, here));
                    let value = simd.where_positive(before, zero, routed);
                    let value = simd.where_positive(after, zero, value);
                    simd.store(value, vector_mut(to, c));
                }
            }
        }
    }
}
