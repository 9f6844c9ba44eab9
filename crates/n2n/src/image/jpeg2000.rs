//! JPEG 2000 (ITU-T T.800), as a file of its own or as a strip or tile of a TIFF: read, not written.

use std::borrow::Cow;
use std::io::Read as _;

use hayro_jpeg2000::{ColorSpace, DecodeError, DecodeSettings, DecoderContext, FormatError, Image};

use super::decode::{
    Decode, Decoded, Fault, Limits, Source, Whole, check_samples, from_u8, from_u16,
};
use super::metadata::{self, Metadata, Resolution, ResolutionUnit};
use super::page::{Color, Page};
use super::simple::OnePage;
use super::{Depth, png};

/// The box that a JP2 file starts with.
const SIGNATURE: [u8; 12] = *b"\0\0\0\x0CjP  \r\n\x87\n";

/// The markers that a codestream starts with: start of codestream, and size.
const START: [u8; 4] = [0xFF, 0x4F, 0xFF, 0x51];

/// Whether a file that starts with these bytes is a JPEG 2000 file: a JP2, or a bare codestream.
pub(super) fn is_start(start: &[u8]) -> bool {
    start.starts_with(&SIGNATURE) || start.starts_with(&START)
}

/// Reads a JPEG 2000 file.
pub(super) fn decoder(source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    let mut bytes = Vec::new();
    source.take(4 * limits.samples).read_to_end(&mut bytes)?;
    let file = File::of(&bytes)?;
    let components = Component::all(file.codestream)?;
    check_size(file.codestream, &components, 4 * limits.samples)?;
    let (bytes, space) = match Image::new(&bytes, &DecodeSettings::default()) {
        Ok(image) => (Cow::Borrowed(bytes.as_slice()), image.color_space().clone()),
        // If the decoder does not know the color space, the channels are returned as they are.
        Err(DecodeError::Format(FormatError::Unsupported)) => {
            let num_channels = u8::try_from(components.len()).map_err(|_| {
                Fault::new(format!(
                    "it has {} channels; up to 255 are supported",
                    components.len()
                ))
            })?;
            let count = u16::from(num_channels);
            let bytes = Cow::Owned(as_file(file.codestream, count));
            (bytes, ColorSpace::Unknown { num_channels })
        }
        Err(error) => return Err(damaged(error)),
    };
    let (height, width) = {
        let image = Image::new(&bytes, &DecodeSettings::default()).map_err(damaged)?;
        (image.height() as usize, image.width() as usize)
    };
    let channels = components.len().max(file.colors);
    check_samples(limits, height, width, channels)?;
    let (color, icc) = color(&space)?;

    let planes = planes(&bytes, &components)?;
    let extra = planes.len().checked_sub(color.channels()).ok_or_else(|| {
        Fault::new(format!(
            "it has {} channels; its color space requires {}",
            planes.len(),
            color.channels()
        ))
    })?;
    let depth = depth(&planes)?;
    let (words, has_others) = comments(file.codestream);
    let mut notes = file.notes;
    if has_others {
        notes.push("dropped: a binary comment".into());
    }
    let mut samples = vec![0.0; height * width * planes.len()];
    for (at, plane) in planes.iter().enumerate() {
        let to = samples.iter_mut().skip(at).step_by(planes.len());
        to.zip(&plane.values)
            .for_each(|(to, &value)| *to = plane.sample(value, depth));
    }
    let page = Page {
        height,
        width,
        color,
        extra,
        depth,
        orientation: png::orientation(file.exif.as_deref()),
        metadata: Metadata {
            icc,
            exif: file.exif,
            resolution: file.resolution,
            description: metadata::text(&words),
            notes,
            ..Metadata::default()
        },
    };
    Ok(Box::new(OnePage {
        whole: Whole::from_floats(page.row_len(), samples),
        page: Some(page),
    }))
}

/// The metadata of a file, and the position of its pixels.
#[derive(Default)]
struct File<'a> {
    codestream: &'a [u8],
    /// The number of channels that a palette expands the components to; 0 without a palette.
    colors: usize,
    exif: Option<Vec<u8>>,
    resolution: Option<Resolution>,
    notes: Vec<String>,
}

impl<'a> File<'a> {
    fn of(bytes: &'a [u8]) -> Decoded<Self> {
        /// The UUID under which Adobe and `ExifTool` store an Exif block.
        const EXIF: &[u8] = b"JpgTiffExif->JP2";
        if bytes.starts_with(&START) {
            return Ok(Self {
                codestream: bytes,
                ..Self::default()
            });
        }
        let mut file = Self::default();
        let (mut images, mut has_others) = (0, false);
        for (kind, content) in Boxes(bytes) {
            match &kind {
                b"jp2c" => {
                    images += 1;
                    file.codestream = content;
                }
                b"jp2h" => {
                    let inside = Boxes(content).filter(|(kind, _)| kind == b"res ");
                    let mut ratios = inside.flat_map(|(_, content)| Boxes(content));
                    file.resolution = ratios.find_map(|(_, content)| resolution(content));
                    file.colors = file.colors.max(colors(content));
                }
                b"uuid" => match content.strip_prefix(EXIF) {
                    Some(exif) => file.exif = Some(exif.to_vec()),
                    None => has_others = true,
                },
                b"xml " | b"asoc" | b"jp2i" => has_others = true,
                _ => {}
            }
        }
        if images != 1 {
            return Err(Fault::new(format!(
                "it contains {images} images; expected one"
            )));
        }
        if has_others {
            file.notes
                .push("dropped: XML, XMP and geographic metadata".into());
        }
        Ok(file)
    }
}

/// The boxes of a file, or within another: their kinds and contents.
struct Boxes<'a>(&'a [u8]);

impl<'a> Iterator for Boxes<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[l0, l1, l2, l3, kind @ ..], _) = self.0.split_first_chunk::<8>()?;
        let (head, length) = match u32::from_be_bytes([l0, l1, l2, l3]) {
            // The last box extends to the end of the file.
            0 => (8, self.0.len()),
            1 => {
                let long = self.0.get(8..16)?.try_into().ok()?;
                (16, usize::try_from(u64::from_be_bytes(long)).ok()?)
            }
            length => (8, length as usize),
        };
        let end = length.min(self.0.len());
        let content = self.0.get(head..end)?;
        self.0 = &self.0[end..];
        Some((kind, content))
    }
}

/// The number of channels that the palette in a header expands the components to; 0 without a palette (T.800, I.5.3.4
/// and I.5.3.5).
fn colors(header: &[u8]) -> usize {
    let of = |wanted: &'static [u8; 4]| Boxes(header).filter(move |(kind, _)| kind == wanted);
    // The number of entries precedes that of columns.
    let columns = of(b"pclr").filter_map(|(_, content)| content.get(2).copied());
    // A mapping may return a column more than once.
    let mapped = of(b"cmap").map(|(_, content)| content.len() / 4).max();
    columns
        .max()
        .map_or(0, |columns| mapped.unwrap_or(0).max(columns.into()))
}

/// Points per meter, as ratios with exponents (T.800, I.5.3.7).
fn resolution(content: &[u8]) -> Option<Resolution> {
    let &[v0, v1, w0, w1, h0, h1, g0, g1, v, h] = content else {
        return None;
    };
    let side = |n: [u8; 2], d: [u8; 2], exponent: u8| {
        let (n, d) = (u16::from_be_bytes(n), u16::from_be_bytes(d));
        let side = f64::from(n) / f64::from(d) * 10_f64.powi((exponent as i8).into());
        (side.is_finite() && side > 0.0).then_some(side / 100.0)
    };
    Some(Resolution {
        x: side([h0, h1], [g0, g1], h)?,
        y: side([v0, v1], [w0, w1], v)?,
        unit: ResolutionUnit::Centimeter,
    })
}

/// The meaning of the first channels, and the ICC profile.
fn color(space: &ColorSpace) -> Decoded<(Color, Option<Vec<u8>>)> {
    let bands = |count: u8| match count {
        1 => Color::Gray,
        count => Color::Bands(count.into()),
    };
    Ok(match space {
        ColorSpace::Gray => (Color::Gray, None),
        ColorSpace::RGB => (Color::Rgb, None),
        ColorSpace::CMYK => (Color::Bands(4), None),
        ColorSpace::Unknown { num_channels } => (bands(*num_channels), None),
        ColorSpace::Icc {
            profile,
            num_channels,
        } => {
            if profile.get(16..20) == Some(b"Lab ".as_slice()) {
                return Err(Fault::new("its color space, CIE L*a*b*, is not supported"));
            }
            let color = match num_channels {
                3 => Color::Rgb,
                &count => bands(count),
            };
            (color, Some(profile.clone()))
        }
    })
}

/// How a component is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Component {
    bits: u8,
    is_signed: bool,
    /// Pixels per sample, across and down.
    step: (u64, u64),
}

impl Component {
    /// Maximum number of bits that the decoder, which computes in `f32`, reproduces exactly: a wavelet transform needs
    /// a few more.
    const MAX_BITS: u8 = 16;

    /// Those of a codestream, from its first segment (T.800, A.5.1).
    fn all(codestream: &[u8]) -> Decoded<Vec<Self>> {
        /// In the capabilities: block coding by Part 15.
        const HIGH_THROUGHPUT: u16 = 1 << 14;
        let short = |at: usize| {
            let bytes = codestream.get(at..at + 2)?;
            Some(u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        let cut = || Fault::new("the file ends before the image does");
        let start = codestream.get(..START.len()).ok_or_else(cut)?;
        if start != START {
            return Err(Fault::new("its JPEG 2000 codestream is damaged"));
        }
        if short(6).ok_or_else(cut)? & HIGH_THROUGHPUT != 0 {
            return Err(Fault::new(
                "its compression, High-Throughput JPEG 2000, is not supported",
            ));
        }
        let count = usize::from(short(40).ok_or_else(cut)?);
        let found = codestream.get(42..42 + 3 * count).ok_or_else(cut)?;
        let components: Vec<_> = found
            .chunks_exact(3)
            .map(|size| Self {
                bits: (size[0] & 0x7F) + 1,
                is_signed: size[0] & 0x80 != 0,
                step: (size[1].max(1).into(), size[2].max(1).into()),
            })
            .collect();
        match components.iter().find(|found| found.bits > Self::MAX_BITS) {
            Some(Self { bits, .. }) => Err(Fault::new(format!(
                "its JPEG 2000 samples have {bits} bits; up to {} are supported",
                Self::MAX_BITS
            ))),
            None => Ok(components),
        }
    }
}

/// How a component is cut into packets and code blocks (T.800, A.6.1).
#[derive(Clone, Copy)]
struct Style<'a> {
    levels: u32,
    layers: u64,
    /// Samples of a code block.
    block: u64,
    /// For each resolution, the binary logarithms of a precinct's sides; none if they are 15.
    precincts: &'a [u8],
}

impl<'a> Style<'a> {
    fn of(has_precincts: bool, layers: u64, content: &'a [u8]) -> Option<Self> {
        let &[levels, across, down, _, _, ref precincts @ ..] = content else {
            return None;
        };
        Some(Self {
            levels: levels.min(32).into(),
            layers,
            block: 1 << ((across & 15) + (down & 15) + 4),
            precincts: if has_precincts { precincts } else { &[] },
        })
    }

    /// The number of packets and code blocks for this many samples horizontally and vertically.
    fn count(&self, (width, height): (u64, u64)) -> (u64, u64) {
        let packets = (0..=self.levels).map(|resolution| {
            let reduced = self.levels - resolution;
            let sides = self
                .precincts
                .get(resolution as usize)
                .copied()
                .unwrap_or(0xFF);
            let count =
                |side: u64, precinct: u8| side.div_ceil(1 << reduced).div_ceil(1 << precinct);
            let precincts = count(width, sides & 15).saturating_mul(count(height, sides >> 4));
            precincts.saturating_mul(self.layers)
        });
        let blocks = width.saturating_mul(height) / self.block + 1;
        (packets.fold(0, u64::saturating_add), blocks)
    }
}

/// Rejects a codestream that declares more than it can contain, or whose tiles, packets and code blocks take more than
/// `most` bytes: the decoder allocates memory for all that are declared.
fn check_size(codestream: &[u8], components: &[Component], most: u64) -> Decoded<()> {
    /// Bytes of the shortest tile header.
    const TILE: u64 = 14;
    let cut = || Fault::new("the file ends before the image does");
    let long = |at: usize| {
        let bytes = codestream.get(at..at + 4)?;
        Some(u64::from(u32::from_be_bytes(bytes.try_into().ok()?)))
    };
    let sides = |at: usize| Some((long(at)?, long(at + 4)?));
    let (end, start) = (sides(8).ok_or_else(cut)?, sides(16).ok_or_else(cut)?);
    let (tile, tiles_start) = (sides(24).ok_or_else(cut)?, sides(32).ok_or_else(cut)?);
    if tile.0 == 0 || tile.1 == 0 {
        return Err(Fault::new("its JPEG 2000 codestream is damaged"));
    }
    let (width, height) = (end.0.saturating_sub(start.0), end.1.saturating_sub(start.1));
    let length = codestream.len() as u64;
    let across = end.0.saturating_sub(tiles_start.0).div_ceil(tile.0);
    let down = end.1.saturating_sub(tiles_start.1).div_ceil(tile.1);
    let tiles = across.saturating_mul(down);
    if tiles.saturating_mul(TILE.max(components.len() as u64)) > length {
        return Err(cut());
    }
    let (mut packets, mut bytes) = (0_u64, 0_u64);
    let styles = styles(codestream, components.len());
    for (component, style) in components.iter().zip(styles) {
        let Some(style) = style else { continue };
        let size = (
            width.div_ceil(component.step.0),
            height.div_ceil(component.step.1),
        );
        let (more, blocks) = style.count(size);
        packets = packets.saturating_add(more);
        // A code block, its layers, and its nodes of two trees.
        bytes = bytes.saturating_add(blocks.saturating_mul(160 + 24 * style.layers));
    }
    if packets > length {
        return Err(cut());
    }
    if bytes > most {
        return Err(Fault::new(
            "its JPEG 2000 code blocks are so small that decoding would need more memory than the limit",
        ));
    }
    Ok(())
}

/// Whether bytes are ASCII, possibly followed by zeros.
fn is_text(bytes: &[u8]) -> bool {
    let end = bytes.iter().rposition(|&byte| byte != 0);
    let words = &bytes[..end.map_or(0, |end| end + 1)];
    let is_readable = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    words.iter().all(is_readable)
}

/// The text comments in the main header of a codestream (some writers mark them as binary), and whether there are
/// others (T.800, A.9.2).
fn comments(codestream: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let (mut words, mut has_others) = (Vec::new(), false);
    // After the start of the codestream.
    let mut at = 2;
    while let Some(&[0xFF, marker, l0, l1, ref behind @ ..]) = codestream.get(at..) {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let content = behind.get(..length.saturating_sub(2)).unwrap_or_default();
        match (marker, content) {
            // The first tile-part.
            (0x90, _) => break,
            (0x64, [0, kind, content @ ..]) => {
                if *kind == 1 || is_text(content) {
                    words.push(content.to_vec());
                } else {
                    has_others = true;
                }
            }
            _ => {}
        }
        at += 2 + length;
    }
    (words, has_others)
}

/// The style of each component: the last one that any header states.
fn styles(codestream: &[u8], components: usize) -> Vec<Option<Style<'_>>> {
    let mut styles = vec![None; components];
    let mut layers = 1;
    // After the start of the codestream.
    let mut at = 2;
    // Where the current tile-part ends.
    let mut end = 0;
    while let Some(&[0xFF, marker, l0, l1, ref behind @ ..]) = codestream.get(at..) {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let content = behind.get(..length.saturating_sub(2)).unwrap_or_default();
        match (marker, content) {
            // Start of tile-part: its index, and its length, 0 for the rest of the file.
            (0x90, &[_, _, n0, n1, n2, n3, ..]) => {
                end = at.saturating_add(u32::from_be_bytes([n0, n1, n2, n3]) as usize);
            }
            (0x93, _) => {
                if end <= at {
                    break;
                }
                at = end;
                continue;
            }
            (0x52, &[flags, _, n0, n1, _, ref parameters @ ..]) => {
                layers = u16::from_be_bytes([n0, n1]).into();
                styles.fill(Style::of(flags & 1 == 1, layers, parameters));
            }
            (0x53, content) => {
                let split = if components < 257 { 1 } else { 2 };
                if let Some((index, [flags, parameters @ ..])) = content.split_at_checked(split) {
                    let index = index
                        .iter()
                        .fold(0, |index, &byte| index << 8 | usize::from(byte));
                    if let Some(style) = styles.get_mut(index) {
                        *style = Style::of(flags & 1 == 1, layers, parameters);
                    }
                }
            }
            _ => {}
        }
        at += 2 + length;
    }
    styles
}

/// A decoded channel: integers in the units of the file.
struct Plane {
    bits: u8,
    is_signed: bool,
    values: Vec<f32>,
}

impl Plane {
    /// A value as pages return it. Fewer than 8 bits become 8.
    fn sample(&self, value: f32, depth: Depth) -> f32 {
        match depth {
            Depth::U8 if self.bits < 8 => {
                let most = (1_u32 << self.bits) - 1;
                from_u8(((value as u32 * 255 + most / 2) / most) as u8)
            }
            Depth::U8 => from_u8(value as u8),
            Depth::U16 => from_u16(value as u16),
            _ => value,
        }
    }
}

/// The type of the samples of all planes.
fn depth(planes: &[Plane]) -> Decoded<Depth> {
    let first = &planes[0];
    let is_alike = |plane: &Plane| (plane.bits, plane.is_signed) == (first.bits, first.is_signed);
    if planes
        .iter()
        .all(|plane| plane.bits <= 8 && !plane.is_signed)
    {
        return Ok(Depth::U8);
    }
    if !planes.iter().all(is_alike) {
        let types: Vec<_> = planes
            .iter()
            .map(|plane| {
                let sign = if plane.is_signed {
                    "signed"
                } else {
                    "unsigned"
                };
                format!("{sign} {}-bit", plane.bits)
            })
            .collect();
        return Err(Fault::new(format!(
            "its channels have different types: {}",
            types.join(", ")
        )));
    }
    Ok(match (first.bits, first.is_signed) {
        (..=8, _) => Depth::I8,
        (_, true) => Depth::I16,
        (_, false) => Depth::U16,
    })
}

/// Decodes all channels, with palettes expanded.
fn planes(bytes: &[u8], components: &[Component]) -> Decoded<Vec<Plane>> {
    // What is cut or damaged is an error.
    let settings = DecodeSettings {
        strict: true,
        ..DecodeSettings::default()
    };
    let image = Image::new(bytes, &settings).map_err(damaged)?;
    let pixels = image.width() as usize * image.height() as usize;
    let mut context = DecoderContext::default();
    let decoded = image.decode(&mut context).map_err(damaged)?;
    let has_palette = decoded.components().len() != components.len();
    // The colors of a palette have no sign.
    let is_signed = |at: usize| !has_palette && components[at].is_signed;
    let planes = decoded
        .components()
        .iter()
        .enumerate()
        .map(|(at, component)| {
            let (bits, is_signed) = (component.bit_depth(), is_signed(at));
            if component.samples().len() != pixels || !(1..=16).contains(&bits) {
                return Err(Fault::new("its JPEG 2000 codestream is damaged"));
            }
            let most = ((1_u32 << bits) - 1) as f32;
            // A transform may exceed the range a little; a palette does not.
            if has_palette && component.samples().iter().any(|&value| value > most) {
                return Err(Fault::new(format!(
                    "its palette has colors of more than the {bits} bits that it declares"
                )));
            }
            let offset = if is_signed {
                (1_u32 << (bits - 1)) as f32
            } else {
                0.0
            };
            let values = component.samples().iter();
            Ok(Plane {
                bits,
                is_signed,
                values: values
                    .map(|value| value.round().clamp(0.0, most) - offset)
                    .collect(),
            })
        });
    let planes = planes.collect::<Decoded<Vec<_>>>()?;
    if planes.is_empty() {
        return Err(Fault::new("its JPEG 2000 codestream is damaged"));
    }
    Ok(planes)
}

fn damaged(error: DecodeError) -> Fault {
    Fault::new(format!(
        "its JPEG 2000 codestream is damaged or uses a feature that is not supported ({error})"
    ))
}

/// A strip or tile of a TIFF.
pub(super) struct Tile {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: usize,
    /// In the order height, width, component; signed ones as two's complement.
    pub(super) samples: Vec<u16>,
}

/// Decodes the codestream of a strip or tile with at most `most` samples of at most `bits` bits; colors are not
/// converted.
pub(super) fn tile(codestream: &[u8], bits: u16, most: usize) -> Decoded<Tile> {
    let components = Component::all(codestream)?;
    check_size(codestream, &components, 4 * most as u64)?;
    let found = components.iter().map(|found| found.bits).max().unwrap_or(0);
    if u16::from(found) > bits {
        return Err(Fault::new(format!(
            "one of its JPEG 2000 tiles has {found} bits per sample; expected {bits}"
        )));
    }
    let bytes = as_file(codestream, components.len() as u16);
    let (width, height) = {
        let image = Image::new(&bytes, &DecodeSettings::default()).map_err(damaged)?;
        (image.width() as usize, image.height() as usize)
    };
    let count = width
        .checked_mul(height)
        .and_then(|n| n.checked_mul(components.len()));
    if count.is_none_or(|count| count > most) {
        return Err(Fault::new(format!(
            "one of its JPEG 2000 tiles has {width}x{height} pixels, more than the directory declares"
        )));
    }
    let planes = planes(&bytes, &components)?;
    let mut samples = vec![0; width * height * planes.len()];
    for (at, plane) in planes.iter().enumerate() {
        let to = samples.iter_mut().skip(at).step_by(planes.len());
        to.zip(&plane.values)
            .for_each(|(to, &value)| *to = value as i32 as u16);
    }
    Ok(Tile {
        width,
        height,
        components: planes.len(),
        samples,
    })
}

/// A JP2 file around a codestream. Without it, the decoder guesses the color space, and converts it.
fn as_file(codestream: &[u8], components: u16) -> Vec<u8> {
    let mut file = SIGNATURE.to_vec();
    file.extend(b"\0\0\0\x14ftypjp2 \0\0\0\0jp2 ");
    file.extend(b"\0\0\0\x2Djp2h\0\0\0\x16ihdr");
    // Height and width, which the codestream has too.
    file.extend(codestream.get(12..16).unwrap_or(&[0; 4]));
    file.extend(codestream.get(8..12).unwrap_or(&[0; 4]));
    file.extend(components.to_be_bytes());
    file.extend([7, 7, 0, 0]);
    // 16 is sRGB, 17 gray.
    let space = if components < 3 { 17 } else { 16 };
    file.extend(b"\0\0\0\x0Fcolr\x01\0\0\0\0\0");
    file.push(space);
    file.extend(b"\0\0\0\0jp2c");
    file.extend(codestream);
    file
}
