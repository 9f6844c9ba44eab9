//! Fits a copy of a model to given noisy images, by training on those images alone.
//!
//! [`adapt`] first compares the given models, then learns in two stages. The first leaves the network unchanged and
//! learns a [transform](Transform) around it, which makes the noise of the images look like the noise that the network
//! was trained on. The second fine-tunes a copy of the network, inside that transform if it helped. Part of the images
//! is held out; a stage that does not lower the loss there by more than chance would explain is dropped.
//!
//! ```
//! use n2n::adapt::{self, Budget};
//! use n2n::{Image, Model};
//!
//! # let unet = n2n::unet::UNet::new(4, 1)?;
//! # let model = Model::from_weights(n2n::cpu::CpuNetwork::initial(unet, 1).weights())?;
//! # /*
//! let model = Model::load("gauss5_50")?;
//! # */
//! // A microscope image; a real one is larger, and takes a few thousand steps or a few minutes.
//! let samples: Vec<u16> = (0..128 * 128_u32).map(|i| (400 + i.wrapping_mul(48_271) % 50) as u16).collect();
//! let noisy = Image::from_u16(128, 128, 1, &samples)?;
//! let config = adapt::Config { budget: Budget::Steps(4), ..adapt::Config::default() };
//! let adapted = model.adapt(&[noisy.clone()], &config)?;
//! println!("{adapted}");
//! let clean = adapted.model.denoise(&noisy)?;
//! # Ok::<(), n2n::Error>(())
//! ```

mod candidate;
mod clock;
mod fine_tune;
mod held_out;
mod images;
mod inputs;
mod spline;
mod stabilize;

use std::fmt::{self, Display};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use crate::cpu::{CpuNetwork, Level};
use crate::denoise::{ModelRange, Range, Transform};
use crate::diagnose::{self, diagnose};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::model::Model;
use crate::models;
use crate::train;
use crate::train::risk::NoiseVariance;
use crate::train::source::{Memory, Source};
use crate::train::spacing::Spacing;
use crate::weights::Weights;
use crate::words::listed;

use self::candidate::{Candidate, Line, choose, network_of};
use self::clock::Clock;
pub use self::clock::{Budget, Event};
use self::held_out::HeldOut;
use self::images::{gray_companions, hold_out, read};
pub use self::inputs::Inputs;

/// The fraction of the budget in which the transform is learned, if it is.
const STABILIZING: f64 = 0.45;

/// How to adapt a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Config {
    /// How long to learn.
    pub budget: Budget,
    /// Which values of the images map to the network's 0 and 1. Anything but [`Range::Between`] means the range that
    /// the model was trained on; if it has none, both the range that it would be used with otherwise and one measured
    /// on the images are tried.
    pub range: Range,
    /// Seed of all random draws. With a budget in steps, the same seed, images and model give bit-identical results on
    /// processors of the same level.
    pub seed: u64,
    /// The processor's instructions to use.
    pub level: Level,
    /// Memory for decoded images, in MB of 2²⁰ bytes.
    pub cache_mb: usize,
    /// Approximate number of [points of the learning curve](Event::HeldOut) to measure. Each takes some of a time
    /// budget; with a budget in steps, they do not change the result.
    pub curve_points: usize,
}

/// A model fitted to images, and how it was made.
#[derive(Debug)]
pub struct Adapted {
    /// The model. Unless it is the first one unchanged, its metadata contain the range of the images, and the transform
    /// if there is one. A range that was asked for is always among them.
    pub model: Model,
    /// Index of the given model that it was made from, or whose gray companion it was made from.
    pub model_index: usize,
    /// Whether its range differs from the one that the model would have been used with otherwise.
    pub range_changed: bool,
    /// Whether it has a transform that was learned on the images.
    pub has_transform: bool,
    /// Whether its weights were fine-tuned on the images.
    pub is_fine_tuned: bool,
    /// The held-out losses before and after; 0 if there was nothing to hold out or all pixels have one value.
    pub losses: [f64; 2],
}

impl Default for Config {
    /// A budget of three minutes.
    fn default() -> Self {
        Self {
            budget: Budget::Time(Duration::from_mins(3)),
            range: Range::Auto,
            seed: 0,
            level: Level::detect(),
            cache_mb: 1024,
            curve_points: 0,
        }
    }
}

impl Display for Adapted {
    /// One line: what was chosen, and by how much the loss fell.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] = self.losses;
        let noise = self.model.metadata().get("noise");
        // A model of noisy images has the noise "none".
        let noise = noise.filter(|noise| *noise != "none");
        let other = noise.map_or("another model".into(), |noise| {
            format!("the model for {noise}")
        });
        let ways = [
            (self.model_index > 0, other.as_str()),
            (self.range_changed, "the range of the images"),
            (self.has_transform, "a variance-stabilizing transform"),
            (self.is_fine_tuned, "fine-tuning"),
        ];
        let ways: Vec<_> = (ways.iter().filter(|way| way.0)).map(|way| way.1).collect();
        if ways.is_empty() && before == 0.0 {
            return f.write_str(
                "nothing could be learned, because the images have a single value or are too small: the model is \
                 used unchanged",
            );
        }
        if ways.is_empty() {
            return write!(
                f,
                "nothing lowered the held-out loss of {before:.6}: the model is used unchanged"
            );
        }
        let ways = listed(&ways);
        let percent = 100.0 * (after / before - 1.0);
        write!(
            f,
            "{ways}: held-out loss from {before:.6} to {after:.6} ({percent:+.1} %)"
        )
    }
}

impl Model {
    /// Fits a copy of this model to the images, on the CPU: see [`adapt`].
    ///
    /// # Errors
    /// Those of [`adapt`], and an image that cannot be used.
    pub fn adapt(&self, images: &[Image], config: &Config) -> Result<Adapted> {
        train::all_usable(|skipped| {
            adapt(
                &[self],
                Arc::new(Memory::from(images)),
                config,
                &mut |event| match event {
                    Event::Skipped { error } => skipped(error),
                    Event::Progress(_) | Event::HeldOut { .. } => ControlFlow::Continue(()),
                },
            )
        })
    }
}

/// Fits a copy of one of the `models` to the images of a source, on the CPU. The images are noisy and have one type.
///
/// The first model is the one that would denoise the images otherwise; its held-out loss is the one to lower. The other
/// models need the same number of channels. They are compared with it before any learning, which starts from the best;
/// those that state a range or a transform of their own are left out, and if the first model has a transform, all of
/// them are. If all readable images are gray, including RGB images with equal channels, and the first model is an RGB
/// model with a [gray companion](models::gray_companion), the companions of the models are compared and adapted instead.
///
/// `on_event` is called for every event, including skipped images. If it returns [`ControlFlow::Break`], learning ends
/// after the current step, and the model includes whatever has helped so far.
///
/// # Errors
/// No model, or models with different numbers of channels; no usable image, or images of several types;
/// [`Error::Stopped`] if `on_event` stopped it before the first step.
pub fn adapt(
    models: &[&Model],
    images: Arc<dyn Source>,
    config: &Config,
    on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Adapted> {
    if models.is_empty() {
        return Err(Error::value("models to adapt", "at least one", "none"));
    }
    let companions = gray_companions(models, &*images)?;
    if !companions.is_empty() {
        let gray: Vec<_> = companions.iter().map(|(_, gray)| gray).collect();
        let mut adapted = fit(&gray, images, config, on_event)?;
        adapted.model_index = companions[adapted.model_index].0;
        return Ok(adapted);
    }
    fit(models, images, config, on_event)
}

/// [`adapt`] with these models, of which there is at least one, and not with their gray companions.
fn fit(
    models: &[&Model],
    images: Arc<dyn Source>,
    config: &Config,
    on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Adapted> {
    let (model, others) = (models[0], &models[1..]);
    check_channels(model, others)?;
    let mut images = read(images, model.channels(), config.cache_mb, on_event)?;
    if images.is_empty() {
        return Err(Error::value(
            "images to adapt to",
            "at least one that can be used",
            "none",
        ));
    }
    let depth = images.depth().ok_or_else(|| {
        Error::value(
            "sample types of the images to adapt to",
            "one, such as uint16",
            "several",
        )
    })?;
    let asked_for = match config.range {
        Range::Between(low, high) => Some(ModelRange { low, high, depth }),
        Range::Auto | Range::Percentile => None,
    };
    let known = match asked_for {
        Some(range) => Some(range),
        None => ModelRange::of(model.metadata())?,
    };
    let Some(range) = known.or_else(|| images.measured_range()) else {
        // All pixels have one value.
        return unchanged(model, asked_for, 0.0);
    };
    images.set_range(Range::Between(range.low, range.high));
    let diagnosis = diagnose(&images.middles(8, 512)?, &diagnose::Options::quick())?;
    let spacing = Spacing::for_noise(&diagnosis);
    let grid = (others.iter()).fold(model.architecture().grid(), |grid, other| {
        grid.join(other.architecture().grid())
    });
    let unit = 2 * grid.multiple;
    let held_out = hold_out(&mut images, config.seed)?;
    if held_out.is_empty() {
        return unchanged(model, asked_for, 0.0);
    }
    let noise = NoiseVariance::measured(&diagnosis, range, spacing);
    let held_out = HeldOut::new(&held_out, spacing, unit, noise, config.seed)?;

    let mut network = network_of(model, config.level)?;
    let given = Transform::of(model.metadata())?;
    let usual = match asked_for {
        Some(_) => Line::IDENTITY,
        None => Line::usual(model, &images, range),
    };
    let as_it_is = given.clone().unwrap_or(usual.transform());
    let mut best = Candidate::new(&network, as_it_is, &held_out)?;
    let before = best.losses.mean();
    let mut adapted = unchanged(model, asked_for, before)?;
    let mut clock = Clock::new(config.budget, config.curve_points, on_event);
    if given.is_none() {
        let line;
        (adapted.model_index, line) = choose(models, usual, &held_out, config.level, &mut best)?;
        adapted.range_changed = line != usual;
        network = network_of(models[adapted.model_index], config.level)?;
        clock.begin(0.0, STABILIZING);
        let learned = stabilize::learn(
            &mut network,
            (&images, spacing),
            range.scale(depth),
            line,
            config.seed,
            &held_out,
            &mut clock,
        )?;
        if let Some(transform) = learned {
            let candidate = Candidate::new(&network, transform, &held_out)?;
            if candidate.losses.are_significantly_lower_than(&best.losses) {
                (adapted.has_transform, best) = (true, candidate);
            }
        }
        clock.begin(STABILIZING, 1.0);
    } else {
        clock.begin(0.0, 1.0);
    }
    images.set_transform(Some(best.transform.clone()));
    let measure = (&held_out, &best.transform);
    if fine_tune::run(
        &mut network,
        images,
        spacing,
        config.seed,
        measure,
        &mut clock,
    )? {
        let candidate = Candidate::new(&network, best.transform.clone(), &held_out)?;
        if candidate.losses.are_significantly_lower_than(&best.losses) {
            (adapted.is_fine_tuned, best) = (true, candidate);
        }
    }
    adapted.losses[1] = best.losses.mean();
    finish(&mut adapted, models, &network, range, &best.transform)?;
    Ok(adapted)
}

/// Rejects other models with a different number of channels.
fn check_channels(model: &Model, others: &[&Model]) -> Result<()> {
    let expected = model.channels();
    match others.iter().find(|other| other.channels() != expected) {
        Some(other) => {
            let got = other.channels();
            Err(Error::value("channels of another model", expected, got))
        }
        None => Ok(()),
    }
}

/// The model as it is, with the range that was asked for, because otherwise the model would not be used with it.
fn unchanged(model: &Model, asked_for: Option<ModelRange>, loss: f64) -> Result<Adapted> {
    let mut weights = model.weights().clone();
    if let Some(range) = asked_for {
        let entries = range.entries().map(|(key, value)| (key.into(), value));
        weights.metadata.extend(entries);
    }
    Ok(Adapted {
        model: Model::from_weights(weights)?,
        model_index: 0,
        range_changed: false,
        has_transform: false,
        is_fine_tuned: false,
        losses: [loss; 2],
    })
}

/// Builds the model that was chosen, unless it is the first model unchanged.
fn finish(
    adapted: &mut Adapted,
    models: &[&Model],
    network: &CpuNetwork,
    range: ModelRange,
    transform: &Transform,
) -> Result<()> {
    let is_new = adapted.range_changed || adapted.has_transform || adapted.is_fine_tuned;
    if !is_new && adapted.model_index == 0 {
        return Ok(());
    }
    let chosen = models[adapted.model_index];
    let mut weights = if adapted.is_fine_tuned {
        network.weights()
    } else {
        chosen.weights().clone()
    };
    weights.metadata = chosen.metadata().clone();
    // Its gray companion is not adapted.
    weights.metadata.remove(models::GRAY_KEY);
    // The description below reads this model's metadata.
    adapted.model = Model::from_weights(weights.clone())?;
    describe(&mut weights, range, transform, adapted);
    adapted.model = Model::from_weights(weights)?;
    Ok(())
}

/// Adds to the metadata what the weights were fitted to.
fn describe(weights: &mut Weights, range: ModelRange, transform: &Transform, adapted: &Adapted) {
    let metadata = &mut weights.metadata;
    let mut put = |(key, value): (&str, String)| metadata.insert(key.into(), value);
    for entry in range.entries() {
        put(entry);
    }
    if *transform != Line::IDENTITY.transform() {
        put(transform.entry());
    }
    put(("adapted", adapted.to_string()));
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;
    use crate::image::Depth;
    use crate::unet::UNet;

    /// A ramp with noise that grows along it, in counts above an offset.
    fn ramp(height: usize, width: usize) -> Image {
        let mut state = 1_u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let samples = (0..height * width).map(|i| {
            let signal = 100.0 + (i % width) as f32;
            let noise = (0..4).map(|_| uniform()).sum::<f32>();
            (400.0 + signal + signal.sqrt() * noise).round() as u16
        });
        Image::from_u16(height, width, 1, &samples.collect::<Vec<_>>()).unwrap()
    }

    /// An untrained network, which anything improves.
    fn untrained() -> Model {
        let network = CpuNetwork::initial_scaled(UNet::new(4, 1).unwrap(), 1.0, 1);
        Model::from_weights(network.weights()).unwrap()
    }

    fn steps(steps: usize) -> Config {
        Config {
            budget: Budget::Steps(steps),
            ..Config::default()
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
        let images = [ramp(160, 128)];
        let run = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let config = Config { seed, ..steps(40) };
            let adapt = || untrained().adapt(&images, &config).unwrap();
            pool.build().unwrap().install(adapt)
        };
        let one = run(1, 7);
        assert!(one.is_fine_tuned && one.has_transform, "{one}");
        assert!(one.losses[1] < 0.9 * one.losses[0], "{one}");
        let three = run(3, 7);
        assert!(one.model.weights() == three.model.weights());
        assert_eq!(one.to_string(), three.to_string());
        assert!(one.model.weights() != run(2, 8).model.weights());
    }

    #[test]
    fn the_learning_curve_shows_the_loss_falling_and_changes_nothing() {
        let images = [ramp(160, 128)];
        let model = untrained();
        let mut curve = vec![];
        let config = Config {
            curve_points: 10,
            ..steps(40)
        };
        let source = Arc::new(Memory::from(&images[..]));
        let adapted = adapt(&[&model], source, &config, &mut |event| {
            if let Event::HeldOut { passed, loss } = event {
                curve.push((passed, loss));
            }
            ControlFlow::Continue(())
        });
        assert!((10..=12).contains(&curve.len()), "{curve:?}");
        assert!(curve.is_sorted_by(|a, b| a.0 < b.0), "{curve:?}");
        let (first, last) = (curve[0], curve[curve.len() - 1]);
        assert_eq!((first.0, last.0), (0.0, 1.0));
        assert!(last.1 < 0.9 * first.1, "{curve:?}");
        let without = model.adapt(&images, &steps(40)).unwrap();
        assert!(adapted.unwrap().model.weights() == without.model.weights());
    }

    #[test]
    fn an_adapted_model_is_the_same_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let image = ramp(128, 96);
        let adapted = untrained()
            .adapt(slice::from_ref(&image), &steps(40))
            .unwrap();
        assert!(adapted.has_transform || adapted.is_fine_tuned);
        let clean = adapted.model.denoise(&image).unwrap();
        for name in ["model.safetensors", "model.onnx"] {
            let path = folder.path().join(name);
            adapted.model.save(&path).unwrap();
            let loaded = Model::load(&path).unwrap();
            assert_eq!(loaded.denoise(&image).unwrap(), clean, "{name}");
        }
        // It fits the image better than the one that it was made from.
        let error = |image: &Image| {
            let values = image.data.iter().enumerate();
            let errors = values.map(|(i, value)| value * 65535.0 - 500.0 - (i % 96) as f32);
            errors.map(|error| f64::from(error * error)).sum::<f64>()
        };
        let before = untrained().denoise(&image).unwrap();
        assert!(error(&clean) < 0.5 * error(&before));
    }

    #[test]
    fn what_does_not_help_is_not_used() {
        // Nothing is learned in no time, and the range is the model's own.
        let mut weights = untrained().weights().clone();
        let range = ModelRange {
            low: 400.0,
            high: 700.0,
            depth: Depth::U16,
        };
        for (key, value) in range.entries() {
            weights.metadata.insert(key.into(), value);
        }
        let model = Model::from_weights(weights).unwrap();
        let adapted = model.adapt(&[ramp(128, 64)], &steps(0)).unwrap();
        assert!(adapted.model.weights() == model.weights());
        assert_eq!(adapted.losses[0], adapted.losses[1]);
        assert!(
            adapted.to_string().starts_with("nothing lowered"),
            "{adapted}"
        );
        // From a single value there is nothing to learn, and from three pixels none can be held out.
        let flat = Image::from_u8(64, 64, 1, &[9; 64 * 64]).unwrap();
        let tiny = Image::from_u8(1, 3, 1, &[7, 8, 9]).unwrap();
        for image in [flat, tiny] {
            let adapted = untrained().adapt(&[image], &steps(4)).unwrap();
            assert!(adapted.model.weights() == untrained().weights());
            let told = adapted.to_string();
            assert!(told.starts_with("nothing could be learned"), "{told}");
        }
    }

    #[test]
    fn an_adapted_model_can_be_adapted_again() {
        let image = ramp(128, 96);
        let once = untrained()
            .adapt(slice::from_ref(&image), &steps(40))
            .unwrap();
        assert!(once.has_transform);
        let twice = once.model.adapt(&[image], &steps(20)).unwrap();
        assert!(twice.losses[1] <= twice.losses[0]);
        assert!(
            (twice.losses[0] - once.losses[1]).abs() < 1e-9,
            "{once}\n{twice}"
        );
        let transform = |adapted: &Adapted| Transform::of(adapted.model.metadata()).unwrap();
        assert_eq!(transform(&twice), transform(&once));
    }

    #[test]
    fn another_model_is_taken_where_it_is_better() {
        let images: Arc<dyn Source> = Arc::new(Memory::from(&[ramp(160, 128)][..]));
        let mut fitted = untrained()
            .adapt(&[ramp(160, 128)], &steps(40))
            .unwrap()
            .model;
        let mut weights = fitted.weights().clone();
        // As if it had been trained on the whole range of the type: a model with a range or a transform of its own
        // would be left out.
        weights.metadata.clear();
        weights.metadata.insert("noise".into(), "ramps".into());
        fitted = Model::from_weights(weights).unwrap();
        let try_on = |models: &[&Model]| {
            adapt(models, Arc::clone(&images), &steps(0), &mut |_| {
                ControlFlow::Continue(())
            })
        };
        let losses = |models: &[&Model]| try_on(models).unwrap().losses;
        let (one, other) = (untrained(), fitted);
        let best = losses(&[&one])[1].min(losses(&[&other])[1]);
        let chosen = try_on(&[&one, &other]).unwrap();
        assert_eq!(chosen.losses[1], best);
        assert_eq!(chosen.losses[0], losses(&[&one])[0]);
        if chosen.model_index == 1 {
            assert!(
                chosen.to_string().starts_with("the model for ramps"),
                "{chosen}"
            );
        }
        // On a grid of 48 pixels: neither 48 nor 32 is a multiple of the other.
        let blocks = UNet {
            n_depth: 4,
            pixel_shuffle: 3,
            ..one.architecture()
        };
        let blocks = CpuNetwork::initial(blocks, 1).weights();
        let blocks = Model::from_weights(blocks).unwrap();
        try_on(&[&one, &blocks]).unwrap();
        try_on(&[&blocks, &one]).unwrap();
        let rgb = CpuNetwork::initial(UNet::new(1, 3).unwrap(), 1);
        let rgb = Model::from_weights(rgb.weights()).unwrap();
        assert!(try_on(&[&one, &rgb]).is_err());
        assert!(try_on(&[]).is_err());
    }

    #[test]
    fn the_description_names_what_was_chosen() {
        let of = |noise: Option<&str>| {
            let mut weights = untrained().weights().clone();
            let entries = noise.map(|noise| ("noise".to_owned(), noise.to_owned()));
            weights.metadata.extend(entries);
            let adapted = Adapted {
                model: Model::from_weights(weights).unwrap(),
                model_index: 1,
                range_changed: false,
                has_transform: true,
                is_fine_tuned: true,
                losses: [0.5, 0.25],
            };
            adapted.to_string()
        };
        let rest = ", a variance-stabilizing transform and fine-tuning: \
                    held-out loss from 0.500000 to 0.250000 (-50.0 %)";
        assert_eq!(of(Some("gauss25")), format!("the model for gauss25{rest}"));
        // The images that it was trained on were noisy already.
        assert_eq!(of(Some("none")), format!("another model{rest}"));
        assert_eq!(of(None), format!("another model{rest}"));
    }

    #[test]
    fn what_was_learned_before_a_break_is_kept() {
        let images: Arc<dyn Source> = Arc::new(Memory::from(&[ramp(160, 128)][..]));
        let broken_off = |last: f64| {
            let mut told = vec![];
            let adapted = adapt(
                &[&untrained()],
                Arc::clone(&images),
                &steps(40),
                &mut |event| match event {
                    Event::Progress(passed) => {
                        told.push(passed);
                        if passed >= last {
                            ControlFlow::Break(())
                        } else {
                            ControlFlow::Continue(())
                        }
                    }
                    _ => ControlFlow::Continue(()),
                },
            );
            assert!(told.iter().rev().skip(1).all(|&passed| passed < last));
            adapted
        };
        assert!(matches!(broken_off(0.0), Err(Error::Stopped)));
        // In the first stage: the second one does not begin.
        let early = broken_off(0.3).unwrap();
        assert!(early.has_transform && !early.is_fine_tuned, "{early}");
        let late = broken_off(0.9).unwrap();
        assert!(late.is_fine_tuned, "{late}");
        assert!(late.losses[1] < early.losses[1] && early.losses[1] < early.losses[0]);
    }

    #[test]
    fn images_that_cannot_be_learned_from_are_refused() {
        let bytes = Image::from_u8(64, 64, 1, &[7; 64 * 64]).unwrap();
        let refused = |images: &[Image]| {
            let error = untrained().adapt(images, &steps(1)).unwrap_err();
            error.to_string()
        };
        assert!(refused(&[]).contains("found none"));
        assert!(refused(&[ramp(64, 64), bytes]).contains("found several"));
        let mut broken = Image::from_f32(64, 64, 1, vec![0.5; 64 * 64]).unwrap();
        broken.data[5] = f32::NAN;
        assert!(refused(&[broken]).contains("not finite"));
    }
}
