//! The one-dimensional transforms of F(4, 3) with the points 0, ±5/8, ±3/2 and ∞, in vectors of
//! eight channels; a two-dimensional transform applies one to the columns, then to the rows.
//!
//! Loops and arrays here are plain, without closures: a closure is compiled on its own, without the
//! level's instructions, when the compiler chooses not to inline it.
//!
//! The usual points ±1, ±2 lose twice as many bits: relative RMS error 1.9e-6 against 8.8e-7 for 96
//! channels, where the direct sum has 5.2e-7.

use super::{IN, OUT};
use crate::arch::Simd;

/// The positive finite points. In every transformed index the order is 0, A, -A, B, -B, ∞.
const A: f32 = 0.625;
const B: f32 = 1.5;
/// Six inputs to six points.
#[inline(always)]
pub fn input<S: Simd>(s: S, d: [S::V; IN]) -> [S::V; IN] {
    let (a, b) = (s.splat(A), s.splat(B));
    let (minus_a, minus_b) = (s.splat(-A), s.splat(-B));
    let (minus_aa, minus_bb) = (s.splat(-A * A), s.splat(-B * B));
    let (product, minus_sum) = (s.splat(A * A * B * B), s.splat(-A * A - B * B));
    let even_a = s.mul_add(minus_bb, d[2], d[4]);
    let odd_a = s.mul_add(minus_bb, d[1], d[3]);
    let even_b = s.mul_add(minus_aa, d[2], d[4]);
    let odd_b = s.mul_add(minus_aa, d[1], d[3]);
    [
        s.mul_add(product, d[0], s.mul_add(minus_sum, d[2], d[4])),
        s.mul_add(a, odd_a, even_a),
        s.mul_add(minus_a, odd_a, even_a),
        s.mul_add(b, odd_b, even_b),
        s.mul_add(minus_b, odd_b, even_b),
        s.mul_add(product, d[1], s.mul_add(minus_sum, d[3], d[5])),
    ]
}

/// Six points to `M` outputs: 4 of a convolution, or 3 of a filter's gradient.
#[inline(always)]
pub fn output<S: Simd, const M: usize>(s: S, m: [S::V; IN]) -> [S::V; M] {
    let minus = s.splat(-1.0);
    let even = [s.add(m[1], m[2]), s.add(m[3], m[4])];
    let odd = [s.mul_add(minus, m[2], m[1]), s.mul_add(minus, m[4], m[3])];
    let mut outputs = [m[0]; M];
    for j in 0..M {
        let [a, b] = if j % 2 == 0 { even } else { odd };
        let first = if j == 0 {
            s.add(m[0], a)
        } else {
            s.mul(s.splat(power(A, j)), a)
        };
        outputs[j] = s.mul_add(s.splat(power(B, j)), b, first);
    }
    outputs[M - 1] = s.add(outputs[M - 1], m[5]);
    outputs
}

/// Four outputs' gradients to six points, as the filter of the filter's gradient.
#[inline(always)]
pub fn gradient<S: Simd>(s: S, d: [S::V; OUT]) -> [S::V; IN] {
    let [a, minus_a] = gradient_pair(s, d, A, B);
    let [b, minus_b] = gradient_pair(s, d, B, A);
    [
        s.mul(s.splat(1.0 / (A * A * B * B)), d[0]),
        a,
        minus_a,
        b,
        minus_b,
        d[3],
    ]
}

/// The values at `point` and at its negative, where `other` is the other positive point.
#[inline(always)]
fn gradient_pair<S: Simd>(s: S, d: [S::V; OUT], point: f32, other: f32) -> [S::V; 2] {
    let scale = 1.0 / (2.0 * point * point * (point * point - other * other));
    let even = s.mul_add(
        s.splat(scale * power(point, 2)),
        d[2],
        s.mul(s.splat(scale), d[0]),
    );
    let odd = s.mul(s.splat(scale * point), d[1]);
    let odd = s.mul_add(s.splat(scale * power(point, 3)), d[3], odd);
    [s.add(even, odd), s.mul_add(s.splat(-1.0), odd, even)]
}

#[inline(always)]
fn power(x: f32, n: usize) -> f32 {
    match n {
        0 => 1.0,
        1 => x,
        2 => x * x,
        _ => x * x * x,
    }
}

/// Filters side by side, each with nine taps, as `[tap][filter]`.
pub type Taps<const N: usize> = [[f64; N]; 9];

/// 3×3 filters at the 36 points, in f64, for filters are transformed once and used many times;
/// `give(point, values)` is called for every point.
pub fn filter<const N: usize>(taps: &Taps<N>, mut give: impl FnMut(usize, [f32; N])) {
    for (i, down) in FILTER.iter().enumerate() {
        let mut columns = [[0.0; N]; 3];
        for (x, column) in columns.iter_mut().enumerate() {
            for (y, factor) in down.iter().enumerate() {
                for (to, tap) in column.iter_mut().zip(&taps[3 * y + x]) {
                    *to += factor * tap;
                }
            }
        }
        for (j, across) in FILTER.iter().enumerate() {
            let mut values = [0.0; N];
            for n in 0..N {
                let [a, b, c] = [columns[0][n], columns[1][n], columns[2][n]];
                values[n] = (across[0] * a + across[1] * b + across[2] * c) as f32;
            }
            give(IN * i + j, values);
        }
    }
}

/// A row for each point `p`: its powers over the product of its distances to the other finite
/// points; the last tap alone for ∞.
const FILTER: [[f64; 3]; IN] = {
    let points = [0.0, A as f64, -A as f64, B as f64, -B as f64];
    let mut rows = [[0.0, 0.0, 1.0]; IN];
    let mut i = 0;
    while i < points.len() {
        let p = points[i];
        let mut distances = 1.0;
        let mut j = 0;
        while j < points.len() {
            if j != i {
                distances *= p - points[j];
            }
            j += 1;
        }
        rows[i] = [1.0 / distances, p / distances, p * p / distances];
        i += 1;
    }
    rows
};
