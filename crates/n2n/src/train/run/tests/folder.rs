//! What a run writes: lines, checkpoints, scores; and what it must not overwrite.

use super::*;

#[test]
fn a_users_own_files_are_not_overwritten() {
    let (_folder, config) = workplace();
    fs::create_dir_all(config.folder()).unwrap();
    let notes = config.folder().join("config.json");
    fs::write(&notes, "mine").unwrap();
    let error = run(&config, &mut Recording::new(), &mut |_| ()).unwrap_err();
    assert!(matches!(error, Error::RunExists { .. }), "{error}");
    assert_eq!(fs::read_to_string(notes).unwrap(), "mine");
}

#[test]
fn lines_come_in_the_references_order_and_are_kept_in_the_folder() {
    let (folder, config) = workplace();
    let (_, lines) = trained(&config);
    // What changes from run to run, and the scores, are checked elsewhere.
    let root = folder.path().join("run").display().to_string();
    let short: Vec<_> = lines
        .iter()
        .map(|line| {
            let line = line.replace(&root, "run");
            let end = [" psnr:", ", Time="]
                .iter()
                .filter_map(|mark| line.find(mark));
            line[..end.min().unwrap_or(line.len())].to_string()
        })
        .collect();
    let expected = "\
fetch 5 samples for training
Batchsize=2, number of epoch=5
Checkpoint saved to run/epoch_model_000.safetensors
LearningRate of Epoch 1 = 0.00015
0001 00002 Loss1=0.250000, Lambda=0.4, Loss2=0.200000, Loss_Full=0.750000
LearningRate of Epoch 2 = 7.5e-05
0002 00002 Loss1=0.250000, Lambda=0.8, Loss2=0.400000, Loss_Full=0.750000
Checkpoint saved to run/epoch_model_002.safetensors
[EVAL] BSD300:
LearningRate of Epoch 3 = 3.75e-05
0003 00002 Loss1=0.250000, Lambda=1.2, Loss2=0.600000, Loss_Full=0.750000
LearningRate of Epoch 4 = 1.875e-05
0004 00002 Loss1=0.250000, Lambda=1.6, Loss2=0.800000, Loss_Full=0.750000
Checkpoint saved to run/epoch_model_004.safetensors
[EVAL] BSD300:
LearningRate of Epoch 5 = 1.875e-05
0005 00002 Loss1=0.250000, Lambda=2.0, Loss2=1.000000, Loss_Full=0.750000
Checkpoint saved to run/epoch_model_005.safetensors
[EVAL] BSD300:";
    assert_eq!(short.join("\n"), expected);
    let log = fs::read_to_string(folder.path().join("run/train.log")).unwrap();
    assert_eq!(log.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn checkpoints_hold_the_weights_of_their_epoch_and_how_they_came_about() {
    let (folder, config) = workplace();
    let (network, _) = trained(&config);
    let checkpoint = |epoch: usize| {
        let path = format!("run/epoch_model_{epoch:03}.safetensors");
        Weights::read(&folder.path().join(path)).unwrap()
    };
    assert_eq!(checkpoint(0).tensors["nin_c.bias"].data, [1.0]);
    let last = checkpoint(5);
    assert_eq!(last.tensors["nin_c.bias"].data, [network.weight]);
    for (key, value) in [
        ("noise", "gauss25"),
        ("epoch", "5"),
        ("n_epoch", "5"),
        ("seed", "3"),
        ("lr", "0.0003"),
        ("batchsize", "2"),
        ("patchsize", "64"),
        ("samples", "5"),
        ("version", env!("CARGO_PKG_VERSION")),
    ] {
        assert_eq!(last.metadata[key], value, "{key}");
    }
}

#[test]
fn a_snapshot_is_scored_and_its_first_images_are_shown() {
    let (folder, mut config) = workplace();
    config.n_epoch = 1;
    let sets = folder.path().join("validation/BSD300/test");
    for k in 0..7 {
        write_image(&sets.join(format!("{k}.png")), 30, 20, k);
    }
    let (_, lines) = trained(&config);

    let root = folder.path().join("run/validation");
    let mut files: Vec<_> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut expected = vec!["A_log_BSD300.csv".to_string()];
    for index in 0..5 {
        for kind in ["clean", "denoised", "noisy"] {
            expected.push(format!("BSD300_{index:03}-001_{kind}.png"));
        }
    }
    assert_eq!(files, expected);

    let picture = |name: &str| Image::read(&root.join(name)).unwrap();
    let clean = picture("BSD300_003-001_clean.png");
    assert_eq!(clean, Image::read(&sets.join("3.png")).unwrap());
    // The network returns its input.
    let noisy = picture("BSD300_003-001_noisy.png");
    assert_eq!(noisy, picture("BSD300_003-001_denoised.png"));
    assert_ne!(noisy, clean);

    let table = fs::read_to_string(root.join("A_log_BSD300.csv")).unwrap();
    let scores: Vec<_> = table.trim_end().split(',').collect();
    assert_eq!(scores[0], "1");
    let line = format!("[EVAL] BSD300: psnr:{} ssim:{}", scores[1], scores[2]);
    assert_eq!(lines.last(), Some(&line));
}

#[test]
fn of_channels_that_are_no_colors_a_gray_picture_is_shown() {
    let (folder, config) = workplace();
    let data = folder.path().join("channels");
    for k in 0..2 {
        let value = |i: usize| ((i * i / 7 + 50 * k) % 256) as f32 / 255.0;
        let values = (0..64 * 64 * 4).map(value).collect();
        let image = Image::from_f32(64, 64, 4, values).unwrap();
        image.write(&data.join(format!("{k}.tif"))).unwrap();
    }
    let config = Config {
        data_dir: data,
        val_dirs: None,
        n_channel: 4,
        holdout: Some(1),
        n_epoch: 1,
        ..config
    };
    until(&config, Start::New, usize::MAX, |_| false);
    let events = fs::read(config.folder().join("events.out.tfevents.n2n")).unwrap();
    // The fields of the message before the encoded picture: tag 3, the number of its channels, and tag 4.
    let png = b"\x89PNG\r\n\x1a\n";
    let at = events.windows(8).position(|bytes| bytes == png).unwrap();
    let before = &events[at - 6..at];
    let is_gray = before.windows(3).any(|fields| fields == [0x18, 1, 0x22]);
    assert!(is_gray, "{before:?}");
    // The color type of a PNG: gray.
    assert_eq!(events[at + 25], 0);
}

#[test]
fn a_validation_set_that_cannot_be_scored_is_an_error_before_training() {
    let (folder, config) = workplace();
    let broken = folder.path().join("validation/BSD300/test/broken.png");
    fs::write(broken, "no image").unwrap();
    let mut network = Recording::new();
    let error = run(&config, &mut network, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("broken.png"), "{error}");
    assert!(network.steps.is_empty() && !folder.path().join("run").exists());
}

#[test]
fn a_run_that_cannot_begin_leaves_the_one_before_alone() {
    let (folder, mut config) = workplace();
    trained(&config);
    let again = |config: &Config| run(config, &mut Recording::new(), &mut |_| {});
    let error = again(&config).unwrap_err();
    assert!(matches!(error, Error::RunExists { .. }), "{error}");

    let again = |config: &Config| overwrite(config, &mut |_| {});
    let data = std::mem::replace(&mut config.data_dir, folder.path().join("nowhere"));
    again(&config).unwrap_err();
    config.data_dir = data;
    config.holdout = Some(5);
    again(&config).unwrap_err();
    config.holdout = None;
    let mut full = Drawer::new(&config);
    full.full_at = Some(0);
    let never = AtomicBool::new(false);
    let full = crate::train::run(&config, Start::Overwrite, &mut full, &never, &mut |_| {});
    assert!(matches!(full, Err(Error::OutOfMemory { .. })), "{full:?}");
    let checkpoint = |epoch: usize| {
        let name = format!("run/epoch_model_{epoch:03}.safetensors");
        folder.path().join(name).exists()
    };
    assert!(checkpoint(5));

    config.n_epoch = 1;
    again(&config).unwrap();
    assert!(checkpoint(1) && !checkpoint(5));
}

#[test]
fn the_newest_numbered_checkpoints_are_kept_as_asked() {
    let (folder, config) = workplace();
    trained(&Config {
        keep: 2,
        n_snapshot: 1,
        ..config
    });
    let left: Vec<_> = (0..=5)
        .filter(|epoch| {
            let name = format!("run/epoch_model_{epoch:03}.safetensors");
            folder.path().join(name).exists()
        })
        .collect();
    assert_eq!(left, [4, 5]);
}
