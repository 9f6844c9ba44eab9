//! The settings of a training run: their names in files, defaults and checks.
//!
//! Settings come in layers of named values, each over the one before: the defaults of a recipe, a
//! configuration file, explicit settings of the caller. [`Config::resolve`] merges them.

use std::fmt::Display;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use crate::denoise::Range;
use crate::error::{Error, Result};
use crate::neighbors::Target;
use crate::network::{Method, Optimizer};
use crate::noise::{Noise, NoiseLevel};
use crate::repair::Repair;
use crate::train::dataset::Layout;
use crate::train::spacing::{NeighborDistance, Spacing};
use crate::unet::{self, INIT_SCALE, UNet};

/// The settings of a run. Their names in files are those of the fields, except where noted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The recipe whose defaults the other settings started from.
    pub recipe: Recipe,
    /// Noise added to the training patches and to the validation images; `noisetype`.
    #[serde(rename = "noisetype")]
    pub noise: Noise,
    /// Whether each image gets its noise once, by its path, and not anew at every visit.
    pub frozen_noise: bool,
    /// Which values of the images are the network's 0 and 1. [`Range::Auto`] measures it on images that
    /// are noisy already, and is else the whole range of their type; [`Range::Percentile`] measures it
    /// anyway. What has been measured is put in its place.
    pub range: Range,
    /// Folder of training images, searched recursively.
    pub data_dir: PathBuf,
    /// Folder with the validation set, which must be there; `none` in files for no scores.
    #[serde(with = "path_or_none")]
    pub val_dirs: Option<PathBuf>,
    /// Training images held out to validate on their noise; by default 1 of 20, 32 at most and at
    /// least 1 (of a single image, a part), of images that are noisy already, and otherwise none.
    pub holdout: Option<usize>,
    /// Folder that runs are saved in.
    pub save_model_path: PathBuf,
    /// Name of this run's folder below `save_model_path`.
    pub log_name: String,
    /// Channels of the network's first layer.
    pub n_feature: usize,
    /// Channels that the network takes together, 1 to 16: 3 for RGB, 1 for gray.
    pub n_channel: usize,
    /// Number of 2×2 poolings.
    pub n_depth: usize,
    /// Channels of the network's last layers.
    pub head_width: usize,
    /// Factor of space-to-depth before the network's first layer; 1 for none.
    pub pixel_shuffle: usize,
    /// Whether the channels of an image are denoised together, or each by itself, as a gray image.
    pub channels: Channels,
    /// Learning rate at the start, after warm-up.
    pub lr: f64,
    /// What makes a step of the gradient.
    pub optimizer: Optimizer,
    /// How the learning rate falls.
    pub lr_schedule: LrSchedule,
    /// Part of the run over which the learning rate rises to `lr`; not with `lr_schedule` step.
    pub warmup: f64,
    /// Factor of the learning rate at each milestone, with `lr_schedule` step.
    pub gamma: f64,
    /// Epochs; with a time budget they are not counted.
    pub n_epoch: usize,
    /// Iterations an epoch; by default as many as the images make batches, and at least 250 with images
    /// that are noisy already.
    pub steps_per_epoch: Option<usize>,
    /// Time for training, to which the schedule is fitted, instead of a number of epochs.
    pub time_budget: Option<Span>,
    /// Iterations between two lines of losses.
    pub log_iters: usize,
    /// Epochs between two snapshots: a numbered checkpoint and its scores.
    pub n_snapshot: usize,
    /// Numbered checkpoints kept, the newest.
    pub keep: usize,
    /// Time between two writings of the checkpoint a run is resumed from.
    pub checkpoint_every: Span,
    /// Patches a step.
    pub batchsize: usize,
    /// Side of the square patches in pixels, a multiple of twice the cells of the network's grid.
    pub patchsize: usize,
    /// λ1, the factor of the reconstruction loss; `Lambda1`.
    #[serde(rename = "Lambda1")]
    pub lambda1: f64,
    /// λ2, the factor of the regularizer; `Lambda2`.
    #[serde(rename = "Lambda2")]
    pub lambda2: f64,
    /// How Λ comes to its last value.
    pub lambda_schedule: LambdaSchedule,
    /// Λ in the last epoch.
    pub increase_ratio: f64,
    /// Λ below this counts as 0, which saves its forward pass.
    pub min_lambda: f64,
    /// The network's target: the neighbor drawn, or the mean of both it is drawn from.
    pub target: Target,
    /// Patches of a batch, in turn, that the regularizer is computed on; by default all.
    pub regularized_patches: Option<usize>,
    /// Factor on Kaiming's initial weights; applied by whoever makes the network.
    pub init_scale: f64,
    /// The model whose weights the run starts from instead: a file, or the name of a shipped one; read
    /// by whoever makes the network.
    pub init_from: Option<PathBuf>,
    /// The model that a run learns from in place of the neighbors: a file, or the name of a shipped one. The target is
    /// what it makes of the same noisy image ([`Distillation`](crate::train::Distillation)); whoever makes the network
    /// reads it.
    pub teacher: Option<PathBuf>,
    /// How far apart the pixels are that count as neighbors, for noise that neighbors share.
    pub neighbor_distance: NeighborDistance,
    /// Faults of the sensor that are taken out of the images first.
    pub repair: Repair,
    /// Whether patches are flipped and turned at random.
    pub augment: bool,
    /// Decay of the running average of the weights, which is then what is scored and saved; 0 for
    /// none.
    pub ema: f64,
    /// Seed of everything that is drawn during the run.
    #[serde(with = "whole_number")]
    pub seed: u64,
    /// Threads that read images. Their number changes no result.
    pub loader_threads: usize,
    /// Decoded images kept in memory, in MB of 2²⁰ bytes. The limit changes no result.
    pub cache_mb: usize,
}

/// A set of defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// The paper's settings.
    Paper,
    /// Settings of our own for runs of minutes to hours.
    Fast,
}

/// What the network sees of the channels of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channels {
    /// All at once: as many as it has.
    Together,
    /// One at a time: one model for all of them.
    Independent,
}

/// How the learning rate falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LrSchedule {
    /// By `gamma` after each fifth of the run, as the paper's.
    Step,
    /// Along half a cosine to 0, after a linear warm-up.
    Cosine,
    /// Constant after a linear warm-up, then along half a cosine to 0 over the last 30 % of the run.
    Trapezoid,
}

/// How Λ comes to its last value, [`Config::increase_ratio`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LambdaSchedule {
    /// In proportion to the epoch, as the paper's: a new network first learns what images are.
    Ramp,
    /// It has it from the first step, which suits a network that is trained already.
    Constant,
}

/// A length of time, written as `30m` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Recipe {
    /// Every recipe.
    pub const ALL: [Self; 2] = [Self::Paper, Self::Fast];

    /// Its settings.
    pub fn config(self) -> Config {
        let paper = Config::default();
        match self {
            Self::Paper => paper,
            Self::Fast => Config {
                recipe: self,
                patchsize: 128,
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
                n_epoch: 20,
                ..paper
            },
        }
    }
}

impl Default for Config {
    /// The paper's settings.
    fn default() -> Self {
        let level = NoiseLevel::from_8bit(25.0);
        Self {
            recipe: Recipe::Paper,
            noise: Noise::Gauss {
                min: level,
                max: level,
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
            patchsize: 256,
            lambda1: 1.0,
            lambda2: 1.0,
            lambda_schedule: LambdaSchedule::Ramp,
            increase_ratio: 2.0,
            min_lambda: 0.0,
            target: Target::Drawn,
            regularized_patches: None,
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
    /// Most epochs accepted: the streams of random numbers are numbered by them.
    pub const MAX_EPOCHS: usize = (1 << 28) - 1;
    /// Most patches an epoch, for the same reason.
    pub const MAX_PATCHES: usize = u32::MAX as usize;
    /// Most channels accepted.
    pub const MAX_CHANNELS: usize = 16;
    /// Most pixels a batch accepted, 256 times the paper's: a typing error must not ask for more
    /// memory than there is.
    pub const MAX_BATCH_PIXELS: usize = 1 << 26;

    /// The settings of the fast recipe.
    pub fn fast() -> Self {
        Recipe::Fast.config()
    }

    /// The settings of `layers`, each over the one before, the first over the defaults of the recipe
    /// that the last of them names; checked. A name that is no setting's is an error.
    pub fn resolve(layers: &[Table]) -> Result<Self> {
        let named = layers.iter().rev().find_map(|layer| layer.get("recipe"));
        let recipe = match named {
            None => Recipe::Paper,
            Some(name) => name.clone().try_into().map_err(|_| {
                let names = Recipe::ALL.map(|recipe| recipe.config().recipe.name());
                Error::value("recipe", names.join(" or "), name)
            })?,
        };
        let mut settings = recipe.config().to_table();
        for layer in layers {
            settings.extend(with_sizes(layer.clone())?);
        }
        // Each channel by itself is a gray image.
        let is_told = layers.iter().any(|layer| layer.contains_key("n_channel"));
        if !is_told && settings.get("channels").and_then(Value::as_str) == Some("independent") {
            settings.insert("n_channel".into(), Value::Integer(1));
        }
        let config: Self = settings.try_into().map_err(|error: toml::de::Error| {
            let text = error.to_string();
            Error::value("settings", "valid settings", text.trim_end())
        })?;
        config.check()?;
        Ok(config)
    }

    /// The settings by name.
    #[allow(clippy::missing_panics_doc, reason = "it never does")]
    pub fn to_table(&self) -> Table {
        Table::try_from(self).expect("settings are numbers, strings and booleans")
    }

    /// The architecture of the network.
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

    /// What of an image is one image to the network.
    pub fn layout(&self) -> Layout {
        match self.channels {
            Channels::Together => Layout::Together(self.n_channel),
            Channels::Independent => Layout::Independent,
        }
    }

    /// How steps are taken.
    pub fn method(&self) -> Method {
        Method {
            optimizer: self.optimizer,
            target: self.target,
            regularized_patches: self.regularized_patches,
        }
    }

    /// Refuses what no run can be made of.
    pub fn check(&self) -> Result<()> {
        let unet = self.unet()?;
        expect(
            self.channels == Channels::Together || self.n_channel == 1,
            "n_channel",
            || "1, with independent channels".into(),
            self.n_channel,
        )?;
        expect(
            self.val_dirs.is_none() || matches!(self.n_channel, 1 | 3),
            "n_channel",
            || "3 (RGB) or 1 (gray), as the images of val_dirs have".into(),
            self.n_channel,
        )?;
        let whole = |what, max: usize, got: usize| {
            let expected = || format!("1 to {max}");
            expect((1..=max).contains(&got), what, expected, got)
        };
        whole("n_channel", Self::MAX_CHANNELS, self.n_channel)?;
        whole("n_epoch", Self::MAX_EPOCHS, self.n_epoch)?;
        whole("log_iters", usize::MAX, self.log_iters)?;
        whole("n_snapshot", usize::MAX, self.n_snapshot)?;
        whole("loader_threads", 1024, self.loader_threads)?;
        whole("keep", usize::MAX, self.keep)?;
        let patches = self.regularized_patches.unwrap_or(1);
        whole("regularized_patches", self.batchsize.max(1), patches)?;

        let unit = 2 * unet.grid().multiple;
        expect(
            self.patchsize > 0 && self.patchsize.is_multiple_of(unit),
            "patchsize",
            || format!("a multiple of {unit}"),
            self.patchsize,
        )?;
        let pixels = self.patchsize.saturating_mul(self.patchsize);
        expect(
            self.batchsize > 0 && self.batchsize.saturating_mul(pixels) <= Self::MAX_BATCH_PIXELS,
            "batchsize",
            || {
                format!(
                    "1 or more, and at most {} pixels per batch",
                    Self::MAX_BATCH_PIXELS
                )
            },
            format!("{} patches of {pixels} pixels", self.batchsize),
        )?;
        let most = Self::MAX_PATCHES / self.batchsize;
        whole("steps_per_epoch", most, self.steps_per_epoch.unwrap_or(1))?;

        for (what, got) in [
            ("lr", self.lr),
            ("gamma", self.gamma),
            ("init_scale", self.init_scale),
        ] {
            let above_0 = got > 0.0 && got.is_finite();
            expect(above_0, what, || "a number above 0".into(), got)?;
        }
        for (what, got) in [
            ("Lambda1", self.lambda1),
            ("Lambda2", self.lambda2),
            ("increase_ratio", self.increase_ratio),
            ("min_lambda", self.min_lambda),
        ] {
            let accepted = got >= 0.0 && got.is_finite();
            expect(accepted, what, || "a number of at least 0".into(), got)?;
        }
        for (what, got) in [("ema", self.ema), ("warmup", self.warmup)] {
            let part = (0.0..1.0).contains(&got);
            expect(
                part,
                what,
                || "a number of at least 0 and below 1".into(),
                got,
            )?;
        }
        if let Some(Span(budget)) = self.time_budget {
            let expected = || "a positive time".into();
            expect(!budget.is_zero(), "time_budget", expected, Span(budget))?;
        }

        // Anything else would put the run, and what is removed to overwrite it, outside its folder.
        let mut parts = Path::new(&self.log_name).components().peekable();
        expect(
            parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_))),
            "log_name",
            || "the name of a folder inside save_model_path".into(),
            format!("{:?}", self.log_name),
        )
    }

    /// The run's folder.
    pub fn folder(&self) -> PathBuf {
        self.save_model_path.join(&self.log_name)
    }

    /// Whether the range is to be measured on the images.
    pub fn measures_range(&self) -> bool {
        match self.range {
            Range::Auto => self.noise == Noise::None,
            Range::Percentile => true,
            Range::Between(..) => false,
        }
    }

    /// Whether an epoch, counted from 1, ends with a snapshot; the last of a run does anyway.
    pub fn is_snapshot(&self, epoch: usize) -> bool {
        epoch.is_multiple_of(self.n_snapshot)
    }

    /// Of so many usable images, how many are held out.
    pub fn held_out(&self, images: usize) -> usize {
        match self.holdout {
            Some(count) => count,
            None if self.noise == Noise::None => (images / 20).clamp(1, 32),
            None => 0,
        }
    }

    /// The iterations of an epoch over so many images, of which there is one at least.
    pub fn iterations(&self, images: usize) -> usize {
        /// Steps after which an evaluation has something new to say.
        const WORTH_A_SCORE: usize = 250;
        let batches = (images / self.batchsize).max(1);
        match self.steps_per_epoch {
            Some(steps) => steps,
            None if self.noise == Noise::None => batches.max(WORTH_A_SCORE),
            None => batches,
        }
    }
}

/// Replaces `architecture` in a layer of settings by the sizes it stands for; sizes that the layer also gives
/// explicitly win.
fn with_sizes(mut layer: Table) -> Result<Table> {
    let Some(name) = layer.remove("architecture") else {
        return Ok(layer);
    };
    let unet = match &name {
        Value::String(name) => unet::named(name)?,
        other => return Err(Error::value("architecture", "a name", other)),
    };
    for (size, value) in unet.sizes() {
        // The number of channels belongs to the images, not to the architecture.
        if size != "n_channel" {
            layer
                .entry(size)
                .or_insert_with(|| Value::Integer(value as i64));
        }
    }
    Ok(layer)
}

impl Recipe {
    fn name(self) -> &'static str {
        match self {
            Self::Paper => "paper",
            Self::Fast => "fast",
        }
    }
}

impl std::str::FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let span = humantime::parse_duration(text);
        span.map(Self).map_err(|_| {
            Error::value(
                "time",
                "one such as 90s, 30m or 1h 30m",
                format!("'{text}'"),
            )
        })
    }
}

impl Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A path that may be missing: TOML has no value for that, and a missing setting is the default.
mod path_or_none {
    use super::{Deserialize, Deserializer, PathBuf, Serialize, Serializer};

    const NONE: &str = "none";

    #[allow(clippy::ref_option, reason = "as serde calls it")]
    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        path.as_deref().unwrap_or(NONE.as_ref()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        let path = PathBuf::deserialize(from)?;
        Ok((path.as_os_str() != NONE).then_some(path))
    }
}

/// A number of 64 bits: TOML's have a sign, so that the larger half is written as text.
mod whole_number {
    use super::{Deserialize, Deserializer, Serializer};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub fn serialize<S: Serializer>(number: &u64, to: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(*number) {
            Ok(number) => to.serialize_i64(number),
            Err(_) => to.collect_str(number),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(from)? {
            Written::Number(number) => Ok(number),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

fn expect(
    holds: bool,
    what: &str,
    expected: impl FnOnce() -> String,
    got: impl Display,
) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Error::value(what, expected(), got))
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
        // As the reference, but for fewer images than a batch, which it does not train on.
        assert_eq!(iterations("gauss25", None, 19), 4);
        assert_eq!(iterations("gauss25", None, 3), 1);
    }

    #[test]
    fn settings_are_written_and_read_back_with_every_value() {
        let changed = Config {
            val_dirs: Some("sets".into()),
            range: Range::Between(-0.1, 4095.0),
            holdout: Some(3),
            steps_per_epoch: Some(50),
            time_budget: Some("1h 30m".parse().unwrap()),
            keep: 2,
            optimizer: Optimizer::Muon,
            target: Target::Mean,
            regularized_patches: Some(1),
            lr_schedule: LrSchedule::Trapezoid,
            lambda_schedule: LambdaSchedule::Constant,
            init_from: Some("gauss5_50".into()),
            teacher: Some("gauss25".into()),
            seed: u64::MAX,
            lr: 1.0 / 3.0,
            ..Recipe::Fast.config()
        };
        for config in [Config::default(), Recipe::Fast.config(), changed] {
            let text = toml::to_string(&config).unwrap();
            let table = text.parse().unwrap();
            assert_eq!(Config::resolve(&[table]).unwrap(), config, "{text}");
        }
    }

    #[test]
    fn a_later_layer_counts_more_and_a_recipe_least() {
        let resolve = |layers: &[&str]| {
            let layers: Vec<_> = layers.iter().map(|text| text.parse().unwrap()).collect();
            Config::resolve(&layers)
        };
        assert_eq!(resolve(&[]).unwrap(), Config::default());
        let config = resolve(&["lr = 1\nn_feature = 8", "recipe = 'fast'\nlr = 2"]).unwrap();
        assert_eq!((config.lr, config.n_feature, config.ema), (2.0, 8, 0.999));
        assert_eq!(config.recipe, Recipe::Fast);
        for (text, named) in [
            ("recipe = 'slow'", "paper or fast"),
            ("learning_rate = 1", "learning_rate"),
            ("lr = 'fast'", "lr"),
            ("noisetype = 'pink'", "gaussS"),
            ("time_budget = 'soon'", "30m"),
            ("n_epoch = 0", "n_epoch"),
            ("range = '5'", "MIN,MAX"),
        ] {
            let error = resolve(&[text]).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn impossible_settings_are_refused_by_name() {
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        assert!(Config::default().check().is_ok());
        assert!(refused(|c| c.n_epoch = 0).starts_with("n_epoch"));
        assert!(refused(|c| c.n_epoch = usize::MAX).starts_with("n_epoch"));
        assert!(refused(|c| c.log_iters = 0).starts_with("log_iters"));
        assert!(refused(|c| c.n_snapshot = 0).starts_with("n_snapshot"));
        assert!(refused(|c| c.keep = 0).starts_with("keep"));
        assert!(refused(|c| c.regularized_patches = Some(0)).starts_with("regularized_patches"));
        assert!(refused(|c| c.regularized_patches = Some(5)).starts_with("regularized_patches"));
        assert!(refused(|c| c.steps_per_epoch = Some(0)).starts_with("steps_per_epoch"));
        assert!(refused(|c| c.steps_per_epoch = Some(1 << 40)).starts_with("steps_per_epoch"));
        assert!(refused(|c| c.loader_threads = 0).starts_with("loader_threads"));
        assert!(refused(|c| c.n_channel = 17).starts_with("n_channel"));
        assert!(refused(|c| c.patchsize = 0).starts_with("patchsize"));
        assert!(refused(|c| c.patchsize = 96).starts_with("patchsize"));
        assert!(refused(|c| c.batchsize = 0).starts_with("batchsize"));
        assert!(refused(|c| c.batchsize = usize::MAX).starts_with("batchsize"));
        assert!(refused(|c| c.patchsize = 1 << 40).starts_with("batchsize"));
        assert!(refused(|c| c.lr = f64::NAN).starts_with("lr"));
        assert!(refused(|c| c.gamma = 0.0).starts_with("gamma"));
        assert!(refused(|c| c.ema = 1.0).starts_with("ema"));
        assert!(refused(|c| c.warmup = -0.1).starts_with("warmup"));
        assert!(refused(|c| c.time_budget = Some(Span(Duration::ZERO))).starts_with("time_budget"));
        assert!(refused(|c| c.lambda1 = f64::INFINITY).starts_with("Lambda1"));
        assert!(refused(|c| c.lambda2 = -1.0).starts_with("Lambda2"));
        assert!(refused(|c| c.increase_ratio = f64::NAN).starts_with("increase_ratio"));
        for name in ["", ".", "..", "../other", "/tmp", "a/../.."] {
            let config = Config {
                log_name: name.into(),
                ..Config::default()
            };
            assert!(config.check().is_err(), "{name:?}");
        }
    }
}
