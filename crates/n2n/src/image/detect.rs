//! The format of a file, detected from its content, and the one that it is written in.

use std::io::{self, BufRead, Read, Seek};

use super::{Format, gif, jpeg, jpeg2000, mrc, png, tiff, webp};

impl Format {
    /// The format of a file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_source(source: &mut (impl BufRead + Seek)) -> io::Result<Option<Self>> {
        let format = Self::of_content(source.fill_buf()?);
        if format == Some(Self::Tiff) && tiff::dng::is_dng(source) {
            return Ok(Some(Self::Dng));
        }
        Ok(format)
    }

    /// The format that an image is written in unless another is requested: [`Format::written`], but TIFF for an
    /// animation and for a lossless JPEG.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn written_for(self, source: &mut impl Read) -> io::Result<Self> {
        let becomes_tiff = match self {
            Self::Gif => gif::is_animation(source)?,
            Self::Png => png::Animation::of(source)?.is_moving(),
            Self::WebP => webp::is_animation(source)?,
            Self::Jpeg => jpeg::is_lossless(source)?,
            _ => false,
        };
        Ok(if becomes_tiff {
            Self::Tiff
        } else {
            self.written()
        })
    }

    /// The format of a file that begins with these bytes; 212 are enough, except for a DNG, which begins like any TIFF.
    pub fn of_content(start: &[u8]) -> Option<Self> {
        match start {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Some(Self::Png),
            [0xFF, 0xD8, 0xFF, ..] => Some(Self::Jpeg),
            // Little and big end first; 42 is TIFF, 43 BigTIFF.
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Some(Self::Tiff),
            [
                b'R',
                b'I',
                b'F',
                b'F',
                _,
                _,
                _,
                _,
                b'W',
                b'E',
                b'B',
                b'P',
                ..,
            ] => Some(Self::WebP),
            [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] => Some(Self::Pnm),
            [0x76, 0x2F, 0x31, 0x01, ..] => Some(Self::OpenExr),
            [b'P', b'F' | b'f', b' ' | b'\t' | b'\r' | b'\n', ..] => Some(Self::Pfm),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Self::Gif),
            [b'#', b'?', b'R' | b'r', ..] => Some(Self::Hdr),
            start if jpeg2000::is_start(start) => Some(Self::Jpeg2000),
            // Its beginning could also be that of a DIB.
            start if mrc::begins(start) => Some(Self::Mrc),
            // A DIB has no file header; it begins with the size of the bitmap's header.
            [b'B', b'M', ..] | [12 | 40 | 52 | 56 | 108 | 124, 0, 0, 0, ..] => Some(Self::Bmp),
            start if is_tga(start) => Some(Self::Tga),
            _ => None,
        }
    }
}

/// Whether 18 bytes are the header of a Truevision TGA, which has no magic number: its kind of image, palette, depth
/// and size must be consistent.
fn is_tga(start: &[u8]) -> bool {
    let &[
        _,
        palette,
        kind,
        _,
        _,
        _,
        _,
        bits_of_palette,
        _,
        _,
        _,
        _,
        w0,
        w1,
        h0,
        h1,
        bits,
        flags,
        ..,
    ] = start
    else {
        return false;
    };
    let fits = match (kind, palette) {
        (1 | 9, 1) => bits == 8 && matches!(bits_of_palette, 15 | 16 | 24 | 32),
        (2 | 10, 0) => matches!(bits, 15 | 16 | 24 | 32),
        (3 | 11, 0) => matches!(bits, 8 | 16),
        _ => false,
    };
    fits && flags & 0xC0 == 0 && [w0, w1] != [0, 0] && [h0, h1] != [0, 0]
}
