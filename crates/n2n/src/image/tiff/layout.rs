//! How a page is stored: its samples, its strips or tiles, its colors. Rejects what is not supported.

use std::io::{BufRead, Seek};

use super::super::decode::{Decoded, Fault, Limits, check_pixels};
use super::super::ljpeg;
use super::codec::{APERIO_YCBCR, Codec, compression, is_jpeg_2000, unsupported};
use super::directory::{Container, Directory, Order};
use super::sample::Sample;
use super::tag::{self, photometric};

/// How a page is stored.
pub(super) struct Layout {
    pub(super) limits: Limits,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Number of samples of a pixel in the file.
    pub(super) samples: usize,
    /// Number of samples of a pixel as it is returned: more if the file has a palette.
    pub(super) given: usize,
    /// Bits of a sample in the file.
    pub(super) bits: u16,
    pub(super) sample: Sample,
    pub(super) photometric: u16,
    pub(super) planar: bool,
    /// Whether integers of 8 or 16 bits count from white, and are returned inverted.
    pub(super) white_is_zero: bool,
    /// Number of images stored one after another at the offset of the first.
    pub(super) frames: u64,
    /// Number of bytes of one of them.
    pub(super) frame_bytes: u64,
    pub(super) codec: Codec,
    pub(super) predictor: u64,
    pub(super) order: Order,
    pub(super) is_tiled: bool,
    /// Size of a strip or tile in pixels, horizontally and vertically.
    pub(super) chunk: (usize, usize),
    pub(super) across: usize,
    pub(super) offsets: Vec<u64>,
    pub(super) lengths: Vec<u64>,
    /// The color of each palette index: red, green and blue, or only gray.
    pub(super) palette: Vec<Vec<u8>>,
    /// Number of pixels that share a chroma sample, horizontally and vertically, if luma and chroma are stored.
    pub(super) chroma: Option<(usize, usize)>,
    /// The value of samples that are not stored, and of missing samples.
    pub(super) nodata: Option<f64>,
}

/// Reads the description of the pixels in a directory, and rejects what is not supported.
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
            return Err(Fault::new(format!("it has {samples} samples per pixel")));
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
            return Err(unsupported("old-style JPEG (TIFF 6.0) of this kind"));
        }

        let is_tiled = directory.has(tag::TILE_WIDTH);
        let (chunk, offsets, lengths) = places(file, directory, (height, width), compression)?;
        let across = width.div_ceil(chunk.0);
        let planes = if planar { samples } else { 1 };
        check_count(offsets.len(), (across, height.div_ceil(chunk.1), planes))?;
        let photometric = colors(file, directory, samples)?;
        // A lossless JPEG stores the colors without conversion, whatever the directory says.
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
        // For other types, it is not known which value is white; they are left unchanged.
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
            limits,
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
        layout.check_memory(limits, file.bytes)?;
        Ok(layout)
    }

    /// The offsets and lengths of the strips or tiles.
    pub(super) fn places(&self) -> Vec<(u64, u64)> {
        let places = self.offsets.iter().zip(&self.lengths);
        places.map(|(&at, &length)| (at, length)).collect()
    }

    pub(super) fn compression(&self) -> u16 {
        self.codec.compression
    }

    /// Number of samples of a row as it is returned.
    pub(super) fn row_len(&self) -> usize {
        self.width * self.given
    }

    pub(super) fn set_frames(&mut self, frames: u64, file_bytes: u64) -> Decoded<()> {
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

    /// Whether single rows can be read: those of uncompressed strips.
    pub(super) fn is_raw(&self) -> bool {
        self.codec.compression == compression::NONE
            && !self.is_tiled
            && !self.planar
            && self.chroma.is_none()
    }

    /// Rejects what cannot be read row by row, or one row of strips or tiles at a time.
    fn check_memory(&self, limits: Limits, file_bytes: u64) -> Decoded<()> {
        if self.is_raw() {
            self.check_rows(limits, file_bytes)
        } else {
            self.check_chunk(limits)
        }
    }

    /// Rejects uncompressed rows that do not fit into memory, or are not in the file.
    fn check_rows(&self, limits: Limits, file_bytes: u64) -> Decoded<()> {
        if (self.width as u64)
            .checked_mul(self.samples as u64)
            .is_none_or(|values| values > limits.samples)
        {
            return Err(Fault::new(format!(
                "its rows have {} pixels of {} channels, more than the limit of {} values",
                self.width, self.samples, limits.samples
            )));
        }
        let row = (self.width * self.samples * usize::from(self.bits)).div_ceil(8) as u64;
        let rows = (0..self.height)
            .step_by(self.chunk.1)
            .map(|top| self.chunk.1.min(self.height - top));
        for ((&place, &length), rows) in self.offsets.iter().zip(&self.lengths).zip(rows) {
            let is_left_out = place == 0 && length == 0;
            let end = row.checked_mul(rows as u64);
            let end = end.and_then(|bytes| bytes.checked_add(place));
            if !is_left_out && end.is_none_or(|end| end > file_bytes) {
                return Err(Fault::new("the file ends before the image does"));
            }
        }
        Ok(())
    }

    /// Rejects a row of strips or tiles that does not fit into memory.
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

    /// Bytes of a sample in memory, before a palette.
    pub(super) fn sample_bytes(&self) -> usize {
        if self.palette.is_empty() {
            self.sample.bytes()
        } else if self.bits <= 8 {
            1
        } else {
            2
        }
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
            "its channels have different types: {bits:?} bits, sample formats {formats:?}"
        )));
    }
    let (bits, format) = (bits[0] as u16, formats[0]);
    let sample = Sample::of(format, bits).ok_or_else(|| {
        let words = match format {
            1 | 4 => "unsigned integers",
            2 => "signed integers",
            3 => "floats",
            5 | 6 => "complex numbers",
            _ => "values of an unknown type",
        };
        Fault::new(format!(
            "its samples are {bits}-bit {words}; supported are unsigned integers of 1 to 32 \
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
        // One JPEG holds the whole page, whatever the directory says about strips.
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

/// Rejects a volume in one page.
fn check_depth(slices: u64) -> Decoded<()> {
    if slices == 1 {
        return Ok(());
    }
    Err(Fault::new(format!(
        "it is a volume of {slices} slices in one page (ImageDepth), which is not supported"
    )))
}

/// Rejects colors that are not supported.
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

/// The stated meaning of the samples of a pixel.
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
    /// More than comes before the frame header.
    const MOST: u64 = 1 << 16;
    let place = offsets.first().zip(lengths.first());
    let start = place.map(|(&at, &length)| file.read(at, length.min(MOST) as usize));
    start.is_some_and(|start| start.is_ok_and(|start| ljpeg::is_lossless(&start)))
}

/// Rejects a predictor that is not for such samples.
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
        "its predictor, {predictor}, is not supported for its {bits}-bit samples"
    )))
}

/// Rejects a page that lacks strips or tiles.
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
    // A JPEG states its own subsampling.
    if is_jpeg {
        return Ok((1, 1));
    }
    let found = file.numbers(directory, tag::YCBCR_SUBSAMPLING)?;
    let found = found.unwrap_or_else(|| vec![2, 2]);
    match (found.as_slice(), planar) {
        ([1, 1], _) => Ok((1, 1)),
        (&[h @ (1 | 2 | 4), v @ (1 | 2 | 4)], false) => Ok((h as usize, v as usize)),
        (_, true) => Err(Fault::new(
            "it stores chroma in smaller planes than luma, which is not supported",
        )),
        _ => Err(Fault::new(format!(
            "its chroma is subsampled by {found:?}; supported factors are 1, 2 and 4"
        ))),
    }
}

/// The colors of a palette in 8 bits: one value each if all are gray.
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
    // Some programs write values of 8 bits without scaling them to 16.
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
