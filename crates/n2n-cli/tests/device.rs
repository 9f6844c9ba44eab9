//! `--device`, of every command that has it: what it takes, says and refuses.

use std::fs;

use assert_cmd::Command;
use n2n::cpu::Level;
use n2n::image::Image;
use n2n::unet::UNet;
use n2n::weights::Weights;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;

/// A folder with two images, one of them to be scored on, and `tiny.safetensors`, a network that takes
/// milliseconds.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..64 * 64 * 3).map(|i| (i * 7919 % 251) as u8).collect();
    for path in ["images/a.png", "validation/Kodak/a.png"] {
        let image = Image::from_bytes(64, 64, 3, &bytes);
        image.write(&folder.path().join(path)).unwrap();
    }
    let unet = UNet::new(1, 3).unwrap();
    let weights = Weights::from_parameters(&unet, &vec![0.01; unet.parameters()]);
    weights
        .write(&folder.path().join("tiny.safetensors"))
        .unwrap();
    folder
}

/// The commands, each with a little work.
const COMMANDS: [&[&str]; 5] = [
    &[
        "train",
        "--data-dir=images",
        "--val-dirs=none",
        "--n-feature=1",
        "--patchsize=64",
        "--batchsize=1",
        "--n-epoch=1",
        "--overwrite",
    ],
    &[
        "val",
        "--model-path=tiny.safetensors",
        "--sets=Kodak",
        "--repeats=1",
        "--json=scores.json",
    ],
    &[
        "predict",
        "images",
        "--model-path=tiny.safetensors",
        "--json=report.json",
    ],
    &[
        "bench",
        "infer",
        "--model-path=tiny.safetensors",
        "--size=32",
        "--runs=1",
    ],
    &[
        "bench",
        "train",
        "--model-path=tiny.safetensors",
        "--batch=1",
        "--patch=64",
        "--runs=1",
    ],
];

fn n2n(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("n2n").unwrap();
    command
        .current_dir(folder)
        .env_remove("N2N_DEVICE")
        .env_remove("N2N_LEVEL")
        .args(arguments);
    command
}

#[test]
fn what_was_asked_for_is_said_once() {
    let folder = workplace();
    let said = format!("device: cpu {}\n", Level::detect());
    for command in COMMANDS {
        n2n(&folder, command)
            .assert()
            .success()
            .stderr(contains("device:").not());
        n2n(&folder, command)
            .arg("--device=cpu")
            .assert()
            .success()
            .stderr(contains(&said).count(1));
        // A variable that is set to nothing is as good as none.
        n2n(&folder, command)
            .envs([("N2N_DEVICE", ""), ("N2N_LEVEL", "")])
            .assert()
            .success()
            .stderr(contains("device:").not());
        n2n(&folder, command)
            .env("N2N_DEVICE", "cpu")
            .assert()
            .success()
            .stderr(contains(&said).count(1));
        n2n(&folder, command)
            .args(["--device=cpu", "--quiet"])
            .assert()
            .success()
            .stderr(contains("device:").not());
    }
}

#[test]
fn auto_says_what_it_took_and_why() {
    let folder = workplace();
    let output = n2n(&folder, COMMANDS[2]).arg("--device=auto").assert();
    let said = String::from_utf8(output.success().get_output().stderr.clone()).unwrap();
    let lines: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("device: "))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    let reasons = if cfg!(feature = "gpu") {
        &[
            ", the first hardware GPU",
            ", no GPU found",
            ", only software adapters found",
        ][..]
    } else {
        &[", this program was built without GPU support"]
    };
    assert!(
        reasons.iter().any(|reason| lines[0].contains(reason)),
        "{said}"
    );
}

#[test]
fn reports_name_the_device() {
    let folder = workplace();
    let device = format!("cpu {}", Level::detect());
    for (command, report) in [(COMMANDS[1], "scores.json"), (COMMANDS[2], "report.json")] {
        n2n(&folder, command).assert().success();
        let text = fs::read_to_string(folder.path().join(report)).unwrap();
        let report: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["device"], *device, "{text}");
    }
}

#[test]
fn what_is_no_device_is_refused() {
    let folder = workplace();
    for command in COMMANDS {
        n2n(&folder, command)
            .arg("--device=cuda")
            .assert()
            .code(2)
            .stderr(contains("expected cpu, gpu, gpu:N or auto"));
    }
}

#[test]
fn half_precision_needs_units_that_have_it() {
    let folder = workplace();
    let has_units = n2n::cpu::CpuNetwork::matrix_units().is_some();
    let [train, val, predict, infer, learn] = COMMANDS;
    for command in [val, predict, infer] {
        let on_cpu = n2n(&folder, command).arg("--half").assert();
        if has_units {
            on_cpu.success();
        } else {
            on_cpu.code(1).stderr(
                contains("--half: expected a processor with matrix units").and(contains("hint: ")),
            );
        }
        n2n(&folder, command)
            .args(["--half", "--device=auto"])
            .assert()
            .success()
            .stderr(contains("; in full precision\n").or(contains(", half precision, ")));
    }
    n2n(&folder, learn)
        .arg("--half")
        .assert()
        .code(1)
        .stderr(contains("n2n bench train does not support --half"));
    let trained = n2n(&folder, train).arg("--half").assert();
    if has_units {
        trained.success();
        let resumed = [
            "train",
            "--resume",
            "results/unet_gauss25_b4e100r02",
            "--half=false",
        ];
        n2n(&folder, &resumed)
            .assert()
            .code(1)
            .stderr(contains("--half cannot be changed"));
    } else {
        trained
            .code(1)
            .stderr(contains("--half: expected a processor with matrix units"));
    }
}

#[cfg(not(feature = "gpu"))]
#[test]
fn a_gpu_is_an_error_that_says_how_to_build_with_it() {
    let folder = workplace();
    for command in COMMANDS {
        for device in ["--device=gpu", "--device=gpu:0"] {
            n2n(&folder, command)
                .arg(device)
                .assert()
                .code(1)
                .stderr(contains("this program was built without GPU support"))
                .stderr(contains("hint: ").and(contains("--features gpu")));
        }
    }
    assert!(!folder.path().join("results").exists());
    n2n(&folder, &["info"])
        .assert()
        .success()
        .stdout(contains("gpu             not built in; "));
}

#[cfg(feature = "gpu")]
#[test]
fn devices_are_listed_and_no_other_is_taken() {
    let folder = workplace();
    n2n(&folder, &["info"])
        .assert()
        .success()
        .stdout(contains("\ngpu:0           ").or(contains("\ngpu             none found\n")));
    for command in COMMANDS {
        n2n(&folder, command)
            .arg("--device=gpu:99")
            .assert()
            .code(1)
            .stderr(contains("--device gpu:99: there is no such device; "));
    }
}
