//! What every command does with bad input: one clear error with the path and what was expected,
//! exit code 1, or 2 for a wrong command line; no file changed, no panic.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use n2n::image::Image;
use n2n::unet::UNet;
use n2n::weights::Weights;
use predicates::prelude::*;
use predicates::str::{contains, starts_with};
use tempfile::TempDir;

/// A folder with five good images, a good model, and much that is neither.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    let bytes: Vec<u8> = (0..20 * 30 * 3).map(|i| (i * i / 31 % 256) as u8).collect();
    let image = Image::from_bytes(20, 30, 3, &bytes);
    for path in ["1.png", "2.png", "3.png", "4.png", "BSD300/test/1.png"] {
        image.write(&at("images").join(path)).unwrap();
    }
    let unet = UNet::new(1, 3).unwrap();
    let model = Weights::from_parameters(&unet, &vec![0.0; unet.parameters()]);
    model.write(&at("model.safetensors")).unwrap();

    fs::create_dir(at("empty")).unwrap();
    fs::write(at("file"), "words").unwrap();
    fs::write(at("words.png"), "words").unwrap();
    fs::write(at("nothing.png"), "").unwrap();
    let png = fs::read(at("images/1.png")).unwrap();
    fs::write(at("cut.png"), &png[..png.len() / 2]).unwrap();

    fs::write(at("words.pth"), "words").unwrap();
    fs::write(at("archive.pth"), "PK\u{3}\u{4} no archive").unwrap();
    let weights = fs::read(at("model.safetensors")).unwrap();
    fs::write(at("cut.safetensors"), &weights[..weights.len() / 2]).unwrap();
    let four = UNet::new(1, 4).unwrap();
    let model = Weights::from_parameters(&four, &vec![0.0; four.parameters()]);
    model.write(&at("four.safetensors")).unwrap();
    folder
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Runs `n2n COMMAND`, which must end with the exit code and an error that holds the text, and
/// change no file.
fn refuse(folder: &TempDir, command: &str, code: i32, text: &str) {
    let before = files(folder.path());
    let output = Command::cargo_bin("n2n")
        .unwrap()
        .current_dir(folder)
        .args(command.split_whitespace())
        .assert()
        .code(code)
        .get_output()
        .clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let errors: Vec<_> = stderr.match_indices("error: ").collect();
    assert_eq!(errors.len(), 1, "{command}: {stderr}");
    assert!(
        stderr.lines().any(|line| line.starts_with("error: ")) && stderr.contains(text),
        "{command}: expected {text:?} in {stderr:?}"
    );
    let same_words = stderr.matches("os error").count();
    assert!(same_words <= 1, "{command} says it twice: {stderr}");
    assert!(files(folder.path()) == before, "{command} changed a file");
}

#[test]
fn what_is_not_there_is_named() {
    let folder = workplace();
    for (command, path) in [
        ("predict nowhere.png", "nowhere.png: "),
        ("predict nowhere/", "nowhere/: "),
        ("diagnose nowhere.png", "nowhere.png: "),
        ("train --data-dir=nowhere", "nowhere: "),
        ("val --val-dirs=nowhere", "nowhere/BSD300/test: "),
        ("prepare --input-dir=nowhere --save-dir=new", "nowhere: "),
    ] {
        refuse(&folder, command, 1, &format!("error: {path}"));
    }
}

#[test]
fn an_empty_folder_is_an_error_that_says_what_was_looked_for() {
    let folder = workplace();
    fs::create_dir_all(folder.path().join("sets/BSD300/test")).unwrap();
    let images = "empty: no image in this folder or its subfolders: no file with the extension .bmp, .btf, .dib, .dng, .exr, ";
    refuse(&folder, "predict empty", 1, images);
    refuse(&folder, "diagnose empty", 1, images);
    refuse(&folder, "train --data-dir=empty", 1, images);
    refuse(
        &folder,
        "prepare --input-dir=empty --save-dir=new",
        1,
        images,
    );
    let set = "sets/BSD300/test: expected the images of BSD300 here, found no file";
    refuse(&folder, "val --val-dirs=sets", 1, set);
}

#[test]
fn a_file_where_a_folder_should_be_is_an_error() {
    let folder = workplace();
    for command in [
        "train --data-dir=file",
        "prepare --input-dir=file --save-dir=new",
    ] {
        refuse(&folder, command, 1, "error: file: not a directory");
    }
}

#[test]
fn a_file_that_is_not_an_image_is_reported_as_such() {
    let folder = workplace();
    let reason = "not a readable image: ";
    for (name, what) in [
        ("words.png", "it is not a PNG, JPEG, "),
        ("nothing.png", "the file is empty"),
        ("cut.png", "unexpected end of file"),
    ] {
        let error = format!("error: {name}: {reason}{what}");
        refuse(&folder, &format!("predict {name}"), 1, &error);
        refuse(&folder, &format!("diagnose {name}"), 1, &error);
    }

    // A set to score on is looked through before it takes hours.
    let broken = folder.path().join("images/BSD300/test/2.png");
    fs::copy(folder.path().join("words.png"), broken).unwrap();
    for command in [
        "val --val-dirs=images --model-path=model.safetensors",
        "train --data-dir=images --val-dirs=images --n-feature=1",
    ] {
        refuse(
            &folder,
            command,
            1,
            "images/BSD300/test/2.png: not a readable",
        );
    }
}

#[test]
fn a_file_that_holds_no_weights_is_reported_as_such() {
    let folder = workplace();
    let golden = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/weights/torch_parallel_zip.pth"
    );
    fs::copy(golden, folder.path().join("other.pth")).unwrap();
    for (model, reason) in [
        (
            "words.pth",
            "words.pth: expected safetensors, ONNX, PyTorch .pth or Paddle .pdparams, \
             found a file that starts with \"words\"",
        ),
        ("nothing.png", "nothing.png: expected safetensors"),
        ("images/1.png", "found a file that starts with \"\\x89PNG"),
        ("archive.pth", "archive.pth: an unreadable zip archive"),
        ("cut.safetensors", "cut.safetensors: "),
        (
            "other.pth",
            "other.pth: the weights do not fit the network:\n  \
             enc_conv0.weight: expected [F, C, 3, 3], found nothing\n",
        ),
        (
            "nowhere",
            "nowhere: neither a file nor a shipped model; shipped models: \
             gauss5_50, gauss5_50_fast, gauss25, poisson30, poisson5_50, gauss5_50_gray, poisson5_50_gray",
        ),
        ("empty", "empty: expected a weight file, found a folder"),
    ] {
        let error = if reason.starts_with("found") {
            reason.into()
        } else {
            format!("error: {reason}")
        };
        for command in [
            "predict images/1.png",
            "val --val-dirs=images",
            "export",
            "info",
        ] {
            let command = format!("{command} --model-path={model}");
            refuse(&folder, &command, 1, &error);
        }
    }
}

#[test]
fn a_model_of_images_with_other_channels_is_refused() {
    let folder = workplace();
    let model = "--model-path=four.safetensors";
    for (command, found) in [
        (
            "predict images/1.png",
            "expected 4, as the network has, found 3",
        ),
        ("val --val-dirs=images", "found 4"),
    ] {
        refuse(&folder, &format!("{command} {model}"), 1, found);
    }
}

#[test]
fn a_place_that_cannot_be_written_to_is_named() {
    let folder = workplace();
    let model = "--model-path=model.safetensors";
    let small = "--n-feature=1 --patchsize=64 --n-epoch=1 --val-dirs=none";
    for place in ["file", "file/below", "/proc/below"] {
        let error = format!("error: {place}");
        for command in [
            format!("predict images/1.png {model} --save-dir={place}"),
            format!("prepare --input-dir=images --min-size=1 --save-dir={place}"),
            format!("train --data-dir=images {small} --save-model-path={place}"),
            format!("val --val-dirs=images --repeats=1 {model} --csv={place}/table.csv"),
            format!("val --val-dirs=images --repeats=1 {model} --json={place}/all.json"),
            format!("diagnose images --json={place}/all.json"),
            format!("diagnose images --html={place}/page.html"),
        ] {
            refuse(&folder, &command, 1, &error);
        }
    }
    let command = format!("val --val-dirs=images --repeats=1 {model} --csv=empty");
    refuse(&folder, &command, 1, "error: empty: is a directory");
}

/// `refuse` compares every file, so the image is still there.
#[test]
fn no_report_and_no_model_replaces_an_image() {
    let folder = workplace();
    fs::copy(
        folder.path().join("images/1.png"),
        folder.path().join("scan"),
    )
    .unwrap();
    let model = "--model-path=model.safetensors";
    for command in [
        format!("predict images/1.png {model} --json"),
        format!("predict images/1.png {model} --adapt=1 --save-model"),
        format!("val --val-dirs=images {model} --csv"),
        format!("val --val-dirs=images {model} --json"),
        "diagnose images --json".into(),
        "diagnose images --html".into(),
        "infer --input-file=images --model-file=model.onnx --enable-benchmark --log-path".into(),
    ] {
        let text = "found the name of an image";
        refuse(&folder, &format!("{command}=images/1.png"), 2, text);
        refuse(
            &folder,
            &format!("{command}=-"),
            2,
            "expected the name of a file",
        );
    }
    // The name need not be that of an image, and it is not always spelled the same way.
    for flags in ["--json=./scan", "--adapt=1 --save-model=images/../scan"] {
        let command = format!("predict images/1.png scan {model} {flags}");
        refuse(&folder, &command, 1, "scan is an image or its result");
    }
    for command in [
        "diagnose scan --json=scan".into(),
        "diagnose images scan --html=./scan".into(),
        format!("predict images/1.png {model} --compare --reference=scan --json=scan"),
        "infer --input-file=scan --model-file=model.safetensors --enable-benchmark --log-path=scan"
            .into(),
    ] {
        refuse(&folder, &command, 1, "scan is an image or its result");
    }
    let command = format!("predict scan {model} --adapt=1 --save-model=a --json=a");
    refuse(
        &folder,
        &command,
        1,
        "--json and --save-model name the same file",
    );
}

#[test]
fn a_wrong_command_line_is_a_usage_error_that_says_what_is_expected() {
    let folder = workplace();
    let noise = "expected gaussS, gaussA_B, poissonL or poissonA_B with numbers for S, A, B and L, both kinds as \
                 in poissonL+gaussS, or none";
    for (command, text) in [
        ("predict", "required arguments were not provided"),
        ("diagnose", "required arguments were not provided"),
        ("diagnose images --offset=dark", "expected a number"),
        ("diagnose images --max-images=0", "at least 1"),
        ("predict images --threads=0", "from 1 to 1024"),
        ("predict images --threads=1000000", "from 1 to 1024"),
        ("predict images --cpu_threads=two", "from 1 to 1024"),
        ("train --patchsize=0", "expected a multiple of 64"),
        ("train --patchsize=100", "expected a multiple of 64"),
        ("train --noisetype=foo", noise),
        ("train --noisetype=gauss", "expected gaussS or gaussA_B"),
        (
            "train --noisetype=gauss1+poisson9",
            "expected poisson before gauss",
        ),
        ("train --lr -1", "'--lr <RATE>': expected a number above 0"),
        ("train --gamma=inf", "expected a number above 0"),
        ("train --Lambda1=nan", "expected a number of at least 0"),
        (
            "train --increase_ratio=-1",
            "expected a number of at least 0",
        ),
        ("train --seed=-1", "expected a whole number from 0 to"),
        (
            "train --batchsize=1.5",
            "expected a whole number of at least 1",
        ),
        ("train --parallel=perhaps", "expected True or False"),
        ("val --noisetype=foo", noise),
        ("val --sets=BSD68", "expected one of BSD300, Kodak, Set14"),
        ("val --repeats=0", "expected a whole number of at least 1"),
        ("prepare --input-dir=images", "--save-dir"),
        (
            "prepare --input-dir=images --save-dir=new --min-size -1",
            "at least 1",
        ),
        ("trian", "a similar subcommand exists: 'train'"),
        ("val --sts=Kodak", "a similar argument exists: '--sets'"),
    ] {
        refuse(&folder, command, 2, text);
    }
}

#[test]
fn images_smaller_than_the_patches_are_padded_and_that_is_said() {
    let folder = workplace();
    let mut command = Command::cargo_bin("n2n").unwrap();
    command
        .current_dir(&folder)
        .args(["train", "--data-dir=images", "--n-feature=1"])
        .args(["--patchsize=64", "--n-epoch=1", "--val-dirs=none"])
        .assert()
        .success()
        .stderr(contains(
            "5 images are smaller than the patches of 64 pixels; they are padded by reflection",
        ));
}

#[test]
fn underscores_in_values_and_behind_two_dashes_are_kept() {
    let folder = workplace();
    let model = "--model_path=model.safetensors";
    fs::create_dir(folder.path().join("my_images")).unwrap();
    for name in ["my_images/a_b.png", "--image_path"] {
        fs::copy(folder.path().join("images/1.png"), folder.path().join(name)).unwrap();
    }
    for (args, result) in [
        (
            vec!["my_images/a_b.png", "--save_dir=x_y"],
            "x_y/a_b_denoise.png",
        ),
        (
            vec!["--image_path", "my_images", "--save-dir", "z_"],
            "z_/a_b_denoise.png",
        ),
        (
            vec!["--", "--image_path"],
            "./output/--image_path_denoise.png",
        ),
    ] {
        let mut command = Command::cargo_bin("n2n").unwrap();
        command
            .current_dir(&folder)
            .args(["predict", model])
            .args(args)
            .assert()
            .success()
            .stdout(format!("{result}\n"));
        assert!(folder.path().join(result).exists(), "{result}");
    }
}

#[cfg(unix)]
#[test]
fn paths_need_not_be_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = workplace();
    let mut command = Command::cargo_bin("n2n").unwrap();
    command
        .current_dir(&folder)
        .args(["predict", "images/1.png", "--model-path=model.safetensors"])
        .arg(OsStr::from_bytes(b"--save_dir=out_\xff"))
        .assert()
        .success();
    let result = folder.path().join(OsStr::from_bytes(b"out_\xff"));
    assert!(result.join("1_denoise.png").exists());
}

/// `n2n … | head`
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let folder = workplace();
    let model = "--model-path=model.safetensors";
    let small = "--n-feature=1 --patchsize=64 --n-epoch=1 --val-dirs=none";
    for command in [
        "info".to_string(),
        format!("predict images/1.png images/2.png {model}"),
        format!("val --val-dirs=images --repeats=1 {model}"),
        "prepare --input-dir=images --save-dir=new --min-size=1".into(),
        format!("train --data-dir=images {small}"),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = std::process::Command::new(env!("CARGO_BIN_EXE_n2n"))
            .current_dir(&folder)
            .args(command.split_whitespace())
            .stdout(writer.try_clone().unwrap())
            .stderr(writer)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0), "{command}");
    }
    assert!(folder.path().join("output/2_denoise.png").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_are_lost_are_a_failure() {
    let folder = workplace();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_n2n"))
        .current_dir(&folder)
        .arg("info")
        .stdout(full)
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        starts_with("error: standard output: ").eval(&stderr),
        "{stderr}"
    );
}
