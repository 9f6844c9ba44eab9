//! A variance-stabilizing transform, learned from noisy images alone, with which a network for Gaussian noise of one
//! level can denoise images whose noise grows with the signal.
//!
//! The method is that of Herbreteau and Unser, *Self-Calibrated Variance-Stabilizing Transformations for Real-World
//! Image Denoising*, ICCV 2025. The unchanged network is placed between an increasing function and its inverse. Some
//! pixels are replaced with the mean of their four neighbors, and the output there is compared with the noisy pixels.
//! Their noise is independent of the network's input, so the transform with the lowest mean squared difference also has
//! the lowest error.

use rand::{Rng, RngExt};

use super::candidate::{Line, around};
use super::clock::Clock;
use super::held_out::HeldOut;
use super::spline::{Curve, Spline};
use crate::batch::Batch;
use crate::cpu::CpuNetwork;
use crate::denoise::{Scale, Transform};
use crate::dihedral::Dihedral;
use crate::error::Result;
use crate::reflect::reflected;
use crate::train::dataset::Dataset;
use crate::train::random::{Purpose, stream};
use crate::train::spacing::Spacing;

/// Knots of the function.
const KNOTS: usize = 128;
/// Patches per step, and their side in pixels, rounded up to the network's grid.
const PATCHES: usize = 4;
const SIDE: usize = 64;
/// Distance between the pixels that are compared in one step, along either axis.
const STRIDE: usize = 4;
/// The initial learning rate; a tenth of it after one third of the steps, a hundredth after two thirds.
const RATE: f64 = 1e-2;

/// Learns a transform on `images`, whose values `scale` maps to the network's, starting from a straight line. `None` if
/// the gradient or the transform becomes invalid.
pub(super) fn learn(
    network: &mut CpuNetwork,
    (images, spacing): (&Dataset, Spacing),
    scale: Scale,
    line: Line,
    seed: u64,
    held_out: &HeldOut,
    clock: &mut Clock,
) -> Result<Option<Transform>> {
    let values = values(images, scale);
    let mut spline = Spline::linear(KNOTS, values, (line.slope, line.offset));
    let mut adam = Adam::new(spline.parameters().len());
    let side = network.architecture().grid().up(SIDE);
    for step in 0.. {
        let Some(passed) = clock.tick()? else { break };
        if let Ok(transform) = spline.transform() {
            clock.plot(passed, || {
                held_out.quick_loss(&mut *around(network, &transform))
            })?;
        }
        let (batch, mask) = draw(images, (spacing, side), seed, step)?;
        let loss = |seen: &Batch, of_output: &mut (dyn FnMut(&Batch) -> Batch + Send)| {
            network.image_gradient(seen, of_output)
        };
        let gradient = gradient(&spline, &batch, &mask, loss)?;
        if !gradient.iter().all(|value| value.is_finite()) {
            return Ok(None);
        }
        let rate = RATE * 0.1_f64.powi((3.0 * passed) as i32);
        adam.step(spline.parameters(), &gradient, rate);
    }
    Ok(spline.transform().ok())
}

/// The values between which the transform has its knots: the lowest and the highest that occur, as the network sees them.
fn values(images: &Dataset, scale: Scale) -> (f64, f64) {
    let (low, high) = images
        .survey()
        .extremes()
        .unwrap_or((scale.low, scale.high));
    let [low, high] = [low, high].map(|value| f64::from(scale.to_network(value)));
    (low, high.max(low + 1e-3))
}

/// The pixels that are compared: every [`STRIDE`]-th from a given row and column, in one channel or in all.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mask {
    top: usize,
    left: usize,
    channel: Option<usize>,
}

impl Mask {
    /// The indices of values that are compared.
    fn indices(self, batch: &Batch) -> impl Iterator<Item = usize> {
        let &Batch { n, h, w, c, .. } = batch;
        let rows = (0..n).flat_map(move |i| (self.top..h).step_by(STRIDE).map(move |y| i * h + y));
        let pixels = rows.flat_map(move |row| {
            let columns = (self.left..w).step_by(STRIDE);
            columns.map(move |x| row * w + x)
        });
        pixels.flat_map(move |pixel| {
            let channels = self.channel.map_or(0..c, |channel| channel..channel + 1);
            channels.map(move |channel| pixel * c + channel)
        })
    }
}

/// The patches of a step, and its mask.
fn draw(
    images: &Dataset,
    (spacing, side): (Spacing, usize),
    seed: u64,
    step: usize,
) -> Result<(Batch, Mask)> {
    let mut rng = stream(seed, Purpose::Adapt, 0, step);
    let c = images.channels();
    let mut batch = Batch::zeros(PATCHES, side, side, c);
    let [height, width] = spacing.part(side);
    for patch in 0..PATCHES {
        let image = images.image(rng.random_range(0..images.len()))?;
        let top = rng.random_range(0..=image.height().saturating_sub(height));
        let left = rng.random_range(0..=image.width().saturating_sub(width));
        let mut cut = vec![0.0; side * side * c];
        spacing.cut([side; 2], c, &mut cut, |large, out| {
            image.crop(top, left, large, out);
        });
        let turn = Dihedral(rng.random_range(0..8));
        (batch.image_mut(patch)).copy_from_slice(&turn.apply(&cut, (side, side)));
    }
    let mask = mask(&batch, &mut rng);
    Ok((batch, mask))
}

fn mask(batch: &Batch, rng: &mut impl Rng) -> Mask {
    let (top, left) = (rng.random_range(0..STRIDE), rng.random_range(0..STRIDE));
    let channel = rng.random_range(0..batch.c);
    // Gray pixels in a color network have the same noise in every channel.
    let gray = |pixel: &[f32]| pixel.iter().all(|&value| value == pixel[0]);
    let is_gray = batch.data.chunks_exact(batch.c).all(gray);
    Mask {
        top,
        left,
        channel: (!is_gray).then_some(channel),
    }
}

/// The gradient of the loss with respect to the parameters of the function. `network` returns the gradient with respect
/// to the network's input, given a function that returns the gradient with respect to its output.
fn gradient(
    spline: &Spline,
    batch: &Batch,
    mask: &Mask,
    mut network: impl FnMut(&Batch, &mut (dyn FnMut(&Batch) -> Batch + Send)) -> Result<Batch>,
) -> Result<Vec<f64>> {
    let curve = spline.curve();
    let mut of_values = vec![0.0; KNOTS];
    let mut of_line = [0.0; 2];
    let seen = seen(&curve, batch, mask);
    let mut of_output = |output: &Batch| {
        let count = mask.indices(batch).count() as f64;
        let mut gradient = Batch::zeros(output.n, output.h, output.w, output.c);
        for i in mask.indices(batch) {
            let given = f64::from(output.data[i]);
            let back = curve.back(given);
            let slope = 2.0 * (back.value - f64::from(batch.data[i])) / count;
            gradient.data[i] = (slope * back.slope) as f32;
            of_values[back.knot] += slope * back.of_values[0];
            of_values[back.knot + 1] += slope * back.of_values[1];
            of_line[0] += slope * given;
            of_line[1] += slope;
        }
        gradient
    };
    let mut of_seen = network(&seen, &mut of_output)?;
    // The network's input at a compared pixel was the mean of its neighbors.
    for i in mask.indices(batch) {
        let share = std::mem::take(&mut of_seen.data[i]) / 4.0;
        for neighbor in neighbors(batch, i) {
            of_seen.data[neighbor] += share;
        }
    }
    for (&of_seen, &value) in of_seen.data.iter().zip(&batch.data) {
        let (_, i, t) = curve.at(f64::from(value));
        of_values[i] += f64::from(of_seen) * (1.0 - t);
        of_values[i + 1] += f64::from(of_seen) * t;
    }
    Ok(spline.gradient(&of_values, of_line))
}

/// The network's input for a batch.
fn seen(curve: &Curve, batch: &Batch, mask: &Mask) -> Batch {
    let values = batch.data.iter();
    let values = values.map(|&value| curve.at(f64::from(value)).0 as f32);
    let mut seen = Batch {
        data: values.collect(),
        ..*batch
    };
    // No two of them are neighbors.
    for i in mask.indices(batch) {
        let around = neighbors(batch, i).map(|neighbor| seen.data[neighbor]);
        seen.data[i] = around.iter().sum::<f32>() / 4.0;
    }
    seen
}

/// The values above, below, left and right of one, reflected at the edges.
fn neighbors(batch: &Batch, i: usize) -> [usize; 4] {
    let &Batch { h, w, c, .. } = batch;
    let (pixel, channel) = (i / c, i % c);
    let (row, x) = (pixel / w, pixel % w);
    let (image, y) = (row / h, row % h);
    let at = |y: usize, x: usize| ((image * h + y) * w + x) * c + channel;
    let before = |x: usize| if x == 0 { 1 } else { x - 1 };
    [
        at(before(y), x),
        at(reflected(y + 1, h), x),
        at(y, before(x)),
        at(y, reflected(x + 1, w)),
    ]
}

/// Adam (Kingma and Ba, 2015) on a few parameters, in f64.
struct Adam {
    first: Vec<f64>,
    second: Vec<f64>,
    steps: i32,
}

impl Adam {
    fn new(parameters: usize) -> Self {
        Self {
            first: vec![0.0; parameters],
            second: vec![0.0; parameters],
            steps: 0,
        }
    }

    fn step(&mut self, parameters: &mut [f64], gradient: &[f64], rate: f64) {
        const BETA: [f64; 2] = [0.9, 0.999];
        self.steps += 1;
        let unbiased = BETA.map(|beta| 1.0 / (1.0 - beta.powi(self.steps)));
        for (i, parameter) in parameters.iter_mut().enumerate() {
            let (first, second) = (&mut self.first[i], &mut self.second[i]);
            *first += (1.0 - BETA[0]) * (gradient[i] - *first);
            *second += (1.0 - BETA[1]) * (gradient[i].powi(2) - *second);
            let scale = (*second * unbiased[1]).sqrt() + 1e-8;
            *parameter -= rate * *first * unbiased[0] / scale;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unet::UNet;

    fn batch(c: usize) -> Batch {
        let mut state = 1_u32;
        let mut batch = Batch::zeros(2, 32, 32, c);
        batch.data.fill_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        });
        batch
    }

    const ONE: Mask = Mask {
        top: 3,
        left: 0,
        channel: Some(1),
    };
    const ALL: Mask = Mask {
        top: 0,
        left: 3,
        channel: None,
    };

    #[test]
    fn a_pixel_that_is_compared_is_not_seen() {
        let curve = Spline::linear(KNOTS, (0.0, 1.0), (2.0, 0.5)).curve();
        for mask in [ONE, ALL] {
            let batch = batch(3);
            let mut other = batch.clone();
            let mut compared = 0;
            for i in mask.indices(&batch) {
                other.data[i] += 0.3;
                compared += 1;
            }
            let channels = if mask.channel.is_some() { 1 } else { 3 };
            assert_eq!(compared, 2 * 8 * 8 * channels);
            assert_eq!(seen(&curve, &batch, &mask), seen(&curve, &other, &mask));
        }
    }

    #[test]
    fn gray_in_a_color_network_is_hidden_in_every_channel() {
        let mut rng = stream(1, Purpose::Adapt, 0, 0);
        let mut gray = batch(3);
        assert!(mask(&gray, &mut rng).channel.is_some());
        for pixel in gray.data.chunks_exact_mut(3) {
            pixel.fill(pixel[0]);
        }
        assert_eq!(mask(&gray, &mut rng).channel, None);
    }

    /// On a network that is a filter, whose gradient is the flipped filter.
    #[test]
    fn the_gradient_is_what_differences_of_the_loss_say() {
        let batch = batch(3);
        let c = batch.c;
        // Half of a pixel plus half of the pixel to its right.
        let filter = |x: &Batch| {
            let mut y = x.clone();
            for (i, value) in y.data.iter_mut().enumerate() {
                let right = if i / c % x.w + 1 < x.w {
                    x.data[i + c]
                } else {
                    0.0
                };
                *value = 0.5 * x.data[i] + 0.5 * right;
            }
            y
        };
        let transposed = |g: &Batch| {
            let mut x = g.clone();
            for (i, value) in x.data.iter_mut().enumerate() {
                let left = if (i / c).is_multiple_of(g.w) {
                    0.0
                } else {
                    g.data[i - c]
                };
                *value = 0.5 * g.data[i] + 0.5 * left;
            }
            x
        };
        let start = || {
            let mut spline = Spline::linear(KNOTS, (0.1, 0.9), (0.9, 0.05));
            for (i, parameter) in spline.parameters().iter_mut().enumerate() {
                *parameter += 0.02 * ((i * 7 % 5) as f64 - 2.0);
            }
            spline
        };
        for mask in [ONE, ALL] {
            let spline = start();
            let got = gradient(&spline, &batch, &mask, |seen, of_output| {
                Ok(transposed(&of_output(&filter(seen))))
            })
            .unwrap();
            let loss = |spline: &Spline| {
                let curve = spline.curve();
                let output = filter(&seen(&curve, &batch, &mask));
                let errors = mask.indices(&batch).map(|i| {
                    let error = curve.back(f64::from(output.data[i])).value;
                    (error - f64::from(batch.data[i])).powi(2)
                });
                let errors: Vec<f64> = errors.collect();
                errors.iter().sum::<f64>() / errors.len() as f64
            };
            // The first value, rises in the middle, the line.
            for k in [0, 20, 64, 100, KNOTS, KNOTS + 1] {
                let step = 1e-3;
                let moved = |by: f64| {
                    let mut spline = start();
                    spline.parameters()[k] += by;
                    loss(&spline)
                };
                let want = (moved(step) - moved(-step)) / (2.0 * step);
                let size = got.iter().map(|g| g.abs()).fold(0.0, f64::max);
                // Outputs in f32 and kinks of the spline.
                let near = (got[k] - want).abs() < 2e-2 * want.abs() + 1e-4 * size;
                assert!(near, "{mask:?}, parameter {k}: {} {want}", got[k]);
            }
        }
    }

    /// A network of random weights: only the function before it is learned.
    #[test]
    fn a_step_along_the_gradient_lowers_the_loss_of_a_network() {
        let unet = UNet::new(4, 1).unwrap();
        let mut network = CpuNetwork::initial_scaled(unet, 1.0, 1);
        let batch = batch(1);
        let mask = Mask {
            top: 1,
            left: 2,
            channel: None,
        };
        let mut spline = Spline::linear(KNOTS, (0.0, 1.0), (1.0, 0.0));
        let mut losses = vec![];
        let mut adam = Adam::new(KNOTS + 2);
        for _ in 0..8 {
            let curve = spline.curve();
            let gradient = gradient(&spline, &batch, &mask, |seen, of_output| {
                network.image_gradient(seen, |output| {
                    let errors = mask.indices(&batch).map(|i| {
                        let value = curve.back(f64::from(output.data[i])).value;
                        (value - f64::from(batch.data[i])).powi(2)
                    });
                    losses.push(errors.sum::<f64>());
                    of_output(output)
                })
            });
            adam.step(spline.parameters(), &gradient.unwrap(), RATE);
        }
        assert!(
            losses.windows(2).all(|pair| pair[1] < pair[0]),
            "{losses:?}"
        );
    }
}
