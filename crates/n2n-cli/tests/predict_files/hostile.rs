//! Broken, hostile and mislabeled files, and hostile names.

use super::*;

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
    assert!(of("z.png")["error"].is_null());
    let [elapsed_s, started_s, seconds] = [
        &report["elapsed_s"],
        &of("z.png")["started_s"],
        &of("z.png")["seconds"],
    ]
    .map(|value| value.as_f64().unwrap());
    assert!(started_s > 0.0 && seconds > 0.0 && started_s + seconds <= elapsed_s);
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
    n2n(&folder, &["predict", "two.gif", "--format=png"])
        .code(1)
        .stderr(contains("several pages").and(contains("use TIFF")));
    // Frames need a format of several pages.
    n2n(&folder, &["predict", "two.gif"]).success();
    assert_eq!(
        pages(&folder.path().join("output/two_denoise.tif")).len(),
        2
    );
}
