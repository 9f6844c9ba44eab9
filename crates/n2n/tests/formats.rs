//! Files that other programs wrote, in every format and layout, compared with the formula their
//! samples were made by: `tests/golden/images/make_formats.py`.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use n2n::image::{
    Color, Depth, Encoding, Format, Image, Limits, Orientation, Page, Pages, Reader,
    ResolutionUnit, images, write_pages,
};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden/images")
        .join(name)
}

/// Sample `i` of page `page`, as the library gives it.
fn sample(depth: Depth, i: usize, page: usize) -> f32 {
    let integer = 7919 * i + 104_729 * page;
    match depth {
        Depth::U8 => (integer % 256) as f32 / 255.0,
        Depth::U16 => (integer % 65536) as f32 / 65535.0,
        _ => (7919 * i % 1009) as f32 / 64.0 - 2.0,
    }
}

/// The pages of a file with their samples, read in pieces of a few rows.
fn pages(name: &str) -> Vec<(Page, Vec<f32>)> {
    let mut reader = Reader::open(&golden(name), Limits::default()).unwrap();
    let mut pages = vec![];
    while let Some(page) = reader.next_page().unwrap() {
        let mut rows = vec![];
        let mut left = page.height;
        while left > 0 {
            let count = left.min(5);
            reader.read_rows(count, &mut rows).unwrap();
            left -= count;
        }
        pages.push((page, rows));
    }
    pages
}

#[test]
fn every_format_and_layout_gives_the_samples_that_were_written() {
    use Color::{Bands, Gray, Rgb};
    use Depth::{F32, U8, U16};
    for (name, size, color, extra, depth) in [
        ("strips_u16_rgb_big.tif", (7, 10), Rgb, 0, U16),
        ("strip_u8_grey.tif", (7, 10), Gray, 0, U8),
        ("tiles_u16_rgb.tif", (37, 41), Rgb, 0, U16),
        ("tiles_f32_grey_big.tif", (37, 41), Gray, 0, F32),
        ("planes_u8_rgb.tif", (7, 10), Rgb, 0, U8),
        ("planes_f32_bands.tif", (7, 10), Bands(5), 0, F32),
        ("bigtiff_f32_rgb.tif", (7, 10), Rgb, 0, F32),
        ("f16_grey.tif", (7, 10), Gray, 0, F32),
        ("f64_grey.tif", (7, 10), Gray, 0, Depth::F64),
        ("rgba_u16.tif", (7, 10), Rgb, 1, U16),
        ("cmyk_u8.tif", (7, 10), Bands(4), 0, U8),
        ("white_is_zero_u8.tif", (7, 10), Gray, 0, U8),
        ("lzw_u8_rgb.tif", (7, 10), Rgb, 0, U8),
        ("packbits_u8_grey.tif", (7, 10), Gray, 0, U8),
        ("predicted_u16_rgb.tif", (7, 10), Rgb, 0, U16),
        ("imagej_u16_stack.tif", (7, 10), Gray, 0, U16),
        ("lossless.webp", (7, 10), Rgb, 0, U8),
        ("alpha.webp", (7, 10), Rgb, 1, U8),
        ("rgb.bmp", (7, 10), Rgb, 0, U8),
        ("rgb16.ppm", (7, 10), Rgb, 0, U16),
        ("grey16.pgm", (7, 10), Gray, 0, U16),
        ("rgb_f32.exr", (7, 10), Rgb, 0, F32),
        ("rgba_f32.exr", (7, 10), Rgb, 1, F32),
        ("rgb_f16.exr", (7, 10), Rgb, 0, F32),
        ("grey_f32.exr", (7, 10), Gray, 0, F32),
        ("rgb.tga", (7, 10), Rgb, 0, U8),
        ("rgba.tga", (7, 10), Rgb, 1, U8),
        ("grey.tga", (7, 10), Gray, 0, U8),
        ("rgb.dib", (7, 10), Rgb, 0, U8),
        ("rgb.pfm", (7, 10), Rgb, 0, F32),
        ("grey.pfm", (7, 10), Gray, 0, F32),
        ("grey.gif", (7, 10), Gray, 0, U8),
        ("said.png", (7, 10), Rgb, 0, U8),
        ("grey.jp2", (7, 10), Gray, 0, U8),
        ("tiles_rgb.jp2", (37, 41), Rgb, 0, U8),
        ("rgba.jp2", (7, 10), Rgb, 1, U8),
        ("rgb_u16.j2k", (7, 10), Rgb, 0, U16),
        ("bands_u8.jp2", (7, 10), Bands(5), 0, U8),
        ("jpeg2000_u8_rgb.tif", (37, 41), Rgb, 0, U8),
        ("jpeg2000_u16_rgb.tif", (37, 41), Rgb, 0, U16),
        ("lossless_u8_rgb.jpg", (7, 10), Rgb, 0, U8),
        ("lossless_u16.jpg", (7, 10), Gray, 0, U16),
    ] {
        let pages = pages(name);
        assert_eq!(pages.len(), if name.contains("stack") { 3 } else { 1 });
        for (at, (page, rows)) in pages.iter().enumerate() {
            assert_eq!((page.height, page.width), size, "{name}");
            assert_eq!((page.color, page.extra), (color, extra), "{name}");
            assert_eq!(page.depth, depth, "{name}");
            assert_eq!(rows.len(), page.height * page.row_len(), "{name}");
            for (i, &value) in rows.iter().enumerate() {
                let want = sample(depth, i, at);
                // Half floats keep eleven bits of these; the others everything.
                let tolerance = if name.contains("f16") { 0.005 } else { 0.0 };
                assert!(
                    (value - want).abs() <= tolerance,
                    "{name}, page {at}, sample {i}: {value}, not {want}"
                );
            }
        }
    }
}

#[test]
fn one_bit_is_black_and_white() {
    let (page, rows) = pages("group4_one_bit.tif").remove(0);
    assert_eq!((page.color, page.depth), (Color::Gray, Depth::U8));
    for (i, &value) in rows.iter().enumerate() {
        let want = f32::from(7919 * i % 256 > 127);
        assert_eq!(value, want, "sample {i}");
    }
}

#[test]
fn a_bitmap_with_a_gray_palette_is_gray() {
    let image = Image::read(&golden("grey.bmp")).unwrap();
    assert_eq!(image.channels, 1);
    for (i, &value) in image.data.iter().enumerate() {
        assert_eq!(value, sample(Depth::U8, i, 0));
    }
}

/// A bitmap with an OS/2 2 header of this many bytes: the Windows header, extended by more fields or cut short.
fn with_os2_header(name: &str, size: usize) -> Vec<u8> {
    let bytes = std::fs::read(golden(name)).unwrap();
    let (file, rest) = bytes.split_at(14);
    let (header, rest) = rest.split_at(40);
    let mut header = header.to_vec();
    header.resize(size, 0);
    header[0] = size as u8;
    let mut file = file.to_vec();
    let pixels = u32::from_le_bytes(file[10..14].try_into().unwrap()) + size as u32 - 40;
    file[10..14].copy_from_slice(&pixels.to_le_bytes());
    [file, header, rest.to_vec()].concat()
}

#[test]
fn a_bitmap_of_os2_is_as_one_of_windows() {
    for name in ["grey.bmp", "rgb.bmp"] {
        let (page, rows) = pages(name).remove(0);
        for size in [16, 24, 64] {
            let (found, found_rows) = pages_of(with_os2_header(name, size)).remove(0);
            assert_eq!((found.color, found.extra), (page.color, page.extra));
            assert_eq!(found_rows, rows, "{name}, {size} bytes");
        }
    }
}

/// A bitmap whose pixels are a file of another format; 4 stands for JPEG, 5 for PNG.
fn bitmap_of(name: &str, compression: u8) -> Vec<u8> {
    let mut bytes = std::fs::read(golden("rgb.bmp")).unwrap();
    bytes.truncate(54);
    bytes[28] = 0;
    bytes[30] = compression;
    bytes.extend(std::fs::read(golden(name)).unwrap());
    bytes
}

#[test]
fn the_jpeg_or_png_in_a_bitmap_is_read_if_a_bitmap_can_hold_it() {
    for (name, compression) in [("photo.jpg", 4), ("rgba.png", 5)] {
        let (page, rows) = pages(name).remove(0);
        let bitmap = bitmap_of(name, compression);
        let reader = Reader::from_bytes(Path::new("a"), bitmap.clone(), Limits::default());
        assert_eq!(reader.unwrap().format(), Format::Bmp);
        let (found, found_rows) = pages_of(bitmap).remove(0);
        assert_eq!((found.color, found.extra), (page.color, page.extra));
        assert_eq!(found_rows, rows, "{name}");
    }
}

#[test]
fn a_lossless_jpeg_of_12_bits_keeps_its_samples_and_becomes_a_tiff() {
    let (page, rows) = pages("lossless_u12.jpg").remove(0);
    assert_eq!((page.color, page.depth), (Color::Gray, Depth::U16));
    for (i, &value) in rows.iter().enumerate() {
        let want = (7919 * i % 65536) >> 4;
        assert_eq!((value * 65535.0).round(), want as f32, "sample {i}");
    }
    for (name, format) in [
        ("lossless_u12.jpg", Format::Tiff),
        ("photo.jpg", Format::Jpeg),
        ("progressive.jpg", Format::Jpeg),
    ] {
        let mut bytes = &std::fs::read(golden(name)).unwrap()[..];
        assert_eq!(Format::Jpeg.written_for(&mut bytes).unwrap(), format);
    }
    let copy = copied("lossless_u12.jpg", Encoding::new(Format::Tiff)).unwrap();
    assert_eq!(pages_of(copy)[0].1, rows);
}

#[test]
fn a_lossless_jpeg_with_damaged_data_is_refused() {
    let whole = std::fs::read(golden("lossless_u12.jpg")).unwrap();
    let scan = whole.windows(2).position(|pair| pair == [0xFF, 0xDA]);
    // Without the second half of its data; and with fewer bits than its samples have.
    let half = usize::midpoint(scan.unwrap(), whole.len());
    let cut = [&whole[..half], b"\xFF\xD9"].concat();
    let precision = whole.windows(2).position(|pair| pair == [0xFF, 0xC3]);
    let mut narrow = whole.clone();
    narrow[precision.unwrap() + 4] = 9;
    for bytes in [cut, narrow] {
        let read = Reader::from_bytes(Path::new("a"), bytes, Limits::default());
        assert!(read.is_err());
    }
}

#[test]
fn jpeg_2000_of_other_types_has_the_samples_that_were_written() {
    for (name, depth, bits, offset) in [
        ("grey_u12.jp2", Depth::U16, 12, 0.0),
        ("grey_i16.jp2", Depth::I16, 16, 32768.0),
    ] {
        let (page, rows) = pages(name).remove(0);
        assert_eq!((page.color, page.depth), (Color::Gray, depth), "{name}");
        for (i, &value) in rows.iter().enumerate() {
            let want = (7919 * i % (1 << bits)) as f32 - offset;
            assert_eq!((value * depth.unit()).round(), want, "{name}, sample {i}");
        }
    }
}

#[test]
fn jpeg_2000_of_channels_of_different_types_is_refused_with_their_names() {
    let mut codestream = std::fs::read(golden("rgb_u16.j2k")).unwrap();
    // The type of the second component: one bit less than its depth, and the sign.
    assert_eq!(codestream[45], 0x0F);
    codestream[45] |= 0x80;
    let read = Reader::from_bytes(Path::new("a"), codestream, Limits::default());
    let error = read.err().unwrap().to_string();
    let types =
        "its channels have different types: unsigned 16-bit, signed 16-bit, unsigned 16-bit";
    assert!(error.contains(types), "{error}");
}

#[test]
fn colors_of_a_palette_count_for_the_limits() {
    let mut jp2 = std::fs::read(golden("grey.jp2")).unwrap();
    let part = |kind: &[u8; 4], content: &[u8]| {
        let length = (8 + content.len() as u32).to_be_bytes();
        [&length, kind.as_slice(), content].concat()
    };
    // 256 colors of one column with 8 bits, which become 200 channels.
    let colors = (0..=255).rev().collect::<Vec<u8>>();
    let palette = part(b"pclr", &[&[1, 0, 1, 7], colors.as_slice()].concat());
    let mapping = part(b"cmap", &[0, 0, 1, 0].repeat(200));
    let inserted = [palette, mapping].concat();
    // The header begins at byte 32, and has 45 bytes.
    jp2[32..36].copy_from_slice(&(45 + inserted.len() as u32).to_be_bytes());
    jp2.splice(77..77, inserted);
    let read = |samples| {
        let limits = Limits {
            samples,
            ..Limits::default()
        };
        let mut reader = Reader::from_bytes(Path::new("a"), jp2.clone(), limits)?;
        let page = reader.next_page()?.unwrap();
        let mut rows = vec![];
        reader.read_rows(page.height, &mut rows)?;
        n2n::Result::Ok((page, rows))
    };
    let (page, rows) = read(70 * 200).unwrap();
    assert_eq!(page.samples(), 200);
    for (i, value) in rows.iter().enumerate() {
        let index = (255.0 * sample(Depth::U8, i / 200, 0)).round();
        assert_eq!((255.0 * value).round(), 255.0 - index, "{i}");
    }
    let error = read(70 * 200 - 1).unwrap_err().to_string();
    assert!(
        error.contains("it declares 10x7 pixels of 200 channels"),
        "{error}"
    );
}

/// The largest difference between two files of one page.
fn difference(a: &str, b: &str) -> f32 {
    let (a, b) = (pages(a).remove(0).1, pages(b).remove(0).1);
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(&b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn lossy_files_are_decoded_as_the_library_that_wrote_them_does() {
    // OpenJPEG; the standard leaves the rounding open.
    assert!(difference("photo.jp2", "photo_jp2_decoded.png") < 1.5 / 255.0);
    // OpenEXR; half floats keep eleven bits.
    assert!(difference("dwaa.exr", "dwaa_decoded.exr") <= 0.0005);
    assert!(difference("dwab.exr", "dwaa_decoded.exr") <= 0.0005);
}

#[test]
fn a_lossy_exr_is_written_without_another_loss() {
    let copied = pages_of(copied("dwaa.exr", Encoding::new(Format::OpenExr)).unwrap());
    assert_eq!(copied[0].1, pages("dwaa.exr")[0].1);
}

/// The picture of the photographs in the fixtures, 24 × 40.
fn photo(y: usize, x: usize) -> [f32; 3] {
    [6 * x, 10 * y, 255 - 3 * x - 5 * y].map(|value| value as f32 / 255.0)
}

#[test]
fn ink_and_chroma_become_red_green_and_blue() {
    for name in ["cmyk.jpg", "jpeg_u8_rgb.tif", "jpeg2000_ycbcr.tif"] {
        let image = Image::read(&golden(name)).unwrap();
        assert_eq!((image.height, image.width, image.channels), (24, 40, 3));
        let mut total = 0.0;
        for (i, pixel) in image.data.chunks(3).enumerate() {
            let want = photo(i / 40, i % 40);
            total += (0..3).map(|c| (pixel[c] - want[c]).abs()).sum::<f32>();
        }
        let mean = total / image.data.len() as f32;
        assert!(mean < 3.0 / 255.0, "{name}: a mean difference of {mean}");
    }
}

#[test]
fn pages_may_differ_and_come_one_by_one() {
    let all: Vec<Image> = images(&golden("mixed_pages.tif"))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let shapes: Vec<_> = all
        .iter()
        .map(|image| (image.height, image.width, image.channels, image.depth))
        .collect();
    assert_eq!(shapes, [(7, 10, 3, Depth::U8), (3, 4, 1, Depth::F32)]);
    assert_eq!(Image::read(&golden("mixed_pages.tif")).unwrap(), all[0]);
    // A page that nobody read is skipped.
    let mut reader = Reader::open(&golden("mixed_pages.tif"), Limits::default()).unwrap();
    reader.next_page().unwrap().unwrap();
    reader.next_page().unwrap().unwrap();
    let mut rows = vec![];
    reader.read_rows(3, &mut rows).unwrap();
    assert_eq!(rows, all[1].data);
}

#[test]
fn transparency_is_no_color() {
    let image = Image::read(&golden("rgba_u16.tif")).unwrap();
    assert_eq!(image.channels, 3);
    for (i, pixel) in image.data.chunks(3).enumerate() {
        for (c, &value) in pixel.iter().enumerate() {
            assert_eq!(value, sample(Depth::U16, 4 * i + c, 0));
        }
    }
}

#[test]
fn what_a_file_says_of_itself_is_known() {
    let (page, _) = pages("imagej_u16_stack.tif").remove(0);
    let description = page.metadata.description.unwrap();
    assert!(
        description.contains("ImageJ=") && description.contains("slices=3"),
        "{description}"
    );
    let resolution = page.metadata.resolution.unwrap();
    assert_eq!((resolution.x, resolution.y), (2.5, 2.5));
    let reader = Reader::open(&golden("lossless.webp"), Limits::default()).unwrap();
    assert_eq!(reader.format(), Format::WebP);
}

#[test]
fn an_image_is_gray_or_rgb() {
    for (name, found) in [("cmyk_u8.tif", 4), ("planes_f32_bands.tif", 5)] {
        let error = Image::read(&golden(name)).unwrap_err().to_string();
        assert!(
            error.contains(&format!("it has {found} channels")),
            "{error}"
        );
    }
}

#[test]
fn limits_hold_for_every_format() {
    for name in [
        "strip_u8_grey.tif",
        "tiles_u16_rgb.tif",
        "lossless.webp",
        "rgb.bmp",
        "rgb16.ppm",
        "rgb_f32.exr",
        "cmyk.jpg",
        "rgb16.png",
    ] {
        let limits = Limits {
            pixels: 1,
            samples: 1 << 20,
        };
        let refused = match Reader::open(&golden(name), limits) {
            Err(error) => error,
            Ok(mut reader) => reader.next_page().unwrap_err(),
        };
        let refused = refused.to_string();
        assert!(refused.contains("it declares"), "{refused}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused_and_damage_never_panics() {
    for name in [
        "strips_u16_rgb_big.tif",
        "tiles_u16_rgb.tif",
        "planes_u8_rgb.tif",
        "bigtiff_f32_rgb.tif",
        "lzw_u8_rgb.tif",
        "packbits_u8_grey.tif",
        "jpeg_u8_rgb.tif",
        "imagej_u16_stack.tif",
        "alpha.webp",
        "lossless.webp",
        "rgb.bmp",
        "rgb16.ppm",
        "rgba_f32.exr",
        "rgb_f16.exr",
        "cmyk.jpg",
        "group4_one_bit.tif",
        "rgb.tga",
        "rgba.tga",
        "rgb.dib",
        "rgb.pfm",
        "grey.gif",
        "two.gif",
        "grey.jp2",
        "rgb_u16.j2k",
        "jpeg2000_ycbcr.tif",
        "dwaa.exr",
    ] {
        let whole = std::fs::read(golden(name)).unwrap();
        let try_all = |bytes: Vec<u8>| {
            let limits = Limits {
                pixels: 1 << 16,
                samples: 1 << 18,
            };
            let mut reader = Reader::from_bytes(Path::new(name), bytes, limits)?;
            let mut rows = vec![];
            while let Some(page) = reader.next_page()? {
                reader.read_rows(page.height, &mut rows)?;
            }
            n2n::Result::Ok(rows)
        };
        let want = try_all(whole.clone()).unwrap();
        for length in (0..whole.len()).step_by(5) {
            // What is cut may be padding, an index that nobody needs, or the second of two frames; but no sample is
            // made up.
            if let Ok(rows) = try_all(whole[..length].to_vec()) {
                assert!(
                    rows == want || name == "two.gif" && rows == want[..want.len() / 2],
                    "{name}, cut to {length} of {} bytes",
                    whole.len()
                );
            }
        }
        for at in 0..whole.len() {
            for value in [0xFF, whole[at] ^ 1] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let _ = try_all(damaged);
            }
        }
    }
}

/// Copies a file through the library.
fn copied(name: &str, encoding: Encoding) -> n2n::Result<Vec<u8>> {
    copied_bytes(std::fs::read(golden(name)).unwrap(), encoding)
}

fn copied_bytes(bytes: Vec<u8>, encoding: Encoding) -> n2n::Result<Vec<u8>> {
    let mut reader = Reader::from_bytes(Path::new("a"), bytes, Limits::default())?;
    let mut out = Cursor::new(vec![]);
    write_pages(&mut reader, encoding, Path::new("copy"), &mut out)?;
    Ok(out.into_inner())
}

fn pages_of(bytes: Vec<u8>) -> Vec<(Page, Vec<f32>)> {
    let mut reader = Reader::from_bytes(Path::new("copy"), bytes, Limits::default()).unwrap();
    let mut pages = vec![];
    while let Some(page) = reader.next_page().unwrap() {
        let mut rows = vec![];
        reader.read_rows(page.height, &mut rows).unwrap();
        pages.push((page, rows));
    }
    pages
}

#[test]
fn a_copy_in_the_same_format_or_the_one_written_for_it_has_every_sample_and_all_that_was_said() {
    for (name, format) in [
        ("strips_u16_rgb_big.tif", Format::Tiff),
        ("strip_u8_grey.tif", Format::Tiff),
        ("tiles_u16_rgb.tif", Format::Tiff),
        ("tiles_f32_grey_big.tif", Format::Tiff),
        ("planes_u8_rgb.tif", Format::Tiff),
        ("planes_f32_bands.tif", Format::Tiff),
        ("bigtiff_f32_rgb.tif", Format::Tiff),
        ("rgba_u16.tif", Format::Tiff),
        ("cmyk_u8.tif", Format::Tiff),
        ("white_is_zero_u8.tif", Format::Tiff),
        ("lzw_u8_rgb.tif", Format::Tiff),
        ("jpeg_u8_rgb.tif", Format::Tiff),
        ("group4_one_bit.tif", Format::Tiff),
        ("imagej_u16_stack.tif", Format::Tiff),
        ("mixed_pages.tif", Format::Tiff),
        ("lossless.webp", Format::WebP),
        ("alpha.webp", Format::WebP),
        ("rgb.bmp", Format::Bmp),
        ("grey.bmp", Format::Bmp),
        ("rgb16.ppm", Format::Pnm),
        ("grey16.pgm", Format::Pnm),
        ("rgb_f32.exr", Format::OpenExr),
        ("rgba_f32.exr", Format::OpenExr),
        ("rgb_f16.exr", Format::OpenExr),
        ("grey_f32.exr", Format::OpenExr),
        ("left_b44.exr", Format::OpenExr),
        ("id.exr", Format::OpenExr),
        ("rgb.tga", Format::Tga),
        ("rgba.tga", Format::Tga),
        ("grey.tga", Format::Tga),
        ("rgb.pfm", Format::Pfm),
        ("grey.pfm", Format::Pfm),
        ("resolution.bmp", Format::Bmp),
        ("two.gif", Format::Tiff),
        ("flat.hdr", Format::Tiff),
        ("palette.png", Format::Png),
        ("rgba.png", Format::Png),
        ("grey16.png", Format::Png),
        ("rgb16.png", Format::Png),
    ] {
        let copy = copied(name, Encoding::new(format)).unwrap();
        assert_eq!(Format::of_content(&copy), Some(format), "{name}");
        let (before, after) = (pages(name), pages_of(copy));
        assert_eq!(before.len(), after.len(), "{name}");
        for ((page, rows), (copy, copied)) in before.iter().zip(&after) {
            assert_eq!(
                (page.height, page.width),
                (copy.height, copy.width),
                "{name}"
            );
            assert_eq!((page.color, page.extra), (copy.color, copy.extra), "{name}");
            assert_eq!(page.depth, copy.depth, "{name}");
            assert_eq!(page.metadata.resolution, copy.metadata.resolution, "{name}");
            assert_eq!(
                page.metadata.description, copy.metadata.description,
                "{name}"
            );
            assert!(rows == copied, "{name}: samples differ");
        }
    }
}

/// Changes of format in which the other format can hold everything.
#[test]
fn a_copy_in_another_format_has_every_sample_that_it_can_hold() {
    for (name, format) in [
        ("rgb16.png", Format::Tiff),
        ("rgba.png", Format::Tiff),
        ("strips_u16_rgb_big.tif", Format::Png),
        ("strips_u16_rgb_big.tif", Format::Pnm),
        ("rgba_u16.tif", Format::Png),
        ("alpha.webp", Format::Png),
        ("alpha.webp", Format::Bmp),
        ("rgb.bmp", Format::WebP),
        ("rgb_f32.exr", Format::Tiff),
        ("rgba_f32.exr", Format::Tiff),
        ("planes_f32_bands.tif", Format::OpenExr),
        ("bigtiff_f32_rgb.tif", Format::OpenExr),
        ("tiles_f32_grey_big.tif", Format::OpenExr),
    ] {
        let after = pages_of(copied(name, Encoding::new(format)).unwrap());
        let (page, rows) = &pages(name)[0];
        assert_eq!(
            (page.color, page.extra),
            (after[0].0.color, after[0].0.extra),
            "{name}"
        );
        assert!(*rows == after[0].1, "{name} as {format:?}: samples differ");
    }
}

#[test]
fn what_a_format_cannot_hold_is_refused() {
    for (name, format, what) in [
        (
            "imagej_u16_stack.tif",
            Format::Png,
            "there are several pages, but PNG stores only one; use TIFF",
        ),
        (
            "cmyk_u8.tif",
            Format::Jpeg,
            "JPEG cannot store 4 channels; use TIFF",
        ),
        (
            "rgba.png",
            Format::Jpeg,
            "JPEG cannot store transparency; use TIFF",
        ),
        (
            "planes_f32_bands.tif",
            Format::Png,
            "PNG cannot store 5 channels; use TIFF",
        ),
        (
            "planes_f32_bands.tif",
            Format::Pfm,
            "PFM cannot store 5 channels; use TIFF",
        ),
        (
            "grey.gif",
            Format::Gif,
            "GIF can be read but not written; use PNG",
        ),
        (
            "grey.jp2",
            Format::Jpeg2000,
            "JPEG 2000 can be read but not written; use TIFF",
        ),
    ] {
        let error = copied(name, Encoding::new(format)).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn other_depths_are_rounded() {
    let encoding = |format, depth| Encoding {
        depth: Some(depth),
        ..Encoding::new(format)
    };
    let page = &pages_of(copied("rgb16.png", encoding(Format::Png, Depth::U8)).unwrap())[0];
    assert_eq!(page.0.depth, Depth::U8);
    for (i, word) in [1, 2, 3, 257, 258, 65535].into_iter().enumerate() {
        let want = (f64::from(word) / 257.0).round() / 255.0;
        assert!((f64::from(page.1[i]) - want).abs() < 1e-6);
    }
    let page = &pages_of(copied("rgb16.png", encoding(Format::Tiff, Depth::F32)).unwrap())[0];
    assert_eq!((page.0.depth, page.1[0]), (Depth::F32, 1.0 / 65535.0));
}

#[test]
fn orientation_profile_and_resolution_survive_where_they_can() {
    for name in ["marked.png", "marked.jpg", "marked.tif", "marked.webp"] {
        let (before, _) = pages(name).remove(0);
        assert_eq!(before.orientation, Orientation::Rotate90, "{name}");
        let icc = before.metadata.icc.clone().unwrap();
        for format in [Format::Png, Format::Jpeg, Format::Tiff, Format::WebP] {
            let (after, _) = pages_of(copied(name, Encoding::new(format)).unwrap()).remove(0);
            assert_eq!(
                after.orientation, before.orientation,
                "{name} as {format:?}"
            );
            assert_eq!(
                after.metadata.icc.as_ref(),
                Some(&icc),
                "{name} as {format:?}"
            );
            if format != Format::WebP && !name.ends_with("webp") {
                let dpi = after.metadata.resolution.unwrap();
                let dpi = if dpi.unit == ResolutionUnit::Centimeter {
                    2.54 * dpi.x
                } else {
                    dpi.x
                };
                assert!((dpi - 300.0).abs() < 0.5, "{name} as {format:?}: {dpi} dpi");
            }
        }
        // Formats that cannot say it get the picture upright.
        let upright = Image::read(&golden(name)).unwrap();
        for format in [Format::Bmp, Format::OpenExr] {
            let (after, rows) = pages_of(copied(name, Encoding::new(format)).unwrap()).remove(0);
            assert_eq!((after.height, after.width), (upright.height, upright.width));
            assert!(rows == upright.data, "{name} as {format:?}");
        }
    }
}

#[test]
fn frames_of_a_gif_are_pages_as_they_are_seen() {
    let found = pages("two.gif");
    assert_eq!(found.len(), 2);
    for (at, (page, rows)) in found.iter().enumerate() {
        assert_eq!((page.color, page.extra), (Color::Gray, 0));
        for (i, &value) in rows.iter().enumerate() {
            let want = match (at, i) {
                (1, 34) => 1.0 / 255.0,
                (1, 35) => 2.0 / 255.0,
                _ => sample(Depth::U8, i, 0),
            };
            assert_eq!(value, want, "frame {at}, sample {i}");
        }
    }
}

/// The second frame changes two samples, and is stored as the part that differs.
#[test]
fn frames_of_a_png_are_pages_as_they_are_seen() {
    for name in ["animation.png", "hidden.png"] {
        let found = pages(name);
        let extra = usize::from(name == "hidden.png");
        assert_eq!(found.len(), 2 + extra, "{name}");
        for (at, (page, rows)) in found.iter().enumerate() {
            let shape = (page.height, page.width, page.color, page.extra);
            assert_eq!(shape, (7, 10, Color::Rgb, extra), "{name}");
            for (pixel, samples) in rows.chunks(page.samples()).enumerate() {
                let is_hidden = (at, pixel) == (2, 25);
                assert_eq!(
                    samples.get(3),
                    [1.0, 0.0].get(usize::from(is_hidden)).filter(|_| extra > 0)
                );
                for (channel, &found) in samples[..3].iter().enumerate() {
                    let want = match (at, 3 * pixel + channel) {
                        (1 | 2, 34) => 1.0 / 255.0,
                        (1 | 2, 35) => 2.0 / 255.0,
                        (_, i) => sample(Depth::U8, i, 0),
                    };
                    assert_eq!(found, want, "{name}, frame {at}, pixel {pixel}");
                }
            }
        }
        let copy = pages_of(copied(name, Encoding::new(Format::Tiff)).unwrap());
        assert_eq!(copy.len(), found.len());
        for ((_, copy), (_, rows)) in copy.iter().zip(&found) {
            assert_eq!(copy, rows);
        }
    }
    for (name, format) in [("hidden.png", Format::Tiff), ("rgb16.png", Format::Png)] {
        let mut bytes = &std::fs::read(golden(name)).unwrap()[..];
        assert_eq!(Format::Png.written_for(&mut bytes).unwrap(), format);
    }
}

#[test]
fn frames_of_a_png_of_16_bits_are_pages() {
    let found = pages("animation16.png");
    assert_eq!(found.len(), 2);
    for ((page, rows), level) in found.iter().zip([0.0, 1.0]) {
        assert_eq!((page.color, page.depth), (Color::Gray, Depth::U16));
        assert_eq!(*rows, [level; 16]);
    }

    // The second frame of this one replaces three rows of five pixels, and both are interlaced.
    let found = pages("interlaced16.png");
    assert_eq!(found.len(), 2);
    for (at, (page, rows)) in found.iter().enumerate() {
        assert_eq!((page.color, page.depth), (Color::Rgb, Depth::U16));
        for (i, &value) in rows.iter().enumerate() {
            let (y, x, channel) = (i / 30, i / 3 % 10, i % 3);
            let is_part = at == 1 && (2..5).contains(&y) && (4..9).contains(&x);
            let want = if is_part {
                sample(Depth::U16, ((y - 2) * 5 + x - 4) * 3 + channel, 1)
            } else {
                sample(Depth::U16, i, 0)
            };
            assert_eq!(value, want, "frame {at}, sample {i}");
        }
    }
}

#[test]
fn frames_of_a_webp_are_pages_as_libwebp_shows_them() {
    let found = pages("animation.webp");
    let (_, shown) = pages("animation_webp_decoded.png").remove(0);
    assert_eq!(found.len(), 6);
    for (at, ((page, rows), shown)) in found.iter().zip(shown.chunks(480)).enumerate() {
        let shape = (page.height, page.width, page.color, page.extra);
        assert_eq!(shape, (10, 12, Color::Rgb, 1));
        for (i, (found, want)) in rows.chunks(4).zip(shown.chunks(4)).enumerate() {
            // libwebp rounds blended samples down, and the color of a transparent pixel is arbitrary.
            let compared = if want[3] == 0.0 { 3..4 } else { 0..4 };
            for channel in compared {
                let difference = (found[channel] - want[channel]).abs() * 255.0;
                assert!(
                    difference < 2.5,
                    "frame {at}, pixel {i}: {found:?}, not {want:?}"
                );
            }
        }
    }
    let notes = &found[0].0.metadata.notes;
    assert_eq!(*notes, ["dropped: the timing of its frames"]);
    for (name, format) in [
        ("animation.webp", Format::Tiff),
        ("alpha.webp", Format::WebP),
        ("lossless.webp", Format::WebP),
    ] {
        let mut bytes = &std::fs::read(golden(name)).unwrap()[..];
        assert_eq!(Format::WebP.written_for(&mut bytes).unwrap(), format);
    }
}

#[test]
fn a_cut_or_damaged_animation_in_webp_is_refused() {
    let whole = std::fs::read(golden("animation.webp")).unwrap();
    let last = |kind: &[u8]| whole.windows(4).rposition(|found| found == kind).unwrap();
    let changed = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    let frame = last(b"ANMF") + 8;
    for (what, bytes) in [
        ("end", whole[..whole.len() - 20].to_vec()),
        ("place", changed(frame, 100)),
        ("size", changed(frame + 6, 8)),
        ("kind", changed(last(b"VP8 "), b'X')),
    ] {
        let read = Reader::from_bytes(Path::new("a"), bytes, Limits::default());
        assert!(read.is_err(), "{what}");
    }
}

#[test]
fn the_still_image_beside_an_animation_is_dropped_with_a_note() {
    let found = pages("beside.png");
    assert_eq!(found.len(), 2);
    for (at, (page, rows)) in found.iter().enumerate() {
        assert_eq!((page.color, page.extra), (Color::Gray, 0));
        let want: Vec<f32> = (0..70).map(|i| sample(Depth::U8, i, at)).collect();
        assert_eq!(*rows, want);
    }
    assert_eq!(
        found[0].0.metadata.notes,
        [
            "dropped: its still image, which is not part of the animation",
            "dropped: the timing of its frames"
        ]
    );
    assert!(found[1].0.metadata.notes.is_empty());
}

#[test]
fn an_animation_with_an_invalid_number_of_frames_is_a_still_image() {
    let mut png = std::fs::read(golden("beside.png")).unwrap();
    let at = png.windows(4).position(|kind| kind == b"acTL").unwrap();
    png[at + 4] = 0x80;
    let mut sum = flate2::Crc::new();
    sum.update(&png[at..at + 12]);
    png[at + 12..at + 16].copy_from_slice(&sum.sum().to_be_bytes());
    let found = pages_of(png);
    assert_eq!(found.len(), 1);
    assert!(found[0].1.iter().all(|&sample| sample == 77.0 / 255.0));
}

#[test]
fn an_animation_keeps_its_profile_and_resolution() {
    let mut png = std::fs::read(golden("animation.png")).unwrap();
    let marked = std::fs::read(golden("marked.png")).unwrap();
    // The chunks between header and pixels of `marked.png` are inserted after the header of `animation.png`.
    let pixels = marked.windows(4).position(|kind| kind == b"IDAT").unwrap() - 4;
    png.splice(33..33, marked[33..pixels].iter().copied());
    for (page, _) in pages_of(copied_bytes(png, Encoding::new(Format::Tiff)).unwrap()) {
        assert!(page.metadata.icc.is_some());
        let resolution = page.metadata.resolution.unwrap();
        assert!((2.54 * resolution.x - 300.0).abs() < 0.1);
    }
}

#[test]
fn a_tga_is_written_without_runs() {
    // Those of the encoder go over the ends of rows, which Pillow refuses. Type 2 is plain RGB.
    assert_eq!(copied("rgb.tga", Encoding::new(Format::Tga)).unwrap()[2], 2);
}

#[test]
fn radiance_is_read_as_floats() {
    let (page, rows) = pages("flat.hdr").remove(0);
    assert_eq!((page.color, page.depth), (Color::Rgb, Depth::F32));
    assert!(rows.chunks(3).all(|pixel| pixel == [0.25, 0.5, 2.0]));
}

#[test]
fn integers_of_an_exr_are_no_color() {
    let (page, rows) = pages("id.exr").remove(0);
    assert_eq!((page.color, page.extra), (Color::Gray, 1));
    for (i, pixel) in rows.chunks(2).enumerate() {
        assert_eq!(pixel, [sample(Depth::F32, i, 0), i as f32]);
    }
}

#[test]
fn a_jpeg_without_one_of_its_restart_intervals_is_refused() {
    let error = Image::read(&golden("gap.jpg")).unwrap_err().to_string();
    assert!(error.contains("part of it is missing"), "{error}");
}

#[test]
fn a_jpeg_with_a_damaged_scan_is_refused() {
    let whole = std::fs::read(golden("photo.jpg")).unwrap();
    let refused = |bytes: Vec<u8>| {
        let mut reader = match Reader::from_bytes(Path::new("a.jpg"), bytes, Limits::default()) {
            Ok(reader) => reader,
            Err(error) => return error.to_string(),
        };
        let page = reader.next_page().unwrap().unwrap();
        reader
            .read_rows(page.height, &mut vec![])
            .unwrap_err()
            .to_string()
    };
    let scan = whole
        .windows(2)
        .position(|pair| pair == [0xFF, 0xDA])
        .unwrap()
        + 14;
    // No code consists of ones alone.
    let ones = [0xFF, 0x00].repeat(100);
    let error = refused([&whole[..scan + 20], &ones, &[0xFF, 0xD9]].concat());
    assert!(
        error.contains("its compressed JPEG data is damaged"),
        "{error}"
    );
    let inserted = [&whole[..scan + 20], &[0xFF, 0xD8], &whole[scan + 20..]].concat();
    let error = refused(inserted);
    assert!(error.contains("another image starts within it"), "{error}");
}

#[test]
fn a_tga_that_declares_no_transparency_has_none() {
    let mut tga = std::fs::read(golden("rgba.tga")).unwrap();
    let area = tga.len() as u32;
    // The kind of its fourth channel is the last byte of the extension area.
    tga.extend([0; 495]);
    tga.extend(area.to_le_bytes());
    tga.extend(b"\0\0\0\0TRUEVISION-XFILE.\0");
    let (page, rows) = pages_of(tga).remove(0);
    assert_eq!((page.color, page.extra), (Color::Rgb, 0));
    let (_, before) = pages("rgba.tga").remove(0);
    let colors: Vec<f32> = before
        .chunks(4)
        .flat_map(|pixel| pixel[..3].to_vec())
        .collect();
    assert_eq!(rows, colors);
}

#[test]
fn a_profile_for_ink_in_a_png_is_dropped_with_a_note() {
    let mut profile = vec![0; 128];
    profile[16..20].copy_from_slice(b"CMYK");
    let mut chunk = b"iCCPink\0\0".to_vec();
    let mut packed = flate2::write::ZlibEncoder::new(&mut chunk, flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &profile).unwrap();
    packed.finish().unwrap();
    let mut sum = flate2::Crc::new();
    sum.update(&chunk);
    let length = chunk.len() as u32 - 4;
    let mut png = std::fs::read(golden("rgb16.png")).unwrap();
    let chunk = [
        &length.to_be_bytes(),
        chunk.as_slice(),
        &sum.sum().to_be_bytes(),
    ]
    .concat();
    // Behind the header.
    png.splice(33..33, chunk);
    let notes = pages_of(png)[0].0.metadata.notes_for(Format::Png);
    assert!(
        notes.iter().any(|note| note.contains("color profile")),
        "{notes:?}"
    );
}

#[test]
fn a_profile_for_ink_is_dropped_with_a_note() {
    let mut profile = vec![0; 128];
    profile[16..20].copy_from_slice(b"CMYK");
    let content = [b"ICC_PROFILE\0\x01\x01", profile.as_slice()].concat();
    let mut jpeg = std::fs::read(golden("cmyk.jpg")).unwrap();
    let segment = [
        &[0xFF, 0xE2, 0, content.len() as u8 + 2],
        content.as_slice(),
    ]
    .concat();
    jpeg.splice(2..2, segment);
    let mut reader = Reader::from_bytes(Path::new("cmyk.jpg"), jpeg, Limits::default()).unwrap();
    let notes = reader
        .next_page()
        .unwrap()
        .unwrap()
        .metadata
        .notes_for(Format::Jpeg);
    assert!(
        notes.iter().any(|note| note.contains("color profile")),
        "{notes:?}"
    );
}

#[test]
fn comments_become_descriptions() {
    let mut gif = std::fs::read(golden("grey.gif")).unwrap();
    let end = gif.len() - 1;
    // The second, which is not UTF-8, is in two parts.
    gif.splice(end..end, *b"\x21\xFE\x03one\0\x21\xFE\x01t\x02w\xF6\0");
    let mut ppm = std::fs::read(golden("rgb16.ppm")).unwrap();
    assert!(ppm.starts_with(b"P6\n10 7\n65535\n"));
    ppm.splice(3..6, *b"# one\n10 # two\n");
    let rgba = copied("rgba.tga", Encoding::new(Format::Pnm)).unwrap();
    let mut pam = rgba.clone();
    pam.splice(3..3, *b"# one\n#two\n");
    let jp2 = std::fs::read(golden("photo.jp2")).unwrap();
    for (bytes, words, format) in [
        (&gif, "one\ntw\u{F6}", Format::Tiff),
        (&gif, "one\ntw\u{F6}", Format::Pnm),
        (&ppm, "one\ntwo", Format::Pnm),
        (&ppm, "one\ntwo", Format::Tiff),
        (&pam, "one\ntwo", Format::Pnm),
        (&jp2, "Created by OpenJPEG version 2.5.4", Format::Tiff),
    ] {
        let before = pages_of(bytes.clone());
        let after = pages_of(copied_bytes(bytes.clone(), Encoding::new(format)).unwrap());
        for (page, rows) in [&before[0], &after[0]] {
            assert_eq!(
                page.metadata.description.as_deref(),
                Some(words),
                "{format:?}"
            );
            assert!(page.metadata.notes_for(format).is_empty());
            assert_eq!(*rows, before[0].1);
        }
    }
    assert_eq!(pages_of(ppm)[0].1, pages("rgb16.ppm")[0].1);
    assert_eq!(pages_of(rgba)[0].1, pages("rgba.tga")[0].1);
}

#[test]
fn binary_comments_are_dropped_with_a_note_unless_they_are_words() {
    let whole = std::fs::read(golden("photo.jp2")).unwrap();
    let words = b"\0\x01Created by OpenJPEG";
    let at = whole.windows(words.len()).position(|found| found == words);
    // Behind the marker and the length, 0 marks bytes and 1 words.
    let kind = at.unwrap() + 1;
    let changed = |first: u8| {
        let mut jp2 = whole.clone();
        (jp2[kind], jp2[kind + 1]) = (0, first);
        pages_of(jp2).remove(0).0.metadata
    };
    let metadata = changed(b'C');
    let found = metadata.description.as_deref();
    assert_eq!(found, Some("Created by OpenJPEG version 2.5.4"));
    assert!(metadata.notes.is_empty());
    let metadata = changed(2);
    assert_eq!(metadata.description, None);
    assert_eq!(metadata.notes, ["dropped: a binary comment"]);
}

#[test]
fn a_damaged_profile_of_a_png_is_dropped_with_a_note() {
    let mut png = std::fs::read(golden("marked.png")).unwrap();
    let at = png.windows(4).position(|kind| kind == b"iCCP").unwrap();
    let length = u32::from_be_bytes(png[at - 4..at].try_into().unwrap()) as usize;
    // Behind the name and the method, the compressed bytes begin.
    let name = png[at..].iter().position(|&byte| byte == 0).unwrap();
    png[at + name + 2..at + 4 + length].fill(0xFF);
    let mut sum = flate2::Crc::new();
    sum.update(&png[at..at + 4 + length]);
    png[at + 4 + length..at + 8 + length].copy_from_slice(&sum.sum().to_be_bytes());
    let (page, rows) = pages_of(png).remove(0);
    assert!(page.metadata.icc.is_none());
    assert_eq!(
        page.metadata.notes,
        ["dropped: the color profile, which cannot be decompressed"]
    );
    assert_eq!(rows, pages("marked.png")[0].1);
}

#[test]
fn the_compression_level_of_an_exr_is_dropped_with_a_note() {
    let notes = |name: &str| pages(name).remove(0).0.metadata.notes;
    assert_eq!(
        notes("dwab.exr"),
        ["dropped: the compression level 45 of DWA; the result is compressed with ZIP"]
    );
    assert!(notes("dwaa.exr").is_empty());
    assert_eq!(
        notes("level.exr"),
        ["dropped: the compression level 85 of DWA, which the image does not use"]
    );
}

#[test]
fn xmp_of_a_webp_is_dropped_with_a_note() {
    let mut webp = std::fs::read(golden("lossless.webp")).unwrap();
    webp.extend(b"XMP \x02\0\0\0ab");
    let length = webp.len() as u32 - 8;
    webp[4..8].copy_from_slice(&length.to_le_bytes());
    assert_eq!(pages_of(webp)[0].0.metadata.notes, ["dropped: XMP"]);
    assert!(pages("lossless.webp")[0].0.metadata.notes.is_empty());
}

#[test]
fn what_png_and_bmp_say_beside_the_pixels_is_copied() {
    let copy = copied("said.png", Encoding::new(Format::Png)).unwrap();
    let has = |words: &[u8]| copy.windows(words.len()).any(|found| found == words);
    assert!(has(b"sBIT\x05\x06\x05") && has(b"sCAL\x010.5\x000.25"));
    let resolution = |page: &Page| page.metadata.resolution.unwrap();
    let (page, _) = pages("resolution.bmp").remove(0);
    assert!((2.54 * resolution(&page).x - 300.0).abs() < 0.1);
    let png = pages_of(copied("resolution.bmp", Encoding::new(Format::Png)).unwrap());
    assert_eq!(resolution(&png[0].0), resolution(&page));
}

#[test]
fn what_another_format_cannot_say_is_told() {
    let notes = |name: &str, format| pages(name).remove(0).0.metadata.notes_for(format).join(" ");
    assert_eq!(notes("marked.jpg", Format::Png), "");
    let told = notes("marked.jpg", Format::Bmp);
    assert!(
        told.contains("dropped: the color profile and Exif"),
        "{told}"
    );
    assert_eq!(notes("marked.tif", Format::Tiff), "");
    for format in [
        Format::Tiff,
        Format::Pfm,
        Format::Pnm,
        Format::Tga,
        Format::Mrc,
    ] {
        let told = notes("left_b44.exr", format);
        assert!(
            told.contains("metadata specific to the source format"),
            "{format:?}: {told}"
        );
    }
    assert_eq!(notes("left_b44.exr", Format::OpenExr), "");
    for (name, format, is_lost) in [
        ("resolution.bmp", Format::WebP, true),
        ("resolution.bmp", Format::Pnm, true),
        ("resolution.bmp", Format::Png, false),
    ] {
        let told = notes(name, format);
        assert_eq!(
            told.contains("the resolution"),
            is_lost,
            "{format:?}: {told}"
        );
    }
    // A WebP has the resolution that its Exif block states.
    let (mut page, _) = pages("resolution.bmp").remove(0);
    let ratio = b"MM\0*\0\0\0\x08\0\x02\
        \x01\x1A\0\x05\0\0\0\x01\0\0\0\x26\x01\x1B\0\x05\0\0\0\x01\0\0\0\x26\
        \0\0\0\0\0\0\x01\x2C\0\0\0\x01";
    page.metadata.exif = Some(ratio.to_vec());
    assert!(page.metadata.notes_for(Format::WebP).is_empty());
    page.metadata.exif = Some(ratio[..8].to_vec());
    assert_eq!(page.metadata.notes_for(Format::WebP).len(), 1);
}
