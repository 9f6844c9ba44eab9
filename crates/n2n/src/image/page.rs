//! A page: one image of a file, with all its samples and its description. Pages are read row by row, so that a page
//! larger than memory is just a long one.

use ::image::metadata::Orientation;

use super::{Depth, Image, Metadata};
use crate::dihedral::Dihedral;
use crate::error::Result;

/// The description of one image of a file: everything except its samples.
///
/// Samples of unsigned 8-bit and 16-bit integers are 0..1, others are in their own units (see [`Depth::unit`]). A pixel
/// has `color.channels()` color samples, then `extra` others. Rows are in the order of the file: `orientation` is not
/// applied.
#[derive(Debug, Clone)]
pub struct Page {
    /// Height in pixels, at least 1.
    pub height: usize,
    /// Width in pixels, at least 1.
    pub width: usize,
    /// The meaning of the first samples of a pixel.
    pub color: Color,
    /// Number of samples of a pixel after the color; 1 for transparency.
    pub extra: usize,
    /// The type of the samples in the file.
    pub depth: Depth,
    /// How to turn the page upright.
    pub orientation: Orientation,
    /// The other metadata.
    pub metadata: Metadata,
}

/// The meaning of the color samples of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// One gray value.
    Gray,
    /// Red, green and blue.
    Rgb,
    /// This many values. They are denoised one by one; a network for this number of channels, if that is neither 1 nor
    /// 3, denoises them together.
    Bands(usize),
}

impl Color {
    /// The number of color samples of a pixel.
    pub fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Bands(count) => count,
        }
    }
}

impl Page {
    /// The number of samples of a pixel, color and others.
    pub fn samples(&self) -> usize {
        self.color.channels() + self.extra
    }

    /// The number of samples of a row.
    pub fn row_len(&self) -> usize {
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

/// A sequence of pages, each with its rows: a file being read, or the result of processing one.
pub trait Pages {
    /// Advances to the next page, skipping unread rows of the current one, and returns its description.
    fn next_page(&mut self) -> Result<Option<Page>>;

    /// Like [`Pages::next_page`], but skips pages that are passed through, such as thumbnails and masks.
    fn next_image(&mut self) -> Result<Option<Page>> {
        loop {
            match self.next_page()? {
                Some(page) if page.metadata.pass_through => {}
                found => return Ok(found),
            }
        }
    }

    /// Appends the samples of the next `count` rows of the current page to `rows`.
    ///
    /// # Panics
    /// If there is no current page, or it has fewer rows left.
    fn read_rows(&mut self, count: usize, rows: &mut Vec<f32>) -> Result<()>;

    /// Like [`Pages::read_rows`], but in `f64`, and called instead of it for pages of a [wide](Depth::is_wide) depth. A
    /// source of such pages must override it to return every sample exactly: the default converts what `read_rows`
    /// returns.
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
    /// The page of a file that would hold only this image.
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

/// How stored pixels have to be turned to be upright.
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
