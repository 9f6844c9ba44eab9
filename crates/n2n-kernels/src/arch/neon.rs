//! NEON: 64-bit ARM processors.
//!
//! There are 32 registers of four lanes. The 4 × 3-vector register tile takes 24 of them for the sums, 6 for `b` and
//! 1 for `a`. The generic strip compiles to exactly its loads and 24 multiply-adds, most of them by one lane of `a`,
//! so assembly would gain nothing.

use std::arch::aarch64::{
    float32x4x2_t, vaddq_f32, vbslq_f32, vcgtzq_f32, vdupq_n_f32, vfmaq_f32, vld1q_f32, vmaxq_f32,
    vmulq_f32, vst1q_f32,
};
use std::arch::{asm, is_aarch64_feature_detected};

use super::{Kernel, LANES, Simd};

/// Proof that the processor has NEON.
#[derive(Clone, Copy)]
pub struct Neon(());

impl Neon {
    /// Returns the proof if the processor has it.
    pub fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    /// Runs `kernel` compiled for NEON.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn inside<K: Kernel>(simd: Neon, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists only if `detect` found the feature.
        unsafe { inside(self, kernel) }
    }
}

/// Prefetches a cache line with the given instruction.
macro_rules! prefetch {
    ($kind:literal, $at:ident) => {
        // SAFETY: a prefetch of any address is harmless, and this one writes no register.
        unsafe {
            asm!(
                concat!("prfm ", $kind, ", [{at}]"),
                at = in(reg) $at,
                options(readonly, nostack, preserves_flags),
            );
        }
    };
}

// SAFETY of every block below: a `Neon` exists only if `Neon::detect` found the feature, and loads
// and stores go through references to eight values.
impl Simd for Neon {
    /// Two registers of four lanes each.
    type V = float32x4x2_t;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: as above.
        let half = unsafe { vdupq_n_f32(x) };
        float32x4x2_t(half, half)
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::V {
        let from = from.as_ptr();
        // SAFETY: as above.
        unsafe { float32x4x2_t(vld1q_f32(from), vld1q_f32(from.add(LANES / 2))) }
    }
    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        let to = to.as_mut_ptr();
        // SAFETY: as above.
        unsafe {
            vst1q_f32(to, v.0);
            vst1q_f32(to.add(LANES / 2), v.1);
        }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { float32x4x2_t(vaddq_f32(a.0, b.0), vaddq_f32(a.1, b.1)) }
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { float32x4x2_t(vmulq_f32(a.0, b.0), vmulq_f32(a.1, b.1)) }
    }
    #[inline(always)]
    fn mul_add(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { float32x4x2_t(vfmaq_f32(c.0, a.0, b.0), vfmaq_f32(c.1, a.1, b.1)) }
    }
    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { float32x4x2_t(vmaxq_f32(a.0, b.0), vmaxq_f32(a.1, b.1)) }
    }
    #[inline(always)]
    fn where_positive(self, of: Self::V, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe {
            float32x4x2_t(
                vbslq_f32(vcgtzq_f32(of.0), a.0, b.0),
                vbslq_f32(vcgtzq_f32(of.1), a.1, b.1),
            )
        }
    }
    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        prefetch!("pldl1keep", at);
    }

    #[inline(always)]
    fn prefetch_far(self, at: *const f32) {
        prefetch!("pldl2keep", at);
    }
}
