//! The fixtures of `tests/golden/network`: what `PyTorch` gave for the weights and images of
//! [`generator`]. Every device is compared with them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use n2n::batch::Batch;
use n2n::network::LossFactors;
use n2n::unet::UNet;
use n2n::weights::Weights;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::generator;

/// Those of forward passes.
pub const FORWARD: [&str; 5] = [
    "forward_f4_c3",
    "forward_f4_c1",
    "forward_f5_c2",
    "forward_f7_c3",
    "forward_f48_c3",
];
/// Those of training steps.
pub const STEPS: [&str; 3] = ["step", "step_factors", "step_lambda_0"];

/// A file of `tests/golden/network`.
pub struct Fixture {
    name: String,
    /// What it was made from.
    case: Value,
    pub tensors: BTreeMap<String, Vec<f64>>,
}

impl Fixture {
    pub fn read(name: &str) -> Self {
        let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let tensors = SafeTensors::deserialize(&bytes)
            .unwrap()
            .iter()
            .map(|(name, view)| (name.to_owned(), values(view.dtype(), view.data())))
            .collect();
        Self {
            name: name.to_owned(),
            case: serde_json::from_str(&header.metadata().as_ref().unwrap()["case"]).unwrap(),
            tensors,
        }
    }

    pub fn number(&self, key: &str) -> f64 {
        self.case[key].as_f64().unwrap()
    }

    fn integer(&self, key: &str) -> u64 {
        self.case[key].as_u64().unwrap()
    }

    pub fn seed(&self) -> u64 {
        self.integer("seed")
    }

    /// The factors of its loss.
    pub fn factors(&self) -> LossFactors {
        LossFactors {
            lambda1: self.number("lambda1"),
            lambda2: self.number("lambda2"),
            lambda: self.number("lambda_"),
        }
    }

    /// The weights it was made with.
    pub fn weights(&self) -> Weights {
        let unet = UNet::new(
            self.integer("n_feature") as usize,
            self.integer("n_channel") as usize,
        );
        generator::weights(self.seed(), &unet.unwrap())
    }

    pub fn images(&self) -> Batch {
        let [n, h, w, c] = ["n", "h", "w", "n_channel"].map(|key| self.integer(key) as usize);
        generator::images(self.seed(), n, h, w, c)
    }

    /// Compares the tensors stored as `<group>/<name>` and gives their number.
    pub fn compare(&self, group: &str, got: &Weights, tolerance: f64) -> usize {
        let mut compared = 0;
        for (key, expected) in &self.tensors {
            if let Some(tensor) = key
                .strip_prefix(group)
                .and_then(|rest| rest.strip_prefix('/'))
            {
                assert_close(
                    &format!("{}: {key}", self.name),
                    &got.tensors[tensor].data,
                    expected,
                    tolerance,
                );
                compared += 1;
            }
        }
        compared
    }
}

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/network")
}

fn values(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        Dtype::F32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| f32::from_le_bytes(b).into())
            .collect(),
        Dtype::F64 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&b| f64::from_le_bytes(b))
            .collect(),
        other => panic!("a fixture of {other:?}"),
    }
}

/// Fails when the RMS of the difference, over the RMS of the tensor, is above `tolerance`.
pub fn assert_close(what: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let difference = rms(got.iter().zip(expected).map(|(&g, e)| f64::from(g) - e));
    let relative = difference / rms(expected.iter().copied());
    // Not `>`: a NaN must fail.
    assert!(relative <= tolerance, "{what}: relative RMS {relative:.1e}");
}

pub fn rms(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    (values.map(|v| v * v).sum::<f64>() / n).sqrt()
}
