//! The table of losses.

/// A row of the table of losses.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LossRow {
    /// Steps taken in total.
    pub step: u64,
    /// Epoch, counted from 1.
    pub epoch: usize,
    /// Steps taken in it.
    pub iteration: usize,
    /// Mean of `loss1` over the steps since the previous row.
    pub loss1: f64,
    /// Mean of `loss2`, likewise.
    pub loss2: f64,
    /// Mean of `loss_full`, likewise.
    pub loss_full: f64,
    /// Λ of the last of these steps.
    pub lambda: f64,
    /// Learning rate of the last of these steps.
    pub learning_rate: f64,
    /// Steps per second, excluding the time between steps.
    pub steps_per_s: f64,
    /// The fraction of their time that was spent waiting for batches, 0 to 1.
    pub waited: f64,
    /// Time of the run so far.
    pub elapsed_s: f64,
}
