//! The training pass over the 1×1 convolutions at the end of a network: output, loss and gradients for a few pixels
//! at a time, so that only the sums of the gradients leave the cache. Run one after another, these layers would read
//! and write twelve tensors of the image's size.

use rayon::prelude::*;

use super::TapConv;
use super::gradient::OuterProducts;
use crate::Level;
use crate::arch::{Kernel, LANES, Simd, vector, vector_mut};
use crate::epilogue::Epilogue;
use crate::jobs::one_by_one;
use crate::tensor::Tensor;

/// Pixels that go through the layers together: their intermediate results and the sums fit in the L2 cache.
const PIXELS: usize = 64;
/// Maximum number of parts that the rows of a batch are divided into, whatever the number of threads; each part has
/// its own sums.
const PARTS: usize = 16;

/// A 1×1 layer, packed.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub forward: &'a TapConv,
    /// Maps the gradient of the layer's sums to that of its input.
    pub backward: &'a TapConv,
    /// The slope of the `LeakyReLU` after it, if any.
    pub slope: Option<f32>,
}

impl Layer<'_> {
    fn sizes(&self) -> (usize, usize) {
        self.forward.as_pointwise().expect("a 1×1 convolution")
    }

    fn width(&self) -> usize {
        self.forward.padded_outputs()
    }

    fn epilogue(&self) -> Epilogue<'static> {
        self.slope.map_or(Epilogue::Store, Epilogue::LeakyRelu)
    }
}

/// The gradients of a layer's parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// Of the weight, `[out, in]`.
    pub weight: Vec<f32>,
    /// Of the bias, `[out]`.
    pub bias: Vec<f32>,
}

/// The position of the first of some adjacent pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Its image.
    pub n: usize,
    /// Its row.
    pub y: usize,
    /// Its column.
    pub x: usize,
}

/// The sums over one part of the rows.
struct Part {
    /// For each layer, laid out as in [`OuterProducts`].
    weights: Vec<Vec<f32>>,
    biases: Vec<Vec<f64>>,
    losses: [f64; 2],
}

/// [`learn_chain`](crate::conv::learn_chain) on packed layers.
pub(crate) fn learn(
    level: Level,
    layers: &[Layer],
    pixels: &mut Tensor,
    before: f32,
    loss: impl Fn(Position, &mut [f32]) -> [f64; 2] + Sync,
) -> (Vec<Gradients>, [f64; 2]) {
    assert!(!layers.is_empty(), "a chain of at least one");
    let mut channels = pixels.shape().c;
    for layer in layers {
        let (inputs, outputs) = layer.sizes();
        assert_eq!(inputs, channels, "channels of a layer's input");
        let backward = layer.backward.as_pointwise();
        assert_eq!(backward, Some((outputs, inputs)), "a layer's gradient");
        channels = outputs;
    }
    assert!(before > 0.0, "slope before the layers");
    for layer in layers {
        layer.epilogue().check();
    }
    let stride = pixels.shape().pixel_stride();
    let rows: Vec<_> = pixels.rows_mut().collect();
    let count = rows.len();
    let parts = PARTS.min(count);
    let mut rows = rows.into_iter();
    let shares: Vec<Vec<_>> = (0..parts)
        .map(|part| {
            let share = count * part / parts..count * (part + 1) / parts;
            rows.by_ref().take(share.len()).collect()
        })
        .collect();
    let parts: Vec<Part> = one_by_one(shares.into_par_iter())
        .map(|rows| {
            let mut part = Part {
                weights: of_each(layers, |layer| vec![0.0; layer.sizes().0 * layer.width()]),
                biases: of_each(layers, |layer| vec![0.0; layer.width()]),
                losses: [0.0; 2],
            };
            let mut outputs = of_each(layers, |layer| vec![0.0; PIXELS * layer.width()]);
            // For each layer's output, preceded by the input of the first layer.
            let mut gradients = vec![vec![0.0; PIXELS * stride]];
            gradients.extend(outputs.iter().cloned());
            for (n, y, row) in rows {
                for (i, pixels) in row.chunks_mut(PIXELS * stride).enumerate() {
                    let losses = part.learn(
                        level,
                        layers,
                        (pixels, stride, before),
                        (&mut outputs, &mut gradients),
                        |outputs| {
                            let x = i * PIXELS;
                            loss(Position { n, y, x }, outputs)
                        },
                    );
                    part.losses[0] += losses[0];
                    part.losses[1] += losses[1];
                }
            }
            part
        })
        .collect();
    let gradients = layers.iter().enumerate().map(|(i, layer)| {
        let (inputs, outputs) = layer.sizes();
        let panel = level.widest() * LANES;
        let mut gradients = Gradients {
            weight: vec![0.0; inputs * outputs],
            bias: vec![0.0; outputs],
        };
        for o in 0..outputs {
            let first = o / panel * panel;
            let width = panel.min(layer.width() - first);
            for c in 0..inputs {
                let at = first * inputs + c * width + o - first;
                let sum = parts.iter().map(|part| part.weights[i][at]).sum();
                gradients.weight[o * inputs + c] = sum;
            }
            gradients.bias[o] = parts.iter().map(|part| part.biases[i][o]).sum::<f64>() as f32;
        }
        gradients
    });
    let sum = |k: usize| parts.iter().map(|part| part.losses[k]).sum();
    (gradients.collect(), [sum(0), sum(1)])
}

/// The result of `make` for each layer.
fn of_each<T>(layers: &[Layer], make: impl Fn(&Layer) -> T) -> Vec<T> {
    layers.iter().map(make).collect()
}

impl Part {
    /// Runs some pixels forward and backward through the layers.
    fn learn(
        &mut self,
        level: Level,
        layers: &[Layer],
        (pixels, stride, before): (&mut [f32], usize, f32),
        (outputs, gradients): (&mut [Vec<f32>], &mut [Vec<f32>]),
        loss: impl Fn(&mut [f32]) -> [f64; 2],
    ) -> [f64; 2] {
        let count = pixels.len() / stride;
        for (i, layer) in layers.iter().enumerate() {
            let (above, here) = outputs.split_at_mut(i);
            let (from, stride) = match above.last() {
                None => (&*pixels, stride),
                Some(above) => (above.as_slice(), layers[i - 1].width()),
            };
            let (to, after) = (&mut here[0], layer.epilogue());
            layer
                .forward
                .run_pixels(level, from, stride, count, to, after);
        }
        let (last, above) = layers.split_last().expect("checked by `learn`");
        let size = count * last.width();
        let gradient = &mut gradients[layers.len()][..size];
        gradient.copy_from_slice(&outputs[above.len()][..size]);
        let losses = loss(gradient);
        for (i, layer) in layers.iter().enumerate().rev() {
            let width = layer.width();
            let (above, here) = gradients.split_at_mut(i + 1);
            let dy = &mut here[0][..count * width];
            if let Some(slope) = layer.slope {
                level.run(LeakyReluGradient {
                    gradient: dy,
                    of: &outputs[i],
                    slope,
                });
            }
            let (x, x_stride) = match i.checked_sub(1) {
                None => (&*pixels, stride),
                Some(i) => (outputs[i].as_slice(), layers[i].width()),
            };
            level.run(OuterProducts {
                x,
                x_stride,
                channels: layer.sizes().0,
                dy,
                vectors: width / LANES,
                count,
                sums: &mut self.weights[i],
            });
            level.run(Sum {
                pixels: dy,
                to: &mut self.biases[i],
            });
            let to = &mut above[i];
            layer
                .backward
                .run_pixels(level, dy, width, count, to, Epilogue::Store);
        }
        let gradient = &mut gradients[0][..pixels.len()];
        level.run(LeakyReluGradient {
            gradient,
            of: pixels,
            slope: before,
        });
        pixels.copy_from_slice(gradient);
        losses
    }
}

/// Multiplies a gradient by the slope of the `LeakyReLU` whose output was `of`.
struct LeakyReluGradient<'a> {
    gradient: &'a mut [f32],
    of: &'a [f32],
    slope: f32,
}

impl Kernel for LeakyReluGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let slope = simd.splat(self.slope);
        for at in (0..self.gradient.len()).step_by(LANES) {
            let of = simd.load(vector(self.of, at));
            let to = vector_mut(self.gradient, at);
            let gradient = simd.load(to);
            simd.store(
                simd.where_positive(of, gradient, simd.mul(gradient, slope)),
                to,
            );
        }
    }
}

/// Adds some pixels to the sums: first to each other in f32, then to the totals in f64.
struct Sum<'a> {
    pixels: &'a [f32],
    to: &'a mut [f64],
}

impl Kernel for Sum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.to.len();
        for (i, to) in self.to.chunks_exact_mut(LANES).enumerate() {
            let mut sum = simd.splat(0.0);
            for pixel in self.pixels.chunks_exact(width) {
                sum = simd.add(sum, simd.load(vector(pixel, i * LANES)));
            }
            let mut lanes = [0.0; LANES];
            simd.store(sum, &mut lanes);
            for lane in 0..LANES {
                to[lane] += f64::from(lanes[lane]);
            }
        }
    }
}
