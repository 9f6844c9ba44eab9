//! Activations in bfloat16.

use std::ops::Range;

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
///
/// It may be a [window](Tensor::window), which has memory for some rows of taller images and slides down them.
#[derive(Debug)]
pub struct Tensor {
    shape: Shape,
    /// The rows of each image that there is memory for.
    held: Range<usize>,
    halves: Halves,
}

impl Tensor {
    /// A tensor of zeros.
    ///
    /// # Panics
    /// If the shape is larger than memory.
    pub fn zeros(shape: Shape) -> Self {
        Self::window(shape, shape.h)
    }

    /// A window of zeros onto the first `rows` rows of images of this shape.
    ///
    /// # Panics
    /// If the rows are larger than memory.
    pub fn window(shape: Shape, rows: usize) -> Self {
        Self {
            shape,
            held: 0..rows,
            halves: Halves::zeros_in_parallel(Self::len_of(shape, rows)),
        }
    }

    /// The number of values of a window onto `rows` rows of images of this shape, border and padding included.
    ///
    /// # Panics
    /// If it is larger than memory.
    pub fn len_of(shape: Shape, rows: usize) -> usize {
        let len = || {
            let row = shape.w.checked_add(2)?;
            let pixels = rows.checked_add(2)?.checked_mul(row)?;
            let pixels = pixels.checked_mul(shape.n)?.checked_add(TAIL)?;
            pixels.checked_mul(shape.c.checked_next_multiple_of(DEPTH)?)
        };
        len().unwrap_or_else(|| panic!("{rows} rows of {shape:?} are larger than memory"))
    }

    /// The number of values it has memory for.
    pub fn capacity(&self) -> usize {
        self.halves.as_slice().len()
    }

    /// The same memory for a window onto the first `rows` rows of images of another shape: the border is zero, what is
    /// inside is unspecified.
    ///
    /// # Panics
    /// If there is too little memory.
    #[must_use]
    pub fn reshaped(mut self, shape: Shape, rows: usize) -> Self {
        let len = Self::len_of(shape, rows);
        assert!(
            len <= self.capacity(),
            "memory for {rows} rows of {shape:?}"
        );
        self.shape = shape;
        self.held = 0..rows;
        let (row, depth) = (self.row_len(), self.depth());
        let images = self.halves.as_mut_slice()[..len].chunks_exact_mut(((rows + 2) * row).max(1));
        for image in images.take(shape.n) {
            image[..row].fill(0);
            image[(rows + 1) * row..].fill(0);
            for row in image.chunks_exact_mut(row).skip(1).take(rows) {
                row[..depth].fill(0);
                let end = row.len() - depth;
                row[end..].fill(0);
            }
        }
        self
    }

    /// Slides the window down: it then begins with `rows`, which stay, and has memory for more below them.
    ///
    /// # Panics
    /// If these are not rows of the window.
    pub fn slide(&mut self, rows: Range<usize>) {
        self.check(&rows);
        let (row, held) = (self.row_len(), self.held.clone());
        let image = (held.len() + 2) * row;
        let len = self.shape.n * image;
        let images = self.halves.as_mut_slice()[..len].chunks_exact_mut(image.max(1));
        for image in images {
            let from = (rows.start - held.start + 1) * row;
            image.copy_within(from..from + rows.len() * row, row);
        }
        self.held = rows.start..rows.start + held.len();
    }

    /// Checks that the window holds these rows of the images.
    ///
    /// # Panics
    /// If it does not.
    pub(super) fn check(&self, rows: &Range<usize>) {
        let held = self.held.start..self.held.end.min(self.shape.h);
        assert!(
            held.start <= rows.start && rows.start <= rows.end && rows.end <= held.end,
            "rows {rows:?} of {held:?}"
        );
    }

    /// Checks that the window holds these rows of the images, as well as the row above and the one below, unless these
    /// are the border.
    ///
    /// # Panics
    /// If it does not.
    pub(super) fn check_around(&self, rows: &Range<usize>) {
        assert!(rows.start <= rows.end, "rows");
        self.check(&(rows.start.saturating_sub(1)..(rows.end + 1).min(self.shape.h)));
    }

    /// Zeroes the row below the images if the window extends beyond them.
    pub(super) fn clear_below(&mut self) {
        let below = self.shape.h - self.held.start;
        if below >= self.held.len() {
            return;
        }
        let row = self.row_len();
        let image = (self.held.len() + 2) * row;
        let len = self.shape.n * image;
        for image in self.halves.as_mut_slice()[..len].chunks_exact_mut(image.max(1)) {
            image[(below + 1) * row..][..row].fill(0);
        }
    }

    /// Fills the given rows with the 3×3 neighborhoods of images, whose values are in the order n, h, w, c. Each
    /// neighborhood becomes one pixel of `9 · c` channels, in the order row, column, channel. In this layout, a 3×3
    /// convolution of few channels is a 1×1 convolution that fills its tiles. `shape` is that of the images, and `rows`
    /// those that are written.
    ///
    /// # Panics
    /// If `values` has another length, the tensor another shape, or the window other rows.
    pub fn fill_from_neighborhoods(&mut self, values: &[f32], shape: Shape, rows: Range<usize>) {
        let Shape { n, h, w, c } = shape;
        assert_eq!(values.len(), n * h * w * c, "values");
        assert_eq!(self.shape, Self::of_neighborhoods(shape), "shape");
        let depth = self.depth();
        self.bands(rows, BAND).for_each(|(n, first, band)| {
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
                    // In reused memory, padding may hold NaN, which a weight of zero does not remove.
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

    /// Writes the maximum of each 2×2 block of `input` to these rows.
    ///
    /// # Panics
    /// If the tensor is not half as high and wide, rounded down, with the same channels, or a window does not have the
    /// rows.
    pub fn fill_from_max_pool(&mut self, input: &Self, rows: Range<usize>) {
        assert_eq!(self.shape, crate::pool::pooled(input.shape), "shape");
        input.check(&(2 * rows.start..2 * rows.end));
        let (w, depth) = (self.shape.w, self.depth());
        self.bands(rows, 1).for_each(|(n, y, row)| {
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

    /// Its shape; of a window, that of the images.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The values inside the border of a tensor that is not a window, in the order n, h, w, c.
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
        let row = n * (self.held.len() + 2) + y - self.held.start;
        &self.halves.as_slice()[row * self.row_len() + x * self.depth()..]
    }

    /// The pixels of a row.
    fn row(&self, n: usize, y: usize) -> &[u16] {
        &self.around(n, y + 1, 1)[..self.shape.w * self.depth()]
    }

    /// Some rows, in groups of `band` (fewer in the last), in parallel: image, first row, and the rows with their
    /// border.
    ///
    /// # Panics
    /// If they are not rows of the images in the window.
    pub(super) fn bands(
        &mut self,
        rows: Range<usize>,
        band: usize,
    ) -> impl ParallelIterator<Item = (usize, usize, &mut [u16])> {
        self.check(&rows);
        let (row, held) = (self.row_len(), self.held.clone());
        let image = (held.len() + 2) * row;
        let images = self.shape.n * image;
        self.halves.as_mut_slice()[..images]
            .par_chunks_mut(image.max(1))
            .enumerate()
            .flat_map(move |(n, image)| {
                let inside = &mut image[(rows.start - held.start + 1) * row..][..rows.len() * row];
                let inside = inside.par_chunks_mut((band * row).max(1));
                let first = rows.start;
                one_by_one(inside.enumerate()).map(move |(i, rows)| (n, first + i * band, rows))
            })
    }
}

/// The larger value, as bits.
#[inline(always)]
fn larger(a: u16, b: u16) -> u16 {
    if from_half(a) < from_half(b) { b } else { a }
}
