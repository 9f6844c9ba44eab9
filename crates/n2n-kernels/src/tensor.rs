//! Activations: NHWC with the channels padded to whole vectors and the zero border stored in the
//! tensor, so that a convolution reads its neighbours without asking where the image ends. The
//! arena hands the memory of one tensor to the next: page faults cost more than arithmetic.

use std::marker::PhantomData;

use rayon::prelude::*;

use crate::arch::LANES;

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
    memory: Vec<Line>,
}

/// A cache line, for its alignment.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);
const LINE: usize = 16;

impl Tensor {
    /// A tensor of zeros.
    ///
    /// # Panics
    /// If the shape is larger than memory.
    pub fn zeros(shape: Shape) -> Self {
        let lines = shape.checked_len().div_ceil(LINE);
        Self {
            shape,
            memory: vec![Line([0.0; LINE]); lines],
        }
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// All floats, border and padding included.
    pub fn as_slice(&self) -> &[f32] {
        &self.memory.as_flattened_lines()[..self.shape.len()]
    }

    fn as_mut_slice(&mut self) -> &mut [f32] {
        let len = self.shape.len();
        &mut self.memory.as_flattened_lines_mut()[..len]
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
        let shape = self.shape;
        let (stride, pixel) = (shape.row_stride(), shape.pixel_stride());
        self.as_mut_slice()
            .par_chunks_mut(stride.max(1))
            .enumerate()
            .filter_map(move |(row, floats)| {
                let (n, y) = (row / shape.rows(), row % shape.rows());
                let inside = (BORDER..BORDER + shape.h).contains(&y);
                inside.then(|| {
                    (
                        n,
                        y - BORDER,
                        &mut floats[BORDER * pixel..][..shape.w * pixel],
                    )
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

/// A tensor that several threads write to, each to pixels of its own.
pub(crate) struct SharedMut<'a> {
    floats: *mut f32,
    len: usize,
    shape: Shape,
    tensor: PhantomData<&'a mut Tensor>,
}

// SAFETY: it stands for an exclusive borrow of a tensor of `f32`, which may be used from any
// thread; `vector` leaves it to its caller that no two threads use the same floats.
unsafe impl Sync for SharedMut<'_> {}

impl<'a> SharedMut<'a> {
    /// Borrows the tensor for as long as threads write to it.
    pub fn new(tensor: &'a mut Tensor) -> Self {
        let shape = tensor.shape;
        let floats = tensor.as_mut_slice();
        Self {
            floats: floats.as_mut_ptr(),
            len: floats.len(),
            shape,
            tensor: PhantomData,
        }
    }

    /// The tensor's shape.
    pub fn shape(&self) -> Shape {
        self.shape
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

/// Memory that is used again and again.
#[derive(Debug, Default)]
pub struct Arena {
    free: Vec<Vec<Line>>,
}

impl Arena {
    /// A tensor whose border is zero and whose interior, padding channels included, is anything: it is
    /// for a kernel to write.
    ///
    /// # Panics
    /// If the shape is larger than memory.
    pub fn take(&mut self, shape: Shape) -> Tensor {
        let needed = shape.checked_len().div_ceil(LINE);
        let fits = self
            .free
            .iter()
            .enumerate()
            .filter(|(_, memory)| memory.len() >= needed);
        match fits.min_by_key(|(_, memory)| memory.len()).map(|(i, _)| i) {
            // Memory much larger than needed is left for the tensor that needs it.
            Some(i) if self.free[i].len() <= 2 * needed => {
                let mut tensor = Tensor {
                    shape,
                    memory: self.free.swap_remove(i),
                };
                tensor.clear_border();
                tensor
            }
            _ => Tensor::zeros(shape),
        }
    }

    /// Takes back a tensor's memory.
    pub fn give(&mut self, tensor: Tensor) {
        self.free.push(tensor.memory);
    }

    /// Gives all memory back to the system; for when images of quite another size follow.
    pub fn clear(&mut self) {
        self.free.clear();
    }
}

trait Lines {
    fn as_flattened_lines(&self) -> &[f32];
    fn as_flattened_lines_mut(&mut self) -> &mut [f32];
}

impl Lines for Vec<Line> {
    fn as_flattened_lines(&self) -> &[f32] {
        // SAFETY: a `Line` is `LINE` floats and nothing else: `repr(C)`, and its size, 64 bytes,
        // is its alignment.
        unsafe { std::slice::from_raw_parts(self.as_ptr().cast(), self.len() * LINE) }
    }

    fn as_flattened_lines_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr().cast(), self.len() * LINE) }
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
