//! TIFFs of every layout that tifffile, imagecodecs and libtiff wrote, compared with the formula their
//! samples were made by: `tests/golden/images/make_tiff.py`.

use std::fmt::Write as _;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use n2n::Range;
use n2n::corrupt::Corrupted;
use n2n::image::{
    Color, Depth, Encoding, Format, Image, Limits, MISSING, OfImage, Page, Pages, Position, Reader,
    image, images, write_pages,
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/images")
        .join(name)
}

/// The pages of a file and their samples in their own units.
fn pages(bytes: Vec<u8>) -> n2n::Result<Vec<(Page, Vec<f64>)>> {
    let mut reader = Reader::from_bytes(Path::new("test.tif"), bytes, Limits::default())?;
    let mut pages = vec![];
    while let Some(page) = reader.next_page()? {
        let mut samples = vec![];
        if page.depth.is_wide() {
            reader.read_wide(page.height, &mut samples)?;
        } else {
            let mut rows = vec![];
            reader.read_rows(page.height, &mut rows)?;
            let unit = page.depth.unit();
            samples.extend(rows.iter().map(|&x| f64::from(x * unit)));
        }
        pages.push((page, samples));
    }
    Ok(pages)
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(golden(name)).unwrap()
}

fn copy(bytes: Vec<u8>, format: Format) -> n2n::Result<Vec<u8>> {
    let mut reader = Reader::from_bytes(Path::new("test.tif"), bytes, Limits::default())?;
    let mut out = Cursor::new(vec![]);
    write_pages(
        &mut reader,
        Encoding::new(format),
        Path::new("copy"),
        &mut out,
    )?;
    Ok(out.into_inner())
}

/// Sample `i` of page `page`.
fn sample(kind: char, bits: u32, i: usize, page: usize) -> f64 {
    if kind == 'f' {
        return (7919 * i % 1009) as f64 / 64.0 - 2.0;
    }
    let value = (7919 * i + 104_729 * page) % (1 << bits);
    let low = if kind == 'i' { 1_i64 << (bits - 1) } else { 0 };
    (value as i64 - low) as f64
}

/// The files of the archive: what each is, and its content.
fn archive() -> Vec<(serde_json::Value, Vec<u8>)> {
    let mut bytes = vec![];
    flate2::read::GzDecoder::new(file("tiff_layouts.gz").as_slice())
        .read_to_end(&mut bytes)
        .unwrap();
    let mut rest = bytes.as_slice();
    let mut files = vec![];
    while !rest.is_empty() {
        let length = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
        let (about, content) = (length(0), length(4));
        let (about, behind) = rest[8..].split_at(about);
        let (content, behind) = behind.split_at(content);
        files.push((serde_json::from_slice(about).unwrap(), content.to_vec()));
        rest = behind;
    }
    files
}

/// Strips and tiles, in planes or not, of every type, compression, predictor, byte order, with one page
/// and several: read as tifffile does, and written again with the same samples.
#[test]
fn every_layout_gives_the_samples_that_were_written() {
    let files = archive();
    assert!(files.len() > 60, "{}", files.len());
    for (about, content) in files {
        let kind = about["kind"].as_str().unwrap();
        let (letter, bits) = kind.split_at(1);
        let (letter, bits) = (letter.chars().next().unwrap(), bits.parse::<u32>().unwrap());
        let depth = match (letter, bits) {
            ('u', ..=8) => Depth::U8,
            ('u', 9..=16) => Depth::U16,
            ('u', _) => Depth::U32,
            ('i', 8) => Depth::I8,
            ('i', 16) => Depth::I16,
            ('i', _) => Depth::I32,
            ('f', 64) => Depth::F64,
            _ => Depth::F32,
        };
        let copied = copy(content.clone(), Format::Tiff).unwrap();
        for found in [pages(content), pages(copied)] {
            let found = found.unwrap_or_else(|error| panic!("{about}: {error}"));
            assert_eq!(
                found.len() as u64,
                about["pages"].as_u64().unwrap(),
                "{about}"
            );
            for (at, (page, samples)) in found.iter().enumerate() {
                assert_eq!((page.height, page.width), (17, 18), "{about}");
                assert_eq!(page.samples() as u64, about["channels"].as_u64().unwrap());
                assert_eq!(page.depth, depth, "{about}");
                for (i, &value) in samples.iter().enumerate() {
                    let mut want = sample(letter, bits, i, at);
                    if bits < 8 {
                        // Expanded to the range of 8 bits.
                        want = (want * 255.0 / f64::from((1 << bits) - 1)).round();
                    }
                    // Half floats keep eleven bits.
                    let tolerance = if kind == "f16" { 0.005 } else { 0.0 };
                    let value = if depth == Depth::U8 || depth == Depth::U16 {
                        value.round()
                    } else {
                        value
                    };
                    assert!(
                        (value - want).abs() <= tolerance,
                        "{about}, page {at}, sample {i}: {value}, not {want}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_cut_or_damaged_never_panics_and_gives_no_wrong_sample() {
    let limits = Limits {
        pixels: 1 << 12,
        samples: 1 << 15,
    };
    for (about, content) in archive().into_iter().step_by(2) {
        let read = |bytes: Vec<u8>| {
            let mut reader = Reader::from_bytes(Path::new("test.tif"), bytes, limits)?;
            let mut rows = vec![];
            while let Some(page) = reader.next_page()? {
                reader.read_rows(page.height, &mut rows)?;
            }
            n2n::Result::Ok(rows)
        };
        let whole = read(content.clone()).unwrap();
        for length in (0..content.len()).step_by(211) {
            if let Ok(rows) = read(content[..length].to_vec()) {
                assert_eq!(rows, whole, "{about}, cut to {length} bytes");
            }
        }
        for at in (0..content.len()).step_by(13) {
            for value in [0, 0xFF, content[at] ^ 1] {
                let mut damaged = content.clone();
                damaged[at] = value;
                let _ = read(damaged);
            }
        }
    }
}

#[test]
fn all_frames_behind_one_directory_are_read() {
    for name in ["truncated.tif", "truncated_imagej.tif"] {
        let copied = copy(file(name), Format::Tiff).unwrap();
        for found in [pages(file(name)).unwrap(), pages(copied).unwrap()] {
            assert_eq!(found.len(), 3, "{name}");
            for (at, (page, samples)) in found.iter().enumerate() {
                assert_eq!((page.height, page.width, page.depth), (7, 10, Depth::U16));
                for (i, value) in samples.iter().enumerate() {
                    assert_eq!(value.round(), sample('u', 16, i, at), "{name}, page {at}");
                }
            }
        }
        // One of them is missing.
        let whole = file(name);
        let error = pages(whole[..whole.len() - 140].to_vec())
            .unwrap_err()
            .to_string();
        assert!(error.contains("it declares 3 images"), "{error}");
    }
}

#[test]
fn a_directory_at_the_end_of_a_file_may_lack_the_place_of_the_next() {
    let whole = file("packbits_u8_grey.tif");
    let cut = whole[..whole.len() - 4].to_vec();
    assert_eq!(pages(cut).unwrap()[0].1, pages(whole).unwrap()[0].1);
}

#[test]
fn byte_order_and_private_tags_stay() {
    let before = file("imagej_big.tif");
    let after = copy(before.clone(), Format::Tiff).unwrap();
    assert_eq!(&after[..4], b"MM\0*");
    // ImageJ's labels are big-endian UTF-16 after a big-endian header, in a tag that is plain bytes to other readers.
    let metadata = b"IJIJ";
    let at = |bytes: &[u8]| bytes.windows(4).position(|four| four == metadata).unwrap();
    let (from, to) = (at(&before), at(&after));
    assert_eq!(before[from..from + 40], after[to..to + 40]);
}

#[test]
fn stacks_say_which_page_is_which() {
    for (name, order) in [
        ("hyperstack_imagej.tif", "TZC"),
        ("hyperstack_ome.tif", "TCZ"),
    ] {
        let found = pages(file(name)).unwrap();
        assert_eq!(found.len(), 12, "{name}");
        for (at, (page, _)) in found.iter().enumerate() {
            let (channel, slice) = if order == "TZC" {
                (at % 2, at / 2 % 3)
            } else {
                (at / 2 % 3, at % 2)
            };
            let want = Position {
                time: at / 6,
                slice,
                channel,
            };
            assert_eq!(page.metadata.position, Some(want), "{name}, page {at}");
        }
    }
}

#[test]
fn samples_marked_as_missing_are_missing_and_written_again() {
    let missing = |samples: &[f64]| {
        let bits = u64::from(MISSING.to_bits());
        let found = samples.iter().enumerate();
        let found = found.filter(|(_, value)| u64::from((**value as f32).to_bits()) == bits);
        found.map(|(i, _)| i).collect::<Vec<_>>()
    };
    let (page, samples) = pages(file("nodata_f32.tif")).unwrap().remove(0);
    assert_eq!(page.metadata.nodata, Some(-9999.0));
    assert_eq!(missing(&samples), [23, 24, 25]);
    let copied = copy(file("nodata_f32.tif"), Format::Tiff).unwrap();
    assert_eq!(missing(&pages(copied.clone()).unwrap()[0].1), [23, 24, 25]);
    let raw = (-9999_f32).to_ne_bytes().repeat(3);
    assert!(copied.windows(12).any(|bytes| bytes == raw));

    let (_, samples) = pages(file("nodata_u8.tif")).unwrap().remove(0);
    let zeros = (0..70).filter(|&i| sample('u', 8, i, 0) == 0.0);
    assert_eq!(missing(&samples), zeros.collect::<Vec<_>>());
    assert!(!missing(&samples).is_empty());
    let mrc = copy(file("nodata_f32.tif"), Format::Mrc).unwrap();
    assert!(mrc.windows(12).any(|bytes| bytes == raw));
    // Another format gets the value that marks missing samples.
    let png = copy(file("nodata_u8.tif"), Format::Png).unwrap();
    for (i, value) in pages(png).unwrap()[0].1.iter().enumerate() {
        assert_eq!(value.round(), sample('u', 8, i, 0));
    }
}

#[test]
fn thumbnails_and_masks_are_copied_as_they_are() {
    let found = pages(file("thumbnail.tif")).unwrap();
    let beside: Vec<_> = found
        .iter()
        .map(|(page, _)| page.metadata.pass_through)
        .collect();
    assert_eq!(beside, [false, true, true]);
    assert_eq!(images(&golden("thumbnail.tif")).unwrap().count(), 1);
    // Nor do they count.
    let (path, second) = (golden("between.tif"), 2);
    assert_eq!(images(&path).unwrap().count(), 2);
    let expected = (0..70).map(|i| sample('u', 8, i, second) as u8);
    assert_eq!(
        image(&path, 1).unwrap().to_u8(),
        expected.collect::<Vec<_>>()
    );
    let error = image(&path, 2).unwrap_err().to_string();
    assert!(
        error.contains("expected at least 3 images, found 2"),
        "{error}"
    );
    let mut reader = Reader::open(&path, Limits::default()).unwrap();
    let noise = "gauss25".parse().unwrap();
    let mut noisy = Corrupted::new(&mut reader, noise, (Range::Between(0.0, 255.0), None), 1);
    for (page, is_same) in [(0, false), (1, true), (2, false)] {
        let mut rows = vec![];
        let size = noisy.next_page().unwrap().unwrap();
        noisy.read_rows(size.height, &mut rows).unwrap();
        let mut clean = (0..).map(|i| sample('u', 8, i, page));
        let equal = rows
            .iter()
            .all(|x| f64::from((x * 255.0).round()) == clean.next().unwrap());
        assert_eq!(equal, is_same, "page {page}");
    }
    let copied = copy(file("thumbnail.tif"), Format::Tiff).unwrap();
    let after = pages(copied.clone()).unwrap();
    for ((before, samples), (after, copied)) in found.iter().zip(&after) {
        assert_eq!(before.color, after.color);
        assert_eq!(before.metadata.pass_through, after.metadata.pass_through);
        assert_eq!(samples, copied);
    }
    // The mask still has one bit a pixel: ten of them are two bytes.
    let mask: Vec<u8> = (0..7)
        .flat_map(|y| {
            let bit = |x: usize| u16::from(sample('u', 8, y * 10 + x, 2) > 127.0) << (15 - x);
            (0..10).map(bit).sum::<u16>().to_be_bytes()
        })
        .collect();
    assert!(copied.windows(14).any(|bytes| bytes == mask));
    // A format of one page takes the image.
    let png = pages(copy(file("thumbnail.tif"), Format::Png).unwrap()).unwrap();
    assert_eq!((png.len(), &png[0].1), (1, &found[0].1));
}

#[test]
fn palettes_are_expanded() {
    for (name, color) in [
        ("palette_rgb.tif", Color::Rgb),
        ("palette_grey.tif", Color::Gray),
    ] {
        let (page, samples) = pages(file(name)).unwrap().remove(0);
        assert_eq!((page.color, page.depth), (color, Depth::U8), "{name}");
        for (i, pixel) in samples.chunks(color.channels()).enumerate() {
            let index = sample('u', 8, i, 0);
            let want = [index, 255.0 - index, (index * 257.0 / 2.0 / 256.0).floor()];
            for (value, want) in pixel.iter().zip(want) {
                assert_eq!(value.round(), want, "{name}, pixel {i}");
            }
        }
    }
}

#[test]
fn transparency_beside_a_palette_passes_through() {
    let (page, samples) = pages(file("palette_alpha.tif")).unwrap().remove(0);
    assert_eq!((page.color, page.extra), (Color::Rgb, 1));
    for (i, pixel) in samples.chunks(4).enumerate() {
        let (index, alpha) = (sample('u', 8, 2 * i, 0), sample('u', 8, 2 * i + 1, 0));
        let want = [
            index,
            255.0 - index,
            (index * 257.0 / 2.0 / 256.0).floor(),
            alpha,
        ];
        for (value, want) in pixel.iter().zip(want) {
            assert_eq!(value.round(), want, "pixel {i}");
        }
    }
}

#[test]
fn a_lossless_jpeg_is_never_luma_and_chroma() {
    for (name, bits) in [("lossless_u8_rgb.tif", 8), ("lossless_u12_rgb.tif", 12)] {
        let (page, samples) = pages(file(name)).unwrap().remove(0);
        assert_eq!(
            (page.height, page.width, page.color),
            (17, 18, Color::Rgb),
            "{name}"
        );
        for (i, &value) in samples.iter().enumerate() {
            assert_eq!(value.round(), sample('u', bits, i, 0), "{name}, sample {i}");
        }
    }
}

#[test]
fn infrared_is_a_channel_of_its_own() {
    let (page, _) = pages(file("infrared.tif")).unwrap().remove(0);
    assert_eq!((page.color, page.extra), (Color::Bands(4), 0));
    let copied = copy(file("infrared.tif"), Format::Tiff).unwrap();
    // Red, green and blue, and one more.
    assert_eq!(tag(&copied, 262), Some(2));
    assert_eq!(tag(&copied, 338), Some(0));
}

#[test]
fn white_that_is_zero_is_white_and_stays_zero() {
    let (_, samples) = pages(file("white_is_zero_u12.tif")).unwrap().remove(0);
    for (i, value) in samples.iter().enumerate() {
        // Samples of other than 8 or 16 bits stay as they are.
        assert_eq!(value.round(), sample('u', 12, i, 0));
    }
    let copied = copy(file("white_is_zero_u12.tif"), Format::Tiff).unwrap();
    assert_eq!(tag(&copied, 262), Some(0));
    // In 16 bits they are the same numbers, counted from another white.
    let from_white = |value: &f64| 65535.0 - value.round();
    let copied: Vec<f64> = pages(copied).unwrap()[0].1.iter().map(from_white).collect();
    let samples: Vec<f64> = samples.iter().map(|value| value.round()).collect();
    assert_eq!(copied, samples);
    // Floats have no largest value to count from.
    let (_, samples) = pages(file("white_is_zero_f32.tif")).unwrap().remove(0);
    assert!(
        samples
            .iter()
            .enumerate()
            .all(|(i, &value)| value == sample('f', 32, i, 0))
    );
    let copied = copy(file("white_is_zero_f32.tif"), Format::Tiff).unwrap();
    assert_eq!(tag(&copied, 262), Some(0));
}

#[test]
fn bits_in_reverse_and_facsimile_are_read_as_libtiff_does() {
    let (_, samples) = pages(file("fill_order.tif")).unwrap().remove(0);
    for (i, value) in samples.iter().enumerate() {
        assert_eq!(value.round(), sample('u', 8, i, 0));
    }
    let (_, samples) = pages(file("group3.tif")).unwrap().remove(0);
    for (i, value) in samples.iter().enumerate() {
        let want = if sample('u', 8, i, 0) > 127.0 {
            255.0
        } else {
            0.0
        };
        assert_eq!(value.round(), want, "pixel {i}");
    }
}

#[test]
fn exif_and_gps_survive_a_change_of_format() {
    let tiff = copy(file("exif.jpg"), Format::Tiff).unwrap();
    let jpeg = copy(tiff.clone(), Format::Jpeg).unwrap();
    for bytes in [file("exif.jpg"), tiff, jpeg] {
        let has = |words: &[u8]| bytes.windows(words.len()).any(|found| found == words);
        assert!(has(b"maker\0") && has(b"2026:01:02 03:04:05\0"));
        // 48 degrees, 51 minutes and 30 seconds, in either byte order.
        let degrees = |order: fn(u32) -> [u8; 4]| [48, 1, 51, 1, 30, 1].map(order).concat();
        assert!(has(&degrees(u32::to_be_bytes)) || has(&degrees(u32::to_le_bytes)));
    }
}

/// Where the entry of a tag lies in the first directory of a TIFF that begins with it, little end first.
fn entry(bytes: &[u8], tag: u16) -> usize {
    let is_tag = |at: &usize| bytes[*at..*at + 2] == tag.to_le_bytes();
    (10..).step_by(12).find(is_tag).unwrap()
}

#[test]
fn what_is_not_kept_beside_the_samples_is_told() {
    let whole = file("marked.tif");
    let notes = |bytes: Vec<u8>| pages(bytes).unwrap().remove(0).0.metadata.notes;
    assert!(notes(whole.clone()).is_empty());
    let (orientation, icc) = (entry(&whole, 274), entry(&whole, 34675));
    let mut damaged = whole.clone();
    damaged[icc + 8..icc + 12].copy_from_slice(&[0xFF; 4]);
    // A directory of Exif that is not there.
    damaged[orientation..orientation + 12]
        .copy_from_slice(b"\x69\x87\x04\0\x01\0\0\0\xFF\xFF\xFF\xFF");
    assert_eq!(
        notes(damaged),
        ["dropped: tags that have no values or unreadable ones: 34665, 34675"]
    );
    let mut empty = whole;
    empty[icc + 4..icc + 8].fill(0);
    assert_eq!(
        notes(empty),
        ["dropped: tags that have no values or unreadable ones: 34675"]
    );
}

#[test]
fn uncompressed_rows_are_refused_before_memory_is_taken_for_them() {
    let refused = |bytes: Vec<u8>, samples| {
        let limits = Limits {
            samples,
            ..Limits::default()
        };
        let mut reader = Reader::from_bytes(Path::new("test.tif"), bytes, limits).unwrap();
        reader.next_page().unwrap_err().to_string()
    };
    let mut wide = file("strip_u8_grey.tif");
    let samples = entry(&wide, 277);
    wide[samples + 8..samples + 10].copy_from_slice(&60_000_u16.to_le_bytes());
    let error = refused(wide.clone(), 1 << 29);
    assert!(error.contains("the file ends before"), "{error}");
    // A strip that is left out stands for zeros.
    for tag in [273, 279] {
        let place = entry(&wide, tag);
        wide[place + 8..place + 12].fill(0);
    }
    let error = refused(wide, 1 << 16);
    assert!(error.contains("10 pixels of 60000 channels"), "{error}");
}

#[test]
fn a_predictor_counts_only_where_samples_are_compressed() {
    // As in libtiff, Pillow and GDAL.
    let whole = file("strip_u8_grey.tif");
    let mut stated = whole.clone();
    let unit = entry(&stated, 296);
    stated[unit..unit + 12].copy_from_slice(b"\x3D\x01\x03\0\x01\0\0\0\x02\0\0\0");
    let (page, samples) = pages(stated).unwrap().remove(0);
    assert_eq!(samples, pages(whole).unwrap()[0].1);
    assert_eq!(
        page.metadata.notes,
        ["its predictor is ignored, as by libtiff: the samples are not compressed"]
    );
}

#[test]
fn deflate_has_a_third_number() {
    let whole = file("tiles_u16_rgb.tif");
    let mut other = whole.clone();
    let compression = entry(&other, 259);
    other[compression + 8..compression + 10].copy_from_slice(&50013_u16.to_le_bytes());
    assert_eq!(pages(other).unwrap()[0].1, pages(whole).unwrap()[0].1);
}

#[test]
fn samples_that_are_not_understood_are_named() {
    let error = pages(file("volume.tif")).unwrap_err().to_string();
    assert!(error.contains("a volume of 3 slices"), "{error}");
    let error = pages(file("complex.tif")).unwrap_err().to_string();
    assert!(
        error.contains("its samples are 64-bit complex numbers"),
        "{error}"
    );
    let mut mixed = file("lzw_u8_rgb.tif");
    let bits = entry(&mixed, 258) + 8;
    let bits = u32::from_le_bytes(mixed[bits..bits + 4].try_into().unwrap()) as usize;
    mixed[bits + 2] = 16;
    let error = pages(mixed).unwrap_err().to_string();
    let types = "its channels have different types: [8, 16, 8] bits, sample formats [1";
    assert!(error.contains(types), "{error}");
}

#[test]
fn an_image_of_signed_or_wide_samples_has_their_units() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("signed.tif");
    for (depth, values) in [
        (Depth::I8, vec![-128.0, -1.0, 0.0, 127.0]),
        (Depth::I16, vec![-32768.0, -1.0, 0.0, 32767.0]),
        (Depth::I32, vec![-70000.0, -1.0, 0.0, 70000.0]),
        (Depth::U32, vec![0.0, 1.0, 70000.0, 16_777_216.0]),
        (Depth::F64, vec![-1e30, 1e-30, 0.5, 7.0]),
    ] {
        let image = Image {
            height: 2,
            width: 2,
            channels: 1,
            data: values,
            depth,
        };
        image.write(&path).unwrap();
        assert_eq!(Image::read(&path).unwrap(), image);
    }
}

/// The first value of a tag of the first directory, which is a little-endian TIFF's or a big-endian one's.
fn tag(bytes: &[u8], tag: u16) -> Option<u16> {
    let little = bytes.starts_with(b"II");
    let short = |at: usize| {
        let two = [bytes[at], bytes[at + 1]];
        if little {
            u16::from_le_bytes(two)
        } else {
            u16::from_be_bytes(two)
        }
    };
    let long = |at: usize| {
        let four = bytes[at..at + 4].try_into().unwrap();
        if little {
            u32::from_le_bytes(four)
        } else {
            u32::from_be_bytes(four)
        }
    };
    let directory = long(4) as usize;
    let entries = (0..short(directory) as usize).map(|i| directory + 2 + 12 * i);
    entries
        .into_iter()
        .find(|&at| short(at) == tag)
        .map(|at| short(at + 8))
}

/// A segment of a JPEG.
fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let length = (2 + body.len() as u16).to_be_bytes();
    [&[0xFF, marker], length.as_slice(), body].concat()
}

/// A gray lossless JPEG of this size (T.81, annex H): each sample is predicted by its left neighbor, those of the first
/// column by the one above, and the first by the middle of the range.
fn lossless_jpeg(bits: u8, [width, height]: [u16; 2], samples: &[u8]) -> Vec<u8> {
    let width = usize::from(width);
    let mut stream = String::new();
    for (i, &sample) in samples.iter().enumerate() {
        let prediction = match i {
            0 => 1 << (bits - 1),
            _ if i % width == 0 => samples[i - width],
            _ => samples[i - 1],
        };
        let difference = i32::from(sample) - i32::from(prediction);
        let count = (32 - difference.abs().leading_zeros()) as usize;
        // Every count of bits has a code of three.
        write!(stream, "{count:03b}").unwrap();
        if count > 0 {
            let value = if difference < 0 {
                difference - 1
            } else {
                difference
            };
            stream.push_str(&format!("{value:032b}")[32 - count..]);
        }
    }
    while !stream.len().is_multiple_of(8) {
        stream.push('1');
    }
    let bytes = stream.as_bytes().chunks(8).flat_map(|byte| {
        let byte = u8::from_str_radix(str::from_utf8(byte).unwrap(), 2).unwrap();
        if byte == 0xFF {
            vec![byte, 0]
        } else {
            vec![byte]
        }
    });
    let side = |side: usize| (side as u16).to_be_bytes();
    let frame = [
        &[bits],
        &side(height.into())[..],
        &side(width),
        &[1, 1, 0x11, 0],
    ]
    .concat();
    let table = [&[0, 0, 0, 7], [0; 13].as_slice(), &[0, 1, 2, 3, 4, 5, 6]].concat();
    [
        vec![0xFF, 0xD8],
        segment(0xC3, &frame),
        segment(0xC4, &table),
        segment(0xDA, &[1, 1, 0, 1, 0, 0]),
        bytes.collect(),
        vec![0xFF, 0xD9],
    ]
    .concat()
}

/// A gray TIFF with this JPEG as its only strip.
fn around(jpeg: &[u8], bits: u8, [width, height]: [u16; 2], photometric: u32) -> Vec<u8> {
    const ENTRIES: u16 = 9;
    let start = 8 + 2 + 12 * u32::from(ENTRIES) + 4;
    let mut tiff = b"II*\0\x08\0\0\0".to_vec();
    tiff.extend(ENTRIES.to_le_bytes());
    for (tag, value) in [
        (256_u16, width.into()),
        (257, height.into()),
        (258, bits.into()),
        (259, 7),
        (262, photometric),
        (273, start),
        (277, 1),
        (278, height.into()),
        (279, jpeg.len() as u32),
    ] {
        tiff.extend(tag.to_le_bytes());
        tiff.extend([4, 0, 1, 0, 0, 0]);
        tiff.extend(value.to_le_bytes());
    }
    tiff.extend([0; 4]);
    tiff.extend(jpeg);
    tiff
}

#[test]
fn a_lossless_jpeg_of_fewer_than_8_bits_has_their_range() {
    for bits in [2, 4, 6, 8] {
        // Those of 8 bits lie near the first prediction, 128: the table has no code for larger differences.
        let stored = |i: usize| {
            if bits == 8 {
                128 + i as u8 % 7
            } else {
                sample('u', bits, i, 0) as u8
            }
        };
        let stored: Vec<u8> = (0..70).map(stored).collect();
        let jpeg = lossless_jpeg(bits as u8, [10, 7], &stored);
        for is_white_zero in [false, true] {
            let tiff = around(&jpeg, bits as u8, [10, 7], u32::from(!is_white_zero));
            let (page, samples) = pages(tiff).unwrap().remove(0);
            assert_eq!(page.depth, Depth::U8);
            for (&value, &stored) in samples.iter().zip(&stored) {
                let share = f64::from(stored) / f64::from((1 << bits) - 1);
                let share = if is_white_zero { 1.0 - share } else { share };
                assert_eq!(value.round(), (255.0 * share).round(), "{bits} bits");
            }
        }
    }
}

#[test]
fn the_codestream_of_a_narrow_strip_is_limited_too() {
    // With room for padding, these few thousand samples would become hundreds of thousands.
    let jpeg = lossless_jpeg(4, [500, 500], &vec![8; 500 * 500]);
    let tiff = around(&jpeg, 4, [1, 4096], 1);
    let limits = Limits {
        samples: 1 << 13,
        ..Limits::default()
    };
    let mut reader = Reader::from_bytes(Path::new("test.tif"), tiff, limits).unwrap();
    let page = reader.next_page().unwrap().unwrap();
    let error = reader.read_rows(page.height, &mut vec![]).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("more than the expected 8192 samples"),
        "{error}"
    );
}

#[test]
fn what_may_exceed_4_gb_becomes_a_big_tiff() {
    struct Stated<'a>(OfImage<'a>, Option<u64>);
    impl Pages for Stated<'_> {
        fn next_page(&mut self) -> n2n::Result<Option<Page>> {
            let page = self.0.next_page()?;
            Ok(page.map(|mut page| {
                page.metadata.file_samples = self.1;
                page
            }))
        }
        fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> n2n::Result<()> {
            self.0.read_rows(count, rows)
        }
    }
    let image = Image::from_u8(2, 3, 1, &[1; 6]).unwrap();
    for (samples, depth, is_big) in [
        (None, None, false),
        (Some(3 << 30), None, false),
        (Some(3 << 30), Some(Depth::U16), true),
        (Some(5 << 30), None, true),
        (Some(u64::MAX), Some(Depth::F64), true),
    ] {
        let encoding = Encoding {
            depth,
            ..Encoding::new(Format::Tiff)
        };
        let mut out = Cursor::new(vec![]);
        let mut source = Stated(OfImage::new(&image), samples);
        write_pages(&mut source, encoding, Path::new("a.tif"), &mut out).unwrap();
        let version = u16::from_ne_bytes([out.get_ref()[2], out.get_ref()[3]]);
        assert_eq!(
            version,
            if is_big { 43 } else { 42 },
            "{samples:?} as {depth:?}"
        );
        assert_eq!(pages(out.into_inner()).unwrap().len(), 1);
    }
    // Compressed or not, a file states all its samples, and an ordinary one no more than a TIFF can hold.
    for (about, content) in archive() {
        let (page, _) = pages(content).unwrap().remove(0);
        let all = 17 * 18 * about["pages"].as_u64().unwrap() * about["channels"].as_u64().unwrap();
        let stated = page.metadata.file_samples.unwrap();
        assert!(
            (all..1 << 20).contains(&stated),
            "{about}: {stated} of {all}"
        );
    }
}
