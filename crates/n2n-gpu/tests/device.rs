//! The network on a GPU against the same network on the CPU, and against PyTorch's results. `adapter` selects the
//! GPU.

mod adapter;
#[path = "../../n2n/tests/golden/fixture.rs"]
mod fixture;
#[path = "../../n2n/tests/golden/generator.rs"]
mod generator;

use n2n::batch::Batch;
use n2n::cpu::CpuNetwork;
use n2n::neighbors::{Neighbors, Target};
use n2n::network::{
    CleanBatch, Denoise, LossFactors, Losses, Method, Optimizer, Pixels, Sample, Train,
};
use n2n::noise::Noise;
use n2n::unet::UNet;
use n2n::weights::Weights;
use n2n::{Error, Result};
use n2n_gpu::{Adapter, GpuNetwork};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::fixture::{Fixture, assert_close};

/// Maximum RMS of a difference, relative to the RMS of the tensor.
const TOLERANCE: f64 = 1e-4;

const FACTORS: LossFactors = LossFactors {
    lambda1: 1.0,
    lambda2: 0.7,
    lambda: 1.3,
};

/// The network on the test device, if there is one.
fn on_device(weights: &Weights) -> Option<GpuNetwork> {
    let adapter = adapter::choose(Adapter::all(), |adapter| &adapter.name)?;
    Some(GpuNetwork::from_weights(&adapter, weights).unwrap())
}

/// Weights that give outputs of order 1, including biases.
fn weights(unet: UNet) -> Weights {
    generator::weights(3, &unet)
}

fn images(seed: u64, n: usize, h: usize, w: usize, c: usize) -> Batch {
    generator::images(seed, n, h, w, c)
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

fn assert_same(what: &str, got: &Weights, expected: &Weights) {
    for (name, expected) in &expected.tensors {
        let got = &got.tensors[name].data;
        assert_close(
            &format!("{what}: {name}"),
            got,
            &wide(&expected.data),
            TOLERANCE,
        );
    }
}

#[test]
fn a_forward_pass_gives_what_pytorch_gives() {
    for name in fixture::FORWARD {
        let fixture = Fixture::read(name);
        let Some(mut network) = on_device(&fixture.weights()) else {
            return;
        };
        let denoised = network.denoise(&fixture.images()).unwrap();
        assert_close(name, &denoised.data, &fixture.tensors["output"], TOLERANCE);
    }
}

#[test]
fn training_steps_give_the_losses_gradients_and_weights_of_pytorch() {
    for name in fixture::STEPS {
        let fixture = Fixture::read(name);
        let Some(mut network) = on_device(&fixture.weights()) else {
            return;
        };
        let noisy = fixture.images();
        let factors = fixture.factors();
        let mut compared = 0;
        for (k, expected) in (1..).zip(fixture.tensors["losses"].chunks(3)) {
            let draw = generator::pairs(fixture.seed(), k, &noisy);
            let rate = fixture.number("learning_rate");
            let losses = network.step(&noisy, &draw, factors, rate).unwrap();
            let losses = [losses.loss1, losses.loss2, losses.loss_full];
            for (got, expected) in losses.iter().zip(expected) {
                assert!(
                    (got - expected).abs() <= TOLERANCE * expected.abs(),
                    "{name}, step {k}: expected the losses {expected:?}, got {losses:?}"
                );
            }
            if k == 1 {
                compared += fixture.compare("gradient", &network.gradients().unwrap(), TOLERANCE);
            }
            let weights = network.weights().unwrap();
            compared += fixture.compare(&format!("weights_{k}"), &weights, TOLERANCE);
        }
        assert_eq!(compared + 1, fixture.tensors.len(), "{name}: left over");
    }
}

#[test]
fn odd_shapes_give_what_the_cpu_gives() {
    // Sizes around those of tiles and blocks, in every dimension that matters.
    for (f, c, n, h, w) in [
        (1, 1, 1, 32, 32),
        (8, 3, 2, 64, 32),
        (5, 4, 1, 32, 96),
        (47, 3, 1, 64, 32),
        (3, 5, 3, 96, 64),
    ] {
        let weights = weights(UNet::new(f, c).unwrap());
        let Some(mut network) = on_device(&weights) else {
            return;
        };
        let noisy = images(f as u64, n, h, w, c);
        let expected = CpuNetwork::from_weights(&weights)
            .unwrap()
            .denoise(&noisy)
            .unwrap();
        let denoised = network.denoise(&noisy).unwrap();
        let case = format!("F = {f}, {n} of {h}x{w}x{c}");
        assert_close(&case, &denoised.data, &wide(&expected.data), TOLERANCE);
        // A different size after it, then the first again.
        let other = images(9, 1, 32, 32, c);
        let expected = CpuNetwork::from_weights(&weights)
            .unwrap()
            .denoise(&other)
            .unwrap();
        let got = network.denoise(&other).unwrap();
        assert_close(&case, &got.data, &wide(&expected.data), TOLERANCE);
        assert!(network.denoise(&noisy).unwrap() == denoised, "{case}");
    }
}

/// A network on blocks of pixels, of other sizes than the paper's.
fn in_blocks(n_feature: usize, n_channel: usize, n_depth: usize, pixel_shuffle: usize) -> Weights {
    let unet = UNet {
        n_depth,
        head_width: 3 * n_feature,
        pixel_shuffle,
        ..UNet::new(n_feature, n_channel).unwrap()
    };
    weights(unet)
}

#[test]
fn networks_on_blocks_of_pixels_give_what_the_cpu_gives() {
    for (weights, n, h, w) in [
        (in_blocks(8, 3, 4, 2), 2, 64, 96),
        (in_blocks(3, 1, 2, 3), 1, 24, 48),
    ] {
        let Some(mut network) = on_device(&weights) else {
            return;
        };
        let mut cpu = CpuNetwork::from_weights(&weights).unwrap();
        let unet = network.architecture();
        let noisy = images(4, n, h, w, unet.n_channel);
        let (got, want) = (network.denoise(&noisy), cpu.denoise(&noisy));
        let (got, want) = (got.unwrap(), want.unwrap());
        assert_close(&unet.to_string(), &got.data, &wide(&want.data), TOLERANCE);
        network.set_half(true);
        let half = network.denoise(&noisy).unwrap();
        assert_close("half", &half.data, &wide(&want.data), 2e-3);

        let patches = images(5, n, 2 * h, 2 * w, unet.n_channel);
        let draw = generator::pairs(1, 1, &patches);
        let losses = network.step(&patches, &draw, FACTORS, 1e-3).unwrap();
        let expected = cpu.step(&patches, &draw, FACTORS, 1e-3).unwrap();
        for (got, want) in [
            (losses.loss1, expected.loss1),
            (losses.loss2, expected.loss2),
        ] {
            assert!((got / want - 1.0).abs() < TOLERANCE, "{got} {want}");
        }
        let what = unet.to_string();
        assert_same(&what, &network.gradients().unwrap(), &cpu.gradients());
    }
}

#[test]
fn half_precision_takes_half_of_the_memory_for_a_small_error() {
    let weights = weights(UNet::new(47, 3).unwrap());
    let Some(mut network) = on_device(&weights) else {
        return;
    };
    let noisy = images(7, 2, 64, 96, 3);
    let full = network.denoise(&noisy).unwrap();
    let (bytes, name) = (network.working_bytes(512, 512), network.device());
    network.set_half(true);
    let half = network.denoise(&noisy).unwrap();
    assert!(half != full);
    assert_close("half", &half.data, &wide(&full.data), 2e-3);
    // The image and the result take the same memory as before.
    let ratio = network.working_bytes(512, 512) as f64 / bytes as f64;
    assert!((0.5..0.55).contains(&ratio), "{ratio}");
    assert_eq!(network.device(), format!("{name}, half precision"));

    // Values beyond the range of halves are stored as the largest half.
    let mut bright = noisy.clone();
    bright.data.iter_mut().for_each(|value| *value *= 1e6);
    let denoised = network.denoise(&bright).unwrap();
    assert!(denoised.data.iter().all(|value| value.is_finite()));

    // Training does not use half precision.
    let square = images(7, 1, 64, 64, 3);
    let draw = generator::pairs(1, 1, &square);
    let mut other = on_device(&weights).unwrap();
    let losses = other.step(&square, &draw, FACTORS, 1e-3).unwrap();
    assert_eq!(network.step(&square, &draw, FACTORS, 1e-3).unwrap(), losses);
    network.set_half(false);
    network.set_weights(&weights).unwrap();
    assert!(network.denoise(&noisy).unwrap() == full);
}

fn assert_same_losses(case: &str, got: Losses, expected: Losses) {
    for (got, expected) in [
        (got.loss1, expected.loss1),
        (got.loss2, expected.loss2),
        (got.loss_full, expected.loss_full),
    ] {
        assert!(
            (got / expected - 1.0).abs() < TOLERANCE,
            "{case}: {got} {expected}"
        );
    }
}

/// The tensors whose names `wanted` accepts, end to end.
fn values(weights: &Weights, wanted: impl Fn(&str) -> bool) -> Vec<f32> {
    let tensors = weights.tensors.iter().filter(|(name, _)| wanted(name));
    tensors
        .flat_map(|(_, tensor)| tensor.data.clone())
        .collect()
}

/// All tensors, end to end.
fn values_of(weights: &Weights) -> Vec<f32> {
    values(weights, |_| true)
}

#[test]
fn three_steps_give_what_the_cpu_gives_in_odd_shapes() {
    for (f, c, n, h, w) in [(2, 1, 2, 64, 64), (9, 3, 1, 128, 64), (6, 4, 3, 64, 192)] {
        let weights = weights(UNet::new(f, c).unwrap());
        let Some(mut network) = on_device(&weights) else {
            return;
        };
        let mut cpu = CpuNetwork::from_weights(&weights).unwrap();
        let noisy = images(2, n, h, w, c);
        let case = format!("F = {f}, {n} of {h}x{w}x{c}");
        for k in 1..=3 {
            let draw = generator::pairs(1, k, &noisy);
            let losses = network.step(&noisy, &draw, FACTORS, 1e-3).unwrap();
            let expected = cpu.step(&noisy, &draw, FACTORS, 1e-3).unwrap();
            assert_same_losses(&case, losses, expected);
            if k == 1 {
                assert_same(&case, &network.gradients().unwrap(), &cpu.gradients());
            }
            // All weights together, because Adam amplifies gradients that are nearly zero, and a bias of two values
            // may have only those.
            let (got, expected) = (
                values_of(&network.weights().unwrap()),
                values_of(&cpu.weights()),
            );
            assert_close(&case, &got, &wide(&expected), TOLERANCE);
            assert_eq!(network.state().unwrap().steps, k);
        }
    }
}

/// The methods that differ from the paper's in one part, and the recipe's, which differs in all.
fn methods() -> [Method; 4] {
    let paper = Method::default();
    let mean = Method {
        target: Target::Mean,
        ..paper
    };
    let one = Method {
        regularized_patches: Some(1),
        ..paper
    };
    let muon = Method {
        optimizer: Optimizer::Muon,
        ..paper
    };
    let all = Method {
        target: Target::Mean,
        regularized_patches: Some(2),
        ..muon
    };
    [mean, one, muon, all]
}

#[test]
fn every_method_gives_what_it_gives_on_the_cpu() {
    let [.., recipe] = methods();
    // Of more channels than a tile of Muon's products.
    let (channels_24, blocks) = (weights(UNet::new(24, 3).unwrap()), in_blocks(8, 3, 3, 2));
    for (case, weights, methods) in [
        ("narrow", weights(UNet::new(6, 3).unwrap()), &methods()[..]),
        ("wide", channels_24, &[recipe]),
        ("in blocks", blocks, &[recipe]),
    ] {
        let unet = weights.architecture().unwrap();
        let side = 2 * unet.grid().multiple;
        let noisy = images(2, 3, side, 2 * side, unet.n_channel);
        for &method in methods {
            let Some(mut network) = on_device(&weights) else {
                return;
            };
            let mut cpu = CpuNetwork::from_weights(&weights).unwrap();
            network.set_method(method).unwrap();
            cpu.set_method(method).unwrap();
            let case = format!("{case}, {method}");
            // Each of the three patches has its turn at the regularizer.
            for k in 1..=3 {
                let draw = generator::pairs(1, k, &noisy);
                let losses = network.step(&noisy, &draw, FACTORS, 1e-3).unwrap();
                let expected = cpu.step(&noisy, &draw, FACTORS, 1e-3).unwrap();
                assert_same_losses(&format!("{case}, step {k}"), losses, expected);
                if k == 1 {
                    let (got, expected) = (
                        values_of(&network.gradients().unwrap()),
                        values_of(&cpu.gradients()),
                    );
                    assert_close(&case, &got, &wide(&expected), TOLERANCE);
                }
                let (got, expected) = (network.weights().unwrap(), cpu.weights());
                for kind in ["weight", "bias"] {
                    let of_kind = |weights: &Weights| values(weights, |name| name.ends_with(kind));
                    let (got, expected) = (of_kind(&got), wide(&of_kind(&expected)));
                    assert_close(
                        &format!("{case}, {kind}, step {k}"),
                        &got,
                        &expected,
                        TOLERANCE,
                    );
                }
            }
        }
    }
}

#[test]
fn a_step_on_several_batches_gives_what_it_gives_on_the_cpu() {
    let weights = weights(UNet::new(5, 3).unwrap());
    let Some(mut network) = on_device(&weights) else {
        return;
    };
    let mut cpu = CpuNetwork::from_weights(&weights).unwrap();
    let [.., method] = methods();
    network.set_method(method).unwrap();
    cpu.set_method(method).unwrap();
    for step in 0..2 {
        let samples: Vec<_> = (1..=3)
            .map(|k| {
                let noisy = images(10 * step + k, 3, 64, 64, 3);
                let draw = generator::pairs(step, k, &noisy);
                Sample::Noisy(noisy, draw)
            })
            .collect();
        let losses = Train::step(&mut network, &samples, FACTORS, 1e-3).unwrap();
        let expected = Train::step(&mut cpu, &samples, FACTORS, 1e-3).unwrap();
        assert_same_losses("three batches", losses.unwrap(), expected.unwrap());
        for (what, got, expected) in [
            ("gradient", network.gradients().unwrap(), cpu.gradients()),
            ("weights", network.weights().unwrap(), cpu.weights()),
        ] {
            assert_close(
                what,
                &values_of(&got),
                &wide(&values_of(&expected)),
                TOLERANCE,
            );
        }
        assert_eq!(network.state().unwrap().steps, step + 1);
    }
}

#[test]
fn the_batches_of_a_step_may_hold_bytes_or_floats() {
    let weights = weights(UNet::new(2, 1).unwrap());
    let (Some(mut network), Some(mut mixed)) = (on_device(&weights), on_device(&weights)) else {
        return;
    };
    let bytes: Vec<_> = (0..3).map(|seed| clean(2, 1, seed)).collect();
    let mut floats = bytes.clone();
    let Pixels::U8(values) = &bytes[1].pixels else {
        unreachable!()
    };
    floats[1].pixels = Pixels::F32(values.iter().map(|&v| f32::from(v) / 255.0).collect());
    let gradient = |network: &mut GpuNetwork, batches: Vec<CleanBatch>| {
        let samples: Vec<_> = batches.into_iter().map(Sample::Clean).collect();
        Train::step(network, &samples, FACTORS, 1e-3).unwrap();
        values_of(&network.gradients().unwrap())
    };
    let (got, expected) = (gradient(&mut mixed, floats), gradient(&mut network, bytes));
    assert_close("gradient", &got, &wide(&expected), TOLERANCE);
}

#[test]
fn a_method_replaces_the_one_before_it() {
    let weights = weights(UNet::new(3, 1).unwrap());
    let Some(mut network) = on_device(&weights) else {
        return;
    };
    let mut cpu = CpuNetwork::from_weights(&weights).unwrap();
    let noisy = images(2, 2, 64, 64, 1);
    for (k, method) in (1..).zip(methods()) {
        network.set_method(method).unwrap();
        cpu.set_method(method).unwrap();
        // The regularizer counts in every other step only.
        let factors = LossFactors {
            lambda: if k % 2 == 0 { 0.0 } else { 1.3 },
            ..FACTORS
        };
        let draw = generator::pairs(1, k, &noisy);
        let losses = network.step(&noisy, &draw, factors, 1e-3).unwrap();
        let expected = cpu.step(&noisy, &draw, factors, 1e-3).unwrap();
        assert!((losses.loss_full / expected.loss_full - 1.0).abs() < TOLERANCE);
        let (got, expected) = (
            values_of(&network.weights().unwrap()),
            values_of(&cpu.weights()),
        );
        assert_close(&method.to_string(), &got, &wide(&expected), TOLERANCE);
    }
    let half = Method {
        half: true,
        ..Method::default()
    };
    let error = network.set_method(half).unwrap_err().to_string();
    assert!(error.contains("without half precision"), "{error}");
}

#[test]
fn the_losses_of_several_clean_batches_are_their_mean() {
    let weights = weights(UNet::new(2, 1).unwrap());
    let Some(mut network) = on_device(&weights) else {
        return;
    };
    let mut mean = Losses::default();
    for seed in 0..4 {
        network.set_weights(&weights).unwrap();
        network
            .step_on_clean(&clean(2, 1, seed), FACTORS, 1e-3)
            .unwrap();
        mean = mean + 0.25 * network.take_losses().unwrap();
    }
    network.set_weights(&weights).unwrap();
    let samples: Vec<_> = (0..4)
        .map(|seed| Sample::Clean(clean(2, 1, seed)))
        .collect();
    assert_eq!(
        Train::step(&mut network, &samples, FACTORS, 1e-3).unwrap(),
        None
    );
    assert_same_losses("four batches", network.take_losses().unwrap(), mean);
    assert_eq!(network.state().unwrap().steps, 1);
    // One batch that fails is enough for no update.
    let before = network.state().unwrap();
    for bad in [0, 3] {
        let mut samples = samples.clone();
        samples[bad] = Sample::Clean(CleanBatch {
            pixels: Pixels::F32(vec![f32::INFINITY; 2 * 64 * 64]),
            ..clean(2, 1, 0)
        });
        Train::step(&mut network, &samples, FACTORS, 1e-3).unwrap();
        assert!(!network.take_losses().unwrap().loss_full.is_finite());
        assert!(network.state().unwrap() == before, "{bad}");
    }
    // A step that cannot be completed is not begun.
    let mut short = samples.clone();
    short[3] = Sample::Clean(CleanBatch {
        pixels: Pixels::U8(vec![0; 5]),
        ..clean(2, 1, 0)
    });
    assert!(Train::step(&mut network, &short, FACTORS, 1e-3).is_err());
    assert_eq!(network.take_losses().unwrap().loss1, 0.0);
    // Batches of different sizes would not have one mean.
    let other = [Sample::Clean(clean(2, 1, 1)), Sample::Clean(clean(1, 1, 1))];
    let error = Train::step(&mut network, &other, FACTORS, 1e-3).unwrap_err();
    let want =
        "batches of a step: expected 2 clean patches of 64x64x1, found 1 clean patch of 64x64x1";
    assert_eq!(error.to_string(), want);
}

/// Clean patches of `Pixels::U8`, with noise to be drawn.
fn clean(n: usize, c: usize, seed: u64) -> CleanBatch {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    CleanBatch {
        n,
        side: 64,
        c,
        pixels: Pixels::U8((0..n * 64 * 64 * c).map(|_| rng.random()).collect()),
        noise: "gauss25".parse::<Noise>().unwrap(),
        augment: true,
        seed,
    }
}

/// Steps with noise drawn on the device, with a running average, and their losses.
fn advance(network: &mut GpuNetwork, seeds: std::ops::Range<u64>) -> Result<Losses> {
    for seed in seeds {
        network.step_on_clean(&clean(2, 1, seed), FACTORS, 1e-3)?;
        network.average(0.9);
    }
    network.take_losses()
}

#[test]
fn a_network_resumes_from_a_state_bit_for_bit() {
    // Its biases are updated by Adam.
    let [.., method] = methods();
    let weights = weights(UNet::new(4, 1).unwrap());
    let Some(mut network) = on_device(&weights) else {
        return;
    };
    network.set_method(method).unwrap();
    let untrained = network.state().unwrap();
    assert_eq!(untrained.weights, weights);
    advance(&mut network, 0..2).unwrap();
    let state = network.state().unwrap();
    assert_eq!(state.steps, 2);
    let losses = advance(&mut network, 2..4).unwrap();
    let expected = network.state().unwrap();
    assert!(expected.weights != state.weights && expected.average != state.average);

    network.set_state(&untrained).unwrap();
    assert!(network.state().unwrap() == untrained);
    let mut another = on_device(&weights).unwrap();
    another.set_method(method).unwrap();
    for other in [&mut another, &mut network] {
        other.set_state(&state).unwrap();
        assert!(other.state().unwrap() == state);
        assert_eq!(advance(other, 2..4).unwrap(), losses);
        assert!(other.state().unwrap() == expected);
    }
    // Different draws lead to different weights.
    network.set_state(&state).unwrap();
    assert_ne!(advance(&mut network, 3..5).unwrap(), losses);
}

#[test]
fn the_average_is_swapped_with_the_weights_and_back() {
    let weights = weights(UNet::new(2, 1).unwrap());
    let Some(mut network) = on_device(&weights) else {
        return;
    };
    let mut cpu = CpuNetwork::from_weights(&weights).unwrap();
    network.swap_average();
    assert!(network.weights().unwrap() == weights);
    let noisy = images(4, 1, 64, 64, 1);
    for k in 1..=3 {
        let draw = generator::pairs(1, k, &noisy);
        let sample = Sample::Noisy(noisy.clone(), draw);
        for network in [&mut network as &mut dyn Train, &mut cpu] {
            network
                .step(std::slice::from_ref(&sample), FACTORS, 1e-3)
                .unwrap();
            network.average(0.75);
        }
    }
    let last = network.weights().unwrap();
    network.swap_average();
    cpu.swap_average();
    let got = network.weights().unwrap();
    for (name, expected) in &cpu.weights().tensors {
        assert_close(name, &got.tensors[name].data, &wide(&expected.data), 1e-3);
    }
    assert!(got != last);
    network.swap_average();
    assert!(network.weights().unwrap() == last);
}

#[test]
fn losses_are_the_sums_since_they_were_last_asked_for() {
    let weights = weights(UNet::new(2, 1).unwrap());
    let Some(mut network) = on_device(&weights) else {
        return;
    };
    let mut sums = [0.0; 2];
    for seed in 0..3 {
        let losses = advance(&mut network, seed..seed + 1).unwrap();
        sums[0] += losses.loss1;
        sums[1] += losses.loss2;
    }
    network.set_weights(&weights).unwrap();
    let losses = advance(&mut network, 0..3).unwrap();
    for (got, sum) in [losses.loss1, losses.loss2].into_iter().zip(sums) {
        assert!((got / sum - 1.0).abs() < 1e-5, "{got} {sum}");
    }
    assert!((losses.loss_full / (losses.loss1 + 0.7 * losses.loss2) - 1.0).abs() < 1e-12);
}

#[test]
fn after_a_step_that_fails_the_network_is_as_it_was_before() {
    // Its biases are updated by Adam.
    let [.., method] = methods();
    let weights = weights(UNet::new(2, 1).unwrap());
    let Some(mut network) = on_device(&weights) else {
        return;
    };
    network.set_method(method).unwrap();
    advance(&mut network, 0..2).unwrap();
    let good = network.state().unwrap();

    // Infinite on the device, although each factor is finite.
    let huge = LossFactors {
        lambda1: 1e38,
        ..FACTORS
    };
    for factors in [FACTORS, huge, FACTORS, FACTORS] {
        network
            .step_on_clean(&clean(2, 1, 7), factors, 1e-3)
            .unwrap();
        network.average(0.9);
    }
    let mut expected = on_device(&weights).unwrap();
    expected.set_method(method).unwrap();
    expected.set_state(&good).unwrap();
    expected
        .step_on_clean(&clean(2, 1, 7), FACTORS, 1e-3)
        .unwrap();
    expected.average(0.9);
    assert!(!network.take_losses().unwrap().loss_full.is_finite());
    assert!(network.state().unwrap() == expected.state().unwrap());
    // Training can continue from there.
    for network in [&mut network, &mut expected] {
        assert!(advance(network, 8..9).unwrap().loss_full.is_finite());
    }
    assert!(network.state().unwrap() == expected.state().unwrap());
}

#[test]
fn what_does_not_fit_into_memory_is_refused_and_the_error_says_what_fits() {
    let weights = weights(UNet::new(2, 1).unwrap());
    let Some(mut network) = on_device(&weights) else {
        return;
    };
    network.set_max_bytes(network.working_bytes(64, 64));
    assert!(network.denoise(&images(1, 1, 64, 64, 1)).is_ok());
    let error = network.denoise(&images(1, 1, 128, 64, 1)).unwrap_err();
    assert!(
        matches!(error, Error::OutOfMemory { fits: None, .. }),
        "{error}"
    );
    // Nothing is lost.
    assert!(network.denoise(&images(1, 1, 64, 64, 1)).is_ok());

    network.set_max_bytes(20 << 20);
    let error = network.step_on_clean(&clean(100, 1, 1), FACTORS, 1e-3);
    let Err(Error::OutOfMemory {
        asked,
        fits: Some(fits),
        ..
    }) = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(asked, "a training step on 100x64x64 pixels");
    let n: usize = fits.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(fits, format!("a batch of {n}"));
    let mut step = |n| network.step_on_clean(&clean(n, 1, 1), FACTORS, 1e-3);
    assert!(step(n).is_ok() && step(n + 1).is_err());
}

#[test]
fn images_the_network_cannot_take_are_refused() {
    let weights = weights(UNet::new(2, 3).unwrap());
    let Some(mut network) = on_device(&weights) else {
        return;
    };
    for (n, h, w, c) in [
        (1, 33, 32, 3),
        (1, 0, 32, 3),
        (0, 32, 32, 3),
        (1, 32, 32, 1),
    ] {
        assert!(
            network.denoise(&Batch::zeros(n, h, w, c)).is_err(),
            "{n} {h} {w} {c}"
        );
    }
    let small = Batch::zeros(1, 32, 32, 3);
    let draw = Neighbors::draw(&small, &mut ChaCha8Rng::seed_from_u64(1));
    assert!(network.step(&small, &draw, FACTORS, 1e-3).is_err());
    let mut short = clean(1, 3, 1);
    short.pixels = Pixels::U8(vec![0; 5]);
    assert!(network.step_on_clean(&short, FACTORS, 1e-3).is_err());
}
