//! What is printed while images are denoised, and the report of `--json`.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::anyhow;
use n2n::denoise::{Misfit, Shrunk, shown, type_name};
use n2n::error::Error;
use n2n::image::{Format, Pages, Reader};
use n2n::predict::{self, Done, Event, Input, Output};
use n2n::{files, models};

use super::plan::{bits, limits, name, path};
use crate::args;
use crate::interrupt;
use crate::progress::Progress;
use crate::ui::{Ui, counted};

/// What the report of `--json` holds.
pub(super) struct Tally {
    /// When the denoising began, if it has.
    pub(super) started: Option<Instant>,
    pub(super) device: Option<String>,
    pub(super) images: usize,
    pub(super) failed: usize,
    pub(super) skipped: usize,
    /// An entry for each job that has ended, in order.
    pub(super) files: Vec<serde_json::Value>,
}

impl Tally {
    pub(super) fn write(&self, path: &Path, interrupted: bool) -> Result<(), Error> {
        let report = serde_json::json!({
            "elapsed_s": self.started.map_or(0.0, |started| started.elapsed().as_secs_f64()),
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

pub(super) fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is printed while the jobs run, and kept for the end.
pub(super) struct Report<'a> {
    pub(super) args: &'a args::Predict,
    pub(super) ui: Ui,
    pub(super) jobs: &'a [predict::Job],
    pub(super) progress: Progress,
    pub(super) tally: &'a Mutex<Tally>,
    /// Why a result could not be printed.
    pub(super) lost: Option<anyhow::Error>,
    /// A job, and how many pages it has.
    pub(super) counted: Option<(usize, usize)>,
    /// Whether the user has been warned that the model is not for gray images.
    pub(super) warned_of_gray: Cell<bool>,
}

impl Report<'_> {
    pub(super) fn tell(&mut self, event: Event) {
        match event {
            Event::Progress { job, pages, part } => self.show(job, pages, part),
            Event::Shrunk { shrunk, .. } => self.progress.suspend(|| {
                let Shrunk { side, reason } = shrunk;
                self.ui.warn(format_args!(
                    "{reason}; continuing with tiles of {side} pixels (use --tile {side} to start \
                     with them)"
                ));
            }),
            Event::Ended { job, result } => {
                let said = self.ended(job, result);
                self.lost = self.lost.take().or(said.err());
                if self.jobs.len() > 1 {
                    self.progress.show(job as f64 + 1.0, self.jobs.len(), "");
                }
            }
        }
    }

    /// Shows how much is done: of many images, of the pages of one stack, or of one page.
    fn show(&mut self, job: usize, pages: usize, part: f64) {
        if !self.progress.is_due() {
            return;
        }
        let total = self.pages_of(job).max(pages + 1);
        let done = pages as f64 + part;
        let name = name(&self.jobs[job].input);
        match (self.jobs.len(), total) {
            (1, 1) => self.progress.show_part(part, &name),
            (1, _) => {
                self.progress.count("page");
                self.progress.show(done, total, &name);
            }
            (images, 1) => self.progress.show(job as f64 + part, images, &name),
            (images, _) => {
                let now = format!("{name}, page {} of {total}", pages + 1);
                self.progress
                    .show(job as f64 + done / total as f64, images, &now);
            }
        }
    }

    /// How many pages the image of a job has; 1 if it cannot be read now.
    fn pages_of(&mut self, job: usize) -> usize {
        if let Some((counted, pages)) = self.counted
            && counted == job
        {
            return pages;
        }
        let count = || -> Result<usize, Error> {
            let input = &self.jobs[job].input;
            let format = match input {
                Input::File(path) => File::open(path)
                    .and_then(|file| Format::of_source(&mut BufReader::new(file)))
                    .map_err(Error::io(path))?,
                Input::Bytes(name, bytes) => {
                    Format::of_source(&mut Cursor::new(bytes)).map_err(Error::io(name))?
                }
            };
            // Opening any other would decode it once more.
            if !format.is_some_and(Format::has_pages) {
                return Ok(1);
            }
            let mut reader = match input {
                Input::File(path) => Reader::open(path, limits(self.args))?,
                Input::Bytes(name, bytes) => {
                    Reader::from_bytes(name, Arc::clone(bytes), limits(self.args))?
                }
            };
            let mut pages = 0;
            while reader.next_page()?.is_some() {
                pages += 1;
            }
            Ok(pages)
        };
        let pages = count().unwrap_or(1);
        self.counted = Some((job, pages));
        pages
    }

    fn ended(&mut self, at: usize, result: Result<Done, Error>) -> anyhow::Result<()> {
        let job = &self.jobs[at];
        let mut entry = serde_json::json!({
            "input": name(&job.input),
            "output": path(&job.output).map(|path| path.display().to_string()),
        });
        {
            let mut tally = locked(self.tally);
            match &result {
                Ok(done) => describe(done, tally.started, &mut entry),
                Err(error) => entry["error"] = error.to_string().into(),
            }
            tally.failed += usize::from(result.is_err());
            tally.files.push(entry);
        }
        self.progress.suspend(|| match result {
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
            let ssim = |ssim: Option<f64>| ssim.map_or("None".into(), |ssim| format!("{ssim:.4}"));
            self.ui.result(format_args!(
                "{}: psnr:{:.2} ssim:{} noisy, psnr:{:.2} ssim:{} denoised",
                name(&job.input),
                noisy.0,
                ssim(noisy.1),
                denoised.0,
                ssim(denoised.1)
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
        let unit = done.depth.0.unit();
        if job.encoding.narrows(done.depth.0) && (unit == 1.0 || (low, high) != (0.0, 1.0)) {
            self.ui.note(format_args!(
                "{}: values {} to {} become 0 to {} ({}), and values beyond them are cut off; \
                 --format tiff --depth 32f keeps all values",
                name(&job.input),
                shown(low * unit),
                shown(high * unit),
                done.depth.1.unit(),
                bits(done.depth.1)
            ));
        }
        if (low, high) != (0.0, 1.0) {
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
                 with values {model}: do not trust the result. Train on images like this one; or, \
                 if they differ only in scale, pass --range MIN,MAX, where MIN and MAX are as dark \
                 and as bright in this image as {} and {} were in the training images",
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

    pub(super) fn finish(self) -> anyhow::Result<ExitCode> {
        drop(self.progress);
        if self.args.json.is_some() {
            // Withdraw before taking the lock: a report requested by a signal waits for it.
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
                "skipped {} because of existing results",
                counted(tally.skipped, "image")
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

/// The error, with advice if the device is the cause.
fn with_hint(error: Error) -> anyhow::Error {
    match error {
        Error::OutOfMemory { .. } => anyhow!(
            "{error}\nhint: tiles cannot be smaller, and squares (--pad square) are not tiled; \
             free memory on the device, or use --device cpu"
        ),
        error => error.into(),
    }
}

/// The error with the name of the image, unless the error already contains it.
fn in_context(name: &str, error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    if text.starts_with(name) {
        text
    } else {
        format!("{name}: {text}")
    }
}

/// What the report says of an image that was denoised.
fn describe(done: &Done, began: Option<Instant>, entry: &mut serde_json::Value) {
    entry["width"] = done.size.1.into();
    entry["height"] = done.size.0.into();
    entry["pages"] = done.pages.into();
    entry["channels"] = done.channels.into();
    entry["depth"] = bits(done.depth.1).into();
    // When the network began on it, in seconds from the same start as the report's `elapsed_s`.
    entry["started_s"] = began
        .map(|began| done.started.duration_since(began).as_secs_f64())
        .into();
    entry["seconds"] = done.elapsed_s.into();
    entry["network_pixels"] = done.network_pixels.into();
    if let Some([noisy, denoised]) = done.scores {
        entry["noisy"] = serde_json::json!({"psnr_db": noisy.0, "ssim": noisy.1});
        entry["denoised"] = serde_json::json!({"psnr_db": denoised.0, "ssim": denoised.1});
    }
}
