//! The rate of multiply-adds that the processor reaches when it does nothing else: what the rates of
//! kernels are shares of. It differs from machine to machine and from minute to minute, so it is
//! measured beside them.

use std::hint::black_box;
use std::time::Instant;

use crate::Level;
use crate::arch::{Kernel, LANES, Simd, Strip};

/// Sums that do not wait for one another: enough to hide a multiply-add's latency, few enough for
/// the registers of every level.
const SUMS: usize = 12;
/// Multiply-adds of each of these sums; a millisecond or so.
const STEPS: usize = 1 << 20;
/// Steps of a register tile's product, whose operands stay in the nearest cache.
const DEPTH: usize = 64;
/// Times measured, of which the shortest counts: what delays a loop in registers is not the loop.
const REPEATS: usize = 5;

/// Multiply-adds a second at the level, on all threads of the rayon pool together, measured in some
/// milliseconds: those of sums in registers or of register tiles, whichever are more. A level's tiles
/// may be made of wider registers than its vectors are.
pub fn multiply_adds_per_s(level: Level) -> f64 {
    let factor = black_box(0.5);
    rate(|| level.run(Sums(factor))).max(rate(|| level.run(Tiles(factor))))
}

/// Multiply-adds a second of all threads, from a function that tells how many it has made.
fn rate(run: impl Fn() -> usize + Sync) -> f64 {
    let one = || {
        let start = Instant::now();
        let made = run();
        made as f64 / start.elapsed().as_secs_f64()
    };
    let threads = rayon::broadcast(|_| {
        let rates = std::iter::repeat_with(one).take(REPEATS);
        rates.fold(0.0, f64::max)
    });
    threads.iter().sum()
}

/// `x ← x · factor + 1` in every lane of some sums.
struct Sums(f32);

impl Kernel for Sums {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> usize {
        let (factor, one) = (simd.splat(self.0), simd.splat(1.0));
        let mut sums = [one; SUMS];
        for _ in 0..STEPS {
            for sum in &mut sums {
                *sum = simd.mul_add(*sum, factor, one);
            }
        }
        black_box(sums);
        SUMS * LANES * STEPS
    }
}

/// The register tile of the level's matrix products, again and again.
struct Tiles(f32);

impl Kernel for Tiles {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> usize {
        if S::ROWS == 8 {
            tiles::<S, 8, 6>(simd, self.0)
        } else {
            tiles::<S, 4, 3>(simd, self.0)
        }
    }
}

#[inline(always)]
fn tiles<S: Simd, const M: usize, const N: usize>(simd: S, factor: f32) -> usize {
    let a = [[factor; DEPTH]; M];
    let b = [[[factor; LANES]; N]; DEPTH];
    let strip = Strip {
        a: a.as_ptr().cast(),
        rows: DEPTH,
        step_a: 1,
        b: b.as_ptr().cast(),
        step_b: N * LANES,
        count: DEPTH,
    };
    let times = SUMS * STEPS / (M * N * DEPTH);
    let mut sums = [[simd.splat(0.0); N]; M];
    for _ in 0..times {
        // SAFETY: `a` has `M` rows of `DEPTH` values, `b` `DEPTH` steps of `N` vectors.
        unsafe { simd.multiply_add_strip(&mut sums, strip) };
    }
    black_box(sums);
    times * M * N * LANES * DEPTH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_a_rate() {
        for level in Level::available() {
            let rate = multiply_adds_per_s(level);
            assert!(rate.is_finite() && rate > 0.0, "{level}: {rate}");
        }
    }

    #[test]
    fn both_loops_make_about_as_many() {
        for level in Level::available() {
            let (sums, tiles) = (level.run(Sums(0.5)), level.run(Tiles(0.5)));
            assert_eq!(sums, SUMS * LANES * STEPS, "{level}");
            assert!(tiles <= sums && 100 * tiles > 99 * sums, "{level}: {tiles}");
        }
    }
}
