//! The processor's peak rate of multiply-adds, against which kernels are compared. It differs from machine to machine
//! and from minute to minute, so it is measured alongside them.

use std::hint::black_box;
use std::time::Instant;

use crate::Level;
use crate::arch::{Kernel, LANES, Simd, Strip};

/// Number of independent sums: enough to hide the latency of a multiply-add, few enough for the registers of every
/// level.
const SUMS: usize = 12;
/// Multiply-adds of each of these sums; about a millisecond.
const STEPS: usize = 1 << 20;
/// Steps of a register tile's product, whose operands stay in the L1 cache.
const DEPTH: usize = 64;
/// Number of measurements, of which the shortest counts: anything that delays a loop in registers comes from outside.
const REPEATS: usize = 5;

/// Multiply-adds per second at the level, on all threads of the rayon pool together, measured for some milliseconds:
/// the higher of the rates of sums in registers and of register tiles. A level's tiles may use wider registers than
/// its vectors.
pub fn multiply_adds_per_s(level: Level) -> f64 {
    let factor = black_box(0.5);
    rate(|| level.run(Sums(factor))).max(rate(|| level.run(Tiles(factor))))
}

/// Multiply-adds per second of all threads, from a function that returns how many it performed.
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

/// The register tile of the level's matrix products, repeatedly.
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
        // SAFETY: `a` has `M` rows of `DEPTH` values, `b` has `DEPTH` steps of `N` vectors.
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
    fn both_loops_do_about_the_same_number_of_multiply_adds() {
        for level in Level::available() {
            let (sums, tiles) = (level.run(Sums(0.5)), level.run(Tiles(0.5)));
            assert_eq!(sums, SUMS * LANES * STEPS, "{level}");
            assert!(tiles <= sums && 100 * tiles > 99 * sums, "{level}: {tiles}");
        }
    }
}
