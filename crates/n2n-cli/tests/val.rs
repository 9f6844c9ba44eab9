//! `n2n val` from the outside: what it prints, writes and refuses.

use std::fs;

use assert_cmd::Command;
use n2n::image::Image;
use n2n::unet::UNet;
use n2n::weights::Weights;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;

/// A folder with two images in `validation/BSD300/test` and one in `validation/Kodak`, and
/// `gray.safetensors`, a model whose output is 0.5 everywhere.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, height, width) in [
        ("BSD300/test/1.png", 20, 33),
        ("BSD300/test/2.png", 34, 12),
        ("Kodak/1.png", 11, 11),
    ] {
        let path = folder.path().join("validation").join(path);
        let image = Image::from_bytes(height, width, 3, &bytes(height, width));
        image.write(&path).unwrap();
    }
    let unet = UNet::new(2, 3).unwrap();
    let mut weights = Weights::from_parameters(&unet, &vec![0.0; unet.parameters()]);
    weights.tensors.get_mut("nin_c.bias").unwrap().data = vec![0.5; 3];
    let path = folder.path().join("gray.safetensors");
    weights.write(&path).unwrap();
    folder
}

fn bytes(height: usize, width: usize) -> Vec<u8> {
    let byte = |i: usize| (i * i / 31 % 256) as u8;
    (0..height * width * 3).map(byte).collect()
}

/// The PSNR of a picture against the model's bytes, `0.5 · 255 + 0.5`.
fn psnr_db(height: usize, width: usize) -> f64 {
    let bytes = bytes(height, width);
    let square = |&byte: &u8| (f64::from(byte) - 128.0).powi(2);
    let mean = bytes.iter().map(square).sum::<f64>() / bytes.len() as f64;
    10.0 * (255.0 * 255.0 / mean).log10()
}

fn val(folder: &TempDir, flags: &[&str]) -> Command {
    let mut command = Command::cargo_bin("n2n").unwrap();
    command.current_dir(folder).arg("val").args(flags);
    command
}

/// PSNR and SSIM of a line.
fn scores(line: &str, set: &str) -> (f64, f64) {
    let scores = line.strip_prefix(&format!("[EVAL] {set}: psnr:")).unwrap();
    let (psnr, ssim) = scores.split_once(" ssim:").unwrap();
    (psnr.parse().unwrap(), ssim.parse().unwrap())
}

/// A network that PyTorch, safetensors and Paddle wrote, in their own forms.
#[test]
fn a_model_scores_the_same_from_whatever_file_it_comes() {
    let folder = workplace();
    let files = [
        "python.safetensors",
        "zip.pth",
        "stream.pth",
        "paddle.pdparams",
    ];
    let lines = files.map(|file| {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/golden/weights/network"
        );
        let model = format!("--model_path={path}/{file}");
        let output = val(&folder, &[&model, "--repeats=1"]).assert().success();
        let text = String::from_utf8(output.get_output().stdout.clone()).unwrap();
        assert!(
            text.contains("There are 50/50 variables loaded into UNet."),
            "{text}"
        );
        text.lines().last().unwrap().to_string()
    });
    assert!(scores(&lines[0], "BSD300").0.is_finite());
    for line in &lines[1..] {
        assert_eq!(line, &lines[0]);
    }
}

#[test]
fn it_prints_what_the_reference_does() {
    let folder = workplace();
    let mut command = val(&folder, &["--model_path", "gray.safetensors"]);
    let output = command.assert().success().get_output().clone();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{stdout}");
    assert_eq!(lines[0], "Loading pretrained model from gray.safetensors");
    assert_eq!(lines[1], "There are 50/50 variables loaded into UNet.");
    let (psnr, ssim) = scores(lines[2], "BSD300");
    // The reference's mean of squares is an f32.
    let want = f64::midpoint(psnr_db(20, 33), psnr_db(34, 12));
    assert!((psnr - want).abs() < 1e-5, "{psnr} is not {want}");
    assert!(ssim.abs() < 0.5, "{ssim}");

    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("images/s"), "{stderr}");
    let warning = "warning: BSD300: expected 100 images, found 2";
    assert!(stderr.contains(warning), "{stderr}");
}

#[test]
fn sets_repeats_and_files_are_the_callers() {
    let folder = workplace();
    let flags = [
        "--model-path=gray.safetensors",
        "--sets=Kodak,BSD300",
        "--repeats=2",
        "--noisetype=poisson30",
        "--csv=scores/table.csv",
        "--json=scores/all.json",
        "--n-feature=2",
        "--n_channel=3",
    ];
    let output = val(&folder, &flags).assert().success().get_output().clone();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = stdout.lines().skip(2).collect();
    assert_eq!(lines.len(), 2, "{stdout}");
    let kodak = scores(lines[0], "Kodak").0;
    assert!((kodak - psnr_db(11, 11)).abs() < 1e-5, "{kodak}");
    scores(lines[1], "BSD300");

    let table = fs::read_to_string(folder.path().join("scores/table.csv")).unwrap();
    let mut visits = Vec::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split(',').take(3).collect();
        visits.push(fields.join(" "));
    }
    let want = [
        "set repeat name",
        "Kodak 1 1.png",
        "Kodak 2 1.png",
        "BSD300 1 1.png",
        "BSD300 1 2.png",
        "BSD300 2 1.png",
        "BSD300 2 2.png",
    ];
    assert_eq!(visits, want);

    let json = fs::read_to_string(folder.path().join("scores/all.json")).unwrap();
    assert!(json.contains(r#""noise": "poisson30""#), "{json}");
    let level = format!(r#""cpu_level": "{}""#, n2n::cpu::Level::detect());
    assert!(json.contains(&level), "{json}");
    let kodak = format!(r#""psnr_db": {kodak:?}"#);
    assert!(json.contains(&kodak), "{json}");
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_no_file() {
    let folder = workplace();
    let fails = |flags: &[&str], code: i32, message: &str| {
        let flags: Vec<&str> = [flags, &["--csv=table.csv"]].concat();
        val(&folder, &flags)
            .assert()
            .code(code)
            .stderr(contains(message));
        assert!(!folder.path().join("table.csv").exists());
    };
    let model = "--model-path=gray.safetensors";
    let sets = "expected one of BSD300, Kodak, Set14";
    fails(&[model, "--sets=BSD68"], 2, sets);
    fails(
        &[model, "--noisetype=gauss50_5"],
        2,
        "the lower level first",
    );
    fails(&[model, "--repeats=0"], 2, "at least 1");
    let features = "--n-feature: expected 2, as the model has, found 48";
    fails(&[model, "--n-feature=48"], 1, features);
    let channels = "--n-channel: expected 3, as the model has, found 1";
    fails(&[model, "--n-channel=1"], 1, channels);
    fails(&[model, "--sets=Set14"], 1, "no such folder");
    fails(&[model, "--val-dirs=nowhere"], 1, "nowhere");
    fails(&["--model-path=missing.pth"], 1, "missing.pth");
}

#[test]
fn quiet_means_no_notes() {
    let folder = workplace();
    let flags = ["--model-path=gray.safetensors", "--quiet", "--repeats=1"];
    val(&folder, &flags)
        .assert()
        .success()
        .stderr(contains("images/s").not());
}
