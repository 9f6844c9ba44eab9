//! JPEG: gray or RGB, lossy at 8 bits; lossless files of up to 16 bits can be read as well.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use ::image::codecs::jpeg::{JpegEncoder, PixelDensity, PixelDensityUnit};
use ::image::error::{DecodingError, ImageFormatHint};
use ::image::{
    ColorType, GenericImageView, ImageDecoder, ImageError, ImageFormat, ImageResult, Luma, Pixel,
    Rgb,
};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::errors::DecodeErrors;

use super::decode::{Decode, Decoded, Fault, Limits, Source, Whole, check_samples};
use super::encode::{Encoded, Refused, native_bytes, restore_missing};
use super::huffman::damaged;
use super::metadata::{Metadata, Native, Resolution, ResolutionUnit};
use super::page::{Color, Page, Pages};
use super::simple::OnePage;
use super::{Depth, Format, baseline, ljpeg, png, simple};
use crate::error::Error;

/// Metadata that is copied from file to file: markers, with the content of their segments.
type Segments = Vec<(u8, Vec<u8>)>;

/// Exif and XMP, the color profile, data of programs in the other APP segments, IPTC, a comment. APP0 and APP14, which
/// describe the coding, are excluded.
const COPIED: [u8; 15] = [
    0xE1, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xEB, 0xEC, 0xED, 0xEF, 0xFE,
];

impl Native for Segments {
    fn format(&self) -> Format {
        Format::Jpeg
    }

    /// XMP, IPTC, comments.
    fn has_private(&self) -> bool {
        self.iter().any(|(_, content)| {
            !content.starts_with(b"Exif\0") && !content.starts_with(b"ICC_PROFILE\0")
        })
    }
}

/// Starts to read a JPEG.
pub(super) fn decoder(source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    let mut bytes = Vec::new();
    source.take(4 * limits.samples).read_to_end(&mut bytes)?;
    let Some(segments) = segments(&bytes) else {
        return Err(Fault::new("the file ends before the image does"));
    };
    check_markers(&bytes)?;
    check_coding(&segments)?;
    check_scans(&segments)?;
    let resolution = segments.iter().find_map(resolution);
    let icc = icc(&segments);
    let copied = segments
        .iter()
        .filter(|(marker, content)| {
            // Multi-picture files say where in the file the other pictures lie.
            COPIED.contains(marker) && !content.starts_with(b"MPF\0")
        })
        .map(|(marker, content)| (*marker, content.to_vec()))
        .collect::<Segments>();
    let mut metadata = Metadata {
        icc,
        resolution,
        native: Some(Arc::new(copied)),
        ..Metadata::default()
    };
    if ljpeg::is_lossless(&bytes) {
        metadata.exif = exif(&segments).map(<[u8]>::to_vec);
        return Ok(Box::new(lossless(&bytes, &segments, metadata, limits)?));
    }
    let decoder = Decoder::new(&bytes)?;
    let ((width, height), channels) = (decoder.size, decoder.color.channel_count());
    check_samples(limits, height as usize, width as usize, channels.into())?;
    baseline::check(&bytes)?;
    metadata.exif = decoder.inner.exif().cloned();
    simple::decode(decoder, metadata, limits)
}

/// Whether a JPEG is lossless.
pub(super) fn is_lossless(source: &mut impl Read) -> io::Result<bool> {
    let mut marker = [0; 2];
    let mut read = |bytes: &mut [u8]| match source.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    };
    // The start of the image, then segments up to the frame.
    let mut is_marker = read(&mut marker)? && read(&mut marker)?;
    while is_marker && marker[0] == 0xFF {
        if marker[1] == 0xFF {
            // A fill byte.
            is_marker = read(&mut marker[1..])?;
            continue;
        }
        if ljpeg::is_frame(marker[1]) {
            return Ok(marker[1] == ljpeg::marker::SOF3);
        }
        let mut length = [0; 2];
        if !read(&mut length)? {
            break;
        }
        let length = usize::from(u16::from_be_bytes(length)).saturating_sub(2);
        is_marker = read(&mut vec![0; length])? && read(&mut marker)?;
    }
    Ok(false)
}

/// Decodes a lossless JPEG: gray or RGB, up to 16 bits.
fn lossless(
    bytes: &[u8],
    segments: &[(u8, &[u8])],
    metadata: Metadata,
    limits: Limits,
) -> Decoded<OnePage> {
    let frame = segments
        .iter()
        .find(|(marker, _)| *marker == ljpeg::marker::SOF3);
    let Some(&(_, &[precision @ 2..=16, h0, h1, w0, w1, channels, ..])) = frame else {
        return Err(damaged());
    };
    let [height, width] = [[h0, h1], [w0, w1]].map(|side| u16::from_be_bytes(side).into());
    let channels = usize::from(channels);
    check_samples(limits, height, width, channels)?;
    // Three components are red, green and blue unless one of these headers says otherwise.
    let is_ycbcr = segments.iter().any(|segment| match segment {
        (0xE0, content) => content.starts_with(b"JFIF\0"),
        (0xEE, content) => content.starts_with(b"Adobe") && content.get(11) == Some(&1),
        _ => false,
    });
    let color = match (channels, is_ycbcr) {
        (1, _) => Color::Gray,
        (3, false) => Color::Rgb,
        (3, true) => return Err(unsupported("lossless coding of YCbCr")),
        _ => {
            return Err(unsupported(&format!(
                "lossless coding of {channels} components"
            )));
        }
    };
    let words = ljpeg::decode(bytes, height * width * channels)?.samples;
    let most = u16::MAX >> (16 - precision);
    if words.len() != height * width * channels || words.iter().any(|&word| word > most) {
        return Err(damaged());
    }
    let depth = if precision <= 8 {
        Depth::U8
    } else {
        Depth::U16
    };
    let mut page = Page {
        height,
        width,
        color,
        extra: 0,
        depth,
        orientation: png::orientation(metadata.exif.as_deref()),
        metadata,
    };
    page.metadata.note_other_profile(color);
    let row = page.row_len();
    let whole = if depth == Depth::U8 {
        let most = u32::from(most);
        let bytes = words.iter().map(|&word| {
            // Scaled to 8 bits and rounded to nearest.
            ((255 * u32::from(word) + most / 2) / most) as u8
        });
        Whole::from_bytes(depth, row, bytes.collect())
    } else {
        Whole::from_words(row, words)
    };
    Ok(OnePage {
        page: Some(page),
        whole,
    })
}

/// The Exif block.
fn exif<'a>(segments: &[(u8, &'a [u8])]) -> Option<&'a [u8]> {
    segments
        .iter()
        .filter(|(marker, _)| *marker == 0xE1)
        .find_map(|(_, content)| content.strip_prefix(b"Exif\0\0"))
}

/// The decoder, set to reject damaged data. That of the `image` crate paints everything after the damage gray and
/// reports success.
struct Decoder<'a> {
    inner: zune_jpeg::JpegDecoder<ZCursor<&'a [u8]>>,
    size: (u32, u32),
    color: ColorType,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8]) -> Decoded<Self> {
        let refused = |error: DecodeErrors| {
            Fault::new(format!(
                "it is damaged or uses a feature that is not supported ({error})"
            ))
        };
        let options = decoder_options();
        let mut inner = zune_jpeg::JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        inner.decode_headers().map_err(refused)?;
        let size = inner.dimensions();
        let (width, height) = size.ok_or_else(|| Fault::new("it has no size"))?;
        let (space, color) = match inner.input_colorspace() {
            Some(ColorSpace::Luma) => (ColorSpace::Luma, ColorType::L8),
            Some(ColorSpace::LumaA) => (ColorSpace::LumaA, ColorType::La8),
            _ => (ColorSpace::RGB, ColorType::Rgb8),
        };
        inner.set_options(options.set_strict_mode(true).jpeg_set_out_colorspace(space));
        Ok(Self {
            inner,
            size: (width as u32, height as u32),
            color,
        })
    }
}

/// The options of the decoder, which leave limits to us. It is made strict only after the headers, in which stray bytes
/// lose nothing.
pub(super) fn decoder_options() -> DecoderOptions {
    DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(1 << 16)
        .set_max_height(1 << 16)
}

impl ImageDecoder for Decoder<'_> {
    fn dimensions(&self) -> (u32, u32) {
        self.size
    }

    fn color_type(&self) -> ColorType {
        self.color
    }

    fn read_image(mut self, pixels: &mut [u8]) -> ImageResult<()> {
        self.inner.decode_into(pixels).map_err(|error| {
            let format = ImageFormatHint::Exact(ImageFormat::Jpeg);
            ImageError::Decoding(DecodingError::new(format, error.to_string()))
        })
    }

    fn read_image_boxed(self: Box<Self>, pixels: &mut [u8]) -> ImageResult<()> {
        self.read_image(pixels)
    }
}

/// Rejects the kinds of coding that the decoder lacks; the frame header names them (ITU-T T.81, table B.1).
fn check_coding(segments: &[(u8, &[u8])]) -> Decoded<()> {
    let frame = segments.iter().find(|(marker, _)| ljpeg::is_frame(*marker));
    let Some((marker, content)) = frame else {
        return Ok(());
    };
    let coding = match (marker, content.first()) {
        (0xC9 | 0xCA | 0xCB | 0xCD..=0xCF, _) => "arithmetic coding",
        (0xC5..=0xC7, _) => "hierarchical coding",
        (0xC0..=0xC2, Some(12)) => "12 bits per sample",
        _ => return Ok(()),
    };
    Err(unsupported(coding))
}

fn unsupported(coding: &str) -> Fault {
    Fault::new(format!(
        "its compression, JPEG with {coding}, is not supported; convert it to PNG or TIFF"
    ))
}

/// The color profile, assembled from its numbered pieces in any order (ICC.1:2022, annex B.4).
fn icc(segments: &[(u8, &[u8])]) -> Option<Vec<u8>> {
    let mut pieces: Vec<(u8, &[u8])> = segments
        .iter()
        .filter(|(marker, _)| *marker == 0xE2)
        .filter_map(|(_, content)| {
            let piece = content.strip_prefix(b"ICC_PROFILE\0")?;
            Some((*piece.first()?, piece.get(2..)?))
        })
        .collect();
    pieces.sort_by_key(|(number, _)| *number);
    let profile: Vec<u8> = pieces
        .iter()
        .flat_map(|(_, piece)| *piece)
        .copied()
        .collect();
    (!profile.is_empty()).then_some(profile)
}

/// Rejects a JPEG with a component that is in no scan, or with scans that the decoder reads wrongly: those of single
/// components if some are subsampled vertically (ITU-T T.81, B.2.2 and B.2.3).
pub(super) fn check_scans(segments: &[(u8, &[u8])]) -> Decoded<()> {
    const PROGRESSIVE: u8 = 0xC2;
    const SCAN: u8 = 0xDA;
    let frame = segments.iter().find_map(|(marker, content)| {
        let components = content.get(6..)?.as_chunks::<3>().0;
        matches!(marker, 0xC0..=PROGRESSIVE).then_some((*marker, components))
    });
    let Some((marker, components)) = frame else {
        return Ok(());
    };
    let scans: Vec<Vec<u8>> = segments
        .iter()
        .filter(|(marker, _)| *marker == SCAN)
        .filter_map(|(_, content)| {
            let (count, rest) = content.split_first()?;
            let components = rest.as_chunks::<2>().0.iter().take((*count).into());
            Some(components.map(|[component, _]| *component).collect())
        })
        .collect();
    let is_missing = |[id, _, _]: &&[u8; 3]| !scans.iter().any(|scan| scan.contains(id));
    if let Some([id, ..]) = components.iter().find(is_missing) {
        return Err(Fault::new(format!(
            "part of it is missing: no scan has its component {id}"
        )));
    }
    let is_split = scans
        .first()
        .is_some_and(|scan| scan.len() < components.len());
    let is_read = components.iter().all(|[_, sampling, _]| sampling & 15 == 1)
        && scans.iter().all(|scan| scan.len() == 1);
    if marker != PROGRESSIVE && is_split && !is_read {
        return Err(unsupported("components in separate scans"));
    }
    Ok(())
}

/// Rejects restart markers that do not cycle from 0 to 7 in every scan (ITU-T T.81, B.2.1), and a second start of an
/// image: traces of a missing part that the decoder does not check for.
fn check_markers(bytes: &[u8]) -> Decoded<()> {
    let mut rest = bytes.get(2..).unwrap_or_default();
    let mut next = 0;
    while let Some(start) = rest.iter().position(|&byte| byte == 0xFF) {
        rest = &rest[start + 1..];
        match rest {
            [0xD9, ..] => break,
            [0xFF, ..] => {}
            [marker @ 0xD0..=0xD7, behind @ ..] => {
                if marker & 7 != next {
                    return Err(Fault::new(
                        "part of it is missing: its restart markers are out of sequence",
                    ));
                }
                next = (next + 1) & 7;
                rest = behind;
            }
            [0xD8, ..] => {
                return Err(Fault::new(
                    "part of it is missing: another image starts within it",
                ));
            }
            [0x00 | 0x01, behind @ ..] => rest = behind,
            [marker, high, low, ..] => {
                if *marker == 0xDA {
                    next = 0;
                }
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = rest.get(1 + length..).unwrap_or_default();
            }
            _ => break,
        }
    }
    Ok(())
}

/// The resolution in a JFIF header: version, unit, and two numbers follow its name.
fn resolution((marker, content): &(u8, &[u8])) -> Option<Resolution> {
    match (marker, content) {
        (0xE0, [b'J', b'F', b'I', b'F', 0, _, _, unit, x0, x1, y0, y1, ..]) => Some(Resolution {
            x: u16::from_be_bytes([*x0, *x1]).into(),
            y: u16::from_be_bytes([*y0, *y1]).into(),
            unit: match unit {
                1 => ResolutionUnit::Inch,
                2 => ResolutionUnit::Centimeter,
                _ => ResolutionUnit::None,
            },
        }),
        _ => None,
    }
}

/// Writes the page, which is gray or RGB, as a JPEG, row by row; `quality` is 1..=100 as libjpeg counts it.
///
/// Every component is stored at full resolution (4:4:4).
pub(super) fn write(
    pages: &mut dyn Pages,
    page: &Page,
    quality: u8,
    out: &mut impl Write,
) -> Encoded<()> {
    let mut out = Inserting {
        out,
        segments: segments_of(page),
        start: Some(vec![]),
    };
    let mut encoder = JpegEncoder::new_with_quality(&mut out, quality);
    if let Some(resolution) = page.metadata.resolution {
        let density = |x: f64| x.round().clamp(1.0, f64::from(u16::MAX)) as u16;
        encoder.set_pixel_density(PixelDensity {
            density: (density(resolution.x), density(resolution.y)),
            unit: match resolution.unit {
                ResolutionUnit::None => PixelDensityUnit::PixelAspectRatio,
                ResolutionUnit::Inch => PixelDensityUnit::Inches,
                ResolutionUnit::Centimeter => PixelDensityUnit::Centimeters,
            },
        });
    }
    let rows = RefCell::new(Rows {
        pages,
        page,
        held: 0..0,
        bytes: vec![],
        failed: None,
    });
    let encoded = if page.color.channels() == 1 {
        encoder.encode_image(&View::<Luma<u8>>::new(&rows))
    } else {
        encoder.encode_image(&View::<Rgb<u8>>::new(&rows))
    };
    match rows.into_inner().failed {
        Some(error) => Err(Refused::Source(error)),
        None => Ok(encoded?),
    }
}

/// Writes segments after the start of the image and the JFIF header, which come first.
struct Inserting<W> {
    out: W,
    segments: Segments,
    /// What has been written so far, until the header is complete.
    start: Option<Vec<u8>>,
}

impl<W: Write> Write for Inserting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(start) = &mut self.start else {
            return self.out.write(bytes);
        };
        start.extend(bytes);
        let header = match start.get(2..6) {
            Some([0xFF, 0xE0, high, low]) => 4 + usize::from(u16::from_be_bytes([*high, *low])),
            Some(_) => 2,
            None => usize::MAX,
        };
        if start.len() >= header {
            self.out.write_all(&start[..header])?;
            for (marker, content) in &self.segments {
                self.out.write_all(&[0xFF, *marker])?;
                self.out
                    .write_all(&(content.len() as u16 + 2).to_be_bytes())?;
                self.out.write_all(content)?;
            }
            self.out.write_all(&start[header..])?;
            self.start = None;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The rows of a page that the encoder is at: it takes blocks of eight, from top to bottom.
struct Rows<'a> {
    pages: &'a mut dyn Pages,
    page: &'a Page,
    /// The rows in `bytes`, the last that have been read.
    held: Range<usize>,
    bytes: Vec<u8>,
    /// The encoder cannot be told that reading failed: it is given black.
    failed: Option<Error>,
}

impl Rows<'_> {
    fn row(&mut self, y: usize) -> &[u8] {
        let row = self.page.row_len();
        while y >= self.held.end {
            let count = 8.min(self.page.height - self.held.end);
            self.held = self.held.end..self.held.end + count;
            let mut samples = Vec::with_capacity(count * row);
            if self.failed.is_none() {
                self.failed = self.pages.read_rows(count, &mut samples).err();
            }
            samples.resize(count * row, 0.0);
            restore_missing(&mut samples, self.page, self.page.depth);
            self.bytes = native_bytes(&samples, Depth::U8);
        }
        &self.bytes[(y - self.held.start) * row..][..row]
    }
}

/// The page as the encoder takes it.
struct View<'a, 'b, P> {
    rows: &'a RefCell<Rows<'b>>,
    pixel: PhantomData<P>,
}

impl<'a, 'b, P> View<'a, 'b, P> {
    fn new(rows: &'a RefCell<Rows<'b>>) -> Self {
        Self {
            rows,
            pixel: PhantomData,
        }
    }
}

impl<P: Pixel<Subpixel = u8>> GenericImageView for View<'_, '_, P> {
    type Pixel = P;

    fn dimensions(&self) -> (u32, u32) {
        let page = self.rows.borrow().page;
        (page.width as u32, page.height as u32)
    }

    fn get_pixel(&self, x: u32, y: u32) -> P {
        let channels = usize::from(P::CHANNEL_COUNT);
        let mut rows = self.rows.borrow_mut();
        *P::from_slice(&rows.row(y as usize)[channels * x as usize..][..channels])
    }
}

/// Maximum number of bytes in a segment, excluding its length.
const MOST: usize = 65_533;

/// What precedes XMP in its segment (XMP specification, part 3, section 1.1.3), and the maximum length of XMP.
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
pub(super) const MOST_XMP: usize = MOST - XMP.len();

/// The segments of a page: those of its file if it came from a JPEG, otherwise made from its metadata.
fn segments_of(page: &Page) -> Segments {
    const ICC: &[u8] = b"ICC_PROFILE\0";
    let metadata = &page.metadata;
    let icc = metadata.icc_for(page.color);
    if let Some(segments) = metadata.native::<Segments>() {
        let keep = |(_, content): &&(u8, Vec<u8>)| icc.is_some() || !content.starts_with(ICC);
        return segments.iter().filter(keep).cloned().collect();
    }
    let mut segments = Segments::new();
    if let Some(exif) = metadata.exif_with(page.orientation) {
        let content = [b"Exif\0\0".as_slice(), &exif].concat();
        if content.len() <= MOST {
            segments.push((0xE1, content));
        }
    }
    // A profile is cut into numbered pieces (ICC.1:2022, annex B.4).
    let pieces: Vec<_> = icc
        .unwrap_or_default()
        .chunks(MOST - ICC.len() - 2)
        .collect();
    if let Ok(count) = u8::try_from(pieces.len()) {
        for (number, piece) in (1..).zip(pieces) {
            segments.push((0xE2, [ICC, &[number, count], piece].concat()));
        }
    }
    if let Some(xmp) = &metadata.xmp
        && xmp.len() <= MOST_XMP
    {
        segments.push((0xE1, [XMP, xmp.as_bytes()].concat()));
    }
    segments
}

/// The segments before and between the scans, of a file that reaches its end-of-image marker (ITU-T
/// T.81, annex B).
///
/// The decoder does not check that: it paints missing parts gray and reports success. Segments are skipped by their
/// length, because a thumbnail in one of them has an end marker of its own.
pub(super) fn segments(bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    const END_OF_IMAGE: u8 = 0xD9;
    let mut rest = bytes;
    let mut segments = Vec::new();
    while let Some(start) = rest.iter().position(|&byte| byte == 0xFF) {
        rest = &rest[start + 1..];
        match rest {
            [END_OF_IMAGE, ..] => return Some(segments),
            // A fill byte: the marker is yet to come.
            [0xFF, ..] => {}
            // 0xFF as data, and the markers that stand alone: TEM, the restarts, start of image.
            [0x00 | 0x01 | 0xD0..=0xD8, behind @ ..] => rest = behind,
            [marker, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                segments.push((*marker, rest.get(3..1 + length).unwrap_or_default()));
                rest = rest.get(1 + length..).unwrap_or_default();
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::path::Path;

    use super::super::{Encoding, Image};
    use super::*;

    const PHOTO: &[u8] = include_bytes!("../../../../tests/golden/images/photo.jpg");
    const PROGRESSIVE: &[u8] = include_bytes!("../../../../tests/golden/images/progressive.jpg");

    fn complete(bytes: &[u8]) -> bool {
        segments(bytes).is_some()
    }

    /// The content of the first segment with this marker.
    fn segment(jpeg: &[u8], marker: u8) -> &[u8] {
        let at = jpeg.windows(2).position(|pair| pair == [0xFF, marker]);
        let (length, content) = jpeg[at.unwrap() + 2..].split_at(2);
        &content[..usize::from(u16::from_be_bytes([length[0], length[1]])) - 2]
    }

    #[test]
    fn chroma_is_not_subsampled_and_quality_100_hardly_quantizes() {
        let bytes: Vec<u8> = (0..20 * 20 * 3).map(|i| (i * 7) as u8).collect();
        let mut jpeg = Vec::new();
        let encoding = Encoding {
            quality: 100,
            ..Encoding::new(Format::Jpeg)
        };
        let image = Image::from_bytes(20, 20, 3, &bytes);
        let mut out = Cursor::new(&mut jpeg);
        image
            .encode(encoding, Path::new("a.jpg"), &mut out)
            .unwrap();

        // Depth, height, width, number of components; then for each its id, sampling, table.
        let frame = segment(&jpeg, 0xC0);
        assert_eq!(frame[..6], [8, 0, 20, 0, 20, 3]);
        let sampling: Vec<u8> = frame[6..].chunks(3).map(|part| part[1]).collect();
        assert_eq!(sampling, [0x11, 0x11, 0x11]);
        assert_eq!(segment(&jpeg, 0xDB)[1..], [1; 64]);
    }

    #[test]
    fn a_cut_file_is_told_from_a_whole_one() {
        for whole in [PHOTO, PROGRESSIVE] {
            assert!(complete(whole));
            assert!(complete(&[whole, b"behind the end"].concat()));
            for length in 0..whole.len() {
                assert!(!complete(&whole[..length]), "{length} bytes");
            }
        }
    }

    #[test]
    fn the_end_of_a_thumbnail_is_not_the_end_of_the_image() {
        let thumbnail = [0xFF, 0xE1, 0x00, 0x06, 0xFF, 0xD8, 0xFF, 0xD9];
        let whole = [&PHOTO[..2], &thumbnail, &PHOTO[2..]].concat();
        assert!(complete(&whole));
        assert!(!complete(&whole[..whole.len() - 2]));
    }
}
