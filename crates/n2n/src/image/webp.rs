//! WebP: lossy or lossless, 8 bits. The frames of an animation are pages.

use std::io::{self, Cursor, Read, SeekFrom};

use ::image::codecs::webp::WebPDecoder;
use ::image::{ColorType, ImageDecoder};

use super::decode::{Decode, Decoded, Fault, Limits, Source};
use super::frames::{self, Canvas, Disposal, Pixel, Place};
use super::metadata::Metadata;
use super::page::Color;
use super::simple;

/// Bytes of the headers of a file and of a chunk.
const FILE_HEADER: usize = 12;
const CHUNK_HEADER: usize = 8;

/// Starts to read a WebP.
pub(super) fn decoder(mut source: Box<dyn Source>, limits: Limits) -> Decoded<Box<dyn Decode>> {
    let has_xmp = has_xmp(&mut source)?;
    let is_moving = is_animation(&mut source)?;
    source.rewind()?;
    if is_moving {
        let mut bytes = Vec::new();
        source.take(4 * limits.samples).read_to_end(&mut bytes)?;
        let mut decoder = WebPDecoder::new(Cursor::new(&bytes))?;
        let metadata = metadata(&mut decoder, has_xmp)?;
        return animation(&bytes, decoder.dimensions(), metadata, limits);
    }
    let mut decoder = WebPDecoder::new(source)?;
    let metadata = metadata(&mut decoder, has_xmp)?;
    simple::decode(decoder, metadata, limits)
}

fn metadata(decoder: &mut impl ImageDecoder, has_xmp: bool) -> Decoded<Metadata> {
    Ok(Metadata {
        icc: decoder.icc_profile()?,
        exif: decoder.exif_metadata()?,
        notes: Vec::from_iter(has_xmp.then(|| "dropped: XMP".into())),
        ..Metadata::default()
    })
}

/// Whether a WebP is an animation, by a flag in its first chunk (RFC 9649, section 2.7).
pub(super) fn is_animation(source: &mut impl Read) -> io::Result<bool> {
    const ANIMATION: u8 = 2;
    let mut start = Vec::new();
    let length = FILE_HEADER + CHUNK_HEADER + 1;
    source.take(length as u64).read_to_end(&mut start)?;
    let is_extended = start[start.len().min(FILE_HEADER)..].starts_with(b"VP8X");
    Ok(is_extended && start.len() == length && start[length - 1] & ANIMATION != 0)
}

/// Whether a WebP has an XMP chunk. Restores the position of the source.
fn has_xmp(source: &mut Box<dyn Source>) -> io::Result<bool> {
    source.seek(SeekFrom::Start(FILE_HEADER as u64))?;
    let mut head = [0; CHUNK_HEADER];
    let mut found = false;
    while !found && source.read_exact(&mut head).is_ok() {
        let [kind @ .., l0, l1, l2, l3] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        found = &kind == b"XMP ";
        source.seek_relative(i64::from(length) + i64::from(length % 2))?;
    }
    source.rewind()?;
    Ok(found)
}

/// Reads the frames of an animation. The decoder's own compositing is not exact: it changes opaque pixels, and clears
/// the wrong area where a frame has no transparency.
fn animation(
    bytes: &[u8],
    size: (u32, u32),
    metadata: Metadata,
    limits: Limits,
) -> Decoded<Box<dyn Decode>> {
    let allowed = frames::check(limits, size)?;
    let mut canvas = Canvas::new(size);
    let chunks = Chunks(bytes.get(FILE_HEADER..).unwrap_or_default());
    let found = chunks.filter_map(|chunk| {
        let content = match chunk {
            Ok((b"ANMF", content)) => content,
            Ok(_) => return None,
            Err(fault) => return Some(Err(fault)),
        };
        let read = frame(&canvas, content, &allowed);
        Some(read.map(|(place, pixels)| canvas.draw(&place, &pixels)))
    });
    frames::decoder(size, found, Some(Color::Rgb), metadata, limits)
}

/// A frame and its place (RFC 9649, section 2.7.1.1).
fn frame(
    canvas: &Canvas<u8>,
    content: &[u8],
    allowed: &::image::Limits,
) -> Decoded<(Place, Vec<Pixel<u8>>)> {
    const CLEARS: u8 = 1;
    const REPLACES: u8 = 2;
    let &[
        x0,
        x1,
        x2,
        y0,
        y1,
        y2,
        w0,
        w1,
        w2,
        h0,
        h1,
        h2,
        _,
        _,
        _,
        flags,
        ref data @ ..,
    ] = content
    else {
        return Err(Fault::new("one of its frames is damaged"));
    };
    let number = |bytes: [u8; 3]| {
        let [low, middle, high] = bytes.map(usize::from);
        low | middle << 8 | high << 16
    };
    let place = Place {
        left: 2 * number([x0, x1, x2]),
        top: 2 * number([y0, y1, y2]),
        width: number([w0, w1, w2]) + 1,
        height: number([h0, h1, h2]) + 1,
        blends: flags & REPLACES == 0,
        disposal: if flags & CLEARS == 0 {
            Disposal::Keep
        } else {
            Disposal::Clear
        },
    };
    canvas.check(&place)?;
    let mut decoder = WebPDecoder::new(Cursor::new(still(data, &content[6..12])?))?;
    if decoder.dimensions() != (place.width as u32, place.height as u32) {
        return Err(Fault::new(
            "one of its frames is not of the size that it declares",
        ));
    }
    let is_opaque = decoder.color_type() == ColorType::Rgb8;
    decoder.set_limits(allowed.clone())?;
    let mut samples = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut samples)?;
    let pixels = if is_opaque {
        let colors = samples.as_chunks().0.iter();
        colors.map(|&[r, g, b]| [r, g, b, u8::MAX]).collect()
    } else {
        samples.as_chunks().0.to_vec()
    };
    Ok((place, pixels))
}

/// A still image of one frame, from the chunks of its data and the bytes of its size.
fn still(data: &[u8], size: &[u8]) -> Decoded<Vec<u8>> {
    const HAS_ALPHA: u8 = 0x10;
    let mut chunks = Vec::new();
    for chunk in Chunks(data) {
        let (kind, content) = chunk?;
        match kind {
            // An alpha channel beside a lossy image needs a header.
            b"ALPH" if chunks.is_empty() => {
                push(
                    &mut chunks,
                    *b"VP8X",
                    &[&[HAS_ALPHA, 0, 0, 0], size].concat(),
                );
                push(&mut chunks, *kind, content);
            }
            b"VP8 " | b"VP8L" => {
                push(&mut chunks, *kind, content);
                break;
            }
            _ => {}
        }
    }
    let mut file = Vec::new();
    push(&mut file, *b"RIFF", &[b"WEBP".as_slice(), &chunks].concat());
    Ok(file)
}

/// Appends a chunk.
fn push(to: &mut Vec<u8>, kind: [u8; 4], content: &[u8]) {
    to.extend(kind);
    to.extend((content.len() as u32).to_le_bytes());
    to.extend(content);
    to.extend(&[0][..content.len() % 2]);
}

/// The kinds and contents of consecutive chunks.
struct Chunks<'a>(&'a [u8]);

impl<'a> Iterator for Chunks<'a> {
    type Item = Decoded<(&'a [u8; 4], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let (kind, rest) = self.0.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let Some((content, rest)) = rest.split_at_checked(length) else {
            self.0 = &[];
            return Some(Err(Fault::new("the file ends before the image does")));
        };
        // Chunks are padded to an even length.
        self.0 = rest.get(length % 2..).unwrap_or_default();
        Some(Ok((kind, content)))
    }
}
