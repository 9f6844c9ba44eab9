//! The Muon optimizer (Jordan et al., 2024). It treats each filter bank as a matrix and replaces its momentum with
//! the nearest orthogonal matrix, so that a step moves the filters equally in all directions. All other parameters
//! use [Adam](crate::adam).
//!
//! The orthogonal factor is approximated by Newton–Schulz iteration: five times `X ← aX + (bA + cA²)X` with `A = XXᵀ`
//! and the authors' coefficients. Singular values end up between 0.7 and 1.2. The effect of an iteration on X is
//! a polynomial of the small matrix A, so consecutive iterations need only A. X itself is updated after two of them,
//! because A loses small singular values to rounding.

use std::ops::Range;

use rayon::prelude::*;

use crate::Level;
use crate::adam::{self, Adam};
use crate::arch::{Kernel, LANES, Simd, vector};
use crate::jobs::one_by_one;
use crate::product::Product;

/// Decay of the (Nesterov) momentum.
pub const MOMENTUM: f32 = 0.95;
/// A step moves a matrix by the learning rate times this factor times the square root of its longer side, about as
/// far as Adam would.
pub const SCALE: f32 = 0.2;

/// Iterations on A before X is updated, and after.
pub const ITERATIONS: [usize; 2] = [2, 3];
/// a, b and c of an iteration.
pub const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// A matrix among the parameters, in row-major order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    /// The range of its values.
    pub at: Range<usize>,
    /// Number of rows.
    pub rows: usize,
}

/// Updates the parameters once: those in `matrices` by Muon, whose momentum is stored in Adam's first moment, the
/// others by Adam.
///
/// # Panics
/// If the lengths differ from the optimizer's, the matrices are not in order, or a matrix does not divide into rows
/// of equal length.
pub fn step(
    level: Level,
    adam: &mut Adam,
    matrices: &[Matrix],
    parameters: &mut [f32],
    gradients: &[f32],
    learning_rate: f64,
) {
    let all = adam.first.len();
    assert_eq!(parameters.len(), all, "parameters");
    assert_eq!(gradients.len(), all, "gradients");
    assert_eq!(adam.second.len(), all, "second moments");
    adam.steps += 1;
    let steps = adam.steps;
    let mut rest = (
        parameters,
        gradients,
        adam.first.as_mut_slice(),
        adam.second.as_mut_slice(),
    );
    let mut done = 0;
    let mut take = |len: usize| {
        let (parameters, gradients, first, second) = std::mem::take(&mut rest);
        let (p, parameters) = parameters.split_at_mut(len);
        let (g, gradients) = gradients.split_at(len);
        let (m, first) = first.split_at_mut(len);
        let (v, second) = second.split_at_mut(len);
        rest = (parameters, gradients, first, second);
        (p, g, m, v)
    };
    let mut pieces = vec![];
    for matrix in matrices {
        let Range { start, end } = matrix.at;
        assert!(
            done <= start && start < end && end <= all,
            "matrices in order"
        );
        pieces.push((0, take(start - done)));
        let whole = matrix.rows > 0 && (end - start).is_multiple_of(matrix.rows);
        assert!(whole, "rows of a matrix");
        pieces.push((matrix.rows, take(end - start)));
        done = end;
    }
    pieces.push((0, take(all - done)));
    // Largest first, so that no thread starts on a large one when the others are done.
    pieces.sort_by_key(|(rows, (p, ..))| std::cmp::Reverse(rows * p.len()));
    one_by_one(pieces.into_par_iter()).for_each(|(rows, (p, g, m, v))| {
        if rows == 0 {
            adam::update(level, steps, (p, g), (m, v), learning_rate);
        } else {
            update(level, rows, (p, g), m, learning_rate);
        }
    });
}

/// The update of one matrix.
fn update(
    level: Level,
    rows: usize,
    (parameters, gradients): (&mut [f32], &[f32]),
    momentum: &mut [f32],
    learning_rate: f64,
) {
    let columns = parameters.len() / rows;
    for (m, g) in momentum.iter_mut().zip(gradients) {
        *m += (1.0 - MOMENTUM) * (g - *m);
    }
    let ahead = momentum.iter().zip(gradients);
    let mut direction: Vec<f32> = ahead.map(|(m, g)| m + (1.0 - MOMENTUM) * (g - m)).collect();
    orthogonalize(level, rows, &mut direction);
    let rate = learning_rate as f32 * SCALE * (rows.max(columns) as f32).sqrt();
    for (p, o) in parameters.iter_mut().zip(&direction) {
        *p -= rate * o;
    }
}

/// Replaces a matrix of `rows` rows with approximately the nearest orthogonal one: the same singular vectors, with
/// singular values between 0.7 and 1.2, or less where they were below about 0.2 % of the norm. A zero or non-finite
/// matrix stays as it is.
///
/// # Panics
/// If the matrix does not divide into rows of equal length.
pub fn orthogonalize(level: Level, rows: usize, matrix: &mut [f32]) {
    assert!(
        rows > 0 && matrix.len().is_multiple_of(rows),
        "rows of a matrix"
    );
    let columns = matrix.len() / rows;
    let square = |v: &f32| f64::from(*v).powi(2);
    let norm = matrix.iter().map(square).sum::<f64>().sqrt();
    if norm == 0.0 || !norm.is_finite() {
        return;
    }
    let by = (1.0 / norm) as f32;
    // A has the size of the shorter side.
    let (short, long) = (rows.min(columns), rows.max(columns));
    let at = |i: usize, j: usize| {
        if rows <= columns {
            i * columns + j
        } else {
            j * columns + i
        }
    };
    let mut x = Rows::zeros(short, long);
    for i in 0..short {
        for (j, to) in x.row(i).iter_mut().take(long).enumerate() {
            *to = by * matrix[at(i, j)];
        }
    }
    for iterations in ITERATIONS {
        x = iterate(level, &x, iterations);
    }
    for i in 0..short {
        for (j, from) in x.row(i).iter().take(long).enumerate() {
            matrix[at(i, j)] = *from;
        }
    }
}

/// The result of some iterations on X: a polynomial P of A, times X.
fn iterate(level: Level, x: &Rows, iterations: usize) -> Rows {
    let [a, b, c] = COEFFICIENTS;
    let mut gram = x.gram(level);
    let mut polynomial: Option<Rows> = None;
    for i in 0..iterations {
        // B = aI + bA + cA².
        let mut by = gram.times(level, &gram);
        for (by, gram) in by.values.iter_mut().zip(&gram.values) {
            *by = b * gram + c * *by;
        }
        for k in 0..by.count {
            by.row(k)[k] += a;
        }
        if i + 1 < iterations {
            gram = by.times(level, &gram).times(level, &by);
        }
        polynomial = Some(match polynomial {
            None => by,
            Some(polynomial) => by.times(level, &polynomial),
        });
    }
    match polynomial {
        None => x.clone(),
        Some(polynomial) => polynomial.times(level, x),
    }
}

/// A matrix whose rows are padded with zeros to whole vectors.
#[derive(Clone)]
struct Rows {
    count: usize,
    width: usize,
    values: Vec<f32>,
}

impl Rows {
    fn zeros(count: usize, columns: usize) -> Self {
        let width = columns.next_multiple_of(LANES);
        Self {
            count,
            width,
            values: vec![0.0; count * width],
        }
    }

    fn row(&mut self, i: usize) -> &mut [f32] {
        &mut self.values[i * self.width..][..self.width]
    }

    /// The product with a matrix that has as many rows as this one has columns.
    fn times(&self, level: Level, other: &Self) -> Self {
        let mut to = Self::zeros(self.count, other.width);
        level.run(Product {
            a: &self.values,
            row: self.width,
            step: 1,
            b: &other.values,
            depth: other.count,
            width: other.width,
            to: &mut to.values,
        });
        to
    }

    /// The products of all pairs of rows.
    fn gram(&self, level: Level) -> Self {
        let mut to = Self::zeros(self.count, self.count);
        level.run(Gram {
            of: self,
            to: &mut to,
        });
        to
    }
}

struct Gram<'a> {
    of: &'a Rows,
    to: &'a mut Rows,
}

impl Kernel for Gram<'_> {
    type Output = ();

    /// The lower triangle; the upper one follows by symmetry.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let count = self.of.count;
        for i in (0..count).step_by(3) {
            for j in (0..=i).step_by(3) {
                if i + 3 <= count {
                    self.of.products::<S, 3>(simd, i, j, self.to);
                } else {
                    for i in i..count {
                        for j in j..(j + 3).min(i + 1) {
                            self.of.products::<S, 1>(simd, i, j, self.to);
                        }
                    }
                }
            }
        }
    }
}

impl Rows {
    /// The products of the `N` rows from `i` on with the `N` rows from `j` on.
    #[inline(always)]
    fn products<S: Simd, const N: usize>(&self, simd: S, i: usize, j: usize, to: &mut Self) {
        let row = |i: usize| &self.values[i * self.width..][..self.width];
        let (a, b): ([&[f32]; N], [&[f32]; N]) = (
            std::array::from_fn(|k| row(i + k)),
            std::array::from_fn(|k| row(j + k)),
        );
        let mut sums = [[simd.splat(0.0); N]; N];
        for at in (0..self.width).step_by(LANES) {
            let b: [S::V; N] = std::array::from_fn(|k| simd.load(vector(b[k], at)));
            for (sums, a) in sums.iter_mut().zip(a) {
                let a = simd.load(vector(a, at));
                for (sum, b) in sums.iter_mut().zip(b) {
                    *sum = simd.mul_add(a, b, *sum);
                }
            }
        }
        for (k, sums) in sums.into_iter().enumerate() {
            for (l, sum) in sums.into_iter().enumerate() {
                let mut lanes = [0.0; LANES];
                simd.store(sum, &mut lanes);
                let sum = lanes.iter().sum();
                to.row(i + k)[j + l] = sum;
                to.row(j + l)[i + k] = sum;
            }
        }
    }
}
