//! What to do with a file, what is reported meanwhile, and what was done.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::denoise::{Misfit, ModelRange, Options, Range, Scale, Shrunk};
use crate::error::Result;
use crate::image::{Depth, Encoding, Limits, Reader, Selection};
use crate::repair::{Repair, Repaired};

/// A file, and the outputs to make from it.
#[derive(Debug, Clone)]
pub struct Job {
    /// The source of the noisy pages.
    pub input: Input,
    /// The destination of the denoised pages.
    pub output: Output,
    /// The destination of the residual, the removed noise, in the units of the result. To residuals stored as unsigned
    /// integers of 8 or 16 bits, 128 or 32768 is added; those of unsigned 32-bit integers are stored as signed ones. If
    /// image and result are both unsigned 8-bit or both unsigned 16-bit integers, and the format is lossless, result
    /// plus residual, less that offset, is the image exactly, except where more was removed than the type can hold.
    pub residual: Option<PathBuf>,
    /// The destination of the side-by-side comparison of noisy and denoised.
    pub compare: Option<PathBuf>,
    /// The clean image, shown before the two: of the same type as the noisy one, or floats in its units.
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

impl Input {
    /// The path of the file, or what stands for it in errors.
    pub(crate) fn name(&self) -> &Path {
        let (Self::File(name) | Self::Bytes(name, _)) = self;
        name
    }

    pub(super) fn open(&self, limits: Limits) -> Result<Reader> {
        match self {
            Self::File(path) => Reader::open(path, limits),
            Self::Bytes(name, bytes) => Reader::from_bytes(name, Arc::clone(bytes), limits),
        }
    }
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
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// How pages go through the network.
    pub options: Options,
    /// The values that map to the network's 0 and 1. [`Range::Auto`] means the range in `model` if there is one. A
    /// range that has to be measured is measured once for all files of one type in a folder.
    pub range: Range,
    /// The range that the model was trained on, if it states one.
    pub model: Option<ModelRange>,
    /// All images that the jobs are part of, in order, if others have been denoised already or are denoised
    /// elsewhere: measured ranges then cover all of them. Empty if the jobs are all there is.
    pub images: Vec<PathBuf>,
    /// Limits on what a file may allocate.
    pub limits: Limits,
    /// Sensor faults that are removed from pages first; such pages are held in memory as a whole.
    pub repair: Repair,
}

/// What is reported while the jobs run.
pub enum Event {
    /// Part of a page has been through the network.
    Progress {
        /// The job, by its index in the list.
        job: usize,
        /// Pages before this one.
        pages: usize,
        /// The fraction of this page that is done, 0 to 1.
        part: f64,
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
    /// Number of color channels of the first page.
    pub channels: usize,
    /// Its depth, before and after.
    pub depth: (Depth, Depth),
    /// The values that mapped to the network's 0 and 1, divided by the [unit](Depth::unit) of the depth before.
    pub range: Scale,
    /// How the image fails to fit the model's range, if that was used.
    pub misfit: Option<Misfit>,
    /// What was repaired on all pages.
    pub repaired: Repaired,
    /// Whether single channels were denoised as RGB images, which removes little of their noise: by an RGB network with
    /// no gray one [beside it](crate::denoise::WithGray).
    pub is_gray_as_rgb: bool,
    /// When the network began, with the first row.
    pub started: Instant,
    /// Wall time from then to the end of the network's work.
    pub elapsed_s: f64,
    /// Pixels that the network was given on all pages, including padding; a pixel counts once for every tile and
    /// pass that it is in.
    pub network_pixels: u64,
    /// The file, if it was to be kept in memory.
    pub bytes: Option<Vec<u8>>,
    /// What the result lost compared with the file, in words for the user.
    pub notes: Vec<String>,
    /// PSNR in dB and SSIM of the noisy and of the denoised image against the reference, at 8 bits; those of the last
    /// page, if there are several. An image smaller than [`WINDOW`](crate::eval::ssim::WINDOW) has no SSIM.
    pub scores: Option<[(f64, Option<f64>); 2]>,
}
