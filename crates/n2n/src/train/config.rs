//! What a training run is told, checked, and what follows from it epoch by epoch: the learning
//! rate and the factors of the loss.

use std::path::{Component, Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};
use crate::network::LossFactors;
use crate::noise::{Noise, NoiseLevel};
use crate::unet::{INIT_SCALE, UNet};

/// The settings of a run. The sizes of the network are the network's own.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// Noise added to the training patches and to the validation images.
    #[serde(rename = "noisetype", serialize_with = "as_text")]
    pub noise: Noise,
    /// Folder of training images, searched recursively.
    pub data_dir: PathBuf,
    /// Folder with the validation sets.
    pub val_dirs: PathBuf,
    /// Folder that runs are saved in.
    pub save_model_path: PathBuf,
    /// Name of this run's folder below `save_model_path`.
    pub log_name: String,
    /// Whether a run that is already in the folder may be removed.
    pub overwrite: bool,
    /// Learning rate of the first epoch.
    pub lr: f64,
    /// Factor of the learning rate at each milestone.
    pub gamma: f64,
    /// Epochs.
    pub n_epoch: usize,
    /// Iterations between two lines of losses.
    pub log_iters: usize,
    /// Epochs between two checkpoints.
    pub n_snapshot: usize,
    /// Patches a step.
    pub batchsize: usize,
    /// Side of the square patches in pixels, a multiple of twice [`UNet::SIZE_MULTIPLE`].
    pub patchsize: usize,
    /// λ1, the factor of the reconstruction loss.
    pub lambda1: f64,
    /// λ2, the factor of the regulariser.
    pub lambda2: f64,
    /// Λ in the last epoch.
    pub increase_ratio: f64,
    /// Factor on Kaiming's initial weights; recorded here, applied by whoever makes the network.
    pub init_scale: f64,
    /// Seed of everything that is drawn during the run.
    pub seed: u64,
    /// Threads that read images. Their number changes no result.
    pub loader_threads: usize,
    /// Decoded images kept in memory, in bytes. The limit changes no result.
    pub cache_bytes: usize,
}

impl Default for Config {
    /// The paper's settings.
    fn default() -> Self {
        let level = NoiseLevel::from_8bit(25.0);
        Self {
            noise: Noise::Gauss {
                min: level,
                max: level,
            },
            data_dir: "./Imagenet_val".into(),
            val_dirs: "./validation".into(),
            save_model_path: "./results".into(),
            log_name: "unet_gauss25_b4e100r02".into(),
            overwrite: false,
            lr: 3e-4,
            gamma: 0.5,
            n_epoch: 100,
            log_iters: 100,
            n_snapshot: 1,
            batchsize: 4,
            patchsize: 256,
            lambda1: 1.0,
            lambda2: 1.0,
            increase_ratio: 2.0,
            init_scale: INIT_SCALE,
            seed: 0,
            loader_threads: 2,
            cache_bytes: 1 << 30,
        }
    }
}

impl Config {
    /// Most epochs accepted: the streams of random numbers are numbered by them.
    pub const MAX_EPOCHS: usize = (1 << 28) - 1;
    /// Most pixels a batch accepted, 256 times the paper's: a slip in a flag must not ask for more
    /// memory than there is.
    pub const MAX_BATCH_PIXELS: usize = 1 << 26;

    /// Refuses what no run can be made of.
    pub fn check(&self) -> Result<()> {
        let whole = |what, max: usize, got: usize| {
            let expected = || format!("1 to {max}");
            expect((1..=max).contains(&got), what, expected, got)
        };
        whole("n_epoch", Self::MAX_EPOCHS, self.n_epoch)?;
        whole("log_iters", usize::MAX, self.log_iters)?;
        whole("n_snapshot", usize::MAX, self.n_snapshot)?;
        whole("loader_threads", 1024, self.loader_threads)?;

        let unit = 2 * UNet::SIZE_MULTIPLE;
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
                    "1 or more, and at most {} pixels a batch",
                    Self::MAX_BATCH_PIXELS
                )
            },
            format!("{} patches of {pixels} pixels", self.batchsize),
        )?;

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
        ] {
            let accepted = got >= 0.0 && got.is_finite();
            expect(accepted, what, || "a number of at least 0".into(), got)?;
        }

        // Anything else would put the run, and what `overwrite` removes, outside its folder.
        let mut parts = Path::new(&self.log_name).components().peekable();
        expect(
            parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_))),
            "log_name",
            || "the name of a folder below save_model_path".into(),
            format!("{:?}", self.log_name),
        )
    }

    /// The run's folder.
    pub fn folder(&self) -> PathBuf {
        self.save_model_path.join(&self.log_name)
    }

    /// The learning rate of an epoch, counted from 1.
    ///
    /// It is multiplied by `gamma` at the milestones `⌊k · n_epoch / 100⌋ − 1`, k = 20, 40, 60, 80,
    /// counted in steps of the scheduler; one step ends each epoch. In short runs milestones
    /// coincide, and then multiply more than once; one at 0 holds from the first epoch; one below 0
    /// is never met. So does PyTorch's `MultiStepLR`.
    pub fn learning_rate(&self, epoch: usize) -> f64 {
        [20, 40, 60, 80]
            .into_iter()
            .map(|percent| percent * self.n_epoch / 100)
            .filter(|&milestone_plus_1| (1..=epoch).contains(&milestone_plus_1))
            .fold(self.lr, |rate, _| rate * self.gamma)
    }

    /// The factors of the loss in an epoch, counted from 1: Λ is `epoch / n_epoch · increase_ratio`.
    pub fn factors(&self, epoch: usize) -> LossFactors {
        LossFactors {
            lambda1: self.lambda1,
            lambda2: self.lambda2,
            lambda: epoch as f64 / self.n_epoch as f64 * self.increase_ratio,
        }
    }

    /// Whether an epoch, counted from 1, ends with a checkpoint and an evaluation.
    pub fn is_snapshot(&self, epoch: usize) -> bool {
        epoch.is_multiple_of(self.n_snapshot) || epoch == self.n_epoch
    }
}

fn expect(
    holds: bool,
    what: &str,
    expected: impl FnOnce() -> String,
    got: impl std::fmt::Display,
) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(Error::value(what, expected(), got))
    }
}

fn as_text<S: Serializer>(noise: &Noise, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(noise)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(n_epoch: usize) -> Vec<f64> {
        let config = Config {
            n_epoch,
            ..Config::default()
        };
        (1..=n_epoch)
            .map(|epoch| config.learning_rate(epoch))
            .collect()
    }

    /// `torch.optim.lr_scheduler.MultiStepLR(Adam(lr=3e-4), [k * n // 100 - 1 for k in
    /// (20, 40, 60, 80)], gamma=0.5)`, the rate before each `step()`, PyTorch 2.
    #[test]
    fn learning_rates_of_short_runs_are_pytorchs() {
        const R: [f64; 5] = [3e-4, 1.5e-4, 7.5e-5, 3.75e-5, 1.875e-5];
        assert_eq!(rates(1), [R[0]]);
        assert_eq!(rates(2), [R[2], R[2]]);
        assert_eq!(rates(3), [R[2], R[3], R[3]]);
        assert_eq!(rates(4), [R[1], R[2], R[3], R[3]]);
        assert_eq!(rates(5), [R[1], R[2], R[3], R[4], R[4]]);
        assert_eq!(rates(7), [R[1], R[2], R[2], R[3], R[4], R[4], R[4]]);
        assert_eq!(
            rates(10),
            [R[0], R[1], R[1], R[2], R[2], R[3], R[3], R[4], R[4], R[4]]
        );
    }

    #[test]
    fn learning_rates_of_the_paper() {
        let rates = rates(100);
        for (epochs, rate) in [
            (1..=19, 3e-4),
            (20..=39, 1.5e-4),
            (40..=59, 7.5e-5),
            (60..=79, 3.75e-5),
            (80..=100, 1.875e-5),
        ] {
            for epoch in epochs {
                assert_eq!(rates[epoch - 1], rate, "epoch {epoch}");
            }
        }
    }

    #[test]
    fn learning_rates_follow_a_scheduler_stepped_after_each_epoch() {
        for n_epoch in 1..=250 {
            let milestones = [20, 40, 60, 80].map(|k| (k * n_epoch / 100) as i64 - 1);
            let mut rate = 3e-4;
            let mut expected = vec![];
            for step in 0..n_epoch as i64 {
                for _ in milestones.iter().filter(|&&milestone| milestone == step) {
                    rate *= 0.5;
                }
                expected.push(rate);
            }
            assert_eq!(rates(n_epoch), expected, "{n_epoch} epochs");
        }
    }

    #[test]
    fn lambda_grows_to_the_increase_ratio() {
        let config = Config::default();
        assert_eq!(config.factors(1).lambda, 0.02);
        assert_eq!(config.factors(50).lambda, 1.0);
        assert_eq!(config.factors(100).lambda, 2.0);
    }

    #[test]
    fn snapshots_come_regularly_and_at_the_end() {
        let config = Config {
            n_epoch: 7,
            n_snapshot: 3,
            ..Config::default()
        };
        let snapshots: Vec<_> = (1..=7).filter(|&epoch| config.is_snapshot(epoch)).collect();
        assert_eq!(snapshots, [3, 6, 7]);
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
        assert!(refused(|c| c.loader_threads = 0).starts_with("loader_threads"));
        assert!(refused(|c| c.patchsize = 0).starts_with("patchsize"));
        assert!(refused(|c| c.patchsize = 96).starts_with("patchsize"));
        assert!(refused(|c| c.batchsize = 0).starts_with("batchsize"));
        assert!(refused(|c| c.batchsize = usize::MAX).starts_with("batchsize"));
        assert!(refused(|c| c.patchsize = 1 << 40).starts_with("batchsize"));
        assert!(refused(|c| c.lr = f64::NAN).starts_with("lr"));
        assert!(refused(|c| c.gamma = 0.0).starts_with("gamma"));
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
