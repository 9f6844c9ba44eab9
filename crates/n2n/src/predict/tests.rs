use std::path::PathBuf;

use super::*;
use crate::denoise::{ModelRange, Padding, Range, Shrunk, Tile, WithGray};
use crate::image::{Depth, Encoding, Format, Image, Limits, OfImage, Page, Selection, write_pages};
use crate::network::fake::Fake;
use crate::repair::Repair;

/// The values of the results, and what was reported about tiles.
fn predicted(most: usize, options: Options) -> (Vec<Vec<f32>>, Vec<(usize, Shrunk)>) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: String| folder.path().join(name);
    let bytes: Vec<u8> = (0..300 * 200).map(|i| (i * 7919 % 251) as u8).collect();
    let jobs = [0, 1].map(|k| {
        let input = path(format!("{k}.png"));
        Image::from_bytes(300, 200, 1, &bytes)
            .write(&input)
            .unwrap();
        Job {
            input: Input::File(input),
            output: Output::File(path(format!("{k}_denoise.png"))),
            residual: None,
            compare: None,
            reference: None,
            encoding: Encoding {
                format: Format::Png,
                depth: None,
                quality: 95,
            },
            selection: Selection::default(),
        }
    });
    let config = Config {
        options,
        ..Config::default()
    };
    let mut network = Fake::new(1, |x| x / 2.0);
    network.most = (most, false);
    let mut told = vec![];
    predict(&mut network, &jobs, &config, |event| match event {
        Event::Shrunk { job, shrunk } => told.push((job, shrunk)),
        Event::Ended { result, .. } => drop(result.unwrap()),
        Event::Progress { .. } => {}
    });
    let results = [0, 1].map(|k| path(format!("{k}_denoise.png")));
    let results = results.map(|path| Image::read(&path).unwrap().data);
    (results.into(), told)
}

#[test]
fn that_tiles_became_smaller_is_told_once_and_changes_no_result() {
    let options = Options {
        padding: Padding::Multiple,
        ..Options::default()
    };
    let (expected, told) = predicted(usize::MAX, options);
    assert_eq!(told, []);
    // The whole, 320 × 224, is too large; the next size is 160 pixels.
    let (results, told) = predicted(320 * 224 - 1, options);
    let [(0, Shrunk { side: 160, reason })] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert!(reason.contains("320x224 pixels"), "{reason}");
    assert!(results == expected);
    let tile = Tile::Side(160);
    let (results, told) = predicted(usize::MAX, Options { tile, ..options });
    assert!(results == expected && told.is_empty());
}

fn job(input: PathBuf, output: PathBuf, depth: Option<Depth>) -> Job {
    Job {
        input: Input::File(input),
        output: Output::File(output),
        residual: None,
        compare: None,
        reference: None,
        encoding: Encoding {
            depth,
            ..Encoding::new(Format::Tiff)
        },
        selection: Selection::default(),
    }
}

#[test]
fn progress_is_reported_for_each_tile_of_each_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let page = Image::from_bytes(300, 200, 1, &vec![90; 300 * 200]);
    let mut stack = Stack([OfImage::new(&page), OfImage::new(&page)], 0);
    let mut file = std::fs::File::create(path("stack.tif")).unwrap();
    let tiff = Encoding::new(Format::Tiff);
    write_pages(&mut stack, tiff, &path("stack.tif"), &mut file).unwrap();
    let jobs = [job(path("stack.tif"), path("clean.tif"), None)];
    let config = Config {
        options: Options {
            tile: Tile::Side(160),
            padding: Padding::Multiple,
            ..Options::default()
        },
        ..Config::default()
    };
    let mut found = [vec![], vec![]];
    predict(&mut Fake::new(1, |x| x), &jobs, &config, |event| {
        if let Event::Progress {
            job: 0,
            pages,
            part,
        } = event
        {
            found[pages].push(part);
        }
    });
    // Two by two tiles: at the start, and after each.
    for parts in found {
        assert_eq!((parts[0], parts[parts.len() - 1]), (0.0, 1.0), "{parts:?}");
        assert_eq!(parts.len(), 5, "{parts:?}");
        assert!(parts.is_sorted(), "{parts:?}");
    }
}

/// Images as the pages of one file, and how many of them have been started.
struct Stack<'a>([OfImage<'a>; 2], usize);

impl Pages for Stack<'_> {
    fn next_page(&mut self) -> Result<Option<Page>> {
        self.1 += 1;
        match self.0.get_mut(self.1 - 1) {
            Some(image) => image.next_page(),
            None => Ok(None),
        }
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Result<()> {
        self.0[self.1 - 1].read_rows(count, rows)
    }
}

/// Runs a job, which must succeed, with a network defined by a function.
fn run(pixel: fn(f32) -> f32, job: Job, config: &Config) {
    predict(&mut Fake::new(1, pixel), &[job], config, |event| {
        if let Event::Ended { result, .. } = event {
            result.unwrap();
        }
    });
}

/// An image of 40 × 50 with the given values, in the units of its file.
fn image_of(depth: Depth, value: impl Fn(usize) -> f32) -> Image {
    Image {
        height: 40,
        width: 50,
        channels: 1,
        data: (0..2000).map(|i| value(i) / depth.unit()).collect(),
        depth,
    }
}

/// A folder, a type, and a function for the value of each pixel.
type Content<'a> = (&'a str, Depth, &'a dyn Fn(usize) -> f32);

/// The result of [`predict`] for images of 40 × 50, each in its folder, with a network defined by a function.
fn made(
    images: &[Content<'_>],
    pixel: fn(f32) -> f32,
    (range, model, depth): (Range, Option<ModelRange>, Option<Depth>),
) -> Vec<(Done, Image)> {
    let folder = tempfile::tempdir().unwrap();
    let path = |place: &str, kind: &str| folder.path().join(format!("{place}{kind}.tif"));
    let mut jobs = vec![];
    for (place, from, value) in images {
        image_of(*from, value).write(&path(place, "")).unwrap();
        jobs.push(job(path(place, ""), path(place, "_denoise"), depth));
    }
    let config = Config {
        options: Options::default(),
        range,
        model,
        images: vec![],
        limits: Limits::default(),
        repair: Repair::default(),
    };
    let mut done = vec![];
    predict(&mut Fake::new(1, pixel), &jobs, &config, |event| {
        if let Event::Ended { result, .. } = event {
            done.push(result.unwrap());
        }
    });
    let read = |(place, ..): &(&str, Depth, _)| Image::read(&path(place, "_denoise")).unwrap();
    done.into_iter().zip(images.iter().map(read)).collect()
}

fn ramp(from: f32, to: f32) -> impl Fn(usize) -> f32 {
    move |i| (from + (to - from) * (i * 7919 % 2000) as f32 / 1999.0).round()
}

#[test]
fn files_of_one_type_in_a_folder_have_one_range() {
    let (low, high) = (ramp(0.0, 4000.0), ramp(0.0, 5000.0));
    let made = made(
        &[
            ("a/1", Depth::U16, &low),
            ("a/2", Depth::U16, &high),
            ("b/1", Depth::U16, &low),
            ("a/3", Depth::U8, &ramp(0.0, 250.0)),
        ],
        |x| x,
        (Range::Auto, None, None),
    );
    let tops = made
        .iter()
        .map(|(done, _)| (done.range.high * 65535.0).round());
    assert_eq!(tops.collect::<Vec<_>>(), [8191.0, 8191.0, 4095.0, 65535.0]);
}

#[test]
fn a_model_has_its_range_unless_another_is_asked_for() {
    let model = ModelRange {
        low: 100.0,
        high: 300.0,
        depth: Depth::U16,
    };
    let value = ramp(90.0, 320.0);
    let run = |range, depth| {
        let images: [Content<'_>; 1] = [("a", Depth::U16, &value)];
        made(&images, |_| 0.25, (range, Some(model), depth)).remove(0)
    };
    let counts = |image: &Image| {
        let values: Vec<_> = image.data.iter().map(|x| x * image.depth.unit()).collect();
        assert!(values.iter().all(|x| (x - values[0]).abs() < 1e-2));
        values[0]
    };
    let (done, image) = run(Range::Auto, None);
    assert_eq!((done.misfit, counts(&image).round()), (None, 150.0));
    // Floats on request are counts, too.
    let (_, image) = run(Range::Auto, Some(Depth::F32));
    assert!((counts(&image) - 150.0).abs() < 1e-2);
    assert_eq!(image.depth, Depth::F32);
    let (_, image) = run(Range::Between(0.0, 1000.0), Some(Depth::F32));
    assert!((counts(&image) - 250.0).abs() < 1e-2);
}

#[test]
fn neither_a_range_that_is_asked_for_nor_that_of_a_model_limits_results() {
    let model = ModelRange {
        low: 110.0,
        high: 245.0,
        depth: Depth::U16,
    };
    for (range, model) in [
        (Range::Auto, Some(model)),
        (Range::Between(110.0, 245.0), None),
    ] {
        let value = ramp(90.0, 320.0);
        let images: [Content<'_>; 1] = [("a", Depth::U16, &value)];
        let made = made(&images, |_| 1.2, (range, model, None));
        let counts = made[0].1.data.iter().map(|x| (x * 65535.0).round());
        assert!(counts.eq([272.0; 2000]), "{range}");
    }
}

#[test]
fn floats_of_64_bits_keep_their_values_as_floats_of_32() {
    let value = ramp(150.0, 250.0);
    let made = made(
        &[("a", Depth::F64, &value)],
        |x| x,
        (Range::Auto, None, Some(Depth::F32)),
    );
    assert_eq!(made[0].1.depth, Depth::F32);
    for (i, x) in made[0].1.data.iter().enumerate() {
        assert!((x - value(i)).abs() < 1e-3, "{i}: {x}");
    }
}

#[test]
fn an_image_unlike_those_of_the_model_is_told_of() {
    let model = ModelRange {
        low: 100.0,
        high: 300.0,
        depth: Depth::U16,
    };
    let misfits = |range| {
        let made = made(
            &[
                ("a/1", Depth::U16, &ramp(100.0, 250.0)),
                ("a/2", Depth::U16, &ramp(0.0, 4000.0)),
                ("a/3", Depth::U8, &ramp(100.0, 250.0)),
            ],
            |x| x,
            (range, Some(model), None),
        );
        made.iter()
            .map(|(done, _)| done.misfit.is_some())
            .collect::<Vec<_>>()
    };
    assert_eq!(misfits(Range::Auto), [false, true, true]);
    assert_eq!(misfits(Range::Percentile), [false; 3]);
}

/// The first result of [`predict`] for a page of 700 × 600, more than the reader sends at once, with networks that
/// halve RGB pixels and quarter single channels.
fn with_both(image: &Image, with_gray: bool) -> (Done, Image) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    image.write(&path("a.tif")).unwrap();
    let config = Config {
        options: Options::default(),
        ..Config::default()
    };
    let mut network: Box<dyn Denoise> = Box::new(Fake::new(3, |x| x / 2.0));
    if with_gray {
        let gray = Box::new(Fake::new(1, |x| x / 4.0));
        network = Box::new(WithGray::new(network, gray));
    }
    let mut all = vec![];
    let job = job(path("a.tif"), path("b.tif"), None);
    predict(&mut *network, &[job], &config, |event| {
        if let Event::Ended { result, .. } = event {
            all.push(result.unwrap());
        }
    });
    (all.remove(0), Image::read(&path("b.tif")).unwrap())
}

#[test]
fn pages_of_equal_channels_are_gray_and_a_color_makes_them_rgb_however_late_it_comes() {
    let (height, width) = (700, 600);
    let mut bytes = vec![200; height * width * 3];
    let image = |bytes: &[u8]| Image::from_bytes(height, width, 3, bytes);
    let (done, result) = with_both(&image(&bytes), true);
    assert!(result.to_u8().iter().all(|&x| x == 50) && !done.is_gray_as_rgb);
    let (done, result) = with_both(&image(&bytes), false);
    assert!(result.to_u8().iter().all(|&x| x == 100) && done.is_gray_as_rgb);
    *bytes.last_mut().unwrap() = 202;
    let (done, result) = with_both(&image(&bytes), true);
    assert!(result.to_u8()[..9].iter().all(|&x| x == 100) && !done.is_gray_as_rgb);
    let gray = Image::from_bytes(height, width, 1, &bytes[..height * width]);
    let (done, result) = with_both(&gray, true);
    assert!(result.to_u8().iter().all(|&x| x == 50) && !done.is_gray_as_rgb);
    let (done, result) = with_both(&gray, false);
    assert!(result.to_u8().iter().all(|&x| x == 100) && done.is_gray_as_rgb);
}

#[test]
fn a_value_far_beyond_the_others_changes_no_other_and_stays() {
    let value = |i: usize| {
        if i == 777 {
            65535.0
        } else {
            ramp(0.0, 4000.0)(i)
        }
    };
    let made = made(
        &[("a", Depth::U16, &value)],
        |x| x * 0.5,
        (Range::Auto, None, Some(Depth::F32)),
    );
    let data = &made[0].1.data;
    for (i, &result) in data.iter().enumerate().filter(|&(i, _)| i != 777) {
        assert!((result - value(i) / 2.0).abs() < 0.01, "{i}");
    }
    // The limit is at twice the range.
    assert!((data[777] - (65535.0 - 4095.0)).abs() < 0.1);
}

#[test]
fn the_residual_keeps_its_sign_in_every_type() {
    // A ramp to 1000 counts, from which a network subtracts all but the middle of the range.
    let residual = |from: Depth, to: Option<Depth>| {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let image = image_of(from, |i| (i / 2) as f32);
        image.write(&path("a.tif")).unwrap();
        let mut job = job(path("a.tif"), path("b.tif"), to);
        job.residual = Some(path("c.tif"));
        let config = Config {
            range: Range::Between(0.0, 1000.0),
            ..Config::default()
        };
        run(|_| 0.5, job, &config);
        Image::read(&path("c.tif")).unwrap()
    };
    let types = [
        // The last three: the residual's type, its value where nothing was removed, and its units for one count.
        (Depth::F32, None, Depth::F32, 0.0, 1.0),
        (Depth::F64, Some(Depth::F32), Depth::F32, 0.0, 1.0),
        (Depth::F32, Some(Depth::U8), Depth::U8, 128.0, 0.255),
        (Depth::F32, Some(Depth::U16), Depth::U16, 32768.0, 65.535),
        (Depth::U32, None, Depth::I32, 0.0, 1.0),
        (Depth::U32, Some(Depth::U16), Depth::U16, 32768.0, 65.535),
        (Depth::I16, Some(Depth::U8), Depth::U8, 128.0, 0.255),
        (Depth::U16, None, Depth::U16, 32768.0, 1.0),
        (Depth::U16, Some(Depth::U8), Depth::U8, 128.0, 0.255),
        (Depth::U16, Some(Depth::F32), Depth::F32, 0.0, 1.0),
    ];
    for (from, to, depth, none, count) in types {
        let found = residual(from, to);
        assert_eq!(found.depth, depth, "{from:?} to {to:?}");
        for (i, x) in found.data.iter().enumerate() {
            let (x, expected) = (x * depth.unit(), none + ((i / 2) as f32 - 500.0) * count);
            assert!(
                (x - expected).abs() < 1.01,
                "{from:?} to {to:?}, {i}: {x}, {expected}"
            );
        }
    }
}

#[test]
fn the_residual_keeps_the_transparency_of_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    // Gray with alpha: twelve bits of light, half transparent.
    let words: Vec<u16> = (0..4000).flat_map(|i| [i, 32768]).collect();
    let bytes: Vec<u8> = words.iter().flat_map(|x| x.to_ne_bytes()).collect();
    let mut png = vec![];
    let image = ::image::codecs::png::PngEncoder::new(&mut png);
    let kind = ::image::ExtendedColorType::La16;
    ::image::ImageEncoder::write_image(image, &bytes, 80, 50, kind).unwrap();
    std::fs::write(path("a.png"), png).unwrap();
    let mut job = job(path("a.png"), path("b.tif"), Some(Depth::U8));
    job.residual = Some(path("c.tif"));
    run(|x| x, job, &Config::default());
    let limits = Limits::default();
    let mut reader = crate::image::Reader::open(&path("c.tif"), limits).unwrap();
    let page = reader.next_page().unwrap().unwrap();
    let mut rows = vec![];
    reader.read_rows(page.height, &mut rows).unwrap();
    for pixel in rows.chunks_exact(2) {
        assert!(
            (pixel[0] - 128.0 / 255.0).abs() < 1e-3 && (pixel[1] - 0.5).abs() < 3e-3,
            "{pixel:?}"
        );
    }
}

#[test]
fn result_and_residual_are_the_image_exactly() {
    for (depth, offset) in [(Depth::U8, 128.0), (Depth::U16, 32768.0)] {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let image = image_of(depth, |i| (i % 200) as f32);
        image.write(&path("a.tif")).unwrap();
        let mut job = job(path("a.tif"), path("b.tif"), None);
        job.residual = Some(path("c.tif"));
        let config = Config {
            range: Range::Between(0.0, 200.0),
            ..Config::default()
        };
        // Results of every fraction, also below 0.
        run(|x| 0.731 * x - 0.02, job, &config);
        let counts = |name: &str| {
            let image = Image::read(&path(name)).unwrap().data.into_iter();
            image.map(move |x| (x * depth.unit()).round())
        };
        let sums = counts("b.tif").zip(counts("c.tif"));
        assert!(counts("a.tif").eq(sums.map(|(result, residual)| result + residual - offset)));
    }
}

#[test]
fn an_image_too_small_for_ssim_is_compared_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    for (name, value) in [("a.tif", 100), ("clean.tif", 110)] {
        let image = Image::from_u8(10, 40, 1, &[value; 400]).unwrap();
        image.write(&path(name)).unwrap();
    }
    let mut job = job(path("a.tif"), path("b.tif"), None);
    job.compare = Some(path("c.tif"));
    job.reference = Some(path("clean.tif"));
    let mut scores = None;
    let jobs = [job];
    predict(
        &mut Fake::new(1, |x| x + 5.0 / 255.0),
        &jobs,
        &Config::default(),
        |event| {
            if let Event::Ended { result, .. } = event {
                scores = result.unwrap().scores;
            }
        },
    );
    // Errors of 10 and of 5.
    for ((psnr_db, ssim), error) in scores.unwrap().into_iter().zip([10.0, 5.0]) {
        assert!((psnr_db - 20.0 * (255.0_f64 / error).log10()).abs() < 1e-9);
        assert_eq!(ssim, None);
    }
    assert!(path("c.tif").exists());
}

/// Beside each other or, if they lie on their side in the file, one below the other.
#[test]
fn compared_pictures_are_upright_with_the_noisy_one_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let golden = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/golden/images/lying.jpg"
    );
    let lying = std::fs::read(golden).unwrap();
    let entry = [0x01, 0x12, 0, 3, 0, 0, 0, 1, 0];
    let at = lying.windows(9).position(|bytes| bytes == entry).unwrap() + 9;
    for orientation in 1..=8 {
        let mut bytes = lying.clone();
        bytes[at] = orientation;
        std::fs::write(path("a.jpg"), &bytes).unwrap();
        let upright = Image::read(&path("a.jpg")).unwrap();
        let mut job = job(path("a.jpg"), path("b.tif"), None);
        job.compare = Some(path("c.tif"));
        let jobs = [job];
        predict(
            &mut Fake::new(3, |x| x / 2.0),
            &jobs,
            &Config::default(),
            |event| {
                if let Event::Ended { result, .. } = event {
                    result.unwrap();
                }
            },
        );
        let both = Image::read(&path("c.tif")).unwrap();
        let is_below = orientation > 4;
        let size = (both.height, both.width);
        if is_below {
            assert_eq!(size, (2 * upright.height, upright.width), "{orientation}");
        } else {
            assert_eq!(size, (upright.height, 2 * upright.width), "{orientation}");
        }
        for y in 0..upright.height {
            for i in 0..3 * upright.width {
                let row = 3 * both.width;
                let [noisy, denoised] = [0, 1].map(|k| {
                    let (down, right) = if is_below { (k, 0) } else { (0, k) };
                    let (y, i) = (y + down * upright.height, i + right * 3 * upright.width);
                    both.data[y * row + i]
                });
                let value = upright.data[y * 3 * upright.width + i];
                assert!((noisy - value).abs() < 1e-6, "{orientation}");
                assert!(
                    (denoised - value / 2.0).abs() < 0.51 / 255.0,
                    "{orientation}"
                );
            }
        }
    }
}
