//! `n2n prepare`, as its user sees it.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use assert_cmd::assert::Assert;
use n2n::image::Image;
use predicates::prelude::PredicateBooleanExt;
use predicates::str::{contains, starts_with};

/// Runs `n2n prepare ARGS` in a folder.
fn prepare(folder: &Path, args: &[&str]) -> Assert {
    let mut command = Command::cargo_bin("n2n").unwrap();
    command.current_dir(folder).arg("prepare").args(args);
    command.assert()
}

const IN_TO_OUT: [&str; 4] = ["--input-dir", "in", "--save-dir", "out"];

/// A folder `in` with five files: two to keep, one gray and one RGB; two of a wrong size; one that
/// is no image.
fn folder_of_images() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, width: usize, height: usize, channels: usize| {
        let bytes = vec![120; width * height * channels];
        let image = Image::from_bytes(height, width, channels, &bytes);
        image.write(&dir.path().join(name)).unwrap();
    };
    write("in/color.png", 256, 512, 3);
    write("in/below/gray.JPEG", 300, 300, 1);
    write("in/small.png", 255, 300, 3);
    write("in/large.jpg", 300, 513, 3);
    fs::write(dir.path().join("in/words.png"), "these are words").unwrap();
    dir
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn it_keeps_images_of_256_to_512_pixels_and_counts_the_rest() {
    let dir = folder_of_images();
    prepare(dir.path(), &IN_TO_OUT).success().stdout(
        "kept 2 of 5 images\n  \
         2 written, 0 already in out\n  \
         2 skipped: width or height outside 256 to 512\n  \
         1 unreadable\n",
    );
    assert_eq!(names(&dir.path().join("out")), ["color.jpg", "gray.JPEG"]);
}

#[test]
fn it_converts_gray_to_rgb() {
    let dir = folder_of_images();
    prepare(dir.path(), &IN_TO_OUT).success();
    let gray = Image::read(&dir.path().join("out/gray.JPEG")).unwrap();
    assert_eq!((gray.height, gray.width, gray.channels), (300, 300, 3));
}

#[test]
fn it_warns_of_files_it_cannot_read_even_when_quiet() {
    let dir = folder_of_images();
    prepare(dir.path(), &[&IN_TO_OUT[..], &["--quiet"]].concat())
        .success()
        .stderr(
            "warning: in/words.png: not a readable image: \
             it is not a PNG, JPEG, TIFF, DNG, WebP, BMP, PNM, OpenEXR, TGA, PFM, MRC, GIF, Radiance HDR or JPEG 2000 file\n",
        );
}

#[test]
fn it_does_no_work_twice() {
    let dir = folder_of_images();
    prepare(dir.path(), &IN_TO_OUT).success();
    let image = dir.path().join("out/color.jpg");
    // A mark in place of the image: writing it again would remove the mark.
    let time = fs::metadata(&image).unwrap().modified().unwrap();
    fs::write(&image, "mark").unwrap();
    let marked = fs::File::options().write(true).open(&image).unwrap();
    marked.set_modified(time).unwrap();

    prepare(dir.path(), &IN_TO_OUT)
        .success()
        .stdout(contains("kept 2 of 5 images"))
        .stdout(contains("0 written, 2 already in out"));
    assert_eq!(fs::read(&image).unwrap(), b"mark");
}

#[test]
fn its_range_can_be_chosen_and_its_flags_spelled_with_underscores() {
    let dir = folder_of_images();
    let args = ["--input_dir", "in", "--save_dir=out", "--min_size=300"];
    prepare(dir.path(), &[&args[..], &["--max_size", "513"]].concat())
        .success()
        .stdout(contains("outside 300 to 513"));
    assert_eq!(names(&dir.path().join("out")), ["gray.JPEG", "large.jpg"]);
}

#[test]
fn it_says_when_no_image_was_kept() {
    let dir = folder_of_images();
    let range = ["--min-size=600", "--max-size=700"];
    prepare(dir.path(), &[&IN_TO_OUT[..], &range].concat())
        .code(1)
        .stdout(contains("kept 0 of 5 images"))
        .stderr(contains("error: no training images were kept"));
}

#[test]
fn a_missing_folder_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), &IN_TO_OUT)
        .code(1)
        .stdout("")
        .stderr(starts_with("error: in: "));
    assert!(!dir.path().join("out").exists());
}

#[test]
fn a_folder_without_an_image_is_an_error_that_says_what_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    fs::write(dir.path().join("in/notes.txt"), "words").unwrap();
    prepare(dir.path(), &IN_TO_OUT).code(1).stdout("").stderr(
        starts_with("error: in: no image in this folder or its subfolders: ")
            .and(contains(".jpeg")),
    );
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path(), &["--input-dir", "in"])
        .code(2)
        .stderr(contains("--save-dir"));
}
