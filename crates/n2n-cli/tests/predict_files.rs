//! `n2n predict` and `n2n corrupt` on files of every kind, broken and hostile ones among them.

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

/// A folder with `zero.safetensors`, a small model whose output is nothing, and the picture `a.png`.
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

#[test]
fn with_no_strength_every_lossless_file_keeps_every_bit() {
    let folder = workplace();
    let files = [
        "alpha.webp",
        "bigtiff_f32_rgb.tif",
        "cmyk_u8.tif",
        "f64_grey.tif",
        "grey.bmp",
        "grey.pfm",
        "grey16.pgm",
        "grey16.png",
        "grey_f32.exr",
        "hyperstack_ome.tif",
        "id.exr",
        "left_b44.exr",
        "rgba.tga",
        "thumbnail.tif",
        "truncated_imagej.tif",
        "group4_one_bit.tif",
        "imagej_u16_stack.tif",
        "lossless.webp",
        "lzw_u8_rgb.tif",
        "mixed_pages.tif",
        "one_bit.png",
        "palette.png",
        "planes_f32_bands.tif",
        "planes_u8_rgb.tif",
        "predicted_u16_rgb.tif",
        "rgb.bmp",
        "rgb16.png",
        "rgb16.ppm",
        "rgb_f16.exr",
        "rgb_f32.exr",
        "rgba.png",
        "rgba_f32.exr",
        "rgba_u16.tif",
        "strip_u8_grey.tif",
        "strips_u16_rgb_big.tif",
        "tiles_f32_grey_big.tif",
        "tiles_u16_rgb.tif",
        "white_is_zero_u8.tif",
    ];
    let in_dir = folder.path().join("in");
    fs::create_dir(&in_dir).unwrap();
    for name in files {
        fs::copy(golden(name), in_dir.join(name)).unwrap();
    }
    n2n(
        &folder,
        &[
            "predict",
            "in",
            "--strength=0",
            "--suffix=",
            "--save-dir=out",
            "--quiet",
        ],
    )
    .success();
    for name in files {
        let (before, after) = (
            pages(&golden(name)),
            pages(&folder.path().join("out").join(name)),
        );
        assert_eq!(before.len(), after.len(), "{name}");
        for ((page, rows), (copy, copied)) in before.iter().zip(&after) {
            let shape = |p: &Page| (p.height, p.width, p.color, p.extra, p.depth, p.orientation);
            assert_eq!(shape(page), shape(copy), "{name}");
            assert!(rows == copied, "{name}: samples differ");
        }
    }
}

#[test]
fn transparency_passes_through() {
    let folder = workplace();
    fs::copy(golden("rgba_u16.tif"), folder.path().join("in.tif")).unwrap();
    n2n(&folder, &["predict", "in.tif"]).success();
    let (_, before) = pages(&golden("rgba_u16.tif")).remove(0);
    let (_, after) = pages(&folder.path().join("output/in_denoise.tif")).remove(0);
    for (before, after) in before.chunks(4).zip(after.chunks(4)) {
        assert_eq!(after, [0.0, 0.0, 0.0, before[3]]);
    }
}

#[test]
fn standard_input_becomes_standard_output() {
    let folder = workplace();
    let noisy = fs::read(folder.path().join("a.png")).unwrap();
    let output = command(&folder, &["predict", "-", "--strength=0", "--format=tiff"])
        .write_stdin(noisy)
        .assert()
        .success()
        .get_output()
        .stdout
        .clone();
    let mut reader = Reader::from_bytes(Path::new("-"), output, Limits::default()).unwrap();
    let page = reader.next_page().unwrap().unwrap();
    let mut rows = vec![];
    reader.read_rows(page.height, &mut rows).unwrap();
    assert_eq!(rows, picture(20, 30).data);
    for (args, hint) in [
        (&["predict", "-", "a.png"][..], "cannot be combined"),
        (&["predict", "-", "--residual"], "cannot be combined"),
    ] {
        n2n(&folder, args).code(1).stdout("").stderr(contains(hint));
    }
    command(&folder, &["predict", "-"])
        .write_stdin("words")
        .assert()
        .code(1)
        .stderr(contains("error: -: not a readable image"));
}

#[test]
fn residual_and_comparison_show_what_was_done() {
    let folder = workplace();
    let args = [
        "predict",
        "a.png",
        "--residual",
        "--compare",
        "--reference=a.png",
        "--strength=0.5",
    ];
    n2n(&folder, &args).success().stdout(
        contains("./output/a_denoise.png\n./output/a_residual.png\n./output/a_compare.png\n")
            .and(contains("a.png: psnr:inf ssim:1.0000 noisy, psnr:")),
    );
    let noisy = picture(20, 30);
    let out = |name: &str| Image::read(&folder.path().join("output").join(name)).unwrap();
    let (residual, compare, denoised) = (
        out("a_residual.png"),
        out("a_compare.png"),
        out("a_denoise.png"),
    );
    for (i, x) in noisy.data.iter().enumerate() {
        assert!((denoised.data[i] - x / 2.0).abs() < 1.0 / 255.0);
        assert!((residual.data[i] - (0.5 + x / 2.0)).abs() < 1.0 / 255.0);
    }
    assert_eq!((compare.height, compare.width), (20, 90));
    for (y, row) in compare.data.chunks(90 * 3).enumerate() {
        for (part, image) in [&noisy, &noisy, &denoised].into_iter().enumerate() {
            assert_eq!(
                row[part * 90..][..90],
                image.data[y * 90..][..90],
                "row {y}, part {part}"
            );
        }
    }
    picture(5, 5)
        .write(&folder.path().join("small.png"))
        .unwrap();
    let args = [
        "predict",
        "a.png",
        "--compare",
        "--reference=small.png",
        "--save-dir=new",
    ];
    n2n(&folder, &args)
        .code(1)
        .stderr(contains("small.png: expected an image of 30x20 pixels"));
}

#[test]
fn results_may_take_the_place_of_images_and_be_left_alone() {
    let folder = workplace();
    fs::create_dir(folder.path().join("in")).unwrap();
    fs::copy(folder.path().join("a.png"), folder.path().join("in/b.png")).unwrap();
    n2n(&folder, &["predict", "in", "--in-place"])
        .success()
        .stdout("in/b.png\n");
    assert!(
        Image::read(&folder.path().join("in/b.png"))
            .unwrap()
            .data
            .iter()
            .all(|&x| x == 0.0)
    );
    n2n(&folder, &["predict", "a.png", "--in-place", "--suffix=x"]).code(2);

    n2n(&folder, &["predict", "a.png", "--suffix=-clean"])
        .success()
        .stdout("./output/a-clean.png\n");
    n2n(
        &folder,
        &["predict", "a.png", "--suffix=-clean", "--skip-existing"],
    )
    .success()
    .stdout("")
    .stderr(contains("skipped 1 images"));
    // Without a suffix a result in the same folder would replace its image.
    n2n(&folder, &["predict", "a.png", "--suffix=", "--save-dir=."])
        .code(1)
        .stderr(contains("would replace this input"));
    n2n(&folder, &["predict", "in/*.png", "--save-dir=glob"])
        .success()
        .stdout("glob/b_denoise.png\n");
    n2n(&folder, &["predict", "in/*.tif"])
        .code(1)
        .stderr(contains("no file matches this pattern"));
}

#[test]
fn depth_format_and_range_are_what_was_asked_for() {
    let folder = workplace();
    n2n(
        &folder,
        &[
            "predict",
            "a.png",
            "--format=tiff",
            "--depth=32f",
            "--strength=0",
        ],
    )
    .success();
    let image = Image::read(&folder.path().join("output/a_denoise.tif")).unwrap();
    // Floats of integers have their values.
    assert_eq!(image.depth, Depth::F32);
    for (x, y) in picture(20, 30).data.iter().zip(&image.data) {
        assert!((x * 255.0 - y).abs() < 1e-4, "{x} became {y}");
    }
    n2n(
        &folder,
        &["predict", "a.png", "--format=jpeg", "--depth=16"],
    )
    .code(1)
    .stderr(contains("--depth: Jpeg does not support 16 bits"));

    // A camera's 12 bits in 16: the largest value that the network gives is 4095.
    let twelve = Image {
        depth: Depth::U16,
        data: picture(20, 30)
            .data
            .iter()
            .map(|x| (x * 4095.0).floor() / 65535.0)
            .collect(),
        ..picture(20, 30)
    };
    twelve.write(&folder.path().join("twelve.png")).unwrap();
    n2n(
        &folder,
        &["predict", "twelve.png", "--depth=8", "--strength=0"],
    )
    .success()
    .stderr(contains("values 0 to 4095 map to the network's 0 to 1"));
    let eight = Image::read(&folder.path().join("output/twelve_denoise.png")).unwrap();
    for (x, y) in picture(20, 30).data.iter().zip(&eight.data) {
        assert!((x - y).abs() < 1.5 / 255.0, "{x} became {y}");
    }
}

/// Each with its reason, and no output.
#[test]
fn broken_and_hostile_files_are_refused_and_the_rest_go_on() {
    let folder = workplace();
    let at = |name: &str| folder.path().join("in").join(name);
    fs::create_dir(folder.path().join("in")).unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(at(name), bytes).unwrap();
    put("empty.png", b"");
    put("text.png", b"words, not pixels");
    for name in ["rgb16.png", "photo.jpg", "tiles_u16_rgb.tif"] {
        let whole = fs::read(golden(name)).unwrap();
        put(&format!("cut_{name}"), &whole[..whole.len() * 2 / 3]);
    }
    // Its one strip lies beyond the end of the file.
    let mut nowhere = fs::read(golden("strip_u8_grey.tif")).unwrap();
    let entry = nowhere
        .windows(8)
        .position(|w| w == [0x11, 1, 4, 0, 1, 0, 0, 0]);
    nowhere[entry.unwrap() + 8..][..4].copy_from_slice(&[0, 0, 0, 0x70]);
    put("nowhere.tif", &nowhere);
    put("bomb.png", &fs::read(golden("bomb.png")).unwrap());
    fs::copy(golden("cmyk.jpg"), at("ink.jpg")).unwrap();
    fs::copy(golden("one_bit.png"), at("bit.png")).unwrap();
    fs::copy(golden("palette.png"), at("palette.png")).unwrap();
    fs::copy(folder.path().join("a.png"), at("z.png")).unwrap();
    n2n(&folder, &["predict", "in", "--save-dir=out", "--json=report.json"])
        .code(1)
        .stdout("out/bit_denoise.png\nout/ink_denoise.jpg\nout/palette_denoise.png\nout/z_denoise.png\n")
        .stderr(
            contains("error: in/empty.png: not a readable image: the file is empty")
                .and(contains("error: in/text.png: not a readable image: it is not a PNG, JPEG, "))
                .and(contains("error: in/cut_rgb16.png: "))
                .and(contains("error: in/cut_photo.jpg: not a readable image: the file ends before the image does"))
                .and(contains("error: in/cut_tiles_u16_rgb.tif: "))
                .and(contains("error: in/nowhere.tif: not a readable image: the file ends before the image does"))
                .and(contains("error: in/bomb.png: not a readable image: it declares 100000x100000 pixels"))
                .and(contains("error: 7 of 11 images failed"))
                .and(contains("panicked").not()),
        );
    assert_eq!(
        names(&folder.path().join("out")),
        [
            "bit_denoise.png",
            "ink_denoise.jpg",
            "palette_denoise.png",
            "z_denoise.png"
        ]
    );
    let report: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("report.json")).unwrap()).unwrap();
    assert_eq!(
        (report["images"].as_u64(), report["failed"].as_u64()),
        (Some(11), Some(7))
    );
    let files = report["files"].as_array().unwrap();
    let of = |name: &str| {
        files
            .iter()
            .find(|file| file["input"] == format!("in/{name}"))
            .unwrap()
    };
    assert_eq!(of("z.png")["width"], 30);
    assert_eq!(of("z.png")["output"], "out/z_denoise.png");
    assert!(of("z.png")["seconds"].as_f64().is_some() && of("z.png")["error"].is_null());
    // One tile, padded to the network's grid.
    let padded = |side: &str| of("z.png")[side].as_u64().unwrap().next_multiple_of(32);
    assert_eq!(
        of("z.png")["network_pixels"],
        padded("width") * padded("height")
    );
    assert!(
        of("empty.png")["error"]
            .as_str()
            .unwrap()
            .contains("the file is empty")
    );
}

#[test]
fn a_claim_beyond_the_limit_is_accepted_when_the_limit_is_raised() {
    let folder = workplace();
    fs::copy(golden("bomb.png"), folder.path().join("bomb.png")).unwrap();
    // Then it fails for what it is: nothing behind a large header.
    n2n(
        &folder,
        &[
            "predict",
            "bomb.png",
            "--max-pixels=20000000000",
            "--max-memory=100GB",
        ],
    )
    .code(1)
    .stderr(contains("error: bomb.png: ").and(contains("it declares").not()));
    n2n(&folder, &["predict", "a.png", "--max-pixels=599"])
        .code(1)
        .stderr(contains("more than the limit of 599"));
}

/// A grayscale photograph as RGB, as many programs save one, has the same noise in all channels.
#[test]
fn gray_images_go_to_the_gray_model() {
    let folder = workplace();
    let values: Vec<u8> = (0..40 * 50).map(|i| (i * 7919 % 251) as u8).collect();
    let repeated: Vec<u8> = values.iter().flat_map(|&value| [value; 3]).collect();
    let gray = Image::from_bytes(40, 50, 1, &values);
    gray.write(&folder.path().join("gray.png")).unwrap();
    let image = Image::from_bytes(40, 50, 3, &repeated);
    image.write(&folder.path().join("rgb.png")).unwrap();
    let denoised = |name: &str, model: &str| {
        let args = ["predict", name, "--model-path", model];
        n2n(&folder, &args).success().stderr("");
        let result = name.replace(".png", "_denoise.png");
        Image::read(&folder.path().join("output").join(result))
            .unwrap()
            .to_u8()
    };
    let expected = denoised("gray.png", "gauss5_50_gray");
    assert_ne!(expected, values);
    for model in ["gauss5_50", "poisson30"] {
        assert_eq!(denoised("gray.png", model), expected, "{model}");
        let result = denoised("rgb.png", model);
        assert!(result.chunks_exact(3).all(|pixel| pixel == [pixel[0]; 3]));
        assert!(result.iter().step_by(3).eq(&expected), "{model}");
    }
    // Said once, however many images there are.
    let warned = "a gray image, denoised by a model for RGB images";
    n2n(&folder, &["predict", "gray.png", "rgb.png"])
        .success()
        .stderr(contains(warned).count(1));
    n2n(&folder, &["predict", "a.png"]).success().stderr("");
}

#[test]
fn numbers_that_are_none_stay_and_spoil_nothing() {
    let folder = workplace();
    let mut image = Image {
        depth: Depth::F32,
        ..picture(20, 30)
    };
    image.data[10] = f32::NAN;
    image.data[100] = f32::INFINITY;
    image.data[500] = f32::NEG_INFINITY;
    image.write(&folder.path().join("in.tif")).unwrap();
    n2n(&folder, &["predict", "in.tif", "--model-path=gauss5_50"]).success();
    let result = Image::read(&folder.path().join("output/in_denoise.tif")).unwrap();
    for (i, (x, y)) in image.data.iter().zip(&result.data).enumerate() {
        assert_eq!(x.is_finite(), y.is_finite(), "value {i}");
    }
    assert!(result.data[10].is_nan() && result.data[100] == f32::INFINITY);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text_and_loops_of_links_are_no_obstacle() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = workplace();
    let in_dir = folder.path().join("in");
    fs::create_dir(&in_dir).unwrap();
    fs::copy(
        folder.path().join("a.png"),
        in_dir.join(OsStr::from_bytes(b"caf\xe9.png")),
    )
    .unwrap();
    std::os::unix::fs::symlink(&in_dir, in_dir.join("loop")).unwrap();
    n2n(&folder, &["predict", "in"]).success();
    let result = folder
        .path()
        .join("output")
        .join(OsStr::from_bytes(b"caf\xe9_denoise.png"));
    assert!(result.is_file());
    assert_eq!(names(&folder.path().join("output")).len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn names_cannot_command_the_terminal() {
    let folder = workplace();
    fs::write(folder.path().join("\u{1b}[2Jevil.png"), "words").unwrap();
    n2n(&folder, &["predict", "\u{1b}[2Jevil.png"])
        .code(1)
        .stderr(contains("\\u{1b}[2Jevil.png").and(contains("\u{1b}").not()));
}

#[cfg(target_os = "linux")]
#[test]
fn places_that_cannot_be_written_are_named_and_nothing_is_lost() {
    let folder = workplace();
    // Root may write where others may not; this place is closed to root too.
    n2n(&folder, &["predict", "a.png", "--save-dir=/proc/n2n"])
        .code(1)
        .stdout("")
        .stderr(contains("error: /proc/n2n"));
    // A full disk.
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let bytes = fs::read(folder.path().join("a.png")).unwrap();
    let mut child = Process::new(env!("CARGO_BIN_EXE_n2n"))
        .current_dir(&folder)
        .args(["predict", "-", "--model-path=zero.safetensors"])
        .stdin(Stdio::piped())
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("error: standard output"));
}

/// Of three outputs one cannot be written: the job fails, and what it had begun is gone.
#[test]
fn an_output_that_fails_leaves_no_half_of_itself() {
    let folder = workplace();
    let big = picture(200, 300);
    big.write(&folder.path().join("big.png")).unwrap();
    fs::create_dir_all(folder.path().join("output/big_residual.png/in the way")).unwrap();
    n2n(&folder, &["predict", "big.png", "--residual"])
        .code(1)
        .stderr(
            contains("error: ")
                .and(contains("big_residual.png"))
                .and(contains("stopped").not()),
        );
    assert!(
        names(&folder.path().join("output"))
            .iter()
            .all(|name| !name.contains(".partial"))
    );
}

/// Waits until a result has a temporary file, and so many bytes in it.
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

/// Ends the process as Ctrl-C does.
#[cfg(unix)]
fn interrupt(child: &mut std::process::Child) {
    let kill = Process::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(kill.unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[cfg(unix)]
#[test]
fn an_interrupt_leaves_nothing_half_done() {
    let folder = workplace();
    fs::create_dir(folder.path().join("in")).unwrap();
    for i in 0..3 {
        picture(700, 700)
            .write(&folder.path().join(format!("in/{i}.tif")))
            .unwrap();
    }
    let mut child = Process::new(env!("CARGO_BIN_EXE_n2n"))
        .current_dir(&folder)
        .args([
            "predict",
            "in",
            "--model-path=gauss5_50",
            "--tile=64",
            "--ensemble",
            "--quiet",
            "--json=report.json",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = folder.path().join("output");
    wait_for_result(&out, 0);
    interrupt(&mut child);
    let mut said = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(
        names(&out).iter().all(|name| !name.contains("partial")),
        "{:?}",
        names(&out)
    );
    for line in said.lines() {
        Image::read(&folder.path().join(line)).unwrap();
    }
    let report = fs::read_to_string(folder.path().join("report.json")).unwrap();
    assert!(report.contains("\"interrupted\": true"), "{report}");
    assert!(report.contains("\"images\": 3"), "{report}");
    assert_eq!(
        report.matches("\"seconds\"").count(),
        said.lines().count(),
        "{report}"
    );
}

/// The report has a reader that never comes.
#[cfg(unix)]
#[test]
fn an_interrupt_does_not_wait_for_whoever_reads_the_report() {
    let folder = workplace();
    picture(700, 700)
        .write(&folder.path().join("big.tif"))
        .unwrap();
    let made = Process::new("mkfifo")
        .current_dir(&folder)
        .arg("report")
        .status();
    assert!(made.unwrap().success());
    let mut child = Process::new(env!("CARGO_BIN_EXE_n2n"))
        .current_dir(&folder)
        .args(["predict", "big.tif", "--model-path=gauss5_50", "--tile=64"])
        .args(["--ensemble", "--quiet", "--json=report"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let out = folder.path().join("output");
    wait_for_result(&out, 0);
    interrupt(&mut child);
    assert!(names(&out).is_empty(), "{:?}", names(&out));
}

#[test]
fn a_tile_larger_than_any_image_is_the_image() {
    let folder = workplace();
    n2n(
        &folder,
        &["predict", "a.png", "--tile=18446744073709551615"],
    )
    .success();
}

/// As when the disk or the share that holds it goes away.
#[cfg(unix)]
#[test]
fn an_image_that_is_cut_off_while_it_is_read_fails_alone() {
    let folder = workplace();
    let big = folder.path().join("big.tif");
    picture(2500, 1600).write(&big).unwrap();
    let child = Process::new(env!("CARGO_BIN_EXE_n2n"))
        .current_dir(&folder)
        .args([
            "predict",
            "big.tif",
            "a.png",
            "--model-path=zero.safetensors",
        ])
        .args(["--tile=512", "--quiet"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = folder.path().join("output");
    wait_for_result(&out, 1);
    let file = fs::File::options().write(true).open(&big).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("error: big.tif: not a readable image"),
        "{said}"
    );
    assert_eq!(names(&out), ["a_denoise.png"]);
}

#[test]
fn padding_to_a_square_is_asked_for() {
    let folder = workplace();
    let args = [
        "predict",
        "a.png",
        "--model-path=gauss5_50",
        "--format=tiff",
        "--depth=32f",
    ];
    n2n(
        &folder,
        &[&args[..], &["--pad=square", "--save-dir=square"]].concat(),
    )
    .success();
    n2n(&folder, &args).success();
    let result = |dir: &str| {
        Image::read(&folder.path().join(dir).join("a_denoise.tif"))
            .unwrap()
            .data
    };
    let (square, multiple) = (result("square"), result("output"));
    // 20 x 30 becomes 32 x 32 either way.
    assert_eq!(square, multiple);
    picture(20, 70).write(&folder.path().join("a.png")).unwrap();
    n2n(
        &folder,
        &[&args[..], &["--pad=square", "--save-dir=square"]].concat(),
    )
    .success();
    n2n(&folder, &args).success();
    let (square, multiple) = (result("square"), result("output"));
    // The paddings differ in what lies below the image, and so do the results, by a little.
    let worst = square
        .iter()
        .zip(&multiple)
        .fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
    assert!(worst > 0.0 && worst < 0.2 * 255.0, "{worst}");
}

#[test]
fn corrupted_images_are_noisy_by_as_much_as_was_asked_for() {
    let folder = workplace();
    let flat = Image {
        depth: Depth::U16,
        data: vec![0.5; 64 * 64 * 3],
        ..Image::from_bytes(64, 64, 3, &[0; 64 * 64 * 3])
    };
    flat.write(&folder.path().join("flat.png")).unwrap();
    let corrupt = |out: &str, seed: &str| {
        n2n(
            &folder,
            &[
                "corrupt",
                "flat.png",
                "--noisetype=gauss25",
                seed,
                "-o",
                out,
            ],
        )
        .success()
        .stdout(format!("{out}\n"));
        Image::read(&folder.path().join(out)).unwrap()
    };
    let (one, two) = (
        corrupt("one.png", "--seed=1"),
        corrupt("two.tif", "--seed=2"),
    );
    for noisy in [&one, &two] {
        assert_eq!(noisy.depth, Depth::U16);
        let square: f32 = noisy.data.iter().map(|x| (x * 255.0 - 127.5).powi(2)).sum();
        let deviation = (square / noisy.data.len() as f32).sqrt();
        // Five standard errors of the deviation of 12,288 draws.
        assert!(
            (deviation - 25.0).abs() < 5.0 * 25.0 / (2.0 * 12288.0_f32).sqrt(),
            "{deviation}"
        );
    }
    assert_ne!(one.data, two.data);
    assert_eq!(corrupt("again.png", "--seed=1").data, one.data);
    n2n(&folder, &["corrupt", "flat.png", "-o", "one.png"])
        .code(1)
        .stderr(contains("one.png already exists"));
    // Every page has noise of its own.
    fs::copy(
        golden("imagej_u16_stack.tif"),
        folder.path().join("stack.tif"),
    )
    .unwrap();
    n2n(&folder, &["corrupt", "stack.tif", "-o", "noisy.tif"]).success();
    let all: Vec<_> = images(&folder.path().join("noisy.tif"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(all.len(), 3);
}

#[test]
fn a_report_or_a_suffix_cannot_replace_an_image() {
    let folder = workplace();
    let path = folder.path().join("a.png");
    let before = fs::read(&path).unwrap();
    // A flag that was taken for a switch.
    for report in ["a.png", "-"] {
        n2n(&folder, &["predict", "a.png", "--json", report])
            .code(1)
            .stderr(contains("--json"));
    }
    n2n(&folder, &["predict", "a.png", "--suffix", "/../../x"])
        .code(1)
        .stderr(contains("--suffix"));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(names(folder.path()), ["a.png", "zero.safetensors"]);
}

#[test]
fn what_a_file_holds_decides_its_format_whatever_its_name() {
    let folder = workplace();
    let deep = fs::read(golden("rgb16.ppm")).unwrap();
    fs::write(folder.path().join("named.jpg"), &deep).unwrap();
    let args = ["predict", "named.jpg", "--strength", "0", "--save-dir", "."];
    n2n(&folder, &args)
        .success()
        .stdout("./named_denoise.pnm\n");
    let (made, kept) = (
        pages(&folder.path().join("named_denoise.pnm")),
        pages(&golden("rgb16.ppm")),
    );
    assert_eq!((made[0].0.depth, &made[0].1), (Depth::U16, &kept[0].1));
    // As every program reads it, and not as PAM.
    let bytes = fs::read(folder.path().join("named_denoise.pnm")).unwrap();
    assert!(bytes.starts_with(b"P6"), "{:?}", &bytes[..2]);
    n2n(
        &folder,
        &["predict", "named.jpg", "--strength", "0", "--in-place"],
    )
    .success();
    let made = pages(&folder.path().join("named.jpg"));
    assert_eq!((made[0].0.depth, &made[0].1), (Depth::U16, &kept[0].1));
}

#[test]
fn results_beside_their_images_are_no_images_of_a_second_run() {
    let folder = workplace();
    fs::copy(folder.path().join("a.png"), folder.path().join("b.png")).unwrap();
    n2n(&folder, &["predict", "a.png", "--save-dir", "."]).success();
    n2n(
        &folder,
        &["predict", ".", "--save-dir", ".", "--skip-existing"],
    )
    .success()
    .stdout("./b_denoise.png\n");
    assert_eq!(
        names(folder.path()),
        [
            "a.png",
            "a_denoise.png",
            "b.png",
            "b_denoise.png",
            "zero.safetensors"
        ]
    );
}

#[test]
fn shards_together_are_one_run_and_what_is_missing_is_found() {
    let folder = workplace();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("in")).unwrap();
    // A range that has to be measured, and differs from image to image.
    for (i, low) in [30_000, 31_500, 30_500, 32_000, 31_000].iter().enumerate() {
        let samples: Vec<u16> = (0..32 * 32).map(|k: u16| low + k % 200).collect();
        let image = Image::from_u16(32, 32, 1, &samples).unwrap();
        image.write(&path(&format!("in/{i}.png"))).unwrap();
    }
    n2n(&folder, &["predict", "in", "--save-dir=whole"]).success();
    // The model gives its 0 for every pixel: the lowest value of all images.
    let brightest = Image::read(&path("whole/3_denoise.png")).unwrap();
    let low = brightest.to_u16()[0];
    assert!(low.abs_diff(30_000) < 100, "{low}");

    for (shard, results) in [
        ("2/3", "parts/1_denoise.png\nparts/4_denoise.png\n"),
        ("1/3", "parts/0_denoise.png\nparts/3_denoise.png\n"),
        ("3/3", "parts/2_denoise.png\n"),
    ] {
        let args = ["predict", "in", "--save-dir=parts", "--shard", shard];
        n2n(&folder, &args).success().stdout(results);
    }
    let same = || {
        assert_eq!(names(&path("parts")), names(&path("whole")));
        for name in names(&path("whole")) {
            let [part, whole] = ["parts", "whole"].map(|of| fs::read(path(of).join(&name)));
            assert!(part.unwrap() == whole.unwrap(), "{name}");
        }
    };
    same();
    fs::remove_file(path("parts/3_denoise.png")).unwrap();
    let args = ["predict", "in", "--save-dir=parts", "--skip-existing"];
    n2n(&folder, &args)
        .success()
        .stdout("parts/3_denoise.png\n");
    same();

    // In the folder of the images, too, where results of the other shards come between them.
    for shard in ["1/2", "2/2"] {
        let args = ["predict", "in", "--save-dir=in", "--shard", shard];
        n2n(&folder, &args).success();
    }
    assert_eq!(names(&path("in")).len(), 10);
    // More shards than images.
    let args = ["predict", "in", "--save-dir=parts", "--shard=16/16"];
    n2n(&folder, &args).success().stdout("");
    for shard in ["0/3", "4/3", "3", "1/0", "a/b", "-1/3"] {
        let args = ["predict", "in", &format!("--shard={shard}")];
        n2n(&folder, &args).code(2).stderr(contains("expected I/N"));
    }
    n2n(&folder, &["predict", "-", "--shard=1/2"])
        .code(1)
        .stderr(contains("standard input cannot be combined"));
}

#[cfg(unix)]
#[test]
fn a_file_that_is_replaced_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let folder = workplace();
    let path = folder.path().join("a.png");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    n2n(&folder, &["predict", "a.png", "--in-place"]).success();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn integers_beyond_the_range_are_not_cut_off() {
    let folder = workplace();
    let mut image = Image::from_bytes(32, 32, 1, &[0; 1024]);
    image.depth = Depth::U16;
    image.data = vec![0.004; 1024];
    image.data[500] = 0.5;
    image.write(&folder.path().join("spot.png")).unwrap();
    // The model's output is nothing, so half of every value stays; but what the spot has beyond twice the
    // range the model is not given, and all of that stays.
    let args = [
        "predict",
        "spot.png",
        "--range",
        "0,1000",
        "--strength",
        "0.5",
        "--save-dir",
        "o",
    ];
    n2n(&folder, &args).success();
    let made = Image::read(&folder.path().join("o/spot_denoise.png")).unwrap();
    let expected = 0.5 - 0.5 * 2000.0 / 65535.0;
    assert!(
        (made.data[500] - expected).abs() < 1e-4,
        "{}",
        made.data[500]
    );
    assert!((made.data[0] - 0.002).abs() < 1e-4, "{}", made.data[0]);
}

#[test]
fn noise_knows_the_range_and_leaves_what_is_no_number() {
    let folder = workplace();
    let mut image = Image::from_bytes(64, 64, 1, &[0; 4096]);
    image.depth = Depth::F32;
    image.data = (0..4096).map(|i| (i % 2) as f32 * 1000.0).collect();
    image.data[7] = f32::NAN;
    image.write(&folder.path().join("wide.tif")).unwrap();
    for noise in ["gauss25", "poisson30"] {
        let out = format!("{noise}.tif");
        n2n(
            &folder,
            &["corrupt", "wide.tif", "--noisetype", noise, "-o", &out],
        )
        .success();
        let made = Image::read(&folder.path().join(&out)).unwrap();
        assert!(made.data[7].is_nan(), "{noise}");
        let pairs = made
            .data
            .iter()
            .zip(&image.data)
            .filter(|(_, x)| x.is_finite());
        let mean_square = pairs.map(|(y, x)| f64::from(y - x).powi(2)).sum::<f64>() / 4095.0;
        // σ = 25/255 of 1000; of Poisson noise √(1/30) of 1000 in the bright half.
        let want = if noise == "gauss25" { 98.0 } else { 129.0 };
        assert!(
            (mean_square.sqrt() - want).abs() < 0.1 * want,
            "{noise}: {}",
            mean_square.sqrt()
        );
    }
}

/// Runs that would wait for ever end in an error of the harness.
#[cfg(unix)]
#[test]
fn a_pipe_is_read_as_a_stream_or_refused_at_once() {
    let folder = workplace();
    let pipe = |name: &str| {
        let path = folder.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        path
    };
    let path = pipe("pipe");
    let bytes = fs::read(folder.path().join("a.png")).unwrap();
    let writer = std::thread::spawn(move || fs::write(path, bytes).unwrap());
    command(&folder, &["predict", "pipe", "a.png", "--strength=0"])
        .timeout(Duration::from_mins(1))
        .assert()
        .success()
        .stdout("./output/pipe_denoise.png\n./output/a_denoise.png\n");
    writer.join().unwrap();
    let made = Image::read(&folder.path().join("output/pipe_denoise.png")).unwrap();
    assert_eq!(made, Image::read(&folder.path().join("a.png")).unwrap());

    // Nobody writes to this one.
    pipe("images.png");
    for args in [
        &["corrupt", "images.png", "-o", "noisy.png"][..],
        &["infer", "--input_file=images.png", "--model_file=gauss25"],
    ] {
        command(&folder, args)
            .timeout(Duration::from_mins(1))
            .assert()
            .code(1)
            .stderr(contains("images.png").and(contains("found a pipe or a device")));
    }
}

#[test]
fn pages_and_channels_that_are_not_chosen_are_copied() {
    let folder = workplace();
    for name in ["hyperstack_imagej.tif", "planes_f32_bands.tif"] {
        fs::copy(golden(name), folder.path().join(name)).unwrap();
    }
    let changed = |name: &str, args: &[&str]| {
        let all: Vec<&str> = ["predict", name, "--suffix=", "--quiet"]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        n2n(&folder, &all).success();
        let (before, after) = (
            pages(&golden(name)),
            pages(&folder.path().join("output").join(name)),
        );
        assert_eq!(before.len(), after.len());
        before.into_iter().zip(after)
    };
    let pages_changed = |args: &[&str]| -> Vec<usize> {
        changed("hyperstack_imagej.tif", args)
            .enumerate()
            .filter(|(_, (before, after))| before.1 != after.1)
            .map(|(at, _)| at)
            .collect()
    };
    assert_eq!(pages_changed(&["--pages=2,11-"]), [1, 10, 11]);
    // Channels of this stack are every other page.
    assert_eq!(pages_changed(&["--channel=2"]), [1, 3, 5, 7, 9, 11]);
    assert_eq!(pages_changed(&["--channel=2", "--pages=1-4"]), [1, 3]);
    // Here they are samples of a pixel.
    let (before, after) = changed("planes_f32_bands.tif", &["--channel=2,5"])
        .next()
        .unwrap();
    for channel in 0..5 {
        let samples =
            |rows: &[f32]| -> Vec<f32> { rows.iter().skip(channel).step_by(5).copied().collect() };
        let is_same = samples(&before.1) == samples(&after.1);
        assert_eq!(is_same, channel != 1 && channel != 4, "channel {channel}");
    }
    n2n(&folder, &["predict", "a.png", "--pages=0"])
        .code(2)
        .stderr(contains("numbers and ranges, counted from 1"));
    // A page of a stack in a format of one page.
    n2n(
        &folder,
        &[
            "predict",
            "hyperstack_imagej.tif",
            "--pages=3",
            "--format=png",
            "--strength=0",
        ],
    )
    .success();
    let third = &pages(&golden("hyperstack_imagej.tif"))[2].1;
    let png = folder.path().join("output/hyperstack_imagej_denoise.png");
    assert_eq!(&pages(&png)[0].1, third);
}

#[test]
fn the_range_is_that_of_what_is_denoised() {
    let folder = workplace();
    // The second channel is much brighter.
    let samples: Vec<u16> = (0..40 * 48)
        .flat_map(|i| [7919 * i % 1000, 7919 * i % 60_000].map(|value| value as u16))
        .collect();
    let image = Image::from_u16(40, 48, 2, &samples).unwrap();
    image.write(&folder.path().join("two.tif")).unwrap();
    for (channels, high) in [
        ("--channel=1", "1023"),
        ("--channel=2", "65535"),
        ("--channel=1-", "65535"),
    ] {
        let found = n2n(&folder, &["predict", "two.tif", channels]).success();
        let said = String::from_utf8(found.get_output().stderr.clone()).unwrap();
        let is_all = high == "65535";
        assert_eq!(said.contains(" map to "), !is_all, "{channels}: {said}");
        assert_eq!(
            said.contains(&format!("values 0 to {high} ")),
            !is_all,
            "{channels}: {said}"
        );
    }
}

/// Flat black, gray and white of a range in the units of a depth, in any format.
#[test]
fn flat_areas_stay_what_they_are_in_every_format() {
    /// How far the default model moves flat areas, of 255, and what rounding and a JPEG add.
    const MODEL: f32 = 6.0;
    const FORMAT: f32 = 1.0;
    let folder = workplace();
    let depths = [
        (Depth::U8, 0.0, 255.0),
        (Depth::I8, -128.0, 127.0),
        (Depth::U16, 0.0, 65535.0),
        (Depth::I16, -1000.0, 30_000.0),
        (Depth::U32, 0.0, 4e9),
        (Depth::I32, -2e9, 2e9),
        (Depth::F32, -3.0, 5e-3),
        (Depth::F64, 0.0, 1e6),
    ];
    let names = [
        "png", "jpg", "tif", "webp", "bmp", "tga", "pgm", "exr", "pfm", "mrc",
    ];
    let mut expected = [None; 3];
    for (depth, low, high) in depths {
        let unit = depth.unit();
        let is_held = |name: &&str| {
            Format::of_name(Path::new(name))
                .unwrap()
                .depths()
                .contains(&depth)
        };
        let files = names.map(|extension| format!("{depth:?}.{extension}"));
        let files: Vec<&str> = files.iter().map(String::as_str).filter(is_held).collect();
        let files =
            (0..3).flat_map(|at| files.iter().map(move |name| (at, format!("{at}_{name}"))));
        let files: Vec<(usize, String)> = files.collect();
        for (at, name) in &files {
            let level = *at as f32 / 2.0;
            let value = (low + level * (high - low)) / unit;
            let image = Image {
                height: 32,
                width: 40,
                channels: 1,
                data: vec![value; 32 * 40],
                depth,
            };
            image.write(&folder.path().join(name)).unwrap();
        }
        let range = format!("--range={low},{high}");
        let mut args = vec![
            "predict",
            "--model-path=gauss5_50",
            "--quiet",
            "--suffix=",
            &range,
        ];
        args.extend(files.iter().map(|(_, name)| name.as_str()));
        n2n(&folder, &args).success();
        for (at, name) in &files {
            let (_, result) = &pages(&folder.path().join("output").join(name))[0];
            let found =
                |value: f32| (255.0 * (value * unit - low) / (high - low)).clamp(0.0, 255.0);
            let flat = 127.5 * *at as f32;
            for &value in result {
                let found = found(value);
                let moved = (found - flat).abs();
                assert!(
                    moved <= MODEL + FORMAT,
                    "{name}: {flat} of 255 became {found}"
                );
            }
            // The same in all formats.
            let middle = found(result[16 * 40 + 20]);
            let first: f32 = *expected[*at].get_or_insert(middle);
            assert!(
                (middle - first).abs() <= FORMAT,
                "{name}: {middle}, not {first}"
            );
        }
    }
}

#[test]
fn samples_that_f32_does_not_hold_are_exact() {
    let folder = workplace();
    let wide = |path: &Path| {
        let mut reader = Reader::open(path, Limits::default()).unwrap();
        let page = reader.next_page().unwrap().unwrap();
        let mut samples = vec![];
        reader.read_wide(page.height, &mut samples).unwrap();
        samples
    };
    fs::copy(golden("large_u32.tif"), folder.path().join("in.tif")).unwrap();
    n2n(&folder, &["predict", "in.tif", "--strength=0"]).success();
    let before = wide(&golden("large_u32.tif"));
    // Odd ones beyond 2^31, of which a float of 32 bits holds every 256th.
    assert!(before.iter().all(|&value| value > 2_147_483_648.0));
    assert!(before.iter().any(|&value| value % 256.0 != 0.0));
    assert_eq!(wide(&folder.path().join("output/in_denoise.tif")), before);
}

#[test]
fn formats_that_are_only_read_become_others() {
    let folder = workplace();
    for name in ["grey.gif", "two.gif", "flat.hdr"] {
        fs::copy(golden(name), folder.path().join(name)).unwrap();
    }
    n2n(&folder, &["predict", "grey.gif", "flat.hdr", "--quiet"]).success();
    assert_eq!(
        names(&folder.path().join("output")),
        ["flat_denoise.tif", "grey_denoise.png"]
    );
    n2n(&folder, &["predict", "two.gif"])
        .code(1)
        .stderr(contains("several pages").and(contains("use TIFF")));
    n2n(&folder, &["predict", "two.gif", "--format=tiff"]).success();
    assert_eq!(
        pages(&folder.path().join("output/two_denoise.tif")).len(),
        2
    );
}
