//! Muon against its definition in f64, combined with Adam.

use n2n_kernels::Level;
use n2n_kernels::adam::Adam;
use n2n_kernels::muon::{self, MOMENTUM, Matrix, SCALE};

use crate::{on_threads, relative, values, wide};

/// Five iterations of the definition, X ← aX + (bA + cA²)X, without optimization.
fn newton_schulz(rows: usize, matrix: &[f64]) -> Vec<f64> {
    let columns = matrix.len() / rows;
    let product = |a: &[f64], m: usize, b: &[f64], n: usize, transposed: bool| {
        let k = a.len() / m;
        let mut c = vec![0.0; m * n];
        for i in 0..m {
            for j in 0..n {
                c[i * n + j] = (0..k)
                    .map(|l| {
                        a[i * k + l]
                            * if transposed {
                                b[j * k + l]
                            } else {
                                b[l * n + j]
                            }
                    })
                    .sum();
            }
        }
        c
    };
    let norm = matrix.iter().map(|v| v * v).sum::<f64>().sqrt();
    let mut x: Vec<f64> = matrix.iter().map(|v| v / norm).collect();
    for _ in 0..5 {
        let a = product(&x, rows, &x, rows, true);
        let a2 = product(&a, rows, &a, rows, false);
        let b: Vec<f64> = a
            .iter()
            .zip(&a2)
            .map(|(a, a2)| -4.7750 * a + 2.0315 * a2)
            .collect();
        let bx = product(&b, rows, &x, columns, false);
        x = x.iter().zip(&bx).map(|(x, bx)| 3.4445 * x + bx).collect();
    }
    x
}

/// A matrix whose singular values decrease to about `last` times the first.
fn matrix(rows: usize, columns: usize, last: f32) -> Vec<f32> {
    let mut matrix = values(rows * columns, 7);
    for (i, row) in matrix.chunks_exact_mut(columns).enumerate() {
        let by = last.powf(i as f32 / rows as f32);
        for v in row {
            *v *= by;
        }
    }
    matrix
}

#[test]
fn the_orthogonal_factor_is_that_of_the_definition() {
    for (rows, columns) in [(1, 1), (3, 5), (8, 72), (48, 432), (13, 50), (96, 891)] {
        for last in [1.0, 1e-2, 1e-5] {
            let x = matrix(rows, columns, last);
            let want = newton_schulz(rows, &wide(&x));
            let mut turned = vec![0.0; x.len()];
            for i in 0..rows {
                for j in 0..columns {
                    turned[j * rows + i] = x[i * columns + j];
                }
            }
            for level in Level::available() {
                let mut got = x.clone();
                muon::orthogonalize(level, rows, &mut got);
                let error = relative(&got, &want);
                assert!(error < 1e-4, "{level} {rows}x{columns} {last}: {error:e}");
                // The orthogonal factor of the transpose is the transpose of the factor.
                let mut tall = turned.clone();
                muon::orthogonalize(level, columns, &mut tall);
                for i in 0..rows {
                    for j in 0..columns {
                        assert_eq!(tall[j * rows + i], got[i * columns + j]);
                    }
                }
            }
        }
    }
}

#[test]
fn a_matrix_of_zeros_stays_so() {
    for level in Level::available() {
        let mut zeros = vec![0.0; 12];
        muon::orthogonalize(level, 3, &mut zeros);
        assert_eq!(zeros, [0.0; 12]);
    }
}

#[test]
fn matrices_follow_muon_and_the_rest_adam_on_any_number_of_threads() {
    let matrices = [
        Matrix {
            at: 10..10 + 24 * 40,
            rows: 24,
        },
        Matrix {
            at: 1000..1000 + 8 * 8,
            rows: 8,
        },
    ];
    let all = 1100;
    let start = values(all, 1);
    let run = |threads: usize| {
        on_threads(threads, || {
            let (mut p, mut adam) = (start.clone(), Adam::new(all));
            for step in 0..3 {
                muon::step(
                    Level::detect(),
                    &mut adam,
                    &matrices,
                    &mut p,
                    &values(all, 2 + step),
                    1e-3,
                );
            }
            (p, adam)
        })
    };
    let (got, state) = run(1);
    assert_eq!(state.steps, 3);
    assert!(run(2) == (got.clone(), state.clone()) && run(3) == (got.clone(), state.clone()));

    let (mut by_adam, mut adam) = (start.clone(), Adam::new(all));
    let mut by_muon = wide(&start);
    let mut momentum = vec![0.0; all];
    let beta = f64::from(MOMENTUM);
    for step in 0..3 {
        let g = values(all, 2 + step);
        adam.step(Level::detect(), &mut by_adam, &g, 1e-3);
        for matrix in &matrices {
            let at = matrix.at.clone();
            for i in at.clone() {
                momentum[i] = beta * momentum[i] + (1.0 - beta) * f64::from(g[i]);
            }
            let ahead: Vec<f64> = at
                .clone()
                .map(|i| beta * momentum[i] + (1.0 - beta) * f64::from(g[i]))
                .collect();
            let columns = ahead.len() / matrix.rows;
            let direction = newton_schulz(matrix.rows, &ahead);
            let rate = 1e-3 * f64::from(SCALE) * (matrix.rows.max(columns) as f64).sqrt();
            for (i, o) in at.zip(direction) {
                by_muon[i] -= rate * o;
            }
        }
    }
    for i in 0..all {
        if matrices.iter().any(|matrix| matrix.at.contains(&i)) {
            assert!((f64::from(got[i]) - by_muon[i]).abs() < 1e-6, "{i}");
            assert!(
                (f64::from(state.first[i]) - momentum[i]).abs() < 1e-6,
                "{i}"
            );
        } else {
            assert_eq!(got[i], by_adam[i], "{i}");
        }
    }
}
