//! The settings of a training run, and their defaults.
//!
//! Settings come in layers of named values, each of which overrides the one before: the defaults of a recipe, a
//! configuration file, explicit settings of the caller. [`Config::resolve`] merges them.

mod check;
mod forms;
mod layers;
mod span;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::denoise::Range;
use crate::error::Result;
use crate::neighbors::Target;
use crate::network::{Method, Optimizer};
use crate::noise::{Levels, Noise};
use crate::repair::Repair;
use crate::train::layout::Layout;
use crate::train::spacing::{NeighborDistance, Spacing};
use crate::unet::{INIT_SCALE, UNet};

use self::forms::{path_or_none, whole_number};
pub use self::span::Span;

/// The settings of a run. Their names in files are those of the fields, except where noted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The recipe whose defaults the other settings started from.
    pub recipe: Recipe,
    /// Noise added to the training patches and to the validation images; `noisetype`.
    #[serde(rename = "noisetype")]
    pub noise: Noise,
    /// Whether the noise of an image is drawn once, from the seed and the image's name, instead of anew at every visit.
    pub frozen_noise: bool,
    /// Which values of the images map to the network's 0 and 1. [`Range::Auto`] measures them on images that are
    /// already noisy, and otherwise uses the full range of the type; [`Range::Percentile`] always measures them. The
    /// measured range then replaces this setting.
    pub range: Range,
    /// Folder of training images, searched recursively.
    pub data_dir: PathBuf,
    /// Folder that contains the validation set, which must exist; without one (`none` in files), nothing is scored on
    /// clean images.
    #[serde(with = "path_or_none")]
    pub val_dirs: Option<PathBuf>,
    /// Training images held out for validation without clean images. By default, 1 in 20 of images that are already
    /// noisy, at least 1 (of a single image, a part) and at most 32; otherwise none.
    pub holdout: Option<usize>,
    /// Folder in which runs are saved.
    pub save_model_path: PathBuf,
    /// Name of this run's folder below `save_model_path`.
    pub log_name: String,
    /// Channels of the network's first layer.
    pub n_feature: usize,
    /// Channels that the network processes together, 1 to 16: 3 for RGB, 1 for gray.
    pub n_channel: usize,
    /// Number of 2×2 poolings.
    pub n_depth: usize,
    /// Channels of the network's last layers.
    pub head_width: usize,
    /// Space-to-depth factor before the network's first layer; 1 for none.
    pub pixel_shuffle: usize,
    /// Whether the channels of an image are denoised together, or each separately as a gray image.
    pub channels: Channels,
    /// Learning rate at the start, after warm-up.
    pub lr: f64,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// How the learning rate decreases.
    pub lr_schedule: LrSchedule,
    /// Fraction of the run over which the learning rate rises to `lr`; ignored by the schedule `step`.
    pub warmup: f64,
    /// Factor on the learning rate after each fifth of the run, for the schedule `step`.
    pub gamma: f64,
    /// Epochs; ignored if there is a time budget.
    pub n_epoch: usize,
    /// Iterations per epoch. By default, one pass over the images, and at least 250 if these are already noisy.
    pub steps_per_epoch: Option<usize>,
    /// Time for training, instead of a number of epochs; the schedule is scaled to it.
    pub time_budget: Option<Span>,
    /// Iterations between lines of losses.
    pub log_iters: usize,
    /// Epochs between snapshots: a numbered checkpoint and its scores.
    pub n_snapshot: usize,
    /// Number of newest numbered checkpoints to keep.
    pub keep: usize,
    /// Time between updates of the checkpoint that a run is resumed from.
    pub checkpoint_every: Span,
    /// Patches per batch.
    pub batchsize: usize,
    /// Batches per step: the update uses their mean gradient. They are processed one after the other, so that the network
    /// needs memory for one only.
    pub accumulate: usize,
    /// Side of the square patches in pixels, a multiple of twice the network's grid.
    pub patchsize: usize,
    /// λ1, the factor on the reconstruction loss; `Lambda1`.
    #[serde(rename = "Lambda1")]
    pub lambda1: f64,
    /// λ2, the factor on the regularizer; `Lambda2`.
    #[serde(rename = "Lambda2")]
    pub lambda2: f64,
    /// How Λ reaches its final value.
    pub lambda_schedule: LambdaSchedule,
    /// Λ in the last epoch.
    pub increase_ratio: f64,
    /// Λ below this counts as 0, which saves a forward pass.
    pub min_lambda: f64,
    /// The network's target: the drawn neighbor, or the mean of the two that could have been drawn.
    pub target: Target,
    /// Number of patches per batch, in rotation, to compute the regularizer on; by default all.
    pub regularized_patches: Option<usize>,
    /// Whether the passes without gradients compute in half precision: those for the regularizer, and those of a
    /// teacher. Requires a processor with matrix units.
    pub half: bool,
    /// Factor on Kaiming's initial weights; applied by the code that creates the network.
    pub init_scale: f64,
    /// The model whose weights the run starts from, instead of random ones: a file, or the name of a shipped model;
    /// loaded by the code that creates the network.
    pub init_from: Option<PathBuf>,
    /// The model that a run learns from instead of the neighbors: a file, or the name of a shipped model. The target is
    /// its result on the same noisy image ([`Distillation`](crate::train::Distillation)). It is loaded by the code that
    /// creates the network.
    pub teacher: Option<PathBuf>,
    /// Distance between the pixels used as neighbors, for noise that adjacent pixels share.
    pub neighbor_distance: NeighborDistance,
    /// Sensor faults to correct in the images first.
    pub repair: Repair,
    /// Whether patches are flipped and rotated at random.
    pub augment: bool,
    /// Decay of a running average of the weights, which is scored and saved in their place; 0 for none.
    pub ema: f64,
    /// Seed of all random draws.
    #[serde(with = "whole_number")]
    pub seed: u64,
    /// Threads that read images. Results do not depend on their number.
    pub loader_threads: usize,
    /// Memory for decoded images, in MB of 2²⁰ bytes. Results do not depend on it.
    pub cache_mb: usize,
}

/// A set of defaults for the other settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// The paper's settings.
    Paper,
    /// Our own settings, for runs of minutes to hours.
    Fast,
}

/// Which channels of an image the network sees together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// All of them.
    Together,
    /// One at a time; the same model denoises each.
    Independent,
}

/// How the learning rate decreases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// Multiplied by `gamma` after each fifth of the run, as in the paper.
    Step,
    /// Along half a cosine to 0, after a linear warm-up.
    Cosine,
    /// Constant after a linear warm-up, then along half a cosine to 0 over the last 30 % of the run.
    Trapezoid,
}

/// How Λ reaches its final value, [`Config::increase_ratio`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LambdaSchedule {
    /// In proportion to the epoch, as in the paper: a new network first learns what images look like.
    Ramp,
    /// From the first step, which suits a network that is already trained.
    Constant,
}

impl Recipe {
    /// All recipes.
    pub const ALL: [Self; 2] = [Self::Paper, Self::Fast];

    /// The learning rate of [`Recipe::Fast`] for a network that is already trained (`init_from`), unless another one is
    /// given to [`Config::resolve`].
    pub const FINE_TUNING_RATE: f64 = 3e-4;

    /// Its settings.
    pub fn config(self) -> Config {
        let paper = Config::default();
        match self {
            Self::Paper => paper,
            Self::Fast => Config {
                recipe: self,
                batchsize: 1,
                patchsize: 256,
                lr: 1e-3,
                optimizer: Optimizer::Muon,
                lr_schedule: LrSchedule::Cosine,
                init_scale: 1.0,
                increase_ratio: 1.0,
                min_lambda: 0.2,
                target: Target::Mean,
                regularized_patches: Some(1),
                augment: true,
                ema: 0.999,
                n_epoch: 10,
                ..paper
            },
        }
    }
}

impl Default for Config {
    /// The paper's settings.
    fn default() -> Self {
        Self {
            recipe: Recipe::Paper,
            noise: Noise {
                gauss: Some(Levels::fixed(25.0)),
                ..Noise::NONE
            },
            frozen_noise: false,
            range: Range::Auto,
            data_dir: "./Imagenet_val".into(),
            val_dirs: None,
            holdout: None,
            save_model_path: "./results".into(),
            log_name: "unet_gauss25_b4e100r02".into(),
            n_feature: UNet::default().n_feature,
            n_channel: UNet::default().n_channel,
            n_depth: UNet::default().n_depth,
            head_width: UNet::default().head_width,
            pixel_shuffle: UNet::default().pixel_shuffle,
            channels: Channels::Together,
            lr: 3e-4,
            optimizer: Optimizer::Adam,
            lr_schedule: LrSchedule::Step,
            warmup: 0.02,
            gamma: 0.5,
            n_epoch: 100,
            steps_per_epoch: None,
            time_budget: None,
            log_iters: 100,
            n_snapshot: 1,
            keep: 10,
            checkpoint_every: Span(Duration::from_mins(10)),
            batchsize: 4,
            accumulate: 1,
            patchsize: 256,
            lambda1: 1.0,
            lambda2: 1.0,
            lambda_schedule: LambdaSchedule::Ramp,
            increase_ratio: 2.0,
            min_lambda: 0.0,
            target: Target::Drawn,
            regularized_patches: None,
            half: false,
            init_scale: INIT_SCALE,
            init_from: None,
            teacher: None,
            neighbor_distance: NeighborDistance::Fixed(Spacing::NONE),
            repair: Repair::default(),
            augment: false,
            ema: 0.0,
            seed: 0,
            loader_threads: 2,
            cache_mb: 1024,
        }
    }
}

impl Config {
    /// The settings of the fast recipe.
    pub fn fast() -> Self {
        Recipe::Fast.config()
    }

    /// These settings for images of given sizes. If no image has a side as long as a patch, patches become smaller, and
    /// a step takes so many more of them that it covers and regularizes about as many pixels as before.
    ///
    /// # Errors
    /// Those of [`Self::unet`].
    pub fn fitted(&self, sizes: impl IntoIterator<Item = (usize, usize)>) -> Result<Self> {
        let spacing = self.neighbor_distance.spacing();
        let longest = |(height, width): (usize, usize)| (height / spacing.y).max(width / spacing.x);
        let longest = sizes.into_iter().map(longest).max().unwrap_or(0);
        let unit = 2 * self.unet()?.grid().multiple;
        let side = (longest / unit * unit).max(unit);
        if side >= self.patchsize {
            return Ok(self.clone());
        }
        let more = |patches: usize| patches * self.patchsize.pow(2) / side.pow(2);
        Ok(Self {
            patchsize: side,
            batchsize: more(self.batchsize),
            regularized_patches: self.regularized_patches.map(more),
            ..self.clone()
        })
    }

    /// The architecture of the network.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) for a size that is out of range.
    pub fn unet(&self) -> Result<UNet> {
        let unet = UNet {
            n_feature: self.n_feature,
            n_channel: self.n_channel,
            n_depth: self.n_depth,
            head_width: self.head_width,
            pixel_shuffle: self.pixel_shuffle,
        };
        unet.check()?;
        Ok(unet)
    }

    /// How the channels of a page are divided into training images.
    pub fn layout(&self) -> Layout {
        match self.channels {
            Channels::Together => Layout::Together(self.n_channel),
            Channels::Independent => Layout::Independent,
        }
    }

    /// Memory for decoded images, in bytes.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.cache_mb.saturating_mul(1 << 20)
    }

    /// The parts of a step that a network has to know.
    pub fn method(&self) -> Method {
        Method {
            optimizer: self.optimizer,
            target: self.target,
            regularized_patches: self.regularized_patches,
            half: self.half,
        }
    }

    /// The run's folder.
    pub fn folder(&self) -> PathBuf {
        self.save_model_path.join(&self.log_name)
    }

    /// Whether the range has to be measured on the images.
    pub fn measures_range(&self) -> bool {
        match self.range {
            Range::Auto => self.noise == Noise::NONE,
            Range::Percentile => true,
            Range::Between(..) => false,
        }
    }

    /// Whether an epoch, counted from 1, ends with a snapshot. The last epoch always does, whatever this returns.
    pub fn is_snapshot(&self, epoch: usize) -> bool {
        epoch.is_multiple_of(self.n_snapshot)
    }

    /// The number of images to hold out, given the number of usable images.
    pub fn held_out(&self, images: usize) -> usize {
        match self.holdout {
            Some(count) => count,
            None if self.noise == Noise::NONE => (images / 20).clamp(1, 32),
            None => 0,
        }
    }

    /// The number of iterations of an epoch over this many images, at least one.
    pub fn iterations(&self, images: usize) -> usize {
        /// Steps after which a new evaluation is worthwhile.
        const WORTH_A_SCORE: usize = 250;
        let steps = (images / (self.batchsize * self.accumulate)).max(1);
        match self.steps_per_epoch {
            Some(steps) => steps,
            None if self.noise == Noise::NONE => steps.max(WORTH_A_SCORE),
            None => steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_come_regularly() {
        let config = Config {
            n_snapshot: 3,
            ..Config::default()
        };
        let snapshots: Vec<_> = (1..=7).filter(|&epoch| config.is_snapshot(epoch)).collect();
        assert_eq!(snapshots, [3, 6]);
    }

    #[test]
    fn independent_channels_are_gray_images() {
        let resolve = |text: &str| Config::resolve(&[toml::from_str(text).unwrap()]);
        let config = resolve("channels = \"independent\"").unwrap();
        assert_eq!(
            (config.n_channel, config.layout()),
            (1, Layout::Independent)
        );
        assert!(resolve("channels = \"independent\"\nn_channel = 1").is_ok());
        let error = resolve("channels = \"independent\"\nn_channel = 4").unwrap_err();
        assert!(error.to_string().contains("n_channel"), "{error}");
        assert_eq!(
            resolve("n_channel = 16").unwrap().layout(),
            Layout::Together(16)
        );
        assert!(resolve("n_channel = 17").is_err());
        assert!(resolve("n_channel = 4\nval_dirs = \"sets\"").is_err());
    }

    #[test]
    fn patches_are_no_longer_than_the_longest_side_unless_that_is_below_the_smallest_patch() {
        let fitted = |distance: &str, sizes: &[(usize, usize)]| {
            let config = Config {
                neighbor_distance: distance.parse().unwrap(),
                ..Config::fast()
            };
            let fitted = config.fitted(sizes.iter().copied()).unwrap();
            fitted.check().unwrap();
            assert_eq!(fitted.regularized_patches, Some(fitted.batchsize));
            (fitted.batchsize, fitted.patchsize)
        };
        assert_eq!(fitted("1", &[(100, 100), (300, 200)]), (1, 256));
        // An image that is long enough is padded on its other side.
        assert_eq!(fitted("1", &[(100, 300)]), (1, 256));
        assert_eq!(fitted("1", &[(128, 128), (64, 120)]), (4, 128));
        assert_eq!(fitted("1", &[(191, 20)]), (4, 128));
        assert_eq!(fitted("1", &[(192, 192)]), (1, 192));
        assert_eq!(fitted("1", &[(1, 1)]), (16, 64));
        assert_eq!(fitted("2", &[(257, 257)]), (4, 128));
        assert_eq!(fitted("2x1", &[(256, 256)]), (1, 256));
        assert_eq!(fitted("1", &[]), (16, 64));
    }

    #[test]
    fn images_are_held_out_where_nothing_else_can_tell_how_well_a_run_goes() {
        let held_out = |noise: &str, holdout, images| {
            let noise = noise.parse().unwrap();
            let config = Config {
                noise,
                holdout,
                ..Config::default()
            };
            config.held_out(images)
        };
        assert_eq!(held_out("gauss25", None, 100), 0);
        assert_eq!(held_out("gauss25", Some(7), 100), 7);
        assert_eq!(held_out("none", None, 1), 1);
        assert_eq!(held_out("none", None, 19), 1);
        assert_eq!(held_out("none", None, 100), 5);
        assert_eq!(held_out("none", None, 10_000), 32);
        assert_eq!(held_out("none", Some(0), 100), 0);
    }

    #[test]
    fn an_epoch_of_few_noisy_images_has_steps_enough_for_a_score() {
        let iterations = |noise: &str, steps_per_epoch, images| {
            let config = Config {
                noise: noise.parse().unwrap(),
                steps_per_epoch,
                ..Config::default()
            };
            config.iterations(images)
        };
        assert_eq!(iterations("none", None, 1), 250);
        assert_eq!(iterations("none", None, 4000), 1000);
        assert_eq!(iterations("none", Some(3), 4000), 3);
        // As in the reference, except for fewer images than a batch, on which it does not train.
        assert_eq!(iterations("gauss25", None, 19), 4);
        assert_eq!(iterations("gauss25", None, 3), 1);
        let config = Config {
            accumulate: 3,
            ..Config::default()
        };
        assert_eq!(
            [11, 24, 35].map(|images| config.iterations(images)),
            [1, 2, 2]
        );
    }
}
