//! AVX-512: servers since 2017, AMD processors since Zen 4.
//!
//! Vectors are the same as for AVX2, but there are 32 registers. The register tiles of the matrix products use
//! registers twice as wide; the largest has eight rows by six vectors. That is twice the arithmetic per instruction,
//! and twice the speed on processors with two units of that width.

use std::arch::asm;
use std::arch::x86_64::{
    __m256, __m512, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    _mm512_castps512_ps256, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use super::avx2::Avx2;
use super::{Kernel, LANES, Simd, Strip, generic_product, generic_strip};

/// Proof that the processor has AVX-512 (F and VL), AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx512(Avx2);

impl Avx512 {
    /// Returns the proof if the processor has all of them.
    pub fn detect() -> Option<Self> {
        let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
        wide.then(Avx2::detect).flatten().map(Self)
    }

    /// Runs `kernel` compiled for AVX-512.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
        fn inside<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists only if `detect` found the features.
        unsafe { inside(self, kernel) }
    }
}

impl Simd for Avx512 {
    type V = __m256;

    const ROWS: usize = 8;
    const WIDEST: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        self.0.splat(x)
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m256 {
        self.0.load(from)
    }
    #[inline(always)]
    fn store(self, v: __m256, to: &mut [f32; LANES]) {
        self.0.store(v, to);
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        self.0.add(a, b)
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        self.0.mul(a, b)
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        self.0.mul_add(a, b, c)
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        self.0.max(a, b)
    }
    #[inline(always)]
    fn where_positive(self, of: __m256, a: __m256, b: __m256) -> __m256 {
        self.0.where_positive(of, a, b)
    }
    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        self.0.prefetch(at);
    }
    #[inline(always)]
    fn prefetch_far(self, at: *const f32) {
        self.0.prefetch_far(at);
    }

    #[inline(always)]
    unsafe fn multiply_add_strip<const M: usize, const N: usize>(
        self,
        sums: &mut [[__m256; N]; M],
        strip: Strip,
    ) {
        match (M, N) {
            (8, 6) => {
                let at: *mut f32 = sums.as_flattened_mut().as_mut_ptr().cast();
                // SAFETY: an `Avx512` exists only if `detect` found the features; the sums are eight rows of six
                // vectors; the rest is the caller's obligation.
                unsafe {
                    let mut total = [_mm512_setzero_ps(); 24];
                    for (i, total) in total.iter_mut().enumerate() {
                        *total = _mm512_loadu_ps(at.add(2 * LANES * i));
                    }
                    strip_8x6(&mut total, strip);
                    for (i, total) in total.into_iter().enumerate() {
                        _mm512_storeu_ps(at.add(2 * LANES * i), total);
                    }
                }
            }
            (4, 3) => {
                // SAFETY: the caller has the same obligation.
                unsafe { self.0.multiply_add_strip(sums, strip) }
            }
            (_, 2..=6) => {
                let at: *mut f32 = sums.as_flattened_mut().as_mut_ptr().cast();
                // SAFETY: an `Avx512` exists only where `detect` found the features; the sums are `M` rows
                // of `N` vectors; the caller guarantees the rest.
                unsafe { narrow_strip::<M, N, true>(strip, at, N * LANES) }
            }
            // SAFETY: the caller has the same obligation.
            _ => unsafe { generic_strip(self, sums, strip) },
        }
    }

    #[inline(always)]
    unsafe fn product<const M: usize, const N: usize>(
        self,
        strip: Strip,
        to: &mut [f32],
        stride: usize,
    ) {
        if (M, N) == (8, 6) {
            assert!(7 * stride + 6 * LANES <= to.len());
            let at = to.as_mut_ptr();
            // SAFETY: an `Avx512` exists only if `detect` found the features; the assertion ensures that `to` holds
            // eight rows; the rest is the caller's obligation.
            unsafe {
                let mut total = [_mm512_setzero_ps(); 24];
                strip_8x6(&mut total, strip);
                for (i, total) in total.into_iter().enumerate() {
                    _mm512_storeu_ps(at.add(i / 3 * stride + i % 3 * 2 * LANES), total);
                }
            }
        } else if N > 1 {
            assert!((M - 1) * stride + N * LANES <= to.len());
            // SAFETY: an `Avx512` exists only where `detect` found the features; `to` holds the rows by the
            // assertion; the caller guarantees the rest.
            unsafe { narrow_strip::<M, N, false>(strip, to.as_mut_ptr(), stride) }
        } else {
            // SAFETY: the caller has the same obligation.
            unsafe { generic_product::<_, M, N>(self, strip, to, stride) };
        }
    }
}

/// [`wide_strip`] for `M` rows and `N` vectors, 2 to 6.
///
/// # Safety
/// As for [`wide_strip`].
#[inline(always)]
unsafe fn narrow_strip<const M: usize, const N: usize, const ADD: bool>(
    strip: Strip,
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller has the same obligation; `N` vectors fill these registers.
    unsafe {
        match N {
            2 => wide_strip::<M, 1, false, ADD>(strip, to, stride),
            3 => wide_strip::<M, 1, true, ADD>(strip, to, stride),
            4 => wide_strip::<M, 2, false, ADD>(strip, to, stride),
            5 => wide_strip::<M, 2, true, ADD>(strip, to, stride),
            _ => wide_strip::<M, 3, false, ADD>(strip, to, stride),
        }
    }
}

/// Computes a strip of `M` rows and `WIDE` registers, plus half a register if the number of vectors is `ODD`. The sums
/// are written to `to`, where consecutive rows are `stride` floats apart; with `ADD` they start from the values there.
///
/// # Safety
/// The strip must be readable and `to` writable for these rows and vectors, and the processor must have AVX-512.
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
#[inline]
unsafe fn wide_strip<const M: usize, const WIDE: usize, const ODD: bool, const ADD: bool>(
    strip: Strip,
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller guarantees that all of this can be read and written.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); WIDE]; M];
        let mut odd = [_mm256_setzero_ps(); M];
        if ADD {
            for i in 0..M {
                for j in 0..WIDE {
                    sums[i][j] = _mm512_loadu_ps(to.add(i * stride + 2 * LANES * j));
                }
                if ODD {
                    odd[i] = _mm256_loadu_ps(to.add(i * stride + 2 * LANES * WIDE));
                }
            }
        }
        for k in 0..strip.count {
            let b = strip.b.add(k * strip.step_b);
            let mut row = [_mm512_setzero_ps(); WIDE];
            for j in 0..WIDE {
                row[j] = _mm512_loadu_ps(b.add(2 * LANES * j));
            }
            let last = if ODD {
                _mm256_loadu_ps(b.add(2 * LANES * WIDE))
            } else {
                _mm256_setzero_ps()
            };
            for i in 0..M {
                let a = _mm512_set1_ps(*strip.a.add(i * strip.rows + k * strip.step_a));
                for j in 0..WIDE {
                    sums[i][j] = _mm512_fmadd_ps(a, row[j], sums[i][j]);
                }
                if ODD {
                    odd[i] = _mm256_fmadd_ps(_mm512_castps512_ps256(a), last, odd[i]);
                }
            }
        }
        for i in 0..M {
            for j in 0..WIDE {
                _mm512_storeu_ps(to.add(i * stride + 2 * LANES * j), sums[i][j]);
            }
            if ODD {
                _mm256_storeu_ps(to.add(i * stride + 2 * LANES * WIDE), odd[i]);
            }
        }
    }
}

/// The strip of eight rows and six vectors, which occupy three registers: 24 sums, three registers of `b` and one
/// value of `a`.
///
/// # Safety
/// The strip must be readable for eight rows and six vectors, and the processor must have AVX-512.
#[allow(
    clippy::too_many_lines,
    reason = "one loop of instructions and its registers"
)]
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn strip_8x6(sums: &mut [__m512; 24], strip: Strip) {
    if strip.count == 0 {
        return;
    }
    let [
        mut s00,
        mut s01,
        mut s02,
        mut s10,
        mut s11,
        mut s12,
        mut s20,
        mut s21,
        mut s22,
        mut s30,
        mut s31,
        mut s32,
        mut s40,
        mut s41,
        mut s42,
        mut s50,
        mut s51,
        mut s52,
        mut s60,
        mut s61,
        mut s62,
        mut s70,
        mut s71,
        mut s72,
    ] = *sums;
    // The registers are named because the compiler misprints registers 16 and up when it chooses them.
    // SAFETY: reads `a` in eight rows and three registers at `b` in each of `count` steps, which the caller
    // guarantees; writes registers only.
    unsafe {
        asm!(
            "2:",
            "vmovups zmm24, [{b}]",
            "vmovups zmm25, [{b} + 64]",
            "vmovups zmm26, [{b} + 128]",
            "vbroadcastss zmm27, [{a}]",
            "vbroadcastss zmm28, [{a} + 4*{rows}]",
            "vfmadd231ps zmm0, zmm24, zmm27",
            "vfmadd231ps zmm1, zmm25, zmm27",
            "vfmadd231ps zmm2, zmm26, zmm27",
            "vbroadcastss zmm27, [{a} + 8*{rows}]",
            "vfmadd231ps zmm3, zmm24, zmm28",
            "vfmadd231ps zmm4, zmm25, zmm28",
            "vfmadd231ps zmm5, zmm26, zmm28",
            "vbroadcastss zmm28, [{a} + 4*{rows3}]",
            "vfmadd231ps zmm6, zmm24, zmm27",
            "vfmadd231ps zmm7, zmm25, zmm27",
            "vfmadd231ps zmm8, zmm26, zmm27",
            "vbroadcastss zmm27, [{c}]",
            "vfmadd231ps zmm9, zmm24, zmm28",
            "vfmadd231ps zmm10, zmm25, zmm28",
            "vfmadd231ps zmm11, zmm26, zmm28",
            "vbroadcastss zmm28, [{c} + 4*{rows}]",
            "vfmadd231ps zmm12, zmm24, zmm27",
            "vfmadd231ps zmm13, zmm25, zmm27",
            "vfmadd231ps zmm14, zmm26, zmm27",
            "vbroadcastss zmm27, [{c} + 8*{rows}]",
            "vfmadd231ps zmm15, zmm24, zmm28",
            "vfmadd231ps zmm16, zmm25, zmm28",
            "vfmadd231ps zmm17, zmm26, zmm28",
            "vbroadcastss zmm28, [{c} + 4*{rows3}]",
            "add {a}, {step_a}",
            "add {c}, {step_a}",
            "add {b}, {step_b}",
            "vfmadd231ps zmm18, zmm24, zmm27",
            "vfmadd231ps zmm19, zmm25, zmm27",
            "vfmadd231ps zmm20, zmm26, zmm27",
            "vfmadd231ps zmm21, zmm24, zmm28",
            "vfmadd231ps zmm22, zmm25, zmm28",
            "vfmadd231ps zmm23, zmm26, zmm28",
            "dec {count}",
            "jnz 2b",
            a = inout(reg) strip.a => _,
            c = inout(reg) strip.a.wrapping_add(4 * strip.rows) => _,
            b = inout(reg) strip.b => _,
            rows = in(reg) strip.rows,
            rows3 = in(reg) 3 * strip.rows,
            step_a = in(reg) 4 * strip.step_a,
            step_b = in(reg) 4 * strip.step_b,
            count = inout(reg) strip.count => _,
            out("zmm27") _,
            out("zmm28") _,
            out("zmm24") _,
            out("zmm25") _,
            out("zmm26") _,
            inout("zmm0") s00,
            inout("zmm1") s01,
            inout("zmm2") s02,
            inout("zmm3") s10,
            inout("zmm4") s11,
            inout("zmm5") s12,
            inout("zmm6") s20,
            inout("zmm7") s21,
            inout("zmm8") s22,
            inout("zmm9") s30,
            inout("zmm10") s31,
            inout("zmm11") s32,
            inout("zmm12") s40,
            inout("zmm13") s41,
            inout("zmm14") s42,
            inout("zmm15") s50,
            inout("zmm16") s51,
            inout("zmm17") s52,
            inout("zmm18") s60,
            inout("zmm19") s61,
            inout("zmm20") s62,
            inout("zmm21") s70,
            inout("zmm22") s71,
            inout("zmm23") s72,
            options(readonly, nostack),
        );
    }
    *sums = [
        s00, s01, s02, s10, s11, s12, s20, s21, s22, s30, s31, s32, s40, s41, s42, s50, s51, s52,
        s60, s61, s62, s70, s71, s72,
    ];
}
