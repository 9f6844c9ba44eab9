//! Activations: NHWC with the channels padded to whole vectors and a zero border stored in the tensor, so that a
//! convolution reads a pixel's neighbors without checking for the edge of the image. The arena reuses the memory of
//! one tensor for the next, because page faults cost more than arithmetic.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use crate::arch::LANES;
use crate::jobs::one_by_one;
use crate::memory::Memory;

/// Width of the zero border around every image, as required by a 3×3 convolution with padding 1.
const BORDER: usize = 1;

/// The shape of a tensor: `n` images of `h` × `w` pixels with `c` channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Images.
    pub n: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
    /// Channels.
    pub c: usize,
}

impl Shape {
    /// Floats from one pixel to the next: the channels, padded to whole vectors.
    pub fn pixel_stride(&self) -> usize {
        self.c.next_multiple_of(LANES)
    }

    /// Floats from one row to the next, border included.
    pub fn row_stride(&self) -> usize {
        (self.w + 2 * BORDER) * self.pixel_stride()
    }

    /// Rows of an image, border included.
    fn rows(&self) -> usize {
        self.h + 2 * BORDER
    }

    /// Floats in the whole tensor.
    fn len(&self) -> usize {
        self.n * self.rows() * self.row_stride()
    }

    /// [`Shape::len`], checked, for allocation: the `unsafe` code of this crate relies on no smaller offset wrapping
    /// around.
    ///
    /// # Panics
    /// If it exceeds the address space.
    pub(crate) fn checked_len(&self) -> usize {
        let product = || {
            let pixel = self.c.checked_next_multiple_of(LANES)?;
            let row = self.w.checked_add(2 * BORDER)?.checked_mul(pixel)?;
            let floats = self
                .h
                .checked_add(2 * BORDER)?
                .checked_mul(row)?
                .checked_mul(self.n)?;
            (floats <= isize::MAX as usize / size_of::<f32>()).then_some(floats)
        };
        product().unwrap_or_else(|| panic!("{self:?} is larger than memory"))
    }

    /// The index of the float where pixel (`y`, `x`) of image `n` begins; -1 and `h` or `w` are the border.
    pub(crate) fn offset(&self, n: usize, y: isize, x: isize) -> usize {
        let inside = |i: isize, size: usize| i >= -1 && i <= size as isize;
        debug_assert!(n < self.n && inside(y, self.h) && inside(x, self.w));
        (n * self.rows() + (y + 1) as usize) * self.row_stride()
            + (x + 1) as usize * self.pixel_stride()
    }
}

/// A batch of activations or of their gradients.
///
/// The border and the padding channels are zero once a kernel has written the tensor: kernels write
/// every interior pixel whole, and nothing but the interior.
#[derive(Debug)]
pub struct Tensor {
    shape: Shape,
    /// At least `shape.len()` floats; more when the memory was taken over from a larger tensor.
    memory: Memory,
}

impl Tensor {
    /// A tensor of zeros.
    ///
    /// # Panics
    /// If the shape is larger than memory.
    pub fn zeros(shape: Shape) -> Self {
        Self {
            shape,
            memory: Memory::zeros(shape.checked_len()),
        }
    }

    /// A tensor in memory with whatever it holds.
    pub(crate) fn from_memory(shape: Shape, memory: Memory) -> Self {
        assert!(memory.len() >= shape.checked_len(), "memory for {shape:?}");
        Self { shape, memory }
    }

    /// Its memory, for another tensor.
    pub(crate) fn into_memory(self) -> Memory {
        self.memory
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// All floats, border and padding included.
    pub fn as_slice(&self) -> &[f32] {
        &self.memory.as_slice()[..self.shape.len()]
    }

    fn as_mut_slice(&mut self) -> &mut [f32] {
        let len = self.shape.len();
        &mut self.memory.as_mut_slice()[..len]
    }

    /// The index of the float where pixel (`y`, `x`) of image `n` begins; the border is at -1 and at `h` or `w`.
    pub(crate) fn offset(&self, n: usize, y: isize, x: isize) -> usize {
        self.shape.offset(n, y, x)
    }

    /// The rows inside the border, in parallel: `(n, y, pixels)`, where `pixels` holds the `w` pixels of the row.
    pub(crate) fn rows_mut(
        &mut self,
    ) -> impl ParallelIterator<Item = (usize, usize, &mut [f32])> + '_ {
        let h = self.shape.h;
        self.some_rows_mut(0..h)
    }

    /// [`Tensor::rows_mut`] for some rows of every image. The threads share only these rows: if each thread had to
    /// skip rows, some would have no work.
    pub(crate) fn some_rows_mut(
        &mut self,
        rows: Range<usize>,
    ) -> impl ParallelIterator<Item = (usize, usize, &mut [f32])> + '_ {
        let shape = self.shape;
        assert!(
            rows.start <= rows.end && rows.end <= shape.h,
            "rows of the tensor"
        );
        let (stride, pixel) = (shape.row_stride(), shape.pixel_stride());
        let inside = (BORDER + rows.start) * stride..(BORDER + rows.end) * stride;
        self.as_mut_slice()
            .par_chunks_mut((shape.rows() * stride).max(1))
            .enumerate()
            .flat_map(move |(n, image)| {
                let here = image[inside.clone()].par_chunks_mut(stride.max(1));
                one_by_one(here.enumerate()).map(move |(y, floats)| {
                    let pixels = &mut floats[BORDER * pixel..][..shape.w * pixel];
                    (n, rows.start + y, pixels)
                })
            })
    }

    /// Row `y` of image `n`: the `w` pixels inside the border.
    pub(crate) fn row(&self, n: usize, y: usize) -> &[f32] {
        let begin = self.offset(n, y as isize, 0);
        &self.as_slice()[begin..][..self.shape.w * self.shape.pixel_stride()]
    }

    /// Fills the interior from `n · h · w · c` values in the order n, h, w, c.
    ///
    /// # Panics
    /// If `values` has a different length.
    pub fn fill_from(&mut self, values: &[f32]) {
        self.fill_from_blocks(values, 1);
    }

    /// Like [`Self::fill_from`], for images that are `block` times as high and wide (space-to-depth): each pixel of the
    /// tensor holds a block of `block` × `block` pixels, row by row.
    ///
    /// # Panics
    /// If `values` has a different length, or the number of channels is not a multiple of `block`².
    pub fn fill_from_blocks(&mut self, values: &[f32], block: usize) {
        let (shape, pixel) = (self.shape, self.shape.pixel_stride());
        let run = self.blocks(values.len(), block);
        self.rows_mut().for_each(|(n, y, row)| {
            let from = &values[(n * shape.h + y) * block * shape.w * run..];
            for (i, from) in from.chunks_exact(shape.w * run).take(block).enumerate() {
                for (to, from) in row.chunks_exact_mut(pixel).zip(from.chunks_exact(run)) {
                    copy(from, &mut to[i * run..]);
                }
            }
            for to in row.chunks_exact_mut(pixel) {
                to[shape.c..].fill(0.0);
            }
        });
    }

    /// Copies the interior to `n · h · w · c` values in the order n, h, w, c.
    ///
    /// # Panics
    /// If `values` has a different length.
    pub fn copy_to(&self, values: &mut [f32]) {
        self.copy_to_blocks(values, 1);
    }

    /// Reverses [`Self::fill_from_blocks`] (depth-to-space).
    ///
    /// # Panics
    /// As [`Self::fill_from_blocks`].
    pub fn copy_to_blocks(&self, values: &mut [f32], block: usize) {
        let (shape, pixel) = (self.shape, self.shape.pixel_stride());
        let run = self.blocks(values.len(), block);
        if values.is_empty() {
            return;
        }
        values
            .par_chunks_mut(block * shape.w * run)
            .enumerate()
            .for_each(|(row, to)| {
                let from = self.row(row / shape.h, row % shape.h);
                for (i, to) in to.chunks_exact_mut(shape.w * run).enumerate() {
                    for (to, from) in to.chunks_exact_mut(run).zip(from.chunks_exact(pixel)) {
                        copy(&from[i * run..][..run], to);
                    }
                }
            });
    }

    /// Checks the arguments of [`Self::fill_from_blocks`], and returns the number of values in one row of a block.
    fn blocks(&self, values: usize, block: usize) -> usize {
        let Shape { n, h, w, c } = self.shape;
        assert_eq!(values, n * h * w * c, "values for {:?}", self.shape);
        assert_eq!(c % (block * block), 0, "channels of blocks");
        c / block
    }

    /// Moves some rows of every image to the top; the rows they came from must be rewritten.
    ///
    /// # Panics
    /// If they are not rows of the tensor.
    pub(crate) fn move_up(&mut self, rows: Range<usize>) {
        let shape = self.shape;
        assert!(rows.end <= shape.h, "rows of the tensor");
        let (all, stride) = (shape.rows(), shape.row_stride());
        for image in self.as_mut_slice().chunks_exact_mut((all * stride).max(1)) {
            let from = (BORDER + rows.start) * stride..(BORDER + rows.end) * stride;
            image.copy_within(from, BORDER * stride);
        }
    }

    /// Zeroes row `y` of every image.
    pub(crate) fn clear_row(&mut self, y: usize) {
        let shape = self.shape;
        let (rows, stride) = (shape.rows(), shape.row_stride());
        for image in self.as_mut_slice().chunks_exact_mut((rows * stride).max(1)) {
            image[(BORDER + y) * stride..][..stride].fill(0.0);
        }
    }

    /// Zeroes everything that kernels never write, in memory that held another tensor before.
    pub(crate) fn clear_border(&mut self) {
        let shape = self.shape;
        let (rows, stride, pixel) = (shape.rows(), shape.row_stride(), shape.pixel_stride());
        for (row, floats) in self
            .as_mut_slice()
            .chunks_exact_mut(stride.max(1))
            .enumerate()
        {
            let y = row % rows;
            if (BORDER..BORDER + shape.h).contains(&y) {
                floats[..BORDER * pixel].fill(0.0);
                floats[(BORDER + shape.w) * pixel..].fill(0.0);
            } else {
                floats.fill(0.0);
            }
        }
    }
}

/// A tensor that holds some rows of taller images: its row `y` is row `first + y` of an image.
///
/// Such a window slides down the images from top to bottom, so that the tensor between two layers is never stored
/// whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    tensor: &'a Tensor,
    first: usize,
    h: usize,
}

impl<'a> Rows<'a> {
    /// The rows of images of height `h` from row `first` on.
    pub fn new(tensor: &'a Tensor, first: usize, h: usize) -> Self {
        Self { tensor, first, h }
    }

    /// The shape of the whole images.
    pub fn shape(&self) -> Shape {
        Shape {
            h: self.h,
            ..self.tensor.shape
        }
    }

    /// All floats of the rows in the window.
    pub fn as_slice(&self) -> &'a [f32] {
        self.tensor.as_slice()
    }

    /// The index of the float where a pixel begins; valid for the rows in the window and one row above and below.
    #[inline(always)]
    pub fn offset(&self, n: usize, y: isize, x: isize) -> usize {
        self.tensor.offset(n, y - self.first as isize, x)
    }
}

impl<'a> From<&'a Tensor> for Rows<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self::new(tensor, 0, tensor.shape.h)
    }
}

/// Mutable [`Rows`].
pub(crate) struct RowsMut<'a> {
    pub tensor: &'a mut Tensor,
    /// The image row that row 0 of the tensor holds.
    pub first: usize,
    /// Height of the whole images.
    pub h: usize,
}

impl<'a> From<&'a mut Tensor> for RowsMut<'a> {
    fn from(tensor: &'a mut Tensor) -> Self {
        let h = tensor.shape.h;
        Self {
            tensor,
            first: 0,
            h,
        }
    }
}

/// A tensor that several threads write to, each to its own pixels. Like [`Rows`], it may hold some rows of taller
/// images.
pub(crate) struct SharedMut<'a> {
    floats: *mut f32,
    len: usize,
    held: Shape,
    first: usize,
    h: usize,
    tensor: PhantomData<&'a mut Tensor>,
}

// SAFETY: it represents an exclusive borrow of a tensor of `f32`, which may be used from any thread; callers of
// `vector` must ensure that no two threads use the same floats.
unsafe impl Sync for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    fn new(tensor: &'a mut Tensor, first: usize, h: usize) -> Self {
        let held = tensor.shape;
        let floats = tensor.as_mut_slice();
        Self {
            floats: floats.as_mut_ptr(),
            len: floats.len(),
            held,
            first,
            h,
            tensor: PhantomData,
        }
    }

    /// The shape of the whole images.
    pub fn shape(&self) -> Shape {
        Shape {
            h: self.h,
            ..self.held
        }
    }

    /// Whether all rows of the images are in the window.
    pub fn is_whole(&self) -> bool {
        self.held.h == self.h
    }

    /// The index of the float where a pixel begins; valid for the rows in the window and one row above and below.
    #[inline(always)]
    pub fn offset(&self, n: usize, y: isize, x: isize) -> usize {
        self.held.offset(n, y - self.first as isize, x)
    }

    /// The address of the floats.
    pub fn address(&self) -> *const f32 {
        self.floats
    }

    /// The vector that starts at float `at`.
    ///
    /// # Panics
    /// If it does not lie within the tensor.
    ///
    /// # Safety
    /// While the vector is in use, no other vector that overlaps it may be.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "the caller keeps vectors apart")]
    pub unsafe fn vector(&self, at: usize) -> &mut [f32; LANES] {
        assert!(at + LANES <= self.len);
        // SAFETY: in bounds by the assertion, exclusive by the caller's obligation.
        unsafe { &mut *self.floats.add(at).cast() }
    }
}

impl<'a> From<&'a mut RowsMut<'_>> for SharedMut<'a> {
    fn from(rows: &'a mut RowsMut<'_>) -> Self {
        Self::new(rows.tensor, rows.first, rows.h)
    }
}

impl<'a> From<&'a mut Tensor> for SharedMut<'a> {
    fn from(tensor: &'a mut Tensor) -> Self {
        let h = tensor.shape.h;
        Self::new(tensor, 0, h)
    }
}

/// Copies `from` to the beginning of `to`; the lengths that occur most often are inlined.
#[inline(always)]
fn copy(from: &[f32], to: &mut [f32]) {
    match from.len() {
        1 => to[0] = from[0],
        3 => to[..3].copy_from_slice(&from[..3]),
        6 => to[..6].copy_from_slice(&from[..6]),
        len => to[..len].copy_from_slice(from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_in_and_come_out() {
        for (n, h, w, c) in [(1, 1, 1, 1), (2, 3, 5, 3), (3, 2, 4, 8), (1, 4, 1, 17)] {
            let shape = Shape { n, h, w, c };
            let values: Vec<f32> = (0..n * h * w * c).map(|i| i as f32 + 1.0).collect();
            let mut tensor = Tensor::zeros(shape);
            tensor.fill_from(&values);
            let mut back = vec![0.0; values.len()];
            tensor.copy_to(&mut back);
            assert_eq!(values, back);
            let sum: f32 = tensor.as_slice().iter().sum();
            assert_eq!(
                sum,
                values.iter().sum::<f32>(),
                "border and padding are zero"
            );
        }
    }
}
