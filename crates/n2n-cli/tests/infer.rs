//! `n2n infer` from the outside: what it writes, prints, reports and refuses.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use n2n::files;
use n2n::image::Image;
use n2n::unet::UNet;
use n2n::weights::Weights;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;

/// A folder with `gray.onnx` and `gray.safetensors`, a model whose output is 0.5 everywhere, and
/// `pictures`: `a.png` and `c.png` of 256 × 256 pixels, `b.jpg` of 40 × 60.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, height, width) in [("a.png", 256, 256), ("b.jpg", 40, 60), ("c.png", 256, 256)] {
        let image = Image::from_bytes(height, width, 3, &bytes(height, width));
        let path = folder.path().join("pictures").join(name);
        image.write(&path).unwrap();
    }
    let unet = UNet::new(2, 3).unwrap();
    let mut weights = Weights::from_parameters(&unet, &vec![0.0; unet.parameters()]);
    weights.tensors.get_mut("nin_c.bias").unwrap().data = vec![0.5; 3];
    let path = |name| folder.path().join(name);
    weights.write(&path("gray.safetensors")).unwrap();
    weights.write_onnx(&path("gray.onnx")).unwrap();
    folder
}

fn bytes(height: usize, width: usize) -> Vec<u8> {
    let byte = |i: usize| (i * i / 31 % 256) as u8;
    (0..height * width * 3).map(byte).collect()
}

/// The PSNR of a 256 × 256 picture against the model's bytes, `0.5 · 255 + 0.5`.
fn psnr_db() -> f64 {
    let bytes = bytes(256, 256);
    let square = |&byte: &u8| (f64::from(byte) - 128.0).powi(2);
    let mean = bytes.iter().map(square).sum::<f64>() / bytes.len() as f64;
    10.0 * (255.0 * 255.0 / mean).log10()
}

/// An ONNX model that is another network: one `Relu`, for images of three channels and any size.
fn foreign_onnx() -> Vec<u8> {
    // Protobuf: a field is its number and kind, then a small number, or a length and that many bytes.
    fn number(field: u8, value: u8) -> Vec<u8> {
        vec![field << 3, value]
    }
    fn part(field: u8, content: &[u8]) -> Vec<u8> {
        let (low, high) = (content.len() % 128, content.len() / 128);
        let length = [low as u8 | 0x80, high as u8];
        [[field << 3 | 2].as_slice(), &length, content].concat()
    }
    let size = |name: &str| part(1, &part(2, name.as_bytes()));
    let sizes = [size("n"), part(1, &number(1, 3)), size("h"), size("w")].concat();
    let tensor = part(1, &[number(1, 1), part(2, &sizes)].concat());
    let value = |name: &[u8]| [part(1, name), part(2, &tensor)].concat();
    let node = [part(1, b"x"), part(2, b"y"), part(4, b"Relu")].concat();
    let graph = [
        part(1, &node),
        part(2, b"relu"),
        part(11, &value(b"x")),
        part(12, &value(b"y")),
    ];
    let opset = number(2, 17);
    [number(1, 8), part(7, &graph.concat()), part(8, &opset)].concat()
}

fn infer(folder: &TempDir, flags: &[&str]) -> Command {
    let mut command = Command::cargo_bin("n2n").unwrap();
    command.current_dir(folder).arg("infer").args(flags);
    command
}

/// Standard output of a run that succeeds.
fn stdout(folder: &TempDir, flags: &[&str]) -> String {
    let output = infer(folder, flags).assert().success().get_output().clone();
    String::from_utf8(output.stdout).unwrap()
}

/// Height and width of the results in `save_dir`, by name.
fn sizes(folder: &TempDir, save_dir: &str) -> Vec<(String, usize, usize)> {
    let mut sizes = vec![];
    for entry in fs::read_dir(folder.path().join(save_dir)).unwrap() {
        let path = entry.unwrap().path();
        let image = Image::read(&path).unwrap();
        assert!(image.to_bytes().iter().all(|&byte| byte == 128));
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        sizes.push((name, image.height, image.width));
    }
    sizes.sort();
    sizes
}

/// PSNR and SSIM of the lines that say what the output was scored against.
fn scores(stdout: &str, against: &str) -> Vec<(f64, f64)> {
    let start = format!("[INFER] output against {against}: psnr:");
    let lines = stdout.lines().filter_map(|line| line.strip_prefix(&start));
    let parse = |scores: &str| {
        let (psnr, ssim) = scores.split_once(" ssim:").unwrap();
        (psnr.parse().unwrap(), ssim.parse().unwrap())
    };
    lines.map(parse).collect()
}

/// The entries of a report by key. A line is `[2022/01/31 08:09:10] root INFO: `, then a title
/// between dashes or ` key: value`; the lines of measurements have several, with commas between.
fn parse_report(report: &str) -> HashMap<String, String> {
    let mut entries = HashMap::new();
    for line in report.lines() {
        let (time, message) = line
            .strip_prefix('[')
            .and_then(|line| line.split_once("] root INFO: "))
            .unwrap_or_else(|| panic!("{line:?}"));
        let digits: String = time.chars().filter(char::is_ascii_digit).collect();
        let rest: String = time.chars().filter(|c| !c.is_ascii_digit()).collect();
        assert_eq!((digits.len(), rest.as_str()), (14, "// ::"), "{line:?}");
        if message.starts_with("----") {
            let title = message.trim_matches('-').trim();
            entries.insert(title.to_owned(), String::new());
            continue;
        }
        assert!(message.starts_with(' '), "{line:?}");
        let pairs: Vec<&str> = if message.contains("(ms)") || message.contains("(MB)") {
            message.split(',').collect()
        } else {
            vec![message]
        };
        for pair in pairs {
            let (key, value) = pair.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
            entries.insert(key.trim().to_owned(), value.to_owned());
        }
    }
    entries
}

#[test]
fn a_script_for_the_reference_needs_only_its_first_word_changed() {
    let folder = workplace();
    let flags = [
        "--use_gpu=False",
        "--enable_mkldnn=False",
        "--cpu_threads=2",
        "--model_file=gray.onnx",
        "--batch_size=2",
        "--input_file=pictures",
        "--enable_benchmark=True",
        "--precision=fp32",
        "--params_file=",
        "--save_dir",
        "output/inference_img",
        "--ir_optim=True",
        "--use_tensorrt=False",
        "--gpu_mem=8000",
    ];
    stdout(&folder, &flags);
    let want = ["a", "b", "c"].map(|name| (format!("{name}_denoise.png"), 256, 256));
    assert_eq!(sizes(&folder, "output/inference_img"), want);
    assert!(folder.path().join("output/auto_log.lpg").exists());
}

#[test]
fn the_output_is_scored_against_its_noisy_input_and_the_clean_image() {
    let folder = workplace();
    let flags = ["-i=pictures/a.png", "--model_file=gray.safetensors"];
    let out = stdout(&folder, &flags);
    assert!(
        out.starts_with("output/inference_img/a_denoise.png\n"),
        "{out}"
    );
    assert!(out.contains("mean of 1 image\n"), "{out}");
    // The image's line, and the mean's.
    let clean = scores(&out, "clean image");
    let noisy = scores(&out, "noisy input");
    assert_eq!((clean.len(), noisy.len()), (2, 2), "{out}");
    assert!((clean[0].0 - psnr_db()).abs() < 1e-5, "{out}");
    assert_ne!(noisy[0], clean[0]);
    assert_eq!((clean[0], noisy[0]), (clean[1], noisy[1]));
    assert!(!folder.path().join("output/auto_log.lpg").exists());

    assert_eq!(stdout(&folder, &flags), out, "the noise is the seed's");
    let other = [&flags[..], &["--seed=1"]].concat();
    assert_ne!(scores(&stdout(&folder, &other), "noisy input"), noisy);

    // With nothing added there is no clean image to compare with.
    let none = [&flags[..], &["--noisetype=none"]].concat();
    let out = stdout(&folder, &none);
    assert_eq!(scores(&out, "clean image"), []);
    assert!((scores(&out, "noisy input")[0].0 - psnr_db()).abs() < 1e-5);
}

#[test]
fn images_may_keep_their_sizes() {
    let folder = workplace();
    let flags = [
        "--input-file=pictures",
        "--model-file=gray.safetensors",
        "--keep-size",
        "--batch-size=3",
        "--save-dir=kept",
        "--enable-benchmark",
    ];
    let out = stdout(&folder, &flags);
    let want = [("a", 256, 256), ("b", 40, 60), ("c", 256, 256)];
    let want = want.map(|(name, h, w)| (format!("{name}_denoise.png"), h, w));
    assert_eq!(sizes(&folder, "kept"), want);
    assert_eq!(scores(&out, "clean image").len(), 4);
    assert!(out.contains(" input_shape: dynamic\n"), "{out}");
}

#[cfg(feature = "rten")]
#[test]
fn both_engines_write_the_same_pictures() {
    let folder = workplace();
    let unet = UNet::new(2, 3).unwrap();
    let parameters: Vec<f32> = (0..unet.parameters())
        .map(|i| ((i * 7919 % 1000) as f32 / 1000.0 - 0.5) * 0.5)
        .collect();
    let path = folder.path().join("random.onnx");
    Weights::from_parameters(&unet, &parameters)
        .write_onnx(&path)
        .unwrap();
    for engine in ["native", "rten"] {
        let flags = [
            "--input_file=pictures",
            "--model_file=random.onnx",
            "--keep-size",
            "--batch_size=2",
            &format!("--engine={engine}"),
            &format!("--save_dir={engine}"),
            "--enable_benchmark=True",
        ];
        let out = stdout(&folder, &flags);
        assert!(out.contains(&format!(" engine: {engine}\n")), "{out}");
    }
    for name in ["a", "b", "c"] {
        let read = |engine: &str| {
            let path = folder
                .path()
                .join(engine)
                .join(format!("{name}_denoise.png"));
            Image::read(&path).unwrap()
        };
        let (native, rten) = (read("native"), read("rten"));
        assert_eq!((native.height, native.width), (rten.height, rten.width));
        let (native, rten) = (native.to_bytes(), rten.to_bytes());
        let (least, most) = (native.iter().min(), native.iter().max());
        assert!(least < most, "{name} is flat");
        // Rounding may fall to either side.
        let differs = native.iter().zip(&rten).map(|(a, b)| a.abs_diff(*b));
        assert!(differs.clone().all(|by| by <= 1), "{name}");
        assert!(
            differs.filter(|&by| by > 0).count() < native.len() / 1000,
            "{name}"
        );
    }
}

#[cfg(feature = "rten")]
#[test]
fn rten_runs_foreign_models_and_refuses_what_is_not_a_model() {
    let folder = workplace();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("foreign.onnx"), foreign_onnx()).unwrap();
    fs::write(path("text.onnx"), "no model").unwrap();
    let always = ["--input_file=pictures/b.jpg", "--engine=rten"];
    let fails = |model: &str| {
        infer(&folder, &[&always[..], &[model]].concat())
            .assert()
            .code(1)
            .stderr(contains(model.trim_start_matches("--model_file=")))
    };
    fails("--model_file=text.onnx");
    fails("--model_file=missing.onnx");
    assert!(!path("output").exists());

    let foreign = [
        "--model_file=foreign.onnx",
        "--noisetype=none",
        "--keep-size",
    ];
    stdout(&folder, &[&always[..], &foreign].concat());
    let result = Image::read(&path("output/inference_img/b_denoise.png")).unwrap();
    let input = Image::read(&path("pictures/b.jpg")).unwrap();
    assert_eq!(result.to_bytes(), input.to_bytes());
}

#[test]
fn the_report_is_autologs_with_figures_of_this_run() {
    let folder = workplace();
    let flags = [
        "--input_file=pictures",
        "--model_file=gray.safetensors",
        "--batch_size=2",
        "--enable_benchmark=true",
        "--enable_mkldnn=True",
        "--cpu_threads=1",
        "--log_path=logs/report.lpg",
    ];
    fs::create_dir(folder.path().join("logs")).unwrap();
    fs::write(folder.path().join("logs/report.lpg"), "an older report").unwrap();
    let output = infer(&folder, &flags)
        .assert()
        .success()
        .get_output()
        .clone();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("there is no oneDNN"), "{stderr}");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let report = fs::read_to_string(folder.path().join("logs/report.lpg")).unwrap();
    assert!(stdout.ends_with(&report), "{stdout}");

    let entries = parse_report(&report);
    for title in ["Env", "Framework", "Conf", "Model", "Data", "Perf"] {
        let title = format!("{title} info");
        assert!(entries.contains_key(&title), "no {title} in\n{report}");
    }
    for (key, value) in [
        ("CUDA_version", "None"),
        ("CUDNN_version", "None"),
        ("drivier_version", "None"),
        ("engine", "native"),
        ("runtime_device", "cpu"),
        ("ir_optim", "True"),
        ("enable_memory_optim", "True"),
        ("enable_tensorrt", "False"),
        ("enable_mkldnn", "False"),
        ("cpu_math_library_num_threads", "1"),
        ("model_name", "N2N"),
        ("precision", "fp32"),
        ("batch_size", "2"),
        ("input_shape", "[3, 256, 256]"),
        ("data_num", "3"),
        ("gpu_rss(MB)", "None"),
        ("gpu_util", "None%"),
    ] {
        assert_eq!(entries.get(key).map(String::as_str), Some(value), "{key}");
    }
    let levels = n2n::cpu::Level::available();
    assert!(
        levels
            .iter()
            .any(|level| entries["cpu_level"] == level.name())
    );
    assert!(entries["OS_version"].contains(std::env::consts::ARCH));

    let number = |key: &str| entries[key].parse::<f64>().unwrap();
    // Three arrays of 256 × 256 × 3 floats take more than 2 MB, and a batch of two images holds four: clean and noisy.
    let rss = number("cpu_rss(MB)");
    assert!((2.0..2000.0).contains(&rss), "{rss} MB");
    let stages =
        ["preprocess", "inference", "postprocess"].map(|s| number(&format!("{s}_time(ms)")));
    assert!(stages.iter().all(|&ms| ms > 0.0), "{report}");
    let total_ms = 1e3 * number("total time spent(s)");
    let sum_ms = 3.0 * stages.iter().sum::<f64>();
    assert!(
        (total_ms - sum_ms).abs() < 0.1,
        "{total_ms} ms and {sum_ms} ms"
    );
}

#[test]
fn booleans_have_the_references_spellings() {
    let folder = workplace();
    let run = |flags: &[&str]| {
        let always = ["-i", "pictures/b.jpg", "--model_file", "gray.safetensors"];
        stdout(&folder, &[&always[..], flags].concat())
    };
    let reported = |out: &str| out.contains("root INFO:");
    for yes in ["True", "true", "1"] {
        assert!(reported(&run(&["--enable_benchmark", yes])), "{yes}");
        assert!(
            reported(&run(&[&format!("--enable_benchmark={yes}")])),
            "{yes}"
        );
    }
    for no in ["False", "false", "0"] {
        assert!(!reported(&run(&["--enable_benchmark", no])), "{no}");
        assert!(
            !reported(&run(&[&format!("--enable-benchmark={no}")])),
            "{no}"
        );
    }
}

#[test]
fn what_cannot_be_done_is_said_and_leaves_no_file() {
    let folder = workplace();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    fs::create_dir(path("empty")).unwrap();
    fs::write(path("text.png"), "no picture").unwrap();
    for (model, cut) in [
        ("gray.onnx", "cut.onnx"),
        ("gray.safetensors", "cut.safetensors"),
    ] {
        let bytes = fs::read(path(model)).unwrap();
        fs::write(path(cut), &bytes[..bytes.len() / 2]).unwrap();
    }
    fs::write(path("foreign.onnx"), foreign_onnx()).unwrap();
    let fails = |flags: &[&str], code: i32, message: &str| {
        let always = ["--enable_benchmark=True"];
        infer(&folder, &[&always[..], flags].concat())
            .assert()
            .code(code)
            .stderr(contains(message).and(contains("panicked").not()));
        let left = files::find(&path("output"), &["png", "lpg"]).unwrap_or_default();
        assert!(left.is_empty(), "{flags:?} leaves {left:?}");
    };
    let (input, model) = ("--input_file=pictures", "--model_file=gray.safetensors");

    let gpu = "--use-gpu: expected False (this command runs on the CPU), found True";
    fails(&[input, model, "--use_gpu=True"], 1, gpu);
    fails(
        &[input, model, "--use_tensorrt=True"],
        1,
        "--use-tensorrt: expected False",
    );
    fails(
        &[input, model, "--precision=fp16"],
        1,
        "--precision: expected fp32",
    );
    fails(&[input, model, "--precision=int8"], 1, "found int8");

    fails(&[input, model, "--precision=fp64"], 2, "fp32, fp16, int8");
    fails(&[input, model, "--engine=paddle"], 2, "native, rten");
    fails(&[input, model, "--batch_size=0"], 2, "from 1 to 1024");
    fails(
        &[input, model, "--use_gpu=maybe"],
        2,
        "expected True or False",
    );
    fails(&[input], 2, "--model-file");
    fails(&[model], 2, "--input-file");

    fails(&["-i=empty", model], 1, "empty: no image in this folder");
    fails(&["-i=missing.png", model], 1, "missing.png");
    fails(&["-i=text.png", model], 1, "text.png: not a readable image");
    fails(
        &[input, "--model_file=missing.onnx"],
        1,
        "missing.onnx: neither a file nor a shipped model",
    );
    fails(
        &[input, "--model_file=cut.safetensors"],
        1,
        "cut.safetensors",
    );
    fails(&[input, "--model_file=text.png"], 1, "text.png");
}
