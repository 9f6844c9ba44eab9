//! Products of small matrices, at any level.

use crate::arch::{Kernel, LANES, Simd, Strip, vector, vector_mut};

/// `to[i][..] += Σ_k a[i · row + k · step] · b[k][..]`, where rows of `b` and `to` have `width` floats, a whole
/// number of vectors.
pub(crate) struct Product<'a> {
    pub a: &'a [f32],
    pub row: usize,
    pub step: usize,
    pub b: &'a [f32],
    pub depth: usize,
    pub width: usize,
    pub to: &'a mut [f32],
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        if (S::ROWS, S::WIDEST) == (8, 6) {
            self.tiles::<S, 8, 6>(simd);
        } else {
            self.tiles::<S, 4, 3>(simd);
        }
    }
}

impl Product<'_> {
    /// The whole product, in tiles of `M` rows by `N` vectors where they fit.
    #[inline(always)]
    fn tiles<S: Simd, const M: usize, const N: usize>(&mut self, simd: S) {
        let rows = self.to.len() / self.width;
        for i in (0..rows).step_by(M) {
            let end = rows.min(i + M);
            for begin in (0..self.width).step_by(N * LANES) {
                if end == i + M && self.width - begin >= N * LANES {
                    self.tile::<S, M, N>(simd, i, begin);
                    continue;
                }
                for begin in (begin..self.width.min(begin + N * LANES)).step_by(LANES) {
                    if end == i + M {
                        self.tile::<S, M, 1>(simd, i, begin);
                    } else {
                        for i in i..end {
                            self.tile::<S, 1, 1>(simd, i, begin);
                        }
                    }
                }
            }
        }
    }

    /// The rows from `i` on, for the vectors that start at column `begin`.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(&mut self, simd: S, i: usize, begin: usize) {
        let at = |k: usize, j: usize| (i + k) * self.width + begin + j * LANES;
        let mut sums = [[simd.splat(0.0); N]; M];
        for (k, sums) in sums.iter_mut().enumerate() {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = simd.load(vector(self.to, at(k, j)));
            }
        }
        assert!((i + M - 1) * self.row + (self.depth - 1) * self.step < self.a.len());
        assert!((self.depth - 1) * self.width + begin + N * LANES <= self.b.len());
        let strip = Strip {
            a: self.a[i * self.row..].as_ptr(),
            rows: self.row,
            step_a: self.step,
            b: self.b[begin..].as_ptr(),
            step_b: self.width,
            count: self.depth,
        };
        // SAFETY: the assertions above cover the last values that the strip reads.
        unsafe { simd.multiply_add_strip(&mut sums, strip) };
        for (k, sums) in sums.into_iter().enumerate() {
            for (j, sum) in sums.into_iter().enumerate() {
                simd.store(sum, vector_mut(self.to, at(k, j)));
            }
        }
    }
}
