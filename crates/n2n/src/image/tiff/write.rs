//! Writes pages as a TIFF, strip by strip, with all their metadata.

use std::io::{Cursor, Seek, Write};

use flate2::write::ZlibEncoder;

use super::super::encode::{Encoded, Refused, native_bytes, restore_missing};
use super::super::metadata::{Metadata, Resolution, ResolutionUnit};
use super::super::page::{Color, Page, Pages};
use super::super::{Depth, Encoding};
use super::codec::compression;
use super::directory::{Container, Field, Kind, Order, Output, swap};
use super::tag::{self, photometric};
use super::{Tags, Verbatim, fields, sub_fields};

/// Writes all pages as a TIFF; `first` is the current page of `pages`.
///
/// A page that was compressed is written with Deflate, with horizontal differencing for integers. A file keeps its byte
/// order; it becomes a BigTIFF if 32-bit offsets might not suffice.
pub(in crate::image) fn write(
    pages: &mut dyn Pages,
    first: Page,
    encoding: Encoding,
    out: &mut (impl Write + Seek),
) -> Encoded<()> {
    /// The range of 32-bit offsets, less some space for the directories.
    const MOST: u64 = (4 << 30) - (64 << 20);
    let depth = encoding.depth_of(first.depth);
    let page = (first.height * first.row_len()) as u64;
    let samples = first.metadata.file_samples.unwrap_or(0).max(page);
    let is_long = samples.saturating_mul(depth.bytes() as u64) > MOST;
    let (is_big, order) = match native(&first) {
        Some(tags) => (tags.is_big, tags.order),
        None => (false, Order::NATIVE),
    };
    let mut out = Output::new(out, order, is_big || is_long)?;
    let mut next = Some(first);
    while let Some(page) = next {
        match native(&page).and_then(|tags| tags.verbatim.as_ref()) {
            Some(verbatim) => write_verbatim(verbatim, &mut out)?,
            None => write_page(pages, &page, encoding.depth_of(page.depth), &mut out)?,
        }
        next = pages.next_page()?;
    }
    Ok(())
}

/// What the file said about a page, if it was a TIFF.
fn native(page: &Page) -> Option<&Tags> {
    page.metadata.native()
}

fn write_verbatim<W: Write + Seek>(verbatim: &Verbatim, out: &mut Output<W>) -> Encoded<()> {
    let mut offsets = Vec::with_capacity(verbatim.chunks.len());
    for chunk in &verbatim.chunks {
        offsets.push(out.data(chunk)?);
    }
    let mut fields = verbatim.fields.clone();
    fields.push(Field::offsets(verbatim.offsets, &offsets, out.is_big()));
    Ok(out.directory(fields)?)
}

fn write_page<W: Write + Seek>(
    pages: &mut dyn Pages,
    page: &Page,
    depth: Depth,
    out: &mut Output<W>,
) -> Encoded<()> {
    /// Bytes of a strip before compression.
    const STRIP: usize = 1 << 18;
    let native = native(page);
    let is_packed = native.is_none_or(|tags| tags.compression != compression::NONE);
    let is_predicted = is_packed && !depth.is_float();
    let (samples, size) = (page.samples(), depth.bytes());
    let planes = match native {
        Some(tags) if tags.planar => samples,
        _ => 1,
    };
    let per_pixel = samples / planes;
    let row = page.width * per_pixel * size;
    let rows_per_strip = (STRIP / row).clamp(1, page.height);

    let mut places = vec![Vec::new(); planes];
    let mut left = page.height;
    while left > 0 {
        let count = left.min(rows_per_strip);
        left -= count;
        let bytes = strip(pages, page, count, depth)?;
        for (plane, places) in places.iter_mut().enumerate() {
            let mut strip = if planes == 1 {
                bytes.clone()
            } else {
                let pixels = bytes.chunks_exact(samples * size);
                pixels
                    .flat_map(|pixel| &pixel[plane * size..][..size])
                    .copied()
                    .collect()
            };
            if is_predicted {
                for row in strip.chunks_exact_mut(row) {
                    take_differences(row, per_pixel, size);
                }
            }
            swap(&mut strip, size, Order::NATIVE, out.order());
            if is_packed {
                let mut packed = ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                packed.write_all(&strip)?;
                strip = packed.finish()?;
            }
            places.push((out.data(&strip)?, strip.len() as u64));
        }
    }

    let photometric = photometric_of(page, depth);
    let format = match depth {
        Depth::U8 | Depth::U16 | Depth::U32 => 1,
        Depth::I8 | Depth::I16 | Depth::I32 => 2,
        Depth::F32 | Depth::F64 => 3,
    };
    let compression = if is_packed {
        compression::DEFLATE
    } else {
        compression::NONE
    };
    let places = places.concat();
    let (offsets, lengths): (Vec<_>, Vec<_>) = places.into_iter().unzip();
    let mut fields = vec![
        Field::longs(tag::WIDTH, [page.width as u32]),
        Field::longs(tag::LENGTH, [page.height as u32]),
        Field::shorts(tag::BITS_PER_SAMPLE, vec![8 * size as u16; samples]),
        Field::shorts(tag::COMPRESSION, [compression]),
        Field::shorts(tag::PHOTOMETRIC, [photometric]),
        Field::shorts(tag::SAMPLES_PER_PIXEL, [samples as u16]),
        Field::longs(tag::ROWS_PER_STRIP, [rows_per_strip as u32]),
        Field::shorts(tag::PLANAR_CONFIGURATION, [if planes == 1 { 1 } else { 2 }]),
        Field::shorts(tag::SAMPLE_FORMAT, vec![format; samples]),
        Field::offsets(tag::STRIP_OFFSETS, &offsets, out.is_big()),
        Field::offsets(tag::STRIP_BYTE_COUNTS, &lengths, out.is_big()),
    ];
    if is_predicted {
        fields.push(Field::shorts(tag::PREDICTOR, [2]));
    }
    let extra = extra_samples(page, photometric);
    if !extra.is_empty() {
        fields.push(Field::shorts(tag::EXTRA_SAMPLES, extra));
    }
    let of_page = Said::by(page, depth);
    for (tag, sub) in [(tag::EXIF, of_page.exif), (tag::GPS, of_page.gps)] {
        if !sub.is_empty() {
            let at = out.sub_directory(sub)?;
            fields.push(Field::offsets(tag, &[at], out.is_big()));
        }
    }
    fields.extend(of_page.fields);
    Ok(out.directory(fields)?)
}

/// The next rows as the samples of a TIFF, in the byte order of this machine.
fn strip(pages: &mut dyn Pages, page: &Page, count: usize, depth: Depth) -> Encoded<Vec<u8>> {
    if depth.is_wide() && page.depth == depth {
        let mut rows = Vec::with_capacity(count * page.row_len());
        pages.read_wide(count, &mut rows)?;
        return Ok(match depth {
            Depth::U32 => rows
                .iter()
                .flat_map(|&x| (x.round() as u32).to_ne_bytes())
                .collect(),
            Depth::I32 => rows
                .iter()
                .flat_map(|&x| (x.round() as i32).to_ne_bytes())
                .collect(),
            _ => rows.iter().flat_map(|&x| x.to_ne_bytes()).collect(),
        });
    }
    let mut rows = Vec::with_capacity(count * page.row_len());
    pages.read_rows(count, &mut rows)?;
    restore_missing(&mut rows, page, depth);
    let mut bytes = native_bytes(&rows, depth);
    let is_inverted = native(page).is_some_and(|tags| tags.white_is_zero);
    if is_inverted && matches!(depth, Depth::U8 | Depth::U16) {
        for byte in &mut bytes {
            *byte = !*byte;
        }
    }
    Ok(bytes)
}

/// The stated meaning of the color samples.
fn photometric_of(page: &Page, depth: Depth) -> u16 {
    let was = native(page).map(|tags| (tags.photometric, tags.white_is_zero));
    match (page.color, was) {
        (Color::Rgb, Some((photometric::LINEAR_RAW, _))) => photometric::LINEAR_RAW,
        (Color::Rgb, _) => photometric::RGB,
        (Color::Gray, Some((photometric::WHITE_IS_ZERO, was_inverted)))
            if !was_inverted || matches!(depth, Depth::U8 | Depth::U16) =>
        {
            photometric::WHITE_IS_ZERO
        }
        (Color::Bands(count), Some((was @ (photometric::RGB | photometric::ICC_LAB), _)))
            if count >= 3 =>
        {
            was
        }
        (Color::Bands(_), Some((photometric::SEPARATED, _))) => photometric::SEPARATED,
        _ => photometric::BLACK_IS_ZERO,
    }
}

/// The meaning of the samples after the color: as in the source, or transparency.
fn extra_samples(page: &Page, photometric: u16) -> Vec<u16> {
    let colors = match photometric {
        photometric::RGB | photometric::ICC_LAB | photometric::LINEAR_RAW => 3,
        photometric::SEPARATED => page.color.channels(),
        _ => 1,
    };
    let count = page.samples().saturating_sub(colors);
    match native(page) {
        Some(tags) if tags.extra_samples.len() == count => tags.extra_samples.clone(),
        _ => {
            let mut kinds = vec![0; count.saturating_sub(page.extra)];
            kinds.resize(count, 2);
            kinds
        }
    }
}

/// The metadata of a page, as fields.
#[derive(Default)]
struct Said {
    fields: Vec<Field>,
    exif: Vec<Field>,
    gps: Vec<Field>,
}

impl Said {
    fn by(page: &Page, depth: Depth) -> Self {
        let metadata = &page.metadata;
        let icc = metadata.icc_for(page.color);
        if let Some(tags) = native(page) {
            let mut fields = tags.fields.clone();
            fields.retain(|field| match field.tag {
                tag::ICC => icc.is_some(),
                // In the units of other integers it would be another value.
                tag::GDAL_NODATA => depth == page.depth || depth.is_float(),
                _ => true,
            });
            return Self {
                fields,
                exif: tags.exif.clone(),
                gps: tags.gps.clone(),
            };
        }
        let mut said = Self::by_exif(metadata);
        said.fields.retain(|field| field.tag != tag::ORIENTATION);
        if let Some(icc) = icc {
            said.fields.push(Field {
                tag: tag::ICC,
                kind: Kind::UNDEFINED,
                bytes: icc.to_vec(),
            });
        }
        if let Some(xmp) = &metadata.xmp {
            said.fields.push(Field {
                tag: tag::XMP,
                kind: Kind::BYTE,
                bytes: xmp.as_bytes().to_vec(),
            });
        }
        if let Some(Resolution { x, y, unit }) = metadata.resolution {
            let has = |tag| move |field: &Field| field.tag == tag;
            for (tag, side) in [(tag::X_RESOLUTION, x), (tag::Y_RESOLUTION, y)] {
                said.fields.retain(|field| !has(tag)(field));
                let ratio = [(side * 1000.0).round() as u32, 1000];
                said.fields.push(Field {
                    tag,
                    kind: Kind::RATIONAL,
                    bytes: ratio.into_iter().flat_map(u32::to_ne_bytes).collect(),
                });
            }
            let unit = match unit {
                ResolutionUnit::None => 1,
                ResolutionUnit::Inch => 2,
                ResolutionUnit::Centimeter => 3,
            };
            said.fields
                .retain(|field| !has(tag::RESOLUTION_UNIT)(field));
            said.fields
                .push(Field::shorts(tag::RESOLUTION_UNIT, [unit]));
        }
        if let Some(words) = &metadata.description {
            said.fields.retain(|field| field.tag != tag::DESCRIPTION);
            said.fields.push(Field::text(tag::DESCRIPTION, words));
        }
        let orientation = u16::from(page.orientation.to_exif());
        said.fields
            .push(Field::shorts(tag::ORIENTATION, [orientation]));
        said
    }

    /// The fields of an Exif block, except its thumbnail: the same tags have the same meaning in both.
    fn by_exif(metadata: &Metadata) -> Self {
        let Some(block) = &metadata.exif else {
            return Self::default();
        };
        let read = || {
            let mut block = Container::open(Cursor::new(block))?;
            let directory = block.directory(block.first)?;
            Ok::<_, super::Fault>(Self {
                fields: fields(&mut block, &directory, &super::NOT_COPIED),
                exif: sub_fields(&mut block, &directory, tag::EXIF).unwrap_or_default(),
                gps: sub_fields(&mut block, &directory, tag::GPS).unwrap_or_default(),
            })
        };
        read().unwrap_or_default()
    }
}

/// Replaces samples with the differences from their left neighbors (TIFF 6.0, section 14).
fn take_differences(row: &mut [u8], samples: usize, size: usize) {
    fn subtract<const N: usize, T>(
        row: &mut [u8],
        samples: usize,
        from: impl Fn([u8; N]) -> T,
        difference: impl Fn(T, T) -> [u8; N],
    ) {
        let values = row.as_chunks_mut::<N>().0;
        for i in (samples..values.len()).rev() {
            values[i] = difference(from(values[i]), from(values[i - samples]));
        }
    }
    match size {
        1 => subtract(row, samples, u8::from_ne_bytes, |a, b| {
            a.wrapping_sub(b).to_ne_bytes()
        }),
        2 => subtract(row, samples, u16::from_ne_bytes, |a, b| {
            a.wrapping_sub(b).to_ne_bytes()
        }),
        _ => subtract(row, samples, u32::from_ne_bytes, |a, b| {
            a.wrapping_sub(b).to_ne_bytes()
        }),
    }
}

impl From<super::Fault> for Refused {
    fn from(fault: super::Fault) -> Self {
        Self::Page(fault.into_words())
    }
}
