//! Spatial autocorrelation of the noise.
//!
//! The residuals of flat windows, each divided by the standard deviation predicted by the photon transfer, are
//! correlated with themselves. Subtracting the best-fitting polynomial from a window also removes some of the
//! correlation, by an amount that depends on the correlation itself; fixed-point iteration restores it.

use rayon::prelude::*;
use serde::Serialize;

use super::Plane;
use super::transfer::Fit;
use super::windows::{Basis, Window, pixels};

/// The largest reported lag, in pixels.
pub const LAGS: usize = 8;
/// Correlations below this count as none.
pub(super) const CORRELATED: f64 = 0.1;
/// The largest lag used internally: noise of whole rows does not end at 8.
const REACH: usize = 12;
/// Correlations below this are ignored in the correction, which would propagate their errors.
const COUNTED: f64 = 0.05;

/// Autocorrelation of the noise: 1 at lag 0, between −1 and 1 elsewhere.
///
/// Offsets of whole rows or columns are excluded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Autocorrelation {
    /// At lags of 0 to 8 pixels along a row.
    pub x: [f64; LAGS + 1],
    /// At lags of 0 to 8 pixels along a column.
    pub y: [f64; LAGS + 1],
    /// At all lags up to 8 pixels: 17 rows of 17, starting with lag (−8, −8), with lag 0 in the middle.
    pub plane: Vec<[f64; 2 * LAGS + 1]>,
    /// The sum over all lags: the number of pixels that share one independent value.
    pub area: f64,
}

/// Covariances at lags (dy, dx) with dy in 0..=REACH and dx in −REACH..=REACH, with both signs for dy = 0.
#[derive(Clone)]
pub(super) struct Covariances(Vec<f64>);

const ROW: usize = 2 * REACH + 1;

impl Covariances {
    fn zeros() -> Self {
        Self(vec![0.0; (REACH + 1) * ROW])
    }

    /// The covariance at any lag; 0 beyond the reach.
    fn at(&self, dy: isize, dx: isize) -> f64 {
        let (dy, dx) = if dy < 0 { (-dy, -dx) } else { (dy, dx) };
        let reach = REACH as isize;
        if dy > reach || dx.abs() > reach {
            return 0.0;
        }
        self.0[dy as usize * ROW + (dx + reach) as usize]
    }

    /// The mean of several covariances, each divided by its variance.
    pub fn mean(several: &[Self]) -> Self {
        let mut mean = Self::zeros();
        for covariances in several {
            let scale = covariances.at(0, 0) * several.len() as f64;
            for (total, value) in mean.0.iter_mut().zip(&covariances.0) {
                *total += value / scale;
            }
        }
        mean
    }

    /// Removes the contribution of row offsets, column offsets or both: it is the same at every lag along the line,
    /// and so equals what remains at the largest lags.
    #[must_use]
    pub fn without_lines(mut self, [rows, columns]: [bool; 2]) -> Self {
        let reach = REACH as isize;
        let far = || (LAGS as isize + 1..=reach).flat_map(|lag| [lag, -lag]);
        let count = far().count() as f64;
        if rows {
            for dy in 0..=reach {
                let offsets = far().map(|dx| self.at(dy, dx)).sum::<f64>() / count;
                for (place, ..) in Self::lags().filter(|&(_, y, _)| y as isize == dy) {
                    self.0[place] -= offsets;
                }
            }
        }
        if columns {
            for dx in -reach..=reach {
                let offsets = far().map(|dy| self.at(dy, dx)).sum::<f64>() / count;
                for (place, ..) in Self::lags().filter(|&(.., x)| x == dx) {
                    self.0[place] -= offsets;
                }
            }
        }
        self
    }

    /// Without covariances too small to count.
    fn counted(&self) -> Self {
        let least = COUNTED * self.at(0, 0);
        let counted = |&value: &f64| if value.abs() < least { 0.0 } else { value };
        Self(self.0.iter().map(counted).collect())
    }

    fn lags() -> impl Iterator<Item = (usize, usize, isize)> {
        (0..=REACH).flat_map(|dy| {
            (0..ROW).map(move |column| (dy * ROW + column, dy, column as isize - REACH as isize))
        })
    }

    /// The variance of a pixel that [`Basis::subtract_fit`] leaves in noise with these covariances, relative to the
    /// original variance and corrected for the window's degrees of freedom.
    pub fn left_by(&self, basis: &Basis) -> f64 {
        let counted = self.counted();
        let after = counted.after_fit(basis);
        (after.at(0, 0) / (self.at(0, 0) * basis.freedom())).clamp(0.05, 2.0)
    }

    /// The expected sums over a window of the products of residuals at each lag.
    fn after_fit(&self, basis: &Basis) -> Self {
        let side = basis.side;
        let pixels = side * side;
        // With C the covariance of pixels and Q the polynomials, the residuals have covariance C − QQᵀC − CQQᵀ +
        // Q(QᵀCQ)Qᵀ; G is CQ, and B is QᵀCQ.
        let filtered: Vec<Vec<f64>> = basis
            .vectors
            .par_iter()
            .map(|q| self.filter(q, side))
            .collect();
        let b = |j: usize, k: usize| -> f64 {
            (basis.vectors[j].iter().zip(&filtered[k]))
                .map(|(q, g)| q * g)
                .sum()
        };
        let count = basis.vectors.len();
        let mixed: Vec<Vec<f64>> = (0..count)
            .map(|k| {
                let mut mixed = vec![0.0; pixels];
                for (j, q) in basis.vectors.iter().enumerate() {
                    let factor = b(j, k);
                    for (m, q) in mixed.iter_mut().zip(q) {
                        *m += factor * q;
                    }
                }
                mixed
            })
            .collect();
        let mut after = Self::zeros();
        for (place, dy, dx) in Self::lags() {
            let Some(pairs) = pairs(side, dy, dx) else {
                continue;
            };
            let mut sum = self.at(dy as isize, dx) * pairs.count as f64;
            for k in 0..count {
                let (q, g, m) = (&basis.vectors[k], &filtered[k], &mixed[k]);
                pairs.each(|u, v| sum += m[u] * q[v] - q[u] * g[v] - g[u] * q[v]);
            }
            after.0[place] = sum;
        }
        after
    }

    /// Multiplies a vector by the covariance matrix of the pixels of a window.
    fn filter(&self, vector: &[f64], side: usize) -> Vec<f64> {
        let mut out = vec![0.0; vector.len()];
        for (place, dy, dx) in Self::lags() {
            let value = self.0[place];
            let Some(pairs) = pairs(side, dy, dx).filter(|_| value != 0.0) else {
                continue;
            };
            pairs.each(|u, v| out[u] += value * vector[v]);
            if dy > 0 {
                pairs.each(|u, v| out[v] += value * vector[u]);
            }
        }
        out
    }
}

/// The pairs of pixels in a window that are a given lag apart.
struct Pairs {
    side: usize,
    rows: usize,
    columns: usize,
    first: usize,
    second: usize,
    count: usize,
}

fn pairs(side: usize, dy: usize, dx: isize) -> Option<Pairs> {
    let rows = side.checked_sub(dy).filter(|&rows| rows > 0)?;
    let columns = side
        .checked_sub(dx.unsigned_abs())
        .filter(|&columns| columns > 0)?;
    let back = if dx < 0 { dx.unsigned_abs() } else { 0 };
    Some(Pairs {
        side,
        rows,
        columns,
        first: back,
        second: dy * side + (dx + back as isize) as usize,
        count: rows * columns,
    })
}

impl Pairs {
    fn each(&self, mut take: impl FnMut(usize, usize)) {
        for y in 0..self.rows {
            let row = y * self.side;
            for x in 0..self.columns {
                take(row + self.first + x, row + self.second + x);
            }
        }
    }

    fn products(&self, window: &[f64]) -> f64 {
        let mut sum = 0.0;
        for y in 0..self.rows {
            let row = y * self.side;
            let a = &window[row + self.first..][..self.columns];
            let b = &window[row + self.second..][..self.columns];
            sum += a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        }
        sum
    }
}

/// The covariances of the noise in the kept windows, each window scaled to a variance of 1.
pub(super) fn covariances(
    planes: &[Plane],
    windows: &[Window],
    fit: &Fit,
    basis: &Basis,
    most: usize,
) -> Covariances {
    let step = fit.kept.len().div_ceil(most).max(1);
    let kept: Vec<usize> = fit.kept.iter().copied().step_by(step).collect();
    // Partial sums over a fixed number of windows each, added in order.
    let sums: Vec<Covariances> = kept
        .par_chunks(64)
        .map(|chunk| {
            let mut sum = Covariances::zeros();
            let mut window = vec![0.0; basis.side * basis.side];
            for &i in chunk {
                let Window {
                    plane, y, x, mean, ..
                } = windows[i];
                if pixels(&planes[plane], (y, x), basis.side, &mut window).is_none() {
                    continue;
                }
                basis.subtract_fit(&mut window);
                let scale = fit.variance(mean).sqrt().recip();
                for value in &mut window {
                    *value *= scale;
                }
                for (place, dy, dx) in Covariances::lags() {
                    // For lag 0 along y, one sign mirrors the other.
                    if (dy > 0 || dx >= 0)
                        && let Some(pairs) = pairs(basis.side, dy, dx)
                    {
                        sum.0[place] += pairs.products(&window);
                    }
                }
            }
            sum
        })
        .collect();
    let mut measured = Covariances::zeros();
    for sum in &sums {
        for (total, value) in measured.0.iter_mut().zip(&sum.0) {
            *total += value / kept.len().max(1) as f64;
        }
    }
    for dx in 1..=REACH {
        measured.0[REACH - dx] = measured.0[REACH + dx];
    }
    undo_fit(&measured, basis)
}

/// The covariances that [`Basis::subtract_fit`] turns into the measured sums.
fn undo_fit(measured: &Covariances, basis: &Basis) -> Covariances {
    let count = |dy, dx| pairs(basis.side, dy, dx).map_or(1.0, |pairs| pairs.count as f64);
    let mut found = measured.clone();
    for (place, dy, dx) in Covariances::lags() {
        found.0[place] /= count(dy, dx);
    }
    for _ in 0..60 {
        let counted = found.counted();
        let after = counted.after_fit(basis);
        let mut change: f64 = 0.0;
        for (place, dy, dx) in Covariances::lags() {
            let count = count(dy, dx);
            let next = (measured.0[place] - after.0[place]) / count + counted.0[place];
            change = change.max((next - found.0[place]).abs());
            found.0[place] = next;
        }
        if change < 1e-4 * found.at(0, 0) {
            break;
        }
    }
    found
}

impl From<&Covariances> for Autocorrelation {
    fn from(covariances: &Covariances) -> Self {
        let variance = covariances.at(0, 0).max(f64::MIN_POSITIVE);
        let at = |dy: isize, dx: isize| (covariances.at(dy, dx) / variance).clamp(-1.0, 1.0);
        let lags = LAGS as isize;
        let row = |dy| std::array::from_fn(|i| at(dy, i as isize - lags));
        let counted = covariances.counted();
        let signed = |dy, dx| counted.at(dy, dx) / variance;
        let reach = REACH as isize;
        let area = (-reach..=reach)
            .flat_map(|dy| (-reach..=reach).map(move |dx| signed(dy, dx)))
            .sum::<f64>();
        Self {
            x: std::array::from_fn(|lag| at(0, lag as isize)),
            y: std::array::from_fn(|lag| at(lag as isize, 0)),
            plane: (-lags..=lags).map(row).collect(),
            area: area.max(0.05),
        }
    }
}

impl Autocorrelation {
    /// Whether neighboring pixels share no noise.
    pub(super) fn is_white(&self) -> bool {
        [self.x[1], self.y[1]]
            .iter()
            .all(|at_one| at_one.abs() < CORRELATED)
    }

    /// Whether the correlation is that of texture rather than that of a filter: it is less at a distance of 1 than the
    /// decay beyond suggests, because texture adds to independent noise, or it extends over the whole window.
    pub(super) fn resembles_texture(&self) -> bool {
        // Filtered noise with a correlation of c at a distance of 1 has at most about c² at 2.
        let slow = |along: &[f64; LAGS + 1]| {
            along[1] >= CORRELATED && along[2] > along[1].powi(2).max(CORRELATED) + 0.05
        };
        let is_positive = self.x[1].max(self.y[1]) >= CORRELATED;
        slow(&self.x) || slow(&self.y) || (is_positive && !self.has_area())
    }

    /// Whether the window was large enough to measure `area`: without negative correlations, it exceeds this limit.
    pub(super) fn has_area(&self) -> bool {
        self.is_white() || self.area > 0.5 * (1.0 + self.x[1] + self.y[1]).max(0.0)
    }

    /// The smallest distance in pixels, 1 to 8, at and beyond which the absolute correlation of the noise stays below
    /// `most`, along a row and along a column; `None` if there is none.
    pub fn independent_at(&self, most: f64) -> [Option<usize>; 2] {
        [&self.x, &self.y].map(|along| {
            let last = (1..=LAGS).rev().find(|&lag| along[lag].abs() >= most);
            match last {
                None => Some(1),
                Some(LAGS) => None,
                Some(lag) => Some(lag + 1),
            }
        })
    }
}
