//! The paper's protocol from files to scores: noise, padding, network, rounding, metrics, means.

use std::path::PathBuf;

use n2n::cpu::CpuNetwork;
use n2n::eval::{Config, Set, evaluate};
use n2n::unet::UNet;
use n2n::weights::{Tensor, Weights};
use serde_json::Value;

use crate::generator;

/// Now and then a pixel lies so near to the middle between two bytes that a different rounding in
/// the network changes the byte: `PyTorch` in float32 is within 4e-5 dB and 2e-5 of `PyTorch` in float64, and
/// one byte of the smallest image may weigh 3e-4 dB. Every wrong padding, rounding, clipping, order
/// of images or draw that was tried moves some score by 7e-3 dB or more.
const PSNR_TOLERANCE_DB: f64 = 1e-3;
const SSIM_TOLERANCE: f64 = 2e-4;

#[test]
fn scores_are_those_of_the_reference_pipeline() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/eval");
    let text = std::fs::read_to_string(folder.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let unet = UNet::new(expected["n_feature"].as_u64().unwrap() as usize, 3).unwrap();
    let weights = smoothing_weights(expected["seed"].as_u64().unwrap(), &unet);
    let mut network = CpuNetwork::from_weights(&weights).unwrap();

    for (noise, expected_scores) in expected["scores"].as_object().unwrap() {
        let config = Config {
            val_dirs: folder.clone(),
            sets: vec![Set::Bsd300],
            repeats: Some(expected["repeats"].as_u64().unwrap() as usize),
            noise: noise.parse().unwrap(),
            ensemble: false,
            range: None,
        };
        let report = evaluate(&mut network, &config, |_| Ok(())).unwrap();

        let images = expected_scores["images"].as_array().unwrap();
        assert_eq!(report.images.len(), images.len(), "{noise}");
        for (got, expected) in report.images.iter().zip(images) {
            assert_eq!(got.repeat as u64, expected["repeat"].as_u64().unwrap());
            assert_eq!(got.name, expected["image"].as_str().unwrap());
            let what = format!("{noise}, {}, repeat {}", got.name, got.repeat);
            assert_close(&what, (got.psnr_db, got.ssim), expected);
        }
        let mean = (report.sets[0].psnr_db, report.sets[0].ssim);
        assert_close(&format!("{noise}, mean"), mean, expected_scores);
    }
}

fn assert_close(what: &str, (psnr_db, ssim): (f64, f64), expected: &Value) {
    let expected_psnr_db = expected["psnr_db"].as_f64().unwrap();
    let expected_ssim = expected["ssim"].as_f64().unwrap();
    assert!(
        (psnr_db - expected_psnr_db).abs() <= PSNR_TOLERANCE_DB
            && (ssim - expected_ssim).abs() <= SSIM_TOLERANCE,
        "{what}: {psnr_db} dB {ssim}, expected {expected_psnr_db} dB {expected_ssim}"
    );
}

/// `smoothing_network` of `tests/golden/make_eval.py`.
fn smoothing_weights(seed: u64, unet: &UNet) -> Weights {
    let mut weights = generator::weights(seed, unet);
    for layer in &unet.layers()[20..] {
        for part in ["weight", "bias"] {
            let tensor = tensor(&mut weights, &format!("{}.{part}", layer.name));
            tensor.data.iter_mut().for_each(|v| *v *= 0.125);
        }
    }
    for k in 0..unet.n_channel {
        let line = [0.25, 0.5, 0.25];
        for (ky, y) in line.iter().enumerate() {
            for (kx, x) in line.iter().enumerate() {
                let image = 2 * unet.n_feature + k;
                *value(&mut weights, "dec_conv1a.weight", [k, image, ky, kx]) += x * y;
            }
        }
        *value(&mut weights, "dec_conv1b.weight", [k, k, 1, 1]) += 1.0;
        for name in ["nin_a.weight", "nin_b.weight", "nin_c.weight"] {
            *value(&mut weights, name, [k, k, 0, 0]) += 1.0;
        }
    }
    weights
}

fn value<'a>(weights: &'a mut Weights, name: &str, index: [usize; 4]) -> &'a mut f32 {
    let tensor = tensor(weights, name);
    let flat = index
        .iter()
        .zip(&tensor.shape)
        .fold(0, |flat, (i, n)| flat * n + i);
    &mut tensor.data[flat]
}

fn tensor<'a>(weights: &'a mut Weights, name: &str) -> &'a mut Tensor {
    weights.tensors.get_mut(name).unwrap()
}
