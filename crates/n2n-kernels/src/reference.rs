//! The definition of correct: every kernel as plain f64 loops over unpadded values in the order n, h, w, c. Slow on
//! purpose; the fast kernels are tested against these.

use crate::tensor::Shape;

fn at(shape: Shape, n: usize, y: usize, x: usize, c: usize) -> usize {
    ((n * shape.h + y) * shape.w + x) * shape.c + c
}

fn len(shape: Shape) -> usize {
    shape.n * shape.h * shape.w * shape.c
}

/// Calls `f(input index, weight index, output index)` for every product of a k×k convolution with
/// zero padding k/2 and weights `[outputs, shape.c, k, k]`.
fn conv_products(shape: Shape, outputs: usize, k: usize, mut f: impl FnMut(usize, usize, usize)) {
    let out = Shape {
        c: outputs,
        ..shape
    };
    for n in 0..shape.n {
        for y in 0..shape.h {
            for x in 0..shape.w {
                for o in 0..outputs {
                    for c in 0..shape.c {
                        for i in 0..k {
                            for j in 0..k {
                                let (iy, ix) =
                                    ((y + i).wrapping_sub(k / 2), (x + j).wrapping_sub(k / 2));
                                if iy < shape.h && ix < shape.w {
                                    let weight = ((o * shape.c + c) * k + i) * k + j;
                                    f(at(shape, n, iy, ix, c), weight, at(out, n, y, x, o));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A k×k convolution with zero padding k/2; weights `[bias.len(), shape.c, k, k]`.
pub fn conv(input: &[f64], shape: Shape, weight: &[f64], bias: &[f64], k: usize) -> Vec<f64> {
    let outputs = bias.len();
    let mut output: Vec<f64> = (0..len(Shape {
        c: outputs,
        ..shape
    }))
        .map(|i| bias[i % outputs])
        .collect();
    conv_products(shape, outputs, k, |i, w, o| {
        output[o] += input[i] * weight[w];
    });
    output
}

/// Gradients of a convolution's input, weight and bias, from the gradient of its output.
pub fn conv_gradients(
    input: &[f64],
    shape: Shape,
    weight: &[f64],
    output_gradient: &[f64],
    outputs: usize,
    k: usize,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut dx = vec![0.0; input.len()];
    let mut dw = vec![0.0; weight.len()];
    conv_products(shape, outputs, k, |i, w, o| {
        dx[i] += output_gradient[o] * weight[w];
        dw[w] += output_gradient[o] * input[i];
    });
    (dx, dw, channel_sums(output_gradient, outputs))
}

fn channel_sums(values: &[f64], channels: usize) -> Vec<f64> {
    (0..channels)
        .map(|c| values.iter().skip(c).step_by(channels).sum())
        .collect()
}

/// Calls `f` as [`conv_products`] does, for a transposed 2×2 convolution with stride 2 and weights
/// `[shape.c, outputs, 2, 2]`.
fn upsample_products(shape: Shape, outputs: usize, mut f: impl FnMut(usize, usize, usize)) {
    let out = Shape {
        h: 2 * shape.h,
        w: 2 * shape.w,
        c: outputs,
        ..shape
    };
    for n in 0..out.n {
        for y in 0..out.h {
            for x in 0..out.w {
                for o in 0..outputs {
                    for c in 0..shape.c {
                        let weight = ((c * outputs + o) * 2 + y % 2) * 2 + x % 2;
                        f(at(shape, n, y / 2, x / 2, c), weight, at(out, n, y, x, o));
                    }
                }
            }
        }
    }
}

/// A transposed 2×2 convolution with stride 2; weights `[shape.c, bias.len(), 2, 2]`.
pub fn upsample(input: &[f64], shape: Shape, weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let outputs = bias.len();
    let out = Shape {
        h: 2 * shape.h,
        w: 2 * shape.w,
        c: outputs,
        ..shape
    };
    let mut output: Vec<f64> = (0..len(out)).map(|i| bias[i % outputs]).collect();
    upsample_products(shape, outputs, |i, w, o| output[o] += input[i] * weight[w]);
    output
}

/// Gradients of a transposed convolution's input and weight, from the gradient of its output.
pub fn upsample_gradients(
    input: &[f64],
    shape: Shape,
    weight: &[f64],
    output_gradient: &[f64],
    outputs: usize,
) -> (Vec<f64>, Vec<f64>) {
    let mut dx = vec![0.0; input.len()];
    let mut dw = vec![0.0; weight.len()];
    upsample_products(shape, outputs, |i, w, o| {
        dx[i] += output_gradient[o] * weight[w];
        dw[w] += output_gradient[o] * input[i];
    });
    (dx, dw)
}

/// `LeakyReLU`.
pub fn leaky_relu(values: &[f64], slope: f64) -> Vec<f64> {
    values
        .iter()
        .map(|&v| if v > 0.0 { v } else { v * slope })
        .collect()
}

/// For each output of a 2×2 max-pooling, the index of its input: the first maximum.
pub fn max_pool_indices(input: &[f64], shape: Shape) -> Vec<usize> {
    let mut indices = vec![];
    for n in 0..shape.n {
        for y in 0..shape.h / 2 {
            for x in 0..shape.w / 2 {
                for c in 0..shape.c {
                    let mut best = at(shape, n, 2 * y, 2 * x, c);
                    for (i, j) in [(0, 1), (1, 0), (1, 1)] {
                        let other = at(shape, n, 2 * y + i, 2 * x + j, c);
                        if input[other] > input[best] {
                            best = other;
                        }
                    }
                    indices.push(best);
                }
            }
        }
    }
    indices
}
