//! The losses of the steps, accumulated into rows of the tables, and the errors for losses that end a run.

use std::time::Instant;

use super::Run;
use crate::error::{Error, Result};
use crate::network::{LossFactors, Losses, Train};
use crate::train::checkpoint::Pending;
use crate::train::event::{Event, Step, StepStats};
use crate::train::folder::{EVENTS, LOSSES, RunFolder};
use crate::train::losses::LossRow;
use crate::train::tensorboard::{self, Value};

/// A reconstruction loss this many times the lowest of the run does not recover (docs/train.md).
const DIVERGED: f64 = 1e6;
/// A lower limit for the lowest loss: images may be black.
const LEAST: f64 = 1e-3;

/// Steps taken but not reported yet, and the sums of their times.
#[derive(Debug, Default)]
pub(super) struct PendingSteps {
    steps: u64,
    elapsed_s: f64,
    waited_s: f64,
}

impl Run<'_> {
    /// Counts a step.
    pub(super) fn count(&mut self, waiting: Instant, started: Instant) {
        self.progress.iteration += 1;
        self.progress.steps += 1;
        self.pending_steps.steps += 1;
        self.pending_steps.elapsed_s += started.elapsed().as_secs_f64();
        self.pending_steps.waited_s += (started - waiting).as_secs_f64();
    }

    /// Reads the losses of the pending steps from a device that reports them on demand. This happens before anything is
    /// saved and before the run ends.
    pub(super) fn sync_losses(&mut self, network: &mut dyn Train) -> Result<()> {
        if self.pending_steps.steps == 0 {
            return Ok(());
        }
        let started = Instant::now();
        let losses = network.take_losses()?;
        self.pending_steps.elapsed_s += started.elapsed().as_secs_f64();
        self.add_losses(network, losses)?;
        // Over all steps since the previous row, so that a line does not depend on earlier reads.
        self.stats = Some(self.progress.pending.means());
        Ok(())
    }

    /// Adds the pending steps, whose losses sum to `sums`, to the pending row of the table, and returns their means.
    pub(super) fn add_losses(&mut self, network: &dyn Train, sums: Losses) -> Result<StepStats> {
        let PendingSteps {
            steps,
            elapsed_s,
            waited_s,
        } = std::mem::take(&mut self.pending_steps);
        if !sums.loss_full.is_finite() {
            return Err(self.not_finite(network, steps)?);
        }
        let taken = Pending {
            steps,
            elapsed_s: elapsed_s + waited_s,
            waited_s,
            loss1: sums.loss1,
            loss2: sums.loss2,
            loss_full: sums.loss_full,
        };
        self.progress.pending.add(&taken);
        let stats = taken.means();
        let (loss, least) = (stats.losses.loss1, self.progress.least_loss);
        match least.map(|least| least.max(LEAST)) {
            Some(least) if loss > DIVERGED * least => Err(Error::Diverged {
                epoch: self.progress.epoch,
                iteration: self.progress.iteration,
                loss,
                least,
            }),
            _ => Ok(stats),
        }
    }

    /// The error for a non-finite loss among the last `steps`. The failed step is the first that the network has not
    /// counted, because its weights stay as they were before it.
    pub(super) fn not_finite(&self, network: &dyn Train, steps: u64) -> Result<Error> {
        let before = self.progress.steps - steps;
        let good = network.state()?.steps.saturating_sub(before);
        let good = good.min(steps - 1);
        let iteration = self.progress.iteration - (steps - good) as usize;
        let epoch = self.progress.epoch;
        Ok(Error::NotFinite {
            epoch,
            iteration: iteration + 1,
            images: self.loader.names(epoch, iteration).join(", "),
            checkpoint: self.folder.as_ref().map(RunFolder::latest),
        })
    }

    /// Records a step in tables, log and events.
    pub(super) fn record(
        &mut self,
        network: &mut dyn Train,
        losses: Option<Losses>,
        factors: LossFactors,
        rate: f64,
    ) -> Result<()> {
        if let Some(losses) = losses {
            self.stats = Some(self.add_losses(network, losses)?);
        }
        let (epoch, iteration) = (self.progress.epoch, self.progress.iteration);
        let logged = iteration.is_multiple_of(self.config.log_iters);
        let is_row = logged || iteration == self.loader.iterations();
        if is_row {
            self.sync_losses(network)?;
        }
        self.tick();
        if is_row {
            self.write_losses(factors.lambda, rate)?;
        }
        let passed = self.moment().passed;
        self.tell(&Event::Stepped(Step {
            epoch,
            iteration,
            stats: self.stats,
            lambda: factors.lambda,
            passed,
            logged,
        }))
    }

    /// Adds the means over the pending steps to the tables.
    pub(super) fn write_losses(&mut self, lambda: f64, rate: f64) -> Result<()> {
        let pending = std::mem::take(&mut self.progress.pending);
        let Losses {
            loss1,
            loss2,
            loss_full,
        } = pending.means().losses;
        let least = self
            .progress
            .least_loss
            .map_or(loss1, |least| least.min(loss1));
        self.progress.least_loss = Some(least);
        let row = LossRow {
            step: self.progress.steps,
            epoch: self.progress.epoch,
            iteration: self.progress.iteration,
            loss1,
            loss2,
            loss_full,
            lambda,
            learning_rate: rate,
            steps_per_s: pending.steps as f64 / pending.elapsed_s,
            waited: pending.waited_s / pending.elapsed_s,
            elapsed_s: self.progress.elapsed_s,
        };
        let Some(folder) = &self.folder else {
            return Ok(());
        };
        let mut table = csv::WriterBuilder::new()
            .has_headers(folder.is_empty(LOSSES))
            .from_writer(vec![]);
        let text = table
            .serialize(row)
            .map_err(std::io::Error::from)
            .and_then(|()| table.into_inner().map_err(csv::IntoInnerError::into_error))
            .map_err(Error::io(LOSSES))?;
        folder.append(LOSSES, &text)?;
        self.show(&[
            Value::Scalar("loss/loss1", row.loss1),
            Value::Scalar("loss/loss2", row.loss2),
            Value::Scalar("loss/loss_full", row.loss_full),
            Value::Scalar("schedule/lambda", lambda),
            Value::Scalar("schedule/learning_rate", rate),
            Value::Scalar("speed/steps_per_s", row.steps_per_s),
            Value::Scalar("speed/waited", row.waited),
        ])
    }

    /// Appends to the file for `TensorBoard`.
    pub(super) fn show(&self, values: &[Value]) -> Result<()> {
        let Some(folder) = self.folder.as_ref().filter(|_| !values.is_empty()) else {
            return Ok(());
        };
        let mut records = vec![];
        if folder.is_empty(EVENTS) {
            records.extend(tensorboard::header());
        }
        records.extend(tensorboard::values(self.progress.steps, values.to_vec()));
        folder.append(EVENTS, &records)
    }
}
