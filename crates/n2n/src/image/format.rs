//! The formats: what their files are called, and how one is told from another.

use std::path::Path;

use super::Depth;
use crate::error::Error;

/// A file format that is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lossless, 8 or 16 bits.
    Png,
    /// Lossy, 8 bits.
    Jpeg,
    /// Lossless, 8 or 16 bits or floats, any number of channels and pages.
    Tiff,
    /// 8 bits; read lossy or lossless, written lossless.
    WebP,
    /// Lossless, 8 bits.
    Bmp,
    /// PBM, PGM, PPM and PAM: lossless, 8 or 16 bits.
    Pnm,
    /// Floats, any number of channels.
    OpenExr,
}

/// The extensions of image files, in small letters and sorted, for [`crate::files::find`].
pub const EXTENSIONS: [&str; 14] = [
    "bmp", "btf", "exr", "jpeg", "jpg", "pam", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff",
    "webp",
];

/// Whether the name of a file is that of an image.
pub fn is_supported(path: &Path) -> bool {
    Format::of_name(path).is_some()
}

/// The error for a folder in which [`crate::files::find`] finds no image.
pub fn none_in(folder: &Path) -> Error {
    Error::Nothing {
        path: folder.to_path_buf(),
        expected: format!(
            "no image in this folder or below: no file named .{}",
            EXTENSIONS.join(", .")
        ),
    }
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Png,
        Self::Jpeg,
        Self::Tiff,
        Self::WebP,
        Self::Bmp,
        Self::Pnm,
        Self::OpenExr,
    ];

    /// The format that a file of this name should have.
    pub fn of_name(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|format| format.extensions().contains(&extension.as_str()))
    }

    /// The format of a file that begins with these bytes; 12 are enough.
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
            [b'B', b'M', ..] => Some(Self::Bmp),
            [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] => Some(Self::Pnm),
            [0x76, 0x2F, 0x31, 0x01, ..] => Some(Self::OpenExr),
            _ => None,
        }
    }

    /// The depths its samples can have, in rising order.
    pub fn depths(self) -> &'static [Depth] {
        match self {
            Self::Png | Self::Pnm => &[Depth::U8, Depth::U16],
            Self::Jpeg | Self::WebP | Self::Bmp => &[Depth::U8],
            Self::Tiff => &[
                Depth::U8,
                Depth::I8,
                Depth::U16,
                Depth::I16,
                Depth::U32,
                Depth::I32,
                Depth::F32,
                Depth::F64,
            ],
            Self::OpenExr => &[Depth::F32],
        }
    }

    /// What its files are called, the usual extension first.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Png => &["png"],
            Self::Jpeg => &["jpg", "jpeg"],
            // The last is for BigTIFF.
            Self::Tiff => &["tif", "tiff", "btf"],
            Self::WebP => &["webp"],
            Self::Bmp => &["bmp"],
            Self::Pnm => &["pnm", "pbm", "pgm", "ppm", "pam"],
            Self::OpenExr => &["exr"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_extension_is_that_of_a_format_and_is_searched_for() {
        let mut all: Vec<_> = Format::ALL
            .iter()
            .flat_map(|format| format.extensions().iter().copied())
            .collect();
        all.sort_unstable();
        assert_eq!(all, EXTENSIONS);
        assert!(is_supported(Path::new("a/b.TIFF")));
        assert!(!is_supported(Path::new("a/b.gif")) && !is_supported(Path::new("png")));
    }
}
