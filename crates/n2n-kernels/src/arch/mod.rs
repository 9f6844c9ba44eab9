//! What a processor level offers: vectors of eight `f32` and the few operations the kernels need.

#[cfg(target_arch = "x86_64")]
pub mod amx;
#[cfg(target_arch = "x86_64")]
pub mod avx2;
#[cfg(target_arch = "x86_64")]
pub mod avx512;
#[cfg(target_arch = "aarch64")]
pub mod neon;
pub mod scalar;
pub mod tiles;
#[cfg(target_arch = "wasm32")]
pub mod wasm32;

/// Lanes per vector, at every level.
pub const LANES: usize = 8;

/// The vector that starts at an index.
///
/// # Panics
/// If it does not fit.
#[inline(always)]
pub fn vector(floats: &[f32], at: usize) -> &[f32; LANES] {
    floats[at..].first_chunk().expect("a vector")
}

/// Mutable [`vector`].
///
/// # Panics
/// If it does not fit.
#[inline(always)]
pub fn vector_mut(floats: &mut [f32], at: usize) -> &mut [f32; LANES] {
    floats[at..].first_chunk_mut().expect("a vector")
}

/// The operations of one level.
///
/// A value of the type proves that the processor supports the level, so it is created only after detection. Every
/// method is inlined into the caller, which runs inside [`Level::run`](crate::Level::run) and is therefore compiled
/// with the level's instructions.
pub trait Simd: Copy + Send + Sync {
    /// A vector of eight `f32`.
    type V: Copy;

    /// Rows of the register tile of a matrix product, 4 or 8.
    const ROWS: usize = 4;
    /// Vectors of the register tile, 3 or 6.
    const WIDEST: usize = 3;

    /// `x` in every lane.
    fn splat(self, x: f32) -> Self::V;
    /// Loads eight values; no alignment required.
    fn load(self, from: &[f32; LANES]) -> Self::V;
    /// Stores eight values; no alignment required.
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    /// `a + b`.
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`.
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, with a single rounding where the level supports it.
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The maximum of `a` and `b`; if one is NaN, the other must be too.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a` in the lanes where `of > 0`, `b` in the others.
    fn where_positive(self, of: Self::V, a: Self::V, b: Self::V) -> Self::V;
    /// Prefetches the cache line at `at` into the L1 cache, where the level supports it; has no other effect.
    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        let _ = at;
    }

    /// [`Simd::prefetch`] into the L2 cache, for a line that is needed later.
    #[inline(always)]
    fn prefetch_far(self, at: *const f32) {
        self.prefetch(at);
    }

    /// The core of every register tile: `sums[i][j] += Σ_k a[i · rows + k · step_a] · b[k · step_b][j]` for `M` rows of
    /// `a` and `N` vectors of `b`.
    ///
    /// # Safety
    /// The strip must be readable: see [`Strip`].
    #[inline(always)]
    unsafe fn multiply_add_strip<const M: usize, const N: usize>(
        self,
        sums: &mut [[Self::V; N]; M],
        strip: Strip,
    ) {
        // SAFETY: the caller has the same obligation.
        unsafe { generic_strip(self, sums, strip) }
    }

    /// A register tile of a matrix product: the sums of the strip, starting from zero, in `M` rows of `N` vectors,
    /// `stride` floats apart.
    ///
    /// # Panics
    /// If `to` is too short for them.
    ///
    /// # Safety
    /// The strip must be readable: see [`Strip`].
    #[inline(always)]
    unsafe fn product<const M: usize, const N: usize>(
        self,
        strip: Strip,
        to: &mut [f32],
        stride: usize,
    ) {
        // SAFETY: the caller has the same obligation.
        unsafe { generic_product::<_, M, N>(self, strip, to, stride) }
    }
}

/// The operands of [`Simd::multiply_add_strip`].
///
/// To be readable for `M` rows and `N` vectors means: `a` is readable at `i · rows + k · step_a`, and `b` for `N`
/// vectors at `k · step_b`, for every `i < M` and `k < count`.
#[derive(Clone, Copy)]
pub struct Strip {
    /// Points to the value of row 0 in step 0.
    pub a: *const f32,
    /// Floats from one row to the next.
    pub rows: usize,
    /// Floats from one step to the next in `a`.
    pub step_a: usize,
    /// Points to the vectors of step 0.
    pub b: *const f32,
    /// Floats from one step to the next in `b`.
    pub step_b: usize,
    /// Number of steps.
    pub count: usize,
}

/// [`Simd::multiply_add_strip`] in terms of the other operations.
///
/// # Safety
/// As for that method.
#[inline(always)]
unsafe fn generic_strip<S: Simd, const M: usize, const N: usize>(
    simd: S,
    sums: &mut [[S::V; N]; M],
    strip: Strip,
) {
    let mut total = *sums;
    for k in 0..strip.count {
        // SAFETY: k < count, so the caller guarantees it; a vector is `LANES` floats.
        let b: &[[f32; LANES]; N] = unsafe { &*strip.b.add(k * strip.step_b).cast() };
        let mut row = [simd.splat(0.0); N];
        for (to, from) in row.iter_mut().zip(b) {
            *to = simd.load(from);
        }
        for (i, total) in total.iter_mut().enumerate() {
            // SAFETY: i < M and k < count, so the caller guarantees it.
            let a = simd.splat(unsafe { *strip.a.add(i * strip.rows + k * strip.step_a) });
            for (total, b) in total.iter_mut().zip(row) {
                *total = simd.mul_add(a, b, *total);
            }
        }
    }
    *sums = total;
}

/// [`Simd::product`] in terms of [`Simd::multiply_add_strip`].
///
/// # Safety
/// As for that method.
#[inline(always)]
unsafe fn generic_product<S: Simd, const M: usize, const N: usize>(
    simd: S,
    strip: Strip,
    to: &mut [f32],
    stride: usize,
) {
    let mut sums = [[simd.splat(0.0); N]; M];
    // SAFETY: the caller has the same obligation.
    unsafe { simd.multiply_add_strip(&mut sums, strip) };
    for (i, sums) in sums.into_iter().enumerate() {
        for (j, sum) in sums.into_iter().enumerate() {
            simd.store(sum, vector_mut(to, i * stride + j * LANES));
        }
    }
}

/// Work that can run at any level.
pub trait Kernel {
    /// The result.
    type Output;
    /// Does the work. Implementations are `#[inline(always)]`, so that the body is compiled with the instructions of
    /// the level.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}
