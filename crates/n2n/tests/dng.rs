//! Digital negatives, which `tests/golden/images/make_dng.py` made and whose mosaics `LibRaw` has read, compared with
//! the formula of their samples.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use n2n::image::{Color, Depth, Encoding, Format, Limits, Page, Pages, Reader, write_pages};

const HEIGHT: usize = 50;
const WIDTH: usize = 70;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/images")
        .join(name)
}

fn page(bytes: &[u8]) -> n2n::Result<(Page, Vec<f32>)> {
    let mut reader = Reader::from_bytes(Path::new("a.dng"), bytes, Limits::default())?;
    assert_eq!(reader.format(), Format::Dng);
    let page = reader.next_page()?.unwrap();
    let mut rows = vec![];
    let mut left = page.height;
    while left > 0 {
        let count = left.min(7);
        left -= count;
        reader.read_rows(count, &mut rows)?;
    }
    assert!(reader.next_page()?.is_none());
    Ok((page, rows))
}

/// The file through the library, its samples as they are.
fn copy(bytes: &[u8], encoding: Encoding) -> n2n::Result<Vec<u8>> {
    let mut reader = Reader::from_bytes(Path::new("a.dng"), bytes, Limits::default())?;
    let mut out = Cursor::new(vec![]);
    write_pages(&mut reader, encoding, Path::new("b"), &mut out)?;
    Ok(out.into_inner())
}

/// What the sensor measured at a pixel of a mosaic.
fn measured(name: &str, y: usize, x: usize) -> f32 {
    let i = 7919 * (y * WIDTH + x);
    match name {
        "mosaic.dng" => (i % 4096) as f32,
        "mosaic_lossless.dng" => (i % 16384) as f32,
        // np.round(np.linspace(0, 1, 256) ** 2 * 4095)
        _ => (((i % 256) as f64 / 255.0).powi(2) * 4095.0).round() as f32,
    }
}

#[test]
fn the_samples_of_a_cell_are_channels_of_a_pixel() {
    for (name, (top, left, bottom, right)) in [
        ("mosaic.dng", (0, 0, 50, 70)),
        ("mosaic_lossless.dng", (3, 5, 50, 68)),
        ("mosaic_table.dng", (0, 0, 50, 70)),
    ] {
        let (page, rows) = page(&std::fs::read(golden(name)).unwrap()).unwrap();
        let (height, width): (usize, usize) = (bottom - top, right - left);
        let size = (height.div_ceil(2), width.div_ceil(2));
        assert_eq!((page.height, page.width), size, "{name}");
        assert_eq!((page.color, page.depth), (Color::Bands(4), Depth::U16));
        for (i, &value) in rows.iter().enumerate() {
            let (y, x, place) = (i / 4 / size.1, i / 4 % size.1, i % 4);
            let (mut y, mut x) = (2 * y + place / 2, 2 * x + place % 2);
            // On an odd side, the last cells are completed from those before them.
            y -= if y < height { 0 } else { 2 };
            x -= if x < width { 0 } else { 2 };
            let want = measured(name, top + y, left + x) / 65535.0;
            assert_eq!(value, want, "{name}, row {y}, column {x}");
        }
    }
}

#[test]
fn levels_colors_and_noise_are_known() {
    let sensor = |name: &str| {
        let (page, _) = page(&std::fs::read(golden(name)).unwrap()).unwrap();
        page.metadata.sensor.unwrap()
    };
    let phone = sensor("mosaic.dng");
    assert_eq!(phone.colors, Some([0, 1, 1, 2]));
    let black = phone.responses.iter().map(|r| r.black * 65535.0);
    assert_eq!(black.collect::<Vec<_>>(), [256.0, 257.0, 258.0, 255.5]);
    assert!(phone.responses.iter().all(|r| r.white * 65535.0 == 4095.0));
    let noise = phone.responses.iter().map(|r| r.noise.unwrap());
    let (red, green, blue) = ([1e-3, 1e-5], [2e-3, 2e-5], [3e-3, 3e-5]);
    assert_eq!(noise.collect::<Vec<_>>(), [red, green, green, blue]);

    // One pair for all colors, in the first directory.
    let camera = sensor("mosaic_lossless.dng");
    assert_eq!(camera.colors, Some([1, 0, 2, 1]));
    assert!(
        camera
            .responses
            .iter()
            .all(|r| r.noise == Some([1e-3, 1e-5]))
    );

    let linear = sensor("linear.dng");
    assert_eq!(linear.colors, None);
    let black = linear.responses.iter().map(|r| (r.black * 65535.0).round());
    assert_eq!(black.collect::<Vec<_>>(), [100.0, 200.0, 300.0]);
}

#[test]
fn linear_pixels_are_red_green_and_blue() {
    for (name, depth) in [("linear.dng", Depth::U16), ("linear_float.dng", Depth::F32)] {
        let (page, rows) = page(&std::fs::read(golden(name)).unwrap()).unwrap();
        assert_eq!((page.height, page.width), (HEIGHT, WIDTH));
        assert_eq!((page.color, page.depth), (Color::Rgb, depth));
        for (i, &value) in rows.iter().enumerate() {
            let want = match depth {
                Depth::U16 => (7919 * i % 65536) as f32 / 65535.0,
                _ => (7919 * i % 1009) as f32 / 1024.0,
            };
            assert_eq!(value, want, "{name}, sample {i}");
        }
    }
}

/// Whether the first directory has a tag, in files of either byte order.
fn has_tag(bytes: &[u8], tag: u16) -> bool {
    let is_big = &bytes[..2] == b"MM";
    let word = |at: usize| {
        let pair = [bytes[at], bytes[at + 1]];
        if is_big {
            u16::from_be_bytes(pair)
        } else {
            u16::from_le_bytes(pair)
        }
    };
    let halves = (usize::from(word(4)), usize::from(word(6)));
    let first = if is_big {
        halves.0 << 16 | halves.1
    } else {
        halves.1 << 16 | halves.0
    };
    (0..usize::from(word(first))).any(|i| word(first + 2 + 12 * i) == tag)
}

#[test]
fn a_copy_has_every_sample_and_all_that_was_said_but_what_is_stale() {
    for name in [
        "mosaic.dng",
        "mosaic_lossless.dng",
        "mosaic_table.dng",
        "linear.dng",
        "linear_float.dng",
    ] {
        let bytes = std::fs::read(golden(name)).unwrap();
        let copied = copy(&bytes, Encoding::new(Format::Dng)).unwrap();
        let (before, after) = (page(&bytes).unwrap(), page(&copied).unwrap());
        assert!(before.1 == after.1, "{name}");
        assert_eq!(before.0.metadata.sensor, after.0.metadata.sensor, "{name}");
        // The maker's notes stay where they are, and checksums of other samples go.
        let maker = b"makermakermaker";
        let place = |bytes: &[u8]| bytes.windows(maker.len()).position(|part| part == maker);
        assert!(
            place(&bytes).is_some() && place(&bytes) == place(&copied),
            "{name}"
        );
        for tag in [271, 272, 34665, 50706, 50721, 50728] {
            assert!(has_tag(&copied, tag), "{name}: {tag}");
        }
        for tag in [50781, 51111, 50712] {
            assert!(!has_tag(&copied, tag), "{name}: {tag}");
        }
        // Old samples at the end of the file are gone.
        let is_tail = name == "mosaic.dng";
        assert_eq!(copied.len() < bytes.len() + 1000, is_tail, "{name}");
    }
}

#[test]
fn a_directory_at_the_end_of_a_dng_may_lack_the_place_of_the_next() {
    let whole = std::fs::read(golden("linear.dng")).unwrap();
    let cut = &whole[..whole.len() - 4];
    let copied = copy(cut, Encoding::new(Format::Dng)).unwrap();
    assert!(page(&copied).unwrap().1 == page(&whole).unwrap().1);
}

#[test]
fn samples_beyond_the_area_stay_and_those_within_are_replaced() {
    struct Brighter(Reader);
    impl Pages for Brighter {
        fn next_page(&mut self) -> n2n::Result<Option<Page>> {
            self.0.next_page()
        }
        fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> n2n::Result<()> {
            self.0.read_rows(count, rows)?;
            for value in rows {
                *value += 7.0 / 65535.0;
            }
            Ok(())
        }
    }
    let name = "mosaic_lossless.dng";
    let reader = Reader::open(&golden(name), Limits::default()).unwrap();
    let mut out = Cursor::new(vec![]);
    let encoding = Encoding::new(Format::Dng);
    write_pages(&mut Brighter(reader), encoding, Path::new("b"), &mut out).unwrap();
    let bytes = out.into_inner();
    // The samples are all there is behind the file that was read, but for the directories.
    let start = std::fs::metadata(golden(name))
        .unwrap()
        .len()
        .next_multiple_of(8) as usize;
    let samples = bytes[start..].as_chunks().0;
    for (i, &sample) in samples[..HEIGHT * WIDTH].iter().enumerate() {
        let (y, x) = (i / WIDTH, i % WIDTH);
        let is_within = (3..50).contains(&y) && (5..68).contains(&x);
        let want = measured(name, y, x) + if is_within { 7.0 } else { 0.0 };
        assert_eq!(
            f32::from(u16::from_be_bytes(sample)),
            want,
            "row {y}, column {x}"
        );
    }
}

#[test]
fn other_formats_have_the_channels_of_the_mosaic() {
    let bytes = std::fs::read(golden("mosaic.dng")).unwrap();
    let copied = copy(&bytes, Encoding::new(Format::Tiff)).unwrap();
    let mut reader = Reader::from_bytes(Path::new("a.tif"), copied, Limits::default()).unwrap();
    assert_eq!(reader.format(), Format::Tiff);
    let found = reader.next_page().unwrap().unwrap();
    assert_eq!((found.height, found.width), (HEIGHT / 2, WIDTH / 2));
    let mut rows = vec![];
    reader.read_rows(found.height, &mut rows).unwrap();
    assert!(rows == page(&bytes).unwrap().1);
}

#[test]
fn a_dng_is_made_only_from_a_dng() {
    let refused = |name: &str, encoding: Encoding| {
        let bytes = std::fs::read(golden(name)).unwrap();
        copy(&bytes, encoding).unwrap_err().to_string()
    };
    let said = refused("rgb16.png", Encoding::new(Format::Dng));
    assert!(said.contains("use TIFF for other images"), "{said}");
    let floats = Encoding {
        depth: Some(Depth::F32),
        ..Encoding::new(Format::Dng)
    };
    assert!(refused("mosaic.dng", floats).contains("as many samples as were read from the DNG"));
}

#[test]
fn what_is_cut_or_damaged_never_panics() {
    for name in ["mosaic.dng", "mosaic_lossless.dng", "mosaic_table.dng"] {
        let bytes = std::fs::read(golden(name)).unwrap();
        for length in (0..bytes.len()).step_by(97) {
            let _ = copy(&bytes[..length], Encoding::new(Format::Dng));
        }
        for at in (0..bytes.len()).step_by(3) {
            for value in [0xFF, bytes[at] ^ 1, 0] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let reader = Reader::from_bytes(
                    Path::new("a"),
                    damaged,
                    Limits {
                        pixels: 1 << 16,
                        samples: 1 << 16,
                    },
                );
                let Ok(mut reader) = reader else { continue };
                let mut out = Cursor::new(vec![]);
                let _ = write_pages(
                    &mut reader,
                    Encoding::new(Format::Dng),
                    Path::new("b"),
                    &mut out,
                );
            }
        }
    }
}
