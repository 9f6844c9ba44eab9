//! TIFF: any depth, any number of channels and pages, in strips or tiles; read a row of those at a
//! time.

use std::io::{Read, Seek, SeekFrom, Write};

use ::image::metadata::Orientation;
use ::tiff::decoder::{ChunkType, Decoder, TiffCodingUnit};
use ::tiff::encoder::{DirectoryEncoder, Rational, TiffEncoder, TiffKind};
use ::tiff::tags::{
    ByteOrder, CompressionMethod, PhotometricInterpretation, PlanarConfiguration, Predictor,
    SampleFormat, Tag, Type, ValueBuffer,
};
use ::tiff::{ColorType, Directory, TiffError};
use flate2::write::ZlibEncoder;

use super::metadata::{Metadata, Native, Resolution, ResolutionUnit};
use super::page::{Color, Page, Pages};
use super::reader::{Decode, Decoded, Fault, Limits, Source, check_pixels, from_u8, from_u16};
use super::writer::{Encoded, Refused, native_bytes};
use super::{Depth, Encoding};

/// What is copied from page to page.
#[derive(Debug, Clone)]
pub(super) struct Tags {
    pub(super) compression: CompressionMethod,
    pub(super) photometric: PhotometricInterpretation,
    /// What the samples behind the colour are.
    pub(super) extra_samples: Vec<u16>,
    /// Whether the file is a BigTIFF, and how long it is.
    pub(super) is_big: bool,
    pub(super) file_bytes: u64,
    /// Each with its type, and its bytes in the order of this machine.
    pub(super) copied: Vec<(Tag, Type, Vec<u8>)>,
}

/// Tags that stay true when pixels change: words, origins, orientation, resolution, colour profile,
/// and those of ImageJ, GeoTIFF and GDAL.
const COPIED: [u16; 31] = [
    254, 269, 270, 271, 272, 274, 282, 283, 285, 286, 287, 296, 297, 305, 306, 315, 316, 700,
    33432, 33550, 33723, 33922, 34264, 34675, 34735, 34736, 34737, 42112, 42113, 50838, 50839,
];

struct TiffPages {
    decoder: Decoder<Box<dyn Source>>,
    is_big: bool,
    file_bytes: u64,
    is_first: bool,
    limits: Limits,
    /// Whether the decoder stands at a page that has not been given.
    waiting: bool,
    bands: Option<Bands>,
}

/// Where the rows of the current page come from.
struct Bands {
    height: usize,
    /// Samples of a row.
    row: usize,
    samples: usize,
    kind: Kind,
    /// Pixels of a strip or tile, across and down.
    chunk: (usize, usize),
    chunks_across: usize,
    planar: bool,
    /// Strips that are stored as they are, from which single rows can be read: where each begins.
    raw: Option<Vec<u64>>,
    ycbcr: bool,
    /// The next row, decoded or read.
    next: usize,
    /// Decoded rows, and how many values of them have been read.
    ready: Vec<f32>,
    read: usize,
}

/// How a sample is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// So many bits, fewer than 8; a row is filled up to whole bytes.
    Bits(u8),
    U8,
    U16,
    F16,
    F32,
}

/// Starts to read a TIFF.
pub(super) fn decoder(mut source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    let is_big = source
        .fill_buf()?
        .get(2..4)
        .is_some_and(|magic| magic.contains(&43));
    let file_bytes = source.seek(SeekFrom::End(0))?;
    source.rewind()?;
    let bytes = usize::try_from(4 * limits.samples).unwrap_or(usize::MAX);
    let mut allowed = ::tiff::decoder::Limits::default();
    allowed.decoding_buffer_size = bytes;
    allowed.intermediate_buffer_size = bytes;
    // Colour profiles, and the places of a million strips.
    allowed.ifd_value_size = 16 << 20;
    Ok(Box::new(TiffPages {
        decoder: Decoder::new(source)?.with_limits(allowed),
        is_big,
        file_bytes,
        is_first: true,
        limits,
        waiting: true,
        bands: None,
    }))
}

impl Decode for TiffPages {
    fn next_page(&mut self) -> Decoded<Option<Page>> {
        self.bands = None;
        if !self.waiting {
            if !self.decoder.more_images() {
                return Ok(None);
            }
            self.decoder.next_image()?;
        }
        self.waiting = false;
        let (mut page, bands) = describe(&mut self.decoder, self.limits)?;
        if let Native::Tiff(tags) = &mut page.metadata.native {
            (tags.is_big, tags.file_bytes) = (self.is_big, self.file_bytes);
        }
        if std::mem::take(&mut self.is_first) {
            self.refuse_what_would_be_lost(&page)?;
        }
        self.bands = Some(bands);
        Ok(Some(page))
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Decoded<()> {
        let Some(bands) = &mut self.bands else {
            return Err(Fault::new("no page has been begun"));
        };
        if bands.raw.is_some() {
            return bands.read_raw(&mut self.decoder, count, rows);
        }
        let mut wanted = count * bands.row;
        while wanted > 0 {
            if bands.read == bands.ready.len() {
                bands.decode_chunks(&mut self.decoder)?;
            }
            let ready = &bands.ready[bands.read..];
            let now = wanted.min(ready.len());
            rows.extend_from_slice(&ready[..now]);
            bands.read += now;
            wanted -= now;
        }
        Ok(())
    }
}

impl TiffPages {
    /// Refuses files whose pages are not all that they hold.
    fn refuse_what_would_be_lost(&mut self, first: &Page) -> Decoded<()> {
        let kind: u32 = self
            .decoder
            .find_tag_unsigned(Tag::NewSubfileType)?
            .unwrap_or(0);
        if kind & 1 == 1 && self.decoder.find_tag(Tag::SubIfd)?.is_some() {
            return Err(Fault::new(
                "its first page is the preview of a raw photograph",
            ));
        }
        let description = first.metadata.description.as_deref().unwrap_or_default();
        let images = description
            .lines()
            .find_map(|line| line.strip_prefix("images="));
        let images = images.and_then(|count| count.parse().ok()).unwrap_or(1_u64);
        if description.starts_with("ImageJ=") && images > 1 && !self.decoder.more_images() {
            return Err(Fault::new(format!(
                "it is an ImageJ stack of {images} images with one directory; \
                 save it from ImageJ as OME-TIFF or as a BigTIFF"
            )));
        }
        Ok(())
    }
}

/// What the decoder stands at, and how its rows are read.
fn describe(decoder: &mut Decoder<Box<dyn Source>>, limits: Limits) -> Decoded<(Page, Bands)> {
    let (width, height) = decoder.dimensions()?;
    let (width, height) = (width as usize, height as usize);
    check_pixels(limits, height, width)?;
    let found = decoder.colortype()?;
    let samples = usize::from(found.num_samples());
    let stored: usize = number(decoder, Tag::SamplesPerPixel)?;
    if stored != samples {
        return Err(Fault::new(format!(
            "its pixels have {stored} samples, of which only {samples} are understood"
        )));
    }
    let (kind, depth) = kind(decoder, found)?;
    let compression: u16 = number(decoder, Tag::Compression)?;
    let photometric: u16 = decoder.get_tag_unsigned(Tag::PhotometricInterpretation)?;
    let photometric = PhotometricInterpretation::from_u16(photometric)
        .ok_or_else(|| Fault::new("its kind of colour is not known"))?;
    let extra_samples: Vec<u16> = decoder
        .find_tag_unsigned_vec(Tag::ExtraSamples)?
        .unwrap_or_default();
    let (color, extra) = colors(found, &extra_samples);
    let copied = copied_tags(decoder);
    let tags = Tags {
        compression: CompressionMethod::from_u16_exhaustive(compression),
        photometric,
        extra_samples,
        is_big: false,
        file_bytes: 0,
        copied,
    };
    let bands = Bands::new(decoder, limits, (height, width), found, kind, &tags)?;
    let icc = |(tag, ..): &&(Tag, Type, Vec<u8>)| *tag == Tag::IccProfile;
    let page = Page {
        height,
        width,
        color,
        extra,
        depth,
        orientation: decoder
            .find_tag_unsigned::<u8>(Tag::Orientation)
            .ok()
            .flatten()
            .and_then(Orientation::from_exif)
            .unwrap_or(Orientation::NoTransforms),
        metadata: Metadata {
            icc: tags.copied.iter().find(icc).map(|(.., icc)| icc.clone()),
            exif: None,
            resolution: resolution(decoder),
            description: text(&tags.copied, Tag::ImageDescription),
            native: Native::Tiff(Box::new(tags)),
        },
    };
    Ok((page, bands))
}

/// The number of a tag whose default is 1.
fn number<T: TryFrom<u64> + From<u8>>(
    decoder: &mut Decoder<Box<dyn Source>>,
    tag: Tag,
) -> Decoded<T> {
    Ok(decoder.find_tag_unsigned(tag)?.unwrap_or(T::from(1)))
}

/// What a pixel's first samples are, and how many others follow.
fn colors(found: ColorType, extra_samples: &[u16]) -> (Color, usize) {
    let samples = usize::from(found.num_samples());
    let extra = match found {
        ColorType::GrayA(_) | ColorType::RGBA(_) | ColorType::CMYKA(_) => 1,
        // Samples that are not said to be transparency are as good as any other.
        ColorType::Multiband { .. } => {
            let kinds = extra_samples.iter().rev();
            kinds
                .take_while(|&&kind| kind != 0)
                .count()
                .min(samples - 1)
        }
        _ => 0,
    };
    let color = match (found, samples - extra) {
        (ColorType::RGB(_) | ColorType::RGBA(_) | ColorType::YCbCr(_), 3) => Color::Rgb,
        (_, 1) => Color::Grey,
        (_, bands) => Color::Bands(bands),
    };
    (color, extra)
}

/// How the samples are stored, and what that is called outside.
fn kind(decoder: &mut Decoder<Box<dyn Source>>, color: ColorType) -> Decoded<(Kind, Depth)> {
    let format: Vec<u16> = decoder
        .find_tag_unsigned_vec(Tag::SampleFormat)?
        .unwrap_or_default();
    let format = SampleFormat::from_u16_exhaustive(format.first().copied().unwrap_or(1));
    Ok(match (format, color.bit_depth()) {
        (SampleFormat::Uint, bits @ (1 | 2 | 4)) => (Kind::Bits(bits), Depth::U8),
        (SampleFormat::Uint, 8) => (Kind::U8, Depth::U8),
        (SampleFormat::Uint, 16) => (Kind::U16, Depth::U16),
        (SampleFormat::IEEEFP, 16) => (Kind::F16, Depth::F32),
        (SampleFormat::IEEEFP, 32) => (Kind::F32, Depth::F32),
        (format, bits) => {
            let words = match format {
                SampleFormat::Uint => "integers",
                SampleFormat::Int => "signed integers",
                SampleFormat::IEEEFP => "floats",
                _ => "of a type that is not known",
            };
            return Err(Fault::new(format!(
                "its samples are {bits} bits, {words}; integers of 1, 2, 4, 8 and 16 bits and floats \
                 of 16 and 32 are read"
            )));
        }
    })
}

fn resolution(decoder: &mut Decoder<Box<dyn Source>>) -> Option<Resolution> {
    let mut ratio = |tag| match decoder.find_tag(tag) {
        Ok(Some(::tiff::decoder::ifd::Value::Rational(n, d))) if d > 0 => {
            Some(f64::from(n) / f64::from(d))
        }
        _ => None,
    };
    let (x, y) = (ratio(Tag::XResolution)?, ratio(Tag::YResolution)?);
    let unit = decoder.find_tag_unsigned::<u16>(Tag::ResolutionUnit).ok()?;
    let unit = match unit.unwrap_or(2) {
        2 => ResolutionUnit::Inch,
        3 => ResolutionUnit::Centimeter,
        _ => ResolutionUnit::None,
    };
    Some(Resolution { x, y, unit })
}

/// The tags that are copied, in the byte order of this machine.
fn copied_tags(decoder: &mut Decoder<Box<dyn Source>>) -> Vec<(Tag, Type, Vec<u8>)> {
    let mut found = Vec::new();
    let mut ifd = decoder.image_ifd();
    for tag in COPIED.map(Tag::from_u16_exhaustive) {
        let mut value = ValueBuffer::empty(Type::BYTE);
        // A tag that cannot be read is none of the pixels' business.
        if let Ok(Some(_)) = ifd.find_tag_buf(tag, &mut value) {
            value.set_byte_order(ByteOrder::native());
            found.push((tag, value.data_type(), value.as_bytes().to_vec()));
        }
    }
    found
}

/// The words of a tag, up to the zero that ends them.
fn text(tags: &[(Tag, Type, Vec<u8>)], tag: Tag) -> Option<String> {
    let (.., bytes) = tags.iter().find(|(found, ..)| *found == tag)?;
    let words = bytes.split(|&byte| byte == 0).next()?;
    Some(String::from_utf8_lossy(words).into_owned())
}

impl Bands {
    /// How the rows of the page that the decoder stands at are read.
    fn new(
        decoder: &mut Decoder<Box<dyn Source>>,
        limits: Limits,
        (height, width): (usize, usize),
        found: ColorType,
        kind: Kind,
        tags: &Tags,
    ) -> Decoded<Self> {
        let samples = usize::from(found.num_samples());
        let planar: u16 = number(decoder, Tag::PlanarConfiguration)?;
        let planar = planar == PlanarConfiguration::Planar.to_u16() && samples > 1;
        let predictor: u16 = number(decoder, Tag::Predictor)?;
        let ycbcr = matches!(found, ColorType::YCbCr(_));
        if ycbcr && (kind != Kind::U8 || tags.compression != CompressionMethod::ModernJPEG) {
            return Err(Fault::new(
                "it stores luma and chroma in another way than JPEG",
            ));
        }
        let strips = decoder.get_chunk_type() == ChunkType::Strip;
        let (across, down) = decoder.chunk_dimensions();
        let (across, down) = (across as usize, down as usize);
        let is_raw = strips
            && !planar
            && tags.compression == CompressionMethod::None
            && predictor == 1
            && !matches!(kind, Kind::Bits(_))
            && tags.photometric != PhotometricInterpretation::WhiteIsZero;
        if !is_raw {
            // A row of strips or tiles is decoded at one go; a tile is as large as it says.
            let (down, across) = if strips {
                (down.min(height), width)
            } else {
                (down, width.next_multiple_of(across))
            };
            let values = (across as u64).checked_mul(down as u64);
            let values = values.and_then(|pixels| pixels.checked_mul(samples as u64));
            if values.is_none_or(|values| values > limits.samples) {
                return Err(Fault::new(format!(
                    "its strips or tiles are {down} rows of {across} pixels of {samples} channels, \
                     which have to be in memory together: more than the {} values that are accepted",
                    limits.samples
                )));
            }
        }
        let raw = is_raw.then(|| decoder.get_tag_u64_vec(Tag::StripOffsets));
        let chunk = (across.min(width), down.min(height));
        Ok(Self {
            height,
            row: width * samples,
            samples,
            kind,
            chunk,
            chunks_across: width.div_ceil(chunk.0),
            planar,
            raw: raw.transpose()?,
            ycbcr,
            next: 0,
            ready: Vec::new(),
            read: 0,
        })
    }

    /// Reads rows straight from the file.
    fn read_raw(
        &mut self,
        decoder: &mut Decoder<Box<dyn Source>>,
        count: usize,
        rows: &mut Vec<f32>,
    ) -> Decoded<()> {
        let order = decoder.byte_order();
        let size = self.kind.size();
        let mut bytes = vec![0; self.row * size];
        for _ in 0..count {
            let (strip, below) = (self.next / self.chunk.1, self.next % self.chunk.1);
            let offsets = self.raw.as_deref().unwrap_or_default();
            let offset = offsets
                .get(strip)
                .and_then(|start| start.checked_add((below * bytes.len()) as u64))
                .ok_or_else(|| Fault::new("one of its strips lies nowhere"))?;
            let source = decoder.inner();
            source.seek(SeekFrom::Start(offset))?;
            source.read_exact(&mut bytes)?;
            if order != ByteOrder::native() {
                bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
            }
            self.kind.append(&bytes, self.row, rows);
            self.next += 1;
        }
        Ok(())
    }

    /// Decodes the next row of strips or tiles.
    fn decode_chunks(&mut self, decoder: &mut Decoder<Box<dyn Source>>) -> Decoded<()> {
        let (first, (chunk_width, chunk_height)) = (self.next / self.chunk.1, self.chunk);
        let height = chunk_height.min(self.height - self.next);
        self.ready.clear();
        self.ready.resize(height * self.row, 0.0);
        self.read = 0;
        let mut bytes = Vec::new();
        let mut values = Vec::new();
        for across in 0..self.chunks_across {
            let unit = TiffCodingUnit((first * self.chunks_across + across) as u32);
            let layout = decoder.image_coding_unit_layout(unit)?;
            bytes.clear();
            bytes.resize(layout.complete_len, 0);
            decoder.read_coding_unit_bytes(unit, &mut bytes)?;

            let left = across * chunk_width;
            let width = chunk_width.min(self.row / self.samples - left);
            let planes = if self.planar { self.samples } else { 1 };
            let per_pixel = self.samples / planes;
            let stride = layout.row_stride.map_or(0, usize::from);
            let plane = layout.plane_stride.map_or(0, usize::from);
            for p in 0..planes {
                for y in 0..height {
                    let from = bytes.get(p * plane + y * stride..).unwrap_or_default();
                    values.clear();
                    self.kind.append(from, width * per_pixel, &mut values);
                    if values.len() < width * per_pixel {
                        return Err(Fault::new("one of its strips or tiles is too short"));
                    }
                    let to = &mut self.ready[y * self.row + left * self.samples..];
                    if planes == 1 {
                        to[..values.len()].copy_from_slice(&values);
                    } else {
                        let to = to[p..].iter_mut().step_by(self.samples);
                        to.zip(&values).for_each(|(to, from)| *to = *from);
                    }
                }
            }
        }
        if self.ycbcr {
            self.ready.as_chunks_mut().0.iter_mut().for_each(to_rgb);
        }
        self.next += height;
        Ok(())
    }
}

impl Kind {
    /// Bytes of a sample.
    fn size(self) -> usize {
        match self {
            Self::Bits(_) | Self::U8 => 1,
            Self::U16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// Appends `count` values from bytes in the order of this machine, or fewer if there are fewer.
    fn append(self, bytes: &[u8], count: usize, values: &mut Vec<f32>) {
        match self {
            Self::Bits(bits) => {
                let (bits, most) = (usize::from(bits), (1_u8 << bits) - 1);
                let value = |i: usize| {
                    let byte = bytes.get(i * bits / 8)?;
                    let shift = 8 - bits - i * bits % 8;
                    Some(f32::from(byte >> shift & most) / f32::from(most))
                };
                values.extend((0..count).map_while(value));
            }
            Self::U8 => values.extend(bytes.iter().take(count).map(|&byte| from_u8(byte))),
            Self::U16 => {
                let words = bytes.as_chunks().0.iter().take(count);
                values.extend(words.map(|&word| from_u16(u16::from_ne_bytes(word))));
            }
            Self::F16 => {
                let words = bytes.as_chunks().0.iter().take(count);
                values.extend(words.map(|&word| ::exr::prelude::f16::from_ne_bytes(word).to_f32()));
            }
            Self::F32 => {
                let floats = bytes.as_chunks().0.iter().take(count);
                values.extend(floats.map(|&float| f32::from_ne_bytes(float)));
            }
        }
    }
}

/// Luma and chroma of full range to red, green and blue, rounded to 8 bits (ITU-T T.871).
fn to_rgb(pixel: &mut [f32; 3]) {
    let [y, cb, cr] = pixel.map(|value| value * 255.0);
    let (cb, cr) = (cb - 128.0, cr - 128.0);
    let rgb = [
        y + 1.402 * cr,
        y - 0.344_136 * cb - 0.714_136 * cr,
        y + 1.772 * cb,
    ];
    *pixel = rgb.map(|value| (value + 0.5).floor().clamp(0.0, 255.0) / 255.0);
}

/// Writes all pages as a TIFF, strip by strip; `first` is the page that `pages` stands at.
///
/// A page that was compressed is deflated, with differences between neighbours for integers. A file
/// that may grow beyond what 32 bits can point at is a BigTIFF.
pub(super) fn write(
    pages: &mut dyn Pages,
    first: Page,
    encoding: Encoding,
    out: &mut (impl Write + Seek),
) -> Encoded<()> {
    /// What 32 bits can point at, less some for the directories.
    const MOST: u64 = (4 << 30) - (64 << 20);
    let size = |depth| match depth {
        Depth::U8 => 1,
        Depth::U16 => 2,
        Depth::F32 => 4,
    };
    let depth = encoding.depth_of(first.depth);
    let page = (first.height * first.row()) as u64 * size(depth);
    let (is_big, file) = match &first.metadata.native {
        // How many pages follow is not known, but how large the file was.
        Native::Tiff(tags) => (
            tags.is_big,
            tags.file_bytes * size(depth) / size(first.depth),
        ),
        _ => (false, 0),
    };
    if is_big || page.max(file) > MOST {
        write_as(TiffEncoder::new_big(out)?, pages, first, encoding)
    } else {
        write_as(TiffEncoder::new(out)?, pages, first, encoding)
    }
}

fn write_as<W: Write + Seek, K: TiffKind>(
    mut encoder: TiffEncoder<W, K>,
    pages: &mut dyn Pages,
    first: Page,
    encoding: Encoding,
) -> Encoded<()> {
    let mut next = Some(first);
    while let Some(page) = next {
        let directory = encoder.image_directory()?;
        write_page(directory, pages, &page, encoding.depth_of(page.depth))?;
        next = pages.next_page()?;
    }
    Ok(())
}

fn write_page<W: Write + Seek, K: TiffKind>(
    mut directory: DirectoryEncoder<'_, W, K>,
    pages: &mut dyn Pages,
    page: &Page,
    depth: Depth,
) -> Encoded<()> {
    /// Bytes of a strip before compression.
    const STRIP: usize = 1 << 18;
    let native = match &page.metadata.native {
        Native::Tiff(tags) => Some(tags),
        _ => None,
    };
    let is_packed = native.is_none_or(|tags| tags.compression != CompressionMethod::None);
    let is_predicted = is_packed && depth != Depth::F32;
    let samples = page.samples();
    let bytes = match depth {
        Depth::U8 => 1,
        Depth::U16 => 2,
        Depth::F32 => 4,
    };
    let rows_per_strip = (STRIP / (page.row() * bytes)).clamp(1, page.height);

    let (mut offsets, mut lengths) = (Vec::new(), Vec::new());
    let mut left = page.height;
    let mut rows = Vec::new();
    while left > 0 {
        let count = left.min(rows_per_strip);
        left -= count;
        rows.clear();
        pages.read_rows(count, &mut rows)?;
        let mut strip = native_bytes(&rows, depth);
        if is_predicted {
            strip.chunks_exact_mut(page.row() * bytes).for_each(|row| {
                predict(row, samples, depth);
            });
        }
        if is_packed {
            let mut packed = ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(&strip)?;
            strip = packed.finish()?;
        }
        offsets.push(K::convert_offset(directory.write_data(strip.as_slice())?)?);
        lengths.push(K::convert_offset(strip.len() as u64)?);
    }

    let photometric = match (page.color, native.map(|tags| tags.photometric)) {
        (Color::Rgb, _) => PhotometricInterpretation::RGB,
        (Color::Bands(4), Some(PhotometricInterpretation::CMYK)) => PhotometricInterpretation::CMYK,
        _ => PhotometricInterpretation::BlackIsZero,
    };
    let format = if depth == Depth::F32 {
        SampleFormat::IEEEFP
    } else {
        SampleFormat::Uint
    };
    let compression = if is_packed {
        CompressionMethod::Deflate
    } else {
        CompressionMethod::None
    };
    let predictor = if is_predicted {
        Predictor::Horizontal
    } else {
        Predictor::None
    };
    for (tag, values) in [
        (Tag::BitsPerSample, vec![8 * bytes as u16; samples]),
        (Tag::Compression, vec![compression.to_u16()]),
        (Tag::PhotometricInterpretation, vec![photometric.to_u16()]),
        (Tag::SamplesPerPixel, vec![samples as u16]),
        (Tag::PlanarConfiguration, vec![1]),
        (Tag::Predictor, vec![predictor.to_u16()]),
        (Tag::SampleFormat, vec![format.to_u16(); samples]),
        (Tag::ExtraSamples, extra_samples(page, photometric)),
    ] {
        if !values.is_empty() {
            directory.write_tag(tag, values.as_slice())?;
        }
    }
    for (tag, side) in [
        (Tag::ImageWidth, page.width),
        (Tag::ImageLength, page.height),
        (Tag::RowsPerStrip, rows_per_strip),
    ] {
        directory.write_tag(tag, side as u32)?;
    }
    directory.write_tag(Tag::StripOffsets, K::convert_slice(&offsets))?;
    directory.write_tag(Tag::StripByteCounts, K::convert_slice(&lengths))?;
    write_metadata(&mut directory, page)?;
    directory.finish()?;
    Ok(())
}

/// What the samples behind those of the photometric interpretation are: as they were, or transparency.
fn extra_samples(page: &Page, photometric: PhotometricInterpretation) -> Vec<u16> {
    let colors = match photometric {
        PhotometricInterpretation::RGB => 3,
        PhotometricInterpretation::CMYK => 4,
        _ => 1,
    };
    let count = page.samples() - colors;
    match &page.metadata.native {
        Native::Tiff(tags) if tags.extra_samples.len() == count => tags.extra_samples.clone(),
        _ => {
            let mut kinds = vec![0; count - page.extra];
            kinds.resize(count, 2);
            kinds
        }
    }
}

/// The tags of the page's file if it came from a TIFF, or made of what its file said.
fn write_metadata<W: Write + Seek, K: TiffKind>(
    directory: &mut DirectoryEncoder<'_, W, K>,
    page: &Page,
) -> Encoded<()> {
    let metadata = &page.metadata;
    let icc = metadata.icc_for(page.color);
    if let Native::Tiff(tags) = &metadata.native {
        for (tag, kind, bytes) in &tags.copied {
            if *tag != Tag::IccProfile || icc.is_some() {
                let entry = directory.write_entry_bytes(*kind, bytes)?;
                directory.extend_from(&Directory::from_iter([(*tag, entry)]));
            }
        }
        return Ok(());
    }
    if let Some(icc) = icc {
        let entry = directory.write_entry_bytes(Type::UNDEFINED, icc)?;
        directory.extend_from(&Directory::from_iter([(Tag::IccProfile, entry)]));
    }
    if let Some(Resolution { x, y, unit }) = metadata.resolution {
        for (tag, side) in [(Tag::XResolution, x), (Tag::YResolution, y)] {
            let (n, d) = ((side * 1000.0).round() as u32, 1000);
            directory.write_tag(tag, Rational { n, d })?;
        }
        let unit: u16 = match unit {
            ResolutionUnit::None => 1,
            ResolutionUnit::Inch => 2,
            ResolutionUnit::Centimeter => 3,
        };
        directory.write_tag(Tag::ResolutionUnit, unit)?;
    }
    if let Some(words) = &metadata.description {
        directory.write_tag(Tag::ImageDescription, words.as_str())?;
    }
    directory.write_tag(Tag::Orientation, u16::from(page.orientation.to_exif()))?;
    Ok(())
}

/// Makes samples the differences to their neighbours on the left (TIFF 6.0, section 14).
fn predict(row: &mut [u8], samples: usize, depth: Depth) {
    if depth == Depth::U8 {
        for i in (samples..row.len()).rev() {
            row[i] = row[i].wrapping_sub(row[i - samples]);
        }
        return;
    }
    let words = row.as_chunks_mut::<2>().0;
    for i in (samples..words.len()).rev() {
        let difference =
            u16::from_ne_bytes(words[i]).wrapping_sub(u16::from_ne_bytes(words[i - samples]));
        words[i] = difference.to_ne_bytes();
    }
}

impl From<TiffError> for Refused {
    fn from(error: TiffError) -> Self {
        match error {
            TiffError::IoError(error) => Self::Io(error),
            error => Self::Page(error.to_string()),
        }
    }
}
