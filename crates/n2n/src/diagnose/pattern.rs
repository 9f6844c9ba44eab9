//! Patterns beyond the noise of single pixels: rows and columns with their own offsets, and pixels far from all their
//! neighbors.

use rayon::prelude::*;
use serde::Serialize;

use super::Plane;
use super::transfer::{Fit, Transfer, median};

/// Length of a segment of a line that is averaged, and the gap to the next, in pixels; noise shared by neighbors must
/// not reach across the gap.
const SEGMENT: usize = 32;
const GAP: usize = 16;

/// Offsets shared by all pixels of a line.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LinePattern {
    /// Standard deviation of the offsets, in the units of the image; 0 if there are none.
    pub sigma: f64,
    /// The same, as a fraction of the noise of a pixel.
    pub relative: f64,
    /// How many standard errors it is above 0.
    pub significance: f64,
}

impl LinePattern {
    /// Whether the offsets are statistically certain and large enough to correlate the pixels of a line.
    pub fn matters(&self) -> bool {
        self.relative >= 0.15 && self.significance >= 5.0
    }

    /// The offsets of the rows of all planes, or of the columns if the planes are transposed. `relative` is not yet
    /// known.
    ///
    /// The offset of a row is its difference from the mean of the rows next to it. It is averaged over two
    /// interleaved sets of segments whose pixels have independent noise; their covariance over the rows is that of
    /// the offsets. It is estimated from median deviations, which are robust against a few edges.
    pub(super) fn of_rows(planes: &[Plane]) -> Self {
        let found: Vec<(f64, f64)> = planes.par_iter().filter_map(row_covariance).collect();
        let count = found.len().max(1) as f64;
        let covariance = found.iter().map(|(value, _)| value).sum::<f64>() / count;
        let error = found.iter().map(|(_, e)| e * e).sum::<f64>().sqrt() / count;
        // The difference from the mean of two neighbors has 1 + 2/4 times the variance of an offset.
        let sigma = (covariance / 1.5).max(0.0).sqrt();
        Self {
            sigma,
            relative: 0.0,
            significance: if error > 0.0 { covariance / error } else { 0.0 },
        }
    }
}

impl LinePattern {
    /// Fills in `relative`, with `noise` as the typical standard deviation of a pixel.
    #[must_use]
    pub(super) fn relative_to(self, noise: f64) -> Self {
        let relative = if noise > 0.0 { self.sigma / noise } else { 0.0 };
        Self { relative, ..self }
    }
}

fn row_covariance(plane: &Plane) -> Option<(f64, f64)> {
    let Plane { height, width, .. } = *plane;
    if height < 16 || width < 2 * SEGMENT {
        return None;
    }
    let row = |y: usize| &plane.data[y * width..][..width];
    let difference = |y: usize, x: usize| {
        f64::from(row(y)[x]) - 0.5 * (f64::from(row(y - 1)[x]) + f64::from(row(y + 1)[x]))
    };
    let sample = (1..height - 1)
        .flat_map(|y| (y % 7..width).step_by(7).map(move |x| (y, x)))
        .map(|(y, x)| difference(y, x).abs());
    let sample: Vec<f64> = sample.filter(|d| d.is_finite()).collect();
    let scale = 1.4826 * median(sample);
    if scale <= 0.0 {
        return None;
    }
    let most = 4.0 * scale;
    let mut halves: [Vec<f64>; 2] = [vec![], vec![]];
    for y in 1..height - 1 {
        let (mut sums, mut counts) = ([0.0; 2], [0.0; 2]);
        for (index, start) in (0..width).step_by(SEGMENT + GAP).enumerate() {
            for x in start..(start + SEGMENT).min(width) {
                let value = difference(y, x);
                if value.is_finite() {
                    sums[index % 2] += value.clamp(-most, most);
                    counts[index % 2] += 1.0;
                }
            }
        }
        if counts[0] > 0.0 && counts[1] > 0.0 {
            halves[0].push(sums[0] / counts[0]);
            halves[1].push(sums[1] / counts[1]);
        }
    }
    let spread = |sign: f64| {
        let sums = halves[0].iter().zip(&halves[1]).map(|(a, b)| a + sign * b);
        let sums: Vec<f64> = sums.collect();
        let center = median(sums.clone());
        (1.4826 * median(sums.iter().map(|s| (s - center).abs()).collect())).powi(2)
    };
    let (together, apart) = (spread(1.0), spread(-1.0));
    let covariance = (together - apart) / 4.0;
    // The squared relative error of a variance estimated from median deviations is 2 / (0.37 n); the factor 1.5 is
    // there because adjacent differences share rows.
    let error = (together.powi(2) + apart.powi(2)).sqrt() / 4.0
        * (2.0 / (0.37 * halves[0].len().max(1) as f64) * 1.5).sqrt();
    (error > 0.0).then_some((covariance, error))
}

/// Pixels whose values are far from those of all their neighbors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HotPixels {
    /// Number in all images and channels.
    pub count: usize,
    /// Number per million pixels.
    pub per_million: f64,
    /// Number of positions that stand out in most of at least three images of the same size: sensor defects, as
    /// opposed to particle hits and transmission errors.
    pub fixed: usize,
    /// Row, column and image of the first [`HotPixels::LISTED`].
    pub positions: Vec<[usize; 3]>,
}

/// How far a hot pixel must stand out, in standard deviations of its noise.
const FAR: f64 = 8.0;
/// How far its neighbors may stand out: more than this is a small object.
const NEAR: f64 = 3.5;

impl HotPixels {
    /// Maximum number of positions that are listed.
    pub const LISTED: usize = 100;

    /// Finds hot pixels; `fits` are those of the channels.
    pub(super) fn find(planes: &[Plane], fits: &[Fit]) -> Self {
        let of_plane = |plane: &Plane| in_plane(plane, &fits[plane.channel]);
        let found: Vec<Vec<(usize, usize)>> = planes.par_iter().map(of_plane).collect();
        let pixels: usize = planes.iter().map(|plane| plane.data.len()).sum();
        let count = found.iter().map(Vec::len).sum();
        let mut positions: Vec<[usize; 3]> = vec![];
        let mut votes = std::collections::BTreeMap::new();
        for (plane, found) in planes.iter().zip(&found) {
            for &(y, x) in found {
                let key = (plane.channel, plane.height, plane.width, y, x);
                *votes.entry(key).or_insert(0) += 1;
                if positions.len() < Self::LISTED {
                    positions.push([y, x, plane.frame]);
                }
            }
        }
        let mut fixed = 0;
        for ((channel, height, width, ..), votes) in votes {
            let same = |p: &&Plane| (p.channel, p.height, p.width) == (channel, height, width);
            let alike = planes.iter().filter(same).count();
            fixed += usize::from(alike >= 3 && 2 * votes > alike);
        }
        Self {
            count,
            per_million: 1e6 * count as f64 / pixels.max(1) as f64,
            fixed,
            positions,
        }
    }
}

/// The variance of a pixel as a linear function of its signal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct NoiseLine {
    slope: f64,
    intercept: f64,
    /// The smallest variance.
    least: f64,
}

impl From<&Transfer> for NoiseLine {
    fn from(transfer: &Transfer) -> Self {
        Self {
            slope: transfer.slope,
            intercept: transfer.intercept,
            least: 1e-3 * transfer.levels[1].noise.powi(2),
        }
    }
}

impl From<&Fit> for NoiseLine {
    fn from(fit: &Fit) -> Self {
        Self {
            slope: fit.slope,
            intercept: fit.intercept,
            least: fit.least,
        }
    }
}

impl NoiseLine {
    /// For values that are divided by `unit`.
    pub fn in_units_of(self, unit: f64) -> Self {
        Self {
            slope: self.slope / unit,
            intercept: self.intercept / unit.powi(2),
            least: self.least / unit.powi(2),
        }
    }

    /// How many standard deviations a value is above another.
    fn deviations(&self, value: f64, center: f64) -> f64 {
        // Photon noise is skewed: after a square root it is nearly normal with constant variance.
        if self.slope > 0.0 {
            let root = |v: f64| {
                let variance = self.slope * v + self.intercept + 0.375 * self.slope.powi(2);
                2.0 / self.slope * variance.max(0.0).sqrt()
            };
            root(value) - root(center)
        } else {
            let variance = (self.slope * center + self.intercept).max(self.least);
            (value - center) / variance.sqrt()
        }
    }
}

fn in_plane(plane: &Plane, fit: &Fit) -> Vec<(usize, usize)> {
    let size = (plane.height, plane.width);
    let found = standing_out(&plane.data, size, NoiseLine::from(fit));
    found.into_iter().map(|(y, x, _)| (y, x)).collect()
}

/// Row and column of each pixel that stands out far from all pixels around it, with the median of those.
pub(crate) fn standing_out(
    plane: &[f32],
    (height, width): (usize, usize),
    noise: NoiseLine,
) -> Vec<(usize, usize, f32)> {
    let mut found = vec![];
    if height < 3 || width < 3 {
        return found;
    }
    for y in 1..height - 1 {
        for x in 1..width - 1 {
            let value = plane[y * width + x];
            let mut around = [0.0_f32; 8];
            let rows = [(y - 1, [x - 1, x, x + 1]), (y + 1, [x - 1, x, x + 1])];
            for (row, (y, columns)) in rows.into_iter().enumerate() {
                for (column, x) in columns.into_iter().enumerate() {
                    around[3 * row + column] = plane[y * width + x];
                }
            }
            around[6] = plane[y * width + x - 1];
            around[7] = plane[y * width + x + 1];
            let (mut least, mut most) = (f32::INFINITY, f32::NEG_INFINITY);
            for &neighbor in &around {
                (least, most) = (least.min(neighbor), most.max(neighbor));
            }
            // Nearly every pixel lies between its neighbors.
            if !value.is_finite() || (least..=most).contains(&value) {
                continue;
            }
            around.sort_by(f32::total_cmp);
            let center = f64::midpoint(f64::from(around[3]), f64::from(around[4]));
            let far = noise.deviations(f64::from(value), center);
            let nearest = if far > 0.0 { most } else { least };
            let near = noise.deviations(f64::from(nearest), center);
            // The median of eight neighbors is itself off by about half a standard deviation.
            if far.abs() > FAR && near.abs() < NEAR && near.abs() < 0.5 * far.abs() {
                found.push((y, x, center as f32));
            }
        }
    }
    found
}
