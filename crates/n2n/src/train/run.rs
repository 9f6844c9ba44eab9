//! The training loop: Algorithm 1 of the paper, epoch by epoch. Losses, checkpoints and snapshots have their own files.

mod losses;
mod resume;
mod snapshot;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use crate::denoise::{ModelRange, Range};
use crate::diagnose::{Options, diagnose};
use crate::error::{Error, Result};
use crate::network::{Sample, SampleKind, Train};
use crate::noise::Noise;
use crate::train::checkpoint::Progress;
use crate::train::config::Config;
use crate::train::dataset::Dataset;
use crate::train::event::{Event, StepStats};
use crate::train::folder::{LOG, RunFolder, Start};
use crate::train::loader::Loader;
use crate::train::prefetch::Prefetch;
use crate::train::risk::NoiseVariance;
use crate::train::schedule::Moment;
use crate::train::source::{Folder, Source};
use crate::train::spacing::{NeighborDistance, Spacing};
use crate::train::validation::Validation;
use crate::weights::Weights;

use self::losses::PendingSteps;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It completed its schedule.
    Finished,
    /// It was stopped, and can be resumed.
    Stopped,
}

/// Trains `network` as `config` says, and writes checkpoints, scores and logs to the run's folder.
///
/// `observe` is called for every event. When `stop` is set, the run saves and ends after the current step. With the
/// same configuration, images, initial weights and device, a run is bit-identical, however often it is interrupted and
/// resumed; with a time budget, it also depends on the clock. A device that reports several steps together adds up
/// their losses itself, so that their means may differ in the last digit.
///
/// # Errors
/// Invalid settings, or those of another network; a folder that is in use, that already contains a run
/// ([`Start::New`]) or that has lost its checkpoint ([`Start::Resume`]); no usable image, or other images than those
/// that the run was started with; a non-finite loss; [`Error::RunEnded`], which names the checkpoint that was kept, if
/// the run has diverged, or an image, the folder or the device fails.
pub fn run(
    config: &Config,
    start: Start,
    network: &mut dyn Train,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&Event),
) -> Result<Outcome> {
    check(config, network)?;
    RunFolder::check(config, start)?;
    let images = Arc::new(open_folder(config)?);
    let ended = train_on(images, Some(start), config, network, stop, observe)?;
    Ok(ended.outcome)
}

/// Trains `network` on the images of a source as `config` says, without a run folder: events go to `on_event`, and
/// nothing is written. The settings about folders (`data_dir`, `save_model_path`, `log_name`, `keep`,
/// `checkpoint_every`) have no effect. Returns the weights of the best snapshot, or of the last one if nothing was
/// scored, with the metadata of a checkpoint.
///
/// If `on_event` returns [`ControlFlow::Break`], the run ends after the current step and returns the weights trained so
/// far, or their running average if there is one.
///
/// # Errors
/// Invalid settings, or those of another network; no usable image; a non-finite loss, or a run that has diverged; a
/// failure of the device; [`Error::Stopped`] if `on_event` stopped the run while the images were being read.
pub fn fit(
    network: &mut dyn Train,
    images: Arc<dyn Source>,
    config: &Config,
    on_event: &mut dyn FnMut(&Event) -> ControlFlow<()>,
) -> Result<Weights> {
    check(config, network)?;
    let stop = AtomicBool::new(false);
    let mut observe = |event: &Event| {
        if on_event(event).is_break() {
            stop.store(true, Relaxed);
        }
    };
    let ended = train_on(images, None, config, network, &stop, &mut observe)?;
    if let (Outcome::Finished, Some(best)) = (ended.outcome, ended.best) {
        return Ok(best);
    }
    network.swap_average();
    let mut weights = network.weights()?;
    weights.metadata.extend(ended.metadata);
    Ok(weights)
}

/// Rejects invalid settings, and those of another network.
fn check(config: &Config, network: &dyn Train) -> Result<()> {
    config.check()?;
    let (asked, given) = (config.unet()?, network.architecture());
    if asked != given {
        return Err(Error::value("the network", asked, given));
    }
    Ok(())
}

/// The folder of training images.
fn open_folder(config: &Config) -> Result<Folder> {
    // Neither the images that an earlier run wrote nor those that runs are scored on are training images.
    let (run, scored) = (config.folder(), Validation::folder(config));
    let excluded: Vec<&Path> = [Some(run.as_path()), scored.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    Folder::open(&config.data_dir, &excluded)
}

/// What remains of a run.
struct Ended {
    outcome: Outcome,
    /// The metadata of its last weights.
    metadata: BTreeMap<String, String>,
    /// The weights of the best snapshot, if there is no folder for them.
    best: Option<Weights>,
}

/// Trains on the images of a source; with `start`, in a run folder.
fn train_on(
    images: Arc<dyn Source>,
    start: Option<Start>,
    config: &Config,
    network: &mut dyn Train,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&Event),
) -> Result<Ended> {
    let (dataset, held_out) = read_images(images, config, observe)?;
    if start.is_none() && stop.load(Relaxed) {
        return Err(Error::Stopped);
    }
    // Measured values become settings, so that a resumed run uses the same ones. Patches are fitted anew: the size that
    // was asked for decides which images are held out.
    let mut quiet = |_: &Event| {};
    let resumed = start == Some(Start::Resume);
    let tell = if resumed { &mut quiet } else { &mut *observe };
    let (spacing, noise) = examine(config, &dataset, &mut *tell)?;
    let settings = &Config {
        range: dataset.range(),
        neighbor_distance: NeighborDistance::Fixed(spacing),
        ..config.clone()
    };
    let config = &fitted(settings, &dataset, tell)?;
    let range = dataset.model_range();
    let images = dataset.fingerprint() ^ held_out.fingerprint().rotate_left(1);
    let values = dataset.values();
    let loader = Loader::new(dataset, config)?;
    tell_padded(&loader, config, observe);
    let validation = Validation::new(config, held_out, noise)?;
    let (n, side) = (config.batchsize, config.patchsize);
    network.set_method(config.method())?;
    network.reserve_step(n, side, side)?;
    // Last, because it may remove an earlier run: everything that could fail has been checked by now.
    let folder = start.map(|start| RunFolder::open(settings, &network.device(), start));
    let mut run = Run {
        config,
        range,
        loader,
        validation,
        progress: Progress::new(images, values, network.device()),
        pending_steps: PendingSteps::default(),
        stats: None,
        kept: None,
        best: None,
        folder: folder.transpose()?,
        clock: Instant::now(),
        observe,
    };
    if start == Some(Start::Resume) {
        run.resume(network)?;
    }
    match run.train(network, stop) {
        Ok(outcome) => Ok(Ended {
            outcome,
            metadata: run.metadata(run.progress.epoch),
            best: run.best,
        }),
        Err(error) => Err(run.with_checkpoint(error)),
    }
}

/// The images to train on, and those held out.
fn read_images(
    images: Arc<dyn Source>,
    config: &Config,
    observe: &mut dyn FnMut(&Event),
) -> Result<(Dataset, Dataset)> {
    let mut dataset = Dataset::read(images, config.layout(), config.cache_bytes(), observe);
    let repaired = dataset.repair(config.repair)?;
    if !config.repair.is_none() {
        observe(&Event::Repaired(repaired));
    }
    dataset.set_range(config.range);
    if dataset.is_constant() {
        observe(&Event::Constant);
    }
    if config.measures_range() {
        if let Some(ModelRange { low, high, .. }) = dataset.measured_range() {
            dataset.set_range(Range::Between(low, high));
        } else if dataset.depth().is_none() && !dataset.is_empty() {
            observe(&Event::MixedTypes);
        }
    }
    let images = config.held_out(dataset.len()).min(dataset.len());
    let held_out = if dataset.len() == 1 && images == 1 {
        dataset.take_part(config.patchsize)?
    } else {
        let drawn = dataset.to_hold_out(images, config.patchsize, config.seed);
        dataset.take(&drawn)
    };
    if !held_out.is_empty() {
        observe(&Event::HeldOut {
            images: held_out.len(),
        });
    }
    Ok((dataset, held_out))
}

/// The neighbor distance, and the variance of the noise if it can be measured. Images that are already noisy are
/// diagnosed before hours are spent on them.
fn examine(
    config: &Config,
    dataset: &Dataset,
    observe: &mut dyn FnMut(&Event),
) -> Result<(Spacing, Option<NoiseVariance>)> {
    let given = config.neighbor_distance;
    if config.noise != Noise::NONE || dataset.is_empty() {
        return Ok((given.spacing(), None));
    }
    let diagnosis = diagnose(&dataset.middles(8, 512)?, &Options::quick())?;
    let spacing = match given {
        NeighborDistance::Auto => Spacing::for_noise(&diagnosis),
        NeighborDistance::Fixed(spacing) => spacing,
    };
    let range = dataset.model_range();
    let noise = range.and_then(|range| NoiseVariance::measured(&diagnosis, range, spacing));
    let diagnosis = Box::new(diagnosis);
    observe(&Event::Diagnosed { diagnosis, spacing });
    Ok((spacing, noise))
}

/// The settings with patches that are no larger than the images.
fn fitted(config: &Config, dataset: &Dataset, observe: &mut dyn FnMut(&Event)) -> Result<Config> {
    let fitted = config.fitted(dataset.sizes())?;
    if fitted.patchsize < config.patchsize {
        observe(&Event::PatchesReduced {
            patchsizes: [config.patchsize, fitted.patchsize],
            batchsizes: [config.batchsize, fitted.batchsize],
        });
    }
    Ok(fitted)
}

fn tell_padded(loader: &Loader, config: &Config, observe: &mut dyn FnMut(&Event)) {
    let images = loader.padded();
    if images > 0 {
        observe(&Event::Padded {
            images,
            patchsize: config.patchsize,
        });
    }
}

/// A run in progress.
struct Run<'a> {
    config: &'a Config,
    /// The range that maps to the network's 0 to 1, unless it is the full range of a type.
    range: Option<ModelRange>,
    loader: Loader,
    validation: Validation,
    /// The run folder, if there is one.
    folder: Option<RunFolder>,
    /// The weights of the best snapshot, if there is no folder for them.
    best: Option<Weights>,
    progress: Progress,
    /// The steps that the device has not reported yet.
    pending_steps: PendingSteps,
    /// Its last report.
    stats: Option<StepStats>,
    /// When the latest checkpoint was written, and its epoch and iteration.
    kept: Option<(Instant, usize, usize)>,
    /// When the elapsed time was last updated.
    clock: Instant,
    observe: &'a mut dyn FnMut(&Event),
}

impl Run<'_> {
    /// Algorithm 1 of the paper, epoch by epoch.
    fn train(&mut self, network: &mut dyn Train, stop: &AtomicBool) -> Result<Outcome> {
        self.announce(network)?;
        if self.progress.epoch > self.last_epoch() {
            // Its settings were changed to fewer epochs than it has completed.
            return Ok(Outcome::Finished);
        }
        let mut queue = self.samples(network)?;
        while !self.progress.finished {
            self.begin_epoch()?;
            while !self.is_epoch_over() {
                let waiting = Instant::now();
                let samples = self.next_samples(&mut queue, network)?;
                let started = Instant::now();
                let moment = self.moment();
                let factors = self.config.factors(moment);
                let rate = self.config.learning_rate(moment);
                let losses = network.step(&samples, factors, rate)?;
                self.average(network);
                self.count(waiting, started);
                self.record(network, losses, factors, rate)?;
                if stop.load(Relaxed) {
                    self.write_resume_checkpoint(network)?;
                    return Ok(Outcome::Stopped);
                }
                if self.is_due() {
                    self.write_resume_checkpoint(network)?;
                }
            }
            if self.end_epoch(network, stop)? == Outcome::Stopped {
                return Ok(Outcome::Stopped);
            }
        }
        Ok(Outcome::Finished)
    }

    /// The samples of all remaining steps.
    fn samples(&self, network: &dyn Train) -> Result<Prefetch<Vec<Sample>>> {
        // A device that draws noise itself draws new noise at every visit.
        let kind = if self.config.frozen_noise {
            SampleKind::Noisy
        } else {
            network.wants()
        };
        let (epoch, iteration) = (self.progress.epoch, self.progress.iteration);
        (self.loader).samples(kind, epoch, iteration, self.last_epoch())
    }

    /// The samples of the next step.
    fn next_samples(
        &mut self,
        queue: &mut Prefetch<Vec<Sample>>,
        network: &mut dyn Train,
    ) -> Result<Vec<Sample>> {
        let samples = queue.next().expect("samples for every iteration");
        if samples.is_err() {
            // What has been learned does not depend on the image that can no longer be read.
            self.write_resume_checkpoint(network)?;
        }
        samples
    }

    fn last_epoch(&self) -> usize {
        match self.config.time_budget {
            None => self.config.n_epoch,
            Some(_) => Config::MAX_EPOCHS,
        }
    }

    fn is_epoch_over(&self) -> bool {
        self.progress.iteration >= self.loader.iterations() || self.is_out_of_time()
    }

    /// Reports the facts of the run. For a new run, also logs them and writes the initial checkpoint.
    fn announce(&mut self, network: &mut dyn Train) -> Result<()> {
        let began = [
            Event::Fetched {
                samples: self.loader.images(),
            },
            Event::Began {
                batchsize: self.config.batchsize,
                n_epoch: self.config.n_epoch,
                iterations: self.loader.iterations(),
                time_budget: self.config.time_budget,
            },
        ];
        let events: Vec<_> = (self.range.map(Event::RangeSet).into_iter())
            .chain(began)
            .collect();
        if self.kept.is_some() {
            for event in &events {
                (self.observe)(event);
            }
            return Ok(());
        }
        for event in &events {
            self.tell(event)?;
        }
        self.save(network, 0)?;
        self.write_resume_checkpoint(network)
    }

    /// Logs an event, then shows it.
    fn tell(&mut self, event: &Event) -> Result<()> {
        if let (Some(folder), Some(line)) = (&self.folder, event.line()) {
            folder.append(LOG, format!("{line}\n").as_bytes())?;
        }
        (self.observe)(event);
        Ok(())
    }

    fn begin_epoch(&mut self) -> Result<()> {
        if self.progress.iteration > 0 {
            return Ok(());
        }
        let (epoch, learning_rate) = (
            self.progress.epoch,
            self.config.learning_rate(self.moment()),
        );
        self.tell(&Event::EpochBegan {
            epoch,
            learning_rate,
        })
    }

    /// The point of the run at which the next step is taken.
    fn moment(&self) -> Moment {
        let passed = if let Some(budget) = self.config.time_budget {
            self.progress.elapsed_s / budget.0.as_secs_f64()
        } else {
            let steps = self.config.n_epoch as f64 * self.loader.iterations() as f64;
            self.progress.steps as f64 / steps
        };
        Moment {
            epoch: self.progress.epoch,
            passed: passed.min(1.0),
        }
    }

    fn is_out_of_time(&self) -> bool {
        self.config.time_budget.is_some() && self.moment().passed >= 1.0
    }

    /// Whether it is time to write a checkpoint.
    fn is_due(&self) -> bool {
        let every = self.config.checkpoint_every.0;
        self.folder.is_some() && self.kept.is_none_or(|(when, ..)| when.elapsed() >= every)
    }

    fn average(&self, network: &mut dyn Train) {
        if self.config.ema > 0.0 {
            // An average of few steps forgets faster, because random initial weights are worthless.
            let steps = self.progress.steps as f64;
            network.average(self.config.ema.min((1.0 + steps) / (10.0 + steps)));
        }
    }

    /// Updates the elapsed time.
    fn tick(&mut self) {
        let now = Instant::now();
        self.progress.elapsed_s += (now - self.clock).as_secs_f64();
        self.clock = now;
    }
}

#[cfg(test)]
mod tests;
