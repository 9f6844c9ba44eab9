//! The checkpoint that a run is resumed from: writing and reading it.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Run;
use crate::error::{Error, Result};
use crate::network::Train;
use crate::train::checkpoint::{self, Pending, Progress};
use crate::train::dataset::Values;
use crate::train::event::Event;
use crate::train::folder::{CONFIG, RunFolder};

impl Run<'_> {
    /// Continues an interrupted run from its checkpoint, or from the beginning if there is none.
    pub(super) fn resume(&mut self, network: &mut dyn Train) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let latest = folder.latest();
        if !latest.exists() {
            return folder.cut_logs(&BTreeMap::new());
        }
        let (state, mut progress) = checkpoint::read(&latest)?;
        if progress.images != self.progress.images {
            return Err(Error::value(
                format!("images in {}", self.config.data_dir.display()),
                "the images that the run was started with, with the same names and sizes",
                "others; restore the images, or start a new run",
            ));
        }
        match (progress.values, self.progress.values) {
            (Some(expected), found) if found.is_none_or(|found| !expected.agree(found)) => {
                let found = found.map_or("a single value".into(), |found| found.to_string());
                return Err(Error::value(
                    format!("values of the images in {}", self.config.data_dir.display()),
                    format!("{expected}, as when the run was started"),
                    format!("{found}; restore the images, or start a new run"),
                ));
            }
            (None, found) => progress.values = found,
            _ => {}
        }
        let iterations = self.loader.iterations();
        if progress.iteration > iterations {
            return Err(Error::value(
                "iterations per epoch",
                format!(
                    "at least {}, as many as {} records for epoch {}",
                    progress.iteration,
                    latest.display(),
                    progress.epoch
                ),
                format!(
                    "{iterations}; restore steps_per_epoch, batchsize and accumulate in {CONFIG}, or start a new run"
                ),
            ));
        }
        network.set_state(&state)?;
        folder.cut_logs(&progress.logs)?;
        let device = std::mem::replace(&mut self.progress, progress).device;
        let before = std::mem::replace(&mut self.progress.device, device);
        self.kept = Some((Instant::now(), self.progress.epoch, self.progress.iteration));
        (self.observe)(&Event::Resumed {
            epoch: self.progress.epoch,
            iteration: self.progress.iteration,
            steps: self.progress.steps,
            other_device: (before != self.progress.device).then_some(before),
        });
        Ok(())
    }

    /// Writes the checkpoint that the run can be resumed from.
    pub(super) fn write_resume_checkpoint(&mut self, network: &mut dyn Train) -> Result<()> {
        self.sync_losses(network)?;
        self.progress.logs = self.log_lengths()?;
        self.write_checkpoint(network)
    }

    pub(super) fn log_lengths(&self) -> Result<BTreeMap<String, u64>> {
        let lengths = self.folder.as_ref().map(RunFolder::log_lengths);
        Ok(lengths.transpose()?.unwrap_or_default())
    }

    pub(super) fn write_checkpoint(&mut self, network: &dyn Train) -> Result<()> {
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let path = folder.latest();
        let (epoch, iteration) = (self.progress.epoch, self.progress.iteration);
        let metadata = self.metadata(epoch);
        folder.sync_logs()?;
        checkpoint::write(&path, &network.state()?, &self.progress, metadata)?;
        self.kept = Some((Instant::now(), epoch, iteration));
        (self.observe)(&Event::LatestSaved { path });
        Ok(())
    }

    /// Adds the checkpoint that was kept to an error of writing, of the device or of the run.
    pub(super) fn with_checkpoint(&self, error: Error) -> Error {
        let reason = match error {
            Error::Io { .. }
            | Error::Image { .. }
            | Error::Device { .. }
            | Error::OutOfMemory { .. }
            | Error::Diverged { .. } => Box::new(error),
            error => return error,
        };
        match (&self.folder, self.kept) {
            (Some(folder), Some((_, epoch, iteration))) => Error::RunEnded {
                reason,
                checkpoint: folder.latest(),
                epoch,
                iteration,
            },
            _ => *reason,
        }
    }
}

impl Progress {
    pub(super) fn new(images: u64, values: Option<Values>, device: String) -> Self {
        Self {
            epoch: 1,
            iteration: 0,
            steps: 0,
            finished: false,
            elapsed_s: 0.0,
            best: None,
            merit: None,
            pending: Pending::default(),
            least_loss: None,
            images,
            values,
            device,
            logs: BTreeMap::new(),
        }
    }
}
