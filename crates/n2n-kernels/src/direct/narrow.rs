//! A copy of an image with few channels that a 3×3 convolution can read efficiently: without padding between pixels.

use std::ops::Range;

use rayon::prelude::*;

use super::{MAX_TAPS, Source};
use crate::tensor::{Shape, Tensor};

/// Maximum number of channels of an image that is copied before a 3×3 convolution.
pub(super) const MAX_NARROW: usize = 15;

/// Rows of an image with few channels, including the border, without padding between pixels. The three taps of a row
/// form one tap with three times the channels; otherwise each strip would be too short to pay for its setup.
pub(super) struct Narrow {
    floats: Vec<f32>,
    channels: usize,
    /// Floats of a row.
    row: usize,
    /// The first row held of each image, and the number of rows.
    first: isize,
    rows: usize,
}

impl Narrow {
    /// Taps of the source: three taps of a row form one.
    pub const TAPS: usize = 3;

    /// Copies everything that is read for some rows of the output.
    pub fn new(input: &Tensor, channels: usize, rows: Range<usize>) -> Self {
        let Shape { n, w, .. } = input.shape();
        let (row, pixel) = ((w + 2) * channels, input.shape().pixel_stride());
        let (first, rows) = (rows.start as isize - 1, rows.len() + 2);
        let mut floats = vec![0.0; n * rows * row];
        floats.par_chunks_mut(row).enumerate().for_each(|(i, to)| {
            let begin = input.offset(i / rows, first + (i % rows) as isize, -1);
            let from = input.as_slice()[begin..].chunks(pixel);
            for (to, from) in to.chunks_exact_mut(channels).zip(from) {
                to.copy_from_slice(&from[..channels]);
            }
        });
        Self {
            floats,
            channels,
            row,
            first,
            rows,
        }
    }

    /// The image as row `y` of the output reads it, in three taps.
    pub fn source(&self, n: usize, y: usize) -> Source<'_> {
        let mut taps = [0; MAX_TAPS];
        for (i, to) in taps.iter_mut().enumerate().take(Self::TAPS) {
            let above = (y as isize - 1 - self.first) as usize;
            *to = (n * self.rows + above + i) * self.row;
        }
        Source {
            floats: &self.floats,
            taps,
            stride: self.channels,
            channels: 3 * self.channels,
        }
    }
}
