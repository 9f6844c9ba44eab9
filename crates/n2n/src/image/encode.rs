//! What encoders share: how pages are to be stored, samples as bytes, and access to Exif blocks and color profiles.

use std::path::Path;

use ::image::ExtendedColorType;
use ::image::metadata::Orientation;

use super::metadata::{MISSING, Metadata};
use super::page::{Color, Page, Pages, way};
use super::{Depth, EXTENSIONS, Format};
use crate::error::{Error, Result};

/// How pages are stored in a file.
#[derive(Debug, Clone, Copy)]
pub struct Encoding {
    /// The format.
    pub format: Format,
    /// The depth of the samples; `None` for that of the page. [`Encoding::depth_of`] says what takes its place if the
    /// format does not have it.
    pub depth: Option<Depth>,
    /// JPEG quality on libjpeg's scale, 1..=100. Chroma is not subsampled.
    pub quality: u8,
}

/// The default JPEG quality.
pub const QUALITY: u8 = 95;

impl Encoding {
    /// A format, at the depth of the pages.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            depth: None,
            quality: QUALITY,
        }
    }

    /// The encoding for a file of this name.
    pub fn of_name(path: &Path) -> Result<Self> {
        let format = Format::of_name(path).ok_or_else(|| Error::Image {
            path: path.to_path_buf(),
            reason: format!("an image file name must end in .{}", EXTENSIONS.join(", .")),
        })?;
        if format.written() != format {
            return Err(Error::Image {
                path: path.to_path_buf(),
                reason: format!(
                    "{format} can be read but not written; use the extension .{}",
                    format.written().extensions()[0]
                ),
            });
        }
        Ok(Self::new(format))
    }

    /// The depth that a page of depth `found` is written at: the requested one or, if none is, that of the page. If the
    /// format does not have that depth, the page is written at the next lower one that it has, or else at its lowest;
    /// in MRC, at one that holds the values, up to the rounding of `f32`.
    pub fn depth_of(&self, found: Depth) -> Depth {
        let wanted = self.depth.unwrap_or(found);
        let depths = self.format.depths();
        if depths.contains(&wanted) {
            wanted
        } else if self.format == Format::Mrc {
            // The one that holds its values; those of 32 bits or more up to the rounding of `f32`.
            match wanted {
                Depth::U8 => Depth::U16,
                _ => Depth::F32,
            }
        } else {
            // The deepest below the wanted one. For integers, that is a float only if the format has nothing else.
            *depths
                .iter()
                .rev()
                .find(|&&depth| depth < wanted)
                .unwrap_or(&depths[0])
        }
    }

    /// Whether the range of a page of depth `found` is mapped to that of the written type, instead of its values being
    /// kept: those of wider types, and of types with units of their own, do not fit unsigned integers of 8 and 16 bits.
    pub fn narrows(&self, found: Depth) -> bool {
        let written = self.depth_of(found);
        written.unit() != 1.0 && (found.unit() == 1.0 || written < found)
    }
}

/// Why a page cannot be written; the file is named by the caller.
pub(super) enum Refused {
    /// Reading or making the page failed.
    Source(Error),
    /// The system refused.
    Io(std::io::Error),
    /// The format cannot hold it.
    Page(String),
}

/// The result of encoding.
pub(super) type Encoded<T> = std::result::Result<T, Refused>;

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Source(error)
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<::image::ImageError> for Refused {
    fn from(error: ::image::ImageError) -> Self {
        match error {
            ::image::ImageError::IoError(error) => Self::Io(error),
            error => Self::Page(error.to_string()),
        }
    }
}

/// A page with all its samples.
pub(super) struct Raster {
    pub(super) page: Page,
    pub(super) samples: Vec<f32>,
}

impl Raster {
    pub(super) fn read(pages: &mut dyn Pages, page: Page) -> Encoded<Self> {
        let mut samples = Vec::new();
        pages.read_rows(page.height, &mut samples)?;
        restore_missing(&mut samples, &page, page.depth);
        Ok(Self { page, samples })
    }

    /// The page turned as its orientation says, for formats that cannot store an orientation.
    pub(super) fn upright(self, format: Format) -> Self {
        let Self { mut page, samples } = self;
        let orientation = page.orientation;
        if orientation == Orientation::NoTransforms || format == Format::WebP {
            return Self { page, samples };
        }
        let (h, w) = (page.height, page.width);
        (page.width, page.height) = page.upright_size();
        debug_assert_eq!(page.height == w, way(orientation).swaps_sides() || h == w);
        let samples = way(orientation).apply(&samples, (h, w));
        page.orientation = Orientation::NoTransforms;
        Self { page, samples }
    }

    /// The `image` crate's color type for it, at 8 or 16 bits.
    pub(super) fn color_type(&self, depth: Depth) -> ExtendedColorType {
        match (depth, self.page.color.channels(), self.page.extra) {
            (Depth::U8, 1, 0) => ExtendedColorType::L8,
            (Depth::U8, 1, _) => ExtendedColorType::La8,
            (Depth::U8, _, 0) => ExtendedColorType::Rgb8,
            (Depth::U8, ..) => ExtendedColorType::Rgba8,
            (_, 1, 0) => ExtendedColorType::L16,
            (_, 1, _) => ExtendedColorType::La16,
            (_, _, 0) => ExtendedColorType::Rgb16,
            _ => ExtendedColorType::Rgba16,
        }
    }
}

/// Samples as integers of the depth, or as floats, in the byte order of this machine.
pub(super) fn native_bytes(samples: &[f32], depth: Depth) -> Vec<u8> {
    match depth {
        Depth::U8 => samples.iter().map(|&x| to_u8(x)).collect(),
        Depth::U16 => samples
            .iter()
            .flat_map(|&x| to_u16(x).to_ne_bytes())
            .collect(),
        // Conversions of floats to integers saturate, and NaN becomes 0.
        Depth::I8 => samples.iter().map(|&x| x.round() as i8 as u8).collect(),
        Depth::I16 => samples
            .iter()
            .flat_map(|&x| (x.round() as i16).to_ne_bytes())
            .collect(),
        Depth::U32 => samples
            .iter()
            .flat_map(|&x| (x.round() as u32).to_ne_bytes())
            .collect(),
        Depth::I32 => samples
            .iter()
            .flat_map(|&x| (x.round() as i32).to_ne_bytes())
            .collect(),
        Depth::F32 => samples.iter().flat_map(|&x| x.to_ne_bytes()).collect(),
        Depth::F64 => samples
            .iter()
            .flat_map(|&x| f64::from(x).to_ne_bytes())
            .collect(),
    }
}

/// Replaces missing samples with the value that stands for them, and keeps other samples from becoming that value by
/// rounding.
pub(super) fn restore_missing(rows: &mut [f32], page: &Page, depth: Depth) {
    let Some(mut nodata) = page.metadata.nodata.map(|value| value as f32) else {
        return;
    };
    let (from, unit) = (page.depth.unit(), depth.unit());
    if from > 1.0 && unit > 1.0 {
        // Between unsigned integers of 8 and 16 bits, values keep their share of the range.
        nodata = (nodata * unit / from).round();
    }
    for value in rows {
        if value.to_bits() == MISSING.to_bits() {
            *value = nodata / unit;
        } else if !depth.is_float() && (*value * unit).round() == nodata {
            let next = if nodata >= unit && unit > 1.0 {
                -1.0
            } else {
                1.0
            };
            *value = (nodata + next) / unit;
        }
    }
}

/// `uint8(clip(x·255 + 0.5, 0, 255))`; NaN becomes 0.
pub(super) fn to_u8(x: f32) -> u8 {
    // The conversion truncates and saturates, which is the clip.
    (x * 255.0 + 0.5) as u8
}

/// [`to_u8`] for 16 bits, with 65535.
pub(super) fn to_u16(x: f32) -> u16 {
    (x * 65535.0 + 0.5) as u16
}

impl Metadata {
    /// The color profile, if it is for this sort of color: one for ink is wrong for red, green and
    /// blue (ICC.1:2022, 7.2.6).
    pub(super) fn icc_for(&self, color: Color) -> Option<&[u8]> {
        let wanted: &[u8] = match color {
            Color::Gray => b"GRAY",
            Color::Rgb => b"RGB ",
            Color::Bands(4) => b"CMYK",
            Color::Bands(_) => return None,
        };
        self.icc
            .as_deref()
            .filter(|icc| icc.get(16..20) == Some(wanted))
    }

    /// Notes a color profile that is not for this sort of color, and is not written.
    pub(super) fn note_other_profile(&mut self, color: Color) {
        if self.icc.is_some() && self.icc_for(color).is_none() {
            let note = "dropped: the color profile, which is for colors of another kind";
            self.notes.push(note.into());
        }
    }

    /// The Exif block or, if there is none, one with the orientation and the description, if there is either.
    pub(super) fn exif_with(&self, orientation: Orientation) -> Option<Vec<u8>> {
        if self.exif.is_some() {
            return self.exif.clone();
        }
        let words = self
            .description
            .as_deref()
            .filter(|words| !words.is_empty());
        if orientation == Orientation::NoTransforms && words.is_none() {
            return None;
        }
        // A TIFF header, and a directory of up to two entries of 12 bytes (CIPA DC-008, 4.6.2).
        let mut entries = Vec::new();
        let count = 1 + u16::from(words.is_some());
        let mut behind = Vec::new();
        if let Some(words) = words {
            let mut text = words.as_bytes().to_vec();
            text.push(0);
            entries.extend([0x01, 0x0E, 0, 2]);
            entries.extend((text.len() as u32).to_be_bytes());
            if text.len() > 4 {
                let offset = 8 + 2 + 12 * u32::from(count) + 4;
                entries.extend(offset.to_be_bytes());
                behind = text;
            } else {
                text.resize(4, 0);
                entries.extend(text);
            }
        }
        entries.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation.to_exif(), 0, 0]);
        let mut exif = b"MM\0*\0\0\0\x08".to_vec();
        exif.extend(count.to_be_bytes());
        exif.extend(entries);
        exif.extend([0; 4]);
        exif.extend(behind);
        Some(exif)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exif_block_that_is_made_says_what_it_is_to_say() {
        for words in [None, Some("ab"), Some("a longer description")] {
            let metadata = Metadata {
                description: words.map(String::from),
                ..Metadata::default()
            };
            let exif = metadata.exif_with(Orientation::Rotate270).unwrap();
            let found = Orientation::from_exif_chunk(&exif);
            assert_eq!(found, Some(Orientation::Rotate270));
            let text = String::from_utf8_lossy(&exif).into_owned();
            assert!(words.is_none_or(|words| text.contains(&format!("{words}\0"))));
        }
        assert!(
            Metadata::default()
                .exif_with(Orientation::NoTransforms)
                .is_none()
        );
    }

    #[test]
    fn missing_samples_stay_apart_in_wider_integers() {
        use super::super::{Image, OfImage};
        let image = Image::from_u8(1, 4, 1, &[0; 4]).unwrap();
        let mut page = OfImage::new(&image).next_page().unwrap().unwrap();
        page.metadata.nodata = Some(255.0);
        // In 16 bits, 255 of 255 is 65535, and 254 is 254 · 257.
        for (depth, expected) in [
            (Depth::U8, [255, 254, 254, 0]),
            (Depth::U16, [65535, 65534, 65278, 0]),
        ] {
            let mut samples = [MISSING, 1.0, 254.0 / 255.0, 0.0];
            restore_missing(&mut samples, &page, depth);
            let written = samples.map(|x| (x * depth.unit()).round() as i32);
            assert_eq!(written, expected, "{depth:?}");
        }
        let mut samples = [MISSING];
        restore_missing(&mut samples, &page, Depth::F32);
        assert_eq!(samples, [255.0]);
    }

    #[test]
    fn a_format_that_is_not_written_is_named() {
        let refused = |name: &str| Encoding::of_name(Path::new(name)).unwrap_err().to_string();
        for (name, words) in [
            (
                "a.jp2",
                "JPEG 2000 can be read but not written; use the extension .tif",
            ),
            (
                "a.hdr",
                "Radiance HDR can be read but not written; use the extension .tif",
            ),
            (
                "a.gif",
                "GIF can be read but not written; use the extension .png",
            ),
        ] {
            assert!(refused(name).ends_with(words), "{}", refused(name));
        }
    }

    #[test]
    fn a_depth_the_format_lacks_becomes_the_next_lower_one_or_else_the_lowest() {
        let depth = |format, found| Encoding::new(format).depth_of(found);
        assert_eq!(depth(Format::Png, Depth::F32), Depth::U16);
        assert_eq!(depth(Format::Jpeg, Depth::U16), Depth::U8);
        assert_eq!(depth(Format::OpenExr, Depth::U8), Depth::F32);
        assert_eq!(depth(Format::Tiff, Depth::F32), Depth::F32);
    }

    #[test]
    fn only_unsigned_integers_keep_the_range_in_place_of_the_values() {
        let narrows = |depth, found| {
            let tiff = Encoding::new(Format::Tiff);
            Encoding { depth, ..tiff }.narrows(found)
        };
        for found in Depth::ALL {
            assert!(!narrows(None, found) && !narrows(Some(Depth::F32), found));
            assert_eq!(narrows(Some(Depth::U8), found), found != Depth::U8);
            let is_unsigned = matches!(found, Depth::U8 | Depth::U16);
            assert_eq!(narrows(Some(Depth::U16), found), !is_unsigned);
        }
        for format in [Format::OpenExr, Format::Pfm, Format::Mrc] {
            assert!(!Encoding::new(format).narrows(Depth::F64), "{format:?}");
        }
    }
}
