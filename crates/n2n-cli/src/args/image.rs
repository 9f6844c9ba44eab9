//! The formats and depths of images, as the command line names them.

use clap::ValueEnum;
use n2n::image::{Depth, Format};

/// A format of images, as it is called on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageFormat {
    /// Lossless, 8 or 16 bits
    Png,
    /// Lossy, 8 bits
    #[value(alias = "jpg")]
    Jpeg,
    /// Lossless, any depth, multiple pages
    #[value(alias = "tif")]
    Tiff,
    /// Lossless, 8 bits
    Webp,
    /// Lossless, 8 bits
    Bmp,
    /// Lossless, 8 or 16 bits
    #[value(aliases = ["ppm", "pgm", "pam"])]
    Pnm,
    /// Floats
    Exr,
    /// Lossless, 8 bits
    Tga,
    /// Floats, gray or RGB
    Pfm,
    /// Raw camera samples; from DNG files only
    Dng,
    /// Gray, 8 (signed) or 16 bits or floats, multiple pages
    Mrc,
}

impl ImageFormat {
    /// What the library calls it.
    pub fn get(self) -> Format {
        match self {
            Self::Png => Format::Png,
            Self::Jpeg => Format::Jpeg,
            Self::Tiff => Format::Tiff,
            Self::Webp => Format::WebP,
            Self::Bmp => Format::Bmp,
            Self::Pnm => Format::Pnm,
            Self::Exr => Format::OpenExr,
            Self::Tga => Format::Tga,
            Self::Pfm => Format::Pfm,
            Self::Dng => Format::Dng,
            Self::Mrc => Format::Mrc,
        }
    }
}

/// Bits of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImageDepth {
    /// Integers of 8 bits
    #[value(name = "8")]
    U8,
    /// Integers of 16 bits
    #[value(name = "16")]
    U16,
    /// Floats of 32 bits
    #[value(name = "32f", aliases = ["f32", "32"])]
    F32,
}

impl ImageDepth {
    /// What the library calls it.
    pub fn get(self) -> Depth {
        match self {
            Self::U8 => Depth::U8,
            Self::U16 => Depth::U16,
            Self::F32 => Depth::F32,
        }
    }
}
