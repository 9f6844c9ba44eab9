//! The mean squared error of a denoised image, estimated without the clean one.
//!
//! The loss on half-size images says little about how well a network denoises images at their own scale: with few
//! images, it keeps falling after the results have begun to get worse. Stein's unbiased risk estimate (Stein, 1981)
//! needs the variance of the noise instead, which photon transfer measures. For independent noise of variance σ², the
//! mean of `(f(y) − y)² − σ² + 2 σ² ∂f(y)/∂y` over the pixels has the same expected value as the mean squared error of
//! `f(y)`: exactly for Gaussian noise, and closely for that of cameras, whose variance is linear in the signal. σ² is
//! evaluated at the noisy values, whose mean is the signal. The derivatives follow from the network's response to one
//! random perturbation (Ramani, Blu and Unser, 2008).

use rand::Rng;

use crate::batch::Batch;
use crate::denoise::ModelRange;
use crate::diagnose::{Diagnosis, Finding};
use crate::error::Result;
use crate::network::Denoise;
use crate::train::spacing::Spacing;

/// The perturbation's size, in standard deviations of the noise at the median signal.
const STEP: f64 = 0.1;
/// Correlations between neighbors below this hardly change which network the estimate prefers.
const INDEPENDENT: f64 = 0.1;
/// The fraction of saturated samples at or above which no estimate is made.
const SATURATED: f64 = 0.01;

/// The variance of the noise in each channel, in the network's units.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseVariance(Vec<Line>);

#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    slope: f64,
    intercept: f64,
    /// The variance at the median signal.
    middle: f64,
}

impl Line {
    fn at(self, value: f64) -> f64 {
        self.slope * value + self.intercept
    }
}

impl NoiseVariance {
    /// The variance that was measured on images whose `range` maps to 0 to 1; `None` if the noise is not independent at
    /// this spacing, or if a finding says that its variance is not linear in the signal or could not be measured well.
    pub fn measured(diagnosis: &Diagnosis, range: ModelRange, spacing: Spacing) -> Option<Self> {
        let correlation = diagnosis.correlation.as_ref()?;
        let [x, y] = correlation.independent_at(INDEPENDENT);
        if x? > spacing.x || y? > spacing.y {
            return None;
        }
        let unsuitable = |finding: &Finding| {
            matches!(
                finding,
                Finding::NothingMeasured
                    | Finding::FewFlatWindows { .. }
                    | Finding::Texture
                    | Finding::Processed
                    | Finding::Demosaiced { .. }
                    | Finding::Mosaic { .. }
                    | Finding::JpegBlocks { .. }
                    | Finding::ChannelsCorrelated { .. }
                    | Finding::Clipped { .. }
                    | Finding::Lines { .. }
            ) || matches!(finding, Finding::Saturated { fraction, .. } if *fraction >= SATURATED)
        };
        if diagnosis.findings().iter().any(unsuitable)
            || diagnosis.noise.len() != diagnosis.channels
        {
            return None;
        }
        let (low, span) = (f64::from(range.low), f64::from(range.high - range.low));
        let lines = diagnosis.noise.iter().map(|noise| {
            let [_, middle, _] = noise.levels;
            Line {
                slope: noise.slope / span,
                intercept: (noise.slope * low + noise.intercept) / span.powi(2),
                middle: (middle.noise / span).powi(2),
            }
        });
        Some(Self(lines.collect()))
    }

    /// Estimates the mean squared error of `denoised`, the network's result for the image `noisy`.
    pub fn risk(
        &self,
        network: &mut dyn Denoise,
        noisy: &Batch,
        denoised: &Batch,
        rng: &mut impl Rng,
    ) -> Result<f64> {
        let errors = self.prediction_errors(network, noisy, denoised, rng)?;
        let errors = errors.iter().zip(self.variances(noisy));
        let count = noisy.data.len().max(1) as f64;
        Ok(errors
            .map(|(error, variance)| error - variance)
            .sum::<f64>()
            / count)
    }

    /// Estimates, for each value of `denoised`, its squared difference from another noisy image of the same scene: the
    /// sum of the squared error and the variance of the noise (Efron, 2004).
    pub fn prediction_errors(
        &self,
        network: &mut dyn Denoise,
        noisy: &Batch,
        denoised: &Batch,
        rng: &mut impl Rng,
    ) -> Result<Vec<f64>> {
        let middle = self.0.iter().map(|line| line.middle).sum::<f64>() / self.0.len() as f64;
        let step = STEP * middle.sqrt();
        let mut bytes = vec![0; noisy.data.len()];
        rng.fill_bytes(&mut bytes);
        let sign = |byte: u8| if byte & 1 == 0 { 1.0 } else { -1.0 };
        let mut perturbed = noisy.clone();
        for (value, &byte) in perturbed.data.iter_mut().zip(&bytes) {
            *value += (step * sign(byte)) as f32;
        }
        let response = network.denoise(&perturbed)?;
        let errors = self.variances(noisy).enumerate().map(|(i, variance)| {
            let [y, f, g] = [noisy, denoised, &response].map(|batch| f64::from(batch.data[i]));
            let derivative = sign(bytes[i]) * (g - f) / step;
            (f - y).powi(2) + 2.0 * variance * derivative
        });
        Ok(errors.collect())
    }

    /// The variance at each value. At the noisy values, its mean is right whatever the network does; at the denoised
    /// ones, a network would lower the estimate by making the image brighter.
    fn variances(&self, noisy: &Batch) -> impl Iterator<Item = f64> {
        let lines = self.0.iter().cycle();
        let values = noisy.data.iter().zip(lines);
        values.map(|(&value, line)| line.at(f64::from(value)))
    }

    /// The same variance for all values.
    #[cfg(test)]
    pub fn constant(variance: f64) -> Self {
        Self(vec![Line {
            slope: 0.0,
            intercept: variance,
            middle: variance,
        }])
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::diagnose::{Frame, Options, diagnose};
    use crate::image::Depth;
    use crate::network::fake::Fake;

    const SIDE: usize = 256;

    /// Counts of a camera with an offset of 100, a gain of 2 and read noise of 3, on a smooth signal: the clean image
    /// and the noisy one.
    fn counts(rng: &mut ChaCha8Rng) -> [Vec<f32>; 2] {
        let mut normal = || (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        let clean: Vec<f64> = (0..SIDE * SIDE)
            .map(|i| 110.0 + 60.0 * (1.0 + ((i / SIDE) as f64 / 40.0).sin()))
            .collect();
        let noisy = clean.iter().map(|signal| {
            let variance = 2.0 * (signal - 100.0) + 9.0;
            (signal + variance.sqrt() * normal()) as f32
        });
        let noisy = noisy.collect();
        [clean.iter().map(|&signal| signal as f32).collect(), noisy]
    }

    #[test]
    fn the_risk_is_the_error_that_the_clean_image_shows() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let [clean, noisy] = counts(&mut rng);
        let frame = Frame {
            height: SIDE,
            width: SIDE,
            channels: 1,
            data: noisy.clone(),
        };
        let diagnosis = diagnose(&[frame], &Options::quick()).unwrap();
        let range = ModelRange {
            low: 90.0,
            high: 290.0,
            depth: Depth::U16,
        };
        let measured = NoiseVariance::measured(&diagnosis, range, Spacing::NONE).unwrap();
        let exact = NoiseVariance(vec![Line {
            slope: 2.0 / 200.0,
            intercept: (2.0 * (90.0 - 100.0) + 9.0) / 200.0_f64.powi(2),
            middle: 100.0 / 200.0_f64.powi(2),
        }]);
        let scaled = |values: &[f32]| {
            let values = values.iter().map(|value| (value - 90.0) / 200.0);
            Batch::new(1, SIDE, SIDE, 1, values.collect())
        };
        let (clean, noisy) = (scaled(&clean), scaled(&noisy));
        let mut estimate = |noise: &NoiseVariance, pixel: fn(f32) -> f32| {
            let mut network = Fake::new(1, pixel);
            let denoised = network.denoise(&noisy).unwrap();
            let risk = noise.risk(&mut network, &noisy, &denoised, &mut rng);
            let pairs = denoised.data.iter().zip(&clean.data);
            let squares = pairs.map(|(a, b)| f64::from(a - b).powi(2));
            let error = squares.sum::<f64>() / clean.data.len() as f64;
            (risk.unwrap(), error)
        };
        for (noise, tolerance) in [(&measured, 0.06), (&exact, 0.02)] {
            let functions: [fn(f32) -> f32; 4] = [|x| x, |x| 0.5 * x + 0.2, |_| 0.4, |x| x * x];
            for pixel in functions {
                let (risk, error) = estimate(noise, pixel);
                assert!((risk / error - 1.0).abs() < tolerance, "{risk} {error}");
            }
        }
        // A brighter image has more noise, but a network that makes it brighter does not remove more.
        let (risk, error) = estimate(&exact, |_| 0.4);
        let (brighter_risk, brighter_error) = estimate(&exact, |_| 0.45);
        let difference = (brighter_risk - risk) - (brighter_error - error);
        assert!(difference.abs() < 1e-4, "{difference}");
    }

    #[test]
    fn there_is_no_estimate_for_noise_that_neighbors_share() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let [_, noisy] = counts(&mut rng);
        let shared: Vec<f32> = (0..noisy.len())
            .map(|i| 0.5 * (noisy[i] + noisy[(i + 1) % noisy.len()]))
            .collect();
        let frame = Frame {
            height: SIDE,
            width: SIDE,
            channels: 1,
            data: shared,
        };
        let diagnosis = diagnose(&[frame], &Options::quick()).unwrap();
        let range = ModelRange {
            low: 90.0,
            high: 290.0,
            depth: Depth::U16,
        };
        let measured = |spacing| NoiseVariance::measured(&diagnosis, range, spacing);
        assert_eq!(measured(Spacing::NONE), None);
        assert!(measured(Spacing { x: 2, y: 1 }).is_some());
    }
}
