//! Where results go: names, folders, in place, parts of a job array; and what is left when that fails.

use super::*;

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
        let sum = (residual.data[i] + denoised.data[i] - x) * 255.0;
        assert!((sum - 128.0).abs() < 1e-3, "{sum}");
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
fn a_reference_is_compared_in_the_units_of_the_image() {
    let folder = workplace();
    let values: Vec<u16> = (0..40 * 48).map(|i| (7919 * i % 4000) as u16).collect();
    let noisy = Image::from_u16(40, 48, 1, &values).unwrap();
    noisy.write(&folder.path().join("noisy.tif")).unwrap();
    let clean = |name: &str, depth: Depth, data: Vec<f32>| {
        let clean = Image {
            depth,
            data,
            ..noisy.clone()
        };
        clean.write(&folder.path().join(name)).unwrap();
    };
    let counts = || values.iter().map(|&x| f32::from(x));
    clean("same.tif", Depth::U16, noisy.data.clone());
    for (name, depth) in [
        ("f32", Depth::F32),
        ("f64", Depth::F64),
        ("i32", Depth::I32),
    ] {
        clean(&format!("{name}.tif"), depth, counts().collect());
    }
    clean("share.tif", Depth::F32, noisy.data.clone());
    clean("bytes.tif", Depth::U8, noisy.data.clone());
    let compare = |noisy: &str, reference: &str| {
        let reference = format!("--reference={reference}.tif");
        let args = ["predict", noisy, "--strength=0", "--compare", &reference];
        n2n(&folder, &args)
    };
    for name in ["same", "f32", "f64", "i32"] {
        let same = "noisy.tif: psnr:inf ssim:1.0000 noisy, psnr:inf";
        compare("noisy.tif", name).success().stdout(contains(same));
        compare("i32.tif", name)
            .success()
            .stdout(contains("psnr:inf"));
    }
    compare("f32.tif", "f64")
        .success()
        .stdout(contains("psnr:inf"));
    compare("noisy.tif", "share")
        .code(1)
        .stderr(contains(
            "share.tif: expected a reference in the units of the image, found floats up to 0.06",
        ))
        .stderr(contains(
            ": the mean of the image is 65535.000 times that of the reference",
        ));
    compare("noisy.tif", "bytes").code(1).stderr(contains(
        "bytes.tif: expected a reference of the same type as the image, uint16, or floats in its \
         units, found uint8",
    ));
    compare("f32.tif", "same").code(1).stderr(contains(
        "same.tif: expected a reference of the same type as the image, float32, found uint16",
    ));
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
    .stderr(contains("skipped 1 image because"));
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

#[cfg(target_os = "linux")]
#[test]
fn places_that_cannot_be_written_are_named() {
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

/// Of two outputs, one cannot be written: the job fails, and what it had begun is gone.
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

#[test]
fn a_report_or_a_suffix_cannot_replace_an_image() {
    let folder = workplace();
    let path = folder.path().join("a.png");
    let before = fs::read(&path).unwrap();
    // A flag that was taken for a switch.
    for report in ["a.png", "-"] {
        n2n(&folder, &["predict", "a.png", "--json", report])
            .code(2)
            .stderr(contains("--json"));
    }
    n2n(&folder, &["predict", "a.png", "--suffix", "/../../x"])
        .code(1)
        .stderr(contains("--suffix"));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(names(folder.path()), ["a.png", "zero.safetensors"]);
}

#[test]
fn results_beside_their_images_are_not_inputs_of_a_second_run() {
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
