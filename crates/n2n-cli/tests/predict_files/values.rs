//! The values of results: bits kept, ranges, depths, padding.

use super::*;

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
    // Floats made from integers have the integers' values.
    assert_eq!(image.depth, Depth::F32);
    for (x, y) in picture(20, 30).data.iter().zip(&image.data) {
        assert!((x * 255.0 - y).abs() < 1e-4, "{x} became {y}");
    }
    n2n(
        &folder,
        &["predict", "a.png", "--format=jpeg", "--depth=16"],
    )
    .code(1)
    .stderr(contains("--depth: JPEG does not support 16 bits"));

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

#[test]
fn what_few_bits_cannot_hold_is_reported() {
    let folder = workplace();
    let image = Image {
        depth: Depth::I16,
        data: (0..20 * 30).map(|i| (i % 400) as f32 - 100.0).collect(),
        ..Image::from_bytes(20, 30, 1, &[0; 600])
    };
    image.write(&folder.path().join("signed.tif")).unwrap();
    let args = ["predict", "signed.tif", "--strength=0", "--range=-50,150"];
    let note = "signed.tif: values -50 to 150 become 0 to 255 (8 bits), and values beyond them are \
                cut off; --format tiff --depth 32f keeps all values";
    for to in ["--depth=8", "--format=jpeg"] {
        n2n(&folder, &[&args[..], &[to]].concat())
            .success()
            .stderr(contains(note));
    }
    let eight = Image::read(&folder.path().join("output/signed_denoise.tif")).unwrap();
    for (x, y) in image.data.iter().zip(eight.to_bytes()) {
        let expected = ((x + 50.0) / 200.0 * 255.0).clamp(0.0, 255.0);
        assert!((expected - f32::from(y)).abs() < 0.51, "{x} became {y}");
    }
    for to in [
        &["--depth=32f"][..],
        &["--format=mrc"],
        &["--depth=8", "--quiet"],
    ] {
        n2n(&folder, &[&args[..], to].concat())
            .success()
            .stderr(contains("cut off").not());
    }
    // Nothing is lost but precision.
    let eight = ["predict", "a.png", "--depth=8", "--strength=0"];
    n2n(&folder, &eight).success().stderr("");
}

#[test]
fn pages_that_are_copied_in_fewer_bits_have_the_range_of_the_others() {
    let folder = workplace();
    let stack = golden("hyperstack_imagej.tif");
    fs::copy(&stack, folder.path().join("stack.tif")).unwrap();
    let args = ["predict", "stack.tif", "--strength=0", "--depth=8"];
    let made = |dir: &str, more: &[&str]| {
        let dir = ["--save-dir", dir, "--range=0,500"];
        n2n(&folder, &[&args[..], &dir, more].concat()).success();
        let path = folder.path().join(dir[1]).join("stack_denoise.tif");
        let all = pages(&path).into_iter();
        all.map(|(_, rows)| rows).collect::<Vec<_>>()
    };
    assert_eq!(made("all", &[]), made("one", &["--pages=2"]));
}

#[test]
fn values_that_are_not_finite_stay_and_spoil_nothing() {
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

#[test]
fn a_tile_larger_than_any_image_is_the_image() {
    let folder = workplace();
    n2n(
        &folder,
        &["predict", "a.png", "--tile=18446744073709551615"],
    )
    .success();
}

#[test]
fn tiles_that_are_asked_for_keep_to_a_limit_that_is_asked_for() {
    let folder = workplace();
    for tile in ["--tile=none", "--tile=32"] {
        n2n(&folder, &["predict", "a.png", tile, "--max-memory=1MB"])
            .code(1)
            .stderr(contains("a.png: memory limit: expected ").and(contains("found 1 MB")));
        n2n(&folder, &["predict", "a.png", tile]).success();
    }
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
fn integers_beyond_the_range_are_not_cut_off() {
    let folder = workplace();
    let mut image = Image::from_bytes(32, 32, 1, &[0; 1024]);
    image.depth = Depth::U16;
    image.data = vec![0.004; 1024];
    image.data[500] = 0.5;
    image.write(&folder.path().join("spot.png")).unwrap();
    // The model's output is 0, so half of every value stays; but the model is not given the part of the spot
    // beyond twice the range, and all of that stays.
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

/// How far, of 255, the default model and its gray companion move the values of flat images, and those near the edges.
const MOVED: f32 = 1.0;
const MOVED_AT_EDGES: f32 = 8.0;
const GRAY_MOVED_AT_EDGES: f32 = 4.0;
const EDGE: usize = 8;

/// Flat black, gray and white, in gray and in RGB, which has one pixel of color, so that it is not gray, too.
#[test]
fn flat_images_stay_flat() {
    const SIDE: usize = 96;
    let folder = workplace();
    for channels in [1, 3] {
        for level in [0.0, 0.5, 1.0] {
            let mut data = vec![level; SIDE * SIDE * channels];
            data[0] = (level - 1e-3_f32).abs();
            let image = Image {
                height: SIDE,
                width: SIDE,
                channels,
                data,
                depth: Depth::F32,
            };
            let name = format!("{channels}_{level}.tif");
            image.write(&folder.path().join(&name)).unwrap();
            let flags = ["--model-path=gauss5_50", "--range=0,1", "--suffix="];
            n2n(&folder, &[&["predict", &name], &flags[..]].concat()).success();
            let (_, result) = &pages(&folder.path().join("output").join(&name))[0];
            for (i, &value) in result.iter().enumerate() {
                let (y, x) = (i / channels / SIDE, i / channels % SIDE);
                let inside = EDGE..SIDE - EDGE;
                let most = if inside.contains(&y) && inside.contains(&x) {
                    MOVED
                } else if channels == 1 {
                    GRAY_MOVED_AT_EDGES
                } else {
                    MOVED_AT_EDGES
                };
                let moved = 255.0 * (value.clamp(0.0, 1.0) - level).abs();
                assert!(moved <= most, "{channels}: {level} at {y}, {x}: {value}");
            }
        }
    }
}

/// Flat black, gray and white of a range in the units of a depth, in any format.
#[test]
fn flat_areas_stay_what_they_are_in_every_format() {
    /// What rounding and a JPEG add, of 255.
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
                    moved <= GRAY_MOVED_AT_EDGES + FORMAT,
                    "{name}: {flat} of 255 became {found}"
                );
            }
            // The same in all formats.
            let middle = found(result[16 * 40 + 20]);
            assert!((middle - flat).abs() <= MOVED + FORMAT, "{name}: {middle}");
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
    // Integers beyond 2^31, of which a float of 32 bits holds only every 256th.
    assert!(before.iter().all(|&value| value > 2_147_483_648.0));
    assert!(before.iter().any(|&value| value % 256.0 != 0.0));
    assert_eq!(wide(&folder.path().join("output/in_denoise.tif")), before);
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
    for (model, gray) in [
        ("gauss5_50", "gauss5_50_gray"),
        ("poisson30", "poisson5_50_gray"),
    ] {
        let expected = denoised("gray.png", gray);
        assert_ne!(expected, values);
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
fn a_quality_selects_the_sibling_of_the_model() {
    let folder = workplace();
    let denoised = |args: &[&str]| {
        let args = [&["predict", "a.png"], args].concat();
        n2n(&folder, &args).success();
        let result = folder.path().join("output/a_denoise.png");
        Image::read(&result).unwrap().to_u8()
    };
    let fast = denoised(&["--model-path", "gauss5_50", "--quality", "fast"]);
    assert_eq!(fast, denoised(&["--model-path", "gauss5_50_fast"]));
    let best = denoised(&["--model-path", "gauss5_50"]);
    assert_ne!(fast, best);
    let args = ["--model-path", "gauss5_50_fast", "--quality", "best"];
    assert_eq!(denoised(&args), best);
    let args = [
        "predict",
        "a.png",
        "--quality",
        "fast",
        "--model-path",
        "gauss25",
    ];
    n2n(&folder, &args).code(1).stderr(contains(
        "--quality: quality of gauss25: expected best, found fast",
    ));
}
