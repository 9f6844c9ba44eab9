//! Files through a network, as a pipeline: one file is decoded and another encoded while the network processes a
//! third, so that its threads never wait for either.
//!
//! Three stages are connected by bounded channels. The reader thread decodes job after job into pieces of rows. The
//! caller's thread runs them through the network. Each output of a job has a thread that encodes the result. A file
//! that fails ends only its own job, and leaves no output.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle, scope};
use std::time::Instant;

use crate::denoise::sensor;
use crate::denoise::{Band, Denoiser, Misfit, ModelRange, Options, Range, Scale, Shrunk, Survey};
use crate::diagnose::Frame;
use crate::error::{Error, Result};
use crate::eval::psnr::psnr_db;
use crate::eval::ssim::ssim;
use crate::files::write_atomically;
use crate::image::{
    Color, Depth, Encoding, Image, Limits, Orientation, Page, Pages, Reader, Selection, write_pages,
};
use crate::network::Denoise;
use crate::repair::{Repair, Repaired, Repairer};

/// A file, and the outputs to make from it.
#[derive(Debug, Clone)]
pub struct Job {
    /// The source of the noisy pages.
    pub input: Input,
    /// The destination of the denoised pages.
    pub output: Output,
    /// The destination of the residual, the removed noise: as integers with half their range added, unless floats are
    /// requested; as floats, unchanged.
    pub residual: Option<PathBuf>,
    /// The destination of the side-by-side comparison of noisy and denoised.
    pub compare: Option<PathBuf>,
    /// The clean image, shown before the two.
    pub reference: Option<PathBuf>,
    /// The encoding of all outputs.
    pub encoding: Encoding,
    /// Which parts to denoise; the rest is copied.
    pub selection: Selection,
}

/// The source of pages.
#[derive(Debug, Clone)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// The contents of a stream, and its name in errors.
    Bytes(PathBuf, Arc<[u8]>),
}

/// The destination of pages.
#[derive(Debug, Clone)]
pub enum Output {
    /// A file, written whole or not at all.
    File(PathBuf),
    /// Memory, to be retrieved from [`Done::bytes`].
    Memory,
}

/// Settings common to all jobs.
#[derive(Debug, Clone)]
pub struct Config {
    /// How pages go through the network.
    pub options: Options,
    /// The values that map to the network's 0 and 1. [`Range::Auto`] is `model` if there is one. A range that has to
    /// be measured is measured once for all files of one type in a folder.
    pub range: Range,
    /// The range that the model was trained on, if it states one.
    pub model: Option<ModelRange>,
    /// All images that the jobs are part of, in order, if others have been denoised already or are denoised
    /// elsewhere: measured ranges then cover all of them. Empty if the jobs are all there is.
    pub images: Vec<PathBuf>,
    /// Limits on what a file may allocate.
    pub limits: Limits,
    /// Faults of the sensor that are taken out of pages first; such pages are in memory whole.
    pub repair: Repair,
}

/// What is reported while the jobs run.
pub enum Event {
    /// Some rows of a page are done.
    Progress {
        /// The job, by its index in the list.
        job: usize,
        /// Pages before this one.
        pages: usize,
        /// Rows of this page that are done.
        rows: usize,
        /// Height of the page.
        height: usize,
    },
    /// From here on, tiles are smaller than planned because the device has too little memory.
    Shrunk {
        /// The job, by its index in the list.
        job: usize,
        /// The new tile size, and why.
        shrunk: Shrunk,
    },
    /// A job has ended; jobs end in order.
    Ended {
        /// The job, by its index in the list.
        job: usize,
        /// The result of the job.
        result: Result<Done>,
    },
}

/// What was done with a file.
#[derive(Debug, Clone)]
pub struct Done {
    /// Number of pages.
    pub pages: usize,
    /// Height and width of the first page, as stored.
    pub size: (usize, usize),
    /// Number of channels of the first page that were denoised.
    pub channels: usize,
    /// Its depth, before and after.
    pub depth: (Depth, Depth),
    /// The values that mapped to the network's 0 and 1, for integers in 0..1.
    pub range: Scale,
    /// How the image fails to fit the model's range, if that was used.
    pub misfit: Option<Misfit>,
    /// What was repaired on all pages.
    pub repaired: Repaired,
    /// Whether single channels were denoised as RGB images, which removes little of their noise: by an RGB network with
    /// no gray one [beside it](crate::denoise::WithGray).
    pub is_gray_as_rgb: bool,
    /// Wall time from the first row to the end of the network's work.
    pub elapsed_s: f64,
    /// Pixels that the network was given on all pages, those that tiles share counted each time: what lies beyond those
    /// of the image is the cost of tiles.
    pub network_pixels: u64,
    /// The file, if it was to be kept in memory.
    pub bytes: Option<Vec<u8>>,
    /// What the result lost compared with the file, in words for the user.
    pub notes: Vec<String>,
    /// PSNR in dB and SSIM of the noisy and of the denoised image against the reference, at 8 bits.
    pub scores: Option<[(f64, f64); 2]>,
}

/// Runs the jobs in order, and reports to `on_event`, including errors in a job.
pub fn predict(
    network: &mut dyn Denoise,
    jobs: &[Job],
    config: &Config,
    mut on_event: impl FnMut(Event),
) {
    let options = Options {
        with_noisy: jobs.iter().any(|job| {
            let compares = job.residual.is_some() || job.compare.is_some();
            compares || job.selection.channels.is_some()
        }),
        ..config.options
    };
    let mut denoiser = Denoiser::new(network, options);
    let abandoned = AtomicUsize::new(usize::MAX);
    scope(|scope| {
        let (sender, receiver) = sync_channel(PIECES);
        let abandoned = &abandoned;
        scope.spawn(move || {
            let mut ranges = Ranges::new(jobs, config);
            for at in 0..jobs.len() {
                let end = read(at, &mut ranges, abandoned, &sender);
                if sender.send(Piece::End(end)).is_err() {
                    return;
                }
            }
        });
        let mut incoming = Incoming {
            receiver,
            rows: Queue::default(),
            row: 0,
            scale: Scale::UNIT,
            seen: Seen::default(),
            ended: false,
        };
        let mut ending = VecDeque::new();
        for (at, job) in jobs.iter().enumerate() {
            let run = run(
                &mut denoiser,
                (at, job),
                config,
                scope,
                &mut incoming,
                &mut ending,
                &mut on_event,
            );
            if !incoming.ended {
                abandoned.store(at, Ordering::Relaxed);
                incoming.skip_job();
            }
            incoming.ended = false;
            ending.push_back((at, run));
            // The last outputs may still be in progress.
            while ending.len() > 1 {
                end(ending.pop_front(), &mut on_event);
            }
        }
        end(ending.pop_front(), &mut on_event);
    });
}

/// Pieces that may wait between two stages.
const PIECES: usize = 4;

/// Approximate number of samples in a piece.
const PIECE: usize = 1 << 20;

/// What the reader sends.
enum Piece {
    Page(Box<Page>, Scale),
    Rows(Vec<f32>),
    End(Result<Seen>),
}

/// What was seen of the pages of a job.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// How they do not go with the range of the model.
    misfit: Option<Misfit>,
    repaired: Repaired,
}

fn open(input: &Input, limits: Limits) -> Result<Reader> {
    match input {
        Input::File(path) => Reader::open(path, limits),
        Input::Bytes(name, bytes) => Reader::from_bytes(name, Arc::clone(bytes), limits),
    }
}

/// The ranges of pages, measured once for all files of one type in a folder.
struct Ranges<'a> {
    jobs: &'a [Job],
    config: &'a Config,
    found: BTreeMap<(Series<'a>, Depth), Scale>,
}

/// A group of files whose pages share a range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Series<'a> {
    /// The files in a folder.
    Folder(&'a Path),
    /// A stream, by the index of its job.
    Stream(usize),
}

impl<'a> Ranges<'a> {
    fn new(jobs: &'a [Job], config: &'a Config) -> Self {
        Self {
            jobs,
            config,
            found: BTreeMap::new(),
        }
    }

    /// The model's range, if it is to be used.
    fn model(&self) -> Option<ModelRange> {
        self.config
            .model
            .filter(|_| self.config.range == Range::Auto)
    }

    fn series(&self, at: usize) -> Series<'a> {
        match &self.jobs[at].input {
            Input::File(path) => Series::Folder(path.parent().unwrap_or(path)),
            Input::Bytes(..) => Series::Stream(at),
        }
    }

    /// The range of a page of the job.
    fn of(&mut self, at: usize, depth: Depth) -> Result<Scale> {
        if let Some(model) = self.model() {
            return Ok(model.scale(depth));
        }
        let range = self.config.range;
        if matches!(range, Range::Between(..)) {
            return Ok(range.scale(depth, None));
        }
        let series = self.series(at);
        if let Some(&scale) = self.found.get(&(series, depth)) {
            return Ok(scale);
        }
        let mut survey = Survey::new(Survey::OF_ALL);
        // Of other images it is not known what is denoised: as much as of this one.
        let selection = &self.jobs[at].selection;
        let mut look = |input: &Input| {
            let reader = open(input, self.config.limits)?;
            survey.add_pages(&mut selection.of(reader), Some(depth))
        };
        // Errors in other files are reported when it is their turn.
        match (series, &self.jobs[at].input) {
            (Series::Folder(folder), Input::File(this)) if !self.config.images.is_empty() => {
                let images = self.config.images.iter();
                for image in images.filter(|image| image.parent() == Some(folder)) {
                    let looked = look(&Input::File(image.clone()));
                    if image == this {
                        looked?;
                    }
                }
            }
            _ => {
                for job in (0..self.jobs.len()).filter(|&job| self.series(job) == series) {
                    let looked = look(&self.jobs[job].input);
                    if job == at {
                        looked?;
                    }
                }
            }
        }
        let scale = range.scale(depth, Some(&survey));
        self.found.insert((series, depth), scale);
        Ok(scale)
    }
}

/// Reads the pages of a job and sends them; returns whether they fit the model.
fn read(
    at: usize,
    ranges: &mut Ranges,
    abandoned: &AtomicUsize,
    sender: &SyncSender<Piece>,
) -> Result<Seen> {
    let send = |piece| sender.send(piece).map_err(|_| Error::Stopped);
    let job = &ranges.jobs[at];
    let mut reader = open(&job.input, ranges.config.limits)?;
    let model = ranges.model();
    let mut seen: Option<(Depth, Survey)> = None;
    let mut index = 0;
    let mut repairs = Repairs {
        what: ranges.config.repair,
        limits: ranges.config.limits,
        repairers: BTreeMap::new(),
        repaired: Repaired::default(),
    };
    let mut pages = 0;
    while let Some(mut page) = reader.next_page()? {
        pages += 1;
        if !page.metadata.pass_through {
            page.metadata.pass_through = !job.selection.has_page(index, &page);
            index += 1;
        }
        let is_copied = page.metadata.pass_through;
        if model.is_some() || ranges.config.range != Range::Auto {
            page.metadata.sensor = None;
        }
        let scale = match &page.metadata.sensor {
            _ if is_copied => Scale::UNIT,
            Some(of_page) => sensor::scale(of_page),
            None => ranges.of(at, page.depth)?,
        };
        let (height, row) = (page.height, page.row());
        let mut whole = if is_copied || repairs.what.is_none() {
            None
        } else {
            Some(repairs.read(&page, &mut reader)?.into_iter())
        };
        let mut at_once = (PIECE / row).clamp(1, height);
        if model.is_some() {
            // At least two rows, for the survey.
            at_once = (at_once / 2 * 2).max(2);
        }
        let mut left = height;
        while left > 0 {
            if abandoned.load(Ordering::Relaxed) == at {
                return Err(Error::Stopped);
            }
            let count = left.min(at_once);
            let mut rows = Vec::with_capacity(count * row);
            match &mut whole {
                Some(whole) => rows.extend(whole.take(count * row)),
                None => reader.read_rows(count, &mut rows)?,
            }
            if left == height {
                page.metadata.is_achromatic = !is_copied
                    && page.is_achromatic(&rows)
                    && match &whole {
                        Some(rest) => page.is_achromatic(rest.as_slice()),
                        None if count == height => true,
                        None => {
                            let again = open(&job.input, ranges.config.limits)?;
                            is_achromatic_below(count, again, pages)?
                        }
                    };
                send(Piece::Page(Box::new(page.clone()), scale))?;
            }
            left -= count;
            if model.is_some() && !is_copied {
                let (depth, survey) =
                    seen.get_or_insert_with(|| (page.depth, Survey::new(Survey::OF_ONE)));
                if *depth == page.depth {
                    survey.add_rows(&page, &rows);
                }
            }
            send(Piece::Rows(rows))?;
        }
    }
    Ok(Seen {
        misfit: model
            .zip(seen)
            .and_then(|(model, (depth, survey))| model.misfit(depth, &survey)),
        repaired: repairs.repaired,
    })
}

/// Whether the channels of the last of some pages are equal below its first `rows` too. The file is read once more:
/// the page may be larger than memory, and how to denoise it has to be known before its first row.
fn is_achromatic_below(rows: usize, mut again: Reader, pages: usize) -> Result<bool> {
    let mut page = None;
    for _ in 0..pages {
        page = again.next_page()?;
    }
    let Some(page) = page else { return Ok(false) };
    let at_once = (PIECE / page.row()).clamp(1, page.height);
    let mut read = 0;
    while read < page.height {
        let count = at_once.min(page.height - read);
        let mut samples = Vec::with_capacity(count * page.row());
        again.read_rows(count, &mut samples)?;
        if read + count > rows && !page.is_achromatic(&samples) {
            return Ok(false);
        }
        read += count;
    }
    Ok(true)
}

/// How the pages of a job are repaired: by the noise of the first of each type.
struct Repairs {
    what: Repair,
    limits: Limits,
    repairers: BTreeMap<(Depth, usize), Repairer>,
    repaired: Repaired,
}

impl Repairs {
    /// The samples of a page, its color repaired.
    fn read(&mut self, page: &Page, reader: &mut Reader) -> Result<Vec<f32>> {
        /// The middle of a page, as wide and high, says enough of its noise.
        const MIDDLE: usize = 512;
        reader.check_fits(page, self.limits)?;
        let mut samples = Vec::with_capacity(page.height * page.row());
        reader.read_rows(page.height, &mut samples)?;
        let (all, channels) = (page.samples(), page.color.channels());
        let colors = samples
            .chunks_exact(all)
            .flat_map(|pixel| &pixel[..channels]);
        let mut image = Image {
            height: page.height,
            width: page.width,
            channels,
            data: colors.copied().collect(),
            depth: page.depth,
        };
        let key = (page.depth, channels);
        if !self.repairers.contains_key(&key) {
            let middle = Frame::from(&image).middle(MIDDLE, MIDDLE);
            let repairer = Repairer::measure(&[middle], self.what)?;
            self.repairers.insert(key, repairer);
        }
        self.repaired += self.repairers[&key].repair(&mut image);
        let pixels = samples.chunks_exact_mut(all);
        for (to, from) in pixels.zip(image.data.chunks_exact(channels)) {
            to[..channels].copy_from_slice(from);
        }
        Ok(samples)
    }
}

/// The pages from the reader, as the network reads them.
struct Incoming {
    receiver: Receiver<Piece>,
    /// Rows that have been received and not yet read.
    rows: Queue,
    /// The number of samples in a row, and the range, of the current page.
    row: usize,
    scale: Scale,
    /// Reported at the end of the job.
    seen: Seen,
    /// Whether the end of the current job has been received.
    ended: bool,
}

impl Incoming {
    fn skip_job(&mut self) {
        while !matches!(self.receiver.recv(), Ok(Piece::End(_)) | Err(_)) {}
        self.rows = Queue::default();
    }

    fn end<T>(&mut self, result: Result<T>) -> Error {
        self.ended = true;
        result.err().unwrap_or(Error::Stopped)
    }
}

impl Pages for Incoming {
    fn next_page(&mut self) -> Result<Option<Page>> {
        self.rows = Queue::default();
        loop {
            match self.receiver.recv() {
                Ok(Piece::Page(page, scale)) => {
                    (self.row, self.scale) = (page.row(), scale);
                    return Ok(Some(*page));
                }
                Ok(Piece::Rows(_)) => {}
                Ok(Piece::End(Ok(seen))) => {
                    self.ended = true;
                    self.seen = seen;
                    return Ok(None);
                }
                Ok(Piece::End(failed)) => return Err(self.end(failed)),
                Err(_) => return Err(self.end(Ok(()))),
            }
        }
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Result<()> {
        let mut wanted = count * self.row;
        loop {
            let now = wanted.min(self.rows.len());
            if (1..wanted).contains(&now) {
                rows.reserve_exact(wanted);
            }
            self.rows.take(now, rows);
            wanted -= now;
            if wanted == 0 {
                return Ok(());
            }
            match self.receiver.recv() {
                Ok(Piece::Rows(more)) => self.rows.push(more),
                Ok(Piece::End(failed)) => return Err(self.end(failed)),
                Ok(Piece::Page(..)) | Err(_) => return Err(self.end(Ok(()))),
            }
        }
    }
}

/// Samples in the order received; the first of them have been taken.
#[derive(Default)]
struct Queue {
    samples: Vec<f32>,
    taken: usize,
}

impl Queue {
    fn len(&self) -> usize {
        self.samples.len() - self.taken
    }

    /// Appends samples, without a copy if the queue is empty.
    fn push(&mut self, samples: Vec<f32>) {
        if self.len() == 0 {
            *self = Self { samples, taken: 0 };
        } else {
            self.behind().extend(samples);
        }
    }

    /// The vector to append to.
    fn behind(&mut self) -> &mut Vec<f32> {
        self.samples.drain(..self.taken);
        self.taken = 0;
        &mut self.samples
    }

    /// Moves the first `count` samples to the end of `to`; without a copy if they are the whole contents and `to` has
    /// no memory yet.
    fn take(&mut self, count: usize, to: &mut Vec<f32>) {
        if self.taken == 0 && self.samples.len() == count && to.capacity() == 0 {
            *to = std::mem::take(&mut self.samples);
        } else {
            to.extend_from_slice(&self.samples[self.taken..][..count]);
            self.taken += count;
        }
    }
}

/// The state of a job: what is known when the network is done, and the outputs in progress.
struct Run<'scope> {
    result: Result<Done>,
    outputs: Vec<ScopedJoinHandle<'scope, Result<Written>>>,
}

/// What an output reports.
#[derive(Default)]
struct Written {
    bytes: Option<Vec<u8>>,
    scores: Option<[(f64, f64); 2]>,
}

/// Runs one job through the network, while the outputs of those in `ending` may still be in progress.
fn run<'scope>(
    denoiser: &mut Denoiser<'_>,
    (at, job): (usize, &'scope Job),
    config: &Config,
    scope: &'scope Scope<'scope, '_>,
    incoming: &mut Incoming,
    ending: &mut VecDeque<(usize, Run<'scope>)>,
    on_event: &mut impl FnMut(Event),
) -> Run<'scope> {
    let mut outputs = Outputs::default();
    let mut start = None;
    let network_pixels = denoiser.network_pixels;
    let mut denoise = || {
        let mut done: Option<Done> = None;
        while let Some(page) = incoming.next_page()? {
            start.get_or_insert_with(Instant::now);
            let scale = incoming.scale;
            if done.is_none() {
                outputs.start(job, config.limits, scope);
            }
            let done = done.get_or_insert_with(|| Done {
                pages: 0,
                size: (page.height, page.width),
                channels: page.color.channels(),
                depth: (page.depth, job.encoding.depth_of(page.depth)),
                range: scale,
                misfit: None,
                repaired: Repaired::default(),
                is_gray_as_rgb: false,
                elapsed_s: 0.0,
                network_pixels: 0,
                bytes: None,
                notes: vec![],
                scores: None,
            });
            for note in page.metadata.notes_for(job.encoding.format) {
                if !done.notes.contains(&note) {
                    done.notes.push(note);
                }
            }
            done.is_gray_as_rgb |= !page.metadata.pass_through
                && denoiser.is_rgb_alone()
                && (page.color != Color::Rgb || page.metadata.is_achromatic);
            outputs.send(Made::Page(Arc::new(page.clone()), scale))?;
            let mut rows = 0;
            denoiser.denoise(&page, incoming, scale, |mut band| {
                // The end of a job is reported at once, however long the next one takes.
                let written =
                    |(_, run): &(usize, Run)| run.outputs.iter().all(ScopedJoinHandle::is_finished);
                if ending.front().is_some_and(written) {
                    end(ending.pop_front(), on_event);
                }
                if let Some(shrunk) = band.shrunk.take() {
                    on_event(Event::Shrunk { job: at, shrunk });
                }
                rows += band.denoised.len() / page.row();
                on_event(Event::Progress {
                    job: at,
                    pages: done.pages,
                    rows,
                    height: page.height,
                });
                job.selection
                    .restore(&page, &band.noisy, &mut band.denoised);
                outputs.send(Made::Band(Arc::new(band)))
            })?;
            done.pages += 1;
        }
        let mut done = done.ok_or_else(|| Error::Engine {
            reason: "it has no pages".into(),
        })?;
        Seen {
            misfit: done.misfit,
            repaired: done.repaired,
        } = std::mem::take(&mut incoming.seen);
        done.elapsed_s = start.map_or(0.0, |start| start.elapsed().as_secs_f64());
        done.network_pixels = denoiser.network_pixels - network_pixels;
        Ok(done)
    };
    let result = denoise();
    Run {
        outputs: outputs.end(result.is_ok()),
        result,
    }
}

/// Waits for the outputs of a job and reports its result.
fn end(ended: Option<(usize, Run<'_>)>, on_event: &mut impl FnMut(Event)) {
    let Some((
        job,
        Run {
            mut result,
            outputs,
        },
    )) = ended
    else {
        return;
    };
    for output in outputs {
        match (output.join(), &mut result) {
            (Ok(Ok(written)), Ok(done)) => {
                done.bytes = done.bytes.take().or(written.bytes);
                done.scores = done.scores.or(written.scores);
            }
            // Stopped because the job had failed.
            (Ok(_), Err(error)) if !matches!(error, Error::Stopped) => {}
            (Ok(Ok(_)), Err(_)) => {}
            // The error of an output is the error of its job.
            (Ok(Err(error)), result) => {
                if !matches!(error, Error::Stopped) || result.is_ok() {
                    *result = Err(error);
                }
            }
            (Err(_), result) => {
                *result = Err(Error::Engine {
                    reason: "encoding panicked".into(),
                });
            }
        }
    }
    on_event(Event::Ended { job, result });
}

/// What the network's stage sends to each output.
#[derive(Clone)]
enum Made {
    Page(Arc<Page>, Scale),
    Band(Arc<Band>),
}

/// The outputs of a job.
#[derive(Default)]
struct Outputs<'scope> {
    senders: Vec<SyncSender<Made>>,
    handles: Vec<ScopedJoinHandle<'scope, Result<Written>>>,
    /// Whether the end of the stream is the end of a complete job.
    complete: Arc<AtomicBool>,
}

impl<'scope> Outputs<'scope> {
    /// Starts a thread for each output of the job.
    fn start(&mut self, job: &'scope Job, limits: Limits, scope: &'scope Scope<'scope, '_>) {
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

    fn send(&self, made: Made) -> Result<()> {
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
    fn end(self, complete: bool) -> Vec<ScopedJoinHandle<'scope, Result<Written>>> {
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
    clean: Option<Reader>,
    /// Clean, noisy and denoised samples at 8 bits, for the scores.
    seen: Option<[Vec<u8>; 3]>,
}

impl Outgoing<'_> {
    fn write(&mut self, output: &Output) -> Result<Written> {
        let encoding = self.encoding;
        let mut written = Written::default();
        match output {
            Output::File(path) => {
                write_atomically(path, |out| write_pages(self, encoding, path, out))?;
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
                Ok::<_, Error>((psnr_db(clean, image), ssim(clean, image, h, w, c)?))
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
        // A result with fewer bits keeps its range, not its values; a result requested as floats keeps its values,
        // not the range of its type.
        let narrow = self.encoding.depth_of(page.depth) < page.depth;
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
                self.ready.behind().extend(change);
            }
            Part::Denoised if !narrow && unit == 1.0 => match Arc::try_unwrap(band) {
                Ok(band) => self.ready.push(band.denoised),
                Err(band) => self.ready.behind().extend(&band.denoised),
            },
            Part::Denoised => {
                let ready = self.ready.behind();
                for pixel in band.denoised.chunks_exact(samples) {
                    ready.extend(pixel[..channels].iter().map(|&x| value(x)));
                    ready.extend(pixel[channels..].iter().map(|&x| x * unit));
                }
            }
            Part::Residual => {
                // Integers cannot be negative.
                let has_sign = page.depth.unit() == 1.0 || is_asked;
                let half = if has_sign { 0.0 } else { 0.5 };
                let ready = self.ready.behind();
                let pixels = band.noisy.chunks_exact(samples);
                for (noisy, denoised) in pixels.zip(band.denoised.chunks_exact(samples)) {
                    let removed = noisy.iter().zip(denoised).take(channels);
                    ready.extend(removed.map(|(n, d)| half + (n - d) * unit));
                    ready.extend(noisy[channels..].iter().map(|&x| x * unit));
                }
            }
            Part::Compared(_) => {
                let count = band.denoised.len() / page.row();
                let mut clean = Vec::new();
                if let Some(reader) = &mut self.clean {
                    reader.read_rows(count, &mut clean)?;
                }
                let ready = self.ready.behind();
                for y in 0..count {
                    for rows in [&clean, &band.noisy, &band.denoised] {
                        let row = rows.chunks_exact(page.row()).nth(y);
                        for pixel in row.unwrap_or_default().chunks_exact(samples) {
                            ready.extend(pixel[..channels].iter().map(|&x| value(x)));
                        }
                    }
                }
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
            self.original = Some((open(self.input, self.limits)?, 0));
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
            if self.clean.is_none() {
                self.clean = Some(Reader::open(path, self.limits)?);
            }
            let clean = self
                .clean
                .as_mut()
                .map(Pages::next_page)
                .transpose()?
                .flatten();
            let fits = clean.as_ref().is_some_and(|clean| {
                (clean.height, clean.width, clean.samples())
                    == (page.height, page.width, page.samples())
            });
            if !fits {
                return Err(Error::Image {
                    path: path.clone(),
                    reason: format!(
                        "expected an image of {}x{} pixels with {} channels, like the noisy image \
                         that it is compared with",
                        page.width,
                        page.height,
                        page.samples()
                    ),
                });
            }
            across = 3;
            let fits_memory = (page.height * page.row()) as u64 <= self.limits.samples;
            self.seen = fits_memory.then(<[Vec<u8>; 3]>::default);
        }
        Ok(Page {
            width: across * page.width,
            extra: 0,
            orientation: Orientation::NoTransforms,
            metadata: page.metadata.icc_alone(),
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
            _ => page.row(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denoise::{Padding, Tile, WithGray};
    use crate::image::{Format, Image};
    use crate::network::fake::Fake;

    /// The values of the results, and what was reported about tiles.
    fn predicted(most: usize, options: Options) -> (Vec<Vec<f32>>, Vec<(usize, Shrunk)>) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: String| folder.path().join(name);
        let bytes: Vec<u8> = (0..300 * 200).map(|i| (i * 7919 % 251) as u8).collect();
        let jobs = [0, 1].map(|k| {
            let input = path(format!("{k}.png"));
            Image::from_bytes(300, 200, 1, &bytes)
                .write(&input)
                .unwrap();
            Job {
                input: Input::File(input),
                output: Output::File(path(format!("{k}_denoise.png"))),
                residual: None,
                compare: None,
                reference: None,
                encoding: Encoding {
                    format: Format::Png,
                    depth: None,
                    quality: 95,
                },
                selection: Selection::default(),
            }
        });
        let config = Config {
            options,
            range: Range::Auto,
            model: None,
            images: vec![],
            limits: Limits::default(),
            repair: Repair::default(),
        };
        let mut network = Fake::new(1, |x| x / 2.0);
        network.most = (most, false);
        let mut told = vec![];
        predict(&mut network, &jobs, &config, |event| match event {
            Event::Shrunk { job, shrunk } => told.push((job, shrunk)),
            Event::Ended { result, .. } => drop(result.unwrap()),
            Event::Progress { .. } => {}
        });
        let results = [0, 1].map(|k| path(format!("{k}_denoise.png")));
        let results = results.map(|path| Image::read(&path).unwrap().data);
        (results.into(), told)
    }

    #[test]
    fn that_tiles_became_smaller_is_told_once_and_changes_no_result() {
        let options = Options {
            padding: Padding::Multiple,
            ..Options::default()
        };
        let (expected, told) = predicted(usize::MAX, options);
        assert_eq!(told, []);
        // The whole, 320 × 224, is too large; the next size is 160 pixels.
        let (results, told) = predicted(320 * 224 - 1, options);
        let [(0, Shrunk { side: 160, reason })] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert!(reason.contains("320x224 pixels"), "{reason}");
        assert!(results == expected);
        let tile = Tile::Side(160);
        let (results, told) = predicted(usize::MAX, Options { tile, ..options });
        assert!(results == expected && told.is_empty());
    }

    fn job(input: PathBuf, output: PathBuf, depth: Option<Depth>) -> Job {
        Job {
            input: Input::File(input),
            output: Output::File(output),
            residual: None,
            compare: None,
            reference: None,
            encoding: Encoding {
                depth,
                ..Encoding::new(Format::Tiff)
            },
            selection: Selection::default(),
        }
    }

    /// A folder, a type, and a function for the value of each pixel.
    type Content<'a> = (&'a str, Depth, &'a dyn Fn(usize) -> f32);

    /// The result of [`predict`] for images of 40 × 50, each in its folder, with a network defined by a function.
    fn made(
        images: &[Content<'_>],
        pixel: fn(f32) -> f32,
        (range, model, depth): (Range, Option<ModelRange>, Option<Depth>),
    ) -> Vec<(Done, Image)> {
        let folder = tempfile::tempdir().unwrap();
        let path = |place: &str, kind: &str| folder.path().join(format!("{place}{kind}.tif"));
        let mut jobs = vec![];
        for (place, from, value) in images {
            let image = Image {
                height: 40,
                width: 50,
                channels: 1,
                data: (0..2000).map(|i| value(i) / from.unit()).collect(),
                depth: *from,
            };
            image.write(&path(place, "")).unwrap();
            jobs.push(job(path(place, ""), path(place, "_denoise"), depth));
        }
        let config = Config {
            options: Options::default(),
            range,
            model,
            images: vec![],
            limits: Limits::default(),
            repair: Repair::default(),
        };
        let mut done = vec![];
        predict(&mut Fake::new(1, pixel), &jobs, &config, |event| {
            if let Event::Ended { result, .. } = event {
                done.push(result.unwrap());
            }
        });
        let read = |(place, ..): &(&str, Depth, _)| Image::read(&path(place, "_denoise")).unwrap();
        done.into_iter().zip(images.iter().map(read)).collect()
    }

    fn ramp(from: f32, to: f32) -> impl Fn(usize) -> f32 {
        move |i| (from + (to - from) * (i * 7919 % 2000) as f32 / 1999.0).round()
    }

    #[test]
    fn files_of_one_type_in_a_folder_have_one_range() {
        let (low, high) = (ramp(0.0, 4000.0), ramp(0.0, 5000.0));
        let made = made(
            &[
                ("a/1", Depth::U16, &low),
                ("a/2", Depth::U16, &high),
                ("b/1", Depth::U16, &low),
                ("a/3", Depth::U8, &ramp(0.0, 250.0)),
            ],
            |x| x,
            (Range::Auto, None, None),
        );
        let tops = made
            .iter()
            .map(|(done, _)| (done.range.high * 65535.0).round());
        assert_eq!(tops.collect::<Vec<_>>(), [8191.0, 8191.0, 4095.0, 65535.0]);
    }

    #[test]
    fn a_model_has_its_range_unless_another_is_asked_for() {
        let model = ModelRange {
            low: 100.0,
            high: 300.0,
            depth: Depth::U16,
        };
        let value = ramp(90.0, 320.0);
        let run = |range, depth| {
            let images: [Content<'_>; 1] = [("a", Depth::U16, &value)];
            made(&images, |_| 0.25, (range, Some(model), depth)).remove(0)
        };
        let counts = |image: &Image| {
            let values: Vec<_> = image.data.iter().map(|x| x * image.depth.unit()).collect();
            assert!(values.iter().all(|x| (x - values[0]).abs() < 1e-2));
            values[0]
        };
        let (done, image) = run(Range::Auto, None);
        assert_eq!((done.misfit, counts(&image).round()), (None, 150.0));
        // Floats on request are counts, too.
        let (_, image) = run(Range::Auto, Some(Depth::F32));
        assert!((counts(&image) - 150.0).abs() < 1e-2);
        assert_eq!(image.depth, Depth::F32);
        let (_, image) = run(Range::Between(0.0, 1000.0), Some(Depth::F32));
        assert!((counts(&image) - 250.0).abs() < 1e-2);
    }

    #[test]
    fn an_image_unlike_those_of_the_model_is_told_of() {
        let model = ModelRange {
            low: 100.0,
            high: 300.0,
            depth: Depth::U16,
        };
        let misfits = |range| {
            let made = made(
                &[
                    ("a/1", Depth::U16, &ramp(100.0, 250.0)),
                    ("a/2", Depth::U16, &ramp(0.0, 4000.0)),
                    ("a/3", Depth::U8, &ramp(100.0, 250.0)),
                ],
                |x| x,
                (range, Some(model), None),
            );
            made.iter()
                .map(|(done, _)| done.misfit.is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(misfits(Range::Auto), [false, true, true]);
        assert_eq!(misfits(Range::Percentile), [false; 3]);
    }

    /// The first result of [`predict`] for a page of 700 × 600, more than the reader sends at once, with networks that
    /// halve RGB pixels and quarter single channels.
    fn with_both(image: &Image, with_gray: bool) -> (Done, Image) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        image.write(&path("a.tif")).unwrap();
        let config = Config {
            options: Options::default(),
            range: Range::Auto,
            model: None,
            images: vec![],
            limits: Limits::default(),
            repair: Repair::default(),
        };
        let mut network: Box<dyn Denoise> = Box::new(Fake::new(3, |x| x / 2.0));
        if with_gray {
            let gray = Box::new(Fake::new(1, |x| x / 4.0));
            network = Box::new(WithGray::new(network, gray));
        }
        let mut all = vec![];
        let job = job(path("a.tif"), path("b.tif"), None);
        predict(&mut *network, &[job], &config, |event| {
            if let Event::Ended { result, .. } = event {
                all.push(result.unwrap());
            }
        });
        (all.remove(0), Image::read(&path("b.tif")).unwrap())
    }

    #[test]
    fn pages_of_equal_channels_are_gray_however_late_a_color_comes() {
        let (height, width) = (700, 600);
        let mut bytes = vec![200; height * width * 3];
        let image = |bytes: &[u8]| Image::from_bytes(height, width, 3, bytes);
        let (done, result) = with_both(&image(&bytes), true);
        assert!(result.to_u8().iter().all(|&x| x == 50) && !done.is_gray_as_rgb);
        let (done, result) = with_both(&image(&bytes), false);
        assert!(result.to_u8().iter().all(|&x| x == 100) && done.is_gray_as_rgb);
        *bytes.last_mut().unwrap() = 202;
        let (done, result) = with_both(&image(&bytes), true);
        assert!(result.to_u8()[..9].iter().all(|&x| x == 100) && !done.is_gray_as_rgb);
        let gray = Image::from_bytes(height, width, 1, &bytes[..height * width]);
        let (done, result) = with_both(&gray, true);
        assert!(result.to_u8().iter().all(|&x| x == 50) && !done.is_gray_as_rgb);
        let (done, result) = with_both(&gray, false);
        assert!(result.to_u8().iter().all(|&x| x == 100) && done.is_gray_as_rgb);
    }

    #[test]
    fn a_value_far_beyond_the_others_changes_no_other_and_stays() {
        let value = |i: usize| {
            if i == 777 {
                65535.0
            } else {
                ramp(0.0, 4000.0)(i)
            }
        };
        let made = made(
            &[("a", Depth::U16, &value)],
            |x| x * 0.5,
            (Range::Auto, None, Some(Depth::F32)),
        );
        let data = &made[0].1.data;
        for (i, &result) in data.iter().enumerate().filter(|&(i, _)| i != 777) {
            assert!((result - value(i) / 2.0).abs() < 0.01, "{i}");
        }
        // The limit is at twice the range.
        assert!((data[777] - (65535.0 - 4095.0)).abs() < 0.1);
    }
}
