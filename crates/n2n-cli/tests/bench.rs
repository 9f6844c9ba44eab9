//! `n2n bench` from the outside: what it times, prints and refuses; and the level, of any command.

use std::path::Path;

use assert_cmd::Command;
use n2n::cpu::Level;
use n2n::unet::UNet;
use n2n::weights::Weights;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;

/// A folder with `tiny.safetensors`, a network that takes milliseconds.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let unet = UNet::new(1, 3).unwrap();
    let weights = Weights::from_parameters(&unet, &vec![0.01; unet.parameters()]);
    weights
        .write(&folder.path().join("tiny.safetensors"))
        .unwrap();
    folder
}

fn n2n(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("n2n").unwrap();
    command
        .current_dir(folder)
        .env_remove("N2N_LEVEL")
        .args(arguments);
    command
}

fn bench(folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = n2n(
        folder.path(),
        &["bench", "--model-path=tiny.safetensors", "--threads=2"],
    );
    command.args(arguments);
    command
}

/// The names of a JSON object of one level and their values, in order.
fn members(json: &str) -> Vec<(String, String)> {
    let inside = json.trim().strip_prefix('{').unwrap();
    let inside = inside.strip_suffix('}').unwrap().replace("[32,", "[32;");
    let member = |member: &str| {
        let (name, value) = member.split_once(':').unwrap();
        (name.trim_matches('"').to_string(), value.to_string())
    };
    inside.split(',').map(member).collect()
}

#[test]
fn json_is_one_object_with_what_was_measured() {
    let folder = workplace();
    let number = |value: &str| value.parse::<f64>().unwrap();
    let common = [
        "median_ms",
        "min_ms",
        "max_ms",
        "runs",
        "device",
        "threads",
        "level",
        "gflops",
        "peak_rss_mb",
    ];
    for (arguments, own) in [
        (
            ["infer", "--size=32x64", "--runs=3", "--json"],
            vec![("size", "[32;64]")],
        ),
        (
            ["train", "--batch=2", "--patch=64", "--json"],
            vec![("batch", "2"), ("patch", "64")],
        ),
    ] {
        let output = bench(&folder, &arguments).assert().success();
        let members = members(&String::from_utf8_lossy(&output.get_output().stdout));
        let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
        let mut expected = common.to_vec();
        expected.splice(7..7, own.iter().map(|(name, _)| *name));
        assert_eq!(names, expected);
        let value = |name| &members.iter().find(|member| member.0 == name).unwrap().1;
        for (name, expected) in own {
            assert_eq!(value(name), expected);
        }
        let runs = if arguments[0] == "infer" { "3" } else { "7" };
        assert_eq!(
            (value("runs").as_str(), value("threads").as_str()),
            (runs, "2")
        );
        let level = Level::detect().name();
        assert_eq!(*value("level"), format!("{level:?}"));
        assert_eq!(*value("device"), format!("{:?}", format!("cpu {level}")));
        let [min, median, max] = ["min_ms", "median_ms", "max_ms"].map(|name| number(value(name)));
        assert!(0.0 < min && min <= median && median <= max);
        assert!(number(value("gflops")) > 0.0);
        if cfg!(target_os = "linux") {
            assert!(number(value("peak_rss_mb")) > 1.0);
        }
    }
}

#[test]
fn without_json_it_prints_lines() {
    let folder = workplace();
    bench(&folder, &["infer", "--size=32", "--runs=1"])
        .assert()
        .success()
        .stdout(contains("work            infer 32x32\n"))
        .stdout(contains("median          ").and(contains(" ms\n")))
        .stdout(contains("threads         2\n"))
        .stdout(contains("effective       ").and(contains(" GFLOP/s\n")));
}

#[test]
fn what_cannot_be_timed_is_refused() {
    let folder = workplace();
    for (arguments, message) in [
        (["infer", "--size=48"], "multiples of 32 from 32 to 4096"),
        (["infer", "--size=32x"], "multiples of 32 from 32 to 4096"),
        (["infer", "--size=8192"], "multiples of 32 from 32 to 4096"),
        (["infer", "--runs=0"], "at least 1"),
        (["train", "--patch=32"], "a multiple of 64"),
        (["train", "--batch=0"], "from 1 to 1024"),
        (["walk", "--json"], "possible values: infer, train"),
    ] {
        bench(&folder, &arguments)
            .assert()
            .code(2)
            .stdout("")
            .stderr(contains(message));
    }
    bench(&folder, &["infer", "--model-path=missing.pth"])
        .assert()
        .failure()
        .stdout("");
}

#[test]
fn the_flag_for_the_level_takes_precedence_over_the_environment() {
    let folder = workplace();
    let level = |name| contains(format!("cpu level       {name}\n"));
    let timed = |name| contains(format!("device          cpu {name}\n"));
    let fastest = Level::detect().name();
    n2n(folder.path(), &["info"])
        .assert()
        .success()
        .stdout(level(fastest));
    n2n(folder.path(), &["info"])
        .env("N2N_LEVEL", "scalar")
        .assert()
        .success()
        .stdout(level("scalar"));
    n2n(folder.path(), &["info", "--level", fastest])
        .env("N2N_LEVEL", "scalar")
        .assert()
        .success()
        .stdout(level(fastest));
    bench(
        &folder,
        &["infer", "--size=32", "--runs=1", "--level=scalar"],
    )
    .assert()
    .success()
    .stdout(timed("scalar"));
}

#[test]
fn a_level_the_processor_lacks_is_an_error_that_lists_those_it_has() {
    let folder = workplace();
    let available: Vec<_> = Level::available().iter().map(ToString::to_string).collect();
    let message = format!(
        "no level \"avx1024\" on this processor; it has {}",
        available.join(", ")
    );
    for command in [
        &["bench", "infer"][..],
        &["export"],
        &["infer", "--model_file=m", "--input_file=i"],
        &["info"],
        &["predict", "noisy.png"],
        &["train"],
        &["val"],
    ] {
        n2n(folder.path(), command)
            .arg("--level=avx1024")
            .assert()
            .code(2)
            .stderr(contains(&message));
        n2n(folder.path(), command)
            .env("N2N_LEVEL", "avx1024")
            .assert()
            .code(2)
            .stderr(contains(&message));
    }
}
