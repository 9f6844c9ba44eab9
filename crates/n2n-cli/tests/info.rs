//! `n2n info`: the build, and what a weight file holds.

use assert_cmd::Command;
use n2n::models;
use n2n::unet::UNet;
use n2n::weights::Weights;
use predicates::prelude::*;
use predicates::str::{contains, is_empty};

fn info(args: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = Command::new(env!("CARGO_BIN_EXE_n2n"));
    command.arg("info").args(args).assert()
}

fn network() -> Weights {
    let unet = UNet::new(2, 1).unwrap();
    Weights::from_parameters(&unet, &vec![0.5; unet.parameters()])
}

#[test]
fn the_build_and_the_shipped_models_are_shown() {
    info(&[])
        .success()
        .stdout(contains(format!("n2n {}\n", env!("CARGO_PKG_VERSION"))))
        .stdout(contains("Kodak\ngauss5_50 "))
        .stdout(contains("\ngauss5_50_fast    fast     0.16×  "))
        .stdout(
            contains("\ngauss25 ")
                .and(contains("\npoisson30 "))
                .and(contains("\npoisson5_50 ")),
        )
        .stdout(contains("default model   gauss5_50"))
        .stderr(is_empty());
}

/// The scores are both in the program and in the models' README, which quotes the lines of `n2n val`.
#[test]
fn the_scores_of_the_shipped_models_are_those_of_their_readme() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    for model in models::SHIPPED {
        let Some(scores) = model.scores else { continue };
        // Scored without the read noise that the model was trained with in addition.
        let noise = model.noise.split('+').next().unwrap();
        let call = format!("--model-path {} --noisetype {noise}\n", model.name);
        let (_, lines) = readme.split_once(&call).expect(model.name);
        let found: Vec<f64> = lines
            .lines()
            .take(2)
            .map(|line| {
                line.split(['=', ':', ' '])
                    .find_map(|word| word.parse().ok())
            })
            .map(|psnr| psnr.unwrap())
            .collect();
        for (score, found) in scores.iter().zip(&found) {
            assert!(
                (score - found).abs() <= 0.005,
                "{}: {score}, {found}",
                model.name
            );
        }
    }
}

#[test]
fn the_processors_level_is_the_last_of_those_it_has() {
    info(&[])
        .success()
        .stdout(predicate::function(|text: &str| {
            let entry = |name| text.lines().find_map(|line| line.strip_prefix(name));
            let levels = entry("levels          ").unwrap();
            levels.starts_with("scalar") && levels.ends_with(entry("cpu level       ").unwrap())
        }));
}

#[test]
fn the_threads_are_those_asked_for() {
    info(&["--threads", "3"])
        .success()
        .stdout(contains("threads         3\n"));
}

#[test]
fn a_shipped_models_layers_are_shown() {
    info(&["--model-path", "gauss5_50"])
        .success()
        .stdout(contains("parameters      1259475\n"))
        .stdout(contains("noise           gauss0_50\n"))
        .stdout(contains(
            "dec_conv5a  [96, 96, 3, 3]    [96]         83040  1/16\n",
        ))
        .stdout(predicate::function(|text: &str| {
            let table = text.lines().skip_while(|line| !line.starts_with("layer"));
            table.count() == 1 + UNet::default().layers().len()
        }));
}

#[test]
fn a_files_format_sizes_and_free_text_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small.safetensors");
    let mut weights = network();
    let forged = "a\nparameters 7\u{1b}[2J".to_owned();
    weights.metadata.insert("remark".into(), forged);
    weights.write(&path).unwrap();
    // The reference's spelling of the flag.
    info(&["--model_path", path.to_str().unwrap()])
        .success()
        .stdout(contains("format          safetensors\n"))
        .stdout(contains("n_feature       2\nn_channel       1\n"))
        .stdout(contains("format_version  1\n"))
        .stdout(contains("remark          a\\nparameters 7\\u{1b}[2J\n"));
}

#[test]
fn a_missing_file_is_an_error_that_names_the_shipped_models() {
    info(&["--model-path", "missing.pth"])
        .code(1)
        .stdout(is_empty())
        .stderr(
            "error: missing.pth: neither a file nor a shipped model; shipped models: \
             gauss5_50, gauss5_50_fast, gauss25, poisson30, poisson5_50, gauss5_50_gray, poisson5_50_gray\n",
        );
}

#[test]
fn a_text_file_is_an_error_whatever_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.pth");
    std::fs::write(&path, "These are not weights.\n").unwrap();
    info(&["--model-path", path.to_str().unwrap()])
        .code(1)
        .stdout(is_empty())
        .stderr(format!(
            "error: {}: expected safetensors, ONNX, PyTorch .pth or Paddle .pdparams, \
             found a file that starts with \"These are\"\n",
            path.display()
        ));
}

#[test]
fn weights_of_another_architecture_are_an_error_that_says_where_they_differ() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.safetensors");
    network().write(&path).unwrap();
    // One name in the header becomes another of the same length.
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(10).position(|window| window == b"nin_b.bias");
    bytes[at.unwrap()..][..10].copy_from_slice(b"nin_d.bias");
    std::fs::write(&path, bytes).unwrap();
    info(&["--model-path", path.to_str().unwrap()])
        .code(1)
        .stdout(is_empty())
        .stderr(format!(
            "error: {}: the weights do not fit the network:\n  \
             nin_b.bias: expected [96], found nothing\n  \
             nin_d.bias: expected nothing, found [96]\n",
            path.display()
        ));
}

#[test]
fn weights_of_a_quite_different_network_are_an_error_that_lists_what_is_there() {
    let golden = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/weights/torch_parallel_zip.pth"
    );
    info(&["--model-path", golden])
        .code(1)
        .stdout(is_empty())
        .stderr(contains(
            "enc_conv0.weight: expected [F, C, 3, 3], found nothing",
        ))
        .stderr(contains("0.weight: expected nothing, found [2, 1, 3, 3]"));
}
