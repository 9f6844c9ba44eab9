//! PNG: lossless, grey or RGB, at 8 or 16 bits.

use std::fs::File;
use std::io::{BufReader, Write};

use ::image::codecs::png::{PngDecoder, PngEncoder};
use ::image::{ExtendedColorType, ImageDecoder, ImageEncoder, ImageResult, Limits};

use super::{Depth, Image, MAX_VALUES};

/// Starts to read a PNG.
pub(super) fn decoder(reader: BufReader<File>) -> ImageResult<Box<dyn ImageDecoder>> {
    // Not only pixels expand: so do compressed texts and colour profiles.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(2 * MAX_VALUES);
    Ok(Box::new(PngDecoder::with_limits(reader, limits)?))
}

/// Writes a PNG of `image`, which is grey or RGB, at its depth.
///
/// Its compression is the fast one: on photographs it took a tenth of the default's time for files
/// 5 to 25 % larger.
pub(super) fn encode(image: &Image, out: impl Write) -> ImageResult<()> {
    let (color, bytes) = match (image.depth, image.channels) {
        (Depth::U8, 1) => (ExtendedColorType::L8, image.to_bytes()),
        (Depth::U8, _) => (ExtendedColorType::Rgb8, image.to_bytes()),
        (Depth::U16, 1) => (ExtendedColorType::L16, native_bytes(image)),
        (Depth::U16, _) => (ExtendedColorType::Rgb16, native_bytes(image)),
    };
    PngEncoder::new(out).write_image(&bytes, image.width as u32, image.height as u32, color)
}

/// 16-bit values as the encoder takes them; it writes the big-endian order of the format.
fn native_bytes(image: &Image) -> Vec<u8> {
    let words = image.to_words();
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}
