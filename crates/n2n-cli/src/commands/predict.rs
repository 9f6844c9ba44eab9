//! `n2n predict`

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use indicatif::ProgressBar;
use n2n::adapt::{self, Budget};
use n2n::denoise::{
    Misfit, ModelRange, Options, Padding, Range, Shrunk, Transform, WithGray, shown, type_name,
};
use n2n::error::Error;
use n2n::image::{Depth, Encoding, Format, Limits, Reader, Selection};
use n2n::predict::{self, Config, Done, Event, Input, Output};
use n2n::repair::Repair;
use n2n::weights::Weights;
use n2n::{Model, files, image, models, train};

use crate::args::{self, Denoiser, Pad};
use crate::device::{self, Placed};
use crate::interrupt;
use crate::jobs::{self, Earlier, Job, Naming};
use crate::ui::Ui;

/// Seconds between two lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Runs the command: every input is denoised and written under its name with a suffix.
///
/// An input that cannot be read, or a result that cannot be written, is reported, and the others go
/// on. A folder that cannot be written to at all is found out before the work.
pub fn run(args: &args::Predict, ui: Ui) -> anyhow::Result<ExitCode> {
    check_names(args)?;
    let Plan {
        jobs,
        skipped,
        images,
    } = jobs(args)?;
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
        started: Instant::now(),
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
    let started = Instant::now();
    {
        let mut tally = locked(&tally);
        tally.started = started;
        tally.device = Some(network.device());
    }
    let mut report = Report {
        args,
        ui,
        jobs: &jobs,
        bar: ui.progress(jobs.len() as u64),
        tally: &tally,
        lost: None,
        started,
        line_at: started,
        warned_of_gray: Cell::new(false),
    };
    let range = ModelRange::of(&weights.metadata).with_context(model)?;
    let config = config(args, range, images);
    predict::predict(&mut *network, &jobs, &config, |event| {
        report.tell(event);
    });
    report.finish()
}

/// Refuses names that would lead elsewhere than they seem to.
fn check_names(args: &args::Predict) -> anyhow::Result<()> {
    if args.suffix.contains(std::path::is_separator) {
        bail!(
            "--suffix: expected part of a file name, found {:?}",
            args.suffix
        );
    }
    // As when the name of an image, or of a stream, comes where that of the report is expected.
    let other = |json: &&PathBuf| image::is_supported(json) || is_stream(json);
    if let Some(json) = args.json.as_ref().filter(other) {
        bail!(
            "--json: expected a file name for the report, found {}",
            json.display()
        );
    }
    Ok(())
}

fn config(args: &args::Predict, model: Option<ModelRange>, images: Vec<PathBuf>) -> Config {
    Config {
        options: Options {
            padding: match args.pad {
                Pad::Multiple => Padding::Multiple,
                Pad::Square => Padding::Square,
            },
            tile: args.tile,
            max_bytes: args.max_memory,
            strength: args.strength,
            ensemble: args.ensemble,
            ..Options::default()
        },
        range: args.range,
        model,
        images,
        limits: limits(args),
        repair: args.repair.unwrap_or_default(),
    }
}

/// Samples that have to be in memory take four bytes and what they are decoded from; more than the
/// memory that may be used would not fit.
fn limits(args: &args::Predict) -> Limits {
    Limits {
        pixels: args.max_pixels,
        samples: Limits::default().samples.max(args.max_memory / 4),
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

/// The weights of a copy of the model that fits the images; it is said how, and by how much.
fn adapted(
    (weights, model_path): (Weights, &Path),
    budget: Budget,
    args: &args::Predict,
    jobs: &[predict::Job],
    images: &[PathBuf],
    ui: Ui,
) -> anyhow::Result<Weights> {
    if args.range == Range::Percentile {
        bail!(
            "--range: expected auto or MIN,MAX with --adapt, which measures the range itself, found percentile"
        );
    }
    if let Some(file) = &args.save_model {
        files::check_writable(file)?;
    }
    let config = adapt::Config {
        budget,
        range: args.range,
        seed: args.seed,
        level: args.denoiser.device_args.processor.level(),
        ..adapt::Config::default()
    };
    // All images of a job array, so that each job comes to the same model.
    let inputs: Vec<_> = if images.is_empty() {
        jobs.iter().map(|job| job.input.clone()).collect()
    } else {
        images.iter().cloned().map(Input::File).collect()
    };
    let inputs = inputs.into_iter().map(|input| (input, selection(args)));
    let inputs = Arc::new(adapt::Inputs::new(inputs.collect(), limits(args)));
    let model = Model::from_weights(weights)?;
    let others = other_shipped(model_path)?;
    let models: Vec<&Model> = std::iter::once(&model).chain(&others).collect();
    let bar = ui.progress(100);
    bar.set_message("fitting the model");
    let mut line_at = Instant::now();
    let adapted = adapt::adapt(&models, inputs, &config, &mut |event| {
        match event {
            adapt::Event::Passed(passed) => {
                bar.set_position((100.0 * passed) as u64);
                if ui.wants_lines() && line_at.elapsed() > LINE_EVERY {
                    line_at = Instant::now();
                    ui.note(format_args!("fitting the model, {:.0} %", 100.0 * passed));
                }
            }
            adapt::Event::Skipped { error } => bar.suspend(|| {
                ui.warn(format_args!("not used for fitting: {error}"));
            }),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    bar.finish_and_clear();
    let adapted = adapted.context("--adapt")?;
    ui.note(format_args!("adapted: {adapted}"));
    if let Some(file) = &args.save_model {
        adapted.model.save(file)?;
    }
    Ok(adapted.model.weights().clone())
}

/// If `model` is a shipped one, the others of its quality and channels: which noise the images have is not known.
fn other_shipped(model: &Path) -> anyhow::Result<Vec<Model>> {
    // A file of that name comes before it.
    let Some(name) = model.to_str().filter(|_| !model.exists() || model.is_dir()) else {
        return Ok(vec![]);
    };
    let others = models::others(name).map(Model::load);
    Ok(others.collect::<Result<_, _>>()?)
}

/// What is to be done.
struct Plan {
    jobs: Vec<predict::Job>,
    /// Images left out because their results are there.
    skipped: usize,
    /// All images, those that are left out or another shard's too.
    images: Vec<PathBuf>,
}

fn jobs(args: &args::Predict) -> anyhow::Result<Plan> {
    let inputs: Vec<&PathBuf> = args.inputs.iter().chain(&args.image_path).collect();
    if inputs.iter().any(|input| is_stream(input)) {
        if inputs.len() > 1
            || args.in_place
            || args.residual
            || args.compare
            || args.shard.is_some()
        {
            bail!(
                "-: standard input cannot be combined with other inputs or outputs; its result \
                   goes to standard output"
            );
        }
        return Ok(Plan {
            jobs: vec![stream(args)?],
            skipped: 0,
            images: vec![],
        });
    }
    let inputs = jobs::expanded(inputs)?;
    let pipes = Pipes::read(&inputs, args)?;
    let found = if args.in_place {
        jobs::in_place(&inputs)?
    } else {
        // What other shards have made by now is no image, or each would count the images differently.
        let earlier = if args.skip_existing || args.shard.is_some() {
            Earlier::Results
        } else {
            Earlier::Image
        };
        jobs::jobs(&inputs, &args.save_dir, &Named(args, &pipes), earlier)?
    };
    let images = if args.skip_existing || args.shard.is_some() {
        found.iter().map(|job| job.input.clone()).collect()
    } else {
        vec![]
    };
    let mut jobs = Vec::with_capacity(found.len());
    let mut skipped = 0;
    let mut outputs = HashMap::new();
    for (place, job) in found.into_iter().enumerate() {
        if args.shard.is_some_and(|shard| !shard.has(place)) {
            continue;
        }
        if args.skip_existing && job.output.exists() {
            skipped += 1;
            continue;
        }
        let job = predict_job(args, &pipes, job)?;
        for output in [&job.residual, &job.compare].into_iter().flatten() {
            if let Some(other) = outputs.insert(output.clone(), job.input.clone()) {
                let (other, this) = (name(&other), name(&job.input));
                bail!(
                    "{other} and {this} would both be written to {}",
                    output.display()
                );
            }
        }
        jobs.push(job);
    }
    for job in &jobs {
        let result = path(&job.output).and_then(|output| outputs.get(output));
        if let Some(other) = result {
            bail!("{}: also an output of {}", name(&job.input), name(other));
        }
        if let Input::File(input) = &job.input
            && outputs.contains_key(input)
        {
            bail!("{}: an output would replace this input", input.display());
        }
    }
    Ok(Plan {
        jobs,
        skipped,
        images,
    })
}

fn predict_job(
    args: &args::Predict,
    pipes: &Pipes,
    Job { input, output }: Job,
) -> anyhow::Result<predict::Job> {
    let beside = |kind: &str| {
        let mut name = output.file_stem().unwrap_or_default().to_os_string();
        let suffix = args.suffix.as_str();
        // In the place of the suffix, when there is one.
        if let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(suffix))
            && !args.in_place
        {
            name = OsString::from(stem);
        }
        name.push(kind);
        if let Some(extension) = output.extension() {
            name.push(".");
            name.push(extension);
        }
        output.with_file_name(name)
    };
    let reference = match &args.reference {
        Some(folder) if folder.is_dir() => input.file_name().map(|name| folder.join(name)),
        other => other.clone(),
    };
    let format = match args.format {
        Some(format) => format.get(),
        None => pipes.format_of(&input).written(),
    };
    Ok(predict::Job {
        residual: args.residual.then(|| beside("_residual")),
        compare: args.compare.then(|| beside("_compare")),
        reference,
        encoding: encoding(args, format)?,
        selection: selection(args),
        input: pipes.input(input),
        output: Output::File(output),
    })
}

fn encoding(args: &args::Predict, format: Format) -> anyhow::Result<Encoding> {
    let depth = args.depth.map(args::ImageDepth::get);
    if let Some(depth) = depth.filter(|depth| !format.depths().contains(depth)) {
        bail!("--depth: {format:?} does not support {}", bits(depth));
    }
    Ok(Encoding {
        format,
        depth,
        quality: args.jpeg_quality,
    })
}

fn bits(depth: Depth) -> &'static str {
    match depth {
        Depth::U8 => "8 bits",
        Depth::I8 => "8 bits, signed",
        Depth::U16 => "16 bits",
        Depth::I16 => "16 bits, signed",
        Depth::U32 => "32 bits",
        Depth::I32 => "32 bits, signed",
        Depth::F32 => "32-bit floats",
        Depth::F64 => "64-bit floats",
    }
}

fn is_stream(input: &Path) -> bool {
    input == Path::new("-")
}

/// Standard input, read whole.
fn stream(args: &args::Predict) -> anyhow::Result<predict::Job> {
    let bytes = all_of(std::io::stdin(), args).context("standard input")?;
    let format = match args.format {
        Some(format) => format.get(),
        None => Reader::from_bytes(Path::new("-"), bytes.as_slice(), limits(args))?
            .format()
            .written(),
    };
    Ok(predict::Job {
        input: Input::Bytes("-".into(), bytes.into()),
        output: Output::Memory,
        residual: None,
        compare: None,
        reference: None,
        encoding: encoding(args, format)?,
        selection: selection(args),
    })
}

/// A stream to its end, within the memory that may be used.
fn all_of(stream: impl Read, args: &args::Predict) -> anyhow::Result<Vec<u8>> {
    let (mut bytes, most) = (Vec::new(), args.max_memory);
    stream.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        bail!("expected at most {most} bytes; raise --max-memory");
    }
    Ok(bytes)
}

/// What was read of the inputs that are pipes: they can be read only once.
struct Pipes(HashMap<PathBuf, Arc<[u8]>>);

impl Pipes {
    fn read(inputs: &[PathBuf], args: &args::Predict) -> anyhow::Result<Self> {
        let mut read = HashMap::new();
        for input in inputs.iter().filter(|input| files::is_device(input)) {
            let name = || input.display().to_string();
            if args.in_place {
                bail!(
                    "{}: --in-place cannot replace a pipe; use --save-dir",
                    name()
                );
            }
            let pipe = File::open(input).with_context(name)?;
            let bytes = all_of(pipe, args).with_context(name)?;
            read.insert(input.clone(), bytes.into());
        }
        Ok(Self(read))
    }

    fn input(&self, path: PathBuf) -> Input {
        match self.0.get(&path) {
            Some(bytes) => Input::Bytes(path, Arc::clone(bytes)),
            None => Input::File(path),
        }
    }

    /// The format of an image by what it begins with, whatever its name says; by its name where it
    /// cannot be read, which is said when it is its turn.
    fn format_of(&self, image: &Path) -> Format {
        let found = match self.0.get(image) {
            Some(bytes) => Format::of_source(&mut Cursor::new(bytes)),
            None => File::open(image).and_then(|file| Format::of_source(&mut BufReader::new(file))),
        };
        found
            .ok()
            .flatten()
            .or_else(|| Format::of_name(image))
            .unwrap_or(Format::Png)
    }
}

fn selection(args: &args::Predict) -> Selection {
    Selection {
        pages: args.pages.clone(),
        channels: args.channel.clone(),
    }
}

/// `<name><suffix>` and the extension of the format.
struct Named<'a>(&'a args::Predict, &'a Pipes);

impl Naming for Named<'_> {
    fn name(&self, image: &Path, mut stem: OsString) -> OsString {
        stem.push(&self.0.suffix);
        stem.push(".");
        let kept = image.extension();
        match self.0.format.map(args::ImageFormat::get) {
            Some(format) => stem.push(format.extensions()[0]),
            None => match (kept, self.1.format_of(image)) {
                (Some(kept), format) if Format::of_name(image) == Some(format.written()) => {
                    stem.push(kept);
                }
                (_, format) => stem.push(format.written().extensions()[0]),
            },
        }
        stem
    }
}

fn path(output: &Output) -> Option<&Path> {
    match output {
        Output::File(path) => Some(path),
        Output::Memory => None,
    }
}

fn name(input: &Input) -> String {
    match input {
        Input::File(path) => path.display().to_string(),
        Input::Bytes(name, _) => name.display().to_string(),
    }
}

/// What the report of `--json` holds.
struct Tally {
    started: Instant,
    device: Option<String>,
    images: usize,
    failed: usize,
    skipped: usize,
    /// Of those that have ended, in their order.
    files: Vec<serde_json::Value>,
}

impl Tally {
    fn write(&self, path: &Path, interrupted: bool) -> Result<(), Error> {
        let report = serde_json::json!({
            "elapsed_s": self.started.elapsed().as_secs_f64(),
            "device": self.device,
            "images": self.images,
            "failed": self.failed,
            "skipped": self.skipped,
            "interrupted": interrupted,
            "files": self.files,
        });
        files::write_atomically(path, |out| {
            serde_json::to_writer_pretty(out, &report)
                .map_err(|error| Error::io(path)(error.into()))
        })
    }
}

fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is said while the jobs run, and kept for the end.
struct Report<'a> {
    args: &'a args::Predict,
    ui: Ui,
    jobs: &'a [predict::Job],
    bar: ProgressBar,
    tally: &'a Mutex<Tally>,
    /// Why a result could not be said.
    lost: Option<anyhow::Error>,
    started: Instant,
    line_at: Instant,
    /// Whether it has been said that the model is not for gray images.
    warned_of_gray: Cell<bool>,
}

impl Report<'_> {
    fn tell(&mut self, event: Event) {
        match event {
            Event::Progress {
                job,
                pages,
                rows,
                height,
            } => self.progress(job, pages, rows, height),
            Event::Shrunk { shrunk, .. } => self.bar.suspend(|| {
                let Shrunk { side, reason } = shrunk;
                self.ui.warn(format_args!(
                    "{reason}; continuing with tiles of {side} pixels (use --tile {side} to start \
                     with them)"
                ));
            }),
            Event::Ended { job, result } => {
                let said = self.ended(job, result);
                self.lost = self.lost.take().or(said.err());
                self.bar.set_position(job as u64 + 1);
            }
        }
    }

    fn progress(&mut self, job: usize, pages: usize, rows: usize, height: usize) {
        let name = name(&self.jobs[job].input);
        let percent = 100 * rows / height.max(1);
        let page = if pages > 0 {
            format!(", page {}", pages + 1)
        } else {
            String::new()
        };
        let message = format!("{name}{page}: {percent} %");
        self.bar.set_message(message.clone());
        if self.ui.wants_lines() && self.line_at.elapsed() > LINE_EVERY {
            self.line_at = Instant::now();
            let done = job as f64 + rows as f64 / height.max(1) as f64;
            let left = self.started.elapsed().as_secs_f64() * (self.jobs.len() as f64 / done - 1.0);
            let ui = self.ui;
            ui.note(format!(
                "{job} of {} images, {message}, about {left:.0} s left",
                self.jobs.len()
            ));
        }
    }

    fn ended(&mut self, at: usize, result: Result<Done, Error>) -> anyhow::Result<()> {
        let job = &self.jobs[at];
        let mut entry = serde_json::json!({
            "input": name(&job.input),
            "output": path(&job.output).map(|path| path.display().to_string()),
        });
        match &result {
            Ok(done) => describe(done, &mut entry),
            Err(error) => entry["error"] = error.to_string().into(),
        }
        {
            let mut tally = locked(self.tally);
            tally.failed += usize::from(result.is_err());
            tally.files.push(entry);
        }
        self.bar.suspend(|| match result {
            Ok(mut done) => self.say(job, &mut done),
            Err(error) => {
                let error = with_hint(error);
                match path(&job.output) {
                    None => self.ui.error(format_args!("standard input: {error:#}")),
                    Some(_) => self.ui.error(in_context(&name(&job.input), &error)),
                }
                Ok(())
            }
        })
    }

    fn say(&self, job: &predict::Job, done: &mut Done) -> anyhow::Result<()> {
        match &job.output {
            Output::Memory => self
                .ui
                .result_bytes(&done.bytes.take().unwrap_or_default())?,
            Output::File(path) => self.ui.result(path.display())?,
        }
        for path in job.residual.iter().chain(&job.compare) {
            self.ui.result(path.display())?;
        }
        if let Some([noisy, denoised]) = done.scores {
            self.ui.result(format_args!(
                "{}: psnr:{:.2} ssim:{:.4} noisy, psnr:{:.2} ssim:{:.4} denoised",
                name(&job.input),
                noisy.0,
                noisy.1,
                denoised.0,
                denoised.1
            ))?;
        }
        if self.args.repair.is_some() {
            let repaired = done.repaired;
            self.ui
                .note(format_args!("{}: repaired {repaired}", name(&job.input)));
        }
        for note in &done.notes {
            self.ui.note(format_args!("{}: {note}", name(&job.input)));
        }
        let (low, high) = (done.range.low, done.range.high);
        if (low, high) != (0.0, 1.0) {
            let unit = done.depth.0.unit();
            self.ui.note(format_args!(
                "{}: values {} to {} map to the network's 0 to 1",
                name(&job.input),
                shown(low * unit),
                shown(high * unit)
            ));
        }
        if done.is_gray_as_rgb && !self.warned_of_gray.replace(true) {
            self.ui.warn(format_args!(
                "{}: a gray image, denoised by a model for RGB images, which removes little of its noise. \
                 Use --model-path {}, or train a model with --n-channel 1",
                name(&job.input),
                models::GRAY
            ));
        }
        if let Some(Misfit {
            found: (low, high),
            depth,
            model,
        }) = done.misfit
        {
            self.ui.warn(format_args!(
                "{}: its values lie between {} and {} ({}), but the model was trained on images \
                 of {model}: do not trust the result. Train on images like this one; or, if they \
                 differ only in scale, pass as --range MIN,MAX the values that are as dark and as \
                 bright here as {} and {} were there",
                name(&job.input),
                shown(low),
                shown(high),
                type_name(depth),
                shown(model.low),
                shown(model.high)
            ));
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<ExitCode> {
        self.bar.finish_and_clear();
        if self.args.json.is_some() {
            // Before the lock is taken, which a report that a signal asked for waits for.
            interrupt::withdraw();
        }
        let tally = locked(self.tally);
        let (failed, all) = (tally.failed, tally.images);
        if failed > 0 && all > 1 {
            self.ui
                .error(format_args!("{failed} of {all} images failed"));
        }
        if tally.skipped > 0 {
            self.ui.note(format_args!(
                "skipped {} images whose results exist",
                tally.skipped
            ));
        }
        if let Some(path) = &self.args.json {
            tally.write(path, false)?;
        }
        match self.lost {
            Some(error) => Err(error),
            None if failed == 0 => Ok(ExitCode::SUCCESS),
            None => Ok(ExitCode::FAILURE),
        }
    }
}

/// The error, and what to do about it where the device is why.
fn with_hint(error: Error) -> anyhow::Error {
    match error {
        Error::OutOfMemory { .. } => anyhow!(
            "{error}\nhint: tiles cannot be smaller, and squares (--pad square) are not tiled; \
             free memory on the device, or use --device cpu"
        ),
        error => error.into(),
    }
}

/// The error with the name of the image, unless it says that itself.
fn in_context(name: &str, error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    if text.starts_with(name) {
        text
    } else {
        format!("{name}: {text}")
    }
}

/// What the report says of an image that was denoised.
fn describe(done: &Done, entry: &mut serde_json::Value) {
    entry["width"] = done.size.1.into();
    entry["height"] = done.size.0.into();
    entry["pages"] = done.pages.into();
    entry["channels"] = done.channels.into();
    entry["depth"] = bits(done.depth.1).into();
    entry["seconds"] = done.elapsed_s.into();
    entry["network_pixels"] = done.network_pixels.into();
    if let Some([noisy, denoised]) = done.scores {
        entry["noisy"] = serde_json::json!({"psnr_db": noisy.0, "ssim": noisy.1});
        entry["denoised"] = serde_json::json!({"psnr_db": denoised.0, "ssim": denoised.1});
    }
}
