//! The file that a run is resumed from: the weights, which any program can read, together with everything that the next
//! step depends on.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::network::{Losses, State};
use crate::train::dataset::Values;
use crate::train::event::StepStats;
use crate::train::validation::Merit;
use crate::unet::UNet;
use crate::weights::Weights;

/// The metadata entry with the [`Progress`].
const PROGRESS: &str = "training.progress";
/// The metadata entry with the number of updates, whichever the optimizer.
const STEPS: &str = "training.adam_steps";

/// The progress of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The current epoch, counted from 1.
    pub epoch: usize,
    /// Steps taken in it.
    pub iteration: usize,
    /// Steps taken in total.
    pub steps: u64,
    /// Whether the run is over.
    pub finished: bool,
    /// Elapsed time of the run in seconds.
    pub elapsed_s: f64,
    /// The best score of a snapshot so far; higher is better.
    pub best: Option<f64>,
    /// What that score is; `None` before the first one and in checkpoints of earlier versions.
    #[serde(default)]
    pub merit: Option<Merit>,
    /// Losses not yet written to the table of losses.
    pub pending: Pending,
    /// The lowest reconstruction loss in a row of that table.
    #[serde(default)]
    pub least_loss: Option<f64>,
    /// The data set's fingerprint.
    pub images: u64,
    /// Where its values lie; `None` in checkpoints of earlier versions.
    #[serde(default)]
    pub values: Option<Values>,
    /// The device.
    pub device: String,
    /// Lengths of the run's logs in bytes, by name.
    pub logs: BTreeMap<String, u64>,
}

/// Sums over the steps since the last row of the table of losses.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Pending {
    /// Steps.
    pub steps: u64,
    /// Their duration in seconds, including the wait for batches.
    pub elapsed_s: f64,
    /// The wait for batches, in seconds.
    pub waited_s: f64,
    /// Sum of their `loss1`.
    pub loss1: f64,
    /// Sum of their `loss2`.
    pub loss2: f64,
    /// Sum of their `loss_full`.
    pub loss_full: f64,
}

impl Pending {
    /// Adds the sums over other steps.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.elapsed_s += other.elapsed_s;
        self.waited_s += other.waited_s;
        self.loss1 += other.loss1;
        self.loss2 += other.loss2;
        self.loss_full += other.loss_full;
    }

    /// The means over the steps, of which there is at least one.
    pub fn means(&self) -> StepStats {
        let mean = |sum: f64| sum / self.steps as f64;
        StepStats {
            losses: Losses {
                loss1: mean(self.loss1),
                loss2: mean(self.loss2),
                loss_full: mean(self.loss_full),
            },
            elapsed_s: mean(self.elapsed_s - self.waited_s),
            waited_s: mean(self.waited_s),
        }
    }
}

/// Writes a checkpoint, whole or not at all. Read as a weight file, it contains the average of the weights if there is
/// one, and the weights otherwise. `metadata` says how they were trained.
pub fn write(
    path: &Path,
    state: &State,
    progress: &Progress,
    metadata: BTreeMap<String, String>,
) -> Result<()> {
    let mut weights = state.average.as_ref().unwrap_or(&state.weights).clone();
    weights.metadata.extend(metadata);
    let text = serde_json::to_string(progress).expect("numbers and strings");
    weights.metadata.insert(PROGRESS.into(), text);
    (weights.metadata).insert(STEPS.into(), state.steps.to_string());
    let raw = state
        .average
        .is_some()
        .then_some(("weights", &state.weights));
    let parts = [("first", &state.first), ("second", &state.second)];
    let training = parts.into_iter().chain(raw).flat_map(|(part, of)| {
        let tensors = of.tensors.iter();
        tensors.map(move |(name, tensor)| (format!("{part}.{name}"), tensor.clone()))
    });
    weights.write_with_training(training.collect(), path)
}

/// Reads what [`write`] wrote.
pub fn read(path: &Path) -> Result<(State, Progress)> {
    let wrong = |reason: String| Error::Weights {
        path: path.into(),
        reason,
    };
    let (mut shown, mut training) = Weights::read_with_training(path)?;
    let text = |key| {
        let found = shown.metadata.get(key);
        found.ok_or_else(|| wrong(format!("not a checkpoint: no {key:?} in its metadata")))
    };
    let progress: Progress = serde_json::from_str(text(PROGRESS)?)
        .map_err(|error| wrong(format!("the metadata {PROGRESS:?}: {error}")))?;
    if progress.epoch == 0 {
        return Err(wrong(format!(
            "the metadata {PROGRESS:?}: expected an epoch of at least 1, found 0"
        )));
    }
    let steps = text(STEPS)?.parse();
    let steps =
        steps.map_err(|_| wrong(format!("the metadata {STEPS:?}: expected a whole number")))?;
    // The sizes of the network belong to the weights; all other entries describe the run.
    let sizes = UNet::default().sizes().map(|(name, _)| name);
    shown
        .metadata
        .retain(|key, _| sizes[2..].contains(&key.as_str()));
    let mut part = |part: &str| {
        let (own, rest) = std::mem::take(&mut training)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(name, _)| name.starts_with(part));
        training = rest;
        let bare = |(name, tensor): (String, _)| (name[part.len()..].to_owned(), tensor);
        Weights {
            tensors: own.into_iter().map(bare).collect(),
            metadata: shown.metadata.clone(),
        }
    };
    let (first, second, raw) = (part("first."), part("second."), part("weights."));
    let (weights, average) = if raw.tensors.is_empty() {
        (shown, None)
    } else {
        (raw, Some(shown))
    };
    let state = State {
        weights,
        first,
        second,
        steps,
        average,
    };
    Ok((state, progress))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuNetwork;

    fn progress() -> Progress {
        Progress {
            epoch: 3,
            iteration: 17,
            steps: 217,
            finished: false,
            elapsed_s: 1.0 / 3.0,
            best: Some(28.123_456_789),
            merit: Some(Merit::Psnr),
            pending: Pending {
                steps: 17,
                loss1: 0.1 + 0.2,
                ..Pending::default()
            },
            least_loss: Some(1.0 / 7.0),
            images: u64::MAX,
            values: Some(Values {
                low: 99.0,
                median: 1.0 / 3.0 + 100.0,
                high: 65000.0,
            }),
            device: "cpu".into(),
            logs: BTreeMap::from([("train.log".to_string(), 123)]),
        }
    }

    fn state(average: bool) -> State {
        let weights = |seed| CpuNetwork::initial(UNet::new(2, 1).unwrap(), seed).weights();
        State {
            weights: weights(1),
            first: weights(2),
            second: weights(3),
            steps: 217,
            average: average.then(|| weights(4)),
        }
    }

    #[test]
    fn what_was_written_is_read_back_and_is_a_weight_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latest.safetensors");
        for average in [false, true] {
            let state = state(average);
            let metadata = BTreeMap::from([("noise".to_string(), "gauss25".to_string())]);
            write(&path, &state, &progress(), metadata).unwrap();
            let (read_state, read_progress) = read(&path).unwrap();
            assert!(read_state == state);
            assert_eq!(read_progress, progress());
            let weights = Weights::read(&path).unwrap();
            let expected = state.average.unwrap_or(state.weights);
            assert!(weights.tensors == expected.tensors);
            assert_eq!(weights.metadata["noise"], "gauss25");
        }
    }

    #[test]
    fn a_damaged_checkpoint_is_refused_and_an_earlier_one_without_checksum_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latest.safetensors");
        write(&path, &state(true), &progress(), BTreeMap::new()).unwrap();
        let good = std::fs::read(&path).unwrap();
        // The exponent of the last value of each half.
        for place in [good.len() - 1, good.len() / 2 / 4 * 4 - 1] {
            let mut damaged = good.clone();
            damaged[place] ^= 0x20;
            std::fs::write(&path, damaged).unwrap();
            for error in [read(&path).err(), Weights::read(&path).err()] {
                let error = error.unwrap().to_string();
                assert!(
                    error.contains("latest.safetensors: the file is damaged"),
                    "{error}"
                );
            }
        }
        let text = good.windows(b"training.crc32".len());
        let place = text.into_iter().position(|text| text == b"training.crc32");
        let mut earlier = good.clone();
        earlier[place.unwrap() + 9] = b'x';
        std::fs::write(&path, earlier).unwrap();
        assert!(read(&path).unwrap().0 == state(true));
    }

    #[test]
    fn a_weight_file_is_no_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        state(false).weights.write(&path).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("not a checkpoint"), "{error}");
    }

    #[test]
    fn an_epoch_before_the_first_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latest.safetensors");
        let progress = Progress {
            epoch: 0,
            ..progress()
        };
        write(&path, &state(false), &progress, BTreeMap::new()).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("latest.safetensors"), "{error}");
        assert!(error.contains("expected an epoch of at least 1, found 0"));
    }

    #[test]
    fn a_checkpoint_of_an_earlier_version_has_no_values() {
        let mut text = serde_json::to_value(progress()).unwrap();
        for name in ["values", "merit"] {
            text.as_object_mut().unwrap().remove(name).unwrap();
        }
        let read: Progress = serde_json::from_value(text).unwrap();
        assert_eq!((read.values, read.merit), (None, None));
    }

    #[test]
    fn values_agree_up_to_the_differences_between_decoders() {
        let values = |low, median, high| Values { low, median, high };
        let photo = values(0.0, 110.0, 255.0);
        assert!(photo.agree(photo) && photo.agree(values(1.0, 109.0, 254.0)));
        assert!(!photo.agree(values(0.0, 140.0, 255.0)));
        let dark = values(455.0, 500.0, 545.0);
        assert!(!dark.agree(values(4550.0, 5000.0, 5450.0)));
        assert!(!dark.agree(values(475.0, 520.0, 565.0)));
        assert_eq!(dark.to_string(), "455 to 545, with a median of 500");
    }
}
