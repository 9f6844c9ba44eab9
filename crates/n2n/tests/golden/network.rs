//! The network on the CPU: forward passes, and training steps with their losses, gradients and
//! weights.

use n2n::cpu::CpuNetwork;
use n2n::network::Denoise;
use n2n::unet::UNet;
use serde_json::Value;

use crate::fixture::{self, Fixture, assert_close, folder, rms};
use crate::generator;

/// Greatest RMS of a difference, over the RMS of the tensor. float32 itself is within 2e-6 here.
const TOLERANCE: f64 = 1e-5;

#[test]
fn a_forward_pass_gives_what_pytorch_gives() {
    for name in fixture::FORWARD {
        let fixture = Fixture::read(name);
        let noisy = fixture.images();
        let denoised = network(&fixture).denoise(&noisy).unwrap();
        assert_eq!(
            (denoised.n, denoised.h, denoised.w, denoised.c),
            (noisy.n, noisy.h, noisy.w, noisy.c)
        );
        assert_close(
            &format!("{name}: output"),
            &denoised.data,
            &fixture.tensors["output"],
            TOLERANCE,
        );
    }
}

#[test]
fn training_steps_give_the_losses_gradients_and_weights_of_pytorch() {
    for name in fixture::STEPS {
        let fixture = Fixture::read(name);
        let noisy = fixture.images();
        let factors = fixture.factors();
        let mut network = network(&fixture);
        let mut compared = 0;
        for (k, expected) in (1..).zip(fixture.tensors["losses"].chunks(3)) {
            let draw = generator::pairs(fixture.seed(), k, &noisy);
            let losses = network
                .step(&noisy, &draw, factors, fixture.number("learning_rate"))
                .unwrap();
            for (got, expected) in [losses.loss1, losses.loss2, losses.loss_full]
                .iter()
                .zip(expected)
            {
                assert!(
                    (got - expected).abs() <= TOLERANCE * expected.abs(),
                    "{name}, step {k}: expected the losses {expected:?}, got {losses:?}"
                );
            }
            if k == 1 {
                compared += fixture.compare("gradient", &network.gradients(), TOLERANCE);
            }
            compared += fixture.compare(&format!("weights_{k}"), &network.weights(), TOLERANCE);
        }
        assert_eq!(compared + 1, fixture.tensors.len(), "{name}: left over");
    }
}

#[test]
fn initial_weights_are_kaiming_normal_times_a_tenth() {
    let text = std::fs::read_to_string(folder().join("initialization.json")).unwrap();
    let facts: Value = serde_json::from_str(&text).unwrap();
    let unet = UNet::new(
        facts["n_feature"].as_u64().unwrap() as usize,
        facts["n_channel"].as_u64().unwrap() as usize,
    )
    .unwrap();
    let weights = CpuNetwork::initial(unet, 1).weights();
    let spreads = facts["standard_deviation"].as_object().unwrap();
    assert!(weights.tensors.keys().eq(spreads.keys()));

    let (mut within_one, mut all) = (0, 0);
    for (name, spread) in spreads {
        let values = &weights.tensors[name].data;
        let expected = spread.as_f64().unwrap();
        if expected == 0.0 {
            assert!(values.iter().all(|&v| v == 0.0), "{name} is not zero");
            continue;
        }
        // Five standard errors of the mean and of the standard deviation of normal values.
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let deviation = rms(values.iter().map(|&v| f64::from(v) - mean));
        assert!(
            mean.abs() < 5.0 * expected / n.sqrt(),
            "{name}: mean {mean}, standard deviation {expected}"
        );
        assert!(
            (deviation / expected - 1.0).abs() < 5.0 / (2.0 * n).sqrt(),
            "{name}: standard deviation {deviation}, expected {expected}"
        );
        within_one += values
            .iter()
            .filter(|v| f64::from(v.abs()) < expected)
            .count();
        all += values.len();
    }
    // A normal variable is within one standard deviation with probability 0.6827, a uniform one
    // with 0.577.
    let share = within_one as f64 / all as f64;
    assert!((share - 0.6827).abs() < 0.003, "{share}");
}

#[test]
fn initial_weights_follow_from_the_seed() {
    let unet = UNet::new(2, 3).unwrap();
    let weights = |seed| CpuNetwork::initial(unet, seed).weights();
    assert_eq!(weights(1), weights(1));
    assert_ne!(weights(1), weights(2));
}

fn network(fixture: &Fixture) -> CpuNetwork {
    CpuNetwork::from_weights(&fixture.weights()).unwrap()
}
