//! `n2n predict` from the outside: what it makes of files and folders, and what it refuses.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use n2n::image::{Depth, Image};
use n2n::noise::Noise;
use n2n::numpy::RandomState;
use n2n::unet::UNet;
use n2n::weights::Weights;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;

/// A folder with `half.safetensors`, a model of RGB images whose output is half its input, and
/// `gray.safetensors`, the same for gray ones.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, channels) in [("half", 3), ("gray", 1)] {
        let path = folder.path().join(name).with_extension("safetensors");
        halving(channels).write(&path).unwrap();
    }
    folder
}

/// A network that hands the image down its last layers, where nothing but the last changes it.
fn halving(channels: usize) -> Weights {
    let unet = UNet::new(1, channels).unwrap();
    let mut weights = Weights::from_parameters(&unet, &vec![0.0; unet.parameters()]);
    for (name, factor) in [
        ("dec_conv1a", 1.0),
        ("dec_conv1b", 1.0),
        ("nin_a", 1.0),
        ("nin_b", 1.0),
        ("nin_c", 0.5),
    ] {
        let weight = weights.tensors.get_mut(&format!("{name}.weight")).unwrap();
        let [inputs, height, width] = weight.shape[1..].try_into().unwrap();
        // The image comes last among the inputs of the first of these layers.
        let first = if name == "dec_conv1a" {
            inputs - channels
        } else {
            0
        };
        for c in 0..channels {
            let taps = (c * inputs + first + c) * height * width;
            weight.data[taps + height * width / 2] = factor;
        }
    }
    weights
}

fn write(folder: &TempDir, path: &str, (height, width, channels): (usize, usize, usize)) -> Image {
    write_deep(folder, path, (height, width, channels), Depth::U8)
}

fn write_deep(
    folder: &TempDir,
    path: &str,
    (height, width, channels): (usize, usize, usize),
    depth: Depth,
) -> Image {
    let values = height * width * channels;
    let image = Image {
        height,
        width,
        channels,
        data: (0..values)
            .map(|i| (i * 7919 % 1009) as f32 / 1008.0)
            .collect(),
        depth,
    };
    image.write(&folder.path().join(path)).unwrap();
    read(folder, path)
}

fn read(folder: &TempDir, path: &str) -> Image {
    Image::read(&folder.path().join(path)).unwrap()
}

/// Runs `n2n predict ARGS` in the folder, with the model `half.safetensors` unless told otherwise.
fn predict(folder: &TempDir, args: &[&str]) -> Assert {
    let mut command = Command::cargo_bin("n2n").unwrap();
    command.current_dir(folder).arg("predict").args(args);
    if !args.iter().any(|arg| arg.starts_with("--model")) {
        command.arg("--model-path=half.safetensors");
    }
    command.assert()
}

/// Compares a result with what the model makes of the image, to within one step of its depth.
fn assert_halved(folder: &TempDir, path: &str, noisy: &Image) {
    let denoised = read(folder, path);
    let shape = |image: &Image| (image.height, image.width, image.channels, image.depth);
    assert_eq!(shape(&denoised), shape(noisy), "{path}");
    let step = match noisy.depth {
        Depth::U8 => 1.0 / 255.0,
        _ => 1.0 / 65535.0,
    };
    for (i, (x, y)) in noisy.data.iter().zip(&denoised.data).enumerate() {
        assert!((x / 2.0 - y).abs() < step, "{path}: {x} became {y} at {i}");
    }
}

/// The files below a folder.
fn tree(folder: &Path) -> Vec<String> {
    let mut paths = vec![];
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            let below = tree(&entry.path()).into_iter();
            paths.extend(below.map(|path| format!("{name}/{path}")));
        } else {
            paths.push(name);
        }
    }
    paths.sort();
    paths
}

#[test]
fn a_result_is_named_after_its_image_and_its_path_is_printed() {
    let folder = workplace();
    let noisy = write(&folder, "photo.jpg", (20, 30, 3));
    predict(&folder, &["photo.jpg"])
        .success()
        .stdout("./output/photo_denoise.jpg\n")
        .stderr("");
    let denoised = read(&folder, "output/photo_denoise.jpg");
    for (x, y) in noisy.data.iter().zip(&denoised.data) {
        // A JPEG of quality 95 of an image that is noise alone.
        assert!((x / 2.0 - y).abs() < 0.1, "{x} became {y}");
    }
    predict(&folder, &["photo.jpg", "--format=png"]).success();
    assert_halved(&folder, "output/photo_denoise.png", &noisy);
}

#[test]
fn any_size_can_be_denoised() {
    let folder = workplace();
    for (height, width) in [(1, 1), (33, 47), (64, 64)] {
        let noisy = write(&folder, "image.png", (height, width, 3));
        predict(&folder, &["image.png"]).success();
        assert_halved(&folder, "output/image_denoise.png", &noisy);
    }
}

#[test]
fn channels_and_depth_stay_under_models_of_rgb_and_of_gray_images() {
    let folder = workplace();
    for channels in [1, 3] {
        for depth in [Depth::U8, Depth::U16] {
            let noisy = write_deep(&folder, "image.png", (9, 35, channels), depth);
            for model in ["half", "gray"] {
                let model = format!("--model-path={model}.safetensors");
                predict(&folder, &["image.png", &model]).success();
                assert_halved(&folder, "output/image_denoise.png", &noisy);
            }
        }
    }
}

#[test]
fn the_images_of_a_folder_keep_their_place_below_it() {
    let folder = workplace();
    let noisy = write(&folder, "in/deep/er/a.png", (5, 6, 3));
    write(&folder, "in/b.JPG", (6, 5, 1));
    fs::write(folder.path().join("in/notes.txt"), "no image").unwrap();
    predict(&folder, &["in", "--save-dir", "out"])
        .success()
        .stdout("out/b_denoise.JPG\nout/deep/er/a_denoise.png\n");
    assert_eq!(
        tree(&folder.path().join("out")),
        ["b_denoise.JPG", "deep/er/a_denoise.png"]
    );
    assert_halved(&folder, "out/deep/er/a_denoise.png", &noisy);
}

#[test]
fn results_in_a_folder_below_the_input_are_not_denoised_again() {
    let folder = workplace();
    write(&folder, "in/a.png", (5, 6, 3));
    for _ in 0..2 {
        predict(&folder, &["in", "--save-dir=in/sub/../results"])
            .success()
            .stdout(contains("a_denoise.png\n").count(1));
        assert_eq!(
            tree(&folder.path().join("in")),
            ["a.png", "results/a_denoise.png"]
        );
        fs::create_dir_all(folder.path().join("in/sub")).unwrap();
    }
}

#[test]
fn files_and_folders_may_be_mixed_and_an_image_named_twice_is_denoised_once() {
    let folder = workplace();
    for path in ["in/a.png", "b.png", "c.png"] {
        write(&folder, path, (5, 6, 3));
    }
    predict(&folder, &["c.png", "in", "b.png", "./in/a.png"])
        .success()
        .stdout(
            "./output/c_denoise.png\n\
             ./output/a_denoise.png\n\
             ./output/b_denoise.png\n",
        );
}

#[test]
fn the_references_command_line_works() {
    let folder = workplace();
    let noisy = write(&folder, "demo/42012_noise.png", (10, 12, 3));
    let args = [
        "--image_path",
        "demo/42012_noise.png",
        "--model_path",
        "half.safetensors",
        "--save_dir",
        "./demo_results/",
    ];
    predict(&folder, &args)
        .success()
        .stdout("./demo_results/42012_noise_denoise.png\n");
    assert_halved(&folder, "demo_results/42012_noise_denoise.png", &noisy);
}

#[test]
fn denoise_is_another_name_of_the_command() {
    let folder = workplace();
    write(&folder, "a.png", (5, 6, 3));
    let mut command = Command::cargo_bin("n2n").unwrap();
    command
        .current_dir(&folder)
        .args(["denoise", "a.png", "--model-path=half.safetensors"])
        .assert()
        .success()
        .stdout("./output/a_denoise.png\n");
}

#[test]
fn results_that_would_meet_under_one_name_are_refused() {
    let folder = workplace();
    for path in ["in/a.png", "in/a.jpg", "other/a.png"] {
        write(&folder, path, (5, 6, 3));
    }
    for (inputs, pair) in [
        (vec!["in", "--format=png"], "in/a.jpg and in/a.png"),
        (vec!["in/a.png", "other/a.png"], "in/a.png and other/a.png"),
    ] {
        predict(&folder, &inputs)
            .code(1)
            .stdout("")
            .stderr(contains(format!(
                "error: {pair} would both be written to ./output/a_denoise.png"
            )));
        assert!(!folder.path().join("output").exists());
    }
}

#[test]
fn a_result_never_replaces_an_input() {
    let folder = workplace();
    write(&folder, "a.png", (5, 6, 3));
    write(&folder, "a_denoise.png", (7, 8, 3));
    let before = fs::read(folder.path().join("a_denoise.png")).unwrap();
    for inputs in [vec!["."], vec!["a.png", "./a_denoise.png"]] {
        predict(&folder, &[&inputs[..], &["--save-dir=."]].concat())
            .code(1)
            .stdout("")
            .stderr(contains("a_denoise.png: the result of"))
            .stderr(contains("choose another --save-dir"));
    }
    assert_eq!(
        fs::read(folder.path().join("a_denoise.png")).unwrap(),
        before
    );
}

#[test]
fn an_image_that_cannot_be_read_does_not_stop_the_others() {
    let folder = workplace();
    for path in ["in/a.png", "in/c.png"] {
        write(&folder, path, (5, 6, 3));
    }
    fs::write(folder.path().join("in/b.png"), "words").unwrap();
    predict(&folder, &["in", "missing.png"])
        .code(1)
        .stdout("./output/a_denoise.png\n./output/c_denoise.png\n")
        .stderr(
            contains("error: in/b.png: not a readable image")
                .and(contains("error: missing.png: "))
                .and(contains("error: 2 of 4 images failed")),
        );
}

#[test]
fn a_shipped_model_is_the_default_and_can_be_named() {
    let folder = workplace();
    write(&folder, "a.png", (20, 30, 3));
    let mut command = Command::cargo_bin("n2n").unwrap();
    command
        .current_dir(&folder)
        .args(["predict", "a.png", "--save-dir=default"])
        .assert()
        .success();
    predict(&folder, &["a.png", "--model-path=gauss5_50"]).success();
    assert_eq!(
        read(&folder, "output/a_denoise.png"),
        read(&folder, "default/a_denoise.png")
    );
}

#[test]
fn the_shipped_model_removes_noise() {
    let folder = workplace();
    let noise: Noise = "gauss25".parse().unwrap();
    let noisy = Image {
        height: 48,
        width: 48,
        channels: 3,
        data: noise.corrupt_as_numpy(&vec![0.5; 48 * 48 * 3], &mut RandomState::new(1)),
        depth: Depth::U8,
    };
    noisy.write(&folder.path().join("noisy.png")).unwrap();
    predict(&folder, &["noisy.png", "--model-path=gauss5_50"]).success();
    let squares = read(&folder, "output/noisy_denoise.png").data;
    let squares = squares.iter().map(|x| (x * 255.0 - 127.5).powi(2));
    let error = (squares.sum::<f32>() / (48.0 * 48.0 * 3.0)).sqrt();
    assert!(error < 8.0, "a deviation of 25 became {error}");
}

#[test]
fn the_number_of_threads_changes_no_result() {
    let folder = workplace();
    write(&folder, "a.png", (70, 70, 3));
    let result = |threads: &str| {
        predict(&folder, &["a.png", threads, "--model-path=gauss5_50"]).success();
        fs::read(folder.path().join("output/a_denoise.png")).unwrap()
    };
    assert!(result("--threads=1") == result("--cpu_threads=3"));
}
