//! WebAssembly: 128-bit vectors, and relaxed SIMD, which has a fused multiply-add.
//!
//! A module cannot query its engine: an engine that lacks an instruction rejects the whole module. Any engine that
//! runs the code therefore supports its instructions, and they are safe to use. For the same reason relaxed SIMD is a
//! feature of this crate: it produces a second module, and the page chooses which of the two to load.

use std::arch::wasm32::{
    f32x4_add, f32x4_gt, f32x4_mul, f32x4_pmax, f32x4_splat, v128, v128_bitselect, v128_load,
    v128_load32_splat, v128_store,
};

use super::{Kernel, LANES, Simd, Strip};

/// Two registers of four lanes.
#[derive(Clone, Copy)]
pub struct Pair(v128, v128);

/// One lane-wise operation on both registers.
macro_rules! both {
    ($operation:path, $($pair:ident),+) => {
        Pair($operation($($pair.0),+), $operation($($pair.1),+))
    };
}

/// A level of 128-bit vectors: its name, its instructions, and its `a · b + c`.
macro_rules! level {
    ($(#[$doc:meta])* $name:ident, $features:literal, $mul_add:path) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name;

        impl $name {
            /// Runs `kernel` compiled for these instructions.
            pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
                #[target_feature(enable = $features)]
                fn inside<K: Kernel>(simd: $name, kernel: K) -> K::Output {
                    kernel.run(simd)
                }
                inside(self, kernel)
            }
        }

        impl Simd for $name {
            type V = Pair;

            #[inline(always)]
            fn splat(self, x: f32) -> Pair {
                let half = f32x4_splat(x);
                Pair(half, half)
            }
            #[inline(always)]
            fn load(self, from: &[f32; LANES]) -> Pair {
                let from = from.as_ptr();
                // SAFETY: reads the eight values behind the reference.
                unsafe { Pair(v128_load(from.cast()), v128_load(from.add(LANES / 2).cast())) }
            }
            #[inline(always)]
            fn store(self, v: Pair, to: &mut [f32; LANES]) {
                let to = to.as_mut_ptr();
                // SAFETY: writes the eight values behind the reference.
                unsafe {
                    v128_store(to.cast(), v.0);
                    v128_store(to.add(LANES / 2).cast(), v.1);
                }
            }
            #[inline(always)]
            fn add(self, a: Pair, b: Pair) -> Pair {
                both!(f32x4_add, a, b)
            }
            #[inline(always)]
            fn mul(self, a: Pair, b: Pair) -> Pair {
                both!(f32x4_mul, a, b)
            }
            #[inline(always)]
            fn mul_add(self, a: Pair, b: Pair, c: Pair) -> Pair {
                both!($mul_add, a, b, c)
            }
            #[inline(always)]
            fn max(self, a: Pair, b: Pair) -> Pair {
                // One instruction on x86-64 as well, where `f32x4_max` needs several to handle NaN.
                both!(f32x4_pmax, a, b)
            }
            #[inline(always)]
            fn where_positive(self, of: Pair, a: Pair, b: Pair) -> Pair {
                let zero = self.splat(0.0);
                let mask = both!(f32x4_gt, of, zero);
                both!(v128_bitselect, a, b, mask)
            }

            /// Engines on x86-64 have sixteen registers, so this computes eight sums at a time, over one vector of
            /// `b`.
            #[inline(always)]
            unsafe fn multiply_add_strip<const M: usize, const N: usize>(
                self,
                sums: &mut [[Pair; N]; M],
                strip: Strip,
            ) {
                for j in 0..N {
                    let mut total: [Pair; M] = std::array::from_fn(|i| sums[i][j]);
                    let (mut a, mut b) = (strip.a, strip.b.wrapping_add(j * LANES));
                    for _ in 0..strip.count {
                        // SAFETY: a step of the strip, which the caller guarantees is readable.
                        let column = unsafe { self.load(&*b.cast()) };
                        for (i, total) in total.iter_mut().enumerate() {
                            // SAFETY: i < M, so the caller guarantees it.
                            let half = unsafe { v128_load32_splat(a.add(i * strip.rows).cast()) };
                            *total = self.mul_add(Pair(half, half), column, *total);
                        }
                        a = a.wrapping_add(strip.step_a);
                        b = b.wrapping_add(strip.step_b);
                    }
                    for (sums, total) in sums.iter_mut().zip(total) {
                        sums[j] = total;
                    }
                }
            }
        }
    };
}

level!(
    /// SIMD128: supported by all browsers, the first since 2021, the last since 2023.
    Simd128,
    "simd128",
    two_roundings
);

#[cfg(feature = "relaxed-simd")]
level!(
    /// Relaxed SIMD: a multiply-add with a single rounding, where the processor has one.
    Relaxed,
    "simd128,relaxed-simd",
    std::arch::wasm32::f32x4_relaxed_madd
);

/// `a · b + c` with the product rounded separately.
#[inline(always)]
fn two_roundings(a: v128, b: v128, c: v128) -> v128 {
    f32x4_add(f32x4_mul(a, b), c)
}
