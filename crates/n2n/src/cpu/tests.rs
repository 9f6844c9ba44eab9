use super::*;
use crate::neighbors::Target;
use crate::network::{Denoise, Sample, Train};

/// Weights that all affect the output: with the initial ones, outputs are too small to differ.
pub(crate) fn strong_weights(channels: usize) -> Weights {
    let unet = UNet::new(2, channels).unwrap();
    let mut weights = CpuNetwork::initial(unet, 5).weights();
    for (name, tensor) in &mut weights.tensors {
        for (i, value) in tensor.data.iter_mut().enumerate() {
            *value = if name.ends_with("bias") {
                (i % 7) as f32 * 0.02
            } else {
                *value * 12.0
            };
        }
    }
    weights
}

#[test]
fn initial_weights_have_the_references_spread() {
    let unet = UNet::default();
    let network = CpuNetwork::initial(unet, 1);
    for (i, layer) in unet.layers().iter().enumerate() {
        let (weight, bias) = crate::unet::layer_range(&network.layers, i);
        let weight = &network.parameters[weight];
        let n = weight.len() as f64;
        let square: f64 = weight.iter().map(|&w| f64::from(w).powi(2)).sum();
        let want = 0.1 * (2.0 / layer.fan_in() as f64).sqrt();
        // Six standard errors of the deviation of n normal draws.
        let bound = 6.0 * want / (2.0 * n).sqrt();
        assert!(((square / n).sqrt() - want).abs() < bound, "{}", layer.name);
        assert!(network.parameters[bias].iter().all(|&b| b == 0.0));
    }
}

#[test]
fn images_the_network_cannot_take_are_refused() {
    let mut network = CpuNetwork::initial(UNet::new(2, 3).unwrap(), 1);
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
}

#[test]
fn batches_and_draws_that_contradict_themselves_are_refused() {
    let mut network = CpuNetwork::initial(UNet::new(2, 1).unwrap(), 1);
    let before = network.state();
    let (noisy, neighbors) = drawn(1);
    let mut short = noisy.clone();
    short.data.pop();
    assert!(network.denoise(&short).is_err());
    let mut few = neighbors.clone();
    few.pairs.pop();
    let mut wild = neighbors.clone();
    wild.pairs[0] = 8;
    for (noisy, neighbors) in [(&short, &neighbors), (&noisy, &few), (&noisy, &wild)] {
        let factors = factors(1.0, 1.0, 0.5);
        assert!(network.step(noisy, neighbors, factors, 1e-3).is_err());
    }
    assert!(network.state() == before);
}

/// A step on noise that follows from `k`.
fn step(network: &mut CpuNetwork, k: u64, lambda: f64) -> Losses {
    let (noisy, neighbors) = drawn(k);
    let factors = factors(1.0, 1.0, lambda);
    network.step(&noisy, &neighbors, factors, 1e-3).unwrap()
}

fn factors(lambda1: f64, lambda2: f64, lambda: f64) -> LossFactors {
    LossFactors {
        lambda1,
        lambda2,
        lambda,
    }
}

/// Noise and neighbors that follow from `k`.
fn drawn(k: u64) -> (Batch, Neighbors) {
    let mut rng = ChaCha8Rng::seed_from_u64(k);
    let mut noisy = Batch::zeros(1, 64, 64, 1);
    noisy.data.fill_with(|| rng.random());
    let neighbors = Neighbors::draw(&noisy, &mut rng);
    (noisy, neighbors)
}

#[test]
fn merged_layers_learn_what_they_learn_one_after_the_other() {
    for (f, c) in [(2, 1), (5, 3), (24, 3)] {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let mut noisy = Batch::zeros(2, 64, 128, c);
        noisy.data.fill_with(|| rng.random());
        let neighbors = Neighbors::draw(&noisy, &mut rng);
        let [merged, apart] = [0, usize::MAX].map(|pixels| {
            let unet = UNet::new(f, c).unwrap();
            let mut network = CpuNetwork::initial_scaled(unet, 1.0, 1);
            network.merged_pixels = pixels;
            let factors = factors(1.0, 1.0, 0.5);
            let losses = network.step(&noisy, &neighbors, factors, 1e-3).unwrap();
            (losses.loss_full, network.gradients())
        });
        assert!((merged.0 - apart.0).abs() < 1e-5 * apart.0);
        assert!(merged.1 != apart.1, "the same path");
        for (name, want) in &apart.1.tensors {
            let got = &merged.1.tensors[name];
            let squares = |values: &mut dyn Iterator<Item = f32>| {
                values.map(|v| f64::from(v).powi(2)).sum::<f64>()
            };
            let gap = squares(&mut std::iter::zip(&got.data, &want.data).map(|(a, b)| a - b));
            let size = squares(&mut want.data.iter().copied());
            assert!(gap < 1e-10 * size, "{name}: {gap:e} of {size:e}");
        }
    }
}

/// For three images, because in some of them rounding decides an activation or a pooling, and the gradient jumps.
#[test]
fn merged_layers_have_the_gradient_of_the_image_that_they_have_one_after_the_other() {
    for (f, c) in [(2, 1), (5, 3)] {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let gaps = [(); 3].map(|()| {
            let mut images = Batch::zeros(1, 32, 64, c);
            images.data.fill_with(|| rng.random());
            let [merged, apart] = [0, usize::MAX].map(|pixels| {
                let unet = UNet::new(f, c).unwrap();
                let mut network = CpuNetwork::initial_scaled(unet, 1.0, 1);
                network.merged_pixels = pixels;
                let gradient = network.image_gradient(&images, Clone::clone);
                gradient.unwrap().data
            });
            assert!(merged != apart, "the same path");
            let square = |x: f32| f64::from(x).powi(2);
            let gap = std::iter::zip(&merged, &apart).map(|(a, b)| square(a - b));
            gap.sum::<f64>() / apart.iter().map(|&v| square(v)).sum::<f64>()
        });
        assert!(gaps.iter().all(|&gap| gap < 1e-2), "{gaps:?}");
        assert!(gaps.iter().any(|&gap| gap < 1e-10), "{gaps:?}");
    }
}

#[test]
fn a_network_resumes_from_a_state_bit_for_bit() {
    let unet = UNet::new(2, 1).unwrap();
    let mut network = CpuNetwork::initial(unet, 1);
    let advance = |network: &mut CpuNetwork, k| {
        step(network, k, 0.5);
        network.average(0.9);
    };
    let untrained = network.state();
    for k in 0..3 {
        advance(&mut network, k);
    }
    let state = network.state();
    assert_eq!(state.steps, 3);
    advance(&mut network, 3);
    let expected = network.state();
    assert_ne!(expected, state);

    // In another network, and in one that has moved on.
    let mut another = CpuNetwork::initial(unet, 2);
    for other in [&mut another, &mut network] {
        other.set_state(&state).unwrap();
        assert_eq!(other.state(), state);
        advance(other, 3);
        assert!(other.state() == expected);
        other.set_state(&untrained).unwrap();
        assert!(other.state() == untrained);
    }
}

#[test]
fn a_step_whose_loss_is_not_finite_leaves_no_trace() {
    let unet = UNet::new(2, 1).unwrap();
    let [mut network, mut twin] = [1, 1].map(|seed| CpuNetwork::initial(unet, seed));
    for network in [&mut network, &mut twin] {
        step(network, 0, 0.5);
    }
    let (state, gradients) = (network.state(), network.gradients());
    let (mut noisy, neighbors) = drawn(1);
    noisy.data[1000] = f32::NAN;
    let factors = factors(1.0, 1.0, 0.5);
    let losses = network.step(&noisy, &neighbors, factors, 1e-3).unwrap();
    assert!(losses.loss_full.is_nan());
    assert!(network.state() == state);
    assert!(network.gradients() == gradients);

    for network in [&mut network, &mut twin] {
        step(network, 2, 0.5);
    }
    assert!(network.state() == twin.state());
    assert!(network.gradients() == twin.gradients());
    assert!(network.gradients() != gradients);
}

/// The loss fits in f64, and its gradients do not in f32.
#[test]
fn a_step_whose_gradients_are_not_finite_shows_them_and_changes_nothing_else() {
    let unet = UNet::new(2, 1).unwrap();
    let [mut network, mut twin] = [1, 1].map(|seed| CpuNetwork::initial(unet, seed));
    for network in [&mut network, &mut twin] {
        step(network, 0, 0.5);
    }
    let state = network.state();
    let (noisy, neighbors) = drawn(1);
    let factors = factors(1e60, 1.0, 0.5);
    let losses = network.step(&noisy, &neighbors, factors, 1e-3).unwrap();
    assert!(losses.loss1.is_finite() && losses.loss_full.is_nan());
    assert!(network.state() == state);
    let gradients = network.gradients();
    for name in ["enc_conv0.weight", "nin_c.bias"] {
        let values = &gradients.tensors[name].data;
        assert!(values.iter().all(|value| !value.is_finite()), "{name}");
    }

    for network in [&mut network, &mut twin] {
        step(network, 2, 0.5);
    }
    assert!(network.state() == twin.state());
    assert!(network.gradients() == twin.gradients());
}

#[test]
fn a_state_of_another_network_changes_nothing() {
    let mut network = CpuNetwork::initial(UNet::new(2, 1).unwrap(), 1);
    let before = network.state();
    let mut state = before.clone();
    state.second = CpuNetwork::initial(UNet::new(3, 1).unwrap(), 1).weights();
    assert!(network.set_state(&state).is_err());
    assert!(network.state() == before);
}

#[test]
fn the_average_follows_the_weights_and_can_be_used_in_their_place() {
    let mut network = CpuNetwork::initial(UNet::new(2, 1).unwrap(), 1);
    network.swap_average();
    let mut expected: Option<Vec<f64>> = None;
    for k in 0..4 {
        step(&mut network, k, 0.5);
        network.average(0.75);
        let weights = network.parameters.iter().map(|&w| f64::from(w));
        expected = Some(match expected {
            None => weights.collect(),
            Some(average) => std::iter::zip(average, weights)
                .map(|(average, w)| 0.75 * average + 0.25 * w)
                .collect(),
        });
    }
    let raw = network.weights();
    let denoised = network.denoise(&Batch::zeros(1, 32, 32, 1)).unwrap();
    network.swap_average();
    for (got, want) in network.parameters.iter().zip(expected.unwrap()) {
        // Some roundings of f32, of weights that have moved by 1e-3 a step.
        assert!((f64::from(*got) - want).abs() <= 1e-6 * (want.abs() + 4e-3));
    }
    assert_ne!(
        network.denoise(&Batch::zeros(1, 32, 32, 1)).unwrap(),
        denoised
    );
    network.swap_average();
    assert_eq!(network.weights(), raw);
    assert_eq!(
        network.denoise(&Batch::zeros(1, 32, 32, 1)).unwrap(),
        denoised
    );
}

/// The last layers run in bands at the larger size and not at the smaller one; pixels of one vector and
/// of several.
#[test]
fn the_neighbors_of_a_denoised_batch_are_picked_on_the_way() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for c in [1, 3, 9, 17] {
        let mut network = CpuNetwork::initial_scaled(UNet::new(2, c).unwrap(), 1.0, 1);
        for (n, h, w, in_bands) in [(1, 64, 32, false), (3, 96, 160, true)] {
            let mut noisy = Batch::zeros(n, h, w, c);
            noisy.data.fill_with(|| rng.random());
            assert_eq!(network.ends_in_bands(shape(&noisy)), in_bands);
            let neighbors = Neighbors::draw(&noisy, &mut rng);
            let whole = network.denoise(&noisy).unwrap();
            let picked = network.infer_neighbors(&noisy, &neighbors, Target::Drawn);
            assert!(picked == neighbors.sub_sample(&whole), "{n} of {h}x{w}x{c}");
        }
    }
}

/// The gradient of a step with a method, from the same weights whatever was learned before.
fn gradient_of(
    method: Method,
    noisy: &Batch,
    neighbors: &Neighbors,
    steps: u64,
) -> (Losses, Weights) {
    let mut network = CpuNetwork::initial_scaled(UNet::new(4, noisy.c).unwrap(), 1.0, 1);
    let state = State {
        steps,
        ..network.state()
    };
    network.set_state(&state).unwrap();
    network.set_method(method).unwrap();
    let factors = factors(1.0, 1.0, 1.5);
    let losses = network.step(noisy, neighbors, factors, 1e-3).unwrap();
    (losses, network.gradients())
}

fn mean_of(gradients: &[Weights]) -> Vec<f64> {
    let all = |weights: &Weights| -> Vec<f32> {
        let tensors = weights.tensors.values();
        tensors.flat_map(|tensor| tensor.data.clone()).collect()
    };
    let mut mean = vec![0.0; all(&gradients[0]).len()];
    for gradient in gradients {
        for (mean, value) in mean.iter_mut().zip(all(gradient)) {
            *mean += f64::from(value) / gradients.len() as f64;
        }
    }
    mean
}

fn assert_same_gradient(got: &[f64], want: &[f64]) {
    let gap: f64 = got.iter().zip(want).map(|(g, w)| (g - w).powi(2)).sum();
    let size: f64 = want.iter().map(|w| w * w).sum();
    assert!(gap < 1e-9 * size, "{gap:e} of {size:e}");
}

/// The gradient is linear in the constant `exp_diff`, so its mean over a full rotation of the patches is the paper's.
#[test]
fn the_regularizer_of_some_patches_in_turn_has_the_papers_gradient_on_average() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut noisy = Batch::zeros(4, 64, 64, 1);
    noisy.data.fill_with(|| rng.random());
    let neighbors = Neighbors::draw(&noisy, &mut rng);
    let (paper, gradient) = gradient_of(Method::default(), &noisy, &neighbors, 0);
    let want = mean_of(&[gradient]);
    for patches in 1..=4 {
        let method = Method {
            regularized_patches: Some(patches),
            ..Method::default()
        };
        let turns: Vec<_> = (0..4)
            .map(|steps| gradient_of(method, &noisy, &neighbors, steps))
            .collect();
        let loss2 = turns.iter().map(|(losses, _)| losses.loss2).sum::<f64>() / 4.0;
        // Batches of other sizes go other ways through the kernels.
        assert!((loss2 - paper.loss2).abs() < 1e-5 * paper.loss2);
        assert!(turns.iter().all(|(losses, _)| losses.loss1 == paper.loss1));
        let gradients: Vec<_> = turns.into_iter().map(|(_, gradient)| gradient).collect();
        assert_same_gradient(&mean_of(&gradients), &want);
        if patches < 4 {
            assert!(gradients[0] != gradients[1]);
        } else {
            assert_same_gradient(&mean_of(&gradients[..1]), &want);
        }
    }
}

/// Two batches that together are `whole`, each with its half of the neighbors.
fn halves(whole: &Batch, neighbors: &Neighbors) -> Vec<Sample> {
    let n = whole.n / 2;
    let (pixels, cells) = (whole.data.len() / 2, neighbors.pairs.len() / 2);
    let parts = std::iter::zip(whole.data.chunks(pixels), neighbors.pairs.chunks(cells));
    let samples = parts.map(|(data, pairs)| {
        let noisy = Batch::new(n, whole.h, whole.w, whole.c, data.to_vec());
        let pairs = pairs.to_vec();
        Sample::Noisy(
            noisy,
            Neighbors {
                n,
                pairs,
                ..*neighbors
            },
        )
    });
    samples.collect()
}

#[test]
fn a_step_on_several_batches_is_one_on_all_their_patches() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut noisy = Batch::zeros(4, 64, 64, 1);
    noisy.data.fill_with(|| rng.random());
    let neighbors = Neighbors::draw(&noisy, &mut rng);
    let factors = factors(1.0, 0.7, 1.5);
    let initial = || CpuNetwork::initial_scaled(UNet::new(4, 1).unwrap(), 1.0, 1);
    let (mut one, mut two) = (initial(), initial());
    let want = one.step(&noisy, &neighbors, factors, 1e-3).unwrap();
    let samples = halves(&noisy, &neighbors);
    let got = Train::step(&mut two, &samples, factors, 1e-3)
        .unwrap()
        .unwrap();
    for (got, want) in [
        (got.loss1, want.loss1),
        (got.loss2, want.loss2),
        (got.loss_full, want.loss_full),
    ] {
        assert!((got - want).abs() < 1e-5 * want, "{got} {want}");
    }
    assert_same_gradient(&mean_of(&[two.gradients()]), &mean_of(&[one.gradients()]));
    assert_eq!((one.state().steps, two.state().steps), (1, 1));

    // Toward targets, likewise.
    let target = Batch {
        data: noisy.data.iter().map(|x| 1.0 - x).collect(),
        ..noisy.clone()
    };
    let pair = |sample: &Sample| match sample {
        Sample::Noisy(noisy, _) => {
            let data = noisy.data.iter().map(|x| 1.0 - x).collect();
            (
                noisy.clone(),
                Batch {
                    data,
                    ..noisy.clone()
                },
            )
        }
        Sample::Clean(_) => unreachable!(),
    };
    let (mut one, mut two) = (initial(), initial());
    let want = one.step_towards(&noisy, &target, 1e-3).unwrap();
    let pairs: Vec<_> = samples.iter().map(pair).collect();
    let got = Train::step_towards(&mut two, &pairs, 1e-3).unwrap();
    assert!((got.loss1 - want.loss1).abs() < 1e-5 * want.loss1);
    assert_same_gradient(&mean_of(&[two.gradients()]), &mean_of(&[one.gradients()]));
}

/// In the first of two equal batches, the first patch is regularized, in the second the other.
#[test]
fn the_batches_of_a_step_take_turns_at_the_regularizer() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut noisy = Batch::zeros(2, 64, 64, 1);
    noisy.data.fill_with(|| rng.random());
    let neighbors = Neighbors::draw(&noisy, &mut rng);
    let (_, paper) = gradient_of(Method::default(), &noisy, &neighbors, 0);
    let sample = Sample::Noisy(noisy, neighbors);
    let mut network = CpuNetwork::initial_scaled(UNet::new(4, 1).unwrap(), 1.0, 1);
    let method = Method {
        regularized_patches: Some(1),
        ..Method::default()
    };
    network.set_method(method).unwrap();
    let samples = [sample.clone(), sample];
    Train::step(&mut network, &samples, factors(1.0, 1.0, 1.5), 1e-3).unwrap();
    assert_same_gradient(&mean_of(&[network.gradients()]), &mean_of(&[paper]));
}

#[test]
fn a_step_with_one_batch_that_is_not_finite_changes_nothing() {
    for bad in 0..2 {
        let mut network = CpuNetwork::initial_scaled(UNet::new(2, 1).unwrap(), 1.0, 1);
        step(&mut network, 0, 1.0);
        let (before, gradients) = (network.state(), network.gradients());
        let mut samples = [drawn(1), drawn(2)];
        samples[bad].0.data[5] = f32::NAN;
        let samples = samples.map(|(noisy, neighbors)| Sample::Noisy(noisy, neighbors));
        let losses = Train::step(&mut network, &samples, factors(1.0, 1.0, 1.0), 1e-3);
        assert!(!losses.unwrap().unwrap().loss_full.is_finite());
        assert!(network.state() == before && network.gradients() == gradients);
    }
    let mut network = CpuNetwork::initial(UNet::new(2, 1).unwrap(), 1);
    let error = Train::step(&mut network, &[], factors(1.0, 1.0, 1.0), 1e-3).unwrap_err();
    assert!(error.to_string().contains("at least one"), "{error}");
}

/// `exp_diff` is small beside the loss, and its rounding smaller still.
#[test]
fn a_regularizer_in_half_precision_changes_the_gradient_by_its_rounding_only() {
    use n2n_kernels::half::Units;
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut noisy = Batch::zeros(2, 64, 64, 1);
    noisy.data.fill_with(|| rng.random());
    let neighbors = Neighbors::draw(&noisy, &mut rng);
    let factors = LossFactors {
        lambda1: 1.0,
        lambda2: 1.0,
        lambda: 2.0,
    };
    let step = |units| {
        let mut network = CpuNetwork::initial_scaled(UNet::new(4, 1).unwrap(), 1.0, 1);
        network.regularizer_half = units;
        let losses = network.step(&noisy, &neighbors, factors, 1e-3).unwrap();
        let gradient = network.learning.unwrap().gradients;
        (losses, gradient)
    };
    let (want, exact) = step(None);
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>().sqrt();
    for units in std::iter::once(Units::portable()).chain(Units::detect()) {
        let (losses, gradient) = step(Some(units));
        assert!(losses.loss1 == want.loss1);
        let ratio = losses.loss2 / want.loss2;
        assert!(
            ratio != 1.0 && (ratio - 1.0).abs() < 0.01,
            "{units:?}: {ratio}"
        );
        let gap = norm(&mut gradient.iter().zip(&exact).map(|(g, w)| g - w));
        let ratio = gap / norm(&mut exact.iter().copied());
        assert!(ratio > 0.0 && ratio < 0.02, "{units:?}: {ratio}");
    }
}

/// Two draws with the same first pixels, each with the second pixels that the other leaves out: the mean over both is
/// the expectation over the second pixel.
#[test]
fn the_mean_target_has_the_papers_gradient_on_average() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut noisy = Batch::zeros(2, 64, 64, 2);
    noisy.data.fill_with(|| rng.random());
    let drawn = Neighbors::draw(&noisy, &mut rng);
    let mut other = drawn.clone();
    for pair in &mut other.pairs {
        let (first, second) = crate::neighbors::PAIRS[usize::from(*pair)];
        let at = crate::neighbors::PAIRS
            .iter()
            .position(|&pair| pair == (first, 3 - second));
        *pair = at.unwrap() as u8;
    }
    let paper =
        [&drawn, &other].map(|neighbors| gradient_of(Method::default(), &noisy, neighbors, 0).1);
    let method = Method {
        target: Target::Mean,
        ..Method::default()
    };
    let (_, mean) = gradient_of(method, &noisy, &drawn, 0);
    assert_same_gradient(&mean_of(&[mean]), &mean_of(&paper));
}

#[test]
fn muon_resumes_from_a_state_bit_for_bit_and_differs_from_adam_in_the_hidden_weights_alone() {
    let unet = UNet::new(4, 1).unwrap();
    let method = Method {
        optimizer: network::Optimizer::Muon,
        ..Method::default()
    };
    let mut one = CpuNetwork::initial(unet, 1);
    one.set_method(method).unwrap();
    let mut by_adam = CpuNetwork::initial(unet, 1);
    for k in 0..2 {
        step(&mut one, k, 0.5);
        step(&mut by_adam, k, 0.5);
    }
    let mut two = CpuNetwork::initial(unet, 2);
    two.set_method(method).unwrap();
    two.set_state(&one.state()).unwrap();
    step(&mut one, 2, 0.5);
    step(&mut two, 2, 0.5);
    assert!(one.state() == two.state());

    let mut start = CpuNetwork::initial(unet, 1);
    start.set_method(method).unwrap();
    let mut adam = CpuNetwork::initial(unet, 1);
    step(&mut start, 0, 0.5);
    step(&mut adam, 0, 0.5);
    let (muon, adam) = (start.weights(), adam.weights());
    for (name, tensor) in &muon.tensors {
        let hidden = name.ends_with(".weight")
            && !["enc_conv0.weight", "nin_c.weight"].contains(&name.as_str());
        assert_eq!(*tensor != adam.tensors[name], hidden, "{name}");
    }
}

#[test]
fn a_step_towards_targets_compares_pixels_in_networks_of_blocks_too() {
    let unet = UNet {
        n_depth: 2,
        pixel_shuffle: 2,
        ..UNet::new(4, 3).unwrap()
    };
    let mut network = CpuNetwork::initial_scaled(unet, 1.0, 1);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let [noisy, target] = [(); 2].map(|()| {
        let mut batch = Batch::zeros(2, 24, 16, 3);
        batch.data.fill_with(|| rng.random());
        batch
    });
    let denoised = network.denoise(&noisy).unwrap();
    let pairs = denoised.data.iter().zip(&target.data);
    let squares = pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let want = squares / target.data.len() as f64;
    let loss = network.step_towards(&noisy, &target, 1e-3).unwrap().loss1;
    assert!((loss - want).abs() < 1e-5 * want, "{loss} {want}");
}

/// A regularizer whose factor λ2 is 0 leaves the same gradients as one with Λ = 0; the first is
/// computed with both forward passes.
#[test]
fn a_step_without_the_second_forward_is_that_of_a_regularizer_without_weight() {
    let unet = UNet::new(2, 1).unwrap();
    let (mut short, mut long) = (CpuNetwork::initial(unet, 1), CpuNetwork::initial(unet, 1));
    let (noisy, neighbors) = drawn(5);
    let step = |network: &mut CpuNetwork, lambda2, lambda| {
        let factors = factors(1.0, lambda2, lambda);
        network.step(&noisy, &neighbors, factors, 1e-3).unwrap()
    };
    let without = step(&mut short, 1.0, 0.0);
    let with = step(&mut long, 0.0, 1.0);
    assert_eq!((without.loss1, without.loss2), (with.loss1, 0.0));
    assert_eq!(without.loss_full, with.loss_full);
    assert!(with.loss2 > 0.0);
    assert!(short.state() == long.state());
}

/// Rounding every layer to eight bits causes an error of about 1 % of the result's spread; a misplaced channel or tap
/// would cause one as large as the spread itself.
#[test]
fn half_precision_is_full_precision_but_for_rounding() {
    use n2n_kernels::half::Units;
    let tall = |n_depth, head_width, pixel_shuffle, n_channel| UNet {
        n_feature: 20,
        n_channel,
        n_depth,
        head_width,
        pixel_shuffle,
    };
    let networks = [
        tall(5, 40, 1, 3),
        tall(1, 33, 1, 1),
        tall(2, 16, 2, 3),
        tall(3, 48, 2, 2),
    ];
    for (seed, unet) in networks.into_iter().enumerate() {
        let mut network = CpuNetwork::initial_scaled(unet, 1.0, seed as u64);
        // Biases are zero at first.
        let parameters = Arc::make_mut(&mut network.parameters);
        for tensor in unet.tensors().iter().filter(|t| t.name.ends_with("bias")) {
            for (k, bias) in parameters[tensor.offset..][..tensor.len()]
                .iter_mut()
                .enumerate()
            {
                *bias = 0.1 - 0.02 * (k % 11) as f32;
            }
        }
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut noisy = Batch::zeros(2, 64, 96, unet.n_channel);
        noisy.data.fill_with(|| rng.random());
        let want = network.denoise(&noisy).unwrap();
        let found = Units::detect();
        for units in std::iter::once(Units::portable()).chain(found) {
            network.half = Some(units);
            // The second time in memory that the first has left dirty.
            for _ in 0..2 {
                let got = network.denoise(&noisy).unwrap();
                let mean = want.data.iter().sum::<f32>() / want.data.len() as f32;
                let square = |values: &mut dyn Iterator<Item = f32>| -> f32 {
                    values.map(|v| v * v).sum::<f32>() / want.data.len() as f32
                };
                let spread = square(&mut want.data.iter().map(|v| v - mean));
                let error = square(&mut want.data.iter().zip(&got.data).map(|(w, g)| w - g));
                let ratio = (error / spread).sqrt();
                assert!(ratio < 0.02, "{unet} on {units:?}: {ratio}");
            }
            network.half = None;
        }
        assert!(network.denoise(&noisy).unwrap() == want);
    }
}

/// A network in half precision on any processor: slow where there are no matrix units.
pub(crate) fn in_half(mut network: CpuNetwork) -> CpuNetwork {
    use n2n_kernels::half::Units;
    network.half = Some(Units::detect().unwrap_or_else(Units::portable));
    network
}

/// Also for images so small that most layers are computed in other ways.
#[test]
fn the_memory_that_is_planned_is_all_that_is_taken() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let names = ["paper", "fast", "fastest"].map(|name| crate::unet::named(name).unwrap());
    for unet in names.into_iter().chain([UNet::new(5, 1).unwrap()]) {
        for (n, h, w) in [(1, 32, 32), (3, 64, 96), (1, 320, 64)] {
            let mut network = CpuNetwork::initial(unet, 1);
            let mut noisy = Batch::zeros(n, h, w, unet.n_channel);
            noisy.data.fill_with(|| rng.random());
            let results =
                [(usize::MAX, usize::MAX), (0, usize::MAX), (0, 0)].map(|(merged, banded)| {
                    (network.merged_pixels, network.banded_pixels) = (merged, banded);
                    network.arena.clear();
                    let result = network.denoise(&noisy).unwrap();
                    let planned = network.plan(shape(&noisy)).bytes();
                    assert_eq!(network.arena.bytes(), planned, "{unet}, {n} of {h}x{w}");
                    result.data
                });
            // Bands change no result.
            assert_eq!(results[1], results[2], "{unet}, {n} of {h}x{w}");
        }
    }
}

/// The memory kept between calls is all that was in use at once, because memory is freed only when a larger piece
/// replaces it.
#[test]
fn an_image_takes_the_memory_that_is_stated() {
    let narrow = UNet {
        n_feature: 32,
        head_width: 64,
        ..UNet::default()
    };
    let fast = crate::unet::named("fast").unwrap();
    let has_units = CpuNetwork::matrix_units().is_some();
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1);
    one_thread.build().unwrap().install(|| {
        for (unet, half, sizes) in [
            (UNet::default(), false, [(512, 512), (768, 512)]),
            // One more level in bands.
            (UNet::default(), false, [(1024, 1024), (1280, 1024)]),
            (fast, false, [(1024, 1024), (1536, 1024)]),
            (UNet::default(), true, [(256, 512), (512, 512)]),
            (fast, true, [(512, 512), (1024, 512)]),
            (narrow, true, [(64, 256), (96, 256)]),
        ] {
            if half && !has_units && unet != narrow {
                continue;
            }
            let of = |(h, w)| {
                let mut network = CpuNetwork::initial(unet, 1);
                if half {
                    network = in_half(network);
                }
                for _ in 0..2 {
                    network.denoise(&Batch::zeros(1, h, w, 3)).unwrap();
                }
                let mut taken = network.arena.bytes() + network.spare.bytes();
                if !half {
                    let c = unet.n_channel;
                    let plan = network.plan(Shape { n: 1, h, w, c });
                    assert_eq!(taken, plan.bytes(), "{unet}, {h}x{w}");
                }
                if half && unet.pixel_shuffle > 1 {
                    // The image in blocks.
                    taken += 4 * 3 * h * w;
                }
                (taken as f64, network.working_bytes(h, w) as f64)
            };
            let [small, large] = sizes.map(of);
            let what = format!("{unet}, half {half}: {small:?}, {large:?}");
            assert!(small.0 <= small.1 && large.0 <= large.1, "{what}");
            if unet == narrow {
                // Tensors of such small images are often kept in memory of the next larger size.
                continue;
            }
            // Apart from what does not depend on the height.
            let (taken, said) = (large.0 - small.0, large.1 - small.1);
            assert!(taken <= said && said <= 1.5 * taken, "{what}");
        }
    });
}
