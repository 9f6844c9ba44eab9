//! Fine-tuning of a network on the images that it will denoise.

use super::candidate::around;
use super::clock::Clock;
use super::held_out::HeldOut;
use crate::cpu::CpuNetwork;
use crate::denoise::Transform;
use crate::error::{Error, Result};
use crate::network::{LossFactors, SampleKind, Train};
use crate::noise::Noise;
use crate::train::config::Recipe;
use crate::train::dataset::Dataset;
use crate::train::loader::Loader;
use crate::train::spacing::{NeighborDistance, Spacing};
use crate::train::{self, Moment};
use crate::weights::Weights;

/// Trains `network` on noisy images until the clock runs out. Returns whether the result is usable.
pub(super) fn run(
    network: &mut CpuNetwork,
    images: Dataset,
    spacing: Spacing,
    seed: u64,
    (held_out, transform): (&HeldOut, &Transform),
    clock: &mut Clock,
) -> Result<bool> {
    let unet = network.architecture();
    let fast = train::Config::fast();
    let settings = train::Config {
        noise: Noise::NONE,
        n_feature: unet.n_feature,
        n_channel: unet.n_channel,
        n_depth: unet.n_depth,
        head_width: unet.head_width,
        pixel_shuffle: unet.pixel_shuffle,
        // The network sees half of it.
        patchsize: 2 * unet.grid().up(fast.patchsize / 2),
        lr: Recipe::FINE_TUNING_RATE,
        steps_per_epoch: Some(1 << 10),
        neighbor_distance: NeighborDistance::Fixed(spacing),
        seed,
        ..fast
    }
    .fitted(images.sizes())?;
    // Λ does not depend on the epoch: the clock decides when training ends.
    let factors = LossFactors {
        lambda1: settings.lambda1,
        lambda2: settings.lambda2,
        lambda: settings.increase_ratio,
    };
    network.set_method(settings.method())?;
    let loader = Loader::new(images, &settings)?;
    let mut samples = loader.samples(SampleKind::Noisy, 1, 0, train::Config::MAX_EPOCHS)?;
    let mut steps = 0.0;
    let mut best = Best::default();
    while let Some(passed) = clock.tick()? {
        clock.plot(passed, || {
            // What would be used if training ended here.
            network.swap_average();
            let loss = held_out.quick_loss(&mut *around(network, transform));
            network.swap_average();
            loss
        })?;
        if passed >= best.next && steps >= best.next_step {
            network.swap_average();
            best.compare(network, (held_out, transform), passed)?;
            network.swap_average();
            best.next_step = steps + Best::MIN_STEPS_BETWEEN;
        }
        let samples = samples.next().ok_or_else(|| Error::Loader {
            reason: "there is no batch".into(),
        })??;
        let moment = Moment { epoch: 1, passed };
        let rate = settings.learning_rate(moment);
        let losses = Train::step(network, &samples, factors, rate)?;
        if losses.is_none_or(|losses| !losses.loss_full.is_finite()) {
            // The weights are those before this step.
            break;
        }
        steps += 1.0;
        network.average(settings.ema.min((1.0 + steps) / (10.0 + steps)));
    }
    if steps == 0.0 {
        return Ok(false);
    }
    network.swap_average();
    best.compare(network, (held_out, transform), 1.0)?;
    if let Some((_, weights)) = best.found {
        network.set_weights(&weights)?;
    }
    clock.plot(1.0, || {
        held_out.quick_loss(&mut *around(network, transform))
    })?;
    Ok(true)
}

/// The best weights so far. With few images, results may get worse again long before the budget ends.
#[derive(Default)]
struct Best {
    found: Option<(f64, Weights)>,
    /// When to compare again: the fraction of the part that will have passed, and the number of steps.
    next: f64,
    next_step: f64,
}

impl Best {
    /// Maximum number of comparisons between the first and the last.
    const MAX_COMPARISONS: f64 = 16.0;
    /// Minimum number of steps between comparisons; a comparison takes as long as five steps.
    const MIN_STEPS_BETWEEN: f64 = 32.0;

    fn compare(
        &mut self,
        network: &mut CpuNetwork,
        (held_out, transform): (&HeldOut, &Transform),
        passed: f64,
    ) -> Result<()> {
        let loss = held_out.losses(&mut *around(network, transform))?.mean();
        let is_best = |(least, _): &(f64, Weights)| loss < *least || least.is_nan();
        if self.found.as_ref().is_none_or(is_best) {
            self.found = Some((loss, network.weights()));
        }
        self.next = passed + 1.0 / Self::MAX_COMPARISONS;
        Ok(())
    }
}
