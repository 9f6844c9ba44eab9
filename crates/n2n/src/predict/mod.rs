//! Files through a network, as a pipeline: one file is decoded and another encoded while the network processes a
//! third, so that its threads never wait for either.
//!
//! Three stages are connected by bounded channels. The reader thread decodes job after job into pieces of rows. The
//! caller's thread runs them through the network. Each output of a job has a thread that encodes the result. A file
//! that fails ends only its own job, and leaves no output.

mod encode;
mod queue;
mod ranges;
mod read;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::{Scope, ScopedJoinHandle, scope};
use std::time::Instant;

use self::encode::{Made, Outputs, Written};
use self::queue::{Incoming, Queue};
use self::ranges::Ranges;
use self::read::{Piece, Seen, read};
use crate::denoise::{Denoiser, Misfit, ModelRange, Options, Range, Scale, Shrunk};
use crate::error::{Error, Result};
use crate::image::{Color, Depth, Encoding, Limits, Pages, Reader, Selection};
use crate::network::Denoise;
use crate::repair::{Repair, Repaired};

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

fn open(input: &Input, limits: Limits) -> Result<Reader> {
    match input {
        Input::File(path) => Reader::open(path, limits),
        Input::Bytes(name, bytes) => Reader::from_bytes(name, Arc::clone(bytes), limits),
    }
}

/// The state of a job: what is known when the network is done, and the outputs in progress.
struct Run<'scope> {
    result: Result<Done>,
    outputs: Vec<ScopedJoinHandle<'scope, Result<Written>>>,
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
