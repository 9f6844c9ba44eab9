//! AMX: the matrix units of Intel's servers since Sapphire Rapids (2023). They multiply bfloat16, numbers of 16 bits
//! with eight bits of significand, and add in `f32`, at sixteen times the rate of AVX-512 on `f32`.
//!
//! A tile register holds 16 rows of 64 bytes: 16 × 32 values of the left operand, 32 × 16 of the right one (two rows of
//! the matrix interleaved in each row of the tile), or 16 × 16 sums.
//!
//! The tile instructions are written as inline assembly because their intrinsics are not stable. The compiler does not
//! use tile registers on its own, so nothing has to be declared as overwritten.

use std::arch::asm;
use std::arch::x86_64::{
    __cpuid, __cpuid_count, __m256bh, __m256i, _mm256_setzero_si256, _mm256_storeu_si256,
    _mm512_add_ps, _mm512_cvtneps_pbh, _mm512_loadu_ps, _mm512_max_ps, _mm512_mul_ps,
    _mm512_set1_ps,
};
use std::mem::transmute;
use std::sync::OnceLock;

use super::tiles::{DEPTH, Finish, Product, SIDE, SUMS, TILE};

/// Proof that the processor has AMX for bfloat16 and AVX-512 with conversions to bfloat16, and that the system lets
/// this process use the tiles.
#[derive(Clone, Copy)]
pub struct Amx(());

impl Amx {
    /// Returns the proof if the processor and the system have all of it.
    pub fn detect() -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        let found = || {
            let vectors = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bf16");
            vectors && has_tiles() && permitted()
        };
        FOUND.get_or_init(found).then_some(Self(()))
    }
}

/// Whether the processor has tiles for bfloat16.
#[allow(unused_unsafe, reason = "the intrinsics are safe in newer compilers")]
fn has_tiles() -> bool {
    const BF16: u32 = 1 << 22;
    const TILES: u32 = 1 << 24;
    // SAFETY: `is_x86_feature_detected` found AVX-512 by the same instruction.
    let leaves = unsafe { __cpuid(0) }.eax;
    // SAFETY: as above, and the leaf exists.
    leaves >= 7 && unsafe { __cpuid_count(7, 0) }.edx & (BF16 | TILES) == BF16 | TILES
}

/// Requests the tile registers, which Linux grants to a process as a whole.
#[cfg(all(target_os = "linux", not(miri)))]
fn permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers and touches no memory of ours; a system that does not know it fails.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn permitted() -> bool {
    false
}

/// Bytes of a tile's row.
const ROW: usize = size_of::<u16>() * DEPTH;
// What the assembly is written for.
const _: () = assert!(ROW == 64 && size_of::<u16>() * TILE == 1024);

/// The tile registers of this thread, configured as eight full tiles: 0 to 3 for sums, the others for operands.
///
/// It must stay on its thread, so it is neither `Send` nor `Sync`.
pub struct Registers {
    thread: std::marker::PhantomData<*const ()>,
}

#[allow(
    clippy::unused_self,
    reason = "the registers are not in memory, but whoever has them has `self`"
)]
impl Registers {
    /// Configures the registers.
    pub fn new(_: Amx) -> Self {
        #[repr(C, align(64))]
        struct Config {
            palette: u8,
            start: u8,
            reserved: [u8; 14],
            row_bytes: [u16; 16],
            rows: [u8; 16],
        }
        let mut config = Config {
            palette: 1,
            start: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        config.row_bytes[..8].fill(ROW as u16);
        config.rows[..8].fill(SIDE as u8);
        // SAFETY: an `Amx` exists only if the processor and the system allow it; 64 bytes are read.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const config, options(readonly, nostack)) };
        Self {
            thread: std::marker::PhantomData,
        }
    }

    /// Sets the sums to zero.
    pub fn clear(&mut self) {
        // SAFETY: the registers are configured as long as `self` exists.
        unsafe {
            asm!(
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                options(nomem, nostack)
            );
        }
    }

    /// Writes the sums.
    pub fn store(&mut self, to: &mut [f32; SUMS]) {
        let at = to.as_mut_ptr();
        // SAFETY: the registers are configured as long as `self` exists; 32 rows of 32 floats are written.
        unsafe {
            asm!(
                "tilestored [{at} + {stride}], tmm0",
                "tilestored [{at} + {stride} + 64], tmm1",
                "tilestored [{below} + {stride}], tmm2",
                "tilestored [{below} + {stride} + 64], tmm3",
                at = in(reg) at,
                below = in(reg) at.add(SUMS / 2),
                stride = in(reg) 2 * SIDE * size_of::<f32>(),
                options(nostack)
            );
        }
    }

    /// Adds a product to the sums.
    pub fn add(&mut self, product: Product) {
        product.check();
        let Product {
            a,
            stride,
            steps,
            b,
            columns,
        } = product;
        let offsets = steps.offsets();
        if offsets.is_empty() {
            return;
        }
        let (a, b) = (a.as_ptr().cast::<u8>(), b.as_ptr().cast::<u8>());
        let stride = size_of::<u16>() * stride;
        let below = a.wrapping_add(SIDE * stride);
        let ends = offsets.as_ptr_range();
        /// A loop over the steps: loads the first tile of `b` and both of `a`, adds the products of the three, then does
        /// what the lines say.
        macro_rules! for_each_step {
            ($($line:literal,)*) => {
                asm!(
                    "2:",
                    "mov {o}, [{at}]",
                    "add {at}, 8",
                    "lea {p}, [{a} + {o}]",
                    "add {o}, {below}",
                    "tileloadd tmm6, [{b} + {row}]",
                    "tileloadd tmm4, [{p} + {stride}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm5, [{o} + {stride}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    $($line,)*
                    "cmp {at}, {end}",
                    "jne 2b",
                    o = out(reg) _,
                    p = out(reg) _,
                    at = inout(reg) ends.start => _,
                    end = in(reg) ends.end,
                    a = in(reg) a,
                    below = in(reg) below,
                    b = inout(reg) b => _,
                    row = in(reg) ROW,
                    stride = in(reg) stride,
                    options(readonly, nostack)
                )
            };
        }
        // SAFETY: the registers are configured as long as `self` exists; `check` found that `a` holds 32 rows of 32
        // values at every offset, and that `b` holds `columns` tiles for each.
        unsafe {
            if columns == 2 {
                for_each_step!(
                    "tileloadd tmm7, [{b} + {row} + 1024]",
                    "add {b}, 2048",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                );
            } else {
                for_each_step!("add {b}, 1024",);
            }
        }
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: the registers are configured as long as `self` exists.
        unsafe { asm!("tilerelease", options(nomem, nostack)) };
    }
}

impl Amx {
    /// [`Finish::run`] with this processor's conversions.
    #[allow(
        clippy::unused_self,
        reason = "the proof that the processor has the instructions"
    )]
    pub fn finish(self, finish: Finish) {
        #[target_feature(enable = "avx512f,avx512bf16,avx512vl")]
        #[inline]
        unsafe fn inside(finish: Finish) {
            let Finish {
                sums,
                bias,
                slope,
                columns,
                to,
                stride,
            } = finish;
            // SAFETY: every pointer comes from an array of the length that is read or written.
            unsafe {
                let slope = _mm512_set1_ps(slope);
                let bias = [0, SIDE].map(|at| _mm512_loadu_ps(bias[at..].as_ptr()));
                for (sums, to) in sums.chunks_exact(2 * SIDE).zip(to.chunks_mut(stride)) {
                    let to: &mut [u16; 2 * SIDE] = to.first_chunk_mut().expect("32 channels");
                    for k in 0..2 {
                        let half = if k < columns {
                            let sum = _mm512_loadu_ps(sums[k * SIDE..][..SIDE].as_ptr());
                            let sum = _mm512_add_ps(sum, bias[k]);
                            let sum = _mm512_max_ps(sum, _mm512_mul_ps(sum, slope));
                            transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(sum))
                        } else {
                            _mm256_setzero_si256()
                        };
                        _mm256_storeu_si256(to[k * SIDE..][..SIDE].as_mut_ptr().cast(), half);
                    }
                }
            }
        }
        // SAFETY: an `Amx` exists only if `detect` found the features.
        unsafe { inside(finish) }
    }
}
