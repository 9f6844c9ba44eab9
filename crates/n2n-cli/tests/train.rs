//! `n2n train` from the outside: what it prints, writes and refuses.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use n2n::image::{Depth, Image};
use n2n::weights::Weights;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;

/// A folder with `images/` (five of 80×80) and `validation/BSD300/test/` (two of 40×36).
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for k in 0..5 {
        let path = folder.path().join(format!("images/{k}.png"));
        write_image(&path, 80, 80, k);
    }
    for k in 0..2 {
        let path = folder
            .path()
            .join(format!("validation/BSD300/test/{k}.png"));
        write_image(&path, 40, 36, k);
    }
    folder
}

fn write_image(path: &Path, height: usize, width: usize, k: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let value = |i: usize| ((i * i / 31 + 40 * k) % 256) as f32 / 255.0;
    let image = Image {
        height,
        width,
        channels: 3,
        data: (0..height * width * 3).map(value).collect(),
        depth: Depth::U8,
    };
    image.write(path).unwrap();
}

/// The command for a tiny network and two epochs of two steps; `flags` take the place of those of
/// the same name.
fn train(folder: &TempDir, flags: &[&str]) -> Command {
    let name = |flag: &str| flag.split('=').next().unwrap().to_string();
    let defaults = [
        "--data-dir=images",
        "--log-name=run",
        "--n-feature=2",
        "--patchsize=64",
        "--batchsize=2",
        "--n-epoch=2",
        "--log-iters=2",
    ];
    let kept = defaults
        .iter()
        .filter(|default| !flags.iter().any(|flag| name(flag) == name(default)));
    let mut command = Command::cargo_bin("n2n").unwrap();
    command
        .current_dir(folder)
        .arg("train")
        .args(kept)
        .args(flags);
    command
}

fn read(folder: &TempDir, path: &str) -> String {
    fs::read_to_string(folder.path().join(path)).unwrap()
}

/// The line with `#` for losses of six decimals and times of four.
fn without_measurements(line: &str) -> String {
    let is_measured = |name: &str, value: &str| {
        let decimals = match name {
            "Loss1" | "Loss2" | "Loss_Full" => 6,
            "Time" => 4,
            _ => return false,
        };
        let parts = value.split_once('.');
        value.parse::<f64>().is_ok() && parts.is_some_and(|parts| parts.1.len() == decimals)
    };
    let words = line.split(' ').map(|word| {
        let bare = word.trim_end_matches(',');
        match bare.split_once('=') {
            Some((name, value)) if is_measured(name, value) => {
                format!("{name}=#{}", &word[bare.len()..])
            }
            _ => word.to_string(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_run_prints_and_writes_what_the_reference_does() {
    let folder = workplace();
    let output = train(&folder, &[]).assert().success().get_output().clone();
    let stdout = String::from_utf8(output.stdout).unwrap();

    let table = read(&folder, "results/run/validation/A_log_BSD300.csv");
    let scores = table.lines().map(|line| {
        let [epoch, psnr_db, ssim] = line.split(',').collect::<Vec<_>>()[..] else {
            panic!("{table}");
        };
        assert!((0.0..50.0).contains(&psnr_db.parse::<f64>().unwrap()));
        assert!((-1.0..=1.0).contains(&ssim.parse::<f64>().unwrap()));
        (epoch, format!("[EVAL] BSD300: psnr:{psnr_db} ssim:{ssim}"))
    });
    let (epochs, scores): (Vec<_>, Vec<_>) = scores.unzip();
    assert_eq!(epochs, ["1", "2"]);

    let expected = [
        "fetch 5 samples for training",
        "Batchsize=2, number of epoch=2",
        "Checkpoint saved to ./results/run/epoch_model_000.safetensors",
        "LearningRate of Epoch 1 = 7.5e-05",
        "0001 00002 Loss1=#, Lambda=1.0, Loss2=#, Loss_Full=#, Time=#",
        "Checkpoint saved to ./results/run/epoch_model_001.safetensors",
        &scores[0],
        "LearningRate of Epoch 2 = 7.5e-05",
        "0002 00002 Loss1=#, Lambda=2.0, Loss2=#, Loss_Full=#, Time=#",
        "Checkpoint saved to ./results/run/epoch_model_002.safetensors",
        &scores[1],
    ];
    let lines: Vec<_> = stdout.lines().map(without_measurements).collect();
    assert_eq!(lines, expected);
    assert_eq!(read(&folder, "results/run/train.log"), stdout);

    for index in ["000", "001"] {
        for kind in ["clean", "noisy", "denoised"] {
            let name = format!("results/run/validation/BSD300_{index}-002_{kind}.png");
            let picture = Image::read(&folder.path().join(&name)).unwrap();
            assert_eq!((picture.height, picture.width), (40, 36), "{name}");
        }
    }

    let checkpoint = folder
        .path()
        .join("results/run/epoch_model_002.safetensors");
    let weights = Weights::read(&checkpoint).unwrap();
    assert_eq!(weights.architecture().unwrap().n_feature, 2);
    assert_eq!(weights.metadata["noise"], "gauss25");
    assert_eq!(weights.metadata["epoch"], "2");
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let folder = workplace();
    let weights = |name: &str, seed: &str| {
        let flags = [
            "--val-dirs=none",
            &format!("--log-name={name}"),
            &format!("--seed={seed}"),
        ];
        train(&folder, &flags).assert().success();
        let path = format!("results/{name}/epoch_model_002.safetensors");
        Weights::read(&folder.path().join(path)).unwrap().tensors
    };
    let first = weights("first", "7");
    assert!(first == weights("again", "7"));
    assert!(first != weights("other", "8"));
}

#[test]
fn a_run_is_not_overwritten_unless_asked() {
    let folder = workplace();
    train(&folder, &[]).assert().success();
    train(&folder, &[])
        .assert()
        .code(1)
        .stdout("")
        .stderr(contains("already holds a run"))
        .stderr(contains(
            "hint: choose another --log-name, or pass --overwrite",
        ));
    train(&folder, &["--overwrite", "--n-epoch=1"])
        .assert()
        .success();
    let results = folder.path().join("results/run");
    assert!(results.join("epoch_model_001.safetensors").exists());
    assert!(!results.join("epoch_model_002.safetensors").exists());
    let table = read(&folder, "results/run/validation/A_log_BSD300.csv");
    assert_eq!(table.lines().count(), 1);
}

#[test]
fn the_references_spelling_of_the_command_works() {
    let folder = workplace();
    Command::cargo_bin("n2n")
        .unwrap()
        .current_dir(&folder)
        .args([
            "train",
            "--data_dir=images/",
            "--val_dirs=./validation",
            "--noisetype=gauss25",
            "--save_model_path=./models",
            "--log_name=unet",
            "--increase_ratio=2",
            "--gpu_devices=0",
            "--parallel",
            "--n_feature=2",
            "--n_channel=3",
            "--n_epoch=1",
            "--n_snapshot=1",
            "--patchsize=64",
            "--Lambda1=1.0",
            "--Lambda2=1.0",
        ])
        .assert()
        .success()
        .stderr(contains("trains on the CPU"));
    assert!(
        folder
            .path()
            .join("models/unet/epoch_model_001.safetensors")
            .exists()
    );
}

#[test]
fn of_a_flag_given_twice_the_last_counts() {
    let folder = workplace();
    let output = train(&folder, &[])
        .args(["--n_epoch", "1"])
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("number of epoch=1\n"), "{stdout}");
}

#[test]
fn without_a_validation_set_training_goes_on_and_says_so() {
    let folder = workplace();
    fs::remove_dir_all(folder.path().join("validation")).unwrap();
    train(&folder, &[])
        .assert()
        .success()
        .stdout(contains("[EVAL]").not())
        .stderr(contains("no validation set in"));
}

#[test]
fn grey_images_train_a_grey_network() {
    let folder = workplace();
    train(&folder, &["--n-channel=1", "--val-dirs=none"])
        .assert()
        .success();
    let checkpoint = folder
        .path()
        .join("results/run/epoch_model_002.safetensors");
    let weights = Weights::read(&checkpoint).unwrap();
    assert_eq!(weights.architecture().unwrap().n_channel, 1);
}

#[test]
fn unusable_images_are_named_and_left_out() {
    let folder = workplace();
    fs::write(folder.path().join("images/broken.jpg"), "not an image").unwrap();
    train(&folder, &[])
        .assert()
        .success()
        .stdout(contains("fetch 5 samples"))
        .stderr(contains("broken.jpg").count(1));
}

#[test]
fn what_no_run_can_be_made_of_is_refused_and_nothing_is_written() {
    let folder = workplace();
    fs::create_dir(folder.path().join("empty")).unwrap();
    for (flag, message) in [
        ("--batchsize=6", "at least 6, the batch size, got 5"),
        ("--data-dir=empty", "empty"),
        ("--data-dir=missing", "missing"),
        ("--n-channel=2", "n_channel"),
        ("--log-name=..", "log_name"),
    ] {
        train(&folder, &[flag])
            .assert()
            .code(1)
            .stdout("")
            .stderr(contains("error: ").and(contains(message)));
    }
    assert!(!folder.path().join("results").exists());
}
