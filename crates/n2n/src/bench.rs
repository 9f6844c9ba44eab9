//! Measures how fast a network is: the times of runs on random pixels, after warm-up.

use std::time::Instant;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::neighbors::Neighbors;
use crate::network::{CleanBatch, LossFactors, Pixels, Sample, SampleKind, Train};
use crate::train::Config;
use crate::unet::UNet;

/// What to time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Work {
    /// Denoising one image.
    Infer {
        /// Its height and width, multiples of the network's [`Grid::multiple`](crate::unet::Grid::multiple).
        size: [usize; 2],
    },
    /// Training steps.
    Train {
        /// Patches per step.
        batch: usize,
        /// Side of the square patches, a multiple of twice the network's
        /// [`Grid::multiple`](crate::unet::Grid::multiple).
        patch: usize,
    },
}

/// The times of the runs.
#[derive(Debug, Clone, PartialEq)]
pub struct Times {
    /// Wall time of each run, shortest first; there is at least one.
    sorted_ms: Vec<f64>,
    /// Floating-point operations per run, as [`Work::gflop`] counts them.
    gflop: f64,
}

/// Maximum number of untimed runs.
const MAX_WARM_UP: usize = 5;

/// Warm-up is over when a run takes more than this fraction of the time of the one before.
const SETTLED: f64 = 0.95;

impl Work {
    /// Runs the work `runs` times on random pixels in 0..1, after two untimed runs, or up to five while they still
    /// get faster by more than a twentieth. `ran` is called after each timed run.
    ///
    /// Training changes the weights: each run is one further step, with the paper's learning rate and all factors 1.
    /// On a device that draws noise and neighbors itself, a run includes that, and also the wait for its losses,
    /// which actual training rarely does. A result that is not finite is an error.
    ///
    /// # Panics
    /// If `runs` is 0.
    pub fn measure(
        self,
        network: &mut dyn Train,
        runs: usize,
        seed: u64,
        mut ran: impl FnMut(),
    ) -> Result<Times> {
        assert!(runs > 0, "one run at least");
        let unet = network.architecture();
        let mut run = self.prepare(network, &mut ChaCha8Rng::seed_from_u64(seed));
        let mut time_ms = || {
            let start = Instant::now();
            let finite = run()?;
            let elapsed_ms = start.elapsed().as_secs_f64() * 1e3;
            finite.then_some(elapsed_ms).ok_or_else(|| Error::Engine {
                reason: "the network's results are not finite numbers".into(),
            })
        };
        let mut before_ms = f64::INFINITY;
        for _ in 0..MAX_WARM_UP {
            let now_ms = time_ms()?;
            if now_ms > SETTLED * before_ms {
                break;
            }
            before_ms = now_ms;
        }
        let mut sorted_ms = Vec::with_capacity(runs);
        for _ in 0..runs {
            sorted_ms.push(time_ms()?);
            ran();
        }
        sorted_ms.sort_by(f64::total_cmp);
        Ok(Times {
            sorted_ms,
            gflop: self.gflop(unet),
        })
    }

    /// A run; returns whether its result is finite.
    fn prepare<'a>(
        self,
        network: &'a mut dyn Train,
        rng: &mut impl Rng,
    ) -> Box<dyn FnMut() -> Result<bool> + 'a> {
        let c = network.channels();
        let mut pixels = |n: usize, h: usize, w: usize| {
            let pixels = std::iter::repeat_with(|| rng.random()).take(n * h * w * c);
            Batch::new(n, h, w, c, pixels.collect())
        };
        match self {
            Self::Infer { size: [h, w] } => {
                let noisy = pixels(1, h, w);
                // One pixel is enough: each depends on every layer.
                Box::new(move || Ok(network.denoise(&noisy)?.data[0].is_finite()))
            }
            Self::Train { batch, patch } => {
                let noisy = pixels(batch, patch, patch);
                let neighbors = Neighbors::draw(&noisy, rng);
                let factors = LossFactors {
                    lambda1: 1.0,
                    lambda2: 1.0,
                    lambda: 1.0,
                };
                let mut samples = [match network.wants() {
                    SampleKind::Noisy => Sample::Noisy(noisy, neighbors),
                    SampleKind::Clean => Sample::Clean(CleanBatch {
                        n: batch,
                        side: patch,
                        c,
                        pixels: Pixels::U8(noisy.data.iter().map(|x| (x * 255.0) as u8).collect()),
                        noise: Config::default().noise,
                        augment: false,
                        seed: 0,
                    }),
                }];
                Box::new(move || {
                    if let Sample::Clean(clean) = &mut samples[0] {
                        clean.seed += 1;
                    }
                    let losses = match network.step(&samples, factors, 3e-4)? {
                        Some(losses) => losses,
                        None => network.take_losses()?,
                    };
                    Ok(losses.loss_full.is_finite())
                })
            }
        }
    }

    /// Floating-point operations per run, in 10⁹: two for each multiply-add of the convolutions computed directly,
    /// whatever algorithm the network uses.
    ///
    /// A training step consists of the forward pass of the full-size images, whose output the regularizer needs; that
    /// of the half-size neighbors, a quarter of the pixels; and the gradients of inputs and weights for these, twice
    /// their forward pass.
    pub fn gflop(self, unet: UNet) -> f64 {
        let pixels = match self {
            Self::Infer { size: [h, w] } => (h * w) as f64,
            Self::Train { batch, patch } => (batch * patch * patch) as f64 * (1.0 + 3.0 / 4.0),
        };
        2.0 * unet.multiply_adds_per_pixel() * pixels / 1e9
    }
}

impl Times {
    /// The median; for an even number of runs, the mean of the middle two.
    pub fn median_ms(&self) -> f64 {
        let (times, n) = (&self.sorted_ms, self.sorted_ms.len());
        f64::midpoint(times[(n - 1) / 2], times[n / 2])
    }

    /// The shortest time.
    pub fn min_ms(&self) -> f64 {
        self.sorted_ms[0]
    }

    /// The longest time.
    pub fn max_ms(&self) -> f64 {
        self.sorted_ms[self.sorted_ms.len() - 1]
    }

    /// The number of runs.
    pub fn runs(&self) -> usize {
        self.sorted_ms.len()
    }

    /// 10⁹ floating-point operations per second at the median, counted as in [`Work::gflop`]: the rate at which the
    /// direct algorithm would take this time.
    pub fn gflops(&self) -> f64 {
        self.gflop / (self.median_ms() / 1e3)
    }
}

/// A measurement and its setup.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Median wall time of a run.
    pub median_ms: f64,
    /// The shortest time.
    pub min_ms: f64,
    /// The longest time.
    pub max_ms: f64,
    /// Number of timed runs.
    pub runs: usize,
    /// The device that the network ran on.
    pub device: String,
    /// CPU threads.
    pub threads: usize,
    /// The processor level of the kernels, on the CPU.
    pub level: Option<String>,
    /// What was timed.
    #[serde(flatten)]
    pub work: Work,
    /// [`Times::gflops`].
    pub gflops: f64,
    /// [`crate::system::peak_rss_mb`].
    pub peak_rss_mb: Option<f64>,
}

impl Report {
    /// The report as one JSON object, on one line.
    #[allow(
        clippy::missing_panics_doc,
        reason = "numbers and text are always JSON"
    )]
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers and text are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuNetwork;

    fn times(sorted_ms: &[f64]) -> Times {
        Times {
            sorted_ms: sorted_ms.to_vec(),
            gflop: 4.0,
        }
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(times(&[7.0]).median_ms(), 7.0);
        assert_eq!(times(&[1.0, 3.0]).median_ms(), 2.0);
        let three = times(&[1.0, 2.0, 90.0]);
        assert_eq!(
            (three.min_ms(), three.median_ms(), three.max_ms()),
            (1.0, 2.0, 90.0)
        );
        assert_eq!(three.gflops(), 2000.0);
    }

    #[test]
    fn operations_are_those_of_the_direct_algorithm() {
        let unet = UNet::default();
        let infer = Work::Infer { size: [512, 512] }.gflop(unet);
        // 297,074 multiply-adds per pixel, for 2¹⁸ pixels.
        assert!((infer - 155.752).abs() < 1e-3, "{infer}");
        // The same number of pixels denoised, and a quarter of them forward and backward.
        let train = Work::Train {
            batch: 4,
            patch: 256,
        };
        assert!((train.gflop(unet) - 1.75 * infer).abs() < 1e-9);
    }

    #[test]
    fn every_timed_run_is_told_of_and_timed() {
        let mut network = CpuNetwork::initial_scaled(UNet::new(1, 1).unwrap(), 1.0, 1);
        for work in [
            Work::Infer { size: [32, 64] },
            Work::Train {
                batch: 1,
                patch: 64,
            },
        ] {
            let mut told = 0;
            let times = work.measure(&mut network, 3, 0, || told += 1).unwrap();
            assert_eq!((times.runs(), told), (3, 3));
            assert!(0.0 < times.min_ms() && times.min_ms() <= times.median_ms());
        }
    }

    #[test]
    fn what_is_not_finite_is_no_measurement() {
        let unet = UNet::new(1, 1).unwrap();
        let mut weights = CpuNetwork::initial(unet, 1).weights();
        weights.tensors.get_mut("nin_c.bias").unwrap().data[0] = f32::INFINITY;
        let mut network = CpuNetwork::from_weights(&weights).unwrap();
        for work in [
            Work::Infer { size: [32, 32] },
            Work::Train {
                batch: 1,
                patch: 64,
            },
        ] {
            let error = work.measure(&mut network, 1, 0, || {}).unwrap_err();
            assert!(error.to_string().contains("not finite"), "{error}");
        }
    }

    #[test]
    fn json_is_one_object() {
        let mut report = Report {
            median_ms: 2.0,
            min_ms: 1.0,
            max_ms: 3.5,
            runs: 7,
            device: "cpu scalar".into(),
            threads: 2,
            level: Some("scalar".into()),
            work: Work::Infer { size: [32, 64] },
            gflops: 10.0,
            peak_rss_mb: None,
        };
        assert_eq!(
            report.json(),
            r#"{"median_ms":2.0,"min_ms":1.0,"max_ms":3.5,"runs":7,"device":"cpu scalar","threads":2,"level":"scalar","size":[32,64],"gflops":10.0,"peak_rss_mb":null}"#
        );
        report.work = Work::Train {
            batch: 4,
            patch: 128,
        };
        assert!(report.json().contains(r#""batch":4,"patch":128"#));
    }
}
