//! DNG (Adobe, version 1.6): the samples of a camera's sensor, as a mosaic of colors or as pixels of
//! all of them, in a TIFF.
//!
//! The samples of a mosaic become one page of half the size with a channel for each position in its 2×2 cells. The file
//! that is written is the one that was read, with its samples replaced. Everything else keeps its offset, because maker
//! notes contain file offsets. The new samples and the directories that lead to them are appended, and old samples at
//! the end of the file are cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufRead, Cursor, Seek, SeekFrom, Write};
use std::sync::Arc;

use ::image::metadata::Orientation;

use super::super::decode::{Decode, Decoded, Fault, Limits, Source, check_samples};
use super::super::encode::{Encoded, Refused, restore_missing, to_u16};
use super::super::metadata::{Native, Response, Sensor};
use super::super::page::{Color, Page, Pages};
use super::super::{Depth, Format, MISSING, Metadata};
use super::codec::compression;
use super::directory::{Container, Directory, Field, Order, swap, too_large};
use super::layout::Layout;
use super::rows::Rows;
use super::tag::{self, photometric};
use super::{Tags, exif_block, fields, sub_fields};

/// Tags that only a DNG has, and their values.
mod dng_tag {
    pub(super) const CFA_REPEAT: u16 = 33421;
    pub(super) const CFA_PATTERN: u16 = 33422;
    pub(super) const VERSION: u16 = 50706;
    pub(super) const CFA_COLORS: u16 = 50710;
    pub(super) const CFA_LAYOUT: u16 = 50711;
    pub(super) const LINEARIZATION: u16 = 50712;
    pub(super) const BLACK_REPEAT: u16 = 50713;
    pub(super) const BLACK: u16 = 50714;
    pub(super) const WHITE: u16 = 50717;
    pub(super) const ACTIVE_AREA: u16 = 50829;
    pub(super) const OPCODES_1: u16 = 51008;
    pub(super) const NOISE_PROFILE: u16 = 51041;
    /// Checksums and names of samples that have been replaced.
    pub(super) const STALE: [u16; 3] = [50781, 50972, 51111];
}

/// Whether a TIFF is a DNG.
pub(in crate::image) fn is_dng(source: &mut (impl BufRead + Seek)) -> bool {
    let mut look = || {
        let mut file = Container::open(&mut *source)?;
        let directory = file.directory(file.first)?;
        Ok::<_, Fault>(directory.has(dng_tag::VERSION))
    };
    let is_dng = look().unwrap_or(false);
    source.rewind().is_ok() && is_dng
}

/// A DNG as it was read, to be written again.
struct Dng {
    bytes: Arc<[u8]>,
    order: Order,
    is_big: bool,
    /// The offsets of the directory of the samples and of the first directory, which may be the same.
    raw_at: u64,
    first_at: u64,
    /// The number of bytes of the file that are kept.
    kept: u64,
    height: usize,
    width: usize,
    /// Number of samples of a pixel: 1 for a mosaic.
    samples: usize,
    depth: Depth,
    /// All samples, including those outside the active area, in the units of the file, linearized.
    raw: Vec<f32>,
    area: Area,
    /// Number of rows and columns that a row and a column of the page stand for.
    cell: usize,
    white: Vec<f64>,
}

/// The part of the sensor that sees the picture.
#[derive(Clone, Copy)]
struct Area {
    top: usize,
    left: usize,
    height: usize,
    width: usize,
}

impl fmt::Debug for Dng {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dng({}x{})", self.width, self.height)
    }
}

impl Native for Dng {
    fn format(&self) -> Format {
        Format::Dng
    }
}

/// The only page of a DNG.
struct DngPage {
    page: Option<Page>,
    dng: Arc<Dng>,
    nodata: Option<f64>,
    next: usize,
}

/// Starts to read a DNG.
pub(in crate::image) fn decoder(
    mut source: Box<dyn Source>,
    limits: Limits,
) -> Decoded<Box<dyn Decode>> {
    /// Samples are kept in memory, and what surrounds them is small.
    const MOST: u64 = 2 << 30;
    let length = source.seek(SeekFrom::End(0))?;
    if length > MOST {
        return Err(Fault::new(format!(
            "it is a DNG of {length} bytes, more than the limit of {MOST}"
        )));
    }
    source.rewind()?;
    let mut bytes = Vec::with_capacity(length as usize);
    source.read_to_end(&mut bytes)?;
    let bytes: Arc<[u8]> = bytes.into();
    let mut file = Container::open(Cursor::new(Arc::clone(&bytes)))?;
    let first = file.directory(file.first)?;
    let (raw_at, raw) = find_samples(&mut file, &first)?;

    let layout = Layout::of(&mut file, &raw, limits, None)?;
    let (height, width, samples) = (layout.height, layout.width, layout.samples);
    check_samples(limits, height, width, samples)?;
    let depth = match layout.sample.depth() {
        Depth::U8 | Depth::U16 => Depth::U16,
        Depth::F32 => Depth::F32,
        _ => {
            return Err(Fault::new(
                "its samples have more than 16 bits, which is not supported in DNG",
            ));
        }
    };
    let is_mosaic = layout.photometric == photometric::CFA;
    let area = area(&mut file, &raw, (height, width))?;
    let colors = if is_mosaic {
        if samples != 1 {
            return Err(Fault::new(
                "the pixels of its mosaic have several samples, which is not supported",
            ));
        }
        Some(mosaic(&mut file, &raw)?)
    } else {
        None
    };
    let white = numbers(&mut file, &raw, dng_tag::WHITE)?;
    let white = white.unwrap_or_else(|| {
        let most = if depth == Depth::F32 {
            1.0
        } else {
            ((1_u64 << layout.bits) - 1) as f64
        };
        vec![most; samples]
    });
    let table = table(&mut file, &raw)?;
    // The opcode refers to the samples as stored, which the table replaces.
    let nodata = match table {
        None => constant_of_dead_pixels(&mut file, &raw)?,
        Some(_) => None,
    };
    let kept = kept(&mut file, raw_at, &layout.places());
    let raw_samples = samples_of(&mut file, layout, table.as_deref())?;

    let cell = if is_mosaic { 2 } else { 1 };
    let sensor = sensor(&mut file, &first, &raw, (samples, depth), colors, &white)?;
    let mut metadata = metadata(&mut file, &first);
    metadata.nodata = nodata;
    let orientation = file.number(&first, tag::ORIENTATION)?;
    let orientation = orientation.and_then(|o| Orientation::from_exif(u8::try_from(o).ok()?));
    let dng = Arc::new(Dng {
        bytes,
        order: file.order,
        is_big: file.is_big,
        raw_at,
        first_at: file.first,
        kept,
        height,
        width,
        samples,
        depth,
        raw: raw_samples,
        area,
        cell,
        white,
    });
    metadata.native = Some(Arc::clone(&dng) as _);
    metadata.sensor = Some(sensor);
    let page = Page {
        height: area.height.div_ceil(cell),
        width: area.width.div_ceil(cell),
        color: match (is_mosaic, samples) {
            (true, _) => Color::Bands(4),
            (false, 1) => Color::Gray,
            (false, 3) => Color::Rgb,
            (false, bands) => Color::Bands(bands),
        },
        extra: 0,
        depth,
        orientation: orientation.unwrap_or(Orientation::NoTransforms),
        metadata,
    };
    Ok(Box::new(DngPage {
        page: Some(page),
        dng,
        nodata,
        next: 0,
    }))
}

type Memory = Cursor<Arc<[u8]>>;

/// The directory of the samples at full size: the first one, or one that it points to.
fn find_samples(file: &mut Container<Memory>, first: &Directory) -> Decoded<(u64, Directory)> {
    let mut places = vec![file.first];
    places.extend(
        file.numbers(first, tag::SUB_IFDS)
            .unwrap_or_default()
            .unwrap_or_default(),
    );
    for at in places {
        let directory = file.directory(at)?;
        let kind = file.number(&directory, tag::NEW_SUBFILE_TYPE)?.unwrap_or(0);
        let colors = file.number(&directory, tag::PHOTOMETRIC)?.unwrap_or(0) as u16;
        if kind == 0 && matches!(colors, photometric::CFA | photometric::LINEAR_RAW) {
            return Ok((at, directory));
        }
    }
    Err(Fault::new("it is a DNG without sensor data"))
}

/// Numbers of any type.
fn numbers(
    file: &mut Container<Memory>,
    directory: &Directory,
    tag: u16,
) -> Decoded<Option<Vec<f64>>> {
    let Some(field) = file.field(directory, tag)? else {
        return Ok(None);
    };
    match field.floats().filter(|numbers| !numbers.is_empty()) {
        Some(numbers) => Ok(Some(numbers)),
        None => Err(Fault::new(format!(
            "its tag {tag} does not contain a number"
        ))),
    }
}

/// The part of the sensor that sees the picture; all of it if the tag is missing.
fn area(
    file: &mut Container<Memory>,
    raw: &Directory,
    (height, width): (usize, usize),
) -> Decoded<Area> {
    let found = file.numbers(raw, dng_tag::ACTIVE_AREA)?;
    let Some(found) = found else {
        return Ok(Area {
            top: 0,
            left: 0,
            height,
            width,
        });
    };
    match found[..] {
        [top, left, bottom, right]
            if top < bottom && left < right && bottom <= height as u64 && right <= width as u64 =>
        {
            Ok(Area {
                top: top as usize,
                left: left as usize,
                height: (bottom - top) as usize,
                width: (right - left) as usize,
            })
        }
        _ => Err(Fault::new(format!(
            "its active area, {found:?}, is outside its {width}x{height} pixels"
        ))),
    }
}

/// The colors of the 2×2 cells of a mosaic, row by row: 0 is red, 1 green, 2 blue; other numbers are further colors.
fn mosaic(file: &mut Container<Memory>, raw: &Directory) -> Decoded<[u8; 4]> {
    let repeat = file.numbers(raw, dng_tag::CFA_REPEAT)?;
    let layout = file.number(raw, dng_tag::CFA_LAYOUT)?.unwrap_or(1);
    let pattern = file.numbers(raw, dng_tag::CFA_PATTERN)?;
    match (repeat.as_deref(), pattern.as_deref(), layout) {
        (Some([2, 2]), Some(&[a, b, c, d]), 1) => Ok([a, b, c, d].map(|color| color as u8)),
        (Some([rows, columns]), Some(_), 1) => Err(Fault::new(format!(
            "its mosaic repeats every {columns}x{rows} pixels; only 2x2 mosaics and linear DNG \
             are supported"
        ))),
        _ => Err(Fault::new(
            "its mosaic is not a 2x2 pattern in a rectangular layout; only such mosaics and linear \
             DNG are supported",
        )),
    }
}

/// The table that linearizes the samples, if there is one.
fn table(file: &mut Container<Memory>, raw: &Directory) -> Decoded<Option<Vec<f32>>> {
    let table = file.numbers(raw, dng_tag::LINEARIZATION)?;
    Ok(table.map(|table| table.into_iter().map(|value| value as f32).collect()))
}

/// The sample that marks dead pixels, by the opcode `FixBadPixelsConstant`, so that they stay marked.
fn constant_of_dead_pixels(file: &mut Container<Memory>, raw: &Directory) -> Decoded<Option<f64>> {
    const FIX_BAD_PIXELS_CONSTANT: u32 = 4;
    let field = file.field(raw, dng_tag::OPCODES_1)?;
    // These are big-endian in every file.
    let bytes = field.map_or_else(Vec::new, |field| field.bytes);
    let mut rest = bytes.get(4..).unwrap_or_default();
    while let Some((head, behind)) = rest.split_at_checked(16) {
        let word = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let (opcode, length) = (word(head), word(&head[12..]) as usize);
        let Some((parameters, behind)) = behind.split_at_checked(length) else {
            break;
        };
        if opcode == FIX_BAD_PIXELS_CONSTANT && length >= 4 {
            return Ok(Some(word(parameters).into()));
        }
        rest = behind;
    }
    Ok(None)
}

/// All samples, linear.
fn samples_of(
    file: &mut Container<Memory>,
    layout: Layout,
    table: Option<&[f32]>,
) -> Decoded<Vec<f32>> {
    const AT_ONCE: usize = 64;
    let (height, row) = (layout.height, layout.row_len());
    let is_integer = !layout.sample.depth().is_float();
    let mut rows = Rows::new(layout);
    let mut samples = Vec::with_capacity(height * row);
    let mut wide = Vec::new();
    let mut left = height;
    while left > 0 {
        let count = left.min(AT_ONCE);
        left -= count;
        wide.clear();
        rows.read_wide(file, count, &mut wide)?;
        match table {
            // Beyond its end, a table continues with its last value.
            Some([start @ .., last]) if is_integer => samples.extend(
                wide.iter()
                    .map(|&x| start.get(x as usize).copied().unwrap_or(*last)),
            ),
            _ => samples.extend(wide.iter().map(|&x| x as f32)),
        }
    }
    Ok(samples)
}

/// The meaning of the samples of each channel of the page.
fn sensor(
    file: &mut Container<Memory>,
    first: &Directory,
    raw: &Directory,
    (samples, depth): (usize, Depth),
    colors: Option<[u8; 4]>,
    white: &[f64],
) -> Decoded<Sensor> {
    let unit = f64::from(depth.unit());
    let black = numbers(file, raw, dng_tag::BLACK)?.unwrap_or_else(|| vec![0.0]);
    let repeat = file.numbers(raw, dng_tag::BLACK_REPEAT)?;
    let (rows, columns) = match repeat.as_deref() {
        Some(&[rows @ 1..=64, columns @ 1..=64]) => (rows as usize, columns as usize),
        _ => (1, 1),
    };
    // The mean of the black levels at all places where samples of a channel lie.
    let black_at = |dy: usize, dx: usize, channel: usize, step: usize| {
        let places = (dy..rows * step).step_by(step);
        let places = places.flat_map(|y| (dx..columns * step).step_by(step).map(move |x| (y, x)));
        let levels = places.map(|(y, x)| {
            let at = (y % rows * columns + x % columns) * samples + channel;
            black.get(at).or(black.last()).copied().unwrap_or(0.0)
        });
        let levels: Vec<f64> = levels.collect();
        levels.iter().sum::<f64>() / levels.len() as f64
    };
    let profile = match numbers(file, raw, dng_tag::NOISE_PROFILE)? {
        None => numbers(file, first, dng_tag::NOISE_PROFILE)?,
        found => found,
    };
    // The profile has a pair for all colors, or one for each in this order.
    let order = file.numbers(raw, dng_tag::CFA_COLORS)?;
    let order = order.unwrap_or_else(|| vec![0, 1, 2]);
    let noise = |plane: usize| {
        let profile = profile.as_deref()?;
        let at = if profile.len() < 4 { 0 } else { plane };
        let pair = profile.chunks_exact(2).nth(at)?;
        let is_noise = pair[0] >= 0.0 && pair[1] >= 0.0 && pair[0] + pair[1] > 0.0;
        (is_noise && pair.iter().all(|x| x.is_finite())).then(|| [pair[0] as f32, pair[1] as f32])
    };
    let response = |black: f64, white: f64, plane: usize| {
        if black < white && (white - black).is_finite() {
            Ok(Response {
                black: (black / unit) as f32,
                white: (white / unit) as f32,
                noise: noise(plane),
            })
        } else {
            Err(Fault::new(format!(
                "its black level, {black}, is not below its white level, {white}"
            )))
        }
    };
    let white_of = |channel: usize| white.get(channel).or(white.last()).copied().unwrap_or(1.0);
    let responses = match colors {
        Some(colors) => (0..4)
            .map(|place| {
                let color = u64::from(colors[place]);
                let plane = order.iter().position(|&other| other == color);
                let black = black_at(place / 2, place % 2, 0, 2);
                response(black, white_of(0), plane.unwrap_or(0))
            })
            .collect::<Decoded<Vec<_>>>()?,
        None => (0..samples)
            .map(|channel| response(black_at(0, 0, channel, 1), white_of(channel), channel))
            .collect::<Decoded<Vec<_>>>()?,
    };
    Ok(Sensor { responses, colors })
}

/// The metadata for other formats.
fn metadata(file: &mut Container<Memory>, first: &Directory) -> Metadata {
    let tags = Tags {
        order: file.order,
        is_big: file.is_big,
        compression: compression::NONE,
        photometric: photometric::BLACK_IS_ZERO,
        planar: false,
        white_is_zero: false,
        extra_samples: Vec::new(),
        fields: fields(file, first, &super::NOT_COPIED),
        exif: sub_fields(file, first, tag::EXIF).unwrap_or_default(),
        gps: sub_fields(file, first, tag::GPS).unwrap_or_default(),
        verbatim: None,
    };
    let mut metadata = Metadata {
        exif: exif_block(&tags),
        ..Metadata::default()
    };
    if first.has(tag::SUB_IFDS) {
        metadata
            .notes
            .push("its previews still show the original image".into());
    }
    metadata
}

/// The number of bytes of the file that have to stay: all of it, or the part before the old samples if nothing else
/// follows them.
fn kept(file: &mut Container<Memory>, raw_at: u64, places: &[(u64, u64)]) -> u64 {
    /// Number of bytes that may lie between strips or tiles, for each of them.
    const GAP: u64 = 64;
    let Some(start) = places.iter().map(|&(at, _)| at).min() else {
        return file.bytes;
    };
    let length: u64 = places.iter().map(|&(_, length)| length).sum();
    let gaps = GAP * places.len() as u64;
    let is_tail = file
        .bytes
        .checked_sub(start)
        .is_some_and(|tail| tail <= length.saturating_add(gaps));
    let reach = if is_tail {
        reach(file, raw_at).unwrap_or(u64::MAX)
    } else {
        u64::MAX
    };
    if reach <= start { start } else { file.bytes }
}

/// The end of everything that directories point to, except the samples of one of them.
fn reach(file: &mut Container<Memory>, raw_at: u64) -> Decoded<u64> {
    let mut reach = 0;
    let mut left = vec![file.first];
    let mut seen = BTreeSet::new();
    while let Some(at) = left.pop() {
        if at == 0 || !seen.insert(at) {
            continue;
        }
        let directory = file.directory(at)?;
        reach = reach.max(directory.reach(at, file.is_big));
        left.push(directory.next);
        for tag in [tag::SUB_IFDS, tag::EXIF, tag::GPS, tag::INTEROPERABILITY] {
            left.extend(file.numbers(&directory, tag)?.unwrap_or_default());
        }
        if at == raw_at {
            continue;
        }
        for (offsets, lengths) in [
            (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS),
            (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS),
            (tag::JPEG_INTERCHANGE, tag::JPEG_INTERCHANGE_LENGTH),
        ] {
            let offsets = file.numbers(&directory, offsets)?.unwrap_or_default();
            let lengths = file.numbers(&directory, lengths)?.unwrap_or_default();
            for (at, length) in offsets.iter().zip(lengths) {
                reach = reach.max(at.saturating_add(length));
            }
        }
    }
    Ok(reach)
}

impl Decode for DngPage {
    fn next_page(&mut self) -> Decoded<Option<Page>> {
        Ok(self.page.take())
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Decoded<()> {
        let dng = &self.dng;
        let unit = dng.depth.unit();
        let nodata = self.nodata.map(|nodata| nodata as f32);
        let across = dng.area.width.div_ceil(dng.cell);
        for y in self.next..self.next + count {
            for x in 0..across {
                for place in dng.places(y, x) {
                    rows.push(match dng.raw[place] {
                        value if Some(value) == nodata => MISSING,
                        value => value / unit,
                    });
                }
            }
        }
        self.next += count;
        Ok(())
    }
}

impl Dng {
    /// The positions of the samples of a pixel of the page. Beyond the area, they are those of the previous cell.
    fn places(&self, y: usize, x: usize) -> impl Iterator<Item = usize> + '_ {
        let Area {
            top,
            left,
            height,
            width,
        } = self.area;
        let cell = self.cell;
        let within = |at: usize, side: usize| if at < side { at } else { at.saturating_sub(2) };
        let pixels = (0..cell).flat_map(move |dy| (0..cell).map(move |dx| (dy, dx)));
        pixels.flat_map(move |(dy, dx)| {
            let y = top + within(cell * y + dy, height).min(height - 1);
            let x = left + within(cell * x + dx, width).min(width - 1);
            let first = (y * self.width + x) * self.samples;
            first..first + self.samples
        })
    }

    /// Whether a pixel of the page has a sample at this place of its cell.
    fn has(&self, y: usize, x: usize, place: usize) -> bool {
        let (dy, dx) = (place / self.cell, place % self.cell);
        self.cell == 1
            || (self.cell * y + dy < self.area.height && self.cell * x + dx < self.area.width)
    }
}

/// Writes the DNG that a page was read from with the page's samples.
pub(in crate::image) fn write(
    pages: &mut dyn Pages,
    page: &Page,
    depth: Depth,
    out: &mut (impl Write + Seek),
) -> Encoded<()> {
    let Some(dng) = page.metadata.native::<Dng>() else {
        return Err(Refused::Page(
            "DNG can only store sensor data that was read from a DNG; use TIFF for other images"
                .into(),
        ));
    };
    let across = dng.area.width.div_ceil(dng.cell);
    let down = dng.area.height.div_ceil(dng.cell);
    if (page.height, page.width, depth) != (down, across, dng.depth) {
        return Err(Refused::Page(
            "DNG can only store as many samples as were read from the DNG, at the same depth; use \
             TIFF for others"
                .into(),
        ));
    }
    let mut out = Tail::new(&dng.bytes[..dng.kept as usize], out)?;
    let start = out.at;
    let row = dng.width * dng.samples;
    // The rows of the sensor that a row of the page stands for.
    let cells = |y: usize| {
        let first = dng.area.top + y * dng.cell;
        first..(first + dng.cell).min(dng.area.top + dng.area.height)
    };
    out.samples(dng, &dng.raw[..dng.area.top * row])?;
    let (mut values, mut rows) = (Vec::new(), Vec::new());
    for y in 0..down {
        values.clear();
        pages.read_rows(1, &mut values)?;
        restore_missing(&mut values, page, dng.depth);
        let covered = cells(y);
        rows.clear();
        rows.extend_from_slice(&dng.raw[covered.start * row..covered.end * row]);
        let mut values = values.iter();
        for x in 0..across {
            for (i, place) in dng.places(y, x).enumerate() {
                let Some(&value) = values.next() else { break };
                let place_in_cell = if dng.cell == 1 { 0 } else { i };
                if dng.has(y, x, place_in_cell) {
                    rows[place - covered.start * row] = match dng.depth {
                        Depth::U16 => f32::from(to_u16(value)),
                        _ => value,
                    };
                }
            }
        }
        out.samples(dng, &rows)?;
    }
    out.samples(dng, &dng.raw[(dng.area.top + dng.area.height) * row..])?;
    let length = out.at - start;

    let bits = 8 * dng.depth.bytes() as u16;
    let format = if dng.depth.is_float() { 3 } else { 1 };
    let white = dng.white.iter();
    let fields = vec![
        Field::shorts(tag::BITS_PER_SAMPLE, vec![bits; dng.samples]),
        Field::shorts(tag::COMPRESSION, [compression::NONE]),
        Field::offsets(tag::STRIP_OFFSETS, &[start], dng.is_big),
        Field::longs(tag::ROWS_PER_STRIP, [dng.height as u32]),
        Field::offsets(tag::STRIP_BYTE_COUNTS, &[length], dng.is_big),
        Field::shorts(tag::PLANAR_CONFIGURATION, [1]),
        Field::shorts(tag::SAMPLE_FORMAT, vec![format; dng.samples]),
        // Without it the white level would be that of the new bits.
        Field::longs(dng_tag::WHITE, white.map(|&white| white as u32)),
    ];
    let dropped = [
        tag::FILL_ORDER,
        tag::PREDICTOR,
        tag::TILE_WIDTH,
        tag::TILE_LENGTH,
        tag::TILE_OFFSETS,
        tag::TILE_BYTE_COUNTS,
        tag::JPEG_TABLES,
        dng_tag::LINEARIZATION,
    ];
    let dropped = [&dropped[..], &dng_tag::STALE].concat();
    let raw_at = out.directory(dng, dng.raw_at, &dropped, fields)?;
    let first_at = if dng.raw_at == dng.first_at {
        raw_at
    } else {
        let mut file = Container::open(Cursor::new(Arc::clone(&dng.bytes)))?;
        let first = file.directory(dng.first_at)?;
        let mut places = file.numbers(&first, tag::SUB_IFDS)?.unwrap_or_default();
        for place in &mut places {
            if *place == dng.raw_at {
                *place = raw_at;
            }
        }
        let fields = vec![Field::offsets(tag::SUB_IFDS, &places, dng.is_big)];
        out.directory(dng, dng.first_at, &dng_tag::STALE, fields)?
    };
    Ok(out.link(dng, first_at)?)
}

/// The data written after the part of a file that stays.
struct Tail<'a, W> {
    out: &'a mut W,
    at: u64,
}

impl<'a, W: Write + Seek> Tail<'a, W> {
    fn new(kept: &[u8], out: &'a mut W) -> io::Result<Self> {
        out.write_all(kept)?;
        let mut tail = Self {
            out,
            at: kept.len() as u64,
        };
        tail.align()?;
        Ok(tail)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn align(&mut self) -> io::Result<()> {
        let wanted = self.at.next_multiple_of(8);
        self.bytes(&[0; 8][..(wanted - self.at) as usize])
    }

    fn samples(&mut self, dng: &Dng, samples: &[f32]) -> io::Result<()> {
        let mut bytes: Vec<u8> = match dng.depth {
            Depth::U16 => samples
                .iter()
                .flat_map(|&x| (x as u16).to_ne_bytes())
                .collect(),
            _ => samples.iter().flat_map(|&x| x.to_ne_bytes()).collect(),
        };
        swap(&mut bytes, dng.depth.bytes(), Order::NATIVE, dng.order);
        self.bytes(&bytes)
    }

    /// Writes a directory again, without some fields and with others in their place, and returns its offset. The data
    /// that its other fields point to stay where they were.
    fn directory(
        &mut self,
        dng: &Dng,
        at: u64,
        dropped: &[u16],
        new: Vec<Field>,
    ) -> io::Result<u64> {
        let (count_size, entry_size) = if dng.is_big { (8, 20) } else { (2, 12) };
        let old = &dng.bytes[at as usize..];
        let count = dng.order.number(&old[..count_size]) as usize;
        let (old, behind) = old[count_size..].split_at(count * entry_size);
        // Without the offset of the next directory, which the last one of a file may lack, none follows.
        let size = if dng.is_big { 8 } else { 4 };
        let next = behind.get(..size).unwrap_or(&[0; 8][..size]);
        let mut entries = BTreeMap::new();
        for entry in old.chunks_exact(entry_size) {
            let tag = dng.order.number(&entry[..2]) as u16;
            if !dropped.contains(&tag) {
                entries.insert(tag, entry.to_vec());
            }
        }
        for field in new {
            let tag = field.tag;
            let (entry, value) = field.entry(dng.order, dng.is_big);
            let mut entry = entry;
            if let Some(value) = value {
                self.align()?;
                entry.extend(dng.order.offset(self.at, dng.is_big));
                self.bytes(&value)?;
            }
            entries.insert(tag, entry);
        }
        self.align()?;
        let place = self.at;
        let count = entries.len() as u64;
        if dng.is_big {
            self.bytes(&dng.order.bytes::<8>(count))?;
        } else {
            self.bytes(&dng.order.bytes::<2>(count))?;
        }
        self.bytes(&entries.into_values().collect::<Vec<_>>().concat())?;
        self.bytes(next)?;
        Ok(place)
    }

    /// Makes the file begin with another first directory.
    fn link(self, dng: &Dng, first: u64) -> io::Result<()> {
        if !dng.is_big && self.at > u64::from(u32::MAX) {
            return Err(too_large());
        }
        let place = if dng.is_big { 8 } else { 4 };
        self.out.seek(SeekFrom::Start(place))?;
        self.out.write_all(&dng.order.offset(first, dng.is_big))?;
        self.out.seek(SeekFrom::Start(self.at))?;
        Ok(())
    }
}
