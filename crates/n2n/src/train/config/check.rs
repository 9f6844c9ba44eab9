//! The checks of settings, before anything is read or written.

use std::fmt::Display;
use std::path::{Component, Path};

use super::{Channels, Config, Span};
use crate::error::{Error, Result};
use crate::words::counted;

impl Config {
    /// Maximum number of epochs: in the number of a random stream, the epoch has 28 bits.
    pub const MAX_EPOCHS: usize = (1 << 28) - 1;
    /// Maximum number of patches per epoch: in the number of a random stream, the patch has 32 bits.
    pub const MAX_PATCHES: usize = u32::MAX as usize;
    /// Maximum number of channels.
    pub const MAX_CHANNELS: usize = 16;
    /// Maximum number of pixels per step, 256 times the paper's, so that a typo cannot request more memory than there
    /// is.
    pub const MAX_BATCH_PIXELS: usize = 1 << 26;

    /// Checks that a run is possible with these settings.
    ///
    /// # Errors
    /// [`Error::Value`] with the name of the first setting that is not accepted.
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
            || "3 (RGB) or 1 (gray), to score the images of val_dirs".into(),
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

        self.check_step_size(2 * unet.grid().multiple)?;

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

        // The settings are written to a file.
        for (what, path) in [
            ("data_dir", Some(&self.data_dir)),
            ("val_dirs", self.val_dirs.as_ref()),
            ("save_model_path", Some(&self.save_model_path)),
            ("init_from", self.init_from.as_ref()),
            ("teacher", self.teacher.as_ref()),
        ] {
            if let Some(path) = path {
                let expected = || "a path in Unicode".into();
                expect(path.to_str().is_some(), what, expected, path.display())?;
            }
        }

        // Any other name would place the run outside `save_model_path`, and overwriting it would remove files there.
        let mut parts = Path::new(&self.log_name).components().peekable();
        expect(
            parts.peek().is_some() && parts.all(|part| matches!(part, Component::Normal(_))),
            "log_name",
            || "the name of a folder inside save_model_path".into(),
            format!("{:?}", self.log_name),
        )
    }

    /// Checks the sizes of patches, batches and steps; patches are multiples of `unit` pixels.
    fn check_step_size(&self, unit: usize) -> Result<()> {
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
            format!("{} of {pixels} pixels", counted(self.batchsize, "patch")),
        )?;
        let of_step = self.batchsize.saturating_mul(self.accumulate);
        expect(
            self.accumulate > 0 && of_step.saturating_mul(pixels) <= Self::MAX_BATCH_PIXELS,
            "accumulate",
            || {
                format!(
                    "1 or more, and at most {} pixels per step",
                    Self::MAX_BATCH_PIXELS
                )
            },
            format!(
                "{} of {} of {pixels} pixels",
                counted(self.accumulate, "batch"),
                counted(self.batchsize, "patch")
            ),
        )?;
        let most = Self::MAX_PATCHES / of_step;
        let steps = self.steps_per_epoch.unwrap_or(1);
        expect(
            (1..=most).contains(&steps),
            "steps_per_epoch",
            || format!("1 to {most}"),
            steps,
        )
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
    use std::time::Duration;

    use super::*;

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
        assert!(refused(|c| c.accumulate = 0).starts_with("accumulate"));
        assert!(refused(|c| c.accumulate = 257).starts_with("accumulate"));
        assert!(refused(|c| c.accumulate = usize::MAX).starts_with("accumulate"));
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
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStringExt;
            fn path() -> std::path::PathBuf {
                std::ffi::OsString::from_vec(b"caf\xe9".to_vec()).into()
            }
            let found = "expected a path in Unicode, found caf\u{fffd}";
            let is_refused = |name: &str, change: fn(&mut Config)| {
                assert_eq!(refused(change), format!("{name}: {found}"));
            };
            is_refused("data_dir", |c| c.data_dir = path());
            is_refused("val_dirs", |c| c.val_dirs = Some(path()));
            is_refused("save_model_path", |c| c.save_model_path = path());
            is_refused("init_from", |c| c.init_from = Some(path()));
            is_refused("teacher", |c| c.teacher = Some(path()));
        }
        for name in ["", ".", "..", "../other", "/tmp", "a/../.."] {
            let config = Config {
                log_name: name.into(),
                ..Config::default()
            };
            assert!(config.check().is_err(), "{name:?}");
        }
    }
}
