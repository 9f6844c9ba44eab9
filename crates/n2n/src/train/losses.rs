//! The table of losses.

/// A row of the table of losses.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LossRow {
    /// Steps taken in all.
    pub step: u64,
    /// Epoch, counted from 1.
    pub epoch: usize,
    /// Steps taken in it.
    pub iteration: usize,
    /// Mean over the steps since the row before.
    pub loss1: f64,
    /// Likewise.
    pub loss2: f64,
    /// Likewise.
    pub loss_full: f64,
    /// Λ of the last of them.
    pub lambda: f64,
    /// Learning rate of the last of them.
    pub learning_rate: f64,
    /// Their rate, without what came between them.
    pub steps_per_s: f64,
    /// The part of their time in which the network waited for batches.
    pub waited: f64,
    /// Time of the run so far.
    pub elapsed_s: f64,
}
