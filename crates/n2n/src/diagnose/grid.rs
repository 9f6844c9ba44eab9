//! Traces of a grid: JPEG blocks, and the 2×2 cells of a color filter array.

use serde::Serialize;

use super::Plane;
use super::transfer::{Fit, median};
use super::windows::{Basis, Window, pixels};

/// Side length of JPEG blocks.
const BLOCK: usize = 8;

/// Visible edges of 8×8 blocks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct JpegBlocks {
    /// Whether block edges were found.
    pub found: bool,
    /// How much larger jumps between blocks are than jumps inside them, as a fraction; the smaller of the two axes.
    pub strength: f64,
    /// Column and row of the first edge, 0 to 7; 0 if the image begins with a block.
    pub origin: [usize; 2],
}

impl JpegBlocks {
    pub(super) fn find(planes: &[Plane], transposed: &[Plane]) -> Self {
        let [across, down] = [planes, transposed].map(|planes| {
            let mut sums = [0.0; BLOCK];
            let mut counts = [0.0_f64; BLOCK];
            for plane in planes {
                jumps(plane, &mut sums, &mut counts);
            }
            let jumps = std::array::from_fn(|phase| sums[phase] / counts[phase].max(1.0));
            // The random error of a mean over this many jumps is three quarters of this, as a fraction.
            let by_chance = counts
                .into_iter()
                .fold(f64::INFINITY, f64::min)
                .max(1.0)
                .sqrt()
                .recip();
            edge(jumps, by_chance)
        });
        Self {
            found: across.2 && down.2,
            strength: across.1.min(down.1).max(0.0),
            origin: [across.0, down.0],
        }
    }
}

/// Adds up the absolute step into each column, by the column's position in a grid of eight.
fn jumps(plane: &Plane, sums: &mut [f64; BLOCK], counts: &mut [f64; BLOCK]) {
    let Plane { height, width, .. } = *plane;
    if width < 2 * BLOCK {
        return;
    }
    let jump = |y: usize, x: usize| {
        let row = &plane.data[y * width..][..width];
        (f64::from(row[x]) - f64::from(row[x - 1])).abs()
    };
    let sample = (0..height)
        .flat_map(|y| (1 + y % 5..width).step_by(5).map(move |x| (y, x)))
        .map(|(y, x)| jump(y, x));
    // The edge of an object counts no more than the largest jumps that noise produces.
    let most = 3.0 * median(sample.filter(|jump| jump.is_finite()).collect());
    for y in 0..height {
        for x in 1..width {
            let value = jump(y, x);
            if value.is_finite() {
                sums[x % BLOCK] += if most > 0.0 { value.min(most) } else { value };
                counts[x % BLOCK] += 1.0;
            }
        }
    }
}

/// The position with the largest jumps, by how much, and whether it stands out.
fn edge(jumps: [f64; BLOCK], by_chance: f64) -> (usize, f64, bool) {
    let largest = |a: &usize, b: &usize| jumps[*a].total_cmp(&jumps[*b]);
    let phase = (0..BLOCK).max_by(largest).unwrap_or(0);
    let mut others: Vec<f64> = (0..BLOCK)
        .filter(|&i| i != phase)
        .map(|i| jumps[i])
        .collect();
    others.sort_by(f64::total_cmp);
    let (least, most) = (others[0], others[others.len() - 1]);
    let typical = median(others);
    let strength = if typical > 0.0 {
        jumps[phase] / typical - 1.0
    } else {
        0.0
    };
    // The two-pixel pattern of a color filter array has four such positions.
    let stands_out = jumps[phase] - most > 0.5 * (most - least);
    (
        phase,
        strength,
        strength > 0.02 + 3.0 * by_chance && stands_out,
    )
}

/// Traces of a color filter array with 2×2 cells.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ColorFilter {
    /// The ratio of the largest to the smallest noise variance at the four positions of a cell: above 1 after
    /// demosaicing, which averages some of the positions.
    pub variance_ratio: f64,
    /// How far apart the means of the four positions are, in standard deviations of the noise: above 0 in raw mosaic
    /// data.
    pub mean_difference: f64,
}

impl ColorFilter {
    /// From the flat windows of a fit; the ratio of variances is the largest of any channel.
    pub(super) fn of(planes: &[Plane], windows: &[Window], fit: &Fit, basis: &Basis) -> Self {
        let channels = planes
            .iter()
            .map(|plane| plane.channel + 1)
            .max()
            .unwrap_or(1);
        let mut squares = vec![[0.0; 4]; channels];
        let mut counts = vec![[0.0_f64; 4]; channels];
        let (mut means, mut used) = (0.0, 0.0);
        let step = fit.kept.len().div_ceil(4000).max(1);
        let mut window = vec![0.0; basis.side * basis.side];
        for &i in fit.kept.iter().step_by(step) {
            let Window {
                plane, y, x, mean, ..
            } = windows[i];
            let plane = &planes[plane];
            if pixels(plane, (y, x), basis.side, &mut window).is_none() {
                continue;
            }
            basis.subtract_fit(&mut window);
            let variance = fit.variance(mean);
            let mut sums = [0.0; 4];
            for (at, value) in window.iter().enumerate() {
                let place = 2 * ((y + at / basis.side) % 2) + (x + at % basis.side) % 2;
                sums[place] += value;
                squares[plane.channel][place] += value * value / variance;
                counts[plane.channel][place] += 1.0;
            }
            // Subtracts what noise alone contributes to the mean of a quarter of the pixels.
            let quarter = window.len() as f64 / 4.0;
            let square = sums.iter().map(|sum| (sum / quarter).powi(2)).sum::<f64>() / 4.0;
            means += square / variance - 1.0 / quarter;
            used += 1.0;
        }
        let ratio = |channel: usize| {
            let at = |place: usize| squares[channel][place] / counts[channel][place].max(1.0);
            let all = (0..4).map(at);
            let most = all.clone().fold(0.0, f64::max);
            let least = all.fold(f64::INFINITY, f64::min);
            if least > 0.0 { most / least } else { 1.0 }
        };
        Self {
            variance_ratio: (0..channels).map(ratio).fold(1.0, f64::max),
            mean_difference: (means / f64::max(used, 1.0)).max(0.0).sqrt(),
        }
    }
}
