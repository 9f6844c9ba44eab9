//! `n2n predict` and `n2n corrupt` on files of every kind, broken and hostile ones among them.

mod corrupt;
mod hostile;
mod interrupts;
mod outputs;
mod pages;
mod streams;
mod values;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use n2n::image::{Depth, Format, Image, Limits, Page, Pages, Reader, images};
use n2n::unet::UNet;
use n2n::weights::Weights;
use predicates::prelude::*;
use predicates::str::contains;
use tempfile::TempDir;

/// A folder with `zero.safetensors`, a small model whose output is 0 everywhere, and the picture `a.png`.
fn workplace() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let unet = UNet::new(1, 3).unwrap();
    let zero = Weights::from_parameters(&unet, &vec![0.0; unet.parameters()]);
    zero.write(&folder.path().join("zero.safetensors")).unwrap();
    picture(20, 30).write(&folder.path().join("a.png")).unwrap();
    folder
}

fn picture(height: usize, width: usize) -> Image {
    let bytes: Vec<u8> = (0..height * width * 3)
        .map(|i| (i * 7919 % 251) as u8)
        .collect();
    Image::from_bytes(height, width, 3, &bytes)
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/images")
        .join(name)
}

fn command(folder: &TempDir, args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("n2n").unwrap();
    command.current_dir(folder).args(args);
    if args[0] == "predict" && !args.iter().any(|arg| arg.starts_with("--model")) {
        command.arg("--model-path=zero.safetensors");
    }
    command
}

fn n2n(folder: &TempDir, args: &[&str]) -> Assert {
    command(folder, args).assert()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn pages(path: &Path) -> Vec<(Page, Vec<f32>)> {
    let mut reader = Reader::open(path, Limits::default()).unwrap();
    let mut pages = vec![];
    while let Some(page) = reader.next_page().unwrap() {
        let mut rows = vec![];
        reader.read_rows(page.height, &mut rows).unwrap();
        pages.push((page, rows));
    }
    pages
}

/// Waits until a result has a temporary file of at least this many bytes.
#[cfg(unix)]
fn wait_for_result(output: &Path, bytes: u64) {
    let start = Instant::now();
    let begun = || {
        let entries = fs::read_dir(output).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.metadata().ok())
            .any(|file| file.len() >= bytes)
    };
    while !begun() {
        assert!(start.elapsed() < Duration::from_mins(2), "nothing begun");
        std::thread::sleep(Duration::from_millis(1));
    }
}
