//! The flags of `n2n predict`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use n2n::adapt::Budget;
use n2n::denoise::{Options, Range, Tile};
use n2n::image::{Limits, Numbers, QUALITY};
use n2n::models::{self, Quality};
use n2n::repair::Repair;

use super::device::Denoiser;
use super::image::{ImageDepth, ImageFormat};
use super::value::{bytes, named, no_image};

/// `n2n predict`
#[derive(Debug, Args)]
#[command(
    after_help = "A result has the format, depth, channels, size, pages and metadata of its \
                  image. It is named <name>_denoise. Folders are searched recursively, and their \
                  structure is kept. The input - stands for standard input; its result goes to \
                  standard output."
)]
#[allow(clippy::struct_excessive_bools, reason = "flags")]
pub struct Predict {
    /// Images (PNG, JPEG, TIFF, DNG, WebP, OpenEXR, MRC and others), folders of images, glob patterns, or -
    #[arg(value_name = "INPUT", required_unless_present = "image_path")]
    pub inputs: Vec<PathBuf>,
    /// Another image or folder
    #[arg(long, value_name = "PATH")]
    pub image_path: Option<PathBuf>,
    /// A weight file, or the name of a shipped model
    #[arg(long, value_name = "MODEL", default_value = models::DEFAULT)]
    pub model_path: PathBuf,
    /// Use the shipped model with this trade-off between quality and speed, for the same noise as --model-path: best or
    /// fast; `n2n info` lists the models
    #[arg(long, value_name = "QUALITY", value_parser = quality)]
    pub quality: Option<Quality>,
    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "./output")]
    pub save_dir: PathBuf,
    /// Suffix of the results' names
    #[arg(long, value_name = "TEXT", default_value = "_denoise")]
    pub suffix: String,
    /// Replace each image with its result
    #[arg(long, conflicts_with_all = ["save_dir", "suffix", "format", "skip_existing"])]
    pub in_place: bool,
    /// Skip images whose result already exists
    #[arg(long)]
    pub skip_existing: bool,
    /// Denoise one part of the images, such as 3/16 for the third of sixteen parts, for job arrays on a cluster
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<Shard>,
    /// Format of the results [default: same as the image]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<ImageFormat>,
    /// Bits per sample: 8, 16 or 32f (floats in the image's units) [default: same as the image]
    #[arg(long, value_enum, value_name = "BITS")]
    pub depth: Option<ImageDepth>,
    /// JPEG quality, 1 to 100
    #[arg(long, value_name = "N", default_value_t = QUALITY, value_parser = jpeg_quality)]
    pub jpeg_quality: u8,
    /// Pages to denoise, counted from 1, such as 2 or 1,3 or 5-8,12-; the others are copied [default: all]
    #[arg(long, value_name = "PAGES", value_parser = named::<Numbers>)]
    pub pages: Option<Numbers>,
    /// Channels to denoise, counted from 1; the others are copied. In an ImageJ or OME stack, the
    /// pages of these channels [default: all]
    #[arg(long, value_name = "CHANNELS", value_parser = named::<Numbers>)]
    pub channel: Option<Numbers>,
    /// Values that map to the network's 0 and 1, in the units of the image: MIN,MAX; percentile; or auto (the range
    /// that the model was trained on or, if it has none, a range derived from the type and the values of all images
    /// in the folder)
    #[arg(
        long,
        value_name = "RANGE",
        default_value = "auto",
        allow_hyphen_values = true,
        value_parser = named::<Range>
    )]
    pub range: Range,
    /// Sensor faults to correct first: hot-pixels, rows, columns; separated by commas
    #[arg(long, value_name = "FAULTS", value_parser = named::<Repair>)]
    pub repair: Option<Repair>,
    /// First fit a copy of the model to the noise of these images, for a time such as 3m or a number of steps
    #[arg(long, value_name = "TIME", value_parser = named::<Budget>)]
    pub adapt: Option<Budget>,
    /// Seed of all random draws while fitting the model
    #[arg(long, value_name = "N", default_value_t = 0, requires = "adapt")]
    pub seed: u64,
    /// Save the fitted model, for more images of the same kind
    #[arg(long, value_name = "FILE", requires = "adapt", value_parser = no_image())]
    pub save_model: Option<PathBuf>,
    /// Fraction of the detected noise to remove: 0 to 1
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = share)]
    pub strength: f32,
    /// Average over eight flips and rotations: slightly better, eight times the work
    #[arg(long)]
    pub ensemble: bool,
    /// Also write the removed noise, as <name>_residual; in unsigned files, 128 (8 bits) or 32768 (16 bits) stands for
    /// 0
    #[arg(long)]
    pub residual: bool,
    /// Also write input and result side by side, as <name>_compare
    #[arg(long)]
    pub compare: bool,
    /// Clean image, or folder of clean images with the same names, to show first in the comparison and compute scores
    /// against; they must have the type of the image, or be floats in its units
    #[arg(long, value_name = "PATH", requires = "compare")]
    pub reference: Option<PathBuf>,
    /// Tile size in pixels, auto (as memory allows) or none; reduced if a GPU runs out of memory; a size that needs
    /// more than --max-memory is an error
    #[arg(long, value_name = "SIDE", default_value = "auto", value_parser = named::<Tile>)]
    pub tile: Tile,
    /// Limit on the total memory for the network, its tiles and the rows of an image that they are cut from [default:
    /// 2.5GB, which does not apply to the tiles of --tile none or --tile SIDE]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    max_memory: Option<u64>,
    /// Maximum number of pixels that a file may declare per page
    #[arg(long, value_name = "N", default_value_t = Limits::default().pixels)]
    pub max_pixels: u64,
    /// How to pad an image to a size that the network accepts
    #[arg(long, value_enum, default_value_t = Pad::Multiple)]
    pub pad: Pad,
    /// Write a report of all images as JSON
    #[arg(long, value_name = "FILE", value_parser = no_image())]
    pub json: Option<PathBuf>,
    /// Where to compute.
    #[command(flatten)]
    pub denoiser: Denoiser,
}

impl Predict {
    /// Limit on the memory, in bytes.
    pub fn max_memory(&self) -> u64 {
        self.max_memory.unwrap_or(Options::default().max_bytes)
    }

    /// Limit on the memory for the network and its tiles, in bytes. If a size of tiles is asked for without a limit,
    /// there is none.
    pub fn max_tile_memory(&self) -> u64 {
        let is_free = match self.tile {
            Tile::Auto => false,
            Tile::None => true,
            // Squares are not tiled.
            Tile::Side(_) => self.pad == Pad::Multiple,
        };
        if is_free && self.max_memory.is_none() {
            u64::MAX
        } else {
            self.max_memory()
        }
    }
}

/// One of several parts of a list, to which its items are dealt in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 0.
    index: usize,
    /// How many there are.
    count: usize,
}

impl Shard {
    /// Whether the item at this index of the list is in the part.
    pub fn has(self, place: usize) -> bool {
        place % self.count == self.index
    }
}

/// How an image is padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pad {
    /// Each side to the next multiple of the network's grid (32 for the shipped models)
    Multiple,
    /// To a square, as the paper's protocol does
    Square,
}

fn shard(text: &str) -> Result<Shard, String> {
    let numbers = text.split_once('/');
    let numbers = numbers.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match numbers {
        Some((number, count)) if (1..=count).contains(&number) => Ok(Shard {
            index: number - 1,
            count,
        }),
        _ => Err("expected I/N, part I of N, counted from 1, such as 3/16".into()),
    }
}

/// The trade-off of a model; a number is most likely meant for a JPEG.
fn quality(text: &str) -> Result<Quality, String> {
    if text.parse::<u8>().is_ok() {
        return Err("expected best or fast; for JPEG quality, use --jpeg-quality".into());
    }
    named(text).map_err(|_| "expected best or fast".into())
}

fn jpeg_quality(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(number @ 1..=100) => Ok(number),
        _ => Err("expected a whole number from 1 to 100".into()),
    }
}

/// A number from 0 to 1.
fn share(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(number @ 0.0..=1.0) => Ok(number),
        _ => Err("expected a number from 0 to 1".into()),
    }
}
