//! 2×2 max-pooling with stride 2, and its gradient.

use rayon::prelude::*;

use crate::tensor::{Shape, Tensor};

/// The shape after pooling; a last odd row or column is dropped.
pub fn pooled(shape: Shape) -> Shape {
    Shape {
        h: shape.h / 2,
        w: shape.w / 2,
        ..shape
    }
}

/// Writes to `output` the greatest of each 2×2 block of `input`, which holds no NaN.
///
/// # Panics
/// If `output` is not of the shape [`pooled`] gives.
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

/// The gradient before a `LeakyReLU` that was followed by max-pooling.
///
/// `activation` is the input of the pooling, that is the output of the `LeakyReLU`;
/// `pooled_gradient` the gradient of the pooling's output. Each gradient goes to the first of the
/// greatest values of its block (row by row, as PyTorch does), times the slope of the `LeakyReLU`
/// there; a last odd row or column gets zero. The slope is above 0, so that the output's sign is the
/// input's, and there is no NaN.
///
/// # Panics
/// If a shape does not fit.
pub fn max_pool_gradient(
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
        let rows = [
            activation.row(n, 2 * block_y),
            activation.row(n, 2 * block_y + 1),
        ];
        let from = pooled_gradient.row(n, block_y).chunks_exact(stride);
        let mut blocks = row.chunks_exact_mut(2 * stride);
        for (x, (to, from)) in blocks.by_ref().zip(from).enumerate() {
            let values: [&[f32]; 4] =
                std::array::from_fn(|i| &rows[i / 2][(2 * x + i % 2) * stride..][..stride]);
            let (left, right) = to.split_at_mut(stride);
            for c in 0..stride {
                let values = values.map(|value| value[c]);
                // `>` and not `>=`: the first of equals wins.
                let (mut best, mut at) = (values[0], 0);
                for (i, &value) in values.iter().enumerate().skip(1) {
                    if value > best {
                        (best, at) = (value, i);
                    }
                }
                let routed = if best > 0.0 { from[c] } else { from[c] * slope };
                let here = 2 * (y % 2);
                left[c] = if at == here { routed } else { 0.0 };
                right[c] = if at == here + 1 { routed } else { 0.0 };
            }
        }
        blocks.into_remainder().fill(0.0);
    });
}
