//! What a file stores besides its pixels: color profile, orientation, resolution, descriptions.
//!
//! Some of it exists in most formats and survives a change of format. The rest is kept unchanged and written back only
//! to a file of the same format.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use super::Format;

/// A missing sample: a NaN with a payload of its own, which copying preserves. It becomes [`Metadata::nodata`] again
/// when it is written.
pub const MISSING: f32 = f32::from_bits(0x7FC0_DA7A);

/// The position of a page in a stack. Its coordinates are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The time point.
    pub time: usize,
    /// The slice, along Z.
    pub slice: usize,
    /// The channel.
    pub channel: usize,
}

/// What a file says about a page besides its pixels.
#[derive(Debug, Clone, Default)]
pub struct Metadata {
    /// The ICC color profile.
    pub icc: Option<Vec<u8>>,
    /// An Exif block, which begins with a TIFF header.
    pub exif: Option<Vec<u8>>,
    /// An XMP packet that can be written in other formats too, such as that of a GIF. Most formats keep theirs with the
    /// metadata that is copied only to a file of the same format.
    pub xmp: Option<String>,
    /// Pixels per unit of length.
    pub resolution: Option<Resolution>,
    /// A description, or the metadata that ImageJ and OME-TIFF store in its place.
    pub description: Option<String>,
    /// The value that marks missing samples, in the units of the file; pages return such samples as [`MISSING`].
    pub nodata: Option<f64>,
    /// An upper bound on the number of samples in all pages of the file together; `None` for animations, and for
    /// formats with a single page. If the first page states more than a classic TIFF can hold, the pages are written as
    /// a BigTIFF.
    pub file_samples: Option<u64>,
    /// The position of the page in a stack, if the file states it.
    pub position: Option<Position>,
    /// What the samples of a camera's sensor mean. If it is known, samples are mapped for the network by it, not by a
    /// range.
    pub sensor: Option<Sensor>,
    /// Whether the page is copied without denoising: a mask, or a smaller version of another page.
    pub pass_through: bool,
    /// Whether it is known that the three channels of an RGB page are equal in every pixel.
    pub is_achromatic: bool,
    /// Notes to the user on what is not kept.
    pub notes: Vec<String>,
    /// Metadata that only a file of the same format can hold.
    pub(super) native: Option<Arc<dyn Native>>,
}

impl Metadata {
    /// The metadata that only one format can hold, if the page comes from that format.
    pub(super) fn native<T: Native>(&self) -> Option<&T> {
        let native: &dyn Any = self.native.as_deref()?;
        native.downcast_ref()
    }

    /// Changes what [`Self::native`] returns, if anything.
    pub(super) fn change_native<T: Native + Clone>(&mut self, change: impl FnOnce(&mut T)) {
        if let Some(native) = self.native::<T>() {
            let mut native = native.clone();
            change(&mut native);
            self.native = Some(Arc::new(native));
        }
    }

    /// Only the color profile, for a picture derived from the page.
    pub(crate) fn icc_alone(&self) -> Self {
        Self {
            icc: self.icc.clone(),
            ..Self::default()
        }
    }
}

/// Comments of a format that does not state their encoding, one to a line: UTF-8, or else Latin-1.
pub(super) fn text(comments: &[Vec<u8>]) -> Option<String> {
    let line = |comment: &Vec<u8>| match str::from_utf8(comment) {
        Ok(line) => line.to_string(),
        Err(_) => comment.iter().map(|&byte| char::from(byte)).collect(),
    };
    let is_blank = |c: char| c.is_whitespace() || c == '\0';
    let lines = comments.iter().map(line);
    let lines: Vec<String> = lines
        .map(|line| line.trim_matches(is_blank).to_string())
        .filter(|line| !line.is_empty())
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Metadata that is copied unchanged to a file of the same format.
pub(super) trait Native: Any + Debug + Send + Sync {
    /// The format of the file.
    fn format(&self) -> Format;
    /// Whether it contains more than the other photographic formats can hold.
    fn has_private(&self) -> bool {
        true
    }
}

/// What the samples of a camera's sensor mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    /// The response of each channel of the page.
    pub responses: Vec<Response>,
    /// For a mosaic, the colors of the four samples of a cell, row by row: 0 is red, 1 green, 2 blue; other numbers are
    /// further colors. The four samples are the channels of the page.
    pub colors: Option<[u8; 4]>,
}

/// What the samples of one channel mean, in the units of pages.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Response {
    /// The mean sample without light.
    pub black: f32,
    /// The sample at saturation.
    pub white: f32,
    /// The variance of the noise, `a · x + b` at a signal `x` that is 0 at black and 1 at white, if the file
    /// states it: `a` and `b`.
    pub noise: Option<[f32; 2]>,
}

/// Pixels per unit of length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resolution {
    /// Horizontally.
    pub x: f64,
    /// Vertically.
    pub y: f64,
    /// The unit of length.
    pub unit: ResolutionUnit,
}

/// The unit of a [`Resolution`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResolutionUnit {
    /// No unit: only the ratio of `x` to `y` is meaningful.
    None,
    /// 2.54 cm.
    Inch,
    /// 10 mm.
    Centimeter,
}
