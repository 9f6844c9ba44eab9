//! Activations: NHWC with the channels padded to whole vectors and the zero border stored in the
//! tensor, so that a convolution reads its neighbours without asking where the image ends. The
//! arena hands the memory of one tensor to the next: page faults cost more than arithmetic.

use std::marker::PhantomData;
use std::ops::Range;

use rayon::prelude::*;

use crate::arch::LANES;
use crate::jobs::one_by_one;
use crate::memory::Memory;

/// Pixels of zeros around every image, as a 3×3 convolution with padding 1 reads them.
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
    /// Floats from one pixel to the next: the channels, up to whole vectors.
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

    /// Floats of the whole tensor.
    fn len(&self) -> usize {
        self.n * self.rows() * self.row_stride()
    }

    /// [`Shape::len`], for making memory: the `unsafe` of this crate relies on no offset below it
    /// wrapping.
    ///
    /// # Panics
    /// If it is more than an address can count.
    fn checked_len(&self) -> usize {
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

    /// The float where the pixel (`y`, `x`) of image `n` begins; -1 and `h` or `w` are the border.
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

    /// The index of the float where pixel (`y`, `x`) of image `n` begins; the border is at -1 and at
    /// `h` or `w`.
    pub(crate) fn offset(&self, n: usize, y: isize, x: isize) -> usize {
        self.shape.offset(n, y, x)
    }

    /// The rows inside the border, in parallel: `(n, y, pixels)`, where `pixels` holds the `w`
    /// pixels of the row.
    pub(crate) fn rows_mut(
        &mut self,
    ) -> impl ParallelIterator<Item = (usize, usize, &mut [f32])> + '_ {
        let h = self.shape.h;
        self.some_rows_mut(0..h)
    }

    /// [`Tensor::rows_mut`] for some rows of every image. The threads share these alone: rows that
    /// each thread had to skip would leave some without work.
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
    /// If `values` has another length.
    pub fn fill_from(&mut self, values: &[f32]) {
        let shape = self.shape;
        assert_eq!(
            values.len(),
            shape.n * shape.h * shape.w * shape.c,
            "values for {shape:?}"
        );
        let (pixel, c) = (shape.pixel_stride(), shape.c);
        self.rows_mut().for_each(|(n, y, row)| {
            let from = &values[(n * shape.h + y) * shape.w * c..][..shape.w * c];
            for (to, from) in row.chunks_exact_mut(pixel).zip(from.chunks_exact(c)) {
                to[..c].copy_from_slice(from);
                to[c..].fill(0.0);
            }
        });
    }

    /// Writes the interior to `n · h · w · c` values in the order n, h, w, c.
    ///
    /// # Panics
    /// If `values` has another length.
    pub fn copy_to(&self, values: &mut [f32]) {
        let shape = self.shape;
        assert_eq!(
            values.len(),
            shape.n * shape.h * shape.w * shape.c,
            "values for {shape:?}"
        );
        let (pixel, c) = (shape.pixel_stride(), shape.c);
        if values.is_empty() {
            return;
        }
        values
            .par_chunks_mut(shape.w * c)
            .enumerate()
            .for_each(|(row, to)| {
                let from = self.row(row / shape.h, row % shape.h);
                for (to, from) in to.chunks_exact_mut(c).zip(from.chunks_exact(pixel)) {
                    to.copy_from_slice(&from[..c]);
                }
            });
    }

    /// Moves some rows of every image to the top; what they leave behind is to be written again.
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

    /// Zeroes what kernels never write, for memory that held another tensor.
    fn clear_border(&mut self) {
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
/// Where an image is longer than memory should be, its rows go through such a window from top to
/// bottom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    tensor: &'a Tensor,
    first: usize,
    h: usize,
}

impl<'a> Rows<'a> {
    /// The rows of images `h` high from row `first` on.
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

    /// All floats of the rows that are here.
    pub fn as_slice(&self) -> &'a [f32] {
        self.tensor.as_slice()
    }

    /// The float where a pixel begins; the rows here and one above and below may be asked for.
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

/// [`Rows`] to be written.
pub(crate) struct RowsMut<'a> {
    pub tensor: &'a mut Tensor,
    /// The image row of the tensor's row 0.
    pub first: usize,
    /// Rows of the whole images.
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

/// A tensor that several threads write to, each to pixels of its own. Like [`Rows`], it may hold
/// some rows of taller images.
pub(crate) struct SharedMut<'a> {
    floats: *mut f32,
    len: usize,
    held: Shape,
    first: usize,
    h: usize,
    tensor: PhantomData<&'a mut Tensor>,
}

// SAFETY: it stands for an exclusive borrow of a tensor of `f32`, which may be used from any
// thread; `vector` leaves it to its caller that no two threads use the same floats.
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

    /// Whether the images' every row is here.
    pub fn is_whole(&self) -> bool {
        self.held.h == self.h
    }

    /// The float where a pixel begins; the rows here and one above and below may be asked for.
    #[inline(always)]
    pub fn offset(&self, n: usize, y: isize, x: isize) -> usize {
        self.held.offset(n, y - self.first as isize, x)
    }

    /// Where the floats lie.
    pub fn address(&self) -> *const f32 {
        self.floats
    }

    /// The vector from float `at` on.
    ///
    /// # Panics
    /// If it does not lie in the tensor.
    ///
    /// # Safety
    /// While the vector is in use, no other vector that shares a float with it is.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "the caller keeps vectors apart")]
    pub unsafe fn vector(&self, at: usize) -> &mut [f32; LANES] {
        assert!(at + LANES <= self.len);
        // SAFETY: inside the tensor by the assertion, exclusive by the caller's promise.
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

/// How many times larger than a tensor the memory may be that it takes over.
const LARGER: usize = 8;

/// Memory that is used again and again.
#[derive(Debug, Default)]
pub struct Arena {
    free: Vec<Memory>,
}

impl Arena {
    /// A tensor whose border is zero and whose interior, padding channels included, is anything: it is
    /// for a kernel to write.
    ///
    /// # Panics
    /// If the shape is larger than memory.
    pub fn take(&mut self, shape: Shape) -> Tensor {
        match self.find(shape.checked_len()) {
            Some(memory) => {
                let mut tensor = Tensor { shape, memory };
                tensor.clear_border();
                tensor
            }
            None => Tensor::zeros(shape),
        }
    }

    /// Takes back a tensor's memory.
    pub fn give(&mut self, tensor: Tensor) {
        self.free.push(tensor.memory);
    }

    /// At least `len` floats, which may hold anything.
    ///
    /// # Panics
    /// If they are more than an address can count.
    pub(crate) fn take_floats(&mut self, len: usize) -> Memory {
        self.find(len).unwrap_or_else(|| Memory::zeros(len))
    }

    /// Takes back the floats.
    pub(crate) fn give_floats(&mut self, floats: Memory) {
        self.free.push(floats);
    }

    /// The smallest memory of at least `needed` floats. Memory much larger is left for the tensor that needs it.
    /// Not too soon: images of one folder differ a few times in size, and fresh memory costs more than arithmetic.
    fn find(&mut self, needed: usize) -> Option<Memory> {
        let fits = self.free.iter().enumerate();
        let most = needed.saturating_mul(LARGER);
        let fits = fits.filter(|(_, memory)| (needed..=most).contains(&memory.len()));
        let (i, _) = fits.min_by_key(|(_, memory)| memory.len())?;
        Some(self.free.swap_remove(i))
    }

    /// Gives all memory back to the system; for when images of quite another size follow.
    pub fn clear(&mut self) {
        self.free.clear();
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

    #[test]
    fn memory_used_again_has_a_clean_border() {
        let mut arena = Arena::default();
        let mut first = Tensor::zeros(Shape {
            n: 2,
            h: 7,
            w: 5,
            c: 9,
        });
        first.fill_from(&vec![1.0; 2 * 7 * 5 * 9]);
        arena.give(first);
        let mut second = arena.take(Shape {
            n: 1,
            h: 9,
            w: 6,
            c: 11,
        });
        second.fill_from(&vec![1.0; 9 * 6 * 11]);
        assert_eq!(second.as_slice().iter().sum::<f32>(), 9.0 * 6.0 * 11.0);
    }
}
