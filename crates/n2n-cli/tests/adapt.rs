//! `n2n predict --adapt` from the outside.

use std::fs;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use n2n::cpu::CpuNetwork;
use n2n::image::Image;
use n2n::unet::UNet;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;

/// A folder with `model.safetensors`, untrained and for gray images, and noisy stripes of 16 bits above an offset.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let network = CpuNetwork::initial_scaled(UNet::new(4, 1).unwrap(), 1.0, 1);
    (network
        .weights()
        .write(&folder.path().join("model.safetensors")))
    .unwrap();
    let samples = (0..96 * 128_u32).map(|i| {
        let noise = i
            .wrapping_mul(2_654_435_761)
            .rotate_left(9)
            .wrapping_mul(48_271)
            >> 26;
        (500 + 40 * (i % 128 / 16) + noise) as u16
    });
    let image = Image::from_u16(96, 128, 1, &samples.collect::<Vec<_>>()).unwrap();
    image.write(&folder.path().join("stripes.tif")).unwrap();
    folder
}

fn predict(folder: &TempDir, args: &[&str]) -> Assert {
    let mut command = Command::cargo_bin("n2n").unwrap();
    command.current_dir(folder).arg("predict").args(args);
    command.arg("--model-path=model.safetensors").assert()
}

/// The file made from the stripes. Its samples are floats, because the output of an untrained model goes beyond the
/// range of the type.
fn denoised(folder: &TempDir, save_dir: &str) -> Vec<u8> {
    let path = folder.path().join(save_dir).join("stripes_denoise.tif");
    fs::read(path).unwrap()
}

const STRIPES: [&str; 2] = ["stripes.tif", "--depth=32f"];

#[test]
fn a_model_is_fitted_to_the_images_and_can_be_kept() {
    let folder = workplace();
    let adapt = |save_dir: &str, more: &[&str]| {
        let args = ["--adapt=30", "--save-dir", save_dir];
        predict(&folder, &[&STRIPES[..], &args, more].concat())
            .success()
            .stdout(contains("stripes_denoise.tif"))
            .stderr(contains("adapted: ").and(contains("held-out loss from")));
        denoised(&folder, save_dir)
    };
    let first = adapt("first", &["--save-model=mine.safetensors"]);
    assert!(adapt("again", &["--threads=1"]) == first);

    // The model that was kept does the same without learning, exported too.
    let mut export = Command::cargo_bin("n2n").unwrap();
    let args = [
        "export",
        "--model-path=mine.safetensors",
        "--save-dir=exported",
    ];
    let exported = export.current_dir(&folder).args(args).assert().success();
    // Other engines would leave out the transform around the network.
    exported.stderr(contains("transform"));
    for model in ["mine.safetensors", "exported/model.onnx"] {
        let mut command = Command::cargo_bin("n2n").unwrap();
        let command = command.current_dir(&folder).arg("predict").args(STRIPES);
        let args = ["--save-dir=kept", "--model-path", model];
        command.args(args).assert().success();
        assert!(denoised(&folder, "kept") == first, "{model}");
    }

    // The model that it was fitted from is unchanged.
    predict(&folder, &[&STRIPES[..], &["--save-dir=plain"]].concat()).success();
    assert!(denoised(&folder, "plain") != first);
}

/// A pipe can be read only once: a run that opened it again would wait forever.
#[cfg(unix)]
#[test]
fn a_pipe_among_the_images_is_read_once() {
    let folder = workplace();
    let path = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    for (more, told) in [
        (&["--skip-existing"][..], ""),
        (&["--skip-existing", "--adapt=0"], "adapted: "),
        (&["--shard=1/1", "--adapt=0"], "adapted: "),
    ] {
        let bytes = fs::read(folder.path().join("stripes.tif")).unwrap();
        let pipe = path.clone();
        let writer = std::thread::spawn(move || fs::write(pipe, bytes).unwrap());
        let mut command = Command::cargo_bin("n2n").unwrap();
        let args = [
            "predict",
            "pipe",
            "stripes.tif",
            "--model-path=model.safetensors",
        ];
        command.current_dir(&folder).args(args).args(more);
        command.timeout(std::time::Duration::from_mins(1));
        command.assert().success().stderr(contains(told));
        writer.join().unwrap();
        fs::remove_dir_all(folder.path().join("output")).unwrap();
    }
}

#[test]
fn a_range_that_is_asked_for_is_kept_with_the_model() {
    let folder = workplace();
    // Even if nothing helps.
    for steps in ["0", "30"] {
        let result = |save_dir: &str, args: &[&str]| {
            let mut command = Command::cargo_bin("n2n").unwrap();
            command
                .current_dir(&folder)
                .args(["predict", "stripes.tif"]);
            command.args(["--save-dir", save_dir]).args(args);
            command.assert().success();
            denoised(&folder, save_dir)
        };
        let fitting = ["--adapt", steps, "--save-model=mine.safetensors"];
        let model = ["--model-path=model.safetensors", "--range=560,700"];
        let first = result(
            "first",
            &[fitting, [model[0], model[1], "--quiet"]].concat(),
        );
        assert!(
            result("kept", &["--model-path=mine.safetensors"]) == first,
            "{steps}"
        );
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_the_work() {
    let folder = workplace();
    for (args, error) in [
        (&["--adapt=soon"][..], "90s or 3m, or a number of steps"),
        (&["--seed=1"], "--adapt"),
        (&["--save-model=a.safetensors"], "--adapt"),
        (&["--adapt=1", "--range=percentile"], "--range"),
    ] {
        predict(&folder, &[&STRIPES[..], args].concat())
            .failure()
            .stderr(contains(error));
    }
    assert!(!folder.path().join("output/stripes_denoise.tif").exists());
}
