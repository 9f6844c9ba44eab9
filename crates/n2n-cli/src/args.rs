//! The command line: every flag, its default and its check.
//!
//! Flags are written in kebab-case. Each is also accepted in the reference's snake_case spelling
//! (`--data_dir`).

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use n2n::Error;
use n2n::adapt::Budget;
use n2n::cpu::{Level, LevelError};
use n2n::denoise::{Range, Tile};
use n2n::eval::Set;
use n2n::image::{Depth, Format, Limits, Numbers, QUALITY};
use n2n::models::{self, Quality};
use n2n::noise::Noise;
use n2n::repair::Repair;
use n2n::train::config::{Config, Span};
use n2n::train::spacing::NeighborDistance;
use n2n::unet::{self, UNet};
use n2n::weights::DType;
use serde::{Serialize, Serializer};

use crate::device::Device;

/// Train an image denoiser from noisy images alone, and use it.
#[derive(Debug, Parser)]
#[command(name = "n2n", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
}

/// Flags that every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// CPU threads [default: all cores]
    #[arg(
        long,
        alias = "cpu-threads",
        global = true,
        value_name = "N",
        value_parser = threads,
        display_order = 900
    )]
    pub threads: Option<usize>,
    /// Print results only: no progress, no notes
    #[arg(long, short, global = true, display_order = 901)]
    pub quiet: bool,
}

/// The flag of commands that run the network.
#[derive(Debug, Args)]
pub struct Processor {
    /// CPU instruction set level, one that `n2n info` lists [default: the fastest]
    #[arg(long, value_name = "NAME", env = "N2N_LEVEL", value_parser = level, display_order = 800)]
    level: Option<Level>,
}

impl Processor {
    /// The level that was asked for, or else the fastest.
    pub fn level(&self) -> Level {
        self.level.unwrap_or_else(Level::detect)
    }

    /// Whether one was asked for.
    pub fn is_given(&self) -> bool {
        self.level.is_some()
    }
}

/// The flags of commands that run the network on any device.
#[derive(Debug, Args)]
pub struct Computer {
    /// Device to compute on: cpu, gpu (the first hardware GPU), gpu:N (as numbered by `n2n info`), or auto (a GPU if
    /// there is one) [default: cpu]
    #[arg(long, value_name = "DEVICE", env = "N2N_DEVICE", display_order = 799)]
    pub device: Option<Device>,
    /// How, on the CPU.
    #[command(flatten)]
    pub processor: Processor,
}

/// The flags of commands that denoise on any device.
#[derive(Debug, Args)]
pub struct Denoiser {
    /// Where to compute.
    #[command(flatten)]
    pub computer: Computer,
    /// On a GPU, store activations in half precision: half the memory
    #[arg(long, display_order = 799)]
    pub half: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Command {
    /// Select and convert training images
    Prepare(Prepare),
    /// Analyze the noise of images before training on them
    Diagnose(Diagnose),
    /// Train a denoiser
    Train(Train),
    /// Score a model with the paper's protocol
    Val(Val),
    /// Denoise files and folders
    #[command(visible_alias = "denoise")]
    Predict(Predict),
    /// Add noise to an image, for testing
    Corrupt(Corrupt),
    /// Export a model for other engines: ONNX and safetensors
    Export(Export),
    /// Run an exported model on pictures, with a benchmark report
    Infer(Infer),
    /// Time the network on random pixels
    Bench(Bench),
    /// Show the build, the CPU level, the GPUs and the shipped models; or the layers of a model
    Info(Info),
    /// Print shell completions
    Completions(Completions),
    /// Print the manual page, or write the pages of all commands
    Man(Man),
}

/// `n2n prepare`
#[derive(Debug, Args)]
pub struct Prepare {
    /// Folder of images, searched recursively
    #[arg(long, value_name = "DIR")]
    pub input_dir: PathBuf,
    /// Folder for the converted images
    #[arg(long, value_name = "DIR")]
    pub save_dir: PathBuf,
    /// Smallest width and height to keep
    #[arg(long, value_name = "PIXELS", default_value_t = 256, value_parser = positive)]
    pub min_size: usize,
    /// Largest width and height to keep
    #[arg(long, value_name = "PIXELS", default_value_t = 512, value_parser = positive)]
    pub max_size: usize,
    /// Enlarge clean images by this factor, 1 to 4: with 2, the half-size images that training sees are as sharp
    /// as the images that are denoised later
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = positive_number)]
    pub magnification: f64,
}

/// `n2n diagnose`
#[derive(Debug, Args)]
#[command(
    after_help = "Prints the noise at each signal level, any obstacles to training on these \
                  images, and advice on each. All values are in the units of the files. Each page \
                  of a stack is an image. Only the middle of large images is used, 16 megapixels \
                  in all."
)]
pub struct Diagnose {
    /// Images, stacks, folders of images or patterns
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Value of a dark pixel, if known; determines the read noise even where photon noise hides it
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true, value_parser = number)]
    pub offset: Option<f64>,
    /// Maximum number of images or pages to use
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    pub max_images: usize,
    /// Write all measurements as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write an HTML page with curves and pictures
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `n2n train`. Of a flag given twice the last counts, as in the seed: its scripts append to a command
/// what they change in it.
///
/// A flag that is not given is left to the configuration file, and then to the recipe; `help` shows
/// the defaults that [`n2n::train::Config`] has.
#[derive(Debug, Args, Serialize)]
#[command(
    args_override_self = true,
    after_help = "A run is a folder, <save-model-path>/<log-name>. It contains the settings \
                  (config.toml), checkpoints (latest, best and one for every snapshot), logs, \
                  tables and a page with curves (report.html). Ctrl-C stops a run after the \
                  current step, with exit status 130; --resume continues it, also after a crash, \
                  to the same weights as an uninterrupted run."
)]
pub struct Train {
    /// Resume the run in this folder. Only --data-dir, --val-dirs, --keep, --checkpoint-every, --loader-threads,
    /// --cache-mb, --device, --level and --threads may be changed
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "overwrite"])]
    #[serde(skip)]
    pub resume: Option<PathBuf>,
    /// File of settings, such as a run's config.toml; flags take precedence
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Replace an existing run in the folder
    #[arg(long)]
    #[serde(skip)]
    pub overwrite: bool,
    /// Defaults for all other settings: the paper's, or ours for runs of minutes to hours (cosine rate, EMA, flips
    /// and turns, larger initial weights)
    #[arg(long, value_name = "paper|fast")]
    pub recipe: Option<String>,
    /// Noise to add: gaussS (σ on a scale of 255), poissonL (rate), gaussA_B or poissonA_B (a range of levels), or
    /// none (the images are already noisy)
    #[arg(long, value_name = "NOISE", value_parser = named::<Noise>)]
    pub noisetype: Option<Noise>,
    /// Add the noise to each image once, derived from its path, instead of anew at every visit
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    pub frozen_noise: Option<bool>,
    /// Values that map to the network's 0 and 1, in the units of the images: MIN,MAX; percentile (measured); or auto
    /// (measured with --noisetype none, otherwise the full range of the type). Stored with the weights
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true, value_parser = named::<Range>)]
    pub range: Option<Range>,
    /// Folder of training images, searched recursively
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Folder that contains the validation set BSD300/test, or none [default: ./validation if it exists; none with
    /// --noisetype none]
    #[arg(long, value_name = "DIR")]
    pub val_dirs: Option<PathBuf>,
    /// Training images to hold out for a validation loss without clean images [default: with --noisetype none, 1 in
    /// 20, at least 1 (of a single image, a part), at most 32; otherwise 0]
    #[arg(long, value_name = "N")]
    pub holdout: Option<usize>,
    /// Folder in which runs are saved
    #[arg(long, value_name = "DIR")]
    pub save_model_path: Option<PathBuf>,
    /// Name of this run's folder
    #[arg(long, value_name = "NAME")]
    pub log_name: Option<String>,
    /// Network architecture: paper; or fast, faster or fastest, which need a fraction of the time at slightly lower
    /// quality. The flags below override individual sizes
    #[arg(long, value_name = "NAME", value_parser = architecture)]
    pub architecture: Option<String>,
    /// Channels of the first layer
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_feature: Option<usize>,
    /// Channels that the network processes together, up to 16: 3 for RGB images, 1 for gray ones
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_channel: Option<usize>,
    /// Number of 2x2 poolings, 1 to 5
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_depth: Option<usize>,
    /// Channels of the last layers
    #[arg(long, value_name = "N", value_parser = positive)]
    pub head_width: Option<usize>,
    /// Space-to-depth factor before the first layer, undone after the last one: with 2, the network runs at half the
    /// resolution, on blocks of 2x2 pixels; 1 for none
    #[arg(long, value_name = "N", value_parser = positive)]
    pub pixel_shuffle: Option<usize>,
    /// Denoise the channels of an image together, or each independently by one model with --n-channel 1
    #[arg(long, value_name = "together|independent")]
    pub channels: Option<String>,
    /// Sensor faults to correct in the images first: hot-pixels, rows, columns; separated by commas
    #[arg(long, value_name = "FAULTS", value_parser = named::<Repair>)]
    pub repair: Option<Repair>,
    /// Learning rate
    #[arg(long, value_name = "RATE", value_parser = positive_number)]
    pub lr: Option<f64>,
    /// Optimizer: the paper's Adam, or Muon for the weights of hidden layers
    #[arg(long, value_name = "adam|muon")]
    pub optimizer: Option<String>,
    /// Learning rate schedule: multiplied by --gamma after each fifth of the run; a cosine; or constant until the
    /// last 30 % of the run, then a cosine
    #[arg(long, value_name = "step|cosine|trapezoid")]
    pub lr_schedule: Option<String>,
    /// Fraction of the run for warm-up, unless the schedule is step
    #[arg(long, value_name = "PART", value_parser = factor)]
    pub warmup: Option<f64>,
    /// Factor on the learning rate after each fifth of the epochs
    #[arg(long, value_name = "FACTOR", value_parser = positive_number)]
    pub gamma: Option<f64>,
    /// Epochs
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_epoch: Option<usize>,
    /// Iterations per epoch [default: one pass over the images; with --noisetype none, at least 250]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub steps_per_epoch: Option<usize>,
    /// Train for this long instead of --n-epoch, with the schedule scaled to it: 90s, 30m, 1h 30m
    #[arg(long, value_name = "TIME", value_parser = named::<Span>)]
    pub time_budget: Option<Span>,
    /// Iterations between lines of losses
    #[arg(long, value_name = "N", value_parser = positive)]
    pub log_iters: Option<usize>,
    /// Epochs between numbered checkpoints, each with its scores
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_snapshot: Option<usize>,
    /// Number of newest numbered checkpoints to keep
    #[arg(long, value_name = "N", value_parser = positive)]
    pub keep: Option<usize>,
    /// Time between updates of the checkpoint that a run is resumed from
    #[arg(long, value_name = "TIME", value_parser = named::<Span>)]
    pub checkpoint_every: Option<Span>,
    /// Patches per step
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batchsize: Option<usize>,
    /// Side of the square patches, a multiple of 64
    #[arg(long, value_name = "PIXELS", value_parser = patch_size)]
    pub patchsize: Option<usize>,
    /// Factor on the reconstruction loss
    #[arg(
        id = "Lambda1",
        long = "Lambda1",
        alias = "lambda1",
        value_name = "FACTOR",
        value_parser = factor
    )]
    #[serde(rename = "Lambda1")]
    pub lambda1: Option<f64>,
    /// Factor on the regularizer
    #[arg(
        id = "Lambda2",
        long = "Lambda2",
        alias = "lambda2",
        value_name = "FACTOR",
        value_parser = factor
    )]
    #[serde(rename = "Lambda2")]
    pub lambda2: Option<f64>,
    /// Λ schedule: proportional to the epoch, or constant (for --init-from)
    #[arg(long, value_name = "ramp|constant")]
    pub lambda_schedule: Option<String>,
    /// Λ in the last epoch: 2 for synthetic noise, 1 for real raw noise
    #[arg(long, value_name = "RATIO", value_parser = factor)]
    pub increase_ratio: Option<f64>,
    /// Λ below this counts as 0, which saves a forward pass
    #[arg(long, value_name = "RATIO", value_parser = factor)]
    pub min_lambda: Option<f64>,
    /// Target: the drawn neighbor, as in the paper, or the mean of the two that could have been drawn
    #[arg(long, value_name = "drawn|mean")]
    pub target: Option<String>,
    /// Number of patches per batch, in rotation, to compute the regularizer on; fewer make steps faster [default:
    /// all]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub regularized_patches: Option<usize>,
    /// Factor on the initial weights: the reference's 0.1 learns slowly at first; 1 is better for short runs
    #[arg(long, value_name = "FACTOR", value_parser = positive_number)]
    pub init_scale: Option<f64>,
    /// Model to start from, with the same architecture: a file or a shipped model (see `n2n info`). With --n-channel
    /// 1, a color model is converted
    #[arg(long, value_name = "MODEL", conflicts_with = "init_scale")]
    pub init_from: Option<PathBuf>,
    /// Model to learn from instead of the neighbors, so that a small network imitates a large one: a file or a
    /// shipped model. The target is its result on the same noisy image, flipped and turned at random
    #[arg(long, value_name = "MODEL")]
    pub teacher: Option<PathBuf>,
    /// Distance between the pixels used as neighbors, for noise that adjacent pixels share (JPEG, demosaicing, scan
    /// lines): pixels, such as 3 or 3x1 (along rows x along columns), or auto
    #[arg(long, value_name = "PIXELS|auto", value_parser = named::<NeighborDistance>)]
    pub neighbor_distance: Option<NeighborDistance>,
    /// Flip and turn patches at random
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    pub augment: Option<bool>,
    /// Decay of a running average of the weights, which is scored and saved in their place; 0 for none
    #[arg(long, value_name = "DECAY", value_parser = factor)]
    pub ema: Option<f64>,
    /// Seed of all random draws
    #[arg(long, value_name = "N", value_parser = seed)]
    #[serde(serialize_with = "as_text")]
    pub seed: Option<u64>,
    /// Threads that read images
    #[arg(long, value_name = "N", value_parser = threads)]
    pub loader_threads: Option<usize>,
    /// Memory for decoded images in MB; images beyond it are decoded at every visit
    #[arg(long, value_name = "MB")]
    pub cache_mb: Option<usize>,
    /// Accepted for the reference's scripts; has no effect: use --device
    #[arg(long, value_name = "LIST", hide = true)]
    #[serde(skip)]
    pub gpu_devices: Option<String>,
    /// Accepted for the reference's scripts; has no effect: all threads are always used
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    #[serde(skip)]
    pub parallel: Option<bool>,
    /// Where to compute.
    #[command(flatten)]
    #[serde(skip)]
    pub computer: Computer,
}

/// As text, for the numbers of a configuration file have a sign.
#[allow(clippy::ref_option, reason = "as serde calls it")]
fn as_text<S: Serializer>(number: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => serializer.collect_str(number),
        None => serializer.serialize_none(),
    }
}

/// `n2n val`
#[derive(Debug, Args)]
#[allow(clippy::struct_field_names, reason = "the reference's flag")]
pub struct Val {
    /// A weight file, or the name of a shipped model
    #[arg(long, value_name = "MODEL", default_value = models::DEFAULT)]
    pub model_path: PathBuf,
    /// Folder with the sets: BSD300/test, Kodak, Set14
    #[arg(long, value_name = "DIR", default_value = "./validation")]
    pub val_dirs: PathBuf,
    /// Sets to score on, in this order: BSD300, Kodak, Set14
    #[arg(
        long,
        value_name = "NAMES",
        value_delimiter = ',',
        default_value = "BSD300",
        value_parser = named::<Set>
    )]
    pub sets: Vec<Set>,
    /// Passes over each set [default: BSD300 3, Kodak 10, Set14 20]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub repeats: Option<usize>,
    /// Noise to add: gaussS (σ on a scale of 255), poissonL (rate), gaussA_B or poissonA_B (a range of levels), or
    /// none
    #[arg(long, value_name = "NOISE", default_value = "gauss25", value_parser = named::<Noise>)]
    pub noisetype: Noise,
    /// Score the mean over the eight flips and turns of each noisy image; published scores do not do this
    #[arg(long)]
    pub ensemble: bool,
    /// Channels of the first layer; if given, checked against the model
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_feature: Option<usize>,
    /// Channels of the images; if given, checked against the model
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_channel: Option<usize>,
    /// Write a table with one row per image and pass
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// Write the scores as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where to compute.
    #[command(flatten)]
    pub denoiser: Denoiser,
}

/// `n2n predict`
#[derive(Debug, Args)]
#[command(
    after_help = "A result has the format, depth, channels, size, pages and metadata of its \
                  image. It is named <name>_denoise. Folders are searched recursively, and their \
                  structure is kept. - reads standard input and writes standard output."
)]
#[allow(clippy::struct_excessive_bools, reason = "flags")]
pub struct Predict {
    /// Images (PNG, JPEG, TIFF, WebP, BMP, PNM, OpenEXR, TGA, PFM, GIF, HDR), folders of images, patterns, or -
    #[arg(value_name = "INPUT", required_unless_present = "image_path")]
    pub inputs: Vec<PathBuf>,
    /// Another image or folder
    #[arg(long, value_name = "PATH")]
    pub image_path: Option<PathBuf>,
    /// A weight file, or the name of a shipped model
    #[arg(long, value_name = "MODEL", default_value = models::DEFAULT)]
    pub model_path: PathBuf,
    /// Use the shipped model with this trade-off between quality and speed, for the same noise as --model-path: best,
    /// fast, faster or fastest; n2n info lists the models
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
    /// Bits per sample: 8, 16 or 32f (floats; values of integers are unchanged) [default: same as the image]
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
    #[arg(long, value_name = "FILE", requires = "adapt")]
    pub save_model: Option<PathBuf>,
    /// Fraction of the detected noise to remove: 0 to 1
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = share)]
    pub strength: f32,
    /// Average over eight flips and turns: slightly better, eight times the work
    #[arg(long)]
    pub ensemble: bool,
    /// Also write the removed noise, as <name>_residual
    #[arg(long)]
    pub residual: bool,
    /// Also write input and result side by side, as <name>_compare
    #[arg(long)]
    pub compare: bool,
    /// Clean image, or folder of clean images with the same names, to show first in the comparison, with scores
    #[arg(long, value_name = "PATH", requires = "compare")]
    pub reference: Option<PathBuf>,
    /// Tile size in pixels, auto (as memory allows) or none; reduced if a GPU runs out of memory
    #[arg(long, value_name = "SIDE", default_value = "auto", value_parser = named::<Tile>)]
    pub tile: Tile,
    /// Memory limit for an image, its tiles and the network together
    #[arg(long, value_name = "BYTES", default_value = "2GB", value_parser = bytes)]
    pub max_memory: u64,
    /// Maximum number of pixels that a file may declare
    #[arg(long, value_name = "N", default_value_t = Limits::default().pixels)]
    pub max_pixels: u64,
    /// How to pad an image to a size that the network accepts
    #[arg(long, value_enum, default_value_t = Pad::Multiple)]
    pub pad: Pad,
    /// Write a report of all images as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where to compute.
    #[command(flatten)]
    pub denoiser: Denoiser,
}

/// One of several parts of a list, whose places are dealt out in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Its number, from 0.
    index: usize,
    /// How many there are.
    count: usize,
}

impl Shard {
    /// Whether what stands at this place of the list is in the part.
    pub fn has(self, place: usize) -> bool {
        place % self.count == self.index
    }
}

/// A format of images, as it is called on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageFormat {
    /// Lossless, 8 or 16 bits
    Png,
    /// Lossy, 8 bits
    #[value(alias = "jpg")]
    Jpeg,
    /// Lossless, any depth, multiple pages
    #[value(alias = "tif")]
    Tiff,
    /// Lossless, 8 bits
    Webp,
    /// Lossless, 8 bits
    Bmp,
    /// Lossless, 8 or 16 bits
    #[value(aliases = ["ppm", "pgm", "pam"])]
    Pnm,
    /// Floats
    Exr,
    /// Lossless, 8 bits
    Tga,
    /// Floats, gray or RGB
    Pfm,
    /// Raw camera samples; from DNG files only
    Dng,
    /// Gray, 16 bits or floats, multiple pages
    Mrc,
}

impl ImageFormat {
    /// What the library calls it.
    pub fn get(self) -> Format {
        match self {
            Self::Png => Format::Png,
            Self::Jpeg => Format::Jpeg,
            Self::Tiff => Format::Tiff,
            Self::Webp => Format::WebP,
            Self::Bmp => Format::Bmp,
            Self::Pnm => Format::Pnm,
            Self::Exr => Format::OpenExr,
            Self::Tga => Format::Tga,
            Self::Pfm => Format::Pfm,
            Self::Dng => Format::Dng,
            Self::Mrc => Format::Mrc,
        }
    }
}

/// Bits of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageDepth {
    /// Integers of 8 bits
    #[value(name = "8")]
    U8,
    /// Integers of 16 bits
    #[value(name = "16")]
    U16,
    /// Floats of 32 bits
    #[value(name = "32f", aliases = ["f32", "32"])]
    F32,
}

impl ImageDepth {
    /// What the library calls it.
    pub fn get(self) -> Depth {
        match self {
            Self::U8 => Depth::U8,
            Self::U16 => Depth::U16,
            Self::F32 => Depth::F32,
        }
    }
}

/// How an image is padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pad {
    /// Each side to the next multiple of 32
    Multiple,
    /// To a square, as the reference does
    Square,
}

/// `n2n corrupt`
#[derive(Debug, Args)]
pub struct Corrupt {
    /// An image in any format
    #[arg(value_name = "IMAGE")]
    pub input: PathBuf,
    /// Output file; its extension determines the format
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Noise to add: gaussS (σ on a scale of 255), poissonL (rate), gaussA_B or poissonA_B (a range of levels)
    #[arg(long, value_name = "NOISE", default_value = "gauss25", value_parser = named::<Noise>)]
    pub noisetype: Noise,
    /// Values that map to 0 and 1 for the noise: auto, percentile or MIN,MAX
    #[arg(
        long,
        value_name = "RANGE",
        default_value = "auto",
        allow_hyphen_values = true,
        value_parser = named::<Range>
    )]
    pub range: Range,
    /// Seed of the noise
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// Bits per sample: 8, 16 or 32f (floats, not clipped) [default: same as the image]
    #[arg(long, value_enum, value_name = "BITS")]
    pub depth: Option<ImageDepth>,
    /// Overwrite an existing output file
    #[arg(long)]
    pub overwrite: bool,
}

/// `n2n export`. Of a flag given twice the last counts, as for `n2n train`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Export {
    /// A weight file, or the name of a shipped model
    #[arg(long, value_name = "MODEL", default_value = models::DEFAULT)]
    pub model_path: PathBuf,
    /// Folder for model.onnx, model.safetensors and the packages
    #[arg(long, value_name = "DIR", default_value = "./output")]
    pub save_dir: PathBuf,
    /// What to write
    #[arg(
        long,
        value_name = "FORMATS",
        value_delimiter = ',',
        default_value = "onnx,safetensors"
    )]
    pub format: Vec<ExportFormat>,
    /// Precision of model.safetensors; f16 halves the size. The ONNX model is always f32
    #[arg(long, value_enum, default_value_t = ExportType::F32)]
    pub dtype: ExportType,
    /// License of the weights, stored in the files [default: as stated by the model]
    #[arg(long, value_name = "SPDX", alias = "licence")]
    pub license: Option<String>,
    /// Image values that map to the network's 0 and 1 in a bioimage.io package: MIN,MAX [default: the range that the
    /// model was trained on or, if it has none, 0,1]
    #[arg(
        long,
        value_name = "MIN,MAX",
        allow_hyphen_values = true,
        value_parser = named::<Range>
    )]
    pub range: Option<Range>,
    /// Where to compute.
    #[command(flatten)]
    pub processor: Processor,
}

/// A kind of file that `n2n export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// The network as a graph, for inference engines
    Onnx,
    /// The weights alone, for PyTorch
    Safetensors,
    /// A bioimage.io package, for ilastik, deepImageJ and others
    Bioimageio,
    /// A package for darktable's neural restore
    Darktable,
}

/// A type of numbers that `n2n export` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportType {
    /// Single precision, which the network computes in
    F32,
    /// Half precision
    F16,
}

impl From<ExportType> for DType {
    fn from(value: ExportType) -> Self {
        match value {
            ExportType::F32 => Self::F32,
            ExportType::F16 => Self::F16,
        }
    }
}

/// `n2n infer`. Of a flag given twice the last counts, as for `n2n train`.
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Results are named <name>_denoise.png. Each is scored against its noisy input, \
                  as in the reference, and against the clean image."
)]
#[allow(clippy::struct_excessive_bools, reason = "the reference's flags")]
pub struct Infer {
    /// An image, or a folder of images, searched recursively
    #[arg(long, short, value_name = "PATH")]
    pub input_file: PathBuf,
    /// The exported model: .onnx; any weight file, or a shipped model, if the engine is native
    #[arg(long, value_name = "FILE")]
    pub model_file: PathBuf,
    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "output/inference_img")]
    pub save_dir: PathBuf,
    /// Images per batch
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = batch_size)]
    pub batch_size: usize,
    /// Engine that runs the model
    #[arg(long, value_enum, default_value_t = Engine::Native)]
    pub engine: Engine,
    /// Keep each image's own size instead of resizing it to 256×256
    #[arg(long)]
    pub keep_size: bool,
    /// Noise to add: gaussS (σ on a scale of 255), poissonL (rate), gaussA_B or poissonA_B (a range of levels), or
    /// none (the images are already noisy)
    #[arg(long, value_name = "NOISE", default_value = "gauss25", value_parser = named::<Noise>)]
    pub noisetype: Noise,
    /// Seed of the noise
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// Print a benchmark report in AutoLog's format, and write it to a file
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "False",
        num_args = 0..=1,
        default_missing_value = "True",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub enable_benchmark: bool,
    /// File for the benchmark report; overwritten if it exists
    #[arg(long, value_name = "FILE", default_value = "./output/auto_log.lpg")]
    pub log_path: PathBuf,
    /// Precision; only fp32 is supported
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    pub precision: Precision,
    /// Run on a GPU; not supported by this command. The reference's default is True
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "False",
        num_args = 0..=1,
        default_missing_value = "True",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub use_gpu: bool,
    /// Run in TensorRT; not supported
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "False",
        num_args = 0..=1,
        default_missing_value = "True",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub use_tensorrt: bool,
    /// Accepted for the reference's scripts; has no effect: the program's own kernels are always used
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "False",
        num_args = 0..=1,
        default_missing_value = "True",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub enable_mkldnn: bool,
    /// Accepted for the reference's scripts; has no effect: layers and their epilogues are always fused
    #[arg(
        long,
        value_name = "BOOL",
        default_value = "True",
        num_args = 0..=1,
        default_missing_value = "True",
        action = ArgAction::Set,
        value_parser = boolean
    )]
    pub ir_optim: bool,
    /// Accepted for the reference's scripts, also if empty; has no effect: the model file contains the weights
    #[arg(long, value_name = "FILE", hide = true)]
    pub params_file: Option<String>,
    /// Accepted for the reference's scripts; has no effect
    #[arg(long, value_name = "MB", default_value_t = 8000, hide = true)]
    pub gpu_mem: u64,
    /// Where to compute.
    #[command(flatten)]
    pub processor: Processor,
}

/// What runs an exported model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Engine {
    /// This program's own network, with the weights of the file
    Native,
    /// The ONNX runtime rten: any model from image to image
    Rten,
}

/// Numbers to compute with, as the reference names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32-bit floats
    Fp32,
    /// 16-bit floats: not supported
    Fp16,
    /// 8-bit integers: not supported
    Int8,
}

/// `n2n bench`
#[derive(Debug, Args)]
#[command(
    after_help = "Times are for whole runs, after warm-up runs. GFLOP/s count two operations per \
                  multiply-add of the direct convolutions, whatever the algorithm; for a training \
                  step, they count the forward pass of the full-size images, that of the \
                  half-size neighbors, and twice the latter for the gradients."
)]
pub struct Bench {
    /// What to time: denoising an image, or training steps
    #[arg(value_enum)]
    pub work: BenchWork,
    /// Image size for `infer`: height x width, or one number for both; multiples of 32
    #[arg(long, value_name = "PIXELS", default_value = "512x512", value_parser = size)]
    pub size: [usize; 2],
    /// Patches per step for `train`
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = batch_size)]
    pub batch: usize,
    /// Side of the square patches of `train`, a multiple of 64
    #[arg(long, value_name = "PIXELS", default_value_t = 128, value_parser = patch_size)]
    pub patch: usize,
    /// Timed runs
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = positive)]
    pub runs: usize,
    /// A weight file, or the name of a shipped model [default: random weights]
    #[arg(long, value_name = "MODEL")]
    pub model_path: Option<PathBuf>,
    /// Architecture of the network with random weights: paper, fast, faster or fastest, optionally followed by other
    /// sizes as ,NAME=N with the names of the flags of n2n train
    #[arg(long, value_name = "SIZES", default_value = "paper", value_parser = sizes, conflicts_with = "model_path")]
    pub architecture: UNet,
    /// Seed of the pixels and of random weights
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
    /// Where to compute.
    #[command(flatten)]
    pub denoiser: Denoiser,
}

/// What `n2n bench` times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchWork {
    /// Denoising an image
    Infer,
    /// Training steps
    Train,
}

/// `n2n info`
#[derive(Debug, Args)]
pub struct Info {
    /// A weight file, or the name of a shipped model
    #[arg(long, value_name = "MODEL")]
    pub model_path: Option<PathBuf>,
    /// Where the network would compute.
    #[command(flatten)]
    pub processor: Processor,
}

/// `n2n completions`
#[derive(Debug, Args)]
#[command(
    after_help = "bash: n2n completions bash > ~/.local/share/bash-completion/completions/n2n\n\
                  zsh:  n2n completions zsh > a folder of $fpath/_n2n\n\
                  fish: n2n completions fish > ~/.config/fish/completions/n2n.fish"
)]
pub struct Completions {
    /// Shell to print completions for
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `n2n man`
#[derive(Debug, Args)]
pub struct Man {
    /// Folder for the manual pages of the program and of every command, such as n2n.1 and n2n-train.1
    #[arg(long, value_name = "DIR")]
    pub save_dir: Option<PathBuf>,
}

/// The command line of this process; ends it when there is something wrong with it.
pub fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The parser, with the reference's spelling of every flag, and with numbers below 0 known as such:
/// they are for the check of the flag to refuse.
pub fn command() -> clap::Command {
    Cli::command()
        .mut_args(and_snake_case)
        .mut_subcommands(|command| {
            command
                .mut_args(and_snake_case)
                .allow_negative_numbers(true)
        })
        .mut_subcommand("train", |train| {
            let defaults = Config::default().to_table();
            train.mut_args(move |flag| and_default(flag, &defaults))
        })
}

/// The flag with its default, where the settings have one to tell.
fn and_default(flag: Arg, defaults: &toml::Table) -> Arg {
    let default = match defaults.get(flag.get_id().as_str()) {
        Some(toml::Value::String(text)) if text != "none" => text.clone(),
        Some(value @ (toml::Value::Integer(_) | toml::Value::Float(_))) => value.to_string(),
        _ => return flag,
    };
    let help = flag.get_help().cloned().unwrap_or_default();
    flag.help(format!("{help} [default: {default}]"))
}

fn and_snake_case(flag: Arg) -> Arg {
    let names = flag.get_long_and_visible_aliases().unwrap_or_default();
    let names = names
        .into_iter()
        .chain(flag.get_all_aliases().unwrap_or_default());
    let others: Vec<_> = names
        .filter(|name| name.contains('-'))
        .map(|name| name.replace('-', "_"))
        .collect();
    flag.aliases(others)
}

/// A value that the library knows by name; what it expects is said as the others here say it.
fn named<T: FromStr<Err = Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error| match error {
        Error::Value { expected, .. } => format!("expected {expected}"),
        error => error.to_string(),
    })
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

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of at least 1".into()),
        Ok(number) => Ok(number),
    }
}

/// More threads than any machine has would be minutes in starting.
fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err("expected a whole number from 1 to 1024".into()),
    }
}

/// All images of a batch are in memory together.
fn batch_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1024) => Ok(number),
        _ => Err("expected a whole number from 1 to 1024".into()),
    }
}

/// Height and width; one image of at most these sides fits into the memory of a large machine.
fn size(text: &str) -> Result<[usize; 2], String> {
    let multiple = UNet::default().grid().multiple;
    let side = |text: &str| {
        let side = text.parse().ok()?;
        let fits = (multiple..=4096).contains(&side) && side.is_multiple_of(multiple);
        fits.then_some(side)
    };
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    match (side(height), side(width)) {
        (Some(height), Some(width)) => Ok([height, width]),
        _ => Err(format!(
            "expected HEIGHTxWIDTH or one number for both, multiples of {multiple} from {multiple} \
             to 4096"
        )),
    }
}

fn level(name: &str) -> Result<Level, String> {
    name.parse().map_err(|error: LevelError| error.to_string())
}

fn seed(text: &str) -> Result<u64, String> {
    let number = text.parse();
    number.map_err(|_| format!("expected a whole number from 0 to {}", u64::MAX))
}

/// A factor of the loss.
fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a number of at least 0".into()),
    }
}

fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err("expected a number".into()),
    }
}

fn positive_number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("expected a number above 0".into()),
    }
}

fn architecture(name: &str) -> Result<String, String> {
    let known = unet::named(name).map(|_| name.to_owned());
    known.map_err(|error| error.to_string())
}

/// An architecture by name, followed by sizes that differ from it.
fn sizes(text: &str) -> Result<UNet, String> {
    let reason = |error: Error| error.to_string();
    let mut sizes = text.split(',');
    let mut unet = unet::named(sizes.next().unwrap_or("")).map_err(reason)?;
    for size in sizes {
        let (name, value) = size.split_once('=').ok_or("expected SIZE=N")?;
        *match name {
            "n_feature" => &mut unet.n_feature,
            "n_channel" => &mut unet.n_channel,
            "n_depth" => &mut unet.n_depth,
            "head_width" => &mut unet.head_width,
            "pixel_shuffle" => &mut unet.pixel_shuffle,
            _ => {
                let names = unet.sizes().map(|(name, _)| name).join(", ");
                return Err(format!("expected a size ({names}), found {name}"));
            }
        } = positive(value)?;
    }
    unet.check().map_err(reason)?;
    Ok(unet)
}

fn patch_size(text: &str) -> Result<usize, String> {
    match positive(text) {
        Ok(size) if size % 64 == 0 && size <= 4096 => Ok(size),
        _ => Err(
            "expected a multiple of 64 from 64 to 4096 (the network sees patches of half \
                  this size, which must be a multiple of 32)"
                .into(),
        ),
    }
}

/// The trade-off of a model; a number is most likely meant for a JPEG.
fn quality(text: &str) -> Result<Quality, String> {
    if text.parse::<u8>().is_ok() {
        return Err(
            "expected best, fast, faster or fastest; for JPEG quality, use --jpeg-quality".into(),
        );
    }
    named(text)
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

/// A number of bytes, with a unit if not bytes: `800MB`, `1.5GiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let expected = || "expected a number of bytes, such as 800MB, 2GB or 1.5GiB".to_string();
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: f64 = match text[number.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => f64::from(1 << 10),
        "mib" => f64::from(1 << 20),
        "gib" => f64::from(1 << 30),
        "tib" => f64::from(1 << 30) * 1024.0,
        _ => return Err(expected()),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok((number * unit) as u64),
        _ => Err(expected()),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "1" => Ok(true),
        "false" | "f" | "0" => Ok(false),
        _ => Err("expected True or False".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn bytes_have_units() {
        for (text, want) in [
            ("1000", 1000),
            ("800MB", 800_000_000),
            ("1.5GiB", 1_610_612_736),
            ("2 gb", 2_000_000_000),
        ] {
            assert_eq!(bytes(text), Ok(want), "{text}");
        }
        for text in ["", "GB", "0", "-1GB", "1XB", "nan", "infGB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
