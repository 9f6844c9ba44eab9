//! `n2n predict`

mod adapt;
mod plan;
mod report;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, bail};
use n2n::denoise::{ModelRange, Options, Padding, Transform, WithGray};
use n2n::predict::{self, Config, Input};
use n2n::repair::Repair;
use n2n::weights::Weights;
use n2n::{files, models, train};

use self::adapt::adapted;
use self::plan::{Plan, jobs, limits, path};
use self::report::{Report, Tally, locked};
use crate::args::{self, Denoiser, Pad};
use crate::device::{self, Placed};
use crate::progress::Progress;
use crate::ui::Ui;
use crate::{interrupt, jobs};

/// Runs the command: every input is denoised and written under its name with a suffix.
///
/// An input that cannot be read, or a result that cannot be written, is reported, and the others are still processed. A
/// folder that cannot be written to at all is detected before the work begins.
pub fn run(args: &args::Predict, ui: Ui) -> anyhow::Result<ExitCode> {
    check_names(args)?;
    let Plan {
        jobs,
        skipped,
        images,
    } = jobs(args)?;
    check_files(args, &jobs, &images)?;
    let model_path = match args.quality {
        None => args.model_path.clone(),
        Some(quality) => {
            let name = args.model_path.to_string_lossy();
            PathBuf::from(models::of_quality(&name, quality).context("--quality")?)
        }
    };
    let mut weights = load(&model_path)?;
    let model = || model_path.display().to_string();
    if let Some(first) = jobs.iter().find_map(|job| path(&job.output)) {
        files::check_writable(first)?;
    }
    if let Some(json) = &args.json {
        files::check_writable(json)?;
    }
    let tally = Arc::new(Mutex::new(Tally {
        started: None,
        device: None,
        images: jobs.len(),
        failed: 0,
        skipped,
        files: Vec::new(),
    }));
    if let Some(json) = args.json.clone() {
        let tally = Arc::clone(&tally);
        interrupt::before_end(move || {
            if let Err(error) = locked(&tally).write(&json, true) {
                ui.error(error);
            }
        });
    }
    if let Some(budget) = args.adapt {
        let models = (weights, &*model_path);
        weights = adapted(models, budget, args, &jobs, &images, ui)?;
    }
    let Denoiser { device_args, half } = &args.denoiser;
    let Placed { network, .. } = device::place(device_args, *half, &weights, ui)?;
    let mut network = Transform::place(&weights.metadata, network).with_context(model)?;
    if let Some(gray) = models::gray_companion(&weights)? {
        let gray = device::place(device_args, *half, &gray, Ui::new(true))?;
        network = Box::new(WithGray::new(network, gray.network));
    }
    if let Some(repair) = weights.metadata.get(Repair::KEY)
        && args.repair.is_none()
    {
        ui.note(format_args!(
            "note: the model was trained on repaired images; repair these too with --repair \
             {repair}"
        ));
    }
    {
        let mut tally = locked(&tally);
        tally.started = Some(Instant::now());
        tally.device = Some(network.device());
    }
    let mut report = Report {
        args,
        ui,
        jobs: &jobs,
        progress: Progress::new(ui, "image"),
        tally: &tally,
        lost: None,
        counted: None,
        warned_of_gray: Cell::new(false),
    };
    let range = ModelRange::of(&weights.metadata).with_context(model)?;
    let config = config(args, range, &images);
    predict::predict(&mut *network, &jobs, &config, |event| {
        report.tell(event);
    });
    report.finish()
}

/// Rejects names that would lead somewhere other than where they seem to.
fn check_names(args: &args::Predict) -> anyhow::Result<()> {
    if args.suffix.contains(std::path::is_separator) {
        bail!(
            "--suffix: expected part of a file name, found {:?}",
            args.suffix
        );
    }
    if args.json.is_some() && args.json == args.save_model {
        bail!("--json and --save-model name the same file");
    }
    Ok(())
}

/// Rejects a report or a model that would replace an image or a result. Their names need not have the extension of an
/// image.
fn check_files(
    args: &args::Predict,
    jobs: &[predict::Job],
    images: &[Input],
) -> anyhow::Result<()> {
    let of_jobs = jobs.iter().flat_map(|job| {
        let input = file(&job.input);
        let others = [&job.residual, &job.compare, &job.reference].map(Option::as_deref);
        [input, path(&job.output)]
            .into_iter()
            .chain(others)
            .flatten()
    });
    let images = images.iter().filter_map(file);
    jobs::reject_replacing(
        &[
            ("--json", args.json.as_deref()),
            ("--save-model", args.save_model.as_deref()),
        ],
        of_jobs.chain(images),
    )
}

/// The file of an input, unless it is a stream.
fn file(input: &Input) -> Option<&Path> {
    match input {
        Input::File(path) => Some(path),
        Input::Bytes(..) => None,
    }
}

fn config(args: &args::Predict, model: Option<ModelRange>, images: &[Input]) -> Config {
    Config {
        options: Options {
            padding: match args.pad {
                Pad::Multiple => Padding::Multiple,
                Pad::Square => Padding::Square,
            },
            tile: args.tile,
            max_bytes: args.max_tile_memory(),
            strength: args.strength,
            ensemble: args.ensemble,
            ..Options::default()
        },
        range: args.range,
        model,
        // A stream has a range of its own.
        images: images
            .iter()
            .filter_map(file)
            .map(Path::to_path_buf)
            .collect(),
        limits: limits(args),
        repair: args.repair.unwrap_or_default(),
    }
}

fn load(model: &Path) -> anyhow::Result<Weights> {
    let weights = models::load(Some(model))?;
    let unet = weights
        .architecture()
        .with_context(|| model.display().to_string())?;
    match unet.n_channel {
        1..=train::Config::MAX_CHANNELS => Ok(weights),
        other => bail!(
            "{}: expected a model with 1 to {} channels, found {other}",
            model.display(),
            train::Config::MAX_CHANNELS
        ),
    }
}
