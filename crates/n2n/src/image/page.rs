//! A page: one image of a file, with all its samples, and what the file says of it before they are
//! decoded. Pages are read row by row, so that one larger than memory is only a long one.

use ::image::metadata::Orientation;

use super::{Depth, Image, Metadata};
use crate::dihedral::Dihedral;
use crate::error::Result;

/// One image of a file: everything but its samples.
///
/// A sample is 0..1 from unsigned integers of 8 and 16 bits, and otherwise in its own units:
/// [`Depth::unit`]. A pixel has `color.channels()` samples
/// of color, then `extra` others. Rows are as the file has them: `orientation` is not applied.
#[derive(Debug, Clone)]
pub struct Page {
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Width in pixels, at least 1.
    pub width: usize,
    /// What the first samples of a pixel are.
    pub color: Color,
    /// Samples of a pixel behind the color: 1 for transparency.
    pub extra: usize,
    /// How the file stores samples.
    pub depth: Depth,
    /// How to turn the page upright.
    pub orientation: Orientation,
    /// What else the file says.
    pub metadata: Metadata,
}

/// What the color samples of a pixel are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// One gray value.
    Gray,
    /// Red, green and blue.
    Rgb,
    /// So many values that have nothing to do with each other, as far as denoising goes.
    Bands(usize),
}

impl Color {
    /// Samples of a pixel.
    pub fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Bands(count) => count,
        }
    }
}

impl Page {
    /// Samples of a pixel, color and others.
    pub fn samples(&self) -> usize {
        self.color.channels() + self.extra
    }

    /// Samples of a row.
    pub fn row(&self) -> usize {
        self.width * self.samples()
    }

    /// Whether this is an RGB page whose channels are equal in every pixel of the given rows.
    pub(crate) fn is_achromatic(&self, rows: &[f32]) -> bool {
        self.color == Color::Rgb && rows.chunks_exact(self.samples()).all(is_gray)
    }

    /// Width and height when turned upright.
    pub fn upright_size(&self) -> (usize, usize) {
        if way(self.orientation).swaps_sides() {
            (self.height, self.width)
        } else {
            (self.width, self.height)
        }
    }
}

/// Whether the first three samples of a pixel are equal.
pub(super) fn is_gray(pixel: &[f32]) -> bool {
    let [r, g, b] = [0, 1, 2].map(|channel| pixel[channel].to_bits());
    r == g && g == b
}

/// Pages one after the other, each with its rows: a file that is read, or what is made of one.
pub trait Pages {
    /// The next page. What has not been read of the one before is skipped.
    fn next_page(&mut self) -> Result<Option<Page>>;

    /// Appends the samples of the next `count` rows of the current page to `rows`.
    ///
    /// # Panics
    /// If there is no page, or it has not that many rows left.
    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Result<()>;

    /// As [`Pages::read_rows`], in place of it, for pages of a [wide](Depth::is_wide) depth: every
    /// sample exactly.
    fn read_wide(&mut self, count: usize, rows: &mut Vec<f64>) -> Result<()> {
        let mut narrow = Vec::new();
        self.read_rows(count, &mut narrow)?;
        rows.extend(narrow.into_iter().map(f64::from));
        Ok(())
    }
}

/// An image as the only page of a file.
pub struct OfImage<'a> {
    image: &'a Image,
    given: bool,
    next: usize,
}

impl<'a> OfImage<'a> {
    /// The pages of a file that would hold this image alone.
    pub fn new(image: &'a Image) -> Self {
        Self {
            image,
            given: false,
            next: 0,
        }
    }
}

impl Pages for OfImage<'_> {
    fn next_page(&mut self) -> Result<Option<Page>> {
        let image = self.image;
        let given = std::mem::replace(&mut self.given, true);
        Ok((!given).then(|| Page {
            height: image.height,
            width: image.width,
            color: match image.channels {
                1 => Color::Gray,
                3 => Color::Rgb,
                channels => Color::Bands(channels),
            },
            extra: 0,
            depth: image.depth,
            orientation: Orientation::NoTransforms,
            metadata: Metadata::default(),
        }))
    }

    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Result<()> {
        let row = self.image.width * self.image.channels;
        rows.extend_from_slice(&self.image.data[self.next * row..][..count * row]);
        self.next += count;
        Ok(())
    }
}

/// How stored pixels are laid to be seen upright.
pub(super) fn way(orientation: Orientation) -> Dihedral {
    Dihedral(match orientation {
        Orientation::NoTransforms => 0,
        Orientation::FlipHorizontal => 1,
        Orientation::FlipVertical => 2,
        Orientation::Rotate180 => 3,
        Orientation::Rotate90FlipH => 4,
        Orientation::Rotate90 => 5,
        Orientation::Rotate270 => 6,
        Orientation::Rotate270FlipH => 7,
    })
}
