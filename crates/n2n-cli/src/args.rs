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
    /// Processor level to compute with, one of those `n2n info` names [default: the fastest]
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
    /// Device to compute on: cpu, gpu (the first that is none in software), gpu:N (one of those
    /// `n2n info` lists), or auto (gpu if there is one) [default: cpu]
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
    /// Keep what lies between layers in half precision, on a GPU: half of the memory
    #[arg(long, display_order = 799)]
    pub half: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one of it")]
pub enum Command {
    /// Select and convert training images
    Prepare(Prepare),
    /// Look at the noise of images before training on them
    Diagnose(Diagnose),
    /// Train a denoiser
    Train(Train),
    /// Score a model by the paper's protocol
    Val(Val),
    /// Denoise files and folders
    #[command(visible_alias = "denoise")]
    Predict(Predict),
    /// Add noise to an image, to try things out
    Corrupt(Corrupt),
    /// Write a model for other engines: ONNX and safetensors
    Export(Export),
    /// Run an exported model over pictures, with a benchmark report
    Infer(Infer),
    /// Time the network on random pixels
    Bench(Bench),
    /// Show the build, the CPU level, the GPUs and the shipped models; or the layers of a model
    Info(Info),
    /// Print the completions of a shell
    Completions(Completions),
    /// Print the manual page, or write those of every command
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
    after_help = "Prints how strong the noise is at which signal, and what stands in the way of training on \
                  these images, with what to do about it. All in the units of the files. Pages of a stack \
                  are images. Of large images the middle is looked at, 16 megapixels in all."
)]
pub struct Diagnose {
    /// Images, stacks, folders of images or patterns
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,
    /// Value of a pixel without light, if it is known: gives the read noise where photons hide it
    #[arg(long, value_name = "VALUE", allow_hyphen_values = true, value_parser = number)]
    pub offset: Option<f64>,
    /// Images or pages to look at, at most
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    pub max_images: usize,
    /// Write everything that was measured as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write a page with curves and pictures
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
    after_help = "A run is a folder, <save-model-path>/<log-name>. It holds the settings \
                  (config.toml), checkpoints (latest, best and one for every snapshot), logs, tables \
                  and a page with its curves (report.html). Ctrl-C ends a run after the step, with \
                  exit status 130; --resume goes on with it, also after a crash, and to the same \
                  weights as if it had never been interrupted."
)]
pub struct Train {
    /// Go on with the run in this folder; of its settings only --data-dir, --val-dirs, --keep,
    /// --checkpoint-every, --loader-threads and --cache-mb may be given beside it, and where it computes:
    /// --device, --level, --threads
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "overwrite"])]
    #[serde(skip)]
    pub resume: Option<PathBuf>,
    /// Settings of a file such as a run's config.toml; flags count more
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Replace the run that the folder already holds
    #[arg(long)]
    #[serde(skip)]
    pub overwrite: bool,
    /// Defaults of the other settings: the paper's, or ours for minutes to hours: cosine rate, EMA,
    /// flips and turns, larger initial weights
    #[arg(long, value_name = "paper|fast")]
    pub recipe: Option<String>,
    /// Noise to add: gaussS (σ of 255), poissonL (rate), gaussA_B or poissonA_B (between two
    /// levels), or none (of images that are noisy already)
    #[arg(long, value_name = "NOISE", value_parser = named::<Noise>)]
    pub noisetype: Option<Noise>,
    /// Add the noise once to each image, by its path, instead of anew at every visit
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    pub frozen_noise: Option<bool>,
    /// Which values are black and white to the network, in the units of the images: MIN,MAX; percentile
    /// (measured); auto (measured with --noisetype none, else the whole range of their type). It is kept
    /// with the weights
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true, value_parser = named::<Range>)]
    pub range: Option<Range>,
    /// Folder of training images, searched recursively
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Folder with the validation set, in BSD300/test, or none [default: ./validation, if it is there;
    /// none with --noisetype none]
    #[arg(long, value_name = "DIR")]
    pub val_dirs: Option<PathBuf>,
    /// Training images to hold out, for a validation loss without clean images [default: with
    /// --noisetype none 1 of 20, from 1 (of a single image, a part) to 32; else 0]
    #[arg(long, value_name = "N")]
    pub holdout: Option<usize>,
    /// Folder that runs are saved in
    #[arg(long, value_name = "DIR")]
    pub save_model_path: Option<PathBuf>,
    /// Name of this run's folder
    #[arg(long, value_name = "NAME")]
    pub log_name: Option<String>,
    /// Sizes of the network: paper, or fast, faster and fastest, which take a fraction of the time for a little less
    /// quality. The flags below override single sizes
    #[arg(long, value_name = "NAME", value_parser = architecture)]
    pub architecture: Option<String>,
    /// Channels of the first layer
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_feature: Option<usize>,
    /// Channels that the network takes together, up to 16: 3 RGB, 1 gray
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_channel: Option<usize>,
    /// Number of 2x2 poolings, 1 to 5
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_depth: Option<usize>,
    /// Channels of the last layers
    #[arg(long, value_name = "N", value_parser = positive)]
    pub head_width: Option<usize>,
    /// Space-to-depth factor before the first layer, undone after the last one: with 2 the network runs at half the
    /// resolution, on blocks of 2x2 pixels; 1 for none
    #[arg(long, value_name = "N", value_parser = positive)]
    pub pixel_shuffle: Option<usize>,
    /// Whether the channels of an image are denoised together or each by itself, by one model with --n-channel 1
    #[arg(long, value_name = "together|independent")]
    pub channels: Option<String>,
    /// Faults of the sensor to take out of the images first: hot-pixels, rows, columns, separated by commas
    #[arg(long, value_name = "FAULTS", value_parser = named::<Repair>)]
    pub repair: Option<Repair>,
    /// Learning rate
    #[arg(long, value_name = "RATE", value_parser = positive_number)]
    pub lr: Option<f64>,
    /// Update rule: the paper's Adam, or Muon for the weights of hidden layers
    #[arg(long, value_name = "adam|muon")]
    pub optimizer: Option<String>,
    /// How the learning rate falls: by --gamma after each fifth of the run, along a cosine, or not until the
    /// last 30 % of the run and then along a cosine
    #[arg(long, value_name = "step|cosine|trapezoid")]
    pub lr_schedule: Option<String>,
    /// Part of the run over which the learning rate rises first, unless it falls in steps
    #[arg(long, value_name = "PART", value_parser = factor)]
    pub warmup: Option<f64>,
    /// Factor of the learning rate after each fifth of the epochs
    #[arg(long, value_name = "FACTOR", value_parser = positive_number)]
    pub gamma: Option<f64>,
    /// Epochs
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_epoch: Option<usize>,
    /// Iterations an epoch [default: as many as the images make batches; with --noisetype none 250 at
    /// least]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub steps_per_epoch: Option<usize>,
    /// Train for so long instead of --n-epoch, with the schedule fitted to it: 90s, 30m, 1h 30m
    #[arg(long, value_name = "TIME", value_parser = named::<Span>)]
    pub time_budget: Option<Span>,
    /// Iterations between two lines of losses
    #[arg(long, value_name = "N", value_parser = positive)]
    pub log_iters: Option<usize>,
    /// Epochs between two numbered checkpoints, each with its scores
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_snapshot: Option<usize>,
    /// Numbered checkpoints to keep, the newest
    #[arg(long, value_name = "N", value_parser = positive)]
    pub keep: Option<usize>,
    /// Time between two writings of the checkpoint that a run is resumed from
    #[arg(long, value_name = "TIME", value_parser = named::<Span>)]
    pub checkpoint_every: Option<Span>,
    /// Patches a step
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batchsize: Option<usize>,
    /// Side of the square patches, a multiple of 64
    #[arg(long, value_name = "PIXELS", value_parser = patch_size)]
    pub patchsize: Option<usize>,
    /// Factor of the reconstruction loss
    #[arg(
        id = "Lambda1",
        long = "Lambda1",
        alias = "lambda1",
        value_name = "FACTOR",
        value_parser = factor
    )]
    #[serde(rename = "Lambda1")]
    pub lambda1: Option<f64>,
    /// Factor of the regularizer
    #[arg(
        id = "Lambda2",
        long = "Lambda2",
        alias = "lambda2",
        value_name = "FACTOR",
        value_parser = factor
    )]
    #[serde(rename = "Lambda2")]
    pub lambda2: Option<f64>,
    /// How Λ reaches that of the last epoch: in proportion to the epoch, or it is constant (for --init-from)
    #[arg(long, value_name = "ramp|constant")]
    pub lambda_schedule: Option<String>,
    /// Λ in the last epoch: 2 for synthetic noise, 1 for real raw noise
    #[arg(long, value_name = "RATIO", value_parser = factor)]
    pub increase_ratio: Option<f64>,
    /// Λ below this counts as 0, and saves its forward pass
    #[arg(long, value_name = "RATIO", value_parser = factor)]
    pub min_lambda: Option<f64>,
    /// Target: the neighbor drawn, as in the paper, or the mean of both that could have been
    #[arg(long, value_name = "drawn|mean")]
    pub target: Option<String>,
    /// Patches of a batch, in turn, to compute the regularizer on: fewer make steps faster [default: all]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub regularized_patches: Option<usize>,
    /// Factor on the initial weights: the reference's 0.1 learns slowly at first; 1 suits short runs
    #[arg(long, value_name = "FACTOR", value_parser = positive_number)]
    pub init_scale: Option<f64>,
    /// Model of the same sizes to start from instead: a file or one of those that `n2n info` lists. With --n-channel 1
    /// a color model is converted
    #[arg(long, value_name = "MODEL", conflicts_with = "init_scale")]
    pub init_from: Option<PathBuf>,
    /// Model to learn from instead of the neighbors, so that a small network imitates a large one: a file or one of
    /// those that `n2n info` lists. The target is what it makes of the same noisy image, flipped and turned at random
    #[arg(long, value_name = "MODEL")]
    pub teacher: Option<PathBuf>,
    /// How far apart the pixels are that count as neighbors, for noise that neighbors share (JPEG,
    /// demosaicing, scan lines): pixels, as 3 or 3x1 (along rows x along columns), or auto
    #[arg(long, value_name = "PIXELS|auto", value_parser = named::<NeighborDistance>)]
    pub neighbor_distance: Option<NeighborDistance>,
    /// Flip and turn patches at random
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    pub augment: Option<bool>,
    /// Decay of a running average of the weights, which is then scored and saved; 0 for none
    #[arg(long, value_name = "DECAY", value_parser = factor)]
    pub ema: Option<f64>,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "N", value_parser = seed)]
    #[serde(serialize_with = "as_text")]
    pub seed: Option<u64>,
    /// Threads that read images
    #[arg(long, value_name = "N", value_parser = threads)]
    pub loader_threads: Option<usize>,
    /// Memory for decoded images in MB; others are decoded at every visit
    #[arg(long, value_name = "MB")]
    pub cache_mb: Option<usize>,
    /// Accepted for the reference's scripts; --device says where this program trains
    #[arg(long, value_name = "LIST", hide = true)]
    #[serde(skip)]
    pub gpu_devices: Option<String>,
    /// Accepted for the reference's scripts; this program always uses all its threads
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
    /// Times each set is gone through [default: BSD300 3, Kodak 10, Set14 20]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub repeats: Option<usize>,
    /// Noise to add: gaussS (σ of 255), poissonL (rate), gaussA_B or poissonA_B (between two
    /// levels), or none
    #[arg(long, value_name = "NOISE", default_value = "gauss25", value_parser = named::<Noise>)]
    pub noisetype: Noise,
    /// Score the mean over the eight flips and turns of each noisy image; published scores are without
    #[arg(long)]
    pub ensemble: bool,
    /// Channels of the first layer; checked against the model when given
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_feature: Option<usize>,
    /// Channels of the images; checked against the model when given
    #[arg(long, value_name = "N", value_parser = positive)]
    pub n_channel: Option<usize>,
    /// Write a table with a line for each image and repeat
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
    after_help = "A result has the format, depth, channels, size and pages of its image, and what the \
                  file says beside its pixels. It is called <name>_denoise. A folder is searched \
                  recursively, and its images keep their place below it. - reads standard input and \
                  writes standard output."
)]
#[allow(clippy::struct_excessive_bools, reason = "flags")]
pub struct Predict {
    /// Images (PNG, JPEG, TIFF, WebP, BMP, PNM, OpenEXR, TGA, PFM, GIF, HDR), folders of images, patterns, or -
    #[arg(value_name = "INPUT", required_unless_present = "image_path")]
    pub inputs: Vec<PathBuf>,
    /// One more image or folder
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
    /// What follows the name of an image in that of its result
    #[arg(long, value_name = "TEXT", default_value = "_denoise")]
    pub suffix: String,
    /// Put each result in the place of its image
    #[arg(long, conflicts_with_all = ["save_dir", "suffix", "format", "skip_existing"])]
    pub in_place: bool,
    /// Leave out images whose result is already there
    #[arg(long)]
    pub skip_existing: bool,
    /// Denoise one part of the images, as 3/16 for the third of sixteen: the parts of a job array on a cluster
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<Shard>,
    /// Format of the results [default: that of the image]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<ImageFormat>,
    /// Bits of a sample: 8, 16 or 32f (floats, with the values of integers as they are) [default:
    /// those of the image]
    #[arg(long, value_enum, value_name = "BITS")]
    pub depth: Option<ImageDepth>,
    /// Quality of a JPEG, from 1 to 100
    #[arg(long, value_name = "N", default_value_t = QUALITY, value_parser = jpeg_quality)]
    pub jpeg_quality: u8,
    /// Pages to denoise, counted from 1, as 2 or 1,3 or 5-8,12-; the others are copied [default: all]
    #[arg(long, value_name = "PAGES", value_parser = named::<Numbers>)]
    pub pages: Option<Numbers>,
    /// Channels to denoise, counted from 1; the others are copied. In an ImageJ or OME stack, the
    /// pages of these channels [default: all]
    #[arg(long, value_name = "CHANNELS", value_parser = named::<Numbers>)]
    pub channel: Option<Numbers>,
    /// Which values are black and white to the network, in the units of the image: MIN,MAX; percentile;
    /// or auto, which is the range that the model was trained on, or else by the type and the values of
    /// all images of a folder
    #[arg(
        long,
        value_name = "RANGE",
        default_value = "auto",
        allow_hyphen_values = true,
        value_parser = named::<Range>
    )]
    pub range: Range,
    /// Faults of the sensor to take out first: hot-pixels, rows, columns, separated by commas
    #[arg(long, value_name = "FAULTS", value_parser = named::<Repair>)]
    pub repair: Option<Repair>,
    /// First fit a copy of the model to the noise of these images, for a time as 3m or a number of steps
    #[arg(long, value_name = "TIME", value_parser = named::<Budget>)]
    pub adapt: Option<Budget>,
    /// Seed of what is drawn while the model is fitted
    #[arg(long, value_name = "N", default_value_t = 0, requires = "adapt")]
    pub seed: u64,
    /// Keep the fitted model, for more images of the same kind
    #[arg(long, value_name = "FILE", requires = "adapt")]
    pub save_model: Option<PathBuf>,
    /// How much of the noise is removed: 0 nothing, 1 all that the network finds
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = share)]
    pub strength: f32,
    /// Take the mean over eight flips and turns: better by a little, eight times the work
    #[arg(long)]
    pub ensemble: bool,
    /// Also write what was removed, as <name>_residual
    #[arg(long)]
    pub residual: bool,
    /// Also write the image before and after side by side, as <name>_compare
    #[arg(long)]
    pub compare: bool,
    /// The clean image, or folder of clean images of the same names: put before the two, with scores
    #[arg(long, value_name = "PATH", requires = "compare")]
    pub reference: Option<PathBuf>,
    /// Side of the tiles in pixels, or auto (by the memory), or none; smaller where a GPU has not the
    /// memory for them
    #[arg(long, value_name = "SIDE", default_value = "auto", value_parser = named::<Tile>)]
    pub tile: Tile,
    /// Memory that an image, its tiles and the network may take together
    #[arg(long, value_name = "BYTES", default_value = "2GB", value_parser = bytes)]
    pub max_memory: u64,
    /// Largest number of pixels that a file may claim
    #[arg(long, value_name = "N", default_value_t = Limits::default().pixels)]
    pub max_pixels: u64,
    /// How an image is padded to a size that the network takes
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
    /// Lossless, any depth, many pages
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
    /// A camera's samples, of DNGs alone
    Dng,
    /// Gray, 16 bits or floats, many pages
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
    /// Each side to its next multiple of 32
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
    /// Where the noisy image goes; its name decides its format
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Noise to add: gaussS (σ of 255), poissonL (rate), gaussA_B or poissonA_B (between two
    /// levels)
    #[arg(long, value_name = "NOISE", default_value = "gauss25", value_parser = named::<Noise>)]
    pub noisetype: Noise,
    /// Which values are black and white to the noise: auto, percentile or MIN,MAX
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
    /// Bits of a sample: 8, 16 or 32f (floats, which are not clipped) [default: those of the image]
    #[arg(long, value_enum, value_name = "BITS")]
    pub depth: Option<ImageDepth>,
    /// Replace the output if it is already there
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
    /// Numbers of model.safetensors; f16 has half the size. The ONNX model has f32
    #[arg(long, value_enum, default_value_t = ExportType::F32)]
    pub dtype: ExportType,
    /// License of the weights, to be stated in the files [default: what the model states]
    #[arg(long, value_name = "SPDX", alias = "licence")]
    pub license: Option<String>,
    /// Which values of images are the network's 0 and 1 in a package of bioimage.io, MIN,MAX [default: the
    /// range that the model was trained on, or else images have to be in 0..1]
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
    /// A package of bioimage.io, for ilastik, deepImageJ and others
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
    after_help = "An image becomes <name>_denoise.png. The result is scored against its noisy input, \
                  as the reference does, and against the clean image."
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
    /// Images a batch
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = batch_size)]
    pub batch_size: usize,
    /// What runs the model
    #[arg(long, value_enum, default_value_t = Engine::Native)]
    pub engine: Engine,
    /// Leave the images at their own size; without, each is resized to 256×256
    #[arg(long)]
    pub keep_size: bool,
    /// Noise to add: gaussS (σ of 255), poissonL (rate), gaussA_B or poissonA_B (between two
    /// levels), or none (to images that are noisy already)
    #[arg(long, value_name = "NOISE", default_value = "gauss25", value_parser = named::<Noise>)]
    pub noisetype: Noise,
    /// Seed of the noise
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = seed)]
    pub seed: u64,
    /// Print a benchmark report in AutoLog's form, and write it to a file
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
    /// File for the benchmark report; what it held is replaced
    #[arg(long, value_name = "FILE", default_value = "./output/auto_log.lpg")]
    pub log_path: PathBuf,
    /// Numbers to compute with; this program has fp32
    #[arg(long, value_enum, default_value_t = Precision::Fp32)]
    pub precision: Precision,
    /// Whether to run on a GPU; this command does not. The reference's default is True
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
    /// Whether to run in TensorRT; this program has none
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
    /// Accepted for the reference's scripts; this program's own kernels are used either way
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
    /// Accepted for the reference's scripts; layers are always fused with what follows them
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
    /// Accepted for the reference's scripts, also empty; the model file holds the weights
    #[arg(long, value_name = "FILE", hide = true)]
    pub params_file: Option<String>,
    /// Accepted for the reference's scripts; there is no GPU to take memory of
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
    /// 16-bit floats: not in this program
    Fp16,
    /// 8-bit integers: not in this program
    Int8,
}

/// `n2n bench`
#[derive(Debug, Args)]
#[command(
    after_help = "Times are of whole runs, after untimed ones until they settle. GFLOP/s count two \
                  operations for each multiply-add of the convolutions computed directly, whatever \
                  the algorithm: of a training step, the forward pass of the full-size images, that \
                  of the half-size neighbors, and twice the latter for the gradients."
)]
pub struct Bench {
    /// What to time: denoising an image, or training steps
    #[arg(value_enum)]
    pub work: BenchWork,
    /// Image that `infer` denoises: height x width, or one number for both, multiples of 32
    #[arg(long, value_name = "PIXELS", default_value = "512x512", value_parser = size)]
    pub size: [usize; 2],
    /// Patches a step of `train`
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
    /// Seed of the pixels, and of random weights
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
    /// Shell to complete commands in
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `n2n man`
#[derive(Debug, Args)]
pub struct Man {
    /// Folder for the pages of the program and of every command, as n2n.1 and n2n-train.1
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
        _ => Err("expected I/N, part I of N, counted from 1, as 3/16".into()),
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
        _ => Err("expected a multiple of 64 from 64 to 4096 \
                  (the network sees halves of it, and they must be multiples of 32)"
            .into()),
    }
}

/// The trade-off of a model; a number is most likely meant for a JPEG.
fn quality(text: &str) -> Result<Quality, String> {
    if text.parse::<u8>().is_ok() {
        return Err(
            "expected best, fast, faster or fastest; the quality of a JPEG is --jpeg-quality"
                .into(),
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
    let expected = || "expected a number of bytes, as 800MB, 2GB or 1.5GiB".to_string();
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
