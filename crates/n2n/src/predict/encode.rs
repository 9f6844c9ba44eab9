//! The last stage: a thread for each output of a job, which encodes the result.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use super::job::{Input, Job, Output};
use super::queue::Queue;
use crate::denoise::{Band, Scale, type_name};
use crate::error::{Error, Result};
use crate::eval::psnr::psnr_db;
use crate::eval::ssim::{self, ssim};
use crate::files::write_atomically;
use crate::image::{Depth, Encoding, Limits, Orientation, Page, Pages, Reader, write_pages};
use crate::words::shown;

/// What the network's stage sends to each output.
#[derive(Clone)]
pub(super) enum Made {
    Page(Arc<Page>, Scale),
    Band(Arc<Band>),
}

/// What an output reports.
#[derive(Default)]
pub(super) struct Written {
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) scores: Option<[(f64, Option<f64>); 2]>,
}

/// The outputs of a job.
#[derive(Default)]
pub(super) struct Outputs<'scope> {
    senders: Vec<SyncSender<Made>>,
    handles: Vec<ScopedJoinHandle<'scope, Result<Written>>>,
    /// Whether the end of the stream is the end of a complete job.
    complete: Arc<AtomicBool>,
}

impl<'scope> Outputs<'scope> {
    /// Starts a thread for each output of the job.
    pub(super) fn start(
        &mut self,
        job: &'scope Job,
        limits: Limits,
        scope: &'scope Scope<'scope, '_>,
    ) {
        let mut output = |part: Part, output: Output| {
            // Nothing is buffered in between: a band may be a large part of a page.
            let (sender, receiver) = sync_channel(0);
            let complete = Arc::clone(&self.complete);
            self.senders.push(sender);
            self.handles.push(scope.spawn(move || {
                let mut made = Outgoing {
                    receiver,
                    complete,
                    part,
                    input: &job.input,
                    encoding: job.encoding,
                    limits,
                    original: None,
                    page: None,
                    pages: 0,
                    ready: Queue::default(),
                    clean: None,
                    seen: None,
                };
                made.write(&output)
            }));
        };
        output(Part::Denoised, job.output.clone());
        if let Some(path) = &job.residual {
            output(Part::Residual, Output::File(path.clone()));
        }
        if let Some(path) = &job.compare {
            let part = Part::Compared(job.reference.clone());
            output(part, Output::File(path.clone()));
        }
    }

    pub(super) fn send(&self, made: Made) -> Result<()> {
        let Some((last, others)) = self.senders.split_last() else {
            return Ok(());
        };
        let sent = others
            .iter()
            .all(|sender| sender.send(made.clone()).is_ok());
        // Without a copy, so that a single output has exclusive use of the rows.
        let sent = sent && last.send(made).is_ok();
        sent.then_some(()).ok_or(Error::Stopped)
    }

    /// Lets the outputs finish, or give up if the job is not complete, without waiting: they notice that their
    /// senders are gone, and then check whether the job was complete.
    pub(super) fn end(self, complete: bool) -> Vec<ScopedJoinHandle<'scope, Result<Written>>> {
        self.complete.store(complete, Ordering::Release);
        drop(self.senders);
        self.handles
    }
}

/// What an output shows.
enum Part {
    Denoised,
    Residual,
    /// Side by side, after the reference if there is one.
    Compared(Option<PathBuf>),
}

/// Whether what is on the left of the stored pixels is on the right or at the bottom of the upright picture.
fn is_reversed(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::FlipHorizontal
            | Orientation::Rotate180
            | Orientation::Rotate270
            | Orientation::Rotate270FlipH
    )
}

/// The clean image that an output is compared with.
struct Clean {
    reader: Reader,
    path: PathBuf,
    /// The [units](Depth::unit) of its samples and of those of the noisy page.
    units: (f32, f32),
    /// Where it has to be checked whether both have the same units: the largest clean value, and the sums of both, as
    /// they are in their files.
    compared: Option<(f32, [f64; 2])>,
}

/// The units of both types; `None` if it is unknown which of their values correspond.
fn units(clean: Depth, noisy: Depth) -> Option<(f32, f32)> {
    let (from, to) = (clean.unit(), noisy.unit());
    // 255 of 8 bits may be 255 or 65535 of 16, and floats may be counts or fractions of either.
    let is_known = from == to || from == 1.0 || (to == 1.0 && !noisy.is_float());
    is_known.then_some((from, to))
}

impl Clean {
    /// The next rows of the page, as samples of the noisy page.
    fn rows(&mut self, count: usize, noisy: &[f32], unit: f32) -> Result<Vec<f32>> {
        let mut rows = Vec::new();
        self.reader.read_rows(count, &mut rows)?;
        if let Some((largest, [clean, of_noisy])) = &mut self.compared {
            let sum = |values: &[f32], unit: f32| {
                values.iter().map(|&x| f64::from(x * unit)).sum::<f64>()
            };
            *largest = rows.iter().copied().fold(*largest, f32::max);
            *clean += sum(&rows, 1.0);
            *of_noisy += sum(noisy, unit);
        }
        let (from, to) = self.units;
        if from != to {
            for value in &mut rows {
                *value = *value * from / to;
            }
        }
        Ok(rows)
    }

    /// Floats of 0 to 1 can hardly be the clean values of integers with far larger means.
    fn check(&self) -> Result<()> {
        const FAR: f64 = 16.0;
        match self.compared {
            Some((largest, [clean, noisy])) if largest <= 1.0 && noisy > FAR * clean.abs() => {
                Err(Error::Image {
                    path: self.path.clone(),
                    reason: format!(
                        "expected a reference in the units of the image, found floats up to {}: the \
                         mean of the image is {:.3} times that of the reference",
                        shown(largest),
                        noisy / clean.abs()
                    ),
                })
            }
            _ => Ok(()),
        }
    }
}

/// The pages from the network, for one output.
struct Outgoing<'job> {
    receiver: Receiver<Made>,
    complete: Arc<AtomicBool>,
    part: Part,
    input: &'job Input,
    encoding: Encoding,
    limits: Limits,
    /// The original page, and its range.
    page: Option<(Arc<Page>, Scale)>,
    /// The file, opened again for samples that `f32` cannot represent exactly, and how many of its pages have been
    /// started.
    original: Option<(Reader, usize)>,
    pages: usize,
    /// Rows that are ready and not yet read.
    ready: Queue,
    clean: Option<Clean>,
    /// Clean, noisy and denoised samples at 8 bits, for the scores.
    seen: Option<[Vec<u8>; 3]>,
}

impl Outgoing<'_> {
    fn write(&mut self, output: &Output) -> Result<Written> {
        let encoding = self.encoding;
        let mut written = Written::default();
        match output {
            Output::File(path) => {
                write_atomically(path, |out| {
                    write_pages(self, encoding, path, out)?;
                    self.clean.as_ref().map_or(Ok(()), Clean::check)
                })?;
            }
            Output::Memory => {
                let mut out = std::io::Cursor::new(Vec::new());
                write_pages(self, encoding, Path::new("-"), &mut out)?;
                written.bytes = Some(out.into_inner());
            }
        }
        if let (Some([clean, noisy, denoised]), Some((page, _))) = (&self.seen, &self.page) {
            let score = |image: &[u8]| {
                let (h, w, c) = (page.height, page.width, page.color.channels());
                let is_large = ssim::check_size(h, w).is_ok();
                let ssim = is_large.then(|| ssim(clean, image, h, w, c)).transpose()?;
                Ok::<_, Error>((psnr_db(clean, image), ssim))
            };
            written.scores = Some([score(noisy)?, score(denoised)?]);
        }
        Ok(written)
    }

    /// The rows of a band as this output shows them.
    fn show(&mut self, band: Arc<Band>) -> Result<()> {
        let Some((page, Scale { low, high, .. })) = self.page.clone() else {
            return Err(Error::Stopped);
        };
        let (samples, channels) = (page.samples(), page.color.channels());
        let narrow = self.encoding.narrows(page.depth);
        // A result requested as floats keeps its values, not the range of its type.
        let is_asked = self.encoding.depth == Some(Depth::F32);
        let unit = if is_asked { page.depth.unit() } else { 1.0 };
        let value = |value: f32| {
            if narrow {
                (value - low) / (high - low)
            } else {
                value * unit
            }
        };
        match self.part {
            Part::Denoised if self.is_exact(&page) => {
                // The change to add to the exact samples: zero for those that stay.
                let pairs = band.denoised.iter().zip(&band.noisy);
                let change = pairs.map(|(denoised, noisy)| denoised - noisy);
                let change = change.map(|change| if change.is_finite() { change } else { 0.0 });
                self.ready.push(change.collect());
            }
            Part::Denoised if !narrow && unit == 1.0 => match Arc::try_unwrap(band) {
                Ok(band) => self.ready.push(band.denoised),
                Err(band) => self.ready.push(band.denoised.clone()),
            },
            Part::Denoised => {
                let mut ready = Vec::with_capacity(band.denoised.len());
                for pixel in band.denoised.chunks_exact(samples) {
                    ready.extend(pixel[..channels].iter().map(|&x| value(x)));
                    ready.extend(pixel[channels..].iter().map(|&x| x * unit));
                }
                self.ready.push(ready);
            }
            Part::Residual => {
                let written = self.encoding.depth_of(page.depth);
                let top = written.unit();
                // Unsigned integers have no negative values: half the largest, rounded up, stands for nothing removed.
                let none = if top == 1.0 {
                    0.0
                } else {
                    (top / 2.0).round() / top
                };
                // What the result was rounded to, so that both together are the image again.
                let is_rounded = top != 1.0 && written == page.depth;
                let rounded = |x: f32| (x * top + 0.5).floor().clamp(0.0, top) / top;
                let step = if narrow { 1.0 / (high - low) } else { unit };
                let mut ready = Vec::with_capacity(band.denoised.len());
                let pixels = band.noisy.chunks_exact(samples);
                for (noisy, denoised) in pixels.zip(band.denoised.chunks_exact(samples)) {
                    let removed = noisy.iter().zip(denoised).take(channels);
                    ready.extend(removed.map(|(n, &d)| {
                        let result = if is_rounded { rounded(d) } else { d };
                        none + (n - result) * step
                    }));
                    ready.extend(noisy[channels..].iter().map(|&x| x * unit));
                }
                self.ready.push(ready);
            }
            Part::Compared(_) => {
                let count = band.denoised.len() / page.row_len();
                let clean = match &mut self.clean {
                    Some(clean) => clean.rows(count, &band.noisy, page.depth.unit())?,
                    None => vec![],
                };
                let mut parts = [&clean, &band.noisy, &band.denoised];
                if is_reversed(page.orientation) {
                    parts.reverse();
                }
                let mut ready = Vec::with_capacity(3 * band.denoised.len());
                for y in 0..count {
                    for rows in parts {
                        let row = rows.chunks_exact(page.row_len()).nth(y);
                        for pixel in row.unwrap_or_default().chunks_exact(samples) {
                            ready.extend(pixel[..channels].iter().map(|&x| value(x)));
                        }
                    }
                }
                self.ready.push(ready);
                if let Some(seen) = &mut self.seen {
                    for (seen, rows) in seen.iter_mut().zip([&clean, &band.noisy, &band.denoised]) {
                        for pixel in rows.chunks_exact(samples) {
                            let bits = |x: &f32| ((x - low) / (high - low) * 255.0 + 0.5) as u8;
                            seen.extend(pixel[..channels].iter().map(bits));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether samples are written that `f32` cannot represent exactly.
    fn is_exact(&self, page: &Page) -> bool {
        matches!(self.part, Part::Denoised)
            && page.depth.is_wide()
            && self.encoding.depth_of(page.depth) == page.depth
    }

    /// The file, opened again, at the current page.
    fn original(&mut self) -> Result<&mut Reader> {
        if self.original.is_none() {
            self.original = Some((self.input.open(self.limits)?, 0));
        }
        let Some((reader, at)) = &mut self.original else {
            return Err(Error::Stopped);
        };
        while *at < self.pages {
            reader.next_page()?;
            *at += 1;
        }
        Ok(reader)
    }

    /// The page with noisy and denoised side by side.
    fn beside(&mut self, page: &Page) -> Result<Page> {
        let mut across = 2;
        if let Part::Compared(Some(path)) = &self.part {
            let mut reader = match self.clean.take() {
                Some(clean) => {
                    clean.check()?;
                    clean.reader
                }
                None => Reader::open(path, self.limits)?,
            };
            let wrong = |reason| Error::Image {
                path: path.clone(),
                reason,
            };
            let clean = reader.next_page()?.filter(|clean| {
                (clean.height, clean.width, clean.samples())
                    == (page.height, page.width, page.samples())
            });
            let clean = clean.ok_or_else(|| {
                wrong(format!(
                    "expected an image of {}x{} pixels with {} channels, like the noisy image that \
                     it is compared with",
                    page.width,
                    page.height,
                    page.samples()
                ))
            })?;
            let units = units(clean.depth, page.depth).ok_or_else(|| {
                wrong(format!(
                    "expected a reference of the same type as the image, {}{}, found {}",
                    type_name(page.depth),
                    if page.depth.is_float() {
                        ""
                    } else {
                        ", or floats in its units"
                    },
                    type_name(clean.depth)
                ))
            })?;
            self.clean = Some(Clean {
                reader,
                path: path.clone(),
                units,
                compared: (clean.depth.is_float() && units.0 != units.1)
                    .then_some((f32::NEG_INFINITY, [0.0; 2])),
            });
            across = 3;
            let fits_memory = (page.height * page.row_len()) as u64 <= self.limits.samples;
            self.seen = fits_memory.then(<[Vec<u8>; 3]>::default);
        }
        let mut metadata = page.metadata.icc_alone();
        let samples = page.metadata.file_samples;
        metadata.file_samples = samples.map(|samples| samples.saturating_mul(across as u64));
        Ok(Page {
            width: across * page.width,
            extra: 0,
            metadata,
            ..page.clone()
        })
    }
}

impl Pages for Outgoing<'_> {
    fn next_page(&mut self) -> Result<Option<Page>> {
        loop {
            match self.receiver.recv() {
                Ok(Made::Page(page, scale)) => {
                    self.page = Some((Arc::clone(&page), scale));
                    self.pages += 1;
                    return Ok(Some(match self.part {
                        Part::Compared(_) => self.beside(&page)?,
                        // The residual may be negative.
                        Part::Residual if page.depth == Depth::U32 => Page {
                            depth: Depth::I32,
                            ..Page::clone(&page)
                        },
                        _ => Page::clone(&page),
                    }));
                }
                Ok(Made::Band(_)) => {}
                Err(_) if self.complete.load(Ordering::Acquire) => return Ok(None),
                Err(_) => return Err(Error::Stopped),
            }
        }
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Result<()> {
        let Some((page, _)) = &self.page else {
            return Err(Error::Stopped);
        };
        let row = match &self.part {
            Part::Compared(reference) => {
                let across = if reference.is_some() { 3 } else { 2 };
                across * page.width * page.color.channels()
            }
            _ => page.row_len(),
        };
        while self.ready.len() < count * row {
            match self.receiver.recv() {
                Ok(Made::Band(band)) => self.show(band)?,
                _ => return Err(Error::Stopped),
            }
        }
        self.ready.take(count * row, rows);
        Ok(())
    }

    fn read_wide(&mut self, count: usize, rows: &mut Vec<f64>) -> Result<()> {
        let mut made = Vec::new();
        self.read_rows(count, &mut made)?;
        let is_exact = self
            .page
            .as_ref()
            .is_some_and(|(page, _)| self.is_exact(page));
        if !is_exact {
            rows.extend(made.into_iter().map(f64::from));
            return Ok(());
        }
        let start = rows.len();
        self.original()?.read_wide(count, rows)?;
        for (sample, change) in rows[start..].iter_mut().zip(made) {
            *sample += f64::from(change);
        }
        Ok(())
    }
}
