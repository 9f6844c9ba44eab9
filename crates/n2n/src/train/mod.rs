//! Training: from images, in a folder or in memory, to a model.
//!
//! [`train()`] and [`train_with`] take images in memory, or any other [`Source`], and return a [`Model`]. [`run`]
//! trains on a folder, and writes a run folder with checkpoints, logs and scores. Both use the same loop, which follows
//! Algorithm 1 of the paper: the [`loader`] provides the batches, the network computes the steps, [`Event`]s report
//! progress, and the [`folder`] manages the files.
//!
//! ```
//! use n2n::Image;
//! use n2n::noise::Noise;
//! use n2n::train::Config;
//!
//! // Two noisy microscope images; real ones are larger, and runs are longer.
//! let frame = |seed: u32| {
//!     let samples = (0..96 * 96).map(|i: u32| (400 + i.wrapping_mul(seed) % 50) as u16);
//!     Image::from_u16(96, 96, 1, &samples.collect::<Vec<_>>())
//! };
//! let images = [frame(48_271)?, frame(69_621)?];
//! let config = Config {
//!     noise: Noise::NONE, // the images are already noisy
//!     n_channel: 1,
//! #   n_feature: 4,
//!     n_epoch: 1,
//!     steps_per_epoch: Some(2),
//!     batchsize: 2,
//!     patchsize: 64,
//!     ..Config::fast()
//! };
//! let model = n2n::train(&images, &config)?;
//! let clean = model.denoise(&images[0])?;
//! assert_eq!(clean.to_u16().len(), 96 * 96);
//! # Ok::<(), n2n::Error>(())
//! ```

mod checkpoint;
pub mod config;
pub mod dataset;
mod distill;
mod event;
pub mod folder;
mod frozen;
pub mod layout;
pub mod loader;
mod losses;
mod page;
pub mod prefetch;
pub mod random;
pub(crate) mod risk;
mod run;
mod schedule;
pub mod source;
pub mod spacing;
mod tensorboard;
mod validation;

pub use config::Config;
pub use distill::Distillation;
pub use event::{Collapse, Event, Step, StepStats};
pub use folder::Start;
pub use run::{Outcome, fit, run};
pub use schedule::Moment;
pub use source::{Folder, Memory, Source};

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use crate::cpu::CpuNetwork;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::model::Model;
use crate::models;
use crate::network::Train;
use crate::weights::Weights;

/// Trains a model on images in memory, on the CPU.
///
/// If `config.noise` is [`Noise::NONE`](crate::noise::Noise::NONE), the images are noisy; otherwise they are clean, and
/// that noise is added. They are converted between gray and RGB as `config.n_channel` requires; with any other number
/// of channels, they must have as many, unless `config.channels` separates them. [`train_with`] reports progress, and
/// takes images from other sources. The [module](self) has an example.
///
/// # Errors
/// Those of [`train_with`], and an image that cannot be trained on: one with non-finite values, or whose number of
/// channels does not fit the settings.
pub fn train(images: &[Image], config: &Config) -> Result<Model> {
    all_usable(|skipped| {
        train_with(
            Arc::new(Memory::from(images)),
            config,
            &mut |event| match event {
                Event::Skipped { error } => skipped(error),
                _ => ControlFlow::Continue(()),
            },
        )
    })
}

/// The result of `run`, which reports the images that it cannot use; if there are any, the error for the first one
/// instead.
pub(crate) fn all_usable<T>(
    run: impl FnOnce(&mut dyn FnMut(&Error) -> ControlFlow<()>) -> Result<T>,
) -> Result<T> {
    let mut unusable = None;
    let result = run(&mut |error| {
        let Error::Image { path, reason } = error else {
            return ControlFlow::Continue(());
        };
        let (path, reason) = (path.clone(), reason.clone());
        unusable.get_or_insert(Error::Image { path, reason });
        ControlFlow::Break(())
    });
    match unusable {
        Some(error) => Err(error),
        None => result,
    }
}

/// Trains a model on the images of a source, on the CPU: [`fit`] from the [initial weights](initial_weights), without a
/// run folder. Returns the model of the best snapshot, or the last if nothing was scored.
///
/// `on_event` is called for every event, including skipped images. If it returns [`ControlFlow::Break`], the run
/// ends after the current step and returns the model trained so far.
///
/// # Errors
/// Invalid settings; no usable image; a non-finite loss, or a run that has diverged; [`Error::Stopped`] if `on_event`
/// stopped the run while the images were being read.
pub fn train_with(
    images: Arc<dyn Source>,
    config: &Config,
    on_event: &mut dyn FnMut(&Event) -> ControlFlow<()>,
) -> Result<Model> {
    let network = CpuNetwork::from_weights(&initial_weights(config)?)?;
    let mut network: Box<dyn Train> = Box::new(network);
    if let Some(teacher) = &config.teacher {
        let teacher = Box::new(teacher_of(config, teacher)?);
        network = Box::new(Distillation::new(network, teacher, config.seed)?);
    }
    Model::from_weights(fit(&mut *network, images, config, on_event)?)
}

/// The network of the model `teacher`, in half precision if `config` says so.
fn teacher_of(config: &Config, teacher: &Path) -> Result<CpuNetwork> {
    let mut network = CpuNetwork::from_weights(&models::load(Some(teacher))?)?;
    network.set_half(config.half)?;
    Ok(network)
}

/// The weights before the first step: those of the model `config.init_from`, or random ones. If `config` has one
/// channel, a color model is converted ([`Weights::to_gray`]).
///
/// # Errors
/// A model that cannot be read, or whose architecture is not that of `config`.
pub fn initial_weights(config: &Config) -> Result<Weights> {
    let unet = config.unet()?;
    let Some(model) = &config.init_from else {
        let network = CpuNetwork::initial_scaled(unet, config.init_scale, config.seed);
        return Ok(network.weights());
    };
    let mut weights = models::load(Some(model))?;
    if unet.n_channel == 1 {
        weights = weights.to_gray()?;
    }
    let found = weights.architecture()?;
    if found != unet {
        let expected = format!("a model with {unet}");
        return Err(Error::value(
            "init_from",
            expected,
            format!("one with {found}"),
        ));
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::network::Denoise;
    use crate::unet::UNet;

    /// The file of a small network, of one channel.
    fn small(folder: &Path) -> PathBuf {
        let path = folder.join("small.safetensors");
        let network = CpuNetwork::initial(UNet::new(2, 1).unwrap(), 1);
        network.weights().write(&path).unwrap();
        path
    }

    #[test]
    fn a_teacher_denoises_in_the_precision_of_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let path = small(folder.path());
        let device = |half| {
            let config = Config {
                half,
                ..Config::default()
            };
            teacher_of(&config, &path).map(|teacher| teacher.device())
        };
        assert!(!device(false).unwrap().contains("half precision"));
        match (device(true), CpuNetwork::matrix_units()) {
            (Ok(device), Some(_)) => assert!(device.contains("half precision"), "{device}"),
            (Err(error), None) => {
                let error = error.to_string();
                assert!(error.contains("half precision: expected"), "{error}");
            }
            (other, units) => panic!("{other:?} with {units:?}"),
        }
    }

    #[test]
    fn a_network_of_other_sizes_is_refused_with_both() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            n_channel: 1,
            init_from: Some(small(folder.path())),
            ..Config::default()
        };
        let error = initial_weights(&config).unwrap_err().to_string();
        let want = "init_from: expected a model with n_feature 48, n_channel 1, found one with n_feature 2, \
                    n_channel 1";
        assert_eq!(error, want);
        let mut network = CpuNetwork::initial(UNet::new(2, 1).unwrap(), 1);
        let nothing = Arc::new(Memory::from(&[] as &[Image]));
        let error = fit(&mut network, nothing, &config, &mut |_| {
            ControlFlow::Continue(())
        });
        assert_eq!(
            error.unwrap_err().to_string(),
            "the network: expected n_feature 48, n_channel 1, found n_feature 2, n_channel 1"
        );
    }
}
