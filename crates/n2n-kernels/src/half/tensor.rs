//! Activations in bfloat16.

use rayon::prelude::*;

use crate::arch::tiles::{DEPTH, WIDE, from_half, to_half};
use crate::jobs::one_by_one;
use crate::memory::Halves;
use crate::tensor::Shape;

/// Rows of a thread's job, where the only cost of more jobs is that each also converts the rows next to its own.
const BAND: usize = 8;

/// Pixels after the last row that a tile at its end may read.
const TAIL: usize = WIDE + 2;

/// A batch of activations in bfloat16: pixel by pixel in the order n, h, w, with a border of one zero pixel and
/// channels padded with zeros to a multiple of 32.
#[derive(Debug)]
pub struct Tensor {
    shape: Shape,
    halves: Halves,
}

impl Tensor {
    /// A tensor of zeros.
    ///
    /// # Panics
    /// If the shape is larger than memory.
    pub fn zeros(shape: Shape) -> Self {
        Self {
            shape,
            halves: Halves::zeros(Self::len_of(shape)),
        }
    }

    /// The number of values of a tensor of this shape, border and padding included.
    ///
    /// # Panics
    /// If the shape is larger than memory.
    pub fn len_of(shape: Shape) -> usize {
        let len = || {
            let row = shape.w.checked_add(2)?;
            let pixels = shape.h.checked_add(2)?.checked_mul(row)?;
            let pixels = pixels.checked_mul(shape.n)?.checked_add(TAIL)?;
            pixels.checked_mul(shape.c.checked_next_multiple_of(DEPTH)?)
        };
        len().unwrap_or_else(|| panic!("{shape:?} is larger than memory"))
    }

    /// The number of values it has memory for.
    pub fn capacity(&self) -> usize {
        self.halves.as_slice().len()
    }

    /// The same memory for another shape: the border is zero, what is inside is unspecified.
    ///
    /// # Panics
    /// If there is too little.
    #[must_use]
    pub fn reshaped(mut self, shape: Shape) -> Self {
        let len = Self::len_of(shape);
        assert!(len <= self.capacity(), "memory for {shape:?}");
        self.shape = shape;
        let (h, row, depth) = (shape.h, self.row_len(), self.depth());
        let images = self.halves.as_mut_slice()[..len].chunks_exact_mut(((h + 2) * row).max(1));
        for image in images.take(shape.n) {
            image[..row].fill(0);
            image[(h + 1) * row..].fill(0);
            for row in image.chunks_exact_mut(row).skip(1).take(h) {
                row[..depth].fill(0);
                let end = row.len() - depth;
                row[end..].fill(0);
            }
        }
        self
    }

    /// The 3×3 neighborhoods of images, in the order n, h, w, c, as one pixel of `9 · c` channels each, in the order
    /// row, column, channel: with it, a 3×3 convolution of few channels is a 1×1 convolution that fills its tiles.
    /// `shape` is that of the images.
    ///
    /// # Panics
    /// If `values` has another length, or the tensor another shape.
    pub fn fill_from_neighborhoods(&mut self, values: &[f32], shape: Shape) {
        let Shape { n, h, w, c } = shape;
        assert_eq!(values.len(), n * h * w * c, "values");
        assert_eq!(self.shape, Self::of_neighborhoods(shape), "shape");
        let depth = self.depth();
        self.bands(BAND).for_each(|(n, first, band)| {
            // The rows around one, rounded, with a border of zeros.
            let mut rows = vec![vec![0; (w + 2) * c]; 3];
            let fill = |row: &mut [u16], y: usize| {
                let inside = &mut row[c..][..w * c];
                if (1..=h).contains(&y) {
                    let from = &values[(n * h + y - 1) * w * c..];
                    for (to, &from) in inside.iter_mut().zip(from) {
                        *to = to_half(from);
                    }
                } else {
                    inside.fill(0);
                }
            };
            fill(&mut rows[1], first);
            fill(&mut rows[2], first + 1);
            for (i, to) in band.chunks_exact_mut((w + 2) * depth).enumerate() {
                rows.rotate_left(1);
                fill(&mut rows[2], first + i + 2);
                for (x, to) in to[depth..].chunks_exact_mut(depth).take(w).enumerate() {
                    let (inside, padding) = to.split_at_mut(9 * c);
                    for (to, row) in inside.chunks_exact_mut((3 * c).max(1)).zip(&rows) {
                        to.copy_from_slice(&row[x * c..][..3 * c]);
                    }
                    // In memory that is used again they may hold NaN, which a weight of zero does not remove.
                    padding.fill(0);
                }
            }
        });
    }

    /// The shape for [`Tensor::fill_from_neighborhoods`] of images.
    pub fn of_neighborhoods(images: Shape) -> Shape {
        Shape {
            c: 9 * images.c,
            ..images
        }
    }

    /// Writes the maximum of each 2×2 pixels of `input`.
    ///
    /// # Panics
    /// If the tensor is not half as high and wide, rounded down, with the same channels.
    pub fn fill_from_max_pool(&mut self, input: &Self) {
        assert_eq!(self.shape, crate::pool::pooled(input.shape), "shape");
        let (w, depth) = (self.shape.w, self.depth());
        self.bands(1).for_each(|(n, y, row)| {
            let [above, below] = [2 * y, 2 * y + 1].map(|y| input.row(n, y));
            for (x, to) in row[depth..].chunks_exact_mut(depth).take(w).enumerate() {
                let at = 2 * x * depth;
                let [a, b] = [above, below].map(|row| row[at..][..2 * depth].split_at(depth));
                for (k, to) in to.iter_mut().enumerate() {
                    *to = larger(larger(a.0[k], a.1[k]), larger(b.0[k], b.1[k]));
                }
            }
        });
    }

    /// Writes the same bits everywhere, border included.
    #[cfg(test)]
    pub(super) fn fill_with(&mut self, half: u16) {
        self.halves.as_mut_slice().fill(half);
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The values inside the border, in the order n, h, w, c.
    pub fn to_values(&self) -> Vec<f32> {
        let Shape { n, h, w, c } = self.shape;
        let rows = (0..n).flat_map(|n| (0..h).map(move |y| (n, y)));
        let pixels = rows.flat_map(|(n, y)| self.row(n, y).chunks_exact(self.depth()).take(w));
        pixels
            .flat_map(|pixel| pixel[..c].iter().map(|&half| from_half(half)))
            .collect()
    }

    /// Values from one pixel to the next.
    pub(super) fn depth(&self) -> usize {
        self.shape.c.next_multiple_of(DEPTH)
    }

    /// Values from one row to the next.
    pub(super) fn row_len(&self) -> usize {
        (self.shape.w + 2) * self.depth()
    }

    /// All values from the pixel above and to the left of pixel (`y`, `x`) on.
    pub(super) fn around(&self, n: usize, y: usize, x: usize) -> &[u16] {
        let row = n * (self.shape.h + 2) + y;
        &self.halves.as_slice()[row * self.row_len() + x * self.depth()..]
    }

    /// The pixels of a row.
    fn row(&self, n: usize, y: usize) -> &[u16] {
        &self.around(n, y + 1, 1)[..self.shape.w * self.depth()]
    }

    /// Every `rows` rows, or fewer at the end of an image, in parallel: image, first row, and the rows with their
    /// border.
    pub(super) fn bands(
        &mut self,
        rows: usize,
    ) -> impl ParallelIterator<Item = (usize, usize, &mut [u16])> {
        let (h, row) = (self.shape.h, self.row_len());
        let images = self.shape.n * (h + 2) * row;
        self.halves.as_mut_slice()[..images]
            .par_chunks_mut(((h + 2) * row).max(1))
            .enumerate()
            .flat_map(move |(n, image)| {
                let inside = image[row..][..h * row].par_chunks_mut((rows * row).max(1));
                one_by_one(inside.enumerate()).map(move |(i, band)| (n, i * rows, band))
            })
    }
}

/// The larger value, as bits.
#[inline(always)]
fn larger(a: u16, b: u16) -> u16 {
    if from_half(a) < from_half(b) { b } else { a }
}
