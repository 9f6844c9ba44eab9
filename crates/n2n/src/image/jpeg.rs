//! JPEG: lossy, grey or RGB, at 8 bits.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Write};

use ::image::codecs::jpeg::{JpegDecoder, JpegEncoder};
use ::image::error::DecodingError;
use ::image::{
    ExtendedColorType, ImageDecoder, ImageEncoder, ImageError, ImageFormat, ImageResult,
};

use super::{Image, MAX_VALUES};

/// Starts to read a JPEG.
pub(super) fn decoder(reader: BufReader<File>) -> ImageResult<Box<dyn ImageDecoder>> {
    let mut bytes = Vec::new();
    reader.take(2 * MAX_VALUES).read_to_end(&mut bytes)?;
    if !is_complete(&bytes) {
        let reason = "the file ends before the image does";
        let error = DecodingError::new(ImageFormat::Jpeg.into(), reason);
        return Err(ImageError::Decoding(error));
    }
    Ok(Box::new(JpegDecoder::new(Cursor::new(bytes))?))
}

/// Writes a JPEG of `image`, which is grey or RGB; `quality` is 1..=100 as libjpeg counts it.
///
/// Every component is stored at full resolution (4:4:4).
pub(super) fn encode(image: &Image, quality: u8, out: impl Write) -> ImageResult<()> {
    let color = match image.channels {
        1 => ExtendedColorType::L8,
        _ => ExtendedColorType::Rgb8,
    };
    JpegEncoder::new_with_quality(out, quality).write_image(
        &image.to_bytes(),
        image.width as u32,
        image.height as u32,
        color,
    )
}

/// Whether the bytes reach the end-of-image marker (ITU-T T.81, annex B).
///
/// The decoder does not ask: it paints what is missing grey and calls that a success. Segments are
/// skipped by their length, for a thumbnail in one of them has an end of its own.
fn is_complete(bytes: &[u8]) -> bool {
    const END_OF_IMAGE: u8 = 0xD9;
    let mut rest = bytes;
    while let Some(start) = rest.iter().position(|&byte| byte == 0xFF) {
        rest = &rest[start + 1..];
        match rest {
            [END_OF_IMAGE, ..] => return true,
            // A fill byte: the marker is yet to come.
            [0xFF, ..] => {}
            // 0xFF as data, and the markers that stand alone: TEM, the restarts, start of image.
            [0x00 | 0x01 | 0xD0..=0xD8, behind @ ..] => rest = behind,
            [_, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = rest.get(1 + length..).unwrap_or_default();
            }
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHOTO: &[u8] = include_bytes!("../../../../tests/golden/images/photo.jpg");
    const PROGRESSIVE: &[u8] = include_bytes!("../../../../tests/golden/images/progressive.jpg");

    /// The content of the first segment with this marker.
    fn segment(jpeg: &[u8], marker: u8) -> &[u8] {
        let at = jpeg.windows(2).position(|pair| pair == [0xFF, marker]);
        let (length, content) = jpeg[at.unwrap() + 2..].split_at(2);
        &content[..usize::from(u16::from_be_bytes([length[0], length[1]])) - 2]
    }

    #[test]
    fn chroma_is_not_subsampled_and_quality_100_hardly_quantises() {
        let bytes: Vec<u8> = (0..20 * 20 * 3).map(|i| (i * 7) as u8).collect();
        let mut jpeg = Vec::new();
        encode(&Image::from_bytes(20, 20, 3, &bytes), 100, &mut jpeg).unwrap();

        // Depth, height, width, number of components; then for each its id, sampling, table.
        let frame = segment(&jpeg, 0xC0);
        assert_eq!(frame[..6], [8, 0, 20, 0, 20, 3]);
        let sampling: Vec<u8> = frame[6..].chunks(3).map(|part| part[1]).collect();
        assert_eq!(sampling, [0x11, 0x11, 0x11]);
        assert_eq!(segment(&jpeg, 0xDB)[1..], [1; 64]);
    }

    #[test]
    fn a_cut_file_is_told_from_a_whole_one() {
        for whole in [PHOTO, PROGRESSIVE] {
            assert!(is_complete(whole));
            assert!(is_complete(&[whole, b"behind the end"].concat()));
            for length in 0..whole.len() {
                assert!(!is_complete(&whole[..length]), "{length} bytes");
            }
        }
    }

    #[test]
    fn the_end_of_a_thumbnail_is_not_the_end_of_the_image() {
        let thumbnail = [0xFF, 0xE1, 0x00, 0x06, 0xFF, 0xD8, 0xFF, 0xD9];
        let whole = [&PHOTO[..2], &thumbnail, &PHOTO[2..]].concat();
        assert!(is_complete(&whole));
        assert!(!is_complete(&whole[..whole.len() - 2]));
    }
}
