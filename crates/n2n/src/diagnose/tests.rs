//! Estimates against the truth of generated images: cells, filaments, spots and edges, with noise whose
//! gain, read noise and correlation are known.

use std::f64::consts::TAU;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Normal, Poisson};

use super::*;
use crate::image::{Depth, Encoding, Format};

/// Photoelectrons of a scene, row by row.
#[derive(Clone)]
struct Scene {
    height: usize,
    width: usize,
    electrons: Vec<f64>,
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn uniform(rng: &mut impl Rng, low: f64, high: f64) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// Filters along one axis with any kernel, repeating the edges.
fn filtered(scene: &Scene, kernel: &[f64], along_x: bool) -> Scene {
    let (h, w) = (scene.height as isize, scene.width as isize);
    let reach = (kernel.len() / 2) as isize;
    let mut electrons = Vec::with_capacity(scene.electrons.len());
    for y in 0..h {
        for x in 0..w {
            let tap = |(i, factor): (usize, &f64)| {
                let by = i as isize - reach;
                let (y, x) = if along_x { (y, x + by) } else { (y + by, x) };
                factor * scene.electrons[(y.clamp(0, h - 1) * w + x.clamp(0, w - 1)) as usize]
            };
            electrons.push(kernel.iter().enumerate().map(tap).sum());
        }
    }
    Scene {
        electrons,
        ..*scene
    }
}

fn gaussian(sigma: f64) -> Vec<f64> {
    let reach = (4.0 * sigma).ceil() as i32;
    let kernel: Vec<f64> = (-reach..=reach)
        .map(|i| (-f64::from(i * i) / (2.0 * sigma * sigma)).exp())
        .collect();
    let sum: f64 = kernel.iter().sum();
    kernel.iter().map(|k| k / sum).collect()
}

fn blurred(scene: &Scene, sigma: f64) -> Scene {
    filtered(
        &filtered(scene, &gaussian(sigma), true),
        &gaussian(sigma),
        false,
    )
}

/// Fluorescence: a dark background of 3 electrons, smooth cells of 6 to 16, filaments, spots of 150 to 600.
fn cells(size: usize, seed: u64) -> Scene {
    let rng = &mut rng(seed);
    let side = size as f64;
    let mut cells = vec![3.0; size * size];
    let objects = size * size / 9000;
    for _ in 0..objects {
        let (cy, cx) = (uniform(rng, 0.0, side), uniform(rng, 0.0, side));
        let (a, b) = (uniform(rng, 14.0, 34.0), uniform(rng, 14.0, 34.0));
        let (sin, cos) = uniform(rng, 0.0, TAU).sin_cos();
        let bright = uniform(rng, 6.0, 16.0);
        for (i, value) in cells.iter_mut().enumerate() {
            let (dy, dx) = ((i / size) as f64 - cy, (i % size) as f64 - cx);
            let r = ((dx * cos + dy * sin) / a).hypot((dy * cos - dx * sin) / b);
            *value = f64::max(*value, 3.0 + bright / (1.0 + (8.0 * (r - 1.0)).exp()));
        }
    }
    let mut thin = Scene {
        height: size,
        width: size,
        electrons: vec![0.0; size * size],
    };
    for _ in 0..objects {
        let (mut y, mut x) = (uniform(rng, 0.0, side), uniform(rng, 0.0, side));
        let mut turn = uniform(rng, 0.0, TAU);
        for _ in 0..200 {
            turn += rng.sample(Normal::new(0.0, 0.08).unwrap());
            (y, x) = (y + turn.sin(), x + turn.cos());
            if (0.0..side).contains(&y) && (0.0..side).contains(&x) {
                thin.electrons[y as usize * size + x as usize] += 60.0;
            }
        }
    }
    for _ in 0..size * size / 5000 {
        let at = rng.random_range(0..size * size);
        thin.electrons[at] += uniform(rng, 150.0, 600.0);
    }
    let thin = blurred(&thin, 1.25);
    let electrons = cells.iter().zip(&thin.electrons).map(|(a, b)| a + b);
    Scene {
        electrons: electrons.collect(),
        ..thin
    }
}

/// Rectangles of random brightness between two limits, with sharp edges, under smooth illumination.
fn edges(size: usize, low: f64, high: f64, seed: u64) -> Scene {
    let rng = &mut rng(seed);
    let mut electrons = vec![low; size * size];
    for _ in 0..30 {
        let (top, left) = (rng.random_range(0..size), rng.random_range(0..size));
        let (h, w) = (
            rng.random_range(10..size / 2),
            rng.random_range(10..size / 2),
        );
        let bright = low * (high / low).powf(rng.random());
        for y in top..(top + h).min(size) {
            electrons[y * size..][left..(left + w).min(size)].fill(bright);
        }
    }
    for (i, value) in electrons.iter_mut().enumerate() {
        let (y, x) = ((i / size) as f64, (i % size) as f64);
        *value *= 1.0 + 0.3 * (x / 60.0).sin() * (y / 80.0).cos();
    }
    let scene = Scene {
        height: size,
        width: size,
        electrons,
    };
    blurred(&scene, 0.6)
}

#[derive(Clone, Copy)]
struct Camera {
    gain: f64,
    /// Read noise in electrons.
    read: f64,
    offset: f64,
}

/// A typical camera: 2.17 counts per electron.
const CAMERA: Camera = Camera {
    gain: 1.0 / 0.46,
    read: 1.4,
    offset: 100.0,
};

/// Noise in counts about the mean, unrounded.
fn noise(scene: &Scene, camera: Camera, rng: &mut impl Rng) -> Scene {
    let read = Normal::new(0.0, camera.read).unwrap();
    let pixel = |&mean: &f64| {
        let photons: f64 = if mean > 0.0 {
            rng.sample(Poisson::new(mean).unwrap())
        } else {
            0.0
        };
        camera.gain * (photons - mean + rng.sample(read))
    };
    Scene {
        electrons: scene.electrons.iter().map(pixel).collect(),
        ..*scene
    }
}

/// The camera's output in whole counts.
fn counts(scene: &Scene, noise: &Scene, camera: Camera) -> Frame {
    let pixel =
        |(mean, noise): (&f64, &f64)| (camera.gain * mean + camera.offset + noise).round() as f32;
    Frame {
        height: scene.height,
        width: scene.width,
        channels: 1,
        data: scene
            .electrons
            .iter()
            .zip(&noise.electrons)
            .map(pixel)
            .collect(),
    }
}

fn taken(scene: &Scene, camera: Camera, seed: u64) -> Frame {
    counts(scene, &noise(scene, camera, &mut rng(seed)), camera)
}

fn diagnosis(frames: &[Frame]) -> Diagnosis {
    diagnose(frames, &Options::default()).unwrap()
}

#[track_caller]
fn assert_within(found: f64, truth: f64, part: f64) {
    let off = (found - truth).abs();
    assert!(off <= part * truth.abs(), "found {found}, true {truth}");
}

/// Asserts gain and read noise, in counts, to within 10 %.
#[track_caller]
fn assert_camera(noise: &Transfer, camera: Camera) {
    assert_within(noise.gain.unwrap(), camera.gain, 0.1);
    let read = noise.read_noise.unwrap();
    assert_within(read.value, camera.read * camera.gain, 0.1);
    let offset = noise.offset.unwrap();
    let off = (offset.value - camera.offset).abs();
    assert!(off < 4.0 * offset.error + 0.2 * camera.gain, "{offset:?}");
}

#[test]
fn gain_offset_and_read_noise_of_one_image_with_structure() {
    for seed in 0..3 {
        let found = diagnosis(&[taken(&cells(384, seed), CAMERA, seed)]);
        assert_camera(&found.noise[0], CAMERA);
        assert_eq!(found.findings(), []);

        let camera = Camera {
            gain: 2.0,
            read: 2.0,
            offset: 10.0,
        };
        let found = diagnosis(&[taken(&edges(384, 2.0, 60.0, seed), camera, seed)]);
        assert_camera(&found.noise[0], camera);
        assert_eq!(found.findings(), []);
    }
}

#[test]
fn a_stack_of_different_scenes_gives_gain_offset_and_read_noise() {
    let pages: Vec<Frame> = (10..14)
        .map(|seed| taken(&cells(256, seed), CAMERA, seed))
        .collect();
    let found = diagnosis(&pages);
    assert!(!found.same_scene);
    assert_camera(&found.noise[0], CAMERA);
}

#[test]
fn images_of_one_scene_are_compared_with_each_other() {
    // Structure everywhere, so that no window is flat.
    let mut scene = edges(256, 20.0, 300.0, 1);
    for (i, value) in scene.electrons.iter_mut().enumerate() {
        let (y, x) = (i / 256, i % 256);
        *value *= 1.0 + 0.5 * ((x * x + 3 * y) as f64 / 7.0).sin();
    }
    let camera = Camera {
        gain: 0.5,
        read: 6.0,
        offset: 100.0,
    };
    let frames: Vec<Frame> = (0..4).map(|seed| taken(&scene, camera, seed)).collect();
    let known = Options {
        offset: Some(100.0),
        ..Options::default()
    };
    let found = diagnose(&frames, &known).unwrap();
    assert!(found.same_scene);
    let noise = &found.noise[0];
    assert_within(noise.gain.unwrap(), camera.gain, 0.05);
    assert_within(noise.read_noise.unwrap().value, 3.0, 0.1);
    let correlation = found.correlation.unwrap();
    assert!(correlation.x[1..].iter().all(|value| value.abs() < 0.03));
}

#[test]
fn copies_of_one_image_say_what_it_says_alone() {
    let frame = taken(&cells(256, 30), CAMERA, 30);
    let alone = diagnosis(std::slice::from_ref(&frame));
    let twice = diagnosis(&[frame.clone(), frame]);
    assert!(!twice.same_scene);
    assert_within(
        twice.noise[0].gain.unwrap(),
        alone.noise[0].gain.unwrap(),
        0.03,
    );
}

#[test]
fn low_counts_without_and_with_read_noise() {
    for (read, offset) in [(0.0, 0.0), (1.0, 50.0)] {
        let camera = Camera {
            gain: 1.0,
            read,
            offset,
        };
        for seed in 0..2 {
            let mut scene = cells(384, seed);
            scene.electrons.iter_mut().for_each(|value| *value /= 6.0);
            let found = diagnosis(&[taken(&scene, camera, seed)]);
            let noise = &found.noise[0];
            assert_within(noise.gain.unwrap(), 1.0, 0.1);
            let found_read = noise.read_noise.unwrap().value;
            assert!(
                (found_read - read).abs() < 0.3_f64.max(0.1 * read) - 0.2 * read,
                "{found_read}"
            );
            assert!((noise.offset.unwrap().value - offset).abs() < 0.15);
            assert_eq!(found.values.clipped_low, None);
        }
    }
}

#[test]
fn a_known_offset_gives_the_read_noise_that_photons_hide() {
    let camera = Camera {
        gain: 2.0,
        read: 12.0,
        offset: 100.0,
    };
    let scene = edges(384, 50.0, 2000.0, 3);
    let known = Options {
        offset: Some(100.0),
        ..Options::default()
    };
    let noise = &diagnose(&[taken(&scene, camera, 3)], &known).unwrap().noise[0];
    assert_within(noise.gain.unwrap(), 2.0, 0.1);
    assert_within(noise.read_noise.unwrap().value, 24.0, 0.1);
}

#[test]
fn noise_of_one_strength_has_no_gain() {
    let camera = Camera {
        gain: 1.0,
        read: 12.0,
        offset: 0.0,
    };
    let scene = edges(256, 60.0, 180.0, 5);
    let dark = Scene {
        electrons: vec![0.0; 256 * 256],
        ..scene
    };
    let noise = noise(&dark, camera, &mut rng(5));
    let found = diagnosis(&[counts(&scene, &noise, camera)]);
    assert_eq!((found.noise[0].gain, found.noise[0].offset), (None, None));
    assert_within(found.noise[0].read_noise.unwrap().value, 12.0, 0.05);
    assert_eq!(found.findings(), []);
}

/// Autocorrelation of white noise filtered along one axis, which is that of the filter.
fn of_kernel(kernel: &[f64]) -> [f64; LAGS + 1] {
    let at = |lag: usize| -> f64 {
        kernel
            .iter()
            .zip(kernel.iter().skip(lag))
            .map(|(a, b)| a * b)
            .sum()
    };
    std::array::from_fn(|lag| at(lag) / at(0))
}

#[track_caller]
fn assert_correlation(found: &[f64; LAGS + 1], truth: &[f64; LAGS + 1]) {
    for lag in 0..=LAGS {
        let off = (found[lag] - truth[lag]).abs();
        assert!(off < 0.05, "lag {lag}: found {found:.3?}, true {truth:.3?}");
    }
}

#[test]
fn correlation_along_rows_along_columns_and_along_both() {
    let none = [1.0];
    let tent = [0.25, 0.5, 0.25];
    let box3 = [1.0 / 3.0; 3];
    // As left by the lag of an amplifier.
    let decay: Vec<f64> = (0..40).map(|i| 0.3 * 0.7_f64.powi(i)).collect();
    for (across, down) in [
        (&none[..], &none[..]),
        (&tent, &none),
        (&none, &box3),
        (&tent, &box3),
        (&decay, &none),
        (&none, &decay),
        (&gaussian(1.0), &gaussian(1.0)),
    ] {
        for (seed, scene) in [(1, cells(384, 1)), (2, edges(384, 20.0, 800.0, 2))] {
            let white = noise(&scene, CAMERA, &mut rng(seed));
            let shared = filtered(&filtered(&white, across, true), down, false);
            let found = diagnosis(&[counts(&scene, &shared, CAMERA)]);
            let correlation = found.correlation.as_ref().unwrap();
            assert_correlation(&correlation.x, &of_kernel(across));
            assert_correlation(&correlation.y, &of_kernel(down));
            if across.len().max(down.len()) <= 3 {
                // A filter that preserves the mean preserves the gain, although each pixel has less variance.
                assert_within(found.noise[0].gain.unwrap(), CAMERA.gain, 0.1);
            }

            let correlated = found
                .findings()
                .iter()
                .any(|f| matches!(f, Finding::Correlated { .. }));
            assert_eq!(correlated, across.len() + down.len() > 2);
        }
    }
}

/// White noise of a variance plus the given correlated noise of variance 1.
fn mixed(correlated: &[f64], white: f64, seed: u64) -> Frame {
    let rng = &mut rng(seed);
    let size = correlated.len().isqrt();
    let power = correlated.iter().map(|x| x * x).sum::<f64>() / correlated.len() as f64;
    let data = correlated.iter().map(|x| {
        let noise: f64 = rng.sample(Normal::new(0.0, white.sqrt()).unwrap());
        (1000.0 + 10.0 * (x / power.sqrt() + noise)) as f32
    });
    Frame {
        height: size,
        width: size,
        channels: 1,
        data: data.collect(),
    }
}

/// White noise, blurred.
fn field(sigma: f64, seed: u64) -> Scene {
    let rng = &mut rng(seed);
    let white = |_| rng.sample(Normal::new(0.0, 1.0).unwrap());
    let white = Scene {
        height: 320,
        width: 320,
        electrons: (0..320 * 320).map(white).collect(),
    };
    blurred(&white, sigma)
}

#[test]
fn texture_is_told_from_filtered_noise() {
    let tells = |sigma: f64, white: f64| {
        let found = diagnosis(&[mixed(&field(sigma, 7).electrons, white, 3)]).findings();
        let is_correlated = |found: &Finding| matches!(found, Finding::Correlated { .. });
        assert!(found.iter().any(is_correlated), "{sigma}: {found:?}");
        found.contains(&Finding::Texture)
    };
    // The grain of a surface, with independent noise added.
    assert!(tells(1.5, 1.0) && tells(3.0, 1.0));
    for sigma in [0.5, 0.8, 1.0, 1.5] {
        assert!(!tells(sigma, 0.0), "{sigma}");
    }
}

#[test]
fn texture_that_grows_with_the_signal_is_no_photon_noise() {
    // Blobs across the windows, the stronger the brighter, as of a surface under uneven light.
    let mut scene = field(2.0, 8);
    let power = scene.electrons.iter().map(|x| x * x).sum::<f64>() / (320.0 * 320.0);
    for (i, value) in scene.electrons.iter_mut().enumerate() {
        let light = 100.0 + 900.0 * (i % 320) as f64 / 320.0;
        *value = light * (1.0 + 0.1 * *value / power.sqrt()).max(0.1);
    }
    let found = diagnosis(&[taken(&scene, CAMERA, 8)]);
    let noise = &found.noise[0];
    assert!(noise.slope > 0.0, "{noise:?}");
    assert_eq!(
        (noise.gain, noise.offset, noise.read_noise),
        (None, None, None)
    );
    assert!(found.findings().contains(&Finding::Texture));
}

#[test]
fn the_distance_from_which_pixels_are_independent_follows() {
    let scene = cells(384, 4);
    let white = noise(&scene, CAMERA, &mut rng(4));
    let shared = filtered(&white, &[0.25, 0.5, 0.25], true);
    let found = diagnosis(&[counts(&scene, &shared, CAMERA)]);
    let [finding] = found.findings().try_into().unwrap();
    let Finding::Correlated {
        axis,
        independent_at,
        ..
    } = finding
    else {
        panic!("{finding}");
    };
    // 2/3 and 1/6 at distances of 1 and 2.
    assert_eq!((axis, independent_at), (Axis::X, [Some(3), Some(1)]));
}

#[test]
fn the_distance_from_which_pixels_are_independent_is_said() {
    for (axis, independent_at, words) in [
        (
            Axis::X,
            [Some(2), Some(1)],
            " Pixels 2 apart in a row are independent.",
        ),
        (
            Axis::Y,
            [Some(1), None],
            " Pixels in a column are not independent within 8 pixels.",
        ),
        (
            Axis::Both,
            [Some(2), Some(3)],
            " Pixels 2 apart in a row are independent; pixels 3 apart in a column are independent.",
        ),
        (
            Axis::Both,
            [Some(1), Some(3)],
            " Adjacent pixels in a row are nearly independent; pixels 3 apart in a column are independent.",
        ),
        // Nothing that would help.
        (Axis::Both, [Some(1), Some(1)], " and keeps it."),
    ] {
        let finding = Finding::Correlated {
            axis,
            at_one: [0.2, 0.2],
            independent_at,
        };
        let text = finding.to_string();
        assert!(text.ends_with(words), "{text}");
    }
}

/// The color of the pixel behind a filter array of red, green / green, blue.
fn color(y: usize, x: usize) -> usize {
    y % 2 + x % 2
}

/// Every channel as the mean of the nearest pixels behind its filter.
fn demosaiced(mosaic: &[f64], size: usize) -> Vec<f64> {
    let mut rgb = Vec::with_capacity(3 * size * size);
    for y in 0..size {
        for x in 0..size {
            for channel in 0..3 {
                if color(y, x) == channel {
                    rgb.push(mosaic[y * size + x]);
                    continue;
                }
                let around = |far: usize| {
                    let rows = y.saturating_sub(1)..(y + 2).min(size);
                    let columns = move |_: usize| x.saturating_sub(1)..(x + 2).min(size);
                    let places =
                        rows.flat_map(move |row| columns(row).map(move |column| (row, column)));
                    let here = places.filter(move |&(row, column)| {
                        color(row, column) == channel && row.abs_diff(y) + column.abs_diff(x) == far
                    });
                    let values: Vec<f64> = here.map(|(r, c)| mosaic[r * size + c]).collect();
                    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
                };
                rgb.push(around(1).or_else(|| around(2)).unwrap());
            }
        }
    }
    rgb
}

#[test]
fn demosaiced_noise() {
    let size = 384;
    let scene = cells(size, 7);
    let white = noise(&scene, CAMERA, &mut rng(7));
    let mosaic = (0..size * size).map(|i| {
        let strength = [0.6, 1.0, 0.8][color(i / size, i % size)];
        CAMERA.offset + strength * CAMERA.gain * scene.electrons[i] + white.electrons[i]
    });
    let rgb = demosaiced(&mosaic.collect::<Vec<_>>(), size);
    let frame = Frame {
        height: size,
        width: size,
        channels: 3,
        data: rgb.iter().map(|value| value.round() as f32).collect(),
    };
    let found = diagnosis(&[frame]);

    // The true ratio, from white noise alone, averaged over the positions of a cell and the channels.
    let mut random = rng(8);
    let normal = Normal::new(0.0, 1.0).unwrap();
    let pure: Vec<f64> = (0..1024 * 1024).map(|_| random.sample(normal)).collect();
    let pure = demosaiced(&pure, 1024);
    let mut truth: [[f64; LAGS + 1]; 2] = [[0.0; LAGS + 1]; 2];
    for channel in 0..3 {
        let at = |y: usize, x: usize| pure[(y * 1024 + x) * 3 + channel];
        for (y, x) in (8..1000).flat_map(|y| (8..1000).map(move |x| (y, x))) {
            let [across, down] = &mut truth;
            for (lag, (across, down)) in across.iter_mut().zip(down).enumerate() {
                *across += at(y, x) * at(y, x + lag);
                *down += at(y, x) * at(y + lag, x);
            }
        }
    }
    let truth = truth.map(|along| along.map(|value| value / along[0]));
    let correlation = found.correlation.as_ref().unwrap();
    assert_correlation(&correlation.x, &truth[0]);
    assert_correlation(&correlation.y, &truth[1]);
    let findings = found.findings();
    let demosaiced = findings
        .iter()
        .any(|f| matches!(f, Finding::Demosaiced { .. }));
    let correlated = findings
        .iter()
        .any(|f| matches!(f, Finding::Correlated { .. }));
    assert!(demosaiced && correlated, "{findings:?}");
}

#[test]
fn a_raw_mosaic_is_known_from_a_picture() {
    let mut scene = cells(256, 9);
    for (i, value) in scene.electrons.iter_mut().enumerate() {
        *value *= [4.0, 10.0, 6.0][color(i / 256, i % 256)];
    }
    let found = diagnosis(&[taken(&scene, CAMERA, 9)]).findings();
    assert!(matches!(found[0], Finding::Mosaic { .. }), "{found:?}");
}

/// The frame after JPEG compression of this quality; its values must be bytes.
fn as_jpeg(frame: &Frame, quality: u8) -> Frame {
    let image = Image {
        height: frame.height,
        width: frame.width,
        channels: frame.channels,
        data: frame.data.iter().map(|value| value / 255.0).collect(),
        depth: Depth::U8,
    };
    let mut file = std::io::Cursor::new(vec![]);
    let encoding = Encoding {
        quality,
        ..Encoding::new(Format::Jpeg)
    };
    image
        .encode(encoding, std::path::Path::new("frame.jpg"), &mut file)
        .unwrap();
    let decoded = ::image::load_from_memory(file.get_ref()).unwrap();
    let bytes = if frame.channels == 1 {
        decoded.to_luma8().into_raw()
    } else {
        decoded.to_rgb8().into_raw()
    };
    Frame {
        data: bytes.into_iter().map(f32::from).collect(),
        ..*frame
    }
}

#[test]
fn the_blocks_of_jpeg_are_found_and_only_where_they_are() {
    let camera = Camera {
        gain: 1.0,
        read: 5.0,
        offset: 0.0,
    };
    for (seed, scene) in [(1, edges(256, 20.0, 200.0, 1)), (2, cells(256, 2))] {
        let plain = taken(&scene, camera, seed);
        let rgb = Frame {
            channels: 3,
            data: (plain.data.iter())
                .zip(&taken(&scene, camera, seed + 50).data)
                .zip(&taken(&scene, camera, seed + 60).data)
                .flat_map(|((&r, &g), &b)| [r, g, b])
                .collect(),
            ..plain
        };
        for frame in [plain, rgb] {
            assert!(!diagnosis(std::slice::from_ref(&frame)).jpeg.found);
            for quality in [50, 75] {
                let mut coded = as_jpeg(&frame, quality);
                let found = diagnosis(std::slice::from_ref(&coded)).jpeg;
                assert!(
                    found.found && found.origin == [0, 0],
                    "{quality}: {found:?}"
                );
                // Cropped from a larger picture.
                coded.data.drain(..3 * 256 * coded.channels);
                coded.height -= 3;
                let found = diagnosis(&[coded]).jpeg;
                assert!(
                    found.found && found.origin == [0, 5],
                    "{quality}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn offsets_of_rows_and_of_columns() {
    let scene = cells(384, 11);
    let plain = taken(&scene, CAMERA, 11);
    let mut random = rng(12);
    let normal = Normal::new(0.0, 2.5).unwrap();
    let offsets: Vec<f32> = (0..384).map(|_| random.sample(normal) as f32).collect();
    for along_rows in [true, false] {
        let mut frame = plain.clone();
        for (i, value) in frame.data.iter_mut().enumerate() {
            *value = (*value + offsets[if along_rows { i / 384 } else { i % 384 }]).round();
        }
        let found = diagnosis(&[frame]);
        let (with, without) = if along_rows {
            (found.rows, found.columns)
        } else {
            (found.columns, found.rows)
        };
        assert_within(with.sigma, 2.5, 0.2);
        // Apart from the offsets, pixels are independent.
        let correlation = found.correlation.as_ref().unwrap();
        assert_correlation(&correlation.x, &of_kernel(&[1.0]));
        assert_correlation(&correlation.y, &of_kernel(&[1.0]));
        assert_within(found.noise[0].gain.unwrap(), CAMERA.gain, 0.1);
        assert!(without.relative < 0.1, "{without:?}");
        let expected = if along_rows { Axis::X } else { Axis::Y };
        let is_it = |f: &Finding| matches!(f, Finding::Lines { axis, .. } if *axis == expected);
        assert!(found.findings().iter().any(is_it), "{:?}", found.findings());
    }
}

#[test]
fn offsets_of_rows_and_correlated_pixels_are_told_apart() {
    let scene = cells(384, 31);
    let shared = filtered(
        &noise(&scene, CAMERA, &mut rng(31)),
        &[0.25, 0.5, 0.25],
        true,
    );
    let mut frame = counts(&scene, &shared, CAMERA);
    let mut random = rng(32);
    let normal = Normal::new(0.0, 3.0).unwrap();
    for row in frame.data.chunks_exact_mut(384) {
        let offset = random.sample(normal) as f32;
        for value in row {
            *value = (*value + offset).round();
        }
    }
    let found = diagnosis(&[frame]);
    assert_within(found.rows.sigma, 3.0, 0.2);
    let correlation = found.correlation.as_ref().unwrap();
    assert_correlation(&correlation.x, &of_kernel(&[0.25, 0.5, 0.25]));
    assert_correlation(&correlation.y, &of_kernel(&[1.0]));
}

#[test]
fn hot_pixels_are_found_and_small_objects_are_not() {
    let scene = cells(256, 13);
    let mut frames: Vec<Frame> = (0..4).map(|i| taken(&scene, CAMERA, 20 + i)).collect();
    // Spots of about two pixels, as a lens produces them, are signal.
    assert!(diagnosis(&frames).hot_pixels.count <= 1);
    let mut random = rng(14);
    let mut places: Vec<usize> = (0..30).map(|_| random.random_range(0..256 * 256)).collect();
    places.retain(|at| (2..254).contains(&(at / 256)) && (2..254).contains(&(at % 256)));
    for frame in &mut frames {
        for &at in &places {
            frame.data[at] = 400.0;
        }
    }
    frames[0].data[100 * 256 + 100] = 900.0;
    let found = diagnosis(&frames).hot_pixels;
    // Hot pixels on a bright spot cannot be distinguished from it.
    assert!(
        found.fixed >= places.len() - 2 && found.fixed <= places.len(),
        "{}",
        found.fixed
    );
    assert!(found.positions.contains(&[100, 100, 0]));
}

#[test]
fn saturation_and_cut_off_noise() {
    let camera = Camera {
        gain: 1.0,
        read: 6.0,
        offset: -4.0,
    };
    let scene = edges(256, 4.0, 260.0, 15);
    let mut frame = taken(&scene, camera, 15);
    let plain = diagnosis(std::slice::from_ref(&frame)).values;
    assert_eq!((plain.clipped_low, plain.clipped_high), (None, None));
    let part_of = |frame: &Frame, end: f32| {
        frame.data.iter().filter(|&&value| value == end).count() as f64 / frame.data.len() as f64
    };
    frame
        .data
        .iter_mut()
        .for_each(|value| *value = value.clamp(0.0, 200.0));
    let found = diagnosis(std::slice::from_ref(&frame));
    assert_eq!(found.values.clipped_low, Some(part_of(&frame, 0.0)));
    assert_eq!(found.values.clipped_high, Some(part_of(&frame, 200.0)));
    // Clipped values do not count in the noise.
    assert_within(found.noise[0].gain.unwrap(), 1.0, 0.15);
    let findings = found.findings();
    assert!(
        findings
            .iter()
            .any(|f| matches!(f, Finding::Saturated { .. })),
        "{findings:?}"
    );
    assert!(
        findings
            .iter()
            .any(|f| matches!(f, Finding::Clipped { .. })),
        "{findings:?}"
    );
}

#[test]
fn coarse_steps_are_found() {
    let mut frame = taken(&edges(256, 20.0, 200.0, 16), CAMERA, 16);
    frame
        .data
        .iter_mut()
        .for_each(|value| *value = (*value / 32.0).round() * 32.0);
    let found = diagnosis(&[frame]);
    assert_eq!(found.values.step, Some(32.0));
    let findings = found.findings();
    assert!(
        findings.iter().any(|f| matches!(f, Finding::Coarse { .. })),
        "{findings:?}"
    );
}

#[test]
fn units_do_not_matter() {
    let frame = taken(&cells(256, 17), CAMERA, 17);
    let in_counts = diagnosis(std::slice::from_ref(&frame));
    for unit in [1e-6_f32, 1.0 / 65535.0, 1e4] {
        let mut scaled = frame.clone();
        scaled.data.iter_mut().for_each(|value| *value *= unit);
        let found = diagnosis(&[scaled]);
        let unit = f64::from(unit);
        assert_within(
            found.noise[0].gain.unwrap() / unit,
            in_counts.noise[0].gain.unwrap(),
            1e-3,
        );
        assert_within(
            found.noise[0].read_noise.unwrap().value / unit,
            in_counts.noise[0].read_noise.unwrap().value,
            1e-2,
        );
        assert_eq!(found.findings(), in_counts.findings());
    }
}

#[test]
fn a_quick_look_finds_the_same() {
    let scene = cells(384, 18);
    let shared = filtered(
        &noise(&scene, CAMERA, &mut rng(18)),
        &[0.25, 0.5, 0.25],
        true,
    );
    let found = diagnose(&[counts(&scene, &shared, CAMERA)], &Options::quick()).unwrap();
    assert!(matches!(
        found.findings()[0],
        Finding::Correlated { axis: Axis::X, .. }
    ));
}

#[test]
fn images_that_say_nothing_are_no_failure() {
    let frame = |height: usize, width: usize, value: f32| Frame {
        height,
        width,
        channels: 1,
        data: vec![value; height * width],
    };
    let values = |frame| diagnosis(&[frame]).values.to_string();
    assert_eq!(values(frame(64, 64, f32::NAN)), "no finite values");
    assert_eq!(values(frame(64, 64, 7.0)), "values from 7 to 7");
    for empty in [
        frame(1, 1, 5.0),
        frame(15, 400, 0.0),
        frame(200, 200, 7.0),
        frame(64, 64, f32::NAN),
        frame(64, 64, f32::MAX),
        frame(0, 0, 0.0),
    ] {
        let found = diagnosis(&[empty]);
        assert!(found.noise.is_empty());
        assert!(found.findings().contains(&Finding::NothingMeasured));
    }
    let mut broken = taken(&cells(128, 19), CAMERA, 19);
    broken.data[5000] = f32::NAN;
    broken.data[9000] = f32::INFINITY;
    let found = diagnosis(&[broken]);
    assert_within(found.noise[0].gain.unwrap(), CAMERA.gain, 0.3);
    assert!(matches!(found.findings()[0], Finding::NotFinite { .. }));
}

#[test]
fn the_middle_keeps_the_grid() {
    let frame = Frame {
        height: 40,
        width: 50,
        channels: 2,
        data: (0..40 * 50 * 2).map(|i| i as f32).collect(),
    };
    let middle = frame.middle(20, 100);
    assert_eq!((middle.height, middle.width, middle.channels), (20, 50, 2));
    // Row 10 rounded down to a multiple of 8.
    assert_eq!(middle.data, frame.data[8 * 100..28 * 100]);
    assert_eq!(frame.middle(40, 10).data[..2], frame.data[2 * 16..2 * 17]);
}

#[test]
fn frames_that_do_not_fit_are_refused() {
    let message = |frames: &[Frame]| {
        diagnose(frames, &Options::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(message(&[]), "images: expected at least one, found none");
    let frame = |channels: usize, values: usize| Frame {
        height: 4,
        width: 5,
        channels,
        data: vec![0.0; values],
    };
    assert_eq!(
        message(&[frame(1, 19)]),
        "image 0: expected 4x5x1 values, found 19"
    );
    assert_eq!(
        message(&[frame(1, 20), frame(3, 60)]),
        "channels of image 1: expected 1, as the first has, found 3"
    );
}

#[test]
fn the_page_holds_sentences_charts_and_pictures_and_no_markup_from_outside() {
    let scene = cells(192, 21);
    let shared = filtered(
        &noise(&scene, CAMERA, &mut rng(21)),
        &[0.25, 0.5, 0.25],
        true,
    );
    let frame = counts(&scene, &shared, CAMERA);
    let found = diagnosis(std::slice::from_ref(&frame));
    let remedy = |finding: &Finding| {
        matches!(finding, Finding::Correlated { .. }).then(|| "do <this>".to_string())
    };
    let html = page("a<b>.tif", &found, &[frame], &remedy).unwrap();
    assert!(html.contains("a&lt;b&gt;.tif") && html.contains("do &lt;this&gt;"));
    assert!(html.contains("The noise is correlated along rows"));
    assert_eq!(html.matches("<svg").count(), 2);
    assert_eq!(html.matches("data:image/png;base64,").count(), 3);
    assert!(!html.contains("http://") && !html.contains("https://"));
}
