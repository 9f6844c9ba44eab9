//! The end of an epoch: its snapshot, with scores, images and the report.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::AtomicBool;

use super::{Outcome, Run};
use crate::denoise::ModelRange;
use crate::error::{Error, Result};
use crate::image;
use crate::network::Train;
use crate::repair::Repair;
use crate::train::config::Config;
use crate::train::event::Event;
use crate::train::page;
use crate::train::tensorboard::Value;
use crate::train::validation::Scores;
use crate::weights::Weights;

impl Run<'_> {
    /// Ends an epoch: takes its snapshot, if one is due, and moves on to the next epoch.
    pub(super) fn end_epoch(
        &mut self,
        network: &mut dyn Train,
        stop: &AtomicBool,
    ) -> Result<Outcome> {
        self.sync_losses(network)?;
        self.tick();
        let epoch = self.progress.epoch;
        let is_last = match self.config.time_budget {
            None => epoch == self.config.n_epoch,
            Some(_) => self.is_out_of_time() || epoch == Config::MAX_EPOCHS,
        };
        let is_snapshot = is_last || self.config.is_snapshot(epoch);
        if is_snapshot {
            let logs = self.log_lengths()?;
            // The average is scored and saved, if there is one.
            network.swap_average();
            let outcome = self.snapshot(network, epoch, stop);
            network.swap_average();
            match outcome {
                Err(error @ (Error::Stopped | Error::Image { .. })) => {
                    self.progress.logs = logs;
                    self.write_checkpoint(network)?;
                    return match error {
                        Error::Stopped => Ok(Outcome::Stopped),
                        error => Err(error),
                    };
                }
                outcome => outcome?,
            }
        }
        self.tick();
        self.progress.epoch += 1;
        self.progress.iteration = 0;
        // A snapshot takes time too.
        self.progress.finished = is_last || (is_snapshot && self.is_out_of_time());
        if is_snapshot || self.is_due() {
            self.write_resume_checkpoint(network)?;
        }
        if is_snapshot && let Some(folder) = &self.folder {
            folder.keep(self.config.keep)?;
        }
        Ok(Outcome::Finished)
    }

    pub(super) fn snapshot(
        &mut self,
        network: &mut dyn Train,
        epoch: usize,
        stop: &AtomicBool,
    ) -> Result<()> {
        self.save(network, epoch)?;
        let (folder, observe) = (self.folder.as_ref(), &mut *self.observe);
        let scores = (self.validation).score(network, epoch, folder, stop, observe)?;
        let failure = match scores.held_out {
            Some(_) => {
                let images = self.loader.dataset();
                (self.validation).fails_on_whole(network, images, epoch, stop)?
            }
            None => None,
        };
        self.show_scores(&scores, epoch)?;
        if let Some((merit, score)) = scores.merit() {
            let before = self.progress.merit.replace(merit);
            if before.is_some_and(|before| before != merit) {
                // The run was resumed with other validation images, and scores of two kinds cannot be compared.
                self.progress.best = None;
            }
            let best = self.progress.best;
            if best.is_none_or(|best| failure.is_none() && score > best) {
                let weights = self.weights(network, epoch)?;
                match &self.folder {
                    Some(folder) => weights.write(&folder.best())?,
                    None => self.best = Some(weights),
                }
                // Any snapshot that does not fail is better.
                self.progress.best = failure.is_none().then_some(score);
            }
        }
        if let Some(score) = scores.set {
            self.tell(&Event::Evaluated(score))?;
        }
        if let Some(losses) = scores.held_out {
            let sure = scores.sure;
            self.tell(&Event::HeldOutEvaluated { losses, sure })?;
        }
        if let Some(collapse) = scores.collapse {
            self.tell(&Event::Collapsed(collapse))?;
        }
        if let Some(changes) = failure {
            self.tell(&Event::FailsOnWhole {
                changes,
                patchsize: self.config.patchsize,
            })?;
        }
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        page::write(folder, self.config, self.loader.iterations())?;
        let path = folder.page();
        self.tell(&Event::Reported { path })
    }

    pub(super) fn show_scores(&self, scores: &Scores, epoch: usize) -> Result<()> {
        let mut values = vec![];
        if let Some(score) = &scores.set {
            values.push(Value::Scalar("validation/psnr_db", score.psnr_db));
            values.push(Value::Scalar("validation/ssim", score.ssim));
        }
        if let Some(losses) = &scores.held_out {
            values.push(Value::Scalar("held_out/loss1", losses.loss1));
            values.push(Value::Scalar("held_out/loss2", losses.loss2));
            values.push(Value::Scalar("held_out/loss_full", losses.loss_full));
        }
        if let Some(sure) = scores.sure {
            values.push(Value::Scalar("held_out/sure", sure));
        }
        if let (Some(folder), Some(set)) = (&self.folder, scores.pictures) {
            let [_, _, denoised] = folder.pictures(set, 0, epoch);
            let (width, height) = image::dimensions(&denoised)?;
            values.push(Value::Image {
                name: "denoised",
                height,
                width,
                // Of channels that are not colors, the picture shows one.
                channels: if self.config.n_channel == 3 { 3 } else { 1 },
                png: fs::read(&denoised).map_err(Error::io(&denoised))?,
            });
        }
        self.show(&values)
    }

    /// Writes the numbered checkpoint of an epoch.
    pub(super) fn save(&mut self, network: &dyn Train, epoch: usize) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let path = folder.checkpoint(epoch);
        self.weights(network, epoch)?.write(&path)?;
        self.tell(&Event::Saved { path })
    }

    /// The network's weights, with the metadata of this epoch.
    pub(super) fn weights(&self, network: &dyn Train, epoch: usize) -> Result<Weights> {
        let mut weights = network.weights()?;
        weights.metadata.extend(self.metadata(epoch));
        Ok(weights)
    }

    /// The metadata of the weights: how they were trained.
    pub(super) fn metadata(&self, epoch: usize) -> BTreeMap<String, String> {
        let config = self.config;
        [
            ("noise", config.noise.to_string()),
            ("epoch", epoch.to_string()),
            ("n_epoch", config.n_epoch.to_string()),
            ("seed", config.seed.to_string()),
            ("lr", config.lr.to_string()),
            ("init_scale", config.init_scale.to_string()),
            ("batchsize", config.batchsize.to_string()),
            ("accumulate", config.accumulate.to_string()),
            ("patchsize", config.patchsize.to_string()),
            ("samples", self.loader.images().to_string()),
            ("version", env!("CARGO_PKG_VERSION").to_string()),
        ]
        .into_iter()
        .chain(
            config
                .init_from
                .iter()
                .map(|model| ("init_from", model.display().to_string())),
        )
        .chain(
            config
                .teacher
                .iter()
                .map(|model| ("teacher", model.display().to_string())),
        )
        .chain((!config.repair.is_none()).then(|| (Repair::KEY, config.repair.to_string())))
        .chain(self.range.into_iter().flat_map(ModelRange::entries))
        .map(|(key, value)| (key.to_string(), value))
        .collect()
    }
}
