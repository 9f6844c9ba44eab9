//! The flags of `n2n train`: one for each setting of a run.

use std::path::PathBuf;

use clap::Args;
use n2n::denoise::Range;
use n2n::noise::Noise;
use n2n::repair::Repair;
use n2n::train::config::Span;
use n2n::train::spacing::NeighborDistance;
use n2n::unet;
use serde::{Serialize, Serializer};

use super::device::DeviceArgs;
use super::value::{
    BOOL, boolean, factor, named, optional_value, patch_size, positive, positive_number, seed,
    threads,
};

/// `n2n train`. If a flag is given twice, the last one counts, as in the reference, whose scripts append to a command
/// the flags that they change.
///
/// A flag that is not given is left to the configuration file, and then to the recipe; `help` shows
/// the defaults that [`n2n::train::Config`] has.
#[derive(Debug, Args, Serialize)]
#[command(
    args_override_self = true,
    after_help = "A run is a folder, <save-model-path>/<log-name>. It contains the settings \
                  (config.toml), checkpoints (latest, best and one for every snapshot), logs, \
                  tables and a page with curves (report.html). Ctrl-C stops a run after the \
                  current step, with exit status 130; --resume continues it, even after a crash. \
                  Without --time-budget, the weights are then the same as those of an \
                  uninterrupted run.",
    mut_args(optional_value)
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
    /// Defaults for all other settings: the paper's, which this help shows, or ours for runs of minutes to hours (one
    /// patch per step, Muon, cosine schedule, EMA, flips and rotations, larger initial weights)
    #[arg(long, value_name = "paper|fast")]
    pub recipe: Option<String>,
    /// Noise to add: gaussS (σ on a scale of 255), poissonL (rate), gaussA_B or poissonA_B (a range of levels), both
    /// as in poissonL+gaussS, or none (the images are already noisy)
    #[arg(long, value_name = "NOISE", value_parser = named::<Noise>)]
    pub noisetype: Option<Noise>,
    /// Give each image the same noise at every visit, derived from the seed and the image's path relative to
    /// --data-dir, instead of new noise
    #[arg(long, value_name = BOOL, value_parser = boolean)]
    pub frozen_noise: Option<bool>,
    /// Values that map to the network's 0 and 1, in the units of the images: MIN,MAX; percentile (measured); or auto
    /// (measured with --noisetype none, otherwise the full range of the type). Stored with the weights
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true, value_parser = named::<Range>)]
    pub range: Option<Range>,
    /// Folder of training images, searched recursively
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Folder that contains the validation set BSD300/test, or none [default: ./validation if it contains BSD300/test;
    /// none with --noisetype none]
    #[arg(long, value_name = "DIR")]
    pub val_dirs: Option<PathBuf>,
    /// Training images to hold out for validation without clean images [default: with --noisetype none, 1 in 20, at
    /// least 1 (of a single image, a part), at most 32; otherwise 0]
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
    /// Factor on the learning rate after each fifth of the run, if the schedule is step
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
    /// Patches per batch
    #[arg(long, value_name = "N", value_parser = positive)]
    pub batchsize: Option<usize>,
    /// Batches per step, whose mean gradient is used: like a larger --batchsize, but the network needs memory for one
    /// batch only
    #[arg(long, value_name = "N", value_parser = positive)]
    pub accumulate: Option<usize>,
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
    /// Schedule of Λ, the weight inside the regularizer: proportional to the epoch, or constant (for --init-from)
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
    /// Compute forward passes that need no gradients (the regularizer's, a teacher's) in half precision: faster.
    /// Requires a CPU with matrix units (AMX)
    #[arg(long, value_name = BOOL, value_parser = boolean, num_args = 0..=1, default_missing_value = "true")]
    pub half: Option<bool>,
    /// Factor on the initial weights: 0.1, as in the paper's code, learns slowly at first; 1 is better for short runs
    #[arg(long, value_name = "FACTOR", value_parser = positive_number)]
    pub init_scale: Option<f64>,
    /// Model to start from, with the same architecture: a file or a shipped model (see `n2n info`). With --n-channel
    /// 1, a color model is converted
    #[arg(long, value_name = "MODEL", conflicts_with = "init_scale")]
    pub init_from: Option<PathBuf>,
    /// Model to learn from instead of the neighbors, so that a small network imitates a large one: a file or a
    /// shipped model. The target is its result on the same noisy image, flipped and rotated at random
    #[arg(long, value_name = "MODEL")]
    pub teacher: Option<PathBuf>,
    /// Distance between the pixels used as neighbors, for noise that adjacent pixels share (JPEG, demosaicing, scan
    /// lines): pixels, such as 3 or 3x1 (along rows x along columns), or auto
    #[arg(long, value_name = "PIXELS|auto", value_parser = named::<NeighborDistance>)]
    pub neighbor_distance: Option<NeighborDistance>,
    /// Flip and rotate patches at random
    #[arg(long, value_name = BOOL, value_parser = boolean)]
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
    #[arg(long, hide = true, value_name = BOOL, value_parser = boolean)]
    #[serde(skip)]
    pub parallel: Option<bool>,
    /// Where to compute.
    #[command(flatten)]
    #[serde(skip)]
    pub device_args: DeviceArgs,
}

/// As text, because the numbers of a configuration file are signed.
#[allow(clippy::ref_option, reason = "as serde calls it")]
fn as_text<S: Serializer>(number: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => serializer.collect_str(number),
        None => serializer.serialize_none(),
    }
}

fn architecture(name: &str) -> Result<String, String> {
    let known = unet::named(name).map(|_| name.to_owned());
    known.map_err(|error| error.to_string())
}
