//! Which images a run trains on, and their range.

use rand::seq::index;

use super::*;

#[test]
fn outputs_and_scored_images_are_not_trained_on() {
    let (folder, mut config) = workplace();
    config.data_dir = folder.path().into();
    let mut samples = vec![];
    for _ in 0..2 {
        overwrite(&config, &mut |event| {
            if let Event::Fetched { samples: count } = event {
                samples.push(*count);
            }
        })
        .unwrap();
    }
    assert_eq!(samples, [5, 5]);
}

#[test]
fn what_is_unusual_about_the_images_is_told_once() {
    let (folder, mut config) = workplace();
    fs::write(folder.path().join("images/broken.png"), "no image").unwrap();
    // As wide as a patch, but not as high; at least one of them is trained on.
    for name in ["wide.png", "wider.png"] {
        write_image(&folder.path().join("images").join(name), 64, 130, 7);
    }
    config.holdout = Some(1);
    config.patchsize = 128;
    let mut told = vec![];
    run(&config, &mut Recording::new(), &mut |event| {
        told.extend(match event {
            Event::Skipped { error } => Some(format!("skipped {error}")),
            Event::Padded { images, patchsize } => Some(format!("padded {images} {patchsize}")),
            Event::HeldOut { images } => Some(format!("held out {images}")),
            _ => None,
        });
    })
    .unwrap();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("broken.png"));
    assert_eq!(told[1], "held out 1");
    assert_eq!(told[2], "padded 6 128");
}

#[test]
fn patches_larger_than_the_images_become_more_and_smaller_ones() {
    let (_folder, config) = workplace();
    let config = Config {
        batchsize: 1,
        patchsize: 256,
        ..config
    };
    let mut told = vec![];
    let mut network = Recording::new();
    run(&config, &mut network, &mut |event| match event {
        Event::PatchesReduced {
            patchsizes,
            batchsizes,
        } => told.push((*patchsizes, *batchsizes)),
        Event::Padded { .. } => panic!("a patch of 64 fits"),
        _ => {}
    })
    .unwrap();
    assert_eq!(told, [([256, 64], [1, 16])]);
    let step = &network.steps[0].noisy;
    assert_eq!((step.n, step.h, step.w), (16, 64, 64));
    let settings = fs::read_to_string(config.folder().join("config.toml")).unwrap();
    assert!(settings.contains("patchsize = 256") && settings.contains("batchsize = 1\n"));
}

#[test]
fn what_gives_nothing_new_is_reported_at_validation() {
    let (_folder, config) = workplace();
    let mut told = vec![];
    run(&config, &mut Recording::new(), &mut |event| {
        if let Event::Collapsed(collapse) = event {
            told.push(*collapse);
        }
    })
    .unwrap();
    // The network of this test returns its input; there are three snapshots.
    assert_eq!(told, [crate::train::Collapse::Identity; 3]);
}

#[test]
fn images_held_out_are_not_much_smaller_than_a_patch() {
    let held_out = |large: usize, small: usize, seed: u64| {
        let mut images = crate::train::Memory::default();
        let sizes = [(large, 64, "large"), (small, 3, "small")];
        for (count, side, name) in sizes {
            for k in 0..count {
                let pixels: Vec<u8> = (0..side * 80).map(|i| (i * 7 % 251) as u8).collect();
                images.push(
                    format!("{name} {k}"),
                    &Image::from_bytes(side, 80, 1, &pixels),
                );
            }
        }
        let config = Config {
            seed,
            holdout: Some(2),
            patchsize: 64,
            n_channel: 1,
            noise: Noise::NONE,
            ..Config::default()
        };
        let (kept, held_out) = read_images(Arc::new(images), &config, &mut |_| {}).unwrap();
        let is_large = |index: usize| kept.name(index).starts_with("large");
        assert!(large == 0 || (0..kept.len()).any(is_large));
        let names = (0..held_out.len()).map(|index| held_out.name(index).to_owned());
        names.collect::<Vec<_>>()
    };
    for seed in 0..20 {
        let names = held_out(4, 20, seed);
        assert!(
            names.iter().all(|name| name.starts_with("large")),
            "{names:?}"
        );
        // One of the large ones has to remain for training.
        assert_eq!(held_out(1, 5, seed).len(), 2);
        assert_eq!(held_out(2, 1, seed).len(), 2);
        // If all are alike, the same ones are held out as in earlier versions.
        for (large, small, name) in [(9, 0, "large"), (0, 9, "small")] {
            let mut rng = stream(seed, Purpose::HoldOut, 0, 0);
            let mut drawn = index::sample(&mut rng, 9, 2).into_vec();
            drawn.sort_unstable();
            let drawn: Vec<_> = drawn.iter().map(|k| format!("{name} {k}")).collect();
            assert_eq!(held_out(large, small, seed), drawn);
        }
    }
}

#[test]
fn images_held_out_are_validated_on_and_not_trained_on() {
    let (folder, config) = workplace();
    let config = Config {
        holdout: Some(2),
        val_dirs: None,
        ..config
    };
    let (network, lines) = trained(&config);
    assert_eq!(lines[0], "fetch 3 samples for training");
    // Of 3 images, 1 batch an epoch.
    assert_eq!(network.steps.len(), 5);
    let held_out = |line: &&String| line.starts_with("[EVAL] held out: Loss1=");
    assert_eq!(lines.iter().filter(held_out).count(), 3);
    let table = folder.path().join("run/validation/A_log_held_out.csv");
    let table = fs::read_to_string(table).unwrap();
    let epochs: Vec<_> = table.lines().map(|row| &row[..2]).collect();
    assert_eq!(epochs, ["2,", "4,", "5,"]);
    assert!(folder.path().join("run/best.safetensors").exists());
}

/// Images as a camera of 12 bits gives them: 16-bit counts from 100 to 500, in blocks of 2×2 pixels.
fn counts(folder: &Path) -> Vec<f32> {
    let value = |i: usize| (100 + (i / 160 * 40 + i % 80 / 2) * 7919 % 401) as f32;
    for k in 0..5 {
        let image = Image {
            height: 64,
            width: 80,
            channels: 1,
            data: (0..64 * 80).map(|i| value(i + 160 * k) / 65535.0).collect(),
            depth: Depth::U16,
        };
        image
            .write(&folder.join(format!("images/{k}.png")))
            .unwrap();
    }
    (0..64 * 80).map(value).collect()
}

#[test]
fn the_range_of_noisy_images_is_measured_told_and_kept_with_the_weights() {
    let (folder, config) = workplace();
    counts(folder.path());
    let config = Config {
        noise: Noise::NONE,
        val_dirs: None,
        n_epoch: 1,
        steps_per_epoch: Some(4),
        ..config
    };
    let (network, lines) = trained(&config);
    assert_eq!(
        lines[0],
        "values 100 to 500 (uint16) map to the network's 0 to 1"
    );
    let values = || network.steps.iter().flat_map(|step| &step.noisy.data);
    assert!(values().all(|x| (-1e-6..1.0 + 1e-6).contains(x)));
    let mean = values().map(|&x| f64::from(x)).sum::<f64>() / values().count() as f64;
    assert!((mean - 0.5).abs() < 0.01, "{mean}");

    let run = folder.path().join("run");
    let settings = crate::train::folder::read_settings(&run.join("config.toml")).unwrap();
    assert_eq!(settings["range"].as_str(), Some("100,500"));
    let range = ModelRange {
        low: 100.0,
        high: 500.0,
        depth: Depth::U16,
    };
    for name in ["epoch_model_000", "epoch_model_001", "latest", "best"] {
        let weights = Weights::read(&run.join(format!("{name}.safetensors"))).unwrap();
        assert_eq!(
            ModelRange::of(&weights.metadata).unwrap(),
            Some(range),
            "{name}"
        );
    }
    // A run that is resumed, or repeated from its settings, has the range without measuring it.
    let settings = Config::resolve(&[settings]).unwrap();
    assert!(!settings.measures_range());
    let again = Config {
        log_name: "again".into(),
        ..settings
    };
    assert!(trained(&again).0.steps == network.steps);
}

#[test]
fn a_range_is_as_asked_for_and_auto_with_added_noise_is_that_of_the_type() {
    let (folder, config) = workplace();
    let counts = counts(folder.path());
    let config = Config {
        val_dirs: None,
        n_epoch: 1,
        steps_per_epoch: Some(2),
        holdout: Some(0),
        ..config
    };
    let mut ways = vec![];
    for (noise, range, expected) in [
        ("gauss25", "auto", (0.0, 65535.0)),
        ("gauss25", "percentile", (100.0, 500.0)),
        ("gauss25", "0,4095", (0.0, 4095.0)),
        ("none", "0,4095", (0.0, 4095.0)),
    ] {
        let (network, lines) = trained(&Config {
            noise: noise.parse().unwrap(),
            range: range.parse().unwrap(),
            log_name: format!("{noise}_{range}"),
            ..config.clone()
        });
        let mean = |values: &[f32]| {
            values.iter().map(|&x| f64::from(x)).sum::<f64>() / values.len() as f64
        };
        let mean_of_counts = (mean(&counts) - expected.0) / (expected.1 - expected.0);
        let found = mean(&network.steps[0].noisy.data);
        // The means of 8192 values with noise of 0.1.
        assert!(
            (found - mean_of_counts).abs() < 0.01,
            "{noise} {range}: {found}"
        );
        ways.push(lines[0].starts_with("values "));
    }
    assert_eq!(ways, [false, true, true, true]);
}

#[test]
fn images_of_several_types_have_no_common_range() {
    let (folder, config) = workplace();
    counts(folder.path());
    write_image(&folder.path().join("images/9.png"), 64, 80, 9);
    let config = Config {
        noise: Noise::NONE,
        val_dirs: None,
        n_epoch: 1,
        steps_per_epoch: Some(2),
        ..config
    };
    let mut told = 0;
    run(&config, &mut Recording::new(), &mut |event| {
        told += usize::from(matches!(event, Event::MixedTypes));
    })
    .unwrap();
    assert_eq!(told, 1);
    let path = folder.path().join("run/latest.safetensors");
    let metadata = Weights::read(&path).unwrap().metadata;
    assert_eq!(ModelRange::of(&metadata).unwrap(), None);
}

#[test]
fn images_of_one_value_are_reported_whatever_their_noise() {
    for noise in ["none", "gauss25"] {
        let (folder, config) = workplace();
        let config = Config {
            noise: noise.parse().unwrap(),
            val_dirs: None,
            n_epoch: 1,
            steps_per_epoch: Some(2),
            ..config
        };
        let constant = || {
            let mut told = 0;
            overwrite(&config, &mut |event| {
                told += usize::from(matches!(event, Event::Constant));
            })
            .unwrap();
            told
        };
        assert_eq!(constant(), 0, "{noise}");
        for k in 0..5 {
            let image = Image::from_u8(64, 80, 1, &[9; 64 * 80]).unwrap();
            let path = folder.path().join(format!("images/{k}.png"));
            image.write(&path).unwrap();
        }
        assert_eq!(constant(), 1, "{noise}");
    }
}

/// A cosmic ray of the largest value in a frame of a few hundred counts.
#[test]
fn what_is_far_beyond_the_range_does_not_reach_the_loss() {
    let (folder, config) = workplace();
    counts(folder.path());
    for k in 0..5 {
        let path = folder.path().join(format!("images/{k}.png"));
        let mut image = Image::read(&path).unwrap();
        image.data[40 * 80 + 40] = 1.0;
        image.write(&path).unwrap();
    }
    let (network, lines) = trained(&Config {
        noise: Noise::NONE,
        val_dirs: None,
        steps_per_epoch: Some(2),
        ..config
    });
    assert_eq!(
        lines[0],
        "values 100 to 500 (uint16) map to the network's 0 to 1"
    );
    let values = network.steps.iter().flat_map(|step| &step.noisy.data);
    assert_eq!(values.copied().fold(0.0, f32::max), 2.0);
}

#[test]
fn a_single_noisy_image_is_trained_on_and_scored() {
    let (folder, config) = workplace();
    for k in 1..5 {
        fs::remove_file(folder.path().join(format!("images/{k}.png"))).unwrap();
    }
    let config = Config {
        noise: Noise::NONE,
        val_dirs: None,
        n_epoch: 2,
        n_snapshot: 1,
        ..config
    };
    let (network, lines) = trained(&config);
    assert_eq!(network.steps.len(), 2 * 250);
    let scored = lines
        .iter()
        .filter(|line| line.starts_with("[EVAL] held out"));
    assert_eq!(scored.count(), 2);
    assert!(folder.path().join("run/best.safetensors").exists());
    assert!(folder.path().join("run/report.html").exists());
}

#[test]
fn images_are_kept_however_large_the_limit_is() {
    let (folder, config) = workplace();
    let config = Config {
        cache_mb: 1 << (usize::BITS - 20),
        ..config
    };
    let images = Arc::new(open_folder(&config).unwrap());
    let (dataset, _) = read_images(images, &config, &mut |_| {}).unwrap();
    fs::remove_dir_all(folder.path().join("images")).unwrap();
    assert!(dataset.image(0).is_ok());
}

#[test]
fn a_run_whose_image_vanishes_saves_what_it_has() {
    let (folder, config) = workplace();
    let config = Config {
        cache_mb: 0,
        steps_per_epoch: Some(1000),
        loader_threads: 1,
        ..config
    };
    let mut steps = 0;
    let error = run(&config, &mut Recording::new(), &mut |event| {
        if matches!(event, Event::Stepped(_)) {
            steps += 1;
            if steps == 5 {
                fs::remove_file(folder.path().join("images/2.png")).unwrap();
            }
        }
    })
    .unwrap_err();
    let Error::RunEnded {
        reason,
        checkpoint,
        epoch: 1,
        iteration,
    } = error
    else {
        panic!("{error}")
    };
    assert!(reason.to_string().contains("2.png"), "{reason}");
    assert_eq!(iteration, steps);
    let (_, progress) = checkpoint::read(&checkpoint).unwrap();
    assert_eq!(progress.iteration, steps);
}
