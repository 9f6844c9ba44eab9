//! Images as the rest of the library sees them, and the only place that knows file formats and
//! integer ranges.
//!
//! There are two ways to read a file. [`Image::read`] and [`images`] return whole images for training and scoring:
//! upright (an Exif orientation is applied) and without transparency (which is dropped, not blended). [`Reader`]
//! returns a file as it is: page by page and row by row, with all samples and metadata, so that it can be written
//! again.
//!
//! Unsigned 8-bit and 16-bit samples map to 0..1; signed samples, 32-bit samples and floats keep their values (see
//! [`Depth::unit`]). Palettes and depths below 8 bits are expanded. Samples that a file marks as missing become
//! [`MISSING`]. Writing rounds as the paper's evaluation does, `uint8(clip(x·255 + 0.5, 0, 255))`, for 16 bits with
//! 65535.

mod baseline;
mod bmp;
mod decode;
mod depth;
mod detect;
mod dropped;
mod encode;
mod exr;
mod format;
mod frames;
mod gif;
mod huffman;
mod images;
mod jpeg;
mod jpeg2000;
mod ljpeg;
mod memory;
mod metadata;
mod mrc;
mod packed;
mod page;
mod pfm;
mod png;
mod reader;
mod resize;
mod select;
mod simple;
mod tiff;
mod unsupported;
mod webp;
mod writer;

pub use decode::Limits;
pub use depth::Depth;
pub use encode::{Encoding, QUALITY};
pub use format::{EXTENSIONS, Format, is_supported, none_in};
pub(crate) use images::selected;
pub use images::{dimensions, image, images};
pub use metadata::{MISSING, Metadata, Position, Resolution, ResolutionUnit, Response, Sensor};
pub use packed::Packed;
pub use page::{Color, OfImage, Page, Pages};
pub use reader::Reader;
pub(crate) use select::Census;
pub use select::{Numbers, Selection};
pub use writer::write_pages;

use std::io::{Seek, Write};
use std::path::Path;

pub use ::image::metadata::Orientation;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::files;

/// The weights of red, green and blue in a gray value: the luma of Rec. ITU-R BT.601, as in JPEG and in other
/// programs.
pub(crate) const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// An image: `f32` pixels in the order height, width, channel. Unsigned 8-bit and 16-bit files are read as 0..1, others
/// in their own units.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Number of channels: 1 for gray, 3 for RGB, or any other number.
    pub channels: usize,
    /// `height · width · channels` values.
    pub data: Vec<f32>,
    /// Depth of the file that it was read from; used when it is written.
    pub depth: Depth,
}

impl Image {
    /// Reads and decodes the first page of a file, which must be gray or RGB; [`images()`] reads pages with any number
    /// of channels. The format is detected from the content, not from the name.
    pub fn read(path: &Path) -> Result<Self> {
        let mut images = images(path)?;
        let image = images
            .next()
            .unwrap_or_else(|| Err(images::without_pages(path)))?;
        match image.channels {
            1 | 3 => Ok(image),
            channels => Err(Error::Image {
                path: path.into(),
                reason: format!("it has {channels} channels; expected gray or RGB"),
            }),
        }
    }

    /// Writes the image in the format of the path's extension. Integers are clipped and rounded. If the format does not
    /// have the image's depth, that of [`Encoding::depth_of`] is used. JPEGs have quality 95 and no chroma subsampling.
    ///
    /// The file is written whole or not at all.
    ///
    /// # Panics
    /// If `data` does not hold `height · width · channels` values.
    pub fn write(&self, path: &Path) -> Result<()> {
        let encoding = Encoding::of_name(path)?;
        files::write_atomically(path, |out| self.encode(encoding, path, out))
    }

    /// Encodes the image to `out`, the content of `path`.
    pub(crate) fn encode(
        &self,
        encoding: Encoding,
        path: &Path,
        out: &mut (impl Write + Seek),
    ) -> Result<()> {
        assert_eq!(
            self.data.len(),
            self.height * self.width * self.channels,
            "values of an image"
        );
        let mut page = OfImage::new(self);
        write_pages(&mut page, encoding, path, out)
    }

    /// The image with `channels` channels (1 or 3): gray is copied to red, green and blue; RGB is converted to luma,
    /// `0.299 R + 0.587 G + 0.114 B` (Rec. ITU-R BT.601).
    ///
    /// # Panics
    /// If the numbers of channels differ and either of them is neither 1 nor 3.
    #[must_use]
    pub fn with_channels(self, channels: usize) -> Self {
        let data = match (self.channels, channels) {
            (from, to) if from == to => return self,
            (1, 3) => self.data.iter().flat_map(|&gray| [gray; 3]).collect(),
            (3, 1) => {
                let luma = |rgb: &[f32; 3]| LUMA[0] * rgb[0] + LUMA[1] * rgb[1] + LUMA[2] * rgb[2];
                self.data.as_chunks().0.iter().map(luma).collect()
            }
            (from, to) => panic!("{from} channels cannot become {to}: only 1 and 3 can"),
        };
        Self {
            channels,
            data,
            ..self
        }
    }

    /// One of the channels, counted from 0, as a gray image.
    ///
    /// # Panics
    /// If there is no such channel.
    #[must_use]
    pub fn channel(&self, channel: usize) -> Self {
        assert!(
            channel < self.channels,
            "channel {channel} of {}",
            self.channels
        );
        let values = self.data.iter().skip(channel).step_by(self.channels);
        Self {
            channels: 1,
            data: values.copied().collect(),
            ..*self
        }
    }

    /// The pixels as 8-bit integers: `uint8(clip(x·255 + 0.5, 0, 255))`, computed in `f32`. NaN becomes 0.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.data.iter().map(|&x| encode::to_u8(x)).collect()
    }

    /// The only image of a batch, with a depth of 8 bits.
    ///
    /// # Panics
    /// If the batch does not hold exactly one image.
    pub(crate) fn from_batch(batch: Batch) -> Self {
        assert_eq!(batch.n, 1, "images of the batch");
        Self {
            height: batch.h,
            width: batch.w,
            channels: batch.c,
            data: batch.data,
            depth: Depth::U8,
        }
    }

    /// An 8-bit image from its bytes, `x = byte / 255`, in the order height, width, channel.
    ///
    /// # Panics
    /// If there are not `height · width · channels` bytes.
    pub fn from_bytes(height: usize, width: usize, channels: usize, bytes: &[u8]) -> Self {
        assert_eq!(
            bytes.len(),
            height * width * channels,
            "bytes of a {height}x{width}x{channels} image"
        );
        Self {
            height,
            width,
            channels,
            data: bytes.iter().map(|&byte| f32::from(byte) / 255.0).collect(),
            depth: Depth::U8,
        }
    }

    /// A batch of this one image.
    pub fn into_batch(self) -> Batch {
        Batch::new(1, self.height, self.width, self.channels, self.data)
    }

    /// The pixels as 16-bit integers, rounded as in [`Image::to_bytes`].
    fn to_words(&self) -> Vec<u16> {
        self.data.iter().map(|&x| encode::to_u16(x)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// A file made by `tests/golden/images/make.py`.
    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/golden/images")
            .join(name)
    }

    /// An image whose values run through the whole range of its depth.
    fn ramp(height: usize, width: usize, channels: usize, depth: Depth) -> Image {
        let values = height * width * channels;
        let max = match depth {
            Depth::U8 => 255,
            _ => 65535,
        };
        let value = |i: usize| (i * max / (values - 1)) as f32 / max as f32;
        Image {
            height,
            width,
            channels,
            data: (0..values).map(value).collect(),
            depth,
        }
    }

    fn largest_difference(a: &Image, b: &Image) -> f32 {
        assert_eq!(
            (a.height, a.width, a.channels),
            (b.height, b.width, b.channels)
        );
        let differences = a.data.iter().zip(&b.data).map(|(a, b)| (a - b).abs());
        differences.fold(0.0, f32::max)
    }

    /// Why a file of this name and content cannot be read.
    fn reason(name: &str, bytes: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let error = Image::read(&path).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Image { .. }), "{text}");
        let (file, reason) = text.split_once(": not a readable image: ").unwrap();
        assert_eq!(Path::new(file), path);
        reason.to_string()
    }

    #[test]
    fn a_png_gives_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.PNG");
        for depth in [Depth::U8, Depth::U16] {
            for channels in [1, 3] {
                for (height, width) in [(1, 2), (37, 41), (256, 300)] {
                    let image = ramp(height, width, channels, depth);
                    image.write(&path).unwrap();
                    assert_eq!(Image::read(&path).unwrap(), image);
                    assert_eq!(dimensions(&path).unwrap(), (width, height));
                }
            }
        }
    }

    #[test]
    fn a_jpeg_gives_back_nearly_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        for (name, channels) in [("gray.jpg", 1), ("rgb.JPEG", 3)] {
            let path = dir.path().join(name);
            let image = ramp(37, 41, channels, Depth::U16);
            image.write(&path).unwrap();
            let read = Image::read(&path).unwrap();
            assert_eq!(read.depth, Depth::U8);
            assert!(largest_difference(&read, &image) < 4.0 / 255.0);
            assert_eq!(dimensions(&path).unwrap(), (41, 37));
        }
    }

    #[test]
    fn palettes_bits_and_transparency_become_plain_pixels() {
        let bytes = |name: &str| {
            let image = Image::read(&golden(name)).unwrap();
            assert_eq!(image.depth, Depth::U8);
            let shape = (image.height, image.width, image.channels);
            (shape, image.to_bytes())
        };
        assert_eq!(
            bytes("palette.png"),
            (
                (2, 2, 3),
                vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 128, 128, 128]
            )
        );
        assert_eq!(bytes("one_bit.png"), ((1, 3, 1), vec![255, 0, 255]));
        assert_eq!(bytes("rgba.png"), ((1, 2, 3), vec![10, 20, 30, 40, 50, 60]));
    }

    #[test]
    fn sixteen_bits_are_read_in_full() {
        let words = |name: &str| {
            let image = Image::read(&golden(name)).unwrap();
            assert_eq!(image.depth, Depth::U16);
            let shape = (image.height, image.width, image.channels);
            (shape, image.to_words())
        };
        assert_eq!(
            words("grey16.png"),
            ((2, 3, 1), vec![0, 1, 256, 32768, 65534, 65535])
        );
        assert_eq!(
            words("rgb16.png"),
            ((1, 2, 3), vec![1, 2, 3, 257, 258, 65535])
        );
    }

    #[test]
    fn a_jpeg_is_decoded_as_libjpeg_does() {
        let ours = Image::read(&golden("photo.jpg")).unwrap();
        let theirs = Image::read(&golden("photo_jpg_decoded.png")).unwrap();
        // The standard lets a transform be off by one; in blue that is 1 of luma + 1.772 of chroma,
        // and a rounding.
        assert!(largest_difference(&ours, &theirs) < 3.5 / 255.0);
    }

    #[test]
    fn a_picture_stored_on_its_side_is_read_upright() {
        let upright = Image::read(&golden("photo.jpg")).unwrap();
        let turned = Image::read(&golden("lying.jpg")).unwrap();
        assert!(largest_difference(&turned, &upright) < 12.0 / 255.0);
        assert_eq!(dimensions(&golden("lying.jpg")).unwrap(), (40, 24));
    }

    #[test]
    fn the_content_decides_the_format() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("photo.png");
        fs::copy(golden("photo.jpg"), &path).unwrap();
        assert_eq!(
            Image::read(&path).unwrap(),
            Image::read(&golden("photo.jpg")).unwrap()
        );
    }

    #[test]
    fn what_is_no_image_is_refused_with_the_reason() {
        assert_eq!(reason("empty.png", b""), "the file is empty");
        assert_eq!(
            reason("text.png", b"not pixels but words"),
            "it is not a PNG, JPEG, TIFF, DNG, WebP, BMP, PNM, OpenEXR, TGA, PFM, MRC, GIF, \
             Radiance HDR or JPEG 2000 file"
        );
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.png");
        ramp(9, 11, 3, Depth::U16).write(&path).unwrap();
        let png = fs::read(&path).unwrap();
        let jpeg = fs::read(golden("photo.jpg")).unwrap();
        for whole in [png, jpeg] {
            // The last 12 bytes of a PNG are its empty end chunk: no pixel is missing without it.
            for length in (0..whole.len() - 12).step_by(7) {
                assert!(!reason("cut", &whole[..length]).is_empty());
            }
        }
    }

    #[test]
    fn a_damaged_file_is_read_or_refused_but_never_panics() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("damaged");
        for name in ["photo.jpg", "progressive.jpg", "palette.png", "rgb16.png"] {
            let whole = fs::read(golden(name)).unwrap();
            for at in 0..whole.len() {
                for value in [0xFF, whole[at] ^ 0x01] {
                    let mut damaged = whole.clone();
                    damaged[at] = value;
                    fs::write(&path, damaged).unwrap();
                    let _ = Image::read(&path);
                }
            }
        }
    }

    #[test]
    fn a_claim_of_more_pixels_than_memory_is_refused_before_decoding() {
        let said = reason("bomb.png", &fs::read(golden("bomb.png")).unwrap());
        assert!(said.contains("100000x100000"), "{said}");

        // Height and width stand five bytes into the frame header.
        let mut jpeg = fs::read(golden("photo.jpg")).unwrap();
        let frame = jpeg.windows(2).position(|pair| pair == [0xFF, 0xC0]);
        jpeg[frame.unwrap() + 5..][..4].fill(0xFF);
        let said = reason("bomb.jpg", &jpeg);
        assert!(said.contains("65535x65535"), "{said}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Image::read(Path::new("/nowhere/image.png")).unwrap_err();
        assert!(matches!(error, Error::Io { .. }));
        assert!(error.to_string().contains("/nowhere/image.png"));
    }

    #[test]
    fn an_unknown_extension_is_refused_with_the_choices() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["image.psd", "image"] {
            let path = dir.path().join(name);
            let error = ramp(2, 2, 3, Depth::U8).write(&path).unwrap_err();
            let text = error.to_string();
            assert!(
                text.contains(name) && text.contains(".png, .pnm, .ppm, .stk, .tf8, .tga, .tif")
            );
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let image = ramp(2, 2, 3, Depth::U8);
        let two_channels = ramp(2, 2, 2, Depth::U8);
        // Wider than a JPEG can be.
        let too_wide = ramp(1, 70_000, 1, Depth::U8);
        for (name, bad) in [
            ("a.png", &two_channels),
            ("b.jpg", &two_channels),
            ("c.jpg", &too_wide),
        ] {
            let path = dir.path().join(name);
            image.write(&path).unwrap();
            let before = fs::read(&path).unwrap();
            let error = bad.write(&path).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
            assert_eq!(fs::read(&path).unwrap(), before);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn bytes_are_rounded_half_up_and_clipped() {
        let pixels = [
            (0.0, 0),
            (0.499 / 255.0, 0),
            (0.501 / 255.0, 1),
            (0.5, 128),
            (1.0, 255),
            (-0.3, 0),
            (1.7, 255),
            (f32::INFINITY, 255),
            (f32::NEG_INFINITY, 0),
            (f32::NAN, 0),
        ];
        let (data, expected): (Vec<f32>, Vec<u8>) = pixels.into_iter().unzip();
        let image = Image {
            height: 2,
            width: 5,
            channels: 1,
            data,
            depth: Depth::U16,
        };
        assert_eq!(image.to_bytes(), expected);
        let words = [0, 128, 129, 32768, 65535, 0, 65535, 65535, 0, 0];
        assert_eq!(image.to_words(), words);
    }

    #[test]
    fn every_byte_survives_the_way_through_f32() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(Image::from_bytes(16, 16, 1, &bytes).to_bytes(), bytes);
    }

    #[test]
    fn channels_are_copied_or_weighted() {
        let gray = Image::from_bytes(1, 2, 1, &[7, 200]);
        let rgb = gray.clone().with_channels(3);
        assert_eq!(rgb.to_bytes(), [7, 7, 7, 200, 200, 200]);
        assert_eq!(rgb.clone().with_channels(3), rgb);
        assert_eq!(rgb.with_channels(1).to_bytes(), gray.to_bytes());

        // Red, green, blue: 255 · (0.299, 0.587, 0.114).
        let primaries = Image::from_bytes(1, 3, 3, &[255, 0, 0, 0, 255, 0, 0, 0, 255]);
        assert_eq!(primaries.with_channels(1).to_bytes(), [76, 150, 29]);
    }
}
