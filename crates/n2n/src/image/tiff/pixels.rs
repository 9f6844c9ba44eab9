//! From strips and tiles to rows of samples: how a page is cut, how its samples are packed, and what
//! they mean.

use std::io::{BufRead, Seek};

use half::f16;

use super::super::metadata::MISSING;
use super::super::reader::{Decoded, Fault, Limits, check_pixels, from_u8, from_u16};
use super::super::{Depth, jpeg2000};
use super::codec::{
    APERIO_YCBCR, Codec, Expected, compression, is_jpeg_2000, reverse_bits, unsupported,
};
use super::directory::{Container, Directory, Order, swap};
use super::ljpeg;
use super::{photometric, tag};

/// How a page is stored.
pub(super) struct Layout {
    pub(super) height: usize,
    pub(super) width: usize,
    /// Samples of a pixel in the file.
    pub(super) samples: usize,
    /// Samples of a pixel as it is handed out: more, if the file has a palette.
    pub(super) given: usize,
    /// Bits of a sample in the file.
    pub(super) bits: u16,
    pub(super) sample: Sample,
    pub(super) photometric: u16,
    pub(super) planar: bool,
    /// Whether integers of 8 or 16 bits count from white, and are handed out inverted.
    pub(super) white_is_zero: bool,
    /// Images that lie one behind the other where the first is said to be.
    frames: u64,
    /// Bytes of one of them.
    frame_bytes: u64,
    codec: Codec,
    predictor: u64,
    order: Order,
    is_tiled: bool,
    /// Pixels of a strip or tile, across and down.
    chunk: (usize, usize),
    across: usize,
    offsets: Vec<u64>,
    lengths: Vec<u64>,
    /// Red, green and blue, or gray alone, of each index.
    palette: Vec<Vec<u8>>,
    /// Pixels that share a chroma sample, across and down, where luma and chroma are stored.
    chroma: Option<(usize, usize)>,
    /// What samples that are not stored are, and those that are none.
    nodata: Option<f64>,
}

/// The type of a sample in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sample {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F16,
    F32,
    F64,
}

impl Sample {
    fn of(format: u64, bits: u16) -> Option<Self> {
        Some(match (format, bits) {
            // Data of unknown type are integers to every other program.
            (1 | 4, 1..=8) => Self::U8,
            (1 | 4, 9..=16) => Self::U16,
            (1 | 4, 17..=32) => Self::U32,
            (2, 8) => Self::I8,
            (2, 16) => Self::I16,
            (2, 32) => Self::I32,
            (3, 16) => Self::F16,
            (3, 32) => Self::F32,
            (3, 64) => Self::F64,
            _ => return None,
        })
    }

    pub(super) fn depth(self) -> Depth {
        match self {
            Self::U8 => Depth::U8,
            Self::I8 => Depth::I8,
            Self::U16 => Depth::U16,
            Self::I16 => Depth::I16,
            Self::U32 => Depth::U32,
            Self::I32 => Depth::I32,
            Self::F16 | Self::F32 => Depth::F32,
            Self::F64 => Depth::F64,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Appends the values of samples as pages give them, those that are `nodata` as missing.
    fn append(self, bytes: &[u8], nodata: Option<f64>, values: &mut Vec<f32>) {
        let start = values.len();
        match self {
            Self::U8 => values.extend(bytes.iter().map(|&byte| from_u8(byte))),
            Self::I8 => values.extend(bytes.iter().map(|&byte| f32::from(byte as i8))),
            Self::U16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| from_u16(u16::from_ne_bytes(word))));
            }
            Self::I16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f32::from(i16::from_ne_bytes(word))));
            }
            Self::F32 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f32::from_ne_bytes(word)));
            }
            Self::F16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f16::from_ne_bytes(word).to_f32()));
            }
            Self::U32 | Self::I32 | Self::F64 => {
                let mut wide = Vec::new();
                self.append_wide(bytes, &mut wide);
                values.extend(wide.into_iter().map(|value| value as f32));
            }
        }
        let Some(nodata) = nodata else { return };
        if matches!(self, Self::U32 | Self::I32 | Self::F64) {
            let mut wide = Vec::new();
            self.append_wide(bytes, &mut wide);
            let pairs = values[start..].iter_mut().zip(wide);
            pairs.for_each(|(value, wide)| {
                if wide == nodata {
                    *value = MISSING;
                }
            });
            return;
        }
        let unit = f64::from(self.depth().unit());
        let missing = if unit > 1.0 {
            // The same division as that of the samples.
            nodata as f32 / unit as f32
        } else {
            nodata as f32
        };
        for value in &mut values[start..] {
            if *value == missing {
                *value = MISSING;
            }
        }
    }

    /// Appends the values of samples in their own units, all of them exactly.
    fn append_wide(self, bytes: &[u8], values: &mut Vec<f64>) {
        match self {
            Self::U8 => values.extend(bytes.iter().map(|&byte| f64::from(byte))),
            Self::I8 => values.extend(bytes.iter().map(|&byte| f64::from(byte as i8))),
            Self::U16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f64::from(u16::from_ne_bytes(word))));
            }
            Self::I16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f64::from(i16::from_ne_bytes(word))));
            }
            Self::U32 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f64::from(u32::from_ne_bytes(word))));
            }
            Self::I32 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f64::from(i32::from_ne_bytes(word))));
            }
            Self::F16 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f16::from_ne_bytes(word).to_f64()));
            }
            Self::F32 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f64::from(f32::from_ne_bytes(word))));
            }
            Self::F64 => {
                let words = bytes.as_chunks().0.iter();
                values.extend(words.map(|&word| f64::from_ne_bytes(word)));
            }
        }
    }
}

/// Reads what a directory says of its pixels, and refuses what is not understood.
impl Layout {
    pub(super) fn of<S: BufRead + Seek>(
        file: &mut Container<S>,
        directory: &Directory,
        limits: Limits,
        nodata: Option<f64>,
    ) -> Decoded<Self> {
        let mut number = |tag: u16, default: u64| {
            let number = file.number(directory, tag)?;
            Ok::<_, Fault>(number.unwrap_or(default))
        };
        let (width, height) = (number(tag::WIDTH, 0)?, number(tag::LENGTH, 0)?);
        let (width, height) = (width as usize, height as usize);
        check_pixels(limits, height, width)?;
        check_depth(number(tag::IMAGE_DEPTH, 1)?)?;
        let samples = number(tag::SAMPLES_PER_PIXEL, 1)? as usize;
        if samples == 0 || samples > usize::from(u16::MAX) {
            return Err(Fault::new(format!("its pixels have {samples} samples")));
        }
        let planar = number(tag::PLANAR_CONFIGURATION, 1)? == 2 && samples > 1;
        let predictor = number(tag::PREDICTOR, 1)?;
        let reversed = number(tag::FILL_ORDER, 1)? == 2;
        let compression = number(tag::COMPRESSION, 1)? as u16;
        let is_2d = number(tag::T4_OPTIONS, 0)? & 1 == 1;

        let (bits, sample) = samples_of(file, directory, samples)?;
        let jpeg_tables = file.field(directory, tag::JPEG_TABLES)?;
        let codec = Codec {
            compression,
            reversed,
            jpeg_tables: jpeg_tables.map_or_else(Vec::new, |field| field.bytes),
            is_2d,
        };
        codec.check(bits)?;
        if compression == compression::OLD_JPEG && samples > 1 && planar {
            return Err(unsupported("JPEG as in TIFF 6.0, in this form"));
        }

        let is_tiled = directory.has(tag::TILE_WIDTH);
        let (chunk, offsets, lengths) = places(file, directory, (height, width), compression)?;
        let across = width.div_ceil(chunk.0);
        let planes = if planar { samples } else { 1 };
        check_count(offsets.len(), (across, height.div_ceil(chunk.1), planes))?;
        let photometric = colors(file, directory, samples)?;
        // Of a lossless JPEG they are what they are, whatever the directory says.
        let is_lossless = compression == compression::JPEG
            && photometric == photometric::YCBCR
            && begins_lossless(file, &offsets, &lengths);
        let photometric = match compression {
            _ if is_lossless => photometric::RGB,
            APERIO_YCBCR if samples == 3 => photometric::YCBCR,
            _ => photometric,
        };
        let is_packed = compression != compression::NONE;
        let is_jpeg = matches!(compression, compression::JPEG | compression::OLD_JPEG)
            || is_jpeg_2000(compression);
        let chroma = (photometric == photometric::YCBCR && compression != compression::WEBP)
            .then(|| subsampling(file, directory, (bits, samples, planar), is_jpeg))
            .transpose()?;
        check_colors(photometric)?;
        let palette = if photometric == photometric::PALETTE && bits <= 16 {
            palette(file, directory, bits)?
        } else {
            Vec::new()
        };
        let (given, sample) = match palette.first() {
            Some(color) => (color.len() + samples - 1, Sample::U8),
            None => (samples, sample),
        };
        // Of other types it is not known which value is white; they stay what they are.
        let white_is_zero = photometric == photometric::WHITE_IS_ZERO
            && samples == 1
            && (sample == Sample::U8 || sample == Sample::U16 && bits == 16);
        let predictor = if is_packed && !is_jpeg {
            check_predictor(predictor, bits, sample)?;
            predictor
        } else {
            1
        };
        let row_bytes = (width as u64)
            .checked_mul(samples as u64 * u64::from(bits))
            .map(|bits| bits.div_ceil(8));
        let frame_bytes = row_bytes.and_then(|row| row.checked_mul(height as u64));
        let layout = Self {
            height,
            width,
            samples,
            given,
            bits,
            sample,
            photometric,
            planar,
            white_is_zero,
            frames: 1,
            frame_bytes: frame_bytes.unwrap_or(u64::MAX),
            predictor: if is_packed && !is_jpeg { predictor } else { 1 },
            codec,
            order: file.order,
            is_tiled,
            chunk,
            across,
            offsets,
            lengths,
            palette,
            chroma,
            nodata: nodata.filter(|_| bits >= 8 && !white_is_zero),
        };
        if !layout.is_raw() {
            layout.check_chunk(limits)?;
        }
        Ok(layout)
    }

    /// Where strips or tiles begin, and how long they are.
    pub(super) fn places(&self) -> Vec<(u64, u64)> {
        let places = self.offsets.iter().zip(&self.lengths);
        places.map(|(&at, &length)| (at, length)).collect()
    }

    pub(super) fn compression(&self) -> u16 {
        self.codec.compression
    }

    /// Samples of a row as they are handed out.
    pub(super) fn row(&self) -> usize {
        self.width * self.given
    }

    fn set_frames(&mut self, frames: u64, file_bytes: u64) -> Decoded<()> {
        let first = self.offsets.first().copied().unwrap_or(0);
        let all = self.frame_bytes.checked_mul(frames);
        let end = all.and_then(|all| all.checked_add(first));
        let follow = self.offsets.iter().zip(&self.lengths);
        let is_one = follow
            .clone()
            .zip(self.offsets.iter().skip(1))
            .all(|((at, length), next)| at.checked_add(*length) == Some(*next));
        if !self.is_raw() || !is_one {
            return Err(Fault::new(format!(
                "it declares {frames} images in one directory, but does not store them \
                 contiguously"
            )));
        }
        if end.is_none_or(|end| end > file_bytes) {
            return Err(Fault::new(format!(
                "it declares {frames} images in one directory, but is too short for them"
            )));
        }
        self.frames = frames;
        Ok(())
    }

    /// Whether single rows can be read: strips that are stored as they are.
    fn is_raw(&self) -> bool {
        self.codec.compression == compression::NONE
            && !self.is_tiled
            && !self.planar
            && self.chroma.is_none()
    }

    /// Refuses a row of strips or tiles that does not go into memory.
    fn check_chunk(&self, limits: Limits) -> Decoded<()> {
        let (across, down) = (
            self.across as u64 * self.chunk.0 as u64,
            self.chunk.1 as u64,
        );
        let values = across.checked_mul(down);
        let values = values.and_then(|pixels| pixels.checked_mul(self.samples as u64));
        if values.is_none_or(|values| values > limits.samples) {
            return Err(Fault::new(format!(
                "its strips or tiles have {down} rows of {across} pixels with {} channels, which \
                 must be in memory together: more than the limit of {} values",
                self.samples, limits.samples
            )));
        }
        Ok(())
    }
}

/// Bits of a sample, and its type in memory.
fn samples_of<S: BufRead + Seek>(
    file: &mut Container<S>,
    directory: &Directory,
    samples: usize,
) -> Decoded<(u16, Sample)> {
    let bits = file.numbers(directory, tag::BITS_PER_SAMPLE)?;
    let bits = bits.unwrap_or_else(|| vec![1]);
    let formats = file.numbers(directory, tag::SAMPLE_FORMAT)?;
    let formats = formats.unwrap_or_else(|| vec![1]);
    let differ = |values: &[u64]| values.iter().take(samples).any(|value| *value != values[0]);
    if differ(&bits) || differ(&formats) {
        return Err(Fault::new(format!(
            "its samples have different types: {bits:?} bits"
        )));
    }
    let (bits, format) = (bits[0] as u16, formats[0]);
    let sample = Sample::of(format, bits).ok_or_else(|| {
        let words = match format {
            1 | 4 => "unsigned integers",
            2 => "signed integers",
            3 => "floats",
            5 | 6 => "complex numbers",
            _ => "of an unknown type",
        };
        Fault::new(format!(
            "its samples are {bits} bits, {words}; supported are unsigned integers of 1 to 32 \
             bits, signed ones of 8, 16 and 32, and floats of 16, 32 and 64"
        ))
    })?;
    Ok((bits, sample))
}

/// The size of a strip or tile, where each begins, and how long it is.
#[allow(clippy::type_complexity)]
fn places<S: BufRead + Seek>(
    file: &mut Container<S>,
    directory: &Directory,
    (height, width): (usize, usize),
    compression: u16,
) -> Decoded<((usize, usize), Vec<u64>, Vec<u64>)> {
    let missing = || Fault::new("it does not say where its pixels are");
    let tiles = directory.has(tag::TILE_WIDTH);
    let chunk = if tiles {
        let across = file.number(directory, tag::TILE_WIDTH)?.unwrap_or(0);
        let down = file.number(directory, tag::TILE_LENGTH)?.unwrap_or(0);
        (across as usize, down as usize)
    } else {
        let rows = file.number(directory, tag::ROWS_PER_STRIP)?;
        let rows = rows.map_or(height, |rows| rows.min(height as u64) as usize);
        (width, rows)
    };
    if chunk.0 == 0 || chunk.1 == 0 {
        return Err(Fault::new("its strips or tiles are empty"));
    }
    if compression == compression::OLD_JPEG && directory.has(tag::JPEG_INTERCHANGE) {
        // One JPEG for all, whatever the strips are said to be.
        let start = file.number(directory, tag::JPEG_INTERCHANGE)?.unwrap_or(0);
        let length = file.number(directory, tag::JPEG_INTERCHANGE_LENGTH)?;
        let length = length.unwrap_or(file.bytes.saturating_sub(start));
        return Ok(((width, height), vec![start], vec![length]));
    }
    let (offsets, lengths) = if directory.has(tag::TILE_OFFSETS) {
        (tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS)
    } else {
        (tag::STRIP_OFFSETS, tag::STRIP_BYTE_COUNTS)
    };
    let offsets = file.numbers(directory, offsets)?.ok_or_else(missing)?;
    let mut lengths = file.numbers(directory, lengths)?.unwrap_or_default();
    if lengths.len() < offsets.len() {
        // Old programs leave them out: everything up to the end may belong to a strip.
        let rest = offsets[lengths.len()..].iter();
        let rest = rest.map(|at| file.bytes.saturating_sub(*at));
        lengths.extend(rest.collect::<Vec<_>>());
    }
    Ok((chunk, offsets, lengths))
}

/// Refuses a volume in one page.
fn check_depth(slices: u64) -> Decoded<()> {
    if slices == 1 {
        return Ok(());
    }
    Err(Fault::new(format!(
        "it is a volume of {slices} slices in one page (ImageDepth), which is not supported"
    )))
}

/// Refuses colors that are not understood.
fn check_colors(photometric: u16) -> Decoded<()> {
    let reason = match photometric {
        photometric::CIE_LAB | photometric::ITU_LAB => {
            "its color space, CIE L*a*b*, is not supported"
        }
        photometric::LOG_L | photometric::LOG_LUV => {
            "its color space, the logarithm of luminance, is not supported"
        }
        _ => return Ok(()),
    };
    Err(Fault::new(reason))
}

/// What the samples of a pixel are said to be.
fn colors<S: BufRead + Seek>(
    file: &mut Container<S>,
    directory: &Directory,
    samples: usize,
) -> Decoded<u16> {
    let default = if samples < 3 {
        photometric::BLACK_IS_ZERO
    } else {
        photometric::RGB
    };
    let found = file.number(directory, tag::PHOTOMETRIC)?;
    Ok(found.map_or(default, |found| found as u16))
}

/// Whether the first strip or tile is a lossless JPEG.
fn begins_lossless<S: BufRead + Seek>(
    file: &mut Container<S>,
    offsets: &[u64],
    lengths: &[u64],
) -> bool {
    /// More than stands before the frame header.
    const MOST: u64 = 1 << 16;
    let place = offsets.first().zip(lengths.first());
    let start = place.map(|(&at, &length)| file.read(at, length.min(MOST) as usize));
    start.is_some_and(|start| start.is_ok_and(|start| ljpeg::is_lossless(&start)))
}

/// Refuses lossy JPEG of other than 8 bits.
fn check_jpeg(bits: u16) -> Decoded<()> {
    if bits == 8 {
        return Ok(());
    }
    Err(unsupported(&format!("JPEG with {bits} bits per sample")))
}

/// Refuses a predictor that is not one for such samples.
fn check_predictor(predictor: u64, bits: u16, sample: Sample) -> Decoded<()> {
    let known = match predictor {
        1 => true,
        2 => matches!(bits, 8 | 16 | 32 | 64),
        3 => matches!(sample, Sample::F16 | Sample::F32 | Sample::F64),
        _ => false,
    };
    if known {
        return Ok(());
    }
    Err(Fault::new(format!(
        "its predictor, {predictor}, is not one for {bits} bits"
    )))
}

/// Refuses a page that lacks strips or tiles.
fn check_count(found: usize, (across, down, planes): (usize, usize, usize)) -> Decoded<()> {
    let needed = across.checked_mul(down).and_then(|n| n.checked_mul(planes));
    if needed.is_some_and(|needed| found >= needed) {
        return Ok(());
    }
    Err(Fault::new(format!(
        "it lists {found} strips or tiles; expected {across} x {down} x {planes}"
    )))
}

/// Pixels that share a chroma sample.
fn subsampling<S: BufRead + Seek>(
    file: &mut Container<S>,
    directory: &Directory,
    (bits, samples, planar): (u16, usize, bool),
    is_jpeg: bool,
) -> Decoded<(usize, usize)> {
    if bits != 8 || samples != 3 {
        return Err(Fault::new(format!(
            "it stores luma and chroma as {samples} samples of {bits} bits; only three of 8 are \
             supported"
        )));
    }
    // A JPEG says it of itself.
    if is_jpeg {
        return Ok((1, 1));
    }
    let found = file.numbers(directory, tag::YCBCR_SUBSAMPLING)?;
    let found = found.unwrap_or_else(|| vec![2, 2]);
    match (found.as_slice(), planar) {
        ([1, 1], _) => Ok((1, 1)),
        (&[h @ (1 | 2 | 4), v @ (1 | 2 | 4)], false) => Ok((h as usize, v as usize)),
        (_, true) => Err(Fault::new("it stores chroma in smaller planes than luma")),
        _ => Err(Fault::new(format!("its chroma is subsampled by {found:?}"))),
    }
}

/// The colors of a palette, as 8 bits: gray alone, if they all are.
fn palette<S: BufRead + Seek>(
    file: &mut Container<S>,
    directory: &Directory,
    bits: u16,
) -> Decoded<Vec<Vec<u8>>> {
    let map = file.numbers(directory, tag::COLOR_MAP)?.unwrap_or_default();
    let count = 1 << bits;
    if map.len() < 3 * count {
        return Err(Fault::new(format!(
            "its palette has {} values; expected {}",
            map.len(),
            3 * count
        )));
    }
    // Some programs write the bytes as they are.
    let shift = if map.iter().any(|value| *value > 255) {
        8
    } else {
        0
    };
    let byte = |plane: usize, i: usize| (map[plane * count + i] >> shift) as u8;
    let colors: Vec<[u8; 3]> = (0..count)
        .map(|i| [0, 1, 2].map(|plane| byte(plane, i)))
        .collect();
    let is_gray = colors.iter().all(|[r, g, b]| r == g && g == b);
    Ok(colors
        .into_iter()
        .map(|color| {
            if is_gray {
                vec![color[0]]
            } else {
                color.to_vec()
            }
        })
        .collect())
}

/// The rows of a page, from the top.
pub(super) struct Rows {
    layout: Layout,
    /// Which of several frames.
    frame: u64,
    /// The next row, decoded or read.
    next: usize,
    /// Decoded rows, and how many bytes of them have been read.
    ready: Vec<u8>,
    read: usize,
}

impl Rows {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            frame: 0,
            next: 0,
            ready: Vec::new(),
            read: 0,
        }
    }

    /// Says that so many frames lie where the directory places one, if they do.
    pub(super) fn set_frames(&mut self, frames: u64, file_bytes: u64) -> Decoded<()> {
        self.layout.set_frames(frames, file_bytes)
    }

    /// Goes on to the next of several frames, if there is one.
    pub(super) fn next_frame(&mut self) -> bool {
        if self.frame + 1 >= self.layout.frames {
            return false;
        }
        (self.frame, self.next, self.read) = (self.frame + 1, 0, 0);
        self.ready.clear();
        true
    }

    /// Appends the next `count` rows as pages give them.
    pub(super) fn read_rows<S: BufRead + Seek>(
        &mut self,
        file: &mut Container<S>,
        count: usize,
        values: &mut Vec<f32>,
    ) -> Decoded<()> {
        let (sample, nodata) = (self.layout.sample, self.layout.nodata);
        values.reserve(count * self.layout.row());
        self.each(file, count, |bytes| sample.append(bytes, nodata, values))
    }

    /// Appends the next `count` rows in their own units.
    pub(super) fn read_wide<S: BufRead + Seek>(
        &mut self,
        file: &mut Container<S>,
        count: usize,
        values: &mut Vec<f64>,
    ) -> Decoded<()> {
        let sample = self.layout.sample;
        self.each(file, count, |bytes| sample.append_wide(bytes, values))
    }

    /// Gives the samples of the next `count` rows, in the byte order of this machine.
    fn each<S: BufRead + Seek>(
        &mut self,
        file: &mut Container<S>,
        count: usize,
        mut give: impl FnMut(&[u8]),
    ) -> Decoded<()> {
        let row = self.layout.row() * self.layout.sample.bytes();
        let mut wanted = count * row;
        while wanted > 0 {
            if self.read == self.ready.len() {
                self.read = 0;
                self.ready.clear();
                if self.layout.is_raw() {
                    self.read_row(file)?;
                } else {
                    self.decode_chunks(file)?;
                }
            }
            let ready = &self.ready[self.read..];
            let now = wanted.min(ready.len());
            give(&ready[..now]);
            self.read += now;
            wanted -= now;
        }
        Ok(())
    }

    /// Reads the next row straight from the file.
    fn read_row<S: BufRead + Seek>(&mut self, file: &mut Container<S>) -> Decoded<()> {
        let layout = &self.layout;
        let (strip, below) = (self.next / layout.chunk.1, self.next % layout.chunk.1);
        let row = (layout.width * layout.samples * usize::from(layout.bits)).div_ceil(8);
        let frame = self.frame.checked_mul(layout.frame_bytes);
        let place = layout
            .offsets
            .get(strip)
            .zip(frame)
            .and_then(|(at, frame)| at.checked_add((below * row) as u64)?.checked_add(frame));
        let place =
            place.ok_or_else(|| Fault::new("one of its strips has no position in the file"))?;
        let mut bytes = if layout.offsets[strip] == 0 && layout.lengths[strip] == 0 {
            vec![]
        } else {
            file.read(place, row)?
        };
        if layout.codec.reversed {
            reverse_bits(&mut bytes);
        }
        if bytes.is_empty() {
            layout.fill(layout.width * layout.samples, &mut self.ready);
        } else {
            layout.unpack(
                &mut bytes,
                (layout.width, 1, layout.samples),
                &mut self.ready,
            );
        }
        if let Some(color) = layout.expanded(&self.ready) {
            self.ready = color?;
        }
        self.next += 1;
        Ok(())
    }

    /// Decodes the next row of strips or tiles.
    fn decode_chunks<S: BufRead + Seek>(&mut self, file: &mut Container<S>) -> Decoded<()> {
        let layout = &self.layout;
        let (across, down) = layout.chunk;
        let first = self.next / down;
        let height = down.min(layout.height - self.next);
        let planes = if layout.planar { layout.samples } else { 1 };
        let per_pixel = layout.samples / planes;
        let size = layout.sample_bytes();
        let mut ready = vec![0; height * layout.width * layout.samples * size];
        let mut samples = Vec::new();
        for plane in 0..planes {
            for column in 0..layout.across {
                let of_plane = layout.across * layout.height.div_ceil(down);
                let at = plane * of_plane + first * layout.across + column;
                // A strip holds no more rows than there are.
                let rows = if layout.is_tiled { down } else { height };
                samples.clear();
                layout.decode_chunk(file, at, (across, rows, per_pixel), &mut samples)?;
                let left = column * across;
                let width = across.min(layout.width - left);
                for y in 0..height {
                    let from =
                        &samples[y * across * per_pixel * size..][..width * per_pixel * size];
                    let to = (y * layout.width + left) * layout.samples * size;
                    if planes == 1 {
                        ready[to..to + from.len()].copy_from_slice(from);
                    } else {
                        let to = ready[to + plane * size..].chunks_mut(layout.samples * size);
                        for (to, from) in to.zip(from.chunks_exact(size)) {
                            to[..size].copy_from_slice(from);
                        }
                    }
                }
            }
        }
        if layout.chroma.is_some() {
            ready.as_chunks_mut().0.iter_mut().for_each(to_rgb);
        }
        self.ready = match layout.expanded(&ready) {
            Some(colors) => colors?,
            None => ready,
        };
        self.next += height;
        Ok(())
    }
}

impl Layout {
    /// Bytes of a sample in memory, before a palette.
    fn sample_bytes(&self) -> usize {
        if self.palette.is_empty() {
            self.sample.bytes()
        } else if self.bits <= 8 {
            1
        } else {
            2
        }
    }

    /// The samples of a strip or tile of so many pixels across and down, of so many samples each.
    fn decode_chunk<S: BufRead + Seek>(
        &self,
        file: &mut Container<S>,
        at: usize,
        size @ (width, height, samples): (usize, usize, usize),
        out: &mut Vec<u8>,
    ) -> Decoded<()> {
        let (Some(&place), Some(&length)) = (self.offsets.get(at), self.lengths.get(at)) else {
            return Err(Fault::new(
                "one of its strips or tiles has no position in the file",
            ));
        };
        if place == 0 && length == 0 {
            self.fill(width * height * samples, out);
            return Ok(());
        }
        let (h, v) = self.chroma.unwrap_or((1, 1));
        let subsampled = (h, v) != (1, 1);
        let bytes = if subsampled {
            width.div_ceil(h) * height.div_ceil(v) * (h * v + 2)
        } else {
            (width * samples * usize::from(self.bits)).div_ceil(8) * height
        };
        let length = if self.codec.compression == compression::NONE {
            bytes as u64
        } else if place <= file.bytes && length > file.bytes - place {
            return Err(Fault::new("the file ends before the image does"));
        } else {
            length
        };
        let packed = file.read(place, usize::try_from(length).unwrap_or(usize::MAX))?;
        let expected = Expected {
            width,
            height,
            samples,
            bytes,
        };
        if self.codec.compression == compression::JPEG {
            if ljpeg::is_lossless(&packed) {
                return self.lossless(&packed, expected, out);
            }
            check_jpeg(self.bits)?;
        }
        if is_jpeg_2000(self.codec.compression) {
            return self.jpeg_2000(&packed, expected, out);
        }
        let mut bytes = self.codec.decode(packed, expected)?;
        if subsampled {
            bytes = upsampled(&bytes, (width, height), (h, v));
        }
        self.unpack(&mut bytes, size, out);
        Ok(())
    }

    /// The samples of a lossless JPEG, which come as numbers.
    fn lossless(&self, packed: &[u8], expected: Expected, out: &mut Vec<u8>) -> Decoded<()> {
        let Expected {
            width,
            height,
            samples,
            ..
        } = expected;
        // Encoders may pad by some rows or columns.
        let decoded = ljpeg::decode(packed, 2 * (width + 64) * (height + 64) * samples)?;
        let (row, given) = (width * samples, decoded.width * decoded.components);
        let is_rows = given >= row && decoded.height >= height;
        // Columns are often shared out among components, and rows are put side by side.
        let is_all = decoded.samples.len() == row * height;
        if !is_rows && !is_all {
            return Err(Fault::new(format!(
                "one of its lossless JPEGs is {}x{} with {} components; expected {width}x{height} \
                 with {samples}",
                decoded.width, decoded.height, decoded.components
            )));
        }
        let rows = decoded
            .samples
            .chunks_exact(if is_all { row } else { given });
        self.append_numbers(rows.take(height).map(|given| &given[..row]), out)
    }

    /// The samples of a JPEG 2000 codestream, which come as numbers.
    fn jpeg_2000(&self, packed: &[u8], expected: Expected, out: &mut Vec<u8>) -> Decoded<()> {
        let Expected {
            width,
            height,
            samples,
            ..
        } = expected;
        // The last strip or tile may be padded.
        let tile = jpeg2000::tile(packed, self.bits, (width + 64) * (height + 64) * samples)?;
        if tile.width < width || tile.height < height || tile.components != samples {
            return Err(Fault::new(format!(
                "one of its JPEG 2000 tiles is {}x{} with {} components; expected {width}x{height} with \
                 {samples}",
                tile.width, tile.height, tile.components
            )));
        }
        let rows = tile.samples.chunks_exact(tile.width * samples);
        self.append_numbers(rows.take(height).map(|row| &row[..width * samples]), out)
    }

    /// Appends samples that a codec gave as numbers.
    fn append_numbers<'a>(
        &self,
        rows: impl Iterator<Item = &'a [u16]>,
        out: &mut Vec<u8>,
    ) -> Decoded<()> {
        let start = out.len();
        for row in rows {
            match self.sample_bytes() {
                1 => out.extend(row.iter().map(|&sample| sample as u8)),
                2 => out.extend(row.iter().flat_map(|sample| sample.to_ne_bytes())),
                _ => {
                    return Err(Fault::new(
                        "its samples are wider than those its compression stores",
                    ));
                }
            }
        }
        if self.white_is_zero {
            out[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(())
    }

    /// Samples that are not stored.
    fn fill(&self, count: usize, out: &mut Vec<u8>) {
        let value = self.nodata.unwrap_or(0.0);
        let sample: Vec<u8> = match self.sample {
            _ if !self.palette.is_empty() => vec![0; self.sample_bytes()],
            Sample::U8 => vec![value as u8],
            Sample::I8 => vec![value as i8 as u8],
            Sample::U16 => (value as u16).to_ne_bytes().into(),
            Sample::I16 => (value as i16).to_ne_bytes().into(),
            Sample::U32 => (value as u32).to_ne_bytes().into(),
            Sample::I32 => (value as i32).to_ne_bytes().into(),
            Sample::F16 => f16::from_f64(value).to_ne_bytes().into(),
            Sample::F32 => (value as f32).to_ne_bytes().into(),
            Sample::F64 => value.to_ne_bytes().into(),
        };
        out.extend(sample.repeat(count));
    }

    /// From uncompressed rows to samples of whole bytes in the order of this machine.
    fn unpack(
        &self,
        bytes: &mut [u8],
        (width, height, samples): (usize, usize, usize),
        out: &mut Vec<u8>,
    ) {
        let row = (width * samples * usize::from(self.bits)).div_ceil(8);
        let size = usize::from(self.bits / 8);
        let whole = matches!(self.bits, 8 | 16 | 32 | 64);
        for row in bytes.chunks_exact_mut(row).take(height) {
            if self.predictor == 3 {
                let joined = undo_float_differences(row, samples, size);
                row.copy_from_slice(&joined);
            } else if whole {
                swap(row, size, self.order, Order::NATIVE);
                if self.predictor == 2 {
                    undo_differences(row, samples, size);
                }
            }
            let start = out.len();
            if whole {
                out.extend_from_slice(row);
            } else {
                self.unpack_bits(row, width * samples, out);
            }
            if self.white_is_zero {
                for byte in &mut out[start..] {
                    *byte = !*byte;
                }
            }
        }
    }

    /// Samples of other than whole bytes: the first has the highest bits of the first byte. Those of
    /// fewer than eight bits, if they are no indices, become 0..255.
    fn unpack_bits(&self, row: &[u8], count: usize, out: &mut Vec<u8>) {
        let bits = usize::from(self.bits);
        let mask = (1_u64 << bits) - 1;
        let most = mask as u32;
        let scales = self.palette.is_empty();
        for i in 0..count {
            let from = i * bits;
            // Up to 31 bits lie in no more than five bytes.
            let mut window = [0; 8];
            let bytes = &row[from / 8..row.len().min(from / 8 + 5)];
            window[..bytes.len()].copy_from_slice(bytes);
            let value = u64::from_be_bytes(window) >> (64 - from % 8 - bits) & mask;
            let value = value as u32;
            match bits {
                ..8 if scales => out.push(((value * 255 + most / 2) / most) as u8),
                ..=8 => out.push(value as u8),
                9..=16 => out.extend((value as u16).to_ne_bytes()),
                _ => out.extend(value.to_ne_bytes()),
            }
        }
    }

    /// The colors of indices, if there is a palette, with what else a pixel has as 8 bits.
    fn expanded(&self, samples: &[u8]) -> Option<Decoded<Vec<u8>>> {
        if self.palette.is_empty() {
            return None;
        }
        let most = (1_u32 << self.bits) - 1;
        let mut out = Vec::with_capacity(samples.len() * self.given);
        for pixel in samples.chunks_exact(self.samples * self.sample_bytes()) {
            let sample = |i: usize| match self.sample_bytes() {
                1 => u32::from(pixel[i]),
                _ => u32::from(u16::from_ne_bytes([pixel[2 * i], pixel[2 * i + 1]])),
            };
            let Some(color) = self.palette.get(sample(0) as usize) else {
                return Some(Err(Fault::new(
                    "one of its pixels has no color in the palette",
                )));
            };
            out.extend_from_slice(color);
            let others = (1..self.samples).map(sample);
            out.extend(others.map(|value| ((value * 255 + most / 2) / most) as u8));
        }
        Some(Ok(out))
    }
}

/// Adds to each sample its neighbor on the left (TIFF 6.0, section 14).
fn undo_differences(row: &mut [u8], samples: usize, size: usize) {
    fn add<const N: usize, T>(
        row: &mut [u8],
        samples: usize,
        from: impl Fn([u8; N]) -> T,
        sum: impl Fn(T, T) -> [u8; N],
    ) {
        let values = row.as_chunks_mut::<N>().0;
        for i in samples..values.len() {
            values[i] = sum(from(values[i]), from(values[i - samples]));
        }
    }
    match size {
        1 => add(row, samples, u8::from_ne_bytes, |a, b| {
            a.wrapping_add(b).to_ne_bytes()
        }),
        2 => add(row, samples, u16::from_ne_bytes, |a, b| {
            a.wrapping_add(b).to_ne_bytes()
        }),
        4 => add(row, samples, u32::from_ne_bytes, |a, b| {
            a.wrapping_add(b).to_ne_bytes()
        }),
        _ => add(row, samples, u64::from_ne_bytes, |a, b| {
            a.wrapping_add(b).to_ne_bytes()
        }),
    }
}

/// Joins the bytes of floats, which are stored plane by plane, the highest first, as differences
/// (Adobe's Photoshop TIFF technical note 3).
fn undo_float_differences(row: &mut [u8], samples: usize, size: usize) -> Vec<u8> {
    for i in samples..row.len() {
        row[i] = row[i].wrapping_add(row[i - samples]);
    }
    let count = row.len() / size;
    let mut joined = Vec::with_capacity(row.len());
    for i in 0..count {
        for plane in 0..size {
            let plane = if Order::NATIVE == Order::Big {
                plane
            } else {
                size - 1 - plane
            };
            joined.push(row[plane * count + i]);
        }
    }
    joined
}

/// Luma and chroma for every pixel, from blocks of `h` × `v` luma samples and one of each chroma
/// (TIFF 6.0, section 21).
fn upsampled(bytes: &[u8], (width, height): (usize, usize), (h, v): (usize, usize)) -> Vec<u8> {
    let across = width.div_ceil(h);
    let mut out = vec![0; width * height * 3];
    for y in 0..height {
        for x in 0..width {
            let block = &bytes[(y / v * across + x / h) * (h * v + 2)..][..h * v + 2];
            let pixel = [block[y % v * h + x % h], block[h * v], block[h * v + 1]];
            out[(y * width + x) * 3..][..3].copy_from_slice(&pixel);
        }
    }
    out
}

/// Luma and chroma of full range to red, green and blue (ITU-T T.871).
fn to_rgb(pixel: &mut [u8; 3]) {
    let [y, cb, cr] = pixel.map(f32::from);
    let (cb, cr) = (cb - 128.0, cr - 128.0);
    let rgb = [
        y + 1.402 * cr,
        y - 0.344_136 * cb - 0.714_136 * cr,
        y + 1.772 * cb,
    ];
    *pixel = rgb.map(|value| (value + 0.5) as u8);
}
