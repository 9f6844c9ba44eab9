//! `n2n export`: files for other engines, checked before they are written.

use std::path::Path;

use assert_cmd::Command;
use n2n::cpu::CpuNetwork;
use n2n::unet::UNet;
use n2n::weights::{Format, Weights};
use predicates::str::{contains, is_empty};

fn n2n(folder: &Path, args: &[&str]) -> assert_cmd::assert::Assert {
    let mut command = Command::new(env!("CARGO_BIN_EXE_n2n"));
    command.current_dir(folder).args(args).assert()
}

/// A folder with a small network in it.
fn folder() -> (tempfile::TempDir, Weights) {
    let folder = tempfile::tempdir().unwrap();
    let mut weights = CpuNetwork::initial(UNet::new(2, 3).unwrap(), 1).weights();
    weights.metadata.insert("noise".into(), "gauss25".into());
    weights
        .write(&folder.path().join("net.safetensors"))
        .unwrap();
    (folder, weights)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn both_files_hold_the_model_and_the_onnx_file_was_checked() {
    let (folder, weights) = folder();
    // The reference's spelling.
    let args = [
        "export",
        "--model_path",
        "net.safetensors",
        "--save_dir",
        "out",
        "--license",
        "MIT",
    ];
    let result = n2n(folder.path(), &args).success();
    if cfg!(feature = "rten") {
        result
            .stdout(contains("rten and n2n differ by at most "))
            .stdout(contains("out/model.onnx\nout/model.safetensors\n"))
            .stderr(is_empty());
    } else {
        result.stderr(contains(
            "out/model.onnx was not checked: this build of n2n has no rten",
        ));
    }
    for (name, format) in [
        ("model.onnx", Format::Onnx),
        ("model.safetensors", Format::Safetensors),
    ] {
        let path = folder.path().join("out").join(name);
        let (read, found) = Weights::read_with_format(&path).unwrap();
        assert_eq!((read.tensors, found), (weights.tensors.clone(), format));
        assert_eq!(read.metadata["noise"], "gauss25");
        assert_eq!(read.metadata["license"], "MIT");
    }
}

#[test]
fn half_precision_halves_the_file_of_weights() {
    let (folder, weights) = folder();
    let size = |dtype: &str| {
        let dtype = format!("--dtype={dtype}");
        let args = [
            "export",
            "--model-path=net.safetensors",
            "--save-dir=out",
            &dtype,
        ];
        n2n(folder.path(), &args).success();
        std::fs::metadata(folder.path().join("out/model.safetensors"))
            .unwrap()
            .len()
    };
    let (single, half) = (size("f32"), size("f16"));
    let parameters = UNet::new(2, 3).unwrap().parameters() as u64;
    assert_eq!(single - half, 2 * parameters);
    let read = Weights::read(&folder.path().join("out/model.safetensors")).unwrap();
    for (name, tensor) in &weights.tensors {
        for (got, want) in read.tensors[name].data.iter().zip(&tensor.data) {
            // Eleven bits, and the smallest step that there is.
            assert!(
                (got - want).abs() <= want.abs() / 2048.0 + 3e-8,
                "{name}: {got} {want}"
            );
        }
    }
    // The graph stays as it is.
    assert_eq!(
        Weights::read(&folder.path().join("out/model.onnx"))
            .unwrap()
            .tensors,
        weights.tensors
    );
}

#[test]
fn one_format_is_written_alone_into_the_default_folder() {
    let (folder, _) = folder();
    let args = [
        "export",
        "--model-path",
        "net.safetensors",
        "--format",
        "safetensors",
    ];
    n2n(folder.path(), &args)
        .success()
        .stdout("./output/model.safetensors\n")
        .stderr(contains("the model states no license"));
    assert_eq!(names(&folder.path().join("output")), ["model.safetensors"]);
}

#[test]
fn packages_are_written_beside_the_model() {
    let (folder, _) = folder();
    let export = |more: &[&str]| {
        let args = ["export", "--model-path=net.safetensors", "--save-dir=out"];
        n2n(folder.path(), &[&args[..], more].concat())
    };
    export(&[
        "--format=bioimageio,darktable",
        "--license=MIT",
        "--range=0,255",
    ])
    .success()
    .stdout(contains("out/net.bioimageio.zip\nout/net.dtmodel\n"));
    assert_eq!(
        names(&folder.path().join("out")),
        ["net.bioimageio.zip", "net.dtmodel"]
    );
    // Nothing is written if one of the formats cannot be.
    export(&["--format=onnx,bioimageio"])
        .failure()
        .stdout("")
        .stderr(contains("requires; set one with --license"));
    export(&["--format=onnx,bioimageio", "--license=MIT", "--range=auto"])
        .failure()
        .stdout("")
        .stderr(contains("--range: expected MIN,MAX, found auto"));
}

#[test]
fn an_exported_model_is_a_model_for_every_command() {
    let (folder, _) = folder();
    let args = [
        "export",
        "--model-path",
        "net.safetensors",
        "--format",
        "onnx",
    ];
    n2n(folder.path(), &args).success();
    n2n(
        folder.path(),
        &["info", "--model-path", "output/model.onnx"],
    )
    .success()
    .stdout(contains(
        "format          ONNX\nn_feature       2\nn_channel       3\n",
    ))
    .stdout(contains("noise           gauss25\n"))
    .stdout(contains("pixel_range     0..1 RGB\n"));
    // Exported again, even onto itself, it stays the same.
    let path = folder.path().join("output/model.onnx");
    let first = std::fs::read(&path).unwrap();
    let args = [
        "export",
        "--model-path",
        "output/model.onnx",
        "--format",
        "onnx",
    ];
    n2n(folder.path(), &args).success();
    assert_eq!(std::fs::read(&path).unwrap(), first);
}

#[test]
fn a_model_that_no_engine_can_compute_is_not_written() {
    let (folder, mut weights) = folder();
    for tensor in weights.tensors.values_mut() {
        tensor.data.fill(1e30);
    }
    weights
        .write(&folder.path().join("net.safetensors"))
        .unwrap();
    if cfg!(feature = "rten") {
        n2n(
            folder.path(),
            &["export", "--model-path", "net.safetensors"],
        )
        .code(1)
        .stdout(is_empty())
        .stderr(contains(
            "error: ./output/model.onnx was not written: for images of [1, 64, 96]",
        ));
        assert_eq!(names(folder.path()), ["net.safetensors"]);
    }
}

#[test]
fn damaged_missing_and_foreign_models_are_errors() {
    let (folder, weights) = folder();
    let bytes = weights.encode_onnx().unwrap();
    std::fs::write(folder.path().join("cut.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    // One empty operation.
    std::fs::write(
        folder.path().join("foreign.onnx"),
        [0x08, 8, 0x3a, 2, 0x0a, 0],
    )
    .unwrap();
    for (name, part) in [
        ("cut.onnx", "cut.onnx: a truncated or damaged ONNX model"),
        (
            "foreign.onnx",
            "foreign.onnx: an ONNX model with 1 operation that n2n did not write",
        ),
        (
            "missing.onnx",
            "missing.onnx: neither a file nor a shipped model",
        ),
    ] {
        n2n(folder.path(), &["export", "--model-path", name])
            .code(1)
            .stdout(is_empty())
            .stderr(contains(part));
    }
    n2n(folder.path(), &["export", "--format", "tflite"])
        .code(2)
        .stderr(contains("onnx, safetensors"));
    assert!(names(folder.path()).iter().all(|name| name != "output"));
}
