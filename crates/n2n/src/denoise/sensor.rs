//! Raw camera samples through a network that was trained on photographs with Gaussian noise.
//!
//! A sensor's samples are proportional to the light, and its noise grows with the light. The generalized Anscombe
//! transform gives the noise the same standard deviation at every signal. It is close to a square root, so its values
//! also resemble the photographs that networks are trained on. The network's result is transformed back with the
//! unbiased inverse (M. Mäkitalo and A. Foi, "Optimal inversion of the generalized Anscombe transformation for
//! Poisson-Gaussian noise", IEEE TIP 22, 2013).
//!
//! The four samples of a mosaic cell lie next to each other, unlike the colors of a photograph's pixel, and most raw
//! photographs have less noise than the training images: both make a network remove detail. Because the noise is known,
//! this can be detected: where the network removed more than the noise, the change is scaled down by the factor with
//! the smallest mean squared error.

use rayon::prelude::*;

use super::Scale;
use crate::diagnose::{self, diagnose};
use crate::error::Result;
use crate::image::{Depth, Image, Page, Pages, Response, Sensor};

/// The black and white levels of all channels together.
pub(crate) fn scale(sensor: &Sensor) -> Scale {
    let responses = sensor.responses.iter();
    let black = responses.clone().map(|response| response.black);
    let white = responses.map(|response| response.white);
    Scale {
        low: black.fold(f32::INFINITY, f32::min),
        high: white.fold(f32::NEG_INFINITY, f32::max),
        is_limit: false,
    }
}

/// Reads the current page of `pages`, and returns its samples before and after denoising. `network` denoises the
/// channels of one of the `groups`, prepared as an image whose noise does not depend on the signal.
pub(super) fn denoise(
    page: &Page,
    sensor: &Sensor,
    groups: &[Vec<usize>],
    pages: &mut dyn Pages,
    strength: f32,
    mut network: impl FnMut(&Image) -> Result<Vec<f32>>,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let channels = sensor.responses.len();
    let mut noisy = Vec::new();
    pages.read_rows(page.height, &mut noisy)?;
    let planes: Vec<Vec<f32>> = (0..channels)
        .map(|channel| {
            noisy
                .iter()
                .skip(channel)
                .step_by(channels)
                .copied()
                .collect()
        })
        .collect();
    let curves: Vec<Curve> = (planes.iter().zip(&sensor.responses))
        .map(|(plane, response)| Curve::of(*response, plane, page))
        .collect();
    let stable: Vec<Vec<f32>> = (planes.par_iter().zip(&curves))
        .map(|(plane, curve)| plane.iter().map(|&x| curve.stable(x)).collect())
        .collect();

    let mut sums = vec![vec![0.0_f32; page.height * page.width]; channels];
    let mut counts = vec![0_u8; channels];
    for group in groups {
        let result = network(&together(page, &stable, group))?;
        for (i, &channel) in group.iter().enumerate() {
            counts[channel] += 1;
            let result = result.iter().skip(i).step_by(group.len());
            for (sum, result) in sums[channel].iter_mut().zip(result) {
                *sum += result;
            }
        }
    }

    let mut denoised = noisy.clone();
    for (channel, mut result) in sums.into_iter().enumerate() {
        let curve = &curves[channel];
        let count = f32::from(counts[channel].max(1));
        for value in &mut result {
            *value /= count;
        }
        if let Some(sigma) = curve.sigma() {
            keep_detail(&stable[channel], &mut result, page.width, sigma);
        }
        let pixels = denoised.par_chunks_exact_mut(channels);
        pixels.zip(result).for_each(|(pixel, value)| {
            let from = pixel[channel];
            let value = curve.sample(value);
            if strength > 0.0 && from.is_finite() && value.is_finite() {
                pixel[channel] = from + strength * (value - from);
            }
        });
    }
    Ok((noisy, denoised))
}

/// The channels that go into the network together. A channel in several groups becomes the mean of their results.
pub(super) fn groups(sensor: &Sensor, taken: usize) -> Vec<Vec<usize>> {
    let channels = sensor.responses.len();
    let places = |color: u8| {
        let colors = sensor.colors.iter().flatten().enumerate();
        colors
            .filter(move |&(_, &other)| other == color)
            .map(|(place, _)| place)
    };
    if let (3, [red], [green, other_green], [blue]) = (
        taken,
        &places(0).collect::<Vec<_>>()[..],
        &places(1).collect::<Vec<_>>()[..],
        &places(2).collect::<Vec<_>>()[..],
    ) {
        return vec![vec![*red, *green, *blue], vec![*red, *other_green, *blue]];
    }
    if taken == channels {
        return vec![(0..channels).collect()];
    }
    (0..channels).map(|channel| vec![channel]).collect()
}

/// Some planes as one image.
fn together(page: &Page, planes: &[Vec<f32>], group: &[usize]) -> Image {
    let pixels = 0..page.height * page.width;
    Image {
        height: page.height,
        width: page.width,
        channels: group.len(),
        data: pixels
            .flat_map(|i| group.iter().map(move |&channel| planes[channel][i]))
            .collect(),
        depth: Depth::F32,
    }
}

/// Maps samples to values with constant noise, where black is 0 and white is 1, and back.
#[derive(Debug, Clone, Copy)]
struct Curve {
    black: f64,
    span: f64,
    /// The variance of the noise, `a · x + b` at the signal x. Without it, the curve is a line.
    noise: Option<(f64, f64)>,
    /// The unscaled values at black and at white.
    ends: (f64, f64),
}

impl Curve {
    /// Uses the noise that the file states, or else measures it in the plane.
    fn of(response: Response, plane: &[f32], page: &Page) -> Self {
        let (black, white) = (f64::from(response.black), f64::from(response.white));
        let mut curve = Self {
            black,
            span: white - black,
            noise: None,
            ends: (0.0, 1.0),
        };
        let stated = response.noise.map(|[a, b]| (f64::from(a), f64::from(b)));
        if let Some(noise) = stated.or_else(|| curve.measured(plane, page)) {
            curve.noise = Some(noise);
            curve.ends = (stabilized(0.0, noise), stabilized(1.0, noise));
        }
        curve
    }

    /// The noise of a plane, measured by photon transfer.
    fn measured(&self, plane: &[f32], page: &Page) -> Option<(f64, f64)> {
        let frame = diagnose::Frame {
            height: page.height,
            width: page.width,
            channels: 1,
            data: plane.iter().map(|&x| self.signal(x) as f32).collect(),
        };
        let options = diagnose::Options {
            offset: Some(0.0),
            ..diagnose::Options::quick()
        };
        let found = diagnose(&[frame.middle(2048, 2048)], &options).ok()?;
        let transfer = found.noise.first()?;
        let noise = (transfer.slope.max(0.0), transfer.intercept.max(0.0));
        let is_noise = noise.0 + noise.1 > 1e-12 && (noise.0 + noise.1).is_finite();
        is_noise.then_some(noise)
    }

    fn signal(&self, sample: f32) -> f64 {
        (f64::from(sample) - self.black) / self.span
    }

    fn stable(&self, sample: f32) -> f32 {
        let signal = self.signal(sample);
        let value = self.noise.map_or(signal, |noise| stabilized(signal, noise));
        ((value - self.ends.0) / (self.ends.1 - self.ends.0)) as f32
    }

    fn sample(&self, value: f32) -> f32 {
        let value = self.ends.0 + f64::from(value) * (self.ends.1 - self.ends.0);
        let signal = self.noise.map_or(value, |noise| restored(value, noise));
        (self.black + self.span * signal) as f32
    }

    /// The standard deviation of the noise on the network's scale.
    fn sigma(&self) -> Option<f32> {
        self.noise
            .map(|_| (1.0 / (self.ends.1 - self.ends.0)) as f32)
    }
}

/// The generalized Anscombe transform of a signal whose noise has the variance `a · x + b`: a value whose
/// noise has the variance 1.
fn stabilized(signal: f64, (a, b): (f64, f64)) -> f64 {
    if a == 0.0 {
        return signal / b.sqrt();
    }
    2.0 / a * (a * signal + 0.375 * a * a + b).max(0.0).sqrt()
}

/// Its unbiased inverse in closed form: the signal whose stabilized values have this mean.
fn restored(value: f64, (a, b): (f64, f64)) -> f64 {
    if a == 0.0 {
        return value * b.sqrt();
    }
    let d = value.max(2.0 * 0.375_f64.sqrt());
    let root = 1.5_f64.sqrt();
    let photons = d * d / 4.0 + root / 4.0 / d - 11.0 / 8.0 / (d * d) + 0.625 * root / (d * d * d)
        - 0.125
        - b / (a * a);
    a * photons
}

/// Where a network has removed more than noise of the standard deviation `sigma`, restores some of it. If r² is the
/// mean square of what was removed over 7×7 pixels, r² − σ² of that was image, and scaling the change by σ² / r² gives
/// the smallest mean squared error.
fn keep_detail(noisy: &[f32], denoised: &mut [f32], width: usize, sigma: f32) {
    let removed: Vec<f32> = (denoised.iter().zip(noisy))
        .map(|(denoised, noisy)| match denoised - noisy {
            change if change.is_finite() => change * change,
            _ => 0.0,
        })
        .collect();
    let energy = local_mean(&removed, width);
    let changes = denoised.par_iter_mut().zip(noisy.par_iter().zip(energy));
    changes.for_each(|(value, (&noisy, energy))| {
        if energy > sigma * sigma {
            *value = noisy + (*value - noisy) * sigma * sigma / energy;
        }
    });
}

/// The mean over the 7×7 pixels around each, fewer at the edges.
fn local_mean(plane: &[f32], width: usize) -> Vec<f32> {
    const REACH: usize = 3;
    let around = |at: usize, side: usize| at.saturating_sub(REACH)..(at + REACH + 1).min(side);
    let height = plane.len() / width;
    let mut across = vec![0.0; plane.len()];
    let rows = across
        .par_chunks_exact_mut(width)
        .zip(plane.par_chunks_exact(width));
    rows.for_each(|(to, from)| {
        for (x, to) in to.iter_mut().enumerate() {
            let part = &from[around(x, width)];
            *to = part.iter().sum::<f32>() / part.len() as f32;
        }
    });
    let mut mean = vec![0.0; plane.len()];
    mean.par_chunks_exact_mut(width)
        .enumerate()
        .for_each(|(y, to)| {
            let rows = around(y, height);
            let count = rows.len() as f32;
            for y in rows {
                for (to, from) in to.iter_mut().zip(&across[y * width..][..width]) {
                    *to += from / count;
                }
            }
        });
    mean
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::OfImage;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Normal, Poisson};

    const NOISE: (f64, f64) = (0.01, 2e-4);

    /// A signal as a sensor measures it.
    fn measured(signal: f64, rng: &mut impl Rng) -> f64 {
        let (a, b) = NOISE;
        let photons = if signal > 0.0 {
            Poisson::new(signal / a).unwrap().sample(rng)
        } else {
            0.0
        };
        photons * a + Normal::new(0.0, b.sqrt()).unwrap().sample(rng)
    }

    #[test]
    fn every_signal_has_the_same_noise_and_comes_back_without_bias() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        for signal in [0.05, 0.1, 0.4, 0.9] {
            let values: Vec<f64> = (0..40_000)
                .map(|_| stabilized(measured(signal, &mut rng), NOISE))
                .collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
            let deviation = (variance / values.len() as f64).sqrt();
            assert!((deviation - 1.0).abs() < 0.03, "{deviation} at {signal}");
            let back = restored(mean, NOISE);
            assert!((back - signal).abs() < 1.5e-3, "{back}, not {signal}");
        }
    }

    #[test]
    fn the_mean_of_a_neighborhood_is_that_of_loops() {
        let (h, w) = (9, 11);
        let plane: Vec<f32> = (0..h * w).map(|i| (i * 7919 % 101) as f32).collect();
        let mean = local_mean(&plane, w);
        for y in 0..h {
            for x in 0..w {
                let (mut sum, mut count) = (0.0, 0.0);
                for v in y.saturating_sub(3)..(y + 4).min(h) {
                    for u in x.saturating_sub(3)..(x + 4).min(w) {
                        sum += f64::from(plane[v * w + u]);
                        count += 1.0;
                    }
                }
                assert!((f64::from(mean[y * w + x]) - sum / count).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn noise_is_removed_and_detail_is_not() {
        let (w, sigma) = (64_usize, 0.1_f32);
        // A network that makes everything flat: on the left that is noise, on the right an image.
        let noisy: Vec<f32> = (0..w * w)
            .map(|i| {
                let sign = if (i / w + i % w).is_multiple_of(2) {
                    1.0
                } else {
                    -1.0
                };
                0.5 + sign * if i % w < w / 2 { sigma } else { 4.0 * sigma }
            })
            .collect();
        let mut denoised = vec![0.5; w * w];
        keep_detail(&noisy, &mut denoised, w, sigma);
        for y in 0..w {
            assert!((denoised[y * w] - 0.5).abs() < 1e-4);
            let (from, to) = (noisy[y * w + w - 1] - 0.5, denoised[y * w + w - 1] - 0.5);
            assert!((to / from - 15.0 / 16.0).abs() < 1e-3, "{to} of {from}");
        }
    }

    #[test]
    fn green_goes_with_red_and_blue_and_other_colors_go_alone() {
        let response = Response {
            black: 0.0,
            white: 1.0,
            noise: None,
        };
        let sensor = |colors, channels| Sensor {
            responses: vec![response; channels],
            colors,
        };
        let mosaic = sensor(Some([1, 2, 0, 1]), 4);
        assert_eq!(groups(&mosaic, 3), [[2, 0, 1], [2, 3, 1]]);
        assert_eq!(groups(&mosaic, 4), [[0, 1, 2, 3]]);
        assert_eq!(groups(&mosaic, 1).len(), 4);
        assert_eq!(groups(&sensor(Some([3, 1, 4, 5]), 4), 3).len(), 4);
        assert_eq!(groups(&sensor(None, 3), 3), [[0, 1, 2]]);
    }

    #[test]
    fn a_profile_that_is_missing_is_measured() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let (h, w) = (256, 256);
        // Steps from dark to bright.
        let plane: Vec<f32> = (0..h * w)
            .map(|i| 0.1 + 0.5 * measured(0.05 + 0.1 * (i % w / 32) as f64, &mut rng) as f32)
            .collect();
        let image = Image::from_f32(h, w, 1, plane.clone()).unwrap();
        let page = OfImage::new(&image).next_page().unwrap().unwrap();
        let response = Response {
            black: 0.1,
            white: 0.6,
            noise: None,
        };
        let curve = Curve::of(response, &plane, &page);
        let (a, b) = curve.noise.unwrap();
        let variance = |a: f64, b: f64| a * 0.4 + b;
        let ratio = variance(a, b) / variance(NOISE.0, NOISE.1);
        assert!((0.8..1.25).contains(&ratio), "{a} and {b}");
    }
}
