//! The file formats: their names and extensions, and what they can hold.

use std::fmt::{self, Display};
use std::path::Path;

use super::Depth;
use crate::error::Error;

/// A file format. Not all of them can be written: see [`Format::written`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lossless, 8 or 16 bits.
    Png,
    /// Lossy, 8 bits; lossless files of up to 16 bits can be read as well.
    Jpeg,
    /// Lossless, integers of 8, 16 and 32 bits or floats, any number of channels and pages.
    Tiff,
    /// 8 bits; read lossy or lossless, written lossless.
    WebP,
    /// Lossless, 8 bits.
    Bmp,
    /// PBM, PGM, PPM and PAM: lossless, 8 or 16 bits.
    Pnm,
    /// Floats, any number of channels.
    OpenExr,
    /// Lossless, 8 bits.
    Tga,
    /// Portable float map: 32-bit floats, gray or RGB.
    Pfm,
    /// Palettes of 256 colors; read-only.
    Gif,
    /// Radiance's RGBE; read-only.
    Hdr,
    /// JPEG 2000 with any number of channels, up to 16 bits; read-only.
    Jpeg2000,
    /// Adobe's digital negative: the samples of a camera's sensor, 16 bits or floats. It can be written only from a DNG
    /// that was read.
    Dng,
    /// Images, stacks and volumes from electron microscopes: integers of 8 and 16 bits, 32-bit floats.
    Mrc,
}

/// The extensions of image files, in lower case and sorted, for [`crate::files::find`].
pub const EXTENSIONS: [&str; 32] = [
    "bmp", "btf", "dib", "dng", "exr", "gif", "hdr", "j2c", "j2k", "jfif", "jp2", "jpc", "jpe",
    "jpeg", "jpf", "jpg", "jpx", "mrc", "mrcs", "pam", "pbm", "pfm", "pgm", "png", "pnm", "ppm",
    "stk", "tf8", "tga", "tif", "tiff", "webp",
];

/// Whether a file has the extension of an image.
pub fn is_supported(path: &Path) -> bool {
    Format::of_name(path).is_some()
}

/// The error for a folder in which [`crate::files::find`] finds no image.
pub fn none_in(folder: &Path) -> Error {
    Error::NoFiles {
        path: folder.to_path_buf(),
        expected: format!(
            "no image in this folder or its subfolders: no file with the extension .{}",
            EXTENSIONS.join(", .")
        ),
    }
}

impl Display for Format {
    /// Its usual name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::Tiff => "TIFF",
            Self::WebP => "WebP",
            Self::Bmp => "BMP",
            Self::Pnm => "PNM",
            Self::OpenExr => "OpenEXR",
            Self::Tga => "TGA",
            Self::Pfm => "PFM",
            Self::Gif => "GIF",
            Self::Hdr => "Radiance HDR",
            Self::Jpeg2000 => "JPEG 2000",
            Self::Dng => "DNG",
            Self::Mrc => "MRC",
        })
    }
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 14] = [
        Self::Png,
        Self::Jpeg,
        Self::Tiff,
        Self::WebP,
        Self::Bmp,
        Self::Pnm,
        Self::OpenExr,
        Self::Tga,
        Self::Pfm,
        Self::Gif,
        Self::Hdr,
        Self::Jpeg2000,
        Self::Dng,
        Self::Mrc,
    ];

    /// The format that the extension of a file's name stands for.
    pub fn of_name(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|format| format.extensions().contains(&extension.as_str()))
    }

    /// The format that images read from it are written in: itself or, if it is read-only, PNG or TIFF.
    #[must_use]
    pub fn written(self) -> Self {
        match self {
            Self::Gif => Self::Png,
            Self::Hdr | Self::Jpeg2000 => Self::Tiff,
            other => other,
        }
    }

    /// Whether it can be written with several pages.
    pub fn has_pages(self) -> bool {
        matches!(self, Self::Tiff | Self::Mrc)
    }

    /// The depths that its samples can have, from lowest to highest. Lossless JPEGs of more than 8 bits and MRCs with
    /// unsigned bytes can be read, but their depths are not listed.
    pub fn depths(self) -> &'static [Depth] {
        match self {
            Self::Png | Self::Pnm => &[Depth::U8, Depth::U16],
            Self::Jpeg | Self::WebP | Self::Bmp | Self::Tga | Self::Gif => &[Depth::U8],
            Self::Tiff => &Depth::ALL,
            Self::Jpeg2000 => &[Depth::U8, Depth::I8, Depth::U16, Depth::I16],
            Self::OpenExr | Self::Pfm | Self::Hdr => &[Depth::F32],
            Self::Dng => &[Depth::U16, Depth::F32],
            Self::Mrc => &[Depth::I8, Depth::U16, Depth::I16, Depth::F32],
        }
    }

    /// The extensions of its files, the usual one first.
    pub fn extensions(self) -> &'static [&'static str] {
        match self {
            Self::Png => &["png"],
            Self::Jpeg => &["jpg", "jpeg", "jpe", "jfif"],
            // The last are for BigTIFF, and for stacks of MetaMorph.
            Self::Tiff => &["tif", "tiff", "btf", "tf8", "stk"],
            Self::WebP => &["webp"],
            Self::Bmp => &["bmp", "dib"],
            Self::Pnm => &["pnm", "pbm", "pgm", "ppm", "pam"],
            Self::OpenExr => &["exr"],
            Self::Tga => &["tga"],
            Self::Pfm => &["pfm"],
            Self::Gif => &["gif"],
            Self::Hdr => &["hdr"],
            Self::Jpeg2000 => &["jp2", "j2k", "j2c", "jpc", "jpf", "jpx"],
            Self::Dng => &["dng"],
            Self::Mrc => &["mrc", "mrcs"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Limits, Reader};

    #[test]
    fn every_format_has_the_name_that_it_has_in_the_list_of_all() {
        let words = b"not pixels but words".as_slice();
        let error = Reader::from_bytes(Path::new("a.png"), words, Limits::default());
        let error = error.err().unwrap().to_string();
        let (_, list) = error.split_once("it is not a ").unwrap();
        let list = list.strip_suffix(" file").unwrap().replace(" or ", ", ");
        let mut listed: Vec<_> = list.split(", ").map(str::to_owned).collect();
        let mut names = Format::ALL.map(|format| format.to_string());
        listed.sort_unstable();
        names.sort_unstable();
        assert_eq!(names.as_slice(), listed);
    }

    #[test]
    fn every_extension_is_that_of_a_format_and_is_searched_for() {
        let mut all: Vec<_> = Format::ALL
            .iter()
            .flat_map(|format| format.extensions().iter().copied())
            .collect();
        all.sort_unstable();
        assert_eq!(all, EXTENSIONS);
        assert!(is_supported(Path::new("a/b.TIFF")));
        assert!(!is_supported(Path::new("a/b.psd")) && !is_supported(Path::new("png")));
    }
}
