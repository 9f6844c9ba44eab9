//! AVX2 with FMA: x86-64 processors since 2013.

use std::arch::x86_64::{
    __m256, _CMP_GT_OQ, _MM_HINT_T0, _MM_HINT_T1, _mm_prefetch, _mm256_add_ps, _mm256_blendv_ps,
    _mm256_cmp_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_mul_ps, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::{Kernel, LANES, Simd, Strip, generic_strip};

/// Proof that the processor has AVX2 and FMA.
#[derive(Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// Returns the proof if the processor has both.
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    /// Runs `kernel` compiled for AVX2 and FMA.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn inside<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists only if `detect` found both features.
        unsafe { inside(self, kernel) }
    }
}

// SAFETY of every block below: an `Avx2` exists only if `Avx2::detect` found both features, and
// loads and stores go through references to eight values.
impl Simd for Avx2 {
    type V = __m256;

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }
    #[inline(always)]
    fn store(self, v: __m256, to: &mut [f32; LANES]) {
        // SAFETY: as above.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    fn where_positive(self, of: __m256, a: __m256, b: __m256) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_blendv_ps(b, a, _mm256_cmp_ps::<_CMP_GT_OQ>(of, _mm256_setzero_ps())) }
    }
    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        // SAFETY: as above; a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    fn prefetch_far(self, at: *const f32) {
        // SAFETY: as above; a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }

    #[inline(always)]
    unsafe fn multiply_add_strip<const M: usize, const N: usize>(
        self,
        sums: &mut [[__m256; N]; M],
        strip: Strip,
    ) {
        match sums.as_flattened_mut().first_chunk_mut::<12>() {
            // SAFETY: an `Avx2` exists only if `detect` found both features; the rest is the caller's obligation.
            Some(sums) if (M, N) == (4, 3) => unsafe {
                match (strip.step_a, strip.step_b) {
                    (1, PANEL) => panel_4x3::<1>(sums, strip),
                    (LANES, PANEL) => panel_4x3::<LANES>(sums, strip),
                    _ => strip_4x3(sums, strip),
                }
            },
            // SAFETY: the caller has the same obligation.
            _ => unsafe { generic_strip(self, sums, strip) },
        }
    }
}

/// Floats from one step to the next in a panel of three vectors.
const PANEL: usize = 3 * LANES;

/// One step of the 4-row, 3-vector tile, for values of `a` and vectors of `b` at the given byte offsets from the
/// registers.
macro_rules! step {
    ($a:literal, $b0:literal, $b1:literal, $b2:literal) => {
        concat!(
            "vmovups {b0}, [{b} + ",
            $b0,
            "]\n",
            "vmovups {b1}, [{b} + ",
            $b1,
            "]\n",
            "vmovups {b2}, [{b} + ",
            $b2,
            "]\n",
            "vbroadcastss {x}, [{a} + ",
            $a,
            "]\n",
            "vfmadd231ps {s00}, {b0}, {x}\n",
            "vfmadd231ps {s01}, {b1}, {x}\n",
            "vfmadd231ps {s02}, {b2}, {x}\n",
            "vbroadcastss {x}, [{a} + 4*{rows} + ",
            $a,
            "]\n",
            "vfmadd231ps {s10}, {b0}, {x}\n",
            "vfmadd231ps {s11}, {b1}, {x}\n",
            "vfmadd231ps {s12}, {b2}, {x}\n",
            "vbroadcastss {x}, [{a} + 8*{rows} + ",
            $a,
            "]\n",
            "vfmadd231ps {s20}, {b0}, {x}\n",
            "vfmadd231ps {s21}, {b1}, {x}\n",
            "vfmadd231ps {s22}, {b2}, {x}\n",
            "vbroadcastss {x}, [{a} + 4*{rows3} + ",
            $a,
            "]\n",
            "vfmadd231ps {s30}, {b0}, {x}\n",
            "vfmadd231ps {s31}, {b1}, {x}\n",
            "vfmadd231ps {s32}, {b2}, {x}\n",
        )
    };
}

/// Assembles the given lines, with the registers that [`step`] names; the sums are listed row by row.
macro_rules! tile {
    ([$($line:expr),+], $sums:ident, $rows:expr, $($operand:tt)+) => {
        std::arch::asm!(
            $($line,)+
            $($operand)+
            rows = in(reg) $rows,
            rows3 = in(reg) 3 * $rows,
            x = out(ymm_reg) _,
            b0 = out(ymm_reg) _,
            b1 = out(ymm_reg) _,
            b2 = out(ymm_reg) _,
            s00 = inout(ymm_reg) $sums[0],
            s01 = inout(ymm_reg) $sums[1],
            s02 = inout(ymm_reg) $sums[2],
            s10 = inout(ymm_reg) $sums[3],
            s11 = inout(ymm_reg) $sums[4],
            s12 = inout(ymm_reg) $sums[5],
            s20 = inout(ymm_reg) $sums[6],
            s21 = inout(ymm_reg) $sums[7],
            s22 = inout(ymm_reg) $sums[8],
            s30 = inout(ymm_reg) $sums[9],
            s31 = inout(ymm_reg) $sums[10],
            s32 = inout(ymm_reg) $sums[11],
            options(pure, readonly, nostack),
        )
    };
}

/// [`strip_4x3`] of a panel, two steps at a time, in a loop aligned to a cache line.
///
/// A loop of one step has 23 instructions for the six cycles of its multiply-adds. A core that runs two hardware
/// threads issues at most three instructions per cycle for each of them, which takes eight cycles. Two steps at a
/// time, with fixed offsets, have 42 instructions for twelve cycles. Where other programs kept the core's other
/// thread busy, this was up to a tenth faster, and elsewhere equally fast.
///
/// # Safety
/// As for [`strip_4x3`]; the steps are `STEP_A` in `a` and [`PANEL`] in `b`.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn panel_4x3<const STEP_A: usize>(sums: &mut [__m256; 12], strip: Strip) {
    let pairs = strip.count / 2;
    let (mut a, mut b) = (strip.a, strip.b);
    if pairs > 0 {
        // SAFETY: reads `a` in four rows and three vectors at `b` in each of two times `pairs` steps, which the
        // caller guarantees; writes registers only.
        unsafe {
            tile!(
                [
                    ".p2align 6",
                    "2:",
                    step!("0", "0", "32", "64"),
                    step!("{step}", "96", "128", "160"),
                    "add {a}, 2*{step}",
                    "add {b}, 192",
                    "dec {pairs}",
                    "jnz 2b"
                ],
                sums,
                strip.rows,
                a = inout(reg) a,
                b = inout(reg) b,
                step = const 4 * STEP_A,
                pairs = inout(reg) pairs => _,
            );
        }
    }
    if strip.count % 2 == 1 {
        let last = Strip {
            a,
            b,
            count: 1,
            ..strip
        };
        // SAFETY: the caller's last step.
        unsafe { strip_4x3(sums, last) };
    }
}

/// The strip of four rows and three vectors: twelve accumulators, three vectors of `b` and one value of `a` need all
/// sixteen registers. Compiled from Rust, the next value of `a` is loaded before the last use of the previous one,
/// which needs seventeen: two spills and ten moves for twelve multiply-adds. Assembly fixes the order.
///
/// # Safety
/// The strip must be readable for four rows and three vectors, and the processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn strip_4x3(sums: &mut [__m256; 12], strip: Strip) {
    let mut total = *sums;
    let (mut a, mut b) = (strip.a, strip.b);
    for _ in 0..strip.count {
        // SAFETY: reads `a` in four rows and three vectors at `b`, which the caller guarantees; writes registers
        // only.
        unsafe {
            tile!(
                [step!("0", "0", "32", "64")],
                total,
                strip.rows,
                a = in(reg) a,
                b = in(reg) b,
            );
        }
        a = a.wrapping_add(strip.step_a);
        b = b.wrapping_add(strip.step_b);
    }
    *sums = total;
}
