//! `n2n train`

use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use n2n::cpu::CpuNetwork;
use n2n::diagnose::{Diagnosis, Finding, Severity};
use n2n::error::Error;
use n2n::models;
use n2n::noise::Noise;
use n2n::train::config::Span;
use n2n::train::spacing::Spacing;
use n2n::train::{Collapse, Config, Distillation, Event, Outcome, Start, Step, folder};
use n2n::weights::Weights;
use toml::Table;

use crate::args;
use crate::commands::diagnose::remedy;
use crate::device::{self, Placed};
use crate::interrupt;
use crate::ui::Ui;

/// Settings that may be changed when a run is resumed. They change none of its results, as long as the folders among
/// them contain the same images.
const RESUMABLE: [&str; 6] = [
    "data_dir",
    "val_dirs",
    "keep",
    "checkpoint_every",
    "loader_threads",
    "cache_mb",
];

/// Time between two lines of progress where there is no terminal for a bar.
const PLAIN_EVERY: Duration = Duration::from_secs(30);

/// Runs the command.
pub fn run(args: &args::Train, ui: Ui) -> anyhow::Result<ExitCode> {
    if args.gpu_devices.is_some() || args.parallel.is_some() {
        ui.note("note: --gpu-devices and --parallel have no effect; use --device");
    }
    let (config, start) = settings(args, ui)?;
    let weights = weights(&config, start)?;
    let Placed { mut network, level } = device::place(&args.device_args, false, &weights, ui)?;
    if config.half {
        if level.is_none() {
            bail!("when training, --half is supported on the CPU only; use --device cpu");
        }
        if CpuNetwork::matrix_units().is_none() {
            bail!(device::NO_UNITS);
        }
    }
    if let Some(teacher) = &config.teacher {
        let Some(level) = level else {
            bail!("--teacher is supported on the CPU only; use --device cpu");
        };
        let weights = models::load(Some(teacher)).context("--teacher")?;
        let mut teacher = CpuNetwork::from_weights(&weights).context("--teacher")?;
        teacher.set_level(level);
        teacher.set_half(config.half).context("--half")?;
        let teacher = Box::new(teacher);
        network = Box::new(Distillation::new(network, teacher, config.seed).context("--teacher")?);
    }
    let stop = interrupt::stop_flag(ui);

    let mut screen = Screen::new(ui);
    let outcome = n2n::train::run(&config, start, &mut *network, &stop, &mut |event| {
        screen.show(event);
    });
    screen.bar.finish_and_clear();
    let device =
        (args.device_args.device).map_or(String::new(), |device| format!(" --device {device}"));
    let resume = format!("n2n train --resume {}{device}", config.folder().display());
    match outcome {
        Ok(Outcome::Finished) => Ok(ExitCode::SUCCESS),
        Ok(Outcome::Stopped) => {
            ui.note(format!("stopped and saved; to continue: {resume}"));
            Ok(ExitCode::from(interrupt::STATUS))
        }
        Err(error @ Error::RunExists { .. }) => bail!(
            "{error}\nhint: choose another --log-name, or pass --resume {} or --overwrite",
            config.folder().display()
        ),
        Err(ref error @ Error::NoCheckpoint { ref newest, .. }) => bail!(
            "{error}\nhint: restore it, or start a new run from the other one: n2n train --config \
             {} --lr 3e-4 --log-name NEW --init-from {}",
            config.folder().join("config.toml").display(),
            newest.display()
        ),
        Err(ref error @ Error::Weights { ref path, .. }) if path.starts_with(config.folder()) => {
            bail!(
                "{error}\nhint: start a new run from an earlier checkpoint in this folder: n2n train --config {} \
                 --lr 3e-4 --log-name NEW --init-from FILE",
                config.folder().join("config.toml").display()
            )
        }
        Err(error @ Error::RunEnded { .. }) if has_diverged(&error) => bail!(
            "{error}\nhint: start again with a lower --lr, or from a snapshot with --init-from; \
             --resume would take the same steps again"
        ),
        Err(error @ Error::RunEnded { .. }) => {
            bail!("{error}\nhint: {}{resume}", before_resuming(&error))
        }
        Err(error @ Error::OutOfMemory { .. }) => {
            bail!(
                "{error}\nhint: a smaller --batchsize or --patchsize needs less memory; --accumulate can keep the \
                 number of patches per step"
            )
        }
        Err(error @ Error::NotFinite { .. }) => {
            bail!("{error}\nhint: check these images; a lower --lr or another --seed may help")
        }
        Err(error) => Err(error.into()),
    }
}

fn has_diverged(error: &Error) -> bool {
    matches!(error, Error::RunEnded { reason, .. } if matches!(**reason, Error::Diverged { .. }))
}

/// What to do before resuming a run that could not continue.
fn before_resuming(error: &Error) -> &'static str {
    let Error::RunEnded { reason, .. } = error else {
        return "";
    };
    match **reason {
        Error::Device { .. } => "once the device works again, or with another --device: ",
        Error::OutOfMemory { .. } => "free memory on the device, then ",
        Error::Image { .. } => "restore the image, then ",
        Error::Io { ref reason, .. } if reason.kind() == ErrorKind::NotFound => {
            "restore the file, then "
        }
        Error::Io { ref reason, .. } if reason.kind() == ErrorKind::PermissionDenied => {
            "make the folder writable, then "
        }
        // The encoder of PNG reports a full disk as another error.
        Error::Io { ref reason, .. }
            if matches!(
                reason.kind(),
                ErrorKind::StorageFull
                    | ErrorKind::QuotaExceeded
                    | ErrorKind::FileTooLarge
                    | ErrorKind::Other
            ) =>
        {
            "free disk space, then "
        }
        _ => "once this is resolved: ",
    }
}

/// The weights before the first step. If a run is resumed, its checkpoint replaces them.
fn weights(config: &Config, start: Start) -> anyhow::Result<Weights> {
    let unet = config.unet()?;
    let replaced = start == Start::Resume && folder::latest(&config.folder()).exists();
    let Some(model) = config.init_from.as_deref().filter(|_| !replaced) else {
        let network = CpuNetwork::initial_scaled(unet, config.init_scale, config.seed);
        return Ok(network.weights());
    };
    let mut weights = models::load(Some(model)).context("--init-from")?;
    if unet.n_channel == 1 {
        weights = weights.to_gray().context("--init-from")?;
    }
    let found = weights.architecture().context("--init-from")?;
    if found != unet {
        let sizes = found.sizes().into_iter().zip(unet.sizes());
        let differing: Vec<_> = sizes
            .filter(|(found, wanted)| found != wanted)
            .map(|((name, size), _)| format!("--{} {size}", name.replace('_', "-")))
            .collect();
        bail!(
            "--init-from {}: expected {unet}, found {found}\nhint: pass {}",
            model.display(),
            differing.join(" ")
        );
    }
    Ok(weights)
}

/// The settings: those of the flags, on top of those of the run, configuration file or recipe that the flags name.
fn settings(args: &args::Train, ui: Ui) -> anyhow::Result<(Config, Start)> {
    let flags =
        Table::try_from(args).context("a flag's value is not Unicode, or a number is too large")?;
    if let Some(run) = &args.resume {
        if let Some(flag) = flags
            .keys()
            .find(|name| !RESUMABLE.contains(&name.as_str()))
        {
            bail!(
                "--{} cannot be changed when resuming a run\nhint: start a new run with --config \
                 {}",
                flag.replace('_', "-"),
                run.join("config.toml").display()
            );
        }
        let settings = folder::settings_of_run(run)?;
        return Ok((Config::resolve(&[settings, flags])?, Start::Resume));
    }
    let mut layers = vec![];
    if let Some(file) = &args.config {
        layers.push(folder::read_settings(file)?);
    }
    layers.push(flags);
    let mut config = Config::resolve(&layers)?;
    // Clean images without noise would say nothing about the network: changing nothing would score best.
    let is_scored = config.noise != Noise::NONE;
    if is_scored && !layers.iter().any(|layer| layer.contains_key("val_dirs")) {
        let usual = Path::new("./validation");
        if usual.join("BSD300/test").is_dir() {
            config.val_dirs = Some(usual.into());
        } else {
            ui.note("note: no validation set in ./validation/BSD300/test; training without scores");
        }
    }
    let start = if args.overwrite {
        Start::Overwrite
    } else {
        Start::New
    };
    Ok((config, start))
}

/// What a user should know of an event.
fn note_of(event: &Event) -> Option<String> {
    Some(match event {
        Event::PatchesReduced {
            patchsizes: [asked, patchsize],
            batchsizes: [_, batchsize],
        } => format!(
            "note: no image is as large as patches of {asked} pixels; using patches of {patchsize} \
             pixels, {batchsize} per batch"
        ),
        Event::Padded {
            images: 1,
            patchsize,
        } => format!(
            "note: one image is smaller than the patches of {patchsize} pixels; it is padded by \
             reflection"
        ),
        Event::Padded { images, patchsize } => format!(
            "note: {images} images are smaller than the patches of {patchsize} pixels; they are \
             padded by reflection"
        ),
        Event::Repaired(repaired) => format!("repaired {repaired}"),
        Event::HeldOut { images: 1 } => {
            "note: one image (or part of it, if it is the only one) is held out for validation"
                .into()
        }
        Event::HeldOut { images } => format!("note: {images} images are held out for validation"),
        Event::Resumed {
            epoch, iteration, ..
        } => format!("resuming at epoch {epoch}, after iteration {iteration}"),
        _ => return None,
    })
}

/// What a user should act on.
fn warning_of(event: &Event) -> Option<String> {
    Some(match event {
        Event::Skipped { error } => format!("{error}; skipped"),
        Event::MixedTypes => "the images are of several types, so no range is measured: the full \
            range of each type maps to 0 to 1; use images of one type, or set --range MIN,MAX"
            .into(),
        Event::Constant => "all pixels of the training images have the same value, so there is \
            nothing to learn from them"
            .into(),
        Event::Resumed {
            other_device: Some(device),
            ..
        } => format!(
            "the run was started on {device}; on the current device, results will differ in their \
             last bits, and the random noise too if one of the two devices draws its own"
        ),
        Event::Collapsed(collapse) => {
            let text = match collapse {
                Collapse::Identity => "the network returns its input",
                Collapse::Constant => "the network returns the same value for every pixel",
            };
            format!("{text}: it has not learned anything yet, or has collapsed")
        }
        Event::FailsOnWhole {
            changes: [whole, parts],
            patchsize,
        } => format!(
            "the network fails on whole images: it changes them by {whole:.4} (RMS, on a scale of \
             0 to 1), but parts of {0} × {0} pixels by {parts:.4}; if that persists, train on \
             larger patches, as with --batchsize 1 --patchsize {1}, or at a lower learning rate (--lr)",
            patchsize / 2,
            2 * patchsize
        ),
        _ => return None,
    })
}

/// The log on standard output, below it a progress bar: first over the files, then over the run.
struct Screen {
    ui: Ui,
    bar: ProgressBar,
    n_epoch: Option<usize>,
    iterations: usize,
    time_budget: Option<Span>,
    /// Running mean of the time of a step.
    step_s: Option<f64>,
    psnr_db: Option<f64>,
    /// When the last plain line was written.
    plain: Option<Instant>,
    /// When the first step of this process was reported, and the part of the run that had passed then.
    began: Option<(Instant, f64)>,
}

impl Screen {
    fn new(ui: Ui) -> Self {
        Self {
            ui,
            bar: ProgressBar::hidden(),
            n_epoch: None,
            iterations: 0,
            time_budget: None,
            step_s: None,
            psnr_db: None,
            plain: None,
            began: None,
        }
    }

    fn show(&mut self, event: &Event) {
        if let Some(line) = event.line() {
            // A closed standard output must not end days of training; the line is in train.log.
            let _ = self.bar.suspend(|| self.ui.result(line));
        }
        if let Some(text) = note_of(event) {
            self.ui.note(text);
        }
        if let Some(text) = warning_of(event) {
            self.bar.suspend(|| self.ui.warn(text));
        }
        match event {
            Event::Scanned { done: 0, total } => {
                self.bar = self.ui.progress(*total as u64);
                self.bar.set_message("images read");
            }
            Event::Scanned { done, total } => {
                self.bar.set_position(*done as u64);
                if done == total {
                    self.bar.finish_and_clear();
                }
            }
            Event::Diagnosed { diagnosis, spacing } => self.diagnosed(diagnosis, *spacing),
            Event::Began {
                n_epoch,
                iterations,
                time_budget,
                ..
            } => {
                self.n_epoch = time_budget.is_none().then_some(*n_epoch);
                self.iterations = *iterations;
                self.time_budget = *time_budget;
                let length = match time_budget {
                    Some(budget) => budget.0.as_secs(),
                    None => (n_epoch * iterations) as u64,
                };
                self.bar = self.ui.progress(length);
            }
            Event::Stepped(step) => self.step(step),
            Event::Scored { done, total } => {
                self.bar.set_message(format!("scoring {done}/{total}"));
            }
            Event::Evaluated(score) => self.psnr_db = Some(score.psnr_db),
            _ => {}
        }
    }

    /// Reports which properties of the noise hinder training and have not been dealt with.
    fn diagnosed(&self, diagnosis: &Diagnosis, spacing: Spacing) {
        let spaced = spacing != Spacing::NONE;
        if spaced {
            let Spacing { x, y } = spacing;
            self.ui.note(format_args!(
                "note: patches use pixels {x} apart along rows and {y} apart along columns, \
                 because neighbors share noise"
            ));
        }
        let mut about_neighbors = spaced;
        for finding in diagnosis.findings() {
            let warned = match finding {
                // These three findings describe one problem.
                Finding::Correlated { .. }
                | Finding::Demosaiced { .. }
                | Finding::JpegBlocks { .. } => !std::mem::replace(&mut about_neighbors, true),
                Finding::Mosaic { .. } | Finding::Lines { .. } | Finding::HotPixels { .. } => {
                    finding.severity() == Severity::Warning
                }
                _ => false,
            };
            if warned {
                let remedy =
                    remedy(&finding).map_or(String::new(), |remedy| format!("\nhint: {remedy}"));
                self.ui.warn(format_args!("{finding}{remedy}"));
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let stats = step.stats.map_or(String::new(), |stats| {
            let step_s = stats.elapsed_s + stats.waited_s;
            let mean = self
                .step_s
                .map_or(step_s, |mean| 0.95 * mean + 0.05 * step_s);
            self.step_s = Some(mean);
            let loss = stats.losses.loss_full;
            format!(", {:.2} steps/s, loss {loss:.6}", 1.0 / mean)
        });
        let epochs = self.n_epoch.map_or(String::new(), |all| format!("/{all}"));
        let psnr = (self.psnr_db).map_or(String::new(), |psnr| format!(", PSNR {psnr:.2}"));
        let text = format!("epoch {}{epochs}{stats}{psnr}", step.epoch);
        let length = self.bar.length().unwrap_or(0) as f64;
        let at = (step.passed * length).round() as u64;
        let (began, at_first) = *self.began.get_or_insert_with(|| {
            // What an earlier process did says nothing about this one's rate.
            self.bar.set_position(at);
            self.bar.reset_eta();
            (Instant::now(), step.passed)
        });
        if !self.ui.wants_lines() {
            self.bar.set_message(text);
            self.bar.set_position(at);
        } else if self.plain.is_none_or(|last| last.elapsed() >= PLAIN_EVERY) {
            // The first line comes with the first step, the next ones when they are due.
            self.plain = Some(Instant::now());
            let rate = (step.passed - at_first) / began.elapsed().as_secs_f64();
            let left = Duration::try_from_secs_f64(((1.0 - step.passed) / rate).round());
            let eta = left.map_or("?".into(), |left| {
                humantime::format_duration(left).to_string()
            });
            self.ui.note(format!(
                "{text}, iteration {}/{}, {:.1} % done, ETA {eta}",
                step.iteration,
                self.iterations,
                100.0 * step.passed
            ));
        }
    }
}
