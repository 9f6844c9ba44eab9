//! The training loop: Algorithm 1 of the paper, epoch by epoch.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use rand::seq::index;

use crate::denoise::{ModelRange, Range};
use crate::error::{Error, Result};
use crate::image;
use crate::network::{Kind, LossFactors, Losses, Train};
use crate::train::checkpoint::{self, Pending, Progress};
use crate::train::config::Config;
use crate::train::dataset::Dataset;
use crate::train::event::{Event, Step, Told};
use crate::train::folder::{EVENTS, LOG, LOSSES, RunFolder, Start};
use crate::train::loader::Loader;
use crate::train::page;
use crate::train::random::{Purpose, stream};
use crate::train::schedule::Moment;
use crate::train::source::{Folder, Source};
use crate::train::tensorboard::{self, Value};
use crate::train::validation::{Scores, Validation};
use crate::weights::Weights;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It went through all of its schedule.
    Finished,
    /// It was asked to stop, and can be resumed.
    Stopped,
}

/// Trains `network` by `config` and leaves checkpoints, scores and logs in the run's folder.
///
/// `observe` is told everything that happens. When `stop` is set the run ends after the step, and
/// saves. With the same configuration, images, initial weights and device the run is the same to the
/// last bit, however often it is interrupted and resumed; one with a time budget depends on the clock
/// too. A device that tells of several steps at once adds up their losses itself, so that of those the
/// means may differ in their last digit.
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
    let (outcome, _) = train_on(images, Some(start), config, network, stop, observe)?;
    Ok(outcome)
}

/// Trains `network` on the images of a source by `config`, without a folder: what there is to know goes to
/// `on_event`, and nothing is written. The settings about folders (`data_dir`, `save_model_path`, `log_name`, `keep`,
/// `checkpoint_every`) mean nothing here. Gives the weights, or their running average if there is one, with the metadata
/// of a checkpoint.
///
/// When `on_event` breaks off, the run ends after the step, with what has been learned by then.
///
/// # Errors
/// Those of [`run`], and [`Error::Stopped`] if `on_event` broke off before the first step.
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
    let metadata = train_on(images, None, config, network, &stop, &mut observe)?.1;
    network.swap_average();
    let mut weights = network.weights()?;
    weights.metadata = metadata;
    Ok(weights)
}

/// Refuses settings that no run can be made of, or that are of another network.
fn check(config: &Config, network: &dyn Train) -> Result<()> {
    config.check()?;
    let (asked, given) = (config.unet()?, network.architecture());
    if asked != given {
        let text = |unet| format!("{unet:?}");
        return Err(Error::value("the network", text(asked), text(given)));
    }
    Ok(())
}

/// The folder of training images.
fn open_folder(config: &Config) -> Result<Folder> {
    // Neither an earlier run's pictures nor the images that runs are scored on are for training.
    let (run, scored) = (config.folder(), Validation::folder(config));
    let excluded: Vec<&Path> = [Some(run.as_path()), scored.as_deref()]
        .into_iter()
        .flatten()
        .collect();
    Folder::open(&config.data_dir, &excluded)
}

/// A run on the images of a source; with `start`, in its folder. How it ended, and the metadata of its weights.
fn train_on(
    images: Arc<dyn Source>,
    start: Option<Start>,
    config: &Config,
    network: &mut dyn Train,
    stop: &AtomicBool,
    observe: &mut dyn FnMut(&Event),
) -> Result<(Outcome, BTreeMap<String, String>)> {
    let (dataset, held_out) = read_images(images, config, observe)?;
    if start.is_none() && stop.load(Relaxed) {
        return Err(Error::Stopped);
    }
    // What was measured is a setting from here on, so that a resumed run has it too.
    let config = &Config {
        range: dataset.range(),
        ..config.clone()
    };
    let range = dataset.model_range();
    let images = dataset.fingerprint() ^ held_out.fingerprint().rotate_left(1);
    let loader = Loader::new(dataset, config)?;
    tell_padded(&loader, config, observe);
    let validation = Validation::new(config, held_out)?;
    let (n, side) = (config.batchsize, config.patchsize);
    network.set_method(config.method())?;
    network.reserve_step(n, side, side)?;
    // Last, for it may remove an earlier run: nothing is known by now to stand in the way.
    let folder = start.map(|start| RunFolder::open(config, &network.device(), start));
    let mut run = Run {
        config,
        range,
        loader,
        validation,
        progress: Progress::new(images, network.device()),
        untold: Untold::default(),
        told: None,
        kept: None,
        folder: folder.transpose()?,
        clock: Instant::now(),
        observe,
    };
    if start == Some(Start::Resume) {
        run.go_on(network)?;
    }
    match run.train(network, stop) {
        Ok(outcome) => Ok((outcome, run.metadata(run.progress.epoch))),
        Err(error) => Err(run.with_checkpoint(error)),
    }
}

/// The images to train on, and those held out.
fn read_images(
    images: Arc<dyn Source>,
    config: &Config,
    observe: &mut dyn FnMut(&Event),
) -> Result<(Dataset, Dataset)> {
    let mut dataset = Dataset::read(images, config.n_channel, config.cache_mb << 20, observe);
    dataset.set_range(config.range);
    if config.measures_range() {
        if let Some(ModelRange { low, high, .. }) = dataset.measured_range() {
            dataset.set_range(Range::Between(low, high));
        } else if dataset.depth().is_none() && !dataset.is_empty() {
            observe(&Event::MixedTypes);
        }
    }
    let images = config.held_out(dataset.len()).min(dataset.len());
    let mut rng = stream(config.seed, Purpose::HoldOut, 0, 0);
    let held_out = if dataset.len() == 1 && images == 1 {
        dataset.take_part(config.patchsize)?
    } else {
        dataset.take(&index::sample(&mut rng, dataset.len(), images).into_vec())
    };
    if !held_out.is_empty() {
        observe(&Event::HeldOut {
            images: held_out.len(),
        });
    }
    Ok((dataset, held_out))
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

/// A reconstruction loss so many times the least of the run does not come back (docs/train.md).
const DIVERGED: f64 = 1e6;
/// What counts as the least where it is less: images may be black.
const LEAST: f64 = 1e-3;

/// A run under way.
struct Run<'a> {
    config: &'a Config,
    /// What the network sees as 0 to 1, if that is not the whole range of a type.
    range: Option<ModelRange>,
    loader: Loader,
    validation: Validation,
    /// Where it is kept, if it is.
    folder: Option<RunFolder>,
    progress: Progress,
    /// The steps of which the device has not told yet what became of them.
    untold: Untold,
    /// What it told last.
    told: Option<Told>,
    /// When the checkpoint was written that the run can be resumed from, its epoch and iteration.
    kept: Option<(Instant, usize, usize)>,
    /// When the progress' time was last brought up to date.
    clock: Instant,
    observe: &'a mut dyn FnMut(&Event),
}

impl Run<'_> {
    fn train(&mut self, network: &mut dyn Train, stop: &AtomicBool) -> Result<Outcome> {
        let config = self.config;
        self.announce(network)?;
        let Progress {
            epoch, iteration, ..
        } = self.progress;
        let last_epoch = match config.time_budget {
            None => config.n_epoch,
            Some(_) => Config::MAX_EPOCHS,
        };
        if epoch > last_epoch {
            // Its settings were changed to fewer epochs than it has had.
            return Ok(Outcome::Finished);
        }
        // A device that draws noise itself draws it anew at every visit.
        let kind = if config.frozen_noise {
            Kind::Noisy
        } else {
            network.wants()
        };
        let mut samples = self.loader.batches(kind, epoch, iteration, last_epoch)?;

        while !self.progress.finished {
            self.begin_epoch()?;
            while self.progress.iteration < self.loader.iterations() && !self.is_out_of_time() {
                let waiting = Instant::now();
                let sample = match samples.next().expect("a batch for every iteration") {
                    Ok(sample) => sample,
                    Err(error) => {
                        // What has been reached does not depend on what cannot be read any more.
                        self.keep(network)?;
                        return Err(error);
                    }
                };
                let started = Instant::now();
                let moment = self.moment();
                let (rate, factors) = (config.learning_rate(moment), config.factors(moment));
                let losses = network.step(&sample, factors, rate)?;
                self.average(network);
                self.count(waiting, started);
                if let Some(losses) = losses {
                    self.told = Some(self.take_down(network, losses)?);
                }
                self.record(network, factors, rate)?;
                if stop.load(Relaxed) {
                    self.keep(network)?;
                    return Ok(Outcome::Stopped);
                }
                if self.is_due() {
                    self.keep(network)?;
                }
            }
            if self.end_epoch(network, stop)? == Outcome::Stopped {
                return Ok(Outcome::Stopped);
            }
        }
        Ok(Outcome::Finished)
    }

    /// Takes up an interrupted run where its checkpoint is; without one, at the beginning.
    fn go_on(&mut self, network: &mut dyn Train) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let latest = folder.latest();
        if !latest.exists() {
            return folder.cut_logs(&BTreeMap::new());
        }
        let (state, progress) = checkpoint::read(&latest)?;
        if progress.images != self.progress.images {
            return Err(Error::value(
                format!("images in {}", self.config.data_dir.display()),
                "those the run was begun with, of the same names and sizes",
                "others",
            ));
        }
        network.set_state(&state)?;
        folder.cut_logs(&progress.logs)?;
        let device = std::mem::replace(&mut self.progress, progress).device;
        let before = std::mem::replace(&mut self.progress.device, device);
        self.kept = Some((Instant::now(), self.progress.epoch, self.progress.iteration));
        (self.observe)(&Event::Resumed {
            epoch: self.progress.epoch,
            iteration: self.progress.iteration,
            steps: self.progress.steps,
            other_device: (before != self.progress.device).then_some(before),
        });
        Ok(())
    }

    /// Says what the run is about; of a new one, also to its log, and keeps how it begins.
    fn announce(&mut self, network: &mut dyn Train) -> Result<()> {
        let began = [
            Event::Fetched {
                samples: self.loader.samples(),
            },
            Event::Began {
                batchsize: self.config.batchsize,
                n_epoch: self.config.n_epoch,
                iterations: self.loader.iterations(),
                time_budget: self.config.time_budget,
            },
        ];
        let events: Vec<_> = (self.range.map(Event::Ranged).into_iter())
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
        self.keep(network)
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

    /// Whether it is time to keep what has been reached.
    fn is_due(&self) -> bool {
        let every = self.config.checkpoint_every.0;
        self.folder.is_some() && self.kept.is_none_or(|(when, ..)| when.elapsed() >= every)
    }

    fn average(&self, network: &mut dyn Train) {
        if self.config.ema > 0.0 {
            // A young average forgets faster: where it began is worth nothing.
            let steps = self.progress.steps as f64;
            network.average(self.config.ema.min((1.0 + steps) / (10.0 + steps)));
        }
    }

    /// Counts a step that was asked for.
    fn count(&mut self, waiting: Instant, started: Instant) {
        self.progress.iteration += 1;
        self.progress.steps += 1;
        self.untold.steps += 1;
        self.untold.elapsed_s += started.elapsed().as_secs_f64();
        self.untold.waited_s += (started - waiting).as_secs_f64();
    }

    /// Asks a device that tells it later what became of the steps since it was last asked. Nothing is
    /// saved, and no run ends, before it has told.
    fn settle(&mut self, network: &mut dyn Train) -> Result<()> {
        if self.untold.steps == 0 {
            return Ok(());
        }
        let started = Instant::now();
        let losses = network.take_losses()?;
        self.untold.elapsed_s += started.elapsed().as_secs_f64();
        self.take_down(network, losses)?;
        // Of all steps since the row before, so that a line does not depend on when else it was asked.
        self.told = Some(self.progress.pending.means());
        Ok(())
    }

    /// Takes down what became of the untold steps, of which `sums` are the losses, and gives their
    /// means.
    fn take_down(&mut self, network: &dyn Train, sums: Losses) -> Result<Told> {
        let Untold {
            steps,
            elapsed_s,
            waited_s,
        } = std::mem::take(&mut self.untold);
        if !sums.loss_full.is_finite() {
            return Err(self.not_finite(network, steps)?);
        }
        let taken = Pending {
            steps,
            elapsed_s: elapsed_s + waited_s,
            waited_s,
            loss1: sums.loss1,
            loss2: sums.loss2,
            loss_full: sums.loss_full,
        };
        self.progress.pending.add(&taken);
        let told = taken.means();
        let (loss, least) = (told.losses.loss1, self.progress.least_loss);
        match least.map(|least| least.max(LEAST)) {
            Some(least) if loss > DIVERGED * least => Err(Error::Diverged {
                epoch: self.progress.epoch,
                iteration: self.progress.iteration,
                loss,
                least,
            }),
            _ => Ok(told),
        }
    }

    /// Which of the last `steps` failed: the first that the network has not counted, for it stays as it
    /// was before it.
    fn not_finite(&self, network: &dyn Train, steps: u64) -> Result<Error> {
        let before = self.progress.steps - steps;
        let good = network.state()?.steps.saturating_sub(before);
        let good = good.min(steps - 1);
        let iteration = self.progress.iteration - (steps - good) as usize;
        let epoch = self.progress.epoch;
        Ok(Error::NotFinite {
            epoch,
            iteration: iteration + 1,
            images: self.loader.names(epoch, iteration).join(", "),
            checkpoint: self.folder.as_ref().map(RunFolder::latest),
        })
    }

    /// Writes a step down.
    fn record(&mut self, network: &mut dyn Train, factors: LossFactors, rate: f64) -> Result<()> {
        let (epoch, iteration) = (self.progress.epoch, self.progress.iteration);
        let logged = iteration.is_multiple_of(self.config.log_iters);
        let is_row = logged || iteration == self.loader.iterations();
        if is_row {
            self.settle(network)?;
        }
        self.tick();
        if is_row {
            self.write_losses(factors.lambda, rate)?;
        }
        let passed = self.moment().passed;
        self.tell(&Event::Stepped(Step {
            epoch,
            iteration,
            told: self.told,
            lambda: factors.lambda,
            passed,
            logged,
        }))
    }

    /// Adds the means over the pending steps to the tables.
    fn write_losses(&mut self, lambda: f64, rate: f64) -> Result<()> {
        let pending = std::mem::take(&mut self.progress.pending);
        let Losses {
            loss1,
            loss2,
            loss_full,
        } = pending.means().losses;
        let least = self
            .progress
            .least_loss
            .map_or(loss1, |least| least.min(loss1));
        self.progress.least_loss = Some(least);
        let row = LossRow {
            step: self.progress.steps,
            epoch: self.progress.epoch,
            iteration: self.progress.iteration,
            loss1,
            loss2,
            loss_full,
            lambda,
            learning_rate: rate,
            steps_per_s: pending.steps as f64 / pending.elapsed_s,
            waited: pending.waited_s / pending.elapsed_s,
            elapsed_s: self.progress.elapsed_s,
        };
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let mut table = csv::WriterBuilder::new()
            .has_headers(folder.is_empty(LOSSES))
            .from_writer(vec![]);
        let text = table
            .serialize(row)
            .map_err(std::io::Error::from)
            .and_then(|()| table.into_inner().map_err(csv::IntoInnerError::into_error))
            .map_err(Error::io(LOSSES))?;
        folder.append(LOSSES, &text)?;
        self.show(&[
            Value::Scalar("loss/loss1", row.loss1),
            Value::Scalar("loss/loss2", row.loss2),
            Value::Scalar("loss/loss_full", row.loss_full),
            Value::Scalar("schedule/lambda", lambda),
            Value::Scalar("schedule/learning_rate", rate),
            Value::Scalar("speed/steps_per_s", row.steps_per_s),
            Value::Scalar("speed/waited", row.waited),
        ])
    }

    /// Adds to the file for `TensorBoard`.
    fn show(&self, values: &[Value]) -> Result<()> {
        let Some(folder) = self.folder.as_ref().filter(|_| !values.is_empty()) else {
            return Ok(());
        };
        let mut records = vec![];
        if folder.is_empty(EVENTS) {
            records.extend(tensorboard::header());
        }
        records.extend(tensorboard::values(self.progress.steps, values.to_vec()));
        folder.append(EVENTS, &records)
    }

    /// After the last step of an epoch: its snapshot, if it is due, and on to the next.
    fn end_epoch(&mut self, network: &mut dyn Train, stop: &AtomicBool) -> Result<Outcome> {
        self.settle(network)?;
        self.tick();
        let epoch = self.progress.epoch;
        let is_last = match self.config.time_budget {
            None => epoch == self.config.n_epoch,
            Some(_) => self.is_out_of_time() || epoch == Config::MAX_EPOCHS,
        };
        let is_snapshot = is_last || self.config.is_snapshot(epoch);
        if is_snapshot {
            let logs = self.log_lengths()?;
            // What is scored and saved is the average, if there is one.
            network.swap_average();
            let outcome = self.snapshot(network, epoch, stop);
            network.swap_average();
            match outcome {
                Err(error @ (Error::Stopped | Error::Image { .. })) => {
                    self.progress.logs = logs;
                    self.write_checkpoint(network)?;
                    return match error {
                        Error::Stopped => Ok(Outcome::Stopped),
                        error => Err(error),
                    };
                }
                outcome => outcome?,
            }
        }
        self.tick();
        self.progress.epoch += 1;
        self.progress.iteration = 0;
        // A snapshot takes time too.
        self.progress.finished = is_last || (is_snapshot && self.is_out_of_time());
        if is_snapshot || self.is_due() {
            self.keep(network)?;
        }
        if is_snapshot && let Some(folder) = &self.folder {
            folder.keep(self.config.keep)?;
        }
        Ok(Outcome::Finished)
    }

    fn snapshot(&mut self, network: &mut dyn Train, epoch: usize, stop: &AtomicBool) -> Result<()> {
        self.save(network, epoch)?;
        let (folder, observe) = (self.folder.as_ref(), &mut *self.observe);
        let scores = (self.validation).score(network, epoch, folder, stop, observe)?;
        self.show_scores(&scores, epoch)?;
        if let Some(merit) = scores.merit()
            && self.progress.best.is_none_or(|best| merit > best)
        {
            if let Some(folder) = &self.folder {
                self.weights(network, epoch)?.write(&folder.best())?;
            }
            self.progress.best = Some(merit);
        }
        if let Some(score) = scores.set {
            self.tell(&Event::Evaluated(score))?;
        }
        if let Some(losses) = scores.held_out {
            self.tell(&Event::HeldOutEvaluated(losses))?;
        }
        if let Some(collapse) = scores.collapse {
            self.tell(&Event::Collapsed(collapse))?;
        }
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        page::write(folder, self.config, self.loader.iterations())?;
        let path = folder.page();
        self.tell(&Event::Reported { path })
    }

    fn show_scores(&self, scores: &Scores, epoch: usize) -> Result<()> {
        let mut values = vec![];
        if let Some(score) = &scores.set {
            values.push(Value::Scalar("validation/psnr_db", score.psnr_db));
            values.push(Value::Scalar("validation/ssim", score.ssim));
        }
        if let Some(losses) = &scores.held_out {
            values.push(Value::Scalar("held_out/loss1", losses.loss1));
            values.push(Value::Scalar("held_out/loss2", losses.loss2));
            values.push(Value::Scalar("held_out/loss_full", losses.loss_full));
        }
        if let (Some(folder), Some(set)) = (&self.folder, scores.pictures) {
            let [_, _, denoised] = folder.pictures(set, 0, epoch);
            let (width, height) = image::dimensions(&denoised)?;
            values.push(Value::Image {
                name: "denoised",
                height,
                width,
                channels: self.config.n_channel,
                png: fs::read(&denoised).map_err(Error::io(&denoised))?,
            });
        }
        self.show(&values)
    }

    /// Writes the numbered checkpoint of an epoch.
    fn save(&mut self, network: &dyn Train, epoch: usize) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let path = folder.checkpoint(epoch);
        self.weights(network, epoch)?.write(&path)?;
        self.tell(&Event::Saved { path })
    }

    /// The weights, and how they came about.
    fn weights(&self, network: &dyn Train, epoch: usize) -> Result<Weights> {
        let mut weights = network.weights()?;
        weights.metadata = self.metadata(epoch);
        Ok(weights)
    }

    fn metadata(&self, epoch: usize) -> BTreeMap<String, String> {
        let config = self.config;
        [
            ("noise", config.noise.to_string()),
            ("epoch", epoch.to_string()),
            ("n_epoch", config.n_epoch.to_string()),
            ("seed", config.seed.to_string()),
            ("lr", config.lr.to_string()),
            ("init_scale", config.init_scale.to_string()),
            ("batchsize", config.batchsize.to_string()),
            ("patchsize", config.patchsize.to_string()),
            ("samples", self.loader.samples().to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_string()),
        ]
        .into_iter()
        .chain(
            config
                .init_from
                .iter()
                .map(|model| ("init_from", model.display().to_string())),
        )
        .chain(self.range.into_iter().flat_map(ModelRange::entries))
        .map(|(key, value)| (key.to_string(), value))
        .collect()
    }

    /// Writes what the run can be resumed from.
    fn keep(&mut self, network: &mut dyn Train) -> Result<()> {
        self.settle(network)?;
        self.progress.logs = self.log_lengths()?;
        self.write_checkpoint(network)
    }

    fn log_lengths(&self) -> Result<BTreeMap<String, u64>> {
        let lengths = self.folder.as_ref().map(RunFolder::log_lengths);
        Ok(lengths.transpose()?.unwrap_or_default())
    }

    fn write_checkpoint(&mut self, network: &dyn Train) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let path = folder.latest();
        let (epoch, iteration) = (self.progress.epoch, self.progress.iteration);
        let metadata = self.metadata(epoch);
        checkpoint::write(&path, &network.state()?, &self.progress, metadata)?;
        self.kept = Some((Instant::now(), epoch, iteration));
        (self.observe)(&Event::Kept { path });
        Ok(())
    }

    /// Brings the run's time up to date.
    fn tick(&mut self) {
        let now = Instant::now();
        self.progress.elapsed_s += (now - self.clock).as_secs_f64();
        self.clock = now;
    }

    /// What to say of a failure to write, of a device, or of the run itself.
    fn with_checkpoint(&self, error: Error) -> Error {
        let reason = match error {
            Error::Io { .. }
            | Error::Image { .. }
            | Error::Device { .. }
            | Error::OutOfMemory { .. }
            | Error::Diverged { .. } => Box::new(error),
            error => return error,
        };
        match (&self.folder, self.kept) {
            (Some(folder), Some((_, epoch, iteration))) => Error::Unsaved {
                reason,
                checkpoint: folder.latest(),
                epoch,
                iteration,
            },
            _ => *reason,
        }
    }
}

/// Steps that were asked for, and the sums of their times.
#[derive(Debug, Default)]
struct Untold {
    steps: u64,
    elapsed_s: f64,
    waited_s: f64,
}

impl Progress {
    fn new(images: u64, device: String) -> Self {
        Self {
            epoch: 1,
            iteration: 0,
            steps: 0,
            finished: false,
            elapsed_s: 0.0,
            best: None,
            pending: Pending::default(),
            least_loss: None,
            images,
            device,
            logs: BTreeMap::new(),
        }
    }
}

/// A row of the table of losses.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct LossRow {
    /// Steps taken in all.
    pub step: u64,
    /// Epoch, counted from 1.
    pub epoch: usize,
    /// Steps taken in it.
    pub iteration: usize,
    /// Mean over the steps since the row before.
    pub loss1: f64,
    /// Likewise.
    pub loss2: f64,
    /// Likewise.
    pub loss_full: f64,
    /// Λ of the last of them.
    pub lambda: f64,
    /// Learning rate of the last of them.
    pub learning_rate: f64,
    /// Their rate, without what came between them.
    pub steps_per_s: f64,
    /// The part of their time in which the network waited for batches.
    pub waited: f64,
    /// Time of the run so far.
    pub elapsed_s: f64,
}

#[cfg(test)]
mod tests;
