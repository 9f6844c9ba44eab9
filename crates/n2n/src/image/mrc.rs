//! MRC (MRC2014, <https://www.ccpem.ac.uk/mrc_format/mrc2014.php>): images, stacks and volumes of electron microscopes;
//! each section is a page.

use std::fmt;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use ::image::metadata::Orientation;
use half::f16;

use super::decode::{Decode, Decoded, Fault, Limits, Source, check_pixels, from_u8, from_u16};
use super::encode::{Encoded, Encoding, Refused, native_bytes, restore_missing};
use super::metadata::{Metadata, Native, Position};
use super::page::{Color, Page, Pages, way};
use super::{Depth, Format};

const HEADER: usize = 1024;

/// Offsets in the header, in bytes.
mod at {
    pub(super) const SIZE: [usize; 3] = [0, 4, 8];
    pub(super) const MODE: usize = 12;
    pub(super) const SAMPLING: [usize; 3] = [28, 32, 36];
    pub(super) const ANGLES: [usize; 3] = [52, 56, 60];
    pub(super) const AXES: [usize; 3] = [64, 68, 72];
    /// The smallest, the largest and the mean value.
    pub(super) const VALUES: [usize; 3] = [76, 80, 84];
    pub(super) const EXTENDED: usize = 92;
    pub(super) const VERSION: usize = 108;
    /// The stamp of IMOD, then flags, of which the lowest says that bytes are signed.
    pub(super) const IMOD: usize = 152;
    pub(super) const MARK: usize = 208;
    pub(super) const MACHINE: usize = 212;
    pub(super) const DEVIATION: usize = 216;
}

/// Whether a file that begins with these bytes is an MRC.
pub(super) fn begins(start: &[u8]) -> bool {
    start.get(at::MARK..at::MARK + 3) == Some(b"MAP")
}

/// The header of a file and its extension, to be written again.
#[derive(Clone)]
struct Header {
    bytes: Vec<u8>,
    is_big: bool,
}

impl Native for Header {
    fn format(&self) -> Format {
        Format::Mrc
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Header({} bytes)", self.bytes.len())
    }
}

impl Header {
    /// The header of a file about which nothing is known.
    fn new() -> Self {
        let mut header = Self {
            bytes: vec![0; HEADER],
            is_big: cfg!(target_endian = "big"),
        };
        for (axis, place) in (1..).zip(at::AXES) {
            header.put(place, axis);
        }
        for place in at::ANGLES {
            header.put_float(place, 90.0);
        }
        header.put(at::VERSION, 20141);
        header.bytes[at::MARK..at::MARK + 4].copy_from_slice(b"MAP ");
        let machine = if header.is_big {
            [0x11, 0x11]
        } else {
            [0x44, 0x44]
        };
        header.bytes[at::MACHINE..at::MACHINE + 2].copy_from_slice(&machine);
        header
    }

    fn get(&self, place: usize) -> i32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.bytes[place..place + 4]);
        if self.is_big {
            i32::from_be_bytes(bytes)
        } else {
            i32::from_le_bytes(bytes)
        }
    }

    fn put(&mut self, place: usize, value: i32) {
        let bytes = if self.is_big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        };
        self.bytes[place..place + 4].copy_from_slice(&bytes);
    }

    fn put_float(&mut self, place: usize, value: f32) {
        self.put(place, value.to_bits().cast_signed());
    }

    /// Whether bytes are unsigned, which only IMOD writes.
    fn is_unsigned(&self) -> bool {
        self.get(at::IMOD) == 1_146_047_817 && self.get(at::IMOD + 4) & 1 == 0
    }
}

/// How samples are stored.
#[derive(Clone, Copy)]
enum Sample {
    Of(Depth),
    F16,
}

impl Sample {
    fn of(header: &Header) -> Decoded<Self> {
        Ok(match header.get(at::MODE) {
            0 if header.is_unsigned() => Self::Of(Depth::U8),
            0 => Self::Of(Depth::I8),
            1 => Self::Of(Depth::I16),
            2 => Self::Of(Depth::F32),
            6 => Self::Of(Depth::U16),
            12 => Self::F16,
            mode => {
                let what = match mode {
                    3 | 4 => ", complex numbers",
                    101 => ", 4 bits per sample",
                    _ => "",
                };
                return Err(Fault::new(format!(
                    "it is an MRC of mode {mode}{what}; supported modes: 0, 1, 2, 6 and 12"
                )));
            }
        })
    }

    fn depth(self) -> Depth {
        match self {
            Self::Of(depth) => depth,
            Self::F16 => Depth::F32,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Of(depth) => depth.bytes(),
            Self::F16 => 2,
        }
    }
}

struct MrcPages {
    source: Box<dyn Source>,
    header: Header,
    sample: Sample,
    /// Height and width, and the number of sections.
    size: (usize, usize),
    sections: usize,
    /// Where the first section begins.
    start: u64,
    next: usize,
}

/// Starts to read an MRC.
pub(super) fn decoder(mut source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    /// More than any program writes as metadata.
    const MOST: usize = 256 << 20;
    let length = source.seek(SeekFrom::End(0))?;
    source.rewind()?;
    let mut bytes = vec![0; HEADER];
    source.read_exact(&mut bytes)?;
    // Some programs omit the machine stamp; the byte order then follows from the mode, which is a small number.
    let is_big = match bytes[at::MACHINE] {
        0x44 => false,
        0x11 => true,
        _ => bytes[at::MODE] == 0 && bytes[at::MODE + 3] != 0,
    };
    let mut header = Header { bytes, is_big };
    let sample = Sample::of(&header)?;
    let [width, height, sections] = at::SIZE.map(|place| usize::try_from(header.get(place)));
    let (Ok(width), Ok(height), Ok(sections)) = (width, height, sections) else {
        return Err(Fault::new("it declares a negative size"));
    };
    check_pixels(limits, height, width)?;
    let extended = usize::try_from(header.get(at::EXTENDED)).unwrap_or(usize::MAX);
    if extended > MOST {
        return Err(Fault::new(format!(
            "its extended header declares {extended} bytes, more than the limit of {MOST}"
        )));
    }
    let start = (HEADER + extended) as u64;
    let section = height as u64 * width as u64 * sample.bytes() as u64;
    let needed = section
        .checked_mul(sections as u64)
        .and_then(|all| all.checked_add(start));
    if needed.is_none_or(|needed| needed > length) {
        return Err(Fault::new("the file ends before the image does"));
    }
    header.bytes.resize(HEADER + extended, 0);
    source.read_exact(&mut header.bytes[HEADER..])?;
    Ok(Box::new(MrcPages {
        source,
        header,
        sample,
        size: (height, width),
        sections,
        start,
        next: 0,
    }))
}

/// Appends the values of samples of `N` bytes.
fn each<const N: usize>(bytes: &[u8], rows: &mut Vec<f32>, value: impl Fn([u8; N]) -> f32) {
    rows.extend(bytes.as_chunks().0.iter().map(|&bytes| value(bytes)));
}

impl Decode for MrcPages {
    fn next_page(&mut self) -> Decoded<Option<Page>> {
        if self.next == self.sections {
            return Ok(None);
        }
        let (height, width) = self.size;
        let section = (height * width * self.sample.bytes()) as u64;
        let place = self.start + section * self.next as u64;
        self.source.seek(SeekFrom::Start(place))?;
        let position = Position {
            slice: self.next,
            ..Position::default()
        };
        self.next += 1;
        Ok(Some(Page {
            height,
            width,
            color: Color::Gray,
            extra: 0,
            depth: self.sample.depth(),
            orientation: Orientation::NoTransforms,
            metadata: Metadata {
                position: Some(position),
                file_samples: Some(height as u64 * width as u64 * self.sections as u64),
                native: Some(Arc::new(self.header.clone())),
                ..Metadata::default()
            },
        }))
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Decoded<()> {
        let size = self.sample.bytes();
        let mut bytes = vec![0; count * self.size.1 * size];
        self.source.read_exact(&mut bytes)?;
        if self.header.is_big != cfg!(target_endian = "big") && size > 1 {
            bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        match self.sample {
            Sample::Of(Depth::U8) => each(&bytes, rows, |[byte]| from_u8(byte)),
            Sample::Of(Depth::I8) => each(&bytes, rows, |x| i8::from_ne_bytes(x).into()),
            Sample::Of(Depth::I16) => each(&bytes, rows, |x| i16::from_ne_bytes(x).into()),
            Sample::Of(Depth::U16) => each(&bytes, rows, |x| from_u16(u16::from_ne_bytes(x))),
            Sample::Of(_) => each(&bytes, rows, f32::from_ne_bytes),
            Sample::F16 => each(&bytes, rows, |x| f16::from_ne_bytes(x).to_f32()),
        }
        Ok(())
    }
}

/// Writes all pages as the sections of an MRC; `first` is the current page of `pages`. The header is that of the source
/// file, with statistics of the new values. Pages are turned upright, because an MRC states no orientation.
pub(super) fn write(
    pages: &mut dyn Pages,
    first: Page,
    encoding: Encoding,
    out: &mut (impl Write + Seek),
) -> Encoded<()> {
    /// Number of samples written at a time.
    const PIECE: usize = 1 << 20;
    let native = first.metadata.native::<Header>();
    let is_native = native.is_some();
    let mut header = native.cloned().unwrap_or_else(Header::new);
    // Only files of IMOD have unsigned bytes.
    let depth = match (first.depth, encoding.depth) {
        (Depth::U8, None | Some(Depth::U8)) if header.is_unsigned() => Depth::U8,
        _ => encoding.depth_of(first.depth),
    };
    header.put(
        at::MODE,
        match depth {
            Depth::U8 | Depth::I8 => 0,
            Depth::I16 => 1,
            Depth::U16 => 6,
            _ => 2,
        },
    );
    out.write_all(&header.bytes)?;
    let size = first.upright_size();
    let (mut sections, mut values) = (0, Values::default());
    let mut next = Some(first);
    while let Some(page) = next {
        if page.samples() != 1 || page.upright_size() != size {
            return Err(Refused::Page(format!(
                "MRC stores gray pages of one size: expected {}x{} like the first page, with 1 channel, found \
                 {}x{} with {}; use TIFF",
                size.0,
                size.1,
                page.upright_size().0,
                page.upright_size().1,
                page.samples()
            )));
        }
        sections += 1;
        let is_upright = page.orientation == Orientation::NoTransforms;
        let at_once = if is_upright {
            (PIECE / page.width).clamp(1, page.height)
        } else {
            page.height
        };
        let (mut left, mut rows) = (page.height, Vec::new());
        while left > 0 {
            let count = left.min(at_once);
            left -= count;
            rows.clear();
            pages.read_rows(count, &mut rows)?;
            if !is_upright {
                rows = way(page.orientation).apply(&rows, (page.height, page.width));
            }
            restore_missing(&mut rows, &page, depth);
            let mut bytes = native_bytes(&rows, depth);
            values.add(&bytes, depth);
            if header.is_big != cfg!(target_endian = "big") && depth.bytes() > 1 {
                bytes
                    .chunks_exact_mut(depth.bytes())
                    .for_each(<[u8]>::reverse);
            }
            out.write_all(&bytes)?;
        }
        next = pages.next_page()?;
    }
    let count = |count: usize| {
        i32::try_from(count)
            .map_err(|_| Refused::Page("MRC cannot store an image of this size".into()))
    };
    let sizes = [count(size.0)?, count(size.1)?, count(sections)?];
    for (place, side) in at::SIZE.into_iter().zip(sizes) {
        header.put(place, side);
    }
    if !is_native {
        // A stack of images, not a volume.
        for (place, side) in at::SAMPLING.into_iter().zip([sizes[0], sizes[1], 1]) {
            header.put(place, side);
        }
    }
    values.put(&mut header);
    out.rewind()?;
    out.write_all(&header.bytes[..HEADER])?;
    out.seek(SeekFrom::End(0))?;
    Ok(())
}

/// The statistics of the values in a header.
struct Values {
    least: f64,
    most: f64,
    sum: f64,
    squares: f64,
    count: f64,
    /// A value near the mean, so that the sum of squares stays precise.
    origin: Option<f64>,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
            sum: 0.0,
            squares: 0.0,
            count: 0.0,
            origin: None,
        }
    }
}

impl Values {
    fn add(&mut self, bytes: &[u8], depth: Depth) {
        let mut one = |value: f64| {
            if !value.is_finite() {
                return;
            }
            let origin = *self.origin.get_or_insert(value);
            self.least = self.least.min(value);
            self.most = self.most.max(value);
            self.sum += value - origin;
            self.squares += (value - origin).powi(2);
            self.count += 1.0;
        };
        let pairs = bytes.as_chunks().0.iter();
        match depth {
            Depth::U8 => bytes.iter().for_each(|&x| one(x.into())),
            Depth::I8 => bytes.iter().for_each(|&x| one((x as i8).into())),
            Depth::I16 => pairs.for_each(|&x| one(i16::from_ne_bytes(x).into())),
            Depth::U16 => pairs.for_each(|&x| one(u16::from_ne_bytes(x).into())),
            _ => {
                let words = bytes.as_chunks().0.iter();
                words.for_each(|&x| one(f32::from_ne_bytes(x).into()));
            }
        }
    }

    fn put(&self, header: &mut Header) {
        let Some(origin) = self.origin else { return };
        let mean = self.sum / self.count;
        let variance = (self.squares / self.count - mean * mean).max(0.0);
        let values = [self.least, self.most, origin + mean];
        for (place, value) in at::VALUES.into_iter().zip(values) {
            header.put_float(place, value as f32);
        }
        header.put_float(at::DEVIATION, variance.sqrt() as f32);
    }
}
