//! What a file says beside its pixels: color profile, orientation, resolution, descriptions.
//!
//! Some of it every format has in its own way, and survives a change of format. The rest is kept as
//! the format has it, and written back into a file of the same format.

use std::sync::Arc;

use super::{Format, exr, jpeg, mrc, png, tiff};

/// A sample that is no value: not a number, with a mark of its own, which copying keeps. It becomes
/// [`Metadata::nodata`] again when it is written.
pub const MISSING: f32 = f32::from_bits(0x7FC0_DA7A);

/// Where in a stack a page belongs, each counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The time point.
    pub time: usize,
    /// The slice, along Z.
    pub slice: usize,
    /// The channel.
    pub channel: usize,
}

/// What a file says of a page beside its pixels.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// The ICC color profile.
    pub icc: Option<Vec<u8>>,
    /// An Exif block, which begins with a TIFF header.
    pub exif: Option<Vec<u8>>,
    /// Pixels a unit of length.
    pub resolution: Option<Resolution>,
    /// Words, or what ImageJ and OME-TIFF keep in their place.
    pub description: Option<String>,
    /// The sample that stands for no value, in the units of the file; pages give it as [`MISSING`].
    pub nodata: Option<f64>,
    /// Where in a stack the page belongs, if the file says so.
    pub position: Option<Position>,
    /// What the samples mean, of a camera's sensor. Where it is known they go to the network by it, and
    /// not by a range.
    pub sensor: Option<Sensor>,
    /// Whether the page is only to be copied: a mask, or a smaller version of another page.
    pub pass_through: bool,
    /// Whether it is known that the three channels of an RGB page are equal in every pixel.
    pub is_achromatic: bool,
    /// What of the page is not kept, in words for the user.
    pub notes: Vec<String>,
    /// What only a file of the same format can hold.
    pub(super) native: Native,
}

impl Metadata {
    /// What is not kept of a page that becomes one of `format`, in words for the user.
    pub fn notes_for(&self, format: Format) -> Vec<String> {
        let mut notes = self.notes.clone();
        let mut lost = Vec::new();
        let native = match &self.native {
            Native::None => None,
            Native::Png(_) => Some(Format::Png),
            Native::Jpeg(_) => Some(Format::Jpeg),
            Native::Tiff(_) => Some(Format::Tiff),
            Native::Dng(_) => Some(Format::Dng),
            Native::Mrc(_) => Some(Format::Mrc),
            Native::OpenExr(_) => Some(Format::OpenExr),
        };
        let takes_exif = matches!(
            format,
            Format::Png | Format::Jpeg | Format::Tiff | Format::WebP | Format::Dng
        );
        if !takes_exif {
            if self.icc.is_some() {
                lost.push("the color profile");
            }
            if self.exif.is_some() {
                lost.push("Exif");
            }
            if self.description.is_some() {
                lost.push("the description");
            }
            let keeps_resolution = matches!(format, Format::Bmp);
            if self.resolution.is_some() && !keeps_resolution {
                lost.push("the resolution");
            }
        } else if native.is_some_and(|native| native != format) && self.has_private() {
            lost.push("metadata specific to the source format");
        }
        if !lost.is_empty() {
            notes.push(format!(
                "{format:?} cannot store everything; dropped: {}",
                lost.join(" and ")
            ));
        }
        notes
    }

    /// Whether there is more than what every format of photographs can say.
    fn has_private(&self) -> bool {
        match &self.native {
            Native::None => false,
            Native::Png(chunks) => png::has_private(chunks),
            Native::Jpeg(segments) => jpeg::has_private(segments),
            Native::Tiff(tags) => tags.has_private(),
            Native::OpenExr(_) | Native::Dng(_) | Native::Mrc(_) => true,
        }
    }

    /// The color profile alone, for a picture that is made of the page.
    pub(crate) fn icc_alone(&self) -> Self {
        Self {
            icc: self.icc.clone(),
            ..Self::default()
        }
    }
}

/// What is copied into a file of the same format, as it is there.
#[derive(Debug, Clone, Default)]
pub(super) enum Native {
    #[default]
    None,
    Png(png::Chunks),
    Jpeg(jpeg::Segments),
    Tiff(Box<tiff::Tags>),
    OpenExr(Box<exr::Attributes>),
    Dng(Arc<tiff::dng::Dng>),
    Mrc(Box<mrc::Header>),
}

/// What the samples of a camera's sensor mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    /// Of each channel of the page.
    pub responses: Vec<Response>,
    /// Of a mosaic, the colors of the four samples of a cell, row by row: 0 is red, 1 green, 2 blue, others
    /// are more. The page has them as channels.
    pub colors: Option<[u8; 4]>,
}

/// What the samples of one channel mean, in the units of pages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Response {
    /// The mean sample without light.
    pub black: f32,
    /// The sample at saturation.
    pub white: f32,
    /// The variance of the noise, `a · x + b` at a signal `x` of 0 at black and 1 at white, if the file
    /// states it: `a` and `b`.
    pub noise: Option<[f32; 2]>,
}

/// Pixels a unit of length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolution {
    /// Across.
    pub x: f64,
    /// Down.
    pub y: f64,
    /// The unit of length.
    pub unit: ResolutionUnit,
}

/// The unit of a [`Resolution`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolutionUnit {
    /// None: only the ratio of `x` and `y` counts.
    None,
    /// 2.54 cm.
    Inch,
    /// 10 mm.
    Centimeter,
}
