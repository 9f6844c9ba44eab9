//! Images of several channels, and images with faults, through `n2n train` and `n2n predict`.

use std::fs;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use n2n::image::{Depth, Image, Limits, Pages, Reader};
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;

/// A folder with `images/`: three images of `channels` channels, 16 bits, each channel with a level of its own.
fn workplace(channels: usize) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("images")).unwrap();
    for k in 0..3_u32 {
        let samples = (0..96 * 80 * channels as u32).map(|i| {
            let noise = (i + 7 * k).wrapping_mul(2_654_435_761).rotate_left(9) % 61;
            (500 + 300 * (i % channels as u32) + noise) as u16
        });
        let samples: Vec<_> = samples.collect();
        let image = Image::from_u16(96, 80, channels, &samples).unwrap();
        image
            .write(&folder.path().join(format!("images/{k}.tif")))
            .unwrap();
    }
    folder
}

fn n2n(folder: &TempDir, args: &[&str]) -> Assert {
    let mut command = Command::cargo_bin("n2n").unwrap();
    command.current_dir(folder).args(args).assert()
}

fn train(folder: &TempDir, more: &[&str]) -> Assert {
    let args = [
        "train",
        "--data-dir=images",
        "--noisetype=none",
        "--recipe=fast",
        "--n-feature=2",
        "--patchsize=64",
        "--n-epoch=1",
        "--steps-per-epoch=2",
        "--log-name=run",
    ];
    n2n(folder, &[&args[..], more].concat())
}

const PREDICT: [&str; 3] = [
    "predict",
    "images/1.tif",
    "--model-path=results/run/latest.safetensors",
];

/// Height, width, channels and depth of what was denoised.
fn denoised(folder: &TempDir) -> (usize, usize, usize, Depth) {
    let path = folder.path().join("output/1_denoise.tif");
    let mut reader = Reader::open(&path, Limits::default()).unwrap();
    let page = reader.next_page().unwrap().unwrap();
    (page.height, page.width, page.color.channels(), page.depth)
}

#[test]
fn channels_are_learned_and_denoised_together() {
    for channels in [2, 5] {
        let folder = workplace(channels);
        let flag = format!("--n-channel={channels}");
        train(&folder, &[&flag])
            .success()
            .stdout(contains("fetch 2 samples"));
        n2n(&folder, &PREDICT).success();
        assert_eq!(denoised(&folder), (96, 80, channels, Depth::U16));
        // Other images have no such channels.
        let gray = Image::from_u16(40, 40, 1, &[700; 1600]).unwrap();
        gray.write(&folder.path().join("gray.tif")).unwrap();
        n2n(&folder, &["predict", "gray.tif", PREDICT[2]])
            .failure()
            .stderr(contains("gray.tif").and(contains(format!("expected {channels}"))));
    }
}

#[test]
fn channels_are_images_of_one_gray_model() {
    let folder = workplace(4);
    train(&folder, &["--channels=independent"])
        .success()
        .stdout(contains("fetch 11 samples"));
    let config = fs::read_to_string(folder.path().join("results/run/config.toml")).unwrap();
    assert!(config.contains("n_channel = 1\n") && config.contains("channels = \"independent\""));
    n2n(&folder, &PREDICT).success();
    assert_eq!(denoised(&folder), (96, 80, 4, Depth::U16));
}

#[test]
fn channels_that_do_not_fit_are_refused() {
    let folder = workplace(4);
    train(&folder, &["--channels=independent", "--n-channel=3"])
        .failure()
        .stderr(contains("n_channel").and(contains("independent")));
    train(&folder, &["--n-channel=17"])
        .failure()
        .stderr(contains("1 to 16"));
    train(&folder, &["--channels=some"]).failure();
    // Four channels are neither gray nor RGB.
    train(&folder, &["--n-channel=3"])
        .failure()
        .stderr(contains("has 4 channels; expected 3"));
}

#[test]
fn faults_are_repaired_before_training_and_before_denoising() {
    let folder = workplace(1);
    let path = folder.path().join("images/1.tif");
    let mut image = Image::read(&path).unwrap();
    image.data[40 * 80 + 33] = 1.0;
    image.write(&path).unwrap();
    train(&folder, &["--n-channel=1", "--repair=hot-pixels"])
        .success()
        .stderr(contains("repaired 1 hot pixel"));
    // The model says how it was trained.
    n2n(&folder, &PREDICT)
        .success()
        .stderr(contains("repair these too with --repair hot-pixels"));
    let at_the_fault = || {
        let path = folder.path().join("output/1_denoise.tif");
        Image::read(&path).unwrap().to_u16()[40 * 80 + 33]
    };
    assert!(at_the_fault() > 50_000);
    n2n(&folder, &[&PREDICT[..], &["--repair=hot-pixels"]].concat())
        .success()
        .stderr(contains("images/1.tif: repaired 1 hot pixel"));
    assert!(at_the_fault() < 2000);
    n2n(&folder, &[&PREDICT[..], &["--repair=scratches"]].concat())
        .failure()
        .code(2)
        .stderr(contains("hot-pixels, rows, columns"));
}
