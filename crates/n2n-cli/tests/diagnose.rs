//! `n2n diagnose`: what it prints and writes about images whose noise is known.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use n2n::image::{Depth, Image};
use predicates::prelude::*;
use predicates::str::{contains, is_empty};
use tempfile::TempDir;

fn diagnose(folder: &TempDir, args: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = Command::new(env!("CARGO_BIN_EXE_n2n"));
    let command = command.current_dir(folder).arg("diagnose").args(args);
    command.assert()
}

/// A ramp of 16 bits from 1,000 to 2,000 with noise of σ = 40: each value is the sum of `shared` consecutive draws,
/// divided by √`shared`.
fn write_ramp(path: &Path, shared: usize, seed: u32) {
    const SIDE: usize = 192;
    // SplitMix64: the low bits of a simpler generator are not independent enough.
    let mut state = u64::from(seed);
    let mut uniform = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 24) as f32
    };
    let noise: Vec<f32> = (0..SIDE * SIDE + shared)
        .map(|_| 40.0 * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0))
        .collect();
    let pixel = |i: usize| {
        let noise = noise[i..i + shared].iter().sum::<f32>() / (shared as f32).sqrt();
        (1000.0 + 1000.0 * (i % SIDE) as f32 / SIDE as f32 + noise) / 65535.0
    };
    let image = Image {
        height: SIDE,
        width: SIDE,
        channels: 1,
        data: (0..SIDE * SIDE).map(pixel).collect(),
        depth: Depth::U16,
    };
    image.write(path).unwrap();
}

#[test]
fn good_images_are_described_in_their_own_units() {
    let folder = tempfile::tempdir().unwrap();
    write_ramp(&folder.path().join("good.tif"), 1, 7);
    diagnose(&folder, &["good.tif"])
        .success()
        .stdout(contains("1 image of 192x192, 1 channel, values from "))
        .stdout(predicate::function(|text: &str| {
            let (_, noise) = text
                .split_once("noise has a standard deviation of ")
                .unwrap();
            let noise: f64 = noise.split_once(' ').unwrap().0.parse().unwrap();
            (noise - 40.0).abs() < 2.0
        }))
        .stdout(contains("The noise of neighboring pixels is independent"))
        .stdout(contains("No obstacles found"))
        .stderr(is_empty());
}

#[test]
fn correlated_noise_is_a_warning_on_screen_in_the_json_and_on_the_page() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("scans")).unwrap();
    for (name, seed) in [("a.tif", 1), ("b.png", 2)] {
        write_ramp(&folder.path().join("scans").join(name), 2, seed);
    }
    diagnose(&folder, &["scans", "--json=all.json", "--html=page.html"])
        .success()
        .stdout(contains("2 images of 192x192"))
        .stdout(contains("warning: The noise is correlated along rows"));

    let json = fs::read(folder.path().join("all.json")).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["files"][0]["images"], 1);
    let finding = &json["findings"][0];
    assert_eq!(finding["kind"], "correlated");
    assert_eq!(finding["severity"], "warning");
    assert_eq!(finding["axis"], "x");
    // The mean of two has a correlation of ½ with the next.
    let at_one = json["diagnosis"]["correlation"]["x"][1].as_f64().unwrap();
    assert!((at_one - 0.5).abs() < 0.05, "{at_one}");
    assert!(
        finding["text"]
            .as_str()
            .unwrap()
            .starts_with("The noise is correlated")
    );

    let page = fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(page.contains("The noise is correlated along rows") && page.ends_with("</html>\n"));
}

#[test]
fn a_broken_file_is_reported_and_the_others_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    write_ramp(&folder.path().join("good.tif"), 1, 7);
    fs::write(folder.path().join("words.png"), "words").unwrap();
    diagnose(&folder, &["good.tif", "words.png"])
        .code(1)
        .stdout(contains("1 image of 192x192"))
        .stderr(contains("error: words.png: not a readable image"));
}

#[test]
fn of_many_images_some_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..5 {
        write_ramp(&folder.path().join(format!("{i}.png")), 1, i);
    }
    diagnose(&folder, &[".", "--max-images=2"])
        .success()
        .stdout(contains("2 images of 192x192"))
        .stderr(contains("using 2 of 5 files"));
}

#[test]
fn a_report_never_replaces_an_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("good.tif");
    write_ramp(&path, 1, 7);
    let before = fs::read(&path).unwrap();
    diagnose(&folder, &["good.tif", "--html", "good.tif"])
        .code(2)
        .stderr(contains("found the name of an image"));
    assert_eq!(fs::read(&path).unwrap(), before);
}
