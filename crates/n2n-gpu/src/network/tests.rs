//! Tests of what a device draws, and of losing a device.

use n2n::cpu::CpuNetwork;
use n2n::network::Pixels as CleanPixels;

use super::*;

#[path = "../../tests/adapter/mod.rs"]
mod adapter;

/// A small network for images with `channels` channels, on the test device, if there is one.
fn network(channels: usize) -> Option<GpuNetwork> {
    let adapter = adapter::choose(Adapter::all(), |adapter| &adapter.name)?;
    let unet = UNet::new(1, channels).unwrap();
    let weights = CpuNetwork::initial(unet, 1).weights();
    Some(GpuNetwork::from_weights(&adapter, &weights).unwrap())
}

fn patches(n: usize, c: usize, noise: &str, value: impl Fn(usize) -> u8) -> CleanBatch {
    let side = 128;
    CleanBatch {
        n,
        side,
        c,
        pixels: CleanPixels::U8((0..n * side * side * c).map(value).collect()),
        noise: noise.parse().unwrap(),
        augment: false,
        seed: 0x0100_0000_004d,
    }
}

/// The noisy patches and the pairs that a step draws.
fn draw(network: &mut GpuNetwork, clean: &CleanBatch) -> (Batch, Vec<u32>) {
    network.load(clean, false).unwrap();
    network.numbers.seed = [clean.seed as u32, (clean.seed >> 32) as u32];
    network
        .device
        .write(&network.buffers.step, &[network.numbers]);
    let training = network.training.as_ref().unwrap();
    let draw = |encoder: &mut _| training.program.encode(encoder, training.draw.clone());
    network.device.submit(draw).unwrap();
    let noisy = training.program.buffer(training.noisy.id);
    let noisy = network.device.read(noisy, training.noisy.len()).unwrap();
    let padded = 4 * image_fours(&network.unet);
    for pixel in noisy.chunks_exact(padded) {
        assert!(pixel[clean.c..].iter().all(|&value: &f32| value == 0.0));
    }
    let shape = [clean.n, clean.side, clean.side];
    let cells = clean.n * clean.side * clean.side / 4;
    let pairs = training.program.buffer(training.pairs);
    let pairs = network.device.read(pairs, cells).unwrap();
    (network.unpadded(&noisy, shape), pairs)
}

/// Mean, variance, skewness and excess kurtosis.
fn moments(values: &(impl Iterator<Item = f64> + Clone)) -> [f64; 4] {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    let central = |k: i32| values.clone().map(|v| (v - mean).powi(k)).sum::<f64>() / n;
    let variance = central(2);
    [
        mean,
        variance,
        central(3) / variance.powf(1.5),
        central(4) / variance.powi(2) - 3.0,
    ]
}

#[test]
fn gaussian_noise_has_its_moments_and_no_pattern() {
    let Some(mut network) = network(3) else {
        return;
    };
    let clean = patches(4, 3, "gauss25", |_| 102);
    let (noisy, _) = draw(&mut network, &clean);
    let noise: Vec<f64> = noisy.data.iter().map(|&v| f64::from(v) - 0.4).collect();
    let sigma = 25.0 / 255.0;
    let [mean, variance, skewness, kurtosis] = moments(&noise.iter().copied());
    // Five standard errors each.
    let n = noise.len() as f64;
    assert!(mean.abs() < 5.0 * sigma / n.sqrt(), "{mean}");
    let spread = variance / (sigma * sigma) - 1.0;
    assert!(spread.abs() < 5.0 * (2.0 / n).sqrt(), "{spread}");
    assert!(skewness.abs() < 5.0 * (6.0 / n).sqrt(), "{skewness}");
    assert!(kurtosis.abs() < 5.0 * (24.0 / n).sqrt(), "{kurtosis}");
    // Uncorrelated with the next channel, pixel, row and image.
    for lag in [1, 2, 3, 128 * 3, 128 * 128 * 3] {
        let pairs = noise.iter().zip(&noise[lag..]);
        let correlation = pairs.map(|(a, b)| a * b).sum::<f64>() / n / variance;
        assert!(correlation.abs() < 5.0 / n.sqrt(), "{lag}: {correlation}");
    }
    // The tails are present: 63.3 of 1e6 lie beyond 4 standard deviations.
    let far = noise.iter().filter(|v| v.abs() > 4.0 * sigma).count() as f64;
    let expected = n * 6.334e-5;
    assert!(
        (far - expected).abs() < 5.0 * expected.sqrt(),
        "{far} {expected}"
    );
}

#[test]
fn levels_of_a_range_are_drawn_for_each_image() {
    let Some(mut network) = network(1) else {
        return;
    };
    let clean = patches(16, 1, "gauss5_50", |_| 102);
    let (noisy, _) = draw(&mut network, &clean);
    let mut levels: Vec<f64> = (0..16)
        .map(|i| {
            let image = noisy.image(i).iter().map(|&v| f64::from(v));
            255.0 * moments(&image)[1].sqrt()
        })
        .collect();
    levels.sort_by(f64::total_cmp);
    assert!(levels[0] > 4.8 && levels[15] < 51.0, "{levels:?}");
    assert!(
        levels.windows(2).all(|pair| pair[1] - pair[0] > 1e-3),
        "{levels:?}"
    );
    // A mean of 27.5 with a standard error of 3.2.
    let mean = levels.iter().sum::<f64>() / 16.0;
    assert!((mean - 27.5).abs() < 13.0, "{mean}");
}

#[test]
fn poisson_noise_has_the_mean_and_the_variance_of_its_rate() {
    let Some(mut network) = network(1) else {
        return;
    };
    for (noise, lam) in [
        ("poisson30", 30.0),
        ("poisson200", 200.0),
        ("poisson2", 2.0),
        ("poisson5000", 5000.0),
    ] {
        for value in [0u8, 3, 102, 255] {
            let clean = patches(2, 1, noise, |_| value);
            let (noisy, _) = draw(&mut network, &clean);
            let rate = lam * f64::from(value) / 255.0;
            let counts: Vec<f64> = noisy.data.iter().map(|&v| f64::from(v) * lam).collect();
            assert!(
                counts
                    .iter()
                    .all(|c| (c - c.round()).abs() < 1e-3 && *c > -1e-3)
            );
            let n = counts.len() as f64;
            let [mean, variance, ..] = moments(&counts.into_iter());
            let case = format!("{noise} at {value}: {mean} {variance} for {rate}");
            assert!((mean - rate).abs() <= 5.0 * (rate / n).sqrt(), "{case}");
            let error = (rate * (1.0 + 2.0 * rate) / n).sqrt();
            assert!((variance - rate).abs() <= 5.0 * error, "{case}");
        }
    }
}

#[test]
fn read_noise_adds_its_variance_to_that_of_shot_noise() {
    let Some(mut network) = network(1) else {
        return;
    };
    let clean = patches(8, 1, "poisson10+gauss25.5", |_| 102);
    let (noisy, _) = draw(&mut network, &clean);
    let n = noisy.data.len() as f64;
    let [mean, variance, ..] = moments(&noisy.data.iter().map(|&v| f64::from(v)));
    let expected = 0.4 / 10.0 + 0.01;
    assert!((mean - 0.4).abs() < 5.0 * (expected / n).sqrt(), "{mean}");
    // Drawn with the same random numbers, the two would be correlated and the variance almost twice as large.
    let error = (2.5 / n).sqrt() * expected;
    assert!((variance - expected).abs() < 5.0 * error, "{variance}");
}

#[test]
fn pairs_are_uniform_and_follow_from_the_seed() {
    let Some(mut network) = network(1) else {
        return;
    };
    let clean = patches(4, 1, "none", |_| 102);
    let (noisy, pairs) = draw(&mut network, &clean);
    assert!(noisy.data.iter().all(|&v| (v - 0.4).abs() < 1e-6));
    let mut counts = [0; 8];
    for &pair in &pairs {
        counts[pair as usize] += 1;
    }
    let expected = pairs.len() as f64 / 8.0;
    let chi: f64 = counts
        .map(|c| (f64::from(c) - expected).powi(2) / expected)
        .iter()
        .sum();
    // The 0.999 quantile at seven degrees of freedom.
    assert!(chi < 24.3, "{counts:?}");
    assert_eq!(draw(&mut network, &clean).1, pairs);
    let other = CleanBatch { seed: 5, ..clean };
    assert_ne!(draw(&mut network, &other).1, pairs);
}

#[test]
fn patches_are_turned_in_all_eight_ways_and_come_from_bytes_or_floats() {
    let Some(mut network) = network(3) else {
        return;
    };
    // Row, column and channel can all be recognized.
    let mut clean = patches(8, 3, "none", |i| {
        let (pixel, channel) = (i / 3 % (128 * 128), i % 3);
        [pixel / 128, pixel % 128, 7][channel] as u8
    });
    let (plain, _) = draw(&mut network, &clean);
    let CleanPixels::U8(bytes) = &clean.pixels else {
        unreachable!()
    };
    let floats: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect();
    // A device may divide by 255 with an error of its own.
    let apart = |a: &[f32], b: &[f32]| std::iter::zip(a, b).any(|(a, b)| (a - b).abs() > 1e-6);
    assert!(!apart(&plain.data, &floats));

    clean.augment = true;
    let mut ways = std::collections::BTreeSet::new();
    for seed in 0..8 {
        clean.seed = seed;
        let (turned, _) = draw(&mut network, &clean);
        for i in 0..clean.n {
            let at = |y: usize, x: usize| {
                let pixel = &turned.image(i)[(y * 128 + x) * 3..][..3];
                [0, 1, 2].map(|c| (pixel[c] * 255.0).round() as usize)
            };
            // Every turn moves a pixel to one of eight positions, with all of its channels.
            let [row, column, seven] = at(40, 9);
            assert_eq!(seven, 7);
            assert!([(40, 9), (9, 40)].iter().any(|&(a, b)| {
                (row == a || row == 127 - a) && (column == b || column == 127 - b)
            }));
            ways.insert((at(0, 0), at(0, 127)));
        }
    }
    assert_eq!(ways.len(), 8, "{ways:?}");

    let of_bytes = draw(&mut network, &clean);
    clean.pixels = CleanPixels::F32(floats);
    let of_floats = draw(&mut network, &clean);
    assert!(!apart(&of_floats.0.data, &of_bytes.0.data) && of_floats.1 == of_bytes.1);
}

#[test]
fn losses_not_yet_taken_are_part_of_those_of_the_next_step() {
    let (Some(mut one), Some(mut both)) = (network(1), network(1)) else {
        return;
    };
    let clean = patches(1, 1, "gauss25", |i| (i * 7919 % 251) as u8);
    let noisy = Batch::new(1, 128, 128, 1, vec![0.25; 128 * 128]);
    let neighbors = Neighbors {
        n: 1,
        h: 64,
        w: 64,
        pairs: vec![0; 64 * 64],
    };
    let factors = LossFactors {
        lambda1: 1.0,
        lambda2: 1.0,
        lambda: 0.0,
    };
    one.step_on_clean(&clean, factors, 1e-3).unwrap();
    let first = one.take_losses().unwrap().loss1;
    let second = one.step(&noisy, &neighbors, factors, 1e-3).unwrap().loss1;
    both.step_on_clean(&clean, factors, 1e-3).unwrap();
    let sum = both.step(&noisy, &neighbors, factors, 1e-3).unwrap().loss1;
    assert!(first > 0.0 && second > 0.0);
    assert!(
        (sum - first - second).abs() < 1e-6 * sum,
        "{first} + {second} = {sum}"
    );
    assert_eq!(both.steps, 2);
}

#[test]
fn a_lost_device_is_an_error_at_once() {
    let Some(mut network) = network(1) else {
        return;
    };
    let image = Batch::zeros(1, 64, 64, 1);
    assert!(network.denoise(&image).is_ok());
    network.device.destroy();
    let clean = patches(1, 1, "gauss25", |_| 0);
    let factors = LossFactors {
        lambda1: 1.0,
        lambda2: 1.0,
        lambda: 1.0,
    };
    network.average(0.9);
    network.swap_average();
    let errors = [
        network.denoise(&image).err(),
        network.step_on_clean(&clean, factors, 1e-3).err(),
        network.losses().err(),
        network.state().err(),
    ];
    for error in errors {
        assert!(matches!(error, Some(Error::Device { .. })), "{error:?}");
    }
}
